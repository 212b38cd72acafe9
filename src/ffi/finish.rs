//! C: what follows the sums of a layer.

use std::ffi::c_void;

use half::slice::HalfBitsSliceExt;

use super::enter;
use super::pack::{check_words, encoding};
use super::pointer::{Growing, init, options, slice, slice_mut};
use super::quantize::qc_quantizer;
use super::status::{Answer, Failure};
use crate::bits::{ByteRef, PackedRef};
use crate::error::Error;
use crate::ops::{
    ActivationFn, Finish, OutRows, OutputKind, Residual, ResidualAt, Thresholds, fold_batch_norm,
};
use crate::quant::Quantizer;
use crate::shape::elements;

/// Output: the sums themselves, `int32_t`.
pub const QC_OUT_I32: i32 = 0;
/// Output: `float`.
pub const QC_OUT_F32: i32 = 1;
/// Output: IEEE 754 halves as their 16 bits, the nearest, ties to even.
pub const QC_OUT_F16: i32 = 2;
/// Output: bfloat16 as their 16 bits, the nearest, ties to even.
pub const QC_OUT_BF16: i32 = 3;
/// Output: packed codes, `uint32_t` words.
pub const QC_OUT_CODES: i32 = 4;
/// Output: codes a byte each, `uint8_t`; signed ones in two's complement of eight bits.
pub const QC_OUT_BYTES: i32 = 5;

/// Activation function: y itself.
pub const QC_FUNCTION_IDENTITY: i32 = 0;
/// Activation function: y where y > 0, else 0 (so for NaN).
pub const QC_FUNCTION_RELU: i32 = 1;
/// Activation function: y where y >= 0, else slope\[n\] y.
pub const QC_FUNCTION_PRELU: i32 = 2;
/// Activation function: prelu(y - before\[n\]) + after\[n\].
pub const QC_FUNCTION_RPRELU: i32 = 3;
/// Activation function: y, but at least `low` (so for NaN) and at most `high`.
pub const QC_FUNCTION_CLAMP: i32 = 4;

/// Residual: none.
pub const QC_RESIDUAL_NONE: i32 = 0;
/// Residual: added before the activation function.
pub const QC_RESIDUAL_BEFORE: i32 = 1;
/// Residual: added after the activation function.
pub const QC_RESIDUAL_AFTER: i32 = 2;

/// What follows the sums of a layer of N channels. Fill it with `qc_finish_init` first.
///
/// For channel n, in f32, each operation rounded once and none contracted, in this order: y = scale\[n\] * sum +
/// bias\[n\]; y + residual, if it comes before; function(y); y + residual, if it comes after; then the output. Packed
/// codes of few bits come from integer thresholds where that gives the same codes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_finish {
    /// `sizeof(qc_finish)`.
    pub struct_size: usize,
    /// `QC_OUT_I32`, which asks for nothing else, or another `QC_OUT_...`. Default: `QC_OUT_I32`.
    pub output: i32,
    /// `QC_FUNCTION_...`. Default: `QC_FUNCTION_IDENTITY`.
    pub function: i32,
    /// `QC_RESIDUAL_...`. Default: `QC_RESIDUAL_NONE`.
    pub residual: i32,
    /// Encoding of the codes that `thresholds` give: `QC_BIPOLAR` or `QC_U1` .. `QC_U8`. Default: `QC_BIPOLAR`.
    pub threshold_encoding: i32,
    /// N factors. Default: NULL.
    pub scale: *const f32,
    /// N summands. Default: NULL.
    pub bias: *const f32,
    /// N slopes, of `QC_FUNCTION_PRELU` and `QC_FUNCTION_RPRELU`. Default: NULL.
    pub slope: *const f32,
    /// N shifts of the input, of `QC_FUNCTION_RPRELU`. Default: NULL.
    pub before: *const f32,
    /// N shifts of the output, of `QC_FUNCTION_RPRELU`. Default: NULL.
    pub after: *const f32,
    /// The least result of `QC_FUNCTION_CLAMP`. Default: 0.
    pub low: f32,
    /// The greatest result of `QC_FUNCTION_CLAMP`. Default: 0.
    pub high: f32,
    /// For `QC_OUT_CODES` any, signed ones too; for `QC_OUT_BYTES` any but `QC_SIGN`. Default: NULL.
    pub quantizer: *const qc_quantizer,
    /// For `QC_OUT_CODES` in place of all floats and the quantizer: `[levels, N]` integers; the code is the number of levels
    /// with sign\[n\] * sum > threshold. There is a level for each code but the first. Default: NULL.
    pub thresholds: *const i32,
    /// N times +1 or -1, with `thresholds`. Default: NULL.
    pub sign: *const i32,
}

// SAFETY: repr(C), the size first, four fields of four bytes, five as wide as the size, two of four bytes, three as
// wide as the size: no padding; integers, floats and raw pointers.
unsafe impl Growing for qc_finish {}
const _: () = assert!(size_of::<qc_finish>() == size_of::<[usize; 9]>() + 6 * 4);

impl qc_finish {
    /// For `n` channels.
    ///
    /// # Safety
    ///
    /// The promises of the head of the header for the pointers inside.
    pub(super) unsafe fn finish(&self, n: usize) -> Answer<Finish> {
        if self.output == QC_OUT_I32 {
            return Ok(Finish::integers(n));
        }
        // SAFETY: the contract is this function's.
        unsafe {
            if !self.thresholds.is_null() {
                return self.thresholds(n);
            }
            let floats = |name, values| Ok::<_, Failure>(slice::<f32>(name, values, n)?.to_vec());
            let output = self.kind()?;
            let (scale, bias) = (floats("scale", self.scale)?, floats("bias", self.bias)?);
            let function = match self.function {
                QC_FUNCTION_IDENTITY => ActivationFn::Identity,
                QC_FUNCTION_RELU => ActivationFn::Relu,
                QC_FUNCTION_PRELU => ActivationFn::PRelu {
                    slope: floats("slope", self.slope)?,
                },
                QC_FUNCTION_RPRELU => ActivationFn::RPRelu {
                    before: floats("before", self.before)?,
                    slope: floats("slope", self.slope)?,
                    after: floats("after", self.after)?,
                },
                QC_FUNCTION_CLAMP => ActivationFn::Clamp {
                    low: self.low,
                    high: self.high,
                },
                other => {
                    let expected = "QC_FUNCTION_IDENTITY .. QC_FUNCTION_CLAMP";
                    return Err(Error::argument("function", other, expected).into());
                }
            };
            let residual = match self.residual {
                QC_RESIDUAL_NONE => ResidualAt::Nowhere,
                QC_RESIDUAL_BEFORE => ResidualAt::BeforeFunction,
                QC_RESIDUAL_AFTER => ResidualAt::AfterFunction,
                other => {
                    let expected = "QC_RESIDUAL_NONE, QC_RESIDUAL_BEFORE or QC_RESIDUAL_AFTER";
                    return Err(Error::argument("residual", other, expected).into());
                }
            };
            Ok(Finish::new(scale, bias, function, residual, output)?)
        }
    }

    /// # Safety
    ///
    /// As for `finish`.
    unsafe fn thresholds(&self, n: usize) -> Answer<Finish> {
        if self.output != QC_OUT_CODES {
            let expected = "QC_OUT_CODES with thresholds";
            return Err(Error::argument("output", self.output, expected).into());
        }
        if !self.scale.is_null() || !self.quantizer.is_null() {
            let name = match self.scale.is_null() {
                true => "quantizer",
                false => "scale",
            };
            return Err(Error::argument(name, "not NULL", "NULL beside thresholds").into());
        }
        let encoding = encoding("threshold_encoding", self.threshold_encoding)?;
        let len = elements("levels x N", &[encoding.levels(), n])?;
        // SAFETY: the contract is this function's.
        let (thresholds, sign) = unsafe {
            let thresholds = slice("thresholds", self.thresholds, len)?;
            (thresholds, slice("sign", self.sign, n)?)
        };
        let thresholds = Thresholds::from_parts(encoding, thresholds, sign)?;
        Ok(Finish::by_thresholds(thresholds))
    }

    /// # Safety
    ///
    /// As for `finish`.
    unsafe fn kind(&self) -> Answer<OutputKind> {
        Ok(match self.output {
            QC_OUT_F32 => OutputKind::F32,
            QC_OUT_F16 => OutputKind::F16,
            QC_OUT_BF16 => OutputKind::Bf16,
            // SAFETY: the contract is this function's.
            QC_OUT_CODES => OutputKind::Codes(unsafe { quantizer(self.quantizer)? }),
            // SAFETY: as above.
            QC_OUT_BYTES => OutputKind::Bytes(unsafe { quantizer(self.quantizer)? }),
            other => {
                let expected = "QC_OUT_I32 .. QC_OUT_BYTES";
                return Err(Error::argument("output", other, expected).into());
            }
        })
    }
}

/// Fills `*finish` with the defaults. `struct_size` is `sizeof *finish`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_finish_init(struct_size: usize, finish: *mut qc_finish) -> i32 {
    let defaults = qc_finish {
        struct_size,
        output: QC_OUT_I32,
        function: QC_FUNCTION_IDENTITY,
        residual: QC_RESIDUAL_NONE,
        threshold_encoding: super::QC_BIPOLAR,
        scale: std::ptr::null(),
        bias: std::ptr::null(),
        slope: std::ptr::null(),
        before: std::ptr::null(),
        after: std::ptr::null(),
        low: 0.0,
        high: 0.0,
        quantizer: std::ptr::null(),
        thresholds: std::ptr::null(),
        sign: std::ptr::null(),
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("finish", finish, struct_size, defaults) })
}

/// Folds batch norm behind scale\[n\] * sum + bias\[n\] into that scale and bias, for `qc_finish`, of N channels each:
/// gamma\[n\] * (y - mean\[n\]) / sqrt(var\[n\] + eps) + beta\[n\] of what y was.
///
/// `scale` and `bias` are read, then replaced; in double, rounded to float once. gamma may be negative or 0. Errors if var + eps
/// is not above 0; then nothing is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_fold_batch_norm(
    n: usize,
    gamma: *const f32,
    beta: *const f32,
    mean: *const f32,
    var: *const f32,
    eps: f32,
    scale: *mut f32,
    bias: *mut f32,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe {
        let norm = [
            slice("gamma", gamma, n)?,
            slice("beta", beta, n)?,
            slice("mean", mean, n)?,
            slice("var", var, n)?,
        ];
        let scale = slice_mut("scale", scale, n)?;
        let bias = slice_mut("bias", bias, n)?;
        Ok(fold_batch_norm(scale, bias, norm, eps)?)
    })
}

/// A residual: as many pixels as the output has, N channels each; one of the five pointers is not NULL. Fill it with
/// `qc_residual_init` first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_residual {
    /// `sizeof(qc_residual)`.
    pub struct_size: usize,
    /// Floats. Default: NULL.
    pub floats: *const f32,
    /// Packed codes. Default: NULL.
    pub words: *const u32,
    /// Codes a byte each, not bipolar. Default: NULL.
    pub bytes: *const u8,
    /// Number of elements behind that pointer. Default: 0.
    pub len: usize,
    /// Encoding of the codes. Default: `QC_BIPOLAR`.
    pub encoding: i32,
    /// The float that the integer 1 of a code stands for. Default: 1.
    pub scale: f32,
    /// IEEE 754 halves as their 16 bits. Default: NULL.
    pub f16: *const u16,
    /// bfloat16 as their 16 bits. Default: NULL.
    pub bf16: *const u16,
}

// SAFETY: repr(C), the size first, four fields as wide, two of four bytes, two as wide as the size: no padding; integers, a
// float and raw pointers.
unsafe impl Growing for qc_residual {}
const _: () = assert!(size_of::<qc_residual>() == size_of::<[usize; 7]>() + 2 * 4);

/// Fills `*residual` with the defaults. `struct_size` is `sizeof *residual`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_residual_init(struct_size: usize, residual: *mut qc_residual) -> i32 {
    let defaults = qc_residual {
        struct_size,
        floats: std::ptr::null(),
        words: std::ptr::null(),
        bytes: std::ptr::null(),
        len: 0,
        encoding: super::QC_BIPOLAR,
        scale: 1.0,
        f16: std::ptr::null(),
        bf16: std::ptr::null(),
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("residual", residual, struct_size, defaults) })
}

/// The residual of `pixels` pixels of `n` channels; none for NULL.
///
/// # Safety
///
/// `residual` is NULL or such a struct, and the promises of the head of the header for the pointers inside.
pub(super) unsafe fn residual<'a>(
    residual: *const qc_residual,
    pixels: usize,
    n: usize,
) -> Answer<Option<Residual<'a>>> {
    if residual.is_null() {
        return Ok(None);
    }
    // SAFETY: the contract is this function's.
    let r = unsafe { options("residual", residual)? };
    let absent = [
        r.floats.is_null(),
        r.f16.is_null(),
        r.bf16.is_null(),
        r.words.is_null(),
        r.bytes.is_null(),
    ];
    if absent.iter().filter(|&&null| !null).count() != 1 {
        let expected = "one of floats, f16, bf16, words and bytes that is not NULL";
        return Err(Error::argument("residual", "none or several", expected).into());
    }
    let named = |error| Failure::named("residual", error);
    // SAFETY: as above.
    unsafe {
        if !r.floats.is_null() {
            return Ok(Some(Residual::Floats(slice("residual", r.floats, r.len)?)));
        }
        if !r.f16.is_null() {
            let halves = slice("residual", r.f16, r.len)?.reinterpret_cast();
            return Ok(Some(Residual::F16(halves)));
        }
        if !r.bf16.is_null() {
            let halves = slice("residual", r.bf16, r.len)?.reinterpret_cast();
            return Ok(Some(Residual::Bf16(halves)));
        }
        let (encoding, scale) = (encoding("residual encoding", r.encoding)?, r.scale);
        if !r.words.is_null() {
            let words = slice("residual", r.words, r.len)?;
            check_words("residual", r.len, encoding, "pixels x N", pixels, n)?;
            let codes = PackedRef::new(encoding, pixels, n, words).map_err(named)?;
            return Ok(Some(Residual::Planes { codes, scale }));
        }
        let bytes = slice("residual", r.bytes, r.len)?;
        let codes = ByteRef::new(encoding, pixels, n, bytes).map_err(named)?;
        Ok(Some(Residual::Bytes { codes, scale }))
    }
}

/// `len` elements of the type that leaves a layer.
///
/// # Safety
///
/// As for `slice_mut`, with elements of that type.
pub(super) unsafe fn rows<'a>(
    kind: OutputKind,
    out: *mut c_void,
    len: usize,
) -> Answer<OutRows<'a>> {
    // SAFETY: the contract is this function's.
    unsafe {
        let halves = || slice_mut("out", out.cast::<u16>(), len);
        Ok(match kind {
            OutputKind::I32 => OutRows::I32(slice_mut("out", out.cast(), len)?),
            OutputKind::F32 => OutRows::F32(slice_mut("out", out.cast(), len)?),
            OutputKind::F16 => OutRows::F16(halves()?.reinterpret_cast_mut()),
            OutputKind::Bf16 => OutRows::Bf16(halves()?.reinterpret_cast_mut()),
            OutputKind::Codes(_) | OutputKind::Levels(_) => {
                OutRows::Codes(slice_mut("out", out.cast(), len)?)
            }
            OutputKind::Bytes(_) => OutRows::Bytes(slice_mut("out", out.cast(), len)?),
        })
    }
}

/// The quantizer of what leaves.
///
/// # Safety
///
/// `quantizer` is NULL or such a struct.
pub(super) unsafe fn quantizer(quantizer: *const qc_quantizer) -> Answer<Quantizer> {
    // SAFETY: the contract is this function's.
    unsafe { options("quantizer", quantizer)? }.quantizer()
}
