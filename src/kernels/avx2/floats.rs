//! Products with float activations in 8 lanes.
//!
//! | step | instructions for 8 MAC of a row |
//! |---|---|
//! | look-ups, 1 bit | 2 vpermilps and 2 vaddps for 32 MAC, and for all rows vpsrld 1 1/2 times |
//! | tiles | vfmadd231ps, its activation broadcast once for a pair of vectors |
//! | tiles, 2 bits | vmulps, vfmadd231ps, vaddps for 16 MAC |
//! | direct, 2 bits | the same, and for all rows 2 vpermps and 1 1/2 vpsrld |
//! | direct, 4 bits | as tiles, and for all rows vpand, vcvtdq2ps, vaddps, vpsrld |
//! | direct, 8 bits | as tiles, and for all rows vpmovsxbd or vpmovzxbd and vcvtdq2ps |
//!
//! Tile 6 x 16: 12 sums, 2 weights and a row in 16 registers; of pairs 4 x 16: 8 sums, 4 weights, a row and a product.
//! Directly 4 vectors of one row: as many codes, and tables.
//!
//! vpermilps finds one of four floats: sums of two activations under weights of one bit, and two of those are a four.
//! Pairs of two bits would need 16 floats, that is two vpermps and a blend for 16 MAC, and gain nothing.

use std::arch::x86_64::*;

use crate::kernels::FloatKernel;
use crate::kernels::floatgemm::{self, FloatTask, Floats};
use crate::kernels::floatsources::{self, Decoding};
use crate::kernels::floatsums::{self, Sums, Tables};
use crate::kernels::floatweights::Decode;

pub(in crate::kernels) const KERNEL: FloatKernel = FloatKernel {
    name: "vfmadd231ps, 8 lanes",
    mr: 6,
    lanes: 8,
    vectors: VECTORS,
    direct,
    tiles,
    decode,
    looked: [1, 1],
    table: Ymm::TABLE,
    look_up_name: "2 vpermilps, 2 vaddps",
    tables,
    look_up,
};

const VECTORS: usize = 8;

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn direct(task: &FloatTask<'_>) {
    // SAFETY: this function carries the features of Ymm; the rest is the contract of the table entry.
    unsafe { floatgemm::direct::<Ymm, 4, 2>(task, VECTORS) }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn tiles(task: &FloatTask<'_>) {
    // SAFETY: as above.
    unsafe {
        match task.bits {
            2 => floatgemm::pair_tiles::<Ymm, 4>(task),
            _ => floatgemm::tiles::<Ymm, 6>(task),
        }
    }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn decode(task: &Decoding<'_>) {
    // SAFETY: as above.
    unsafe { floatsources::decode::<Ymm>(task, VECTORS) }
}

/// Four floats, twice.
#[inline(always)]
unsafe fn twice(p: *const f32) -> __m256 {
    // SAFETY: the caller vouches for four floats, and carries the features.
    unsafe {
        let four = _mm_loadu_ps(p);
        _mm256_set_m128(four, four)
    }
}

/// A table is two halves: the sums of the first two activations of four, and of the last two.
#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn tables(task: &Tables<'_>) {
    // SAFETY: the contract of the table entry: a multiple of four activations, and room for as many halves of tables
    // as pairs of them; tables of `decode` have more than four floats.
    unsafe {
        let weights = |field: usize| twice(task.decode.tables[field].as_ptr());
        let [even, odd] = [weights(0), weights(1)];
        let evens = _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2);
        let odds = _mm256_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3);
        for k in (0..task.columns).step_by(4) {
            let four = twice(task.activations.add(k));
            let first = _mm256_mul_ps(_mm256_permutevar8x32_ps(four, evens), even);
            let sums = _mm256_fmadd_ps(_mm256_permutevar8x32_ps(four, odds), odd, first);
            _mm256_storeu_ps(task.out.add(2 * k), sums);
        }
    }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn look_up(task: &FloatTask<'_>) {
    // SAFETY: as above.
    unsafe { floatsums::look_up::<Ymm, 4, 2>(task, VECTORS) }
}

#[derive(Clone, Copy)]
struct Ymm(__m256);

/// All ones in the first `valid` lanes.
#[inline(always)]
unsafe fn mask(valid: usize) -> __m256i {
    // SAFETY: value intrinsics; the callers carry the features.
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(valid as i32), lane)
    }
}

// SAFETY of every block below: the intrinsics need AVX2 and FMA, which the callers carry, as `Floats` demands; memory
// is what the trait's method says that the caller vouches for.
impl Floats for Ymm {
    const LANES: usize = 8;
    type Codes = __m256i;
    /// A table of weights of two bits, and the base of fields of four bits.
    type Tables = [__m256; 2];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_setzero_ps()) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_broadcast_ss(&*p)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: see above the impl.
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, valid: usize) -> Self {
        // SAFETY: see above the impl; what is masked is not touched.
        unsafe { Ymm(_mm256_maskload_ps(p, mask(valid))) }
    }
    #[inline(always)]
    unsafe fn store_some(self, p: *mut f32, valid: usize) {
        // SAFETY: see above the impl; what is masked is not touched.
        unsafe { _mm256_maskstore_ps(p, mask(valid), self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_fmadd_ps(a.0, b.0, self.0)) }
    }
    #[inline(always)]
    unsafe fn tables(decode: &Decode) -> [__m256; 2] {
        // SAFETY: see above the impl; a table has more than 8 floats.
        unsafe {
            let table = _mm256_loadu_ps(decode.tables[0].as_ptr());
            [table, _mm256_set1_ps(decode.base)]
        }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u32) -> __m256i {
        // SAFETY: see above the impl.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn value<const BITS: usize>(tables: [__m256; 2], codes: __m256i, index: usize) -> Self {
        // vpermps takes the low three bits of a lane.
        // SAFETY: see above the impl.
        unsafe {
            Ymm(match (BITS, index) {
                (2, 0) => _mm256_permutevar8x32_ps(tables[0], codes),
                (2, _) => _mm256_permutevar8x32_ps(tables[0], _mm256_srli_epi32::<2>(codes)),
                _ => {
                    let field = _mm256_and_si256(codes, _mm256_set1_epi32(15));
                    _mm256_add_ps(_mm256_cvtepi32_ps(field), tables[1])
                }
            })
        }
    }
    #[inline(always)]
    unsafe fn next(codes: __m256i) -> __m256i {
        // SAFETY: see above the impl.
        unsafe { _mm256_srli_epi32::<4>(codes) }
    }
    #[inline(always)]
    unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let bytes = _mm_loadl_epi64(p.cast());
            let words = match SIGNED {
                true => _mm256_cvtepi8_epi32(bytes),
                false => _mm256_cvtepu8_epi32(bytes),
            };
            Ymm(_mm256_cvtepi32_ps(words))
        }
    }
}

// SAFETY of every block below: as above.
impl Sums for Ymm {
    const TABLE: usize = 8;
    /// Each half of a table twice.
    type Table = [__m256; 2];
    /// For each half.
    type Index = [__m256i; 2];

    #[inline(always)]
    unsafe fn table(p: *const f32) -> [__m256; 2] {
        // SAFETY: see above the impl.
        unsafe { [twice(p), twice(p.add(4))] }
    }
    #[inline(always)]
    unsafe fn index<const HIGH: bool>(codes: __m256i) -> [__m256i; 2] {
        // vpermilps takes the low two bits of a lane.
        // SAFETY: see above the impl.
        unsafe {
            match HIGH {
                true => [_mm256_srli_epi32::<4>(codes), _mm256_srli_epi32::<6>(codes)],
                false => [codes, _mm256_srli_epi32::<2>(codes)],
            }
        }
    }
    #[inline(always)]
    unsafe fn look_up(table: [__m256; 2], index: [__m256i; 2]) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let half = |i: usize| _mm256_permutevar_ps(table[i], index[i]);
            Ymm(_mm256_add_ps(half(0), half(1)))
        }
    }
}
