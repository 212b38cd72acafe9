//! Vectors of 32-bit lanes: what the micro-kernels of products are written in, once for all ISAs.

/// Words ahead of what is read that tiles of few rows ask for: their loads are all that they wait for.
pub(super) const AHEAD: usize = 1024;

/// A vector of 32-bit lanes of some ISA. Every method is `#[inline(always)]` and must only be called from
/// code compiled with that ISA's features.
pub(super) trait Lanes: Copy {
    /// Lanes in a vector.
    const LANES: usize;

    /// All lanes zero.
    unsafe fn zero() -> Self;
    /// `x` in all lanes.
    unsafe fn splat(x: u32) -> Self;
    /// `LANES` words from `p`, of any alignment.
    unsafe fn load(p: *const u32) -> Self;
    /// Asks for the cache line of `p`, which need not be readable. Nothing where nothing is gained.
    #[inline(always)]
    unsafe fn prefetch(_p: *const u32) {}
    /// As [`Lanes::prefetch`], into the second-level cache alone.
    #[inline(always)]
    unsafe fn prefetch_far(_p: *const u32) {}
    /// Lanewise exclusive or.
    unsafe fn xor(self, other: Self) -> Self;
    /// Lanewise and.
    unsafe fn and(self, other: Self) -> Self;
    /// (self xor other) and mask, lanewise.
    unsafe fn xor_and(self, other: Self, mask: Self) -> Self;
    /// This vector, made no earlier than the code says: an order for the compiler, not an instruction.
    ///
    /// For ISAs whose registers are just enough for a tile. Left alone, the compiler begins all rows of a
    /// step before it ends the first, runs out of registers and spills counters.
    #[inline(always)]
    unsafe fn in_order(self) -> Self {
        self
    }
    /// Lanewise shift to the left, bits < 32.
    unsafe fn shl(self, bits: u32) -> Self;
    /// Lanewise shift to the right, bits < 32; of i32 if SIGNED.
    unsafe fn shr<const SIGNED: bool>(self, bits: u32) -> Self;
    /// In each byte, bits `BITS * index` to `BITS * (index + 1) - 1`, moved to the bottom.
    unsafe fn field<const BITS: usize>(self, index: usize) -> Self;
    /// Lanewise sum modulo 2^32.
    unsafe fn add(self, other: Self) -> Self;
    /// Lanewise difference modulo 2^32.
    unsafe fn sub(self, other: Self) -> Self;
    /// Lanewise product modulo 2^32.
    unsafe fn mul(self, other: Self) -> Self;
    /// The lanes as i32 converted to f32 (nearest even), as bits.
    unsafe fn to_f32(self) -> Self;
    /// Lanewise product of f32, rounded.
    unsafe fn mul_f32(self, other: Self) -> Self;
    /// Lanewise sum of f32, rounded.
    unsafe fn add_f32(self, other: Self) -> Self;
    /// The lanes as i32 converted to f32, times `scale`, then plus `bias`, as bits.
    #[inline(always)]
    unsafe fn scale_bias(self, scale: *const f32, bias: *const f32) -> Self {
        // SAFETY: the caller vouches for LANES scales and biases, and for the features.
        unsafe {
            self.to_f32()
                .mul_f32(Self::load(scale.cast()))
                .add_f32(Self::load(bias.cast()))
        }
    }
    /// Bit j: whether lane j is above threshold j, both as i32.
    unsafe fn above(self, thresholds: Self) -> u32;
    /// Writes the first `valid` lanes, 1 <= `valid`; all of them if `valid >= LANES`.
    unsafe fn store(self, p: *mut u32, valid: usize);
}
