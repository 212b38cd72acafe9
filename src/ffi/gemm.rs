//! C: products of packed weights and packed activations.

use std::ffi::c_char;
use std::ops::Range;

use super::gemm_options::{
    QC_METHOD_BITS, QC_METHOD_BYTES, QC_METHOD_TABLES, granularity, qc_gemm_options,
};
use super::pack::{check_words, encoding};
use super::pointer::{Out, copy_text, handle, options, slice, slice_mut};
use super::pool::{par, qc_pool};
use super::status::Answer;
use super::{Handle, enter, free};
use crate::bits::{ByteRef, PackedRef};
use crate::error::Error;
use crate::ops::{Gemm, RowScales};

/// A plan for activations `[M, K]` times weights `[N, K]`: weights prepacked, kernel chosen. Immutable.
pub struct qc_gemm(Handle<Gemm>);

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

/// As `qc_gemm_max_k`, for activations with a zero point. Plans with a scale per group have no such bound.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_max_k_affine(
    weight_encoding: i32,
    activation_encoding: i32,
    zero_point: i32,
    k: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let k = unsafe { Out::new("k", k)? };
        let weight = encoding("weight_encoding", weight_encoding)?;
        let activation = encoding("activation_encoding", activation_encoding)?;
        k.write(Gemm::max_k_affine(weight, activation, zero_point)?);
        Ok(())
    })
}

/// The methods that an ISA has for a product, as a sum of `QC_METHOD_...`; 0 if it is not served or if the ISA is
/// not here.
///
/// `isa` is the name of one, or NULL for what a plan without a name would use. `scale_granularity` and `group` are
/// as in `qc_gemm_options`; a plan without scales is as one with `QC_PER_TENSOR`. `qc_gemm_describe` tells
/// which of them a plan uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_supports(
    isa: *const c_char,
    weight_encoding: i32,
    activation_encoding: i32,
    scale_granularity: i32,
    group: usize,
    methods: *mut i32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and strings.
        let (isa, out) = unsafe {
            (
                super::gemm_options::isa(isa)?,
                Out::new("methods", methods)?,
            )
        };
        let weight = encoding("weight_encoding", weight_encoding)?;
        let activation = encoding("activation_encoding", activation_encoding)?;
        let granularity = granularity(scale_granularity, group)?;
        let has = Gemm::methods(isa, weight, activation, granularity);
        let bits = i32::from(has.bits) * QC_METHOD_BITS;
        let bytes = i32::from(has.bytes) * QC_METHOD_BYTES;
        out.write(bits + bytes + i32::from(has.tables) * QC_METHOD_TABLES);
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

/// The floats `scale[n] * sum + bias[n]`, for a plan made with `scale` and `bias` or with `scales`; else as
/// `qc_gemm_run_i32`.
///
/// The sum is converted to the nearest float, the product is rounded, then the sum of that and the bias. With a scale
/// per group the sum of each group is converted, multiplied and rounded, added and rounded in their order, from 0,
/// and then comes the bias.
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

/// As `qc_gemm_run_f32`, for activations that were quantized row by row: `row_scale` has `m` factors and
/// `row_zero_point` `m` integers of their encoding, or is NULL for zeros.
///
/// A sum is that of weight x (activation - zero point of the row), and `row_scale` is multiplied before the bias is
/// added. Zero points are refused if the plan has one too, or if K exceeds `qc_gemm_max_k_affine`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_run_rows_f32(
    gemm: *const qc_gemm,
    words: *const u32,
    n_words: usize,
    row_scale: *const f32,
    row_zero_point: *const i32,
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
        let by_row = by_row(row_scale, row_zero_point, m)?;
        let out = slice_mut("out", out, out_len)?;
        let scratch = slice_mut("scratch", scratch, scratch_len)?;
        let par = par(pool)?;
        gemm.0.with("gemm", |gemm| {
            let (activations, rows) = rows(gemm, words, m, row_begin, row_end)?;
            Ok(gemm.run_rows_f32(activations, by_row, rows, out, scratch, par)?)
        })
    })
}

/// As `qc_gemm_run_rows_f32`, with a byte for each code as `qc_gemm_run_bytes_i32` takes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_gemm_run_rows_bytes_f32(
    gemm: *const qc_gemm,
    bytes: *const u8,
    n_bytes: usize,
    row_scale: *const f32,
    row_zero_point: *const i32,
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
        let by_row = by_row(row_scale, row_zero_point, m)?;
        let out = slice_mut("out", out, out_len)?;
        let scratch = slice_mut("scratch", scratch, scratch_len)?;
        let par = par(pool)?;
        gemm.0.with("gemm", |gemm| {
            let rows = range(m, row_begin, row_end)?;
            let activations = ByteRef::new(gemm.activation(), m, gemm.k(), bytes)?;
            Ok(gemm.run_rows_f32(activations, by_row, rows, out, scratch, par)?)
        })
    })
}

/// # Safety
///
/// `m` elements at `scale`, and at `zero_point` unless it is NULL, that nobody writes during `'a`.
unsafe fn by_row<'a>(scale: *const f32, zero_point: *const i32, m: usize) -> Answer<RowScales<'a>> {
    // SAFETY: the contract is this function's.
    unsafe {
        let scale = slice("row_scale", scale, m)?;
        let zero_point = match zero_point.is_null() {
            true => None,
            false => Some(slice("row_zero_point", zero_point, m)?),
        };
        Ok(RowScales { scale, zero_point })
    }
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
    some_of("row_begin..row_end", m, row_begin, row_end)
}

/// `begin` .. `end` of `all`; an error names the arguments by `name`.
pub(super) fn some_of(
    name: &'static str,
    all: usize,
    begin: usize,
    end: usize,
) -> Answer<Range<usize>> {
    if begin > end || end > all {
        let value = format!("{begin}..{end}");
        let expected = format!("a range inside 0..{all}");
        return Err(Error::argument(name, value, expected).into());
    }
    Ok(begin..end)
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
