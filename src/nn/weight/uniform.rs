//! Uniform levels with a scale that is fitted: least squares by alternation, DoReFa, the absolute mean.

use super::{Group, sum};
use crate::nn::elementary::tanh;

impl Group<'_> {
    /// Levels 0, +-1 .. +-top: first codes, then the scale of least squares, then `sweeps` more of each.
    pub(super) fn uniform(mut self, top: i32, sweeps: usize) -> f32 {
        match self.step.filter(|s| *s > 0.0 && s.is_finite()) {
            Some(step) => {
                self.nearest(step, top);
            }
            None => self.widest(top),
        }
        let mut scale = self.least_squares();
        for _ in 0..sweeps {
            if !self.nearest(scale, top) {
                break;
            }
            scale = self.least_squares();
        }
        self.fill(scale);
        scale
    }

    /// With d = max |w| / (2 top + 1): code k for (2k - 1) d < |w| <= (2k + 1) d.
    fn widest(&mut self, top: i32) {
        let largest = self.w.iter().fold(0f32, |m, w| m.max(w.abs()));
        let d = largest / (2 * top + 1) as f32;
        for (code, w) in self.codes.iter_mut().zip(self.w) {
            // The quotient is NaN only for 0 / 0, which becomes 0.
            let steps = ((w.abs() / d - 1.0) * 0.5).ceil() as i32;
            *code = signed(steps.clamp(0, top), *w);
        }
    }

    /// sum D |w| |k| / sum D k^2, the best scale of the codes; 0 if all codes are.
    pub(super) fn least_squares(&self) -> f32 {
        let code = |i: usize| f64::from(self.codes[i].abs());
        let above = sum(self.w.len(), |i| self.d(i) * self.magnitude(i) * code(i));
        let below = sum(self.w.len(), |i| self.d(i) * code(i) * code(i));
        if below > 0.0 {
            (above / below) as f32
        } else {
            0.0
        }
    }

    /// The nearest codes for a scale, ties away from 0; whether one has changed.
    pub(super) fn nearest(&mut self, scale: f32, top: i32) -> bool {
        let mut changed = 0;
        for (code, w) in self.codes.iter_mut().zip(self.w) {
            let steps = ((w.abs() / scale + 0.5).floor() as i32).clamp(0, top);
            let new = signed(steps, *w);
            changed |= new ^ *code;
            *code = new;
        }
        changed != 0
    }

    /// 2 q_k(tanh w / (2 max |tanh w|) + 1/2) - 1 in units of 1 / (2^bits - 1): odd integers.
    pub(super) fn dorefa(mut self, bits: usize) -> f32 {
        let q = (1 << bits) - 1;
        let largest = self.w.iter().fold(0f32, |m, w| m.max(w.abs()));
        let span = tanh(f64::from(largest)) as f32;
        let scale = 1.0 / q as f32;
        for (code, w) in self.codes.iter_mut().zip(self.w) {
            let t = tanh(f64::from(*w)) as f32;
            // Zeros alone have no span: they count as the middle.
            let r = if span > 0.0 {
                t / (2.0 * span) + 0.5
            } else {
                0.5
            };
            *code = 2 * (q as f32 * r).round_ties_even() as i32 - q;
        }
        self.fill(scale);
        scale
    }

    /// clamp(round(w / (gamma + 1e-5)), -1, 1) times gamma = mean |w|.
    pub(super) fn abs_mean(mut self) -> f32 {
        let gamma = self.mean();
        let by = gamma + 1e-5;
        for (code, w) in self.codes.iter_mut().zip(self.w) {
            *code = (w / by).round_ties_even().clamp(-1.0, 1.0) as i32;
        }
        self.fill(gamma);
        gamma
    }
}

/// `steps` with the sign of w.
pub(super) fn signed(steps: i32, w: f32) -> i32 {
    if w < 0.0 { -steps } else { steps }
}
