//! Gathering the taps of a block of output pixels into rows that any method multiplies.
//!
//! A gathered row is a row of a matrix of codes, `[tap][C / groups]`, in planes or in bytes, exactly as if the whole
//! matrix of patches (im2col) had been made and a few rows of it were seen. It lives in the first-level or second-level
//! cache and serves all panels of channels. Taps outside of the image are zero bits.
//!
//! Taps that are whole elements (codes of a byte, or words, half words or bytes of planes where C / groups is a
//! multiple of 32, 16 or 8) are copied; taps of a kernel row that are neighbours in memory are one copy. Other planes
//! are appended field by field of bits.

use std::ops::Range;

use super::geometry::Axis;
use crate::shape::words;

/// Output pixels of one row of one image that lie together.
pub(super) struct Segment {
    pub(super) image: usize,
    pub(super) y: usize,
    pub(super) xs: Range<usize>,
    /// The first of them in the block.
    pub(super) at: usize,
}

/// The segments of output pixels `block`, numbered across images.
pub(super) fn segments<'a>(
    rows: &'a Axis,
    cols: &'a Axis,
    block: Range<usize>,
) -> impl Iterator<Item = Segment> + 'a {
    let (height, width) = (rows.count(), cols.count());
    let (first, mut next) = (block.start, block.start);
    std::iter::from_fn(move || {
        if next >= block.end {
            return None;
        }
        let (line, x) = (next / width, next % width);
        let end = width.min(x + block.end - next);
        let segment = Segment {
            image: line / height,
            y: line % height,
            xs: x..end,
            at: next - first,
        };
        next += end - x;
        Some(segment)
    })
}

/// Where the elements of a pixel and of a gathered row lie.
pub(super) struct Layout {
    /// Elements of a pixel.
    pub(super) pixel: usize,
    /// Planes of a pixel; 1 for bytes.
    pub(super) planes: usize,
    /// Elements from one plane of a pixel to the next.
    pub(super) plane: usize,
    /// The first element of the group in a plane.
    pub(super) first: usize,
    /// Elements of a tap in a plane.
    pub(super) tap: usize,
    /// Elements of a plane of a gathered row, those behind the last tap included.
    pub(super) out_plane: usize,
    /// Which pixel, numbered across images, the input begins with.
    pub(super) origin: usize,
}

/// Gathers whole elements of output pixels `block` from `input` into `out`, a row each.
pub(super) fn elements<T: Copy + Default>(
    rows: &Axis,
    cols: &Axis,
    layout: &Layout,
    input: &[T],
    block: Range<usize>,
    out: &mut [T],
) {
    let row = layout.planes * layout.out_plane;
    let filled = rows.taps.len() * cols.taps.len() * layout.tap;
    if filled < layout.out_plane {
        for plane in out[..block.len() * row].chunks_exact_mut(layout.out_plane) {
            clear(&mut plane[filled..]);
        }
    }
    for segment in segments(rows, cols, block) {
        let inside = rows.inside(segment.y);
        for ky in 0..rows.taps.len() {
            for plane in 0..layout.planes {
                let to =
                    segment.at * row + plane * layout.out_plane + ky * cols.taps.len() * layout.tap;
                let out = &mut out[to..];
                let from = inside.contains(&ky).then(|| {
                    let line = segment.image * rows.input + rows.at(segment.y, ky);
                    (line * cols.input - layout.origin) * layout.pixel
                        + plane * layout.plane
                        + layout.first
                });
                match from {
                    Some(from) => kernel_row(cols, layout, &input[from..], &segment.xs, row, out),
                    None => {
                        let len = cols.taps.len() * layout.tap;
                        for i in 0..segment.xs.len() {
                            clear(&mut out[i * row..][..len]);
                        }
                    }
                }
            }
        }
    }
}

/// Gathers one row of taps of one plane of output pixels `xs`; `input` is the line of the image that it reads.
fn kernel_row<T: Copy + Default>(
    cols: &Axis,
    layout: &Layout,
    input: &[T],
    xs: &Range<usize>,
    row: usize,
    out: &mut [T],
) {
    let (taps, tap) = (cols.taps.len(), layout.tap);
    let start = cols.whole.start.clamp(xs.start, xs.end);
    let end = cols.whole.end.clamp(start, xs.end);
    // The border.
    for x in (xs.start..start).chain(end..xs.end) {
        let inside = cols.inside(x);
        let out = &mut out[(x - xs.start) * row..][..taps * tap];
        clear(&mut out[..inside.start * tap]);
        clear(&mut out[inside.end * tap..]);
        for kx in inside {
            let from = cols.at(x, kx) * layout.pixel;
            runs(&input[from..], 0, &mut out[kx * tap..], 0, tap, 1);
        }
    }
    if start == end || taps == 0 {
        return;
    }
    let out = &mut out[(start - xs.start) * row..];
    let step = cols.step * layout.pixel;
    let (count, together) = (end - start, cols.tap_step == 1 && tap == layout.pixel);
    if together || taps == 1 {
        let from = cols.at(start, 0) * layout.pixel;
        runs(&input[from..], step, out, row, taps * tap, count);
    } else {
        for kx in 0..taps {
            let from = cols.at(start, kx) * layout.pixel;
            runs(&input[from..], step, &mut out[kx * tap..], row, tap, count);
        }
    }
}

/// Zeros everywhere.
fn clear<T: Copy + Default>(out: &mut [T]) {
    // As in `runs`.
    match out.len() {
        0 => {}
        1 => zeros::<T, 1>(out),
        2 => zeros::<T, 2>(out),
        3 => zeros::<T, 3>(out),
        4 => zeros::<T, 4>(out),
        6 => zeros::<T, 6>(out),
        8 => zeros::<T, 8>(out),
        9 => zeros::<T, 9>(out),
        16 => zeros::<T, 16>(out),
        _ => out.fill(T::default()),
    }
}

fn zeros<T: Copy + Default, const LEN: usize>(out: &mut [T]) {
    out[..LEN].copy_from_slice(&[T::default(); LEN]);
}

/// Copies `count` runs of `len` elements, `step` apart, to where they are `row` apart.
fn runs<T: Copy>(input: &[T], step: usize, out: &mut [T], row: usize, len: usize, count: usize) {
    // Lengths that are known become a few moves instead of a call; 9, 15 and 21 are 3, 5 and 7 pixels of three bytes.
    match len {
        1 => fixed::<T, 1>(input, step, out, row, count),
        2 => fixed::<T, 2>(input, step, out, row, count),
        3 => fixed::<T, 3>(input, step, out, row, count),
        4 => fixed::<T, 4>(input, step, out, row, count),
        6 => fixed::<T, 6>(input, step, out, row, count),
        8 => fixed::<T, 8>(input, step, out, row, count),
        9 => fixed::<T, 9>(input, step, out, row, count),
        12 => fixed::<T, 12>(input, step, out, row, count),
        15 => fixed::<T, 15>(input, step, out, row, count),
        16 => fixed::<T, 16>(input, step, out, row, count),
        21 => fixed::<T, 21>(input, step, out, row, count),
        24 => fixed::<T, 24>(input, step, out, row, count),
        48 => fixed::<T, 48>(input, step, out, row, count),
        _ => {
            for i in 0..count {
                out[i * row..][..len].copy_from_slice(&input[i * step..][..len]);
            }
        }
    }
}

fn fixed<T: Copy, const LEN: usize>(
    input: &[T],
    step: usize,
    out: &mut [T],
    row: usize,
    count: usize,
) {
    let input = &input[..(count - 1) * step + LEN];
    let out = &mut out[..(count - 1) * row + LEN];
    let (mut from, mut to) = (0, 0);
    for _ in 0..count {
        out[to..to + LEN].copy_from_slice(&input[from..from + LEN]);
        (from, to) = (from + step, to + row);
    }
}

/// Where the bits of a pixel and of a gathered row lie.
pub(super) struct BitLayout {
    /// Channels of a pixel.
    pub(super) channels: usize,
    pub(super) planes: usize,
    /// The channels of the group.
    pub(super) group: Range<usize>,
}

/// Gathers bits of output pixels `block` from the words `input` into `out`, a row each.
pub(super) fn bits(
    rows: &Axis,
    cols: &Axis,
    layout: &BitLayout,
    input: &[u32],
    block: Range<usize>,
    out: &mut [u32],
) {
    let (plane, tap) = (words(layout.channels), layout.group.len());
    let pixel = layout.planes * plane;
    let (kh, kw) = (rows.taps.len(), cols.taps.len());
    let out_plane = words(kh * kw * tap);
    if out_plane == 0 {
        return;
    }
    for segment in segments(rows, cols, block) {
        let inside = rows.inside(segment.y);
        for (i, x) in segment.xs.enumerate() {
            let to = (segment.at + i) * layout.planes * out_plane;
            let out = out[to..][..layout.planes * out_plane].chunks_exact_mut(out_plane);
            let columns = cols.inside(x);
            for (p, out) in out.enumerate() {
                let mut writer = Writer::new(out);
                writer.skip(inside.start * kw * tap);
                for ky in inside.clone() {
                    let line = (segment.image * rows.input + rows.at(segment.y, ky)) * cols.input;
                    writer.skip(columns.start * tap);
                    for kx in columns.clone() {
                        let from = (line + cols.at(x, kx)) * pixel + p * plane;
                        writer.append(&input[from..][..plane], layout.group.clone());
                    }
                    writer.skip((kw - columns.end) * tap);
                }
                writer.skip((kh - inside.end) * kw * tap);
                writer.end();
            }
        }
    }
}

/// Writes bits one behind the other into words.
pub(in crate::ops) struct Writer<'a> {
    out: &'a mut [u32],
    /// Words written.
    at: usize,
    /// Bits that wait to be written, and how many: fewer than 32 between calls.
    waiting: u64,
    bits: usize,
}

impl<'a> Writer<'a> {
    pub(in crate::ops) fn new(out: &'a mut [u32]) -> Self {
        Writer {
            out,
            at: 0,
            waiting: 0,
            bits: 0,
        }
    }

    /// `count` bits, at most 32; those above are zero.
    #[inline(always)]
    fn push(&mut self, bits: u32, count: usize) {
        self.waiting |= u64::from(bits) << self.bits;
        self.bits += count;
        if self.bits >= 32 {
            self.out[self.at] = self.waiting as u32;
            self.at += 1;
            self.waiting >>= 32;
            self.bits -= 32;
        }
    }

    /// `count` zeros.
    fn skip(&mut self, mut count: usize) {
        while count > 0 {
            let some = count.min(32);
            self.push(0, some);
            count -= some;
        }
    }

    /// The bits `range` of `words`.
    #[inline(always)]
    pub(in crate::ops) fn append(&mut self, words: &[u32], range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let (count, shift) = ((range.end - at).min(32), at % 32);
            let low = words[at / 32] >> shift;
            let high = match shift + count > 32 {
                true => words[at / 32 + 1] << (32 - shift),
                false => 0,
            };
            self.push((low | high) & (u32::MAX >> (32 - count)), count);
            at += count;
        }
    }

    /// The last bits, and zeros to the end.
    pub(in crate::ops) fn end(self) {
        let mut rest = self.out[self.at..].iter_mut();
        if self.bits > 0 {
            *rest.next().expect("bits in a word") = self.waiting as u32;
        }
        rest.for_each(|word| *word = 0);
    }
}
