//! The packed net: a graph of operations over typed values, its file, and how it runs.
//!
//! A [`Model`] is what [`ModelBuilder`] builds, what training freezes into and what inference loads. Between its
//! nodes there may be nothing but packed codes; floats are there where a node makes them. It is immutable: share it
//! between threads, one [`Workspace`] each.
//!
//! Start reading at [`ModelBuilder`]: its methods are the operations. `node` holds their definitions, `step` checks them
//! and makes their plans, `memory` decides where values lie, `run` and `execute` run them, and `file` is the page by
//! which another program can write a model.

mod builder;
pub(crate) mod container;
mod describe;
mod execute;
mod file;
mod fusion;
mod memory;
#[cfg(test)]
mod naive;
mod net;
mod node;
mod predict;
mod report;
mod run;
#[cfg(test)]
mod sample;
mod step;
#[cfg(test)]
mod tests;
mod value;
mod whole;
mod workspace;

pub use builder::ModelBuilder;
pub use describe::NodeInfo;
pub(crate) use net::MAX_OUTPUTS;
pub use net::Model;
pub use node::{Conv, FloatConv, Linear, Window};
pub use report::{NodeReport, Report};
pub use value::{Kind, Scaled, Value, ValueType};
pub use whole::write_whole;
pub use workspace::{Images, Mode, Planned, Workspace};
