//! Random graphs of all operations.

use super::*;

/// Numbers between -1 and 1.
fn noise(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n)
        .map(|_| random.below(1 << 16) as f32 / 32768.0 - 1.0)
        .collect()
}

fn encoding(random: &mut Random, ternary: bool) -> Encoding {
    match random.below(8) {
        0 if ternary => Encoding::Ternary,
        0..=2 => Encoding::Bipolar,
        3..=5 => Encoding::unsigned(1 + random.below(4)).unwrap(),
        6 => Encoding::signed(2 + random.below(3)).unwrap(),
        _ => Encoding::signed(8).unwrap(),
    }
}

fn weights(random: &mut Random, n: usize, k: usize) -> PackedMatrix {
    let encoding = encoding(random, true);
    let all = integers_of(encoding);
    let values: Vec<i32> = (0..n * k).map(|_| all[random.below(all.len())]).collect();
    PackedMatrix::pack(encoding, n, k, &values).unwrap()
}

fn activation(random: &mut Random) -> ActQuantizer {
    let rounding = [Rounding::Ceil, Rounding::Nearest][random.below(2)];
    match random.below(3) {
        0 => ActQuantizer::Sign,
        1 => ActQuantizer::Relu(QuantRelu::new(1 + random.below(2), 0.37, rounding).unwrap()),
        _ => ActQuantizer::Relu(QuantRelu::new(3 + random.below(6), 0.031, rounding).unwrap()),
    }
}

/// Any quantizer of planes.
fn plane_quantizer(random: &mut Random) -> Quantizer {
    match random.below(3) {
        0 => byte_quantizer(random),
        _ => activation(random).into(),
    }
}

/// Any quantizer but the sign.
fn byte_quantizer(random: &mut Random) -> Quantizer {
    match random.below(3) {
        0 => QuantRelu::new(2 + random.below(7), 0.05, Rounding::Nearest)
            .unwrap()
            .into(),
        1 => LinearQuantizer::symmetric(2 + random.below(7), 0.02)
            .unwrap()
            .into(),
        _ => LinearQuantizer::affine("u4".parse().unwrap(), 0.1, 3)
            .unwrap()
            .into(),
    }
}

fn function(random: &mut Random, n: usize) -> ActivationFn {
    match random.below(6) {
        0 | 1 => ActivationFn::Identity,
        2 => ActivationFn::Relu,
        3 => ActivationFn::PRelu {
            slope: noise(random, n),
        },
        4 => ActivationFn::RPRelu {
            before: noise(random, n),
            slope: noise(random, n),
            after: noise(random, n),
        },
        _ => ActivationFn::Clamp {
            low: -0.5,
            high: 0.8,
        },
    }
}

/// A finish for sums up to about `size`.
fn finish(random: &mut Random, n: usize, size: f32, adds: bool, bare: bool) -> Finish {
    let residual = match (adds, random.below(2)) {
        (false, _) => ResidualAt::Nowhere,
        (_, 0) => ResidualAt::BeforeFunction,
        _ => ResidualAt::AfterFunction,
    };
    let scale: Vec<f32> = noise(random, n).iter().map(|s| s / size).collect();
    let bias = noise(random, n);
    let output = match random.below(14) {
        0..=2 => OutputKind::F32,
        12 => OutputKind::F16,
        13 => OutputKind::Bf16,
        3..=8 => OutputKind::Codes(plane_quantizer(random)),
        9 if !adds && !bare => return Finish::integers(n),
        10 if !adds && !bare => {
            let quantizer = activation(random);
            let t = Thresholds::derive(&quantizer, &scale, &bias, 1 << 20).unwrap();
            return Finish::by_thresholds(t);
        }
        _ => OutputKind::Bytes(byte_quantizer(random)),
    };
    Finish::new(scale, bias, function(random, n), residual, output).unwrap()
}

fn window(random: &mut Random) -> Window {
    let pair = |random: &mut Random, most: usize| [1 + random.below(most), 1 + random.below(most)];
    let mut window = Window::new(1 + 2 * random.below(2)).padding(random.below(2));
    if random.below(3) == 0 {
        window = Window {
            kernel: pair(random, 3),
            stride: pair(random, 2),
            dilation: pair(random, 2),
            padding: Padding {
                top: random.below(3),
                left: random.below(2),
                bottom: random.below(2),
                right: random.below(3),
            },
        };
    }
    window
}

/// A value that may be the residual of an image of this shape.
fn residual(b: &ModelBuilder, random: &mut Random, made: [usize; 3]) -> Option<Scaled> {
    let fits: Vec<usize> = (0..b.nodes.len())
        .filter(|&i| {
            let t = b.nodes[i].made;
            [t.height, t.width, t.channels] == made && t.kind != Kind::I32
        })
        .collect();
    if fits.is_empty() || random.below(4) == 0 {
        return None;
    }
    let value = Value(fits[random.below(fits.len())]);
    let scale = match b.nodes[value.0].made.kind {
        kind if kind.is_float() => 1.0,
        _ => 0.3,
    };
    Some(Scaled { value, scale })
}

/// 0, or what an integer of these codes is.
fn zero_point(kind: Kind, random: &mut Random) -> i32 {
    let code = random.below(256) as u8;
    let integer = kind.encoding().and_then(|e| e.decode(code));
    integer.filter(|_| random.below(3) > 0).unwrap_or(0)
}

fn conv(b: &mut ModelBuilder, x: Value, random: &mut Random) -> crate::Result<Value> {
    let shape = b.type_of(x)?;
    let window = window(random);
    let groups = match random.below(4) {
        0 => shape.channels,
        1 if shape.channels.is_multiple_of(2) => 2,
        _ => 1,
    };
    let mut o = groups * (1 + random.below(40 / groups.min(40) + 1));
    if random.below(2) == 0 && groups == 1 {
        o = b.nodes[random.below(b.nodes.len())].made.channels;
    }
    let k = window.kernel[0] * window.kernel[1] * (shape.channels / groups);
    let transposed = (random.below(4) == 0).then_some([0, random.below(2)]);
    let geometry = window.over(&shape, groups);
    let (oh, ow) = match transposed {
        None => geometry.output()?,
        Some(extra) => geometry.transposed_output(extra)?,
    };
    let residual = residual(b, random, [oh, ow, o]);
    let size = (k as f32).sqrt() * shape.kind.encoding().map_or(1, |e| e.magnitude()) as f32;
    let bipolar = shape.kind == Kind::Planes(Encoding::Bipolar) && transposed.is_none();
    let conv = Conv {
        groups,
        pad: match random.below(3) {
            1 if bipolar => Pad::PlusOne,
            2 if bipolar => Pad::MinusOne,
            _ => Pad::Zero,
        },
        zero_point: zero_point(shape.kind, random),
        transposed,
        residual,
        ..Conv::new(
            weights(random, o, k),
            window,
            finish(random, o, size, residual.is_some(), false),
        )
    };
    b.conv(x, conv)
}

fn linear(b: &mut ModelBuilder, x: Value, random: &mut Random) -> crate::Result<Value> {
    let shape = b.type_of(x)?;
    let (n, k) = (1 + random.below(60), shape.len());
    let residual = residual(b, random, [1, 1, n]);
    let size = (k as f32).sqrt() * shape.kind.encoding().map_or(1, |e| e.magnitude()) as f32;
    let finish = finish(random, n, size, residual.is_some(), false);
    let linear = Linear {
        zero_point: zero_point(shape.kind, random),
        residual,
        ..Linear::new(weights(random, n, k), finish)
    };
    b.linear(x, linear)
}

fn float_conv(b: &mut ModelBuilder, x: Value, random: &mut Random) -> crate::Result<Value> {
    let shape = b.type_of(x)?;
    let (n, whole) = (1 + random.below(30), random.below(3) == 0);
    let window = window(random);
    let groups = match random.below(3) {
        0 if !whole => (2..=4).find(|g| shape.channels.is_multiple_of(*g)),
        _ => None,
    };
    let groups = groups.unwrap_or(1);
    let n = n.next_multiple_of(groups);
    let transposed = (random.below(4) == 0).then_some([0; 2]);
    let k = match whole {
        true => shape.len(),
        false => window.kernel[0] * window.kernel[1] * shape.channels / groups,
    };
    let granularity = match random.below(if transposed.is_some() { 2 } else { 3 }) {
        0 => Granularity::Tensor,
        1 => Granularity::Channel,
        _ => Granularity::Group(32),
    };
    let count = match granularity {
        Granularity::Tensor => 1,
        Granularity::Channel => n,
        Granularity::Group(_) => n * k.div_ceil(32),
    };
    let scales = Scales::new(granularity, noise(random, count))?;
    let bias = (random.below(2) == 0).then(|| noise(random, n));
    let filters = weights(random, n, k);
    if whole {
        return b.float_linear(x, filters, scales, bias);
    }
    let conv = FloatConv {
        groups,
        transposed,
        bias,
        ..FloatConv::new(filters, window, scales)
    };
    b.float_conv(x, conv)
}

/// A finish by itself, with or without another value.
fn apply(b: &mut ModelBuilder, x: Value, random: &mut Random) -> crate::Result<Value> {
    let t = b.type_of(x)?;
    let size = t.kind.encoding().map_or(1, |e| e.magnitude()) as f32;
    let shape = [t.height, t.width, t.channels];
    match residual(b, random, shape) {
        None => {
            let finish = finish(random, t.channels, size, false, true);
            b.apply(x, finish)
        }
        Some(other) => {
            let finish = finish(random, t.channels, size, true, true);
            b.add(x, other, finish)
        }
    }
}

fn concat(b: &mut ModelBuilder, x: Value, random: &mut Random) -> crate::Result<Value> {
    let first = b.type_of(x)?;
    let mut parts = vec![x];
    for _ in 0..random.below(4) {
        let (i, at) = (random.below(b.nodes.len()), random.below(parts.len() + 1));
        let t = b.nodes[i].made;
        if (t.height, t.width, t.kind) == (first.height, first.width, first.kind) {
            parts.insert(at, Value(i));
        }
    }
    b.concat(&parts)
}

/// Adds some node that reads `x`, or errors.
fn add(b: &mut ModelBuilder, x: Value, random: &mut Random) -> crate::Result<Value> {
    let t = b.type_of(x)?;
    match (random.below(13), t.kind) {
        (0..=3, Kind::F32) => float_conv(b, x, random),
        (0 | 1, Kind::F16 | Kind::Bf16) => float_conv(b, x, random),
        (2 | 3, Kind::F16 | Kind::Bf16) => apply(b, x, random),
        (0..=3, _) => conv(b, x, random),
        (4, kind) if kind.is_float() => {
            let quantizer = match random.below(2) {
                0 => activation(random).into(),
                _ => byte_quantizer(random),
            };
            b.quantize(x, quantizer)
        }
        (4, _) => linear(b, x, random),
        (5, kind) if kind.is_float() => {
            let quantizer = byte_quantizer(random);
            b.quantize_bytes(x, quantizer)
        }
        (5, _) => b.dequantize(x, 0.07),
        (6 | 7, _) => apply(b, x, random),
        (8, _) => b.max_pool(x, window(random)),
        (9, _) => {
            let quantizer = (random.below(2) == 0).then(|| plane_quantizer(random));
            match random.below(3) {
                0 => b.global_average_pool(x, 0.2, quantizer),
                _ => b.average_pool(x, window(random), 0.3, quantizer),
            }
        }
        (10, _) => concat(b, x, random),
        (11, _) => b.flatten(x),
        _ => b.up_sample(x, [1 + random.below(2), 1 + random.below(3)]),
    }
}

/// A model of some nodes, and some of its values as outputs.
pub(in crate::model) fn random_graph(random: &mut Random) -> Model {
    let (h, w) = (1 + random.below(7), 1 + random.below(7));
    let c = match random.below(5) {
        0 => 32 * (1 + random.below(2)),
        1 => 65 + random.below(3) * 120,
        _ => 1 + random.below(9),
    };
    let image = match random.below(6) {
        0 => ValueType::floats(h, w, c),
        4 => ValueType {
            kind: [Kind::F16, Kind::Bf16][random.below(2)],
            ..ValueType::floats(h, w, c)
        },
        1 => ValueType::image(h, w, c, 1 + random.below(7)).unwrap(),
        2 => ValueType {
            kind: Kind::Bytes(Encoding::signed(5).unwrap()),
            ..ValueType::floats(h, w, c)
        },
        _ => ValueType::image(h, w, c, 8).unwrap(),
    };
    let mut b = ModelBuilder::new(image).unwrap();
    let nodes = 2 + random.below(9);
    let mut tries = 0;
    while b.nodes.len() <= nodes && tries < 100 {
        tries += 1;
        // Mostly the latest, so that graphs are deep.
        let x = match random.below(3) {
            0 => random.below(b.nodes.len()),
            _ => b.nodes.len() - 1,
        };
        let before = b.nodes.len();
        if random.below(2) == 0 {
            b.named(format!("n{before}"));
        }
        match add(&mut b, Value(x), random) {
            Ok(value) => {
                let made = b.type_of(value).unwrap();
                assert_eq!(value.index(), before);
                if made.len() > 6000 || made.kind == Kind::I32 {
                    break;
                }
            }
            Err(_) => assert_eq!(b.nodes.len(), before),
        }
    }
    let last = b.nodes.len() - 1;
    let mut outputs = vec![Value(last)];
    for _ in 0..random.below(3) {
        outputs.push(Value(random.below(last + 1)));
    }
    b.build(&outputs).unwrap()
}

/// Random images, as integers or floats and as a model takes them.
pub(super) fn image_of(t: &ValueType, count: usize, random: &mut Random) -> (Vec<Naive>, Given) {
    let len = t.len() * count;
    let Some(encoding) = t.kind.encoding() else {
        let mut floats = noise(random, len);
        let given = match t.kind {
            Kind::F16 => Given::F16(floats.iter().map(|&x| f16::from_f32(x)).collect()),
            Kind::Bf16 => Given::Bf16(floats.iter().map(|&x| bf16::from_f32(x)).collect()),
            _ => Given::Floats(floats.clone()),
        };
        match &given {
            Given::F16(given) => given.convert_to_f32_slice(&mut floats),
            Given::Bf16(given) => given.convert_to_f32_slice(&mut floats),
            _ => {}
        }
        let naive = floats.chunks(t.len()).map(|f| Naive::Floats(f.to_vec()));
        return (naive.collect(), given);
    };
    let all = integers_of(encoding);
    let integers: Vec<i32> = (0..len).map(|_| all[random.below(all.len())]).collect();
    let naive = integers.chunks(t.len());
    let naive = naive.map(|i| Naive::Integers(i.to_vec())).collect();
    let bytes = integers.iter().map(|&v| v as u8).collect();
    (naive, Given::Bytes(bytes))
}
