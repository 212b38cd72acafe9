//! The byte GEMM micro-kernel: four columns a step by multiply-add of bytes, for 8-bit activations and
//! weights of 1 to 8 bits.
//!
//! 1. A weight is stored as a field w' = w - base of 2, 4 or 8 bits. Lanes are output channels again: the 32
//!    bits of a lane hold four columns, a byte each, and a byte holds 8 / bits channels, `LANES` apart. One load
//!    thus serves 8 / bits vectors of channels, and bit fields become bytes by a shift and a mask.
//! 2. With activations as they come, unsigned or signed, and a base known when weights are packed:
//!
//!    ```text
//!    sum w a = dot(w', a) + base sum a
//!    ```
//!
//!    Instructions differ in the operands that they take. Those of x86 and `usdot` want one of unsigned and one
//!    of signed bytes; `sdot` and `smull` want two of signed, `udot` and `umull` two of unsigned bytes
//!    ([`ByteKernel::alike`](super::ByteKernel)). Fields of 2 and 4 bits are small enough to be either. Fields of
//!    8 bits are kept in the form that the activations leave: that is a choice of base, and costs no
//!    instruction.
//! 3. Where the CPU sums products in 32 bits, most fields need no shift. With v the byte that holds fields f_0,
//!    f_1, .., of b bits each, let
//!
//!    ```text
//!    S_i = sum (v mod 2^(b (i + 1))) a,      then      sum f_i a = (S_i - S_(i - 1)) / 2^(b i)
//!    ```
//!
//!    for one `and` a field, none for the last. Sums are modulo 2^32, hence a difference is exact while
//!    |sum f_i a| 2^(b i) < 2^31, or 2^32 where nothing is negative: after `NESTED` steps differences are taken and
//!    sums begin anew. The last field needs a byte up to 255; if the instruction takes weights for signed, that
//!    field alone is shifted down.
//! 4. Where the CPU sums products in 16 bits only, `flush` steps are all that cannot overflow, and then the
//!    counters are widened.
//! 5. An instruction that multiplies two rows of eight bytes with two others takes two steps of weights, moved together,
//!    and two rows of activations at a time ([`Dot::PAIRS`]). What it leaves is put in lanes at the end.
//! 6. Many rows share the work of making bytes of fields: that is done once for a block of K, whose bytes stay in the
//!    first-level cache, and tiles then find a byte for each weight. Between blocks a sum waits in the result. Few rows take
//!    the fields as they are. `Dot::unpack` says where many begins.
//! 7. While a tile counts it asks for the rows of the next one, and all tiles of a panel together for the weights behind
//!    theirs: what comes from further than the second-level cache is there when it is needed.
//! 8. A tile of few rows has too few counters to hide the latency of an addition: it works on several steps
//!    at once, each with counters of its own.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::bytecount::{self, Ahead, Bytes, CHUNK, Dot, NESTED};
use super::lanes::Lanes;
use super::panels::Strip;
use super::piece::Piece;
use super::sink;

/// Panels of weights times `rows` rows of bytes.
#[derive(Clone, Copy)]
pub(crate) struct ByteTask {
    /// Panels `[words, vectors of a step]`, aligned to a vector.
    pub(crate) strip: Strip,
    /// Bits of a field: 2, 4 or 8.
    pub(crate) bits: usize,
    /// Rows of bytes, `stride` apart, each readable for 4 * words bytes.
    pub(crate) activations: *const u8,
    pub(crate) stride: usize,
    /// Steps: ceil(K / 4).
    pub(crate) words: usize,
    pub(crate) rows: usize,
    /// Whether activations are signed bytes.
    pub(crate) signed: bool,
    /// What is added to each row; null for nothing.
    pub(crate) row_sums: *const i32,
}

/// Runs `task` in tiles of `MR` rows by `NV` vectors.
///
/// # Safety
/// The caller is compiled with V's features, and the pointers of `task` are valid for the sizes that its
/// fields state.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes, D: Dot<V>, const MR: usize, const NV: usize>(task: &ByteTask) {
    // One for all cases, or each would have its own on the stack.
    let mut room = Room([const { MaybeUninit::uninit() }; UNPACKED]);
    let room = &mut room;
    // SAFETY: passed on from the caller.
    unsafe {
        match (task.bits, task.signed) {
            (2, false) => panels::<V, D, MR, NV, 2, 4, false>(task, room),
            (2, true) => panels::<V, D, MR, NV, 2, 4, true>(task, room),
            (4, false) => panels::<V, D, MR, NV, 4, 2, false>(task, room),
            (4, true) => panels::<V, D, MR, NV, 4, 2, true>(task, room),
            (_, false) => panels::<V, D, MR, NV, 8, 1, false>(task, room),
            (_, true) => panels::<V, D, MR, NV, 8, 1, true>(task, room),
        }
    }
}

#[inline(always)]
unsafe fn panels<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const FIELDS: usize,
    const SIGNED: bool,
>(
    task: &ByteTask,
    room: &mut Room,
) {
    let mut left = Some(task.strip);
    while let Some(strip) = left {
        let (panel, rest) = strip.first(NV * V::LANES);
        let task = ByteTask {
            strip: panel,
            ..*task
        };
        // SAFETY: passed on from the caller: a panel is a part of the strip.
        unsafe {
            if FIELDS > 1 && task.rows >= D::unpack() {
                unpacked::<V, D, MR, NV, BITS, FIELDS, SIGNED>(&task, rest.is_some(), room);
            } else {
                let most = if FIELDS > 1 { NESTED } else { usize::MAX };
                let (mut from, step) = (0usize, NV / FIELDS * V::LANES);
                loop {
                    let to = task.words.min(from.saturating_add(most));
                    let block = Block {
                        weights: panel.weights.wrapping_add(from * step),
                        behind: panel.weights.wrapping_add(panel.panel_words),
                        lines: match rest {
                            Some(_) if to == task.words => panel.panel_words / 16,
                            _ => 0,
                        },
                        from,
                        to,
                    };
                    D::call(Rows::<V, D, MR, NV, BITS, FIELDS, SIGNED> {
                        task: &task,
                        block,
                        by: PhantomData,
                    });
                    if to == task.words {
                        break;
                    }
                    from = to;
                }
            }
        }
        left = rest;
    }
}

/// A block of K of a panel.
#[derive(Clone, Copy)]
struct Block {
    /// The weights of its steps.
    weights: *const u32,
    /// What will be read next, and how many lines of it.
    behind: *const u32,
    lines: usize,
    /// Its steps.
    from: usize,
    to: usize,
}

/// Words of weights that are made bytes at a time: 32 KiB, which leave a first-level cache of 48 KiB room for rows.
const UNPACKED: usize = 8 * 1024;

/// Room for them, in whole cache lines.
#[repr(C, align(64))]
struct Room([MaybeUninit<u32>; UNPACKED]);

/// One panel, whose fields become bytes in `room`, block by block; `more` says whether another one follows.
#[inline(always)]
unsafe fn unpacked<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const FIELDS: usize,
    const SIGNED: bool,
>(
    task: &ByteTask,
    more: bool,
    room: &mut Room,
) {
    let room: *mut u32 = room.0.as_mut_ptr().cast();
    // Blocks of nearly the same length.
    let most = UNPACKED / (NV * V::LANES);
    let block = task.words.div_ceil(task.words.div_ceil(most).max(1));
    let mut from = 0;
    loop {
        let to = task.words.min(from + block);
        let (step, last) = (NV / FIELDS * V::LANES, to == task.words);
        let packed = task.strip.weights.wrapping_add(from * step);
        // SAFETY: the steps from .. to are in the panel, their bytes no more than there is room for, and these are what
        // tiles read.
        unsafe {
            for k in 0..to - from {
                for v in 0..NV {
                    let word = V::load(packed.add(k * step + v / FIELDS * V::LANES));
                    let at = room.add((k * NV + v) * V::LANES);
                    word.field::<BITS>(v % FIELDS).store(at, V::LANES);
                }
            }
            let block = Block {
                weights: room,
                behind: packed.wrapping_add((to - from) * step),
                lines: if more || !last {
                    (to - from) * step / 16
                } else {
                    0
                },
                from,
                to,
            };
            let by = PhantomData;
            match D::WIDE {
                true => D::call(Rows::<V, D, MR, NV, 8, 1, SIGNED> { task, block, by }),
                false => D::call(Rows::<V, D, MR, NV, BITS, 1, SIGNED> { task, block, by }),
            }
        }
        if last {
            return;
        }
        from = to;
    }
}

/// All rows of a panel times a block of it.
struct Rows<
    'a,
    V,
    D,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const FIELDS: usize,
    const SIGNED: bool,
> {
    task: &'a ByteTask,
    block: Block,
    by: PhantomData<(V, D)>,
}

impl<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const FIELDS: usize,
    const SIGNED: bool,
> Piece for Rows<'_, V, D, MR, NV, BITS, FIELDS, SIGNED>
{
    #[inline(always)]
    unsafe fn run(self) {
        let Rows { task, block, .. } = self;
        let (tiles, chunks) = (task.rows / MR, (block.to - block.from).div_ceil(CHUNK));
        // Few tiles read their weights as fast as they come: nothing is gained by asking for more.
        let lines = match tiles * chunks {
            shares if tiles >= 4 => block.lines.div_ceil(shares.max(1)),
            _ => 0,
        };
        // Whole cache lines.
        let at_once = NV
            .div_ceil(chunks.max(1))
            .next_multiple_of((16 / V::LANES).max(1));
        // SAFETY: every tile starts at a row below `rows` and covers no row behind it.
        unsafe {
            let mut row = 0;
            let mut behind = block.behind;
            while task.rows - row >= MR {
                let (result, stride) = task.strip.sink.rows_from(row);
                let ahead = Ahead {
                    result,
                    stride,
                    vectors: NV,
                    at_once,
                    rows: task.rows - row >= 2 * MR,
                    weights: behind,
                    lines,
                };
                tile::<V, D, MR, NV, BITS, FIELDS, SIGNED>(task, block, row, ahead);
                behind = behind.wrapping_add(16 * lines * chunks);
                row += MR;
            }
            // Few sizes of tiles: each is code that is compiled, and loaded, for every kind of weights.
            while MR > 2 && task.rows - row >= 2 {
                tile::<V, D, 2, NV, BITS, FIELDS, SIGNED>(task, block, row, Ahead::NOTHING);
                row += 2;
            }
            if row < task.rows {
                tile::<V, D, 1, NV, BITS, FIELDS, SIGNED>(task, block, row, Ahead::NOTHING);
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const FIELDS: usize,
    const SIGNED: bool,
>(
    task: &ByteTask,
    block: Block,
    row: usize,
    ahead: Ahead,
) {
    // SAFETY: rows row .. row + MR exist, and weights and activations for all steps of the block; `finish` stays inside
    // the sink.
    unsafe {
        if ahead.at_once == 0 {
            sink::expect::<V, MR, NV>(&task.strip.sink, row);
        }
        let bytes = Bytes {
            weights: block.weights,
            activations: task.activations.add(row * task.stride + 4 * block.from),
            stride: task.stride,
        };
        let steps = block.to - block.from;
        let sums = bytecount::count::<V, D, MR, NV, BITS, FIELDS, SIGNED>(bytes, 0, steps, ahead);
        finish::<V, MR, NV>(task, block, row, sums);
    }
}

/// Adds what the blocks before left in the result, and leaves sums there or gives results to the sink.
#[inline(always)]
unsafe fn finish<V: Lanes, const MR: usize, const NV: usize>(
    task: &ByteTask,
    block: Block,
    row: usize,
    mut sums: [[V; MR]; NV],
) {
    // SAFETY: rows row .. row + MR exist in the sink and in `row_sums`, and NR starts are readable.
    unsafe {
        let (sink, lanes) = (&task.strip.sink, task.strip.lanes);
        if block.from > 0 {
            // By way of memory, for the reason that `sink::put` gives.
            let mut waiting = [[[0u32; 16]; MR]; NV];
            for (v, waiting) in waiting.iter_mut().enumerate() {
                let lane = v * V::LANES;
                if lane >= lanes {
                    break;
                }
                for (i, waiting) in waiting.iter_mut().enumerate() {
                    let kept: V = sink.waiting(row + i, lane, lanes - lane);
                    kept.store(waiting.as_mut_ptr(), V::LANES);
                }
            }
            for (sums, waiting) in sums.iter_mut().zip(&waiting) {
                for (sum, waiting) in sums.iter_mut().zip(waiting) {
                    *sum = sum.add(V::load(waiting.as_ptr()));
                }
            }
        }
        if block.to < task.words {
            for (v, sums) in sums.iter().enumerate() {
                let lane = v * V::LANES;
                if lane < lanes {
                    for (i, sum) in sums.iter().enumerate() {
                        sum.store(sink.kept(row + i, lane), lanes - lane);
                    }
                }
            }
            return;
        }
        let mut results = [[V::zero(); NV]; MR];
        for (v, sums) in sums.iter().enumerate() {
            let start = V::load(task.strip.start.add(v * V::LANES).cast());
            for (i, sum) in sums.iter().enumerate() {
                results[i][v] = sum.add(start);
            }
        }
        if !task.row_sums.is_null() {
            for (i, results) in results.iter_mut().enumerate() {
                let row_sum = V::splat(*task.row_sums.add(row + i) as u32);
                for result in results {
                    *result = result.add(row_sum);
                }
            }
        }
        sink::put::<V, MR, NV>(sink, results, row, lanes);
    }
}
