//! Floats into codes by NEON.
//!
//! | step | instructions | for |
//! |---|---|---|
//! | `Nearest` | fmla, fsub, fmul, fcmge, 2 sub, fcmgt, and | 4 floats |
//! | `Ceil` | 2 fmla, fcmgt, 2 sub, fcmgt, and | 4 floats |
//! | linear | fmul, fcvtns | 4 floats |
//! | bytes | 4 sqxtn, 2 sqxtun, 2 umin; linear: 2 sqadd, umax and sub too | 16 codes |
//! | planes | cmtst, and, 3 addp, 32 columns and one plane | |
//! | range | fcmeq, and, fminnm, fmaxnm | 4 floats |

use std::arch::aarch64::*;

use super::{ABOVE, CENTRED, Entries, FROM, Floats, LINEAR, Steps, WHOLE};

pub(in crate::kernels) const ENTRIES: Entries = Entries {
    planes,
    bytes,
    bytes_and_range,
    range,
};

#[target_feature(enable = "neon")]
unsafe fn planes(x: *const f32, size: [usize; 2], q: &Steps, planes: usize, out: *mut u32) {
    // SAFETY: this function carries the features of Wide; the rest is the contract of the table entry.
    unsafe { super::planes::<Wide>(x, size, q, planes, out) }
}

#[target_feature(enable = "neon")]
unsafe fn bytes(x: *const f32, cols: usize, q: &Steps, out: *mut u8) {
    // SAFETY: as above.
    unsafe { super::bytes::<Wide>(x, cols, q, out) }
}

#[target_feature(enable = "neon")]
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

#[target_feature(enable = "neon")]
unsafe fn range(x: *const f32, cols: usize) -> (f32, f32) {
    // SAFETY: as above.
    unsafe { super::range::<Wide>(x, cols) }
}

/// 32 floats in eight vectors.
struct Wide;

// SAFETY of every block below: the intrinsics need NEON, which the callers carry, as `Floats` demands; memory is
// what the trait's method says that the caller vouches for.
impl Floats for Wide {
    const BLOCK: usize = 32;
    type Codes = [uint8x16_t; 2];
    type Range = [[float32x4_t; 4]; 2];

    #[inline(always)]
    unsafe fn codes<const RULE: u8>(x: *const f32, q: &Steps) -> Self::Codes {
        // SAFETY: see above the impl.
        unsafe { [codes16::<RULE>(x, q), codes16::<RULE>(x.add(16), q)] }
    }
    #[inline(always)]
    unsafe fn store([low, high]: Self::Codes, out: *mut u8) {
        // SAFETY: see above the impl.
        unsafe {
            vst1q_u8(out, low);
            vst1q_u8(out.add(16), high);
        }
    }
    #[inline(always)]
    unsafe fn planes<const PLANES: usize>([low, high]: Self::Codes, out: *mut u32, words: usize) {
        for plane in 0..PLANES {
            // SAFETY: see above the impl.
            unsafe {
                let bit = vdupq_n_u8(1 << plane);
                *out.add(plane * words) = word(vtstq_u8(low, bit), vtstq_u8(high, bit));
            }
        }
    }
    #[inline(always)]
    unsafe fn one<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32) {
        // SAFETY: see above the impl.
        unsafe {
            let t = vdupq_n_f32(q.thresholds[0]);
            let mut bits = [vdupq_n_u32(0); 8];
            for (i, bits) in bits.iter_mut().enumerate() {
                *bits = passes::<RULE>(vld1q_f32(x.add(4 * i)), t);
            }
            *out = joined(bits);
        }
    }
    #[inline(always)]
    unsafe fn two<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32, words: usize) {
        // SAFETY: see above the impl.
        unsafe {
            let [t0, t1, t2] = q.thresholds;
            let (t0, t1, t2) = (vdupq_n_f32(t0), vdupq_n_f32(t1), vdupq_n_f32(t2));
            let mut high = [vdupq_n_u32(0); 8];
            let mut low = high;
            for i in 0..8 {
                let x = vld1q_f32(x.add(4 * i));
                high[i] = passes::<RULE>(x, t1);
                low[i] = passes::<RULE>(x, vbslq_f32(high[i], t2, t0));
            }
            *out = joined(low);
            *out.add(words) = joined(high);
        }
    }
    #[inline(always)]
    unsafe fn range() -> Self::Range {
        // SAFETY: see above the impl.
        unsafe { [[vdupq_n_f32(0.0); 4]; 2] }
    }
    #[inline(always)]
    unsafe fn widen([mut lo, mut hi]: Self::Range, x: *const f32) -> Self::Range {
        // SAFETY: see above the impl.
        unsafe {
            for i in 0..8 {
                // NaN becomes 0.
                let x = vld1q_f32(x.add(4 * i));
                let x = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vceqq_f32(x, x)));
                lo[i % 4] = vminnmq_f32(x, lo[i % 4]);
                hi[i % 4] = vmaxnmq_f32(x, hi[i % 4]);
            }
        }
        [lo, hi]
    }
    #[inline(always)]
    unsafe fn ends([lo, hi]: Self::Range) -> (f32, f32) {
        // SAFETY: see above the impl.
        unsafe {
            let lo = vminnmq_f32(vminnmq_f32(lo[0], lo[1]), vminnmq_f32(lo[2], lo[3]));
            let hi = vmaxnmq_f32(vmaxnmq_f32(hi[0], hi[1]), vmaxnmq_f32(hi[2], hi[3]));
            (vminnmvq_f32(lo), vmaxnmvq_f32(hi))
        }
    }
}

/// One bit of each of 32 bytes that are all ones or zero.
#[inline(always)]
unsafe fn word(low: uint8x16_t, high: uint8x16_t) -> u32 {
    let weights = [1u8, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: value intrinsics, and a load of the 16 bytes above; the callers carry the features.
    unsafe {
        let weights = vld1q_u8(weights.as_ptr());
        // Three pairwise sums leave a byte for each eight codes, in order.
        let sums = vpaddq_u8(vandq_u8(low, weights), vandq_u8(high, weights));
        let sums = vpaddq_u8(sums, sums);
        let sums = vpaddq_u8(sums, sums);
        vgetq_lane_u32::<0>(vreinterpretq_u32_u8(sums))
    }
}

/// One bit of each of 32 lanes that are all ones or zero.
#[inline(always)]
unsafe fn joined([a, b, c, d, e, f, g, h]: [uint32x4_t; 8]) -> u32 {
    // SAFETY: value intrinsics; the callers carry the features.
    unsafe { word(narrow(a, b, c, d), narrow(e, f, g, h)) }
}

/// The lowest byte of each lane.
#[inline(always)]
unsafe fn narrow(a: uint32x4_t, b: uint32x4_t, c: uint32x4_t, d: uint32x4_t) -> uint8x16_t {
    // SAFETY: value intrinsics; the callers carry the features.
    unsafe {
        let low = vuzp1q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));
        let high = vuzp1q_u16(vreinterpretq_u16_u32(c), vreinterpretq_u16_u32(d));
        vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high))
    }
}

#[inline(always)]
unsafe fn passes<const RULE: u8>(x: float32x4_t, t: float32x4_t) -> uint32x4_t {
    // SAFETY: value intrinsics; the callers carry the features.
    unsafe {
        match RULE {
            FROM => vcgeq_f32(x, t),
            _ => vcgtq_f32(x, t),
        }
    }
}

#[inline(always)]
unsafe fn codes16<const RULE: u8>(x: *const f32, q: &Steps) -> uint8x16_t {
    // SAFETY: 16 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        let low = vqmovn_s32(codes4::<RULE>(x, q));
        let mut low = vqmovn_high_s32(low, codes4::<RULE>(x.add(4), q));
        let high = vqmovn_s32(codes4::<RULE>(x.add(8), q));
        let mut high = vqmovn_high_s32(high, codes4::<RULE>(x.add(12), q));
        if matches!(RULE, LINEAR | CENTRED) {
            let zero = vdupq_n_s16(q.zero);
            low = vqaddq_s16(low, zero);
            high = vqaddq_s16(high, zero);
        }
        let codes = vqmovun_high_s16(vqmovun_s16(low), high);
        let codes = vminq_u8(codes, vdupq_n_u8(q.high));
        if !matches!(RULE, LINEAR | CENTRED) {
            return codes;
        }
        vsubq_u8(vmaxq_u8(codes, vdupq_n_u8(q.low)), vdupq_n_u8(q.bias))
    }
}

/// 4 codes, or more than the highest, or less than 0.
#[inline(always)]
unsafe fn codes4<const RULE: u8>(x: *const f32, q: &Steps) -> int32x4_t {
    // SAFETY: 4 floats are readable by the caller's word; the callers carry the features.
    unsafe {
        let x = vld1q_f32(x);
        let inverse = vdupq_n_f32(q.inverse);
        if matches!(RULE, LINEAR | CENTRED) {
            // The conversion saturates, and gives 0 for NaN.
            return vcvtnq_s32_f32(vmulq_f32(x, inverse));
        }
        let (base, alpha) = (vdupq_n_f32(q.base), vdupq_n_f32(q.alpha));
        let m = vfmaq_f32(base, x, inverse);
        let t = match RULE {
            // M alpha is exact, so this is c alpha, rounded once.
            ABOVE => vfmaq_f32(vdupq_n_f32(q.origin), m, alpha),
            _ => vmulq_f32(vsubq_f32(m, base), alpha),
        };
        let passes = vreinterpretq_s32_u32(passes::<RULE>(x, t));
        let whole = vdupq_n_s32(WHOLE.to_bits() as i32);
        // True is all ones, -1.
        let codes = vsubq_s32(vsubq_s32(vreinterpretq_s32_f32(m), whole), passes);
        // What is not above 0 has code 0. Said of the codes: of floats the compiler would make fmaxnm, which leaves
        // a signalling NaN a NaN, whose bits pass for a large number.
        vandq_s32(codes, vreinterpretq_s32_u32(vcgtq_f32(x, vdupq_n_f32(0.0))))
    }
}
