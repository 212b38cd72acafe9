//! Convolution beside what bounds it: the same multiply-adds as a product of matrices, and on registers alone.
//!
//! Throughput is multiply-adds a second on one thread, so percentages are ratios of the figures of one group. The first
//! layer stands beside the same layer in f32: im2col, then the `gemm` crate. Every convolution is checked before it is
//! timed.

mod common;

use std::time::Duration;

use common::{Case, Floats, Random, Shape};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use qcore::bits::{ByteRef, Encoding, PackedMatrix};
use qcore::isa::Isa;
use qcore::kernels::bounds::{Loops, Sequence};
use qcore::ops::{
    ActivationFn, Activations, Conv2d, Finish, Geometry, OutputKind, Pad, Padding, Par, ResidualAt,
};
use qcore::quant::ActQuantizer;

/// C, O and the side of square images; 3 x 3 filters.
const LAYERS: [(usize, usize, usize); 5] = [
    (64, 64, 56),
    (128, 128, 28),
    (256, 256, 14),
    (512, 512, 7),
    (16, 16, 32),
];

fn geometry(channels: usize, side: usize) -> Geometry {
    Geometry {
        padding: Padding::same(1),
        ..Geometry::new(side, side, channels, 3)
    }
}

/// A layer that gives bits, and its buffers.
struct Layer {
    plan: Conv2d,
    out: PackedMatrix,
    scratch: Vec<i32>,
}

impl Layer {
    /// Random bits of filters, run once and checked in some pixels.
    fn new(isa: Isa, activation: Encoding, g: Geometry, o: usize, input: Activations<'_>) -> Self {
        let k = 9 * g.channels;
        let filters = Random(7).packed(Encoding::Bipolar, o, k);
        let finish = Finish::new(
            vec![0.01; o],
            vec![0.0; o],
            ActivationFn::Identity,
            ResidualAt::Nowhere,
            OutputKind::Codes(ActQuantizer::Sign.into()),
        );
        let finish = finish.expect("finite");
        let plan =
            Conv2d::on(isa, filters.view(), activation, g, Pad::Zero, finish).expect("a plan");
        let pixels = g.height * g.width;
        let mut layer = Layer {
            out: PackedMatrix::zeros(Encoding::Bipolar, pixels, o).expect("a size"),
            scratch: vec![0; plan.scratch_len(1)],
            plan,
        };
        layer.run(input);
        let x: Vec<i32> = match input {
            Activations::Planes(planes) => planes.unpack(),
            Activations::Bytes(bytes) => bytes.data().iter().map(|&b| i32::from(b)).collect(),
        };
        let (w, out) = (filters.unpack(), layer.out.unpack());
        for pixel in [0, g.width - 1, pixels / 2, pixels / 2 + 7, pixels - 1] {
            for n in [0, o - 1] {
                let mut sum = 0;
                for i in 0..k {
                    let (tap, c) = (i / g.channels, i % g.channels);
                    let y = (pixel / g.width + tap / 3).wrapping_sub(1);
                    let x_at = (pixel % g.width + tap % 3).wrapping_sub(1);
                    if y < g.height && x_at < g.width {
                        sum += w[n * k + i] * x[(y * g.width + x_at) * g.channels + c];
                    }
                }
                let sign = if sum >= 0 { 1 } else { -1 };
                assert_eq!(
                    out[pixel * o + n],
                    sign,
                    "{:?} at [{pixel}, {n}]",
                    layer.plan
                );
            }
        }
        layer
    }

    fn run(&mut self, input: Activations<'_>) {
        let run = self
            .plan
            .run_codes(input, 0..1, &mut self.out, &mut self.scratch, Par::Caller);
        run.expect("what was checked when the layer was made");
    }
}

fn conv(c: &mut Criterion) {
    for (channels, o, side) in LAYERS {
        let g = geometry(channels, side);
        let shape = Shape::new(o, side * side, 9 * channels);
        let mut group = c.benchmark_group(format!("conv 3x3 {channels}-{o} at {side}x{side}"));
        group.sampling_mode(SamplingMode::Flat);
        for isa in Isa::available().filter(|&isa| isa != Isa::Portable) {
            let loops = Loops::of(isa).expect("an ISA of this machine");
            for sequence in [Sequence::Count, Sequence::LookUp] {
                if let Some(macs) = loops.run(sequence, 1) {
                    group.throughput(Throughput::Elements(macs * 1000));
                    let name = format!("{isa} bound {sequence:?}");
                    group.bench_function(name, |b| b.iter(|| loops.run(sequence, 1000)));
                }
            }
            group.throughput(Throughput::Elements(shape.macs()));
            for activation in ["bipolar", "u2", "u4"] {
                let e: Encoding = activation.parse().expect("a name");
                let mut case = Case::new(isa, Encoding::Bipolar, e, shape);
                group.bench_function(format!("{isa} {e} gemm"), |b| b.iter(|| case.run()));
                let x = Random(3).packed(e, side * side, channels);
                let mut layer = Layer::new(isa, e, g, o, x.view().into());
                let name = format!("{isa} {e} conv to bits");
                group.bench_function(name, |b| b.iter(|| layer.run(x.view().into())));
            }
        }
        group.finish();
    }
}

/// 3 to 64 channels, 3 x 3, 32 x 32 pixels of a byte.
fn first(c: &mut Criterion) {
    let (side, o) = (32, 64);
    let g = geometry(3, side);
    let shape = Shape::new(o, side * side, 27);
    let mut group = c.benchmark_group("first layer 3-64 at 32x32");
    group.throughput(Throughput::Elements(shape.macs()));
    let mut floats = Floats::new(shape);
    let image = Random(5).floats(side * side * 3);
    group.bench_function("f32 im2col and gemm", |b| {
        b.iter(|| {
            im2col(&image, side, 3, floats.activations());
            floats.run();
        })
    });
    let mut random = Random(9);
    let pixels: Vec<u8> = (0..side * side * 3).map(|_| random.next() as u8).collect();
    let u8 = Encoding::unsigned(8).expect("8 bits");
    let x = ByteRef::new(u8, side * side, 3, &pixels).expect("all bytes are u8");
    for isa in Isa::available() {
        let mut layer = Layer::new(isa, u8, g, o, x.into());
        group.bench_function(format!("{isa} u8 to bits"), |b| {
            b.iter(|| layer.run(x.into()))
        });
    }
    group.finish();
}

/// All 3 x 3 patches of an image with a border of zeros, a row each.
fn im2col(image: &[f32], side: usize, channels: usize, out: &mut [f32]) {
    for (pixel, out) in out.chunks_exact_mut(9 * channels).enumerate() {
        for (tap, out) in out.chunks_exact_mut(channels).enumerate() {
            let y = (pixel / side + tap / 3).wrapping_sub(1);
            let x = (pixel % side + tap % 3).wrapping_sub(1);
            if y < side && x < side {
                out.copy_from_slice(&image[(y * side + x) * channels..][..channels]);
            } else {
                out.fill(0.0);
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(200));
    targets = first, conv
}
criterion_main!(benches);
