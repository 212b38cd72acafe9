//! Products of taps that are read where lines of the image hold them.
//!
//! The lines that a block of output pixels reads are copied, with the pad around them, or unpacked from planes, into a
//! buffer in the cache: each code once, where gathered rows hold it once for each tap. The kernel then walks the lines
//! (see `kernels::linegemm`). Any activations become bytes, and any pad is a byte among them, so that no sum needs a
//! correction at the border.
//!
//! It serves filters that are signed bytes, one group, and taps that are neighbours along a row. It is worth it where there
//! are few columns or few channels of the output, of which gathering is a large part; where bit-serial passes cost
//! more than bytes; and where the weights, a byte each, are few.

use std::ops::Range;

use super::geometry::{Axis, Pad};
use super::parts::Parts;
use crate::bits::PackedRef;
use crate::error::Result;
use crate::kernels::bounds::Sequence;
use crate::kernels::{Kernels, LinePixels, LineRows, LineWeights};
use crate::ops::gemm::Activations;
use crate::ops::gemm::method::Way;

/// Bytes of lines that one line of the output may read: beside its sums they stay in the second-level cache.
const LIMIT: usize = 256 * 1024;

/// Bytes of filters for which the kernel is worth more than one that gathers rows, and keeps weights in fewer bits.
const WORTH_BYTES: usize = 64 * 1024;

/// Channels of a tap, at most, whose gathering as bits costs more than their products.
const SHORT: usize = 16;

/// Bytes of sums in a block, where lines are copied: they stay in the first-level cache.
const COPIED: usize = 32 * 1024;

/// The same where lines are unpacked, which blocks of several lines of the output share.
const UNPACKED: usize = 64 * 1024;

/// Bytes of lines in a block that leaves no sums.
const TAPS: usize = 32 * 1024;

/// Filters for the line kernel, and where its lines lie.
pub(super) struct Lines {
    weights: LineWeights,
    channels: usize,
    o: usize,
    pad: u8,
    /// Lines that a kernel spans, those between its taps included.
    span: usize,
    /// Lines of the buffer from one line of the output to the next.
    advance: usize,
    /// Bytes of a line of the buffer.
    line: usize,
    /// Bytes of sums in a block.
    sums: usize,
}

impl Lines {
    /// Whether the product of the taps that `rows` and `cols` name can be done so.
    pub(super) fn serves(parts: &Parts<'_>, rows: &Axis, cols: &Axis) -> bool {
        let taps = rows.taps.len().min(cols.taps.len());
        let neighbours = cols.tap_step == 1 || cols.taps.len() == 1;
        let line = width(cols).saturating_mul(parts.channels);
        parts.groups == 1
            && taps > 0
            && neighbours
            && LineWeights::serves(parts.filters.encoding())
            && span(rows).saturating_mul(line) <= LIMIT
    }

    /// Whether that is faster than `way`, which gathered rows would be multiplied in.
    pub(super) fn is_worth(parts: &Parts<'_>, cols: &Axis, way: Way) -> bool {
        let (o, k) = (parts.filters.rows(), parts.filters.cols());
        if o * k > WORTH_BYTES || cols.count() < 4 {
            return false;
        }
        let passes = parts.filters.encoding().planes() * parts.activation.planes();
        let kernel = parts.kernels.line_kernel();
        match way {
            Way::Bytes => true,
            // Short taps are gathered bit by bit or nearly so.
            Way::Bits if parts.channels <= SHORT => true,
            Way::Bits => passes >= kernel.worth_passes && o <= kernel.worth_channels,
            Way::Tables => false,
        }
    }

    /// Lays out `filters` `[O, taps C]`.
    pub(super) fn new(
        parts: &Parts<'_>,
        filters: PackedRef<'_>,
        rows: &Axis,
        cols: &Axis,
    ) -> Result<Self> {
        let kernel = parts.kernels.line_kernel();
        let weights = LineWeights::new(filters, rows.taps.len(), parts.activation, kernel)?;
        let pad = match parts.pad {
            Pad::Zero => 0,
            Pad::PlusOne => 1,
            Pad::MinusOne => -1,
        };
        let span = span(rows);
        Ok(Lines {
            pad: weights.line_bytes().of(pad),
            channels: parts.channels,
            o: filters.rows(),
            span,
            advance: span.min(rows.step),
            line: width(cols) * parts.channels,
            sums: match parts.activation.planes() {
                5.. => COPIED,
                _ => UNPACKED,
            },
            weights,
        })
    }

    /// Output pixels of a block that leaves codes: the taps of these lines stay in the first-level cache, and few of them
    /// are filled once more for the next block.
    pub(super) fn block_of_codes(&self, cols: &Axis) -> usize {
        let fit = (TAPS / self.line).saturating_sub(self.span) / self.advance;
        (fit + 1) * cols.count()
    }

    /// Output pixels of a block that leaves sums, whole lines of them if those are few enough, else a multiple of a tile.
    pub(super) fn block(&self, kernels: &Kernels, cols: &Axis) -> usize {
        let (fit, line) = (self.sums / (4 * self.o), cols.count());
        let tile = self.weights.tile(kernels.line_kernel())[0];
        match fit / line {
            0 => (fit / tile).max(1) * tile,
            lines => lines * line,
        }
    }

    /// Elements of scratch for a block of `pixels` output pixels.
    pub(super) fn scratch(&self, cols: &Axis, pixels: usize) -> usize {
        // Pixels of a block may begin and end inside of a line.
        let lines = (pixels.saturating_sub(1)).div_ceil(cols.count()) * self.advance + self.span;
        // Behind the last line there are the bytes that meet no weights.
        (lines * self.line + 4).div_ceil(4)
    }

    /// What `out` says of output pixels `block`, numbered across the images of `input`.
    pub(super) fn run(
        &self,
        kernels: &Kernels,
        [rows, cols]: [&Axis; 2],
        input: Activations<'_>,
        block: Range<usize>,
        out: LineRows<'_>,
        scratch: &mut [i32],
    ) {
        let (height, width) = (rows.count(), cols.count());
        let buffer: &mut [u8] = bytemuck::cast_slice_mut(scratch);
        let (mut first, mut rest) = (block.start, out);
        while first < block.end {
            // What the block has of one image.
            let image = first / (height * width);
            let end = block.end.min((image + 1) * height * width);
            let ys = first / width % height..(end - 1) / width % height + 1;
            let from = first % width;
            let xs = match ys.len() {
                1 => from..from + end - first,
                _ => 0..width,
            };
            self.fill(kernels, [rows, cols], input, image, &ys, &xs, buffer);
            for (i, _) in ys.enumerate() {
                let start = if i == 0 { from } else { 0 };
                let count = (width - start).min(end - first);
                let (some, behind) = rest.split_at(count, self.o);
                let pitch = cols.step * self.channels;
                let at = i * self.advance * self.line + start * pitch;
                let pixels = LinePixels {
                    bytes: &buffer[at..],
                    pitch,
                    line: rows.tap_step * self.line,
                };
                kernels.line_kernel().run(&self.weights, pixels, some);
                (first, rest) = (first + count, behind);
            }
        }
    }

    /// Fills the buffer with the lines that outputs `ys` of an image read, as far as outputs `xs` read them.
    #[allow(clippy::too_many_arguments)]
    fn fill(
        &self,
        kernels: &Kernels,
        [rows, cols]: [&Axis; 2],
        input: Activations<'_>,
        image: usize,
        ys: &Range<usize>,
        xs: &Range<usize>,
        buffer: &mut [u8],
    ) {
        let channels = self.channels;
        // Pixels of the buffer that are read, and those of them that are inside of the image.
        let seen = xs.start * cols.step..(xs.end - 1) * cols.step + cols.taps.len();
        let column = |pixel: usize| cols.from(0) + pixel as isize;
        let inside = |pixel: usize| column(pixel).clamp(0, cols.input as isize) as usize;
        let there = inside(seen.start)..inside(seen.end);
        let before = there.start as isize - column(seen.start);
        let lines = (ys.len() - 1) * self.advance + self.span;
        for (i, line) in buffer.chunks_exact_mut(self.line).take(lines).enumerate() {
            // Lines between the taps of one line of the output and those of the next are left out.
            let (y, tap) = match rows.step > self.span {
                true => (i / self.span, i % self.span),
                false => (0, i),
            };
            let y = rows.from(ys.start + y) + tap as isize;
            let line = &mut line[seen.start * channels..seen.end * channels];
            let outside = y < 0 || y >= rows.input as isize || there.is_empty();
            if outside {
                line.fill(self.pad);
                continue;
            }
            let from = (image * rows.input + y as usize) * cols.input;
            let pixels = from + there.start..from + there.end;
            let (left, line) = line.split_at_mut(before as usize * channels);
            let (codes, right) = line.split_at_mut(pixels.len() * channels);
            left.fill(self.pad);
            right.fill(self.pad);
            self.bytes(kernels, input.slice_rows(pixels), codes);
        }
    }

    /// Codes as the bytes that the kernel takes.
    fn bytes(&self, kernels: &Kernels, codes: Activations<'_>, out: &mut [u8]) {
        match codes {
            Activations::Bytes(bytes) => out.copy_from_slice(bytes.data()),
            Activations::Planes(planes) => kernels.unpack(planes, self.channels, out),
        }
        let form = self.weights.line_bytes();
        if form.factor != 1 {
            for byte in out.iter_mut() {
                *byte = byte.wrapping_mul(form.factor).wrapping_add(form.offset);
            }
        } else if form.offset != 0 {
            for byte in out.iter_mut() {
                *byte = byte.wrapping_add(form.offset);
            }
        }
    }

    /// Bytes of the weights as laid out.
    pub(super) fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// What the inner loop does.
    pub(super) fn sequence(&self) -> Sequence {
        self.weights.sequence()
    }

    /// What runs, for people.
    pub(super) fn describe(&self, kernels: &Kernels) -> String {
        let (isa, kernel) = (kernels.isa(), kernels.line_kernel());
        let [mr, nr] = self.weights.tile(kernel);
        format!(
            "{isa}: {}, tile {mr}x{nr}, taps in lines of bytes",
            kernel.name
        )
    }
}

/// Lines that the taps of an output span.
fn span(rows: &Axis) -> usize {
    (rows.taps.len() - 1) * rows.tap_step + 1
}

/// Pixels that the taps of all outputs span.
fn width(cols: &Axis) -> usize {
    (cols.count() - 1) * cols.step + cols.taps.len()
}
