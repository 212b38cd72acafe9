//! Products of packed weights and packed activations.

use std::fmt;
use std::ops::Range;

use super::Par;
use crate::bits::{Encoding, PackedRef};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::bounds::Sequence;
use crate::kernels::{Kernels, MatMut};
use crate::quant::{Granularity, Scales};
use crate::shape::{check_len, words};

mod activations;
mod epilogue;
mod groups;
pub(super) mod method;
mod rows;
pub(super) mod tables;

pub use activations::{Activations, Affine};
pub use epilogue::{Epilogue, Methods};
use groups::Groups;
use method::{Integers, Method, Scaled, Way};
pub use rows::RowScales;
use rows::{RowScaled, check_zero_point, reach};

/// A plan for `activations [M, K] x weights [N, K] -> [M, N]`: weights prepacked, kernel chosen.
///
/// Weights are of any encoding; activations are bipolar, unsigned or signed of 1 to 8 bits, minus a zero point if
/// they have one. Sums are exact i32: |sum| <= K max|w| max|a - zero point|, and a plan for which that bound exceeds
/// 2^31 - 1 is refused. So K may be up to [`Gemm::max_k`]. The result is the same on every ISA and for every number
/// of threads.
pub struct Gemm {
    kernels: &'static Kernels,
    work: Work,
    weight: Encoding,
    activation: Encoding,
    n: usize,
    k: usize,
    zero_point: i32,
}

/// How a plan goes about it.
enum Work {
    /// One sum for each result.
    Sums(Method, Option<Floats>),
    /// A sum for each group.
    Groups(Groups),
}

/// What makes floats of sums, for each channel, padded to whole panels.
struct Floats {
    scale: Vec<f32>,
    bias: Vec<f32>,
    /// Sums of the weights, for zero points that come with the rows.
    channel_sums: Vec<i32>,
}

impl Gemm {
    /// A plan for `weights` `[N, K]` and activations of the encoding `activation`, on the ISA that
    /// [`Isa::chosen`] gives.
    ///
    /// Errors if an encoding is not served, if K exceeds the accumulator's bound, if the epilogue's
    /// lengths are not those of N and K, or if `QCORE_ISA` asks for an ISA that is not here.
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
        Self::affine(isa, weights, activation, 0, epilogue)
    }

    /// As [`Gemm::on`], for activations whose code `zero_point` stands for 0: every sum is that of
    /// weight * (activation - zero_point).
    ///
    /// Errors also if the zero point is neither 0 nor an integer of `activation`.
    pub fn affine(
        isa: Isa,
        weights: PackedRef<'_>,
        activation: Encoding,
        zero_point: i32,
        epilogue: Epilogue,
    ) -> Result<Self> {
        Self::make(None, isa, weights, activation, zero_point, epilogue)
    }

    /// As [`Gemm::on`], in a given way instead of the fastest.
    #[cfg(test)]
    fn by(
        way: Option<Way>,
        isa: Isa,
        weights: PackedRef<'_>,
        activation: Encoding,
        epilogue: Epilogue,
    ) -> Result<Self> {
        Self::make(way, isa, weights, activation, 0, epilogue)
    }

    fn make(
        way: Option<Way>,
        isa: Isa,
        weights: PackedRef<'_>,
        activation: Encoding,
        zero_point: i32,
        epilogue: Epilogue,
    ) -> Result<Self> {
        let kernels = Kernels::of(isa)?;
        let (weight, n, k) = (weights.encoding(), weights.rows(), weights.cols());
        let max_k = Self::max_k_affine(weight, activation, zero_point)?;
        let (scale, bias) = match epilogue {
            Epilogue::None => (None, None),
            Epilogue::ScaleBias { scale, bias } => {
                check_len("scale", scale.len(), n, "N")?;
                (Some(Scales::new(Granularity::Channel, scale)?), Some(bias))
            }
            Epilogue::Scaled { scales, bias } => (Some(scales), bias),
        };
        // Adding -0.0 leaves every float as it is.
        let mut bias = bias.unwrap_or_else(|| vec![-0.0; n]);
        check_len("bias", bias.len(), n, "N")?;
        let plan = |work| Gemm {
            kernels,
            work,
            weight,
            activation,
            n,
            k,
            zero_point,
        };
        if let Some(scales) = &scale
            && let Granularity::Group(_) = scales.granularity()
        {
            let groups = Groups::new(kernels, weights, activation, zero_point, scales, bias)?;
            return Ok(plan(Work::Groups(groups)));
        }
        if k > max_k {
            let pair = format!("{weight} x {activation}");
            let expected = format!("at most {max_k} for {pair}, or i32 sums overflow");
            return Err(Error::argument("K", k, expected));
        }
        let mut method = match way {
            // Who names a method gets that one, for any number of rows.
            Some(way) => Method::new(way, kernels, weights, activation)?,
            None => {
                let way = Method::choose(kernels, n, weight, activation);
                Method::new(way, kernels, weights, activation)?.with_few_rows(weights)?
            }
        };
        let padded = n.next_multiple_of(method.nr());
        let mut channel_sums = vec![0; n];
        kernels.row_sums(weights, &mut channel_sums);
        for sum in &mut channel_sums {
            *sum = sum.wrapping_add((k as i32).wrapping_mul(weight.offset()));
        }
        method.start_with(|starts| {
            for (start, sum) in starts.iter_mut().zip(&channel_sums) {
                *start = start.wrapping_sub(sum.wrapping_mul(zero_point));
            }
        });
        let floats = match scale {
            None => None,
            Some(scales) => {
                scales.check(n, k)?;
                let mut scale: Vec<f32> = (0..n).map(|c| scales.get(c, 0, k)).collect();
                scale.resize(padded, 0.0);
                bias.resize(padded, 0.0);
                channel_sums.resize(padded, 0);
                Some(Floats {
                    scale,
                    bias,
                    channel_sums,
                })
            }
        };
        Ok(plan(Work::Sums(method, floats)))
    }

    /// The methods that `isa` has for a pair of encodings and scales of `granularity`: none if they are not
    /// served, or if the ISA is not here.
    pub fn methods(
        isa: Isa,
        weight: Encoding,
        activation: Encoding,
        granularity: Granularity,
    ) -> Methods {
        let served = Self::max_k(weight, activation).is_ok() && granularity.check().is_ok();
        let Some(kernels) = Kernels::of(isa).ok().filter(|_| served) else {
            return Methods::default();
        };
        let groups = matches!(granularity, Granularity::Group(_));
        let bytes = activation != Encoding::Bipolar && kernels.byte_kernel().is_some();
        let tables = kernels.lut_kernel(weight, activation).is_some();
        Methods {
            bits: !groups,
            bytes: groups || bytes,
            tables: !groups && tables,
        }
    }

    /// The largest K for which a sum cannot overflow i32: floor((2^31 - 1) / (max|w| max|a|)).
    ///
    /// Bipolar or ternary weights: 2,147,483,647 for bipolar activations, 143,165,576 for u4, 8,421,504 for
    /// u8. s8 x s8: 131,071. Errors if the encoding is not served as activations.
    pub fn max_k(weight: Encoding, activation: Encoding) -> Result<usize> {
        Self::max_k_affine(weight, activation, 0)
    }

    /// [`Gemm::max_k`] for activations with a zero point: floor((2^31 - 1) / (max|w| max|a - zero_point|)).
    ///
    /// s8 x s8 with a zero point of -128: 65,793. Errors if the encoding is not served as activations, or if the
    /// zero point is neither 0 nor one of its integers. Plans with a scale per group have no such bound.
    pub fn max_k_affine(weight: Encoding, activation: Encoding, zero_point: i32) -> Result<usize> {
        if activation == Encoding::Ternary {
            let expected = "bipolar, u1..u8 or s1..s8";
            return Err(Error::argument("activation", activation, expected));
        }
        check_zero_point("zero_point", activation, zero_point)?;
        let largest = weight.magnitude() as usize * reach(activation, zero_point);
        Ok(i32::MAX as usize / largest)
    }

    /// Elements of i32 scratch that a run over `rows` rows of packed codes needs.
    pub fn scratch_len(&self, rows: usize) -> usize {
        match &self.work {
            Work::Sums(method, _) => method.scratch_of_planes(rows),
            Work::Groups(groups) => groups.scratch_of_planes(rows),
        }
    }

    /// Elements of i32 scratch that a run over `rows` rows of bytes needs.
    pub fn scratch_len_bytes(&self, rows: usize) -> usize {
        match &self.work {
            Work::Sums(method, _) => method.scratch_of_bytes(rows),
            Work::Groups(groups) => groups.scratch_of_bytes(rows),
        }
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
    /// activations differ from the plan's, the range leaves the rows, a length is wrong, or the plan has scales per
    /// group; then `out` is untouched.
    pub fn run_i32<'a>(
        &self,
        activations: impl Into<Activations<'a>>,
        rows: Range<usize>,
        out: &mut [i32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        let Work::Sums(method, _) = &self.work else {
            let expected = "no scales per group for a result in i32";
            return Err(Error::argument("epilogue", "scales per group", expected));
        };
        let activations = self.check(activations.into(), rows, scratch.len())?;
        let out = MatMut::new("out", out, activations.shape().1, self.n)?;
        method.run(activations, out, scratch, par, &Integers);
        Ok(())
    }

    /// The floats `scale * sum + bias` of rows `rows` of `activations`, into `out` `[rows.len(), N]`.
    ///
    /// As [`Gemm::run_i32`], for plans with any scales; errors if the plan has none.
    pub fn run_f32<'a>(
        &self,
        activations: impl Into<Activations<'a>>,
        rows: Range<usize>,
        out: &mut [f32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        self.run_floats(activations.into(), None, rows, out, scratch, par)
    }

    /// As [`Gemm::run_f32`], for activations that were quantized row by row at run time: the floats
    /// `(scale * sum) * row_scale + bias`, where `sum` is that of weight * (activation - zero point of the row).
    /// With a scale per group, `t * row_scale + bias`, with t as in [`Epilogue::Scaled`]. Each step is rounded.
    ///
    /// `by_row` has an element for each of all M rows of `activations`. Errors also if it has not, if a zero point of
    /// `rows` is neither 0 nor an integer of the encoding, if K exceeds [`Gemm::max_k_affine`] for it, or if the
    /// plan has a zero point other than 0 too.
    pub fn run_rows_f32<'a>(
        &self,
        activations: impl Into<Activations<'a>>,
        by_row: RowScales<'_>,
        rows: Range<usize>,
        out: &mut [f32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        self.run_floats(activations.into(), Some(by_row), rows, out, scratch, par)
    }

    fn run_floats(
        &self,
        activations: Activations<'_>,
        by_row: Option<RowScales<'_>>,
        rows: Range<usize>,
        out: &mut [f32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        if let Work::Sums(_, None) = self.work {
            let expected = "scale and bias for a result in f32";
            return Err(Error::argument("epilogue", "none", expected));
        }
        let m = activations.shape().1;
        let activations = self.check(activations, rows.clone(), scratch.len())?;
        let by_row = match by_row {
            None => None,
            Some(all) => Some(self.check_rows(all, m, rows)?),
        };
        let out = MatMut::new("out", out, activations.shape().1, self.n)?;
        match (&self.work, by_row) {
            (Work::Groups(groups), by_row) => groups.run(activations, by_row, out, scratch, par),
            (Work::Sums(_, None), _) => {}
            (Work::Sums(method, Some(floats)), None) => {
                let (scale, bias) = (&floats.scale, &floats.bias);
                method.run(activations, out, scratch, par, &Scaled { scale, bias });
            }
            (Work::Sums(method, Some(floats)), Some(rows)) => {
                let dress = RowScaled {
                    scale: &floats.scale,
                    bias: &floats.bias,
                    channel_sums: &floats.channel_sums,
                    rows,
                };
                method.run(activations, out, scratch, par, &dress);
            }
        }
        Ok(())
    }

    /// What `rows` of `m` bring, once everything fits.
    fn check_rows<'a>(
        &self,
        all: RowScales<'a>,
        m: usize,
        rows: Range<usize>,
    ) -> Result<RowScales<'a>> {
        all.check_len(m)?;
        let some = all.slice(rows);
        let Some(zero_points) = some.zero_point else {
            return Ok(some);
        };
        if self.zero_point != 0 {
            let expected = "none: the plan has one";
            return Err(Error::argument("row zero points", "there", expected));
        }
        for &zero_point in zero_points {
            check_zero_point("row zero point", self.activation, zero_point)?;
            let max_k = Self::max_k_affine(self.weight, self.activation, zero_point)?;
            if matches!(self.work, Work::Sums(..)) && self.k > max_k {
                let expected = format!("one for which K may be {}, not {max_k}", self.k);
                return Err(Error::argument("row zero point", zero_point, expected));
            }
        }
        Ok(some)
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

    /// The integer of activations that stands for 0.
    pub fn zero_point(&self) -> i32 {
        self.zero_point
    }

    /// The ISA whose kernels run.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Bytes of weights in the canonical packed form, without the padding of panels.
    pub fn weight_bytes(&self) -> usize {
        self.n * self.weight.planes() * words(self.k) * 4
    }

    /// Bytes of weights as prepacked for the kernel, with scales per group; twice if few rows have a kernel of their own.
    pub fn prepacked_bytes(&self) -> usize {
        match &self.work {
            Work::Sums(method, _) => method.bytes(),
            Work::Groups(groups) => groups.bytes(),
        }
    }

    /// Those of them that a run over `rows` rows reads.
    pub fn bytes_read(&self, rows: usize) -> usize {
        match &self.work {
            Work::Sums(method, _) => method.bytes_read(rows),
            Work::Groups(groups) => groups.bytes(),
        }
    }

    /// What the inner loop does for `rows` rows and how often it walks along K, for whoever compares the plan with the limits
    /// of the core ([`Loops`](crate::kernels::bounds::Loops)).
    pub fn sequence(&self, rows: usize) -> (Sequence, usize) {
        match &self.work {
            Work::Sums(method, _) => method.sequence(rows),
            Work::Groups(groups) => groups.sequence(),
        }
    }

    /// Which kernel runs, for people: ISA, method, tile and planes.
    pub fn describe(&self) -> String {
        match &self.work {
            Work::Sums(method, _) => method.describe(),
            Work::Groups(groups) => groups.describe(),
        }
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
