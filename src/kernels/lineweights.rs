//! Filters laid out for the line GEMM of an ISA, and the bytes that its activations are.
//!
//! ```text
//!   panel of NV vectors:   words[line][word of four columns][lane], NV x LANES lanes, byte k % 4 of a word: a weight
//! ```
//!
//! The panels of an ISA's widest tile come first; what channels are left have panels of half as many vectors and
//! of one. Lanes behind O, and columns behind the taps of a line, are zero.

use super::bounds::Sequence;
use super::linegemm::{LineOut, LineTask};
use super::panels::Lines;
use super::tilecodes::CodeRows;
use crate::bits::{Encoding, PackedRef};
use crate::error::Result;
use crate::shape::elements;

/// A line GEMM kernel: its tiles are `tiles[i]` pixels by `4 >> i` vectors of `lanes` channels, where that is not zero.
#[derive(Clone, Copy)]
pub(crate) struct LineKernel {
    pub(crate) name: &'static str,
    pub(crate) lanes: usize,
    pub(crate) tiles: [usize; 3],
    /// Whether activations are signed bytes too, or unsigned ones.
    pub(crate) signed: bool,
    /// Bit-serial passes from which it is worth more than those, and channels up to which it is.
    pub(crate) worth_passes: usize,
    pub(crate) worth_channels: usize,
    pub(super) run: unsafe fn(&LineTask),
}

/// How codes become the bytes that a kernel takes: `factor * byte + offset`, modulo 256, of the codes as
/// [`Kernels::unpack`](super::Kernels::unpack) gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LineBytes {
    pub(crate) factor: u8,
    pub(crate) offset: u8,
    /// What a byte stands above its integer.
    above: i32,
    /// The largest magnitude of such a byte.
    magnitude: i32,
}

impl LineBytes {
    /// Of `activation`, for instructions that take `signed` bytes or unsigned ones.
    fn new(activation: Encoding, signed: bool) -> Self {
        let (min, max) = (activation.min(), activation.max());
        let above = match signed {
            true if max > 127 => -128,
            true => 0,
            false => -min,
        };
        // A bipolar code is a bit c of the integer 2 c - 1, all others are their integers.
        let (factor, low) = match activation {
            Encoding::Bipolar => (2, -1),
            _ => (1, 0),
        };
        LineBytes {
            factor,
            offset: (above + low) as u8,
            above,
            magnitude: (max + above).max(-(min + above)),
        }
    }

    /// What a byte stands above its integer.
    #[cfg(test)]
    pub(super) fn above(&self) -> i32 {
        self.above
    }

    /// The byte of an integer.
    pub(crate) fn of(&self, integer: i32) -> u8 {
        (integer + self.above) as u8
    }
}

/// Some channels of filters.
struct Panel {
    /// The first word.
    at: usize,
    vectors: usize,
}

/// Filters `[O, lines, taps of a line x C]`.
pub(crate) struct LineWeights {
    words: Lines,
    panels: Vec<Panel>,
    start: Vec<i32>,
    bytes: LineBytes,
    bits: usize,
    lanes: usize,
    lines: usize,
    /// Words of four columns of a line.
    line_words: usize,
    o: usize,
}

/// Pixels of one line of the output, and the image around them.
pub(crate) struct LinePixels<'a> {
    /// From the first tap of the first pixel on.
    pub(crate) bytes: &'a [u8],
    /// Bytes from a pixel's taps to the next one's.
    pub(crate) pitch: usize,
    /// Bytes from a line of taps to the next.
    pub(crate) line: usize,
}

impl LineWeights {
    /// Whether weights of this encoding are signed bytes.
    pub(crate) fn serves(weight: Encoding) -> bool {
        weight.max() <= 127
    }

    /// Lays out `filters` `[O, lines x columns of a line]`, which [`LineWeights::serves`], for `kernel`.
    pub(crate) fn new(
        filters: PackedRef<'_>,
        lines: usize,
        activation: Encoding,
        kernel: &LineKernel,
    ) -> Result<Self> {
        let (o, line) = (filters.rows(), filters.cols() / lines);
        let (lanes, line_words) = (kernel.lanes, line.div_ceil(4));
        let bytes = LineBytes::new(activation, kernel.signed);
        let steps = elements("filters", &[lines, line_words])?;
        let (mut panels, mut at, mut left) = (Vec::new(), 0, o.div_ceil(lanes));
        while left > 0 {
            let fits = |&i: &usize| kernel.tiles[i] > 0 && 4 >> i <= left;
            let vectors = 4 >> (0..3).find(fits).expect("a tile of one vector");
            panels.push(Panel { at, vectors });
            at += elements("filters", &[steps, vectors * lanes])?;
            left -= vectors;
        }
        let mut words = Lines::new(at);
        let mut start = vec![0; o.next_multiple_of(lanes)];
        let mut channel = 0;
        for panel in &panels {
            let width = panel.vectors * lanes;
            for lane in 0..width.min(o - channel) {
                let filter = filters.slice_rows(channel + lane..channel + lane + 1);
                for (i, w) in filter.unpack().into_iter().enumerate() {
                    let (y, x) = (i / line, i % line);
                    let word = panel.at + (y * line_words + x / 4) * width + lane;
                    words.words_mut()[word] |= u32::from(w as u8) << (8 * (x % 4));
                    let at = &mut start[channel + lane];
                    *at = i32::wrapping_sub(*at, w * bytes.above);
                }
            }
            channel += width;
        }
        // The size of a product beside that of fields of so many bits and any activations.
        let any = if kernel.signed { 128 } else { 255 };
        let product = filters.encoding().magnitude() as i32 * bytes.magnitude;
        let bits = [2, 4]
            .into_iter()
            .find(|&b| product <= any * ((1 << b) - 1));
        Ok(LineWeights {
            words,
            panels,
            start,
            bytes,
            bits: bits.unwrap_or(8),
            lanes,
            lines,
            line_words,
            o,
        })
    }

    /// What the channels start from, O of them and padding.
    pub(crate) fn start_mut(&mut self) -> &mut [i32] {
        &mut self.start
    }

    /// First word and vectors of each panel.
    #[cfg(test)]
    pub(super) fn panels(&self) -> impl Iterator<Item = (usize, usize)> {
        self.panels.iter().map(|panel| (panel.at, panel.vectors))
    }

    /// The words of all panels.
    #[cfg(test)]
    pub(super) fn words(&self) -> &[u32] {
        self.words.words()
    }

    /// What each channel starts from.
    #[cfg(test)]
    pub(super) fn start(&self) -> &[i32] {
        &self.start
    }

    /// Bits of the fields that bound the products.
    #[cfg(test)]
    pub(super) fn field_bits(&self) -> usize {
        self.bits
    }

    /// How codes become bytes.
    pub(crate) fn line_bytes(&self) -> LineBytes {
        self.bytes
    }

    /// Bytes that the panels take.
    pub(crate) fn bytes(&self) -> usize {
        self.words.bytes()
    }

    /// Bytes of a line that the taps of a pixel take, with those that meet weights of zero.
    pub(crate) fn span(&self) -> usize {
        4 * self.line_words
    }

    /// What the kernel does between its loads.
    pub(crate) fn sequence(&self) -> Sequence {
        match self.bits {
            8 => Sequence::DotWide,
            _ => Sequence::Dot,
        }
    }

    /// Pixels and channels of the first panel's tile.
    pub(crate) fn tile(&self, kernel: &LineKernel) -> [usize; 2] {
        let vectors = self.panels.first().map_or(1, |p| p.vectors);
        [
            kernel.tiles[2 - vectors.ilog2() as usize],
            vectors * self.lanes,
        ]
    }
}

/// What is made of a line of pixels.
pub(crate) enum LineRows<'a> {
    /// Sums `[pixels, O]`.
    Sums(&'a mut [i32]),
    /// Codes, a row for each pixel.
    Codes(CodeRows<'a>),
}

impl LineRows<'_> {
    /// The first `pixels` of `o` channels, and what is left.
    pub(crate) fn split_at(self, pixels: usize, o: usize) -> (Self, Self) {
        match self {
            LineRows::Sums(sums) => {
                let (first, rest) = sums.split_at_mut(pixels * o);
                (LineRows::Sums(first), LineRows::Sums(rest))
            }
            LineRows::Codes(codes) => {
                let (first, rest) = codes.split_at(pixels);
                (LineRows::Codes(first), LineRows::Codes(rest))
            }
        }
    }
}

impl LineKernel {
    /// What `out` says of `pixels`. Panics on lengths that do not fit together, and on levels for which there are no
    /// [`CodeRows::planes`].
    pub(crate) fn run(&self, weights: &LineWeights, pixels: LinePixels<'_>, out: LineRows<'_>) {
        let o = weights.o;
        assert_eq!(
            weights.lanes, self.lanes,
            "weights laid out for this kernel"
        );
        if o == 0 {
            return;
        }
        match out {
            LineRows::Sums(out) => {
                let count = out.len() / o;
                assert_eq!(out.len(), count * o);
                let sums = |channel: usize, panel: &Panel| LineOut::Sums {
                    at: out[channel..].as_mut_ptr(),
                    stride: o,
                    lanes: (o - channel).min(panel.vectors * self.lanes),
                };
                self.panels(weights, pixels, count, sums);
            }
            LineRows::Codes(mut out) => {
                let (count, codes) = out.raw(o, self.lanes, &[]);
                let codes = |channel: usize, _: &Panel| LineOut::Codes(codes.beyond(channel));
                self.panels(weights, pixels, count, codes);
                out.turn();
            }
        }
    }

    /// Runs all panels over `count` pixels; `out` says where a panel that begins with a channel writes.
    fn panels(
        &self,
        weights: &LineWeights,
        pixels: LinePixels<'_>,
        count: usize,
        mut out: impl FnMut(usize, &Panel) -> LineOut,
    ) {
        if count == 0 {
            return;
        }
        let taps = (weights.lines - 1) * pixels.line + weights.span();
        assert!((count - 1) * pixels.pitch + taps <= pixels.bytes.len());
        let mut channel = 0;
        for panel in &weights.panels {
            let task = LineTask {
                weights: weights.words.words()[panel.at..].as_ptr(),
                start: weights.start[channel..].as_ptr(),
                vectors: panel.vectors,
                bits: weights.bits,
                taps: pixels.bytes.as_ptr(),
                pitch: pixels.pitch,
                lines: weights.lines,
                line: pixels.line,
                words: weights.line_words,
                pixels: count,
                out: out(channel, panel),
            };
            // SAFETY: a LineKernel is had only from a row of the table, whose features `Kernels::of` and `available` have
            // checked. The panel and its starts are whole by the layout, made for the tiles of this kernel; bytes are
            // checked above. What is written is exclusive, rows of `o` from `channel` on: sums of the lanes that there
            // are, or bits of all lanes of the panel. The panel's vectors begin below `o`, and whole bytes of them, a
            // divisor of the 32 channels of a word, end inside of the row's words; so do thresholds, of 32 channels a word.
            unsafe { (self.run)(&task) }
            channel += panel.vectors * self.lanes;
        }
    }
}
