//! Tables of 64 sums by vpermb.
//!
//! | step | instructions | MAC | Zen 5: ports, bound |
//! |---|---|---|---|
//! | look-up | vpermb, vpaddb | 384 a pair | 2 vpermb a cycle: 768 MAC |
//! | its flush, every 2, 6, 14 or 42 lookups | vpaddw, vpsrlw, vpaddw | | u4: 6 instructions for 768 MAC, 4 a cycle: 512 |
//! | four tables | 3 vpermb, 2 vpaddb, then 2 vpermb and vpaddb each | | 5.5 cycles |
//!
//! Tile 2 rows x 256 channels: 16 vectors of 16-bit sums, 8 of bytes, 2 tables and an index fill 27 registers. Two
//! lookups between flushes are unrolled, which the compiler does without a spill; more of them are a loop.

use std::arch::x86_64::*;

use super::bytes::Bytes;
use crate::isa;
use crate::kernels::lutgemm::{self, Tables};
use crate::kernels::luttask::{BuildTask, LutTask};
use crate::kernels::piece::features;
use crate::kernels::{LutKernel, Worth};

pub(super) const KERNEL: LutKernel = LutKernel {
    name: "vpermb",
    mr: 2,
    rows: 64,
    tile: |_| [2, 256],
    lanes: 64,
    vectors: 4,
    group: 6,
    share: 1,
    entry: 1,
    // Zen 5, MAC a cycle, popcounts : tables, K about 1024. u4: 137 : 138 for 128 channels, 151 : 172 for 192, 155 : 203
    // for 256, 155 : 268 for 1024; 89 : 132 for one row and 4096 channels. u3: 203 : 186 for 192 channels, 205 : 222
    // for 256, 209 : 294 for 1024. u2: 303 : 242 for 256 channels, 306 : 315 for 1024, which is not worth a third
    // more memory. One bit is one pass. Popcounts of bipolar weights have lost their sums of rows since: 154 for u4.
    worth: Worth {
        once: || [usize::MAX, usize::MAX, 256, 192],
        // Two passes of u2 tie with four of popcounts, those of u4 with byte products. Repeating halves of tables by loads in
        // place of vpermb lost a twentieth on Sapphire Rapids.
        twice: [usize::MAX; 4],
    },
    // u4, 4096 x 4096, popcounts : tables, Zen 5: 148 : 119 for one row, 155 : 208 for two.
    few_rows: || match isa::spare_pipes() {
        true => [0, 0, 1, 1],
        false => [0; 4],
    },
    // 3 x 3, Zen 5, others : tables. u4: 122 : 92 for 64 channels at 56 x 56, whose tables are each read once, 135 : 180 for 128
    // at 28 x 28. u3: 196 : 131, 211 : 250. u2: 326 : 321 for 256 at 14 x 14, 316 : 349 for 512 at 7 x 7. u2 x u4: 74 : 96
    // for 128, 100 : 119 for 256; x u3: 88 : 99 for 256; x u2: 130 : 129.
    worth_of_taps: Worth {
        once: || [usize::MAX, 512, 128, 128],
        twice: [usize::MAX, usize::MAX, 256, 128],
    },
    build,
    run,
};

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
)]
unsafe fn build(task: &BuildTask) {
    // SAFETY: this function carries the features of Sixes; the rest is the contract of the kernel.
    unsafe { lutgemm::build::<Sixes>(task) }
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
)]
unsafe fn run(task: &LutTask) {
    // SAFETY: as above.
    unsafe { lutgemm::run::<Sixes, 2, 4, 2>(task) }
}

/// Tables of 64 sums of 6 activations.
struct Sixes;

features!(
    Sixes,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
);

// SAFETY of every block below: the intrinsics need the features that the callers carry, as `Tables` demands;
// memory is what the trait's method says that the caller vouches for.
impl Tables for Sixes {
    type Bytes = Bytes;
    const GROUP: usize = 6;
    const SHARE: usize = 1;

    #[inline(always)]
    unsafe fn index(shared: Bytes, _: usize) -> Bytes {
        shared
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Bytes {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_loadu_si512(p.cast())) }
    }
    #[inline(always)]
    unsafe fn look_up(table: Bytes, indices: Bytes) -> Bytes {
        // SAFETY: see above the impl.
        unsafe { Bytes(_mm512_permutexvar_epi8(indices.0, table.0)) }
    }
    #[inline(always)]
    unsafe fn build(codes: *const u8, base: u8, tables: *mut u8) {
        // SAFETY: see above the impl.
        unsafe {
            let codes = _mm512_maskz_loadu_epi8((1 << 24) - 1, codes.cast());
            let codes = _mm512_add_epi8(codes, _mm512_set1_epi8(base as i8));
            // Byte 8 t + e: the sum of those of codes 3 t .. 3 t + 3 whose bit is set in e.
            let third = _mm512_loadu_si512(THIRDS.as_ptr().cast());
            let two = _mm512_add_epi8(
                _mm512_maskz_permutexvar_epi8(0xAAAA_AAAA_AAAA_AAAA, third, codes),
                _mm512_maskz_permutexvar_epi8(
                    0xCCCC_CCCC_CCCC_CCCC,
                    _mm512_add_epi8(third, _mm512_set1_epi8(1)),
                    codes,
                ),
            );
            let three = _mm512_maskz_permutexvar_epi8(
                0xF0F0_F0F0_F0F0_F0F0,
                _mm512_add_epi8(third, _mm512_set1_epi8(2)),
                codes,
            );
            let halves = _mm512_add_epi8(two, three);
            // Entry e of a table: entry e % 8 of its lower half plus entry e / 8 of its upper half.
            let low = _mm512_loadu_si512(LOW.as_ptr().cast());
            let high = _mm512_loadu_si512(HIGH.as_ptr().cast());
            for table in 0..4 {
                let at = _mm512_set1_epi8(16 * table as i8);
                let low = _mm512_permutexvar_epi8(_mm512_add_epi8(low, at), halves);
                let high = _mm512_permutexvar_epi8(_mm512_add_epi8(high, at), halves);
                let sums = _mm512_add_epi8(low, high);
                _mm512_storeu_si512(tables.add(64 * table).cast(), sums);
            }
        }
    }
}

/// 3 (i / 8): the first code of each sum of three.
static THIRDS: [u8; 64] = bytes(3, 0, 8);
/// i % 8, and 8 + i / 8: where an entry finds its halves.
static LOW: [u8; 64] = bytes(0, 1, 8);
static HIGH: [u8; 64] = {
    let mut high = bytes(1, 0, 8);
    let mut i = 0;
    while i < 64 {
        high[i] += 8;
        i += 1;
    }
    high
};

/// `a (i / by) + b (i % by)`.
const fn bytes(a: usize, b: usize, by: usize) -> [u8; 64] {
    let mut bytes = [0; 64];
    let mut i = 0;
    while i < 64 {
        bytes[i] = (a * (i / by) + b * (i % by)) as u8;
        i += 1;
    }
    bytes
}
