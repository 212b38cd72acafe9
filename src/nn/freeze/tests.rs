//! Frozen nets against the nets they were: the same logits, bit for bit.

use super::*;
use crate::isa::Isa;
use crate::model::Mode as Sharing;
use crate::nn::net::{Block, Design, Kind, Mode};
use crate::nn::rng::Rng;
use crate::ops::{Par, Pool};
use crate::quant::Rounding;

mod levels;

const M: usize = 70;
const INPUT: [usize; 3] = [5, 9, 1];

fn design(bits_a: usize, kind: Kind, rounding: Rounding) -> Design {
    Design {
        kind,
        rounding,
        ..Design::new(INPUT, Block::linear(&[40, 33, 64]), 7, bits_a)
    }
}

fn images() -> Vec<u8> {
    let rng = Rng::new(77);
    (0..M * 45)
        .map(|i| rng.below(i as u64, 256) as u8)
        .collect()
}

/// A net with running averages of some batches, alphas off their first values, and slopes of every kind.
fn trained(design: Design) -> Net {
    let mut net = Net::new(design, 5).unwrap();
    net.set_mode(Mode::Quantized).unwrap();
    let images = images();
    let labels: Vec<u8> = (0..M).map(|i| (i % 7) as u8).collect();
    for _ in 0..12 {
        net.step(&images, &labels, Par::Caller).unwrap();
        for mut parameter in net.parameters() {
            let (value, gradient) = parameter.parts();
            for (value, g) in value.iter_mut().zip(gradient) {
                *value -= 0.1 * g;
            }
        }
        net.settle().unwrap();
    }
    net.layers_mut().visit_mut("", &mut |_, layer| {
        if let Layer::Norm(norm) = layer {
            let gamma = &mut norm.gamma;
            gamma.iter_mut().step_by(3).for_each(|g| *g = -*g);
            gamma[1] = 0.0;
            gamma[4] = -0.0;
        }
    });
    // Shifts of every kind; slopes below 0 in every second RPReLU, where sums have no thresholds.
    let mut seen = 0;
    net.layers_mut().visit_mut("", &mut |_, layer| {
        let mut random = |values: &mut [f32]| {
            seen += 1;
            Rng::new(seen).fill_normal(values, 0.4);
        };
        match layer {
            Layer::RSign(sign) => random(&mut sign.shift),
            Layer::RPRelu(act) => {
                random(&mut act.before);
                random(&mut act.after);
                random(&mut act.slope);
                if seen % 2 == 1 {
                    act.slope.iter_mut().for_each(|s| *s = s.abs());
                }
            }
            _ => {}
        }
    });
    net
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|l| l.to_bits()).collect()
}

#[test]
fn the_model_gives_the_logits_of_the_net_bit_for_bit() {
    let pools: Vec<Pool> = [2, 3].map(|t| Pool::new(t).unwrap()).into();
    let pars = [Par::Caller, Par::Pool(&pools[0]), Par::Pool(&pools[1])];
    let images = images();
    let linear = [
        (1, Kind::Sign, Rounding::Ceil),
        (1, Kind::Relu, Rounding::Ceil),
        (2, Kind::Relu, Rounding::Nearest),
        (4, Kind::Relu, Rounding::Ceil),
        (8, Kind::Relu, Rounding::Nearest),
    ]
    .map(|(bits_a, kind, rounding)| design(bits_a, kind, rounding));
    let spelled = |arch: &str, weights: &str, bits_a: usize, kind: Kind| {
        let blocks = crate::nn::design::arch::parse(arch).unwrap();
        Design {
            kind,
            weights: Some(weights.parse().unwrap()),
            ..Design::new(INPUT, blocks, 7, bits_a)
        }
    };
    let others = [
        spelled("6c3p1-mp2-8c2s2g2-drop0.2-12", "binary-mean", 4, Kind::Relu),
        spelled("40c3-mp2s1-12", "binary-mean:scope=channel", 1, Kind::Sign),
        spelled("8c3p1-res8-res8s2-9", "binary-plain", 1, Kind::Sign),
        spelled(
            "6c3p1-res6-res12s2-ap2-act-9",
            "ternary-exact",
            2,
            Kind::Relu,
        ),
        spelled("6c3-mp2-9", "uniform-sym:bits=4", 3, Kind::Relu),
        // Floats between layers: of 1 bit, ternary and 4-bit weights, with shortcuts, means and the hard tanh.
        spelled("6c3p1-mp2-8c2s2-12", "binary-mean", 32, Kind::Relu),
        spelled("40c3-mp2s1-12", "binary-plain", 32, Kind::Sign),
        spelled(
            "6c3p1-6c3p1-12",
            "ternary-twn:scope=channel",
            32,
            Kind::Relu,
        ),
        spelled(
            "6c3p1-res6-res12s2-ap2-9",
            "uniform-sym:bits=4",
            32,
            Kind::Relu,
        ),
        spelled("6c3p1-res6-ap5s1-9", "binary-mean", 4, Kind::Relu),
        spelled("6c3-6c2", "lsq-weight:bits=3", 32, Kind::Relu),
        // The greatest pixels are bytes still, and the means of few codes are codes.
        spelled("mp2-8c2-9", "binary-mean", 2, Kind::Relu),
        spelled("8c3p1-res8-res16s2-ap2-9", "binary-mean", 2, Kind::Relu),
        // Signs have no 0: their shortcut that widens is one of floats.
        spelled("8c3p1-res16s2-ap2-act-9", "binary-mean", 1, Kind::Sign),
        spelled("8c3-act-8c3-9", "ternary-twn", 1, Kind::RSign),
        spelled(
            "stem6c3p1-react6-react12s2-react12-ap2-act-9",
            "binary-mean:scope=channel",
            1,
            Kind::RSign,
        ),
        spelled(
            "stem6c3p1-rprelu-act-stem7c3-rprelu-act-9",
            "binary-mean",
            1,
            Kind::RSign,
        ),
        spelled(
            "stem6c3p1-rprelu-react6-rprelu-act-ap2-rprelu-act-9",
            "binary-mean",
            2,
            Kind::Relu,
        ),
    ];
    for design in linear.into_iter().chain(others) {
        let (kind, bits_a) = (design.kind, design.bits_a);
        let words = format!("{design:?}");
        let net = trained(design);
        let bytes = freeze(&net).unwrap().to_bytes().unwrap();
        let expected = net.evaluate(Isa::Portable, &images, Par::Caller).unwrap();
        let spread = |c: usize| {
            expected
                .iter()
                .skip(c)
                .step_by(7)
                .any(|l| *l != expected[c])
        };
        assert!(
            spread(0) && spread(2),
            "{words}: logits all alike prove nothing"
        );
        for isa in Isa::available() {
            for par in pars {
                let name = format!("{kind:?} {bits_a} on {isa}, {} threads", par.threads());
                let here = net.evaluate(isa, &images, par).unwrap();
                assert_eq!(bits(&here), bits(&expected), "net {name}");
                let frozen = freeze(&net).unwrap();
                for model in [frozen, Model::from_bytes_on(isa, &bytes).unwrap()] {
                    let threads = par.threads();
                    let mut workspace = model.workspace(32, threads, Sharing::Latency).unwrap();
                    let mut logits = vec![0.0; M * 7];
                    model
                        .run(&images, &mut logits, &mut workspace, par)
                        .unwrap();
                    assert_eq!(bits(&logits), bits(&expected), "model {name}");
                }
            }
        }
    }
}

#[test]
fn nets_that_are_not_packed_are_refused() {
    let said = |net: &Net| freeze(net).err().unwrap().to_string();
    let mut net = Net::new(design(4, Kind::Relu, Rounding::Ceil), 1).unwrap();
    assert!(said(&net).starts_with("the net is in float mode; expected quantized"));
    let floats = Design {
        bits_w: 32,
        ..design(4, Kind::Relu, Rounding::Ceil)
    };
    net = Net::new(floats, 1).unwrap();
    net.set_mode(Mode::Quantized).unwrap();
    let floats = "the net is not packed: the weights of layer 0 (linear) are floats; expected";
    assert!(said(&net).starts_with(floats), "{}", said(&net));
    net = Net::new(design(4, Kind::Relu, Rounding::Ceil), 1).unwrap();
    net.set_mode(Mode::Quantized).unwrap();
    net.use_packed(false);
    assert!(said(&net).starts_with("the net is used in floats; expected quantized"));
    let blocks = crate::nn::design::arch::parse("6c3p1-res9").unwrap();
    net = Net::new(Design::new(INPUT, blocks, 7, 2), 1).unwrap();
    net.set_mode(Mode::Quantized).unwrap();
    let shortcut = "a shortcut is from 6 to 9 channels in layer 3; expected a multiple";
    assert!(said(&net).starts_with(shortcut), "{}", said(&net));
}

#[test]
fn signs_of_monotone_sums_come_from_thresholds_without_a_float() {
    let blocks = crate::nn::design::arch::parse("stem6c3p1-rprelu-act-8c3").unwrap();
    let design = Design {
        kind: Kind::RSign,
        ..Design::new(INPUT, blocks, 7, 1)
    };
    let model = freeze(&trained(design)).unwrap();
    let ops: Vec<&str> = model.describe().into_iter().map(|n| n.op).collect();
    assert!(!ops.contains(&"apply"), "{ops:?}");
    let leaves: Vec<String> = model.describe().into_iter().map(|n| n.leaves).collect();
    assert!(leaves[..3].iter().all(|l| l != "f32"), "{leaves:?}");
}
