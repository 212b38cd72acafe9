//! A recipe as TOML text: whole, or as changes to another.

use serde::de::DeserializeOwned;

use super::Recipe;
use crate::error::{Error, Result};
use crate::train::written;

impl Recipe {
    /// Reads a recipe from TOML; `what` names it in errors.
    ///
    /// Without `bits_w`, `weights` tells the bits. Errors, with line and field, if it is not TOML, has a field or name
    /// that is none (the nearest known one is told) or a field that the others leave without use, or [`Recipe::check`]
    /// refuses.
    pub fn from_toml(what: &str, text: &str) -> Result<Self> {
        let recipe: Recipe = read_toml(what, text)?;
        let given: toml::Table = read_toml(what, text)?;
        let changed = recipe.changed(&|name| given.contains_key(name));
        changed.map_err(|e| Error::format(what, e))
    }

    /// This recipe with the fields of a TOML text in the place of its own; `what` names the text in errors. Fields of
    /// this one that the text leaves without use are as by default.
    ///
    /// Errors as [`Recipe::from_toml`] does.
    pub fn with_toml(&self, what: &str, text: &str) -> Result<Self> {
        // Read as a recipe first, for then an error knows its line.
        read_toml::<Recipe>(what, text)?;
        let changes: toml::Table = read_toml(what, text)?;
        let mut fields = serde_json::to_value(self).map_err(|e| Error::format(what, e))?;
        for (name, value) in &changes {
            fields[name] = serde_json::to_value(value).map_err(|e| Error::format(what, e))?;
        }
        let recipe: Recipe = serde_json::from_value(fields).map_err(|e| Error::format(what, e))?;
        let changed = recipe.changed(&|name| changes.contains_key(name));
        changed.map_err(|e| Error::format(what, e))
    }
}

/// What a TOML text says; an error tells the line and the nearest known name.
fn read_toml<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| {
        let line = e
            .span()
            .map(|span| text[..span.start].matches('\n').count() + 1);
        let line = line.map_or(String::new(), |line| format!("line {line}: "));
        Error::format(what, format!("{line}{}", written::suggest(e.message())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::activation::AlphaLearning;
    use crate::train::recipe::named;
    use crate::train::schedule::Schedule;

    #[test]
    fn how_alpha_is_learned_is_read_and_reaches_the_net() {
        let text = "alpha_rate = 0.1\nalpha_clamp = 2\nalpha_range = [0.01, 1]";
        let recipe = Recipe::from_toml("it", text).unwrap();
        let alpha = recipe.design([28, 28, 1], 10).unwrap().alpha;
        let expected = AlphaLearning {
            rate: 0.1,
            clamp: 2.0,
            range: [0.01, 1.0],
        };
        assert_eq!(alpha, expected);
        let plain = Recipe::default().design([28, 28, 1], 10).unwrap().alpha;
        assert_eq!(plain, AlphaLearning::default());
    }

    #[test]
    fn fields_of_a_text_take_the_place_of_a_recipes_own() {
        let base = named::load("lenet5-blaq").unwrap();
        assert_eq!(base.with_toml("it", "").unwrap(), base);
        let changed = base.with_toml("it", "epochs = 3\nschedule = \"cosine\"\nlr = 0.1");
        let expected = Recipe {
            epochs: 3,
            schedule: Schedule::Cosine,
            lr: 0.1,
            ..base.clone()
        };
        assert_eq!(changed.unwrap(), expected);
        let said = |text: &str| base.with_toml("it", text).unwrap_err().to_string();
        assert!(said("lr = 0.1\nepoch = 3").contains("line 2: a field is 'epoch'"));
        assert!(said("alpha_rat = 0.1").ends_with("did you mean alpha_rate?"));
        // Not with the rule of that recipe.
        assert!(said("optimizer = \"sgd\"").contains("expected adam with a loss-aware rule"));
    }
}
