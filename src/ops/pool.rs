//! Pooling of codes or floats: the greatest, or the mean, of a window of pixels.

use std::ops::Range;

mod floats;

use super::conv::geometry::{Axis, Geometry};
use super::{Elements, Par};
use crate::bits::{ByteRef, Encoding, PackedMut, PackedRef};
use crate::error::{Error, Result};
use crate::kernels::{Kernels, RowTask, Steps};
use crate::quant::Quantizer;
use crate::shape::{check_len, elements, words};

/// Channels that a mean takes at a time, on the stack; a multiple of 32.
pub(super) const CHUNK: usize = 256;

/// What both kinds of pooling know of their windows.
struct Windows {
    geometry: Geometry,
    /// Of codes; none of floats.
    encoding: Option<Encoding>,
    rows: Axis,
    cols: Axis,
}

impl Windows {
    fn new(geometry: Geometry, encoding: Option<Encoding>) -> Result<Self> {
        let (height, width) = geometry.output()?;
        if geometry.groups != 1 {
            return Err(Error::argument("groups", geometry.groups, "1 for pooling"));
        }
        if encoding == Some(Encoding::Ternary) {
            let expected = "bipolar, u1..u8 or s1..s8";
            return Err(Error::argument("encoding", Encoding::Ternary, expected));
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

    /// The output pixels of all images in `input`.
    fn check(&self, input: &Elements<'_>) -> Result<usize> {
        let channels = self.geometry.channels;
        let (encoding, rows, cols) = input.shape(channels)?;
        if encoding != self.encoding || cols != channels {
            let name = |e: Option<Encoding>| e.map_or("floats".to_string(), |e| e.to_string());
            let value = format!("{} with {cols} channels", name(encoding));
            let expected = format!("{} with {channels}", name(self.encoding));
            return Err(Error::argument("input", value, expected));
        }
        let pixels = self.geometry.height * self.geometry.width;
        if !rows.is_multiple_of(pixels) {
            let expected = format!("a multiple of {pixels} (H x W)");
            return Err(Error::argument("rows of the input", rows, expected));
        }
        let size = [rows / pixels, self.rows.count(), self.cols.count()];
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

/// A plan for max-pooling of codes or floats: per channel the greatest of a window, of codes by integer, pads aside.
pub struct MaxPool(Windows);

impl MaxPool {
    /// Windows of `geometry.kernel` over images of codes of `encoding`.
    ///
    /// Errors if the geometry is refused ([`Geometry::output`]) or has groups, if a window holds nothing but padding, or
    /// if the encoding is ternary.
    pub fn new(geometry: Geometry, encoding: Encoding) -> Result<Self> {
        Windows::new(geometry, Some(encoding)).map(MaxPool)
    }

    /// Windows over images of floats. Errors as [`MaxPool::new`].
    pub fn floats(geometry: Geometry) -> Result<Self> {
        Windows::new(geometry, None).map(MaxPool)
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
        let (out, encoding) = (out.into(), input.encoding());
        let pixels = self.0.check(&input.into())?;
        check_codes(&out, encoding, pixels, self.0.geometry.channels)?;
        let row = input.row_words();
        let planes = encoding.planes();
        let signed = matches!(encoding, Encoding::Signed(_));
        self.greatest(
            input.words(),
            row,
            out.words(),
            row,
            par,
            |step, from, into| {
                kernels.row(RowTask::Max {
                    planes,
                    signed,
                    pixel: row,
                    step,
                    from,
                    into,
                });
            },
        );
        Ok(())
    }

    /// As [`MaxPool::run`], of codes in bytes, into `out` `[images x OH x OW, C]`.
    pub fn run_bytes(
        &self,
        kernels: &Kernels,
        input: ByteRef<'_>,
        out: &mut [u8],
        par: Par<'_>,
    ) -> Result<()> {
        let pixels = self.0.check(&input.into())?;
        let row = self.0.geometry.channels;
        let len = elements("output", &[pixels, row])?;
        check_len("out", out.len(), len, "images x OH x OW x C")?;
        let signed = matches!(input.encoding(), Encoding::Signed(_));
        let cost = row.div_ceil(16);
        self.greatest(input.data(), row, out, cost, par, |step, from, into| {
            kernels.row(RowTask::MaxBytes {
                signed,
                pixel: row,
                step,
                from,
                into,
            });
        });
        Ok(())
    }

    /// As [`MaxPool::run`], of floats, into `out` `[images x OH x OW, C]`; a NaN is less than every float.
    pub fn run_f32(
        &self,
        kernels: &Kernels,
        input: &[f32],
        out: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let pixels = self.0.check(&input.into())?;
        let row = self.0.geometry.channels;
        let len = elements("output", &[pixels, row])?;
        check_len("out", out.len(), len, "images x OH x OW x C")?;
        let cost = row.div_ceil(4);
        self.greatest(input, row, out, cost, par, |step, from, into| {
            kernels.row(RowTask::MaxFloats {
                pixel: row,
                step,
                from,
                into,
            });
        });
        Ok(())
    }

    /// Writes pixels of `row` elements, a line of output at a time: the first pixel of each window, then tap by tap `max` of pixels
    /// so many elements apart and the line, which costs `cost` a pixel.
    fn greatest<T: Copy + Send + Sync>(
        &self,
        input: &[T],
        row: usize,
        out: &mut [T],
        cost: usize,
        par: Par<'_>,
        max: impl Fn(usize, &[T], &mut [T]) + Sync,
    ) {
        if row == 0 {
            return;
        }
        let Windows {
            geometry,
            rows,
            cols,
            ..
        } = &self.0;
        let [kh, kw] = geometry.kernel;
        let width = cols.count();
        let taps = kh.saturating_mul(kw).saturating_mul(width);
        let cost = taps.saturating_mul(cost + 2);
        par.rows(out, width * row, cost, &|at, out: &mut [T]| {
            let (image, y) = (at / rows.count(), at % rows.count());
            for (i, ky) in rows.inside(y).enumerate() {
                let line = image * geometry.height + rows.at(y, ky);
                let line = &input[line * geometry.width * row..][..geometry.width * row];
                if i == 0 {
                    for (x, out) in out.chunks_exact_mut(row).enumerate() {
                        let first = cols.at(x, cols.inside(x).start);
                        out.copy_from_slice(&line[first * row..][..row]);
                    }
                }
                for kx in 0..kw {
                    let reach = cols.reach(kx);
                    if !reach.is_empty() {
                        let from = &line[cols.at(reach.start, kx) * row..];
                        let out = &mut out[reach.start * row..reach.end * row];
                        max(cols.step * row, from, out);
                    }
                }
            }
        });
    }
}

/// A plan for average-pooling of codes or floats: per channel the mean of a window, pads aside.
///
/// The mean is `sum * (scale / count)` in f32: the integers of the window summed exactly and converted to the nearest
/// f32, or its floats summed row by row in f32; the scale divided by their number and rounded; then one product.
pub struct AveragePool(Windows);

impl AveragePool {
    /// As [`MaxPool::new`].
    pub fn new(geometry: Geometry, encoding: Encoding) -> Result<Self> {
        Windows::new(geometry, Some(encoding)).map(AveragePool)
    }

    /// Windows over images of floats. Errors as [`MaxPool::new`].
    pub fn floats(geometry: Geometry) -> Result<Self> {
        Windows::new(geometry, None).map(AveragePool)
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
    pub fn run_f32<'a>(
        &self,
        kernels: &Kernels,
        input: impl Into<Elements<'a>>,
        scale: f32,
        out: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let input = input.into();
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

    /// The codes of the means that [`AveragePool::run_f32`] gives, signed ones too, into `out` `[images x OH x OW, C]`.
    ///
    /// Errors if an encoding or a shape is not the plan's or the quantizer's; then `out` is untouched.
    pub fn run_codes<'a, 'o>(
        &self,
        kernels: &Kernels,
        input: impl Into<Elements<'a>>,
        scale: f32,
        quantizer: impl Into<Quantizer>,
        out: impl Into<PackedMut<'o>>,
        par: Par<'_>,
    ) -> Result<()> {
        let (input, out, quantizer) = (input.into(), out.into(), quantizer.into());
        let encoding = quantizer.encoding();
        let pixels = self.0.check(&input)?;
        check_codes(&out, encoding, pixels, self.0.geometry.channels)?;
        let (planes, w) = (encoding.planes(), words(self.0.geometry.channels));
        let steps = Steps::new(&quantizer);
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
        let taps = kh.saturating_mul(kw);
        taps.saturating_mul(self.0.geometry.channels) / 2
    }

    /// Gives the means of output pixel `at` to `take`, some channels at a time, with the first one's number.
    fn means(
        &self,
        kernels: &Kernels,
        input: &Elements<'_>,
        scale: f32,
        at: usize,
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let channels = self.0.geometry.channels;
        let scale = scale / self.0.pixels(at).0.len() as f32;
        for first in (0..channels).step_by(CHUNK) {
            let mut means = [0f32; CHUNK];
            let means = &mut means[..CHUNK.min(channels - first)];
            match input {
                Elements::Floats(floats) => self.add(kernels, floats, at, first, means),
                Elements::F16(floats) => self.add(kernels, floats, at, first, means),
                Elements::Bf16(floats) => self.add(kernels, floats, at, first, means),
                Elements::Planes(_) | Elements::Bytes(_) => {
                    self.sums(kernels, input, at, first, means);
                }
            }
            for mean in means.iter_mut() {
                *mean *= scale;
            }
            take(first, means);
        }
    }

    /// The sums of the integers of output pixel `at`, from channel `first` on, as floats.
    fn sums(
        &self,
        kernels: &Kernels,
        input: &Elements<'_>,
        at: usize,
        first: usize,
        out: &mut [f32],
    ) {
        let (mut sums, mut bytes) = ([0i32; CHUNK], [0u8; CHUNK]);
        let (sums, bytes) = (&mut sums[..out.len()], &mut bytes[..out.len()]);
        let signed = matches!(self.0.encoding, Some(Encoding::Signed(_)));
        let (count, pixels) = self.0.pixels(at);
        for pixel in pixels {
            let codes = match input {
                Elements::Bytes(codes) => {
                    &codes.data()[pixel * codes.cols() + first..][..bytes.len()]
                }
                Elements::Planes(planes) => {
                    let row = &planes.words()[pixel * planes.row_words()..];
                    unpack_some(kernels, planes, row, first, bytes);
                    &*bytes
                }
                _ => unreachable!("floats are added as they are"),
            };
            kernels.row(RowTask::Accumulate {
                codes,
                signed,
                sums,
            });
        }
        if self.0.encoding == Some(Encoding::Bipolar) {
            // Bits were counted; the integers are -1 and +1.
            for sum in sums.iter_mut() {
                *sum = 2 * *sum - count.len() as i32;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&*sums) {
            *out = sum as f32;
        }
    }
}

/// Codes of one row of `matrix` as bytes: as many as `bytes` is long, at most [`CHUNK`], from column `first` on, a
/// multiple of 32. `row` begins with the words of the row.
pub(super) fn unpack_some(
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

pub(super) fn check_codes(
    out: &PackedMut<'_>,
    encoding: Encoding,
    rows: usize,
    cols: usize,
) -> Result<()> {
    if (out.encoding(), out.rows(), out.cols()) == (encoding, rows, cols) {
        return Ok(());
    }
    let value = format!("{} {} x {}", out.encoding(), out.rows(), out.cols());
    let expected = format!("{encoding} {rows} x {cols}");
    Err(Error::argument("out", value, expected))
}

#[cfg(test)]
mod tests;
