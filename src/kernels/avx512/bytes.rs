//! 64 bytes, for tables of either size; needs no more than `avx512bw` has.

use std::arch::x86_64::*;

use super::Zmm;
use crate::kernels::lutgemm::ByteLanes;

/// 64 bytes: indices, what they find, or a table.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Bytes(pub(in crate::kernels) __m512i);

// SAFETY of every block below: the intrinsics need AVX-512 F and BW, which the callers carry, as `ByteLanes` demands;
// memory is what the trait's method says that the caller vouches for.
impl ByteLanes for Bytes {
    type Sums = Zmm;
    const LANES: usize = 64;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_setzero_si512()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_loadu_si512(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        // SAFETY: see above the impl.
        unsafe { _mm512_storeu_si512(p.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn add_bytes(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_add_epi8(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn add_halves(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_add_epi16(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn add_upper(self, bytes: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_add_epi16(self.0, _mm512_srli_epi16::<8>(bytes.0))) }
    }
    #[inline(always)]
    unsafe fn less_upper(self, upper: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_sub_epi16(self.0, _mm512_slli_epi16::<8>(upper.0))) }
    }
    #[inline(always)]
    unsafe fn widen(self, half: usize) -> Zmm {
        // SAFETY: see above the impl.
        unsafe {
            Zmm(_mm512_cvtepu16_epi32(match half {
                0 => _mm512_castsi512_si256(self.0),
                _ => _mm512_extracti64x4_epi64::<1>(self.0),
            }))
        }
    }
}
