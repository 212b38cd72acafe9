//! Layers with gradients: forward and backward side by side, and the random numbers they draw.
//!
//! Conventions of this room:
//!
//! * M images in a batch, N outputs, K inputs of a layer; all matrices row-major, shapes in comments.
//! * The gradient of the loss by `x` is called `d_x`. The loss is a mean over the batch.
//! * There is no tape. A coarse gradient is not a derivative, so each layer states what it passes back.
//! * `w_f` are the latent (float) weights, `w` what the forward pass sees: their projection.
//! * Results do not depend on the number of threads: where a sum is cut, the shape alone decides.

pub mod activation;
pub mod batch_norm;
mod columns;
pub mod conv;
pub mod design;
pub mod dropout;
pub mod elementary;
mod evaluate;
mod freeze;
pub mod layers;
pub mod linear;
pub mod loss;
pub mod net;
mod packed;
mod patches;
pub mod pool;
pub mod projected;
#[cfg(test)]
mod quotient;
pub mod residual;
pub mod rng;
pub mod rprelu;
pub mod rsign;
pub mod sgemm;
mod share;
pub mod signal;
mod smooth;
pub mod ste;
pub mod weight;

pub use freeze::freeze;
pub use net::Net;
