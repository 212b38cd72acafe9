//! Products of packed weights and packed activations.

use std::fmt;
use std::ops::Range;

use super::Par;
use crate::bits::{ByteRef, Encoding, PackedRef};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::{BitWeights, ByteKernel, ByteWeights, Kernels, MatMut, Out};
use crate::shape::{check_len, words};

mod grid;

use grid::Grid;

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

/// What a product reads: codes in bit planes or a byte each. A plan takes either and turns it into what its
/// kernel wants, in scratch.
#[derive(Clone, Copy, Debug)]
pub enum Activations<'a> {
    /// Bit planes, the canonical packed form.
    Planes(PackedRef<'a>),
    /// A byte each.
    Bytes(ByteRef<'a>),
}

impl<'a> From<PackedRef<'a>> for Activations<'a> {
    fn from(planes: PackedRef<'a>) -> Self {
        Activations::Planes(planes)
    }
}

impl<'a> From<ByteRef<'a>> for Activations<'a> {
    fn from(bytes: ByteRef<'a>) -> Self {
        Activations::Bytes(bytes)
    }
}

impl Activations<'_> {
    fn slice_rows(&self, rows: Range<usize>) -> Self {
        match self {
            Activations::Planes(planes) => Activations::Planes(planes.slice_rows(rows)),
            Activations::Bytes(bytes) => Activations::Bytes(bytes.slice_rows(rows)),
        }
    }

    fn shape(&self) -> (Encoding, usize, usize) {
        match self {
            Activations::Planes(a) => (a.encoding(), a.rows(), a.cols()),
            Activations::Bytes(a) => (a.encoding(), a.rows(), a.cols()),
        }
    }
}

/// How a product is done: the kernel and the weights as it wants them.
enum Method {
    /// Popcounts of bit planes.
    Bits(BitWeights),
    /// Multiply-add of bytes.
    Bytes(&'static ByteKernel, ByteWeights),
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

/// Activations in the form of the method, and the sums of their rows if it needs them.
struct Ready<'a> {
    form: Form<'a>,
    sums: &'a [i32],
}

enum Form<'a> {
    Planes(PackedRef<'a>),
    /// Rows of bytes, `stride` apart.
    Bytes(&'a [u8], usize),
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
        let kernels = Kernels::of(isa)?;
        let (n, k) = (weights.rows(), weights.cols());
        let max_k = Self::max_k(weights.encoding(), activation)?;
        if k > max_k {
            let pair = format!("{} x {activation}", weights.encoding());
            let expected = format!("at most {max_k} for {pair}, or i32 sums overflow");
            return Err(Error::argument("K", k, expected));
        }
        let method = Self::choose(kernels, weights, activation)?;
        let nr = method.nr(kernels);
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

    /// The method for a pair of encodings: bytes where bit-serial passes cost more than they do.
    fn choose(
        kernels: &'static Kernels,
        weights: PackedRef<'_>,
        activation: Encoding,
    ) -> Result<Method> {
        let passes = weights.encoding().planes() * activation.planes();
        match kernels.byte_kernel() {
            Some(bytes) if activation != Encoding::Bipolar && passes > bytes.worth_passes => {
                let signed = activation.min() < 0;
                let weights = ByteWeights::new(weights, signed, 0, bytes.lanes, bytes.vectors)?;
                Ok(Method::Bytes(bytes, weights))
            }
            _ => Ok(Method::Bits(BitWeights::new(
                weights,
                activation,
                kernels.nr(),
            )?)),
        }
    }

    /// Elements of i32 scratch that a run over `rows` rows needs, in whatever form the activations come.
    pub fn scratch_len(&self, rows: usize) -> usize {
        let (sums, form) = match &self.method {
            // Bipolar codes do not come in bytes.
            Method::Bits(w) if self.activation == Encoding::Bipolar => (w.needs_row_sums(), 0),
            Method::Bits(w) => (w.needs_row_sums(), self.activation.planes() * words(self.k)),
            Method::Bytes(_, w) => (w.base() != 0, w.row_bytes() / 4),
        };
        rows * (usize::from(sums) + form)
    }

    /// The sums of rows `rows` of `activations`, into `out` `[rows.len(), N]`.
    ///
    /// `scratch` has [`Gemm::scratch_len`] elements or more. Errors if the encoding or K of the
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
        self.run(activations, out, scratch, par, &Integers);
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
        let nr = self.method.nr(self.kernels);
        self.run(activations, out, scratch, par, &Scaled { scale, bias, nr });
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
        let needed = self.scratch_len(rows.len());
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

    /// Runs the method over all rows.
    fn run<T: Send>(
        &self,
        activations: Activations<'_>,
        out: MatMut<'_, T>,
        scratch: &mut [i32],
        par: Par<'_>,
        dress: &(impl Dress<T> + Sync),
    ) {
        let rows = activations.shape().1;
        if rows == 0 || self.n == 0 {
            return;
        }
        let ready = self.prepare(activations, scratch);
        let grid = self.grid();
        match (&self.method, ready.form) {
            (Method::Bits(weights), Form::Planes(planes)) => {
                grid.run(rows, weights.len(), out, par, &|panel, rows, out| {
                    let sums = if ready.sums.is_empty() {
                        &[]
                    } else {
                        &ready.sums[rows.clone()]
                    };
                    let out = dress.dress(panel, out);
                    self.kernels
                        .bitgemm(weights, panel, planes.slice_rows(rows), sums, out)
                })
            }
            (Method::Bytes(kernel, weights), Form::Bytes(bytes, stride)) => {
                grid.run(rows, weights.len(), out, par, &|panel, rows, out| {
                    let sums = if ready.sums.is_empty() {
                        &[]
                    } else {
                        &ready.sums[rows.clone()]
                    };
                    let bytes = &bytes[(rows.start * stride).min(bytes.len())..];
                    kernel.run(weights, panel, bytes, stride, sums, dress.dress(panel, out))
                })
            }
            _ => unreachable!("`prepare` gives the form of the method"),
        }
    }

    /// Brings activations into the form of the method and sums their rows, in scratch where needed.
    fn prepare<'a>(&self, activations: Activations<'a>, scratch: &'a mut [i32]) -> Ready<'a> {
        let rows = activations.shape().1;
        match &self.method {
            Method::Bits(weights) => {
                let (sums, rest) =
                    scratch.split_at_mut(if weights.needs_row_sums() { rows } else { 0 });
                let planes = match activations {
                    Activations::Planes(planes) => planes,
                    Activations::Bytes(bytes) => self
                        .kernels
                        .planes_of(bytes, bytemuck::cast_slice_mut(rest)),
                };
                if !sums.is_empty() {
                    self.kernels.row_sums(planes, sums);
                }
                let form = Form::Planes(planes);
                Ready { form, sums }
            }
            Method::Bytes(_, weights) => {
                let base = weights.base();
                let (sums, rest) = scratch.split_at_mut(if base == 0 { 0 } else { rows });
                let stride = weights.row_bytes();
                let bytes = match activations {
                    Activations::Bytes(bytes) if bytes.cols() == stride => bytes.data(),
                    other => {
                        let padded = &mut bytemuck::cast_slice_mut(rest)[..rows * stride];
                        match other {
                            Activations::Bytes(bytes) => pad_rows(bytes, stride, padded),
                            Activations::Planes(planes) => {
                                self.kernels.unpack(planes, stride, padded)
                            }
                        }
                        padded
                    }
                };
                if !sums.is_empty() {
                    self.kernels
                        .byte_sums(bytes, stride, weights.signed(), base, sums);
                }
                let form = Form::Bytes(bytes, stride);
                Ready { form, sums }
            }
        }
    }

    fn grid(&self) -> Grid {
        match &self.method {
            Method::Bits(weights) => {
                let row_words = self.activation.planes() * words(self.k);
                let vectors = (self.kernels.nr() / 8) as u64;
                Grid {
                    mr: self.kernels.mr(),
                    nr: self.kernels.nr(),
                    row_words,
                    steps: weights.passes() as u64 * words(self.k) as u64 * vectors,
                }
            }
            Method::Bytes(kernel, weights) => Grid {
                mr: kernel.mr,
                nr: weights.nr(),
                row_words: weights.row_bytes() / 4,
                steps: (weights.row_bytes() / 4 * kernel.vectors) as u64,
            },
        }
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
        match &self.method {
            Method::Bits(weights) => weights.bytes(),
            Method::Bytes(_, weights) => weights.bytes(),
        }
    }

    /// Which kernel runs, for people: ISA, method, tile and planes.
    pub fn describe(&self) -> String {
        let kernels = self.kernels;
        let isa = kernels.isa();
        match &self.method {
            Method::Bits(weights) => {
                let pass = match weights.passes() {
                    1 => "1 pass".to_string(),
                    passes => format!("{passes} bit-serial passes"),
                };
                let (name, mr, nr) = (kernels.bitgemm_name(), kernels.mr(), kernels.nr());
                format!("{isa}: {name}, tile {mr}x{nr}, {pass}")
            }
            Method::Bytes(kernel, weights) => {
                let (name, mr, nr) = (kernel.name, kernel.mr, weights.nr());
                let bits = weights.field_bits();
                format!("{isa}: {name}, tile {mr}x{nr}, weights in fields of {bits} bits")
            }
        }
    }
}

impl Method {
    /// Channels of a panel.
    fn nr(&self, kernels: &Kernels) -> usize {
        match self {
            Method::Bits(_) => kernels.nr(),
            Method::Bytes(_, weights) => weights.nr(),
        }
    }
}

/// How a panel's rectangle of the result becomes the kernel's output.
trait Dress<T> {
    fn dress<'a>(&'a self, panel: usize, out: MatMut<'a, T>) -> Out<'a>;
}

/// Sums as they are.
struct Integers;

impl Dress<i32> for Integers {
    fn dress<'a>(&'a self, _: usize, out: MatMut<'a, i32>) -> Out<'a> {
        Out::I32(out)
    }
}

/// Scale and bias of the panel's channels.
struct Scaled<'s> {
    scale: &'s [f32],
    bias: &'s [f32],
    nr: usize,
}

impl Dress<f32> for Scaled<'_> {
    fn dress<'a>(&'a self, panel: usize, out: MatMut<'a, f32>) -> Out<'a> {
        let lanes = panel * self.nr..(panel + 1) * self.nr;
        Out::F32 {
            out,
            scale: &self.scale[lanes.clone()],
            bias: &self.bias[lanes],
        }
    }
}

/// Rows of bytes, each followed by zeros up to `stride`.
fn pad_rows(bytes: ByteRef<'_>, stride: usize, out: &mut [u8]) {
    if bytes.cols() == 0 {
        return;
    }
    for (row, out) in bytes
        .data()
        .chunks_exact(bytes.cols())
        .zip(out.chunks_exact_mut(stride))
    {
        out[..row.len()].copy_from_slice(row);
        out[row.len()..].fill(0);
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
