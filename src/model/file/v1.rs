//! Files of version 1: a list of linear layers.
//!
//! The description is JSON:
//!
//! ```json
//! {"input": {"height": 28, "width": 28, "channels": 1, "bits": 8},
//!  "layers": [{"op": "linear", "n": 256, "k": 784, "weights": "bipolar", "then": "u4"},
//!             {"op": "linear", "n": 10, "k": 256, "weights": "bipolar", "then": "f32"}]}
//! ```
//!
//! `then` is the encoding of the codes that leave the layer, or `f32` for the result, which is that of the last
//! layer. Layer i has the tensors `layers.i.weights`, and `layers.i.thresholds` and `layers.i.sign`, or
//! `layers.i.scale` and `layers.i.bias`, as the nodes of version 2 have them.

use serde::Deserialize;

use crate::bits::{Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::model::container::Container;
use crate::model::{Linear, Model, ModelBuilder, ValueType};
use crate::ops::{ActivationFn, Finish, OutputKind, ResidualAt, Thresholds};
use crate::shape::words;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    input: InputText,
    layers: Vec<LayerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputText {
    height: usize,
    width: usize,
    channels: usize,
    bits: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerText {
    op: String,
    n: usize,
    k: usize,
    weights: String,
    then: String,
}

pub(super) fn read(isa: Isa, what: &str, mut container: Container) -> Result<Model> {
    // Whatever is wrong with a value came from the file, so the file is named.
    let in_file = |e: Error| match e {
        Error::Format { .. } => e,
        other => Error::format(what, other),
    };
    let parsed = serde_json::from_str(&container.description);
    let Description { input, layers } =
        parsed.map_err(|e| Error::format(what, format_args!("the description: {e}")))?;
    let InputText {
        height,
        width,
        channels,
        bits,
    } = input;
    let image = ValueType::image(height, width, channels, bits).map_err(in_file)?;
    let mut builder = ModelBuilder::on(isa, image).map_err(in_file)?;
    let mut value = builder.image();
    if layers.is_empty() {
        return Err(Error::format(what, "no layers"));
    }
    for (i, text) in layers.iter().enumerate() {
        if text.op != "linear" {
            let problem = format!("layer {i} is '{}'; this version knows 'linear'", text.op);
            return Err(Error::format(what, problem));
        }
        let last = i + 1 == layers.len();
        if last != (text.then == "f32") {
            let problem = format!("'{}' leaves layer {i} of {}", text.then, layers.len());
            return Err(Error::format(what, problem));
        }
        let linear = linear(what, &mut container, i, text).map_err(in_file)?;
        value = builder.linear(value, linear).map_err(in_file)?;
    }
    super::all_taken(what, &container)?;
    builder.build(&[value]).map_err(in_file)
}

fn linear(what: &str, container: &mut Container, i: usize, text: &LayerText) -> Result<Linear> {
    let (n, k) = (text.n, text.k);
    let name = |part: &str| format!("layers.{i}.{part}");
    let encoding: Encoding = text.weights.parse()?;
    let shape = [n, encoding.planes(), words(k)];
    let packed = container.take_u32(what, &name("weights"), &shape)?;
    let weights = PackedMatrix::from_words(encoding, n, k, packed)?;
    let finish = if text.then == "f32" {
        let scale = container.take_f32(what, &name("scale"), &[n])?;
        let bias = container.take_f32(what, &name("bias"), &[n])?;
        let (function, residual) = (ActivationFn::Identity, ResidualAt::Nowhere);
        Finish::new(scale, bias, function, residual, OutputKind::F32)?
    } else {
        let codes: Encoding = text.then.parse()?;
        let thresholds = container.take_i32(what, &name("thresholds"), &[codes.levels(), n])?;
        let sign = container.take_i32(what, &name("sign"), &[n])?;
        Finish::by_thresholds(Thresholds::from_parts(codes, &thresholds, &sign)?)
    };
    Ok(Linear::new(weights, finish))
}
