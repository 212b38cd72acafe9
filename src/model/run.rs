//! Running a model: images in turns, node after node.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use half::slice::HalfBitsSliceExt;

use super::execute::Work;
use super::memory::{Spot, place};
use super::net::Model;
use super::step::Step;
use super::value::{Kind, ValueType};
use super::workspace::{Images, Mode, Outs, Workspace, share};
use crate::bits::{ByteRef, PackedRef};
use crate::error::{Error, Result};
use crate::ops::{Elements, OutRows, Par};
use crate::shape::{check_len, elements};

/// Vector instructions of a run, about, from which on threads are woken up for it: one to two tenths of a millisecond. One image
/// of 32 x 32 by ResNet-20 (0.2 to 0.6 million) and by VGG-11 with codes of one bit (0.6) took a fifth longer on two threads
/// than on one, VGG-11 with 2 bits (1.2) from a tenth more to a third less (Zen 5, a virtual machine).
const LEAST_COST: u64 = 1 << 20;

/// Floats of a vector, about.
const FLOATS: u64 = 16;

/// Images that go through together, and where their results go.
struct Batch<'a> {
    images: Images<'a>,
    count: usize,
    outs: Outs<'a>,
}

impl Model {
    /// The floats of the only output, `[M, H, W, C]`, into `logits`, for `images` `[M, H, W, C]` of bytes or floats as
    /// [`Model::input`] says.
    ///
    /// M follows from the length of `images` and may be anything. Nothing is allocated, but for the jobs of a
    /// [`Par::Pool`]. Errors as [`Model::run_all`].
    pub fn run<'a>(
        &self,
        images: impl Into<Images<'a>>,
        logits: &mut [f32],
        workspace: &mut Workspace,
        par: Par<'_>,
    ) -> Result<()> {
        let images = images.into();
        let count = images.check(&self.input())?;
        let [output] = self.outputs() else {
            let expected = "1 for a result of logits alone";
            return Err(Error::argument("outputs", self.outputs().len(), expected));
        };
        let len = elements("logits", &[count, output.len()])?;
        check_len("logits", logits.len(), len, "images x outputs")?;
        self.go(images, count, &mut [OutRows::F32(logits)], workspace, par)
    }

    /// All outputs, for `images` `[M, H, W, C]`: floats into [`OutRows::F32`], [`OutRows::F16`] or
    /// [`OutRows::Bf16`], sums into [`OutRows::I32`], planes into [`OutRows::Codes`], bytes into [`OutRows::Bytes`],
    /// [`ValueType::stored_len`] elements for each image.
    ///
    /// M follows from the length of `images` and may be anything; images go through the workspace as many at a time
    /// as it is for, and those that are done in a tenth of a millisecond stay on the calling thread. Nothing is allocated,
    /// as in [`Model::run`], and the results depend neither on threads, mode nor workspace. Errors if a length or kind is
    /// wrong, a byte is no code of the input, or the workspace is too small for this model, for the threads of `par`, or
    /// for no images; then `outs` are untouched.
    pub fn run_all<'a>(
        &self,
        images: impl Into<Images<'a>>,
        outs: &mut [OutRows<'_>],
        workspace: &mut Workspace,
        par: Par<'_>,
    ) -> Result<()> {
        let images = images.into();
        let count = images.check(&self.input())?;
        self.go(images, count, outs, workspace, par)
    }

    fn go(
        &self,
        images: Images<'_>,
        count: usize,
        outs: &mut [OutRows<'_>],
        workspace: &mut Workspace,
        par: Par<'_>,
    ) -> Result<()> {
        let outs = self.check_outs(count, outs)?;
        self.check_workspace(count, workspace, par)?;
        if count == 0 {
            return Ok(());
        }
        let par = self.worth(count, par);
        let (mode, most) = (workspace.mode(), workspace.images());
        let (words, piece) = workspace.pieces();
        match mode {
            Mode::Latency => par.stay_awake(|| {
                for mut batch in self.batches(images, count, most, outs) {
                    self.batch(&mut batch, words, par, &mut |_, _| ())?;
                }
                Ok(())
            }),
            Mode::Throughput => {
                let threads = par.threads().min(count);
                let at_a_time = most.min(count.div_ceil(threads));
                let batches = Mutex::new(self.batches(images, count, at_a_time, outs));
                let take = || {
                    batches
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .next()
                };
                let failed = Mutex::new(Ok(()));
                let pieces = words.chunks_mut(piece.max(1)).take(threads);
                par.share(pieces, &|words: &mut [u32]| {
                    while let Some(mut batch) = take() {
                        let done = self.batch(&mut batch, words, Par::Caller, &mut |_, _| ());
                        if done.is_err() {
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) = done;
                        }
                    }
                });
                failed.into_inner().unwrap_or_else(PoisonError::into_inner)
            }
        }
    }

    /// The threads that a run of `count` images is worth: the caller alone if it is short.
    fn worth<'p>(&self, count: usize, par: Par<'p>) -> Par<'p> {
        let cost = |step: &Step| match step {
            Step::Conv(conv) => conv.cost(),
            Step::FloatConv(conv) => conv.macs() / FLOATS,
            _ => 0,
        };
        let image = self.steps.iter().map(cost).fold(0, u64::saturating_add);
        match image.saturating_mul(count as u64) < LEAST_COST {
            true => Par::Caller,
            false => par,
        }
    }

    /// Where outputs go, once their kinds and lengths are those of the model.
    fn check_outs<'o>(&self, count: usize, outs: &'o mut [OutRows<'_>]) -> Result<Outs<'o>> {
        if outs.len() != self.outputs().len() {
            let expected = self.outputs().len();
            return Err(Error::argument("outs", outs.len(), expected));
        }
        let mut all = Outs::default();
        for ((to, out), made) in all.iter_mut().zip(outs).zip(self.outputs()) {
            let out = out.borrow();
            let fits = matches!(
                (&out, made.kind),
                (OutRows::F32(_), Kind::F32)
                    | (OutRows::F16(_), Kind::F16)
                    | (OutRows::Bf16(_), Kind::Bf16)
                    | (OutRows::I32(_), Kind::I32)
                    | (OutRows::Codes(_), Kind::Planes(_))
                    | (OutRows::Bytes(_), Kind::Bytes(_))
            );
            if !fits {
                let expected = format!("for {}, what the model gives", made.kind);
                return Err(Error::argument("out", out.name(), expected));
            }
            let len = elements("out", &[count, made.stored_len()])?;
            check_len("out", out.len(), len, "images x elements of an image")?;
            *to = Some(out);
        }
        Ok(all)
    }

    fn check_workspace(&self, count: usize, workspace: &mut Workspace, par: Par<'_>) -> Result<()> {
        let images = workspace.images();
        if images == 0 && count > 0 {
            let expected = "one for 1 image or more";
            return Err(Error::argument("workspace", "for no images", expected));
        }
        if par.threads() > workspace.threads() {
            let value = format!("for {} threads", workspace.threads());
            let expected = format!("one for {}, as the pool has", par.threads());
            return Err(Error::argument("workspace", value, expected));
        }
        let (_, together) = share(workspace.threads(), workspace.mode());
        let there = workspace.pieces().1;
        let fits = |needed: usize| needed <= there;
        if !self.piece(images, together).is_some_and(fits) {
            let value = "of another model";
            let expected = "one made by this model";
            return Err(Error::argument("workspace", value, expected));
        }
        Ok(())
    }

    /// The images in turns of `at_a_time`.
    fn batches<'a>(
        &self,
        images: Images<'a>,
        total: usize,
        at_a_time: usize,
        mut outs: Outs<'a>,
    ) -> impl Iterator<Item = Batch<'a>> + Send {
        let len = self.input().len();
        let mut units = [0; super::net::MAX_OUTPUTS];
        for (unit, made) in units.iter_mut().zip(self.outputs()) {
            *unit = made.stored_len();
        }
        let mut first = 0;
        std::iter::from_fn(move || {
            let count = at_a_time.min(total - first);
            if count == 0 {
                return None;
            }
            let mut some = Outs::default();
            for ((some, out), unit) in some.iter_mut().zip(&mut outs).zip(units) {
                *some = out.as_mut().map(|out| out.take(count * unit));
            }
            let images = images.slice(first, count, len);
            first += count;
            Some(Batch {
                images,
                count,
                outs: some,
            })
        })
    }

    /// Takes a batch through all nodes; `words` are values and scratch. `done` hears of each node and its time.
    fn batch(
        &self,
        batch: &mut Batch<'_>,
        words: &mut [u32],
        par: Par<'_>,
        done: &mut (dyn FnMut(usize, Instant) + Send),
    ) -> Result<()> {
        let count = batch.count;
        let (values, scratch) = words.split_at_mut(self.memory.words * count);
        for i in 0..self.nodes.len() {
            let (node, (product, step)) = (&self.nodes[i], self.step(i));
            let Spot::At(at) = self.memory.spots[i] else {
                continue;
            };
            if step.is_nothing() {
                continue;
            }
            let begin = Instant::now();
            // Nothing that the node reads overlaps with what it makes.
            let (before, rest) = values.split_at_mut(at * count);
            let len = place(&node.made) * count;
            let (out, after) = rest.split_at_mut(len);
            let places = Places {
                model: self,
                images: batch.images,
                count,
                before,
                after,
                after_at: at * count + len,
            };
            let work = Work {
                kernels: self.kernels,
                node,
                count,
                out: out_rows(&node.made, count, out),
                scratch: &mut *scratch,
                par,
            };
            step.run(work, &|which| places.read(self.reads[i][which].index()))?;
            done(product, begin);
        }
        let (after, after_at) = (&[][..], usize::MAX);
        let places = Places {
            model: self,
            images: batch.images,
            count,
            before: values,
            after,
            after_at,
        };
        for (out, value) in batch.outs.iter_mut().flatten().zip(&self.outputs) {
            places.copy(value.index(), out);
        }
        Ok(())
    }

    /// Medians of the time of each node, in order, over `runs` runs of all `images`, which must fit in the workspace
    /// at a time. In throughput mode one thread runs, as each of them would.
    ///
    /// Nodes that only name what is there take no time, and those that are done with a product are in its time. Errors as [`Model::run_all`], if there are no images or more
    /// than the workspace is for, or if `runs` is 0.
    pub fn profile<'a>(
        &self,
        images: impl Into<Images<'a>>,
        workspace: &mut Workspace,
        par: Par<'_>,
        runs: usize,
    ) -> Result<Vec<Duration>> {
        let images = images.into();
        let count = images.check(&self.input())?;
        self.check_workspace(count, workspace, par)?;
        if count == 0 || count > workspace.images() {
            let expected = format!("1 to {}, as the workspace", workspace.images());
            return Err(Error::argument("images", count, expected));
        }
        if runs == 0 {
            return Err(Error::argument("runs", runs, "1 or more"));
        }
        let par = match workspace.mode() {
            Mode::Latency => self.worth(count, par),
            Mode::Throughput => Par::Caller,
        };
        let mut times = vec![Vec::new(); self.nodes.len()];
        let (words, piece) = workspace.pieces();
        for _ in 0..runs {
            let outs = Outs::default();
            let mut batch = Batch {
                images,
                count,
                outs,
            };
            let words = &mut words[..piece];
            let mut note = |i: usize, begin: Instant| times[i].push(begin.elapsed());
            par.stay_awake(|| self.batch(&mut batch, words, par, &mut note))?;
        }
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        Ok(times.into_iter().map(median).collect())
    }
}

/// Where the values of a batch lie: before and behind what is being written.
struct Places<'a> {
    model: &'a Model,
    images: Images<'a>,
    count: usize,
    before: &'a [u32],
    after: &'a [u32],
    /// The place of the first word of `after`.
    after_at: usize,
}

impl<'a> Places<'a> {
    /// The words of a value that is not the image.
    fn words(&self, value: usize) -> Option<&'a [u32]> {
        let Spot::At(at) = self.model.memory.spots[value] else {
            return None;
        };
        let (at, made) = (at * self.count, &self.model.nodes[value].made);
        let words = match at.checked_sub(self.after_at) {
            None => &self.before[at..],
            Some(at) => &self.after[at..],
        };
        Some(&words[..made.words(self.count)])
    }

    /// The elements of a value, a row a pixel.
    fn read(&self, value: usize) -> Elements<'a> {
        let made = &self.model.nodes[value].made;
        let (rows, cols) = (made.pixels() * self.count, made.channels);
        match (made.kind, self.words(value), self.images) {
            (Kind::Planes(e), Some(words), _) => {
                Elements::Planes(PackedRef::packed_here(e, rows, cols, words))
            }
            (Kind::Bytes(e), Some(words), _) => {
                let bytes = &bytemuck::cast_slice(words)[..rows * cols];
                Elements::Bytes(ByteRef::gathered_here(e, rows, cols, bytes))
            }
            (Kind::Bytes(e), None, Images::Bytes(bytes)) => {
                Elements::Bytes(ByteRef::gathered_here(e, rows, cols, bytes))
            }
            (Kind::F32, Some(words), _) => Elements::Floats(bytemuck::cast_slice(words)),
            (Kind::F16, Some(words), _) => {
                Elements::F16(halves(words)[..rows * cols].reinterpret_cast())
            }
            (Kind::Bf16, Some(words), _) => {
                Elements::Bf16(halves(words)[..rows * cols].reinterpret_cast())
            }
            (Kind::F32, None, Images::Floats(floats)) => Elements::Floats(floats),
            (Kind::F16, None, Images::F16(floats)) => Elements::F16(floats),
            (Kind::Bf16, None, Images::Bf16(floats)) => Elements::Bf16(floats),
            _ => unreachable!("the builder and the run have checked what is read"),
        }
    }

    /// Copies a value to where the caller wants it.
    fn copy(&self, value: usize, out: &mut OutRows<'_>) {
        if let (OutRows::I32(out), Some(words)) = (&mut *out, self.words(value)) {
            out.copy_from_slice(bytemuck::cast_slice(words));
            return;
        }
        match (self.read(value), out) {
            (Elements::Floats(from), OutRows::F32(out)) => out.copy_from_slice(from),
            (Elements::F16(from), OutRows::F16(out)) => out.copy_from_slice(from),
            (Elements::Bf16(from), OutRows::Bf16(out)) => out.copy_from_slice(from),
            (Elements::Planes(from), OutRows::Codes(out)) => out.copy_from_slice(from.words()),
            (Elements::Bytes(from), OutRows::Bytes(out)) => out.copy_from_slice(from.data()),
            _ => unreachable!("kinds have been checked"),
        }
    }
}

/// Words as 16-bit numbers.
fn halves(words: &[u32]) -> &[u16] {
    bytemuck::cast_slice(words)
}

/// What a node writes: `count` images of type `made` in `words`.
fn out_rows<'a>(made: &ValueType, count: usize, words: &'a mut [u32]) -> OutRows<'a> {
    let len = made.stored_len() * count;
    let halves = |words| &mut bytemuck::cast_slice_mut::<u32, u16>(words)[..len];
    match made.kind {
        Kind::Planes(_) => OutRows::Codes(&mut words[..len]),
        Kind::Bytes(_) => OutRows::Bytes(&mut bytemuck::cast_slice_mut(words)[..len]),
        Kind::F32 => OutRows::F32(&mut bytemuck::cast_slice_mut(words)[..len]),
        Kind::F16 => OutRows::F16(halves(words).reinterpret_cast_mut()),
        Kind::Bf16 => OutRows::Bf16(halves(words).reinterpret_cast_mut()),
        Kind::I32 => OutRows::I32(&mut bytemuck::cast_slice_mut(words)[..len]),
    }
}
