//! C: floats into packed codes.

use half::slice::HalfBitsSliceExt;

use super::enter;
use super::pack::check_words;
use super::pointer::{Growing, Plain, init, options, slice, slice_mut};
use super::status::Answer;
use crate::bits::PackedMut;
use crate::error::Error;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::ops::quantize;
use crate::quant::{ActQuantizer, Float, QuantRelu, Rounding};
use crate::shape::elements;

/// Quantizer: QC_BIPOLAR codes, +1 for x >= 0 (so for 0.0 and -0.0), -1 for x < 0 and for NaN.
pub const QC_SIGN: i32 = 1;
/// Quantizer: unsigned codes of `bits` bits, for levels alpha * {0, .., 2^bits - 1}; NaN has code 0.
pub const QC_RELU: i32 = 2;

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
    /// `QC_SIGN`, which takes no notice of the rest, or `QC_RELU`. Default: `QC_SIGN`.
    pub kind: i32,
    /// Bits of a code, 1 to 8; the encoding is then QC_U1 + bits - 1. Default: 1.
    pub bits: i32,
    /// Step between levels, 1e-30 to 1e30. Default: 1.
    pub alpha: f32,
    /// `QC_CEIL` or `QC_NEAREST`. Default: `QC_CEIL`.
    pub rounding: i32,
}

// SAFETY: repr(C), the size first, then four fields of four bytes: no padding; integers and a float.
unsafe impl Growing for qc_quantizer {}
const _: () = assert!(size_of::<qc_quantizer>() == size_of::<usize>() + 4 * 4);

impl qc_quantizer {
    fn quantizer(&self) -> Answer<ActQuantizer> {
        match self.kind {
            QC_SIGN => return Ok(ActQuantizer::Sign),
            QC_RELU => {}
            other => {
                return Err(Error::argument("kind", other, "QC_SIGN or QC_RELU").into());
            }
        }
        let rounding = match self.rounding {
            QC_CEIL => Rounding::Ceil,
            QC_NEAREST => Rounding::Nearest,
            other => {
                return Err(Error::argument("rounding", other, "QC_CEIL or QC_NEAREST").into());
            }
        };
        let bits =
            usize::try_from(self.bits).map_err(|_| Error::argument("bits", self.bits, "1 to 8"))?;
        Ok(ActQuantizer::Relu(QuantRelu::new(
            bits, self.alpha, rounding,
        )?))
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
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("quantizer", quantizer, struct_size, defaults) })
}

/// Quantizes `x`, `[rows, cols]` row-major, into packed `words`.
///
/// `n_words` is what `qc_packed_words` says for the quantizer's encoding.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_quantize_f32(
    x: *const f32,
    rows: usize,
    cols: usize,
    quantizer: *const qc_quantizer,
    words: *mut u32,
    n_words: usize,
) -> i32 {
    fn floats(x: &[f32]) -> &[f32] {
        x
    }
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { run(x, floats, rows, cols, quantizer, words, n_words) })
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
) -> i32 {
    let halves = <[u16]>::reinterpret_cast::<half::f16>;
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { run(x, halves, rows, cols, quantizer, words, n_words) })
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
) -> i32 {
    let halves = <[u16]>::reinterpret_cast::<half::bf16>;
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { run(x, halves, rows, cols, quantizer, words, n_words) })
}

/// # Safety
///
/// The caller's promises about `x`, `quantizer` and `words`.
unsafe fn run<T: Plain, F: Float>(
    x: *const T,
    floats: impl Fn(&[T]) -> &[F],
    rows: usize,
    cols: usize,
    quantizer: *const qc_quantizer,
    words: *mut u32,
    n_words: usize,
) -> Answer<()> {
    let len = elements("rows x cols", &[rows, cols])?;
    // SAFETY: the contract is this function's.
    let (x, quantizer, words) = unsafe {
        let x = slice("x", x, len)?;
        let quantizer = options("quantizer", quantizer)?;
        (x, quantizer, slice_mut("words", words, n_words)?)
    };
    let quantizer = quantizer.quantizer()?;
    let encoding = quantizer.encoding();
    check_words("n_words", n_words, encoding, "rows x cols", rows, cols)?;
    let out = PackedMut::new(encoding, rows, cols, words)?;
    let kernels = Kernels::of(Isa::chosen()?)?;
    Ok(quantize(kernels, floats(x), &quantizer, out)?)
}
