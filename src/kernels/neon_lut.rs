//! Tables of 16 sums by tbl of one register.
//!
//! | step | instructions | MAC | bound |
//! |---|---|---|---|
//! | look-up | tbl, add | 64 a pair | 2 pipes: 64 MAC a cycle; 4 pipes: 128 |
//! | its flush, every 4, 9, 21 or 63 lookups | add, usra | | u4: 9 instructions for 256 MAC: 57 and 114 |
//! | four tables | 12 tbl, 6 add | | |
//!
//! Tile 2 rows x 64 channels where flushes are frequent: 16 vectors of 16-bit sums, 8 of bytes, 2 tables and an index.
//! Else 4 rows, 16 vectors of bytes, and the wider sums wait in memory. Tables of 64 bytes, four registers each, are
//! slow on most cores.

use std::arch::aarch64::*;

use super::lanes::Lanes;
use super::lutgemm::{self, ByteLanes, Tables};
use super::luttask::{BuildTask, LutTask};
use super::neon::Quad;
use super::piece::features;
use super::{LutKernel, Worth};

/// Lookups a byte up to which sums of 16 bits stay in registers: those of activations of 4 and 3 bits.
const FEW: usize = 4;
const SOME: usize = 9;

pub(super) const KERNEL: LutKernel = LutKernel {
    name: "tbl",
    mr: 4,
    rows: 64,
    tile: |lookups| [if lookups <= SOME { 2 } else { 4 }, 64],
    lanes: 16,
    vectors: 4,
    group: 4,
    share: 2,
    entry: 1,
    // Predicted from counts of instructions, not measured. MAC an instruction: popcounts 43 a pass, tables 32 for 2
    // bits and 28 for 3 and 4. Tables of 16 activations take about 26 instructions and as many to make them
    // bytes: u4 gains 0.9 a channel on that, u3 0.6 and u2 0.25. A gain of a tenth and more is left from here on.
    worth: Worth {
        once: || [usize::MAX, 384, 192, 128],
        // Predicted likewise: 12 MAC an instruction for two passes of 2 bits and 10 for those of 4, where popcounts have 8
        // and 4, umlal 4.
        twice: [usize::MAX, 384, 192, 128],
    },
    few_rows: || [0; 4],
    // Likewise, of tables that cost a sixth.
    worth_of_taps: Worth {
        once: || [usize::MAX, 128, 64, 64],
        twice: [usize::MAX, 128, 64, 64],
    },
    build,
    run,
};

/// Beside byte products in one instruction, tables are for weights of one bit alone.
pub(super) const BESIDE_DOTS: LutKernel = LutKernel {
    worth: Worth {
        twice: [usize::MAX; 4],
        ..KERNEL.worth
    },
    worth_of_taps: Worth {
        twice: [usize::MAX; 4],
        ..KERNEL.worth_of_taps
    },
    ..KERNEL
};

#[target_feature(enable = "neon")]
unsafe fn build(task: &BuildTask) {
    // SAFETY: this function carries the features of Sixteen; the rest is the contract of the kernel.
    unsafe { lutgemm::build::<Sixteen>(task) }
}

#[target_feature(enable = "neon")]
unsafe fn run(task: &LutTask) {
    // SAFETY: as above.
    unsafe {
        if task.flush <= SOME {
            lutgemm::run::<Sixteen, 2, 4, FEW>(task)
        } else {
            lutgemm::run::<Sixteen, 4, 4, { usize::MAX }>(task)
        }
    }
}

/// 16 bytes.
#[derive(Clone, Copy)]
struct Sixteen(uint8x16_t);

// SAFETY of every block below: the intrinsics need NEON, which the callers carry, as `ByteLanes` and `Tables` demand; memory
// is what the trait's method says that the caller vouches for.
impl ByteLanes for Sixteen {
    type Sums = Quad;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above the impl.
        unsafe { Sixteen(vdupq_n_u8(0)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above the impl.
        unsafe { Sixteen(vld1q_u8(p)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        // SAFETY: see above the impl.
        unsafe { vst1q_u8(p, self.0) }
    }
    #[inline(always)]
    unsafe fn in_order(self) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let words = Quad(vreinterpretq_u32_u8(self.0)).in_order();
            Sixteen(vreinterpretq_u8_u32(words.0))
        }
    }
    #[inline(always)]
    unsafe fn add_bytes(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Sixteen(vaddq_u8(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn add_halves(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { of(vaddq_u16(halves(self), halves(other))) }
    }
    #[inline(always)]
    unsafe fn add_upper(self, bytes: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { of(vsraq_n_u16::<8>(halves(self), halves(bytes))) }
    }
    #[inline(always)]
    unsafe fn less_upper(self, upper: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { of(vsubq_u16(halves(self), vshlq_n_u16::<8>(halves(upper)))) }
    }
    #[inline(always)]
    unsafe fn widen(self, half: usize) -> Quad {
        // SAFETY: see above the impl.
        unsafe {
            Quad(match half {
                0 => vmovl_u16(vget_low_u16(halves(self))),
                _ => vmovl_high_u16(halves(self)),
            })
        }
    }
}

features!(Sixteen, "neon");

// SAFETY: as above.
impl Tables for Sixteen {
    type Bytes = Self;
    const GROUP: usize = 4;
    const SHARE: usize = 2;

    #[inline(always)]
    unsafe fn index(shared: Self, i: usize) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            Sixteen(match i {
                0 => vandq_u8(shared.0, vdupq_n_u8(15)),
                _ => vshrq_n_u8::<4>(shared.0),
            })
        }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above the impl.
        unsafe { ByteLanes::load(p) }
    }
    #[inline(always)]
    unsafe fn look_up(table: Self, indices: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Sixteen(vqtbl1q_u8(table.0, indices.0)) }
    }
    #[inline(always)]
    unsafe fn build(codes: *const u8, base: u8, tables: *mut u8) {
        // SAFETY: see above the impl.
        unsafe {
            let codes = vaddq_u8(vld1q_u8(codes), vdupq_n_u8(base));
            // Of each pair of codes four sums, 0, first, second and both; tbl gives 0 for an index that is too large.
            let first = vld1q_u8(FIRST.as_ptr());
            let second = vld1q_u8(SECOND.as_ptr());
            let low = vld1q_u8(LOW.as_ptr());
            let high = vld1q_u8(HIGH.as_ptr());
            for two in 0..2 {
                let at = vdupq_n_u8(8 * two as u8);
                let pairs = vaddq_u8(
                    vqtbl1q_u8(codes, vaddq_u8(first, at)),
                    vqtbl1q_u8(codes, vaddq_u8(second, at)),
                );
                // Entry e of a table: entry e % 4 of its lower pair plus entry e / 4 of its upper pair.
                for table in 0..2 {
                    let at = vdupq_n_u8(8 * table as u8);
                    let sums = vaddq_u8(
                        vqtbl1q_u8(pairs, vaddq_u8(low, at)),
                        vqtbl1q_u8(pairs, vaddq_u8(high, at)),
                    );
                    vst1q_u8(tables.add(16 * (2 * two + table)), sums);
                }
            }
        }
    }
}

/// No code's index, even 8 larger.
const NONE: u8 = 128;

/// Which code each of four sums of four pairs has for its first and its second.
#[rustfmt::skip]
static FIRST: [u8; 16] = [NONE, 0, NONE, 0, NONE, 2, NONE, 2, NONE, 4, NONE, 4, NONE, 6, NONE, 6];
#[rustfmt::skip]
static SECOND: [u8; 16] = [NONE, NONE, 1, 1, NONE, NONE, 3, 3, NONE, NONE, 5, 5, NONE, NONE, 7, 7];

/// e % 4, and 4 + e / 4: where an entry finds its halves.
static LOW: [u8; 16] = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3];
static HIGH: [u8; 16] = [4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7];

#[inline(always)]
unsafe fn halves(x: Sixteen) -> uint16x8_t {
    // SAFETY: NEON, as above the impl.
    unsafe { vreinterpretq_u16_u8(x.0) }
}

#[inline(always)]
unsafe fn of(halves: uint16x8_t) -> Sixteen {
    // SAFETY: NEON, as above the impl.
    unsafe { Sixteen(vreinterpretq_u8_u16(halves)) }
}
