//! The inner loops of products of bytes: what a tile of MR rows by NV vectors of channels sums over some steps of four
//! columns. `bytegemm` says how weights become bytes and why sums may be nested.

use super::lanes::{AHEAD, Lanes};
use super::piece::Features;

/// A way to multiply and add bytes in vectors of V. As [`Lanes`], to be called where the features are.
pub(super) trait Dot<V: Lanes>: Features {
    /// Sums of products that are not yet in 32-bit lanes, or are.
    type Counter: Copy;
    /// Counters that are to be in flight, as far as there are registers: those of tiles with fewer rows work on
    /// several steps at once.
    const COUNTERS: usize;

    /// Rows from which on fields are first made bytes, once for all rows, by measure: see `bytegemm`.
    fn unpack() -> usize;
    /// Whether bytes of 8 bits are multiplied as fast as those of fewer.
    const WIDE: bool;

    /// The largest byte of weights that `dot` takes for unsigned, beside activations `signed` or not; 0 if it
    /// does not sum in 32 bits.
    fn limit(signed: bool) -> u32;
    /// Steps after which a counter must be widened, for fields of `bits` bits.
    fn flush(bits: usize) -> usize;
    /// Nothing counted.
    unsafe fn zero() -> Self::Counter;
    /// A counter and a sum that are worth `start` together; the counter all of it where it counts in lanes of 32 bits.
    #[inline(always)]
    unsafe fn begin(start: V) -> (Self::Counter, V) {
        // SAFETY: the callers carry the features.
        (unsafe { Self::zero() }, start)
    }
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

/// What a tile multiplies.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    /// A panel `[words, vectors of a step]`, aligned to a vector.
    pub(super) weights: *const u32,
    /// The first of its rows of activations, `stride` apart.
    pub(super) activations: *const u8,
    pub(super) stride: usize,
}

/// What a tile asks of the caches while it counts, a part at the start of each [`CHUNK`] of steps: all at once would keep
/// its own loads waiting.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// Its result, rows `stride` apart, `at_once` vectors of channels a chunk until none of `vectors` is left: a row of the
    /// result is pages away from the next, and stores that miss would be what the next tile waits for.
    pub(super) result: *const u32,
    pub(super) stride: usize,
    pub(super) vectors: usize,
    pub(super) at_once: usize,
    /// Whether MR more rows of activations follow its own, for the next tile.
    pub(super) rows: bool,
    /// Weights for the next panel, `lines` lines a chunk.
    pub(super) weights: *const u32,
    pub(super) lines: usize,
}

impl Ahead {
    pub(super) const NOTHING: Self = Ahead {
        result: std::ptr::null(),
        stride: 0,
        vectors: 0,
        at_once: 0,
        rows: false,
        weights: std::ptr::null(),
        lines: 0,
    };
}

/// Steps that share a cache line of a row of activations.
pub(super) const CHUNK: usize = 16;

/// The sums of the products of steps `from` .. `to`, of weights with `FIELDS` fields in a byte, at most [`NESTED`] steps if
/// there are several.
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
    const FIELDS: usize,
    const SIGNED: bool,
>(
    bytes: Bytes,
    from: usize,
    to: usize,
    ahead: Ahead,
) -> [[V; MR]; NV] {
    // SAFETY: every step is one of those that the caller vouches for.
    unsafe {
        let flush = match nested::<V, D, BITS, FIELDS, SIGNED>(1) {
            true => NESTED.min(D::flush(BITS)),
            false => D::flush(BITS),
        };
        let deep = (D::COUNTERS / (MR * NV)).clamp(1, DEEPEST);
        if D::flush(BITS) == usize::MAX && deep == 1 && !D::PAIRS {
            return in_lanes::<V, D, MR, NV, BITS, FIELDS, SIGNED>(bytes, from, to, ahead);
        }
        let mut sums = [[V::zero(); MR]; NV];
        let mut k = from;
        let mut asked = if ahead.at_once == 0 { to } else { from };
        let mut left = ahead;
        // The step up to which nothing need be asked for.
        let mut ask = |k: usize, least: usize| {
            if k >= asked {
                asked = k + CHUNK;
                left = bytes.fetch::<V, MR>(k, left);
            }
            asked.max(k + least)
        };
        while k < to {
            let end = to.min(k.saturating_add(flush));
            let mut counters = [[[D::zero(); MR]; NV]; DEEPEST];
            if D::PAIRS && MR.is_multiple_of(2) {
                while end - k >= 2 {
                    let stop = end.min(ask(k, 2));
                    while stop - k >= 2 {
                        two_steps::<V, D, MR, NV, BITS, FIELDS, SIGNED>(bytes, k, &mut counters[0]);
                        k += 2;
                    }
                }
                for counters in &mut counters[0] {
                    for i in (0..MR - 1).step_by(2) {
                        [counters[i], counters[i + 1]] =
                            D::part::<SIGNED>([counters[i], counters[i + 1]]);
                    }
                }
            }
            while end - k >= deep {
                let stop = end.min(ask(k, deep));
                while stop - k >= deep {
                    for (i, counters) in counters.iter_mut().take(deep).enumerate() {
                        step::<V, D, MR, NV, BITS, FIELDS, SIGNED>(bytes, k + i, counters);
                    }
                    k += deep;
                }
            }
            while k < end {
                step::<V, D, MR, NV, BITS, FIELDS, SIGNED>(bytes, k, &mut counters[0]);
                k += 1;
            }
            let mut counted = [[V::zero(); MR]; NV];
            for counters in counters.iter().take(deep) {
                let pairs = counted.as_flattened_mut().iter_mut();
                for (counted, counter) in pairs.zip(counters.as_flattened()) {
                    *counted = counted.add(D::widen::<BITS, SIGNED>(*counter));
                }
            }
            apart::<V, D, MR, NV, BITS, FIELDS, SIGNED>(&mut counted);
            let pairs = sums.as_flattened_mut().iter_mut();
            for (sum, counted) in pairs.zip(counted.as_flattened()) {
                *sum = sum.add(*counted);
            }
        }
        sums
    }
}

/// [`count`] where counters are sums in lanes, and there are enough of them in one step: one loop, and nothing alive
/// beside them. Sums that wait for a next round would take as many registers again.
#[inline(always)]
unsafe fn in_lanes<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const FIELDS: usize,
    const SIGNED: bool,
>(
    bytes: Bytes,
    from: usize,
    to: usize,
    mut ahead: Ahead,
) -> [[V; MR]; NV] {
    // SAFETY: as in `count`.
    unsafe {
        let mut counters = [[D::zero(); MR]; NV];
        let mut k = from;
        while k < to {
            let mut stop = to;
            if ahead.at_once > 0 {
                stop = to.min(k + CHUNK);
                ahead = bytes.fetch::<V, MR>(k, ahead);
            }
            while k < stop {
                step::<V, D, MR, NV, BITS, FIELDS, SIGNED>(bytes, k, &mut counters);
                k += 1;
            }
        }
        let mut sums = [[V::zero(); MR]; NV];
        for (sums, counters) in sums.iter_mut().zip(&counters) {
            for (sum, counter) in sums.iter_mut().zip(counters) {
                *sum = D::widen::<BITS, SIGNED>(*counter);
            }
        }
        apart::<V, D, MR, NV, BITS, FIELDS, SIGNED>(&mut sums);
        sums
    }
}

/// Takes [`nested`] sums apart: what each field is worth alone.
#[inline(always)]
unsafe fn apart<
    V: Lanes,
    D: Dot<V>,
    const MR: usize,
    const NV: usize,
    const BITS: usize,
    const FIELDS: usize,
    const SIGNED: bool,
>(
    sums: &mut [[V; MR]; NV],
) {
    for v in (0..NV).rev() {
        let field = v % FIELDS;
        if field > 0 && nested::<V, D, BITS, FIELDS, SIGNED>(field) {
            let below = sums[v - 1];
            for (worth, below) in sums[v].iter_mut().zip(below) {
                // SAFETY: the features of V, as the caller vouches.
                *worth = unsafe { worth.sub(below).shr::<SIGNED>((BITS * field) as u32) };
            }
        }
    }
}

/// Steps at once, at most.
const DEEPEST: usize = 4;

/// Steps after which nested sums must be told apart. 2^16 columns: fields of 2 bits are worth up to
/// 3 * 128 * 2^16 < 2^25 times 2^6 with signed activations, 3 * 255 * 2^16 < 2^26 with unsigned ones; fields of 4
/// bits up to 15 * 128 * 2^16 < 2^27 and 15 * 255 * 2^16 < 2^28 times 2^4.
pub(super) const NESTED: usize = 1 << 14;

/// Whether field `field` is summed together with those below it.
#[inline(always)]
fn nested<V: Lanes, D: Dot<V>, const BITS: usize, const FIELDS: usize, const SIGNED: bool>(
    field: usize,
) -> bool {
    FIELDS > 1 && low_fields::<BITS>(field) <= D::limit(SIGNED)
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
    const FIELDS: usize,
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
            if MR <= 2 && FIELDS > 1 && v % FIELDS == 0 {
                V::prefetch(bytes.at::<V, NV, FIELDS>(k, v).wrapping_add(AHEAD));
            }
            let w = bytes.weights::<V, D, NV, BITS, FIELDS, SIGNED>(k, v);
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
    const FIELDS: usize,
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
            let w = [k, k + 1].map(|k| bytes.weights::<V, D, NV, BITS, FIELDS, SIGNED>(k, v));
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
    fn at<V: Lanes, const NV: usize, const FIELDS: usize>(self, k: usize, v: usize) -> *const u32 {
        self.weights
            .wrapping_add((k * NV / FIELDS + v / FIELDS) * V::LANES)
    }

    /// Asks for what is due at step `k`; what is left.
    ///
    /// # Safety
    /// The features of V.
    #[inline(always)]
    unsafe fn fetch<V: Lanes, const MR: usize>(self, k: usize, ahead: Ahead) -> Ahead {
        let vectors = ahead.at_once.min(ahead.vectors);
        // SAFETY: a prefetch may name any address.
        unsafe {
            for lane in (0..vectors * V::LANES).step_by(16) {
                for row in 0..MR {
                    let at = row * ahead.stride + lane;
                    V::prefetch(ahead.result.wrapping_add(at));
                }
            }
            if ahead.rows {
                for row in MR..2 * MR {
                    let next = self.activations.wrapping_add(row * self.stride + 4 * k);
                    V::prefetch(next.cast());
                }
            }
            for line in 0..ahead.lines {
                V::prefetch_far(ahead.weights.wrapping_add(16 * line));
            }
        }
        Ahead {
            result: ahead.result.wrapping_add(vectors * V::LANES),
            vectors: ahead.vectors - vectors,
            weights: ahead.weights.wrapping_add(16 * ahead.lines),
            ..ahead
        }
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
        const FIELDS: usize,
        const SIGNED: bool,
    >(
        self,
        k: usize,
        v: usize,
    ) -> V {
        let field = v % FIELDS;
        // SAFETY: the contract.
        unsafe {
            let w = V::load(self.at::<V, NV, FIELDS>(k, v));
            if FIELDS == 1 {
                return w;
            }
            match nested::<V, D, BITS, FIELDS, SIGNED>(field) {
                true if low_fields::<BITS>(field) == 255 => w,
                true => w.and(V::splat(0x0101_0101 * low_fields::<BITS>(field))),
                false => w.field::<BITS>(field),
            }
        }
    }
}
