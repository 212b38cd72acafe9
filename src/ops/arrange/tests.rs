//! Concatenation, flattening and up-sampling against their definitions.
