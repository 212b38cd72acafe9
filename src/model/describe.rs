//! What a model consists of, for people: a row a layer.

use super::{Layer, Model, Then};

/// A layer as [`Model::describe`] tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayerInfo {
    /// The operation: `linear`.
    pub op: &'static str,
    /// Outputs and inputs, `N x K`.
    pub shape: String,
    /// Encodings of weights and of the activations that enter: `bipolar x u4`.
    pub bits: String,
    /// What leaves: an encoding, or `f32`.
    pub leaves: String,
    /// Bytes of the packed weights and of thresholds or scales.
    pub packed_bytes: usize,
    /// Bytes that the same layer takes in f32: N x K weights and two floats an output.
    pub float_bytes: usize,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// The kernel that runs.
    pub kernel: String,
}

impl Model {
    /// A row for each layer, first to last.
    pub fn describe(&self) -> Vec<LayerInfo> {
        let rows = self.layers().iter().zip(self.plans()).map(|(layer, plan)| {
            let Layer::Linear { weights, then } = layer;
            let (n, k) = (plan.n(), plan.k());
            let (leaves, after) = match then {
                Then::Codes(t) => (
                    t.encoding().to_string(),
                    4 * (t.encoding().levels() + 1) * n,
                ),
                Then::Floats { .. } => ("f32".to_string(), 8 * n),
            };
            LayerInfo {
                op: "linear",
                shape: format!("{n} x {k}"),
                bits: format!("{} x {}", weights.encoding(), plan.activation()),
                leaves,
                packed_bytes: plan.weight_bytes() + after,
                float_bytes: 4 * n * k + 8 * n,
                macs: n as u64 * k as u64,
                kernel: plan.describe(),
            }
        });
        rows.collect()
    }

    /// Bytes of all layers packed, and in f32.
    pub fn bytes(&self) -> (usize, usize) {
        let rows = self.describe();
        let packed = rows.iter().map(|r| r.packed_bytes).sum();
        (packed, rows.iter().map(|r| r.float_bytes).sum())
    }
}

#[cfg(test)]
mod tests {
    use crate::model::sample::sample;

    #[test]
    fn rows_add_up() {
        let model = sample(crate::bits::Encoding::unsigned(4).unwrap());
        let rows = model.describe();
        assert_eq!(rows.len(), 3);
        assert_eq!(
            (rows[0].shape.as_str(), rows[0].bits.as_str()),
            ("40 x 35", "bipolar x u8")
        );
        assert_eq!(
            (rows[1].bits.as_str(), rows[1].leaves.as_str()),
            ("bipolar x u4", "u4")
        );
        // 40 rows of two words, 15 levels and a sign each.
        assert_eq!(rows[0].packed_bytes, 40 * 8 + 40 * 16 * 4);
        assert_eq!(rows[2].float_bytes, 4 * 7 * 33 + 56);
        assert_eq!(
            model.bytes().0,
            rows.iter().map(|r| r.packed_bytes).sum::<usize>()
        );
    }
}
