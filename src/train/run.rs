//! A run without its data: what a recipe makes of a net, step by step.
//!
//! Whoever has the images hands them in: a batch at a time to [`Run::step`], or all of them to [`Run::epoch`], which
//! draws order, shifts and mirrors as the recipe says. A [`Trainer`](crate::train::Trainer) is a run with its data.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::nn::loss::Score;
use crate::nn::net::{Mode, Net};
use crate::nn::rng::Rng;
use crate::ops::Par;
use crate::shape::{check_len, elements};
use crate::train::data::Images;
use crate::train::diagnostics::{Diagnostics, LayerReport, NetReport, has_zero};
use crate::train::recipe::Recipe;
use crate::train::rule::{Rule, WeightRule};
use crate::train::step::Freezer;
use crate::train::update::Memories;

use finite::LastStep;

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

/// What the steps of an epoch did.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Trained {
    /// The phase.
    pub phase: Mode,
    /// The epoch, from 1, counted through both phases.
    pub epoch: usize,
    /// Steps that it had.
    pub steps: usize,
    /// Learning rate of its first step.
    pub lr: f32,
    /// Mean loss over the batches, as they were met.
    pub loss: f32,
    /// Share of images that were right, as they were met, 0 to 1.
    pub accuracy: f32,
    /// Share of weights whose sign changed, in the mean over the steps; 0 in the float phase.
    pub flip_ratio: f64,
}

/// What the epoch that runs has done.
#[derive(Clone, Copy, Default)]
struct SoFar {
    steps: usize,
    images: usize,
    loss: f64,
    correct: usize,
    flips: usize,
}

/// A run: net, the optimiser's memories and how far it has come.
pub struct Run {
    recipe: Recipe,
    /// Images in an epoch, and steps: images / batch.
    images: usize,
    steps: usize,
    pub(super) net: Net,
    pub(super) memories: Memories,
    /// The rule that stands in the place of the recipe's.
    own: Option<Arc<dyn WeightRule>>,
    /// Of the weights of each layer that are quantized, if the recipe freezes.
    pub(super) freezers: Vec<Freezer>,
    watch: Option<Diagnostics>,
    layer_reports: Vec<LayerReport>,
    net_report: Option<NetReport>,
    /// Epochs done, of both phases.
    pub(super) done: usize,
    so_far: SoFar,
    last: LastStep,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Run {
    /// A run of `recipe` at its start, on images of `input` (height, width, channels) in `classes` classes, `images` of
    /// them in an epoch: images / batch steps.
    ///
    /// Errors if the recipe cannot be, if `classes` is not 1 to 256, if there is not a batch of images, or if shifts would
    /// reach the size of an image.
    pub fn new(recipe: Recipe, input: [usize; 3], classes: usize, images: usize) -> Result<Self> {
        Self::on(Isa::chosen()?, recipe, input, classes, images)
    }

    /// As [`Run::new`], on a given ISA, which changes no bit on one machine: products of floats go by its CPU alone.
    pub fn on(
        isa: Isa,
        recipe: Recipe,
        input: [usize; 3],
        classes: usize,
        images: usize,
    ) -> Result<Self> {
        if !(1..=256).contains(&classes) {
            return Err(Error::argument("classes", classes, "1 to 256"));
        }
        let design = recipe.design(input, classes)?;
        if recipe.batch > images {
            let expected = format!("at most the {images} training images");
            return Err(Error::argument("batch", recipe.batch, expected));
        }
        let side = input[0].min(input[1]);
        if recipe.max_shift >= side {
            let expected = format!("below {side}, height or width of an image");
            return Err(Error::argument("max_shift", recipe.max_shift, expected));
        }
        let mut net = Net::on(isa, design, recipe.seed)?;
        net.loss = recipe.loss;
        net.learn_alpha = recipe.learn_alpha;
        let memories = Memories::new(&mut net, recipe.optimizer, &recipe.rule);
        let mut run = Run {
            images,
            steps: images / recipe.batch,
            recipe,
            net,
            memories,
            own: None,
            freezers: Vec::new(),
            watch: None,
            layer_reports: Vec::new(),
            net_report: None,
            done: 0,
            so_far: SoFar::default(),
            last: LastStep::default(),
            pixels: Vec::new(),
            labels: Vec::new(),
        };
        if run.recipe.float_epochs == 0 {
            run.enter_quantized()?;
        }
        Ok(run)
    }

    /// Makes the net quantized, from the weights that it has, with an optimiser that remembers nothing.
    pub(super) fn enter_quantized(&mut self) -> Result<()> {
        self.net.set_mode(Mode::Quantized)?;
        if self.recipe.rule == Rule::Rounding {
            self.net.begin_rounding()?;
        }
        self.forget();
        self.begin_watching()
    }

    /// Freezers and diagnostics of a quantized net, that have seen nothing yet.
    fn begin_watching(&mut self) -> Result<()> {
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
            self.watch = Some(Diagnostics::new(&self.net, self.steps));
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
            self.watch = Some(Diagnostics::new(&self.net, self.steps));
        }
        Ok(())
    }

    /// Images in an epoch, as the run was made for; those that do not fill a batch wait for another epoch.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Steps in an epoch.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Steps that the epoch that runs has had; 0 between two epochs.
    pub fn steps_so_far(&self) -> usize {
        self.so_far.steps
    }

    /// The number of the last step of the epochs that are done, of both phases.
    pub(super) fn last_step(&self) -> u32 {
        (self.done * self.steps).saturating_sub(1) as u32
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Changes the learning rate at the start of each phase, of what is left of the run: a run that has diverged goes on from
    /// its last good checkpoint with a smaller one.
    ///
    /// Errors if it is not a number above 0.
    pub fn set_lr(&mut self, lr: f32) -> Result<()> {
        if !(lr > 0.0 && lr.is_finite()) {
            return Err(Error::argument("lr", lr, "a number above 0"));
        }
        (self.recipe.lr, self.recipe.float_lr) = (lr, None);
        Ok(())
    }

    /// The net as it is now.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The net as it is now, to be changed; call [`Net::settle`] afterwards.
    pub fn net_mut(&mut self) -> &mut Net {
        &mut self.net
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

    /// A step on a batch: `images` `[M, height, width, channels]`, `labels` `[M]`, M of 2 or more, usually the recipe's
    /// [`Recipe::batch`]. The first step of an epoch sets what changes from epoch to epoch.
    ///
    /// Errors if a length is wrong, a label is not below the number of classes, the epoch has had its [`Run::steps`], or
    /// all epochs are done; then nothing has changed. Errors with [`Error::Diverged`] if the loss or a gradient is not finite:
    /// then no parameter has moved, but running averages, and alphas that batches set, may be spoilt; or if a parameter or
    /// running average comes out of the step not finite. A run that has diverged goes on from a checkpoint.
    pub fn step(&mut self, images: &[u8], labels: &[u8], par: Par<'_>) -> Result<Score> {
        self.check_step()?;
        self.check_batch(images, labels)?;
        if labels.len() < 2 {
            let expected = "2 or more, whose statistics normalise";
            return Err(Error::argument("labels", "1 element long", expected));
        }
        if self.so_far.steps == 0 {
            self.enter_epoch()?;
        }
        let settings = self.settings(self.so_far.steps);
        // Into the pool once a step: each way in from outside costs a sleep and a wake.
        let score = par.stay_awake(|| self.step_on(images, labels, &settings, par))?;
        self.made(score.loss);
        self.so_far.steps += 1;
        self.so_far.images += labels.len();
        self.so_far.loss += f64::from(score.loss);
        self.so_far.correct += score.correct;
        self.so_far.flips += self.net.take_flips().1;
        Ok(score)
    }

    /// Whether there is a step to come.
    fn check_step(&self) -> Result<()> {
        let (epochs, steps) = (self.epochs(), self.steps);
        if self.done == epochs {
            let expected = format!("at most {epochs}, the recipe's epochs of both phases");
            return Err(Error::argument("epoch", epochs + 1, expected));
        }
        if self.so_far.steps == steps {
            let expected = format!("at most {steps}, the steps of an epoch, which is to be ended");
            return Err(Error::argument("step", steps + 1, expected));
        }
        Ok(())
    }

    /// Whether these are images of the run with a label each, one or more.
    fn check_batch(&self, images: &[u8], labels: &[u8]) -> Result<()> {
        let design = self.net.design();
        if labels.is_empty() {
            return Err(Error::argument("labels", "empty", "at least one"));
        }
        let [height, width, channels] = design.input;
        let len = elements("images", &[labels.len(), height, width, channels])?;
        let dims = "labels x height x width x channels";
        check_len("images", images.len(), len, dims)?;
        match labels
            .iter()
            .position(|&l| usize::from(l) >= design.classes)
        {
            None => Ok(()),
            Some(i) => Err(Error::argument(
                "labels",
                format_args!("{} at [{i}]", labels[i]),
                format_args!("0 to {}", design.classes - 1),
            )),
        }
    }

    /// Ends an epoch: the next step is the first of another. It may have had fewer steps than [`Run::steps`].
    ///
    /// After the last epoch [`Run::reestimate`] is due, if the recipe has [`Recipe::reestimate`]. Errors if the epoch
    /// has had no step, or with [`Error::Diverged`] if anything that a checkpoint holds is not finite, the optimiser's
    /// memory too; then it has not ended.
    pub fn end_epoch(&mut self) -> Result<Trained> {
        let so_far = self.so_far;
        if so_far.steps == 0 {
            let expected = "at least 1 before the end of an epoch";
            return Err(Error::argument("steps", 0, expected));
        }
        self.check_finite()?;
        let lr = self.settings(0).sgd.lr;
        self.done += 1;
        self.so_far = SoFar::default();
        let weights = self.net.take_flips().0;
        self.layer_reports.clear();
        self.net_report = None;
        if let Some(watch) = &mut self.watch {
            self.net_report = Some(watch.take_net());
            let frozen = |f: &Freezer| f.frozen().iter().filter(|f| **f).count();
            let frozen: Vec<usize> = self.freezers.iter().map(frozen).collect();
            self.layer_reports = watch.take(&self.net, &frozen);
        }
        Ok(Trained {
            phase: self.net.mode(),
            epoch: self.done,
            steps: so_far.steps,
            lr,
            loss: (so_far.loss / so_far.steps as f64) as f32,
            accuracy: so_far.correct as f32 / so_far.images as f32,
            flip_ratio: so_far.flips as f64 / (weights * so_far.steps).max(1) as f64,
        })
    }

    /// An epoch over `train` in the recipe's order, with its shifts and mirrors, and after the last epoch its
    /// re-estimation. `None` if `watch` broke it off.
    ///
    /// An epoch that breaks off, by `watch` or by an error, is not counted, and the next begins it anew from changed
    /// weights. Errors as [`Run::step`] does, if the epoch has begun, or if the images are of another shape or number.
    pub fn epoch(
        &mut self,
        train: &Images,
        par: Par<'_>,
        watch: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Option<Trained>> {
        self.check_step()?;
        if self.so_far.steps > 0 {
            let expected = "0: an epoch that has not begun";
            return Err(Error::argument("steps", self.so_far.steps, expected));
        }
        self.check_train(train)?;
        let stepped = self.steps_over(train, par, watch);
        if !matches!(stepped, Ok(ControlFlow::Continue(()))) {
            self.so_far = SoFar::default();
            return stepped.map(|_| None);
        }
        let trained = self.end_epoch();
        self.so_far = SoFar::default();
        let trained = trained?;
        if self.done == self.epochs() && self.recipe.reestimate > 0 {
            self.reestimate_over(train, par)?;
        }
        Ok(Some(trained))
    }

    /// Whether `train` is what the run was made for.
    fn check_train(&self, train: &Images) -> Result<()> {
        let found = (
            [train.height(), train.width(), train.channels()],
            train.classes(),
            train.len(),
        );
        let design = self.net.design();
        let expected = (design.input, design.classes, self.images);
        if found == expected {
            return Ok(());
        }
        let say = |(input, classes, images): ([usize; 3], usize, usize)| {
            format!("{images} of {input:?} in {classes} classes")
        };
        Err(Error::argument("images", say(found), say(expected)))
    }

    /// The steps of an epoch.
    fn steps_over(
        &mut self,
        train: &Images,
        par: Par<'_>,
        watch: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let start = Instant::now();
        let (epoch, batch) = (self.done + 1, self.recipe.batch);
        let rng = Rng::new(self.recipe.seed);
        let order = rng.at(epoch as u32, ORDER).shuffled(train.len());
        let shifts = rng.at(epoch as u32, SHIFT);
        for order in order.chunks_exact(batch) {
            self.fill(train, order, shifts)?;
            // Out of the run for the step, which borrows it.
            let pixels = std::mem::take(&mut self.pixels);
            let labels = std::mem::take(&mut self.labels);
            let score = self.step(&pixels, &labels, par);
            (self.pixels, self.labels) = (pixels, labels);
            let score = score?;
            let step = self.so_far.steps;
            let seconds = start.elapsed().as_secs_f64().max(1e-9);
            let report = StepReport {
                epoch,
                step,
                steps: self.steps,
                loss: score.loss,
                accuracy: score.correct as f32 / batch as f32,
                images_per_second: (step * batch) as f64 / seconds,
            };
            if watch(&report).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Logits `[M, classes]` of `images` `[M, height, width, channels]`, by [`Net::evaluate`] on the net's ISA.
    pub fn predict(&self, images: &[u8], par: Par<'_>) -> Result<Vec<f32>> {
        self.net.evaluate(self.net.isa(), images, par)
    }

    /// What `images` `[M, height, width, channels]` score against `labels` `[M]` by [`Run::predict`], in the phase that
    /// the net is in.
    ///
    /// Errors if there are none, a length is wrong, or a label is not below the number of classes.
    pub fn evaluate(&self, images: &[u8], labels: &[u8], par: Par<'_>) -> Result<Score> {
        self.check_batch(images, labels)?;
        let logits = self.predict(images, par)?;
        // The gradient, which nobody asks for.
        let mut d_logits = vec![0.0; logits.len()];
        let classes = self.net.design().classes;
        self.net.loss.run(&logits, labels, classes, &mut d_logits)
    }
}

mod finite;
mod own;
mod reports;
mod steps;
#[cfg(test)]
mod tests;
