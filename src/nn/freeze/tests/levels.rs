//! Codes of 1 to 8 bits: those that a net in training evaluates, and those of the packed layer, for every sum.

use crate::bits::{Encoding, PackedMatrix};
use crate::kernels::Kernels;
use crate::nn::activation::{Activation, AlphaLearning, Function};
use crate::nn::ste::{CoarseAlpha, CoarseX};
use crate::ops::{
    ActivationFn, Conv2d, Epilogue, Finish, Gemm, Geometry, OutputKind, Pad, Par, ResidualAt,
};
use crate::quant::{QuantRelu, Rounding};

/// Slopes that are positive, negative, zero, and large or small.
const SCALES: [f32; 12] = [
    0.000_7,
    -0.000_7,
    0.0,
    -0.0,
    1.0 / 512.0,
    -1.0 / 256.0,
    0.031_4,
    -1.5,
    1e-20,
    -3.3e-5,
    4.1e-4,
    0.005,
];
const BIASES: [f32; 12] = [
    0.3, 0.3, 0.4, -1.5, 0.0, 0.125, -3.0, 1.0, 1e-12, 2.0, -3.5, -20.0,
];

/// What a net in training evaluates: a product with scale and bias to floats, then its activation. The packed layer has
/// the same codes for every sum.
#[test]
fn training_and_the_packed_layer_agree_on_every_sum() {
    // a 127 + b is every integer of this range for an a of 8 bits and |b| of 63.
    let sums: Vec<i32> = (-16_000..=16_000).collect();
    let s8 = Encoding::signed(8).unwrap();
    let split = |&sum: &i32| {
        let a = (sum + 63).div_euclid(127);
        [a, sum - 127 * a]
    };
    let x: Vec<i32> = sums.iter().flat_map(split).collect();
    let x = PackedMatrix::pack(s8, sums.len(), 2, &x).unwrap();
    let n = SCALES.len();
    let weights = PackedMatrix::pack(s8, n, 2, &[127, 1].repeat(n)).unwrap();
    let mut functions = vec![Function::Sign {
        by_x: CoarseX::HardTanh,
    }];
    for bits in 1..=8 {
        let levels = ((1 << bits) - 1) as f32;
        for rounding in [Rounding::Ceil, Rounding::Nearest] {
            functions.push(Function::QuantRelu {
                first: QuantRelu::new(bits, 6.9 / levels, rounding).unwrap(),
                by_x: CoarseX::Relu,
                by_alpha: CoarseAlpha::default(),
                learning: AlphaLearning::default(),
            });
        }
    }
    for kernels in Kernels::available() {
        let isa = kernels.isa();
        let (scale, bias) = (SCALES.to_vec(), BIASES.to_vec());
        let epilogue = Epilogue::ScaleBias { scale, bias };
        let gemm = Gemm::on(isa, weights.view(), s8, epilogue).unwrap();
        let mut scratch = vec![0; gemm.scratch_len(sums.len())];
        let mut floats = vec![0.0; sums.len() * n];
        let rows = 0..sums.len();
        gemm.run_f32(x.view(), rows, &mut floats, &mut scratch, Par::Caller)
            .unwrap();
        for &function in &functions {
            let act = Activation::new(function);
            let quantizer = act.quantizer().unwrap().unwrap();
            let mut evaluated = PackedMatrix::zeros(Encoding::Bipolar, 0, 0).unwrap();
            let mut values = vec![0.0; floats.len()];
            act.forward(
                kernels,
                &floats,
                n,
                &mut values,
                &mut evaluated,
                Par::Caller,
            )
            .unwrap();
            let (scale, bias) = (SCALES.to_vec(), BIASES.to_vec());
            let (identity, at) = (ActivationFn::Identity, ResidualAt::Nowhere);
            let output = OutputKind::Codes(quantizer.into());
            let finish = Finish::new(scale, bias, identity, at, output).unwrap();
            let g = Geometry::new(sums.len(), 1, 2, 1);
            let plan = Conv2d::on(isa, weights.view(), s8, g, Pad::Zero, finish).unwrap();
            let mut packed = PackedMatrix::zeros(quantizer.encoding(), sums.len(), n).unwrap();
            let mut scratch = vec![0; plan.scratch_len(1)];
            plan.run_codes(x.view(), 0..1, &mut packed, &mut scratch, Par::Caller)
                .unwrap();
            assert!(packed.words() == evaluated.words(), "{isa} {quantizer:?}");
        }
    }
}
