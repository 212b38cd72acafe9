//! The byte GEMM micro-kernel of a convolution: activations are read where lines of an image hold them.
//!
//! 1. The taps of a kernel row are neighbours in a line of the image, so four columns of K are four bytes of it, and the
//!    same bytes serve the taps of other pixels. Nothing is gathered: a tile walks the lines that a kernel spans, and its
//!    rows of activations are `pitch` bytes apart, which may overlap.
//! 2. What the taps of a line lack to whole words of four bytes meets weights of zero, so that any bytes may follow.
//! 3. Weights are signed bytes and activations bytes of the kind that the instruction multiplies with those: an offset
//!    makes them so when lines are filled, and what it adds to a sum is known when weights are laid out. Hence no
//!    sums of rows, and no differences of fields: first layers have few columns to pay for such things with.
//! 4. A panel has as many vectors of channels as it needs, at most those of the widest tile; fewer vectors have more rows.
//! 5. Codes of 1 and 2 bits are made in the tile (see `tilecodes`).

use std::marker::PhantomData;

use super::bytecount::Dot;
use super::lanes::Lanes;
use super::piece::Piece;
use super::tilecodes::TileCodes;

/// A panel of weights times pixels of one line of the output.
#[derive(Clone, Copy)]
pub(crate) struct LineTask {
    /// A panel `[lines, words, vectors]`, aligned to a vector.
    pub(super) weights: *const u32,
    /// What each channel starts from, as many as vectors hold.
    pub(super) start: *const i32,
    /// Vectors of the panel: 4, 2 or 1.
    pub(super) vectors: usize,
    /// Bits of a field whose products are no smaller than those of these bytes: 2, 4 or 8.
    pub(super) bits: usize,
    /// The first tap of the first pixel; each line of each pixel is readable for 4 * words bytes.
    pub(super) taps: *const u8,
    /// Bytes from a pixel's taps to the next one's.
    pub(super) pitch: usize,
    /// Lines that a kernel spans, and bytes from one to the next.
    pub(super) lines: usize,
    pub(super) line: usize,
    /// Words of four bytes that the taps of a line take.
    pub(super) words: usize,
    pub(super) pixels: usize,
    pub(super) out: LineOut,
}

/// What leaves a tile.
#[derive(Clone, Copy)]
pub(super) enum LineOut {
    /// Sums of the first pixel, of `lanes` channels, at least 1; those of the next pixel are `stride` on.
    Sums {
        at: *mut i32,
        stride: usize,
        lanes: usize,
    },
    /// Codes: how many thresholds a sum is above.
    Codes(TileCodes),
}

/// Runs `task` in tiles of `MR` pixels by `NV` vectors.
///
/// # Safety
/// The caller is compiled with V's features, the task has `NV` vectors, and its pointers are valid for the sizes that
/// its fields state.
#[inline(always)]
pub(super) unsafe fn run<
    V: Lanes,
    D: Dot<V>,
    const SIGNED: bool,
    const MR: usize,
    const NV: usize,
>(
    task: &LineTask,
) {
    let by = PhantomData;
    // SAFETY: passed on from the caller.
    unsafe {
        match task.bits {
            // Sums of 32 bits need no care.
            _ if D::limit(SIGNED) > 0 => D::call(Pixels::<V, D, SIGNED, MR, NV, 8> { task, by }),
            2 => D::call(Pixels::<V, D, SIGNED, MR, NV, 2> { task, by }),
            4 => D::call(Pixels::<V, D, SIGNED, MR, NV, 4> { task, by }),
            _ => D::call(Pixels::<V, D, SIGNED, MR, NV, 8> { task, by }),
        }
    }
}

/// All pixels of the task.
struct Pixels<'a, V, D, const SIGNED: bool, const MR: usize, const NV: usize, const BITS: usize> {
    task: &'a LineTask,
    by: PhantomData<(V, D)>,
}

impl<V: Lanes, D: Dot<V>, const SIGNED: bool, const MR: usize, const NV: usize, const BITS: usize>
    Piece for Pixels<'_, V, D, SIGNED, MR, NV, BITS>
{
    #[inline(always)]
    unsafe fn run(self) {
        let task = self.task;
        let mut pixel = 0;
        // SAFETY: every tile starts at a pixel below `pixels` and covers none behind it.
        unsafe {
            while task.pixels - pixel >= MR {
                tile::<V, D, SIGNED, MR, NV, BITS>(task, pixel);
                pixel += MR;
            }
            while MR > 4 && task.pixels - pixel >= 4 {
                tile::<V, D, SIGNED, 4, NV, BITS>(task, pixel);
                pixel += 4;
            }
            while MR > 2 && task.pixels - pixel >= 2 {
                tile::<V, D, SIGNED, 2, NV, BITS>(task, pixel);
                pixel += 2;
            }
            while pixel < task.pixels {
                tile::<V, D, SIGNED, 1, NV, BITS>(task, pixel);
                pixel += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<
    V: Lanes,
    D: Dot<V>,
    const SIGNED: bool,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
>(
    task: &LineTask,
    pixel: usize,
) {
    // SAFETY: the pixels from `pixel` on exist; words of weights and taps are those of the task, line by line; no lane
    // behind `lanes` is written.
    unsafe {
        let flush = D::flush(BITS);
        let mut counters = [[D::zero(); MR]; NV];
        let mut sums = [[V::zero(); MR]; NV];
        for (v, (counters, sums)) in counters.iter_mut().zip(&mut sums).enumerate() {
            let start = V::load(task.start.add(v * V::LANES).cast());
            let (counter, sum) = D::begin(start);
            *counters = [counter; MR];
            *sums = [sum; MR];
        }
        let mut weights = task.weights;
        let mut taps = task.taps.add(pixel * task.pitch);
        let mut room = flush;
        for _ in 0..task.lines {
            let (mut at, mut left) = (taps, task.words);
            while left > 0 {
                let some = if flush == usize::MAX {
                    left
                } else {
                    left.min(room)
                };
                for _ in 0..some {
                    step::<V, D, SIGNED, MR, NV, BITS>(weights, at, task.pitch, &mut counters);
                    weights = weights.add(NV * V::LANES);
                    at = at.add(4);
                }
                left -= some;
                if flush != usize::MAX {
                    room -= some;
                    if room == 0 {
                        widen::<V, D, SIGNED, MR, NV, BITS>(&mut sums, counters);
                        counters = [[D::zero(); MR]; NV];
                        room = flush;
                    }
                }
            }
            taps = taps.wrapping_add(task.line);
        }
        widen::<V, D, SIGNED, MR, NV, BITS>(&mut sums, counters);
        match task.out {
            LineOut::Sums { at, stride, lanes } => {
                for (v, sums) in sums.iter().enumerate() {
                    let lane = v * V::LANES;
                    if lane >= lanes {
                        break;
                    }
                    for (i, sum) in sums.iter().enumerate() {
                        let out = at.add((pixel + i) * stride + lane);
                        sum.store(out.cast(), lanes - lane);
                    }
                }
            }
            LineOut::Codes(codes) => codes.put::<V, MR, NV>(pixel, |i, v| sums[v][i]),
        }
    }
}

/// Adds what `counters` hold to `sums`.
#[inline(always)]
unsafe fn widen<
    V: Lanes,
    D: Dot<V>,
    const SIGNED: bool,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
>(
    sums: &mut [[V; MR]; NV],
    counters: [[D::Counter; MR]; NV],
) {
    let pairs = sums.as_flattened_mut().iter_mut();
    for (sum, counter) in pairs.zip(counters.as_flattened()) {
        // SAFETY: the caller carries the features.
        unsafe { *sum = sum.add(D::widen::<BITS, SIGNED>(*counter)) };
    }
}

/// Adds the products of four columns.
#[inline(always)]
unsafe fn step<
    V: Lanes,
    D: Dot<V>,
    const SIGNED: bool,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
>(
    weights: *const u32,
    taps: *const u8,
    pitch: usize,
    counters: &mut [[D::Counter; MR]; NV],
) {
    // SAFETY: the caller vouches for NV vectors and for four bytes of each of MR pixels.
    unsafe {
        let mut w = [V::zero(); NV];
        for (v, w) in w.iter_mut().enumerate() {
            *w = V::load(weights.add(v * V::LANES));
        }
        for i in 0..MR {
            let four = taps.add(i * pitch).cast::<u32>().read_unaligned();
            let a = V::splat(four).in_order();
            for (counters, w) in counters.iter_mut().zip(w) {
                counters[i] = D::dot::<BITS, SIGNED>(counters[i], w, a);
            }
        }
    }
}
