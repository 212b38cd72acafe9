//! Whole operations: shapes checked, weights prepacked, work cut into tiles and given to threads.
//!
//! A plan ([`Gemm`], [`Conv2d`], [`Thresholds`]) is built once and is immutable: share it between threads. Running it
//! allocates nothing.

mod conv;
mod gemm;
mod par;
mod quantize;
mod requantize;

pub use conv::{Conv2d, Geometry, Output, Pad, Padding};
pub use gemm::{Activations, Epilogue, Gemm};
pub use par::{Par, Pool};
pub use quantize::{pack_codes, quantize};
pub use requantize::Thresholds;
