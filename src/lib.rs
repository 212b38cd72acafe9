//! qcore: low-bit neural networks on ordinary CPUs.

pub mod bits;
pub mod error;
pub mod isa;
pub mod kernels;
#[cfg(feature = "train")]
pub mod nn;
pub mod ops;
pub mod quant;
pub(crate) mod shape;
#[cfg(feature = "train")]
pub mod train;

/// Numerics.
pub mod numerics {}

pub use error::{Error, Result};
