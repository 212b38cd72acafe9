//! What a model computes, done the naive way: one element after the other, in the words of the definitions.

use half::{bf16, f16};

use super::node::{Conv, FloatConv, Node, Op, Window};
use super::{Model, ValueType};
use crate::bits::{Encoding, PackedMatrix};
use crate::ops::{ActivationFn, Finish, OutputKind, Pad, ResidualAt};
use crate::quant::{ActQuantizer, Quantizer};

/// The elements of an image.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Naive {
    Integers(Vec<i32>),
    Floats(Vec<f32>),
}

impl Naive {
    fn integers(&self) -> &[i32] {
        match self {
            Naive::Integers(v) => v,
            Naive::Floats(_) => panic!("floats"),
        }
    }

    fn floats(&self) -> &[f32] {
        match self {
            Naive::Floats(v) => v,
            Naive::Integers(_) => panic!("integers"),
        }
    }

    /// Element `i` as a float, of which the integer 1 stands for `unit`.
    fn float(&self, i: usize, unit: f32) -> f32 {
        match self {
            Naive::Floats(v) => v[i],
            Naive::Integers(v) => v[i] as f32 * unit,
        }
    }
}

/// The outputs of one image.
pub(super) fn run(model: &Model, image: &Naive) -> Vec<Naive> {
    let mut values: Vec<Naive> = Vec::new();
    for node in &model.nodes {
        let reads: Vec<(&Naive, ValueType)> = node
            .reads
            .iter()
            .map(|v| (&values[v.index()], model.nodes[v.index()].made))
            .collect();
        let value = one(node, &reads, image);
        let len = match &value {
            Naive::Integers(v) => v.len(),
            Naive::Floats(v) => v.len(),
        };
        assert_eq!(len, node.made.len(), "{node:?}");
        values.push(value);
    }
    let outputs = model.outputs.iter();
    outputs.map(|v| values[v.index()].clone()).collect()
}

fn one(node: &Node, reads: &[(&Naive, ValueType)], image: &Naive) -> Naive {
    if let Op::Image = node.op {
        return image.clone();
    }
    let (x, shape) = reads[0];
    let added = |scale: f32| reads.get(1).map(|(r, _)| (*r, scale));
    match &node.op {
        Op::Image => unreachable!(),
        Op::Conv(conv) => {
            let sums = conv_sums(conv, x.integers(), &shape, &node.made);
            let residual = added(conv.residual.map_or(1.0, |r| r.scale));
            finish(&conv.finish, &Naive::Integers(sums), residual)
        }
        Op::Linear(linear) => {
            let w = linear.weights.unpack();
            let rows = w.chunks(shape.len());
            let of = |(w, a): (&i32, &i32)| w * (a - linear.zero_point);
            let dot = |row: &[i32]| row.iter().zip(x.integers()).map(of).sum();
            let sums = rows.map(dot).collect();
            let residual = added(linear.residual.map_or(1.0, |r| r.scale));
            finish(&linear.finish, &Naive::Integers(sums), residual)
        }
        Op::FloatConv(conv) => Naive::Floats(float_conv(conv, x.floats(), &shape, &node.made)),
        Op::Apply {
            finish: f,
            residual,
        } => finish(f, x, added(residual.map_or(1.0, |r| r.scale))),
        Op::Quantize { quantizer, .. } => {
            let code = |&x: &f32| integer(quantizer, x);
            Naive::Integers(x.floats().iter().map(code).collect())
        }
        Op::Dequantize { scale } => {
            let float = |i: usize| x.float(i, *scale);
            Naive::Floats((0..shape.len()).map(float).collect())
        }
        Op::MaxPool(window) => max_pool(window, x, &shape, &node.made),
        Op::AveragePool {
            window,
            scale,
            quantizer,
        } => {
            let means = average_pool(window, *scale, x, &shape, &node.made);
            match quantizer {
                None => Naive::Floats(means),
                Some(q) => Naive::Integers(means.iter().map(|&y| integer(q, y)).collect()),
            }
        }
        Op::Concat => concat(reads, &node.made),
        Op::Flatten => x.clone(),
        Op::UpSample([fy, fx]) => {
            let from = |i: usize| {
                let (pixel, c) = (i / shape.channels, i % shape.channels);
                let (y, x) = (pixel / node.made.width / fy, pixel % node.made.width / fx);
                (y * shape.width + x) * shape.channels + c
            };
            pick(x, (0..node.made.len()).map(from))
        }
    }
}

fn pick(x: &Naive, from: impl Iterator<Item = usize>) -> Naive {
    match x {
        Naive::Integers(v) => Naive::Integers(from.map(|i| v[i]).collect()),
        Naive::Floats(v) => Naive::Floats(from.map(|i| v[i]).collect()),
    }
}

/// The integer of the code of `x`.
fn integer(quantizer: &Quantizer, x: f32) -> i32 {
    let (code, encoding) = (quantizer.code(x), quantizer.encoding());
    match quantizer {
        Quantizer::Linear(q) => q.integer(x),
        Quantizer::Act(ActQuantizer::Sign) => 2 * i32::from(code) - 1,
        Quantizer::Act(_) => encoding.decode(code).unwrap(),
    }
}

fn function(f: &ActivationFn, y: f32, n: usize) -> f32 {
    let prelu = |y: f32, slope: f32| if y >= 0.0 { y } else { slope * y };
    match f {
        ActivationFn::Identity => y,
        ActivationFn::Relu => {
            if y > 0.0 {
                y
            } else {
                0.0
            }
        }
        ActivationFn::PRelu { slope } => prelu(y, slope[n]),
        ActivationFn::RPRelu {
            before,
            slope,
            after,
        } => prelu(y - before[n], slope[n]) + after[n],
        ActivationFn::Clamp { low, high } => y.clamp(*low, *high),
    }
}

/// `finish` of `x`, `[pixels, N]`.
fn finish(f: &Finish, x: &Naive, residual: Option<(&Naive, f32)>) -> Naive {
    let n = f.n();
    match f.output() {
        OutputKind::I32 => return x.clone(),
        OutputKind::Levels(encoding) => {
            let t = f.thresholds().unwrap();
            let (all, levels) = (t.thresholds(), encoding.levels());
            let code = |(i, &sum): (usize, &i32)| {
                let (c, sign) = (i % n, t.sign()[i % n]);
                let code = (0..levels).filter(|&l| sign * sum > all[l * n + c]);
                encoding.decode(code.count() as u8).unwrap()
            };
            return Naive::Integers(x.integers().iter().enumerate().map(code).collect());
        }
        _ => {}
    }
    let len = match x {
        Naive::Integers(v) => v.len(),
        Naive::Floats(v) => v.len(),
    };
    let floats = (0..len).map(|i| {
        let mut y = x.float(i, 1.0) * f.scale()[i % n] + f.bias()[i % n];
        let added = residual.map_or(0.0, |(r, unit)| r.float(i, unit));
        if f.residual() == ResidualAt::BeforeFunction {
            y += added;
        }
        y = function(f.function(), y, i % n);
        if f.residual() == ResidualAt::AfterFunction {
            y += added;
        }
        y
    });
    let codes = |q: Quantizer, floats: &mut dyn Iterator<Item = f32>| {
        Naive::Integers(floats.map(|y| integer(&q, y)).collect())
    };
    let mut floats = floats;
    match f.output() {
        OutputKind::F32 => Naive::Floats(floats.collect()),
        OutputKind::F16 => Naive::Floats(floats.map(|y| f16::from_f32(y).to_f32()).collect()),
        OutputKind::Bf16 => Naive::Floats(floats.map(|y| bf16::from_f32(y).to_f32()).collect()),
        OutputKind::Codes(q) | OutputKind::Bytes(q) => codes(q, &mut floats),
        _ => unreachable!("not in a model"),
    }
}

fn filters(filters: &PackedMatrix) -> impl Fn(usize, usize) -> i32 {
    let (all, k) = (filters.unpack(), filters.cols());
    move |o, at| all[o * k + at]
}

/// The input pixel of tap `tap` of output `at` along an axis, if there is one inside.
fn tap(window: &Window, axis: usize, at: usize, tap: usize, size: usize) -> Option<usize> {
    let before = [window.padding.top, window.padding.left][axis];
    let position = at * window.stride[axis] + tap * window.dilation[axis];
    position.checked_sub(before).filter(|&p| p < size)
}

fn conv_sums(conv: &Conv, x: &[i32], shape: &ValueType, made: &ValueType) -> Vec<i32> {
    let (w, window) = (filters(&conv.filters), &conv.window);
    let [kh, kw] = window.kernel;
    let (c_in, o_all) = (shape.channels / conv.groups, made.channels);
    let outside = match conv.pad {
        Pad::Zero => conv.zero_point,
        Pad::PlusOne => 1,
        Pad::MinusOne => -1,
    };
    let mut sums = vec![0; made.len()];
    for (i, sum) in sums.iter_mut().enumerate() {
        let (pixel, o) = (i / o_all, i % o_all);
        let (oy, ox) = (pixel / made.width, pixel % made.width);
        let group = o / (o_all / conv.groups);
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let from = match conv.transposed {
                None => {
                    tap(window, 0, oy, ky, shape.height).zip(tap(window, 1, ox, kx, shape.width))
                }
                Some(_) => source(window, 0, oy, ky, shape.height).zip(source(
                    window,
                    1,
                    ox,
                    kx,
                    shape.width,
                )),
            };
            for c in 0..c_in {
                let a = from.map_or(outside, |(y, xx)| {
                    x[(y * shape.width + xx) * shape.channels + group * c_in + c]
                });
                *sum += (a - conv.zero_point) * w(o, (ky * kw + kx) * c_in + c);
            }
        }
    }
    sums
}

/// The input of a transposed convolution that adds its tap `tap` to output `at`.
fn source(window: &Window, axis: usize, at: usize, tap: usize, size: usize) -> Option<usize> {
    let before = [window.padding.top, window.padding.left][axis];
    let from = (at + before).checked_sub(tap * window.dilation[axis])?;
    let whole = from.is_multiple_of(window.stride[axis]);
    Some(from / window.stride[axis]).filter(|&i| whole && i < size)
}

fn float_conv(conv: &FloatConv, x: &[f32], shape: &ValueType, made: &ValueType) -> Vec<f32> {
    let (w, window, o_all) = (filters(&conv.filters), &conv.window, made.channels);
    let [_, kw] = window.kernel;
    let (all, c_in) = (conv.filters.cols(), shape.channels / conv.groups);
    let groups = conv.scales.groups(all);
    // Taps of an output along an axis, in the order of the inputs that they read, and what they read.
    let taps = |axis: usize, at: usize, size: usize| -> Vec<(usize, Option<usize>)> {
        let all = 0..window.kernel[axis];
        match conv.transposed {
            None => all.map(|t| (t, tap(window, axis, at, t, size))).collect(),
            Some(_) => {
                let before = [window.padding.top, window.padding.left][axis];
                let from = |t: usize| (at + before) as isize - (t * window.dilation[axis]) as isize;
                let whole = |t: &usize| from(*t) % window.stride[axis] as isize == 0;
                let taps = all.rev().filter(whole);
                taps.map(|t| (t, source(window, axis, at, t, size)))
                    .collect()
            }
        }
    };
    let one = |i: usize| {
        let (pixel, o) = (i / o_all, i % o_all);
        let rows = taps(0, pixel / made.width, shape.height);
        let cols = taps(1, pixel % made.width, shape.width);
        let first = o / (o_all / conv.groups) * c_in;
        let k = rows.len() * cols.len() * c_in;
        let group = match conv.scales.granularity() {
            crate::quant::Granularity::Group(g) => g,
            _ => k,
        };
        let mut total = 0f32;
        let factors = |at: usize| {
            if at >= k {
                return [0.0, 0.0];
            }
            let (t, c) = (at / c_in, at % c_in);
            let ((ky, y), (kx, xx)) = (rows[t / cols.len()], cols[t % cols.len()]);
            let a = y.zip(xx).map_or(0.0, |(y, xx)| {
                x[(y * shape.width + xx) * shape.channels + first + c]
            });
            [w(o, (ky * kw + kx) * c_in + c) as f32, a]
        };
        let pair = |at: usize| {
            let ([w, a], [next_w, next_a]) = (factors(at), factors(at + 1));
            next_w.mul_add(next_a, w * a)
        };
        for g in 0..groups {
            let columns = g * group..k.min((g + 1) * group);
            let s = match conv.filters.encoding().planes() {
                1 => columns
                    .step_by(4)
                    .fold(0f32, |s, at| s + (pair(at) + pair(at + 2))),
                2 => columns.step_by(2).fold(0f32, |s, at| s + pair(at)),
                _ => columns.fold(0f32, |s, at| {
                    let [w, a] = factors(at);
                    w.mul_add(a, s)
                }),
            };
            total = conv.scales.get(o, g, all).mul_add(s, total);
        }
        total + conv.bias.as_ref().map_or(0.0, |b| b[o])
    };
    (0..made.len()).map(one).collect()
}

/// The elements of the window of element `i` of the output.
fn window_of(window: &Window, i: usize, shape: &ValueType, made: &ValueType) -> Vec<usize> {
    let (pixel, c) = (i / made.channels, i % made.channels);
    let (oy, ox) = (pixel / made.width, pixel % made.width);
    let [kh, kw] = window.kernel;
    let all = (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx)));
    let inside = all.filter_map(|(ky, kx)| {
        tap(window, 0, oy, ky, shape.height).zip(tap(window, 1, ox, kx, shape.width))
    });
    inside
        .map(|(y, x)| (y * shape.width + x) * shape.channels + c)
        .collect()
}

fn max_pool(window: &Window, x: &Naive, shape: &ValueType, made: &ValueType) -> Naive {
    let best = (0..made.len()).map(|i| {
        let all = window_of(window, i, shape, made);
        let greater = |a: usize, b: usize| match x {
            Naive::Integers(v) => v[b] > v[a],
            Naive::Floats(v) => v[b] > v[a],
        };
        all.into_iter()
            .reduce(|a, b| if greater(a, b) { b } else { a })
            .unwrap()
    });
    pick(x, best)
}

fn average_pool(
    window: &Window,
    scale: f32,
    x: &Naive,
    shape: &ValueType,
    made: &ValueType,
) -> Vec<f32> {
    let mean = |i: usize| {
        let all = window_of(window, i, shape, made);
        let sum = match x {
            Naive::Integers(v) => all.iter().map(|&i| v[i]).sum::<i32>() as f32,
            Naive::Floats(v) => all.iter().fold(0.0, |s, &i| s + v[i]),
        };
        sum * (scale / all.len() as f32)
    };
    (0..made.len()).map(mean).collect()
}

fn concat(reads: &[(&Naive, ValueType)], made: &ValueType) -> Naive {
    let at = |i: usize| {
        let (pixel, mut c) = (i / made.channels, i % made.channels);
        for (part, shape) in reads {
            if c < shape.channels {
                return (*part, pixel * shape.channels + c);
            }
            c -= shape.channels;
        }
        unreachable!("channels of all parts")
    };
    match made.kind.is_float() {
        true => Naive::Floats((0..made.len()).map(|i| at(i).0.floats()[at(i).1]).collect()),
        false => Naive::Integers(
            (0..made.len())
                .map(|i| at(i).0.integers()[at(i).1])
                .collect(),
        ),
    }
}

/// The integers of an encoding that an element can have.
pub(super) fn integers_of(encoding: Encoding) -> Vec<i32> {
    let all = encoding.min()..=encoding.max();
    all.filter(|&v| encoding.encode(v).is_some()).collect()
}
