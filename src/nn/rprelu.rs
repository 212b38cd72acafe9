//! RPReLU: a PReLU whose input and output are shifted, all three parameters learned per channel.
//!
//! ```text
//!   z = x - before[n]        y = (z if z >= 0 else slope[n] z) + after[n]        x, y [M, N]
//!
//!   d_x      = d_y if z >= 0 else slope[n] d_y
//!   d_before = - sum d_x     d_slope = sum over z < 0 of d_y z     d_after = sum d_y     per channel
//! ```
//!
//! Each operation is rounded once, in the order of the packed epilogue ([`ActivationFn::RPRelu`]), so the two agree bit for
//! bit. Images are M x H x W rows of C channels; sums run down the rows in order, blocks of rows first.
//!
//! Source: ReActNet, arXiv 2003.03488, section 4.2; the slope begins at 0.25, as that of a PReLU does in its code.

use crate::error::{Error, Result};
use crate::ops::ActivationFn;
use crate::shape::check_len;

/// Rows that are summed before their sum is added to that of all.
pub(super) const ROWS: usize = 256;

/// What slopes begin with.
const SLOPE: f32 = 0.25;

/// RPReLU of N channels.
#[derive(Clone, Debug)]
pub struct RPRelu {
    /// Shift of the input, `[N]`.
    pub before: Vec<f32>,
    /// Slope below it, `[N]`.
    pub slope: Vec<f32>,
    /// Shift of the output, `[N]`.
    pub after: Vec<f32>,
    /// Gradient of the loss by `before`, `[N]`.
    pub d_before: Vec<f32>,
    /// Gradient of the loss by `slope`, `[N]`.
    pub d_slope: Vec<f32>,
    /// Gradient of the loss by `after`, `[N]`.
    pub d_after: Vec<f32>,
}

impl RPRelu {
    /// N channels with shifts of 0 and slopes of 1/4.
    pub fn new(n: usize) -> Self {
        let zeros = vec![0.0; n];
        RPRelu {
            before: zeros.clone(),
            slope: vec![SLOPE; n],
            after: zeros.clone(),
            d_before: zeros.clone(),
            d_slope: zeros.clone(),
            d_after: zeros,
        }
    }

    /// Channels, N.
    pub fn n(&self) -> usize {
        self.slope.len()
    }

    /// The value at `x` of channel `n`. Panics unless n < N.
    #[inline(always)]
    pub fn of(&self, x: f32, n: usize) -> f32 {
        let z = x - self.before[n];
        (if z >= 0.0 { z } else { self.slope[n] * z }) + self.after[n]
    }

    /// Whether a greater x never gives a lesser value, in any channel.
    pub(super) fn is_monotone(&self) -> bool {
        self.slope.iter().all(|s| *s >= 0.0)
    }

    /// The same as the function of a packed epilogue.
    pub fn function(&self) -> ActivationFn {
        ActivationFn::RPRelu {
            before: self.before.clone(),
            slope: self.slope.clone(),
            after: self.after.clone(),
        }
    }

    /// The values of `x` `[M, N]` into `y` `[M, N]`.
    ///
    /// Errors if the lengths differ or are not a multiple of N.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        check(self.n(), x, y)?;
        let n = self.n();
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            for (i, (x, y)) in x.iter().zip(y).enumerate() {
                *y = self.of(*x, i);
            }
        }
        Ok(())
    }

    /// The gradient by `x` `[M, N]` in place of the one by y, and those by the parameters.
    ///
    /// Errors if the lengths differ or are not a multiple of N.
    pub fn backward(&mut self, x: &[f32], d: &mut [f32]) -> Result<()> {
        check(self.n(), x, d)?;
        let n = self.n();
        let (before, slope) = (&self.before[..n], &self.slope[..n]);
        let totals = [&mut self.d_before, &mut self.d_slope, &mut self.d_after];
        let [d_before, d_slope, d_after] = totals.map(|d| {
            d.fill(0.0);
            &mut d[..n]
        });
        let mut sums = [vec![0f32; n], vec![0f32; n], vec![0f32; n]];
        for (x, d) in x.chunks(ROWS * n).zip(d.chunks_mut(ROWS * n)) {
            let [b, s, a] = &mut sums;
            let (b, s, a) = (&mut b[..n], &mut s[..n], &mut a[..n]);
            b.fill(0.0);
            s.fill(0.0);
            a.fill(0.0);
            for (x, d) in x.chunks_exact(n).zip(d.chunks_exact_mut(n)) {
                for i in 0..n {
                    let z = x[i] - before[i];
                    let (above, d_y) = (z >= 0.0, d[i]);
                    d[i] = if above { d_y } else { slope[i] * d_y };
                    b[i] -= d[i];
                    s[i] += if above { 0.0 } else { d_y * z };
                    a[i] += d_y;
                }
            }
            for i in 0..n {
                d_before[i] += b[i];
                d_slope[i] += s[i];
                d_after[i] += a[i];
            }
        }
        Ok(())
    }
}

/// Errors unless there are channels, and `x` and `y` are whole rows of them.
pub(super) fn check(n: usize, x: &[f32], y: &[f32]) -> Result<()> {
    if n == 0 {
        return Err(Error::argument("N", n, "1 channel or more"));
    }
    check_len("x", x.len(), x.len() / n * n, "M x N")?;
    check_len("y", y.len(), x.len(), "M x N")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;

    const M: usize = 600;
    const N: usize = 5;

    fn layer() -> (RPRelu, Vec<f32>, Vec<f32>) {
        let mut layer = RPRelu::new(N);
        assert_eq!((layer.slope[0], layer.n()), (0.25, N));
        Rng::new(1).fill_normal(&mut layer.before, 0.5);
        Rng::new(2).fill_normal(&mut layer.slope, 0.5);
        Rng::new(3).fill_normal(&mut layer.after, 0.5);
        let (mut x, mut weight) = (vec![0.0; M * N], vec![0.0; M * N]);
        Rng::new(4).fill_normal(&mut x, 2.0);
        Rng::new(5).fill_normal(&mut weight, 1.0);
        // No x near a corner, which a difference would step over.
        for (i, x) in x.iter_mut().enumerate() {
            let z = *x - layer.before[i % N];
            *x += if z.abs() < 0.02 { 0.1 } else { 0.0 };
        }
        (layer, x, weight)
    }

    /// A loss with a known gradient by y: sum of weight * y, in f64.
    fn loss(layer: &RPRelu, x: &[f32], weight: &[f32]) -> f64 {
        let values = x.iter().zip(weight).enumerate();
        let term = |(i, (x, w)): (usize, (&f32, &f32))| {
            let n = i % N;
            let z = f64::from(*x) - f64::from(layer.before[n]);
            let slope = if z >= 0.0 {
                1.0
            } else {
                f64::from(layer.slope[n])
            };
            f64::from(*w) * (slope * z + f64::from(layer.after[n]))
        };
        values.map(term).sum()
    }

    #[test]
    fn gradients_are_difference_quotients() {
        let (mut layer, x, weight) = layer();
        let mut d = weight.clone();
        layer.backward(&x, &mut d).unwrap();
        let h = 1e-3f32;
        let near = |quotient: f64, gradient: f32| {
            let gap = (quotient - f64::from(gradient)).abs();
            assert!(
                gap < 1e-2 * quotient.abs().max(0.1),
                "{quotient} {gradient}"
            );
        };
        for i in (0..M * N).step_by(37) {
            let at = |step: f32| {
                let mut moved = x.clone();
                moved[i] += step;
                (loss(&layer, &moved, &weight), f64::from(moved[i]))
            };
            let (high, low) = (at(h), at(-h));
            near((high.0 - low.0) / (high.1 - low.1), d[i]);
        }
        type Pick = fn(&mut RPRelu) -> &mut Vec<f32>;
        let parameters: [(Pick, &[f32]); 3] = [
            (|l| &mut l.before, &layer.d_before),
            (|l| &mut l.slope, &layer.d_slope),
            (|l| &mut l.after, &layer.d_after),
        ];
        for (pick, gradient) in parameters {
            for (i, g) in gradient.iter().enumerate() {
                let at = |step: f32| {
                    let mut moved = layer.clone();
                    pick(&mut moved)[i] += step;
                    let to = f64::from(pick(&mut moved)[i]);
                    (loss(&moved, &x, &weight), to)
                };
                let (high, low) = (at(h), at(-h));
                near((high.0 - low.0) / (high.1 - low.1), *g);
            }
        }
    }

    #[test]
    fn forward_is_the_function_value_by_value_and_lengths_are_checked() {
        let layer = RPRelu {
            before: vec![1.0, 0.0],
            slope: vec![0.5, -2.0],
            after: vec![10.0, 0.0],
            ..RPRelu::new(2)
        };
        assert!(!layer.is_monotone() && RPRelu::new(2).is_monotone());
        let mut y = [0.0; 6];
        let x = [3.0, 3.0, 1.0, 0.0, -1.0, -1.0];
        layer.forward(&x, &mut y).unwrap();
        assert_eq!(y, [12.0, 3.0, 10.0, 0.0, 9.0, 2.0]);
        assert!(layer.forward(&x[..5], &mut y[..5]).is_err());
        assert!(layer.forward(&x, &mut y[..4]).is_err());
        assert!(RPRelu::new(0).forward(&[], &mut []).is_err());
        assert!(RPRelu::new(2).backward(&x, &mut y[..4]).is_err());
    }
}
