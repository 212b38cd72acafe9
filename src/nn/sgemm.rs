//! Products of f32 matrices: the one door to the crate `gemm`.
//!
//! `gemm` takes raw pointers, so this file holds the one `unsafe` block outside of `isa`, `kernels` and `ffi`;
//! `tests/rooms.rs` names it and lets no other in.
//!
//! Training needs three products of a layer, and each is one call:
//!
//! ```text
//!   X  [M, N] = A  [M, K] * W^T        forward, in floats
//!   dW [N, K] = dX^T      * A [M, K]
//!   dA [M, K] = dX [M, N] * W [N, K]
//! ```
//!
//! An element of the result is one sum over the inner dimension, in an order that the shape alone
//! decides; threads share out elements, never a sum. So the number of threads does not change a bit.
//!
//! `gemm` looks at the CPU itself, not at `QCORE_ISA`: that order, and whether products are fused into the sums, may be others
//! on another CPU. So training gives the same bits on one machine for any ISA of the packed kernels, not on any machine.

use gemm::{Parallelism, gemm};

use crate::error::{Error, Result};
use crate::ops::Par;
use crate::shape::{check_len, elements};

/// A matrix of floats, borrowed, read as it lies or transposed.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `data` as `[rows, cols]`, row-major.
    ///
    /// Errors if the length is not rows x cols.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Result<Self> {
        check_len(
            "data",
            data.len(),
            elements("rows x cols", &[rows, cols])?,
            "rows x cols",
        )?;
        Ok(Matrix {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        })
    }

    /// The elements, row by row.
    #[cfg(test)]
    pub(super) fn elements(self) -> impl Iterator<Item = f32> {
        let all = 0..self.rows * self.cols;
        all.map(move |i| {
            let (row, col) = (i / self.cols, i % self.cols);
            self.data[row * self.row_stride + col * self.col_stride]
        })
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// `c = alpha * c + a * b`, with `a` `[m, k]`, `b` `[k, n]` and `c` `[m, n]` row-major.
///
/// With `alpha` 0, what was in `c` does not matter, NaN included. Errors if the shapes do not fit; then `c`
/// is untouched.
pub fn sgemm(alpha: f32, c: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, par: Par<'_>) -> Result<()> {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    if b.rows != k {
        return Err(Error::argument("rows of b", b.rows, k));
    }
    check_len("c", c.len(), elements("m x n", &[m, n])?, "m x n")?;
    if c.is_empty() {
        return Ok(());
    }
    if k == 0 {
        for c in c {
            *c = if alpha == 0.0 { 0.0 } else { alpha * *c };
        }
        return Ok(());
    }
    par.enter(|| {
        let parallelism = match par.threads() {
            1 => Parallelism::None,
            threads => Parallelism::Rayon(threads),
        };
        // SAFETY: `gemm` reads a at i * rs + l * cs for i < m, l < k, b likewise for l < k, j < n, and
        // writes c at i * n + j. Matrix::new has checked that rows x cols is the length of the data, t()
        // swaps sizes and strides together, and b.rows == k and the length of c are checked above. So
        // every access is in bounds; c is borrowed exclusively. Strides fit isize by `elements`.
        unsafe {
            gemm(
                m,
                n,
                k,
                c.as_mut_ptr(),
                1,
                n as isize,
                alpha != 0.0,
                a.data.as_ptr(),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr(),
                b.col_stride as isize,
                b.row_stride as isize,
                alpha,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;
    use crate::ops::Pool;
    use proptest::prelude::*;

    fn random(seed: u64, len: usize) -> Vec<f32> {
        let mut values = vec![0.0; len];
        Rng::new(seed).fill_normal(&mut values, 1.0);
        values
    }

    /// `[cols, rows]` from `[rows, cols]`.
    fn transposed(data: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols)
            .map(|i| data[i % rows * cols + i / rows])
            .collect()
    }

    proptest! {
        #[test]
        fn every_layout_follows_the_definition(
            m in 0usize..20, n in 0usize..40, k in 0usize..50, alpha in prop_oneof![Just(0f32), Just(1.0), Just(-0.5)], seed: u64,
        ) {
            let (a, b, c) = (random(seed, m * k), random(!seed, k * n), random(seed ^ 9, m * n));
            let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
            for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
                let left = if ta { Matrix::new(&at, k, m).unwrap().t() } else { Matrix::new(&a, m, k).unwrap() };
                let right = if tb { Matrix::new(&bt, n, k).unwrap().t() } else { Matrix::new(&b, k, n).unwrap() };
                let mut got = if alpha == 0.0 { vec![f32::NAN; m * n] } else { c.clone() };
                sgemm(alpha, &mut got, left, right, Par::Caller).unwrap();
                for (i, got) in got.iter().enumerate() {
                    let dot: f64 = (0..k).map(|l| f64::from(a[i / n * k + l]) * f64::from(b[l * n + i % n])).sum();
                    let expected = f64::from(alpha) * f64::from(c[i]) + dot;
                    prop_assert!((f64::from(*got) - expected).abs() < 1e-4, "{got} {expected} at {i}, {ta} {tb}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let pools: Vec<Pool> = [2, 3].map(|t| Pool::new(t).unwrap()).into();
        // Forward, dW and dA of a layer, and the vectors that `gemm` treats apart.
        for (m, n, k) in [
            (100, 256, 784),
            (256, 784, 100),
            (100, 10, 256),
            (333, 77, 1000),
            (1, 900, 3000),
            (900, 1, 3000),
            (500, 600, 1),
        ] {
            let (a, b) = (random(1, m * k), random(2, k * n));
            for transpose in [false, true] {
                let (left, right) = if transpose {
                    (
                        Matrix::new(&a, k, m).unwrap().t(),
                        Matrix::new(&b, n, k).unwrap().t(),
                    )
                } else {
                    (
                        Matrix::new(&a, m, k).unwrap(),
                        Matrix::new(&b, k, n).unwrap(),
                    )
                };
                let mut one = vec![0.0; m * n];
                sgemm(0.0, &mut one, left, right, Par::Caller).unwrap();
                for pool in &pools {
                    let mut many = vec![0.0; m * n];
                    sgemm(0.0, &mut many, left, right, Par::Pool(pool)).unwrap();
                    let same = one
                        .iter()
                        .zip(&many)
                        .all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(
                        same,
                        "{m} {n} {k} {transpose} on {} threads",
                        pool.threads()
                    );
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let said = Matrix::new(&[0.0; 5], 2, 3).unwrap_err().to_string();
        assert_eq!(said, "data is 5 elements long; expected 6 (rows x cols)");
        let (a, b) = (
            Matrix::new(&[0.0; 6], 2, 3).unwrap(),
            Matrix::new(&[0.0; 6], 2, 3).unwrap(),
        );
        let said = |c: &mut [f32], b| sgemm(0.0, c, a, b, Par::Caller).unwrap_err().to_string();
        assert_eq!(said(&mut [0.0; 4], b), "rows of b is 2; expected 3");
        assert_eq!(
            said(&mut [0.0; 3], b.t()),
            "c is 3 elements long; expected 4 (m x n)"
        );
    }
}
