//! Coarse gradients: what stands for derivatives that are zero almost everywhere, each a pure function.
//!
//! [`CoarseX`] stands for the derivative of an activation by x, [`CoarseAlpha`] for that by its step alpha, [`CoarseW`]
//! for that of projected weights by the latent ones. The slice functions below apply them; layers do the same.

use serde::{Deserialize, Serialize};

use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::nn::elementary::{each_rounded, exp, exp_quick};
use crate::quant::{QuantRelu, Rounding};
use crate::shape::check_len;

/// What stands for the derivative of an activation by x; q = 2^bits - 1, NaN gets 0 from all but [`CoarseX::Identity`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoarseX {
    /// 1 for 0 < x <= q alpha, else 0. arXiv 1808.05240, 1903.05662.
    #[default]
    ClippedRelu,
    /// 1 for x > 0, else 0. arXiv 1903.05662.
    Relu,
    /// 1. It can leave a minimum: arXiv 1903.05662.
    Identity,
    /// 1 for 0 < x <= q alpha, and 1 / (x / alpha - q + 1) above. HWGQ, arXiv 1702.00953.
    LogTailed,
    /// exp(-x / (q alpha)) for x > 0, else 0.
    ReverseExp,
    /// 1 for |x| <= 1, else 0, whatever alpha is: for the sign. arXiv 1602.02830.
    HardTanh,
    /// 2 + 2x for -1 <= x < 0, 2 - 2x for 0 <= x < 1, else 0: for the sign. Bi-Real Net, arXiv 1808.00278; ReActNet.
    PiecewisePoly,
}

impl CoarseX {
    /// All of them.
    pub const ALL: [CoarseX; 7] = [
        CoarseX::ClippedRelu,
        CoarseX::Relu,
        CoarseX::Identity,
        CoarseX::LogTailed,
        CoarseX::ReverseExp,
        CoarseX::HardTanh,
        CoarseX::PiecewisePoly,
    ];

    /// The name, as recipes have it.
    pub fn name(self) -> &'static str {
        match self {
            CoarseX::ClippedRelu => "clipped-relu",
            CoarseX::Relu => "relu",
            CoarseX::Identity => "identity",
            CoarseX::LogTailed => "log-tailed",
            CoarseX::ReverseExp => "reverse-exp",
            CoarseX::HardTanh => "hard-tanh",
            CoarseX::PiecewisePoly => "piecewise-poly",
        }
    }

    /// Whether it lets gradients through on both sides of 0, as a sign needs: the others stand for a ReLU, and with them a
    /// unit could not come back from -1.
    pub fn is_two_sided(self) -> bool {
        use CoarseX as C;
        matches!(self, C::Identity | C::HardTanh | C::PiecewisePoly)
    }

    /// The stand-in at `x`, for a staircase of `bits` bits with step `alpha` above 0.
    #[inline(always)]
    pub fn dx(self, x: f32, alpha: f32, bits: Bits) -> f32 {
        let q = bits.max_code() as f32;
        let one_if = |passes: bool| if passes { 1.0 } else { 0.0 };
        match self {
            CoarseX::ClippedRelu => one_if(x > 0.0 && x <= q * alpha),
            CoarseX::Relu => one_if(x > 0.0),
            CoarseX::Identity => 1.0,
            CoarseX::LogTailed if x > q * alpha => 1.0 / (x / alpha - q + 1.0),
            CoarseX::LogTailed => one_if(x > 0.0),
            CoarseX::ReverseExp if x > 0.0 => exp(-f64::from(x / (q * alpha))) as f32,
            CoarseX::ReverseExp => 0.0,
            CoarseX::HardTanh => one_if(x.abs() <= 1.0),
            CoarseX::PiecewisePoly => {
                let size = x.abs();
                if size <= 1.0 { 2.0 - 2.0 * size } else { 0.0 }
            }
        }
    }
}

/// What stands for the derivative of the quantized ReLU by alpha: 0 for x <= 0, q for x > q alpha, and between
/// them what the variant says. q = 2^bits - 1. arXiv 1808.05240, section 2, and its authors' code.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoarseAlpha {
    /// 2^(bits - 1): the paper's three-valued one.
    #[default]
    AlphaThree,
    /// The code of x: the true derivative almost everywhere.
    AlphaAe,
    /// 0: two-valued, as PACT's (arXiv 1805.06085) by its clipping point q alpha, times q.
    AlphaTwo,
    /// 1.
    AlphaMin,
    /// The code of x minus x / alpha: LSQ, arXiv 1902.08153.
    AlphaLsq,
}

impl CoarseAlpha {
    /// All of them.
    pub const ALL: [CoarseAlpha; 5] = [
        CoarseAlpha::AlphaThree,
        CoarseAlpha::AlphaAe,
        CoarseAlpha::AlphaTwo,
        CoarseAlpha::AlphaMin,
        CoarseAlpha::AlphaLsq,
    ];

    /// The name, as recipes have it.
    pub fn name(self) -> &'static str {
        match self {
            CoarseAlpha::AlphaThree => "alpha-three",
            CoarseAlpha::AlphaAe => "alpha-ae",
            CoarseAlpha::AlphaTwo => "alpha-two",
            CoarseAlpha::AlphaMin => "alpha-min",
            CoarseAlpha::AlphaLsq => "alpha-lsq",
        }
    }

    /// The stand-in at `x`.
    #[inline(always)]
    pub fn dalpha(self, x: f32, relu: &QuantRelu) -> f32 {
        let q = relu.bits().max_code() as f32;
        let middle = match self {
            CoarseAlpha::AlphaThree => (1u32 << (relu.bits().get() - 1)) as f32,
            CoarseAlpha::AlphaAe => relu.steps(x),
            CoarseAlpha::AlphaTwo => 0.0,
            CoarseAlpha::AlphaMin => 1.0,
            CoarseAlpha::AlphaLsq => relu.steps(x) - x / relu.alpha(),
        };
        if x > q * relu.alpha() {
            q
        } else if x > 0.0 {
            middle
        } else {
            0.0
        }
    }
}

/// What stands for the derivative of projected weights by the latent ones.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoarseW {
    /// 1.
    #[default]
    Identity,
    /// 1 for |w_f| <= 1, else 0; goes with latent weights that are clipped to [-1, 1] after each step.
    Clip1,
}

impl CoarseW {
    /// The stand-in at the latent weight `w_f`.
    pub fn dw(self, w_f: f32) -> f32 {
        match self {
            CoarseW::Clip1 if w_f.abs() <= 1.0 => 1.0,
            CoarseW::Clip1 => 0.0,
            CoarseW::Identity => 1.0,
        }
    }
}

/// Multiplies the gradient `d` by an activation's output with what `by` says at `x`, in place: the gradient by x.
///
/// Errors if the lengths differ or alpha is not above 0.
pub fn mask_x(by: CoarseX, x: &[f32], alpha: f32, bits: Bits, d: &mut [f32]) -> Result<()> {
    check_len("d", d.len(), x.len(), "as x")?;
    check_alpha(alpha)?;
    // A loop for each choice, so that none has a choice inside.
    match by {
        CoarseX::ClippedRelu => each(x, d, |x| CoarseX::ClippedRelu.dx(x, alpha, bits)),
        CoarseX::Relu => each(x, d, |x| CoarseX::Relu.dx(x, alpha, bits)),
        CoarseX::Identity => {}
        CoarseX::LogTailed => each(x, d, |x| CoarseX::LogTailed.dx(x, alpha, bits)),
        CoarseX::ReverseExp => reverse_exp(x, alpha, bits, d),
        CoarseX::HardTanh => each(x, d, |x| CoarseX::HardTanh.dx(x, alpha, bits)),
        CoarseX::PiecewisePoly => each(x, d, |x| CoarseX::PiecewisePoly.dx(x, alpha, bits)),
    }
    Ok(())
}

/// The sum of d times what `by` says at x: the gradient by alpha, before any rate or clamp.
///
/// In sixteen fixed strands of f32. Errors if the lengths differ.
pub fn sum_alpha(by: CoarseAlpha, x: &[f32], relu: &QuantRelu, d: &[f32]) -> Result<f32> {
    check_len("d", d.len(), x.len(), "as x")?;
    Ok(match by {
        CoarseAlpha::AlphaThree => sum(x, d, |x| CoarseAlpha::AlphaThree.dalpha(x, relu)),
        CoarseAlpha::AlphaAe => sum(x, d, |x| CoarseAlpha::AlphaAe.dalpha(x, relu)),
        CoarseAlpha::AlphaTwo => sum(x, d, |x| CoarseAlpha::AlphaTwo.dalpha(x, relu)),
        CoarseAlpha::AlphaMin => sum(x, d, |x| CoarseAlpha::AlphaMin.dalpha(x, relu)),
        CoarseAlpha::AlphaLsq => sum(x, d, |x| CoarseAlpha::AlphaLsq.dalpha(x, relu)),
    })
}

/// Multiplies the gradient `d` by the projected weights with what `by` says at the latent ones, in place.
///
/// Errors if the lengths differ.
pub fn mask_w(by: CoarseW, latent: &[f32], d: &mut [f32]) -> Result<()> {
    check_len("d", d.len(), latent.len(), "as the latent weights")?;
    match by {
        CoarseW::Identity => {}
        CoarseW::Clip1 => each(latent, d, |w| CoarseW::Clip1.dw(w)),
    }
    Ok(())
}

/// The step of arXiv 1808.05240's code to begin with, from samples of the nearest-level quantizer: 1, 2 and 4 bits.
///
/// [`alpha_init`](crate::nn::activation::alpha_init) has the minima of the integrals for every width.
pub fn alpha_published(bits: Bits) -> Option<f32> {
    match bits.get() {
        1 => Some(1.2221),
        2 => Some(0.6511),
        4 => Some(0.1946),
        _ => None,
    }
}

/// The step that puts the greatest level at the greatest |x|: max |x| / q, at least 1e-30.
///
/// Errors if there is no x or one is not finite.
pub fn alpha_calibrate(x: &[f32], bits: Bits) -> Result<f32> {
    let most = x.iter().fold(0f32, |m, x| m.max(x.abs()));
    if x.is_empty() || !x.iter().all(|x| x.is_finite()) {
        return Err(Error::argument(
            "x",
            "empty or not finite",
            "finite numbers",
        ));
    }
    Ok((most / bits.max_code() as f32).clamp(1e-30, 1e30))
}

/// Lloyd's fit of alpha to the positive x: codes for alpha, then alpha = sum x code / sum code^2, in turns until it
/// moves by less than a millionth or `rounds` are over. The mean square error never rises. With `Ceil`, whose
/// codes are not the nearest ones, it is one fit to the codes of the first alpha.
///
/// The start is the alpha of `relu`. Where every code is 0 alpha stays. Errors if x is not finite.
///
/// Source: HWGQ, arXiv 1702.00953, whose fixed steps are this fit to the positive half of N(0, 1).
pub fn alpha_fit(x: &[f32], relu: &QuantRelu, rounds: usize) -> Result<f32> {
    let (bits, rounding) = (relu.bits().get(), relu.rounding());
    let mut alpha = relu.alpha();
    for _ in 0..rounds {
        let relu = QuantRelu::new(bits, alpha, rounding)?;
        let (mut above, mut below) = (0.0, 0.0);
        let mut codes = [0.0; PIECE];
        for x in x.chunks(PIECE) {
            // First the codes, all at once: the sums go one by one, in the order of the values.
            let pairs = codes.iter_mut().zip(x);
            pairs.for_each(|(code, x)| *code = relu.steps(*x));
            for (code, x) in codes.iter().zip(x) {
                let code = f64::from(*code);
                above += f64::from(*x) * code;
                below += code * code;
            }
        }
        if below == 0.0 {
            break;
        }
        let new = (above / below) as f32;
        if !new.is_finite() {
            return Err(Error::argument("x", "not finite", "finite numbers"));
        }
        let settled = (new - alpha).abs() <= 1e-6 * alpha;
        alpha = new;
        if settled || rounding == Rounding::Ceil {
            break;
        }
    }
    Ok(alpha)
}

fn check_alpha(alpha: f32) -> Result<()> {
    if alpha > 0.0 {
        return Ok(());
    }
    Err(Error::argument("alpha", alpha, "a number above 0"))
}

/// Multiplies d with what `dx` says at x.
pub(super) fn each(x: &[f32], d: &mut [f32], dx: impl Fn(f32) -> f32) {
    for (x, d) in x.iter().zip(d) {
        *d *= dx(*x);
    }
}

/// [`CoarseX::ReverseExp`], piece by piece.
fn reverse_exp(x: &[f32], alpha: f32, bits: Bits, d: &mut [f32]) {
    let top = bits.max_code() as f32 * alpha;
    let quick = |x: f32| {
        let down = -f64::from(x / top);
        let e = exp_quick(if down < -700.0 { -700.0 } else { down });
        if x > 0.0 { e } else { 0.0 }
    };
    let exact = |x| CoarseX::ReverseExp.dx(x, alpha, bits);
    let mut by = [0.0; PIECE];
    for (x, d) in x.chunks(PIECE).zip(d.chunks_mut(PIECE)) {
        each_rounded(x, &mut by[..x.len()], 2e-14, quick, exact);
        d.iter_mut().zip(&by).for_each(|(d, by)| *d *= by);
    }
}

/// Values that are taken at a time, where one loop cannot do all.
const PIECE: usize = 256;

/// The sum of d f(x), in sixteen fixed strands: fast, and the same on every machine.
pub(super) fn sum(x: &[f32], d: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut strands = [0f32; 16];
    for (x, d) in x.chunks(16).zip(d.chunks(16)) {
        for ((strand, x), d) in strands.iter_mut().zip(x).zip(d) {
            *strand += d * f(*x);
        }
    }
    strands.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 bits of step 0.5: q = 3, top 1.5.
    fn relu() -> QuantRelu {
        QuantRelu::new(2, 0.5, Rounding::Ceil).unwrap()
    }

    const X: [f32; 8] = [-1.0, 0.0, 0.1, 0.5, 0.6, 1.5, 1.6, f32::NAN];

    #[test]
    fn coarse_gradients_by_x_value_by_value() {
        let two = Bits::new(2).unwrap();
        let dx = |by: CoarseX| X.map(|x| by.dx(x, 0.5, two));
        let clipped = [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0];
        assert_eq!(dx(CoarseX::ClippedRelu), clipped);
        assert_eq!(dx(CoarseX::Relu), [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        assert_eq!(dx(CoarseX::Identity), [1.0; 8]);
        // 1.6 / 0.5 - 3 + 1 = 1.2.
        let log = dx(CoarseX::LogTailed);
        assert!((log[6] - 1.0 / 1.2).abs() < 1e-6);
        assert_eq!(log[..6], clipped[..6]);
        let reverse = dx(CoarseX::ReverseExp);
        assert_eq!([reverse[0], reverse[1], reverse[7]], [0.0; 3]);
        assert!((reverse[5] - (-1f32).exp()).abs() < 1e-7);
        assert!((reverse[2] - (-0.1f32 / 1.5).exp()).abs() < 1e-7);

        let at = [-1.1, -1.0, -0.25, 0.0, 0.5, 1.0, 1.1, f32::NAN];
        let one = Bits::new(1).unwrap();
        let hard = at.map(|x| CoarseX::HardTanh.dx(x, 0.3, one));
        assert_eq!(hard, [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        let poly = at.map(|x| CoarseX::PiecewisePoly.dx(x, 0.3, one));
        assert_eq!(poly, [0.0, 0.0, 1.5, 2.0, 1.0, 0.0, 0.0, 0.0]);

        for by in CoarseX::ALL {
            let name = serde_json::to_value(by).unwrap();
            assert_eq!(name, by.name());
            let below = at.iter().any(|x| *x < 0.0 && by.dx(*x, 0.3, one) > 0.0);
            assert_eq!(by.is_two_sided(), below, "{by:?}");
        }
    }

    #[test]
    fn coarse_gradients_by_alpha_value_by_value() {
        for by in CoarseAlpha::ALL {
            assert_eq!(serde_json::to_value(by).unwrap(), by.name());
        }
        let dalpha = |by: CoarseAlpha| X.map(|x| by.dalpha(x, &relu()));
        let three = [0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 3.0, 0.0];
        assert_eq!(dalpha(CoarseAlpha::AlphaThree), three);
        let ae = [0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 0.0];
        assert_eq!(dalpha(CoarseAlpha::AlphaAe), ae);
        let two = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0];
        assert_eq!(dalpha(CoarseAlpha::AlphaTwo), two);
        let min = [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 3.0, 0.0];
        assert_eq!(dalpha(CoarseAlpha::AlphaMin), min);
        let lsq = dalpha(CoarseAlpha::AlphaLsq);
        for (got, expected) in lsq.iter().zip([0.0, 0.0, 0.8, 0.0, 0.8, 0.0, 3.0, 0.0]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    #[test]
    fn lsq_by_alpha_is_the_derivative_with_the_rounding_held() {
        // alpha round(x / alpha) with d round(z) taken as dz: round - z inside, the level outside.
        let relu = QuantRelu::new(3, 0.25, Rounding::Nearest).unwrap();
        for (x, expected) in [(0.3, 1.0 - 1.2), (0.4, 2.0 - 1.6), (9.0, 7.0), (-1.0, 0.0)] {
            let got = CoarseAlpha::AlphaLsq.dalpha(x, &relu);
            assert!((got - expected).abs() < 1e-6, "{x}: {got} {expected}");
        }
    }

    #[test]
    fn slices_do_what_the_functions_say() {
        let x: Vec<f32> = (0..101).map(|i| i as f32 * 0.04 - 1.5).collect();
        let d: Vec<f32> = (0..101).map(|i| 1.0 - i as f32 * 0.01).collect();
        let bits = Bits::new(2).unwrap();
        for by in CoarseX::ALL {
            let mut masked = d.clone();
            mask_x(by, &x, 0.5, bits, &mut masked).unwrap();
            for ((got, x), d) in masked.iter().zip(&x).zip(&d) {
                assert_eq!(*got, d * by.dx(*x, 0.5, bits), "{by:?} {x}");
            }
        }
        for by in CoarseAlpha::ALL {
            let got = sum_alpha(by, &x, &relu(), &d).unwrap();
            let pairs = x.iter().zip(&d);
            let expected: f64 = pairs
                .map(|(x, d)| f64::from(*d) * f64::from(by.dalpha(*x, &relu())))
                .sum();
            assert!((f64::from(got) - expected).abs() < 1e-4, "{by:?}");
        }
        let latent = [-1.5, -1.0, 0.0, 1.0, 1.01, f32::NAN];
        let mut d = [3.0; 6];
        mask_w(CoarseW::Clip1, &latent, &mut d).unwrap();
        assert_eq!(d, [0.0, 3.0, 3.0, 3.0, 0.0, 0.0]);
        mask_w(CoarseW::Identity, &latent, &mut d).unwrap();
        assert_eq!(d, [0.0, 3.0, 3.0, 3.0, 0.0, 0.0]);
        assert!(mask_x(CoarseX::Relu, &x, 0.0, bits, &mut [0.0; 101]).is_err());
        assert!(mask_x(CoarseX::Relu, &x, 0.5, bits, &mut [0.0; 100]).is_err());
        assert!(sum_alpha(CoarseAlpha::AlphaAe, &x, &relu(), &[]).is_err());
        assert!(mask_w(CoarseW::Clip1, &x, &mut []).is_err());
    }

    #[test]
    fn alpha_from_data() {
        let bits = Bits::new(2).unwrap();
        assert_eq!(alpha_calibrate(&[-0.3, 1.5, 0.0], bits).unwrap(), 0.5);
        assert!(alpha_calibrate(&[], bits).is_err());
        assert!(alpha_calibrate(&[f32::NAN], bits).is_err());
        assert_eq!(alpha_published(bits), Some(0.6511));
        assert_eq!(alpha_published(Bits::new(3).unwrap()), None);

        // The positive half of N(0, 1): the fixed steps of HWGQ, from a start that is far off.
        let mut x = vec![0.0; 200_000];
        crate::nn::rng::Rng::new(8).fill_normal(&mut x, 1.0);
        x.retain(|x| *x > 0.0);
        for (bits, expected) in [(1, 1.2240), (2, 0.6508), (3, 0.3534), (4, 0.1932)] {
            let start = QuantRelu::new(bits, 0.5, Rounding::Nearest).unwrap();
            let alpha = alpha_fit(&x, &start, 500).unwrap();
            assert!(
                (alpha / expected - 1.0).abs() < 0.01,
                "{bits} bits: {alpha}"
            );
        }
        let start = QuantRelu::new(1, 3.0, Rounding::Ceil).unwrap();
        assert!((alpha_fit(&x, &start, 9).unwrap() - 0.7979).abs() < 0.01);
        let far = QuantRelu::new(2, 1e3, Rounding::Nearest).unwrap();
        assert_eq!(alpha_fit(&x, &far, 9).unwrap(), 1e3);
    }
}
