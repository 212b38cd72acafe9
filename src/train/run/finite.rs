//! What a run does where numbers are not finite: it stops, and neither a checkpoint nor a model is made of them.

use super::Run;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::freeze;

/// The last step that was made.
#[derive(Clone, Copy, Default)]
pub(super) struct LastStep {
    epoch: usize,
    step: usize,
    loss: f32,
}

impl LastStep {
    /// The error that what is not finite after this step comes from `layer`.
    fn diverged(self, layer: String) -> Error {
        let LastStep { epoch, step, loss } = self;
        Error::Diverged {
            epoch,
            step,
            loss,
            layer,
        }
    }
}

impl Run {
    /// The step that runs, whose loss is `loss`.
    fn step_now(&self, loss: f32) -> LastStep {
        LastStep {
            epoch: self.done + 1,
            step: self.so_far.steps + 1,
            loss,
        }
    }

    /// The error of the step that runs: its loss is `loss`, and what is not finite comes from `layer`.
    pub(super) fn diverged(&self, loss: f32, layer: String) -> Error {
        self.step_now(loss).diverged(layer)
    }

    /// Remembers the step that was made, before it is counted.
    pub(super) fn made(&mut self, loss: f32) {
        self.last = self.step_now(loss);
    }

    /// Errors with [`Error::Diverged`], of the last step, unless parameters and running averages are finite.
    pub(super) fn check_net(&self) -> Result<()> {
        match self.net.state_not_finite() {
            None => Ok(()),
            Some(layer) => Err(self.last.diverged(layer)),
        }
    }

    /// Errors with [`Error::Diverged`], of the last step, unless all that a checkpoint holds is finite.
    pub(in crate::train) fn check_finite(&self) -> Result<()> {
        self.check_net()?;
        let Some((j, what)) = self.memories.not_finite() else {
            return Ok(());
        };
        let layer = self.net.layer_of_parameter(j);
        let layer = layer.unwrap_or_else(|| "the net".to_string());
        Err(self
            .last
            .diverged(format!("{layer}, the optimiser's {what}")))
    }

    /// The packed model of the net as it is now: [`freeze`].
    ///
    /// Errors as that does, and with [`Error::Diverged`] if a parameter or running average is not finite.
    pub fn to_model(&self) -> Result<Model> {
        self.check_net()?;
        freeze(&self.net)
    }
}
