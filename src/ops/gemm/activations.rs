//! What a product reads: planes or bytes.

use std::ops::Range;

use super::rows::reach;
use crate::bits::{ByteRef, Encoding, PackedRef};

/// What a product reads: codes in bit planes or a byte each. A plan takes either and turns it into what its
/// kernel wants, in scratch.
#[derive(Clone, Copy, Debug)]
pub enum Activations<'a> {
    /// Bit planes, the canonical packed form.
    Planes(PackedRef<'a>),
    /// A byte each.
    Bytes(ByteRef<'a>),
}

impl<'a> From<PackedRef<'a>> for Activations<'a> {
    fn from(planes: PackedRef<'a>) -> Self {
        Activations::Planes(planes)
    }
}

impl<'a> From<ByteRef<'a>> for Activations<'a> {
    fn from(bytes: ByteRef<'a>) -> Self {
        Activations::Bytes(bytes)
    }
}

impl Activations<'_> {
    /// Some of the rows.
    pub(in crate::ops) fn slice_rows(&self, rows: Range<usize>) -> Self {
        match self {
            Activations::Planes(planes) => Activations::Planes(planes.slice_rows(rows)),
            Activations::Bytes(bytes) => Activations::Bytes(bytes.slice_rows(rows)),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shape().1
    }

    /// How codes stand for integers.
    pub fn encoding(&self) -> Encoding {
        self.shape().0
    }

    /// Encoding, rows and columns.
    pub(in crate::ops) fn shape(&self) -> (Encoding, usize, usize) {
        match self {
            Activations::Planes(a) => (a.encoding(), a.rows(), a.cols()),
            Activations::Bytes(a) => (a.encoding(), a.rows(), a.cols()),
        }
    }
}

/// Codes of an encoding whose integer `zero_point` stands for 0: each counts as its integer less that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affine {
    /// Of the codes.
    pub encoding: Encoding,
    /// 0, or an integer of the encoding.
    pub zero_point: i32,
}

impl From<Encoding> for Affine {
    fn from(encoding: Encoding) -> Self {
        Affine {
            encoding,
            zero_point: 0,
        }
    }
}

impl Affine {
    /// The largest |integer - zero point|.
    pub(in crate::ops) fn reach(self) -> usize {
        reach(self.encoding, self.zero_point)
    }
}
