//! Products of packed weights and float activations.
//!
//! 1. The product is split among threads; a part owns its rectangle of the result and a piece of the working space.
//! 2. Up to [`FEW`] rows go past the packed weights: as they are, or as tables of sums, which are made once for all
//!    threads. Of more, a part takes a block at a time.
//! 3. For each block of K in order, tables of the rows are made in the working space, and tile after tile of rows goes
//!    past all weights. Or the rows are copied as f32 into the working space, and pair after pair of vectors of weights
//!    is decoded there and multiplied with all of them.

use std::fmt;
use std::ops::Range;

use looked::{LOOKED_ROWS, LOOKED_TILE};

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

/// Floats of tables that stay in the second-level cache while weights pass by.
const NEAR: usize = 1 << 17;

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
/// s_g   = s_g + t_k                    for the summands of the group, k ascending, from 0
/// total = fma(scale_g, s_g, total)     for the groups, ascending, from 0
/// out   = total + bias                 0 without a bias
/// ```
///
/// where a summand is of four columns under weights of one bit (bipolar, u1, s1), of two under weights of two (ternary,
/// u2, s2), else of one:
///
/// ```text
/// 1 bit        p_k + p_(k + 2)             with p_k = fma(w[k + 1], a[k + 1], w[k] a[k])
/// 2 bits       p_k                         activations behind K are 0
/// more bits    s_g = fma(w[k], a[k], s_g)
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

    /// Elements of f32 scratch that a run over `rows` rows needs: for up to 8 rows K of each, or for weights of one and
    /// two bits up to 4 K and 8 K; for more rows up to 32 parts of a block of rows and weights each, 15 MB at most. So
    /// many threads at most share the work; with more scratch, more.
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

    /// Whether sums are looked up for so many rows.
    fn looks_up(&self, rows: usize) -> bool {
        self.kernel.looks_up(&self.weights, rows)
    }

    /// Floats of a row of few: tables of K, or K and zeros, and a line more, for long rows should not compete for one
    /// set of the cache.
    fn row_len(&self) -> usize {
        match self.looks_up(1) {
            true => self.tables_len(self.k()),
            false => self.k().next_multiple_of(WORD_BITS) + LINE,
        }
    }

    /// Floats of working space of a part: a block of rows and weights, or tables of one.
    fn part_len(&self, rows: usize) -> usize {
        if self.looks_up(rows) {
            return rows.min(LOOKED_ROWS) * self.tables_len(self.looked_block());
        }
        let rows = rows.next_multiple_of(self.kernel.mr).min(ROWS);
        rows * STRIDE + self.kernel.plain_len(self.block(BLOCK))
    }

    /// Columns of a block of K, at most `most` if that is a group: whole groups, and in even blocks.
    fn block(&self, most: usize) -> usize {
        let unit = self.weights.group().unwrap_or(WORD_BITS);
        let blocks = self.k().div_ceil((most / unit).max(1) * unit).max(1);
        self.k().div_ceil(blocks).next_multiple_of(unit)
    }

    /// K in blocks of `step` columns; an empty one if there are no columns, for scales and bias are left then.
    fn blocks(&self, step: usize) -> impl Iterator<Item = Block> {
        let k = self.k();
        (0..k.max(1)).step_by(step).map(move |from| Block {
            from,
            to: k.min(from + step),
        })
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
            let row = &activations[row * k..][..k];
            if self.looks_up(rows) {
                self.tables(row, padded);
            } else {
                let (floats, behind) = padded.split_at_mut(k);
                F::widen(row, floats);
                behind.fill(0.0);
            }
        }
        let floats = &scratch[..rows * stride];
        let space = Space {
            bytes: &mut [],
            unit: 1,
            least: 0,
        };
        self.grid(FEW, rows, 3).leaves(
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

    /// Few rows, or their tables, times `panels`.
    fn panels(
        &self,
        panels: Range<usize>,
        activations: &[f32],
        stride: usize,
        mut out: MatMut<'_, f32>,
    ) {
        if !self.looks_up(out.rows()) {
            return self.each_panel(panels, out, |panel, out| {
                self.kernel
                    .direct(&self.weights, panel, activations, stride, out);
            });
        }
        let k = self.k();
        // All tables pass by with every panel, unless that would be from memory.
        let step = match activations.len() <= NEAR {
            true => k.max(1),
            false => self.block(BLOCK),
        };
        for block in self.blocks(step) {
            let tables = &activations[self.kernel.tables_len(&self.weights, block.from)..];
            self.each_panel(panels.clone(), out.reborrow(), |panel, out| {
                self.kernel
                    .look_up(&self.weights, panel, block, tables, stride, out);
            });
        }
    }

    /// Calls `each(panel, out)` with the part of `out` of every panel.
    fn each_panel(
        &self,
        panels: Range<usize>,
        mut out: MatMut<'_, f32>,
        mut each: impl FnMut(usize, MatMut<'_, f32>),
    ) {
        let nr = self.kernel.nr();
        for panel in panels.clone() {
            let (_, right) = out.reborrow().split_cols((panel - panels.start) * nr);
            let lanes = nr.min(right.cols());
            each(panel, right.split_cols(lanes).0);
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
        let looks_up = self.looks_up(rows);
        // Parts of a few tiles would decode all weights for few rows. Parts of the same rows would make the same tables.
        let (tile, most, few) = match looks_up {
            true => (LOOKED_TILE, LOOKED_ROWS, LOOKED_TILE),
            false => (self.kernel.mr, ROWS, 4 * self.kernel.mr),
        };
        self.grid(few, rows, 1).leaves(
            rows,
            self.weights.len(),
            out,
            space,
            par,
            &|rows, panels, mut out, space| {
                let space = bytemuck::cast_slice_mut(space);
                let blocks = rows.len().div_ceil(most);
                let even = rows.len().div_ceil(blocks);
                let block = even.next_multiple_of(tile).min(most);
                for from in rows.clone().step_by(block) {
                    let these = from..rows.end.min(from + block);
                    let (_, below) = out.reborrow().split_rows(from - rows.start);
                    let out = below.split_rows(these.len()).0;
                    match looks_up {
                        true => self.looked_rows(activations, these, panels.clone(), out, space),
                        false => self.rows(activations, these, panels.clone(), out, space),
                    }
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
        let (kernel, k) = (self.kernel, self.k());
        let (floats, space) = space.split_at_mut(rows.len() * STRIDE);
        for block in self.blocks(self.block(BLOCK)) {
            let columns = block.to - block.from;
            for (row, floats) in rows.clone().zip(floats.chunks_exact_mut(STRIDE)) {
                F::widen(
                    &activations[row * k + block.from..][..columns],
                    &mut floats[..columns],
                );
                floats[columns] = 0.0;
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

    /// Of `rows` rows. `each`: vector instructions for a vector of weights, or of what is looked up, and a row.
    fn grid(&self, mr: usize, rows: usize, each: u64) -> Grid {
        let vectors = match self.looks_up(rows) {
            true => self.k() * self.weights.bits() / 4,
            false => self.k(),
        };
        Grid {
            mr,
            nr: self.kernel.nr(),
            row_words: self.k(),
            steps: (vectors * self.kernel.vectors) as u64 * each,
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

    /// What the inner loop does for `rows` rows and how often it walks along K, for whoever compares the plan with the
    /// limits of the core ([`Loops`](crate::kernels::bounds::Loops)).
    pub fn sequence(&self, rows: usize) -> (Sequence, usize) {
        match self.looks_up(rows) {
            true => (Sequence::LookUpFloats, self.weights.bits()),
            false => (Sequence::Fma, 1),
        }
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
        let looked = format!(
            "sums of {} activations looked up ({})",
            4 / bits,
            self.kernel.look_up_name
        );
        let how = match [1, FEW + 1].map(|rows| self.looks_up(rows)) {
            [_, true] => looked,
            [true, false] => format!("{name}, tile {mr}x{pair}, up to {FEW} rows by {looked}"),
            [false, false] => {
                format!("{name}, tile {mr}x{pair}, up to {FEW} rows without decoding")
            }
        };
        format!("{isa}: {how}, weights in fields of {bits} {fields}, {scales}")
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

mod looked;
#[cfg(test)]
mod tests;
