//! A run allocates nothing, on any thread: counted by the allocator of this very program, which has no other test.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use qcore::bits::{Encoding, PackedMatrix};
use qcore::model::{Conv, Linear, Mode, Model, ModelBuilder, ValueType, Window};
use qcore::ops::{ActivationFn, Finish, OutputKind, Par, Pool, ResidualAt};
use qcore::quant::{ActQuantizer, QuantRelu, Rounding};

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

/// A net with every kind of node.
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
    let stem = Conv::new(
        weights(Encoding::Bipolar, 40, 27),
        window,
        finish(40, none, OutputKind::Codes(u4)),
    );
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
            finish(40, none, OutputKind::Codes(u4)),
        )
    };
    let z = b.conv(signs, depthwise).unwrap();
    let both = b.concat(&[z, x]).unwrap();
    let pooled = b.max_pool(both, Window::new(2).stride(2)).unwrap();
    let mean = b
        .average_pool(pooled, Window::new(2), 0.2, Some(u4))
        .unwrap();
    let more = b.up_sample(mean, [2, 1]).unwrap();
    let flat = b.flatten(more).unwrap();
    let sum = b
        .add(flat, flat, finish(80 * 50, before, OutputKind::Codes(u4)))
        .unwrap();
    let floats = b.dequantize(sum, 0.3).unwrap();
    let codes = b
        .apply(floats, finish(80 * 50, none, OutputKind::Codes(u4)))
        .unwrap();
    let last = Linear::new(
        weights(Encoding::Bipolar, 10, 80 * 50),
        finish(10, none, OutputKind::F32),
    );
    let logits = b.linear(codes, last).unwrap();
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
