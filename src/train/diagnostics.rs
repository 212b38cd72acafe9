//! How quantized weights behave while they train, layer by layer.
//!
//! Watching changes nothing of the training. What is watched begins anew where a run is resumed.

use serde::{Deserialize, Serialize};

use crate::bits::Encoding;
use crate::nn::elementary::power;
use crate::nn::net::Net;
use crate::nn::projected::Projected;
use crate::nn::weight::Project;

/// How fast the frequency of oscillations moves.
const MOMENTUM: f32 = 0.01;

/// The frequency from which a weight counts as oscillating.
const OSCILLATES: f32 = 0.005;

/// What an epoch did to the quantized weights of a layer. Shares are 0 to 1.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LayerReport {
    /// The layer's place in the net.
    pub layer: String,
    /// Number of weights.
    pub weights: usize,
    /// Share of codes that changed, in the mean over the steps.
    pub flip_ratio: f64,
    /// Share of codes that differ from those with which the quantized phase (or the resumed run) began.
    pub changed: f64,
    /// Share of weights that oscillate: whose changes of code, by a moving mean, go back more than once in 200 steps.
    pub oscillating: f64,
    /// Share of weights that are frozen.
    pub frozen: f64,
    /// Cosine of consecutive gradients, in the mean over the steps.
    pub gradient_cosine: f64,
    /// Share of steps whose gradient points against the one before.
    pub opposed: f64,
    /// |w_f - w| / |w|.
    pub gap: f64,
    /// Share of weights whose last gradient would not change their sign, sign(g) = -sign(w): if it is 1, binary
    /// weights are a fixed point of BinaryConnect.
    pub stable: f64,
}

/// A layer that is watched.
struct Watch {
    layer: String,
    start: Vec<i32>,
    before: Vec<i32>,
    oscillation: Oscillation,
    gradient: Vec<f32>,
    flips: usize,
    cosines: f64,
    opposed: usize,
    pairs: usize,
}

/// How often weights oscillate, as [`Freezer`](crate::train::step::Freezer) counts it: the moving mean f <- (1 - momentum)
/// f + momentum o, where o = 1 in steps in which a code goes back to where it came from. What fades between two changes
/// is taken off when it is asked for, so that a step costs little where few codes change.
struct Oscillation {
    steps: u32,
    /// The direction of the last change: -1, 0 if there was none, +1.
    direction: Vec<i8>,
    /// The frequency as it was after step `at`.
    frequency: Vec<f32>,
    at: Vec<u32>,
}

impl Oscillation {
    fn new(len: usize) -> Self {
        Oscillation {
            steps: 0,
            direction: vec![0; len],
            frequency: vec![0.0; len],
            at: vec![0; len],
        }
    }

    /// Sees the codes after a step, with those before, which become them; how many changed.
    fn step(&mut self, codes: &[i32], before: &mut [i32]) -> usize {
        const RUN: usize = 64;
        self.steps += 1;
        let mut changes = 0;
        let runs = codes.chunks(RUN).zip(before.chunks_mut(RUN));
        for (run, (codes, before)) in runs.enumerate() {
            // Most runs are as they were, and to see that is quick.
            let differs = codes
                .iter()
                .zip(&*before)
                .fold(0, |all, (a, b)| all | (a ^ b));
            if differs == 0 {
                continue;
            }
            for (j, (code, before)) in codes.iter().zip(before).enumerate() {
                if code != before {
                    let direction = (code - *before).signum() as i8;
                    self.change(run * RUN + j, direction);
                    *before = *code;
                    changes += 1;
                }
            }
        }
        changes
    }

    fn change(&mut self, i: usize, direction: i8) {
        let back = self.direction[i] == -direction;
        let faded = self.frequency(i);
        self.frequency[i] = if back { faded + MOMENTUM } else { faded };
        (self.direction[i], self.at[i]) = (direction, self.steps);
    }

    /// The frequency of weight `i` now.
    fn frequency(&self, i: usize) -> f32 {
        match self.frequency[i] {
            0.0 => 0.0,
            f => {
                f * power(
                    f64::from(1.0 - MOMENTUM),
                    u64::from(self.steps - self.at[i]),
                ) as f32
            }
        }
    }

    fn frequencies(&self) -> impl Iterator<Item = f32> {
        (0..self.frequency.len()).map(|i| self.frequency(i))
    }
}

/// All layers that are watched.
pub(super) struct Diagnostics {
    watches: Vec<Watch>,
    steps: usize,
}

impl Diagnostics {
    /// Watches the quantized weights of `net` from now on.
    pub(super) fn new(net: &Net) -> Self {
        let mut watches = Vec::new();
        net.layers().visit("", &mut |path, layer| {
            let Some(weights) = layer.weights().filter(|w| w.quantizer().is_some()) else {
                return;
            };
            let codes = weights.integers().into_owned();
            watches.push(Watch {
                layer: path.to_string(),
                start: codes.clone(),
                oscillation: Oscillation::new(codes.len()),
                before: codes,
                gradient: Vec::new(),
                flips: 0,
                cosines: 0.0,
                opposed: 0,
                pairs: 0,
            });
        });
        Diagnostics { watches, steps: 0 }
    }

    /// Sees the net after a step.
    pub(super) fn step(&mut self, net: &Net) {
        self.steps += 1;
        let quantized = net
            .weights()
            .into_iter()
            .filter(|w| w.quantizer().is_some());
        for (watch, weights) in self.watches.iter_mut().zip(quantized) {
            watch.step(weights);
        }
    }

    /// What the epoch did, and a new count for the next one; `frozen` are the weights that are, layer by layer.
    pub(super) fn take(&mut self, net: &Net, frozen: &[usize]) -> Vec<LayerReport> {
        let steps = std::mem::take(&mut self.steps).max(1) as f64;
        let quantized = net
            .weights()
            .into_iter()
            .filter(|w| w.quantizer().is_some());
        let pairs = self.watches.iter_mut().zip(quantized);
        let reports = pairs.enumerate().map(|(i, (watch, weights))| {
            let len = weights.latent.len().max(1) as f64;
            let frozen = frozen.get(i).copied().unwrap_or(0);
            watch.take(weights, steps, len, frozen)
        });
        reports.collect()
    }
}

/// Whether 0 is a code of these weights.
pub(super) fn has_zero(weights: &Projected) -> bool {
    weights.quantizer().and_then(Project::encoding) != Some(Encoding::Bipolar)
}

impl Watch {
    fn step(&mut self, weights: &Projected) {
        self.flips += self.oscillation.step(&weights.integers(), &mut self.before);
        if !self.gradient.is_empty() {
            let cosine = cosine(&self.gradient, &weights.d_weights);
            self.cosines += cosine;
            self.opposed += usize::from(cosine < 0.0);
            self.pairs += 1;
        }
        self.gradient.clear();
        self.gradient.extend_from_slice(&weights.d_weights);
    }

    fn take(&mut self, weights: &Projected, steps: f64, len: f64, frozen: usize) -> LayerReport {
        let count = |n: usize| n as f64 / len;
        let changed = self.start.iter().zip(&self.before).filter(|(a, b)| a != b);
        let oscillating = self.oscillation.frequencies();
        let pairs = self.pairs.max(1) as f64;
        let (mut apart, mut size) = (0f64, 0f64);
        for (latent, w) in weights.latent.iter().zip(weights.values()) {
            apart += f64::from(latent - w).powi(2);
            size += f64::from(*w).powi(2);
        }
        let signs = weights.d_weights.iter().zip(weights.values());
        let report = LayerReport {
            layer: self.layer.clone(),
            weights: weights.latent.len(),
            flip_ratio: count(self.flips) / steps,
            changed: count(changed.count()),
            oscillating: count(oscillating.filter(|f| *f > OSCILLATES).count()),
            frozen: count(frozen),
            gradient_cosine: self.cosines / pairs,
            opposed: self.opposed as f64 / pairs,
            gap: (apart / size.max(f64::MIN_POSITIVE)).sqrt(),
            stable: count(signs.filter(|(g, w)| **g * **w < 0.0).count()),
        };
        (self.flips, self.cosines, self.opposed, self.pairs) = (0, 0.0, 0, 0);
        report
    }
}

/// The cosine of the angle between `a` and `b`; 0 if one is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    // In eight fixed strands each.
    let mut sums = [[0f64; 8]; 3];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        let [ab, aa, bb] = &mut sums;
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let (a, b) = (f64::from(*a), f64::from(*b));
            ab[i] += a * b;
            aa[i] += a * a;
            bb[i] += b * b;
        }
    }
    let [ab, aa, bb] = sums.map(|strands| strands.iter().sum::<f64>());
    let size = (aa * bb).sqrt();
    if size > 0.0 { ab / size } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layers::Layer;
    use crate::nn::net::{Block, Design, Mode};
    use crate::nn::rng::Rng;
    use crate::train::step::Freezer;

    #[test]
    fn oscillations_are_counted_as_those_who_freeze_count_them() {
        let mut freezer = Freezer::new(200, MOMENTUM, false).unwrap();
        let (mut seen, mut before) = (Oscillation::new(200), vec![1; 200]);
        for step in 0..300 {
            // Weights that never change, seldom, and often; for some both directions in turns.
            let code = |i: u64| match i % 4 {
                0 => 1,
                1 => 1 - 2 * i32::from(step > 10 * i),
                2 => 1 - 2 * i32::from((step / (1 + i / 4)) % 2 == 1),
                _ => Rng::new(i).below(step, 3) as i32 - 1,
            };
            let codes: Vec<i32> = (0..200).map(code).collect();
            if step == 0 {
                before.copy_from_slice(&codes);
            }
            let changed = codes.iter().zip(&before).filter(|(a, b)| a != b).count();
            assert_eq!(seen.step(&codes, &mut before), changed);
            assert_eq!(before, codes);
            freezer.step(&codes, 0.0, 2.0, &mut [0.0; 200]).unwrap();
            for (a, b) in seen.frequencies().zip(freezer.frequency()) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
        assert!(seen.frequencies().any(|f| f > 0.2));
    }

    #[test]
    fn what_is_told_is_what_happened() {
        let design = Design::new([2, 2, 1], Block::linear(&[5]), 3, 2);
        let mut net = Net::new(design, 1).unwrap();
        net.set_mode(Mode::Quantized).unwrap();
        let mut watch = Diagnostics::new(&net);
        let mut turn = |net: &mut Net, gradient: f32| {
            net.layers_mut().visit_mut("", &mut |_, layer: &mut Layer| {
                if let Some(weights) = layer.weights_mut() {
                    weights.latent[0] *= -1.0;
                    weights.d_weights.fill(gradient);
                }
            });
            net.settle().unwrap();
            watch.step(net);
        };
        for gradient in [1.0, 1.0, -1.0] {
            turn(&mut net, gradient);
        }
        let reports = watch.take(&net, &[2]);
        assert_eq!(reports.len(), 2);
        let first = &reports[0];
        assert_eq!((&first.layer[..], first.weights), ("0", 20));
        assert!((first.flip_ratio - 0.05).abs() < 1e-12);
        assert!(
            (first.changed - 0.05).abs() < 1e-12,
            "an odd number of turns"
        );
        assert!((first.oscillating - 0.05).abs() < 1e-12);
        assert!((first.frozen - 0.1).abs() < 1e-12);
        assert!(
            first.gradient_cosine.abs() < 1e-12,
            "one along, one against"
        );
        assert_eq!(first.opposed, 0.5);
        let weights = net.weights()[0];
        let up = weights.values().iter().filter(|w| **w > 0.0).count();
        assert!((first.stable - up as f64 / 20.0).abs() < 1e-12);
        assert!(first.gap > 0.0 && first.gap < 2.0);
        assert_eq!(watch.take(&net, &[])[0].flip_ratio, 0.0);
        assert_eq!(cosine(&[0.0], &[1.0]), 0.0);
    }
}
