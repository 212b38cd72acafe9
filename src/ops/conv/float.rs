//! Convolution of float images by packed filters: gathered rows of floats go through [`WeightOnlyGemm`].
//!
//! The output is cut into blocks of pixels, and threads take one after the other. A block's taps are gathered, its
//! floats are made, and a [`Finish`] makes of them what leaves, all in the cache: no map of floats is stored in between.
//! Groups have a product each. A transposed convolution is stride x stride phases, each an ordinary convolution of
//! stride 1 by some of the taps.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::geometry::Geometry;
use crate::bits::PackedRef;
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::kernels::bounds::Sequence;
use crate::ops::{Elements, Finish, OutRows, OutputKind, Par, Residual, apply};
use crate::quant::{Granularity, Scales};
use crate::shape::{check_len, elements};

mod phase;
#[cfg(test)]
mod tests;

use phase::{Halves, Making, Phase};

/// Output pixels of a block: as many rows as the product takes at a time.
const BLOCK_ROWS: usize = 144;

/// A plan for the convolution of float images `[N, H, W, C]` by packed filters `[O, KH, KW, C / groups]` to `[N, OH, OW,
/// O]`; the float 0 stands outside of the images. Images are f32, f16 or bf16.
///
/// Each float is that of [`WeightOnlyGemm`](crate::ops::WeightOnlyGemm) for the row of its taps, so the same on every
/// ISA and for every number of threads; of a transposed convolution, taps that add nothing to a pixel are not in its
/// row, and the others are in the order of the inputs that they read. What leaves is that float, or what
/// [`apply`](crate::ops::apply) makes of it by the finish of the plan.
pub struct FloatConv2d {
    kernels: &'static Kernels,
    geometry: Geometry,
    /// OH and OW.
    size: (usize, usize),
    o: usize,
    /// Columns of a filter.
    k: usize,
    /// A product for each phase of a transposed convolution, row by row; else one.
    phases: Vec<Phase>,
    /// Phases along each axis.
    steps: [usize; 2],
    finish: Option<Finish>,
}

/// Output pixels that are made together, numbered across the images of the run.
struct Block<'a> {
    first: usize,
    count: usize,
    out: OutRows<'a>,
}

impl FloatConv2d {
    /// A plan for `filters` of any encoding with their scales, and a summand for each output channel or none.
    ///
    /// Errors if the geometry is refused ([`Geometry::output`]), the filters have other than KH x KW x C / groups
    /// columns, the groups do not divide O, or as [`WeightOnlyGemm::on`](crate::ops::WeightOnlyGemm::on).
    pub fn on(
        isa: Isa,
        filters: PackedRef<'_>,
        geometry: Geometry,
        scales: &Scales,
        bias: Option<Vec<f32>>,
    ) -> Result<Self> {
        let size = geometry.output()?;
        let making = Making::new(isa, filters, &geometry, scales, bias)?;
        let (rows, cols) = (geometry.axis(0, size.0), geometry.axis(1, size.1));
        let phases = vec![Phase::new(&making, rows, cols)?];
        Ok(Self::planned(&making, geometry, size, phases, [1, 1]))
    }

    /// A plan for the transposed convolution, as [`Conv2d::transposed`](super::Conv2d::transposed) has it, with `extra`
    /// rows and columns of output below and to the right.
    ///
    /// Errors as [`FloatConv2d::on`] and [`Geometry::transposed_output`], or if scales are per group of K, whose columns
    /// the phases tear apart.
    pub fn transposed(
        isa: Isa,
        filters: PackedRef<'_>,
        geometry: Geometry,
        extra: [usize; 2],
        scales: &Scales,
        bias: Option<Vec<f32>>,
    ) -> Result<Self> {
        let size = geometry.transposed_output(extra)?;
        if let Granularity::Group(group) = scales.granularity() {
            let value = format!("per group of {group}");
            let expected = "per tensor or channel for a transposed convolution";
            return Err(Error::argument("scales", value, expected));
        }
        let making = Making::new(isa, filters, &geometry, scales, bias)?;
        let steps = geometry.stride;
        let count = elements("stride", &steps)?;
        if count > 1 << 12 {
            return Err(Error::argument("stride", count, "at most 4096 phases"));
        }
        let mut phases = Vec::with_capacity(count);
        for y in 0..steps[0] {
            for x in 0..steps[1] {
                let rows = geometry.transposed_axis(0, y, size.0);
                let cols = geometry.transposed_axis(1, x, size.1);
                phases.push(Phase::new(&making, rows, cols)?);
            }
        }
        Ok(Self::planned(&making, geometry, size, phases, steps))
    }

    fn planned(
        making: &Making<'_>,
        geometry: Geometry,
        size: (usize, usize),
        phases: Vec<Phase>,
        steps: [usize; 2],
    ) -> Self {
        FloatConv2d {
            kernels: making.kernels(),
            geometry,
            size,
            o: making.o(),
            k: making.k(),
            phases,
            steps,
            finish: None,
        }
    }

    /// The same with what follows the floats: it begins with `scale[n] * float + bias[n]`, beside the scales and bias of
    /// the filters.
    ///
    /// Errors if the finish is of integers or ready thresholds, or has other than O channels.
    pub fn finished(self, finish: Finish) -> Result<Self> {
        if let OutputKind::I32 | OutputKind::Levels(_) = finish.output() {
            let value = "of integers or thresholds alone";
            return Err(Error::argument("finish", value, "scale and bias"));
        }
        if finish.n() != self.o {
            return Err(Error::argument(
                "channels of the finish",
                finish.n(),
                self.o,
            ));
        }
        let finish = Some(finish);
        Ok(FloatConv2d { finish, ..self })
    }

    /// Rows and columns of the output, (OH, OW).
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Output channels, O.
    pub fn o(&self) -> usize {
        self.o
    }

    /// Columns of a filter, KH x KW x C / groups.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// What follows the floats, if something does.
    pub fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    /// The ISA whose kernels run.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// What the inner loop does for `images` images and how often it walks along K, as
    /// [`WeightOnlyGemm::sequence`](crate::ops::WeightOnlyGemm::sequence).
    pub fn sequence(&self, images: usize) -> (Sequence, usize) {
        let some = self.phases.iter().find(|phase| phase.k() > 0);
        let rows = self.pixels(images) / self.phases.len();
        some.unwrap_or(&self.phases[0]).gemm().sequence(rows)
    }

    /// Multiply-adds for an image: H W or OH OW pixels of all taps, the pad counted as data.
    pub fn macs(&self) -> u64 {
        let (height, width) = match self.phases.len() {
            1 => self.size,
            _ => (self.geometry.height, self.geometry.width),
        };
        let all = [height, width, self.o, self.k];
        all.iter()
            .fold(1, |macs: u64, &n| macs.saturating_mul(n as u64))
    }

    /// Output pixels of `images` images.
    fn pixels(&self, images: usize) -> usize {
        let (height, width) = self.size;
        images.saturating_mul(height).saturating_mul(width)
    }

    /// Rows without gathering whose floats leave as they are: the product takes them all at a time, and threads share it.
    fn is_product(&self) -> bool {
        self.finish.is_none() && self.phases.len() == 1 && self.phases[0].is_direct()
    }

    /// Output pixels of a block, at most: of a transposed convolution whole rows, all phases of them.
    fn block(&self) -> usize {
        match self.phases.len() {
            1 => BLOCK_ROWS,
            _ => self.lines() * self.size.1,
        }
    }

    /// Rows of output in a block of a transposed convolution.
    fn lines(&self) -> usize {
        (BLOCK_ROWS / self.size.1.div_ceil(self.steps[1])).max(1) * self.steps[0]
    }

    /// Pixels of a phase in a block of rows of a transposed convolution.
    fn phase_pixels(&self) -> usize {
        self.lines() / self.steps[0] * self.size.1.div_ceil(self.steps[1])
    }

    /// Blocks of a run over `pixels` output pixels: those of a transposed convolution end where an image does.
    fn blocks(&self, pixels: usize) -> usize {
        let image = self.pixels(1);
        match self.phases.len() {
            1 => pixels.div_ceil(self.block()),
            _ => image
                .div_ceil(self.block())
                .saturating_mul(pixels.div_ceil(image)),
        }
    }

    /// Elements of f32 scratch that a run over up to `images` images on up to `threads` threads needs.
    pub fn scratch_len(&self, images: usize, threads: usize) -> usize {
        let pixels = self.pixels(images);
        if self.is_product() {
            return self.phases[0].scratch_len(pixels);
        }
        let blocks = self.blocks(pixels).clamp(1, threads.max(1));
        self.piece(pixels.min(self.block())).saturating_mul(blocks)
    }

    /// Scratch of a thread for blocks of up to `rows` pixels.
    fn piece(&self, rows: usize) -> usize {
        let floats = match self.finish {
            Some(_) => rows.saturating_mul(self.o),
            None => 0,
        };
        let of_phase = match self.phases.len() {
            1 => self.phases[0].scratch_len(rows),
            _ => {
                let rows = self.phase_pixels();
                let most = self.phases.iter().map(|p| p.scratch_len(rows)).max();
                let some = rows.saturating_mul(self.o);
                some.saturating_add(most.unwrap_or(0))
            }
        };
        floats.saturating_add(of_phase)
    }

    /// The floats of all images of `input` into `out` `[images x OH x OW, O]`, of a plan whose finish makes floats or
    /// that has none. As [`FloatConv2d::run`] without a residual.
    pub fn run_f32<'a>(
        &self,
        input: impl Into<Elements<'a>>,
        out: &mut [f32],
        scratch: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        self.run(input, None, OutRows::F32(out), scratch, par)
    }

    /// What the plan's finish makes of all images of `input`, or their floats without one, into `out` `[images x OH x OW,
    /// O]`.
    ///
    /// `residual`, of the same shape, is given if and only if the finish adds one. `scratch` has
    /// [`FloatConv2d::scratch_len`] elements or more. Errors if `input` is not floats or not whole images, the kind of
    /// `out` is not that of the finish, or a length does not fit; then `out` is untouched.
    pub fn run<'a>(
        &self,
        input: impl Into<Elements<'a>>,
        residual: Option<Residual<'a>>,
        out: OutRows<'_>,
        scratch: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        match input.into() {
            Elements::Floats(x) => self.run_of(x, residual, out, scratch, par),
            Elements::F16(x) => self.run_of(x, residual, out, scratch, par),
            Elements::Bf16(x) => self.run_of(x, residual, out, scratch, par),
            Elements::Planes(x) => Err(no_floats(x.encoding())),
            Elements::Bytes(x) => Err(no_floats(x.encoding())),
        }
    }

    fn run_of<F: Halves>(
        &self,
        input: &[F],
        residual: Option<Residual<'_>>,
        out: OutRows<'_>,
        scratch: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let pixels = self.check(input.len(), residual.as_ref(), &out, scratch.len(), par)?;
        if pixels == 0 {
            return Ok(());
        }
        let part = |Block { first, count, out }: Block<'_>, scratch: &mut [f32], par: Par<'_>| {
            let (finish, out) = match (&self.finish, out) {
                (None, OutRows::F32(out)) => {
                    return self.floats(input, first, out, scratch, par);
                }
                (Some(finish), out) => (finish, out),
                (None, _) => unreachable!("floats leave a plan without a finish"),
            };
            let (floats, scratch) = scratch.split_at_mut(count * self.o);
            self.floats(input, first, floats, scratch, par)?;
            let residual = residual.map(|residual| some_of(residual, first, count, self.o));
            apply(self.kernels, finish, &*floats, residual, out, par)
        };
        if self.is_product() || self.blocks(pixels) == 1 {
            let (first, count) = (0, pixels);
            return part(Block { first, count, out }, scratch, par);
        }
        let unit = match &self.finish {
            Some(finish) => finish.row_len(&out),
            None => self.o,
        };
        let image = match self.phases.len() {
            1 => pixels,
            _ => self.pixels(1),
        };
        let (mut rest, mut first) = (out, 0);
        let blocks = Mutex::new(std::iter::from_fn(move || {
            let count = self.block().min(image - first % image).min(pixels - first);
            if count == 0 {
                return None;
            }
            let block = Block {
                first,
                count,
                out: rest.take(count * unit),
            };
            first += count;
            Some(block)
        }));
        let threads = par.threads().min(self.blocks(pixels));
        if self.phases[0].is_direct() && threads < par.threads() {
            // Threads share the channels of each block.
            let mut blocks = blocks.into_inner().unwrap_or_else(PoisonError::into_inner);
            return blocks.try_for_each(|block| part(block, scratch, par));
        }
        let take = || blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = |scratch: &mut [f32]| {
            while let Some(block) = take() {
                // What it would refuse has been checked.
                let _done = part(block, scratch, Par::Caller);
            }
        };
        let piece = self.piece(pixels.min(self.block()));
        match piece {
            // Nothing to gather or finish: one pass of the caller.
            0 => worker(scratch),
            _ => par.share(scratch.chunks_mut(piece).take(threads), &worker),
        }
        Ok(())
    }

    /// The output pixels of a run, once all lengths and kinds fit.
    fn check(
        &self,
        input: usize,
        residual: Option<&Residual<'_>>,
        out: &OutRows<'_>,
        scratch: usize,
        par: Par<'_>,
    ) -> Result<usize> {
        let image = self.geometry.pixels() * self.geometry.channels;
        if !input.is_multiple_of(image) {
            let value = format!("{input} elements long");
            let expected = format!("a multiple of {image} (H x W x C)");
            return Err(Error::argument("input", value, expected));
        }
        let images = input / image;
        let pixels = elements("output", &[images, self.size.0, self.size.1])?;
        match (&self.finish, out) {
            (Some(_), OutRows::I32(_)) => {
                return Err(Error::argument("out", "i32", "what the finish makes"));
            }
            (Some(finish), out) => finish.check_all(residual, out, pixels)?,
            (None, OutRows::F32(out)) => {
                if residual.is_some() {
                    return Err(Error::argument("residual", "given", "none for this plan"));
                }
                let expected = elements("out", &[pixels, self.o])?;
                check_len("out", out.len(), expected, "pixels x O")?;
            }
            (None, out) => {
                let name = "output of the plan";
                return Err(Error::argument(name, "f32", out.name()));
            }
        }
        let needed = self.scratch_len(images, par.threads());
        if scratch < needed {
            let value = format!("{scratch} elements long");
            let expected = format!("at least {needed}");
            return Err(Error::argument("scratch", value, expected));
        }
        Ok(pixels)
    }

    /// The floats of the output pixels of `out`, the first of which is number `first` of all images.
    fn floats<F: Halves>(
        &self,
        input: &[F],
        first: usize,
        out: &mut [f32],
        scratch: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        if let [phase] = &self.phases[..] {
            return phase.run(input, first, out, scratch, par);
        }
        let ((height, width), o) = (self.size, self.o);
        let (image, from) = (first / (height * width), first / width % height);
        let rows = out.len() / o / width;
        let (some, scratch) = scratch.split_at_mut(self.phase_pixels() * o);
        for (i, of_phase) in self.phases.iter().enumerate() {
            let phase = [i / self.steps[1], i % self.steps[1]];
            let across = of_phase.size().1;
            // Rows of the phase among these; `from` is a multiple of the step.
            let lines = rows.saturating_sub(phase[0]).div_ceil(self.steps[0]);
            if lines * across == 0 {
                continue;
            }
            let start = image * of_phase.pixels() + from / self.steps[0] * across;
            let some = &mut some[..lines * across * o];
            of_phase.run(input, start, some, scratch, par)?;
            for (j, pixel) in some.chunks_exact(o).enumerate() {
                let y = j / across * self.steps[0] + phase[0];
                let x = j % across * self.steps[1] + phase[1];
                out[(y * width + x) * o..][..o].copy_from_slice(pixel);
            }
        }
        Ok(())
    }

    /// What runs, for people.
    pub fn describe(&self) -> String {
        let some = self.phases.iter().find(|phase| phase.k() > 0);
        let text = some.unwrap_or(&self.phases[0]).describe();
        match self.phases.len() {
            1 => text,
            n => format!("{text}, {n} phases"),
        }
    }
}

/// `count` pixels of a residual of `o` channels, from pixel `first` on.
fn some_of(residual: Residual<'_>, first: usize, count: usize, o: usize) -> Residual<'_> {
    let some = first * o..(first + count) * o;
    let rows = first..first + count;
    match residual {
        Residual::Floats(all) => Residual::Floats(&all[some]),
        Residual::F16(all) => Residual::F16(&all[some]),
        Residual::Bf16(all) => Residual::Bf16(&all[some]),
        Residual::Planes { codes, scale } => {
            let codes = codes.slice_rows(rows);
            Residual::Planes { codes, scale }
        }
        Residual::Bytes { codes, scale } => {
            let codes = codes.slice_rows(rows);
            Residual::Bytes { codes, scale }
        }
    }
}

fn no_floats(encoding: crate::bits::Encoding) -> Error {
    let value = format!("{encoding} codes");
    Error::argument("input", value, "floats: f32, f16 or bf16")
}

impl fmt::Debug for FloatConv2d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FloatConv2d({:?}, {})", self.geometry, self.describe())
    }
}
