//! Every named recipe, its net narrowed, trained for a few steps and taken through freeze, file and run.

use super::{NAMED, load};
use crate::isa::Isa;
use crate::model::{Mode, Model};
use crate::nn::design::{Block, arch};
use crate::nn::rng::Rng;
use crate::nn::{Net, freeze};
use crate::ops::Par;
use crate::train::data::{Dataset, Images, digits};
use crate::train::recipe::Recipe;
use crate::train::trainer::{Callback, EpochReport, Trainer};

/// Keeps the reports.
struct Keep(Vec<EpochReport>);

impl Callback for Keep {
    fn on_epoch(&mut self, _: &mut Trainer<'_>, report: &EpochReport) -> std::ops::ControlFlow<()> {
        self.0.push(*report);
        std::ops::ControlFlow::Continue(())
    }
}

/// Images of 32 x 32 in color, each class brighter in a place of its own.
fn colored(seed: u64, len: usize) -> Images {
    let rng = Rng::new(seed);
    let labels: Vec<u8> = (0..len).map(|i| (i % 10) as u8).collect();
    let pixel = |i: usize| {
        let (image, at) = (i / 3072, i % 3072);
        let place = at / 308 == usize::from(labels[image]);
        (rng.below(i as u64, 128) + if place { 127 } else { 0 }) as u8
    };
    let pixels = (0..len * 3072).map(pixel).collect();
    Images::new([32, 32, 3], 10, pixels, labels).unwrap()
}

/// A quarter of few filters or outputs, a sixteenth of many.
fn narrow(n: usize) -> usize {
    if n <= 64 { n.div_ceil(4) } else { n / 16 }
}

/// The recipe with narrow layers and an epoch of each phase that it has.
fn small(recipe: &Recipe) -> Recipe {
    let blocks = arch::parse(&recipe.arch).unwrap().into_iter();
    let blocks = blocks.map(|block| {
        let mut block = block;
        match &mut block {
            Block::Linear(n) => *n = narrow(*n),
            Block::Conv { filters, .. }
            | Block::Stem { filters, .. }
            | Block::Residual { filters, .. }
            | Block::React { filters, .. } => *filters = narrow(*filters),
            _ => {}
        }
        block.to_string()
    });
    Recipe {
        arch: blocks.collect::<Vec<_>>().join("-"),
        float_epochs: recipe.float_epochs.min(1),
        epochs: recipe.epochs.min(2),
        batch: 20,
        reestimate: recipe.reestimate.min(2),
        ..recipe.clone()
    }
}

/// The logits of the net frozen, saved and loaded.
fn shipped(net: &Net, images: &[u8]) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    freeze(net).unwrap().save(&path).unwrap();
    let model = Model::load(&path).unwrap();
    let m = images.len() / net.design().input_len();
    let mut logits = vec![0.0; m * net.design().classes];
    let mut workspace = model.workspace(m, 1, Mode::Latency).unwrap();
    model
        .run(images, &mut logits, &mut workspace, Par::Caller)
        .unwrap();
    logits
}

#[test]
fn every_recipe_trains_and_what_packs_ships_with_the_logits_that_it_had() {
    let cifar = Dataset {
        name: "colored".to_string(),
        train: colored(1, 80),
        test: colored(2, 20),
    };
    let mnist = digits(3, 120, 30).unwrap();
    let mut packed = Vec::new();
    for named in NAMED {
        let (name, recipe) = (named.name, load(named.name).unwrap());
        let data = match name.starts_with("cifar10") {
            true => &cifar,
            false => &mnist,
        };
        let mut trainer = Trainer::new(small(&recipe), data).unwrap();
        let mut keep = Keep(Vec::new());
        trainer.run(Par::Caller, &mut keep).unwrap();
        let finite = keep.0.iter().all(|r| r.train_loss.is_finite());
        assert!(finite && !keep.0.is_empty(), "{name}");
        let asked = recipe.diagnostics && recipe.epochs > 0;
        assert_eq!(trainer.net_report().is_some(), asked, "{name}");
        let net = trainer.into_net();
        if !net.is_packed() {
            assert!(freeze(&net).is_err(), "{name}");
            continue;
        }
        let images = data.test.pixels();
        let expected = net.evaluate(Isa::Portable, images, Par::Caller).unwrap();
        let bits = |logits: &[f32]| -> Vec<u32> { logits.iter().map(|l| l.to_bits()).collect() };
        assert!(bits(&shipped(&net, images)) == bits(&expected), "{name}");
        assert!(expected.iter().any(|l| *l != expected[0]), "{name}");
        packed.push(name);
    }
    assert_eq!(
        packed,
        [
            "default",
            "lenet5-binary-connect",
            "lenet5-bcgd",
            "lenet5-sr",
            "lenet5-sr-big",
            "lenet5-r",
            "lenet5-laq",
            "lenet5-blaq",
            "lenet5-packed",
            "mlp-blaq",
            "react-small",
            "cifar10-vgg11-packed",
            "cifar10-resnet20-packed",
            "cifar10-reactnet20"
        ]
    );
}

#[test]
fn rounding_of_signs_stalls_and_that_on_a_fine_grid_moves() {
    let data = digits(3, 1000, 100).unwrap();
    let reports = |name: &str, lr: f32| {
        let recipe = Recipe {
            epochs: 3,
            lr,
            ..small(&load(name).unwrap())
        };
        let mut keep = Keep(Vec::new());
        let mut trainer = Trainer::new(recipe, &data).unwrap();
        trainer.run(Par::Caller, &mut keep).unwrap();
        keep.0
    };
    let signs = reports("lenet5-r", 0.005);
    assert!(signs.iter().all(|r| r.flip_ratio == 0.0), "{signs:?}");
    // The normalisations learn.
    assert!(signs[2].train_loss < signs[0].train_loss, "{signs:?}");
    let grid = reports("lenet5-r-grid", 0.005);
    // The first steps of Adam are as long as the rate, later ones shorter.
    assert!(grid[0].flip_ratio > 1e-3, "{grid:?}");
    assert!(grid.iter().all(|r| r.flip_ratio > 0.0), "{grid:?}");
    let slow = reports("lenet5-r-grid", 0.0005);
    assert!(slow[0].flip_ratio < 0.1 * grid[0].flip_ratio, "{slow:?}");
    let draws = reports("lenet5-sr", 0.005);
    assert!(draws[2].flip_ratio > 0.0, "{draws:?}");
}
