//! Passes down the columns of `[M, N]`: sums of each column, and functions of an element and its column's numbers.
//!
//! Rows of few columns are taken several at a time, so that loops are long enough for vectors. A sum has a strand for
//! each row of such a wide one, and blocks of rows have sums of their own, which are added in order: the shape alone
//! decides, so that neither threads nor machines change a bit, and many rows lose no digits.

use crate::nn::share::share;
use crate::ops::Par;

/// Wide rows that are summed before their sum is added to that of all; what one thread does at a time.
const ROWS: usize = 256;

/// Floats of a wide row that is made of several, at least and at most.
const LEAST: usize = 128;
const MOST: usize = 1024;

/// Rows of N columns, several of them at a time.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    n: usize,
    /// Floats of a wide row: N times a number of rows.
    wide: usize,
}

impl Columns {
    /// Of rows of `n` columns, 1 or more.
    pub(super) fn new(n: usize) -> Self {
        let mut wide = n;
        while wide < LEAST || (n < LEAST / 2 && !wide.is_multiple_of(16)) {
            wide *= 2;
        }
        Columns { n, wide }
    }

    /// `[N]` numbers as a wide row has them.
    pub(super) fn repeat(&self, numbers: &[f32]) -> Vec<f32> {
        numbers.repeat(self.wide / self.n)
    }

    /// `SUMS` sums of each column, `[SUMS, N]`, to the front of `sums`, which is resized. `add` adds a wide row of x and
    /// y, or the beginning of one, to strands of each sum that are as long as a wide row.
    pub(super) fn sums<const SUMS: usize>(
        &self,
        x: &[f32],
        y: &[f32],
        sums: &mut Vec<f32>,
        par: Par<'_>,
        add: impl Fn(&mut [&mut [f32]; SUMS], &[f32], &[f32]) + Sync,
    ) {
        let (Columns { n, wide }, width) = (*self, SUMS * self.n);
        let block = ROWS * wide;
        sums.clear();
        sums.resize(x.len().div_ceil(block).max(1) * width, 0.0);
        let each = |i: usize, out: &mut [f32]| {
            let at = i * block..((i + 1) * block).min(x.len());
            let (x, y) = (&x[at.clone()], &y[at]);
            let run = |memory: &mut [f32]| {
                let mut parts = memory.chunks_exact_mut(wide);
                let mut strands: [&mut [f32]; SUMS] =
                    std::array::from_fn(|_| parts.next().expect("SUMS wide rows"));
                for (x, y) in x.chunks(wide).zip(y.chunks(wide)) {
                    add(&mut strands, x, y);
                }
            };
            if wide == n {
                return run(out);
            }
            let mut memory = [[0.0; MOST]; SUMS];
            let memory = &mut memory.as_flattened_mut()[..SUMS * wide];
            run(memory);
            for (out, strands) in out.chunks_exact_mut(n).zip(memory.chunks_exact(wide)) {
                for strand in strands.chunks_exact(n) {
                    out.iter_mut().zip(strand).for_each(|(out, s)| *out += s);
                }
            }
        };
        par.rows(sums, width, SUMS * block / 8, &each);
        let (sum, others) = sums.split_at_mut(width);
        for block in others.chunks_exact(width) {
            sum.iter_mut().zip(block).for_each(|(sum, b)| *sum += b);
        }
    }

    /// Calls `work` with the wide rows of `x`, the last one perhaps shorter.
    pub(super) fn each_in_place(
        &self,
        x: &mut [f32],
        par: Par<'_>,
        work: impl Fn(&mut [f32]) + Sync,
    ) {
        let cost = x.len() as u64 / 4;
        let pieces = x.chunks_mut(ROWS * self.wide);
        let run = |x: &mut [f32]| x.chunks_mut(self.wide).for_each(&work);
        share(cost, par, pieces, &run);
    }

    /// Calls `work` with the wide rows of `x` and `y`, as long as each other, the last ones perhaps shorter.
    pub(super) fn each(
        &self,
        x: &[f32],
        y: &mut [f32],
        par: Par<'_>,
        work: impl Fn(&[f32], &mut [f32]) + Sync,
    ) {
        let (wide, block) = (self.wide, ROWS * self.wide);
        let pieces = x.chunks(block).zip(y.chunks_mut(block));
        let run = |(x, y): (&[f32], &mut [f32])| {
            for (x, y) in x.chunks(wide).zip(y.chunks_mut(wide)) {
                work(x, y);
            }
        };
        share(x.len() as u64 / 4, par, pieces, &run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;
    use crate::ops::Pool;

    #[test]
    fn sums_and_elements_are_those_of_plain_loops_on_every_number_of_threads() {
        let pools: Vec<Pool> = [1, 2, 3].map(|t| Pool::new(t).unwrap()).into();
        for n in [1, 2, 6, 16, 20, 50, 63, 64, 84, 300] {
            let columns = Columns::new(n);
            assert!(columns.wide.is_multiple_of(n) && (n >= 64 || columns.wide <= MOST));
            for m in [0, 1, 2, 7, 255, 256, 700, 60_000 / n] {
                let (mut x, mut y) = (vec![0.0; m * n], vec![0.0; m * n]);
                Rng::new(1).fill_normal(&mut x, 1.0);
                Rng::new(2).fill_normal(&mut y, 1.0);
                let shift: Vec<f32> = (0..n).map(|i| i as f32).collect();
                let wide = columns.repeat(&shift);
                let run = |par: Par<'_>| {
                    let (mut sums, mut out) = (Vec::new(), y.clone());
                    columns.sums(&x, &y, &mut sums, par, |[a, b]: &mut [_; 2], x, y| {
                        for i in 0..x.len() {
                            a[i] += x[i];
                            b[i] += (x[i] - wide[i]) * y[i];
                        }
                    });
                    columns.each(&x, &mut out, par, |x, y| {
                        for i in 0..x.len() {
                            y[i] += wide[i] * x[i];
                        }
                    });
                    sums.truncate(2 * n);
                    (sums, out)
                };
                let (sums, out) = run(Par::Caller);
                let mut expected = vec![0f64; 2 * n];
                for (i, (x, y)) in x.iter().zip(&y).enumerate() {
                    expected[i % n] += f64::from(*x);
                    expected[n + i % n] += f64::from((x - shift[i % n]) * y);
                    assert_eq!(out[i], y + shift[i % n] * x);
                }
                for (got, expected) in sums.iter().zip(&expected) {
                    let slack = 1e-5 * (m * n) as f64 + 1e-5;
                    assert!((f64::from(*got) - expected).abs() < slack, "{m} x {n}");
                }
                for pool in &pools {
                    let (again, out_again) = run(Par::Pool(pool));
                    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&again), bits(&sums), "{m} x {n}");
                    assert_eq!(bits(&out_again), bits(&out), "{m} x {n}");
                }
            }
        }
    }
}
