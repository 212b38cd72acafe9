//! Choices as a recipe writes them: a name, or a table with the name as `kind` and what is said of it.
//!
//! ```toml
//! rule = "bcgd"
//! schedule = { kind = "every", epochs = 5, factor = 0.1 }
//! ```

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

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

#[cfg(test)]
mod tests {
    use super::*;

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
