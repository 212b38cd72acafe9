//! The convolution: images `[M, H, W, C]` (NHWC) by filters `[O, KH, KW, C / groups]` (OHWI).
//!
//! ```text
//!   w [O, K]            K = KH x KW x C / groups; the projection of the latent filters
//!   x [M, OH, OW, O]  = sum over taps of w * a            zeros stand outside of the image
//!   d_w [O, K]        = d_x^T * patches of a              summed image by image in a fixed order
//!   d_a [M, H, W, C]  = d_x * w, each product added to the tap it came from
//! ```
//!
//! Filters that are integers multiply on the packed kernels: images that are integers by [`crate::ops::Conv2d`], floats by
//! [`crate::ops::FloatConv2d`]. Else the patches of a block of pixels are gathered and multiplied in floats.
//! There is no bias: batch normalisation follows.

use std::ops::Range;

use crate::bits::{Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::nn::patches::{Patches, with_memory};
use crate::nn::projected::{Projected, Weights};
use crate::nn::rng::Rng;
use crate::nn::sgemm::{Matrix, sgemm};
use crate::nn::share::share;
use crate::nn::signal::Signal;
use crate::ops::{
    self, ActivationFn, Finish, FloatConv2d, Geometry, OutputKind, Pad, Par, ResidualAt,
};
use crate::quant::{Granularity, Scales};
use crate::shape::{check_len, elements};

/// Floats of the patches of a block: a part of a second-level cache.
const BLOCK: usize = 1 << 16;

/// Floats of the partial sums of d_w, at most; their number is decided by the shape alone, so that threads
/// change no bit.
const PARTIALS: usize = 1 << 22;

/// A convolution with latent filters.
#[derive(Clone, Debug)]
pub struct Conv2d {
    geometry: Geometry,
    /// OH and OW.
    size: (usize, usize),
    /// The filters, O rows of K.
    pub weights: Projected,
    codes: PackedMatrix,
    scratch: Vec<i32>,
    /// Working space of convolutions of floats.
    floats: Vec<f32>,
    /// Partial sums of d_w.
    partials: Vec<f32>,
}

impl Conv2d {
    /// `o` filters of `geometry`, latent weights drawn from N(0, 2 / K).
    ///
    /// Errors if the geometry is refused ([`Geometry::output`]) or the groups do not divide `o`.
    pub fn new(geometry: Geometry, o: usize, weights: Weights, rng: Rng) -> Result<Self> {
        let size = geometry.output()?;
        if o == 0 || !o.is_multiple_of(geometry.groups) {
            let expected = format!("a positive multiple of the {} groups", geometry.groups);
            return Err(Error::argument("O", o, expected));
        }
        let [kh, kw] = geometry.kernel;
        let k = elements("K", &[kh, kw, geometry.channels / geometry.groups])?;
        Ok(Conv2d {
            geometry,
            size,
            weights: Projected::new(o, k, weights, rng)?,
            codes: PackedMatrix::zeros(Encoding::Bipolar, 0, 0)?,
            scratch: Vec::new(),
            floats: Vec::new(),
            partials: Vec::new(),
        })
    }

    /// The shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Height, width and channels of the output: OH, OW, O.
    pub fn output(&self) -> [usize; 3] {
        [self.size.0, self.size.1, self.weights.rows()]
    }

    /// The convolution `x` `[M, OH, OW, O]` of `input` `[M, H, W, C]`.
    ///
    /// Filters that are integers multiply on the packed kernels of `isa`, with codes as with floats; other filters in
    /// floats, and so do floats with filters in groups. Errors if a length is wrong or the plan refuses.
    pub fn forward(
        &mut self,
        isa: Isa,
        input: Signal<'_>,
        x: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let finite = |s: &[f32]| s.iter().all(|s| s.is_finite());
        let codes = input.encoding();
        // Asked in this order: filters that multiply floats in floats need not be packed.
        let packed = (codes.is_some() || self.packs_floats()).then(|| self.weights.packed());
        let Some((_, scales)) = packed.flatten().filter(|(_, s)| finite(s)) else {
            return self.forward_in_floats(input.values, x, par);
        };
        let Some((encoding, step)) = codes else {
            let images = self.images(input.values)?;
            let plan = self.float_plan(isa, scales.to_vec(), None)?;
            self.floats
                .resize(plan.scratch_len(images, par.threads()), 0.0);
            return plan.run_f32(input.values, x, &mut self.floats, par);
        };
        let scale = scales.iter().map(|s| s * step).collect();
        let bias = vec![0.0; self.weights.rows()];
        let plan = self.plan(isa, encoding, scale, bias)?;
        let images = self.images(input.values)?;
        let channels = self.geometry.channels;
        let Conv2d { codes, scratch, .. } = self;
        let packed = input.pack(Kernels::of(isa)?, channels, codes)?;
        let (codes, _) = packed.expect("it has an encoding");
        scratch.resize(plan.scratch_len(par.threads()), 0);
        plan.run_f32(codes, 0..images, x, scratch, par)
    }

    /// The packed convolution with `scale[o] * sum + bias[o]` for images of `encoding`.
    ///
    /// Errors if the weights are no integers, a number is not finite, or the plan refuses.
    pub fn plan(
        &self,
        isa: Isa,
        encoding: Encoding,
        scale: Vec<f32>,
        bias: Vec<f32>,
    ) -> Result<ops::Conv2d> {
        let filters = self.weights.integral()?;
        let (function, output) = (ActivationFn::Identity, OutputKind::F32);
        let finish = Finish::new(scale, bias, function, ResidualAt::Nowhere, output)?;
        ops::Conv2d::on(
            isa,
            filters.view(),
            encoding,
            self.geometry,
            Pad::Zero,
            finish,
        )
    }

    /// Whether packed filters multiply floats: those in groups do not.
    pub fn packs_floats(&self) -> bool {
        self.geometry.groups == 1
    }

    /// The convolution of floats by the packed filters, `scale[o] * sum + bias[o]`.
    ///
    /// Errors if the weights are no integers or in groups, or the plan refuses.
    pub fn float_plan(
        &self,
        isa: Isa,
        scale: Vec<f32>,
        bias: Option<Vec<f32>>,
    ) -> Result<FloatConv2d> {
        let filters = self.weights.integral()?;
        let scales = Scales::new(Granularity::Channel, scale)?;
        FloatConv2d::on(isa, filters.view(), self.geometry, &scales, bias)
    }

    /// As [`Conv2d::forward`], but on the floats that the integers stand for: the same up to rounding.
    pub fn forward_in_floats(&self, values: &[f32], x: &mut [f32], par: Par<'_>) -> Result<()> {
        let images = self.images(values)?;
        let per_output = self.pixels() * self.weights.rows();
        check_len("x", x.len(), images * per_output, "M x OH x OW x O")?;
        let (o, per_image) = (self.weights.rows(), self.per_image());
        let patches = Patches::new(&self.geometry, self.size);
        let n = o / self.geometry.groups;
        let each = |(piece, x): (usize, &mut [f32])| {
            let values = &values[piece * self.piece() * per_image..];
            for block in self.blocks(x.len() / per_output) {
                for group in 0..self.geometry.groups {
                    with_memory(block.len() * patches.len(), |memory| {
                        let a = patches.gather(values, block.clone(), group, memory);
                        let w = self.filters(group).t();
                        let x = &mut x[block.start * o..block.end * o];
                        if n == o {
                            return sgemm(0.0, x, a, w, Par::Caller).expect("shapes fit");
                        }
                        let mut part = vec![0.0; block.len() * n];
                        sgemm(0.0, &mut part, a, w, Par::Caller).expect("shapes fit");
                        for (x, part) in x.chunks_exact_mut(o).zip(part.chunks_exact(n)) {
                            x[group * n..][..n].copy_from_slice(part);
                        }
                    });
                }
            }
        };
        let pieces = x.chunks_mut((self.piece() * per_output).max(1));
        self.share(images, par, pieces.enumerate(), &each);
        Ok(())
    }

    /// Sets `d_weights` from the gradient `d_x` `[M, OH, OW, O]` by the output and the input's `values` `[M, H, W, C]`;
    /// writes the gradient by the input to `d_values` `[M, H, W, C]` if there is one to write to.
    ///
    /// Errors if a length is wrong.
    pub fn backward(
        &mut self,
        values: &[f32],
        d_x: &[f32],
        d_values: Option<&mut [f32]>,
        par: Par<'_>,
    ) -> Result<()> {
        let images = self.images(values)?;
        let per_output = self.pixels() * self.weights.rows();
        check_len("d_x", d_x.len(), images * per_output, "M x OH x OW x O")?;
        if let Some(d_values) = &d_values {
            check_len("d_values", d_values.len(), values.len(), "M x H x W x C")?;
        }
        self.set_d_weights(images, values, d_x, par);
        let Some(d_values) = d_values else {
            return self.weights.finish_backward();
        };
        let patches = Patches::new(&self.geometry, self.size);
        let per_image = self.per_image();
        let each = |(piece, d_values): (usize, &mut [f32])| {
            d_values.fill(0.0);
            let d_x = &d_x[piece * self.piece() * per_output..];
            let mut part = Vec::new();
            for block in self.blocks(d_values.len() / per_image) {
                for group in 0..self.geometry.groups {
                    let d = self.d_group(d_x, &block, group, &mut part);
                    with_memory(block.len() * patches.len(), |rows| {
                        let filters = self.filters(group);
                        sgemm(0.0, rows, d, filters, Par::Caller).expect("they fit");
                        patches.scatter(rows, block.clone(), group, d_values);
                    });
                }
            }
        };
        let pieces = d_values.chunks_mut(self.piece() * per_image);
        self.share(images, par, pieces.enumerate(), &each);
        self.weights.finish_backward()
    }

    /// The gradient by the filters: partial sums over a fixed number of runs of images, then their sum in order.
    fn set_d_weights(&mut self, images: usize, values: &[f32], d_x: &[f32], par: Par<'_>) {
        let len = self.weights.latent.len().max(1);
        let runs = (PARTIALS / len).clamp(1, 8).min(images.max(1));
        let mut partials = std::mem::take(&mut self.partials);
        partials.clear();
        partials.resize(runs * len, 0.0);
        let (o, k) = (self.weights.rows(), self.weights.cols());
        let per_group = o / self.geometry.groups * k;
        let (per_image, per_output) = (self.per_image(), self.pixels() * o);
        let patches = Patches::new(&self.geometry, self.size);
        let each = |(run, sum): (usize, &mut [f32])| {
            let mut part = Vec::new();
            let (first, end) = (run * images / runs, (run + 1) * images / runs);
            let (values, d_x) = (&values[first * per_image..], &d_x[first * per_output..]);
            for block in self.blocks(end - first) {
                for group in 0..self.geometry.groups {
                    with_memory(block.len() * k, |memory| {
                        let a = patches.gather(values, block.clone(), group, memory);
                        let d = self.d_group(d_x, &block, group, &mut part).t();
                        let sum = &mut sum[group * per_group..][..per_group];
                        sgemm(1.0, sum, d, a, Par::Caller).expect("they fit");
                    });
                }
            }
        };
        self.share(images, par, partials.chunks_mut(len).enumerate(), &each);
        let (sum, others) = partials.split_at_mut(len);
        for partial in others.chunks_exact(len) {
            for (sum, p) in sum.iter_mut().zip(partial) {
                *sum += p;
            }
        }
        let d_weights = self.weights.d_weights.iter_mut();
        d_weights.zip(sum).for_each(|(d, sum)| *d = *sum);
        self.partials = partials;
    }

    /// Calls `each` with all pieces of work that is a product for each of `images`; small work stays on the caller.
    fn share<P: Send>(
        &self,
        images: usize,
        par: Par<'_>,
        pieces: impl Iterator<Item = P> + Send,
        each: &(impl Fn(P) + Sync),
    ) {
        // Vector instructions, about.
        let products = self.pixels().saturating_mul(self.weights.latent.len());
        let cost = (products as u64 / 8).saturating_mul(images as u64);
        share(cost, par, pieces, each);
    }

    /// The gradient `[block, O / groups]` by the outputs of `block` of an image and a group.
    fn d_group<'a>(
        &self,
        d_x: &'a [f32],
        block: &Range<usize>,
        group: usize,
        memory: &'a mut Vec<f32>,
    ) -> Matrix<'a> {
        let (o, n) = (
            self.weights.rows(),
            self.weights.rows() / self.geometry.groups,
        );
        let d = &d_x[block.start * o..block.end * o];
        if n == o {
            return Matrix::new(d, block.len(), o).expect("block x O");
        }
        memory.clear();
        for row in d.chunks_exact(o) {
            memory.extend_from_slice(&row[group * n..][..n]);
        }
        Matrix::new(memory, block.len(), n).expect("block x O / groups")
    }

    /// The filters of a group, `[O / groups, K]`.
    fn filters(&self, group: usize) -> Matrix<'_> {
        let (n, k) = (
            self.weights.rows() / self.geometry.groups,
            self.weights.cols(),
        );
        let w = &self.weights.values()[group * n * k..][..n * k];
        Matrix::new(w, n, k).expect("O / groups x K")
    }

    /// Output pixels of an image, OH x OW.
    fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// Inputs of an image, H x W x C.
    fn per_image(&self) -> usize {
        let g = &self.geometry;
        g.height * g.width * g.channels
    }

    /// Output pixels of a block, at most.
    fn per_block(&self) -> usize {
        (BLOCK / self.weights.cols().max(1)).max(16)
    }

    /// Images of a block, or 1 if an image has several blocks: what one thread does at a time.
    fn piece(&self) -> usize {
        (self.per_block() / self.pixels()).max(1)
    }

    /// The output pixels of `images` in blocks, counted through the images.
    fn blocks(&self, images: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (each, block) = (self.piece() * self.pixels(), self.per_block());
        let all = images * self.pixels();
        (0..all).step_by(each).flat_map(move |first| {
            let end = (first + each).min(all);
            (first..end)
                .step_by(block)
                .map(move |at| at..(at + block).min(end))
        })
    }

    /// M, once the length fits.
    fn images(&self, values: &[f32]) -> Result<usize> {
        let g = &self.geometry;
        let len = elements("image", &[g.height, g.width, g.channels])?;
        let m = values.len() / len;
        check_len("values", values.len(), m * len, "M x H x W x C")?;
        Ok(m)
    }
}

#[cfg(test)]
mod tests;
