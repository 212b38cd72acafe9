//! The packed net in memory.

use super::builder::ModelBuilder;
use super::memory::{Memory, Spot};
use super::node::Node;
use super::step::Step;
use super::value::{Value, ValueType};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;

/// Outputs of a model, at most.
pub(crate) const MAX_OUTPUTS: usize = 8;

/// A packed net, ready to run: what [`ModelBuilder::build`] makes and files hold. Immutable; threads may share it,
/// each with a [`Workspace`](super::Workspace) of its own.
pub struct Model {
    pub(super) kernels: &'static Kernels,
    pub(super) nodes: Vec<Node>,
    /// How each node is done.
    pub(super) steps: Vec<Step>,
    /// What each step reads: the node's reads, or where nodes are done together, all that they read.
    pub(super) reads: Vec<Vec<Value>>,
    pub(super) outputs: Vec<Value>,
    /// The types of the outputs.
    made: Vec<ValueType>,
    pub(super) memory: Memory,
}

impl ModelBuilder {
    /// The model of which `outputs` leave, 1 to 8 values, in this order. Nodes that none of them needs are not run.
    ///
    /// Errors if there are none or too many, a value is of another builder, or all values leave the address space.
    pub fn build(mut self, outputs: &[Value]) -> Result<Model> {
        if !(1..=MAX_OUTPUTS).contains(&outputs.len()) {
            let expected = format!("1 to {MAX_OUTPUTS}");
            return Err(Error::argument("outputs", outputs.len(), expected));
        }
        let made = outputs.iter().map(|&output| self.type_of(output));
        let made = made.collect::<Result<Vec<_>>>()?;
        let memory = Memory::plan(&self.nodes, outputs).ok_or_else(|| {
            let expected = "so small that their sum is the size of a memory";
            Error::argument("values", "large", expected)
        })?;
        super::fusion::fuse(&self.nodes, &mut self.steps, outputs)?;
        Ok(Model {
            reads: super::fusion::reads(&self.nodes, outputs),
            kernels: self.kernels,
            nodes: self.nodes,
            steps: self.steps,
            outputs: outputs.to_vec(),
            made,
            memory,
        })
    }
}

impl Model {
    /// The type of the images that it takes.
    pub fn input(&self) -> ValueType {
        self.nodes[0].made
    }

    /// The types of the outputs.
    pub fn outputs(&self) -> &[ValueType] {
        &self.made
    }

    /// The ISA whose kernels run.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Bytes that values take at most at one time, for `images` images at a time, without the image itself: values
    /// that are no longer needed make room for others. [`Model::planned`] tells the rest.
    pub fn peak_bytes(&self, images: usize) -> usize {
        self.memory.words.saturating_mul(4).saturating_mul(images)
    }

    /// How node `i` is done, and the node whose product it is: its own, or that of the node that is done with it.
    pub(super) fn step(&self, i: usize) -> (usize, &Step) {
        match &self.steps[i] {
            Step::With(product) => (*product, &self.steps[*product]),
            step => (i, step),
        }
    }

    /// Elements of scratch that the neediest node takes; none if there is no such number.
    pub(super) fn scratch_len(&self, images: usize, threads: usize) -> Option<usize> {
        let needed = |i: usize| match self.memory.spots[i] {
            Spot::Nowhere => 0,
            _ => self.step(i).1.scratch_len(images, threads),
        };
        let most = (0..self.steps.len()).map(needed).max().unwrap_or(0);
        (most < usize::MAX / 8).then_some(most)
    }
}
