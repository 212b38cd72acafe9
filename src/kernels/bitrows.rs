//! Rows of bits as the bit GEMM reads them: back to back, or by an indirection table.
//!
//! A row of a convolution is its taps, and those lie in lines of the image, equally far apart for all rows. Two short
//! tables then say where everything is, a start for each row and an offset for each word of a row, and no row needs to be
//! put together. The kernel takes rows that lie back to back by a table too: one load for each step costs nothing, where
//! loops over runs of words ended in a misprediction for each run, of 3 to 10 % (Sapphire Rapids).

use std::ops::Range;

use crate::bits::{Encoding, PackedRef};
use crate::shape::words;

/// Rows of codes in planes.
#[derive(Clone, Copy)]
pub(crate) struct BitRows<'a> {
    encoding: Encoding,
    words: &'a [u32],
    rows: usize,
    /// Where each row starts; none if that is every `row_words`.
    starts: Option<&'a [u32]>,
    row_words: usize,
    /// Words from a plane of a row to the next, and words of a plane of a row.
    pub(super) plane: usize,
    words_of_plane: usize,
    /// Where in a plane of a row each of its words lies; none if they lie in order.
    columns: Option<&'a [u32]>,
}

impl<'a> From<PackedRef<'a>> for BitRows<'a> {
    fn from(rows: PackedRef<'a>) -> Self {
        let words = words(rows.cols());
        BitRows {
            encoding: rows.encoding(),
            words: rows.words(),
            rows: rows.rows(),
            starts: None,
            row_words: rows.row_words(),
            plane: words,
            words_of_plane: words,
            columns: None,
        }
    }
}

impl<'a> BitRows<'a> {
    /// A row from each of `starts` on, its planes `plane` words apart, of the words that `columns` names, counted from
    /// there. Bits behind the last column are zero. Panics if one is outside of `words`.
    pub(crate) fn indirect(
        encoding: Encoding,
        words: &'a [u32],
        starts: &'a [u32],
        plane: usize,
        columns: &'a [u32],
    ) -> Self {
        let last = |of: &[u32]| of.iter().fold(0, |last, &at| last.max(at)) as usize;
        let most = last(starts) + (encoding.planes() - 1) * plane + last(columns);
        let none = starts.is_empty() || columns.is_empty();
        assert!(none || most < words.len(), "words of the rows");
        BitRows {
            encoding,
            words,
            rows: starts.len(),
            starts: Some(starts),
            row_words: 0,
            plane,
            words_of_plane: columns.len(),
            columns: Some(columns),
        }
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Words of a plane of a row.
    pub(crate) fn words(&self) -> usize {
        self.words_of_plane
    }

    /// Where in a plane of a row its words lie, if not in order.
    pub(super) fn columns(&self) -> Option<&'a [u32]> {
        self.columns
    }

    /// The rows `rows` alone.
    pub(crate) fn slice_rows(self, rows: Range<usize>) -> Self {
        let (words, starts) = match self.starts {
            Some(starts) => (self.words, Some(&starts[rows.clone()])),
            None => {
                let words = rows.start * self.row_words..rows.end * self.row_words;
                (&self.words[words], None)
            }
        };
        BitRows {
            words,
            rows: rows.len(),
            starts,
            ..self
        }
    }

    /// The first words of `MR` rows from `row` on.
    ///
    /// # Safety
    /// The rows exist, and `MR` is not 0.
    #[inline(always)]
    pub(super) unsafe fn pointers<const MR: usize>(&self, row: usize) -> [*const u32; MR] {
        // SAFETY: there is a start for each row, and each is that of words that exist.
        unsafe {
            let first = self.words.as_ptr();
            let mut pointers = [first; MR];
            match self.starts {
                Some(starts) => {
                    for (i, pointer) in pointers.iter_mut().enumerate() {
                        *pointer = first.add(*starts.get_unchecked(row + i) as usize);
                    }
                }
                None => {
                    pointers[0] = first.add(row * self.row_words);
                    for i in 1..MR {
                        pointers[i] = pointers[i - 1].add(self.row_words);
                    }
                }
            }
            pointers
        }
    }
}
