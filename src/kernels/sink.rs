//! Where the sums of a tile go: the end of every product.

use std::ptr::null;

use super::lanes::Lanes;

/// What becomes of a sum.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    I32,
    /// `scale * sum + bias`, both per lane.
    F32,
    /// `scale * (sum - zero_point * channel_sum) * row_scale + bias`: scale, channel sum and bias per lane, the others
    /// per row. No zero points if they are null.
    Rows,
}

/// What to do with the integers of a tile. Rows are `stride` elements apart; what is per lane is readable for whole
/// panels.
///
/// Not an enum with fields: pointers that a kind lacks are null, so that the compiler may look at all of them before it
/// knows the kind.
#[derive(Clone, Copy)]
pub(crate) struct Sink {
    kind: Kind,
    out: *mut u32,
    stride: usize,
    scale: *const f32,
    bias: *const f32,
    channel_sums: *const i32,
    row_scale: *const f32,
    zero_points: *const i32,
}

impl Sink {
    /// Stores sums.
    pub(super) fn integers(out: *mut i32, stride: usize) -> Self {
        Sink {
            kind: Kind::I32,
            out: out.cast(),
            stride,
            scale: null(),
            bias: null(),
            channel_sums: null(),
            row_scale: null(),
            zero_points: null(),
        }
    }

    /// Stores `scale * sum + bias`.
    pub(super) fn floats(
        out: *mut f32,
        stride: usize,
        scale: *const f32,
        bias: *const f32,
    ) -> Self {
        Sink {
            kind: Kind::F32,
            scale,
            bias,
            ..Sink::integers(out.cast(), stride)
        }
    }

    /// Stores `scale * (sum - zero_point * channel_sum) * row_scale + bias`, where this sink stores floats.
    pub(super) fn by_row(
        self,
        channel_sums: *const i32,
        row_scale: *const f32,
        zero_points: *const i32,
    ) -> Self {
        Sink {
            kind: Kind::Rows,
            channel_sums,
            row_scale,
            zero_points,
            ..self
        }
    }

    /// Where sums of row `row` from channel `lane` on may wait: the words of the result themselves.
    ///
    /// # Safety
    /// The row and the channel exist.
    #[inline(always)]
    pub(super) unsafe fn kept(&self, row: usize, lane: usize) -> *mut u32 {
        // SAFETY: passed on from the caller.
        unsafe { self.out.add(row * self.stride + lane) }
    }

    /// The address of row `row`, and elements from row to row: to ask the caches for them.
    #[inline(always)]
    pub(super) fn rows_from(&self, row: usize) -> (*const u32, usize) {
        (self.out.wrapping_add(row * self.stride), self.stride)
    }

    /// What waits there, of a vector whose first `valid` channels exist.
    ///
    /// # Safety
    /// As [`Sink::kept`], and the features of V.
    #[inline(always)]
    pub(super) unsafe fn waiting<V: Lanes>(&self, row: usize, lane: usize, valid: usize) -> V {
        // SAFETY: a whole vector is read where it is there, else `valid` words into a buffer of at least one.
        unsafe {
            let from = self.kept(row, lane);
            if valid >= V::LANES {
                return V::load(from);
            }
            let mut some = [0u32; 16];
            std::ptr::copy_nonoverlapping(from, some.as_mut_ptr(), valid);
            V::load(some.as_ptr())
        }
    }

    /// The sink of what lies `lanes` channels on.
    #[inline(always)]
    pub(super) fn beyond(self, lanes: usize) -> Self {
        Sink {
            out: self.out.wrapping_add(lanes),
            scale: self.scale.wrapping_add(lanes),
            bias: self.bias.wrapping_add(lanes),
            channel_sums: self.channel_sums.wrapping_add(lanes),
            ..self
        }
    }

    /// `result`, sums of row `row` from channel `lane` on, as it is to be stored.
    ///
    /// # Safety
    /// The row and the channel exist, and whatever the kind needs of `LANES` channels is readable.
    #[inline(always)]
    unsafe fn dress<V: Lanes>(&self, result: V, row: usize, lane: usize) -> V {
        // SAFETY: passed on from the caller.
        unsafe {
            match self.kind {
                Kind::I32 => result,
                Kind::F32 => result.scale_bias(self.scale.add(lane), self.bias.add(lane)),
                Kind::Rows => {
                    let mut sum = result;
                    if !self.zero_points.is_null() {
                        let zero_point = V::splat(*self.zero_points.add(row) as u32);
                        let channel_sums = V::load(self.channel_sums.add(lane).cast());
                        sum = sum.sub(channel_sums.mul(zero_point));
                    }
                    sum.to_f32()
                        .mul_f32(V::load(self.scale.add(lane).cast()))
                        .mul_f32(V::splat((*self.row_scale.add(row)).to_bits()))
                        .add_f32(V::load(self.bias.add(lane).cast()))
                }
            }
        }
    }

    /// Gives the first `valid` lanes of `result`, sums of row `row` from channel `lane` on.
    ///
    /// # Safety
    /// The row and these channels exist, and `LANES` scales, biases and channel sums are readable from `lane` where the
    /// kind has them.
    #[inline(always)]
    pub(super) unsafe fn put<V: Lanes>(&self, result: V, row: usize, lane: usize, valid: usize) {
        // SAFETY: passed on from the caller.
        unsafe {
            self.dress(result, row, lane)
                .store(self.kept(row, lane), valid)
        }
    }
}

/// Asks for the cache lines that a tile of whole panels will write, before its sums are made: a row of the result is
/// pages away from the next, and stores that miss would be what the next tile waits for. Asked for one tile earlier,
/// results that leave the second-level cache gained up to a half on Sapphire Rapids, and all others lost a twentieth to a
/// tenth.
#[inline(always)]
pub(super) fn expect<V: Lanes, const MR: usize, const NV: usize>(sink: &Sink, row: usize) {
    let mut first = sink.out.wrapping_add(row * sink.stride);
    for _ in 0..MR {
        for lane in (0..NV * V::LANES).step_by(16) {
            // SAFETY: the features of V; a prefetch may name any address.
            unsafe { V::prefetch(first.wrapping_add(lane)) };
        }
        first = first.wrapping_add(sink.stride);
    }
}

#[cfg(target_arch = "x86_64")]
impl Sink {
    /// Gives vectors of results of row `row`, all of whose lanes are channels: integers by one decision.
    ///
    /// # Safety
    /// As [`Sink::put`], for all of them.
    #[inline(always)]
    pub(super) unsafe fn put_row<V: Lanes>(&self, results: &[V], row: usize) {
        // SAFETY: passed on from the caller.
        unsafe {
            let to = self.kept(row, 0);
            if self.kind == Kind::I32 {
                for (v, result) in results.iter().enumerate() {
                    result.store(to.add(v * V::LANES), V::LANES);
                }
                return;
            }
            for (v, result) in results.iter().enumerate() {
                let result = self.dress(*result, row, v * V::LANES);
                result.store(to.add(v * V::LANES), V::LANES);
            }
        }
    }
}

/// Gives the results of a tile to the sink: whole panels of integers by one decision, for they end nearly every tile.
///
/// # Safety
/// The rows from `row` on and `lanes` channels exist, scales and biases for the whole panel.
#[inline(always)]
pub(super) unsafe fn put<V: Lanes, const MR: usize, const NV: usize>(
    sink: &Sink,
    results: [[V; NV]; MR],
    row: usize,
    lanes: usize,
) {
    let whole = lanes == NV * V::LANES;
    // SAFETY: passed on from the caller; no lane behind `lanes` is written.
    unsafe {
        let mut to = sink.kept(row, 0);
        if whole && sink.kind == Kind::I32 {
            for results in results {
                for (v, result) in results.iter().enumerate() {
                    result.store(to.wrapping_add(v * V::LANES), V::LANES);
                }
                to = to.wrapping_add(sink.stride);
            }
            return;
        }
        // What is left is a loop over results in memory. They go there here: an array that such a loop reads is never in
        // registers, and whole panels of integers would be stored twice.
        let mut waiting = [[[0u32; 16]; NV]; MR];
        for (waiting, results) in waiting.iter_mut().zip(results) {
            for (waiting, result) in waiting.iter_mut().zip(results) {
                result.store(waiting.as_mut_ptr(), V::LANES);
            }
        }
        for (i, waiting) in waiting.iter().enumerate() {
            for (v, waiting) in waiting.iter().enumerate() {
                let lane = v * V::LANES;
                if lane >= lanes {
                    break;
                }
                let result = V::load(waiting.as_ptr());
                sink.put(result, row + i, lane, lanes - lane);
            }
        }
    }
}
