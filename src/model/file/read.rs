//! A file of version 2 as a model: every value goes through the builder, which checks it as it checks any caller's.
//!
//! Sizes are compared with the tensors that the file really has before anything of that size is made.

use super::text::{
    ConvText, Description, FinishText, FunctionText, LeavesText, NodeText, OpText, ResidualText,
    ScalesText,
};
use crate::bits::{Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::model::builder::inside;
use crate::model::container::Container;
use crate::model::node::Op;
use crate::model::{
    Conv, FloatConv, Kind, Linear, Model, ModelBuilder, Scaled, Value, ValueType, Window,
};
use crate::ops::{ActivationFn, Finish, OutputKind, ResidualAt, Thresholds};
use crate::quant::{Granularity, Scales};
use crate::shape::{elements, words};

pub(super) fn read(isa: Isa, what: &str, container: Container) -> Result<Model> {
    let parsed = serde_json::from_str(&container.description);
    let Description { nodes, outputs } =
        parsed.map_err(|e| Error::format(what, format_args!("the description: {e}")))?;
    // Whatever is wrong with a value came from the file, so the file is named.
    let in_file = |e: Error| match e {
        Error::Format { .. } => e,
        other => Error::format(what, other),
    };
    let mut nodes = nodes.into_iter();
    let image = match nodes.next().map(|node| (node.op, node.reads)) {
        Some((op, reads)) if reads.is_empty() => {
            image(&op).map_err(|e| in_file(inside("node 0", e)))?
        }
        _ => None,
    };
    let Some(image) = image else {
        return Err(Error::format(what, "node 0 is not an image"));
    };
    let builder = ModelBuilder::on(isa, image).map_err(in_file)?;
    let mut reader = Reader {
        what,
        container,
        builder,
        node: 0,
    };
    for node in nodes {
        reader.node += 1;
        reader.node(node).map_err(in_file)?;
    }
    super::all_taken(what, &reader.container)?;
    let builder = reader.builder;
    let outputs = outputs.iter().map(|&output| builder.value(output));
    let outputs = outputs.collect::<Result<Vec<_>>>().map_err(in_file)?;
    builder.build(&outputs).map_err(in_file)
}

/// The type of an image, or none if `op` is another one.
fn image(op: &OpText) -> Result<Option<ValueType>> {
    let OpText::Image {
        height,
        width,
        channels,
        elements,
    } = op
    else {
        return Ok(None);
    };
    let kind = match elements.as_str() {
        "f32" => Kind::F32,
        "f16" => Kind::F16,
        "bf16" => Kind::Bf16,
        encoding => Kind::Bytes(encoding.parse()?),
    };
    Ok(Some(ValueType {
        height: *height,
        width: *width,
        channels: *channels,
        kind,
    }))
}

struct Reader<'a> {
    what: &'a str,
    container: Container,
    builder: ModelBuilder,
    /// The node that is being read.
    node: usize,
}

impl Reader<'_> {
    fn node(&mut self, text: NodeText) -> Result<()> {
        let reads: Vec<Value> = text
            .reads
            .iter()
            .map(|&read| self.builder.value(read))
            .collect::<Result<_>>()
            .map_err(|e| inside(format_args!("node {}", self.node), e))?;
        let (x, second) = match (&text.op, &reads[..]) {
            (OpText::Concat, _) => {
                return self.builder.named(text.name).concat(&reads).map(drop);
            }
            (_, &[x]) => (x, None),
            (_, &[x, second]) => (x, Some(second)),
            _ => return Err(self.wrong(format!("it reads {} values", reads.len()))),
        };
        let scale = match &text.op {
            OpText::Conv(conv) => conv.residual_scale,
            OpText::Linear { residual_scale, .. } => *residual_scale,
            OpText::Add { residual_scale, .. } => Some(*residual_scale),
            _ => None,
        };
        let residual = match (second, scale) {
            (None, None) => None,
            (Some(value), Some(scale)) => Some(Scaled {
                value,
                scale: scale as f32,
            }),
            _ => {
                let expected = if scale.is_some() { 2 } else { 1 };
                return Err(self.wrong(format!("it reads {} values, not {expected}", reads.len())));
            }
        };
        let image = self.builder.type_of(x)?;
        let op = self.op(text.op, &image, residual);
        let op = op.map_err(|e| inside(format_args!("node {}", self.node), e))?;
        self.builder.named(text.name).node(op, reads).map(drop)
    }

    /// What a node does that reads images of type `image` and adds `residual`; not of a concatenation.
    fn op(&mut self, op: OpText, image: &ValueType, residual: Option<Scaled>) -> Result<Op> {
        Ok(match op {
            OpText::Image { .. } => return Err(self.wrong("a second image".to_string())),
            OpText::Conv(conv) => Op::Conv(self.conv(conv, image, residual)?),
            OpText::Linear {
                outputs,
                weights,
                zero_point,
                finish,
                ..
            } => Op::Linear(Linear {
                weights: self.weights(&weights, outputs, image.len())?,
                zero_point,
                finish: self.finish(&finish, outputs)?,
                residual,
            }),
            OpText::FloatConv {
                outputs,
                weights,
                window,
                groups,
                transposed,
                scales,
                bias,
            } => {
                let window = Window::from(&window);
                let k = filter_len(&window, image, groups)?;
                Op::FloatConv(FloatConv {
                    filters: self.weights(&weights, outputs, k)?,
                    window,
                    groups,
                    transposed,
                    scales: self.scales(&scales, outputs, k)?,
                    bias: match bias {
                        true => Some(self.floats("bias", outputs)?),
                        false => None,
                    },
                })
            }
            OpText::Apply { finish } | OpText::Add { finish, .. } => Op::Apply {
                finish: self.finish(&finish, image.channels)?,
                residual,
            },
            OpText::Quantize { quantizer, planes } => Op::Quantize {
                quantizer: quantizer.quantizer()?,
                planes,
            },
            OpText::Dequantize { scale } => Op::Dequantize {
                scale: scale as f32,
            },
            OpText::MaxPool { window } => Op::MaxPool((&window).into()),
            OpText::AveragePool {
                window,
                scale,
                quantizer,
            } => Op::AveragePool {
                window: (&window).into(),
                scale: scale as f32,
                quantizer: quantizer.map(|q| q.quantizer()).transpose()?,
            },
            OpText::Concat => Op::Concat,
            OpText::Flatten => Op::Flatten,
            OpText::UpSample { factors } => Op::UpSample(factors),
        })
    }

    fn conv(
        &mut self,
        text: ConvText,
        image: &ValueType,
        residual: Option<Scaled>,
    ) -> Result<Conv> {
        let window = Window::from(&text.window);
        let k = filter_len(&window, image, text.groups)?;
        Ok(Conv {
            filters: self.weights(&text.weights, text.outputs, k)?,
            window,
            groups: text.groups,
            pad: text.pad.into(),
            zero_point: text.zero_point,
            transposed: text.transposed,
            finish: self.finish(&text.finish, text.outputs)?,
            residual,
        })
    }

    /// Something is wrong with the node.
    fn wrong(&self, problem: String) -> Error {
        Error::format(self.what, format_args!("node {}: {problem}", self.node))
    }

    fn name(&self, part: &str) -> String {
        format!("nodes.{}.{part}", self.node)
    }

    fn floats(&mut self, part: &str, n: usize) -> Result<Vec<f32>> {
        let name = self.name(part);
        self.container.take_f32(self.what, &name, &[n])
    }

    fn weights(&mut self, encoding: &str, n: usize, k: usize) -> Result<PackedMatrix> {
        let encoding: Encoding = encoding.parse()?;
        let (name, shape) = (self.name("weights"), [n, encoding.planes(), words(k)]);
        let packed = self.container.take_u32(self.what, &name, &shape)?;
        PackedMatrix::from_words(encoding, n, k, packed)
    }

    fn scales(&mut self, text: &ScalesText, n: usize, k: usize) -> Result<Scales> {
        let (granularity, shape) = match text {
            ScalesText::Tensor => (Granularity::Tensor, vec![1]),
            ScalesText::Channel => (Granularity::Channel, vec![n]),
            ScalesText::Group(group) => {
                let granularity = Granularity::Group(*group);
                granularity.check()?;
                (granularity, vec![n, k.div_ceil(*group)])
            }
        };
        let name = self.name("scales");
        let values = self.container.take_f32(self.what, &name, &shape)?;
        Scales::new(granularity, values)
    }

    fn finish(&mut self, text: &FinishText, n: usize) -> Result<Finish> {
        let bare = text.function.is_none() && text.residual.is_none();
        let output = match &text.leaves {
            LeavesText::I32 | LeavesText::Levels(_) if !bare => {
                let problem = "integers and levels have neither function nor residual";
                return Err(self.wrong(problem.to_string()));
            }
            LeavesText::I32 => return Ok(Finish::integers(n)),
            LeavesText::Levels(encoding) => return self.levels(encoding.parse()?, n),
            LeavesText::F32 => OutputKind::F32,
            LeavesText::F16 => OutputKind::F16,
            LeavesText::Bf16 => OutputKind::Bf16,
            LeavesText::Planes(quantizer) => OutputKind::Codes(quantizer.quantizer()?),
            LeavesText::Bytes(quantizer) => OutputKind::Bytes(quantizer.quantizer()?),
        };
        let (scale, bias) = (self.floats("scale", n)?, self.floats("bias", n)?);
        let function = match text.function {
            None => ActivationFn::Identity,
            Some(FunctionText::Relu) => ActivationFn::Relu,
            Some(FunctionText::Prelu) => ActivationFn::PRelu {
                slope: self.floats("slope", n)?,
            },
            Some(FunctionText::Rprelu) => ActivationFn::RPRelu {
                before: self.floats("before", n)?,
                slope: self.floats("slope", n)?,
                after: self.floats("after", n)?,
            },
            Some(FunctionText::Clamp([low, high])) => ActivationFn::Clamp {
                low: low as f32,
                high: high as f32,
            },
        };
        let residual = match text.residual {
            None => ResidualAt::Nowhere,
            Some(ResidualText::Before) => ResidualAt::BeforeFunction,
            Some(ResidualText::After) => ResidualAt::AfterFunction,
        };
        Finish::new(scale, bias, function, residual, output)
    }

    fn levels(&mut self, encoding: Encoding, n: usize) -> Result<Finish> {
        let shape = [encoding.levels(), n];
        let (name, sign) = (self.name("thresholds"), self.name("sign"));
        let thresholds = self.container.take_i32(self.what, &name, &shape)?;
        let sign = self.container.take_i32(self.what, &sign, &[n])?;
        let thresholds = Thresholds::from_parts(encoding, &thresholds, &sign)?;
        Ok(Finish::by_thresholds(thresholds))
    }
}

/// K of a filter.
fn filter_len(window: &Window, image: &ValueType, groups: usize) -> Result<usize> {
    let [kh, kw] = window.kernel;
    let per_group = image.channels.checked_div(groups).unwrap_or(0);
    elements("filters", &[kh, kw, per_group])
}
