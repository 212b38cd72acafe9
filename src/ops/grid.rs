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
    /// Panels that a kernel takes in one call, at most.
    pub(super) at_once: usize,
}

/// Working space that is shared out to the parts of a product that run at the same time.
pub(super) struct Space<'a> {
    pub(super) bytes: &'a mut [u8],
    /// Bytes that are not to be divided.
    pub(super) unit: usize,
    /// Units that each part gets at least, if it is split at all.
    pub(super) least: usize,
}

impl<'a> Space<'a> {
    /// Of a product that needs none: any number of parts can share it.
    fn none() -> Self {
        Space {
            bytes: &mut [],
            unit: 1,
            least: 0,
        }
    }

    /// Parts that can share this space.
    fn pieces(&self) -> u64 {
        let units = self.bytes.len() / self.unit;
        units.checked_div(self.least).map_or(u64::MAX, |p| p as u64)
    }

    /// `part` of `pieces` equal pieces, and the rest.
    fn split(self, part: u64, pieces: u64) -> (Self, Self) {
        let units = (self.bytes.len() / self.unit) as u64;
        let at = (units * part / pieces) as usize * self.unit;
        let (first, rest) = self.bytes.split_at_mut(at);
        let same = |bytes| Space { bytes, ..self };
        (same(first), same(rest))
    }
}

impl Grid {
    /// Calls `part(panel, rows, out)` for rectangles that cover `rows` x `panels`, each once, on the threads of
    /// `par`; `out` is the rectangle of the result, from `panel` on, of up to `at_once` panels.
    pub(super) fn run<T: Send>(
        &self,
        rows: usize,
        panels: usize,
        out: MatMut<'_, T>,
        par: Par<'_>,
        part: &(impl Fn(usize, Range<usize>, MatMut<'_, T>) + Sync),
    ) {
        let leaf = |rows, panels, out: MatMut<'_, T>, _: &mut [u8]| {
            self.blocks(rows, panels, out, part);
        };
        self.leaves(rows, panels, out, Space::none(), par, &leaf);
    }

    /// Calls `leaf(rows, panels, out, space)` for larger rectangles that cover all, each with its own piece of
    /// `space`.
    pub(super) fn leaves<T: Send>(
        &self,
        rows: usize,
        panels: usize,
        out: MatMut<'_, T>,
        space: Space<'_>,
        par: Par<'_>,
        leaf: &(impl Fn(Range<usize>, Range<usize>, MatMut<'_, T>, &mut [u8]) + Sync),
    ) {
        let steps = rows as u64 * panels as u64 * self.steps;
        let pieces = (4 * par.threads() as u64).min(steps / SPLIT_STEPS);
        let pieces = pieces.min(space.pieces()).max(1);
        if pieces == 1 || par.threads() == 1 {
            leaf(0..rows, 0..panels, out, space.bytes);
        } else {
            par.enter(|| self.split(pieces, 0..rows, 0..panels, out, space, par, leaf));
        }
    }

    /// Halves the work until `pieces` is 1: rows while there are as many tiles as panels, else panels.
    #[allow(clippy::too_many_arguments)]
    fn split<T: Send>(
        &self,
        pieces: u64,
        rows: Range<usize>,
        panels: Range<usize>,
        out: MatMut<'_, T>,
        space: Space<'_>,
        par: Par<'_>,
        leaf: &(impl Fn(Range<usize>, Range<usize>, MatMut<'_, T>, &mut [u8]) + Sync),
    ) {
        let tiles = rows.len().div_ceil(self.mr);
        let (first, second) = (pieces / 2, pieces - pieces / 2);
        if pieces > 1 && tiles > 1 && tiles >= panels.len() {
            let at = tiles / 2 * self.mr;
            let (top, below) = out.split_rows(at);
            let (mine, yours) = space.split(first, pieces);
            let (above, under) = (rows.start..rows.start + at, rows.start + at..rows.end);
            let same = panels.clone();
            par.join(
                || self.split(first, above, panels, top, mine, par, leaf),
                || self.split(second, under, same, below, yours, par, leaf),
            );
        } else if pieces > 1 && panels.len() > 1 {
            let at = panels.len() / 2;
            let (left, right) = out.split_cols(at * self.nr);
            let (mine, yours) = space.split(first, pieces);
            let middle = panels.start + at;
            let same = rows.clone();
            par.join(
                || self.split(first, rows, panels.start..middle, left, mine, par, leaf),
                || self.split(second, same, middle..panels.end, right, yours, par, leaf),
            );
        } else {
            leaf(rows, panels, out, space.bytes);
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
        let mut fit = BLOCK_WORDS / self.row_words.max(1);
        let channels = panels.len() * self.nr;
        if channels.saturating_mul(self.row_words) <= BLOCK_WORDS / 2 {
            // The weights, or about as many words, take half of what is left; the block's result may have the other
            // half: its rows are then written while they are there, not a panel's width at a time.
            fit = fit.min((BLOCK_WORDS / 2 / channels.max(1)).max(4 * self.mr));
        }
        let block = (fit / self.mr * self.mr).max(self.mr);
        let mut row = rows.start;
        while row < rows.end {
            let end = rows.end.min(row + block);
            let (_, below) = out.reborrow().split_rows(row - rows.start);
            let (mut block, _) = below.split_rows(end - row);
            for panel in panels.clone().step_by(self.at_once) {
                let (_, rest) = block
                    .reborrow()
                    .split_cols((panel - panels.start) * self.nr);
                let lanes = self.nr.saturating_mul(self.at_once).min(rest.cols());
                part(panel, row..end, rest.split_cols(lanes).0);
            }
            row = end;
        }
    }
}
