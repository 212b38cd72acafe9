//! Products with float activations in plain Rust, four lanes in an array: the meaning of all others.
//!
//! Where the target has no fused multiply-add, `f32::mul_add` calls a function that computes it: slow, and right.

use crate::kernels::FloatKernel;
use crate::kernels::floatgemm::{self, FloatTask, Floats};
use crate::kernels::floatsources::{self, Decoding};
use crate::kernels::floatsums::{self, Sums, Tables};
use crate::kernels::floatweights::Decode;

pub(in crate::kernels) const KERNEL: FloatKernel = FloatKernel {
    name: "fused multiply-adds of floats",
    mr: 4,
    lanes: 4,
    vectors: VECTORS,
    direct,
    tiles,
    decode,
    looked: [2, 2],
    table: Four::TABLE,
    look_up_name: "additions",
    tables,
    look_up,
};

const VECTORS: usize = 2;

unsafe fn direct(task: &FloatTask<'_>) {
    // SAFETY: the contract of the table entry; there are no features to ask for.
    unsafe { floatgemm::direct::<Four, 1, 1>(task, VECTORS) }
}

unsafe fn tiles(task: &FloatTask<'_>) {
    // SAFETY: as above.
    unsafe { floatgemm::tiles::<Four, 4>(task) }
}

unsafe fn decode(task: &Decoding<'_>) {
    // SAFETY: as above.
    unsafe { floatsources::decode::<Four>(task, VECTORS) }
}

unsafe fn tables(task: &Tables<'_>) {
    // SAFETY: as above.
    unsafe { floatsums::tables::<Four, 4>(task) }
}

unsafe fn look_up(task: &FloatTask<'_>) {
    // SAFETY: as above.
    unsafe { floatsums::look_up::<Four, 1, 1>(task, VECTORS) }
}

#[derive(Clone, Copy)]
struct Four([f32; 4]);

impl Floats for Four {
    const LANES: usize = 4;
    type Codes = [u32; 4];
    /// Factor and base.
    type Tables = [f32; 2];

    #[inline(always)]
    unsafe fn zero() -> Self {
        Four([0.0; 4])
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: the caller vouches for a float.
        Four([unsafe { *p }; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller vouches for LANES floats.
        Four(unsafe { p.cast::<[f32; 4]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller vouches for LANES floats.
        unsafe { p.cast::<[f32; 4]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, valid: usize) -> Self {
        let mut all = [0f32; 4];
        // SAFETY: the caller vouches for `valid` floats, and no more than LANES are written.
        unsafe { std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), valid.min(4)) };
        Four(all)
    }
    #[inline(always)]
    unsafe fn store_some(self, p: *mut f32, valid: usize) {
        // SAFETY: the caller vouches for `valid` floats, and no more than LANES are read.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), p, valid.min(4)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Four(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], self.0[i])))
    }
    #[inline(always)]
    unsafe fn tables(decode: &Decode) -> [f32; 2] {
        [decode.factor, decode.base]
    }
    #[inline(always)]
    unsafe fn codes(p: *const u32) -> [u32; 4] {
        // SAFETY: the caller vouches for LANES words.
        unsafe { p.cast::<[u32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn value<const BITS: usize>(
        [factor, base]: [f32; 2],
        codes: [u32; 4],
        index: usize,
    ) -> Self {
        // Small integers: exact.
        Four(codes.map(|c| (c >> (BITS * index) & ((1 << BITS) - 1)) as f32 * factor + base))
    }
    #[inline(always)]
    unsafe fn next(codes: [u32; 4]) -> [u32; 4] {
        codes.map(|c| c >> 4)
    }
    #[inline(always)]
    unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> Self {
        // SAFETY: the caller vouches for LANES bytes.
        let bytes = unsafe { p.cast::<[u8; 4]>().read() };
        Four(bytes.map(|b| match SIGNED {
            true => f32::from(b as i8),
            false => f32::from(b),
        }))
    }
}

impl Sums for Four {
    const TABLE: usize = 16;
    type Table = *const f32;
    type Index = [u32; 4];

    #[inline(always)]
    unsafe fn table(p: *const f32) -> *const f32 {
        p
    }
    #[inline(always)]
    unsafe fn index<const HIGH: bool>(codes: [u32; 4]) -> [u32; 4] {
        codes.map(|c| if HIGH { c >> 4 & 15 } else { c & 15 })
    }
    #[inline(always)]
    unsafe fn look_up(table: *const f32, index: [u32; 4]) -> Self {
        // SAFETY: the caller vouches for a table of 16 floats, and an index is below 16.
        Four(index.map(|i| unsafe { *table.add(i as usize) }))
    }
}
