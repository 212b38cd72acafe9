//! Training: the data it sees, the rules by which weights move, and the loop.
//!
//! A [`Recipe`](recipe::Recipe) says all; a [`Trainer`](trainer::Trainer) follows it.

pub mod data;
pub mod recipe;
pub mod rule;
pub mod schedule;
pub mod sgd;
pub mod trainer;
