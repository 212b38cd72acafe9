//! Running one node over a batch of images.

use super::node::{Node, Op};
use super::step::Step;
use crate::bits::{ByteRef, PackedMut};
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::ops::{self, Activations, Elements, OutRows, Par, Residual};

/// One node's work.
pub(super) struct Work<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) node: &'a Node,
    /// Images.
    pub(super) count: usize,
    pub(super) out: OutRows<'a>,
    pub(super) scratch: &'a mut [u32],
    pub(super) par: Par<'a>,
}

/// The elements of what the node reads, by its place in `Node::reads`.
pub(super) type Reads<'a, 'r> = &'r dyn Fn(usize) -> Elements<'a>;

impl Step {
    /// Whether there is nothing to run: the value is there.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Step::Nothing)
    }

    /// Elements of scratch for up to `images` images on up to `threads` threads.
    pub(super) fn scratch_len(&self, images: usize, threads: usize) -> usize {
        match self {
            Step::Conv(plan) => plan.scratch_len(threads),
            Step::FloatConv(plan) => plan.scratch_len(images, threads),
            _ => 0,
        }
    }

    /// Runs the node.
    pub(super) fn run(&self, work: Work<'_>, reads: Reads<'_, '_>) -> Result<()> {
        let Work {
            kernels, node, par, ..
        } = work;
        match (self, &node.op, work.out) {
            (Step::Conv(plan), op, out) => {
                let mut input = codes(reads(0))?;
                if let (Op::Linear(_), Activations::Bytes(bytes)) = (op, input) {
                    let (rows, cols) = (work.count, plan.geometry().channels);
                    let whole = ByteRef::gathered_here(bytes.encoding(), rows, cols, bytes.data());
                    input = Activations::Bytes(whole);
                }
                let scratch = bytemuck::cast_slice_mut(work.scratch);
                let added = residual(node, reads);
                plan.run(input, 0..work.count, added, out, scratch, par)
            }
            (Step::FloatConv(plan), _, out) => {
                let scratch = bytemuck::cast_slice_mut(work.scratch);
                plan.run(reads(0), residual(node, reads), out, scratch, par)
            }
            (Step::Apply, Op::Apply { finish, .. }, out) => {
                ops::apply(kernels, finish, reads(0), residual(node, reads), out, par)
            }
            (Step::Quantize, Op::Quantize { quantizer, .. }, out) => {
                let channels = node.made.channels;
                ops::quantize_pixels(kernels, reads(0), channels, quantizer, out, par)
            }
            (Step::Dequantize, Op::Dequantize { scale }, OutRows::F32(out)) => {
                ops::dequantize(kernels, codes(reads(0))?, *scale, out, par)
            }
            (Step::MaxPool(pool), _, out) => match (reads(0), out) {
                (Elements::Planes(x), OutRows::Codes(out)) => {
                    pool.run(kernels, x, planes(node, work.count, out)?, par)
                }
                (Elements::Bytes(x), OutRows::Bytes(out)) => pool.run_bytes(kernels, x, out, par),
                (Elements::Floats(x), OutRows::F32(out)) => pool.run_f32(kernels, x, out, par),
                (Elements::F16(x), OutRows::F16(out)) => pool.run_halves(kernels, x, out, par),
                (Elements::Bf16(x), OutRows::Bf16(out)) => pool.run_halves(kernels, x, out, par),
                _ => Err(mixed()),
            },
            (
                Step::AveragePool(pool),
                Op::AveragePool {
                    scale, quantizer, ..
                },
                out,
            ) => match (quantizer, out) {
                (None, OutRows::F32(out)) => pool.run_f32(kernels, reads(0), *scale, out, par),
                (Some(quantizer), OutRows::Codes(out)) => {
                    let out = planes(node, work.count, out)?;
                    pool.run_codes(kernels, reads(0), *scale, quantizer, out, par)
                }
                _ => Err(mixed()),
            },
            (Step::Concat(parts), _, mut out) => {
                let (mut first, channels) = (0, node.made.channels);
                for (i, &c) in parts.iter().enumerate() {
                    ops::concat_part(reads(i), c, first, channels, out.borrow(), par)?;
                    first += c;
                }
                Ok(())
            }
            (Step::Flatten { pixels }, _, OutRows::Codes(out)) => match reads(0) {
                Elements::Planes(x) => {
                    ops::flatten(x, *pixels, planes(node, work.count, out)?, par)
                }
                _ => Err(mixed()),
            },
            (Step::UpSample { size, unit }, Op::UpSample(factors), out) => {
                let (size, unit, factors) = (*size, *unit, *factors);
                match (reads(0), out) {
                    (Elements::Planes(x), OutRows::Codes(out)) => {
                        ops::up_sample(x.words(), size, unit, factors, out, par)
                    }
                    (Elements::Bytes(x), OutRows::Bytes(out)) => {
                        ops::up_sample(x.data(), size, unit, factors, out, par)
                    }
                    (Elements::Floats(x), OutRows::F32(out)) => {
                        ops::up_sample(x, size, unit, factors, out, par)
                    }
                    (Elements::F16(x), OutRows::F16(out)) => {
                        ops::up_sample(x, size, unit, factors, out, par)
                    }
                    (Elements::Bf16(x), OutRows::Bf16(out)) => {
                        ops::up_sample(x, size, unit, factors, out, par)
                    }
                    _ => Err(mixed()),
                }
            }
            _ => Err(mixed()),
        }
    }
}

fn codes(x: Elements<'_>) -> Result<Activations<'_>> {
    match x {
        Elements::Planes(planes) => Ok(Activations::Planes(planes)),
        Elements::Bytes(bytes) => Ok(Activations::Bytes(bytes)),
        _ => Err(mixed()),
    }
}

/// The rows of planes that the node makes.
fn planes<'a>(node: &Node, count: usize, words: &'a mut [u32]) -> Result<PackedMut<'a>> {
    let encoding = node.made.kind.encoding().ok_or_else(mixed)?;
    let rows = node.made.pixels() * count;
    PackedMut::new(encoding, rows, node.made.channels, words)
}

/// What the node adds.
fn residual<'a>(node: &Node, reads: Reads<'a, '_>) -> Option<Residual<'a>> {
    let added = node.op.residual()?;
    Some(match reads(1) {
        Elements::Floats(floats) => Residual::Floats(floats),
        Elements::F16(floats) => Residual::F16(floats),
        Elements::Bf16(floats) => Residual::Bf16(floats),
        Elements::Planes(codes) => Residual::Planes {
            codes,
            scale: added.scale,
        },
        Elements::Bytes(codes) => Residual::Bytes {
            codes,
            scale: added.scale,
        },
    })
}

/// The builder gives each node the kinds that it takes, so that nobody sees this.
fn mixed() -> Error {
    Error::argument("kind", "another", "what the builder has checked")
}
