//! Running a plan: blocks of output pixels, given to threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::{Conv2d, LEAST_ROWS};
use crate::error::{Error, Result};
use crate::ops::{Activations, OutRows, Par, Residual};
use crate::shape::elements;

/// Output pixels that are made together, numbered across the images of the run.
struct Block<'a> {
    first: usize,
    count: usize,
    out: OutRows<'a>,
}

impl Conv2d {
    /// Elements of scratch of one thread.
    pub(super) fn piece(&self) -> usize {
        match &self.phases[..] {
            [product] => {
                let scratch = product.scratch(self.block);
                if !product.needs_sums() {
                    return scratch;
                }
                self.block * self.o + scratch.max(self.finish.scratch_len())
            }
            phases => {
                let rows = self.phase_pixels();
                let most = phases.iter().map(|p| p.scratch(rows)).max();
                let scratch = rows * self.o + most.unwrap_or(0);
                self.block * self.size.1 * self.o + scratch.max(self.finish.scratch_len())
            }
        }
    }

    /// Pixels of a phase in a block of rows of a transposed convolution.
    fn phase_pixels(&self) -> usize {
        self.block / self.steps[0] * self.size.1.div_ceil(self.steps[1])
    }

    /// What the plan's finish makes of images `images`, or their sums if `out` is [`OutRows::I32`].
    ///
    /// `out` is `[images.len() x OH x OW, O]`; `residual`, of the same shape, is given if and only if the finish adds
    /// one. `scratch` has [`Conv2d::scratch_len`] elements or more for the threads of `par`. Errors if the encoding or
    /// channels of the input differ from the plan's, its rows are not whole images, the range leaves them, the kind
    /// of `out` is not that of the finish, or a length is wrong; then `out` is untouched.
    pub fn run<'a>(
        &self,
        input: impl Into<Activations<'a>>,
        images: Range<usize>,
        residual: Option<Residual<'a>>,
        out: OutRows<'_>,
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        let input = self.check(input.into(), &images, scratch.len(), par)?;
        let pixels = elements("output", &[images.len(), self.size.0, self.size.1])?;
        self.finish.check_all(residual.as_ref(), &out, pixels)?;
        if pixels == 0 {
            return Ok(());
        }
        let part = |Block { first, count, out }: Block<'_>, scratch: &mut [i32], par: Par<'_>| {
            let (kernels, block) = (self.kernels, first..first + count);
            match (&self.phases[..], out) {
                ([product], OutRows::I32(out)) => {
                    product.run(kernels, input, block, out, scratch, par);
                }
                ([product], OutRows::Codes(out)) if product.makes_codes(par) => {
                    let thresholds = self.finish.thresholds().expect("what makes codes");
                    let out = thresholds.code_rows(out);
                    product.run_codes(kernels, input, block, out, scratch);
                }
                (phases, out) => {
                    let (sums, scratch) = scratch.split_at_mut(count * self.o);
                    match phases {
                        [product] => product.run(kernels, input, block, sums, scratch, par),
                        _ => self.all_phases(input, first, sums, scratch),
                    }
                    self.finish
                        .run(kernels, sums, first, residual, out, scratch);
                }
            }
        };
        // Blocks of pixels; of a transposed convolution, whole rows of one image.
        let (rows, image) = match self.phases.len() {
            1 => (self.rows(pixels, par.threads()), pixels),
            _ => (self.block * self.size.1, self.size.0 * self.size.1),
        };
        if pixels <= rows.min(image) {
            // Threads share the channels of the only block.
            let (first, count) = (0, pixels);
            part(Block { first, count, out }, scratch, par);
            return Ok(());
        }
        let unit = self.finish.row_len(&out);
        let (mut rest, mut first) = (out, 0);
        let blocks = std::iter::from_fn(move || {
            let count = rows.min(image - first % image).min(pixels - first);
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
        });
        self.work(blocks, scratch, par, &part);
        Ok(())
    }

    /// The images to work on, once everything fits.
    fn check<'a>(
        &self,
        input: Activations<'a>,
        images: &Range<usize>,
        scratch: usize,
        par: Par<'_>,
    ) -> Result<Activations<'a>> {
        let (encoding, rows, channels) = input.shape();
        if encoding != self.activation() {
            let expected = format!("{} codes, as the plan says", self.activation());
            return Err(Error::argument("input", encoding, expected));
        }
        if channels != self.geometry.channels {
            let expected = self.geometry.channels;
            return Err(Error::argument("channels of the input", channels, expected));
        }
        let image = self.geometry.pixels();
        if !rows.is_multiple_of(image) {
            let expected = format!("a multiple of {image} (H x W)");
            return Err(Error::argument("rows of the input", rows, expected));
        }
        let there = rows / image;
        if images.start > images.end || images.end > there {
            let expected = format!("a range inside 0..{there}");
            return Err(Error::argument(
                "images",
                format_args!("{images:?}"),
                expected,
            ));
        }
        let needed = self.scratch_len(par.threads());
        if scratch < needed {
            let value = format!("{scratch} elements long");
            let expected = format!("at least {needed}");
            return Err(Error::argument("scratch", value, expected));
        }
        Ok(input.slice_rows(images.start * image..images.end * image))
    }

    /// Pixels of a block, so that blocks are equal, whole tiles, and enough for all threads.
    fn rows(&self, pixels: usize, threads: usize) -> usize {
        let mut blocks = pixels.div_ceil(self.block);
        // Few pixels stay together, and threads share their channels: weights then pass by once.
        if threads > 1 && pixels > LEAST_ROWS {
            let most = pixels.div_ceil(LEAST_ROWS);
            blocks = blocks.max(most.min(4 * threads)).next_multiple_of(threads);
        }
        pixels
            .div_ceil(blocks)
            .next_multiple_of(self.unit)
            .min(self.block)
    }

    /// Calls `part` for all blocks, on the threads of `par`, each with its piece of `scratch`.
    fn work<'o>(
        &self,
        blocks: impl Iterator<Item = Block<'o>> + Send,
        scratch: &mut [i32],
        par: Par<'_>,
        part: &(impl Fn(Block<'_>, &mut [i32], Par<'_>) + Sync),
    ) {
        let (piece, threads) = (self.piece(), par.threads());
        if threads == 1 {
            for block in blocks {
                part(block, scratch, Par::Caller);
            }
            return;
        }
        let blocks = Mutex::new(blocks);
        let take = || blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = |scratch: &mut [i32]| {
            while let Some(block) = take() {
                part(block, scratch, Par::Caller);
            }
        };
        match piece {
            0 => worker(scratch),
            _ => par.share(scratch.chunks_mut(piece).take(threads), &worker),
        }
    }

    /// The sums of whole rows of output from pixel `first` on, all phases of them.
    fn all_phases(
        &self,
        input: Activations<'_>,
        first: usize,
        sums: &mut [i32],
        scratch: &mut [i32],
    ) {
        let ((height, width), o) = (self.size, self.o);
        let (image, from) = (first / (height * width), first / width % height);
        let rows = sums.len() / o / width;
        let (some, scratch) = scratch.split_at_mut(self.phase_pixels() * o);
        for (i, product) in self.phases.iter().enumerate() {
            let phase = [i / self.steps[1], i % self.steps[1]];
            let (_, across) = product.size();
            // Rows of the phase among these; `from` is a multiple of the step.
            let lines = rows.saturating_sub(phase[0]).div_ceil(self.steps[0]);
            let count = lines * across;
            if count == 0 {
                continue;
            }
            let start = image * product.pixels() + from / self.steps[0] * across;
            let some = &mut some[..count * o];
            let block = start..start + count;
            product.run(self.kernels, input, block, some, scratch, Par::Caller);
            for (j, sum) in some.chunks_exact(o).enumerate() {
                let y = j / across * self.steps[0] + phase[0];
                let x = j % across * self.steps[1] + phase[1];
                sums[(y * width + x) * o..][..o].copy_from_slice(sum);
            }
        }
    }
}
