//! Weights laid out for the byte GEMM of an ISA, and what is added around the products.
//!
//! ```text
//!   panel n / NR:   words[k / 4][group][lane]      byte k % 4 of a word: 8 / bits fields, one a vector of channels
//! ```
//!
//! Channel c of a panel is in vector v = c / LANES, lane c % LANES; vector v is field v % (8 / bits) of group
//! v / (8 / bits). Fields behind N or K are zero, and so are the bytes of activations behind K.

use std::ops::Range;

use super::ByteKernel;
use super::bounds::Sequence;
use super::panels::Lines;
use crate::bits::{Encoding, PackedRef};
use crate::error::Result;
use crate::shape::elements;

/// Weights of any encoding as fields of 2, 4 or 8 bits.
pub(crate) struct ByteWeights {
    lines: Lines,
    pub(super) bits: usize,
    /// Whether activations are signed bytes.
    signed: bool,
    pub(super) start: Vec<i32>,
    base: i32,
    nr: usize,
    panel_words: usize,
    steps: usize,
    n: usize,
}

/// Bits of a field, and what a field stands below its integer, where fields of 8 bits are `unsigned` bytes or
/// signed ones.
fn field(weight: Encoding, unsigned: bool) -> (usize, i32) {
    let bits = match weight.planes() {
        1 | 2 => 2,
        3 | 4 => 4,
        _ => 8,
    };
    let base = match (bits, unsigned) {
        (8, true) => weight.min(),
        (8, false) if weight.max() > 127 => 128,
        (8, false) => 0,
        // Few bits are never negative, so they are the same byte in both forms.
        _ => weight.min(),
    };
    (bits, base)
}

impl ByteWeights {
    /// Lays out `weights` for activations of 8-bit codes, `signed` or not, minus `zero_point`, as `kernel`
    /// wants them.
    pub(crate) fn new(
        weights: PackedRef<'_>,
        signed: bool,
        zero_point: i32,
        kernel: &ByteKernel,
    ) -> Result<Self> {
        let shape = [kernel.lanes, kernel.vectors];
        Self::laid(weights, signed, zero_point, shape, kernel.alike)
    }

    /// As [`ByteWeights::new`], for panels of so many lanes and vectors, and bytes that are `alike` or not.
    pub(super) fn laid(
        weights: PackedRef<'_>,
        signed: bool,
        zero_point: i32,
        [lanes, vectors]: [usize; 2],
        alike: bool,
    ) -> Result<Self> {
        let (n, k) = (weights.rows(), weights.cols());
        // The form that the activations leave: their own, or the other one.
        let (bits, base) = field(weights.encoding(), signed != alike);
        let (nr, fields, steps) = (lanes * vectors, 8 / bits, k.div_ceil(4));
        let groups = vectors / fields;
        let panel_words = elements("weights", &[steps, groups, lanes])?;
        let mut lines = Lines::new(elements("weights", &[n.div_ceil(nr), panel_words])?);
        let mut start = vec![0i32; n.next_multiple_of(nr)];
        let words = lines.words_mut();
        for (row, start) in start.iter_mut().enumerate().take(n) {
            let (panel, vector, lane) = (row / nr, row % nr / lanes, row % lanes);
            let (group, shift) = (vector / fields, vector % fields * bits);
            let mut sum = 0i32;
            for (column, value) in weights
                .slice_rows(row..row + 1)
                .unpack()
                .into_iter()
                .enumerate()
            {
                sum = sum.wrapping_add(value);
                let byte = ((value - base) as u8 as u32) << shift;
                let at = panel * panel_words + (column / 4 * groups + group) * lanes + lane;
                words[at] |= byte << (8 * (column % 4));
            }
            *start = sum.wrapping_mul(zero_point).wrapping_neg();
        }
        Ok(ByteWeights {
            lines,
            bits,
            signed,
            start,
            base,
            nr,
            panel_words,
            steps,
            n,
        })
    }

    /// What the lanes start from, `[N padded to NR]`.
    pub(crate) fn start_mut(&mut self) -> &mut [i32] {
        &mut self.start
    }

    /// What the sum of each row of activations is multiplied by before it is added; 0 if none is needed.
    pub(crate) fn base(&self) -> i32 {
        self.base
    }

    /// Whether activations are signed bytes.
    pub(crate) fn signed(&self) -> bool {
        self.signed
    }

    /// Number of panels.
    pub(crate) fn len(&self) -> usize {
        self.n.div_ceil(self.nr)
    }

    /// Channels in a panel.
    pub(crate) fn nr(&self) -> usize {
        self.nr
    }

    /// Bytes in a row of activations: K rounded up to four.
    pub(crate) fn row_bytes(&self) -> usize {
        4 * self.steps
    }

    /// Bits that a weight takes.
    pub(crate) fn field_bits(&self) -> usize {
        self.bits
    }

    /// What the kernel does between its loads.
    pub(crate) fn sequence(&self) -> Sequence {
        match self.bits {
            8 => Sequence::DotWide,
            _ => Sequence::Dot,
        }
    }

    /// Bytes that the panels take.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// The words of some panels, back to back.
    pub(super) fn panels(&self, which: Range<usize>) -> &[u32] {
        &self.lines.words()[which.start * self.panel_words..which.end * self.panel_words]
    }

    /// Words in a panel.
    pub(super) fn panel_words(&self) -> usize {
        self.panel_words
    }
}
