//! Floats into codes by AVX2.
//!
//! | step | instructions | for |
//! |---|---|---|
//! | a ReLU | vminps, vmulps, vroundps, vmulps, vcmpps, vcvtps2dq, vpsubd | 8 floats |
//! | its codes as bytes | 2 vpackusdw, vpackuswb, vpermd; `Nearest`: 2 vpsrlw | 32 codes |
//! | linear | vmulps, vcmpps, vandps, vminps, vcvtps2dq | 8 floats |
//! | its codes as bytes | 2 vpackssdw, vpacksswb, a maximum, a minimum, vpermd; zero points: 2 vpaddsw, vpsubb | 32 codes |
//! | planes | vpmovmskb, vpaddb, and a store each | 32 codes |
//! | one bit | 4 vcmpps, 3 packs, vpermd, vpmovmskb | 32 floats |
//! | two bits | vcmpps, vblendvps, vcmpps; packs as above | 8 floats |
//! | range | vpmaxsd, vpmaxud | 8 floats |

use std::arch::x86_64::*;

use super::{CENTRED, Entries, FROM, Floats, LINEAR, PLENTY, Steps};

pub(in crate::kernels) const ENTRIES: Entries = Entries {
    planes,
    bytes,
    bytes_and_range,
    range,
};

#[target_feature(enable = "avx2,fma")]
unsafe fn planes(x: *const f32, size: [usize; 2], q: &Steps, planes: usize, out: *mut u32) {
    // SAFETY: this function carries the features of Wide; the rest is the contract of the table entry.
    unsafe { super::planes::<Wide>(x, size, q, planes, out) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn bytes(x: *const f32, cols: usize, q: &Steps, out: *mut u8) {
    // SAFETY: as above.
    unsafe { super::bytes::<Wide>(x, cols, q, out) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn bytes_and_range(
    x: *const f32,
    cols: usize,
    q: &Steps,
    out: *mut u8,
    next: *const f32,
) -> (f32, f32) {
    // SAFETY: as above.
    unsafe { super::bytes_and_range::<Wide>(x, cols, q, out, next) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn range(x: *const f32, cols: usize) -> (f32, f32) {
    // SAFETY: as above.
    unsafe { super::range::<Wide>(x, cols) }
}

/// 32 floats in four vectors.
struct Wide;

// SAFETY of every block below: the intrinsics need the features that the callers carry, as `Floats` demands;
// memory is what the trait's method says that the caller vouches for.
impl Floats for Wide {
    const BLOCK: usize = 32;
    type Codes = __m256i;
    type Range = [[__m256i; 4]; 2];

    #[inline(always)]
    fn fetch(x: *const f32) {
        for line in 0..2 {
            let line = x.wrapping_add(16 * line);
            // SAFETY: a prefetch, which SSE has, of an address that does not exist does nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
        }
    }
    #[inline(always)]
    unsafe fn codes<const RULE: u8>(x: *const f32, q: &Steps) -> __m256i {
        // SAFETY: see above the impl.
        unsafe {
            if !matches!(RULE, LINEAR | CENTRED) {
                // What is below 0 becomes 0.
                let (a, b) = (steps8::<RULE>(x, q), steps8::<RULE>(x.add(8), q));
                let (c, d) = (steps8::<RULE>(x.add(16), q), steps8::<RULE>(x.add(24), q));
                let (mut low, mut high) = (_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
                if RULE == FROM {
                    low = _mm256_srli_epi16::<1>(low);
                    high = _mm256_srli_epi16::<1>(high);
                }
                return ordered(_mm256_packus_epi16(low, high));
            }
            let (a, b) = (integers8(x, q), integers8(x.add(8), q));
            let (c, d) = (integers8(x.add(16), q), integers8(x.add(24), q));
            let (mut low, mut high) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let (least, most) = (q.low.wrapping_sub(q.bias), q.high.wrapping_sub(q.bias));
            if RULE == CENTRED {
                let codes = _mm256_packs_epi16(low, high);
                let codes = _mm256_max_epi8(codes, _mm256_set1_epi8(least as i8));
                return ordered(_mm256_min_epi8(codes, _mm256_set1_epi8(most as i8)));
            }
            let zero = _mm256_set1_epi16(q.zero);
            low = _mm256_adds_epi16(low, zero);
            high = _mm256_adds_epi16(high, zero);
            let codes = _mm256_packus_epi16(low, high);
            let codes = _mm256_min_epu8(codes, _mm256_set1_epi8(q.high as i8));
            let codes = _mm256_max_epu8(codes, _mm256_set1_epi8(q.low as i8));
            ordered(_mm256_sub_epi8(codes, _mm256_set1_epi8(q.bias as i8)))
        }
    }
    #[inline(always)]
    unsafe fn store(codes: __m256i, out: *mut u8) {
        // SAFETY: see above the impl.
        unsafe { _mm256_storeu_si256(out.cast(), codes) }
    }
    #[inline(always)]
    unsafe fn planes<const PLANES: usize>(codes: __m256i, out: *mut u32, words: usize) {
        // SAFETY: see above the impl.
        unsafe {
            // The top plane to the top bits; what a shift takes from the next byte lies below it.
            let mut codes = match PLANES {
                8 => codes,
                _ => _mm256_sll_epi16(codes, _mm_cvtsi32_si128(8 - PLANES as i32)),
            };
            for plane in (0..PLANES).rev() {
                *out.add(plane * words) = _mm256_movemask_epi8(codes) as u32;
                codes = _mm256_add_epi8(codes, codes);
            }
        }
    }
    #[inline(always)]
    unsafe fn one<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32) {
        // SAFETY: see above the impl.
        unsafe {
            let t = _mm256_set1_ps(q.thresholds[0]);
            let mut bits = [t; 4];
            for (i, bits) in bits.iter_mut().enumerate() {
                *bits = passes::<RULE>(_mm256_loadu_ps(x.add(8 * i)), t);
            }
            *out = joined(bits);
        }
    }
    #[inline(always)]
    unsafe fn two<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32, words: usize) {
        // SAFETY: see above the impl.
        unsafe {
            let [t0, t1, t2] = q.thresholds;
            let (t0, t1, t2) = (_mm256_set1_ps(t0), _mm256_set1_ps(t1), _mm256_set1_ps(t2));
            let mut high = [_mm256_setzero_ps(); 4];
            let mut low = high;
            for i in 0..4 {
                let x = _mm256_loadu_ps(x.add(8 * i));
                high[i] = passes::<RULE>(x, t1);
                low[i] = passes::<RULE>(x, _mm256_blendv_ps(t0, t2, high[i]));
            }
            *out = joined(low);
            *out.add(words) = joined(high);
        }
    }
    #[inline(always)]
    unsafe fn range() -> Self::Range {
        // SAFETY: see above the impl.
        unsafe { [[_mm256_setzero_si256(); 4]; 2] }
    }
    #[inline(always)]
    unsafe fn widen([mut lo, mut hi]: Self::Range, x: *const f32) -> Self::Range {
        // SAFETY: see above the impl.
        unsafe {
            for i in 0..4 {
                // Bits of positive floats are in order as signed integers, above all others; those of negative ones as
                // unsigned integers. NaN lies beyond infinity both ways.
                let x = _mm256_loadu_si256(x.add(8 * i).cast());
                lo[i] = _mm256_max_epu32(x, lo[i]);
                hi[i] = _mm256_max_epi32(x, hi[i]);
            }
        }
        [lo, hi]
    }
    #[inline(always)]
    unsafe fn ends([lo, hi]: Self::Range) -> (f32, f32) {
        let (mut unsigned, mut signed) = ([0u32; 8], [0i32; 8]);
        // SAFETY: see above the impl; the arrays are as long as a vector.
        unsafe {
            let [a, b, c, d] = lo;
            let lo = _mm256_max_epu32(_mm256_max_epu32(a, b), _mm256_max_epu32(c, d));
            let [a, b, c, d] = hi;
            let hi = _mm256_max_epi32(_mm256_max_epi32(a, b), _mm256_max_epi32(c, d));
            _mm256_storeu_si256(unsigned.as_mut_ptr().cast(), lo);
            _mm256_storeu_si256(signed.as_mut_ptr().cast(), hi);
        }
        let unsigned = unsigned.iter().fold(0, |a, &b| a.max(b));
        super::floats_of_bits(unsigned, signed.iter().fold(0, |a, &b| a.max(b)))
    }
}

/// The packs work in halves of 128 bits: groups of four codes back in order.
#[inline(always)]
unsafe fn ordered(codes: __m256i) -> __m256i {
    // SAFETY: value intrinsics; the callers carry the features.
    unsafe { _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)) }
}

/// The signs of 32 lanes.
#[inline(always)]
unsafe fn joined([a, b, c, d]: [__m256; 4]) -> u32 {
    // SAFETY: value intrinsics; the callers carry the features.
    unsafe {
        let low = _mm256_packs_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b));
        let high = _mm256_packs_epi32(_mm256_castps_si256(c), _mm256_castps_si256(d));
        _mm256_movemask_epi8(ordered(_mm256_packs_epi16(low, high))) as u32
    }
}

#[inline(always)]
unsafe fn passes<const RULE: u8>(x: __m256, t: __m256) -> __m256 {
    // SAFETY: value intrinsics; the callers carry the features.
    unsafe {
        match RULE {
            FROM => _mm256_cmp_ps::<_CMP_GE_OQ>(x, t),
            _ => _mm256_cmp_ps::<_CMP_GT_OQ>(x, t),
        }
    }
}

/// 8 integers, or more than the highest, or less than the lowest.
#[inline(always)]
unsafe fn integers8(x: *const f32, q: &Steps) -> __m256i {
    // SAFETY: 8 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        let y = _mm256_mul_ps(_mm256_set1_ps(q.inverse), _mm256_loadu_ps(x));
        let y = _mm256_and_ps(y, _mm256_cmp_ps::<_CMP_ORD_Q>(y, y));
        // What is too small becomes the smallest integer, and so would what is too large.
        _mm256_cvtps_epi32(_mm256_min_ps(y, _mm256_set1_ps(PLENTY)))
    }
}

/// k + [x > k step] for `Ceil` and k + [x >= k step] for `Nearest`, see [`Grid`](super::steps::Grid); or less than 0.
#[inline(always)]
unsafe fn steps8<const RULE: u8>(x: *const f32, q: &Steps) -> __m256i {
    // SAFETY: 8 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        // vminps gives its second operand for NaN, which the conversion makes the smallest integer.
        let x = _mm256_min_ps(_mm256_set1_ps(q.grid.top), _mm256_loadu_ps(x));
        let y = _mm256_mul_ps(x, _mm256_set1_ps(q.grid.inverse));
        let k = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(y);
        let t = _mm256_mul_ps(k, _mm256_set1_ps(q.grid.step));
        // True is -1.
        let passes = _mm256_castps_si256(passes::<RULE>(x, t));
        _mm256_sub_epi32(_mm256_cvtps_epi32(y), passes)
    }
}
