//! Codes a byte each: what pixels are, and what products of 8-bit activations read.

use super::Encoding;
use crate::error::{Error, Result};
use crate::shape::{check_len, elements};

/// A matrix of codes, a byte each, row-major, borrowed: unsigned codes as `u8`, signed as two's complement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteRef<'a> {
    encoding: Encoding,
    rows: usize,
    cols: usize,
    data: &'a [u8],
}

impl<'a> ByteRef<'a> {
    /// Bytes as codes of `encoding`, unsigned or signed.
    ///
    /// Errors if the length is not rows x cols, if the encoding is neither unsigned nor signed, or if a byte
    /// is outside of it; eight bits hold every byte, so those are not looked at.
    pub fn new(encoding: Encoding, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self> {
        check_len(
            "bytes",
            data.len(),
            elements("rows x cols", &[rows, cols])?,
            "rows x cols",
        )?;
        let outside = |value: i32| value < encoding.min() || value > encoding.max();
        let bad = match encoding {
            Encoding::Unsigned(b) if b.get() == 8 => None,
            Encoding::Signed(b) if b.get() == 8 => None,
            Encoding::Unsigned(_) => data.iter().position(|&b| outside(i32::from(b))),
            Encoding::Signed(_) => data.iter().position(|&b| outside(i32::from(b as i8))),
            _ => {
                return Err(Error::argument(
                    "encoding",
                    encoding,
                    "u1..u8 or s1..s8 for bytes",
                ));
            }
        };
        if let Some(at) = bad {
            let value = format!("{} at {at}", data[at]);
            return Err(Error::argument(
                "bytes",
                value,
                format_args!("codes of {encoding}"),
            ));
        }
        Ok(ByteRef {
            encoding,
            rows,
            cols,
            data,
        })
    }

    /// Bytes that were copied here from codes of `encoding`, and zeros, which need no check.
    pub(crate) fn gathered_here(
        encoding: Encoding,
        rows: usize,
        cols: usize,
        data: &'a [u8],
    ) -> Self {
        debug_assert!(ByteRef::new(encoding, rows, cols, data).is_ok());
        ByteRef {
            encoding,
            rows,
            cols,
            data,
        }
    }

    /// The rows `range` alone. Panics if they are not all there, as slices do.
    pub fn slice_rows(&self, range: std::ops::Range<usize>) -> ByteRef<'a> {
        ByteRef {
            rows: range.len(),
            data: &self.data[range.start * self.cols..range.end * self.cols],
            ..*self
        }
    }

    /// How bytes stand for integers.
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

    /// The bytes, `[rows, cols]`.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_outside_of_the_encoding_are_refused() {
        let said = |e: &str, data: &[u8]| {
            let e = e.parse().unwrap();
            ByteRef::new(e, 1, data.len(), data)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(said("u2", &[3, 4]), "bytes is 4 at 1; expected codes of u2");
        assert_eq!(
            said("s4", &[0xF8, 8]),
            "bytes is 8 at 1; expected codes of s4"
        );
        assert!(said("bipolar", &[1]).starts_with("encoding is bipolar"));
        let e = "s8".parse().unwrap();
        assert!(ByteRef::new(e, 2, 2, &[0; 5]).is_err());
        assert_eq!(
            ByteRef::new(e, 2, 2, &[1, 2, 3, 4])
                .unwrap()
                .slice_rows(1..2)
                .data(),
            [3, 4]
        );
    }
}
