//! Rows of floats into codes by a scale of their own each.

use super::{CHUNK, LANES, check_out, row_to_bytes, row_to_planes};
use crate::bits::PackedMut;
use crate::error::{Error, Result};
use crate::kernels::{Kernels, Steps};
use crate::ops::Par;
use crate::quant::{Float, Linear, Quantizer, RowQuantizer};
use crate::shape::{check_len, elements};

/// Quantizes each row of `x`, `[rows, cols]` row-major, by the scale that [`RowQuantizer`] makes of it, into
/// `out`, which takes rows and cols from its shape; the scales go to `scales`, `[rows]`, and the zero points to
/// `zeros`, `[rows]`, which may be empty if the quantizer is symmetric.
///
/// A row is read twice in a row, so the second time from a cache. Codes and scales are those of
/// [`RowQuantizer::of`] on every ISA. Errors if `out` is not of the quantizer's encoding or a length is wrong;
/// then nothing is written.
pub fn quantize_rows<'a, T: Float>(
    kernels: &Kernels,
    x: &[T],
    quantizer: &RowQuantizer,
    out: impl Into<PackedMut<'a>>,
    scales: &mut [f32],
    zeros: &mut [i32],
    par: Par<'_>,
) -> Result<()> {
    let out = out.into();
    let (rows, cols, planes) = check_out(&out, quantizer.encoding())?;
    let len = elements("rows x cols", &[rows, cols])?;
    check_len("x", x.len(), len, "rows x cols")?;
    check_rows(quantizer, rows, scales, zeros)?;
    let row_words = planes * cols.div_ceil(32);
    let cost = cols.saturating_mul(2 + planes) / LANES;
    let sizes = [cols, row_words];
    each_row(
        x,
        out.words(),
        sizes,
        scales,
        zeros,
        cost,
        par,
        &|row, out, scale, zero| {
            let steps = fit(range(kernels, row.x), quantizer, scale, zero);
            row_to_planes(kernels, row.x, &steps, planes, out);
            None
        },
    );
    Ok(())
}

/// As [`quantize_rows`], into a byte each, `[rows, cols]`, with rows as many as there are scales.
pub fn quantize_rows_bytes<T: Float>(
    kernels: &Kernels,
    x: &[T],
    quantizer: &RowQuantizer,
    out: &mut [u8],
    scales: &mut [f32],
    zeros: &mut [i32],
    par: Par<'_>,
) -> Result<()> {
    let rows = scales.len();
    check_len("out", out.len(), x.len(), "the length of x")?;
    let whole = x.len().checked_rem(rows).map_or(x.is_empty(), |r| r == 0);
    if !whole {
        let expected = format!("a multiple of the {rows} rows that scales has");
        return Err(Error::argument(
            "x",
            format_args!("{} elements long", x.len()),
            expected,
        ));
    }
    check_rows(quantizer, rows, scales, zeros)?;
    let cols = x.len().checked_div(rows).unwrap_or(0);
    let cost = 3 * cols / LANES;
    each_row(
        x,
        out,
        [cols; 2],
        scales,
        zeros,
        cost,
        par,
        &|row, out, scale, zero| {
            let range = row.range.unwrap_or_else(|| range(kernels, row.x));
            let steps = fit(range, quantizer, scale, zero);
            match (T::as_f32s(row.x), T::as_f32s(row.next)) {
                (Some(x), Some(next)) if next.len() == cols && cols <= TWO_ROWS => {
                    Some(kernels.quantize_bytes_and_range(x, &steps, out, next))
                }
                _ => {
                    row_to_bytes(kernels, row.x, &steps, out);
                    None
                }
            }
        },
    );
    Ok(())
}

/// Floats of a row, two of which stay in L1, of 32 KiB or more.
const TWO_ROWS: usize = 4096;

/// The least and greatest of 0 and the finite values of a row.
type Range = (f32, f32);

/// A row to be quantized.
struct Row<'a, T> {
    x: &'a [T],
    /// Its range, if it came with the row before.
    range: Option<Range>,
    /// The row behind it, or nothing.
    next: &'a [T],
}

/// Calls `work(row, codes, scale, zero point)` for each row; there may be no zero points. It may give the range of the next
/// row.
#[allow(clippy::too_many_arguments)]
fn each_row<T: Sync, C: Send>(
    x: &[T],
    mut codes: &mut [C],
    [cols, width]: [usize; 2],
    mut scales: &mut [f32],
    mut zeros: &mut [i32],
    cost: usize,
    par: Par<'_>,
    work: &(impl Fn(Row<'_, T>, &mut [C], &mut f32, Option<&mut i32>) -> Option<Range> + Sync),
) {
    let rows = scales.len();
    let pieces = par.pieces((rows as u64).saturating_mul(cost as u64));
    let each = rows.div_ceil(pieces).max(1);
    let pieces = (0..rows).step_by(each).map(move |row| {
        let here = each.min(rows - row);
        (
            &x[row * cols..(row + here) * cols],
            first(&mut codes, here * width),
            first(&mut scales, here),
            first(&mut zeros, here),
        )
    });
    let work = |(x, codes, scales, zeros): (&[T], &mut [C], &mut [f32], &mut [i32])| {
        let mut range = None;
        for (row, scale) in scales.iter_mut().enumerate() {
            let (x, codes) = (&x[row * cols..], &mut codes[row * width..]);
            let (x, next) = x.split_at(cols);
            let next = &next[..cols.min(next.len())];
            let zero = zeros.get_mut(row);
            let here = Row { x, range, next };
            range = work(here, &mut codes[..width], scale, zero);
        }
    };
    if each >= rows {
        pieces.for_each(work);
    } else {
        par.share(pieces, &work);
    }
}

/// Takes the first `len` elements off `slice`, or those that are left.
fn first<'a, T>(slice: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let all = std::mem::take(slice);
    let at = len.min(all.len());
    let (first, rest) = all.split_at_mut(at);
    *slice = rest;
    first
}

fn check_rows(q: &RowQuantizer, rows: usize, scales: &[f32], zeros: &[i32]) -> Result<()> {
    check_len("scales", scales.len(), rows, "rows")?;
    if q.is_symmetric() && zeros.is_empty() {
        return Ok(());
    }
    check_len("zeros", zeros.len(), rows, "rows")
}

/// The quantizer of a row, noted and made ready.
fn fit(
    (lo, hi): Range,
    quantizer: &RowQuantizer,
    scale: &mut f32,
    zero: Option<&mut i32>,
) -> Steps {
    let linear: Linear = quantizer.of_range(lo, hi);
    *scale = linear.scale();
    if let Some(zero) = zero {
        *zero = linear.zero();
    }
    Steps::new(&Quantizer::Linear(linear))
}

fn range<T: Float>(kernels: &Kernels, x: &[T]) -> Range {
    if let Some(x) = T::as_f32s(x) {
        return kernels.range(x);
    }
    let mut floats = [0f32; CHUNK];
    let (mut lo, mut hi) = (0f32, 0f32);
    for x in x.chunks(CHUNK) {
        let floats = &mut floats[..x.len()];
        T::widen(x, floats);
        let (l, h) = kernels.range(floats);
        (lo, hi) = (lo.min(l), hi.max(h));
    }
    (lo, hi)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::{ByteRef, Encoding, PackedMatrix};
    use half::{bf16, f16};

    fn quantizers() -> Vec<RowQuantizer> {
        let mut all = Vec::new();
        for bits in 1..=8 {
            if bits > 1 {
                all.push(RowQuantizer::symmetric(bits).unwrap());
            }
            all.push(RowQuantizer::affine(Encoding::unsigned(bits).unwrap()).unwrap());
            all.push(RowQuantizer::affine(Encoding::signed(bits).unwrap()).unwrap());
        }
        all
    }

    fn check<T: Float>(x: &[T], rows: usize) {
        let cols = x.len() / rows;
        let floats: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        for q in quantizers() {
            let e = q.encoding();
            let linear: Vec<Linear> = (0..rows)
                .map(|r| q.of(&floats[r * cols..][..cols]))
                .collect();
            let expected: Vec<i32> = (0..x.len())
                .map(|i| linear[i / cols].integer(floats[i]))
                .collect();
            for kernels in Kernels::available() {
                let name = format!("{} {e} {cols}", kernels.isa());
                let mut out = PackedMatrix::zeros(e, rows, cols).unwrap();
                let (mut scales, mut zeros) = (vec![0.0; rows], vec![99; rows]);
                quantize_rows(
                    kernels,
                    x,
                    &q,
                    &mut out,
                    &mut scales,
                    &mut zeros,
                    Par::Caller,
                )
                .unwrap();
                assert_eq!(out.unpack(), expected, "{name}");
                for (row, l) in linear.iter().enumerate() {
                    assert_eq!(scales[row].to_bits(), l.scale().to_bits(), "{name}");
                    assert_eq!(zeros[row], l.zero(), "{name}");
                }
                let (mut bytes, mut again) = (vec![0xAA; x.len()], vec![0.0; rows]);
                let zeros = match q.is_symmetric() {
                    true => &mut [],
                    false => &mut zeros[..],
                };
                quantize_rows_bytes(kernels, x, &q, &mut bytes, &mut again, zeros, Par::Caller)
                    .unwrap();
                assert_eq!(again, scales, "{name}");
                let bytes = ByteRef::new(e, rows, cols, &bytes).unwrap();
                let got: Vec<i32> = match e.min() {
                    0 => bytes.data().iter().map(|&b| i32::from(b)).collect(),
                    _ => bytes.data().iter().map(|&b| i32::from(b as i8)).collect(),
                };
                assert_eq!(got, expected, "{name} bytes");
            }
        }
    }

    #[test]
    fn rows_follow_the_definition_on_every_isa() {
        for cols in [1, 3, 31, 33, 63, 64, 65, 129, 255, 257, 520] {
            let x: Vec<f32> = (0..3 * cols)
                .map(|i| (i * 71 % 1013) as f32 / 300.0 - 1.3 * (1 + i / cols) as f32)
                .collect();
            check(&x, 3);
            check(&x.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>(), 3);
            check(&x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>(), 3);
        }
    }

    #[test]
    fn odd_rows_follow_the_definition_on_every_isa() {
        let odd = [
            0.0,
            -0.0,
            f32::NAN,
            -f32::NAN,
            f32::from_bits(0x7F80_0001),
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            1e-45,
            -1e-39,
            f32::MIN_POSITIVE,
            3.0,
            -4.5,
        ];
        for cols in [1, 5, 70] {
            for a in odd {
                for b in odd {
                    let mut x = vec![b; cols];
                    x[cols / 2] = a;
                    check(&x, 1);
                    x[0] = 1.5;
                    check(&x, 1);
                }
            }
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let kernels = Kernels::available().last().unwrap();
        let s8 = RowQuantizer::symmetric(8).unwrap();
        let u8s = RowQuantizer::affine(Encoding::unsigned(8).unwrap()).unwrap();
        let said = |q: &RowQuantizer, x: usize, out: usize, scales: usize, zeros: usize| {
            let (x, mut out) = (vec![1f32; x], vec![0; out]);
            let (mut scales, mut zeros) = (vec![0.0; scales], vec![0; zeros]);
            let said = quantize_rows_bytes(
                kernels,
                &x,
                q,
                &mut out,
                &mut scales,
                &mut zeros,
                Par::Caller,
            );
            said.map_or_else(|e| e.to_string(), |()| "fine".to_string())
        };
        assert_eq!(said(&s8, 6, 6, 2, 0), "fine");
        assert_eq!(said(&s8, 0, 0, 0, 0), "fine");
        assert_eq!(said(&s8, 0, 0, 2, 2), "fine");
        assert!(said(&s8, 6, 6, 0, 0).starts_with("x is 6 elements long"));
        assert!(said(&s8, 6, 6, 4, 0).starts_with("x is 6 elements long"));
        assert!(said(&s8, 6, 5, 2, 0).starts_with("out is 5"));
        assert!(said(&s8, 6, 6, 2, 1).starts_with("zeros is 1"));
        assert!(said(&u8s, 6, 6, 2, 0).starts_with("zeros is 0"));
        let mut out = PackedMatrix::zeros(u8s.encoding(), 2, 3).unwrap();
        let said = quantize_rows(
            kernels,
            &[1f32; 6],
            &s8,
            &mut out,
            &mut [0.0; 2],
            &mut [],
            Par::Caller,
        );
        assert!(said.unwrap_err().to_string().starts_with("out is u8"));
    }
}
