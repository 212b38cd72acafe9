//! C: products of packed weights and packed activations.

use std::ffi::c_char;
use std::ops::Range;

use super::pack::{check_words, encoding};
use super::pointer::{Growing, Out, copy_text, handle, init, options, slice, slice_mut, string};
use super::pool::{par, qc_pool};
use super::status::{Answer, Failure};
use super::{Handle, enter, free};
use crate::bits::{ByteRef, PackedRef};
use crate::error::Error;
use crate::isa::Isa;
use crate::ops::{Epilogue, Gemm};

/// A plan for activations `[M, K]` times weights `[N, K]`: weights prepacked, kernel chosen. Immutable.
pub struct qc_gemm(Handle<Gemm>);

/// What a plan is made of. Fill it with `qc_gemm_options_init` first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_gemm_options {
    /// `sizeof(qc_gemm_options)`.
    pub struct_size: usize,
    /// Encoding of the weights. Default: `QC_BIPOLAR`.
    pub weight_encoding: i32,
    /// Encoding of the activations: `QC_BIPOLAR`, `QC_U1` .. `QC_U8` or `QC_S1` .. `QC_S8`. Default: `QC_BIPOLAR`.
    pub activation_encoding: i32,
    /// Output channels, N. Default: 0.
    pub n: usize,
    /// Inputs of a channel, K; `qc_gemm_max_k` tells how many there may be. Default: 0.
    pub k: usize,
    /// Packed weights `[N, K]`; not needed any more once the plan is made. Default: NULL.
    pub weights: *const u32,
    /// Number of words at `weights`, what `qc_packed_words` says. Default: 0.
    pub weight_words: usize,
    /// N factors for `scale[n] * sum + bias[n]` in f32, or NULL for a plan that gives integers. Default: NULL.
    pub scale: *const f32,
    /// N summands; NULL if and only if `scale` is. Default: NULL.
    pub bias: *const f32,
    /// Name of the ISA to run on, or NULL for what `QCORE_ISA` says, or else the best. Default: NULL.
    pub isa: *const c_char,
}

// SAFETY: repr(C), the size first, two fields of four bytes, then fields as wide as the size: no padding;
// integers and raw pointers.
unsafe impl Growing for qc_gemm_options {}
const _: () = assert!(size_of::<qc_gemm_options>() == size_of::<[usize; 8]>() + 2 * 4);

impl qc_gemm_options {
    /// # Safety
    ///
    /// The promises of the head of the header for the pointers inside.
    unsafe fn plan(&self) -> Answer<Gemm> {
        let weight_encoding = encoding("weight_encoding", self.weight_encoding)?;
        let activation = encoding("activation_encoding", self.activation_encoding)?;
        let (n, k, len) = (self.n, self.k, self.weight_words);
        check_words("weight_words", len, weight_encoding, "n x k", n, k)?;
        // SAFETY: the contract is this function's.
        let (words, epilogue, isa) = unsafe {
            let words = slice("weights", self.weights, len)?;
            let isa = match self.isa.is_null() {
                true => Isa::chosen()?,
                false => string("isa", self.isa)?
                    .to_string_lossy()
                    .parse::<Isa>()?
                    .require()?,
            };
            (words, self.epilogue()?, isa)
        };
        let weights = PackedRef::new(weight_encoding, n, k, words);
        let weights = weights.map_err(|e| Failure::named("weights", e))?;
        Ok(Gemm::on(isa, weights, activation, epilogue)?)
    }

    /// # Safety
    ///
    /// As for `plan`.
    unsafe fn epilogue(&self) -> Answer<Epilogue> {
        if self.scale.is_null() && self.bias.is_null() {
            return Ok(Epilogue::None);
        }
        // SAFETY: the contract is this function's.
        let (scale, bias) = unsafe {
            let scale = slice("scale", self.scale, self.n)?;
            (scale, slice("bias", self.bias, self.n)?)
        };
        Ok(Epilogue::ScaleBias {
            scale: scale.to_vec(),
            bias: bias.to_vec(),
        })
    }
}

/// Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_options_init(
    struct_size: usize,
    options: *mut qc_gemm_options,
) -> i32 {
    let defaults = qc_gemm_options {
        struct_size,
        weight_encoding: super::QC_BIPOLAR,
        activation_encoding: super::QC_BIPOLAR,
        n: 0,
        k: 0,
        weights: std::ptr::null(),
        weight_words: 0,
        scale: std::ptr::null(),
        bias: std::ptr::null(),
        isa: std::ptr::null(),
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("options", options, struct_size, defaults) })
}

/// The largest K for which weights times activations of these encodings cannot overflow an `int32_t` sum.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_max_k(
    weight_encoding: i32,
    activation_encoding: i32,
    k: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let k = unsafe { Out::new("k", k)? };
        let weight = encoding("weight_encoding", weight_encoding)?;
        let activation = encoding("activation_encoding", activation_encoding)?;
        k.write(Gemm::max_k(weight, activation)?);
        Ok(())
    })
}

/// Makes a plan. Free it with `qc_gemm_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_new(
    options: *const qc_gemm_options,
    gemm: *mut *mut qc_gemm,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (plan, out) = unsafe {
            let options = self::options("options", options)?;
            let out = Out::new("gemm", gemm)?;
            (options.plan()?, out)
        };
        out.give(qc_gemm(Handle::new(plan)));
        Ok(())
    })
}

/// The number of `int32_t` of scratch that a run over `rows` rows needs; may be 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_scratch_len(
    gemm: *const qc_gemm,
    rows: usize,
    len: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (gemm, len) = unsafe { (handle("gemm", gemm)?, Out::new("len", len)?) };
        len.write(gemm.0.with("gemm", |gemm| Ok(gemm.scratch_len(rows)))?);
        Ok(())
    })
}

/// The number of `int32_t` of scratch that a run over `rows` rows of bytes needs; may be 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_scratch_len_bytes(
    gemm: *const qc_gemm,
    rows: usize,
    len: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (gemm, len) = unsafe { (handle("gemm", gemm)?, Out::new("len", len)?) };
        len.write(
            gemm.0
                .with("gemm", |gemm| Ok(gemm.scratch_len_bytes(rows)))?,
        );
        Ok(())
    })
}

/// The integer sums of rows `row_begin` .. `row_end` - 1 of the activations, `[rows, N]` row-major.
///
/// `words` are all `m` rows of the packed activations. `out_len` is (row_end - row_begin) x N.
/// `scratch` has `qc_gemm_scratch_len` elements or more for that many rows; two runs at once need two.
/// Nothing is allocated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_run_i32(
    gemm: *const qc_gemm,
    words: *const u32,
    n_words: usize,
    m: usize,
    row_begin: usize,
    row_end: usize,
    out: *mut i32,
    out_len: usize,
    scratch: *mut i32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let gemm = handle("gemm", gemm)?;
        let words = slice("words", words, n_words)?;
        let out = slice_mut("out", out, out_len)?;
        let scratch = slice_mut("scratch", scratch, scratch_len)?;
        let par = par(pool)?;
        gemm.0.with("gemm", |gemm| {
            let (activations, rows) = rows(gemm, words, m, row_begin, row_end)?;
            Ok(gemm.run_i32(activations, rows, out, scratch, par)?)
        })
    })
}

/// The floats `scale[n] * sum + bias[n]`, for a plan made with `scale` and `bias`; else as
/// `qc_gemm_run_i32`.
///
/// The sum is converted to the nearest float, the product is rounded, then the sum of that and the bias.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_run_f32(
    gemm: *const qc_gemm,
    words: *const u32,
    n_words: usize,
    m: usize,
    row_begin: usize,
    row_end: usize,
    out: *mut f32,
    out_len: usize,
    scratch: *mut i32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let gemm = handle("gemm", gemm)?;
        let words = slice("words", words, n_words)?;
        let out = slice_mut("out", out, out_len)?;
        let scratch = slice_mut("scratch", scratch, scratch_len)?;
        let par = par(pool)?;
        gemm.0.with("gemm", |gemm| {
            let (activations, rows) = rows(gemm, words, m, row_begin, row_end)?;
            Ok(gemm.run_f32(activations, rows, out, scratch, par)?)
        })
    })
}

/// As `qc_gemm_run_i32`, with a byte for each of the `m` x K codes, row-major: unsigned codes as `uint8_t`, signed
/// ones as the bytes of `int8_t`. Not for bipolar activations. `scratch` has `qc_gemm_scratch_len_bytes` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_run_bytes_i32(
    gemm: *const qc_gemm,
    bytes: *const u8,
    n_bytes: usize,
    m: usize,
    row_begin: usize,
    row_end: usize,
    out: *mut i32,
    out_len: usize,
    scratch: *mut i32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let gemm = handle("gemm", gemm)?;
        let bytes = slice("bytes", bytes, n_bytes)?;
        let out = slice_mut("out", out, out_len)?;
        let scratch = slice_mut("scratch", scratch, scratch_len)?;
        let par = par(pool)?;
        gemm.0.with("gemm", |gemm| {
            let rows = range(m, row_begin, row_end)?;
            let activations = ByteRef::new(gemm.activation(), m, gemm.k(), bytes)?;
            Ok(gemm.run_i32(activations, rows, out, scratch, par)?)
        })
    })
}

/// As `qc_gemm_run_f32`, with a byte for each code as `qc_gemm_run_bytes_i32` takes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_run_bytes_f32(
    gemm: *const qc_gemm,
    bytes: *const u8,
    n_bytes: usize,
    m: usize,
    row_begin: usize,
    row_end: usize,
    out: *mut f32,
    out_len: usize,
    scratch: *mut i32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let gemm = handle("gemm", gemm)?;
        let bytes = slice("bytes", bytes, n_bytes)?;
        let out = slice_mut("out", out, out_len)?;
        let scratch = slice_mut("scratch", scratch, scratch_len)?;
        let par = par(pool)?;
        gemm.0.with("gemm", |gemm| {
            let rows = range(m, row_begin, row_end)?;
            let activations = ByteRef::new(gemm.activation(), m, gemm.k(), bytes)?;
            Ok(gemm.run_f32(activations, rows, out, scratch, par)?)
        })
    })
}

fn rows<'a>(
    gemm: &Gemm,
    words: &'a [u32],
    m: usize,
    row_begin: usize,
    row_end: usize,
) -> Answer<(PackedRef<'a>, Range<usize>)> {
    let (encoding, k) = (gemm.activation(), gemm.k());
    check_words("n_words", words.len(), encoding, "m x k", m, k)?;
    let rows = range(m, row_begin, row_end)?;
    let activations = PackedRef::new(encoding, m, k, words)?;
    Ok((activations, rows))
}

fn range(m: usize, row_begin: usize, row_end: usize) -> Answer<Range<usize>> {
    if row_begin > row_end || row_end > m {
        let value = format!("{row_begin}..{row_end}");
        let expected = format!("a range inside 0..{m}");
        return Err(Error::argument("row_begin..row_end", value, expected).into());
    }
    Ok(row_begin..row_end)
}

/// Which kernel runs, for people: ISA, method, tile and passes. As `snprintf` does.
///
/// `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
/// `*length` receives the length of the whole text without its zero: the text was cut if that is not
/// below `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_describe(
    gemm: *const qc_gemm,
    buf: *mut c_char,
    len: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let (gemm, length) = (handle("gemm", gemm)?, Out::new("length", length)?);
        let text = gemm.0.with("gemm", |gemm| Ok(gemm.describe()))?;
        copy_text(text.as_bytes(), buf, len, length)
    })
}

/// Ends a plan; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_free(gemm: *mut qc_gemm) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(gemm) }
}
