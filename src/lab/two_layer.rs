//! The net of two linear layers with a binary activation between, and Gaussian input.
//!
//! ```text
//!   y = v^T s(Z w)     s(x) = 1 for x > 0, else 0      Z [m, n] of N(0, 1), w [n], v [m]
//!   y* the same with v*, w*, |w*| = 1                  sample loss (y - y*)^2 / 2
//! ```
//!
//! With theta the angle between w and w*, w^ = w / |w|, e the unit vector of w* - (w* w^) w^, and 1 the vector of ones:
//!
//! ```text
//!   f      = [ v'(I + 11')v - 2 v'((1 - 2 theta / pi) I + 11')v* + v*'(I + 11')v* ] / 8
//!   df/dv  = [ (I + 11')v - ((1 - 2 theta / pi) I + 11')v* ] / 4
//!   df/dw  = -(v'v*) e / (2 pi |w|)
//! ```
//!
//! The sample loss has no derivative by w: it jumps where a row z_i of Z crosses the plane z'w = 0, which is where df/dw
//! comes from. So the mean over the plane of z times the height of the jump, with the density there, is df/dw as well:
//!
//! ```text
//!   df/dw  = sum_i E[ v_i (r_i + v_i / 2) u_i ] / (sqrt(2 pi) |w|)     u_i = z_i - (z_i'w^) w^ in the place of z_i
//!   r_i    = y - y* with row i in the plane and s(z_i'w) = 0
//! ```
//!
//! A coarse gradient puts mu' for s' in the backward pass, g = (y - y*) Z^T (v mu'(Z w)). Its expectation, with
//! h = |v|^2 + (1'v)^2 - (1'v)(1'v*) + v'v*:
//!
//! ```text
//!   ReLU       mu' = 1 for x > 0           [ h w^ - (v'v*)(w^ + w*) ] / (2 sqrt(2 pi))
//!   identity   mu' = 1                     [ |v|^2 w^ - (v'v*) w* ] / sqrt(2 pi)
//!   clipped    mu' = 1 for 0 < x <= c      h A / 2 - (v'v*) B,   a = c / |w|, K = (Phi(a / sin theta) - 1/2) / sqrt(2 pi)
//!              A = (1 - exp(-a^2 / 2)) w^ / sqrt(2 pi)
//!              B = [ 1 / (2 sqrt(2 pi)) - phi(a) Phi(a cot theta) + K cos theta ] w^ + K sin theta e
//! ```
//!
//! Source: Understanding Straight-Through Estimator in Training Activation Quantized Neural Nets, arXiv 1903.05662, lemmas 1
//! to 5, and Blended Coarse Gradient Descent, arXiv 1808.05240, section 3; the clipped form is worked out here, and all
//! are held against sampling by the tests.

use super::normal::{density, distribution};
use super::{cosine, dot, each, norm, normals};
use crate::error::{Error, Result};
use crate::nn::rng::Rng;
use crate::ops::Par;
use crate::shape::check_len;
use std::f64::consts::{PI, TAU};

/// What stands for the derivative of the binary activation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ste {
    /// 1 for x > 0.
    Relu,
    /// 1 for 0 < x <= c.
    Clipped(f64),
    /// 1.
    Identity,
}

impl Ste {
    /// mu'(x).
    pub fn derivative(self, x: f64) -> f64 {
        let passes = match self {
            Ste::Relu => x > 0.0,
            Ste::Clipped(c) => x > 0.0 && x <= c,
            Ste::Identity => true,
        };
        if passes { 1.0 } else { 0.0 }
    }

    /// A name for tables and figures.
    pub fn name(self) -> &'static str {
        match self {
            Ste::Relu => "ReLU",
            Ste::Clipped(_) => "clipped ReLU",
            Ste::Identity => "identity",
        }
    }
}

/// The teacher, and all that is known about its students.
#[derive(Clone, PartialEq, Debug)]
pub struct TwoLayer {
    v: Vec<f64>,
    w: Vec<f64>,
}

/// Means over samples with their standard errors.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Estimate {
    /// The means.
    pub mean: Vec<f64>,
    /// Standard errors of the means.
    pub error: Vec<f64>,
}

impl TwoLayer {
    /// The teacher v* `[m]`, w* `[n]`, whose length is made 1.
    ///
    /// Errors if one is empty, or w* is 0 or not finite.
    pub fn new(v: &[f64], w: &[f64]) -> Result<Self> {
        let size = norm(w);
        if v.is_empty() || !(size > 0.0 && size.is_finite()) {
            let expected = "m of 1 or more outputs and a finite w* that is not 0";
            return Err(Error::argument(
                "teacher",
                format!("{v:?}, {w:?}"),
                expected,
            ));
        }
        let w = w.iter().map(|w| w / size).collect();
        Ok(TwoLayer { v: v.to_vec(), w })
    }

    /// v*.
    pub fn v(&self) -> &[f64] {
        &self.v
    }

    /// w*, of length 1.
    pub fn w(&self) -> &[f64] {
        &self.w
    }

    /// The angle between `w` and w*, 0 to pi. `w` is `[n]` and not 0.
    pub fn angle(&self, w: &[f64]) -> f64 {
        let along = dot(w, &self.w) / norm(w);
        let across = self.across(w);
        norm(&across).atan2(along)
    }

    /// What of w* is orthogonal to `w`.
    fn across(&self, w: &[f64]) -> Vec<f64> {
        let share = dot(w, &self.w) / dot(w, w);
        self.w
            .iter()
            .zip(w)
            .map(|(star, w)| star - share * w)
            .collect()
    }

    /// The population loss f(v, w).
    pub fn loss(&self, v: &[f64], w: &[f64]) -> f64 {
        let (s, star) = (v.iter().sum::<f64>(), self.v.iter().sum::<f64>());
        let cross = (1.0 - 2.0 * self.angle(w) / PI) * dot(v, &self.v) + s * star;
        let (own, theirs) = (dot(v, v) + s * s, dot(&self.v, &self.v) + star * star);
        (own - 2.0 * cross + theirs) / 8.0
    }

    /// df/dv, which is also the mean of the sample gradients by v.
    pub fn d_v(&self, v: &[f64], w: &[f64]) -> Vec<f64> {
        let (s, star) = (v.iter().sum::<f64>(), self.v.iter().sum::<f64>());
        let part = 1.0 - 2.0 * self.angle(w) / PI;
        let each = v.iter().zip(&self.v);
        each.map(|(v, v_star)| (v + s - part * v_star - star) / 4.0)
            .collect()
    }

    /// df/dw; where w* is a multiple of w, and f has a kink, 0.
    pub fn d_w(&self, v: &[f64], w: &[f64]) -> Vec<f64> {
        let mut e = self.across(w);
        let size = norm(&e);
        let by = if size > 1e-15 {
            -dot(v, &self.v) / (TAU * norm(w) * size)
        } else {
            0.0
        };
        e.iter_mut().for_each(|e| *e *= by);
        e
    }

    /// The expected coarse gradient by w.
    pub fn coarse(&self, ste: Ste, v: &[f64], w: &[f64]) -> Vec<f64> {
        let (size, root) = (norm(w), TAU.sqrt());
        let (s, star) = (v.iter().sum::<f64>(), self.v.iter().sum::<f64>());
        let (own, cross) = (dot(v, v), dot(v, &self.v));
        let h = own + s * s - s * star + cross;
        // along w^, along w*, along e
        let (by_w, by_star, by_e) = match ste {
            Ste::Relu => ((h - cross) / (2.0 * root), -cross / (2.0 * root), 0.0),
            Ste::Identity => (own / root, -cross / root, 0.0),
            Ste::Clipped(c) => {
                let a = c / size;
                let (sin, cos) = self.angle(w).sin_cos();
                let k = (distribution(a / sin) - 0.5) / root;
                let first = (1.0 - (-0.5 * a * a).exp()) / root;
                let second = 0.5 / root - density(a) * distribution(a * cos / sin) + cos * k;
                (0.5 * h * first - cross * second, 0.0, -cross * sin * k)
            }
        };
        let mut e = self.across(w);
        let length = norm(&e).max(1e-300);
        for ((e, w), star) in e.iter_mut().zip(w).zip(&self.w) {
            *e = by_w * w / size + by_star * star + by_e * *e / length;
        }
        e
    }

    /// The local minimiser at theta = pi, v = (I + 11')^-1 (11' - I) v*, w = -w*.
    ///
    /// `None` unless (1'v*)^2 < (m + 1) / 2 |v*|^2: otherwise there is none.
    pub fn spurious(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        let m = self.v.len() as f64;
        let sum: f64 = self.v.iter().sum();
        if sum * sum >= 0.5 * (m + 1.0) * dot(&self.v, &self.v) {
            return None;
        }
        // (I + 11')^-1 x = x - 1 (1'x) / (m + 1), and (11' - I) v* has the sum (m - 1) 1'v*.
        let shift = sum - (m - 1.0) * sum / (m + 1.0);
        let v = self.v.iter().map(|v| shift - v).collect();
        Some((v, self.w.iter().map(|w| -w).collect()))
    }

    /// Loss, gradients by v and by w and coarse gradients by w of `samples` draws, in this order in one vector: 1, m, n, then
    /// n for each of `stes`. Those by w are taken in the plane where a row crosses it, as above. Sums are in the order of blocks of 4096 samples, whatever the threads.
    ///
    /// Errors if lengths differ.
    pub fn sampled(
        &self,
        stes: &[Ste],
        (v, w): (&[f64], &[f64]),
        samples: usize,
        rng: Rng,
        par: Par<'_>,
    ) -> Result<Estimate> {
        check_len("v", v.len(), self.v.len(), "m")?;
        check_len("w", w.len(), self.w.len(), "n")?;
        const BLOCK: usize = 4096;
        let len = 1 + v.len() + (1 + stes.len()) * w.len();
        let sums = each(par, samples.div_ceil(BLOCK), |block| {
            let count = BLOCK.min(samples - block * BLOCK);
            self.block(stes, (v, w), count, rng.at(block as u32, 0))
        });
        let (mut first, mut second) = (vec![0.0; len], vec![0.0; len]);
        for (one, two) in sums {
            first.iter_mut().zip(one).for_each(|(to, x)| *to += x);
            second.iter_mut().zip(two).for_each(|(to, x)| *to += x);
        }
        let count = samples as f64;
        let mean: Vec<f64> = first.iter().map(|x| x / count).collect();
        let error = mean.iter().zip(second);
        let error = error.map(|(m, x)| ((x / count - m * m).max(0.0) / count).sqrt());
        Ok(Estimate {
            error: error.collect(),
            mean,
        })
    }

    /// Sums and sums of squares over `count` samples.
    fn block(
        &self,
        stes: &[Ste],
        (v, w): (&[f64], &[f64]),
        count: usize,
        rng: Rng,
    ) -> (Vec<f64>, Vec<f64>) {
        let (m, n) = (v.len(), w.len());
        let z = normals(rng, count * m * n);
        let len = 1 + m + (1 + stes.len()) * n;
        let (mut sums, mut squares, mut one) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
        for z in z.chunks_exact(m * n) {
            let x: Vec<f64> = z.chunks_exact(n).map(|row| dot(row, w)).collect();
            let step = |x: f64| if x > 0.0 { 1.0 } else { 0.0 };
            let mut rest: f64 = x.iter().zip(v).map(|(x, v)| v * step(*x)).sum();
            let rows = z.chunks_exact(n).zip(&self.v);
            rest -= rows
                .map(|(row, v)| v * step(dot(row, &self.w)))
                .sum::<f64>();
            one[0] = 0.5 * rest * rest;
            for (to, x) in one[1..].iter_mut().zip(&x) {
                *to = rest * step(*x);
            }
            self.crossings((v, w), (z, &x), rest, &mut one[1 + m..][..n]);
            for (ste, to) in stes.iter().zip(one[1 + m + n..].chunks_exact_mut(n)) {
                to.fill(0.0);
                for ((row, x), v) in z.chunks_exact(n).zip(&x).zip(v) {
                    let by = rest * v * ste.derivative(*x);
                    to.iter_mut().zip(row).for_each(|(to, z)| *to += by * z);
                }
            }
            for ((sum, square), x) in sums.iter_mut().zip(&mut squares).zip(&one) {
                *sum += x;
                *square += x * x;
            }
        }
        (sums, squares)
    }

    /// What the crossings of the rows of a sample `z` with z'w = `x` and y - y* = `rest` give to df/dw.
    fn crossings(
        &self,
        (v, w): (&[f64], &[f64]),
        (z, x): (&[f64], &[f64]),
        rest: f64,
        to: &mut [f64],
    ) {
        let (square, step) = (dot(w, w), |x: f64| if x > 0.0 { 1.0 } else { 0.0 });
        let along = dot(w, &self.w) / square;
        let density = 1.0 / (TAU * square).sqrt();
        to.fill(0.0);
        let rows = z.chunks_exact(w.len()).zip(x);
        for ((row, x), (v, v_star)) in rows.zip(v.iter().zip(&self.v)) {
            // The teacher sees the row in the plane too.
            let by_star = dot(row, &self.w);
            let in_plane = step(by_star - x * along);
            let r = rest - v * step(*x) + v_star * (step(by_star) - in_plane);
            let by = density * v * (r + 0.5 * v);
            for ((to, z), w) in to.iter_mut().zip(row).zip(w) {
                *to += by * (z - x / square * w);
            }
        }
    }

    /// The cosine between the expected coarse gradient and df/dw.
    pub fn alignment(&self, ste: Ste, v: &[f64], w: &[f64]) -> f64 {
        cosine(&self.coarse(ste, v, w), &self.d_w(v, w))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Pool;

    fn made(seed: u64, m: usize, n: usize) -> (TwoLayer, Vec<f64>, Vec<f64>) {
        let rng = Rng::new(seed);
        let draw = |tensor, len| normals(rng.at(0, tensor), len);
        let teacher = TwoLayer::new(&draw(1, m), &draw(2, n)).unwrap();
        (teacher, draw(3, m), draw(4, n))
    }

    const STES: [Ste; 3] = [Ste::Relu, Ste::Clipped(1.0), Ste::Identity];

    #[test]
    fn closed_forms_are_the_means_of_samples_on_any_threads() {
        for seed in [1, 2] {
            let (teacher, v, w) = made(seed, 4, 5);
            let rng = Rng::new(77 + seed);
            let got = teacher
                .sampled(&STES, (&v, &w), 60_000, rng, Par::Caller)
                .unwrap();
            let mut expected = vec![teacher.loss(&v, &w)];
            expected.extend(teacher.d_v(&v, &w));
            expected.extend(teacher.d_w(&v, &w));
            assert_eq!(got.mean.len(), 1 + 4 + 5 + 3 * 5);
            STES.iter()
                .for_each(|s| expected.extend(teacher.coarse(*s, &v, &w)));
            for ((mean, error), expected) in got.mean.iter().zip(&got.error).zip(&expected) {
                assert!(
                    (mean - expected).abs() < 5.0 * error,
                    "{mean} {expected} {error}"
                );
            }
            for threads in [2, 3] {
                let pool = Pool::new(threads).unwrap();
                let par = Par::Pool(&pool);
                let same = teacher.sampled(&STES, (&v, &w), 60_000, rng, par).unwrap();
                assert_eq!(same, got);
            }
        }
    }

    #[test]
    fn gradients_are_differences_of_the_loss() {
        let (teacher, v, w) = made(3, 6, 4);
        let h = 1e-6;
        let slope = |f: &dyn Fn(f64) -> f64| (f(h) - f(-h)) / (2.0 * h);
        for (i, d) in teacher.d_v(&v, &w).into_iter().enumerate() {
            let by = slope(&|h| {
                let mut v = v.clone();
                v[i] += h;
                teacher.loss(&v, &w)
            });
            assert!((by - d).abs() < 1e-6 * (1.0 + d.abs()));
        }
        for (i, d) in teacher.d_w(&v, &w).into_iter().enumerate() {
            let by = slope(&|h| {
                let mut w = w.clone();
                w[i] += h;
                teacher.loss(&v, &w)
            });
            assert!((by - d).abs() < 1e-6 * (1.0 + d.abs()));
        }
    }

    #[test]
    fn a_clip_that_is_far_away_is_the_relu() {
        let (teacher, v, w) = made(4, 5, 7);
        let (relu, far) = (
            teacher.coarse(Ste::Relu, &v, &w),
            teacher.coarse(Ste::Clipped(1e3), &v, &w),
        );
        assert!(relu.iter().zip(&far).all(|(a, b)| (a - b).abs() < 1e-12));
        // The inner product with the true gradient, and its half for the ReLU: formula 7.
        let (theta, cross) = (teacher.angle(&w), dot(&v, teacher.v()));
        let expected = theta.sin() * cross * cross / (TAU.powf(1.5) * norm(&w));
        let with = |ste| dot(&teacher.coarse(ste, &v, &w), &teacher.d_w(&v, &w));
        assert!((with(Ste::Identity) - expected).abs() < 1e-12);
        assert!((with(Ste::Relu) - 0.5 * expected).abs() < 1e-12);
    }

    #[test]
    fn minimisers_and_the_spurious_one() {
        let (teacher, ..) = made(5, 8, 10);
        assert!(teacher.loss(teacher.v(), teacher.w()).abs() < 1e-15);
        let v_star: Vec<f64> = (0..8).map(|i| [1.0, -0.8][i % 2]).collect();
        let teacher = TwoLayer::new(&v_star, teacher.w()).unwrap();
        let (v, w) = teacher.spurious().unwrap();
        assert!((teacher.angle(&w) - PI).abs() < 1e-12);
        assert!(norm(&teacher.d_v(&v, &w)) < 1e-14);
        assert!(norm(&teacher.coarse(Ste::Relu, &v, &w)) < 1e-14);
        let sum: f64 = v_star.iter().sum();
        let expected = 2.0 * 7.0 / (TAU.sqrt() * 81.0) * sum * sum;
        let identity = norm(&teacher.coarse(Ste::Identity, &v, &w));
        assert!((identity - expected).abs() < 1e-12, "{identity} {expected}");
        assert!(
            TwoLayer::new(&[1.0; 8], teacher.w())
                .unwrap()
                .spurious()
                .is_none()
        );
        assert!(TwoLayer::new(&[1.0], &[0.0]).is_err() && TwoLayer::new(&[], &[1.0]).is_err());
    }
}
