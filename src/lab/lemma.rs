//! Blended descent on a quadratic over binary weights, against what the descent lemma promises.
//!
//! ```text
//!   f(w) = |A w - y|^2 / (2 N)      w = delta s, s in {-1, +1}^n      L the largest eigenvalue of A'A / N
//!   w_f <- (1 - rho) w_f + rho w - eta grad f(w),   w <- Q(w_f)
//!   f(w') - f(w) <= -(rho / eta - L) |w' - w|^2 / 2
//! ```
//!
//! Source: Blended Coarse Gradient Descent, arXiv 1808.05240, section 3 (sufficient descent).

use super::{dot, norm, normals};
use crate::error::Result;
use crate::nn::rng::Rng;
use crate::nn::weight::{Given, Project, Projection, WeightQuantizer};
use crate::train::step::{blend, descend};

/// A quadratic: A `[N, n]` of N(0, 1), y of N(0, spread^2).
#[derive(Clone, PartialEq, Debug)]
pub struct Quadratic {
    n: usize,
    a: Vec<f64>,
    y: Vec<f64>,
    smoothness: f64,
}

/// What a run showed.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// f after each step.
    pub losses: Vec<f64>,
    /// Steps after which f was larger.
    pub rises: usize,
    /// Steps that broke the bound.
    pub broken: usize,
}

impl Quadratic {
    /// The quadratic of a seed.
    pub fn new(n: usize, samples: usize, spread: f64, seed: u64) -> Self {
        let rng = Rng::new(seed);
        let a = normals(rng, samples * n);
        let mut y = normals(rng.at(0, 1), samples);
        y.iter_mut().for_each(|y| *y *= spread);
        let mut quadratic = Quadratic {
            n,
            a,
            y,
            smoothness: 0.0,
        };
        quadratic.smoothness = quadratic.largest_eigenvalue();
        quadratic
    }

    /// L.
    pub fn smoothness(&self) -> f64 {
        self.smoothness
    }

    /// f and its gradient.
    pub fn at(&self, w: &[f64]) -> (f64, Vec<f64>) {
        let samples = self.y.len() as f64;
        let (mut f, mut g) = (0.0, vec![0.0; self.n]);
        for (row, y) in self.a.chunks_exact(self.n).zip(&self.y) {
            let rest = dot(row, w) - y;
            f += rest * rest / (2.0 * samples);
            g.iter_mut()
                .zip(row)
                .for_each(|(g, a)| *g += rest * a / samples);
        }
        (f, g)
    }

    /// By the power method; a little above, to be safe.
    fn largest_eigenvalue(&self) -> f64 {
        let zero = self.at(&vec![0.0; self.n]).1;
        let (mut v, mut size) = (vec![1.0; self.n], 0.0);
        for _ in 0..500 {
            let g = self.at(&v).1;
            v = g.iter().zip(&zero).map(|(g, z)| g - z).collect();
            size = norm(&v);
            v.iter_mut().for_each(|v| *v /= size);
        }
        size * (1.0 + 1e-6)
    }

    /// `steps` steps with the library's own projection, blending and descent, from latent weights of N(0, 1/4).
    pub fn run(&self, rho: f64, eta: f64, steps: usize, seed: u64) -> Result<Run> {
        let n = self.n;
        let mut latent = vec![0f32; n];
        Rng::new(seed).fill_normal(&mut latent, 0.5);
        let quantizer = WeightQuantizer::default();
        let wide = |w: &[f32]| w.iter().map(|w| f64::from(*w)).collect::<Vec<f64>>();
        let (mut w, mut next) = (Projection::default(), Projection::default());
        quantizer.project_into(&latent, 1, n, Given::default(), &mut w)?;
        let (mut losses, mut rises, mut broken) = (Vec::with_capacity(steps), 0, 0);
        let (mut f, mut g) = self.at(&wide(&w.values));
        for _ in 0..steps {
            let narrow: Vec<f32> = g.iter().map(|g| *g as f32).collect();
            blend(&mut latent, &w.values, rho as f32)?;
            descend(&mut latent, &narrow, eta as f32)?;
            quantizer.project_into(&latent, 1, n, Given::default(), &mut next)?;
            let pairs = next.values.iter().zip(&w.values);
            let moved: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
            std::mem::swap(&mut w, &mut next);
            let before = f;
            (f, g) = self.at(&wide(&w.values));
            // Latent weights are f32: their rounding, seen through rho / eta and the gradient, stays below this.
            let slack = 1e-5 * (1.0 + before);
            rises += usize::from(f - before > slack);
            let bound = -0.5 * (rho / eta - self.smoothness) * moved;
            broken += usize::from(f - before > bound + slack);
            losses.push(f);
        }
        Ok(Run {
            losses,
            rises,
            broken,
        })
    }
}

impl Run {
    /// Mean and standard deviation of f over the last `count` steps.
    pub fn end(&self, count: usize) -> (f64, f64) {
        let last = &self.losses[self.losses.len().saturating_sub(count)..];
        let mean = last.iter().sum::<f64>() / last.len() as f64;
        let var = last.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / last.len() as f64;
        (mean, var.sqrt())
    }

    /// The least f.
    pub fn best(&self) -> f64 {
        self.losses.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_large_rho_never_rises() {
        let quadratic = Quadratic::new(20, 80, 5.0, 4);
        let (eta, l) = (0.01, quadratic.smoothness());
        let zero = quadratic.run(0.0, eta, 600, 1).unwrap();
        assert!(zero.broken == 0 && zero.rises > 50, "{}", zero.rises);
        let large = quadratic.run(1.001 * eta * l, eta, 600, 1).unwrap();
        assert_eq!((large.broken, large.rises), (0, 0));
        assert!(large.end(100).0 < zero.end(100).0 && large.best() <= large.end(1).0);
    }
}
