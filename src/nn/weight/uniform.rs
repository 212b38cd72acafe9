//! Uniform levels with a scale that is fitted: least squares by alternation, DoReFa, the absolute mean.

use super::{Fit, Group, round_small};
use crate::nn::elementary::{each_rounded, tanh, tanh_quick};

impl Group<'_> {
    /// Levels 0, +-1 .. +-top: first codes, then the scale of least squares, then `sweeps` more of each.
    pub(super) fn uniform(mut self, top: i32, sweeps: usize) -> f32 {
        let mut fit = match self.step.filter(|s| *s > 0.0 && s.is_finite()) {
            Some(step) => self.nearest(step, top).1,
            None => self.widest(top),
        };
        for _ in 0..sweeps {
            let (changed, new) = self.nearest(fit.scale(), top);
            if !changed {
                break;
            }
            fit = new;
        }
        let scale = fit.scale();
        self.fill(scale);
        scale
    }

    /// With d = max |w| / (2 top + 1): code k for (2k - 1) d < |w| <= (2k + 1) d.
    fn widest(&mut self, top: i32) -> Fit {
        let d = self.largest() / (2 * top + 1) as f32;
        let most = top as f32;
        let codes = self.assign(|size| {
            // The quotient is NaN only for 0 / 0, which becomes 0.
            let steps = ((size / d - 1.0) * 0.5).clamp(0.0, most);
            // Up to the next integer: what the cast cuts off is a step more.
            let cut = steps as i32;
            cut + i32::from((cut as f32) < steps)
        });
        codes.1
    }

    /// The nearest codes for a scale, ties away from 0; whether one has changed, and the fit to them.
    fn nearest(&mut self, scale: f32, top: i32) -> (bool, Fit) {
        let most = top as f32;
        // The cast is the floor, of what is not below 0; of NaN, which is 0 / 0, it is 0.
        self.assign(|size| (size / scale + 0.5).clamp(0.0, most) as i32)
    }

    /// 2 q_k(tanh w / (2 max |tanh w|) + 1/2) - 1 in units of 1 / (2^bits - 1): odd integers.
    pub(super) fn dorefa(mut self, bits: usize) -> f32 {
        let q = (1 << bits) - 1;
        let largest = self.largest();
        let span = tanh(f64::from(largest)) as f32;
        let scale = 1.0 / q as f32;
        let exact = |w: f32| tanh(f64::from(w)) as f32;
        each_rounded(self.w, self.values, 2e-11, |w| tanh_quick(w.into()), exact);
        for (code, t) in self.codes.iter_mut().zip(&*self.values) {
            // Zeros alone have no span: they count as the middle.
            let r = if span > 0.0 {
                t / (2.0 * span) + 0.5
            } else {
                0.5
            };
            *code = 2 * round_small(q as f32 * r) as i32 - q;
        }
        self.fill(scale);
        scale
    }

    /// clamp(round(w / (gamma + 1e-5)), -1, 1) times gamma = mean |w|.
    pub(super) fn abs_mean(mut self) -> f32 {
        let gamma = self.mean();
        let by = gamma + 1e-5;
        for (code, w) in self.codes.iter_mut().zip(self.w) {
            // Ties to even: a half is not beyond a half.
            let at = w / by;
            *code = i32::from(at > 0.5) - i32::from(at < -0.5);
        }
        self.fill(gamma);
        gamma
    }
}
