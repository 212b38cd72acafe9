//! Products with float activations in 16 lanes; needs no more than `avx512bw` has.
//!
//! | step | instructions for 16 MAC of a row |
//! |---|---|
//! | look-ups, 1 and 2 bits | vpermps and vaddps for 64 and 32 MAC, and for all rows vpsrld for every second |
//! | tiles | vfmadd231ps, its activation broadcast once for a pair of vectors |
//! | direct, 4 bits | the same, and for all rows vpermps and vpsrld |
//! | direct, 8 bits | the same, and for all rows vpmovsxbd or vpmovzxbd and vcvtdq2ps |
//!
//! vpermps takes the low four bits of a lane: the index of 16 sums, or of 16 weights. Tile 12 x 32: 24 sums, 2 weights
//! and a row. Look-ups of many rows: 4 x 64. Directly, and by look-ups of one row, 8 sums are the least that hide the
//! latency of vfmadd231ps.

use std::arch::x86_64::*;

use crate::kernels::FloatKernel;
use crate::kernels::floatgemm::{self, FloatTask, Floats};
use crate::kernels::floatsources::{self, Decoding};
use crate::kernels::floatsums::{self, Sums, Tables};
use crate::kernels::floatweights::Decode;

pub(in crate::kernels) const KERNEL: FloatKernel = FloatKernel {
    name: "vfmadd231ps, 16 lanes",
    mr: 12,
    lanes: 16,
    vectors: VECTORS,
    direct,
    tiles,
    decode,
    looked: [2, 2],
    table: Zmm::TABLE,
    look_up_name: "vpermps, vaddps",
    tables,
    look_up,
};

const VECTORS: usize = 8;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn direct(task: &FloatTask<'_>) {
    // SAFETY: this function carries the features of Zmm; the rest is the contract of the table entry.
    unsafe { floatgemm::direct::<Zmm, 8, 4>(task, VECTORS) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn tiles(task: &FloatTask<'_>) {
    // SAFETY: as above.
    unsafe { floatgemm::tiles::<Zmm, 12>(task) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn decode(task: &Decoding<'_>) {
    // SAFETY: as above.
    unsafe { floatsources::decode::<Zmm>(task, VECTORS) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn tables(task: &Tables<'_>) {
    // SAFETY: as above.
    unsafe { floatsums::tables::<Zmm, 1>(task) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn look_up(task: &FloatTask<'_>) {
    // SAFETY: as above.
    unsafe { floatsums::look_up::<Zmm, 8, 4>(task, VECTORS) }
}

#[derive(Clone, Copy)]
struct Zmm(__m512);

// SAFETY of every block below: the intrinsics need AVX-512 F, which the callers carry, as `Floats` demands; memory is
// what the trait's method says that the caller vouches for.
impl Floats for Zmm {
    const LANES: usize = 16;
    type Codes = __m512i;
    type Tables = [__m512; 4];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_setzero_ps()) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_set1_ps(*p)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: see above the impl.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, valid: usize) -> Self {
        // SAFETY: see above the impl; what is masked is not touched.
        unsafe { Zmm(_mm512_maskz_loadu_ps(!0 >> (16 - valid), p)) }
    }
    #[inline(always)]
    unsafe fn store_some(self, p: *mut f32, valid: usize) {
        // SAFETY: see above the impl; what is masked is not touched.
        unsafe { _mm512_mask_storeu_ps(p, !0 >> (16 - valid), self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }
    #[inline(always)]
    unsafe fn tables(decode: &Decode) -> [__m512; 4] {
        // SAFETY: see above the impl; a table has 16 floats.
        unsafe { std::array::from_fn(|i| _mm512_loadu_ps(decode.tables[i].as_ptr())) }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u32) -> __m512i {
        // SAFETY: see above the impl.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn value<const BITS: usize>(tables: [__m512; 4], codes: __m512i, index: usize) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_permutexvar_ps(codes, tables[index])) }
    }
    #[inline(always)]
    unsafe fn next(codes: __m512i) -> __m512i {
        // SAFETY: see above the impl.
        unsafe { _mm512_srli_epi32::<4>(codes) }
    }
    #[inline(always)]
    unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let bytes = _mm_loadu_si128(p.cast());
            let words = match SIGNED {
                true => _mm512_cvtepi8_epi32(bytes),
                false => _mm512_cvtepu8_epi32(bytes),
            };
            Zmm(_mm512_cvtepi32_ps(words))
        }
    }
}

// SAFETY of every block below: as above.
impl Sums for Zmm {
    const TABLE: usize = 16;
    type Table = __m512;
    type Index = __m512i;

    #[inline(always)]
    unsafe fn table(p: *const f32) -> __m512 {
        // SAFETY: see above the impl.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn index<const HIGH: bool>(codes: __m512i) -> __m512i {
        match HIGH {
            // SAFETY: see above the impl.
            true => unsafe { _mm512_srli_epi32::<4>(codes) },
            false => codes,
        }
    }
    #[inline(always)]
    unsafe fn look_up(table: __m512, index: __m512i) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_permutexvar_ps(index, table)) }
    }
}
