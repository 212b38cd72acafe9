//! Depthwise convolution: each channel by itself, channels in lanes.

use std::ops::Range;

use super::gather;
use super::geometry::Axis;
use crate::bits::{Encoding, PackedRef};
use crate::kernels::{DepthwiseTask, Kernels, RowTask};
use crate::ops::gemm::Activations;

/// Weights for the depthwise kernel.
pub(super) struct Depthwise {
    /// `[taps, C]`
    weights: Vec<i16>,
    /// What each sum starts from.
    start: Vec<i32>,
}

impl Depthwise {
    /// Lays out `filters` `[C, taps]`.
    pub(super) fn new(filters: PackedRef<'_>, activation: Encoding) -> Self {
        let (channels, taps) = (filters.rows(), filters.cols());
        // A bipolar code c stands for 2 c - 1, and a tap outside for -1 as everywhere.
        let factor = if activation == Encoding::Bipolar {
            2
        } else {
            1
        };
        let mut weights = vec![0; taps * channels];
        let mut start = vec![0; channels];
        for channel in 0..channels {
            let filter = filters.slice_rows(channel..channel + 1).unpack();
            for (tap, &w) in filter.iter().enumerate() {
                weights[tap * channels + channel] = (w * factor) as i16;
                start[channel] -= w * (factor - 1);
            }
        }
        Depthwise { weights, start }
    }

    /// What the channels start from.
    pub(super) fn start_mut(&mut self) -> &mut [i32] {
        &mut self.start
    }

    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> usize {
        2 * self.weights.len()
    }

    /// The sums of output pixels `block` into `out` `[rows, C]`. `lines` holds as many lines of the image, in bytes,
    /// as the filter has rows.
    pub(super) fn run(
        &self,
        kernels: &Kernels,
        [rows, cols]: [&Axis; 2],
        input: Activations<'_>,
        block: Range<usize>,
        out: &mut [i32],
        lines: &mut [u8],
    ) {
        let channels = self.start.len();
        let line = cols.input * channels;
        let signed = matches!(input.shape().0, Encoding::Signed(_));
        for row in out.chunks_exact_mut(channels) {
            row.copy_from_slice(&self.start);
        }
        for segment in gather::segments(rows, cols, block) {
            let inside = rows.inside(segment.y);
            if inside.is_empty() {
                continue;
            }
            let first = segment.image * rows.input + rows.at(segment.y, inside.start);
            // The lines of the taps, `step` bytes apart.
            let (bytes, step) = match input {
                Activations::Bytes(bytes) => (&bytes.data()[first * line..], rows.tap_step * line),
                Activations::Planes(planes) => {
                    for (i, lines) in lines.chunks_exact_mut(line).enumerate().take(inside.len()) {
                        let from = (first + i * rows.tap_step) * cols.input;
                        let pixels = planes.slice_rows(from..from + cols.input);
                        kernels.unpack(pixels, channels, lines);
                    }
                    (&*lines, line)
                }
            };
            let out = &mut out[segment.at * channels..][..segment.xs.len() * channels];
            let mut x = segment.xs.start;
            while x < segment.xs.end {
                // Pixels inside of the border go together.
                let end = match cols.whole.contains(&x) {
                    true => cols.whole.end.min(segment.xs.end),
                    false => x + 1,
                };
                let taps = cols.inside(x);
                if !taps.is_empty() {
                    let from = cols.at(x, taps.start) * channels;
                    let weights = (inside.start * cols.taps.len() + taps.start) * channels;
                    let task = DepthwiseTask {
                        channels,
                        signed,
                        bytes: &bytes[from..],
                        pixel_step: cols.step * channels,
                        row_step: step,
                        col_step: cols.tap_step * channels,
                        taps: [inside.len(), taps.len()],
                        weights: &self.weights[weights..],
                        weight_row: cols.taps.len() * channels,
                    };
                    let sums =
                        &mut out[(x - segment.xs.start) * channels..][..(end - x) * channels];
                    kernels.row(RowTask::Depthwise { task, sums });
                }
                x = end;
            }
        }
    }
}
