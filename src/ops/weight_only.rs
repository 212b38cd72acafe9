//! Products of packed weights and float activations.
//!
//! 1. The product is split among threads; a part owns its rectangle of the result and a piece of the working space.
//! 2. Up to [`FEW`] rows go past the packed weights directly. Of more, a part takes a block at a time.
//! 3. For each block of K in order, the rows are copied as f32 into the working space, and pair after pair of vectors
//!    of weights is decoded there and multiplied with all of them.

use std::fmt;
use std::ops::Range;

use super::Par;
use super::grid::{Grid, Space};
use crate::bits::{Encoding, PackedRef};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::bounds::Sequence;
use crate::kernels::{BLOCK, Block, FEW, FloatKernel, FloatWeights, Kernels, MatMut, STRIDE};
use crate::quant::{Float, Granularity, Scales};
use crate::shape::{WORD_BITS, check_len, elements, words};

/// Rows of a block: so many that decoding weights takes little beside them, and so few that they stay in the
/// second-level cache. A multiple of the rows of every tile.
const ROWS: usize = 144;

/// Multiply-adds for which another part gets working space, and parts at most.
const PART: u64 = 1 << 25;
const PARTS: u64 = 32;

/// Floats in a cache line, to which working space is aligned.
const LINE: usize = 16;

/// A plan for `activations [M, K] x weights [N, K] -> [M, N]` with activations that are floats, f32, f16 or bf16, and
/// weights that stay packed: of any encoding, in 1, 2, 4 or 8 bits.
///
/// A result is, with w the integers of the weights, a the activations in f32, and fma(x, y, z) = x y + z rounded once,
///
/// ```text
/// s_g   = fma(w[k], a[k], s_g)         for k in the group, ascending, from 0
/// total = fma(scale_g, s_g, total)     for the groups, ascending, from 0
/// out   = total + bias                 0 without a bias
/// ```
///
/// Scales per tensor or channel have one group: scale times sum, rounded, plus bias. So the floats are the same on every
/// ISA, for every number of rows and of threads, and NaN and infinities flow as IEEE 754 says; only the payload of a NaN
/// is left open.
pub struct WeightOnlyGemm {
    isa: Isa,
    kernel: &'static FloatKernel,
    weights: FloatWeights,
    encoding: Encoding,
    granularity: Granularity,
    n: usize,
}

impl WeightOnlyGemm {
    /// A plan for `weights` `[N, K]` with their scales and N summands or none, on the ISA that [`Isa::chosen`] gives.
    ///
    /// Errors if there are not as many scales as [`Granularity`] says, if the bias is not N long, or if `QCORE_ISA` asks
    /// for an ISA that is not here.
    pub fn new(weights: PackedRef<'_>, scales: &Scales, bias: Option<Vec<f32>>) -> Result<Self> {
        Self::on(Isa::chosen()?, weights, scales, bias)
    }

    /// As [`WeightOnlyGemm::new`], on a given ISA.
    pub fn on(
        isa: Isa,
        weights: PackedRef<'_>,
        scales: &Scales,
        bias: Option<Vec<f32>>,
    ) -> Result<Self> {
        let kernel = Kernels::of(isa)?.float_kernel();
        Ok(WeightOnlyGemm {
            isa,
            kernel,
            weights: FloatWeights::new(weights, scales, bias, kernel)?,
            encoding: weights.encoding(),
            granularity: scales.granularity(),
            n: weights.rows(),
        })
    }

    /// Elements of f32 scratch that a run over `rows` rows needs: up to 32 parts of a block of rows and weights each, 15
    /// MB at most. So many threads at most share the work; with more scratch, more.
    pub fn scratch_len(&self, rows: usize) -> usize {
        match rows {
            0 => 0,
            1..=FEW => rows * self.row_len(),
            _ if self.k() == 0 => 0,
            _ => {
                let macs = rows as u64 * self.n as u64 * self.k() as u64;
                (macs / PART).clamp(1, PARTS) as usize * self.part_len(rows) + LINE
            }
        }
    }

    /// Floats of a row for the direct way: K and zeros, and a line more, for long rows should not compete for one set of
    /// the cache.
    fn row_len(&self) -> usize {
        self.k().next_multiple_of(WORD_BITS) + LINE
    }

    /// Floats of working space of a part: a block of rows, and weights.
    fn part_len(&self, rows: usize) -> usize {
        let rows = rows.next_multiple_of(self.kernel.mr).min(ROWS);
        rows * STRIDE + self.kernel.plain_len(self.block())
    }

    /// Columns of a block of K: whole groups, and in even blocks.
    fn block(&self) -> usize {
        let unit = self.weights.group().unwrap_or(WORD_BITS);
        let blocks = self.k().div_ceil(BLOCK / unit * unit).max(1);
        self.k().div_ceil(blocks).next_multiple_of(unit)
    }

    /// The product of rows `rows` of `activations` `[m, K]`, into `out` `[rows.len(), N]`.
    ///
    /// `scratch` has [`WeightOnlyGemm::scratch_len`] elements or more. Errors if a length is wrong or the range leaves
    /// the rows; then `out` is untouched.
    pub fn run<F: Float>(
        &self,
        activations: &[F],
        m: usize,
        rows: Range<usize>,
        out: &mut [f32],
        scratch: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let k = self.k();
        let len = elements("activations", &[m, k])?;
        check_len("activations", activations.len(), len, "M x K")?;
        if rows.start > rows.end || rows.end > m {
            let expected = format!("a range inside 0..{m}");
            return Err(Error::argument("rows", format_args!("{rows:?}"), expected));
        }
        let out = MatMut::new("out", out, rows.len(), self.n)?;
        let needed = self.scratch_len(rows.len());
        if scratch.len() < needed {
            let value = format!("{} elements long", scratch.len());
            let expected = format!("at least {needed}");
            return Err(Error::argument("scratch", value, expected));
        }
        if rows.is_empty() || self.n == 0 {
            return Ok(());
        }
        let activations = &activations[rows.start * k..rows.end * k];
        match rows.len() {
            few if few <= FEW => self.run_few(activations, out, scratch, par),
            _ if k == 0 => self.run_none(out),
            _ => self.run_many(activations, out, scratch, par),
        }
        Ok(())
    }

    /// Without columns nothing is left but scales and bias.
    fn run_none(&self, out: MatMut<'_, f32>) {
        let mut rest = out;
        while rest.rows() > 0 {
            let at = rest.rows().min(FEW);
            let (few, below) = rest.split_rows(at);
            self.panels(0..self.weights.len(), &[], 0, few);
            rest = below;
        }
    }

    fn run_few<F: Float>(
        &self,
        activations: &[F],
        out: MatMut<'_, f32>,
        scratch: &mut [f32],
        par: Par<'_>,
    ) {
        let (rows, k, stride) = (out.rows(), self.k(), self.row_len());
        for (row, padded) in scratch.chunks_exact_mut(stride).take(rows).enumerate() {
            let (floats, behind) = padded.split_at_mut(k);
            F::widen(&activations[row * k..][..k], floats);
            behind.fill(0.0);
        }
        let floats = &scratch[..rows * stride];
        let space = Space {
            bytes: &mut [],
            unit: 1,
            least: 0,
        };
        self.grid(FEW, 3).leaves(
            rows,
            self.weights.len(),
            out,
            space,
            par,
            &|_, panels, out, _| {
                self.panels(panels, floats, stride, out);
            },
        );
    }

    /// Few rows times `panels`.
    fn panels(
        &self,
        panels: Range<usize>,
        activations: &[f32],
        stride: usize,
        mut out: MatMut<'_, f32>,
    ) {
        let nr = self.kernel.nr();
        for panel in panels.clone() {
            let (_, right) = out.reborrow().split_cols((panel - panels.start) * nr);
            let lanes = nr.min(right.cols());
            let out = right.split_cols(lanes).0;
            self.kernel
                .direct(&self.weights, panel, activations, stride, out);
        }
    }

    fn run_many<F: Float>(
        &self,
        activations: &[F],
        out: MatMut<'_, f32>,
        scratch: &mut [f32],
        par: Par<'_>,
    ) {
        let rows = out.rows();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(scratch);
        let skip = bytes.as_ptr().align_offset(4 * LINE).min(4 * LINE);
        let space = Space {
            bytes: &mut bytes[skip..],
            unit: 4 * LINE,
            least: self.part_len(rows).div_ceil(LINE),
        };
        // Parts of a few tiles would decode all weights for few rows.
        self.grid(4 * self.kernel.mr, 1).leaves(
            rows,
            self.weights.len(),
            out,
            space,
            par,
            &|rows, panels, mut out, space| {
                let space = bytemuck::cast_slice_mut(space);
                let blocks = rows.len().div_ceil(ROWS);
                let even = rows.len().div_ceil(blocks);
                let block = even.next_multiple_of(self.kernel.mr).min(ROWS);
                for from in rows.clone().step_by(block) {
                    let these = from..rows.end.min(from + block);
                    let (_, below) = out.reborrow().split_rows(from - rows.start);
                    let out = below.split_rows(these.len()).0;
                    self.rows(activations, these, panels.clone(), out, space);
                }
            },
        );
    }

    /// A block of rows times `panels`.
    fn rows<F: Float>(
        &self,
        activations: &[F],
        rows: Range<usize>,
        panels: Range<usize>,
        mut out: MatMut<'_, f32>,
        space: &mut [f32],
    ) {
        let (kernel, k, block) = (self.kernel, self.k(), self.block());
        let (floats, space) = space.split_at_mut(rows.len() * STRIDE);
        for from in (0..k).step_by(block) {
            let block = Block {
                from,
                to: k.min(from + block),
            };
            let columns = block.to - from;
            for (row, floats) in rows.clone().zip(floats.chunks_exact_mut(STRIDE)) {
                F::widen(
                    &activations[row * k + from..][..columns],
                    &mut floats[..columns],
                );
            }
            let plain = &mut space[..kernel.plain_len(columns)];
            let first = panels.start * kernel.nr();
            for at in (0..out.cols()).step_by(kernel.pair()) {
                let (_, right) = out.reborrow().split_cols(at);
                let lanes = kernel.pair().min(right.cols());
                let out = right.split_cols(lanes).0;
                kernel.decode(&self.weights, first + at, block, plain);
                kernel.tiles(&self.weights, first + at, block, plain, floats, out);
            }
        }
    }

    /// `each`: vector instructions for a vector of weights and a row.
    fn grid(&self, mr: usize, each: u64) -> Grid {
        Grid {
            mr,
            nr: self.kernel.nr(),
            row_words: self.k(),
            steps: (self.k() * self.kernel.vectors) as u64 * each,
            at_once: 1,
        }
    }

    /// Output channels, N.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs of a channel, K.
    pub fn k(&self) -> usize {
        self.weights.k()
    }

    /// The encoding of the weights.
    pub fn weight(&self) -> Encoding {
        self.encoding
    }

    /// How many weights share a scale.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The ISA whose kernels run.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes of weights in the canonical packed form, without scales and the padding of panels.
    pub fn weight_bytes(&self) -> usize {
        self.n * self.encoding.planes() * words(self.k()) * 4
    }

    /// Bytes of weights and scales as prepacked for the kernel.
    pub fn prepacked_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// What the inner loop does and how often it walks along K, for whoever compares the plan with the limits of the
    /// core ([`Loops`](crate::kernels::bounds::Loops)).
    pub fn sequence(&self) -> (Sequence, usize) {
        (Sequence::Fma, 1)
    }

    /// Which kernel runs, for people: ISA, instruction, tile, fields and scales.
    pub fn describe(&self) -> String {
        let (isa, name, bits) = (self.isa, self.kernel.name, self.weights.bits());
        let (mr, pair) = (self.kernel.mr, self.kernel.pair());
        let scales = match self.granularity {
            Granularity::Tensor => "one scale".to_string(),
            Granularity::Channel => "a scale a channel".to_string(),
            Granularity::Group(group) => format!("a scale for {group} of K"),
        };
        let fields = if bits == 1 { "bit" } else { "bits" };
        format!(
            "{isa}: {name}, tile {mr}x{pair}, up to {FEW} rows without decoding, weights in fields of {bits} {fields}, \
             {scales}"
        )
    }
}

impl fmt::Debug for WeightOnlyGemm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, k, w) = (self.n, self.k(), self.encoding);
        write!(
            f,
            "WeightOnlyGemm(N {n}, K {k}, {w} x floats, {})",
            self.describe()
        )
    }
}

#[cfg(test)]
mod tests;
