//! Weights of one or two bits laid out as indices of tables, and the calls of the kernel that looks them up.
//!
//! ```text
//!   panel n / NR:   entry[block of K][bit][tap][k / (GROUP SHARE)][vector][lane]
//! ```
//!
//! The columns of a convolution are those of its taps, one tap behind the other; else there is one. Groups do not span taps.
//!
//! An index is the bits of GROUP columns, the first in bit 0; of two bits of a weight the upper one comes first. As many bits
//! as an entry of a table has, 8 or 16, hold one index or SHARE = 2 of half as many, that of the first columns below.
//!
//! Channel c of a vector of L entries is lane 2 c in its first half and 2 (c - L / 2) + 1 in its second: the even
//! ones and the odd ones, which the kernel widens apart. A panel has `vectors` vectors, the last one as many
//! as its channels need. Bits behind N or K are zero.
//!
//! The groups of a tap are cut into blocks of nearly equal length, the same for all taps; how long is the kernel's to say
//! (see `lutkernel`). The indices of a block of a panel are consecutive.

use std::ops::Range;

use super::Out;
use super::bounds::Sequence;
use super::lutgemm::{BLOCK_BYTES, QUAD};
use super::lutkernel::{LutKernel, apart, flush};
use super::luttask::{BuildTask, LutTask};
use super::panels::Lines;
use super::tablerows::TableRows;
use crate::bits::{Encoding, PackedRef};
use crate::error::Result;
use crate::shape::{elements, words};

/// Lookups a byte up to which widening is a good part of the work: those of activations of 3 and 4 bits.
const FEW_LOOKUPS: usize = 9;

/// Bipolar weights, or others of at most two bits less the smallest, as indices.
pub(crate) struct LutWeights {
    lines: Lines,
    start: Vec<i32>,
    n: usize,
    lanes: usize,
    nr: usize,
    /// Activations of a table.
    group: usize,
    /// Bytes of an entry of a table, and of the indices beside each other.
    entry: usize,
    taps: usize,
    /// Tables of a tap, a multiple of the indices beside each other.
    groups: usize,
    /// Tables of a tap in a block, a multiple of QUAD.
    block: usize,
    /// Bits of a weight.
    planes: usize,
    /// The largest entry of a table.
    most: usize,
    shift: u32,
    signed: bool,
    /// What is added to a byte to make its code.
    base: u8,
    row_factor: i32,
}

impl LutWeights {
    /// Lays out `weights` for `kernel` and activations of `activation`, a pair that is served.
    pub(crate) fn new(
        weights: PackedRef<'_>,
        activation: Encoding,
        kernel: &LutKernel,
    ) -> Result<Self> {
        Self::of_taps(weights, 1, activation, kernel)
    }

    /// The same for columns that are those of `taps` taps, which `kernel` serves.
    pub(crate) fn of_taps(
        weights: PackedRef<'_>,
        taps: usize,
        activation: Encoding,
        kernel: &LutKernel,
    ) -> Result<Self> {
        let (we, n, k) = (weights.encoding(), weights.rows(), weights.cols());
        assert!(kernel.serves(we, activation) && kernel.serves_taps(n, taps, activation));
        assert!(k.is_multiple_of(taps), "columns of whole taps");
        let (lanes, nr, group, share) = (kernel.lanes, kernel.nr(), kernel.group, kernel.share);
        let (tap, entry) = (k / taps, kernel.entry);
        let groups = tap.div_ceil(group).next_multiple_of(share);
        let planes = we.planes();
        let total = elements(
            "weights",
            &[
                n.div_ceil(lanes),
                lanes,
                planes,
                taps,
                groups / share,
                entry,
            ],
        )?;
        let apart = apart(activation);
        // A weight is an offset plus a factor times its code, whose bits are the planes.
        let (offset, factor) = match we {
            Encoding::Bipolar => (-1, 2),
            _ => (we.min(), 1),
        };
        let low = activation.min();
        let most = kernel.most(activation);
        let blocks = groups.div_ceil(kernel.longest(n, taps, most)).max(1);
        let mut laid = LutWeights {
            lines: Lines::new(total.div_ceil(4)),
            start: vec![0; n.next_multiple_of(nr)],
            n,
            lanes,
            nr,
            group,
            entry,
            taps,
            groups,
            block: groups.div_ceil(blocks).next_multiple_of(QUAD),
            planes,
            most,
            shift: (factor * apart).trailing_zeros(),
            signed: matches!(activation, Encoding::Signed(_)),
            base: match activation {
                Encoding::Signed(_) => -low as u8,
                _ => 0,
            },
            row_factor: offset * apart,
        };
        let w = words(k);
        let mut code = vec![0; planes * w];
        for channel in 0..n {
            let (panel, vector) = (channel / nr, channel % nr / lanes);
            let step = laid.vectors(panel) * lanes;
            // Indices beside each other, counted as one.
            let at = panel * nr * planes * taps * groups / share
                + vector * lanes
                + lane(channel % lanes, lanes);
            let beside = 8 * entry / share;
            let row = &weights.words()[channel * w * planes..(channel + 1) * w * planes];
            code_planes(we, k, row, &mut code);
            let mut sum = 0i32;
            for (plane, bits) in code.chunks_exact(w.max(1)).enumerate() {
                for (t, i) in (0..taps).flat_map(|t| (0..groups).map(move |i| (t, i))) {
                    let here = laid.groups(i / laid.block);
                    // Before it the blocks before its own, and in that the upper bits and the taps before.
                    let before =
                        planes * taps * here.start + ((planes - 1 - plane) * taps + t) * here.len();
                    let indices: &mut [u8] = bytemuck::cast_slice_mut(laid.lines.words_mut());
                    let bit = 8 * entry * (at + (before + i - here.start) / share * step)
                        + i % share * beside;
                    let columns = (t * tap + i * group)..(t + 1) * tap;
                    indices[bit / 8] |=
                        field(bits, columns.start, group.min(columns.len())) << (bit % 8);
                }
                let ones = bits.iter().fold(0, |ones, b| ones + b.count_ones() as i32);
                sum = sum.wrapping_add(ones << plane);
            }
            let offsets = (k as i32).wrapping_mul(offset * activation.offset());
            laid.start[channel] = sum.wrapping_mul(factor * low).wrapping_add(offsets);
        }
        Ok(laid)
    }

    /// What the lanes start from, `[N padded to NR]`.
    pub(crate) fn start_mut(&mut self) -> &mut [i32] {
        &mut self.start
    }

    /// Number of panels.
    pub(crate) fn len(&self) -> usize {
        self.n.div_ceil(self.nr)
    }

    /// Channels of a panel.
    pub(crate) fn nr(&self) -> usize {
        self.nr
    }

    /// Number of blocks of K; at least one, which may be empty.
    pub(crate) fn blocks(&self) -> usize {
        self.groups.div_ceil(self.block.max(1)).max(1)
    }

    /// Bytes in a row of activations of a tap: whole fours of groups.
    pub(crate) fn row_bytes(&self) -> usize {
        self.groups.next_multiple_of(QUAD) * self.group
    }

    /// Bytes of the tables of such a row in a block.
    pub(crate) fn table_bytes(&self) -> usize {
        (self.block << self.group) * self.entry
    }

    /// Whether activations are signed bytes.
    pub(crate) fn signed(&self) -> bool {
        self.signed
    }

    /// What the sum of each row of activations is multiplied by before it is added; 0 if none is needed.
    pub(crate) fn row_factor(&self) -> i32 {
        self.row_factor
    }

    /// Lookups that an entry can sum.
    pub(crate) fn flush(&self) -> usize {
        flush(self.entry, self.most)
    }

    /// Bits of an entry of a table.
    pub(crate) fn entry_bits(&self) -> usize {
        8 * self.entry
    }

    /// What the inner loop does between its loads.
    pub(crate) fn sequence(&self) -> Sequence {
        match (self.entry, self.flush() > FEW_LOOKUPS) {
            (2, _) => Sequence::LookUpWide,
            (_, true) => Sequence::LookUp,
            (_, false) => Sequence::LookUpWiden,
        }
    }

    /// How often the inner loop walks along K.
    pub(crate) fn passes(&self) -> usize {
        self.planes
    }

    /// Bytes that the panels take.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Vectors of panel `index`.
    fn vectors(&self, index: usize) -> usize {
        (self.n - index * self.nr).min(self.nr).div_ceil(self.lanes)
    }

    /// Groups of block `index`.
    fn groups(&self, index: usize) -> Range<usize> {
        (index * self.block).min(self.groups)..((index + 1) * self.block).min(self.groups)
    }
}

/// Where the kernel leaves channel `c` of a vector of `lanes` bytes (see above).
fn lane(c: usize, lanes: usize) -> usize {
    2 * (c % (lanes / 2)) + c / (lanes / 2)
}

/// The bits of the codes of a row of weights, the lower ones first: w = 2 W - 1 for bipolar weights, else w = W + min w.
fn code_planes(weight: Encoding, k: usize, row: &[u32], code: &mut [u32]) {
    code.copy_from_slice(row);
    let (w, tail) = (words(k), !0 >> (k.wrapping_neg() % 32));
    if w == 0 {
        return;
    }
    match weight {
        Encoding::Signed(_) => {
            let top = code.len() - w;
            code[top..].iter_mut().for_each(|word| *word ^= !0);
        }
        Encoding::Ternary => {
            // Of sign and nonzero: 2 for +1, 1 for 0.
            let (lower, upper) = code.split_at_mut(w);
            for (lower, upper) in lower.iter_mut().zip(upper) {
                (*lower, *upper) = (!*upper, *lower & *upper);
            }
        }
        _ => {}
    }
    for plane in code.chunks_exact_mut(w) {
        plane[w - 1] &= tail;
    }
}

/// `count` bits of `words` from bit `at` on, as many as there are.
fn field(words: &[u32], at: usize, count: usize) -> u8 {
    let word = |i: usize| u64::from(words.get(i).copied().unwrap_or(0));
    let both = word(at / 32) | word(at / 32 + 1) << 32;
    (both >> (at % 32) & ((1 << count) - 1)) as u8
}

impl LutKernel {
    /// The tables of block `block` for rows of bytes of a tap, `stride` apart, as many as `tables` holds in rows of
    /// [`LutWeights::table_bytes`]. Panics if there are fewer bytes.
    pub(crate) fn build(
        &self,
        weights: &LutWeights,
        block: usize,
        bytes: &[u8],
        stride: usize,
        tables: &mut [u8],
    ) {
        let (groups, table_stride) = (weights.groups(block), weights.table_bytes());
        if groups.is_empty() || tables.is_empty() {
            return;
        }
        assert_eq!((weights.lanes, weights.group), (self.lanes, self.group));
        let rows = tables.len() / table_stride;
        assert!(stride >= weights.row_bytes() && bytes.len() >= rows * stride);
        let task = BuildTask {
            codes: bytes[groups.start * self.group..].as_ptr(),
            stride,
            rows,
            base: weights.base,
            quads: groups.len().div_ceil(QUAD),
            tables: tables.as_mut_ptr(),
            table_stride,
        };
        assert_eq!(weights.entry, self.entry);
        // SAFETY: a LutKernel is had only from a row of the table of kernels, whose features `Kernels::of` and
        // `available` have checked. A block starts at a multiple of QUAD groups and has at most `block`
        // groups, a multiple of QUAD too: so its fours end inside a row of bytes and a row of tables.
        unsafe { (self.build)(&task) }
    }

    /// Block `block` of panel `panel` of `weights` times the rows of `tables`, into `out` (`[rows, channels]`).
    ///
    /// All blocks in order leave the product there; before the last `out` holds sums that mean nothing. `row_sums` holds
    /// the factor times the sum of each row, all taps of it, if the weights have a factor, and is empty if not. Panics on
    /// lengths that do not fit together.
    pub(crate) fn run(
        &self,
        weights: &LutWeights,
        panel: usize,
        block: usize,
        tables: TableRows<'_>,
        row_sums: &[i32],
        out: Out<'_>,
    ) {
        let groups = weights.groups(block);
        assert_eq!((weights.lanes, weights.group), (self.lanes, self.group));
        assert_eq!(weights.entry, self.entry);
        let rows = out.rows();
        assert_eq!(
            row_sums.len(),
            if weights.row_factor == 0 { 0 } else { rows }
        );
        let (pixels, table_stride, starts, taps) = tables.parts();
        assert!(table_stride == weights.table_bytes() && taps.len() == weights.taps);
        assert!(tables.rows() >= rows && block < weights.blocks());
        let (lanes, sink) = out.sink(rows, self.nr());
        assert!(lanes <= self.nr(), "channels of one panel");
        let vectors = weights.vectors(panel);
        if rows == 0 || lanes == 0 {
            return;
        }
        assert_eq!(
            lanes.div_ceil(self.lanes),
            vectors,
            "all channels of the panel"
        );
        let indices: &[u8] = bytemuck::cast_slice(weights.lines.words());
        // Of all taps and bits, for a group.
        let (each, step) = (weights.planes * weights.taps, vectors * self.lanes);
        let of = |groups: usize| each * groups / self.share * self.entry;
        let bytes = of(groups.len()) * step;
        assert!(weights.taps * groups.len() * step <= BLOCK_BYTES);
        let from = panel * self.nr() * of(weights.groups) + of(groups.start) * step;
        let task = LutTask {
            indices: indices[from..from + bytes].as_ptr(),
            planes: weights.planes,
            vectors,
            tables: pixels,
            table_stride,
            starts,
            tap_pixels: taps.as_ptr(),
            taps: taps.len(),
            groups: groups.len(),
            rows,
            flush: weights.flush(),
            first: block == 0,
            last: block + 1 == weights.blocks(),
            narrow: ((1 << weights.planes) - 1) * weights.taps * weights.groups * weights.most
                <= usize::from(u16::MAX),
            shift: weights.shift,
            start: weights.start[panel * self.nr()..(panel + 1) * self.nr()].as_ptr(),
            row_sums: if row_sums.is_empty() {
                std::ptr::null()
            } else {
                row_sums.as_ptr()
            },
            lanes,
            sink,
        };
        // SAFETY: features as in `build`. Indices and starts are slices of the length that the task states, rows and
        // taps of tables are those that `TableRows` has checked, those of the result are counted above, and every index
        // is below 2^GROUP.
        unsafe { (self.run)(&task) }
    }
}
