//! A recipe with another number of epochs, everything that counts in epochs scaled along.

use super::Recipe;
use crate::error::{Error, Result};
use crate::train::rule::Rule;
use crate::train::schedule::Schedule;

impl Recipe {
    /// The recipe with `epochs` epochs in all: both phases keep their shares, and with them go milestones and
    /// steps of the schedule, what grows from epoch to epoch, and the epochs of [`Recipe::alpha_stage`]. One epoch in so
    /// many of `forward-backtrack` stays, unless there are fewer; then it is the last one.
    ///
    /// Errors if a phase would be left without an epoch, or the recipe has none.
    pub fn shortened(&self, epochs: usize) -> Result<Self> {
        let mut short = self.clone();
        let phases = usize::from(self.float_epochs > 0) + usize::from(self.epochs > 0);
        if epochs < phases || epochs > 1 << 20 || phases == 0 {
            let expected = format!("{phases} to 2^20, with an epoch for each phase of the recipe");
            return Err(Error::argument("epochs in all", epochs, expected));
        }
        let all = self.float_epochs as f64 + self.epochs as f64;
        short.float_epochs = match phases {
            2 => {
                let share = epochs as f64 * self.float_epochs as f64 / all;
                (share.round() as usize).clamp(1, epochs - 1)
            }
            _ if self.float_epochs > 0 => epochs,
            _ => 0,
        };
        short.epochs = epochs - short.float_epochs;
        let (before, after) = match self.epochs {
            0 => (self.float_epochs, short.float_epochs),
            _ => (self.epochs, short.epochs),
        };
        let ratio = after as f64 / before as f64;
        let scaled = |n: usize| (n as f64 * ratio).round() as usize;
        short.alpha_stage = scaled(self.alpha_stage);
        short.rho_growth = self.rho_growth.powf((1.0 / ratio) as f32);
        match &mut short.schedule {
            Schedule::MultiStep { milestones, .. } => {
                let mut last = 0;
                for at in milestones {
                    *at = scaled(*at).max(last + 1);
                    last = *at;
                }
            }
            Schedule::Every { epochs, .. } => *epochs = scaled(*epochs).max(1),
            _ => {}
        }
        match &mut short.rule {
            Rule::BinaryRelax { growth, .. } => *growth = growth.powf((1.0 / ratio) as f32),
            Rule::ForwardBacktrack { period, .. } => *period = (*period).min(short.epochs.max(1)),
            _ => {}
        }
        short.check()?;
        Ok(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::recipe::named::{self, NAMED};

    #[test]
    fn phases_and_schedules_keep_their_shares() {
        let short = |name: &str, epochs| named::load(name).unwrap().shortened(epochs).unwrap();
        let r = short("lenet5-2bit-relu", 12);
        assert_eq!((r.float_epochs, r.epochs), (2, 10));
        let steps = |r: &Recipe| match &r.schedule {
            Schedule::MultiStep { milestones, .. } => milestones.clone(),
            Schedule::Every { epochs, .. } => vec![*epochs],
            _ => Vec::new(),
        };
        assert_eq!(steps(&r), [4, 8]);
        let r = short("lenet5-float", 5);
        assert_eq!((r.float_epochs, r.epochs, steps(&r)), (5, 0, vec![2, 4]));
        let r = short("lenet5-blaq", 4);
        assert_eq!((r.float_epochs, r.epochs, steps(&r)), (0, 4, vec![1]));
        assert_eq!(r.rule, Rule::ForwardBacktrack { a: 0.6, period: 4 });
        for named in NAMED {
            let recipe = named::load(named.name).unwrap();
            let all = recipe.float_epochs + recipe.epochs;
            assert_eq!(recipe.shortened(all).unwrap(), recipe, "{}", named.name);
            let short = recipe.shortened(3).unwrap();
            assert_eq!(short.float_epochs + short.epochs, 3, "{}", named.name);
        }
        let r = named::load("lenet5-bcgd").unwrap();
        assert!(r.shortened(1).is_err() && r.shortened(0).is_err());
    }
}
