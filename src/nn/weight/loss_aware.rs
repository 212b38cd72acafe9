//! Projections in the metric of the loss: min over scale and codes of sum D (w - scale code)^2.
//!
//! Source: Loss-aware Binarization, arXiv 1611.01600; Loss-aware Weight Quantization, arXiv 1802.08635
//! (ternary, linear, logarithmic); the alternation with sum D code^2 as in One-Step Forward and Backtrack,
//! arXiv 2401.16760, appendix, algorithm 2.

use super::Group;
use super::uniform::signed;

/// An alternation ends after so many rounds at the latest.
const ROUNDS: usize = 100;

impl Group<'_> {
    /// sum D |w| / sum D.
    pub(super) fn weighted_mean(&self) -> f32 {
        let Some(d) = self.metric else {
            return self.mean();
        };
        // In eight fixed strands each, as `sum`, but of slices: they are long.
        let (mut above, mut below) = ([0f64; 8], [0f64; 8]);
        for (w, d) in self.w.chunks(8).zip(d.chunks(8)) {
            for (((above, below), w), d) in above.iter_mut().zip(&mut below).zip(w).zip(d) {
                *above += f64::from(*d) * f64::from(w.abs());
                *below += f64::from(*d);
            }
        }
        (above.iter().sum::<f64>() / below.iter().sum::<f64>()) as f32
    }

    /// Codes beyond half of the scale, then the scale of the codes, at most ten times: a local optimum.
    pub(super) fn ternary_approx(mut self) -> f32 {
        // As in the authors' code, from all weights kept.
        let mut scale = self.step.unwrap_or_else(|| self.weighted_mean());
        for _ in 0..10 {
            for (code, w) in self.codes.iter_mut().zip(self.w) {
                *code = i32::from(*w > 0.5 * scale) - i32::from(*w < -0.5 * scale);
            }
            let new = self.least_squares();
            let settled = (new - scale).abs() < 1e-6;
            scale = new;
            if settled {
                break;
            }
        }
        self.fill(scale);
        scale
    }

    /// The exact ternary projection of the positive and of the negative weights apart: scales of +1 and -1.
    pub(super) fn ternary_two_scales(self) -> [f32; 2] {
        let plus = self.best_threshold(&self.by_magnitude(|w| w > 0.0));
        let minus = self.best_threshold(&self.by_magnitude(|w| w < 0.0));
        for ((code, value), w) in self.codes.iter_mut().zip(&mut *self.values).zip(self.w) {
            let (sign, (least, scale)) = if *w > 0.0 { (1, plus) } else { (-1, minus) };
            let kept = w.abs() >= least && *w != 0.0;
            *code = if kept { sign } else { 0 };
            *value = *code as f32 * scale;
        }
        [plus.1, minus.1]
    }

    /// Levels k / n for |k| <= n = `top`, times alpha: codes k, scale alpha / n.
    pub(super) fn linear_levels(self, top: i32) -> f32 {
        self.alternate(top, |steps| ((steps + 0.5).floor() as i32).clamp(0, top))
    }

    /// Levels 0, 1, 2, 4 .. `top`, a power of two: the nearest, ties upwards.
    pub(super) fn log_levels(self, top: i32) -> f32 {
        self.alternate(top, |steps| {
            let mut level = 0;
            let mut next = 1;
            while next <= top {
                // Halfway between neighbours: in logarithms 0.085 below the middle.
                let halfway = 0.5 * (level + next) as f32;
                if steps >= halfway {
                    level = next;
                }
                next *= 2;
            }
            level
        })
    }

    /// Codes for the scale, then the scale for the codes, until the scale stays: the objective never rises.
    fn alternate(mut self, top: i32, code_of: impl Fn(f32) -> i32) -> f32 {
        let largest = self.w.iter().fold(0f32, |m, w| m.max(w.abs()));
        let start = self.step.filter(|s| *s > 0.0 && s.is_finite());
        let mut scale = start.unwrap_or(largest / top as f32);
        for _ in 0..ROUNDS {
            for (code, w) in self.codes.iter_mut().zip(self.w) {
                *code = signed(code_of(w.abs() / scale), *w);
            }
            let new = self.least_squares();
            let settled = (new - scale).abs() <= 1e-6 * scale;
            scale = new;
            // A scale far above all weights would leave nothing to go on from.
            if scale == 0.0 && largest > 0.0 {
                scale = largest / top as f32;
            } else if settled || scale == 0.0 {
                break;
            }
        }
        self.fill(scale);
        scale
    }
}
