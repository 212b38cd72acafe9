//! Runs that stop and go on, and files that are not theirs.

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
        let small = "arch = \"4c3-mp2-12\"\nfloat_epochs = 2\nepochs = 2\nbatch = 50\nbits_a = 2\n";
        Recipe::from_toml("a test", &format!("{small}{text}")).unwrap()
    };
    vec![
        recipe(),
        of("optimizer = \"adam\"\nlr = 0.01\nclip = 1\nreestimate = 2\nmirror = true"),
        of("optimizer = \"adam\"\nlr = 0.01\nrule = { kind = \"forward-backtrack\", period = 2 }"),
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
    let kinds =
        "it is a qcore 'model 1'; this call reads 'qcore-checkpoint 2' and 'qcore-checkpoint 3'";
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
    // As many batches, but another order in each epoch.
    let more = digits(3, 310, 50).unwrap();
    assert!(
        said(&more).contains("it is of 300 images of [28, 28, 1] in 10 classes; the data are 310")
    );
    let said_of = |images: usize| Run::resume(&path, images).err().map(|e| e.to_string());
    let refused = said_of(310).unwrap();
    assert!(
        refused.starts_with("images is 310; expected 300, as many as "),
        "{refused}"
    );
    assert_eq!(said_of(300), None);
    let small = crate::train::data::Images::new([2, 2, 1], 10, vec![0; 240], vec![0; 60]);
    let small = small.unwrap();
    let small = Dataset {
        name: "small".to_string(),
        train: small.clone(),
        test: small,
    };
    assert!(
        said(&small)
            .contains("it is of 300 images of [28, 28, 1] in 10 classes; the data are 60 of [2")
    );
}

/// The bytes as version 2 had them: no number of images, and every field of the recipe with something in it.
fn as_version_2(bytes: &[u8], idle: &[(&str, serde_json::Value)]) -> Vec<u8> {
    let mut file = Container::from_bytes("it", KIND, VERSION, bytes).unwrap();
    let mut description: serde_json::Value = serde_json::from_str(&file.description).unwrap();
    description.as_object_mut().unwrap().remove("images");
    for (name, value) in idle {
        description["recipe"][*name] = value.clone();
    }
    file.description = description.to_string();
    file.to_bytes(KIND, 2).unwrap()
}

#[test]
fn checkpoints_of_version_2_go_on_with_the_bits_that_they_would_have_had() {
    let data = digits(3, 300, 50).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    for (kind, idle_x) in [
        (Kind::Sign, "clipped-relu"),
        (Kind::RSign, "relu"),
        (Kind::Relu, "identity"),
    ] {
        let recipe = Recipe {
            activation: kind,
            bits_a: 1,
            coarse_x: (kind == Kind::Relu).then_some(CoarseX::Identity),
            ..recipe()
        };
        let mut whole = Trainer::new(recipe.clone(), &data).unwrap();
        whole.run(Par::Caller, &mut ()).unwrap();
        let mut first = Trainer::new(recipe.clone(), &data).unwrap();
        first.run(Par::Caller, &mut StopAt(3)).unwrap();
        let idle = [("coarse_x", idle_x.into()), ("beta1", 0.5.into())];
        let old = as_version_2(&first.to_bytes().unwrap(), &idle);
        std::fs::write(&path, old).unwrap();
        assert_eq!(Recipe::of_checkpoint(&path).unwrap(), recipe);
        let mut second = Trainer::resume(&path, &data).unwrap();
        second.run(Par::Caller, &mut ()).unwrap();
        assert!(state(&mut second) == state(&mut whole), "{kind:?}");
        assert_eq!(second.to_bytes().unwrap(), whole.to_bytes().unwrap());
    }
    // The number is believed.
    assert_eq!(Run::resume(&path, 250).unwrap().images(), 250);
    let bytes = Trainer::new(recipe(), &data).unwrap().to_bytes().unwrap();
    let mut file = Container::from_bytes("it", KIND, VERSION, &bytes).unwrap();
    file.description = file.description.replace(",\"images\":300", "");
    file.save(&path, KIND, VERSION).unwrap();
    let said = Run::resume(&path, 300).err().unwrap().to_string();
    assert!(said.contains("missing field `images`"), "{said}");
}
