//! AVX-512 without VPOPCNTDQ and VNNI (Skylake-X, Cascade Lake).
//!
//! | step | instructions | MAC | bound |
//! |---|---|---|---|
//! | bit GEMM | vpxord or vpandd, vpandd, vpsrlw, vpandd, 2 vpshufb, 2 vpaddb | 512 an octet | 4 ports: 256 MAC a cycle; 2 ports: 128 |
//! | its flush, every 31 steps | vpmaddubsw, vpmaddwd, vpaddd | | |
//! | byte GEMM | vpmaddubsw, vpaddw or 2 vpmaddwd, 2 vpaddd | 64 | |
//!
//! Vectors, quantizer and planes are those of `avx512`. Tile 6 x 32: 12 byte counters, 2 weights, table, mask
//! and the temporaries of an octet. Tile 4 x 64 for bytes: 16 counters, and room for both halves of a row's
//! bytes.

use std::arch::x86_64::*;

use super::avx512::{self, Zmm};
use super::bitgemm::{self, Count, Task};
use super::bytecount::{self, Dot};
use super::bytegemm::{self, ByteTask};
use super::groupgemm::{self, GroupTask};
use super::lanes::Lanes;
use super::linegemm::{self, LineTask};
use super::pack;
use super::piece::features;
use super::quantize::avx512 as quantize;
use super::{ByteKernel, GroupKernel, Kernels, LineKernel};
use crate::bits::Encoding;
use crate::isa::Isa;

mod lut;

pub(super) static KERNELS: Kernels = Kernels {
    isa: Isa::Avx512Bw,
    bitgemm_name: "vpshufb popcount, 16 lanes",
    mr: 6,
    nr: 32,
    bitgemm,
    bytegemm: Some(ByteKernel {
        name: "vpmaddubsw or vpmaddwd",
        mr: 4,
        lanes: 16,
        vectors: 4,
        alike: false,
        worth_passes: 2,
        run: bytegemm,
    }),
    quantize: quantize::BW_ENTRIES,
    floatgemm: avx512::floats::KERNEL,
    lutgemms: &[lut::KERNEL],
    groupgemm: GroupKernel {
        name: "vpmaddubsw or vpmaddwd",
        mr: 4,
        lanes: 16,
        vectors: 4,
        alike: false,
        run: groupgemm,
    },
    linegemm: LineKernel {
        name: "vpmaddubsw or vpmaddwd",
        lanes: 16,
        tiles: LINES,
        signed: false,
        worth_passes: usize::MAX,
        worth_channels: 0,
        run: linegemm,
    },
    pack: avx512::pack,
    requantize: avx512::requantize,
    row_sums,
    unpack: avx512::unpack,
    byte_sums: avx512::byte_sums,
    rows: super::rows::avx512,
};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn bitgemm(task: &Task<'_>) {
    // SAFETY: this function carries the features of Zmm; the rest is the contract of the table entry.
    unsafe { bitgemm::run::<Zmm, Nibbles, 6, 2>(task) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn bytegemm(task: &ByteTask) {
    // SAFETY: as above.
    unsafe { bytegemm::run::<Zmm, Madd, 4, 4>(task) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn groupgemm(task: &GroupTask) {
    // SAFETY: as above.
    unsafe { groupgemm::run::<Zmm, Madd, 4, 4>(task) }
}

/// Pixels of the line GEMM's tiles of 4, 2 and 1 vectors.
const LINES: [usize; 3] = [4, 8, 12];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn linegemm(task: &LineTask) {
    // SAFETY: as above.
    unsafe {
        match task.vectors {
            4 => linegemm::run::<Zmm, Madd, false, { LINES[0] }, 4>(task),
            2 => linegemm::run::<Zmm, Madd, false, { LINES[1] }, 2>(task),
            _ => linegemm::run::<Zmm, Madd, false, { LINES[2] }, 1>(task),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
unsafe fn row_sums(words: &[u32], encoding: Encoding, sums: &mut [i32]) {
    super::row_sums_with(words, sums, |row| pack::row_sum(row, encoding));
}

/// Popcounts by a table of nibbles, in bytes.
struct Nibbles;

features!(Nibbles, "avx512f,avx512bw,avx512dq,avx512vl");
features!(Madd, "avx512f,avx512bw,avx512dq,avx512vl");

// SAFETY of every block below: the intrinsics need AVX-512 F and BW, which the callers carry, as `Count` and
// `Dot` demand.
impl Count<Zmm> for Nibbles {
    const FLUSH: usize = 31;
    const WAITING: usize = 0;

    #[inline(always)]
    unsafe fn count(counter: Zmm, bits: Zmm) -> Zmm {
        // SAFETY: see above the impl.
        unsafe {
            let ones = _mm512_broadcast_i32x4(_mm_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
            ));
            let nibble = _mm512_set1_epi8(15);
            let low = _mm512_and_si512(bits.0, nibble);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bits.0), nibble);
            let sum = _mm512_add_epi8(counter.0, _mm512_shuffle_epi8(ones, low));
            Zmm(_mm512_add_epi8(sum, _mm512_shuffle_epi8(ones, high)))
        }
    }
    #[inline(always)]
    unsafe fn widen(counter: Zmm) -> Zmm {
        // SAFETY: see above the impl.
        unsafe {
            // Bytes up to 248 times 1, in pairs: up to 496, far from the saturation of vpmaddubsw.
            let pairs = _mm512_maddubs_epi16(counter.0, _mm512_set1_epi8(1));
            Zmm(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
        }
    }
}

/// vpmaddubsw for fields of 2 and 4 bits, vpmaddwd for 8 bits, which it would saturate.
struct Madd;

impl Dot<Zmm> for Madd {
    type Counter = Zmm;
    const COUNTERS: usize = 8;
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
    unsafe fn zero() -> Zmm {
        // SAFETY: see above the first impl.
        unsafe { Lanes::zero() }
    }
    #[inline(always)]
    unsafe fn dot<const BITS: usize, const SIGNED: bool>(counter: Zmm, w: Zmm, a: Zmm) -> Zmm {
        let (u, s) = bytecount::mixed::<_, SIGNED>(w, a);
        // SAFETY: see above the first impl.
        unsafe {
            if BITS < 8 {
                return Zmm(_mm512_add_epi16(counter.0, _mm512_maddubs_epi16(u.0, s.0)));
            }
            let even = _mm512_set1_epi16(255);
            let (u_even, u_odd) = (_mm512_and_si512(u.0, even), _mm512_srli_epi16::<8>(u.0));
            let s_even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(s.0));
            let s_odd = _mm512_srai_epi16::<8>(s.0);
            let sum = _mm512_add_epi32(counter.0, _mm512_madd_epi16(u_even, s_even));
            Zmm(_mm512_add_epi32(sum, _mm512_madd_epi16(u_odd, s_odd)))
        }
    }
    #[inline(always)]
    unsafe fn widen<const BITS: usize, const SIGNED: bool>(counter: Zmm) -> Zmm {
        // SAFETY: see above the first impl.
        unsafe {
            match BITS {
                8 => counter,
                _ => Zmm(_mm512_madd_epi16(counter.0, _mm512_set1_epi16(1))),
            }
        }
    }
}
