//! The weights of a layer: latent floats, what the forward pass sees of them, and their gradient.
//!
//! ```text
//!   w_f [N, K]           latent weights, which the optimiser moves
//!   w   [N, K] = Q(w_f)  their projection: scale[n] times small integers, or something near it, or w_f itself
//!   d_w [N, K]           the gradient of the loss by w, taken at w; then, by the coarse gradient, that by w_f
//! ```
//!
//! N are rows (output channels), K are inputs of a row; for a convolution K = KH x KW x C / groups (OHWI).

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use crate::bits::{Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::nn::rng::Rng;
use crate::nn::ste::{CoarseW, mask_w};
use crate::nn::weight::{
    Given, Project, Projection, Scope, TernarySearch, WeightQuantizer, grid_det, lsq_backward,
    lsq_bounds, lsq_gradient_scale, lsq_step, relax_in_place,
};
use crate::quant::binary_mean;
use crate::shape::elements;

/// Streams of the seed for stochastic projections; a tensor each.
const DRAWS: u32 = 1 << 29;

/// What the weights of a layer are in the forward pass.
#[derive(Clone, Debug)]
pub enum Weights {
    /// The latent floats.
    Float,
    /// What a quantizer makes of them.
    Quantized(WeightQuantizer),
    /// What somebody's own quantizer makes of them.
    Own(Arc<dyn Project>),
}

impl Weights {
    /// One bit and one scale: [`WeightQuantizer::BinaryMean`].
    pub fn binary() -> Self {
        Weights::Quantized(WeightQuantizer::default())
    }
}

/// Latent weights with their projection and gradient.
#[derive(Clone, Debug)]
pub struct Projected {
    rows: usize,
    cols: usize,
    weights: Weights,
    /// Whether they are floats in every mode of the net.
    pub stays_float: bool,
    /// Taps of a filter, KH x KW; 1 of a linear layer. What N outputs fan out to.
    pub taps: usize,
    /// w_f, `[N, K]`.
    pub latent: Vec<f32>,
    /// Gradient of the loss, `[N, K]`.
    pub d_weights: Vec<f32>,
    /// D, what a change of each weight costs, `[N, K]`, for the loss-aware quantizers; empty is 1 everywhere.
    pub metric: Vec<f32>,
    /// The learned step of [`WeightQuantizer::LsqWeight`] (used by it alone).
    pub step: [f32; 1],
    /// Gradient of the loss by the step, times 1 / sqrt(N K Qp).
    pub d_step: [f32; 1],
    /// What stands for the derivative of w by w_f.
    pub by_w: CoarseW,
    /// lambda of BinaryRelax: the forward pass sees (w_f + lambda w) / (1 + lambda); `None` is w.
    relaxation: Option<f32>,
    /// Integers and values of the projection; the integers of what goes straight to bits are made on demand.
    projection: Projection,
    /// The projection before, whose memory the next one takes.
    before: Projection,
    /// The integers in bits, made on demand unless the projection went there straight.
    codes: OnceLock<PackedMatrix>,
    /// What the integer 1 stands for in each row, `[N]`.
    scales: Vec<f32>,
    /// What draws of the projection depend on: the stream, and the seed and step of the last one.
    stream: u32,
    flips: usize,
}

impl Projected {
    /// N x K latent weights drawn from N(0, 2 / K), which keeps the variance through a ReLU.
    ///
    /// Errors if they do not fit in memory, or the quantizer refuses.
    pub fn new(rows: usize, cols: usize, weights: Weights, rng: Rng) -> Result<Self> {
        let len = elements("N x K", &[rows, cols])?;
        let mut latent = vec![0.0; len];
        rng.fill_normal(&mut latent, (2.0 / cols.max(1) as f32).sqrt());
        let mut all = Projected {
            rows,
            cols,
            weights: Weights::Float,
            stays_float: false,
            taps: 1,
            latent,
            d_weights: vec![0.0; len],
            metric: Vec::new(),
            step: [0.0],
            d_step: [0.0],
            by_w: CoarseW::Identity,
            relaxation: None,
            projection: Projection::default(),
            before: Projection::default(),
            codes: OnceLock::new(),
            scales: Vec::new(),
            stream: DRAWS + rng.tensor(),
            flips: 0,
        };
        all.set_weights(weights, rng)?;
        Ok(all)
    }

    /// Number of rows, N.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of a row, K.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// What the weights are in the forward pass.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Their quantizer; `None` if they are floats.
    pub fn quantizer(&self) -> Option<&dyn Project> {
        match &self.weights {
            Weights::Float => None,
            Weights::Quantized(quantizer) => Some(quantizer),
            Weights::Own(quantizer) => Some(&**quantizer),
        }
    }

    /// The same, if it is one of those that have a name.
    fn named(&self) -> Option<&WeightQuantizer> {
        match &self.weights {
            Weights::Quantized(quantizer) => Some(quantizer),
            _ => None,
        }
    }

    /// Whether their step is learned ([`WeightQuantizer::LsqWeight`]).
    pub fn learns_step(&self) -> bool {
        matches!(
            self.weights,
            Weights::Quantized(WeightQuantizer::LsqWeight { .. })
        )
    }

    /// sqrt(1.5 / (K + N taps)), the bound of Glorot's even draws.
    pub fn glorot(&self) -> f32 {
        (1.5 / (self.cols + self.rows * self.taps) as f32).sqrt()
    }

    /// Changes what the weights are in the forward pass, and projects with the draws of `rng`'s seed and step.
    /// A learned step gets its first value; the metric is forgotten.
    ///
    /// Errors as [`Projected::project`].
    pub fn set_weights(&mut self, weights: Weights, rng: Rng) -> Result<()> {
        if let Weights::Quantized(WeightQuantizer::LsqWeight { bits }) = weights {
            self.step = [lsq_step(&self.latent, bits)?];
        }
        self.weights = weights;
        self.codes = OnceLock::new();
        self.projection = Projection::default();
        self.metric.clear();
        self.relaxation = None;
        self.project(rng)?;
        self.flips = 0;
        Ok(())
    }

    /// lambda of BinaryRelax from the next projection on; `None` for hard weights.
    pub fn set_relaxation(&mut self, lambda: Option<f32>) {
        self.relaxation = lambda;
    }

    /// Projects the latent weights. To be called when they have changed. Draws are those of `rng`'s seed and step and
    /// of the tensor's own stream.
    ///
    /// Errors if a parameter of the quantizer is out of its range, or lambda is.
    pub fn project(&mut self, rng: Rng) -> Result<()> {
        if let Weights::Quantized(WeightQuantizer::BinaryMean {
            scope: Scope::Tensor,
        }) = self.weights
        {
            self.project_binary_mean()?;
        } else {
            let given = Given {
                metric: (!self.metric.is_empty()).then_some(&self.metric[..]),
                rng: rng.at(rng.step(), self.stream),
                step: self.learns_step().then_some(self.step[0]),
            };
            let (rows, cols) = (self.rows, self.cols);
            let new = &mut self.before;
            let quantizer: &dyn Project = match &self.weights {
                Weights::Float => return Ok(()),
                Weights::Quantized(quantizer) => quantizer,
                Weights::Own(quantizer) => &**quantizer,
            };
            quantizer.project_into(&self.latent, rows, cols, given, new)?;
            let mut codes = OnceLock::new();
            if let Weights::Own(quantizer) = &self.weights {
                // Nobody has looked at what it gives. Codes that do not fit their encoding must not wait for the first product.
                new.check(rows, cols)?;
                if let Some(encoding) = quantizer.encoding() {
                    codes = OnceLock::from(new.pack(encoding, rows, cols)?);
                }
            }
            self.flips += differences(&self.projection.codes, &new.codes);
            std::mem::swap(&mut self.projection, &mut self.before);
            self.scales.clear();
            let scales = &self.projection.scales;
            match scales.len() == rows {
                true => self.scales.extend_from_slice(scales),
                false => self
                    .scales
                    .resize(rows, scales.first().copied().unwrap_or(0.0)),
            }
            self.codes = codes;
        }
        match self.relaxation {
            None => Ok(()),
            Some(lambda) => relax_in_place(&self.latent, lambda, &mut self.projection.values),
        }
    }

    /// The quantizer of most runs, straight to bits.
    fn project_binary_mean(&mut self) -> Result<()> {
        let (signs, delta) = binary_mean(&self.latent, self.rows, self.cols)?;
        if let Some(codes) = self.codes.get() {
            let old = codes.words().iter().zip(signs.words());
            let flips = old.map(|(a, b)| (a ^ b).count_ones() as usize);
            self.flips += flips.sum::<usize>();
        }
        self.codes = OnceLock::from(signs);
        self.scales.clear();
        self.scales.resize(self.rows, delta);
        let values = &mut self.projection.values;
        values.clear();
        let sign = |w: &f32| if *w >= 0.0 { delta } else { -delta };
        values.extend(self.latent.iter().map(sign));
        Ok(())
    }

    /// w, what the forward pass sees, `[N, K]`.
    pub fn values(&self) -> &[f32] {
        match self.weights {
            Weights::Float => &self.latent,
            _ => &self.projection.values,
        }
    }

    /// The latent weights and the gradient to be changed, and w; w is empty if it is w_f.
    pub fn parts(&mut self) -> (&mut [f32], &mut [f32], &[f32]) {
        (
            &mut self.latent,
            &mut self.d_weights,
            &self.projection.values,
        )
    }

    /// Puts the nearest projection in the place of the latent weights, also of quantizers that draw.
    pub(crate) fn round_to_nearest(&mut self) {
        match &self.weights {
            Weights::Quantized(WeightQuantizer::StochBinary { scale }) => {
                let scale = *scale;
                let sign = |w: &mut f32| *w = if *w >= 0.0 { scale } else { -scale };
                self.latent.iter_mut().for_each(sign);
            }
            Weights::Quantized(WeightQuantizer::GridStoch { delta }) => {
                let delta = *delta;
                let near = |w: &mut f32| *w = delta * grid_det(*w, delta) as f32;
                self.latent.iter_mut().for_each(near);
            }
            _ => self.keep_projection(),
        }
    }

    /// Puts w in the place of the latent weights: for rules that keep none.
    pub fn keep_projection(&mut self) {
        if self.quantizer().is_some() {
            self.latent.copy_from_slice(&self.projection.values);
        }
    }

    /// w as integers `[N, K]` with the scale of each row `[N]`; `None` if it is none of that.
    pub fn packed(&self) -> Option<(&PackedMatrix, &[f32])> {
        let encoding = self.quantizer()?.encoding()?;
        if self.relaxation.is_some() {
            return None;
        }
        let pack = || self.projection.pack(encoding, self.rows, self.cols);
        let codes = self
            .codes
            .get_or_init(|| pack().expect("a quantizer's codes have its encoding"));
        Some((codes, &self.scales[..]))
    }

    /// The integers of [`Projected::packed`]; errors if there are none.
    pub(super) fn integral(&self) -> Result<&PackedMatrix> {
        let packed = self.packed().map(|(codes, _)| codes);
        packed.ok_or_else(|| Error::argument("weights", "floats", "integers and scales"))
    }

    /// The integers of the projection, `[N, K]`; empty if the weights are floats.
    pub fn integers(&self) -> Cow<'_, [i32]> {
        match (&self.weights, self.codes.get()) {
            (Weights::Float, _) => Cow::Borrowed(&[]),
            (_, Some(codes)) if self.projection.codes.is_empty() => Cow::Owned(codes.unpack()),
            _ => Cow::Borrowed(&self.projection.codes),
        }
    }

    /// What the integer 1 stands for in each row, `[N]`; empty if the weights are floats. That of -1 may be another:
    /// [`Projected::level`].
    pub fn scales(&self) -> &[f32] {
        match self.weights {
            Weights::Float => &[],
            _ => &self.scales,
        }
    }

    /// What the integer `code` stands for at weight `i` of `[N, K]`; 0 if the weights are floats.
    pub fn level(&self, i: usize, code: i32) -> f32 {
        let by_sign = self.named().is_some_and(has_two_scales);
        let scale = match (by_sign, &self.projection.scales[..]) {
            (true, [plus, minus]) => Some(if code < 0 { minus } else { plus }),
            _ => self.scales.get(i / self.cols.max(1)),
        };
        scale.map_or(0.0, |scale| scale * code as f32)
    }

    /// The least and the greatest level of row `row`.
    pub fn range(&self, row: usize) -> (f32, f32) {
        let at = |code: i32| self.level(row * self.cols, code);
        let encoding = self.quantizer().and_then(|q| q.encoding());
        match (self.named(), encoding) {
            (Some(WeightQuantizer::LsqWeight { bits }), _) => {
                let (qn, qp) = lsq_bounds(*bits).unwrap_or((1.0, 1.0));
                (at(-qn as i32), at(qp as i32))
            }
            // Powers of two: 2^bits - 2 of them, half of them positive.
            (Some(WeightQuantizer::LossAwareLog { bits }), _) => {
                let top = 1 << ((1 << (bits - 1)) - 2);
                (at(-top), at(top))
            }
            (Some(two @ WeightQuantizer::LossAwareTernary { .. }), _) if has_two_scales(two) => {
                (at(-1), at(1))
            }
            // Symmetric quantizers leave the lowest code of a two's complement out.
            (_, Some(Encoding::Signed(bits))) => {
                let top = (1 << (bits.get() - 1)) - 1;
                (at(-top), at(top))
            }
            (_, Some(_)) => (at(-1), at(1)),
            (_, None) => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// Turns the gradient by w into that by w_f, as [`Projected::by_w`] says; of LSQ as LSQ says, with the gradient
    /// by the step. To be called once after each backward pass.
    ///
    /// Errors if a learned step has left the positive numbers.
    pub fn finish_backward(&mut self) -> Result<()> {
        match self.weights {
            Weights::Float => Ok(()),
            Weights::Quantized(WeightQuantizer::LsqWeight { bits }) => {
                let d = lsq_backward(&self.latent, self.step[0], bits, &mut self.d_weights)?;
                let (_, qp) = lsq_bounds(bits)?;
                self.d_step = [d * lsq_gradient_scale(self.latent.len(), qp)];
                Ok(())
            }
            _ => mask_w(self.by_w, &self.latent, &mut self.d_weights),
        }
    }

    /// How many codes changed in projections since this was last asked.
    pub fn take_flips(&mut self) -> usize {
        std::mem::take(&mut self.flips)
    }
}

/// Whether +1 and -1 have a scale each.
fn has_two_scales(quantizer: &WeightQuantizer) -> bool {
    match quantizer {
        WeightQuantizer::LossAwareTernary { search } => *search == TernarySearch::TwoScale,
        WeightQuantizer::Relaxed { of, .. } => has_two_scales(of),
        _ => false,
    }
}

/// How many elements differ; 0 if the lengths do.
fn differences(a: &[i32], b: &[i32]) -> usize {
    if a.len() != b.len() {
        return 0;
    }
    // In short runs, whose counts are as wide as what is compared.
    let runs = a.chunks(1024).zip(b.chunks(1024));
    let count =
        |(a, b): (&[i32], &[i32])| -> u32 { a.iter().zip(b).map(|(a, b)| u32::from(a != b)).sum() };
    runs.map(|run| count(run) as usize).sum()
}

#[cfg(test)]
mod tests;
