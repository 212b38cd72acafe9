//! The packed net: a list of layers over packed weights, its file, and how it runs.
//!
//! A [`Model`] is what training freezes into and what inference loads. Between its layers there are only
//! packed codes; the floats come out at the end. It is immutable: share it between threads, one
//! [`Workspace`] each.

mod builder;
pub(crate) mod container;
mod describe;
mod file;
mod net;
mod node;
#[cfg(test)]
mod sample;
mod step;
mod value;

pub use builder::ModelBuilder;
pub use container::write_whole;
pub use describe::LayerInfo;
pub use net::{Input, Layer, Model, Then, Workspace};
pub use node::{Conv, FloatConv, Linear, Window};
pub use value::{Kind, Scaled, Value, ValueType};
