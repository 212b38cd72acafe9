//! Linear quantizers: the nearest multiple of a scale, signed or around a zero point.
//!
//! ```text
//!   integer(x) = clamp(round(x * (1 / scale)) + zero, low, high)
//! ```
//!
//! 1 / scale is one f32 division, made once; the product is rounded to f32, then to the nearest integer, ties
//! to even; NaN counts as 0. That is what a vector unit does in two instructions, it is monotone, and it is
//! idempotent: integer(scale * k) = k, because both roundings together move k <= 255 by less than 2^-14.

use crate::bits::{Bits, Encoding};
use crate::error::{Error, Result};

/// A linear quantizer with a fixed scale.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Linear {
    encoding: Encoding,
    scale: f32,
    inverse: f32,
    zero: i32,
    low: i32,
}

impl Linear {
    /// Signed codes of `bits` bits (2 to 8) for scale * {-max, .., max}, max = 2^(bits-1) - 1: the lowest code
    /// is not used, so that the levels are symmetric.
    ///
    /// Errors unless `scale` lies in [1e-30, 1e30].
    pub fn symmetric(bits: usize, scale: f32) -> Result<Self> {
        let encoding = symmetric_encoding(bits)?;
        check_scale(scale)?;
        Ok(Linear::new(encoding, -encoding.max(), scale, 0))
    }

    /// Codes of `encoding`, unsigned or signed, for scale * (code - zero): all codes are used.
    ///
    /// Errors unless `scale` lies in [1e-30, 1e30] and `zero` is an integer of the encoding.
    pub fn affine(encoding: Encoding, scale: f32, zero: i32) -> Result<Self> {
        affine_encoding(encoding)?;
        check_scale(scale)?;
        if !(encoding.min()..=encoding.max()).contains(&zero) {
            let expected = format!("an integer of {encoding}");
            return Err(Error::argument("zero", zero, expected));
        }
        Ok(Linear::new(encoding, encoding.min(), scale, zero))
    }

    fn new(encoding: Encoding, low: i32, scale: f32, zero: i32) -> Self {
        Linear {
            encoding,
            scale,
            inverse: 1.0 / scale,
            zero,
            low,
        }
    }

    /// The integer of `x`.
    pub fn integer(&self, x: f32) -> i32 {
        // The conversion saturates, and gives 0 for NaN.
        let nearest = (x * self.inverse).round_ties_even() as i32;
        nearest
            .saturating_add(self.zero)
            .clamp(self.low, self.high())
    }

    /// The code of `x`: its integer in two's complement, cut to the bits of the encoding.
    pub fn code(&self, x: f32) -> u8 {
        self.integer(x) as u8 & self.encoding.levels() as u8
    }

    /// The float that an integer stands for, scale * (integer - zero).
    pub fn value(&self, integer: i32) -> f32 {
        self.scale * integer.wrapping_sub(self.zero) as f32
    }

    /// The encoding of the codes.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Step between levels.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The integer that stands for 0.
    pub fn zero(&self) -> i32 {
        self.zero
    }

    /// The smallest integer that is used.
    pub fn low(&self) -> i32 {
        self.low
    }

    /// The largest integer that is used.
    pub fn high(&self) -> i32 {
        self.encoding.max()
    }

    /// 1 / scale, rounded once.
    pub(crate) fn inverse(&self) -> f32 {
        self.inverse
    }
}

/// A linear quantizer whose scale is made from the row that it quantizes.
///
/// Let lo and hi be the least and greatest of 0 and the finite values of the row.
///
/// ```text
///   symmetric:  scale = max(-lo, hi) / max                      zero = 0
///   affine:     scale = hi / levels - lo / levels               zero = min + round(-lo * (1 / scale))
/// ```
///
/// with max = 2^(bits-1) - 1 and levels = 2^bits - 1; `round` takes ties to even and the zero point is clamped
/// to the integers of the encoding. A scale is never below the smallest normal f32 (so a row of zeros, or of
/// nothing but denormals, gets that) and always finite. Infinities then saturate and NaN gets the code of 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowQuantizer {
    encoding: Encoding,
    symmetric: bool,
}

impl RowQuantizer {
    /// Signed codes of `bits` bits, 2 to 8, without the lowest.
    pub fn symmetric(bits: usize) -> Result<Self> {
        Ok(RowQuantizer {
            encoding: symmetric_encoding(bits)?,
            symmetric: true,
        })
    }

    /// Codes around a zero point; errors unless `encoding` is unsigned or signed.
    pub fn affine(encoding: Encoding) -> Result<Self> {
        affine_encoding(encoding)?;
        Ok(RowQuantizer {
            encoding,
            symmetric: false,
        })
    }

    /// The encoding of the codes.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether the zero point is always 0.
    pub fn is_symmetric(&self) -> bool {
        self.symmetric
    }

    /// The quantizer of a row.
    pub fn of(&self, row: &[f32]) -> Linear {
        let (lo, hi) = finite_range(row);
        self.of_range(lo, hi)
    }

    /// The quantizer of a row whose finite values and 0 lie from `lo` to `hi`.
    pub(crate) fn of_range(&self, lo: f32, hi: f32) -> Linear {
        let e = self.encoding;
        if self.symmetric {
            let mut scale = ((-lo).max(hi) / e.max() as f32).max(f32::MIN_POSITIVE);
            if (scale * e.max() as f32).is_infinite() {
                // The largest level must be a float.
                scale = scale.next_down();
            }
            return Linear::new(e, -e.max(), scale, 0);
        }
        let levels = e.levels() as f32;
        let scale = (hi / levels - lo / levels).clamp(f32::MIN_POSITIVE, f32::MAX);
        let up = (-lo * (1.0 / scale)).round_ties_even() as i32;
        let zero = e.min() + up.clamp(0, e.levels() as i32);
        Linear::new(e, e.min(), scale, zero)
    }
}

/// The least and greatest of 0 and the finite values.
pub(crate) fn finite_range(row: &[f32]) -> (f32, f32) {
    let finite = row.iter().filter(|x| x.is_finite());
    finite.fold((0.0, 0.0), |(lo, hi), &x| {
        (if x < lo { x } else { lo }, if x > hi { x } else { hi })
    })
}

fn symmetric_encoding(bits: usize) -> Result<Encoding> {
    match bits {
        2..=8 => Ok(Encoding::Signed(Bits::new(bits)?)),
        _ => Err(Error::argument("bits", bits, "2 to 8")),
    }
}

fn affine_encoding(encoding: Encoding) -> Result<()> {
    match encoding {
        Encoding::Unsigned(_) | Encoding::Signed(_) => Ok(()),
        _ => Err(Error::argument(
            "encoding",
            encoding,
            "u1..u8 or s1..s8 for a linear quantizer",
        )),
    }
}

fn check_scale(scale: f32) -> Result<()> {
    if !(1e-30..=1e30).contains(&scale) {
        let expected = "a positive number from 1e-30 to 1e30";
        return Err(Error::argument("scale", scale, expected));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_with_ties_to_even_between_the_ends() {
        let q = Linear::symmetric(4, 0.5).unwrap();
        let integers = [0.0, -0.0, 0.25, 0.75, -0.25, -0.75, 0.3, 9.0, -9.0].map(|x| q.integer(x));
        assert_eq!(integers, [0, 0, 0, 2, 0, -2, 1, 7, -7]);
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45].map(|x| q.integer(x));
        assert_eq!(odd, [0, 7, -7, 0]);
        assert_eq!(q.code(-0.5), 0xF);
        let q = Linear::affine("u8".parse().unwrap(), 1.0, 3).unwrap();
        let integers = [0.0, -3.0, -4.0, 0.5, 1.5, 251.0, 252.0, 253.0, 3e38].map(|x| q.integer(x));
        assert_eq!(integers, [3, 0, 0, 3, 5, 254, 255, 255, 255]);
        assert_eq!(q.integer(f32::NAN), 3);
    }

    #[test]
    fn quantizing_a_level_gives_the_level() {
        for scale in [0.1, 0.3, 1.0 / 3.0, 0.651_1, 1e-30, 1e30, 7.7e-5, 1.222_1] {
            let symmetric = Linear::symmetric(8, scale).unwrap();
            let affine = Linear::affine("u8".parse().unwrap(), scale, 77).unwrap();
            for q in [symmetric, affine] {
                for k in q.low()..=q.high() {
                    assert_eq!(q.integer(q.value(k)), k, "{q:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_has_a_finite_scale_whatever_is_in_it() {
        let odd: [&[f32]; 8] = [
            &[],
            &[0.0, -0.0],
            &[1e-45, -1e-40],
            &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY],
            &[f32::MAX, f32::MIN],
            &[-3.0, f32::INFINITY, 5.0, f32::NAN],
            &[f32::MAX],
            &[-7.0, -9.0],
        ];
        for bits in 2..=8 {
            let affine = |e: Result<Encoding>| RowQuantizer::affine(e.unwrap()).unwrap();
            for q in [
                RowQuantizer::symmetric(bits).unwrap(),
                affine(Encoding::unsigned(bits)),
                affine(Encoding::signed(bits)),
            ] {
                for row in odd {
                    let l = q.of(row);
                    assert!(l.scale() >= f32::MIN_POSITIVE && l.scale() <= f32::MAX);
                    assert!(l.inverse() > 0.0 && l.inverse().is_finite());
                    assert!(l.zero() >= l.low() && l.zero() <= l.high());
                    assert_eq!(l.integer(0.0), l.zero());
                    assert_eq!(l.integer(f32::NAN), l.zero());
                    assert_eq!(l.integer(f32::INFINITY), l.high());
                    assert_eq!(l.integer(f32::NEG_INFINITY), l.low());
                    if q.is_symmetric() {
                        assert!(l.value(l.high()).is_finite());
                        for k in l.low()..=l.high() {
                            assert_eq!(l.integer(l.value(k)), k, "{row:?} {l:?}");
                        }
                    }
                }
            }
        }
        let l = RowQuantizer::symmetric(8).unwrap().of(&[-2.0, 12.7, 0.1]);
        assert_eq!(
            (l.scale(), l.integer(12.7), l.integer(-2.0)),
            (12.7 / 127.0, 127, -20)
        );
        let u8s = RowQuantizer::affine("u8".parse().unwrap()).unwrap();
        let l = u8s.of(&[-2.0, 0.55]);
        assert_eq!((l.zero(), l.integer(-2.0), l.integer(0.55)), (200, 0, 255));
    }

    #[test]
    fn what_no_linear_quantizer_has_is_refused() {
        let said = |e: Error| e.to_string();
        assert_eq!(
            said(Linear::symmetric(1, 1.0).unwrap_err()),
            "bits is 1; expected 2 to 8"
        );
        assert!(said(Linear::symmetric(8, 0.0).unwrap_err()).starts_with("scale is 0"));
        let u4 = Encoding::unsigned(4).unwrap();
        assert_eq!(
            said(Linear::affine(u4, 1.0, 16).unwrap_err()),
            "zero is 16; expected an integer of u4"
        );
        assert!(RowQuantizer::affine(Encoding::Bipolar).is_err());
        assert!(RowQuantizer::symmetric(9).is_err());
    }
}
