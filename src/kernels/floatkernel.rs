//! The safe doors to the kernels of float activations: they check lengths, so that no caller needs `unsafe`.

use super::floatgemm::{BLOCK, FEW, FloatTask, PAIR, STRIDE};
use super::floatsources::Decoding;
use super::floatsums::Tables;
use super::floatweights::FloatWeights;
use super::view::MatMut;

/// The kernels of float activations of an ISA.
#[derive(Clone, Copy)]
pub(crate) struct FloatKernel {
    pub(crate) name: &'static str,
    /// Rows of a tile.
    pub(crate) mr: usize,
    pub(crate) lanes: usize,
    /// Vectors of a panel, a multiple of PAIR and of what the direct way takes at a time.
    pub(crate) vectors: usize,
    pub(super) direct: unsafe fn(&FloatTask<'_>),
    pub(super) tiles: unsafe fn(&FloatTask<'_>),
    pub(super) decode: unsafe fn(&Decoding<'_>),
    /// Most bits of weights whose sums are looked up, for up to [`FEW`] rows and for more: 1 or 2.
    pub(super) looked: [usize; 2],
    /// Floats of a table, which four bits of a channel are the index of.
    pub(super) table: usize,
    /// What a look-up is.
    pub(crate) look_up_name: &'static str,
    pub(super) tables: unsafe fn(&Tables<'_>),
    pub(super) look_up: unsafe fn(&FloatTask<'_>),
}

/// A block of K of a product.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// Its first column: a multiple of 32 and, if there are groups, of the group.
    pub(crate) from: usize,
    /// Its last column and one. A multiple likewise, or K.
    pub(crate) to: usize,
}

impl FloatKernel {
    /// Channels of a panel.
    pub(crate) fn nr(&self) -> usize {
        self.lanes * self.vectors
    }

    /// Channels that [`FloatKernel::decode`] does at a time.
    pub(crate) fn pair(&self) -> usize {
        PAIR * self.lanes
    }

    /// Whether sums are looked up for `rows` rows, or else weights are decoded.
    pub(crate) fn looks_up(&self, weights: &FloatWeights, rows: usize) -> bool {
        weights.bits() <= self.looked[usize::from(rows > FEW)]
    }

    /// Floats that the tables of `columns` columns of a row take.
    pub(crate) fn tables_len(&self, weights: &FloatWeights, columns: usize) -> usize {
        columns.next_multiple_of(32) / 4 * weights.bits() * self.table
    }

    /// Makes tables of activations, columns of a row and zeros up to a multiple of 32. Panics unless `tables` is
    /// [`FloatKernel::tables_len`] long.
    pub(crate) fn tables(&self, weights: &FloatWeights, activations: &[f32], tables: &mut [f32]) {
        assert!(activations.len().is_multiple_of(32) && self.looks_up(weights, 1));
        assert_eq!(tables.len(), self.tables_len(weights, activations.len()));
        let task = Tables {
            activations: activations.as_ptr(),
            columns: activations.len(),
            bits: weights.bits(),
            decode: weights.decode(),
            out: tables.as_mut_ptr(),
        };
        // SAFETY: features as in `decode`. Weights have one or two bits, and the lengths are checked.
        unsafe { (self.tables)(&task) }
    }

    /// Rows of tables, `stride` floats apart, times a block of panel `panel`, into `out` (`[rows, channels]`), which
    /// holds what the blocks before left. Panics on lengths that do not fit together.
    pub(crate) fn look_up(
        &self,
        weights: &FloatWeights,
        panel: usize,
        block: Block,
        tables: &[f32],
        stride: usize,
        out: MatMut<'_, f32>,
    ) {
        let (rows, columns) = (out.rows(), block.to - block.from);
        assert!(out.cols() <= self.nr() && weights.nr() == self.nr() && self.looks_up(weights, 1));
        assert!(block.from.is_multiple_of(32) && block.to <= weights.k());
        if rows == 0 || out.cols() == 0 {
            return;
        }
        let there = self.tables_len(weights, columns);
        assert!(stride >= there && tables.len() >= (rows - 1) * stride + there);
        let mut task = self.task(weights, panel * self.nr(), block, tables, stride, out);
        task.words = weights.words(panel, block.from).as_ptr();
        task.columns = columns.next_multiple_of(32 / weights.bits());
        // SAFETY: as in `tiles`; behind the words of a panel is a word at least.
        unsafe { (self.look_up)(&task) }
    }

    /// Floats that [`FloatKernel::decode`] writes for a block of `columns`.
    pub(crate) fn plain_len(&self, columns: usize) -> usize {
        columns.next_multiple_of(32) * self.pair()
    }

    /// Decodes a block of the pair of vectors that begins with channel `channel`. Panics unless `plain` is
    /// [`FloatKernel::plain_len`] long.
    pub(crate) fn decode(
        &self,
        weights: &FloatWeights,
        channel: usize,
        block: Block,
        plain: &mut [f32],
    ) {
        assert!(channel.is_multiple_of(self.pair()) && weights.nr() == self.nr());
        assert!(block.from.is_multiple_of(32) && block.to <= weights.k());
        assert!(weights.bits() > self.looked[1]);
        let columns = block.to - block.from;
        assert_eq!(plain.len(), self.plain_len(columns));
        if columns == 0 {
            return;
        }
        let words = weights.words(channel / self.nr(), block.from);
        let word = 32 / weights.bits();
        let task = Decoding {
            words: words[channel % self.nr()..].as_ptr(),
            bits: weights.bits(),
            signed: weights.signed(),
            decode: weights.decode(),
            columns: columns.next_multiple_of(word),
            out: plain.as_mut_ptr(),
        };
        // SAFETY: a FloatKernel is had only from a row of the table, whose features `Kernels::of` and `available` have
        // checked. The panel holds whole words up to K, and `plain` has room for them.
        unsafe { (self.decode)(&task) }
    }

    /// Rows of activations, [`STRIDE`] apart, times decoded weights, into `out` (`[rows, channels from `channel`
    /// on]`), which holds what the blocks before left. Behind an odd number of columns comes a zero. Panics on lengths
    /// that do not fit together.
    pub(crate) fn tiles(
        &self,
        weights: &FloatWeights,
        channel: usize,
        block: Block,
        plain: &[f32],
        activations: &[f32],
        out: MatMut<'_, f32>,
    ) {
        let (rows, columns) = (out.rows(), block.to - block.from);
        assert!(channel.is_multiple_of(self.pair()) && out.cols() <= self.pair());
        assert!(columns <= BLOCK && block.to <= weights.k() && weights.nr() == self.nr());
        assert_eq!(plain.len(), self.plain_len(columns));
        if rows == 0 || out.cols() == 0 {
            return;
        }
        assert!(weights.bits() > self.looked[1]);
        let there = columns.next_multiple_of(2);
        assert!(activations.len() >= (rows - 1) * STRIDE + there);
        let mut task = self.task(weights, channel, block, activations, STRIDE, out);
        task.plain = plain.as_ptr();
        if weights.bits() == 2 {
            task.columns = there;
        }
        // SAFETY: features as in `decode`. The lengths are checked above, and those of scales and bias in `task`.
        unsafe { (self.tiles)(&task) }
    }

    /// Up to [`FEW`] rows of activations, `stride` apart, times panel `panel`, into `out` (`[rows, channels]`). Behind K
    /// come zeros up to a multiple of 32. Panics on lengths that do not fit together.
    pub(crate) fn direct(
        &self,
        weights: &FloatWeights,
        panel: usize,
        activations: &[f32],
        stride: usize,
        out: MatMut<'_, f32>,
    ) {
        let (rows, k) = (out.rows(), weights.k());
        assert!(rows <= FEW && out.cols() <= self.nr() && weights.nr() == self.nr());
        assert!(!self.looks_up(weights, rows));
        if rows == 0 || out.cols() == 0 {
            return;
        }
        let there = k.next_multiple_of(32);
        assert!(stride >= there && activations.len() >= (rows - 1) * stride + there);
        let block = Block { from: 0, to: k };
        let mut task = self.task(weights, panel * self.nr(), block, activations, stride, out);
        task.words = weights.words(panel, 0).as_ptr();
        task.columns = k.next_multiple_of(32 / weights.bits());
        // SAFETY: as in `tiles`.
        unsafe { (self.direct)(&task) }
    }

    fn task<'a>(
        &self,
        weights: &'a FloatWeights,
        channel: usize,
        block: Block,
        activations: &[f32],
        stride: usize,
        mut out: MatMut<'_, f32>,
    ) -> FloatTask<'a> {
        let nr = self.nr();
        let (panel, inside) = (channel / nr, channel % nr);
        let group = weights.group();
        let first_group = group.map_or(0, |group| block.from / group);
        let scales = weights.scales(panel, first_group);
        FloatTask {
            plain: std::ptr::null(),
            words: std::ptr::null(),
            bits: weights.bits(),
            signed: weights.signed(),
            decode: weights.decode(),
            activations: activations.as_ptr(),
            stride,
            rows: out.rows(),
            columns: block.to - block.from,
            group: group.unwrap_or(usize::MAX / 2),
            grouped: group.is_some(),
            scales: scales[inside..].as_ptr(),
            scale_step: nr,
            bias: weights.bias()[channel..].as_ptr(),
            first: block.from == 0,
            last: block.to == weights.k(),
            lanes: out.cols(),
            out: out.as_mut_ptr(),
            out_stride: out.stride(),
        }
    }
}
