//! Between what a model has and what its description says: quantizers, windows, pads.

use super::text::{PadText, QuantizerText, WindowText};
use crate::error::Result;
use crate::model::Window;
use crate::ops::{Pad, Padding};
use crate::quant::{ActQuantizer, Linear, QuantRelu, Quantizer};

impl From<&Window> for WindowText {
    fn from(window: &Window) -> Self {
        let Padding {
            top,
            left,
            bottom,
            right,
        } = window.padding;
        WindowText {
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            padding: [top, left, bottom, right],
        }
    }
}

impl From<&WindowText> for Window {
    fn from(text: &WindowText) -> Self {
        let [top, left, bottom, right] = text.padding;
        Window {
            kernel: text.kernel,
            stride: text.stride,
            dilation: text.dilation,
            padding: Padding {
                top,
                left,
                bottom,
                right,
            },
        }
    }
}

impl From<Pad> for PadText {
    fn from(pad: Pad) -> Self {
        match pad {
            Pad::Zero => PadText::Zero,
            Pad::PlusOne => PadText::PlusOne,
            Pad::MinusOne => PadText::MinusOne,
        }
    }
}

impl From<PadText> for Pad {
    fn from(text: PadText) -> Self {
        match text {
            PadText::Zero => Pad::Zero,
            PadText::PlusOne => Pad::PlusOne,
            PadText::MinusOne => Pad::MinusOne,
        }
    }
}

impl From<&Quantizer> for QuantizerText {
    fn from(quantizer: &Quantizer) -> Self {
        match quantizer {
            Quantizer::Act(ActQuantizer::Sign) => QuantizerText::Sign,
            Quantizer::Act(ActQuantizer::Relu(q)) => QuantizerText::Relu {
                bits: q.bits().get(),
                alpha: q.alpha().into(),
                rounding: q.rounding(),
            },
            Quantizer::Linear(q) if q.low() == q.encoding().min() => QuantizerText::Affine {
                encoding: q.encoding().to_string(),
                scale: q.scale().into(),
                zero: q.zero(),
            },
            Quantizer::Linear(q) => QuantizerText::Symmetric {
                bits: q.encoding().planes(),
                scale: q.scale().into(),
            },
        }
    }
}

impl QuantizerText {
    /// The quantizer; errors if a number is out of range.
    pub(super) fn quantizer(&self) -> Result<Quantizer> {
        Ok(match self {
            QuantizerText::Sign => ActQuantizer::Sign.into(),
            QuantizerText::Relu {
                bits,
                alpha,
                rounding,
            } => QuantRelu::new(*bits, *alpha as f32, *rounding)?.into(),
            QuantizerText::Symmetric { bits, scale } => {
                Linear::symmetric(*bits, *scale as f32)?.into()
            }
            QuantizerText::Affine {
                encoding,
                scale,
                zero,
            } => Linear::affine(encoding.parse()?, *scale as f32, *zero)?.into(),
        })
    }
}
