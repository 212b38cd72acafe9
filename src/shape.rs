//! Arithmetic of shapes that cannot overflow, and the length checks that every operation makes.

use crate::error::{Error, Result};

/// Bits in a word of a bit plane.
pub const WORD_BITS: usize = 32;

/// Words that hold `k` bits.
pub const fn words(k: usize) -> usize {
    k.div_ceil(WORD_BITS)
}

/// The product of the dimensions, or an error that names `name` when it leaves `isize`.
pub fn elements(name: &'static str, dims: &[usize]) -> Result<usize> {
    // Four bytes are the widest element here, and an allocation must stay below isize::MAX bytes.
    const LIMIT: usize = isize::MAX as usize / 4;
    let product = dims
        .iter()
        .try_fold(1usize, |p, &d| p.checked_mul(d))
        .filter(|&p| p <= LIMIT);
    product.ok_or_else(|| Error::argument(name, show(dims), "a size that fits in memory"))
}

/// Errors unless `got` equals `expected`; `dims` tells where the expectation comes from.
pub fn check_len(name: &'static str, got: usize, expected: usize, dims: &str) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::argument(
        name,
        format_args!("{got} elements long"),
        format_args!("{expected} ({dims})"),
    ))
}

fn show(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    format!("[{}]", dims.join(", "))
}
