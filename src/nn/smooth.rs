//! The smooth functions behind coarse gradients: each choice of [`CoarseX`] is the derivative of one of them.
//!
//! Backward with a coarse gradient is the backward pass of the net that has these functions in the place of the
//! staircases, taken at the values that the staircases gave. With the smooth functions forward as well
//! ([`Net::use_smooth`]) backward gives a true gradient, which coarse ones can be compared with.
//!
//! [`Net::use_smooth`]: crate::nn::net::Net::use_smooth

use crate::bits::Bits;
use crate::error::Result;
use crate::nn::activation::{Activation, CoarseX};
use crate::nn::elementary::exp;
use crate::shape::check_len;

impl CoarseX {
    /// The function whose derivative by x is [`CoarseX::dx`] wherever that is continuous: 0 at 0, and continuous; q =
    /// 2^bits - 1.
    ///
    /// The logarithm is the platform's, which may differ in the last place from machine to machine.
    pub fn smooth(self, x: f32, alpha: f32, bits: Bits) -> f32 {
        let top = bits.max_code() as f32 * alpha;
        match self {
            CoarseX::ClippedRelu => x.clamp(0.0, top),
            CoarseX::Relu => x.max(0.0),
            CoarseX::Identity => x,
            CoarseX::LogTailed if x > top => top + alpha * ((x - top) / alpha).ln_1p(),
            CoarseX::LogTailed => x.max(0.0),
            CoarseX::ReverseExp if x > 0.0 => top * (1.0 - exp(-f64::from(x / top)) as f32),
            CoarseX::ReverseExp => 0.0,
            CoarseX::HardTanh => x.clamp(-1.0, 1.0),
            CoarseX::PiecewisePoly => {
                let x = x.clamp(-1.0, 1.0);
                x * (2.0 - x.abs())
            }
        }
    }
}

impl Activation {
    /// As [`Activation::forward`], with the smooth function of the coarse gradient in the place of a staircase.
    ///
    /// Errors if the lengths differ, alpha is NaN, or it is one's own without a smooth function.
    pub(super) fn forward_smooth(&self, x: &[f32], out: &mut [f32]) -> Result<()> {
        check_len("out", out.len(), x.len(), "M x N")?;
        self.quantizer()?;
        self.activate().floats(x, self.kept(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_gradients_are_the_derivatives_of_the_smooth_functions() {
        let (alpha, bits) = (0.25, Bits::new(2).unwrap());
        let h = 1e-3;
        for by in CoarseX::ALL {
            assert_eq!(by.smooth(0.0, alpha, bits), 0.0);
            let mut seen = 0;
            for i in -80..80 {
                // Between the corners, which lie at multiples of 1/4.
                let x = i as f32 * 0.03125 + 0.0156;
                let (low, high) = (by.smooth(x - h, alpha, bits), by.smooth(x + h, alpha, bits));
                let quotient = (high - low) / (2.0 * h);
                let dx = by.dx(x, alpha, bits);
                assert!(
                    (quotient - dx).abs() < 1e-3,
                    "{by:?} at {x}: {quotient} {dx}"
                );
                seen += usize::from(dx != 0.0);
            }
            assert!(seen > 20, "{by:?}");
        }
    }

    #[test]
    fn an_activation_gives_the_function_of_its_coarse_gradient() {
        use crate::nn::activation::{AlphaLearning, CoarseAlpha, Function};
        use crate::quant::{QuantRelu, Rounding};
        let x = [-2.0, -0.5, 0.0, 0.3, 0.9, 1.5];
        let mut out = [0.0; 6];
        let first = QuantRelu::new(2, 0.25, Rounding::Ceil).unwrap();
        let by_alpha = CoarseAlpha::default();
        let of = |by_x| Function::QuantRelu {
            first,
            by_x,
            by_alpha,
            learning: AlphaLearning::default(),
        };
        let sign = |by_x| Function::Sign { by_x };
        for (function, expected) in [
            (sign(CoarseX::HardTanh), [-1.0, -0.5, 0.0, 0.3, 0.9, 1.0]),
            (sign(CoarseX::Identity), x),
            (Function::HardTanh, [-1.0, -0.5, 0.0, 0.3, 0.9, 1.0]),
            (Function::Relu, [0.0, 0.0, 0.0, 0.3, 0.9, 1.5]),
            (of(CoarseX::ClippedRelu), [0.0, 0.0, 0.0, 0.3, 0.75, 0.75]),
            (of(CoarseX::Identity), x),
        ] {
            Activation::new(function)
                .forward_smooth(&x, &mut out)
                .unwrap();
            assert_eq!(out, expected, "{function:?}");
        }
        let act = Activation::new(sign(CoarseX::HardTanh));
        assert!(act.forward_smooth(&x, &mut [0.0; 5]).is_err());
    }
}
