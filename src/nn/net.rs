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
    packed: bool,
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
            packed: true,
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
        if with_codes {
            reshape(&mut self.pixel_codes, Encoding::unsigned(8)?, m, k)?;
            pack_codes(self.kernels, images, &mut self.pixel_codes)?;
        }
        for i in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(i);
            let input = match before.last() {
                None => Input {
                    values: &self.pixels,
                    codes: Some((self.pixel_codes.view(), PIXEL_STEP)).filter(|_| with_codes),
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
            codes: quantizer.map(|q| (self.codes.view(), q.step())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: usize = 12;
    const INPUT: [usize; 3] = [4, 5, 1];

    fn net(bits_a: usize, kind: Kind) -> (Net, Vec<u8>, Vec<u8>) {
        let design = Design {
            input: INPUT,
            hidden: vec![9, 8],
            classes: 3,
            bits_w: 1,
            bits_a,
            kind,
            rounding: Rounding::Ceil,
            by_x: CoarseX::default(),
            by_alpha: CoarseAlpha::default(),
        };
        let rng = Rng::new(21);
        let images = (0..M * 20).map(|i| rng.below(i as u64, 256) as u8);
        let labels = (0..M).map(|i| (i % 3) as u8);
        (
            Net::new(design, 4).unwrap(),
            images.collect(),
            labels.collect(),
        )
    }

    #[test]
    fn the_gradients_of_a_float_net_are_difference_quotients() {
        let (mut net, images, labels) = net(1, Kind::Sign);
        net.step(&images, &labels, Par::Caller).unwrap();
        let gradients: Vec<Vec<f32>> = net
            .parameters()
            .iter()
            .map(|p| p.gradient.to_vec())
            .collect();
        let h = 2e-3;
        let (mut seen, mut off) = (0, 0);
        for (j, gradient) in gradients.iter().enumerate() {
            for (i, g) in gradient.iter().enumerate() {
                let mut loss = |step: f32| {
                    let value = &mut net.parameters()[j].value[i];
                    let before = *value;
                    *value += step;
                    let score = net.step(&images, &labels, Par::Caller).unwrap();
                    net.parameters()[j].value[i] = before;
                    f64::from(score.loss)
                };
                let quotient = ((loss(h) - loss(-h)) / f64::from(2.0 * h)) as f32;
                seen += 1;
                off += usize::from((quotient - g).abs() > 1e-2 * g.abs().max(0.05));
            }
        }
        // A step across a kink of an activation is no difference quotient; few are.
        assert!(off * 50 < seen, "{off} of {seen}");
    }

    #[test]
    fn packed_and_float_arithmetic_agree() {
        for (bits_a, kind) in [(1, Kind::Sign), (2, Kind::Relu), (4, Kind::Relu)] {
            let (mut net, images, labels) = net(bits_a, kind);
            net.set_mode(Mode::Quantized).unwrap();
            for (i, layer) in net.layers_mut().iter_mut().enumerate() {
                // A pre-activation at the mean would sit on a threshold, and a rounding could move it.
                Rng::new(31 + i as u64).fill_normal(&mut layer.norm.beta, 0.5);
            }
            let packed = net.step(&images, &labels, Par::Caller).unwrap();
            let gradient = net.parameters()[0].gradient.to_vec();
            net.use_packed(false);
            let floats = net.step(&images, &labels, Par::Caller).unwrap();
            let (a, b) = (packed.loss, floats.loss);
            assert!((a - b).abs() < 1e-4, "{packed:?} {floats:?}");
            let apart = |a: &[f32], b: &[f32]| {
                let gaps = a.iter().zip(b).map(|(a, b)| (a - b).abs());
                gaps.fold(0f32, f32::max)
            };
            assert!(apart(&gradient, net.parameters()[0].gradient) < 1e-3);
            let float_logits = net.evaluate(net.isa, &images, Par::Caller).unwrap();
            net.use_packed(true);
            let logits = net.evaluate(net.isa, &images, Par::Caller).unwrap();
            assert!(apart(&logits, &float_logits) < 1e-4, "{bits_a}");
        }
    }

    #[test]
    fn the_mode_keeps_weights_and_changes_what_is_seen() {
        let (mut net, images, _) = net(2, Kind::Relu);
        let latent = net.layers()[1].linear.latent.clone();
        assert_eq!(net.parameters()[0].role, Role::Weights(None));
        net.set_mode(Mode::Quantized).unwrap();
        assert_eq!(net.layers()[1].linear.latent, latent);
        assert!(matches!(net.parameters()[0].role, Role::Weights(Some(d)) if d > 0.0));
        net.forward_train(&images, Par::Caller).unwrap();
        let step = net.layers()[0].act.as_ref().unwrap().alpha[0];
        let levels = [0.0, step, 2.0 * step, 3.0 * step];
        assert!(net.layers[0].out.iter().all(|v| levels.contains(v)));
        let said = net.forward_train(&images[..19], Par::Caller).unwrap_err();
        assert!(said.to_string().starts_with("images is 19 elements long"));
    }

    #[test]
    fn designs_that_cannot_be_are_refused() {
        let (net, ..) = net(4, Kind::Relu);
        let said = |change: fn(&mut Design)| {
            let mut design = net.design().clone();
            change(&mut design);
            Net::new(design, 1).err().unwrap().to_string()
        };
        assert!(said(|d| d.hidden[1] = 0).starts_with("a layer's size is 0; expected 1 to"));
        assert!(said(|d| d.input[2] = 0).starts_with("a layer's size is 0"));
        assert!(said(|d| d.bits_w = 4).starts_with("bits_w is 4; expected 1, or 32"));
        assert!(said(|d| d.kind = Kind::Sign).starts_with("bits_a is 4; expected 1 (or"));
    }
}
