//! What becomes of a block of sums: the seam between a convolution and its epilogue.

use crate::bits::PackedMut;
use crate::kernels::Kernels;
use crate::ops::Thresholds;

/// Makes the output of some pixels of their sums.
pub(in crate::ops) trait Finish: Sync {
    /// What the output is made of: floats, integers, words or bytes.
    type Element: Send;

    /// Elements of an output pixel, 1 or more.
    fn elements(&self) -> usize;

    /// The output of the pixels from `first` on, numbered across the images of the run. `sums` is `[pixels, O]` and
    /// may be used as working space; `out` holds as many pixels.
    fn run(&self, kernels: &Kernels, sums: &mut [i32], first: usize, out: &mut [Self::Element]);
}

/// The sums themselves.
pub(super) struct Sums {
    pub(super) o: usize,
}

impl Finish for Sums {
    type Element = i32;

    fn elements(&self) -> usize {
        self.o
    }

    fn run(&self, _: &Kernels, sums: &mut [i32], _: usize, out: &mut [i32]) {
        out.copy_from_slice(sums);
    }
}

/// `scale * sum + bias`, the product rounded before the sum.
pub(super) struct Scaled<'a> {
    pub(super) scale: &'a [f32],
    pub(super) bias: &'a [f32],
}

impl Finish for Scaled<'_> {
    type Element = f32;

    fn elements(&self) -> usize {
        self.scale.len()
    }

    fn run(&self, _: &Kernels, sums: &mut [i32], _: usize, out: &mut [f32]) {
        let o = self.scale.len();
        for (sums, out) in sums.chunks_exact(o).zip(out.chunks_exact_mut(o)) {
            let factors = self.scale.iter().zip(self.bias);
            for ((out, &sum), (scale, bias)) in out.iter_mut().zip(sums).zip(factors) {
                *out = sum as f32 * scale + bias;
            }
        }
    }
}

/// Codes of the next layer, in planes.
pub(super) struct Codes<'a>(pub(super) &'a Thresholds);

impl Finish for Codes<'_> {
    type Element = u32;

    fn elements(&self) -> usize {
        self.0.encoding().planes() * self.0.n().div_ceil(32)
    }

    fn run(&self, kernels: &Kernels, sums: &mut [i32], _: usize, out: &mut [u32]) {
        let rows = out.len() / self.elements();
        let out = PackedMut::new(self.0.encoding(), rows, self.0.n(), out);
        let done = out.and_then(|out| self.0.run(kernels, sums, out));
        done.expect("a block is cut to whole pixels of the thresholds' shape");
    }
}
