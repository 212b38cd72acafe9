//! C: products of packed weights and float activations.

use std::ffi::{c_char, c_void};

use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};

use super::gemm_options::{self, QC_F32, QC_PER_TENSOR};
use super::pack::{check_words, encoding};
use super::pointer::{Growing, Out, copy_text, handle, init, options, slice, slice_mut};
use super::pool::{par, qc_pool};
use super::status::{Answer, Failure};
use super::{Handle, enter, free};
use crate::bits::PackedRef;
use crate::error::Error;
use crate::ops::WeightOnlyGemm;
use crate::quant::{Float, Scales};

/// A plan for float activations `[M, K]` times packed weights `[N, K]`, which stay packed. Immutable.
pub struct qc_weight_only(Handle<WeightOnlyGemm>);

/// What a plan is made of. Fill it with `qc_weight_only_options_init` first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_weight_only_options {
    /// `sizeof(qc_weight_only_options)`.
    pub struct_size: usize,
    /// Encoding of the weights. Default: `QC_BIPOLAR`.
    pub weight_encoding: i32,
    /// Type of the scales: `QC_F32`, `QC_F16` or `QC_BF16`. Default: `QC_F32`.
    pub scale_type: i32,
    /// Output channels, N. Default: 0.
    pub n: usize,
    /// Inputs of a channel, K. Default: 0.
    pub k: usize,
    /// Packed weights `[N, K]`; not needed any more once the plan is made. Default: NULL.
    pub weights: *const u32,
    /// Number of words at `weights`, what `qc_packed_words` says. Default: 0.
    pub weight_words: usize,
    /// Scales of the type `scale_type`, as many as `scale_granularity` says. Default: NULL.
    pub scales: *const c_void,
    /// Number of elements at `scales`. Default: 0.
    pub n_scales: usize,
    /// Columns of a group for `QC_PER_GROUP`: a multiple of 32 from 32 to 256. Default: 0.
    pub group: usize,
    /// N summands, or NULL for none. Default: NULL.
    pub bias: *const f32,
    /// Name of the ISA to run on, or NULL for what `QCORE_ISA` says, or else the best. Default: NULL.
    pub isa: *const c_char,
    /// `QC_PER_TENSOR`, `QC_PER_CHANNEL` or `QC_PER_GROUP`. Default: `QC_PER_TENSOR`.
    pub scale_granularity: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: repr(C), the size first, two fields of four bytes, fields as wide as the size, then two of four bytes:
// no padding; integers and raw pointers.
unsafe impl Growing for qc_weight_only_options {}
const _: () = assert!(size_of::<qc_weight_only_options>() == size_of::<[usize; 10]>() + 4 * 4);

/// What a plan is made of, or a node of a model.
pub(super) struct Parts<'a> {
    pub(super) weights: PackedRef<'a>,
    pub(super) scales: Scales,
    pub(super) bias: Option<Vec<f32>>,
}

impl qc_weight_only_options {
    /// # Safety
    ///
    /// The promises of the head of the header for the pointers inside.
    unsafe fn plan(&self) -> Answer<WeightOnlyGemm> {
        // SAFETY: the contract is this function's.
        let (parts, isa) = unsafe { (self.parts()?, gemm_options::isa(self.isa)?.require()?) };
        let Parts {
            weights,
            scales,
            bias,
        } = parts;
        Ok(WeightOnlyGemm::on(isa, weights, &scales, bias)?)
    }

    /// All but the ISA.
    ///
    /// # Safety
    ///
    /// As for `plan`.
    pub(super) unsafe fn parts<'a>(&self) -> Answer<Parts<'a>> {
        let weight_encoding = encoding("weight_encoding", self.weight_encoding)?;
        let (n, k, len) = (self.n, self.k, self.weight_words);
        if self.reserved != 0 {
            return Err(Error::argument("reserved", self.reserved, 0).into());
        }
        check_words("weight_words", len, weight_encoding, "n x k", n, k)?;
        // SAFETY: the contract is this function's.
        let (words, scales, bias) = unsafe {
            let words = slice("weights", self.weights, len)?;
            let bias = match self.bias.is_null() {
                true => None,
                false => Some(slice("bias", self.bias, n)?.to_vec()),
            };
            (words, self.scales()?, bias)
        };
        let weights = PackedRef::new(weight_encoding, n, k, words);
        let weights = weights.map_err(|e| Failure::named("weights", e))?;
        Ok(Parts {
            weights,
            scales,
            bias,
        })
    }

    /// # Safety
    ///
    /// As for `plan`.
    unsafe fn scales(&self) -> Answer<Scales> {
        let granularity = gemm_options::granularity(self.scale_granularity, self.group)?;
        granularity.check()?;
        // SAFETY: the contract is this function's.
        unsafe { gemm_options::scales(granularity, self.scale_type, self.scales, self.n_scales) }
    }
}

/// Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_only_options_init(
    struct_size: usize,
    options: *mut qc_weight_only_options,
) -> i32 {
    let defaults = qc_weight_only_options {
        struct_size,
        weight_encoding: super::QC_BIPOLAR,
        scale_type: QC_F32,
        n: 0,
        k: 0,
        weights: std::ptr::null(),
        weight_words: 0,
        scales: std::ptr::null(),
        n_scales: 0,
        group: 0,
        bias: std::ptr::null(),
        isa: std::ptr::null(),
        scale_granularity: QC_PER_TENSOR,
        reserved: 0,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("options", options, struct_size, defaults) })
}

/// Makes a plan. Free it with `qc_weight_only_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_only_new(
    options: *const qc_weight_only_options,
    plan: *mut *mut qc_weight_only,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (made, out) = unsafe {
            let options = self::options("options", options)?;
            let out = Out::new("plan", plan)?;
            (options.plan()?, out)
        };
        out.give(qc_weight_only(Handle::new(made)));
        Ok(())
    })
}

/// The number of floats of scratch that a run over `rows` rows needs; may be 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_only_scratch_len(
    plan: *const qc_weight_only,
    rows: usize,
    len: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (plan, len) = unsafe { (handle("plan", plan)?, Out::new("len", len)?) };
        len.write(plan.0.with("plan", |plan| Ok(plan.scratch_len(rows)))?);
        Ok(())
    })
}

/// Rows `row_begin` .. `row_end` - 1 of the activations times the weights, `[rows, N]` row-major.
///
/// `activations` are all `m` x K floats, `n_activations` of them. `out_len` is (row_end - row_begin) x N.
/// `scratch` has `qc_weight_only_scratch_len` elements or more for that many rows; two runs at once need two.
/// Nothing is allocated. A result is the sum over the groups, ascending, of scale times sum of the group, by one
/// fused multiply-add each, plus the bias. The sum of a group begins at 0. Under weights of one bit (bipolar, u1, s1)
/// p(k) + p(k + 2) is added to it for each fourth k, ascending, under weights of two bits (ternary, u2, s2) p(k) for
/// each second k, where p(k) is `fma(w[k + 1], a[k + 1], w[k] * a[k])` and activations behind K are 0; under all others
/// `w[k] * a[k]` for each k, by fused multiply-adds. So the floats are the same on every ISA, for every number of rows
/// and of threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_only_run_f32(
    plan: *const qc_weight_only,
    activations: *const f32,
    n_activations: usize,
    m: usize,
    row_begin: usize,
    row_end: usize,
    out: *mut f32,
    out_len: usize,
    scratch: *mut f32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let activations = slice("activations", activations, n_activations)?;
        let (out, scratch) = (
            slice_mut("out", out, out_len)?,
            slice_mut("scratch", scratch, scratch_len)?,
        );
        run(
            plan,
            activations,
            m,
            [row_begin, row_end],
            out,
            scratch,
            pool,
        )
    })
}

/// As `qc_weight_only_run_f32`, with activations that are halves; the results are f32.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_only_run_f16(
    plan: *const qc_weight_only,
    activations: *const u16,
    n_activations: usize,
    m: usize,
    row_begin: usize,
    row_end: usize,
    out: *mut f32,
    out_len: usize,
    scratch: *mut f32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let activations = slice("activations", activations, n_activations)?;
        let activations = activations.reinterpret_cast::<f16>();
        let (out, scratch) = (
            slice_mut("out", out, out_len)?,
            slice_mut("scratch", scratch, scratch_len)?,
        );
        run(
            plan,
            activations,
            m,
            [row_begin, row_end],
            out,
            scratch,
            pool,
        )
    })
}

/// As `qc_weight_only_run_f32`, with activations that are bfloat16; the results are f32.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_only_run_bf16(
    plan: *const qc_weight_only,
    activations: *const u16,
    n_activations: usize,
    m: usize,
    row_begin: usize,
    row_end: usize,
    out: *mut f32,
    out_len: usize,
    scratch: *mut f32,
    scratch_len: usize,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let activations = slice("activations", activations, n_activations)?;
        let activations = activations.reinterpret_cast::<bf16>();
        let (out, scratch) = (
            slice_mut("out", out, out_len)?,
            slice_mut("scratch", scratch, scratch_len)?,
        );
        run(
            plan,
            activations,
            m,
            [row_begin, row_end],
            out,
            scratch,
            pool,
        )
    })
}

/// # Safety
///
/// `plan` and `pool` are NULL or handles that are alive.
unsafe fn run<F: Float>(
    plan: *const qc_weight_only,
    activations: &[F],
    m: usize,
    [begin, end]: [usize; 2],
    out: &mut [f32],
    scratch: &mut [f32],
    pool: *const qc_pool,
) -> Answer<()> {
    // SAFETY: the contract is this function's.
    let (plan, par) = unsafe { (handle("plan", plan)?, par(pool)?) };
    plan.0.with("plan", |plan| {
        Ok(plan.run(activations, m, begin..end, out, scratch, par)?)
    })
}

/// Which kernel runs, for people: ISA, instruction, tile, fields and scales. As `qc_gemm_describe`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_only_describe(
    plan: *const qc_weight_only,
    buf: *mut c_char,
    len: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let (plan, length) = (handle("plan", plan)?, Out::new("length", length)?);
        let text = plan.0.with("plan", |plan| Ok(plan.describe()))?;
        copy_text(text.as_bytes(), buf, len, length)
    })
}

/// Ends a plan; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_only_free(plan: *mut qc_weight_only) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(plan) }
}
