//! Whole operations: shapes checked, weights prepacked, work cut into tiles and given to threads.
//!
//! A plan ([`Gemm`], [`Conv2d`], [`WeightOnlyGemm`], [`Thresholds`]) is built once and is immutable: share it between
//! threads. Running it allocates nothing, but for the jobs of a [`Par::Pool`].
//!
//! What follows the sums of a layer is a [`Finish`]; [`Conv2d`] takes one, and [`Conv2d::linear`] makes a linear layer with
//! one.

mod arrange;
mod conv;
mod elementwise;
mod finish;
mod gemm;
mod grid;
mod par;
mod pool;
mod quantize;
mod requantize;
mod weight_only;

pub use arrange::{concat_part, flatten, up_sample};
pub use conv::{Conv2d, FloatConv2d, Geometry, Pad, Padding};
pub(crate) use elementwise::quantize_pixels;
pub use elementwise::{Elements, apply, dequantize};
pub use finish::{
    ActivationFn, Finish, OutRows, OutputKind, Residual, ResidualAt, fold_batch_norm,
};
pub use gemm::{Activations, Affine, Epilogue, Gemm, Methods, RowScales};
pub use par::{Par, Pool};
pub use pool::{AveragePool, MaxPool};
pub use quantize::{pack_codes, quantize, quantize_bytes, quantize_rows, quantize_rows_bytes};
pub use requantize::Thresholds;
pub use weight_only::WeightOnlyGemm;
