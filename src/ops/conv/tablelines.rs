//! Products by table look-up, with tables that are made once of each pixel and not of each tap that reads it.
//!
//! The lines of the image that a block of output pixels reads are made bytes, with their pad, and the bytes are made tables,
//! some channels at a time. The table GEMM then takes its rows by two lists (see `kernels::tablerows`): where the
//! first tap of each output pixel lies, and how far behind it the others are. The pad is zero bits, as in gathered rows, so
//! that corrections at the border are those of gathered rows too.
//!
//! Gathered rows, of which tables were made tap by tap: 148 MAC a cycle for 256 to 256 channels at 14 x 14 and u4, where
//! these take 211; 181 and 226 for 512 to 512 at 7 x 7 (Zen 5).

use std::ops::Range;

use super::geometry::Axis;
use super::linebuffer::{self, LineBuffer};
use super::parts::{Parts, Route};
use crate::bits::PackedRef;
use crate::error::Result;
use crate::kernels::bounds::Sequence;
use crate::kernels::{Kernels, LutKernel, LutWeights, MatMut, Out, QUAD, TableRows};
use crate::ops::gemm::Activations;
use crate::ops::gemm::method::{Way, pad_rows};
use crate::ops::gemm::tables::{LINE, Tables};
use crate::ops::par::Par;

/// Bytes of the tables, and of the sums, of a block: a quarter of a second-level cache of 1 MiB.
const LIMIT: usize = 256 * 1024;

/// Where tables lie in lines, and the weights that read them.
pub(super) struct TableLines {
    kernels: &'static Kernels,
    tables: Tables,
    o: usize,
    /// Lines of bytes.
    bytes: LineBuffer,
    /// The same lines, a pixel an element.
    pixels: LineBuffer,
    /// How many pixels behind the first tap each one is.
    taps: Vec<u32>,
}

impl TableLines {
    /// The table GEMM for the product of the taps that `rows` and `cols` name, if it serves and is wanted or the fastest.
    pub(super) fn kernel(
        parts: &Parts<'_>,
        rows: &Axis,
        cols: &Axis,
    ) -> Option<&'static LutKernel> {
        let (weight, activation) = (parts.filters.encoding(), parts.activation);
        let kernel = parts.kernels.lut_kernel(weight, activation)?;
        let wanted = match parts.route {
            Some(route) => route == Route::Rows(Way::Tables),
            // Pixels of fewer channels have tables that are mostly empty.
            None => {
                parts.channels >= QUAD * kernel.group
                    && parts.filters.rows() >= kernel.worth_of_taps.channels(weight, activation)
            }
        };
        let taps = rows.taps.len() * cols.taps.len();
        let outputs = rows.count() * cols.count();
        if !wanted || taps < 2 || outputs == 0 || parts.groups > 1 || parts.channels == 0 {
            return None;
        }
        // Outputs far apart read more of lines than they have taps.
        let most = LineBuffer::new(rows, cols, 1).most([rows, cols], outputs);
        let near = most <= outputs.saturating_mul(taps);
        (near && kernel.serves_taps(parts.filters.rows(), taps, activation)).then_some(kernel)
    }

    /// Lays out `filters` `[O, taps C]` for `kernel`, which serves.
    pub(super) fn new(
        kernel: &'static LutKernel,
        parts: &Parts<'_>,
        filters: PackedRef<'_>,
        rows: &Axis,
        cols: &Axis,
    ) -> Result<Self> {
        let [kh, kw] = [rows.taps.len(), cols.taps.len()];
        let mut weights = LutWeights::of_taps(filters, kh * kw, parts.activation, kernel)?;
        parts.subtract_zero(filters, weights.start_mut());
        let pixels = LineBuffer::new(rows, cols, 1);
        let taps = (0..kh).flat_map(|y| (0..kw).map(move |x| [y, x]));
        Ok(TableLines {
            taps: taps.map(|tap| pixels.tap(rows, cols, tap) as u32).collect(),
            bytes: LineBuffer::new(rows, cols, weights.row_bytes()),
            pixels,
            kernels: parts.kernels,
            o: filters.rows(),
            tables: Tables { kernel, weights },
        })
    }

    /// Output pixels of a block: whole lines, one at least.
    pub(super) fn block(&self, cols: &Axis) -> usize {
        let line = cols.count();
        let tables = self.pixels.fit(LIMIT / self.tables.weights.table_bytes());
        tables.min(LIMIT / (4 * self.o * line)).max(1) * line
    }

    /// Rows of a tile.
    pub(super) fn tile(&self) -> usize {
        self.tables.kernel.mr
    }

    /// Bytes, tables and sums of the pixels that a block of `pixels` output pixels reads, each in whole lines of the cache.
    fn sizes(&self, axes: [&Axis; 2], pixels: usize) -> [usize; 3] {
        let (most, weights) = (self.pixels.most(axes, pixels), &self.tables.weights);
        let sums = 4 * usize::from(weights.row_factor() != 0);
        [weights.row_bytes(), weights.table_bytes(), sums]
            .map(|bytes| most.saturating_mul(bytes).next_multiple_of(LINE))
    }

    /// Elements of scratch for a block of `pixels` output pixels.
    pub(super) fn scratch(&self, axes: [&Axis; 2], pixels: usize) -> usize {
        let all: usize = self.sizes(axes, pixels).iter().sum();
        // Where each output pixel starts, and what is added to its sums.
        (all + LINE) / 4 + 2 * pixels
    }

    /// The sums of output pixels `block`, numbered across the images of `input`, into `out`; threads share the channels.
    pub(super) fn run(
        &self,
        axes: [&Axis; 2],
        input: Activations<'_>,
        block: Range<usize>,
        mut out: MatMut<'_, i32>,
        scratch: &mut [i32],
        par: Par<'_>,
    ) {
        let Tables { kernel, weights } = &self.tables;
        let (count, sizes) = (block.len(), self.sizes(axes, block.len()));
        let (starts, scratch) = scratch.split_at_mut(count);
        let (row_sums, scratch) = scratch.split_at_mut(count);
        let scratch: &mut [u8] = bytemuck::cast_slice_mut(scratch);
        let skip = scratch.as_ptr().align_offset(LINE).min(LINE);
        let (tables, scratch) = scratch[skip..].split_at_mut(sizes[1]);
        let (bytes, sums) = scratch.split_at_mut(sizes[0]);
        let starts: &mut [u32] = bytemuck::cast_slice_mut(starts);

        let pixels = self.fill(axes, input, block, bytes, starts);
        let stride = weights.row_bytes();
        let bytes = &bytes[..pixels * stride];
        let row_sums = match weights.row_factor() {
            0 => &[],
            factor => {
                let sums = &mut bytemuck::cast_slice_mut(&mut sums[..4 * pixels]);
                self.kernels
                    .byte_sums(bytes, stride, weights.signed(), factor, sums);
                self.sums_of_taps(sums, starts, row_sums);
                &*row_sums
            }
        };
        let tables = &mut tables[..pixels * weights.table_bytes()];
        let (nr, panels) = (weights.nr(), weights.len());
        let cost = (count * panels * stride / kernel.group * self.taps.len()) as u64;
        let pieces = par.pieces(cost * (kernel.vectors * weights.passes()) as u64);
        for k in 0..weights.blocks() {
            kernel.build(weights, k, bytes, stride, tables);
            let rows = TableRows::indirect(tables, weights.table_bytes(), starts, &self.taps);
            let mut rest = Some(out.reborrow());
            let panels = (0..panels).map_while(|panel| {
                let all = rest.take()?;
                let lanes = nr.min(all.cols());
                let (some, right) = all.split_cols(lanes);
                rest = Some(right);
                Some((panel, some))
            });
            let run = |(panel, out)| kernel.run(weights, panel, k, rows, row_sums, Out::I32(out));
            match pieces {
                1 => panels.for_each(run),
                _ => par.share(panels, &run),
            }
        }
    }

    /// Makes `bytes` the lines that `block` reads and `starts` where its pixels start; how many pixels the lines have.
    fn fill(
        &self,
        axes: [&Axis; 2],
        input: Activations<'_>,
        block: Range<usize>,
        bytes: &mut [u8],
        starts: &mut [u32],
    ) -> usize {
        let stride = self.tables.weights.row_bytes();
        let (mut used, mut first) = (0, 0);
        for part in linebuffer::parts(axes[0], axes[1], block) {
            let lines = &mut bytes[used * stride..];
            self.bytes.fill(axes, &part, 0, lines, |pixels, out| {
                match input.slice_rows(pixels) {
                    Activations::Bytes(bytes) => pad_rows(bytes, stride, out),
                    Activations::Planes(planes) => self.kernels.unpack(planes, stride, out),
                }
            });
            let starts = &mut starts[first..first + part.count];
            self.pixels.starts(axes[1], &part, used, starts);
            used += self.pixels.part_len(&part);
            first += part.count;
        }
        used
    }

    /// The sums of all taps of each output pixel, of sums of pixels.
    fn sums_of_taps(&self, of_pixels: &[i32], starts: &[u32], out: &mut [i32]) {
        for (out, &start) in out.iter_mut().zip(starts) {
            let tap = |&tap: &u32| of_pixels[(start + tap) as usize];
            *out = self.taps.iter().map(tap).fold(0, i32::wrapping_add);
        }
    }

    /// Bytes of the weights as laid out.
    pub(super) fn weight_bytes(&self) -> usize {
        self.tables.weights.bytes()
    }

    /// What the inner loop does, and how often it walks along K.
    pub(super) fn sequence(&self) -> (Sequence, usize) {
        self.tables.sequence()
    }

    /// What runs, for people.
    pub(super) fn describe(&self) -> String {
        format!(
            "{}: {}, taps in lines of tables",
            self.kernels.isa(),
            self.tables.describe()
        )
    }
}
