//! How quantized weights behave while they train, layer by layer.
//!
//! Watching changes nothing of the training. What is watched begins anew where a run is resumed.

use serde::{Deserialize, Serialize};

use crate::bits::Encoding;
use crate::error::Result;
use crate::nn::net::Net;
use crate::nn::projected::Projected;
use crate::nn::weight::Project;
use crate::train::step::Freezer;

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
    oscillation: Freezer,
    gradient: Vec<f32>,
    flips: usize,
    cosines: f64,
    opposed: usize,
    pairs: usize,
}

/// All layers that are watched.
pub(super) struct Diagnostics {
    watches: Vec<Watch>,
    steps: usize,
}

impl Diagnostics {
    /// Watches the quantized weights of `net` from now on.
    pub(super) fn new(net: &Net) -> Result<Self> {
        let mut watches = Vec::new();
        let mut result = Ok(());
        net.layers().visit("", &mut |path, layer| {
            let Some(weights) = layer.weights().filter(|w| w.quantizer().is_some()) else {
                return;
            };
            let codes = weights.integers().into_owned();
            match Freezer::new(codes.len(), MOMENTUM, has_zero(weights)) {
                Ok(oscillation) => watches.push(Watch {
                    layer: path.to_string(),
                    start: codes.clone(),
                    before: codes,
                    oscillation,
                    gradient: Vec::new(),
                    flips: 0,
                    cosines: 0.0,
                    opposed: 0,
                    pairs: 0,
                }),
                Err(error) => result = Err(error),
            }
        });
        result.map(|()| Diagnostics { watches, steps: 0 })
    }

    /// Sees the net after a step.
    pub(super) fn step(&mut self, net: &Net) -> Result<()> {
        self.steps += 1;
        let quantized = net
            .weights()
            .into_iter()
            .filter(|w| w.quantizer().is_some());
        for (watch, weights) in self.watches.iter_mut().zip(quantized) {
            watch.step(weights)?;
        }
        Ok(())
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
    fn step(&mut self, weights: &Projected) -> Result<()> {
        let codes = weights.integers();
        self.flips += self
            .before
            .iter()
            .zip(&*codes)
            .filter(|(a, b)| a != b)
            .count();
        // With a threshold that no frequency reaches, nothing freezes and no weight is touched.
        let mut untouched = vec![0.0; codes.len()];
        self.oscillation.step(&codes, 0.0, 2.0, &mut untouched)?;
        self.before.copy_from_slice(&codes);
        if !self.gradient.is_empty() {
            let cosine = cosine(&self.gradient, &weights.d_weights);
            self.cosines += cosine;
            self.opposed += usize::from(cosine < 0.0);
            self.pairs += 1;
        }
        self.gradient.clear();
        self.gradient.extend_from_slice(&weights.d_weights);
        Ok(())
    }

    fn take(&mut self, weights: &Projected, steps: f64, len: f64, frozen: usize) -> LayerReport {
        let count = |n: usize| n as f64 / len;
        let changed = self.start.iter().zip(&self.before).filter(|(a, b)| a != b);
        let oscillating = self.oscillation.frequency().iter();
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
            oscillating: count(oscillating.filter(|f| **f > OSCILLATES).count()),
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
    let (mut ab, mut aa, mut bb) = (0f64, 0f64, 0f64);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    let size = (aa * bb).sqrt();
    if size > 0.0 { ab / size } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layers::Layer;
    use crate::nn::net::{Block, Design, Mode};

    #[test]
    fn what_is_told_is_what_happened() {
        let design = Design::new([2, 2, 1], Block::linear(&[5]), 3, 2);
        let mut net = Net::new(design, 1).unwrap();
        net.set_mode(Mode::Quantized).unwrap();
        let mut watch = Diagnostics::new(&net).unwrap();
        let mut turn = |net: &mut Net, gradient: f32| {
            net.layers_mut().visit_mut("", &mut |_, layer: &mut Layer| {
                if let Some(weights) = layer.weights_mut() {
                    weights.latent[0] *= -1.0;
                    weights.d_weights.fill(gradient);
                }
            });
            net.settle().unwrap();
            watch.step(net).unwrap();
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
