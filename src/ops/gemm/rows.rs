//! Scales and zero points that each row of activations brings along, and how they reach the result.

use std::ops::Range;

use super::method::Dress;
use crate::bits::Encoding;
use crate::error::{Error, Result};
use crate::kernels::{MatMut, Out};
use crate::shape::check_len;

/// What a row of activations was quantized with at run time: real = scale (code - zero point).
#[derive(Clone, Copy, Debug)]
pub struct RowScales<'a> {
    /// A factor for each of the M rows.
    pub scale: &'a [f32],
    /// The code that stands for 0 in each of the M rows, or `None` if that is 0 in all of them.
    pub zero_point: Option<&'a [i32]>,
}

impl RowScales<'_> {
    /// Errors unless there is one for each of `m` rows.
    pub(super) fn check_len(&self, m: usize) -> Result<()> {
        check_len("row scales", self.scale.len(), m, "M")?;
        match self.zero_point {
            Some(zero_points) => check_len("row zero points", zero_points.len(), m, "M"),
            None => Ok(()),
        }
    }

    /// Those of some rows.
    pub(super) fn slice(&self, rows: Range<usize>) -> Self {
        RowScales {
            scale: &self.scale[rows.clone()],
            zero_point: self.zero_point.map(|z| &z[rows]),
        }
    }
}

/// Errors unless `zero_point` is 0 or the integer of a code.
pub(super) fn check_zero_point(
    name: &'static str,
    activation: Encoding,
    zero_point: i32,
) -> Result<()> {
    if zero_point == 0 || activation.encode(zero_point).is_some() {
        return Ok(());
    }
    let expected = format!("0 or an integer of {activation}");
    Err(Error::argument(name, zero_point, expected))
}

/// The largest |integer - zero point| of `activation`.
pub(super) fn reach(activation: Encoding, zero_point: i32) -> usize {
    let (below, above) = (zero_point - activation.min(), activation.max() - zero_point);
    below.max(above) as usize
}

/// Scale and bias of the channels, and what the rows bring.
pub(super) struct RowScaled<'s> {
    pub(super) scale: &'s [f32],
    pub(super) bias: &'s [f32],
    pub(super) channel_sums: &'s [i32],
    pub(super) rows: RowScales<'s>,
}

impl Dress<f32> for RowScaled<'_> {
    fn dress<'a>(
        &'a self,
        rows: Range<usize>,
        channels: Range<usize>,
        out: MatMut<'a, f32>,
    ) -> Out<'a> {
        let rows = self.rows.slice(rows);
        Out::Rows {
            out,
            scale: &self.scale[channels.clone()],
            bias: &self.bias[channels.clone()],
            channel_sums: &self.channel_sums[channels],
            row_scale: rows.scale,
            zero_points: rows.zero_point,
        }
    }
}
