//! Floats into codes by AVX-512, with GFNI, VBMI and VBMI2 or without.
//!
//! | step | instructions | for |
//! |---|---|---|
//! | a ReLU | vminps, vmaxps, 2 vfmaddps, vsubps, vfmaddps that rounds down or up | 16 floats |
//! | its codes as bytes | 2 vpermt2w, vpermt2b; `Nearest`: 2 vpavgw | 64 codes |
//! | to four planes | vminps, vmulps, vcvttps2udq, vpermps, vsubps, vpshldd | 16 floats |
//! | its codes as bytes | 2 vpermt2w, vpermt2b, vpermb | 64 codes |
//! | linear | vmulps, vfixupimmps, vminps, vcvtps2dq | 16 floats |
//! | its codes as bytes | 2 vpackssdw, vpacksswb, a maximum, a minimum, vpermb; zero points: 2 vpaddsw, vpsubb | 64 codes |
//! | five planes or more | vgf2p8affineqb, vshufps, vpermt2b, 2 stores of 32 bytes | 64 codes |
//! | four or less | vporq, vgf2p8affineqb, vpermt2b, 2 stores | 128 codes |
//! | planes without GFNI | vptestmb and a store each | 64 codes |
//! | one bit | vcmpps | 16 floats |
//! | two bits | vcmpps, vblendmps, vcmpps | 16 floats |
//! | range | vpmaxsd, vpmaxud | 16 floats |
//!
//! Zen 5 starts four of these a cycle, copies of registers included, and adds, minima and conversions on two ports,
//! products and shifts by a constant on two others, byte shuffles on one of each: hence floats are compared, bounded and
//! rounded with an eye to who is free.

mod codes;

use std::arch::x86_64::*;

use super::{CENTRED, Entries, FROM, Floats, LINEAR, Steps};
use codes::{codes64, few64};

/// With GFNI and VBMI.
pub(in crate::kernels) const ENTRIES: Entries = Entries {
    planes,
    bytes,
    bytes_and_range,
    range,
};

/// Without.
pub(in crate::kernels) const BW_ENTRIES: Entries = Entries {
    planes: planes_bw,
    bytes: bytes_bw,
    bytes_and_range: bytes_and_range_bw,
    range,
};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,gfni")]
unsafe fn planes(x: *const f32, size: [usize; 2], q: &Steps, planes: usize, out: *mut u32) {
    // SAFETY: this function carries the features of Wide<true>; the rest is the contract of the table entry.
    unsafe { super::planes::<Wide<true>>(x, size, q, planes, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn planes_bw(x: *const f32, size: [usize; 2], q: &Steps, planes: usize, out: *mut u32) {
    // SAFETY: as above, for Wide<false>.
    unsafe { super::planes::<Wide<false>>(x, size, q, planes, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,gfni")]
unsafe fn bytes(x: *const f32, cols: usize, q: &Steps, out: *mut u8) {
    // SAFETY: as above, for Wide<true>.
    unsafe { super::bytes::<Wide<true>>(x, cols, q, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn bytes_bw(x: *const f32, cols: usize, q: &Steps, out: *mut u8) {
    // SAFETY: as above, for Wide<false>.
    unsafe { super::bytes::<Wide<false>>(x, cols, q, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,gfni")]
unsafe fn bytes_and_range(
    x: *const f32,
    cols: usize,
    q: &Steps,
    out: *mut u8,
    next: *const f32,
) -> (f32, f32) {
    // SAFETY: as above, for Wide<true>.
    unsafe { super::bytes_and_range::<Wide<true>>(x, cols, q, out, next) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn bytes_and_range_bw(
    x: *const f32,
    cols: usize,
    q: &Steps,
    out: *mut u8,
    next: *const f32,
) -> (f32, f32) {
    // SAFETY: as above, for Wide<false>.
    unsafe { super::bytes_and_range::<Wide<false>>(x, cols, q, out, next) }
}

/// # Safety
/// The contract of both tables' entries: hence no feature that one of them lacks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn range(x: *const f32, cols: usize) -> (f32, f32) {
    // SAFETY: as above.
    unsafe { super::range::<Wide<false>>(x, cols) }
}

/// 64 floats in four vectors.
struct Wide<const VBMI: bool>;

/// Planes `first` and the next, 32 bytes each, of two vectors that hold four planes of two blocks each: dwords of two groups
/// of eight codes of the one, then of the other.
const fn gather_bytes(first: u8) -> [u8; 64] {
    let mut gather = [0; 64];
    let mut i = 0;
    while i < 64 {
        let (block, group) = (i % 32 / 8, i % 8);
        let dword = 16 * (block / 2) + 2 * (block % 2) + 4 * (group / 2) + group % 2;
        gather[i] = 4 * dword as u8 + first + (i / 32) as u8;
        i += 1;
    }
    gather
}

/// The same where groups follow each other, and the two dwords of each are of one block and of the other.
const fn gather_halves(first: u8) -> [u8; 64] {
    let mut gather = [0; 64];
    let mut i = 0;
    while i < 64 {
        let (block, group) = (i % 32 / 8, i % 8);
        let dword = 16 * (block / 2) + 2 * group + block % 2;
        gather[i] = 4 * dword as u8 + first + (i / 32) as u8;
        i += 1;
    }
    gather
}

// SAFETY of every block below: the intrinsics need the features that the callers carry, as `Floats` demands;
// memory is what the trait's method says that the caller vouches for, or a constant of the vector's size.
impl<const VBMI: bool> Floats for Wide<VBMI> {
    const BLOCK: usize = 64;
    type Codes = __m512i;
    type Range = [[__m512i; 4]; 2];

    #[inline(always)]
    fn fetch(x: *const f32) {
        for line in 0..4 * Self::MANY {
            let line = x.wrapping_add(16 * line);
            // SAFETY: a prefetch, which SSE has, of an address that does not exist does nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
        }
    }
    #[inline(always)]
    unsafe fn codes<const RULE: u8>(x: *const f32, q: &Steps) -> __m512i {
        // SAFETY: see above the impl.
        unsafe { codes64::<RULE, VBMI, false>(x, q) }
    }
    #[inline(always)]
    unsafe fn store(codes: __m512i, out: *mut u8) {
        // SAFETY: see above the impl.
        unsafe { _mm512_storeu_si512(out.cast(), codes) }
    }
    #[inline(always)]
    unsafe fn planes<const PLANES: usize>(codes: __m512i, out: *mut u32, words: usize) {
        // SAFETY: see above the impl.
        unsafe {
            for plane in 0..PLANES {
                let bits = _mm512_test_epi8_mask(codes, _mm512_set1_epi8((1u8 << plane) as i8));
                out.add(plane * words).cast::<u64>().write_unaligned(bits);
            }
        }
    }
    const MANY: usize = if VBMI { 4 } else { 1 };
    #[inline(always)]
    unsafe fn many<const RULE: u8, const PLANES: usize>(
        x: *const f32,
        q: &Steps,
        out: *mut u32,
        words: usize,
    ) {
        // SAFETY: see above the impl.
        unsafe {
            if !VBMI {
                Self::planes::<PLANES>(Self::codes::<RULE>(x, q), out, words)
            } else if PLANES > 4 {
                eight_planes::<RULE, PLANES>(x, q, out, words)
            } else {
                four_planes::<RULE, PLANES>(x, q, out, words)
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
        unsafe { [[_mm512_setzero_si512(); 4]; 2] }
    }
    #[inline(always)]
    unsafe fn widen([mut lo, mut hi]: Self::Range, x: *const f32) -> Self::Range {
        // SAFETY: see above the impl.
        unsafe {
            for i in 0..4 {
                // Bits of positive floats are in order as signed integers, above all others; those of negative ones as
                // unsigned integers. NaN lies beyond infinity both ways. Every port compares integers.
                let x = _mm512_loadu_si512(x.add(16 * i).cast());
                lo[i] = _mm512_max_epu32(x, lo[i]);
                hi[i] = _mm512_max_epi32(x, hi[i]);
            }
        }
        [lo, hi]
    }
    #[inline(always)]
    unsafe fn ends([lo, hi]: Self::Range) -> (f32, f32) {
        // SAFETY: see above the impl.
        let (lo, hi) = unsafe {
            let [a, b, c, d] = lo;
            let lo = _mm512_max_epu32(_mm512_max_epu32(a, b), _mm512_max_epu32(c, d));
            let [a, b, c, d] = hi;
            let hi = _mm512_max_epi32(_mm512_max_epi32(a, b), _mm512_max_epi32(c, d));
            (_mm512_reduce_max_epu32(lo), _mm512_reduce_max_epi32(hi))
        };
        super::floats_of_bits(lo, hi)
    }
}

/// The bits of each eight codes, last to first, as eight bytes, one for each plane.
#[inline(always)]
unsafe fn transposed(rows: __m512i) -> __m512i {
    // Row i of the unit matrix asks each group of eight codes for bit i.
    // SAFETY: value intrinsics; the callers carry the features.
    unsafe {
        let unit = _mm512_set1_epi64(0x8040_2010_0804_0201u64 as i64);
        _mm512_gf2p8affine_epi64_epi8::<0>(unit, rows)
    }
}

/// Five to eight planes of 256 codes.
#[inline(always)]
unsafe fn eight_planes<const RULE: u8, const PLANES: usize>(
    x: *const f32,
    q: &Steps,
    out: *mut u32,
    words: usize,
) {
    // SAFETY: 256 floats are readable and eight words of each plane writable by the caller's word; the callers carry the
    // features.
    unsafe {
        let mut blocks = [_mm512_setzero_ps(); 4];
        for (i, block) in blocks.iter_mut().enumerate() {
            let codes = codes64::<RULE, true, true>(x.add(64 * i), q);
            *block = _mm512_castsi512_ps(transposed(codes));
        }
        let [a, b, c, d] = blocks;
        let (ab, cd) = (
            _mm512_shuffle_ps::<0x88>(a, b),
            _mm512_shuffle_ps::<0x88>(c, d),
        );
        let (ab, cd) = (_mm512_castps_si512(ab), _mm512_castps_si512(cd));
        two_planes(ab, const { gather_bytes(0) }, cd, out, words, true);
        let out = out.add(2 * words);
        two_planes(ab, const { gather_bytes(2) }, cd, out, words, true);
        let out = out.add(2 * words);
        let (ab, cd) = (
            _mm512_shuffle_ps::<0xDD>(a, b),
            _mm512_shuffle_ps::<0xDD>(c, d),
        );
        let (ab, cd) = (_mm512_castps_si512(ab), _mm512_castps_si512(cd));
        two_planes(ab, const { gather_bytes(0) }, cd, out, words, PLANES > 5);
        if PLANES > 6 {
            let out = out.add(2 * words);
            two_planes(ab, const { gather_bytes(2) }, cd, out, words, PLANES > 7);
        }
    }
}

/// One to four planes of 256 codes.
#[inline(always)]
unsafe fn four_planes<const RULE: u8, const PLANES: usize>(
    x: *const f32,
    q: &Steps,
    out: *mut u32,
    words: usize,
) {
    // SAFETY: as for `eight_planes`.
    unsafe {
        let ab = halves::<RULE>(x, q);
        let cd = halves::<RULE>(x.add(128), q);
        two_planes(ab, const { gather_halves(0) }, cd, out, words, PLANES > 1);
        if PLANES > 2 {
            let out = out.add(2 * words);
            two_planes(ab, const { gather_halves(2) }, cd, out, words, PLANES > 3);
        }
    }
}

/// 128 codes of up to four bits, transposed: the first 64 in the low halves of bytes, the others in the high ones.
#[inline(always)]
unsafe fn halves<const RULE: u8>(x: *const f32, q: &Steps) -> __m512i {
    // SAFETY: 128 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        transposed(if matches!(RULE, LINEAR | CENTRED) {
            let a = codes64::<RULE, true, true>(x, q);
            let b = codes64::<RULE, true, true>(x.add(64), q);
            let b = _mm512_slli_epi16::<4>(b);
            _mm512_ternarylogic_epi32::<0xCA>(_mm512_set1_epi8(0xF), a, b)
        } else {
            _mm512_or_si512(
                few64::<RULE, false>(x, q),
                few64::<RULE, true>(x.add(64), q),
            )
        })
    }
}

/// Gathers and stores a plane, or two.
#[inline(always)]
unsafe fn two_planes(
    ab: __m512i,
    gather: [u8; 64],
    cd: __m512i,
    out: *mut u32,
    words: usize,
    both: bool,
) {
    // SAFETY: eight words of each plane are writable by the caller's word; the callers carry the features.
    unsafe {
        let gather = _mm512_loadu_si512(gather.as_ptr().cast());
        let planes = _mm512_permutex2var_epi8(ab, gather, cd);
        _mm256_storeu_si256(out.cast(), _mm512_castsi512_si256(planes));
        if both {
            let second = _mm512_extracti64x4_epi64::<1>(planes);
            _mm256_storeu_si256(out.add(words).cast(), second);
        }
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
