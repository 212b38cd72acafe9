//! Products of taps of bits that are read where lines of the image hold them.
//!
//! The bit GEMM takes its rows by two tables (see `kernels::bitrows`): where in a buffer of lines the first tap of each
//! output pixel lies, and how far behind it all words are. No row of taps is put together. The pad is zero bits, as in
//! gathered rows, so that weights and corrections at the border are those of gathered rows too.
//!
//! It serves taps of whole words: C / groups a multiple of 32. Layers of 3 x 3 filters are faster than by gathered rows by
//! 44 % with 32 channels, 16 % with 64, 10 % with 128, 5 % with 256 and 2 % with 512 (1-bit codes on AVX-512, Sapphire
//! Rapids), by 12 % down to nothing on AVX2.

use std::ops::Range;

use super::BLOCK_ROWS;
use super::geometry::Axis;
use super::linebuffer::{self, LineBuffer};
use crate::bits::{Encoding, PackedRef};
use crate::kernels::BitRows;
use crate::ops::gemm::method::Method;
use crate::shape::{WORD_BITS, words};

/// Words of lines in a block, at most: half of a small second-level cache.
const LIMIT: usize = 32 * 1024;

/// Where taps of bits lie in lines.
pub(super) struct BitLines {
    lines: LineBuffer,
    encoding: Encoding,
    /// Words of a plane of a pixel, and of a group of its channels.
    plane: usize,
    group: usize,
    /// Where the words of a plane of a row lie.
    columns: Vec<u32>,
}

/// The rows of a block of output pixels.
pub(super) struct Taps<'a> {
    of: &'a BitLines,
    words: &'a [u32],
    starts: &'a [u32],
}

impl Taps<'_> {
    /// The channels of group `group` of all rows.
    pub(super) fn group(&self, group: usize) -> BitRows<'_> {
        let of = self.of;
        let words = &self.words[group * of.group..];
        BitRows::indirect(of.encoding, words, self.starts, of.plane, &of.columns)
    }
}

impl BitLines {
    /// Lines for the products by `methods`, one a group, of the taps that `rows` and `cols` name, if they serve.
    pub(super) fn new(
        methods: &[Method],
        encoding: Encoding,
        channels: usize,
        rows: &Axis,
        cols: &Axis,
    ) -> Option<Self> {
        let (count, groups) = (rows.taps.len() * cols.taps.len(), methods.len());
        let group = channels / groups;
        let none = count < 2 || rows.count() * cols.count() == 0;
        if none || !group.is_multiple_of(WORD_BITS) || !methods[0].is_bits() {
            return None;
        }
        let plane = words(channels);
        let lines = LineBuffer::new(rows, cols, encoding.planes() * plane);
        // Outputs far apart read more of lines than they have taps.
        let gathered = BLOCK_ROWS * count * encoding.planes() * plane;
        if lines.most([rows, cols], BLOCK_ROWS) > gathered.min(LIMIT) {
            return None;
        }
        let [kh, kw] = [rows.taps.len(), cols.taps.len()];
        let all = || (0..kh).flat_map(|y| (0..kw).map(move |x| [y, x]));
        let at = |tap| lines.tap(rows, cols, tap) as u32;
        let of_tap = |tap| (0..words(group) as u32).map(move |word| tap + word);
        Some(BitLines {
            columns: all().flat_map(|tap| of_tap(at(tap))).collect(),
            lines,
            encoding,
            plane,
            group: words(group),
        })
    }

    /// Words of lines that a block of `pixels` output pixels reads, at most.
    pub(super) fn len(&self, axes: [&Axis; 2], pixels: usize) -> usize {
        self.lines.most(axes, pixels)
    }

    /// Elements of scratch for a block of `pixels` output pixels.
    pub(super) fn scratch(&self, axes: [&Axis; 2], pixels: usize) -> usize {
        self.len(axes, pixels) + pixels
    }

    /// The rows of output pixels `block`, numbered across the images of `input`.
    pub(super) fn rows<'a>(
        &'a self,
        axes: [&Axis; 2],
        input: PackedRef<'_>,
        block: Range<usize>,
        scratch: &'a mut [i32],
    ) -> Taps<'a> {
        let len = self.len(axes, block.len());
        let (words, scratch) = scratch.split_at_mut(len);
        let starts = &mut scratch[..block.len()];
        let words: &mut [u32] = bytemuck::cast_slice_mut(words);
        let starts: &mut [u32] = bytemuck::cast_slice_mut(starts);
        let row = input.row_words();
        let (mut used, mut first) = (0, 0);
        for part in linebuffer::parts(axes[0], axes[1], block) {
            let buffer = &mut words[used..];
            self.lines.fill(axes, &part, 0, buffer, |pixels, out| {
                out.copy_from_slice(&input.words()[pixels.start * row..pixels.end * row]);
            });
            let part_starts = &mut starts[first..first + part.count];
            self.lines.starts(axes[1], &part, used, part_starts);
            used += self.lines.part_len(&part);
            first += part.count;
        }
        Taps {
            of: self,
            words,
            starts,
        }
    }
}
