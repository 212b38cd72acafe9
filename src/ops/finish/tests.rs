//! The fused epilogue against its definition.

use super::*;
use crate::bits::{ByteRef, PackedMatrix};
use crate::quant::{Linear, QuantRelu, Rounding};
use half::{bf16, f16};

mod exact;

/// Numbers that look random, between -1 and 1.
fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2654435761).wrapping_add(12345);
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i32 as f32 / 2f32.powi(31)
    };
    (0..len).map(next).collect()
}

fn functions(n: usize) -> Vec<ActivationFn> {
    let slope = |seed| noise(seed, n);
    vec![
        ActivationFn::Identity,
        ActivationFn::Relu,
        ActivationFn::PRelu { slope: slope(1) },
        ActivationFn::PRelu {
            slope: slope(2).iter().map(|s| s.abs()).collect(),
        },
        ActivationFn::RPRelu {
            before: slope(3),
            slope: slope(4),
            after: slope(5),
        },
        ActivationFn::Clamp {
            low: -0.5,
            high: 0.75,
        },
    ]
}

/// The definition, an element at a time.
fn naive(f: &Finish, sum: i32, n: usize, residual: f32) -> f32 {
    let product = sum as f32 * f.scale[n];
    let mut y = product + f.bias[n];
    if f.residual == ResidualAt::BeforeFunction {
        y += residual;
    }
    let prelu = |y: f32, slope: f32| if y >= 0.0 { y } else { slope * y };
    y = match &f.function {
        ActivationFn::Identity => y,
        ActivationFn::Relu => y.max(0.0),
        ActivationFn::PRelu { slope } => prelu(y, slope[n]),
        ActivationFn::RPRelu {
            before,
            slope,
            after,
        } => prelu(y - before[n], slope[n]) + after[n],
        ActivationFn::Clamp { low, high } => y.clamp(*low, *high),
    };
    if f.residual == ResidualAt::AfterFunction {
        y += residual;
    }
    y
}

fn quantizers() -> Vec<Quantizer> {
    let relu = |bits, rounding| QuantRelu::new(bits, 0.1, rounding).unwrap().into();
    let mut all = vec![
        ActQuantizer::Sign.into(),
        relu(1, Rounding::Nearest),
        relu(2, Rounding::Ceil),
        relu(3, Rounding::Nearest),
        relu(4, Rounding::Ceil),
        relu(8, Rounding::Nearest),
        Linear::affine(Encoding::unsigned(3).unwrap(), 0.11, 2)
            .unwrap()
            .into(),
        Linear::affine(Encoding::signed(1).unwrap(), 0.3, -1)
            .unwrap()
            .into(),
    ];
    for bits in 2..=8 {
        let scale = 1.0 / (1 << (bits - 1)) as f32;
        all.push(Linear::symmetric(bits, scale).unwrap().into());
        let signed = Encoding::signed(bits).unwrap();
        all.push(Linear::affine(signed, 1.3 * scale, 1).unwrap().into());
    }
    all
}

#[test]
fn every_function_residual_and_output_is_its_definition() {
    let (bound, scale_in) = (400, 0.3f32);
    // Many short rows are quantized as one.
    for (n, rows) in [(1, 5), (8, 67), (16, 35), (31, 5), (32, 5), (70, 5)] {
        let sums: Vec<i32> = noise(7, rows * n)
            .iter()
            .map(|x| (x * 400.0) as i32)
            .collect();
        let values: Vec<i32> = noise(8, rows * n)
            .iter()
            .map(|x| (x * 8.0) as i32)
            .collect();
        let signed = Encoding::signed(4).unwrap();
        let packed = PackedMatrix::pack(signed, rows, n, &values).unwrap();
        let bytes: Vec<u8> = values.iter().map(|&v| v as u8).collect();
        let bytes = ByteRef::new(signed, rows, n, &bytes).unwrap();
        let signs: Vec<i32> = values.iter().map(|v| 2 * (v & 1) - 1).collect();
        let bipolar = PackedMatrix::pack(Encoding::Bipolar, rows, n, &signs).unwrap();
        let floats = |v: &[i32]| -> Vec<f32> { v.iter().map(|&v| v as f32 * scale_in).collect() };
        let (plain, of_signs) = (floats(&values), floats(&signs));
        let planes = |codes| Residual::Planes {
            codes,
            scale: scale_in,
        };
        let residuals = [
            (ResidualAt::Nowhere, None, &plain),
            (
                ResidualAt::BeforeFunction,
                Some(Residual::Floats(&plain)),
                &plain,
            ),
            (
                ResidualAt::AfterFunction,
                Some(planes(packed.view())),
                &plain,
            ),
            (
                ResidualAt::BeforeFunction,
                Some(planes(bipolar.view())),
                &of_signs,
            ),
            (
                ResidualAt::AfterFunction,
                Some(Residual::Bytes {
                    codes: bytes,
                    scale: scale_in,
                }),
                &plain,
            ),
        ];
        for function in functions(n) {
            for (at, residual, added) in residuals {
                let finish = |output| {
                    let scale = noise(9, n).iter().map(|s| s * 0.01).collect();
                    Finish::new(scale, noise(10, n), function.clone(), at, output).unwrap()
                };
                let f32s = finish(OutputKind::F32);
                let expected: Vec<f32> = (0..rows * n)
                    .map(|i| naive(&f32s, sums[i], i % n, added[i]))
                    .collect();
                for kernels in Kernels::available() {
                    let isa = kernels.isa();
                    let run = |f: &Finish, out: OutRows<'_>| {
                        f.check(residual.as_ref(), rows).unwrap();
                        let mut scratch = vec![0; f.scratch_len()];
                        f.run(kernels, &mut sums.clone(), 0, residual, out, &mut scratch);
                    };
                    let mut out = vec![0f32; rows * n];
                    run(&f32s, OutRows::F32(&mut out));
                    assert_eq!(out, expected, "{isa} {function:?} {at:?}");
                    let mut out = vec![f16::ZERO; rows * n];
                    run(&finish(OutputKind::F16), OutRows::F16(&mut out));
                    let halves: Vec<f16> = expected.iter().map(|&y| f16::from_f32(y)).collect();
                    assert_eq!(out, halves, "{isa}");
                    let mut out = vec![bf16::ZERO; rows * n];
                    run(&finish(OutputKind::Bf16), OutRows::Bf16(&mut out));
                    let halves: Vec<bf16> = expected.iter().map(|&y| bf16::from_f32(y)).collect();
                    assert_eq!(out, halves, "{isa}");
                    let s8 = Linear::affine(Encoding::signed(8).unwrap(), 0.01, -3).unwrap();
                    let mut out = vec![0; rows * n];
                    run(
                        &finish(OutputKind::Bytes(s8.into())),
                        OutRows::Bytes(&mut out),
                    );
                    let bytes: Vec<u8> = expected.iter().map(|&y| s8.code(y)).collect();
                    assert_eq!(out, bytes, "{isa}");
                    for quantizer in quantizers() {
                        let encoding = quantizer.encoding();
                        let codes = |y: &f32| encoding.decode(quantizer.code(*y)).unwrap();
                        let codes: Vec<i32> = expected.iter().map(codes).collect();
                        let mut out = PackedMatrix::zeros(encoding, rows, n).unwrap();
                        let finish = finish(OutputKind::Codes(quantizer));
                        let finish = finish.prepare(bound).unwrap();
                        run(&finish, OutRows::Codes(out.words_mut()));
                        assert_eq!(
                            out.unpack(),
                            codes,
                            "{isa} {function:?} {at:?} {quantizer:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn residuals_of_16_bits_are_their_floats_in_every_finish() {
    let special = [0.0, -0.0, 6e-8, -6e-8, 65504.0, -1e-40, 0.1];
    // The pixels before the first one are not those of the rows. Long rows are widened one by one, short ones together.
    for (n, rows, before) in [(1, 131, 3), (8, 67, 1), (45, 50, 2), (2100, 2, 1)] {
        let sums: Vec<i32> = noise(3, rows * n)
            .iter()
            .map(|x| (x * 400.0) as i32)
            .collect();
        let mut floats = noise(4, (before + rows) * n);
        for (x, special) in floats[before * n..].iter_mut().step_by(3).zip(special) {
            *x = special;
        }
        let halves: Vec<f16> = floats.iter().map(|&x| f16::from_f32(x)).collect();
        let brains: Vec<bf16> = floats.iter().map(|&x| bf16::from_f32(x)).collect();
        let residuals = [
            (
                Residual::F16(&halves),
                halves.iter().map(|x| x.to_f32()).collect::<Vec<_>>(),
            ),
            (
                Residual::Bf16(&brains),
                brains.iter().map(|x| x.to_f32()).collect(),
            ),
        ];
        let s8 = Linear::affine(Encoding::signed(8).unwrap(), 0.01, -3).unwrap();
        let mut kinds = vec![
            OutputKind::F32,
            OutputKind::F16,
            OutputKind::Bf16,
            OutputKind::Bytes(s8.into()),
        ];
        kinds.extend(quantizers().into_iter().map(OutputKind::Codes));
        let places = [ResidualAt::BeforeFunction, ResidualAt::AfterFunction];
        for (function, at, (residual, added)) in functions(n).into_iter().flat_map(|f| {
            let each = places
                .into_iter()
                .flat_map(|at| residuals.iter().map(move |r| (at, r)));
            each.map(move |(at, r)| (f.clone(), at, r))
        }) {
            let finish = |output| {
                let scale = noise(9, n).iter().map(|s| s * 0.01).collect();
                let finish = Finish::new(scale, noise(10, n), function.clone(), at, output);
                finish.unwrap().prepare(400).unwrap()
            };
            let plain = finish(OutputKind::F32);
            let of = |i: usize| naive(&plain, sums[i], i % n, added[before * n + i]);
            let expected: Vec<f32> = (0..rows * n).map(of).collect();
            for (kernels, &kind) in
                Kernels::available().flat_map(|k| kinds.iter().map(move |kind| (k, kind)))
            {
                let f = finish(kind);
                f.check(Some(residual), before + rows).unwrap();
                let what = format!("{} {function:?} {at:?} {kind:?} {n}", kernels.isa());
                let run = |out: OutRows<'_>| {
                    let mut scratch = vec![-7; f.scratch_len()];
                    f.run(
                        kernels,
                        &mut sums.clone(),
                        before,
                        Some(*residual),
                        out,
                        &mut scratch,
                    );
                };
                match kind {
                    OutputKind::F16 => {
                        let mut out = vec![f16::ONE; rows * n];
                        run(OutRows::F16(&mut out));
                        let same = out
                            .iter()
                            .zip(&expected)
                            .all(|(&out, &y)| out == f16::from_f32(y));
                        assert!(same, "{what}");
                    }
                    OutputKind::Bf16 => {
                        let mut out = vec![bf16::ONE; rows * n];
                        run(OutRows::Bf16(&mut out));
                        let same = out
                            .iter()
                            .zip(&expected)
                            .all(|(&out, &y)| out == bf16::from_f32(y));
                        assert!(same, "{what}");
                    }
                    OutputKind::Bytes(_) => {
                        let mut out = vec![7; rows * n];
                        run(OutRows::Bytes(&mut out));
                        let codes: Vec<u8> = expected.iter().map(|&y| s8.code(y)).collect();
                        assert_eq!(out, codes, "{what}");
                    }
                    OutputKind::Codes(quantizer) => {
                        let encoding = quantizer.encoding();
                        let mut out = PackedMatrix::zeros(encoding, rows, n).unwrap();
                        run(OutRows::Codes(out.words_mut()));
                        let code = |y: &f32| encoding.decode(quantizer.code(*y)).unwrap();
                        let codes: Vec<i32> = expected.iter().map(code).collect();
                        assert_eq!(out.unpack(), codes, "{what}");
                    }
                    _ => {
                        let mut out = vec![7f32; rows * n];
                        run(OutRows::F32(&mut out));
                        assert_eq!(out, expected, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn thresholds_are_used_where_the_chain_is_monotone_and_levels_are_few() {
    let by = |function, at, quantizer: ActQuantizer| {
        let output = OutputKind::Codes(quantizer.into());
        let finish = Finish::new(vec![-0.5; 3], vec![0.1; 3], function, at, output);
        finish.unwrap().prepare(100).unwrap().is_by_thresholds()
    };
    let two = ActQuantizer::Relu(QuantRelu::new(2, 0.5, Rounding::Ceil).unwrap());
    let four = ActQuantizer::Relu(QuantRelu::new(4, 0.5, Rounding::Ceil).unwrap());
    let slopes = |s| ActivationFn::PRelu { slope: vec![s; 3] };
    assert!(by(ActivationFn::Relu, ResidualAt::Nowhere, two));
    assert!(by(slopes(0.25), ResidualAt::Nowhere, ActQuantizer::Sign));
    assert!(!by(slopes(-0.25), ResidualAt::Nowhere, ActQuantizer::Sign));
    assert!(!by(ActivationFn::Relu, ResidualAt::AfterFunction, two));
    assert!(!by(ActivationFn::Relu, ResidualAt::Nowhere, four));
}

#[test]
fn bad_numbers_and_residuals_are_refused() {
    let said = |scale: Vec<f32>, function, output| {
        let n = scale.len();
        Finish::new(scale, vec![0.0; n], function, ResidualAt::Nowhere, output)
            .unwrap_err()
            .to_string()
    };
    let f32s = OutputKind::F32;
    let nan = said(vec![0.0, f32::NAN], ActivationFn::Identity, f32s);
    assert_eq!(nan, "scale is NaN at 1; expected finite numbers");
    let slope = ActivationFn::PRelu { slope: vec![0.0] };
    assert_eq!(
        said(vec![0.0; 2], slope, f32s),
        "slope is 1 elements long; expected 2 (N)"
    );
    let clamp = ActivationFn::Clamp {
        low: 1.0,
        high: 0.0,
    };
    assert!(said(vec![0.0], clamp, f32s).starts_with("clamp is 1 to 0;"));
    assert!(said(vec![0.0], ActivationFn::Relu, OutputKind::I32).starts_with("output is i32;"));

    let finish = Finish::integers(3);
    let floats = [0.0; 6];
    let given = finish
        .check(Some(&Residual::Floats(&floats)), 2)
        .unwrap_err();
    assert_eq!(
        given.to_string(),
        "residual is given; expected none for this plan"
    );
    let adds = Finish::new(
        vec![1.0; 3],
        vec![0.0; 3],
        ActivationFn::Relu,
        ResidualAt::AfterFunction,
        f32s,
    );
    let adds = adds.unwrap();
    assert!(adds.check(None, 2).is_err());
    assert!(adds.check(Some(&Residual::Floats(&floats)), 2).is_ok());
    assert!(adds.check(Some(&Residual::Floats(&floats)), 3).is_err());
}

#[test]
fn batch_norm_folds_into_scale_and_bias() {
    // Slopes that are positive, negative and zero: gamma of each sign behind scales of each sign, and a scale of 0.
    let (s0, b0) = (
        [0.5f32, -2.0, 1.5, 0.75, -0.5, 0.0],
        [1.0f32, 0.25, -2.0, 0.5, 3.0, 2.0],
    );
    let (mut scale, mut bias) = (s0.to_vec(), b0.to_vec());
    let (gamma, beta) = (
        [2.0, -1.0, -0.5, 0.0, 4.0, 1.0],
        [0.5, 3.0, 0.0, -1.25, 1.0, -2.0],
    );
    let (mean, var) = (
        [0.25, -1.0, 4.0, 8.0, 0.0, 1.0],
        [3.0, 0.0, 0.5, 2.0, 15.0, 8.0],
    );
    let unfolded = |s: f32, i: usize| {
        let y = s0[i] * s + b0[i];
        gamma[i] * (y - mean[i]) / (var[i] + 1.0f32).sqrt() + beta[i]
    };
    fold_batch_norm(&mut scale, &mut bias, [&gamma, &beta, &mean, &var], 1.0).unwrap();
    let slopes = scale.iter().map(|&s| s.partial_cmp(&0.0).unwrap() as i32);
    assert_eq!(slopes.collect::<Vec<_>>(), [1, 1, -1, 0, -1, 0]);
    for s in [-7.0, 0.0, 12.0] {
        for i in 0..s0.len() {
            let folded = s * scale[i] + bias[i];
            assert!((folded - unfolded(s, i)).abs() < 1e-5, "{folded} at {i}");
        }
    }
    // A gamma of 0 leaves beta, whatever the sum.
    assert_eq!((scale[3], bias[3]), (0.0, -1.25));
    let refused = fold_batch_norm(&mut scale, &mut bias, [&gamma, &beta, &mean, &var], 0.0);
    let said = refused.unwrap_err().to_string();
    assert_eq!(said, "var is 0 at 1 with eps 0; expected var + eps above 0");
}
