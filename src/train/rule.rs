//! Weight rules: how latent weights move beside the optimiser's step.
//!
//! ```text
//!   bcgd                w_f <- (1 - rho) w_f + rho Q(w_f), then the step along g(Q(w_f))
//!   binary-connect      the step alone
//!   binary-relax        the forward pass sees (w_f + lambda Q(w_f)) / (1 + lambda), lambda grows, hard at the end
//!   rounding            w <- Q(w - step): no latent weights; Q rounds to the nearest or by draws
//!   loss-aware          the step is Adam's, g / D, and Q projects in its metric D
//!   forward-backtrack   loss-aware; in one epoch of `period`, each step takes a second gradient at the trial point
//!   bop                 a weight flips when a moving mean of its gradients says so
//! ```
//!
//! g is taken at the projected weights w = Q(w_f). If the loss f is L-smooth, g its gradient and Q an exact
//! projection, then with blending and a plain step of rate eta
//!
//! ```text
//!   f(w') - f(w) <= -(rho / eta - L) |w' - w|^2 / 2
//! ```
//!
//! so for rho >= eta L the loss never rises. BinaryConnect is rho = 0, for which nothing is promised; rho = 1 is
//! projected (coarse) gradient descent.
//!
//! Source: Blended Coarse Gradient Descent, arXiv 1808.05240, section 3; BinaryConnect, arXiv 1511.00363; BinaryRelax,
//! arXiv 1801.06313; Training Quantized Nets, arXiv 1706.02379; LAQ, arXiv 1802.08635; One-Step Forward and Backtrack,
//! arXiv 2401.16760; Bop, arXiv 1906.02107. The steps themselves are in [`step`].

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};
use crate::nn::projected::Projected;
use crate::ops::Par;
use crate::train::recipe::Optimizer;
use crate::train::step::{self, Bop};
use crate::train::update::{Memory, Settings};
use crate::train::written;

/// How the latent weights of a quantized layer move: [`Rule`] for files and the command line, or one of your own, which a
/// run takes by [`Run::move_by`](crate::train::Run::move_by), a loop of one's own by
/// [`Memories::update_by`](crate::train::update::Memories::update_by).
///
/// ```
/// use std::sync::Arc;
///
/// use qcore::nn::projected::Projected;
/// use qcore::ops::Par;
/// use qcore::train::rule::WeightRule;
/// use qcore::train::update::{Memory, Settings};
/// use qcore::train::{Recipe, Run};
///
/// /// A step of the rate along the sign of the gradient, whatever its size.
/// #[derive(Debug)]
/// struct SignStep;
///
/// impl WeightRule for SignStep {
///     fn step(
///         &self,
///         weights: &mut Projected,
///         _memory: &mut Memory,
///         settings: &Settings,
///         _par: Par<'_>,
///     ) -> qcore::Result<()> {
///         let (latent, gradient, _projected) = weights.parts();
///         for (w, g) in latent.iter_mut().zip(gradient) {
///             *w -= settings.sgd.lr * g.signum();
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> qcore::Result<()> {
/// let text = "arch = '8'\nbatch = 4\nfloat_epochs = 0\nmax_shift = 0";
/// let recipe = Recipe::from_toml("my recipe", text)?;
/// let mut run = Run::new(recipe, [4, 4, 1], 2, 4)?;
/// run.move_by(Some(Arc::new(SignStep)));
/// run.step(&[7; 64], &[0, 1, 0, 1], Par::Caller)?;
/// # Ok(())
/// # }
/// ```
pub trait WeightRule: fmt::Debug + Send + Sync {
    /// What is remembered of a layer's `len` weights before the first step: what the optimiser needs, unless the rule says
    /// otherwise. A checkpoint keeps it.
    fn memory(&self, len: usize, optimizer: Optimizer) -> Memory {
        Memory::new(len, optimizer)
    }

    /// One step of the latent weights from their gradient, with the numbers of `settings`; [`Memory::step`] is that of the
    /// optimiser. Whoever calls projects them afterwards.
    ///
    /// Errors if a number is out of its range.
    fn step(
        &self,
        weights: &mut Projected,
        memory: &mut Memory,
        settings: &Settings,
        par: Par<'_>,
    ) -> Result<()>;
}

/// Both passes of a step that backtracks are more than this: see [`Memories::backtrack`](crate::train::update::Memories::backtrack).
impl WeightRule for Rule {
    fn memory(&self, len: usize, optimizer: Optimizer) -> Memory {
        match self {
            Rule::Bop { .. } => Memory {
                mean: vec![0.0; len],
                ..Memory::default()
            },
            _ => Memory::new(len, optimizer),
        }
    }

    fn step(
        &self,
        weights: &mut Projected,
        memory: &mut Memory,
        settings: &Settings,
        par: Par<'_>,
    ) -> Result<()> {
        memory.step_quantized(weights, *self, settings, par)
    }
}

/// A weight rule. A recipe writes the name alone, or `{ kind = "bcgd", rho = 1e-5 }`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Rule {
    /// Blended coarse gradient descent.
    Bcgd {
        /// How far the latent weights are drawn to their projection in a step, 0 to 1.
        rho: f32,
    },
    /// No blending.
    BinaryConnect,
    /// BinaryRelax.
    BinaryRelax {
        /// lambda of the first epoch, 0 or more.
        lambda: f32,
        /// What it is multiplied by after each epoch, 1 or more.
        growth: f32,
        /// The share of the quantized epochs after which weights are hard, 0 to 1.
        hard: f32,
    },
    /// No latent weights: what is projected is kept.
    Rounding,
    /// Adam's step, and a projection in its metric.
    LossAware,
    /// One-step forward and backtrack.
    ForwardBacktrack {
        /// The share of the first gradient and metric, 0 to 1.
        a: f32,
        /// One epoch in so many takes two gradients a step; the others are loss-aware.
        period: usize,
    },
    /// Binary optimiser: flips by a mean of gradients.
    Bop {
        /// How fast the mean moves, above 0 and at most 1.
        gamma: f32,
        /// The mean that flips a weight, 0 or more.
        tau: f32,
    },
}

/// The same, with the numbers that a recipe may leave out.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Written {
    Bcgd {
        rho: Option<f32>,
    },
    BinaryConnect {},
    BinaryRelax {
        lambda: Option<f32>,
        growth: Option<f32>,
        hard: Option<f32>,
    },
    Rounding {},
    LossAware {},
    ForwardBacktrack {
        a: Option<f32>,
        period: Option<usize>,
    },
    Bop {
        gamma: Option<f32>,
        tau: Option<f32>,
    },
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(match written::read(deserializer)? {
            Written::Bcgd { rho } => Rule::Bcgd {
                rho: rho.unwrap_or(1e-5),
            },
            Written::BinaryConnect {} => Rule::BinaryConnect,
            Written::BinaryRelax {
                lambda,
                growth,
                hard,
            } => Rule::BinaryRelax {
                lambda: lambda.unwrap_or(1.0),
                growth: growth.unwrap_or(1.04),
                hard: hard.unwrap_or(0.75),
            },
            Written::Rounding {} => Rule::Rounding,
            Written::LossAware {} => Rule::LossAware,
            Written::ForwardBacktrack { a, period } => Rule::ForwardBacktrack {
                a: a.unwrap_or(0.6),
                period: period.unwrap_or(5),
            },
            Written::Bop { gamma, tau } => Rule::Bop {
                gamma: gamma.unwrap_or(Bop::default().gamma),
                tau: tau.unwrap_or(Bop::default().tau),
            },
        })
    }
}

impl Default for Rule {
    /// Blended, with the paper's rho of 1e-5.
    fn default() -> Self {
        Rule::Bcgd { rho: 1e-5 }
    }
}

impl Rule {
    /// The name, as recipes have it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Bcgd { .. } => "bcgd",
            Rule::BinaryConnect => "binary-connect",
            Rule::BinaryRelax { .. } => "binary-relax",
            Rule::Rounding => "rounding",
            Rule::LossAware => "loss-aware",
            Rule::ForwardBacktrack { .. } => "forward-backtrack",
            Rule::Bop { .. } => "bop",
        }
    }

    /// Errors if a number is out of its range.
    pub fn check(self) -> Result<()> {
        let unit = |name: &'static str, value: f32| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::argument(name, value, "0 to 1")),
        };
        match self {
            Rule::Bcgd { rho } => unit("rho", rho),
            Rule::BinaryRelax {
                lambda,
                growth,
                hard,
            } => {
                if !(lambda >= 0.0 && lambda.is_finite()) {
                    return Err(Error::argument("lambda", lambda, "a number of 0 or more"));
                }
                if !(growth >= 1.0 && growth.is_finite()) {
                    return Err(Error::argument("growth", growth, "a number of 1 or more"));
                }
                unit("hard", hard)
            }
            Rule::ForwardBacktrack { period: 0, .. } => {
                Err(Error::argument("period", 0, "1 epoch or more"))
            }
            Rule::ForwardBacktrack { a, .. } => unit("a", a),
            Rule::Bop { gamma, tau } => Bop { gamma, tau }.check(),
            Rule::BinaryConnect | Rule::Rounding | Rule::LossAware => Ok(()),
        }
    }

    /// Whether its steps are in Adam's metric.
    pub fn needs_metric(self) -> bool {
        matches!(self, Rule::LossAware | Rule::ForwardBacktrack { .. })
    }

    /// lambda of BinaryRelax in epoch `epoch`, from 0, of `epochs`; `None` is hard weights.
    pub fn relaxation(self, epoch: usize, epochs: usize) -> Option<f32> {
        let Rule::BinaryRelax {
            lambda,
            growth,
            hard,
        } = self
        else {
            return None;
        };
        let soft = (epoch as f32) < hard * epochs as f32;
        let grown = lambda * growth.powi(epoch.min(1 << 20) as i32);
        soft.then_some(grown).filter(|lambda| lambda.is_finite())
    }

    /// Whether epoch `epoch`, from 0, takes two gradients a step.
    pub fn backtracks(self, epoch: usize) -> bool {
        matches!(self, Rule::ForwardBacktrack { period, .. } if (epoch + 1).is_multiple_of(period.max(1)))
    }

    /// Draws latent weights to their projection, as long; the optimiser's step comes after.
    ///
    /// Errors if the lengths differ or rho is not from 0 to 1.
    pub fn blend(self, latent: &mut [f32], projected: &[f32]) -> Result<()> {
        match self {
            Rule::Bcgd { rho } => step::blend(latent, projected, rho),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;
    use crate::quant::binary_mean;

    const N: usize = 30;
    const SAMPLES: usize = 120;
    const ETA: f64 = 0.01;

    /// f(w) = |A w - y|^2 / (2 samples), with A and y normal.
    struct Quadratic {
        a: Vec<f32>,
        y: Vec<f32>,
    }

    impl Quadratic {
        fn new() -> Self {
            let (mut a, mut y) = (vec![0.0; SAMPLES * N], vec![0.0; SAMPLES]);
            Rng::new(11).fill_normal(&mut a, 1.0);
            Rng::new(12).fill_normal(&mut y, 5.0);
            Quadratic { a, y }
        }

        /// f and its gradient.
        fn at(&self, w: &[f64]) -> (f64, Vec<f64>) {
            let (mut f, mut g) = (0.0, vec![0.0; N]);
            for (row, y) in self.a.chunks_exact(N).zip(&self.y) {
                let dot: f64 = row.iter().zip(w).map(|(a, w)| f64::from(*a) * w).sum();
                let rest = dot - f64::from(*y);
                f += rest * rest / (2 * SAMPLES) as f64;
                for (g, a) in g.iter_mut().zip(row) {
                    *g += rest * f64::from(*a) / SAMPLES as f64;
                }
            }
            (f, g)
        }

        /// L, the largest eigenvalue of A^T A / samples, by the power method; a little above, to be safe.
        fn smoothness(&self) -> f64 {
            let zero = self.at(&[0.0; N]).1;
            let (mut v, mut size) = (vec![1.0; N], 0.0);
            for _ in 0..500 {
                let g = self.at(&v).1;
                v = g.iter().zip(&zero).map(|(g, z)| g - z).collect();
                size = v.iter().map(|v| v * v).sum::<f64>().sqrt();
                v.iter_mut().for_each(|v| *v /= size);
            }
            size * 1.001
        }
    }

    /// 1500 steps: how often f rose, and how often the bound of the module's head was broken.
    fn run(problem: &Quadratic, rule: Rule, rho: f64, smoothness: f64) -> (usize, usize) {
        let project = |latent: &[f32]| {
            let (signs, delta) = binary_mean(latent, 1, N).unwrap();
            let w = signs.unpack().into_iter();
            (
                w.map(|s| f64::from(delta) * f64::from(s))
                    .collect::<Vec<f64>>(),
                delta,
            )
        };
        let mut latent = vec![0.0; N];
        Rng::new(13).fill_normal(&mut latent, 0.5);
        let (mut rises, mut broken) = (0, 0);
        let (mut w, _) = project(&latent);
        for _ in 0..1500 {
            let (f, g) = problem.at(&w);
            let at: Vec<f32> = w.iter().map(|w| *w as f32).collect();
            rule.blend(&mut latent, &at).unwrap();
            for (latent, g) in latent.iter_mut().zip(&g) {
                *latent -= (ETA * g) as f32;
            }
            let (next, _) = project(&latent);
            let moved: f64 = next.iter().zip(&w).map(|(a, b)| (a - b) * (a - b)).sum();
            let change = problem.at(&next).0 - f;
            // f32 latent weights: their rounding, seen through rho / eta and the gradient, stays below this.
            let slack = 1e-5;
            rises += usize::from(change > slack);
            broken += usize::from(change > -0.5 * (rho / ETA - smoothness) * moved + slack);
            w = next;
        }
        (rises, broken)
    }

    #[test]
    fn blending_descends_as_the_lemma_says_and_binary_connect_does_not() {
        let problem = Quadratic::new();
        let smoothness = problem.smoothness();
        for share in [0.05, 0.3, 1.0, 1.5, 5.0] {
            let rho = share * ETA * smoothness;
            let rule = Rule::Bcgd { rho: rho as f32 };
            let (rises, broken) = run(&problem, rule, rho, smoothness);
            assert_eq!(broken, 0, "rho = {share} eta L");
            if share >= 1.0 {
                assert_eq!(rises, 0, "rho = {share} eta L");
            }
        }
        let (rises, broken) = run(&problem, Rule::BinaryConnect, 0.0, smoothness);
        assert_eq!(broken, 0);
        assert!(rises > 100, "{rises}");
    }

    #[test]
    fn rho_zero_is_binary_connect_and_rho_one_is_the_projection() {
        let latent = [0.5, -0.25, 0.0, -0.0];
        let after = |rule: Rule| {
            let mut latent = latent;
            rule.blend(&mut latent, &[2.0, -2.0, 2.0, 2.0]).unwrap();
            latent
        };
        assert_eq!(after(Rule::Bcgd { rho: 0.0 }), after(Rule::BinaryConnect));
        assert_eq!(after(Rule::BinaryConnect), latent);
        assert_eq!(after(Rule::Bcgd { rho: 1.0 }), [2.0, -2.0, 2.0, 2.0]);
        for rho in [-0.1, 1.1, f32::NAN] {
            let said = Rule::Bcgd { rho }.check().unwrap_err().to_string();
            assert_eq!(said, format!("rho is {rho}; expected 0 to 1"));
        }
    }

    #[test]
    fn rules_read_by_name_and_by_table_and_write_what_they_read() {
        let read = |text: &str| serde_json::from_str::<Rule>(text);
        assert_eq!(read(r#""bcgd""#).unwrap(), Rule::default());
        let table = read(r#"{"kind": "forward-backtrack", "a": 0.9}"#).unwrap();
        assert_eq!(table, Rule::ForwardBacktrack { a: 0.9, period: 5 });
        for name in [
            "bcgd",
            "binary-connect",
            "binary-relax",
            "rounding",
            "loss-aware",
            "forward-backtrack",
            "bop",
        ] {
            let rule = read(&format!("\"{name}\"")).unwrap();
            rule.check().unwrap();
            let text = serde_json::to_string(&rule).unwrap();
            assert!(text.contains(name));
            assert_eq!(rule.name(), name);
            assert_eq!(read(&text).unwrap(), rule);
        }
        let said = |text: &str| written::suggest(&read(text).unwrap_err().to_string());
        assert!(said(r#""binary-conect""#).contains("did you mean binary-connect?"));
        assert!(said(r#"{"kind": "bcgd", "ro": 1}"#).contains("did you mean rho?"));
    }

    #[test]
    fn relaxation_grows_and_ends_and_two_gradients_come_each_period() {
        let rule = Rule::BinaryRelax {
            lambda: 1.0,
            growth: 2.0,
            hard: 0.5,
        };
        let lambdas = [0, 1, 4, 5].map(|e| rule.relaxation(e, 10));
        assert_eq!(lambdas, [Some(1.0), Some(2.0), Some(16.0), None]);
        assert_eq!(Rule::LossAware.relaxation(0, 10), None);
        let rule = Rule::ForwardBacktrack { a: 0.6, period: 3 };
        assert_eq!(
            [0, 1, 2, 3, 5].map(|e| rule.backtracks(e)),
            [false, false, true, false, true]
        );
    }
}
