//! What is known of the integers between layers: which pooling keeps them, and where a net has floats instead.
//!
//! The greatest of codes is a code. The mean of `count` codes of at most q is their sum, an integer of at most
//! count q, times step / count: a code of 8 bits or fewer as long as count q is at most 255.

use crate::nn::layers::{Layer, Layers, join};
use crate::nn::net::{Net, PIXEL_STEP};
use crate::nn::pool::{Pool2d, PoolKind};
use crate::nn::projected::Projected;
use crate::nn::signal::Codes;
use crate::quant::{ActQuantizer, QuantRelu, Rounding};

/// The quantizer whose levels pooling gives of `codes`; `None` if it gives floats.
pub(super) fn pooled(pool: &Pool2d, codes: Codes<'_>) -> Option<ActQuantizer> {
    let (top, step) = match codes {
        Codes::None => return None,
        Codes::Levels(quantizer) if pool.kind() == PoolKind::Max => return Some(quantizer),
        // The sums of signs go below 0.
        Codes::Levels(ActQuantizer::Sign) => return None,
        Codes::Levels(ActQuantizer::Relu(relu)) => (relu.bits().max_code(), relu.alpha()),
        Codes::Bytes(_, step) => (255, step),
    };
    let (window, _) = pool.window();
    let count = match pool.kind() {
        PoolKind::Max => 1,
        PoolKind::Average => window * window,
    };
    let bits = (1..=8).find(|bits| (1 << bits) > count.saturating_mul(top))?;
    let relu = QuantRelu::new(bits, step / count as f32, Rounding::Nearest);
    relu.ok().map(ActQuantizer::Relu)
}

/// What is known of the values between two layers.
struct Known {
    codes: Codes<'static>,
    /// The layer that they come from.
    from: String,
}

impl Layers {
    /// The first layer whose weights do not multiply packed when the net is evaluated, in words; `None` if all do.
    fn floats_at(&self, path: &str, known: &mut Known) -> Option<String> {
        for (i, node) in self.nodes().iter().enumerate() {
            let path = join(path, i);
            let name = format!("layer {path} ({})", node.layer.word());
            known.codes = match &node.layer {
                Layer::Linear(_) | Layer::Conv(_) => {
                    let weights = node.layer.weights();
                    if weights.is_some_and(|w| w.quantizer().is_none()) {
                        return Some(format!("the weights of {name} are floats"));
                    }
                    if weights.and_then(Projected::packed).is_none() {
                        return Some(format!("the weights of {name} are no integers"));
                    }
                    if let (Codes::None, Layer::Conv(conv)) = (known.codes, &node.layer)
                        && !conv.packs_floats()
                    {
                        let (groups, from) = (conv.geometry().groups, &known.from);
                        return Some(format!(
                            "{name} multiplies floats in {groups} groups, which come from {from}"
                        ));
                    }
                    Codes::None
                }
                Layer::Norm(_) | Layer::RPRelu(_) => Codes::None,
                Layer::Act(act) => {
                    let quantizer = act.quantizer().ok().flatten();
                    quantizer.map_or(Codes::None, Codes::Levels)
                }
                Layer::RSign(sign) => sign.quantizer().map_or(Codes::None, Codes::Levels),
                Layer::Pool(pool) => pooled(pool, known.codes).map_or(Codes::None, Codes::Levels),
                Layer::Flatten | Layer::Dropout(_) => continue,
                Layer::Residual(residual) => {
                    if let Some(inside) = residual.body.floats_at(&path, known) {
                        return Some(inside);
                    }
                    Codes::None
                }
            };
            known.from = name;
            if let Layer::Pool(pool) = &node.layer
                && pool.kind() == PoolKind::Average
            {
                known.from +=
                    " of more levels than 8 bits have; `act` behind it makes codes of them";
            }
        }
        None
    }
}

impl Net {
    /// Where the evaluation of a quantized net multiplies weights in floats, in words that name the layer; `None` if the
    /// weights of every layer are integers, so that [`freeze`](crate::nn::freeze()) can pack them. Activations may be floats,
    /// but for convolutions in groups.
    pub fn floats_at(&self) -> Option<String> {
        let mut image = Known {
            codes: Codes::Bytes(&[], PIXEL_STEP),
            from: "the image".to_string(),
        };
        self.layers().floats_at("", &mut image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::net::{Design, Mode};

    #[test]
    fn means_of_few_levels_are_codes() {
        let relu = |bits, alpha| {
            let relu = QuantRelu::new(bits, alpha, Rounding::Ceil).unwrap();
            Codes::Levels(ActQuantizer::Relu(relu))
        };
        let pool = |kind, window| Pool2d::new(kind, [16, 16, 1], window, window).unwrap();
        let (max, mean) = (PoolKind::Max, PoolKind::Average);
        for (bits, window, expected) in [
            (1, 2, Some(3)),
            (1, 15, Some(8)),
            (1, 16, None),
            (2, 8, Some(8)),
            (4, 4, Some(8)),
            (4, 5, None),
            (8, 2, None),
        ] {
            let found = pooled(&pool(mean, window), relu(bits, 0.7));
            let found = found.map(|q| match q {
                ActQuantizer::Relu(q) => (q.bits().get(), q.alpha()),
                ActQuantizer::Sign => panic!("signs"),
            });
            let share = 0.7 / (window * window) as f32;
            assert_eq!(found, expected.map(|b| (b, share)), "{bits} {window}");
        }
        let sign = Codes::Levels(ActQuantizer::Sign);
        assert_eq!(pooled(&pool(max, 2), sign), Some(ActQuantizer::Sign));
        assert_eq!(pooled(&pool(mean, 2), sign), None);
        assert_eq!(pooled(&pool(max, 2), Codes::None), None);
        let pixels = pooled(&pool(max, 3), Codes::Bytes(&[], PIXEL_STEP));
        let all = QuantRelu::new(8, PIXEL_STEP, Rounding::Nearest).unwrap();
        assert_eq!(pixels, Some(ActQuantizer::Relu(all)));
    }

    #[test]
    fn the_layer_with_floats_is_named_with_the_reason() {
        let said = |arch: &str, bits_w: usize, bits_a: usize, change: fn(&mut Design)| {
            let blocks = crate::nn::design::arch::parse(arch).unwrap();
            let mut design = Design::new([8, 8, 3], blocks, 4, bits_a);
            design.bits_w = bits_w;
            change(&mut design);
            let mut net = Net::new(design, 1).unwrap();
            net.set_mode(Mode::Quantized).unwrap();
            assert_eq!(net.floats_at().is_none(), net.is_packed());
            net.floats_at().unwrap_or_default()
        };
        let same = |_: &mut Design| {};
        assert_eq!(said("4c3-res4-ap2", 1, 4, same), "");
        assert_eq!(said("mp2-4c3-ap2-9", 1, 2, same), "");
        assert_eq!(said("4c3-res4-ap6", 1, 4, same), "");
        assert_eq!(said("4c3-4c3", 1, 32, same), "");
        assert_eq!(
            said("4c3-ap6-4c1g2", 1, 4, same),
            "layer 4 (convolution) multiplies floats in 2 groups, which come from layer 3 (pooling) of more levels than \
             8 bits have; `act` behind it makes codes of them"
        );
        assert_eq!(said("4c3-ap6-act-4c1g2", 1, 4, same), "");
        assert_eq!(
            said("9", 32, 4, same),
            "the weights of layer 0 (linear) are floats"
        );
        let last = |d: &mut Design| d.float_last = true;
        assert_eq!(
            said("9", 1, 4, last),
            "the weights of layer 3 (linear) are floats"
        );
        assert_eq!(
            said("4c3-4c3g2", 1, 32, same),
            "layer 3 (convolution) multiplies floats in 2 groups, which come from layer 2 (activation)"
        );
        let two = |d: &mut Design| {
            d.weights = Some("loss-aware-ternary:search=two-scale".parse().unwrap())
        };
        assert_eq!(
            said("9", 2, 4, two),
            "the weights of layer 0 (linear) are no integers"
        );
    }
}
