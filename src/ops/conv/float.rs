//! Convolution of float images by packed filters: gathered rows of floats go through [`WeightOnlyGemm`].

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::gather::{self, Layout};
use super::geometry::{Axis, Geometry};
use crate::bits::PackedRef;
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::FEW;
use crate::ops::{Par, WeightOnlyGemm};
use crate::quant::Scales;
use crate::shape::{check_len, elements};

/// Output pixels of a block: as many rows as the product takes at a time.
const BLOCK_ROWS: usize = 144;

/// A plan for the convolution of float images `[N, H, W, C]` by packed filters `[O, KH, KW, C]` to floats `[N, OH,
/// OW, O]`; the float 0 stands outside of the images.
///
/// Each result is that of [`WeightOnlyGemm`] for the row of its taps, so the same on every ISA and for every number
/// of threads.
pub struct FloatConv2d {
    gemm: WeightOnlyGemm,
    geometry: Geometry,
    rows: Axis,
    cols: Axis,
    k: usize,
}

impl FloatConv2d {
    /// A plan for `filters` of any encoding with their scales, and a summand for each output channel or none.
    ///
    /// Errors if the geometry is refused ([`Geometry::output`]) or has groups, the filters have other than KH x KW x
    /// C columns, or as [`WeightOnlyGemm::on`].
    pub fn on(
        isa: Isa,
        filters: PackedRef<'_>,
        geometry: Geometry,
        scales: &Scales,
        bias: Option<Vec<f32>>,
    ) -> Result<Self> {
        let (height, width) = geometry.output()?;
        if geometry.groups != 1 {
            let expected = "1 for floats";
            return Err(Error::argument("groups", geometry.groups, expected));
        }
        let [kh, kw] = geometry.kernel;
        let k = elements("filters", &[kh, kw, geometry.channels])?;
        if filters.cols() != k {
            let expected = format!("{k} (KH x KW x C)");
            let name = "columns of the filters";
            return Err(Error::argument(name, filters.cols(), expected));
        }
        if filters.rows() == 0 {
            return Err(Error::argument("rows of the filters", 0, "1 or more"));
        }
        Ok(FloatConv2d {
            gemm: WeightOnlyGemm::on(isa, filters, scales, bias)?,
            geometry,
            rows: geometry.axis(0, height),
            cols: geometry.axis(1, width),
            k,
        })
    }

    /// Rows and columns of the output, (OH, OW).
    pub fn size(&self) -> (usize, usize) {
        (self.rows.count(), self.cols.count())
    }

    /// The shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The product of gathered rows.
    pub fn gemm(&self) -> &WeightOnlyGemm {
        &self.gemm
    }

    /// Multiply-adds for an image, the pad counted as data.
    pub fn macs(&self) -> u64 {
        let (height, width) = self.size();
        let all = [height, width, self.gemm.n(), self.k];
        all.iter()
            .fold(1, |macs: u64, &n| macs.saturating_mul(n as u64))
    }

    /// Output pixels of `images` images.
    fn pixels(&self, images: usize) -> usize {
        let (height, width) = self.size();
        images.saturating_mul(height).saturating_mul(width)
    }

    /// Whether rows are there without gathering: pixels as they are, or whole images.
    fn is_direct(&self) -> bool {
        let Geometry { height, width, .. } = self.geometry;
        let whole = self.size() == (1, 1) && self.geometry.kernel == [height, width];
        whole || self.rows.is_identity() && self.cols.is_identity()
    }

    /// Elements of f32 scratch that a run over up to `images` images on up to `threads` threads needs.
    pub fn scratch_len(&self, images: usize, threads: usize) -> usize {
        let pixels = self.pixels(images);
        if self.is_direct() {
            return self.product_scratch(pixels);
        }
        let blocks = pixels.div_ceil(BLOCK_ROWS).clamp(1, threads.max(1));
        self.piece(pixels.min(BLOCK_ROWS)).saturating_mul(blocks)
    }

    /// Scratch of a thread for blocks of `rows` pixels.
    fn piece(&self, rows: usize) -> usize {
        let gathered = rows.saturating_mul(self.k);
        gathered.saturating_add(self.product_scratch(rows))
    }

    /// Scratch of products of up to `rows` rows: a few rows may need more than many.
    fn product_scratch(&self, rows: usize) -> usize {
        let few = self.gemm.scratch_len(rows.min(FEW));
        self.gemm.scratch_len(rows).max(few)
    }

    /// The convolution of all images of `input` into `out` `[images x OH x OW, O]`.
    ///
    /// `scratch` has [`FloatConv2d::scratch_len`] elements or more. Errors if `input` is not whole images or a length
    /// does not fit; then `out` is untouched.
    pub fn run(
        &self,
        input: &[f32],
        out: &mut [f32],
        scratch: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let image = self.geometry.pixels() * self.geometry.channels;
        if !input.len().is_multiple_of(image) {
            let value = format!("{} elements long", input.len());
            let expected = format!("a multiple of {image} (H x W x C)");
            return Err(Error::argument("input", value, expected));
        }
        let (images, o) = (input.len() / image, self.gemm.n());
        let pixels = self.pixels(images);
        check_len(
            "out",
            out.len(),
            elements("out", &[pixels, o])?,
            "pixels x O",
        )?;
        let needed = self.scratch_len(images, par.threads());
        if scratch.len() < needed {
            let value = format!("{} elements long", scratch.len());
            let expected = format!("at least {needed}");
            return Err(Error::argument("scratch", value, expected));
        }
        if pixels == 0 {
            return Ok(());
        }
        if self.is_direct() {
            return self.gemm.run(input, pixels, 0..pixels, out, scratch, par);
        }
        if pixels <= BLOCK_ROWS {
            return self.block(input, 0, out, scratch, par);
        }
        let piece = self.piece(BLOCK_ROWS);
        let blocks = Mutex::new(out.chunks_mut(BLOCK_ROWS * o).enumerate());
        let take = || blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = |scratch: &mut [f32]| {
            while let Some((i, out)) = take() {
                // What it would refuse has been checked.
                let _done = self.block(input, i * BLOCK_ROWS, out, scratch, Par::Caller);
            }
        };
        let threads = par.threads().min(pixels.div_ceil(BLOCK_ROWS));
        par.share(scratch.chunks_mut(piece).take(threads), &worker);
        Ok(())
    }

    /// The output pixels of `out`, the first of which is number `first` of all images.
    fn block(
        &self,
        input: &[f32],
        first: usize,
        out: &mut [f32],
        scratch: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let rows = out.len() / self.gemm.n();
        let (gathered, scratch) = scratch.split_at_mut(rows * self.k);
        let channels = self.geometry.channels;
        let layout = Layout {
            pixel: channels,
            planes: 1,
            plane: 0,
            first: 0,
            tap: channels,
            out_plane: self.k,
        };
        let block = first..first + rows;
        gather::elements(&self.rows, &self.cols, &layout, input, block, gathered);
        self.gemm.run(gathered, rows, 0..rows, out, scratch, par)
    }

    /// What runs, for people.
    pub fn describe(&self) -> String {
        match self.is_direct() {
            true => self.gemm.describe(),
            false => format!("{}, gathered rows", self.gemm.describe()),
        }
    }
}

impl fmt::Debug for FloatConv2d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FloatConv2d({:?}, {})", self.geometry, self.describe())
    }
}
