//! Bit GEMM of every ISA and activation width beside f32 GEMM: multiply-adds a second, one thread.
//!
//! Shapes are N x M x K: outputs, rows of activations, inputs. Every product is checked before it is timed.

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

/// Bit operations beyond which the portable kernels take seconds for what the others do in an instant.
const PORTABLE_BITS: u64 = 1 << 30;

fn gemm(c: &mut Criterion) {
    let mut encodings = vec![Encoding::Bipolar];
    encodings.extend([1, 2, 4, 8].map(|bits| Encoding::unsigned(bits).expect("1 to 8 bits")));
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
            for &encoding in &encodings {
                let bits = shape.macs() * encoding.planes() as u64;
                if isa == Isa::Portable && bits > PORTABLE_BITS {
                    println!(
                        "skipped: {shape} on {isa} with {encoding} activations takes too long"
                    );
                    continue;
                }
                let mut case = Case::new(isa, encoding, shape);
                let id = BenchmarkId::new(isa.name(), encoding);
                group.bench_function(id, |b| b.iter(|| case.run()));
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
