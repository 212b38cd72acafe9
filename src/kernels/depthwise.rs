//! Depthwise convolution: channels in lanes, plain loops, compiled as those of `rows`.
//!
//! A sum gains one product of a byte and a 16-bit weight for each tap. A chunk of channels keeps its sums in registers
//! while all taps pass; the loop is the same everywhere, and each ISA compiles it for its own vectors.

/// Output pixels that read the same taps, and what they read.
pub(crate) struct DepthwiseTask<'a> {
    /// Channels, C.
    pub(crate) channels: usize,
    /// Whether bytes are signed.
    pub(crate) signed: bool,
    /// From the first tap of the first pixel on.
    pub(crate) bytes: &'a [u8],
    /// Bytes from an output pixel's taps to the next one's.
    pub(crate) pixel_step: usize,
    /// Bytes from a row of taps to the next.
    pub(crate) row_step: usize,
    /// Bytes from a tap to the next.
    pub(crate) col_step: usize,
    /// Rows and columns of taps.
    pub(crate) taps: [usize; 2],
    /// Weights `[tap, C]` from the first tap on.
    pub(crate) weights: &'a [i16],
    /// Weights from a row of taps to the next.
    pub(crate) weight_row: usize,
}

/// Adds the products of `task` to `sums` `[pixels, C]`. Panics on lengths that do not fit, as slices do.
#[inline(always)]
pub(super) fn run(task: &DepthwiseTask<'_>, sums: &mut [i32]) {
    if task.signed {
        typed(task, sums, |byte| byte as i8 as i16);
    } else {
        typed(task, sums, |byte| byte as i16);
    }
}

#[inline(always)]
fn typed(task: &DepthwiseTask<'_>, sums: &mut [i32], value: impl Fn(u8) -> i16 + Copy) {
    for (pixel, sums) in sums.chunks_exact_mut(task.channels).enumerate() {
        let bytes = &task.bytes[pixel * task.pixel_step..];
        let mut channel = 0;
        while channel + 64 <= task.channels {
            chunk::<64>(task, bytes, channel, &mut sums[channel..], value);
            channel += 64;
        }
        while channel + 16 <= task.channels {
            chunk::<16>(task, bytes, channel, &mut sums[channel..], value);
            channel += 16;
        }
        while channel < task.channels {
            chunk::<1>(task, bytes, channel, &mut sums[channel..], value);
            channel += 1;
        }
    }
}

/// All taps of `N` channels from `channel` on.
#[inline(always)]
fn chunk<const N: usize>(
    task: &DepthwiseTask<'_>,
    bytes: &[u8],
    channel: usize,
    sums: &mut [i32],
    value: impl Fn(u8) -> i16,
) {
    let sums = &mut sums[..N];
    let mut kept = [0i32; N];
    kept.copy_from_slice(sums);
    for ky in 0..task.taps[0] {
        for kx in 0..task.taps[1] {
            let from = ky * task.row_step + kx * task.col_step + channel;
            let bytes: &[u8; N] = bytes[from..][..N].try_into().expect("N bytes");
            let from = ky * task.weight_row + kx * task.channels + channel;
            let weights: &[i16; N] = task.weights[from..][..N].try_into().expect("N weights");
            for lane in 0..N {
                let product = i32::from(value(bytes[lane])) * i32::from(weights[lane]);
                kept[lane] = kept[lane].wrapping_add(product);
            }
        }
    }
    sums.copy_from_slice(&kept);
}
