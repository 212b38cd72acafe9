//! The rows of taps of a block of output pixels, for products that take rows.
//!
//! Bits and tables are found where they lie instead (see `bitlines`, `tablelines`). Bytes are gathered, which takes 5 % of a
//! layer of 256 channels: a kernel that went from tap to tap would leave its sums in memory between them, for about as much.

use std::ops::Range;

use bytemuck::Pod;

use super::gather::{self, BitLayout, Layout};
use super::linebuffer;
use super::product::Product;
use crate::bits::{ByteRef, Encoding, PackedRef};
use crate::kernels::Kernels;
use crate::ops::gemm::Activations;
use crate::shape::words;

impl Product {
    /// The channels `group` of all taps of output pixels `block`, a row each, in the form that `input` has.
    pub(super) fn gather<'a>(
        &self,
        input: Activations<'_>,
        group: Range<usize>,
        block: Range<usize>,
        out: &'a mut [i32],
    ) -> Activations<'a> {
        let (rows, cols, count) = (&self.rows, &self.cols, block.len());
        match input {
            Activations::Bytes(bytes) => {
                let layout = Layout {
                    pixel: self.channels,
                    planes: 1,
                    plane: 0,
                    first: group.start,
                    tap: group.len(),
                    out_plane: self.k,
                    origin: 0,
                };
                let out = &mut bytemuck::cast_slice_mut(out)[..count * self.k];
                gather::elements(rows, cols, &layout, bytes.data(), block, out);
                let rows = ByteRef::gathered_here(bytes.encoding(), count, self.k, out);
                Activations::Bytes(rows)
            }
            Activations::Planes(planes) => {
                let encoding = planes.encoding();
                let out_plane = words(self.k);
                let len = count * encoding.planes() * out_plane;
                let out = &mut bytemuck::cast_slice_mut(out)[..len];
                let whole =
                    |bits| group.start.is_multiple_of(bits) && group.len().is_multiple_of(bits);
                if whole(32) {
                    self.gather_units::<u32>(planes, group, block, out);
                } else if whole(16) {
                    self.gather_units::<u16>(planes, group, block, out);
                } else if whole(8) {
                    self.gather_units::<u8>(planes, group, block, out);
                } else {
                    let layout = BitLayout {
                        channels: self.channels,
                        planes: encoding.planes(),
                        group,
                    };
                    gather::bits(rows, cols, &layout, planes.words(), block, out);
                }
                Activations::Planes(PackedRef::packed_here(encoding, count, self.k, out))
            }
        }
    }

    /// The channels `group` of all taps of planes, in whole units of `T`: words are parts that lie in order.
    fn gather_units<T: Pod + Default>(
        &self,
        planes: PackedRef<'_>,
        group: Range<usize>,
        block: Range<usize>,
        out: &mut [u32],
    ) {
        let (bits, parts) = (8 * size_of::<T>(), size_of::<u32>() / size_of::<T>());
        let (count, plane) = (planes.encoding().planes(), words(self.channels) * parts);
        let layout = Layout {
            pixel: count * plane,
            planes: count,
            plane,
            first: group.start / bits,
            tap: group.len() / bits,
            out_plane: words(self.k) * parts,
            origin: 0,
        };
        let (input, out) = (
            bytemuck::cast_slice(planes.words()),
            bytemuck::cast_slice_mut(out),
        );
        gather::elements::<T>(&self.rows, &self.cols, &layout, input, block, out);
    }

    /// Bytes that the pixels take which a block of `rows` output pixels reads, if they are made bytes before they are gathered:
    /// once for all taps, for a method that wants bytes of planes.
    pub(super) fn unpacked_bytes(&self, rows: usize) -> usize {
        let taps = self.rows.taps.len() * self.cols.taps.len();
        // Outputs far apart read less than lines have.
        let near = self.rows.step * self.cols.step < taps;
        // Phases of a transposed convolution may have no output.
        if !self.takes_bytes()
            || self.activation == Encoding::Bipolar
            || !near
            || self.pixels() == 0
        {
            return 0;
        }
        let lines = rows.saturating_sub(1).div_ceil(self.cols.count()) + 1;
        let lines = linebuffer::lines(&self.rows, lines).min(self.rows.input);
        lines * self.cols.input * self.channels
    }

    /// Room for those, and the rest of `scratch`.
    pub(super) fn split_unpacked<'a>(
        &self,
        scratch: &'a mut [i32],
        rows: usize,
    ) -> (&'a mut [u8], &'a mut [i32]) {
        let (unpacked, rest) = scratch.split_at_mut(self.unpacked_bytes(rows).div_ceil(4));
        (bytemuck::cast_slice_mut(unpacked), rest)
    }

    /// All channels of all taps of output pixels `block`, a row of bytes each, by way of `unpacked`.
    pub(super) fn unpack<'a>(
        &self,
        kernels: &Kernels,
        planes: PackedRef<'_>,
        block: Range<usize>,
        unpacked: &mut [u8],
        out: &'a mut [i32],
    ) -> Activations<'a> {
        let (count, encoding) = (block.len(), planes.encoding());
        let out = &mut bytemuck::cast_slice_mut(out)[..count * self.k];
        let (mut first, mut rest) = (block.start, &mut *out);
        for part in linebuffer::parts(&self.rows, &self.cols, block) {
            let lines = part.input(&self.rows);
            let pixels = lines.start * self.cols.input..lines.end * self.cols.input;
            let layout = Layout {
                pixel: self.channels,
                planes: 1,
                plane: 0,
                first: 0,
                tap: self.channels,
                out_plane: self.k,
                origin: pixels.start,
            };
            let bytes = &mut unpacked[..pixels.len() * self.channels];
            kernels.unpack(planes.slice_rows(pixels), self.channels, bytes);
            let (some, behind) = rest.split_at_mut(part.count * self.k);
            let block = first..first + part.count;
            gather::elements(&self.rows, &self.cols, &layout, bytes, block, some);
            (first, rest) = (first + part.count, behind);
        }
        Activations::Bytes(ByteRef::gathered_here(encoding, count, self.k, out))
    }
}
