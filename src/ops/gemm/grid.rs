//! The work of a product cut into rectangles: blocks of rows by panels of channels, given to threads.

use std::ops::Range;

use crate::kernels::MatMut;
use crate::ops::Par;

/// Words of activations that a block of rows may take: half of a 1 MiB second-level cache, so that the
/// block stays there while the panels of weights pass by.
const BLOCK_WORDS: usize = 128 * 1024;

/// Instructions of a kernel below which splitting costs more than it gives: about ten microseconds of a core.
const SPLIT_STEPS: u64 = 1 << 15;

/// What the driver must know of a product.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    /// Rows of a tile.
    pub(super) mr: usize,
    /// Channels of a panel.
    pub(super) nr: usize,
    /// Words that a row of activations takes.
    pub(super) row_words: usize,
    /// Vector instructions that a row takes with a panel.
    pub(super) steps: u64,
}

impl Grid {
    /// Calls `part(panel, rows, out)` for rectangles that cover `rows` x `panels`, each once, on the threads of
    /// `par`; `out` is the rectangle of the result.
    pub(super) fn run<T: Send>(
        &self,
        rows: usize,
        panels: usize,
        out: MatMut<'_, T>,
        par: Par<'_>,
        part: &(impl Fn(usize, Range<usize>, MatMut<'_, T>) + Sync),
    ) {
        let steps = rows as u64 * panels as u64 * self.steps;
        let pieces = (4 * par.threads() as u64).min(steps / SPLIT_STEPS).max(1);
        if pieces == 1 || par.threads() == 1 {
            self.blocks(0..rows, 0..panels, out, part);
        } else {
            par.enter(|| self.split(pieces, 0..rows, 0..panels, out, par, part));
        }
    }

    /// Halves the work until `pieces` is 1: rows while there are as many tiles as panels, else panels.
    fn split<T: Send>(
        &self,
        pieces: u64,
        rows: Range<usize>,
        panels: Range<usize>,
        out: MatMut<'_, T>,
        par: Par<'_>,
        part: &(impl Fn(usize, Range<usize>, MatMut<'_, T>) + Sync),
    ) {
        let tiles = rows.len().div_ceil(self.mr);
        let (first, second) = (pieces / 2, pieces - pieces / 2);
        if pieces > 1 && tiles > 1 && tiles >= panels.len() {
            let at = tiles / 2 * self.mr;
            let (top, below) = out.split_rows(at);
            let (above, under) = (rows.start..rows.start + at, rows.start + at..rows.end);
            let same = panels.clone();
            par.join(
                || self.split(first, above, panels, top, par, part),
                || self.split(second, under, same, below, par, part),
            );
        } else if pieces > 1 && panels.len() > 1 {
            let at = panels.len() / 2;
            let (left, right) = out.split_cols(at * self.nr);
            let middle = panels.start + at;
            let same = rows.clone();
            par.join(
                || self.split(first, rows, panels.start..middle, left, par, part),
                || self.split(second, same, middle..panels.end, right, par, part),
            );
        } else {
            self.blocks(rows, panels, out, part);
        }
    }

    /// Every panel times a block of rows that stays in the second-level cache, block after block.
    fn blocks<T>(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        mut out: MatMut<'_, T>,
        part: &impl Fn(usize, Range<usize>, MatMut<'_, T>),
    ) {
        let fit = BLOCK_WORDS / self.row_words.max(1);
        let block = (fit / self.mr * self.mr).max(self.mr);
        let mut row = rows.start;
        while row < rows.end {
            let end = rows.end.min(row + block);
            let (_, below) = out.reborrow().split_rows(row - rows.start);
            let (mut block, _) = below.split_rows(end - row);
            for panel in panels.clone() {
                let (_, rest) = block
                    .reborrow()
                    .split_cols((panel - panels.start) * self.nr);
                let lanes = self.nr.min(rest.cols());
                part(panel, row..end, rest.split_cols(lanes).0);
            }
            row = end;
        }
    }
}
