//! Projections in the metric of the loss: min over scale and codes of sum D (w - scale code)^2.
//!
//! Source: Loss-aware Binarization, arXiv 1611.01600; Loss-aware Weight Quantization, arXiv 1802.08635
//! (ternary, linear, logarithmic); the alternation with sum D code^2 as in One-Step Forward and Backtrack,
//! arXiv 2401.16760, appendix, algorithm 2.

use super::Group;

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
            let half = 0.5 * scale;
            let new = self.assign(|size| i32::from(size > half)).1.scale();
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
        let most = top as f32;
        // The cast is the floor, of what is not below 0.
        self.alternate(top, |steps| (steps + 0.5).clamp(0.0, most) as i32)
    }

    /// Levels 0, 1, 2, 4 .. `top`, a power of two: the nearest, ties upwards.
    pub(super) fn log_levels(self, top: i32) -> f32 {
        let most = top as f32;
        self.alternate(top, |steps| {
            // Halfway between 2^k and its neighbour is 1.5 * 2^k, which half a mantissa more makes 2^(k+1), and what is
            // below stays below: the exponent is the level. From 0.5 on, where 0 ends, it is 1 at least.
            let size = steps.clamp(0.75, most);
            let level = f32::from_bits(size.to_bits().wrapping_add(1 << 22) & 0x7f80_0000);
            if steps >= 0.5 { level as i32 } else { 0 }
        })
    }

    /// Codes for the scale, then the scale for the codes, until the scale stays: the objective never rises.
    fn alternate(mut self, top: i32, code_of: impl Fn(f32) -> i32) -> f32 {
        let largest = self.largest();
        let start = self.step.filter(|s| *s > 0.0 && s.is_finite());
        let mut scale = start.unwrap_or(largest / top as f32);
        for _ in 0..ROUNDS {
            let (_, fit) = self.assign(|size| code_of(size / scale));
            let new = fit.scale();
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
