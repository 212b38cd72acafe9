//! Floats into bit planes and bytes, for every ISA, width and float type, by a fixed scale or one of the row, beside
//! a copy of the same floats.
//!
//! Portable stays out above 64 K values. Every result is checked before it is timed.

mod common;

use std::time::Duration;

use common::Random;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use criterion::{criterion_group, criterion_main, measurement::WallTime};
use half::{bf16, f16};
use qcore::bits::PackedMatrix;
use qcore::isa::Isa;
use qcore::kernels::Kernels;
use qcore::ops::{Par, quantize as quantize_into, quantize_bytes, quantize_rows_bytes};
use qcore::quant::{ActQuantizer, Float, Linear, QuantRelu, Rounding, RowQuantizer};

/// Values in rows of 4096: in L1, L2, L3 and beyond.
const SIZES: [usize; 4] = [1 << 12, 1 << 16, 1 << 20, 1 << 24];
const COLS: usize = 4096;

fn quantize(c: &mut Criterion) {
    for size in SIZES {
        let mut group = c.benchmark_group(format!("quantize {size}"));
        let floats = Random(size as u64).floats(size);
        copy(&mut group, "f32", &floats);
        let f16s: Vec<f16> = floats.iter().map(|&x| f16::from_f32(x)).collect();
        let bf16s: Vec<bf16> = floats.iter().map(|&x| bf16::from_f32(x)).collect();
        for kernels in Kernels::available() {
            if kernels.isa() == Isa::Portable && size > 1 << 16 {
                println!("skipped: portable, {size} values");
                continue;
            }
            rows(&mut group, "f32", kernels, &floats);
            rows(&mut group, "f16", kernels, &f16s);
            rows(&mut group, "bf16", kernels, &bf16s);
        }
        group.finish();
    }
}

/// What a copy of the floats takes: reading them is the least that quantizing must do.
fn copy(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, x: &[f32]) {
    group.throughput(Throughput::Bytes(size_of_val(x) as u64));
    let mut copy = x.to_vec();
    group.bench_function(BenchmarkId::new("copy", name), |b| {
        b.iter(|| std::hint::black_box(&mut copy[..]).copy_from_slice(x))
    });
}

/// One ISA and float type: each width.
fn rows<T: Float>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    kernels: &Kernels,
    x: &[T],
) {
    group.throughput(Throughput::Bytes(size_of_val(x) as u64));
    let mut quantizers = vec![ActQuantizer::Sign];
    quantizers.extend([1, 2, 4, 8].map(|bits| {
        let alpha = 1.0 / ((1 << bits) - 1) as f32;
        ActQuantizer::Relu(QuantRelu::new(bits, alpha, Rounding::Nearest).expect("a quantizer"))
    }));
    for q in quantizers {
        let e = q.encoding();
        let mut out = PackedMatrix::zeros(e, x.len() / COLS, COLS).expect("a matrix");
        let mut run =
            || quantize_into(kernels, x, q, &mut out, Par::Caller).expect("lengths that fit");
        run();
        let row = out.rows() / 2;
        let expected = x[row * COLS..][..COLS].iter();
        let expected: Vec<i32> = expected
            .map(|x| {
                e.decode(q.code(x.to_f32()))
                    .expect("a code of the encoding")
            })
            .collect();
        let got = out.view().slice_rows(row..row + 1).unpack();
        let isa = kernels.isa();
        assert_eq!(got, expected, "{isa}: {name} to {e}");
        let mut run =
            || quantize_into(kernels, x, q, &mut out, Par::Caller).expect("lengths that fit");
        group.bench_function(BenchmarkId::new(format!("{isa} {name}"), e), |b| {
            b.iter(&mut run)
        });
    }
    bytes(group, name, kernels, x);
}

/// Bytes by a fixed scale, and by that of the row.
fn bytes<T: Float>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    kernels: &Kernels,
    x: &[T],
) {
    let isa = kernels.isa();
    let (mut out, mut scales) = (vec![0u8; x.len()], vec![0f32; x.len() / COLS]);
    let row = scales.len() / 2 * COLS..scales.len() / 2 * COLS + COLS;
    let check = |out: &[u8], q: &Linear| {
        for (x, &got) in x[row.clone()].iter().zip(&out[row.clone()]) {
            assert_eq!(q.integer(x.to_f32()), i32::from(got as i8), "{isa}: {name}");
        }
    };
    let fixed = Linear::symmetric(8, 1.0 / 127.0).expect("a quantizer");
    quantize_bytes(kernels, x, fixed, &mut out, Par::Caller).expect("lengths that fit");
    check(&out, &fixed);
    let id = BenchmarkId::new(format!("{isa} {name}"), "s8 bytes");
    group.bench_function(id, |b| {
        b.iter(|| {
            quantize_bytes(kernels, x, fixed, &mut out, Par::Caller).expect("lengths that fit")
        })
    });
    let of_row = RowQuantizer::symmetric(8).expect("a quantizer");
    let mut run = || {
        quantize_rows_bytes(
            kernels,
            x,
            &of_row,
            &mut out,
            &mut scales,
            &mut [],
            Par::Caller,
        )
    };
    run().expect("lengths that fit");
    let floats: Vec<f32> = x[row.clone()].iter().map(|x| x.to_f32()).collect();
    let id = BenchmarkId::new(format!("{isa} {name}"), "s8 bytes by row");
    group.bench_function(id, |b| b.iter(|| run().expect("lengths that fit")));
    check(&out, &of_row.of(&floats));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300));
    targets = quantize
}
criterion_main!(benches);
