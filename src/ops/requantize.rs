//! Integer sums into codes of the next layer, by integer thresholds: no float between layers.
//!
//! A layer computes y = scale[n] * sum + bias[n] in f32 and quantizes y. Each step of that, with each of its
//! roundings, is monotone in the sum: increasing where scale[n] > 0, decreasing where scale[n] < 0. So the
//! code is monotone in the sum, and level l is reached from some sum on. [`Thresholds::derive`] finds that
//! sum by bisection *on the float computation itself*. There is no second formula that could disagree
//! with it: the thresholds give the level that the floats give, for every sum that can occur.

use crate::bits::{Encoding, PackedMut};
use crate::error::{Error, Result};
use crate::kernels::{CodeRows, Kernels};
use crate::quant::ActQuantizer;
use crate::shape::{check_len, elements};

/// Thresholds of N channels: code = number of levels l with `sign[n] * sum > threshold[l][n]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Thresholds {
    encoding: Encoding,
    n: usize,
    /// `[levels, 32 ceil(N / 32)]`. Where the sign is -1, the complement: -sum > t is sum < -t, so not sum > !t. The
    /// sums that can occur are above `i32::MIN`, whose negative there is not.
    thresholds: Vec<i32>,
    /// Bits of the channels whose sign is -1; `[ceil(N / 32)]`
    flip: Vec<u32>,
    /// +1 or -1; `[N]`
    sign: Vec<i32>,
}

impl Thresholds {
    /// The thresholds of `quantizer(scale[n] * sum + bias[n])` for sums in -`bound` ..= `bound`.
    ///
    /// Errors if scale and bias differ in length or hold a value that is not finite, or if `bound` is
    /// negative.
    pub fn derive(
        quantizer: &ActQuantizer,
        scale: &[f32],
        bias: &[f32],
        bound: i32,
    ) -> Result<Self> {
        check_len("bias", bias.len(), scale.len(), "as long as scale")?;
        let n = scale.len();
        for (name, values) in [("scale", scale), ("bias", bias)] {
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                return Err(Error::argument(
                    name,
                    format_args!("{} at {i}", values[i]),
                    "finite numbers",
                ));
            }
        }
        let falls = |n: usize| scale[n] < 0.0;
        let code = |n: usize, sum: i32| quantizer.code(sum as f32 * scale[n] + bias[n]);
        Self::of(quantizer.encoding(), n, bound, falls, code)
    }

    /// The thresholds of `code(channel, sum)`, which must be monotone in sums of -`bound` ..= `bound`: falling in
    /// channels where `falls(channel)`, else rising. Errors if `bound` is negative.
    pub(crate) fn of(
        encoding: Encoding,
        n: usize,
        bound: i32,
        falls: impl Fn(usize) -> bool,
        code: impl Fn(usize, i32) -> u8,
    ) -> Result<Self> {
        if bound < 0 {
            return Err(Error::argument("bound", bound, "0 or more"));
        }
        let levels = encoding.levels();
        let padded = n.next_multiple_of(32);
        let mut thresholds = vec![i32::MAX; elements("thresholds", &[levels, padded])?];
        let mut sign = vec![1; n];
        for channel in 0..n {
            if falls(channel) {
                sign[channel] = -1;
            }
            // In terms of s = sign * sum the code rises.
            let code = |s: i32| code(channel, s * sign[channel]);
            for level in 0..levels {
                thresholds[level * padded + channel] = last_below(level as u8 + 1, bound, code);
            }
        }
        Ok(Self::made(encoding, thresholds, sign))
    }

    /// Thresholds `[levels, N]` and signs `[N]` as a file holds them.
    ///
    /// Errors if a length is wrong, a sign is not +1 or -1, a channel's thresholds fall from one level to
    /// the next, or the encoding is neither bipolar nor unsigned.
    pub fn from_parts(encoding: Encoding, thresholds: &[i32], sign: &[i32]) -> Result<Self> {
        if !matches!(encoding, Encoding::Bipolar | Encoding::Unsigned(_)) {
            return Err(Error::argument("encoding", encoding, "bipolar or u1..u8"));
        }
        let (n, levels) = (sign.len(), encoding.levels());
        check_len(
            "thresholds",
            thresholds.len(),
            elements("thresholds", &[levels, n])?,
            "levels x N",
        )?;
        if let Some(i) = sign.iter().position(|s| ![-1, 1].contains(s)) {
            return Err(Error::argument(
                "sign",
                format_args!("{} at {i}", sign[i]),
                "-1 or +1",
            ));
        }
        let fall = (n..thresholds.len()).find(|&i| thresholds[i] < thresholds[i - n]);
        if let Some(i) = fall {
            let value = format!("falling at level {}, channel {}", i / n, i % n);
            return Err(Error::argument("thresholds", value, "levels that rise"));
        }
        let padded = n.next_multiple_of(32);
        let mut all = vec![i32::MAX; elements("thresholds", &[levels, padded])?];
        for level in 0..levels {
            all[level * padded..][..n].copy_from_slice(&thresholds[level * n..][..n]);
        }
        Ok(Self::made(encoding, all, sign.to_vec()))
    }

    /// Of `[levels, 32 ceil(N / 32)]` thresholds as the definition has them.
    fn made(encoding: Encoding, mut thresholds: Vec<i32>, sign: Vec<i32>) -> Self {
        let (n, padded) = (sign.len(), sign.len().next_multiple_of(32));
        let mut flip = vec![0; padded / 32];
        for channel in (0..n).filter(|&c| sign[c] < 0) {
            flip[channel / 32] |= 1 << (channel % 32);
            for t in thresholds[channel..].iter_mut().step_by(padded) {
                *t = !*t;
            }
        }
        Thresholds {
            encoding,
            n,
            thresholds,
            flip,
            sign,
        }
    }

    /// Codes of `sums` `[rows, N]` into `out`, a matrix of this encoding with N columns.
    ///
    /// Errors if the shapes differ; then `out` is untouched.
    pub fn run<'a>(
        &self,
        kernels: &Kernels,
        sums: &[i32],
        out: impl Into<PackedMut<'a>>,
    ) -> Result<()> {
        let out = out.into();
        if out.encoding() != self.encoding || out.cols() != self.n {
            let got = format!("{} with {} columns", out.encoding(), out.cols());
            return Err(Error::argument(
                "out",
                got,
                format_args!("{} with {}", self.encoding, self.n),
            ));
        }
        check_len(
            "sums",
            sums.len(),
            elements("sums", &[out.rows(), self.n])?,
            "rows x N",
        )?;
        self.run_rows(kernels, sums, out.words());
        Ok(())
    }

    /// Codes of whole rows of sums into words. Panics on lengths that do not fit.
    pub(crate) fn run_rows(&self, kernels: &Kernels, sums: &[i32], out: &mut [u32]) {
        if self.n == 0 {
            return;
        }
        let planes = self.encoding.planes();
        kernels.requantize(sums, self.n, &self.thresholds, &self.flip, planes, out);
    }

    /// `out`, whose codes a product is to make of its sums.
    pub(crate) fn code_rows<'a>(&'a self, out: &'a mut [u32]) -> CodeRows<'a> {
        CodeRows {
            words: out,
            thresholds: &self.thresholds,
            flip: &self.flip,
            levels: self.encoding.levels(),
        }
    }

    /// Thresholds `[levels, 32 ceil(N / 32)]` that sums are above before bits are turned.
    pub(crate) fn padded(&self) -> &[i32] {
        &self.thresholds
    }

    /// The encoding of the codes.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Number of channels, N.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Thresholds `[levels, N]`.
    pub fn thresholds(&self) -> Vec<i32> {
        let padded = self.n.next_multiple_of(32);
        let levels = 0..self.encoding.levels();
        let at = |level: usize, channel: usize| match self.sign[channel] {
            1 => self.thresholds[level * padded + channel],
            _ => !self.thresholds[level * padded + channel],
        };
        levels
            .flat_map(|level| (0..self.n).map(move |channel| at(level, channel)))
            .collect()
    }

    /// Signs `[N]`.
    pub fn sign(&self) -> &[i32] {
        &self.sign
    }
}

/// The largest sum in -bound ..= bound whose code is below `level`; `i32::MIN` if none is, `i32::MAX` if
/// all are. `code` must not fall.
fn last_below(level: u8, bound: i32, code: impl Fn(i32) -> u8) -> i32 {
    if code(bound) < level {
        return i32::MAX;
    }
    if code(-bound) >= level {
        return i32::MIN;
    }
    let (mut below, mut reached) = (i64::from(-bound), i64::from(bound));
    while reached - below > 1 {
        let mid = (below + reached).div_euclid(2);
        if code(mid as i32) < level {
            below = mid;
        } else {
            reached = mid;
        }
    }
    below as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::PackedMatrix;
    use crate::quant::{QuantRelu, Rounding};

    #[test]
    fn thresholds_give_the_level_of_the_floats_for_every_sum() {
        let bound = 3000;
        let scale = [
            0.013,
            -0.013,
            0.0,
            -0.0,
            1e-30,
            7.0,
            -1e-3,
            0.001_953_125,
            f32::MAX,
            1e30,
        ];
        let bias = [0.5, 0.5, 0.31, -0.2, 0.1, -3.5, 0.0, -0.5, 0.0, -1e38];
        let mut quantizers = vec![ActQuantizer::Sign];
        for bits in [1, 2, 4, 8] {
            for rounding in [Rounding::Ceil, Rounding::Nearest] {
                quantizers.push(ActQuantizer::Relu(
                    QuantRelu::new(bits, 0.15, rounding).unwrap(),
                ));
            }
        }
        for quantizer in &quantizers {
            let t = Thresholds::derive(quantizer, &scale, &bias, bound).unwrap();
            let n = scale.len();
            let sums: Vec<i32> = (-bound..=bound).flat_map(|s| vec![s; n]).collect();
            let rows = sums.len() / n;
            let e = quantizer.encoding();
            let expected: Vec<i32> = (0..rows * n)
                .map(|i| {
                    e.decode(quantizer.code(sums[i] as f32 * scale[i % n] + bias[i % n]))
                        .unwrap()
                })
                .collect();
            for kernels in Kernels::available() {
                let mut out = PackedMatrix::zeros(e, rows, n).unwrap();
                t.run(kernels, &sums, &mut out).unwrap();
                assert_eq!(out.unpack(), expected, "{quantizer:?} {}", kernels.isa());
            }
            let again = Thresholds::from_parts(e, &t.thresholds(), t.sign()).unwrap();
            assert_eq!(again, t);
        }
    }

    #[test]
    fn parts_out_of_form_are_refused() {
        let u2 = Encoding::unsigned(2).unwrap();
        let said = |t: &[i32], s: &[i32]| Thresholds::from_parts(u2, t, s).unwrap_err().to_string();
        assert_eq!(
            said(&[0; 5], &[1, 1]),
            "thresholds is 5 elements long; expected 6 (levels x N)"
        );
        assert_eq!(said(&[0; 6], &[1, 2]), "sign is 2 at 1; expected -1 or +1");
        let fell = said(&[0, 0, 0, 0, 0, -1], &[1, 1]);
        assert_eq!(
            fell,
            "thresholds is falling at level 2, channel 1; expected levels that rise"
        );
        let nan = Thresholds::derive(&ActQuantizer::Sign, &[f32::NAN], &[0.0], 9).unwrap_err();
        assert_eq!(
            nan.to_string(),
            "scale is NaN at 0; expected finite numbers"
        );
    }
}
