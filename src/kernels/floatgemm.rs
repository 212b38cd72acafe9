//! Products of packed weights and float activations: the algorithm, over a small trait of float vectors.
//!
//! Lanes are output channels. A lane adds up one channel of one row, k ascending, each weight being its integer, exact
//! in f32. The order of a sum depends on the bits of the weights alone, on no number of rows, tile, block, ISA or
//! thread: weights of one bit are added in fours, `(w a + w a) + (w a + w a)`, of two bits in pairs, and all others one
//! by one, where `+ w a` is a fused multiply-add.
//!
//! There are three ways, with the same floats:
//!
//! * **direct**, for a few rows: a vector of weights is decoded in a register and used for all rows at once.
//!   Nothing is written but the result.
//! * **tiles**, for more: a block of K of a pair of vectors is decoded into floats, which stay in the first- or
//!   second-level cache while the rows pass by. Between blocks a sum waits in the result, where it is as exact
//!   as in a register.
//! * **look-ups** of whole fours or pairs, in `floatsums`: all weights of one bit, and of two bits where look-ups are
//!   faster.

use super::floatsources::{Bytes, Fields, Plain, PlainPairs, Source};
use super::floatweights::Decode;

/// Most rows of the direct way.
pub(crate) const FEW: usize = 8;
/// Most columns of K in a block of the tiles.
pub(crate) const BLOCK: usize = 512;
/// From row to row of a block of activations: not a power of two, or rows would compete for one set of the cache.
pub(crate) const STRIDE: usize = BLOCK + 16;
/// Vectors of channels that are decoded together for the tiles.
pub(crate) const PAIR: usize = 2;

/// A vector of f32, and how weights become one.
pub(super) trait Floats: Copy {
    const LANES: usize;
    /// A 32-bit word of packed weights a lane.
    type Codes: Copy;
    /// What [`Floats::value`] needs beside them.
    type Tables: Copy;

    unsafe fn zero() -> Self;
    /// LANES times the float at `p`.
    unsafe fn splat(p: *const f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// The first `valid` lanes, at least one, and zeros.
    unsafe fn load_some(p: *const f32, valid: usize) -> Self;
    /// Only the first `valid` lanes, at least one.
    unsafe fn store_some(self, p: *mut f32, valid: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self + a * b`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    unsafe fn tables(decode: &Decode) -> Self::Tables;
    /// LANES words; `p` may point between words.
    unsafe fn codes(p: *const u32) -> Self::Codes;
    /// Field `index` of the low four bits of each lane, as floats. What is above those bits does not matter.
    unsafe fn value<const BITS: usize>(
        tables: Self::Tables,
        codes: Self::Codes,
        index: usize,
    ) -> Self;
    /// Four bits down.
    unsafe fn next(codes: Self::Codes) -> Self::Codes;
    /// LANES bytes, as floats.
    unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> Self;
}

/// What all ways are told.
pub(super) struct FloatTask<'a> {
    /// Decoded weights `[k][PAIR][LANES]` for the tiles, else null.
    pub(super) plain: *const f32,
    /// Packed weights, as `FloatWeights` lays them out, from the first vector and column on.
    pub(super) words: *const u32,
    pub(super) bits: usize,
    pub(super) signed: bool,
    pub(super) decode: &'a Decode,
    /// `[rows][stride]`; for the tiles the stride is [`STRIDE`]. For look-ups tables instead.
    pub(super) activations: *const f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
    /// Columns: for tiles of weights of two bits an even number, for the other ways whole words of them.
    pub(super) columns: usize,
    /// Columns of a group, `columns` or more if there are no groups.
    pub(super) group: usize,
    pub(super) grouped: bool,
    /// Of the first group and channel; a group is `scale_step` behind the one before.
    pub(super) scales: *const f32,
    pub(super) scale_step: usize,
    pub(super) bias: *const f32,
    /// Whether the sums begin here, and end here.
    pub(super) first: bool,
    pub(super) last: bool,
    /// Channels, at least one: at most PAIR vectors for the tiles, at most a panel for the other ways.
    pub(super) lanes: usize,
    pub(super) out: *mut f32,
    pub(super) out_stride: usize,
}

/// MR rows by V vectors of channels, of which the first is `vector`, from row `row` on.
#[inline(always)]
unsafe fn tile<T: Floats, S: Source<T>, const MR: usize, const V: usize>(
    task: &FloatTask<'_>,
    source: S,
    row: usize,
    vector: usize,
) {
    // SAFETY: the contract of the table entry: activations, weights, scales and bias have the extent that the
    // task says, and only lanes below `task.lanes` of the result are touched.
    unsafe {
        let channel = vector * T::LANES;
        let a = task.activations.add(row * task.stride);
        let out = task.out.add(row * task.out_stride + channel);
        let valid = task.lanes - channel;
        let mut totals = [[T::zero(); V]; MR];
        if !task.first {
            each_vector::<T, MR, V>(valid, |r, v, valid| {
                let p = out.add(r * task.out_stride + v * T::LANES);
                totals[r][v] = match valid {
                    Some(valid) => T::load_some(p, valid),
                    None => T::load(p),
                };
            });
        }
        let (mut from, mut scales) = (0, task.scales.add(channel));
        loop {
            let to = task.columns.min(from + task.group);
            let mut sums = match task.grouped {
                true => [[T::zero(); V]; MR],
                false => totals,
            };
            source.run::<MR, V>([from, to], a, task.stride, &mut sums);
            if task.grouped || task.last {
                for v in 0..V {
                    let scale = T::load(scales.add(v * T::LANES));
                    for r in 0..MR {
                        let total = match task.grouped {
                            true => totals[r][v],
                            false => T::zero(),
                        };
                        totals[r][v] = total.fma(scale, sums[r][v]);
                    }
                }
            } else {
                totals = sums;
            }
            scales = scales.wrapping_add(task.scale_step);
            from = to;
            if from >= task.columns {
                break;
            }
        }
        if task.last {
            for v in 0..V {
                let bias = T::load(task.bias.add(channel + v * T::LANES));
                for totals in &mut totals {
                    totals[v] = totals[v].add(bias);
                }
            }
        }
        each_vector::<T, MR, V>(valid, |r, v, valid| {
            let p = out.add(r * task.out_stride + v * T::LANES);
            match valid {
                Some(valid) => totals[r][v].store_some(p, valid),
                None => totals[r][v].store(p),
            }
        });
    }
}

/// Calls `each(row, vector, valid)` for every vector with a valid lane; `valid` is `None` if all are.
#[inline(always)]
fn each_vector<T: Floats, const MR: usize, const V: usize>(
    valid: usize,
    mut each: impl FnMut(usize, usize, Option<usize>),
) {
    if valid >= V * T::LANES {
        for r in 0..MR {
            for v in 0..V {
                each(r, v, None);
            }
        }
        return;
    }
    for v in 0..V {
        if valid > v * T::LANES {
            let left = valid - v * T::LANES;
            for r in 0..MR {
                each(r, v, Some(left.min(T::LANES)));
            }
        }
    }
}

/// All rows of a task by decoded weights, in tiles of `MOST` rows and of few sizes for the rest.
///
/// # Safety
/// The contract of the table entry, and the features of T; weights have more than two bits.
#[inline(always)]
pub(super) unsafe fn tiles<T: Floats, const MOST: usize>(task: &FloatTask<'_>) {
    // SAFETY: the contract.
    unsafe { heights::<T, _, MOST>(task, Plain(task.plain)) }
}

/// The same for weights of two bits.
///
/// # Safety
/// The contract of the table entry, and the features of T.
#[inline(always)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code)
)]
pub(super) unsafe fn pair_tiles<T: Floats, const MOST: usize>(task: &FloatTask<'_>) {
    // SAFETY: the contract.
    unsafe { heights::<T, _, MOST>(task, PlainPairs(Plain(task.plain))) }
}

#[inline(always)]
unsafe fn heights<T: Floats, S: Source<T>, const MOST: usize>(task: &FloatTask<'_>, source: S) {
    let mut row = 0;
    while row < task.rows {
        let left = task.rows - row;
        // SAFETY: the contract; a tile ends at `task.rows` or before.
        row += unsafe {
            if left >= MOST {
                tile::<T, _, MOST, PAIR>(task, source, row, 0);
                MOST
            } else if MOST > 8 && left >= 8 {
                tile::<T, _, 8, PAIR>(task, source, row, 0);
                8
            } else if MOST > 4 && left >= 4 {
                tile::<T, _, 4, PAIR>(task, source, row, 0);
                4
            } else if left >= 2 {
                tile::<T, _, 2, PAIR>(task, source, row, 0);
                2
            } else {
                tile::<T, _, 1, PAIR>(task, source, row, 0);
                1
            }
        };
    }
}

/// Up to [`FEW`] rows by packed weights of a panel. ONE and FOUR are the vectors of channels at a time for 1 and
/// for up to 4 rows: as many sums as hide the latency of a multiply-add and fit the registers.
///
/// # Safety
/// The contract of the table entry, and the features of T.
#[inline(always)]
pub(super) unsafe fn direct<T: Floats, const ONE: usize, const FOUR: usize>(
    task: &FloatTask<'_>,
    panel_vectors: usize,
) {
    let step = panel_vectors * T::LANES;
    // SAFETY: the contract, which is that of both.
    unsafe {
        match (task.bits, task.signed) {
            (2, _) => rows::<T, _, ONE, FOUR>(task, |words| Fields::<T, 2> {
                words,
                step,
                tables: T::tables(task.decode),
            }),
            (4, _) => rows::<T, _, ONE, FOUR>(task, |words| Fields::<T, 4> {
                words,
                step,
                tables: T::tables(task.decode),
            }),
            (_, true) => rows::<T, _, ONE, FOUR>(task, |words| Bytes::<true> { words, step }),
            (_, false) => rows::<T, _, ONE, FOUR>(task, |words| Bytes::<false> { words, step }),
        }
    }
}

/// All rows of a task by the weights that `source` makes of a pointer to the words of a vector. As [`direct`].
///
/// # Safety
/// The contract of the table entry, and the features of T.
#[inline(always)]
pub(super) unsafe fn rows<T: Floats, S: Source<T>, const ONE: usize, const FOUR: usize>(
    task: &FloatTask<'_>,
    source: impl Fn(*const u32) -> S,
) {
    let vectors = task.lanes.div_ceil(T::LANES);
    let mut row = 0;
    while row < task.rows {
        let (height, at_once) = match task.rows - row {
            1 => (1, ONE),
            2 | 3 => (2, FOUR),
            _ => (4, FOUR),
        };
        for v in (0..vectors).step_by(at_once) {
            let source = source(task.words.wrapping_add(v * T::LANES));
            // SAFETY: the contract; a panel is a multiple of `at_once` vectors, and `v` is one of them; `height` rows
            // are left.
            unsafe {
                match height {
                    1 => tile::<T, _, 1, ONE>(task, source, row, v),
                    2 => tile::<T, _, 2, FOUR>(task, source, row, v),
                    _ => tile::<T, _, 4, FOUR>(task, source, row, v),
                }
            }
        }
        row += height;
    }
}
