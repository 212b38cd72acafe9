//! Float convolutions against plain loops: any shape, groups, transposed, every type of float and every finish.

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::bits::{ByteRef, Encoding, PackedMatrix};
use crate::ops::conv::geometry::Padding;
use crate::ops::{ActivationFn, Pool, ResidualAt};
use crate::quant::{ActQuantizer, Linear, QuantRelu, Rounding};

/// Integers that look random, below `below`.
fn some(seed: u64, len: usize, below: u64) -> Vec<u64> {
    let bits = |i: usize| (i as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    (0..len).map(|i| bits(i) % below).collect()
}

fn codes(e: Encoding, rows: usize, cols: usize, seed: u64) -> PackedMatrix {
    let values: Vec<i32> = (0..=255).filter_map(|c| e.decode(c)).collect();
    let all = some(seed, rows * cols, values.len() as u64);
    let all: Vec<i32> = all.iter().map(|&i| values[i as usize]).collect();
    PackedMatrix::pack(e, rows, cols, &all).unwrap()
}

/// Small integers as floats: their sums are exact, whatever their order.
fn whole(seed: u64, len: usize) -> Vec<f32> {
    let all = some(seed, len, 15);
    all.iter().map(|&v| v as f32 - 7.0).collect()
}

/// Powers of two, so that products are exact too.
fn powers(seed: u64, len: usize) -> Vec<f32> {
    let all = some(seed, len, 4);
    all.iter().map(|&v| 0.25 * (1 << v) as f32).collect()
}

/// A problem with its filters.
struct Case {
    g: Geometry,
    /// Of a transposed convolution, what is added to its output.
    extra: Option<[usize; 2]>,
    filters: PackedMatrix,
    scales: Scales,
    bias: Option<Vec<f32>>,
}

impl Case {
    fn new(g: Geometry, extra: Option<[usize; 2]>, e: Encoding, o: usize, seed: u64) -> Self {
        let k = g.kernel[0] * g.kernel[1] * g.channels / g.groups;
        let granularity = match seed % 3 {
            0 => Granularity::Tensor,
            1 if extra.is_none() => Granularity::Group(32),
            _ => Granularity::Channel,
        };
        let count = match granularity {
            Granularity::Tensor => 1,
            Granularity::Channel => o,
            Granularity::Group(group) => o * k.div_ceil(group),
        };
        Case {
            g,
            extra,
            filters: codes(e, o, k, seed),
            scales: Scales::new(granularity, powers(seed + 1, count)).unwrap(),
            bias: (!seed.is_multiple_of(4)).then(|| whole(seed + 2, o)),
        }
    }

    fn plan(&self, isa: Isa) -> FloatConv2d {
        let (filters, bias) = (self.filters.view(), self.bias.clone());
        let plan = match self.extra {
            None => FloatConv2d::on(isa, filters, self.g, &self.scales, bias),
            Some(extra) => FloatConv2d::transposed(isa, filters, self.g, extra, &self.scales, bias),
        };
        plan.unwrap()
    }

    /// The definition: what each tap of each input adds to the outputs.
    fn naive(&self, x: &[f32]) -> Vec<f32> {
        let (g, o, w) = (&self.g, self.filters.rows(), self.filters.unpack());
        let (oh, ow) = match self.extra {
            None => g.output().unwrap(),
            Some(extra) => g.transposed_output(extra).unwrap(),
        };
        let (c, [kh, kw]) = (g.channels / g.groups, g.kernel);
        let k = kh * kw * c;
        let group = match self.scales.granularity() {
            Granularity::Group(group) => group,
            _ => k,
        };
        let mut out = Vec::new();
        // Along an axis: the input whose tap `tap` adds to output `at`.
        let input = |axis: usize, at: usize, tap: usize| {
            let (size, before) = match axis {
                0 => (g.height, g.padding.top),
                _ => (g.width, g.padding.left),
            };
            let (stride, step) = (g.stride[axis], tap * g.dilation[axis]);
            let from = match self.extra {
                None => (at * stride + step).checked_sub(before),
                Some(_) => (at + before)
                    .checked_sub(step)
                    .filter(|at| at.is_multiple_of(stride))
                    .map(|at| at / stride),
            };
            from.filter(|&at| at < size)
        };
        for image in x.chunks_exact(g.height * g.width * g.channels) {
            for i in 0..oh * ow * o {
                let (y, x, n) = (i / o / ow, i / o % ow, i % o);
                let mut total = self.bias.as_ref().map_or(0.0, |b| b[n]);
                for column in 0..k {
                    let (tap, channel) = (column / c, n / (o / g.groups) * c + column % c);
                    let from = input(0, y, tap / kw).zip(input(1, x, tap % kw));
                    let Some((iy, ix)) = from else { continue };
                    let a = image[(iy * g.width + ix) * g.channels + channel];
                    let scale = self.scales.get(n, column / group, k);
                    total += scale * w[n * k + column] as f32 * a;
                }
                out.push(total);
            }
        }
        out
    }
}

/// The floats of `plan`; what is left in either buffer must not matter.
fn floats<'a>(
    plan: &FloatConv2d,
    x: impl Into<Elements<'a>>,
    len: usize,
    par: Par<'_>,
) -> Vec<f32> {
    let images = len / (plan.size().0 * plan.size().1 * plan.o());
    let mut scratch = vec![f32::NAN; plan.scratch_len(images, par.threads())];
    let mut out = vec![f32::NAN; len];
    plan.run_f32(x, &mut out, &mut scratch, par).unwrap();
    out
}

fn encodings() -> impl Strategy<Value = Encoding> {
    let names = ["bipolar", "ternary", "u2", "s4", "s8"];
    prop::sample::select(names.to_vec()).prop_map(|name| name.parse().unwrap())
}

/// Shapes with filters that fit, and output channels.
fn shapes() -> impl Strategy<Value = (Geometry, usize)> {
    let pair = |most: usize| prop::array::uniform2(1..=most);
    let channels = (1usize..=4, prop_oneof![Just(1), Just(3), 1usize..=40]);
    let pads = prop::array::uniform4(0usize..4);
    (
        pair(15),
        channels,
        pair(4),
        pair(3),
        pair(2),
        pads,
        1usize..=24,
    )
        .prop_map(
            |(size, (groups, per_group), kernel, stride, dilation, pads, o)| {
                let [top, left, bottom, right] = pads;
                let mut g = Geometry {
                    height: size[0],
                    width: size[1],
                    channels: groups * per_group,
                    kernel,
                    stride,
                    dilation,
                    padding: Padding {
                        top,
                        left,
                        bottom,
                        right,
                    },
                    groups,
                };
                // Grown until the filter fits.
                while g.output().is_err() {
                    g.height += 1;
                    g.width += 1;
                }
                (g, o.div_ceil(groups) * groups)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_shape_groups_and_floats(
        (mut g, mut o) in shapes(), e in encodings(), images in 1usize..4, threads in 1usize..4, seed in 0u64..1 << 40,
        depthwise in prop::bool::weighted(0.2),
        extra in prop::option::weighted(0.4, prop::array::uniform2(0usize..3)),
    ) {
        if depthwise {
            (g.groups, o) = (g.channels, g.channels * (1 + seed as usize % 2));
        }
        let extra = extra.map(|extra| [0, 1].map(|i| extra[i].min(g.stride[i].max(g.dilation[i]) - 1)));
        if extra.is_some_and(|extra| g.transposed_output(extra).is_err()) {
            g.padding = Padding::default();
        }
        let case = Case::new(g, extra, e, o, seed);
        let x = whole(seed + 3, images * g.pixels() * g.channels);
        let expected = case.naive(&x);
        let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
        let brains: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        let pool = Pool::new(threads).unwrap();
        for isa in Isa::available() {
            let plan = case.plan(isa);
            let len = expected.len();
            for par in [Par::Caller, Par::Pool(&pool)] {
                prop_assert_eq!(&floats(&plan, &x[..], len, par), &expected, "{:?}", plan);
                prop_assert_eq!(&floats(&plan, &halves[..], len, par), &expected, "{:?}", plan);
                prop_assert_eq!(&floats(&plan, &brains[..], len, par), &expected, "{:?}", plan);
            }
        }
    }

    #[test]
    fn every_finish_is_that_of_the_floats_by_themselves(
        (mut g, mut o) in shapes(), e in encodings(), images in 1usize..4, threads in 1usize..4, seed in 0u64..1 << 40,
        which in 0usize..5, of_codes in 0usize..4, at in 0usize..3, transposed: bool, pixels_as_rows: bool,
    ) {
        if pixels_as_rows {
            let (height, width) = (g.height, g.width);
            (g, o) = (Geometry::new(height, width, g.channels, 1), o + 30);
        }
        let extra = (transposed && g.transposed_output([0, 0]).is_ok()).then_some([0, 0]);
        let case = Case::new(g, extra, e, o, seed);
        let x = whole(seed + 3, images * g.pixels() * g.channels);
        let y = case.naive(&x);
        let pixels = y.len() / o;
        let re: Encoding = if of_codes == 1 { "bipolar" } else { "s3" }.parse().unwrap();
        let packed = codes(re, pixels, o, seed + 9);
        let bytes: Vec<u8> = packed.unpack().iter().map(|&v| v as u8).collect();
        let added = whole(seed + 10, pixels * o);
        let halves: Vec<f16> = added.iter().map(|&x| f16::from_f32(x)).collect();
        let scale = 0.3f32;
        let residual = match of_codes {
            0 => Residual::Floats(&added),
            1 => Residual::Planes { codes: packed.view(), scale },
            2 => Residual::Bytes { codes: ByteRef::new(re, pixels, o, &bytes).unwrap(), scale },
            _ => Residual::F16(&halves),
        };
        let at = [ResidualAt::Nowhere, ResidualAt::BeforeFunction, ResidualAt::AfterFunction][at];
        let residual = (at != ResidualAt::Nowhere).then_some(residual);
        let per_channel = |i: u64| whole(seed + i, o).iter().map(|v| v / 9.0).collect::<Vec<f32>>();
        let function = match which {
            0 => ActivationFn::Identity,
            1 => ActivationFn::Relu,
            2 => ActivationFn::PRelu { slope: per_channel(4) },
            3 => ActivationFn::RPRelu { before: per_channel(5), slope: per_channel(4), after: per_channel(6) },
            _ => ActivationFn::Clamp { low: -3.0, high: 9.0 },
        };
        let relu = |bits| ActQuantizer::Relu(QuantRelu::new(bits, 1.7, Rounding::Nearest).unwrap());
        let bytes_out = Linear::affine(Encoding::signed(8).unwrap(), 0.7, 5).unwrap();
        let kinds = [
            OutputKind::F32,
            OutputKind::F16,
            OutputKind::Bf16,
            OutputKind::Codes(ActQuantizer::Sign.into()),
            OutputKind::Codes(relu(2).into()),
            OutputKind::Codes(relu(5).into()),
            OutputKind::Codes(Linear::symmetric(4, 0.9).unwrap().into()),
            OutputKind::Bytes(bytes_out.into()),
        ];
        let pool = Pool::new(threads).unwrap();
        for isa in Isa::available() {
            for kind in kinds {
                let finish = Finish::new(per_channel(7), per_channel(8), function.clone(), at, kind).unwrap();
                let plan = case.plan(isa).finished(finish.clone()).unwrap();
                for par in [Par::Caller, Par::Pool(&pool)] {
                    let mut scratch = vec![f32::NAN; plan.scratch_len(images, par.threads())];
                    let kernels = Kernels::of(isa).unwrap();
                    let chain = |out: OutRows<'_>| {
                        apply(kernels, &finish, &y[..], residual, out, Par::Caller).unwrap();
                    };
                    let mut fused = |out: OutRows<'_>| {
                        plan.run(&x[..], residual, out, &mut scratch, par).unwrap();
                    };
                    macro_rules! same {
                        ($kind:ident, $zero:expr, $len:expr) => {{
                            let (mut got, mut expected) = (vec![$zero; $len], vec![$zero; $len]);
                            chain(OutRows::$kind(&mut expected));
                            fused(OutRows::$kind(&mut got));
                            prop_assert_eq!(got, expected, "{:?} {:?}", plan, kind);
                        }};
                    }
                    match kind {
                        OutputKind::F32 => same!(F32, 7f32, y.len()),
                        OutputKind::F16 => same!(F16, f16::ONE, y.len()),
                        OutputKind::Bf16 => same!(Bf16, bf16::ONE, y.len()),
                        OutputKind::Bytes(_) => same!(Bytes, 7u8, y.len()),
                        OutputKind::Codes(q) => {
                            let row = q.encoding().planes() * crate::shape::words(o);
                            same!(Codes, 7u32, pixels * row);
                        }
                        OutputKind::I32 | OutputKind::Levels(_) => unreachable!("not of these"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_window_as_large_as_the_image_may_still_reach_out_of_it() {
    let e = Encoding::Bipolar;
    let shifted = Geometry {
        stride: [3, 3],
        padding: Padding {
            top: 2,
            left: 1,
            ..Padding::default()
        },
        ..Geometry::new(3, 3, 5, 3)
    };
    let dilated = Geometry {
        dilation: [2, 2],
        padding: Padding::same(1),
        ..Geometry::new(3, 3, 5, 3)
    };
    for g in [shifted, dilated] {
        assert_eq!(g.output().unwrap(), (1, 1));
        let case = Case::new(g, None, e, 4, 0);
        let x = whole(1, 2 * 45);
        for isa in Isa::available() {
            let plan = case.plan(isa);
            assert_eq!(floats(&plan, &x[..], 8, Par::Caller), case.naive(&x));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (isa, e) = (Isa::Portable, Encoding::Bipolar);
    let mut g = Geometry::new(5, 5, 6, 3);
    let scales = Scales::new(Granularity::Tensor, vec![1.0]).unwrap();
    let of = |g: Geometry, o: usize, k: usize| {
        let w = PackedMatrix::zeros(e, o, k).unwrap();
        FloatConv2d::on(isa, w.view(), g, &scales, None)
    };
    let said = |made: Result<FloatConv2d>| made.map(drop).unwrap_err().to_string();
    assert_eq!(
        said(of(g, 4, 27)),
        "columns of the filters is 27; expected 54 (KH x KW x C / groups)"
    );
    g.groups = 2;
    assert_eq!(
        said(of(g, 3, 27)),
        "rows of the filters is 3; expected a positive multiple of the 2 groups"
    );
    let w = PackedMatrix::zeros(e, 4, 27).unwrap();
    let groups = Scales::new(Granularity::Group(32), vec![1.0; 4]).unwrap();
    let torn = FloatConv2d::transposed(isa, w.view(), g, [0, 0], &groups, None);
    assert_eq!(
        said(torn),
        "scales is per group of 32; expected per tensor or channel for a transposed convolution"
    );
    let finish = |n: usize, at, kind| {
        Finish::new(vec![1.0; n], vec![0.0; n], ActivationFn::Relu, at, kind).unwrap()
    };
    let (nowhere, after) = (ResidualAt::Nowhere, ResidualAt::AfterFunction);
    let sums = of(g, 4, 27).unwrap().finished(Finish::integers(4));
    assert_eq!(
        said(sums),
        "finish is of integers or thresholds alone; expected scale and bias"
    );
    let wide = finish(5, nowhere, OutputKind::F32);
    assert_eq!(
        said(of(g, 4, 27).unwrap().finished(wide)),
        "channels of the finish is 5; expected 4"
    );

    let plain = of(g, 4, 27).unwrap();
    let codes = finish(4, after, OutputKind::Codes(ActQuantizer::Sign.into()));
    let codes = of(g, 4, 27).unwrap().finished(codes).unwrap();
    let (x, added) = (vec![0f32; 150], vec![0f32; 36]);
    let residual = Some(Residual::Floats(&added));
    let mut scratch = vec![0f32; codes.scratch_len(1, 1)];
    let mut run =
        |plan: &FloatConv2d, x: Elements<'_>, residual: Option<Residual<'_>>, out: OutRows<'_>| {
            let done = plan.run(x, residual, out, &mut scratch, Par::Caller);
            done.map_err(|e| e.to_string())
        };
    let (mut f, mut c) = (vec![0f32; 36], vec![0u32; 9]);
    assert_eq!(
        run(&plain, x[..].into(), None, OutRows::F32(&mut f)),
        Ok(())
    );
    assert_eq!(
        run(&codes, x[..].into(), residual, OutRows::Codes(&mut c)),
        Ok(())
    );
    let kind = run(&plain, x[..].into(), None, OutRows::Codes(&mut c));
    assert_eq!(
        kind.unwrap_err(),
        "output of the plan is f32; expected codes"
    );
    let given = run(&plain, x[..].into(), residual, OutRows::F32(&mut f));
    assert_eq!(
        given.unwrap_err(),
        "residual is given; expected none for this plan"
    );
    let none = run(&codes, x[..].into(), None, OutRows::Codes(&mut c));
    assert_eq!(
        none.unwrap_err(),
        "residual is none; expected one for this plan"
    );
    let short = run(&plain, x[1..].into(), None, OutRows::F32(&mut f));
    assert_eq!(
        short.unwrap_err(),
        "input is 149 elements long; expected a multiple of 150 (H x W x C)"
    );
    let integers = PackedMatrix::zeros(e, 25, 6).unwrap();
    let integers = run(&plain, integers.view().into(), None, OutRows::F32(&mut f));
    assert_eq!(
        integers.unwrap_err(),
        "input is bipolar codes; expected floats: f32, f16 or bf16"
    );
    let long = run(&plain, x[..].into(), None, OutRows::F32(&mut [0.0; 37]));
    assert_eq!(
        long.unwrap_err(),
        "out is 37 elements long; expected 36 (pixels x O)"
    );
}
