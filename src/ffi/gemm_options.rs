//! C: what a plan of a product is made of.

use std::ffi::{c_char, c_void};

use half::slice::HalfBitsSliceExt;

use super::enter;
use super::pack::{check_words, encoding};
use super::pointer::{Growing, init, slice, string};
use super::status::{Answer, Failure};
use crate::bits::PackedRef;
use crate::error::Error;
use crate::isa::Isa;
use crate::ops::{Epilogue, Gemm};
use crate::quant::{Granularity, Scales};

/// Type of numbers: IEEE 754 single precision.
pub const QC_F32: i32 = 0;
/// Type of numbers: IEEE 754 half precision, given as its 16 bits.
pub const QC_F16: i32 = 1;
/// Type of numbers: bfloat16, given as its 16 bits.
pub const QC_BF16: i32 = 2;

/// Granularity of scales: one for all weights.
pub const QC_PER_TENSOR: i32 = 0;
/// Granularity of scales: one for each output channel.
pub const QC_PER_CHANNEL: i32 = 1;
/// Granularity of scales: one for each group of neighbours along K, `[N, ceil(K / group)]` row-major.
pub const QC_PER_GROUP: i32 = 2;

/// Method: bit-serial popcounts.
pub const QC_METHOD_BITS: i32 = 1;
/// Method: multiply-add of bytes.
pub const QC_METHOD_BYTES: i32 = 2;
/// Method: look-up of sums in tables.
pub const QC_METHOD_TABLES: i32 = 4;

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
    /// Scales in place of `scale`: of the type `scale_type`, as many as `scale_granularity` says. `bias` may then be
    /// NULL for none. Default: NULL.
    pub scales: *const c_void,
    /// Number of elements at `scales`. Default: 0.
    pub n_scales: usize,
    /// Columns of a group for `QC_PER_GROUP`: a multiple of 32 from 32 to 256. Default: 0.
    pub group: usize,
    /// `QC_PER_TENSOR`, `QC_PER_CHANNEL` or `QC_PER_GROUP`. With a scale per group a plan gives floats only, and K
    /// has no bound. Default: `QC_PER_TENSOR`.
    pub scale_granularity: i32,
    /// `QC_F32`, `QC_F16` or `QC_BF16`. Default: `QC_F32`.
    pub scale_type: i32,
    /// The integer of activations that stands for 0, one of their encoding: sums are those of
    /// weight x (activation - zero_point). Default: 0.
    pub zero_point: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: repr(C), the size first, two fields of four bytes, fields as wide as the size, then four of four bytes:
// no padding; integers and raw pointers.
unsafe impl Growing for qc_gemm_options {}
const _: () = assert!(size_of::<qc_gemm_options>() == size_of::<[usize; 11]>() + 6 * 4);

impl qc_gemm_options {
    /// # Safety
    ///
    /// The promises of the head of the header for the pointers inside.
    pub(super) unsafe fn plan(&self) -> Answer<Gemm> {
        let weight_encoding = encoding("weight_encoding", self.weight_encoding)?;
        let activation = encoding("activation_encoding", self.activation_encoding)?;
        let (n, k, len) = (self.n, self.k, self.weight_words);
        if self.reserved != 0 {
            return Err(Error::argument("reserved", self.reserved, 0).into());
        }
        check_words("weight_words", len, weight_encoding, "n x k", n, k)?;
        // SAFETY: the contract is this function's.
        let (words, epilogue, isa) = unsafe {
            let words = slice("weights", self.weights, len)?;
            (words, self.epilogue()?, isa(self.isa)?.require()?)
        };
        let weights = PackedRef::new(weight_encoding, n, k, words);
        let weights = weights.map_err(|e| Failure::named("weights", e))?;
        Ok(Gemm::affine(
            isa,
            weights,
            activation,
            self.zero_point,
            epilogue,
        )?)
    }

    /// # Safety
    ///
    /// As for `plan`.
    unsafe fn epilogue(&self) -> Answer<Epilogue> {
        if !self.scales.is_null() {
            if !self.scale.is_null() {
                return Err(Error::argument("scale", "not NULL", "NULL beside scales").into());
            }
            // SAFETY: the contract is this function's.
            return unsafe { self.scaled() };
        }
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

    /// # Safety
    ///
    /// As for `plan`.
    unsafe fn scaled(&self) -> Answer<Epilogue> {
        let granularity = granularity(self.scale_granularity, self.group)?;
        granularity.check()?;
        // SAFETY: the contract is this function's.
        let scales = unsafe { scales(granularity, self.scale_type, self.scales, self.n_scales)? };
        let bias = match self.bias.is_null() {
            true => None,
            // SAFETY: as above.
            false => Some(unsafe { slice("bias", self.bias, self.n)? }.to_vec()),
        };
        Ok(Epilogue::Scaled { scales, bias })
    }
}

/// Scales of a type by number.
///
/// # Safety
///
/// `len` values of that type at `values`, as the head of the header says.
pub(super) unsafe fn scales(
    granularity: Granularity,
    scale_type: i32,
    values: *const c_void,
    len: usize,
) -> Answer<Scales> {
    // SAFETY: the contract is this function's.
    let halves = || unsafe { slice("scales", values.cast::<u16>(), len) };
    Ok(match scale_type {
        QC_F32 => {
            // SAFETY: as above.
            let values = unsafe { slice("scales", values.cast::<f32>(), len)? };
            Scales::new(granularity, values.to_vec())?
        }
        QC_F16 => {
            let values: &[half::f16] = halves()?.reinterpret_cast();
            Scales::new(granularity, values.to_vec())?
        }
        QC_BF16 => {
            let values: &[half::bf16] = halves()?.reinterpret_cast();
            Scales::new(granularity, values.to_vec())?
        }
        other => {
            let expected = "QC_F32, QC_F16 or QC_BF16";
            return Err(Error::argument("scale_type", other, expected).into());
        }
    })
}

pub(super) fn granularity(number: i32, group: usize) -> Answer<Granularity> {
    match number {
        QC_PER_TENSOR => Ok(Granularity::Tensor),
        QC_PER_CHANNEL => Ok(Granularity::Channel),
        QC_PER_GROUP => Ok(Granularity::Group(group)),
        other => {
            let expected = "QC_PER_TENSOR, QC_PER_CHANNEL or QC_PER_GROUP";
            Err(Error::argument("scale_granularity", other, expected).into())
        }
    }
}

/// The ISA of a name, which may not be here; of NULL, the one that is chosen.
///
/// # Safety
///
/// `name` is NULL or a string, as the head of the header says.
pub(super) unsafe fn isa(name: *const c_char) -> Answer<Isa> {
    match name.is_null() {
        true => Ok(Isa::chosen()?),
        // SAFETY: the contract is this function's.
        false => Ok(unsafe { string("isa", name)? }.to_string_lossy().parse()?),
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
        scales: std::ptr::null(),
        n_scales: 0,
        group: 0,
        scale_granularity: QC_PER_TENSOR,
        scale_type: QC_F32,
        zero_point: 0,
        reserved: 0,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("options", options, struct_size, defaults) })
}
