//! Tables of 16 sums by vpshufb.
//!
//! | step | instructions | MAC | Zen 5: ports, bound |
//! |---|---|---|---|
//! | look-up | vpshufb, vpaddb | 128 a pair | 4 a cycle: 256 MAC; 3 ports: 192 |
//! | its flush, every 4, 9, 21 or 63 lookups | vpaddw, vpsrlw, vpaddw | | u4: 10 instructions for 512 MAC: 205; 3 ports: 153 |
//! | four tables | 6 vpshufb, 3 vpaddb | | 3 cycles |
//!
//! The tile has sums of 16 bits in registers where flushes are frequent: 2 rows x 64 channels, 8 of those, 4 of
//! bytes, 2 tables, an index and what it finds are the 16 registers. Else they wait in memory and the tile is 2
//! rows x 128 channels.

use std::arch::x86_64::*;

use super::Ymm;
use crate::isa;
use crate::kernels::lutgemm::{self, ByteLanes, Tables};
use crate::kernels::luttask::{BuildTask, LutTask};
use crate::kernels::piece::features;
use crate::kernels::{LutKernel, Worth};

pub(super) const KERNEL: LutKernel = LutKernel {
    name: "vpshufb",
    mr: 2,
    rows: 64,
    tile: |lookups| if lookups == FEW { [2, 64] } else { [2, 128] },
    lanes: 32,
    vectors: 4,
    group: 4,
    share: 2,
    entry: 1,
    // Sapphire Rapids, MAC a cycle, otherwise : tables, for 512^3, 4096 x 256 x 4096 and a GEMV of 1024 channels; tables
    // with an index a byte, before two shared one. 1 bit: 79 : 71, 81 : 75, 46 : 45, a loss. u2: 41 : 81, 40 : 72, 25 :
    // 47. u4, bytes instead of popcounts: 26 : 79, 26 : 63, 17 : 41 (with AVX-VNNI 39 : 67, 38 : 62, 22 : 44). Zen 5, 1 bit:
    // 106 : 92 for 128 channels, 105 : 109 for 256, 104 : 118 for 512, 105 : 127 for 1024; a GEMV of 4096 x 4096 89 : 72,
    // six rows of it 103 : 101, eight 101 : 106. From how many channels on is a count of instructions: tables of
    // 16 activations take as many cycles as 28 channels of u2 or 40 of u4 save.
    // Tried in vain there: tables of the next rows and lines of the result asked for beforehand, three groups unrolled
    // between flushes. The loop itself runs at five sixths of its bound; what is left goes to flushes, the end of a tile,
    // tables and sums of rows.
    worth: Worth {
        once: || match isa::spare_pipes() {
            true => [512, 96, 64, 64],
            false => [usize::MAX, 96, 64, 64],
        },
        // Sapphire Rapids, bytes : tables, 64, 128 and 512 channels of K = 512. u2 x u2: 25 : 39, 27 : 50, 29 : 57. u2 x u4:
        // 25 : 38, 28 : 45, 28 : 49. A GEMV of 4096 x 4096, which waits for the third-level cache, lost with an index a byte,
        // twice as large as the weights: 23 : 17 and 22 : 11. Two to a byte have not been measured.
        twice: [usize::MAX, 64, 64, 64],
    },
    few_rows: || [6, 0, 0, 0],
    // 3 x 3, Zen 5, others : tables. u4: 31 : 33 for 32 channels at 32 x 32. u2: 43 : 40 likewise, 48 : 77 for 64 at 14 x 14. 1
    // bit: 101 : 105 for 128 at 14 x 14, 103 : 116 for 256.
    worth_of_taps: Worth {
        once: || match isa::spare_pipes() {
            true => [256, 64, 64, 64],
            false => [usize::MAX, 64, 64, 64],
        },
        twice: [usize::MAX, 64, 64, 64],
    },
    build,
    run,
};

/// Beside byte products in one instruction.
pub(super) const BESIDE_DOTS: LutKernel = LutKernel {
    // Sapphire Rapids, a busy one, medians of three runs, bytes (u2 x u8) : tables. u2 x u2: 32 : 27 for 64 channels, 33 : 36
    // for 512, 34 : 34 for 1024. u2 x u4: 32 : 30, 33 : 38, 34 : 35.
    worth: Worth {
        twice: [usize::MAX, 512, 512, 512],
        ..KERNEL.worth
    },
    worth_of_taps: Worth {
        twice: [usize::MAX, 512, 512, 512],
        ..KERNEL.worth_of_taps
    },
    ..KERNEL
};

/// Lookups a byte up to which sums of 16 bits stay in registers: those of activations of 4 bits.
const FEW: usize = 4;

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn build(task: &BuildTask) {
    // SAFETY: this function carries the features of Fours; the rest is the contract of the kernel.
    unsafe { lutgemm::build::<Fours>(task) }
}

#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn run(task: &LutTask) {
    // SAFETY: as above.
    unsafe {
        if task.flush == FEW {
            lutgemm::run::<Fours, 2, 2, FEW>(task)
        } else {
            lutgemm::run::<Fours, 2, 4, { usize::MAX }>(task)
        }
    }
}

/// 32 bytes; as a table, 16 entries twice.
#[derive(Clone, Copy)]
struct Fours(__m256i);

// SAFETY of every block below: the intrinsics need the features that the callers carry, as `ByteLanes` and `Tables` demand;
// memory is what the trait's method says that the caller vouches for.
impl ByteLanes for Fours {
    type Sums = Ymm;
    const LANES: usize = 32;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above the impl.
        unsafe { Fours(_mm256_setzero_si256()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above the impl.
        unsafe { Fours(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        // SAFETY: see above the impl.
        unsafe { _mm256_storeu_si256(p.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn add_bytes(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Fours(_mm256_add_epi8(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn add_halves(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Fours(_mm256_add_epi16(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn add_upper(self, bytes: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Fours(_mm256_add_epi16(self.0, _mm256_srli_epi16::<8>(bytes.0))) }
    }
    #[inline(always)]
    unsafe fn less_upper(self, upper: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Fours(_mm256_sub_epi16(self.0, _mm256_slli_epi16::<8>(upper.0))) }
    }
    #[inline(always)]
    unsafe fn widen(self, half: usize) -> Ymm {
        // SAFETY: see above the impl.
        unsafe {
            Ymm(_mm256_cvtepu16_epi32(match half {
                0 => _mm256_castsi256_si128(self.0),
                _ => _mm256_extracti128_si256::<1>(self.0),
            }))
        }
    }
}

features!(Fours, "avx2,fma,popcnt");

// SAFETY: as above.
impl Tables for Fours {
    type Bytes = Self;
    const GROUP: usize = 4;
    const SHARE: usize = 2;

    #[inline(always)]
    unsafe fn index(shared: Self, i: usize) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let own = match i {
                0 => shared.0,
                _ => _mm256_srli_epi16::<4>(shared.0),
            };
            Fours(_mm256_and_si256(own, _mm256_set1_epi8(15)))
        }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above the impl.
        unsafe { Fours(_mm256_broadcastsi128_si256(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn look_up(table: Self, indices: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Fours(_mm256_shuffle_epi8(table.0, indices.0)) }
    }
    #[inline(always)]
    unsafe fn build(codes: *const u8, base: u8, tables: *mut u8) {
        // SAFETY: see above the impl.
        unsafe {
            let codes = _mm_add_epi8(_mm_loadu_si128(codes.cast()), _mm_set1_epi8(base as i8));
            let codes = _mm256_broadcastsi128_si256(codes);
            // Of each pair of codes four sums, 0, first, second and both: in the lower half of the vector those
            // of tables 0 and 2, in the upper half of tables 1 and 3.
            #[rustfmt::skip]
            let first = _mm256_setr_epi8(
                -1, 0, -1, 0, -1, 2, -1, 2, -1, 8, -1, 8, -1, 10, -1, 10,
                -1, 4, -1, 4, -1, 6, -1, 6, -1, 12, -1, 12, -1, 14, -1, 14,
            );
            #[rustfmt::skip]
            let second = _mm256_setr_epi8(
                -1, -1, 1, 1, -1, -1, 3, 3, -1, -1, 9, 9, -1, -1, 11, 11,
                -1, -1, 5, 5, -1, -1, 7, 7, -1, -1, 13, 13, -1, -1, 15, 15,
            );
            let pairs = _mm256_add_epi8(
                _mm256_shuffle_epi8(codes, first),
                _mm256_shuffle_epi8(codes, second),
            );
            // Entry e of a table: entry e % 4 of its lower pair plus entry e / 4 of its upper pair.
            #[rustfmt::skip]
            let low = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
            ));
            #[rustfmt::skip]
            let high = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7,
            ));
            for two in 0..2 {
                let at = _mm256_set1_epi8(8 * two as i8);
                let sums = _mm256_add_epi8(
                    _mm256_shuffle_epi8(pairs, _mm256_or_si256(low, at)),
                    _mm256_shuffle_epi8(pairs, _mm256_or_si256(high, at)),
                );
                _mm256_storeu_si256(tables.add(32 * two).cast(), sums);
            }
        }
    }
}
