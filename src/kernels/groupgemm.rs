//! The byte GEMM micro-kernel with scales per group of K: at the end of a group its sum becomes a float.
//!
//! Weights, fields and products of bytes are those of `bytegemm`. Around them, for each row m, channel n and group g:
//!
//! ```text
//! s = dot(w', a) + base sum a - zero_point[m] sum w           over the columns of g; exact in i32
//! t[m, n] = t[m, n] + scale[n, g] f32(s)                      g = 0, 1, ..; from t = 0; each step rounded
//! out[m, n] = t[m, n] row_scale[m] + bias[n]                  each step rounded
//! ```
//!
//! |s| <= 256 * 255 * 255 < 2^24, so s is exact as a float too, for any K.
//!
//! The tile of floats is as large as that of counters, and registers hold one of them: while a group is counted the
//! floats wait on the stack, which costs a load and a store for each of them at its end, not in the inner loop.

use std::marker::PhantomData;

use super::bytecount::{self, Ahead, Bytes, Dot};
use super::lanes::Lanes;
use super::piece::Piece;

/// One panel of weights times `rows` rows of bytes.
#[derive(Clone, Copy)]
pub(crate) struct GroupTask {
    /// A panel `[words, vectors of a step]`, aligned to a vector.
    pub(crate) weights: *const u32,
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
    /// Steps of a group.
    pub(crate) group: usize,
    /// Groups, none of which starts behind `words`.
    pub(crate) groups: usize,
    /// `[groups, NR]`.
    pub(crate) scales: *const f32,
    /// Sums of the weights of a group, `[groups, NR]`; not read without zero points.
    pub(crate) weight_sums: *const i32,
    /// The zero point of each row, `zero_step` apart: 0 if one serves all of them. Null for none.
    pub(crate) zero_points: *const i32,
    pub(crate) zero_step: usize,
    /// What is added to the groups of each row, `[rows, groups]`; null for nothing.
    pub(crate) row_sums: *const i32,
    /// A factor for each row; null for none.
    pub(crate) row_scale: *const f32,
    /// `NR` numbers.
    pub(crate) bias: *const f32,
    /// Output channels of this panel, 1 to NR.
    pub(crate) lanes: usize,
    /// Rows `out_stride` apart.
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
}

/// Runs `task` in tiles of `MR` rows by `NV` vectors.
///
/// # Safety
/// The caller is compiled with V's features, and the pointers of `task` are valid for the sizes that its
/// fields state.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes, D: Dot<V>, const MR: usize, const NV: usize>(task: &GroupTask) {
    let by = PhantomData;
    // SAFETY: passed on from the caller.
    unsafe {
        match (task.bits, task.signed) {
            (2, false) => D::call(Rows::<V, D, MR, NV, 2, 4, false> { task, by }),
            (2, true) => D::call(Rows::<V, D, MR, NV, 2, 4, true> { task, by }),
            (4, false) => D::call(Rows::<V, D, MR, NV, 4, 2, false> { task, by }),
            (4, true) => D::call(Rows::<V, D, MR, NV, 4, 2, true> { task, by }),
            (_, false) => D::call(Rows::<V, D, MR, NV, 8, 1, false> { task, by }),
            (_, true) => D::call(Rows::<V, D, MR, NV, 8, 1, true> { task, by }),
        }
    }
}

/// All rows of the panel.
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
    task: &'a GroupTask,
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
        let task = self.task;
        // SAFETY: every tile starts at a row below `rows` and covers no row behind it.
        unsafe {
            let mut row = 0;
            while task.rows - row >= MR {
                tile::<V, D, MR, NV, BITS, FIELDS, SIGNED>(task, row);
                row += MR;
            }
            // Few sizes of tiles: each is code that is compiled, and loaded, for every kind of weights.
            while MR > 2 && task.rows - row >= 2 {
                tile::<V, D, 2, NV, BITS, FIELDS, SIGNED>(task, row);
                row += 2;
            }
            if row < task.rows {
                tile::<V, D, 1, NV, BITS, FIELDS, SIGNED>(task, row);
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
    task: &GroupTask,
    row: usize,
) {
    // SAFETY: rows row .. row + MR exist; groups start below `words` and end there at the latest, so weights and
    // activations of their steps are there, and every array of groups holds `groups` of them.
    unsafe {
        let bytes = Bytes {
            weights: task.weights,
            activations: task.activations.add(row * task.stride),
            stride: task.stride,
        };
        let mut floats = [[V::zero(); MR]; NV];
        for group in 0..task.groups {
            let from = group * task.group;
            let to = task.words.min(from + task.group);
            let mut sums = bytecount::count::<V, D, MR, NV, BITS, FIELDS, SIGNED>(
                bytes,
                from,
                to,
                Ahead::NOTHING,
            );
            if !task.row_sums.is_null() {
                for i in 0..MR {
                    let at = (row + i) * task.groups + group;
                    let row_sum = V::splat(*task.row_sums.add(at) as u32);
                    for sums in &mut sums {
                        sums[i] = sums[i].add(row_sum);
                    }
                }
            }
            let first = group * NV * V::LANES;
            if !task.zero_points.is_null() {
                for i in 0..MR {
                    let zero_point = *task.zero_points.add((row + i) * task.zero_step);
                    let zero_point = V::splat(zero_point as u32);
                    for (v, sums) in sums.iter_mut().enumerate() {
                        let weights = V::load(task.weight_sums.add(first + v * V::LANES).cast());
                        sums[i] = sums[i].sub(weights.mul(zero_point));
                    }
                }
            }
            for (v, (floats, sums)) in floats.iter_mut().zip(sums).enumerate() {
                let scale = V::load(task.scales.add(first + v * V::LANES).cast());
                for (float, sum) in floats.iter_mut().zip(sums) {
                    *float = float.add_f32(sum.to_f32().mul_f32(scale));
                }
            }
        }
        finish(task, row, floats);
    }
}

#[inline(always)]
unsafe fn finish<V: Lanes, const MR: usize, const NV: usize>(
    task: &GroupTask,
    row: usize,
    floats: [[V; MR]; NV],
) {
    // SAFETY: rows row .. row + MR exist in the result and in `row_scale`, and no lane behind `lanes` is written.
    unsafe {
        for i in 0..MR {
            let row_scale = match task.row_scale.is_null() {
                true => 1.0,
                false => *task.row_scale.add(row + i),
            };
            let row_scale = V::splat(row_scale.to_bits());
            for (v, floats) in floats.iter().enumerate() {
                let lane = v * V::LANES;
                if lane >= task.lanes {
                    break;
                }
                let bias = V::load(task.bias.add(lane).cast());
                let out = task.out.add((row + i) * task.out_stride + lane);
                let result = floats[i].mul_f32(row_scale).add_f32(bias);
                result.store(out.cast(), task.lanes - lane);
            }
        }
    }
}
