//! Running a plan: blocks of output pixels, given to threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::finish::Finish;
use super::{Conv2d, LEAST_ROWS};
use crate::error::{Error, Result};
use crate::ops::{Activations, Par};
use crate::shape::{check_len, elements};

impl Conv2d {
    /// Elements of scratch of one thread.
    pub(super) fn piece(&self) -> usize {
        match &self.phases[..] {
            [product] => self.block * self.o + product.scratch(self.block),
            phases => {
                let rows = self.phase_pixels();
                let most = phases.iter().map(|p| p.scratch(rows)).max();
                (self.block * self.size.1 + rows) * self.o + most.unwrap_or(0)
            }
        }
    }

    /// Pixels of a phase in a block of rows of a transposed convolution.
    fn phase_pixels(&self) -> usize {
        self.block / self.steps[0] * self.size.1.div_ceil(self.steps[1])
    }

    /// What `finish` makes of images `images`.
    pub(in crate::ops) fn run_to<F: Finish>(
        &self,
        input: Activations<'_>,
        images: Range<usize>,
        out: &mut [F::Element],
        scratch: &mut [i32],
        par: Par<'_>,
        finish: &F,
    ) -> Result<()> {
        let input = self.check(input, &images, scratch.len(), par)?;
        let (unit, pixels) = (finish.elements(), self.size.0 * self.size.1);
        let len = elements("out", &[images.len(), pixels, unit])?;
        check_len(
            "out",
            out.len(),
            len,
            "images x OH x OW x elements of a pixel",
        )?;
        let pixels = images.len() * pixels;
        if pixels == 0 {
            return Ok(());
        }
        match &self.phases[..] {
            [product] => {
                let rows = self.rows(pixels, par.threads());
                let blocks = out.chunks_mut(rows * unit).enumerate();
                let blocks = blocks.map(|(i, out)| (i * rows, out));
                self.work(blocks, scratch, par, &|first, out, scratch| {
                    let count = out.len() / unit;
                    let (sums, scratch) = scratch.split_at_mut(count * self.o);
                    product.run(self.kernels, input, first..first + count, sums, scratch);
                    finish.run(self.kernels, sums, first, out);
                });
            }
            _ => {
                let image = self.size.0 * self.size.1;
                let rows = self.block * self.size.1;
                let blocks = out.chunks_mut(image * unit).enumerate();
                let blocks = blocks.flat_map(|(i, out)| {
                    let blocks = out.chunks_mut(rows * unit).enumerate();
                    blocks.map(move |(j, out)| (i * image + j * rows, out))
                });
                self.work(blocks, scratch, par, &|first, out, scratch| {
                    let count = out.len() / unit;
                    let (sums, scratch) = scratch.split_at_mut(count * self.o);
                    self.all_phases(input, first, sums, scratch);
                    finish.run(self.kernels, sums, first, out);
                });
            }
        }
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
        if encoding != self.activation {
            let expected = format!("{} codes, as the plan says", self.activation);
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
        if threads > 1 {
            let most = pixels.div_ceil(LEAST_ROWS);
            blocks = blocks.max(most.min(4 * threads)).next_multiple_of(threads);
        }
        let tile = self.kernels.mr();
        pixels
            .div_ceil(blocks)
            .next_multiple_of(tile)
            .min(self.block)
    }

    /// Calls `part(first pixel, out, scratch)` for all blocks, on the threads of `par`, each with its piece
    /// of `scratch`.
    fn work<'o, T: Send + 'o>(
        &self,
        blocks: impl Iterator<Item = (usize, &'o mut [T])> + Send,
        scratch: &mut [i32],
        par: Par<'_>,
        part: &(impl Fn(usize, &mut [T], &mut [i32]) + Sync),
    ) {
        let (piece, threads) = (self.piece(), par.threads());
        if threads == 1 {
            for (first, out) in blocks {
                part(first, out, scratch);
            }
            return;
        }
        let blocks = Mutex::new(blocks);
        let take = || blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = |scratch: &mut [i32]| {
            while let Some((first, out)) = take() {
                part(first, out, scratch);
            }
        };
        par.enter(|| spread(par, piece, &mut scratch[..piece * threads], &worker));
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
            product.run(self.kernels, input, start..start + count, some, scratch);
            for (j, sum) in some.chunks_exact(o).enumerate() {
                let y = j / across * self.steps[0] + phase[0];
                let x = j % across * self.steps[1] + phase[1];
                sums[(y * width + x) * o..][..o].copy_from_slice(sum);
            }
        }
    }
}

/// Gives each thread a piece of `scratch` and lets it work.
fn spread(par: Par<'_>, piece: usize, scratch: &mut [i32], worker: &(impl Fn(&mut [i32]) + Sync)) {
    let pieces = scratch.len() / piece.max(1);
    if pieces <= 1 {
        worker(scratch);
    } else {
        let (mine, yours) = scratch.split_at_mut(pieces / 2 * piece);
        par.join(
            || spread(par, piece, mine, worker),
            || spread(par, piece, yours, worker),
        );
    }
}
