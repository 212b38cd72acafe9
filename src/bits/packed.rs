//! The canonical packed form: bit planes of 32-bit words.
//!
//! ```text
//!   words[((row * planes) + plane) * W + k / 32]  bit k % 32      W = ceil(cols / 32)
//! ```
//!
//! The bits behind `cols` in the last word of a plane are zero. In a file or across the C ABI a word is
//! four bytes, least significant first. The form is the same on every ISA.

use super::Encoding;
use crate::error::{Error, Result};
use crate::shape::{WORD_BITS, check_len, elements, words};

/// A matrix of codes in the canonical packed form, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackedMatrix {
    encoding: Encoding,
    rows: usize,
    cols: usize,
    words: Vec<u32>,
}

/// A matrix of codes in the canonical packed form, borrowed.
///
/// Whoever makes one vouches that tail bits are zero: [`PackedRef::new`] checks it,
/// [`PackedMatrix::view`] knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackedRef<'a> {
    encoding: Encoding,
    rows: usize,
    cols: usize,
    words: &'a [u32],
}

/// Where packers write: codes in the canonical packed form, borrowed exclusively.
///
/// Whatever the words held is overwritten, so any words will do.
#[derive(Debug)]
pub struct PackedMut<'a> {
    encoding: Encoding,
    rows: usize,
    cols: usize,
    words: &'a mut [u32],
}

impl<'a> PackedMut<'a> {
    /// Words to write to; errors if the length is not rows x planes x ceil(cols / 32).
    pub fn new(encoding: Encoding, rows: usize, cols: usize, data: &'a mut [u32]) -> Result<Self> {
        let len = elements("rows x cols", &[rows, encoding.planes(), words(cols)])?;
        check_len("words", data.len(), len, "rows x planes x ceil(cols / 32)")?;
        Ok(PackedMut {
            encoding,
            rows,
            cols,
            words: data,
        })
    }

    /// How codes stand for integers.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns, K.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The words for the packers of this crate, which keep tail bits zero.
    pub(crate) fn words(self) -> &'a mut [u32] {
        self.words
    }
}

impl<'a> From<&'a mut PackedMatrix> for PackedMut<'a> {
    fn from(matrix: &'a mut PackedMatrix) -> Self {
        let rows = matrix.rows;
        matrix.rows_mut(0..rows)
    }
}

impl PackedMatrix {
    /// A matrix of `rows` x `cols` whose codes are all zero (bipolar: all -1).
    pub fn zeros(encoding: Encoding, rows: usize, cols: usize) -> Result<Self> {
        let len = elements("rows x cols", &[rows, encoding.planes(), words(cols)])?;
        Ok(PackedMatrix {
            encoding,
            rows,
            cols,
            words: vec![0; len],
        })
    }

    /// Packs `values`, `[rows, cols]` row-major.
    ///
    /// Errors if the length is not rows x cols or the encoding lacks one of the integers.
    pub fn pack(encoding: Encoding, rows: usize, cols: usize, values: &[i32]) -> Result<Self> {
        let len = elements("rows x cols", &[rows, cols])?;
        check_len("values", values.len(), len, "rows x cols")?;
        let mut packed = Self::zeros(encoding, rows, cols)?;
        let (planes, w) = (encoding.planes(), words(cols));
        for (i, &value) in values.iter().enumerate() {
            let (row, k) = (i / cols, i % cols);
            let code = encoding.encode(value).ok_or_else(|| {
                Error::argument(
                    "values",
                    format_args!("{value} at [{row}, {k}]"),
                    format_args!("an integer of {encoding}"),
                )
            })?;
            for p in 0..planes {
                let bit = u32::from(code >> p & 1) << (k % WORD_BITS);
                packed.words[(row * planes + p) * w + k / WORD_BITS] |= bit;
            }
        }
        Ok(packed)
    }

    /// Takes words that are already in the canonical form, with the checks of [`PackedRef::new`].
    pub fn from_words(
        encoding: Encoding,
        rows: usize,
        cols: usize,
        words: Vec<u32>,
    ) -> Result<Self> {
        PackedRef::new(encoding, rows, cols, &words)?;
        Ok(PackedMatrix {
            encoding,
            rows,
            cols,
            words,
        })
    }

    /// The integers, `[rows, cols]` row-major.
    pub fn unpack(&self) -> Vec<i32> {
        self.view().unpack()
    }

    /// This matrix, borrowed.
    pub fn view(&self) -> PackedRef<'_> {
        PackedRef {
            encoding: self.encoding,
            rows: self.rows,
            cols: self.cols,
            words: &self.words,
        }
    }

    /// The rows `range` to write to. Panics if they are not all there, as slices do.
    pub fn rows_mut(&mut self, range: std::ops::Range<usize>) -> PackedMut<'_> {
        let stride = self.encoding.planes() * words(self.cols);
        PackedMut {
            encoding: self.encoding,
            rows: range.len(),
            cols: self.cols,
            words: &mut self.words[range.start * stride..range.end * stride],
        }
    }

    /// How codes stand for integers.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns, K.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All words, `[rows, planes, W]`.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The words for the packers of this crate, which keep tail bits zero.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }
}

impl<'a> PackedRef<'a> {
    /// Borrows words that are in the canonical form.
    ///
    /// Errors if the length is not rows x planes x ceil(cols / 32), if a bit behind `cols` is set, or
    /// if a ternary code is 0b01, which no integer has.
    pub fn new(encoding: Encoding, rows: usize, cols: usize, data: &'a [u32]) -> Result<Self> {
        let (planes, w) = (encoding.planes(), words(cols));
        let len = elements("rows x cols", &[rows, planes, w])?;
        check_len("words", data.len(), len, "rows x planes x ceil(cols / 32)")?;
        let view = PackedRef {
            encoding,
            rows,
            cols,
            words: data,
        };
        if w > 0 && !cols.is_multiple_of(WORD_BITS) {
            let tail = !0u32 << (cols % WORD_BITS);
            if let Some(i) = data.chunks_exact(w).position(|p| p[w - 1] & tail != 0) {
                return Err(Error::argument(
                    "words",
                    format_args!("with bits set behind column {cols} in row {}", i / planes),
                    "zero bits there",
                ));
            }
        }
        if encoding == Encoding::Ternary && w > 0 {
            let foreign = |row: &[u32]| row[..w].iter().zip(&row[w..]).any(|(s, z)| s & !z != 0);
            if let Some(row) = data.chunks_exact(2 * w).position(foreign) {
                return Err(Error::argument(
                    "words",
                    format_args!("with a ternary code 0b01 in row {row}"),
                    "sign bit 0 wherever the nonzero bit is 0",
                ));
            }
        }
        Ok(view)
    }

    /// Words that a packer of this crate has just written, which needs no check.
    pub(crate) fn packed_here(
        encoding: Encoding,
        rows: usize,
        cols: usize,
        words: &'a [u32],
    ) -> Self {
        debug_assert!(PackedRef::new(encoding, rows, cols, words).is_ok());
        PackedRef {
            encoding,
            rows,
            cols,
            words,
        }
    }

    /// The integers, `[rows, cols]` row-major.
    pub fn unpack(&self) -> Vec<i32> {
        let (planes, w) = (self.encoding.planes(), words(self.cols));
        let mut values = Vec::with_capacity(self.rows * self.cols);
        for row in 0..self.rows {
            for k in 0..self.cols {
                let code = (0..planes).fold(0u8, |code, p| {
                    let word = self.words[(row * planes + p) * w + k / WORD_BITS];
                    code | ((word >> (k % WORD_BITS) & 1) as u8) << p
                });
                let value = self.encoding.decode(code);
                values.push(value.expect("codes are checked when a PackedRef is made"));
            }
        }
        values
    }

    /// The rows `range` alone. Panics if they are not all there, as slices do.
    pub fn slice_rows(&self, range: std::ops::Range<usize>) -> PackedRef<'a> {
        let stride = self.row_words();
        PackedRef {
            rows: range.len(),
            words: &self.words[range.start * stride..range.end * stride],
            ..*self
        }
    }

    /// Words in a row: planes x W.
    pub fn row_words(&self) -> usize {
        self.encoding.planes() * words(self.cols)
    }

    /// How codes stand for integers.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns, K.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All words, `[rows, planes, W]`.
    pub fn words(&self) -> &'a [u32] {
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encodings() -> impl Strategy<Value = Encoding> {
        prop_oneof![
            Just(Encoding::Bipolar),
            Just(Encoding::Ternary),
            (1usize..=8).prop_map(|b| Encoding::unsigned(b).unwrap()),
            (1usize..=8).prop_map(|b| Encoding::signed(b).unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn integers_survive_packing(e in encodings(), rows in 0usize..4, cols in 0usize..70, seed: u64) {
            let codes: Vec<u8> = (0..=255).filter(|&c| e.decode(c).is_some()).collect();
            let values: Vec<i32> = (0..rows * cols)
                .map(|i| (seed ^ i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40)
                .map(|r| e.decode(codes[r as usize % codes.len()]).unwrap())
                .collect();
            let packed = PackedMatrix::pack(e, rows, cols, &values).unwrap();
            prop_assert_eq!(packed.unpack(), values);
            let again = PackedMatrix::from_words(e, rows, cols, packed.words().to_vec()).unwrap();
            prop_assert_eq!(again, packed);
        }
    }

    #[test]
    fn words_out_of_form_are_refused() {
        let said =
            |e, cols, words: &[u32]| PackedRef::new(e, 1, cols, words).unwrap_err().to_string();
        assert!(said(Encoding::Bipolar, 3, &[8]).contains("behind column 3 in row 0"));
        assert!(said(Encoding::Bipolar, 33, &[0]).contains("1 elements long; expected 2"));
        assert!(said(Encoding::Ternary, 3, &[1, 2]).contains("0b01"));
        let said = PackedMatrix::pack(Encoding::Bipolar, 1, 2, &[1, 0]).unwrap_err();
        assert_eq!(
            said.to_string(),
            "values is 0 at [0, 1]; expected an integer of bipolar"
        );
        assert!(PackedMatrix::zeros(Encoding::Bipolar, usize::MAX, usize::MAX).is_err());
    }
}
