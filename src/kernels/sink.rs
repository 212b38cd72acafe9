//! Where the sums of a tile go: the end of every product.

use super::bitgemm::Lanes;

/// What to do with the integers of a tile. Rows are `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) enum Sink {
    /// Store them.
    I32 { out: *mut i32, stride: usize },
    /// Store `scale * sum + bias`, both per lane and readable for whole panels.
    F32 {
        out: *mut f32,
        stride: usize,
        scale: *const f32,
        bias: *const f32,
    },
    /// Store `scale * (sum - zero_point * channel_sum) * row_scale + bias`: scale, channel sum and bias per lane,
    /// the others per row. No zero points if they are null.
    Rows {
        out: *mut f32,
        stride: usize,
        scale: *const f32,
        bias: *const f32,
        channel_sums: *const i32,
        row_scale: *const f32,
        zero_points: *const i32,
    },
}

impl Sink {
    /// Where sums of row `row` from channel `lane` on may wait: the words of the result themselves.
    ///
    /// # Safety
    /// The row and the channel exist.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    #[inline(always)]
    pub(super) unsafe fn kept(&self, row: usize, lane: usize) -> *mut u32 {
        // SAFETY: passed on from the caller.
        unsafe {
            match *self {
                Sink::I32 { out, stride } => out.add(row * stride + lane).cast(),
                Sink::F32 { out, stride, .. } | Sink::Rows { out, stride, .. } => {
                    out.add(row * stride + lane).cast()
                }
            }
        }
    }

    /// The sink of what lies `lanes` channels on.
    ///
    /// # Safety
    /// Channels behind these exist.
    #[inline(always)]
    pub(super) unsafe fn beyond(self, lanes: usize) -> Self {
        // SAFETY: passed on from the caller.
        unsafe {
            match self {
                Sink::I32 { out, stride } => Sink::I32 {
                    out: out.add(lanes),
                    stride,
                },
                Sink::F32 {
                    out,
                    stride,
                    scale,
                    bias,
                } => Sink::F32 {
                    out: out.add(lanes),
                    stride,
                    scale: scale.add(lanes),
                    bias: bias.add(lanes),
                },
                Sink::Rows {
                    out,
                    stride,
                    scale,
                    bias,
                    channel_sums,
                    row_scale,
                    zero_points,
                } => Sink::Rows {
                    out: out.add(lanes),
                    stride,
                    scale: scale.add(lanes),
                    bias: bias.add(lanes),
                    channel_sums: channel_sums.add(lanes),
                    row_scale,
                    zero_points,
                },
            }
        }
    }

    /// Gives whole vectors of results, sums of rows from `row` on of all channels of a panel: one decision
    /// for what ends nearly every tile.
    ///
    /// # Safety
    /// These rows and channels exist, with scales and biases.
    #[inline(always)]
    pub(super) unsafe fn put_all<V: Lanes, const MR: usize, const NV: usize>(
        &self,
        results: [[V; NV]; MR],
        row: usize,
    ) {
        // SAFETY: passed on from the caller.
        unsafe {
            match *self {
                Sink::I32 { out, stride } => {
                    for (i, results) in results.into_iter().enumerate() {
                        for (v, result) in results.into_iter().enumerate() {
                            let at = out.add((row + i) * stride + v * V::LANES);
                            result.store(at.cast(), V::LANES);
                        }
                    }
                }
                Sink::F32 {
                    out,
                    stride,
                    scale,
                    bias,
                } => {
                    for (i, results) in results.into_iter().enumerate() {
                        for (v, result) in results.into_iter().enumerate() {
                            let lane = v * V::LANES;
                            let at = out.add((row + i) * stride + lane);
                            result
                                .scale_bias(scale.add(lane), bias.add(lane))
                                .store(at.cast(), V::LANES);
                        }
                    }
                }
                Sink::Rows { .. } => {
                    for (i, results) in results.into_iter().enumerate() {
                        for (v, result) in results.into_iter().enumerate() {
                            self.put(result, row + i, v * V::LANES, V::LANES);
                        }
                    }
                }
            }
        }
    }

    /// Gives the first `valid` lanes of `result`, sums of row `row` from channel `lane` on.
    ///
    /// # Safety
    /// The row and these channels exist, and `LANES` scales and biases, and channel sums, are readable from `lane`.
    #[inline(always)]
    pub(super) unsafe fn put<V: Lanes>(&self, result: V, row: usize, lane: usize, valid: usize) {
        // SAFETY: passed on from the caller.
        unsafe {
            match *self {
                Sink::I32 { out, stride } => {
                    result.store(out.add(row * stride + lane).cast(), valid)
                }
                Sink::F32 {
                    out,
                    stride,
                    scale,
                    bias,
                } => result
                    .scale_bias(scale.add(lane), bias.add(lane))
                    .store(out.add(row * stride + lane).cast(), valid),
                Sink::Rows {
                    out,
                    stride,
                    scale,
                    bias,
                    channel_sums,
                    row_scale,
                    zero_points,
                } => {
                    let mut sum = result;
                    if !zero_points.is_null() {
                        let zero_point = V::splat(*zero_points.add(row) as u32);
                        sum = sum.sub(V::load(channel_sums.add(lane).cast()).mul(zero_point));
                    }
                    sum.to_f32()
                        .mul_f32(V::load(scale.add(lane).cast()))
                        .mul_f32(V::splat((*row_scale.add(row)).to_bits()))
                        .add_f32(V::load(bias.add(lane).cast()))
                        .store(out.add(row * stride + lane).cast(), valid)
                }
            }
        }
    }
}

/// Gives the results of a tile to the sink.
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
    // SAFETY: passed on from the caller; no lane behind `lanes` is written.
    unsafe {
        if lanes == NV * V::LANES {
            return sink.put_all(results, row);
        }
        for (i, results) in results.into_iter().enumerate() {
            for (v, result) in results.into_iter().enumerate() {
                let lane = v * V::LANES;
                if lane >= lanes {
                    break;
                }
                sink.put(result, row + i, lane, lanes - lane);
            }
        }
    }
}
