//! The bit-serial GEMM micro-kernel: every pair of encodings, written once, for every vector width.
//!
//! 1. Activations are an offset plus weighted bits (see [`Encoding`](crate::bits::Encoding)), a = o + sum_j d_j A_j, and
//!
//!    ```text
//!    sum w a = sum_j d_j sum w A_j  +  o sum w
//!    ```
//!
//!    With pc() a popcount over the K columns, what remains is, for unsigned and signed weights w = sum_i c_i W_i, a
//!    [`Pass`] over K for each pair of planes, and for others one for each plane of activations:
//!
//!    ```text
//!    sum w A_j = sum_i c_i pc(W_i and A_j)
//!    sum w A_j = pc(W) - pc(W xor A_j)                  bipolar
//!    sum w A_j = pc(s) - pc((s xor A_j) and z)          ternary; s: sign plane, z: nonzero plane
//!    ```
//!
//!    What does not depend on activations is one number for each channel, known when weights are packed. No sum of a row of
//!    activations is needed.
//! 2. The counters of a tile are its sums: of planes that are worth 2^j each, the last comes first, and between two of them
//!    the counters are doubled (Horner's scheme).
//! 3. Lanes are output channels (see `panels`). A step takes 32 columns: `NV` vectors of weights, one
//!    broadcast word for each of `MR` rows, and MR x NV times { combine, popcount, add }.
//! 4. Where the CPU has no popcount of 32-bit lanes, it counts into bytes, and after `FLUSH` steps the
//!    bytes are widened into the lanes. A byte gains at most 8 a step, hence FLUSH = 31 (248 < 256).
//!
//! The bits behind K are zero in weights and activations, and every combination of zeros is zero. All lane
//! arithmetic is modulo 2^32, so only the result must fit in i32: |sum w a| <= K max|w| max|a|, which the plan
//! checks.
//!
//! Not done here: blocking of K. A plane of a panel of 32 channels is K * 4 bytes, in L1 up to K = 8192 or so,
//! and behind that it streams from L2 at the rate that the tile asks for.

use std::marker::PhantomData;

use super::bitrows::BitRows;
use super::lanes::{AHEAD, Lanes};
use super::panels::Strip;
use super::piece::{Features, Piece};
use super::sink::{self, put};
use super::tilecodes::TileCodes;

/// A way to count bits in vectors of V. As [`Lanes`], to be called where the features are.
pub(super) trait Count<V: Lanes>: Features {
    /// Steps after which a counter must be widened; `usize::MAX` if it counts in whole lanes.
    const FLUSH: usize;

    /// Counter plus the set bits of `bits`.
    unsafe fn count(counter: V, bits: V) -> V;
    /// Vectors of combined bits that may wait in registers before they are counted.
    const WAITING: usize;

    /// A counter as sums in 32-bit lanes.
    unsafe fn widen(counter: V) -> V;
}

/// How a pass combines a word of weights with a word of activations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Combine {
    /// weight plane and activation plane
    And,
    /// weight plane xor activation plane, which counts against the sum
    Xor,
    /// (sign plane xor activation plane) and nonzero plane, likewise; the weights are ternary
    XorNonzero,
}

/// One walk along K, counting one combination of planes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pass {
    pub(crate) weight_plane: usize,
    pub(crate) activation_plane: usize,
    /// The count is worth 2^shift ..
    pub(crate) shift: u32,
    /// .. or minus that.
    pub(crate) negative: bool,
}

/// Panels of weights times `rows` rows of activations.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    /// Panels `[planes, words, NR]`.
    pub(crate) strip: Strip,
    pub(crate) activations: BitRows<'a>,
    /// Words in a plane, and where in a plane of a row of activations each lies.
    pub(crate) words: usize,
    pub(crate) columns: *const u32,
    pub(crate) combine: Combine,
    /// The passes, those over one plane of weights together ..
    pub(crate) passes: &'a [Pass],
    /// .. and again, what is worth most first.
    pub(crate) falling: &'a [Pass],
    /// Codes to make of the sums, in the place of what the sink of the strip says.
    pub(super) codes: Option<TileCodes>,
}

/// Runs `task` in tiles of `MR` rows by `NV` vectors.
///
/// # Safety
/// The caller is compiled with the features of V and C, and the pointers of `task` are valid for the sizes that its
/// fields state: reads of weights, `words` columns, NR starts a panel, NR scales and
/// biases a panel, writes of `lanes` elements in each row of the sink, or of the bits of all lanes of the panels. Each
/// column is one that all planes of the rows have.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes, C: Count<V>, const MR: usize, const NV: usize>(task: &Task<'_>) {
    let by = PhantomData;
    // SAFETY: passed on from the caller.
    unsafe {
        match task.combine {
            Combine::And => C::call(Panels::<V, C, MR, NV, AND> { task, by }),
            Combine::Xor => C::call(Panels::<V, C, MR, NV, XOR> { task, by }),
            Combine::XorNonzero => C::call(Panels::<V, C, MR, NV, XOR_NONZERO> { task, by }),
        }
    }
}

const AND: u8 = 0;
const XOR: u8 = 1;
const XOR_NONZERO: u8 = 2;

/// All panels of the task.
struct Panels<'a, V, C, const MR: usize, const NV: usize, const HOW: u8> {
    task: &'a Task<'a>,
    by: PhantomData<(V, C)>,
}

impl<V: Lanes, C: Count<V>, const MR: usize, const NV: usize, const HOW: u8> Piece
    for Panels<'_, V, C, MR, NV, HOW>
{
    #[inline(always)]
    unsafe fn run(self) {
        let task = self.task;
        let mut left = Some(task.strip);
        while let Some(strip) = left {
            let (panel, rest) = strip.first(NV * V::LANES);
            let before = task.strip.lanes - strip.lanes;
            // SAFETY: passed on from the caller: a panel is a part of the strip.
            unsafe {
                rows::<V, C, MR, NV, HOW>(&Task {
                    strip: panel,
                    codes: task.codes.map(|codes| codes.beyond(before)),
                    ..*task
                })
            }
            left = rest;
        }
    }
}

#[inline(always)]
unsafe fn rows<V: Lanes, C: Count<V>, const MR: usize, const NV: usize, const HOW: u8>(
    task: &Task<'_>,
) {
    // SAFETY: every tile starts at a row below `rows` and covers no row behind it.
    unsafe {
        let mut row = 0;
        while task.activations.rows() - row >= MR {
            tile::<V, C, MR, NV, HOW, MR>(task, row);
            row += MR;
        }
        // Few sizes of tiles: each is code that is compiled, and loaded, for every kind of weights.
        while MR > 2 && task.activations.rows() - row >= 2 {
            tile::<V, C, 2, NV, HOW, MR>(task, row);
            row += 2;
        }
        if row < task.activations.rows() {
            tile::<V, C, 1, NV, HOW, MR>(task, row);
        }
    }
}

/// `FULL` is the number of rows that registers are enough for.
#[inline(always)]
unsafe fn tile<
    V: Lanes,
    C: Count<V>,
    const MR: usize,
    const NV: usize,
    const HOW: u8,
    const FULL: usize,
>(
    task: &Task<'_>,
    row: usize,
) {
    // SAFETY: rows row .. row + MR exist; `count` and `finish` stay inside what the task states, and NR
    // starts are readable.
    unsafe {
        let first = task.activations.pointers::<MR>(row);
        if task.codes.is_none() {
            sink::expect::<V, MR, NV>(&task.strip.sink, row);
        }
        let mut sums = [[V::zero(); NV]; MR];
        if 2 * MR <= FULL && task.passes.len() > 1 {
            // Few rows leave registers for more planes of activations beside the same weights.
            let mut passes = task.passes;
            while let [pass, rest @ ..] = passes {
                let same = |others: &[Pass]| {
                    let same = |other: &Pass| other.weight_plane == pass.weight_plane;
                    others.iter().all(same)
                };
                passes = match rest {
                    [a, b, c, rest @ ..] if 4 * MR <= FULL && same(&[*a, *b, *c]) => {
                        let four = [*pass, *a, *b, *c];
                        count::<V, C, MR, NV, HOW, FULL, 4, false>(task, four, &first, &mut sums);
                        rest
                    }
                    [a, rest @ ..] if same(&[*a]) => {
                        let two = [*pass, *a];
                        count::<V, C, MR, NV, HOW, FULL, 2, false>(task, two, &first, &mut sums);
                        rest
                    }
                    rest => {
                        let one = [*pass];
                        count::<V, C, MR, NV, HOW, FULL, 1, false>(task, one, &first, &mut sums);
                        rest
                    }
                };
            }
        } else if HOW != AND
            && let [
                pass @ Pass {
                    negative: false, ..
                },
            ] = task.passes
        {
            // Nearly every tile of one-bit codes: nothing of its only pass needs to be looked up.
            let only = Pass {
                weight_plane: 0,
                activation_plane: 0,
                ..*pass
            };
            count::<V, C, MR, NV, HOW, FULL, 1, true>(task, [only], &first, &mut sums);
            if pass.shift > 0 {
                sums = each(sums, |sum| sum.add(sum));
            }
        } else {
            let mut shift = 0;
            for pass in task.falling {
                for _ in pass.shift..shift {
                    sums = each(sums, |sum| sum.add(sum));
                }
                shift = pass.shift;
                if pass.negative {
                    sums = each(sums, |sum| V::zero().sub(sum));
                }
                count::<V, C, MR, NV, HOW, FULL, 1, true>(task, [*pass], &first, &mut sums);
                if pass.negative {
                    sums = each(sums, |sum| V::zero().sub(sum));
                }
            }
            for _ in 0..shift {
                sums = each(sums, |sum| sum.add(sum));
            }
        }
        for sums in &mut sums {
            for (v, sum) in sums.iter_mut().enumerate() {
                let start = V::load(task.strip.start.add(v * V::LANES).cast());
                *sum = match HOW {
                    AND => sum.add(start),
                    _ => start.sub(*sum),
                };
            }
        }
        finish::<V, MR, NV>(task, row, sums);
    }
}

/// `what` of each vector. Not `map` of an array, which becomes a call.
#[inline(always)]
unsafe fn each<V: Lanes, const MR: usize, const NV: usize>(
    mut vectors: [[V; NV]; MR],
    what: impl Fn(V) -> V,
) -> [[V; NV]; MR] {
    for vector in vectors.as_flattened_mut() {
        *vector = what(*vector);
    }
    vectors
}

/// Adds what `P` passes over one plane of weights count to `sums`: times what each pass is worth, or with `PLAIN` as it is,
/// of one pass.
#[inline(always)]
unsafe fn count<
    V: Lanes,
    C: Count<V>,
    const MR: usize,
    const NV: usize,
    const HOW: u8,
    const FULL: usize,
    const P: usize,
    const PLAIN: bool,
>(
    task: &Task<'_>,
    passes: [Pass; P],
    first: &[*const u32; MR],
    sums: &mut [[V; NV]; MR],
) {
    // SAFETY: k < words, so weights are read inside the planes of the panel (with XOR_NONZERO the plane behind the sign
    // exists: weights are ternary), a column is there, and activations are read where it says.
    unsafe {
        let rows = &task.activations;
        let words = task.words;
        let plane = NV * V::LANES * words;
        let weights = task.strip.weights.add(passes[0].weight_plane * plane);
        // Not `map` of the array, which becomes a call here.
        let mut activations = [*first; P];
        for (rows_of, pass) in activations.iter_mut().zip(&passes) {
            for row in rows_of {
                *row = row.add(pass.activation_plane * rows.plane);
            }
        }
        // The weights of tiles of few rows are read once, and nothing else takes as long.
        let ahead = MR <= 2 && FULL > MR;
        // All rows wait for their counts if there are registers: see `Count::WAITING`.
        let wait = HOW == XOR_NONZERO && P == 1 && MR * NV <= C::WAITING;
        // Whether the sums themselves count.
        let whole = C::FLUSH == usize::MAX;
        let mut k = 0usize;
        loop {
            let end = words.min(k.saturating_add(C::FLUSH));
            let mut counters = [[[V::zero(); NV]; MR]; P];
            if whole && PLAIN {
                counters[0] = *sums;
            }
            while k < end {
                let column = *task.columns.add(k) as usize;
                let weights = weights.add(k * NV * V::LANES);
                let (mut w, mut z) = ([V::zero(); NV], [V::zero(); NV]);
                for v in 0..NV {
                    let at = v * V::LANES;
                    w[v] = V::load(weights.add(at));
                    if ahead {
                        V::prefetch(weights.wrapping_add(at + AHEAD));
                    }
                    if HOW == XOR_NONZERO {
                        z[v] = V::load(weights.add(plane + at));
                        if ahead {
                            V::prefetch(weights.wrapping_add(plane + at + AHEAD));
                        }
                    }
                }
                if wait {
                    let mut bits = [[V::zero(); NV]; MR];
                    for (row, bits) in activations[0].iter().zip(&mut bits) {
                        let a = V::splat(*row.add(column));
                        for v in 0..NV {
                            bits[v] = combine::<V, HOW>(w[v], a, z[v]).in_order();
                        }
                    }
                    for (counters, bits) in counters[0].iter_mut().zip(bits) {
                        for (counter, bits) in counters.iter_mut().zip(bits) {
                            *counter = C::count(*counter, bits);
                        }
                    }
                    k += 1;
                    continue;
                }
                for (activations, counters) in activations.iter().zip(&mut counters) {
                    for (row, counters) in activations.iter().zip(counters) {
                        let a = V::splat(*row.add(column)).in_order();
                        for v in 0..NV {
                            let bits = combine::<V, HOW>(w[v], a, z[v]);
                            counters[v] = C::count(counters[v], bits);
                        }
                        for counter in counters {
                            *counter = counter.in_order();
                        }
                    }
                }
                k += 1;
            }
            if whole && PLAIN {
                *sums = counters[0];
                return;
            }
            for (pass, counters) in passes.iter().zip(&counters) {
                let pairs = sums.as_flattened_mut().iter_mut();
                for (sum, counter) in pairs.zip(counters.as_flattened()) {
                    let counted = C::widen(*counter);
                    *sum = match (PLAIN, pass.negative) {
                        (true, _) => sum.add(counted),
                        (false, true) => sum.sub(counted.shl(pass.shift)),
                        (false, false) => sum.add(counted.shl(pass.shift)),
                    };
                }
            }
            if k >= words {
                return;
            }
        }
    }
}

/// The bits to count.
#[inline(always)]
unsafe fn combine<V: Lanes, const HOW: u8>(w: V, a: V, z: V) -> V {
    // SAFETY: the features of V, as the caller vouches.
    unsafe {
        match HOW {
            AND => w.and(a),
            XOR => w.xor(a),
            _ => w.xor_and(a, z),
        }
    }
}

/// Gives the result to the sink, lane by lane, or makes codes of it.
#[inline(always)]
unsafe fn finish<V: Lanes, const MR: usize, const NV: usize>(
    task: &Task<'_>,
    row: usize,
    sums: [[V; NV]; MR],
) {
    // SAFETY: rows row .. row + MR exist in the sink, and no lane behind `lanes` is written.
    unsafe {
        match &task.codes {
            Some(codes) => codes.put::<V, MR, NV>(row, |i, v| sums[i][v]),
            None => put::<V, MR, NV>(&task.strip.sink, sums, row, task.strip.lanes),
        }
    }
}
