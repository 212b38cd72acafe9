//! Bop: binary weights without latent ones, flipped when a mean of gradients pushes long enough.
//!
//! Source: Latent Weights Do Not Exist, arXiv 1906.02107, algorithm 1.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::shape::check_len;

/// The numbers of a step.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bop {
    /// How fast the mean of gradients moves, above 0 and at most 1.
    pub gamma: f32,
    /// The mean that flips a weight, 0 or more.
    pub tau: f32,
}

impl Default for Bop {
    fn default() -> Self {
        Bop {
            gamma: 1e-4,
            tau: 1e-8,
        }
    }
}

impl Bop {
    /// Errors if a number is out of its range.
    pub fn check(&self) -> Result<()> {
        if !(self.gamma > 0.0 && self.gamma <= 1.0) {
            return Err(Error::argument(
                "gamma",
                self.gamma,
                "above 0 and at most 1",
            ));
        }
        if !(self.tau >= 0.0 && self.tau.is_finite()) {
            return Err(Error::argument("tau", self.tau, "a number of 0 or more"));
        }
        Ok(())
    }

    /// One step, element by element; returns how many weights flipped:
    ///
    /// ```text
    ///   mean <- (1 - gamma) mean + gamma gradient
    ///   w    <- -w   where |mean| > tau and mean has the sign of w
    /// ```
    ///
    /// Errors if the lengths differ or a number is out of its range.
    pub fn step(&self, w: &mut [f32], gradient: &[f32], mean: &mut [f32]) -> Result<usize> {
        self.check()?;
        check_len("gradient", gradient.len(), w.len(), "as the weights")?;
        check_len("mean", mean.len(), w.len(), "as the weights")?;
        let keep = 1.0 - self.gamma;
        // No `&&` and no branch: a flip is a matter of luck, and what guesses branches would guess wrong.
        let mut flips = 0;
        for ((w, g), mean) in w.iter_mut().zip(gradient).zip(mean) {
            *mean = keep * *mean + self.gamma * g;
            let flip = ((*mean > self.tau) & (*w > 0.0)) | ((*mean < -self.tau) & (*w < 0.0));
            flips += usize::from(flip);
            *w = if flip { -*w } else { *w };
        }
        Ok(flips)
    }
}
