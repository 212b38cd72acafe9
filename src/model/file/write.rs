//! A model as a file of version 2.

use super::text::{
    ConvText, Description, FinishText, FunctionText, LeavesText, NodeText, OpText, ResidualText,
    ScalesText,
};
use crate::bits::PackedMatrix;
use crate::error::{Error, Result};
use crate::model::container::{Container, Data};
use crate::model::node::{FloatConv, Node, Op};
use crate::model::{Kind, Model, Scaled};
use crate::ops::{ActivationFn, Finish, OutputKind, ResidualAt};
use crate::quant::Granularity;
use crate::shape::words;

impl Model {
    pub(super) fn to_container(&self) -> Result<Container> {
        let mut container = Container::default();
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            let mut tensors = Tensors {
                container: &mut container,
                node: i,
            };
            nodes.push(NodeText {
                name: node.name.clone(),
                op: tensors.op(node),
                reads: node.reads.iter().map(|v| v.index()).collect(),
            });
        }
        let description = Description {
            nodes,
            outputs: self.outputs.iter().map(|v| v.index()).collect(),
        };
        let text = serde_json::to_string(&description);
        container.description = text.map_err(|e| Error::format("the model's description", e))?;
        Ok(container)
    }
}

/// The tensors of one node.
struct Tensors<'a> {
    container: &'a mut Container,
    node: usize,
}

impl Tensors<'_> {
    fn put(&mut self, part: &str, shape: &[usize], data: Data) {
        let name = format!("nodes.{}.{part}", self.node);
        self.container.put(name, shape, data);
    }

    fn floats(&mut self, part: &str, values: &[f32]) {
        self.put(part, &[values.len()], Data::F32(values.to_vec()));
    }

    /// The weights, and their encoding's name.
    fn weights(&mut self, weights: &PackedMatrix) -> String {
        let (encoding, n) = (weights.encoding(), weights.rows());
        let shape = [n, encoding.planes(), words(weights.cols())];
        self.put("weights", &shape, Data::U32(weights.words().to_vec()));
        encoding.to_string()
    }

    fn op(&mut self, node: &Node) -> OpText {
        match &node.op {
            Op::Image => OpText::Image {
                height: node.made.height,
                width: node.made.width,
                channels: node.made.channels,
                elements: match node.made.kind {
                    Kind::Bytes(encoding) => encoding.to_string(),
                    floats => floats.to_string(),
                },
            },
            Op::Conv(conv) => OpText::Conv(ConvText {
                outputs: conv.filters.rows(),
                weights: self.weights(&conv.filters),
                window: (&conv.window).into(),
                groups: conv.groups,
                pad: conv.pad.into(),
                zero_point: conv.zero_point,
                transposed: conv.transposed,
                finish: self.finish(&conv.finish),
                residual_scale: conv.residual.map(scale),
            }),
            Op::Linear(linear) => OpText::Linear {
                outputs: linear.weights.rows(),
                weights: self.weights(&linear.weights),
                zero_point: linear.zero_point,
                finish: self.finish(&linear.finish),
                residual_scale: linear.residual.map(scale),
            },
            Op::FloatConv(conv) => self.float_conv(conv),
            Op::Apply { finish, residual } => match residual {
                None => OpText::Apply {
                    finish: self.finish(finish),
                },
                Some(residual) => OpText::Add {
                    finish: self.finish(finish),
                    residual_scale: scale(*residual),
                },
            },
            Op::Quantize { quantizer, planes } => OpText::Quantize {
                quantizer: quantizer.into(),
                planes: *planes,
            },
            Op::Dequantize { scale } => OpText::Dequantize {
                scale: f64::from(*scale),
            },
            Op::MaxPool(window) => OpText::MaxPool {
                window: window.into(),
            },
            Op::AveragePool {
                window,
                scale,
                quantizer,
            } => OpText::AveragePool {
                window: window.into(),
                scale: f64::from(*scale),
                quantizer: quantizer.as_ref().map(Into::into),
            },
            Op::Concat => OpText::Concat,
            Op::Flatten => OpText::Flatten,
            Op::UpSample(factors) => OpText::UpSample { factors: *factors },
        }
    }

    fn float_conv(&mut self, conv: &FloatConv) -> OpText {
        let (n, k) = (conv.filters.rows(), conv.filters.cols());
        let groups = conv.scales.groups(k);
        let (scales, shape, channels) = match conv.scales.granularity() {
            Granularity::Tensor => (ScalesText::Tensor, vec![1], 1),
            Granularity::Channel => (ScalesText::Channel, vec![n], n),
            Granularity::Group(group) => (ScalesText::Group(group), vec![n, groups], n),
        };
        let values = (0..channels).flat_map(|c| (0..groups).map(move |g| (c, g)));
        let values = values.map(|(c, g)| conv.scales.get(c, g, k)).collect();
        self.put("scales", &shape, Data::F32(values));
        if let Some(bias) = &conv.bias {
            self.floats("bias", bias);
        }
        OpText::FloatConv {
            outputs: n,
            weights: self.weights(&conv.filters),
            window: (&conv.window).into(),
            groups: conv.groups,
            transposed: conv.transposed,
            scales,
            bias: conv.bias.is_some(),
        }
    }

    fn finish(&mut self, finish: &Finish) -> FinishText {
        let leaves = match finish.output() {
            OutputKind::I32 => LeavesText::I32,
            OutputKind::F32 => LeavesText::F32,
            OutputKind::F16 => LeavesText::F16,
            OutputKind::Bf16 => LeavesText::Bf16,
            OutputKind::Codes(quantizer) => LeavesText::Planes((&quantizer).into()),
            OutputKind::Bytes(quantizer) => LeavesText::Bytes((&quantizer).into()),
            OutputKind::Levels(encoding) => LeavesText::Levels(encoding.to_string()),
        };
        match (&leaves, finish.thresholds()) {
            (LeavesText::I32, _) => {}
            (LeavesText::Levels(_), Some(t)) => {
                let (levels, n) = (t.encoding().levels(), t.n());
                self.put("thresholds", &[levels, n], Data::I32(t.thresholds()));
                self.put("sign", &[n], Data::I32(t.sign().to_vec()));
            }
            _ => {
                self.floats("scale", finish.scale());
                self.floats("bias", finish.bias());
            }
        }
        let function = match finish.function() {
            ActivationFn::Identity => None,
            ActivationFn::Relu => Some(FunctionText::Relu),
            ActivationFn::PRelu { slope } => {
                self.floats("slope", slope);
                Some(FunctionText::Prelu)
            }
            ActivationFn::RPRelu {
                before,
                slope,
                after,
            } => {
                self.floats("before", before);
                self.floats("slope", slope);
                self.floats("after", after);
                Some(FunctionText::Rprelu)
            }
            ActivationFn::Clamp { low, high } => {
                Some(FunctionText::Clamp([*low, *high].map(f64::from)))
            }
        };
        let residual = match finish.residual() {
            ResidualAt::Nowhere => None,
            ResidualAt::BeforeFunction => Some(ResidualText::Before),
            ResidualAt::AfterFunction => Some(ResidualText::After),
        };
        FinishText {
            leaves,
            function,
            residual,
        }
    }
}

fn scale(residual: Scaled) -> f64 {
    f64::from(residual.scale)
}
