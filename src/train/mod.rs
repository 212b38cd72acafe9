//! Training: the data it sees, the rules by which weights move, and the loop.
//!
//! A [`Recipe`] says all; a [`Trainer`] follows it.

mod checkpoint;
pub mod data;
pub mod recipe;
pub mod rule;
pub mod schedule;
pub mod sgd;
pub mod step;
pub mod trainer;

pub use data::Dataset;
pub use recipe::Recipe;
pub use trainer::{Callback, EpochReport, StepReport, Trainer};
