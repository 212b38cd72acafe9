//! The net against difference quotients, float arithmetic and its own modes.

use super::*;
use crate::nn::ste::CoarseX;

mod own;
mod own_activation;

const M: usize = 12;
const INPUT: [usize; 3] = [4, 5, 1];

fn net(bits_a: usize, kind: Kind) -> (Net, Vec<u8>, Vec<u8>) {
    let design = Design {
        kind,
        ..Design::new(INPUT, Block::linear(&[9, 8]), 3, bits_a)
    };
    let (images, labels) = batch(21, 20);
    (Net::new(design, 4).unwrap(), images, labels)
}

/// M images of `len` bytes, and labels below 3.
fn batch(seed: u64, len: usize) -> (Vec<u8>, Vec<u8>) {
    let rng = Rng::new(seed);
    let images = (0..(M * len) as u64).map(|i| rng.below(i, 256) as u8);
    let labels = (0..M).map(|i| (i % 3) as u8);
    (images.collect(), labels.collect())
}

/// Gradients of all parameters of a float net against difference quotients of its loss.
fn against_quotients(net: &mut Net, images: &[u8], labels: &[u8]) {
    net.step(images, labels, Par::Caller).unwrap();
    let gradients: Vec<Vec<f32>> = net
        .parameters()
        .iter()
        .map(|p| p.gradient().to_vec())
        .collect();
    let (mut seen, mut off) = (0, 0);
    for (j, gradient) in gradients.iter().enumerate() {
        for (i, g) in gradient.iter().enumerate() {
            let mut loss = |step: f32| {
                let before = net.parameters()[j].value()[i];
                net.parameters()[j].value()[i] = before + step;
                let score = net.step(images, labels, Par::Caller).unwrap();
                net.parameters()[j].value()[i] = before;
                f64::from(score.loss)
            };
            // What a kink spoils at one step is right at a smaller one; what is wrong is wrong at both.
            let mut differs = |h: f32| {
                let quotient = ((loss(h) - loss(-h)) / f64::from(2.0 * h)) as f32;
                (quotient - g).abs() > 1e-2 * g.abs().max(0.05)
            };
            seen += 1;
            off += usize::from(differs(7e-4) && differs(2e-4));
        }
    }
    // A step across a kink of an activation or of the greatest is no difference quotient; few are.
    assert!(off * 50 < seen, "{off} of {seen}");
}

#[test]
fn the_gradients_of_a_float_net_are_difference_quotients() {
    let (mut net, images, labels) = net(1, Kind::Sign);
    against_quotients(&mut net, &images, &labels);
}

#[test]
fn so_are_those_of_convolutions_pools_shortcuts_and_dropout_with_every_loss() {
    let losses = [
        Loss::CrossEntropy,
        Loss::SquaredHinge,
        Loss::MultiClassHinge,
        Loss::SquaredError,
    ];
    let archs = [
        "4c3p1g1-mp2-6c2p1s2g2-5",
        "3c2p1-res3-res6s2-ap2-drop0.2",
        "4c3p1-ap2-act-mp2s1",
        "2c1-drop0.3-res4-7",
    ];
    for (loss, arch) in losses.into_iter().zip(archs) {
        let blocks = crate::nn::design::arch::parse(arch).unwrap();
        let mut design = Design::new([4, 5, 2], blocks, 3, 32);
        design.affine = loss != Loss::SquaredHinge;
        let mut net = Net::new(design, 8).unwrap();
        net.loss = loss;
        net.set_step(5);
        let (images, labels) = batch(22, 40);
        against_quotients(&mut net, &images, &labels);
    }
}

#[test]
fn so_are_those_of_shifted_signs_and_rprelu_in_floats() {
    let archs = ["stem4c3p1-rprelu-react4-react8s2-ap2-act-5", "5-rprelu-4"];
    for (arch, by_x) in archs
        .into_iter()
        .zip([CoarseX::PiecewisePoly, CoarseX::HardTanh])
    {
        let blocks = crate::nn::design::arch::parse(arch).unwrap();
        let mut design = Design::new([4, 5, 2], blocks, 3, 1);
        (design.kind, design.by_x) = (Kind::RSign, Some(by_x));
        let mut net = Net::new(design, 8).unwrap();
        let mut roles: Vec<Role> = net.parameters().iter().map(|p| p.role()).collect();
        roles.dedup();
        assert!(roles.contains(&Role::Shift) && roles.contains(&Role::Slope));
        let (images, labels) = batch(22, 40);
        against_quotients(&mut net, &images, &labels);
    }
}

#[test]
fn with_smooth_activations_a_quantized_net_has_true_gradients() {
    for (kind, bits_a, by_x) in [
        (Kind::RSign, 1, CoarseX::PiecewisePoly),
        (Kind::Sign, 1, CoarseX::HardTanh),
        (Kind::Sign, 1, CoarseX::PiecewisePoly),
        (Kind::Relu, 2, CoarseX::ClippedRelu),
        (Kind::Relu, 4, CoarseX::LogTailed),
    ] {
        let blocks = crate::nn::design::arch::parse("4c3p1-mp2-5").unwrap();
        let mut design = Design::new([4, 5, 2], blocks, 3, bits_a);
        (design.kind, design.by_x) = (kind, Some(by_x));
        let mut net = Net::new(design, 8).unwrap();
        net.learn_alpha = false;
        net.set_mode(Mode::Quantized).unwrap();
        net.use_smooth(true);
        let (images, labels) = batch(22, 40);
        // Latent weights do not move the loss by steps so small, so these are the other parameters.
        net.step(&images, &labels, Par::Caller).unwrap();
        let smooth = net.weights()[0].d_weights.clone();
        let mut others: Vec<usize> = Vec::new();
        for (j, parameter) in net.parameters().iter().enumerate() {
            if parameter.role() != Role::Weights {
                others.push(j);
            }
        }
        let (mut seen, mut off, h) = (0, 0, 7e-4);
        for j in others {
            for i in 0..net.parameters()[j].value().len() {
                net.step(&images, &labels, Par::Caller).unwrap();
                let g = net.parameters()[j].gradient()[i];
                let mut loss = |step: f32| {
                    net.parameters()[j].value()[i] += step;
                    let score = net.step(&images, &labels, Par::Caller).unwrap();
                    net.parameters()[j].value()[i] -= step;
                    f64::from(score.loss)
                };
                let quotient = ((loss(h) - loss(-h)) / f64::from(2.0 * h)) as f32;
                seen += 1;
                off += usize::from((quotient - g).abs() > 1e-2 * g.abs().max(0.05));
            }
        }
        assert!(off * 10 < seen, "{kind:?} {by_x:?}: {off} of {seen}");
        net.use_smooth(false);
        net.step(&images, &labels, Par::Caller).unwrap();
        assert_ne!(
            net.weights()[0].d_weights,
            smooth,
            "the coarse one is another"
        );
    }
}

#[test]
fn reestimated_averages_are_the_means_over_the_batches() {
    let (mut net, images, _) = net(1, Kind::Relu);
    let norm = |net: &Net| match &net.layers().nodes()[1].layer {
        Layer::Norm(norm) => (norm.running_mean.clone(), norm.running_var.clone()),
        _ => panic!("a normalisation stands second"),
    };
    let half = images.len() / 2;
    let (first, second) = images.split_at(half);
    let mut alone = |batch: &[u8]| {
        net.reestimate([batch], Par::Caller).unwrap();
        norm(&net)
    };
    let (a, b) = (alone(first), alone(second));
    net.reestimate([first, second], Par::Caller).unwrap();
    let both = norm(&net);
    for i in 0..9 {
        assert!((both.0[i] - 0.5 * (a.0[i] + b.0[i])).abs() < 1e-5);
        assert!((both.1[i] - 0.5 * (a.1[i] + b.1[i])).abs() < 1e-5);
    }
}

#[test]
fn packed_and_float_arithmetic_agree() {
    for (bits_a, kind) in [(1, Kind::Sign), (2, Kind::Relu), (4, Kind::Relu)] {
        let (mut net, images, labels) = net(bits_a, kind);
        net.set_mode(Mode::Quantized).unwrap();
        let mut seed = 30;
        net.layers_mut().visit_mut("", &mut |_, layer| {
            if let Layer::Norm(norm) = layer {
                // A pre-activation at the mean would sit on a threshold, and a rounding could move it.
                seed += 1;
                Rng::new(seed).fill_normal(&mut norm.beta, 0.5);
            }
        });
        let packed = net.step(&images, &labels, Par::Caller).unwrap();
        let gradient = net.parameters()[0].gradient().to_vec();
        net.use_packed(false);
        let floats = net.step(&images, &labels, Par::Caller).unwrap();
        let (a, b) = (packed.loss, floats.loss);
        assert!((a - b).abs() < 1e-4, "{packed:?} {floats:?}");
        let apart = |a: &[f32], b: &[f32]| {
            let gaps = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            gaps.fold(0f32, f32::max)
        };
        assert!(apart(&gradient, net.parameters()[0].gradient()) < 1e-3);
        let float_logits = net.evaluate(net.isa, &images, Par::Caller).unwrap();
        net.use_packed(true);
        let logits = net.evaluate(net.isa, &images, Par::Caller).unwrap();
        assert!(apart(&logits, &float_logits) < 1e-4, "{bits_a}");
    }
}

#[test]
fn so_they_do_in_convolutions_of_every_kind() {
    for (arch, kind, bits_a) in [
        ("6c3p1s2g1-8c2g2-9", Kind::Relu, 2),
        ("mp2-4c2p1-mp2-6c1s1-9", Kind::Relu, 4),
        ("4c3p1-res4-res8s2-ap2-9", Kind::Relu, 2),
        ("8c3-res8-7", Kind::Sign, 1),
        ("stem4c3p1-react4-react8s2-act-9", Kind::RSign, 1),
    ] {
        let blocks = crate::nn::design::arch::parse(arch).unwrap();
        let design = Design {
            kind,
            ..Design::new([6, 7, 3], blocks, 3, bits_a)
        };
        let mut net = Net::new(design, 4).unwrap();
        net.set_mode(Mode::Quantized).unwrap();
        let mut seed = 30;
        net.layers_mut().visit_mut("", &mut |_, layer| {
            if let Layer::Norm(norm) = layer {
                seed += 1;
                Rng::new(seed).fill_normal(&mut norm.beta, 0.5);
            }
        });
        assert!(net.is_packed(), "{arch}: {:?}", net.floats_at());
        let (images, labels) = batch(21, 126);
        let mut run = |packed: bool| {
            net.use_packed(packed);
            let score = net.step(&images, &labels, Par::Caller).unwrap();
            let gradients: Vec<f32> = net
                .parameters()
                .iter()
                .flat_map(|p| p.gradient().to_vec())
                .collect();
            (score.loss, gradients)
        };
        let (packed, floats) = (run(true), run(false));
        assert!((packed.0 - floats.0).abs() < 1e-4, "{arch}");
        let apart = |a: &[f32], b: &[f32]| {
            let gaps = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            gaps.fold(0f32, f32::max)
        };
        assert!(apart(&packed.1, &floats.1) < 1e-3, "{arch}");
        let mut logits = |packed: bool| {
            net.use_packed(packed);
            net.evaluate(net.isa, &images, Par::Caller).unwrap()
        };
        assert!(apart(&logits(true), &logits(false)) < 1e-4, "{arch}");
    }
}

#[test]
fn so_they_do_where_activations_are_floats() {
    for (arch, weights, kind) in [
        ("6c3p1-mp2-8c2-12", "binary-mean:scope=channel", Kind::Relu),
        ("6c3p1-res6-res12s2-ap2-9", "binary-plain", Kind::Sign),
        ("6c3p1s2-8c2-12", "ternary-exact", Kind::Relu),
        ("6c3p1-mp2-8c2-12", "uniform-sym:bits=4", Kind::Relu),
        ("6c3-6c2g2-12", "lsq-weight:bits=4", Kind::Relu),
    ] {
        let blocks = crate::nn::design::arch::parse(arch).unwrap();
        let design = Design {
            kind,
            weights: Some(weights.parse().unwrap()),
            ..Design::new([6, 7, 3], blocks, 3, 32)
        };
        let mut net = Net::new(design, 4).unwrap();
        net.set_mode(Mode::Quantized).unwrap();
        assert_eq!(net.is_packed(), !arch.contains('g'), "{arch}");
        let (images, labels) = batch(21, 126);
        let mut run = |packed: bool| {
            net.use_packed(packed);
            let score = net.step(&images, &labels, Par::Caller).unwrap();
            let gradients = net
                .parameters()
                .iter()
                .flat_map(|p| p.gradient().to_vec())
                .collect::<Vec<f32>>();
            (score.loss, gradients)
        };
        let (packed, floats) = (run(true), run(false));
        // Running averages are the same from here on.
        let mut logits = |packed: bool| {
            net.use_packed(packed);
            net.evaluate(net.isa, &images, Par::Caller).unwrap()
        };
        let (here, there) = (logits(true), logits(false));
        let apart = |a: &[f32], b: &[f32]| {
            let gaps = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            gaps.fold(0f32, f32::max)
        };
        assert!((packed.0 - floats.0).abs() < 1e-4, "{arch} {weights}");
        assert!(apart(&packed.1, &floats.1) < 1e-3, "{arch} {weights}");
        assert!(apart(&here, &there) < 1e-3, "{arch} {weights}");
        // The sums of floats are in another order, so that not all are the same: the kernels did run.
        assert_ne!(here, there, "{arch} {weights}");
        let pool = crate::ops::Pool::new(2).unwrap();
        net.use_packed(true);
        for isa in Isa::available() {
            for par in [Par::Caller, Par::Pool(&pool)] {
                let here = net.evaluate(isa, &images, par).unwrap();
                assert_eq!(
                    here,
                    net.evaluate(net.isa, &images, Par::Caller).unwrap(),
                    "{isa}"
                );
            }
        }
    }
}

#[test]
fn the_mode_keeps_weights_and_changes_what_is_seen() {
    let (mut net, images, _) = net(2, Kind::Relu);
    let latent = net.weights()[1].latent.clone();
    assert!(net.weights()[0].packed().is_none());
    net.set_mode(Mode::Quantized).unwrap();
    assert_eq!(net.weights()[1].latent, latent);
    assert!(net.weights()[0].packed().is_some());
    net.forward_train(&images, Par::Caller).unwrap();
    let node = &net.layers().nodes()[2];
    let Layer::Act(act) = &node.layer else {
        panic!("an activation stands third")
    };
    let step = act.alpha[0];
    let levels = [0.0, step, 2.0 * step, 3.0 * step];
    assert!(node.out.iter().all(|v| levels.contains(v)));
    let said = net.forward_train(&images[..19], Par::Caller).unwrap_err();
    assert!(said.to_string().starts_with("images is 19 elements long"));
}

#[test]
fn designs_that_cannot_be_are_refused() {
    let (net, ..) = net(4, Kind::Relu);
    let said = |change: fn(&mut Design)| {
        let mut design = net.design().clone();
        change(&mut design);
        Net::new(design, 1).err().unwrap().to_string()
    };
    assert!(
        said(|d| d.blocks[1] = Block::Linear(0)).starts_with("a layer's size is 0; expected 1 to")
    );
    assert!(said(|d| d.input[2] = 0).starts_with("a layer's size is 0"));
    assert!(said(|d| d.bits_w = 9).starts_with("bits_w is 9; expected 1 to 8, or 32"));
    assert!(said(|d| d.kind = Kind::Sign).starts_with("bits_a is 4; expected 1 (or"));
    let one_sided = |d: &mut Design| {
        (d.bits_a, d.kind, d.by_x) = (1, Kind::RSign, Some(CoarseX::LogTailed));
    };
    assert_eq!(
        said(one_sided),
        "coarse_x is log-tailed; expected hard-tanh, piecewise-poly or identity with sign activations"
    );
}
