//! Work on each element by itself: a finish without a product, floats into codes and back.
//!
//! Elements pass through the stack some hundred at a time: read as floats, finished, written in the form that leaves.
//! Nothing needs scratch, and threads share the pixels.

use std::ops::Range;

use half::{bf16, f16};

use super::finish::values;
use super::pool::unpack_some;
use super::{Activations, Finish, OutRows, OutputKind, Par, Residual, ResidualAt};
use crate::bits::{ByteRef, Encoding, PackedRef};
use crate::error::{Error, Result};
use crate::kernels::{Kernels, RowTask, Steps};
use crate::quant::{Float, Quantizer};
use crate::shape::{check_len, elements, words};

/// Elements that pass at a time; a multiple of 32.
const CHUNK: usize = super::pool::CHUNK;

/// The elements of pixels, `[pixels, C]`.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// Floats.
    Floats(&'a [f32]),
    /// Floats of 16 bits.
    F16(&'a [f16]),
    /// Upper halves of floats.
    Bf16(&'a [bf16]),
    /// Codes in planes.
    Planes(PackedRef<'a>),
    /// Codes in bytes.
    Bytes(ByteRef<'a>),
}

impl<'a> From<Activations<'a>> for Elements<'a> {
    fn from(codes: Activations<'a>) -> Self {
        match codes {
            Activations::Planes(planes) => Elements::Planes(planes),
            Activations::Bytes(bytes) => Elements::Bytes(bytes),
        }
    }
}

impl<'a> From<PackedRef<'a>> for Elements<'a> {
    fn from(planes: PackedRef<'a>) -> Self {
        Elements::Planes(planes)
    }
}

impl<'a> From<ByteRef<'a>> for Elements<'a> {
    fn from(bytes: ByteRef<'a>) -> Self {
        Elements::Bytes(bytes)
    }
}

impl<'a> From<&'a [f32]> for Elements<'a> {
    fn from(floats: &'a [f32]) -> Self {
        Elements::Floats(floats)
    }
}

impl<'a> From<&'a [f16]> for Elements<'a> {
    fn from(floats: &'a [f16]) -> Self {
        Elements::F16(floats)
    }
}

impl<'a> From<&'a [bf16]> for Elements<'a> {
    fn from(floats: &'a [bf16]) -> Self {
        Elements::Bf16(floats)
    }
}

impl Elements<'_> {
    /// The encoding of codes, none of floats; pixels; and their channels, which of floats are `channels`. Errors if floats
    /// are no whole pixels.
    pub(super) fn shape(&self, channels: usize) -> Result<(Option<Encoding>, usize, usize)> {
        let floats = match self {
            Elements::Floats(floats) => floats.len(),
            Elements::F16(floats) => floats.len(),
            Elements::Bf16(floats) => floats.len(),
            Elements::Planes(x) => return Ok((Some(x.encoding()), x.rows(), x.cols())),
            Elements::Bytes(x) => return Ok((Some(x.encoding()), x.rows(), x.cols())),
        };
        if channels == 0 || !floats.is_multiple_of(channels) {
            let value = format!("{floats} elements long");
            let expected = format!("a multiple of {channels} channels");
            return Err(Error::argument("x", value, expected));
        }
        Ok((None, floats / channels, channels))
    }

    /// Pixels of `channels` elements, with values; errors if they have other channels, or are ternary.
    fn pixels(&self, channels: usize) -> Result<usize> {
        let (encoding, rows, cols) = self.shape(channels)?;
        if encoding == Some(Encoding::Ternary) {
            let expected = "bipolar, u1..u8 or s1..s8";
            return Err(Error::argument("encoding", Encoding::Ternary, expected));
        }
        if cols != channels {
            return Err(Error::argument("channels of x", cols, channels));
        }
        Ok(rows)
    }
}

/// `finish` by itself over `x` `[pixels, N]`: it begins with `scale[n] * x + bias[n]`, x a float or the integer of a
/// code.
///
/// Into `out` `[pixels, N]`, of the kind that the finish makes. Errors if `x` is ternary or has other than N
/// channels, the finish is of integers or ready thresholds, or `residual` and `out` do not fit it; then `out` is
/// untouched.
pub fn apply<'a>(
    kernels: &Kernels,
    finish: &Finish,
    x: impl Into<Elements<'a>>,
    residual: Option<Residual<'a>>,
    out: OutRows<'_>,
    par: Par<'_>,
) -> Result<()> {
    let x = x.into();
    let quantizer = match finish.output() {
        OutputKind::I32 | OutputKind::Levels(_) => {
            let value = "of integers or thresholds alone";
            return Err(Error::argument("finish", value, "scale and bias"));
        }
        OutputKind::Codes(quantizer) | OutputKind::Bytes(quantizer) => Some(quantizer),
        OutputKind::F32 | OutputKind::F16 | OutputKind::Bf16 => None,
    };
    let pixels = x.pixels(finish.n())?;
    if let OutRows::I32(_) = out {
        return Err(Error::argument("out", "i32", "what the finish makes"));
    }
    finish.check_all(residual.as_ref(), &out, pixels)?;
    let pass = Pass {
        kernels,
        x,
        unit: 1.0,
        channels: finish.n(),
        finish: Some((finish, residual)),
    };
    pass.run(quantizer, out, par);
    Ok(())
}

/// The floats `scale * integer` of codes, into `out` `[rows, cols]`.
///
/// Errors if the codes are ternary or the length of `out` is not rows x cols; then `out` is untouched.
pub fn dequantize<'a>(
    kernels: &Kernels,
    codes: impl Into<Activations<'a>>,
    scale: f32,
    out: &mut [f32],
    par: Par<'_>,
) -> Result<()> {
    let codes = codes.into();
    let (_, rows, cols) = codes.shape();
    let x = Elements::from(codes);
    x.pixels(cols)?;
    let len = elements("rows x cols", &[rows, cols])?;
    check_len("out", out.len(), len, "rows x cols")?;
    let pass = Pass {
        kernels,
        x,
        unit: scale,
        channels: cols,
        finish: None,
    };
    pass.run(None, OutRows::F32(out), par);
    Ok(())
}

/// Codes of the floats `x` `[pixels, channels]` into `out`, planes or bytes: as [`quantize`](super::quantize()) and
/// [`quantize_bytes`](super::quantize_bytes), on the threads of `par`.
///
/// Errors if `out` is neither, a length does not fit, or bytes are asked of the sign.
pub(crate) fn quantize_pixels(
    kernels: &Kernels,
    x: Elements<'_>,
    channels: usize,
    quantizer: &Quantizer,
    out: OutRows<'_>,
    par: Par<'_>,
) -> Result<()> {
    let (pixels, encoding) = (x.pixels(channels)?, quantizer.encoding());
    let row = match out {
        OutRows::Codes(_) => encoding.planes() * words(channels),
        OutRows::Bytes(_) if encoding != Encoding::Bipolar => channels,
        _ => {
            let expected = "codes, or bytes but for the sign";
            return Err(Error::argument("out", out.name(), expected));
        }
    };
    let len = elements("out", &[pixels, row])?;
    check_len("out", out.len(), len, "pixels x elements of a pixel")?;
    let pass = Pass {
        kernels,
        x,
        unit: 1.0,
        channels,
        finish: None,
    };
    pass.run(Some(*quantizer), out, par);
    Ok(())
}

/// Elements on their way, once everything fits.
struct Pass<'a> {
    kernels: &'a Kernels,
    x: Elements<'a>,
    /// What the integer 1 of `x` stands for.
    unit: f32,
    channels: usize,
    finish: Option<(&'a Finish, Option<Residual<'a>>)>,
}

impl Pass<'_> {
    /// Writes `out`; codes are those of `quantizer`.
    fn run(&self, quantizer: Option<Quantizer>, out: OutRows<'_>, par: Par<'_>) {
        let (kernels, c) = (self.kernels, self.channels);
        let steps = quantizer.map(|q| (Steps::new(&q), q.encoding().planes()));
        match (out, steps) {
            (OutRows::F32(out), None) => self.pixels(out, c, par, &|pixels, channels, out| {
                let at = channels.start;
                let len = pixels.len() * channels.len();
                self.floats(pixels, channels, &mut out[at..at + len]);
            }),
            (OutRows::F16(out), None) => self.narrowed(out, par),
            (OutRows::Bf16(out), None) => self.narrowed(out, par),
            (OutRows::Bytes(out), Some((steps, _))) => {
                self.pixels(out, c, par, &|pixels, channels, out| {
                    let mut floats = [0f32; CHUNK];
                    let at = channels.start;
                    let floats = self.floats_in(pixels, channels, &mut floats);
                    kernels.quantize_bytes(floats, &steps, &mut out[at..at + floats.len()]);
                });
            }
            (OutRows::Codes(out), Some((steps, planes))) => {
                let w = words(c);
                self.pixels(out, planes * w, par, &|pixels, channels, out| {
                    let mut floats = [0f32; CHUNK];
                    let (first, len) = (channels.start, channels.len());
                    let floats = self.floats_in(pixels, channels, &mut floats);
                    if len == c {
                        let rows = floats.len() / c;
                        let out = &mut out[..rows * planes * w];
                        return kernels.quantize_rows(floats, [rows, c], &steps, planes, out);
                    }
                    let rows = floats.chunks_exact(len);
                    for (floats, out) in rows.zip(out.chunks_exact_mut(planes * w)) {
                        let mut codes = [0u32; 8 * CHUNK / 32];
                        let chunk = words(len);
                        let codes = &mut codes[..planes * chunk];
                        kernels.quantize(floats, &steps, planes, codes);
                        for plane in 0..planes {
                            out[plane * w + first / 32..][..chunk]
                                .copy_from_slice(&codes[plane * chunk..][..chunk]);
                        }
                    }
                });
            }
            _ => unreachable!("kinds have been matched before"),
        }
    }

    /// Writes 16-bit floats.
    fn narrowed<T: Float>(&self, out: &mut [T], par: Par<'_>) {
        self.pixels(out, self.channels, par, &|pixels, channels, out| {
            let mut floats = [0f32; CHUNK];
            let at = channels.start;
            let floats = self.floats_in(pixels, channels, &mut floats);
            Float::narrow(floats, &mut out[at..at + floats.len()]);
        });
    }

    /// Calls `work` with pixels, channels of them, and the rows of `out` of those pixels, `row` elements each: as
    /// many whole pixels as pass at a time, or some channels of one.
    fn pixels<T: Send>(
        &self,
        out: &mut [T],
        row: usize,
        par: Par<'_>,
        work: &(impl Fn(Range<usize>, Range<usize>, &mut [T]) + Sync),
    ) {
        let c = self.channels;
        if c == 0 || row == 0 {
            return;
        }
        let together = (CHUNK / c).max(1);
        let some = |first: usize, out: &mut [T]| {
            let pixels = first..first + out.len() / row;
            for from in (0..c).step_by(CHUNK) {
                work(pixels.clone(), from..c.min(from + CHUNK), out);
            }
        };
        let whole = out.len() / row / together * together;
        let (whole_blocks, rest) = out.split_at_mut(whole * row);
        let cost = together * c / 4 * if self.finish.is_some() { 2 } else { 1 };
        par.rows(whole_blocks, together * row, cost, &|block, out| {
            some(block * together, out);
        });
        if !rest.is_empty() {
            some(whole, rest);
        }
    }

    /// The finished floats of `channels` of `pixels` in some of `floats`.
    fn floats_in<'f>(
        &self,
        pixels: Range<usize>,
        channels: Range<usize>,
        floats: &'f mut [f32; CHUNK],
    ) -> &'f [f32] {
        let floats = &mut floats[..pixels.len() * channels.len()];
        self.floats(pixels, channels, floats);
        floats
    }

    /// The finished floats of `channels` of `pixels`: all of the channels, or some of one pixel.
    fn floats(&self, pixels: Range<usize>, channels: Range<usize>, out: &mut [f32]) {
        self.read(self.x, self.unit, pixels.clone(), channels.clone(), out);
        let Some((finish, residual)) = self.finish else {
            return;
        };
        let mut added = [0f32; CHUNK];
        let residual = residual.map(|residual| {
            let (x, scale) = match residual {
                Residual::Floats(floats) => {
                    let first = pixels.start * self.channels + channels.start;
                    return &floats[first..][..out.len()];
                }
                Residual::F16(floats) => (Elements::F16(floats), 1.0),
                Residual::Bf16(floats) => (Elements::Bf16(floats), 1.0),
                Residual::Planes { codes, scale } => (Elements::Planes(codes), scale),
                Residual::Bytes { codes, scale } => (Elements::Bytes(codes), scale),
            };
            let added = &mut added[..out.len()];
            self.read(x, scale, pixels, channels.clone(), added);
            &*added
        });
        self.kernels.row(RowTask::Finish {
            sums: bytemuck::cast_slice_mut(out),
            floats: true,
            scale: &finish.scale()[channels.clone()],
            bias: &finish.bias()[channels.clone()],
            residual,
            first: finish.residual() == ResidualAt::BeforeFunction,
            function: finish.function().as_rows().slice(channels),
        });
    }

    /// The floats of `channels` of `pixels` of `x`, whose integer 1 stands for `unit`.
    fn read(
        &self,
        x: Elements<'_>,
        unit: f32,
        pixels: Range<usize>,
        channels: Range<usize>,
        out: &mut [f32],
    ) {
        let at = pixels.start * self.channels + channels.start;
        match x {
            Elements::Floats(floats) => out.copy_from_slice(&floats[at..][..out.len()]),
            Elements::F16(floats) => Float::widen(&floats[at..][..out.len()], out),
            Elements::Bf16(floats) => Float::widen(&floats[at..][..out.len()], out),
            Elements::Bytes(bytes) => {
                let codes = &bytes.data()[at..][..out.len()];
                self.kernels.row(values(bytes.encoding(), codes, unit, out));
            }
            Elements::Planes(planes) => {
                let mut codes = [0u8; CHUNK];
                let codes = &mut codes[..out.len()];
                if channels.len() == self.channels {
                    let rows = planes.slice_rows(pixels);
                    self.kernels.unpack(rows, self.channels, codes);
                } else {
                    let row = &planes.words()[pixels.start * planes.row_words()..];
                    unpack_some(self.kernels, &planes, row, channels.start, codes);
                }
                let encoding = planes.encoding();
                self.kernels.row(values(encoding, codes, unit, out));
            }
        }
    }
}

#[cfg(test)]
mod tests;
