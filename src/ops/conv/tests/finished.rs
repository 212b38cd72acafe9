//! Convolutions with every finish against the chain of loops: functions, residuals and outputs, on every ISA.

use half::{bf16, f16};

use super::*;
use crate::ops::Residual;
use crate::quant::Linear;

/// Numbers that look random, between -1 and 1.
pub(super) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let bits = |i: usize| (i as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    (0..len)
        .map(|i| bits(i) as f32 / 2f32.powi(23) - 1.0)
        .collect()
}

fn function(which: usize, n: usize, seed: u64) -> ActivationFn {
    let some = |i| noise(seed + i, n);
    match which {
        0 => ActivationFn::Identity,
        1 => ActivationFn::Relu,
        2 => ActivationFn::PRelu { slope: some(1) },
        3 => ActivationFn::RPRelu {
            before: some(2),
            slope: some(3),
            after: some(4),
        },
        4 => ActivationFn::RPRelu {
            before: some(2),
            slope: some(3).iter().map(|s| s.abs()).collect(),
            after: some(4),
        },
        _ => ActivationFn::Clamp {
            low: -0.5,
            high: 0.8,
        },
    }
}

/// The meaning of a function for channel `n`.
fn apply(function: &ActivationFn, y: f32, n: usize) -> f32 {
    let prelu = |y: f32, slope: f32| if y >= 0.0 { y } else { slope * y };
    match function {
        ActivationFn::Identity => y,
        ActivationFn::Relu => y.max(0.0),
        ActivationFn::PRelu { slope } => prelu(y, slope[n]),
        ActivationFn::RPRelu {
            before,
            slope,
            after,
        } => prelu(y - before[n], slope[n]) + after[n],
        ActivationFn::Clamp { low, high } => y.clamp(*low, *high),
    }
}

fn outputs() -> Vec<OutputKind> {
    let relu = |bits, rounding| QuantRelu::new(bits, 0.2, rounding).unwrap().into();
    let s8 = Linear::affine(Encoding::signed(8).unwrap(), 0.03, 5).unwrap();
    vec![
        OutputKind::F32,
        OutputKind::F16,
        OutputKind::Bf16,
        OutputKind::Codes(ActQuantizer::Sign.into()),
        OutputKind::Codes(relu(1, Rounding::Nearest)),
        OutputKind::Codes(relu(2, Rounding::Ceil)),
        OutputKind::Codes(relu(3, Rounding::Nearest)),
        OutputKind::Codes(relu(5, Rounding::Ceil)),
        OutputKind::Codes(Linear::symmetric(2, 0.4).unwrap().into()),
        OutputKind::Codes(Linear::symmetric(5, 0.06).unwrap().into()),
        OutputKind::Codes(s8.into()),
        OutputKind::Bytes(s8.into()),
    ]
}

/// Runs `plan` over all of `x` and compares with the floats `expected` `[pixels, O]`.
pub(super) fn check_floats(
    plan: &Conv2d,
    x: &PackedMatrix,
    residual: Option<Residual<'_>>,
    par: Par<'_>,
    expected: &[f32],
) {
    let images = 0..x.rows() / plan.geometry().pixels();
    let pixels = expected.len() / plan.o();
    let mut scratch = vec![-7; plan.scratch_len(par.threads())];
    let mut run = |out: OutRows<'_>| {
        plan.run(x.view(), images.clone(), residual, out, &mut scratch, par)
            .unwrap();
    };
    match plan.finish().output() {
        OutputKind::F32 => {
            let mut out = vec![7f32; expected.len()];
            run(OutRows::F32(&mut out));
            assert_eq!(out, expected, "{plan:?}");
        }
        OutputKind::F16 => {
            let mut out = vec![f16::ONE; expected.len()];
            run(OutRows::F16(&mut out));
            let halves: Vec<f16> = expected.iter().map(|&y| f16::from_f32(y)).collect();
            assert_eq!(out, halves, "{plan:?}");
        }
        OutputKind::Bf16 => {
            let mut out = vec![bf16::ONE; expected.len()];
            run(OutRows::Bf16(&mut out));
            let halves: Vec<bf16> = expected.iter().map(|&y| bf16::from_f32(y)).collect();
            assert_eq!(out, halves, "{plan:?}");
        }
        OutputKind::Codes(quantizer) => {
            let e = quantizer.encoding();
            let mut out = PackedMatrix::zeros(e, pixels, plan.o()).unwrap();
            run(OutRows::Codes(out.words_mut()));
            let codes = |y: &f32| e.decode(quantizer.code(*y)).unwrap();
            let codes: Vec<i32> = expected.iter().map(codes).collect();
            assert_eq!(out.unpack(), codes, "{plan:?} {quantizer:?}");
        }
        OutputKind::Bytes(quantizer) => {
            let mut out = vec![7; expected.len()];
            run(OutRows::Bytes(&mut out));
            let codes: Vec<u8> = expected.iter().map(|&y| quantizer.code(y)).collect();
            assert_eq!(out, codes, "{plan:?}");
        }
        OutputKind::I32 | OutputKind::Levels(_) => unreachable!("not of these tests"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_function_residual_and_output(
        size in prop::array::uniform2(1usize..7), channels in 1usize..40, o in 1usize..70, kernel in 1usize..4,
        stride in 1usize..3, pad in 0usize..2, we in weights(), e in activations(), images in 1usize..3,
        which in 0usize..6, of_codes in 0usize..3, at in 0usize..3, threads in 1usize..4, transposed: bool,
        seed in 0u64..1 << 40,
    ) {
        let g = Geometry {
            width: size[1].max(kernel),
            padding: Padding { top: pad, left: pad, ..Padding::default() },
            stride: [stride, 3 - stride],
            ..Geometry::new(size[0].max(kernel), 9, channels, kernel)
        };
        let (w, x) = (
            codes(we, o, kernel * kernel * channels, seed),
            codes(e, images * g.pixels(), channels, !seed),
        );
        let transposed = transposed && g.transposed_output([0, 0]).is_ok();
        let sums = match transposed {
            true => naive_transposed(&g, [0, 0], &x.unpack(), &w.unpack(), o),
            false => naive(&g, Pad::Zero, &x.unpack(), &w.unpack(), o),
        };
        let most = sums.iter().map(|s| s.abs()).max().unwrap_or(0).max(1) as f32;
        let scale: Vec<f32> = noise(seed + 7, o).iter().map(|s| s * 2.0 / most).collect();
        let bias = noise(seed + 8, o);

        let pixels = sums.len() / o;
        let re: Encoding = if of_codes == 1 { "bipolar" } else { "s3" }.parse().unwrap();
        let packed = codes(re, pixels, o, seed + 9);
        let bytes: Vec<u8> = packed.unpack().iter().map(|&v| v as u8).collect();
        let (floats, unit) = (noise(seed + 10, pixels * o), 0.3f32);
        let added: Vec<f32> = match of_codes {
            0 => floats.clone(),
            _ => packed.unpack().iter().map(|&v| v as f32 * unit).collect(),
        };
        let residual = match of_codes {
            0 => Residual::Floats(&floats),
            1 => Residual::Planes { codes: packed.view(), scale: unit },
            _ => Residual::Bytes { codes: ByteRef::new(re, pixels, o, &bytes).unwrap(), scale: unit },
        };
        let at = [ResidualAt::Nowhere, ResidualAt::BeforeFunction, ResidualAt::AfterFunction][at];
        let residual = (at != ResidualAt::Nowhere).then_some(residual);

        let f = function(which, o, seed);
        let expected: Vec<f32> = (0..sums.len()).map(|i| {
            let mut y = sums[i] as f32 * scale[i % o] + bias[i % o];
            if at == ResidualAt::BeforeFunction {
                y += added[i];
            }
            y = apply(&f, y, i % o);
            if at == ResidualAt::AfterFunction {
                y += added[i];
            }
            y
        }).collect();
        let pool = Pool::new(threads).unwrap();
        for (isa, kind) in Isa::available().flat_map(|isa| outputs().into_iter().map(move |k| (isa, k))) {
            let finish = Finish::new(scale.clone(), bias.clone(), f.clone(), at, kind).unwrap();
            let plan = match transposed {
                true => Conv2d::transposed(isa, w.view(), e, g, [0, 0], finish),
                false => Conv2d::on(isa, w.view(), e, g, Pad::Zero, finish),
            };
            check_floats(&plan.unwrap(), &x, residual, Par::Pool(&pool), &expected);
        }
    }

    #[test]
    fn linear_layers_of_any_batch(
        m in 1usize..50, k in 1usize..300, n in 1usize..150, we in weights(), e in activations(), seed in 0u64..1 << 40,
    ) {
        let (w, x) = (codes(we, n, k, seed), codes(e, m, k, !seed));
        let (wv, xv) = (w.unpack(), x.unpack());
        let sums: Vec<i32> = (0..m * n)
            .map(|i| (0..k).map(|j| wv[i % n * k + j] * xv[i / n * k + j]).sum())
            .collect();
        let (scale, bias) = (noise(seed, n).iter().map(|s| s / k as f32).collect::<Vec<_>>(), noise(seed + 1, n));
        let expected: Vec<f32> = (0..m * n)
            .map(|i| (sums[i] as f32 * scale[i % n] + bias[i % n]).max(0.0))
            .collect();
        let pool = Pool::new(3).unwrap();
        for isa in Isa::available() {
            for kind in [OutputKind::F32, outputs()[5]] {
                let (f, at) = (ActivationFn::Relu, ResidualAt::Nowhere);
                let finish = Finish::new(scale.clone(), bias.clone(), f, at, kind).unwrap();
                let plan = Conv2d::linear(isa, w.view(), e, finish).unwrap();
                for par in [Par::Caller, Par::Pool(&pool)] {
                    check_floats(&plan, &x, None, par, &expected);
                }
            }
        }
    }
}

#[test]
fn kinds_and_residuals_that_do_not_fit_are_refused() {
    let (g, e) = (Geometry::new(3, 3, 5, 1), Encoding::Bipolar);
    let (w, x) = (codes(e, 4, 5, 1), codes(e, 9, 5, 2));
    let adds = |kind| {
        let at = ResidualAt::AfterFunction;
        Finish::new(vec![1.0; 4], vec![0.0; 4], ActivationFn::Relu, at, kind).unwrap()
    };
    let plan = Conv2d::new(w.view(), e, g, Pad::Zero, adds(OutputKind::F32)).unwrap();
    let mut scratch = vec![0; plan.scratch_len(1)];
    let mut said = |residual: Option<Residual<'_>>, out: OutRows<'_>| {
        let run = plan.run(x.view(), 0..1, residual, out, &mut scratch, Par::Caller);
        run.map_err(|e| e.to_string())
    };
    let (mut floats, floats_in) = (vec![0.0; 36], vec![0.0; 36]);
    let ternary = codes(Encoding::Ternary, 9, 4, 1);
    let residual = Some(Residual::Floats(&floats_in));
    assert_eq!(said(residual, OutRows::F32(&mut floats)), Ok(()));
    let missing = said(None, OutRows::F32(&mut floats)).unwrap_err();
    assert_eq!(missing, "residual is none; expected one for this plan");
    let short = Some(Residual::Floats(&floats_in[1..]));
    let short = said(short, OutRows::F32(&mut floats)).unwrap_err();
    assert_eq!(
        short,
        "residual is 35 elements long; expected 36 (pixels x N)"
    );
    let refused = Some(Residual::Planes {
        codes: ternary.view(),
        scale: 1.0,
    });
    let refused = said(refused, OutRows::F32(&mut floats)).unwrap_err();
    assert!(refused.starts_with("residual is ternary;"), "{refused}");
    let kind = said(residual, OutRows::Bytes(&mut [0; 36])).unwrap_err();
    assert_eq!(kind, "output of the plan is f32; expected bytes");
    let sums = said(residual, OutRows::I32(&mut [0; 36])).unwrap_err();
    assert_eq!(sums, "residual is given; expected none for the sums");
    assert_eq!(said(None, OutRows::I32(&mut [0; 36])), Ok(()));
    let long = said(residual, OutRows::F32(&mut [0.0; 37])).unwrap_err();
    assert!(long.starts_with("out is 37 elements long;"), "{long}");
}
