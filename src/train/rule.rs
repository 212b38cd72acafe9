//! Weight rules: how latent weights move beside the optimiser's step.
//!
//! ```text
//!   w_f <- (1 - rho) w_f + rho Q(w_f) - eta g(Q(w_f))
//! ```
//!
//! The gradient is taken at the projected weights w = Q(w_f), and blending comes before the step. If the
//! loss f is L-smooth, g its gradient and Q an exact projection, then
//!
//! ```text
//!   f(w') - f(w) <= -(rho / eta - L) |w' - w|^2 / 2
//! ```
//!
//! so for rho >= eta L the loss never rises. BinaryConnect is rho = 0, for which nothing is promised.
//!
//! Source: Blended Coarse Gradient Descent, arXiv 1808.05240, section 3; BinaryConnect, arXiv 1511.00363.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A weight rule.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Blended coarse gradient descent.
    Bcgd {
        /// How far the latent weights are drawn to their projection in a step, 0 to 1.
        rho: f32,
    },
    /// No blending.
    BinaryConnect,
}

impl Default for Rule {
    /// Blended, with the paper's rho of 1e-5.
    fn default() -> Self {
        Rule::Bcgd { rho: 1e-5 }
    }
}

impl Rule {
    /// Errors if rho is not from 0 to 1.
    pub fn check(self) -> Result<()> {
        match self {
            Rule::Bcgd { rho } if !(0.0..=1.0).contains(&rho) => {
                Err(Error::argument("rho", rho, "0 to 1"))
            }
            _ => Ok(()),
        }
    }

    /// Draws latent weights to their projection, as long; the optimiser's step comes after.
    pub fn blend(self, latent: &mut [f32], projected: &[f32]) {
        let Rule::Bcgd { rho } = self else { return };
        let keep = 1.0 - rho;
        for (latent, w) in latent.iter_mut().zip(projected) {
            *latent = keep * *latent + rho * *w;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;
    use crate::quant::binary_mean;

    const N: usize = 30;
    const SAMPLES: usize = 120;
    const ETA: f64 = 0.01;

    /// f(w) = |A w - y|^2 / (2 samples), with A and y normal.
    struct Quadratic {
        a: Vec<f32>,
        y: Vec<f32>,
    }

    impl Quadratic {
        fn new() -> Self {
            let (mut a, mut y) = (vec![0.0; SAMPLES * N], vec![0.0; SAMPLES]);
            Rng::new(11).fill_normal(&mut a, 1.0);
            Rng::new(12).fill_normal(&mut y, 5.0);
            Quadratic { a, y }
        }

        /// f and its gradient.
        fn at(&self, w: &[f64]) -> (f64, Vec<f64>) {
            let (mut f, mut g) = (0.0, vec![0.0; N]);
            for (row, y) in self.a.chunks_exact(N).zip(&self.y) {
                let dot: f64 = row.iter().zip(w).map(|(a, w)| f64::from(*a) * w).sum();
                let rest = dot - f64::from(*y);
                f += rest * rest / (2 * SAMPLES) as f64;
                for (g, a) in g.iter_mut().zip(row) {
                    *g += rest * f64::from(*a) / SAMPLES as f64;
                }
            }
            (f, g)
        }

        /// L, the largest eigenvalue of A^T A / samples, by the power method; a little above, to be safe.
        fn smoothness(&self) -> f64 {
            let zero = self.at(&[0.0; N]).1;
            let (mut v, mut size) = (vec![1.0; N], 0.0);
            for _ in 0..500 {
                let g = self.at(&v).1;
                v = g.iter().zip(&zero).map(|(g, z)| g - z).collect();
                size = v.iter().map(|v| v * v).sum::<f64>().sqrt();
                v.iter_mut().for_each(|v| *v /= size);
            }
            size * 1.001
        }
    }

    /// 1500 steps: how often f rose, and how often the bound of the module's head was broken.
    fn run(problem: &Quadratic, rule: Rule, rho: f64, smoothness: f64) -> (usize, usize) {
        let project = |latent: &[f32]| {
            let (signs, delta) = binary_mean(latent, 1, N).unwrap();
            let w = signs.unpack().into_iter();
            (
                w.map(|s| f64::from(delta) * f64::from(s))
                    .collect::<Vec<f64>>(),
                delta,
            )
        };
        let mut latent = vec![0.0; N];
        Rng::new(13).fill_normal(&mut latent, 0.5);
        let (mut rises, mut broken) = (0, 0);
        let (mut w, _) = project(&latent);
        for _ in 0..1500 {
            let (f, g) = problem.at(&w);
            let at: Vec<f32> = w.iter().map(|w| *w as f32).collect();
            rule.blend(&mut latent, &at);
            for (latent, g) in latent.iter_mut().zip(&g) {
                *latent -= (ETA * g) as f32;
            }
            let (next, _) = project(&latent);
            let moved: f64 = next.iter().zip(&w).map(|(a, b)| (a - b) * (a - b)).sum();
            let change = problem.at(&next).0 - f;
            // f32 latent weights: their rounding, seen through rho / eta and the gradient, stays below this.
            let slack = 1e-5;
            rises += usize::from(change > slack);
            broken += usize::from(change > -0.5 * (rho / ETA - smoothness) * moved + slack);
            w = next;
        }
        (rises, broken)
    }

    #[test]
    fn blending_descends_as_the_lemma_says_and_binary_connect_does_not() {
        let problem = Quadratic::new();
        let smoothness = problem.smoothness();
        for share in [0.05, 0.3, 1.0, 1.5, 5.0] {
            let rho = share * ETA * smoothness;
            let rule = Rule::Bcgd { rho: rho as f32 };
            let (rises, broken) = run(&problem, rule, rho, smoothness);
            assert_eq!(broken, 0, "rho = {share} eta L");
            if share >= 1.0 {
                assert_eq!(rises, 0, "rho = {share} eta L");
            }
        }
        let (rises, broken) = run(&problem, Rule::BinaryConnect, 0.0, smoothness);
        assert_eq!(broken, 0);
        assert!(rises > 100, "{rises}");
    }

    #[test]
    fn rho_zero_is_binary_connect_and_rho_one_is_the_projection() {
        let latent = [0.5, -0.25, 0.0, -0.0];
        let after = |rule: Rule| {
            let mut latent = latent;
            rule.blend(&mut latent, &[2.0, -2.0, 2.0, 2.0]);
            latent
        };
        assert_eq!(after(Rule::Bcgd { rho: 0.0 }), after(Rule::BinaryConnect));
        assert_eq!(after(Rule::BinaryConnect), latent);
        assert_eq!(after(Rule::Bcgd { rho: 1.0 }), [2.0, -2.0, 2.0, 2.0]);
        for rho in [-0.1, 1.1, f32::NAN] {
            let said = Rule::Bcgd { rho }.check().unwrap_err().to_string();
            assert_eq!(said, format!("rho is {rho}; expected 0 to 1"));
        }
    }
}
