//! Stochastic gradient descent with momentum and weight decay, in torch's convention.

use crate::error::Result;
use crate::nn::net::{Parameter, Role};
use crate::ops::Par;
use crate::shape::check_len;
use crate::train::rule::Rule;

/// Elements that one thread updates at a time: they stay in its first-level cache from blend to step.
const CHUNK: usize = 4096;

/// The numbers of a step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f32,
    /// Momentum, 0 to 1.
    pub momentum: f32,
    /// Weight decay, added to the gradient as `weight_decay * value`.
    pub weight_decay: f32,
}

impl Sgd {
    /// One step, element by element:
    ///
    /// ```text
    ///   velocity = momentum * velocity + (gradient + weight_decay * value)
    ///   value    = value - lr * velocity
    /// ```
    ///
    /// Errors if the lengths differ.
    pub fn step(&self, value: &mut [f32], gradient: &[f32], velocity: &mut [f32]) -> Result<()> {
        check_len("gradient", gradient.len(), value.len(), "as the values")?;
        check_len("velocity", velocity.len(), value.len(), "as the values")?;
        for ((value, g), velocity) in value.iter_mut().zip(gradient).zip(velocity) {
            *velocity = self.momentum * *velocity + (g + self.weight_decay * *value);
            *value -= self.lr * *velocity;
        }
        Ok(())
    }
}

/// Velocities of a net's parameters.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Velocities(Vec<Vec<f32>>);

impl Velocities {
    /// Zeros, as long as `parameters`.
    pub fn zeros(parameters: &[Parameter<'_>]) -> Self {
        Velocities(
            parameters
                .iter()
                .map(|p| vec![0.0; p.value.len()])
                .collect(),
        )
    }

    /// The velocities, in the order of the parameters.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        self.0.iter_mut()
    }

    /// Blends the latent weights by `rule`, then steps every parameter.
    ///
    /// Errors if these are not the velocities of such parameters.
    pub fn update(
        &mut self,
        parameters: &mut [Parameter<'_>],
        rule: Rule,
        sgd: Sgd,
        par: Par<'_>,
    ) -> Result<()> {
        check_len(
            "velocities",
            self.0.len(),
            parameters.len(),
            "a vector each",
        )?;
        for (parameter, velocity) in parameters.iter_mut().zip(&mut self.0) {
            let (value, gradient) = (&mut *parameter.value, parameter.gradient);
            check_len("gradient", gradient.len(), value.len(), "as the values")?;
            check_len("velocity", velocity.len(), value.len(), "as the values")?;
            if parameter.role == Role::Weights && !parameter.projected.is_empty() {
                rule.blend(value, parameter.projected);
            }
            let chunk = |value: &mut [f32], gradient: &[f32], velocity: &mut [f32]| {
                let stepped = sgd.step(value, gradient, velocity);
                stepped.expect("chunks of slices as long as each other are as long as each other");
            };
            par.enter(|| halve(value, gradient, velocity, par, &chunk));
        }
        Ok(())
    }
}

/// Halves the slices until they are short, and does the pieces on whatever thread is free.
fn halve(
    value: &mut [f32],
    gradient: &[f32],
    velocity: &mut [f32],
    par: Par<'_>,
    chunk: &(impl Fn(&mut [f32], &[f32], &mut [f32]) + Sync),
) {
    if value.len() <= CHUNK {
        return chunk(value, gradient, velocity);
    }
    let at = value.len() / 2;
    let (value, value_right) = value.split_at_mut(at);
    let (gradient, gradient_right) = gradient.split_at(at);
    let (velocity, velocity_right) = velocity.split_at_mut(at);
    par.join(
        || halve(value, gradient, velocity, par, chunk),
        || halve(value_right, gradient_right, velocity_right, par, chunk),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_steps_are_those_of_torch() {
        // torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.01), p = 1, gradients 0.5, 0.5, -1.
        let sgd = Sgd {
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 0.01,
        };
        let (mut value, mut velocity) = ([1.0], [0.0]);
        let mut seen = Vec::new();
        for gradient in [0.5, 0.5, -1.0] {
            sgd.step(&mut value, &[gradient], &mut velocity).unwrap();
            seen.push(value[0]);
        }
        for (got, expected) in seen.iter().zip([0.949, 0.852_151, 0.864_134_7]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        assert!(sgd.step(&mut value, &[0.0; 2], &mut velocity).is_err());
    }

    #[test]
    fn weights_are_blended_before_the_step_and_nothing_else_is() {
        let rule = Rule::Bcgd { rho: 0.5 };
        let sgd = Sgd {
            lr: 1.0,
            momentum: 0.0,
            weight_decay: 0.0,
        };
        for (role, expected) in [(Role::Weights, [2.0, -2.5]), (Role::Norm, [3.0, -4.0])] {
            let mut value = [3.0, -4.0];
            let mut all = [Parameter {
                role,
                value: &mut value,
                gradient: &[0.0; 2],
                projected: &[1.0, -1.0],
            }];
            let mut velocities = Velocities::zeros(&all);
            velocities.update(&mut all, rule, sgd, Par::Caller).unwrap();
            assert_eq!(value, expected, "{role:?}");
        }
    }
}
