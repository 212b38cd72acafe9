//! Products with float activations in 4 lanes.
//!
//! | step | instructions for 4 MAC of a row |
//! |---|---|
//! | look-ups, 1 bit, and 2 bits of few rows | tbl of 4 registers and fadd for 16 and 8 MAC, and for all rows and, mla, and ushr for every second |
//! | tiles | fmla, its activation by ld1r once for a pair of vectors |
//! | tiles, 2 bits | fmul, fmla, fadd for 8 MAC |
//! | direct, 4 bits | as tiles, and for all rows and, ucvtf, fmla, ushr |
//! | direct, 8 bits | as tiles, and for all rows 2 sxtl or uxtl, scvtf |
//!
//! ucvtf takes a fixed point, so that a field needs no shift to its place. Tile 12 x 8: 24 sums, 2 weights and a row; of
//! pairs 8 x 8. tbl takes bytes: mla makes the four of a float of its index. On a Neoverse N1 tbl of 4 registers
//! counts three times, so that pairs of many rows are no faster by it. Look-ups of many rows: 4 x 8, 8 sums and a table.

use std::arch::aarch64::*;

use crate::kernels::FloatKernel;
use crate::kernels::floatgemm::{self, FloatTask, Floats};
use crate::kernels::floatsources::{self, Decoding};
use crate::kernels::floatsums::{self, Sums, Tables};
use crate::kernels::floatweights::Decode;

pub(in crate::kernels) const KERNEL: FloatKernel = FloatKernel {
    name: "fmla, 4 lanes",
    mr: 12,
    lanes: 4,
    vectors: VECTORS,
    direct,
    tiles,
    decode,
    looked: [2, 1],
    table: Quad::TABLE,
    look_up_name: "tbl, fadd",
    tables,
    look_up,
};

const VECTORS: usize = 8;

#[target_feature(enable = "neon")]
unsafe fn direct(task: &FloatTask<'_>) {
    // SAFETY: this function carries the features of Quad; the rest is the contract of the table entry.
    unsafe { floatgemm::direct::<Quad, 8, 4>(task, VECTORS) }
}

#[target_feature(enable = "neon")]
unsafe fn tiles(task: &FloatTask<'_>) {
    // SAFETY: as above.
    unsafe {
        match task.bits {
            2 => floatgemm::pair_tiles::<Quad, 8>(task),
            _ => floatgemm::tiles::<Quad, 12>(task),
        }
    }
}

#[target_feature(enable = "neon")]
unsafe fn decode(task: &Decoding<'_>) {
    // SAFETY: as above.
    unsafe { floatsources::decode::<Quad>(task, VECTORS) }
}

#[target_feature(enable = "neon")]
unsafe fn tables(task: &Tables<'_>) {
    // SAFETY: as above.
    unsafe { floatsums::tables::<Quad, 4>(task) }
}

#[target_feature(enable = "neon")]
unsafe fn look_up(task: &FloatTask<'_>) {
    // SAFETY: as above.
    unsafe { floatsums::look_up::<Quad, 8, 2>(task, VECTORS) }
}

#[derive(Clone, Copy)]
struct Quad(float32x4_t);

// SAFETY of every block below: the intrinsics need NEON, which the callers carry, as `Floats` demands; memory is what
// the trait's method says that the caller vouches for.
impl Floats for Quad {
    const LANES: usize = 4;
    type Codes = uint32x4_t;
    /// Factor and base.
    type Tables = [float32x4_t; 2];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vdupq_n_f32(0.0)) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vld1q_dup_f32(p)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vld1q_f32(p)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: see above the impl.
        unsafe { vst1q_f32(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, valid: usize) -> Self {
        let mut all = [0f32; 4];
        // SAFETY: see above the impl; no more than `valid` floats are read, and no more than 4 written.
        unsafe {
            std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), valid.min(4));
            Quad(vld1q_f32(all.as_ptr()))
        }
    }
    #[inline(always)]
    unsafe fn store_some(self, p: *mut f32, valid: usize) {
        let mut all = [0f32; 4];
        // SAFETY: see above the impl; no more than `valid` floats are written, and no more than 4 read.
        unsafe {
            vst1q_f32(all.as_mut_ptr(), self.0);
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, valid.min(4));
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vaddq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vmulq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vfmaq_f32(self.0, a.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn tables(decode: &Decode) -> [float32x4_t; 2] {
        // SAFETY: see above the impl.
        unsafe { [vdupq_n_f32(decode.factor), vdupq_n_f32(decode.base)] }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u32) -> uint32x4_t {
        // SAFETY: see above the impl.
        unsafe { vld1q_u32(p) }
    }
    #[inline(always)]
    unsafe fn value<const BITS: usize>(
        tables: [float32x4_t; 2],
        codes: uint32x4_t,
        index: usize,
    ) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let mask = ((1u32 << BITS) - 1) << (BITS * index);
            let field = vandq_u32(codes, vdupq_n_u32(mask));
            let field = match BITS * index {
                0 => vcvtq_f32_u32(field),
                1 => vcvtq_n_f32_u32::<1>(field),
                2 => vcvtq_n_f32_u32::<2>(field),
                _ => vcvtq_n_f32_u32::<3>(field),
            };
            Quad(vfmaq_f32(tables[1], field, tables[0]))
        }
    }
    #[inline(always)]
    unsafe fn next(codes: uint32x4_t) -> uint32x4_t {
        // SAFETY: see above the impl.
        unsafe { vshrq_n_u32::<4>(codes) }
    }
    #[inline(always)]
    unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> Self {
        // SAFETY: see above the impl.
        unsafe {
            let bytes = vcreate_u8(u64::from(p.cast::<u32>().read_unaligned()));
            Quad(match SIGNED {
                true => {
                    let halves = vget_low_s16(vmovl_s8(vreinterpret_s8_u8(bytes)));
                    vcvtq_f32_s32(vmovl_s16(halves))
                }
                false => vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes)))),
            })
        }
    }
}

// SAFETY of every block below: as above.
impl Sums for Quad {
    const TABLE: usize = 16;
    type Table = uint8x16x4_t;
    /// Where in a table the bytes of each lane are.
    type Index = uint8x16_t;

    #[inline(always)]
    unsafe fn table(p: *const f32) -> uint8x16x4_t {
        // SAFETY: see above the impl.
        unsafe { vld1q_u8_x4(p.cast()) }
    }
    #[inline(always)]
    unsafe fn index<const HIGH: bool>(codes: uint32x4_t) -> uint8x16_t {
        // SAFETY: see above the impl.
        unsafe {
            let codes = match HIGH {
                true => vshrq_n_u32::<4>(codes),
                false => codes,
            };
            let four = vandq_u32(codes, vdupq_n_u32(15));
            let bytes = vmlaq_u32(vdupq_n_u32(0x0302_0100), four, vdupq_n_u32(0x0404_0404));
            vreinterpretq_u8_u32(bytes)
        }
    }
    #[inline(always)]
    unsafe fn look_up(table: uint8x16x4_t, index: uint8x16_t) -> Self {
        // SAFETY: see above the impl.
        unsafe { Quad(vreinterpretq_f32_u8(vqtbl4q_u8(table, index))) }
    }
}
