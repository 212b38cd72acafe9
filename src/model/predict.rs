//! What no run of a node can beat: a roofline of multiply-accumulates, of reads and of writes.
//!
//! A node takes at least the time of its multiply-accumulates by the instructions of its kernel on registers alone; at
//! least that of reading its weights, and the values that enter; at least that of writing what it makes. A core does all
//! of them at a time, so the longest is the bound. It is a bound, not an estimate: what a node does besides, such as to
//! compare, round, unpack or begin, is not in it, and small nodes take many times as long.
//!
//! All rates are measured when they are asked for, on the core as it runs now: clocks change, and so does what other
//! programs leave of a cache. Where bytes come from is not looked up but measured too: a loop that walks over as many
//! bytes again and again finds them in the same cache as a node would.

use std::time::{Duration, Instant};

use super::describe::NodeInfo;
use super::memory::Spot;
use super::net::Model;
use super::node::{Op, Window};
use super::value::ValueType;
use crate::error::{Error, Result};
use crate::kernels::bounds::{Block, Loops, Sequence};

impl Model {
    /// For each node the time that no run on one thread of this core can beat by much, for an image of `images` that go
    /// through together: the longest of the times of its multiply-accumulates on registers alone ([`Loops`]), of reading
    /// its weights and what enters, and of writing what leaves. Rates are measured in milliseconds, few for small models.
    ///
    /// It is a bound, not an estimate: what else a node does is not counted, nor are multiply-accumulates on ISAs without
    /// such loops. None for nodes that do not run: those that no output needs, that only name what is there, or that are
    /// done with a product, in whose time they are. Errors if there are no images.
    pub fn predict(&self, images: usize) -> Result<Vec<Option<Duration>>> {
        if images == 0 {
            return Err(Error::argument("images", images, "1 or more"));
        }
        let work: Vec<(usize, Work)> = (0..self.nodes.len())
            .filter_map(|i| self.work(i, images))
            .collect();
        // Between two uses of a weight, all others and all values pass by.
        let weights: f64 = work.iter().map(|(_, work)| work.weights).sum();
        let values = self.peak_bytes(images) as f64 + bytes(&self.input(), images);
        let mut core = Core::new(Loops::of(self.isa())?);
        let mut bounds = vec![None; self.nodes.len()];
        for (node, work) in work {
            let seconds = core.seconds(&work, weights + values) / images as f64;
            let bound = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            // Nothing is done in less than a clock can tell.
            bounds[node] = Some(bound.max(Duration::from_nanos(1)));
        }
        Ok(bounds)
    }

    /// What a run of `images` images does when it comes to node `i`, and the node in whose time that is; none if nothing.
    fn work(&self, i: usize, images: usize) -> Option<(usize, Work)> {
        let (product, step) = self.step(i);
        if step.is_nothing() || !matches!(self.memory.spots[i], Spot::At(_)) {
            return None;
        }
        let info = self.info(product, images);
        let finish = match product == i {
            true => 0,
            false => self.info(i, images).packed_bytes,
        };
        let made = &self.nodes[i].made;
        let reads = self.reads[i].iter().map(|v| &self.nodes[v.index()].made);
        let read = reads.enumerate().map(|(which, x)| {
            let part = match (which, window(&self.nodes[product].op)) {
                (0, Some(window)) => part(window, x, made),
                _ => 1.0,
            };
            part * bytes(x, images)
        });
        let work = Work {
            macs: macs(&info, images),
            weights: info.packed_bytes as f64 + finish as f64,
            read: read.sum(),
            written: bytes(made, images),
        };
        Some((product, work))
    }
}

/// What a node does to all images of a run; bytes, of values as they lie in memory.
struct Work {
    /// Multiply-accumulates by a sequence.
    macs: Option<(Sequence, f64)>,
    /// Bytes of weights, thresholds and the like, once for all images.
    weights: f64,
    /// Bytes of the values that it reads.
    read: f64,
    /// Bytes of the value that it makes.
    written: f64,
}

fn macs(info: &NodeInfo, images: usize) -> Option<(Sequence, f64)> {
    let (sequence, passes) = info.sequence?;
    Some((sequence, info.macs as f64 * passes as f64 * images as f64))
}

fn bytes(value: &ValueType, images: usize) -> f64 {
    (value.stored_len() as f64) * value.kind.element_bytes() as f64 * images as f64
}

/// The windows through which an operation sees the first value that it reads, if it may see a part of it.
fn window(op: &Op) -> Option<&Window> {
    match op {
        Op::Conv(conv) if conv.transposed.is_none() => Some(&conv.window),
        Op::FloatConv(conv) if conv.transposed.is_none() => Some(&conv.window),
        Op::MaxPool(window) | Op::AveragePool { window, .. } => Some(window),
        _ => None,
    }
}

/// The part of the pixels of `x` that windows may see: strides leave pixels out.
fn part(window: &Window, x: &ValueType, made: &ValueType) -> f64 {
    let along = |axis: usize, input: usize, output: usize| {
        // Of every so many pixels one is seen at most; and so many for each output.
        let apart = gcd(window.stride[axis], window.dilation[axis]);
        let seen = output.saturating_mul(window.kernel[axis]);
        seen.min(input.div_ceil(apart)) as f64 / input as f64
    };
    along(0, x.height, made.height) * along(1, x.width, made.width)
}

fn gcd(mut a: usize, mut b: usize) -> usize {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// Bytes of the smallest footprint that is measured: smaller ones are in the same cache.
const LEAST: usize = 8 << 10;

/// Footprints that are measured, each twice the one before; up to 64 MiB, for few models are larger.
const FOOTPRINTS: usize = 14;

/// What one thread of this core does, measured when it is first asked for.
struct Core {
    loops: Loops,
    /// Multiply-accumulates a second; none where there is no loop.
    ports: Vec<(Sequence, Option<f64>)>,
    /// Bytes a second of each footprint, which were read and written.
    reads: [Option<f64>; FOOTPRINTS],
    writes: [Option<f64>; FOOTPRINTS],
    /// As many as the greatest footprint so far.
    blocks: Vec<Block>,
}

impl Core {
    fn new(loops: Loops) -> Self {
        Core {
            loops,
            ports: Vec::new(),
            reads: [None; FOOTPRINTS],
            writes: [None; FOOTPRINTS],
            blocks: Vec::new(),
        }
    }

    /// The bound of a node whose weights come back after `all` bytes, those of all nodes.
    fn seconds(&mut self, work: &Work, all: f64) -> f64 {
        let macs = work.macs.and_then(|(sequence, macs)| {
            let rate = self.macs_a_second(sequence)?;
            Some(macs / rate)
        });
        [
            macs.unwrap_or(0.0),
            work.weights / self.read_a_second(all),
            work.read / self.read_a_second(work.read),
            work.written / self.written_a_second(work.written),
        ]
        .into_iter()
        .fold(0.0, f64::max)
    }

    fn macs_a_second(&mut self, sequence: Sequence) -> Option<f64> {
        if let Some((_, rate)) = self.ports.iter().find(|(known, _)| *known == sequence) {
            return *rate;
        }
        let loops = self.loops;
        let macs = loops.run(sequence, 1).map(|macs| macs as f64);
        let rounds = 20_000;
        let rate = macs.map(|macs| {
            rate(macs * rounds as f64, || {
                loops.run(sequence, rounds);
            })
        });
        self.ports.push((sequence, rate));
        rate
    }

    /// Bytes a second that are read again and again from a footprint.
    fn read_a_second(&mut self, footprint: f64) -> f64 {
        let i = which(footprint);
        if let Some(rate) = self.reads[i] {
            return rate;
        }
        let loops = self.loops;
        let (times, blocks) = self.blocks(i);
        let bytes = (times * size_of_val(blocks)) as f64;
        let rate = rate(bytes, || (0..times).for_each(|_| loops.read(blocks)));
        self.reads[i] = Some(rate);
        rate
    }

    /// The same of writes.
    fn written_a_second(&mut self, footprint: f64) -> f64 {
        let i = which(footprint);
        if let Some(rate) = self.writes[i] {
            return rate;
        }
        let loops = self.loops;
        let (times, blocks) = self.blocks(i);
        let bytes = (times * size_of_val(blocks)) as f64;
        let rate = rate(bytes, || (0..times).for_each(|_| loops.write(blocks)));
        self.writes[i] = Some(rate);
        rate
    }

    /// The blocks of a footprint, and how often they are walked over: a megabyte takes as long as a clock can tell.
    fn blocks(&mut self, i: usize) -> (usize, &mut [Block]) {
        let bytes = LEAST << i;
        let count = bytes / size_of::<Block>();
        if self.blocks.len() < count {
            self.blocks = Block::some(bytes);
        }
        ((128 >> i).max(1), &mut self.blocks[..count])
    }
}

/// The greatest footprint that is not above this one, or the smallest: a node may find a part of its bytes in a nearer
/// cache, and a bound is not to promise too much.
fn which(footprint: f64) -> usize {
    let times = (footprint / LEAST as f64).max(1.0);
    (times.log2() as usize).min(FOOTPRINTS - 1)
}

/// Units a second of `work`, the best of some runs: others only ever slow it down.
fn rate(units: f64, mut work: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::MAX);
    for run in 0..RUNS {
        let begin = Instant::now();
        work();
        best = best.min(begin.elapsed().as_secs_f64());
        if run > 1 && start.elapsed() > LONG {
            break;
        }
    }
    units / best.max(1e-9)
}

/// Runs of a measurement, at most.
const RUNS: usize = 8;

/// A measurement of so long is enough.
const LONG: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::Encoding;
    use crate::model::sample::sample;

    #[test]
    fn work_is_that_of_all_images() {
        let model = sample(Encoding::unsigned(4).unwrap());
        assert!(model.work(0, 3).is_none());
        let (node, work) = model.work(2, 3).unwrap();
        let info = model.info(2, 3);
        let passes = info.sequence.unwrap().1 as f64;
        assert_eq!(work.macs.unwrap().1, 3.0 * 40.0 * 33.0 * passes);
        // Rows of two words a plane, four planes.
        let all = (node, work.weights, work.read, work.written);
        assert_eq!(all, (2, info.packed_bytes as f64, 96.0, 96.0));
        let refused = model.predict(0).unwrap_err().to_string();
        assert!(refused.starts_with("images is 0"), "{refused}");
    }

    #[test]
    fn strides_leave_pixels_out() {
        let image = |size| ValueType::floats(size, size, 1);
        let seen = |window: Window, x: usize, made: usize| part(&window, &image(x), &image(made));
        assert_eq!(seen(Window::new(3).padding(1), 8, 8), 1.0);
        assert_eq!(seen(Window::new(1).stride(2), 8, 4), 0.25);
        assert_eq!(seen(Window::new(2).stride(4), 8, 2), 0.25);
        assert_eq!(
            seen(Window::new(3).stride(2).dilation(2), 9, 3),
            5.0 / 9.0 * (5.0 / 9.0)
        );
        assert_eq!(seen(Window::new(3).stride(2).dilation(1), 9, 4), 1.0);
    }

    #[test]
    fn footprints_are_rounded_down() {
        let kilo = |n: usize| which((n << 10) as f64);
        assert_eq!([1, 8, 15, 16, 31].map(kilo), [0, 0, 0, 1, 1]);
        assert_eq!([65535, 65536, usize::MAX >> 10].map(kilo), [12, 13, 13]);
    }
}
