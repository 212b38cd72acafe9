//! Codes into bit planes, 32 columns at a time: written once, for every vector width.
//!
//! Two doors lead here: bytes that are codes already, and accumulators that integer thresholds turn into codes.
//! Both end in [`Codes::plane`], one word of one plane. Floats have kernels of their own, in `quantize`.

use crate::bits::Encoding;

/// 32 codes in the vectors of some ISA. Every method is `#[inline(always)]` and must only be called from
/// code compiled with that ISA's features.
pub(super) trait Codes: Copy {
    /// 32 bytes from `p` as codes.
    unsafe fn load(p: *const u8) -> Self;
    /// Bit `plane` of each code, code 0 in bit 0.
    unsafe fn plane(self, plane: usize) -> u32;
    /// Bit j: whether value j is above threshold j, of 32.
    #[inline(always)]
    unsafe fn above(values: *const i32, thresholds: *const i32) -> u32 {
        let mut above = 0;
        for j in 0..32 {
            // SAFETY: the caller vouches for 32 of both.
            above |= unsafe { u32::from(*values.add(j) > *thresholds.add(j)) } << j;
        }
        above
    }
    /// 32 codes as bytes at `out`, from `PLANES` planes whose words are `words` apart; `sign` is the bit that is
    /// extended over the byte, or 0.
    #[inline(always)]
    unsafe fn unpack<const PLANES: usize>(
        planes: *const u32,
        words: usize,
        sign: u8,
        out: *mut u8,
    ) {
        for at in 0..4 {
            let mut codes = 0u64;
            for plane in 0..PLANES {
                // SAFETY: the caller vouches for a word of each plane, and for 32 bytes.
                let byte = unsafe { *planes.add(plane * words) } >> (8 * at);
                codes |= spread(byte as u8) << plane;
            }
            for i in 0..8 {
                let code = (codes >> (8 * i)) as u8;
                // Flipping the sign bit and taking it away again extends it over the byte.
                // SAFETY: as above.
                unsafe { *out.add(8 * at + i) = (code ^ sign).wrapping_sub(sign) };
            }
        }
    }
    /// The same of two words of each plane, which are 64 codes.
    #[inline(always)]
    unsafe fn unpack_two<const PLANES: usize>(
        planes: *const u32,
        words: usize,
        sign: u8,
        out: *mut u8,
    ) {
        for word in 0..2 {
            // SAFETY: the caller vouches for two words of each plane, and for 64 bytes.
            unsafe { Self::unpack::<PLANES>(planes.add(word), words, sign, out.add(32 * word)) };
        }
    }
}

/// Packs `cols` codes from `codes`; bits above `planes` are dropped.
///
/// # Safety
/// As [`quantize`], with bytes in place of floats.
#[inline(always)]
pub(super) unsafe fn pack<C: Codes>(codes: *const u8, cols: usize, planes: usize, out: *mut u32) {
    let words = cols.div_ceil(32);
    // SAFETY: as in `quantize_by`.
    unsafe {
        for word in 0..cols / 32 {
            put(C::load(codes.add(word * 32)), planes, out.add(word), words);
        }
        if !cols.is_multiple_of(32) {
            let mut tail = [0u8; 32];
            let done = cols / 32 * 32;
            std::ptr::copy_nonoverlapping(codes.add(done), tail.as_mut_ptr(), cols - done);
            put(C::load(tail.as_ptr()), planes, out.add(done / 32), words);
        }
    }
}

/// Rows of accumulators into codes: the number of levels whose threshold a sum passes, which is to be above it or,
/// in channels whose bit of `flip` is set, not to be above it.
///
/// `thresholds` is `[levels, 32 * words]`, `flip` has a word for 32 channels.
///
/// # Safety
/// The caller is compiled with C's features; `sums` is readable for `rows * cols` integers, `thresholds` for
/// `32 * ceil(cols / 32)` a level, `flip` for `ceil(cols / 32)` words, `out` writable for
/// `rows * planes * ceil(cols / 32)` words.
#[inline(always)]
pub(super) unsafe fn requantize<C: Codes>(task: &Requantize, sums: *const i32, out: *mut u32) {
    let cols = task.cols;
    let (words, whole) = (cols.div_ceil(32), cols / 32);
    let (mut sums, mut out) = (sums, out);
    // SAFETY: word < words, so 32 thresholds exist from word * 32 on, and so many sums in a row as are taken.
    unsafe {
        for _ in 0..task.rows {
            for word in 0..whole {
                let values = sums.add(word * 32);
                count::<C>(task, words, word, values, u32::MAX, out.add(word));
            }
            if whole < words {
                let real = cols - whole * 32;
                let mut values = [0i32; 32];
                std::ptr::copy_nonoverlapping(sums.add(whole * 32), values.as_mut_ptr(), real);
                let tail = u32::MAX >> (32 - real);
                count::<C>(task, words, whole, values.as_ptr(), tail, out.add(whole));
            }
            (sums, out) = (sums.add(cols), out.add(task.planes * words));
        }
    }
}

/// What [`requantize`] is told of its rows.
pub(super) struct Requantize {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) thresholds: *const i32,
    pub(super) levels: usize,
    pub(super) flip: *const u32,
    pub(super) planes: usize,
}

/// The codes of 32 sums, bit by bit into words that are `words` apart; those outside of `tail` are 0.
///
/// # Safety
/// As for [`requantize`]; 32 values are readable.
#[inline(always)]
unsafe fn count<C: Codes>(
    task: &Requantize,
    words: usize,
    word: usize,
    values: *const i32,
    tail: u32,
    out: *mut u32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let flip = *task.flip.add(word);
        // The two that nets use most have no loops.
        match (task.levels, task.planes) {
            (1, 1) => *out = passed::<C>(task, words, word, values, flip, 0) & tail,
            (3, 2) => {
                let low = passed::<C>(task, words, word, values, flip, 0);
                let middle = passed::<C>(task, words, word, values, flip, 1);
                let high = passed::<C>(task, words, word, values, flip, 2);
                *out = (low ^ middle ^ high) & tail;
                *out.add(words) = middle & tail;
            }
            (levels, planes) => {
                // Thresholds rise, so who passes level l has passed all below, and bit p of the number of levels
                // passed has flipped at each multiple of 2^p.
                let mut bits = [0u32; 8];
                for level in 1..=levels {
                    let passed = passed::<C>(task, words, word, values, flip, level - 1);
                    for bits in &mut bits[..=level.trailing_zeros().min(7) as usize] {
                        *bits ^= passed;
                    }
                }
                for (plane, bits) in bits.iter().enumerate().take(planes) {
                    *out.add(plane * words) = bits & tail;
                }
            }
        }
    }
}

/// Which of 32 sums pass a level. Not a closure: one that is not inlined would lack the features.
///
/// # Safety
/// As for [`requantize`]; 32 values are readable.
#[inline(always)]
unsafe fn passed<C: Codes>(
    task: &Requantize,
    words: usize,
    word: usize,
    values: *const i32,
    flip: u32,
    level: usize,
) -> u32 {
    // SAFETY: passed on from the caller: there are 32 thresholds for each word of each level.
    unsafe {
        let thresholds = task.thresholds.add((level * words + word) * 32);
        C::above(values, thresholds) ^ flip
    }
}

/// Sum of the integers of one row of planes, without the encoding's offset.
#[inline(always)]
pub(super) fn row_sum(row: &[u32], encoding: Encoding) -> i32 {
    let words = row.len() / encoding.planes();
    let mut sum = 0i32;
    for plane in 0..encoding.planes() {
        let plane_words = &row[plane * words..(plane + 1) * words];
        let ones: u32 = plane_words.iter().map(|w| w.count_ones()).sum();
        sum = sum.wrapping_add((ones as i32).wrapping_mul(encoding.plane_weight(plane)));
    }
    sum
}

/// Rows of planes, each `row` words, as bytes, sign-extended if the codes are signed: `stride` bytes of each row, with zeros
/// behind what its words hold. As many rows as `out` holds.
///
/// # Safety
/// The caller is compiled with C's features.
#[inline(always)]
pub(super) unsafe fn unpack<C: Codes>(
    words: &[u32],
    row: usize,
    encoding: Encoding,
    stride: usize,
    out: &mut [u8],
) {
    let sign = match encoding {
        Encoding::Signed(bits) => 1u8 << (bits.get() - 1),
        _ => 0,
    };
    // SAFETY: passed on from the caller.
    unsafe {
        match encoding.planes() {
            1 => unpack_planes::<C, 1>(words, row, sign, stride, out),
            2 => unpack_planes::<C, 2>(words, row, sign, stride, out),
            3 => unpack_planes::<C, 3>(words, row, sign, stride, out),
            4 => unpack_planes::<C, 4>(words, row, sign, stride, out),
            5 => unpack_planes::<C, 5>(words, row, sign, stride, out),
            6 => unpack_planes::<C, 6>(words, row, sign, stride, out),
            7 => unpack_planes::<C, 7>(words, row, sign, stride, out),
            _ => unpack_planes::<C, 8>(words, row, sign, stride, out),
        }
    }
}

#[inline(always)]
unsafe fn unpack_planes<C: Codes, const PLANES: usize>(
    words: &[u32],
    row: usize,
    sign: u8,
    stride: usize,
    out: &mut [u8],
) {
    let (rows, plane, len) = (out.len() / stride, row / PLANES, out.len());
    assert!(row == PLANES * plane && rows * stride == len && words.len() >= rows * row);
    for i in 0..rows {
        let (line, first) = (i * stride, i * row);
        let count = plane.min(stride.div_ceil(32));
        let mut word = 0;
        while word + 2 <= count && line + 32 * (word + 2) <= len {
            // SAFETY: both words exist in each of the planes of the row, and 64 bytes from here on.
            unsafe {
                let planes = words.as_ptr().add(first + word);
                let out = out.as_mut_ptr().add(line + 32 * word);
                C::unpack_two::<PLANES>(planes, plane, sign, out);
            }
            word += 2;
        }
        for word in word..count {
            let at = line + 32 * word;
            // SAFETY: the word exists in each of the planes of the row, and 32 bytes from `at` on, or in a buffer. What is
            // written behind the row is written anew by the next one.
            unsafe {
                let planes = words.as_ptr().add(first + word);
                if at + 32 <= len {
                    C::unpack::<PLANES>(planes, plane, sign, out.as_mut_ptr().add(at));
                } else {
                    let mut some = [0; 32];
                    C::unpack::<PLANES>(planes, plane, sign, some.as_mut_ptr());
                    out[at..].copy_from_slice(&some[..len - at]);
                }
            }
        }
        if stride > 32 * plane {
            out[line + 32 * plane..line + stride].fill(0);
        }
    }
}

/// Bit i in byte i.
#[inline(always)]
fn spread(byte: u8) -> u64 {
    // Copies seven apart: bit i of copy i lies at 8 i. The eighth bit would touch the next copy.
    let low = u64::from(byte & 0x7F).wrapping_mul(0x0002_0408_1020_4081) & 0x0101_0101_0101_0101;
    low | u64::from(byte >> 7) << 56
}

/// `factor` times the sum of one row of bytes.
#[inline(always)]
pub(super) fn byte_sum(row: &[u8], signed: bool, factor: i32) -> i32 {
    let sum: i32 = match signed {
        true => row.iter().map(|&b| i32::from(b as i8)).sum(),
        false => row.iter().map(|&b| i32::from(b)).sum(),
    };
    sum.wrapping_mul(factor)
}

#[inline(always)]
unsafe fn put<C: Codes>(codes: C, planes: usize, out: *mut u32, words: usize) {
    for plane in 0..planes {
        // SAFETY: `out` points to a word of plane 0, and the planes lie `words` apart.
        unsafe { *out.add(plane * words) = codes.plane(plane) };
    }
}
