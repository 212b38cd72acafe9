//! Low-bit neural networks on ordinary CPUs: bit-packed kernels for AVX2, AVX-512 and NEON with a C ABI, and
//! coarse-gradient training whose forward pass runs on the same kernels.
//!
//! # The rooms
//!
//! ```text
//!  error, shape
//!      |
//!  bits -> quant -> isa -> kernels -> ops -> model -> nn -> train -> lab -> ffi, bin
//!  what a  floats   how a  one tile,  whole  packed   with  how to   small  the outer
//!  bit     to codes CPU    for every  opera- nets and grads improve  truths doors
//!  means            counts ISA        tions  files
//! ```
//!
//! A room imports rooms to its left, never to its right; a test holds it to that. Where to start:
//!
//! * to multiply: [`bits::PackedMatrix`], then [`ops::Gemm`];
//! * to convolve: [`ops::Geometry`], then [`ops::Conv2d`];
//! * to build a whole net that stays packed: [`model::ModelBuilder`]; to run one: [`model::Model`];
//! * to train one: `train::Trainer`; with a loop of your own: `train::step`, `nn::weight`, `nn::ste`;
//! * to see the theory hold: `lab`;
//! * to know what a rounding or a NaN does: [`numerics`];
//! * to add an ISA: [`kernels`].
//!
//! # A product
//!
//! ```
//! use qcore::bits::{Encoding, PackedMatrix};
//! use qcore::ops::{Epilogue, Gemm, Par};
//!
//! # fn main() -> qcore::Result<()> {
//! // Two output channels, three inputs; one row of 2-bit activations.
//! let weights = PackedMatrix::pack(Encoding::Bipolar, 2, 3, &[1, -1, 1, -1, -1, 1])?;
//! let u2 = Encoding::unsigned(2)?;
//! let activations = PackedMatrix::pack(u2, 1, 3, &[3, 0, 2])?;
//!
//! let gemm = Gemm::new(weights.view(), u2, Epilogue::None)?;
//! let mut scratch = vec![0; gemm.scratch_len(1)];
//! let mut sums = [0; 2];
//! gemm.run_i32(activations.view(), 0..1, &mut sums, &mut scratch, Par::Caller)?;
//! assert_eq!(sums, [5, -1]);
//! # Ok(())
//! # }
//! ```

#[cfg(not(target_endian = "little"))]
compile_error!("qcore packs 32-bit words as they lie in memory and needs a little-endian target");

pub mod bits;
pub mod error;
pub mod ffi;
pub mod isa;
pub mod kernels;
#[cfg(feature = "train")]
pub mod lab;
pub mod model;
#[cfg(feature = "train")]
pub mod nn;
pub mod numerics;
pub mod ops;
pub mod quant;
pub(crate) mod shape;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, Result};

/// The README's example, as a test.
#[cfg(all(doctest, feature = "datasets"))]
#[doc = include_str!("../README.md")]
struct Readme;
