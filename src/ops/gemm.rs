//! Products of packed weights and packed activations.

use std::fmt;
use std::ops::Range;

use super::Par;
use crate::bits::{Encoding, PackedRef};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::{Kernels, MatMut, Out, Panels};
use crate::shape::{check_len, words};

/// Words of activations that a block of rows may take: half of a 1 MiB second-level cache, so that the
/// block stays there while the panels of weights pass by.
const BLOCK_WORDS: usize = 128 * 1024;

/// Bit operations below which splitting costs more than it gives: about ten microseconds of one core.
const SPLIT_BITS: u64 = 1 << 24;

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
/// Weights are bipolar; activations are bipolar or unsigned of 1 to 8 bits. Sums are exact i32:
/// |sum| <= K x (largest activation), and a plan for which that bound exceeds 2^31 - 1 is refused. So K may
/// be up to [`Gemm::max_k`]: 2,147,483,647 for 1 bit, 143,165,576 for 4 bits, 8,421,504 for 8 bits.
/// The result is the same on every ISA and for every number of threads.
pub struct Gemm {
    kernels: &'static Kernels,
    panels: Panels,
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
        let kernels = Kernels::of(isa)?;
        if weights.encoding() != Encoding::Bipolar {
            return Err(Error::argument(
                "weights",
                weights.encoding(),
                "bipolar codes",
            ));
        }
        let (n, k) = (weights.rows(), weights.cols());
        let max_k = Self::max_k(activation)?;
        if k > max_k {
            let expected =
                format!("at most {max_k} for {activation} activations, or i32 sums overflow");
            return Err(Error::argument("K", k, expected));
        }
        let scale_bias = match epilogue {
            Epilogue::None => None,
            Epilogue::ScaleBias { scale, bias } => {
                check_len("scale", scale.len(), n, "N")?;
                check_len("bias", bias.len(), n, "N")?;
                let pad = |mut v: Vec<f32>| {
                    v.resize(n.next_multiple_of(kernels.nr()), 0.0);
                    v
                };
                Some((pad(scale), pad(bias)))
            }
        };
        Ok(Gemm {
            kernels,
            panels: Panels::new(weights, kernels.nr())?,
            activation,
            n,
            k,
            scale_bias,
        })
    }

    /// The largest K for which bipolar weights times `activation` cannot overflow an i32 sum:
    /// floor((2^31 - 1) / largest activation).
    ///
    /// Errors if the encoding is not served as activations.
    pub fn max_k(activation: Encoding) -> Result<usize> {
        match activation {
            Encoding::Bipolar | Encoding::Unsigned(_) => {
                Ok(i32::MAX as usize / activation.magnitude() as usize)
            }
            _ => Err(Error::argument(
                "activation",
                activation,
                "bipolar or u1..u8",
            )),
        }
    }

    /// Elements of i32 scratch that a run over `rows` rows needs.
    pub fn scratch_len(&self, rows: usize) -> usize {
        if self.activation == Encoding::Bipolar {
            0
        } else {
            rows
        }
    }

    /// The sums of rows `rows` of `activations`, into `out` `[rows.len(), N]`.
    ///
    /// `scratch` has [`Gemm::scratch_len`] elements or more. Errors if the encoding or K of the
    /// activations differ from the plan's, the range leaves the rows, or a length is wrong; then `out` is
    /// untouched.
    pub fn run_i32(
        &self,
        activations: PackedRef<'_>,
        rows: Range<usize>,
        out: &mut [i32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        let activations = self.check(activations, rows, scratch.len())?;
        let out = MatMut::new("out", out, activations.rows(), self.n)?;
        let part = |panel: usize, rows: PackedRef<'_>, sums: &[i32], out: MatMut<'_, i32>| {
            self.kernels
                .bitgemm(&self.panels, panel, rows, sums, Out::I32(out))
        };
        self.run(activations, out, scratch, par, &part);
        Ok(())
    }

    /// The floats `scale * sum + bias` of rows `rows` of `activations`, into `out` `[rows.len(), N]`.
    ///
    /// As [`Gemm::run_i32`]; errors also if the plan was made without [`Epilogue::ScaleBias`].
    pub fn run_f32(
        &self,
        activations: PackedRef<'_>,
        rows: Range<usize>,
        out: &mut [f32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        let Some((scale, bias)) = &self.scale_bias else {
            return Err(Error::argument(
                "epilogue",
                "none",
                "scale and bias for a result in f32",
            ));
        };
        let activations = self.check(activations, rows, scratch.len())?;
        let out = MatMut::new("out", out, activations.rows(), self.n)?;
        let nr = self.kernels.nr();
        let part = |panel: usize, rows: PackedRef<'_>, sums: &[i32], out: MatMut<'_, f32>| {
            let lanes = panel * nr..(panel + 1) * nr;
            let out = Out::F32 {
                out,
                scale: &scale[lanes.clone()],
                bias: &bias[lanes],
            };
            self.kernels.bitgemm(&self.panels, panel, rows, sums, out)
        };
        self.run(activations, out, scratch, par, &part);
        Ok(())
    }

    /// The rows to work on, once everything fits.
    fn check<'a>(
        &self,
        activations: PackedRef<'a>,
        rows: Range<usize>,
        scratch: usize,
    ) -> Result<PackedRef<'a>> {
        if activations.encoding() != self.activation {
            let (got, expected) = (activations.encoding(), self.activation);
            return Err(Error::argument(
                "activations",
                got,
                format_args!("{expected} codes, as the plan says"),
            ));
        }
        if activations.cols() != self.k {
            return Err(Error::argument(
                "K of the activations",
                activations.cols(),
                self.k,
            ));
        }
        if rows.start > rows.end || rows.end > activations.rows() {
            let expected = format!("a range inside 0..{}", activations.rows());
            return Err(Error::argument("rows", format_args!("{rows:?}"), expected));
        }
        if scratch < self.scratch_len(rows.len()) {
            let expected = format!("at least {}", self.scratch_len(rows.len()));
            return Err(Error::argument(
                "scratch",
                format_args!("{scratch} elements long"),
                expected,
            ));
        }
        Ok(activations.slice_rows(rows))
    }

    fn run<T: Send>(
        &self,
        activations: PackedRef<'_>,
        out: MatMut<'_, T>,
        scratch: &mut [i32],
        par: Par<'_>,
        part: &(impl Fn(usize, PackedRef<'_>, &[i32], MatMut<'_, T>) + Sync),
    ) {
        let sums = &mut scratch[..self.scratch_len(activations.rows())];
        if !sums.is_empty() {
            self.kernels.row_sums(activations, sums);
        }
        let planes = self.activation.planes() as u64;
        let bits = activations.rows() as u64 * self.n as u64 * self.k as u64 * planes;
        let pieces = (4 * par.threads() as u64).min(bits / SPLIT_BITS).max(1) as usize;
        let panels = 0..self.panels.len();
        if pieces == 1 || par.threads() == 1 {
            self.blocks(activations, sums, panels, out, part);
        } else {
            let work = || self.split(pieces, activations, sums, panels, out, par, part);
            par.enter(work);
        }
    }

    /// Halves the work until `pieces` is 1: rows while there are many, else panels.
    #[allow(clippy::too_many_arguments)]
    fn split<T: Send>(
        &self,
        pieces: usize,
        activations: PackedRef<'_>,
        sums: &[i32],
        panels: Range<usize>,
        out: MatMut<'_, T>,
        par: Par<'_>,
        part: &(impl Fn(usize, PackedRef<'_>, &[i32], MatMut<'_, T>) + Sync),
    ) {
        let (mr, nr) = (self.kernels.mr(), self.kernels.nr());
        let tiles = activations.rows().div_ceil(mr);
        if pieces > 1 && tiles > 1 && tiles >= panels.len() {
            let at = tiles / 2 * mr;
            let (top, below) = out.split_rows(at);
            let (sums_top, sums_below) = sums.split_at(at.min(sums.len()));
            let (rows_top, rows_below) = (
                activations.slice_rows(0..at),
                activations.slice_rows(at..activations.rows()),
            );
            let panels_below = panels.clone();
            par.join(
                || self.split(pieces / 2, rows_top, sums_top, panels, top, par, part),
                || {
                    self.split(
                        pieces - pieces / 2,
                        rows_below,
                        sums_below,
                        panels_below,
                        below,
                        par,
                        part,
                    )
                },
            );
        } else if pieces > 1 && panels.len() > 1 {
            let at = panels.len() / 2;
            let (left, right) = out.split_cols(at * nr);
            let (panels_left, panels_right) = (
                panels.start..panels.start + at,
                panels.start + at..panels.end,
            );
            par.join(
                || self.split(pieces / 2, activations, sums, panels_left, left, par, part),
                || {
                    self.split(
                        pieces - pieces / 2,
                        activations,
                        sums,
                        panels_right,
                        right,
                        par,
                        part,
                    )
                },
            );
        } else {
            self.blocks(activations, sums, panels, out, part);
        }
    }

    /// Every panel times a block of rows that stays in the second-level cache, block after block.
    fn blocks<T>(
        &self,
        activations: PackedRef<'_>,
        sums: &[i32],
        panels: Range<usize>,
        mut out: MatMut<'_, T>,
        part: &impl Fn(usize, PackedRef<'_>, &[i32], MatMut<'_, T>),
    ) {
        let (mr, nr) = (self.kernels.mr(), self.kernels.nr());
        let fit = BLOCK_WORDS / activations.row_words().max(1);
        let block = (fit / mr * mr).max(mr);
        let mut row = 0;
        while row < activations.rows() {
            let end = activations.rows().min(row + block);
            let rows = activations.slice_rows(row..end);
            let sums = if sums.is_empty() {
                sums
            } else {
                &sums[row..end]
            };
            let (_, below) = out.reborrow().split_rows(row);
            let (mut block, _) = below.split_rows(end - row);
            for panel in panels.clone() {
                let (_, rest) = block.reborrow().split_cols((panel - panels.start) * nr);
                let lanes = nr.min(rest.cols());
                part(panel, rows, sums, rest.split_cols(lanes).0);
            }
            row = end;
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
        self.n * words(self.k) * 4
    }

    /// Bytes of weights as prepacked for the kernel.
    pub fn prepacked_bytes(&self) -> usize {
        self.panels.bytes()
    }

    /// Which kernel runs, for people: ISA, method, tile and planes.
    pub fn describe(&self) -> String {
        let (planes, kernels) = (self.activation.planes(), self.kernels);
        let (isa, name) = (kernels.isa(), kernels.bitgemm_name());
        let pass = if planes == 1 {
            "1 pass".to_string()
        } else {
            format!("{planes} bit-serial passes")
        };
        format!(
            "{isa}: {name}, tile {}x{}, {pass}",
            kernels.mr(),
            kernels.nr()
        )
    }
}

impl fmt::Debug for Gemm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Gemm(N {}, K {}, {} activations, {})",
            self.n,
            self.k,
            self.activation,
            self.describe()
        )
    }
}

#[cfg(test)]
mod tests;
