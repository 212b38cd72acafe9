//! What a model consists of, for people: a row a node.

use std::fmt;
use std::time::{Duration, Instant};

use super::net::Model;
use super::node::{Op, shown};
use super::step::Step;
use super::value::ValueType;
use crate::error::Result;
use crate::kernels::bounds::{Loops, Sequence};
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
    /// The instructions of the kernel's inner loop, and how often they are needed for each multiply-accumulate, where
    /// there is one such loop.
    pub sequence: Option<(Sequence, usize)>,
}

impl Model {
    /// A row for each node, first to last; the first is the image.
    pub fn describe(&self) -> Vec<NodeInfo> {
        (0..self.nodes.len()).map(|i| self.info(i)).collect()
    }

    fn info(&self, index: usize) -> NodeInfo {
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
                info.product(plan, &conv.finish);
            }
            (Op::Linear(linear), Step::Conv(plan)) => {
                info.shape = format!("{} x {}", plan.o(), linear.weights.cols());
                info.product(plan, &linear.finish);
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
                info.sequence = Some(plan.sequence());
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

    /// For each node the time that one thread of this core, as it runs now, cannot go below for an image: that of its
    /// multiply-accumulates by the instructions of its kernel on registers alone, measured in some milliseconds
    /// ([`Loops`]). None where no product is, and on ISAs without such loops.
    pub fn predict(&self) -> Result<Vec<Option<Duration>>> {
        let loops = Loops::of(self.isa())?;
        let mut rates: Vec<(Sequence, Option<f64>)> = Vec::new();
        let rows = self.describe().into_iter().map(|info| {
            let (sequence, passes) = info.sequence?;
            let known = rates.iter().find(|(s, _)| *s == sequence).map(|(_, r)| *r);
            let rate = known.unwrap_or_else(|| {
                let rate = macs_a_second(loops, sequence);
                rates.push((sequence, rate));
                rate
            });
            let seconds = info.macs as f64 * passes as f64 / rate?;
            Some(Duration::from_secs_f64(seconds))
        });
        Ok(rows.collect())
    }
}

impl NodeInfo {
    /// What a product of codes says of itself.
    fn product(&mut self, plan: &crate::ops::Conv2d, finish: &Finish) {
        self.bits = format!("{} x {}", plan.weight(), plan.activation());
        self.packed_bytes = plan.weight_bytes() + finish_bytes(finish);
        self.float_bytes = float_bytes(plan.o(), plan.k());
        self.macs = plan.macs();
        self.kernel = plan.describe();
        self.sequence = plan.sequence();
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

/// Multiply-accumulates a second of a sequence on registers alone: the best of some runs of a millisecond or so.
fn macs_a_second(loops: Loops, sequence: Sequence) -> Option<f64> {
    let mut best = 0f64;
    for _ in 0..5 {
        let begin = Instant::now();
        let macs = loops.run(sequence, 20_000)?;
        best = best.max(macs as f64 / begin.elapsed().as_secs_f64().max(1e-9));
    }
    (best > 0.0).then_some(best)
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

    #[test]
    fn predictions_are_there_where_there_are_loops() {
        let model = sample(crate::bits::Encoding::unsigned(2).unwrap());
        let predicted = model.predict().unwrap();
        let loops = model.isa() != crate::isa::Isa::Portable;
        let there: Vec<bool> = predicted.iter().map(Option::is_some).collect();
        assert_eq!(there, [false, loops, loops, loops]);
    }
}
