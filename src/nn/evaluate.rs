//! Evaluation of a net: its logits with running averages, on the kernels that the frozen model uses.
//!
//! Where weights and what they multiply are codes, a layer and the normalisation behind it are one step,
//!
//! ```text
//!   sum (i32)  = codes of weights . codes             packed product or convolution
//!   y          = scale[n] * sum + bias[n]              f32, product rounded, then the sum
//!   codes      = quantizer(y)                          the last layer's y are the logits
//! ```
//!
//! with scale and bias folded from the weights' scales, the step of the codes and the normalisation. The frozen model
//! has thresholds that were derived from this very computation, so the two agree bit for bit. Where weights are codes and
//! what they multiply is floats, the sum is one of floats in the order of [`WeightOnlyGemm`](crate::ops::WeightOnlyGemm),
//! and the same in the frozen model. Everything else is computed in floats.

use crate::bits::{Encoding, PackedMatrix};
use crate::error::Result;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::nn::batch_norm::BatchNorm;
use crate::nn::layers::{Layer, Layers};
use crate::nn::net::{Net, PIXEL_STEP};
use crate::nn::packed::pooled;
use crate::nn::pool::PoolKind;
use crate::nn::projected::Projected;
use crate::nn::signal::{Codes, Signal};
use crate::ops::Par;
use crate::shape::check_len;

/// Values of the widest layer that are evaluated at a time, about, and images at most.
const VALUES: usize = 1 << 23;
const IMAGES: usize = 512;

/// Where evaluation runs.
#[derive(Clone, Copy)]
struct Place<'a> {
    isa: Isa,
    kernels: &'a Kernels,
    packed: bool,
    par: Par<'a>,
}

/// Scale and bias of a layer's integer sums, with the normalisation behind it folded in.
pub(crate) fn folded(
    weights: &Projected,
    step: f32,
    norm: Option<&BatchNorm>,
) -> Option<(Vec<f32>, Vec<f32>)> {
    let (_, scales) = weights.packed()?;
    let unit: Vec<f32> = scales.iter().map(|s| s * step).collect();
    Some(match norm {
        Some(norm) => norm.fold(&unit),
        None => {
            let bias = vec![0.0; unit.len()];
            (unit, bias)
        }
    })
}

impl Net {
    /// Logits `[M, classes]` of `images` `[M, height, width, channels]`, with running averages.
    ///
    /// Weights that are codes multiply on the packed kernels of `isa`, as in the frozen model; all else in floats.
    /// Errors if the
    /// length is not a multiple of an image's, or `isa` is not available here.
    pub fn evaluate(&self, isa: Isa, images: &[u8], par: Par<'_>) -> Result<Vec<f32>> {
        let k = self.design().input_len();
        let m = images.len() / k;
        check_len(
            "images",
            images.len(),
            m * k,
            "M x height x width x channels",
        )?;
        let place = Place {
            isa,
            kernels: Kernels::of(isa)?,
            packed: self.uses_packed(),
            par,
        };
        let batch = (VALUES / self.layers().widest()).clamp(1, IMAGES);
        let mut logits = Vec::with_capacity(m * self.design().classes);
        for images in images.chunks(batch * k) {
            let values = images.iter().map(|p| f32::from(*p) * PIXEL_STEP).collect();
            let codes = Codes::Bytes(images, PIXEL_STEP);
            logits.extend(self.layers().evaluate(place, values, codes)?.0);
        }
        Ok(logits)
    }
}

impl Layers {
    /// Values of an image at the widest place.
    fn widest(&self) -> usize {
        let nodes = self.nodes().iter().map(|node| {
            let inside = match &node.layer {
                Layer::Residual(residual) => residual.body.widest(),
                _ => 0,
            };
            inside.max(node.shape().iter().product())
        });
        nodes.max().unwrap_or(0).max(self.input().iter().product())
    }

    /// `values` `[M, H, W, C]` through the layers, and what is known of the result.
    fn evaluate<'a>(
        &self,
        place: Place<'_>,
        mut values: Vec<f32>,
        mut codes: Codes<'a>,
    ) -> Result<(Vec<f32>, Codes<'a>)> {
        let m = values.len() / self.input().iter().product::<usize>().max(1);
        let mut nodes = self.nodes().iter().peekable();
        while let Some(node) = nodes.next() {
            let mut out = vec![0.0; m * node.shape().iter().product::<usize>()];
            let input = Signal {
                values: &values,
                codes,
            };
            match &node.layer {
                Layer::Linear(_) | Layer::Conv(_) => {
                    let norm = nodes.peek().and_then(|next| match &next.layer {
                        Layer::Norm(norm) => Some(norm),
                        _ => None,
                    });
                    if product(place, &node.layer, input, norm, &mut out)? {
                        nodes.next();
                    }
                    codes = Codes::None;
                }
                Layer::Norm(norm) => {
                    out.copy_from_slice(&values);
                    norm.forward_eval(&mut out, place.par)?;
                    codes = Codes::None;
                }
                Layer::Act(act) => {
                    let mut memory = PackedMatrix::zeros(Encoding::Bipolar, 0, 0)?;
                    let per_image = node.shape().iter().product();
                    act.forward(
                        place.kernels,
                        &values,
                        per_image,
                        &mut out,
                        &mut memory,
                        place.par,
                    )?;
                    codes = act.quantizer()?.map_or(Codes::None, Codes::Levels);
                }
                Layer::Pool(pool) => {
                    match (pool.kind(), codes) {
                        // The mean of codes is that of their exact sum, as the packed operation has it.
                        (PoolKind::Average, Codes::Levels(quantizer)) if place.packed => {
                            let step = quantizer.step();
                            values.iter_mut().for_each(|v| *v = (*v / step).round());
                            pool.forward_scaled(&values, step, &mut out, place.par)?;
                        }
                        _ => pool.forward(&values, &mut out, place.par)?,
                    }
                    codes = pooled(pool, codes).map_or(Codes::None, Codes::Levels);
                }
                Layer::RPRelu(act) => {
                    act.forward(&values, &mut out)?;
                    codes = Codes::None;
                }
                Layer::RSign(sign) => {
                    sign.forward(&values, &mut out, false)?;
                    codes = sign.quantizer().map_or(Codes::None, Codes::Levels);
                }
                Layer::Flatten | Layer::Dropout(_) => continue,
                Layer::Residual(residual) => {
                    let body = &residual.body;
                    (out, _) = body.evaluate(place, values.clone(), codes)?;
                    residual.add_shortcut(&values, &mut out)?;
                    codes = Codes::None;
                }
            }
            values = out;
        }
        Ok((values, codes))
    }
}

/// A linear layer or convolution; whether `norm` went into it.
fn product(
    place: Place<'_>,
    layer: &Layer,
    input: Signal<'_>,
    norm: Option<&BatchNorm>,
    out: &mut [f32],
) -> Result<bool> {
    let codes = input.encoding();
    let step = codes.map_or(1.0, |(_, step)| step);
    let fold = |weights: &Projected| folded(weights, step, norm).filter(|_| place.packed);
    let mut memory = PackedMatrix::zeros(Encoding::Bipolar, 0, 0)?;
    match layer {
        Layer::Linear(linear) => {
            if let Some((scale, bias)) = fold(&linear.weights) {
                let rows = input.values.len() / linear.k().max(1);
                let Some((encoding, _)) = codes else {
                    let plan = linear.float_plan(place.isa, scale, Some(bias))?;
                    let mut scratch = vec![0.0; plan.scratch_len(rows)];
                    plan.run(input.values, rows, 0..rows, out, &mut scratch, place.par)?;
                    return Ok(norm.is_some());
                };
                let plan = linear.plan(place.isa, encoding, scale, bias)?;
                let packed = input.pack(place.kernels, linear.k(), &mut memory)?;
                let (codes, _) = packed.expect("it has an encoding");
                let mut scratch = vec![0; plan.scratch_len_of(&codes, rows)];
                plan.run_f32(codes, 0..rows, out, &mut scratch, place.par)?;
                return Ok(norm.is_some());
            }
        }
        Layer::Conv(conv) if codes.is_some() || conv.packs_floats() => {
            if let Some((scale, bias)) = fold(&conv.weights) {
                let g = *conv.geometry();
                let images = input.values.len() / (g.height * g.width * g.channels);
                let Some((encoding, _)) = codes else {
                    let plan = conv.float_plan(place.isa, scale, Some(bias))?;
                    let mut scratch = vec![0.0; plan.scratch_len(images, place.par.threads())];
                    plan.run_f32(input.values, out, &mut scratch, place.par)?;
                    return Ok(norm.is_some());
                };
                let plan = conv.plan(place.isa, encoding, scale, bias)?;
                let packed = input.pack(place.kernels, g.channels, &mut memory)?;
                let (codes, _) = packed.expect("it has an encoding");
                let mut scratch = vec![0; plan.scratch_len(place.par.threads())];
                plan.run_f32(codes, 0..images, out, &mut scratch, place.par)?;
                return Ok(norm.is_some());
            }
        }
        _ => {}
    }
    match layer {
        Layer::Linear(linear) => linear.forward_in_floats(input.values, out, place.par)?,
        Layer::Conv(conv) => conv.forward_in_floats(input.values, out, place.par)?,
        _ => {}
    }
    Ok(false)
}
