//! The net: linear layer, batch normalisation, activation, and again; the last layer's floats are logits.
//!
//! One list of layers serves two modes. In [`Mode::Float`] weights and activations are floats; in
//! [`Mode::Quantized`] they are what the design says, all layers included, and pixels are 8-bit codes of
//! step 1 / 255. Changing the mode keeps the parameters: this is how a float net initialises the
//! quantized one (Blended Coarse Gradient Descent, arXiv 1808.05240, section 4).

use crate::bits::{ByteRef, Encoding, PackedMatrix};
use crate::error::Result;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::nn::activation::{Activation, Function};
use crate::nn::batch_norm::BatchNorm;
use crate::nn::linear::{Input, Linear, Weights};
use crate::nn::loss::{Score, cross_entropy};
use crate::nn::rng::Rng;
use crate::ops::Par;
use crate::shape::check_len;

pub use crate::nn::design::{Design, Kind, Mode};

/// The float that one step of a pixel stands for.
pub const PIXEL_STEP: f32 = 1.0 / 255.0;

/// A layer with what its backward pass needs from the forward pass.
pub struct Layer {
    /// Weights.
    pub linear: Linear,
    /// Normalisation of the pre-activations.
    pub norm: BatchNorm,
    /// Activation; `None` in the last layer.
    pub act: Option<Activation>,
    /// Pre-activations, `[M, N]`.
    x: Vec<f32>,
    /// Normalised, `[M, N]`; in the last layer the logits.
    y: Vec<f32>,
    /// Activated, `[M, N]`.
    out: Vec<f32>,
    codes: PackedMatrix,
}

/// What a parameter is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Role {
    /// Latent weights, projected with this scale; `None` if the forward pass sees them as they are.
    Weights(Option<f32>),
    /// Scale or shift of the normalisation.
    Norm,
    /// The step of an activation.
    Alpha,
}

/// A parameter with its gradient.
pub struct Parameter<'a> {
    /// What it is.
    pub role: Role,
    /// The values.
    pub value: &'a mut [f32],
    /// The gradient, as long.
    pub gradient: &'a [f32],
}

/// A net in training.
pub struct Net {
    design: Design,
    mode: Mode,
    packed: bool,
    isa: Isa,
    kernels: &'static Kernels,
    layers: Vec<Layer>,
    /// Pixels of the batch as floats, `[M, K]`.
    pixels: Vec<f32>,
    /// Gradients by a layer's output and by its input, in turns.
    d: [Vec<f32>; 2],
}

impl Net {
    /// A net of `design` in float mode, with weights from `seed`, on the ISA that [`Isa::chosen`] gives.
    ///
    /// Errors if [`Design::check`] does, or if `QCORE_ISA` asks for an ISA that is not here.
    pub fn new(design: Design, seed: u64) -> Result<Self> {
        design.check()?;
        let isa = Isa::chosen()?;
        let (mut k, rng) = (design.input_len(), Rng::new(seed));
        let sizes: Vec<usize> = design
            .hidden
            .iter()
            .copied()
            .chain([design.classes])
            .collect();
        let mut layers = Vec::new();
        for (i, n) in sizes.into_iter().enumerate() {
            let hidden = i < design.hidden.len();
            let function = design.function(Mode::Float)?;
            layers.push(Layer {
                linear: Linear::new(n, k, Weights::Float, rng.at(0, i as u32))?,
                norm: BatchNorm::new(n),
                act: hidden.then(|| Activation::new(function)),
                x: Vec::new(),
                y: Vec::new(),
                out: Vec::new(),
                codes: PackedMatrix::zeros(Encoding::Bipolar, 0, 0)?,
            });
            k = n;
        }
        Ok(Net {
            design,
            mode: Mode::Float,
            packed: true,
            isa,
            kernels: Kernels::of(isa)?,
            layers,
            pixels: Vec::new(),
            d: [Vec::new(), Vec::new()],
        })
    }

    /// What the net is made of.
    pub fn design(&self) -> &Design {
        &self.design
    }

    /// What the numbers are.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether codes multiply on the packed kernels, as they do at first, or in floats: the same up to
    /// rounding, to see what the kernels change (nothing) and what they save.
    pub fn use_packed(&mut self, packed: bool) {
        self.packed = packed;
    }

    /// Whether weights and activations of every layer are codes and multiply on the packed kernels.
    pub fn is_packed(&self) -> bool {
        let Design { bits_w, bits_a, .. } = self.design;
        self.mode == Mode::Quantized && self.packed && bits_w == 1 && bits_a <= 8
    }

    /// The layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layers, to be changed; call [`Net::settle`] afterwards.
    pub fn layers_mut(&mut self) -> &mut [Layer] {
        &mut self.layers
    }

    /// Changes the mode. Weights and normalisation stay; every alpha gets its first value.
    pub fn set_mode(&mut self, mode: Mode) -> Result<()> {
        self.mode = mode;
        let function = self.design.function(mode)?;
        let binary = mode == Mode::Quantized && self.design.bits_w == 1;
        for layer in &mut self.layers {
            layer.linear.set_weights(if binary {
                Weights::Binary
            } else {
                Weights::Float
            })?;
            if let Some(act) = &mut layer.act {
                *act = Activation::new(function);
            }
        }
        Ok(())
    }

    /// Logits `[M, classes]` of `images` `[M, height, width, channels]`, with the batch's own statistics.
    ///
    /// Errors if the length is not a multiple of an image's or M is below 2.
    pub fn forward_train(&mut self, images: &[u8], par: Par<'_>) -> Result<&[f32]> {
        let k = self.design.input_len();
        let m = images.len() / k;
        check_len(
            "images",
            images.len(),
            m * k,
            "M x height x width x channels",
        )?;
        self.pixels.resize(images.len(), 0.0);
        for (value, pixel) in self.pixels.iter_mut().zip(images) {
            *value = f32::from(*pixel) * PIXEL_STEP;
        }
        let with_codes = self.packed && self.layers[0].linear.weights() == Weights::Binary;
        let pixels = ByteRef::new(Encoding::unsigned(8)?, m, k, images)?;
        for i in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(i);
            let input = match before.last() {
                None => Input {
                    values: &self.pixels,
                    codes: Some((pixels.into(), PIXEL_STEP)).filter(|_| with_codes),
                },
                Some(layer) => layer.output(with_codes)?,
            };
            rest[0].forward(self.isa, self.kernels, input, m, par)?;
        }
        Ok(&self.layers[self.layers.len() - 1].y)
    }

    /// Sets every gradient from `d_logits` `[M, classes]`, for the batch of the last
    /// [`Net::forward_train`].
    ///
    /// Errors if the length is wrong.
    pub fn backward(&mut self, d_logits: &[f32], par: Par<'_>) -> Result<()> {
        self.d[0].clear();
        self.d[0].extend_from_slice(d_logits);
        self.backward_from_d(par)
    }

    /// Forward, loss and backward over a batch: the score, with every gradient set.
    ///
    /// The gradients are not computed if the loss is not finite. Errors as [`Net::forward_train`] and
    /// [`cross_entropy`] do.
    pub fn step(&mut self, images: &[u8], labels: &[u8], par: Par<'_>) -> Result<Score> {
        self.forward_train(images, par)?;
        let logits = &self.layers[self.layers.len() - 1].y;
        self.d[0].resize(logits.len(), 0.0);
        let score = cross_entropy(logits, labels, self.design.classes, &mut self.d[0])?;
        if score.loss.is_finite() {
            self.backward_from_d(par)?;
        }
        Ok(score)
    }

    fn backward_from_d(&mut self, par: Par<'_>) -> Result<()> {
        let [d, d_input] = &mut self.d;
        for i in (0..self.layers.len()).rev() {
            let (before, rest) = self.layers.split_at_mut(i);
            let layer = &mut rest[0];
            if let Some(act) = &mut layer.act {
                act.backward(&layer.y, d)?;
            }
            layer.norm.backward(&layer.x, d)?;
            match before.last() {
                // Nobody asks for the gradient by the pixels.
                None => layer.linear.backward(&self.pixels, d, None, par)?,
                Some(below) => {
                    d_input.resize(below.out.len(), 0.0);
                    layer.linear.backward(&below.out, d, Some(d_input), par)?;
                    std::mem::swap(d, d_input);
                }
            }
        }
        Ok(())
    }

    /// Every parameter with its gradient, in a fixed order; call [`Net::settle`] after changing any.
    ///
    /// An alpha is a parameter in quantized mode only.
    pub fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let mut all = Vec::with_capacity(4 * self.layers.len());
        for Layer {
            linear, norm, act, ..
        } in &mut self.layers
        {
            let delta = (linear.weights() == Weights::Binary).then_some(linear.delta());
            all.push(Parameter {
                role: Role::Weights(delta),
                value: &mut linear.latent,
                gradient: &linear.d_weights,
            });
            for (value, gradient) in [
                (&mut norm.gamma, &norm.d_gamma),
                (&mut norm.beta, &norm.d_beta),
            ] {
                all.push(Parameter {
                    role: Role::Norm,
                    value,
                    gradient,
                });
            }
            if let Some(act) = act
                && matches!(act.function(), Function::QuantRelu { .. })
            {
                all.push(Parameter {
                    role: Role::Alpha,
                    value: &mut act.alpha,
                    gradient: &act.d_alpha,
                });
            }
        }
        all
    }

    /// Everything that training changes in the net, by name, in a fixed order: parameters and running
    /// averages.
    pub fn state(&mut self) -> Vec<(String, &mut [f32])> {
        let mut all: Vec<(String, &mut [f32])> = Vec::new();
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let norm = &mut layer.norm;
            all.push((format!("layer{i}.latent"), &mut layer.linear.latent));
            all.push((format!("layer{i}.gamma"), &mut norm.gamma));
            all.push((format!("layer{i}.beta"), &mut norm.beta));
            all.push((format!("layer{i}.running_mean"), &mut norm.running_mean));
            all.push((format!("layer{i}.running_var"), &mut norm.running_var));
            if let Some(act) = &mut layer.act {
                all.push((format!("layer{i}.alpha"), &mut act.alpha));
            }
        }
        all
    }

    /// Projects the weights and clamps the alphas: what must follow a change of parameters.
    pub fn settle(&mut self) -> Result<()> {
        for layer in &mut self.layers {
            layer.linear.project()?;
            if let Some(act) = &mut layer.act {
                act.settle();
            }
        }
        Ok(())
    }

    /// Number of weights, and how many of their signs changed since this was last asked.
    pub fn take_flips(&mut self) -> (usize, usize) {
        let layers = self.layers.iter_mut().map(|l| &mut l.linear);
        layers.fold((0, 0), |(weights, flips), l| {
            (weights + l.latent.len(), flips + l.take_flips())
        })
    }
}

impl Layer {
    fn forward(
        &mut self,
        isa: Isa,
        kernels: &Kernels,
        input: Input<'_>,
        m: usize,
        par: Par<'_>,
    ) -> Result<()> {
        let n = self.linear.n();
        for buffer in [&mut self.x, &mut self.y, &mut self.out] {
            buffer.resize(m * n, 0.0);
        }
        self.linear.forward(isa, input, &mut self.x, par)?;
        self.norm.forward_train(&self.x, &mut self.y)?;
        match &self.act {
            Some(act) => act.forward(kernels, &self.y, n, &mut self.out, &mut self.codes),
            None => Ok(()),
        }
    }

    /// What the next layer gets.
    fn output(&self, with_codes: bool) -> Result<Input<'_>> {
        let quantizer = match &self.act {
            Some(act) if with_codes => act.quantizer()?,
            _ => None,
        };
        Ok(Input {
            values: &self.out,
            codes: quantizer.map(|q| (self.codes.view().into(), q.step())),
        })
    }
}

#[cfg(test)]
mod tests;
