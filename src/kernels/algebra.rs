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
        match self.activation.planes() {
            4.. if mr >= 4 => 4,
            2.. if mr >= 2 => 2,
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

/// Bit-serial passes that a product of a pair of encodings takes.
pub(crate) fn bit_passes(weight: Encoding, activation: Encoding) -> usize {
    match weight {
        Encoding::Bipolar | Encoding::Ternary => activation.planes(),
        _ => weight.planes() * activation.planes(),
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
    /// What the sums of each channel start from, `[N padded to NR]`.
    pub(super) start: Vec<i32>,
}

impl Algebra {
    /// The algebra of `weights` times activations of `activation`, for panels of `nr` lanes.
    fn new(weights: PackedRef<'_>, activation: Encoding, nr: usize) -> Self {
        let (we, k) = (weights.encoding(), weights.cols() as i32);
        let combine = match we {
            Encoding::Bipolar => Combine::Xor,
            Encoding::Ternary => Combine::XorNonzero,
            _ => Combine::And,
        };
        let passes = passes(we, activation, combine);
        let mut start = vec![0; weights.rows().next_multiple_of(nr)];
        for (row, start) in start.iter_mut().enumerate().take(weights.rows()) {
            let planes =
                (0..we.planes()).map(|p| we.plane_weight(p).wrapping_mul(ones(weights, row, p)));
            let sum = planes.fold(k.wrapping_mul(we.offset()), i32::wrapping_add);
            *start = activation.offset().wrapping_mul(sum);
            if combine != Combine::And {
                let planes = (0..activation.planes()).map(|p| activation.plane_weight(p));
                let all = planes.fold(0i32, i32::wrapping_add);
                *start = start.wrapping_add(all.wrapping_mul(ones(weights, row, 0)));
            }
        }
        let mut falling = passes.clone();
        falling.sort_by_key(|pass| Reverse(pass.shift));
        Algebra {
            combine,
            passes,
            falling,
            start,
        }
    }
}

/// A pass for each pair of planes, or for each plane of activations if they meet weights by `combine` as a whole; what it
/// counts is worth plus or minus a power of two.
fn passes(weights: Encoding, activations: Encoding, combine: Combine) -> Vec<Pass> {
    let pairs = match combine {
        Combine::And => weights.planes(),
        Combine::Xor | Combine::XorNonzero => 1,
    };
    let mut passes = Vec::new();
    for weight_plane in 0..pairs {
        for activation_plane in 0..activations.planes() {
            let worth = activations.plane_weight(activation_plane)
                * match combine {
                    Combine::And => weights.plane_weight(weight_plane),
                    Combine::Xor | Combine::XorNonzero => 1,
                };
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
