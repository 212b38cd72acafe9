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
use super::linebuffer::{self, LineBuffer};
use super::parts::Parts;
use crate::bits::PackedRef;
use crate::error::Result;
use crate::kernels::bounds::Sequence;
use crate::kernels::{Kernels, LinePixels, LineRows, LineWeights, bit_passes};
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
    lines: LineBuffer,
    channels: usize,
    o: usize,
    pad: u8,
    /// Bytes of sums in a block.
    sums: usize,
}

impl Lines {
    /// Whether the product of the taps that `rows` and `cols` name can be done so.
    pub(super) fn serves(parts: &Parts<'_>, rows: &Axis, cols: &Axis) -> bool {
        let taps = rows.taps.len().min(cols.taps.len());
        let neighbours = cols.tap_step == 1 || cols.taps.len() == 1;
        parts.groups == 1
            && taps > 0
            && neighbours
            && LineWeights::serves(parts.filters.encoding())
            && LineBuffer::new(rows, cols, parts.channels).least() <= LIMIT
    }

    /// Whether that is faster than `way`, which gathered rows would be multiplied in.
    pub(super) fn is_worth(parts: &Parts<'_>, cols: &Axis, way: Way) -> bool {
        let (o, k) = (parts.filters.rows(), parts.filters.cols());
        if o * k > WORTH_BYTES || cols.count() < 4 {
            return false;
        }
        let passes = bit_passes(parts.filters.encoding(), parts.activation);
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
        let mut weights = LineWeights::new(filters, rows.taps.len(), parts.activation, kernel)?;
        parts.subtract_zero(filters, weights.start_mut());
        let pad = match parts.pad {
            Pad::Zero => parts.zero_point,
            Pad::PlusOne => 1,
            Pad::MinusOne => -1,
        };
        Ok(Lines {
            pad: weights.line_bytes().of(pad),
            lines: LineBuffer::new(rows, cols, parts.channels),
            channels: parts.channels,
            o: filters.rows(),
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
        self.lines.fit(TAPS) * cols.count()
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
        let lines = pixels.saturating_sub(1).div_ceil(cols.count()) + 1;
        // Behind the last line there are the bytes that meet no weights.
        (self.lines.len(lines, 1) + 4).div_ceil(4)
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
        let buffer: &mut [u8] = bytemuck::cast_slice_mut(scratch);
        let (pitch, mut rest) = (self.lines.pitch(cols), out);
        let line = self.lines.tap(rows, cols, [1, 0]);
        for part in linebuffer::parts(rows, cols, block) {
            let axes = [rows, cols];
            self.lines
                .fill(axes, &part, self.pad, buffer, |pixels, out| {
                    self.bytes(kernels, input.slice_rows(pixels), out);
                });
            for (y, xs) in part.lines(cols).enumerate() {
                let (some, behind) = rest.split_at(xs.len(), self.o);
                let bytes = &buffer[self.lines.at(cols, y, xs.start)..];
                let pixels = LinePixels { bytes, pitch, line };
                kernels.line_kernel().run(&self.weights, pixels, some);
                rest = behind;
            }
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
