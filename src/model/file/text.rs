//! The description of version 2, as JSON has it.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) nodes: Vec<NodeText>,
    pub(super) outputs: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeText {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    pub(super) op: OpText,
    pub(super) reads: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum OpText {
    Image {
        height: usize,
        width: usize,
        channels: usize,
        elements: String,
    },
    Conv(ConvText),
    Linear {
        outputs: usize,
        weights: String,
        #[serde(default, skip_serializing_if = "is_zero")]
        zero_point: i32,
        finish: FinishText,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        residual_scale: Option<f64>,
    },
    FloatConv {
        outputs: usize,
        weights: String,
        window: WindowText,
        #[serde(default = "one", skip_serializing_if = "is_one")]
        groups: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transposed: Option<[usize; 2]>,
        scales: ScalesText,
        bias: bool,
    },
    Apply {
        finish: FinishText,
    },
    Add {
        finish: FinishText,
        residual_scale: f64,
    },
    Quantize {
        quantizer: QuantizerText,
        planes: bool,
    },
    Dequantize {
        scale: f64,
    },
    MaxPool {
        window: WindowText,
    },
    AveragePool {
        window: WindowText,
        scale: f64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quantizer: Option<QuantizerText>,
    },
    Concat,
    Flatten,
    UpSample {
        factors: [usize; 2],
    },
}

fn one() -> usize {
    1
}

fn is_one(groups: &usize) -> bool {
    *groups == 1
}

fn is_zero(zero_point: &i32) -> bool {
    *zero_point == 0
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConvText {
    pub(super) outputs: usize,
    pub(super) weights: String,
    pub(super) window: WindowText,
    pub(super) groups: usize,
    pub(super) pad: PadText,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) zero_point: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transposed: Option<[usize; 2]>,
    pub(super) finish: FinishText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) residual_scale: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WindowText {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) padding: [usize; 4],
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PadText {
    Zero,
    PlusOne,
    MinusOne,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScalesText {
    Tensor,
    Channel,
    Group(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FinishText {
    pub(super) leaves: LeavesText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) function: Option<FunctionText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) residual: Option<ResidualText>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LeavesText {
    I32,
    F32,
    F16,
    Bf16,
    Planes(QuantizerText),
    Bytes(QuantizerText),
    Levels(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FunctionText {
    Relu,
    Prelu,
    Rprelu,
    Clamp([f64; 2]),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResidualText {
    Before,
    After,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum QuantizerText {
    Sign,
    Relu {
        bits: usize,
        alpha: f64,
        rounding: crate::quant::Rounding,
    },
    Symmetric {
        bits: usize,
        scale: f64,
    },
    Affine {
        encoding: String,
        scale: f64,
        zero: i32,
    },
}
