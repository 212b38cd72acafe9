//! The loop: a float phase, then a quantized phase that starts from its weights.
//!
//! Every draw (weights, order, shifts) is keyed by the recipe's seed and the epoch, so a run that is
//! stopped between epochs and resumed from a checkpoint gives the bits of one that was not.

use std::ops::ControlFlow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::nn::loss::{self, Score};
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
            // Into the pool once a step: each way in from outside costs a sleep and a wake.
            let score = par.enter(|| self.step(sgd, par))?;
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

    /// A step on the batch in `pixels` and `labels`; nothing moves if the loss is not finite.
    fn step(&mut self, sgd: Sgd, par: Par<'_>) -> Result<Score> {
        let score = self.net.step(&self.pixels, &self.labels, par)?;
        if score.loss.is_finite() {
            let mut parameters = self.net.parameters();
            self.velocities
                .update(&mut parameters, self.recipe.rule, sgd, par)?;
            self.net.settle()?;
        }
        Ok(score)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Pool;
    use crate::train::data::digits;

    /// Keeps losses and reports; stops after some steps.
    #[derive(Default)]
    struct Keep {
        losses: Vec<u32>,
        reports: Vec<EpochReport>,
        stop_after: usize,
    }

    impl Callback for Keep {
        fn on_step(&mut self, report: &StepReport) -> ControlFlow<()> {
            self.losses.push(report.loss.to_bits());
            if self.losses.len() == self.stop_after {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }

        fn on_epoch(&mut self, _: &mut Trainer<'_>, report: &EpochReport) -> ControlFlow<()> {
            self.reports.push(*report);
            ControlFlow::Continue(())
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit_of_the_loss_curve() {
        let data = digits(5, 600, 20).unwrap();
        // Layers that are large enough for every product to be split.
        let recipe = Recipe {
            float_epochs: 1,
            epochs: 1,
            ..Recipe::default()
        };
        let run = |par: Par<'_>| {
            let mut keep = Keep::default();
            let mut trainer = Trainer::new(recipe.clone(), &data).unwrap();
            trainer.run(par, &mut keep).unwrap();
            let mut latent = Vec::new();
            for weights in trainer.net().weights() {
                latent.extend(weights.latent.iter().map(|w| w.to_bits()));
            }
            (keep.losses, latent)
        };
        let one = run(Par::Caller);
        assert_eq!(one.0.len(), 12);
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads).unwrap();
            assert!(run(Par::Pool(&pool)) == one, "{threads} threads");
        }
    }

    #[test]
    fn a_small_net_learns_and_reports_both_phases() {
        let data = digits(9, 1500, 300).unwrap();
        let recipe = Recipe {
            arch: "64".to_string(),
            float_epochs: 4,
            epochs: 8,
            batch: 50,
            max_shift: 0,
            ..Recipe::default()
        };
        let mut trainer = Trainer::new(recipe, &data).unwrap();
        let mut keep = Keep::default();
        let last = trainer.run(Par::Caller, &mut keep).unwrap().unwrap();
        let phases: Vec<Mode> = keep.reports.iter().map(|r| r.phase).collect();
        assert_eq!(phases[..4], [Mode::Float; 4]);
        assert_eq!(phases[4..], [Mode::Quantized; 8]);
        assert!(keep.reports[..4].iter().all(|r| r.flip_ratio == 0.0));
        assert!(keep.reports[4].flip_ratio > 0.0);
        assert_eq!((keep.reports[0].lr, keep.reports[4].lr), (0.1, 0.1));
        assert!(keep.reports[3].lr < 0.02 && keep.reports[11].lr < 0.01);
        assert!(last.test_accuracy > 0.8, "{last:?}");
        assert_eq!(last.test_accuracy, trainer.test(Par::Caller).unwrap());
        // Nothing is left to do.
        assert_eq!(trainer.run(Par::Caller, &mut ()).unwrap(), None);
    }

    #[test]
    fn a_stop_in_an_epoch_does_not_count_it_and_a_wild_rate_is_told() {
        let data = digits(2, 200, 20).unwrap();
        let recipe = Recipe {
            arch: "16".to_string(),
            batch: 20,
            ..Recipe::default()
        };
        let mut trainer = Trainer::new(recipe.clone(), &data).unwrap();
        let mut keep = Keep {
            stop_after: 3,
            ..Keep::default()
        };
        assert_eq!(trainer.run(Par::Caller, &mut keep).unwrap(), None);
        assert_eq!((trainer.done(), keep.losses.len()), (0, 3));

        let wild = Recipe { lr: 1e30, ..recipe };
        let mut trainer = Trainer::new(wild, &data).unwrap();
        let said = trainer.run(Par::Caller, &mut ()).unwrap_err();
        assert!(
            matches!(said, Error::Diverged { epoch: 1, step, loss, .. } if step > 1 && !loss.is_finite())
        );
    }

    #[test]
    fn data_that_do_not_fit_are_refused() {
        let data = digits(2, 20, 20).unwrap();
        let said = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            Trainer::new(recipe, &data).err().unwrap().to_string()
        };
        assert_eq!(
            said(|_| {}),
            "batch is 100; expected at most the 20 training images"
        );
        let shift = said(|r| (r.batch, r.max_shift) = (10, 28));
        assert!(shift.starts_with("max_shift is 28; expected below 28"));
    }
}
