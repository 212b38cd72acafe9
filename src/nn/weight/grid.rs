//! Rounding to the multiples of a fixed spacing, to the nearest or by a draw, and signs by a draw.

use super::Group;
use crate::error::{Error, Result};
use crate::nn::rng::Rng;
use crate::shape::check_len;

/// Multiples stay within +-2^24, where every integer is a float.
const MOST: f32 = 16_777_216.0;

/// The nearest multiple of `delta`, ties away from 0, as an integer: sign(w) floor(|w| / delta + 1/2).
///
/// Beyond +-2^24 it stays there; NaN has 0. This is Q_d of arXiv 1706.02379, section 2.
pub fn grid_det(w: f32, delta: f32) -> i32 {
    // What is not below 0 loses its fraction when it becomes an integer: that is the floor, and needs no call.
    let size = (w.abs() / delta + 0.5).clamp(0.0, MOST) as i32;
    if w < 0.0 { -size } else { size }
}

/// One of the two multiples of `delta` beside w, as an integer: floor(w / delta), plus 1 if `u`, uniform in [0, 1), is
/// below the rest. The mean over u is w / delta; a multiple stays.
///
/// Beyond +-2^24 it stays there; NaN has 0. This is Q_s of arXiv 1706.02379, section 2.
pub fn grid_stoch(w: f32, delta: f32, u: f32) -> i32 {
    let at = (w / delta).clamp(-MOST, MOST);
    // The floor: towards 0, and one less if that is above.
    let cut = at as i32;
    let below = cut - i32::from(cut as f32 > at);
    below + i32::from(u < at - below as f32)
}

/// Signs by a draw: +1 with the probability (w / scale + 1) / 2, clamped to [0, 1]; NaN has -1.
///
/// Element i draws `rng.uniform(i)`. Errors if the lengths differ or the scale is not a positive number.
///
/// Source: BinaryConnect, arXiv 1511.00363, section 2.3 (the hard sigmoid).
pub fn stochastic_signs(w: &[f32], scale: f32, rng: Rng, codes: &mut [i32]) -> Result<()> {
    check_len("codes", codes.len(), w.len(), "as the weights")?;
    check_spacing("scale", scale)?;
    with_uniforms(w, rng, codes, |w, u| {
        let p = 0.5 * (w / scale) + 0.5;
        if u < p { 1 } else { -1 }
    });
    Ok(())
}

/// Errors unless `value` is a positive finite number.
pub(super) fn check_spacing(name: &'static str, value: f32) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::argument(name, value, "a number above 0"))
}

/// f of each weight and of the uniform number of its index.
fn with_uniforms(w: &[f32], rng: Rng, codes: &mut [i32], f: impl Fn(f32, f32) -> i32) {
    let mut draws = [0.0; DRAWS];
    for (at, (codes, w)) in (0..).zip(codes.chunks_mut(DRAWS).zip(w.chunks(DRAWS))) {
        rng.fill_uniform(at * DRAWS as u64 / 4, &mut draws);
        for ((code, w), u) in codes.iter_mut().zip(w).zip(&draws) {
            *code = f(*w, *u);
        }
    }
}

/// Draws that are made at a time.
const DRAWS: usize = 256;

impl Group<'_> {
    pub(super) fn grid_det(mut self, delta: f32) -> f32 {
        for (code, w) in self.codes.iter_mut().zip(self.w) {
            *code = grid_det(*w, delta);
        }
        self.fill(delta);
        delta
    }

    pub(super) fn grid_stoch(mut self, delta: f32) -> f32 {
        with_uniforms(self.w, self.rng, self.codes, |w, u| grid_stoch(w, delta, u));
        self.fill(delta);
        delta
    }

    pub(super) fn stoch_binary(mut self, scale: f32) -> f32 {
        stochastic_signs(self.w, scale, self.rng, self.codes).expect("checked by the quantizer");
        self.fill(scale);
        scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_the_generator_and_have_the_right_mean() {
        let rng = Rng::new(5).at(3, 2);
        let w = vec![0.3f32; 40_001];
        let mut codes = vec![0; w.len()];
        stochastic_signs(&w, 2.0, rng, &mut codes).unwrap();
        let mean = codes.iter().sum::<i32>() as f64 / w.len() as f64;
        // Four standard errors of a sign of mean 0.15.
        assert!((mean - 0.15).abs() < 0.02, "{mean}");
        let by_hand = |i: usize| if rng.uniform(i as u64) < 0.575 { 1 } else { -1 };
        assert!((0..w.len()).all(|i| codes[i] == by_hand(i)));
        assert!(stochastic_signs(&w, 0.0, rng, &mut codes).is_err());
        assert!(stochastic_signs(&w, 1.0, rng, &mut codes[1..]).is_err());
    }

    #[test]
    fn rounding_at_its_edges() {
        let det = [0.24, 0.25, -0.25, -0.24, 0.75, 1e30, -1e30, f32::NAN].map(|w| grid_det(w, 0.5));
        assert_eq!(det, [0, 1, -1, 0, 2, 1 << 24, -(1 << 24), 0]);
        let stoch = |w, u| grid_stoch(w, 0.5, u);
        assert_eq!([stoch(0.6, 0.19), stoch(0.6, 0.21)], [2, 1]);
        assert_eq!([stoch(-0.6, 0.79), stoch(-0.6, 0.81)], [-1, -2]);
        // A multiple stays, whatever is drawn.
        assert_eq!(
            [stoch(1.5, 0.0), stoch(-1.5, 0.0), stoch(0.0, 0.0)],
            [3, -3, 0]
        );
        assert_eq!(stoch(f32::NAN, 0.0), 0);
    }
}
