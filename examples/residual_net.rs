//! A small residual net by hand: built, described, saved, loaded and run. Weights are random, so the classes mean nothing.
//!
//! `cargo run --release --example residual_net -- net.qcore`, then `qcore profile net.qcore`.

use qcore::bits::{Encoding, PackedMatrix};
use qcore::model::{Conv, Linear, Mode, Model, ModelBuilder, Scaled, Value, ValueType, Window};
use qcore::ops::{ActivationFn, Finish, OutputKind, Par, Pool, ResidualAt};
use qcore::quant::{self, ActQuantizer, QuantRelu, Rounding};

/// Activations have two bits: 0, 0.5, 1 and 1.5.
const STEP: f32 = 0.5;

fn main() -> qcore::Result<()> {
    // Images of 32 x 32 pixels, 3 channels of 8 bits, as they come.
    let mut b = ModelBuilder::new(ValueType::image(32, 32, 3, 8)?)?;
    let image = b.image();
    let mut x = conv(&mut b, image, [64, 3, 1], 0.001, None)?;
    for (channels, stride) in [(64, 1), (128, 2), (256, 2)] {
        x = block(&mut b, x, channels, stride)?;
    }
    // The mean of each channel in 8 bits, and a linear layer, whose floats are the result.
    let mean = b.global_average_pool(x, STEP, None)?;
    let codes = b.quantize_bytes(mean, quant::Linear::symmetric(8, 1.5 / 127.0)?)?;
    let finish = Finish::new(
        vec![0.01; 10],
        vec![0.0; 10],
        ActivationFn::Identity,
        ResidualAt::Nowhere,
        OutputKind::F32,
    )?;
    let classes = Linear::new(weights(10, 256)?, finish);
    let logits = b.named("classes").linear(codes, classes)?;
    let model = b.build(&[logits])?;

    for (i, node) in model.describe().iter().enumerate() {
        println!(
            "{i} {} {} {} -> {}",
            node.op, node.shape, node.bits, node.made
        );
    }
    let (packed, floats) = model.bytes();
    println!("{packed} bytes packed, {floats} in f32");

    // The file does not depend on this machine.
    let model = match std::env::args_os().nth(1) {
        Some(path) => {
            model.save(path.as_ref())?;
            Model::load(path.as_ref())?
        }
        None => model,
    };

    // Five images, two at a time on each of two threads.
    let pool = Pool::new(2)?;
    let mut workspace = model.workspace(2, pool.threads(), Mode::Throughput)?;
    let images: Vec<u8> = (0..5 * 32 * 32 * 3).map(|i| (i * i % 251) as u8).collect();
    let mut logits = [0.0; 5 * 10];
    model.run(&images, &mut logits, &mut workspace, Par::Pool(&pool))?;
    for logits in logits.chunks(10) {
        println!("{logits:.2?}");
    }
    Ok(())
}

/// Two convolutions, around which the codes go, or a convolution of one pixel where the size changes.
fn block(b: &mut ModelBuilder, x: Value, channels: usize, stride: usize) -> qcore::Result<Value> {
    let y = conv(b, x, [channels, 3, stride], 0.02, None)?;
    let around = match stride {
        1 => x,
        _ => conv(b, x, [channels, 1, stride], 0.1, None)?,
    };
    conv(b, y, [channels, 3, 1], 0.02, Some(around))
}

/// A convolution with weights of one bit, batch norm, a residual, and a quantized ReLU, all in one pass.
fn conv(
    b: &mut ModelBuilder,
    x: Value,
    [channels, kernel, stride]: [usize; 3],
    scale: f32,
    residual: Option<Value>,
) -> qcore::Result<Value> {
    let k = kernel * kernel * b.type_of(x)?.channels;
    let at = match residual {
        Some(_) => ResidualAt::BeforeFunction,
        None => ResidualAt::Nowhere,
    };
    let relu = ActQuantizer::Relu(QuantRelu::new(2, STEP, Rounding::Nearest)?);
    let finish = Finish::new(
        vec![scale; channels],
        vec![0.25; channels],
        ActivationFn::Identity,
        at,
        OutputKind::Codes(relu.into()),
    )?;
    let window = Window::new(kernel).stride(stride).padding(kernel / 2);
    let conv = Conv {
        residual: residual.map(|value| Scaled { value, scale: STEP }),
        ..Conv::new(weights(channels, k)?, window, finish)
    };
    b.conv(x, conv)
}

/// N x K signs.
fn weights(n: usize, k: usize) -> qcore::Result<PackedMatrix> {
    let mut state = (n * k) as u32;
    let mut sign = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { 1 } else { -1 }
    };
    let values: Vec<i32> = (0..n * k).map(|_| sign()).collect();
    PackedMatrix::pack(Encoding::Bipolar, n, k, &values)
}
