//! Scales of every granularity and type, zero points of plans and of rows: against the definition, on every ISA.

use super::*;
use crate::quant::Float;
use half::{bf16, f16};

/// A float that depends on `i` without a pattern, of either sign, in steps that no format holds exactly.
fn float(i: usize, seed: u64) -> f32 {
    let bits = (i as u64 ^ seed).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40;
    (bits as f32 - 8_000_000.0) / 3.0e8
}

fn floats(count: usize, seed: u64) -> Vec<f32> {
    (0..count).map(|i| float(i, seed)).collect()
}

/// Scales in one of the three types.
fn scales(granularity: Granularity, n: usize, k: usize, kind: u64) -> Scales {
    fn of<F: Float>(granularity: Granularity, count: usize, from: impl Fn(f32) -> F) -> Scales {
        let values = floats(count, 5).into_iter().map(from).collect();
        Scales::new(granularity, values).unwrap()
    }
    let count = match granularity {
        Granularity::Tensor => 1,
        Granularity::Channel => n,
        Granularity::Group(group) => n * k.div_ceil(group),
    };
    match kind % 3 {
        0 => of(granularity, count, |x| x),
        1 => of(granularity, count, f16::from_f32),
        _ => of(granularity, count, bf16::from_f32),
    }
}

/// A zero point of `e`: an end, 0 or one between.
fn zero_point(e: Encoding, at: u64) -> i32 {
    let some = match at % 4 {
        0 => e.min(),
        1 => e.max(),
        2 => 0,
        _ => e.min() + (at / 4 % (e.max() - e.min() + 1) as u64) as i32,
    };
    if e == Encoding::Bipolar && at % 4 == 3 {
        return 0;
    }
    some
}

/// A product by its definition.
struct Case<'a> {
    w: &'a PackedMatrix,
    a: &'a PackedMatrix,
    scales: &'a Scales,
    bias: Option<&'a [f32]>,
    /// Of the row.
    zero_points: &'a [i32],
    row_scale: Option<&'a [f32]>,
}

impl Case<'_> {
    fn expected(&self) -> Vec<f32> {
        let (wv, av) = (self.w.unpack(), self.a.unpack());
        let (n, k) = (self.w.rows(), self.w.cols());
        let group = match self.scales.granularity() {
            Granularity::Group(group) => group,
            _ => k.max(1),
        };
        let groups = self.scales.groups(k);
        let of = |row: usize, channel: usize| {
            let z = i64::from(self.zero_points[row]);
            let sum = |g: usize| {
                let columns = (g * group).min(k)..((g + 1) * group).min(k);
                let terms = columns
                    .map(|c| i64::from(wv[channel * k + c]) * (i64::from(av[row * k + c]) - z));
                i32::try_from(terms.sum::<i64>()).unwrap() as f32
            };
            let mut t = match self.scales.granularity() {
                Granularity::Group(_) => {
                    (0..groups).fold(0.0f32, |t, g| t + sum(g) * self.scales.get(channel, g, k))
                }
                _ => sum(0) * self.scales.get(channel, 0, k),
            };
            if let Some(row_scale) = self.row_scale {
                t *= row_scale[row];
            }
            self.bias.map_or(t, |bias| t + bias[channel])
        };
        let all = (0..self.a.rows()).flat_map(|row| (0..n).map(move |channel| (row, channel)));
        all.map(|(row, channel)| of(row, channel)).collect()
    }

    /// Runs all rows of this case in `gemm`, from planes and, where there are such, from bytes.
    fn check(&self, gemm: &Gemm, par: Par<'_>) {
        let (m, n, e) = (self.a.rows(), self.w.rows(), self.a.encoding());
        let expected = self.expected();
        let by_row = self.row_scale.map(|scale| RowScales {
            scale,
            zero_point: (gemm.zero_point() == 0).then_some(self.zero_points),
        });
        let bytes: Vec<u8> = self.a.unpack().iter().map(|&v| v as u8).collect();
        let mut forms = vec![Activations::Planes(self.a.view())];
        if e != Encoding::Bipolar {
            let bytes = ByteRef::new(e, m, self.a.cols(), &bytes).unwrap();
            forms.push(Activations::Bytes(bytes));
        }
        for form in forms {
            for rows in [0..m, m / 3..m - m / 4] {
                let mut scratch = vec![7; gemm.scratch_len_of(&form, rows.len())];
                let mut out = vec![7.0; rows.len() * n];
                match by_row {
                    None => gemm.run_f32(form, rows.clone(), &mut out, &mut scratch, par),
                    Some(by_row) => {
                        gemm.run_rows_f32(form, by_row, rows.clone(), &mut out, &mut scratch, par)
                    }
                }
                .unwrap();
                let expected = &expected[rows.start * n..rows.end * n];
                let same = out
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{gemm:?} {rows:?}: {out:?} for {expected:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn zero_points_and_scales_of_tensor_and_channel(
        m in 0usize..20, n in 0usize..70, k in 0usize..150, we in 0usize..18, e in 0usize..17, seed: u64,
        at: u64, by_row: bool, biased: bool,
    ) {
        let (we, e) = (encoding(we), encoding(e));
        let (w, a) = (codes(we, n, k, seed), codes(e, m, k, seed ^ 77));
        let granularity = if seed % 2 == 0 { Granularity::Tensor } else { Granularity::Channel };
        let scales = scales(granularity, n, k, at);
        let (bias, row_scale) = (floats(n, 3), floats(m, 4));
        let zero = zero_point(e, at);
        let zeros: Vec<i32> = match by_row {
            true => (0..m).map(|i| zero_point(e, at.wrapping_add(3 * i as u64))).collect(),
            false => vec![zero; m],
        };
        let case = Case {
            w: &w, a: &a, scales: &scales, bias: biased.then_some(&bias[..]), zero_points: &zeros,
            row_scale: (by_row || seed % 3 == 0).then_some(&row_scale[..]),
        };
        let planned = if by_row { 0 } else { zero };
        let ways = [Way::Bits, Way::Bytes, Way::Tables];
        for (isa, way) in Isa::available().flat_map(|isa| ways.map(|way| (isa, way))) {
            let has = Gemm::methods(isa, we, e, granularity);
            if ![has.bits, has.bytes, has.tables][way as usize] {
                continue;
            }
            let epilogue = Epilogue::Scaled { scales: scales.clone(), bias: biased.then(|| bias.clone()) };
            let gemm = Gemm::make(Some(way), isa, w.view(), e, planned, epilogue).unwrap();
            case.check(&gemm, Par::Caller);
            if !by_row {
                let (mut out, mut scratch) = (vec![7; m * n], vec![7; gemm.scratch_len(m)]);
                gemm.run_i32(a.view(), 0..m, &mut out, &mut scratch, Par::Caller).unwrap();
                let (wv, av) = (w.unpack(), a.unpack());
                for (i, &sum) in out.iter().enumerate() {
                    let (row, channel) = (i / n, i % n);
                    let terms = (0..k).map(|c| wv[channel * k + c] * (av[row * k + c] - zero));
                    prop_assert_eq!(sum, terms.sum::<i32>());
                }
            }
        }
    }

    #[test]
    fn scales_of_groups(
        m in 0usize..14, n in 0usize..70, k in 0usize..600, we in 0usize..18, e in 0usize..17, seed: u64,
        at: u64, group in 1usize..9, by_row: bool, biased: bool, threads in 1usize..4,
    ) {
        let (we, e) = (encoding(we), encoding(e));
        let (w, a) = (codes(we, n, k, seed), codes(e, m, k, seed ^ 77));
        let granularity = Granularity::Group(32 * group);
        let scales = scales(granularity, n, k, at);
        let (bias, row_scale) = (floats(n, 3), floats(m, 4));
        let zero = zero_point(e, at);
        let zeros: Vec<i32> = match by_row {
            true => (0..m).map(|i| zero_point(e, at.wrapping_add(3 * i as u64))).collect(),
            false => vec![zero; m],
        };
        let case = Case {
            w: &w, a: &a, scales: &scales, bias: biased.then_some(&bias[..]), zero_points: &zeros,
            row_scale: (by_row || seed % 3 == 0).then_some(&row_scale[..]),
        };
        let pool = Pool::new(threads).unwrap();
        let planned = if by_row { 0 } else { zero };
        for isa in Isa::available() {
            let epilogue = Epilogue::Scaled { scales: scales.clone(), bias: biased.then(|| bias.clone()) };
            let gemm = Gemm::affine(isa, w.view(), e, planned, epilogue).unwrap();
            case.check(&gemm, Par::Pool(&pool));
        }
    }
}

#[test]
fn groups_at_the_extremes_of_every_pair() {
    // Whole groups and a tail; all weights and activations at an end, and zero points at the ends.
    let (m, n, k) = (7, 3, 2 * 256 + 35);
    for (we, e) in (0..18).flat_map(|w| (0..17).map(move |a| (encoding(w), encoding(a)))) {
        let scales = scales(Granularity::Group(256), n, k, 0);
        for (weight, activation) in [
            (we.min(), e.max()),
            (we.max(), e.max()),
            (we.min(), e.min()),
        ] {
            let w = PackedMatrix::pack(we, n, k, &vec![weight; n * k]).unwrap();
            let a = PackedMatrix::pack(e, m, k, &vec![activation; m * k]).unwrap();
            for zero in [e.min(), 0, e.max()] {
                let case = Case {
                    w: &w,
                    a: &a,
                    scales: &scales,
                    bias: None,
                    zero_points: &vec![zero; m],
                    row_scale: None,
                };
                for isa in Isa::available() {
                    let scales = scales.clone();
                    let epilogue = Epilogue::Scaled { scales, bias: None };
                    let gemm = Gemm::affine(isa, w.view(), e, zero, epilogue).unwrap();
                    case.check(&gemm, Par::Caller);
                }
            }
        }
    }
}

#[test]
fn groups_take_any_k_and_any_number_of_threads() {
    // Ten more than s8 x s8 could sum in i32, all at the largest magnitude; and a product that is split.
    let s8 = Encoding::signed(8).unwrap();
    let k = Gemm::max_k(s8, s8).unwrap() + 10;
    let scales = Scales::new(Granularity::Group(256), vec![0.5f32; k.div_ceil(256)]).unwrap();
    let low = PackedMatrix::pack(s8, 1, k, &vec![-128; k]).unwrap();
    let case = Case {
        w: &low,
        a: &low,
        scales: &scales,
        bias: None,
        zero_points: &[0],
        row_scale: None,
    };
    for isa in Isa::available() {
        let scales = scales.clone();
        let epilogue = Epilogue::Scaled { scales, bias: None };
        case.check(
            &Gemm::on(isa, low.view(), s8, epilogue).unwrap(),
            Par::Caller,
        );
    }

    let (m, n, k, u4) = (37, 1000, 1500, Encoding::unsigned(4).unwrap());
    let (w, a) = (codes(u4, n, k, 1), codes(s8, m, k, 2));
    let scales = self::scales(Granularity::Group(64), n, k, 1);
    let epilogue = Epilogue::Scaled { scales, bias: None };
    let gemm = Gemm::affine(Isa::best(), w.view(), s8, 9, epilogue).unwrap();
    let mut scratch = vec![0; gemm.scratch_len(m)];
    let run = |par: Par<'_>, scratch: &mut [i32]| {
        let mut out = vec![0.0; m * n];
        gemm.run_f32(a.view(), 0..m, &mut out, scratch, par)
            .unwrap();
        out
    };
    let alone = run(Par::Caller, &mut scratch);
    for threads in 2..=5 {
        let pool = Pool::new(threads).unwrap();
        assert!(
            run(Par::Pool(&pool), &mut scratch) == alone,
            "{threads} threads"
        );
    }
}

#[test]
fn the_bound_of_k_counts_the_zero_point() {
    let (s8, u8s) = (Encoding::signed(8).unwrap(), Encoding::unsigned(8).unwrap());
    let max = |w, a, z| Gemm::max_k_affine(w, a, z).unwrap();
    assert_eq!(max(s8, s8, 0), 131_071);
    assert_eq!(max(s8, s8, -128), 65_793);
    assert_eq!(max(s8, s8, 127), 65_793);
    assert_eq!(max(s8, u8s, 128), 131_071);
    assert_eq!(max(Encoding::Bipolar, Encoding::Bipolar, 1), (1 << 30) - 1);
    for (a, z) in [(127, -128), (-128, 127)] {
        let k = max(s8, s8, z);
        for isa in Isa::available() {
            for weight in [-128, 127] {
                let w = PackedMatrix::pack(s8, 1, k, &vec![weight; k]).unwrap();
                let a = PackedMatrix::pack(s8, 1, k, &vec![a; k]).unwrap();
                let expected = weight * 255 * k as i32 * if z < 0 { 1 } else { -1 };
                let mut out = [0];
                for way in [Way::Bits, Way::Bytes] {
                    let gemm = Gemm::make(Some(way), isa, w.view(), s8, z, Epilogue::None).unwrap();
                    let mut scratch = vec![0; gemm.scratch_len(1)];
                    gemm.run_i32(a.view(), 0..1, &mut out, &mut scratch, Par::Caller)
                        .unwrap();
                    assert_eq!(out, [expected], "{gemm:?}");
                    let epilogue = Epilogue::ScaleBias {
                        scale: vec![1.0],
                        bias: vec![0.0],
                    };
                    let gemm = Gemm::make(Some(way), isa, w.view(), s8, 0, epilogue).unwrap();
                    let by_row = RowScales {
                        scale: &[1.0],
                        zero_point: Some(&[z]),
                    };
                    let mut float = [0.0];
                    gemm.run_rows_f32(
                        a.view(),
                        by_row,
                        0..1,
                        &mut float,
                        &mut scratch,
                        Par::Caller,
                    )
                    .unwrap();
                    assert_eq!(float, [expected as f32], "{gemm:?}");
                }
            }
        }
    }
    let k = 65_794;
    let w = PackedMatrix::zeros(s8, 1, k).unwrap();
    let said = Gemm::affine(Isa::Portable, w.view(), s8, -128, Epilogue::None).unwrap_err();
    let expected = "K is 65794; expected at most 65793 for s8 x s8, or i32 sums overflow";
    assert_eq!(said.to_string(), expected);
}

#[test]
fn what_rows_bring_is_checked() {
    let (u4, m, n, k) = (Encoding::unsigned(4).unwrap(), 3, 2, 40);
    let (w, a) = (codes(Encoding::Ternary, n, k, 1), codes(u4, m, k, 2));
    let epilogue = Epilogue::ScaleBias {
        scale: vec![1.0; n],
        bias: vec![0.0; n],
    };
    let gemm = Gemm::affine(Isa::Portable, w.view(), u4, 0, epilogue.clone()).unwrap();
    let said = |gemm: &Gemm, scale: &[f32], zero_point: Option<&[i32]>| {
        let (mut out, mut scratch) = (vec![9.0; m * n], vec![0; gemm.scratch_len(m)]);
        let by_row = RowScales { scale, zero_point };
        let said = gemm.run_rows_f32(a.view(), by_row, 0..m, &mut out, &mut scratch, Par::Caller);
        assert!(out.iter().all(|&o| o == 9.0), "written");
        said.unwrap_err().to_string()
    };
    let (ones, zeros) = ([1.0; 3], [0; 3]);
    assert_eq!(
        said(&gemm, &ones[1..], None),
        "row scales is 2 elements long; expected 3 (M)"
    );
    assert_eq!(
        said(&gemm, &ones, Some(&zeros[1..])),
        "row zero points is 2 elements long; expected 3 (M)"
    );
    assert_eq!(
        said(&gemm, &ones, Some(&[0, 16, 0])),
        "row zero point is 16; expected 0 or an integer of u4"
    );
    let affine = Gemm::affine(Isa::Portable, w.view(), u4, 3, epilogue).unwrap();
    let expected = "row zero points is there; expected none: the plan has one";
    assert_eq!(said(&affine, &ones, Some(&zeros)), expected);
    let exact = Gemm::new(w.view(), u4, Epilogue::None).unwrap();
    assert!(said(&exact, &ones, None).starts_with("epilogue is none"));

    let plan = |z, epilogue| {
        let plan = Gemm::affine(Isa::Portable, w.view(), u4, z, epilogue);
        plan.map(|_| ()).map_err(|e| e.to_string())
    };
    for z in [-1, 16, i32::MIN, i32::MAX] {
        let expected = format!("zero_point is {z}; expected 0 or an integer of u4");
        assert_eq!(plan(z, Epilogue::None), Err(expected));
    }
    let scaled = |granularity, count, bias| Epilogue::Scaled {
        scales: Scales::new(granularity, vec![1f32; count]).unwrap(),
        bias,
    };
    for (granularity, count) in [
        (Granularity::Tensor, 2),
        (Granularity::Channel, 3),
        (Granularity::Group(32), 3),
    ] {
        let said = plan(0, scaled(granularity, count, None)).unwrap_err();
        assert!(
            said.starts_with(&format!("scales is {count} elements long")),
            "{said}"
        );
    }
    let short = scaled(Granularity::Group(32), 4, Some(vec![0.0]));
    assert_eq!(
        plan(0, short),
        Err("bias is 1 elements long; expected 2 (N)".to_string())
    );

    let grouped = Gemm::on(
        Isa::Portable,
        w.view(),
        u4,
        scaled(Granularity::Group(32), 4, None),
    );
    let grouped = grouped.unwrap();
    assert!(
        grouped.describe().ends_with("a scale for 32 of K"),
        "{}",
        grouped.describe()
    );
    let mut scratch = vec![0; grouped.scratch_len(m)];
    let said = grouped.run_i32(a.view(), 0..m, &mut [0; 6], &mut scratch, Par::Caller);
    let said = said.unwrap_err().to_string();
    assert!(said.starts_with("epilogue is scales per group"), "{said}");
}

#[test]
fn the_methods_of_an_isa_are_those_that_plans_use() {
    let (bipolar, u4) = (Encoding::Bipolar, Encoding::unsigned(4).unwrap());
    let methods = |w, a, granularity| Gemm::methods(Isa::Portable, w, a, granularity);
    let (channel, group) = (Granularity::Channel, Granularity::Group(64));
    let all = |bits, bytes, tables| Methods {
        bits,
        bytes,
        tables,
    };
    assert_eq!(methods(bipolar, bipolar, channel), all(true, false, false));
    assert_eq!(methods(bipolar, u4, channel), all(true, true, false));
    assert_eq!(methods(bipolar, bipolar, group), all(false, true, false));
    assert_eq!(
        methods(bipolar, Encoding::Ternary, channel),
        Methods::default()
    );
    assert_eq!(
        methods(bipolar, u4, Granularity::Group(33)),
        Methods::default()
    );
    let absent = Isa::ALL
        .into_iter()
        .find(|isa| !isa.is_available())
        .unwrap();
    assert_eq!(
        Gemm::methods(absent, bipolar, u4, channel),
        Methods::default()
    );
}
