//! Schedules: the learning rate of an epoch as a factor of the first one.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the learning rate falls over the epochs of a phase.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Half a cosine from 1 to almost 0.
    #[default]
    Cosine,
    /// Times `gamma` at each milestone.
    MultiStep {
        /// Epochs of the phase, from 0, at which the rate falls.
        milestones: Vec<usize>,
        /// The factor, above 0 and at most 1.
        gamma: f32,
    },
}

impl Schedule {
    /// Errors if gamma is not above 0 and at most 1, or the milestones do not rise.
    pub fn check(&self) -> Result<()> {
        let Schedule::MultiStep { milestones, gamma } = self else {
            return Ok(());
        };
        if !(*gamma > 0.0 && *gamma <= 1.0) {
            return Err(Error::argument("gamma", gamma, "above 0 and at most 1"));
        }
        if !milestones.is_sorted_by(|a, b| a < b) {
            let expected = "epochs that rise";
            return Err(Error::argument(
                "milestones",
                format_args!("{milestones:?}"),
                expected,
            ));
        }
        Ok(())
    }

    /// The factor of epoch `epoch`, from 0, in a phase of `epochs`.
    pub fn factor(&self, epoch: usize, epochs: usize) -> f32 {
        match self {
            Schedule::Cosine => {
                let done = epoch as f64 / epochs.max(1) as f64;
                (0.5 * (1.0 + (std::f64::consts::PI * done).cos())) as f32
            }
            Schedule::MultiStep { milestones, gamma } => {
                let passed = milestones.iter().filter(|m| **m <= epoch).count();
                gamma.powi(passed as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_those_of_the_definitions() {
        let steps = Schedule::MultiStep {
            milestones: vec![2, 5],
            gamma: 0.5,
        };
        let factors: Vec<f32> = (0..7).map(|e| steps.factor(e, 7)).collect();
        assert_eq!(factors, [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]);
        let cosine = [0, 1, 2, 3].map(|e| Schedule::Cosine.factor(e, 4));
        for (got, expected) in cosine.iter().zip([1.0, 0.853_553, 0.5, 0.146_447]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    #[test]
    fn schedules_that_cannot_be_are_refused() {
        let said = |milestones: Vec<usize>, gamma| {
            let schedule = Schedule::MultiStep { milestones, gamma };
            schedule.check().unwrap_err().to_string()
        };
        assert_eq!(
            said(vec![], 0.0),
            "gamma is 0; expected above 0 and at most 1"
        );
        assert_eq!(
            said(vec![3, 3], 0.1),
            "milestones is [3, 3]; expected epochs that rise"
        );
    }
}
