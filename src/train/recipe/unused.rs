//! Fields that other fields of the recipe leave without use: what sets them is refused, for nobody would see it.

use serde_json::Value;

use super::{Optimizer, Recipe};
use crate::error::{Error, Result};
use crate::nn::net::Kind;
use crate::train::rule::Rule;

impl Recipe {
    /// The fields that change nothing beside the others, and which of those makes it so.
    fn unused(&self) -> Vec<(&'static str, &'static str)> {
        let mut all = Vec::new();
        let mut add =
            |names: &[&'static str], why| all.extend(names.iter().map(|name| (*name, why)));
        if self.bits_w == 32 {
            let names = [
                "weights",
                "coarse_w",
                "rule",
                "rho_growth",
                "clip",
                "glorot_rate",
                "dampening",
                "freezing",
            ];
            add(&names, "bits_w = 32, weights that stay floats");
        }
        let has_alpha = self.bits_a != 32 && self.activation == Kind::Relu;
        if !has_alpha {
            let why = match self.bits_a {
                32 => "bits_a = 32, activations that stay floats",
                _ => "sign activations, which have no alpha",
            };
            let names = [
                "rounding",
                "coarse_alpha",
                "alpha_rate",
                "alpha_clamp",
                "alpha_range",
                "alpha_stage",
                "alpha_refit",
            ];
            add(&names, why);
        } else if !self.learn_alpha {
            let names = ["coarse_alpha", "alpha_rate", "alpha_clamp"];
            add(&names, "learn_alpha = false");
        }
        // In floats a sign with shifts is the function of its coarse gradient; the others have their own.
        if self.bits_a == 32 && self.activation != Kind::RSign {
            add(&["coarse_x"], "bits_a = 32, activations that stay floats");
        }
        match self.rule {
            Rule::Bcgd { .. } => {}
            Rule::Bop { .. } => {
                let names = ["rho_growth", "clip", "glorot_rate"];
                add(&names, "rule = bop, which flips weights and knows no step");
            }
            _ => add(&["rho_growth"], "a rule other than bcgd"),
        }
        match self.optimizer {
            Optimizer::Sgd => add(&["beta1", "beta2", "eps"], "optimizer = sgd"),
            Optimizer::Adam => add(&["momentum"], "optimizer = adam"),
        }
        if self.float_epochs == 0 {
            add(&["float_lr"], "float_epochs = 0");
        }
        all
    }

    /// Errors, naming the field, if one that is not used is not as it is by default.
    pub(super) fn check_unused(&self) -> Result<()> {
        let plain = fields(&Recipe::default());
        let own = fields(self);
        for (name, why) in self.unused() {
            if own[name] != plain[name] {
                return Err(refused(name, &own[name], why));
            }
        }
        Ok(())
    }

    /// The recipe after a change of the fields that are `given`: what they leave of the others unused is as by default,
    /// and without `bits_w` among them `weights` tells the bits.
    ///
    /// Errors if a given field is not used, whatever it says, or [`Recipe::check`] refuses.
    pub fn changed(mut self, given: &dyn Fn(&str) -> bool) -> Result<Self> {
        self.drop_unused(given)?;
        self.check()?;
        match self.unused().into_iter().find(|(name, _)| given(name)) {
            None => Ok(self),
            Some((name, why)) => Err(refused(name, &fields(&self)[name], why)),
        }
    }

    /// Fields that are not used as they are by default, but for those of `keep`; and `bits_w` as `weights` has it, unless
    /// it is kept.
    pub(in crate::train) fn drop_unused(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        if let Some(bits) = self.weights.as_ref().and_then(|w| w.bits())
            && self.bits_w != 32
            && !keep("bits_w")
        {
            self.bits_w = bits;
        }
        let plain = fields(&Recipe::default());
        let mut own = fields(self);
        let mut changes = false;
        for (name, _) in self.unused() {
            if !keep(name) && own[name] != plain[name] {
                own[name] = plain[name].clone();
                changes = true;
            }
        }
        if changes {
            *self = serde_json::from_value(own).map_err(|e| Error::format("a recipe", e))?;
        }
        Ok(())
    }
}

fn refused(name: &'static str, value: &Value, why: &str) -> Error {
    let value = match value {
        // As it was written: JSON numbers have 64 bits.
        Value::Number(number) => (number.as_f64().unwrap_or_default() as f32).to_string(),
        Value::String(text) => text.clone(),
        Value::Object(table) if table.contains_key("kind") => {
            table["kind"].as_str().unwrap_or_default().to_string()
        }
        other => other.to_string(),
    };
    Error::argument(
        name,
        value,
        format_args!("nothing: it is not used with {why}"),
    )
}

/// The recipe as JSON, by field.
fn fields(recipe: &Recipe) -> Value {
    serde_json::to_value(recipe).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ste::CoarseX;
    use crate::train::recipe::named::{self, NAMED};

    fn said(text: &str) -> String {
        let read = Recipe::from_toml("it", text);
        read.err().map_or("taken".to_string(), |e| e.to_string())
    }

    #[test]
    fn what_nobody_would_see_is_refused_by_name() {
        let (floats, alpha) = ("bits_w = 32, weights that", "sign activations, which have");
        let sign = "activation = \"sign\"\nbits_a = 1\n";
        for (text, name, why) in [
            (
                "bits_w = 32\nweights = \"binary-mean\"",
                "weights is binary-mean",
                floats,
            ),
            ("bits_w = 32\nrule = \"bop\"", "rule is bop", floats),
            ("bits_w = 32\nrule = \"bcgd\"", "rule is bcgd", floats),
            ("bits_w = 32\ndampening = 0.5", "dampening is 0.5", floats),
            ("bits_w = 32\nclip = 1", "clip is 1;", floats),
            ("bits_w = 32\n[freezing]", "freezing is {", floats),
            (
                &format!("{sign}rounding = \"ceil\""),
                "rounding is ceil",
                alpha,
            ),
            (
                &format!("{sign}coarse_alpha = \"alpha-ae\""),
                "coarse_alpha is alpha-ae",
                alpha,
            ),
            (&format!("{sign}alpha_stage = 2"), "alpha_stage is 2", alpha),
            (
                &format!("{sign}alpha_range = [1, 2]"),
                "alpha_range is [1",
                alpha,
            ),
            (
                "learn_alpha = false\nalpha_rate = 0.1",
                "alpha_rate is 0.1",
                "learn_alpha",
            ),
            (
                "bits_a = 32\ncoarse_x = \"relu\"",
                "coarse_x is relu",
                "bits_a = 32",
            ),
            (
                "bits_a = 32\nrounding = \"nearest\"",
                "rounding is nearest",
                "bits_a = 32",
            ),
            (
                "learn_alpha = false\ncoarse_alpha = \"alpha-two\"",
                "coarse_alpha is",
                "learn_alpha",
            ),
            (
                "rule = \"binary-connect\"\nrho_growth = 2",
                "rho_growth is 2;",
                "other than bcgd",
            ),
            (
                "rule = \"bop\"\nglorot_rate = true",
                "glorot_rate is true",
                "rule = bop",
            ),
            (
                "optimizer = \"adam\"\nmomentum = 0.9",
                "momentum is 0.9",
                "optimizer = adam",
            ),
            ("beta1 = 0.9", "beta1 is 0.9", "optimizer = sgd"),
            (
                "float_epochs = 0\nfloat_lr = 0.1",
                "float_lr is 0.1",
                "float_epochs = 0",
            ),
        ] {
            let said = said(text);
            assert!(said.contains(name), "{text}: {said}");
            assert!(
                said.contains("expected nothing: it is not used with"),
                "{said}"
            );
            assert!(said.contains(why), "{text}: {said}");
        }
        let bits = said("bits_w = 2\nweights = \"binary-mean\"");
        assert!(bits.ends_with("bits_w is 2; expected 1, the bits of weights = binary-mean"));
        let rule = said("weights = \"loss-aware-binary\"");
        assert!(
            rule.contains("rule is bcgd; expected loss-aware or forward-backtrack"),
            "{rule}"
        );
        let one_sided = said(&format!("{sign}coarse_x = \"clipped-relu\""));
        assert!(
            one_sided.contains("coarse_x is clipped-relu; expected hard-tanh, piecewise-poly or"),
            "{one_sided}"
        );
        for text in [
            &format!("{sign}coarse_x = \"piecewise-poly\""),
            "bits_w = 32\nfloat_first = true",
            "bits_w = 4\nweights = \"grid-det:delta=0.125\"",
            "optimizer = \"adam\"\nbeta1 = 0.5",
            "learn_alpha = false\nalpha_stage = 2",
        ] {
            assert_eq!(said(text), "taken", "{text}");
        }
        // Not read from text, so that only what is not as by default is seen.
        let mut recipe = Recipe {
            optimizer: Optimizer::Adam,
            ..Recipe::default()
        };
        recipe.check().unwrap();
        recipe.momentum = 0.5;
        assert!(
            recipe
                .check()
                .unwrap_err()
                .to_string()
                .starts_with("momentum is 0.5")
        );
    }

    #[test]
    fn weights_tell_their_bits_and_changes_drop_what_they_leave_unused() {
        let read = |text: &str| Recipe::from_toml("it", text).unwrap();
        assert_eq!(read("weights = \"ternary-exact\"").bits_w, 2);
        assert_eq!(read("weights = \"relaxed:of=dorefa:bits=5\"").bits_w, 5);
        let base = named::load("lenet5-2bit-relu").unwrap();
        assert_eq!(base.coarse_x, Some(CoarseX::Relu));
        let floats = base.with_toml("it", "bits_a = 32").unwrap();
        assert_eq!((floats.coarse_x, floats.bits_a), (None, 32));
        let base = named::load("lenet5-binary-connect").unwrap();
        let ternary = base.with_toml("it", "weights = \"ternary-twn\"").unwrap();
        assert_eq!((ternary.bits_w, ternary.clip), (2, base.clip));
        let floats = base.with_toml("it", "bits_w = 32").unwrap();
        assert_eq!((floats.weights, floats.clip), (None, 0.0));
        let said = |text: &str| base.with_toml("it", text).unwrap_err().to_string();
        assert!(said("bits_w = 2").contains("expected 1, the bits of weights = binary-plain"));
        assert!(said("momentum = 0.9").contains("momentum is 0.9; expected nothing"));
        for named in NAMED {
            let recipe = named::load(named.name).unwrap();
            let mut dropped = recipe.clone();
            dropped.drop_unused(&|_| false).unwrap();
            assert_eq!(dropped, recipe, "{}", named.name);
        }
    }
}
