//! What a run reads and writes: images, results, and the memory between.

use super::memory::LINE;
use super::net::{MAX_OUTPUTS, Model};
use super::value::{Kind, ValueType};
use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::ops::OutRows;

/// How threads share the work of a run. The results are the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// Threads work together on each node, so that the first result is there as soon as can be. Between nodes they look for
    /// the next one instead of sleeping, for a tenth of a millisecond or two.
    #[default]
    Latency,
    /// Each thread takes images of its own through all nodes, so that most images are done in an hour.
    Throughput,
}

/// Images for a run, `[M, H, W, C]`.
#[derive(Clone, Copy, Debug)]
pub enum Images<'a> {
    /// Codes, a byte each.
    Bytes(&'a [u8]),
    /// Floats.
    Floats(&'a [f32]),
    /// Floats of 16 bits.
    F16(&'a [f16]),
    /// Upper halves of floats.
    Bf16(&'a [bf16]),
}

impl<'a> From<&'a [u8]> for Images<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Images::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Images<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Images::Bytes(bytes)
    }
}

impl<'a> From<&'a [f32]> for Images<'a> {
    fn from(floats: &'a [f32]) -> Self {
        Images::Floats(floats)
    }
}

impl<'a> From<&'a Vec<f32>> for Images<'a> {
    fn from(floats: &'a Vec<f32>) -> Self {
        Images::Floats(floats)
    }
}

impl<'a> From<&'a [f16]> for Images<'a> {
    fn from(floats: &'a [f16]) -> Self {
        Images::F16(floats)
    }
}

impl<'a> From<&'a [bf16]> for Images<'a> {
    fn from(floats: &'a [bf16]) -> Self {
        Images::Bf16(floats)
    }
}

impl<'a> Images<'a> {
    fn len(&self) -> usize {
        match self {
            Images::Bytes(bytes) => bytes.len(),
            Images::Floats(floats) => floats.len(),
            Images::F16(floats) => floats.len(),
            Images::Bf16(floats) => floats.len(),
        }
    }

    /// What the elements are called.
    fn name(&self) -> &'static str {
        match self {
            Images::Bytes(_) => "bytes",
            Images::Floats(_) => "f32",
            Images::F16(_) => "f16",
            Images::Bf16(_) => "bf16",
        }
    }

    /// Images of type `image`, once all of them are: errors on another kind, a length that is not theirs, or a byte
    /// that is no code.
    pub(super) fn check(&self, image: &ValueType) -> Result<usize> {
        let len = image.len();
        match (self, image.kind) {
            (Images::Bytes(_), Kind::Bytes(_))
            | (Images::Floats(_), Kind::F32)
            | (Images::F16(_), Kind::F16)
            | (Images::Bf16(_), Kind::Bf16) => {}
            _ => return Err(Error::argument("images", self.name(), image.kind)),
        }
        if !self.len().is_multiple_of(len) {
            let unit = match self {
                Images::Bytes(_) => "bytes",
                _ => "floats",
            };
            let value = format!("{} {unit} long", self.len());
            let expected = format!("a multiple of {len} (H x W x C)");
            return Err(Error::argument("images", value, expected));
        }
        if let (Images::Bytes(bytes), Kind::Bytes(encoding)) = (self, image.kind) {
            let (min, max) = (encoding.min(), encoding.max());
            let integer = |b: u8| match min {
                0 => i32::from(b),
                _ => i32::from(b as i8),
            };
            let bad = |&b: &u8| !(min..=max).contains(&integer(b));
            // Every byte is a code of 8 bits.
            let first = match max - min {
                255 => None,
                _ => bytes.iter().position(bad),
            };
            if let Some(i) = first {
                let value = format!("{} at {i}", integer(bytes[i]));
                let expected = match min {
                    0 => format!("codes of at most {max}"),
                    _ => format!("codes from {min} to {max}"),
                };
                return Err(Error::argument("images", value, expected));
            }
        }
        Ok(self.len() / len)
    }

    /// `count` images of `len` elements from number `first` on.
    pub(super) fn slice(&self, first: usize, count: usize, len: usize) -> Images<'a> {
        let range = first * len..(first + count) * len;
        match self {
            Images::Bytes(bytes) => Images::Bytes(&bytes[range]),
            Images::Floats(floats) => Images::Floats(&floats[range]),
            Images::F16(floats) => Images::F16(&floats[range]),
            Images::Bf16(floats) => Images::Bf16(&floats[range]),
        }
    }
}

/// Where the outputs of a run go: as many as the model has, the others none.
pub(super) type Outs<'a> = [Option<OutRows<'a>>; MAX_OUTPUTS];

/// The memory that a run needs, for up to a number of images and threads; reused from run to run.
pub struct Workspace {
    images: usize,
    threads: usize,
    mode: Mode,
    /// A piece for each thread in throughput mode, else one. A piece is values, then scratch.
    words: Vec<u32>,
    piece: usize,
}

/// The memory that runs take, in bytes, planned when the model was built: what [`Model::planned`] tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    /// Values at most at one time, of all threads' images; the images themselves are the caller's.
    pub peak: usize,
    /// Working space of the neediest node, on all threads.
    pub scratch: usize,
    /// Both, as [`Model::workspace`] takes them from the system: the sizes are rounded up to cache lines.
    pub workspace: usize,
    /// Packed weights, thresholds, scales and the like.
    pub weights: usize,
}

impl Model {
    /// What [`Model::workspace`] with these arguments takes, and the weights; nothing is allocated.
    ///
    /// Errors if there is no such number of bytes.
    pub fn planned(&self, images: usize, threads: usize, mode: Mode) -> Result<Planned> {
        let (pieces, together) = share(threads, mode);
        let numbers = || {
            let peak = self.memory.words.checked_mul(images)?;
            let scratch = self.scratch_len(images, together)?;
            let (_, workspace) = self.pieces(images, threads, mode)?;
            let bytes = |words: usize| words.checked_mul(4);
            Some(Planned {
                peak: bytes(peak.checked_mul(pieces)?)?,
                scratch: bytes(scratch.checked_mul(pieces)?)?,
                workspace: bytes(workspace)?,
                weights: self.bytes().0,
            })
        };
        numbers().ok_or_else(|| too_many(images))
    }

    /// Memory for runs of up to `images` images at a time (in throughput mode: at a time on each thread) on up to
    /// `threads` threads ([`Par::threads`](crate::ops::Par::threads); 0 is 1); more images go through in turns.
    ///
    /// Errors if that does not fit in memory.
    pub fn workspace(&self, images: usize, threads: usize, mode: Mode) -> Result<Workspace> {
        let all = self.pieces(images, threads, mode);
        let (piece, len) = all.ok_or_else(|| too_many(images))?;
        let mut words = Vec::new();
        words.try_reserve_exact(len).map_err(|_| too_many(images))?;
        words.resize(len, 0);
        Ok(Workspace {
            images,
            threads: threads.max(1),
            mode,
            words,
            piece,
        })
    }

    /// Words of a piece, and of all pieces with room to begin at a cache line; none if there are no such numbers.
    fn pieces(&self, images: usize, threads: usize, mode: Mode) -> Option<(usize, usize)> {
        let (pieces, together) = share(threads, mode);
        let piece = self.piece(images, together)?;
        Some((piece, piece.checked_mul(pieces)?.checked_add(LINE)?))
    }

    /// Words of values and scratch for `images` images on `threads` threads; none if there is no such number.
    pub(super) fn piece(&self, images: usize, threads: usize) -> Option<usize> {
        let values = self.memory.words.checked_mul(images)?;
        let words = values.checked_add(self.scratch_len(images, threads)?)?;
        words.checked_next_multiple_of(LINE)
    }
}

/// The pieces of a workspace, and the threads that work on each together.
pub(super) fn share(threads: usize, mode: Mode) -> (usize, usize) {
    match mode {
        Mode::Latency => (1, threads.max(1)),
        Mode::Throughput => (threads.max(1), 1),
    }
}

fn too_many(images: usize) -> Error {
    Error::argument("images", images, "so many that they fit in memory")
}

impl Workspace {
    /// Images that go through at a time, on each thread in throughput mode.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Threads that it has memory for.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// How threads share the work.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        4 * self.words.len()
    }

    /// The pieces, from the start of a cache line on, and the words of each.
    pub(super) fn pieces(&mut self) -> (&mut [u32], usize) {
        let start = self.words.as_ptr().align_offset(4 * LINE).min(LINE);
        (&mut self.words[start..], self.piece)
    }
}
