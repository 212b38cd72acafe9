//! Activations: quantized forward, coarse gradient backward, with a step alpha that is learned.
//!
//! The staircase has derivative zero almost everywhere. What goes back instead is a choice, and each
//! choice is a pure function of x in [`ste`](crate::nn::ste), so that it can be read and tested value by value:
//! [`CoarseX::dx`] stands for the derivative by x, [`CoarseAlpha::dalpha`] for the one by alpha.
//! [`Activate`] is both with the codes: [`Function`] is one implementation, and a net takes others.
//!
//! Source: Blended Coarse Gradient Descent, arXiv 1808.05240, section 2, and its authors' code (constants
//! and clamps); PACT, arXiv 1805.06085; hard tanh for the sign as in arXiv 1602.02830, the polynomial as in 1808.00278.

use std::sync::Arc;

use crate::bits::{Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::nn::share::share;
pub use crate::nn::ste::{CoarseAlpha, CoarseX};
use crate::nn::ste::{alpha_calibrate, alpha_fit};
use crate::ops::{Par, dequantize, quantize};
use crate::quant::{ActQuantizer, QuantRelu, Rounding};
use crate::shape::check_len;

mod activate;

pub use activate::Activate;

/// How alpha is learned.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AlphaLearning {
    /// r: what the gradient by alpha, summed over the batch and channels, is multiplied by; above 0.
    pub rate: f32,
    /// Bound of the gradient by alpha, times r, on both sides; above 0.
    pub clamp: f32,
    /// The least and the greatest alpha, from 1e-30 to 1e30.
    pub range: [f32; 2],
}

impl Default for AlphaLearning {
    /// The constants of the code of arXiv 1808.05240.
    fn default() -> Self {
        AlphaLearning {
            rate: 0.01,
            clamp: 1.0,
            range: [1e-3, 5.0],
        }
    }
}

impl AlphaLearning {
    /// Errors, naming a recipe's field, if a number is out of its range.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("alpha_rate", self.rate), ("alpha_clamp", self.clamp)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::argument(name, value, "a number above 0"));
            }
        }
        let [least, greatest] = self.range;
        if !(least >= 1e-30 && least <= greatest && greatest <= 1e30) {
            let range = format!("[{least}, {greatest}]");
            let expected = "the least and the greatest alpha, from 1e-30 to 1e30";
            return Err(Error::argument("alpha_range", range, expected));
        }
        Ok(())
    }

    /// The alpha of the range that is nearest; NaN stays.
    fn keep(&self, alpha: f32) -> f32 {
        alpha.clamp(self.range[0], self.range[1])
    }
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
    Sign {
        /// The gradient by x.
        by_x: CoarseX,
    },
    /// Codes times alpha.
    QuantRelu {
        /// Bit width and where the steps lie; its alpha is the first one.
        first: QuantRelu,
        /// The gradient by x.
        by_x: CoarseX,
        /// The gradient by alpha.
        by_alpha: CoarseAlpha,
        /// How alpha is learned, and where it is kept; its numbers are in their ranges.
        learning: AlphaLearning,
    },
}

impl Function {
    /// The gradient by x: a coarse one, or that of the floats.
    pub fn by_x(self) -> CoarseX {
        match self {
            Function::Relu => CoarseX::Relu,
            Function::HardTanh => CoarseX::HardTanh,
            Function::Sign { by_x } | Function::QuantRelu { by_x, .. } => by_x,
        }
    }
}

/// What an activation does: a choice that has a name, or somebody's own.
#[derive(Clone, Debug)]
enum By {
    Function(Function),
    Own(Arc<dyn Activate>),
}

/// An activation with its parameter.
#[derive(Clone, Debug)]
pub struct Activation {
    by: By,
    /// The parameter of the codes; of [`Function`]s, the step of [`Function::QuantRelu`] only.
    pub alpha: [f32; 1],
    /// Gradient of the loss by alpha: times the rate of [`AlphaLearning`], and clamped.
    pub d_alpha: [f32; 1],
}

impl Activation {
    /// The activation of `function`.
    pub fn new(function: Function) -> Self {
        Self::by(By::Function(function))
    }

    /// An activation of one's own.
    pub fn own(own: Arc<dyn Activate>) -> Self {
        Self::by(By::Own(own))
    }

    fn by(by: By) -> Self {
        let mut all = Activation {
            by,
            alpha: [1.0],
            d_alpha: [0.0],
        };
        all.alpha = [all.activate().first_alpha()];
        all
    }

    /// The function; `None` if it is one's own.
    pub fn function(&self) -> Option<Function> {
        match self.by {
            By::Function(function) => Some(function),
            By::Own(_) => None,
        }
    }

    /// What it does.
    pub fn activate(&self) -> &dyn Activate {
        match &self.by {
            By::Function(function) => function,
            By::Own(own) => &**own,
        }
    }

    /// Whether alpha is a parameter: of a quantized ReLU, and where one's own says so.
    pub fn learns(&self) -> bool {
        self.activate().learning().is_some()
    }

    /// Alpha, clamped to its range; NaN stays.
    pub(super) fn kept(&self) -> f32 {
        let [alpha] = self.alpha;
        let learning = self.activate().learning();
        learning.map_or(alpha, |learning| learning.keep(alpha))
    }

    /// How values become codes, with alpha clamped to its range; `None` if they stay floats.
    ///
    /// Errors if alpha is NaN.
    pub fn quantizer(&self) -> Result<Option<ActQuantizer>> {
        self.activate().quantizer(self.kept())
    }

    /// Sets alpha so that the greatest level is the greatest |x|, of a quantized ReLU whose alpha learns; `x` that is empty
    /// or not finite changes nothing.
    pub fn calibrate(&mut self, x: &[f32]) {
        // The bits are asked of the first alpha: this one may be NaN.
        let first = self.activate().quantizer(self.activate().first_alpha());
        if self.learns()
            && let Ok(Some(ActQuantizer::Relu(relu))) = first
            && let Ok(alpha) = alpha_calibrate(x, relu.bits())
        {
            self.alpha = [alpha];
            self.settle();
        }
    }

    /// Fits alpha to the positive `x` by Lloyd's rounds from where it is, of a quantized ReLU whose alpha learns; `x` that is
    /// not finite changes nothing.
    pub fn refit(&mut self, x: &[f32]) {
        const ROUNDS: usize = 20;
        if self.learns()
            && let Ok(Some(ActQuantizer::Relu(relu))) = self.quantizer()
            && let Ok(alpha) = alpha_fit(x, &relu, ROUNDS)
        {
            self.alpha = [alpha];
            self.settle();
        }
    }

    /// Clamps alpha itself to its range; to be called when it has changed.
    pub fn settle(&mut self) {
        self.alpha[0] = self.kept();
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
        par: Par<'_>,
    ) -> Result<()> {
        check_len("out", out.len(), x.len(), "M x N")?;
        if let Some(quantizer) = self.quantizer()? {
            reshape(codes, quantizer.encoding(), x.len() / n.max(1), n)?;
            quantize(kernels, x, quantizer, &mut *codes, par)?;
            return dequantize(kernels, codes.view(), quantizer.step(), out, par);
        }
        let (activate, alpha) = (self.activate(), self.kept());
        let mut done: Vec<Result<()>> = Vec::new();
        done.resize_with(x.len().div_ceil(PIECE), || Ok(()));
        let pieces = x.chunks(PIECE).zip(out.chunks_mut(PIECE)).zip(&mut done);
        share(x.len() as u64 / 4, par, pieces, &|((x, out), done)| {
            *done = activate.floats(x, alpha, out);
        });
        done.into_iter().collect()
    }

    /// The gradient by `x` `[M, N]` in place of the one by the output; also sets `d_alpha`, from sums of pieces of a
    /// fixed length, in order.
    ///
    /// Errors if the lengths differ or alpha is NaN.
    pub fn backward(&mut self, x: &[f32], d: &mut [f32], par: Par<'_>) -> Result<()> {
        check_len("d", d.len(), x.len(), "M x N")?;
        self.d_alpha[0] = 0.0;
        self.quantizer()?;
        let (activate, alpha) = (self.activate(), self.kept());
        let learning = activate.learning();
        let mut sums: Vec<Result<f32>> = Vec::new();
        sums.resize_with(x.len().div_ceil(PIECE), || Ok(0.0));
        let pieces = x.chunks(PIECE).zip(d.chunks_mut(PIECE)).zip(&mut sums);
        // One call for a piece: the loops over its values are those of the implementation, and know it.
        share(x.len() as u64 / 4, par, pieces, &|((x, d), sum)| {
            if learning.is_some() {
                *sum = activate.sum_alpha(x, alpha, d);
            }
            if let Err(error) = activate.mask_x(x, alpha, d) {
                *sum = Err(error);
            }
        });
        let mut all = 0.0;
        for sum in sums {
            all += sum?;
        }
        if let Some(AlphaLearning { rate, clamp, .. }) = learning {
            self.d_alpha[0] = (rate * all).clamp(-clamp, clamp);
        }
        Ok(())
    }
}

/// Values that one thread takes at a time.
const PIECE: usize = 1 << 14;

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

#[cfg(test)]
mod tests;
