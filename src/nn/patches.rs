//! Patches of images as the rows of a matrix, and back: what turns a convolution in floats into products.
//!
//! Row (m, oy, ox) of group g holds the inputs that output pixel (oy, ox) of image m sees, in the order of a filter's
//! weights: `[KH, KW, C / groups]`; outside of the image stand zeros.

use std::cell::Cell;
use std::ops::Range;

use crate::nn::sgemm::Matrix;
use crate::ops::{Geometry, Padding};

thread_local! {
    /// Memory of a thread for patches, used again from block to block and from step to step.
    static MEMORY: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with `len` floats of the thread's memory, whatever they hold.
pub(super) fn with_memory<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut memory = MEMORY.take();
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    let result = work(&mut memory[..len]);
    MEMORY.set(memory);
    result
}

/// Where taps lie.
pub(super) struct Patches<'a> {
    geometry: &'a Geometry,
    /// Rows and columns of the output, OH and OW.
    size: (usize, usize),
}

/// Output pixels that stand beside each other.
struct Stretch {
    /// The first one's place in the block, and their number.
    at: usize,
    len: usize,
    image: usize,
    oy: usize,
    ox: usize,
}

impl<'a> Patches<'a> {
    pub(super) fn new(geometry: &'a Geometry, size: (usize, usize)) -> Self {
        Patches { geometry, size }
    }

    /// Elements of a row, K = KH x KW x C / groups.
    pub(super) fn len(&self) -> usize {
        let g = self.geometry;
        g.kernel[0] * g.kernel[1] * (g.channels / g.groups)
    }

    /// Elements of an image, H x W x C.
    fn per_image(&self) -> usize {
        let g = self.geometry;
        g.height * g.width * g.channels
    }

    /// The stretches of `pixels`, which are counted through the images.
    fn stretches(&self, pixels: Range<usize>) -> impl Iterator<Item = Stretch> + use<> {
        let (oh, ow) = self.size;
        let Range { start, end } = pixels;
        let mut next = start;
        std::iter::from_fn(move || {
            let pixel = next;
            let row = pixel / ow;
            let stretch = Stretch {
                at: pixel - start,
                len: (ow - pixel % ow).min(end.checked_sub(pixel)?),
                image: row / oh,
                oy: row % oh,
                ox: pixel % ow,
            };
            next += stretch.len;
            (stretch.len > 0).then_some(stretch)
        })
    }

    /// The row of the image that tap row `ky` of output row `oy` lies in; `None` outside.
    fn row(&self, oy: usize, ky: usize) -> Option<usize> {
        let g = self.geometry;
        let position = oy * g.stride[0] + ky * g.dilation[0];
        let row = position.checked_sub(g.padding.top)?;
        (row < g.height).then_some(row)
    }

    /// Calls `run(pixel of the block, start in the row, start in the images, elements)` for each stretch of neighbours
    /// of each pixel that lies inside of its image. Images are one behind the other.
    fn runs(
        &self,
        pixels: Range<usize>,
        group: usize,
        mut run: impl FnMut(usize, usize, usize, usize),
    ) {
        let g = self.geometry;
        let [kh, kw] = g.kernel;
        let (c, left) = (g.channels / g.groups, g.padding.left);
        for stretch in self.stretches(pixels) {
            let image = stretch.image * self.per_image() + group * c;
            for i in 0..stretch.len {
                let (pixel, x) = (stretch.at + i, (stretch.ox + i) * g.stride[1]);
                for ky in 0..kh {
                    let Some(iy) = self.row(stretch.oy, ky) else {
                        continue;
                    };
                    let row = image + iy * g.width * g.channels;
                    if g.groups == 1 && g.dilation[1] == 1 {
                        // The taps inside are neighbours.
                        let first = left.saturating_sub(x).min(kw);
                        let end = (g.width + left).saturating_sub(x).min(kw);
                        if first < end {
                            let from = row + (x + first - left) * c;
                            run(pixel, (ky * kw + first) * c, from, (end - first) * c);
                        }
                        continue;
                    }
                    for kx in 0..kw {
                        let ix = (x + kx * g.dilation[1]).checked_sub(left);
                        if let Some(ix) = ix.filter(|ix| *ix < g.width) {
                            run(pixel, (ky * kw + kx) * c, row + ix * g.channels, c);
                        }
                    }
                }
            }
        }
    }

    /// The rows of output pixels `pixels`, which are counted through `images` `[M, H, W, C]`, into `memory` of
    /// pixels x K floats: a matrix `[pixels, K]`, which lies in memory as it is quickly made.
    pub(super) fn gather<'m>(
        &self,
        images: &[f32],
        pixels: Range<usize>,
        group: usize,
        memory: &'m mut [f32],
    ) -> Matrix<'m> {
        let (n, k) = (pixels.len(), self.len());
        if self.geometry.channels == 1 && self.geometry.stride[1] == 1 {
            self.gather_taps(images, pixels, memory);
            return Matrix::new(memory, k, n).expect("K x pixels").t();
        }
        if self.geometry.padding != Padding::default() {
            memory.fill(0.0);
        }
        self.runs(pixels, group, |pixel, to, from, len| {
            copy(
                &mut memory[pixel * k + to..][..len],
                &images[from..from + len],
            );
        });
        Matrix::new(memory, n, k).expect("pixels x K")
    }

    /// The patches of images of one channel and stride 1, transposed: `[K, pixels]`. What a tap sees along a row of
    /// pixels is a row of the image.
    fn gather_taps(&self, images: &[f32], pixels: Range<usize>, memory: &mut [f32]) {
        let g = self.geometry;
        let ([kh, kw], left, n) = (g.kernel, g.padding.left, pixels.len());
        for stretch in self.stretches(pixels) {
            let (len, ox, image) = (stretch.len, stretch.ox, stretch.image * self.per_image());
            for ky in 0..kh {
                let row = self.row(stretch.oy, ky).map(|iy| image + iy * g.width);
                for kx in 0..kw {
                    let line = &mut memory[(ky * kw + kx) * n + stretch.at..][..len];
                    let Some(row) = row else {
                        line.fill(0.0);
                        continue;
                    };
                    // Pixel ox + i sees column ox + i + shift - left.
                    let shift = kx * g.dilation[1];
                    let first = left.saturating_sub(ox + shift).min(len);
                    let end = (g.width + left).saturating_sub(ox + shift);
                    let end = end.clamp(first, len);
                    if first > 0 {
                        line[..first].fill(0.0);
                    }
                    if first < end {
                        let from = row + ox + first + shift - left;
                        copy(&mut line[first..end], &images[from..from + end - first]);
                    }
                    if end < len {
                        line[end..].fill(0.0);
                    }
                }
            }
        }
    }

    /// Adds the rows `patches` `[pixels, K]` to where they came from in `images` `[M, H, W, C]`.
    pub(super) fn scatter(
        &self,
        patches: &[f32],
        pixels: Range<usize>,
        group: usize,
        images: &mut [f32],
    ) {
        let k = self.len();
        self.runs(pixels, group, |pixel, from, to, len| {
            let patch = &patches[pixel * k + from..][..len];
            for (sum, d) in images[to..to + len].iter_mut().zip(patch) {
                *sum += d;
            }
        });
    }
}

/// Copies `from` to `to`, as long: what is short without a call.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    let len = from.len().min(to.len());
    if !(4..=64).contains(&len) {
        return to[..len].copy_from_slice(&from[..len]);
    }
    let mut four = |at: usize| {
        let from: [f32; 4] = from[at..at + 4].try_into().expect("four");
        to[at..at + 4].copy_from_slice(&from);
    };
    let mut at = 0;
    while at + 4 <= len {
        four(at);
        at += 4;
    }
    // The last ones, some of them for the second time.
    four(len - 4);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;

    #[test]
    fn rows_hold_what_each_pixel_sees_and_go_back_to_it() {
        let rng = Rng::new(3);
        for case in 0..400u64 {
            let draw = |i: u64, below: u32| rng.below(case * 20 + i, below) as usize;
            let channels = [1, 1, 2, 6, 20][draw(0, 5)];
            let g = Geometry {
                height: 3 + draw(1, 9),
                width: 3 + draw(2, 30),
                channels,
                kernel: [1 + draw(3, 3), 1 + draw(4, 3)],
                stride: [1 + draw(5, 2), 1 + draw(6, 2)],
                dilation: [1 + draw(7, 2), 1 + draw(8, 2)],
                padding: Padding {
                    top: draw(9, 3),
                    left: draw(10, 3),
                    bottom: draw(11, 3),
                    right: 2 + draw(12, 3),
                },
                groups: if draw(13, 2) == 0 { channels } else { 1 },
            };
            let Ok(size) = g.output() else {
                continue;
            };
            let patches = Patches::new(&g, size);
            let (all, k, c) = (2 * size.0 * size.1, patches.len(), channels / g.groups);
            let start = draw(14, all as u32);
            let pixels = start..start + draw(15, (all - start + 1) as u32);
            let group = draw(16, g.groups as u32);
            let mut images = vec![0.0; 2 * g.height * g.width * channels];
            rng.at(case as u32, 1).fill_normal(&mut images, 1.0);
            let mut memory = vec![f32::NAN; pixels.len() * k];
            let mut expected = vec![0.0; pixels.len() * k];
            let mut back = images.clone();
            for (i, e) in expected.iter_mut().enumerate() {
                let (pixel, tap, ch) = (pixels.start + i / k, i % k / c, i % c);
                let (oy, ox) = (pixel / size.1 % size.0, pixel % size.1);
                let y = oy * g.stride[0] + tap / g.kernel[1] * g.dilation[0];
                let x = ox * g.stride[1] + tap % g.kernel[1] * g.dilation[1];
                let y = y.wrapping_sub(g.padding.top);
                let x = x.wrapping_sub(g.padding.left);
                if y < g.height && x < g.width {
                    let m = pixel / size.1 / size.0;
                    let at = ((m * g.height + y) * g.width + x) * channels + group * c + ch;
                    *e = images[at];
                    back[at] += (i % 7) as f32;
                }
            }
            let rows = patches.gather(&images, pixels.clone(), group, &mut memory);
            let got: Vec<f32> = rows.elements().collect();
            assert_eq!(got, expected, "{g:?} {pixels:?}");
            let d: Vec<f32> = (0..expected.len()).map(|i| (i % 7) as f32).collect();
            let mut sums = images.clone();
            patches.scatter(&d, pixels, group, &mut sums);
            for (got, expected) in sums.iter().zip(&back) {
                assert!((got - expected).abs() < 1e-4, "{g:?}");
            }
        }
    }
}
