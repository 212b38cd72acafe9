//! Weight quantizers by name: in files, on the command line, in messages.
//!
//! ```text
//!   binary-mean      uniform-sym:bits=4,sweeps=2      relaxed:lambda=1.5,of=ternary-exact
//! ```
//!
//! In JSON or TOML the same is a string, or a table: `{ kind = "uniform-sym", bits = 4, sweeps = 2 }`. What is left
//! out has its default; what the kind does not have is refused.

use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::kind::{Divisor, Scope, TernarySearch, WeightQuantizer};
use crate::error::{Error, Result};

/// The names, in the order of the variants.
pub(super) const NAMES: [&str; 17] = [
    "binary-mean",
    "binary-median",
    "binary-plain",
    "ternary-twn",
    "ternary-exact",
    "ternary-abs-mean",
    "uniform-sym",
    "grid-det",
    "grid-stoch",
    "stoch-binary",
    "loss-aware-binary",
    "loss-aware-ternary",
    "loss-aware-linear",
    "loss-aware-log",
    "lsq-weight",
    "dorefa",
    "relaxed",
];

/// A quantizer as it is written: its kind and what is said of it.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    divisor: Option<Divisor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sweeps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<TernarySearch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lambda: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<Box<WeightQuantizer>>,
}

impl Written {
    /// The quantizer; errors if there is no such kind, it lacks what it needs, has what it does not take, or a
    /// number is out of its range.
    fn read(mut self) -> Result<WeightQuantizer> {
        use WeightQuantizer as Q;
        let scope = |w: &mut Written| w.scope.take().unwrap_or_default();
        let scale = |w: &mut Written| w.scale.take().unwrap_or(1.0);
        let bits = |w: &mut Written, default| w.bits.take().unwrap_or(default);
        let delta = |w: &mut Written| {
            let missing = || Error::argument("delta", "missing", "the spacing of the grid");
            w.delta.take().ok_or_else(missing)
        };
        let w = &mut self;
        let quantizer = match &w.kind[..] {
            "binary-mean" => Q::BinaryMean { scope: scope(w) },
            "binary-median" => Q::BinaryMedian { scope: scope(w) },
            "binary-plain" => Q::BinaryPlain { scale: scale(w) },
            "ternary-twn" => Q::TernaryTwn {
                divisor: w.divisor.take().unwrap_or_default(),
                scope: scope(w),
            },
            "ternary-exact" => Q::TernaryExact { scope: scope(w) },
            "ternary-abs-mean" => Q::TernaryAbsMean { scope: scope(w) },
            "uniform-sym" => Q::UniformSym {
                bits: bits(w, 4),
                sweeps: w.sweeps.take().unwrap_or(0),
                scope: scope(w),
            },
            "grid-det" => Q::GridDet { delta: delta(w)? },
            "grid-stoch" => Q::GridStoch { delta: delta(w)? },
            "stoch-binary" => Q::StochBinary { scale: scale(w) },
            "loss-aware-binary" => Q::LossAwareBinary { scope: scope(w) },
            "loss-aware-ternary" => Q::LossAwareTernary {
                search: w.search.take().unwrap_or_default(),
            },
            "loss-aware-linear" => Q::LossAwareLinear { bits: bits(w, 3) },
            "loss-aware-log" => Q::LossAwareLog { bits: bits(w, 3) },
            "lsq-weight" => Q::LsqWeight { bits: bits(w, 4) },
            "dorefa" => Q::Dorefa { bits: bits(w, 4) },
            "relaxed" => Q::Relaxed {
                lambda: w.lambda.take().unwrap_or(1.0),
                of: w.of.take().unwrap_or_default(),
            },
            other => return Err(Error::unknown("weight quantizer", other, &NAMES)),
        };
        if let Some(field) = self.left() {
            let expected = format!("nothing of that name beside {}", self.kind);
            return Err(Error::argument("a parameter", field, expected));
        }
        quantizer.check()?;
        Ok(quantizer)
    }

    /// A field that nobody took.
    fn left(&self) -> Option<&'static str> {
        let fields = [
            ("scope", self.scope.is_some()),
            ("scale", self.scale.is_some()),
            ("divisor", self.divisor.is_some()),
            ("bits", self.bits.is_some()),
            ("sweeps", self.sweeps.is_some()),
            ("delta", self.delta.is_some()),
            ("search", self.search.is_some()),
            ("lambda", self.lambda.is_some()),
            ("of", self.of.is_some()),
        ];
        fields.iter().find(|(_, is)| *is).map(|(name, _)| *name)
    }

    fn write(quantizer: &WeightQuantizer) -> Self {
        use WeightQuantizer as Q;
        let mut w = Written {
            kind: quantizer.name().to_string(),
            ..Written::default()
        };
        match quantizer {
            Q::BinaryMean { scope }
            | Q::BinaryMedian { scope }
            | Q::TernaryExact { scope }
            | Q::TernaryAbsMean { scope }
            | Q::LossAwareBinary { scope } => w.scope = Some(*scope),
            Q::BinaryPlain { scale } | Q::StochBinary { scale } => w.scale = Some(*scale),
            Q::TernaryTwn { divisor, scope } => {
                (w.divisor, w.scope) = (Some(*divisor), Some(*scope));
            }
            Q::UniformSym {
                bits,
                sweeps,
                scope,
            } => (w.bits, w.sweeps, w.scope) = (Some(*bits), Some(*sweeps), Some(*scope)),
            Q::GridDet { delta } | Q::GridStoch { delta } => w.delta = Some(*delta),
            Q::LossAwareTernary { search } => w.search = Some(*search),
            Q::LossAwareLinear { bits }
            | Q::LossAwareLog { bits }
            | Q::LsqWeight { bits }
            | Q::Dorefa { bits } => w.bits = Some(*bits),
            Q::Relaxed { lambda, of } => (w.lambda, w.of) = (Some(*lambda), Some(of.clone())),
        }
        w
    }
}

/// The table of `kind` and of `rest`, `name=value,name=value`; a name of `greedy` takes all that follows.
///
/// Errors if something is no name with a value.
pub(crate) fn table(kind: &str, mut rest: &str, greedy: &[&str]) -> Result<Value> {
    let mut fields = Map::new();
    fields.insert("kind".to_string(), kind.into());
    while !rest.is_empty() {
        let refused = || Error::argument("a parameter", format!("'{rest}'"), "name=value");
        let (name, value) = rest.split_once('=').ok_or_else(refused)?;
        let (value, next) = match greedy.contains(&name) {
            true => (value, ""),
            false => value.split_once(',').unwrap_or((value, "")),
        };
        let value = match serde_json::from_str(value) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => Value::from(value),
        };
        fields.insert(name.to_string(), value);
        rest = next;
    }
    Ok(Value::Object(fields))
}

impl FromStr for WeightQuantizer {
    type Err = Error;

    /// `kind` or `kind:name=value,name=value`; an unknown kind is told with the nearest known one.
    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        if !NAMES.contains(&kind) {
            return Err(Error::unknown("weight quantizer", kind, &NAMES));
        }
        // What is relaxed has parameters of its own: it takes the rest.
        let written: Written = serde_json::from_value(table(kind, rest, &["of"])?)
            .map_err(|e| Error::argument("weight quantizer", format!("'{text}'"), e))?;
        written.read()
    }
}

impl fmt::Display for WeightQuantizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = serde_json::to_value(Written::write(self)).map_err(|_| fmt::Error)?;
        f.write_str(self.name())?;
        let fields = written.as_object().into_iter().flatten();
        // What is relaxed comes last, since it takes the rest of the text.
        let fields = fields.filter(|(name, _)| !["kind", "of"].contains(&&name[..]));
        for (i, (name, value)) in fields.enumerate() {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_string);
            write!(f, "{}{name}={value}", if i == 0 { ':' } else { ',' })?;
        }
        match self {
            WeightQuantizer::Relaxed { of, .. } => write!(f, ",of={of}"),
            _ => Ok(()),
        }
    }
}

impl Serialize for WeightQuantizer {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        Written::write(self).serialize(to)
    }
}

impl<'de> Deserialize<'de> for WeightQuantizer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = WeightQuantizer;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a weight quantizer, or a table with its kind")
            }
            fn visit_str<E: serde::de::Error>(
                self,
                text: &str,
            ) -> std::result::Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<M: MapAccess<'de>>(
                self,
                map: M,
            ) -> std::result::Result<Self::Value, M::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                written.read().map_err(serde::de::Error::custom)
            }
        }
        from.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantizer(text: &str) -> WeightQuantizer {
        text.parse().unwrap()
    }

    #[test]
    fn names_read_back_and_what_cannot_be_is_refused() {
        let long = "relaxed:lambda=2,of=uniform-sym:bits=3,sweeps=1";
        for text in NAMES
            .into_iter()
            .filter(|n| !n.starts_with("grid"))
            .chain([long])
        {
            let q = quantizer(text);
            assert!(q.to_string().starts_with(q.name()));
            assert_eq!(quantizer(&q.to_string()), q, "{q}");
            let json = serde_json::to_string(&q).unwrap();
            assert_eq!(
                serde_json::from_str::<WeightQuantizer>(&json).unwrap(),
                q,
                "{json}"
            );
        }
        let q: WeightQuantizer =
            serde_json::from_str(r#"{"kind": "uniform-sym", "bits": 3}"#).unwrap();
        assert_eq!(q, quantizer("uniform-sym:bits=3"));
        assert_eq!(
            serde_json::from_str::<WeightQuantizer>(r#""binary-mean""#).unwrap(),
            WeightQuantizer::default()
        );
        for (text, word) in [
            ("binry-mean", "did you mean binary-mean?"),
            ("ternary", "expected binary-mean, binary-median"),
            ("grid-det", "delta is missing"),
            ("grid-det:delta=0", "delta is 0; expected a number above 0"),
            ("grid-det:delta=-1", "delta is -1"),
            ("uniform-sym:bits=9", "bits is 9; expected 2 to 8"),
            ("uniform-sym:bits=many", "bits=many"),
            ("loss-aware-log:bits=5", "bits is 5; expected 2 to 4"),
            ("binary-mean:bits=2", "a parameter is bits"),
            ("binary-mean:scope=row", "scope=row"),
            ("binary-mean:scope", "expected name=value"),
            ("relaxed:lambda=-1", "lambda is -1"),
            ("relaxed:of=twn", "'twn'"),
            ("", "''"),
        ] {
            let said = text.parse::<WeightQuantizer>().unwrap_err().to_string();
            assert!(said.contains(word), "{text}: {said}");
        }
        let said = serde_json::from_str::<WeightQuantizer>(r#"{"kind": "dorefer"}"#).unwrap_err();
        assert!(said.to_string().contains("did you mean dorefa?"), "{said}");
        assert!(quantizer("relaxed:of=grid-stoch:delta=1").is_stochastic());
        assert!(quantizer("relaxed:of=loss-aware-log").is_loss_aware());
        assert_eq!(
            WeightQuantizer::of_bits(2).unwrap(),
            quantizer("ternary-exact")
        );
        assert_eq!(
            WeightQuantizer::of_bits(4).unwrap(),
            quantizer("uniform-sym")
        );
        assert!(WeightQuantizer::of_bits(0).is_err());
    }
}
