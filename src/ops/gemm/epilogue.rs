//! What a plan makes of its sums, and which methods there are to get them.

use crate::quant::Scales;

/// What happens to the integer sums of a product.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Epilogue {
    /// They are the result, i32.
    #[default]
    None,
    /// `scale[n] * sum + bias[n]` in f32: the sum converted to the nearest even f32, the product rounded,
    /// then the sum rounded; never contracted into a fused operation. Both have N elements.
    ScaleBias {
        /// Factor of each output channel.
        scale: Vec<f32>,
        /// Summand of each output channel.
        bias: Vec<f32>,
    },
    /// The same with scales of any granularity and type, and with or without a bias.
    ///
    /// With a scale per group there is a sum `s[g]` for each group of K, exact in i32 and in f32, and the result is
    /// `t + bias[n]`, where t starts from 0 and `t = t + scale[n, g] * s[g]` for g = 0, 1, .. in this order, each
    /// product and each sum rounded to f32. Then K has no bound.
    Scaled {
        /// Factors of the weights. f16 and bf16 become f32, which is exact.
        scales: Scales,
        /// Summand of each output channel; without it nothing is added.
        bias: Option<Vec<f32>>,
    },
}

/// The methods that an ISA has for a product, by [`Gemm::methods`](super::Gemm::methods).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Methods {
    /// Bit-serial popcounts.
    pub bits: bool,
    /// Multiply-add of bytes.
    pub bytes: bool,
    /// Look-up of sums in tables.
    pub tables: bool,
}
