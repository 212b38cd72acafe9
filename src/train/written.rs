//! Choices as a recipe writes them: a name, or a table with the name as `kind` and what is said of it.
//!
//! ```toml
//! rule = "bcgd"
//! schedule = { kind = "every", epochs = 5, factor = 0.1 }
//! ```
//!
//! Rules are also text, as on the command line: `bcgd`, `forward-backtrack:a=0.9,period=3`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::nn::weight::table;
use crate::train::rule::Rule;

/// Reads a `T` that is tagged by `kind`, from a name or from a table.
pub(super) fn read<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(NameOrTable(PhantomData))
}

struct NameOrTable<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for NameOrTable<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or a table with a kind")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        let table = Map::from_iter([("kind".to_string(), Value::from(name))]);
        T::deserialize(Value::Object(table)).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let table: Map<String, Value> =
            serde::Deserialize::deserialize(MapAccessDeserializer::new(map))?;
        T::deserialize(Value::Object(table)).map_err(A::Error::custom)
    }
}

/// What serde says of a name that is none, with the nearest known one; other messages as they are.
pub(super) fn suggest(message: &str) -> String {
    let what = ["field", "variant"]
        .into_iter()
        .find(|what| message.contains(&format!("unknown {what} `")));
    let Some(what) = what else {
        return message.to_string();
    };
    // Names stand between backticks: the unknown one, then all that are known.
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else {
        return message.to_string();
    };
    let known: Vec<&str> = names.collect();
    let name = if what == "field" {
        "a field"
    } else {
        "the name"
    };
    crate::error::Error::unknown(name, unknown, &known).to_string()
}

/// The names of the rules.
const RULES: [&str; 7] = [
    "bcgd",
    "binary-connect",
    "binary-relax",
    "rounding",
    "loss-aware",
    "forward-backtrack",
    "bop",
];

impl FromStr for Rule {
    type Err = crate::error::Error;

    /// `kind` or `kind:name=value,name=value`; an unknown kind is told with the nearest known one.
    fn from_str(text: &str) -> crate::error::Result<Self> {
        use crate::error::Error;
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        if !RULES.contains(&kind) {
            return Err(Error::unknown("rule", kind, &RULES));
        }
        let rule: Rule = serde_json::from_value(table(kind, rest, &[])?)
            .map_err(|e| Error::argument("rule", format!("'{text}'"), suggest(&e.to_string())))?;
        rule.check()?;
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_text() {
        for name in RULES {
            let rule: Rule = name.parse().unwrap();
            assert_eq!(rule.name(), name);
            let plain = serde_json::from_value::<Rule>(name.into()).unwrap();
            assert_eq!(rule, plain, "{name}");
        }
        let rule: Rule = "forward-backtrack:a=0.9,period=3".parse().unwrap();
        assert_eq!(rule, Rule::ForwardBacktrack { a: 0.9, period: 3 });
        let rule: Rule = "bop:tau=1e-7".parse().unwrap();
        let gamma = crate::train::step::Bop::default().gamma;
        assert_eq!(rule, Rule::Bop { gamma, tau: 1e-7 });
        for (text, words) in [
            ("bcdg", "did you mean bcgd?"),
            ("forward-backtrack:b=0.9", "did you mean a?"),
            ("forward-backtrack:a=2", "a is 2"),
            ("forward-backtrack:a", "expected name=value"),
            ("rounding:rho=1", "rho"),
            ("bcgd:rho=few", "rho=few"),
            ("", "''"),
        ] {
            let said = text.parse::<Rule>().unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn names_that_are_none_get_the_nearest() {
        let said = suggest("unknown field `epoch`, expected one of `arch`, `epochs`, `lr`");
        assert!(said.starts_with("a field is 'epoch'; expected arch, epochs, lr"));
        assert!(said.ends_with("did you mean epochs?"), "{said}");
        let said = suggest("unknown variant `bcdg`, expected `bcgd` or `bop`");
        assert!(said.ends_with("did you mean bcgd?"), "{said}");
        assert_eq!(suggest("missing field `x`"), "missing field `x`");
    }
}
