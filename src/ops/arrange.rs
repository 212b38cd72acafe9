//! Elements in other places: channels side by side, flattening, up-sampling. No value changes.

use super::conv::Writer;
use super::{Elements, OutRows, Par};
use crate::bits::{PackedMut, PackedRef};
use crate::error::{Error, Result};
use crate::shape::{check_len, elements, words};

/// Copies the rows of `part` `[pixels, c]` to where `first` says in rows of `row` elements.
fn place<T: Copy + Send + Sync>(
    part: &[T],
    c: usize,
    first: usize,
    out: &mut [T],
    row: usize,
    par: Par<'_>,
) {
    let cost = 2 + c * size_of::<T>() / 32;
    par.rows(out, row, cost, &|pixel, out: &mut [T]| {
        out[first..first + c].copy_from_slice(&part[pixel * c..][..c]);
    });
}

/// Writes `part` `[pixels, c]` into channels `first` and up of `out` `[pixels, channels]`: concatenation is one call
/// for each part, in the order of the channels, for a part of planes clears the channels behind it in its last words.
///
/// `out` is floats, planes or bytes as the part is. Errors if it is not, or if lengths do not fit.
pub fn concat_part<'a>(
    part: impl Into<Elements<'a>>,
    c: usize,
    first: usize,
    channels: usize,
    out: OutRows<'_>,
    par: Par<'_>,
) -> Result<()> {
    let part = part.into();
    if c == 0 || first.checked_add(c).is_none_or(|end| end > channels) {
        let value = format!("{first} and {c} more");
        let expected = format!("1 or more, inside of the {channels} channels");
        return Err(Error::argument("channels", value, expected));
    }
    let (_, rows, cols) = part.shape(c)?;
    let row = match part {
        Elements::Planes(planes) => planes.encoding().planes() * words(channels),
        _ => channels,
    };
    if cols != c {
        return Err(Error::argument("channels of the part", cols, c));
    }
    check_len(
        "out",
        out.len(),
        elements("out", &[rows, row])?,
        "pixels x row",
    )?;
    match (part, out) {
        (Elements::Floats(part), OutRows::F32(out)) => place(part, c, first, out, row, par),
        (Elements::F16(part), OutRows::F16(out)) => place(part, c, first, out, row, par),
        (Elements::Bf16(part), OutRows::Bf16(out)) => place(part, c, first, out, row, par),
        (Elements::Bytes(part), OutRows::Bytes(out)) => {
            place(part.data(), c, first, out, row, par);
        }
        (Elements::Planes(part), OutRows::Codes(out)) => {
            let (from, to) = (words(c), words(channels));
            let cost = 2 + row / 4;
            par.rows(out, row, cost, &|pixel, out: &mut [u32]| {
                let part = &part.words()[pixel * part.row_words()..][..part.row_words()];
                for (part, out) in part.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
                    place_bits(part, first, out);
                }
            });
        }
        (_, out) => {
            return Err(Error::argument("out", out.name(), "the kind of the part"));
        }
    }
    Ok(())
}

/// Writes the bits `part` from bit `first` of `out` on; those before stay, those behind in the last words become zeros.
fn place_bits(part: &[u32], first: usize, out: &mut [u32]) {
    let (at, shift) = (first / 32, first % 32);
    let out = &mut out[at..];
    if shift == 0 {
        out[..part.len()].copy_from_slice(part);
        return;
    }
    out[0] &= (1 << shift) - 1;
    for (i, &word) in part.iter().enumerate() {
        out[i] |= word << shift;
        if let Some(next) = out.get_mut(i + 1) {
            *next = word >> (32 - shift);
        }
    }
}

/// Planes of images of `pixels` pixels as rows of all their channels: `[images, pixels x C]` into `out` of the same
/// encoding.
///
/// Floats and bytes need no such call: they lie so already. Errors if rows are not whole images or `out` does not fit.
pub fn flatten<'a>(
    x: PackedRef<'_>,
    pixels: usize,
    out: impl Into<PackedMut<'a>>,
    par: Par<'_>,
) -> Result<()> {
    let out = out.into();
    let (encoding, channels) = (x.encoding(), x.cols());
    let cols = elements("columns", &[pixels, channels])?;
    if pixels == 0 || !x.rows().is_multiple_of(pixels) {
        let expected = format!("a multiple of {pixels} pixels");
        return Err(Error::argument("rows of x", x.rows(), expected));
    }
    super::pool::check_codes(&out, encoding, x.rows() / pixels, cols)?;
    let (w, row) = (words(channels), encoding.planes() * words(cols));
    if row == 0 {
        return Ok(());
    }
    let cost = encoding.planes() * pixels * w * 2;
    par.rows(out.words(), row, cost, &|image, out: &mut [u32]| {
        for (plane, out) in out.chunks_exact_mut(words(cols)).enumerate() {
            let mut writer = Writer::new(out);
            for pixel in image * pixels..(image + 1) * pixels {
                let from = pixel * x.row_words() + plane * w;
                writer.append(&x.words()[from..from + w], 0..channels);
            }
            writer.end();
        }
    });
    Ok(())
}

/// Each pixel `factors[0]` times below itself and `factors[1]` times beside itself. `x` is images of `size` (H, W)
/// pixels of `unit` elements as they lie in memory: C, or planes x ceil(C / 32) words.
///
/// Errors if a size or a factor is 0, or the lengths do not fit.
pub fn up_sample<T: Copy + Send + Sync>(
    x: &[T],
    (height, width): (usize, usize),
    unit: usize,
    factors: [usize; 2],
    out: &mut [T],
    par: Par<'_>,
) -> Result<()> {
    let image = elements("image", &[height, width, unit])?;
    if image == 0 || factors.contains(&0) || !x.len().is_multiple_of(image) {
        let value = format!("{} elements long, {factors:?} times", x.len());
        let expected = format!("a multiple of {image}, 1 or more times");
        return Err(Error::argument("x", value, expected));
    }
    let len = elements("out", &[x.len(), factors[0], factors[1]])?;
    check_len("out", out.len(), len, "all pixels, factor times factor")?;
    let line = width * unit;
    let cost = line * factors[1] * size_of::<T>() / 32 + width;
    par.rows(out, line * factors[1], cost, &|y, out: &mut [T]| {
        let line = &x[y / factors[0] * line..][..line];
        let wide = out.chunks_exact_mut(unit * factors[1]);
        for (pixel, out) in line.chunks_exact(unit).zip(wide) {
            for out in out.chunks_exact_mut(unit) {
                out.copy_from_slice(pixel);
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests;
