//! Training: the data it sees, the rules by which weights move, and the loop.
//!
//! A [`Recipe`] says all; a [`Trainer`] follows it.

mod backtrack;
mod checkpoint;
pub mod data;
pub mod diagnostics;
pub mod recipe;
pub mod rule;
pub mod schedule;
pub mod sgd;
pub mod step;
pub mod trainer;
pub mod update;
mod visits;
mod written;

pub use data::Dataset;
pub use diagnostics::{LayerReport, NetReport};
pub use recipe::Recipe;
pub use trainer::{Callback, EpochReport, StepReport, Trainer};
