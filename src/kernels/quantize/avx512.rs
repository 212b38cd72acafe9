//! Floats into codes by AVX-512, with GFNI and VBMI or without.
//!
//! | step | instructions | for |
//! |---|---|---|
//! | `Nearest` | vmaxps, vfmaddps, vsubps, vmulps, vsubps, vpsrad, vpsubd, vpaddd | 16 floats |
//! | `Ceil` | vmaxps, 2 vfmaddps, vsubps, vpsrad, 2 vpsubd | 16 floats |
//! | linear | vcmpps, vmulps, vminps, vcvtps2dq | 16 floats |
//! | bytes | 2 vpackssdw, vpackuswb, vpermd, a minimum; linear: 2 vpaddsw, a maximum, a difference | 64 codes |
//! | planes | vptestmb and a store each; from five on vpermb, vgf2p8affineqb, vpermb, and stores | 64 codes |
//! | one bit | vcmpps | 16 floats |
//! | two bits | vcmpps, vblendmps, vcmpps | 16 floats |
//! | range | vminps, vmaxps | 16 floats |

use std::arch::x86_64::*;

use super::{ABOVE, Entries, FROM, Floats, LINEAR, PLENTY, Steps, WHOLE};

/// With GFNI and VBMI.
pub(in crate::kernels) const ENTRIES: Entries = Entries {
    planes,
    bytes,
    range,
};

/// Without.
pub(in crate::kernels) const BW_ENTRIES: Entries = Entries {
    planes: planes_bw,
    ..ENTRIES
};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,gfni")]
unsafe fn planes(x: *const f32, size: [usize; 2], q: &Steps, planes: usize, out: *mut u32) {
    // SAFETY: this function carries the features of Wide<true>; the rest is the contract of the table entry.
    unsafe { super::planes::<Wide<true>>(x, size, q, planes, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn planes_bw(x: *const f32, size: [usize; 2], q: &Steps, planes: usize, out: *mut u32) {
    // SAFETY: as above, for Wide<false>.
    unsafe { super::planes::<Wide<false>>(x, size, q, planes, out) }
}

/// # Safety
/// The contract of both tables' entries: hence no feature that one of them lacks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn bytes(x: *const f32, cols: usize, q: &Steps, out: *mut u8) {
    // SAFETY: as above.
    unsafe { super::bytes::<Wide<false>>(x, cols, q, out) }
}

/// # Safety
/// As [`bytes`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn range(x: *const f32, cols: usize) -> (f32, f32) {
    // SAFETY: as above.
    unsafe { super::range::<Wide<false>>(x, cols) }
}

/// 64 floats in four vectors.
struct Wide<const GFNI: bool>;

/// The packs work in quarters of 128 bits: where the groups of four codes are that belong in order.
const ORDER: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// The same in bytes, and each eight codes from the last to the first, as vgf2p8affineqb counts rows.
const ROWS: [u8; 64] = {
    let mut rows = [0; 64];
    let mut i = 0;
    while i < 64 {
        let code = i ^ 7;
        rows[i] = 4 * ORDER[code / 4] + (code % 4) as u8;
        i += 1;
    }
    rows
};

/// Byte j of plane i from byte i of group j.
const GATHER: [u8; 64] = {
    let mut gather = [0; 64];
    let mut i = 0;
    while i < 64 {
        gather[i] = (i % 8 * 8 + i / 8) as u8;
        i += 1;
    }
    gather
};

// SAFETY of every block below: the intrinsics need the features that the callers carry, as `Floats` demands;
// memory is what the trait's method says that the caller vouches for, or a constant of the vector's size.
impl<const GFNI: bool> Floats for Wide<GFNI> {
    const BLOCK: usize = 64;
    /// Not in order yet: see [`ORDER`].
    type Codes = __m512i;
    type Range = [[__m512; 4]; 2];

    #[inline(always)]
    unsafe fn codes<const RULE: u8>(x: *const f32, q: &Steps) -> __m512i {
        // SAFETY: see above the impl.
        unsafe {
            let mut low = _mm512_packs_epi32(codes16::<RULE>(x, q), codes16::<RULE>(x.add(16), q));
            let mut high =
                _mm512_packs_epi32(codes16::<RULE>(x.add(32), q), codes16::<RULE>(x.add(48), q));
            let most = _mm512_set1_epi8(q.high as i8);
            if RULE != LINEAR {
                return _mm512_min_epu8(_mm512_packus_epi16(low, high), most);
            }
            let zero = _mm512_set1_epi16(q.zero);
            low = _mm512_adds_epi16(low, zero);
            high = _mm512_adds_epi16(high, zero);
            let codes = _mm512_min_epu8(_mm512_packus_epi16(low, high), most);
            let codes = _mm512_max_epu8(codes, _mm512_set1_epi8(q.low as i8));
            _mm512_sub_epi8(codes, _mm512_set1_epi8(q.bias as i8))
        }
    }
    #[inline(always)]
    unsafe fn store(codes: __m512i, out: *mut u8) {
        // SAFETY: see above the impl.
        unsafe { _mm512_storeu_si512(out.cast(), ordered(codes)) }
    }
    #[inline(always)]
    unsafe fn planes<const PLANES: usize>(codes: __m512i, out: *mut u32, words: usize) {
        // SAFETY: see above the impl.
        unsafe {
            if GFNI && PLANES > 4 {
                let rows = _mm512_permutexvar_epi8(_mm512_loadu_si512(ROWS.as_ptr().cast()), codes);
                // Row i of the unit matrix asks each group of eight codes for bit i.
                let unit = _mm512_set1_epi64(0x8040_2010_0804_0201u64 as i64);
                let bits = _mm512_gf2p8affine_epi64_epi8::<0>(unit, rows);
                let gather = _mm512_loadu_si512(GATHER.as_ptr().cast());
                let planes: [u64; 8] = std::mem::transmute(_mm512_permutexvar_epi8(gather, bits));
                for (plane, bits) in planes.into_iter().enumerate().take(PLANES) {
                    out.add(plane * words).cast::<u64>().write_unaligned(bits);
                }
                return;
            }
            let codes = ordered(codes);
            for plane in 0..PLANES {
                let bits = _mm512_test_epi8_mask(codes, _mm512_set1_epi8((1u8 << plane) as i8));
                out.add(plane * words).cast::<u64>().write_unaligned(bits);
            }
        }
    }
    #[inline(always)]
    unsafe fn one<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32) {
        // SAFETY: see above the impl.
        unsafe {
            let t = _mm512_set1_ps(q.thresholds[0]);
            let mut bits = [0; 4];
            for (i, bits) in bits.iter_mut().enumerate() {
                *bits = passes::<RULE>(_mm512_loadu_ps(x.add(16 * i)), t);
            }
            out.cast::<u64>().write_unaligned(joined(bits));
        }
    }
    #[inline(always)]
    unsafe fn two<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32, words: usize) {
        // SAFETY: see above the impl.
        unsafe {
            let [t0, t1, t2] = q.thresholds;
            let (t0, t1, t2) = (_mm512_set1_ps(t0), _mm512_set1_ps(t1), _mm512_set1_ps(t2));
            let (mut high, mut low) = ([0; 4], [0; 4]);
            for i in 0..4 {
                let x = _mm512_loadu_ps(x.add(16 * i));
                high[i] = passes::<RULE>(x, t1);
                low[i] = passes::<RULE>(x, _mm512_mask_blend_ps(high[i], t0, t2));
            }
            out.cast::<u64>().write_unaligned(joined(low));
            out.add(words).cast::<u64>().write_unaligned(joined(high));
        }
    }
    #[inline(always)]
    unsafe fn range() -> Self::Range {
        // SAFETY: see above the impl.
        unsafe { [[_mm512_setzero_ps(); 4]; 2] }
    }
    #[inline(always)]
    unsafe fn widen([mut lo, mut hi]: Self::Range, x: *const f32) -> Self::Range {
        // SAFETY: see above the impl.
        unsafe {
            for i in 0..4 {
                // vminps and vmaxps give their second operand for NaN.
                let x = _mm512_loadu_ps(x.add(16 * i));
                lo[i] = _mm512_min_ps(x, lo[i]);
                hi[i] = _mm512_max_ps(x, hi[i]);
            }
        }
        [lo, hi]
    }
    #[inline(always)]
    unsafe fn ends([lo, hi]: Self::Range) -> (f32, f32) {
        // SAFETY: see above the impl.
        unsafe {
            let lo = _mm512_min_ps(_mm512_min_ps(lo[0], lo[1]), _mm512_min_ps(lo[2], lo[3]));
            let hi = _mm512_max_ps(_mm512_max_ps(hi[0], hi[1]), _mm512_max_ps(hi[2], hi[3]));
            (_mm512_reduce_min_ps(lo), _mm512_reduce_max_ps(hi))
        }
    }
}

#[inline(always)]
unsafe fn ordered(codes: __m512i) -> __m512i {
    // SAFETY: value intrinsics, and a load of 16 bytes; the callers carry the features.
    unsafe {
        let order = _mm512_cvtepu8_epi32(_mm_loadu_si128(ORDER.as_ptr().cast()));
        _mm512_permutexvar_epi32(order, codes)
    }
}

#[inline(always)]
fn joined(masks: [u16; 4]) -> u64 {
    let [a, b, c, d] = masks;
    u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48
}

#[inline(always)]
unsafe fn passes<const RULE: u8>(x: __m512, t: __m512) -> __mmask16 {
    // SAFETY: value intrinsics; the callers carry the features.
    unsafe {
        match RULE {
            FROM => _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, t),
            _ => _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, t),
        }
    }
}

/// 16 codes, or more than the highest, or less than 0.
#[inline(always)]
unsafe fn codes16<const RULE: u8>(x: *const f32, q: &Steps) -> __m512i {
    // SAFETY: 16 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        let x = _mm512_loadu_ps(x);
        let inverse = _mm512_set1_ps(q.inverse);
        if RULE == LINEAR {
            let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x);
            let y = _mm512_maskz_mul_ps(number, x, inverse);
            // What is too small becomes the smallest integer, and so would what is too large.
            return _mm512_cvtps_epi32(_mm512_min_ps(y, _mm512_set1_ps(PLENTY)));
        }
        // vmaxps gives its second operand for NaN.
        let x = _mm512_max_ps(x, _mm512_setzero_ps());
        let (base, alpha) = (_mm512_set1_ps(q.base), _mm512_set1_ps(q.alpha));
        let m = _mm512_fmadd_ps(x, inverse, base);
        let t = match RULE {
            // M alpha is exact, so this is c alpha, rounded once.
            ABOVE => _mm512_fmadd_ps(m, alpha, _mm512_set1_ps(q.origin)),
            _ => _mm512_mul_ps(_mm512_sub_ps(m, base), alpha),
        };
        // The sign of a difference instead of a comparison: masks cost a fifth of all time on Zen 5. A difference of infinities
        // may have either sign, for the code is beyond the highest one then.
        let below = match RULE {
            ABOVE => _mm512_sub_ps(t, x),
            _ => _mm512_sub_ps(x, t),
        };
        let below = _mm512_srai_epi32::<31>(_mm512_castps_si512(below));
        let whole = |one: i32| _mm512_set1_epi32(WHOLE.to_bits() as i32 - one);
        let m = _mm512_castps_si512(m);
        match RULE {
            ABOVE => _mm512_sub_epi32(_mm512_sub_epi32(m, whole(0)), below),
            _ => _mm512_add_epi32(_mm512_sub_epi32(m, whole(1)), below),
        }
    }
}
