//! How the sums of a product leave a kernel, with the checks that make raw pointers of it.

use super::MatMut;
use super::sink::Sink;

/// How the sums of a product leave it.
pub(crate) enum Out<'a> {
    /// As they are.
    I32(MatMut<'a, i32>),
    /// `scale * sum + bias`, the product rounded before the sum. Both are padded to whole panels.
    F32 {
        out: MatMut<'a, f32>,
        scale: &'a [f32],
        bias: &'a [f32],
    },
    /// `scale * (sum - zero_point * channel_sum) * row_scale + bias`, each step rounded. What is of a channel is
    /// padded to whole panels, what is of a row has one for each of them.
    Rows {
        out: MatMut<'a, f32>,
        scale: &'a [f32],
        bias: &'a [f32],
        channel_sums: &'a [i32],
        row_scale: &'a [f32],
        zero_points: Option<&'a [i32]>,
    },
}

impl Out<'_> {
    pub(super) fn rows(&self) -> usize {
        match self {
            Out::I32(out) => out.rows(),
            Out::F32 { out, .. } | Out::Rows { out, .. } => out.rows(),
        }
    }

    /// Channels and raw form; panics unless there are `rows` rows, and scales and biases for whole panels of `nr`.
    pub(super) fn sink(self, rows: usize, nr: usize) -> (usize, Sink) {
        let (out_rows, lanes, sink) = match self {
            Out::I32(mut out) => {
                let sink = Sink::integers(out.as_mut_ptr(), out.stride());
                (out.rows(), out.cols(), sink)
            }
            Out::F32 {
                mut out,
                scale,
                bias,
            } => {
                let padded = out.cols().next_multiple_of(nr);
                assert!(
                    scale.len() >= padded && bias.len() >= padded,
                    "a scale and bias for each lane"
                );
                let sink = Sink::floats(
                    out.as_mut_ptr(),
                    out.stride(),
                    scale.as_ptr(),
                    bias.as_ptr(),
                );
                (out.rows(), out.cols(), sink)
            }
            Out::Rows {
                mut out,
                scale,
                bias,
                channel_sums,
                row_scale,
                zero_points,
            } => {
                let padded = out.cols().next_multiple_of(nr);
                let least = scale.len().min(bias.len()).min(channel_sums.len());
                assert!(least >= padded, "a scale, bias and sum for each lane");
                assert!(row_scale.len() == rows && zero_points.is_none_or(|z| z.len() == rows));
                let zero_points = zero_points.map_or(std::ptr::null(), <[i32]>::as_ptr);
                let sink = Sink::floats(
                    out.as_mut_ptr(),
                    out.stride(),
                    scale.as_ptr(),
                    bias.as_ptr(),
                )
                .by_row(channel_sums.as_ptr(), row_scale.as_ptr(), zero_points);
                (out.rows(), out.cols(), sink)
            }
        };
        assert_eq!(out_rows, rows, "an output row for each activation row");
        (lanes, sink)
    }
}
