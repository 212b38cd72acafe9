//! Pooling of floats of 16 bits, which pass through the stack as f32, and sums of floats.

use super::{AveragePool, CHUNK, MaxPool};
use crate::error::Result;
use crate::kernels::{Kernels, RowTask};
use crate::ops::{Elements, Par};
use crate::quant::Float;
use crate::shape::{check_len, elements};

impl MaxPool {
    /// As [`MaxPool::run_f32`], of 16-bit floats.
    pub fn run_halves<'a, T: Float>(
        &self,
        kernels: &Kernels,
        input: &'a [T],
        out: &mut [T],
        par: Par<'_>,
    ) -> Result<()>
    where
        Elements<'a>: From<&'a [T]>,
    {
        let pixels = self.0.check(&input.into())?;
        let row = self.0.geometry.channels;
        let len = elements("output", &[pixels, row])?;
        check_len("out", out.len(), len, "images x OH x OW x C")?;
        self.greatest(input, row, out, row, par, |step, from, into| {
            let (mut wide, mut best) = ([0f32; CHUNK], [0f32; CHUNK]);
            for (i, into) in into.chunks_exact_mut(row).enumerate() {
                let from = &from[i * step..][..row];
                for (from, into) in from.chunks(CHUNK).zip(into.chunks_mut(CHUNK)) {
                    let (wide, best) = (&mut wide[..from.len()], &mut best[..from.len()]);
                    T::widen(from, wide);
                    T::widen(into, best);
                    kernels.row(RowTask::MaxFloats {
                        pixel: from.len(),
                        step: from.len(),
                        from: wide,
                        into: best,
                    });
                    T::narrow(best, into);
                }
            }
        });
        Ok(())
    }
}

impl AveragePool {
    /// Adds the floats of output pixel `at`, from channel `first` on.
    pub(super) fn add<T: Float>(
        &self,
        kernels: &Kernels,
        floats: &[T],
        at: usize,
        first: usize,
        out: &mut [f32],
    ) {
        let mut wide = [0f32; CHUNK];
        let wide = &mut wide[..out.len()];
        for pixel in self.0.pixels(at).1 {
            let from = &floats[pixel * self.0.geometry.channels + first..][..out.len()];
            let from = match T::as_f32s(from) {
                Some(from) => from,
                None => {
                    T::widen(from, wide);
                    &*wide
                }
            };
            kernels.row(RowTask::AddFloats { from, into: out });
        }
    }
}
