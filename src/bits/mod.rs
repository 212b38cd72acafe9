//! What a bit means: encodings of small integers, and the canonical packed form that files hold.
//!
//! An [`Encoding`] says which integers a code stands for and how many bit planes it takes. A
//! [`PackedMatrix`] holds a matrix of such codes as bit planes. Nothing here depends on the ISA, and
//! nothing here is fast: the kernels pack, the operations prepack; this is the meaning of both.

mod bytes;
mod encoding;
mod packed;

pub use bytes::ByteRef;
pub use encoding::{Bits, Encoding};
pub use packed::{PackedMatrix, PackedMut, PackedRef};
