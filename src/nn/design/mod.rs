//! What a net is made of: sizes, bits and the kind of activation, in floats and quantized.

pub mod arch;
mod build;

use serde::{Deserialize, Serialize};

use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::nn::activation::{AlphaLearning, Function, alpha_init};
use crate::nn::ste::{CoarseAlpha, CoarseW, CoarseX};
use crate::nn::weight::WeightQuantizer;
use crate::quant::{QuantRelu, Rounding};
use crate::shape::elements;

pub use arch::Block;

/// The kind of hidden activation.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Quantized ReLU, {0, .., 2^bits - 1} times alpha; in floats, ReLU.
    #[default]
    Relu,
    /// -1 and +1, for 1 bit; in floats, hard tanh.
    Sign,
    /// -1 and +1 with a shift that is learned per channel, for 1 bit: [`RSign`](crate::nn::rsign::RSign); in floats, the
    /// function of its coarse gradient.
    #[serde(rename = "rsign")]
    RSign,
}

impl Kind {
    /// Errors unless `by_x` can stand for the derivative of such an activation.
    pub(crate) fn check_coarse_x(self, by_x: CoarseX) -> Result<()> {
        if self == Kind::Relu || by_x.is_two_sided() {
            return Ok(());
        }
        let expected = "hard-tanh, piecewise-poly or identity with sign activations";
        Err(Error::argument("coarse_x", by_x.name(), expected))
    }
}

/// How latent weights begin, K inputs and N outputs of a weight's row and column (times the taps of a filter).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// N(0, 2 / K).
    #[default]
    He,
    /// Even in [-g, g], g = sqrt(1.5 / (K + N)): the code of BinaryConnect and LAQ.
    GlorotUniform,
}

/// What a net is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Design {
    /// Height, width and channels of an image.
    pub input: [usize; 3],
    /// The blocks before the last linear layer.
    pub blocks: Vec<Block>,
    /// Number of logits.
    pub classes: usize,
    /// Bits of a weight: 1 to 8, or 32 for floats.
    pub bits_w: usize,
    /// The quantizer of weights that are no floats; `None` is that of the bits ([`WeightQuantizer::of_bits`]).
    pub weights: Option<WeightQuantizer>,
    /// What stands for the derivative of projected weights by the latent ones.
    pub by_w: CoarseW,
    /// How latent weights begin.
    pub init: Init,
    /// Bits of an activation: 1 to 8, or 32 for floats.
    pub bits_a: usize,
    /// The kind of hidden activation.
    pub kind: Kind,
    /// Where the steps of the quantized ReLU lie.
    pub rounding: Rounding,
    /// The coarse gradient of activations by x; `None` is what [`Design::coarse_x`] says.
    pub by_x: Option<CoarseX>,
    /// The coarse gradient of the quantized ReLU by alpha.
    pub by_alpha: CoarseAlpha,
    /// How the alpha of the quantized ReLU is learned.
    pub alpha: AlphaLearning,
    /// Whether the normalisation before an activation has a scale and shift; that of the logits always has.
    pub affine: bool,
    /// Whether the weights of the first layer stay floats.
    pub float_first: bool,
    /// Whether the weights of the last layer stay floats.
    pub float_last: bool,
}

impl Design {
    /// A net of `blocks` for images of `input` in `classes` classes: 1-bit weights, activations of `bits_a` bits (32 for
    /// floats) by a quantized ReLU, and everything else as is usual.
    pub fn new(input: [usize; 3], blocks: Vec<Block>, classes: usize, bits_a: usize) -> Self {
        Design {
            input,
            blocks,
            classes,
            bits_w: 1,
            weights: None,
            by_w: CoarseW::default(),
            init: Init::default(),
            bits_a,
            kind: Kind::Relu,
            rounding: Rounding::Ceil,
            by_x: None,
            by_alpha: CoarseAlpha::default(),
            alpha: AlphaLearning::default(),
            affine: true,
            float_first: false,
            float_last: false,
        }
    }

    /// Bytes of an image.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Errors, naming the field, if there cannot be such a net.
    pub fn check(&self) -> Result<()> {
        if self.bits_w != 32 && Bits::new(self.bits_w).is_err() {
            let expected = "1 to 8, or 32 for floats";
            return Err(Error::argument("bits_w", self.bits_w, expected));
        }
        if let Some(quantizer) = &self.weights {
            quantizer.check()?;
        }
        if self.bits_a != 32 && Bits::new(self.bits_a).is_err() {
            let expected = "1 to 8, or 32 for floats";
            return Err(Error::argument("bits_a", self.bits_a, expected));
        }
        if self.kind != Kind::Relu && ![1, 32].contains(&self.bits_a) {
            let expected = "1 (or 32 for floats) with sign activations";
            return Err(Error::argument("bits_a", self.bits_a, expected));
        }
        self.kind.check_coarse_x(self.coarse_x())?;
        self.alpha.check()?;
        let wide = self.blocks.iter().filter_map(|block| match block {
            Block::Linear(n) => Some(n),
            _ => None,
        });
        let sizes = self.input.iter().chain(wide).chain([&self.classes]);
        if let Some(size) = sizes.clone().find(|s| !(1..=1 << 20).contains(*s)) {
            return Err(Error::argument("a layer's size", size, "1 to 1048576"));
        }
        elements("input", &self.input)?;
        Ok(())
    }

    /// The quantizer of weights in quantized mode; `None` if they stay floats.
    ///
    /// Errors if the bits have none.
    pub fn quantizer(&self) -> Result<Option<WeightQuantizer>> {
        match (self.bits_w, &self.weights) {
            (32, _) => Ok(None),
            (_, Some(quantizer)) => Ok(Some(quantizer.clone())),
            (bits, None) => WeightQuantizer::of_bits(bits).map(Some),
        }
    }

    /// The coarse gradient of activations by x: what the design says, or else the clipped ReLU of a quantized ReLU, hard
    /// tanh of a sign, and the piecewise polynomial of a sign with shifts.
    pub fn coarse_x(&self) -> CoarseX {
        self.by_x.unwrap_or(match self.kind {
            Kind::Relu => CoarseX::ClippedRelu,
            Kind::Sign => CoarseX::HardTanh,
            Kind::RSign => CoarseX::PiecewisePoly,
        })
    }

    /// The function of a hidden layer in `mode`.
    pub(crate) fn function(&self, mode: Mode) -> Result<Function> {
        if mode == Mode::Float || self.bits_a == 32 {
            return Ok(match self.kind {
                Kind::Relu => Function::Relu,
                Kind::Sign | Kind::RSign => Function::HardTanh,
            });
        }
        if self.kind != Kind::Relu {
            let by_x = self.coarse_x();
            return Ok(Function::Sign { by_x });
        }
        let alpha = alpha_init(Bits::new(self.bits_a)?, self.rounding);
        Ok(Function::QuantRelu {
            first: QuantRelu::new(self.bits_a, alpha, self.rounding)?,
            by_x: self.coarse_x(),
            by_alpha: self.by_alpha,
            learning: self.alpha,
        })
    }
}

/// What the numbers in a net are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Floats.
    Float,
    /// What the design says.
    Quantized,
}
