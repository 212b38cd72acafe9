//! A run allocates nothing, on any thread: counted by the allocator of this very program, which has no other test.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use qcore::bits::{Encoding, PackedMatrix};
use qcore::model::{Conv, FloatConv, Linear, Mode, Model, ModelBuilder, ValueType, Window};
use qcore::ops::{ActivationFn, Finish, OutputKind, Par, Pool, ResidualAt};
use qcore::quant::{
    ActQuantizer, Granularity, Linear as LinearQuantizer, QuantRelu, Rounding, Scales,
};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to the system's allocator as they are; counting touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn weights(encoding: Encoding, n: usize, k: usize) -> PackedMatrix {
    let hash = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63;
    let odd = |i: usize| 2 * hash(i) as i32 - 1;
    let values: Vec<i32> = (0..n * k).map(odd).collect();
    PackedMatrix::pack(encoding, n, k, &values).unwrap()
}

/// A net with every kind of node, and convolutions of every kind: of bytes and of planes, depthwise, in groups, transposed,
/// with a residual, with a zero point.
fn net() -> Model {
    let finish = |n: usize, at: ResidualAt, output: OutputKind| {
        let (scale, bias) = (vec![0.1; n], vec![0.2; n]);
        Finish::new(scale, bias, ActivationFn::Relu, at, output).unwrap()
    };
    let (none, before) = (ResidualAt::Nowhere, ResidualAt::BeforeFunction);
    let u4 = ActQuantizer::Relu(QuantRelu::new(4, 0.2, Rounding::Ceil).unwrap());
    let window = Window::new(3).padding(1);
    let mut b = ModelBuilder::new(ValueType::image(12, 12, 3, 8).unwrap()).unwrap();
    let image = b.image();
    let stem = Conv {
        zero_point: 100,
        ..Conv::new(
            weights(Encoding::Bipolar, 40, 27),
            window,
            finish(40, none, OutputKind::Codes(u4.into())),
        )
    };
    let x = b.conv(image, stem).unwrap();
    let block = Conv::new(
        weights(Encoding::Ternary, 40, 360),
        window,
        finish(40, before, OutputKind::F16),
    );
    let y = b.conv(x, block.residual(x)).unwrap();
    let y = b.add(y, y, finish(40, before, OutputKind::Bf16)).unwrap();
    let y = b.max_pool(y, Window::new(3).padding(1)).unwrap();
    let signs = b.quantize(y, ActQuantizer::Sign).unwrap();
    let depthwise = Conv {
        groups: 40,
        ..Conv::new(
            weights(Encoding::Bipolar, 40, 9),
            window,
            finish(40, none, OutputKind::Codes(u4.into())),
        )
    };
    let z = b.conv(signs, depthwise).unwrap();
    let both = b.concat(&[z, x]).unwrap();
    let pooled = b.max_pool(both, Window::new(2).stride(2)).unwrap();
    let mean = b
        .average_pool(pooled, Window::new(2), 0.2, Some(u4.into()))
        .unwrap();
    let transposed = Conv {
        transposed: Some([1, 1]),
        ..Conv::new(
            weights(Encoding::Ternary, 80, 720),
            window.stride(2),
            finish(80, none, OutputKind::Codes(u4.into())),
        )
    };
    let grown = b.conv(mean, transposed).unwrap();
    let small = b.max_pool(grown, Window::new(2).stride(2)).unwrap();
    let floats = b.dequantize(small, 0.1).unwrap();
    let scales = |n: usize| Scales::new(Granularity::Channel, vec![0.03f32; n]).unwrap();
    let float_conv = FloatConv {
        groups: 2,
        bias: Some(vec![0.5; 24]),
        ..FloatConv::new(weights(Encoding::Ternary, 24, 360), window, scales(24))
    };
    let floats = b.float_conv(floats, float_conv).unwrap();
    let affine = LinearQuantizer::affine(Encoding::unsigned(8).unwrap(), 0.05, 90).unwrap();
    let bytes = b.quantize_bytes(floats, affine).unwrap();
    let grouped = Conv {
        groups: 2,
        zero_point: 90,
        ..Conv::new(
            weights(Encoding::Bipolar, 40, 108),
            window,
            finish(40, none, OutputKind::Codes(u4.into())),
        )
    };
    let codes = b.conv(bytes, grouped).unwrap();
    let more = b.up_sample(codes, [2, 1]).unwrap();
    let flat = b.flatten(more).unwrap();
    let sum = b
        .add(
            flat,
            flat,
            finish(40 * 50, before, OutputKind::Codes(u4.into())),
        )
        .unwrap();
    let floats = b.dequantize(sum, 0.3).unwrap();
    let codes = b
        .apply(floats, finish(40 * 50, none, OutputKind::Codes(u4.into())))
        .unwrap();
    let hidden = Linear {
        zero_point: 3,
        ..Linear::new(
            weights(Encoding::Bipolar, 30, 40 * 50),
            finish(30, none, OutputKind::F32),
        )
    };
    let hidden = b.linear(codes, hidden).unwrap();
    let last = weights(Encoding::Bipolar, 10, 30);
    let logits = b.float_linear(hidden, last, scales(10), None).unwrap();
    b.build(&[logits]).unwrap()
}

/// Allocations of all threads during the thriftiest of some runs: threads that wake up for the first time allocate too.
fn least(mut run: impl FnMut()) -> usize {
    let counts = (0..20).map(|_| {
        let before = COUNT.load(Ordering::SeqCst);
        run();
        COUNT.load(Ordering::SeqCst) - before
    });
    counts.min().unwrap()
}

#[test]
fn a_run_allocates_nothing() {
    let model = net();
    let images: Vec<u8> = (0..40 * 12 * 12 * 3).map(|i| (i * 31) as u8).collect();
    let pool = Pool::new(2).unwrap();
    for mode in [Mode::Latency, Mode::Throughput] {
        let mut logits = vec![0.0; 40 * 10];
        let mut workspace = model.workspace(2, 1, mode).unwrap();
        let mut run = || {
            let done = model.run(&images, &mut logits, &mut workspace, Par::Caller);
            done.unwrap();
        };
        run();
        assert_eq!(least(run), 0, "{mode:?}");
        assert!(logits.iter().any(|&l| l != logits[0]));

        // On a pool: nothing for a caller that is one of its workers; from outside a run goes in once, without a job of its
        // own, or hands a job to each thread.
        let alone = logits.clone();
        let mut workspace = model.workspace(20, 2, mode).unwrap();
        let mut run = || {
            let done = model.run(&images, &mut logits, &mut workspace, Par::Pool(&pool));
            done.unwrap();
        };
        let outside = least(&mut run);
        let most = match mode {
            Mode::Latency => 0,
            Mode::Throughput => 2,
        };
        assert!(outside <= most, "{mode:?}: {outside}");
        assert_eq!(pool.install(|| least(&mut run)), 0, "{mode:?}, inside");
        assert_eq!(logits, alone);
    }
}
