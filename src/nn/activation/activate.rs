//! What an activation is made of: how values become codes, and what goes back in the place of their derivatives.

use std::fmt;

use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::nn::activation::{AlphaLearning, CoarseX, Function};
use crate::nn::ste::{self, mask_x, sum_alpha};
use crate::quant::{ActQuantizer, QuantRelu};
use crate::shape::check_len;

/// An activation quantizer with its coarse gradients by x and by alpha: [`Function`] for files and the command line, or
/// one of your own, which a net takes by [`Net::activate_by`](crate::nn::Net::activate_by).
///
/// The codes are those of an [`ActQuantizer`], so that the packed kernels serve and the net freezes. What alpha is to it
/// is free: its step, as in arXiv 1808.05240, or the value where it clips, as in PACT, arXiv 1805.06085. (The alphas
/// that nets calibrate and fit by batches are steps.)
///
/// ```
/// use std::sync::Arc;
///
/// use qcore::nn::Net;
/// use qcore::nn::activation::{Activate, AlphaLearning};
/// use qcore::nn::net::{Block, Design, Mode};
/// use qcore::quant::{ActQuantizer, QuantRelu, Rounding};
///
/// /// Four levels from 0 to alpha. By x a triangle: 0 at 0 and at alpha, 1 half way.
/// #[derive(Debug)]
/// struct Triangle;
///
/// impl Activate for Triangle {
///     fn quantizer(&self, alpha: f32) -> qcore::Result<Option<ActQuantizer>> {
///         let relu = QuantRelu::new(2, alpha / 3.0, Rounding::Nearest)?;
///         Ok(Some(ActQuantizer::Relu(relu)))
///     }
///
///     fn dx(&self, x: f32, alpha: f32) -> f32 {
///         (2.0 * x.min(alpha - x) / alpha).max(0.0)
///     }
///
///     fn learning(&self) -> Option<AlphaLearning> {
///         Some(AlphaLearning::default())
///     }
///
///     fn dalpha(&self, x: f32, alpha: f32) -> f32 {
///         if x > alpha { 1.0 } else { 0.0 }
///     }
/// }
///
/// # fn main() -> qcore::Result<()> {
/// let mut net = Net::new(Design::new([4, 4, 1], Block::linear(&[8]), 3, 2), 1)?;
/// net.activate_by(Some(Arc::new(Triangle)))?;
/// net.set_mode(Mode::Quantized)?;
/// assert!(net.is_packed());
/// let model = qcore::nn::freeze(&net)?; // packed, as with every other activation
/// # let _ = model;
/// # Ok(())
/// # }
/// ```
pub trait Activate: fmt::Debug + Send + Sync {
    /// How values become codes when the parameter is `alpha`; `None` if they stay floats, those of [`Activate::floats`].
    ///
    /// Errors if there is no such alpha.
    fn quantizer(&self, alpha: f32) -> Result<Option<ActQuantizer>>;

    /// What stands for the derivative by x at `x`.
    fn dx(&self, x: f32, alpha: f32) -> f32;

    /// What stands for the derivative by alpha at `x`; used if alpha learns.
    fn dalpha(&self, _x: f32, _alpha: f32) -> f32 {
        0.0
    }

    /// How alpha is learned, and where it is kept; `None`, as here, if it stays what it is at first.
    fn learning(&self) -> Option<AlphaLearning> {
        None
    }

    /// Alpha at first.
    fn first_alpha(&self) -> f32 {
        1.0
    }

    /// The function in floats, of `x` into `out`, whose derivative [`Activate::dx`] is: the output where there are no
    /// codes, and that of nets which [use smooth functions](crate::nn::Net::use_smooth).
    ///
    /// Errors if the lengths differ, or if there is none, as here.
    fn floats(&self, _x: &[f32], _alpha: f32, _out: &mut [f32]) -> Result<()> {
        let expected = "an activation that has a function in floats (Activate::floats)";
        Err(Error::argument("activation", format!("{self:?}"), expected))
    }

    /// Multiplies the gradient `d` by the output with [`Activate::dx`] at `x`, in place: the gradient by x.
    ///
    /// Errors if the lengths differ.
    fn mask_x(&self, x: &[f32], alpha: f32, d: &mut [f32]) -> Result<()> {
        check_len("d", d.len(), x.len(), "as x")?;
        ste::each(x, d, |x| self.dx(x, alpha));
        Ok(())
    }

    /// The sum of d times [`Activate::dalpha`] at x: the gradient by alpha, before any rate or clamp.
    ///
    /// Errors if the lengths differ.
    fn sum_alpha(&self, x: &[f32], alpha: f32, d: &[f32]) -> Result<f32> {
        check_len("d", d.len(), x.len(), "as x")?;
        Ok(ste::sum(x, d, |x| self.dalpha(x, alpha)))
    }
}

impl Function {
    /// The quantized ReLU of step `alpha`, if it is one.
    fn relu(&self, alpha: f32) -> Result<Option<QuantRelu>> {
        match self {
            Function::QuantRelu { first, .. } => {
                QuantRelu::new(first.bits().get(), alpha, first.rounding()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What the coarse gradient by x depends on.
    fn steps(&self, alpha: f32) -> Result<(f32, Bits)> {
        match self {
            Function::QuantRelu { first, .. } => Ok((alpha, first.bits())),
            _ => Ok((1.0, Bits::new(1)?)),
        }
    }
}

/// Slices go through loops of their own for each choice.
impl Activate for Function {
    fn quantizer(&self, alpha: f32) -> Result<Option<ActQuantizer>> {
        match self {
            Function::Relu | Function::HardTanh => Ok(None),
            Function::Sign { .. } => Ok(Some(ActQuantizer::Sign)),
            Function::QuantRelu { .. } => Ok(self.relu(alpha)?.map(ActQuantizer::Relu)),
        }
    }

    fn dx(&self, x: f32, alpha: f32) -> f32 {
        match self.steps(alpha) {
            Ok((alpha, bits)) => self.by_x().dx(x, alpha, bits),
            Err(_) => f32::NAN,
        }
    }

    fn dalpha(&self, x: f32, alpha: f32) -> f32 {
        match (self, self.relu(alpha)) {
            (Function::QuantRelu { by_alpha, .. }, Ok(Some(relu))) => by_alpha.dalpha(x, &relu),
            (_, Ok(_)) => 0.0,
            (_, Err(_)) => f32::NAN,
        }
    }

    fn learning(&self) -> Option<AlphaLearning> {
        match self {
            Function::QuantRelu { learning, .. } => Some(*learning),
            _ => None,
        }
    }

    fn first_alpha(&self) -> f32 {
        match self {
            Function::QuantRelu { first, .. } => first.alpha(),
            _ => 1.0,
        }
    }

    fn floats(&self, x: &[f32], alpha: f32, out: &mut [f32]) -> Result<()> {
        check_len("out", out.len(), x.len(), "as x")?;
        let pairs = x.iter().zip(out);
        match self {
            Function::Relu => pairs.for_each(|(x, out)| *out = if *x > 0.0 { *x } else { 0.0 }),
            Function::HardTanh => pairs.for_each(|(x, out)| *out = x.clamp(-1.0, 1.0)),
            Function::Sign { by_x } | Function::QuantRelu { by_x, .. } => {
                let (by_x, (alpha, bits)): (CoarseX, _) = (*by_x, self.steps(alpha)?);
                pairs.for_each(|(x, out)| *out = by_x.smooth(*x, alpha, bits));
            }
        }
        Ok(())
    }

    fn mask_x(&self, x: &[f32], alpha: f32, d: &mut [f32]) -> Result<()> {
        let (alpha, bits) = self.steps(alpha)?;
        mask_x(self.by_x(), x, alpha, bits, d)
    }

    fn sum_alpha(&self, x: &[f32], alpha: f32, d: &[f32]) -> Result<f32> {
        match (self, self.relu(alpha)?) {
            (Function::QuantRelu { by_alpha, .. }, Some(relu)) => sum_alpha(*by_alpha, x, &relu, d),
            _ => check_len("d", d.len(), x.len(), "as x").map(|()| 0.0),
        }
    }
}
