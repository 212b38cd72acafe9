//! Float to code and back: the one text of the rounding rules.
//!
//! Training, the SIMD packers, files and the C functions all follow the plain Rust in this room; the
//! kernels are tested against it bit for bit. The page [`numerics`](crate::numerics) says the same in
//! words.

mod activation;
mod linear;
mod scales;
mod weight;

pub use activation::{ActQuantizer, QuantRelu, Rounding};
pub(crate) use linear::finite_range;
pub use linear::{Linear, RowQuantizer};
pub use scales::{Granularity, ScaleValues, Scales};
pub use weight::binary_mean;

use half::slice::HalfFloatSliceExt;

use crate::bits::Encoding;

/// What turns floats into codes: anything that [`ops::quantize`](crate::ops::quantize) takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Quantizer {
    /// Sign or quantized ReLU.
    Act(ActQuantizer),
    /// Multiples of a scale.
    Linear(Linear),
}

impl Quantizer {
    /// The encoding of the codes.
    pub fn encoding(&self) -> Encoding {
        match self {
            Quantizer::Act(q) => q.encoding(),
            Quantizer::Linear(q) => q.encoding(),
        }
    }

    /// The code of `x`: bit i is the bit in plane i.
    pub fn code(&self, x: f32) -> u8 {
        match self {
            Quantizer::Act(q) => q.code(x),
            Quantizer::Linear(q) => q.code(x),
        }
    }
}

impl From<ActQuantizer> for Quantizer {
    fn from(q: ActQuantizer) -> Self {
        Quantizer::Act(q)
    }
}

impl From<&ActQuantizer> for Quantizer {
    fn from(q: &ActQuantizer) -> Self {
        Quantizer::Act(*q)
    }
}

impl From<QuantRelu> for Quantizer {
    fn from(q: QuantRelu) -> Self {
        Quantizer::Act(ActQuantizer::Relu(q))
    }
}

impl From<Linear> for Quantizer {
    fn from(q: Linear) -> Self {
        Quantizer::Linear(q)
    }
}

impl From<&Quantizer> for Quantizer {
    fn from(q: &Quantizer) -> Self {
        *q
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A float that can be quantized: `f32`, [`half::f16`] or [`half::bf16`].
pub trait Float: Copy + Send + Sync + sealed::Sealed + 'static {
    /// The value as f32, which holds every f16 and bf16 exactly.
    fn to_f32(self) -> f32;

    /// A slice of f32 as it stands, so that f32 input needs no conversion.
    fn as_f32s(values: &[Self]) -> Option<&[f32]>;

    /// Values as f32, into as many; panics on another length.
    fn widen(from: &[Self], to: &mut [f32]);

    /// The nearest values, ties to even, into as many; panics on another length.
    fn narrow(from: &[f32], to: &mut [Self]);

    /// Values as scales of weights.
    fn scale_values(values: Vec<Self>) -> ScaleValues;
}

impl Float for f32 {
    fn to_f32(self) -> f32 {
        self
    }
    fn as_f32s(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
    fn widen(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
    fn scale_values(values: Vec<Self>) -> ScaleValues {
        ScaleValues::F32(values)
    }
}

impl Float for half::f16 {
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
    fn as_f32s(_: &[Self]) -> Option<&[f32]> {
        None
    }
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
    fn scale_values(values: Vec<Self>) -> ScaleValues {
        ScaleValues::F16(values)
    }
}

impl Float for half::bf16 {
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
    fn as_f32s(_: &[Self]) -> Option<&[f32]> {
        None
    }
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
    fn scale_values(values: Vec<Self>) -> ScaleValues {
        ScaleValues::Bf16(values)
    }
}
