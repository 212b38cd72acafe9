//! Training: the data it sees.

pub mod data;
