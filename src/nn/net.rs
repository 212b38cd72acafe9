//! The net: linear layer, batch normalisation, activation, and again; the last layer's floats are logits.
//!
//! One list of layers serves two modes. In [`Mode::Float`] weights and activations are floats; in
//! [`Mode::Quantized`] they are what the design says, all layers included, and pixels are 8-bit codes of
//! step 1 / 255. Changing the mode keeps the parameters: this is how a float net initialises the
//! quantized one (Blended Coarse Gradient Descent, arXiv 1808.05240, section 4).

use serde::{Deserialize, Serialize};

use crate::bits::{Bits, Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::nn::activation::{Activation, CoarseAlpha, CoarseX, Function, alpha_init, reshape};
use crate::nn::batch_norm::BatchNorm;
use crate::nn::linear::{Input, Linear, Weights};
use crate::nn::loss::{Score, cross_entropy};
use crate::nn::rng::Rng;
use crate::ops::{Par, pack_codes};
use crate::quant::{QuantRelu, Rounding};
use crate::shape::{check_len, elements};

/// The float that one step of a pixel stands for.
pub const PIXEL_STEP: f32 = 1.0 / 255.0;

/// The kind of hidden activation.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Quantized ReLU, {0, .., 2^bits - 1} times alpha; in floats, ReLU.
    #[default]
    Relu,
    /// -1 and +1, for 1 bit; in floats, hard tanh.
    Sign,
}

/// What a net is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Design {
    /// Height, width and channels of an image.
    pub input: [usize; 3],
    /// Outputs of each hidden layer.
    pub hidden: Vec<usize>,
    /// Number of logits.
    pub classes: usize,
    /// Bits of a weight: 1, or 32 for floats.
    pub bits_w: usize,
    /// Bits of an activation: 1 to 8, or 32 for floats.
    pub bits_a: usize,
    /// The kind of hidden activation.
    pub kind: Kind,
    /// Where the steps of the quantized ReLU lie.
    pub rounding: Rounding,
    /// The coarse gradient of the quantized ReLU by x.
    pub by_x: CoarseX,
    /// The coarse gradient of the quantized ReLU by alpha.
    pub by_alpha: CoarseAlpha,
}

impl Design {
    /// Bytes of an image.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Errors, naming the field, if there cannot be such a net.
    pub fn check(&self) -> Result<()> {
        if self.bits_w != 1 && self.bits_w != 32 {
            return Err(Error::argument(
                "bits_w",
                self.bits_w,
                "1, or 32 for floats",
            ));
        }
        if self.bits_a != 32 && Bits::new(self.bits_a).is_err() {
            let expected = "1 to 8, or 32 for floats";
            return Err(Error::argument("bits_a", self.bits_a, expected));
        }
        if self.kind == Kind::Sign && ![1, 32].contains(&self.bits_a) {
            let expected = "1 (or 32 for floats) with sign activations";
            return Err(Error::argument("bits_a", self.bits_a, expected));
        }
        let sizes = self.input.iter().chain(&self.hidden).chain([&self.classes]);
        if let Some(size) = sizes.clone().find(|s| !(1..=1 << 20).contains(*s)) {
            return Err(Error::argument("a layer's size", size, "1 to 1048576"));
        }
        elements("input", &self.input)?;
        Ok(())
    }

    /// The function of a hidden layer in `mode`.
    fn function(&self, mode: Mode) -> Result<Function> {
        if mode == Mode::Float || self.bits_a == 32 {
            return Ok(match self.kind {
                Kind::Relu => Function::Relu,
                Kind::Sign => Function::HardTanh,
            });
        }
        if self.kind == Kind::Sign {
            return Ok(Function::Sign);
        }
        let alpha = alpha_init(Bits::new(self.bits_a)?, self.rounding);
        Ok(Function::QuantRelu {
            first: QuantRelu::new(self.bits_a, alpha, self.rounding)?,
            by_x: self.by_x,
            by_alpha: self.by_alpha,
        })
    }
}

/// What the numbers in a net are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Floats.
    Float,
    /// What the design says.
    Quantized,
}

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
    isa: Isa,
    kernels: &'static Kernels,
    layers: Vec<Layer>,
    /// Pixels of the batch as floats, `[M, K]`.
    pixels: Vec<f32>,
    pixel_codes: PackedMatrix,
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
            isa,
            kernels: Kernels::of(isa)?,
            layers,
            pixels: Vec::new(),
            pixel_codes: PackedMatrix::zeros(Encoding::Bipolar, 0, 0)?,
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
        if self.layers[0].linear.weights() == Weights::Binary {
            reshape(&mut self.pixel_codes, Encoding::unsigned(8)?, m, k)?;
            pack_codes(self.kernels, images, &mut self.pixel_codes)?;
        }
        for i in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(i);
            let input = match before.last() {
                None => Input {
                    values: &self.pixels,
                    codes: Some((self.pixel_codes.view(), PIXEL_STEP)),
                },
                Some(layer) => layer.output()?,
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
            if let Some(act) = act {
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
    fn output(&self) -> Result<Input<'_>> {
        let quantizer = match &self.act {
            Some(act) => act.quantizer()?,
            None => None,
        };
        Ok(Input {
            values: &self.out,
            codes: quantizer.map(|q| (self.codes.view(), q.step())),
        })
    }
}
