//! What a node of a model does: the definitions that the builder takes and the file holds.

use std::fmt;

use super::value::{Scaled, Value, ValueType};
use crate::bits::PackedMatrix;
use crate::ops::{Finish, Geometry, Pad, Padding};
use crate::quant::{Quantizer, Scales};

/// Windows of pixels that a convolution or a pool looks at. Pairs are (vertical, horizontal).
///
/// `Window::new(3).stride(2).padding(1)` is 3 x 3 pixels, every second one, with a border of one pixel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Rows and columns, KH and KW.
    pub kernel: [usize; 2],
    /// Input pixels from one output pixel to the next.
    pub stride: [usize; 2],
    /// Input pixels from one row or column of the window to the next.
    pub dilation: [usize; 2],
    /// Rows and columns around the image.
    pub padding: Padding,
}

impl Window {
    /// `kernel` x `kernel` pixels, stride 1, no dilation, no padding.
    pub const fn new(kernel: usize) -> Self {
        Window {
            kernel: [kernel; 2],
            stride: [1; 2],
            dilation: [1; 2],
            padding: Padding::same(0),
        }
    }

    /// The same with a stride along both axes.
    pub const fn stride(self, stride: usize) -> Self {
        Window {
            stride: [stride; 2],
            ..self
        }
    }

    /// The same with a dilation along both axes.
    pub const fn dilation(self, dilation: usize) -> Self {
        Window {
            dilation: [dilation; 2],
            ..self
        }
    }

    /// The same with a border of `around` pixels on all sides.
    pub const fn padding(self, around: usize) -> Self {
        Window {
            padding: Padding::same(around),
            ..self
        }
    }

    /// The window over images of type `image`.
    pub(super) fn over(&self, image: &ValueType, groups: usize) -> Geometry {
        Geometry {
            height: image.height,
            width: image.width,
            channels: image.channels,
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            groups,
        }
    }
}

/// A convolution of codes, as [`Conv2d`](crate::ops::Conv2d) does it.
#[derive(Clone, PartialEq, Debug)]
pub struct Conv {
    /// `[O, KH KW C / groups]`, any encoding.
    pub filters: PackedMatrix,
    /// Kernel, stride, dilation, padding.
    pub window: Window,
    /// Groups of channels; as many as channels is a depthwise convolution.
    pub groups: usize,
    /// What stands outside of the image.
    pub pad: Pad,
    /// The integer of the codes that enter which stands for 0, as [`Affine`](crate::ops::Affine) says.
    pub zero_point: i32,
    /// A transposed convolution, with so many more rows and columns of output below and to the right.
    pub transposed: Option<[usize; 2]>,
    /// What follows the sums.
    pub finish: Finish,
    /// What the finish adds, if it adds something: of the output's height, width and channels.
    pub residual: Option<Scaled>,
}

impl Conv {
    /// One group, the integer 0 outside of the image, no zero point, no residual.
    pub fn new(filters: PackedMatrix, window: Window, finish: Finish) -> Self {
        Conv {
            filters,
            window,
            groups: 1,
            pad: Pad::Zero,
            zero_point: 0,
            transposed: None,
            finish,
            residual: None,
        }
    }

    /// The same with a residual: a [`Value`] of floats, or [`Scaled`] codes.
    pub fn residual(self, residual: impl Into<Scaled>) -> Self {
        Conv {
            residual: Some(residual.into()),
            ..self
        }
    }
}

/// A linear layer over codes: every output sees every element of the image.
#[derive(Clone, PartialEq, Debug)]
pub struct Linear {
    /// `[N, H W C]`, any encoding, the elements of an image in the order NHWC.
    pub weights: PackedMatrix,
    /// The integer of the codes that enter which stands for 0.
    pub zero_point: i32,
    /// What follows the sums.
    pub finish: Finish,
    /// What the finish adds, if it adds something: an image of 1 x 1 x N.
    pub residual: Option<Scaled>,
}

impl Linear {
    /// Without zero point and residual.
    pub fn new(weights: PackedMatrix, finish: Finish) -> Self {
        Linear {
            weights,
            zero_point: 0,
            finish,
            residual: None,
        }
    }

    /// The same with a residual.
    pub fn residual(self, residual: impl Into<Scaled>) -> Self {
        Linear {
            residual: Some(residual.into()),
            ..self
        }
    }
}

/// A convolution of floats by packed filters, as [`WeightOnlyGemm`](crate::ops::WeightOnlyGemm) multiplies them; the
/// float 0 stands outside of the image. K is KH KW C / groups.
#[derive(Clone, PartialEq, Debug)]
pub struct FloatConv {
    /// `[O, KH KW C / groups]`, any encoding.
    pub filters: PackedMatrix,
    /// Kernel, stride, dilation, padding.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// A transposed convolution, with so many more rows and columns of output below and to the right.
    pub transposed: Option<[usize; 2]>,
    /// What the integers of the filters are multiplied with.
    pub scales: Scales,
    /// O summands.
    pub bias: Option<Vec<f32>>,
}

impl FloatConv {
    /// One group, not transposed, no bias.
    pub fn new(filters: PackedMatrix, window: Window, scales: Scales) -> Self {
        FloatConv {
            filters,
            window,
            groups: 1,
            transposed: None,
            scales,
            bias: None,
        }
    }
}

/// What a node does with the values that it reads.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Op {
    Image,
    Conv(Conv),
    Linear(Linear),
    FloatConv(FloatConv),
    Apply {
        finish: Finish,
        residual: Option<Scaled>,
    },
    /// Into planes, or else bytes.
    Quantize {
        quantizer: Quantizer,
        planes: bool,
    },
    Dequantize {
        scale: f32,
    },
    MaxPool(Window),
    AveragePool {
        window: Window,
        scale: f32,
        quantizer: Option<Quantizer>,
    },
    Concat,
    Flatten,
    UpSample([usize; 2]),
}

impl Op {
    /// Its name, also in the file.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Op::Image => "image",
            Op::Conv(_) => "conv",
            Op::Linear(_) => "linear",
            Op::FloatConv(_) => "float_conv",
            Op::Apply { residual: None, .. } => "apply",
            Op::Apply { .. } => "add",
            Op::Quantize { .. } => "quantize",
            Op::Dequantize { .. } => "dequantize",
            Op::MaxPool(_) => "max_pool",
            Op::AveragePool { .. } => "average_pool",
            Op::Concat => "concat",
            Op::Flatten => "flatten",
            Op::UpSample(_) => "up_sample",
        }
    }

    /// What it adds.
    pub(super) fn residual(&self) -> Option<Scaled> {
        match self {
            Op::Conv(conv) => conv.residual,
            Op::Linear(linear) => linear.residual,
            Op::Apply { residual, .. } => *residual,
            _ => None,
        }
    }
}

/// A node: it makes the value of its own number.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Node {
    /// A name for people, maybe empty.
    pub(super) name: String,
    pub(super) op: Op,
    /// What it reads, in order; a residual is the last.
    pub(super) reads: Vec<Value>,
    pub(super) made: ValueType,
}

/// Which node something is about: `node 3, conv stem`.
pub(super) struct Place<'a> {
    pub(super) index: usize,
    pub(super) op: &'a str,
    pub(super) name: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}, {}", self.index, self.op)?;
        match self.name {
            "" => Ok(()),
            name => write!(f, " {}", shown(name)),
        }
    }
}

/// A name as people see it. It may come out of anybody's file, so control characters are escaped.
pub(super) fn shown(name: &str) -> String {
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    name.chars().map(escaped).collect()
}
