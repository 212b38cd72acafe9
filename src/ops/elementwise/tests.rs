//! Work on each element against its definition, at the boundaries of what passes at a time.

use half::{bf16, f16};

use super::*;
use crate::bits::PackedMatrix;
use crate::ops::{ActivationFn, Pool};
use crate::quant::{ActQuantizer, Linear, QuantRelu, Rounding};

/// Numbers that look random, between -1 and 1.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let bits = |i: usize| (i as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    (0..len)
        .map(|i| bits(i) as f32 / 2f32.powi(23) - 1.0)
        .collect()
}

fn codes(encoding: Encoding, rows: usize, cols: usize, seed: u64) -> PackedMatrix {
    let all: Vec<i32> = (encoding.min()..=encoding.max())
        .filter(|&v| encoding.encode(v).is_some())
        .collect();
    let at = |x: &f32| ((x + 1.0) * 1000.0) as usize % all.len();
    let values: Vec<i32> = noise(seed, rows * cols)
        .iter()
        .map(|x| all[at(x)])
        .collect();
    PackedMatrix::pack(encoding, rows, cols, &values).unwrap()
}

/// Channels around what passes at a time, and pixels that are not whole passes.
const SHAPES: [(usize, usize); 9] = [
    (1, 1),
    (3, 1),
    (700, 1),
    (37, 31),
    (9, 64),
    (3, 255),
    (5, 256),
    (3, 257),
    (2, 600),
];

fn prelu(y: f32, slope: f32) -> f32 {
    if y >= 0.0 { y } else { slope * y }
}

#[test]
fn a_finish_of_floats_and_codes_is_its_definition() {
    let pool = Pool::new(3).unwrap();
    for (pixels, n) in SHAPES {
        let (scale, bias, slope) = (noise(1, n), noise(2, n), noise(3, n));
        let x = noise(4, pixels * n);
        let added = codes("s3".parse().unwrap(), pixels, n, 5);
        let function = || ActivationFn::PRelu {
            slope: slope.clone(),
        };
        let after = ResidualAt::AfterFunction;
        let expected: Vec<f32> = (0..pixels * n)
            .zip(added.unpack())
            .map(|(i, a)| prelu(x[i] * scale[i % n] + bias[i % n], slope[i % n]) + a as f32 * 0.3)
            .collect();
        let relu = ActQuantizer::Relu(QuantRelu::new(3, 0.1, Rounding::Ceil).unwrap());
        let s8 = Linear::symmetric(8, 0.02).unwrap();
        for kernels in Kernels::available() {
            for par in [Par::Caller, Par::Pool(&pool)] {
                let run = |output: OutputKind, out: OutRows<'_>| {
                    let (scale, bias) = (scale.clone(), bias.clone());
                    let finish = Finish::new(scale, bias, function(), after, output).unwrap();
                    let residual = Residual::Planes {
                        codes: added.view(),
                        scale: 0.3,
                    };
                    apply(kernels, &finish, &x[..], Some(residual), out, par).unwrap();
                };
                let name = format!("{} {pixels} x {n}", kernels.isa());
                let mut floats = vec![7f32; pixels * n];
                run(OutputKind::F32, OutRows::F32(&mut floats));
                assert_eq!(floats, expected, "{name}");
                let mut halves = vec![f16::ONE; pixels * n];
                run(OutputKind::F16, OutRows::F16(&mut halves));
                assert!(
                    halves
                        .iter()
                        .zip(&expected)
                        .all(|(h, &y)| *h == f16::from_f32(y))
                );
                let mut halves = vec![bf16::ONE; pixels * n];
                run(OutputKind::Bf16, OutRows::Bf16(&mut halves));
                assert!(
                    halves
                        .iter()
                        .zip(&expected)
                        .all(|(h, &y)| *h == bf16::from_f32(y))
                );
                let mut bytes = vec![7; pixels * n];
                run(OutputKind::Bytes(s8.into()), OutRows::Bytes(&mut bytes));
                assert!(
                    bytes.iter().zip(&expected).all(|(b, &y)| *b == s8.code(y)),
                    "{name}"
                );
                let mut planes = PackedMatrix::zeros(relu.encoding(), pixels, n).unwrap();
                run(
                    OutputKind::Codes(relu.into()),
                    OutRows::Codes(planes.words_mut()),
                );
                let wanted: Vec<i32> = expected.iter().map(|&y| relu.code(y).into()).collect();
                assert_eq!(planes.unpack(), wanted, "{name}");
                for bits in 2..=8 {
                    let signed = Linear::symmetric(bits, 0.1).unwrap();
                    let mut planes = PackedMatrix::zeros(signed.encoding(), pixels, n).unwrap();
                    let output = OutputKind::Codes(signed.into());
                    run(output, OutRows::Codes(planes.words_mut()));
                    let wanted: Vec<i32> = expected.iter().map(|&y| signed.integer(y)).collect();
                    assert_eq!(planes.unpack(), wanted, "{name} s{bits}");
                }
            }
        }
    }
}

#[test]
fn codes_become_floats_and_floats_codes() {
    let pool = Pool::new(2).unwrap();
    for (pixels, n) in SHAPES {
        for e in ["bipolar", "u1", "u3", "s4", "u8", "s8"] {
            let e: Encoding = e.parse().unwrap();
            let x = codes(e, pixels, n, 6);
            let expected: Vec<f32> = x.unpack().iter().map(|&v| v as f32 * 0.7).collect();
            let bytes: Vec<u8> = x.unpack().iter().map(|&v| v as u8).collect();
            for kernels in Kernels::available() {
                for par in [Par::Caller, Par::Pool(&pool)] {
                    let mut out = vec![9.0; pixels * n];
                    dequantize(kernels, x.view(), 0.7, &mut out, par).unwrap();
                    assert_eq!(out, expected, "{e} {} {pixels} x {n}", kernels.isa());
                    if e != Encoding::Bipolar {
                        let bytes = ByteRef::new(e, pixels, n, &bytes).unwrap();
                        out.fill(9.0);
                        dequantize(kernels, bytes, 0.7, &mut out, par).unwrap();
                        assert_eq!(out, expected, "bytes of {e}");
                    }
                    let q: Quantizer = match e {
                        Encoding::Bipolar => ActQuantizer::Sign.into(),
                        Encoding::Unsigned(b) => QuantRelu::new(b.get(), 0.7, Rounding::Nearest)
                            .unwrap()
                            .into(),
                        _ => Linear::affine(e, 0.7, 0).unwrap().into(),
                    };
                    let mut again = PackedMatrix::zeros(e, pixels, n).unwrap();
                    let rows = OutRows::Codes(again.words_mut());
                    quantize_pixels(kernels, Elements::Floats(&expected), n, &q, rows, par)
                        .unwrap();
                    assert_eq!(again, x, "{e} {} {pixels} x {n}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let kernels = Kernels::available().last().unwrap();
    let finish = |output| {
        let at = ResidualAt::Nowhere;
        Finish::new(vec![1.0; 4], vec![0.0; 4], ActivationFn::Relu, at, output).unwrap()
    };
    let (x, mut out) = (vec![1.0; 8], vec![7.0; 8]);
    let mut said = |finish: &Finish, x: Elements<'_>, len: usize| {
        let out = OutRows::F32(&mut out[..len]);
        let done = apply(kernels, finish, x, None, out, Par::Caller);
        done.unwrap_err().to_string()
    };
    let f32s = finish(OutputKind::F32);
    assert!(said(&f32s, (&x[1..]).into(), 8).starts_with("x is 7 elements long"));
    assert!(said(&f32s, (&x[..]).into(), 7).starts_with("out is 7 elements long; expected 8"));
    let sign = finish(OutputKind::Codes(ActQuantizer::Sign.into()));
    assert!(said(&sign, (&x[..]).into(), 8).starts_with("output of the plan is codes"));
    assert!(said(&Finish::integers(4), (&x[..]).into(), 8).starts_with("finish is of integers"));
    let ternary = codes(Encoding::Ternary, 2, 4, 1);
    assert!(said(&f32s, ternary.view().into(), 8).starts_with("encoding is ternary"));
    let wide = codes(Encoding::Bipolar, 2, 5, 1);
    assert!(said(&f32s, wide.view().into(), 8).starts_with("channels of x is 5; expected 4"));
    assert_eq!(out, vec![7.0; 8]);
    let relu: Quantizer = QuantRelu::new(2, 1.0, Rounding::Ceil).unwrap().into();
    let mut words = vec![0; 3];
    let rows = OutRows::Codes(&mut words);
    let said =
        quantize_pixels(kernels, Elements::Floats(&x), 4, &relu, rows, Par::Caller).unwrap_err();
    assert!(
        said.to_string()
            .starts_with("out is 3 elements long; expected 4")
    );
    let sign: Quantizer = ActQuantizer::Sign.into();
    let rows = OutRows::Bytes(&mut []);
    assert!(quantize_pixels(kernels, Elements::Floats(&x), 4, &sign, rows, Par::Caller).is_err());
}
