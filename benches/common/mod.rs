//! What the benches share: random operands, the oracles that results are checked against, f32 GEMM.

// Each bench is a crate of its own and uses a part of this file.
#![allow(dead_code)]

use qcore::bits::{Encoding, PackedMatrix};
use qcore::isa::Isa;
use qcore::ops::{Epilogue, Gemm, Par};

/// A product `[N, K] x [M, K] -> [M, N]`: N outputs, M rows of activations, K inputs.
#[derive(Clone, Copy)]
pub struct Shape {
    pub n: usize,
    pub m: usize,
    pub k: usize,
}

impl Shape {
    pub const fn new(n: usize, m: usize, k: usize) -> Self {
        Shape { n, m, k }
    }

    /// Multiply-adds.
    pub fn macs(&self) -> u64 {
        (self.n * self.m * self.k) as u64
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.n, self.m, self.k)
    }
}

/// SplitMix64: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    /// A float in [-1, 1).
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `len` floats in [-1, 1).
    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }

    /// A matrix of random codes.
    pub fn packed(&mut self, encoding: Encoding, rows: usize, cols: usize) -> PackedMatrix {
        let tail = !0u32 >> ((32 - cols % 32) % 32);
        let words = cols.div_ceil(32);
        let mut data: Vec<u32> = (0..rows * encoding.planes() * words)
            .map(|i| self.next() as u32 & if i % words + 1 == words { tail } else { !0 })
            .collect();
        if encoding == Encoding::Ternary {
            // The sign of zero is 0.
            for row in data.chunks_exact_mut(2 * words) {
                let (signs, nonzero) = row.split_at_mut(words);
                for (sign, nonzero) in signs.iter_mut().zip(nonzero) {
                    *sign &= *nonzero;
                }
            }
        }
        PackedMatrix::from_words(encoding, rows, cols, data).expect("words in the canonical form")
    }
}

/// `count` positions in an `[M, N]` result: its corners and random others.
fn samples(shape: Shape, count: usize) -> Vec<(usize, usize)> {
    let Shape { n, m, .. } = shape;
    let mut random = Random(7);
    let mut at = vec![(0, 0), (0, n - 1), (m - 1, 0), (m - 1, n - 1)];
    at.extend((0..count).map(|_| {
        let (row, lane) = (random.next() as usize % m, random.next() as usize % n);
        (row, lane)
    }));
    at
}

/// The integers of one row.
fn integers(matrix: &PackedMatrix, row: usize) -> Vec<i32> {
    matrix.view().slice_rows(row..row + 1).unpack()
}

/// Panics unless sampled elements of `out` are the products of the integers.
pub fn check_sums(
    what: &str,
    shape: Shape,
    weights: &PackedMatrix,
    activations: &PackedMatrix,
    out: &[i32],
) {
    assert_eq!(out.len(), shape.m * shape.n, "{what}");
    for (row, lane) in samples(shape, 200) {
        let (w, a) = (integers(weights, lane), integers(activations, row));
        let dot: i64 = w.iter().zip(&a).map(|(&w, &a)| i64::from(w * a)).sum();
        let got = i64::from(out[row * shape.n + lane]);
        assert_eq!(got, dot, "{what} {shape} at [{row}, {lane}]");
    }
}

/// A plan, its activations and its buffers: everything that a timed run needs.
pub struct Case {
    pub shape: Shape,
    pub gemm: Gemm,
    activations: PackedMatrix,
    out: Vec<i32>,
    scratch: Vec<i32>,
}

impl Case {
    /// A product of random codes on `isa`, run once and checked.
    pub fn new(isa: Isa, weight: Encoding, activation: Encoding, shape: Shape) -> Self {
        let mut random = Random(shape.macs());
        let weights = random.packed(weight, shape.n, shape.k);
        let activations = random.packed(activation, shape.m, shape.k);
        let gemm = Gemm::on(isa, weights.view(), activation, Epilogue::None).expect("a plan");
        let mut case = Case {
            shape,
            out: vec![0; shape.m * shape.n],
            scratch: vec![0; gemm.scratch_len(shape.m)],
            activations,
            gemm,
        };
        case.run();
        let what = format!("{isa} {weight} x {activation}");
        check_sums(&what, shape, &weights, &case.activations, &case.out);
        case
    }

    /// The whole product on the calling thread.
    pub fn run(&mut self) {
        let rows = 0..self.shape.m;
        let (a, out, scratch) = (
            self.activations.view(),
            &mut self.out,
            &mut self.scratch[..],
        );
        self.gemm
            .run_i32(a, rows, out, scratch, Par::Caller)
            .expect("what was checked when the case was made");
    }
}

/// An f32 product of the same shape by the crate `gemm`, single-threaded.
///
/// Weights are `[K, N]`, transposed beforehand as ours are prepacked. As `[N, K]` that crate needs up to
/// 1.6 times as long, and whatever is compared with it would look better than it is.
pub struct Floats {
    pub shape: Shape,
    /// `[K, N]`.
    weights: Vec<f32>,
    activations: Vec<f32>,
    out: Vec<f32>,
}

impl Floats {
    /// A product of random floats, run once and checked.
    pub fn new(shape: Shape) -> Self {
        let Shape { n, m, k } = shape;
        let mut random = Random(shape.macs());
        let mut floats = Floats {
            shape,
            weights: random.floats(n * k),
            activations: random.floats(m * k),
            out: vec![0.0; m * n],
        };
        floats.run();
        floats.check("f32");
        floats
    }

    /// Panics unless sampled elements of the result are the products of the floats.
    pub fn check(&self, what: &str) {
        let Shape { n, k, .. } = self.shape;
        for (row, lane) in samples(self.shape, 200) {
            let w = self.weights[lane..].iter().step_by(n);
            let a = &self.activations[row * k..][..k];
            let products = w.zip(a).map(|(&w, &a)| f64::from(w) * f64::from(a));
            let dot: f64 = products.sum();
            let got = f64::from(self.out[row * n + lane]);
            // Rounding of K products below 1, each sum below K.
            let bound = k as f64 * (k as f64).sqrt() * f64::from(f32::EPSILON);
            assert!(
                (got - dot).abs() <= bound,
                "{what} {} at [{row}, {lane}]: {got} for {dot}",
                self.shape
            );
        }
    }

    /// Weights `[K, N]`, activations `[M, K]` and room for the result `[M, N]`, for another library.
    pub fn parts(&mut self) -> (&[f32], &[f32], &mut [f32]) {
        (&self.weights, &self.activations, &mut self.out)
    }

    /// The activations `[M, K]`, for whoever makes them anew.
    pub fn activations(&mut self) -> &mut [f32] {
        &mut self.activations
    }

    /// The whole product on the calling thread.
    pub fn run(&mut self) {
        let Shape { n, m, k } = self.shape;
        let (nn, kk) = (n as isize, k as isize);
        // SAFETY: out is [m, n], activations [m, k] and weights [k, n], all row-major and of exactly
        // these lengths; each is passed with column stride 1 and the stride of its rows.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                self.out.as_mut_ptr(),
                1,
                nn,
                false,
                self.activations.as_ptr(),
                1,
                kk,
                self.weights.as_ptr(),
                1,
                nn,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}
