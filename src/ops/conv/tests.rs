//! Convolutions against the direct loops: any shape, encoding, pad, range, number of threads and ISA, and what is
//! refused.

use super::*;
use crate::bits::{ByteRef, PackedMatrix};
use crate::ops::gemm::method::Way;
use crate::ops::{ActivationFn, OutputKind, Pool, ResidualAt, Thresholds};
use crate::quant::{ActQuantizer, QuantRelu, Rounding};
use naive::{meant, naive, naive_affine, naive_transposed};
use proptest::prelude::*;

fn codes(e: Encoding, rows: usize, cols: usize, seed: u64) -> PackedMatrix {
    let values: Vec<i32> = (0..=255).filter_map(|c| e.decode(c)).collect();
    let at = |i: usize| ((i as u64 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize;
    let all: Vec<i32> = (0..rows * cols)
        .map(|i| values[at(i) % values.len()])
        .collect();
    PackedMatrix::pack(e, rows, cols, &all).unwrap()
}

/// The lowest or highest codes everywhere.
fn extreme(e: Encoding, rows: usize, cols: usize, high: bool) -> PackedMatrix {
    let value = if high { e.max() } else { e.min() };
    PackedMatrix::pack(e, rows, cols, &vec![value; rows * cols]).unwrap()
}

/// Every encoding, by number; ternary, which no activation has, is the last.
fn encoding(i: usize) -> Encoding {
    match i {
        0 => Encoding::Bipolar,
        1..=8 => Encoding::unsigned(i).unwrap(),
        9..=16 => Encoding::signed(i - 8).unwrap(),
        _ => Encoding::Ternary,
    }
}

fn weights() -> impl Strategy<Value = Encoding> {
    (0usize..18).prop_map(encoding)
}

fn activations() -> impl Strategy<Value = Encoding> {
    (0usize..17).prop_map(encoding)
}

/// Codes of `encoding` with one of its integers, or 0, as the zero point.
fn affine(encoding: Encoding, seed: u64) -> Affine {
    let values: Vec<i32> = (0..=255).filter_map(|c| encoding.decode(c)).collect();
    let zero_point = match seed % 3 {
        0 => 0,
        _ => values[(seed >> 2) as usize % values.len()],
    };
    Affine {
        encoding,
        zero_point,
    }
}

/// Shapes with filters that fit, and output channels.
fn shapes() -> impl Strategy<Value = (Geometry, usize)> {
    let pair = |most: usize| prop::array::uniform2(1..=most);
    let channels = prop_oneof![
        (1usize..=4, 1usize..=70),
        (
            1usize..=3,
            prop::sample::select(vec![8usize, 16, 24, 32, 48, 64, 96])
        ),
    ];
    let pads = prop::array::uniform4(0usize..4);
    (
        pair(9),
        channels,
        pair(4),
        pair(3),
        pair(2),
        pads,
        1usize..=40,
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

/// Runs `plan` over images `images` of both forms of `x`, and compares.
fn check(plan: &Conv2d, x: &PackedMatrix, images: Range<usize>, threads: usize, expected: &[i64]) {
    let pool = Pool::new(threads).unwrap();
    let par = Par::Pool(&pool);
    let (oh, ow) = plan.size();
    let image = oh * ow * plan.o();
    let expected = &expected[images.start * image..images.end * image];
    let mut scratch = vec![-7; plan.scratch_len(par.threads())];
    let mut out = vec![7; images.len() * image];
    let same = |out: &[i32]| {
        let wrong = out
            .iter()
            .zip(expected)
            .position(|(&a, &b)| i64::from(a) != b);
        assert_eq!(wrong, None, "{plan:?}");
    };
    plan.run_i32(x.view(), images.clone(), &mut out, &mut scratch, par)
        .unwrap();
    same(&out);
    if x.encoding() != Encoding::Bipolar {
        let bytes: Vec<u8> = x.unpack().iter().map(|&v| v as u8).collect();
        let bytes = ByteRef::new(x.encoding(), x.rows(), x.cols(), &bytes).unwrap();
        out.fill(9);
        plan.run_i32(bytes, images.clone(), &mut out, &mut scratch, par)
            .unwrap();
        same(&out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_pair_any_shape_any_range_any_threads(
        (g, o) in shapes(), we in weights(), e in activations(), pad in 0usize..3, images in 1usize..4,
        threads in 1usize..4, seed: u64,
    ) {
        let pad = match e {
            Encoding::Bipolar => [Pad::Zero, Pad::PlusOne, Pad::MinusOne][pad],
            _ => Pad::Zero,
        };
        let k = g.kernel[0] * g.kernel[1] * g.channels / g.groups;
        let (w, x) = (codes(we, o, k, seed), codes(e, images * g.pixels(), g.channels, !seed));
        let a = affine(e, seed);
        let outside = [0, 1 - a.zero_point, -1 - a.zero_point][pad as usize];
        let expected = naive_affine(&g, outside.into(), &meant(&x, a.zero_point), &w.unpack(), o);
        let rows = [Way::Bits, Way::Bytes, Way::Tables].map(Route::Rows);
        let routes = [None, Some(Route::Lines), Some(rows[0]), Some(rows[1]), Some(rows[2])];
        for (isa, route) in Isa::available().flat_map(|isa| routes.map(|route| (isa, route))) {
            let served = match route {
                Some(Route::Rows(Way::Bytes)) => e != Encoding::Bipolar,
                Some(Route::Rows(Way::Tables)) => we.planes() <= 2,
                _ => true,
            };
            if served {
                let plan = Conv2d::by(route, isa, w.view(), a, g, pad, Finish::integers(o)).unwrap();
                check(&plan, &x, images / 3..images, threads, &expected);
            }
        }
    }

    #[test]
    fn depthwise_any_shape(
        (mut g, _) in shapes(), channels in 2usize..150, we in weights(), e in activations(), pad in 0usize..3,
        images in 1usize..3, threads in 1usize..3, seed: u64,
    ) {
        g.channels = channels;
        g.groups = channels;
        let pad = match e {
            Encoding::Bipolar => [Pad::Zero, Pad::PlusOne, Pad::MinusOne][pad],
            _ => Pad::Zero,
        };
        let (w, x) = (
            codes(we, channels, g.kernel[0] * g.kernel[1], seed),
            codes(e, images * g.pixels(), channels, !seed),
        );
        let a = affine(e, seed);
        let outside = [0, 1 - a.zero_point, -1 - a.zero_point][pad as usize];
        let x_meant = meant(&x, a.zero_point);
        let expected = naive_affine(&g, outside.into(), &x_meant, &w.unpack(), channels);
        for isa in Isa::available() {
            let plan = Conv2d::on(isa, w.view(), a, g, pad, Finish::integers(channels)).unwrap();
            prop_assert!(plan.describe().contains("depthwise"));
            check(&plan, &x, 0..images, threads, &expected);
        }
    }

    #[test]
    fn transposed_any_shape(
        (g, o) in shapes(), we in weights(), e in activations(), images in 1usize..3, threads in 1usize..3,
        extra in prop::array::uniform2(0usize..3), seed: u64, depthwise: bool,
    ) {
        let (mut g, mut o) = (g, o);
        if depthwise {
            (g.groups, o) = (g.channels, g.channels);
        }
        let extra = [0, 1].map(|i| extra[i].min(g.stride[i].max(g.dilation[i]) - 1));
        if g.transposed_output(extra).is_err() {
            g.padding = Padding::default();
        }
        let k = g.kernel[0] * g.kernel[1] * g.channels / g.groups;
        let (w, x) = (codes(we, o, k, seed), codes(e, images * g.pixels(), g.channels, !seed));
        let a = affine(e, seed);
        let expected = naive_transposed(&g, extra, &meant(&x, a.zero_point), &w.unpack(), o);
        for isa in Isa::available() {
            let plan = Conv2d::transposed(isa, w.view(), a, g, extra, Finish::integers(o)).unwrap();
            check(&plan, &x, 0..images, threads, &expected);
        }
    }
}

#[test]
fn a_phase_of_a_transposed_convolution_may_have_taps_and_no_output() {
    let (we, e) = ("s4".parse().unwrap(), "u4".parse().unwrap());
    let g = Geometry {
        stride: [1, 3],
        padding: Padding::same(1),
        ..Geometry::new(2, 1, 5, 4)
    };
    let (w, x) = (codes(we, 3, 80, 1), codes(e, 2, 5, 2));
    let expected = naive_transposed(&g, [0; 2], &meant(&x, 0), &w.unpack(), 3);
    for isa in Isa::available() {
        let plan = Conv2d::transposed(isa, w.view(), e, g, [0; 2], Finish::integers(3)).unwrap();
        check(&plan, &x, 0..1, 1, &expected);
    }
}

#[test]
fn extremes_at_the_border_are_exact() {
    let names = ["bipolar", "ternary", "u1", "u8", "s8"];
    for (we, e) in names
        .into_iter()
        .flat_map(|w| ["bipolar", "u4", "u8", "s8"].map(|a| (w, a)))
    {
        let (we, e): (Encoding, Encoding) = (we.parse().unwrap(), e.parse().unwrap());
        let g = Geometry {
            padding: Padding::same(2),
            ..Geometry::new(7, 6, 64, 5)
        };
        for (high, tall) in [(false, false), (false, true), (true, false), (true, true)] {
            let (w, x) = (extreme(we, 33, 1600, high), extreme(e, 42, 64, tall));
            // The zero point that makes activations largest.
            for zero_point in [0, if tall { e.min() } else { e.max() }] {
                let a = Affine {
                    encoding: e,
                    zero_point,
                };
                let expected = naive(&g, Pad::Zero, &meant(&x, zero_point), &w.unpack(), 33);
                for (isa, route) in
                    Isa::available().flat_map(|isa| [None, Some(Route::Lines)].map(|r| (isa, r)))
                {
                    let finish = Finish::integers(33);
                    let plan = Conv2d::by(route, isa, w.view(), a, g, Pad::Zero, finish).unwrap();
                    check(&plan, &x, 0..1, 2, &expected);
                }
            }
        }
    }
}

#[test]
fn a_zero_point_leaves_alone_the_columns_that_fill_up_a_row() {
    // K is 1, in rows of 4 bytes: weights of zero bits are -1, and no activation is there to be less than the zero point.
    let e = Encoding::unsigned(2).unwrap();
    let w = PackedMatrix::pack(Encoding::Bipolar, 1, 1, &[1]).unwrap();
    let x = PackedMatrix::pack(e, 1, 1, &[3]).unwrap();
    let a = Affine {
        encoding: e,
        zero_point: 1,
    };
    let g = Geometry::new(1, 1, 1, 1);
    for isa in Isa::available() {
        let plan = Conv2d::on(isa, w.view(), a, g, Pad::Zero, Finish::integers(1)).unwrap();
        check(&plan, &x, 0..1, 1, &[2]);
    }
}

#[test]
fn large_images_and_pixels_as_rows() {
    // More pixels than a block, in one piece or many, and a filter that needs no gathering.
    for (kernel, c, o, size) in [
        (3, 64, 70, 33),
        (1, 100, 65, 21),
        (1, 63, 65, 17),
        (1, 3, 40, 17),
        (3, 3, 64, 32),
    ] {
        let (w, e) = (
            Encoding::Bipolar,
            Encoding::unsigned(if c == 3 { 8 } else { 2 }).unwrap(),
        );
        let g = Geometry {
            padding: Padding::same(kernel / 2),
            ..Geometry::new(size, size, c, kernel)
        };
        let (w, x) = (
            codes(w, o, kernel * kernel * c, 3),
            codes(e, 2 * size * size, c, 4),
        );
        let expected = naive(&g, Pad::Zero, &x.unpack(), &w.unpack(), o);
        for isa in Isa::available() {
            let plan = Conv2d::on(isa, w.view(), e, g, Pad::Zero, Finish::integers(o)).unwrap();
            let direct = plan.describe().contains("pixels as rows");
            assert_eq!(direct, kernel == 1, "{plan:?}");
            for threads in 1..4 {
                check(&plan, &x, 0..2, threads, &expected);
            }
        }
    }
}

#[test]
fn floats_and_codes_are_those_of_the_sums() {
    let (o, e) = (45, Encoding::Bipolar);
    let g = Geometry {
        padding: Padding::same(1),
        stride: [2, 1],
        ..Geometry::new(11, 9, 50, 3)
    };
    let (w, x) = (codes(Encoding::Ternary, o, 450, 5), codes(e, 2 * 99, 50, 6));
    let expected = naive(&g, Pad::Zero, &x.unpack(), &w.unpack(), o);
    let scale: Vec<f32> = (0..o).map(|i| (i as f32 - 20.0) * 0.013).collect();
    let bias: Vec<f32> = (0..o).map(|i| (i as f32 * 0.7).sin()).collect();
    let floats: Vec<f32> = (0..expected.len())
        .map(|i| expected[i] as f32 * scale[i % o] + bias[i % o])
        .collect();
    let quantizers = [
        ActQuantizer::Sign,
        ActQuantizer::Relu(QuantRelu::new(2, 0.4, Rounding::Ceil).unwrap()),
    ];
    let mut scratch = Vec::new();
    let pool = Pool::new(2).unwrap();
    for (isa, quantizer) in Isa::available().flat_map(|isa| quantizers.map(|q| (isa, q))) {
        let finish = |kind| {
            let (scale, bias, at) = (scale.clone(), bias.clone(), ResidualAt::Nowhere);
            Finish::new(scale, bias, ActivationFn::Identity, at, kind).unwrap()
        };
        let plan = finish(OutputKind::F32);
        let plan = Conv2d::on(isa, w.view(), e, g, Pad::Zero, plan).unwrap();
        let mut out = vec![0.0; expected.len()];
        scratch.resize(plan.scratch_len(2), 0);
        plan.run_f32(x.view(), 0..2, &mut out, &mut scratch, Par::Pool(&pool))
            .unwrap();
        assert_eq!(out, floats);
        let thresholds = Thresholds::derive(&quantizer, &scale, &bias, 450).unwrap();
        let ce = thresholds.encoding();
        let derived = finish(OutputKind::Codes(quantizer.into()));
        let codes: Vec<i32> = floats
            .iter()
            .map(|&y| ce.decode(quantizer.code(y)).unwrap())
            .collect();
        let finishes = [derived, Finish::by_thresholds(thresholds)];
        let routes = [None, Some(Route::Lines)];
        for (finish, route) in finishes
            .iter()
            .flat_map(|f| routes.map(|route| (f.clone(), route)))
        {
            let plan = Conv2d::by(route, isa, w.view(), e, g, Pad::Zero, finish).unwrap();
            assert!(plan.finish().is_by_thresholds());
            scratch.resize(plan.scratch_len(2), 0);
            let mut out = PackedMatrix::zeros(ce, expected.len() / o, o).unwrap();
            plan.run_codes(x.view(), 0..2, &mut out, &mut scratch, Par::Pool(&pool))
                .unwrap();
            assert_eq!(out.unpack(), codes);
        }
        let plan = finish(OutputKind::Codes(quantizer.into()));
        let plan = Conv2d::on(isa, w.view(), e, g, Pad::Zero, plan).unwrap();
        scratch.resize(plan.scratch_len(1), 0);
        let said = plan
            .run_f32(x.view(), 0..2, &mut [0.0], &mut scratch, Par::Caller)
            .unwrap_err();
        assert_eq!(
            said.to_string(),
            "output of the plan is codes; expected f32"
        );
    }
}

#[test]
fn bad_input_is_refused_by_name() {
    let g = Geometry::new(5, 4, 6, 3);
    let (e, u4) = (Encoding::Bipolar, Encoding::unsigned(4).unwrap());
    let w = codes(e, 8, 54, 1);
    let plan = |g: Geometry, pad, finish| {
        let a = if pad == Pad::Zero { e } else { u4 };
        Conv2d::new(w.view(), a, g, pad, finish)
    };
    let said = |g: Geometry| {
        plan(g, Pad::Zero, Finish::integers(8))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        said(Geometry { width: 0, ..g }),
        "width is 0; expected 1 or more"
    );
    assert_eq!(
        said(Geometry {
            stride: [1, 0],
            ..g
        }),
        "stride is 0; expected 1 or more"
    );
    assert!(said(Geometry { groups: 4, ..g }).contains("a divisor of the 6 channels"));
    assert!(
        said(Geometry { groups: 2, ..g }).starts_with("columns of the filters is 54; expected 27")
    );
    assert!(
        said(Geometry {
            dilation: [2, 2],
            ..g
        })
        .starts_with("kernel is 5 pixels long")
    );
    let huge = Padding {
        top: usize::MAX,
        ..Padding::default()
    };
    assert!(said(Geometry { padding: huge, ..g }).contains("at most 2^20"));
    let three = Geometry {
        groups: 3,
        channels: 18,
        ..g
    };
    assert!(said(three).contains("a positive multiple of the 3 groups"));
    let refused = |pad, finish| plan(g, pad, finish).unwrap_err().to_string();
    assert!(refused(Pad::PlusOne, Finish::integers(8)).contains("bipolar activations"));
    let affine = Affine {
        encoding: u4,
        zero_point: -1,
    };
    let said = Conv2d::new(w.view(), affine, g, Pad::Zero, Finish::integers(8)).unwrap_err();
    assert_eq!(
        said.to_string(),
        "zero_point is -1; expected 0 or an integer of u4"
    );
    let few = Finish::integers(1);
    assert!(refused(Pad::Zero, few).starts_with("channels of the finish is 1; expected 8"));
    let long = Geometry {
        stride: [2, 2],
        ..g
    };
    let transposed = |g: Geometry, extra| {
        let plan = Conv2d::transposed(Isa::Portable, w.view(), e, g, extra, Finish::integers(8));
        plan.unwrap_err().to_string()
    };
    assert!(transposed(long, [2, 0]).starts_with("output padding is 2"));
    let wide = Padding::same(6);
    assert!(transposed(Geometry { padding: wide, ..g }, [0, 0]).starts_with("padding is 12"));

    let plan = plan(g, Pad::Zero, Finish::integers(8)).unwrap();
    let x = codes(e, 40, 6, 2);
    let (mut out, mut scratch) = (vec![0; 96], vec![0; plan.scratch_len(1)]);
    let run = |x: PackedRef<'_>, images, out: &mut [i32], scratch: &mut [i32]| {
        let run = plan.run_i32(x, images, out, scratch, Par::Caller);
        run.map_err(|e| e.to_string())
    };
    assert_eq!(run(x.view(), 0..2, &mut out, &mut scratch), Ok(()));
    assert_eq!(run(x.view(), 1..1, &mut [], &mut scratch), Ok(()));
    let starts = |run: std::result::Result<(), String>, with: &str| {
        assert!(run.clone().unwrap_err().starts_with(with), "{run:?}");
    };
    starts(
        run(x.view(), 0..2, &mut out[1..], &mut scratch),
        "out is 95",
    );
    starts(
        run(x.view(), 0..2, &mut out, &mut scratch[1..]),
        "scratch is",
    );
    starts(
        run(x.view(), 1..3, &mut out, &mut scratch),
        "images is 1..3",
    );
    starts(
        run(x.view().slice_rows(0..39), 0..1, &mut out, &mut scratch),
        "rows of the input is 39",
    );
    starts(
        run(codes(e, 40, 7, 2).view(), 0..2, &mut out, &mut scratch),
        "channels of the input",
    );
    starts(
        run(codes(u4, 40, 6, 2).view(), 0..2, &mut out, &mut scratch),
        "input is u4",
    );
}

mod finished;
mod naive;
mod tile_codes;
