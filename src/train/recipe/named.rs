//! The recipes that come with the crate: TOML files, to be run by name or copied and edited.

use std::path::Path;

use super::Recipe;
use crate::error::{Error, Result};

/// A recipe that comes with the crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

impl Named {
    /// What it is for: the first line of the file.
    pub fn about(&self) -> &'static str {
        let line = self.text.lines().next().unwrap_or_default();
        line.trim_start_matches('#').trim()
    }
}

/// A file of the folder `recipes`, by its name.
macro_rules! named {
    ($($name:literal),* $(,)?) => {
        &[$(Named {
            name: $name,
            text: include_str!(concat!("../recipes/", $name, ".toml")),
        }),*]
    };
}

/// All of them.
pub const NAMED: &[Named] = named![
    "default",
    "lenet5-float",
    "lenet5-2bit-identity",
    "lenet5-2bit-relu",
    "lenet5-2bit-clipped",
    "lenet5-4bit-identity",
    "lenet5-4bit-relu",
    "lenet5-4bit-clipped",
    "lenet5-adam",
    "lenet5-binary-connect",
    "lenet5-bcgd",
    "lenet5-sr",
    "lenet5-sr-big",
    "lenet5-r",
    "lenet5-r-grid",
    "lenet5-laq",
    "lenet5-blaq",
    "lenet5-packed",
    "mlp-blaq",
    "mlp-float",
    "react-small",
    "cifar10-vgg11-bcgd",
    "cifar10-vgg11-packed",
    "cifar10-resnet20-2bit",
    "cifar10-resnet20-packed",
    "cifar10-reactnet20",
];

/// The one of that name.
///
/// Errors, with the nearest name, if there is none.
pub fn find(name: &str) -> Result<&'static Named> {
    let found = NAMED.iter().find(|n| n.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = NAMED.iter().map(|n| n.name).collect();
        Error::unknown("recipe", name, &names)
    })
}

/// The recipe of that name, or of that file, which is one that ends in `.toml` or holds a slash.
///
/// Errors as [`find`] or [`Recipe::from_toml`], or if the file cannot be read.
pub fn load(name_or_path: &str) -> Result<Recipe> {
    let path = Path::new(name_or_path);
    let is_path = path.extension().is_some_and(|e| e == "toml") || path.components().count() > 1;
    if !is_path {
        let named = find(name_or_path)?;
        return Recipe::from_toml(named.name, named.text);
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
    Recipe::from_toml(&path.display().to_string(), &text)
}

#[cfg(test)]
mod small;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::net::Net;

    #[test]
    fn every_recipe_reads_says_what_it_is_for_and_makes_a_net() {
        let mut said = std::collections::HashSet::new();
        for named in NAMED {
            let recipe = load(named.name).unwrap();
            assert!(named.about().len() > 20, "{}", named.name);
            assert!(
                said.insert(named.about()),
                "{} says no more than another",
                named.name
            );
            let input = match named.name.starts_with("cifar") {
                true => [32, 32, 3],
                false => [28, 28, 1],
            };
            let design = recipe.design(input, 10).unwrap();
            Net::new(design, 1).unwrap();
        }
        assert_eq!(load("default").unwrap(), Recipe::default());
    }

    #[test]
    fn names_that_are_none_get_the_nearest_and_files_are_read() {
        let said = |name: &str| load(name).unwrap_err().to_string();
        assert!(said("lenet5-bgcd").ends_with("did you mean lenet5-bcgd?"));
        assert!(said("nowhere/x.toml").starts_with("cannot read nowhere/x.toml"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let text = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(path.to_str().unwrap())
        };
        assert_eq!(text("bits_a = 2").unwrap().bits_a, 2);
        let said = |t: &str| text(t).unwrap_err().to_string();
        assert!(said("lr = 0.1\n\nepoch = 3").contains("line 3: a field is 'epoch'"));
        assert!(said("epoch = 3").ends_with("did you mean epochs?"));
        assert!(said("rule = \"bcdg\"").ends_with("did you mean bcgd?"));
        assert!(said("weights = \"binary-men\"").ends_with("did you mean binary-mean?"));
        assert!(said("lr = -1").ends_with("lr is -1; expected a number above 0"));
        assert!(said("arch = \"lenet\"").contains("did you mean lenet5?"));
        assert!(said("loss = \"hinge").contains("line 1"));
    }
}
