//! Zig-zag: a quadratic over binary weights, the loss-aware rule against one-step forward and backtrack.
//!
//! ```text
//!   f(w) = (w - t)' H (w - t) / 2      w = scale sign(w_f), projected in the metric D of Adam without first moment
//! ```
//!
//! The measure is the cosine between gradients of consecutive steps: near -1 where steps jump to and fro.
//!
//! The toy: f(w) = |w|^(3/2) has g / H = 2 w, so a Newton step goes to -w and back for ever; a step of forward and
//! backtrack with the share a multiplies w by 3 - 4a.
//!
//! Source: One-Step Forward and Backtrack, arXiv 2401.16760, appendix; the multiplier and the quadratic are worked out
//! here.

use super::{cosine, dot, normals};
use crate::error::Result;
use crate::nn::rng::Rng;
use crate::nn::weight::{Given, Project, Projection, Scope, WeightQuantizer};
use crate::train::step::{
    Adam, AdamState, Backtrack, Trial, combine, forward_backtrack, metric_step,
};

/// A quadratic.
#[derive(Clone, PartialEq, Debug)]
pub struct Quadratic {
    n: usize,
    h: Vec<f64>,
    t: Vec<f64>,
}

/// What a run showed.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// f at the quantized weights of each step.
    pub losses: Vec<f64>,
    /// The cosine between the gradient of each step and that of the step before.
    pub cosines: Vec<f64>,
    /// Gradients that were taken.
    pub gradients: usize,
}

/// Which rule moves the weights.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rule {
    /// w_f <- w_f - g / D: one gradient a step.
    LossAware,
    /// Forward and backtrack with the share a of the first gradient: two a step.
    Backtrack(f32),
}

impl Quadratic {
    /// H = B'B / n with B `[n, n]` of N(0, 1), and t of N(0, 1).
    pub fn new(n: usize, seed: u64) -> Self {
        let rng = Rng::new(seed);
        let b = normals(rng, n * n);
        let mut h = vec![0.0; n * n];
        for row in b.chunks_exact(n) {
            for i in 0..n {
                (0..n).for_each(|j| h[i * n + j] += row[i] * row[j] / n as f64);
            }
        }
        let t = normals(rng.at(0, 1), n);
        Quadratic { n, h, t }
    }

    /// f and its gradient.
    pub fn at(&self, w: &[f32]) -> (f64, Vec<f64>) {
        let rest: Vec<f64> = w
            .iter()
            .zip(&self.t)
            .map(|(w, t)| f64::from(*w) - t)
            .collect();
        let g: Vec<f64> = self
            .h
            .chunks_exact(self.n)
            .map(|row| dot(row, &rest))
            .collect();
        (0.5 * dot(&g, &rest), g)
    }

    /// Runs until `gradients` gradients are taken, from latent weights of a seed.
    pub fn run(&self, rule: Rule, lr: f32, gradients: usize, seed: u64) -> Result<Run> {
        let adam = Adam {
            lr,
            beta1: 0.0,
            ..Adam::default()
        };
        let mut latent = vec![0f32; self.n];
        Rng::new(seed).fill_normal(&mut latent, 0.5);
        let mut state = AdamState::zeros(self.n);
        let mut metric = vec![1f32; self.n];
        let quantizer = WeightQuantizer::LossAwareBinary {
            scope: Scope::Tensor,
        };
        let mut memory = Projection::default();
        let mut project = |latent: &[f32], metric: &[f32], w: &mut [f32]| -> Result<()> {
            let given = Given {
                metric: Some(metric),
                ..Given::default()
            };
            quantizer.project_into(latent, 1, latent.len(), given, &mut memory)?;
            w.copy_from_slice(&memory.values);
            Ok(())
        };
        let mut run = Run {
            losses: Vec::new(),
            cosines: Vec::new(),
            gradients: 0,
        };
        let mut before: Option<Vec<f64>> = None;
        while run.gradients < gradients {
            // What the first gradient of the step showed.
            let mut first: Option<Vec<f64>> = None;
            let mut gradient = |w: &[f32], to: &mut [f32]| {
                let (f, g) = self.at(w);
                run.gradients += 1;
                to.iter_mut().zip(&g).for_each(|(to, g)| *to = *g as f32);
                if first.is_none() {
                    run.losses.push(f);
                    first = Some(g);
                }
            };
            match rule {
                Rule::LossAware => {
                    let (mut w, mut g) = (vec![0.0; self.n], vec![0.0; self.n]);
                    project(&latent, &metric, &mut w)?;
                    gradient(&w, &mut g);
                    adam.observe(&latent, &g, &mut state)?;
                    adam.metric(&state, &mut metric)?;
                    metric_step(&mut latent, &g, &metric)?;
                }
                Rule::Backtrack(a) => {
                    let rule = Backtrack { a };
                    let mut answer = |trial: Trial<'_>| match trial {
                        Trial::Project { latent, metric, w } => project(latent, metric, w),
                        Trial::Gradient { w, g } => {
                            gradient(w, g);
                            Ok(())
                        }
                    };
                    forward_backtrack(
                        rule,
                        &adam,
                        &mut latent,
                        &mut state,
                        &mut metric,
                        &mut answer,
                    )?;
                }
            }
            if let (Some(before), Some(now)) = (&before, &first) {
                run.cosines.push(cosine(before, now));
            }
            before = first;
        }
        Ok(run)
    }
}

impl Run {
    /// The mean cosine, and the share of negative ones.
    pub fn zigzag(&self) -> (f64, f64) {
        let n = self.cosines.len().max(1) as f64;
        let negative = self.cosines.iter().filter(|c| **c < 0.0).count() as f64;
        (self.cosines.iter().sum::<f64>() / n, negative / n)
    }

    /// The mean of f over the last quarter of the steps.
    pub fn end(&self) -> f64 {
        let last = &self.losses[self.losses.len() * 3 / 4..];
        last.iter().sum::<f64>() / last.len().max(1) as f64
    }
}

/// Weights of the toy from 1 on, `steps` steps: the Newton step for `None`, else forward and backtrack with the share a.
pub fn toy(a: Option<f32>, steps: usize) -> Result<Vec<f32>> {
    let g = |w: f32| 1.5 * w.abs().sqrt() * w.signum();
    let h = |w: f32| 0.75 / w.abs().max(1e-30).sqrt();
    let mut w = vec![1.0];
    for step in 0..steps {
        let now = w[step];
        let (mut next, mut trial) = ([now], [now]);
        let (mut first, mut d) = ([g(now)], [h(now)]);
        if let Some(a) = a {
            metric_step(&mut trial, &first, &d)?;
            combine(&mut first, &[g(trial[0])], a)?;
            combine(&mut d, &[h(trial[0])], a)?;
        }
        metric_step(&mut next, &first, &d)?;
        w.push(next[0]);
    }
    Ok(w)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toy_is_multiplied_by_3_minus_4a() {
        for a in [0.5f32, 0.6, 0.9, 1.0] {
            let w = toy(Some(a), 6).unwrap();
            for (step, w) in w.iter().enumerate() {
                let expected = (3.0 - 4.0 * a).powi(step as i32);
                assert!((w - expected).abs() < 1e-5, "a = {a}, step {step}: {w}");
            }
        }
        assert!(
            toy(None, 5)
                .unwrap()
                .iter()
                .all(|w| (w.abs() - 1.0).abs() < 1e-6)
        );
    }

    #[test]
    fn gradients_are_counted_and_the_quadratic_is_one() {
        let quadratic = Quadratic::new(6, 1);
        let (f, g) = quadratic.at(&[0.1; 6]);
        let mut w = [0.1f32; 6];
        w[2] += 1e-2;
        let (there, g2) = quadratic.at(&w);
        let d = f64::from(w[2] - 0.1);
        assert!((there - f - 0.5 * d * (g[2] + g2[2])).abs() < 1e-9);
        let laq = quadratic.run(Rule::LossAware, 0.05, 100, 2).unwrap();
        let blaq = quadratic.run(Rule::Backtrack(0.6), 0.05, 100, 2).unwrap();
        assert_eq!((laq.gradients, laq.losses.len()), (100, 100));
        assert_eq!(
            (blaq.gradients, blaq.losses.len(), blaq.cosines.len()),
            (100, 50, 49)
        );
        assert_eq!(laq.losses[0], blaq.losses[0]);
    }
}
