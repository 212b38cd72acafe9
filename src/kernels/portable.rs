//! The portable kernels: plain Rust, four lanes in an array. What every other ISA must equal.

use super::bitgemm::{self, Count, Task};
use super::bytecount::{self, Dot};
use super::bytegemm::{self, ByteTask};
use super::groupgemm::{self, GroupTask};
use super::lanes::Lanes;
use super::linegemm::{self, LineTask};
use super::pack::{self, Codes};
use super::piece::features;
use super::quantize::portable as quantize;
use super::{ByteKernel, GroupKernel, Kernels, LineKernel};
use crate::bits::Encoding;
use crate::isa::Isa;

mod floats;

pub(super) static KERNELS: Kernels = Kernels {
    isa: Isa::Portable,
    bitgemm_name: "popcount of words",
    mr: 4,
    nr: 4,
    bitgemm,
    bytegemm: Some(ByteKernel {
        name: "products of bytes",
        mr: 2,
        lanes: 4,
        vectors: 4,
        alike: false,
        // Sapphire Rapids, MAC a cycle: popcounts 15 / passes, products 1.9.
        worth_passes: 8,
        run: bytegemm,
    }),
    groupgemm: GroupKernel {
        name: "products of bytes",
        mr: 2,
        lanes: 4,
        vectors: 4,
        alike: false,
        run: groupgemm,
    },
    linegemm: LineKernel {
        name: "products of bytes",
        lanes: 4,
        tiles: LINES,
        signed: false,
        worth_passes: usize::MAX,
        worth_channels: 0,
        run: linegemm,
    },
    lutgemms: &[],
    quantize: quantize::ENTRIES,
    floatgemm: floats::KERNEL,
    pack,
    requantize,
    row_sums,
    unpack,
    byte_sums,
    rows: super::rows::portable,
};

unsafe fn bitgemm(task: &Task<'_>) {
    // SAFETY: the contract of the table entry; there are no features to ask for.
    unsafe { bitgemm::run::<Words, Popcount, 4, 1>(task) }
}

unsafe fn bytegemm(task: &ByteTask) {
    // SAFETY: as above.
    unsafe { bytegemm::run::<Words, Plain, 2, 4>(task) }
}

unsafe fn groupgemm(task: &GroupTask) {
    // SAFETY: as above.
    unsafe { groupgemm::run::<Words, Plain, 2, 4>(task) }
}

/// Pixels of the line GEMM's tiles of 4, 2 and 1 vectors.
const LINES: [usize; 3] = [2, 4, 4];

unsafe fn linegemm(task: &LineTask) {
    // SAFETY: as above.
    unsafe {
        match task.vectors {
            4 => linegemm::run::<Words, Plain, false, { LINES[0] }, 4>(task),
            2 => linegemm::run::<Words, Plain, false, { LINES[1] }, 2>(task),
            _ => linegemm::run::<Words, Plain, false, { LINES[2] }, 1>(task),
        }
    }
}

unsafe fn pack(codes: *const u8, cols: usize, planes: usize, out: *mut u32) {
    // SAFETY: as above.
    unsafe { pack::pack::<Bytes>(codes, cols, planes, out) }
}

unsafe fn requantize(task: &pack::Requantize, sums: *const i32, out: *mut u32) {
    // SAFETY: as above.
    unsafe { pack::requantize::<Bytes>(task, sums, out) }
}

unsafe fn row_sums(words: &[u32], encoding: Encoding, sums: &mut [i32]) {
    super::row_sums_with(words, sums, |row| pack::row_sum(row, encoding));
}

unsafe fn unpack(words: &[u32], row: usize, encoding: Encoding, stride: usize, out: &mut [u8]) {
    // SAFETY: as above.
    unsafe { pack::unpack::<Bytes>(words, row, encoding, stride, out) }
}

unsafe fn byte_sums(bytes: &[u8], stride: usize, signed: bool, factor: i32, sums: &mut [i32]) {
    super::byte_sums_with(bytes, stride, sums, |row| {
        pack::byte_sum(row, signed, factor)
    });
}

#[derive(Clone, Copy)]
struct Words([u32; 4]);

impl Words {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        Words(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Words {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Words([0; 4])
    }
    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        Words([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const u32) -> Self {
        // SAFETY: the caller vouches for LANES words.
        Words(unsafe { p.cast::<[u32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self.zip(other, |a, b| a ^ b)
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }
    #[inline(always)]
    unsafe fn xor_and(self, other: Self, mask: Self) -> Self {
        Words(std::array::from_fn(|i| {
            (self.0[i] ^ other.0[i]) & mask.0[i]
        }))
    }
    #[inline(always)]
    unsafe fn shl(self, bits: u32) -> Self {
        Words(self.0.map(|x| x << bits))
    }
    #[inline(always)]
    unsafe fn shr<const SIGNED: bool>(self, bits: u32) -> Self {
        Words(self.0.map(|x| match SIGNED {
            true => (x as i32 >> bits) as u32,
            false => x >> bits,
        }))
    }
    #[inline(always)]
    unsafe fn field<const BITS: usize>(self, index: usize) -> Self {
        let mask = 0x0101_0101 * ((1u32 << BITS) - 1);
        Words(self.0.map(|x| x >> (BITS * index) & mask))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_sub)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn to_f32(self) -> Self {
        Words(self.0.map(|x| (x as i32 as f32).to_bits()))
    }
    #[inline(always)]
    unsafe fn mul_f32(self, other: Self) -> Self {
        self.zip(other, |a, b| {
            (f32::from_bits(a) * f32::from_bits(b)).to_bits()
        })
    }
    #[inline(always)]
    unsafe fn add_f32(self, other: Self) -> Self {
        self.zip(other, |a, b| {
            (f32::from_bits(a) + f32::from_bits(b)).to_bits()
        })
    }
    #[inline(always)]
    unsafe fn above(self, thresholds: Self) -> u32 {
        let lanes = self.0.iter().zip(thresholds.0).enumerate();
        lanes.fold(0, |bits, (i, (&x, t))| {
            bits | u32::from(x as i32 > t as i32) << i
        })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, valid: usize) {
        // SAFETY: the caller vouches for `valid` words, and no more than LANES are written.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), p, valid.min(4)) }
    }
}

/// Popcounts of words.
struct Popcount;

features!(Popcount);
features!(Plain);

impl Count<Words> for Popcount {
    const FLUSH: usize = usize::MAX;
    const WAITING: usize = 0;

    #[inline(always)]
    unsafe fn count(counter: Words, bits: Words) -> Words {
        counter.zip(bits, |a, b| a.wrapping_add(b.count_ones()))
    }
    #[inline(always)]
    unsafe fn widen(counter: Words) -> Words {
        counter
    }
}

/// Products as a compiler makes vectors of them.
struct Plain;

/// Products of neighbours, added.
#[inline(always)]
fn madd(a: [i16; 8], b: [i16; 8]) -> [i32; 4] {
    let mut products = [0; 8];
    for (product, (a, b)) in products.iter_mut().zip(a.into_iter().zip(b)) {
        *product = i32::from(a) * i32::from(b);
    }
    std::array::from_fn(|i| products[2 * i] + products[2 * i + 1])
}

impl Dot<Words> for Plain {
    type Counter = Words;
    const COUNTERS: usize = 1;
    fn unpack() -> usize {
        16
    }
    const WIDE: bool = true;

    fn limit(_: bool) -> u32 {
        0
    }
    fn flush(_: usize) -> usize {
        usize::MAX
    }
    #[inline(always)]
    unsafe fn zero() -> Words {
        // SAFETY: the callers carry the features of Words.
        unsafe { Lanes::zero() }
    }
    #[inline(always)]
    unsafe fn begin(start: Words) -> (Words, Words) {
        // SAFETY: as above.
        (start, unsafe { Lanes::zero() })
    }
    #[inline(always)]
    unsafe fn dot<const BITS: usize, const SIGNED: bool>(
        counter: Words,
        w: Words,
        a: Words,
    ) -> Words {
        let (u, s) = bytecount::mixed::<_, SIGNED>(w, a);
        let halves = bytemuck::cast::<[u32; 4], [i16; 8]>;
        // Even bytes and odd ones: products of 16 bits, two of which are added, are what most vector units have.
        let even = madd(
            halves(u.0.map(|u| u & 0x00ff_00ff)),
            halves(s.0).map(|s| s << 8 >> 8),
        );
        let odd = madd(
            halves(u.0.map(|u| u >> 8 & 0x00ff_00ff)),
            halves(s.0).map(|s| s >> 8),
        );
        Words(std::array::from_fn(|lane| {
            counter.0[lane].wrapping_add((even[lane] + odd[lane]) as u32)
        }))
    }
    #[inline(always)]
    unsafe fn widen<const BITS: usize, const SIGNED: bool>(counter: Words) -> Words {
        counter
    }
}

#[derive(Clone, Copy)]
struct Bytes([u8; 32]);

impl Codes for Bytes {
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: the caller vouches for 32 bytes.
        Bytes(unsafe { p.cast::<[u8; 32]>().read() })
    }
    #[inline(always)]
    unsafe fn plane(self, plane: usize) -> u32 {
        let bits = self.0.iter().enumerate();
        bits.fold(0, |word, (i, &code)| {
            word | u32::from(code >> plane & 1) << i
        })
    }
}
