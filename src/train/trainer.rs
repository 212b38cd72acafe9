//! The loop: a float phase, then a quantized phase that starts from its weights.
//!
//! Every draw (weights, order, shifts) is keyed by the recipe's seed and the epoch, so a run that is
//! stopped between epochs and resumed from a checkpoint gives the bits of one that was not.

use std::ops::ControlFlow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::nn::loss;
use crate::nn::net::{Mode, Net};
use crate::nn::rng::Rng;
use crate::ops::Par;
use crate::train::data::Dataset;
use crate::train::diagnostics::{Diagnostics, LayerReport, NetReport, has_zero};
use crate::train::recipe::Recipe;
use crate::train::rule::Rule;
use crate::train::step::Freezer;
use crate::train::update::Memories;

/// Streams of the seed, behind those of the layers' weights.
const ORDER: u32 = 1 << 31;
const SHIFT: u32 = ORDER + 1;

/// What a step of training did.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct StepReport {
    /// The epoch, from 1, counted through both phases.
    pub epoch: usize,
    /// The step in the epoch, from 1.
    pub step: usize,
    /// Steps in an epoch.
    pub steps: usize,
    /// Mean loss of the batch, in nats.
    pub loss: f32,
    /// Share of the batch that was right, 0 to 1.
    pub accuracy: f32,
    /// Training images a second since the epoch began.
    pub images_per_second: f64,
}

/// What an epoch of training did.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// The phase.
    pub phase: Mode,
    /// The epoch, from 1, counted through both phases.
    pub epoch: usize,
    /// Epochs of both phases.
    pub epochs: usize,
    /// Learning rate.
    pub lr: f32,
    /// Mean loss over the training batches, as they were met.
    pub train_loss: f32,
    /// Share of training images that were right, as they were met, 0 to 1.
    pub train_accuracy: f32,
    /// Share of test images that are right after the epoch, 0 to 1.
    pub test_accuracy: f32,
    /// Share of weights whose sign changed, in the mean over the steps; 0 in the float phase.
    pub flip_ratio: f64,
    /// Training images a second, without the test.
    pub images_per_second: f64,
}

/// Somebody who watches and may stop the run.
pub trait Callback {
    /// After each step. A break stops in the middle of the epoch, which is then not counted: a checkpoint
    /// taken there repeats the epoch from changed weights.
    fn on_step(&mut self, _report: &StepReport) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// After each epoch. A break stops there.
    fn on_epoch(&mut self, _trainer: &mut Trainer<'_>, _report: &EpochReport) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Nobody watches.
impl Callback for () {}

/// A run: net, the optimiser's memories and how far it has come.
pub struct Trainer<'a> {
    recipe: Recipe,
    data: &'a Dataset,
    pub(super) net: Net,
    pub(super) memories: Memories,
    /// Of the weights of each layer that are quantized, if the recipe freezes.
    pub(super) freezers: Vec<Freezer>,
    watch: Option<Diagnostics>,
    layer_reports: Vec<LayerReport>,
    net_report: Option<NetReport>,
    /// Epochs done, of both phases.
    pub(super) done: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl<'a> Trainer<'a> {
    /// A run of `recipe` on `data`, at its start.
    ///
    /// Errors if the recipe cannot be, if there is not a batch of training images, if there are no test
    /// images, or if shifts would reach the size of an image.
    pub fn new(recipe: Recipe, data: &'a Dataset) -> Result<Self> {
        Self::on(Isa::chosen()?, recipe, data)
    }

    /// As [`Trainer::new`], on a given ISA, which changes no bit.
    pub fn on(isa: Isa, recipe: Recipe, data: &'a Dataset) -> Result<Self> {
        let (train, test) = (&data.train, &data.test);
        let input = [train.height(), train.width(), train.channels()];
        let design = recipe.design(input, train.classes())?;
        if recipe.batch > train.len() {
            let expected = format!("at most the {} training images", train.len());
            return Err(Error::argument("batch", recipe.batch, expected));
        }
        if test.is_empty() {
            return Err(Error::argument("test", "empty", "at least one image"));
        }
        let side = train.height().min(train.width());
        if recipe.max_shift >= side {
            let expected = format!("below {side}, height or width of an image");
            return Err(Error::argument("max_shift", recipe.max_shift, expected));
        }
        let mut net = Net::on(isa, design, recipe.seed)?;
        net.loss = recipe.loss;
        net.learn_alpha = recipe.learn_alpha;
        let memories = Memories::new(&mut net, recipe.optimizer, recipe.rule);
        let mut trainer = Trainer {
            pixels: vec![0; recipe.batch * train.input_len()],
            labels: vec![0; recipe.batch],
            recipe,
            data,
            net,
            memories,
            freezers: Vec::new(),
            watch: None,
            layer_reports: Vec::new(),
            net_report: None,
            done: 0,
        };
        if trainer.recipe.float_epochs == 0 {
            trainer.enter_quantized()?;
        }
        Ok(trainer)
    }

    /// Makes the net quantized, from the weights that it has, with an optimiser that remembers nothing.
    pub(super) fn enter_quantized(&mut self) -> Result<()> {
        self.net.set_mode(Mode::Quantized)?;
        if self.recipe.rule == Rule::Rounding {
            self.net.begin_rounding()?;
        }
        self.memories = Memories::new(&mut self.net, self.recipe.optimizer, self.recipe.rule);
        self.begin_watching()
    }

    /// Freezers and diagnostics of a quantized net, that have seen nothing yet.
    pub(super) fn begin_watching(&mut self) -> Result<()> {
        self.freezers.clear();
        if let Some(freezing) = &self.recipe.freezing {
            for weights in self.net.weights() {
                if weights.quantizer().is_some() {
                    let (len, zero) = (weights.latent.len(), has_zero(weights));
                    self.freezers
                        .push(Freezer::new(len, freezing.momentum, zero)?);
                }
            }
        }
        self.watch = None;
        if self.recipe.diagnostics {
            self.watch = Some(Diagnostics::new(&self.net, self.steps())?);
        }
        Ok(())
    }

    /// The relaxation of the last epoch that is done, of a run that has been read from a checkpoint.
    pub(super) fn relax_again(&mut self) -> Result<()> {
        let (rule, epochs) = (self.recipe.rule, self.recipe.epochs);
        match self.done.checked_sub(self.recipe.float_epochs + 1) {
            Some(epoch) if matches!(rule, Rule::BinaryRelax { .. }) => {
                self.net.set_relaxation(rule.relaxation(epoch, epochs))
            }
            _ => Ok(()),
        }
    }

    /// Diagnostics of a run that has been read from a checkpoint.
    pub(super) fn resume_watch(&mut self) -> Result<()> {
        if self.watch.is_some() {
            self.watch = Some(Diagnostics::new(&self.net, self.steps())?);
        }
        Ok(())
    }

    /// How the quantized weights behaved in the last epoch, layer by layer; empty unless the recipe has
    /// [`Recipe::diagnostics`], and in the float phase.
    pub fn layer_reports(&self) -> &[LayerReport] {
        &self.layer_reports
    }

    /// How the quantized net as a whole behaved in the last epoch; `None` unless the recipe has
    /// [`Recipe::diagnostics`], and in the float phase.
    pub fn net_report(&self) -> Option<&NetReport> {
        self.net_report.as_ref()
    }

    /// Steps in an epoch.
    fn steps(&self) -> usize {
        self.data.train.len() / self.recipe.batch
    }

    /// The number of the last step of the epochs that are done, of both phases.
    pub(super) fn last_step(&self) -> u32 {
        (self.done * self.steps()).saturating_sub(1) as u32
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The net as it is now.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The net as it is now, to keep.
    pub fn into_net(self) -> Net {
        self.net
    }

    /// Epochs done, of both phases.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Epochs of both phases.
    pub fn epochs(&self) -> usize {
        self.recipe.float_epochs + self.recipe.epochs
    }

    /// Trains the epochs that are left; `callback` watches. The last report, or `None` if nothing was left.
    ///
    /// Errors with [`Error::Diverged`] if a loss is not finite.
    pub fn run(
        &mut self,
        par: Par<'_>,
        callback: &mut dyn Callback,
    ) -> Result<Option<EpochReport>> {
        let mut last = None;
        while self.done < self.epochs() {
            let Some(report) = self.epoch(par, callback)? else {
                break;
            };
            last = Some(report);
            if callback.on_epoch(self, &report).is_break() {
                break;
            }
        }
        Ok(last)
    }

    /// Share of test images that are right, 0 to 1, by [`Net::evaluate`] on the net's ISA.
    pub fn test(&self, par: Par<'_>) -> Result<f32> {
        let test = &self.data.test;
        let logits = self.net.evaluate(self.net.isa(), test.pixels(), par)?;
        let correct = loss::correct(&logits, test.labels(), test.classes())?;
        Ok(correct as f32 / test.len() as f32)
    }

    /// One epoch; `None` if the callback stopped it.
    fn epoch(&mut self, par: Par<'_>, callback: &mut dyn Callback) -> Result<Option<EpochReport>> {
        let start = Instant::now();
        let (epoch, batch) = (self.done + 1, self.recipe.batch);
        self.enter_epoch()?;
        let first = self.settings(0);
        let train = &self.data.train;
        let rng = Rng::new(self.recipe.seed);
        let order = rng.at(epoch as u32, ORDER).shuffled(train.len());
        let shifts = rng.at(epoch as u32, SHIFT);
        let steps = order.len() / batch;
        let (mut loss, mut correct, mut flips) = (0f64, 0, 0);
        let per_second = |images: usize| images as f64 / start.elapsed().as_secs_f64().max(1e-9);
        for (i, order) in order.chunks_exact(batch).enumerate() {
            self.fill(order, shifts)?;
            for (label, n) in self.labels.iter_mut().zip(order) {
                *label = train.labels()[*n as usize];
            }
            // Into the pool once a step: each way in from outside costs a sleep and a wake.
            let settings = self.settings(i);
            let score = par.enter(|| self.step(&settings, par))?;
            if !score.loss.is_finite() {
                let (step, loss) = (i + 1, score.loss);
                let layer = self.net.not_finite();
                let layer = layer.unwrap_or_else(|| "the loss".to_string());
                return Err(Error::Diverged {
                    epoch,
                    step,
                    loss,
                    layer,
                });
            }
            loss += f64::from(score.loss);
            correct += score.correct;
            flips += self.net.take_flips().1;
            let report = StepReport {
                epoch,
                step: i + 1,
                steps,
                loss: score.loss,
                accuracy: score.correct as f32 / batch as f32,
                images_per_second: per_second((i + 1) * batch),
            };
            if callback.on_step(&report).is_break() {
                return Ok(None);
            }
        }
        let images_per_second = per_second(steps * batch);
        self.done = epoch;
        let weights = self.net.take_flips().0;
        if self.done == self.epochs() && self.recipe.reestimate > 0 {
            self.reestimate(par)?;
        }
        self.layer_reports.clear();
        self.net_report = None;
        if let Some(watch) = &mut self.watch {
            self.net_report = Some(watch.take_net());
            let frozen = |f: &Freezer| f.frozen().iter().filter(|f| **f).count();
            let frozen: Vec<usize> = self.freezers.iter().map(frozen).collect();
            self.layer_reports = watch.take(&self.net, &frozen);
        }
        Ok(Some(EpochReport {
            phase: self.net.mode(),
            epoch,
            epochs: self.epochs(),
            lr: first.sgd.lr,
            train_loss: (loss / steps as f64) as f32,
            train_accuracy: correct as f32 / (steps * batch) as f32,
            test_accuracy: self.test(par)?,
            flip_ratio: flips as f64 / (weights * steps) as f64,
            images_per_second,
        }))
    }
}

mod steps;
#[cfg(test)]
mod tests;
