//! Checkpoints: a run between two epochs, in a file, to be resumed bit for bit.
//!
//! | tensor | shape | what |
//! |---|---|---|
//! | `layer{i}.latent` | `[N * K]` | latent weights |
//! | `layer{i}.gamma`, `.beta`, `.running_mean`, `.running_var` | `[N]` | normalisation |
//! | `layer{i}.alpha` | `[1]` | step of the activation, of hidden layers |
//! | `velocity{j}` | as parameter j | momentum, in the order of [`Net::parameters`] |
//!
//! The description is JSON: recipe, epochs done, phase, and the shape of the data. There is no state of a
//! random generator, since every draw is keyed by seed and epoch.
//!
//! [`Net::parameters`]: crate::nn::net::Net::parameters

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::container::{Container, Data};
use crate::nn::net::Mode;
use crate::train::data::Dataset;
use crate::train::recipe::Recipe;
use crate::train::sgd::Velocities;
use crate::train::trainer::Trainer;

/// What the file says it is.
const KIND: &str = "qcore-checkpoint";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    recipe: Recipe,
    /// Epochs done, of both phases.
    epoch: usize,
    phase: Mode,
    /// Height, width and channels of an image.
    input: [usize; 3],
    classes: usize,
}

impl<'a> Trainer<'a> {
    /// Writes the run to `path`, whole or not at all.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let design = self.net.design();
        let description = Description {
            recipe: self.recipe().clone(),
            epoch: self.done,
            phase: self.net.mode(),
            input: design.input,
            classes: design.classes,
        };
        let description = serde_json::to_string(&description);
        let mut file = Container::new(description.map_err(|e| Error::format(KIND, e))?);
        for (name, values) in self.net.state() {
            file.put(name, &[values.len()], Data::F32(values.to_vec()));
        }
        for (j, velocity) in self.velocities.iter_mut().enumerate() {
            let name = format!("velocity{j}");
            file.put(name, &[velocity.len()], Data::F32(velocity.clone()));
        }
        file.save(path, KIND, VERSION)
    }

    /// Reads a run from `path`, to go on with `data`, which must be what it was trained on.
    ///
    /// Errors, naming the file and what is wrong with it, if it cannot be read, is not a whole, undamaged
    /// checkpoint of this version, or is of images of another shape or number of classes.
    pub fn resume(path: &Path, data: &'a Dataset) -> Result<Self> {
        let what = path.display().to_string();
        let mut file = Container::load(path, KIND, VERSION)?;
        let description: Description = serde_json::from_str(&file.description)
            .map_err(|e| Error::format(&what, format_args!("the description: {e}")))?;
        let train = &data.train;
        let input = [train.height(), train.width(), train.channels()];
        let (found, given) = (
            (description.input, description.classes),
            (input, train.classes()),
        );
        if found != given {
            let problem = format!(
                "it is of images of {:?} in {} classes; the data are {:?} in {}",
                found.0, found.1, given.0, given.1
            );
            return Err(Error::format(&what, problem));
        }
        let mut trainer = Trainer::new(description.recipe, data)?;
        if description.epoch > trainer.epochs() {
            let problem = format!(
                "{} epochs are done; the recipe has {}",
                description.epoch,
                trainer.epochs()
            );
            return Err(Error::format(&what, problem));
        }
        trainer.done = description.epoch;
        trainer.net.set_mode(description.phase)?;
        trainer.velocities = Velocities::zeros(&trainer.net.parameters());
        for (name, values) in trainer.net.state() {
            values.copy_from_slice(&file.take_f32(&what, &name, &[values.len()])?);
        }
        for (j, velocity) in trainer.velocities.iter_mut().enumerate() {
            let name = format!("velocity{j}");
            *velocity = file.take_f32(&what, &name, &[velocity.len()])?;
        }
        if let Some(name) = file.tensors.keys().next() {
            let problem = format!("the tensor '{name}' is none of the net's");
            return Err(Error::format(&what, problem));
        }
        trainer.net.settle()?;
        trainer.net.take_flips();
        Ok(trainer)
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
        for (_, values) in trainer.net.state() {
            all.extend(values.iter().map(|v| v.to_bits()));
        }
        for velocity in trainer.velocities.iter_mut() {
            all.extend(velocity.iter().map(|v| v.to_bits()));
        }
        all
    }

    #[test]
    fn a_resumed_run_ends_with_the_bits_of_one_that_never_stopped() {
        let data = digits(3, 300, 50).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.safetensors");
        let mut whole = Trainer::new(recipe(), &data).unwrap();
        let last = whole.run(Par::Caller, &mut ()).unwrap().unwrap();
        // In the float phase, on the border, in the quantized phase.
        for stop in [1, 2, 3] {
            let mut first = Trainer::new(recipe(), &data).unwrap();
            first.run(Par::Caller, &mut StopAt(stop)).unwrap();
            assert_eq!(first.done(), stop);
            first.save(&path).unwrap();
            let mut second = Trainer::resume(&path, &data).unwrap();
            assert_eq!(state(&mut second), state(&mut first));
            let report = second.run(Par::Caller, &mut ()).unwrap().unwrap();
            assert_eq!(
                state(&mut second),
                state(&mut whole),
                "stopped after {stop}"
            );
            assert_eq!(report.test_accuracy, last.test_accuracy);
            assert_eq!(report.train_loss.to_bits(), last.train_loss.to_bits());
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
        let kinds = "it is a qcore 'model 1'; this call reads 'qcore-checkpoint 1'";
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
