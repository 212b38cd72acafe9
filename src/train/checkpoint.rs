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
//! the shape of the data. There is no state of a random generator, since every draw is keyed by seed and step.
//!
//! [`Net::parameters`]: crate::nn::net::Net::parameters
//! [`Net::steps`]: crate::nn::net::Net::steps

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::container::{Container, Data};
use crate::nn::layers::Layers;
use crate::nn::net::Mode;
use crate::nn::projected::Projected;
use crate::train::data::Dataset;
use crate::train::recipe::Recipe;
use crate::train::run::Run;
use crate::train::trainer::Trainer;
use crate::train::update::Memory;

/// What the file says it is.
const KIND: &str = "qcore-checkpoint";
const VERSION: u32 = 2;

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
}

impl Recipe {
    /// The recipe of the run in the checkpoint at `path`.
    ///
    /// Errors, naming the file, if it is not a whole, undamaged checkpoint of this version.
    pub fn of_checkpoint(path: &Path) -> Result<Self> {
        let file = Container::load(path, KIND, VERSION)?;
        Ok(describe(&path.display().to_string(), &file)?.recipe)
    }
}

fn describe(what: &str, file: &Container) -> Result<Description> {
    serde_json::from_str(&file.description)
        .map_err(|e| Error::format(what, format_args!("the description: {e}")))
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
    /// Errors if an epoch has begun, or if the file cannot be written.
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
        let design = self.net.design();
        let adam_steps = self.memories.0.iter().map(|m| m.adam.steps);
        let description = Description {
            recipe: self.recipe().clone(),
            epoch: self.done,
            steps: adam_steps.max().unwrap_or(0),
            phase: self.net.mode(),
            input: design.input,
            classes: design.classes,
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
    /// Errors, naming the file and what is wrong with it, if it cannot be read or is not a whole, undamaged checkpoint of
    /// this version; or as [`Run::new`] does.
    pub fn resume(path: &Path, images: usize) -> Result<Self> {
        let what = path.display().to_string();
        let mut file = Container::load(path, KIND, VERSION)?;
        let description = describe(&what, &file)?;
        let (input, classes) = (description.input, description.classes);
        let mut run = Run::new(description.recipe, input, classes, images)?;
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
        let run = Run::resume(path, train.len())?;
        let design = run.net().design();
        let found = (design.input, design.classes);
        let input = [train.height(), train.width(), train.channels()];
        let given = (input, train.classes());
        if found != given {
            let problem = format!(
                "it is of images of {:?} in {} classes; the data are {:?} in {}",
                found.0, found.1, given.0, given.1
            );
            return Err(Error::format(path.display(), problem));
        }
        Self::of(run, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Par;
    use crate::train::data::digits;
    use crate::train::trainer::{Callback, EpochReport};
    use std::ops::ControlFlow;

    fn recipe() -> Recipe {
        Recipe {
            arch: "24-16".to_string(),
            bits_a: 2,
            float_epochs: 2,
            epochs: 2,
            batch: 50,
            ..Recipe::default()
        }
    }

    struct StopAt(usize);

    impl Callback for StopAt {
        fn on_epoch(&mut self, _: &mut Trainer<'_>, report: &EpochReport) -> ControlFlow<()> {
            if report.epoch == self.0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }

    fn state(trainer: &mut Trainer<'_>) -> Vec<u32> {
        let mut all: Vec<u32> = Vec::new();
        for (_, values) in trainer.run.net.state() {
            all.extend(values.iter().map(|v| v.to_bits()));
        }
        for (j, memory) in trainer.run.memories.0.iter_mut().enumerate() {
            all.push(memory.adam.steps as u32);
            for (_, values) in tensors(j, memory) {
                all.extend(values.iter().map(|v| v.to_bits()));
            }
        }
        for freezer in &trainer.run.freezers {
            all.extend(freezer.to_floats().iter().map(|v| v.to_bits()));
        }
        for weights in trainer.run.net.weights() {
            all.extend(weights.values().iter().map(|v| v.to_bits()));
            all.extend(weights.metric.iter().map(|v| v.to_bits()));
        }
        all
    }

    /// Runs of every kind of memory: what each rule and optimiser keeps from step to step.
    fn recipes() -> Vec<Recipe> {
        let of = |text: &str| {
            let small =
                "arch = \"4c3-mp2-12\"\nfloat_epochs = 2\nepochs = 2\nbatch = 50\nbits_a = 2\n";
            Recipe::from_toml("a test", &format!("{small}{text}")).unwrap()
        };
        vec![
            recipe(),
            of("optimizer = \"adam\"\nlr = 0.01\nclip = 1\nreestimate = 2\nmirror = true"),
            of(
                "optimizer = \"adam\"\nlr = 0.01\nrule = { kind = \"forward-backtrack\", period = 2 }",
            ),
            of("rule = \"rounding\"\nweights = \"stoch-binary\""),
            of("rule = { kind = \"binary-relax\", growth = 1.5 }\nalpha_stage = 1"),
            of("rule = { kind = \"bop\", gamma = 0.01 }\nloss = \"squared-hinge\""),
            of(
                "bits_w = 3\ndampening = 0.01\ndiagnostics = true\n[freezing]\nstart = 0.004\nend = 0.003",
            ),
            of("bits_w = 4\nweights = \"lsq-weight:bits=4\"\ncoarse_alpha = \"alpha-lsq\""),
            of("rho_growth = 2\nschedule = \"inverse-root\"\nlearn_alpha = false\naffine = false"),
            Recipe {
                arch: "drop0.2-24-drop0.5".to_string(),
                ..recipe()
            },
            Recipe {
                arch: "stem4c3s3-rprelu-react4-react8s2-act-9".to_string(),
                activation: crate::nn::net::Kind::RSign,
                bits_a: 1,
                diagnostics: true,
                ..recipe()
            },
        ]
    }

    #[test]
    fn a_resumed_run_ends_with_the_bits_of_one_that_never_stopped() {
        let data = digits(3, 300, 50).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.safetensors");
        for recipe in recipes() {
            let mut whole = Trainer::new(recipe.clone(), &data).unwrap();
            let last = whole.run(Par::Caller, &mut ()).unwrap().unwrap();
            // In the float phase, on the border, in the quantized phase.
            for stop in [1, 2, 3] {
                let mut first = Trainer::new(recipe.clone(), &data).unwrap();
                first.run(Par::Caller, &mut StopAt(stop)).unwrap();
                assert_eq!(first.done(), stop);
                first.save(&path).unwrap();
                assert_eq!(first.to_bytes().unwrap(), std::fs::read(&path).unwrap());
                let mut second = Trainer::resume(&path, &data).unwrap();
                assert!(state(&mut second) == state(&mut first), "{recipe:?}");
                let report = second.run(Par::Caller, &mut ()).unwrap().unwrap();
                let same = state(&mut second) == state(&mut whole);
                assert!(same, "stopped after {stop}: {recipe:?}");
                assert_eq!(report.test_accuracy, last.test_accuracy);
                assert_eq!(report.train_loss.to_bits(), last.train_loss.to_bits());
            }
            if recipe.freezing.is_some() {
                let reports = whole.layer_reports();
                assert!(reports.iter().any(|r| r.frozen > 0.0), "{reports:?}");
            }
        }
    }

    #[test]
    fn files_that_are_not_this_run_are_told_apart() {
        let data = digits(3, 300, 50).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.safetensors");
        let said = |data: &Dataset| Trainer::resume(&path, data).err().unwrap().to_string();
        assert!(said(&data).starts_with("cannot read "));

        Trainer::new(recipe(), &data).unwrap().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        assert!(said(&data).contains("not a whole safetensors file"));
        let mut damaged = bytes.clone();
        damaged[bytes.len() - 9] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        assert!(said(&data).contains("damaged: the checksum is"));
        std::fs::write(&path, b"P5 28 28 255").unwrap();
        assert!(said(&data).contains("not a whole safetensors file"));

        let other = Container::new("{}".to_string());
        other.save(&path, "model", 1).unwrap();
        let kinds = "it is a qcore 'model 1'; this call reads 'qcore-checkpoint 2'";
        assert!(said(&data).contains(kinds));
        other.save(&path, KIND, VERSION).unwrap();
        assert!(said(&data).contains("the description: missing field `recipe`"));

        let mut short = Container::from_bytes("it", KIND, VERSION, &bytes).unwrap();
        short.tensors.remove("velocity2");
        short.save(&path, KIND, VERSION).unwrap();
        assert!(said(&data).contains("the tensor 'velocity2' is missing"));
        let mut long = Container::from_bytes("it", KIND, VERSION, &bytes).unwrap();
        long.put("x", &[1], Data::F32(vec![0.0]));
        long.save(&path, KIND, VERSION).unwrap();
        assert!(said(&data).contains("the tensor 'x' is none of the net's"));

        std::fs::write(&path, &bytes).unwrap();
        let small = crate::train::data::Images::new([2, 2, 1], 10, vec![0; 240], vec![0; 60]);
        let small = small.unwrap();
        let small = Dataset {
            name: "small".to_string(),
            train: small.clone(),
            test: small,
        };
        assert!(
            said(&small).contains("images of [28, 28, 1] in 10 classes; the data are [2, 2, 1]")
        );
    }
}
