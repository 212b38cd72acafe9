//! How a product is done: the rule that chooses a kernel, and what turns activations into its form.

use crate::bits::{ByteRef, Encoding, PackedRef};
use crate::error::Result;
use crate::kernels::bounds::Sequence;
use crate::kernels::{BitWeights, ByteKernel, ByteWeights, Kernels, MatMut, Out};
use crate::ops::Par;
use crate::shape::words;

use super::Activations;
use super::grid::Grid;

/// A kernel, and weights laid out for it.
pub(super) struct Method {
    kernels: &'static Kernels,
    activation: Encoding,
    k: usize,
    how: How,
}

enum How {
    /// Popcounts of bit planes.
    Bits(BitWeights),
    /// Multiply-add of bytes.
    Bytes(&'static ByteKernel, ByteWeights),
}

impl Method {
    /// The method for a pair of encodings: bytes where bit-serial passes cost more than they do, by the
    /// kernel's own measure.
    pub(super) fn choose(
        kernels: &'static Kernels,
        weights: PackedRef<'_>,
        activation: Encoding,
    ) -> Result<Self> {
        let passes = weights.encoding().planes() * activation.planes();
        let how = match kernels.byte_kernel() {
            Some(bytes) if activation != Encoding::Bipolar && passes > bytes.worth_passes => {
                let signed = activation.min() < 0;
                let weights = ByteWeights::new(weights, signed, 0, bytes)?;
                How::Bytes(bytes, weights)
            }
            _ => How::Bits(BitWeights::new(weights, activation, kernels.nr())?),
        };
        Ok(Method {
            kernels,
            activation,
            k: weights.cols(),
            how,
        })
    }

    /// Channels of a panel.
    pub(super) fn nr(&self) -> usize {
        match &self.how {
            How::Bits(_) => self.kernels.nr(),
            How::Bytes(_, weights) => weights.nr(),
        }
    }

    /// Bytes of the weights as laid out.
    pub(super) fn bytes(&self) -> usize {
        match &self.how {
            How::Bits(weights) => weights.bytes(),
            How::Bytes(_, weights) => weights.bytes(),
        }
    }

    /// Elements of scratch for a row of packed codes.
    pub(super) fn scratch_of_planes(&self) -> usize {
        match &self.how {
            How::Bits(_) => self.sums(),
            How::Bytes(_, weights) => self.sums() + weights.row_bytes() / 4,
        }
    }

    /// Elements of scratch for a row of bytes.
    pub(super) fn scratch_of_bytes(&self) -> usize {
        match &self.how {
            How::Bits(_) => self.sums() + self.activation.planes() * words(self.k),
            How::Bytes(_, weights) if weights.row_bytes() == self.k => self.sums(),
            How::Bytes(_, weights) => self.sums() + weights.row_bytes() / 4,
        }
    }

    /// 1 if the sum of each row is needed, else 0.
    fn sums(&self) -> usize {
        usize::from(match &self.how {
            How::Bits(weights) => weights.needs_row_sums(),
            How::Bytes(_, weights) => weights.base() != 0,
        })
    }

    /// What the inner loop does, and how often it walks along K.
    pub(super) fn sequence(&self) -> (Sequence, usize) {
        match &self.how {
            How::Bits(weights) => (weights.sequence(), weights.passes()),
            How::Bytes(_, weights) => (weights.sequence(), 1),
        }
    }

    /// ISA, kernel, tile and what is special about it, for people.
    pub(super) fn describe(&self) -> String {
        let (kernels, isa) = (self.kernels, self.kernels.isa());
        match &self.how {
            How::Bits(weights) => {
                let pass = match weights.passes() {
                    1 => "1 pass".to_string(),
                    passes => format!("{passes} bit-serial passes"),
                };
                let (name, mr, nr) = (kernels.bitgemm_name(), kernels.mr(), kernels.nr());
                format!("{isa}: {name}, tile {mr}x{nr}, {pass}")
            }
            How::Bytes(kernel, weights) => {
                let (name, mr, nr) = (kernel.name, kernel.mr, weights.nr());
                let bits = weights.field_bits();
                format!("{isa}: {name}, tile {mr}x{nr}, weights in fields of {bits} bits")
            }
        }
    }

    /// The product of all rows of `activations`, which fit this method, into `out` (`[rows, N]`).
    pub(super) fn run<T: Send>(
        &self,
        activations: Activations<'_>,
        out: MatMut<'_, T>,
        scratch: &mut [i32],
        par: Par<'_>,
        dress: &(impl Dress<T> + Sync),
    ) {
        let rows = activations.shape().1;
        if rows == 0 || out.cols() == 0 {
            return;
        }
        let (sums, rest) = scratch.split_at_mut(self.sums() * rows);
        let rest = bytemuck::cast_slice_mut(rest);
        let some = |sums: &[i32]| !sums.is_empty();
        match &self.how {
            How::Bits(weights) => {
                let planes = match activations {
                    Activations::Planes(planes) => planes,
                    Activations::Bytes(bytes) => self.kernels.planes_of(bytes, rest),
                };
                if some(sums) {
                    self.kernels.row_sums(planes, sums);
                }
                let grid = Grid {
                    mr: self.kernels.mr(),
                    nr: self.kernels.nr(),
                    row_words: planes.row_words(),
                    steps: (weights.passes() * words(self.k) * self.kernels.nr() / 8) as u64,
                };
                let sums = &*sums;
                grid.run(rows, weights.len(), out, par, &|panel, rows, out| {
                    let sums = if some(sums) {
                        &sums[rows.clone()]
                    } else {
                        sums
                    };
                    let (planes, out) = (planes.slice_rows(rows), dress.dress(panel, out));
                    self.kernels.bitgemm(weights, panel, planes, sums, out)
                })
            }
            How::Bytes(kernel, weights) => {
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
                if some(sums) {
                    let (signed, base) = (weights.signed(), weights.base());
                    self.kernels.byte_sums(bytes, stride, signed, base, sums);
                }
                let grid = Grid {
                    mr: kernel.mr,
                    nr: weights.nr(),
                    row_words: stride / 4,
                    steps: (stride / 4 * kernel.vectors) as u64,
                };
                let sums = &*sums;
                grid.run(rows, weights.len(), out, par, &|panel, rows, out| {
                    let sums = if some(sums) {
                        &sums[rows.clone()]
                    } else {
                        sums
                    };
                    let bytes = &bytes[rows.start * stride..];
                    kernel.run(weights, panel, bytes, stride, sums, dress.dress(panel, out))
                })
            }
        }
    }
}

/// How a panel's rectangle of the result becomes the kernel's output.
pub(super) trait Dress<T> {
    fn dress<'a>(&'a self, panel: usize, out: MatMut<'a, T>) -> Out<'a>;
}

/// Sums as they are.
pub(super) struct Integers;

impl Dress<i32> for Integers {
    fn dress<'a>(&'a self, _: usize, out: MatMut<'a, i32>) -> Out<'a> {
        Out::I32(out)
    }
}

/// Scale and bias of the panel's channels.
pub(super) struct Scaled<'s> {
    pub(super) scale: &'s [f32],
    pub(super) bias: &'s [f32],
    pub(super) nr: usize,
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
