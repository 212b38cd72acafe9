//! The parameters of a net, as an optimiser sees them.

use super::Net;
use crate::nn::layers::Layer;
use crate::nn::projected::Projected;

/// What a parameter is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Latent weights.
    Weights,
    /// Scale or shift of the normalisation.
    Norm,
    /// The step of an activation.
    Alpha,
    /// The learned step of weights.
    Step,
    /// Shifts of the channels of an RSign or RPReLU.
    Shift,
    /// Slopes of the channels of an RPReLU.
    Slope,
}

/// A parameter with its gradient.
pub enum Parameter<'a> {
    /// Latent weights with all that rules for weights look at.
    Weights(&'a mut Projected),
    /// Any other.
    Other {
        /// What it is.
        role: Role,
        /// The values.
        value: &'a mut [f32],
        /// The gradient, as long.
        gradient: &'a [f32],
    },
}

impl Parameter<'_> {
    /// What it is.
    pub fn role(&self) -> Role {
        match self {
            Parameter::Weights(_) => Role::Weights,
            Parameter::Other { role, .. } => *role,
        }
    }

    /// The values.
    pub fn value(&mut self) -> &mut [f32] {
        self.parts().0
    }

    /// The gradient, as long.
    pub fn gradient(&self) -> &[f32] {
        match self {
            Parameter::Weights(weights) => &weights.d_weights,
            Parameter::Other { gradient, .. } => gradient,
        }
    }

    /// Values and gradient at once.
    pub fn parts(&mut self) -> (&mut [f32], &[f32]) {
        match self {
            Parameter::Weights(weights) => (&mut weights.latent, &weights.d_weights),
            Parameter::Other {
                value, gradient, ..
            } => (value, gradient),
        }
    }
}

impl Net {
    /// Every parameter with its gradient, in a fixed order; call [`Net::settle`] after changing any.
    ///
    /// An alpha is a parameter in quantized mode and if it is learned; scale and shift of a normalisation are if it has
    /// them. Learned steps of weights are apart: [`Net::steps`].
    pub fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let (mut all, learned) = (Vec::new(), self.learn_alpha);
        self.layers_mut()
            .visit_mut("", &mut |_, layer| match layer {
                Layer::Norm(norm) if norm.affine() => {
                    for (value, gradient) in [
                        (&mut norm.gamma, &norm.d_gamma),
                        (&mut norm.beta, &norm.d_beta),
                    ] {
                        all.push(Parameter::Other {
                            role: Role::Norm,
                            value,
                            gradient,
                        });
                    }
                }
                Layer::Act(act) if learned && act.learns() => {
                    all.push(Parameter::Other {
                        role: Role::Alpha,
                        value: &mut act.alpha,
                        gradient: &act.d_alpha,
                    });
                }
                Layer::RPRelu(act) => {
                    for (role, value, gradient) in [
                        (Role::Shift, &mut act.before, &act.d_before),
                        (Role::Slope, &mut act.slope, &act.d_slope),
                        (Role::Shift, &mut act.after, &act.d_after),
                    ] {
                        all.push(Parameter::Other {
                            role,
                            value,
                            gradient,
                        });
                    }
                }
                Layer::RSign(sign) => all.push(Parameter::Other {
                    role: Role::Shift,
                    value: &mut sign.shift,
                    gradient: &sign.d_shift,
                }),
                Layer::Linear(linear) => all.push(Parameter::Weights(&mut linear.weights)),
                Layer::Conv(conv) => all.push(Parameter::Weights(&mut conv.weights)),
                _ => {}
            });
        all
    }

    /// The learned steps of weights (LSQ) with their gradients, in order.
    pub fn steps(&mut self) -> Vec<Parameter<'_>> {
        let mut all = Vec::new();
        self.layers_mut().visit_mut("", &mut |_, layer| {
            if let Some(weights) = layer.weights_mut()
                && weights.learns_step()
            {
                all.push(Parameter::Other {
                    role: Role::Step,
                    value: &mut weights.step,
                    gradient: &weights.d_step,
                });
            }
        });
        all
    }

    /// Everything that training changes in the net, by name, in a fixed order: parameters and running
    /// averages.
    pub fn state(&mut self) -> Vec<(String, &mut [f32])> {
        let mut all: Vec<(String, &mut [f32])> = Vec::new();
        self.layers_mut().visit_mut("", &mut |path, layer| {
            let name = |what: &str| format!("layers.{path}.{what}");
            let weights = match layer {
                Layer::Norm(norm) => {
                    all.push((name("gamma"), &mut norm.gamma));
                    all.push((name("beta"), &mut norm.beta));
                    all.push((name("running_mean"), &mut norm.running_mean));
                    all.push((name("running_var"), &mut norm.running_var));
                    return;
                }
                Layer::Act(act) => {
                    all.push((name("alpha"), &mut act.alpha));
                    return;
                }
                Layer::RPRelu(act) => {
                    all.push((name("before"), &mut act.before));
                    all.push((name("slope"), &mut act.slope));
                    all.push((name("after"), &mut act.after));
                    return;
                }
                Layer::RSign(sign) => {
                    all.push((name("shift"), &mut sign.shift));
                    return;
                }
                Layer::Linear(linear) => &mut linear.weights,
                Layer::Conv(conv) => &mut conv.weights,
                _ => return,
            };
            let learned = weights.learns_step();
            all.push((name("latent"), &mut weights.latent));
            if learned {
                all.push((name("step"), &mut weights.step));
            }
        });
        all
    }
}
