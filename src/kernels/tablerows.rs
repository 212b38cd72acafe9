//! Rows of tables as the table GEMM reads them: back to back, or by an indirection table.
//!
//! A row of a convolution is its taps, those of one output pixel. Tables are made once of each pixel of the input, and two
//! short lists say where a row finds those of its taps: as for bits (see `bitrows`), but pixel by pixel.

/// Rows of tables of one block of K.
#[derive(Clone, Copy)]
pub(crate) struct TableRows<'a> {
    /// Pixels of tables, back to back.
    tables: &'a [u8],
    /// Bytes of a pixel.
    stride: usize,
    rows: usize,
    /// The pixel of the first tap of each row; none if row i has the tables of pixel i alone.
    starts: Option<&'a [u32]>,
    /// How many pixels behind it those of each tap are.
    taps: &'a [u32],
}

impl<'a> TableRows<'a> {
    /// A row for each pixel of `stride` bytes in `tables`.
    pub(crate) fn pixels(tables: &'a [u8], stride: usize) -> Self {
        TableRows {
            tables,
            stride,
            rows: tables.len().checked_div(stride).unwrap_or(usize::MAX),
            starts: None,
            taps: &[0],
        }
    }

    /// A row from each of `starts` on, with the tables of `taps` behind it. Panics if one is outside of `tables`.
    pub(crate) fn indirect(
        tables: &'a [u8],
        stride: usize,
        starts: &'a [u32],
        taps: &'a [u32],
    ) -> Self {
        let last = |of: &[u32]| of.iter().fold(0, |last, &at| last.max(at)) as usize;
        let most = last(starts) + last(taps);
        let none = starts.is_empty() || taps.is_empty() || stride == 0;
        assert!(none || most < tables.len() / stride, "tables of the rows");
        TableRows {
            tables,
            stride,
            rows: starts.len(),
            starts: Some(starts),
            taps,
        }
    }

    /// The tables, the bytes of a pixel, where rows start (null if each is a pixel), and the taps.
    pub(super) fn parts(&self) -> (*const u8, usize, *const u32, &'a [u32]) {
        let starts = self.starts.map_or(std::ptr::null(), <[u32]>::as_ptr);
        (self.tables.as_ptr(), self.stride, starts, self.taps)
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }
}
