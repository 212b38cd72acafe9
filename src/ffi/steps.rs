//! C: weights projected, step by step, for those who have a training loop of their own.
//!
//! These functions are there in builds with training, which is the default.

use std::ffi::c_char;

use super::enter;
use super::pack::number_of;
use super::pointer::{Growing, Out, OutStruct, init, options, slice, slice_mut, string};
use super::status::Answer;
use crate::error::Error;
use crate::nn::rng::Rng;
use crate::nn::weight::{
    Divisor, Given, Project, Projection, Scope, TernarySearch, WeightQuantizer, lsq_backward,
};
use crate::shape::{check_len, elements};
use crate::train::step;

/// Weights: sign(w) mean |w|.
pub const QC_BINARY_MEAN: i32 = 1;
/// Weights: sign(w) median |w|.
pub const QC_BINARY_MEDIAN: i32 = 2;
/// Weights: sign(w) `scale`.
pub const QC_BINARY_PLAIN: i32 = 3;
/// Weights: ternary, beyond 0.7 mean |w|. `variant` 1 divides the scale by the number of all weights.
pub const QC_TERNARY_TWN: i32 = 4;
/// Weights: the nearest ternary ones.
pub const QC_TERNARY_EXACT: i32 = 5;
/// Weights: clamp(round(w / (mean |w| + 1e-5)), -1, 1) mean |w|.
pub const QC_TERNARY_ABS_MEAN: i32 = 6;
/// Weights: 0, +-1 .. +-(2^(bits-1) - 1) times a fitted scale; `sweeps` rounds of Lloyd's alternation.
pub const QC_UNIFORM_SYM: i32 = 7;
/// Weights: the nearest multiple of `delta`, ties away from 0.
pub const QC_GRID_DET: i32 = 8;
/// Weights: one of the two multiples of `delta` beside, by a draw, so that the mean is the weight.
pub const QC_GRID_STOCH: i32 = 9;
/// Weights: +-`scale`, plus with the probability (w / scale + 1) / 2 clamped to 0 .. 1.
pub const QC_STOCH_BINARY: i32 = 10;
/// Weights: sign(w) sum D |w| / sum D.
pub const QC_LOSS_AWARE_BINARY: i32 = 11;
/// Weights: ternary in the metric. `variant` 0 exact, 1 ten rounds at most, 2 a scale for each sign.
pub const QC_LOSS_AWARE_TERNARY: i32 = 12;
/// Weights: levels k / n, |k| <= n = 2^(bits-1) - 1, times a scale that is fitted in the metric.
pub const QC_LOSS_AWARE_LINEAR: i32 = 13;
/// Weights: levels 0 and +-2^-j, j < 2^(bits-1) - 1, times a scale that is fitted in the metric; 2 to 4 bits.
pub const QC_LOSS_AWARE_LOG: i32 = 14;
/// Weights: LSQ, codes -2^(bits-1) .. 2^(bits-1) - 1 times the learned step `first_scale`.
pub const QC_LSQ_WEIGHT: i32 = 15;
/// Weights: DoReFa of `bits` bits.
pub const QC_DOREFA: i32 = 16;

/// How weights are projected. Fill it with `qc_weight_quantizer_init` or `qc_weight_quantizer_parse` first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_weight_quantizer {
    /// `sizeof(qc_weight_quantizer)`.
    pub struct_size: usize,
    /// `QC_BINARY_MEAN` .. `QC_DOREFA`. Default: `QC_BINARY_MEAN`.
    pub kind: i32,
    /// Bits, of the kinds that have them. Default: 4.
    pub bits: i32,
    /// 1 for a scale a row, 0 for one scale: of the kinds up to `QC_UNIFORM_SYM` but `QC_BINARY_PLAIN`, and of
    /// `QC_LOSS_AWARE_BINARY`. Default: 0.
    pub per_channel: i32,
    /// Of `QC_UNIFORM_SYM`. Default: 0.
    pub sweeps: i32,
    /// Of `QC_TERNARY_TWN` and `QC_LOSS_AWARE_TERNARY`. Default: 0.
    pub variant: i32,
    /// 1 relaxes what is projected: values are (w + lambda Q(w)) / (1 + lambda). Default: 0.
    pub relaxed: i32,
    /// Above 0. Default: 1.
    pub scale: f32,
    /// Above 0. Default: 1.
    pub delta: f32,
    /// 0 or more. Default: 1.
    pub lambda: f32,
    /// LSQ's step, or the scale from which `QC_UNIFORM_SYM` and the searches that alternate begin; 0 makes one from
    /// the weights. Default: 0.
    pub first_scale: f32,
}

// SAFETY: repr(C), the size first, then ten fields of four bytes: no padding; integers and floats.
unsafe impl Growing for qc_weight_quantizer {}
const _: () = assert!(size_of::<qc_weight_quantizer>() == size_of::<usize>() + 10 * 4);

impl qc_weight_quantizer {
    fn defaults() -> Self {
        qc_weight_quantizer {
            struct_size: size_of::<Self>(),
            kind: QC_BINARY_MEAN,
            bits: 4,
            per_channel: 0,
            sweeps: 0,
            variant: 0,
            relaxed: 0,
            scale: 1.0,
            delta: 1.0,
            lambda: 1.0,
            first_scale: 0.0,
        }
    }

    /// The quantizer, checked, and the scale that it is given.
    fn read(&self) -> Answer<(WeightQuantizer, Option<f32>)> {
        use WeightQuantizer as Q;
        let scope = match flag("per_channel", self.per_channel)? {
            true => Scope::Channel,
            false => Scope::Tensor,
        };
        let count = |name, value: i32| {
            usize::try_from(value).map_err(|_| Error::argument(name, value, "0 or more"))
        };
        let (bits, sweeps) = (count("bits", self.bits)?, count("sweeps", self.sweeps)?);
        let variant = |most: i32| match (0..=most).contains(&self.variant) {
            true => Ok(self.variant),
            false => Err(Error::argument(
                "variant",
                self.variant,
                format_args!("0 to {most}"),
            )),
        };
        let quantizer = match self.kind {
            QC_BINARY_MEAN => Q::BinaryMean { scope },
            QC_BINARY_MEDIAN => Q::BinaryMedian { scope },
            QC_BINARY_PLAIN => Q::BinaryPlain { scale: self.scale },
            QC_TERNARY_TWN => Q::TernaryTwn {
                divisor: [Divisor::Kept, Divisor::All][variant(1)? as usize],
                scope,
            },
            QC_TERNARY_EXACT => Q::TernaryExact { scope },
            QC_TERNARY_ABS_MEAN => Q::TernaryAbsMean { scope },
            QC_UNIFORM_SYM => Q::UniformSym {
                bits,
                sweeps,
                scope,
            },
            QC_GRID_DET => Q::GridDet { delta: self.delta },
            QC_GRID_STOCH => Q::GridStoch { delta: self.delta },
            QC_STOCH_BINARY => Q::StochBinary { scale: self.scale },
            QC_LOSS_AWARE_BINARY => Q::LossAwareBinary { scope },
            QC_LOSS_AWARE_TERNARY => Q::LossAwareTernary {
                search: SEARCHES[variant(2)? as usize],
            },
            QC_LOSS_AWARE_LINEAR => Q::LossAwareLinear { bits },
            QC_LOSS_AWARE_LOG => Q::LossAwareLog { bits },
            QC_LSQ_WEIGHT => Q::LsqWeight { bits },
            QC_DOREFA => Q::Dorefa { bits },
            other => {
                let expected = "QC_BINARY_MEAN .. QC_DOREFA";
                return Err(Error::argument("kind", other, expected).into());
            }
        };
        let quantizer = match flag("relaxed", self.relaxed)? {
            true => Q::Relaxed {
                lambda: self.lambda,
                of: Box::new(quantizer),
            },
            false => quantizer,
        };
        quantizer.check()?;
        if !(self.first_scale >= 0.0 && self.first_scale.is_finite()) {
            let expected = "a number of 0 or more";
            return Err(Error::argument("first_scale", self.first_scale, expected).into());
        }
        Ok((
            quantizer,
            (self.first_scale > 0.0).then_some(self.first_scale),
        ))
    }

    /// The struct of a quantizer, which is not relaxed twice.
    fn write(quantizer: &WeightQuantizer) -> Answer<Self> {
        use WeightQuantizer as Q;
        let mut q = qc_weight_quantizer::defaults();
        q.per_channel = i32::from(quantizer.scope() == Scope::Channel);
        q.kind = match quantizer {
            Q::BinaryMean { .. } => QC_BINARY_MEAN,
            Q::BinaryMedian { .. } => QC_BINARY_MEDIAN,
            Q::BinaryPlain { scale } => {
                q.scale = *scale;
                QC_BINARY_PLAIN
            }
            Q::TernaryTwn { divisor, .. } => {
                q.variant = i32::from(*divisor == Divisor::All);
                QC_TERNARY_TWN
            }
            Q::TernaryExact { .. } => QC_TERNARY_EXACT,
            Q::TernaryAbsMean { .. } => QC_TERNARY_ABS_MEAN,
            Q::UniformSym { bits, sweeps, .. } => {
                q.bits = *bits as i32;
                q.sweeps = i32::try_from(*sweeps).unwrap_or(i32::MAX);
                QC_UNIFORM_SYM
            }
            Q::GridDet { delta } | Q::GridStoch { delta } => {
                q.delta = *delta;
                match quantizer.is_stochastic() {
                    true => QC_GRID_STOCH,
                    false => QC_GRID_DET,
                }
            }
            Q::StochBinary { scale } => {
                q.scale = *scale;
                QC_STOCH_BINARY
            }
            Q::LossAwareBinary { .. } => QC_LOSS_AWARE_BINARY,
            Q::LossAwareTernary { search } => {
                let at = SEARCHES.iter().position(|s| s == search);
                q.variant = at.unwrap_or(0) as i32;
                QC_LOSS_AWARE_TERNARY
            }
            Q::LossAwareLinear { bits } => {
                q.bits = *bits as i32;
                QC_LOSS_AWARE_LINEAR
            }
            Q::LossAwareLog { bits } => {
                q.bits = *bits as i32;
                QC_LOSS_AWARE_LOG
            }
            Q::LsqWeight { bits } => {
                q.bits = *bits as i32;
                QC_LSQ_WEIGHT
            }
            Q::Dorefa { bits } => {
                q.bits = *bits as i32;
                QC_DOREFA
            }
            Q::Relaxed { lambda, of } => {
                if matches!(**of, Q::Relaxed { .. }) {
                    let expected = "a quantizer that is relaxed once";
                    return Err(Error::argument("text", quantizer, expected).into());
                }
                q = qc_weight_quantizer::write(of)?;
                (q.relaxed, q.lambda) = (1, *lambda);
                q.kind
            }
        };
        Ok(q)
    }
}

const SEARCHES: [TernarySearch; 3] = [
    TernarySearch::Exact,
    TernarySearch::Approx,
    TernarySearch::TwoScale,
];

/// 0 or 1.
pub(super) fn flag(name: &'static str, value: i32) -> Answer<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::argument(name, other, "0 or 1").into()),
    }
}

/// Fills `*quantizer` with the defaults. `struct_size` is `sizeof *quantizer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_quantizer_init(
    struct_size: usize,
    quantizer: *mut qc_weight_quantizer,
) -> i32 {
    let defaults = qc_weight_quantizer::defaults();
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("quantizer", quantizer, struct_size, defaults) })
}

/// Fills `*quantizer`, whose `struct_size` is set, from a text as recipes have it: `ternary-exact`,
/// `uniform-sym:bits=4,sweeps=2`, `relaxed:lambda=1.5,of=binary-mean`. An unknown kind is told with the nearest known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_quantizer_parse(
    text: *const c_char,
    quantizer: *mut qc_weight_quantizer,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (text, out) = unsafe {
            (
                string("text", text)?,
                OutStruct::new("quantizer", quantizer)?,
            )
        };
        let quantizer = text.to_string_lossy().parse()?;
        out.write(qc_weight_quantizer::write(&quantizer)?);
        Ok(())
    })
}

/// The encoding that holds the codes, `QC_BIPOLAR` and so on; 0 if the values are not a scale times integers of any
/// encoding: grids, two scales, relaxed weights, DoReFa of 8 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_weight_quantizer_encoding(
    quantizer: *const qc_weight_quantizer,
    encoding: *mut i32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (quantizer, out) = unsafe {
            (
                options("quantizer", quantizer)?,
                Out::new("encoding", encoding)?,
            )
        };
        let encoding = quantizer.read()?.0.encoding();
        out.write(encoding.map_or(0, number_of));
        Ok(())
    })
}

/// Projects latent weights `[rows, cols]`: `codes` integers, `values` what they stand for, both rows x cols, and
/// `scales`: `n_scales` is rows with `per_channel`, 2 (of +1 and of -1) for ternary weights with two scales, else 1.
///
/// `metric` is D, rows x cols and above 0, of the loss-aware kinds; NULL is 1 everywhere. `seed`, `step` and `tensor` name the draws
/// of the stochastic kinds: the same three give the same draws. `codes` and `values` may be NULL. Zeros, NaN and
/// infinities: binary codes of 0.0 and -0.0 are +1, all others 0; a scale that is made from what is not finite is NaN.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_project_weights(
    quantizer: *const qc_weight_quantizer,
    latent: *const f32,
    rows: usize,
    cols: usize,
    metric: *const f32,
    seed: u64,
    step: u32,
    tensor: u32,
    codes: *mut i32,
    values: *mut f32,
    scales: *mut f32,
    n_scales: usize,
) -> i32 {
    enter(|| {
        let len = elements("rows x cols", &[rows, cols])?;
        let or_none = |absent: bool| if absent { 0 } else { len };
        // SAFETY: the caller promises what the head of the header says about pointers, lengths and structs.
        let (options, latent, metric) = unsafe {
            let options = options("quantizer", quantizer)?;
            let metric_len = or_none(metric.is_null());
            (
                options,
                slice("latent", latent, len)?,
                slice("metric", metric, metric_len)?,
            )
        };
        // SAFETY: as above.
        let (codes, values, scales) = unsafe {
            let codes = slice_mut("codes", codes, or_none(codes.is_null()))?;
            let values = slice_mut("values", values, or_none(values.is_null()))?;
            (codes, values, slice_mut("scales", scales, n_scales)?)
        };
        let (quantizer, step_size) = options.read()?;
        let given = Given {
            metric: (!metric.is_empty()).then_some(metric),
            rng: Rng::new(seed).at(step, tensor),
            step: step_size,
        };
        let mut projection = Projection::default();
        quantizer.project_into(latent, rows, cols, given, &mut projection)?;
        check_len(
            "n_scales",
            n_scales,
            projection.scales.len(),
            "one, or one a row, or two",
        )?;
        scales.copy_from_slice(&projection.scales);
        codes.copy_from_slice(&projection.codes[..codes.len()]);
        values.copy_from_slice(&projection.values[..values.len()]);
        Ok(())
    })
}

/// Where BinaryRelax takes its gradient: out = (w_f + lambda w) / (1 + lambda), `n` elements each; lambda 0 or more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_relax(
    latent: *const f32,
    w: *const f32,
    n: usize,
    lambda: f32,
    out: *mut f32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (latent, w, out) = unsafe {
            (
                slice("latent", latent, n)?,
                slice("w", w, n)?,
                slice_mut("out", out, n)?,
            )
        };
        Ok(step::relax(latent, w, lambda, out)?)
    })
}

/// LSQ: from the gradient `d` by w the one by w_f, in its place, and the one by the step; `n` elements each. The latter
/// is not yet times 1 / sqrt(n Qp), Qp = 2^(bits-1) - 1. bits is 2 to 8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_lsq_backward(
    latent: *const f32,
    n: usize,
    step_size: f32,
    bits: i32,
    d: *mut f32,
    d_step: *mut f32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (latent, d, out) = unsafe {
            (
                slice("latent", latent, n)?,
                slice_mut("d", d, n)?,
                Out::new("d_step", d_step)?,
            )
        };
        let bits = usize::try_from(bits).unwrap_or(0);
        out.write(lsq_backward(latent, step_size, bits, d)?);
        Ok(())
    })
}
