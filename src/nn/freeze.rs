//! From the net that trains to the model that ships: the only bridge.
//!
//! A layer with its normalisation becomes its packed weights with scale, bias and quantizer, of which the model makes
//! integer thresholds by bisection on the very floats that [`Net::evaluate`] computes; the last layer has scale and bias
//! alone. Pooling stays pooling; the shortcut of a residual layer is added by its last convolution. Nothing is rounded
//! anew, so the model's logits are those of the net, bit for bit, on every ISA and for every number of threads.

use std::iter::Peekable;

use crate::error::{Error, Result};
use crate::model::{Conv, Linear, Model, ModelBuilder, Scaled, Value, ValueType, Window};
use crate::nn::evaluate::folded;
use crate::nn::layers::{Layer, Layers, Node};
use crate::nn::net::{Mode, Net, PIXEL_STEP};
use crate::nn::pool::PoolKind;
use crate::nn::residual::Residual;
use crate::ops::{ActivationFn, Finish, OutputKind, ResidualAt};
use crate::quant::ActQuantizer;

/// The packed model of a quantized net.
///
/// Errors unless the net is in quantized mode, weights and activations of all layers are codes (1- to 8-bit
/// activations and a quantizer of weights that has codes), and its scales and biases are finite. A shortcut that adds
/// channels takes unsigned codes and a whole number of times the channels it has.
pub fn freeze(net: &Net) -> Result<Model> {
    if !net.is_packed() {
        let design = net.design();
        let value = match net.mode() {
            Mode::Float => "in float mode".to_string(),
            Mode::Quantized if design.bits_w <= 8 && design.bits_a <= 8 => {
                "used in floats, in a layer or all".to_string()
            }
            Mode::Quantized => format!("of {} and {} bits", design.bits_w, design.bits_a),
        };
        let expected = "quantized, with weights and 1- to 8-bit activations of all layers as codes";
        return Err(Error::argument("the net", value, expected));
    }
    let [height, width, channels] = net.design().input;
    let builder = ModelBuilder::new(ValueType::image(height, width, channels, 8)?)?;
    let mut freezer = Freezer { builder };
    let image = Flow {
        value: freezer.builder.image(),
        step: PIXEL_STEP,
        quantizer: None,
    };
    let logits = freezer.layers(net.layers(), image, None)?;
    freezer.builder.build(&[logits.value])
}

/// What runs from node to node.
#[derive(Clone, Copy)]
struct Flow {
    value: Value,
    /// What one unit of the codes stands for.
    step: f32,
    /// Whose codes they are; `None` of pixels and of floats.
    quantizer: Option<ActQuantizer>,
}

/// What a residual layer puts behind its body.
#[derive(Clone, Copy)]
struct Tail {
    shortcut: Scaled,
    quantizer: Option<ActQuantizer>,
}

struct Freezer {
    builder: ModelBuilder,
}

impl Freezer {
    /// `layers` over `flow`; `tail` is added to what the last product makes.
    fn layers(&mut self, layers: &Layers, mut flow: Flow, tail: Option<Tail>) -> Result<Flow> {
        let mut nodes = layers.nodes().iter().peekable();
        while let Some(node) = nodes.next() {
            flow = match &node.layer {
                Layer::Flatten | Layer::Dropout(_) => continue,
                layer @ (Layer::Linear(_) | Layer::Conv(_)) => {
                    self.product(layer, &mut nodes, flow, tail)?
                }
                Layer::Pool(pool) => {
                    let (window, stride) = pool.window();
                    let window = Window::new(window).stride(stride);
                    match pool.kind() {
                        PoolKind::Max => Flow {
                            value: self.builder.max_pool(flow.value, window)?,
                            ..flow
                        },
                        PoolKind::Average => {
                            let quantizer = take_quantizer(&mut nodes)?;
                            let pooled = self
                                .builder
                                .average_pool(flow.value, window, flow.step, quantizer)?;
                            self.made(pooled, quantizer)
                        }
                    }
                }
                Layer::Act(act) => match act.quantizer()? {
                    None => return Err(refused(&node.layer)),
                    Some(quantizer) => {
                        let codes = self.builder.quantize(flow.value, quantizer)?;
                        self.made(codes, Some(quantizer))
                    }
                },
                Layer::Residual(residual) => {
                    let shortcut = self.shortcut(residual, flow)?;
                    let quantizer = take_quantizer(&mut nodes)?;
                    let tail = Tail {
                        shortcut,
                        quantizer,
                    };
                    self.layers(&residual.body, flow, Some(tail))?
                }
                layer @ Layer::Norm(_) => return Err(refused(layer)),
            };
        }
        Ok(flow)
    }

    fn made(&self, value: Value, quantizer: Option<ActQuantizer>) -> Flow {
        Flow {
            value,
            step: quantizer.map_or(1.0, |q| q.step()),
            quantizer,
        }
    }

    /// A linear layer or convolution with the normalisation and the activation behind it, and the tail if nothing
    /// else is behind.
    fn product<'n>(
        &mut self,
        layer: &Layer,
        nodes: &mut Peekable<impl Iterator<Item = &'n Node>>,
        flow: Flow,
        tail: Option<Tail>,
    ) -> Result<Flow> {
        let norm = match nodes.next_if(|n| matches!(n.layer, Layer::Norm(_))) {
            Some(Node {
                layer: Layer::Norm(norm),
                ..
            }) => Some(norm),
            _ => None,
        };
        let tail = tail.filter(|_| nodes.peek().is_none());
        let quantizer = match tail {
            Some(tail) => tail.quantizer,
            None => take_quantizer(nodes)?,
        };
        let output = quantizer.map_or(OutputKind::F32, OutputKind::Codes);
        let at = match tail {
            Some(_) => ResidualAt::BeforeFunction,
            None => ResidualAt::Nowhere,
        };
        let weights = layer.weights().ok_or_else(|| refused(layer))?;
        let (Some((codes, _)), Some((scale, bias))) =
            (weights.packed(), folded(weights, flow.step, norm))
        else {
            return Err(refused(layer));
        };
        let finish = Finish::new(scale, bias, ActivationFn::Identity, at, output)?;
        let value = match layer {
            Layer::Conv(conv) => {
                let g = conv.geometry();
                let window = Window {
                    kernel: g.kernel,
                    stride: g.stride,
                    dilation: g.dilation,
                    padding: g.padding,
                };
                let mut conv = Conv::new(codes.clone(), window, finish);
                conv.groups = g.groups;
                conv.residual = tail.map(|t| t.shortcut);
                self.builder.conv(flow.value, conv)?
            }
            _ => {
                let mut linear = Linear::new(codes.clone(), finish);
                linear.residual = tail.map(|t| t.shortcut);
                self.builder.linear(flow.value, linear)?
            }
        };
        Ok(self.made(value, quantizer))
    }

    /// The shortcut of a residual layer: every so many pixels, and channels of zeros behind.
    fn shortcut(&mut self, residual: &Residual, flow: Flow) -> Result<Scaled> {
        let (stride, from) = (residual.stride(), residual.body.input()[2]);
        let to = residual.body.output()[2];
        let mut value = flow.value;
        if stride > 1 {
            let window = Window::new(1).stride(stride);
            value = self.builder.max_pool(value, window)?;
        }
        if to > from {
            let quantizer = flow.quantizer.filter(|q| *q != ActQuantizer::Sign);
            let Some(quantizer) = quantizer.filter(|_| to.is_multiple_of(from)) else {
                let given = format!("from {from} to {to} channels");
                let expected = "unsigned codes, and a multiple of the channels";
                return Err(Error::argument("a shortcut", given, expected));
            };
            // Codes of zeros: 0 times each code, which is level 0.
            let nought = vec![0.0; from];
            let finish = Finish::new(
                nought.clone(),
                nought,
                ActivationFn::Identity,
                ResidualAt::Nowhere,
                OutputKind::Codes(quantizer),
            )?;
            let zeros = self.builder.apply(value, finish)?;
            let mut parts = vec![value];
            parts.resize(to / from, zeros);
            value = self.builder.concat(&parts)?;
        }
        Ok(Scaled {
            value,
            scale: flow.step,
        })
    }
}

/// The quantizer of an activation that comes next, which is taken.
fn take_quantizer<'n>(
    nodes: &mut Peekable<impl Iterator<Item = &'n Node>>,
) -> Result<Option<ActQuantizer>> {
    match nodes.next_if(|n| matches!(n.layer, Layer::Act(_))) {
        Some(Node {
            layer: Layer::Act(act),
            ..
        }) => act.quantizer(),
        _ => Ok(None),
    }
}

fn refused(layer: &Layer) -> Error {
    let expected = "products of codes with a normalisation each, activations with codes, pooling";
    Error::argument("a layer", layer.word(), expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::model::Mode as Sharing;
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
        ];
        for design in linear.into_iter().chain(others) {
            let (kind, bits_a) = (design.kind, design.bits_a);
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
