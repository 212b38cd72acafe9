//! GEMM plans against the naive product: any shape, range, number of threads and ISA, and what is refused.

use super::*;
use crate::bits::{ByteRef, PackedMatrix};
use crate::ops::Pool;
use proptest::prelude::*;

mod scales;

fn codes(e: Encoding, rows: usize, cols: usize, seed: u64) -> PackedMatrix {
    let values: Vec<i32> = (0..=255).filter_map(|c| e.decode(c)).collect();
    let at = |i: usize| ((i as u64 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize;
    let values: Vec<i32> = (0..rows * cols)
        .map(|i| values[at(i) % values.len()])
        .collect();
    PackedMatrix::pack(e, rows, cols, &values).unwrap()
}

fn naive(w: &PackedMatrix, a: &PackedMatrix) -> Vec<i32> {
    let (wv, av, k) = (w.unpack(), a.unpack(), w.cols());
    let dot = |m: usize, n: usize| (0..k).map(|c| wv[n * k + c] * av[m * k + c]).sum();
    (0..a.rows() * w.rows())
        .map(|i| dot(i / w.rows(), i % w.rows()))
        .collect()
}

/// Every encoding that a name can have, by number.
fn encoding(i: usize) -> Encoding {
    match i {
        0 => Encoding::Bipolar,
        1..=8 => Encoding::unsigned(i).unwrap(),
        9..=16 => Encoding::signed(i - 8).unwrap(),
        _ => Encoding::Ternary,
    }
}

proptest! {
    #[test]
    fn any_pair_any_shape_any_range_any_threads(
        m in 0usize..40, n in 0usize..80, k in 0usize..200, we in 0usize..18, e in 0usize..17, seed: u64,
        threads in 1usize..4,
    ) {
        let (we, e) = (encoding(we), encoding(e));
        let (w, a) = (codes(we, n, k, seed), codes(e, m, k, seed ^ 77));
        let expected = naive(&w, &a);
        let pool = Pool::new(threads).unwrap();
        let rows = m / 3..m - m / 4;
        let bytes: Vec<u8> = a.unpack().iter().map(|&v| v as u8).collect();
        let ways = [None, Some(Way::Bits), Some(Way::Bytes), Some(Way::Tables)];
        for (isa, way) in Isa::available().flat_map(|isa| ways.map(|way| (isa, way))) {
            let served = match way {
                Some(Way::Bytes) => e != Encoding::Bipolar,
                Some(Way::Tables) => we.planes() <= 2,
                _ => true,
            };
            if !served {
                continue;
            }
            let gemm = Gemm::by(way, isa, w.view(), e, Epilogue::None).unwrap();
            let mut scratch = vec![7; gemm.scratch_len(rows.len())];
            let mut out = vec![7; rows.len() * n];
            gemm.run_i32(a.view(), rows.clone(), &mut out, &mut scratch, Par::Pool(&pool)).unwrap();
            prop_assert_eq!(&out, &expected[rows.start * n..rows.end * n]);
            if e != Encoding::Bipolar {
                let bytes = ByteRef::new(e, m, k, &bytes).unwrap();
                out.fill(9);
                let mut scratch = vec![7; gemm.scratch_len_bytes(rows.len())];
                gemm.run_i32(bytes, rows.clone(), &mut out, &mut scratch, Par::Pool(&pool)).unwrap();
                prop_assert_eq!(&out, &expected[rows.start * n..rows.end * n]);
            }
        }
    }
}

/// Channels enough for tables, and rows on each side of the number up to which some ISAs have popcounts beside them.
#[test]
fn few_rows_beside_tables_are_the_sums_of_many() {
    let (m, k) = (20, 131);
    for (n, e, zero_point) in [
        (520, Encoding::Bipolar, 0),
        (270, Encoding::unsigned(3).unwrap(), 5),
        (201, Encoding::unsigned(4).unwrap(), 7),
        (201, Encoding::signed(4).unwrap(), -3),
        (520, Encoding::unsigned(8).unwrap(), 100),
        (545, Encoding::signed(5).unwrap(), 4),
    ] {
        let (w, a) = (codes(Encoding::Bipolar, n, k, 1), codes(e, m, k, 2));
        let (wide, sums) = (w.unpack(), naive(&w, &a));
        let expected: Vec<i32> = (0..m * n)
            .map(|i| sums[i] - zero_point * wide[i % n * k..][..k].iter().sum::<i32>())
            .collect();
        let bytes: Vec<u8> = a.unpack().iter().map(|&v| v as u8).collect();
        for isa in Isa::available() {
            let gemm = Gemm::make(None, isa, w.view(), e, zero_point, Epilogue::None).unwrap();
            for rows in [1, 2, 6, 7, 16, 17, 20] {
                let mut out = vec![7; rows * n];
                let mut scratch = vec![7; gemm.scratch_len(rows)];
                gemm.run_i32(a.view(), 0..rows, &mut out, &mut scratch, Par::Caller)
                    .unwrap();
                assert_eq!(out, expected[..rows * n], "{isa} {e} {rows} rows");
                if e != Encoding::Bipolar {
                    let bytes = ByteRef::new(e, m, k, &bytes).unwrap();
                    out.fill(9);
                    let mut scratch = vec![7; gemm.scratch_len_bytes(rows)];
                    gemm.run_i32(bytes, 0..rows, &mut out, &mut scratch, Par::Caller)
                        .unwrap();
                    assert_eq!(out, expected[..rows * n], "{isa} {e} {rows} rows of bytes");
                }
            }
        }
    }
}

#[test]
fn splitting_among_threads_changes_nothing() {
    // Big enough to be split, odd enough to leave tails; one shape splits by rows, one by panels.
    let shapes = [(601, 333, 700), (5, 3001, 4099)];
    let cases = shapes
        .into_iter()
        .flat_map(|s| [(s, Way::Bits, 2), (s, Way::Tables, 4)]);
    for ((m, n, k), way, bits) in cases {
        let e = Encoding::unsigned(bits).unwrap();
        let (w, a) = (codes(Encoding::Bipolar, n, k, 1), codes(e, m, k, 2));
        let scale: Vec<f32> = (0..n).map(|i| 0.5 + i as f32 / 97.0).collect();
        let epilogue = Epilogue::ScaleBias {
            bias: scale.clone(),
            scale,
        };
        let gemm = Gemm::by(Some(way), Isa::best(), w.view(), e, epilogue).unwrap();
        let mut scratch = vec![0; gemm.scratch_len(m)];
        let (mut ints, mut floats) = (vec![0; m * n], vec![0.0; m * n]);
        gemm.run_i32(a.view(), 0..m, &mut ints, &mut scratch, Par::Caller)
            .unwrap();
        gemm.run_f32(a.view(), 0..m, &mut floats, &mut scratch, Par::Caller)
            .unwrap();
        let some: Vec<usize> = (0..m * n).step_by(4001).collect();
        let expected = naive(&w, &a);
        assert!(some.iter().all(|&i| ints[i] == expected[i]));
        let scaled = |i: usize| expected[i] as f32 * (0.5 + (i % n) as f32 / 97.0);
        let dressed = |i: usize| scaled(i) + (0.5 + (i % n) as f32 / 97.0);
        assert!(some.iter().all(|&i| floats[i] == dressed(i)));
        for threads in 2..=5 {
            let pool = Pool::new(threads).unwrap();
            let (mut i2, mut f2) = (vec![1; m * n], vec![1.0; m * n]);
            gemm.run_i32(a.view(), 0..m, &mut i2, &mut scratch, Par::Pool(&pool))
                .unwrap();
            gemm.run_f32(a.view(), 0..m, &mut f2, &mut scratch, Par::Pool(&pool))
                .unwrap();
            assert!(i2 == ints && f2 == floats, "{threads} threads");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let (u4, w) = (
        Encoding::unsigned(4).unwrap(),
        codes(Encoding::Bipolar, 3, 40, 1),
    );
    let new =
        |w: &PackedMatrix, e| Gemm::new(w.view(), e, Epilogue::None).map_err(|e| e.to_string());
    assert_eq!(
        new(&w, Encoding::Ternary).unwrap_err(),
        "activation is ternary; expected bipolar, u1..u8 or s1..s8"
    );
    let epilogue = Epilogue::ScaleBias {
        scale: vec![1.0; 2],
        bias: vec![1.0; 3],
    };
    let said = Gemm::new(w.view(), u4, epilogue).unwrap_err().to_string();
    assert_eq!(said, "scale is 2 elements long; expected 3 (N)");

    let gemm = new(&w, u4).unwrap();
    let (a, b) = (codes(u4, 2, 40, 3), codes(u4, 2, 41, 3));
    let run = |a: &PackedMatrix, rows, out: usize, scratch: usize| {
        let (mut out, mut scratch) = (vec![9; out], vec![9; scratch]);
        let said = gemm.run_i32(a.view(), rows, &mut out, &mut scratch, Par::Caller);
        assert!(out.iter().all(|&o| o == 9), "written");
        said.unwrap_err().to_string()
    };
    assert_eq!(
        run(&b, 0..2, 6, 99),
        "K of the activations is 41; expected 40"
    );
    assert_eq!(
        run(&w, 0..2, 6, 99),
        "activations is bipolar; expected u4 codes, as the plan says"
    );
    assert_eq!(
        run(&a, 0..3, 9, 99),
        "rows is 0..3; expected a range inside 0..2"
    );
    assert_eq!(
        run(&a, 0..2, 5, 99),
        "out is 5 elements long; expected 6 (rows x N)"
    );
    // Popcounts take planes as they are; with bytes every way to do a product needs some.
    let bytes = ByteRef::new(u4, 2, 40, &[3; 80]).unwrap();
    let said = gemm.run_i32(bytes, 0..2, &mut [9; 6], &mut [9], Par::Caller);
    assert_eq!(
        said.unwrap_err().to_string(),
        format!(
            "scratch is 1 elements long; expected at least {}",
            gemm.scratch_len_bytes(2)
        )
    );
    let said = gemm
        .run_f32(a.view(), 0..2, &mut [0.0; 6], &mut [0; 99], Par::Caller)
        .unwrap_err();
    assert_eq!(
        said.to_string(),
        "epilogue is none; expected scale and bias for a result in f32"
    );
}

#[test]
fn k_beyond_the_bound_is_refused_and_at_the_bound_is_exact() {
    let u8s = Encoding::unsigned(8).unwrap();
    let max = Gemm::max_k(Encoding::Bipolar, u8s).unwrap();
    assert_eq!(max, 8_421_504);
    assert_eq!(
        Gemm::max_k(Encoding::Bipolar, Encoding::Bipolar).unwrap(),
        i32::MAX as usize
    );
    let plus = PackedMatrix::pack(Encoding::Bipolar, 1, max + 1, &vec![1; max + 1]).unwrap();
    let said = Gemm::new(plus.view(), u8s, Epilogue::None)
        .unwrap_err()
        .to_string();
    assert_eq!(
        said,
        "K is 8421505; expected at most 8421504 for bipolar x u8, or i32 sums overflow"
    );
    for (sign, expected) in [(1, 255 * max as i32), (-1, -255 * max as i32)] {
        let w = PackedMatrix::pack(Encoding::Bipolar, 1, max, &vec![sign; max]).unwrap();
        let a = PackedMatrix::pack(u8s, 1, max, &vec![255; max]).unwrap();
        for isa in Isa::available() {
            let gemm = Gemm::on(isa, w.view(), u8s, Epilogue::None).unwrap();
            let mut out = [0];
            let mut scratch = vec![0; gemm.scratch_len(1)];
            gemm.run_i32(a.view(), 0..1, &mut out, &mut scratch, Par::Caller)
                .unwrap();
            assert_eq!(out[0], expected, "{isa}");
        }
    }
}
