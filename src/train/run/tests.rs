//! Steps by hand are those of an epoch; what cannot be is refused and changes nothing.

use super::*;
use crate::train::data::{Dataset, digits};
use crate::train::trainer::Trainer;

fn recipe(text: &str) -> Recipe {
    let epochs = if text.starts_with("epochs") {
        ""
    } else {
        "epochs = 2\n"
    };
    let head = "arch = \"24-16\"\nbits_a = 2\nfloat_epochs = 1\nbatch = 50\n";
    Recipe::from_toml("a test", &format!("{head}{epochs}{text}")).unwrap()
}

/// A run of the recipe on digits.
fn run_on(data: &Dataset, text: &str) -> Run {
    Run::new(recipe(text), [28, 28, 1], 10, data.train.len()).unwrap()
}

#[test]
fn steps_by_hand_give_the_checkpoint_of_the_trainer() {
    let data = digits(3, 310, 50).unwrap();
    for text in [
        "max_shift = 2\nmirror = true",
        "weights = \"stoch-binary\"\nreestimate = 3",
        "rule = { kind = \"binary-relax\", growth = 1.5 }\nschedule = \"inverse-root\"",
    ] {
        let mut run = run_on(&data, text);
        assert_eq!((run.steps(), run.epochs()), (6, 3));
        let rng = Rng::new(run.recipe().seed);
        for epoch in 1..=3 {
            let order = rng.at(epoch, ORDER).shuffled(310);
            for (i, order) in order.chunks_exact(50).enumerate() {
                assert_eq!(run.steps_so_far(), i);
                let shifts = rng.at(epoch, SHIFT);
                run.fill(&data.train, order, shifts).unwrap();
                let (pixels, labels) = (run.pixels.clone(), run.labels.clone());
                run.step(&pixels, &labels, Par::Caller).unwrap();
            }
            let trained = run.end_epoch().unwrap();
            assert_eq!((trained.epoch, trained.steps), (epoch as usize, 6));
        }
        if run.recipe().reestimate > 0 {
            run.reestimate_over(&data.train, Par::Caller).unwrap();
        }
        let mut trainer = Trainer::new(recipe(text), &data).unwrap();
        trainer.run(Par::Caller, &mut ()).unwrap();
        let same = run.to_bytes().unwrap() == trainer.to_bytes().unwrap();
        assert!(same, "{text}");
    }
}

#[test]
fn an_epoch_may_have_fewer_steps_and_tells_their_means() {
    let data = digits(3, 300, 50).unwrap();
    let mut run = run_on(&data, "");
    let (mut loss, mut correct) = (0.0, 0);
    for (at, len) in [(0, 50), (50, 30)] {
        let pixels = &data.train.pixels()[at * 784..][..len * 784];
        let labels = &data.train.labels()[at..][..len];
        let score = run.step(pixels, labels, Par::Caller).unwrap();
        loss += f64::from(score.loss);
        correct += score.correct;
    }
    let trained = run.end_epoch().unwrap();
    assert_eq!((trained.epoch, trained.steps, run.done()), (1, 2, 1));
    assert_eq!(trained.loss, (loss / 2.0) as f32);
    assert_eq!(trained.accuracy, correct as f32 / 80.0);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let data = digits(3, 300, 50).unwrap();
    let mut run = run_on(&data, "");
    let before = run.to_bytes().unwrap();
    let (pixels, labels) = (data.train.pixels(), data.train.labels());
    let said = |result: Result<Score>| result.unwrap_err().to_string();
    let mut step = |n: usize, labels: &[u8]| said(run.step(&pixels[..n], labels, Par::Caller));
    assert_eq!(step(0, &[]), "labels is empty; expected at least one");
    let one = "labels is 1 element long; expected 2 or more, whose statistics normalise";
    assert_eq!(step(784, &[3]), one);
    let long = step(784, &[3, 4]);
    assert!(long.starts_with("images is 784 elements long; expected 1568"));
    let range = "labels is 10 at [1]; expected 0 to 9";
    assert_eq!(step(1568, &[9, 10]), range);
    let wrong = run.evaluate(&pixels[..1568], &[9, 10], Par::Caller);
    assert_eq!(said(wrong), range);
    let none = run.end_epoch().unwrap_err().to_string();
    assert_eq!(
        none,
        "steps is 0; expected at least 1 before the end of an epoch"
    );
    let few = run
        .reestimate(&pixels[..784], Par::Caller)
        .unwrap_err()
        .to_string();
    assert_eq!(few, "images is 1; expected at least the 50 of a batch");
    assert!(run.to_bytes().unwrap() == before);

    for i in 0..6 {
        let at = 50 * i;
        let batch = &pixels[at * 784..][..50 * 784];
        run.step(batch, &labels[at..][..50], Par::Caller).unwrap();
        let begun = run.epoch(&data.train, Par::Caller, &mut |_| ControlFlow::Continue(()));
        let told = begun.unwrap_err().to_string();
        assert!(told.starts_with("ste"), "{told}");
        let told = run.to_bytes().unwrap_err().to_string();
        assert!(told.ends_with("a checkpoint is taken between two epochs"));
    }
    let more = said(run.step(&pixels[..1568], &labels[..2], Par::Caller));
    assert!(more.starts_with("step is 7; expected at most 6"), "{more}");
    run.end_epoch().unwrap();
    let other = digits(3, 400, 1).unwrap();
    let mut epoch = |data: &Dataset| {
        let done = run.epoch(&data.train, Par::Caller, &mut |_| ControlFlow::Continue(()));
        done.map_err(|e| e.to_string())
    };
    let wrong = epoch(&other).unwrap_err();
    let expected =
        "images is 400 of [28, 28, 1] in 10 classes; expected 300 of [28, 28, 1] in 10 classes";
    assert_eq!(wrong, expected);
    // As many batches, but another order.
    assert!(epoch(&digits(3, 310, 1).unwrap()).is_err());
    assert_eq!(epoch(&data).unwrap().unwrap().epoch, 2);
    assert_eq!(epoch(&data).unwrap().unwrap().epoch, 3);
    let over = epoch(&data).unwrap_err();
    assert!(over.starts_with("epoch is 4; expected at most 3"), "{over}");
    let over = said(run.step(&pixels[..1568], &labels[..2], Par::Caller));
    assert!(over.starts_with("epoch is 4; expected at most 3"), "{over}");
}

#[test]
fn alpha_is_fitted_by_the_first_batch_of_every_so_many_quantized_epochs() {
    let data = digits(3, 300, 50).unwrap();
    let alphas = |run: &mut Run| -> Vec<f32> {
        let state = run.net.state();
        let alphas = state.iter().filter(|(name, _)| name.ends_with("alpha"));
        alphas.map(|(_, values)| values[0]).collect()
    };
    for (text, fitted) in [("", false), ("\nalpha_refit = 2", true)] {
        let mut run = run_on(&data, &format!("epochs = 3\nlearn_alpha = false{text}"));
        let mut seen = Vec::new();
        for _ in 0..4 {
            for i in 0..2 {
                let at = 50 * i;
                let (pixels, labels) =
                    (&data.train.pixels()[at * 784..], &data.train.labels()[at..]);
                run.step(&pixels[..50 * 784], &labels[..50], Par::Caller)
                    .unwrap();
                seen.push(alphas(&mut run));
            }
            run.end_epoch().unwrap();
        }
        // Epochs of two steps: one of floats, then quantized ones, the first and the third of which fit.
        assert_eq!(seen[2] != [0.4866; 2], fitted, "{seen:?}");
        assert_eq!((&seen[2], &seen[2]), (&seen[3], &seen[4]));
        assert_eq!(seen[4], seen[5]);
        assert_eq!(seen[6] != seen[5], fitted, "{seen:?}");
        assert_eq!(seen[6], seen[7]);
    }
}

#[test]
fn weights_freeze_at_the_level_of_their_own_sign() {
    for quantizer in [
        "loss-aware-ternary:search=two-scale",
        "loss-aware-log:bits=3",
        "ternary-exact",
    ] {
        let freezing = "[freezing]\nstart = 0.5\nend = 0.5";
        let head = "arch = \"24-16\"\nbits_a = 32\nfloat_epochs = 0\nepochs = 1\nbatch = 50";
        let rule = match quantizer.starts_with("loss-aware") {
            true => "optimizer = \"adam\"\nrule = \"loss-aware\"",
            false => "",
        };
        let text = format!("{head}\nweights = \"{quantizer}\"\n{rule}\n{freezing}");
        let recipe = Recipe::from_toml("a test", &text).unwrap();
        let mut run = Run::new(recipe, [28, 28, 1], 10, 300).unwrap();
        // Negative weights apart from the positive ones, then all frozen where they are.
        run.net.layers_mut().visit_mut("", &mut |_, layer| {
            let weights = layer.weights_mut().into_iter();
            weights
                .flat_map(|w| &mut w.latent)
                .for_each(|w| *w *= if *w < 0.0 { 3.0 } else { 1.0 });
        });
        run.net.settle().unwrap();
        let mut expected = Vec::new();
        for (weights, freezer) in run.net.weights().iter().zip(&mut run.freezers) {
            let codes = weights.integers();
            let (n, mut state) = (codes.len(), freezer.to_floats());
            for (i, code) in codes.iter().enumerate() {
                (state[i], state[4 * n + i]) = (*code as f32, 1.0);
            }
            freezer.set_floats(&state).unwrap();
            expected.push(weights.values().to_vec());
        }
        run.freeze(0).unwrap();
        for (weights, expected) in run.net.weights().iter().zip(&expected) {
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs();
            let all = weights.latent.iter().zip(expected).all(near);
            assert!(all, "{quantizer}");
        }
    }
}
