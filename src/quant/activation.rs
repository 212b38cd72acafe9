//! Activation quantizers: which code a float gets.
//!
//! A quantizer of q levels above zero is q thresholds, and the code of x is the number of thresholds
//! that x passes:
//!
//! ```text
//!   Ceil:     T_c = c * alpha           passed when x >  T_c        c = 0 .. q - 1
//!   Nearest:  T_c = (c + 1/2) * alpha   passed when x >= T_c
//! ```
//!
//! with each product rounded to f32 once. `Ceil` is the staircase of Blended Coarse Gradient Descent
//! (arXiv 1808.05240, section 2): alpha * min(ceil(x / alpha), q) for x > 0. Stated as comparisons, the
//! rule needs no word on division, it is monotone, it is idempotent (code(alpha * k) = k, which
//! `ceil(x * (1 / alpha))` is not), and NaN, which passes nothing, gets code 0.

use crate::bits::{Bits, Encoding};
use crate::error::{Error, Result};

/// Where the steps of a [`QuantRelu`] lie.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Level k for (k-1) alpha < x <= k alpha: the paper's staircase.
    Ceil,
    /// Level k for (k-1/2) alpha <= x < (k+1/2) alpha: the nearest level, ties upwards.
    Nearest,
}

/// The quantized ReLU: levels alpha * {0, .., 2^bits - 1}.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct QuantRelu {
    bits: Bits,
    alpha: f32,
    rounding: Rounding,
}

impl QuantRelu {
    /// A quantized ReLU of `bits` bits (1 to 8) and step `alpha`.
    ///
    /// Errors unless `alpha` lies in [1e-30, 1e30]: beyond, products of it leave the normal f32 range.
    pub fn new(bits: usize, alpha: f32, rounding: Rounding) -> Result<Self> {
        let bits = Bits::new(bits)?;
        if !(1e-30..=1e30).contains(&alpha) {
            let expected = "a positive number from 1e-30 to 1e30";
            return Err(Error::argument("alpha", alpha, expected));
        }
        Ok(QuantRelu {
            bits,
            alpha,
            rounding,
        })
    }

    /// Threshold c, 0 <= c < q: what x must pass for code c + 1.
    pub fn threshold(&self, c: usize) -> f32 {
        (c as f32 + self.offset()) * self.alpha
    }

    /// Whether `x` passes the threshold `t`.
    pub fn passes(&self, x: f32, t: f32) -> bool {
        match self.rounding {
            Rounding::Ceil => x > t,
            Rounding::Nearest => x >= t,
        }
    }

    /// The code of `x`: how many thresholds it passes.
    pub fn code(&self, x: f32) -> u8 {
        self.steps(x) as u8
    }

    /// The code of `x` as a float.
    #[inline(always)]
    pub(crate) fn steps(&self, x: f32) -> f32 {
        let q = self.bits.max_code() as f32;
        // The thresholds rise, so those that x passes come first. x / alpha cut to an integer k is right or one or two
        // too few, since it is good to a few units in the last place: all thresholds below k are passed, none above
        // k + 1 is. What the two between say is exact. (No search and no branch: such loops become vector code.)
        let k = (x * (1.0 / self.alpha)).clamp(0.0, q) as i32 as f32;
        let passes = |c: f32| {
            let t = (c + self.offset()) * self.alpha;
            let passes = (x > t) | (self.touches() & (x == t));
            if passes { 1.0 } else { 0.0 }
        };
        (k + passes(k) + passes(k + 1.0)).min(q)
    }

    /// Whether a threshold itself passes.
    #[inline(always)]
    fn touches(&self) -> bool {
        self.rounding == Rounding::Nearest
    }

    /// The float that a code stands for, alpha * code.
    pub fn value(&self, code: u8) -> f32 {
        self.alpha * f32::from(code)
    }

    /// Bit width.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// Step between levels.
    pub fn alpha(&self) -> f32 {
        self.alpha
    }

    /// Where the steps lie.
    pub fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// What is added to c before the product: 0 for `Ceil`, 1/2 for `Nearest`.
    pub(crate) fn offset(&self) -> f32 {
        match self.rounding {
            Rounding::Ceil => 0.0,
            Rounding::Nearest => 0.5,
        }
    }
}

/// How activations become codes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ActQuantizer {
    /// Bipolar: +1 for x >= 0 (so for 0.0 and -0.0), -1 for x < 0 and for NaN.
    Sign,
    /// Unsigned codes of a quantized ReLU.
    Relu(QuantRelu),
}

impl ActQuantizer {
    /// The encoding of the codes.
    pub fn encoding(&self) -> Encoding {
        match self {
            ActQuantizer::Sign => Encoding::Bipolar,
            ActQuantizer::Relu(q) => Encoding::Unsigned(q.bits),
        }
    }

    /// The float that one unit of the integer stands for: alpha, or 1 for the sign.
    pub fn step(&self) -> f32 {
        match self {
            ActQuantizer::Sign => 1.0,
            ActQuantizer::Relu(q) => q.alpha,
        }
    }

    /// The code of `x`.
    pub fn code(&self, x: f32) -> u8 {
        match self {
            ActQuantizer::Sign => u8::from(x >= 0.0),
            ActQuantizer::Relu(q) => q.code(x),
        }
    }

    /// The float that a code stands for.
    pub fn value(&self, code: u8) -> f32 {
        match self {
            ActQuantizer::Sign => 2.0 * f32::from(code & 1) - 1.0,
            ActQuantizer::Relu(q) => q.value(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceil_is_the_staircase_of_the_paper() {
        let q = QuantRelu::new(2, 0.5, Rounding::Ceil).unwrap();
        let codes = [-1.0, -0.0, 0.0, 1e-9, 0.5, 0.500_001, 1.0, 1.5, 1.6, 9e9].map(|x| q.code(x));
        assert_eq!(codes, [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]);
        assert_eq!(q.code(f32::NAN), 0);
        assert_eq!(q.code(f32::INFINITY), 3);
        assert_eq!(q.code(f32::NEG_INFINITY), 0);
    }

    #[test]
    fn nearest_ties_go_up() {
        let q = QuantRelu::new(2, 1.0, Rounding::Nearest).unwrap();
        let codes = [-1.0, 0.0, 0.49, 0.5, 1.49, 1.5, 2.5, 7.0, f32::NAN].map(|x| q.code(x));
        assert_eq!(codes, [0, 0, 0, 1, 1, 2, 3, 3, 0]);
    }

    #[test]
    fn quantizing_a_level_gives_the_level() {
        for rounding in [Rounding::Ceil, Rounding::Nearest] {
            for alpha in [0.1, 0.3, 1.0 / 3.0, 0.651_1, 1e-30, 1e30, 7.7e-5, 1.222_1] {
                let q = QuantRelu::new(8, alpha, rounding).unwrap();
                for code in 0..=255 {
                    assert_eq!(q.code(q.value(code)), code, "{rounding:?} {alpha} {code}");
                }
            }
        }
    }

    #[test]
    fn sign_of_zero_is_plus_and_of_nan_minus() {
        let s = ActQuantizer::Sign;
        let codes = [0.0, -0.0, 1.0, -1e-45, f32::NAN, -f32::NAN].map(|x| s.code(x));
        assert_eq!(codes, [1, 1, 1, 0, 0, 0]);
        assert_eq!([s.value(1), s.value(0)], [1.0, -1.0]);
    }

    #[test]
    fn a_step_that_is_not_positive_is_refused() {
        for alpha in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-31] {
            let said = QuantRelu::new(4, alpha, Rounding::Ceil).unwrap_err();
            assert!(
                said.to_string()
                    .starts_with(&format!("alpha is {alpha}; expected a positive"))
            );
        }
        assert!(QuantRelu::new(9, 1.0, Rounding::Ceil).is_err());
    }
}
