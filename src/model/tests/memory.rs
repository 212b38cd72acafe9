//! Memory of real models.
