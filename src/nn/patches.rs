//! Patches of an image as the rows of a matrix, and back: what turns a convolution in floats into products.
//!
//! Row (oy, ox) of group g holds the inputs that output pixel (oy, ox) sees, in the order of a filter's weights:
//! `[KH, KW, C / groups]`; outside of the image stand zeros.

use std::ops::Range;

use crate::ops::Geometry;

/// Where taps lie.
pub(super) struct Patches<'a> {
    geometry: &'a Geometry,
    /// Columns of the output, OW.
    width: usize,
}

impl<'a> Patches<'a> {
    pub(super) fn new(geometry: &'a Geometry, output_width: usize) -> Self {
        Patches {
            geometry,
            width: output_width,
        }
    }

    /// Elements of a row: KH x KW x C / groups.
    pub(super) fn len(&self) -> usize {
        let g = self.geometry;
        g.kernel[0] * g.kernel[1] * (g.channels / g.groups)
    }

    /// Calls `run(start in the row, start in the image, elements)` for each stretch of neighbours of output pixel
    /// `pixel` that lies inside of the image.
    fn runs(&self, pixel: usize, group: usize, mut run: impl FnMut(usize, usize, usize)) {
        let g = self.geometry;
        let [kh, kw] = g.kernel;
        let per_tap = g.channels / g.groups;
        let (oy, ox) = (pixel / self.width, pixel % self.width);
        let at = |o: usize, axis: usize, k: usize, before: usize, size: usize| {
            let position = o * g.stride[axis] + k * g.dilation[axis];
            position.checked_sub(before).filter(|i| *i < size)
        };
        for ky in 0..kh {
            let Some(iy) = at(oy, 0, ky, g.padding.top, g.height) else {
                continue;
            };
            let row = iy * g.width * g.channels + group * per_tap;
            let column = |kx: usize| at(ox, 1, kx, g.padding.left, g.width);
            if g.groups == 1 && g.dilation[1] == 1 {
                // The taps inside are neighbours: one stretch.
                let Some(first) = (0..kw).find(|kx| column(*kx).is_some()) else {
                    continue;
                };
                let ix = column(first).expect("it was found inside");
                let taps = (kw - first).min(g.width - ix);
                run(
                    (ky * kw + first) * per_tap,
                    row + ix * per_tap,
                    taps * per_tap,
                );
                continue;
            }
            for kx in 0..kw {
                if let Some(ix) = column(kx) {
                    run((ky * kw + kx) * per_tap, row + ix * g.channels, per_tap);
                }
            }
        }
    }

    /// The rows of output pixels `pixels` of `image` `[H, W, C]`, into `out` `[pixels.len(), K]`.
    pub(super) fn gather(
        &self,
        image: &[f32],
        pixels: Range<usize>,
        group: usize,
        out: &mut [f32],
    ) {
        out.fill(0.0);
        for (pixel, row) in pixels.zip(out.chunks_exact_mut(self.len())) {
            self.runs(pixel, group, |to, from, len| {
                row[to..to + len].copy_from_slice(&image[from..from + len]);
            });
        }
    }

    /// Adds the rows `patches` `[pixels.len(), K]` to where they came from in `image` `[H, W, C]`.
    pub(super) fn scatter(
        &self,
        patches: &[f32],
        pixels: Range<usize>,
        group: usize,
        image: &mut [f32],
    ) {
        for (pixel, row) in pixels.zip(patches.chunks_exact(self.len())) {
            self.runs(pixel, group, |from, to, len| {
                for (sum, d) in image[to..to + len].iter_mut().zip(&row[from..from + len]) {
                    *sum += d;
                }
            });
        }
    }
}
