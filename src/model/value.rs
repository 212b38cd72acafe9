//! The values that flow from node to node, and their types.

use std::fmt;

use crate::bits::Encoding;
use crate::error::{Error, Result};
use crate::shape::{elements, words};

/// The result of a node, or the image: what [`ModelBuilder`](super::ModelBuilder) hands out and takes back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Value(pub(super) usize);

impl Value {
    /// Its number: 0 is the image, and each node has the next one.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A value as the second summand of an element, and the float that its integer 1 stands for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scaled {
    /// The summand: floats, or codes that are not ternary.
    pub value: Value,
    /// Floats are taken as they are, with a scale of 1; a code is its integer times the scale.
    pub scale: f32,
}

impl From<Value> for Scaled {
    fn from(value: Value) -> Self {
        Scaled { value, scale: 1.0 }
    }
}

/// What a value's elements are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Codes in bit planes: a row of the [packed form](crate::bits) a pixel.
    Planes(Encoding),
    /// Codes a byte each: unsigned ones as `u8`, signed ones as two's complement.
    Bytes(Encoding),
    /// Floats.
    F32,
    /// Floats of 16 bits: a sign, 5 bits of exponent, 10 of fraction.
    F16,
    /// Upper halves of floats.
    Bf16,
    /// The sums of a layer as they are. No node reads them: they are for the outside.
    I32,
}

impl Kind {
    /// The encoding, if the elements are codes.
    pub fn encoding(self) -> Option<Encoding> {
        match self {
            Kind::Planes(e) | Kind::Bytes(e) => Some(e),
            Kind::F32 | Kind::F16 | Kind::Bf16 | Kind::I32 => None,
        }
    }

    /// Whether the elements are floats, of 32 or 16 bits.
    pub fn is_float(self) -> bool {
        matches!(self, Kind::F32 | Kind::F16 | Kind::Bf16)
    }

    /// Bytes of an element as it lies in memory: of codes in planes those of a word.
    pub fn element_bytes(self) -> usize {
        match self {
            Kind::Bytes(_) => 1,
            Kind::F16 | Kind::Bf16 => 2,
            Kind::Planes(_) | Kind::F32 | Kind::I32 => 4,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Planes(e) => e.fmt(f),
            Kind::Bytes(e) => write!(f, "{e} bytes"),
            Kind::F32 => f.write_str("f32"),
            Kind::F16 => f.write_str("f16"),
            Kind::Bf16 => f.write_str("bf16"),
            Kind::I32 => f.write_str("i32"),
        }
    }
}

/// The type of a value: the shape of an image, and what its elements are. Images are NHWC, as many as a run has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ValueType {
    /// Rows of an image, H.
    pub height: usize,
    /// Columns of an image, W.
    pub width: usize,
    /// Channels of a pixel, C.
    pub channels: usize,
    /// What the elements are.
    pub kind: Kind,
}

impl ValueType {
    /// Images of unsigned codes of `bits` bits, a byte each, as pixels come. Errors unless 1 <= `bits` <= 8.
    pub fn image(height: usize, width: usize, channels: usize, bits: usize) -> Result<Self> {
        let kind = Kind::Bytes(Encoding::unsigned(bits)?);
        Ok(ValueType {
            height,
            width,
            channels,
            kind,
        })
    }

    /// Images of floats.
    pub const fn floats(height: usize, width: usize, channels: usize) -> Self {
        ValueType {
            height,
            width,
            channels,
            kind: Kind::F32,
        }
    }

    /// Pixels of an image, H x W.
    pub fn pixels(&self) -> usize {
        self.height.saturating_mul(self.width)
    }

    /// Elements of an image, H x W x C.
    pub fn len(&self) -> usize {
        self.pixels().saturating_mul(self.channels)
    }

    /// Whether an image has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of an image as they lie in memory: [`ValueType::len`], or for planes words, H x W x planes x ceil(C /
    /// 32).
    pub fn stored_len(&self) -> usize {
        match self.kind {
            Kind::Planes(e) => self
                .pixels()
                .saturating_mul(e.planes() * words(self.channels)),
            _ => self.len(),
        }
    }

    /// 32-bit words that hold `images` images, one behind the other.
    pub(super) fn words(&self, images: usize) -> usize {
        let elements = self.stored_len().saturating_mul(images);
        elements.div_ceil(4 / self.kind.element_bytes())
    }

    /// The same image of other elements.
    pub(super) fn with(self, kind: Kind) -> Self {
        ValueType { kind, ..self }
    }

    /// Errors if a size is 0, or so large that an image leaves the address space.
    pub(super) fn check(&self) -> Result<()> {
        let sizes = [
            ("height", self.height),
            ("width", self.width),
            ("channels", self.channels),
        ];
        for (name, size) in sizes {
            if !(1..=LIMIT).contains(&size) {
                return Err(Error::argument(name, size, "1 to 2^20"));
            }
        }
        let planes = self.kind.encoding().map_or(1, Encoding::planes);
        elements("size", &[self.height, self.width, self.channels, planes])?;
        Ok(())
    }
}

/// No size of a value may exceed this, as none of a [`Geometry`](crate::ops::Geometry) may.
const LIMIT: usize = 1 << 20;

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h, w, c] = [self.height, self.width, self.channels];
        write!(f, "{h} x {w} x {c} {}", self.kind)
    }
}
