//! 64 floats into 64 bytes by AVX-512.

use std::arch::x86_64::*;

use super::super::{ABOVE, CENTRED, FROM, LINEAR, PLENTY, Steps, WHOLE};

/// Every second word of two vectors.
const WORDS: [u16; 32] = {
    let mut index = [0; 32];
    let mut i = 0;
    while i < 32 {
        index[i] = 2 * i as u16;
        i += 1;
    }
    index
};

/// Every second byte of two vectors, of each eight from the last to the first if so asked.
const fn bytes_of_words(reversed: bool) -> [u8; 64] {
    let mut index = [0; 64];
    let mut i = 0;
    while i < 64 {
        index[i] = 2 * (if reversed { i ^ 7 } else { i }) as u8;
        i += 1;
    }
    index
}

/// The code that 2 c + [x passes T_c] means, by the low six bits, times `unit`; 0 for -1 and -2.
const fn codes_of_few(unit: usize) -> [u8; 64] {
    let mut codes = [0; 64];
    let mut i = 0;
    while i < 31 {
        codes[i] = (unit * i.div_ceil(2)) as u8;
        i += 1;
    }
    codes
}

/// The packs work in quarters of 128 bits: where the groups of four codes are that belong in order.
const ORDER: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// The same in bytes, and each eight codes from the last to the first if so asked.
const fn order_of_packs(reversed: bool) -> [u8; 64] {
    let mut index = [0; 64];
    let mut i = 0;
    while i < 64 {
        let code = if reversed { i ^ 7 } else { i };
        index[i] = 4 * ORDER[code / 4] + (code % 4) as u8;
        i += 1;
    }
    index
}

/// 64 codes as bytes, in order or, for [`transposed`](super::transposed), each eight of them from the last to the first.
#[inline(always)]
pub(super) unsafe fn codes64<const RULE: u8, const VBMI: bool, const REVERSED: bool>(
    x: *const f32,
    q: &Steps,
) -> __m512i {
    // SAFETY: 64 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        let codes = if matches!(RULE, LINEAR | CENTRED) {
            integers64::<RULE>(x, q)
        } else {
            let [a, b, c, d] = steps64::<RULE>(x, q);
            let words = _mm512_loadu_si512(WORDS.as_ptr().cast());
            let mut low = _mm512_permutex2var_epi16(a, words, b);
            let mut high = _mm512_permutex2var_epi16(c, words, d);
            if RULE == FROM {
                // What was rounded down lacks the 1 that the mean of two adds.
                low = _mm512_avg_epu16(low, _mm512_setzero_si512());
                high = _mm512_avg_epu16(high, _mm512_setzero_si512());
            }
            if VBMI {
                let bytes = const { bytes_of_words(REVERSED) };
                let bytes = _mm512_loadu_si512(bytes.as_ptr().cast());
                return _mm512_permutex2var_epi8(low, bytes, high);
            }
            let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            return _mm512_permutexvar_epi64(order, _mm512_packus_epi16(low, high));
        };
        if VBMI {
            let order = const { order_of_packs(REVERSED) };
            return _mm512_permutexvar_epi8(_mm512_loadu_si512(order.as_ptr().cast()), codes);
        }
        let order = _mm512_cvtepu8_epi32(_mm_loadu_si128(ORDER.as_ptr().cast()));
        _mm512_permutexvar_epi32(order, codes)
    }
}

/// 64 codes of up to four bits, each eight of them from the last to the first, in the low half of each byte or in the high
/// one. AVX-512 VBMI2.
#[inline(always)]
pub(super) unsafe fn few64<const RULE: u8, const HIGH: bool>(x: *const f32, q: &Steps) -> __m512i {
    // SAFETY: 64 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        let mut all = [_mm512_setzero_ps(); 4];
        for (i, x16) in all.iter_mut().enumerate() {
            // vminps gives its second operand for NaN.
            *x16 = _mm512_min_ps(_mm512_set1_ps(q.grid.top), _mm512_loadu_ps(x.add(16 * i)));
        }
        let (x, mut c, mut t) = (all, [_mm512_setzero_si512(); 4], all);
        for i in 0..4 {
            let y = _mm512_mul_ps(x[i], _mm512_set1_ps(q.inverse));
            // All ones for NaN and what is below 0.
            c[i] = match RULE {
                ABOVE => _mm512_cvtps_epu32(y),
                _ => _mm512_cvttps_epu32(y),
            };
        }
        for i in 0..4 {
            t[i] = _mm512_permutexvar_ps(c[i], _mm512_loadu_ps(q.grid.above.as_ptr()));
        }
        for i in 0..4 {
            let passes = _mm512_castps_si512(_mm512_sub_ps(t[i], x[i]));
            c[i] = _mm512_shldi_epi32::<1>(c[i], passes);
        }
        let words = _mm512_loadu_si512(WORDS.as_ptr().cast());
        let low = _mm512_permutex2var_epi16(c[0], words, c[1]);
        let high = _mm512_permutex2var_epi16(c[2], words, c[3]);
        let bytes = const { bytes_of_words(true) };
        let bytes = _mm512_loadu_si512(bytes.as_ptr().cast());
        let twice = _mm512_permutex2var_epi8(low, bytes, high);
        let codes = const { codes_of_few(if HIGH { 16 } else { 1 }) };
        _mm512_permutexvar_epi8(twice, _mm512_loadu_si512(codes.as_ptr().cast()))
    }
}

/// 64 codes of a linear quantizer, in the order of the packs.
#[inline(always)]
unsafe fn integers64<const RULE: u8>(x: *const f32, q: &Steps) -> __m512i {
    // SAFETY: 64 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        let mut all = [_mm512_setzero_ps(); 4];
        for (i, y) in all.iter_mut().enumerate() {
            *y = _mm512_mul_ps(_mm512_set1_ps(q.inverse), _mm512_loadu_ps(x.add(16 * i)));
        }
        // NaN becomes 0, any other class of numbers stays. A mask by vcmpps takes twice as long on Zen 5.
        let fix = _mm512_set1_epi32(0x88);
        for y in &mut all {
            *y = _mm512_fixupimm_ps::<0>(*y, *y, fix);
        }
        let mut integers = [_mm512_setzero_si512(); 4];
        for i in 0..4 {
            // What is too small becomes the smallest integer, and so would what is too large.
            let y = _mm512_min_ps(all[i], _mm512_set1_ps(PLENTY));
            integers[i] = _mm512_cvtps_epi32(y);
        }
        let mut low = _mm512_packs_epi32(integers[0], integers[1]);
        let mut high = _mm512_packs_epi32(integers[2], integers[3]);
        let (least, most) = (q.low.wrapping_sub(q.bias), q.high.wrapping_sub(q.bias));
        if RULE == CENTRED {
            let codes = _mm512_packs_epi16(low, high);
            let codes = _mm512_max_epi8(codes, _mm512_set1_epi8(least as i8));
            return _mm512_min_epi8(codes, _mm512_set1_epi8(most as i8));
        }
        let zero = _mm512_set1_epi16(q.zero);
        low = _mm512_adds_epi16(low, zero);
        high = _mm512_adds_epi16(high, zero);
        let codes = _mm512_packus_epi16(low, high);
        let codes = _mm512_min_epu8(codes, _mm512_set1_epi8(q.high as i8));
        let codes = _mm512_max_epu8(codes, _mm512_set1_epi8(q.low as i8));
        _mm512_sub_epi8(codes, _mm512_set1_epi8(q.bias as i8))
    }
}

/// The low words are k + [x > k step] for `Ceil` and k + [x >= k step] - 1 for `Nearest`; see [`Grid`](super::super::steps::Grid).
///
/// Step by step for all four vectors: each step waits for the one before it, and the core looks ahead for other work
/// only so far.
#[inline(always)]
unsafe fn steps64<const RULE: u8>(x: *const f32, q: &Steps) -> [__m512i; 4] {
    const UP: i32 = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
    const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    // SAFETY: 64 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        let inverse = _mm512_set1_ps(q.grid.inverse);
        let (step, origin) = (_mm512_set1_ps(q.grid.step), _mm512_set1_ps(q.grid.origin));
        let mut all = [_mm512_setzero_ps(); 4];
        for (i, x16) in all.iter_mut().enumerate() {
            // Both give their second operand for NaN.
            *x16 = _mm512_min_ps(_mm512_set1_ps(q.grid.top), _mm512_loadu_ps(x.add(16 * i)));
            *x16 = _mm512_max_ps(*x16, _mm512_setzero_ps());
        }
        let (x, mut m, mut rest) = (all, all, all);
        for m in &mut m {
            *m = _mm512_fmadd_ps(*m, inverse, _mm512_set1_ps(WHOLE));
        }
        for i in 0..4 {
            // M step is exact, so this is k step, rounded once.
            rest[i] = _mm512_fmadd_ps(m[i], step, origin);
        }
        for i in 0..4 {
            rest[i] = _mm512_sub_ps(x[i], rest[i]);
        }
        let mut steps = [_mm512_setzero_si512(); 4];
        for i in 0..4 {
            // Less than a whole step, however small: the rounding makes one of it, or none.
            steps[i] = _mm512_castps_si512(match RULE {
                ABOVE => _mm512_fmadd_round_ps::<UP>(rest[i], inverse, m[i]),
                _ => _mm512_fmadd_round_ps::<DOWN>(rest[i], inverse, m[i]),
            });
        }
        steps
    }
}
