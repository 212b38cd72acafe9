//! C: convolutions of packed images, and linear layers.

use std::ffi::{c_char, c_void};
use std::ops::Range;

use super::finish::{qc_finish, qc_residual, residual, rows};
use super::gemm::some_of;
use super::pack::{check_words, encoding};
use super::pointer::{Growing, Out, copy_text, handle, init, options, slice, slice_mut};
use super::pool::{par, qc_pool};
use super::status::{Answer, Failure};
use super::{Handle, enter, free};
use crate::bits::{ByteRef, PackedRef};
use crate::error::Error;
use crate::ops::{Activations, Affine, Conv2d, Finish, Geometry, Pad, Padding};
use crate::shape::elements;

/// Pad: the integer 0, exactly, also around bipolar activations, which have no code for it.
pub const QC_PAD_ZERO: i32 = 0;
/// Pad: +1, for bipolar activations only.
pub const QC_PAD_PLUS_ONE: i32 = 1;
/// Pad: -1, for bipolar activations only.
pub const QC_PAD_MINUS_ONE: i32 = 2;

/// A plan for the convolution of images `[images, H, W, C]` by filters `[O, KH, KW, C / groups]` to
/// `[images, OH, OW, O]`: filters prepacked, kernel chosen. Immutable.
pub struct qc_conv2d(Handle<Conv2d>);

/// What a plan is made of. Fill it with `qc_conv2d_options_init` first. Pairs are vertical, horizontal.
///
/// Images are a matrix of codes: a row a pixel, row by row of an image, image after image; a column a channel. With the
/// defaults for everything between `channels` and `filters` it is a linear layer: images are rows of K = C codes, and N = O.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_conv2d_options {
    /// `sizeof(qc_conv2d_options)`.
    pub struct_size: usize,
    /// Encoding of the filters. Default: `QC_BIPOLAR`.
    pub weight_encoding: i32,
    /// Encoding of the images: `QC_BIPOLAR`, `QC_U1` .. `QC_U8` or `QC_S1` .. `QC_S8`. Default: `QC_BIPOLAR`.
    pub activation_encoding: i32,
    /// Channels of the output, O. Default: 0.
    pub output_channels: usize,
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
    /// Rows above, columns to the left, rows below, columns to the right. Default: 0.
    pub padding: [usize; 4],
    /// Groups of channels: group g sees input channels g C / groups and up, and makes output channels g O / groups and
    /// up. Default: 1.
    pub groups: usize,
    /// Rows and columns that a transposed convolution adds below and to the right. Default: 0.
    pub output_padding: [usize; 2],
    /// `QC_PAD_...`. Default: `QC_PAD_ZERO`.
    pub pad: i32,
    /// 1 for a transposed convolution, whose pad is zero, else 0. Default: 0.
    pub transposed: i32,
    /// Packed filters, O rows of KH x KW x C / groups columns; not needed any more once the plan is made. Default: NULL.
    pub filters: *const u32,
    /// Number of words at `filters`, what `qc_packed_words` says. Default: 0.
    pub filter_words: usize,
    /// What follows the sums, or NULL for the sums themselves. Default: NULL.
    pub finish: *const qc_finish,
    /// Name of the ISA to run on, or NULL for what `QCORE_ISA` says, or else the best. Default: NULL.
    pub isa: *const c_char,
    /// The integer of images that stands for 0, one of their encoding: sums are those of filter x (image - zero_point), and
    /// the zero of a pad is the zero point. Default: 0.
    pub zero_point: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: repr(C), the size first, two fields of four bytes, seventeen as wide as the size, two of four bytes, four as
// wide as the size, two of four bytes: no padding; integers and raw pointers.
unsafe impl Growing for qc_conv2d_options {}
const _: () = assert!(size_of::<qc_conv2d_options>() == size_of::<[usize; 22]>() + 6 * 4);

/// What a plan is made of, or a node of a model.
pub(super) struct Parts<'a> {
    pub(super) filters: PackedRef<'a>,
    pub(super) geometry: Geometry,
    pub(super) pad: Pad,
    /// The integer of images that stands for 0.
    pub(super) zero_point: i32,
    /// Of a transposed convolution: its output padding.
    pub(super) transposed: Option<[usize; 2]>,
    pub(super) finish: Finish,
}

impl qc_conv2d_options {
    /// # Safety
    ///
    /// The promises of the head of the header for the pointers inside.
    unsafe fn plan(&self) -> Answer<Conv2d> {
        let activation = encoding("activation_encoding", self.activation_encoding)?;
        // SAFETY: the contract is this function's.
        let (parts, isa) = unsafe {
            (
                self.parts()?,
                super::gemm_options::isa(self.isa)?.require()?,
            )
        };
        let Parts {
            filters,
            geometry,
            pad,
            zero_point,
            transposed,
            finish,
        } = parts;
        let activation = Affine {
            encoding: activation,
            zero_point,
        };
        Ok(match transposed {
            Some(extra) => Conv2d::transposed(isa, filters, activation, geometry, extra, finish)?,
            None => Conv2d::on(isa, filters, activation, geometry, pad, finish)?,
        })
    }

    /// All but the activations' encoding and the ISA.
    ///
    /// # Safety
    ///
    /// As for `plan`.
    pub(super) unsafe fn parts<'a>(&self) -> Answer<Parts<'a>> {
        let weight = encoding("weight_encoding", self.weight_encoding)?;
        let pad = match self.pad {
            QC_PAD_ZERO => Pad::Zero,
            QC_PAD_PLUS_ONE => Pad::PlusOne,
            QC_PAD_MINUS_ONE => Pad::MinusOne,
            other => {
                let expected = "QC_PAD_ZERO, QC_PAD_PLUS_ONE or QC_PAD_MINUS_ONE";
                return Err(Error::argument("pad", other, expected).into());
            }
        };
        if self.reserved != 0 {
            return Err(Error::argument("reserved", self.reserved, 0).into());
        }
        let transposed = match self.transposed {
            0 => None,
            1 => Some(self.output_padding),
            other => return Err(Error::argument("transposed", other, "0 or 1").into()),
        };
        if transposed.is_some() && pad != Pad::Zero {
            let expected = "QC_PAD_ZERO for a transposed convolution";
            return Err(Error::argument("pad", self.pad, expected).into());
        }
        if transposed.is_none() && self.output_padding != [0, 0] {
            let value = format!("{:?}", self.output_padding);
            let expected = "zeros but for a transposed convolution";
            return Err(Error::argument("output_padding", value, expected).into());
        }
        let geometry = geometry(
            [self.height, self.width, self.channels],
            [self.kernel, self.stride, self.dilation],
            self.padding,
            self.groups,
        );
        // Sizes are checked before they are multiplied and divided by.
        match transposed {
            Some(extra) => geometry.transposed_output(extra)?,
            None => geometry.output()?,
        };
        let [kh, kw] = self.kernel;
        let per_group = self.channels / self.groups;
        let k = elements("KH x KW x C / groups", &[kh, kw, per_group])?;
        let (o, len) = (self.output_channels, self.filter_words);
        let dims = "O x KH x KW x C / groups";
        check_words("filter_words", len, weight, dims, o, k)?;
        // SAFETY: the contract is this function's.
        let (words, finish) = unsafe {
            let words = slice("filters", self.filters, len)?;
            let finish = match self.finish.is_null() {
                true => Finish::integers(o),
                false => options("finish", self.finish)?.finish(o)?,
            };
            (words, finish)
        };
        let filters = PackedRef::new(weight, o, k, words);
        let filters = filters.map_err(|e| Failure::named("filters", e))?;
        Ok(Parts {
            filters,
            geometry,
            pad,
            zero_point: self.zero_point,
            transposed,
            finish,
        })
    }
}

/// A geometry of the header's arrays.
pub(super) fn geometry(
    [height, width, channels]: [usize; 3],
    [kernel, stride, dilation]: [[usize; 2]; 3],
    [top, left, bottom, right]: [usize; 4],
    groups: usize,
) -> Geometry {
    let padding = Padding {
        top,
        left,
        bottom,
        right,
    };
    Geometry {
        height,
        width,
        channels,
        kernel,
        stride,
        dilation,
        padding,
        groups,
    }
}

/// Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_conv2d_options_init(
    struct_size: usize,
    options: *mut qc_conv2d_options,
) -> i32 {
    let defaults = qc_conv2d_options {
        struct_size,
        weight_encoding: super::QC_BIPOLAR,
        activation_encoding: super::QC_BIPOLAR,
        output_channels: 0,
        channels: 0,
        height: 1,
        width: 1,
        kernel: [1; 2],
        stride: [1; 2],
        dilation: [1; 2],
        padding: [0; 4],
        groups: 1,
        output_padding: [0; 2],
        pad: QC_PAD_ZERO,
        transposed: 0,
        filters: std::ptr::null(),
        filter_words: 0,
        finish: std::ptr::null(),
        isa: std::ptr::null(),
        zero_point: 0,
        reserved: 0,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("options", options, struct_size, defaults) })
}

/// Makes a plan. Free it with `qc_conv2d_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_conv2d_new(
    options: *const qc_conv2d_options,
    conv: *mut *mut qc_conv2d,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (plan, out) = unsafe {
            let options = self::options("options", options)?;
            let out = Out::new("conv", conv)?;
            (options.plan()?, out)
        };
        out.give(qc_conv2d(Handle::new(plan)));
        Ok(())
    })
}

/// Rows and columns of the output, OH and OW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_conv2d_output_size(
    conv: *const qc_conv2d,
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

/// The number of `int32_t` of scratch that a run on the threads of `pool`, or without one, needs; may be 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_conv2d_scratch_len(
    conv: *const qc_conv2d,
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
        len.write(conv.0.with("conv", |conv| Ok(conv.scratch_len(threads)))?);
        Ok(())
    })
}

/// The output of images `image_begin` .. `image_end` - 1, `[image_end - image_begin, OH, OW, O]`.
///
/// `words` are all `images` packed images. `out` has `out_len` elements of the type that the plan's output is of; packed
/// codes have as many words as `qc_packed_words` says for (image_end - image_begin) x OH x OW rows of O columns, and
/// all others an element for each of those. `residual` is NULL unless the plan adds one. `scratch` has
/// `qc_conv2d_scratch_len` elements or more for this pool; two runs at once need two. Nothing is allocated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_conv2d_run(
    conv: *const qc_conv2d,
    words: *const u32,
    n_words: usize,
    images: usize,
    image_begin: usize,
    image_end: usize,
    residual: *const qc_residual,
    out: *mut c_void,
    out_len: usize,
    scratch: *mut i32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let conv = handle("conv", conv)?;
        let words = slice("words", words, n_words)?;
        conv.0.with("conv", |conv| {
            let (encoding, channels) = (conv.activation(), conv.geometry().channels);
            let pixels = elements("images x H x W", &[images, conv.geometry().pixels()])?;
            check_words(
                "n_words",
                n_words,
                encoding,
                "images x H x W x C",
                pixels,
                channels,
            )?;
            let input = PackedRef::new(encoding, pixels, channels, words)?;
            let range = range(images, image_begin, image_end)?;
            let out = (out, out_len);
            run(
                conv,
                input,
                range,
                residual,
                out,
                (scratch, scratch_len),
                pool,
            )
        })
    })
}

/// As `qc_conv2d_run`, with a byte for each of the `images` x H x W x C codes: unsigned codes as `uint8_t`, signed ones
/// as the bytes of `int8_t`. Not for bipolar activations.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_conv2d_run_bytes(
    conv: *const qc_conv2d,
    bytes: *const u8,
    n_bytes: usize,
    images: usize,
    image_begin: usize,
    image_end: usize,
    residual: *const qc_residual,
    out: *mut c_void,
    out_len: usize,
    scratch: *mut i32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let conv = handle("conv", conv)?;
        let bytes = slice("bytes", bytes, n_bytes)?;
        conv.0.with("conv", |conv| {
            let pixels = elements("images x H x W", &[images, conv.geometry().pixels()])?;
            let channels = conv.geometry().channels;
            let input = ByteRef::new(conv.activation(), pixels, channels, bytes)?;
            let range = range(images, image_begin, image_end)?;
            let out = (out, out_len);
            run(
                conv,
                input,
                range,
                residual,
                out,
                (scratch, scratch_len),
                pool,
            )
        })
    })
}

/// # Safety
///
/// The caller's promises about the pointers.
unsafe fn run<'a>(
    conv: &Conv2d,
    input: impl Into<Activations<'a>>,
    images: Range<usize>,
    added: *const qc_residual,
    (out, out_len): (*mut c_void, usize),
    (scratch, scratch_len): (*mut i32, usize),
    pool: *const qc_pool,
) -> Answer<()> {
    let (height, width) = conv.size();
    let pixels = elements("images x OH x OW", &[images.len(), height, width])?;
    // SAFETY: the contract is this function's.
    let (added, out, scratch, par) = unsafe {
        let added = residual(added, pixels, conv.o())?;
        let out = rows(conv.finish().output(), out, out_len)?;
        let scratch = slice_mut("scratch", scratch, scratch_len)?;
        (added, out, scratch, par(pool)?)
    };
    Ok(conv.run(input, images, added, out, scratch, par)?)
}

fn range(images: usize, begin: usize, end: usize) -> Answer<Range<usize>> {
    some_of("image_begin..image_end", images, begin, end)
}

/// Which kernel runs, for people: ISA, method, tile and blocks. As `snprintf` does.
///
/// `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
/// `*length` receives the length of the whole text without its zero: the text was cut if that is not
/// below `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_conv2d_describe(
    conv: *const qc_conv2d,
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
pub unsafe extern "C" fn qc_conv2d_free(conv: *mut qc_conv2d) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(conv) }
}
