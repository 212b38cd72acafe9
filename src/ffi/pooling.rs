//! C: plans for pooling, their runs over packed codes, and packed codes back into floats.

use std::ffi::c_char;

use super::conv::geometry;
use super::finish::quantizer;
use super::pack::{check_words, encoding};
use super::pointer::{Growing, Out, handle, init, options, slice, slice_mut};
use super::pool::{par, qc_pool};
use super::quantize::qc_quantizer;
use super::status::{Answer, Failure};
use super::{Handle, enter, free};
use crate::bits::{Encoding, PackedMut, PackedRef};
use crate::error::Error;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::model::Window;
use crate::ops::{AveragePool, Geometry, MaxPool, Padding, dequantize};
use crate::shape::elements;

/// What windows a pooling sees. Fill it with `qc_window_init` first. Pairs are vertical, horizontal.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_window {
    /// `sizeof(qc_window)`.
    pub struct_size: usize,
    /// Encoding of images of codes, not ternary; for floats it does not count. Default: `QC_BIPOLAR`.
    pub encoding: i32,
    /// 0.
    pub reserved: i32,
    /// Channels of the images, C. Default: 0.
    pub channels: usize,
    /// Rows of an image, H. Default: 1.
    pub height: usize,
    /// Columns of an image, W. Default: 1.
    pub width: usize,
    /// Rows and columns of a window; H and W pool a whole image into a pixel. Default: 1.
    pub kernel: [usize; 2],
    /// Input pixels from one output pixel to the next. Default: 1.
    pub stride: [usize; 2],
    /// Input pixels from one pixel of a window to the next. Default: 1.
    pub dilation: [usize; 2],
    /// Rows above, columns to the left, rows below, columns to the right, which are no part of any window. Default: 0.
    pub padding: [usize; 4],
    /// Name of the ISA to run on, or NULL for what `QCORE_ISA` says, or else the best. Default: NULL.
    pub isa: *const c_char,
}

// SAFETY: repr(C), the size first, two fields of four bytes, then fields as wide as the size: no padding; integers and
// a raw pointer.
unsafe impl Growing for qc_window {}
const _: () = assert!(size_of::<qc_window>() == size_of::<[usize; 15]>() + 2 * 4);

impl qc_window {
    /// # Safety
    ///
    /// The promises of the head of the header for the pointer inside.
    unsafe fn parts(&self) -> Answer<(Geometry, Encoding, &'static Kernels)> {
        self.check()?;
        let encoding = encoding("encoding", self.encoding)?;
        // SAFETY: the contract is this function's.
        let isa: Isa = unsafe { super::gemm_options::isa(self.isa)? };
        let geometry = geometry(
            [self.height, self.width, self.channels],
            [self.kernel, self.stride, self.dilation],
            self.padding,
            1,
        );
        Ok((geometry, encoding, Kernels::of(isa)?))
    }

    fn check(&self) -> Answer<()> {
        match self.reserved {
            0 => Ok(()),
            other => Err(Error::argument("reserved", other, 0).into()),
        }
    }

    /// The window by itself, for a node of a model: kernel, stride, dilation and padding.
    pub(super) fn window(&self) -> Answer<Window> {
        self.check()?;
        let [top, left, bottom, right] = self.padding;
        Ok(Window {
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            padding: Padding {
                top,
                left,
                bottom,
                right,
            },
        })
    }
}

/// Fills `*window` with the defaults. `struct_size` is `sizeof *window`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_window_init(struct_size: usize, window: *mut qc_window) -> i32 {
    let defaults = qc_window {
        struct_size,
        encoding: super::QC_BIPOLAR,
        reserved: 0,
        channels: 0,
        height: 1,
        width: 1,
        kernel: [1; 2],
        stride: [1; 2],
        dilation: [1; 2],
        padding: [0; 4],
        isa: std::ptr::null(),
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("window", window, struct_size, defaults) })
}

/// What a plan of either pooling knows.
pub(super) struct Plan<T> {
    pub(super) plan: T,
    /// The same windows over floats.
    pub(super) floats: T,
    pub(super) kernels: &'static Kernels,
    pub(super) geometry: Geometry,
    pub(super) encoding: Encoding,
    /// OH and OW.
    size: (usize, usize),
}

impl<T> Plan<T> {
    /// # Safety
    ///
    /// The caller's promises about `window`.
    unsafe fn new(
        window: *const qc_window,
        make: impl FnOnce(Geometry, Encoding) -> crate::Result<T>,
        floats: impl FnOnce(Geometry) -> crate::Result<T>,
        size: impl FnOnce(&T) -> (usize, usize),
    ) -> Answer<Handle<Self>> {
        // SAFETY: the contract is this function's.
        let (geometry, encoding, kernels) = unsafe { options("window", window)?.parts()? };
        let plan = make(geometry, encoding)?;
        Ok(Handle::new(Plan {
            size: size(&plan),
            plan,
            floats: floats(geometry)?,
            kernels,
            geometry,
            encoding,
        }))
    }

    /// Packed images; `name` is that of the argument that says how many words there are.
    pub(super) fn input<'a>(
        &self,
        name: &'static str,
        words: &'a [u32],
        images: usize,
    ) -> Answer<PackedRef<'a>> {
        let pixels = elements("images x H x W", &[images, self.geometry.pixels()])?;
        let (encoding, channels) = (self.encoding, self.geometry.channels);
        let dims = "images x H x W x C";
        check_words(name, words.len(), encoding, dims, pixels, channels)?;
        Ok(PackedRef::new(encoding, pixels, channels, words)?)
    }

    pub(super) fn codes<'a>(
        &self,
        encoding: Encoding,
        out: &'a mut [u32],
        images: usize,
    ) -> Answer<PackedMut<'a>> {
        let pixels = elements("images x OH x OW", &[images, self.size.0, self.size.1])?;
        let (channels, dims) = (self.geometry.channels, "images x OH x OW x C");
        check_words("out_len", out.len(), encoding, dims, pixels, channels)?;
        let out = PackedMut::new(encoding, pixels, channels, out);
        out.map_err(|e| Failure::named("out", e))
    }
}

/// A plan for max-pooling: per channel the greatest element of a window. Immutable.
pub struct qc_max_pool(pub(super) Handle<Plan<MaxPool>>);

/// Makes a plan. Free it with `qc_max_pool_free`. A window that holds nothing but padding is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_max_pool_new(
    window: *const qc_window,
    max_pool: *mut *mut qc_max_pool,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (plan, out) = unsafe {
            let plan = Plan::new(window, MaxPool::new, MaxPool::floats, MaxPool::output)?;
            (plan, Out::new("max_pool", max_pool)?)
        };
        out.give(qc_max_pool(plan));
        Ok(())
    })
}

/// Rows and columns of the output, OH and OW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_max_pool_output_size(
    max_pool: *const qc_max_pool,
    height: *mut usize,
    width: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles and pointers.
    enter(|| unsafe {
        let max_pool = handle("max_pool", max_pool)?;
        output_size("max_pool", &max_pool.0, height, width)
    })
}

/// Pools `images` packed images into `out`, codes of the same encoding `[images, OH, OW, C]`.
///
/// `out_len` is what `qc_packed_words` says for images x OH x OW rows of C columns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_max_pool_run(
    max_pool: *const qc_max_pool,
    words: *const u32,
    n_words: usize,
    images: usize,
    out: *mut u32,
    out_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let max_pool = handle("max_pool", max_pool)?;
        let words = slice("words", words, n_words)?;
        let out = slice_mut("out", out, out_len)?;
        let par = par(pool)?;
        max_pool.0.with("max_pool", |p| {
            let input = p.input("n_words", words, images)?;
            let out = p.codes(p.encoding, out, images)?;
            Ok(p.plan.run(p.kernels, input, out, par)?)
        })
    })
}

/// Ends a plan; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_max_pool_free(max_pool: *mut qc_max_pool) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(max_pool) }
}

/// A plan for average pooling: per channel the mean of a window. Immutable.
pub struct qc_average_pool(pub(super) Handle<Plan<AveragePool>>);

/// Makes a plan. Free it with `qc_average_pool_free`. A window that holds nothing but padding is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_average_pool_new(
    window: *const qc_window,
    average_pool: *mut *mut qc_average_pool,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (plan, out) = unsafe {
            let plan = Plan::new(
                window,
                AveragePool::new,
                AveragePool::floats,
                AveragePool::output,
            )?;
            (plan, Out::new("average_pool", average_pool)?)
        };
        out.give(qc_average_pool(plan));
        Ok(())
    })
}

/// Rows and columns of the output, OH and OW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_average_pool_output_size(
    average_pool: *const qc_average_pool,
    height: *mut usize,
    width: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles and pointers.
    enter(|| unsafe {
        let average_pool = handle("average_pool", average_pool)?;
        output_size("average_pool", &average_pool.0, height, width)
    })
}

/// Means of `images` packed images, of which the integer 1 stands for `scale`, into `out` `[images, OH, OW, C]`.
///
/// A mean is sum * (scale / count): the integers of the window that are no padding summed exactly, `scale` divided by
/// their number and rounded, the sum converted to the nearest float, then one product. `out_len` is
/// images x OH x OW x C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_average_pool_run_f32(
    average_pool: *const qc_average_pool,
    words: *const u32,
    n_words: usize,
    images: usize,
    scale: f32,
    out: *mut f32,
    out_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let average_pool = handle("average_pool", average_pool)?;
        let words = slice("words", words, n_words)?;
        let out = slice_mut("out", out, out_len)?;
        let par = par(pool)?;
        average_pool.0.with("average_pool", |p| {
            let input = p.input("n_words", words, images)?;
            Ok(p.plan.run_f32(p.kernels, input, scale, out, par)?)
        })
    })
}

/// The codes that `quantizer`, any, gives the means of `qc_average_pool_run_f32`.
///
/// `out_len` is what `qc_packed_words` says for images x OH x OW rows of C columns of the quantizer's encoding.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_average_pool_run_codes(
    average_pool: *const qc_average_pool,
    words: *const u32,
    n_words: usize,
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
        let words = slice("words", words, n_words)?;
        let quantizer = self::quantizer(quantizer)?;
        let out = slice_mut("out", out, out_len)?;
        let par = par(pool)?;
        average_pool.0.with("average_pool", |p| {
            let input = p.input("n_words", words, images)?;
            let out = p.codes(quantizer.encoding(), out, images)?;
            let run = p
                .plan
                .run_codes(p.kernels, input, scale, quantizer, out, par);
            Ok(run?)
        })
    })
}

/// Ends a plan; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_average_pool_free(average_pool: *mut qc_average_pool) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(average_pool) }
}

/// # Safety
///
/// The caller's promises about `height` and `width`.
unsafe fn output_size<T>(
    name: &str,
    plan: &Handle<Plan<T>>,
    height: *mut usize,
    width: *mut usize,
) -> Answer<()> {
    // SAFETY: the contract is this function's.
    let (height, width) = unsafe { (Out::new("height", height)?, Out::new("width", width)?) };
    let size = plan.with(name, |plan| Ok(plan.size))?;
    height.write(size.0);
    width.write(size.1);
    Ok(())
}

/// The floats scale * integer of packed codes `[rows, cols]`, not ternary ones. `out_len` is rows x cols.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_dequantize_f32(
    encoding: i32,
    rows: usize,
    cols: usize,
    words: *const u32,
    n_words: usize,
    scale: f32,
    out: *mut f32,
    out_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe {
        let encoding = self::encoding("encoding", encoding)?;
        let words = slice("words", words, n_words)?;
        let out = slice_mut("out", out, out_len)?;
        let par = par(pool)?;
        check_words("n_words", n_words, encoding, "rows x cols", rows, cols)?;
        let codes = PackedRef::new(encoding, rows, cols, words)?;
        let kernels = Kernels::of(Isa::chosen()?)?;
        Ok(dequantize(kernels, codes, scale, out, par)?)
    })
}
