//! The packed net in memory, and how it runs.

use crate::bits::{ByteRef, Encoding, PackedMatrix};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::ops::{Activations, Epilogue, Gemm, Par, Thresholds};
use crate::shape::{check_len, elements};

/// What a model takes: images of unsigned codes, NHWC, one byte a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Input {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// Bits of a code, 1 to 8.
    pub bits: usize,
}

/// What follows the integer sums of a layer.
#[derive(Clone, PartialEq, Debug)]
pub enum Then {
    /// Codes for the next layer, by integer thresholds.
    Codes(Thresholds),
    /// The model's result: `scale[n] * sum + bias[n]`.
    Floats {
        /// Factor of each output.
        scale: Vec<f32>,
        /// Summand of each output.
        bias: Vec<f32>,
    },
}

/// A layer of a model.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Layer {
    /// Every output sees every input.
    Linear {
        /// Bipolar weights, `[N, K]`.
        weights: PackedMatrix,
        /// What happens to the sums.
        then: Then,
    },
}

/// A packed net, ready to run.
pub struct Model {
    input: Input,
    layers: Vec<Layer>,
    plans: Vec<Gemm>,
    kernels: &'static Kernels,
}

/// The memory that a run needs, for up to a number of images; reused from run to run.
pub struct Workspace {
    images: usize,
    /// Codes that enter each layer but the first.
    codes: Vec<PackedMatrix>,
    sums: Vec<i32>,
    scratch: Vec<i32>,
}

impl Input {
    /// Codes in an image.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether an image has no codes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Model {
    /// A model of these layers, on the ISA that [`Isa::chosen`] gives.
    ///
    /// Errors, naming the layer, unless each layer takes what the one before gives, the last one and no
    /// other gives floats, and all numbers are finite.
    pub fn new(input: Input, layers: Vec<Layer>) -> Result<Self> {
        Self::on(Isa::chosen()?, input, layers)
    }

    /// As [`Model::new`], on a given ISA.
    pub fn on(isa: Isa, input: Input, layers: Vec<Layer>) -> Result<Self> {
        let kernels = Kernels::of(isa)?;
        let mut entering = Encoding::unsigned(input.bits)?;
        let mut width = elements("input", &[input.height, input.width, input.channels])?;
        if layers.is_empty() {
            return Err(Error::argument("layers", "empty", "one or more"));
        }
        let mut plans = Vec::new();
        for (i, layer) in layers.iter().enumerate() {
            let Layer::Linear { weights, then } = layer;
            let n = weights.rows();
            if n == 0 || width == 0 {
                let value = format!("{n} x {width} in layer {i}");
                return Err(Error::argument("N x K", value, "1 x 1 or more"));
            }
            if weights.cols() != width {
                let value = format!("{} in layer {i}", weights.cols());
                return Err(Error::argument(
                    "K",
                    value,
                    format_args!("{width}, what enters the layer"),
                ));
            }
            let last = i + 1 == layers.len();
            let epilogue = match then {
                Then::Codes(_) if last => {
                    return Err(Error::argument("then", "codes in the last layer", "floats"));
                }
                Then::Floats { .. } if !last => {
                    let value = format!("floats in layer {i} of {}", layers.len());
                    return Err(Error::argument(
                        "then",
                        value,
                        "codes in every layer but the last",
                    ));
                }
                Then::Codes(thresholds) => {
                    check_len("thresholds", thresholds.n(), n, "N")?;
                    Epilogue::None
                }
                Then::Floats { scale, bias } => {
                    if let Some(bad) = scale.iter().chain(bias).find(|v| !v.is_finite()) {
                        return Err(Error::argument("scale or bias", bad, "finite numbers"));
                    }
                    Epilogue::ScaleBias {
                        scale: scale.clone(),
                        bias: bias.clone(),
                    }
                }
            };
            plans.push(Gemm::on(isa, weights.view(), entering, epilogue)?);
            width = n;
            if let Then::Codes(thresholds) = then {
                entering = thresholds.encoding();
            }
        }
        Ok(Model {
            input,
            layers,
            plans,
            kernels,
        })
    }

    /// Memory for runs of up to `images` images at a time.
    ///
    /// Errors if that does not fit in memory's address space.
    pub fn workspace(&self, images: usize) -> Result<Workspace> {
        let codes = self.plans[1..].iter();
        let codes = codes.map(|p| PackedMatrix::zeros(p.activation(), images, p.k()));
        let hidden = &self.plans[..self.plans.len() - 1];
        let widest = hidden.iter().map(Gemm::n).max().unwrap_or(0);
        let behind = self.plans[1..].iter().map(|p| p.scratch_len(images));
        let scratch = behind.fold(self.plans[0].scratch_len_bytes(images), usize::max);
        Ok(Workspace {
            images,
            codes: codes.collect::<Result<_>>()?,
            sums: vec![0; elements("images", &[images, widest])?],
            scratch: vec![0; scratch],
        })
    }

    /// Logits of `images` (`[M, H, W, C]`, a byte a code) into `logits` (`[M, outputs]`).
    ///
    /// M follows from the length of `images` and may be anything; images go through the workspace as many
    /// at a time as it is for. Nothing is allocated. Errors if a length is wrong, a code has more bits
    /// than the input, or the workspace is another model's; then `logits` is untouched.
    pub fn run(
        &self,
        images: &[u8],
        logits: &mut [f32],
        workspace: &mut Workspace,
        par: Par<'_>,
    ) -> Result<()> {
        let (len, outputs) = (self.input.len(), self.outputs());
        if len == 0 || !images.len().is_multiple_of(len) {
            let value = format!("{} bytes long", images.len());
            return Err(Error::argument(
                "images",
                value,
                format_args!("a multiple of {len} (H x W x C)"),
            ));
        }
        let count = images.len() / len;
        check_len("logits", logits.len(), count * outputs, "images x outputs")?;
        let behind = &self.plans[1..];
        let fits =
            |(p, c): (&Gemm, &PackedMatrix)| c.cols() == p.k() && c.encoding() == p.activation();
        let fits =
            workspace.codes.len() == behind.len() && behind.iter().zip(&workspace.codes).all(fits);
        if !fits || (workspace.images == 0 && count > 0) {
            return Err(Error::argument(
                "workspace",
                "of another model or for no images",
                "one made by this model",
            ));
        }
        // Before the first batch, so that an error in a later one leaves no logits behind.
        let limit = (1usize << self.input.bits) - 1;
        if let Some(i) = images.iter().position(|&code| usize::from(code) > limit) {
            let value = format!("{} at {i}", images[i]);
            return Err(Error::argument(
                "images",
                value,
                format_args!("codes of at most {limit}"),
            ));
        }
        if count == 0 {
            return Ok(());
        }
        let batches = images.chunks(workspace.images * len);
        for (images, logits) in batches.zip(logits.chunks_mut(workspace.images * outputs.max(1))) {
            self.run_batch(images, logits, workspace, par)?;
        }
        Ok(())
    }

    fn run_batch(
        &self,
        images: &[u8],
        logits: &mut [f32],
        workspace: &mut Workspace,
        par: Par<'_>,
    ) -> Result<()> {
        let m = images.len() / self.input.len();
        let Workspace {
            codes,
            sums,
            scratch,
            ..
        } = workspace;
        let input = ByteRef::new(self.plans[0].activation(), m, self.input.len(), images)?;
        for (i, (plan, layer)) in self.plans.iter().zip(&self.layers).enumerate() {
            let Layer::Linear { then, .. } = layer;
            let (before, leaving) = codes.split_at_mut(i);
            let entering = match before.last() {
                None => Activations::Bytes(input),
                Some(codes) => Activations::Planes(codes.view()),
            };
            match then {
                Then::Codes(thresholds) => {
                    let sums = &mut sums[..m * plan.n()];
                    plan.run_i32(entering, 0..m, sums, scratch, par)?;
                    thresholds.run(self.kernels, sums, leaving[0].rows_mut(0..m))?;
                }
                Then::Floats { .. } => plan.run_f32(entering, 0..m, logits, scratch, par)?,
            }
        }
        Ok(())
    }

    /// What the model takes.
    pub fn input(&self) -> Input {
        self.input
    }

    /// Logits of an image.
    pub fn outputs(&self) -> usize {
        self.plans[self.plans.len() - 1].n()
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The ISA whose kernels run.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    pub(super) fn plans(&self) -> &[Gemm] {
        &self.plans
    }
}

impl Workspace {
    /// Images that go through at a time.
    pub fn images(&self) -> usize {
        self.images
    }
}
