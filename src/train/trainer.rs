//! The loop: a float phase, then a quantized phase that starts from its weights.
//!
//! Every draw (weights, order, shifts) is keyed by the recipe's seed and the epoch, so a run that is
//! stopped between epochs and resumed from a checkpoint gives the bits of one that was not: on one machine, for any number
//! of threads and any ISA of the packed kernels. Products of floats go by the CPU alone, and another one may round them
//! otherwise.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::nn::loss;
use crate::nn::net::{Mode, Net};
use crate::ops::Par;
use crate::train::data::Dataset;
use crate::train::diagnostics::{LayerReport, NetReport};
use crate::train::recipe::Recipe;
use crate::train::run::Run;

pub use crate::train::run::StepReport;

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

/// A run on a data set.
pub struct Trainer<'a> {
    pub(super) run: Run,
    data: &'a Dataset,
}

impl<'a> Trainer<'a> {
    /// A run of `recipe` on `data`, at its start.
    ///
    /// Errors if the recipe cannot be, if there is not a batch of training images, if there are no test
    /// images, or if shifts would reach the size of an image.
    pub fn new(recipe: Recipe, data: &'a Dataset) -> Result<Self> {
        Self::on(Isa::chosen()?, recipe, data)
    }

    /// As [`Trainer::new`], on a given ISA, which changes no bit on one machine, as of [`Run::on`].
    pub fn on(isa: Isa, recipe: Recipe, data: &'a Dataset) -> Result<Self> {
        let train = &data.train;
        let input = [train.height(), train.width(), train.channels()];
        let run = Run::on(isa, recipe, input, train.classes(), train.len())?;
        Self::of(run, data)
    }

    /// A run that goes on, on `data` of its shape.
    pub(super) fn of(run: Run, data: &'a Dataset) -> Result<Self> {
        if data.test.is_empty() {
            return Err(Error::argument("test", "empty", "at least one image"));
        }
        Ok(Trainer { run, data })
    }

    /// How the quantized weights behaved in the last epoch, layer by layer; empty unless the recipe has
    /// [`Recipe::diagnostics`], and in the float phase.
    pub fn layer_reports(&self) -> &[LayerReport] {
        self.run.layer_reports()
    }

    /// How the quantized net as a whole behaved in the last epoch; `None` unless the recipe has
    /// [`Recipe::diagnostics`], and in the float phase.
    pub fn net_report(&self) -> Option<&NetReport> {
        self.run.net_report()
    }

    /// As [`Run::visit_frequency`].
    pub fn visit_frequency(&self, layer: Option<&str>, codes: &[i32]) -> Result<f64> {
        self.run.visit_frequency(layer, codes)
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        self.run.recipe()
    }

    /// As [`Run::set_lr`].
    pub fn set_lr(&mut self, lr: f32) -> Result<()> {
        self.run.set_lr(lr)
    }

    /// The net as it is now.
    pub fn net(&self) -> &Net {
        self.run.net()
    }

    /// The net as it is now, to keep.
    pub fn into_net(self) -> Net {
        self.run.into_net()
    }

    /// Epochs done, of both phases.
    pub fn done(&self) -> usize {
        self.run.done()
    }

    /// Epochs of both phases.
    pub fn epochs(&self) -> usize {
        self.run.epochs()
    }

    /// Trains the epochs that are left; `callback` watches. The last report, or `None` if nothing was left.
    ///
    /// Errors with [`Error::Diverged`] if a loss, gradient, parameter or running average is not finite.
    pub fn run(
        &mut self,
        par: Par<'_>,
        callback: &mut dyn Callback,
    ) -> Result<Option<EpochReport>> {
        let mut last = None;
        while self.done() < self.epochs() {
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
        let logits = self.run.predict(test.pixels(), par)?;
        let correct = loss::correct(&logits, test.labels(), test.classes())?;
        Ok(correct as f32 / test.len() as f32)
    }

    /// One epoch; `None` if the callback stopped it.
    fn epoch(&mut self, par: Par<'_>, callback: &mut dyn Callback) -> Result<Option<EpochReport>> {
        let mut images_per_second = 0.0;
        let trained = self.run.epoch(&self.data.train, par, &mut |step| {
            images_per_second = step.images_per_second;
            callback.on_step(step)
        })?;
        let Some(trained) = trained else {
            return Ok(None);
        };
        Ok(Some(EpochReport {
            phase: trained.phase,
            epoch: trained.epoch,
            epochs: self.epochs(),
            lr: trained.lr,
            train_loss: trained.loss,
            train_accuracy: trained.accuracy,
            test_accuracy: self.test(par)?,
            flip_ratio: trained.flip_ratio,
            images_per_second,
        }))
    }
}

#[cfg(test)]
mod tests;
