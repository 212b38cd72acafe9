//! The net of `residual_net.c`, built here of the same numbers: both give the same logits and the same file.

use qcore::bits::{Encoding, PackedMatrix};
use qcore::isa::Isa;
use qcore::model::{Conv, Linear, Model, ModelBuilder, Scaled, Value, ValueType, Window};
use qcore::ops::{ActivationFn, Finish, OutputKind, Pad, ResidualAt};
use qcore::quant::{self, ActQuantizer, QuantRelu, Rounding};

/// Rows and columns of an image, of three channels.
pub const SIZE: [usize; 2] = [9, 5];

/// `next_random` of `check.h`.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// `random_value` of `check.h`.
    fn value(&mut self, encoding: Encoding) -> i32 {
        let span = (encoding.max() - encoding.min()) as u32;
        let r = self.next() >> 7;
        match encoding {
            Encoding::Bipolar => (r % 2) as i32 * 2 - 1,
            _ => (r % (span + 1)) as i32 + encoding.min(),
        }
    }
}

fn numbers(n: usize, factor: f32, seed: u32) -> Vec<f32> {
    let mut random = Random(seed);
    let number = |_| ((random.next() >> 9 & 1023) as i32 - 511) as f32 / 512.0 * factor;
    (0..n).map(number).collect()
}

/// A layer of the program: its input, channels, kernel (0: linear) and stride, and what its numbers come from.
struct Layer {
    x: Value,
    channels: usize,
    kernel: usize,
    stride: usize,
    weights: Encoding,
    factor: f32,
    seed: u32,
}

/// What follows the sums: with slope, before and after of the layer's numbers.
#[derive(Clone, Copy)]
enum Function {
    Identity,
    Relu,
    PRelu,
    RPRelu,
}

impl Layer {
    fn filters(&self, b: &ModelBuilder) -> PackedMatrix {
        let image = b.type_of(self.x).unwrap();
        let k = match self.kernel {
            0 => image.len(),
            kernel => kernel * kernel * image.channels,
        };
        let mut random = Random(self.seed);
        let values = (0..self.channels * k).map(|_| random.value(self.weights));
        let values: Vec<i32> = values.collect();
        PackedMatrix::pack(self.weights, self.channels, k, &values).unwrap()
    }

    fn finish(&self, function: Function, at: ResidualAt, output: OutputKind) -> Finish {
        let floats = |i: u32| numbers(self.channels, 1.0, self.seed + i);
        let function = match function {
            Function::Identity => ActivationFn::Identity,
            Function::Relu => ActivationFn::Relu,
            Function::PRelu => ActivationFn::PRelu { slope: floats(3) },
            Function::RPRelu => ActivationFn::RPRelu {
                before: floats(4),
                slope: floats(3),
                after: floats(5),
            },
        };
        let scale = numbers(self.channels, self.factor, self.seed + 1);
        Finish::new(scale, floats(2), function, at, output).unwrap()
    }

    fn conv(
        &self,
        b: &mut ModelBuilder,
        function: Function,
        output: OutputKind,
        residual: Option<(ResidualAt, Scaled)>,
        pad: Pad,
    ) -> Value {
        let at = residual.map_or(ResidualAt::Nowhere, |(at, _)| at);
        let finish = self.finish(function, at, output);
        let window = Window::new(self.kernel);
        let window = window.stride(self.stride).padding(self.kernel / 2);
        let conv = Conv {
            pad,
            residual: residual.map(|(_, scaled)| scaled),
            ..Conv::new(self.filters(b), window, finish)
        };
        b.conv(self.x, conv).unwrap()
    }
}

/// The net, with the logits as its output, and the stream before them if `both`.
pub fn residual_net(isa: Isa, both: bool) -> Model {
    let image = ValueType::image(SIZE[0], SIZE[1], 3, 8).unwrap();
    let mut b = ModelBuilder::on(isa, image).unwrap();
    let levels = QuantRelu::new(2, 0.5, Rounding::Ceil).unwrap();
    let levels = OutputKind::Codes(levels.into());
    let signs = OutputKind::Codes(ActQuantizer::Sign.into());
    let layer = Layer {
        x: b.image(),
        channels: 40,
        kernel: 3,
        stride: 1,
        weights: Encoding::signed(4).unwrap(),
        factor: 0.001,
        seed: 100,
    };
    b.named("stem");
    let x = layer.conv(&mut b, Function::Relu, levels, None, Pad::Zero);
    let x = b.max_pool(x, Window::new(2).stride(2)).unwrap();

    let (weights, factor) = (Encoding::Bipolar, 0.1);
    let layer = Layer {
        x,
        weights,
        factor,
        seed: 200,
        ..layer
    };
    let y = layer.conv(&mut b, Function::PRelu, levels, None, Pad::Zero);
    let layer = Layer {
        x: y,
        seed: 300,
        ..layer
    };
    let residual = Scaled {
        value: x,
        scale: 0.5,
    };
    let residual = Some((ResidualAt::BeforeFunction, residual));
    let x = layer.conv(&mut b, Function::Relu, levels, residual, Pad::Zero);

    let layer = Layer {
        x,
        channels: 64,
        kernel: 1,
        stride: 2,
        seed: 400,
        ..layer
    };
    let identity = Function::Identity;
    let shortcut = layer.conv(&mut b, identity, OutputKind::F16, None, Pad::Zero);
    let layer = Layer {
        kernel: 3,
        seed: 500,
        ..layer
    };
    let y = layer.conv(&mut b, identity, signs, None, Pad::Zero);
    let layer = Layer {
        x: y,
        stride: 1,
        weights: Encoding::Ternary,
        seed: 600,
        ..layer
    };
    let residual = Some((ResidualAt::AfterFunction, Scaled::from(shortcut)));
    let function = Function::RPRelu;
    let stream = layer.conv(&mut b, function, OutputKind::Bf16, residual, Pad::PlusOne);

    let x = b.quantize(stream, ActQuantizer::Sign).unwrap();
    let x = b.concat(&[y, x]).unwrap();
    let x = b.global_average_pool(x, 1.0, None).unwrap();
    let bytes = quant::Linear::symmetric(8, 1.0 / 64.0).unwrap();
    let x = b.quantize_bytes(x, bytes).unwrap();
    let classes = Layer {
        x,
        channels: 10,
        kernel: 0,
        stride: 0,
        weights: Encoding::signed(8).unwrap(),
        factor: 0.001,
        seed: 700,
    };
    let finish = classes.finish(identity, ResidualAt::Nowhere, OutputKind::F32);
    let linear = Linear::new(classes.filters(&b), finish);
    let logits = b.named("classes").linear(x, linear).unwrap();
    match both {
        true => b.build(&[logits, stream]).unwrap(),
        false => b.build(&[logits]).unwrap(),
    }
}

/// `count` images.
pub fn images(count: usize) -> Vec<u8> {
    let mut random = Random(9);
    let bytes = 0..count * SIZE[0] * SIZE[1] * 3;
    bytes.map(|_| (random.next() >> 9) as u8).collect()
}
