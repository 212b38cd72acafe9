//! The residual layer: a list of layers, and beside it a shortcut without parameters (type A).
//!
//! ```text
//!   y [M, OH, OW, O] = body(x) + shortcut(x [M, H, W, C])
//!   shortcut(x)[y, x, c] = x[y stride, x stride, c] for c < C, 0 for C <= c < O
//!   d_x = body's d_x + the shortcut's: d_y added back to where its values came from
//! ```
//!
//! With stride 1 and O = C the shortcut is the identity.
//!
//! Source: He et al., arXiv 1512.03385, option A; the zero channels stand behind, as in the code of arXiv 1808.05240.

use crate::error::{Error, Result};
use crate::nn::layers::{Context, Layers};
use crate::nn::signal::Signal;
use crate::shape::check_len;

/// A list of layers with a shortcut around it.
#[derive(Clone, Debug)]
pub struct Residual {
    /// The layers.
    pub body: Layers,
    stride: usize,
    d: Vec<f32>,
}

impl Residual {
    /// A shortcut around `body`, which subsamples by `stride`.
    ///
    /// Errors unless the body's output has H / stride rows and W / stride columns, rounded up, and at least as many
    /// channels as its input.
    pub fn new(body: Layers, stride: usize) -> Result<Self> {
        let ([h, w, c], out) = (body.input(), body.output());
        let side = |side: usize| side.div_ceil(stride.max(1));
        if stride == 0 || [side(h), side(w)] != out[..2] || out[2] < c {
            let value = format!("{out:?} from {:?} with stride {stride}", body.input());
            let expected = "sides divided by the stride, and no channel less";
            return Err(Error::argument("residual body's output", value, expected));
        }
        let d = Vec::new();
        Ok(Residual { body, stride, d })
    }

    /// Pixels from one that the shortcut takes to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn forward_train(
        &mut self,
        context: &Context<'_>,
        input: Signal<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        self.body.forward_train(context, input)?;
        out.copy_from_slice(self.body.values());
        self.add_shortcut(input.values, out)
    }

    pub(super) fn backward(
        &mut self,
        context: &Context<'_>,
        x: &[f32],
        d: &mut Vec<f32>,
        memory: &mut Vec<f32>,
    ) -> Result<()> {
        let mut d_body = std::mem::take(&mut self.d);
        d_body.clear();
        d_body.extend_from_slice(d);
        let done = self.body.backward(context, x, &mut d_body, memory, true);
        let strides = self.pairs(x.len());
        for (to, from, len) in strides {
            let d_x = d_body[to..to + len].iter_mut();
            d_x.zip(&d[from..from + len]).for_each(|(a, b)| *a += b);
        }
        std::mem::swap(d, &mut d_body);
        self.d = d_body;
        done
    }

    /// Adds the shortcut of `x` `[M, H, W, C]` to `out` `[M, OH, OW, O]`.
    ///
    /// Errors if a length is wrong.
    pub fn add_shortcut(&self, x: &[f32], out: &mut [f32]) -> Result<()> {
        let m = x.len() / self.body.input().iter().product::<usize>().max(1);
        let len = m * self.body.output().iter().product::<usize>();
        check_len("out", out.len(), len, "M x OH x OW x O")?;
        for (from, to, len) in self.pairs(x.len()) {
            let out = out[to..to + len].iter_mut();
            out.zip(&x[from..from + len]).for_each(|(y, x)| *y += x);
        }
        Ok(())
    }

    /// Stretches of an input of `len` values and of the output: (start in the input, start in the output, elements).
    fn pairs(&self, len: usize) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let ([h, w, c], [oh, ow, o]) = (self.body.input(), self.body.output());
        let (stride, m) = (self.stride, len / (h * w * c).max(1));
        (0..m * oh * ow).map(move |i| {
            let (image, y, x) = (i / (oh * ow), i / ow % oh, i % ow);
            let from = ((image * h + y * stride) * w + x * stride) * c;
            (from, i * o, c)
        })
    }
}
