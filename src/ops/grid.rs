//! The work of a product cut into rectangles: blocks of rows by panels of channels, given to threads.

use std::ops::Range;

use crate::kernels::MatMut;
use crate::ops::Par;

/// Words of activations that a block of rows may take: half of a 1 MiB second-level cache, so that the
/// block stays there while the panels of weights pass by.
const BLOCK_WORDS: usize = 128 * 1024;

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
    fn pieces(&self) -> usize {
        let units = self.bytes.len() / self.unit;
        units.checked_div(self.least).unwrap_or(usize::MAX)
    }

    /// `part` of `pieces` equal pieces, and the rest.
    fn split(self, part: usize, pieces: usize) -> (Self, Self) {
        let units = self.bytes.len() / self.unit;
        let at = units * part / pieces * self.unit;
        let (first, rest) = self.bytes.split_at_mut(at);
        let same = |bytes| Space { bytes, ..self };
        (same(first), same(rest))
    }
}

/// Halvings that a piece may be the last of, and one: a pool has 1024 workers at most.
const DEPTH: usize = 14;

/// A rectangle of a product with its part of the result and of the working space, to be cut into `pieces`.
struct Piece<'a, T> {
    pieces: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    out: MatMut<'a, T>,
    space: Space<'a>,
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
        let pieces = par.pieces((rows as u64 * panels as u64).saturating_mul(self.steps));
        let pieces = pieces.min(space.pieces()).max(1);
        if pieces == 1 {
            return leaf(0..rows, 0..panels, out, space.bytes);
        }
        let whole = Piece {
            pieces,
            rows: 0..rows,
            panels: 0..panels,
            out,
            space,
        };
        par.share(self.cut(whole), &|piece: Piece<'_, T>| {
            leaf(piece.rows, piece.panels, piece.out, piece.space.bytes)
        });
    }

    /// The pieces of `whole`, in order.
    fn cut<'a, T>(&self, whole: Piece<'a, T>) -> impl Iterator<Item = Piece<'a, T>> {
        let grid = *self;
        let mut rest = [const { None }; DEPTH];
        rest[0] = Some(whole);
        let mut count = 1usize;
        std::iter::from_fn(move || {
            count = count.checked_sub(1)?;
            let mut piece = rest[count].take()?;
            while count < DEPTH {
                match grid.halve(piece) {
                    (first, Some(second)) => {
                        rest[count] = Some(second);
                        count += 1;
                        piece = first;
                    }
                    (only, None) => return Some(only),
                }
            }
            Some(piece)
        })
    }

    /// Two halves, unless a piece is to stay whole: rows while there are as many tiles as panels, else panels.
    fn halve<'a, T>(&self, piece: Piece<'a, T>) -> (Piece<'a, T>, Option<Piece<'a, T>>) {
        let tiles = piece.rows.len().div_ceil(self.mr);
        if piece.pieces == 1 || tiles.max(piece.panels.len()) <= 1 {
            return (piece, None);
        }
        let Piece {
            pieces,
            rows,
            panels,
            out,
            space,
        } = piece;
        let first = pieces / 2;
        let half = |of: usize| (of * first / pieces).max(1);
        let (mine, yours) = space.split(first, pieces);
        let halves = if tiles >= panels.len() {
            let at = half(tiles) * self.mr;
            let (out, below) = out.split_rows(at);
            let middle = rows.start + at;
            let same = panels.clone();
            [
                (rows.start..middle, same, out),
                (middle..rows.end, panels, below),
            ]
        } else {
            let at = half(panels.len());
            let (out, right) = out.split_cols(at * self.nr);
            let middle = panels.start + at;
            let same = rows.clone();
            [
                (same, panels.start..middle, out),
                (rows, middle..panels.end, right),
            ]
        };
        let [one, two] = halves;
        let piece = |pieces, (rows, panels, out), space| Piece {
            pieces,
            rows,
            panels,
            out,
            space,
        };
        let second = piece(pieces - first, two, yours);
        let first = piece(first, one, mine);
        (first, Some(second))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_product_once() {
        for (rows, panels, pieces) in [(1, 1, 8), (1, 7, 4), (13, 1, 5), (40, 3, 8), (9, 11, 4096)]
        {
            let (grid, cols) = (
                Grid {
                    mr: 4,
                    nr: 3,
                    row_words: 1,
                    steps: 1,
                    at_once: 1,
                },
                3 * panels - 1,
            );
            let (mut out, mut bytes) = (vec![0; rows * cols], vec![0u8; 64 * 16]);
            let whole = Piece {
                pieces,
                rows: 0..rows,
                panels: 0..panels,
                out: MatMut::new("out", &mut out, rows, cols).unwrap(),
                space: Space {
                    bytes: &mut bytes,
                    unit: 16,
                    least: 1,
                },
            };
            let (mut count, mut covered) = (0, vec![0; rows * panels]);
            for piece in grid.cut(whole) {
                count += 1;
                assert!(piece.rows.start % 4 == 0 && piece.rows.len() == piece.out.rows());
                let ends = (3 * piece.panels.end).min(cols);
                assert_eq!(piece.out.cols(), ends - 3 * piece.panels.start);
                piece.space.bytes.iter_mut().for_each(|b| *b += 1);
                for row in piece.rows {
                    for panel in piece.panels.clone() {
                        covered[row * panels + panel] += 1;
                    }
                }
            }
            assert!(covered.into_iter().all(|c| c == 1), "{rows} x {panels}");
            assert!(bytes.iter().all(|&b| b == 1), "space is shared out");
            assert!(count <= pieces && (count > 1 || rows <= 4 && panels == 1));
        }
    }
}
