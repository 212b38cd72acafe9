//! Checkpoints: a run between two epochs, in a file, to be resumed bit for bit.
//!
//! | tensor | shape | what |
//! |---|---|---|
//! | `layers.{i}.latent` | `[N * K]` | latent weights |
//! | `layers.{i}.step` | `[1]` | their learned step, of LSQ |
//! | `layers.{i}.gamma`, `.beta`, `.running_mean`, `.running_var` | `[N]` | normalisation |
//! | `layers.{i}.alpha` | `[1]` | step of the activation |
//! | `layers.{i}.before`, `.slope`, `.after` | `[N]` | RPReLU |
//! | `layers.{i}.shift` | `[N]` | RSign |
//! | `velocity{j}` | as parameter j | momentum, in the order of [`Net::parameters`] and then [`Net::steps`] |
//! | `moments{j}.m`, `moments{j}.v` | as parameter j | Adam's moments |
//! | `mean{j}` | as parameter j | Bop's mean of gradients |
//! | `metric{k}` | as the k-th weights | D of the loss-aware quantizers |
//! | `freezer{k}` | `[5 N K + 2]` | what freezing remembers of the k-th quantized weights |
//!
//! `i` is a layer's path in the net, as `3` or `7.0`. The description is JSON: recipe, epochs done, Adam's steps, phase, and
//! the shape of the data and their number, which the order of an epoch depends on. There is no state of a random
//! generator, since every draw is keyed by seed and step.
//!
//! Version 2 had no number of images, and recipes with fields that nobody used; it is read, and the number is believed.
//!
//! [`Net::parameters`]: crate::nn::net::Net::parameters
//! [`Net::steps`]: crate::nn::net::Net::steps

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::container::{Container, Data};
use crate::nn::layers::Layers;
use crate::nn::net::{Kind, Mode};
use crate::nn::projected::Projected;
use crate::nn::ste::CoarseX;
use crate::train::data::Dataset;
use crate::train::recipe::Recipe;
use crate::train::rule::WeightRule;
use crate::train::run::Run;
use crate::train::trainer::Trainer;
use crate::train::update::Memory;

/// What the file says it is.
const KIND: &str = "qcore-checkpoint";
const VERSION: u32 = 3;
/// Those that are read.
const VERSIONS: [u32; 2] = [2, VERSION];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    recipe: Recipe,
    /// Epochs done, of both phases.
    epoch: usize,
    /// Steps that Adam's moments have seen.
    steps: u64,
    phase: Mode,
    /// Height, width and channels of an image.
    input: [usize; 3],
    classes: usize,
    /// Training images; `None` in version 2.
    images: Option<usize>,
}

impl Recipe {
    /// The recipe of the run in the checkpoint at `path`.
    ///
    /// Errors, naming the file, if it is not a whole, undamaged checkpoint of this version.
    pub fn of_checkpoint(path: &Path) -> Result<Self> {
        Ok(open(path)?.0.recipe)
    }

    /// The recipe of a checkpoint of version 2, which had fields that nobody looked at, without them.
    fn without_idle_fields(mut self) -> Result<Self> {
        self.coarse_x = match (self.activation, self.coarse_x) {
            (Kind::Sign, _) => None,
            (Kind::RSign, by_x) => by_x.filter(|by_x| *by_x == CoarseX::HardTanh),
            (Kind::Relu, by_x) => by_x,
        };
        self.drop_unused(&|_| false)?;
        Ok(self)
    }
}

/// What a file says of its run, and its tensors.
fn open(path: &Path) -> Result<(Description, Container)> {
    let what = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let (version, file) = Container::of_versions(&what, KIND, &VERSIONS, &bytes)?;
    let mut description: Description = serde_json::from_str(&file.description)
        .map_err(|e| Error::format(&what, format_args!("the description: {e}")))?;
    if version < 3 {
        description.recipe = description.recipe.without_idle_fields()?;
    } else if description.images.is_none() {
        let problem = "the description: missing field `images`";
        return Err(Error::format(&what, problem));
    }
    Ok((description, file))
}

/// The weights of a net that have a metric, to be changed.
fn metrics<'n>(layers: &'n mut Layers, visit: &mut dyn FnMut(&'n mut Projected)) {
    layers.visit_mut("", &mut |_, layer| {
        if let Some(weights) = layer.weights_mut()
            && weights.quantizer().is_some()
        {
            visit(weights);
        }
    });
}

/// What an optimiser remembers of parameter j, by name.
fn tensors(j: usize, memory: &mut Memory) -> [(String, &mut Vec<f32>); 4] {
    [
        (format!("velocity{j}"), &mut memory.velocity),
        (format!("moments{j}.m"), &mut memory.adam.m),
        (format!("moments{j}.v"), &mut memory.adam.v),
        (format!("mean{j}"), &mut memory.mean),
    ]
}

impl Run {
    /// Writes the run to `path`, whole or not at all.
    ///
    /// Errors if an epoch has begun, if the file cannot be written, or with [`Error::Diverged`] if anything that it would
    /// hold is not finite.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        self.container()?.save(path, KIND, VERSION)
    }

    /// The bytes that [`Run::save`] writes. Between epochs they are what a run that breaks off can go on from:
    /// [`write_whole`](crate::model::write_whole) puts them into a file.
    pub fn to_bytes(&mut self) -> Result<Vec<u8>> {
        self.container()?.to_bytes(KIND, VERSION)
    }

    fn container(&mut self) -> Result<Container> {
        if self.steps_so_far() > 0 {
            let expected = "0: a checkpoint is taken between two epochs";
            return Err(Error::argument("steps", self.steps_so_far(), expected));
        }
        self.check_finite()?;
        let design = self.net.design();
        let adam_steps = self.memories.0.iter().map(|m| m.adam.steps);
        let description = Description {
            recipe: self.recipe().clone(),
            epoch: self.done,
            steps: adam_steps.max().unwrap_or(0),
            phase: self.net.mode(),
            input: design.input,
            classes: design.classes,
            images: Some(self.images()),
        };
        let description = serde_json::to_string(&description);
        let mut file = Container::new(description.map_err(|e| Error::format(KIND, e))?);
        for (name, values) in self.net.state() {
            file.put(name, &[values.len()], Data::F32(values.to_vec()));
        }
        for (j, memory) in self.memories.0.iter_mut().enumerate() {
            for (name, values) in tensors(j, memory) {
                if !values.is_empty() {
                    file.put(name, &[values.len()], Data::F32(values.clone()));
                }
            }
        }
        let mut k = 0;
        metrics(self.net.layers_mut(), &mut |weights| {
            let metric = &weights.metric;
            if !metric.is_empty() {
                file.put(
                    format!("metric{k}"),
                    &[metric.len()],
                    Data::F32(metric.clone()),
                );
            }
            k += 1;
        });
        for (k, freezer) in self.freezers.iter().enumerate() {
            let floats = freezer.to_floats();
            file.put(format!("freezer{k}"), &[floats.len()], Data::F32(floats));
        }
        Ok(file)
    }

    /// Reads a run from `path`, to go on with `images` images in an epoch, as many as it was trained on.
    ///
    /// Errors if it was trained on another number (checkpoints of version 2 do not tell); naming the file and what is
    /// wrong with it, if it cannot be read or is not a whole, undamaged checkpoint; or as [`Run::new`] does.
    pub fn resume(path: &Path, images: usize) -> Result<Self> {
        Self::resume_by(path, images, None)
    }

    /// As [`Run::resume`], of a run whose weights move by a rule of one's own ([`Run::move_by`]).
    pub fn resume_by(path: &Path, images: usize, own: Option<Arc<dyn WeightRule>>) -> Result<Self> {
        let (description, file) = open(path)?;
        match description.images {
            Some(trained) if trained != images => {
                let path = path.display();
                let expected = format!("{trained}, as many as {path} was trained on");
                Err(Error::argument("images", images, expected))
            }
            _ => Self::restore(path, description, file, images, own),
        }
    }

    /// The run of an opened file, on `images` images in an epoch.
    fn restore(
        path: &Path,
        description: Description,
        mut file: Container,
        images: usize,
        own: Option<Arc<dyn WeightRule>>,
    ) -> Result<Self> {
        let what = path.display().to_string();
        let (input, classes) = (description.input, description.classes);
        let mut run = Run::new(description.recipe, input, classes, images)?;
        run.move_by(own);
        if description.epoch > run.epochs() {
            let problem = format!(
                "{} epochs are done; the recipe has {}",
                description.epoch,
                run.epochs()
            );
            return Err(Error::format(&what, problem));
        }
        run.done = description.epoch;
        run.net.set_step(run.last_step());
        match description.phase {
            Mode::Quantized => run.enter_quantized()?,
            Mode::Float if description.epoch > run.recipe().float_epochs => {
                let problem = "it is in the float phase, which its epochs are beyond";
                return Err(Error::format(&what, problem));
            }
            Mode::Float => {}
        }
        for (name, values) in run.net.state() {
            values.copy_from_slice(&file.take_f32(&what, &name, &[values.len()])?);
        }
        for (j, memory) in run.memories.0.iter_mut().enumerate() {
            for (name, values) in tensors(j, memory) {
                if !values.is_empty() {
                    *values = file.take_f32(&what, &name, &[values.len()])?;
                }
            }
            if !memory.adam.m.is_empty() {
                memory.adam.steps = description.steps;
            }
        }
        let (mut k, mut read) = (0, Ok(()));
        metrics(run.net.layers_mut(), &mut |weights| {
            let name = format!("metric{k}");
            if file.tensors.contains_key(&name) {
                match file.take_f32(&what, &name, &[weights.latent.len()]) {
                    Ok(metric) => weights.metric = metric,
                    Err(error) => read = Err(error),
                }
            }
            k += 1;
        });
        read?;
        for (k, freezer) in run.freezers.iter_mut().enumerate() {
            let len = 5 * freezer.frozen().len() + 2;
            freezer.set_floats(&file.take_f32(&what, &format!("freezer{k}"), &[len])?)?;
        }
        if let Some(name) = file.tensors.keys().next() {
            let problem = format!("the tensor '{name}' is none of the net's");
            return Err(Error::format(&what, problem));
        }
        let memory = run.memories.not_finite();
        let memory = memory.map(|(j, what)| format!("the {what} of parameter {j}"));
        if let Some(at) = run.net.state_not_finite().or(memory) {
            let problem = format!("not all numbers are finite: {at}");
            return Err(Error::format(&what, problem));
        }
        run.net.settle()?;
        run.relax_again()?;
        run.net.take_flips();
        run.resume_watch()?;
        Ok(run)
    }
}

impl<'a> Trainer<'a> {
    /// As [`Run::save`].
    pub fn save(&mut self, path: &Path) -> Result<()> {
        self.run.save(path)
    }

    /// As [`Run::to_bytes`].
    pub fn to_bytes(&mut self) -> Result<Vec<u8>> {
        self.run.to_bytes()
    }

    /// Reads a run from `path`, to go on with `data`, which must be what it was trained on.
    ///
    /// Errors as [`Run::resume`] does, or if it is of images of another shape or number of classes.
    pub fn resume(path: &Path, data: &'a Dataset) -> Result<Self> {
        let train = &data.train;
        let (description, file) = open(path)?;
        let input = [train.height(), train.width(), train.channels()];
        let given = (train.len(), input, train.classes());
        let of = &description;
        let found = (of.images.unwrap_or(train.len()), of.input, of.classes);
        if found != given {
            let problem = format!(
                "it is of {} images of {:?} in {} classes; the data are {} of {:?} in {}",
                found.0, found.1, found.2, given.0, given.1, given.2
            );
            return Err(Error::format(path.display(), problem));
        }
        let run = Run::restore(path, description, file, train.len(), None)?;
        Self::of(run, data)
    }
}

#[cfg(test)]
mod tests;
