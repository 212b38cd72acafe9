//! C: convolutions of float images by packed filters.

use std::ffi::{c_char, c_void};

use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};

use super::conv::geometry;
use super::finish::{qc_finish, qc_residual, residual, rows};
use super::pack::owned;
use super::pointer::{Growing, Out, copy_text, handle, init, options, slice, slice_mut};
use super::pool::{par, qc_pool};
use super::status::Answer;
use super::weight_only::qc_weight_only_options;
use super::{Handle, enter, free};
use crate::error::Error;
use crate::model::{FloatConv, Window};
use crate::ops::{Elements, Finish, FloatConv2d, OutputKind, Padding};
use crate::shape::elements;

/// A plan for the convolution of float images `[images, H, W, C]` by packed filters `[O, KH, KW, C / groups]`, which stay
/// packed, to `[images, OH, OW, O]`. Immutable.
pub struct qc_float_conv2d(Handle<FloatConv2d>);

/// What a plan is made of. Fill it with `qc_float_conv2d_options_init` first. Pairs are vertical, horizontal.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_float_conv2d_options {
    /// `sizeof(qc_float_conv2d_options)`.
    pub struct_size: usize,
    /// The filters with their scales and bias, and the ISA: N is O, K is KH x KW x C / groups. Scales are not per group of K
    /// for a transposed convolution. Default: NULL.
    pub filters: *const qc_weight_only_options,
    /// What follows the floats, which it takes in place of sums, but neither `QC_OUT_I32` nor thresholds; or NULL for the
    /// floats themselves. Default: NULL.
    pub finish: *const qc_finish,
    /// Channels of the images, C. Default: 0.
    pub channels: usize,
    /// Rows of an image, H. Default: 1.
    pub height: usize,
    /// Columns of an image, W. Default: 1.
    pub width: usize,
    /// Rows and columns of a filter, KH and KW. Default: 1.
    pub kernel: [usize; 2],
    /// Input pixels from one output pixel to the next. Default: 1.
    pub stride: [usize; 2],
    /// Input pixels from one tap to the next. Default: 1.
    pub dilation: [usize; 2],
    /// Rows above, columns to the left, rows below, columns to the right; the float 0 stands there. Default: 0.
    pub padding: [usize; 4],
    /// Groups of channels: group g sees input channels g C / groups and up, and makes output channels g O / groups and
    /// up. Default: 1.
    pub groups: usize,
    /// Rows and columns that a transposed convolution adds below and to the right. Default: 0.
    pub output_padding: [usize; 2],
    /// 1 for a transposed convolution, else 0. Default: 0.
    pub transposed: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: repr(C), the size first, eighteen fields as wide as the size, two of four bytes: no padding; integers and raw
// pointers.
unsafe impl Growing for qc_float_conv2d_options {}
const _: () = assert!(size_of::<qc_float_conv2d_options>() == size_of::<[usize; 19]>() + 2 * 4);

impl qc_float_conv2d_options {
    /// # Safety
    ///
    /// The promises of the head of the header for the pointers inside.
    unsafe fn plan(&self) -> Answer<FloatConv2d> {
        let transposed = self.transposed()?;
        // SAFETY: the contract is this function's.
        let (parts, isa) = unsafe {
            let filters = options("filters", self.filters)?;
            (
                filters.parts()?,
                super::gemm_options::isa(filters.isa)?.require()?,
            )
        };
        let geometry = geometry(
            [self.height, self.width, self.channels],
            [self.kernel, self.stride, self.dilation],
            self.padding,
            self.groups,
        );
        let (filters, scales, bias) = (parts.weights, &parts.scales, parts.bias);
        let plan = match transposed {
            Some(extra) => FloatConv2d::transposed(isa, filters, geometry, extra, scales, bias)?,
            None => FloatConv2d::on(isa, filters, geometry, scales, bias)?,
        };
        if self.finish.is_null() {
            return Ok(plan);
        }
        // SAFETY: as above.
        let finish = unsafe { options("finish", self.finish)?.finish(plan.o())? };
        Ok(plan.finished(finish)?)
    }

    /// The convolution as a node of a model, without ISA, image and finish.
    ///
    /// # Safety
    ///
    /// As [`Self::plan`].
    pub(super) unsafe fn node(&self) -> Answer<FloatConv> {
        if !self.finish.is_null() {
            return Err(Error::argument("finish", "not NULL", "NULL, a node by itself").into());
        }
        // SAFETY: the contract is this function's.
        let parts = unsafe { options("filters", self.filters)?.parts()? };
        let [top, left, bottom, right] = self.padding;
        let window = Window {
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            padding: Padding {
                top,
                left,
                bottom,
                right,
            },
        };
        Ok(FloatConv {
            groups: self.groups,
            transposed: self.transposed()?,
            bias: parts.bias,
            ..FloatConv::new(owned(parts.weights)?, window, parts.scales)
        })
    }

    /// What a transposed convolution adds below and to the right; none of another.
    fn transposed(&self) -> Answer<Option<[usize; 2]>> {
        if self.reserved != 0 {
            return Err(Error::argument("reserved", self.reserved, 0).into());
        }
        match self.transposed {
            0 if self.output_padding == [0, 0] => Ok(None),
            0 => {
                let value = format!("{:?}", self.output_padding);
                let expected = "zeros but for a transposed convolution";
                Err(Error::argument("output_padding", value, expected).into())
            }
            1 => Ok(Some(self.output_padding)),
            other => Err(Error::argument("transposed", other, "0 or 1").into()),
        }
    }
}

/// Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_float_conv2d_options_init(
    struct_size: usize,
    options: *mut qc_float_conv2d_options,
) -> i32 {
    let defaults = qc_float_conv2d_options {
        struct_size,
        filters: std::ptr::null(),
        finish: std::ptr::null(),
        channels: 0,
        height: 1,
        width: 1,
        kernel: [1; 2],
        stride: [1; 2],
        dilation: [1; 2],
        padding: [0; 4],
        groups: 1,
        output_padding: [0; 2],
        transposed: 0,
        reserved: 0,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("options", options, struct_size, defaults) })
}

/// Makes a plan. Free it with `qc_float_conv2d_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_float_conv2d_new(
    options: *const qc_float_conv2d_options,
    conv: *mut *mut qc_float_conv2d,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (plan, out) = unsafe {
            let options = self::options("options", options)?;
            let out = Out::new("conv", conv)?;
            (options.plan()?, out)
        };
        out.give(qc_float_conv2d(Handle::new(plan)));
        Ok(())
    })
}

/// Rows and columns of the output, OH and OW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_float_conv2d_output_size(
    conv: *const qc_float_conv2d,
    height: *mut usize,
    width: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (conv, height, width) = unsafe {
            let conv = handle("conv", conv)?;
            let height = Out::new("height", height)?;
            (conv, height, Out::new("width", width)?)
        };
        let size = conv.0.with("conv", |conv| Ok(conv.size()))?;
        height.write(size.0);
        width.write(size.1);
        Ok(())
    })
}

/// The number of floats of scratch that a run over up to `images` images on the threads of `pool`, or without one, needs;
/// may be 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_float_conv2d_scratch_len(
    conv: *const qc_float_conv2d,
    images: usize,
    pool: *const qc_pool,
    len: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (conv, par, len) = unsafe {
            let conv = handle("conv", conv)?;
            (conv, par(pool)?, Out::new("len", len)?)
        };
        let threads = par.threads();
        let needed = conv
            .0
            .with("conv", |conv| Ok(conv.scratch_len(images, threads)))?;
        len.write(needed);
        Ok(())
    })
}

/// The output of all images at `floats`, `[images, OH, OW, O]`; there are as many as `n_floats` says, which is a multiple
/// of H x W x C.
///
/// `out` has `out_len` elements of the type that the plan's output is of, `float` without a finish; packed codes have as
/// many words as `qc_packed_words` says for images x OH x OW rows of O columns, and all others an element for each of
/// those. `residual` is NULL unless the plan adds one. `scratch` has `qc_float_conv2d_scratch_len` elements or more for
/// this pool; two runs at once need two. Nothing is allocated. A float is that of `qc_weight_only_run_f32` for the row of
/// its taps in the order KH, KW, C / groups, with 0 outside of the image; of a transposed convolution, taps that add
/// nothing to a pixel are not in its row, and the others are in the order of the inputs that they read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_float_conv2d_run_f32(
    conv: *const qc_float_conv2d,
    floats: *const f32,
    n_floats: usize,
    residual: *const qc_residual,
    out: *mut c_void,
    out_len: usize,
    scratch: *mut f32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let floats = slice("floats", floats, n_floats)?;
        let (out, scratch) = ((out, out_len), (scratch, scratch_len));
        run(conv, floats, n_floats, residual, out, scratch, pool)
    })
}

/// As `qc_float_conv2d_run_f32`, with images that are halves.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_float_conv2d_run_f16(
    conv: *const qc_float_conv2d,
    floats: *const u16,
    n_floats: usize,
    residual: *const qc_residual,
    out: *mut c_void,
    out_len: usize,
    scratch: *mut f32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let floats = slice("floats", floats, n_floats)?.reinterpret_cast::<f16>();
        let (out, scratch) = ((out, out_len), (scratch, scratch_len));
        run(conv, floats, n_floats, residual, out, scratch, pool)
    })
}

/// As `qc_float_conv2d_run_f32`, with images that are bfloat16.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_float_conv2d_run_bf16(
    conv: *const qc_float_conv2d,
    floats: *const u16,
    n_floats: usize,
    residual: *const qc_residual,
    out: *mut c_void,
    out_len: usize,
    scratch: *mut f32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let floats = slice("floats", floats, n_floats)?.reinterpret_cast::<bf16>();
        let (out, scratch) = ((out, out_len), (scratch, scratch_len));
        run(conv, floats, n_floats, residual, out, scratch, pool)
    })
}

/// # Safety
///
/// The caller's promises about the handles and pointers.
unsafe fn run<'a>(
    conv: *const qc_float_conv2d,
    input: impl Into<Elements<'a>>,
    len: usize,
    added: *const qc_residual,
    (out, out_len): (*mut c_void, usize),
    (scratch, scratch_len): (*mut f32, usize),
    pool: *const qc_pool,
) -> Answer<()> {
    // SAFETY: the contract is this function's.
    let conv = unsafe { handle("conv", conv)? };
    conv.0.with("conv", |conv| {
        let geometry = conv.geometry();
        let images = len / (geometry.pixels() * geometry.channels);
        let (height, width) = conv.size();
        let pixels = elements("images x OH x OW", &[images, height, width])?;
        let kind = conv.finish().map_or(OutputKind::F32, Finish::output);
        // SAFETY: as above.
        let (added, out, scratch, par) = unsafe {
            let added = residual(added, pixels, conv.o())?;
            let out = rows(kind, out, out_len)?;
            let scratch = slice_mut("scratch", scratch, scratch_len)?;
            (added, out, scratch, par(pool)?)
        };
        Ok(conv.run(input, added, out, scratch, par)?)
    })
}

/// Which kernel runs, for people: ISA, instruction, tile, fields and scales. As `qc_conv2d_describe`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_float_conv2d_describe(
    conv: *const qc_float_conv2d,
    buf: *mut c_char,
    len: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let (conv, length) = (handle("conv", conv)?, Out::new("length", length)?);
        let text = conv.0.with("conv", |conv| Ok(conv.describe()))?;
        copy_text(text.as_bytes(), buf, len, length)
    })
}

/// Ends a plan; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_float_conv2d_free(conv: *mut qc_float_conv2d) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(conv) }
}
