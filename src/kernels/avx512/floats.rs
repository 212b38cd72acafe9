//! Products with float activations in 16 lanes; needs no more than `avx512bw` has.
//!
//! | step | instructions for 16 MAC of a row |
//! |---|---|
//! | tiles | vfmadd231ps, its activation broadcast once for a pair of vectors |
//! | direct, fields of 1, 2, 4 bits | the same, and for all rows vpermps, and vpsrld for every four bits |
//! | direct, 8 bits | the same, and for all rows vpmovsxbd or vpmovzxbd and vcvtdq2ps |
//!
//! vpermps takes the low four bits of a lane: a table for each field of them saves all shifts but one for four bits.
//! Tile 12 x 32: 24 sums, 2 weights and a row. Directly 8 sums are the least that hide the latency of vfmadd231ps.
//!
//! Not done: vpermps could look up the sums of four activations under bipolar weights, (+-a +- b) + (+-c +- d), and be added
//! at once: 64 MAC for three instructions. A loop of that, one row of 4096^2, ran at 1.4 times the bound of vfmadd231ps on
//! Sapphire Rapids, the direct way at half of it. It is another order of sums, which tiles could keep by look-ups only (by
//! multiply-adds it takes six instructions for four), so all ISAs and all numbers of rows would have to change at once.

use std::arch::x86_64::*;

use crate::kernels::FloatKernel;
use crate::kernels::floatgemm::{self, Decoding, FloatTask, Floats};
use crate::kernels::floatweights::Decode;

pub(in crate::kernels) const KERNEL: FloatKernel = FloatKernel {
    name: "vfmadd231ps, 16 lanes",
    mr: 12,
    lanes: 16,
    vectors: VECTORS,
    direct,
    tiles,
    decode,
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
    unsafe { floatgemm::decode::<Zmm>(task, VECTORS) }
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
