//! Layers with gradients: forward and backward side by side, and the random numbers they draw.

pub mod rng;
