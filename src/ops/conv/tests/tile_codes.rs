//! Codes of 1 and 2 bits that the bit GEMM makes in its tiles: every pad and border class, words that are not full,
//! channels whose scale is negative, blocks and threads.

use super::finished::{check_floats, noise};
use super::*;

#[test]
fn codes_made_in_tiles_are_those_of_the_sums() {
    let relu = |bits| ActQuantizer::Relu(QuantRelu::new(bits, 0.2, Rounding::Nearest).unwrap());
    let square = |side: usize, channels: usize, kernel: usize| Geometry {
        padding: Padding::same(kernel / 2),
        ..Geometry::new(side, side, channels, kernel)
    };
    let uneven = Geometry {
        stride: [2, 3],
        dilation: [2, 1],
        padding: Padding {
            top: 3,
            left: 0,
            bottom: 1,
            right: 2,
        },
        ..square(9, 40, 3)
    };
    let pool = Pool::new(2).unwrap();
    let mut seed = 1;
    for (geometry, o) in [
        (square(5, 64, 3), 33),
        (square(23, 32, 3), 64),
        (square(12, 33, 5), 31),
        (square(11, 96, 1), 70),
        (uneven, 16),
        (square(1, 70, 1), 1),
    ] {
        for (weight, activation) in [
            ("bipolar", "bipolar"),
            ("ternary", "bipolar"),
            ("u2", "bipolar"),
            ("bipolar", "u2"),
            ("u2", "u1"),
        ] {
            seed += 1;
            let (we, e) = (weight.parse().unwrap(), activation.parse().unwrap());
            let [kh, kw] = geometry.kernel;
            let w = codes(we, o, kh * kw * geometry.channels, seed);
            let x = codes(e, 2 * geometry.pixels(), geometry.channels, seed + 1000);
            let pads: &[Pad] = match e {
                Encoding::Bipolar => &[Pad::Zero, Pad::PlusOne, Pad::MinusOne],
                _ => &[Pad::Zero],
            };
            for &pad in pads {
                let a = affine(e, seed);
                let outside = [0, 1 - a.zero_point, -1 - a.zero_point][pad as usize];
                let x_meant = meant(&x, a.zero_point);
                let sums = naive_affine(&geometry, outside.into(), &x_meant, &w.unpack(), o);
                let most = sums.iter().map(|s| s.abs()).max().unwrap().max(1) as f32;
                let scale: Vec<f32> = noise(seed, o).iter().map(|s| s * 2.0 / most).collect();
                let bias = noise(seed + 8, o);
                let floats = |i: usize| sums[i] as f32 * scale[i % o] + bias[i % o];
                let expected: Vec<f32> = (0..sums.len()).map(floats).collect();
                for isa in Isa::available() {
                    for quantizer in [ActQuantizer::Sign, relu(1), relu(2)] {
                        let (f, at) = (ActivationFn::Identity, ResidualAt::Nowhere);
                        let kind = OutputKind::Codes(quantizer.into());
                        let finish = Finish::new(scale.clone(), bias.clone(), f, at, kind).unwrap();
                        let plan = Conv2d::on(isa, w.view(), a, geometry, pad, finish).unwrap();
                        if weight == "bipolar" && e == Encoding::Bipolar && isa != Isa::Portable {
                            assert!(plan.describe().contains("to codes"), "{plan:?}");
                        }
                        for par in [Par::Caller, Par::Pool(&pool)] {
                            check_floats(&plan, &x, None, par, &expected);
                        }
                    }
                }
            }
        }
    }
}
