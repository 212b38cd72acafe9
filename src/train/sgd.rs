//! Stochastic gradient descent with momentum and weight decay, in torch's convention.

use crate::error::Result;
use crate::ops::Par;
use crate::shape::check_len;

/// Elements that one thread updates at a time.
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

    /// As [`Sgd::step`], the elements shared out to threads.
    pub fn step_on(
        &self,
        value: &mut [f32],
        gradient: &[f32],
        velocity: &mut [f32],
        par: Par<'_>,
    ) -> Result<()> {
        check_len("gradient", gradient.len(), value.len(), "as the values")?;
        check_len("velocity", velocity.len(), value.len(), "as the values")?;
        par.enter(|| self.halve(value, gradient, velocity, par));
        Ok(())
    }

    /// Halves the slices until they are short, and does the pieces on whatever thread is free.
    fn halve(&self, value: &mut [f32], gradient: &[f32], velocity: &mut [f32], par: Par<'_>) {
        if value.len() <= CHUNK {
            let stepped = self.step(value, gradient, velocity);
            return stepped.expect("pieces of slices as long as each other are as long");
        }
        let at = value.len() / 2;
        let (value, value_right) = value.split_at_mut(at);
        let (gradient, gradient_right) = gradient.split_at(at);
        let (velocity, velocity_right) = velocity.split_at_mut(at);
        par.join(
            || self.halve(value, gradient, velocity, par),
            || self.halve(value_right, gradient_right, velocity_right, par),
        );
    }
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
}
