//! Walking through a list of layers, of which one may take those behind it.

use super::{After, ToCodes};
use crate::error::Result;
use crate::nn::layers::{Layer, Layers, Node};
use crate::quant::ActQuantizer;

/// The nodes of a list, and which of them comes next.
///
/// A number beside a slice has no variant whose fields are not there. The `Peekable` of the standard library has: compiled
/// code compares its memory before it looks whether there is a node in it, which valgrind sees.
pub(super) struct Nodes<'n> {
    all: &'n [Node],
    next: usize,
}

impl<'n> Nodes<'n> {
    pub(super) fn of(layers: &'n Layers) -> Self {
        let (all, next) = (layers.nodes(), 0);
        Nodes { all, next }
    }

    /// Whether all nodes are taken.
    pub(super) fn is_over(&self) -> bool {
        self.next == self.all.len()
    }

    /// The next node with its number, which is taken.
    pub(super) fn take(&mut self) -> Option<(usize, &'n Node)> {
        let (i, node) = (self.next, self.all.get(self.next)?);
        self.next += 1;
        Some((i, node))
    }

    /// What `of` finds in the next layer, which is then taken.
    pub(super) fn take_if<T>(&mut self, of: impl FnOnce(&'n Layer) -> Option<T>) -> Option<T> {
        let found = of(&self.all.get(self.next)?.layer)?;
        self.next += 1;
        Some(found)
    }
}

/// The RPReLU and the codes that come next, which are taken.
pub(super) fn take_after<'n>(nodes: &mut Nodes<'n>) -> Result<After<'n>> {
    let act = nodes.take_if(|layer| match layer {
        Layer::RPRelu(act) => Some(act),
        _ => None,
    });
    let codes = take_codes(nodes)?;
    Ok(After { act, codes })
}

/// The codes of an activation or of signs with shifts that come next, which are taken.
pub(super) fn take_codes<'n>(nodes: &mut Nodes<'n>) -> Result<ToCodes<'n>> {
    let sign = nodes.take_if(|layer| match layer {
        Layer::RSign(sign) => Some(sign),
        _ => None,
    });
    match sign {
        Some(sign) => Ok(ToCodes::Shifted(sign)),
        None => Ok(take_quantizer(nodes)?.map_or(ToCodes::Floats, ToCodes::Same)),
    }
}

/// The quantizer of an activation that comes next, which is taken; a function of floats stays.
pub(super) fn take_quantizer(nodes: &mut Nodes<'_>) -> Result<Option<ActQuantizer>> {
    let found = nodes.take_if(|layer| match layer {
        Layer::Act(act) => act.quantizer().transpose(),
        _ => None,
    });
    found.transpose()
}
