//! Whether the numbers of a net are finite, and from where those come that are not.
//!
//! The loss alone does not tell: a ReLU, a sign and codes make numbers of NaN again, and a net full of NaN may have a loss.

use super::Net;
use crate::nn::layers::Layer;

/// Numbers with their name.
type Named<'a> = (&'static str, &'a [f32]);

impl Net {
    /// Where a forward and backward pass with the loss `loss` has left the finite numbers, in words: the first layer whose
    /// output is not finite, else the layer that gradients which are not come from, else the loss; `None` if all are finite
    /// that a step is made of.
    pub fn pass_not_finite(&self, loss: f32) -> Option<String> {
        if loss.is_finite() && self.gradient_not_finite().is_none() {
            return None;
        }
        let gradient = || loss.is_finite().then(|| self.gradient_not_finite())?;
        let at = self.not_finite().or_else(gradient);
        Some(at.unwrap_or_else(|| "the loss".to_string()))
    }

    /// The layer that gradients come from which are not finite, in words: the last, since they go backwards. `None` if those
    /// of all parameters are finite.
    pub fn gradient_not_finite(&self) -> Option<String> {
        let mut found = None;
        let alphas = self.learn_alpha && !self.calibrate_alpha;
        self.layers().visit("", &mut |path, layer| {
            if let Some(name) = first_bad(&gradients(layer, alphas)) {
                found = Some(words(path, layer, name));
            }
        });
        found
    }

    /// The first layer with a parameter, a scale of weights or a running average that is not finite, in words; `None` if all
    /// are.
    pub fn state_not_finite(&self) -> Option<String> {
        let mut found = None;
        self.layers().visit("", &mut |path, layer| {
            if found.is_none()
                && let Some(name) = first_bad(&state(layer))
            {
                found = Some(words(path, layer, name));
            }
        });
        found
    }

    /// The layer of parameter `j`, in words: in the order of [`Net::parameters`] and then [`Net::steps`].
    pub(crate) fn layer_of_parameter(&self, j: usize) -> Option<String> {
        let (mut parameters, mut steps) = (Vec::new(), Vec::new());
        self.layers().visit("", &mut |path, layer| {
            for (name, _) in gradients(layer, self.learn_alpha) {
                let all = if name == STEP {
                    &mut steps
                } else {
                    &mut parameters
                };
                all.push((path.to_string(), layer.word()));
            }
        });
        let (path, word) = parameters.into_iter().chain(steps).nth(j)?;
        Some(format!("layer {path} ({word})"))
    }
}

fn words(path: &str, layer: &Layer, name: &str) -> String {
    format!("layer {path} ({}), its {name}", layer.word())
}

/// The gradient that belongs to [`Net::steps`], not to [`Net::parameters`].
const STEP: &str = "gradient by the step";

/// The gradients of a layer by its parameters, those of a quantized ReLU if `alphas`.
fn gradients(layer: &Layer, alphas: bool) -> Vec<Named<'_>> {
    match layer {
        Layer::Norm(norm) if norm.affine() => vec![
            ("gradient by the scale", &norm.d_gamma),
            ("gradient by the shift", &norm.d_beta),
        ],
        Layer::Act(act) if alphas && act.learns() => vec![("gradient by alpha", &act.d_alpha)],
        Layer::RPRelu(act) => vec![
            ("gradient by the shift before", &act.d_before),
            ("gradient by the slope", &act.d_slope),
            ("gradient by the shift after", &act.d_after),
        ],
        Layer::RSign(sign) => vec![("gradient by the shift", &sign.d_shift)],
        Layer::Linear(_) | Layer::Conv(_) => {
            let weights = layer.weights().expect("these layers have weights");
            let mut all: Vec<Named<'_>> = vec![("gradient by the weights", &weights.d_weights)];
            if weights.learns_step() {
                all.push((STEP, &weights.d_step));
            }
            all
        }
        _ => Vec::new(),
    }
}

/// What training changes in a layer, and the scales of its weights.
fn state(layer: &Layer) -> Vec<Named<'_>> {
    match layer {
        Layer::Norm(norm) => vec![
            ("scale", &norm.gamma),
            ("shift", &norm.beta),
            ("running mean", &norm.running_mean),
            ("running variance", &norm.running_var),
        ],
        Layer::Act(act) => vec![("alpha", &act.alpha)],
        Layer::RPRelu(act) => vec![
            ("shift before", &act.before),
            ("slope", &act.slope),
            ("shift after", &act.after),
        ],
        Layer::RSign(sign) => vec![("shift", &sign.shift)],
        Layer::Linear(_) | Layer::Conv(_) => {
            let weights = layer.weights().expect("these layers have weights");
            vec![
                ("latent weights", &weights.latent),
                ("step", &weights.step),
                ("metric", &weights.metric),
                ("scales", weights.scales()),
            ]
        }
        _ => Vec::new(),
    }
}

fn first_bad(all: &[Named<'_>]) -> Option<&'static str> {
    let bad = all.iter().find(|(_, values)| !all_finite(values));
    bad.map(|(name, _)| *name)
}

/// Whether all of `values` are finite.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    // What is not finite has all bits of the exponent. A run at a time, without a branch inside, so that it is of vectors.
    const EXPONENT: u32 = 0x7f80_0000;
    values.chunks(1024).all(|run| {
        let bad = |bad: u32, v: &f32| bad | u32::from(v.to_bits() & EXPONENT == EXPONENT);
        run.iter().fold(0, bad) == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::net::{Design, Kind, Mode};
    use crate::nn::projected::Projected;
    use crate::ops::Par;

    #[test]
    fn every_number_that_training_changes_is_looked_at_and_named() {
        assert!(all_finite(&[0.0, f32::MAX, -1.0]) && all_finite(&[]));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 3000];
            values[2999] = bad;
            assert!(!all_finite(&values));
        }
        for (arch, kind, weights) in [
            ("stem4c3p1-rprelu-react4-act-5", Kind::RSign, "binary-mean"),
            ("4c3p1-res4-mp2-5", Kind::Relu, "lsq-weight:bits=3"),
        ] {
            let blocks = crate::nn::design::arch::parse(arch).unwrap();
            let bits_a = if kind == Kind::Relu { 2 } else { 1 };
            let mut design = Design::new([4, 4, 1], blocks, 3, bits_a);
            (design.kind, design.weights) = (kind, Some(weights.parse().unwrap()));
            let mut net = Net::new(design, 3).unwrap();
            net.set_mode(Mode::Quantized).unwrap();
            let images: Vec<u8> = (0..64).map(|i| (i * 37 % 256) as u8).collect();
            net.step(&images, &[0, 1, 2, 0], Par::Caller).unwrap();
            assert_eq!(
                (net.state_not_finite(), net.pass_not_finite(1.0)),
                (None, None)
            );
            for i in 0..net.state().len() {
                let mut state = net.state();
                let name = state[i].0.clone();
                let kept = std::mem::replace(&mut state[i].1[0], f32::NAN);
                let said = net.state_not_finite().expect(&name);
                let path = name.split('.').collect::<Vec<_>>();
                let path = path[1..path.len() - 1].join(".");
                assert!(
                    said.starts_with(&format!("layer {path} (")),
                    "{name}: {said}"
                );
                net.state()[i].1[0] = kept;
            }
            // The layers of the parameters are those whose gradient is spoilt with theirs.
            let count = net.parameters().len();
            for j in 0..count + net.steps().len() {
                let spoil = |net: &mut Net, with: f32| -> f32 {
                    let mut bad = Vec::new();
                    net.layers_mut().visit_mut("", &mut |_, layer| {
                        spoiled(layer, &mut bad);
                    });
                    let (steps, others): (Vec<_>, Vec<_>) = bad.into_iter().partition(|(s, _)| *s);
                    let all = others.into_iter().chain(steps);
                    let (_, values) = all.into_iter().nth(j).unwrap();
                    std::mem::replace(&mut values[0], with)
                };
                let kept = spoil(&mut net, f32::INFINITY);
                let said = net.pass_not_finite(1.0).unwrap();
                let layer = net.layer_of_parameter(j).unwrap();
                assert!(
                    said.starts_with(&format!("{layer}, its gradient by ")),
                    "{said}"
                );
                spoil(&mut net, kept);
            }
            assert_eq!(net.pass_not_finite(f32::NAN).unwrap(), "the loss");
        }
    }

    /// The gradients of a layer, to be spoilt, and which of them are those of steps.
    fn spoiled<'a>(layer: &'a mut Layer, all: &mut Vec<(bool, &'a mut [f32])>) {
        match layer {
            Layer::Norm(norm) => {
                all.push((false, &mut norm.d_gamma));
                all.push((false, &mut norm.d_beta));
            }
            Layer::Act(act) if act.learns() => all.push((false, &mut act.d_alpha)),
            Layer::RPRelu(act) => {
                all.push((false, &mut act.d_before));
                all.push((false, &mut act.d_slope));
                all.push((false, &mut act.d_after));
            }
            Layer::RSign(sign) => all.push((false, &mut sign.d_shift)),
            Layer::Linear(linear) => spoiled_weights(&mut linear.weights, all),
            Layer::Conv(conv) => spoiled_weights(&mut conv.weights, all),
            _ => {}
        }
    }

    fn spoiled_weights<'a>(weights: &'a mut Projected, all: &mut Vec<(bool, &'a mut [f32])>) {
        let lsq = weights.step[0] != 0.0;
        all.push((false, &mut weights.d_weights));
        if lsq {
            all.push((true, &mut weights.d_step));
        }
    }
}
