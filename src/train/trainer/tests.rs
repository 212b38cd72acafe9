//! Whole small runs: the same bits for all threads and ISAs, what is learned, what is refused.

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
fn neither_isa_nor_threads_change_a_bit_of_a_convolutional_run() {
    let data = digits(6, 200, 50).unwrap();
    let text =
        "arch = \"8c3p1-mp2-8c3s2-20\"\nbits_a = 2\nfloat_epochs = 1\nepochs = 2\nbatch = 40\n";
    for rest in [
        "optimizer = \"adam\"\nlr = 0.01\nrule = \"loss-aware\"",
        "arch = \"drop0.1-6c3-res6-res12s2-mp2-20\"\nweights = \"stoch-binary\"\nmirror = true",
    ] {
        let text = match rest.starts_with("arch") {
            true => text.lines().skip(1).collect::<Vec<_>>().join("\n") + "\n",
            false => text.to_string(),
        };
        let recipe = Recipe::from_toml("a test", &(text + rest)).unwrap();
        let run = |isa: Isa, par: Par<'_>| {
            let mut keep = Keep::default();
            let mut trainer = Trainer::on(isa, recipe.clone(), &data).unwrap();
            trainer.run(par, &mut keep).unwrap();
            (keep.losses, trainer.to_bytes().unwrap())
        };
        let one = run(Isa::Portable, Par::Caller);
        assert_eq!(one.0.len(), 15);
        for isa in Isa::available() {
            assert!(run(isa, Par::Caller) == one, "{isa}: {rest}");
        }
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads).unwrap();
            let same = run(Isa::best(), Par::Pool(&pool)) == one;
            assert!(same, "{threads} threads: {rest}");
        }
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
        matches!(&said, Error::Diverged { epoch: 1, step, .. } if *step <= 10),
        "{said:?}"
    );
    assert!(said.to_string().contains("come from layer "), "{said}");
}

#[test]
fn a_step_refuses_labels_that_are_no_classes_and_watching_changes_no_bit() {
    let data = digits(2, 200, 20).unwrap();
    let recipe = Recipe {
        arch: "4c3s2-mp2-16".to_string(),
        bits_a: 2,
        batch: 20,
        float_epochs: 1,
        epochs: 2,
        alpha_stage: 1,
        ..Recipe::default()
    };
    let run = |diagnostics: bool| {
        let recipe = Recipe {
            diagnostics,
            ..recipe.clone()
        };
        let mut keep = Keep::default();
        let mut trainer = Trainer::new(recipe, &data).unwrap();
        trainer.run(Par::Caller, &mut keep).unwrap();
        let report = trainer.net_report().copied();
        let mut latent = Vec::new();
        for weights in trainer.net().weights() {
            latent.extend(weights.latent.iter().map(|w| w.to_bits()));
        }
        (keep.losses, latent, report)
    };
    let (watched, plain) = (run(true), run(false));
    assert!((watched.0, watched.1) == (plain.0, plain.1));
    assert_eq!(plain.2, None);
    let report = watched.2.unwrap();
    assert!((0.0..=1.0).contains(&report.loss_rises), "{report:?}");
    assert!((1..=10).contains(&report.states), "{report:?}");
    assert!(report.coarse_cosine.unwrap() > 0.1, "{report:?}");

    let mut net = Trainer::new(recipe, &data).unwrap().into_net();
    let said = net.step(&data.train.pixels()[..784 * 2], &[3, 10], Par::Caller);
    let said = said.err().unwrap().to_string();
    assert!(said.contains("10") && said.contains("label"), "{said}");
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
    let none = digits(2, 20, 20).unwrap();
    let empty = crate::train::data::Images::new([28, 28, 1], 10, Vec::new(), Vec::new()).unwrap();
    let refused = |train: &crate::train::data::Images, test: &crate::train::data::Images| {
        let data = Dataset {
            name: "some".to_string(),
            train: train.clone(),
            test: test.clone(),
        };
        let recipe = Recipe {
            batch: 10,
            ..Recipe::default()
        };
        Trainer::new(recipe, &data).err().unwrap().to_string()
    };
    let said_empty = "batch is 10; expected at most the 0 training images";
    assert_eq!(refused(&empty, &none.test), said_empty);
    let said_empty = "test is empty; expected at least one image";
    assert_eq!(refused(&none.train, &empty), said_empty);
    let label = crate::train::data::Images::new([1, 1, 1], 10, vec![0; 2], vec![9, 10]);
    let label = label.err().unwrap().to_string();
    assert_eq!(label, "labels is 10 at [1]; expected 0 to 9");
    let shift = said(|r| (r.batch, r.max_shift) = (10, 28));
    assert!(shift.starts_with("max_shift is 28; expected below 28"));
}

#[test]
fn numbers_that_are_not_finite_stop_the_run_where_they_come_up_even_if_the_loss_is() {
    let data = digits(2, 600, 20).unwrap();
    let quantized = "float_epochs = 0\nepochs = 2\n";
    for text in [
        // The step of an activation becomes NaN, of which no quantizer can be made.
        "batch = 20\nlr = 1e5\nepochs = 3",
        // Signs and codes of NaN are numbers again: the loss stays finite.
        "batch = 50\nlr = 1e25\narch = \"16-16\"\nbits_a = 1\nactivation = \"sign\"\noptimizer = \"adam\"\n\
         weight_decay = 0",
        "batch = 50\nlr = 1e25\narch = \"16-16\"\nbits_w = 3\nweights = \"lsq-weight:bits=3\"",
        "batch = 50\nlr = 1e30\narch = \"16\"\nrule = \"rounding\"\nweights = \"grid-det:delta=0.1\"\nbits_a = 32",
        "batch = 50\nlr = 1e30\narch = \"4c3s3-16\"\noptimizer = \"adam\"\nrule = { kind = \"forward-backtrack\", period = 1 }\n\
         weights = \"loss-aware-binary\"",
    ] {
        let text = match text.contains("epochs = 3") {
            true => format!("float_epochs = 0\n{text}"),
            false => format!("{quantized}{text}"),
        };
        let recipe = Recipe::from_toml("a test", &text).unwrap();
        let mut trainer = Trainer::new(recipe, &data).unwrap();
        let said = trainer.run(Par::Caller, &mut ()).unwrap_err();
        let Error::Diverged {
            epoch, step, layer, ..
        } = &said
        else {
            panic!("{text}: {said}");
        };
        assert!(*epoch >= 1 && *step >= 1, "{said}");
        let named = layer.starts_with("layer ") || layer == "the loss";
        assert!(named, "{text}: {said}");
    }
}

#[test]
fn neither_a_checkpoint_nor_a_model_is_made_of_numbers_that_are_not_finite() {
    let data = digits(2, 200, 20).unwrap();
    let recipe = Recipe {
        arch: "16".to_string(),
        batch: 20,
        float_epochs: 0,
        epochs: 2,
        ..Recipe::default()
    };
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    let mut once = Keep {
        stop_after: 0,
        ..Keep::default()
    };
    trainer.epoch(Par::Caller, &mut once).unwrap().unwrap();
    let good = trainer.to_bytes().unwrap();
    trainer.run.to_model().unwrap();
    let told = |said: Option<Error>, what: &str| {
        let said = said.expect("an error");
        let right =
            matches!(&said, Error::Diverged { epoch: 1, step: 10, layer, .. } if layer == what);
        assert!(right, "{said:?}");
    };
    let velocity = |trainer: &mut Trainer<'_>, to: f32| {
        std::mem::replace(&mut trainer.run.memories.0[0].velocity[0], to)
    };
    let kept = velocity(&mut trainer, f32::INFINITY);
    told(
        trainer.to_bytes().err(),
        "layer 0 (linear), the optimiser's velocity",
    );
    velocity(&mut trainer, kept);
    assert!(trainer.to_bytes().unwrap() == good);
    trainer.run.net.state()[2].1[0] = f32::INFINITY;
    let (name, what) = (
        trainer.run.net.state()[2].0.clone(),
        "layer 1 (normalisation), its shift",
    );
    assert_eq!(name, "layers.1.beta");
    told(trainer.to_bytes().err(), what);
    told(trainer.run.to_model().err(), what);
    let said = crate::nn::freeze(trainer.net()).err().unwrap().to_string();
    assert!(
        said.starts_with(&format!("the net is not finite in {what}; expected")),
        "{said}"
    );
}
