//! C: the nodes of a model that is being built.

use super::conv::{QC_PAD_ZERO, qc_conv2d_options};
use super::enter;
use super::finish::{qc_finish, quantizer};
use super::float_conv::qc_float_conv2d_options;
use super::model_builder::{add, qc_model_builder, value};
use super::pack::owned;
use super::pointer::{options, slice};
use super::pooling::qc_window;
use super::quantize::qc_quantizer;
use super::status::Answer;
use super::weight_only::qc_weight_only_options;
use crate::error::Error;
use crate::model::{Conv, FloatConv, Linear, ModelBuilder, Scaled, Value, Window};
use crate::ops::Finish;
use crate::quant::Quantizer;

/// Adds a node that reads the value `x`.
///
/// # Safety
///
/// The caller's promises about the handle and the pointer.
unsafe fn of_one(
    builder: *mut qc_model_builder,
    x: usize,
    made: *mut usize,
    node: impl FnOnce(&mut ModelBuilder, Value) -> Answer<Value>,
) -> Answer<()> {
    // SAFETY: the contract is this function's.
    unsafe {
        add(builder, made, |b| {
            let x = value(b, "x", x)?;
            node(b, x)
        })
    }
}

/// # Safety
///
/// The caller's promises about `options` and the pointers inside.
unsafe fn conv(
    builder: &mut ModelBuilder,
    x: usize,
    options: *const qc_conv2d_options,
    residual: Option<(usize, f32)>,
) -> Answer<Value> {
    let x = value(builder, "x", x)?;
    let image = builder.type_of(x)?;
    // SAFETY: the contract is this function's.
    let parts = unsafe {
        let mut options = self::options("options", options)?;
        options.height = image.height;
        options.width = image.width;
        options.channels = image.channels;
        options.parts()?
    };
    let window = Window {
        kernel: parts.geometry.kernel,
        stride: parts.geometry.stride,
        dilation: parts.geometry.dilation,
        padding: parts.geometry.padding,
    };
    let conv = Conv {
        groups: parts.geometry.groups,
        pad: parts.pad,
        zero_point: parts.zero_point,
        transposed: parts.transposed,
        residual: summand(builder, residual)?,
        ..Conv::new(owned(parts.filters)?, window, parts.finish)
    };
    Ok(builder.conv(x, conv)?)
}

/// The value of a residual's number, with its scale.
fn summand(builder: &ModelBuilder, residual: Option<(usize, f32)>) -> Answer<Option<Scaled>> {
    let Some((index, scale)) = residual else {
        return Ok(None);
    };
    let value = value(builder, "residual", index)?;
    Ok(Some(Scaled { value, scale }))
}

/// A convolution of the codes `x`; what leaves is what the finish says.
///
/// `options` are those of a plan, but for `activation_encoding`, `channels`, `height`, `width` and `isa`, which follow from
/// `x`. The finish adds no residual.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_conv(
    builder: *mut qc_model_builder,
    x: usize,
    options: *const qc_conv2d_options,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe { add(builder, value, |b| conv(b, x, options, None)) })
}

/// As `qc_model_builder_conv`, with a residual where the finish adds it: the value `residual`, floats or codes that are not
/// ternary, of the output's height, width and channels.
///
/// `residual_scale` is the float that the integer 1 of a code stands for; for floats it is 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_conv_residual(
    builder: *mut qc_model_builder,
    x: usize,
    options: *const qc_conv2d_options,
    residual: usize,
    residual_scale: f32,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        add(builder, value, |b| {
            conv(b, x, options, Some((residual, residual_scale)))
        })
    })
}

/// # Safety
///
/// The caller's promises about `options` and the pointers inside.
unsafe fn linear(
    builder: &mut ModelBuilder,
    x: usize,
    options: *const qc_conv2d_options,
    residual: Option<(usize, f32)>,
) -> Answer<Value> {
    let x = value(builder, "x", x)?;
    let image = builder.type_of(x)?;
    // SAFETY: the contract is this function's.
    let mut options = unsafe { self::options("options", options)? };
    let plain = options.kernel == [1; 2]
        && options.stride == [1; 2]
        && options.dilation == [1; 2]
        && options.padding == [0; 4]
        && options.groups == 1
        && options.pad == QC_PAD_ZERO
        && options.transposed == 0;
    if !plain {
        let expected = "the defaults for everything between channels and filters";
        return Err(Error::argument("options", "those of a convolution", expected).into());
    }
    (options.height, options.width) = (1, 1);
    options.channels = image.len();
    // SAFETY: the contract is this function's.
    let parts = unsafe { options.parts()? };
    let linear = Linear {
        zero_point: parts.zero_point,
        residual: summand(builder, residual)?,
        ..Linear::new(owned(parts.filters)?, parts.finish)
    };
    Ok(builder.linear(x, linear)?)
}

/// A linear layer over whole images of the codes `x`, whose elements count in the order H, W, C; an image of one pixel leaves.
///
/// `options` are those of `qc_model_builder_conv`, with the defaults for everything between `channels` and `filters`: N =
/// `output_channels`, and `filters` are N rows of H x W x C columns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_linear(
    builder: *mut qc_model_builder,
    x: usize,
    options: *const qc_conv2d_options,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe { add(builder, value, |b| linear(b, x, options, None)) })
}

/// As `qc_model_builder_linear`, with a residual as in `qc_model_builder_conv_residual`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_linear_residual(
    builder: *mut qc_model_builder,
    x: usize,
    options: *const qc_conv2d_options,
    residual: usize,
    residual_scale: f32,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        add(builder, value, |b| {
            linear(b, x, options, Some((residual, residual_scale)))
        })
    })
}

/// # Safety
///
/// The caller's promises about `window`.
unsafe fn window(window: *const qc_window) -> Answer<Window> {
    // SAFETY: the contract is this function's.
    unsafe { options("window", window)? }.window()
}

/// A convolution of the floats `x` of 32 or 16 bits by packed filters, with the float 0 outside of the image; floats of
/// 32 bits leave. A finish or quantizer that alone reads them is done with it, and they are never stored.
///
/// `weights` are N = O filters of K = KH x KW x C; `isa` there counts for nothing. Of `window` kernel, stride, dilation and
/// padding count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_float_conv(
    builder: *mut qc_model_builder,
    x: usize,
    weights: *const qc_weight_only_options,
    window: *const qc_window,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            let parts = options("weights", weights)?.parts()?;
            let conv = FloatConv {
                bias: parts.bias,
                ..FloatConv::new(owned(parts.weights)?, self::window(window)?, parts.scales)
            };
            Ok(b.float_conv(x, conv)?)
        })
    })
}

/// As `qc_model_builder_float_conv`, by the options of a plan: groups and transposed ones too.
///
/// Of `options` the ISA, `channels`, `height` and `width` follow from `x`; `finish` is NULL: a finish is a node by itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_float_conv2d(
    builder: *mut qc_model_builder,
    x: usize,
    options: *const qc_float_conv2d_options,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            let conv = self::options("options", options)?.node()?;
            Ok(b.float_conv(x, conv)?)
        })
    })
}

/// A linear layer over whole images of the floats `x` of 32 or 16 bits by packed weights, K = H x W x C; as
/// `qc_model_builder_float_conv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_float_linear(
    builder: *mut qc_model_builder,
    x: usize,
    weights: *const qc_weight_only_options,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            let parts = options("weights", weights)?.parts()?;
            let weights = owned(parts.weights)?;
            Ok(b.float_linear(x, weights, parts.scales, parts.bias)?)
        })
    })
}

/// A finish for the channels of `x`.
///
/// # Safety
///
/// The caller's promises about `finish` and the pointers inside.
unsafe fn finish(builder: &ModelBuilder, x: Value, finish: *const qc_finish) -> Answer<Finish> {
    let channels = builder.type_of(x)?.channels;
    // SAFETY: the contract is this function's.
    unsafe { options("finish", finish)?.finish(channels) }
}

/// A finish by itself, over the elements of each channel of `x`, floats or the integers of codes, in place of sums. It has
/// scale and bias, and adds no residual.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_apply(
    builder: *mut qc_model_builder,
    x: usize,
    finish: *const qc_finish,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            let finish = self::finish(b, x, finish)?;
            Ok(b.apply(x, finish)?)
        })
    })
}

/// The sum of two values of equal height, width and channels, each floats or codes: as `qc_model_builder_apply` over `a`, with
/// `b` where the finish adds it.
///
/// `b_scale` is the float that the integer 1 of a code of `b` stands for; for floats it is 1. With scales 1, biases 0 and
/// `QC_RESIDUAL_BEFORE` it is function(a + b).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_add(
    builder: *mut qc_model_builder,
    a: usize,
    b: usize,
    b_scale: f32,
    finish: *const qc_finish,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        add(builder, value, |builder| {
            let first = self::value(builder, "a", a)?;
            let second = Scaled {
                value: self::value(builder, "b", b)?,
                scale: b_scale,
            };
            let finish = self::finish(builder, first, finish)?;
            Ok(builder.add(first, second, finish)?)
        })
    })
}

/// Packed codes of the floats `x`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_quantize(
    builder: *mut qc_model_builder,
    x: usize,
    quantizer: *const qc_quantizer,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            Ok(b.quantize(x, options("quantizer", quantizer)?.quantizer()?)?)
        })
    })
}

/// Codes of the floats `x`, a byte each; not of the sign.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_quantize_bytes(
    builder: *mut qc_model_builder,
    x: usize,
    quantizer: *const qc_quantizer,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            Ok(b.quantize_bytes(x, options("quantizer", quantizer)?.quantizer()?)?)
        })
    })
}

/// The floats scale * integer of the codes `x`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_dequantize(
    builder: *mut qc_model_builder,
    x: usize,
    scale: f32,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles and pointers.
    enter(|| unsafe { of_one(builder, x, value, |b, x| Ok(b.dequantize(x, scale)?)) })
}

/// Per channel the greatest element of each window, pads aside: of codes by integer; a NaN is less than every float.
///
/// Of `window` kernel, stride, dilation and padding count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_max_pool(
    builder: *mut qc_model_builder,
    x: usize,
    window: *const qc_window,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            Ok(b.max_pool(x, self::window(window)?)?)
        })
    })
}

/// The quantizer of what leaves a pool, none for NULL.
///
/// # Safety
///
/// The caller's promises about `quantizer`.
unsafe fn pooled(quantizer: *const qc_quantizer) -> Answer<Option<Quantizer>> {
    match quantizer.is_null() {
        true => Ok(None),
        // SAFETY: the contract is this function's.
        false => Ok(Some(unsafe { self::quantizer(quantizer)? })),
    }
}

/// Per channel the mean of each window, pads aside: sum * (scale / count). Floats leave, or the packed codes of `quantizer`,
/// any, if that is not NULL.
///
/// Of `window` kernel, stride, dilation and padding count. A kernel of H x W makes one pixel of the image.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_average_pool(
    builder: *mut qc_model_builder,
    x: usize,
    window: *const qc_window,
    scale: f32,
    quantizer: *const qc_quantizer,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            let quantizer = pooled(quantizer)?;
            Ok(b.average_pool(x, self::window(window)?, scale, quantizer)?)
        })
    })
}

/// The mean of whole images: `qc_model_builder_average_pool` with a window of H x W.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_global_average_pool(
    builder: *mut qc_model_builder,
    x: usize,
    scale: f32,
    quantizer: *const qc_quantizer,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            let quantizer = pooled(quantizer)?;
            Ok(b.global_average_pool(x, scale, quantizer)?)
        })
    })
}

/// The channels of all of `values`, one after the other; of equal height, width and kind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_concat(
    builder: *mut qc_model_builder,
    values: *const usize,
    n_values: usize,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        add(builder, value, |b| {
            let values = slice("values", values, n_values)?.iter();
            let values: Answer<Vec<Value>> = values
                .map(|&index| self::value(b, "values", index))
                .collect();
            Ok(b.concat(&values?)?)
        })
    })
}

/// An image of one pixel with all elements of `x` as channels, in the order H, W, C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_flatten(
    builder: *mut qc_model_builder,
    x: usize,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles and pointers.
    enter(|| unsafe { of_one(builder, x, value, |b, x| Ok(b.flatten(x)?)) })
}

/// Each pixel of `x` `vertical` times below itself and `horizontal` times beside itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_up_sample(
    builder: *mut qc_model_builder,
    x: usize,
    vertical: usize,
    horizontal: usize,
    value: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles and pointers.
    enter(|| unsafe {
        of_one(builder, x, value, |b, x| {
            Ok(b.up_sample(x, [vertical, horizontal])?)
        })
    })
}
