//! Step functions over slices: 64 K elements, what fits into L2, for each rule, gradient and projection.
//!
//! Every projection is checked before it is timed. Time by elements is the figure of `benches/record`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput};
use criterion::{criterion_group, criterion_main, measurement::WallTime};
use qcore::bits::Bits;
use qcore::nn::rng::Rng;
use qcore::nn::ste::{CoarseAlpha, CoarseW, CoarseX, alpha_fit, mask_w, mask_x, sum_alpha};
use qcore::nn::weight::{Given, Project, Projection, WeightQuantizer, lsq_backward};
use qcore::quant::{QuantRelu, Rounding};
use qcore::train::sgd::Sgd;
use qcore::train::step::{Adam, AdamState, Bop, Freezer, GridRounding};
use qcore::train::step::{blend, clip, combine, dampen, descend, metric_step, relax, round};

const LEN: usize = 1 << 16;

/// `LEN` draws from N(0, std^2).
fn normals(seed: u64, std: f32) -> Vec<f32> {
    let mut x = vec![0.0; LEN];
    Rng::new(seed).fill_normal(&mut x, std);
    x
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(LEN as u64));
    group
}

/// The rules: each step begins with the same weights, copied over, so that no run changes the next.
fn rules(c: &mut Criterion) {
    let mut group = group(c, "step");
    let (first, other, g) = (normals(1, 0.5), normals(2, 0.5), normals(3, 0.01));
    let metric: Vec<f32> = other.iter().map(|x| 0.1 + x.abs()).collect();
    let mut w = first.clone();
    let mut run = |name: &str, f: &mut dyn FnMut(&mut [f32])| {
        w.copy_from_slice(&first);
        f(&mut w);
        assert!(w.iter().all(|w| w.is_finite()), "{name}");
        group.bench_function(name, |b| {
            b.iter(|| {
                w.copy_from_slice(&first);
                f(black_box(&mut w));
            })
        });
    };
    let rng = Rng::new(4).at(5, 6);
    let (nearest, drawn) = (GridRounding::Deterministic, GridRounding::Stochastic(rng));
    run("copy", &mut |_| {});
    run("blend", &mut |w| blend(w, &other, 0.1).expect("a step"));
    let mut out = vec![0.0; LEN];
    run("relax", &mut |w| {
        relax(w, &other, 2.0, &mut out).expect("a step");
    });
    run("descend", &mut |w| descend(w, &g, 0.1).expect("a step"));
    run("round nearest", &mut |w| {
        round(w, 0.05, nearest).expect("a step");
    });
    run("round stochastic", &mut |w| {
        round(w, 0.05, drawn).expect("a step");
    });
    run("clip", &mut |w| clip(w, 1.0).expect("a step"));
    run("combine", &mut |w| {
        combine(w, &other, 0.6).expect("a step");
    });
    run("metric_step", &mut |w| {
        metric_step(w, &g, &metric).expect("a step");
    });
    run("dampen", &mut |w| {
        dampen(&first, &other, (-0.5, 0.5), 0.1, w).expect("a step");
    });
    run("lsq_backward", &mut |w| {
        black_box(lsq_backward(&first, 0.2, 4, w).expect("a step"));
    });
    let sgd = Sgd {
        lr: 0.1,
        momentum: 0.9,
        weight_decay: 1e-4,
    };
    let mut velocity = vec![0.0; LEN];
    run("sgd", &mut |w| {
        sgd.step(w, &g, &mut velocity).expect("a step");
    });
    let (adam, mut state) = (Adam::default(), AdamState::zeros(LEN));
    run("adam", &mut |w| {
        adam.step(w, &g, &mut state).expect("a step");
    });
    let (bop, mut mean) = (Bop::default(), vec![0.0; LEN]);
    run("bop", &mut |w| {
        black_box(bop.step(w, &g, &mut mean).expect("a step"));
    });
    let codes: Vec<i32> = first.iter().map(|w| (w * 4.0) as i32).collect();
    let mut freezer = Freezer::new(LEN, 0.01, true).expect("a freezer");
    run("freeze", &mut |w| {
        black_box(freezer.step(&codes, 0.25, 0.02, w).expect("a step"));
    });
    group.finish();
}

/// Coarse gradients, by x, by alpha of 4 bits and by the weights.
fn gradients(c: &mut Criterion) {
    let mut group = group(c, "gradient");
    let (x, first) = (normals(7, 1.0), normals(8, 0.01));
    let bits = Bits::new(4).expect("a width");
    let mut d = first.clone();
    for by in CoarseX::ALL {
        group.bench_function(format!("mask_x {}", by.name()), |b| {
            b.iter(|| {
                d.copy_from_slice(&first);
                mask_x(by, &x, 0.19, bits, black_box(&mut d)).expect("a gradient");
            })
        });
    }
    group.bench_function("mask_w clip1", |b| {
        b.iter(|| {
            d.copy_from_slice(&first);
            mask_w(CoarseW::Clip1, &x, black_box(&mut d)).expect("a gradient");
        })
    });
    for rounding in [Rounding::Ceil, Rounding::Nearest] {
        let relu = QuantRelu::new(4, 0.19, rounding).expect("a quantizer");
        for by in CoarseAlpha::ALL {
            let got = sum_alpha(by, &x, &relu, &first).expect("a gradient");
            let pairs = x.iter().zip(&first);
            let sum: f64 = pairs
                .map(|(x, d)| f64::from(*d) * f64::from(by.dalpha(*x, &relu)))
                .sum();
            assert!((f64::from(got) - sum).abs() < 1e-2, "{by:?}: {got} {sum}");
            group.bench_function(format!("sum_alpha {by:?} {rounding:?}"), |b| {
                b.iter(|| sum_alpha(by, black_box(&x), &relu, &first))
            });
        }
        group.bench_function(format!("alpha_fit {rounding:?}, 1 round"), |b| {
            b.iter(|| alpha_fit(black_box(&x), &relu, 1))
        });
    }
    group.finish();
}

/// Projections of one tensor, those of the loss in a metric.
fn projections(c: &mut Criterion) {
    let mut group = group(c, "project");
    let w = normals(9, 0.05);
    let metric: Vec<f32> = normals(10, 1.0).iter().map(|z| 0.1 + z.abs()).collect();
    let given = Given {
        metric: Some(&metric),
        rng: Rng::new(11),
        ..Given::default()
    };
    let mut out = Projection::default();
    for text in [
        "binary-mean",
        "binary-median",
        "binary-plain",
        "ternary-twn",
        "ternary-exact",
        "ternary-abs-mean",
        "uniform-sym",
        "uniform-sym:sweeps=20",
        "grid-det:delta=0.01",
        "grid-stoch:delta=0.01",
        "stoch-binary",
        "loss-aware-binary",
        "loss-aware-ternary",
        "loss-aware-ternary:search=approx",
        "loss-aware-ternary:search=two-scale",
        "loss-aware-linear",
        "loss-aware-linear:bits=4",
        "loss-aware-log",
        "loss-aware-log:bits=4",
        "lsq-weight",
        "dorefa",
    ] {
        let quantizer: WeightQuantizer = text.parse().expect("a quantizer");
        let mut run = || quantizer.project_into(&w, 256, LEN / 256, given, &mut out);
        run().expect("a projection");
        group.bench_function(text, |b| b.iter(|| run().expect("a projection")));
        if let [scale] = out.scales[..] {
            let mut pairs = out.codes.iter().zip(&out.values);
            let of_code = |(code, value): (&i32, &f32)| *value == scale * *code as f32;
            assert!(pairs.all(of_code), "{text}");
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .nresamples(1_000)
        .warm_up_time(Duration::from_millis(30))
        .measurement_time(Duration::from_millis(150));
    targets = rules, gradients, projections
}
criterion_main!(benches);
