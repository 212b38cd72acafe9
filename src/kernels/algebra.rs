//! How a pair of encodings becomes passes over bit planes: the one place where pairs are told apart.

use std::cmp::Reverse;

use super::Panels;
use super::bitgemm::{Combine, Pass};
use super::bitrows::BitRows;
use super::bounds::Sequence;
use crate::bits::{Encoding, PackedRef};
use crate::error::{Error, Result};

/// Packed weights laid out for the bit GEMM of an ISA, and how they meet activations of one encoding.
pub(crate) struct BitWeights {
    pub(super) panels: Panels,
    pub(super) algebra: Algebra,
    activation: Encoding,
    /// Where the words of a plane of a row of activations are that lie in order.
    pub(super) in_order: Vec<u32>,
}

impl BitWeights {
    /// Lays out `weights` for activations of `activation` and panels of `nr` lanes.
    ///
    /// Errors if the activations are ternary: no quantizer makes such.
    pub(crate) fn new(weights: PackedRef<'_>, activation: Encoding, nr: usize) -> Result<Self> {
        if activation == Encoding::Ternary {
            return Err(Error::argument(
                "activation",
                activation,
                "bipolar, u1..u8 or s1..s8",
            ));
        }
        Ok(BitWeights {
            panels: Panels::new(weights, nr)?,
            algebra: Algebra::new(weights, activation, nr),
            activation,
            in_order: (0..crate::shape::words(weights.cols()) as u32).collect(),
        })
    }

    /// What the lanes start from, `[N padded to NR]`.
    pub(crate) fn start_mut(&mut self) -> &mut [i32] {
        &mut self.algebra.start
    }

    /// Whether the product needs the sum of each row of activations.
    pub(crate) fn needs_row_sums(&self) -> bool {
        self.algebra.row_sums
    }

    /// Number of panels.
    pub(crate) fn len(&self) -> usize {
        self.panels.len()
    }

    /// Walks along K that a product takes.
    pub(crate) fn passes(&self) -> usize {
        self.algebra.passes.len()
    }

    /// Passes that a tile of one row does in one walk, on kernels whose tile is `mr` rows (see `bitgemm`).
    pub(crate) fn planes_at_once(&self, mr: usize) -> usize {
        match (self.algebra.combine, self.activation.planes()) {
            (Combine::And, 4..) if mr >= 4 => 4,
            (Combine::And, 2..) if mr >= 2 => 2,
            _ => 1,
        }
    }

    /// What a pass does between its loads.
    pub(crate) fn sequence(&self) -> Sequence {
        match self.algebra.combine {
            Combine::And | Combine::Xor => Sequence::Count,
            Combine::XorNonzero => Sequence::CountMasked,
        }
    }

    /// Bytes that the panels take.
    pub(crate) fn bytes(&self) -> usize {
        self.panels.bytes()
    }

    /// Whether `activations` are of the encoding and K that the weights were laid out for.
    pub(super) fn fits(&self, activations: BitRows<'_>) -> bool {
        activations.encoding() == self.activation && activations.words() == self.in_order.len()
    }
}

/// The passes of a pair of encodings, and what is added around them (see `bitgemm`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Algebra {
    pub(super) combine: Combine,
    /// Those over one plane of weights together ..
    pub(super) passes: Vec<Pass>,
    /// .. and again, what is worth most first.
    pub(super) falling: Vec<Pass>,
    /// Whether the sum of each row's integers is subtracted: weights have the offset -1.
    pub(super) row_sums: bool,
    /// What the sums of each channel start from, `[N padded to NR]`.
    pub(super) start: Vec<i32>,
}

impl Algebra {
    /// The algebra of `weights` times activations of `activation`, for panels of `nr` lanes.
    fn new(weights: PackedRef<'_>, activation: Encoding, nr: usize) -> Self {
        let (we, k) = (weights.encoding(), weights.cols() as i32);
        let count = |shift, weight_plane| Pass {
            weight_plane,
            activation_plane: 0,
            shift,
            negative: true,
        };
        let (combine, passes, row_sums) = match (we, activation) {
            (Encoding::Bipolar, Encoding::Bipolar) => (Combine::Xor, vec![count(1, 0)], false),
            (Encoding::Ternary, Encoding::Bipolar) => {
                (Combine::XorNonzero, vec![count(1, 0)], false)
            }
            _ => (Combine::And, and_passes(we, activation), we.offset() != 0),
        };
        let mut start = vec![0; weights.rows().next_multiple_of(nr)];
        for (row, start) in start.iter_mut().enumerate().take(weights.rows()) {
            *start = match combine {
                Combine::Xor => k,
                Combine::XorNonzero => ones(weights, row, 1),
                // Sums of rows come without their offset: o_w (sum a - K o_a). With sum w = K o_w + C this
                // leaves o_a C + K o_w o_a for the channel.
                Combine::And => {
                    let planes = (0..we.planes())
                        .map(|p| we.plane_weight(p).wrapping_mul(ones(weights, row, p)));
                    let sum = planes.fold(0i32, i32::wrapping_add);
                    let offsets = k.wrapping_mul(we.offset() * activation.offset());
                    activation.offset().wrapping_mul(sum).wrapping_add(offsets)
                }
            };
        }
        let mut falling = passes.clone();
        falling.sort_by_key(|pass| Reverse(pass.shift));
        Algebra {
            combine,
            passes,
            falling,
            row_sums,
            start,
        }
    }
}

/// A pass for each pair of planes; each product of plane weights is plus or minus a power of two.
fn and_passes(weights: Encoding, activations: Encoding) -> Vec<Pass> {
    let mut passes = Vec::new();
    for weight_plane in 0..weights.planes() {
        for activation_plane in 0..activations.planes() {
            let worth =
                weights.plane_weight(weight_plane) * activations.plane_weight(activation_plane);
            passes.push(Pass {
                weight_plane,
                activation_plane,
                shift: worth.unsigned_abs().trailing_zeros(),
                negative: worth < 0,
            });
        }
    }
    passes
}

/// Set bits in one plane of one row.
fn ones(matrix: PackedRef<'_>, row: usize, plane: usize) -> i32 {
    let words = matrix.row_words() / matrix.encoding().planes();
    let at = row * matrix.row_words() + plane * words;
    matrix.words()[at..at + words]
        .iter()
        .map(|w| w.count_ones() as i32)
        .sum()
}
