//! Floats into codes in plain Rust: what every other ISA must equal.

use super::{ABOVE, CENTRED, Entries, Floats, LINEAR, Steps, WHOLE};

pub(in crate::kernels) const ENTRIES: Entries = Entries {
    planes,
    bytes,
    bytes_and_range,
    range,
};

unsafe fn planes(x: *const f32, size: [usize; 2], q: &Steps, planes: usize, out: *mut u32) {
    // SAFETY: the contract of the table entry; there are no features to ask for.
    unsafe { super::planes::<Plain>(x, size, q, planes, out) }
}

unsafe fn bytes(x: *const f32, cols: usize, q: &Steps, out: *mut u8) {
    // SAFETY: as above.
    unsafe { super::bytes::<Plain>(x, cols, q, out) }
}

unsafe fn bytes_and_range(
    x: *const f32,
    cols: usize,
    q: &Steps,
    out: *mut u8,
    next: *const f32,
) -> (f32, f32) {
    // SAFETY: as above.
    unsafe { super::bytes_and_range::<Plain>(x, cols, q, out, next) }
}

unsafe fn range(x: *const f32, cols: usize) -> (f32, f32) {
    // SAFETY: as above.
    unsafe { super::range::<Plain>(x, cols) }
}

struct Plain;

/// A block of floats.
///
/// # Safety
/// `x` is readable for 32 floats.
unsafe fn block(x: *const f32) -> [f32; 32] {
    // SAFETY: the contract.
    unsafe { x.cast::<[f32; 32]>().read() }
}

fn passes<const RULE: u8>(x: f32, t: f32) -> bool {
    if RULE == ABOVE { x > t } else { x >= t }
}

fn code<const RULE: u8>(x: f32, q: &Steps) -> u8 {
    if matches!(RULE, LINEAR | CENTRED) {
        // The conversion saturates, and gives 0 for NaN.
        let nearest = (x * q.inverse).round_ties_even() as i32;
        let code = nearest.saturating_add(i32::from(q.zero));
        let code = code.clamp(i32::from(q.low), i32::from(q.high));
        return (code as u8).wrapping_sub(q.bias);
    }
    // `max` gives the other operand for NaN.
    let x = x.max(0.0);
    let m = x * q.inverse + q.base;
    let c = m.to_bits() as i32 - WHOLE.to_bits() as i32;
    // What is m - M for `Ceil` is exact, as m - (M - 1/2) is for `Nearest`.
    let t = (m - q.base) * q.alpha;
    (c + i32::from(passes::<RULE>(x, t))).clamp(0, i32::from(q.high)) as u8
}

fn word(bits: impl Iterator<Item = bool>) -> u32 {
    bits.enumerate()
        .fold(0, |word, (i, bit)| word | u32::from(bit) << i)
}

// SAFETY of every block below: memory is what the trait's method says that the caller vouches for.
impl Floats for Plain {
    const BLOCK: usize = 32;
    type Codes = [u8; 32];
    type Range = (f32, f32);

    #[inline(always)]
    unsafe fn codes<const RULE: u8>(x: *const f32, q: &Steps) -> [u8; 32] {
        // SAFETY: see above the impl.
        unsafe { block(x) }.map(|x| code::<RULE>(x, q))
    }
    #[inline(always)]
    unsafe fn store(codes: [u8; 32], out: *mut u8) {
        // SAFETY: see above the impl.
        unsafe { out.cast::<[u8; 32]>().write(codes) }
    }
    #[inline(always)]
    unsafe fn planes<const PLANES: usize>(codes: [u8; 32], out: *mut u32, words: usize) {
        for plane in 0..PLANES {
            let bits = codes.iter().map(|code| code >> plane & 1 != 0);
            // SAFETY: see above the impl.
            unsafe { *out.add(plane * words) = word(bits) };
        }
    }
    #[inline(always)]
    unsafe fn one<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32) {
        // SAFETY: see above the impl.
        unsafe {
            let x = block(x);
            *out = word(x.iter().map(|&x| passes::<RULE>(x, q.thresholds[0])));
        }
    }
    #[inline(always)]
    unsafe fn two<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32, words: usize) {
        let [t0, t1, t2] = q.thresholds;
        // SAFETY: see above the impl.
        unsafe {
            let x = block(x);
            *out.add(words) = word(x.iter().map(|&x| passes::<RULE>(x, t1)));
            let low = |x| passes::<RULE>(x, if passes::<RULE>(x, t1) { t2 } else { t0 });
            *out = word(x.iter().map(|&x| low(x)));
        }
    }
    #[inline(always)]
    unsafe fn range() -> (f32, f32) {
        (0.0, 0.0)
    }
    #[inline(always)]
    unsafe fn widen(range: (f32, f32), x: *const f32) -> (f32, f32) {
        // SAFETY: see above the impl.
        let x = unsafe { block(x) };
        // `min` and `max` give the other operand for NaN.
        x.iter().fold(range, |(lo, hi), &x| (lo.min(x), hi.max(x)))
    }
    #[inline(always)]
    unsafe fn ends(range: (f32, f32)) -> (f32, f32) {
        range
    }
}
