//! `qcore run`: a packed model over images in files.

use std::path::PathBuf;

use half::{bf16, f16};
use qcore::bits::PackedRef;
use qcore::model::{Kind as ValueKind, Mode, Model, ValueType};
use qcore::ops::{OutRows, Par, Pool};
use qcore::{Error, Result};
use serde_json::{Value, json};

use crate::image::{self, Given, Kind, Values, Wanted, npy};

/// Bytes of values between layers that shall stay in the second-level cache of a core.
const CACHE: usize = 1 << 20;

/// Images that go through the model at a time, at most.
const AT_A_TIME: usize = 32;

#[derive(clap::Args)]
pub struct Args {
    /// The model file
    model: PathBuf,
    /// Images of the model's size: PNG, PGM, PPM, .npy, or raw bytes in a file named .raw or .bin
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// How many of an image's greatest outputs are shown; 0 for none
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Which of the model's outputs, from 0
    #[arg(long, default_value_t = 0)]
    output: usize,
    /// Write the output of all images there, as float32 [images, H, W, C], or [images, C] if it is one pixel
    #[arg(long, value_name = "FILE.npy")]
    out: Option<PathBuf>,
    /// For models of floats: what is subtracted from each value, those of pictures being 0 to 1
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    mean: f32,
    /// For models of floats: what each value is divided by then
    #[arg(long, default_value_t = 1.0)]
    std: f32,
    /// Threads; 0 takes one a processor
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let model = Model::load(&args.model)?;
    let outputs = model.outputs();
    let Some(output) = outputs.get(args.output) else {
        let expected = format!("below {}, the model's outputs", outputs.len());
        return Err(Error::argument("output", args.output, expected));
    };
    let wanted = wanted(&model.input(), args)?;
    let (images, names) = read(&args.inputs, &wanted)?;
    let images = Given::new(images, model.input().kind);
    let pool = Pool::new(args.threads)?;
    let floats = all_floats(&model, &images, names.len(), args.output, &pool)?;
    if let Some(path) = &args.out {
        let [h, w, c] = [output.height, output.width, output.channels];
        let shape = match (h, w) {
            (1, 1) => vec![names.len(), c],
            _ => vec![names.len(), h, w, c],
        };
        npy::write(path, &shape, &floats)?;
    }
    let rows = floats.chunks(output.len().max(1));
    let results = names.iter().zip(rows.map(|row| greatest(row, args.top)));
    if args.json {
        let results = results.map(|(name, top)| {
            let top = top.into_iter();
            let top: Vec<Value> = top.map(|(i, v)| json!({"index": i, "value": v})).collect();
            json!({"image": name, "top": top})
        });
        let result = json!({
            "model": args.model.display().to_string(),
            "isa": model.isa().name(),
            "output": output.to_string(),
            "images": results.collect::<Vec<Value>>(),
        });
        out!("{result:#}");
    } else {
        for (name, top) in results.filter(|(_, top)| !top.is_empty()) {
            let top = top.iter().map(|(i, v)| format!("{i} ({v:.4})"));
            out!("{name}: {}", top.collect::<Vec<String>>().join(", "));
        }
    }
    Ok(())
}

/// What the readers of images are to give.
fn wanted(input: &ValueType, args: &Args) -> Result<Wanted> {
    let kind = match input.kind {
        kind if kind.is_float() => {
            if !args.mean.is_finite() {
                return Err(Error::argument("mean", args.mean, "a finite number"));
            }
            if !(args.std.is_finite() && args.std > 0.0) {
                return Err(Error::argument("std", args.std, "a finite number above 0"));
            }
            Kind::Floats {
                mean: args.mean,
                std: args.std,
            }
        }
        ValueKind::Bytes(encoding) => {
            for (name, value, none) in [("mean", args.mean, 0.0), ("std", args.std, 1.0)] {
                if value != none {
                    let expected = format!("none: the model takes {}", input.kind);
                    return Err(Error::argument(name, value, expected));
                }
            }
            Kind::Codes {
                min: encoding.min() as i8,
                max: encoding.max() as u8,
            }
        }
        other => {
            let expected = "codes a byte each or floats, which files hold";
            return Err(Error::argument("input of the model", other, expected));
        }
    };
    Ok(Wanted {
        height: input.height,
        width: input.width,
        channels: input.channels,
        kind,
    })
}

/// All images, and a name for each: its file's, with its number if the file has several.
fn read(files: &[PathBuf], wanted: &Wanted) -> Result<(Values, Vec<String>)> {
    let (mut all, mut names) = (wanted.none(), Vec::new());
    for file in files {
        let more = image::read(file, wanted)?;
        let count = more.count(wanted);
        let name = |i| match count {
            1 => file.display().to_string(),
            _ => format!("{}[{i}]", file.display()),
        };
        names.extend((0..count).map(name));
        all.append(more);
    }
    Ok((all, names))
}

/// Output `index` of `count` images, as floats.
fn all_floats(
    model: &Model,
    images: &Given,
    count: usize,
    index: usize,
    pool: &Pool,
) -> Result<Vec<f32>> {
    // One image at a time is shared by the threads; many go to a thread each.
    let mode = match count < pool.threads() {
        true => Mode::Latency,
        false => Mode::Throughput,
    };
    let fits = CACHE / model.peak_bytes(1).max(1);
    let at_a_time = count.min(fits).clamp(1, AT_A_TIME);
    let mut workspace = model.workspace(at_a_time, pool.threads(), mode)?;
    let mut buffers: Vec<Buffer> = model
        .outputs()
        .iter()
        .map(|o| Buffer::new(o, count))
        .collect();
    let mut rows: Vec<OutRows<'_>> = buffers.iter_mut().map(Buffer::rows).collect();
    let par = Par::Pool(pool);
    model.run_all(images.images(), &mut rows, &mut workspace, par)?;
    let (output, buffer) = (model.outputs()[index], buffers.swap_remove(index));
    buffer.floats(&output, count)
}

/// Room for an output of all images.
enum Buffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    I32(Vec<i32>),
    Words(Vec<u32>),
    Bytes(Vec<u8>),
}

impl Buffer {
    fn new(output: &ValueType, count: usize) -> Self {
        let len = output.stored_len() * count;
        match output.kind {
            ValueKind::F32 => Buffer::F32(vec![0.0; len]),
            ValueKind::F16 => Buffer::F16(vec![f16::ZERO; len]),
            ValueKind::Bf16 => Buffer::Bf16(vec![bf16::ZERO; len]),
            ValueKind::I32 => Buffer::I32(vec![0; len]),
            ValueKind::Planes(_) => Buffer::Words(vec![0; len]),
            ValueKind::Bytes(_) => Buffer::Bytes(vec![0; len]),
        }
    }

    fn rows(&mut self) -> OutRows<'_> {
        match self {
            Buffer::F32(v) => OutRows::F32(v),
            Buffer::F16(v) => OutRows::F16(v),
            Buffer::Bf16(v) => OutRows::Bf16(v),
            Buffer::I32(v) => OutRows::I32(v),
            Buffer::Words(v) => OutRows::Codes(v),
            Buffer::Bytes(v) => OutRows::Bytes(v),
        }
    }

    /// The elements as floats: those of codes are their integers.
    fn floats(self, output: &ValueType, count: usize) -> Result<Vec<f32>> {
        let integers = |v: Vec<i32>| v.into_iter().map(|v| v as f32).collect();
        Ok(match (self, output.kind.encoding()) {
            (Buffer::F32(v), _) => v,
            (Buffer::F16(v), _) => v.into_iter().map(f16::to_f32).collect(),
            (Buffer::Bf16(v), _) => v.into_iter().map(bf16::to_f32).collect(),
            (Buffer::I32(v), _) => integers(v),
            (Buffer::Words(words), Some(encoding)) => {
                let pixels = output.pixels() * count;
                integers(PackedRef::new(encoding, pixels, output.channels, &words)?.unpack())
            }
            (Buffer::Bytes(v), Some(encoding)) if encoding.min() < 0 => {
                v.into_iter().map(|v| f32::from(v as i8)).collect()
            }
            (Buffer::Bytes(v), _) => v.into_iter().map(f32::from).collect(),
            (Buffer::Words(_), None) => Vec::new(),
        })
    }
}

/// The `top` greatest of `values` and their places, the greatest first, of equal ones the first.
fn greatest(values: &[f32], top: usize) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(top);
    all
}

#[cfg(test)]
mod tests {
    use qcore::bits::{Encoding, PackedMatrix};

    use super::*;

    #[test]
    fn the_greatest_come_first() {
        let values = [0.5, -1.0, 2.0, 2.0, f32::NEG_INFINITY];
        assert_eq!(greatest(&values, 3), [(2, 2.0), (3, 2.0), (0, 0.5)]);
        assert_eq!(greatest(&values, 9).len(), 5);
        assert!(greatest(&[], 1).is_empty());
    }

    #[test]
    fn codes_become_their_integers() {
        let encoding = Encoding::signed(3).unwrap();
        let kind = ValueKind::Planes(encoding);
        let output = ValueType {
            kind,
            ..ValueType::floats(1, 2, 2)
        };
        let packed = PackedMatrix::pack(encoding, 2, 2, &[-4, 3, 0, -1]).unwrap();
        let buffer = Buffer::Words(packed.words().to_vec());
        assert_eq!(buffer.floats(&output, 1).unwrap(), [-4.0, 3.0, 0.0, -1.0]);
        let output = ValueType {
            kind: ValueKind::Bytes(encoding),
            ..output
        };
        let buffer = Buffer::Bytes(vec![0xfc, 3, 0, 0xff]);
        assert_eq!(buffer.floats(&output, 1).unwrap(), [-4.0, 3.0, 0.0, -1.0]);
    }
}
