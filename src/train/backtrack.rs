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
use crate::train::step::{combine, metric_step};
use crate::train::update::{Memories, Memory, Settings, clip, dampen};

/// What a parameter was before the trial.
enum Before {
    /// Latent weights, m^ and D.
    Weights([Vec<f32>; 3]),
    /// The first gradient.
    Other(Vec<f32>),
}

impl Memories {
    /// A step with two passes over a batch; the score is the first one's, unless the second's loss is not finite.
    ///
    /// Nothing moves if the first loss is not finite. [`Net::settle`] must follow. Errors as [`Net::step`] and
    /// [`Memories::update`] do.
    pub fn backtrack(
        &mut self,
        net: &mut Net,
        images: &[u8],
        labels: &[u8],
        a: f32,
        settings: &Settings,
        par: Par<'_>,
    ) -> Result<Score> {
        let score = net.step(images, labels, par)?;
        if !score.loss.is_finite() {
            return Ok(score);
        }
        let mut before = Vec::new();
        for (parameter, memory) in net.parameters().iter_mut().zip(&mut self.0) {
            before.push(match parameter {
                Parameter::Weights(weights) if weights.quantizer().is_some() => {
                    let kept = weights.latent.clone();
                    dampen(weights, settings.dampening)?;
                    let adam = settings.adam_at(settings.rate(weights));
                    let len = kept.len();
                    let (mut direction, mut metric) = (vec![0.0; len], vec![0.0; len]);
                    adam.observe(&weights.latent, &weights.d_weights, &mut memory.adam)?;
                    adam.direction(&memory.adam, &mut direction)?;
                    adam.metric(&memory.adam, &mut metric)?;
                    metric_step(&mut weights.latent, &direction, &metric)?;
                    clip(&mut weights.latent, settings.clip)?;
                    weights.metric.clear();
                    weights.metric.extend_from_slice(&metric);
                    Before::Weights([kept, direction, metric])
                }
                other => Before::Other(other.gradient().to_vec()),
            });
        }
        net.settle()?;
        let second = net.step(images, labels, par)?;
        if !second.loss.is_finite() {
            return Ok(second);
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
                    Before::Weights([kept, mut direction, mut metric]),
                ) => {
                    dampen(weights, settings.dampening)?;
                    let adam = settings.adam_at(settings.rate(weights));
                    let mut seen = memory.adam.clone();
                    let (mut second, mut d) = (vec![0.0; kept.len()], vec![0.0; kept.len()]);
                    adam.observe(&weights.latent, &weights.d_weights, &mut seen)?;
                    adam.direction(&seen, &mut second)?;
                    adam.metric(&seen, &mut d)?;
                    combine(&mut direction, &second, a)?;
                    combine(&mut metric, &d, a)?;
                    weights.latent = kept;
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
        Ok(score)
    }
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
    use crate::train::step::{Adam, AdamState, Backtrack, Trial, forward_backtrack};

    #[test]
    fn a_net_of_one_layer_steps_as_the_function_over_slices_does() {
        let mut design = Design::new([3, 3, 1], Vec::new(), 4, 32);
        let quantizer: WeightQuantizer = "loss-aware-binary".parse().unwrap();
        design.weights = Some(quantizer.clone());
        let adam = Adam {
            lr: 0.05,
            ..Adam::default()
        };
        let settings = Settings {
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
        };
        let images: Vec<u8> = (0..90).map(|i| (i * 73 % 251) as u8).collect();
        let labels = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1];
        let fresh = || {
            let mut net = Net::new(design.clone(), 9).unwrap();
            net.set_mode(Mode::Quantized).unwrap();
            net
        };
        let mut net = fresh();
        let mut memories = Memories::new(&mut net, Optimizer::Adam, settings.rule);
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
}
