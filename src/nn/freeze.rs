//! From the net that trains to the model that ships: the only bridge.
//!
//! A layer with its normalisation becomes its packed weights with scale, bias and quantizer, of which the model makes
//! integer thresholds by bisection on the very floats that [`Net::evaluate`] computes; the last layer has scale and bias
//! alone. Where activations are floats, packed weights multiply those, and each activation is a node of its own.
//! Pooling stays pooling; the shortcut of a residual layer is added by its last convolution. Nothing is rounded
//! anew, so the model's logits are those of the net, bit for bit, on every ISA and for every number of threads.

use crate::bits::{Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::model::{
    Conv, FloatConv, Kind, Linear, Model, ModelBuilder, Scaled, Value, ValueType, Window,
};
use crate::nn::activation::{Activation, Function};
use crate::nn::evaluate::folded;
use crate::nn::layers::{Layer, Layers, join};
use crate::nn::net::{Mode, Net, PIXEL_STEP};
use crate::nn::packed::pooled;
use crate::nn::pool::PoolKind;
use crate::nn::residual::Residual;
use crate::nn::rprelu::RPRelu;
use crate::nn::rsign::RSign;
use crate::nn::signal::Codes;
use crate::ops::{ActivationFn, Finish, Geometry, OutputKind, ResidualAt, Thresholds};
use crate::quant::{ActQuantizer, Granularity, Quantizer, Scales};
use nodes::{Nodes, take_after, take_codes, take_quantizer};

/// The packed model of a quantized net.
///
/// Errors, naming the layer, unless the net is in quantized mode, the weights of all layers are codes (a quantizer that
/// has codes), and all its numbers are finite. Activations are codes of 1 to 8 bits or floats; floats have no
/// convolution in groups. A shortcut that adds channels takes a whole number of times the channels it has.
///
/// Where activations are floats, the logits are those of the net as long as none of its floats is NaN: there min(max(x,
/// -1), 1) keeps a NaN, which the model's clamp makes -1.
pub fn freeze(net: &Net) -> Result<Model> {
    let floats = match (net.mode(), net.uses_packed()) {
        (Mode::Float, _) => Some("in float mode".to_string()),
        (Mode::Quantized, false) => Some("used in floats".to_string()),
        (Mode::Quantized, true) => {
            let at = net.floats_at();
            at.map(|at| format!("not packed: {at}"))
        }
    };
    if let Some(value) = floats {
        let expected = "quantized, with the weights of all layers as codes";
        return Err(Error::argument("the net", value, expected));
    }
    if let Some(at) = net.state_not_finite() {
        let expected = "finite numbers in all layers";
        return Err(Error::argument(
            "the net",
            format!("not finite in {at}"),
            expected,
        ));
    }
    let [height, width, channels] = net.design().input;
    let builder = ModelBuilder::new(ValueType::image(height, width, channels, 8)?)?;
    let mut freezer = Freezer { builder };
    let image = Flow {
        value: freezer.builder.image(),
        step: PIXEL_STEP,
        quantizer: None,
    };
    let logits = freezer.layers(net.layers(), "", image, None)?;
    freezer.builder.build(&[logits.value])
}

/// What runs from node to node.
#[derive(Clone, Copy)]
struct Flow {
    value: Value,
    /// What one unit of the codes stands for; 1 of floats.
    step: f32,
    /// Whose codes they are; `None` of pixels and of floats.
    quantizer: Option<ActQuantizer>,
}

/// How floats become codes.
#[derive(Clone, Copy)]
enum ToCodes<'n> {
    /// Not at all.
    Floats,
    /// All channels alike.
    Same(ActQuantizer),
    /// Signs, each channel with its shift.
    Shifted(&'n RSign),
}

/// The layers behind a product that go into its finish.
#[derive(Clone, Copy)]
struct After<'n> {
    act: Option<&'n RPRelu>,
    codes: ToCodes<'n>,
}

/// What a residual layer puts behind its body.
#[derive(Clone, Copy)]
struct Tail<'n> {
    shortcut: Scaled,
    after: After<'n>,
}

struct Freezer {
    builder: ModelBuilder,
}

impl Freezer {
    /// `layers` over `flow`; `tail` is added to what the last product makes.
    fn layers(
        &mut self,
        layers: &Layers,
        path: &str,
        mut flow: Flow,
        tail: Option<Tail<'_>>,
    ) -> Result<Flow> {
        let mut nodes = Nodes::of(layers);
        while let Some((i, node)) = nodes.take() {
            let path = join(path, i);
            let rest = &mut nodes;
            let done = match &node.layer {
                Layer::Flatten | Layer::Dropout(_) => continue,
                layer @ (Layer::Linear(_) | Layer::Conv(_)) => {
                    self.product(layer, rest, flow, tail)
                }
                Layer::Pool(pool) => {
                    let (window, stride) = pool.window();
                    let window = Window::new(window).stride(stride);
                    let codes = self.codes(flow)?;
                    match pool.kind() {
                        PoolKind::Max => {
                            let value = self.builder.max_pool(flow.value, window);
                            value.map(|value| Flow { value, ..flow })
                        }
                        PoolKind::Average => {
                            let quantizer = take_quantizer(rest)?.or_else(|| pooled(pool, codes));
                            let (value, step) = (flow.value, flow.step);
                            let pooled = self.builder.average_pool(
                                value,
                                window,
                                step,
                                quantizer.map(Into::into),
                            );
                            pooled.map(|value| made(value, quantizer))
                        }
                    }
                }
                Layer::Act(act) => match act.quantizer()? {
                    None => self.function(flow, act),
                    Some(quantizer) => {
                        let after = After {
                            act: None,
                            codes: ToCodes::Same(quantizer),
                        };
                        self.apply(flow, after)
                    }
                },
                Layer::RSign(sign) => {
                    let after = After {
                        act: None,
                        codes: ToCodes::Shifted(sign),
                    };
                    self.apply(flow, after)
                }
                Layer::RPRelu(act) => {
                    let after = After {
                        act: Some(act),
                        codes: take_codes(rest)?,
                    };
                    self.apply(flow, after)
                }
                Layer::Residual(residual) => {
                    let shortcut = self.shortcut(residual, flow);
                    shortcut.and_then(|shortcut| {
                        let after = take_after(rest)?;
                        let tail = Tail { shortcut, after };
                        self.layers(&residual.body, &path, flow, Some(tail))
                    })
                }
                layer @ Layer::Norm(_) => Err(refused(layer)),
            };
            flow = done.map_err(|e| inside(&path, e))?;
        }
        Ok(flow)
    }

    /// What is known of the values of `flow`.
    fn codes(&self, flow: Flow) -> Result<Codes<'static>> {
        Ok(match flow.quantizer {
            Some(quantizer) => Codes::Levels(quantizer),
            None if self.is_floats(flow)? => Codes::None,
            None => Codes::Bytes(&[], flow.step),
        })
    }

    fn is_floats(&self, flow: Flow) -> Result<bool> {
        Ok(self.builder.type_of(flow.value)?.kind == Kind::F32)
    }

    /// A linear layer or convolution with the normalisation and the activation behind it, and the tail if nothing
    /// else is behind.
    fn product<'n>(
        &mut self,
        layer: &Layer,
        nodes: &mut Nodes<'n>,
        flow: Flow,
        tail: Option<Tail<'n>>,
    ) -> Result<Flow> {
        let norm = nodes.take_if(|layer| match layer {
            Layer::Norm(norm) => Some(norm),
            _ => None,
        });
        let tail = tail.filter(|_| nodes.is_over());
        let (at, after) = match tail {
            Some(tail) => (ResidualAt::BeforeFunction, tail.after),
            None => (ResidualAt::Nowhere, take_after(nodes)?),
        };
        let weights = layer.weights().ok_or_else(|| refused(layer))?;
        let (Some((codes, _)), Some((scale, bias))) =
            (weights.packed(), folded(weights, flow.step, norm))
        else {
            return Err(refused(layer));
        };
        let from = match self.builder.type_of(flow.value)?.kind {
            Kind::Planes(encoding) | Kind::Bytes(encoding) => encoding,
            Kind::F32 => {
                let scales = Scales::new(Granularity::Channel, scale)?;
                return self.float_product(layer, codes.clone(), scales, bias, flow, tail, after);
            }
            _ => return Err(refused(layer)),
        };
        // The products of a sum are at most so many times so much.
        let bound = codes.cols() as i64
            * i64::from(codes.encoding().magnitude())
            * i64::from(from.magnitude());
        let (finish, then) = finish(scale, bias, at, after, bound)?;
        let quantizer = match finish.output() {
            OutputKind::Codes(Quantizer::Act(quantizer)) => Some(quantizer),
            OutputKind::Levels(_) => Some(ActQuantizer::Sign),
            _ => None,
        };
        let value = match layer {
            Layer::Conv(conv) => {
                let g = conv.geometry();
                let mut conv = Conv::new(codes.clone(), window(g), finish);
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
        let flow = made(value, quantizer);
        match then {
            None => Ok(flow),
            Some(sign) => self.shifted(flow, sign),
        }
    }

    /// A product of floats by packed weights, then the tail or what is behind, each by itself.
    #[allow(clippy::too_many_arguments)]
    fn float_product(
        &mut self,
        layer: &Layer,
        weights: PackedMatrix,
        scales: Scales,
        bias: Vec<f32>,
        flow: Flow,
        tail: Option<Tail<'_>>,
        after: After<'_>,
    ) -> Result<Flow> {
        let bias = Some(bias);
        let value = match layer {
            Layer::Conv(conv) => {
                let conv = FloatConv {
                    bias,
                    ..FloatConv::new(weights, window(conv.geometry()), scales)
                };
                self.builder.float_conv(flow.value, conv)?
            }
            _ => self
                .builder
                .float_linear(flow.value, weights, scales, bias)?,
        };
        let mut value = made(value, None);
        if let Some(tail) = tail {
            let finish = self.alike(value, ActivationFn::Identity, ResidualAt::BeforeFunction)?;
            value = made(self.builder.add(value.value, tail.shortcut, finish)?, None);
        }
        match (after.act, after.codes) {
            (None, ToCodes::Floats) => Ok(value),
            _ => self.apply(value, after),
        }
    }

    /// The finish that begins with the floats of `flow` as they are.
    fn alike(&self, flow: Flow, function: ActivationFn, at: ResidualAt) -> Result<Finish> {
        let channels = self.builder.type_of(flow.value)?.channels;
        // x times 1 less 0 is x, also of x = -0.0; -0.0 plus 0.0 would be 0.0.
        let (scale, bias) = (vec![flow.step; channels], vec![-0.0; channels]);
        Finish::new(scale, bias, function, at, OutputKind::F32)
    }

    /// A function of floats, by itself.
    fn function(&mut self, flow: Flow, act: &Activation) -> Result<Flow> {
        let function = match act.function() {
            Some(Function::Relu) => ActivationFn::Relu,
            Some(_) => ActivationFn::Clamp {
                low: -1.0,
                high: 1.0,
            },
            None => {
                let own = format!("{:?}", act.activate());
                let expected = "one that gives codes: a model has no floats of one's own";
                return Err(Error::argument("activation", own, expected));
            }
        };
        let finish = self.alike(flow, function, ResidualAt::Nowhere)?;
        Ok(made(self.builder.apply(flow.value, finish)?, None))
    }

    /// `after` by itself, over floats or codes.
    fn apply(&mut self, flow: Flow, after: After<'_>) -> Result<Flow> {
        let (function, quantizer) = match (after.act, after.codes) {
            (None, ToCodes::Shifted(sign)) => return self.shifted(flow, sign),
            (None, ToCodes::Same(quantizer)) if self.is_floats(flow)? => {
                let codes = self.builder.quantize(flow.value, quantizer)?;
                return Ok(made(codes, Some(quantizer)));
            }
            (act, ToCodes::Same(quantizer)) => (function(act), Some(quantizer)),
            (act, _) => (function(act), None),
        };
        let channels = self.builder.type_of(flow.value)?.channels;
        let (scale, bias) = (vec![flow.step; channels], vec![0.0; channels]);
        let output = quantizer.map_or(OutputKind::F32, |q| OutputKind::Codes(q.into()));
        let finish = Finish::new(scale, bias, function, ResidualAt::Nowhere, output)?;
        let flow = made(self.builder.apply(flow.value, finish)?, quantizer);
        match after.codes {
            ToCodes::Shifted(sign) => self.shifted(flow, sign),
            _ => Ok(flow),
        }
    }

    /// The signs of `flow`, each channel with its shift.
    fn shifted(&mut self, flow: Flow, sign: &RSign) -> Result<Flow> {
        let codes = self.builder.apply(flow.value, sign.finish(flow.step)?)?;
        Ok(made(codes, Some(ActQuantizer::Sign)))
    }

    /// The shortcut of a residual layer: every so many pixels, and channels of zeros behind.
    fn shortcut(&mut self, residual: &Residual, flow: Flow) -> Result<Scaled> {
        let (stride, from) = (residual.stride(), residual.body.input()[2]);
        let to = residual.body.output()[2];
        let (mut value, mut scale) = (flow.value, flow.step);
        if stride > 1 {
            let window = Window::new(1).stride(stride);
            value = self.builder.max_pool(value, window)?;
        }
        if to > from {
            if !to.is_multiple_of(from) {
                let given = format!("from {from} to {to} channels");
                let expected = "a multiple of the channels";
                return Err(Error::argument("a shortcut", given, expected));
            }
            // Zeros: 0 times each code, which is level 0. Of codes that have no 0, the floats.
            let output = match flow.quantizer {
                Some(quantizer @ ActQuantizer::Relu(_)) => OutputKind::Codes(quantizer.into()),
                _ => OutputKind::F32,
            };
            if output == OutputKind::F32 && !self.is_floats(flow)? {
                value = self.builder.dequantize(value, scale)?;
                scale = 1.0;
            }
            let nought = vec![0.0; from];
            let finish = Finish::new(
                nought.clone(),
                nought,
                ActivationFn::Identity,
                ResidualAt::Nowhere,
                output,
            )?;
            let zeros = self.builder.apply(value, finish)?;
            let mut parts = vec![value];
            parts.resize(to / from, zeros);
            value = self.builder.concat(&parts)?;
        }
        Ok(Scaled { value, scale })
    }
}

fn made(value: Value, quantizer: Option<ActQuantizer>) -> Flow {
    Flow {
        value,
        step: quantizer.map_or(1.0, |q| q.step()),
        quantizer,
    }
}

fn window(geometry: &Geometry) -> Window {
    Window {
        kernel: geometry.kernel,
        stride: geometry.stride,
        dilation: geometry.dilation,
        padding: geometry.padding,
    }
}

fn function(act: Option<&RPRelu>) -> ActivationFn {
    act.map_or(ActivationFn::Identity, RPRelu::function)
}

/// The finish of sums that are at most `bound`, and the signs that are left to be taken of its floats.
///
/// Signs with shifts are one threshold of the sums a channel, found by bisection on the floats of the net, where these
/// rise or fall with the sum.
fn finish(
    scale: Vec<f32>,
    bias: Vec<f32>,
    at: ResidualAt,
    after: After<'_>,
    bound: i64,
) -> Result<(Finish, Option<&RSign>)> {
    let monotone = at == ResidualAt::Nowhere && after.act.is_none_or(RPRelu::is_monotone);
    let output = match after.codes {
        ToCodes::Same(quantizer) => OutputKind::Codes(quantizer.into()),
        _ => OutputKind::F32,
    };
    let finish = Finish::new(scale, bias, function(after.act), at, output)?;
    match after.codes {
        ToCodes::Shifted(sign) if monotone => {
            let (scale, bias) = (finish.scale(), finish.bias());
            let code = |n: usize, sum: i32| {
                let y = sum as f32 * scale[n] + bias[n];
                sign.code(after.act.map_or(y, |act| act.of(y, n)), n)
            };
            let (n, bound) = (scale.len(), i32::try_from(bound).unwrap_or(i32::MAX));
            let falls = |n: usize| scale[n] < 0.0;
            let thresholds = Thresholds::of(Encoding::Bipolar, n, bound, falls, code)?;
            Ok((Finish::by_thresholds(thresholds), None))
        }
        ToCodes::Shifted(sign) => Ok((finish, Some(sign))),
        _ => Ok((finish, None)),
    }
}

fn refused(layer: &Layer) -> Error {
    let expected = "products by codes with a normalisation each, activations, pooling";
    Error::argument("a layer", layer.word(), expected)
}

/// An error with the layer that it is about.
fn inside(path: &str, error: Error) -> Error {
    match error {
        Error::Argument {
            name,
            value,
            expected,
        } if !value.contains(" in layer ") => {
            Error::argument(name, format_args!("{value} in layer {path}"), expected)
        }
        other => other,
    }
}

mod nodes;
#[cfg(test)]
mod tests;
