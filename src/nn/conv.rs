//! The convolution: images `[M, H, W, C]` (NHWC) by filters `[O, KH, KW, C / groups]` (OHWI).
//!
//! ```text
//!   w [O, K]            K = KH x KW x C / groups; the projection of the latent filters
//!   x [M, OH, OW, O]  = sum over taps of w * a            zeros stand outside of the image
//!   d_w [O, K]        = d_x^T * patches of a              summed image by image in a fixed order
//!   d_a [M, H, W, C]  = d_x * w, each product added to the tap it came from
//! ```
//!
//! Filters and images that are integers multiply on the packed kernels ([`crate::ops::Conv2d`]); else the patches of a
//! block of pixels are gathered and multiplied in floats. There is no bias: batch normalisation follows.

use std::ops::Range;

use crate::bits::{Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::nn::patches::Patches;
use crate::nn::projected::{Projected, Weights};
use crate::nn::rng::Rng;
use crate::nn::sgemm::{Matrix, sgemm};
use crate::nn::signal::Signal;
use crate::ops::{self, ActivationFn, Finish, Geometry, OutputKind, Pad, Par, ResidualAt};
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
    /// Integers multiply on the packed kernels of `isa`; whatever is none, in floats. Errors if a length is wrong or
    /// the plan refuses.
    pub fn forward(
        &mut self,
        isa: Isa,
        input: Signal<'_>,
        x: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let finite = |s: &[f32]| s.iter().all(|s| s.is_finite());
        let usable = self.weights.packed().filter(|(_, s)| finite(s)).is_some();
        let Some((encoding, step)) = input.encoding().filter(|_| usable) else {
            return self.forward_in_floats(input.values, x, par);
        };
        let (_, scales) = self.weights.packed().expect("it is usable");
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
        let Some((filters, _)) = self.weights.packed() else {
            return Err(Error::argument("weights", "floats", "integers and scales"));
        };
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

    /// As [`Conv2d::forward`], but on the floats that the integers stand for: the same up to rounding.
    pub fn forward_in_floats(&self, values: &[f32], x: &mut [f32], par: Par<'_>) -> Result<()> {
        let images = self.images(values)?;
        let per_output = self.pixels() * self.weights.rows();
        check_len("x", x.len(), images * per_output, "M x OH x OW x O")?;
        let (o, pixels) = (self.weights.rows(), self.pixels());
        let per_image = self.geometry.height * self.geometry.width * self.geometry.channels;
        let patches = Patches::new(&self.geometry, self.size.1);
        let each = |image: usize, x: &mut [f32]| {
            let image = &values[image * per_image..][..per_image];
            let (mut rows, mut part) = (Vec::new(), Vec::new());
            for block in self.blocks() {
                for group in 0..self.geometry.groups {
                    rows.resize(block.len() * patches.len(), 0.0);
                    patches.gather(image, block.clone(), group, &mut rows);
                    let a = Matrix::new(&rows, block.len(), patches.len()).expect("rows x K");
                    let w = self.filters(group).t();
                    let x = &mut x[block.start * o..block.end * o];
                    if self.geometry.groups == 1 {
                        sgemm(0.0, x, a, w, Par::Caller).expect("shapes fit");
                        continue;
                    }
                    let n = o / self.geometry.groups;
                    part.resize(block.len() * n, 0.0);
                    sgemm(0.0, &mut part, a, w, Par::Caller).expect("shapes fit");
                    for (x, part) in x.chunks_exact_mut(o).zip(part.chunks_exact(n)) {
                        x[group * n..][..n].copy_from_slice(part);
                    }
                }
            }
        };
        par.rows(x, per_output.max(1), self.cost(pixels), &each);
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
        let d_weights = self.d_weights(images, values, d_x, par);
        self.weights.d_weights.copy_from_slice(&d_weights);
        let Some(d_values) = d_values else {
            return self.weights.finish_backward();
        };
        let patches = Patches::new(&self.geometry, self.size.1);
        let each = |image: usize, d_image: &mut [f32]| {
            d_image.fill(0.0);
            let d_x = &d_x[image * per_output..][..per_output];
            let (mut rows, mut part) = (Vec::new(), Vec::new());
            for block in self.blocks() {
                for group in 0..self.geometry.groups {
                    let d = self.d_group(d_x, &block, group, &mut part);
                    rows.resize(block.len() * patches.len(), 0.0);
                    sgemm(0.0, &mut rows, d, self.filters(group), Par::Caller).expect("they fit");
                    patches.scatter(&rows, block.clone(), group, d_image);
                }
            }
        };
        let per_image = values.len() / images.max(1);
        par.rows(d_values, per_image.max(1), self.cost(self.pixels()), &each);
        self.weights.finish_backward()
    }

    /// The gradient by the filters: partial sums over a fixed number of runs of images, then their sum in order.
    fn d_weights(&self, images: usize, values: &[f32], d_x: &[f32], par: Par<'_>) -> Vec<f32> {
        let len = self.weights.latent.len();
        let runs = (PARTIALS / len.max(1)).clamp(1, 8).min(images.max(1));
        let mut partials = vec![0.0; runs * len];
        let (o, k) = (self.weights.rows(), self.weights.cols());
        let per_group = o / self.geometry.groups * k;
        let per_image = self.geometry.height * self.geometry.width * self.geometry.channels;
        let per_output = self.pixels() * o;
        let patches = Patches::new(&self.geometry, self.size.1);
        let each = |run: usize, sum: &mut [f32]| {
            let (mut rows, mut part) = (Vec::new(), Vec::new());
            for image in run * images / runs..(run + 1) * images / runs {
                let values = &values[image * per_image..][..per_image];
                let d_x = &d_x[image * per_output..][..per_output];
                for block in self.blocks() {
                    for group in 0..self.geometry.groups {
                        rows.resize(block.len() * k, 0.0);
                        patches.gather(values, block.clone(), group, &mut rows);
                        let a = Matrix::new(&rows, block.len(), k).expect("rows x K");
                        let d = self.d_group(d_x, &block, group, &mut part).t();
                        let sum = &mut sum[group * per_group..][..per_group];
                        sgemm(1.0, sum, d, a, Par::Caller).expect("they fit");
                    }
                }
            }
        };
        let cost = self.cost(self.pixels()).saturating_mul(images / runs + 1);
        par.rows(&mut partials, len.max(1), cost, &each);
        let mut sum = partials[..len].to_vec();
        for partial in partials[len..].chunks_exact(len.max(1)) {
            for (sum, p) in sum.iter_mut().zip(partial) {
                *sum += p;
            }
        }
        sum
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

    /// The output pixels of an image in blocks.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let (pixels, rows) = (self.pixels(), (BLOCK / self.weights.cols().max(1)).max(16));
        (0..pixels.div_ceil(rows)).map(move |i| i * rows..((i + 1) * rows).min(pixels))
    }

    /// Vector instructions of the products of an image, about.
    fn cost(&self, pixels: usize) -> usize {
        pixels.saturating_mul(self.weights.latent.len()) / 8
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
