//! The update of a net's parameters: what the base optimiser remembers, and the steps of the weight rules.
//!
//! ```text
//!   quantized weights   [dampen] [blend] step [round] [clip]      by the rule
//!   everything else     step
//! ```
//!
//! The step is SGD's with momentum or Adam's. Two-pass steps are in `backtrack`.

use crate::error::{Error, Result};
use crate::nn::net::{Net, Parameter, Role, all_finite};
use crate::nn::projected::Projected;
use crate::nn::rng::Rng;
use crate::ops::Par;
use crate::train::recipe::Optimizer;
use crate::train::rule::{Rule, WeightRule};
use crate::train::sgd::Sgd;
use crate::train::step::{self, Adam, AdamState, Bop};

/// The numbers of a step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// The base optimiser.
    pub optimizer: Optimizer,
    /// Rate, momentum and decay of SGD.
    pub sgd: Sgd,
    /// Rate, betas and decay of Adam.
    pub adam: Adam,
    /// The rule, with its numbers of this step.
    pub rule: Rule,
    /// Latent weights of quantized layers are clipped to so much around 0; 0 is not at all.
    pub clip: f32,
    /// Whether the rate of weights is divided by the bound of Glorot's draws.
    pub glorot_rate: bool,
    /// lambda of oscillation dampening; 0 is none.
    pub dampening: f32,
    /// The draws of this step.
    pub rng: Rng,
}

/// What the optimiser remembers of a parameter; vectors that are not used are empty.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Memory {
    /// Velocity of SGD.
    pub velocity: Vec<f32>,
    /// Moments of Adam.
    pub adam: AdamState,
    /// Mean of gradients of Bop.
    pub mean: Vec<f32>,
}

/// What the optimiser remembers of all parameters.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Memories(pub(super) Vec<Memory>);

impl Memories {
    /// Nothing yet, for the parameters of `net`.
    pub fn new(net: &mut Net, optimizer: Optimizer, rule: &dyn WeightRule) -> Self {
        let memory = |parameter: &mut Parameter<'_>| {
            let len = parameter.value().len();
            match parameter {
                Parameter::Weights(w) if w.quantizer().is_some() => rule.memory(len, optimizer),
                _ => Memory::new(len, optimizer),
            }
        };
        let mut all: Vec<Memory> = net.parameters().iter_mut().map(memory).collect();
        all.extend(net.steps().iter_mut().map(memory));
        Memories(all)
    }

    /// One step of every parameter of `net`; [`Net::settle`] must follow.
    ///
    /// Errors if these are not the memories of such a net, or a number is out of its range.
    pub fn update(&mut self, net: &mut Net, settings: &Settings, par: Par<'_>) -> Result<()> {
        self.update_by(net, settings, &settings.rule, par)
    }

    /// As [`Memories::update`], by another rule than that of the settings.
    pub fn update_by(
        &mut self,
        net: &mut Net,
        settings: &Settings,
        rule: &dyn WeightRule,
        par: Par<'_>,
    ) -> Result<()> {
        let mut memories = self.0.iter_mut();
        let calibrated = net.calibrate_alpha;
        for mut parameter in net.parameters() {
            let memory = memories.next().ok_or_else(mismatch)?;
            if calibrated && parameter.role() == Role::Alpha {
                continue;
            }
            match &mut parameter {
                Parameter::Weights(w) if w.quantizer().is_some() => {
                    rule.step(w, memory, settings, par)?;
                }
                other => {
                    let (value, gradient) = other.parts();
                    memory.step(value, gradient, settings, 1.0, par)?;
                }
            }
        }
        for mut parameter in net.steps() {
            let memory = memories.next().ok_or_else(mismatch)?;
            let (value, gradient) = parameter.parts();
            memory.step(value, gradient, settings, 1.0, par)?;
            // A step of 0 or below has no levels; NaN stays, to be seen.
            if value[0] < f32::MIN_POSITIVE {
                value[0] = f32::MIN_POSITIVE;
            }
        }
        match memories.next() {
            None => Ok(()),
            Some(_) => Err(mismatch()),
        }
    }

    /// The first parameter of whose memory not all is finite, and what of it is not; `None` if all is.
    pub(super) fn not_finite(&self) -> Option<(usize, &'static str)> {
        self.0.iter().enumerate().find_map(|(j, memory)| {
            let all = [
                ("velocity", &memory.velocity),
                ("first moment", &memory.adam.m),
                ("second moment", &memory.adam.v),
                ("mean of gradients", &memory.mean),
            ];
            let bad = all.into_iter().find(|(_, values)| !all_finite(values));
            bad.map(|(what, _)| (j, what))
        })
    }
}

fn mismatch() -> Error {
    Error::argument(
        "the optimiser's state",
        "of another net",
        "one for each parameter",
    )
}

impl Memory {
    /// Nothing yet, of `len` numbers that the base optimiser moves.
    pub fn new(len: usize, optimizer: Optimizer) -> Self {
        let mut memory = Memory::default();
        match optimizer {
            Optimizer::Sgd => memory.velocity = vec![0.0; len],
            Optimizer::Adam => memory.adam = AdamState::zeros(len),
        }
        memory
    }

    /// The base optimiser's step, with `rate` times the learning rate.
    ///
    /// Errors if the lengths differ.
    pub fn step(
        &mut self,
        value: &mut [f32],
        gradient: &[f32],
        settings: &Settings,
        rate: f32,
        par: Par<'_>,
    ) -> Result<()> {
        match settings.optimizer {
            Optimizer::Sgd => {
                let lr = settings.sgd.lr * rate;
                let sgd = Sgd { lr, ..settings.sgd };
                sgd.step_on(value, gradient, &mut self.velocity, par)
            }
            Optimizer::Adam => settings.adam_at(rate).step(value, gradient, &mut self.adam),
        }
    }

    pub(super) fn step_quantized(
        &mut self,
        weights: &mut Projected,
        rule: Rule,
        settings: &Settings,
        par: Par<'_>,
    ) -> Result<()> {
        dampen(weights, settings.dampening)?;
        let rate = settings.rate(weights);
        let (latent, gradient, values) = weights.parts();
        if let Rule::Bop { gamma, tau } = rule {
            Bop { gamma, tau }.step(latent, gradient, &mut self.mean)?;
            return Ok(());
        }
        rule.blend(latent, values)?;
        self.step(latent, gradient, settings, rate, par)?;
        clip(latent, settings.clip)?;
        if rule.needs_metric() {
            let adam = settings.adam_at(rate);
            weights.metric.resize(weights.latent.len(), 0.0);
            adam.metric(&self.adam, &mut weights.metric)?;
        }
        if rule == Rule::Rounding {
            weights.project(settings.rng)?;
            weights.keep_projection();
        }
        Ok(())
    }
}

impl Settings {
    /// What the learning rate of quantized weights is multiplied by.
    pub fn rate(&self, weights: &Projected) -> f32 {
        match self.glorot_rate {
            true => 1.0 / weights.glorot(),
            false => 1.0,
        }
    }

    /// Adam with `rate` times the learning rate.
    pub(super) fn adam_at(&self, rate: f32) -> Adam {
        Adam {
            lr: self.adam.lr * rate,
            ..self.adam
        }
    }
}

/// Clips latent weights, unless the bound is 0.
pub(super) fn clip(latent: &mut [f32], bound: f32) -> Result<()> {
    match bound > 0.0 {
        true => step::clip(latent, bound),
        false => Ok(()),
    }
}

/// Adds the gradient of dampening to that of the weights, unless lambda is 0.
pub(super) fn dampen(weights: &mut Projected, lambda: f32) -> Result<()> {
    if lambda == 0.0 {
        return Ok(());
    }
    let cols = weights.cols().max(1);
    let ranges: Vec<_> = (0..weights.rows()).map(|row| weights.range(row)).collect();
    let (latent, gradient, values) = weights.parts();
    let rows = latent.chunks(cols).zip(values.chunks(cols));
    for (((latent, values), gradient), range) in rows.zip(gradient.chunks_mut(cols)).zip(ranges) {
        step::dampen(latent, values, range, lambda, gradient)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::net::{Block, Design, Mode};

    fn settings(rule: Rule) -> Settings {
        Settings {
            optimizer: Optimizer::Sgd,
            sgd: Sgd {
                lr: 0.5,
                momentum: 0.0,
                weight_decay: 0.0,
            },
            adam: Adam {
                lr: 0.5,
                ..Adam::default()
            },
            rule,
            clip: 0.0,
            glorot_rate: false,
            dampening: 0.0,
            rng: Rng::new(1),
        }
    }

    /// A quantized net of weights by `quantizer`, with a gradient that is not zero.
    fn net(quantizer: &str) -> Net {
        let blocks = Block::linear(&[6]);
        let mut design = Design::new([2, 3, 1], blocks, 3, 2);
        design.weights = Some(quantizer.parse().unwrap());
        let mut net = Net::new(design, 4).unwrap();
        net.set_mode(Mode::Quantized).unwrap();
        let images: Vec<u8> = (0..48).map(|i| (i * 37 % 256) as u8).collect();
        net.step(&images, &[0, 1, 2, 0, 1, 2, 0, 1], Par::Caller)
            .unwrap();
        net
    }

    /// Latent weights, gradients, w and what the update made, of the first layer.
    fn step(quantizer: &str, settings: &Settings) -> [Vec<f32>; 4] {
        let mut net = net(quantizer);
        let weights = net.weights()[0].clone();
        let mut memories = Memories::new(&mut net, settings.optimizer, &settings.rule);
        memories.update(&mut net, settings, Par::Caller).unwrap();
        let after = net.weights()[0].latent.clone();
        let (w, d) = (weights.values().to_vec(), weights.d_weights);
        assert!(d.iter().any(|d| d.abs() > 1e-4));
        [weights.latent, d, w, after]
    }

    fn near(got: &[f32], expected: impl Iterator<Item = f32>) {
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
    }

    #[test]
    fn each_rule_moves_the_weights_as_it_says() {
        let [latent, d, w, after] = step("binary-mean", &settings(Rule::Bcgd { rho: 0.25 }));
        let blended = |i: usize| 0.75 * latent[i] + 0.25 * w[i] - 0.5 * d[i];
        near(&after, (0..36).map(blended));

        let [latent, d, _, after] = step("binary-mean", &settings(Rule::BinaryConnect));
        near(&after, latent.iter().zip(&d).map(|(l, d)| l - 0.5 * d));

        let clipped = Settings {
            clip: 0.3,
            ..settings(Rule::BinaryConnect)
        };
        let [.., after] = step("binary-mean", &clipped);
        assert!(after.iter().all(|w| w.abs() <= 0.3) && after.contains(&0.3));

        let dampened = Settings {
            dampening: 0.5,
            ..settings(Rule::BinaryConnect)
        };
        let [latent, d, w, after] = step("binary-mean", &dampened);
        let top = w[0].abs();
        near(
            &after,
            (0..36).map(|i| {
                let inside = latent[i].abs() <= top;
                let pull = if inside { latent[i] - w[i] } else { 0.0 };
                latent[i] - 0.5 * (d[i] + pull)
            }),
        );

        let [latent, d, _, after] = step("grid-det:delta=0.125", &settings(Rule::Rounding));
        let rounded = |i: usize| ((latent[i] - 0.5 * d[i]) / 0.125).round() * 0.125;
        near(&after, (0..36).map(rounded));

        let bop = Rule::Bop {
            gamma: 1.0,
            tau: 1e-3,
        };
        let [latent, d, _, after] = step("binary-mean", &settings(bop));
        let flips = |i: usize| d[i].abs() > 1e-3 && d[i] * latent[i] > 0.0;
        near(
            &after,
            (0..36).map(|i| if flips(i) { -latent[i] } else { latent[i] }),
        );
        assert!((0..36).any(flips));
    }

    #[test]
    fn loss_aware_steps_leave_the_metric_of_adam() {
        let settings = Settings {
            optimizer: Optimizer::Adam,
            ..settings(Rule::LossAware)
        };
        let mut net = net("loss-aware-binary");
        let before = net.weights()[0].clone();
        let mut memories = Memories::new(&mut net, Optimizer::Adam, &settings.rule);
        memories.update(&mut net, &settings, Par::Caller).unwrap();
        net.settle().unwrap();
        let after = net.weights()[0];
        // After one step m^ = g and v^ = g^2, so D = (eps + |g|) / lr.
        let metric = |i: usize| (1e-8 + before.d_weights[i].abs()) / 0.5;
        let moved = |i: usize| before.latent[i] - before.d_weights[i] / metric(i);
        for i in 0..36 {
            assert!((after.metric[i] - metric(i)).abs() < 1e-3 * metric(i));
            assert!((after.latent[i] - moved(i)).abs() < 1e-3);
        }
        let sums = (0..36).fold((0.0, 0.0), |(above, below), i| {
            (above + metric(i) * after.latent[i].abs(), below + metric(i))
        });
        assert!((after.scales()[0] - sums.0 / sums.1).abs() < 1e-4);
    }

    #[test]
    fn the_state_of_another_net_is_refused_and_learned_steps_move() {
        let mut net = net("lsq-weight:bits=3");
        let settings = settings(Rule::BinaryConnect);
        let mut memories = Memories::new(&mut net, Optimizer::Sgd, &settings.rule);
        let before = net.steps()[0].value()[0];
        memories.update(&mut net, &settings, Par::Caller).unwrap();
        assert_ne!(net.steps()[0].value()[0], before);
        assert_eq!(net.steps()[0].role(), Role::Step);
        memories.0.pop();
        assert!(memories.update(&mut net, &settings, Par::Caller).is_err());
    }
}
