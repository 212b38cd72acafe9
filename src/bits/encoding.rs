//! Which integers a code stands for. A new width or encoding is a row of the tables in this file.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A bit width, 1 to 8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Bits(u8);

impl Bits {
    /// The width `bits`, or an error unless 1 <= `bits` <= 8.
    pub fn new(bits: usize) -> Result<Self> {
        match bits {
            1..=8 => Ok(Bits(bits as u8)),
            _ => Err(Error::argument("bits", bits, "1 to 8")),
        }
    }

    /// The width as a number, 1 to 8.
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// The largest unsigned code, 2^bits - 1: `q` in the papers.
    pub const fn max_code(self) -> usize {
        (1 << self.0) - 1
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a code of a few bits stands for an integer.
///
/// | encoding | name | integers | planes, lowest first |
/// |---|---|---|---|
/// | bipolar | `bipolar` | -1, +1 | 1: bit 1 is +1, bit 0 is -1 |
/// | ternary | `ternary` | -1, 0, +1 | 2: sign (1 is +1), nonzero; the sign of zero is 0 |
/// | unsigned | `u1` .. `u8` | 0 .. 2^b - 1 | b: plane i weighs 2^i |
/// | signed | `s1` .. `s8` | -2^(b-1) .. 2^(b-1) - 1 | b: two's complement, the top plane weighs -2^(b-1) |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Encoding {
    /// {-1, +1}.
    Bipolar,
    /// {-1, 0, +1}.
    Ternary,
    /// {0, .., 2^b - 1}.
    Unsigned(Bits),
    /// {-2^(b-1), .., 2^(b-1) - 1}.
    Signed(Bits),
}

impl Encoding {
    /// Unsigned codes of `bits` bits; errors unless 1 <= `bits` <= 8.
    pub fn unsigned(bits: usize) -> Result<Self> {
        Bits::new(bits).map(Encoding::Unsigned)
    }

    /// Two's complement codes of `bits` bits; errors unless 1 <= `bits` <= 8.
    pub fn signed(bits: usize) -> Result<Self> {
        Bits::new(bits).map(Encoding::Signed)
    }

    /// How many bit planes a code takes.
    pub const fn planes(self) -> usize {
        match self {
            Encoding::Bipolar => 1,
            Encoding::Ternary => 2,
            Encoding::Unsigned(b) | Encoding::Signed(b) => b.get(),
        }
    }

    /// What is added to the planes: an integer is `offset + sum over planes of weight x bit`.
    pub const fn offset(self) -> i32 {
        match self {
            Encoding::Bipolar => -1,
            _ => 0,
        }
    }

    /// The weight of plane `plane`: plus or minus a power of two.
    pub const fn plane_weight(self, plane: usize) -> i32 {
        match self {
            Encoding::Bipolar => 2,
            // The sign counts twice where it is +1, and every nonzero counts -1.
            Encoding::Ternary => 2 - 3 * plane as i32,
            Encoding::Unsigned(_) => 1 << plane,
            Encoding::Signed(b) if plane + 1 == b.get() => -(1 << plane),
            Encoding::Signed(_) => 1 << plane,
        }
    }

    /// The smallest integer.
    pub const fn min(self) -> i32 {
        match self {
            Encoding::Bipolar | Encoding::Ternary => -1,
            Encoding::Unsigned(_) => 0,
            Encoding::Signed(b) => -(1 << (b.get() - 1)),
        }
    }

    /// The largest integer.
    pub const fn max(self) -> i32 {
        match self {
            Encoding::Bipolar | Encoding::Ternary => 1,
            Encoding::Unsigned(b) => b.max_code() as i32,
            Encoding::Signed(b) => (1 << (b.get() - 1)) - 1,
        }
    }

    /// The largest magnitude of an integer, the factor in the accumulator's bound.
    pub const fn magnitude(self) -> u32 {
        let (low, high) = (self.min().unsigned_abs(), self.max().unsigned_abs());
        if low > high { low } else { high }
    }

    /// Levels above the lowest, for the encodings whose codes rise with the integer: q in the papers.
    pub(crate) const fn levels(self) -> usize {
        (1 << self.planes()) - 1
    }

    /// The code (bit i is the bit in plane i) of an integer, or `None` if the encoding lacks it.
    pub const fn encode(self, value: i32) -> Option<u8> {
        if value < self.min() || value > self.max() {
            return None;
        }
        match self {
            Encoding::Bipolar => match value {
                1 => Some(1),
                -1 => Some(0),
                _ => None,
            },
            Encoding::Ternary => match value {
                1 => Some(0b11),
                0 => Some(0b00),
                _ => Some(0b10),
            },
            Encoding::Unsigned(_) => Some(value as u8),
            Encoding::Signed(b) => Some(value as u8 & b.max_code() as u8),
        }
    }

    /// The integer of a code, or `None` if no integer has it (ternary 0b01, or a bit above the planes).
    pub const fn decode(self, code: u8) -> Option<i32> {
        if (code as usize) >> self.planes() != 0 {
            return None;
        }
        match self {
            Encoding::Bipolar => Some(2 * code as i32 - 1),
            Encoding::Ternary => match code {
                0b00 => Some(0),
                0b10 => Some(-1),
                0b11 => Some(1),
                _ => None,
            },
            Encoding::Unsigned(_) => Some(code as i32),
            Encoding::Signed(b) => {
                let unused = 32 - b.get();
                Some(((code as i32) << unused) >> unused)
            }
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encoding::Bipolar => f.write_str("bipolar"),
            Encoding::Ternary => f.write_str("ternary"),
            Encoding::Unsigned(b) => write!(f, "u{b}"),
            Encoding::Signed(b) => write!(f, "s{b}"),
        }
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let unknown = || Error::argument("encoding", name, "bipolar, ternary, u1..u8 or s1..s8");
        let bits = |digits: &str| match digits.as_bytes() {
            [digit @ b'1'..=b'8'] => Ok(Bits(digit - b'0')),
            _ => Err(unknown()),
        };
        match name {
            "bipolar" => Ok(Encoding::Bipolar),
            "ternary" => Ok(Encoding::Ternary),
            // Another usual name; it is written as s8.
            "i8" => Ok(Encoding::Signed(Bits(8))),
            _ => match name.split_at_checked(1) {
                Some(("u", digits)) => bits(digits).map(Encoding::Unsigned),
                Some(("s", digits)) => bits(digits).map(Encoding::Signed),
                _ => Err(unknown()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Encoding> {
        let mut all = vec![Encoding::Bipolar, Encoding::Ternary];
        all.extend((1..=8).map(|b| Encoding::unsigned(b).unwrap()));
        all.extend((1..=8).map(|b| Encoding::signed(b).unwrap()));
        all
    }

    #[test]
    fn every_integer_survives_its_code_and_every_other_is_refused() {
        for e in all() {
            let mut seen = 0;
            for v in -300..300 {
                if let Some(code) = e.encode(v) {
                    assert_eq!(e.decode(code), Some(v), "{e} {v}");
                    let bits =
                        (0..e.planes()).map(|p| e.plane_weight(p) * i32::from(code >> p & 1));
                    assert_eq!(e.offset() + bits.sum::<i32>(), v, "{e} {v}");
                    assert!(v >= e.min() && v <= e.max() && v.unsigned_abs() <= e.magnitude());
                    seen += 1;
                }
            }
            let codes = (0..=255u8).filter(|&c| e.decode(c).is_some()).count();
            assert_eq!(seen, codes, "{e}");
        }
        assert_eq!(Encoding::Bipolar.encode(0), None);
        assert_eq!(Encoding::Ternary.decode(0b01), None);
        assert_eq!(Encoding::signed(8).unwrap().decode(0x80), Some(-128));
    }

    #[test]
    fn names_read_back() {
        for e in all() {
            assert_eq!(e.to_string().parse::<Encoding>().unwrap(), e);
        }
        assert_eq!(
            "i8".parse::<Encoding>().unwrap(),
            Encoding::signed(8).unwrap()
        );
        for bad in ["", "u", "u0", "u9", "s10", "x1", "Bipolar", "é1"] {
            let said = bad.parse::<Encoding>().unwrap_err().to_string();
            assert!(said.contains("u1..u8"), "{said}");
        }
    }

    #[test]
    fn widths_out_of_range_are_refused_by_value() {
        for bits in [0, 9, usize::MAX] {
            let said = Bits::new(bits).unwrap_err().to_string();
            assert_eq!(said, format!("bits is {bits}; expected 1 to 8"));
        }
    }
}
