//! LSQ: a step that is learned like any other parameter.
//!
//! ```text
//!   w = s round(clamp(w_f / s, -Qn, Qp))        Qn = 2^(bits-1), Qp = 2^(bits-1) - 1; ties to even
//!   dw/dw_f = 1 for -Qn < w_f / s < Qp, else 0
//!   dw/ds   = round(w_f / s) - w_f / s inside, -Qn or Qp outside
//! ```
//!
//! Source: Learned Step Size Quantization, arXiv 1902.08153, section 2.

use super::{Group, round_small};
use crate::error::{Error, Result};
use crate::shape::check_len;

/// Qn and Qp of signed codes of `bits` bits: the codes are -Qn .. Qp.
///
/// Errors unless bits is 2 to 8.
pub fn lsq_bounds(bits: usize) -> Result<(f32, f32)> {
    if !(2..=8).contains(&bits) {
        return Err(Error::argument("bits", bits, "2 to 8"));
    }
    let half = 1 << (bits - 1);
    Ok((half as f32, (half - 1) as f32))
}

/// The step that training begins with, 2 mean |w| / sqrt(Qp), and never below the smallest normal float.
///
/// Errors unless bits is 2 to 8.
pub fn lsq_step(w: &[f32], bits: usize) -> Result<f32> {
    let (_, qp) = lsq_bounds(bits)?;
    let sum = super::sum(w.len(), |i| f64::from(w[i].abs()));
    let step = 2.0 * sum / w.len().max(1) as f64 / f64::from(qp).sqrt();
    Ok((step as f32).max(f32::MIN_POSITIVE))
}

/// What the gradient by the step is multiplied by, 1 / sqrt(n q): n weights (or activations of an image), q = Qp.
pub fn lsq_gradient_scale(n: usize, q: f32) -> f32 {
    1.0 / (n as f32 * q).sqrt()
}

/// From the gradient `d` by w, `[N, K]`: the gradient by w_f in its place, and the gradient by the step, which is
/// not yet times [`lsq_gradient_scale`].
///
/// Errors if the lengths differ, bits is not 2 to 8, or the step is not a positive number.
pub fn lsq_backward(latent: &[f32], step: f32, bits: usize, d: &mut [f32]) -> Result<f32> {
    let (qn, qp) = lsq_bounds(bits)?;
    check_len("d", d.len(), latent.len(), "as the latent weights")?;
    super::grid::check_spacing("step", step)?;
    let mut strands = [0f32; 16];
    for (w, d) in latent.chunks(16).zip(d.chunks_mut(16)) {
        for ((w, d), strand) in w.iter().zip(d).zip(&mut strands) {
            let at = w / step;
            let inside = at > -qn && at < qp;
            let by_step = if inside {
                round_small(at) - at
            } else {
                at.clamp(-qn, qp)
            };
            *strand += *d * by_step;
            *d = if inside { *d } else { 0.0 };
        }
    }
    Ok(strands.iter().sum())
}

impl Group<'_> {
    pub(super) fn lsq(mut self, bits: usize) -> f32 {
        let (qn, qp) = lsq_bounds(bits).expect("checked by the quantizer");
        let step = self
            .step
            .unwrap_or_else(|| lsq_step(self.w, bits).expect("as above"));
        for (code, w) in self.codes.iter_mut().zip(self.w) {
            *code = round_small((w / step).clamp(-qn, qp)) as i32;
        }
        self.fill(step);
        step
    }
}
