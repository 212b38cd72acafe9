//! Weights laid out for products with float activations, with their scales and bias.
//!
//! ```text
//!   panel n / NR:   words[k / (32 / bits)][vector][lane]     fields of 1, 2 or 4 bits, k ascending from bit 0
//!                   bytes[k / 4][vector][k % 4][lane]        weights of more than 4 bits
//!   scales:         [panel][group][NR]                       f32
//! ```
//!
//! Channel c of a panel is lane c % LANES of vector c / LANES. A field is its weight minus the smallest one (for
//! bipolar weights the bit); a byte is the weight as `i8` or `u8`. What is behind N or K is zero, and a word more, into
//! which a vector that begins inside of a word may reach.

use super::floatkernel::FloatKernel;
use super::panels::Lines;
use crate::bits::{Encoding, PackedRef};
use crate::error::Result;
use crate::quant::{Granularity, Scales};
use crate::shape::{check_len, elements};

/// How fields become floats: factor * field + base, or by a table.
#[derive(Clone, Debug)]
pub(super) struct Decode {
    /// Table i gives field i of four bits.
    pub(super) tables: [[f32; 16]; 4],
    pub(super) factor: f32,
    pub(super) base: f32,
}

impl Decode {
    fn new(encoding: Encoding, bits: usize) -> Self {
        let factor = if encoding == Encoding::Bipolar { 2 } else { 1 };
        let base = encoding.min();
        let table = |field: usize| {
            std::array::from_fn(|four| {
                let code = four >> (field * bits).min(4) & ((1 << bits) - 1);
                (factor * code as i32 + base) as f32
            })
        };
        Decode {
            tables: std::array::from_fn(table),
            factor: factor as f32,
            base: base as f32,
        }
    }

    fn field(&self, value: i32) -> u32 {
        ((value - self.base as i32) / self.factor as i32) as u32
    }
}

/// Weights of any encoding as fields of 1, 2, 4 or 8 bits.
pub(crate) struct FloatWeights {
    lines: Lines,
    bits: usize,
    signed: bool,
    decode: Decode,
    group: Option<usize>,
    groups: usize,
    scales: Lines,
    bias: Vec<f32>,
    nr: usize,
    panel_words: usize,
    n: usize,
    k: usize,
}

impl FloatWeights {
    /// Lays out `weights` for `kernel`. Errors unless there are scales for all weights, and N summands or none.
    pub(crate) fn new(
        weights: PackedRef<'_>,
        scales: &Scales,
        bias: Option<Vec<f32>>,
        kernel: &FloatKernel,
    ) -> Result<Self> {
        let (n, k, e) = (weights.rows(), weights.cols(), weights.encoding());
        scales.check(n, k)?;
        let mut bias = match bias {
            Some(bias) => {
                check_len("bias", bias.len(), n, "N")?;
                bias
            }
            None => Vec::new(),
        };
        let bits = match e.planes() {
            planes @ (1 | 2) => planes,
            3 | 4 => 4,
            _ => 8,
        };
        let (lanes, nr) = (kernel.lanes, kernel.nr());
        let panels = n.div_ceil(nr);
        bias.resize(elements("bias", &[panels, nr])?, 0.0);
        let decode = Decode::new(e, if bits == 8 { 4 } else { bits });
        let fields = 32 / bits;
        let panel_words = elements("weights", &[k.div_ceil(fields), nr])?;
        let mut lines = Lines::new(elements("weights", &[panels, panel_words])? + 1);
        let words = lines.words_mut();
        for row in 0..n {
            let (panel, vector, lane) = (row / nr, row % nr / lanes, row % lanes);
            let values = weights.slice_rows(row..row + 1).unpack();
            for (column, value) in values.into_iter().enumerate() {
                let at = panel * panel_words + column / fields * nr + vector * lanes;
                if bits < 8 {
                    words[at + lane] |= decode.field(value) << (column % fields * bits);
                } else {
                    let byte = column % 4 * lanes + lane;
                    words[at + byte / 4] |= u32::from(value as u8) << (byte % 4 * 8);
                }
            }
        }
        let (group, groups) = match scales.granularity() {
            Granularity::Group(group) => (Some(group), scales.groups(k)),
            _ => (None, 1),
        };
        let mut laid = Lines::new(elements("scales", &[panels, groups.max(1), nr])?);
        for row in 0..n {
            for group in 0..groups {
                let at = (row / nr * groups + group) * nr + row % nr;
                laid.words_mut()[at] = scales.get(row, group, k).to_bits();
            }
        }
        Ok(FloatWeights {
            lines,
            bits,
            signed: e.min() < 0,
            decode,
            group,
            groups: groups.max(1),
            scales: laid,
            bias,
            nr,
            panel_words,
            n,
            k,
        })
    }

    /// Number of panels.
    pub(crate) fn len(&self) -> usize {
        self.n.div_ceil(self.nr)
    }

    /// Channels in a panel.
    pub(crate) fn nr(&self) -> usize {
        self.nr
    }

    /// Inputs of a channel.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Bits that a weight takes.
    pub(crate) fn bits(&self) -> usize {
        self.bits
    }

    /// Columns that share a scale, if not all do.
    pub(crate) fn group(&self) -> Option<usize> {
        self.group
    }

    /// Bytes that weights and scales take.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.bytes() + self.scales.bytes()
    }

    /// Whether weights of 8 bits are signed bytes.
    pub(super) fn signed(&self) -> bool {
        self.signed
    }

    pub(super) fn decode(&self) -> &Decode {
        &self.decode
    }

    /// The words of panel `panel` from column `from` on, which begins a word, and all that is behind them: a word at
    /// least.
    pub(super) fn words(&self, panel: usize, from: usize) -> &[u32] {
        &self.lines.words()[panel * self.panel_words + from / (32 / self.bits) * self.nr..]
    }

    /// The scales of panel `panel` from group `group` on.
    pub(super) fn scales(&self, panel: usize, group: usize) -> &[f32] {
        let len = self.groups * self.nr;
        let all = &self.scales.words()[panel * len..][..len];
        &bytemuck::cast_slice(all)[group * self.nr..]
    }

    /// A summand for each channel, and zeros up to whole panels.
    pub(super) fn bias(&self) -> &[f32] {
        &self.bias
    }
}
