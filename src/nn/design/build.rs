//! From blocks to layers.

use super::{Block, Design, Init, Kind, Mode};
use crate::error::Result;
use crate::nn::activation::Activation;
use crate::nn::batch_norm::BatchNorm;
use crate::nn::conv::Conv2d;
use crate::nn::dropout::Dropout;
use crate::nn::layers::{Layer, Layers};
use crate::nn::linear::Linear;
use crate::nn::pool::{Pool2d, PoolKind};
use crate::nn::projected::{Projected, Weights};
use crate::nn::residual::Residual;
use crate::nn::rng::Rng;
use crate::nn::rprelu::RPRelu;
use crate::nn::rsign::RSign;
use crate::ops::{Geometry, Padding};

/// Counts what has been built, which decides the streams of random numbers.
struct Builder<'a> {
    design: &'a Design,
    rng: Rng,
    /// Layers with weights so far.
    weights: u32,
    dropouts: u32,
}

impl Design {
    /// The layers of this design in float mode, weights drawn from `seed`.
    ///
    /// Errors if [`Design::check`] does, or a window or filter is larger than its image.
    pub(crate) fn build(&self, seed: u64) -> Result<Layers> {
        self.check()?;
        let mut builder = Builder {
            design: self,
            rng: Rng::new(seed),
            weights: 0,
            dropouts: 0,
        };
        let mut layers = Layers::new(self.input);
        for block in &self.blocks {
            builder.block(&mut layers, *block)?;
        }
        builder.linear(&mut layers, self.classes)?;
        layers.push(Layer::Norm(BatchNorm::new(self.classes)), 0)?;
        let last = layers.nodes_mut().iter_mut().rev();
        if let Some(weights) = last.filter_map(|n| n.layer.weights_mut()).next() {
            weights.stays_float |= self.float_last;
        }
        Ok(layers)
    }
}

impl Builder<'_> {
    fn block(&mut self, layers: &mut Layers, block: Block) -> Result<()> {
        let shape = layers.output();
        match block {
            Block::Linear(n) => {
                self.linear(layers, n)?;
                self.norm_and_act(layers)
            }
            Block::Conv {
                filters,
                kernel,
                stride,
                padding,
                groups,
            } => {
                let mut geometry = Geometry::new(shape[0], shape[1], shape[2], kernel);
                geometry.stride = [stride; 2];
                geometry.padding = Padding::same(padding);
                geometry.groups = groups;
                self.conv(layers, geometry, filters)?;
                self.norm_and_act(layers)
            }
            Block::MaxPool { window, stride } => {
                let pool = Pool2d::new(PoolKind::Max, shape, window, stride)?;
                layers.push(Layer::Pool(pool), 0)
            }
            Block::AveragePool { window, stride } => {
                let pool = Pool2d::new(PoolKind::Average, shape, window, stride)?;
                layers.push(Layer::Pool(pool), 0)
            }
            Block::Residual { filters, stride } => {
                let mut body = Layers::new(shape);
                let mut geometry = Geometry::new(shape[0], shape[1], shape[2], 3);
                geometry.padding = Padding::same(1);
                geometry.stride = [stride; 2];
                self.conv(&mut body, geometry, filters)?;
                self.norm_and_act(&mut body)?;
                let [h, w, c] = body.output();
                let mut geometry = Geometry::new(h, w, c, 3);
                geometry.padding = Padding::same(1);
                self.conv(&mut body, geometry, filters)?;
                self.norm(&mut body)?;
                let residual = Residual::new(body, stride)?;
                layers.push(Layer::Residual(Box::new(residual)), 0)?;
                self.act(layers)
            }
            Block::Stem {
                filters,
                kernel,
                stride,
                padding,
            } => {
                let mut geometry = Geometry::new(shape[0], shape[1], shape[2], kernel);
                geometry.stride = [stride; 2];
                geometry.padding = Padding::same(padding);
                self.conv(layers, geometry, filters)?;
                self.norm(layers)
            }
            Block::React { filters, stride } => {
                let mut body = Layers::new(shape);
                self.act(&mut body)?;
                let mut geometry = Geometry::new(shape[0], shape[1], shape[2], 3);
                geometry.padding = Padding::same(1);
                geometry.stride = [stride; 2];
                self.conv(&mut body, geometry, filters)?;
                self.norm(&mut body)?;
                let residual = Residual::new(body, stride)?;
                layers.push(Layer::Residual(Box::new(residual)), 0)?;
                layers.push(Layer::RPRelu(RPRelu::new(filters)), 0)
            }
            Block::RPRelu => {
                let channels = layers.output()[2];
                layers.push(Layer::RPRelu(RPRelu::new(channels)), 0)
            }
            Block::Act => self.act(layers),
            Block::Dropout(p) => {
                self.dropouts += 1;
                layers.push(Layer::Dropout(Dropout::new(p)?), self.dropouts)
            }
        }
    }

    fn linear(&mut self, layers: &mut Layers, n: usize) -> Result<()> {
        let [h, w, c] = layers.output();
        if h * w > 1 && !layers.nodes().is_empty() {
            layers.push(Layer::Flatten, 0)?;
        }
        let mut linear = Linear::new(n, h * w * c, Weights::Float, self.next())?;
        self.begin(&mut linear.weights, 1);
        layers.push(Layer::Linear(linear), 0)
    }

    fn conv(&mut self, layers: &mut Layers, geometry: Geometry, filters: usize) -> Result<()> {
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let mut conv = Conv2d::new(geometry, filters, Weights::Float, self.next())?;
        self.begin(&mut conv.weights, taps);
        layers.push(Layer::Conv(conv), 0)
    }

    fn norm(&mut self, layers: &mut Layers) -> Result<()> {
        let norm = BatchNorm::with_affine(layers.output()[2], self.design.affine);
        layers.push(Layer::Norm(norm), 0)
    }

    fn norm_and_act(&mut self, layers: &mut Layers) -> Result<()> {
        self.norm(layers)?;
        self.act(layers)
    }

    fn act(&mut self, layers: &mut Layers) -> Result<()> {
        if self.design.kind == Kind::RSign {
            let sign = RSign::new(layers.output()[2], self.design.coarse_x());
            return layers.push(Layer::RSign(sign), 0);
        }
        let act = Activation::new(self.design.function(Mode::Float)?);
        layers.push(Layer::Act(act), 0)
    }

    /// What the design says of weights that have just been made, of filters of `taps` taps.
    fn begin(&self, weights: &mut Projected, taps: usize) {
        weights.stays_float = self.weights == 1 && self.design.float_first;
        weights.by_w = self.design.by_w;
        weights.taps = taps;
        if self.design.init == Init::GlorotUniform {
            let rng = self.rng.at(0, self.weights - 1);
            let g = weights.glorot();
            for (i, w) in (0u64..).zip(&mut weights.latent) {
                *w = g * (2.0 * rng.uniform(i) - 1.0);
            }
        }
    }

    /// The generator of the next weights.
    fn next(&mut self) -> Rng {
        self.weights += 1;
        self.rng.at(0, self.weights - 1)
    }
}
