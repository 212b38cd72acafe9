//! Weights laid out for the byte GEMM of an ISA, and what is added around the products.
//!
//! ```text
//!   panel n / NR:   words[k / 4][group][lane]      byte k % 4 of a word: 8 / bits fields, one a vector of channels
//! ```
//!
//! Channel c of a panel is in vector v = c / LANES, lane c % LANES; vector v is field v % (8 / bits) of group
//! v / (8 / bits). Fields behind N or K are zero, and so are the bytes of activations behind K.

use std::ops::Range;

use super::Out;
use super::bounds::Sequence;
use super::bytegemm;
use super::panels::{Lines, Strip};
use crate::bits::{Encoding, PackedRef};
use crate::error::Result;
use crate::shape::elements;

/// A byte GEMM kernel: its tile is `mr` rows by `vectors` vectors of `lanes` channels.
#[derive(Clone, Copy)]
pub(crate) struct ByteKernel {
    pub(crate) name: &'static str,
    pub(crate) mr: usize,
    pub(crate) lanes: usize,
    pub(crate) vectors: usize,
    /// Whether it multiplies bytes that are both signed or both unsigned, not one of each.
    pub(crate) alike: bool,
    /// Bit-serial passes up to which those are faster.
    pub(crate) worth_passes: usize,
    pub(super) run: unsafe fn(&bytegemm::ByteTask),
}

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
    /// Lays out `weights` for activations of 8-bit codes, `signed` or not, as `kernel` wants them.
    pub(crate) fn new(weights: PackedRef<'_>, signed: bool, kernel: &ByteKernel) -> Result<Self> {
        let shape = [kernel.lanes, kernel.vectors];
        Self::laid(weights, signed, shape, kernel.alike)
    }

    /// As [`ByteWeights::new`], for panels of so many lanes and vectors, and bytes that are `alike` or not.
    pub(super) fn laid(
        weights: PackedRef<'_>,
        signed: bool,
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
        let words = lines.words_mut();
        for row in 0..n {
            let (panel, vector, lane) = (row / nr, row % nr / lanes, row % lanes);
            let (group, shift) = (vector / fields, vector % fields * bits);
            for (column, value) in weights
                .slice_rows(row..row + 1)
                .unpack()
                .into_iter()
                .enumerate()
            {
                let byte = ((value - base) as u8 as u32) << shift;
                let at = panel * panel_words + (column / 4 * groups + group) * lanes + lane;
                words[at] |= byte << (8 * (column % 4));
            }
        }
        Ok(ByteWeights {
            lines,
            bits,
            signed,
            start: vec![0; n.next_multiple_of(nr)],
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

impl ByteKernel {
    /// Panels of `weights` from `panel` on times rows of bytes, `stride` apart, into `out` (`[rows, channels]`): as
    /// many as `out` has channels for.
    ///
    /// `row_sums` holds base times the sum of each row if the weights have a base, and is empty if not.
    /// Panics on lengths that do not fit together.
    pub(crate) fn run(
        &self,
        weights: &ByteWeights,
        panel: usize,
        activations: &[u8],
        stride: usize,
        row_sums: &[i32],
        out: Out<'_>,
    ) {
        let rows = out.rows();
        let nr = self.lanes * self.vectors;
        assert_eq!(weights.nr(), nr, "weights laid out for this kernel");
        assert_eq!(row_sums.len(), if weights.base() == 0 { 0 } else { rows });
        let (lanes, sink) = out.sink(rows, nr);
        if rows == 0 || lanes == 0 {
            return;
        }
        let row_bytes = weights.row_bytes();
        assert!(stride >= row_bytes && activations.len() >= (rows - 1) * stride + row_bytes);
        let there = panel..panel + lanes.div_ceil(nr);
        let start = &weights.start[there.start * nr..there.end * nr];
        let task = bytegemm::ByteTask {
            strip: Strip {
                weights: weights.panels(there).as_ptr(),
                panel_words: weights.panel_words(),
                start: start.as_ptr(),
                lanes,
                sink,
            },
            bits: weights.bits,
            activations: activations.as_ptr(),
            stride,
            words: row_bytes / 4,
            rows,
            signed: weights.signed(),
            row_sums: if row_sums.is_empty() {
                std::ptr::null()
            } else {
                row_sums.as_ptr()
            },
        };
        // SAFETY: a ByteKernel is had only from a row of the table, whose features `Kernels::of` and
        // `available` have checked. Panel, start and rows have the lengths checked above or fixed by the
        // layout, and `out` is an exclusive view of rows x lanes.
        unsafe { (self.run)(&task) }
    }
}
