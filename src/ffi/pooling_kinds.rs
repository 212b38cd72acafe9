//! C: pooling of elements of any kind: codes in planes or in bytes, floats of 32 and of 16 bits.

use std::ffi::c_void;

use half::slice::HalfBitsSliceExt;

use super::enter;
use super::finish::quantizer;
use super::model_builder::{QC_KIND_BF16, QC_KIND_BYTES, QC_KIND_F16, QC_KIND_F32, QC_KIND_PLANES};
use super::pointer::{handle, slice, slice_mut};
use super::pool::{par, qc_pool};
use super::pooling::{Plan, qc_average_pool, qc_max_pool};
use super::quantize::qc_quantizer;
use super::status::{Answer, Failure};
use crate::bits::ByteRef;
use crate::error::Error;
use crate::ops::{Elements, MaxPool, Par};
use crate::shape::elements;

impl<T> Plan<T> {
    /// Images of a kind, `len` elements or words long.
    ///
    /// # Safety
    ///
    /// As for `slice`, with elements of that kind.
    unsafe fn images<'a>(
        &self,
        kind: i32,
        input: *const c_void,
        len: usize,
        images: usize,
    ) -> Answer<Elements<'a>> {
        let (pixels, channels) = (self.geometry.pixels(), self.geometry.channels);
        let pixels = elements("images x H x W", &[images, pixels])?;
        let all = elements("images x H x W x C", &[pixels, channels])?;
        // Words of planes are checked where they are taken.
        if kind != QC_KIND_PLANES && len != all {
            let expected = format!("{all}, images x H x W x C");
            return Err(Error::argument("len", len, expected).into());
        }
        // SAFETY: the contract is this function's.
        unsafe {
            let halves = || slice("input", input.cast::<u16>(), len);
            Ok(match kind {
                QC_KIND_PLANES => {
                    let words = slice("input", input.cast(), len)?;
                    Elements::Planes(self.input("len", words, images)?)
                }
                QC_KIND_BYTES => {
                    let bytes = slice("input", input.cast(), len)?;
                    let bytes = ByteRef::new(self.encoding, pixels, channels, bytes);
                    Elements::Bytes(bytes.map_err(|e| Failure::named("input", e))?)
                }
                QC_KIND_F32 => Elements::Floats(slice("input", input.cast(), len)?),
                QC_KIND_F16 => Elements::F16(halves()?.reinterpret_cast()),
                QC_KIND_BF16 => Elements::Bf16(halves()?.reinterpret_cast()),
                other => {
                    let expected =
                        "QC_KIND_PLANES, QC_KIND_BYTES, QC_KIND_F32, QC_KIND_F16 or QC_KIND_BF16";
                    return Err(Error::argument("kind", other, expected).into());
                }
            })
        }
    }

    /// The plan for elements of this kind.
    fn of(&self, input: &Elements<'_>) -> &T {
        match input {
            Elements::Planes(_) | Elements::Bytes(_) => &self.plan,
            Elements::Floats(_) | Elements::F16(_) | Elements::Bf16(_) => &self.floats,
        }
    }
}

impl Plan<MaxPool> {
    /// # Safety
    ///
    /// As for `slice_mut`, with elements of the kind that `input` is of.
    unsafe fn greatest(
        &self,
        input: Elements<'_>,
        images: usize,
        (out, out_len): (*mut c_void, usize),
        par: Par<'_>,
    ) -> Answer<()> {
        let (plan, kernels) = (self.of(&input), self.kernels);
        // SAFETY: the contract is this function's.
        unsafe {
            let halves = || slice_mut("out", out.cast::<u16>(), out_len);
            match input {
                Elements::Planes(planes) => {
                    let out = slice_mut("out", out.cast(), out_len)?;
                    let out = self.codes(self.encoding, out, images)?;
                    plan.run(kernels, planes, out, par)?;
                }
                Elements::Bytes(bytes) => {
                    let out = slice_mut("out", out.cast(), out_len)?;
                    plan.run_bytes(kernels, bytes, out, par)?;
                }
                Elements::Floats(floats) => {
                    let out = slice_mut("out", out.cast(), out_len)?;
                    plan.run_f32(kernels, floats, out, par)?;
                }
                Elements::F16(floats) => {
                    plan.run_halves(kernels, floats, halves()?.reinterpret_cast_mut(), par)?;
                }
                Elements::Bf16(floats) => {
                    plan.run_halves(kernels, floats, halves()?.reinterpret_cast_mut(), par)?;
                }
            }
        }
        Ok(())
    }
}

/// As `qc_max_pool_run`, of elements of any kind but `QC_KIND_I32`, into `out` of the same kind.
///
/// `len` and `out_len` count elements: images x H x W x C and images x OH x OW x C; of `QC_KIND_PLANES` the words that
/// `qc_packed_words` says. Codes are of the window's encoding, in bytes not bipolar; for floats it does not count. A NaN is
/// less than every float.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_max_pool_run_kind(
    max_pool: *const qc_max_pool,
    kind: i32,
    input: *const c_void,
    len: usize,
    images: usize,
    out: *mut c_void,
    out_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let max_pool = handle("max_pool", max_pool)?;
        let par = par(pool)?;
        max_pool.0.with("max_pool", |p| {
            let input = p.images(kind, input, len, images)?;
            p.greatest(input, images, (out, out_len), par)
        })
    })
}

/// As `qc_average_pool_run_f32`, of elements of any kind but `QC_KIND_I32`, `len` of them as for `qc_max_pool_run_kind`.
///
/// The floats of a window are added row by row of the window, each sum rounded to float, from 0 on; then as for codes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_average_pool_run_kind_f32(
    average_pool: *const qc_average_pool,
    kind: i32,
    input: *const c_void,
    len: usize,
    images: usize,
    scale: f32,
    out: *mut f32,
    out_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let average_pool = handle("average_pool", average_pool)?;
        let out = slice_mut("out", out, out_len)?;
        let par = par(pool)?;
        average_pool.0.with("average_pool", |p| {
            let input = p.images(kind, input, len, images)?;
            Ok(p.of(&input).run_f32(p.kernels, input, scale, out, par)?)
        })
    })
}

/// The codes that `quantizer`, `QC_SIGN` or `QC_RELU`, gives the means of `qc_average_pool_run_kind_f32`; `out_len` as for
/// `qc_average_pool_run_codes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_average_pool_run_kind_codes(
    average_pool: *const qc_average_pool,
    kind: i32,
    input: *const c_void,
    len: usize,
    images: usize,
    scale: f32,
    quantizer: *const qc_quantizer,
    out: *mut u32,
    out_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let average_pool = handle("average_pool", average_pool)?;
        let quantizer = self::quantizer(quantizer)?;
        let out = slice_mut("out", out, out_len)?;
        let par = par(pool)?;
        average_pool.0.with("average_pool", |p| {
            let input = p.images(kind, input, len, images)?;
            let out = p.codes(quantizer.encoding(), out, images)?;
            let plan = p.of(&input);
            Ok(plan.run_codes(p.kernels, input, scale, quantizer, out, par)?)
        })
    })
}
