//! The table GEMM micro-kernel: sums of activations looked up by the bits of weights of one or two bits.
//!
//! 1. A weight is an offset plus a weighted bit, w = o + c W, and an activation is b + s u with u >= 0, at most 15:
//!
//!    ```text
//!    sum w a = c s sum W u  +  o sum a  +  c b sum W
//!    ```
//!
//!    The second term is one number for each row of activations, the third one for each channel. What
//!    remains is a sum of those u whose weight has its bit set.
//! 2. `GROUP` neighbours of a row have 2^GROUP such sums. They are a table of bytes, built once for a row and
//!    read by all channels; the `GROUP` bits of a channel are the index, a byte each. One shuffle of bytes looks
//!    up as many channels as a vector has bytes, and one addition of bytes takes them in, whatever the bits of
//!    the activations.
//! 3. A table is built from two halves: the sums of the lower and of the upper half of its group are made for
//!    four groups in one vector, and two shuffles and an addition make a table of them.
//! 4. Bytes overflow after `flush` lookups, floor(255 / (GROUP max u)). Before that they are widened without
//!    leaving their lanes: a vector of 16-bit sums takes them as they are, in pairs, low + 256 high, and another takes
//!    the high ones alone; at the end the first minus 256 times the second is exact modulo 2^16.
//! 5. Tables are large, 64 bytes for 6 activations. So K is cut into blocks whose tables stay in the
//!    second-level cache for a block of rows while the indices of a panel stay in the first (see
//!    `lutkernel`). Sums of a block are added to those of the blocks before, which wait in the result itself:
//!    as the two vectors of 16-bit sums while these cannot overflow, else as 32 bits.
//! 6. A weight of two bits is its upper bit twice and its lower one: one pass over a block for each, and between them
//!    the 16-bit sums are doubled. W is then its code, w less the smallest weight, and the sums are up to three times as
//!    large.
//! 7. Indices of four bits are two in a byte: with few rows, what memory gives bounds the speed. Up to `FEW_ROWS` rows
//!    take them apart in registers; for more they become a byte each, a block of a panel at a time.
//!
//! Bits of weights behind K are zero, so what tables hold of activations behind K is never taken.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::lanes::{AHEAD, Lanes};
use super::luttask::{BuildTask, LutTask};
use super::piece::{Features, Piece};

/// A vector of bytes of some ISA. As [`Lanes`], to be called where the features are.
pub(super) trait ByteLanes: Copy {
    /// 32-bit lanes: a quarter of as many.
    type Sums: Lanes;
    /// Bytes in a vector.
    const LANES: usize;

    /// All bytes zero.
    unsafe fn zero() -> Self;
    /// `LANES` bytes from `p`.
    unsafe fn load(p: *const u8) -> Self;
    /// Writes `LANES` bytes to `p`.
    unsafe fn store(self, p: *mut u8);
    /// This vector, made no earlier than the code says: see [`Lanes::in_order`].
    #[inline(always)]
    unsafe fn in_order(self) -> Self {
        self
    }
    /// Sums of bytes.
    unsafe fn add_bytes(self, other: Self) -> Self;
    /// Sums of 16-bit lanes modulo 2^16.
    unsafe fn add_halves(self, other: Self) -> Self;
    /// Sums of 16-bit lanes and the upper byte of those of `bytes`.
    unsafe fn add_upper(self, bytes: Self) -> Self;
    /// 16-bit lanes less 256 times those of `upper`.
    unsafe fn less_upper(self, upper: Self) -> Self;
    /// Half `half` of the 16-bit lanes as 32-bit lanes.
    unsafe fn widen(self, half: usize) -> Self::Sums;
}

/// Tables of bytes in vectors of some ISA. As [`Lanes`], to be called where the features are.
pub(super) trait Tables: Features {
    type Bytes: ByteLanes;
    /// Activations of a table.
    const GROUP: usize;
    /// Indices in a byte, those of consecutive groups: 1, or 2 of four bits.
    const SHARE: usize;

    /// Index `i` of each byte, the lower bits first.
    unsafe fn index(shared: Self::Bytes, i: usize) -> Self::Bytes;
    /// The table of 2^GROUP bytes at `p`.
    unsafe fn load(p: *const u8) -> Self::Bytes;
    /// The bytes of `table` at `indices`, each below 2^GROUP.
    unsafe fn look_up(table: Self::Bytes, indices: Self::Bytes) -> Self::Bytes;
    /// The tables of four groups from `codes`, each plus `base`, one behind the other at `tables`.
    unsafe fn build(codes: *const u8, base: u8, tables: *mut u8);
}

/// Groups whose tables are built together.
pub(crate) const QUAD: usize = 4;

/// Bytes of indices that a block of a panel may have for each bit of its weights, a byte for each: half of a first-level
/// cache.
pub(super) const BLOCK_BYTES: usize = 24 * 1024;

/// Rows below which bytes of several indices stay as they are: a tile of few rows takes them apart in three instructions,
/// and making them bytes takes six.
const FEW_ROWS: usize = 4;

/// Room for the indices of a block, a byte each, of weights of two bits.
#[repr(C, align(64))]
struct Room([MaybeUninit<u8>; 2 * BLOCK_BYTES]);

/// Makes the tables of all rows of `task`.
///
/// # Safety
/// The caller is compiled with T's features, and the pointers of `task` are valid for the sizes that its
/// fields state.
#[inline(always)]
pub(super) unsafe fn build<T: Tables>(task: &BuildTask) {
    for row in 0..task.rows {
        for quad in 0..task.quads {
            // SAFETY: row < rows and quad < quads, so codes are read and tables written inside their rows.
            unsafe {
                let codes = task.codes.add(row * task.stride + quad * QUAD * T::GROUP);
                let at = row * task.table_stride + ((quad * QUAD) << T::GROUP);
                T::build(codes, task.base, task.tables.add(at));
            }
        }
    }
}

/// Runs `task` in tiles of `MR` rows by `NV` vectors; few lookups between two flushes, `FEW`, are unrolled.
///
/// # Safety
/// As [`build`].
#[inline(always)]
pub(super) unsafe fn run<T: Tables, const MR: usize, const NV: usize, const FEW: usize>(
    task: &LutTask,
) {
    // SAFETY: passed on; `apart` gives a task for the same panel.
    unsafe {
        match T::SHARE {
            1 => panel::<T, MR, NV, FEW, 1>(task),
            _ if task.rows < FEW_ROWS => panel::<T, 1, NV, FEW, 2>(task),
            _ => {
                let mut room = Room([const { MaybeUninit::uninit() }; 2 * BLOCK_BYTES]);
                panel::<T, MR, NV, FEW, 1>(&apart::<T>(task, &mut room));
            }
        }
    }
}

/// `task` with its indices, two in a byte, in `room` as one in a byte.
#[inline(always)]
unsafe fn apart<T: Tables>(task: &LutTask, room: &mut Room) -> LutTask {
    let step = task.vectors * T::Bytes::LANES;
    let room: *mut u8 = room.0.as_mut_ptr().cast();
    for pair in 0..task.planes * task.taps * task.groups / 2 {
        for at in (0..step).step_by(T::Bytes::LANES) {
            // SAFETY: the task has as many bytes of indices as pairs times steps, at most half of what there is room for.
            unsafe {
                let both = T::Bytes::load(task.indices.add(pair * step + at));
                for i in 0..2 {
                    T::index(both, i).store(room.add((2 * pair + i) * step + at));
                }
            }
        }
    }
    LutTask {
        indices: room,
        ..*task
    }
}

/// Indices of which `SHARE` are in a byte.
#[inline(always)]
unsafe fn panel<
    T: Tables,
    const MR: usize,
    const NV: usize,
    const FEW: usize,
    const SHARE: usize,
>(
    task: &LutTask,
) {
    let by = PhantomData;
    let mut vector = 0;
    while vector < task.vectors {
        // SAFETY: vector < vectors, and no more vectors are asked for than remain.
        unsafe {
            match task.vectors - vector {
                1 => T::call(Rows::<T, MR, 1, FEW, SHARE> { task, vector, by }),
                2 if NV > 2 => T::call(Rows::<T, MR, 2, FEW, SHARE> { task, vector, by }),
                3 if NV > 3 => T::call(Rows::<T, MR, 3, FEW, SHARE> { task, vector, by }),
                _ => T::call(Rows::<T, MR, NV, FEW, SHARE> { task, vector, by }),
            }
        }
        vector += NV;
    }
}

/// All rows times `NV` vectors of the panel, from `vector` on.
struct Rows<'a, T, const MR: usize, const NV: usize, const FEW: usize, const SHARE: usize> {
    task: &'a LutTask,
    vector: usize,
    by: PhantomData<T>,
}

impl<T: Tables, const MR: usize, const NV: usize, const FEW: usize, const SHARE: usize> Piece
    for Rows<'_, T, MR, NV, FEW, SHARE>
{
    #[inline(always)]
    unsafe fn run(self) {
        let Rows { task, vector, .. } = self;
        // SAFETY: every tile starts at a row below `rows` and covers no row behind it.
        unsafe {
            let mut row = 0;
            while task.rows - row >= MR {
                tile::<T, MR, NV, FEW, SHARE>(task, vector, row);
                row += MR;
            }
            while MR > 1 && row < task.rows {
                tile::<T, 1, NV, FEW, SHARE>(task, vector, row);
                row += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<
    T: Tables,
    const MR: usize,
    const NV: usize,
    const FEW: usize,
    const SHARE: usize,
>(
    task: &LutTask,
    vector: usize,
    row: usize,
) {
    // SAFETY: group < groups, a multiple of SHARE, rows row .. row + MR and vectors vector .. vector + NV exist, so indices
    // are read inside the panel and tables inside their rows; `finish` stays inside the sink.
    unsafe {
        let step = task.vectors * T::Bytes::LANES;
        let mut indices = task.indices.add(vector * T::Bytes::LANES);
        let rows = task.rows_at::<MR>(row);
        let mut low = [[T::Bytes::zero(); MR]; NV];
        let mut high = [[T::Bytes::zero(); MR]; NV];
        // One loop over the taps of all planes: of two, one in the other, the inner one would leave the sums in memory.
        let (mut plane, mut tap) = (0, 0);
        while plane < task.planes && task.taps > 0 {
            if tap == 0 {
                if plane > 0 {
                    // By constant numbers: an iterator over both would keep them in memory, and every flush would store them.
                    for v in 0..NV {
                        for i in 0..MR {
                            low[v][i] = low[v][i].add_halves(low[v][i]);
                            high[v][i] = high[v][i].add_halves(high[v][i]);
                        }
                    }
                }
                if !task.first && task.narrow && plane + 1 == task.planes {
                    wait_no_more(task, vector, row, &mut low, &mut high);
                }
            }
            let tables = task.tap_of(&rows, tap);
            let mut group = 0;
            if task.flush == FEW {
                while task.groups - group >= FEW {
                    let mut bytes = [[T::Bytes::zero(); MR]; NV];
                    for i in 0..FEW / SHARE {
                        let at = (
                            indices.add((group / SHARE + i) * step),
                            (group + i * SHARE) << T::GROUP,
                        );
                        look_up::<T, MR, NV, SHARE>(at.0, &tables, at.1, &mut bytes);
                    }
                    flush(&mut low, &mut high, &bytes);
                    group += FEW;
                }
            }
            while group < task.groups {
                let end = task.groups.min(group + task.flush / SHARE * SHARE);
                let mut bytes = [[T::Bytes::zero(); MR]; NV];
                while group < end {
                    let at = (indices.add(group / SHARE * step), group << T::GROUP);
                    look_up::<T, MR, NV, SHARE>(at.0, &tables, at.1, &mut bytes);
                    group += SHARE;
                }
                flush(&mut low, &mut high, &bytes);
            }
            indices = indices.add(task.groups / SHARE * step);
            tap += 1;
            if tap == task.taps {
                (plane, tap) = (plane + 1, 0);
            }
        }
        finish(task, vector, row, &low, &high);
    }
}

/// Adds the 16-bit sums that the blocks before left in the result.
#[inline(always)]
unsafe fn wait_no_more<B: ByteLanes, const MR: usize, const NV: usize>(
    task: &LutTask,
    vector: usize,
    row: usize,
    low: &mut [[B; MR]; NV],
    high: &mut [[B; MR]; NV],
) {
    // SAFETY: rows row .. row + MR and vectors vector .. vector + NV exist, and `finish` left a whole vector's sums here.
    unsafe {
        for v in 0..NV {
            let lane = (vector + v) * B::LANES;
            for i in 0..MR {
                if task.lanes - lane >= B::LANES {
                    let waiting = task.sink.kept(row + i, lane).cast::<u8>();
                    low[v][i] = low[v][i].add_halves(B::load(waiting));
                    high[v][i] = high[v][i].add_halves(B::load(waiting.add(B::LANES)));
                }
            }
        }
    }
}

/// Adds to `bytes` what `NV` vectors of indices find in the tables of `SHARE` groups of `MR` rows, `at` bytes behind `rows`.
#[inline(always)]
unsafe fn look_up<T: Tables, const MR: usize, const NV: usize, const SHARE: usize>(
    indices: *const u8,
    rows: &[*const u8; MR],
    at: usize,
    bytes: &mut [[T::Bytes; MR]; NV],
) {
    // SAFETY: the caller vouches for NV vectors of indices and for SHARE tables in each of MR rows.
    unsafe {
        let mut table = [[T::Bytes::zero(); MR]; SHARE];
        for (group, table) in table.iter_mut().enumerate() {
            for (table, row) in table.iter_mut().zip(rows) {
                *table = T::load(row.add(at + (group << T::GROUP)));
            }
        }
        for (v, bytes) in bytes.iter_mut().enumerate() {
            let at = v * T::Bytes::LANES;
            if MR == 1 && at.is_multiple_of(64) {
                // One row reads its indices once, and nothing else takes as long.
                let ahead = indices.wrapping_add(4 * AHEAD + at);
                <T::Bytes as ByteLanes>::Sums::prefetch(ahead.cast());
            }
            let read = T::Bytes::load(indices.add(at));
            for (group, table) in table.iter().enumerate() {
                let index = match SHARE {
                    1 => read,
                    _ => T::index(read, group),
                };
                for (byte, &table) in bytes.iter_mut().zip(table) {
                    *byte = byte.add_bytes(T::look_up(table, index)).in_order();
                }
            }
        }
    }
}

/// Adds `bytes` to 16-bit sums: `low` gains pairs, low + 256 high, and `high` the high ones.
#[inline(always)]
unsafe fn flush<B: ByteLanes, const MR: usize, const NV: usize>(
    low: &mut [[B; MR]; NV],
    high: &mut [[B; MR]; NV],
    bytes: &[[B; MR]; NV],
) {
    for v in 0..NV {
        for i in 0..MR {
            // SAFETY: values only.
            unsafe {
                low[v][i] = low[v][i].add_halves(bytes[v][i]);
                high[v][i] = high[v][i].add_upper(bytes[v][i]);
            }
        }
    }
}

/// Adds the sums of the blocks before, and leaves the new ones in the result or gives them to the sink.
#[inline(always)]
unsafe fn finish<B: ByteLanes, const MR: usize, const NV: usize>(
    task: &LutTask,
    vector: usize,
    row: usize,
    low: &[[B; MR]; NV],
    high: &[[B; MR]; NV],
) {
    // SAFETY: rows row .. row + MR exist in `row_sums`, and `put` stays inside the sink.
    unsafe {
        for i in 0..MR {
            let row_sum = match task.row_sums.is_null() {
                true => B::Sums::zero(),
                false => B::Sums::splat(*task.row_sums.add(row + i) as u32),
            };
            for v in 0..NV {
                let lane = (vector + v) * B::LANES;
                let all = task.lanes - lane >= B::LANES;
                if all && task.narrow && !task.last {
                    let waiting = task.sink.kept(row + i, lane).cast::<u8>();
                    low[v][i].store(waiting);
                    high[v][i].store(waiting.add(B::LANES));
                    continue;
                }
                let even = low[v][i].less_upper(high[v][i]);
                let odd = high[v][i];
                // Even bytes are the first half of the channels, odd ones the second (see `lutweights`).
                let sums = [even.widen(0), even.widen(1), odd.widen(0), odd.widen(1)];
                let waiting = !(task.first || all && task.narrow);
                if all {
                    put::<B::Sums, true, 4>(task, row + i, lane, sums, waiting, row_sum);
                } else {
                    put::<B::Sums, false, 4>(task, row + i, lane, sums, waiting, row_sum);
                }
            }
        }
    }
}

/// The sums of `COUNT` vectors of channels, from channel `lane` on, `ALL` of them or some, and what may be `waiting` there.
#[inline(always)]
pub(super) unsafe fn put<S: Lanes, const ALL: bool, const COUNT: usize>(
    task: &LutTask,
    row: usize,
    lane: usize,
    mut sums: [S; COUNT],
    waiting: bool,
    row_sum: S,
) {
    // SAFETY: the row exists in the sink, a channel of the vectors is below `lanes`, there are starts for all of them,
    // and no lane behind `lanes` is touched.
    unsafe {
        let valid = |i: usize| match ALL {
            true => usize::MAX,
            false => (task.lanes - lane).saturating_sub(i * S::LANES),
        };
        if waiting {
            for (i, sum) in sums.iter_mut().enumerate() {
                if valid(i) > 0 {
                    *sum = sum.add(task.sink.waiting(row, lane + i * S::LANES, valid(i)));
                }
            }
        }
        if !task.last {
            for (i, sum) in sums.into_iter().enumerate() {
                if valid(i) > 0 {
                    sum.store(task.sink.kept(row, lane + i * S::LANES), valid(i));
                }
            }
            return;
        }
        for (i, sum) in sums.into_iter().enumerate() {
            if valid(i) > 0 {
                let start = S::load(task.start.add(lane + i * S::LANES).cast());
                let result = sum.shl(task.shift).add(start.add(row_sum));
                task.sink.put(result, row, lane + i * S::LANES, valid(i));
            }
        }
    }
}
