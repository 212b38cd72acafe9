//! Nodes that are done together: a float convolution, and the finish or quantizer that alone reads its floats.
//!
//! The definitions stay two nodes, in memory and in the file, and mean what they mean one by one. When the model is
//! built, the convolution takes the finish into its blocks, so that no map of floats is stored.

use super::node::{Node, Op};
use super::step::Step;
use super::value::Value;
use crate::error::Result;
use crate::ops::{ActivationFn, Finish, OutputKind, ResidualAt};

/// For each node the float convolution that it is done with.
fn partners(nodes: &[Node], outputs: &[Value]) -> Vec<Option<usize>> {
    let mut readers = vec![0usize; nodes.len()];
    for value in nodes.iter().flat_map(|node| &node.reads).chain(outputs) {
        readers[value.index()] += 1;
    }
    let partner = |node: &Node| {
        let follows = matches!(node.op, Op::Apply { .. } | Op::Quantize { .. });
        let first = node.reads.first()?.index();
        let fits = follows && matches!(nodes[first].op, Op::FloatConv(_)) && readers[first] == 1;
        fits.then_some(first)
    };
    nodes.iter().map(partner).collect()
}

/// What each step reads; of what is done with a convolution, the convolution reads, and then the residual.
pub(super) fn reads(nodes: &[Node], outputs: &[Value]) -> Vec<Vec<Value>> {
    let partners = partners(nodes, outputs);
    let reads = nodes.iter().zip(partners).map(|(node, partner)| {
        let mut reads = node.reads.clone();
        if let Some(product) = partner {
            reads[0] = nodes[product].reads[0];
        }
        reads
    });
    reads.collect()
}

/// Makes the steps of nodes that are done together one.
pub(super) fn fuse(nodes: &[Node], steps: &mut [Step], outputs: &[Value]) -> Result<()> {
    for (i, partner) in partners(nodes, outputs).into_iter().enumerate() {
        let Some(product) = partner else { continue };
        let finish = match &nodes[i].op {
            Op::Apply { finish, .. } => finish.clone(),
            // 1 times a float and 0 is that float, but for the sign of 0, which no quantizer sees.
            Op::Quantize { quantizer, planes } => {
                let n = nodes[i].made.channels;
                let (scale, bias) = (vec![1.0; n], vec![0.0; n]);
                let (function, at) = (ActivationFn::Identity, ResidualAt::Nowhere);
                let output = match planes {
                    true => OutputKind::Codes(*quantizer),
                    false => OutputKind::Bytes(*quantizer),
                };
                Finish::new(scale, bias, function, at, output)?
            }
            _ => continue,
        };
        let plan = std::mem::replace(&mut steps[product], Step::Nothing);
        steps[product] = match plan {
            Step::FloatConv(plan) => Step::FloatConv(Box::new(plan.finished(finish)?)),
            other => other,
        };
        steps[i] = Step::With(product);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::bits::{Encoding, PackedMatrix};
    use crate::model::{FloatConv, Mode, Model, ModelBuilder, Value, ValueType, Window};
    use crate::ops::{ActivationFn, Finish, OutRows, OutputKind, Par, ResidualAt};
    use crate::quant::{ActQuantizer, Granularity, Scales};

    /// Codes of a convolution of floats, which leave too if `also`.
    fn model(by_finish: bool, also: bool) -> Model {
        let mut b = ModelBuilder::new(ValueType::floats(9, 8, 3)).unwrap();
        let codes = (0..40 * 27).map(|i| i * 7 % 5 / 2 % 2 * 2 - 1);
        let codes: Vec<i32> = codes.collect();
        let conv = FloatConv::new(
            PackedMatrix::pack(Encoding::Bipolar, 40, 27, &codes).unwrap(),
            Window::new(3).padding(1),
            Scales::new(Granularity::Tensor, vec![0.5]).unwrap(),
        );
        let y = b.float_conv(b.image(), conv).unwrap();
        let signs = if by_finish {
            let kind = OutputKind::Codes(ActQuantizer::Sign.into());
            let (function, at) = (ActivationFn::Identity, ResidualAt::Nowhere);
            let finish = Finish::new(vec![1.0; 40], vec![0.0; 40], function, at, kind).unwrap();
            b.apply(y, finish).unwrap()
        } else {
            b.quantize(y, ActQuantizer::Sign).unwrap()
        };
        let outputs: Vec<Value> = [signs].into_iter().chain(also.then_some(y)).collect();
        b.build(&outputs).unwrap()
    }

    #[test]
    fn floats_that_only_a_finish_reads_are_not_stored() {
        let image: Vec<f32> = (0..216)
            .map(|i| (i * 37 % 101) as f32 / 16.0 - 3.0)
            .collect();
        let run = |model: &Model| {
            let mut ws = model.workspace(1, 1, Mode::Latency).unwrap();
            let (mut words, mut floats) = (vec![0u32; 144], vec![0f32; 72 * 40]);
            let outs = &mut [OutRows::Codes(&mut words), OutRows::F32(&mut floats)];
            let outs = &mut outs[..model.outputs().len()];
            model.run_all(&image, outs, &mut ws, Par::Caller).unwrap();
            words
        };
        let stored = model(true, true);
        assert_eq!(stored.describe()[2].kernel, "");
        // Words of codes, and floats, in whole lines.
        assert_eq!(stored.peak_bytes(1), 4 * (144 + 72 * 40));
        for by_finish in [true, false] {
            let model = model(by_finish, false);
            assert_eq!(model.describe()[2].kernel, "in the blocks of node 1");
            assert_eq!(model.peak_bytes(1), 4 * 144);
            assert_eq!(run(&model), run(&stored));
            let bytes = model.to_bytes().unwrap();
            let again = Model::from_bytes(&bytes).unwrap();
            assert_eq!(again.nodes, model.nodes);
            assert_eq!(run(&again), run(&stored));
        }
    }
}
