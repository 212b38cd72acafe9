//! Products of weights of one or two bits and float activations by look-ups, over a small trait of float vectors.
//!
//! Four bits of a channel are weights of four activations, or of two. All sums that four bits can make of them stand in
//! a table, which is made once for a row and serves all channels; the bits are the index, and what is found is added.
//! Sums are made and added in the order of `floatgemm`, so the floats are those of decoded weights.

use std::array::from_fn;

use super::floatgemm::{FloatTask, Floats, rows};
use super::floatsources::Source;
use super::floatweights::Decode;

/// A vector of f32 that can be looked up.
pub(super) trait Sums: Floats {
    /// Floats of a table.
    const TABLE: usize;
    type Table: Copy;
    /// Four bits a lane, as the look-up wants them.
    type Index: Copy;

    /// The table at `p`.
    unsafe fn table(p: *const f32) -> Self::Table;
    /// The low four bits of each lane, or with HIGH the four above them. What is above those does not matter.
    unsafe fn index<const HIGH: bool>(codes: Self::Codes) -> Self::Index;
    unsafe fn look_up(table: Self::Table, index: Self::Index) -> Self;
}

/// Activations of a row to make tables of.
pub(super) struct Tables<'a> {
    /// A multiple of 32 of them.
    pub(super) activations: *const f32,
    pub(super) columns: usize,
    pub(super) bits: usize,
    pub(super) decode: &'a Decode,
    /// A table for each four bits of a channel.
    pub(super) out: *mut f32,
}

/// Makes tables of 16 sums: VECTORS are as many vectors.
///
/// # Safety
/// The contract of the table entry, and the features of T.
#[inline(always)]
pub(super) unsafe fn tables<T: Floats, const VECTORS: usize>(task: &Tables<'_>) {
    const { assert!(VECTORS * T::LANES == 16) };
    // SAFETY: the contract: there are activations for every column, and room for a table of as many columns as four
    // bits are for; a table of `decode` has 16 floats.
    unsafe {
        let w: [[T; 4]; VECTORS] = from_fn(|v| {
            from_fn(|field| T::load(task.decode.tables[field].as_ptr().add(v * T::LANES)))
        });
        let pair = |x: [T; 2], w: [T; 2]| x[0].mul(w[0]).fma(x[1], w[1]);
        let mut out = task.out;
        let mut put = |sum: T| {
            sum.store(out);
            out = out.add(T::LANES);
        };
        for k in (0..task.columns).step_by(4) {
            let x: [T; 4] = from_fn(|i| T::splat(task.activations.add(k + i)));
            let [low, high] = [[x[0], x[1]], [x[2], x[3]]];
            if task.bits == 1 {
                for w in w {
                    put(pair(low, [w[0], w[1]]).add(pair(high, [w[2], w[3]])));
                }
            } else {
                for x in [low, high] {
                    for w in w {
                        put(pair(x, [w[0], w[1]]));
                    }
                }
            }
        }
    }
}

/// Fields of BITS bits, `[word of K][vector of the panel][LANES]`, whose activations are tables.
#[derive(Clone, Copy)]
struct Looked<const BITS: usize> {
    words: *const u32,
    /// Words from one word of a channel to its next.
    step: usize,
}

impl<T: Sums, const BITS: usize> Source<T> for Looked<BITS> {
    #[inline(always)]
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        [from, to]: [usize; 2],
        a: *const f32,
        stride: usize,
        sums: &mut [[T; V]; MR],
    ) {
        for k in (from..to).step_by(32 / BITS) {
            // SAFETY: the contract of the trait; the last vector of a word that is loaded from its byte 3 reaches three
            // bytes into what is behind it, which the table entry's contract has.
            unsafe {
                let words = self.words.add(k / (32 / BITS) * self.step).cast::<u8>();
                let mut table = a.add(k * BITS / 4 * T::TABLE);
                for byte in 0..4 {
                    // A byte further on instead of a shift: nothing but the low bits of a lane matters.
                    let codes: [T::Codes; V] =
                        from_fn(|v| T::codes(words.add(v * T::LANES * 4 + byte).cast()));
                    add(table, stride, codes.map(|c| T::index::<false>(c)), sums);
                    add(
                        table.add(T::TABLE),
                        stride,
                        codes.map(|c| T::index::<true>(c)),
                        sums,
                    );
                    table = table.add(2 * T::TABLE);
                }
            }
        }
    }
}

/// Adds what MR rows have in their table at `table` for `index`.
#[inline(always)]
unsafe fn add<T: Sums, const MR: usize, const V: usize>(
    table: *const f32,
    stride: usize,
    index: [T::Index; V],
    sums: &mut [[T; V]; MR],
) {
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the contract of `Source::run`, which calls this.
        unsafe {
            let table = T::table(table.add(row * stride));
            for (sum, index) in sums.iter_mut().zip(index) {
                *sum = sum.add(T::look_up(table, index));
            }
        }
    }
}

/// All rows of a task by look-ups. ONE and FOUR as for `floatgemm::direct`.
///
/// # Safety
/// The contract of the table entry, and the features of T.
#[inline(always)]
pub(super) unsafe fn look_up<T: Sums, const ONE: usize, const FOUR: usize>(
    task: &FloatTask<'_>,
    panel_vectors: usize,
) {
    let step = panel_vectors * T::LANES;
    // SAFETY: the contract, which is that of both.
    unsafe {
        match task.bits {
            1 => rows::<T, _, ONE, FOUR>(task, |words| Looked::<1> { words, step }),
            _ => rows::<T, _, ONE, FOUR>(task, |words| Looked::<2> { words, step }),
        }
    }
}
