//! Every ISA against one oracle in the order that the documentation gives, bit for bit.

use half::{bf16, f16};

use super::*;
use crate::bits::PackedMatrix;
use crate::ops::Pool;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

fn all() -> Vec<Encoding> {
    let mut all = vec![Encoding::Bipolar, Encoding::Ternary];
    all.extend((1..=8).map(|b| Encoding::unsigned(b).unwrap()));
    all.extend((1..=8).map(|b| Encoding::signed(b).unwrap()));
    all
}

struct Case {
    weights: PackedMatrix,
    scales: Scales,
    bias: Option<Vec<f32>>,
    n: usize,
    k: usize,
}

impl Case {
    fn new(e: Encoding, n: usize, k: usize, granularity: Granularity, seed: u64) -> Self {
        let mut random = Random(seed);
        let codes: Vec<i32> = (0..=255).filter_map(|c| e.decode(c)).collect();
        let values: Vec<i32> = (0..n * k)
            .map(|_| codes[random.next() as usize % codes.len()])
            .collect();
        let count = match granularity {
            Granularity::Tensor => 1,
            Granularity::Channel => n,
            Granularity::Group(group) => n * k.div_ceil(group),
        };
        let scales = random.floats(count);
        let scales = match seed % 3 {
            0 => Scales::new(granularity, scales),
            1 => {
                let halves: Vec<f16> = scales.into_iter().map(f16::from_f32).collect();
                Scales::new(granularity, halves)
            }
            _ => {
                let halves: Vec<bf16> = scales.into_iter().map(bf16::from_f32).collect();
                Scales::new(granularity, halves)
            }
        };
        Case {
            weights: PackedMatrix::pack(e, n, k, &values).unwrap(),
            scales: scales.unwrap(),
            bias: (!seed.is_multiple_of(4)).then(|| random.floats(n)),
            n,
            k,
        }
    }

    fn plan(&self, isa: Isa) -> WeightOnlyGemm {
        WeightOnlyGemm::on(isa, self.weights.view(), &self.scales, self.bias.clone()).unwrap()
    }

    /// The definition.
    fn oracle(&self, a: &[f32]) -> Vec<f32> {
        let (n, k) = (self.n, self.k);
        let m = a.len().checked_div(k).unwrap_or(0);
        let (w, e) = (self.weights.unpack(), self.weights.encoding());
        let group = match self.scales.granularity() {
            Granularity::Group(group) => group,
            _ => k.max(1),
        };
        let mut out = Vec::new();
        for row in 0..m {
            for channel in 0..n {
                let mut total = 0f32;
                for (g, from) in (0..k).step_by(group).enumerate() {
                    let columns = from..k.min(from + group);
                    let weights = &w[channel * k..][columns.clone()];
                    let sum = sum(e, weights, &a[row * k..][columns]);
                    total = self.scales.get(channel, g, k).mul_add(sum, total);
                }
                out.push(total + self.bias.as_ref().map_or(0.0, |b| b[channel]));
            }
        }
        out
    }
}

/// The sum of a group.
fn sum(e: Encoding, w: &[i32], a: &[f32]) -> f32 {
    let one = |k: usize| match k < w.len() {
        true => (w[k] as f32, a[k]),
        false => (0.0, 0.0),
    };
    let pair = |k: usize| {
        let ([w, a], [next_w, next_a]) = (one(k).into(), one(k + 1).into());
        f32::mul_add(next_w, next_a, w * a)
    };
    let columns = 0..w.len();
    match e.planes() {
        1 => columns
            .step_by(4)
            .fold(0.0, |s, k| s + (pair(k) + pair(k + 2))),
        2 => columns.step_by(2).fold(0.0, |s, k| s + pair(k)),
        _ => columns.fold(0.0, |s, k| (w[k] as f32).mul_add(a[k], s)),
    }
}

fn run<F: Float>(plan: &WeightOnlyGemm, a: &[F], m: usize, par: Par<'_>) -> Vec<f32> {
    run_rows(plan, a, m, 0..m, par)
}

fn run_rows<F: Float>(
    plan: &WeightOnlyGemm,
    a: &[F],
    m: usize,
    rows: Range<usize>,
    par: Par<'_>,
) -> Vec<f32> {
    // What is left in either must not matter.
    let mut out = vec![f32::NAN; rows.len() * plan.n()];
    let mut scratch = vec![f32::NAN; plan.scratch_len(rows.len())];
    plan.run(a, m, rows, &mut out, &mut scratch, par).unwrap();
    out
}

/// The same bits, where all NaN are one.
#[track_caller]
fn same(got: &[f32], expected: &[f32], what: &str) {
    let bits = |x: f32| if x.is_nan() { u32::MAX } else { x.to_bits() };
    assert_eq!(got.len(), expected.len(), "{what}");
    let differs = (0..got.len()).find(|&i| bits(got[i]) != bits(expected[i]));
    if let Some(i) = differs {
        panic!("{what}: [{i}] is {}; expected {}", got[i], expected[i]);
    }
}

fn granularities() -> [Granularity; 4] {
    [
        Granularity::Tensor,
        Granularity::Channel,
        Granularity::Group(32),
        Granularity::Group(96),
    ]
}

#[test]
fn every_encoding_and_number_of_rows_equals_the_oracle() {
    for (i, e) in all().into_iter().enumerate() {
        for (j, granularity) in granularities().into_iter().enumerate() {
            let k = [33, 100, 97, 130][j];
            let case = Case::new(e, 37 + 8 * j, k, granularity, (i * 5 + j) as u64);
            let a = Random(i as u64).floats(27 * k);
            let expected = case.oracle(&a);
            for isa in Isa::available() {
                let plan = case.plan(isa);
                for m in (1..=15).chain([23, 24, 25, 27]) {
                    let got = run(&plan, &a[..m * k], m, Par::Caller);
                    let what = format!("{isa} {e} {granularity:?} M {m}");
                    same(&got, &expected[..m * case.n], &what);
                }
            }
        }
    }
}

#[test]
fn tails_of_every_dimension_equal_the_oracle() {
    let encodings =
        ["bipolar", "u1", "ternary", "u2", "s4", "u7"].map(|e| e.parse::<Encoding>().unwrap());
    let mut seed = 0;
    for e in encodings {
        for k in [1, 3, 4, 5, 31, 32, 63, 65, 511, 512, 513, 1025] {
            for n in [1, 7, 16, 17, 31, 33, 129] {
                seed += 1;
                let granularity = granularities()[seed as usize / 2 % 4];
                let case = Case::new(e, n, k, granularity, seed);
                let a = Random(seed).floats(13 * k);
                let expected = case.oracle(&a);
                for isa in Isa::available() {
                    if isa == Isa::Portable && n * k > 10_000 {
                        continue;
                    }
                    let plan = case.plan(isa);
                    for m in [1, 5, 13] {
                        let got = run(&plan, &a[..m * k], m, Par::Caller);
                        let what = format!("{isa} {e} {granularity:?} {n}x{m}x{k}");
                        same(&got, &expected[..m * n], &what);
                    }
                }
            }
        }
    }
}

#[test]
fn blocks_threads_and_row_ranges_change_no_bit() {
    for (i, e) in ["s3", "bipolar", "u2"].into_iter().enumerate() {
        for (seed, granularity) in [
            (1, Granularity::Channel),
            (2, Granularity::Group(224)),
            (3, Granularity::Group(32)),
        ] {
            let seed = seed + 3 * i as u64;
            blocks_threads_and_row_ranges(e.parse().unwrap(), granularity, seed);
        }
    }
}

fn blocks_threads_and_row_ranges(e: Encoding, granularity: Granularity, seed: u64) {
    let pool = Pool::new(3).unwrap();
    let (n, m, k) = (300, 333, 1100);
    let case = Case::new(e, n, k, granularity, seed);
    let a = Random(seed).floats(m * k);
    let expected = case.oracle(&a);
    for isa in Isa::available().filter(|&isa| isa != Isa::Portable) {
        let plan = case.plan(isa);
        let what = format!("{isa} {e} {granularity:?}");
        same(&run(&plan, &a, m, Par::Caller), &expected, &what);
        same(&run(&plan, &a, m, Par::Pool(&pool)), &expected, &what);
        // Working space for many parts, and not aligned.
        let mut scratch = vec![f32::NAN; 9 * plan.scratch_len(m) + 1];
        let mut out = vec![f32::NAN; m * n];
        plan.run(&a, m, 0..m, &mut out, &mut scratch[1..], Par::Pool(&pool))
            .unwrap();
        same(&out, &expected, &what);
        for rows in [0..1, 7..15, 100..109, 200..333, 50..50] {
            let got = run_rows(&plan, &a, m, rows.clone(), Par::Pool(&pool));
            same(&got, &expected[rows.start * n..rows.end * n], &what);
        }
    }
}

/// So many that tables of all rows would not stay in a cache.
#[test]
fn few_long_rows_go_block_by_block() {
    let pool = Pool::new(2).unwrap();
    let isas = || Isa::available().filter(|&isa| isa != Isa::Portable);
    for (i, name) in ["bipolar", "s1", "ternary", "s2"].into_iter().enumerate() {
        for granularity in [Granularity::Tensor, Granularity::Group(224)] {
            let (n, m, k) = (140, 8, 8300);
            let case = Case::new(name.parse().unwrap(), n, k, granularity, i as u64);
            let a = Random(i as u64).floats(m * k);
            let expected = case.oracle(&a);
            for isa in isas() {
                let plan = case.plan(isa);
                let what = format!("{isa} {name} {granularity:?}");
                same(&run(&plan, &a, m, Par::Caller), &expected, &what);
                same(&run(&plan, &a, m, Par::Pool(&pool)), &expected, &what);
            }
        }
    }
}

#[test]
fn halves_are_their_values_in_f32() {
    for e in ["s4", "ternary", "bipolar"] {
        halves(e.parse().unwrap());
    }
}

fn halves(e: Encoding) {
    let (n, k) = (40, 300);
    let case = Case::new(e, n, k, Granularity::Channel, 9);
    for m in [1, 6, 20] {
        let a = Random(3).floats(m * k);
        let half: Vec<f16> = a.iter().map(|&x| f16::from_f32(x * 1e-4)).collect();
        let brain: Vec<bf16> = a.iter().map(|&x| bf16::from_f32(x * 1e30)).collect();
        let half_floats: Vec<f32> = half.iter().map(|x| x.to_f32()).collect();
        let brain_floats: Vec<f32> = brain.iter().map(|x| x.to_f32()).collect();
        for isa in Isa::available() {
            let plan = case.plan(isa);
            let got = run(&plan, &half, m, Par::Caller);
            same(&got, &case.oracle(&half_floats), &format!("{isa} f16"));
            let got = run(&plan, &brain, m, Par::Caller);
            same(&got, &case.oracle(&brain_floats), &format!("{isa} bf16"));
        }
    }
}

#[test]
fn what_is_not_a_number_flows() {
    let special = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        -f32::MAX,
        f32::MIN_POSITIVE / 8.0,
        -0.0,
    ];
    for e in all() {
        for granularity in [Granularity::Channel, Granularity::Group(32)] {
            let (n, m, k) = (19, 14, 77);
            let case = Case::new(e, n, k, granularity, 5);
            let mut a = Random(8).floats(m * k);
            for (row, special) in special.into_iter().enumerate() {
                a[row * k + 3 * row] = special;
                a[(row + 7) * k..][..k].fill(special);
            }
            a[k + 60] = f32::NEG_INFINITY;
            let expected = case.oracle(&a);
            for isa in Isa::available() {
                let plan = case.plan(isa);
                let what = format!("{isa} {e} {granularity:?}");
                same(&run(&plan, &a, m, Par::Caller), &expected, &what);
                for row in 0..m {
                    let got = run_rows(&plan, &a, m, row..row + 1, Par::Caller);
                    same(&got, &expected[row * n..][..n], &what);
                }
            }
        }
    }
}

/// The largest integers, whose sums are exact until 2^24 and rounded beyond.
#[test]
fn the_largest_integers_are_exact() {
    for (e, value) in [
        ("u8", 255),
        ("s8", -128),
        ("s8", 127),
        ("u4", 15),
        ("s4", -8),
    ] {
        let e: Encoding = e.parse().unwrap();
        let (n, k) = (3, 900);
        let weights = PackedMatrix::pack(e, n, k, &vec![value; n * k]).unwrap();
        let scales = Scales::new(Granularity::Tensor, vec![1f32]).unwrap();
        for isa in Isa::available() {
            let plan = WeightOnlyGemm::on(isa, weights.view(), &scales, None).unwrap();
            for m in [1, 9] {
                let got = run(&plan, &vec![1f32; m * k], m, Par::Caller);
                assert_eq!(got, vec![(value * k as i32) as f32; m * n], "{isa} {e}");
            }
        }
    }
}

#[test]
fn nothing_times_something_is_the_bias() {
    for isa in Isa::available() {
        for granularity in [Granularity::Channel, Granularity::Group(64)] {
            let case = Case::new(Encoding::Bipolar, 5, 0, granularity, 3);
            let plan = case.plan(isa);
            let bias = case.bias.clone().unwrap();
            for m in [0, 1, 30] {
                assert_eq!(run::<f32>(&plan, &[], m, Par::Caller), bias.repeat(m));
            }
        }
        let none = Case::new(Encoding::Ternary, 0, 9, Granularity::Channel, 0).plan(isa);
        assert!(run(&none, &[1f32; 180], 20, Par::Caller).is_empty());
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let case = Case::new(Encoding::Bipolar, 5, 40, Granularity::Channel, 3);
    let plan = case.plan(Isa::Portable);
    let a = vec![1f32; 20 * 40];
    let mut scratch = vec![0f32; plan.scratch_len(20)];
    let mut refused = |a: &[f32], m, rows: Range<usize>, len: usize, scratch_len: usize| {
        let mut out = vec![7f32; len];
        let said = plan.run(
            a,
            m,
            rows,
            &mut out,
            &mut scratch[..scratch_len],
            Par::Caller,
        );
        assert!(out.iter().all(|&x| x == 7.0));
        said.unwrap_err().to_string()
    };
    let all = plan.scratch_len(20);
    assert!(refused(&a, 19, 0..19, 95, all).starts_with("activations is 800 elements long"));
    assert!(refused(&a, usize::MAX, 0..1, 5, all).starts_with("activations is"));
    assert!(refused(&a, 20, 0..21, 105, all).contains("inside 0..20"));
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 3..2;
    assert!(refused(&a, 20, reversed, 0, all).contains("inside 0..20"));
    assert!(refused(&a, 20, 0..20, 99, all).starts_with("out is 99 elements long"));
    assert!(refused(&a, 20, 0..20, 100, all - 1).starts_with("scratch is"));
    let bad = |scales, bias| {
        let scales = Scales::new(Granularity::Channel, vec![1f32; scales]).unwrap();
        let plan = WeightOnlyGemm::on(Isa::Portable, case.weights.view(), &scales, bias);
        plan.unwrap_err().to_string()
    };
    assert!(bad(4, None).starts_with("scales is 4 elements long; expected 5"));
    assert!(bad(5, Some(vec![0.0; 6])).starts_with("bias is 6 elements long; expected 5"));
}

#[test]
fn weights_stay_packed_and_plans_tell_what_runs() {
    for isa in Isa::available() {
        for (e, bits) in [("bipolar", 1), ("ternary", 2), ("s3", 4), ("u8", 8)] {
            let (n, k) = (256, 1024);
            let case = Case::new(e.parse().unwrap(), n, k, Granularity::Tensor, 1);
            let plan = case.plan(isa);
            assert_eq!(
                plan.prepacked_bytes(),
                // And a line behind them.
                n * k * bits / 8 + 64 + 4 * n,
                "{isa} {e}"
            );
            let said = plan.describe();
            assert!(said.starts_with(isa.name()), "{said}");
            assert!(said.contains(&format!("fields of {bits} bit")), "{said}");
        }
    }
}
