//! Training: the data it sees, the rules by which weights move, and the loop.
//!
//! A [`Recipe`] says all; a [`Run`] follows it, a [`Trainer`] on a data set.

mod backtrack;
mod checkpoint;
pub mod code_means;
pub mod data;
pub mod diagnostics;
mod oscillation;
pub mod recipe;
pub mod rule;
pub mod run;
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
pub use run::Run;
pub use trainer::{Callback, EpochReport, StepReport, Trainer};
