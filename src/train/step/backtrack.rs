//! One-step forward and backtrack: a trial step, a second gradient there, and a step along the mean of both.
//!
//! ```text
//!   w^   = Q(w_f, D)       g   at w^        moments see g       D   = (eps + sqrt(v^)) / lr     (as of now)
//!   w*_f = w_f - g / D
//!   w^*  = Q(w*_f, D)      g*  at w^*       trial moments       D*  = (eps + sqrt(v*^)) / lr
//!   g_   = a g + (1 - a) g*                 D_ = a D + (1 - a) D*
//!   w_f  <- w_f - g_ / D_                   and D_ is the metric of the next projection
//! ```
//!
//! Both gradients are taken on the same batch. With beta1 above 0 the bias-corrected first moments stand for g and g*.
//! The paper does not say whether the trial moments stay; here they do not: only the moments of the first gradient go
//! on. a = 1 is the loss-aware rule with a gradient that is not used.
//!
//! Source: One-Step Forward and Backtrack, arXiv 2401.16760, appendix, algorithm 1 (a = 0.6 or 0.9).

use super::adam::{Adam, AdamState, metric_step};
use crate::error::{Error, Result};
use crate::shape::check_len;

/// How two gradients become one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backtrack {
    /// The share of the first gradient, 0 to 1.
    pub a: f32,
}

/// What the projection and the gradient are asked for: the weights, and where the answer goes.
#[derive(Debug)]
pub enum Trial<'a> {
    /// Project `latent` in `metric` into `w`.
    Project {
        /// The latent weights.
        latent: &'a [f32],
        /// D, as long.
        metric: &'a [f32],
        /// What they become.
        w: &'a mut [f32],
    },
    /// The gradient at `w`, on the same batch each time.
    Gradient {
        /// The projected weights.
        w: &'a [f32],
        /// The gradient of the loss there.
        g: &'a mut [f32],
    },
}

/// a first + (1 - a) second, in place of `first`; for gradients and metrics alike.
///
/// Errors if the lengths differ or a is not from 0 to 1.
pub fn combine(first: &mut [f32], second: &[f32], a: f32) -> Result<()> {
    check_len("second", second.len(), first.len(), "as the first")?;
    check_a(a)?;
    let rest = 1.0 - a;
    for (first, second) in first.iter_mut().zip(second) {
        *first = a * *first + rest * *second;
    }
    Ok(())
}

/// One step of both passes. `metric` is D of the step before (1 everywhere at first) and becomes that of this one.
///
/// `answer` is called four times: project, gradient, project, gradient; an error of it ends the step, with the moments of
/// the first gradient kept and the latent weights as they were. `w_f` and `metric` are `[n]`; it allocates.
///
/// Errors if the lengths differ or a number is out of its range.
pub fn forward_backtrack(
    rule: Backtrack,
    adam: &Adam,
    latent: &mut [f32],
    state: &mut AdamState,
    metric: &mut [f32],
    answer: &mut dyn FnMut(Trial<'_>) -> Result<()>,
) -> Result<()> {
    check_a(rule.a)?;
    check_len(
        "metric",
        metric.len(),
        latent.len(),
        "as the latent weights",
    )?;
    let n = latent.len();
    let (mut w, mut g) = (vec![0.0; n], vec![0.0; n]);

    // Forward: where the loss-aware rule would go.
    answer(Trial::Project {
        latent,
        metric: &*metric,
        w: &mut w,
    })?;
    answer(Trial::Gradient { w: &w, g: &mut g })?;
    adam.observe(latent, &g, state)?;
    let (mut first, mut d) = (vec![0.0; n], vec![0.0; n]);
    adam.direction(state, &mut first)?;
    adam.metric(state, &mut d)?;
    let mut trial = latent.to_vec();
    metric_step(&mut trial, &first, &d)?;

    // What is there.
    answer(Trial::Project {
        latent: &trial,
        metric: &d,
        w: &mut w,
    })?;
    answer(Trial::Gradient { w: &w, g: &mut g })?;
    let mut seen = state.clone();
    adam.observe(&trial, &g, &mut seen)?;
    let (mut second, mut d_second) = (trial, vec![0.0; n]);
    adam.direction(&seen, &mut second)?;
    adam.metric(&seen, &mut d_second)?;

    // Backtrack: from where it began, along both.
    combine(&mut first, &second, rule.a)?;
    combine(&mut d, &d_second, rule.a)?;
    metric_step(latent, &first, &d)?;
    metric.copy_from_slice(&d);
    Ok(())
}

fn check_a(a: f32) -> Result<()> {
    if (0.0..=1.0).contains(&a) {
        return Ok(());
    }
    Err(Error::argument("a", a, "0 to 1"))
}
