//! From the net that trains to the model that ships: the only bridge.
//!
//! A hidden layer becomes its packed signs with scale, bias and quantizer, of which the model makes integer thresholds by
//! bisection on the very floats that [`Net::evaluate`] computes; the last layer has scale and bias alone. Nothing is
//! rounded anew, so the model's logits are those of the net, bit for bit, on every ISA and for every number of threads.

use crate::error::Result;
use crate::model::{Linear, Model, ModelBuilder, ValueType};
use crate::nn::net::Net;
use crate::ops::{ActivationFn, Finish, OutputKind, ResidualAt};

/// The packed model of a quantized net.
///
/// Errors unless the net is in quantized mode, with 1-bit weights and activations of 1 to 8 bits, and its
/// scales and biases are finite.
pub fn freeze(net: &Net) -> Result<Model> {
    let [height, width, channels] = net.design().input;
    let mut builder = ModelBuilder::new(ValueType::image(height, width, channels, 8)?)?;
    let mut value = builder.image();
    for (layer, folded) in net.layers().iter().zip(net.folded()?) {
        let output = match folded.quantizer {
            None => OutputKind::F32,
            Some(quantizer) => OutputKind::Codes(quantizer),
        };
        let (function, residual) = (ActivationFn::Identity, ResidualAt::Nowhere);
        let finish = Finish::new(folded.scale, folded.bias, function, residual, output)?;
        value = builder.linear(value, Linear::new(layer.linear.signs().clone(), finish))?;
    }
    builder.build(&[value])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::model::Mode as Sharing;
    use crate::nn::activation::{CoarseAlpha, CoarseX};
    use crate::nn::net::{Design, Kind, Mode};
    use crate::nn::rng::Rng;
    use crate::ops::{Par, Pool};
    use crate::quant::Rounding;

    const M: usize = 70;
    const INPUT: [usize; 3] = [5, 9, 1];

    fn design(bits_a: usize, kind: Kind, rounding: Rounding) -> Design {
        Design {
            input: INPUT,
            hidden: vec![40, 33, 64],
            classes: 7,
            bits_w: 1,
            bits_a,
            kind,
            rounding,
            by_x: CoarseX::default(),
            by_alpha: CoarseAlpha::default(),
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
            for parameter in net.parameters() {
                for (value, g) in parameter.value.iter_mut().zip(parameter.gradient) {
                    *value -= 0.1 * g;
                }
            }
            net.settle().unwrap();
        }
        for layer in net.layers_mut() {
            let gamma = &mut layer.norm.gamma;
            gamma.iter_mut().step_by(3).for_each(|g| *g = -*g);
            gamma[1] = 0.0;
            gamma[4] = -0.0;
        }
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
        assert!(said(&net).starts_with("the net is of 32 and 4 bits; expected quantized"));
    }
}
