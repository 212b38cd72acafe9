//! AVX2: a byte for each code.

// As in the file above, all are called where the features are.

use std::arch::x86_64::*;

use crate::kernels::pack::Codes;

/// 32 codes of 8 bits.
#[derive(Clone, Copy)]
pub(super) struct Bytes(__m256i);

impl Codes for Bytes {
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: the callers carry the features.
        unsafe { Bytes(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn above(values: *const i32, thresholds: *const i32) -> u32 {
        // SAFETY: the callers carry the features.
        unsafe {
            let part = |at: usize| {
                let values = _mm256_loadu_si256(values.add(at).cast());
                let above =
                    _mm256_cmpgt_epi32(values, _mm256_loadu_si256(thresholds.add(at).cast()));
                (_mm256_movemask_ps(_mm256_castsi256_ps(above)) as u32) << at
            };
            part(0) | part(8) | part(16) | part(24)
        }
    }
    #[inline(always)]
    unsafe fn plane(self, plane: usize) -> u32 {
        // SAFETY: the callers carry the features.
        unsafe {
            // Bit `plane` becomes the top bit of its byte; what crosses from the next byte lies below it.
            let up = _mm_cvtsi32_si128(7 - plane as i32);
            _mm256_movemask_epi8(_mm256_sll_epi16(self.0, up)) as u32
        }
    }
    #[inline(always)]
    unsafe fn unpack<const PLANES: usize>(
        planes: *const u32,
        words: usize,
        sign: u8,
        out: *mut u8,
    ) {
        // SAFETY: the callers carry the features.
        unsafe {
            #[rustfmt::skip]
            let byte = _mm256_setr_epi8(
                0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
                2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3,
            );
            let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
            let (mut codes, mut worth) = (_mm256_setzero_si256(), _mm256_set1_epi8(1));
            for plane in 0..PLANES {
                let bits = _mm256_set1_epi32(*planes.add(plane * words) as i32);
                let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, byte), bit);
                let set = _mm256_and_si256(_mm256_cmpeq_epi8(bits, bit), worth);
                codes = _mm256_or_si256(codes, set);
                worth = _mm256_add_epi8(worth, worth);
            }
            let sign = _mm256_set1_epi8(sign as i8);
            let codes = _mm256_sub_epi8(_mm256_xor_si256(codes, sign), sign);
            _mm256_storeu_si256(out.cast(), codes);
        }
    }
}
