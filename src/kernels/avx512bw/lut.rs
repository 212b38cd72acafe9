//! Tables of 16 sums by vpshufb.
//!
//! | step | instructions | MAC | bound |
//! |---|---|---|---|
//! | look-up | vpshufb, vpaddb | 256 a pair | 2 ports, one of which shuffles: 256 MAC a cycle; 4 ports: 512 |
//! | its flush, every 4, 9, 21 or 63 lookups | vpaddw, vpsrlw, vpaddw | | u4: 10 instructions for 1024 MAC: 205; 4 ports: 410 |
//! | four tables | 4 vpshufb, 2 vpaddb | | 4 cycles |
//!
//! Tile 2 rows x 256 channels, as in `avx512`.

use std::arch::x86_64::*;

use crate::kernels::avx512::bytes::Bytes;
use crate::kernels::lutgemm::{self, Tables};
use crate::kernels::luttask::{BuildTask, LutTask};
use crate::kernels::piece::features;
use crate::kernels::{LutKernel, Worth};

pub(super) const KERNEL: LutKernel = LutKernel {
    name: "vpshufb",
    mr: 2,
    rows: 64,
    tile: |_| [2, 256],
    lanes: 64,
    vectors: 4,
    group: 4,
    share: 2,
    entry: 1,
    // Sapphire Rapids, MAC a cycle, otherwise : tables, for 512^3, 4096 x 256 x 4096 and a GEMV of 1024 channels; tables
    // with an index a byte, before two shared one. 1 bit: 104 : 119, 107 : 117, 63 : 79. u2: 55 : 81, 55 : 105, 46 : 86.
    // u4, bytes instead of popcounts: 42 : 106, 39 : 96, 22 : 89. That CPU shuffles 512 bits on one port, as those that
    // this ISA is for; they have not been measured. From how many channels on is a count of instructions.
    worth: Worth {
        once: || [512, 192, 96, 96],
        // Half of the rates above: no more than bytes.
        twice: [usize::MAX; 4],
    },
    few_rows: || [0; 4],
    // 3 x 3, Zen 5, others : tables. 1 bit: 213 : 177 for 256 channels at 14 x 14. u2: 91 : 144 for 128 at 14 x 14. u4: 72 : 72
    // for 64 at 28 x 28. u2 x u4: 56 : 99 for 256, on a CPU that shuffles more than those that this ISA is for.
    worth_of_taps: Worth {
        once: || [512, 128, 96, 96],
        twice: [usize::MAX; 4],
    },
    build,
    run,
};

/// Lookups a byte that are unrolled: those of activations of 4 bits.
const FEW: usize = 4;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn build(task: &BuildTask) {
    // SAFETY: this function carries the features of Fours; the rest is the contract of the kernel.
    unsafe { lutgemm::build::<Fours>(task) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn run(task: &LutTask) {
    // SAFETY: as above.
    unsafe { lutgemm::run::<Fours, 2, 4, FEW>(task) }
}

/// Tables of 16 sums of 4 activations, four times in a vector.
struct Fours;

features!(Fours, "avx512f,avx512bw,avx512dq,avx512vl");

// SAFETY of every block below: the intrinsics need AVX-512 F and BW, which the callers carry, as `Tables` demands;
// memory is what the trait's method says that the caller vouches for.
impl Tables for Fours {
    type Bytes = Bytes;
    const GROUP: usize = 4;
    const SHARE: usize = 2;

    #[inline(always)]
    unsafe fn index(shared: Bytes, i: usize) -> Bytes {
        // SAFETY: see above the impl.
        unsafe {
            let own = match i {
                0 => shared.0,
                _ => _mm512_srli_epi16::<4>(shared.0),
            };
            Bytes(_mm512_and_si512(own, _mm512_set1_epi8(15)))
        }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Bytes {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_broadcast_i32x4(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn look_up(table: Bytes, indices: Bytes) -> Bytes {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_shuffle_epi8(table.0, indices.0)) }
    }
    #[inline(always)]
    unsafe fn build(codes: *const u8, base: u8, tables: *mut u8) {
        // SAFETY: see above the impl.
        unsafe {
            let codes = _mm_add_epi8(_mm_loadu_si128(codes.cast()), _mm_set1_epi8(base as i8));
            let codes = _mm512_broadcast_i32x4(codes);
            // A quarter of the vector for each table. Of each pair of its codes four sums, 0, first, second and
            // both; an index with its top bit set gives 0.
            let quarter = _mm512_loadu_si512(QUARTER.as_ptr().cast());
            let first = _mm_setr_epi8(-128, 0, -128, 0, -128, 2, -128, 2, 0, 0, 0, 0, 0, 0, 0, 0);
            let second = _mm_setr_epi8(-128, -128, 1, 1, -128, -128, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0);
            let first = _mm512_add_epi8(_mm512_broadcast_i32x4(first), quarter);
            let second = _mm512_add_epi8(_mm512_broadcast_i32x4(second), quarter);
            let pairs = _mm512_add_epi8(
                _mm512_shuffle_epi8(codes, first),
                _mm512_shuffle_epi8(codes, second),
            );
            // Entry e of a table: entry e % 4 of its lower pair plus entry e / 4 of its upper pair.
            let low = _mm_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
            let high = _mm_setr_epi8(4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7);
            let sums = _mm512_add_epi8(
                _mm512_shuffle_epi8(pairs, _mm512_broadcast_i32x4(low)),
                _mm512_shuffle_epi8(pairs, _mm512_broadcast_i32x4(high)),
            );
            _mm512_storeu_si512(tables.cast(), sums);
        }
    }
}

/// 4 (i / 16): the first code of each table.
static QUARTER: [u8; 64] = {
    let mut quarter = [0; 64];
    let mut i = 0;
    while i < 64 {
        quarter[i] = 4 * (i / 16) as u8;
        i += 1;
    }
    quarter
};
