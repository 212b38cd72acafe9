//! Work on each element against its definition.
