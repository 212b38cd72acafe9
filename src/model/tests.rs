//! Random graphs against the naive interpreter, after a trip through the file, on every ISA, for every way to share
//! the work.

use std::collections::HashMap;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use super::naive::{self, Naive, integers_of};
use super::sample::Random;
use super::*;
use crate::bits::{Encoding, PackedMatrix, PackedRef};
use crate::isa::Isa;
use crate::ops::{
    ActivationFn, Finish, OutRows, OutputKind, Pad, Padding, Par, Pool, ResidualAt, Thresholds,
};
use crate::quant::{
    ActQuantizer, Granularity, Linear as LinearQuantizer, QuantRelu, Quantizer, Rounding, Scales,
};

mod bounds;
mod corpus;
mod errors;
pub(in crate::model) mod making;
mod memory;

use making::{image_of, random_graph};

/// Images as the model takes them.
enum Given {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Given {
    fn images(&self) -> Images<'_> {
        match self {
            Given::Bytes(bytes) => bytes.into(),
            Given::Floats(floats) => floats.into(),
            Given::F16(floats) => floats[..].into(),
            Given::Bf16(floats) => floats[..].into(),
        }
    }

    /// As they stand in a file.
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Given::Bytes(bytes) => bytes.clone(),
            Given::Floats(floats) => bytemuck::cast_slice(floats).to_vec(),
            Given::F16(floats) => bytemuck::cast_slice(floats.reinterpret_cast()).to_vec(),
            Given::Bf16(floats) => bytemuck::cast_slice(floats.reinterpret_cast()).to_vec(),
        }
    }
}

fn halves(words: &[u32]) -> &[u16] {
    bytemuck::cast_slice(words)
}

/// Elements of an output, as they are read back from the rows of a run.
fn read_back(made: &ValueType, count: usize, words: &[u32]) -> Vec<Naive> {
    let each = made.stored_len();
    let image = |i: usize| match made.kind {
        Kind::F32 => Naive::Floats(bytemuck::cast_slice(&words[i * each..][..each]).to_vec()),
        Kind::I32 => Naive::Integers(bytemuck::cast_slice(&words[i * each..][..each]).to_vec()),
        Kind::F16 => {
            let all: &[f16] = halves(words).reinterpret_cast();
            Naive::Floats(all[i * each..][..each].to_f32_vec())
        }
        Kind::Bf16 => {
            let all: &[bf16] = halves(words).reinterpret_cast();
            Naive::Floats(all[i * each..][..each].to_f32_vec())
        }
        Kind::Planes(e) => {
            let words = &words[i * each..][..each];
            let all = PackedRef::new(e, made.pixels(), made.channels, words).unwrap();
            Naive::Integers(all.unpack())
        }
        Kind::Bytes(e) => {
            let bytes: &[u8] = bytemuck::cast_slice(words);
            let integer = |&b: &u8| match e {
                Encoding::Signed(_) => i32::from(b as i8),
                _ => i32::from(b),
            };
            Naive::Integers(bytes[i * each..][..each].iter().map(integer).collect())
        }
    };
    (0..count).map(image).collect()
}

/// Floats by their bits: -0.0 is not 0.0.
fn same(a: &Naive, b: &Naive) -> bool {
    match (a, b) {
        (Naive::Floats(a), Naive::Floats(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
        }
        _ => a == b,
    }
}

/// Rows of a result in `words`.
pub(in crate::model) fn out_rows<'a>(
    made: &ValueType,
    count: usize,
    words: &'a mut [u32],
) -> OutRows<'a> {
    let halves = |words| &mut bytemuck::cast_slice_mut::<u32, u16>(words)[..made.len() * count];
    match made.kind {
        Kind::F32 => OutRows::F32(bytemuck::cast_slice_mut(words)),
        Kind::F16 => OutRows::F16(halves(words).reinterpret_cast_mut()),
        Kind::Bf16 => OutRows::Bf16(halves(words).reinterpret_cast_mut()),
        Kind::I32 => OutRows::I32(bytemuck::cast_slice_mut(words)),
        Kind::Planes(_) => OutRows::Codes(words),
        Kind::Bytes(_) => {
            OutRows::Bytes(&mut bytemuck::cast_slice_mut(words)[..made.len() * count])
        }
    }
}

/// Runs `model` and compares all outputs of all images.
fn check(
    model: &Model,
    images: &Given,
    expected: &[Vec<Naive>],
    at_a_time: usize,
    mode: Mode,
    par: Par<'_>,
    what: &str,
) {
    let count = expected.len();
    let mut workspace = model.workspace(at_a_time, par.threads(), mode).unwrap();
    let made = model.outputs().to_vec();
    let mut all: Vec<Vec<u32>> = made
        .iter()
        .map(|made| vec![0xAAAA_AAAA; made.words(count)])
        .collect();
    let mut outs: Vec<OutRows<'_>> = all
        .iter_mut()
        .zip(&made)
        .map(|(words, made)| out_rows(made, count, words))
        .collect();
    model
        .run_all(images.images(), &mut outs, &mut workspace, par)
        .unwrap();
    for (o, made) in made.iter().enumerate() {
        let got = read_back(made, count, &all[o]);
        for (i, got) in got.iter().enumerate() {
            if !same(got, &expected[i][o]) {
                let rows: Vec<String> = model
                    .nodes
                    .iter()
                    .map(|n| format!("{:?}\n", (&n.op.name(), &n.reads, n.made.to_string())))
                    .collect();
                panic!(
                    "{what}: image {i}, output {o}: {got:?}, not {:?}\n{}",
                    expected[i][o],
                    rows.concat()
                );
            }
        }
    }
}

#[test]
fn random_graphs_give_what_the_naive_interpreter_gives() {
    let pools = [2, 3].map(|threads| Pool::new(threads).unwrap());
    let pars = [Par::Caller, Par::Pool(&pools[0]), Par::Pool(&pools[1])];
    let mut seen: HashMap<&'static str, usize> = HashMap::new();
    let mut of_halves: HashMap<&'static str, usize> = HashMap::new();
    let cases = if cfg!(miri) { 2 } else { 150 };
    for seed in 0..cases {
        let mut random = Random(1000 + seed);
        let made_here = random_graph(&mut random);
        for node in &made_here.nodes {
            *seen.entry(node.op.name()).or_default() += 1;
            let half = |v: &Value| made_here.nodes[v.index()].made.kind.element_bytes() == 2;
            if node.reads.iter().any(half) {
                *of_halves.entry(node.op.name()).or_default() += 1;
            }
        }
        let bytes = made_here.to_bytes().unwrap();
        let count = 1 + random.below(5);
        let (naive_images, images) = image_of(&made_here.input(), count, &mut random);
        let expected: Vec<Vec<Naive>> = naive_images
            .iter()
            .map(|x| naive::run(&made_here, x))
            .collect();
        for isa in Isa::available() {
            let model = Model::from_bytes_on(isa, &bytes).unwrap();
            assert!(
                model.to_bytes().unwrap() == bytes,
                "graph {seed}: the same bytes"
            );
            assert_eq!(model.nodes, made_here.nodes);
            for par in pars {
                for mode in [Mode::Latency, Mode::Throughput] {
                    let at_a_time = 1 + random.below(count + 1);
                    let threads = par.threads();
                    let what =
                        format!("graph {seed} on {isa}, {threads} threads, {mode:?}, {at_a_time}");
                    check(&model, &images, &expected, at_a_time, mode, par, &what);
                }
            }
        }
    }
    // Every operation was there, and not by chance alone.
    for op in [
        "conv",
        "linear",
        "float_conv",
        "apply",
        "add",
        "quantize",
        "dequantize",
        "max_pool",
        "average_pool",
        "concat",
        "flatten",
        "up_sample",
    ] {
        let times = seen.get(op).copied().unwrap_or(0);
        assert!(times >= 20 || cfg!(miri), "{op}: {times} times");
    }
    // Of 16-bit floats too, but for residuals of products, which are seldom of the right shape.
    for op in [
        "apply",
        "add",
        "quantize",
        "max_pool",
        "average_pool",
        "concat",
        "flatten",
        "up_sample",
    ] {
        let times = of_halves.get(op).copied().unwrap_or(0);
        assert!(times > 0 || cfg!(miri), "{op} of 16-bit floats");
    }
}
