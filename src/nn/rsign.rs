//! RSign: the sign with a shift that is learned per channel.
//!
//! ```text
//!   z = x - shift[n]        y = +1 if z >= 0, else -1 (so for NaN)        x, y [M, N]
//!
//!   d_x     = c(z) d_y      d_shift = - sum d_x per channel
//! ```
//!
//! c stands for the derivative of the sign: [`CoarseX::PiecewisePoly`], 2 - 2 |z| for |z| <= 1, or
//! [`CoarseX::HardTanh`]. In floats y is the function whose derivative c is, so there the gradients are true ones.
//!
//! Source: ReActNet, arXiv 2003.03488, section 4.2; the polynomial from Bi-Real Net, arXiv 1808.00278.

use crate::bits::Bits;
use crate::error::Result;
use crate::nn::rprelu::{ROWS, check};
use crate::nn::ste::CoarseX;
use crate::ops::{ActivationFn, Finish, OutputKind, ResidualAt};
use crate::quant::ActQuantizer;

/// The sign of N channels, with shifts.
#[derive(Clone, Debug)]
pub struct RSign {
    /// What is taken off the input, `[N]`.
    pub shift: Vec<f32>,
    /// Gradient of the loss by `shift`, `[N]`.
    pub d_shift: Vec<f32>,
    by: CoarseX,
    /// Whether signs leave, or the smooth function.
    quantized: bool,
}

impl RSign {
    /// N channels with shifts of 0, in floats; `by` stands for the derivative.
    pub fn new(n: usize, by: CoarseX) -> Self {
        RSign {
            shift: vec![0.0; n],
            d_shift: vec![0.0; n],
            by,
            quantized: false,
        }
    }

    /// Channels, N.
    pub fn n(&self) -> usize {
        self.shift.len()
    }

    /// Whether signs leave from now on, or the smooth function.
    pub fn set_quantized(&mut self, quantized: bool) {
        self.quantized = quantized;
    }

    /// The quantizer whose levels leave; `None` in floats.
    pub fn quantizer(&self) -> Option<ActQuantizer> {
        self.quantized.then_some(ActQuantizer::Sign)
    }

    /// Bit 1 for +1 or 0 for -1 at `x` of channel `n`. Panics unless n < N.
    #[inline(always)]
    pub fn code(&self, x: f32, n: usize) -> u8 {
        u8::from(x - self.shift[n] >= 0.0)
    }

    /// The same as a packed finish over values `step` times an integer, or over floats with a step of 1: it begins with
    /// `step * x - shift[n]`.
    ///
    /// Errors if a number is not finite.
    pub fn finish(&self, step: f32) -> Result<Finish> {
        Finish::new(
            vec![step; self.n()],
            self.shift.iter().map(|s| -s).collect(),
            ActivationFn::Identity,
            ResidualAt::Nowhere,
            OutputKind::Codes(ActQuantizer::Sign.into()),
        )
    }

    /// The values of `x` `[M, N]` into `y` `[M, N]`; with `smooth` those of the smooth function in any case.
    ///
    /// Errors if the lengths differ or are not a multiple of N.
    pub fn forward(&self, x: &[f32], y: &mut [f32], smooth: bool) -> Result<()> {
        check(self.n(), x, y)?;
        let (n, one) = (self.n(), Bits::new(1)?);
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            let all = x.iter().zip(y).zip(&self.shift);
            match self.quantized && !smooth {
                true => all.for_each(|((x, y), s)| *y = if x - s >= 0.0 { 1.0 } else { -1.0 }),
                false => all.for_each(|((x, y), s)| *y = self.by.smooth(x - s, 1.0, one)),
            }
        }
        Ok(())
    }

    /// The gradient by `x` `[M, N]` in place of the one by y, and that by the shifts.
    ///
    /// Errors if the lengths differ or are not a multiple of N.
    pub fn backward(&mut self, x: &[f32], d: &mut [f32]) -> Result<()> {
        check(self.n(), x, d)?;
        let one = Bits::new(1)?;
        match self.by {
            CoarseX::HardTanh => self.back(x, d, |z| CoarseX::HardTanh.dx(z, 1.0, one)),
            CoarseX::PiecewisePoly => self.back(x, d, |z| CoarseX::PiecewisePoly.dx(z, 1.0, one)),
            by => self.back(x, d, |z| by.dx(z, 1.0, one)),
        }
        Ok(())
    }

    fn back(&mut self, x: &[f32], d: &mut [f32], dx: impl Fn(f32) -> f32) {
        let n = self.n();
        let (shift, d_shift) = (&self.shift[..n], &mut self.d_shift[..n]);
        d_shift.fill(0.0);
        let mut sums = vec![0f32; n];
        let sums = &mut sums[..n];
        for (x, d) in x.chunks(ROWS * n).zip(d.chunks_mut(ROWS * n)) {
            sums.fill(0.0);
            for (x, d) in x.chunks_exact(n).zip(d.chunks_exact_mut(n)) {
                for i in 0..n {
                    d[i] *= dx(x[i] - shift[i]);
                    sums[i] -= d[i];
                }
            }
            d_shift.iter_mut().zip(&*sums).for_each(|(d, s)| *d += s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;

    const M: usize = 300;
    const N: usize = 3;

    #[test]
    fn signs_turn_at_the_shift_of_their_channel() {
        let mut layer = RSign::new(2, CoarseX::PiecewisePoly);
        layer.shift = vec![0.5, -1.0];
        layer.set_quantized(true);
        let x = [0.5, -1.0, 0.49, -1.01, f32::NAN, 7.0];
        let mut y = [0.0; 6];
        layer.forward(&x, &mut y, false).unwrap();
        assert_eq!(y, [1.0, 1.0, -1.0, -1.0, -1.0, 1.0]);
        let codes: Vec<u8> = (0..6).map(|i| layer.code(x[i], i % 2)).collect();
        assert_eq!(codes, [1, 1, 0, 0, 0, 1]);
        assert_eq!(layer.quantizer(), Some(ActQuantizer::Sign));

        // 2 - 2 |z| for z = 0, 0, -0.01, -0.01; nothing beyond 1 and for NaN.
        let mut d = [1.0, 2.0, 1.0, 1.0, 1.0, 1.0];
        layer.backward(&x, &mut d).unwrap();
        for (d, expected) in d.iter().zip([2.0, 4.0, 1.98, 1.98, 0.0, 0.0]) {
            assert!((d - expected).abs() < 1e-5, "{d} {expected}");
        }
        assert!((layer.d_shift[0] + 3.98).abs() < 1e-5);
        assert!((layer.d_shift[1] + 5.98).abs() < 1e-5);

        let mut hard = RSign::new(1, CoarseX::HardTanh);
        let mut d = [3.0; 4];
        hard.backward(&[-1.5, -1.0, 0.2, 1.1], &mut d).unwrap();
        assert_eq!((d, hard.d_shift[0]), ([0.0, 3.0, 3.0, 0.0], -6.0));
    }

    #[test]
    fn in_floats_gradients_are_difference_quotients() {
        let mut layer = RSign::new(N, CoarseX::PiecewisePoly);
        Rng::new(1).fill_normal(&mut layer.shift, 0.3);
        let (mut x, mut weight) = (vec![0.0; M * N], vec![0.0; M * N]);
        Rng::new(2).fill_normal(&mut x, 0.7);
        Rng::new(3).fill_normal(&mut weight, 1.0);
        let mut d = weight.clone();
        layer.backward(&x, &mut d).unwrap();
        let loss = |layer: &RSign, x: &[f32]| {
            let mut y = vec![0.0; x.len()];
            layer.forward(x, &mut y, false).unwrap();
            y.iter()
                .zip(&weight)
                .map(|(y, w)| f64::from(y * w))
                .sum::<f64>()
        };
        let h = 1e-2f32;
        let near = |high: f64, low: f64, gradient: f32| {
            let quotient = (high - low) / f64::from(2.0 * h);
            let gap = (quotient - f64::from(gradient)).abs();
            assert!(
                gap < 1e-2 * quotient.abs().max(2.0),
                "{quotient} {gradient}"
            );
        };
        for i in (0..M * N).step_by(17) {
            let at = |step: f32| {
                let mut moved = x.clone();
                moved[i] += step;
                loss(&layer, &moved)
            };
            near(at(h), at(-h), d[i]);
        }
        for i in 0..N {
            let at = |step: f32| {
                let mut moved = layer.clone();
                moved.shift[i] += step;
                loss(&moved, &x)
            };
            near(at(h), at(-h), layer.d_shift[i]);
        }
        // The coarse gradient of the signs is the same one, at the same x.
        let (mut signs, mut coarse) = (layer.clone(), weight.clone());
        signs.set_quantized(true);
        signs.backward(&x, &mut coarse).unwrap();
        assert_eq!((coarse, signs.d_shift), (d, layer.d_shift));
    }
}
