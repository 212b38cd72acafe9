//! The weights of a layer: latent floats, what the forward pass sees of them, and their gradient.
//!
//! ```text
//!   w_f [N, K]           latent weights, which the optimiser moves
//!   w   [N, K] = Q(w_f)  their projection: scale[n] times small integers, or w_f itself
//!   d_w [N, K]           the gradient of the loss by w, taken at w
//! ```
//!
//! N are rows (output channels), K are inputs of a row; for a convolution K = KH x KW x C / groups (OHWI).

use crate::bits::{Encoding, PackedMatrix};
use crate::error::Result;
use crate::nn::net::{Parameter, Role};
use crate::nn::rng::Rng;
use crate::quant::binary_mean;
use crate::shape::elements;

/// What the weights of a layer are in the forward pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weights {
    /// The latent floats.
    Float,
    /// One bit and one scale.
    Binary,
}

/// Latent weights with their projection and gradient.
#[derive(Clone, Debug)]
pub struct Projected {
    rows: usize,
    cols: usize,
    weights: Weights,
    /// Whether they are floats in every mode of the net.
    pub stays_float: bool,
    /// w_f, `[N, K]`.
    pub latent: Vec<f32>,
    /// Gradient of the loss by w, `[N, K]`.
    pub d_weights: Vec<f32>,
    /// w as floats, `[N, K]`; empty if it is w_f.
    values: Vec<f32>,
    /// The integers of w, `[N, K]`.
    codes: PackedMatrix,
    /// What the integer 1 stands for in each row, `[N]`.
    scales: Vec<f32>,
    flips: usize,
}

impl Projected {
    /// N x K latent weights drawn from N(0, 2 / K), which keeps the variance through a ReLU.
    ///
    /// Errors if they do not fit in memory.
    pub fn new(rows: usize, cols: usize, weights: Weights, rng: Rng) -> Result<Self> {
        let len = elements("N x K", &[rows, cols])?;
        let mut latent = vec![0.0; len];
        rng.fill_normal(&mut latent, (2.0 / cols.max(1) as f32).sqrt());
        let mut all = Projected {
            rows,
            cols,
            weights,
            stays_float: false,
            latent,
            d_weights: vec![0.0; len],
            values: Vec::new(),
            codes: PackedMatrix::zeros(Encoding::Bipolar, 0, 0)?,
            scales: Vec::new(),
            flips: 0,
        };
        all.set_weights(weights)?;
        Ok(all)
    }

    /// Number of rows, N.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of a row, K.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// What the weights are in the forward pass.
    pub fn weights(&self) -> Weights {
        self.weights
    }

    /// Changes what the weights are in the forward pass, and projects.
    pub fn set_weights(&mut self, weights: Weights) -> Result<()> {
        self.weights = weights;
        self.values.clear();
        self.project()?;
        self.flips = 0;
        Ok(())
    }

    /// Projects the latent weights. To be called when they have changed.
    pub fn project(&mut self) -> Result<()> {
        if self.weights == Weights::Float {
            return Ok(());
        }
        let (signs, delta) = binary_mean(&self.latent, self.rows, self.cols)?;
        let old = self.codes.words().iter().zip(signs.words());
        self.flips += old
            .map(|(a, b)| (a ^ b).count_ones() as usize)
            .sum::<usize>();
        self.codes = signs;
        self.scales.clear();
        self.scales.resize(self.rows, delta);
        self.values.clear();
        let sign = |w: &f32| if *w >= 0.0 { delta } else { -delta };
        self.values.extend(self.latent.iter().map(sign));
        Ok(())
    }

    /// w, what the forward pass sees, `[N, K]`.
    pub fn values(&self) -> &[f32] {
        match self.weights {
            Weights::Float => &self.latent,
            Weights::Binary => &self.values,
        }
    }

    /// w as integers `[N, K]` with the scale of each row `[N]`; `None` if it is none of that.
    pub fn packed(&self) -> Option<(&PackedMatrix, &[f32])> {
        (self.weights == Weights::Binary).then_some((&self.codes, &self.scales[..]))
    }

    /// The latent weights as a parameter.
    pub(crate) fn parameter(&mut self) -> Parameter<'_> {
        Parameter {
            role: Role::Weights,
            value: &mut self.latent,
            gradient: &self.d_weights,
            projected: &self.values,
        }
    }

    /// How many codes changed in projections since this was last asked.
    pub fn take_flips(&mut self) -> usize {
        std::mem::take(&mut self.flips)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_are_counted_once() {
        let mut w = Projected::new(9, 70, Weights::Binary, Rng::new(3)).unwrap();
        assert_eq!(w.take_flips(), 0);
        w.latent[3] *= -1.0;
        w.latent[100] *= -1.0;
        w.project().unwrap();
        assert_eq!((w.take_flips(), w.take_flips()), (2, 0));
    }

    #[test]
    fn values_are_the_integers_times_the_scale() {
        let mut w = Projected::new(3, 37, Weights::Float, Rng::new(3)).unwrap();
        assert_eq!(w.values(), w.latent);
        assert!(w.packed().is_none());
        w.set_weights(Weights::Binary).unwrap();
        let (codes, scales) = w.packed().unwrap();
        for (i, (value, code)) in w.values().iter().zip(codes.unpack()).enumerate() {
            assert_eq!(*value, scales[i / 37] * code as f32);
        }
    }
}
