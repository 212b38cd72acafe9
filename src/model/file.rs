//! The model file: a [`container`](super::container) of kind `model`, version 1.
//!
//! The description is JSON:
//!
//! ```json
//! {"input": {"height": 28, "width": 28, "channels": 1, "bits": 8},
//!  "layers": [{"op": "linear", "n": 256, "k": 784, "weights": "bipolar", "then": "u4"},
//!             {"op": "linear", "n": 10, "k": 256, "weights": "bipolar", "then": "f32"}]}
//! ```
//!
//! `then` is the encoding of the codes that leave the layer, or `f32` for the result. Layer i has the
//! tensors
//!
//! | name | type, shape | meaning |
//! |---|---|---|
//! | `layers.i.weights` | U32 `[N, planes, ceil(K / 32)]` | the canonical packed form (see [`bits`](crate::bits)) |
//! | `layers.i.thresholds` | I32 `[levels, N]` | where codes leave: code = number of levels with sign x sum > threshold |
//! | `layers.i.sign` | I32 `[N]` | +1 or -1 |
//! | `layers.i.scale`, `layers.i.bias` | F32 `[N]` | where floats leave: scale x sum + bias |
//!
//! Nothing in it depends on the ISA.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::container::{Container, Data};
use super::{Input, Layer, Model, Then};
use crate::bits::{Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::ops::Thresholds;
use crate::shape::words;

const KIND: &str = "model";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    input: InputText,
    layers: Vec<LayerText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputText {
    height: usize,
    width: usize,
    channels: usize,
    bits: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerText {
    op: String,
    n: usize,
    k: usize,
    weights: String,
    then: String,
}

impl Model {
    /// Writes the model to `path`, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.to_container()?.save(path, KIND, VERSION)
    }

    /// The bytes that [`Model::save`] writes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.to_container()?.to_bytes(KIND, VERSION)
    }

    /// Reads a model from a file, on the ISA that [`Isa::chosen`] gives.
    ///
    /// Errors, naming the file and what is wrong with it, if it cannot be read or is not a whole,
    /// undamaged model of a version that this crate reads.
    pub fn load(path: &Path) -> Result<Self> {
        let container = Container::load(path, KIND, VERSION)?;
        Self::from_container(Isa::chosen()?, &path.display().to_string(), container)
    }

    /// Reads a model from the bytes of a file, on the ISA that [`Isa::chosen`] gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_bytes_on(Isa::chosen()?, bytes)
    }

    /// As [`Model::from_bytes`], on a given ISA.
    pub fn from_bytes_on(isa: Isa, bytes: &[u8]) -> Result<Self> {
        let what = "the model's bytes";
        Self::from_container(
            isa,
            what,
            Container::from_bytes(what, KIND, VERSION, bytes)?,
        )
    }

    fn to_container(&self) -> Result<Container> {
        let input = self.input();
        let mut container = Container::default();
        let mut texts = Vec::new();
        for (i, layer) in self.layers().iter().enumerate() {
            let Layer::Linear { weights, then } = layer;
            let (n, k) = (weights.rows(), weights.cols());
            let name = |part: &str| format!("layers.{i}.{part}");
            let shape = [n, weights.encoding().planes(), words(k)];
            container.put(name("weights"), &shape, Data::U32(weights.words().to_vec()));
            let then = match then {
                Then::Codes(t) => {
                    let levels = t.encoding().levels();
                    container.put(name("thresholds"), &[levels, n], Data::I32(t.thresholds()));
                    container.put(name("sign"), &[n], Data::I32(t.sign().to_vec()));
                    t.encoding().to_string()
                }
                Then::Floats { scale, bias } => {
                    container.put(name("scale"), &[n], Data::F32(scale.clone()));
                    container.put(name("bias"), &[n], Data::F32(bias.clone()));
                    "f32".to_string()
                }
            };
            texts.push(LayerText {
                op: "linear".to_string(),
                n,
                k,
                weights: weights.encoding().to_string(),
                then,
            });
        }
        let description = Description {
            input: InputText {
                height: input.height,
                width: input.width,
                channels: input.channels,
                bits: input.bits,
            },
            layers: texts,
        };
        let text = serde_json::to_string(&description);
        container.description = text.map_err(|e| Error::format("the model's description", e))?;
        Ok(container)
    }

    fn from_container(isa: Isa, what: &str, mut container: Container) -> Result<Self> {
        // Whatever is wrong with a value came from the file, so the file is named.
        let in_file = |e: Error| Error::format(what, e);
        let parsed = serde_json::from_str(&container.description);
        let Description {
            input,
            layers: texts,
        } = parsed.map_err(|e| Error::format(what, format_args!("the description: {e}")))?;
        let mut layers = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            if text.op != "linear" {
                let problem = format!("layer {i} is '{}'; this version knows 'linear'", text.op);
                return Err(Error::format(what, problem));
            }
            let (n, k) = (text.n, text.k);
            let name = |part: &str| format!("layers.{i}.{part}");
            let encoding: Encoding = text.weights.parse().map_err(in_file)?;
            let shape = [n, encoding.planes(), words(k)];
            let packed = container.take_u32(what, &name("weights"), &shape)?;
            let weights = PackedMatrix::from_words(encoding, n, k, packed).map_err(in_file)?;
            let then = if text.then == "f32" {
                Then::Floats {
                    scale: container.take_f32(what, &name("scale"), &[n])?,
                    bias: container.take_f32(what, &name("bias"), &[n])?,
                }
            } else {
                let codes: Encoding = text.then.parse().map_err(in_file)?;
                let thresholds =
                    container.take_i32(what, &name("thresholds"), &[codes.levels(), n])?;
                let sign = container.take_i32(what, &name("sign"), &[n])?;
                Then::Codes(Thresholds::from_parts(codes, &thresholds, &sign).map_err(in_file)?)
            };
            layers.push(Layer::Linear { weights, then });
        }
        if let Some(name) = container.tensors.keys().next() {
            return Err(Error::format(
                what,
                format_args!("the tensor '{name}' belongs to no layer"),
            ));
        }
        let input = Input {
            height: input.height,
            width: input.width,
            channels: input.channels,
            bits: input.bits,
        };
        Model::on(isa, input, layers).map_err(in_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::{images, naive_logits, sample};
    use crate::ops::{Par, Pool};

    #[test]
    fn a_model_reads_back_and_runs_the_same_everywhere() {
        for codes in ["bipolar", "u1", "u4"] {
            let model = sample(codes.parse().unwrap());
            let bytes = model.to_bytes().unwrap();
            let images = images(&model, 37);
            let expected = naive_logits(&model, &images);
            for isa in Isa::available() {
                let again = Model::from_bytes_on(isa, &bytes).unwrap();
                assert!(
                    again.to_bytes().unwrap() == bytes,
                    "the same content, the same bytes"
                );
                for (threads, at_a_time) in [(1, 37), (2, 64), (3, 5), (1, 1)] {
                    let pool = Pool::new(threads).unwrap();
                    let mut workspace = again.workspace(at_a_time).unwrap();
                    let mut logits = vec![0.0; expected.len()];
                    again
                        .run(&images, &mut logits, &mut workspace, Par::Pool(&pool))
                        .unwrap();
                    assert_eq!(logits, expected, "{codes} {isa}");
                }
            }
        }
    }

    #[test]
    fn files_that_are_not_models_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.qcore");
        sample(Encoding::Bipolar).save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(Model::load(&path).is_ok());
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Model::load(&path).err().expect("an error").to_string()
        };
        let file = path.display().to_string();
        for length in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
            assert!(
                said(&bytes[..length]).starts_with(&format!("{file}: not a whole safetensors"))
            );
        }
        assert!(said(b"\x89PNG\r\n\x1a\n and so on").contains("not a whole safetensors"));
    }

    #[test]
    fn a_description_that_disagrees_with_its_tensors_is_refused() {
        let said = |change: &dyn Fn(&mut Container)| {
            let mut c = sample(Encoding::unsigned(2).unwrap())
                .to_container()
                .unwrap();
            change(&mut c);
            let bytes = c.to_bytes(KIND, VERSION).unwrap();
            Model::from_bytes(&bytes)
                .err()
                .expect("an error")
                .to_string()
        };
        let replace = |from: &'static str, to: &'static str| {
            said(&move |c: &mut Container| {
                assert!(c.description.contains(from), "{}", c.description);
                c.description = c.description.replacen(from, to, 1);
            })
        };
        assert!(
            replace("\"k\":35", "\"k\":36").contains("shape")
                || replace("\"k\":35", "\"k\":36").contains("36")
        );
        assert!(replace("\"k\":35", "\"k\":70").contains("'layers.0.weights' has shape"));
        assert!(replace("linear", "lstm").contains("layer 0 is 'lstm'"));
        assert!(replace("\"u2\"", "\"u9\"").contains("encoding is u9"));
        assert!(replace("\"bits\":8", "\"bits\":9").contains("bits is 9"));
        assert!(replace("{", "").contains("the description: "));
        assert!(replace("\"op\"", "\"do\"").contains("unknown field"));
        let gone = said(&|c| drop(c.tensors.remove("layers.1.sign")));
        assert!(
            gone.contains("the tensor 'layers.1.sign' is missing"),
            "{gone}"
        );
        let more = said(&|c| c.put("layers.9.bias", &[1], Data::F32(vec![0.0])));
        assert!(
            more.contains("'layers.9.bias' belongs to no layer"),
            "{more}"
        );
        let kind = said(&|c| c.put("layers.0.sign", &[40], Data::F32(vec![1.0; 40])));
        assert!(
            kind.contains("'layers.0.sign' is F32; expected I32"),
            "{kind}"
        );
        let zero = said(&|c| c.put("layers.0.sign", &[40], Data::I32(vec![0; 40])));
        assert!(zero.contains("sign is 0 at 0; expected -1 or +1"), "{zero}");
        let tail = said(&|c| c.put("layers.0.weights", &[40, 1, 2], Data::U32(vec![!0; 80])));
        assert!(tail.contains("bits set behind column 35"), "{tail}");
        let nan = said(&|c| c.put("layers.2.scale", &[7], Data::F32(vec![f32::NAN; 7])));
        assert!(nan.contains("scale or bias is NaN"), "{nan}");
    }
}
