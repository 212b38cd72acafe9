//! Floats into codes, against the plain Rust of `quant`, on every ISA.

use super::*;
use crate::quant::{ActQuantizer, Linear, QuantRelu, Quantizer, Rounding, finite_range};

/// Floats at, just below and just above every threshold, the specials, and a spread of others.
fn hard_floats(q: &QuantRelu) -> Vec<f32> {
    let mut x = vec![
        0.0,
        -0.0,
        1e-45,
        -1e-45,
        f32::from_bits(0x7F80_0001),
        f32::from_bits(0xFF80_0001),
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -f32::NAN,
    ];
    for c in 0..q.bits().max_code() {
        let t = q.threshold(c);
        x.extend([
            t,
            t.next_up(),
            t.next_down(),
            -t,
            t.next_up().next_up(),
            t.next_down().next_down(),
        ]);
        x.extend([q.value(c as u8 + 1), q.alpha() * (c as f32 + 0.73)]);
    }
    x
}

/// As often as it takes to fill the longest run of blocks that a kernel takes at once, and to leave a rest.
fn repeated(x: Vec<f32>) -> Vec<f32> {
    let len = x.len().max(600);
    x.into_iter().cycle().take(len).collect()
}

#[test]
fn quantizing_follows_the_definition_to_the_bit() {
    let alphas = [
        1.0,
        0.1,
        1.0 / 3.0,
        0.651_1,
        1.222_1,
        1e-30,
        1e30,
        3.9e-7,
        0.007_812_5,
    ];
    each_isa(|kernels| {
        for bits in 1..=8 {
            for rounding in [Rounding::Ceil, Rounding::Nearest] {
                for alpha in alphas {
                    let q = QuantRelu::new(bits, alpha, rounding).unwrap();
                    let floats = repeated(hard_floats(&q));
                    check_quantize(kernels, ActQuantizer::Relu(q), &floats);
                }
            }
        }
        let q = QuantRelu::new(2, 1.0, Rounding::Ceil).unwrap();
        check_quantize(kernels, ActQuantizer::Sign, &hard_floats(&q));
        for k in LENGTHS {
            let floats: Vec<f32> = (0..k)
                .map(|i| ((i * 37) % 101) as f32 / 9.0 - 3.0)
                .collect();
            check_quantize(kernels, ActQuantizer::Sign, &floats);
            check_quantize(kernels, ActQuantizer::Relu(q), &floats);
        }
    });
}

/// Planes and bytes against the definition.
fn check_quantize(kernels: &Kernels, quantizer: impl Into<Quantizer>, x: &[f32]) {
    let quantizer = &quantizer.into();
    let e = quantizer.encoding();
    let mut got = PackedMatrix::zeros(e, 1, x.len()).unwrap();
    kernels.quantize(x, &Steps::new(quantizer), e.planes(), got.words_mut());
    let codes: Vec<i32> = x
        .iter()
        .map(|&x| e.decode(quantizer.code(x)).unwrap())
        .collect();
    let expected = PackedMatrix::pack(e, 1, x.len(), &codes).unwrap();
    if got != expected {
        let wrong = got.unpack().iter().zip(&codes).position(|(a, b)| a != b);
        panic!(
            "{} {quantizer:?}: {:?}",
            kernels.isa(),
            wrong.map(|i| (x[i], codes[i], got.unpack()[i]))
        );
    }
    if e == Encoding::Bipolar {
        return;
    }
    let mut bytes = vec![0xAA; x.len()];
    kernels.quantize_bytes(x, &Steps::new(quantizer), &mut bytes);
    for ((&x, &code), &byte) in x.iter().zip(&codes).zip(&bytes) {
        let name = kernels.isa();
        assert_eq!(byte, code as u8, "{name} {quantizer:?} bytes: {x}");
    }
}

/// Floats at every tie of a linear quantizer and two to each side, levels, and the specials.
fn hard_for(q: &Linear) -> Vec<f32> {
    let relu = QuantRelu::new(1, 1.0, Rounding::Ceil).unwrap();
    let mut x = hard_floats(&relu);
    for k in q.low() - q.zero() - 2..=q.high() - q.zero() + 2 {
        let tie = (k as f32 + 0.5) * q.scale();
        let (up, down) = (tie.next_up(), tie.next_down());
        x.extend([tie, up, down, up.next_up(), down.next_down()]);
        x.push(k as f32 * q.scale());
    }
    x.extend([1e6, -1e6, 65_536.0, -65_536.0, 4e9, -4e9].map(|y| y * q.scale()));
    x
}

#[test]
fn linear_quantizers_follow_the_definition_to_the_bit() {
    each_isa(|kernels| {
        for scale in [1.0, 0.1, 1.0 / 3.0, 1e-30, 1e30, 0.007_812_5] {
            for bits in 1..=8 {
                let mut all = Vec::new();
                if bits > 1 {
                    all.push(Linear::symmetric(bits, scale).unwrap());
                }
                for e in [Encoding::unsigned(bits), Encoding::signed(bits)] {
                    let e = e.unwrap();
                    for zero in [e.min(), e.max(), (e.min() + e.max()) / 2] {
                        all.push(Linear::affine(e, scale, zero).unwrap());
                    }
                }
                for q in all {
                    check_quantize(kernels, q, &repeated(hard_for(&q)));
                }
            }
        }
        let q = Linear::affine(Encoding::unsigned(8).unwrap(), 0.02, 131).unwrap();
        for k in LENGTHS {
            let floats: Vec<f32> = (0..k)
                .map(|i| ((i * 37) % 101) as f32 / 9.0 - 3.0)
                .collect();
            check_quantize(kernels, q, &floats);
            let (lo, hi) = kernels.range(&floats);
            assert_eq!((lo, hi), finite_range(&floats), "{} {k}", kernels.isa());
        }
    });
}
