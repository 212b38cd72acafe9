//! A product by table look-up: K in blocks, and tables that all panels share.
//!
//! 1. Activations become bytes, and the sums of rows are made where the weights need them.
//! 2. The product is split among threads. A part owns its rectangle of the result and a piece of the space
//!    for tables, so that parts never wait for each other; those that share rows build the same tables.
//! 3. A part takes as many rows as its space and the second-level cache hold. For each block of K in order it
//!    builds their tables and takes all panels past them. What a block leaves in the result, the next one adds to; the
//!    last one applies the epilogue.
//!
//! Sums are exact integers, so that nothing of this shows in the result.

use crate::kernels::{Kernels, LutKernel, LutWeights, MatMut};
use crate::ops::Par;

use super::Activations;
use super::grid::{Grid, Space};
use super::method::{Dress, bytes_of, some};

/// Rows whose tables stay in the second-level cache.
const ROWS: usize = 64;

/// Rows for whose tables there is space, if the product has as many. They bound the parts that can run at once.
const SPACE: usize = 8 * ROWS;

/// Rows of tables that a part gets at least.
const LEAST: usize = 16;

/// Bytes that tables are aligned to: a cache line.
const LINE: usize = 64;

/// A table kernel, and weights laid out for it.
pub(super) struct Tables {
    pub(super) kernel: &'static LutKernel,
    pub(super) weights: LutWeights,
}

impl Tables {
    /// Elements of scratch for `rows` rows of activations, which may be bytes with nothing between the rows.
    pub(super) fn scratch(&self, rows: usize, dense: bool) -> usize {
        if rows == 0 {
            return 0;
        }
        let bytes = match dense {
            true => 0,
            false => self.weights.row_bytes() / 4,
        };
        let tables = rows.min(SPACE) * self.weights.table_bytes() + LINE;
        rows.saturating_mul(self.sums() + bytes)
            .saturating_add(tables / 4)
    }

    /// 1 if the sum of each row is needed, else 0.
    fn sums(&self) -> usize {
        usize::from(self.weights.row_factor() != 0)
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
        let (sums, rest) = scratch.split_at_mut(self.sums() * rows);
        let unit = weights.table_bytes();
        let (rest, space) = rest.split_at_mut(rest.len() - (rows.min(SPACE) * unit + LINE) / 4);
        let stride = weights.row_bytes();
        let bytes = bytes_of(kernels, activations, stride, rest);
        if !sums.is_empty() {
            let (signed, factor) = (weights.signed(), weights.row_factor());
            kernels.byte_sums(bytes, stride, signed, factor, sums);
        }
        let space: &mut [u8] = bytemuck::cast_slice_mut(space);
        let skip = space.as_ptr().align_offset(LINE).min(LINE);
        let space = Space {
            bytes: &mut space[skip..][..rows.min(SPACE) * unit],
            unit: unit.max(1),
            least: LEAST,
        };
        let nr = weights.nr();
        let grid = Grid {
            mr: self.kernel.mr,
            nr,
            row_words: stride / 4,
            steps: (stride / self.kernel.group * self.kernel.vectors * 3) as u64,
        };
        let sums = &*sums;
        grid.leaves(
            rows,
            weights.len(),
            out,
            space,
            par,
            &|rows, panels, mut out, space| {
                let fit = space.len().checked_div(unit).unwrap_or(ROWS).min(ROWS);
                for from in rows.clone().step_by(fit) {
                    let block = from..rows.end.min(from + fit);
                    let tables = &mut space[..block.len() * unit];
                    let (_, below) = out.reborrow().split_rows(from - rows.start);
                    let (mut out, _) = below.split_rows(block.len());
                    for k in 0..weights.blocks() {
                        self.kernel
                            .build(weights, k, &bytes[from * stride..], stride, tables);
                        for panel in panels.clone() {
                            let (_, right) = out.reborrow().split_cols((panel - panels.start) * nr);
                            let lanes = nr.min(right.cols());
                            let out = right.split_cols(lanes).0;
                            let out = dress.dress(panel * nr..(panel + 1) * nr, out);
                            let sums = some(sums, &block);
                            self.kernel.run(weights, panel, k, tables, sums, out);
                        }
                    }
                }
            },
        );
    }
}
