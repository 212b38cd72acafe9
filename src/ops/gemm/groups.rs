//! A product whose weights have scales per group of K: bytes are multiplied, and each group becomes a float.
//!
//! Activations that are bipolar become bytes of -1 and +1, so that every pair goes the same way.

use super::Activations;
use super::method::bytes_of;
use super::rows::RowScales;
use crate::bits::{Encoding, PackedRef};
use crate::error::Result;
use crate::kernels::bounds::Sequence;
use crate::kernels::{GroupKernel, GroupOut, GroupWeights, Kernels, MatMut, ZeroPoints};
use crate::ops::Par;
use crate::ops::grid::Grid;
use crate::quant::Scales;

/// A kernel, and weights laid out for it.
pub(super) struct Groups {
    kernels: &'static Kernels,
    kernel: &'static GroupKernel,
    weights: GroupWeights,
    k: usize,
    zero_point: i32,
    /// Padded to whole panels.
    bias: Vec<f32>,
}

impl Groups {
    /// `bias` has N elements.
    pub(super) fn new(
        kernels: &'static Kernels,
        weights: PackedRef<'_>,
        activation: Encoding,
        zero_point: i32,
        scales: &Scales,
        mut bias: Vec<f32>,
    ) -> Result<Self> {
        let (kernel, k) = (kernels.group_kernel(), weights.cols());
        let weights = GroupWeights::new(weights, scales, activation.min() < 0, kernel)?;
        bias.resize(weights.len() * weights.nr(), 0.0);
        Ok(Groups {
            kernels,
            kernel,
            weights,
            k,
            zero_point,
            bias,
        })
    }

    /// Bytes of the weights as laid out, with scales.
    pub(super) fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Sums that a row needs.
    fn sums(&self) -> usize {
        match self.weights.base() {
            0 => 0,
            _ => self.weights.groups(),
        }
    }

    /// Elements of scratch for `rows` rows of packed codes.
    pub(super) fn scratch_of_planes(&self, rows: usize) -> usize {
        rows.saturating_mul(self.sums() + self.weights.row_bytes() / 4)
    }

    /// Elements of scratch for `rows` rows of bytes.
    pub(super) fn scratch_of_bytes(&self, rows: usize) -> usize {
        match self.weights.row_bytes() == self.k {
            true => rows.saturating_mul(self.sums()),
            false => self.scratch_of_planes(rows),
        }
    }

    /// What the inner loop does, and how often it walks along K.
    pub(super) fn sequence(&self) -> (Sequence, usize) {
        (self.weights.fields().sequence(), 1)
    }

    /// ISA, kernel, tile and what is special about it, for people.
    pub(super) fn describe(&self) -> String {
        let (isa, kernel, weights) = (self.kernels.isa(), self.kernel, &self.weights);
        let (name, mr, nr) = (kernel.name, kernel.mr, weights.nr());
        let (bits, group) = (weights.fields().field_bits(), weights.group());
        format!(
            "{isa}: {name}, tile {mr}x{nr}, weights in fields of {bits} bits, a scale for {group} of K"
        )
    }

    /// The product of all rows of `activations`, which fit these weights, into `out` (`[rows, N]`).
    pub(super) fn run(
        &self,
        activations: Activations<'_>,
        by_row: Option<RowScales<'_>>,
        out: MatMut<'_, f32>,
        scratch: &mut [i32],
        par: Par<'_>,
    ) {
        let rows = activations.shape().1;
        if rows == 0 || out.cols() == 0 {
            return;
        }
        let (weights, kernel) = (&self.weights, self.kernel);
        let (stride, nr, groups) = (weights.row_bytes(), weights.nr(), weights.groups());
        let (sums, rest) = scratch.split_at_mut(self.sums() * rows);
        let bytes = match activations {
            Activations::Planes(planes) if planes.encoding() == Encoding::Bipolar => {
                self.signs(planes, &mut bytemuck::cast_slice_mut(rest)[..rows * stride])
            }
            other => bytes_of(self.kernels, other, stride, rest),
        };
        if !sums.is_empty() {
            self.sum_groups(bytes, sums);
        }
        let grid = Grid {
            mr: kernel.mr,
            nr,
            row_words: stride / 4,
            // A group takes about four more for its floats.
            steps: ((stride / 4 + 4 * groups) * kernel.vectors) as u64,
            at_once: 1,
        };
        let sums = &*sums;
        grid.run(rows, weights.len(), out, par, &|panel, rows, out| {
            let sums = match sums.is_empty() {
                true => sums,
                false => &sums[rows.start * groups..rows.end * groups],
            };
            let by_row = by_row.map(|all| all.slice(rows.clone()));
            let zero_points = match by_row.and_then(|rows| rows.zero_point) {
                Some(each) => ZeroPoints::Rows(each),
                None => ZeroPoints::All(self.zero_point),
            };
            let out = GroupOut {
                out,
                row_scale: by_row.map(|rows| rows.scale),
                bias: &self.bias[panel * nr..(panel + 1) * nr],
            };
            let bytes = &bytes[rows.start * stride..];
            kernel.run(weights, panel, bytes, stride, sums, zero_points, out)
        })
    }

    /// Bipolar codes as bytes of -1 and +1, with zeros behind K.
    fn signs<'a>(&self, planes: PackedRef<'_>, out: &'a mut [u8]) -> &'a [u8] {
        let stride = self.weights.row_bytes();
        self.kernels.unpack(planes, stride, out);
        for row in out.chunks_exact_mut(stride.max(1)) {
            for code in &mut row[..self.k] {
                *code = (2 * *code).wrapping_sub(1);
            }
        }
        out
    }

    /// Base times the sum of each group of each row.
    fn sum_groups(&self, bytes: &[u8], sums: &mut [i32]) {
        let (weights, stride) = (&self.weights, self.weights.row_bytes());
        let (group, signed, base) = (weights.group(), weights.signed(), weights.base());
        let whole = stride / group;
        let rows = bytes.chunks_exact(stride);
        for (row, sums) in rows.zip(sums.chunks_exact_mut(weights.groups())) {
            let (row, tail) = row.split_at(whole * group);
            let (sums, last) = sums.split_at_mut(whole);
            self.kernels.byte_sums(row, group, signed, base, sums);
            self.kernels.byte_sums(tail, tail.len(), signed, base, last);
        }
    }
}
