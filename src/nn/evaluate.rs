//! Evaluation of a net: its logits with running averages, on the kernels that the frozen model uses.
//!
//! A quantized net computes, layer after layer,
//!
//! ```text
//!   sum (i32)  = signs . codes                         packed GEMM
//!   y          = scale[n] * sum + bias[n]              f32, product rounded, then the sum
//!   codes      = quantizer(y)                          the last layer's y are the logits
//! ```
//!
//! with scale and bias folded from delta, the step of the codes and the normalisation. The frozen model has
//! thresholds that were derived from this very computation, so the two agree bit for bit.

use crate::bits::{ByteRef, Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::nn::net::{Mode, Net, PIXEL_STEP};
use crate::ops::{Activations, Epilogue, Gemm, Par, quantize};
use crate::quant::ActQuantizer;
use crate::shape::check_len;

/// Images that are evaluated at a time.
const BATCH: usize = 512;

/// A layer's affine map on integer sums, and what turns its result into codes.
pub(crate) struct Folded {
    /// Factor of each output, `[N]`.
    pub scale: Vec<f32>,
    /// Summand of each output, `[N]`.
    pub bias: Vec<f32>,
    /// `None` in the last layer.
    pub quantizer: Option<ActQuantizer>,
    /// The encoding of the layer's input.
    pub input: Encoding,
}

impl Net {
    /// Logits `[M, classes]` of `images` `[M, height, width, channels]`, with running averages.
    ///
    /// A net whose weights and activations are all codes runs on the packed kernels of `isa`, as the frozen
    /// model does; any other in floats. Errors if the length is not a multiple of an image's, or `isa` is
    /// not available here.
    pub fn evaluate(&self, isa: Isa, images: &[u8], par: Par<'_>) -> Result<Vec<f32>> {
        let k = self.design().input_len();
        let m = images.len() / k;
        check_len(
            "images",
            images.len(),
            m * k,
            "M x height x width x channels",
        )?;
        let kernels = Kernels::of(isa)?;
        let mut logits = Vec::with_capacity(m * self.design().classes);
        if self.is_packed() {
            let layers = self.plans(isa)?;
            for batch in images.chunks(BATCH * k) {
                logits.extend(evaluate_packed(kernels, &layers, batch, k, par)?);
            }
        } else {
            for batch in images.chunks(BATCH * k) {
                logits.extend(self.evaluate_floats(kernels, batch, par)?);
            }
        }
        Ok(logits)
    }

    /// What each layer of a packed net does to its integer sums.
    ///
    /// Errors if the net is not packed.
    pub(crate) fn folded(&self) -> Result<Vec<Folded>> {
        if !self.is_packed() {
            let design = self.design();
            let value = match self.mode() {
                Mode::Float => "in float mode".to_string(),
                Mode::Quantized if design.bits_w == 1 && design.bits_a <= 8 => {
                    "used in floats".to_string()
                }
                Mode::Quantized => format!("of {} and {} bits", design.bits_w, design.bits_a),
            };
            let expected = "quantized, with 1-bit weights and 1- to 8-bit activations";
            return Err(Error::argument("the net", value, expected));
        }
        let (mut input, mut step) = (Encoding::unsigned(8)?, PIXEL_STEP);
        let mut all = Vec::new();
        for layer in self.layers() {
            let quantizer = match &layer.act {
                Some(act) => act.quantizer()?,
                None => None,
            };
            let (scale, bias) = layer.norm.fold(layer.linear.delta() * step);
            all.push(Folded {
                scale,
                bias,
                quantizer,
                input,
            });
            if let Some(quantizer) = quantizer {
                (input, step) = (quantizer.encoding(), quantizer.step());
            }
        }
        Ok(all)
    }

    fn plans(&self, isa: Isa) -> Result<Vec<(Gemm, Option<ActQuantizer>)>> {
        let layers = self.layers().iter().zip(self.folded()?);
        let plans = layers.map(|(layer, folded)| {
            let (scale, bias) = (folded.scale, folded.bias);
            let epilogue = Epilogue::ScaleBias { scale, bias };
            let plan = Gemm::on(isa, layer.linear.signs().view(), folded.input, epilogue)?;
            Ok((plan, folded.quantizer))
        });
        plans.collect()
    }

    fn evaluate_floats(&self, kernels: &Kernels, images: &[u8], par: Par<'_>) -> Result<Vec<f32>> {
        let m = images.len() / self.design().input_len();
        let mut values: Vec<f32> = images.iter().map(|p| f32::from(*p) * PIXEL_STEP).collect();
        let mut codes = PackedMatrix::zeros(Encoding::Bipolar, 0, 0)?;
        for layer in self.layers() {
            let n = layer.linear.n();
            let mut x = vec![0.0; m * n];
            layer.linear.forward_in_floats(&values, &mut x, par)?;
            layer.norm.forward_eval(&mut x)?;
            values.resize(x.len(), 0.0);
            match &layer.act {
                Some(act) => act.forward(kernels, &x, n, &mut values, &mut codes)?,
                None => values = x,
            }
        }
        Ok(values)
    }
}

fn evaluate_packed(
    kernels: &Kernels,
    layers: &[(Gemm, Option<ActQuantizer>)],
    images: &[u8],
    k: usize,
    par: Par<'_>,
) -> Result<Vec<f32>> {
    let m = images.len() / k;
    let pixels = ByteRef::new(Encoding::unsigned(8)?, m, k, images)?;
    let mut codes: Option<PackedMatrix> = None;
    let mut y = Vec::new();
    for (plan, quantizer) in layers {
        y.resize(m * plan.n(), 0.0);
        let entering = match &codes {
            None => Activations::Bytes(pixels),
            Some(codes) => Activations::Planes(codes.view()),
        };
        let mut scratch = vec![0; plan.scratch_len_of(&entering, m)];
        plan.run_f32(entering, 0..m, &mut y, &mut scratch, par)?;
        if let Some(quantizer) = quantizer {
            let mut next = PackedMatrix::zeros(quantizer.encoding(), m, plan.n())?;
            quantize(kernels, &y, quantizer, &mut next)?;
            codes = Some(next);
        }
    }
    Ok(y)
}
