//! The packed net: a list of layers over packed weights, its file, and how it runs.
//!
//! A [`Model`] is what training freezes into and what inference loads. Between its layers there are only
//! packed codes; the floats come out at the end. It is immutable: share it between threads, one
//! [`Workspace`] each.

mod builder;
pub(crate) mod container;
mod describe;
mod execute;
mod file;
mod memory;
#[cfg(test)]
mod naive;
mod net;
mod node;
mod run;
#[cfg(test)]
mod sample;
mod step;
#[cfg(test)]
mod tests;
mod value;
mod workspace;

pub use builder::ModelBuilder;
pub use container::write_whole;
pub use describe::NodeInfo;
pub use net::Model;
pub use node::{Conv, FloatConv, Linear, Window};
pub use value::{Kind, Scaled, Value, ValueType};
pub use workspace::{Images, Mode, Workspace};
