//! What is multiplied: shapes, pairs of encodings, random matrices, and the oracle of products.

use std::fmt;
use std::str::FromStr;

use qcore::bits::{Encoding, PackedMatrix};
use qcore::ops::Gemm;
use qcore::{Error, Result};

/// Elements that a matrix of the bench may have: 1 GiB of floats.
const LARGEST: usize = 1 << 28;

/// Sampled elements of a result that are checked.
const SAMPLES: usize = 100;

/// A product `[N, K] x [M, K] -> [M, N]`: N outputs, M rows of activations, K inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub n: usize,
    pub m: usize,
    pub k: usize,
}

impl Shape {
    pub const fn new(n: usize, m: usize, k: usize) -> Self {
        Shape { n, m, k }
    }

    /// Multiply-adds.
    pub fn macs(&self) -> f64 {
        self.n as f64 * self.m as f64 * self.k as f64
    }

    /// `gemv` for one row of activations, else `gemm`.
    pub fn op(&self) -> &'static str {
        if self.m == 1 { "gemv" } else { "gemm" }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.n, self.m, self.k)
    }
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |expected: &str| Error::argument("shape", text, expected);
        let sizes: Vec<usize> = text.split('x').map_while(|s| s.parse().ok()).collect();
        match sizes[..] {
            [n, m, k] if ![n, m, k].contains(&0) && text.split('x').count() == 3 => {
                let small = |a: usize, b| a.checked_mul(b).is_some_and(|ab| ab <= LARGEST);
                match small(n, k) && small(m, k) && small(n, m) {
                    true => Ok(Shape { n, m, k }),
                    false => Err(refuse("matrices of at most 2^28 elements")),
                }
            }
            _ => Err(refuse("NxMxK, each 1 or more, as in 512x512x512")),
        }
    }
}

/// Encodings of weights and of activations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    pub w: Encoding,
    pub a: Encoding,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.w, self.a)
    }
}

impl FromStr for Pair {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "WEIGHTS:ACTIVATIONS, as in bipolar:u4";
        let (w, a) = text
            .split_once(':')
            .ok_or_else(|| Error::argument("pair", text, expected))?;
        let pair = Pair {
            w: w.parse()?,
            a: a.parse()?,
        };
        // Refuses activations that no plan takes.
        Gemm::max_k(pair.w, pair.a)?;
        Ok(pair)
    }
}

/// SplitMix64: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    /// `len` floats in [-1, 1).
    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        let mut float = || (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        (0..len).map(|_| float()).collect()
    }

    /// A matrix of random codes.
    pub fn packed(&mut self, e: Encoding, rows: usize, cols: usize) -> Result<PackedMatrix> {
        let tail = !0u32 >> ((32 - cols % 32) % 32);
        let words = cols.div_ceil(32);
        let mut data: Vec<u32> = (0..rows * e.planes() * words)
            .map(|i| self.next() as u32 & if i % words + 1 == words { tail } else { !0 })
            .collect();
        if e == Encoding::Ternary {
            // The sign of zero is 0.
            for row in data.chunks_exact_mut(2 * words) {
                let (signs, nonzero) = row.split_at_mut(words);
                for (sign, nonzero) in signs.iter_mut().zip(nonzero) {
                    *sign &= *nonzero;
                }
            }
        }
        PackedMatrix::from_words(e, rows, cols, data)
    }
}

/// The first sampled element of an `[M, N]` result that is not what `expected(row, lane)` says, as an error.
pub fn check<T: fmt::Display>(
    what: &str,
    shape: Shape,
    expected: impl Fn(usize, usize) -> T,
    is: impl Fn(usize, &T) -> Option<T>,
) -> Result<()> {
    let Shape { n, m, .. } = shape;
    let mut random = Random(7);
    let mut at = vec![(0, 0), (0, n - 1), (m - 1, 0), (m - 1, n - 1)];
    at.extend((0..SAMPLES).map(|_| (random.next() as usize % m, random.next() as usize % n)));
    for (row, lane) in at {
        let expected = expected(row, lane);
        if let Some(got) = is(row * n + lane, &expected) {
            let problem = format!("[{row}, {lane}] is {got}; expected {expected}");
            return Err(Error::format(format!("{what} {shape}"), problem));
        }
    }
    Ok(())
}
