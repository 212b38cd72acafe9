//! Activations: quantized forward, coarse gradient backward, with a step alpha that is learned.
//!
//! The staircase has derivative zero almost everywhere. What goes back instead is a choice, and each
//! choice is a pure function of x here, so that it can be read and tested value by value:
//! [`CoarseX::dx`] stands for the derivative by x, [`CoarseAlpha::dalpha`] for the one by alpha.
//!
//! Source: Blended Coarse Gradient Descent, arXiv 1808.05240, section 2, and its authors' code (constants
//! and clamps); PACT, arXiv 1805.06085; hard tanh for the sign as in arXiv 1602.02830.

use serde::{Deserialize, Serialize};

use crate::bits::{Encoding, PackedMatrix};
use crate::error::Result;
use crate::kernels::Kernels;
use crate::ops::{Par, dequantize, quantize};
use crate::quant::{ActQuantizer, QuantRelu, Rounding};
use crate::shape::check_len;

/// Where alpha is kept.
pub const ALPHA_RANGE: std::ops::RangeInclusive<f32> = 1e-3..=5.0;

/// r: what the gradient by alpha, summed over the batch and channels, is multiplied by.
pub const ALPHA_RATE: f32 = 0.01;

/// What stands for the derivative of the quantized ReLU by x.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoarseX {
    /// 1 for 0 < x <= q alpha, else 0.
    #[default]
    ClippedRelu,
    /// 1 for x > 0, else 0.
    Relu,
    /// 1.
    Identity,
}

impl CoarseX {
    /// The stand-in at `x`.
    pub fn dx(self, x: f32, relu: &QuantRelu) -> f32 {
        let passes = match self {
            CoarseX::ClippedRelu => x > 0.0 && x <= top(relu),
            CoarseX::Relu => x > 0.0,
            CoarseX::Identity => true,
        };
        if passes { 1.0 } else { 0.0 }
    }
}

/// What stands for the derivative of the quantized ReLU by alpha: 0 for x <= 0, q for x > q alpha, and
/// between them what the variant says. q = 2^bits - 1.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoarseAlpha {
    /// 2^(bits - 1): the paper's three-valued one.
    #[default]
    AlphaThree,
    /// The code of x: the true derivative almost everywhere.
    AlphaAe,
    /// 0: two-valued, PACT.
    AlphaTwo,
    /// 1.
    AlphaMin,
}

impl CoarseAlpha {
    /// The stand-in at `x`.
    pub fn dalpha(self, x: f32, relu: &QuantRelu) -> f32 {
        let middle = match self {
            CoarseAlpha::AlphaThree => (1u32 << (relu.bits().get() - 1)) as f32,
            CoarseAlpha::AlphaAe => f32::from(relu.code(x)),
            CoarseAlpha::AlphaTwo => 0.0,
            CoarseAlpha::AlphaMin => 1.0,
        };
        if x > top(relu) {
            relu.bits().max_code() as f32
        } else if x > 0.0 {
            middle
        } else {
            0.0
        }
    }
}

/// The stand-in for the derivative of the sign, and the derivative of the hard tanh: 1 for |x| <= 1.
pub fn dx_sign(x: f32) -> f32 {
    if x.abs() <= 1.0 { 1.0 } else { 0.0 }
}

fn top(relu: &QuantRelu) -> f32 {
    relu.bits().max_code() as f32 * relu.alpha()
}

/// The step with the least mean square error for the positive half of N(0, 1), by Lloyd's iteration.
///
/// Source: arXiv 1808.05240's code has the values of `Nearest` (1.2221, 0.6511 and 0.1946 for 1, 2 and 4
/// bits, from samples); these are the minima of the integrals.
pub fn alpha_init(bits: crate::bits::Bits, rounding: Rounding) -> f32 {
    let table = match rounding {
        Rounding::Ceil => [
            0.7979, 0.4866, 0.2893, 0.1666, 0.0938, 0.0520, 0.0284, 0.0154,
        ],
        Rounding::Nearest => [
            1.2240, 0.6508, 0.3534, 0.1932, 0.1055, 0.0573, 0.0309, 0.0165,
        ],
    };
    table[bits.get() - 1]
}

/// The function of a hidden layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Function {
    /// max(x, 0), in floats.
    Relu,
    /// min(max(x, -1), 1), in floats.
    HardTanh,
    /// -1 or +1.
    Sign,
    /// Codes times alpha.
    QuantRelu {
        /// Bit width and where the steps lie; its alpha is the first one.
        first: QuantRelu,
        /// The gradient by x.
        by_x: CoarseX,
        /// The gradient by alpha.
        by_alpha: CoarseAlpha,
    },
}

/// An activation with its parameter.
#[derive(Clone, Debug)]
pub struct Activation {
    function: Function,
    /// The step; used by [`Function::QuantRelu`] only.
    pub alpha: [f32; 1],
    /// Gradient of the loss by alpha: times [`ALPHA_RATE`], clamped to [-1, 1].
    pub d_alpha: [f32; 1],
}

impl Activation {
    /// The activation of `function`.
    pub fn new(function: Function) -> Self {
        let alpha = match function {
            Function::QuantRelu { first, .. } => first.alpha(),
            _ => 1.0,
        };
        Activation {
            function,
            alpha: [alpha],
            d_alpha: [0.0],
        }
    }

    /// The function.
    pub fn function(&self) -> Function {
        self.function
    }

    /// How values become codes, with alpha clamped to [`ALPHA_RANGE`]; `None` if they stay floats.
    ///
    /// Errors if alpha is NaN.
    pub fn quantizer(&self) -> Result<Option<ActQuantizer>> {
        Ok(match self.function {
            Function::Relu | Function::HardTanh => None,
            Function::Sign => Some(ActQuantizer::Sign),
            Function::QuantRelu { first, .. } => {
                let alpha = self.alpha[0].clamp(*ALPHA_RANGE.start(), *ALPHA_RANGE.end());
                let (bits, rounding) = (first.bits().get(), first.rounding());
                Some(ActQuantizer::Relu(QuantRelu::new(bits, alpha, rounding)?))
            }
        })
    }

    /// Clamps alpha itself to [`ALPHA_RANGE`]; to be called when it has changed.
    pub fn settle(&mut self) {
        self.alpha[0] = self.alpha[0].clamp(*ALPHA_RANGE.start(), *ALPHA_RANGE.end());
    }

    /// Values of `x` `[M, N]` into `out` `[M, N]` and, if the function has codes, into `codes` `[M, N]`,
    /// which is made anew when its shape or encoding differs.
    ///
    /// Errors if the lengths differ, are not a multiple of `n`, or alpha is NaN.
    pub fn forward(
        &self,
        kernels: &Kernels,
        x: &[f32],
        n: usize,
        out: &mut [f32],
        codes: &mut PackedMatrix,
    ) -> Result<()> {
        check_len("out", out.len(), x.len(), "M x N")?;
        let pairs = x.iter().zip(out.iter_mut());
        match self.function {
            Function::Relu => pairs.for_each(|(x, out)| *out = x.max(0.0)),
            Function::HardTanh => pairs.for_each(|(x, out)| *out = x.clamp(-1.0, 1.0)),
            Function::Sign | Function::QuantRelu { .. } => {
                let quantizer = self.quantizer()?.expect("these functions have codes");
                reshape(codes, quantizer.encoding(), x.len() / n.max(1), n)?;
                quantize(kernels, x, quantizer, &mut *codes)?;
                dequantize(kernels, codes.view(), quantizer.step(), out, Par::Caller)?;
            }
        }
        Ok(())
    }

    /// The gradient by `x` `[M, N]` in place of the one by the output; also sets `d_alpha`.
    ///
    /// Errors if the lengths differ or alpha is NaN.
    pub fn backward(&mut self, x: &[f32], d: &mut [f32]) -> Result<()> {
        check_len("d", d.len(), x.len(), "M x N")?;
        self.d_alpha[0] = 0.0;
        match (self.function, self.quantizer()?) {
            (Function::QuantRelu { by_x, by_alpha, .. }, Some(ActQuantizer::Relu(relu))) => {
                // A loop for each choice, so that none has a branch inside.
                self.d_alpha[0] = match by_alpha {
                    CoarseAlpha::AlphaAe => sum(x, d, |x| CoarseAlpha::AlphaAe.dalpha(x, &relu)),
                    CoarseAlpha::AlphaThree => {
                        sum(x, d, |x| CoarseAlpha::AlphaThree.dalpha(x, &relu))
                    }
                    CoarseAlpha::AlphaTwo => sum(x, d, |x| CoarseAlpha::AlphaTwo.dalpha(x, &relu)),
                    CoarseAlpha::AlphaMin => sum(x, d, |x| CoarseAlpha::AlphaMin.dalpha(x, &relu)),
                };
                self.d_alpha[0] = (ALPHA_RATE * self.d_alpha[0]).clamp(-1.0, 1.0);
                match by_x {
                    CoarseX::ClippedRelu => {
                        mask(x, d, |x| CoarseX::ClippedRelu.dx(x, &relu));
                    }
                    CoarseX::Relu => mask(x, d, |x| CoarseX::Relu.dx(x, &relu)),
                    CoarseX::Identity => {}
                }
            }
            (Function::Relu, _) => mask(x, d, |x| if x > 0.0 { 1.0 } else { 0.0 }),
            _ => mask(x, d, dx_sign),
        }
        Ok(())
    }
}

/// Makes `codes` anew unless it has this encoding and shape already.
pub(crate) fn reshape(
    codes: &mut PackedMatrix,
    encoding: Encoding,
    rows: usize,
    cols: usize,
) -> Result<()> {
    if (codes.encoding(), codes.rows(), codes.cols()) != (encoding, rows, cols) {
        *codes = PackedMatrix::zeros(encoding, rows, cols)?;
    }
    Ok(())
}

fn mask(x: &[f32], d: &mut [f32], dx: impl Fn(f32) -> f32) {
    for (x, d) in x.iter().zip(d) {
        *d *= dx(*x);
    }
}

/// The sum of d * f(x), in sixteen fixed strands: fast, and the same on every machine.
fn sum(x: &[f32], d: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut strands = [0f32; 16];
    for (x, d) in x.chunks(16).zip(d.chunks(16)) {
        for ((strand, x), d) in strands.iter_mut().zip(x).zip(d) {
            *strand += d * f(*x);
        }
    }
    strands.iter().sum()
}

#[cfg(test)]
mod tests;
