//! How a product is done: the rule that chooses a kernel, and what turns activations into its form.

use std::ops::Range;

use crate::bits::{ByteRef, Encoding, PackedRef};
use crate::error::Result;
use crate::kernels::bounds::Sequence;
use crate::kernels::{
    BitRows, BitWeights, ByteKernel, ByteWeights, CodeRows, Kernels, LutWeights, MatMut, Out,
    bit_passes,
};
use crate::ops::Par;
use crate::ops::grid::Grid;
use crate::shape::words;

use super::Activations;
use super::tables::Tables;

/// A kernel, and weights laid out for it.
pub(in crate::ops) struct Method {
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
    /// Look-up of sums, and another method for few rows where there is a faster one.
    Tables(Tables, Option<Few>),
}

/// A method for products of few rows.
struct Few {
    method: Box<Method>,
    /// The most.
    rows: usize,
}

/// The ways to do a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ops) enum Way {
    Bits,
    Bytes,
    Tables,
}

impl Method {
    /// The fastest way for `n` channels of `weight`: tables where they serve and there are channels enough
    /// to pay for them, bytes where bit-serial passes cost more than they do, both by the kernels' own measure.
    pub(in crate::ops) fn choose(
        kernels: &Kernels,
        n: usize,
        weight: Encoding,
        activation: Encoding,
    ) -> Way {
        match kernels.lut_kernel(weight, activation) {
            Some(tables) if tables.worth.channels(weight, activation) <= n => Way::Tables,
            _ => Self::without_tables(kernels, weight, activation),
        }
    }

    /// The fastest way but tables.
    fn without_tables(kernels: &Kernels, weight: Encoding, activation: Encoding) -> Way {
        let passes = bit_passes(weight, activation);
        match kernels.byte_kernel() {
            Some(bytes) if activation != Encoding::Bipolar && passes > bytes.worth_passes => {
                Way::Bytes
            }
            _ => Way::Bits,
        }
    }

    /// `way` for weights and activations that it serves, on an ISA that has it.
    pub(in crate::ops) fn new(
        way: Way,
        kernels: &'static Kernels,
        weights: PackedRef<'_>,
        activation: Encoding,
    ) -> Result<Self> {
        let tables = kernels.lut_kernel(weights.encoding(), activation);
        let how = match (way, kernels.byte_kernel(), tables) {
            (Way::Bytes, Some(bytes), _) => {
                let signed = activation.min() < 0;
                let weights = ByteWeights::new(weights, signed, bytes)?;
                How::Bytes(bytes, weights)
            }
            (Way::Tables, _, Some(kernel)) => {
                let weights = LutWeights::new(weights, activation, kernel)?;
                How::Tables(Tables { kernel, weights }, None)
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

    /// This method with a second one beside it for few rows, if `weights`, which it was made of, have a faster one for those.
    pub(in crate::ops) fn with_few_rows(mut self, weights: PackedRef<'_>) -> Result<Self> {
        if let How::Tables(tables, few) = &mut self.how {
            let (we, activation) = (weights.encoding(), self.activation);
            let rows = tables.kernel.few_rows(we, activation);
            if rows > 0 {
                let way = Self::without_tables(self.kernels, we, activation);
                let method = Box::new(Self::new(way, self.kernels, weights, activation)?);
                *few = Some(Few { method, rows });
            }
        }
        Ok(self)
    }

    /// Changes what the channels start from, N of them and padding.
    pub(in crate::ops) fn start_with(&mut self, what: impl Fn(&mut [i32])) {
        match &mut self.how {
            How::Bits(weights) => what(weights.start_mut()),
            How::Bytes(_, weights) => what(weights.start_mut()),
            How::Tables(tables, few) => {
                what(tables.weights.start_mut());
                if let Some(few) = few {
                    few.method.start_with(what);
                }
            }
        }
    }

    /// The method for `rows` rows: this one, or that for few.
    fn with_rows(&self, rows: usize) -> &Method {
        match &self.how {
            How::Tables(_, Some(few)) if rows <= few.rows => &few.method,
            _ => self,
        }
    }

    /// Channels of a panel.
    pub(super) fn nr(&self) -> usize {
        match &self.how {
            How::Bits(_) => self.kernels.nr(),
            How::Bytes(_, weights) => weights.nr(),
            How::Tables(tables, _) => tables.weights.nr(),
        }
    }

    /// Bytes of the weights as laid out.
    pub(in crate::ops) fn bytes(&self) -> usize {
        match &self.how {
            How::Tables(_, Some(few)) => few.method.bytes() + self.bytes_read(usize::MAX),
            _ => self.bytes_read(usize::MAX),
        }
    }

    /// Those of them that a product of `rows` rows reads.
    pub(in crate::ops) fn bytes_read(&self, rows: usize) -> usize {
        match &self.with_rows(rows).how {
            How::Bits(weights) => weights.bytes(),
            How::Bytes(_, weights) => weights.bytes(),
            How::Tables(tables, _) => tables.weights.bytes(),
        }
    }

    /// Elements of scratch for `rows` rows of packed codes.
    pub(in crate::ops) fn scratch_of_planes(&self, rows: usize) -> usize {
        match &self.how {
            How::Bits(_) => 0,
            How::Bytes(_, weights) => {
                rows.saturating_mul(byte_sums(weights) + weights.row_bytes() / 4)
            }
            How::Tables(tables, few) => {
                let few = few
                    .as_ref()
                    .map_or(0, |few| few.method.scratch_of_planes(few.rows.min(rows)));
                tables.scratch(rows).max(few)
            }
        }
    }

    /// Elements of scratch for `rows` rows of bytes.
    pub(in crate::ops) fn scratch_of_bytes(&self, rows: usize) -> usize {
        let planes = self.activation.planes() * words(self.k);
        match &self.how {
            How::Bits(_) => rows.saturating_mul(planes),
            How::Bytes(_, weights) if weights.row_bytes() == self.k => {
                rows.saturating_mul(byte_sums(weights))
            }
            How::Bytes(..) => self.scratch_of_planes(rows),
            How::Tables(tables, few) => {
                let few = few
                    .as_ref()
                    .map_or(0, |few| few.method.scratch_of_bytes(few.rows.min(rows)));
                tables.scratch(rows).max(few)
            }
        }
    }

    /// What the inner loop does for `rows` rows, and how often it walks along K.
    pub(in crate::ops) fn sequence(&self, rows: usize) -> (Sequence, usize) {
        match &self.with_rows(rows).how {
            How::Bits(weights) => (weights.sequence(), weights.passes()),
            How::Bytes(_, weights) => (weights.sequence(), 1),
            How::Tables(tables, _) => tables.sequence(),
        }
    }

    /// ISA, kernel, tile and what is special about it, for people.
    pub(in crate::ops) fn describe(&self) -> String {
        let (kernels, isa) = (self.kernels, self.kernels.isa());
        match &self.how {
            How::Bits(weights) => {
                let pass = match weights.passes() {
                    1 => "1 pass".to_string(),
                    passes => format!("{passes} bit-serial passes"),
                };
                let (name, mr, nr) = (kernels.bitgemm_name(), kernels.mr(), kernels.nr());
                let gemv = match weights.planes_at_once(mr) {
                    1 => String::new(),
                    planes => format!(", {planes} at once for one row"),
                };
                format!("{isa}: {name}, tile {mr}x{nr}, {pass}{gemv}")
            }
            How::Bytes(kernel, weights) => {
                let (name, mr, nr) = (kernel.name, kernel.mr, weights.nr());
                let bits = weights.field_bits();
                format!("{isa}: {name}, tile {mr}x{nr}, weights in fields of {bits} bits")
            }
            How::Tables(tables, few) => {
                let few = match few {
                    Some(few) => format!("; {} up to {} rows", few.method.name(), few.rows),
                    None => String::new(),
                };
                format!("{isa}: {}{few}", tables.describe())
            }
        }
    }

    /// The name of its kernel.
    fn name(&self) -> &'static str {
        match &self.how {
            How::Bits(_) => self.kernels.bitgemm_name(),
            How::Bytes(kernel, _) => kernel.name,
            How::Tables(tables, _) => tables.kernel.name,
        }
    }

    /// The product of all rows of `activations`, which fit this method, into `out` (`[rows, N]`).
    pub(in crate::ops) fn run<T: Send>(
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
        match &self.with_rows(rows).how {
            How::Bits(weights) => {
                let rows = self.bit_rows(activations, scratch);
                self.run_bits_of(weights, rows, out, par, dress)
            }
            How::Bytes(kernel, weights) => {
                self.run_bytes(kernel, weights, activations, out, scratch, par, dress)
            }
            How::Tables(tables, _) => {
                tables.run(self.kernels, activations, out, scratch, par, dress)
            }
        }
    }

    /// The products of rows of bits, by a method of bits: as [`Method::run`].
    pub(in crate::ops) fn run_bits<T: Send>(
        &self,
        rows: BitRows<'_>,
        out: MatMut<'_, T>,
        par: Par<'_>,
        dress: &(impl Dress<T> + Sync),
    ) {
        self.run_bits_of(self.bits(), rows, out, par, dress);
    }

    fn run_bits_of<T: Send>(
        &self,
        weights: &BitWeights,
        rows: BitRows<'_>,
        out: MatMut<'_, T>,
        par: Par<'_>,
        dress: &(impl Dress<T> + Sync),
    ) {
        let nr = self.kernels.nr();
        let k_words = rows.words();
        let grid = Grid {
            mr: self.kernels.mr(),
            nr,
            row_words: rows.encoding().planes() * k_words,
            steps: (weights.passes() * k_words * nr / 8) as u64,
            at_once: usize::MAX,
        };
        grid.run(
            rows.rows(),
            weights.len(),
            out,
            par,
            &|panel, some_rows, out| {
                let out = dress.dress(some_rows.clone(), channels(panel, nr, &out), out);
                let rows = rows.slice_rows(some_rows);
                self.kernels.bitgemm(weights, panel, rows, out)
            },
        )
    }

    /// Whether this multiplies bits.
    pub(in crate::ops) fn is_bits(&self) -> bool {
        matches!(self.how, How::Bits(_))
    }

    /// Whether this wants bytes, of planes too.
    pub(in crate::ops) fn is_bytes(&self) -> bool {
        matches!(self.how, How::Bytes(..))
    }

    /// Whether sums can become codes of 1 and 2 bits while they are in registers.
    pub(in crate::ops) fn makes_codes(&self) -> bool {
        self.is_bits() && self.kernels.makes_codes()
    }

    /// The codes of all `n` channels and all `rows`; `classes` says for each row where its thresholds begin, and is empty if
    /// all have the first. Panics unless it [`Method::makes_codes`].
    pub(in crate::ops) fn run_codes(
        &self,
        rows: BitRows<'_>,
        n: usize,
        classes: &[u32],
        out: CodeRows<'_>,
    ) {
        self.kernels.bit_codes(self.bits(), n, rows, classes, out);
    }

    fn bits(&self) -> &BitWeights {
        match &self.how {
            How::Bits(weights) => weights,
            _ => unreachable!("a method of bits"),
        }
    }

    /// `activations` as planes, in `scratch` if they are not that yet.
    pub(in crate::ops) fn bit_rows<'a>(
        &self,
        activations: Activations<'a>,
        scratch: &'a mut [i32],
    ) -> BitRows<'a> {
        match activations {
            Activations::Planes(planes) => planes.into(),
            Activations::Bytes(bytes) => {
                let planes = bytemuck::cast_slice_mut(scratch);
                self.kernels.planes_of(bytes, planes).into()
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn run_bytes<T: Send>(
        &self,
        kernel: &ByteKernel,
        weights: &ByteWeights,
        activations: Activations<'_>,
        out: MatMut<'_, T>,
        scratch: &mut [i32],
        par: Par<'_>,
        dress: &(impl Dress<T> + Sync),
    ) {
        let rows = activations.shape().1;
        let (sums, rest) = scratch.split_at_mut(byte_sums(weights) * rows);
        let (stride, nr) = (weights.row_bytes(), weights.nr());
        let bytes = bytes_of(self.kernels, activations, stride, rest);
        if !sums.is_empty() {
            let (signed, base) = (weights.signed(), weights.base());
            self.kernels.byte_sums(bytes, stride, signed, base, sums);
        }
        let grid = Grid {
            mr: kernel.mr,
            nr,
            row_words: stride / 4,
            steps: (stride / 4 * kernel.vectors) as u64,
            at_once: usize::MAX,
        };
        let sums = &*sums;
        grid.run(rows, weights.len(), out, par, &|panel, rows, out| {
            let (sums, bytes) = (some(sums, &rows), &bytes[rows.start * stride..]);
            let out = dress.dress(rows, channels(panel, nr, &out), out);
            kernel.run(weights, panel, bytes, stride, sums, out)
        })
    }
}

/// Sums that a product of bytes needs for each row.
fn byte_sums(weights: &ByteWeights) -> usize {
    usize::from(weights.base() != 0)
}

/// The channels that `out` has from `panel` on, up to the end of its last panel of `nr`.
fn channels<T>(panel: usize, nr: usize, out: &MatMut<'_, T>) -> Range<usize> {
    panel * nr..panel * nr + out.cols().next_multiple_of(nr)
}

/// The sums of `rows`, or none where there are none.
fn some<'a>(sums: &'a [i32], rows: &Range<usize>) -> &'a [i32] {
    match sums.is_empty() {
        true => sums,
        false => &sums[rows.clone()],
    }
}

/// `activations` as bytes in rows of `stride`, in `scratch` if they are not that yet.
pub(super) fn bytes_of<'a>(
    kernels: &Kernels,
    activations: Activations<'a>,
    stride: usize,
    scratch: &'a mut [i32],
) -> &'a [u8] {
    let rows = activations.shape().1;
    match activations {
        Activations::Bytes(bytes) if bytes.cols() == stride => bytes.data(),
        other => {
            let padded = &mut bytemuck::cast_slice_mut(scratch)[..rows * stride];
            match other {
                Activations::Bytes(bytes) => pad_rows(bytes, stride, padded),
                Activations::Planes(planes) => kernels.unpack(planes, stride, padded),
            }
            padded
        }
    }
}

/// How a rectangle of the result becomes the kernel's output.
pub(in crate::ops) trait Dress<T> {
    /// `out` holds `rows` of `channels`, or of those of them that are below N.
    fn dress<'a>(
        &'a self,
        rows: Range<usize>,
        channels: Range<usize>,
        out: MatMut<'a, T>,
    ) -> Out<'a>;
}

/// Sums as they are.
pub(in crate::ops) struct Integers;

impl Dress<i32> for Integers {
    fn dress<'a>(&'a self, _: Range<usize>, _: Range<usize>, out: MatMut<'a, i32>) -> Out<'a> {
        Out::I32(out)
    }
}

/// Scale and bias of the channels.
pub(super) struct Scaled<'s> {
    pub(super) scale: &'s [f32],
    pub(super) bias: &'s [f32],
}

impl Dress<f32> for Scaled<'_> {
    fn dress<'a>(
        &'a self,
        _: Range<usize>,
        channels: Range<usize>,
        out: MatMut<'a, f32>,
    ) -> Out<'a> {
        Out::F32 {
            out,
            scale: &self.scale[channels.clone()],
            bias: &self.bias[channels],
        }
    }
}

/// Rows of bytes, each followed by zeros up to `stride`.
pub(in crate::ops) fn pad_rows(bytes: ByteRef<'_>, stride: usize, out: &mut [u8]) {
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
