//! Schedules: a factor of the first learning rate, at each step of a phase.

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};
use crate::train::written;

/// Where in a phase a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Epochs of the phase that are over.
    pub epoch: usize,
    /// Epochs of the phase.
    pub epochs: usize,
    /// Steps of the phase that are over.
    pub step: usize,
}

/// How the learning rate falls in a phase. A recipe writes `"cosine"`, or `{ kind = "every", epochs = 5, factor = 0.1 }`.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Schedule {
    /// Half a cosine from 1 to almost 0, over the epochs.
    #[default]
    Cosine,
    /// The same in every epoch.
    Constant,
    /// Times `gamma` at each milestone.
    MultiStep {
        /// Epochs of the phase, from 0, at which the rate falls.
        milestones: Vec<usize>,
        /// The factor, above 0 and at most 1.
        gamma: f32,
    },
    /// Times `factor` after every `epochs` epochs.
    Every {
        /// Epochs between, 1 or more.
        epochs: usize,
        /// The factor, above 0 and at most 1.
        factor: f32,
    },
    /// Geometrically from 1 in the first epoch to `end` in the last: BinaryConnect, arXiv 1511.00363.
    Exponential {
        /// The factor of the last epoch, above 0 and at most 1.
        end: f32,
    },
    /// 1 / (t + 1), t the steps that are over: with lr = 1 / mu it is that of strongly convex losses.
    InverseTime,
    /// 1 / sqrt(t + 1), t the steps that are over: with lr = c it is that of convex losses.
    InverseRoot,
}

/// The same, as a recipe writes it.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Written {
    Cosine {},
    Constant {},
    MultiStep { milestones: Vec<usize>, gamma: f32 },
    Every { epochs: usize, factor: f32 },
    Exponential { end: f32 },
    InverseTime {},
    InverseRoot {},
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(match written::read(deserializer)? {
            Written::Cosine {} => Schedule::Cosine,
            Written::Constant {} => Schedule::Constant,
            Written::MultiStep { milestones, gamma } => Schedule::MultiStep { milestones, gamma },
            Written::Every { epochs, factor } => Schedule::Every { epochs, factor },
            Written::Exponential { end } => Schedule::Exponential { end },
            Written::InverseTime {} => Schedule::InverseTime,
            Written::InverseRoot {} => Schedule::InverseRoot,
        })
    }
}

impl Schedule {
    /// Errors if a factor is not above 0 and at most 1, the milestones do not rise, or epochs are 0.
    pub fn check(&self) -> Result<()> {
        let factor = |name: &'static str, value: f32| match value > 0.0 && value <= 1.0 {
            true => Ok(()),
            false => Err(Error::argument(name, value, "above 0 and at most 1")),
        };
        match self {
            Schedule::MultiStep { milestones, gamma } => {
                factor("gamma", *gamma)?;
                if !milestones.is_sorted_by(|a, b| a < b) {
                    let value = format!("{milestones:?}");
                    return Err(Error::argument("milestones", value, "epochs that rise"));
                }
                Ok(())
            }
            Schedule::Every { epochs: 0, .. } => {
                Err(Error::argument("epochs of the schedule", 0, "1 or more"))
            }
            Schedule::Every { factor: f, .. } => factor("factor", *f),
            Schedule::Exponential { end } => factor("end", *end),
            _ => Ok(()),
        }
    }

    /// The factor at `at`.
    pub fn factor(&self, at: Moment) -> f32 {
        let done = at.epoch as f64 / at.epochs.max(1) as f64;
        match self {
            Schedule::Cosine => cosine(1.0, 0.0, done),
            Schedule::Constant => 1.0,
            Schedule::MultiStep { milestones, gamma } => {
                let passed = milestones.iter().filter(|m| **m <= at.epoch).count();
                gamma.powi(passed as i32)
            }
            Schedule::Every { epochs, factor } => {
                factor.powi((at.epoch / (*epochs).max(1)).min(1 << 20) as i32)
            }
            Schedule::Exponential { end } => {
                let share = at.epoch as f64 / at.epochs.saturating_sub(1).max(1) as f64;
                f64::from(*end).powf(share) as f32
            }
            Schedule::InverseTime => (1.0 / (at.step as f64 + 1.0)) as f32,
            Schedule::InverseRoot => (1.0 / (at.step as f64 + 1.0).sqrt()) as f32,
        }
    }
}

/// Half a cosine from `start`, where `done` is 0, to `end`, where it is 1.
pub fn cosine(start: f32, end: f32, done: f64) -> f32 {
    let share = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
    (f64::from(end) + (f64::from(start) - f64::from(end)) * share) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: usize, epochs: usize) -> Moment {
        let step = 10 * epoch;
        Moment {
            epoch,
            epochs,
            step,
        }
    }

    #[test]
    fn factors_are_those_of_the_definitions() {
        let steps = Schedule::MultiStep {
            milestones: vec![2, 5],
            gamma: 0.5,
        };
        let factors: Vec<f32> = (0..7).map(|e| steps.factor(at(e, 7))).collect();
        assert_eq!(factors, [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]);
        let cosine = [0, 1, 2, 3].map(|e| Schedule::Cosine.factor(at(e, 4)));
        for (got, expected) in cosine.iter().zip([1.0, 0.853_553, 0.5, 0.146_447]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        let near = |schedule: Schedule, e: usize, expected: f32| {
            let got = schedule.factor(at(e, 11));
            assert!((got - expected).abs() < 1e-6, "{schedule:?} {e}: {got}");
        };
        let (epochs, factor) = (5, 0.1);
        for (e, expected) in [(0, 1.0), (4, 1.0), (5, 0.1), (10, 0.01)] {
            near(Schedule::Every { epochs, factor }, e, expected);
        }
        for (e, expected) in [(0, 1.0), (5, 0.1), (10, 0.01)] {
            near(Schedule::Exponential { end: 0.01 }, e, expected);
        }
        near(Schedule::Constant, 9, 1.0);
        near(Schedule::InverseTime, 1, 1.0 / 11.0);
        near(Schedule::InverseRoot, 8, 1.0 / 9.0);
        assert_eq!([0.0, 1.0].map(|d| super::cosine(0.1, 0.01, d)), [0.1, 0.01]);
    }

    #[test]
    fn schedules_read_by_name_and_by_table() {
        let read = |text: &str| serde_json::from_str::<Schedule>(text);
        assert_eq!(read(r#""cosine""#).unwrap(), Schedule::Cosine);
        let every = read(r#"{"kind": "every", "epochs": 15, "factor": 0.5}"#).unwrap();
        let text = serde_json::to_string(&every).unwrap();
        assert_eq!(read(&text).unwrap(), every);
        assert!(read(r#""multi-step""#).is_err());
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
