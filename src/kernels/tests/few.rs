//! Tiles of few rows, which take several planes or steps side by side.

use super::*;

/// Every pair of encodings through the tile of every number of rows.
#[test]
fn few_rows_equal_the_oracle() {
    each_isa(|kernels| {
        for m in 1..=9 {
            for we in weights() {
                for e in activations() {
                    let k = [5, 33, 61, 130, 67][(m + we.planes() + e.planes()) % 5];
                    check_product(kernels, we, e, [m, 2 * kernels.nr() + m, k], m as u64);
                }
            }
            let all = weights().into_iter().step_by(2).chain([Encoding::Ternary]);
            for (case, we) in all.enumerate() {
                for e in byte_activations() {
                    let k = [1, 4, 15, 16, 17, 20, 29, 130][(m + case + e.planes()) % 8];
                    check_bytes(kernels, we, e, [m, 66 + m, k]);
                }
            }
        }
    });
}

pub(super) fn check_bytes(kernels: &Kernels, we: Encoding, e: Encoding, [m, n, k]: [usize; 3]) {
    let (w, a) = (random(we, n * k, 7), random(e, m * k, 31));
    let packed_w = PackedMatrix::pack(we, n, k, &w).unwrap();
    let packed_a = PackedMatrix::pack(e, m, k, &a).unwrap();
    if let Some(got) = byte_product(kernels, &packed_w, &packed_a) {
        let got: Vec<i64> = got.into_iter().map(i64::from).collect();
        let name = kernels.isa();
        let expected = oracle(&w, &a, n, m, k);
        assert_eq!(got, expected, "{name} {we} x {e} {m}x{n}x{k}");
    }
}

/// Fields that are summed together at their worst, on each side of the K where they must be told apart, and where tiles
/// leave off for what comes behind it.
#[test]
fn nested_sums_survive_their_worst_case() {
    let of = |bits| {
        [
            Encoding::unsigned(bits).unwrap(),
            Encoding::signed(bits).unwrap(),
        ]
    };
    each_isa(|kernels| {
        for k in [1 << 16, (1 << 16) + 4, (1 << 17) + 9] {
            for we in of(2).into_iter().chain(of(4)) {
                for e in of(8) {
                    for (w, a) in [
                        (we.max(), e.max()),
                        (we.min(), e.min()),
                        (we.max(), e.min()),
                    ] {
                        let n = 9 * kernels.byte_kernel().map_or(1, |kernel| kernel.lanes) / 8;
                        let packed_w = constant(we, n, k, w);
                        // A tile of as many rows as there are, and one of a single row.
                        let packed_a = constant(e, 6, k, a);
                        if let Some(got) = byte_product(kernels, &packed_w, &packed_a) {
                            let (name, expected) = (kernels.isa(), w * a * k as i32);
                            let right = got.iter().all(|&v| v == expected);
                            assert!(right, "{name} {we} x {e} {w}*{a} k={k}");
                        }
                    }
                }
            }
        }
    });
}
