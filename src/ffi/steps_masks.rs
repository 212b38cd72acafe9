//! C: coarse gradients, by x, by alpha and by the latent weights, and where alpha comes from.

use super::enter;
use super::pointer::{Out, slice, slice_mut};
use super::quantize::{QC_CEIL, QC_NEAREST};
use super::status::Answer;
use crate::bits::Bits;
use crate::error::Error;
use crate::nn::activation::alpha_init;
use crate::nn::ste::{
    CoarseAlpha, CoarseW, CoarseX, alpha_calibrate, alpha_fit, mask_w, mask_x, sum_alpha,
};
use crate::quant::{QuantRelu, Rounding};

/// By x: 1 for 0 < x <= q alpha, else 0; q = 2^bits - 1.
pub const QC_BY_CLIPPED_RELU: i32 = 1;
/// By x: 1 for x > 0, else 0.
pub const QC_BY_RELU: i32 = 2;
/// By x: 1.
pub const QC_BY_IDENTITY: i32 = 3;
/// By x: 1 for 0 < x <= q alpha, 1 / (x / alpha - q + 1) above.
pub const QC_BY_LOG_TAILED: i32 = 4;
/// By x: exp(-x / (q alpha)) for x > 0, else 0.
pub const QC_BY_REVERSE_EXP: i32 = 5;
/// By x: 1 for |x| <= 1, else 0; for the sign.
pub const QC_BY_HARD_TANH: i32 = 6;
/// By x: 2 + 2x for -1 <= x < 0, 2 - 2x for 0 <= x < 1, else 0; for the sign.
pub const QC_BY_PIECEWISE_POLY: i32 = 7;

/// By alpha, for 0 < x <= q alpha: 2^(bits-1). All kinds give 0 for x <= 0 and q for x > q alpha.
pub const QC_ALPHA_THREE: i32 = 1;
/// By alpha, for 0 < x <= q alpha: the code of x.
pub const QC_ALPHA_AE: i32 = 2;
/// By alpha, for 0 < x <= q alpha: 0.
pub const QC_ALPHA_TWO: i32 = 3;
/// By alpha, for 0 < x <= q alpha: 1.
pub const QC_ALPHA_MIN: i32 = 4;
/// By alpha, for 0 < x <= q alpha: the code of x minus x / alpha.
pub const QC_ALPHA_LSQ: i32 = 5;

/// By the latent weights: 1.
pub const QC_WEIGHT_IDENTITY: i32 = 1;
/// By the latent weights: 1 for |w_f| <= 1, else 0.
pub const QC_WEIGHT_CLIP1: i32 = 2;

/// One of a list by its number from 1.
fn pick<T: Copy>(name: &'static str, number: i32, all: &[T], expected: &str) -> Answer<T> {
    let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
    let found = at.and_then(|at| all.get(at));
    Ok(*found.ok_or_else(|| Error::argument(name, number, expected))?)
}

fn width(bits: i32) -> Answer<Bits> {
    Ok(Bits::new(usize::try_from(bits).unwrap_or(0))
        .map_err(|_| Error::argument("bits", bits, "1 to 8"))?)
}

fn rounding_of(rounding: i32) -> Answer<Rounding> {
    match rounding {
        QC_CEIL => Ok(Rounding::Ceil),
        QC_NEAREST => Ok(Rounding::Nearest),
        other => Err(Error::argument("rounding", other, "QC_CEIL or QC_NEAREST").into()),
    }
}

/// Multiplies the gradient `d` by an activation's output with the coarse derivative at `x`, in place; `n` elements each.
///
/// `by` is `QC_BY_...`; `alpha` above 0 and `bits`, 1 to 8, are those of the quantized ReLU. NaN gets 0 but from identity.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_mask_x(
    by: i32,
    x: *const f32,
    n: usize,
    alpha: f32,
    bits: i32,
    d: *mut f32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (x, d) = unsafe { (slice("x", x, n)?, slice_mut("d", d, n)?) };
        const ALL: [CoarseX; 7] = CoarseX::ALL;
        let by = pick("by", by, &ALL, "QC_BY_CLIPPED_RELU .. QC_BY_PIECEWISE_POLY")?;
        Ok(mask_x(by, x, alpha, width(bits)?, d)?)
    })
}

/// Sums the gradient `d` by a quantized ReLU's output times the coarse derivative by alpha at `x` into `*d_alpha`; `n`
/// elements each. `by` is `QC_ALPHA_...`, `rounding` `QC_CEIL` or `QC_NEAREST`. The paper multiplies it by 0.01 and clamps
/// it to [-1, 1]; LSQ multiplies by 1 / sqrt(n q).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_sum_alpha(
    by: i32,
    x: *const f32,
    n: usize,
    alpha: f32,
    bits: i32,
    rounding: i32,
    d: *const f32,
    d_alpha: *mut f32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (x, d, out) = unsafe {
            (
                slice("x", x, n)?,
                slice("d", d, n)?,
                Out::new("d_alpha", d_alpha)?,
            )
        };
        const ALL: [CoarseAlpha; 5] = CoarseAlpha::ALL;
        let by = pick("by", by, &ALL, "QC_ALPHA_THREE .. QC_ALPHA_LSQ")?;
        let relu = QuantRelu::new(width(bits)?.get(), alpha, rounding_of(rounding)?)?;
        out.write(sum_alpha(by, x, &relu, d)?);
        Ok(())
    })
}

/// Multiplies the gradient `d` by the projected weights with the coarse derivative at the latent ones, in place; `n`
/// elements each. `by` is `QC_WEIGHT_...`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_mask_w(by: i32, latent: *const f32, n: usize, d: *mut f32) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (latent, d) = unsafe { (slice("latent", latent, n)?, slice_mut("d", d, n)?) };
        let all = [CoarseW::Identity, CoarseW::Clip1];
        let by = pick("by", by, &all, "QC_WEIGHT_IDENTITY or QC_WEIGHT_CLIP1")?;
        Ok(mask_w(by, latent, d)?)
    })
}

/// The alpha with the least mean square error on the positive half of N(0, 1), for `bits` 1 to 8 and a rounding.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_alpha_init(bits: i32, rounding: i32, alpha: *mut f32) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let out = unsafe { Out::new("alpha", alpha)? };
        out.write(alpha_init(width(bits)?, rounding_of(rounding)?));
        Ok(())
    })
}

/// The alpha that puts the greatest level at the greatest |x|; `n` is 1 or more, x is finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_alpha_calibrate(
    x: *const f32,
    n: usize,
    bits: i32,
    alpha: *mut f32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (x, out) = unsafe { (slice("x", x, n)?, Out::new("alpha", alpha)?) };
        out.write(alpha_calibrate(x, width(bits)?)?);
        Ok(())
    })
}

/// Lloyd's fit of `*alpha`, from the value that is there, to the positive x: codes and least squares in turns, `rounds`
/// at most (one with `QC_CEIL`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_alpha_fit(
    x: *const f32,
    n: usize,
    bits: i32,
    rounding: i32,
    rounds: usize,
    alpha: *mut f32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (x, alpha) = unsafe { (slice("x", x, n)?, slice_mut("alpha", alpha, 1)?) };
        let relu = QuantRelu::new(width(bits)?.get(), alpha[0], rounding_of(rounding)?)?;
        alpha[0] = alpha_fit(x, &relu, rounds)?;
        Ok(())
    })
}
