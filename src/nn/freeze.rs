//! From the net that trains to the model that ships: the only bridge.
//!
//! A hidden layer becomes its packed weights and integer thresholds, found by bisection on the very floats
//! that [`Net::evaluate`] computes; the last layer keeps scale and bias. Nothing is rounded anew, so the model's
//! logits are those of the net, bit for bit, on every ISA and for every number of threads.

use crate::bits::Encoding;
use crate::error::{Error, Result};
use crate::model::{self, Input, Model, Then};
use crate::nn::evaluate::folded;
use crate::nn::layers::Layer;
use crate::nn::net::{Mode, Net, PIXEL_STEP};
use crate::ops::Thresholds;

/// The packed model of a quantized net.
///
/// Errors unless the net is in quantized mode, with 1-bit weights and activations of 1 to 8 bits, and its
/// scales and biases are finite.
pub fn freeze(net: &Net) -> Result<Model> {
    if !net.is_packed() {
        let design = net.design();
        let value = match net.mode() {
            Mode::Float => "in float mode".to_string(),
            Mode::Quantized if design.bits_w == 1 && design.bits_a <= 8 => {
                "used in floats".to_string()
            }
            Mode::Quantized => format!("of {} and {} bits", design.bits_w, design.bits_a),
        };
        let expected = "quantized, with 1-bit weights and 1- to 8-bit activations";
        return Err(Error::argument("the net", value, expected));
    }
    let (mut encoding, mut step) = (Encoding::unsigned(8)?, PIXEL_STEP);
    let mut layers = Vec::new();
    let mut nodes = net.layers().nodes().iter().map(|n| &n.layer).peekable();
    while let Some(layer) = nodes.next() {
        let linear = match layer {
            Layer::Linear(linear) => linear,
            Layer::Flatten | Layer::Dropout(_) => continue,
            other => {
                let expected = "linear layers, each with a normalisation";
                return Err(Error::argument("a layer", other.word(), expected));
            }
        };
        let norm = match nodes.next_if(|l| matches!(l, Layer::Norm(_))) {
            Some(Layer::Norm(norm)) => Some(norm),
            _ => None,
        };
        let (weights, _) = linear.weights.packed().expect("the net is packed");
        let (scale, bias) = folded(&linear.weights, step, norm).expect("the net is packed");
        let quantizer = match nodes.next_if(|l| matches!(l, Layer::Act(_))) {
            Some(Layer::Act(act)) => act.quantizer()?,
            _ => None,
        };
        let then = match quantizer {
            None => Then::Floats { scale, bias },
            Some(quantizer) => {
                // The largest |sum|, all inputs at their largest.
                let bound = linear.k() as u64
                    * u64::from(encoding.magnitude())
                    * u64::from(weights.encoding().magnitude());
                let bound = i32::try_from(bound).map_err(|_| {
                    let expected = "few enough for i32 sums";
                    Error::argument("K", linear.k(), expected)
                })?;
                (encoding, step) = (quantizer.encoding(), quantizer.step());
                Then::Codes(Thresholds::derive(&quantizer, &scale, &bias, bound)?)
            }
        };
        let weights = weights.clone();
        layers.push(model::Layer::Linear { weights, then });
    }
    let [height, width, channels] = net.design().input;
    let input = Input {
        height,
        width,
        channels,
        bits: 8,
    };
    Model::new(input, layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::nn::net::{Block, Design, Kind, Mode};
    use crate::nn::rng::Rng;
    use crate::ops::{Par, Pool};
    use crate::quant::Rounding;

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
        for (bits_a, kind, rounding) in [
            (1, Kind::Sign, Rounding::Ceil),
            (1, Kind::Relu, Rounding::Ceil),
            (2, Kind::Relu, Rounding::Nearest),
            (4, Kind::Relu, Rounding::Ceil),
            (8, Kind::Relu, Rounding::Nearest),
        ] {
            let net = trained(design(bits_a, kind, rounding));
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
                "{bits_a} bits: logits all alike prove nothing"
            );
            for isa in Isa::available() {
                for par in pars {
                    let name = format!("{kind:?} {bits_a} on {isa}, {} threads", par.threads());
                    let here = net.evaluate(isa, &images, par).unwrap();
                    assert_eq!(bits(&here), bits(&expected), "net {name}");
                    let frozen = freeze(&net).unwrap();
                    let memory = Model::on(isa, frozen.input(), frozen.layers().to_vec());
                    for model in [memory, Model::from_bytes_on(isa, &bytes)] {
                        let model = model.unwrap();
                        let mut workspace = model.workspace(32).unwrap();
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
        assert!(said(&net).starts_with("the net is of 32 and 4 bits; expected quantized"));
    }
}
