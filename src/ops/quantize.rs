//! Floats and bytes into packed codes.

mod rows;

pub use rows::{quantize_rows, quantize_rows_bytes};

use crate::bits::{Encoding, PackedMut};
use crate::error::{Error, Result};
use crate::kernels::{Kernels, Steps};
use crate::ops::Par;
use crate::quant::{Float, Quantizer};
use crate::shape::{check_len, elements};

/// Floats that are converted at a time when the input is f16 or bf16; a multiple of 32.
const CHUNK: usize = 256;

/// Floats of a vector, about, for what a row costs.
const LANES: usize = 8;

/// Quantizes `x`, `[rows, cols]` row-major, into `out`, which takes rows and cols from its shape.
///
/// The codes are those of [`Quantizer::code`] for the values as f32, on every ISA; rows are shared out to threads. Errors if
/// `out` is not of the quantizer's encoding or the length of `x` is not rows x cols; then `out` is untouched.
pub fn quantize<'a, T: Float>(
    kernels: &Kernels,
    x: &[T],
    quantizer: impl Into<Quantizer>,
    out: impl Into<PackedMut<'a>>,
    par: Par<'_>,
) -> Result<()> {
    let (quantizer, out) = (&quantizer.into(), out.into());
    let (rows, cols, planes) = check_out(&out, quantizer.encoding())?;
    check_len(
        "x",
        x.len(),
        elements("rows x cols", &[rows, cols])?,
        "rows x cols",
    )?;
    if cols == 0 {
        return Ok(());
    }
    let steps = Steps::new(quantizer);
    let row_words = planes * cols.div_ceil(32);
    let cost = cols.saturating_mul(1 + planes) / LANES;
    par.rows(out.words(), row_words, cost, &|row, out: &mut [u32]| {
        row_to_planes(kernels, &x[row * cols..][..cols], &steps, planes, out);
    });
    Ok(())
}

/// Quantizes `x` into a byte each, what [`ByteRef`](crate::bits::ByteRef) takes: unsigned codes as they are,
/// signed ones as two's complement over the whole byte.
///
/// The codes are those of [`Quantizer::code`] for the values as f32, on every ISA. Errors if the quantizer's
/// encoding is bipolar or `out` is not as long as `x`; then `out` is untouched.
pub fn quantize_bytes<T: Float>(
    kernels: &Kernels,
    x: &[T],
    quantizer: impl Into<Quantizer>,
    out: &mut [u8],
    par: Par<'_>,
) -> Result<()> {
    let quantizer = &quantizer.into();
    if quantizer.encoding() == Encoding::Bipolar {
        return Err(Error::argument(
            "quantizer",
            quantizer.encoding(),
            "unsigned or signed codes for bytes",
        ));
    }
    check_len("out", out.len(), x.len(), "the length of x")?;
    let steps = Steps::new(quantizer);
    let pieces = par.pieces((2 * x.len() / LANES) as u64);
    if pieces == 1 {
        row_to_bytes(kernels, x, &steps, out);
        return Ok(());
    }
    let each = x.len().div_ceil(pieces).next_multiple_of(CHUNK);
    let parts = x.chunks(each).zip(out.chunks_mut(each));
    par.share(parts, &|(x, out): (&[T], &mut [u8])| {
        row_to_bytes(kernels, x, &steps, out)
    });
    Ok(())
}

fn row_to_planes<T: Float>(
    kernels: &Kernels,
    x: &[T],
    steps: &Steps,
    planes: usize,
    out: &mut [u32],
) {
    match T::as_f32s(x) {
        Some(x) => kernels.quantize(x, steps, planes, out),
        None => quantize_converted(kernels, x, steps, planes, out),
    }
}

fn row_to_bytes<T: Float>(kernels: &Kernels, x: &[T], steps: &Steps, out: &mut [u8]) {
    if let Some(x) = T::as_f32s(x) {
        return kernels.quantize_bytes(x, steps, out);
    }
    let mut floats = [0f32; CHUNK];
    for (x, out) in x.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
        let floats = &mut floats[..x.len()];
        T::widen(x, floats);
        kernels.quantize_bytes(floats, steps, out);
    }
}

/// A row of 16-bit floats: converted a chunk at a time on the stack, packed, and moved to its place.
fn quantize_converted<T: Float>(
    kernels: &Kernels,
    x: &[T],
    steps: &Steps,
    planes: usize,
    out: &mut [u32],
) {
    let words = x.len().div_ceil(32);
    let mut floats = [0f32; CHUNK];
    let mut packed = [0u32; 8 * CHUNK / 32];
    for (i, chunk) in x.chunks(CHUNK).enumerate() {
        T::widen(chunk, &mut floats[..chunk.len()]);
        let chunk_words = chunk.len().div_ceil(32);
        let packed = &mut packed[..planes * chunk_words];
        kernels.quantize(&floats[..chunk.len()], steps, planes, packed);
        for plane in 0..planes {
            let from = &packed[plane * chunk_words..(plane + 1) * chunk_words];
            let at = plane * words + i * (CHUNK / 32);
            out[at..at + chunk_words].copy_from_slice(from);
        }
    }
}

/// Packs bytes that are codes of an unsigned encoding already, `[rows, cols]` row-major: pixels, say.
///
/// Errors if `out` is not unsigned, a length is wrong, or a code needs more bits than `out` has; then
/// `out` is untouched.
pub fn pack_codes<'a>(
    kernels: &Kernels,
    codes: &[u8],
    out: impl Into<PackedMut<'a>>,
) -> Result<()> {
    let out = out.into();
    let Encoding::Unsigned(bits) = out.encoding() else {
        return Err(Error::argument(
            "out",
            out.encoding(),
            "an unsigned encoding",
        ));
    };
    let (rows, cols, planes) = check_out(&out, out.encoding())?;
    check_len(
        "codes",
        codes.len(),
        elements("rows x cols", &[rows, cols])?,
        "rows x cols",
    )?;
    let limit = bits.max_code() as u8;
    if let Some(i) = codes.iter().position(|&c| c > limit) {
        return Err(Error::argument(
            "codes",
            format_args!("{} at {i}", codes[i]),
            format_args!("at most {limit}"),
        ));
    }
    if cols == 0 {
        return Ok(());
    }
    let row_words = planes * cols.div_ceil(32);
    for (codes, out) in codes
        .chunks_exact(cols)
        .zip(out.words().chunks_exact_mut(row_words))
    {
        kernels.pack(codes, planes, out);
    }
    Ok(())
}

fn check_out(out: &PackedMut<'_>, encoding: Encoding) -> Result<(usize, usize, usize)> {
    if out.encoding() != encoding {
        return Err(Error::argument(
            "out",
            out.encoding(),
            format_args!("{encoding}, the quantizer's encoding"),
        ));
    }
    Ok((out.rows(), out.cols(), encoding.planes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::PackedMatrix;
    use crate::ops::Pool;
    use crate::quant::{ActQuantizer, Linear, QuantRelu, Rounding, RowQuantizer};
    use half::{bf16, f16};

    fn check<T: Float + std::fmt::Debug>(
        x: &[T],
        rows: usize,
        quantizer: impl Into<Quantizer> + Copy,
    ) {
        let taken = quantizer;
        let quantizer: Quantizer = quantizer.into();
        let (e, cols) = (quantizer.encoding(), x.len() / rows);
        let codes: Vec<i32> = x
            .iter()
            .map(|x| e.decode(quantizer.code(x.to_f32())).unwrap())
            .collect();
        for kernels in Kernels::available() {
            let mut out = PackedMatrix::zeros(e, rows, cols).unwrap();
            quantize(kernels, x, taken, &mut out, Par::Caller).unwrap();
            assert_eq!(out.unpack(), codes, "{} {cols}", kernels.isa());
            let mut bytes = vec![0xAA; x.len()];
            let said = quantize_bytes(kernels, x, taken, &mut bytes, Par::Caller);
            if e == Encoding::Bipolar {
                assert!(said.unwrap_err().to_string().starts_with("quantizer is bi"));
                continue;
            }
            said.unwrap();
            let bytes: Vec<i32> = match e.min() {
                0 => bytes.iter().map(|&b| i32::from(b)).collect(),
                _ => bytes.iter().map(|&b| i32::from(b as i8)).collect(),
            };
            assert_eq!(bytes, codes, "{} {cols} {e} bytes", kernels.isa());
        }
    }

    #[test]
    fn all_float_types_follow_the_definition() {
        for cols in [1, 31, 255, 256, 257, 300, 513] {
            let x: Vec<f32> = (0..2 * cols)
                .map(|i| (i * 71 % 1013) as f32 / 300.0 - 0.8)
                .collect();
            let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
            let brains: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
            for bits in [1, 2, 4, 8] {
                let relu = ActQuantizer::Relu(QuantRelu::new(bits, 0.17, Rounding::Ceil).unwrap());
                for quantizer in [ActQuantizer::Sign, relu] {
                    check(&x, 2, quantizer);
                    check(&halves, 2, quantizer);
                    check(&brains, 2, quantizer);
                }
                let u = Encoding::unsigned(bits).unwrap();
                let linear = [
                    Linear::symmetric(bits.max(2), 0.07).unwrap(),
                    Linear::affine(u, 0.03, u.max() / 2).unwrap(),
                ];
                for quantizer in linear {
                    check(&x, 2, quantizer);
                    check(&halves, 2, quantizer);
                    check(&brains, 2, quantizer);
                }
            }
        }
        let odd = [
            f16::NAN,
            f16::NEG_ZERO,
            f16::INFINITY,
            f16::NEG_INFINITY,
            f16::MIN_POSITIVE_SUBNORMAL,
        ];
        check(&odd, 1, ActQuantizer::Sign);
        check(
            &odd,
            1,
            ActQuantizer::Relu(QuantRelu::new(4, 0.3, Rounding::Nearest).unwrap()),
        );
    }

    #[test]
    fn threads_change_nothing() {
        let (rows, cols) = (37, 4099);
        let x: Vec<f32> = (0..rows * cols)
            .map(|i| (i * 71 % 1013) as f32 / 300.0 - 0.8)
            .collect();
        let relu = ActQuantizer::Relu(QuantRelu::new(4, 0.17, Rounding::Ceil).unwrap());
        let s8 = RowQuantizer::symmetric(8).unwrap();
        let u4 = RowQuantizer::affine(Encoding::unsigned(4).unwrap()).unwrap();
        let kernels = Kernels::available().last().unwrap();
        let pools = [1, 2, 5].map(|threads| Pool::new(threads).unwrap());
        let all = |par| {
            let mut planes = PackedMatrix::zeros(relu.encoding(), rows, cols).unwrap();
            let mut bytes = vec![0xAA; rows * cols];
            quantize(kernels, &x, relu, &mut planes, par).unwrap();
            quantize_bytes(kernels, &x, relu, &mut bytes, par).unwrap();
            let mut by_row = PackedMatrix::zeros(u4.encoding(), rows, cols).unwrap();
            let (mut scales, mut zeros) = (vec![0.0; rows], vec![0; rows]);
            let (s, z) = (&mut scales, &mut zeros);
            quantize_rows(kernels, &x, &u4, &mut by_row, s, z, par).unwrap();
            let (mut again, mut some) = (vec![0xAA; rows * cols], vec![0.0; rows]);
            quantize_rows_bytes(kernels, &x, &s8, &mut again, &mut some, &mut [], par).unwrap();
            let packed = [planes.words().to_vec(), by_row.words().to_vec()];
            (packed, [bytes, again], [scales, some], zeros)
        };
        let expected = all(Par::Caller);
        for pool in &pools {
            assert!(
                all(Par::Pool(pool)) == expected,
                "{} threads",
                pool.threads()
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let kernels = Kernels::available().last().unwrap();
        let mut out = PackedMatrix::zeros(Encoding::unsigned(2).unwrap(), 2, 3).unwrap();
        let said = quantize(
            kernels,
            &[1.0f32; 6],
            ActQuantizer::Sign,
            &mut out,
            Par::Caller,
        )
        .unwrap_err();
        assert_eq!(
            said.to_string(),
            "out is u2; expected bipolar, the quantizer's encoding"
        );
        let relu = QuantRelu::new(2, 1.0, Rounding::Ceil).unwrap();
        let said =
            quantize_bytes(kernels, &[1.0f32; 6], relu, &mut [0; 5], Par::Caller).unwrap_err();
        assert_eq!(
            said.to_string(),
            "out is 5 elements long; expected 6 (the length of x)"
        );
        let said = pack_codes(kernels, &[0, 1, 2, 3, 4, 0], &mut out).unwrap_err();
        assert_eq!(said.to_string(), "codes is 4 at 4; expected at most 3");
        let said = pack_codes(kernels, &[0; 5], &mut out).unwrap_err();
        assert_eq!(
            said.to_string(),
            "codes is 5 elements long; expected 6 (rows x cols)"
        );
        assert!(out.words().iter().all(|&w| w == 0));
        pack_codes(kernels, &[0, 1, 2, 3, 3, 0], &mut out).unwrap();
        assert_eq!(out.unpack(), [0, 1, 2, 3, 3, 0]);
    }
}
