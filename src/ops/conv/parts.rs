//! What the product of a convolution is made of, and the filters of some of its taps.

use super::gather::Writer;
use super::geometry::{Axis, Pad};
use crate::bits::{Encoding, PackedMatrix, PackedRef};
use crate::kernels::Kernels;
use crate::ops::gemm::method::Way;
use crate::shape::words;

/// The ways of a convolution that is not depthwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// Taps in lines of bytes, where that serves.
    Lines,
    /// Rows and a method: pixels, or taps that are found in lines of bits or gathered.
    Rows(Way),
}

/// What a product is made of.
pub(super) struct Parts<'a> {
    pub(super) kernels: &'static Kernels,
    /// How, if not the fastest.
    pub(super) route: Option<Route>,
    /// All taps, `[O, KH KW C / groups]`.
    pub(super) filters: PackedRef<'a>,
    /// Columns of a filter, KW.
    pub(super) width: usize,
    pub(super) activation: Encoding,
    /// The integer of activations that stands for 0.
    pub(super) zero_point: i32,
    pub(super) channels: usize,
    pub(super) groups: usize,
    pub(super) pad: Pad,
}

impl Parts<'_> {
    /// The taps of `rows` x `cols` alone, in their order: `[O, taps C / groups]`.
    pub(super) fn select(&self, rows: &Axis, cols: &Axis) -> PackedMatrix {
        let (filters, per_group) = (self.filters, self.channels / self.groups);
        let (encoding, o) = (filters.encoding(), filters.rows());
        let (old, new) = (
            words(filters.cols()),
            words(rows.taps.len() * cols.taps.len() * per_group),
        );
        let mut chosen = vec![0; o * encoding.planes() * new];
        if new > 0 {
            let planes = filters.words().chunks_exact(old);
            for (from, to) in planes.zip(chosen.chunks_exact_mut(new)) {
                let mut writer = Writer::new(to);
                for ky in &rows.taps {
                    for kx in &cols.taps {
                        let tap = (ky * self.width + kx) * per_group;
                        writer.append(from, tap..tap + per_group);
                    }
                }
                writer.end();
            }
        }
        let k = rows.taps.len() * cols.taps.len() * per_group;
        PackedMatrix::from_words(encoding, o, k, chosen)
            .expect("fields of words in the packed form")
    }

    /// Takes from `start`, what the sums of `filters`, some of these, start from, what the zero point adds to them.
    pub(super) fn subtract_zero(&self, filters: PackedRef<'_>, start: &mut [i32]) {
        if self.zero_point == 0 {
            return;
        }
        for (o, start) in start.iter_mut().enumerate().take(filters.rows()) {
            let sum: i32 = filters.slice_rows(o..o + 1).unpack().iter().sum();
            *start = start.wrapping_sub(sum.wrapping_mul(self.zero_point));
        }
    }
}
