//! C: encodings, and integers into packed words and back.

use super::enter;
use super::pointer::{Out, slice, slice_mut};
use super::status::Answer;
use crate::bits::{Encoding, PackedMatrix, PackedRef};
use crate::error::Error;
use crate::shape::{elements, words as words_of};

/// Encoding: -1 and +1; 1 bit plane.
pub const QC_BIPOLAR: i32 = 1;
/// Encoding: -1, 0 and +1; 2 bit planes.
pub const QC_TERNARY: i32 = 2;
/// Encoding: unsigned of 1 bit, 0 .. 1. QC_U1 + b - 1 is unsigned of b bits, 0 .. 2^b - 1.
pub const QC_U1: i32 = 11;
/// Encoding: 0 .. 3.
pub const QC_U2: i32 = 12;
/// Encoding: 0 .. 7.
pub const QC_U3: i32 = 13;
/// Encoding: 0 .. 15.
pub const QC_U4: i32 = 14;
/// Encoding: 0 .. 31.
pub const QC_U5: i32 = 15;
/// Encoding: 0 .. 63.
pub const QC_U6: i32 = 16;
/// Encoding: 0 .. 127.
pub const QC_U7: i32 = 17;
/// Encoding: 0 .. 255.
pub const QC_U8: i32 = 18;
/// Encoding: two's complement of 1 bit, -1 .. 0. QC_S1 + b - 1 has b bits, -2^(b-1) .. 2^(b-1) - 1.
pub const QC_S1: i32 = 21;
/// Encoding: -2 .. 1.
pub const QC_S2: i32 = 22;
/// Encoding: -4 .. 3.
pub const QC_S3: i32 = 23;
/// Encoding: -8 .. 7.
pub const QC_S4: i32 = 24;
/// Encoding: -16 .. 15.
pub const QC_S5: i32 = 25;
/// Encoding: -32 .. 31.
pub const QC_S6: i32 = 26;
/// Encoding: -64 .. 63.
pub const QC_S7: i32 = 27;
/// Encoding: -128 .. 127.
pub const QC_S8: i32 = 28;

/// The encoding of a number from C, an error under the name `name` if it is none.
pub(super) fn encoding(name: &'static str, number: i32) -> Answer<Encoding> {
    let encoding = match number {
        QC_BIPOLAR => Encoding::Bipolar,
        QC_TERNARY => Encoding::Ternary,
        QC_U1..=QC_U8 => Encoding::unsigned((number - QC_U1 + 1) as usize)?,
        QC_S1..=QC_S8 => Encoding::signed((number - QC_S1 + 1) as usize)?,
        _ => {
            let expected = "QC_BIPOLAR, QC_TERNARY, QC_U1..QC_U8 or QC_S1..QC_S8";
            return Err(Error::argument(name, number, expected).into());
        }
    };
    Ok(encoding)
}

/// The number of an encoding.
#[cfg(feature = "train")]
pub(super) fn number_of(encoding: Encoding) -> i32 {
    match encoding {
        Encoding::Bipolar => QC_BIPOLAR,
        Encoding::Ternary => QC_TERNARY,
        Encoding::Unsigned(bits) => QC_U1 + bits.get() as i32 - 1,
        Encoding::Signed(bits) => QC_S1 + bits.get() as i32 - 1,
    }
}

/// The number of words of a packed matrix: rows x planes x ceil(cols / 32).
///
/// Word ((row * planes) + plane) * ceil(cols / 32) + k / 32 has column k at bit k % 32. Bits behind the
/// last column are zero. A word is four bytes, least significant first in files.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_packed_words(
    encoding: i32,
    rows: usize,
    cols: usize,
    words: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let words = unsafe { Out::new("words", words)? };
        let encoding = self::encoding("encoding", encoding)?;
        words.write(count("rows x cols", encoding, rows, cols)?);
        Ok(())
    })
}

/// Packs `values`, `[rows, cols]` row-major, into `words`.
///
/// `n_words` is what `qc_packed_words` says. An integer that the encoding lacks is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_pack(
    encoding: i32,
    rows: usize,
    cols: usize,
    values: *const i32,
    words: *mut u32,
    n_words: usize,
) -> i32 {
    enter(|| {
        let encoding = self::encoding("encoding", encoding)?;
        let len = elements("rows x cols", &[rows, cols])?;
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (values, words) = unsafe {
            let values = slice("values", values, len)?;
            (values, slice_mut("words", words, n_words)?)
        };
        check_words("n_words", n_words, encoding, "rows x cols", rows, cols)?;
        let packed = PackedMatrix::pack(encoding, rows, cols, values)?;
        words.copy_from_slice(packed.words());
        Ok(())
    })
}

/// Turns packed words back into integers, `[rows, cols]` row-major.
///
/// `n_words` is what `qc_packed_words` says, `n_values` is rows x cols. Words that are not in the packed
/// form are an error: a bit behind the last column, a ternary code that no integer has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_unpack(
    encoding: i32,
    rows: usize,
    cols: usize,
    words: *const u32,
    n_words: usize,
    values: *mut i32,
    n_values: usize,
) -> i32 {
    enter(|| {
        let encoding = self::encoding("encoding", encoding)?;
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (words, values) = unsafe {
            let words = slice("words", words, n_words)?;
            (words, slice_mut("values", values, n_values)?)
        };
        let len = elements("rows x cols", &[rows, cols])?;
        if n_values != len {
            let expected = format!("{len}, rows x cols");
            return Err(Error::argument("n_values", n_values, expected).into());
        }
        check_words("n_words", n_words, encoding, "rows x cols", rows, cols)?;
        let packed = PackedRef::new(encoding, rows, cols, words)?;
        values.copy_from_slice(&packed.unpack());
        Ok(())
    })
}

fn count(name: &'static str, encoding: Encoding, rows: usize, cols: usize) -> Answer<usize> {
    let dims = [rows, encoding.planes(), words_of(cols)];
    Ok(elements(name, &dims)?)
}

/// Errors under the name `name` unless `n_words` is right; `dims` names the rows and columns.
pub(super) fn check_words(
    name: &'static str,
    n_words: usize,
    encoding: Encoding,
    dims: &'static str,
    rows: usize,
    cols: usize,
) -> Answer<()> {
    let len = count(dims, encoding, rows, cols)?;
    if n_words != len {
        let expected = format!("{len}, as qc_packed_words says for {encoding} [{rows}, {cols}]");
        return Err(Error::argument(name, n_words, expected).into());
    }
    Ok(())
}

/// Rows that live on their own.
pub(super) fn owned(packed: PackedRef<'_>) -> Answer<PackedMatrix> {
    let (encoding, rows, cols) = (packed.encoding(), packed.rows(), packed.cols());
    Ok(PackedMatrix::from_words(
        encoding,
        rows,
        cols,
        packed.words().to_vec(),
    )?)
}
