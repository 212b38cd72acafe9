//! Weights of the byte GEMM with scales per group of K, and the kernel that takes them.
//!
//! Beside the panels of `byteweights` lie, for each panel and group, a scale and the sum of the weights of each lane. A
//! scale of f16 or bf16 is widened to f32 here, once and exactly: a group takes 8 bytes a channel beside its
//! weights.

use super::byteweights::ByteWeights;
use super::groupgemm::GroupTask;
use super::view::MatMut;
use crate::bits::PackedRef;
use crate::error::Result;
use crate::quant::{Granularity, Scales};
use crate::shape::elements;

/// A byte GEMM kernel with scales per group: its tile is `mr` rows by `vectors` vectors of `lanes` channels.
#[derive(Clone, Copy)]
pub(crate) struct GroupKernel {
    pub(crate) name: &'static str,
    pub(crate) mr: usize,
    pub(crate) lanes: usize,
    pub(crate) vectors: usize,
    /// Whether it multiplies bytes that are both signed or both unsigned, not one of each.
    pub(crate) alike: bool,
    pub(super) run: unsafe fn(&GroupTask),
}

/// Weights of any encoding as fields of 2, 4 or 8 bits, and what belongs to their groups.
pub(crate) struct GroupWeights {
    pub(super) bytes: ByteWeights,
    /// Columns of a group.
    group: usize,
    groups: usize,
    /// `[panels, groups, NR]`, as the sums.
    scales: Vec<f32>,
    sums: Vec<i32>,
}

/// How the floats of a product leave it: times `row_scale`, if there is one for each row, plus `bias`, `NR`
/// numbers.
pub(crate) struct GroupOut<'a> {
    pub(crate) out: MatMut<'a, f32>,
    pub(crate) row_scale: Option<&'a [f32]>,
    pub(crate) bias: &'a [f32],
}

/// What is subtracted from activations.
#[derive(Clone, Copy)]
pub(crate) enum ZeroPoints<'a> {
    /// The same for all.
    All(i32),
    /// One for each row.
    Rows(&'a [i32]),
}

impl GroupWeights {
    /// Lays out `weights` with `scales` for activations of bytes, `signed` or not, as `kernel` wants them.
    ///
    /// Errors unless there is a scale for each group. Scales of a tensor or channel are those of one long group.
    pub(crate) fn new(
        weights: PackedRef<'_>,
        scales: &Scales,
        signed: bool,
        kernel: &GroupKernel,
    ) -> Result<Self> {
        let (n, k) = (weights.rows(), weights.cols());
        scales.check(n, k)?;
        let shape = [kernel.lanes, kernel.vectors];
        let bytes = ByteWeights::laid(weights, signed, shape, kernel.alike)?;
        let (nr, groups) = (bytes.nr(), scales.groups(k));
        let group = match scales.granularity() {
            Granularity::Group(group) => group,
            _ => k.next_multiple_of(4).max(4),
        };
        let len = elements("scales", &[n.div_ceil(nr), groups, nr])?;
        let mut laid = GroupWeights {
            bytes,
            group,
            groups,
            scales: vec![0.0; len],
            sums: vec![0; len],
        };
        for channel in 0..n {
            let values = weights.slice_rows(channel..channel + 1).unpack();
            let sums = values.chunks(group).map(|group| group.iter().sum::<i32>());
            for (g, sum) in sums.enumerate() {
                let at = (channel / nr * groups + g) * nr + channel % nr;
                laid.scales[at] = scales.get(channel, g, k);
                laid.sums[at] = sum;
            }
        }
        Ok(laid)
    }

    /// What the sum of each group of activations is multiplied by before it is added; 0 if none is needed.
    pub(crate) fn base(&self) -> i32 {
        self.bytes.base()
    }

    /// Whether activations are signed bytes.
    pub(crate) fn signed(&self) -> bool {
        self.bytes.signed()
    }

    /// Number of panels.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Channels in a panel.
    pub(crate) fn nr(&self) -> usize {
        self.bytes.nr()
    }

    /// Bytes in a row of activations: K rounded up to four.
    pub(crate) fn row_bytes(&self) -> usize {
        self.bytes.row_bytes()
    }

    /// Columns of a group.
    pub(crate) fn group(&self) -> usize {
        self.group
    }

    /// Groups of a channel.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// The weights without what belongs to groups.
    pub(crate) fn fields(&self) -> &ByteWeights {
        &self.bytes
    }

    /// Bytes that panels, scales and sums take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.bytes() + size_of_val(&self.scales[..]) + size_of_val(&self.sums[..])
    }

    /// Scales and sums of panel `index`.
    pub(super) fn panel_groups(&self, index: usize) -> (&[f32], &[i32]) {
        let len = self.groups * self.nr();
        let range = index * len..(index + 1) * len;
        (&self.scales[range.clone()], &self.sums[range])
    }
}

impl GroupKernel {
    /// Panel `panel` of `weights` times rows of bytes, `stride` apart.
    ///
    /// `row_sums` holds base times the sum of each group of each row if the weights have a base, and is empty
    /// if not. Panics on lengths that do not fit together.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn run(
        &self,
        weights: &GroupWeights,
        panel: usize,
        activations: &[u8],
        stride: usize,
        row_sums: &[i32],
        zero_points: ZeroPoints<'_>,
        out: GroupOut<'_>,
    ) {
        let GroupOut {
            mut out,
            row_scale,
            bias,
        } = out;
        let (rows, lanes, nr) = (out.rows(), out.cols(), self.lanes * self.vectors);
        let (groups, row_bytes) = (weights.groups, weights.row_bytes());
        assert_eq!(weights.nr(), nr, "weights laid out for this kernel");
        assert!(lanes <= nr && bias.len() == nr);
        let sums = if weights.base() == 0 {
            0
        } else {
            rows * groups
        };
        assert_eq!(row_sums.len(), sums, "a sum for each row and group");
        assert!(row_scale.is_none_or(|scale| scale.len() == rows));
        if rows == 0 || lanes == 0 {
            return;
        }
        assert!(stride >= row_bytes && activations.len() >= (rows - 1) * stride + row_bytes);
        let (zero_point, zero_step) = match &zero_points {
            ZeroPoints::All(0) => (std::ptr::null(), 0),
            ZeroPoints::All(one) => (std::ptr::from_ref(one), 0),
            ZeroPoints::Rows(each) => {
                assert_eq!(each.len(), rows, "a zero point for each row");
                (each.as_ptr(), 1)
            }
        };
        let (scales, weight_sums) = weights.panel_groups(panel);
        let task = GroupTask {
            weights: weights.bytes.panels(panel..panel + 1).as_ptr(),
            bits: weights.bytes.field_bits(),
            activations: activations.as_ptr(),
            stride,
            words: row_bytes / 4,
            rows,
            signed: weights.signed(),
            group: weights.group / 4,
            groups,
            scales: scales.as_ptr(),
            weight_sums: weight_sums.as_ptr(),
            zero_points: zero_point,
            zero_step,
            row_sums: match row_sums.is_empty() {
                true => std::ptr::null(),
                false => row_sums.as_ptr(),
            },
            row_scale: row_scale.map_or(std::ptr::null(), <[f32]>::as_ptr),
            bias: bias.as_ptr(),
            lanes,
            out_stride: out.stride(),
            out: out.as_mut_ptr(),
        };
        // SAFETY: a GroupKernel is had only from a row of the table, whose features `Kernels::of` and
        // `available` have checked. A group is a multiple of four columns, so every group starts inside K rounded up
        // to four, and for each there are NR scales and sums. The other lengths are checked above or fixed by the
        // layout, and `out` is an exclusive view of rows x lanes.
        unsafe { (self.run)(&task) }
    }
}
