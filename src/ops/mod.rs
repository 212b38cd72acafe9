//! Whole operations: shapes checked, weights prepacked, work cut into tiles and given to threads.
//!
//! A plan ([`Gemm`], [`WeightOnlyGemm`], [`Thresholds`]) is built once and is immutable: share it between threads. Running it
//! allocates nothing.

mod gemm;
mod grid;
mod par;
mod quantize;
mod requantize;
mod weight_only;

pub use gemm::{Activations, Epilogue, Gemm};
pub use par::{Par, Pool};
pub use quantize::{pack_codes, quantize};
pub use requantize::Thresholds;
pub use weight_only::WeightOnlyGemm;
