//! The nets: ResNet-18, VGG-11, ResNet-20 and Bi-Real-18 with random weights.
//!
//! Weights have one bit and activations 1 (-1 and +1), 2 or 4 (a quantized ReLU), but for the first and the last layer,
//! which have weights of eight bits over codes of eight bits, as low-bit nets do. Batch norm is the scale and bias of a
//! finish. Scales are such that what enters a quantizer spreads over its levels.

use qcore::Result;
use qcore::bits::{Encoding, PackedMatrix};
use qcore::isa::Isa;
use qcore::model::{Conv, Linear, Model, ModelBuilder, Scaled, Value, ValueType, Window};
use qcore::ops::{ActivationFn, Finish, OutputKind, ResidualAt};
use qcore::quant::{self, ActQuantizer, QuantRelu, Rounding};

use crate::common::Random;

/// A net of the bench.
pub struct Net {
    /// Its name here and in `onnx_nets.py`.
    pub name: &'static str,
    /// Rows and columns of its images, of three channels of eight bits.
    pub size: usize,
    pub classes: usize,
    define: fn(&mut Maker) -> Result<Flow>,
}

pub const NETS: [Net; 4] = [
    Net::new("resnet18", 224, 1000, resnet18),
    Net::new("vgg11", 32, 10, vgg11),
    Net::new("resnet20", 32, 10, resnet20),
    Net::new("bireal18", 224, 1000, bireal18),
];

impl Net {
    const fn new(
        name: &'static str,
        size: usize,
        classes: usize,
        define: fn(&mut Maker) -> Result<Flow>,
    ) -> Self {
        Net {
            name,
            size,
            classes,
            define,
        }
    }

    /// The net with activations of `bits` bits, on `isa`; always the same weights.
    pub fn model(&self, isa: Isa, bits: usize) -> Result<Model> {
        let builder = ModelBuilder::on(isa, ValueType::image(self.size, self.size, 3, 8)?)?;
        let mut maker = Maker {
            builder,
            random: Random(1),
            bits,
            layers: 0,
        };
        let last = (self.define)(&mut maker)?;
        let logits = maker.classes(last, self.classes)?;
        maker.builder.build(&[logits])
    }

    /// `count` random images.
    pub fn images(&self, count: usize) -> Vec<u8> {
        let mut random = Random(2);
        let bytes = 0..count * self.size * self.size * 3;
        bytes.map(|_| (random.next() >> 32) as u8).collect()
    }
}

/// A value on its way through a net.
#[derive(Clone, Copy)]
struct Flow {
    value: Value,
    /// The float that an integer 1 of it stands for; 1 for floats.
    scale: f32,
    /// About how large its integers are, or its floats: the root of the mean square.
    size: f32,
}

/// What leaves a layer.
#[derive(Clone, Copy)]
enum Leaves {
    Codes,
    Floats,
}

struct Maker {
    builder: ModelBuilder,
    random: Random,
    bits: usize,
    layers: usize,
}

/// Codes of eight bits, all equally likely, as images are; and weights likewise.
const IMAGE_SIZE: f32 = 147.0;
const BYTE_SIZE: f32 = 74.0;

impl Maker {
    /// Signs for one bit, else a quantized ReLU that reaches twice the size of what enters.
    fn quantizer(&self) -> Result<ActQuantizer> {
        Ok(match self.bits {
            1 => ActQuantizer::Sign,
            bits => ActQuantizer::Relu(QuantRelu::new(bits, self.step(), Rounding::Nearest)?),
        })
    }

    /// The float of the code 1.
    fn step(&self) -> f32 {
        match self.bits {
            1 => 1.0,
            bits => 2.0 / ((1 << bits) - 1) as f32,
        }
    }

    fn codes(&self, value: Value) -> Flow {
        let scale = self.step();
        // Half of a normal distribution, cut at 2.
        let size = if self.bits == 1 { 1.0 } else { 0.7 / scale };
        Flow { value, scale, size }
    }

    fn floats(value: Value) -> Flow {
        Flow {
            value,
            scale: 1.0,
            size: 1.0,
        }
    }

    fn image(&self) -> Flow {
        Flow {
            value: self.builder.image(),
            scale: 1.0,
            size: IMAGE_SIZE,
        }
    }

    /// Batch norm and what leaves behind sums of `k` products of integers of the sizes.
    fn finish(
        &mut self,
        n: usize,
        size: f32,
        residual: Option<&Flow>,
        leaves: Leaves,
    ) -> Result<Finish> {
        let mut floats = |low: f32, high: f32| -> Vec<f32> {
            let unit = self.random.floats(n).into_iter();
            unit.map(|u| low + (high - low) * 0.5 * (u + 1.0)).collect()
        };
        let scale = floats(0.7 / size, 1.3 / size);
        let bias = floats(-0.2, 0.2);
        let output = match leaves {
            Leaves::Codes => OutputKind::Codes(self.quantizer()?.into()),
            Leaves::Floats => OutputKind::F32,
        };
        let at = match residual {
            Some(_) => ResidualAt::BeforeFunction,
            None => ResidualAt::Nowhere,
        };
        Finish::new(scale, bias, ActivationFn::Identity, at, output)
    }

    fn conv(
        &mut self,
        x: Flow,
        channels: usize,
        [kernel, stride]: [usize; 2],
        residual: Option<Flow>,
        leaves: Leaves,
    ) -> Result<Flow> {
        let image = x.value == self.builder.image();
        let k = kernel * kernel * self.builder.type_of(x.value)?.channels;
        let (encoding, weight_size) = match image {
            true => (Encoding::signed(8)?, BYTE_SIZE),
            false => (Encoding::Bipolar, 1.0),
        };
        let filters: PackedMatrix = self.random.packed(encoding, channels, k);
        let size = x.size * weight_size * (k as f32).sqrt();
        let finish = self.finish(channels, size, residual.as_ref(), leaves)?;
        let window = Window::new(kernel).stride(stride).padding(kernel / 2);
        let mut conv = Conv::new(filters, window, finish);
        if let Some(Flow { value, scale, .. }) = residual {
            conv = conv.residual(Scaled { value, scale });
        }
        self.layers += 1;
        let name = format!("conv{}", self.layers);
        let value = self.builder.named(name).conv(x.value, conv)?;
        Ok(match leaves {
            Leaves::Codes => self.codes(value),
            Leaves::Floats => Self::floats(value),
        })
    }

    fn max_pool(&mut self, x: Flow, window: Window) -> Result<Flow> {
        let value = self.builder.max_pool(x.value, window)?;
        Ok(Flow { value, ..x })
    }

    fn quantize(&mut self, x: Flow) -> Result<Flow> {
        let quantizer = self.quantizer()?;
        let value = self.builder.quantize(x.value, quantizer)?;
        Ok(self.codes(value))
    }

    /// Two convolutions around which a residual goes: codes where nothing changes, else a convolution of one pixel.
    fn block(&mut self, x: Flow, channels: usize, stride: usize) -> Result<Flow> {
        let y = self.conv(x, channels, [3, stride], None, Leaves::Codes)?;
        let changes = stride != 1 || self.builder.type_of(x.value)?.channels != channels;
        let residual = match changes {
            true => self.conv(x, channels, [1, stride], None, Leaves::Floats)?,
            false => x,
        };
        self.conv(y, channels, [3, 1], Some(residual), Leaves::Codes)
    }

    /// The mean of every channel, and a linear layer.
    fn classes(&mut self, x: Flow, count: usize) -> Result<Value> {
        let mean = self.builder.global_average_pool(x.value, x.scale, None)?;
        let channels = self.builder.type_of(mean)?.channels;
        let quantizer = quant::Linear::symmetric(8, 2.0 / 127.0)?;
        let codes = self.builder.quantize_bytes(mean, quantizer)?;
        let weights = self.random.packed(Encoding::signed(8)?, count, channels);
        let size = BYTE_SIZE * 40.0 * (channels as f32).sqrt();
        let finish = self.finish(count, size, None, Leaves::Floats)?;
        let linear = Linear::new(weights, finish);
        self.builder.named("classes").linear(codes, linear)
    }
}

fn resnet18(m: &mut Maker) -> Result<Flow> {
    let x = m.conv(m.image(), 64, [7, 2], None, Leaves::Codes)?;
    let mut x = m.max_pool(x, Window::new(3).stride(2).padding(1))?;
    for (stage, channels) in [64, 128, 256, 512].into_iter().enumerate() {
        x = m.block(x, channels, if stage == 0 { 1 } else { 2 })?;
        x = m.block(x, channels, 1)?;
    }
    Ok(x)
}

fn resnet20(m: &mut Maker) -> Result<Flow> {
    let mut x = m.conv(m.image(), 16, [3, 1], None, Leaves::Codes)?;
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for i in 0..3 {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            x = m.block(x, channels, stride)?;
        }
    }
    Ok(x)
}

fn vgg11(m: &mut Maker) -> Result<Flow> {
    let mut x = m.image();
    for channels in [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0] {
        x = match channels {
            0 => m.max_pool(x, Window::new(2).stride(2))?,
            _ => m.conv(x, channels, [3, 1], None, Leaves::Codes)?,
        };
    }
    Ok(x)
}

/// A residual around each convolution, in floats: arXiv 1808.00278.
fn bireal18(m: &mut Maker) -> Result<Flow> {
    let x = m.conv(m.image(), 64, [7, 2], None, Leaves::Floats)?;
    let mut x = m.max_pool(x, Window::new(3).stride(2).padding(1))?;
    for (stage, channels) in [64, 128, 256, 512].into_iter().enumerate() {
        for i in 0..4 {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let codes = m.quantize(x)?;
            if stride == 2 {
                let window = Window::new(2).stride(2);
                let mean = m.builder.average_pool(x.value, window, 1.0, None)?;
                let mean = m.quantize(Maker::floats(mean))?;
                x = m.conv(mean, channels, [1, 1], None, Leaves::Floats)?;
            }
            x = m.conv(codes, channels, [3, stride], Some(x), Leaves::Floats)?;
        }
    }
    Ok(x)
}
