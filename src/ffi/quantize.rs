//! C: floats into packed codes.

use half::slice::HalfBitsSliceExt;

use super::enter;
use super::pack::check_words;
use super::pointer::{Growing, Plain, init, options, slice, slice_mut};
use super::pool::{par, qc_pool};
use super::status::Answer;
use crate::bits::{Encoding, PackedMut};
use crate::error::Error;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::ops::{Par, quantize, quantize_bytes};
use crate::quant::{ActQuantizer, Float, Linear, QuantRelu, Quantizer, Rounding};
use crate::shape::elements;

/// Quantizer: QC_BIPOLAR codes, +1 for x >= 0 (so for 0.0 and -0.0), -1 for x < 0 and for NaN.
pub const QC_SIGN: i32 = 1;
/// Quantizer: unsigned codes of `bits` bits, for levels alpha * {0, .., 2^bits - 1}; NaN has code 0.
pub const QC_RELU: i32 = 2;
/// Quantizer: signed codes of `bits` bits, 2 to 8, for alpha * {-max, .., max}, max = 2^(bits-1) - 1: the nearest
/// to x * (1 / alpha), ties to even; NaN has code 0.
pub const QC_SYMMETRIC: i32 = 3;
/// Quantizer: unsigned codes of `bits` bits for alpha * (code - zero_point): the nearest to x * (1 / alpha), ties to
/// even, plus the zero point; NaN has the code of 0.
pub const QC_AFFINE: i32 = 4;
/// Quantizer: as `QC_AFFINE`, in two's complement.
pub const QC_AFFINE_SIGNED: i32 = 5;

/// Rounding: code c for (c - 1) alpha < x <= c alpha.
pub const QC_CEIL: i32 = 1;
/// Rounding: code c for (c - 1/2) alpha <= x < (c + 1/2) alpha, the nearest level, ties upwards.
pub const QC_NEAREST: i32 = 2;

/// How floats become codes. Fill it with `qc_quantizer_init` first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_quantizer {
    /// `sizeof(qc_quantizer)`.
    pub struct_size: usize,
    /// `QC_SIGN`, which takes no notice of the rest, `QC_RELU`, `QC_SYMMETRIC`, `QC_AFFINE` or
    /// `QC_AFFINE_SIGNED`. Default: `QC_SIGN`.
    pub kind: i32,
    /// Bits of a code, 1 to 8. The encoding is then QC_U1 + bits - 1 or, if signed, QC_S1 + bits - 1. Default: 1.
    pub bits: i32,
    /// Step between levels, 1e-30 to 1e30. Default: 1.
    pub alpha: f32,
    /// `QC_CEIL` or `QC_NEAREST`, of `QC_RELU` alone. Default: `QC_CEIL`.
    pub rounding: i32,
    /// The integer that stands for 0, of the affine kinds alone. Default: 0.
    pub zero_point: i32,
    /// Zero.
    pub reserved: i32,
}

// SAFETY: repr(C), the size first, then six fields of four bytes: no padding; integers and a float.
unsafe impl Growing for qc_quantizer {}
const _: () = assert!(size_of::<qc_quantizer>() == size_of::<usize>() + 6 * 4);

impl qc_quantizer {
    pub(super) fn quantizer(&self) -> Answer<Quantizer> {
        if self.reserved != 0 {
            return Err(Error::argument("reserved", self.reserved, "0").into());
        }
        if self.kind == QC_SIGN {
            return Ok(ActQuantizer::Sign.into());
        }
        if !(QC_RELU..=QC_AFFINE_SIGNED).contains(&self.kind) {
            let expected = "QC_SIGN, QC_RELU, QC_SYMMETRIC, QC_AFFINE or QC_AFFINE_SIGNED";
            return Err(Error::argument("kind", self.kind, expected).into());
        }
        let bits =
            usize::try_from(self.bits).map_err(|_| Error::argument("bits", self.bits, "1 to 8"))?;
        let linear = match self.kind {
            QC_RELU => return self.relu(bits),
            QC_SYMMETRIC => Linear::symmetric(bits, self.alpha)?,
            QC_AFFINE => Linear::affine(Encoding::unsigned(bits)?, self.alpha, self.zero_point)?,
            _ => Linear::affine(Encoding::signed(bits)?, self.alpha, self.zero_point)?,
        };
        Ok(linear.into())
    }

    fn relu(&self, bits: usize) -> Answer<Quantizer> {
        let rounding = match self.rounding {
            QC_CEIL => Rounding::Ceil,
            QC_NEAREST => Rounding::Nearest,
            other => {
                return Err(Error::argument("rounding", other, "QC_CEIL or QC_NEAREST").into());
            }
        };
        Ok(QuantRelu::new(bits, self.alpha, rounding)?.into())
    }
}

/// Fills `*quantizer` with the defaults. `struct_size` is `sizeof *quantizer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantizer_init(
    struct_size: usize,
    quantizer: *mut qc_quantizer,
) -> i32 {
    let defaults = qc_quantizer {
        struct_size,
        kind: QC_SIGN,
        bits: 1,
        alpha: 1.0,
        rounding: QC_CEIL,
        zero_point: 0,
        reserved: 0,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("quantizer", quantizer, struct_size, defaults) })
}

/// Quantizes `x`, `[rows, cols]` row-major, into packed `words`.
///
/// `n_words` is what `qc_packed_words` says for the quantizer's encoding. Rows are shared out to the threads of `pool`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_f32(
    x: *const f32,
    rows: usize,
    cols: usize,
    quantizer: *const qc_quantizer,
    words: *mut u32,
    n_words: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task(rows, cols, quantizer, pool)?.planes(x, as_they_are, words, n_words) })
}

/// As `qc_quantize_f32`, for IEEE 754 halves given as their 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_f16(
    x: *const u16,
    rows: usize,
    cols: usize,
    quantizer: *const qc_quantizer,
    words: *mut u32,
    n_words: usize,
    pool: *const qc_pool,
) -> i32 {
    let halves = <[u16]>::reinterpret_cast::<half::f16>;
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task(rows, cols, quantizer, pool)?.planes(x, halves, words, n_words) })
}

/// As `qc_quantize_f32`, for bfloat16 given as their 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_bf16(
    x: *const u16,
    rows: usize,
    cols: usize,
    quantizer: *const qc_quantizer,
    words: *mut u32,
    n_words: usize,
    pool: *const qc_pool,
) -> i32 {
    let halves = <[u16]>::reinterpret_cast::<half::bf16>;
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task(rows, cols, quantizer, pool)?.planes(x, halves, words, n_words) })
}

/// Quantizes `x`, `[rows, cols]` row-major, into a byte each: unsigned codes as they are, signed ones as two's
/// complement of eight bits.
///
/// `n_bytes` is rows x cols. `QC_SIGN` is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_bytes_f32(
    x: *const f32,
    rows: usize,
    cols: usize,
    quantizer: *const qc_quantizer,
    bytes: *mut u8,
    n_bytes: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task(rows, cols, quantizer, pool)?.bytes(x, as_they_are, bytes, n_bytes) })
}

/// As `qc_quantize_bytes_f32`, for IEEE 754 halves given as their 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_bytes_f16(
    x: *const u16,
    rows: usize,
    cols: usize,
    quantizer: *const qc_quantizer,
    bytes: *mut u8,
    n_bytes: usize,
    pool: *const qc_pool,
) -> i32 {
    let halves = <[u16]>::reinterpret_cast::<half::f16>;
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task(rows, cols, quantizer, pool)?.bytes(x, halves, bytes, n_bytes) })
}

/// As `qc_quantize_bytes_f32`, for bfloat16 given as their 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_bytes_bf16(
    x: *const u16,
    rows: usize,
    cols: usize,
    quantizer: *const qc_quantizer,
    bytes: *mut u8,
    n_bytes: usize,
    pool: *const qc_pool,
) -> i32 {
    let halves = <[u16]>::reinterpret_cast::<half::bf16>;
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task(rows, cols, quantizer, pool)?.bytes(x, halves, bytes, n_bytes) })
}

pub(super) fn as_they_are(x: &[f32]) -> &[f32] {
    x
}

/// What the functions above have in common.
struct Task<'a> {
    rows: usize,
    cols: usize,
    quantizer: Quantizer,
    par: Par<'a>,
}

/// # Safety
///
/// The caller's promises about `quantizer` and `pool`, which lives longer than `'a`.
unsafe fn task<'a>(
    rows: usize,
    cols: usize,
    quantizer: *const qc_quantizer,
    pool: *const qc_pool,
) -> Answer<Task<'a>> {
    // SAFETY: the contract is this function's.
    let (quantizer, par) = unsafe { (options("quantizer", quantizer)?.quantizer()?, par(pool)?) };
    Ok(Task {
        rows,
        cols,
        quantizer,
        par,
    })
}

impl Task<'_> {
    /// # Safety
    ///
    /// The caller's promises about `x` and `words`.
    unsafe fn planes<T: Plain, F: Float>(
        self,
        x: *const T,
        floats: impl Fn(&[T]) -> &[F],
        words: *mut u32,
        n_words: usize,
    ) -> Answer<()> {
        let (rows, cols, encoding) = (self.rows, self.cols, self.quantizer.encoding());
        let len = elements("rows x cols", &[rows, cols])?;
        // SAFETY: the contract is this function's.
        let (x, words) = unsafe { (slice("x", x, len)?, slice_mut("words", words, n_words)?) };
        check_words("n_words", n_words, encoding, "rows x cols", rows, cols)?;
        let out = PackedMut::new(encoding, rows, cols, words)?;
        let kernels = Kernels::of(Isa::chosen()?)?;
        Ok(quantize(kernels, floats(x), self.quantizer, out, self.par)?)
    }

    /// # Safety
    ///
    /// The caller's promises about `x` and `bytes`.
    unsafe fn bytes<T: Plain, F: Float>(
        self,
        x: *const T,
        floats: impl Fn(&[T]) -> &[F],
        bytes: *mut u8,
        n_bytes: usize,
    ) -> Answer<()> {
        let len = elements("rows x cols", &[self.rows, self.cols])?;
        // SAFETY: the contract is this function's.
        let (x, bytes) = unsafe { (slice("x", x, len)?, slice_mut("bytes", bytes, n_bytes)?) };
        check_bytes(n_bytes, len)?;
        let kernels = Kernels::of(Isa::chosen()?)?;
        Ok(quantize_bytes(
            kernels,
            floats(x),
            self.quantizer,
            bytes,
            self.par,
        )?)
    }
}

/// Errors unless there is a byte for each of `len` floats.
pub(super) fn check_bytes(n_bytes: usize, len: usize) -> Answer<()> {
    if n_bytes != len {
        let expected = format!("{len}, rows x cols");
        return Err(Error::argument("n_bytes", n_bytes, expected).into());
    }
    Ok(())
}
