//! A step of training, and what changes from step to step and from epoch to epoch.

use super::{ORDER, Run, SHIFT};
use crate::error::{Error, Result};
use crate::nn::loss::Score;
use crate::nn::net::Mode;
use crate::nn::rng::Rng;
use crate::ops::Par;
use crate::shape::check_len;
use crate::train::data::Images;
use crate::train::rule::Rule;
use crate::train::schedule::{Moment, cosine};
use crate::train::sgd::Sgd;
use crate::train::step::Adam;
use crate::train::update::Settings;

/// Where rho ends if it grows, as in the code of arXiv 1808.05240.
const RHO_MAX: f32 = 0.01;

impl Run {
    /// The batch of the images `order`, shifted and mirrored by `rng`, into `pixels`, and their labels.
    pub(super) fn fill(&mut self, train: &Images, order: &[u32], rng: Rng) -> Result<()> {
        let shift = self.recipe.max_shift;
        self.pixels.resize(order.len() * train.input_len(), 0);
        train.augmented_into(order, rng, shift, &mut self.pixels)?;
        if self.recipe.mirror {
            train.mirror(order, rng, &mut self.pixels);
        }
        self.labels.clear();
        let labels = order.iter().map(|n| train.labels()[*n as usize]);
        self.labels.extend(labels);
        Ok(())
    }

    /// A step on a batch. No parameter moves if the loss or a gradient is not finite; both that and parameters that come out
    /// not finite are an error.
    pub(super) fn step_on(
        &mut self,
        images: &[u8],
        labels: &[u8],
        settings: &Settings,
        par: Par<'_>,
    ) -> Result<Score> {
        self.net.set_step(settings.rng.step());
        let quantized = self.net.mode() == Mode::Quantized;
        let epoch = self.done.saturating_sub(self.recipe.float_epochs);
        if let Some(watch) = &mut self.watch {
            watch.before_step(&mut self.net, images, labels, par)?;
        }
        let refit = self.recipe.alpha_refit;
        let backtracks = quantized && self.own.is_none() && settings.rule.backtracks(epoch);
        let first = quantized && self.so_far.steps == 0;
        self.net.refit_alpha = first && refit > 0 && epoch.is_multiple_of(refit);
        let (score, spoilt) = match settings.rule {
            Rule::ForwardBacktrack { a, .. } if backtracks => {
                let net = &mut self.net;
                self.memories
                    .backtrack(net, images, labels, a, settings, par)?
            }
            _ => {
                let score = self.net.step(images, labels, par)?;
                let spoilt = self.net.pass_not_finite(score.loss);
                (score, spoilt)
            }
        };
        self.net.refit_alpha = false;
        if let Some(layer) = spoilt {
            return Err(self.diverged(score.loss, layer));
        }
        let moved = self.move_on(backtracks, epoch, settings, par);
        // First, since what is not finite may be refused in words of its own.
        if let Some(layer) = self.net.state_not_finite() {
            let layer = self.net.not_finite().unwrap_or(layer);
            return Err(self.diverged(score.loss, layer));
        }
        moved?;
        if let Some(watch) = &mut self.watch {
            watch.step(&self.net, score.loss)?;
        }
        Ok(score)
    }

    /// What follows the gradients of a step of the quantized epoch `epoch`, from 0: the parameters move, unless two passes
    /// have moved them, weights are projected, and those that oscillate freeze.
    fn move_on(
        &mut self,
        moved: bool,
        epoch: usize,
        settings: &Settings,
        par: Par<'_>,
    ) -> Result<()> {
        if !moved {
            let rule = self.own.as_deref().unwrap_or(&settings.rule);
            self.memories
                .update_by(&mut self.net, settings, rule, par)?;
        }
        self.net.settle()?;
        self.freeze(epoch)
    }

    /// Freezes weights that oscillate, after a step of the quantized epoch `epoch`, from 0.
    pub(super) fn freeze(&mut self, epoch: usize) -> Result<()> {
        let Some(freezing) = self.recipe.freezing else {
            return Ok(());
        };
        let done = epoch as f64 / self.recipe.epochs.saturating_sub(1).max(1) as f64;
        let threshold = cosine(freezing.start, freezing.end, done);
        let mut freezers = self.freezers.iter_mut();
        let mut result = Ok(0);
        self.net.layers_mut().visit_mut("", &mut |_, layer| {
            if let Some(weights) = layer.weights_mut()
                && weights.quantizer().is_some()
                && let Some(freezer) = freezers.next()
                && result.is_ok()
            {
                let codes = weights.integers().into_owned();
                let mut latent = std::mem::take(&mut weights.latent);
                let level = |i: usize, code: i32| weights.level(i, code);
                result = freezer.step_to(&codes, threshold, &mut latent, level);
                weights.latent = latent;
            }
        });
        result?;
        self.net.settle()
    }

    /// Estimates the running averages anew from `images`, batch after batch of the recipe's size: what is due after the
    /// last epoch over [`Recipe::reestimate`](crate::train::Recipe::reestimate) batches. What does not fill a batch is
    /// left out.
    ///
    /// Errors if there is not a batch, or not a whole number of images, or with [`Error::Diverged`] if an average comes out
    /// that is not finite.
    pub fn reestimate(&mut self, images: &[u8], par: Par<'_>) -> Result<()> {
        let (len, batch) = (self.net.design().input_len(), self.recipe.batch);
        let dims = "M x height x width x channels";
        check_len("images", images.len(), images.len() / len * len, dims)?;
        if images.len() / len < batch {
            let expected = format!("at least the {batch} of a batch");
            return Err(Error::argument("images", images.len() / len, expected));
        }
        self.net.reestimate(images.chunks_exact(batch * len), par)?;
        self.check_net()
    }

    /// The re-estimation that the recipe asks for, on images of `train` in the order of an epoch.
    pub(super) fn reestimate_over(&mut self, train: &Images, par: Par<'_>) -> Result<()> {
        let rng = Rng::new(self.recipe.seed);
        let epoch = self.done as u32 + 1;
        let order = rng.at(epoch, ORDER).shuffled(train.len());
        let shifts = rng.at(epoch, SHIFT);
        let mut batches = Vec::new();
        let chunks = order.chunks_exact(self.recipe.batch);
        for order in chunks.take(self.recipe.reestimate) {
            self.fill(train, order, shifts)?;
            batches.extend_from_slice(&self.pixels);
        }
        self.reestimate(&batches, par)
    }

    /// Enters the quantized phase if it is time, and sets what changes from epoch to epoch.
    pub(super) fn enter_epoch(&mut self) -> Result<()> {
        let float_epochs = self.recipe.float_epochs;
        if self.done == float_epochs && self.net.mode() == Mode::Float {
            self.enter_quantized()?;
        }
        let epoch = self.done.saturating_sub(float_epochs);
        let quantized = self.net.mode() == Mode::Quantized;
        self.net.calibrate_alpha = quantized && epoch < self.recipe.alpha_stage;
        if quantized && matches!(self.recipe.rule, Rule::BinaryRelax { .. }) {
            let lambda = self.recipe.rule.relaxation(epoch, self.recipe.epochs);
            self.net.set_relaxation(lambda)?;
        }
        Ok(())
    }

    /// The numbers of step `step`, from 0, of the epoch that comes or runs.
    pub(super) fn settings(&self, step: usize) -> Settings {
        let recipe = &self.recipe;
        let (epoch, epochs, first_lr) = match self.done.checked_sub(recipe.float_epochs) {
            None => {
                let lr = recipe.float_lr.unwrap_or(recipe.lr);
                (self.done, recipe.float_epochs, lr)
            }
            Some(epoch) => (epoch, recipe.epochs, recipe.lr),
        };
        let at = Moment {
            epoch,
            epochs,
            step: epoch * self.steps + step,
        };
        let lr = first_lr * recipe.schedule.factor(at);
        let rule = match recipe.rule {
            Rule::Bcgd { rho } if recipe.rho_growth > 1.0 => Rule::Bcgd {
                rho: (rho * recipe.rho_growth.powi(epoch as i32)).min(rho.max(RHO_MAX)),
            },
            rule => rule,
        };
        let done = epoch as f64 / epochs.saturating_sub(1).max(1) as f64;
        let total = (self.done * self.steps + step) as u32;
        Settings {
            optimizer: recipe.optimizer,
            sgd: Sgd {
                lr,
                momentum: recipe.momentum,
                weight_decay: recipe.weight_decay,
            },
            adam: Adam {
                lr,
                beta1: recipe.beta1,
                beta2: recipe.beta2,
                eps: recipe.eps,
                weight_decay: recipe.weight_decay,
            },
            rule,
            clip: recipe.clip,
            glorot_rate: recipe.glorot_rate,
            dampening: match self.net.mode() {
                Mode::Float => 0.0,
                Mode::Quantized => cosine(0.0, recipe.dampening, done),
            },
            rng: Rng::new(recipe.seed).at(total, 0),
        }
    }
}
