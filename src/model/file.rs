//! The model file, version 2: a page from which another program can write and read it. Version 1 is read too (see `v1`).
//!
//! It is a safetensors file. Its `__metadata__` has the entry `qcore`, a string of JSON with
//!
//! | key | value |
//! |---|---|
//! | `kind`, `version` | `"model"`, 2 |
//! | `description` | a string of JSON, told below |
//! | `checksum` | CRC-32 (that of zlib) in eight hex digits over the description's bytes, then, by name in byte order, each tensor's name, its dimensions as u64 and its data |
//!
//! Nothing depends on the ISA. All numbers are little-endian, all tensors row-major.
//!
//! The description is JSON. Node i makes value i, and `reads` are numbers of values, all below i. Node 0 is the image
//! and the only one of its kind. `outputs` are the values that leave, 1 to 8. `name` is for people and may be absent.
//! There are at most 2^16 nodes; no height, width or number of channels is above 2^20, nor the sum of all heights and
//! widths above 2^21.
//!
//! ```json
//! {"nodes": [
//!   {"op": {"image": {"height": 32, "width": 32, "channels": 3, "elements": "u8"}}, "reads": []},
//!   {"name": "stem", "reads": [0], "op": {"conv": {
//!     "outputs": 64, "weights": "bipolar", "groups": 1, "pad": "zero",
//!     "window": {"kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1], "padding": [1, 1, 1, 1]},
//!     "finish": {"function": "relu", "leaves": {"planes": {"relu": {"bits": 2, "alpha": 0.5, "rounding": "ceil"}}}}}}},
//!   {"reads": [1, 1], "op": {"conv": {
//!     "outputs": 64, "weights": "s2", "groups": 64, "pad": "zero",
//!     "window": {"kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1], "padding": [1, 1, 1, 1]},
//!     "finish": {"residual": "before", "leaves": {"planes": "sign"}}, "residual_scale": 0.5}}},
//!   {"reads": [2], "op": {"linear": {"outputs": 10, "weights": "ternary", "finish": {"leaves": "f32"}}}}],
//!  "outputs": [3]}
//! ```
//!
//! | op | fields; elements that enter -> that leave |
//! |---|---|
//! | `image` | `height`, `width`, `channels`, `elements`: `u1`..`u8` or `s1`..`s8`, a byte each, or `f32`, `f16`, `bf16` |
//! | `conv` | `outputs` O, `weights` encoding, `window`, `groups`, `pad`, `zero_point` (an integer of the codes that enter; absent for 0), `transposed` (absent, or rows and columns added below and to the right), `finish`, `residual_scale` if there is a residual; codes -> what the finish says |
//! | `linear` | `outputs` N, `weights`, `zero_point`, `finish`, `residual_scale`; codes of whole images, in the order H, W, C -> what the finish says |
//! | `float_conv` | `outputs`, `weights`, `window`, `groups` (absent for 1), `transposed` (as of `conv`), `scales`: `tensor`, `channel` or `{"group": G}`, `bias`: true or false; floats -> f32 |
//! | `apply` | `finish`; floats or codes -> what the finish says |
//! | `add` | `finish`, `residual_scale`; the same, of two values |
//! | `quantize` | `quantizer`, `planes`: true, or false for bytes; floats -> codes |
//! | `dequantize` | `scale`; codes -> f32 |
//! | `max_pool` | `window`; any -> the same |
//! | `average_pool` | `window`, `scale`, `quantizer` or absent; any -> planes of the quantizer, or f32: sum (scale / count) of the pixels inside of the image |
//! | `concat`, `flatten` | none: `"op": "flatten"`; any -> the same |
//! | `up_sample` | `factors` [vertical, horizontal]; any -> the same |
//!
//! * Floats are `f32`, `f16` (IEEE 754's binary16) or `bf16` (the upper half of an f32). All arithmetic is in f32; 16-bit
//!   floats are the nearest, ties to even. Programs from before `f16` and `bf16`, `zero_point`, or `groups` and
//!   `transposed` of a `float_conv`, refuse a file that has
//!   them, by name, as every program refuses names that it does not know; so they needed no new version. Nor did planes of
//!   `symmetric` and `affine` codes by a finish or an average pool, which those from before them refuse as linear.
//! * Encodings are `bipolar`, `ternary`, `u1`..`u8`, `s1`..`s8` ([`Encoding`](crate::bits::Encoding)).
//! * `window`: pairs are [vertical, horizontal]; `padding` is [top, left, bottom, right]. `pad` is `zero`, `plus_one` or
//!   `minus_one`.
//! * `finish` ([`Finish`](crate::ops::Finish)): `leaves` is `i32` (the sums, nothing else), `f32`, `f16`,
//!   `bf16`, `{"planes": quantizer}`, `{"bytes": quantizer}`, or `{"levels": encoding}` for ready thresholds; `function` is
//!   `relu`, `prelu`, `rprelu` or `{"clamp": [low, high]}`, absent for none; `residual` is `before` or `after` the function,
//!   absent for none, and then the node reads a second value.
//! * A quantizer is `"sign"`, `{"relu": {"bits", "alpha", "rounding"}}` with rounding `ceil` or `nearest`,
//!   `{"symmetric": {"bits", "scale"}}` or `{"affine": {"encoding", "scale", "zero"}}`; planes are of any of them,
//!   bytes of any but the sign.
//! * Numbers with a fraction are f32, written so that the nearest f32 of the nearest f64 is the number.
//!
//! Node i has the tensors
//!
//! | name | type, shape | where |
//! |---|---|---|
//! | `nodes.i.weights` | U32 `[N, planes, ceil(K / 32)]`: bit k % 32 of word k / 32 belongs to column k; bits behind K are 0; K is KH KW C / groups of a convolution, in the order KH, KW, C, and H W C of a linear | `conv`, `linear`, `float_conv` |
//! | `nodes.i.scale`, `.bias` | F32 `[N]`: scale x sum + bias | a finish that leaves floats, planes or bytes |
//! | `nodes.i.slope` | F32 `[N]` | functions `prelu`, `rprelu` |
//! | `nodes.i.before`, `.after` | F32 `[N]`: prelu(y - before) + after | function `rprelu` |
//! | `nodes.i.thresholds` | I32 `[levels, N]`: code = number of levels with sign x sum > threshold | a finish that leaves levels |
//! | `nodes.i.sign` | I32 `[N]`, +1 or -1 | a finish that leaves levels |
//! | `nodes.i.scales` | F32, `[1]`, `[N]` or `[N, ceil(K / G)]` | `float_conv` |
//! | `nodes.i.bias` | F32 `[N]` | `float_conv` with a bias |
//!
//! and there are no others. Planes of weights, the lowest first: `bipolar` has one, 1 for +1 and 0 for -1; `ternary`
//! has two, the sign (1 for +1) and whether it is not 0, and the sign of 0 is 0; `u` and `s` have as many as bits, in
//! two's complement.
//!
//! A finish makes, in f32, each operation rounded by itself: `y = scale sum + bias`; `y = y + residual` if `before`;
//! the function; `y = y + residual` if `after`; the code of y, if codes leave. The residual is a float, and
//! `residual_scale` then 1, or `residual_scale` times the integer of a code. prelu(y) is y for y >= 0, else slope y.
//! `relu` quantizers of q = 2^bits - 1 levels give the number of c in 0
//! .. q with y > c alpha (`ceil`) or y >= (c + 1/2) alpha (`nearest`); the sign is +1 for y >= 0; `symmetric` and
//! `affine` give clamp(round(y (1 / scale)) + zero), ties to even. [`numerics`](crate::numerics) has the rest.

use std::path::Path;

use super::container::Container;
use super::net::Model;
use crate::error::{Error, Result};
use crate::isa::Isa;

mod numbers;
mod read;
mod text;
mod v1;
mod write;

const KIND: &str = "model";

/// The version that is written.
const VERSION: u32 = 2;

/// The versions that are read.
const VERSIONS: [u32; 2] = [1, VERSION];

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
        Self::load_on(Isa::chosen()?, path)
    }

    /// As [`Model::load`], on a given ISA.
    pub fn load_on(isa: Isa, path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
        Self::parse(isa, &path.display().to_string(), &bytes)
    }

    /// Reads a model from the bytes of a file, on the ISA that [`Isa::chosen`] gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_bytes_on(Isa::chosen()?, bytes)
    }

    /// As [`Model::from_bytes`], on a given ISA.
    pub fn from_bytes_on(isa: Isa, bytes: &[u8]) -> Result<Self> {
        Self::parse(isa, "the model's bytes", bytes)
    }

    fn parse(isa: Isa, what: &str, bytes: &[u8]) -> Result<Self> {
        let (version, container) = Container::of_versions(what, KIND, &VERSIONS, bytes)?;
        match version {
            1 => v1::read(isa, what, container),
            _ => read::read(isa, what, container),
        }
    }
}

/// Errors if a tensor is left over.
fn all_taken(what: &str, container: &Container) -> Result<()> {
    match container.tensors.keys().next() {
        None => Ok(()),
        Some(name) => {
            let problem = format!("the tensor '{name}' belongs to no node");
            Err(Error::format(what, problem))
        }
    }
}

#[cfg(test)]
mod tests;
