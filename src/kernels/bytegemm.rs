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
//! 6. A tile of few rows has too few counters to hide the latency of an addition: it works on several steps
//!    at once, each with counters of its own.

use super::bitgemm::{AHEAD, Lanes};
use super::panels::Strip;
use super::sink;

/// A way to multiply and add bytes in vectors of V. As [`Lanes`], to be called where the features are.
pub(super) trait Dot<V: Lanes> {
    /// Sums of products that are not yet in 32-bit lanes, or are.
    type Counter: Copy;
    /// Counters that are to be in flight, as far as there are registers: those of tiles with fewer rows work on
    /// several steps at once.
    const COUNTERS: usize;

    /// The largest byte of weights that `dot` takes for unsigned, beside activations `signed` or not; 0 if it
    /// does not sum in 32 bits.
    fn limit(signed: bool) -> u32;
    /// Steps after which a counter must be widened, for fields of `bits` bits.
    fn flush(bits: usize) -> usize;
    /// Nothing counted.
    unsafe fn zero() -> Self::Counter;
    /// Counter plus, in each lane, the four products of bytes of weights `w`, in fields of `BITS` bits, and of
    /// activations `a`, signed or not.
    unsafe fn dot<const BITS: usize, const SIGNED: bool>(
        counter: Self::Counter,
        w: V,
        a: V,
    ) -> Self::Counter;
    /// Whether the methods that follow are there, for tiles of pairs of rows.
    const PAIRS: bool = false;
    /// Two rows of eight bytes, one behind the other.
    #[inline(always)]
    unsafe fn two(_rows: [*const u8; 2]) -> V {
        // SAFETY: a value; the callers carry the features.
        unsafe { V::zero() }
    }
    /// Counters of two rows plus the products of weights of two steps and those rows, not in lanes yet.
    #[inline(always)]
    unsafe fn pair<const SIGNED: bool>(
        counters: [Self::Counter; 2],
        _w: [V; 2],
        _rows: V,
    ) -> [Self::Counter; 2] {
        counters
    }
    /// What `pair` has counted, in lanes as `dot` counts, a row each.
    #[inline(always)]
    unsafe fn part<const SIGNED: bool>(counters: [Self::Counter; 2]) -> [Self::Counter; 2] {
        counters
    }
    /// A counter as sums in 32-bit lanes.
    unsafe fn widen<const BITS: usize, const SIGNED: bool>(counter: Self::Counter) -> V;
}

/// The unsigned operand, then the signed one, for instructions that want one of each.
#[inline(always)]
pub(super) fn mixed<V, const SIGNED: bool>(w: V, a: V) -> (V, V) {
    if SIGNED { (w, a) } else { (a, w) }
}

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
    // SAFETY: passed on from the caller.
    unsafe {
        match (task.bits, task.signed) {
            (2, false) => panels::<V, D, MR, NV, 2, false>(task),
            (2, true) => panels::<V, D, MR, NV, 2, true>(task),
            (4, false) => panels::<V, D, MR, NV, 4, false>(task),
            (4, true) => panels::<V, D, MR, NV, 4, true>(task),
            (_, false) => panels::<V, D, MR, NV, 8, false>(task),
            (_, true) => panels::<V, D, MR, NV, 8, true>(task),
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
    const SIGNED: bool,
>(
    task: &ByteTask,
) {
    let mut left = Some(task.strip);
    while let Some(strip) = left {
        let (panel, rest) = strip.first(NV * V::LANES);
        // SAFETY: passed on from the caller: a panel is a part of the strip.
        unsafe {
            rows::<V, D, MR, NV, BITS, SIGNED>(&ByteTask {
                strip: panel,
                ..*task
            })
        }
        left = rest;
    }
}

#[inline(always)]
unsafe fn rows<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const SIGNED: bool,
>(
    task: &ByteTask,
) {
    // SAFETY: every tile starts at a row below `rows` and covers no row behind it.
    unsafe {
        let mut row = 0;
        while task.rows - row >= MR {
            tile::<V, D, MR, NV, BITS, SIGNED>(task, row);
            row += MR;
        }
        // Few sizes of tiles: each is code that is compiled, and loaded, for every kind of weights.
        while MR > 2 && task.rows - row >= 2 {
            tile::<V, D, 2, NV, BITS, SIGNED>(task, row);
            row += 2;
        }
        if row < task.rows {
            tile::<V, D, 1, NV, BITS, SIGNED>(task, row);
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
    const SIGNED: bool,
>(
    task: &ByteTask,
    row: usize,
) {
    // SAFETY: rows row .. row + MR exist, and weights and activations for all `words` steps; `finish` stays inside the
    // sink.
    unsafe {
        sink::expect::<V, MR, NV>(&task.strip.sink, row);
        let bytes = Bytes {
            weights: task.strip.weights,
            activations: task.activations.add(row * task.stride),
            stride: task.stride,
        };
        let sums = count::<V, D, MR, NV, BITS, SIGNED>(bytes, 0, task.words);
        finish::<V, MR, NV>(task, row, sums);
    }
}

/// What a tile multiplies.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    /// A panel `[words, vectors of a step]`, aligned to a vector.
    pub(super) weights: *const u32,
    /// The first of its rows of activations, `stride` apart.
    pub(super) activations: *const u8,
    pub(super) stride: usize,
}

/// The sums of the products of steps `from` .. `to`.
///
/// # Safety
/// The features of V and D; weights and MR rows of activations for these steps.
#[inline(always)]
pub(super) unsafe fn count<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const SIGNED: bool,
>(
    bytes: Bytes,
    from: usize,
    to: usize,
) -> [[V; MR]; NV] {
    // SAFETY: every step is one of those that the caller vouches for.
    unsafe {
        let flush = match nested::<V, D, BITS, SIGNED>(1) {
            true => NESTED.min(D::flush(BITS)),
            false => D::flush(BITS),
        };
        let deep = (D::COUNTERS / (MR * NV)).clamp(1, DEEPEST);
        let mut sums = [[V::zero(); MR]; NV];
        let mut k = from;
        while k < to {
            let end = to.min(k.saturating_add(flush));
            let mut counters = [[[D::zero(); MR]; NV]; DEEPEST];
            if D::PAIRS && MR.is_multiple_of(2) {
                while end - k >= 2 {
                    two_steps::<V, D, MR, NV, BITS, SIGNED>(bytes, k, &mut counters[0]);
                    k += 2;
                }
                for counters in &mut counters[0] {
                    for i in (0..MR - 1).step_by(2) {
                        [counters[i], counters[i + 1]] =
                            D::part::<SIGNED>([counters[i], counters[i + 1]]);
                    }
                }
            }
            while end - k >= deep {
                for (i, counters) in counters.iter_mut().take(deep).enumerate() {
                    step::<V, D, MR, NV, BITS, SIGNED>(bytes, k + i, counters);
                }
                k += deep;
            }
            while k < end {
                step::<V, D, MR, NV, BITS, SIGNED>(bytes, k, &mut counters[0]);
                k += 1;
            }
            let mut counted = [[V::zero(); MR]; NV];
            for counters in counters.iter().take(deep) {
                let pairs = counted.as_flattened_mut().iter_mut();
                for (counted, counter) in pairs.zip(counters.as_flattened()) {
                    *counted = counted.add(D::widen::<BITS, SIGNED>(*counter));
                }
            }
            for v in (0..NV).rev() {
                let field = v % (8 / BITS);
                if field > 0 && nested::<V, D, BITS, SIGNED>(field) {
                    let (below, own) = counted.split_at_mut(v);
                    for (worth, below) in own[0].iter_mut().zip(below[v - 1]) {
                        *worth = worth.sub(below).shr::<SIGNED>((BITS * field) as u32);
                    }
                }
            }
            let pairs = sums.as_flattened_mut().iter_mut();
            for (sum, counted) in pairs.zip(counted.as_flattened()) {
                *sum = sum.add(*counted);
            }
        }
        sums
    }
}

/// Steps at once, at most.
const DEEPEST: usize = 4;

/// Steps after which nested sums must be told apart. 2^16 columns: fields of 2 bits are worth up to
/// 3 * 128 * 2^16 < 2^25 times 2^6 with signed activations, 3 * 255 * 2^16 < 2^26 with unsigned ones; fields of 4
/// bits up to 15 * 128 * 2^16 < 2^27 and 15 * 255 * 2^16 < 2^28 times 2^4.
const NESTED: usize = 1 << 14;

/// Whether field `field` is summed together with those below it.
#[inline(always)]
fn nested<V: Lanes, D: Dot<V>, const BITS: usize, const SIGNED: bool>(field: usize) -> bool {
    BITS < 8 && low_fields::<BITS>(field) <= D::limit(SIGNED)
}

/// The bits of a byte that hold field `field` and those below it.
#[inline(always)]
fn low_fields<const BITS: usize>(field: usize) -> u32 {
    (1 << (BITS * (field + 1))) - 1
}

/// Adds the products of step `k`.
#[inline(always)]
unsafe fn step<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const SIGNED: bool,
>(
    bytes: Bytes,
    k: usize,
    counters: &mut [[D::Counter; MR]; NV],
) {
    // SAFETY: weights and activations of step k are there, as the caller vouches.
    unsafe {
        let mut a = [V::zero(); MR];
        for (i, a) in a.iter_mut().enumerate() {
            let four = bytes.activations.add(i * bytes.stride + 4 * k);
            // In order: a compiler that knows all lanes to be alike takes the upper half of weights apart.
            *a = V::splat(four.cast::<u32>().read_unaligned()).in_order();
        }
        for (v, counters) in counters.iter_mut().enumerate() {
            if MR <= 2 && BITS < 8 && v % (8 / BITS) == 0 {
                V::prefetch(bytes.at::<V, NV, BITS>(k, v).wrapping_add(AHEAD));
            }
            let w = bytes.weights::<V, D, NV, BITS, SIGNED>(k, v);
            for (counter, a) in counters.iter_mut().zip(a) {
                *counter = D::dot::<BITS, SIGNED>(*counter, w, a);
            }
        }
    }
}

/// Adds the products of steps `k` and `k + 1`, as [`Dot::pair`] counts.
#[inline(always)]
unsafe fn two_steps<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const SIGNED: bool,
>(
    bytes: Bytes,
    k: usize,
    counters: &mut [[D::Counter; MR]; NV],
) {
    // SAFETY: weights and activations of both steps are there, as the caller vouches; MR is even.
    unsafe {
        let row = |i: usize| bytes.activations.add(i * bytes.stride + 4 * k);
        let mut a = [V::zero(); MR];
        for (i, a) in a.iter_mut().enumerate().take(MR / 2) {
            *a = D::two([row(2 * i), row(2 * i + 1)]);
        }
        for (v, counters) in counters.iter_mut().enumerate() {
            let w = [k, k + 1].map(|k| bytes.weights::<V, D, NV, BITS, SIGNED>(k, v));
            for (i, a) in a.iter().enumerate().take(MR / 2) {
                let both = [counters[2 * i], counters[2 * i + 1]];
                [counters[2 * i], counters[2 * i + 1]] = D::pair::<SIGNED>(both, w, *a);
            }
        }
    }
}

impl Bytes {
    /// Where the weights of step `k` and vector `v` are.
    #[inline(always)]
    fn at<V: Lanes, const NV: usize, const BITS: usize>(self, k: usize, v: usize) -> *const u32 {
        let fields = 8 / BITS;
        self.weights
            .wrapping_add((k * NV / fields + v / fields) * V::LANES)
    }

    /// The weights of step `k` and vector `v`, with the fields below theirs if these are [`nested`].
    ///
    /// # Safety
    /// The features of V; the step is there.
    #[inline(always)]
    unsafe fn weights<
        V: Lanes,
        D: Dot<V>,
        const NV: usize,
        const BITS: usize,
        const SIGNED: bool,
    >(
        self,
        k: usize,
        v: usize,
    ) -> V {
        let field = v % (8 / BITS);
        // SAFETY: the contract.
        unsafe {
            let w = V::load(self.at::<V, NV, BITS>(k, v));
            match nested::<V, D, BITS, SIGNED>(field) {
                true if low_fields::<BITS>(field) == 255 => w,
                true => w.and(V::splat(0x0101_0101 * low_fields::<BITS>(field))),
                false => w.field::<BITS>(field),
            }
        }
    }
}

#[inline(always)]
unsafe fn finish<V: Lanes, const MR: usize, const NV: usize>(
    task: &ByteTask,
    row: usize,
    sums: [[V; MR]; NV],
) {
    // SAFETY: rows row .. row + MR exist in the sink and in `row_sums`, and NR starts are readable.
    unsafe {
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
        sink::put::<V, MR, NV>(&task.strip.sink, results, row, task.strip.lanes);
    }
}
