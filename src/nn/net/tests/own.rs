//! Quantizers of one's own in a net.

use std::sync::Arc;

use super::*;
use crate::bits::Encoding;
use crate::error::Result;
use crate::nn::freeze;
use crate::nn::weight::{Given, Project, Projection, WeightQuantizer};

/// Another quantizer by another name, which says what it is told to say of its codes.
#[derive(Debug)]
struct Mine {
    of: WeightQuantizer,
    encoding: Option<Encoding>,
    scales: usize,
}

impl Project for Mine {
    fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    fn project_into(
        &self,
        latent: &[f32],
        rows: usize,
        cols: usize,
        given: Given<'_>,
        out: &mut Projection,
    ) -> Result<()> {
        self.of.project_into(latent, rows, cols, given, out)?;
        let scale = out.scales[0];
        out.scales.resize(self.scales, scale);
        Ok(())
    }
}

fn mine(of: &str, encoding: Option<Encoding>, scales: usize) -> Option<Arc<dyn Project>> {
    let of = of.parse().unwrap();
    Some(Arc::new(Mine {
        of,
        encoding,
        scales,
    }))
}

#[test]
fn a_net_takes_a_quantizer_of_ones_own() {
    let name = "ternary-twn";
    let (mut net, images, labels) = net(2, Kind::Relu);
    let mut design = net.design().clone();
    design.weights = Some(name.parse().unwrap());
    let mut named = Net::new(design, 3).unwrap();
    net.project_by(mine(name, Some(Encoding::Ternary), 1))
        .unwrap();
    let latent: Vec<Vec<f32>> = net.weights().iter().map(|w| w.latent.clone()).collect();
    let mut latent = latent.into_iter();
    named.layers_mut().visit_mut("", &mut |_, layer| {
        if let Some(weights) = layer.weights_mut() {
            weights.latent = latent.next().unwrap();
        }
    });
    assert_eq!(net.weights()[0].values(), net.weights()[0].latent);
    for net in [&mut net, &mut named] {
        net.set_mode(Mode::Quantized).unwrap();
    }
    assert!(net.is_packed());
    let scores = [&mut net, &mut named].map(|net| net.step(&images, &labels, Par::Caller).unwrap());
    assert_eq!(scores[0], scores[1]);
    assert_eq!(net.weights()[1].d_weights, named.weights()[1].d_weights);
    let bytes = |net: &Net| freeze(net).unwrap().to_bytes().unwrap();
    assert!(bytes(&net) == bytes(&named));
    // The design's again.
    net.project_by(None).unwrap();
    assert!(bytes(&net) != bytes(&named));
}

#[test]
fn what_ones_own_quantizer_gives_is_checked() {
    let (mut net, ..) = net(2, Kind::Relu);
    net.set_mode(Mode::Quantized).unwrap();
    let mut said = |of: &str, encoding, scales| {
        let own = mine(of, encoding, scales);
        net.project_by(own).unwrap_err().to_string()
    };
    let why = said("ternary-twn", Some(Encoding::Bipolar), 1);
    assert!(why.contains("expected"), "{why}");
    let why = said("ternary-twn", Some(Encoding::Ternary), 2);
    assert!(
        why.starts_with("scales is 2 elements long; expected"),
        "{why}"
    );
    net.project_by(mine("ternary-twn:scope=channel", None, 9))
        .unwrap_err();
    net.project_by(mine("ternary-twn", None, 1)).unwrap();
    assert!(freeze(&net).is_err(), "values without codes do not pack");
}
