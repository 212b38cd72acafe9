//! qcore: low-bit neural networks on ordinary CPUs.

pub mod bits;
pub mod error;
pub mod isa;
pub mod kernels;
pub mod ops;
pub mod quant;
pub(crate) mod shape;

/// Numerics.
pub mod numerics {}

pub use error::{Error, Result};
