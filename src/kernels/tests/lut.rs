//! The table GEMM of every ISA that has one, against the oracle.

use super::*;

/// Runs a whole product by the table kernel, as integers and as floats of them, or `None` if the ISA has none.
fn lut_product(kernels: &Kernels, w: &PackedMatrix, a: &PackedMatrix) -> Option<Vec<i32>> {
    let kernel = kernels.lut_kernel(w.encoding(), a.encoding())?;
    let (n, m) = (w.rows(), a.rows());
    let weights = LutWeights::new(w.view(), a.encoding(), kernel).unwrap();
    let (stride, nr) = (weights.row_bytes(), weights.nr());
    let mut bytes = vec![0xAA; m * stride];
    kernels.unpack(a.view(), stride, &mut bytes);
    let mut sums = vec![0; if weights.row_factor() == 0 { 0 } else { m }];
    if !sums.is_empty() {
        kernels.byte_sums(
            &bytes,
            stride,
            weights.signed(),
            weights.row_factor(),
            &mut sums,
        );
    }
    const GUARD: i32 = 0x5A5A_5A5A;
    let wide = n + 3;
    let mut out = vec![GUARD; m * wide];
    let mut floats = vec![f32::NAN; m * n];
    let (scale, bias) = (vec![0.5; nr], vec![-3.0; nr]);
    let mut tables = vec![0xBB; m * weights.table_bytes()];
    for block in 0..weights.blocks() {
        kernel.build(&weights, block, &bytes, stride, &mut tables);
        let tables = TableRows::pixels(&tables, weights.table_bytes());
        for panel in 0..weights.len() {
            let here = nr.min(n - panel * nr);
            let all = MatMut::new("out", &mut out, m, wide).unwrap();
            let mine = all.split_cols(panel * nr).1.split_cols(here).0;
            kernel.run(&weights, panel, block, tables, &sums, Out::I32(mine));
            let all = MatMut::new("floats", &mut floats, m, n).unwrap();
            let scaled = Out::F32 {
                out: all.split_cols(panel * nr).1.split_cols(here).0,
                scale: &scale,
                bias: &bias,
            };
            kernel.run(&weights, panel, block, tables, &sums, scaled);
        }
    }
    for (float, sums) in floats.chunks(n.max(1)).zip(out.chunks(wide)) {
        let same = float
            .iter()
            .zip(sums)
            .all(|(&f, &sum)| f == 0.5 * sum as f32 - 3.0);
        assert!(same, "scaled sums");
    }
    let clean = out
        .chunks(wide)
        .all(|row| row[n..].iter().all(|&g| g == GUARD));
    assert!(clean, "a write behind the row");
    Some(out.chunks(wide).flat_map(|row| row[..n].to_vec()).collect())
}

fn check(kernels: &Kernels, we: Encoding, e: Encoding, [m, n, k]: [usize; 3], seed: u64) {
    let (w, a) = (random(we, n * k, seed), random(e, m * k, seed + 99));
    let packed_w = PackedMatrix::pack(we, n, k, &w).unwrap();
    let packed_a = PackedMatrix::pack(e, m, k, &a).unwrap();
    let Some(got) = lut_product(kernels, &packed_w, &packed_a) else {
        return;
    };
    let got: Vec<i64> = got.into_iter().map(i64::from).collect();
    let name = kernels.isa();
    assert_eq!(
        got,
        oracle(&w, &a, n, m, k),
        "{name} {we} x {e} {m}x{n}x{k}"
    );
}

/// The pairs that `kernel` serves.
fn pairs(kernel: &LutKernel) -> Vec<(Encoding, Encoding)> {
    let weights = [
        Encoding::Bipolar,
        Encoding::Ternary,
        Encoding::unsigned(1).unwrap(),
        Encoding::signed(1).unwrap(),
        Encoding::unsigned(2).unwrap(),
        Encoding::signed(2).unwrap(),
    ];
    let all = weights
        .into_iter()
        .flat_map(|we| activations().into_iter().map(move |e| (we, e)));
    all.filter(|&(we, e)| kernel.serves(we, e)).collect()
}

/// 0 and 1, each side of a group, of four groups, of a block and of two, for groups of `group`.
fn lengths(group: usize) -> Vec<usize> {
    let edges = [1, 2, 4, 5, 42, 63, 95, 96, 97, 100, 192, 193].map(|groups| groups * group);
    let around = edges.into_iter().flat_map(|k| [k - 1, k, k + 1]);
    [0, 1, 31, 32, 33, 64].into_iter().chain(around).collect()
}

#[test]
fn table_gemm_equals_the_oracle_at_all_lengths() {
    each_isa(|kernels| {
        for kernel in kernels.lut_kernels() {
            for (case, k) in lengths(kernel.group).into_iter().enumerate() {
                for (we, e) in pairs(kernel) {
                    let shape = [kernel.mr + 1, kernel.lanes + 3, k];
                    check(kernels, we, e, shape, case as u64);
                }
            }
        }
    });
}

#[test]
fn table_gemm_serves_every_number_of_rows_and_lanes() {
    each_isa(|kernels| {
        for kernel in kernels.lut_kernels() {
            let pairs = pairs(kernel);
            let widest = |we| pairs.iter().rfind(|pair| pair.0 == we);
            let pairs = [Encoding::Bipolar, Encoding::Ternary].map(widest);
            let pairs: Vec<_> = pairs.into_iter().flatten().collect();
            for m in 0..=2 * kernel.mr + 1 {
                for n in 0..=kernel.nr() + kernel.lanes + 1 {
                    let k = if n % 2 == 0 { 77 } else { 100 * kernel.group };
                    let (we, e) = pairs[n / 2 % pairs.len()];
                    check(kernels, *we, *e, [m, n, k], 5);
                }
            }
        }
    });
}

/// Entries at their largest on each side of every flush, 16-bit sums of bytes at theirs on each side of where they end.
#[test]
fn table_sums_survive_their_worst_case() {
    each_isa(|kernels| {
        for (kernel, e) in kernels
            .lut_kernels()
            .iter()
            .flat_map(|kernel| activations().into_iter().map(move |e| (kernel, e)))
            .filter(|(kernel, e)| kernel.serves(Encoding::Bipolar, *e))
        {
            let (m, n) = (kernel.mr + 1, kernel.lanes + 1);
            let codes = ((1 << e.planes()) - 1) as usize;
            let flush = ((1 << (8 * kernel.entry)) - 1) / (kernel.group * codes);
            let narrow = 65_535 / (kernel.group * codes);
            let twice = 65_535 / (3 * kernel.group * codes);
            let groups = [
                flush,
                flush + 1,
                2 * flush,
                96,
                97,
                192,
                193,
                narrow - 1,
                narrow,
                narrow + 1,
                narrow + 97,
                twice,
                twice + 1,
            ];
            let mut lengths: Vec<usize> = groups.iter().map(|g| g * kernel.group).collect();
            for g in groups
                .into_iter()
                .filter(|&g| g <= 193 || [narrow, twice].contains(&g))
            {
                lengths.extend([g * kernel.group - 1, g * kernel.group + 1]);
            }
            for k in lengths {
                let twice = Encoding::unsigned(2).unwrap();
                let weights = [Encoding::Bipolar, twice];
                for we in weights.into_iter().filter(|we| kernel.serves(*we, e)) {
                    for (w, a) in [
                        (we.max(), e.max()),
                        (we.min(), e.max()),
                        (we.max(), e.min()),
                        (we.min(), e.min()),
                    ] {
                        let packed_w = constant(we, n, k, w);
                        let packed_a = constant(e, m, k, a);
                        let got = lut_product(kernels, &packed_w, &packed_a).unwrap();
                        let name = kernels.isa();
                        assert!(
                            got.iter().all(|&v| v == w * a * k as i32),
                            "{name} {we} x {e} {w}*{a} k={k}"
                        );
                    }
                }
            }
        }
    });
}
