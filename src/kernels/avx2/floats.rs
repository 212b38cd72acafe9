//! Products with float activations in 8 lanes.
//!
//! | step | instructions for 8 MAC of a row |
//! |---|---|
//! | tiles | vfmadd231ps, its activation broadcast once for a pair of vectors |
//! | direct, 1 and 2 bits | the same, and for all rows vpermps, and vpsrld 1 1/2 and 1 time a pair of fields |
//! | direct, 4 bits | the same, and for all rows vpand, vcvtdq2ps, vaddps, vpsrld |
//! | direct, 8 bits | the same, and for all rows vpmovsxbd or vpmovzxbd and vcvtdq2ps |
//!
//! Tile 6 x 16: 12 sums, 2 weights and a row in 16 registers. Directly 4 vectors of one row: as many codes, and
//! tables.

use std::arch::x86_64::*;

use crate::kernels::FloatKernel;
use crate::kernels::floatgemm::{self, Decoding, FloatTask, Floats};
use crate::kernels::floatweights::Decode;

pub(in crate::kernels) const KERNEL: FloatKernel = FloatKernel {
    name: "vfmadd231ps, 8 lanes",
    mr: 6,
    lanes: 8,
    vectors: VECTORS,
    direct,
    tiles,
    decode,
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
    unsafe { floatgemm::tiles::<Ymm, 6>(task) }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn decode(task: &Decoding<'_>) {
    // SAFETY: as above.
    unsafe { floatgemm::decode::<Ymm>(task, VECTORS) }
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
    /// Three tables, and the base of fields of four bits.
    type Tables = [__m256; 4];

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
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_fmadd_ps(a.0, b.0, self.0)) }
    }
    #[inline(always)]
    unsafe fn tables(decode: &Decode) -> [__m256; 4] {
        // SAFETY: see above the impl; a table has more than 8 floats.
        unsafe {
            let table = |i: usize| _mm256_loadu_ps(decode.tables[i].as_ptr());
            [table(0), table(1), table(2), _mm256_set1_ps(decode.base)]
        }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u32) -> __m256i {
        // SAFETY: see above the impl.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn value<const BITS: usize>(tables: [__m256; 4], codes: __m256i, index: usize) -> Self {
        // vpermps takes the low three bits of a lane.
        // SAFETY: see above the impl.
        unsafe {
            Ymm(match (BITS, index) {
                (1, 3) => _mm256_permutevar8x32_ps(tables[2], _mm256_srli_epi32::<1>(codes)),
                (1, i) => _mm256_permutevar8x32_ps(tables[i], codes),
                (2, 0) => _mm256_permutevar8x32_ps(tables[0], codes),
                (2, _) => _mm256_permutevar8x32_ps(tables[0], _mm256_srli_epi32::<2>(codes)),
                _ => {
                    let field = _mm256_and_si256(codes, _mm256_set1_epi32(15));
                    _mm256_add_ps(_mm256_cvtepi32_ps(field), tables[3])
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
