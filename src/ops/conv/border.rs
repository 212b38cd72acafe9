//! Pads that are not the code of zero bits: what is added to the sums of pixels at the border.
//!
//! Taps outside of the image are zero bits. For unsigned and signed activations those are the integer 0, which is not what
//! stands for 0 where there is a zero point. For bipolar ones they are -1, so that a tap of weights w has given -w where
//! 0 was meant, or +w. Which taps are outside depends on the border class of the row and of the column alone: a table
//! `[classes, O]` holds what to add.

use std::ops::Range;

use super::gather;
use super::geometry::{Axis, Pad};
use super::parts::Parts;
use crate::bits::{Encoding, PackedRef};
use crate::error::{Error, Result};
use crate::shape::elements;

/// Elements of the table, at most: a gibibyte.
const LIMIT: usize = 1 << 28;

/// What each border class adds to the sums.
pub(super) struct Border {
    o: usize,
    /// `[row classes, column classes, O]`
    table: Vec<i32>,
}

impl Border {
    /// The table for `filters` `[O, taps C / groups]`; none if zero bits are the pad or nothing is outside.
    ///
    /// Errors if it is too large.
    pub(super) fn new(
        parts: &Parts<'_>,
        filters: PackedRef<'_>,
        rows: &Axis,
        cols: &Axis,
    ) -> Result<Option<Self>> {
        // What is meant, less what zero bits stand for.
        let factor = match (parts.activation, parts.pad) {
            (Encoding::Bipolar, Pad::Zero) => parts.zero_point + 1,
            (Encoding::Bipolar, Pad::PlusOne) => 2,
            (Encoding::Bipolar, Pad::MinusOne) => 0,
            _ => parts.zero_point,
        };
        let (kh, kw) = (rows.taps.len(), cols.taps.len());
        let whole = rows.whole.len() == rows.count() && cols.whole.len() == cols.count();
        if factor == 0 || whole {
            return Ok(None);
        }
        let o = filters.rows();
        let len = elements("border", &[rows.classes.len(), cols.classes.len(), o])?;
        if len > LIMIT {
            let expected = format!("at most {LIMIT} with padding of bipolar activations");
            return Err(Error::argument("border classes x O", len, expected));
        }
        let mut table = vec![0i32; len];
        // Sums of all taps above and to the left of a corner, so that a rectangle is four of them.
        let mut corners = vec![0i32; (kh + 1) * (kw + 1)];
        for channel in 0..o {
            let weights = filters.slice_rows(channel..channel + 1).unpack();
            for ky in 0..kh {
                let mut line = 0i32;
                for kx in 0..kw {
                    let per_tap = weights.len() / (kh * kw);
                    let tap = &weights[(ky * kw + kx) * per_tap..][..per_tap];
                    line += tap.iter().sum::<i32>();
                    corners[(ky + 1) * (kw + 1) + kx + 1] = corners[ky * (kw + 1) + kx + 1] + line;
                }
            }
            let corner = |y: u32, x: u32| corners[y as usize * (kw + 1) + x as usize];
            for (i, r) in rows.classes.iter().enumerate() {
                for (j, c) in cols.classes.iter().enumerate() {
                    let below = corner(r.end, c.end).wrapping_sub(corner(r.end, c.start));
                    let above = corner(r.start, c.end).wrapping_sub(corner(r.start, c.start));
                    let outside = corner(kh as u32, kw as u32)
                        .wrapping_sub(below)
                        .wrapping_add(above);
                    table[(i * cols.classes.len() + j) * o + channel] =
                        outside.wrapping_mul(factor);
                }
            }
        }
        Ok(Some(Border { o, table }))
    }

    /// Thresholds of every class, for sums to which nothing has been added: `thresholds` `[levels, P]` less what the class
    /// adds, P being O and the channels that are padding.
    pub(super) fn thresholds(&self, thresholds: &[i32], padded: usize) -> Vec<i32> {
        let mut all = Vec::with_capacity(self.table.len() / self.o * thresholds.len());
        for add in self.table.chunks_exact(self.o) {
            for level in thresholds.chunks_exact(padded) {
                let add = add.iter().chain(std::iter::repeat(&0));
                // Sums are above i32::MIN, so what leaves i32 decides as its end does.
                all.extend(level.iter().zip(add).map(|(t, add)| t.saturating_sub(*add)));
            }
        }
        all
    }

    /// Where in those the thresholds of output pixels `block` begin, if a class has `len`.
    pub(super) fn classes(
        rows: &Axis,
        cols: &Axis,
        block: Range<usize>,
        len: usize,
        out: &mut [u32],
    ) {
        for segment in gather::segments(rows, cols, block) {
            let class = rows.class(segment.y) * cols.classes.len();
            let of = |x: usize| ((class + cols.class(x)) * len) as u32;
            let xs = segment.xs;
            let out = &mut out[segment.at..][..xs.len()];
            let start = cols.whole.start.clamp(xs.start, xs.end);
            let end = cols.whole.end.clamp(start, xs.end);
            for x in (xs.start..start).chain(end..xs.end) {
                out[x - xs.start] = of(x);
            }
            if start < end {
                out[start - xs.start..end - xs.start].fill(of(start));
            }
        }
    }

    /// Adds what the classes of output pixels `block` add to their sums.
    pub(super) fn run(&self, rows: &Axis, cols: &Axis, block: Range<usize>, sums: &mut [i32]) {
        for segment in gather::segments(rows, cols, block) {
            let class = rows.class(segment.y) * cols.classes.len();
            let inner = if rows.whole.contains(&segment.y) {
                cols.whole.clone()
            } else {
                0..0
            };
            for (i, x) in segment.xs.enumerate() {
                if inner.contains(&x) {
                    continue;
                }
                let add = &self.table[(class + cols.class(x)) * self.o..][..self.o];
                let sums = &mut sums[(segment.at + i) * self.o..][..self.o];
                for (sum, add) in sums.iter_mut().zip(add) {
                    *sum = sum.wrapping_add(*add);
                }
            }
        }
    }
}
