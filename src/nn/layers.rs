//! A list of layers: forward through it, backward through it, and everything in it that training changes.
//!
//! A layer keeps its output, which is what the next one's backward pass needs. A residual layer holds a list of its
//! own, so lists are trees; paths such as `3.0` name a layer in them.

use crate::bits::{Encoding, PackedMatrix};
use crate::error::Result;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::nn::activation::Activation;
use crate::nn::batch_norm::BatchNorm;
use crate::nn::conv::Conv2d;
use crate::nn::dropout::Dropout;
use crate::nn::linear::Linear;
use crate::nn::packed::pooled;
use crate::nn::pool::Pool2d;
use crate::nn::projected::Projected;
use crate::nn::residual::Residual;
use crate::nn::rng::Rng;
use crate::nn::rprelu::RPRelu;
use crate::nn::rsign::RSign;
use crate::nn::signal::{Codes, Signal};
use crate::ops::Par;
use crate::shape::check_len;

/// Streams of the seed for dropout, behind those of the weights; a layer each.
const COINS: u32 = 1 << 30;

/// A layer.
#[derive(Clone, Debug)]
pub enum Layer {
    /// Every output sees every input, wherever it stands: `[M, H x W x C]` to `[M, N]`.
    Linear(Linear),
    /// A convolution.
    Conv(Conv2d),
    /// Normalisation of each channel.
    Norm(BatchNorm),
    /// A function of each value.
    Act(Activation),
    /// Pooling of windows.
    Pool(Pool2d),
    /// Images to rows: the values as they are.
    Flatten,
    /// Values that a coin sends to zero.
    Dropout(Dropout),
    /// A list of layers, whose output a shortcut is added to.
    Residual(Box<Residual>),
    /// A PReLU with learned shifts of each channel.
    RPRelu(RPRelu),
    /// The sign with a learned shift of each channel.
    RSign(RSign),
}

/// Where and how layers run.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The ISA of packed products.
    pub isa: Isa,
    /// Its kernels.
    pub kernels: &'static Kernels,
    /// Whether weights that are integers multiply on the packed kernels, or in floats.
    pub packed: bool,
    /// Whether activations are the smooth functions of their coarse gradients.
    pub smooth: bool,
    /// Whether each batch sets the steps of activations to its own greatest values.
    pub calibrate: bool,
    /// Whether each batch fits those steps anew, before it is quantized.
    pub refit: bool,
    /// The generator at the step of training.
    pub rng: Rng,
    /// The threads.
    pub par: Par<'a>,
}

/// A layer with its output.
#[derive(Clone, Debug)]
pub struct Node {
    /// The layer.
    pub layer: Layer,
    /// H, W, C of its output.
    shape: [usize; 3],
    /// The output, `[M, H, W, C]`.
    pub(super) out: Vec<f32>,
    /// The quantizer whose levels the output is.
    levels: Option<crate::quant::ActQuantizer>,
    codes: PackedMatrix,
    /// The stream of its dropout.
    stream: u32,
}

/// A list of layers.
#[derive(Clone, Debug)]
pub struct Layers {
    input: [usize; 3],
    nodes: Vec<Node>,
}

impl Layers {
    /// No layers, for images of `input` (H, W, C).
    pub fn new(input: [usize; 3]) -> Self {
        Layers {
            input,
            nodes: Vec::new(),
        }
    }

    /// Puts `layer`, which takes what the list gives, at the end; `stream` is its own number in the net.
    pub fn push(&mut self, layer: Layer, stream: u32) -> Result<()> {
        let before = self.output();
        let shape = match &layer {
            Layer::Linear(linear) => {
                let len: usize = before.iter().product();
                check_len("inputs of the layer", linear.k(), len, "H x W x C")?;
                [1, 1, linear.n()]
            }
            Layer::Conv(conv) => {
                let g = conv.geometry();
                let takes = g.height * g.width * g.channels;
                check_len("inputs", takes, before.iter().product(), "H x W x C")?;
                conv.output()
            }
            Layer::Norm(norm) => {
                check_len("channels", norm.gamma.len(), before[2], "C")?;
                before
            }
            Layer::RPRelu(act) => {
                check_len("channels", act.n(), before[2], "C")?;
                before
            }
            Layer::RSign(sign) => {
                check_len("channels", sign.n(), before[2], "C")?;
                before
            }
            Layer::Pool(pool) => pool.output(),
            Layer::Flatten => [1, 1, before.iter().product()],
            Layer::Act(_) | Layer::Dropout(_) => before,
            Layer::Residual(residual) => residual.body.output(),
        };
        self.nodes.push(Node {
            layer,
            shape,
            out: Vec::new(),
            levels: None,
            codes: PackedMatrix::zeros(Encoding::Bipolar, 0, 0)?,
            stream: COINS + stream,
        });
        Ok(())
    }

    /// H, W and C of the input.
    pub fn input(&self) -> [usize; 3] {
        self.input
    }

    /// H, W and C of the output.
    pub fn output(&self) -> [usize; 3] {
        self.nodes.last().map_or(self.input, |node| node.shape)
    }

    /// The layers, first to last.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The layers, to be changed.
    pub fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// The output of the last forward pass, `[M, H, W, C]`; empty before the first.
    pub fn values(&self) -> &[f32] {
        self.nodes.last().map_or(&[], |node| &node.out)
    }

    /// `input` `[M, H, W, C]` through all layers, as in training: normalisation by the batch's own statistics.
    ///
    /// Errors if a length is wrong or M is too small for statistics.
    pub fn forward_train(&mut self, context: &Context<'_>, input: Signal<'_>) -> Result<()> {
        let len: usize = self.input.iter().product();
        let m = input.values.len() / len.max(1);
        check_len("values", input.values.len(), m * len, "M x H x W x C")?;
        for i in 0..self.nodes.len() {
            let (before, rest) = self.nodes.split_at_mut(i);
            let input = before.last().map_or(input, Node::signal);
            rest[0].forward(context, input, m)?;
        }
        Ok(())
    }

    /// Every gradient, from `d` `[M, H, W, C]` by the output of the last forward pass, whose input was `input`.
    ///
    /// `d` becomes the gradient by the input, or nothing in particular where `wanted` is false. `memory` is used.
    /// Errors if a length is wrong.
    pub fn backward(
        &mut self,
        context: &Context<'_>,
        input: &[f32],
        d: &mut Vec<f32>,
        memory: &mut Vec<f32>,
        wanted: bool,
    ) -> Result<()> {
        for i in (0..self.nodes.len()).rev() {
            let (before, rest) = self.nodes.split_at_mut(i);
            let x = before.last().map_or(input, |node| &node.out);
            rest[0].backward(context, x, d, memory, wanted || i > 0)?;
        }
        Ok(())
    }

    /// The first layer whose last output was not finite, in words.
    pub(super) fn not_finite(&self, path: &str) -> Option<String> {
        self.nodes.iter().enumerate().find_map(|(i, node)| {
            let path = join(path, i);
            if let Layer::Residual(residual) = &node.layer
                && let Some(inside) = residual.body.not_finite(&path)
            {
                return Some(inside);
            }
            let bad = node.out.iter().any(|v| !v.is_finite());
            bad.then(|| format!("layer {path} ({})", node.layer.word()))
        })
    }

    /// Calls `visit` with every layer and its path, first to last, those of residual lists before the one that
    /// holds them.
    pub fn visit<'a>(&'a self, path: &str, visit: &mut dyn FnMut(&str, &'a Layer)) {
        for (i, node) in self.nodes.iter().enumerate() {
            let path = join(path, i);
            if let Layer::Residual(residual) = &node.layer {
                residual.body.visit(&path, visit);
            }
            visit(&path, &node.layer);
        }
    }

    /// As [`Layers::visit`], to change layers. Residual layers are not shown, only what is in them.
    pub fn visit_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(&str, &'a mut Layer)) {
        for (i, node) in self.nodes.iter_mut().enumerate() {
            let path = join(path, i);
            match &mut node.layer {
                Layer::Residual(residual) => residual.body.visit_mut(&path, visit),
                layer => visit(&path, layer),
            }
        }
    }
}

/// The path of node `i` of the list at `path`.
pub(super) fn join(path: &str, i: usize) -> String {
    match path {
        "" => i.to_string(),
        path => format!("{path}.{i}"),
    }
}

impl Layer {
    /// What it is, in a word or two.
    pub fn word(&self) -> &'static str {
        match self {
            Layer::Linear(_) => "linear",
            Layer::Conv(_) => "convolution",
            Layer::Norm(_) => "normalisation",
            Layer::Act(_) => "activation",
            Layer::Pool(_) => "pooling",
            Layer::Flatten => "flatten",
            Layer::Dropout(_) => "dropout",
            Layer::Residual(_) => "residual",
            Layer::RPRelu(_) => "RPReLU",
            Layer::RSign(_) => "RSign",
        }
    }

    /// The weights of a linear layer or convolution.
    pub fn weights(&self) -> Option<&Projected> {
        match self {
            Layer::Linear(linear) => Some(&linear.weights),
            Layer::Conv(conv) => Some(&conv.weights),
            _ => None,
        }
    }

    /// The weights, to be changed.
    pub fn weights_mut(&mut self) -> Option<&mut Projected> {
        match self {
            Layer::Linear(linear) => Some(&mut linear.weights),
            Layer::Conv(conv) => Some(&mut conv.weights),
            _ => None,
        }
    }
}

impl Node {
    /// H, W and C of the output.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// What the next layer gets.
    fn signal(&self) -> Signal<'_> {
        Signal {
            values: &self.out,
            codes: self.levels.map_or(Codes::None, Codes::Levels),
        }
    }

    fn forward(&mut self, context: &Context<'_>, input: Signal<'_>, m: usize) -> Result<()> {
        let Context { isa, par, .. } = *context;
        let [h, w, c] = self.shape;
        let out = &mut self.out;
        out.resize(m * h * w * c, 0.0);
        let levels = match input.codes {
            Codes::Levels(quantizer) => Some(quantizer),
            _ => None,
        };
        self.levels = None;
        match &mut self.layer {
            Layer::Linear(linear) if context.packed => linear.forward(isa, input, out, par)?,
            Layer::Linear(linear) => linear.forward_in_floats(input.values, out, par)?,
            Layer::Conv(conv) if context.packed => conv.forward(isa, input, out, par)?,
            Layer::Conv(conv) => conv.forward_in_floats(input.values, out, par)?,
            Layer::Norm(norm) => norm.forward_train(input.values, out, par)?,
            Layer::RPRelu(act) => act.forward(input.values, out)?,
            Layer::RSign(sign) => {
                sign.forward(input.values, out, context.smooth)?;
                self.levels = sign.quantizer().filter(|_| !context.smooth);
            }
            Layer::Act(act) if context.smooth => act.forward_smooth(input.values, out)?,
            Layer::Act(act) => {
                if context.refit {
                    act.refit(input.values);
                }
                if context.calibrate {
                    act.calibrate(input.values);
                }
                let per_image = h * w * c;
                act.forward(
                    context.kernels,
                    input.values,
                    per_image,
                    out,
                    &mut self.codes,
                    par,
                )?;
                self.levels = act.quantizer()?;
            }
            Layer::Pool(pool) => {
                pool.forward_train(input.values, out, par)?;
                self.levels = pooled(pool, input.codes);
            }
            Layer::Flatten => {
                out.copy_from_slice(input.values);
                self.levels = levels;
            }
            Layer::Dropout(dropout) => {
                let rng = context.rng;
                let coins = rng.at(rng.step(), self.stream);
                dropout.forward_train(input.values, out, coins)?;
            }
            Layer::Residual(residual) => residual.forward_train(context, input, out)?,
        }
        Ok(())
    }

    /// The gradient by `x`, the input, in place of `d`, the one by the output.
    fn backward(
        &mut self,
        context: &Context<'_>,
        x: &[f32],
        d: &mut Vec<f32>,
        memory: &mut Vec<f32>,
        wanted: bool,
    ) -> Result<()> {
        let par = context.par;
        if matches!(
            self.layer,
            Layer::Linear(_) | Layer::Conv(_) | Layer::Pool(_)
        ) {
            memory.resize(x.len(), 0.0);
        }
        match &mut self.layer {
            Layer::Linear(linear) => {
                linear.backward(x, d, wanted.then_some(&mut memory[..]), par)?;
                std::mem::swap(d, memory);
            }
            Layer::Conv(conv) => {
                conv.backward(x, d, wanted.then_some(&mut memory[..]), par)?;
                std::mem::swap(d, memory);
            }
            Layer::Pool(pool) => {
                pool.backward(d, memory, par)?;
                std::mem::swap(d, memory);
            }
            Layer::Norm(norm) => norm.backward(x, d, par)?,
            Layer::Act(act) => act.backward(x, d, par)?,
            Layer::RPRelu(act) => act.backward(x, d)?,
            Layer::RSign(sign) => sign.backward(x, d)?,
            Layer::Flatten => {}
            Layer::Dropout(dropout) => dropout.backward(d),
            Layer::Residual(residual) => residual.backward(context, x, d, memory)?,
        }
        Ok(())
    }
}
