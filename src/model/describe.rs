//! What a model consists of, for people: a row a node.

use std::fmt;

use super::net::Model;
use super::node::{Op, shown};
use super::step::Step;
use super::value::ValueType;
use crate::kernels::bounds::Sequence;
use crate::ops::{ActivationFn, Finish};

/// A node as [`Model::describe`] tells it.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeInfo {
    /// The name that the builder was given, control characters escaped; maybe empty.
    pub name: String,
    /// The operation: `conv`, `max_pool`, ...
    pub op: &'static str,
    /// The numbers of the nodes whose values it reads.
    pub reads: Vec<usize>,
    /// What it makes.
    pub made: ValueType,
    /// What it works with: filters `O x KH x KW x C / groups`, weights `N x K`, a window `KH x KW`; else empty.
    pub shape: String,
    /// Encodings of weights and of the activations that enter, `bipolar x u4`; or what enters.
    pub bits: String,
    /// What leaves: an encoding, or `f32`, `f16`, `bf16`, `i32`.
    pub leaves: String,
    /// Bytes of packed weights and of thresholds, scales and the like.
    pub packed_bytes: usize,
    /// Bytes that the same node takes in f32: all weights, and two floats an output channel.
    pub float_bytes: usize,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// The kernel that runs, or the product that the node is done with; else empty.
    pub kernel: String,
    /// The instructions of the kernel's inner loop for one image, and how often they are needed for each
    /// multiply-accumulate, where there is a product.
    pub sequence: Option<(Sequence, usize)>,
}

impl Model {
    /// A row for each node, first to last; the first is the image.
    pub fn describe(&self) -> Vec<NodeInfo> {
        (0..self.nodes.len()).map(|i| self.info(i, 1)).collect()
    }

    /// Node `index`, by whose kernel so many images go at a time.
    pub(super) fn info(&self, index: usize, images: usize) -> NodeInfo {
        let node = &self.nodes[index];
        let reads: Vec<usize> = node.reads.iter().map(|v| v.index()).collect();
        let entering = reads
            .first()
            .map(|&i| self.nodes[i].made.kind.to_string())
            .unwrap_or_default();
        let mut info = NodeInfo {
            name: shown(&node.name),
            op: node.op.name(),
            reads,
            made: node.made,
            shape: String::new(),
            bits: entering,
            leaves: node.made.kind.to_string(),
            packed_bytes: 0,
            float_bytes: 0,
            macs: 0,
            kernel: String::new(),
            sequence: None,
        };
        match (&node.op, &self.steps[index]) {
            (Op::Conv(conv), Step::Conv(plan)) => {
                let [kh, kw] = conv.window.kernel;
                let per_group = plan.geometry().channels / conv.groups;
                info.shape = format!("{} x {kh} x {kw} x {per_group}", plan.o());
                info.product(plan, &conv.finish, images);
            }
            (Op::Linear(linear), Step::Conv(plan)) => {
                info.shape = format!("{} x {}", plan.o(), linear.weights.cols());
                info.product(plan, &linear.finish, images);
            }
            (Op::FloatConv(conv), Step::FloatConv(plan)) => {
                let [kh, kw] = conv.window.kernel;
                let per_group = plan.geometry().channels / plan.geometry().groups;
                info.shape = format!("{} x {kh} x {kw} x {per_group}", plan.o());
                info.bits = format!("{} x {}", conv.filters.encoding(), info.bits);
                let bias = conv.bias.as_ref().map_or(0, Vec::len);
                info.packed_bytes = 4 * (conv.filters.words().len() + conv.scales.len() + bias);
                info.float_bytes = float_bytes(plan.o(), plan.k());
                info.macs = plan.macs();
                info.kernel = plan.describe();
                info.sequence = Some(plan.sequence(images));
            }
            (Op::Apply { finish, .. }, _) => {
                info.packed_bytes = finish_bytes(finish);
                info.float_bytes = info.packed_bytes;
            }
            (Op::MaxPool(window) | Op::AveragePool { window, .. }, _) => {
                let [kh, kw] = window.kernel;
                info.shape = format!("{kh} x {kw}");
            }
            (Op::UpSample([y, x]), _) => info.shape = format!("{y} x {x}"),
            _ => {}
        }
        if let Step::With(product) = self.steps[index] {
            info.kernel = format!("in the blocks of node {product}");
        }
        info
    }

    /// Bytes of all nodes packed, and in f32.
    pub fn bytes(&self) -> (usize, usize) {
        let rows = self.describe();
        let packed = rows.iter().map(|r| r.packed_bytes).sum();
        let float = rows.iter().map(|r| r.float_bytes);
        (packed, float.fold(0, usize::saturating_add))
    }
}

impl NodeInfo {
    /// What a product of codes says of itself.
    fn product(&mut self, plan: &crate::ops::Conv2d, finish: &Finish, images: usize) {
        self.bits = format!("{} x {}", plan.weight(), plan.activation());
        self.packed_bytes = plan.weight_bytes() + finish_bytes(finish);
        self.float_bytes = float_bytes(plan.o(), plan.k());
        self.macs = plan.macs();
        self.kernel = plan.describe();
        self.sequence = plan.sequence(images);
    }
}

/// Operation, name, what it reads, shape, encodings, what it makes, multiply-accumulates, packed bytes, kernel: what of it there
/// is, in a line.
impl fmt::Display for NodeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if !self.reads.is_empty() {
            write!(f, " of {:?}", self.reads)?;
        }
        for part in [&self.shape, &self.bits] {
            if !part.is_empty() {
                write!(f, ", {part}")?;
            }
        }
        write!(f, " -> {}", self.made)?;
        if self.macs > 0 {
            write!(f, ", {} MACs", self.macs)?;
        }
        if self.packed_bytes > 0 {
            write!(f, ", {} bytes", self.packed_bytes)?;
        }
        if !self.kernel.is_empty() {
            write!(f, ", {}", self.kernel)?;
        }
        Ok(())
    }
}

/// Bytes of `n` rows of `k` weights in f32, with a scale and a bias each: more than there are addresses, perhaps.
fn float_bytes(n: usize, k: usize) -> usize {
    n.saturating_mul(k.saturating_mul(4).saturating_add(8))
}

/// Bytes of a finish's numbers.
fn finish_bytes(finish: &Finish) -> usize {
    let n = finish.n();
    let numbers = match finish.thresholds() {
        Some(thresholds) => (thresholds.encoding().levels() + 1) * n,
        None => finish.scale().len() + finish.bias().len(),
    };
    let function = match finish.function() {
        ActivationFn::PRelu { .. } => n,
        ActivationFn::RPRelu { .. } => 3 * n,
        _ => 0,
    };
    4 * (numbers + function)
}

#[cfg(test)]
mod tests {
    use crate::model::sample::sample;

    #[test]
    fn rows_add_up() {
        let model = sample(crate::bits::Encoding::unsigned(4).unwrap());
        let rows = model.describe();
        assert_eq!(rows.len(), 4);
        assert_eq!((rows[0].op, rows[0].leaves.as_str()), ("image", "u8 bytes"));
        assert_eq!(
            (rows[1].shape.as_str(), rows[1].bits.as_str()),
            ("40 x 35", "bipolar x u8")
        );
        assert_eq!(
            (rows[2].bits.as_str(), rows[2].leaves.as_str()),
            ("bipolar x u4", "u4")
        );
        assert_eq!(rows[3].reads, [2]);
        // 40 rows of two words, 15 levels and a sign each.
        assert_eq!(rows[1].packed_bytes, 40 * 8 + 40 * 16 * 4);
        assert_eq!(rows[3].float_bytes, 4 * 7 * 33 + 56);
        assert_eq!(rows[1].macs, 40 * 35);
        let (said, kernel) = (rows[1].to_string(), &rows[1].kernel);
        let right =
            "linear of [0], 40 x 35, bipolar x u8 -> 1 x 1 x 40 u4, 1400 MACs, 2880 bytes, ";
        assert_eq!(said, format!("{right}{kernel}"));
        assert_eq!(
            model.bytes().0,
            rows.iter().map(|r| r.packed_bytes).sum::<usize>()
        );
    }
}
