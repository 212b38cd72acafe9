//! Batch normalisation, with scale and shift or without, over the rows of `[M, N]`.
//!
//! ```text
//!   training    y = gamma * (x - mean) / sqrt(var + eps) + beta      mean, var (biased) of the batch
//!   inference   the same with running averages, as one factor and one summand per channel
//! ```
//!
//! Images are M x H x W rows of C channels. The order of the sums is decided by the shape alone (`columns`).
//!
//! Source: Ioffe and Szegedy, arXiv 1502.03167; running averages and eps as torch has them.

use crate::error::{Error, Result};
use crate::nn::columns::Columns;
use crate::ops::Par;
use crate::shape::{check_len, elements};

/// Added to the variance.
pub const EPS: f32 = 1e-5;

/// How far running averages move towards a batch.
pub const MOMENTUM: f32 = 0.1;

/// Batch normalisation of N channels.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// Scale, `[N]`.
    pub gamma: Vec<f32>,
    /// Shift, `[N]`.
    pub beta: Vec<f32>,
    /// Gradient of the loss by `gamma`, `[N]`.
    pub d_gamma: Vec<f32>,
    /// Gradient of the loss by `beta`, `[N]`.
    pub d_beta: Vec<f32>,
    /// Whether scale and shift are learned; if not they stay 1 and 0.
    affine: bool,
    /// How far running averages move towards a batch, 0 to 1: [`MOMENTUM`] unless they are being re-estimated.
    pub rate: f32,
    /// Running mean, `[N]`.
    pub running_mean: Vec<f32>,
    /// Running variance (unbiased), `[N]`.
    pub running_var: Vec<f32>,
    /// Mean of the last training batch, `[N]`.
    mean: Vec<f32>,
    /// 1 / sqrt(var + eps) of the last training batch, `[N]`.
    inv_std: Vec<f32>,
    /// Memory of sums.
    sums: Vec<f32>,
}

impl BatchNorm {
    /// N channels with gamma 1, beta 0, running mean 0 and running variance 1.
    pub fn new(n: usize) -> Self {
        BatchNorm {
            gamma: vec![1.0; n],
            beta: vec![0.0; n],
            d_gamma: vec![0.0; n],
            d_beta: vec![0.0; n],
            affine: true,
            rate: MOMENTUM,
            running_mean: vec![0.0; n],
            running_var: vec![1.0; n],
            mean: vec![0.0; n],
            inv_std: vec![0.0; n],
            sums: Vec::new(),
        }
    }

    /// As [`BatchNorm::new`], with or without a scale and shift that are learned.
    pub fn with_affine(n: usize, affine: bool) -> Self {
        BatchNorm {
            affine,
            ..BatchNorm::new(n)
        }
    }

    /// Whether scale and shift are learned.
    pub fn affine(&self) -> bool {
        self.affine
    }

    /// `x` `[M, N]` normalised by its own statistics into `y` `[M, N]`; moves the running averages.
    ///
    /// Errors if M is below 2 or a length is wrong.
    pub fn forward_train(&mut self, x: &[f32], y: &mut [f32], par: Par<'_>) -> Result<()> {
        let (n, m) = (self.gamma.len(), self.rows(x, y)?);
        if m < 2 {
            return Err(Error::argument(
                "M",
                m,
                "2 rows or more in a training batch",
            ));
        }
        let columns = Columns::new(n);
        let sums = &mut self.sums;
        columns.sums(x, x, sums, par, |[sum]: &mut [_; 1], x, _| {
            sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        });
        self.mean.copy_from_slice(&sums[..n]);
        self.mean.iter_mut().for_each(|mean| *mean /= m as f32);
        let mean = columns.repeat(&self.mean);
        // Around the mean, in a second pass: the one-pass formula cancels.
        columns.sums(x, x, sums, par, |[sum]: &mut [_; 1], x, _| {
            for ((sum, x), mean) in sum.iter_mut().zip(x).zip(&mean) {
                *sum += (x - mean) * (x - mean);
            }
        });
        for (i, sum) in sums[..n].iter().enumerate() {
            let unbiased = sum / (m - 1) as f32;
            self.running_mean[i] += self.rate * (self.mean[i] - self.running_mean[i]);
            self.running_var[i] += self.rate * (unbiased - self.running_var[i]);
            self.inv_std[i] = 1.0 / (sum / m as f32 + EPS).sqrt();
        }
        let numbers = [&self.inv_std, &self.gamma, &self.beta];
        let [inv_std, gamma, beta] = numbers.map(|numbers| columns.repeat(numbers));
        columns.each(x, y, par, |x, y| {
            let len = x.len();
            let (mean, inv_std) = (&mean[..len], &inv_std[..len]);
            let (gamma, beta, y) = (&gamma[..len], &beta[..len], &mut y[..len]);
            for i in 0..len {
                y[i] = (x[i] - mean[i]) * inv_std[i] * gamma[i] + beta[i];
            }
        });
        Ok(())
    }

    /// The gradient by `x` `[M, N]` of the last [`BatchNorm::forward_train`], in place of the one by y.
    ///
    /// ```text
    ///   d_beta  = sum d_y        d_gamma = sum d_y * x_hat        x_hat = (x - mean) * inv_std
    ///   d_x     = gamma * inv_std * (d_y - d_beta / M - x_hat * d_gamma / M)
    /// ```
    ///
    /// Errors if a length is wrong.
    pub fn backward(&mut self, x: &[f32], d: &mut [f32], par: Par<'_>) -> Result<()> {
        let (n, m) = (self.gamma.len(), self.rows(x, d)?);
        let columns = Columns::new(n);
        let numbers = [&self.mean, &self.inv_std, &self.gamma];
        let [mean, inv_std, gamma] = numbers.map(|numbers| columns.repeat(numbers));
        columns.sums(
            x,
            d,
            &mut self.sums,
            par,
            |[beta, gamma]: &mut [_; 2], x, d| {
                let len = x.len();
                let (beta, gamma, d) = (&mut beta[..len], &mut gamma[..len], &d[..len]);
                let (mean, inv_std) = (&mean[..len], &inv_std[..len]);
                for i in 0..len {
                    beta[i] += d[i];
                    gamma[i] += d[i] * ((x[i] - mean[i]) * inv_std[i]);
                }
            },
        );
        self.d_beta.copy_from_slice(&self.sums[..n]);
        self.d_gamma.copy_from_slice(&self.sums[n..2 * n]);
        let share = 1.0 / m as f32;
        let [d_beta, d_gamma] = [&self.d_beta, &self.d_gamma].map(|d| columns.repeat(d));
        columns.each(x, d, par, |x, d| {
            let len = x.len();
            let (mean, inv_std, gamma) = (&mean[..len], &inv_std[..len], &gamma[..len]);
            let (d_beta, d_gamma, d) = (&d_beta[..len], &d_gamma[..len], &mut d[..len]);
            for i in 0..len {
                let x_hat = (x[i] - mean[i]) * inv_std[i];
                let centered = d[i] - share * (d_beta[i] + x_hat * d_gamma[i]);
                d[i] = gamma[i] * inv_std[i] * centered;
            }
        });
        Ok(())
    }

    /// Inference as one factor and one summand per channel, for an `x` that is `unit[n]` times an integer.
    ///
    /// ```text
    ///   g = gamma / sqrt(running_var + eps)     scale = g * unit     bias = beta - g * running_mean
    /// ```
    ///
    /// Panics unless there are N units.
    pub fn fold(&self, unit: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let channels = 0..self.gamma.len();
        channels
            .map(|i| {
                let g = self.gamma[i] / (self.running_var[i] + EPS).sqrt();
                (g * unit[i], self.beta[i] - g * self.running_mean[i])
            })
            .unzip()
    }

    /// `x` `[M, N]` normalised by the running averages, in place.
    ///
    /// Errors if the length is not a multiple of N.
    pub fn forward_eval(&self, x: &mut [f32], par: Par<'_>) -> Result<()> {
        let n = self.gamma.len();
        check_len("x", x.len(), x.len() / n.max(1) * n, "M x N")?;
        let (scale, bias) = self.fold(&vec![1.0; n]);
        let columns = Columns::new(n.max(1));
        let [scale, bias] = [scale, bias].map(|numbers| columns.repeat(&numbers));
        columns.each_in_place(x, par, |x| {
            for ((x, scale), bias) in x.iter_mut().zip(&scale).zip(&bias) {
                *x = *x * scale + bias;
            }
        });
        Ok(())
    }

    /// M, once the lengths fit.
    fn rows(&self, x: &[f32], y: &[f32]) -> Result<usize> {
        let n = self.gamma.len();
        if n == 0 {
            return Err(Error::argument("N", n, "1 channel or more"));
        }
        let m = x.len() / n;
        check_len("x", x.len(), elements("x", &[m, n])?, "M x N")?;
        check_len("y", y.len(), x.len(), "M x N")?;
        Ok(m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;

    const M: usize = 7;
    const N: usize = 5;

    fn layer() -> (BatchNorm, Vec<f32>, Vec<f32>) {
        let mut norm = BatchNorm::new(N);
        let (mut x, mut weight) = (vec![0.0; M * N], vec![0.0; M * N]);
        Rng::new(1).fill_normal(&mut x, 2.0);
        Rng::new(2).fill_normal(&mut weight, 1.0);
        Rng::new(3).fill_normal(&mut norm.gamma, 1.0);
        Rng::new(4).fill_normal(&mut norm.beta, 1.0);
        (norm, x, weight)
    }

    /// A loss with a known gradient by y: sum of weight * y.
    fn loss(norm: &BatchNorm, x: &[f32], weight: &[f32]) -> f64 {
        let mut y = vec![0.0; x.len()];
        norm.clone().forward_train(x, &mut y, Par::Caller).unwrap();
        y.iter().zip(weight).map(|(y, w)| f64::from(y * w)).sum()
    }

    fn near(quotient: f64, gradient: f32) {
        let gap = (quotient - f64::from(gradient)).abs();
        assert!(
            gap < 1e-2 * quotient.abs().max(0.1),
            "{quotient} {gradient}"
        );
    }

    #[test]
    fn gradients_are_difference_quotients() {
        let (mut norm, x, weight) = layer();
        norm.forward_train(&x, &mut [0.0; M * N], Par::Caller)
            .unwrap();
        let mut d = weight.clone();
        norm.backward(&x, &mut d, Par::Caller).unwrap();
        let h = 1e-2f32;
        for i in 0..M * N {
            let at = |step: f32| {
                let mut moved = x.clone();
                moved[i] += step;
                loss(&norm, &moved, &weight)
            };
            near((at(h) - at(-h)) / f64::from(2.0 * h), d[i]);
        }
        for i in 0..N {
            let at = |gamma: f32, beta: f32| {
                let mut moved = norm.clone();
                moved.gamma[i] += gamma;
                moved.beta[i] += beta;
                loss(&moved, &x, &weight)
            };
            near(
                (at(h, 0.0) - at(-h, 0.0)) / f64::from(2.0 * h),
                norm.d_gamma[i],
            );
            near(
                (at(0.0, h) - at(0.0, -h)) / f64::from(2.0 * h),
                norm.d_beta[i],
            );
        }
    }

    /// y and the gradients by x, gamma and beta, each by the sums that define it, in f64.
    fn naive(norm: &BatchNorm, x: &[f32], d_y: &[f32]) -> [Vec<f64>; 4] {
        let n = norm.gamma.len();
        let m = x.len() / n;
        let mut all = [
            vec![0.0; x.len()],
            vec![0.0; x.len()],
            vec![0.0; n],
            vec![0.0; n],
        ];
        let [y, d_x, d_gamma, d_beta] = &mut all;
        for c in 0..n {
            let of = |values: &[f32]| -> Vec<f64> {
                (0..m).map(|i| f64::from(values[i * n + c])).collect()
            };
            let (x, d) = (of(x), of(d_y));
            let (gamma, beta) = (f64::from(norm.gamma[c]), f64::from(norm.beta[c]));
            let mean = x.iter().sum::<f64>() / m as f64;
            let var = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / m as f64;
            let std = (var + f64::from(EPS)).sqrt();
            let hat: Vec<f64> = x.iter().map(|x| (x - mean) / std).collect();
            d_beta[c] = d.iter().sum();
            d_gamma[c] = d.iter().zip(&hat).map(|(d, h)| d * h).sum();
            for i in 0..m {
                y[i * n + c] = gamma * hat[i] + beta;
                // The chain rule through x itself, the mean and the variance.
                let by_hat = |j: usize| d[j] * gamma;
                let by_var: f64 = (0..m).map(|j| by_hat(j) * (x[j] - mean)).sum::<f64>()
                    * (-0.5 / (std * std * std));
                let by_mean: f64 = -(0..m).map(by_hat).sum::<f64>() / std;
                d_x[i * n + c] =
                    by_hat(i) / std + by_var * 2.0 * (x[i] - mean) / m as f64 + by_mean / m as f64;
            }
        }
        all
    }

    #[test]
    fn forward_and_backward_are_those_of_a_plain_loop_in_f64() {
        // Few channels, which share a wide row; more rows than a block of sums; one channel; many.
        for (m, n) in [(2, 3), (7, 5), (300, 1), (700, 6), (90, 70), (33, 300)] {
            let mut norm = BatchNorm::new(n);
            let (mut x, mut d_y) = (vec![0.0; m * n], vec![0.0; m * n]);
            Rng::new(1).fill_normal(&mut x, 2.0);
            Rng::new(2).fill_normal(&mut d_y, 1.0);
            Rng::new(3).fill_normal(&mut norm.gamma, 1.0);
            Rng::new(4).fill_normal(&mut norm.beta, 1.0);
            // Channels far from 0, each elsewhere: a variance without its mean taken off would be wrong.
            for (i, x) in x.iter_mut().enumerate() {
                *x += 10.0 * (i % n % 5) as f32;
            }
            let [y, d_x, d_gamma, d_beta] = naive(&norm, &x, &d_y);
            let (mut got, mut d) = (vec![9.0; m * n], d_y.clone());
            norm.forward_train(&x, &mut got, Par::Caller).unwrap();
            norm.backward(&x, &mut d, Par::Caller).unwrap();
            let near = |what: &str, got: &[f32], expected: &[f64], size: f64| {
                for (got, expected) in got.iter().zip(expected) {
                    let gap = (f64::from(*got) - expected).abs();
                    assert!(
                        gap <= 1e-4 * (size + expected.abs()),
                        "{what} of {m} x {n}: {got} {expected}"
                    );
                }
            };
            near("y", &got, &y, 1.0);
            let sums = (m as f64).sqrt();
            near("d_gamma", &norm.d_gamma, &d_gamma, sums);
            near("d_beta", &norm.d_beta, &d_beta, sums);
            // Of two rows d_x is what eps leaves of nothing.
            near("d_x", &d, &d_x, 0.3);
        }
    }

    #[test]
    fn running_averages_reach_the_batch_and_inference_uses_them() {
        let (mut norm, x, _) = layer();
        let mut y = vec![0.0; M * N];
        for _ in 0..300 {
            norm.forward_train(&x, &mut y, Par::Caller).unwrap();
        }
        let mut eval = x.clone();
        norm.forward_eval(&mut eval, Par::Caller).unwrap();
        // The running variance is the unbiased one, the batch's own the biased one.
        let ratio = ((M - 1) as f32 / M as f32).sqrt();
        for (i, (eval, y)) in eval.iter().zip(&y).enumerate() {
            let expected = (y - norm.beta[i % N]) * ratio + norm.beta[i % N];
            assert!((eval - expected).abs() < 1e-3, "{eval} {expected}");
        }
    }

    #[test]
    fn batches_without_statistics_are_refused() {
        let mut norm = BatchNorm::new(3);
        let said = norm
            .forward_train(&[0.0; 3], &mut [0.0; 3], Par::Caller)
            .unwrap_err();
        assert_eq!(
            said.to_string(),
            "M is 1; expected 2 rows or more in a training batch"
        );
        assert!(
            norm.forward_train(&[0.0; 7], &mut [0.0; 7], Par::Caller)
                .is_err()
        );
        assert!(norm.forward_eval(&mut [0.0; 7], Par::Caller).is_err());
    }
}
