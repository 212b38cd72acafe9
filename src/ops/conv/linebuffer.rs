//! The lines of images that a block of output pixels reads, copied once into a buffer in the cache, with their pad.
//!
//! Gathered rows hold a code once for each tap that reads it; lines hold it once, and whatever multiplies them says
//! where in the lines a tap is.

use std::ops::Range;

use super::geometry::Axis;

/// Where the lines lie.
pub(super) struct LineBuffer {
    /// Elements of a pixel.
    pixel: usize,
    /// Lines that a kernel spans, those between its taps included.
    span: usize,
    /// Lines of the buffer from one line of the output to the next.
    advance: usize,
    /// Elements of a line.
    line: usize,
}

/// What a block has of one image: lines `ys` of the output; columns `xs` of it, if that is one line, else all.
pub(super) struct Part {
    image: usize,
    ys: Range<usize>,
    xs: Range<usize>,
    /// Its pixels: the first column of the first line, and how many there are.
    from: usize,
    pub(super) count: usize,
}

impl Part {
    /// The columns of each line that are in the block.
    pub(super) fn lines(&self, cols: &Axis) -> impl Iterator<Item = Range<usize>> {
        let (mut from, mut left, width) = (self.from, self.count, cols.count());
        self.ys.clone().map(move |_| {
            let xs = from..width.min(from + left);
            (from, left) = (0, left - xs.len());
            xs
        })
    }
}

impl Part {
    /// The lines of the input, numbered across images, that the part reads.
    pub(super) fn input(&self, rows: &Axis) -> Range<usize> {
        let inside =
            |line: isize| self.image * rows.input + line.clamp(0, rows.input as isize) as usize;
        let first = rows.from(self.ys.start);
        inside(first)..inside(first + lines(rows, self.ys.len()) as isize)
    }
}

/// Lines that `count` lines of output read, those between them included.
pub(super) fn lines(rows: &Axis, count: usize) -> usize {
    (count - 1) * rows.step + extent(rows)
}

/// What block `block` of output pixels, numbered across images, has of each image.
pub(super) fn parts(rows: &Axis, cols: &Axis, block: Range<usize>) -> impl Iterator<Item = Part> {
    let (height, width) = (rows.count(), cols.count());
    let mut first = block.start;
    std::iter::from_fn(move || {
        if first >= block.end {
            return None;
        }
        let image = first / (height * width);
        let end = block.end.min((image + 1) * height * width);
        let ys = first / width % height..(end - 1) / width % height + 1;
        let (from, count) = (first % width, end - first);
        first = end;
        let xs = match ys.len() {
            1 => from..from + count,
            _ => 0..width,
        };
        Some(Part {
            image,
            ys,
            xs,
            from,
            count,
        })
    })
}

impl LineBuffer {
    /// Lines of pixels of `pixel` elements, for the taps that `rows` and `cols` name, at least one.
    pub(super) fn new(rows: &Axis, cols: &Axis, pixel: usize) -> Self {
        let span = extent(rows);
        LineBuffer {
            pixel,
            span,
            advance: span.min(rows.step),
            line: width(cols).saturating_mul(pixel),
        }
    }

    /// Elements from a pixel of an output line to the next.
    pub(super) fn pitch(&self, cols: &Axis) -> usize {
        cols.step * self.pixel
    }

    /// Elements of the lines that one line of output reads.
    pub(super) fn least(&self) -> usize {
        self.span.saturating_mul(self.line)
    }

    /// Elements that `lines` lines of output in so many `images` read.
    pub(super) fn len(&self, lines: usize, images: usize) -> usize {
        (lines * self.advance + images * (self.span - self.advance)).saturating_mul(self.line)
    }

    /// Elements that any `pixels` consecutive output pixels read, at most.
    pub(super) fn most(&self, [rows, cols]: [&Axis; 2], pixels: usize) -> usize {
        // The first may be the last of its line, or image.
        let touched = |of: usize| pixels.saturating_sub(1).div_ceil(of) + 1;
        self.len(touched(cols.count()), touched(rows.count() * cols.count()))
    }

    /// Lines of output, of one image, whose lines of input fit into `elements`.
    pub(super) fn fit(&self, elements: usize) -> usize {
        (elements / self.line).saturating_sub(self.span) / self.advance + 1
    }

    /// Elements of what `part` reads.
    pub(super) fn part_len(&self, part: &Part) -> usize {
        self.len(part.ys.len(), 1)
    }

    /// Where the first tap of column `x` of line `line` of a part lies.
    pub(super) fn at(&self, cols: &Axis, line: usize, x: usize) -> usize {
        line * self.advance * self.line + x * self.pitch(cols)
    }

    /// Where the first taps of all pixels of a part lie, whose lines begin at `base`.
    pub(super) fn starts(&self, cols: &Axis, part: &Part, base: usize, out: &mut [u32]) {
        let xs = part.lines(cols).enumerate();
        let all = xs.flat_map(|(y, xs)| xs.map(move |x| base + self.at(cols, y, x)));
        for (out, at) in out.iter_mut().zip(all) {
            *out = at as u32;
        }
    }

    /// Where a tap lies behind the first one.
    pub(super) fn tap(&self, rows: &Axis, cols: &Axis, [ky, kx]: [usize; 2]) -> usize {
        ky * rows.tap_step * self.line + kx * cols.tap_step * self.pixel
    }

    /// Fills `buffer` with the lines that `part` reads: `pad` outside of the image, and of pixels of the input what `copy`
    /// writes. Columns that nobody reads are left as they are.
    pub(super) fn fill<T: Copy>(
        &self,
        [rows, cols]: [&Axis; 2],
        part: &Part,
        pad: T,
        buffer: &mut [T],
        mut copy: impl FnMut(Range<usize>, &mut [T]),
    ) {
        // Pixels of the buffer that are read, and those of them that are inside of the image.
        let seen = part.xs.start * cols.step..(part.xs.end - 1) * cols.step + extent(cols);
        let column = |pixel: usize| cols.from(0) + pixel as isize;
        let inside = |pixel: usize| column(pixel).clamp(0, cols.input as isize) as usize;
        let there = inside(seen.start)..inside(seen.end);
        let before = there.start as isize - column(seen.start);
        let lines = buffer[..self.part_len(part)].chunks_exact_mut(self.line);
        for (i, line) in lines.enumerate() {
            // Lines between the taps of one line of the output and those of the next are left out.
            let (y, tap) = match rows.step > self.span {
                true => (i / self.span, i % self.span),
                false => (0, i),
            };
            let y = rows.from(part.ys.start + y) + tap as isize;
            let line = &mut line[seen.start * self.pixel..seen.end * self.pixel];
            let outside = y < 0 || y >= rows.input as isize || there.is_empty();
            if outside {
                line.fill(pad);
                continue;
            }
            let from = (part.image * rows.input + y as usize) * cols.input;
            let pixels = from + there.start..from + there.end;
            let (left, line) = line.split_at_mut(before as usize * self.pixel);
            let (codes, right) = line.split_at_mut(pixels.len() * self.pixel);
            left.fill(pad);
            right.fill(pad);
            copy(pixels, codes);
        }
    }
}

/// Inputs that the taps of an output span.
fn extent(axis: &Axis) -> usize {
    (axis.taps.len() - 1) * axis.tap_step + 1
}

/// Pixels that the taps of all outputs span.
fn width(cols: &Axis) -> usize {
    (cols.count() - 1) * cols.step + extent(cols)
}
