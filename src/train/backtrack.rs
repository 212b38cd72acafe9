//! One-step forward and backtrack over a whole net: two gradients on one batch make a step.
//!
//! ```text
//!   g  = gradient at w = Q(w_f)                D  = Adam's metric with g seen
//!   trial: w_f' = w_f - m^ / D, projected in D
//!   g' = gradient at the trial, same batch     D' = the metric with g' seen as well
//!   w_f <- w_f - (a m^ + (1 - a) m^') / (a D + (1 - a) D')
//! ```
//!
//! The moments that stay are those of the first gradient; the trial's are temporary. (The paper leaves this open.)
//! Parameters that are not quantized take one step along a g + (1 - a) g'. Running averages of normalisations see both
//! passes.
//!
//! Source: One-Step Forward and Backtrack, arXiv 2401.16760, appendix, algorithm 1.

use crate::error::Result;
use crate::nn::loss::Score;
use crate::nn::net::{Net, Parameter, Role};
use crate::ops::Par;
use crate::train::step::{AdamState, combine, metric_step};
use crate::train::update::{Memories, Memory, Settings, clip, dampen};

/// What a parameter was before the trial.
enum Before {
    /// Latent weights.
    Weights(Trialled),
    /// The first gradient.
    Other(Vec<f32>),
}

/// Latent weights before the trial, with what the first gradient made of their moments.
struct Trialled {
    latent: Vec<f32>,
    /// m^ and D.
    direction: Vec<f32>,
    metric: Vec<f32>,
    /// Moments and D as they were, to go back to.
    kept: (AdamState, Vec<f32>),
}

impl Memories {
    /// A step with two passes over a batch: the score of the first one; or, with words as of [`Net::pass_not_finite`], that of
    /// the first pass whose loss or gradients were not finite.
    ///
    /// Parameters and memories are what they were if so, or if the trial point is not finite. [`Net::settle`] must follow.
    /// Errors as [`Net::step`] and [`Memories::update`] do.
    pub fn backtrack(
        &mut self,
        net: &mut Net,
        images: &[u8],
        labels: &[u8],
        a: f32,
        settings: &Settings,
        par: Par<'_>,
    ) -> Result<(Score, Option<String>)> {
        let score = net.step(images, labels, par)?;
        if let Some(layer) = net.pass_not_finite(score.loss) {
            return Ok((score, Some(layer)));
        }
        let mut before = Vec::new();
        for (parameter, memory) in net.parameters().iter_mut().zip(&mut self.0) {
            before.push(match parameter {
                Parameter::Weights(weights) if weights.quantizer().is_some() => {
                    let latent = weights.latent.clone();
                    let kept = (memory.adam.clone(), weights.metric.clone());
                    dampen(weights, settings.dampening)?;
                    let adam = settings.adam_at(settings.rate(weights));
                    let len = latent.len();
                    let (mut direction, mut metric) = (vec![0.0; len], vec![0.0; len]);
                    adam.observe(&weights.latent, &weights.d_weights, &mut memory.adam)?;
                    adam.direction(&memory.adam, &mut direction)?;
                    adam.metric(&memory.adam, &mut metric)?;
                    metric_step(&mut weights.latent, &direction, &metric)?;
                    clip(&mut weights.latent, settings.clip)?;
                    weights.metric.clear();
                    weights.metric.extend_from_slice(&metric);
                    Before::Weights(Trialled {
                        latent,
                        direction,
                        metric,
                        kept,
                    })
                }
                other => Before::Other(other.gradient().to_vec()),
            });
        }
        let tried = trial(net, images, labels, par);
        if !matches!(tried, Ok((_, None))) {
            self.go_back(net, before);
            net.settle()?;
            return tried;
        }
        let calibrated = net.calibrate_alpha;
        let parameters = net.parameters().into_iter();
        for ((mut parameter, memory), before) in parameters.zip(&mut self.0).zip(before) {
            if calibrated && parameter.role() == Role::Alpha {
                continue;
            }
            match (&mut parameter, before) {
                (
                    Parameter::Weights(weights),
                    Before::Weights(Trialled {
                        latent,
                        mut direction,
                        mut metric,
                        ..
                    }),
                ) => {
                    dampen(weights, settings.dampening)?;
                    let adam = settings.adam_at(settings.rate(weights));
                    let mut seen = memory.adam.clone();
                    let (mut second, mut d) = (vec![0.0; latent.len()], vec![0.0; latent.len()]);
                    adam.observe(&weights.latent, &weights.d_weights, &mut seen)?;
                    adam.direction(&seen, &mut second)?;
                    adam.metric(&seen, &mut d)?;
                    combine(&mut direction, &second, a)?;
                    combine(&mut metric, &d, a)?;
                    weights.latent = latent;
                    metric_step(&mut weights.latent, &direction, &metric)?;
                    clip(&mut weights.latent, settings.clip)?;
                    weights.metric = metric;
                }
                (other, Before::Other(mut first)) => {
                    combine(&mut first, other.gradient(), a)?;
                    step(memory, other, &first, settings, par)?;
                }
                (_, Before::Weights(_)) => unreachable!("the parameters are those of before"),
            }
        }
        Ok((score, None))
    }

    /// Undoes the trial.
    fn go_back(&mut self, net: &mut Net, before: Vec<Before>) {
        let parameters = net.parameters().into_iter();
        for ((mut parameter, memory), before) in parameters.zip(&mut self.0).zip(before) {
            if let (Parameter::Weights(weights), Before::Weights(trialled)) =
                (&mut parameter, before)
            {
                weights.latent = trialled.latent;
                (memory.adam, weights.metric) = trialled.kept;
            }
        }
    }
}

/// The pass at the trial point, and where it is not finite: it, what it is made of, or what comes of it.
fn trial(
    net: &mut Net,
    images: &[u8],
    labels: &[u8],
    par: Par<'_>,
) -> Result<(Score, Option<String>)> {
    net.settle()?;
    let score = net.step(images, labels, par)?;
    let at = net.pass_not_finite(score.loss);
    Ok((score, at.or_else(|| net.state_not_finite())))
}

fn step(
    memory: &mut Memory,
    parameter: &mut Parameter<'_>,
    gradient: &[f32],
    settings: &Settings,
    par: Par<'_>,
) -> Result<()> {
    memory.step(parameter.value(), gradient, settings, 1.0, par)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::net::{Design, Mode};
    use crate::nn::rng::Rng;
    use crate::nn::weight::{Given, Project, WeightQuantizer};
    use crate::train::recipe::Optimizer;
    use crate::train::rule::Rule;
    use crate::train::sgd::Sgd;
    use crate::train::step::{Adam, Backtrack, Trial, forward_backtrack};

    fn settings() -> Settings {
        let adam = Adam {
            lr: 0.05,
            ..Adam::default()
        };
        Settings {
            optimizer: Optimizer::Adam,
            sgd: Sgd {
                lr: 0.05,
                momentum: 0.0,
                weight_decay: 0.0,
            },
            adam,
            rule: Rule::ForwardBacktrack { a: 0.6, period: 1 },
            clip: 0.0,
            glorot_rate: false,
            dampening: 0.0,
            rng: Rng::new(1),
        }
    }

    #[test]
    fn a_net_of_one_layer_steps_as_the_function_over_slices_does() {
        let mut design = Design::new([3, 3, 1], Vec::new(), 4, 32);
        let quantizer: WeightQuantizer = "loss-aware-binary".parse().unwrap();
        design.weights = Some(quantizer.clone());
        let settings = settings();
        let adam = settings.adam;
        let images: Vec<u8> = (0..90).map(|i| (i * 73 % 251) as u8).collect();
        let labels = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1];
        let fresh = || {
            let mut net = Net::new(design.clone(), 9).unwrap();
            net.set_mode(Mode::Quantized).unwrap();
            net
        };
        let mut net = fresh();
        let mut memories = Memories::new(&mut net, Optimizer::Adam, &settings.rule);
        let par = Par::Caller;
        memories
            .backtrack(&mut net, &images, &labels, 0.6, &settings, par)
            .unwrap();

        // The same by the function over slices; its gradients come from a net whose scale and shift stand still.
        let mut other = fresh();
        let mut latent = other.weights()[0].latent.clone();
        let mut state = AdamState::zeros(latent.len());
        let mut metric = vec![1.0; latent.len()];
        let mut at = (Vec::new(), Vec::new());
        let mut answer = |trial: Trial<'_>| {
            match trial {
                Trial::Project { latent, metric, w } => {
                    let given = Given {
                        metric: Some(metric),
                        ..Given::default()
                    };
                    let projection = quantizer.project(latent, 4, 9, given)?;
                    w.copy_from_slice(&projection.values);
                    at = (latent.to_vec(), metric.to_vec());
                }
                Trial::Gradient { g, .. } => {
                    let Parameter::Weights(weights) = &mut other.parameters()[0] else {
                        unreachable!()
                    };
                    weights.latent.copy_from_slice(&at.0);
                    weights.metric = at.1.clone();
                    other.settle()?;
                    other.step(&images, &labels, par)?;
                    g.copy_from_slice(&other.weights()[0].d_weights);
                }
            }
            Ok(())
        };
        let rule = Backtrack { a: 0.6 };
        let (latent_, metric_) = (&mut latent, &mut metric);
        forward_backtrack(rule, &adam, latent_, &mut state, metric_, &mut answer).unwrap();
        let got = net.weights()[0];
        assert_eq!(got.latent, latent);
        assert_eq!(got.metric, metric);
        assert_eq!(memories.0[0].adam, state);
    }

    #[test]
    fn a_trial_that_is_not_finite_leaves_weights_moments_and_metric_as_they_were() {
        let mut design = Design::new([3, 3, 1], Vec::new(), 4, 32);
        design.weights = Some("loss-aware-binary".parse().unwrap());
        let images: Vec<u8> = (0..90).map(|i| (i * 73 % 251) as u8).collect();
        let labels = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1];
        let mut net = Net::new(design, 9).unwrap();
        net.set_mode(Mode::Quantized).unwrap();
        let mut settings = settings();
        let mut memories = Memories::new(&mut net, Optimizer::Adam, &settings.rule);
        let mut step = |net: &mut Net, lr: f32| {
            settings.adam.lr = lr;
            let before = (net.weights()[0].clone(), memories.clone());
            let (_, at) = memories
                .backtrack(net, &images, &labels, 0.6, &settings, Par::Caller)
                .unwrap();
            net.settle().unwrap();
            let after = net.weights()[0];
            let same = after.latent == before.0.latent
                && after.metric == before.0.metric
                && after.values() == before.0.values()
                && memories == before.1;
            (at, same)
        };
        assert_eq!(step(&mut net, 0.05), (None, false));
        let (at, same) = step(&mut net, 1e30);
        assert!(at.is_some() && same, "{at:?}");
    }
}
