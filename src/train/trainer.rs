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
use crate::train::recipe::Recipe;
use crate::train::sgd::{Sgd, Velocities};

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

/// A run: net, velocities and how far it has come.
pub struct Trainer<'a> {
    recipe: Recipe,
    data: &'a Dataset,
    pub(super) net: Net,
    pub(super) velocities: Velocities,
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
        let mut net = Net::new(design, recipe.seed)?;
        if recipe.float_epochs == 0 {
            net.set_mode(Mode::Quantized)?;
        }
        let velocities = Velocities::zeros(&net.parameters());
        Ok(Trainer {
            pixels: vec![0; recipe.batch * train.input_len()],
            labels: vec![0; recipe.batch],
            recipe,
            data,
            net,
            velocities,
            done: 0,
        })
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

    /// Share of test images that are right, 0 to 1, by [`Net::evaluate`] on the ISA that [`Isa::chosen`]
    /// gives.
    pub fn test(&self, par: Par<'_>) -> Result<f32> {
        let test = &self.data.test;
        let logits = self.net.evaluate(Isa::chosen()?, test.pixels(), par)?;
        let correct = loss::correct(&logits, test.labels(), test.classes())?;
        Ok(correct as f32 / test.len() as f32)
    }

    /// One epoch; `None` if the callback stopped it.
    fn epoch(&mut self, par: Par<'_>, callback: &mut dyn Callback) -> Result<Option<EpochReport>> {
        let start = Instant::now();
        let (epoch, batch) = (self.done + 1, self.recipe.batch);
        let lr = self.enter_epoch()?;
        let sgd = Sgd {
            lr,
            momentum: self.recipe.momentum,
            weight_decay: self.recipe.weight_decay,
        };
        let train = &self.data.train;
        let rng = Rng::new(self.recipe.seed);
        let order = rng.at(epoch as u32, ORDER).shuffled(train.len());
        let shifts = rng.at(epoch as u32, SHIFT);
        let steps = order.len() / batch;
        let (mut loss, mut correct, mut flips) = (0f64, 0, 0);
        let per_second = |images: usize| images as f64 / start.elapsed().as_secs_f64().max(1e-9);
        for (i, order) in order.chunks_exact(batch).enumerate() {
            train.augmented_into(order, shifts, self.recipe.max_shift, &mut self.pixels)?;
            for (label, n) in self.labels.iter_mut().zip(order) {
                *label = train.labels()[*n as usize];
            }
            let score = self.net.step(&self.pixels, &self.labels, par)?;
            if !score.loss.is_finite() {
                let (step, loss) = (i + 1, score.loss);
                return Err(Error::Diverged { epoch, step, loss });
            }
            let mut parameters = self.net.parameters();
            self.velocities
                .update(&mut parameters, self.recipe.rule, sgd, par)?;
            drop(parameters);
            self.net.settle()?;
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
        Ok(Some(EpochReport {
            phase: self.net.mode(),
            epoch,
            epochs: self.epochs(),
            lr,
            train_loss: (loss / steps as f64) as f32,
            train_accuracy: correct as f32 / (steps * batch) as f32,
            test_accuracy: self.test(par)?,
            flip_ratio: flips as f64 / (weights * steps) as f64,
            images_per_second,
        }))
    }

    /// Enters the quantized phase if it is time; the learning rate of the epoch that comes.
    fn enter_epoch(&mut self) -> Result<f32> {
        let recipe = &self.recipe;
        let (epoch, epochs) = match self.done.checked_sub(recipe.float_epochs) {
            None => (self.done, recipe.float_epochs),
            Some(epoch) => (epoch, recipe.epochs),
        };
        let lr = recipe.lr * recipe.schedule.factor(epoch, epochs);
        if self.done == recipe.float_epochs && self.net.mode() == Mode::Float {
            self.net.set_mode(Mode::Quantized)?;
            self.velocities = Velocities::zeros(&self.net.parameters());
        }
        Ok(lr)
    }
}
