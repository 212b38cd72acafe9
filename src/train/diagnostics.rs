//! How quantized weights behave while they train, layer by layer.
//!
//! Watching changes nothing of the training. What is watched begins anew where a run is resumed.

use serde::{Deserialize, Serialize};

use crate::bits::Encoding;
use crate::error::{Error, Result};
use crate::nn::net::Net;
use crate::nn::projected::Projected;
use crate::ops::Par;
use crate::shape::check_len;
use crate::train::code_means::CodeMeans;
use crate::train::oscillation::Oscillation;
use crate::train::visits::{Visits, digest};

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
    /// Share of steps that began with codes of the layer with which a step of the epoch had begun before.
    #[serde(default)]
    pub recurring: f64,
    /// Cosine between the coarse gradient by the weights and the true one of the same batch with smooth activations
    /// ([`Net::coarse_and_true`]), in the mean over a few steps of the epoch; `None` if there was none.
    #[serde(default)]
    pub coarse_cosine: Option<f64>,
    /// Share of codes at the end of the epoch that have the sign of their mean over its steps: [`CodeMeans::agreement`].
    #[serde(default)]
    pub majority: f64,
    /// How steady the signs of the codes were over the steps: [`CodeMeans::steadiness`].
    #[serde(default)]
    pub steadiness: f64,
}

/// What an epoch did to the quantized net as a whole. Shares are 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NetReport {
    /// Share of steps whose loss is greater than that of the step before. Each loss is that of its own batch, so even a
    /// net that stands still has about half.
    pub loss_rises: f64,
    /// Number of states with which steps of the epoch began: all codes of all layers; 0 if no weights are quantized.
    pub states: usize,
    /// Share of steps that began in a state with which a step of the epoch had begun before.
    pub recurring: f64,
    /// Share of steps that began in the state with which most did.
    pub most_visited: f64,
    /// Share of steps that began in the state that had the least loss of a batch.
    pub best_visited: f64,
    /// [`LayerReport::coarse_cosine`] of all weights together, floats too.
    pub coarse_cosine: Option<f64>,
}

/// A layer that is watched.
struct Watch {
    layer: String,
    /// Of the codes `before`.
    state: u64,
    visits: Visits,
    /// Those of the last whole epoch.
    visited: Visits,
    coarse: Mean,
    start: Vec<i32>,
    before: Vec<i32>,
    means: CodeMeans,
    oscillation: Oscillation,
    gradient: Vec<f32>,
    flips: usize,
    cosines: f64,
    opposed: usize,
    pairs: usize,
}

/// A mean of what there was.
#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// The mean, which begins anew.
    fn take(&mut self) -> Option<f64> {
        let Mean { sum, count } = std::mem::take(self);
        (count > 0).then(|| sum / count as f64)
    }
}

/// Steps of an epoch at which the coarse gradient is compared with a true one, about.
const PROBES: usize = 4;

/// All layers that are watched.
pub(super) struct Diagnostics {
    watches: Vec<Watch>,
    steps: usize,
    /// Steps from one comparison of gradients to the next.
    every: usize,
    visits: Visits,
    /// Those of the last whole epoch.
    visited: Visits,
    coarse: Mean,
    loss: Option<f32>,
    rises: usize,
    pairs: usize,
}

impl Diagnostics {
    /// Watches the quantized weights of `net` from now on, in epochs of so many steps.
    pub(super) fn new(net: &Net, steps: usize) -> Self {
        let mut watches = Vec::new();
        net.layers().visit("", &mut |path, layer| {
            let Some(weights) = layer.weights().filter(|w| w.quantizer().is_some()) else {
                return;
            };
            let codes = weights.integers().into_owned();
            watches.push(Watch {
                layer: path.to_string(),
                state: state(&codes),
                visits: Visits::default(),
                visited: Visits::default(),
                coarse: Mean::default(),
                start: codes.clone(),
                means: CodeMeans::new(codes.len()),
                oscillation: Oscillation::new(codes.len()),
                before: codes,
                gradient: Vec::new(),
                flips: 0,
                cosines: 0.0,
                opposed: 0,
                pairs: 0,
            });
        });
        Diagnostics {
            watches,
            steps: 0,
            every: (steps / PROBES).max(1),
            visits: Visits::default(),
            visited: Visits::default(),
            coarse: Mean::default(),
            loss: None,
            rises: 0,
            pairs: 0,
        }
    }

    /// Sees the net and the batch before a step: once in a while compares gradients, which leaves the net as it was.
    pub(super) fn before_step(
        &mut self,
        net: &mut Net,
        images: &[u8],
        labels: &[u8],
        par: Par<'_>,
    ) -> Result<()> {
        if !self.steps.is_multiple_of(self.every) {
            return Ok(());
        }
        let gradients = net.coarse_and_true(images, labels, par)?;
        if gradients.is_empty() {
            return Ok(());
        }
        let [coarse, smooth] = [0, 1].map(|i| {
            let all = gradients.iter().map(|g| &g[i][..]);
            all.collect::<Vec<_>>().concat()
        });
        self.coarse.add(cosine(&coarse, &smooth));
        let weights = net.weights();
        let pairs = weights.iter().zip(&gradients);
        let quantized = pairs.filter(|(w, _)| w.quantizer().is_some());
        for (watch, (_, [coarse, smooth])) in self.watches.iter_mut().zip(quantized) {
            watch.coarse.add(cosine(coarse, smooth));
        }
        Ok(())
    }

    /// Sees the net after a step whose batch had the loss `loss`.
    pub(super) fn step(&mut self, net: &Net, loss: f32) -> Result<()> {
        self.steps += 1;
        if let Some(before) = self.loss.replace(loss) {
            self.rises += usize::from(loss > before);
            self.pairs += 1;
        }
        if !self.watches.is_empty() {
            let states = self.watches.iter().map(|watch| watch.state);
            self.visits.visit(digest(states), loss);
        }
        for watch in &mut self.watches {
            watch.visits.visit(watch.state, loss);
        }
        let quantized = net
            .weights()
            .into_iter()
            .filter(|w| w.quantizer().is_some());
        for (watch, weights) in self.watches.iter_mut().zip(quantized) {
            watch.step(weights)?;
        }
        Ok(())
    }

    /// What the epoch did to the whole net, and a new count for the next one.
    pub(super) fn take_net(&mut self) -> NetReport {
        self.visited = std::mem::take(&mut self.visits);
        let seen = self.visited.seen();
        let pairs = std::mem::take(&mut self.pairs).max(1);
        NetReport {
            loss_rises: std::mem::take(&mut self.rises) as f64 / pairs as f64,
            states: seen.states,
            recurring: seen.recurring,
            most_visited: seen.most,
            best_visited: seen.best,
            coarse_cosine: self.coarse.take(),
        }
    }

    /// What the epoch did to each layer, and a new count for the next one; `frozen` are the weights that are, layer by layer.
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

    /// How often the last whole epoch visited `codes` of the layer at the path `layer`, or of all layers.
    pub(super) fn visit_frequency(&self, layer: Option<&str>, codes: &[i32]) -> Result<f64> {
        let of = |watches: &[Watch]| -> Result<Vec<u64>> {
            let len = watches.iter().map(|watch| watch.before.len()).sum();
            check_len("codes", codes.len(), len, "one for each weight")?;
            let mut rest = codes;
            let states = watches.iter().map(|watch| {
                let (own, others) = rest.split_at(watch.before.len());
                rest = others;
                state(own)
            });
            Ok(states.collect())
        };
        let frequency = match layer {
            None => self
                .visited
                .frequency(digest(of(&self.watches)?.into_iter())),
            Some(layer) => {
                let Some(at) = self.watches.iter().position(|watch| watch.layer == layer) else {
                    let known: Vec<&str> = self.watches.iter().map(|w| &w.layer[..]).collect();
                    return Err(Error::unknown("layer", layer, &known));
                };
                let state = of(&self.watches[at..=at])?[0];
                self.watches[at].visited.frequency(state)
            }
        };
        frequency.ok_or_else(|| Error::argument("epochs", 0, "1 or more that have been watched"))
    }
}

/// The state of these codes.
fn state(codes: &[i32]) -> u64 {
    digest(codes.iter().map(|code| *code as u64))
}

/// Whether 0 is a code of these weights.
pub(super) fn has_zero(weights: &Projected) -> bool {
    weights.quantizer().and_then(|q| q.encoding()) != Some(Encoding::Bipolar)
}

impl Watch {
    fn step(&mut self, weights: &Projected) -> Result<()> {
        let codes = weights.integers();
        self.means.add(&codes)?;
        let changed = self.oscillation.step(&codes, &mut self.before);
        if changed > 0 {
            self.state = state(&codes);
        }
        self.flips += changed;
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
        let oscillating = self.oscillation.frequencies();
        let pairs = self.pairs.max(1) as f64;
        let (mut apart, mut size) = (0f64, 0f64);
        for (latent, w) in weights.latent.iter().zip(weights.values()) {
            apart += f64::from(latent - w).powi(2);
            size += f64::from(*w).powi(2);
        }
        let signs = weights.d_weights.iter().zip(weights.values());
        self.visited = std::mem::take(&mut self.visits);
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
            recurring: self.visited.seen().recurring,
            coarse_cosine: self.coarse.take(),
            majority: self.means.agreement(&self.before).unwrap_or_default(),
            steadiness: self.means.steadiness(),
        };
        self.means.clear();
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

    #[test]
    fn what_is_told_is_what_happened() {
        let design = Design::new([2, 2, 1], Block::linear(&[5]), 3, 2);
        let mut net = Net::new(design, 1).unwrap();
        net.set_mode(Mode::Quantized).unwrap();
        let mut watch = Diagnostics::new(&net, 3);
        let mut loss = 2.0;
        let mut turn = |net: &mut Net, gradient: f32| {
            net.layers_mut().visit_mut("", &mut |_, layer: &mut Layer| {
                if let Some(weights) = layer.weights_mut() {
                    weights.latent[0] *= -1.0;
                    weights.d_weights.fill(gradient);
                }
            });
            net.settle().unwrap();
            loss += gradient;
            watch.step(net, loss).unwrap();
        };
        let codes = |net: &Net| {
            net.weights()
                .iter()
                .map(|w| w.integers().into_owned())
                .collect()
        };
        let mut began: Vec<Vec<Vec<i32>>> = Vec::new();
        for gradient in [1.0, 1.0, -1.0] {
            began.push(codes(&net));
            turn(&mut net, gradient);
        }
        assert!(
            watch.visit_frequency(Some("0"), &began[0][0]).is_err(),
            "no epoch"
        );
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
        // There, back and there again; losses of 3, 4 and 3.
        assert!((first.recurring - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(first.coarse_cosine, None);
        // One weight turned: codes of a, -a, a; the others stayed.
        assert_eq!(first.majority, 1.0);
        assert!((first.steadiness - (19.0 + 1.0 / 3.0) / 20.0).abs() < 1e-12);
        let whole = watch.take_net();
        assert_eq!((whole.loss_rises, whole.states), (0.5, 2));
        assert!((whole.recurring - 1.0 / 3.0).abs() < 1e-12);
        assert!((whole.most_visited - 2.0 / 3.0).abs() < 1e-12);
        assert!((whole.best_visited - 2.0 / 3.0).abs() < 1e-12);
        // There, back and there again.
        let of = |layer, codes: &[i32]| watch.visit_frequency(layer, codes).unwrap();
        for (codes, share) in began.iter().zip([2.0 / 3.0, 1.0 / 3.0, 2.0 / 3.0]) {
            assert_eq!(of(Some("0"), &codes[0]), share);
            assert_eq!(of(None, &codes.concat()), share);
        }
        assert_eq!(of(Some("0"), &[0; 20]), 0.0);
        let said =
            |layer, codes: &[i32]| watch.visit_frequency(layer, codes).unwrap_err().to_string();
        assert!(said(Some("0"), &[1; 19]).starts_with("codes is 19 elements long; expected 20"));
        assert!(said(Some("2"), &[1; 20]).starts_with("layer is '2'; expected 0, "));
        assert_eq!(watch.take(&net, &[])[0].flip_ratio, 0.0);
        assert_eq!(watch.take_net(), NetReport::default());
        assert_eq!(cosine(&[0.0], &[1.0]), 0.0);
    }

    #[test]
    fn the_comparison_of_gradients_leaves_the_net_as_it_was() {
        let images: Vec<u8> = (0..16 * 36).map(|i| (i * 89 % 251) as u8).collect();
        let labels: Vec<u8> = (0..16).map(|i| (i % 3) as u8).collect();
        let cosines = [2, 8].map(|bits_a| {
            let blocks = crate::nn::design::arch::parse("4c3p1-mp2-drop0.2-9").unwrap();
            let mut net = Net::new(Design::new([6, 6, 1], blocks, 3, bits_a), 1).unwrap();
            net.set_mode(Mode::Quantized).unwrap();
            net.step(&images, &labels, Par::Caller).unwrap();
            let state = |net: &mut Net| -> Vec<Vec<f32>> {
                let state = net.state();
                state.into_iter().map(|(_, v)| v.to_vec()).collect()
            };
            let before = state(&mut net);
            let mut watch = Diagnostics::new(&net, 1);
            watch
                .before_step(&mut net, &images, &labels, Par::Caller)
                .unwrap();
            assert_eq!(state(&mut net), before);
            let cosine = watch.take_net().coarse_cosine.unwrap();
            let layers = watch.take(&net, &[]);
            assert!(layers.iter().all(|l| l.coarse_cosine.is_some()));
            cosine
        });
        // The finer the staircase, the nearer the coarse gradient is to the true one.
        assert!(cosines[0] > 0.3 && cosines[0] < 0.9999, "{cosines:?}");
        assert!(
            cosines[1] > cosines[0] && cosines[1] <= 1.0 + 1e-9,
            "{cosines:?}"
        );
    }
}
