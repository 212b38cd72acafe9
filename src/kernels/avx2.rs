//! AVX2 (Haswell, Zen and later).
//!
//! | step | instructions | MAC | bound |
//! |---|---|---|---|
//! | bit GEMM | vpxor or vpand, vpand, vpsrlw, vpand, 2 vpshufb, 2 vpaddb | 256 an octet | 4 ports: 128 MAC a cycle; 3 ports: 96 |
//! | its flush, every 31 steps | vpmaddubsw, vpmaddwd, vpaddd | | |
//! | planes | vpsllw, vpmovmskb, 32 columns and one plane each | | |
//!
//! Tile 3 x 16: 6 byte counters, 2 weights, table, mask and the temporaries of one octet fill the 16
//! registers. Harley-Seal counters lose at every size: they leave no registers for a tile.

use std::arch::x86_64::*;

use super::bitgemm::{self, Count, Task};
use super::bytecount::{self, Dot};
use super::bytegemm::{self, ByteTask};
use super::groupgemm::{self, GroupTask};
use super::lanes::Lanes;
use super::linegemm::{self, LineTask};
use super::pack;
use super::piece::features;
use super::quantize::avx2 as quantize;
use super::{ByteKernel, GroupKernel, Kernels, LineKernel};
use crate::bits::Encoding;
use crate::isa::Isa;

mod codes;
mod floats;
mod lut;

use codes::Bytes;

pub(super) static KERNELS: Kernels = AVX2;

/// The same with AVX-VNNI: bytes by one instruction.
pub(super) static VNNI_KERNELS: Kernels = Kernels {
    isa: Isa::Avx2Vnni,
    bytegemm: Some(ByteKernel {
        name: "vpdpbusd",
        mr: 2,
        lanes: 8,
        vectors: 4,
        alike: false,
        worth_passes: 2,
        run: bytegemm_vnni,
    }),
    groupgemm: GroupKernel {
        name: "vpdpbusd",
        mr: 2,
        lanes: 8,
        vectors: 4,
        alike: false,
        run: groupgemm_vnni,
    },
    linegemm: LineKernel {
        name: "vpdpbusd",
        lanes: 8,
        tiles: LINES_VNNI,
        signed: false,
        worth_passes: usize::MAX,
        worth_channels: 0,
        run: linegemm_vnni,
    },
    lutgemms: &[lut::BESIDE_DOTS],
    ..AVX2
};

const AVX2: Kernels = Kernels {
    isa: Isa::Avx2,
    bitgemm_name: "vpshufb popcount, 8 lanes",
    mr: 3,
    nr: 16,
    bitgemm,
    bytegemm: Some(ByteKernel {
        name: "vpmaddubsw or vpmaddwd",
        mr: 2,
        lanes: 8,
        vectors: 4,
        alike: false,
        worth_passes: 2,
        run: bytegemm,
    }),
    quantize: quantize::ENTRIES,
    floatgemm: floats::KERNEL,
    lutgemms: &[lut::KERNEL],
    groupgemm: GroupKernel {
        name: "vpmaddubsw or vpmaddwd",
        mr: 2,
        lanes: 8,
        vectors: 4,
        alike: false,
        run: groupgemm,
    },
    linegemm: LineKernel {
        name: "vpmaddubsw or vpmaddwd",
        lanes: 8,
        tiles: LINES,
        signed: false,
        worth_passes: usize::MAX,
        worth_channels: 0,
        run: linegemm,
    },
    pack,
    requantize,
    row_sums,
    unpack,
    byte_sums,
    rows: super::rows::avx2,
};

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn bitgemm(task: &Task<'_>) {
    // SAFETY: this function carries the features of Ymm; the rest is the contract of the table entry.
    unsafe { bitgemm::run::<Ymm, Nibbles, 3, 2>(task) }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn bytegemm(task: &ByteTask) {
    // SAFETY: as above.
    unsafe { bytegemm::run::<Ymm, Madd, 2, 4>(task) }
}

#[target_feature(enable = "avx2,fma,popcnt,avxvnni")]
unsafe fn bytegemm_vnni(task: &ByteTask) {
    // SAFETY: as above; only the row of AVX-VNNI holds this function.
    unsafe { bytegemm::run::<Ymm, Vnni, 2, 4>(task) }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn groupgemm(task: &GroupTask) {
    // SAFETY: as above.
    unsafe { groupgemm::run::<Ymm, Madd, 2, 4>(task) }
}

#[target_feature(enable = "avx2,fma,popcnt,avxvnni")]
unsafe fn groupgemm_vnni(task: &GroupTask) {
    // SAFETY: as above; only the row of AVX-VNNI holds this function.
    unsafe { groupgemm::run::<Ymm, Vnni, 2, 4>(task) }
}

/// Pixels of the line GEMM's tiles of 2 and 1 vectors; four would need more registers than there are.
const LINES: [usize; 3] = [0, 4, 8];
const LINES_VNNI: [usize; 3] = [0, 6, 12];

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn linegemm(task: &LineTask) {
    // SAFETY: as above.
    unsafe {
        match task.vectors {
            2 => linegemm::run::<Ymm, Madd, false, { LINES[1] }, 2>(task),
            _ => linegemm::run::<Ymm, Madd, false, { LINES[2] }, 1>(task),
        }
    }
}

#[target_feature(enable = "avx2,fma,popcnt,avxvnni")]
unsafe fn linegemm_vnni(task: &LineTask) {
    // SAFETY: as above; only the row of AVX-VNNI holds this function.
    unsafe {
        match task.vectors {
            2 => linegemm::run::<Ymm, Vnni, false, { LINES_VNNI[1] }, 2>(task),
            _ => linegemm::run::<Ymm, Vnni, false, { LINES_VNNI[2] }, 1>(task),
        }
    }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn pack(codes: *const u8, cols: usize, planes: usize, out: *mut u32) {
    // SAFETY: as above.
    unsafe { pack::pack::<Bytes>(codes, cols, planes, out) }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn requantize(task: &pack::Requantize, sums: *const i32, out: *mut u32) {
    // SAFETY: as above.
    unsafe { pack::requantize::<Bytes>(task, sums, out) }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn row_sums(words: &[u32], encoding: Encoding, sums: &mut [i32]) {
    super::row_sums_with(words, sums, |row| pack::row_sum(row, encoding));
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn unpack(words: &[u32], row: usize, encoding: Encoding, stride: usize, out: &mut [u8]) {
    // SAFETY: as above.
    unsafe { pack::unpack::<Bytes>(words, row, encoding, stride, out) }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn byte_sums(bytes: &[u8], stride: usize, signed: bool, factor: i32, sums: &mut [i32]) {
    super::byte_sums_with(bytes, stride, sums, |row| {
        pack::byte_sum(row, signed, factor)
    });
}

#[derive(Clone, Copy)]
struct Ymm(__m256i);

// SAFETY of every block below: the intrinsics need the features that the callers carry, as `Lanes` and
// `Codes` demand; memory is what the trait's method says that the caller vouches for.
impl Lanes for Ymm {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_setzero_si256()) }
    }
    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_set1_epi32(x as i32)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const u32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_loadu_si256(p.cast())) }
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
        unsafe { Ymm(_mm256_xor_si256(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_and_si256(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn xor_and(self, other: Self, mask: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { self.xor(other).and(mask) }
    }
    #[inline(always)]
    unsafe fn shl(self, bits: u32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32))) }
    }
    #[inline(always)]
    unsafe fn shr<const SIGNED: bool>(self, bits: u32) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let bits = _mm_cvtsi32_si128(bits as i32);
            match SIGNED {
                true => Ymm(_mm256_sra_epi32(self.0, bits)),
                false => Ymm(_mm256_srl_epi32(self.0, bits)),
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
                2 => _mm256_srli_epi16::<2>(self.0),
                4 => _mm256_srli_epi16::<4>(self.0),
                _ => _mm256_srli_epi16::<6>(self.0),
            };
            Ymm(_mm256_and_si256(down, _mm256_set1_epi8((1 << BITS) - 1)))
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_add_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_sub_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_mullo_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn to_f32(self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Ymm(_mm256_castps_si256(_mm256_cvtepi32_ps(self.0))) }
    }
    #[inline(always)]
    unsafe fn mul_f32(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            Ymm(_mm256_castps_si256(_mm256_mul_ps(
                _mm256_castsi256_ps(self.0),
                _mm256_castsi256_ps(other.0),
            )))
        }
    }
    #[inline(always)]
    unsafe fn add_f32(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            Ymm(_mm256_castps_si256(_mm256_add_ps(
                _mm256_castsi256_ps(self.0),
                _mm256_castsi256_ps(other.0),
            )))
        }
    }
    #[inline(always)]
    unsafe fn above(self, thresholds: Self) -> u32 {
        // SAFETY: see above the impl.
        unsafe {
            let above = _mm256_cmpgt_epi32(self.0, thresholds.0);
            _mm256_movemask_ps(_mm256_castsi256_ps(above)) as u32
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, valid: usize) {
        // SAFETY: see above the impl.
        unsafe {
            if valid >= 8 {
                _mm256_storeu_si256(p.cast(), self.0);
            } else {
                let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(valid as i32), lane);
                _mm256_maskstore_epi32(p.cast(), mask, self.0);
            }
        }
    }
}

/// Popcounts by a table of nibbles, in bytes.
struct Nibbles;

features!(Nibbles, "avx2,fma,popcnt");
features!(Madd, "avx2,fma,popcnt");
features!(Vnni, "avx2,fma,popcnt,avxvnni");

impl Count<Ymm> for Nibbles {
    const FLUSH: usize = 31;
    const WAITING: usize = 0;

    #[inline(always)]
    unsafe fn count(counter: Ymm, bits: Ymm) -> Ymm {
        // SAFETY: see above the first impl.
        unsafe {
            #[rustfmt::skip]
            let ones = _mm256_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
            );
            let nibble = _mm256_set1_epi8(15);
            let low = _mm256_and_si256(bits.0, nibble);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bits.0), nibble);
            let sum = _mm256_add_epi8(counter.0, _mm256_shuffle_epi8(ones, low));
            Ymm(_mm256_add_epi8(sum, _mm256_shuffle_epi8(ones, high)))
        }
    }
    #[inline(always)]
    unsafe fn widen(counter: Ymm) -> Ymm {
        // SAFETY: see above the first impl.
        unsafe {
            // Bytes up to 248 times 1, in pairs: up to 496, far from the saturation of vpmaddubsw.
            let pairs = _mm256_maddubs_epi16(counter.0, _mm256_set1_epi8(1));
            Ymm(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

/// vpmaddubsw for fields of 2 and 4 bits, vpmaddwd for 8 bits, which it would saturate.
struct Madd;

impl Dot<Ymm> for Madd {
    type Counter = Ymm;
    const COUNTERS: usize = 4;
    fn unpack() -> usize {
        16
    }
    const WIDE: bool = false;

    fn limit(_: bool) -> u32 {
        0
    }
    fn flush(bits: usize) -> usize {
        // A step adds a pair, at most 2 * 255 * (2^bits - 1), to a lane of 16 bits: 1530 or 7650 of 32767.
        match bits {
            2 => 21,
            4 => 4,
            _ => usize::MAX,
        }
    }
    #[inline(always)]
    unsafe fn zero() -> Ymm {
        // SAFETY: the callers carry the features of Ymm.
        unsafe { Lanes::zero() }
    }
    #[inline(always)]
    unsafe fn dot<const BITS: usize, const SIGNED: bool>(counter: Ymm, w: Ymm, a: Ymm) -> Ymm {
        let (u, s) = bytecount::mixed::<_, SIGNED>(w, a);
        // SAFETY: see above the first impl.
        unsafe {
            if BITS < 8 {
                return Ymm(_mm256_add_epi16(counter.0, _mm256_maddubs_epi16(u.0, s.0)));
            }
            let even = _mm256_set1_epi16(255);
            let (u_even, u_odd) = (_mm256_and_si256(u.0, even), _mm256_srli_epi16::<8>(u.0));
            let s_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(s.0));
            let s_odd = _mm256_srai_epi16::<8>(s.0);
            let sum = _mm256_add_epi32(counter.0, _mm256_madd_epi16(u_even, s_even));
            Ymm(_mm256_add_epi32(sum, _mm256_madd_epi16(u_odd, s_odd)))
        }
    }
    #[inline(always)]
    unsafe fn widen<const BITS: usize, const SIGNED: bool>(counter: Ymm) -> Ymm {
        // SAFETY: see above the first impl.
        unsafe {
            match BITS {
                8 => counter,
                _ => Ymm(_mm256_madd_epi16(counter.0, _mm256_set1_epi16(1))),
            }
        }
    }
}

/// vpdpbusd of AVX-VNNI.
struct Vnni;

impl Dot<Ymm> for Vnni {
    type Counter = Ymm;
    const COUNTERS: usize = 8;
    fn unpack() -> usize {
        96
    }
    const WIDE: bool = true;

    fn limit(signed: bool) -> u32 {
        if signed { 255 } else { 127 }
    }
    fn flush(_: usize) -> usize {
        usize::MAX
    }
    #[inline(always)]
    unsafe fn zero() -> Ymm {
        // SAFETY: the callers carry the features of Ymm.
        unsafe { Lanes::zero() }
    }
    #[inline(always)]
    unsafe fn begin(start: Ymm) -> (Ymm, Ymm) {
        // SAFETY: as above.
        (start, unsafe { Lanes::zero() })
    }
    #[inline(always)]
    unsafe fn dot<const BITS: usize, const SIGNED: bool>(counter: Ymm, w: Ymm, a: Ymm) -> Ymm {
        let (u, s) = bytecount::mixed::<_, SIGNED>(w, a);
        // SAFETY: see above the first impl; the entry carries avxvnni too.
        unsafe { Ymm(_mm256_dpbusd_avx_epi32(counter.0, u.0, s.0)) }
    }
    #[inline(always)]
    unsafe fn widen<const BITS: usize, const SIGNED: bool>(counter: Ymm) -> Ymm {
        counter
    }
}
