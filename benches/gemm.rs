//! Products of the usual pairs of encodings on every ISA beside f32 GEMM: multiply-adds a second, one thread.
//!
//! All of it takes a quarter of an hour; with `-- --quick`, or for a part with `-- avx512/bipolar`, much less. Shapes are N x M x K: outputs, rows of activations, inputs. Every product is checked before it is timed.

mod common;

use std::time::Duration;

use common::{Case, Floats, Shape};
use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use qcore::bits::Encoding;
use qcore::isa::Isa;

/// Squares, a long product, two convolutions as products, and two GEMVs.
const SHAPES: [Shape; 7] = [
    Shape::new(512, 512, 512),
    Shape::new(1024, 1024, 1024),
    Shape::new(4096, 256, 4096),
    Shape::new(256, 3136, 1152),
    Shape::new(64, 1024, 576),
    Shape::new(4096, 1, 4096),
    Shape::new(11008, 1, 4096),
];

/// Weights and activations, as `qcore bench` has them.
const PAIRS: [(&str, &str); 8] = [
    ("bipolar", "bipolar"),
    ("bipolar", "u2"),
    ("bipolar", "u4"),
    ("u2", "u2"),
    ("bipolar", "u8"),
    ("ternary", "s8"),
    ("ternary", "bipolar"),
    ("s8", "s8"),
];

/// Multiply-adds beyond which the portable kernels take seconds for what the others do in an instant.
const PORTABLE_MACS: u64 = 1 << 26;

fn gemm(c: &mut Criterion) {
    let encoding = |name: &str| name.parse::<Encoding>().expect("the name of an encoding");
    for shape in SHAPES {
        let mut group = c.benchmark_group(format!("gemm {shape}"));
        group.throughput(Throughput::Elements(shape.macs()));
        group.sampling_mode(SamplingMode::Flat);
        let mut floats = Floats::new(shape);
        group.bench_function("f32", |b| b.iter(|| floats.run()));
        for isa in Isa::ALL {
            if !isa.is_available() {
                println!("skipped: {isa} is not on this machine");
                continue;
            }
            if isa == Isa::Portable && shape.macs() > PORTABLE_MACS {
                println!("skipped: {shape} on {isa} takes too long");
                continue;
            }
            for (w, a) in PAIRS {
                // Made when it is timed, so that a part of the benches takes a part of the time.
                let id = BenchmarkId::new(isa.name(), format!("{w} x {a}"));
                let mut case = None;
                group.bench_function(id, |b| {
                    let make = || Case::new(isa, encoding(w), encoding(a), shape);
                    let case = case.get_or_insert_with(make);
                    b.iter(|| case.run())
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(500));
    targets = gemm
}
criterion_main!(benches);
