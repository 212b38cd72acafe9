//! Floats into codes, as bit planes or a byte each: written once, for every vector width.
//!
//! A quantized ReLU. The code of a float is the number of thresholds that it passes (see
//! `quant::activation`). Finding it without a search: with M = 2^23, where floats are whole numbers, and h
//! the offset of the thresholds, m = x / alpha + (M - h) is rounded to a whole number by the sum itself, so that
//! c = m - M lies within 1/2 of x / alpha - h, up to the rounding of 1 / alpha and of the product, which is below
//! 2^-14 for codes that count. So T_(c-1) is passed and T_(c+1) is not (`Nearest`: by a margin of 1/2 a step;
//! `Ceil`: likewise), and the code is c + [x passes T_c], with T_c computed as the definition says. The integer
//! c is the bits of m less those of M: no conversion. Above q the pack to bytes and a minimum cut; NaN and
//! negatives become 0 first. (On x86-64 see `Grid`.)
//!
//! One and two bits need no code: one comparison with a threshold is a plane, and the lower of two planes is a
//! comparison with T_0 or T_2, as the upper one says.
//!
//! Linear quantizers are as in `quant::linear`: a product, a conversion that rounds, packs that saturate.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod portable;
mod steps;

#[cfg(target_arch = "x86_64")]
use steps::PLENTY;
pub(crate) use steps::Steps;
use steps::{ABOVE, CENTRED, FROM, LINEAR, WHOLE};

/// The functions of one ISA.
#[derive(Clone, Copy)]
pub(super) struct Entries {
    /// Floats, rows and columns of them, the quantizer, planes, and where their words go, row by row.
    pub(super) planes: unsafe fn(*const f32, [usize; 2], &Steps, usize, *mut u32),
    /// Floats, how many, the quantizer, and where a byte for each goes.
    pub(super) bytes: unsafe fn(*const f32, usize, &Steps, *mut u8),
    /// The same, and the range of as many other floats, as `range` gives it.
    pub(super) bytes_and_range:
        unsafe fn(*const f32, usize, &Steps, *mut u8, *const f32) -> (f32, f32),
    /// The least and greatest of 0 and the floats, if all are finite; else one of the two may be anything that is not.
    pub(super) range: unsafe fn(*const f32, usize) -> (f32, f32),
}

/// Floats from those that are read to those of the same row that are fetched meanwhile: four bits from L3 take a tenth
/// less time by it, from memory a fifth, on Zen 5. (One and two bits and bytes gain nothing.)
const AHEAD: usize = 1024;

/// A block of floats in the vectors of some ISA. Every method is `#[inline(always)]` and must only be called
/// from code compiled with that ISA's features; `x` is readable for a block.
trait Floats {
    /// Floats in a block, 32 or 64.
    const BLOCK: usize;
    /// A block of codes, a byte each.
    type Codes: Copy;
    /// The least and the greatest so far, in lanes.
    type Range: Copy;

    /// Asks for `MANY` blocks to be brought into L1; they need not exist.
    #[inline(always)]
    fn fetch(_x: *const f32) {}
    /// The codes of a block, not by the sign.
    unsafe fn codes<const RULE: u8>(x: *const f32, q: &Steps) -> Self::Codes;
    /// A block of bytes at `out`.
    unsafe fn store(codes: Self::Codes, out: *mut u8);
    /// A block of each of `PLANES` planes, `words` apart, from `out`.
    unsafe fn planes<const PLANES: usize>(codes: Self::Codes, out: *mut u32, words: usize);
    /// Blocks that [`Floats::many`] takes, where a row has as many left.
    const MANY: usize = 1;
    /// What `codes` and `planes` do, for `MANY` blocks: planes in whole vectors, where a store would else be the dearest
    /// instruction of all.
    #[inline(always)]
    unsafe fn many<const RULE: u8, const PLANES: usize>(
        x: *const f32,
        q: &Steps,
        out: *mut u32,
        words: usize,
    ) {
        // SAFETY: passed on from the caller.
        unsafe { Self::planes::<PLANES>(Self::codes::<RULE>(x, q), out, words) }
    }
    /// The one plane of codes of one bit.
    unsafe fn one<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32);
    /// The two planes of codes of two bits.
    unsafe fn two<const RULE: u8>(x: *const f32, q: &Steps, out: *mut u32, words: usize);
    /// Zeros.
    unsafe fn range() -> Self::Range;
    /// The range with a block more.
    unsafe fn widen(range: Self::Range, x: *const f32) -> Self::Range;
    /// The range over all lanes.
    unsafe fn ends(range: Self::Range) -> (f32, f32);
}

/// How a block gets into planes.
trait Put<F: Floats> {
    const PLANES: usize;
    /// Blocks that `put_many` takes.
    const MANY: usize = 1;
    unsafe fn put(x: *const f32, q: &Steps, out: *mut u32, words: usize);
    #[inline(always)]
    unsafe fn put_many(x: *const f32, q: &Steps, out: *mut u32, words: usize) {
        // SAFETY: passed on from the caller.
        unsafe { Self::put(x, q, out, words) }
    }
}

struct One<const RULE: u8>;
struct Two<const RULE: u8>;
struct Many<const RULE: u8, const PLANES: usize>;

impl<F: Floats, const RULE: u8> Put<F> for One<RULE> {
    const PLANES: usize = 1;
    #[inline(always)]
    unsafe fn put(x: *const f32, q: &Steps, out: *mut u32, _: usize) {
        // SAFETY: passed on from the caller.
        unsafe { F::one::<RULE>(x, q, out) }
    }
}

impl<F: Floats, const RULE: u8> Put<F> for Two<RULE> {
    const PLANES: usize = 2;
    #[inline(always)]
    unsafe fn put(x: *const f32, q: &Steps, out: *mut u32, words: usize) {
        // SAFETY: passed on from the caller.
        unsafe { F::two::<RULE>(x, q, out, words) }
    }
}

impl<F: Floats, const RULE: u8, const PLANES: usize> Put<F> for Many<RULE, PLANES> {
    const PLANES: usize = PLANES;
    const MANY: usize = F::MANY;
    #[inline(always)]
    unsafe fn put(x: *const f32, q: &Steps, out: *mut u32, words: usize) {
        // SAFETY: passed on from the caller.
        unsafe { F::planes::<PLANES>(F::codes::<RULE>(x, q), out, words) }
    }
    #[inline(always)]
    unsafe fn put_many(x: *const f32, q: &Steps, out: *mut u32, words: usize) {
        // SAFETY: passed on from the caller.
        unsafe { F::many::<RULE, PLANES>(x, q, out, words) }
    }
}

/// Quantizes rows of floats from `x`, `[rows, cols]`, into `planes` planes of ceil(cols / 32) words each, from `out`.
///
/// # Safety
/// The caller is compiled with F's features; `x` is readable for as many floats and `out` writable for as many words.
#[inline(always)]
unsafe fn planes<F: Floats>(
    x: *const f32,
    size: [usize; 2],
    q: &Steps,
    planes: usize,
    out: *mut u32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        match (q.rule, planes) {
            (ABOVE, 1) => blocks::<F, One<ABOVE>>(x, size, q, out),
            (FROM, 1) => blocks::<F, One<FROM>>(x, size, q, out),
            (ABOVE, 2) => blocks::<F, Two<ABOVE>>(x, size, q, out),
            (FROM, 2) => blocks::<F, Two<FROM>>(x, size, q, out),
            (ABOVE, _) => many::<F, ABOVE>(x, size, q, planes, out),
            (FROM, _) => many::<F, FROM>(x, size, q, planes, out),
            (CENTRED, _) => many::<F, CENTRED>(x, size, q, planes, out),
            _ => many::<F, LINEAR>(x, size, q, planes, out),
        }
    }
}

#[inline(always)]
unsafe fn many<F: Floats, const RULE: u8>(
    x: *const f32,
    size: [usize; 2],
    q: &Steps,
    planes: usize,
    out: *mut u32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        match planes {
            1 => blocks::<F, Many<RULE, 1>>(x, size, q, out),
            2 => blocks::<F, Many<RULE, 2>>(x, size, q, out),
            3 => blocks::<F, Many<RULE, 3>>(x, size, q, out),
            4 => blocks::<F, Many<RULE, 4>>(x, size, q, out),
            5 => blocks::<F, Many<RULE, 5>>(x, size, q, out),
            6 => blocks::<F, Many<RULE, 6>>(x, size, q, out),
            7 => blocks::<F, Many<RULE, 7>>(x, size, q, out),
            _ => blocks::<F, Many<RULE, 8>>(x, size, q, out),
        }
    }
}

#[inline(always)]
unsafe fn blocks<F: Floats, P: Put<F>>(
    x: *const f32,
    [rows, cols]: [usize; 2],
    q: &Steps,
    out: *mut u32,
) {
    let words = cols.div_ceil(32);
    for row in 0..rows {
        // SAFETY: passed on from the caller: a row of floats, and one of words.
        unsafe { row_blocks::<F, P>(x.add(row * cols), cols, q, out.add(row * P::PLANES * words)) }
    }
}

#[inline(always)]
unsafe fn row_blocks<F: Floats, P: Put<F>>(x: *const f32, cols: usize, q: &Steps, out: *mut u32) {
    let words = cols.div_ceil(32);
    let (whole, rest) = (cols / F::BLOCK, cols % F::BLOCK);
    // SAFETY: whole blocks lie below `cols`, in floats and in words; the rest is copied to and from buffers of
    // a block, which is 64 floats and two words a plane at most.
    unsafe {
        let mut block = 0;
        while block < whole / P::MANY * P::MANY {
            let out = out.add(block * (F::BLOCK / 32));
            let next = block * F::BLOCK + AHEAD;
            if P::MANY > 1 && next < cols {
                F::fetch(x.wrapping_add(next));
            }
            P::put_many(x.add(block * F::BLOCK), q, out, words);
            block += P::MANY;
        }
        while block < whole {
            let out = out.add(block * (F::BLOCK / 32));
            P::put(x.add(block * F::BLOCK), q, out, words);
            block += 1;
        }
        if rest > 0 {
            let (mut floats, mut some) = ([0f32; 64], [0u32; 8 * 2]);
            let x = x.add(whole * F::BLOCK);
            std::ptr::copy_nonoverlapping(x, floats.as_mut_ptr(), rest);
            P::put(floats.as_ptr(), q, some.as_mut_ptr(), 2);
            let out = out.add(whole * (F::BLOCK / 32));
            for plane in 0..P::PLANES {
                let here = &some[2 * plane..];
                if rest > 32 {
                    *out.add(plane * words) = here[0];
                }
                // Bits behind the last column are zero.
                let mask = u32::MAX >> ((32 - rest % 32) % 32);
                let last = (rest - 1) / 32;
                *out.add(plane * words + last) = here[last] & mask;
            }
        }
    }
}

/// Quantizes `cols` floats from `x` into as many bytes at `out`; signed codes are extended over the byte.
///
/// # Safety
/// The caller is compiled with F's features; `x` and `out` are as long as `cols`.
#[inline(always)]
unsafe fn bytes<F: Floats>(x: *const f32, cols: usize, q: &Steps, out: *mut u8) {
    // SAFETY: passed on from the caller.
    unsafe {
        match q.rule {
            ABOVE => bytes_by::<F, ABOVE>(x, cols, q, out),
            FROM => bytes_by::<F, FROM>(x, cols, q, out),
            CENTRED => bytes_by::<F, CENTRED>(x, cols, q, out),
            _ => bytes_by::<F, LINEAR>(x, cols, q, out),
        }
    }
}

#[inline(always)]
unsafe fn bytes_by<F: Floats, const RULE: u8>(x: *const f32, cols: usize, q: &Steps, out: *mut u8) {
    let whole = cols / F::BLOCK * F::BLOCK;
    // SAFETY: whole blocks lie below `cols`; the rest is copied to and from buffers of a block.
    unsafe {
        let mut at = 0;
        while at < whole {
            F::store(F::codes::<RULE>(x.add(at), q), out.add(at));
            at += F::BLOCK;
        }
        if whole < cols {
            let (mut floats, mut some) = ([0f32; 64], [0u8; 64]);
            std::ptr::copy_nonoverlapping(x.add(whole), floats.as_mut_ptr(), cols - whole);
            F::store(F::codes::<RULE>(floats.as_ptr(), q), some.as_mut_ptr());
            std::ptr::copy_nonoverlapping(some.as_ptr(), out.add(whole), cols - whole);
        }
    }
}

/// What [`bytes`] does by a linear quantizer and [`range`] of `cols` floats from `next`, block by block: while the ones
/// are computed, the others come from where they are.
///
/// # Safety
/// The caller is compiled with F's features; `x`, `next` and `out` are as long as `cols`.
#[inline(always)]
unsafe fn bytes_and_range<F: Floats>(
    x: *const f32,
    cols: usize,
    q: &Steps,
    out: *mut u8,
    next: *const f32,
) -> (f32, f32) {
    // SAFETY: passed on from the caller.
    unsafe {
        match q.rule {
            CENTRED => bytes_and_range_by::<F, CENTRED>(x, cols, q, out, next),
            _ => bytes_and_range_by::<F, LINEAR>(x, cols, q, out, next),
        }
    }
}

#[inline(always)]
unsafe fn bytes_and_range_by<F: Floats, const RULE: u8>(
    x: *const f32,
    cols: usize,
    q: &Steps,
    out: *mut u8,
    next: *const f32,
) -> (f32, f32) {
    let whole = cols / F::BLOCK * F::BLOCK;
    // SAFETY: whole blocks lie below `cols`, and the rest behind them.
    unsafe {
        let mut range = F::range();
        let mut at = 0;
        while at < whole {
            if at % (F::MANY * F::BLOCK) == 0 {
                // Without it floats from memory take a fourth longer than in two runs; with it, a tenth on AVX-512. From L2 and
                // L3 one run takes a fifth less time than two.
                F::fetch(next.wrapping_add(at + AHEAD));
            }
            range = F::widen(range, next.add(at));
            F::store(F::codes::<RULE>(x.add(at), q), out.add(at));
            at += F::BLOCK;
        }
        bytes_by::<F, RULE>(x.add(whole), cols - whole, q, out.add(whole));
        ends::<F>(range, next.add(whole), cols - whole)
    }
}

/// The least and greatest of 0 and `cols` floats from `x`, if all are finite; else one of the two may be anything that is
/// not.
///
/// # Safety
/// The caller is compiled with F's features; `x` is readable for `cols` floats.
#[inline(always)]
unsafe fn range<F: Floats>(x: *const f32, cols: usize) -> (f32, f32) {
    let whole = cols / F::BLOCK * F::BLOCK;
    // SAFETY: whole blocks lie below `cols`, and the rest behind them.
    unsafe {
        let mut range = F::range();
        let mut at = 0;
        while at < whole {
            range = F::widen(range, x.add(at));
            at += F::BLOCK;
        }
        ends::<F>(range, x.add(whole), cols - whole)
    }
}

/// The ends of a range with less than a block more.
///
/// # Safety
/// As [`range`].
#[inline(always)]
unsafe fn ends<F: Floats>(mut range: F::Range, x: *const f32, cols: usize) -> (f32, f32) {
    // SAFETY: the floats are copied to a buffer of a block, among zeros.
    unsafe {
        if cols > 0 {
            let mut floats = [0f32; 64];
            std::ptr::copy_nonoverlapping(x, floats.as_mut_ptr(), cols);
            range = F::widen(range, floats.as_ptr());
        }
        let (lo, hi) = F::ends(range);
        // One zero, not two.
        (lo + 0.0, hi + 0.0)
    }
}

/// The least and greatest of 0 and some floats, from the greatest of their bits, unsigned and signed.
#[cfg(target_arch = "x86_64")]
fn floats_of_bits(unsigned: u32, signed: i32) -> (f32, f32) {
    let lo = match unsigned >> 31 {
        0 => 0.0,
        _ => f32::from_bits(unsigned),
    };
    (lo, f32::from_bits(signed.max(0) as u32))
}
