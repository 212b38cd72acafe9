//! The models that the programs load, and the images that they run.

use qcore::bits::{Encoding, PackedMatrix};
use qcore::model::{Linear, Model, ModelBuilder, ValueType};
use qcore::nn::freeze;
use qcore::ops::{ActivationFn, Finish, OutputKind, Par, ResidualAt};
use qcore::quant::{ActQuantizer, QuantRelu, Rounding};
use qcore::train::data::digits;
use qcore::train::recipe::Recipe;
use qcore::train::trainer::Trainer;

/// A net that was trained on the built-in digits, frozen, and the test images that it gets nearly all right.
pub fn trained_model() -> (Model, Vec<u8>) {
    let data = digits(7, 4000, 200).unwrap();
    let recipe = Recipe {
        arch: "128-64".to_string(),
        float_epochs: 3,
        epochs: 5,
        ..Recipe::default()
    };
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    let last = trainer.run(Par::Caller, &mut ()).unwrap();
    assert!(
        last.unwrap().test_accuracy > 0.85,
        "the net has learned nothing: {last:?}"
    );
    (freeze(trainer.net()).unwrap(), data.test.pixels().to_vec())
}

/// A model whose images have codes of 4 bits, so that a byte can be one too many.
pub fn small_model() -> (Model, Vec<u8>) {
    random_model(6, 4, 17)
}

/// Two hidden layers of random weights over square images of `bits` bits; `count` random images.
fn random_model(side: usize, bits: usize, count: usize) -> (Model, Vec<u8>) {
    let mut random = Random(side as u64);
    let image = ValueType::image(side, side, 1, bits).unwrap();
    let relu = ActQuantizer::Relu(QuantRelu::new(4, 0.2, Rounding::Ceil).unwrap());
    let signs = OutputKind::Codes(ActQuantizer::Sign.into());
    let layers = [
        random.layer(50, image.len(), 255 >> (8 - bits), signs),
        random.layer(33, 50, 1, OutputKind::Codes(relu.into())),
        random.layer(10, 33, 15, OutputKind::F32),
    ];
    let mut builder = ModelBuilder::new(image).unwrap();
    let mut value = builder.image();
    for layer in layers {
        value = builder.linear(value, layer).unwrap();
    }
    let model = builder.build(&[value]).unwrap();
    let codes = (0..count * image.len()).map(|_| (random.next() % (1 << bits)) as u8);
    (model, codes.collect())
}

/// A linear congruential generator: these numbers need be nothing but varied.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }

    /// In 0 .. 1.
    fn unit(&mut self) -> f32 {
        (self.next() % 4096) as f32 / 4096.0
    }

    fn weights(&mut self, n: usize, k: usize) -> PackedMatrix {
        let values: Vec<i32> = (0..n * k)
            .map(|_| 2 * (self.next() % 2) as i32 - 1)
            .collect();
        PackedMatrix::pack(Encoding::Bipolar, n, k, &values).unwrap()
    }

    /// A layer whose sums are scaled to the size of one, whatever the inputs reach.
    fn layer(&mut self, n: usize, k: usize, reach: i32, output: OutputKind) -> Linear {
        let size = (k as f32).sqrt() * reach as f32;
        let scale: Vec<f32> = (0..n).map(|_| (2.0 * self.unit() - 1.0) / size).collect();
        let bias: Vec<f32> = (0..n).map(|_| self.unit() - 0.4).collect();
        let (function, residual) = (ActivationFn::Identity, ResidualAt::Nowhere);
        let finish = Finish::new(scale, bias, function, residual, output).unwrap();
        Linear::new(self.weights(n, k), finish)
    }
}
