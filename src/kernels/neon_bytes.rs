//! Multiply-adds of bytes in NEON, for each of its three ISAs.
//!
//! | ISA | step of a tile | instructions for 16 MAC |
//! |---|---|---|
//! | `neon`, fields of 2 and 4 bits | umlal, umlal2 or smlal, smlal2 | 2 |
//! | `neon`, 8 bits | umull, uadalp, umull2, uadalp or the signed ones | 4 |
//! | `neondot` | udot or sdot | 1 |
//! | `neoni8mm`, pairs of rows | usmmla, and zip1, zip2 for all rows | 1/2, and 1/2 for all rows |
//! | `neoni8mm`, one row | usdot | 1 |
//!
//! Three rows of `Long` would need 24 counters: the compiler then moves and spills them, 66 instructions for 192
//! MAC in place of 30 for 128; so it does with six rows of usmmla. All share ld1r, 1 a row, and for each vector of weights a load and up to ushr and and for a field.

use std::arch::aarch64::*;
use std::arch::asm;

use super::bytecount::{self, Dot};
use super::bytegemm::{self, ByteTask};
use super::groupgemm::{self, GroupTask};
use super::lanes::Lanes;
use super::linegemm::{self, LineTask};
use super::neon::Quad;
use super::piece::features;

/// # Safety
/// The contract of the table entry of `neon`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn bytegemm(task: &ByteTask) {
    // SAFETY: this function carries the features of Quad and Long; the rest is the contract.
    unsafe { bytegemm::run::<Quad, Long, 2, 4>(task) }
}

/// # Safety
/// The contract of the table entry of `neondot`.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn bytegemm_dot(task: &ByteTask) {
    // SAFETY: as above; only the row of dotprod holds this function.
    unsafe { bytegemm::run::<Quad, Alike, 5, 4>(task) }
}

/// # Safety
/// The contract of the table entry of `neoni8mm`.
#[target_feature(enable = "neon,dotprod,i8mm")]
pub(super) unsafe fn bytegemm_i8mm(task: &ByteTask) {
    // SAFETY: as above; only the row of i8mm holds this function.
    unsafe { bytegemm::run::<Quad, Mixed, 4, 4>(task) }
}

/// # Safety
/// The contract of the table entry of `neon`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn groupgemm(task: &GroupTask) {
    // SAFETY: as above.
    unsafe { groupgemm::run::<Quad, Long, 2, 4>(task) }
}

/// # Safety
/// The contract of the table entry of `neondot`.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn groupgemm_dot(task: &GroupTask) {
    // SAFETY: as above; only the row of dotprod holds this function.
    unsafe { groupgemm::run::<Quad, Alike, 5, 4>(task) }
}

/// # Safety
/// The contract of the table entry of `neoni8mm`.
#[target_feature(enable = "neon,dotprod,i8mm")]
pub(super) unsafe fn groupgemm_i8mm(task: &GroupTask) {
    // SAFETY: as above; only the row of i8mm holds this function.
    unsafe { groupgemm::run::<Quad, Mixed, 4, 4>(task) }
}

/// Pixels of the line GEMM's tiles of 4, 2 and 1 vectors, for each ISA.
pub(super) const LINES: [usize; 3] = [2, 4, 8];
pub(super) const LINES_DOT: [usize; 3] = [6, 10, 16];
pub(super) const LINES_I8MM: [usize; 3] = [6, 10, 16];

/// # Safety
/// The contract of the table entry of `neon`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn linegemm(task: &LineTask) {
    // SAFETY: as above.
    unsafe {
        match task.vectors {
            4 => linegemm::run::<Quad, Long, true, { LINES[0] }, 4>(task),
            2 => linegemm::run::<Quad, Long, true, { LINES[1] }, 2>(task),
            _ => linegemm::run::<Quad, Long, true, { LINES[2] }, 1>(task),
        }
    }
}

/// # Safety
/// The contract of the table entry of `neondot`.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn linegemm_dot(task: &LineTask) {
    // SAFETY: as above; only the row of dotprod holds this function.
    unsafe {
        match task.vectors {
            4 => linegemm::run::<Quad, Alike, true, { LINES_DOT[0] }, 4>(task),
            2 => linegemm::run::<Quad, Alike, true, { LINES_DOT[1] }, 2>(task),
            _ => linegemm::run::<Quad, Alike, true, { LINES_DOT[2] }, 1>(task),
        }
    }
}

/// # Safety
/// The contract of the table entry of `neoni8mm`.
#[target_feature(enable = "neon,dotprod,i8mm")]
pub(super) unsafe fn linegemm_i8mm(task: &LineTask) {
    // SAFETY: as above; only the row of i8mm holds this function.
    unsafe {
        match task.vectors {
            4 => linegemm::run::<Quad, Mixed, false, { LINES_I8MM[0] }, 4>(task),
            2 => linegemm::run::<Quad, Mixed, false, { LINES_I8MM[1] }, 2>(task),
            _ => linegemm::run::<Quad, Mixed, false, { LINES_I8MM[2] }, 1>(task),
        }
    }
}

/// Products in lanes of 16 bits, the two lower lanes' and the two upper lanes' apart.
struct Long;

features!(Long, "neon");
features!(Alike, "neon,dotprod");
features!(Mixed, "neon,dotprod,i8mm");

// SAFETY of every block below: the intrinsics need NEON, which the callers carry, as `Dot` demands.
impl Dot<Quad> for Long {
    /// Eight lanes of 16 bits each for fields of 2 and 4 bits, four of 32 for 8 bits.
    type Counter = (uint16x8_t, uint16x8_t);
    const COUNTERS: usize = 4;
    fn unpack() -> usize {
        16
    }
    const WIDE: bool = false;

    fn limit(_: bool) -> u32 {
        0
    }
    fn flush(bits: usize) -> usize {
        // A step adds one product to a lane of 16 bits. With unsigned activations that is at most
        // 255 * (2^bits - 1): 85 * 765 = 17 * 3825 = 65025 < 2^16. With signed ones its size is at most
        // 128 * (2^bits - 1): 85 * 384 = 17 * 1920 = 32640 < 2^15.
        match bits {
            2 => 85,
            4 => 17,
            _ => usize::MAX,
        }
    }
    #[inline(always)]
    unsafe fn zero() -> Self::Counter {
        // SAFETY: see above the impl.
        unsafe { (vdupq_n_u16(0), vdupq_n_u16(0)) }
    }
    #[inline(always)]
    unsafe fn dot<const BITS: usize, const SIGNED: bool>(
        (low, high): Self::Counter,
        w: Quad,
        a: Quad,
    ) -> Self::Counter {
        // SAFETY: see above the impl.
        unsafe {
            if SIGNED {
                let (w, a) = (vreinterpretq_s8_u32(w.0), vreinterpretq_s8_u32(a.0));
                let (w_low, a_low) = (vget_low_s8(w), vget_low_s8(a));
                if BITS < 8 {
                    let low = vmlal_s8(vreinterpretq_s16_u16(low), w_low, a_low);
                    let high = vmlal_high_s8(vreinterpretq_s16_u16(high), w, a);
                    return (vreinterpretq_u16_s16(low), vreinterpretq_u16_s16(high));
                }
                // A product fits in 16 bits, two may not: (-128) * (-128) * 2 = 2^15.
                let low = vpadalq_s16(vreinterpretq_s32_u16(low), vmull_s8(w_low, a_low));
                let high = vpadalq_s16(vreinterpretq_s32_u16(high), vmull_high_s8(w, a));
                (vreinterpretq_u16_s32(low), vreinterpretq_u16_s32(high))
            } else {
                let (w, a) = (vreinterpretq_u8_u32(w.0), vreinterpretq_u8_u32(a.0));
                let (w_low, a_low) = (vget_low_u8(w), vget_low_u8(a));
                if BITS < 8 {
                    let low = vmlal_u8(low, w_low, a_low);
                    return (low, vmlal_high_u8(high, w, a));
                }
                // 255 * 255 fits in 16 bits, twice that does not.
                let low = vpadalq_u16(vreinterpretq_u32_u16(low), vmull_u8(w_low, a_low));
                let high = vpadalq_u16(vreinterpretq_u32_u16(high), vmull_high_u8(w, a));
                (vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high))
            }
        }
    }
    #[inline(always)]
    unsafe fn widen<const BITS: usize, const SIGNED: bool>((low, high): Self::Counter) -> Quad {
        // SAFETY: see above the impl.
        unsafe {
            let (low, high) = match (BITS, SIGNED) {
                (8, _) => (vreinterpretq_u32_u16(low), vreinterpretq_u32_u16(high)),
                (_, false) => (vpaddlq_u16(low), vpaddlq_u16(high)),
                (_, true) => (
                    vreinterpretq_u32_s32(vpaddlq_s16(vreinterpretq_s16_u16(low))),
                    vreinterpretq_u32_s32(vpaddlq_s16(vreinterpretq_s16_u16(high))),
                ),
            };
            // Two numbers for each lane, side by side.
            Quad(vpaddq_u32(low, high))
        }
    }
}

/// udot and sdot of dotprod: four products of bytes of one kind into a 32-bit lane.
struct Alike;

impl Dot<Quad> for Alike {
    type Counter = Quad;
    const COUNTERS: usize = 16;
    fn unpack() -> usize {
        64
    }
    const WIDE: bool = true;

    fn limit(signed: bool) -> u32 {
        if signed { 127 } else { 255 }
    }
    fn flush(_: usize) -> usize {
        usize::MAX
    }
    #[inline(always)]
    unsafe fn zero() -> Quad {
        // SAFETY: the callers carry the features of Quad.
        unsafe { Lanes::zero() }
    }
    #[inline(always)]
    unsafe fn begin(start: Quad) -> (Quad, Quad) {
        // SAFETY: as above.
        (start, unsafe { Lanes::zero() })
    }
    #[inline(always)]
    unsafe fn dot<const BITS: usize, const SIGNED: bool>(counter: Quad, w: Quad, a: Quad) -> Quad {
        // SAFETY: the caller carries dotprod.
        Quad(unsafe {
            if SIGNED {
                sdot(counter.0, w.0, a.0)
            } else {
                udot(counter.0, w.0, a.0)
            }
        })
    }
    #[inline(always)]
    unsafe fn widen<const BITS: usize, const SIGNED: bool>(counter: Quad) -> Quad {
        counter
    }
}

/// usdot of i8mm: four products of an unsigned and a signed byte into a 32-bit lane; and usmmla, which does that for two
/// rows of eight bytes and two others.
struct Mixed;

impl Dot<Quad> for Mixed {
    type Counter = Quad;
    const COUNTERS: usize = 16;
    fn unpack() -> usize {
        64
    }
    const WIDE: bool = true;

    fn limit(signed: bool) -> u32 {
        if signed { 255 } else { 127 }
    }
    fn flush(_: usize) -> usize {
        usize::MAX
    }
    #[inline(always)]
    unsafe fn zero() -> Quad {
        // SAFETY: the callers carry the features of Quad.
        unsafe { Lanes::zero() }
    }
    #[inline(always)]
    unsafe fn begin(start: Quad) -> (Quad, Quad) {
        // SAFETY: as above.
        (start, unsafe { Lanes::zero() })
    }
    #[inline(always)]
    unsafe fn dot<const BITS: usize, const SIGNED: bool>(counter: Quad, w: Quad, a: Quad) -> Quad {
        let (u, s) = bytecount::mixed::<_, SIGNED>(w, a);
        // SAFETY: the caller carries i8mm.
        Quad(unsafe { usdot(counter.0, u.0, s.0) })
    }
    const PAIRS: bool = true;
    #[inline(always)]
    unsafe fn two([first, second]: [*const u8; 2]) -> Quad {
        // SAFETY: the callers carry the features of Quad, and vouch for eight bytes each.
        unsafe {
            Quad(vreinterpretq_u32_u8(vcombine_u8(
                vld1_u8(first),
                vld1_u8(second),
            )))
        }
    }
    #[inline(always)]
    unsafe fn pair<const SIGNED: bool>(
        [first, second]: [Quad; 2],
        [even, odd]: [Quad; 2],
        rows: Quad,
    ) -> [Quad; 2] {
        // SAFETY: the caller carries i8mm.
        unsafe {
            // Eight columns of channels 0 and 1, and of 2 and 3.
            let low = Quad(vzip1q_u32(even.0, odd.0));
            let high = Quad(vzip2q_u32(even.0, odd.0));
            let (u, s) = bytecount::mixed::<_, SIGNED>(low, rows);
            let first = Quad(usmmla(first.0, u.0, s.0));
            let (u, s) = bytecount::mixed::<_, SIGNED>(high, rows);
            [first, Quad(usmmla(second.0, u.0, s.0))]
        }
    }
    #[inline(always)]
    unsafe fn part<const SIGNED: bool>([first, second]: [Quad; 2]) -> [Quad; 2] {
        // SAFETY: the callers carry the features of Quad.
        unsafe {
            if SIGNED {
                // Channel by channel, each with both rows.
                let (even, odd) = (vuzp1q_u32(first.0, second.0), vuzp2q_u32(first.0, second.0));
                return [Quad(even), Quad(odd)];
            }
            let (first, second) = (
                vreinterpretq_u64_u32(first.0),
                vreinterpretq_u64_u32(second.0),
            );
            [vzip1q_u64(first, second), vzip2q_u64(first, second)]
                .map(|row| Quad(vreinterpretq_u32_u64(row)))
        }
    }
    #[inline(always)]
    unsafe fn widen<const BITS: usize, const SIGNED: bool>(counter: Quad) -> Quad {
        counter
    }
}

/// An instruction whose intrinsic is not in every compiler that qcore builds with.
macro_rules! dot_instruction {
    ($name:ident, $features:literal) => {
        #[target_feature(enable = $features)]
        #[inline]
        fn $name(mut counter: uint32x4_t, n: uint32x4_t, m: uint32x4_t) -> uint32x4_t {
            // SAFETY: this function carries the feature; one instruction on three registers, no memory.
            unsafe {
                asm!(
                    concat!(stringify!($name), " {0:v}.4s, {1:v}.16b, {2:v}.16b"),
                    inout(vreg) counter,
                    in(vreg) n,
                    in(vreg) m,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            counter
        }
    };
}

dot_instruction!(sdot, "neon,dotprod");
dot_instruction!(udot, "neon,dotprod");
dot_instruction!(usdot, "neon,i8mm");
dot_instruction!(usmmla, "neon,i8mm");
