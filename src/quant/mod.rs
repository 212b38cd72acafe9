//! Float to code and back: the one text of the rounding rules.
//!
//! Training, the SIMD packers, files and the C functions all follow the plain Rust in this room; the
//! kernels are tested against it bit for bit. The page [`numerics`](crate::numerics) says the same in
//! words.

mod activation;
mod scales;
mod weight;

pub use activation::{ActQuantizer, QuantRelu, Rounding};
pub use scales::{Granularity, ScaleValues, Scales};
pub use weight::binary_mean;

use half::slice::HalfFloatSliceExt;

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
    fn scale_values(values: Vec<Self>) -> ScaleValues {
        ScaleValues::Bf16(values)
    }
}
