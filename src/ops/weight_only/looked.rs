//! Look-ups of many rows: block by block their tables are made, and pass by the weights.

use std::ops::Range;

use super::{LINE, WeightOnlyGemm};
use crate::kernels::MatMut;
use crate::quant::Float;
use crate::shape::WORD_BITS;

/// Rows of a block for look-ups: their tables take an eighth of a second-level cache, and the weights that pass by go
/// there from memory once for them.
pub(super) const LOOKED_ROWS: usize = 24;

/// Rows of a tile of look-ups. Their tables stay in the first-level cache.
pub(super) const LOOKED_TILE: usize = 4;

/// Columns of K in a block for look-ups under weights of one bit.
const LOOKED_BLOCK: usize = 512;

/// Columns of which tables are made at a time.
const WIDE: usize = 256;

impl WeightOnlyGemm {
    /// Floats of the tables of `columns` columns of a row, and a line more.
    pub(super) fn tables_len(&self, columns: usize) -> usize {
        self.kernel.tables_len(&self.weights, columns) + LINE
    }

    /// Columns of a block of K for look-ups of many rows.
    pub(super) fn looked_block(&self) -> usize {
        self.block(LOOKED_BLOCK / self.weights.bits())
    }

    /// Makes tables of columns of a row, at the beginning of `tables`.
    pub(super) fn tables<F: Float>(&self, row: &[F], tables: &mut [f32]) {
        let (mut floats, mut rest) = ([0f32; WIDE], tables);
        for columns in row.chunks(WIDE) {
            let (these, behind) = floats.split_at_mut(columns.len());
            F::widen(columns, these);
            behind.fill(0.0);
            let there = columns.len().next_multiple_of(WORD_BITS);
            let len = self.kernel.tables_len(&self.weights, there);
            let (these, behind) = rest.split_at_mut(len);
            self.kernel.tables(&self.weights, &floats[..there], these);
            rest = behind;
        }
    }

    /// A block of rows times `panels`, by look-ups.
    pub(super) fn looked_rows<F: Float>(
        &self,
        activations: &[F],
        rows: Range<usize>,
        panels: Range<usize>,
        mut out: MatMut<'_, f32>,
        space: &mut [f32],
    ) {
        let (k, step) = (self.k(), self.looked_block());
        let stride = self.tables_len(step);
        for block in self.blocks(step) {
            let columns = block.to - block.from;
            for (row, tables) in rows.clone().zip(space.chunks_exact_mut(stride)) {
                self.tables(&activations[row * k + block.from..][..columns], tables);
            }
            for (tile, tables) in space[..rows.len() * stride]
                .chunks(LOOKED_TILE * stride)
                .enumerate()
            {
                let (_, below) = out.reborrow().split_rows(tile * LOOKED_TILE);
                let out = below.split_rows(tables.len() / stride).0;
                self.each_panel(panels.clone(), out, |panel, out| {
                    self.kernel
                        .look_up(&self.weights, panel, block, tables, stride, out);
                });
            }
        }
    }
}
