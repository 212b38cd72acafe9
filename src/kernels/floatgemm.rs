//! Products of packed weights and float activations: the algorithm, over a small trait of float vectors.
//!
//! Lanes are output channels. A lane adds up one channel of one row, k ascending, by fused multiply-adds, each
//! weight being its integer, exact in f32. So the order of a sum depends on no tile, block, ISA or thread.
//!
//! There are two ways, with the same floats:
//!
//! * **direct**, for a few rows: a vector of weights is decoded in a register and used for all rows at once.
//!   Nothing is written but the result.
//! * **tiles**, for more: a block of K of a pair of vectors is decoded into floats, which stay in the first- or
//!   second-level cache while the rows pass by. Between blocks a sum waits in the result, where it is as exact
//!   as in a register.

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
    /// `self + a * b`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    unsafe fn tables(decode: &Decode) -> Self::Tables;
    /// LANES words.
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

/// Where weights come from.
pub(super) trait Source<T: Floats>: Copy {
    /// Adds activations times weights of columns `from..to` to `sums`.
    ///
    /// # Safety
    /// The features of T; weights for the columns, and at `a` activations for them in MR rows, `stride` apart.
    /// Both ends are multiples of the columns of a word.
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        columns: [usize; 2],
        a: *const f32,
        stride: usize,
        sums: &mut [[T; V]; MR],
    );
}

/// Decoded weights, `[k][PAIR][LANES]`. The stride of activations is [`STRIDE`], a constant, so that one register
/// points to all rows.
#[derive(Clone, Copy)]
struct Plain(*const f32);

impl<T: Floats> Source<T> for Plain {
    #[inline(always)]
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        [from, to]: [usize; 2],
        a: *const f32,
        _: usize,
        sums: &mut [[T; V]; MR],
    ) {
        for k in from..to {
            // SAFETY: the contract of the trait.
            unsafe {
                let w: [T; V] =
                    std::array::from_fn(|v| T::load(self.0.add((k * V + v) * T::LANES)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = T::splat(a.add(row * STRIDE + k));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = sum.fma(x, w);
                    }
                }
            }
        }
    }
}

/// Fields of 1, 2 or 4 bits, `[word of K][vector of the panel][LANES]`.
#[derive(Clone, Copy)]
struct Fields<T: Floats, const BITS: usize> {
    words: *const u32,
    /// Words from one word of a channel to its next.
    step: usize,
    tables: T::Tables,
}

impl<T: Floats, const BITS: usize> Fields<T, BITS> {
    /// Calls `each(k, weights)` for every column.
    ///
    /// # Safety
    /// As for `Source::run`.
    #[inline(always)]
    unsafe fn each<const V: usize>(
        self,
        [from, to]: [usize; 2],
        mut each: impl FnMut(usize, [T; V]),
    ) {
        let mut k = from;
        while k < to {
            // SAFETY: the contract.
            unsafe {
                let words = self.words.add(k / (32 / BITS) * self.step);
                let mut codes: [T::Codes; V] =
                    std::array::from_fn(|v| T::codes(words.add(v * T::LANES)));
                for _ in 0..8 {
                    for field in 0..4 / BITS {
                        each(k, codes.map(|c| T::value::<BITS>(self.tables, c, field)));
                        k += 1;
                    }
                    codes = codes.map(|c| T::next(c));
                }
            }
        }
    }
}

impl<T: Floats, const BITS: usize> Source<T> for Fields<T, BITS> {
    #[inline(always)]
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        columns: [usize; 2],
        a: *const f32,
        stride: usize,
        sums: &mut [[T; V]; MR],
    ) {
        // SAFETY: the contract of the trait.
        unsafe { self.each(columns, |k, w| multiply(a.add(k), stride, w, sums)) }
    }
}

/// Bytes, `[k / 4][vector of the panel][k % 4][LANES]`.
#[derive(Clone, Copy)]
struct Bytes<const SIGNED: bool> {
    words: *const u32,
    step: usize,
}

impl<const SIGNED: bool> Bytes<SIGNED> {
    /// As [`Fields::each`].
    #[inline(always)]
    unsafe fn each<T: Floats, const V: usize>(
        self,
        [from, to]: [usize; 2],
        mut each: impl FnMut(usize, [T; V]),
    ) {
        let mut k = from;
        while k < to {
            // SAFETY: the contract.
            unsafe {
                let bytes = self.words.add(k / 4 * self.step).cast::<u8>();
                for byte in 0..4 {
                    each(
                        k,
                        std::array::from_fn(|v| {
                            T::bytes::<SIGNED>(bytes.add((v * 4 + byte) * T::LANES))
                        }),
                    );
                    k += 1;
                }
            }
        }
    }
}

impl<T: Floats, const SIGNED: bool> Source<T> for Bytes<SIGNED> {
    #[inline(always)]
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        columns: [usize; 2],
        a: *const f32,
        stride: usize,
        sums: &mut [[T; V]; MR],
    ) {
        // SAFETY: the contract of the trait.
        unsafe { self.each(columns, |k, w| multiply(a.add(k), stride, w, sums)) }
    }
}

/// Adds column `a` of MR rows times its weights.
#[inline(always)]
unsafe fn multiply<T: Floats, const MR: usize, const V: usize>(
    a: *const f32,
    stride: usize,
    w: [T; V],
    sums: &mut [[T; V]; MR],
) {
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the contract of `Source::run`, which calls this.
        let x = unsafe { T::splat(a.add(row * stride)) };
        for (sum, w) in sums.iter_mut().zip(w) {
            // SAFETY: a calculation; the callers carry the features.
            *sum = unsafe { sum.fma(x, w) };
        }
    }
}

/// What both ways are told.
pub(super) struct FloatTask<'a> {
    /// Decoded weights `[k][PAIR][LANES]` for the tiles, else null.
    pub(super) plain: *const f32,
    /// Packed weights, as `FloatWeights` lays them out, from the first vector and column on.
    pub(super) words: *const u32,
    pub(super) bits: usize,
    pub(super) signed: bool,
    pub(super) decode: &'a Decode,
    /// `[rows][stride]`; for the tiles the stride is [`STRIDE`].
    pub(super) activations: *const f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
    /// Columns; for the direct way whole words of them.
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
    /// Channels, at least one: at most PAIR vectors for the tiles, at most a panel for the direct way.
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
/// The contract of the table entry, and the features of T.
#[inline(always)]
pub(super) unsafe fn tiles<T: Floats, const MOST: usize>(task: &FloatTask<'_>) {
    let source = Plain(task.plain);
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
            (1, _) => rows::<T, _, ONE, FOUR>(task, |words| Fields::<T, 1> {
                words,
                step,
                tables: T::tables(task.decode),
            }),
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

#[inline(always)]
unsafe fn rows<T: Floats, S: Source<T>, const ONE: usize, const FOUR: usize>(
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

/// Packed weights to decode, and where to.
pub(super) struct Decoding<'a> {
    pub(super) words: *const u32,
    pub(super) bits: usize,
    pub(super) signed: bool,
    pub(super) decode: &'a Decode,
    /// Whole words of them.
    pub(super) columns: usize,
    /// `[columns][PAIR][LANES]`
    pub(super) out: *mut f32,
}

/// Decodes columns of a pair of vectors.
///
/// # Safety
/// The contract of the table entry, and the features of T.
#[inline(always)]
pub(super) unsafe fn decode<T: Floats>(task: &Decoding<'_>, panel_vectors: usize) {
    let (step, words) = (panel_vectors * T::LANES, task.words);
    let put = |k: usize, w: [T; PAIR]| {
        for (v, w) in w.into_iter().enumerate() {
            // SAFETY: the contract: there is room for every column.
            unsafe { w.store(task.out.add((k * PAIR + v) * T::LANES)) };
        }
    };
    let columns = [0, task.columns];
    // SAFETY: the contract.
    unsafe {
        let tables = T::tables(task.decode);
        match (task.bits, task.signed) {
            (1, _) => Fields::<T, 1> {
                words,
                step,
                tables,
            }
            .each(columns, put),
            (2, _) => Fields::<T, 2> {
                words,
                step,
                tables,
            }
            .each(columns, put),
            (4, _) => Fields::<T, 4> {
                words,
                step,
                tables,
            }
            .each(columns, put),
            (_, true) => Bytes::<true> { words, step }.each(columns, put),
            (_, false) => Bytes::<false> { words, step }.each(columns, put),
        }
    }
}
