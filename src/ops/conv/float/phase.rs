//! The floats of a block of output pixels by some of the taps: gathered rows, and a product for each group.

use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};

use super::super::gather::{self, Layout};
use super::super::geometry::{Axis, Geometry, Pad};
use super::super::parts::Parts;
use crate::bits::{Encoding, PackedRef};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::{FEW, Kernels};
use crate::ops::{Par, WeightOnlyGemm};
use crate::quant::{Float, Granularity, Scales};
use crate::shape::elements;

/// Floats that are gathered as the bits they are; the product widens them when it reads them.
pub(super) trait Halves: Float {
    /// As they are gathered; zero bits are the float 0.
    type Bits: bytemuck::Pod + Default;

    fn bits(floats: &[Self]) -> &[Self::Bits];

    fn floats(bits: &[Self::Bits]) -> &[Self];
}

impl Halves for f32 {
    type Bits = f32;

    fn bits(floats: &[f32]) -> &[f32] {
        floats
    }

    fn floats(bits: &[f32]) -> &[f32] {
        bits
    }
}

impl Halves for f16 {
    type Bits = u16;

    fn bits(floats: &[f16]) -> &[u16] {
        half::slice::HalfFloatSliceExt::reinterpret_cast(floats)
    }

    fn floats(bits: &[u16]) -> &[f16] {
        bits.reinterpret_cast()
    }
}

impl Halves for bf16 {
    type Bits = u16;

    fn bits(floats: &[bf16]) -> &[u16] {
        half::slice::HalfFloatSliceExt::reinterpret_cast(floats)
    }

    fn floats(bits: &[u16]) -> &[bf16] {
        bits.reinterpret_cast()
    }
}

/// What phases are made of.
pub(super) struct Making<'a> {
    parts: Parts<'a>,
    scales: &'a Scales,
    bias: Option<Vec<f32>>,
}

impl<'a> Making<'a> {
    /// Errors unless filters, groups, scales and bias fit together.
    pub(super) fn new(
        isa: Isa,
        filters: PackedRef<'a>,
        geometry: &Geometry,
        scales: &'a Scales,
        bias: Option<Vec<f32>>,
    ) -> Result<Self> {
        let Geometry {
            kernel: [kh, kw],
            channels,
            groups,
            ..
        } = *geometry;
        let k = elements("filters", &[kh, kw, channels / groups])?;
        if filters.cols() != k {
            let expected = format!("{k} (KH x KW x C / groups)");
            let name = "columns of the filters";
            return Err(Error::argument(name, filters.cols(), expected));
        }
        let o = filters.rows();
        if o == 0 || !o.is_multiple_of(groups) {
            let expected = format!("a positive multiple of the {groups} groups");
            return Err(Error::argument("rows of the filters", o, expected));
        }
        scales.check(o, k)?;
        if let Some(bias) = &bias {
            crate::shape::check_len("bias", bias.len(), o, "O")?;
        }
        let parts = Parts {
            kernels: Kernels::of(isa)?,
            route: None,
            filters,
            width: kw,
            // Of floats there are neither an encoding nor a zero point.
            activation: Encoding::Bipolar,
            zero_point: 0,
            channels,
            groups,
            pad: Pad::Zero,
        };
        Ok(Making {
            parts,
            scales,
            bias,
        })
    }

    pub(super) fn kernels(&self) -> &'static Kernels {
        self.parts.kernels
    }

    pub(super) fn o(&self) -> usize {
        self.parts.filters.rows()
    }

    pub(super) fn k(&self) -> usize {
        self.parts.filters.cols()
    }

    /// The scales of output channels `some`.
    fn scales_of(&self, some: std::ops::Range<usize>) -> Result<Scales> {
        let (k, granularity) = (self.k(), self.scales.granularity());
        let groups = self.scales.groups(k);
        let values: Vec<f32> = match granularity {
            Granularity::Tensor => vec![self.scales.get(0, 0, k)],
            _ => some
                .flat_map(|n| (0..groups).map(move |g| self.scales.get(n, g, k)))
                .collect(),
        };
        Scales::new(granularity, values)
    }
}

/// One indirection table and the weights of its taps.
pub(super) struct Phase {
    rows: Axis,
    cols: Axis,
    channels: usize,
    /// Columns of a gathered row: taps x C / groups.
    k: usize,
    o: usize,
    /// A product for each group.
    gemms: Vec<WeightOnlyGemm>,
    direct: bool,
}

impl Phase {
    /// The product of the taps that `rows` and `cols` name.
    pub(super) fn new(making: &Making<'_>, rows: Axis, cols: Axis) -> Result<Self> {
        let (parts, o) = (&making.parts, making.o());
        let (isa, groups) = (parts.kernels.isa(), parts.groups);
        let filters = parts.select(&rows, &cols);
        let each = o / groups;
        let gemm = |group: usize| {
            let some = group * each..(group + 1) * each;
            let bias = making.bias.as_ref().map(|bias| bias[some.clone()].to_vec());
            let scales = making.scales_of(some.clone())?;
            WeightOnlyGemm::on(isa, filters.view().slice_rows(some), &scales, bias)
        };
        let gemms = (0..groups).map(gemm).collect::<Result<Vec<_>>>()?;
        // Rows are there without gathering: pixels as they are, or whole images.
        let whole = |axis: &Axis| {
            axis.count() == 1 && axis.taps.len() == axis.input && axis.whole == (0..1)
        };
        let identity = rows.is_identity() && cols.is_identity();
        Ok(Phase {
            direct: groups == 1 && (identity || whole(&rows) && whole(&cols)),
            k: filters.cols(),
            rows,
            cols,
            channels: parts.channels,
            o,
            gemms,
        })
    }

    /// Whether rows are there without gathering.
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Columns of a gathered row.
    pub(super) fn k(&self) -> usize {
        self.k
    }

    /// The product of the first group.
    pub(super) fn gemm(&self) -> &WeightOnlyGemm {
        &self.gemms[0]
    }

    /// Rows and columns of the output.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.rows.count(), self.cols.count())
    }

    /// Output pixels of an image.
    pub(super) fn pixels(&self) -> usize {
        self.rows.count() * self.cols.count()
    }

    /// Scratch for up to `rows` output pixels.
    pub(super) fn scratch_len(&self, rows: usize) -> usize {
        // A few rows may need more than many.
        let few = self.gemm().scratch_len(rows.min(FEW));
        let product = self.gemm().scratch_len(rows).max(few);
        let gathered = match self.direct {
            true => 0,
            false => rows.saturating_mul(self.k),
        };
        let of_group = match self.gemms.len() {
            1 => 0,
            _ => rows.saturating_mul(self.gemm().n()),
        };
        product.saturating_add(gathered).saturating_add(of_group)
    }

    /// The floats of the output pixels of `out`, the first of which is number `first` of all images.
    pub(super) fn run<F: Halves>(
        &self,
        input: &[F],
        first: usize,
        out: &mut [f32],
        scratch: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let count = out.len() / self.o;
        if self.direct {
            let rows = &input[first * self.k..(first + count) * self.k];
            return self.gemm().run(rows, count, 0..count, out, scratch, par);
        }
        let (gathered, scratch) = scratch.split_at_mut(count * self.k);
        let bits: &mut [F::Bits] = &mut bytemuck::cast_slice_mut(gathered)[..count * self.k];
        let tap = self.channels / self.gemms.len();
        let mut layout = Layout {
            pixel: self.channels,
            planes: 1,
            plane: 0,
            first: 0,
            tap,
            out_plane: self.k,
            origin: 0,
        };
        let input = F::bits(input);
        let block = first..first + count;
        if let [gemm] = &self.gemms[..] {
            gather::elements(&self.rows, &self.cols, &layout, input, block, bits);
            return gemm.run(F::floats(bits), count, 0..count, out, scratch, par);
        }
        let each = self.gemm().n();
        let (part, scratch) = scratch.split_at_mut(count * each);
        for (group, gemm) in self.gemms.iter().enumerate() {
            layout.first = group * tap;
            gather::elements(&self.rows, &self.cols, &layout, input, block.clone(), bits);
            gemm.run(F::floats(bits), count, 0..count, part, scratch, par)?;
            let pixels = out.chunks_exact_mut(self.o).zip(part.chunks_exact(each));
            for (out, part) in pixels {
                out[group * each..][..each].copy_from_slice(part);
            }
        }
        Ok(())
    }

    /// What runs, for people.
    pub(super) fn describe(&self) -> String {
        let gathered = match self.direct {
            true => "",
            false => ", gathered rows",
        };
        let groups = match self.gemms.len() {
            1 => String::new(),
            n => format!(", {n} groups one after the other"),
        };
        format!("{}{gathered}{groups}", self.gemm().describe())
    }
}
