//! The bit-serial GEMM micro-kernel: written once, for every vector width.
//!
//! 1. A weight is bipolar: bit 1 is +1, bit 0 is -1. With S the number of positions where something
//!    holds, K the number of columns and pc() a popcount:
//!
//!    ```text
//!    bipolar activations:   sum w a = K - 2 S,          S = pc(w xor a)
//!    unsigned, b planes:    sum w a = 2 S - sum a,      S = sum_p 2^p pc(w and a_p)
//!    ```
//!
//! 2. S of the planes is gathered by Horner's rule, highest plane first: S <- 2 S + pc(..). One
//!    accumulator serves all planes, so the register tile is the same for 1 bit and for 8.
//! 3. Lanes are output channels (see `panels`). A step takes 32 columns: `NV` vectors of weights, one
//!    broadcast word for each of `MR` rows, and MR x NV times { xor or and, popcount, add }.
//! 4. Where the CPU has no popcount of 32-bit lanes, it counts into bytes, and after `FLUSH` steps the
//!    bytes are widened into the lanes. A byte gains at most 8 a step, hence FLUSH = 31 (248 < 256).
//!
//! The bits behind K are zero in weights and activations: xor and and give zero there. All lane
//! arithmetic is modulo 2^32, so only the result must fit in i32, not 2 S: |sum w a| <= K (2^b - 1),
//! which the plan checks.
//!
//! Not done here: blocking of K. A panel of 32 channels is K * 4 bytes, in L1 up to K = 8192 or so, and
//! behind that it streams from L2 at the rate that the tile asks for.

/// A vector of 32-bit lanes of some ISA. Every method is `#[inline(always)]` and must only be called from
/// code compiled with that ISA's features.
pub(super) trait Lanes: Copy {
    /// Lanes in a vector.
    const LANES: usize;
    /// Steps after which a counter must be widened; `usize::MAX` if it counts in whole lanes.
    const FLUSH: usize;

    /// All lanes zero.
    unsafe fn zero() -> Self;
    /// `x` in all lanes.
    unsafe fn splat(x: u32) -> Self;
    /// `LANES` words from `p`, of any alignment.
    unsafe fn load(p: *const u32) -> Self;
    /// Lanewise exclusive or.
    unsafe fn xor(self, other: Self) -> Self;
    /// Lanewise and.
    unsafe fn and(self, other: Self) -> Self;
    /// Counter plus the set bits of `bits`.
    unsafe fn count(self, bits: Self) -> Self;
    /// This vector, made no earlier than the code says: an order for the compiler, not an instruction.
    ///
    /// For ISAs whose registers are just enough for a tile. Left alone, the compiler begins all rows of a
    /// step before it ends the first, runs out of registers and spills counters.
    #[inline(always)]
    unsafe fn in_order(self) -> Self {
        self
    }
    /// A counter as sums in 32-bit lanes.
    unsafe fn widen(self) -> Self;
    /// Lanewise sum modulo 2^32.
    unsafe fn add(self, other: Self) -> Self;
    /// Lanewise difference modulo 2^32.
    unsafe fn sub(self, other: Self) -> Self;
    /// The lanes as i32 converted to f32 (nearest even), times `scale`, then plus `bias`, as bits.
    unsafe fn scale_bias(self, scale: *const f32, bias: *const f32) -> Self;
    /// Writes the first `valid` lanes, 1 <= `valid`; all of them if `valid >= LANES`.
    unsafe fn store(self, p: *mut u32, valid: usize);
}

/// What to do with the integers of a tile. Rows are `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) enum Sink {
    /// Store them.
    I32 { out: *mut i32, stride: usize },
    /// Store `scale * sum + bias`, both per lane and readable for `NR` lanes.
    F32 {
        out: *mut f32,
        stride: usize,
        scale: *const f32,
        bias: *const f32,
    },
}

/// One panel of weights times `rows` rows of activations.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    /// A panel `[1, words, NR]`.
    pub(crate) weights: *const u32,
    /// Rows `[planes, words]`, back to back.
    pub(crate) activations: *const u32,
    pub(crate) planes: usize,
    pub(crate) words: usize,
    pub(crate) rows: usize,
    /// Sum of each row's codes for unsigned activations; null says that activations are bipolar.
    pub(crate) row_sums: *const i32,
    /// K, for bipolar activations.
    pub(crate) k: i32,
    /// Output channels of this panel, 1 to NR.
    pub(crate) lanes: usize,
    pub(crate) sink: Sink,
}

/// Runs `task` in tiles of `MR` rows by `NV` vectors.
///
/// # Safety
/// The caller is compiled with V's features, and the pointers of `task` are valid for the sizes that its
/// fields state: reads of weights, activations, `rows` row sums and NR scales and biases, writes of
/// `lanes` elements in each of `rows` rows of the sink.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes, const MR: usize, const NV: usize>(task: &Task) {
    // SAFETY: passed on from the caller.
    unsafe {
        if task.row_sums.is_null() {
            rows::<V, MR, NV, true>(task);
        } else {
            rows::<V, MR, NV, false>(task);
        }
    }
}

#[inline(always)]
unsafe fn rows<V: Lanes, const MR: usize, const NV: usize, const XOR: bool>(task: &Task) {
    // SAFETY: every tile starts at a row below `rows` and covers no row behind it.
    unsafe {
        let mut row = 0;
        while task.rows - row >= MR {
            tile::<V, MR, NV, XOR>(task, row);
            row += MR;
        }
        match task.rows - row {
            1 => tile::<V, 1, NV, XOR>(task, row),
            2 => tile::<V, 2, NV, XOR>(task, row),
            3 => tile::<V, 3, NV, XOR>(task, row),
            4 => tile::<V, 4, NV, XOR>(task, row),
            5 => tile::<V, 5, NV, XOR>(task, row),
            _ => {}
        }
    }
}

#[inline(always)]
unsafe fn tile<V: Lanes, const MR: usize, const NV: usize, const XOR: bool>(
    task: &Task,
    row: usize,
) {
    // SAFETY: rows row .. row + MR exist; `count` and `finish` stay inside what the task states.
    unsafe {
        let stride = task.planes * task.words;
        let first = task.activations.add(row * stride);
        let mut sums = [[V::zero(); NV]; MR];
        for plane in (0..task.planes).rev() {
            for sum in sums.as_flattened_mut() {
                *sum = sum.add(*sum);
            }
            count::<V, MR, NV, XOR>(task, first.add(plane * task.words), stride, &mut sums);
        }
        finish::<V, MR, NV, XOR>(task, row, sums);
    }
}

/// Adds one plane's popcounts to `sums`.
#[inline(always)]
unsafe fn count<V: Lanes, const MR: usize, const NV: usize, const XOR: bool>(
    task: &Task,
    plane: *const u32,
    stride: usize,
    sums: &mut [[V; NV]; MR],
) {
    // SAFETY: k < words, so weights are read inside the panel and activations inside the plane.
    unsafe {
        let whole = V::FLUSH == usize::MAX;
        let mut k = 0;
        while k < task.words {
            let end = if whole {
                task.words
            } else {
                task.words.min(k + V::FLUSH)
            };
            let mut counters = if whole { *sums } else { [[V::zero(); NV]; MR] };
            while k < end {
                let mut w = [V::zero(); NV];
                for (v, w) in w.iter_mut().enumerate() {
                    *w = V::load(task.weights.add((k * NV + v) * V::LANES));
                }
                for (i, counters) in counters.iter_mut().enumerate() {
                    let a = V::splat(*plane.add(i * stride + k)).in_order();
                    for (counter, w) in counters.iter_mut().zip(w) {
                        *counter = counter.count(if XOR { w.xor(a) } else { w.and(a) });
                    }
                    for counter in counters {
                        *counter = counter.in_order();
                    }
                }
                k += 1;
            }
            if whole {
                *sums = counters;
            } else {
                for (sum, counter) in sums
                    .as_flattened_mut()
                    .iter_mut()
                    .zip(counters.as_flattened())
                {
                    *sum = sum.add(counter.widen());
                }
            }
        }
    }
}

/// Corrects the sums of a tile and gives them to the sink, lane by lane.
#[inline(always)]
unsafe fn finish<V: Lanes, const MR: usize, const NV: usize, const XOR: bool>(
    task: &Task,
    row: usize,
    sums: [[V; NV]; MR],
) {
    // SAFETY: rows row .. row + MR exist in the sink and in `row_sums`, and no lane behind `lanes` is
    // written.
    unsafe {
        for (i, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let lane = v * V::LANES;
                if lane >= task.lanes {
                    break;
                }
                let twice = sum.add(*sum);
                let result = if XOR {
                    V::splat(task.k as u32).sub(twice)
                } else {
                    twice.sub(V::splat(*task.row_sums.add(row + i) as u32))
                };
                let valid = task.lanes - lane;
                match task.sink {
                    Sink::I32 { out, stride } => {
                        result.store(out.add((row + i) * stride + lane).cast(), valid)
                    }
                    Sink::F32 {
                        out,
                        stride,
                        scale,
                        bias,
                    } => result
                        .scale_bias(scale.add(lane), bias.add(lane))
                        .store(out.add((row + i) * stride + lane).cast(), valid),
                }
            }
        }
    }
}
