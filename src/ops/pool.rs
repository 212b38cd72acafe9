//! Pooling of packed codes: the greatest, or the mean, of a window of pixels.

use std::ops::Range;

use super::Par;
use super::conv::geometry::{Axis, Geometry};
use super::finish::values;
use crate::bits::{Encoding, PackedMut, PackedRef};
use crate::error::{Error, Result};
use crate::kernels::{Kernels, RowTask, Steps};
use crate::quant::ActQuantizer;
use crate::shape::{check_len, elements, words};

/// Channels that a mean takes at a time, on the stack; a multiple of 32.
const CHUNK: usize = 256;

/// What both kinds of pooling know of their windows.
struct Windows {
    geometry: Geometry,
    encoding: Encoding,
    rows: Axis,
    cols: Axis,
}

impl Windows {
    fn new(geometry: Geometry, encoding: Encoding) -> Result<Self> {
        let (height, width) = geometry.output()?;
        if geometry.groups != 1 {
            return Err(Error::argument("groups", geometry.groups, "1 for pooling"));
        }
        if encoding == Encoding::Ternary {
            let expected = "bipolar, u1..u8 or s1..s8";
            return Err(Error::argument("encoding", encoding, expected));
        }
        let (rows, cols) = (geometry.axis(0, height), geometry.axis(1, width));
        for axis in [&rows, &cols] {
            if (0..axis.count()).any(|j| axis.inside(j).is_empty()) {
                let value = format!("{:?}", geometry.padding);
                let expected = "a pixel of the image in every window";
                return Err(Error::argument("padding", value, expected));
            }
        }
        Ok(Windows {
            geometry,
            encoding,
            rows,
            cols,
        })
    }

    /// Images in `input`, and the output pixels of all of them.
    fn check(&self, input: &PackedRef<'_>) -> Result<usize> {
        if input.encoding() != self.encoding || input.cols() != self.geometry.channels {
            let value = format!("{} with {} channels", input.encoding(), input.cols());
            let expected = format!("{} with {}", self.encoding, self.geometry.channels);
            return Err(Error::argument("input", value, expected));
        }
        let pixels = self.geometry.height * self.geometry.width;
        if !input.rows().is_multiple_of(pixels) {
            let expected = format!("a multiple of {pixels} (H x W)");
            return Err(Error::argument("rows of the input", input.rows(), expected));
        }
        let size = [input.rows() / pixels, self.rows.count(), self.cols.count()];
        elements("output", &size)
    }

    /// Output pixel `at`, numbered across the images: the rows of the input that its window covers.
    fn pixels(&self, at: usize) -> (Range<usize>, impl Iterator<Item = usize> + '_) {
        let (width, per_image) = (self.cols.count(), self.rows.count() * self.cols.count());
        let (image, y, x) = (at / per_image, at % per_image / width, at % width);
        let geometry = self.geometry;
        let down = self.rows.inside(y);
        let all = down.clone().flat_map(move |ky| {
            let row = image * geometry.height + self.rows.at(y, ky);
            let across = self.cols.inside(x);
            across.map(move |kx| row * geometry.width + self.cols.at(x, kx))
        });
        (0..down.len() * self.cols.inside(x).len(), all)
    }
}

/// A plan for max-pooling of codes in planes: per channel the greatest of a window, by integer, pads aside.
pub struct MaxPool(Windows);

impl MaxPool {
    /// Windows of `geometry.kernel` over images of codes of `encoding`.
    ///
    /// Errors if the geometry is refused ([`Geometry::output`]) or has groups, if a window holds nothing but padding, or
    /// if the encoding is ternary.
    pub fn new(geometry: Geometry, encoding: Encoding) -> Result<Self> {
        Windows::new(geometry, encoding).map(MaxPool)
    }

    /// Rows and columns of the output.
    pub fn output(&self) -> (usize, usize) {
        (self.0.rows.count(), self.0.cols.count())
    }

    /// Pools `input` `[images x H x W, C]` into `out` `[images x OH x OW, C]`, of the same encoding.
    ///
    /// Errors if an encoding or a shape is not the plan's; then `out` is untouched.
    pub fn run<'a>(
        &self,
        kernels: &Kernels,
        input: PackedRef<'_>,
        out: impl Into<PackedMut<'a>>,
        par: Par<'_>,
    ) -> Result<()> {
        let out = out.into();
        let pixels = self.0.check(&input)?;
        check_codes(&out, self.0.encoding, pixels, self.0.geometry.channels)?;
        let row_words = input.row_words();
        if row_words == 0 {
            return Ok(());
        }
        let planes = self.0.encoding.planes();
        let signed = matches!(self.0.encoding, Encoding::Signed(_));
        let [kh, kw] = self.0.geometry.kernel;
        let cost = kh * kw * row_words;
        par.rows(out.words(), row_words, cost, &|at, into: &mut [u32]| {
            for (i, pixel) in self.0.pixels(at).1.enumerate() {
                let from = &input.words()[pixel * row_words..][..row_words];
                if i == 0 {
                    into.copy_from_slice(from);
                } else {
                    kernels.row(RowTask::Max {
                        planes,
                        signed,
                        from,
                        into,
                    });
                }
            }
        });
        Ok(())
    }
}

/// A plan for average-pooling of codes in planes: per channel the mean of a window, pads aside.
///
/// The mean is `sum * (scale / count)` in f32: the integers of the window summed exactly, the scale divided by
/// their number and rounded, the sum converted to the nearest f32, then one product.
pub struct AveragePool(Windows);

impl AveragePool {
    /// As [`MaxPool::new`].
    pub fn new(geometry: Geometry, encoding: Encoding) -> Result<Self> {
        Windows::new(geometry, encoding).map(AveragePool)
    }

    /// Over whole images of `height` x `width`: one output pixel.
    pub fn global(
        height: usize,
        width: usize,
        channels: usize,
        encoding: Encoding,
    ) -> Result<Self> {
        let mut geometry = Geometry::new(height, width, channels, 1);
        geometry.kernel = [height, width];
        Self::new(geometry, encoding)
    }

    /// Rows and columns of the output.
    pub fn output(&self) -> (usize, usize) {
        (self.0.rows.count(), self.0.cols.count())
    }

    /// Means of `input` `[images x H x W, C]`, of which the integer 1 stands for `scale`, into `out`
    /// `[images x OH x OW, C]`.
    ///
    /// Errors if an encoding or a shape is not the plan's; then `out` is untouched.
    pub fn run_f32(
        &self,
        kernels: &Kernels,
        input: PackedRef<'_>,
        scale: f32,
        out: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let channels = self.0.geometry.channels;
        let len = elements("output", &[self.0.check(&input)?, channels])?;
        check_len("out", out.len(), len, "images x OH x OW x C")?;
        par.rows(out, channels, self.cost(), &|at, out: &mut [f32]| {
            self.means(kernels, &input, scale, at, |first, means| {
                out[first..first + means.len()].copy_from_slice(means);
            });
        });
        Ok(())
    }

    /// The codes of the means that [`AveragePool::run_f32`] gives, into `out` `[images x OH x OW, C]`.
    ///
    /// Errors if an encoding or a shape is not the plan's or the quantizer's; then `out` is untouched.
    pub fn run_codes<'a>(
        &self,
        kernels: &Kernels,
        input: PackedRef<'_>,
        scale: f32,
        quantizer: &ActQuantizer,
        out: impl Into<PackedMut<'a>>,
        par: Par<'_>,
    ) -> Result<()> {
        let (out, encoding) = (out.into(), quantizer.encoding());
        let pixels = self.0.check(&input)?;
        check_codes(&out, encoding, pixels, self.0.geometry.channels)?;
        let (planes, w) = (encoding.planes(), words(self.0.geometry.channels));
        let steps = Steps::new(&quantizer.into());
        par.rows(
            out.words(),
            planes * w,
            self.cost(),
            &|at, out: &mut [u32]| {
                self.means(kernels, &input, scale, at, |first, means| {
                    let mut codes = [0u32; 8 * CHUNK / 32];
                    let chunk = words(means.len());
                    let codes = &mut codes[..planes * chunk];
                    kernels.quantize(means, &steps, planes, codes);
                    for plane in 0..planes {
                        out[plane * w + first / 32..][..chunk]
                            .copy_from_slice(&codes[plane * chunk..][..chunk]);
                    }
                });
            },
        );
        Ok(())
    }

    /// Vector instructions of an output pixel, about.
    fn cost(&self) -> usize {
        let [kh, kw] = self.0.geometry.kernel;
        kh * kw * self.0.geometry.channels / 2
    }

    /// Gives the means of output pixel `at` to `take`, some channels at a time, with the first one's number.
    fn means(
        &self,
        kernels: &Kernels,
        input: &PackedRef<'_>,
        scale: f32,
        at: usize,
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let (encoding, channels) = (self.0.encoding, self.0.geometry.channels);
        let signed = matches!(encoding, Encoding::Signed(_));
        for first in (0..channels).step_by(CHUNK) {
            let some = CHUNK.min(channels - first);
            let (mut sums, mut bytes) = ([0i32; CHUNK], [0u8; CHUNK]);
            let (sums, bytes) = (&mut sums[..some], &mut bytes[..some]);
            let (count, pixels) = self.0.pixels(at);
            for pixel in pixels {
                let row = &input.words()[pixel * input.row_words()..];
                unpack_some(kernels, input, row, first, bytes);
                let codes = &*bytes;
                kernels.row(RowTask::Accumulate {
                    codes,
                    signed,
                    sums,
                });
            }
            let count = count.len();
            if encoding == Encoding::Bipolar {
                // Bits were counted; the integers are -1 and +1.
                for sum in sums.iter_mut() {
                    *sum = 2 * *sum - count as i32;
                }
            }
            let scale = scale / count as f32;
            let mut means = [0f32; CHUNK];
            for (mean, &sum) in means.iter_mut().zip(&*sums) {
                *mean = sum as f32 * scale;
            }
            take(first, &means[..some]);
        }
    }
}

/// Codes of one row of `matrix` as bytes: as many as `bytes` is long, at most [`CHUNK`], from column `first` on, a
/// multiple of 32. `row` begins with the words of the row.
fn unpack_some(
    kernels: &Kernels,
    matrix: &PackedRef<'_>,
    row: &[u32],
    first: usize,
    bytes: &mut [u8],
) {
    let (encoding, w) = (matrix.encoding(), words(matrix.cols()));
    let (planes, chunk) = (encoding.planes(), words(bytes.len()));
    let mut some = [0u32; 8 * CHUNK / 32];
    for plane in 0..planes {
        let from = &row[plane * w + first / 32..][..chunk];
        some[plane * chunk..][..chunk].copy_from_slice(from);
    }
    let some = &some[..planes * chunk];
    let codes = PackedRef::packed_here(encoding, 1, bytes.len(), some);
    kernels.unpack(codes, bytes.len(), bytes);
}

fn check_codes(out: &PackedMut<'_>, encoding: Encoding, rows: usize, cols: usize) -> Result<()> {
    if (out.encoding(), out.rows(), out.cols()) == (encoding, rows, cols) {
        return Ok(());
    }
    let value = format!("{} {} x {}", out.encoding(), out.rows(), out.cols());
    let expected = format!("{encoding} {rows} x {cols}");
    Err(Error::argument("out", value, expected))
}

/// The floats `scale * integer` of packed codes, into `out` `[rows, cols]`.
///
/// Errors if the codes are ternary or the length of `out` is not rows x cols; then `out` is untouched.
pub fn dequantize(
    kernels: &Kernels,
    codes: PackedRef<'_>,
    scale: f32,
    out: &mut [f32],
    par: Par<'_>,
) -> Result<()> {
    let (encoding, cols) = (codes.encoding(), codes.cols());
    if encoding == Encoding::Ternary {
        let expected = "bipolar, u1..u8 or s1..s8";
        return Err(Error::argument("encoding", encoding, expected));
    }
    let len = elements("rows x cols", &[codes.rows(), cols])?;
    check_len("out", out.len(), len, "rows x cols")?;
    if cols == 0 {
        return Ok(());
    }
    par.rows(out, cols, cols, &|row, out: &mut [f32]| {
        let row = &codes.words()[row * codes.row_words()..];
        for (i, out) in out.chunks_mut(CHUNK).enumerate() {
            let bytes = &mut [0u8; CHUNK][..out.len()];
            unpack_some(kernels, &codes, row, i * CHUNK, bytes);
            kernels.row(values(encoding, bytes, scale, out));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests;
