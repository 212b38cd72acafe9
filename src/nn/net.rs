//! The net: a list of layers of a design, from bytes of pixels to logits, with its loss and its parameters.
//!
//! One list of layers serves two modes. In [`Mode::Float`] weights and activations are floats; in
//! [`Mode::Quantized`] they are what the design says, and pixels are 8-bit codes of
//! step 1 / 255. Changing the mode keeps the parameters: this is how a float net initialises the
//! quantized one (Blended Coarse Gradient Descent, arXiv 1808.05240, section 4).

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::nn::activation::{Activate, Activation};
use crate::nn::batch_norm::MOMENTUM;
use crate::nn::layers::{Context, Layer, Layers};
use crate::nn::loss::{Loss, Score};
use crate::nn::projected::{Projected, Weights};
use crate::nn::rng::Rng;
use crate::nn::signal::{Codes, Signal};
use crate::nn::weight::Project;
use crate::ops::Par;
use crate::shape::check_len;

mod finite;
mod parameter;
mod probe;

pub use crate::nn::design::{Block, Design, Kind, Mode};
pub(crate) use finite::all_finite;
pub use parameter::{Parameter, Role};

/// The float that one step of a pixel stands for.
pub const PIXEL_STEP: f32 = 1.0 / 255.0;

/// A net in training.
pub struct Net {
    design: Design,
    mode: Mode,
    packed: bool,
    smooth: bool,
    isa: Isa,
    kernels: &'static Kernels,
    layers: Layers,
    /// The quantizer that stands in the place of the design's.
    own: Option<Arc<dyn Project>>,
    /// The activation that does.
    own_activation: Option<Arc<dyn Activate>>,
    /// What training makes small.
    pub loss: Loss,
    /// Whether alphas are parameters.
    pub learn_alpha: bool,
    /// Whether each batch sets the alphas to its own greatest values; an optimiser leaves them alone then.
    pub calibrate_alpha: bool,
    /// Whether each batch fits the alphas anew by [`alpha_fit`](crate::nn::ste::alpha_fit).
    pub refit_alpha: bool,
    /// The generator at the step of training.
    rng: Rng,
    /// Pixels of the batch as floats, `[M, H, W, C]`.
    pixels: Vec<f32>,
    /// Gradients by a layer's output and by its input, in turns.
    d: [Vec<f32>; 2],
}

impl Net {
    /// A net of `design` in float mode, with weights from `seed`, on the ISA that [`Isa::chosen`] gives.
    ///
    /// Errors if [`Design::check`] does, a filter or window is larger than its image, or `QCORE_ISA` asks for an
    /// ISA that is not here.
    pub fn new(design: Design, seed: u64) -> Result<Self> {
        Self::on(Isa::chosen()?, design, seed)
    }

    /// As [`Net::new`], on a given ISA. On one machine the net's floats do not depend on it.
    pub fn on(isa: Isa, design: Design, seed: u64) -> Result<Self> {
        Ok(Net {
            mode: Mode::Float,
            packed: true,
            smooth: false,
            isa,
            kernels: Kernels::of(isa)?,
            layers: design.build(seed)?,
            design,
            own: None,
            own_activation: None,
            loss: Loss::default(),
            learn_alpha: true,
            calibrate_alpha: false,
            refit_alpha: false,
            rng: Rng::new(seed),
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

    /// The ISA whose packed kernels run.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether weights that are codes multiply on the packed kernels, as they do at first, or in floats: the same up
    /// to rounding, to see what the kernels change (nothing) and what they save.
    pub fn use_packed(&mut self, packed: bool) {
        self.packed = packed;
    }

    /// Whether activations are the smooth functions whose derivatives their coarse gradients are
    /// ([`CoarseX::smooth`](crate::nn::ste::CoarseX::smooth)), in training alone. Then the gradients by the weights that the
    /// forward pass sees are true ones. Not at first.
    pub fn use_smooth(&mut self, smooth: bool) {
        self.smooth = smooth;
    }

    /// Whether weights that are codes multiply on the packed kernels.
    pub(crate) fn uses_packed(&self) -> bool {
        self.packed
    }

    /// Whether the weights of every layer are codes and multiply on the packed kernels, codes or floats.
    pub fn is_packed(&self) -> bool {
        self.mode == Mode::Quantized && self.packed && self.floats_at().is_none()
    }

    /// The layers.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The layers, to be changed; call [`Net::settle`] afterwards.
    pub fn layers_mut(&mut self) -> &mut Layers {
        &mut self.layers
    }

    /// lambda of BinaryRelax for all quantized weights; `None` for hard ones. Projects.
    ///
    /// Errors as [`Net::settle`] does.
    pub fn set_relaxation(&mut self, lambda: Option<f32>) -> Result<()> {
        self.layers.visit_mut("", &mut |_, layer| {
            if let Some(weights) = layer.weights_mut() {
                weights.set_relaxation(lambda);
            }
        });
        self.settle()
    }

    /// Puts the latent weights of rules that keep none on the grid of their quantizer: the nearest point, without draws.
    ///
    /// Errors as [`Net::settle`] does.
    pub fn begin_rounding(&mut self) -> Result<()> {
        self.layers.visit_mut("", &mut |_, layer| {
            if let Some(weights) = layer.weights_mut() {
                weights.round_to_nearest();
            }
        });
        self.settle()
    }

    /// The weights of all layers, in order.
    pub fn weights(&self) -> Vec<&Projected> {
        let mut all = Vec::new();
        self.layers
            .visit("", &mut |_, layer| all.extend(layer.weights()));
        all
    }

    /// Changes the mode. Weights and normalisation stay; every alpha gets its first value.
    pub fn set_mode(&mut self, mode: Mode) -> Result<()> {
        self.mode = mode;
        let activation = self.activation()?;
        let signs = mode == Mode::Quantized && self.design.bits_a != 32;
        let quantized = self.quantized()?;
        let rng = self.rng;
        let mut done = Ok(());
        self.layers.visit_mut("", &mut |_, layer| {
            if let Layer::Act(act) = layer {
                act.clone_from(&activation);
            }
            if let Layer::RSign(sign) = layer {
                sign.set_quantized(signs);
            }
            if let Some(weights) = layer.weights_mut() {
                let to = match weights.stays_float {
                    true => Weights::Float,
                    false => quantized.clone(),
                };
                if let Err(error) = weights.set_weights(to, rng) {
                    done = Err(error);
                }
            }
        });
        done
    }

    /// The activation of hidden layers in this mode, with its first alpha.
    fn activation(&self) -> Result<Activation> {
        match (self.mode, &self.own_activation) {
            (Mode::Quantized, Some(own)) => Ok(Activation::own(own.clone())),
            _ => self.design.function(self.mode).map(Activation::new),
        }
    }

    /// Puts an activation of one's own in the place of the design's in every hidden layer, in this and every later
    /// quantized mode; `None` is the design's again. Alphas that learn before and after keep their values, others get the
    /// first one.
    ///
    /// Files do not hold it: it is to be given again to a net of a checkpoint, which fits if alpha learns just where the
    /// design's does, in the design's range. Errors, and changes nothing, if its learning or first alpha is out of range,
    /// or the design's activations are signs with shifts.
    pub fn activate_by(&mut self, own: Option<Arc<dyn Activate>>) -> Result<()> {
        if let Some(own) = &own {
            if self.design.kind == Kind::RSign {
                let expected = "relu or sign: signs with shifts take no activation of one's own";
                return Err(Error::argument("kind", "rsign", expected));
            }
            own.learning().map_or(Ok(()), |learning| learning.check())?;
            own.quantizer(own.first_alpha())?;
        }
        self.own_activation = own;
        let activation = self.activation()?;
        self.layers.visit_mut("", &mut |_, layer| {
            if let Layer::Act(act) = layer {
                let mut new = activation.clone();
                if act.learns() && new.learns() {
                    new.alpha = act.alpha;
                    new.settle();
                }
                *act = new;
            }
        });
        Ok(())
    }

    /// What quantized weights are in this mode.
    fn quantized(&self) -> Result<Weights> {
        Ok(match (self.mode, &self.own) {
            (Mode::Float, _) => Weights::Float,
            (Mode::Quantized, Some(own)) => Weights::Own(own.clone()),
            (Mode::Quantized, None) => match self.design.quantizer()? {
                Some(quantizer) => Weights::Quantized(quantizer),
                None => Weights::Float,
            },
        })
    }

    /// Puts a quantizer of one's own in the place of the design's, for all weights that the design quantizes, in this
    /// and every later quantized mode; `None` is the design's again.
    ///
    /// Files do not hold it: it is to be given again to a net of a checkpoint. Errors as [`Net::settle`] does, or if what
    /// it gives does not fit its encoding and the weights.
    pub fn project_by(&mut self, own: Option<Arc<dyn Project>>) -> Result<()> {
        self.own = own;
        if self.mode == Mode::Float {
            return Ok(());
        }
        let (quantized, rng) = (self.quantized()?, self.rng);
        let mut done = Ok(());
        self.layers.visit_mut("", &mut |_, layer| {
            if let Some(weights) = layer.weights_mut().filter(|w| !w.stays_float) {
                // The weights are those they were, and so is what a change of them costs.
                let metric = std::mem::take(&mut weights.metric);
                let set = weights.set_weights(quantized.clone(), rng);
                weights.metric = metric;
                if let Err(error) = set.and_then(|()| weights.project(rng)) {
                    done = Err(error);
                }
                weights.take_flips();
            }
        });
        done
    }

    /// The step of training, which the draws of dropout and of stochastic projections depend on.
    pub fn set_step(&mut self, step: u32) {
        self.rng = self.rng.at(step, 0);
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
        let context = self.context(par);
        let input = Signal {
            values: &self.pixels,
            codes: Codes::Bytes(images, PIXEL_STEP),
        };
        self.layers.forward_train(&context, input)?;
        Ok(self.layers.values())
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
    /// [`Loss::run`] do.
    pub fn step(&mut self, images: &[u8], labels: &[u8], par: Par<'_>) -> Result<Score> {
        self.forward_train(images, par)?;
        let logits = self.layers.values();
        self.d[0].resize(logits.len(), 0.0);
        let score = self
            .loss
            .run(logits, labels, self.design.classes, &mut self.d[0])?;
        if score.loss.is_finite() {
            self.backward_from_d(par)?;
        }
        Ok(score)
    }

    fn backward_from_d(&mut self, par: Par<'_>) -> Result<()> {
        let context = self.context(par);
        let [d, memory] = &mut self.d;
        // Nobody asks for the gradient by the pixels.
        self.layers
            .backward(&context, &self.pixels, d, memory, false)
    }

    fn context<'a>(&self, par: Par<'a>) -> Context<'a> {
        Context {
            isa: self.isa,
            kernels: self.kernels,
            packed: self.packed,
            smooth: self.smooth,
            calibrate: self.calibrate_alpha && !self.smooth,
            refit: self.refit_alpha && !self.smooth,
            rng: self.rng,
            par,
        }
    }

    /// Runs `batches` through the net and makes the running averages of every normalisation the plain mean over
    /// them, weights untouched.
    ///
    /// The averages that training leaves lag behind weights that jump, as quantized ones do. Errors as
    /// [`Net::forward_train`] does; then the averages are those of the batches before.
    ///
    /// Source: Nagel et al., arXiv 2203.11086, and its code (about fifty batches).
    pub fn reestimate<'b>(
        &mut self,
        batches: impl IntoIterator<Item = &'b [u8]>,
        par: Par<'_>,
    ) -> Result<()> {
        let mut done = Ok(());
        for (i, images) in batches.into_iter().enumerate() {
            // The first batch takes the place of what was there, the second counts half, and so on.
            self.set_norm_rate(1.0 / (i + 1) as f32);
            done = self.forward_train(images, par).map(|_| ());
            if done.is_err() {
                break;
            }
        }
        self.set_norm_rate(MOMENTUM);
        done
    }

    fn set_norm_rate(&mut self, rate: f32) {
        self.layers.visit_mut("", &mut |_, layer| {
            if let Layer::Norm(norm) = layer {
                norm.rate = rate;
            }
        });
    }

    /// Projects the weights and clamps the alphas: what must follow a change of parameters.
    pub fn settle(&mut self) -> Result<()> {
        let (mut done, rng) = (Ok(()), self.rng);
        self.layers.visit_mut("", &mut |_, layer| match layer {
            Layer::Act(act) => act.settle(),
            _ => {
                if let Some(Err(error)) = layer.weights_mut().map(|w| w.project(rng)) {
                    done = Err(error);
                }
            }
        });
        done
    }

    /// Number of weights, and how many of their codes changed since this was last asked.
    pub fn take_flips(&mut self) -> (usize, usize) {
        let mut sum = (0, 0);
        self.layers.visit_mut("", &mut |_, layer| {
            if let Some(weights) = layer.weights_mut() {
                sum.0 += weights.latent.len();
                sum.1 += weights.take_flips();
            }
        });
        sum
    }

    /// The first layer whose output in the last forward pass was not finite, in words; `None` if all were.
    pub fn not_finite(&self) -> Option<String> {
        self.layers.not_finite("")
    }
}

#[cfg(test)]
mod tests;
