//! Every kernel of every ISA against the naive oracle, at every boundary length.
//!
//! The oracle is below, and it is the definition: integers from the packed form, one multiplication after
//! the other. An ISA that this machine lacks is named as skipped.

use super::*;
use crate::bits::PackedMatrix;

mod few;
mod lut;
mod many;
mod quantize;

/// The product of integers `[n, k]` and `[m, k]` as `[m, n]`, in i64 so that it cannot overflow.
fn oracle(w: &[i32], a: &[i32], n: usize, m: usize, k: usize) -> Vec<i64> {
    let dot = |i: usize, j: usize| {
        (0..k)
            .map(|c| i64::from(w[j * k + c]) * i64::from(a[i * k + c]))
            .sum()
    };
    (0..m * n).map(|at| dot(at / n, at % n)).collect()
}

/// Pseudo-random integers of an encoding.
fn random(e: Encoding, count: usize, seed: u64) -> Vec<i32> {
    let values: Vec<i32> = (0..=255).filter_map(|c| e.decode(c)).collect();
    (0..count as u64)
        .map(|i| {
            let x = (i ^ seed << 32)
                .wrapping_add(0x9E37_79B9_7F4A_7C15)
                .wrapping_mul(0xBF58_476D_1CE4_E5B9);
            values
                [((x ^ x >> 31).wrapping_mul(0x94D0_49BB_1331_11EB) >> 33) as usize % values.len()]
        })
        .collect()
}

/// A matrix of one value. Only a row is packed: large ones are made by the thousand.
fn constant(e: Encoding, rows: usize, cols: usize, value: i32) -> PackedMatrix {
    let row = PackedMatrix::pack(e, 1, cols, &vec![value; cols]).unwrap();
    PackedMatrix::from_words(e, rows, cols, row.words().repeat(rows)).unwrap()
}

/// Runs `check` on every ISA that is here, and names those that are not.
fn each_isa(check: impl Fn(&Kernels)) {
    for isa in Isa::ALL {
        match Kernels::of(isa) {
            Ok(kernels) => check(kernels),
            Err(_) => println!("skipped: {isa} is not on this machine"),
        }
    }
}

/// 0 and 1, each side of a word, of a vector, of a flush of byte counters (31 words), and a few more.
const LENGTHS: [usize; 22] = [
    0, 1, 2, 31, 32, 33, 63, 64, 65, 95, 127, 128, 129, 255, 256, 257, 991, 992, 993, 1023, 1985,
    2049,
];

fn activations() -> Vec<Encoding> {
    let mut all = vec![Encoding::Bipolar];
    all.extend((1..=8).map(|b| Encoding::unsigned(b).unwrap()));
    all.extend((1..=8).map(|b| Encoding::signed(b).unwrap()));
    all
}

fn weights() -> Vec<Encoding> {
    let mut all = activations();
    all.push(Encoding::Ternary);
    all
}

/// Runs a whole product, panel by panel, into a matrix wider than it needs so that a stray write shows.
fn product(kernels: &Kernels, w: &PackedMatrix, a: &PackedMatrix) -> Vec<i32> {
    let (n, m) = (w.rows(), a.rows());
    let weights = BitWeights::new(w.view(), a.encoding(), kernels.nr()).unwrap();
    const GUARD: i32 = 0x5A5A_5A5A;
    let wide = n + 3;
    let mut out = vec![GUARD; m * wide];
    let at_once = 1 + m % 3;
    for panel in (0..weights.len()).step_by(at_once) {
        let all = MatMut::new("out", &mut out, m, wide).unwrap();
        let (_, rest) = all.split_cols(panel * kernels.nr());
        let (mine, _) = rest.split_cols((at_once * kernels.nr()).min(n - panel * kernels.nr()));
        kernels.bitgemm(&weights, panel, a.view().into(), Out::I32(mine));
    }
    let clean = out
        .chunks(wide)
        .all(|row| row[n..].iter().all(|&g| g == GUARD));
    assert!(clean, "a write behind the row");
    out.chunks(wide).flat_map(|row| row[..n].to_vec()).collect()
}

fn check_product(kernels: &Kernels, we: Encoding, e: Encoding, [m, n, k]: [usize; 3], seed: u64) {
    let (w, a) = (random(we, n * k, seed), random(e, m * k, seed + 99));
    let packed_w = PackedMatrix::pack(we, n, k, &w).unwrap();
    let packed_a = PackedMatrix::pack(e, m, k, &a).unwrap();
    let got = product(kernels, &packed_w, &packed_a);
    let got: Vec<i64> = got.into_iter().map(i64::from).collect();
    let name = kernels.isa();
    assert_eq!(
        got,
        oracle(&w, &a, n, m, k),
        "{name} {we} x {e} {m}x{n}x{k}"
    );
}

#[test]
fn bit_gemm_equals_the_oracle_at_all_lengths() {
    each_isa(|kernels| {
        let (mr, nr) = (kernels.mr(), kernels.nr());
        for (case, &k) in LENGTHS.iter().enumerate() {
            for we in [Encoding::Bipolar, Encoding::Ternary] {
                for e in activations() {
                    for (m, n) in [(1, nr), (mr - 1, 1), (mr + 1, nr + 1)] {
                        check_product(kernels, we, e, [m, n, k], case as u64);
                    }
                }
            }
        }
    });
}

#[test]
fn every_pair_of_encodings_is_served() {
    each_isa(|kernels| {
        let (mr, nr) = (kernels.mr(), kernels.nr());
        for we in weights() {
            for e in activations() {
                for k in [0, 1, 31, 33, 64, 993] {
                    check_product(kernels, we, e, [mr + 1, nr + 3, k], k as u64);
                }
            }
        }
    });
}

#[test]
fn every_number_of_rows_and_lanes_is_served() {
    let (u3, ternary) = (Encoding::unsigned(3).unwrap(), Encoding::Ternary);
    let pairs = [
        (Encoding::Bipolar, u3),
        (ternary, Encoding::Bipolar),
        (Encoding::Bipolar, Encoding::Bipolar),
    ];
    each_isa(|kernels| {
        for m in 0..=2 * kernels.mr() {
            for n in 0..=2 * kernels.nr() + 1 {
                let (we, e) = pairs[(m + n) % 3];
                check_product(kernels, we, e, [m, n, 77], 5);
            }
        }
    });
}

/// Byte counters at their worst: every bit set, K on each side of a flush; a counter that is widened a
/// step late wraps here.
#[test]
fn accumulators_survive_their_worst_case() {
    let s8 = Encoding::signed(8).unwrap();
    let u8s = Encoding::unsigned(8).unwrap();
    let lengths = [
        31 * 32 - 1,
        31 * 32,
        31 * 32 + 1,
        32 * 32,
        33 * 32,
        62 * 32,
        62 * 32 + 1,
        8192,
        65_536,
    ];
    each_isa(|kernels| {
        let (m, n) = (kernels.mr() + 1, kernels.nr() + 1);
        for k in lengths {
            let bipolar = activations().into_iter().map(|e| (Encoding::Bipolar, e));
            let others = [
                (s8, s8),
                (s8, u8s),
                (u8s, s8),
                (Encoding::Ternary, s8),
                (Encoding::Ternary, Encoding::Bipolar),
            ];
            for (we, e) in bipolar.chain(others) {
                if k > 8192 && we.planes() * e.planes() > 8 {
                    continue;
                }
                for (w, a) in [
                    (we.max(), e.max()),
                    (we.min(), e.max()),
                    (we.max(), e.min()),
                    (we.min(), e.min()),
                ] {
                    let packed_w = constant(we, n, k, w);
                    let packed_a = constant(e, m, k, a);
                    let expected = w * a * k as i32;
                    let got = product(kernels, &packed_w, &packed_a);
                    let name = kernels.isa();
                    assert!(
                        got.iter().all(|&v| v == expected),
                        "{name} {we} x {e} {w}*{a} k={k}"
                    );
                }
            }
        }
    });
}

#[test]
fn scale_and_bias_are_the_same_floats_everywhere() {
    let (m, n, k) = (13, 67, 300);
    let e = Encoding::unsigned(4).unwrap();
    let w = PackedMatrix::pack(
        Encoding::Bipolar,
        n,
        k,
        &random(Encoding::Bipolar, n * k, 1),
    )
    .unwrap();
    let a = PackedMatrix::pack(e, m, k, &random(e, m * k, 2)).unwrap();
    let scale: Vec<f32> = (0..n).map(|j| 0.001 + j as f32 / 7.0).collect();
    let bias: Vec<f32> = (0..n).map(|j| (j as f32 - 30.0) / 3.0).collect();
    let sums = oracle(&w.unpack(), &a.unpack(), n, m, k);
    let expected: Vec<f32> = (0..m * n)
        .map(|i| sums[i] as f32 * scale[i % n] + bias[i % n])
        .collect();
    each_isa(|kernels| {
        let nr = kernels.nr();
        let weights = BitWeights::new(w.view(), e, nr).unwrap();
        let mut out = vec![f32::NAN; m * n];
        for panel in 0..weights.len() {
            let lanes = nr.min(n - panel * nr);
            let pad = |v: &[f32]| {
                let mut v = v[panel * nr..][..lanes].to_vec();
                v.resize(nr, 0.0);
                v
            };
            let all = MatMut::new("out", &mut out, m, n).unwrap();
            let (mine, _) = all.split_cols(panel * nr).1.split_cols(lanes);
            let (scale, bias) = (&pad(&scale)[..], &pad(&bias)[..]);
            let out = Out::F32 {
                out: mine,
                scale,
                bias,
            };
            kernels.bitgemm(&weights, panel, a.view().into(), out);
        }
        let same = out
            .iter()
            .zip(&expected)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{}", kernels.isa());
    });
}

#[test]
fn bytes_pack_into_planes() {
    each_isa(|kernels| {
        for k in LENGTHS {
            for bits in 1..=8 {
                let e = Encoding::unsigned(bits).unwrap();
                let values = random(e, k, bits as u64);
                let codes: Vec<u8> = values.iter().map(|&v| v as u8).collect();
                let mut got = PackedMatrix::zeros(e, 1, k).unwrap();
                kernels.pack(&codes, bits, got.words_mut());
                assert_eq!(got.unpack(), values, "{} u{bits} k={k}", kernels.isa());
                let mut sum = [0];
                kernels.row_sums(got.view(), &mut sum);
                assert_eq!(sum[0], values.iter().sum::<i32>());
            }
        }
    });
}

#[test]
fn thresholds_count_levels() {
    each_isa(|kernels| {
        for n in [0usize, 1, 31, 32, 33, 65, 256] {
            for bits in [1, 2, 4, 8] {
                let (levels, padded) = ((1usize << bits) - 1, n.div_ceil(32) * 32);
                let rows = 3;
                let number = |i: usize| (i as i32 * 7919) % 601 - 300;
                let sums: Vec<i32> = (0..rows * n).map(number).collect();
                let mut flip = vec![0u32; padded / 32];
                (0..padded)
                    .step_by(3)
                    .for_each(|j| flip[j / 32] |= 1 << (j % 32));
                let extremes = [i32::MIN, i32::MAX];
                let thresholds: Vec<i32> = (0..levels * padded)
                    .map(|i| match (i / padded, i % padded) {
                        (_, j) if j % 7 == 6 => extremes[j % 2],
                        (level, j) => {
                            let t = level as i32 * 600 / levels as i32 - 300 + j as i32 % 5;
                            // Flipped thresholds fall.
                            if j % 3 == 0 { -t } else { t }
                        }
                    })
                    .collect();
                let expected: Vec<i32> = (0..rows * n)
                    .map(|i| {
                        let j = i % n;
                        (0..levels)
                            .filter(|l| (sums[i] > thresholds[l * padded + j]) ^ (j % 3 == 0))
                            .count() as i32
                    })
                    .collect();
                let e = Encoding::unsigned(bits).unwrap();
                let mut got = PackedMatrix::zeros(e, rows, n).unwrap();
                kernels.requantize(&sums, n, &thresholds, &flip, bits, got.words_mut());
                assert_eq!(got.unpack(), expected, "{} u{bits} n={n}", kernels.isa());
            }
        }
    });
}

/// Runs a whole product by the byte kernel, from bytes padded to four, or `None` if the ISA has none.
fn byte_product(kernels: &Kernels, w: &PackedMatrix, a: &PackedMatrix) -> Option<Vec<i32>> {
    let kernel = kernels.byte_kernel()?;
    let (n, m, signed) = (w.rows(), a.rows(), a.encoding().min() < 0);
    let weights = ByteWeights::new(w.view(), signed, kernel).unwrap();
    let stride = weights.row_bytes();
    let mut bytes = vec![0xAA; m * stride];
    kernels.unpack(a.view(), stride, &mut bytes);
    let mut sums = vec![0; if weights.base() == 0 { 0 } else { m }];
    if !sums.is_empty() {
        kernels.byte_sums(&bytes, stride, signed, weights.base(), &mut sums);
    }
    const GUARD: i32 = 0x5A5A_5A5A;
    let wide = n + 3;
    let mut out = vec![GUARD; m * wide];
    let at_once = 1 + m % 3;
    for panel in (0..weights.len()).step_by(at_once) {
        let all = MatMut::new("out", &mut out, m, wide).unwrap();
        let (_, rest) = all.split_cols(panel * weights.nr());
        let (mine, _) = rest.split_cols((at_once * weights.nr()).min(n - panel * weights.nr()));
        kernel.run(&weights, panel, &bytes, stride, &sums, Out::I32(mine));
    }
    let clean = out
        .chunks(wide)
        .all(|row| row[n..].iter().all(|&g| g == GUARD));
    assert!(clean, "a write behind the row");
    Some(out.chunks(wide).flat_map(|row| row[..n].to_vec()).collect())
}

fn byte_activations() -> impl Iterator<Item = Encoding> {
    let all = (1..=8).flat_map(|b| [Encoding::unsigned(b).unwrap(), Encoding::signed(b).unwrap()]);
    all.into_iter()
}

#[test]
fn byte_gemm_equals_the_oracle_for_every_pair() {
    each_isa(|kernels| {
        for (case, we) in weights().into_iter().enumerate() {
            for e in byte_activations() {
                for (m, n, k) in [
                    (1, 5, 0),
                    (1, 65, 1),
                    (3, 33, 3),
                    (5, 64, 4),
                    (6, 70, 5),
                    (11, 129, 131),
                ] {
                    let (w, a) = (random(we, n * k, case as u64), random(e, m * k, 31));
                    let packed_w = PackedMatrix::pack(we, n, k, &w).unwrap();
                    let packed_a = PackedMatrix::pack(e, m, k, &a).unwrap();
                    let Some(got) = byte_product(kernels, &packed_w, &packed_a) else {
                        continue;
                    };
                    let got: Vec<i64> = got.into_iter().map(i64::from).collect();
                    let name = kernels.isa();
                    assert_eq!(
                        got,
                        oracle(&w, &a, n, m, k),
                        "{name} {we} x {e} {m}x{n}x{k}"
                    );
                }
            }
        }
    });
}

/// Lanes of 16 bits at their worst: largest codes of every width, K on each side of each flush (4 and 17 steps
/// of four columns for fields of 4 bits, 21 and 85 for 2 bits). Counters widened late, as in a published ternary
/// kernel that adds 128 such products, wrap or saturate here.
#[test]
fn byte_accumulators_survive_their_worst_case() {
    let (u8s, s8) = (Encoding::unsigned(8).unwrap(), Encoding::signed(8).unwrap());
    each_isa(|kernels| {
        for k in [
            15, 16, 17, 20, 67, 68, 69, 83, 84, 85, 88, 339, 340, 341, 1023, 4096,
        ] {
            for we in weights() {
                for e in [u8s, s8] {
                    for (w, a) in [
                        (we.max(), e.max()),
                        (we.min(), e.max()),
                        (we.max(), e.min()),
                        (we.min(), e.min()),
                    ] {
                        let packed_w = constant(we, 3, k, w);
                        let packed_a = constant(e, 2, k, a);
                        let Some(got) = byte_product(kernels, &packed_w, &packed_a) else {
                            continue;
                        };
                        let (name, expected) = (kernels.isa(), w * a * k as i32);
                        assert!(
                            got.iter().all(|&v| v == expected),
                            "{name} {we} x {e} {w}*{a} k={k}"
                        );
                    }
                }
            }
        }
    });
}
