//! The linear layer: latent float weights, a forward pass on the packed kernels, gradients in floats.
//!
//! ```text
//!   w [N, K]   = delta * sign(w_f)          1 bit: the projection of the latent weights
//!   x [M, N]   = a [M, K] * w^T             packed: delta * step * (integer sum), step that of the codes of a
//!   d_w [N, K] = d_x^T * a                  at w, and applied to w_f by the weight rule
//!   d_a [M, K] = d_x * w
//! ```
//!
//! There is no bias: batch normalisation follows.
//!
//! Source: Blended Coarse Gradient Descent, arXiv 1808.05240, section 2 (projection, gradient at w).

use crate::bits::{Encoding, PackedMatrix};
use crate::error::Result;
use crate::isa::Isa;
use crate::nn::rng::Rng;
use crate::nn::sgemm::{Matrix, sgemm};
use crate::ops::{Activations, Epilogue, Gemm, Par};
use crate::quant::binary_mean;
use crate::shape::{check_len, elements};

/// What the weights of a layer are in the forward pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weights {
    /// The latent floats.
    Float,
    /// One bit and one scale.
    Binary,
}

/// What a layer gets.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The floats, `[M, K]`.
    pub values: &'a [f32],
    /// The codes that the values are multiples of, with the step; `None` if there are none.
    pub codes: Option<(Activations<'a>, f32)>,
}

/// A linear layer of K inputs and N outputs.
#[derive(Clone, Debug)]
pub struct Linear {
    n: usize,
    k: usize,
    weights: Weights,
    /// w_f, `[N, K]`.
    pub latent: Vec<f32>,
    /// Gradient of the loss by w, `[N, K]`.
    pub d_weights: Vec<f32>,
    /// w as floats, `[N, K]`, for products in floats; of [`Weights::Binary`] only.
    values: Vec<f32>,
    signs: PackedMatrix,
    delta: f32,
    flips: usize,
    scratch: Vec<i32>,
}

impl Linear {
    /// A layer with latent weights drawn from N(0, 2 / K), which keeps the variance through a ReLU.
    ///
    /// Errors if K x N does not fit in memory.
    pub fn new(n: usize, k: usize, weights: Weights, rng: Rng) -> Result<Self> {
        let len = elements("N x K", &[n, k])?;
        let mut latent = vec![0.0; len];
        rng.fill_normal(&mut latent, (2.0 / k.max(1) as f32).sqrt());
        let mut layer = Linear {
            n,
            k,
            weights,
            latent,
            d_weights: vec![0.0; len],
            values: Vec::new(),
            signs: PackedMatrix::zeros(Encoding::Bipolar, n, k)?,
            delta: 0.0,
            flips: 0,
            scratch: Vec::new(),
        };
        layer.set_weights(weights)?;
        Ok(layer)
    }

    /// Number of outputs, N.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of inputs, K.
    pub fn k(&self) -> usize {
        self.k
    }

    /// What the weights are in the forward pass.
    pub fn weights(&self) -> Weights {
        self.weights
    }

    /// Changes what the weights are in the forward pass, and projects.
    pub fn set_weights(&mut self, weights: Weights) -> Result<()> {
        self.weights = weights;
        self.project()?;
        self.flips = 0;
        Ok(())
    }

    /// Projects the latent weights. To be called when they have changed.
    pub fn project(&mut self) -> Result<()> {
        if self.weights == Weights::Float {
            return Ok(());
        }
        let (signs, delta) = binary_mean(&self.latent, self.n, self.k)?;
        let old = self.signs.words().iter().zip(signs.words());
        self.flips += old
            .map(|(a, b)| (a ^ b).count_ones() as usize)
            .sum::<usize>();
        (self.signs, self.delta) = (signs, delta);
        Ok(())
    }

    /// The scale delta of the projected weights; 1 for float weights.
    pub fn delta(&self) -> f32 {
        match self.weights {
            Weights::Float => 1.0,
            Weights::Binary => self.delta,
        }
    }

    /// The signs of the projected weights, `[N, K]`.
    pub fn signs(&self) -> &PackedMatrix {
        &self.signs
    }

    /// How many signs changed in projections since this was last asked.
    pub fn take_flips(&mut self) -> usize {
        std::mem::take(&mut self.flips)
    }

    /// The pre-activations `x` `[M, N]` of `input`.
    ///
    /// Binary weights and codes multiply on the packed kernels of `isa`; whatever has no codes multiplies
    /// in floats. Errors if a length is wrong or the plan refuses.
    pub fn forward(
        &mut self,
        isa: Isa,
        input: Input<'_>,
        x: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let (Weights::Binary, Some((codes, step))) = (self.weights, input.codes) else {
            return self.forward_in_floats(input.values, x, par);
        };
        let epilogue = Epilogue::ScaleBias {
            scale: vec![self.delta * step; self.n],
            bias: vec![0.0; self.n],
        };
        let plan = Gemm::on(isa, self.signs.view(), codes.encoding(), epilogue)?;
        let rows = codes.rows();
        self.scratch.resize(plan.scratch_len_of(&codes, rows), 0);
        plan.run_f32(codes, 0..rows, x, &mut self.scratch, par)
    }

    /// As [`Linear::forward`], but on the floats that the codes stand for: the same up to rounding.
    pub fn forward_in_floats(&self, values: &[f32], x: &mut [f32], par: Par<'_>) -> Result<()> {
        let m = self.rows(values)?;
        let a = Matrix::new(values, m, self.k)?;
        let mut expanded = Vec::new();
        let w = self.expand(&mut expanded);
        sgemm(0.0, x, a, Matrix::new(w, self.n, self.k)?.t(), par)
    }

    /// Sets `d_weights` from the gradient `d_x` `[M, N]` by the output and the input's `values` `[M, K]`;
    /// writes the gradient by the input to `d_values` `[M, K]` if there is one to write to.
    ///
    /// Errors if a length is wrong.
    pub fn backward(
        &mut self,
        values: &[f32],
        d_x: &[f32],
        d_values: Option<&mut [f32]>,
        par: Par<'_>,
    ) -> Result<()> {
        let m = self.rows(values)?;
        let d_x = Matrix::new(d_x, m, self.n)?;
        let a = Matrix::new(values, m, self.k)?;
        sgemm(0.0, &mut self.d_weights, d_x.t(), a, par)?;
        let Some(d_values) = d_values else {
            return Ok(());
        };
        let mut expanded = std::mem::take(&mut self.values);
        let w = Matrix::new(self.expand(&mut expanded), self.n, self.k)?;
        let done = sgemm(0.0, d_values, d_x, w, par);
        self.values = expanded;
        done
    }

    /// The weights of the forward pass as floats, `[N, K]`, in `memory` unless they are the latent ones.
    fn expand<'a>(&'a self, memory: &'a mut Vec<f32>) -> &'a [f32] {
        if self.weights == Weights::Float {
            return &self.latent;
        }
        memory.resize(self.latent.len(), 0.0);
        for (w, latent) in memory.iter_mut().zip(&self.latent) {
            *w = if *latent >= 0.0 {
                self.delta
            } else {
                -self.delta
            };
        }
        memory
    }

    fn rows(&self, values: &[f32]) -> Result<usize> {
        let m = values.len() / self.k.max(1);
        check_len("values", values.len(), m * self.k, "M x K")?;
        Ok(m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;
    use crate::ops::dequantize;

    const M: usize = 6;
    const N: usize = 9;
    const K: usize = 70;

    /// A layer, codes of `encoding` and the floats they stand for.
    fn layer(encoding: Encoding, step: f32) -> (Linear, PackedMatrix, Vec<f32>) {
        let layer = Linear::new(N, K, Weights::Binary, Rng::new(3)).unwrap();
        let (low, high) = (encoding.min(), encoding.max());
        let rng = Rng::new(5);
        let codes: Vec<i32> = (0..(M * K) as u64)
            .map(|i| match encoding {
                Encoding::Bipolar => 2 * rng.below(i, 2) as i32 - 1,
                _ => low + rng.below(i, (high - low + 1) as u32) as i32,
            })
            .collect();
        let codes = PackedMatrix::pack(encoding, M, K, &codes).unwrap();
        let mut values = vec![0.0; M * K];
        let kernels = Kernels::of(Isa::chosen().unwrap()).unwrap();
        dequantize(kernels, codes.view(), step, &mut values, Par::Caller).unwrap();
        (layer, codes, values)
    }

    fn encodings() -> [Encoding; 4] {
        let unsigned = |b| Encoding::unsigned(b).unwrap();
        [Encoding::Bipolar, unsigned(1), unsigned(4), unsigned(8)]
    }

    #[test]
    fn packed_and_float_forward_agree() {
        for isa in Isa::available() {
            for encoding in encodings() {
                let (mut layer, codes, values) = layer(encoding, 0.37);
                let input = Input {
                    values: &values,
                    codes: Some((codes.view().into(), 0.37)),
                };
                let (mut packed, mut floats) = (vec![0.0; M * N], vec![0.0; M * N]);
                layer.forward(isa, input, &mut packed, Par::Caller).unwrap();
                layer
                    .forward_in_floats(&values, &mut floats, Par::Caller)
                    .unwrap();
                let unit = layer.delta() * 0.37;
                for (packed, float) in packed.iter().zip(&floats) {
                    // The sums are integers below 2^24: rescaled and rounded, both must give the same one.
                    let (a, b) = ((packed / unit).round(), (float / unit).round());
                    assert_eq!(a, b, "{isa} {encoding}");
                    // What K roundings of the largest product and of partial sums can come to.
                    let slack = 1e-7 * (K * K) as f32 * encoding.max() as f32 * unit;
                    assert!((packed - float).abs() <= slack, "{isa}");
                }
            }
        }
    }

    #[test]
    fn integers_are_exact_in_both() {
        for encoding in encodings() {
            let (mut layer, codes, values) = layer(encoding, 1.0);
            layer.latent.iter_mut().for_each(|w| *w = w.signum());
            layer.project().unwrap();
            let input = Input {
                values: &values,
                codes: Some((codes.view().into(), 1.0)),
            };
            let (mut packed, mut floats) = (vec![0.0; M * N], vec![0.0; M * N]);
            let isa = Isa::best();
            layer.forward(isa, input, &mut packed, Par::Caller).unwrap();
            layer
                .forward_in_floats(&values, &mut floats, Par::Caller)
                .unwrap();
            assert_eq!(packed, floats, "{encoding}");
        }
    }

    #[test]
    fn gradients_are_taken_at_the_projected_weights() {
        let (mut layer, _, values) = layer(Encoding::unsigned(2).unwrap(), 0.5);
        let mut d_x = vec![0.0; M * N];
        Rng::new(8).fill_normal(&mut d_x, 1.0);
        let mut d_values = vec![0.0; M * K];
        layer
            .backward(&values, &d_x, Some(&mut d_values), Par::Caller)
            .unwrap();
        let signs = layer.signs().unpack();
        for (i, got) in d_values.iter().enumerate() {
            let (m, k) = (i / K, i % K);
            let terms = (0..N).map(|n| d_x[m * N + n] * layer.delta() * signs[n * K + k] as f32);
            assert!((got - terms.sum::<f32>()).abs() < 1e-4);
        }
        for (i, got) in layer.d_weights.iter().enumerate() {
            let (n, k) = (i / K, i % K);
            let terms = (0..M).map(|m| d_x[m * N + n] * values[m * K + k]);
            assert!((got - terms.sum::<f32>()).abs() < 1e-4);
        }
    }

    #[test]
    fn flips_are_counted_once() {
        let (mut layer, ..) = layer(Encoding::Bipolar, 1.0);
        assert_eq!(layer.take_flips(), 0);
        layer.latent[3] *= -1.0;
        layer.latent[100] *= -1.0;
        layer.project().unwrap();
        assert_eq!((layer.take_flips(), layer.take_flips()), (2, 0));
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let (layer, ..) = layer(Encoding::Bipolar, 1.0);
        let mut x = vec![0.0; N];
        let said = layer.forward_in_floats(&[0.0; K + 1], &mut x, Par::Caller);
        assert_eq!(
            said.unwrap_err().to_string(),
            "values is 71 elements long; expected 70 (M x K)"
        );
    }
}
