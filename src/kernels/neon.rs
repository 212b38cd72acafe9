//! NEON (every AArch64), and what does not change with dotprod and i8mm.
//!
//! | step | instructions | MAC | bound |
//! |---|---|---|---|
//! | bit GEMM | eor or and, cnt, add | 128 a triple | 2 pipes: 85 MAC a cycle; 4 pipes: 171 |
//! | its operands | ld1r, 1 a row; ldr q, 4 a step | | |
//! | its flush, every 31 steps | uaddlp, uadalp | | |
//! | planes | cmtst, and, 3 addp, 32 columns and one plane | | |
//!
//! Tile 4 x 16: 16 byte counters, 4 weights and a row in 32 registers. uadalp in every step would save
//! the flush and runs on half of the pipes of the larger cores. EOR3 and carry-save adders lose to cnt.

use std::arch::aarch64::*;

use super::bitgemm::{self, Count, Task};
use super::lanes::Lanes;
use super::pack::{self, Codes};
use super::piece::features;
use super::quantize::neon as quantize;
use super::{ByteKernel, GroupKernel, Kernels, LineKernel, neon_bytes, neon_lut};
use crate::bits::Encoding;
use crate::isa::Isa;

mod floats;

pub(super) static KERNELS: Kernels = NEON;

/// The same with dotprod: bytes by one instruction.
pub(super) static DOT_KERNELS: Kernels = Kernels {
    isa: Isa::NeonDot,
    lutgemms: &[neon_lut::BESIDE_DOTS],
    bytegemm: Some(ByteKernel {
        name: "udot or sdot",
        mr: 5,
        lanes: 4,
        vectors: 4,
        alike: true,
        worth_passes: 4,
        run: neon_bytes::bytegemm_dot,
    }),
    groupgemm: GroupKernel {
        name: "udot or sdot",
        mr: 5,
        lanes: 4,
        vectors: 4,
        alike: true,
        run: neon_bytes::groupgemm_dot,
    },
    linegemm: LineKernel {
        name: "sdot",
        lanes: 4,
        tiles: neon_bytes::LINES_DOT,
        signed: true,
        worth_passes: usize::MAX,
        worth_channels: 0,
        run: neon_bytes::linegemm_dot,
    },
    ..NEON
};

/// The same with i8mm: bytes of both kinds.
pub(super) static I8MM_KERNELS: Kernels = Kernels {
    isa: Isa::NeonI8mm,
    lutgemms: &[neon_lut::BESIDE_DOTS],
    bytegemm: Some(ByteKernel {
        name: "usmmla, usdot for one row",
        mr: 4,
        lanes: 4,
        vectors: 4,
        alike: false,
        worth_passes: 4,
        run: neon_bytes::bytegemm_i8mm,
    }),
    groupgemm: GroupKernel {
        name: "usmmla, usdot for one row",
        mr: 4,
        lanes: 4,
        vectors: 4,
        alike: false,
        run: neon_bytes::groupgemm_i8mm,
    },
    linegemm: LineKernel {
        name: "usdot",
        lanes: 4,
        tiles: neon_bytes::LINES_I8MM,
        signed: false,
        worth_passes: usize::MAX,
        worth_channels: 0,
        run: neon_bytes::linegemm_i8mm,
    },
    ..NEON
};

// `worth_passes` here and above is predicted from counts of instructions, not measured: a pass is 2048 /
// 62 = 33 MAC an instruction of the compiled loop, bytes are 128 / 30 = 4.3 by umlal and 320 / 41 = 7.8 by a dot
// product. At 8 passes umlal and bits tie, and fewer pipes multiply than count.
const NEON: Kernels = Kernels {
    isa: Isa::Neon,
    bitgemm_name: "cnt, 4 lanes",
    mr: 4,
    nr: 16,
    bitgemm,
    bytegemm: Some(ByteKernel {
        name: "umlal or smlal",
        mr: 2,
        lanes: 4,
        vectors: 4,
        alike: true,
        worth_passes: 8,
        run: neon_bytes::bytegemm,
    }),
    quantize: quantize::ENTRIES,
    floatgemm: floats::KERNEL,
    lutgemms: &[neon_lut::KERNEL],
    groupgemm: GroupKernel {
        name: "umlal or smlal",
        mr: 2,
        lanes: 4,
        vectors: 4,
        alike: true,
        run: neon_bytes::groupgemm,
    },
    linegemm: LineKernel {
        name: "smlal",
        lanes: 4,
        tiles: neon_bytes::LINES,
        signed: true,
        worth_passes: usize::MAX,
        worth_channels: 0,
        run: neon_bytes::linegemm,
    },
    pack,
    requantize,
    row_sums,
    unpack,
    byte_sums,
    rows: super::rows::neon,
};

#[target_feature(enable = "neon")]
unsafe fn bitgemm(task: &Task<'_>) {
    // SAFETY: this function carries the features of Quad; the rest is the contract of the table entry.
    unsafe { bitgemm::run::<Quad, Cnt, 4, 4>(task) }
}

#[target_feature(enable = "neon")]
unsafe fn pack(codes: *const u8, cols: usize, planes: usize, out: *mut u32) {
    // SAFETY: as above.
    unsafe { pack::pack::<Bytes>(codes, cols, planes, out) }
}

#[target_feature(enable = "neon")]
unsafe fn requantize(task: &pack::Requantize, sums: *const i32, out: *mut u32) {
    // SAFETY: as above.
    unsafe { pack::requantize::<Bytes>(task, sums, out) }
}

#[target_feature(enable = "neon")]
unsafe fn row_sums(words: &[u32], encoding: Encoding, sums: &mut [i32]) {
    super::row_sums_with(words, sums, |row| pack::row_sum(row, encoding));
}

#[target_feature(enable = "neon")]
unsafe fn unpack(words: &[u32], row: usize, encoding: Encoding, stride: usize, out: &mut [u8]) {
    // SAFETY: as above.
    unsafe { pack::unpack::<Bytes>(words, row, encoding, stride, out) }
}

#[target_feature(enable = "neon")]
unsafe fn byte_sums(bytes: &[u8], stride: usize, signed: bool, factor: i32, sums: &mut [i32]) {
    super::byte_sums_with(bytes, stride, sums, |row| {
        pack::byte_sum(row, signed, factor)
    });
}

#[derive(Clone, Copy)]
pub(super) struct Quad(pub(super) uint32x4_t);

// SAFETY of every block below: the intrinsics need NEON, which the callers carry, as `Lanes` and `Codes`
// demand; memory is what the trait's method says that the caller vouches for.
impl Lanes for Quad {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vdupq_n_u32(0)) }
    }
    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vdupq_n_u32(x)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const u32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vld1q_u32(p)) }
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(veorq_u32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vandq_u32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn xor_and(self, other: Self, mask: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { self.xor(other).and(mask) }
    }
    #[inline(always)]
    unsafe fn shl(self, bits: u32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vshlq_u32(self.0, vdupq_n_s32(bits as i32))) }
    }
    #[inline(always)]
    unsafe fn shr<const SIGNED: bool>(self, bits: u32) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let bits = vdupq_n_s32(-(bits as i32));
            Quad(match SIGNED {
                true => vreinterpretq_u32_s32(vshlq_s32(vreinterpretq_s32_u32(self.0), bits)),
                false => vshlq_u32(self.0, bits),
            })
        }
    }
    #[inline(always)]
    unsafe fn in_order(self) -> Self {
        let mut v = self.0;
        // SAFETY: no instruction. Not `pure`, so that the compiler keeps these in their order.
        unsafe {
            std::arch::asm!("/* {0:v} */", inout(vreg) v, options(nomem, nostack, preserves_flags));
        }
        Quad(v)
    }
    #[inline(always)]
    unsafe fn field<const BITS: usize>(self, index: usize) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let bytes = vreinterpretq_u8_u32(self.0);
            let down = vshlq_u8(bytes, vdupq_n_s8(-((BITS * index) as i8)));
            Quad(vreinterpretq_u32_u8(vandq_u8(
                down,
                vdupq_n_u8(((1u32 << BITS) - 1) as u8),
            )))
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vaddq_u32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vsubq_u32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vmulq_u32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn to_f32(self) -> Self {
        // SAFETY: see above the impl.
        unsafe { floats(vcvtq_f32_s32(vreinterpretq_s32_u32(self.0))) }
    }
    #[inline(always)]
    unsafe fn mul_f32(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let (a, b) = (
                vreinterpretq_f32_u32(self.0),
                vreinterpretq_f32_u32(other.0),
            );
            floats(vmulq_f32(a, b))
        }
    }
    #[inline(always)]
    unsafe fn add_f32(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let (a, b) = (
                vreinterpretq_f32_u32(self.0),
                vreinterpretq_f32_u32(other.0),
            );
            floats(vaddq_f32(a, b))
        }
    }
    #[inline(always)]
    unsafe fn above(self, thresholds: Self) -> u32 {
        // SAFETY: see above the impl; `bits` holds four words.
        unsafe {
            let (x, t) = (
                vreinterpretq_s32_u32(self.0),
                vreinterpretq_s32_u32(thresholds.0),
            );
            let bits = [1u32, 2, 4, 8];
            vaddvq_u32(vandq_u32(vcgtq_s32(x, t), vld1q_u32(bits.as_ptr())))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, valid: usize) {
        // SAFETY: see above the impl.
        unsafe {
            if valid >= 4 {
                vst1q_u32(p, self.0);
            } else {
                let mut lanes = [0u32; 4];
                vst1q_u32(lanes.as_mut_ptr(), self.0);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, valid);
            }
        }
    }
}

/// Floats as their bits.
#[inline(always)]
unsafe fn floats(x: float32x4_t) -> Quad {
    // SAFETY: a value intrinsic; the callers carry the feature.
    unsafe { Quad(vreinterpretq_u32_f32(x)) }
}

/// cnt: popcounts in bytes.
struct Cnt;

features!(Cnt, "neon");

impl Count<Quad> for Cnt {
    const FLUSH: usize = 31;
    const WAITING: usize = 0;

    #[inline(always)]
    unsafe fn count(counter: Quad, bits: Quad) -> Quad {
        // SAFETY: see above the first impl.
        unsafe {
            let ones = vcntq_u8(vreinterpretq_u8_u32(bits.0));
            Quad(vreinterpretq_u32_u8(vaddq_u8(
                vreinterpretq_u8_u32(counter.0),
                ones,
            )))
        }
    }
    #[inline(always)]
    unsafe fn widen(counter: Quad) -> Quad {
        // SAFETY: see above the first impl.
        unsafe { Quad(vpaddlq_u16(vpaddlq_u8(vreinterpretq_u8_u32(counter.0)))) }
    }
}

/// 32 codes of 8 bits.
#[derive(Clone, Copy)]
struct Bytes(uint8x16_t, uint8x16_t);

impl Codes for Bytes {
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: see above the first impl.
        unsafe { Bytes(vld1q_u8(p), vld1q_u8(p.add(16))) }
    }
    #[inline(always)]
    unsafe fn plane(self, plane: usize) -> u32 {
        // SAFETY: see above the first impl; `weights` holds 16 bytes.
        unsafe {
            let weights = [1u8, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
            let weights = vld1q_u8(weights.as_ptr());
            let bit = vdupq_n_u8(1 << plane);
            let low = vandq_u8(vtstq_u8(self.0, bit), weights);
            let high = vandq_u8(vtstq_u8(self.1, bit), weights);
            // Three pairwise sums leave a byte for each eight codes, in order.
            let sums = vpaddq_u8(low, high);
            let sums = vpaddq_u8(sums, sums);
            let sums = vpaddq_u8(sums, sums);
            vgetq_lane_u32::<0>(vreinterpretq_u32_u8(sums))
        }
    }
}
