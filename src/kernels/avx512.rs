//! AVX-512 with VPOPCNTDQ, VNNI and VBMI (Ice Lake, Zen 4 and later).
//!
//! | step | instructions | MAC | Zen 5: ports, bound |
//! |---|---|---|---|
//! | bit GEMM | vpxord or vpandd, vpopcntd, vpaddd | 512 a triple | 4 a cycle, 683 MAC |
//! | its operands | vpbroadcastd from memory, 1 a row; a weight load, 2 a step | | 2 loads a cycle |
//! | planes | vptestmw, 32 columns and one plane each | | |
//!
//! Tile 6 x 32: 12 counters, 2 weights, 6 rows. Carry-save adders (vpternlog) need as many
//! instructions as they save here; K along the lanes loses a quarter to the sums across lanes.

use std::arch::x86_64::*;

use super::bitgemm::{self, Count, Task};
use super::bytecount::{self, Dot};
use super::bytegemm::{self, ByteTask};
use super::groupgemm::{self, GroupTask};
use super::lanes::Lanes;
use super::linegemm::{self, LineTask};
use super::pack::{self, Codes};
use super::piece::features;
use super::quantize::avx512 as quantize;
use super::{ByteKernel, GroupKernel, Kernels, LineKernel};
use crate::bits::Encoding;
use crate::isa::{self, Isa};

pub(super) mod bytes;
pub(super) mod floats;
mod lut;
mod lut16;
pub(super) mod max;

pub(super) static KERNELS: Kernels = Kernels {
    isa: Isa::Avx512,
    bitgemm_name: "vpopcntd, 16 lanes",
    mr: 6,
    nr: 32,
    bitgemm,
    bytegemm: Some(ByteKernel {
        name: "vpdpbusd",
        mr: 5,
        lanes: 16,
        vectors: 4,
        alike: false,
        worth_passes: 5,
        run: bytegemm,
    }),
    groupgemm: GroupKernel {
        name: "vpdpbusd",
        mr: 5,
        lanes: 16,
        vectors: 4,
        alike: false,
        run: groupgemm,
    },
    linegemm: LineKernel {
        name: "vpdpbusd",
        lanes: 16,
        tiles: LINES,
        signed: false,
        // 4-bit activations, 64 to 64 channels at 56 x 56, bits : bytes in 10^9 MAC/s, Zen 5: 556 : 397.
        worth_passes: 5,
        worth_channels: 64,
        run: linegemm,
    },
    lutgemms: &[lut::KERNEL, lut16::KERNEL],
    quantize: quantize::ENTRIES,
    floatgemm: floats::KERNEL,
    pack,
    requantize,
    row_sums,
    unpack,
    byte_sums,
    rows: super::rows::avx512,
};

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
)]
unsafe fn bitgemm(task: &Task<'_>) {
    // SAFETY: this function carries the features of Zmm; the rest is the contract of the table entry.
    unsafe { bitgemm::run::<Zmm, Popcnt, 6, 2>(task) }
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
)]
unsafe fn bytegemm(task: &ByteTask) {
    // SAFETY: as above.
    unsafe { bytegemm::run::<Zmm, Vnni, 5, 4>(task) }
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
)]
unsafe fn groupgemm(task: &GroupTask) {
    // SAFETY: as above.
    unsafe { groupgemm::run::<Zmm, Vnni, 5, 4>(task) }
}

/// Pixels of the line GEMM's tiles of 4, 2 and 1 vectors.
const LINES: [usize; 3] = [6, 12, 16];

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
)]
unsafe fn linegemm(task: &LineTask) {
    // SAFETY: as above.
    unsafe {
        match task.vectors {
            4 => linegemm::run::<Zmm, Vnni, false, { LINES[0] }, 4>(task),
            2 => linegemm::run::<Zmm, Vnni, false, { LINES[1] }, 2>(task),
            _ => linegemm::run::<Zmm, Vnni, false, { LINES[2] }, 1>(task),
        }
    }
}

/// # Safety
/// The contract of the table entry, here and in `avx512bw`: hence no feature that one of them lacks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn pack(codes: *const u8, cols: usize, planes: usize, out: *mut u32) {
    // SAFETY: as above.
    unsafe { pack::pack::<Halves>(codes, cols, planes, out) }
}

/// # Safety
/// As [`pack`](fn@pack).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn requantize(task: &pack::Requantize, sums: *const i32, out: *mut u32) {
    // SAFETY: as above.
    unsafe { pack::requantize::<Halves>(task, sums, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,popcnt")]
unsafe fn row_sums(words: &[u32], encoding: Encoding, sums: &mut [i32]) {
    // Rows that are pixels, of few words, are counted before a vector has been added up.
    if words.len() <= 8 * encoding.planes() * sums.len() {
        return super::row_sums_with(words, sums, |row| pack::row_sum(row, encoding));
    }
    super::row_sums_with(words, sums, |row| {
        let mut sum = 0i32;
        for (plane, words) in row.chunks_exact(row.len() / encoding.planes()).enumerate() {
            // Rows are often shorter than an unrolled loop of the compiler's; what is left of them is masked.
            let mut ones = _mm512_setzero_si512();
            for part in words.chunks(16) {
                let there = (u32::MAX >> (32 - part.len())) as u16;
                // SAFETY: only the lanes of the part are read.
                let part = unsafe { _mm512_maskz_loadu_epi32(there, part.as_ptr().cast()) };
                ones = _mm512_add_epi32(ones, _mm512_popcnt_epi32(part));
            }
            let ones = _mm512_reduce_add_epi32(ones);
            sum = sum.wrapping_add(ones.wrapping_mul(encoding.plane_weight(plane)));
        }
        sum
    });
}

/// # Safety
/// As [`pack`](fn@pack).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn unpack(
    words: &[u32],
    row: usize,
    encoding: Encoding,
    stride: usize,
    out: &mut [u8],
) {
    // SAFETY: as above.
    unsafe { pack::unpack::<Halves>(words, row, encoding, stride, out) }
}

/// # Safety
/// As [`pack`](fn@pack).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn byte_sums(
    bytes: &[u8],
    stride: usize,
    signed: bool,
    factor: i32,
    sums: &mut [i32],
) {
    super::byte_sums_with(bytes, stride, sums, |row| {
        pack::byte_sum(row, signed, factor)
    });
}

#[derive(Clone, Copy)]
pub(super) struct Zmm(pub(super) __m512i);

// SAFETY of every block below: the intrinsics need the features that the callers carry, as `Lanes` and
// `Codes` demand; memory is what the trait's method says that the caller vouches for.
impl Lanes for Zmm {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_setzero_si512()) }
    }
    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_set1_epi32(x as i32)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const u32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_loadu_si512(p.cast())) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u32) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const u32) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_xor_si512(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_and_si512(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn xor_and(self, other: Self, mask: Self) -> Self {
        // The truth table of (a ^ b) & c, a the highest index bit.
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_ternarylogic_epi32::<0x28>(self.0, other.0, mask.0)) }
    }
    #[inline(always)]
    unsafe fn shl(self, bits: u32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32))) }
    }
    #[inline(always)]
    unsafe fn shr<const SIGNED: bool>(self, bits: u32) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let bits = _mm_cvtsi32_si128(bits as i32);
            match SIGNED {
                true => Zmm(_mm512_sra_epi32(self.0, bits)),
                false => Zmm(_mm512_srl_epi32(self.0, bits)),
            }
        }
    }
    #[inline(always)]
    unsafe fn field<const BITS: usize>(self, index: usize) -> Self {
        if BITS == 8 {
            return self;
        }
        // SAFETY: see above the impl.
        unsafe {
            // What crosses from the next byte is masked off.
            let down = match BITS * index {
                0 => self.0,
                2 => _mm512_srli_epi16::<2>(self.0),
                4 => _mm512_srli_epi16::<4>(self.0),
                _ => _mm512_srli_epi16::<6>(self.0),
            };
            Zmm(_mm512_and_si512(down, _mm512_set1_epi8((1 << BITS) - 1)))
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_add_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_sub_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_mullo_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn to_f32(self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Zmm(_mm512_castps_si512(_mm512_cvtepi32_ps(self.0))) }
    }
    #[inline(always)]
    unsafe fn mul_f32(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            Zmm(_mm512_castps_si512(_mm512_mul_ps(
                _mm512_castsi512_ps(self.0),
                _mm512_castsi512_ps(other.0),
            )))
        }
    }
    #[inline(always)]
    unsafe fn add_f32(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            Zmm(_mm512_castps_si512(_mm512_add_ps(
                _mm512_castsi512_ps(self.0),
                _mm512_castsi512_ps(other.0),
            )))
        }
    }
    #[inline(always)]
    unsafe fn above(self, thresholds: Self) -> u32 {
        // SAFETY: see above the impl.
        unsafe { u32::from(_mm512_cmpgt_epi32_mask(self.0, thresholds.0)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, valid: usize) {
        // SAFETY: see above the impl.
        unsafe {
            if valid >= 16 {
                _mm512_storeu_si512(p.cast(), self.0);
            } else {
                _mm512_mask_storeu_epi32(p.cast(), (1 << valid) - 1, self.0);
            }
        }
    }
}

/// vpopcntd: whole lanes.
struct Popcnt;

features!(
    Popcnt,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
);
features!(
    Vnni,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
);

impl Count<Zmm> for Popcnt {
    const FLUSH: usize = usize::MAX;
    const WAITING: usize = 12;

    #[inline(always)]
    unsafe fn count(counter: Zmm, bits: Zmm) -> Zmm {
        // SAFETY: see above the first impl.
        unsafe { Zmm(_mm512_add_epi32(counter.0, _mm512_popcnt_epi32(bits.0))) }
    }
    #[inline(always)]
    unsafe fn widen(counter: Zmm) -> Zmm {
        counter
    }
}

/// vpdpbusd: four products into a 32-bit lane.
struct Vnni;

impl Dot<Zmm> for Vnni {
    type Counter = Zmm;
    const COUNTERS: usize = 16;
    fn unpack() -> usize {
        // MAC a cycle of ternary by s8 with 256 to 1024 rows: Zen 5 116 to 121 in tiles and 105 to 113 in blocks; Sapphire
        // Rapids, whose two pipes both multiply, the other way round.
        if isa::spare_pipes() { usize::MAX } else { 64 }
    }
    const WIDE: bool = true;

    fn limit(signed: bool) -> u32 {
        if signed { 255 } else { 127 }
    }
    fn flush(_: usize) -> usize {
        usize::MAX
    }
    #[inline(always)]
    unsafe fn zero() -> Zmm {
        // SAFETY: the callers carry the features of Zmm.
        unsafe { Lanes::zero() }
    }
    #[inline(always)]
    unsafe fn begin(start: Zmm) -> (Zmm, Zmm) {
        // SAFETY: as above.
        (start, unsafe { Lanes::zero() })
    }
    #[inline(always)]
    unsafe fn dot<const BITS: usize, const SIGNED: bool>(counter: Zmm, w: Zmm, a: Zmm) -> Zmm {
        let (u, s) = bytecount::mixed::<_, SIGNED>(w, a);
        // SAFETY: see above the first impl.
        unsafe { Zmm(_mm512_dpbusd_epi32(counter.0, u.0, s.0)) }
    }
    #[inline(always)]
    unsafe fn widen<const BITS: usize, const SIGNED: bool>(counter: Zmm) -> Zmm {
        counter
    }
}

/// 32 codes of 16 bits.
#[derive(Clone, Copy)]
struct Halves(__m512i);

impl Codes for Halves {
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above the first impl.
        unsafe { Halves(_mm512_cvtepu8_epi16(_mm256_loadu_si256(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn plane(self, plane: usize) -> u32 {
        // SAFETY: see above the first impl.
        unsafe { _mm512_test_epi16_mask(self.0, _mm512_set1_epi16(1 << plane)) }
    }
    #[inline(always)]
    unsafe fn above(values: *const i32, thresholds: *const i32) -> u32 {
        // SAFETY: see above the first impl.
        unsafe {
            let half = |at: usize| {
                let values = _mm512_loadu_si512(values.add(at).cast());
                _mm512_cmpgt_epi32_mask(values, _mm512_loadu_si512(thresholds.add(at).cast()))
            };
            u32::from(half(0)) | u32::from(half(16)) << 16
        }
    }
    #[inline(always)]
    unsafe fn unpack<const PLANES: usize>(
        planes: *const u32,
        words: usize,
        sign: u8,
        out: *mut u8,
    ) {
        // SAFETY: see above the first impl.
        unsafe {
            let (mut codes, mut worth) = (_mm256_setzero_si256(), _mm256_set1_epi8(1));
            for plane in 0..PLANES {
                let set = _mm256_maskz_mov_epi8(*planes.add(plane * words), worth);
                codes = _mm256_or_si256(codes, set);
                worth = _mm256_add_epi8(worth, worth);
            }
            let sign = _mm256_set1_epi8(sign as i8);
            let codes = _mm256_sub_epi8(_mm256_xor_si256(codes, sign), sign);
            _mm256_storeu_si256(out.cast(), codes);
        }
    }
    #[inline(always)]
    unsafe fn unpack_two<const PLANES: usize>(
        planes: *const u32,
        words: usize,
        sign: u8,
        out: *mut u8,
    ) {
        // SAFETY: see above the first impl; two words are the 64 bits of a mask, wherever they lie.
        unsafe {
            let (mut codes, mut worth) = (_mm512_setzero_si512(), _mm512_set1_epi8(1));
            for plane in 0..PLANES {
                let mask = planes.add(plane * words).cast::<u64>().read_unaligned();
                codes = _mm512_mask_add_epi8(codes, mask, codes, worth);
                worth = _mm512_add_epi8(worth, worth);
            }
            let sign = _mm512_set1_epi8(sign as i8);
            let codes = _mm512_sub_epi8(_mm512_xor_si512(codes, sign), sign);
            _mm512_storeu_si512(out.cast(), codes);
        }
    }
}
