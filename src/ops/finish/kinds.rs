//! What a fused epilogue is made of: functions, residuals and outputs.

use half::{bf16, f16};

use crate::bits::{ByteRef, Encoding, PackedRef};
use crate::kernels::Function;
use crate::quant::Quantizer;

/// An activation function of N channels.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum ActivationFn {
    /// y itself.
    #[default]
    Identity,
    /// y where y > 0, else 0 (so for NaN).
    Relu,
    /// y where y >= 0, else slope\[n\] y.
    PRelu {
        /// N slopes.
        slope: Vec<f32>,
    },
    /// prelu(y - before\[n\]) + after\[n\], as in ReActNet (arXiv 2003.03488, section 4.2).
    RPRelu {
        /// N shifts of the input.
        before: Vec<f32>,
        /// N slopes.
        slope: Vec<f32>,
        /// N shifts of the output.
        after: Vec<f32>,
    },
    /// y, but at least `low` (so for NaN) and at most `high`.
    Clamp {
        /// The least result.
        low: f32,
        /// The greatest result.
        high: f32,
    },
}

/// Where a residual is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ResidualAt {
    /// Nowhere.
    #[default]
    Nowhere,
    /// Before the activation function.
    BeforeFunction,
    /// After it.
    AfterFunction,
}

/// What leaves a layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum OutputKind {
    /// The sums themselves; nothing else may be asked for.
    I32,
    /// Floats.
    F32,
    /// Floats of 16 bits, the nearest, ties to even.
    F16,
    /// The upper halves of floats, rounded to the nearest, ties to even.
    Bf16,
    /// Codes in bit planes: of the sign, unsigned or signed.
    Codes(Quantizer),
    /// Codes in bit planes by ready thresholds, of [`Finish::by_thresholds`](super::Finish::by_thresholds) alone.
    Levels(Encoding),
    /// Codes in bytes, as [`quantize_bytes`](super::super::quantize_bytes) gives them; not of the sign.
    Bytes(Quantizer),
}

impl OutputKind {
    /// The encoding of the codes, if codes leave.
    pub fn encoding(&self) -> Option<Encoding> {
        match self {
            OutputKind::Codes(quantizer) | OutputKind::Bytes(quantizer) => {
                Some(quantizer.encoding())
            }
            OutputKind::Levels(encoding) => Some(*encoding),
            _ => None,
        }
    }

    /// What [`OutRows`] for it are called.
    pub(in crate::ops) fn name(&self) -> &'static str {
        match self {
            OutputKind::I32 => "i32",
            OutputKind::F32 => "f32",
            OutputKind::F16 => "f16",
            OutputKind::Bf16 => "bf16",
            OutputKind::Codes(_) | OutputKind::Levels(_) => "codes",
            OutputKind::Bytes(_) => "bytes",
        }
    }
}

/// A residual: as many pixels as the output has, N channels each.
#[derive(Clone, Copy, Debug)]
pub enum Residual<'a> {
    /// Floats `[pixels, N]`.
    Floats(&'a [f32]),
    /// Floats of 16 bits `[pixels, N]`.
    F16(&'a [f16]),
    /// Upper halves of floats `[pixels, N]`.
    Bf16(&'a [bf16]),
    /// Codes in planes; an integer times `scale`.
    Planes {
        /// `[pixels, N]`
        codes: PackedRef<'a>,
        /// The float that the integer 1 stands for.
        scale: f32,
    },
    /// Codes in bytes; an integer times `scale`.
    Bytes {
        /// `[pixels, N]`
        codes: ByteRef<'a>,
        /// The float that the integer 1 stands for.
        scale: f32,
    },
}

/// Rows of a result, to be written.
#[derive(Debug)]
pub enum OutRows<'a> {
    /// `[rows, N]`
    I32(&'a mut [i32]),
    /// `[rows, N]`
    F32(&'a mut [f32]),
    /// `[rows, N]`
    F16(&'a mut [f16]),
    /// `[rows, N]`
    Bf16(&'a mut [bf16]),
    /// Words `[rows, planes, ceil(N / 32)]`
    Codes(&'a mut [u32]),
    /// `[rows, N]`
    Bytes(&'a mut [u8]),
}

impl<'a> OutRows<'a> {
    /// No rows at all.
    pub(crate) fn empty() -> Self {
        OutRows::I32(&mut [])
    }

    /// Elements.
    pub(crate) fn len(&self) -> usize {
        match self {
            OutRows::I32(out) => out.len(),
            OutRows::F32(out) => out.len(),
            OutRows::F16(out) => out.len(),
            OutRows::Bf16(out) => out.len(),
            OutRows::Codes(out) => out.len(),
            OutRows::Bytes(out) => out.len(),
        }
    }

    /// Takes the first `len` elements off.
    pub(crate) fn take(&mut self, len: usize) -> OutRows<'a> {
        fn off<'a, T>(all: &mut &'a mut [T], len: usize) -> &'a mut [T] {
            all.split_off_mut(..len).expect("elements that are there")
        }
        match self {
            OutRows::I32(out) => OutRows::I32(off(out, len)),
            OutRows::F32(out) => OutRows::F32(off(out, len)),
            OutRows::F16(out) => OutRows::F16(off(out, len)),
            OutRows::Bf16(out) => OutRows::Bf16(off(out, len)),
            OutRows::Codes(out) => OutRows::Codes(off(out, len)),
            OutRows::Bytes(out) => OutRows::Bytes(off(out, len)),
        }
    }

    /// The same rows for a while.
    pub(crate) fn borrow(&mut self) -> OutRows<'_> {
        match self {
            OutRows::I32(out) => OutRows::I32(out),
            OutRows::F32(out) => OutRows::F32(out),
            OutRows::F16(out) => OutRows::F16(out),
            OutRows::Bf16(out) => OutRows::Bf16(out),
            OutRows::Codes(out) => OutRows::Codes(out),
            OutRows::Bytes(out) => OutRows::Bytes(out),
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            OutRows::I32(_) => "i32",
            OutRows::F32(_) => "f32",
            OutRows::F16(_) => "f16",
            OutRows::Bf16(_) => "bf16",
            OutRows::Codes(_) => "codes",
            OutRows::Bytes(_) => "bytes",
        }
    }
}

impl ActivationFn {
    /// The function of rows that are `times` as long.
    pub(super) fn repeat(&self, times: usize) -> Self {
        match self {
            ActivationFn::PRelu { slope } => ActivationFn::PRelu {
                slope: slope.repeat(times),
            },
            ActivationFn::RPRelu {
                before,
                slope,
                after,
            } => ActivationFn::RPRelu {
                before: before.repeat(times),
                slope: slope.repeat(times),
                after: after.repeat(times),
            },
            any => any.clone(),
        }
    }

    /// As the kernels take it.
    pub(in crate::ops) fn as_rows(&self) -> Function<'_> {
        match self {
            ActivationFn::Identity => Function::None,
            ActivationFn::Relu => Function::Relu,
            ActivationFn::PRelu { slope } => Function::PRelu(slope),
            ActivationFn::RPRelu {
                before,
                slope,
                after,
            } => Function::RPRelu {
                before,
                slope,
                after,
            },
            ActivationFn::Clamp { low, high } => Function::Clamp {
                low: *low,
                high: *high,
            },
        }
    }
}
