//! Activations of one's own in a net.

use std::sync::Arc;

use super::*;
use crate::bits::{Encoding, PackedMatrix};
use crate::error::Result;
use crate::model::{Mode as Sharing, Model};
use crate::nn::activation::{Activate, AlphaLearning};
use crate::nn::freeze;
use crate::quant::{ActQuantizer, QuantRelu, Rounding};

/// 2 bits, steps of alpha up to a top of 3 alpha. By x a triangle of height 1 over what lies between, by alpha half of
/// the code.
#[derive(Debug)]
struct Triangle {
    learns: bool,
}

impl Triangle {
    fn relu(alpha: f32) -> Result<QuantRelu> {
        QuantRelu::new(2, alpha, Rounding::Ceil)
    }
}

impl Activate for Triangle {
    fn quantizer(&self, alpha: f32) -> Result<Option<ActQuantizer>> {
        Self::relu(alpha).map(|relu| Some(ActQuantizer::Relu(relu)))
    }

    fn dx(&self, x: f32, alpha: f32) -> f32 {
        let top = 3.0 * alpha;
        (2.0 * x.min(top - x) / top).max(0.0)
    }

    fn dalpha(&self, x: f32, alpha: f32) -> f32 {
        0.5 * f32::from(Self::relu(alpha).unwrap().code(x))
    }

    fn learning(&self) -> Option<AlphaLearning> {
        let rate = 0.25;
        let (clamp, range) = (100.0, [0.125, 2.0]);
        self.learns.then_some(AlphaLearning { rate, clamp, range })
    }

    fn first_alpha(&self) -> f32 {
        0.5
    }
}

/// Half of x, in floats alone.
#[derive(Debug)]
struct Half;

impl Activate for Half {
    fn quantizer(&self, _: f32) -> Result<Option<ActQuantizer>> {
        Ok(None)
    }

    fn dx(&self, _: f32, _: f32) -> f32 {
        0.5
    }

    fn floats(&self, x: &[f32], _: f32, out: &mut [f32]) -> Result<()> {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = 0.5 * x);
        Ok(())
    }
}

fn alphas(net: &mut Net) -> Vec<f32> {
    let mut all = Vec::new();
    net.layers_mut().visit_mut("", &mut |_, layer| {
        if let Layer::Act(act) = layer {
            all.push(act.alpha[0]);
        }
    });
    all
}

fn run(model: &Model, images: &[u8]) -> Vec<f32> {
    let mut workspace = model.workspace(M, 1, Sharing::Latency).unwrap();
    let mut logits = vec![0.0; M * 3];
    model
        .run(images, &mut logits, &mut workspace, Par::Caller)
        .unwrap();
    logits
}

const X: [f32; 5] = [-1.0, 0.375, 0.75, 1.125, 2.0];

#[test]
fn gradients_of_an_activation_of_ones_own_are_what_it_says() {
    let kernels = Kernels::available().last().unwrap();
    for learns in [true, false] {
        let mut act = Activation::own(Arc::new(Triangle { learns }));
        let mut codes = PackedMatrix::zeros(Encoding::Bipolar, 0, 0).unwrap();
        let mut out = [9.0; 5];
        act.forward(kernels, &X, 5, &mut out, &mut codes, Par::Caller)
            .unwrap();
        assert_eq!(out, [0.0, 0.5, 1.0, 1.5, 1.5]);
        let mut d = [1.0, 2.0, 4.0, 8.0, 16.0];
        act.backward(&X, &mut d, Par::Caller).unwrap();
        // The triangle: 0, 1/2, 1, 1/2, 0.
        assert_eq!(d, [0.0, 1.0, 4.0, 4.0, 0.0]);
        // Half of 0 1 + 1 2 + 2 4 + 3 8 + 3 16 is 41, times the rate 1/4.
        assert_eq!(act.d_alpha[0], if learns { 10.25 } else { 0.0 });
        assert_eq!((act.learns(), act.function()), (learns, None));
        act.calibrate(&[6.0]);
        assert_eq!(act.alpha[0], if learns { 2.0 } else { 0.5 });
        assert!(act.forward_smooth(&X, &mut out).is_err());
    }
    let mut act = Activation::own(Arc::new(Half));
    let (mut out, mut d) = ([0.0; 5], [1.0; 5]);
    let mut codes = PackedMatrix::zeros(Encoding::Bipolar, 0, 0).unwrap();
    act.forward(kernels, &X, 5, &mut out, &mut codes, Par::Caller)
        .unwrap();
    act.backward(&X, &mut d, Par::Caller).unwrap();
    assert_eq!((out, d), (X.map(|x| 0.5 * x), [0.5; 5]));
    act.forward_smooth(&X, &mut out).unwrap();
    assert_eq!(out, X.map(|x| 0.5 * x));
}

#[test]
fn a_net_takes_an_activation_of_ones_own_and_its_model_gives_the_logits() {
    let (mut net, images, labels) = net(4, Kind::Relu);
    net.activate_by(Some(Arc::new(Triangle { learns: true })))
        .unwrap();
    assert_eq!(alphas(&mut net), [1.0, 1.0], "floats are the design's");
    for mode in [Mode::Quantized, Mode::Float, Mode::Quantized] {
        net.set_mode(mode).unwrap();
    }
    assert!(net.is_packed());
    for _ in 0..4 {
        net.step(&images, &labels, Par::Caller).unwrap();
        for mut parameter in net.parameters() {
            let (value, gradient) = parameter.parts();
            for (value, g) in value.iter_mut().zip(gradient) {
                *value -= 0.1 * g;
            }
        }
        net.settle().unwrap();
    }
    // What follows is normalised, so that the loss hardly depends on alpha: by hand.
    net.layers_mut().visit_mut("", &mut |_, layer| {
        if let Layer::Act(act) = layer {
            act.alpha = [0.375];
        }
    });
    net.settle().unwrap();
    let learned = alphas(&mut net);
    let logits = net.evaluate(net.isa(), &images, Par::Caller).unwrap();
    assert_eq!(run(&freeze(&net).unwrap(), &images), logits);
    // 2 bits, not the design's 4; then the design's, with the alphas as they are.
    net.activate_by(None).unwrap();
    assert_eq!(alphas(&mut net), learned);
    assert_ne!(
        net.evaluate(net.isa(), &images, Par::Caller).unwrap(),
        logits
    );
    net.activate_by(Some(Arc::new(Triangle { learns: true })))
        .unwrap();
    assert_eq!(
        net.evaluate(net.isa(), &images, Par::Caller).unwrap(),
        logits
    );
    net.activate_by(Some(Arc::new(Triangle { learns: false })))
        .unwrap();
    assert_eq!(alphas(&mut net), [0.5, 0.5]);
    assert!(net.parameters().iter().all(|p| p.role() != Role::Alpha));
}

#[test]
fn a_named_function_as_ones_own_is_the_named_function() {
    for (bits_a, kind) in [(2, Kind::Relu), (1, Kind::Sign), (32, Kind::Relu)] {
        let (mut named, images, labels) = net(bits_a, kind);
        let (mut own, ..) = net(bits_a, kind);
        let function = own.design().function(Mode::Quantized).unwrap();
        own.activate_by(Some(Arc::new(function))).unwrap();
        let [one, two] = [&mut own, &mut named].map(|net| {
            net.set_mode(Mode::Quantized).unwrap();
            let score = net.step(&images, &labels, Par::Caller).unwrap();
            let gradients = net.parameters();
            let gradients = gradients.iter().map(|p| p.gradient().to_vec());
            (score, gradients.collect::<Vec<_>>())
        });
        assert_eq!(one, two, "{bits_a} {kind:?}");
    }
}

/// 2 bits whose alpha is kept between these.
#[derive(Debug)]
struct Ranged([f32; 2]);

impl Activate for Ranged {
    fn quantizer(&self, alpha: f32) -> Result<Option<ActQuantizer>> {
        Triangle { learns: true }.quantizer(alpha)
    }

    fn dx(&self, _: f32, _: f32) -> f32 {
        1.0
    }

    fn learning(&self) -> Option<AlphaLearning> {
        let range = self.0;
        Some(AlphaLearning {
            range,
            ..AlphaLearning::default()
        })
    }

    fn first_alpha(&self) -> f32 {
        self.0[0]
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (mut net, images, _) = net(2, Kind::Relu);
    net.set_mode(Mode::Quantized).unwrap();
    let before = alphas(&mut net);
    let mut said = |range| {
        let own: Arc<dyn Activate> = Arc::new(Ranged(range));
        net.activate_by(Some(own)).unwrap_err().to_string()
    };
    assert!(said([0.5, 0.25]).starts_with("alpha_range is [0.5, 0.25]; expected"));
    assert!(said([0.0, 1.0]).starts_with("alpha_range is [0, 1]; expected"));
    assert_eq!(alphas(&mut net), before);
    // Floats train, and there is no model of them.
    net.activate_by(Some(Arc::new(Half))).unwrap();
    net.forward_train(&images, Par::Caller).unwrap();
    let why = freeze(&net).err().unwrap().to_string();
    assert!(why.starts_with("activation is Half"), "{why}");
    let (mut shifted, ..) = super::net(1, Kind::RSign);
    let own: Arc<dyn Activate> = Arc::new(Half);
    let why = shifted.activate_by(Some(own)).unwrap_err().to_string();
    assert!(why.starts_with("kind is rsign; expected"), "{why}");
}
