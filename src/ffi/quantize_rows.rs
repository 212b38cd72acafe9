//! C: rows of floats into codes by a scale of their own each.

use half::slice::HalfBitsSliceExt;

use super::enter;
use super::pack::{check_words, encoding as encoding_of};
use super::pointer::{Plain, slice, slice_mut};
use super::pool::{par, qc_pool};
use super::quantize::{QC_AFFINE, QC_SYMMETRIC, as_they_are, check_bytes};
use super::status::{Answer, Failure};
use crate::bits::{Encoding, PackedMut};
use crate::error::Error;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::ops::{Par, quantize_rows, quantize_rows_bytes};
use crate::quant::{Float, RowQuantizer};
use crate::shape::elements;

/// Quantizes each row of `x`, `[rows, cols]` row-major, by a scale made of the row, into packed `words`.
///
/// `encoding` is signed for `QC_SYMMETRIC` (2 to 8 bits), signed or unsigned for `QC_AFFINE`; `n_words` is what
/// `qc_packed_words` says for it. With lo and hi the least and greatest of 0 and the finite values of a row, the
/// scale is max(-lo, hi) / (2^(bits-1) - 1) or (hi - lo) / (2^bits - 1), and never below the smallest normal
/// float: that is what a row of zeros gets. The zero point of the affine kind is the integer nearest to where 0
/// falls. Infinities get the outermost codes, NaN that of 0. `scales` takes `rows` floats, `zero_points` `rows`
/// integers, or none if it is NULL, which `QC_AFFINE` does not allow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_rows_f32(
    x: *const f32,
    rows: usize,
    cols: usize,
    kind: i32,
    encoding: i32,
    words: *mut u32,
    n_words: usize,
    scales: *mut f32,
    zero_points: *mut i32,
    pool: *const qc_pool,
) -> i32 {
    let task = Rows {
        rows,
        cols,
        kind,
        encoding,
        scales,
        zero_points,
        pool,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task.planes(x, as_they_are, words, n_words) })
}

/// As `qc_quantize_rows_f32`, for IEEE 754 halves given as their 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_rows_f16(
    x: *const u16,
    rows: usize,
    cols: usize,
    kind: i32,
    encoding: i32,
    words: *mut u32,
    n_words: usize,
    scales: *mut f32,
    zero_points: *mut i32,
    pool: *const qc_pool,
) -> i32 {
    let task = Rows {
        rows,
        cols,
        kind,
        encoding,
        scales,
        zero_points,
        pool,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task.planes(x, <[u16]>::reinterpret_cast::<half::f16>, words, n_words) })
}

/// As `qc_quantize_rows_f32`, for bfloat16 given as their 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_rows_bf16(
    x: *const u16,
    rows: usize,
    cols: usize,
    kind: i32,
    encoding: i32,
    words: *mut u32,
    n_words: usize,
    scales: *mut f32,
    zero_points: *mut i32,
    pool: *const qc_pool,
) -> i32 {
    let task = Rows {
        rows,
        cols,
        kind,
        encoding,
        scales,
        zero_points,
        pool,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task.planes(x, <[u16]>::reinterpret_cast::<half::bf16>, words, n_words) })
}

/// As `qc_quantize_rows_f32`, into a byte each: unsigned codes as they are, signed ones as two's complement of
/// eight bits. `n_bytes` is rows x cols.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_rows_bytes_f32(
    x: *const f32,
    rows: usize,
    cols: usize,
    kind: i32,
    encoding: i32,
    bytes: *mut u8,
    n_bytes: usize,
    scales: *mut f32,
    zero_points: *mut i32,
    pool: *const qc_pool,
) -> i32 {
    let task = Rows {
        rows,
        cols,
        kind,
        encoding,
        scales,
        zero_points,
        pool,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task.bytes(x, as_they_are, bytes, n_bytes) })
}

/// As `qc_quantize_rows_bytes_f32`, for IEEE 754 halves given as their 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_rows_bytes_f16(
    x: *const u16,
    rows: usize,
    cols: usize,
    kind: i32,
    encoding: i32,
    bytes: *mut u8,
    n_bytes: usize,
    scales: *mut f32,
    zero_points: *mut i32,
    pool: *const qc_pool,
) -> i32 {
    let task = Rows {
        rows,
        cols,
        kind,
        encoding,
        scales,
        zero_points,
        pool,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task.bytes(x, <[u16]>::reinterpret_cast::<half::f16>, bytes, n_bytes) })
}

/// As `qc_quantize_rows_bytes_f32`, for bfloat16 given as their 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_rows_bytes_bf16(
    x: *const u16,
    rows: usize,
    cols: usize,
    kind: i32,
    encoding: i32,
    bytes: *mut u8,
    n_bytes: usize,
    scales: *mut f32,
    zero_points: *mut i32,
    pool: *const qc_pool,
) -> i32 {
    let task = Rows {
        rows,
        cols,
        kind,
        encoding,
        scales,
        zero_points,
        pool,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { task.bytes(x, <[u16]>::reinterpret_cast::<half::bf16>, bytes, n_bytes) })
}

/// What the functions above have in common.
struct Rows {
    rows: usize,
    cols: usize,
    kind: i32,
    encoding: i32,
    scales: *mut f32,
    zero_points: *mut i32,
    pool: *const qc_pool,
}

/// What is written beside the codes.
struct Made<'a> {
    quantizer: RowQuantizer,
    scales: &'a mut [f32],
    zero_points: &'a mut [i32],
    par: Par<'a>,
}

impl Rows {
    /// # Safety
    ///
    /// The caller's promises about all pointers.
    unsafe fn planes<T: Plain, F: Float>(
        &self,
        x: *const T,
        floats: impl Fn(&[T]) -> &[F],
        words: *mut u32,
        n_words: usize,
    ) -> Answer<()> {
        let len = elements("rows x cols", &[self.rows, self.cols])?;
        // SAFETY: the contract is this function's.
        let (x, words, made) = unsafe {
            let x = slice("x", x, len)?;
            (x, slice_mut("words", words, n_words)?, self.made()?)
        };
        let encoding = made.quantizer.encoding();
        check_words(
            "n_words",
            n_words,
            encoding,
            "rows x cols",
            self.rows,
            self.cols,
        )?;
        let out = PackedMut::new(encoding, self.rows, self.cols, words)?;
        let kernels = Kernels::of(Isa::chosen()?)?;
        let (scales, zeros) = (made.scales, made.zero_points);
        quantize_rows(
            kernels,
            floats(x),
            &made.quantizer,
            out,
            scales,
            zeros,
            made.par,
        )?;
        Ok(())
    }

    /// # Safety
    ///
    /// The caller's promises about all pointers.
    unsafe fn bytes<T: Plain, F: Float>(
        &self,
        x: *const T,
        floats: impl Fn(&[T]) -> &[F],
        bytes: *mut u8,
        n_bytes: usize,
    ) -> Answer<()> {
        let len = elements("rows x cols", &[self.rows, self.cols])?;
        // SAFETY: the contract is this function's.
        let (x, bytes, made) = unsafe {
            let x = slice("x", x, len)?;
            (x, slice_mut("bytes", bytes, n_bytes)?, self.made()?)
        };
        check_bytes(n_bytes, len)?;
        let kernels = Kernels::of(Isa::chosen()?)?;
        let (scales, zeros) = (made.scales, made.zero_points);
        quantize_rows_bytes(
            kernels,
            floats(x),
            &made.quantizer,
            bytes,
            scales,
            zeros,
            made.par,
        )?;
        Ok(())
    }

    /// # Safety
    ///
    /// The caller's promises about `scales` and `zero_points`.
    unsafe fn made<'a>(&self) -> Answer<Made<'a>> {
        let encoding = encoding_of("encoding", self.encoding)?;
        let quantizer = match (self.kind, encoding) {
            (QC_SYMMETRIC, Encoding::Signed(bits)) => RowQuantizer::symmetric(bits.get())?,
            (QC_SYMMETRIC, _) => {
                let expected = "QC_S2 .. QC_S8 for QC_SYMMETRIC";
                return Err(Error::argument("encoding", encoding, expected).into());
            }
            (QC_AFFINE, _) => RowQuantizer::affine(encoding)?,
            (other, _) => {
                let expected = "QC_SYMMETRIC or QC_AFFINE";
                return Err(Error::argument("kind", other, expected).into());
            }
        };
        let absent = self.zero_points.is_null();
        if absent && !quantizer.is_symmetric() && self.rows > 0 {
            return Err(Failure::null("zero_points"));
        }
        let n_zeros = if absent { 0 } else { self.rows };
        // SAFETY: the contract is this function's.
        unsafe {
            Ok(Made {
                quantizer,
                scales: slice_mut("scales", self.scales, self.rows)?,
                zero_points: slice_mut("zero_points", self.zero_points, n_zeros)?,
                par: par(self.pool)?,
            })
        }
    }
}
