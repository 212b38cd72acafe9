//! Weight rules step by step, over slices: for those who have a training loop of their own.
//!
//! ```text
//!   w_f latent weights      w = Q(w_f)      g the gradient at w, coarse or not      eta learning rate
//!
//!   BinaryConnect     w_f <- w_f - eta g
//!   BCGD              w_f <- (1 - rho) w_f + rho w - eta g                 blend, then any step
//!   projected         w_f <- w - eta g                                     blend with rho = 1
//!   BinaryRelax       g at (w_f + lambda w) / (1 + lambda)                 relax
//!   rounding          w <- Q_d(w - eta g)  or  Q_s(w - eta g)              round_step: no latent weights
//!   loss-aware        w_f <- w_f - g / D,  D = (eps + sqrt(v)) / eta       Metric, metric_step, Q in the metric
//!   forward-backtrack two gradients a step                                 forward_backtrack
//!   Bop               flips by a mean of gradients                         Bop
//! ```
//!
//! The pieces are independent: blend, step (SGD, Adam, metric), project, and what comes behind (clip, freeze, dampen). None
//! allocates but those that say so. Every operation is rounded by itself, in one order: the same bits everywhere.

mod adam;
mod backtrack;
mod bop;
mod freeze;

pub use adam::{Adam, AdamState, Moments, metric_step};
pub use backtrack::{Backtrack, Trial, combine, forward_backtrack};
pub use bop::Bop;
pub use freeze::{Freezer, dampen};

use crate::error::{Error, Result};
use crate::nn::rng::Rng;
use crate::nn::weight::{grid_det, grid_stoch};
use crate::shape::check_len;

/// Draws latent weights to their projection `w`, any projection: w_f <- (1 - rho) w_f + rho w.
///
/// The step along the gradient comes after. Errors if the lengths differ or rho is not from 0 to 1.
///
/// Source: Blended Coarse Gradient Descent, arXiv 1808.05240, section 3.
pub fn blend(latent: &mut [f32], w: &[f32], rho: f32) -> Result<()> {
    check_len("w", w.len(), latent.len(), "as the latent weights")?;
    if !(0.0..=1.0).contains(&rho) {
        return Err(Error::argument("rho", rho, "0 to 1"));
    }
    let keep = 1.0 - rho;
    for (latent, w) in latent.iter_mut().zip(w) {
        *latent = keep * *latent + rho * *w;
    }
    Ok(())
}

/// Where BinaryRelax takes its gradient: out = (w_f + lambda w) / (1 + lambda).
///
/// Errors if the lengths differ or lambda is not a number of 0 or more.
///
/// Source: BinaryRelax, arXiv 1801.06313.
pub fn relax(latent: &[f32], w: &[f32], lambda: f32, out: &mut [f32]) -> Result<()> {
    check_len("w", w.len(), latent.len(), "as the latent weights")?;
    check_len("out", out.len(), latent.len(), "as the latent weights")?;
    out.copy_from_slice(w);
    crate::nn::weight::relax_in_place(latent, lambda, out)
}

/// A plain step, value <- value - lr gradient.
///
/// Errors if the lengths differ.
pub fn descend(value: &mut [f32], gradient: &[f32], lr: f32) -> Result<()> {
    check_len("gradient", gradient.len(), value.len(), "as the values")?;
    for (value, g) in value.iter_mut().zip(gradient) {
        *value -= lr * g;
    }
    Ok(())
}

/// How [`round_step`] rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum GridRounding {
    /// To the nearest multiple, ties away from 0.
    Deterministic,
    /// To one of the two multiples beside, by the draws of a generator: element i draws `uniform(i)`.
    Stochastic(Rng),
}

/// A step without latent weights, w <- Q(w - lr gradient) on the multiples of `delta`.
///
/// With deterministic rounding nothing moves once |lr gradient| is below delta / 2. NaN becomes 0. Errors if the
/// lengths differ or delta is not a positive number.
///
/// Source: Training Quantized Nets: A Deeper Understanding, arXiv 1706.02379, section 3 (R and SR).
pub fn round_step(
    w: &mut [f32],
    gradient: &[f32],
    lr: f32,
    delta: f32,
    rounding: GridRounding,
) -> Result<()> {
    descend(w, gradient, lr)?;
    round(w, delta, rounding)
}

/// Rounds `w` to multiples of `delta`, in place; NaN becomes 0.
///
/// Errors if delta is not a positive number.
pub fn round(w: &mut [f32], delta: f32, rounding: GridRounding) -> Result<()> {
    if !(delta > 0.0 && delta.is_finite()) {
        return Err(Error::argument("delta", delta, "a number above 0"));
    }
    match rounding {
        GridRounding::Deterministic => {
            for w in w {
                *w = delta * grid_det(*w, delta) as f32;
            }
        }
        GridRounding::Stochastic(rng) => {
            let mut draws = [0.0; DRAWS];
            for (at, w) in (0..).zip(w.chunks_mut(DRAWS)) {
                rng.fill_uniform(at * DRAWS as u64 / 4, &mut draws);
                for (w, u) in w.iter_mut().zip(&draws) {
                    *w = delta * grid_stoch(*w, delta, *u) as f32;
                }
            }
        }
    }
    Ok(())
}

/// Draws that are made at a time.
const DRAWS: usize = 256;

/// Clips latent weights to [-bound, bound], as BinaryConnect and the loss-aware rules do after each step; NaN stays.
///
/// Errors if the bound is not above 0.
pub fn clip(latent: &mut [f32], bound: f32) -> Result<()> {
    if bound.is_nan() || bound <= 0.0 {
        return Err(Error::argument("bound", bound, "a number above 0"));
    }
    for w in latent {
        *w = w.clamp(-bound, bound);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
