//! Convolution of packed images by packed filters.
//!
//! 1. The output is cut into blocks of pixels, and threads take one after the other.
//! 2. Where taps are whole words of bits, products of first layers, or looked up, the lines of input that a block reads are
//!    copied once with their pad, as bits, bytes or tables, and kernels find the taps in them by tables of where they
//!    are: see `bitlines`, `lines` and `tablelines`. Other taps are gathered by the indirection table (see `geometry`)
//!    into rows in the cache (see `gather`), which serve all panels of output channels. No matrix of all patches is ever
//!    made.
//! 3. Any method of [`Gemm`](crate::ops::Gemm) multiplies them into a block of sums, `border` puts the pad right, and a
//!    [`Finish`] makes the output of the block while it is in the cache.
//!
//! A transposed convolution is stride x stride phases, each an ordinary convolution of stride 1 by some of
//! the taps.

use std::fmt;
use std::ops::Range;

use crate::bits::{Encoding, PackedMut, PackedRef};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::kernels::bounds::Sequence;
use crate::shape::{elements, words};

use super::{Activations, Affine, Finish, Gemm, OutRows, Par};

mod bitlines;
mod border;
mod depthwise;
mod float;
mod gather;
pub(in crate::ops) mod geometry;
mod linebuffer;
mod lines;
mod parts;
mod product;
mod rows;
mod run;
mod tablelines;

pub use float::FloatConv2d;
pub(in crate::ops) use gather::Writer;
pub use geometry::{Geometry, Pad, Padding};
use parts::{Parts, Route};
use product::Product;

/// Bytes of gathered rows and sums in a block: a part of a second-level cache, which also holds the weights.
const BLOCK_BYTES: usize = 128 * 1024;

/// Output pixels of a block, at most: few enough to share out, enough for every tile.
const BLOCK_ROWS: usize = 240;

/// Output pixels of a block, at least: weights pass by once for each block.
const LEAST_ROWS: usize = 24;

/// A plan for the convolution of images `[N, H, W, C]` by filters `[O, KH, KW, C / groups]` to `[N, OH, OW, O]`.
///
/// Images are a matrix of codes: a row a pixel (row by row of an image, image after image), a column a channel; in
/// planes or bytes. Filters are a matrix of O rows and KH x KW x C / groups columns of any encoding. Group g
/// sees input channels g C / groups and up, and makes output channels g O / groups and up. Sums are
/// exact i32, the same on every ISA and for every number of threads; of images with a zero point ([`Affine`]) they are
/// those of filter x (image - zero point), and the zero of a pad is the zero point.
pub struct Conv2d {
    kernels: &'static Kernels,
    geometry: Geometry,
    weight: Encoding,
    activation: Affine,
    o: usize,
    /// OH and OW.
    size: (usize, usize),
    /// A product for each phase of a transposed convolution, row by row; else one.
    phases: Vec<Product>,
    /// Phases along each axis.
    steps: [usize; 2],
    finish: Finish,
    /// Output pixels of a block, or rows of output for a transposed convolution.
    block: usize,
    /// What blocks are multiples of.
    unit: usize,
}

impl Conv2d {
    /// A plan on the ISA that [`Isa::chosen`] gives.
    ///
    /// Errors if the geometry is refused ([`Geometry::output`]), the filters have other than KH x KW x C / groups columns,
    /// the groups do not divide O, the pair of encodings is not served or could overflow i32 ([`Gemm::max_k_affine`]), the
    /// zero point is neither 0 nor an integer of the activations, the
    /// pad is +1 or -1 for activations that are not bipolar, or the finish has other
    /// than O channels.
    pub fn new(
        filters: PackedRef<'_>,
        activation: impl Into<Affine>,
        geometry: Geometry,
        pad: Pad,
        finish: Finish,
    ) -> Result<Self> {
        Self::on(Isa::chosen()?, filters, activation, geometry, pad, finish)
    }

    /// As [`Conv2d::new`], on a given ISA.
    pub fn on(
        isa: Isa,
        filters: PackedRef<'_>,
        activation: impl Into<Affine>,
        geometry: Geometry,
        pad: Pad,
        finish: Finish,
    ) -> Result<Self> {
        Self::by(None, isa, filters, activation, geometry, pad, finish)
    }

    /// As [`Conv2d::on`], by a given route instead of the fastest.
    fn by(
        route: Option<Route>,
        isa: Isa,
        filters: PackedRef<'_>,
        activation: impl Into<Affine>,
        geometry: Geometry,
        pad: Pad,
        finish: Finish,
    ) -> Result<Self> {
        let activation = activation.into();
        let size = geometry.output()?;
        if pad != Pad::Zero && activation.encoding != Encoding::Bipolar {
            let expected = "zero, or bipolar activations";
            return Err(Error::argument("pad", format_args!("{pad:?}"), expected));
        }
        let parts = Self::parts(route, isa, filters, activation, &geometry, pad)?;
        let (rows, cols) = (geometry.axis(0, size.0), geometry.axis(1, size.1));
        let phases = vec![Product::new(&parts, rows, cols)?];
        Self::planned(&parts, geometry, size, phases, [1, 1], finish)
    }

    /// A plan for the transposed convolution (the gradient of a convolution in its input, often called
    /// deconvolution): pixel (y, x) of the input adds its products with the filters to the output from
    /// (y stride - padding, x stride - padding) on, a tap each dilation pixels. `extra` rows and columns are
    /// added to the output below and to the right.
    ///
    /// Filters are `[O, KH, KW, C / groups]` here too. Errors as [`Conv2d::new`], and as
    /// [`Geometry::transposed_output`].
    pub fn transposed(
        isa: Isa,
        filters: PackedRef<'_>,
        activation: impl Into<Affine>,
        geometry: Geometry,
        extra: [usize; 2],
        finish: Finish,
    ) -> Result<Self> {
        let size = geometry.transposed_output(extra)?;
        let activation = activation.into();
        let parts = Self::parts(None, isa, filters, activation, &geometry, Pad::Zero)?;
        let steps = [geometry.stride[0], geometry.stride[1]];
        let count = elements("stride", &steps)?;
        if count > 1 << 12 {
            return Err(Error::argument("stride", count, "at most 4096 phases"));
        }
        let mut phases = Vec::with_capacity(count);
        for y in 0..steps[0] {
            for x in 0..steps[1] {
                let rows = geometry.transposed_axis(0, y, size.0);
                let cols = geometry.transposed_axis(1, x, size.1);
                phases.push(Product::new(&parts, rows, cols)?);
            }
        }
        Self::planned(&parts, geometry, size, phases, steps, finish)
    }

    /// A plan for a linear layer: activations `[M, K]` times `weights` `[N, K]`. It is the convolution by 1 x 1 filters of
    /// images of one pixel: `images` are rows, C is K and O is N. Few rows are cut along N for the threads.
    ///
    /// Errors as [`Conv2d::new`].
    pub fn linear(
        isa: Isa,
        weights: PackedRef<'_>,
        activation: impl Into<Affine>,
        finish: Finish,
    ) -> Result<Self> {
        let geometry = Geometry::new(1, 1, weights.cols(), 1);
        Self::on(isa, weights, activation, geometry, Pad::Zero, finish)
    }

    /// What the products are made of, once filters, encodings and groups fit.
    fn parts<'a>(
        route: Option<Route>,
        isa: Isa,
        filters: PackedRef<'a>,
        activation: Affine,
        geometry: &Geometry,
        pad: Pad,
    ) -> Result<Parts<'a>> {
        let Geometry {
            kernel: [kh, kw],
            channels,
            groups,
            ..
        } = *geometry;
        let kernels = Kernels::of(isa)?;
        let k = elements("filters", &[kh, kw, channels / groups])?;
        if filters.cols() != k {
            let expected = format!("{k} (KH x KW x C / groups)");
            return Err(Error::argument(
                "columns of the filters",
                filters.cols(),
                expected,
            ));
        }
        let o = filters.rows();
        if o == 0 || !o.is_multiple_of(groups) {
            let expected = format!("a positive multiple of the {groups} groups");
            return Err(Error::argument("rows of the filters", o, expected));
        }
        let Affine {
            encoding,
            zero_point,
        } = activation;
        let max_k = Gemm::max_k_affine(filters.encoding(), encoding, zero_point)?;
        if k > max_k {
            let pair = format!("{} x {encoding}", filters.encoding());
            let expected = format!("at most {max_k} for {pair}, or i32 sums overflow");
            return Err(Error::argument("KH x KW x C / groups", k, expected));
        }
        Ok(Parts {
            kernels,
            route,
            filters,
            width: kw,
            activation: encoding,
            zero_point,
            channels,
            groups,
            pad,
        })
    }

    fn planned(
        parts: &Parts<'_>,
        geometry: Geometry,
        size: (usize, usize),
        mut phases: Vec<Product>,
        steps: [usize; 2],
        finish: Finish,
    ) -> Result<Self> {
        let o = parts.filters.rows();
        if finish.n() != o {
            return Err(Error::argument("channels of the finish", finish.n(), o));
        }
        // At most `Gemm::max_k` of them, so that this is an i32.
        let (weight, k) = (parts.filters.encoding(), parts.filters.cols());
        let activation = Affine {
            encoding: parts.activation,
            zero_point: parts.zero_point,
        };
        let bound = k * weight.magnitude() as usize * activation.reach();
        let finish = finish.prepare(bound as i32)?;
        if let [product] = &mut phases[..] {
            product.make_codes(&finish);
        }
        let pixel_words = phases.iter().map(Product::pixel_words).max().unwrap_or(1);
        let fit = (BLOCK_BYTES / 4 / pixel_words.max(1)).clamp(LEAST_ROWS, BLOCK_ROWS);
        let (wish, unit) = phases[0].block(parts.kernels);
        let block = match (phases.len(), wish) {
            (1, Some(block)) => block,
            (1, None) => fit / parts.kernels.mr() * parts.kernels.mr(),
            // Whole rows of output, all phases of them.
            _ => (fit / (size.1.div_ceil(steps[1]))).max(1) * steps[0],
        };
        Ok(Conv2d {
            kernels: parts.kernels,
            geometry,
            weight: parts.filters.encoding(),
            activation,
            o,
            size,
            phases,
            steps,
            finish,
            block,
            unit,
        })
    }

    /// Rows and columns of the output, (OH, OW).
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Output channels, O.
    pub fn o(&self) -> usize {
        self.o
    }

    /// What follows the sums, with the thresholds that the plan has made for it.
    pub fn finish(&self) -> &Finish {
        &self.finish
    }

    /// The shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The encoding of the filters.
    pub fn weight(&self) -> Encoding {
        self.weight
    }

    /// The encoding of the images.
    pub fn activation(&self) -> Encoding {
        self.activation.encoding
    }

    /// The integer of the images that stands for 0.
    pub fn zero_point(&self) -> i32 {
        self.activation.zero_point
    }

    /// The ISA whose kernels run.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Multiply-adds for an image: H W or OH OW pixels of all taps, the pad counted as data.
    pub fn macs(&self) -> u64 {
        let (height, width) = match self.phases.len() {
            1 => self.size,
            _ => (self.geometry.height, self.geometry.width),
        };
        let all = [height, width, self.o, self.k()];
        all.iter()
            .fold(1, |macs: u64, &n| macs.saturating_mul(n as u64))
    }

    /// Columns of a filter, KH x KW x C / groups.
    pub fn k(&self) -> usize {
        let [kh, kw] = self.geometry.kernel;
        kh * kw * (self.geometry.channels / self.geometry.groups)
    }

    /// About how many vector instructions the sums of an image take.
    pub(crate) fn cost(&self) -> u64 {
        self.phases.iter().map(Product::cost).sum()
    }

    /// Bytes of filters in the canonical packed form.
    pub fn weight_bytes(&self) -> usize {
        self.o * self.weight.planes() * words(self.k()) * 4
    }

    /// Bytes of filters as prepacked for the kernels.
    pub fn prepacked_bytes(&self) -> usize {
        self.phases.iter().map(Product::bytes).sum()
    }

    /// What the inner loop does for `images` images and how often for each multiply-add, as [`Gemm::sequence`]; none if
    /// there are no taps.
    pub fn sequence(&self, images: usize) -> Option<(Sequence, usize)> {
        self.phases.iter().find_map(|p| p.sequence(images))
    }

    /// Elements of i32 scratch that a run on `threads` threads ([`Par::threads`]) needs.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.piece().saturating_mul(threads.max(1))
    }

    /// The sums of images `images`, into `out` `[images.len() x OH x OW, O]`, before any finish.
    ///
    /// Errors as [`Conv2d::run`].
    pub fn run_i32<'a>(
        &self,
        input: impl Into<Activations<'a>>,
        images: Range<usize>,
        out: &mut [i32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        self.run(input, images, None, OutRows::I32(out), scratch, par)
    }

    /// The floats of images `images`, into `out` `[images.len() x OH x OW, O]`, of a plan without residual.
    ///
    /// Errors as [`Conv2d::run`].
    pub fn run_f32<'a>(
        &self,
        input: impl Into<Activations<'a>>,
        images: Range<usize>,
        out: &mut [f32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        self.run(input, images, None, OutRows::F32(out), scratch, par)
    }

    /// The codes of images `images`, into `out`, a matrix of images.len() x OH x OW rows and O columns, of a plan
    /// without residual.
    ///
    /// Errors as [`Conv2d::run`], and if `out` has another encoding.
    pub fn run_codes<'a, 'o>(
        &self,
        input: impl Into<Activations<'a>>,
        images: Range<usize>,
        out: impl Into<PackedMut<'o>>,
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        self.finish.check_kind("codes")?;
        let (out, encoding) = (out.into(), self.finish.output().encoding());
        if Some(out.encoding()) != encoding || out.cols() != self.o {
            let got = format!("{} with {} columns", out.encoding(), out.cols());
            let encoding = encoding.expect("codes have an encoding");
            let expected = format!("{encoding} with {}", self.o);
            return Err(Error::argument("out", got, expected));
        }
        self.run(
            input,
            images,
            None,
            OutRows::Codes(out.words()),
            scratch,
            par,
        )
    }

    /// What runs, for people: ISA, method, tile, block.
    pub fn describe(&self) -> String {
        let what = self.phases[0].describe(self.kernels);
        match self.phases.len() {
            1 if self.phases[0].makes_codes(Par::Caller) => {
                format!("{what} to codes, blocks of {} pixels", self.block)
            }
            1 => format!("{what}, blocks of {} pixels", self.block),
            phases => format!("{what}, {phases} phases, blocks of {} rows", self.block),
        }
    }
}

impl fmt::Debug for Conv2d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Conv2d({:?}, O {}, {} x {}, {})",
            self.geometry,
            self.o,
            self.weight,
            self.activation(),
            self.describe()
        )
    }
}

#[cfg(test)]
mod tests;
