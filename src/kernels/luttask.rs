//! What the table GEMM is to do: the tables of some rows, and one panel of weights times them.

use super::sink::Sink;

/// Rows of codes of which tables are to be made.
#[derive(Clone, Copy)]
pub(crate) struct BuildTask {
    /// Rows of bytes, `stride` apart, each readable for QUAD x quads x GROUP bytes.
    pub(crate) codes: *const u8,
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    /// What is added to each byte.
    pub(crate) base: u8,
    /// Tables of a row, in fours.
    pub(crate) quads: usize,
    /// Rows of tables, `table_stride` bytes apart.
    pub(crate) tables: *mut u8,
    pub(crate) table_stride: usize,
}

/// One panel of weights times `rows` rows of tables, over one block of K.
#[derive(Clone, Copy)]
pub(crate) struct LutTask {
    /// Indices `[planes, taps, groups / SHARE, vectors, LANES]`, each as large as an entry, in a block of at most
    /// [`BLOCK_BYTES`](super::lutgemm::BLOCK_BYTES) for each plane.
    pub(crate) indices: *const u8,
    /// Bits of a weight.
    pub(crate) planes: usize,
    pub(crate) vectors: usize,
    /// Pixels of tables, `table_stride` bytes apart.
    pub(crate) tables: *const u8,
    pub(crate) table_stride: usize,
    /// The pixel that each row starts at; null if row i starts at pixel i.
    pub(crate) starts: *const u32,
    /// How many pixels behind its start a row finds each of its taps, and how many of them there are.
    pub(crate) tap_pixels: *const u32,
    pub(crate) taps: usize,
    /// Groups of a tap, a multiple of SHARE; a pixel has tables for all of them.
    pub(crate) groups: usize,
    pub(crate) rows: usize,
    /// Lookups after which entries are widened.
    pub(crate) flush: usize,
    /// Whether there is nothing to add to.
    pub(crate) first: bool,
    /// Whether the sums are complete, and go to the sink as results.
    pub(crate) last: bool,
    /// Whether 16 bits hold the sums of all blocks together.
    pub(crate) narrow: bool,
    /// A sum of lookups is worth 2^shift.
    pub(crate) shift: u32,
    /// What is added to each lane, as many as the vectors have bytes.
    pub(crate) start: *const i32,
    /// What is added to each row; null for nothing.
    pub(crate) row_sums: *const i32,
    /// Output channels of this panel, 1 to vectors x LANES.
    pub(crate) lanes: usize,
    pub(crate) sink: Sink,
}

impl LutTask {
    /// The tables of the first tap of `MR` rows from `row` on.
    ///
    /// # Safety
    /// The rows exist, and start at pixels that exist.
    #[inline(always)]
    pub(super) unsafe fn rows_at<const MR: usize>(&self, row: usize) -> [*const u8; MR] {
        let mut rows = [self.tables; MR];
        for (i, at) in rows.iter_mut().enumerate() {
            // SAFETY: there is a start for each row, and each is a pixel of the tables.
            unsafe {
                let pixel = match self.starts.is_null() {
                    true => row + i,
                    false => *self.starts.add(row + i) as usize,
                };
                *at = at.add(pixel * self.table_stride);
            }
        }
        rows
    }

    /// Those of tap `tap` of `rows`.
    ///
    /// # Safety
    /// `rows` are of this task, and have such a tap.
    #[inline(always)]
    pub(super) unsafe fn tap_of<const MR: usize>(
        &self,
        rows: &[*const u8; MR],
        tap: usize,
    ) -> [*const u8; MR] {
        let mut tables = *rows;
        // SAFETY: tap < taps, and each is a pixel of the tables behind the start of every row.
        unsafe {
            let at = *self.tap_pixels.add(tap) as usize * self.table_stride;
            for tables in &mut tables {
                *tables = tables.add(at);
            }
        }
        tables
    }
}
