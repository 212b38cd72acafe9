//! Adam, with its second moment open: it is the metric of the loss-aware rules.
//!
//! ```text
//!   g  <- g + weight_decay value
//!   m  <- beta1 m + (1 - beta1) g          m^ = m / (1 - beta1^t)
//!   v  <- beta2 v + (1 - beta2) g^2        v^ = v / (1 - beta2^t)
//!   D   = (eps + sqrt(v^)) / lr            value <- value - m^ / D
//! ```
//!
//! Source: Adam, arXiv 1412.6980, in torch's convention; the metric D as in Loss-aware Binarization, arXiv 1611.01600.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::elementary::power;
use crate::shape::check_len;

/// The numbers of a step.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Learning rate, above 0.
    pub lr: f32,
    /// Decay of the first moment, 0 to below 1; 0 makes the steps g / D of the papers on loss-aware weights.
    pub beta1: f32,
    /// Decay of the second moment, 0 to below 1.
    pub beta2: f32,
    /// What is added to the root of the second moment, above 0.
    pub eps: f32,
    /// Weight decay, added to the gradient as `weight_decay * value`; 0 or more.
    pub weight_decay: f32,
}

impl Default for Adam {
    fn default() -> Self {
        Adam {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// What Adam remembers of a tensor.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AdamState {
    /// Steps that are done.
    pub steps: u64,
    /// The first moment.
    pub m: Vec<f32>,
    /// The second moment.
    pub v: Vec<f32>,
}

impl AdamState {
    /// Nothing yet, for `len` values.
    pub fn zeros(len: usize) -> Self {
        AdamState {
            steps: 0,
            m: vec![0.0; len],
            v: vec![0.0; len],
        }
    }

    /// The same, borrowed.
    pub fn moments(&mut self) -> Moments<'_> {
        Moments {
            steps: &mut self.steps,
            m: &mut self.m,
            v: &mut self.v,
        }
    }
}

/// What Adam remembers of a tensor, kept by somebody else.
#[derive(Debug)]
pub struct Moments<'a> {
    /// Steps that are done.
    pub steps: &'a mut u64,
    /// The first moment.
    pub m: &'a mut [f32],
    /// The second moment.
    pub v: &'a mut [f32],
}

impl Adam {
    /// Errors if a number is out of its range.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::argument(name, value, "0 to below 1"));
            }
        }
        for (name, value) in [("lr", self.lr), ("eps", self.eps)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::argument(name, value, "a number above 0"));
            }
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            let expected = "a number of 0 or more";
            return Err(Error::argument("weight_decay", self.weight_decay, expected));
        }
        Ok(())
    }

    /// Counts a step and moves both moments by `gradient` at `value`.
    ///
    /// Errors if the lengths differ or a number is out of its range.
    pub fn observe(&self, value: &[f32], gradient: &[f32], state: &mut AdamState) -> Result<()> {
        self.observe_moments(value, gradient, state.moments())
    }

    /// As [`Adam::observe`], with moments that are kept elsewhere.
    pub fn observe_moments(
        &self,
        value: &[f32],
        gradient: &[f32],
        moments: Moments<'_>,
    ) -> Result<()> {
        self.check()?;
        let Moments { steps, m, v } = moments;
        check_moments(value, gradient, m, v)?;
        *steps += 1;
        self.observe_piece(value, gradient, m, v);
        Ok(())
    }

    fn observe_piece(&self, value: &[f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
        let (rest1, rest2) = (1.0 - self.beta1, 1.0 - self.beta2);
        for (((m, v), g), value) in m.iter_mut().zip(v).zip(gradient).zip(value) {
            let g = g + self.weight_decay * value;
            *m = self.beta1 * *m + rest1 * g;
            *v = self.beta2 * *v + rest2 * (g * g);
        }
    }

    /// The metric D of the moments, as they are after `state.steps` steps.
    ///
    /// Errors if the lengths differ, a number is out of its range, or no step is done.
    pub fn metric(&self, state: &AdamState, metric: &mut [f32]) -> Result<()> {
        self.metric_of(&state.v, state.steps, metric)
    }

    /// As [`Adam::metric`], of a second moment that is kept elsewhere.
    pub fn metric_of(&self, v: &[f32], steps: u64, metric: &mut [f32]) -> Result<()> {
        self.check()?;
        check_len("metric", metric.len(), v.len(), "as the moments")?;
        let by = correction(self.beta2, steps)?;
        for (d, v) in metric.iter_mut().zip(v) {
            *d = (self.eps + (v * by).sqrt()) / self.lr;
        }
        Ok(())
    }

    /// What the metric divides in a step, m^.
    ///
    /// Errors if the lengths differ, a number is out of its range, or no step is done.
    pub fn direction(&self, state: &AdamState, direction: &mut [f32]) -> Result<()> {
        self.direction_of(&state.m, state.steps, direction)
    }

    /// As [`Adam::direction`], of a first moment that is kept elsewhere.
    pub fn direction_of(&self, m: &[f32], steps: u64, direction: &mut [f32]) -> Result<()> {
        self.check()?;
        check_len("direction", direction.len(), m.len(), "as the moments")?;
        let by = correction(self.beta1, steps)?;
        for (to, m) in direction.iter_mut().zip(m) {
            *to = m * by;
        }
        Ok(())
    }

    /// One whole step: `observe`, then value <- value - m^ / D, element by element.
    ///
    /// Errors if the lengths differ or a number is out of its range.
    pub fn step(&self, value: &mut [f32], gradient: &[f32], state: &mut AdamState) -> Result<()> {
        self.step_moments(value, gradient, state.moments())
    }

    /// As [`Adam::step`], with moments that are kept elsewhere.
    pub fn step_moments(
        &self,
        value: &mut [f32],
        gradient: &[f32],
        moments: Moments<'_>,
    ) -> Result<()> {
        self.check()?;
        let Moments { steps, m, v } = moments;
        check_moments(value, gradient, m, v)?;
        *steps += 1;
        let (by1, by2) = (
            correction(self.beta1, *steps)?,
            correction(self.beta2, *steps)?,
        );
        // Piece by piece, so that the moments are still near when they are read again.
        let pieces = value.chunks_mut(PIECE).zip(gradient.chunks(PIECE));
        let pieces = pieces.zip(m.chunks_mut(PIECE).zip(v.chunks_mut(PIECE)));
        for ((value, gradient), (m, v)) in pieces {
            self.observe_piece(value, gradient, m, v);
            for ((value, m), v) in value.iter_mut().zip(m).zip(v) {
                let d = (self.eps + (*v * by2).sqrt()) / self.lr;
                *value -= (*m * by1) / d;
            }
        }
        Ok(())
    }
}

/// Values of which a step does all before it goes on.
const PIECE: usize = 2048;

fn check_moments(value: &[f32], gradient: &[f32], m: &[f32], v: &[f32]) -> Result<()> {
    for (name, len) in [("gradient", gradient.len()), ("m", m.len()), ("v", v.len())] {
        check_len(name, len, value.len(), "as the values")?;
    }
    Ok(())
}

/// 1 / (1 - beta^steps).
fn correction(beta: f32, steps: u64) -> Result<f32> {
    if steps == 0 {
        return Err(Error::argument(
            "steps",
            0,
            "moments that have seen a gradient",
        ));
    }
    Ok((1.0 / (1.0 - power(f64::from(beta), steps))) as f32)
}

/// A step in the metric, latent <- latent - g / D: LAB and LAQ with g the gradient, or Adam with g = m^.
///
/// Errors if the lengths differ.
pub fn metric_step(latent: &mut [f32], g: &[f32], metric: &[f32]) -> Result<()> {
    check_len("g", g.len(), latent.len(), "as the latent weights")?;
    check_len(
        "metric",
        metric.len(),
        latent.len(),
        "as the latent weights",
    )?;
    for ((latent, g), d) in latent.iter_mut().zip(g).zip(metric) {
        *latent -= g / d;
    }
    Ok(())
}
