//! Building a model: node after node, each checked when it is added.

use std::fmt;

use super::node::{Conv, FloatConv, Linear, Node, Op, Place, Window};
use super::step::Step;
use super::value::{Kind, Scaled, Value, ValueType};
use crate::bits::{Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::ops::Finish;
use crate::quant::{Quantizer, Scales};

/// Builds a [`Model`](super::Model): a graph of nodes without cycles, from the image to the outputs.
///
/// Each call adds a node, checks everything about it, prepares its kernel and gives the [`Value`] that the node makes,
/// for later nodes to read. A value may be read any number of times. An error names the node and the argument, and
/// leaves the builder as it was.
///
/// ```
/// use qcore::bits::{Encoding, PackedMatrix};
/// use qcore::model::{Conv, Linear, ModelBuilder, ValueType, Window};
/// use qcore::ops::{ActivationFn, Finish, OutputKind, ResidualAt};
/// use qcore::quant::ActQuantizer;
///
/// # fn main() -> qcore::Result<()> {
/// # let weights = |n: usize, k: usize| PackedMatrix::zeros(Encoding::Bipolar, n, k);
/// let signs = OutputKind::Codes(ActQuantizer::Sign.into());
/// let finish = |n: usize, at: ResidualAt, out: OutputKind| {
///     Finish::new(vec![0.1; n], vec![0.0; n], ActivationFn::Identity, at, out)
/// };
/// // 8 x 8 pixels of 3 channels, 8 bits each; 16 channels; a residual block; 10 classes.
/// let mut b = ModelBuilder::new(ValueType::image(8, 8, 3, 8)?)?;
/// let image = b.image();
/// let x = b.named("stem").conv(image, Conv::new(weights(16, 27)?, Window::new(3).padding(1),
///     finish(16, ResidualAt::Nowhere, signs)?))?;
/// let y = b.conv(x, Conv::new(weights(16, 144)?, Window::new(3).padding(1),
///     finish(16, ResidualAt::BeforeFunction, signs)?).residual(x))?;
/// let logits = b.linear(y, Linear::new(weights(10, 1024)?,
///     finish(10, ResidualAt::Nowhere, OutputKind::F32)?))?;
/// assert_eq!(b.type_of(logits)?.channels, 10);
/// # Ok(())
/// # }
/// ```
pub struct ModelBuilder {
    pub(super) kernels: &'static Kernels,
    pub(super) nodes: Vec<Node>,
    /// How each node is done.
    pub(super) steps: Vec<Step>,
    /// The name of the next node.
    name: String,
    /// Heights and widths of all values, which tables are as long as.
    sizes: usize,
}

/// Heights and widths of all values of a model, at most: their tables then take some ten megabytes, whatever a file says.
const MAX_SIZES: usize = 1 << 21;

/// What a file may hold at most, and more than any net has.
const MAX_NODES: usize = 1 << 16;

impl ModelBuilder {
    /// A model that takes images of type `image`, bytes or floats, on the ISA that [`Isa::chosen`] gives.
    ///
    /// Errors if a size is 0 or above 2^20, the elements are neither, or `QCORE_ISA` asks for an ISA that is not here.
    pub fn new(image: ValueType) -> Result<Self> {
        Self::on(Isa::chosen()?, image)
    }

    /// As [`ModelBuilder::new`], on a given ISA.
    pub fn on(isa: Isa, image: ValueType) -> Result<Self> {
        let bytes = matches!(
            image.kind,
            Kind::Bytes(Encoding::Unsigned(_) | Encoding::Signed(_))
        );
        if !bytes && !image.kind.is_float() {
            let expected = "bytes of u1..u8 or s1..s8, or floats";
            return Err(Error::argument("image", image, expected));
        }
        let mut builder = ModelBuilder {
            kernels: Kernels::of(isa)?,
            nodes: Vec::new(),
            steps: Vec::new(),
            name: String::new(),
            sizes: 0,
        };
        builder.add_node(Op::Image, Vec::new(), |_| Ok((Step::Nothing, image)))?;
        Ok(builder)
    }

    /// The value that the images are.
    pub fn image(&self) -> Value {
        Value(0)
    }

    /// The type of a value. Errors if it is of another builder.
    pub fn type_of(&self, value: Value) -> Result<ValueType> {
        let node = self.nodes.get(value.0).map(|node| node.made);
        node.ok_or_else(|| {
            let expected = format!("below {}, the values there are", self.nodes.len());
            Error::argument("value", value.0, expected)
        })
    }

    /// The value of a number ([`Value::index`]). Errors if no node has it.
    pub fn value(&self, index: usize) -> Result<Value> {
        self.type_of(Value(index)).map(|_| Value(index))
    }

    /// Gives the next node a name for people: errors, `describe` and profiles show it.
    pub fn named(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = name.into();
        self
    }

    /// A convolution of codes, in planes or bytes; what leaves is what the finish says.
    ///
    /// Errors as [`Conv2d::new`](crate::ops::Conv2d::new) and [`Conv2d::transposed`](crate::ops::Conv2d::transposed),
    /// if `x` is not codes, or if there is a residual though the finish adds none, or none though it does, or one of
    /// another shape.
    pub fn conv(&mut self, x: Value, conv: Conv) -> Result<Value> {
        let reads = reads(x, conv.residual);
        let op = Op::Conv(conv);
        self.node(op, reads)
    }

    /// A linear layer over whole images of codes. Errors as [`ModelBuilder::conv`].
    pub fn linear(&mut self, x: Value, linear: Linear) -> Result<Value> {
        let reads = reads(x, linear.residual);
        self.node(Op::Linear(linear), reads)
    }

    /// A convolution of floats by packed filters; f32 leave.
    ///
    /// [`ModelBuilder::apply`], [`ModelBuilder::add`], [`ModelBuilder::quantize`] or [`ModelBuilder::quantize_bytes`] of
    /// what leaves is done with it, block by block, if nothing else needs these f32: they are then never stored.
    ///
    /// Errors if `x` is not floats, the geometry is refused
    /// ([`Geometry::output`](crate::ops::Geometry::output)), the filters have other than KH x KW x C columns, or as
    /// [`WeightOnlyGemm::new`](crate::ops::WeightOnlyGemm::new).
    pub fn float_conv(&mut self, x: Value, conv: FloatConv) -> Result<Value> {
        self.node(Op::FloatConv(conv), vec![x])
    }

    /// A linear layer over whole images of floats by packed weights `[N, H W C]`; f32 leave.
    ///
    /// Errors as [`ModelBuilder::float_conv`].
    pub fn float_linear(
        &mut self,
        x: Value,
        weights: PackedMatrix,
        scales: Scales,
        bias: Option<Vec<f32>>,
    ) -> Result<Value> {
        let image = self.type_of(x)?;
        let conv = FloatConv {
            bias,
            ..FloatConv::new(weights, whole(&image), scales)
        };
        self.float_conv(x, conv)
    }

    /// A finish by itself, without residual, over the elements x of each channel n, floats or the integers of codes:
    /// batch norm, an activation function, or codes of other codes. It begins with `scale[n] * x + bias[n]`.
    ///
    /// Errors if `x` is i32 or ternary, or the finish has other than C channels, adds a residual, or begins with
    /// anything but scale and bias.
    pub fn apply(&mut self, x: Value, finish: Finish) -> Result<Value> {
        let op = Op::Apply {
            finish,
            residual: None,
        };
        self.node(op, vec![x])
    }

    /// The sum of two values of equal height, width and channels, each floats or codes: as [`ModelBuilder::apply`],
    /// with `b` added where the finish says. [`Finish::new`] with scales 1, biases 0, and
    /// [`BeforeFunction`](crate::ops::ResidualAt::BeforeFunction) is `function(a + b)`.
    pub fn add(&mut self, a: Value, b: impl Into<Scaled>, finish: Finish) -> Result<Value> {
        let residual = Some(b.into());
        self.node(Op::Apply { finish, residual }, reads(a, residual))
    }

    /// Codes of floats, in planes. Errors if `x` is not floats.
    pub fn quantize(&mut self, x: Value, quantizer: impl Into<Quantizer>) -> Result<Value> {
        let (quantizer, planes) = (quantizer.into(), true);
        self.node(Op::Quantize { quantizer, planes }, vec![x])
    }

    /// Codes of floats, a byte each. Errors if `x` is not floats, or the quantizer is the sign.
    pub fn quantize_bytes(&mut self, x: Value, quantizer: impl Into<Quantizer>) -> Result<Value> {
        let (quantizer, planes) = (quantizer.into(), false);
        self.node(Op::Quantize { quantizer, planes }, vec![x])
    }

    /// The f32 `scale * integer` of codes. Errors if `x` is not codes, or the scale is not finite.
    pub fn dequantize(&mut self, x: Value, scale: f32) -> Result<Value> {
        self.node(Op::Dequantize { scale }, vec![x])
    }

    /// Per channel the greatest element of each window, pads aside: of codes by integer; a NaN is less than every float.
    ///
    /// Errors if the window is refused ([`Geometry::output`](crate::ops::Geometry::output)) or may hold nothing but
    /// padding, or if `x` is i32 or ternary.
    pub fn max_pool(&mut self, x: Value, window: Window) -> Result<Value> {
        self.node(Op::MaxPool(window), vec![x])
    }

    /// Per channel the mean of each window, pads aside, as [`AveragePool`](crate::ops::AveragePool) has it:
    /// `sum * (scale / count)`, with the sum of floats in f32, row by row of the window. f32 leave, or the codes of
    /// `quantizer` in planes, which may be signed.
    ///
    /// Errors as [`ModelBuilder::max_pool`], or if the scale is not finite.
    pub fn average_pool(
        &mut self,
        x: Value,
        window: Window,
        scale: f32,
        quantizer: Option<Quantizer>,
    ) -> Result<Value> {
        let op = Op::AveragePool {
            window,
            scale,
            quantizer,
        };
        self.node(op, vec![x])
    }

    /// The mean of whole images: [`ModelBuilder::average_pool`] with one window; an image of 1 x 1 x C leaves.
    pub fn global_average_pool(
        &mut self,
        x: Value,
        scale: f32,
        quantizer: Option<Quantizer>,
    ) -> Result<Value> {
        let window = whole(&self.type_of(x)?);
        self.average_pool(x, window, scale, quantizer)
    }

    /// The channels of all of `values`, one after the other.
    ///
    /// Errors if there are none, or their heights, widths or kinds differ, or they are i32.
    pub fn concat(&mut self, values: &[Value]) -> Result<Value> {
        self.node(Op::Concat, values.to_vec())
    }

    /// An image of one pixel with all elements of `x` as channels, in the order H, W, C. Errors if `x` is i32.
    ///
    /// [`ModelBuilder::linear`] takes whole images and needs none.
    pub fn flatten(&mut self, x: Value) -> Result<Value> {
        self.node(Op::Flatten, vec![x])
    }

    /// Each pixel `factors[0]` times below itself and `factors[1]` times beside itself: up-sampling to the nearest.
    ///
    /// Errors if a factor is 0, the output is too large, or `x` is i32.
    pub fn up_sample(&mut self, x: Value, factors: [usize; 2]) -> Result<Value> {
        self.node(Op::UpSample(factors), vec![x])
    }

    /// Adds any node but the image.
    pub(super) fn node(&mut self, op: Op, reads: Vec<Value>) -> Result<Value> {
        self.add_node(op, reads, Step::of)
    }

    /// Adds a node: its step and type, which `step` makes of the types that it reads, or the error with the node's name.
    fn add_node(
        &mut self,
        op: Op,
        reads: Vec<Value>,
        step: impl FnOnce(super::step::Making<'_>) -> Result<(Step, ValueType)>,
    ) -> Result<Value> {
        let index = self.nodes.len();
        let name = std::mem::take(&mut self.name);
        let place = Place {
            index,
            op: op.name(),
            name: &name,
        };
        let made = (|| {
            if index >= MAX_NODES {
                return Err(Error::argument("nodes", index + 1, MAX_NODES));
            }
            let types: Vec<ValueType> = reads
                .iter()
                .map(|&v| self.type_of(v))
                .collect::<Result<_>>()?;
            let making = super::step::Making {
                kernels: self.kernels,
                op: &op,
                reads: &types,
            };
            let (step, made) = step(making)?;
            made.check()?;
            let sizes = self.sizes + made.height + made.width;
            if sizes > MAX_SIZES {
                let expected = format!("at most {MAX_SIZES}");
                return Err(Error::argument(
                    "heights and widths in all",
                    sizes,
                    expected,
                ));
            }
            self.sizes = sizes;
            Ok((step, made))
        })();
        let (step, made) = made.map_err(|e| inside(place, e))?;
        self.steps.push(step);
        self.nodes.push(Node {
            name,
            op,
            reads,
            made,
        });
        Ok(Value(index))
    }
}

/// What a node with a residual reads.
fn reads(x: Value, residual: Option<Scaled>) -> Vec<Value> {
    let mut reads = vec![x];
    reads.extend(residual.map(|r| r.value));
    reads
}

/// One window over all of an image.
fn whole(image: &ValueType) -> Window {
    Window {
        kernel: [image.height, image.width],
        ..Window::new(1)
    }
}

/// An error with the place that it is about.
pub(super) fn inside(place: impl fmt::Display, error: Error) -> Error {
    match error {
        Error::Argument {
            name,
            value,
            expected,
        } => Error::argument(name, format_args!("{value} in {place}"), expected),
        other => other,
    }
}
