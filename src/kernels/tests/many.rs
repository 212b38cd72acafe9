//! So many rows that fields of weights are made bytes first, block by block of K.

use super::*;

/// Rows on each side of the numbers from which on that is done, K on each side of a block and of two (512 columns for
/// 16 lanes, 1024 for 8, 2048 for 4), and panels with channels missing.
#[test]
fn many_rows_equal_the_oracle() {
    let rows = [15, 16, 17, 63, 64, 65, 95, 96, 97];
    let columns = [0, 3, 67, 512, 513, 1024, 1029, 1037, 2048, 2049, 2061];
    each_isa(|kernels| {
        for (case, (&m, &k)) in rows.iter().cycle().zip(&columns).enumerate() {
            let all = weights().into_iter().filter(|w| w.planes() <= 4);
            for (i, we) in all.enumerate().filter(|(i, _)| (i + case) % 3 == 0) {
                for e in [
                    Encoding::unsigned(8).unwrap(),
                    Encoding::signed(8).unwrap(),
                    Encoding::signed(5).unwrap(),
                ] {
                    few::check_bytes(kernels, we, e, [m, [64, 70, 35][i % 3], k]);
                }
            }
        }
    });
}

/// The largest codes of fields in bytes, where counters are widened and where blocks end.
#[test]
fn many_rows_survive_their_worst_case() {
    let (u8s, s8) = (Encoding::unsigned(8).unwrap(), Encoding::signed(8).unwrap());
    each_isa(|kernels| {
        for k in [16, 20, 68, 84, 340, 1024, 2052] {
            for we in weights().into_iter().filter(|w| w.planes() <= 4) {
                for (e, w, a) in [
                    (u8s, we.max(), u8s.max()),
                    (u8s, we.min(), u8s.max()),
                    (s8, we.max(), s8.min()),
                    (s8, we.min(), s8.min()),
                ] {
                    let m = 97;
                    let packed_w = constant(we, 3, k, w);
                    let packed_a = constant(e, m, k, a);
                    if let Some(got) = byte_product(kernels, &packed_w, &packed_a) {
                        let (name, expected) = (kernels.isa(), w * a * k as i32);
                        let right = got.iter().all(|&v| v == expected);
                        assert!(right, "{name} {we} x {e} {w}*{a} k={k}");
                    }
                }
            }
        }
    });
}
