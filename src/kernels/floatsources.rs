//! Where the weights of products with floats come from: decoded before, or decoded in registers.

use super::floatgemm::{Floats, PAIR, STRIDE};
use super::floatweights::Decode;

/// Where weights come from.
pub(super) trait Source<T: Floats>: Copy {
    /// Adds activations times weights of columns `from..to` to `sums`.
    ///
    /// # Safety
    /// The features of T; weights for the columns, and at `a` activations for them in MR rows, `stride` apart.
    /// Both ends are multiples of the columns of a word.
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        columns: [usize; 2],
        a: *const f32,
        stride: usize,
        sums: &mut [[T; V]; MR],
    );
}

/// Decoded weights, `[k][PAIR][LANES]`. The stride of activations is [`STRIDE`], a constant, so that one register
/// points to all rows.
#[derive(Clone, Copy)]
pub(super) struct Plain(pub(super) *const f32);

impl Plain {
    /// # Safety
    /// There are weights of column `k`.
    #[inline(always)]
    unsafe fn weights<T: Floats, const V: usize>(self, k: usize) -> [T; V] {
        // SAFETY: the contract.
        std::array::from_fn(|v| unsafe { T::load(self.0.add((k * V + v) * T::LANES)) })
    }
}

impl<T: Floats> Source<T> for Plain {
    #[inline(always)]
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        [from, to]: [usize; 2],
        a: *const f32,
        _: usize,
        sums: &mut [[T; V]; MR],
    ) {
        for k in from..to {
            // SAFETY: the contract of the trait.
            unsafe { multiply(a.add(k), STRIDE, self.weights::<T, V>(k), sums) }
        }
    }
}

/// The same for weights of two bits: the ends of columns are even.
#[derive(Clone, Copy)]
pub(super) struct PlainPairs(pub(super) Plain);

impl<T: Floats> Source<T> for PlainPairs {
    #[inline(always)]
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        [from, to]: [usize; 2],
        a: *const f32,
        _: usize,
        sums: &mut [[T; V]; MR],
    ) {
        for k in (from..to).step_by(2) {
            // SAFETY: the contract of the trait.
            unsafe {
                let w = [self.0.weights::<T, V>(k), self.0.weights::<T, V>(k + 1)];
                multiply_pair(a.add(k), STRIDE, w, sums);
            }
        }
    }
}

/// Fields of 2 or 4 bits, `[word of K][vector of the panel][LANES]`.
#[derive(Clone, Copy)]
pub(super) struct Fields<T: Floats, const BITS: usize> {
    pub(super) words: *const u32,
    /// Words from one word of a channel to its next.
    pub(super) step: usize,
    pub(super) tables: T::Tables,
}

impl<T: Floats, const BITS: usize> Fields<T, BITS> {
    /// Calls `each(k, field, weights)` for every column, which is a field of four bits.
    ///
    /// # Safety
    /// As for `Source::run`.
    #[inline(always)]
    unsafe fn each<const V: usize>(
        self,
        [from, to]: [usize; 2],
        mut each: impl FnMut(usize, usize, [T; V]),
    ) {
        let mut k = from;
        while k < to {
            // SAFETY: the contract.
            unsafe {
                let words = self.words.add(k / (32 / BITS) * self.step);
                let mut codes: [T::Codes; V] =
                    std::array::from_fn(|v| T::codes(words.add(v * T::LANES)));
                for _ in 0..8 {
                    for field in 0..4 / BITS {
                        let w = codes.map(|c| T::value::<BITS>(self.tables, c, field));
                        each(k, field, w);
                        k += 1;
                    }
                    codes = codes.map(|c| T::next(c));
                }
            }
        }
    }
}

impl<T: Floats, const BITS: usize> Source<T> for Fields<T, BITS> {
    #[inline(always)]
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        columns: [usize; 2],
        a: *const f32,
        stride: usize,
        sums: &mut [[T; V]; MR],
    ) {
        // SAFETY: the contract of the trait; a second field has a column before it.
        unsafe {
            let mut first = [T::zero(); V];
            self.each(columns, |k, field, w| match (BITS, field) {
                (2, 0) => first = w,
                (2, _) => multiply_pair(a.add(k - 1), stride, [first, w], sums),
                _ => multiply(a.add(k), stride, w, sums),
            })
        }
    }
}

/// Bytes, `[k / 4][vector of the panel][k % 4][LANES]`.
#[derive(Clone, Copy)]
pub(super) struct Bytes<const SIGNED: bool> {
    pub(super) words: *const u32,
    pub(super) step: usize,
}

impl<const SIGNED: bool> Bytes<SIGNED> {
    /// As [`Fields::each`].
    #[inline(always)]
    unsafe fn each<T: Floats, const V: usize>(
        self,
        [from, to]: [usize; 2],
        mut each: impl FnMut(usize, [T; V]),
    ) {
        let mut k = from;
        while k < to {
            // SAFETY: the contract.
            unsafe {
                let bytes = self.words.add(k / 4 * self.step).cast::<u8>();
                for byte in 0..4 {
                    each(
                        k,
                        std::array::from_fn(|v| {
                            T::bytes::<SIGNED>(bytes.add((v * 4 + byte) * T::LANES))
                        }),
                    );
                    k += 1;
                }
            }
        }
    }
}

impl<T: Floats, const SIGNED: bool> Source<T> for Bytes<SIGNED> {
    #[inline(always)]
    unsafe fn run<const MR: usize, const V: usize>(
        self,
        columns: [usize; 2],
        a: *const f32,
        stride: usize,
        sums: &mut [[T; V]; MR],
    ) {
        // SAFETY: the contract of the trait.
        unsafe { self.each(columns, |k, w| multiply(a.add(k), stride, w, sums)) }
    }
}

/// Adds column `a` of MR rows times its weights.
#[inline(always)]
unsafe fn multiply<T: Floats, const MR: usize, const V: usize>(
    a: *const f32,
    stride: usize,
    w: [T; V],
    sums: &mut [[T; V]; MR],
) {
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the contract of `Source::run`, which calls this.
        let x = unsafe { T::splat(a.add(row * stride)) };
        for (sum, w) in sums.iter_mut().zip(w) {
            // SAFETY: a calculation; the callers carry the features.
            *sum = unsafe { sum.fma(x, w) };
        }
    }
}

/// Adds two columns from `a` on of MR rows times their weights, as one summand.
#[inline(always)]
unsafe fn multiply_pair<T: Floats, const MR: usize, const V: usize>(
    a: *const f32,
    stride: usize,
    w: [[T; V]; 2],
    sums: &mut [[T; V]; MR],
) {
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: as in `multiply`.
        unsafe {
            let x = [
                T::splat(a.add(row * stride)),
                T::splat(a.add(row * stride + 1)),
            ];
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(x[0].mul(w[0][v]).fma(x[1], w[1][v]));
            }
        }
    }
}

/// Packed weights to decode, and where to.
pub(super) struct Decoding<'a> {
    pub(super) words: *const u32,
    pub(super) bits: usize,
    pub(super) signed: bool,
    pub(super) decode: &'a Decode,
    /// Whole words of them.
    pub(super) columns: usize,
    /// `[columns][PAIR][LANES]`
    pub(super) out: *mut f32,
}

/// Decodes columns of a pair of vectors.
///
/// # Safety
/// The contract of the table entry, and the features of T.
#[inline(always)]
pub(super) unsafe fn decode<T: Floats>(task: &Decoding<'_>, panel_vectors: usize) {
    let (step, words) = (panel_vectors * T::LANES, task.words);
    let put = |k: usize, w: [T; PAIR]| {
        for (v, w) in w.into_iter().enumerate() {
            // SAFETY: the contract: there is room for every column.
            unsafe { w.store(task.out.add((k * PAIR + v) * T::LANES)) };
        }
    };
    let columns = [0, task.columns];
    // SAFETY: the contract.
    unsafe {
        let tables = T::tables(task.decode);
        match (task.bits, task.signed) {
            (2, _) => Fields::<T, 2> {
                words,
                step,
                tables,
            }
            .each(columns, |k, _, w| put(k, w)),
            (4, _) => Fields::<T, 4> {
                words,
                step,
                tables,
            }
            .each(columns, |k, _, w| put(k, w)),
            (_, true) => Bytes::<true> { words, step }.each(columns, put),
            (_, false) => Bytes::<false> { words, step }.each(columns, put),
        }
    }
}
