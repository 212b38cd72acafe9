//! The recipe: everything that decides a training run, and nothing that does not.
//!
//! Two runs of one recipe on one data set give the same bits on one machine, whatever the number of threads and the
//! ISA. A recipe is TOML ([`Recipe::from_toml`]); [`named`] lists those that come with the crate.

pub mod named;
mod shortened;
mod text;
mod unused;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::activation::AlphaLearning;
use crate::nn::design::{Init, arch};
use crate::nn::loss::Loss;
use crate::nn::net::{Design, Kind};
use crate::nn::ste::{CoarseAlpha, CoarseW, CoarseX};
use crate::nn::weight::{Scope, TernarySearch, WeightQuantizer};
use crate::quant::Rounding;
use crate::train::rule::Rule;
use crate::train::schedule::Schedule;
use crate::train::step::{self, Adam};

/// The base optimiser.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Gradient descent with momentum.
    #[default]
    Sgd,
    /// Adam.
    Adam,
}

/// Iterative freezing of weights that oscillate: `step::Freezer`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Freezing {
    /// The frequency that freezes a weight in the first quantized epoch; it falls to `end` by half a cosine.
    pub start: f32,
    /// The frequency of the last epoch.
    pub end: f32,
    /// How fast frequency and mean code move, above 0 and at most 1.
    pub momentum: f32,
}

impl Default for Freezing {
    /// From 0.1 to 0.01 with momentum 0.01, as the code of arXiv 2203.11086 has it.
    fn default() -> Self {
        Freezing {
            start: 0.1,
            end: 0.01,
            momentum: 0.01,
        }
    }
}

/// A recipe. In a file, every field that is left out has its default.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The blocks before the last layer: a name such as `sfc` or `lenet5`, or text such as `32c5-mp2-512`
    /// ([`arch`]).
    pub arch: String,
    /// Bits of a weight: 1 to 8, or 32 for floats; those of `weights`, if that is there.
    pub bits_w: usize,
    /// The quantizer of weights that are no floats, by name or as a table; if absent, what
    /// [`Recipe::quantizer`] says.
    pub weights: Option<WeightQuantizer>,
    /// Bits of an activation: 1 to 8, or 32 for floats.
    pub bits_a: usize,
    /// The kind of hidden activation.
    pub activation: Kind,
    /// Where the steps of the quantized ReLU lie; `None` is what [`Recipe::rounding`] says.
    pub rounding: Option<Rounding>,
    /// The coarse gradient by x; `None` is clipped-relu for `relu`, hard-tanh for `sign` and piecewise-poly for `rsign`,
    /// which take those two and identity alone.
    pub coarse_x: Option<CoarseX>,
    /// The coarse gradient by alpha.
    pub coarse_alpha: CoarseAlpha,
    /// r: what the gradient by alpha is multiplied by, above 0.
    pub alpha_rate: f32,
    /// Bound of the gradient by alpha, times r, on both sides; above 0.
    pub alpha_clamp: f32,
    /// The least and the greatest alpha, from 1e-30 to 1e30.
    pub alpha_range: [f32; 2],
    /// The coarse gradient by latent weights.
    pub coarse_w: CoarseW,
    /// Whether alpha is learned; else it stays where it begins.
    pub learn_alpha: bool,
    /// Quantized epochs at the start in which each batch sets alpha to its greatest value / q.
    pub alpha_stage: usize,
    /// Every so many quantized epochs the first batch fits alpha anew: Lloyd's rounds from where it is; 0 is never.
    pub alpha_refit: usize,
    /// Whether normalisations before an activation have a scale and shift.
    pub affine: bool,
    /// Whether the weights of the first layer stay floats.
    pub float_first: bool,
    /// Whether the weights of the last layer stay floats.
    pub float_last: bool,
    /// How latent weights begin.
    pub init: Init,
    /// What training makes small.
    pub loss: Loss,
    /// How latent weights move.
    pub rule: Rule,
    /// What rho of `bcgd` is multiplied by after each quantized epoch; it ends at 0.01.
    pub rho_growth: f32,
    /// The base optimiser.
    pub optimizer: Optimizer,
    /// Decay of Adam's first moment, 0 to below 1.
    pub beta1: f32,
    /// Decay of Adam's second moment, 0 to below 1.
    pub beta2: f32,
    /// What Adam adds to the root of the second moment, above 0.
    pub eps: f32,
    /// Bound of latent weights of quantized layers; 0 is none.
    pub clip: f32,
    /// Whether the rate of quantized weights is divided by Glorot's bound sqrt(1.5 / (inputs + outputs)).
    pub glorot_rate: bool,
    /// Epochs in floats, which initialise the quantized net; may be 0.
    pub float_epochs: usize,
    /// Epochs of the quantized net; may be 0.
    pub epochs: usize,
    /// Images in a batch, 2 or more. Images that do not fill a batch wait for another epoch.
    pub batch: usize,
    /// Learning rate at the start of each phase, above 0.
    pub lr: f32,
    /// Learning rate at the start of the float phase, if it is another.
    pub float_lr: Option<f32>,
    /// How it falls in each phase.
    pub schedule: Schedule,
    /// Momentum of SGD, from 0 to below 1.
    pub momentum: f32,
    /// Weight decay, 0 or more, on every parameter.
    pub weight_decay: f32,
    /// lambda of oscillation dampening in the last quantized epoch; it rises from 0 by half a cosine.
    pub dampening: f32,
    /// Freezing of weights that oscillate; `None` is none.
    pub freezing: Option<Freezing>,
    /// Batches over which the running averages are estimated anew when all epochs are over; 0 is none.
    pub reestimate: usize,
    /// Training images are shifted by up to so many pixels along each axis.
    pub max_shift: usize,
    /// Whether training images are mirrored at random.
    pub mirror: bool,
    /// Whether the log tells of each layer how its weights behave.
    pub diagnostics: bool,
    /// The seed of weights, order, shifts and draws.
    pub seed: u64,
}

impl Default for Recipe {
    /// 4-bit activations, for MNIST and for the built-in digits alike.
    ///
    /// On MNIST's 10,000 test images it gives, in the mean of seeds 1 to 3, 98.34 % with 1 bit, 98.77 % with
    /// 2 bits and 99.09 % with 4 bits of activation.
    fn default() -> Self {
        let Adam {
            beta1, beta2, eps, ..
        } = Adam::default();
        let alpha = AlphaLearning::default();
        Recipe {
            arch: "sfc".to_string(),
            bits_w: 1,
            weights: None,
            bits_a: 4,
            activation: Kind::Relu,
            rounding: None,
            coarse_x: None,
            coarse_alpha: CoarseAlpha::default(),
            alpha_rate: alpha.rate,
            alpha_clamp: alpha.clamp,
            alpha_range: alpha.range,
            coarse_w: CoarseW::default(),
            learn_alpha: true,
            alpha_stage: 0,
            alpha_refit: 0,
            affine: true,
            float_first: false,
            float_last: false,
            init: Init::default(),
            loss: Loss::default(),
            rule: Rule::default(),
            rho_growth: 1.0,
            optimizer: Optimizer::default(),
            beta1,
            beta2,
            eps,
            clip: 0.0,
            glorot_rate: false,
            float_epochs: 10,
            epochs: 60,
            batch: 100,
            lr: 0.1,
            float_lr: None,
            schedule: Schedule::Cosine,
            momentum: 0.9,
            weight_decay: 1e-4,
            dampening: 0.0,
            freezing: None,
            reestimate: 0,
            max_shift: 1,
            mirror: false,
            diagnostics: false,
            seed: 1,
        }
    }
}

impl Recipe {
    /// The quantizer of weights: what the recipe says, or else that of the bits; for rules that step in a metric the
    /// loss-aware one of those bits. `None` if the bits have none, as floats do.
    pub fn quantizer(&self) -> Option<WeightQuantizer> {
        let scope = Scope::Tensor;
        let search = TernarySearch::Exact;
        match (&self.weights, self.bits_w, self.rule.needs_metric()) {
            (Some(quantizer), ..) => Some(quantizer.clone()),
            (None, 1, true) => Some(WeightQuantizer::LossAwareBinary { scope }),
            (None, 2, true) => Some(WeightQuantizer::LossAwareTernary { search }),
            (None, bits @ 3..=8, true) => Some(WeightQuantizer::LossAwareLinear { bits }),
            (None, bits, _) => WeightQuantizer::of_bits(bits).ok(),
        }
    }

    /// Where the steps of the quantized ReLU lie: what the recipe says, or else the nearest level for 1 bit
    /// and the paper's ceiling for more.
    ///
    /// Measured on MNIST with `sfc` and the default rates. With 1 bit the ceiling collapsed to chance within
    /// 60 epochs, probably because a unit that is 0 for every image gets no gradient; the nearest level
    /// leaves it a band, 0 < x < alpha / 2, in which it is 0 and still learns. With 4 bits and the nearest
    /// level alpha ran to the end of its range, and the net lost 1.1 points.
    pub fn rounding(&self) -> Rounding {
        self.rounding.unwrap_or(match self.bits_a {
            1 => Rounding::Nearest,
            _ => Rounding::Ceil,
        })
    }

    /// The net for images of `input` (height, width, channels) in `classes` classes.
    ///
    /// Errors if [`Recipe::check`] does, or the net cannot be.
    pub fn design(&self, input: [usize; 3], classes: usize) -> Result<Design> {
        self.check()?;
        let design = Design {
            input,
            blocks: arch::parse(&self.arch)?,
            classes,
            bits_w: self.bits_w,
            weights: self.quantizer(),
            by_w: self.coarse_w,
            init: self.init,
            bits_a: self.bits_a,
            kind: self.activation,
            rounding: self.rounding(),
            by_x: self.coarse_x,
            by_alpha: self.coarse_alpha,
            alpha: self.alpha_learning(),
            affine: self.affine,
            float_first: self.float_first,
            float_last: self.float_last,
        };
        design.check()?;
        Ok(design)
    }

    fn alpha_learning(&self) -> AlphaLearning {
        AlphaLearning {
            rate: self.alpha_rate,
            clamp: self.alpha_clamp,
            range: self.alpha_range,
        }
    }

    /// Errors, naming the field, if a number is out of its range.
    pub fn check(&self) -> Result<()> {
        arch::parse(&self.arch)?;
        self.rule.check()?;
        self.schedule.check()?;
        self.alpha_learning().check()?;
        if self.batch < 2 {
            return Err(Error::argument("batch", self.batch, "2 or more"));
        }
        // Data are drawn by epoch, and a draw's step is 32 bits.
        let most = 1_000_000;
        for (name, epochs) in [("float_epochs", self.float_epochs), ("epochs", self.epochs)] {
            if epochs > most {
                return Err(Error::argument(name, epochs, format_args!("0 to {most}")));
            }
        }
        for (name, rate) in [("lr", Some(self.lr)), ("float_lr", self.float_lr)] {
            if let Some(rate) = rate
                && !(rate > 0.0 && rate.is_finite())
            {
                return Err(Error::argument(name, rate, "a number above 0"));
            }
        }
        for (name, value) in [
            ("momentum", self.momentum),
            ("beta1", self.beta1),
            ("beta2", self.beta2),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::argument(name, value, "0 to below 1"));
            }
        }
        for (name, value) in [
            ("weight_decay", self.weight_decay),
            ("clip", self.clip),
            ("dampening", self.dampening),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::argument(name, value, "a number of 0 or more"));
            }
        }
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return Err(Error::argument("eps", self.eps, "a number above 0"));
        }
        if !(self.rho_growth >= 1.0 && self.rho_growth.is_finite()) {
            let expected = "a number of 1 or more";
            return Err(Error::argument("rho_growth", self.rho_growth, expected));
        }
        self.check_together()
    }

    /// Choices that do not go together.
    fn check_together(&self) -> Result<()> {
        if let Some(quantizer) = &self.weights {
            quantizer.check()?;
            if self.bits_w != 32
                && let Some(bits) = quantizer.bits()
                && bits != self.bits_w
            {
                let expected = format!("{bits}, the bits of weights = {}", quantizer.name());
                return Err(Error::argument("bits_w", self.bits_w, expected));
            }
            if quantizer.is_loss_aware() && !self.rule.needs_metric() && self.bits_w != 32 {
                let rule = self.rule.name();
                let expected = format!(
                    "loss-aware or forward-backtrack, which have the metric of weights = {}",
                    quantizer.name()
                );
                return Err(Error::argument("rule", rule, expected));
            }
        }
        if let Some(by_x) = self.coarse_x {
            self.activation.check_coarse_x(by_x)?;
        }
        self.check_unused()?;
        if self.rule.needs_metric() {
            let rule = "with a loss-aware rule";
            if self.optimizer != Optimizer::Adam {
                return Err(Error::argument("optimizer", "sgd", format!("adam {rule}")));
            }
            if let Some(quantizer) = &self.weights
                && !quantizer.is_loss_aware()
            {
                let expected = format!("a loss-aware quantizer {rule}");
                return Err(Error::argument("weights", quantizer.name(), expected));
            }
        }
        if let Some(freezing) = &self.freezing {
            for (name, value) in [("start", freezing.start), ("end", freezing.end)] {
                if !(value > 0.0 && value <= 1.0) {
                    return Err(Error::argument(name, value, "above 0 and at most 1"));
                }
            }
            step::Freezer::new(0, freezing.momentum, true)?;
            if self
                .weights
                .as_ref()
                .is_some_and(|w| w.scope() == Scope::Channel)
            {
                let expected = "one scale a layer with freezing";
                return Err(Error::argument("scope", "channel", expected));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_goes_to_the_nearest_level_unless_the_recipe_says_else() {
        let rounding = |bits_a, rounding| {
            let recipe = Recipe {
                bits_a,
                rounding,
                ..Recipe::default()
            };
            recipe.design([28, 28, 1], 10).unwrap().rounding
        };
        assert_eq!(rounding(1, None), Rounding::Nearest);
        assert_eq!(rounding(1, Some(Rounding::Ceil)), Rounding::Ceil);
        assert_eq!(rounding(2, None), Rounding::Ceil);
        assert_eq!(rounding(4, Some(Rounding::Nearest)), Rounding::Nearest);
    }

    #[test]
    fn json_reads_back_and_unknown_fields_are_refused() {
        let recipe = Recipe {
            rule: Rule::BinaryConnect,
            schedule: Schedule::MultiStep {
                milestones: vec![3, 5],
                gamma: 0.1,
            },
            seed: u64::MAX,
            lr: 0.1,
            ..Recipe::default()
        };
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
        let short: Recipe = serde_json::from_str(r#"{"bits_a": 2}"#).unwrap();
        assert_eq!(
            short,
            Recipe {
                bits_a: 2,
                ..Recipe::default()
            }
        );
        let said = serde_json::from_str::<Recipe>(r#"{"epoch": 2}"#).unwrap_err();
        assert!(said.to_string().contains("unknown field `epoch`"), "{said}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let said = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            recipe.design([28, 28, 1], 10).unwrap_err().to_string()
        };
        assert_eq!(said(|r| r.batch = 1), "batch is 1; expected 2 or more");
        assert_eq!(
            said(|r| r.bits_w = 9),
            "bits_w is 9; expected 1 to 8, or 32 for floats"
        );
        assert_eq!(
            said(|r| r.bits_a = 9),
            "bits_a is 9; expected 1 to 8, or 32 for floats"
        );
        assert_eq!(
            said(|r| r.activation = Kind::Sign),
            "bits_a is 4; expected 1 (or 32 for floats) with sign activations"
        );
        assert_eq!(
            said(|r| r.lr = f32::NAN),
            "lr is NaN; expected a number above 0"
        );
        assert_eq!(
            said(|r| r.momentum = 1.0),
            "momentum is 1; expected 0 to below 1"
        );
        assert!(said(|r| r.weight_decay = -1.0).starts_with("weight_decay is -1; expected"));
        assert!(said(|r| r.alpha_rate = 0.0).starts_with("alpha_rate is 0; expected"));
        assert!(said(|r| r.alpha_clamp = f32::NAN).starts_with("alpha_clamp is NaN; expected"));
        assert_eq!(
            said(|r| r.alpha_range = [2.0, 1.0]),
            "alpha_range is [2, 1]; expected the least and the greatest alpha, from 1e-30 to 1e30"
        );
        assert!(said(|r| r.rule = Rule::Bcgd { rho: 2.0 }).starts_with("rho is 2"));
        assert!(said(|r| r.epochs = 2_000_000).starts_with("epochs is 2000000"));
    }
}
