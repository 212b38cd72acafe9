//! A product by table look-up: K in blocks, and tables that all panels share.
//!
//! 1. The product is split among threads. A part owns its rectangle of the result and a piece of the working
//!    space, so that parts never wait for each other; those that share rows build the same tables.
//! 2. A part takes a block of rows at a time. It makes them bytes, and sums them where the weights need it.
//! 3. For each block of K in order it builds the tables of the rows and takes all panels past them. What a block leaves
//!    in the result, the next one adds to; the last one applies the epilogue.
//!
//! Sums are exact integers, so nothing of this shows in the result.

use std::ops::Range;

use crate::kernels::bounds::Sequence;
use crate::kernels::{Kernels, LutKernel, LutWeights, MatMut, TableRows};
use crate::ops::Par;
use crate::ops::grid::{Grid, Space};

use super::Activations;
use super::method::{Dress, bytes_of};

/// Rows of a block, at most.
const ROWS: usize = 64;

/// Rows for which there is working space at most. They bound the parts that can run at once.
const SPACE: usize = 8 * ROWS;

/// Rows of working space that a part gets at least, if there are as many.
const LEAST: usize = 16;

/// What working space is aligned to: a cache line.
pub(in crate::ops) const LINE: usize = 64;

/// A table kernel, and weights laid out for it.
pub(in crate::ops) struct Tables {
    pub(in crate::ops) kernel: &'static LutKernel,
    pub(in crate::ops) weights: LutWeights,
}

impl Tables {
    /// What the inner loop does, and how often it walks along K.
    pub(in crate::ops) fn sequence(&self) -> (Sequence, usize) {
        (self.weights.sequence(), self.weights.passes())
    }

    /// Kernel, tile and tables, for people.
    pub(in crate::ops) fn describe(&self) -> String {
        let (kernel, flush) = (self.kernel, self.weights.flush());
        let (name, [mr, nr]) = (kernel.name, (kernel.tile)(flush));
        let (group, entries) = (kernel.group, 1 << kernel.group);
        let passes = ["", "2 passes, "][self.weights.passes() - 1];
        let entry = self.weights.entry_bits();
        format!(
            "{name}, tile {mr}x{nr}, {passes}tables of {entries} sums of {group} activations, {flush} lookups in {entry} bits"
        )
    }

    /// Elements of scratch for `rows` rows of activations.
    pub(super) fn scratch(&self, rows: usize) -> usize {
        match rows {
            0 => 0,
            _ => (Self::units(rows) * self.unit() + LINE) / 4,
        }
    }

    /// Rows of working space for `rows` rows of activations: more than those, if these are few, so that parts with
    /// other channels have their own.
    fn units(rows: usize) -> usize {
        rows.clamp(ROWS, SPACE)
    }

    /// Bytes of working space for a row: tables, bytes and a sum, in whole lines.
    fn unit(&self) -> usize {
        (self.weights.table_bytes() + self.weights.row_bytes() + 4).next_multiple_of(LINE)
    }

    /// See [`Method::run`](super::method::Method::run).
    pub(super) fn run<T: Send>(
        &self,
        kernels: &Kernels,
        activations: Activations<'_>,
        out: MatMut<'_, T>,
        scratch: &mut [i32],
        par: Par<'_>,
        dress: &(impl Dress<T> + Sync),
    ) {
        let (weights, rows) = (&self.weights, activations.shape().1);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(scratch);
        let skip = bytes.as_ptr().align_offset(LINE).min(LINE);
        let space = Space {
            bytes: &mut bytes[skip..][..Self::units(rows) * self.unit()],
            unit: self.unit(),
            least: LEAST.min(rows),
        };
        let groups = weights.row_bytes() / self.kernel.group;
        let grid = Grid {
            mr: self.kernel.mr,
            nr: weights.nr(),
            row_words: weights.row_bytes() / 4,
            // A look-up, an addition, and at most one more to widen them.
            steps: (groups * self.kernel.vectors * 3 * weights.passes()) as u64,
            at_once: 1,
        };
        let panels = weights.len();
        grid.leaves(
            rows,
            panels,
            out,
            space,
            par,
            &|rows, panels, mut out, space| {
                let fit = self.kernel.rows.min(space.len() / self.unit());
                for from in rows.clone().step_by(fit) {
                    let block = from..rows.end.min(from + fit);
                    let (_, below) = out.reborrow().split_rows(from - rows.start);
                    let (out, _) = below.split_rows(block.len());
                    let part = activations.slice_rows(block.clone());
                    self.block(kernels, part, block, panels.clone(), out, space, dress);
                }
            },
        );
    }

    /// `activations`, rows `block` of all, times `panels`.
    #[allow(clippy::too_many_arguments)]
    fn block<T>(
        &self,
        kernels: &Kernels,
        activations: Activations<'_>,
        block: Range<usize>,
        panels: Range<usize>,
        mut out: MatMut<'_, T>,
        space: &mut [u8],
        dress: &impl Dress<T>,
    ) {
        let (weights, rows, nr) = (&self.weights, activations.shape().1, self.weights.nr());
        let stride = weights.row_bytes();
        let (tables, space) = space.split_at_mut(rows * weights.table_bytes());
        let (sums, space) = bytemuck::cast_slice_mut(space).split_at_mut(rows);
        let bytes = bytes_of(kernels, activations, stride, space);
        let sums = match weights.row_factor() {
            0 => &[],
            factor => {
                kernels.byte_sums(bytes, stride, weights.signed(), factor, sums);
                &*sums
            }
        };
        for k in 0..weights.blocks() {
            self.kernel.build(weights, k, bytes, stride, tables);
            let tables = TableRows::pixels(tables, weights.table_bytes());
            for panel in panels.clone() {
                let (_, right) = out.reborrow().split_cols((panel - panels.start) * nr);
                let lanes = nr.min(right.cols());
                let channels = panel * nr..(panel + 1) * nr;
                let out = dress.dress(block.clone(), channels, right.split_cols(lanes).0);
                self.kernel.run(weights, panel, k, tables, sums, out);
            }
        }
    }
}
