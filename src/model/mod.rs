//! The packed net: a list of layers over packed weights, its file, and how it runs.
//!
//! A [`Model`] is what training freezes into and what inference loads. Between its layers there are only
//! packed codes; the floats come out at the end. It is immutable: share it between threads, one
//! [`Workspace`] each.

pub(crate) mod container;
mod describe;
mod file;
mod net;
#[cfg(test)]
mod sample;

pub use container::write_whole;
pub use describe::LayerInfo;
pub use net::{Input, Layer, Model, Then, Workspace};
