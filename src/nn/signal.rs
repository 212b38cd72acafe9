//! What runs from layer to layer: floats, and what is known of them.

use crate::bits::{ByteRef, Encoding, PackedMatrix};
use crate::error::Result;
use crate::kernels::Kernels;
use crate::nn::activation::reshape;
use crate::ops::{Activations, Par, quantize};
use crate::quant::ActQuantizer;

/// The floats that enter a layer, with the integers that they stand for.
#[derive(Clone, Copy, Debug)]
pub struct Signal<'a> {
    /// The floats, `[M, H, W, C]`.
    pub values: &'a [f32],
    /// Whether they are a step times integers.
    pub codes: Codes<'a>,
}

/// What is known of floats.
#[derive(Clone, Copy, Debug)]
pub enum Codes<'a> {
    /// Nothing: they multiply in floats.
    None,
    /// They are levels of this quantizer. It takes its levels to themselves, so it finds their codes again,
    /// whatever pooling or flattening did between.
    Levels(ActQuantizer),
    /// They are these bytes times a step.
    Bytes(&'a [u8], f32),
}

impl<'a> Signal<'a> {
    /// Floats of which nothing is known.
    pub fn floats(values: &'a [f32]) -> Self {
        Signal {
            values,
            codes: Codes::None,
        }
    }

    /// The integers as a matrix of `cols` columns, packed into `memory` if need be, and the step; `None` if there
    /// are none.
    ///
    /// Errors if `cols` does not divide the number of values.
    pub fn pack<'m>(
        &self,
        kernels: &Kernels,
        cols: usize,
        memory: &'m mut PackedMatrix,
    ) -> Result<Option<(Activations<'m>, f32)>>
    where
        'a: 'm,
    {
        let rows = self.values.len() / cols.max(1);
        Ok(match self.codes {
            Codes::None => None,
            Codes::Levels(quantizer) => {
                reshape(memory, quantizer.encoding(), rows, cols)?;
                quantize(kernels, self.values, quantizer, &mut *memory, Par::Caller)?;
                Some((memory.view().into(), quantizer.step()))
            }
            Codes::Bytes(bytes, step) => {
                let bytes = ByteRef::new(Encoding::unsigned(8)?, rows, cols, bytes)?;
                Some((bytes.into(), step))
            }
        })
    }

    /// The encoding of the integers and their step; `None` if there are none.
    pub fn encoding(&self) -> Option<(Encoding, f32)> {
        match self.codes {
            Codes::None => None,
            Codes::Levels(quantizer) => Some((quantizer.encoding(), quantizer.step())),
            Codes::Bytes(_, step) => Encoding::unsigned(8).ok().map(|e| (e, step)),
        }
    }
}
