//! The linear layer: latent float weights, a forward pass on the packed kernels, gradients in floats.
//!
//! ```text
//!   w [N, K]   = Q(w_f)                the projection of the latent weights: scale[n] times integers
//!   x [M, N]   = a [M, K] * w^T        packed: scale[n] * step * (integer sum), step that of the codes of a;
//!                                      scale[n] * (sum of a in floats) if a are none
//!   d_w [N, K] = d_x^T * a             at w, and applied to w_f by the weight rule
//!   d_a [M, K] = d_x * w
//! ```
//!
//! There is no bias: batch normalisation follows.
//!
//! Source: Blended Coarse Gradient Descent, arXiv 1808.05240, section 2 (projection, gradient at w).

use crate::bits::{Encoding, PackedMatrix};
use crate::error::Result;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::nn::projected::{Projected, Weights};
use crate::nn::rng::Rng;
use crate::nn::sgemm::{Matrix, sgemm};
use crate::nn::signal::Signal;
use crate::ops::{Epilogue, Gemm, Par, WeightOnlyGemm};
use crate::quant::{Granularity, Scales};
use crate::shape::check_len;

/// A linear layer of K inputs and N outputs.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The weights, N rows of K.
    pub weights: Projected,
    codes: PackedMatrix,
    scratch: Vec<i32>,
    /// Working space of products with floats.
    floats: Vec<f32>,
}

impl Linear {
    /// A layer with latent weights drawn from N(0, 2 / K), which keeps the variance through a ReLU.
    ///
    /// Errors if K x N does not fit in memory.
    pub fn new(n: usize, k: usize, weights: Weights, rng: Rng) -> Result<Self> {
        Ok(Linear {
            weights: Projected::new(n, k, weights, rng)?,
            codes: PackedMatrix::zeros(Encoding::Bipolar, 0, 0)?,
            scratch: Vec::new(),
            floats: Vec::new(),
        })
    }

    /// Number of outputs, N.
    pub fn n(&self) -> usize {
        self.weights.rows()
    }

    /// Number of inputs, K.
    pub fn k(&self) -> usize {
        self.weights.cols()
    }

    /// The pre-activations `x` `[M, N]` of `input` `[M, K]`.
    ///
    /// Weights that are integers multiply on the packed kernels of `isa`, with codes as with floats; other weights in
    /// floats.
    ///
    /// With floats this is so that training sees what the frozen model computes, not for speed: `lenet5-binary-connect` on
    /// one thread of a Zen 5 took 32.5 s where it took 29.7 s in f32, one run each on a busy machine.
    ///
    /// Errors if a length is wrong or the plan refuses.
    pub fn forward(
        &mut self,
        isa: Isa,
        input: Signal<'_>,
        x: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        let Some((_, scales)) = self.weights.packed() else {
            return self.forward_in_floats(input.values, x, par);
        };
        let Some((encoding, step)) = input.encoding() else {
            let rows = self.rows(input.values)?;
            let plan = self.float_plan(isa, scales.to_vec(), None)?;
            self.floats.resize(plan.scratch_len(rows), 0.0);
            return plan.run(input.values, rows, 0..rows, x, &mut self.floats, par);
        };
        let scale = scales.iter().map(|s| s * step).collect();
        let plan = self.plan(isa, encoding, scale, vec![0.0; self.n()])?;
        let (rows, k) = (self.rows(input.values)?, self.k());
        let Linear { codes, scratch, .. } = self;
        let packed = input.pack(Kernels::of(isa)?, k, codes)?;
        let (codes, _) = packed.expect("it has an encoding");
        scratch.resize(plan.scratch_len_of(&codes, rows), 0);
        plan.run_f32(codes, 0..rows, x, scratch, par)
    }

    /// The packed product with `scale[n] * sum + bias[n]` for inputs of `encoding`.
    ///
    /// Errors if the weights are no integers, or the plan refuses.
    pub fn plan(
        &self,
        isa: Isa,
        encoding: Encoding,
        scale: Vec<f32>,
        bias: Vec<f32>,
    ) -> Result<Gemm> {
        let weights = self.weights.integral()?;
        let epilogue = Epilogue::ScaleBias { scale, bias };
        Gemm::on(isa, weights.view(), encoding, epilogue)
    }

    /// The product of floats by the packed weights, `scale[n] * sum + bias[n]`.
    ///
    /// Errors if the weights are no integers, or the plan refuses.
    pub fn float_plan(
        &self,
        isa: Isa,
        scale: Vec<f32>,
        bias: Option<Vec<f32>>,
    ) -> Result<WeightOnlyGemm> {
        let scales = Scales::new(Granularity::Channel, scale)?;
        WeightOnlyGemm::on(isa, self.weights.integral()?.view(), &scales, bias)
    }

    /// As [`Linear::forward`], but on the floats that the codes stand for: the same up to rounding.
    pub fn forward_in_floats(&self, values: &[f32], x: &mut [f32], par: Par<'_>) -> Result<()> {
        let a = Matrix::new(values, self.rows(values)?, self.k())?;
        let w = Matrix::new(self.weights.values(), self.n(), self.k())?;
        sgemm(0.0, x, a, w.t(), par)
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
        let (n, k) = (self.n(), self.k());
        let d_x = Matrix::new(d_x, m, n)?;
        let a = Matrix::new(values, m, k)?;
        sgemm(0.0, &mut self.weights.d_weights, d_x.t(), a, par)?;
        if let Some(d) = d_values {
            let w = Matrix::new(self.weights.values(), n, k)?;
            sgemm(0.0, d, d_x, w, par)?;
        }
        self.weights.finish_backward()
    }

    /// M, once the length fits.
    fn rows(&self, values: &[f32]) -> Result<usize> {
        let m = values.len() / self.k().max(1);
        check_len("values", values.len(), m * self.k(), "M x K")?;
        Ok(m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::quotient::assert_quotients;
    use crate::nn::signal::Codes;
    use crate::quant::{ActQuantizer, QuantRelu, Rounding};

    const M: usize = 6;
    const N: usize = 9;
    const K: usize = 70;

    /// A layer, and levels of random codes of a quantizer.
    fn layer(quantizer: ActQuantizer) -> (Linear, Vec<f32>) {
        let layer = Linear::new(N, K, Weights::binary(), Rng::new(3)).unwrap();
        let rng = Rng::new(5);
        let levels = quantizer.encoding().levels() as u32 + 1;
        let code = |i| quantizer.value(rng.below(i, levels) as u8);
        (layer, (0..(M * K) as u64).map(code).collect())
    }

    fn quantizers(step: f32) -> [ActQuantizer; 4] {
        let relu = |b| ActQuantizer::Relu(QuantRelu::new(b, step, Rounding::Ceil).unwrap());
        [ActQuantizer::Sign, relu(1), relu(4), relu(8)]
    }

    #[test]
    fn packed_and_float_forward_agree() {
        for isa in Isa::available() {
            for quantizer in quantizers(0.37) {
                let (mut layer, values) = layer(quantizer);
                let codes = Codes::Levels(quantizer);
                let input = Signal {
                    values: &values,
                    codes,
                };
                let (mut packed, mut floats) = (vec![0.0; M * N], vec![0.0; M * N]);
                layer.forward(isa, input, &mut packed, Par::Caller).unwrap();
                layer
                    .forward_in_floats(&values, &mut floats, Par::Caller)
                    .unwrap();
                let (encoding, step) = (quantizer.encoding(), quantizer.step());
                let unit = layer.weights.packed().unwrap().1[0] * step;
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
        for quantizer in quantizers(1.0) {
            let (mut layer, values) = layer(quantizer);
            layer
                .weights
                .latent
                .iter_mut()
                .for_each(|w| *w = w.signum());
            layer.weights.project(Rng::new(3)).unwrap();
            let codes = Codes::Levels(quantizer);
            let input = Signal {
                values: &values,
                codes,
            };
            let (mut packed, mut floats) = (vec![0.0; M * N], vec![0.0; M * N]);
            let isa = Isa::best();
            layer.forward(isa, input, &mut packed, Par::Caller).unwrap();
            layer
                .forward_in_floats(&values, &mut floats, Par::Caller)
                .unwrap();
            assert_eq!(packed, floats, "{}", quantizer.encoding());
        }
    }

    #[test]
    fn gradients_are_taken_at_the_projected_weights() {
        let (mut layer, values) = layer(quantizers(0.5)[1]);
        let mut d_x = vec![0.0; M * N];
        Rng::new(8).fill_normal(&mut d_x, 1.0);
        let mut d_values = vec![0.0; M * K];
        layer
            .backward(&values, &d_x, Some(&mut d_values), Par::Caller)
            .unwrap();
        let w = layer.weights.values();
        for (i, got) in d_values.iter().enumerate() {
            let (m, k) = (i / K, i % K);
            let terms = (0..N).map(|n| d_x[m * N + n] * w[n * K + k]);
            assert!((got - terms.sum::<f32>()).abs() < 1e-4);
        }
        for (i, got) in layer.weights.d_weights.iter().enumerate() {
            let (n, k) = (i / K, i % K);
            let terms = (0..M).map(|m| d_x[m * N + n] * values[m * K + k]);
            assert!((got - terms.sum::<f32>()).abs() < 1e-4);
        }
    }

    #[test]
    fn gradients_are_difference_quotients() {
        let mut layer = Linear::new(N, K, Weights::Float, Rng::new(3)).unwrap();
        let (mut values, mut d_x) = (vec![0.0; M * K], vec![0.0; M * N]);
        Rng::new(7).fill_normal(&mut values, 1.0);
        Rng::new(8).fill_normal(&mut d_x, 1.0);
        let mut d_values = vec![9.0; M * K];
        layer
            .backward(&values, &d_x, Some(&mut d_values), Par::Caller)
            .unwrap();
        let d_weights = layer.weights.d_weights.clone();
        // A loss whose gradient by the output is d_x.
        let loss = |(layer, values): &(Linear, Vec<f32>)| -> f64 {
            let mut x = vec![0.0; M * N];
            layer
                .forward_in_floats(values, &mut x, Par::Caller)
                .unwrap();
            let terms = x.iter().zip(&d_x);
            terms.map(|(x, d)| f64::from(*x) * f64::from(*d)).sum()
        };
        let state = &mut (layer, values);
        let add = |s: &mut (Linear, Vec<f32>), i: usize, h: f32| s.1[i] += h;
        assert_quotients("d_a", state, &d_values, 1, 1e-4, add, loss);
        let add = |(layer, _): &mut (Linear, Vec<f32>), i: usize, h: f32| {
            layer.weights.latent[i] += h;
            layer.weights.project(Rng::new(3)).unwrap();
        };
        assert_quotients("d_w", state, &d_weights, 1, 1e-4, add, loss);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let (layer, _) = layer(ActQuantizer::Sign);
        let mut x = vec![0.0; N];
        let said = layer.forward_in_floats(&[0.0; K + 1], &mut x, Par::Caller);
        assert_eq!(
            said.unwrap_err().to_string(),
            "values is 71 elements long; expected 70 (M x K)"
        );
    }
}
