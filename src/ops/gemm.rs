//! Products of packed weights and packed activations.

use std::fmt;
use std::ops::Range;

use super::Par;
use crate::bits::{Encoding, PackedRef};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::bounds::Sequence;
use crate::kernels::{Kernels, MatMut};
use crate::shape::{check_len, words};

mod activations;
pub(super) mod method;
mod tables;

pub use activations::Activations;
use method::{Integers, Method, Scaled, Way};

/// What happens to the integer sums of a product.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Epilogue {
    /// They are the result, i32.
    #[default]
    None,
    /// `scale[n] * sum + bias[n]` in f32: the sum converted to the nearest even f32, the product rounded,
    /// then the sum rounded; never contracted into a fused operation. Both have N elements.
    ScaleBias {
        /// Factor of each output channel.
        scale: Vec<f32>,
        /// Summand of each output channel.
        bias: Vec<f32>,
    },
}

/// A plan for `activations [M, K] x weights [N, K] -> [M, N]`: weights prepacked, kernel chosen.
///
/// Weights are of any encoding; activations are bipolar, unsigned or signed of 1 to 8 bits. Sums are
/// exact i32: |sum| <= K max|w| max|a|, and a plan for which that bound exceeds 2^31 - 1 is refused. So K may be
/// up to [`Gemm::max_k`]. The result is the same on every ISA and for every number of threads.
pub struct Gemm {
    kernels: &'static Kernels,
    method: Method,
    weight: Encoding,
    activation: Encoding,
    n: usize,
    k: usize,
    /// Scale and bias, padded to whole panels.
    scale_bias: Option<(Vec<f32>, Vec<f32>)>,
}

impl Gemm {
    /// A plan for `weights` `[N, K]` and activations of the encoding `activation`, on the ISA that
    /// [`Isa::chosen`] gives.
    ///
    /// Errors if an encoding is not served, if K exceeds the accumulator's bound, if the epilogue's
    /// lengths are not N, or if `QCORE_ISA` asks for an ISA that is not here.
    pub fn new(weights: PackedRef<'_>, activation: Encoding, epilogue: Epilogue) -> Result<Self> {
        Self::on(Isa::chosen()?, weights, activation, epilogue)
    }

    /// As [`Gemm::new`], on a given ISA.
    pub fn on(
        isa: Isa,
        weights: PackedRef<'_>,
        activation: Encoding,
        epilogue: Epilogue,
    ) -> Result<Self> {
        Self::by(None, isa, weights, activation, epilogue)
    }

    /// As [`Gemm::on`], in a given way instead of the fastest.
    fn by(
        way: Option<Way>,
        isa: Isa,
        weights: PackedRef<'_>,
        activation: Encoding,
        epilogue: Epilogue,
    ) -> Result<Self> {
        let kernels = Kernels::of(isa)?;
        let (n, k) = (weights.rows(), weights.cols());
        let max_k = Self::max_k(weights.encoding(), activation)?;
        if k > max_k {
            let pair = format!("{} x {activation}", weights.encoding());
            let expected = format!("at most {max_k} for {pair}, or i32 sums overflow");
            return Err(Error::argument("K", k, expected));
        }
        let way = way.unwrap_or_else(|| Method::choose(kernels, n, weights.encoding(), activation));
        let method = Method::new(way, kernels, weights, activation)?;
        let nr = method.nr();
        let scale_bias = match epilogue {
            Epilogue::None => None,
            Epilogue::ScaleBias { scale, bias } => {
                check_len("scale", scale.len(), n, "N")?;
                check_len("bias", bias.len(), n, "N")?;
                let pad = |mut v: Vec<f32>| {
                    v.resize(n.next_multiple_of(nr), 0.0);
                    v
                };
                Some((pad(scale), pad(bias)))
            }
        };
        Ok(Gemm {
            kernels,
            method,
            weight: weights.encoding(),
            activation,
            n,
            k,
            scale_bias,
        })
    }

    /// The largest K for which a sum cannot overflow i32: floor((2^31 - 1) / (max|w| max|a|)).
    ///
    /// Bipolar or ternary weights: 2,147,483,647 for bipolar activations, 143,165,576 for u4, 8,421,504 for
    /// u8. s8 x s8: 131,071. Errors if the encoding is not served as activations.
    pub fn max_k(weight: Encoding, activation: Encoding) -> Result<usize> {
        if activation == Encoding::Ternary {
            let expected = "bipolar, u1..u8 or s1..s8";
            return Err(Error::argument("activation", activation, expected));
        }
        let largest = weight.magnitude() as usize * activation.magnitude() as usize;
        Ok(i32::MAX as usize / largest)
    }

    /// Elements of i32 scratch that a run over `rows` rows of packed codes needs.
    pub fn scratch_len(&self, rows: usize) -> usize {
        self.method.scratch_of_planes(rows)
    }

    /// Elements of i32 scratch that a run over `rows` rows of bytes needs.
    pub fn scratch_len_bytes(&self, rows: usize) -> usize {
        self.method.scratch_of_bytes(rows)
    }

    /// [`Gemm::scratch_len`] or [`Gemm::scratch_len_bytes`], whichever these activations need.
    pub fn scratch_len_of(&self, activations: &Activations<'_>, rows: usize) -> usize {
        match activations {
            Activations::Planes(_) => self.scratch_len(rows),
            Activations::Bytes(_) => self.scratch_len_bytes(rows),
        }
    }

    /// The sums of rows `rows` of `activations`, into `out` `[rows.len(), N]`.
    ///
    /// `scratch` has [`Gemm::scratch_len`] or, for bytes, [`Gemm::scratch_len_bytes`] elements or more. Errors if the encoding or K of the
    /// activations differ from the plan's, the range leaves the rows, or a length is wrong; then `out` is
    /// untouched.
    pub fn run_i32<'a>(
        &self,
        activations: impl Into<Activations<'a>>,
        rows: Range<usize>,
        out: &mut [i32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        let activations = self.check(activations.into(), rows, scratch.len())?;
        let out = MatMut::new("out", out, activations.shape().1, self.n)?;
        self.method.run(activations, out, scratch, par, &Integers);
        Ok(())
    }

    /// The floats `scale * sum + bias` of rows `rows` of `activations`, into `out` `[rows.len(), N]`.
    ///
    /// As [`Gemm::run_i32`]; errors also if the plan was made without [`Epilogue::ScaleBias`].
    pub fn run_f32<'a>(
        &self,
        activations: impl Into<Activations<'a>>,
        rows: Range<usize>,
        out: &mut [f32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        let Some((scale, bias)) = &self.scale_bias else {
            let expected = "scale and bias for a result in f32";
            return Err(Error::argument("epilogue", "none", expected));
        };
        let activations = self.check(activations.into(), rows, scratch.len())?;
        let out = MatMut::new("out", out, activations.shape().1, self.n)?;
        let scaled = Scaled { scale, bias };
        self.method.run(activations, out, scratch, par, &scaled);
        Ok(())
    }

    /// The rows to work on, once everything fits.
    fn check<'a>(
        &self,
        activations: Activations<'a>,
        rows: Range<usize>,
        scratch: usize,
    ) -> Result<Activations<'a>> {
        let (encoding, m, k) = activations.shape();
        if encoding != self.activation {
            let expected = format!("{} codes, as the plan says", self.activation);
            return Err(Error::argument("activations", encoding, expected));
        }
        if k != self.k {
            return Err(Error::argument("K of the activations", k, self.k));
        }
        if rows.start > rows.end || rows.end > m {
            let expected = format!("a range inside 0..{m}");
            return Err(Error::argument("rows", format_args!("{rows:?}"), expected));
        }
        let needed = self.scratch_len_of(&activations, rows.len());
        if scratch < needed {
            let value = format!("{scratch} elements long");
            return Err(Error::argument(
                "scratch",
                value,
                format_args!("at least {needed}"),
            ));
        }
        Ok(activations.slice_rows(rows))
    }

    /// Output channels, N.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs of a channel, K.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The encoding of the weights.
    pub fn weight(&self) -> Encoding {
        self.weight
    }

    /// The encoding of the activations.
    pub fn activation(&self) -> Encoding {
        self.activation
    }

    /// The ISA whose kernels run.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Bytes of weights in the canonical packed form, without the padding of panels.
    pub fn weight_bytes(&self) -> usize {
        self.n * self.weight.planes() * words(self.k) * 4
    }

    /// Bytes of weights as prepacked for the kernel.
    pub fn prepacked_bytes(&self) -> usize {
        self.method.bytes()
    }

    /// What the inner loop does and how often it walks along K, for whoever compares the plan with the limits of
    /// the core ([`Loops`](crate::kernels::bounds::Loops)).
    pub fn sequence(&self) -> (Sequence, usize) {
        self.method.sequence()
    }

    /// Which kernel runs, for people: ISA, method, tile and planes.
    pub fn describe(&self) -> String {
        self.method.describe()
    }
}

impl fmt::Debug for Gemm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Gemm(N {}, K {}, {} x {}, {})",
            self.n,
            self.k,
            self.weight,
            self.activation,
            self.describe()
        )
    }
}

#[cfg(test)]
mod tests;
