//! How a node is done: its plan, made and checked when the node is added.

use super::memory::is_flat;
use super::node::{Conv, FloatConv, Linear, Op, Window};
use super::value::{Kind, Scaled, ValueType};
use crate::bits::Encoding;
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::ops::{
    Affine, AveragePool, Conv2d, Finish, FloatConv2d, Geometry, MaxPool, OutputKind, ResidualAt,
};
use crate::quant::Quantizer;

/// A node that is being made.
pub(super) struct Making<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) op: &'a Op,
    /// The types that it reads.
    pub(super) reads: &'a [ValueType],
}

/// How a node is done. What its definition says is not said again.
pub(super) enum Step {
    /// None: it is the image, or another value by another name.
    Nothing,
    Conv(Box<Conv2d>),
    FloatConv(Box<FloatConv2d>),
    /// By the step of that float convolution, whose finish it is.
    With(usize),
    Apply,
    Quantize,
    Dequantize,
    MaxPool(MaxPool),
    AveragePool(AveragePool),
    /// Channels of each part.
    Concat(Vec<usize>),
    /// Pixels of an image that is flattened.
    Flatten {
        pixels: usize,
    },
    /// Rows and columns that are repeated, and elements of a pixel as they lie in memory.
    UpSample {
        size: (usize, usize),
        unit: usize,
    },
}

impl Step {
    /// The step of a node, and the type of what it makes.
    pub(super) fn of(making: Making<'_>) -> Result<(Self, ValueType)> {
        let reads = making.reads;
        match making.op {
            Op::Image => Ok((Step::Nothing, reads[0])),
            Op::Conv(conv) => Self::conv(making.kernels, reads, conv),
            Op::Linear(linear) => Self::linear(making.kernels, reads, linear),
            Op::FloatConv(conv) => Self::float_conv(making.kernels, &reads[0], conv),
            Op::Apply { finish, residual } => Self::apply(reads, finish, *residual),
            Op::Quantize { quantizer, planes } => Self::quantize(&reads[0], quantizer, *planes),
            Op::Dequantize { scale } => Self::dequantize(&reads[0], *scale),
            Op::MaxPool(window) => Self::max_pool(&reads[0], window),
            Op::AveragePool {
                window,
                scale,
                quantizer,
            } => Self::average_pool(&reads[0], window, *scale, *quantizer),
            Op::Concat => Self::concat(reads),
            Op::Flatten => Self::flatten(&reads[0]),
            Op::UpSample(factors) => Self::up_sample(&reads[0], *factors),
        }
    }

    fn conv(
        kernels: &'static Kernels,
        reads: &[ValueType],
        conv: &Conv,
    ) -> Result<(Self, ValueType)> {
        let encoding = codes(&reads[0])?;
        let geometry = conv.window.over(&reads[0], conv.groups);
        let (isa, filters) = (kernels.isa(), conv.filters.view());
        let kind = leaves(&conv.finish);
        let finish = conv.finish.clone();
        let codes = Affine {
            encoding,
            zero_point: conv.zero_point,
        };
        let plan = match conv.transposed {
            None => Conv2d::on(isa, filters, codes, geometry, conv.pad, finish)?,
            Some(_) if conv.pad != Default::default() => {
                let value = format!("{:?}", conv.pad);
                return Err(Error::argument("pad", value, "zero where transposed"));
            }
            Some(extra) => {
                check_phases(&geometry, extra)?;
                Conv2d::transposed(isa, filters, codes, geometry, extra, finish)?
            }
        };
        let (height, width) = plan.size();
        let made = ValueType {
            height,
            width,
            channels: plan.o(),
            kind,
        };
        check_residual(&conv.finish, conv.residual, reads.get(1), &made)?;
        Ok((Step::Conv(Box::new(plan)), made))
    }

    /// A convolution by one window over the whole image; an image of one pixel is a row as it is.
    fn linear(
        kernels: &'static Kernels,
        reads: &[ValueType],
        linear: &Linear,
    ) -> Result<(Self, ValueType)> {
        let image = &reads[0];
        let encoding = codes(image)?;
        if linear.weights.cols() != image.len() {
            let (value, expected) = (linear.weights.cols(), image.len());
            let expected = format!("{expected}, the elements of the image that enters");
            return Err(Error::argument("K", value, expected));
        }
        let kind = leaves(&linear.finish);
        let codes = Affine {
            encoding,
            zero_point: linear.zero_point,
        };
        // Bytes of an image lie as those of one pixel.
        let geometry = match image.kind {
            Kind::Bytes(_) => Geometry::new(1, 1, image.len(), 1),
            _ => Window {
                kernel: [image.height, image.width],
                ..Window::new(1)
            }
            .over(image, 1),
        };
        let plan = Conv2d::on(
            kernels.isa(),
            linear.weights.view(),
            codes,
            geometry,
            Default::default(),
            linear.finish.clone(),
        )?;
        let made = ValueType {
            height: 1,
            width: 1,
            channels: plan.o(),
            kind,
        };
        check_residual(&linear.finish, linear.residual, reads.get(1), &made)?;
        Ok((Step::Conv(Box::new(plan)), made))
    }

    fn float_conv(
        kernels: &'static Kernels,
        image: &ValueType,
        conv: &FloatConv,
    ) -> Result<(Self, ValueType)> {
        if !image.kind.is_float() {
            return Err(Error::argument("x", image, "f32, f16 or bf16"));
        }
        let geometry = conv.window.over(image, conv.groups);
        let (isa, filters, bias) = (kernels.isa(), conv.filters.view(), conv.bias.clone());
        let plan = match conv.transposed {
            None => FloatConv2d::on(isa, filters, geometry, &conv.scales, bias)?,
            Some(extra) => {
                check_phases(&geometry, extra)?;
                FloatConv2d::transposed(isa, filters, geometry, extra, &conv.scales, bias)?
            }
        };
        let (height, width) = plan.size();
        let made = ValueType {
            height,
            width,
            channels: conv.filters.rows(),
            kind: Kind::F32,
        };
        Ok((Step::FloatConv(Box::new(plan)), made))
    }

    fn apply(
        reads: &[ValueType],
        finish: &Finish,
        residual: Option<Scaled>,
    ) -> Result<(Self, ValueType)> {
        let x = &reads[0];
        valued(x)?;
        if let OutputKind::I32 | OutputKind::Levels(_) = finish.output() {
            let expected = "scale and bias, then floats or codes of them";
            let value = "of integers or thresholds alone";
            return Err(Error::argument("finish", value, expected));
        }
        if finish.n() != x.channels {
            let expected = x.channels;
            return Err(Error::argument(
                "channels of the finish",
                finish.n(),
                expected,
            ));
        }
        let made = x.with(leaves(finish));
        check_residual(finish, residual, reads.get(1), &made)?;
        Ok((Step::Apply, made))
    }

    fn quantize(x: &ValueType, quantizer: &Quantizer, planes: bool) -> Result<(Self, ValueType)> {
        if !x.kind.is_float() {
            return Err(Error::argument("x", x, "f32, f16 or bf16"));
        }
        let encoding = quantizer.encoding();
        if !planes && encoding == Encoding::Bipolar {
            let expected = "unsigned or signed codes for bytes";
            return Err(Error::argument("quantizer", "the sign", expected));
        }
        let kind = if planes { Kind::Planes } else { Kind::Bytes };
        Ok((Step::Quantize, x.with(kind(encoding))))
    }

    fn dequantize(x: &ValueType, scale: f32) -> Result<(Self, ValueType)> {
        codes(x)?;
        finite(scale)?;
        Ok((Step::Dequantize, x.with(Kind::F32)))
    }

    fn max_pool(x: &ValueType, window: &Window) -> Result<(Self, ValueType)> {
        let geometry = window.over(x, 1);
        let pool = match valued(x)? {
            Some(encoding) => MaxPool::new(geometry, encoding)?,
            None => MaxPool::floats(geometry)?,
        };
        let (height, width) = pool.output();
        let made = ValueType {
            height,
            width,
            ..*x
        };
        Ok((Step::MaxPool(pool), made))
    }

    fn average_pool(
        x: &ValueType,
        window: &Window,
        scale: f32,
        quantizer: Option<Quantizer>,
    ) -> Result<(Self, ValueType)> {
        finite(scale)?;
        let geometry = window.over(x, 1);
        let pool = match valued(x)? {
            Some(encoding) => AveragePool::new(geometry, encoding)?,
            None => AveragePool::floats(geometry)?,
        };
        let (height, width) = pool.output();
        let kind = quantizer.map_or(Kind::F32, |q| Kind::Planes(q.encoding()));
        let made = ValueType {
            height,
            width,
            kind,
            ..*x
        };
        Ok((Step::AveragePool(pool), made))
    }

    fn concat(reads: &[ValueType]) -> Result<(Self, ValueType)> {
        let Some(first) = reads.first() else {
            return Err(Error::argument("values", "none", "one or more"));
        };
        let mut made = ValueType {
            channels: 0,
            ..*first
        };
        for x in reads {
            not_sums(x)?;
            if (x.height, x.width, x.kind) != (first.height, first.width, first.kind) {
                let expected = format!("{first} with any number of channels");
                return Err(Error::argument("values", x, expected));
            }
            made.channels = made.channels.saturating_add(x.channels);
        }
        let parts = reads.iter().map(|x| x.channels).collect();
        Ok((Step::Concat(parts), made))
    }

    fn flatten(x: &ValueType) -> Result<(Self, ValueType)> {
        not_sums(x)?;
        let made = ValueType {
            height: 1,
            width: 1,
            channels: x.len(),
            kind: x.kind,
        };
        let step = match is_flat(x) {
            true => Step::Nothing,
            false => Step::Flatten { pixels: x.pixels() },
        };
        Ok((step, made))
    }

    fn up_sample(x: &ValueType, factors: [usize; 2]) -> Result<(Self, ValueType)> {
        not_sums(x)?;
        if let Some(&bad) = factors.iter().find(|f| !(1..=MAX_FACTOR).contains(*f)) {
            return Err(Error::argument("factors", bad, "1 to 2^10"));
        }
        let made = ValueType {
            height: x.height * factors[0],
            width: x.width * factors[1],
            ..*x
        };
        let size = (x.height, x.width);
        let unit = x.stored_len() / x.pixels();
        Ok((Step::UpSample { size, unit }, made))
    }
}

/// No image is up-sampled by more at a time.
const MAX_FACTOR: usize = 1 << 10;

/// Table entries of a transposed convolution, at most: each phase has tables of its own, and a file may ask for many.
const MAX_TABLE: usize = 1 << 21;

/// Errors if the tables of the phases of a transposed convolution would be larger than any net needs.
fn check_phases(geometry: &Geometry, extra: [usize; 2]) -> Result<()> {
    let (height, width) = geometry.transposed_output(extra)?;
    let [sy, sx] = geometry.stride;
    let [kh, kw] = geometry.kernel;
    let each = height.div_ceil(sy) + width.div_ceil(sx) + kh + kw;
    let all = sy.saturating_mul(sx).saturating_mul(each);
    if all > MAX_TABLE {
        let expected = format!("at most {MAX_TABLE}, from strides and sizes");
        return Err(Error::argument("table of the phases", all, expected));
    }
    Ok(())
}

/// The encoding of codes that products and pools read.
fn codes(x: &ValueType) -> Result<Encoding> {
    match x.kind.encoding() {
        Some(e) if e != Encoding::Ternary => Ok(e),
        _ => Err(Error::argument("x", x, "codes that are not ternary")),
    }
}

/// Errors unless elements have values: floats, or codes, whose encoding it gives.
fn valued(x: &ValueType) -> Result<Option<Encoding>> {
    not_sums(x)?;
    match x.kind.is_float() {
        true => Ok(None),
        false => codes(x).map(Some),
    }
}

fn not_sums(x: &ValueType) -> Result<()> {
    match x.kind {
        Kind::I32 => Err(Error::argument("x", x, "floats or codes")),
        _ => Ok(()),
    }
}

fn finite(scale: f32) -> Result<()> {
    match scale.is_finite() {
        true => Ok(()),
        false => Err(Error::argument("scale", scale, "a finite number")),
    }
}

/// The kind of elements that a finish makes.
fn leaves(finish: &Finish) -> Kind {
    match finish.output() {
        OutputKind::I32 => Kind::I32,
        OutputKind::F32 => Kind::F32,
        OutputKind::F16 => Kind::F16,
        OutputKind::Bf16 => Kind::Bf16,
        OutputKind::Codes(q) => Kind::Planes(q.encoding()),
        OutputKind::Levels(e) => Kind::Planes(e),
        OutputKind::Bytes(q) => Kind::Bytes(q.encoding()),
    }
}

/// Errors unless there is a residual if and only if the finish adds one, and it fits what is made.
fn check_residual(
    finish: &Finish,
    residual: Option<Scaled>,
    read: Option<&ValueType>,
    made: &ValueType,
) -> Result<()> {
    let adds = finish.residual() != ResidualAt::Nowhere;
    let (Some(Scaled { scale, .. }), Some(read)) = (residual, read) else {
        return match adds {
            true => Err(Error::argument("residual", "none", "one for this finish")),
            false => Ok(()),
        };
    };
    if !adds {
        return Err(Error::argument("residual", "given", "none for this finish"));
    }
    let shape = |t: &ValueType| (t.height, t.width, t.channels);
    let fits = read.kind != Kind::I32 && read.kind.encoding() != Some(Encoding::Ternary);
    if shape(read) != shape(made) || !fits {
        let [h, w, c] = [made.height, made.width, made.channels];
        let expected = format!("{h} x {w} x {c} of floats or of codes that are not ternary");
        return Err(Error::argument("residual", read, expected));
    }
    finite(scale)?;
    if read.kind.is_float() && scale != 1.0 {
        let expected = "1 for a residual of floats";
        return Err(Error::argument("scale", scale, expected));
    }
    Ok(())
}
