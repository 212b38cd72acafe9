//! Against oscillation: weights that jump to and fro between two codes are frozen, or pulled to where they are.
//!
//! Source: Overcoming Oscillations in Quantization-Aware Training, arXiv 2203.11086, and its authors' code.

use crate::error::{Error, Result};
use crate::shape::check_len;

/// Counts the oscillations of each weight and freezes those that have too many.
///
/// A weight oscillates at a step when its code changes in the direction opposite to its last change. The frequency is
/// f <- (1 - momentum) f + momentum o with o = 1 then and 0 otherwise. When f exceeds the threshold, the weight is
/// frozen at the nearest integer to the mean of its codes, which has the same momentum.
#[derive(Clone, PartialEq, Debug)]
pub struct Freezer {
    momentum: f32,
    has_zero: bool,
    steps: u64,
    codes: Vec<i32>,
    /// The direction of the last change: -1, 0 if there was none, +1.
    direction: Vec<i8>,
    frequency: Vec<f32>,
    mean: Vec<f32>,
    frozen: Vec<bool>,
}

impl Freezer {
    /// Nothing frozen, for `len` weights; the paper takes a momentum of 0.01. `has_zero` tells whether 0 is a code: of
    /// binary weights it is not, and they are frozen at the sign of the mean.
    ///
    /// Errors if the momentum is not above 0 and at most 1.
    pub fn new(len: usize, momentum: f32, has_zero: bool) -> Result<Self> {
        if !(momentum > 0.0 && momentum <= 1.0) {
            let expected = "above 0 and at most 1";
            return Err(Error::argument("momentum", momentum, expected));
        }
        Ok(Freezer {
            momentum,
            has_zero,
            steps: 0,
            codes: vec![0; len],
            direction: vec![0; len],
            frequency: vec![0.0; len],
            mean: vec![0.0; len],
            frozen: vec![false; len],
        })
    }

    /// Sees the codes after a step, freezes what oscillates more than `threshold`, and sets the latent weights of all
    /// that is frozen to `scale` times their code. Returns how many are frozen.
    ///
    /// To be called after each step; the codes are then to be made anew. Errors if the lengths differ.
    pub fn step(
        &mut self,
        codes: &[i32],
        scale: f32,
        threshold: f32,
        latent: &mut [f32],
    ) -> Result<usize> {
        self.step_to(codes, threshold, latent, |_, code| scale * code as f32)
    }

    /// As [`Freezer::step`], for weights that do not all have one scale: `level(i, code)` is what `code` stands for at
    /// weight i.
    pub fn step_to(
        &mut self,
        codes: &[i32],
        threshold: f32,
        latent: &mut [f32],
        level: impl Fn(usize, i32) -> f32,
    ) -> Result<usize> {
        check_len(
            "codes",
            codes.len(),
            self.codes.len(),
            "as many as at first",
        )?;
        check_len(
            "latent",
            latent.len(),
            self.codes.len(),
            "as many as at first",
        )?;
        let first = self.steps == 0;
        self.steps += 1;
        let mut count = 0;
        for (i, (code, latent)) in codes.iter().zip(latent).enumerate() {
            if first {
                (self.codes[i], self.mean[i]) = (*code, *code as f32);
            }
            if !self.frozen[i] {
                let change = (code - self.codes[i]).signum() as i8;
                let back = change != 0 && change == -self.direction[i];
                if change != 0 {
                    self.direction[i] = change;
                }
                let keep = 1.0 - self.momentum;
                let one = if back { 1.0 } else { 0.0 };
                self.frequency[i] = keep * self.frequency[i] + self.momentum * one;
                self.mean[i] = keep * self.mean[i] + self.momentum * *code as f32;
                self.codes[i] = *code;
                if self.frequency[i] > threshold {
                    self.frozen[i] = true;
                    self.codes[i] = self.nearest(i);
                }
            }
            if self.frozen[i] {
                *latent = level(i, self.codes[i]);
                count += 1;
            }
        }
        Ok(count)
    }

    /// The integer nearest to the mean of the codes; without a code 0 its sign.
    fn nearest(&self, i: usize) -> i32 {
        match (self.has_zero, self.mean[i] >= 0.0) {
            (true, _) => self.mean[i].round() as i32,
            (false, true) => 1,
            (false, false) => -1,
        }
    }

    /// Everything that it remembers, as floats, for a checkpoint: codes, directions, frequencies, means and which are
    /// frozen, one after the other; then the number of steps as two halves of 16 bits below 2^32.
    pub fn to_floats(&self) -> Vec<f32> {
        let mut all: Vec<f32> = self.codes.iter().map(|c| *c as f32).collect();
        all.extend(self.direction.iter().map(|d| f32::from(*d)));
        all.extend_from_slice(&self.frequency);
        all.extend_from_slice(&self.mean);
        all.extend(self.frozen.iter().map(|f| f32::from(u8::from(*f))));
        let steps = self.steps.min(u64::from(u32::MAX));
        all.extend([(steps >> 16) as f32, (steps & 0xffff) as f32]);
        all
    }

    /// Takes what [`Freezer::to_floats`] gave.
    ///
    /// Errors if it is of another number of weights.
    pub fn set_floats(&mut self, all: &[f32]) -> Result<()> {
        let n = self.codes.len();
        check_len("state", all.len(), 5 * n + 2, "5 a weight, and 2")?;
        for i in 0..n {
            self.codes[i] = all[i] as i32;
            self.direction[i] = all[n + i] as i8;
            self.frequency[i] = all[2 * n + i];
            self.mean[i] = all[3 * n + i];
            self.frozen[i] = all[4 * n + i] != 0.0;
        }
        self.steps = ((all[5 * n] as u64) << 16) + all[5 * n + 1] as u64;
        Ok(())
    }

    /// Which weights are frozen.
    pub fn frozen(&self) -> &[bool] {
        &self.frozen
    }

    /// How often each weight oscillates: a share of the steps, by the moving mean.
    pub fn frequency(&self) -> &[f32] {
        &self.frequency
    }
}

/// Adds the gradient of dampening, lambda sum (w - clamp(w_f, low, high))^2 with w held, to `d`:
/// 2 lambda (w_f - w) where w_f lies between low and high.
///
/// low and high are the least and greatest level. Errors if the lengths differ or lambda is not a number of 0 or more.
pub fn dampen(
    latent: &[f32],
    w: &[f32],
    (low, high): (f32, f32),
    lambda: f32,
    d: &mut [f32],
) -> Result<()> {
    check_len("w", w.len(), latent.len(), "as the latent weights")?;
    check_len("d", d.len(), latent.len(), "as the latent weights")?;
    if !(lambda >= 0.0 && lambda.is_finite()) {
        return Err(Error::argument("lambda", lambda, "a number of 0 or more"));
    }
    for ((d, w_f), w) in d.iter_mut().zip(latent).zip(w) {
        // Computed in any case: a loop with a branch does not become vector code.
        let inside = (*w_f >= low) & (*w_f <= high);
        let pull = 2.0 * lambda * (w_f - w);
        *d += if inside { pull } else { 0.0 };
    }
    Ok(())
}
