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
use crate::train::diagnostics::{Diagnostics, LayerReport, has_zero};
use crate::train::recipe::Recipe;
use crate::train::rule::Rule;
use crate::train::schedule::{Moment, cosine};
use crate::train::sgd::Sgd;
use crate::train::step::{Adam, Freezer};
use crate::train::update::{Memories, Settings};

/// Streams of the seed, behind those of the layers' weights.
const ORDER: u32 = 1 << 31;
const SHIFT: u32 = ORDER + 1;

/// Where rho ends if it grows, as in the code of arXiv 1808.05240.
const RHO_MAX: f32 = 0.01;

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
            self.watch = Some(Diagnostics::new(&self.net)?);
        }
        Ok(())
    }

    /// Diagnostics of a run that has been read from a checkpoint.
    pub(super) fn resume_watch(&mut self) -> Result<()> {
        if self.watch.is_some() {
            self.watch = Some(Diagnostics::new(&self.net)?);
        }
        Ok(())
    }

    /// How the quantized weights behaved in the last epoch, layer by layer; empty unless the recipe has
    /// [`Recipe::diagnostics`], and in the float phase.
    pub fn layer_reports(&self) -> &[LayerReport] {
        &self.layer_reports
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
        if let Some(watch) = &mut self.watch {
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

    /// The batch of the images `order`, shifted and mirrored by `rng`, into `pixels`.
    fn fill(&mut self, order: &[u32], rng: Rng) -> Result<()> {
        let (train, shift) = (&self.data.train, self.recipe.max_shift);
        train.augmented_into(order, rng, shift, &mut self.pixels)?;
        if self.recipe.mirror {
            train.mirror(order, rng, &mut self.pixels);
        }
        Ok(())
    }

    /// A step on the batch in `pixels` and `labels`; nothing moves if the loss is not finite.
    fn step(&mut self, settings: &Settings, par: Par<'_>) -> Result<Score> {
        self.net.set_step(settings.rng.step());
        let quantized = self.net.mode() == Mode::Quantized;
        let epoch = self.done.saturating_sub(self.recipe.float_epochs);
        let (images, labels) = (&self.pixels, &self.labels);
        let score = match settings.rule {
            Rule::ForwardBacktrack { a, .. } if quantized && settings.rule.backtracks(epoch) => {
                let net = &mut self.net;
                self.memories
                    .backtrack(net, images, labels, a, settings, par)?
            }
            _ => {
                let score = self.net.step(images, labels, par)?;
                if score.loss.is_finite() {
                    self.memories.update(&mut self.net, settings, par)?;
                }
                score
            }
        };
        if !score.loss.is_finite() {
            return Ok(score);
        }
        self.net.settle()?;
        self.freeze(epoch)?;
        if let Some(watch) = &mut self.watch {
            watch.step(&self.net)?;
        }
        Ok(score)
    }

    /// Freezes weights that oscillate, after a step of the quantized epoch `epoch`, from 0.
    fn freeze(&mut self, epoch: usize) -> Result<()> {
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
                let (codes, scale) = (weights.integers(), weights.scales()[0]);
                result = freezer.step(&codes, scale, threshold, &mut weights.latent);
            }
        });
        result?;
        self.net.settle()
    }

    /// Estimates the running averages anew, on training images.
    fn reestimate(&mut self, par: Par<'_>) -> Result<()> {
        let rng = Rng::new(self.recipe.seed);
        let epoch = self.done as u32 + 1;
        let order = rng.at(epoch, ORDER).shuffled(self.data.train.len());
        let shifts = rng.at(epoch, SHIFT);
        let mut batches = Vec::new();
        let chunks = order.chunks_exact(self.recipe.batch);
        for order in chunks.take(self.recipe.reestimate) {
            self.fill(order, shifts)?;
            batches.push(self.pixels.clone());
        }
        self.net.reestimate(batches.iter().map(|b| &b[..]), par)
    }

    /// Enters the quantized phase if it is time, and sets what changes from epoch to epoch.
    fn enter_epoch(&mut self) -> Result<()> {
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
    fn settings(&self, step: usize) -> Settings {
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
            step: epoch * self.steps() + step,
        };
        let lr = first_lr * recipe.schedule.factor(at);
        let rule = match recipe.rule {
            Rule::Bcgd { rho } if recipe.rho_growth > 1.0 => Rule::Bcgd {
                rho: (rho * recipe.rho_growth.powi(epoch as i32)).min(rho.max(RHO_MAX)),
            },
            rule => rule,
        };
        let done = epoch as f64 / epochs.saturating_sub(1).max(1) as f64;
        let total = (self.done * self.steps() + step) as u32;
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
