//! The table GEMM of an ISA: what it serves, and from how many channels on it is worth its tables.

use super::lutgemm::{BLOCK_BYTES, QUAD};
use super::luttask::{BuildTask, LutTask};
use crate::bits::Encoding;

/// Groups of a block, at most; fewer where panels are wide: for 256 channels 96. Of 6 activations each, they have 6 KiB of
/// tables for a row, so that 64 rows take 384 KiB of a second-level cache of 1 MiB.
const BLOCK: usize = 192;

/// Bytes of tables of a pixel that several taps read, at most: 256 pixels of them take a quarter of a second-level cache of
/// 1 MiB.
const PIXEL_BYTES: usize = 1024;

/// The table GEMM of an ISA.
#[derive(Clone, Copy)]
pub(crate) struct LutKernel {
    pub(crate) name: &'static str,
    /// Rows of a tile, at most.
    pub(crate) mr: usize,
    /// Rows whose tables of a block are made at a time: those that stay in the cache that tiles read them from.
    pub(crate) rows: usize,
    /// Rows and channels of a tile, for people, where a byte sums so many lookups.
    pub(crate) tile: fn(usize) -> [usize; 2],
    pub(crate) lanes: usize,
    /// Vectors of a panel.
    pub(crate) vectors: usize,
    /// Activations of a table.
    pub(crate) group: usize,
    /// Indices in as many bits as an entry has.
    pub(super) share: usize,
    /// Bytes of an entry: 1 for activations of 1, 2, 3 and 4 bits, 2 for those of 5, 6, 7 and 8.
    pub(super) entry: usize,
    /// From how many channels on tables are faster than another method.
    pub(crate) worth: Worth,
    /// The same where a convolution makes them once of each pixel.
    pub(crate) worth_of_taps: Worth,
    /// Rows up to which the other method is the faster one nevertheless, of weights of one bit and activations as in
    /// [`Worth`], so that a product has both.
    pub(super) few_rows: fn() -> [usize; 4],
    pub(super) build: unsafe fn(&BuildTask),
    pub(super) run: unsafe fn(&LutTask),
}

/// Channels from which on tables are the fastest, for activations of 1, 2, 3 and 4 bits, or of 5, 6, 7 and 8.
#[derive(Clone, Copy)]
pub(crate) struct Worth {
    /// For weights of one bit.
    pub(super) once: fn() -> [usize; 4],
    /// For those of two, which take two passes.
    pub(super) twice: [usize; 4],
}

impl Worth {
    /// For a pair that is served.
    pub(crate) fn channels(&self, weight: Encoding, activation: Encoding) -> usize {
        let channels = match weight.planes() {
            1 => (self.once)(),
            _ => self.twice,
        };
        channels[(activation.planes() - 1) % 4]
    }
}

impl LutKernel {
    /// Whether there are tables for such a pair.
    pub(crate) fn serves(&self, weight: Encoding, activation: Encoding) -> bool {
        let (w, a) = (weight.planes(), activation.planes());
        activation != Encoding::Ternary
            && match self.entry {
                1 => w <= 2 && a <= 4,
                _ => w == 1 && a > 4,
            }
    }

    /// Rows up to which another method is faster nevertheless.
    pub(crate) fn few_rows(&self, weight: Encoding, activation: Encoding) -> usize {
        match weight.planes() {
            1 => (self.few_rows)()[(activation.planes() - 1) % 4],
            _ => 0,
        }
    }

    /// Channels of a panel.
    pub(crate) fn nr(&self) -> usize {
        self.lanes * self.vectors
    }

    /// The largest entry of a table.
    pub(super) fn most(&self, activation: Encoding) -> usize {
        self.group * ((activation.max() - activation.min()) / apart(activation)) as usize
    }

    /// Groups of a tap that a block has at most, of `n` channels and entries of at most `most`: a multiple of QUAD.
    pub(super) fn longest(&self, n: usize, taps: usize, most: usize) -> usize {
        let mut longest = match taps {
            1 => BLOCK.min(BLOCK_BYTES / self.nr()),
            _ => {
                let widest = self.nr().min(n.next_multiple_of(self.lanes)).max(1);
                (PIXEL_BYTES / (self.entry << self.group)).min(BLOCK_BYTES / widest / taps)
            }
        };
        if self.entry > 1 {
            // Nothing is widened inside a block.
            longest = longest.min(flush(self.entry, most) / taps);
        }
        longest / QUAD * QUAD
    }

    /// Whether a block may have so many taps, of activations that are served.
    pub(crate) fn serves_taps(&self, n: usize, taps: usize, activation: Encoding) -> bool {
        taps > 0 && self.longest(n, taps, self.most(activation)) > 0
    }
}

/// How far apart the integers of codes are.
pub(super) fn apart(activation: Encoding) -> i32 {
    match activation {
        Encoding::Bipolar => 2,
        _ => 1,
    }
}

/// Lookups of at most `most` that an entry of `entry` bytes can sum.
pub(super) fn flush(entry: usize, most: usize) -> usize {
    ((1 << (8 * entry)) - 1) / most
}
