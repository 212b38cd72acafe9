//! Images in files, as a model takes them: PNG, PGM and PPM, `.npy`, raw bytes.
//!
//! Nothing is guessed: size and channels must be those of the model, grey is not made RGB, and a value that the
//! model's codes do not reach is refused. What a file says of itself is checked before anything is allocated by it.

use std::ffi::OsStr;
use std::path::Path;

use half::{bf16, f16};
use qcore::model::Images;
use qcore::{Error, Result};

pub mod npy;
mod png;
mod pnm;

/// What a model takes: H x W x C, and of what kind.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Wanted {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub kind: Kind,
}

/// What the values of an image are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// Codes, a byte each: these and all between them. With a least one below 0, two's complement.
    Codes { min: i8, max: u8 },
    /// f32: `(v - mean) / std`, where samples of a PNG, PGM or PPM become v in 0 to 1, and others are v as they stand.
    Floats { mean: f32, std: f32 },
}

/// Images one after the other, NHWC.
#[derive(Clone, PartialEq, Debug)]
pub enum Values {
    Codes(Vec<u8>),
    Floats(Vec<f32>),
}

/// Images as a run takes them.
pub enum Given {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Given {
    /// `values` as elements of `kind`, floats rounded to the nearest.
    pub fn new(values: Values, kind: qcore::model::Kind) -> Self {
        match (values, kind) {
            (Values::Codes(codes), _) => Given::Bytes(codes),
            (Values::Floats(floats), qcore::model::Kind::F16) => {
                Given::F16(floats.into_iter().map(f16::from_f32).collect())
            }
            (Values::Floats(floats), qcore::model::Kind::Bf16) => {
                Given::Bf16(floats.into_iter().map(bf16::from_f32).collect())
            }
            (Values::Floats(floats), _) => Given::Floats(floats),
        }
    }

    /// All of them.
    pub fn images(&self) -> Images<'_> {
        match self {
            Given::Bytes(bytes) => bytes.into(),
            Given::Floats(floats) => floats.into(),
            Given::F16(floats) => floats[..].into(),
            Given::Bf16(floats) => floats[..].into(),
        }
    }
}

/// What stands in a picture file: H x W x C samples of 0 to `max`.
struct Samples {
    values: Vec<u8>,
    max: u8,
}

impl Wanted {
    /// Values of an image.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// No images yet.
    pub fn none(&self) -> Values {
        match self.kind {
            Kind::Codes { .. } => Values::Codes(Vec::new()),
            Kind::Floats { .. } => Values::Floats(Vec::new()),
        }
    }

    /// An error unless a picture has this size and these channels.
    fn check(&self, path: &Path, height: usize, width: usize, channels: usize) -> Result<()> {
        if [height, width, channels] == [self.height, self.width, self.channels] {
            return Ok(());
        }
        let problem = format!(
            "{} high, {}; expected {} high, {}, as the model takes",
            height,
            across(width, channels),
            self.height,
            across(self.width, self.channels)
        );
        Err(Error::format(path.display(), problem))
    }
}

fn across(width: usize, channels: usize) -> String {
    let s = if channels == 1 { "" } else { "s" };
    format!("{width} wide, of {channels} channel{s}")
}

impl Values {
    /// How many images of `wanted` these are.
    pub fn count(&self, wanted: &Wanted) -> usize {
        let len = match self {
            Values::Codes(v) => v.len(),
            Values::Floats(v) => v.len(),
        };
        len / wanted.len().max(1)
    }

    /// Adds images of the same kind behind these.
    pub fn append(&mut self, more: Values) {
        match (self, more) {
            (Values::Codes(all), Values::Codes(more)) => all.extend(more),
            (Values::Floats(all), Values::Floats(more)) => all.extend(more),
            _ => unreachable!("both are of the kind that the model takes"),
        }
    }
}

/// The images of a file; a `.npy` or raw file may hold several.
pub fn read(path: &Path, wanted: &Wanted) -> Result<Values> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    parse(path, &bytes, wanted)
}

/// The images of one file. PNG, PNM and `.npy` are known by their first bytes; anything else must be named `.raw` or
/// `.bin`.
pub fn parse(path: &Path, bytes: &[u8], wanted: &Wanted) -> Result<Values> {
    if bytes.starts_with(png::SIGNATURE) {
        return png::read(path, bytes, wanted)?.values(path, wanted);
    }
    if bytes.starts_with(npy::SIGNATURE) {
        return npy::read(path, bytes, wanted);
    }
    if pnm::is(bytes) {
        return pnm::read(path, bytes, wanted)?.values(path, wanted);
    }
    let extension = path.extension().and_then(OsStr::to_str);
    let raw = extension.is_some_and(|e| ["raw", "bin"].iter().any(|r| e.eq_ignore_ascii_case(r)));
    match raw {
        true => read_raw(path, bytes, wanted),
        false => Err(Error::format(
            path.display(),
            "neither PNG, PGM, PPM nor .npy; expected one of these, or raw bytes in a file named .raw or .bin",
        )),
    }
}

/// Codes a byte each, or little-endian f32: nothing but values.
fn read_raw(path: &Path, bytes: &[u8], wanted: &Wanted) -> Result<Values> {
    let size = match wanted.kind {
        Kind::Codes { .. } => wanted.len(),
        Kind::Floats { .. } => 4 * wanted.len(),
    };
    if bytes.is_empty() || !bytes.len().is_multiple_of(size.max(1)) {
        let problem = format!(
            "{} bytes; expected a multiple of {size}, the bytes of an image of {} x {} x {}",
            bytes.len(),
            wanted.height,
            wanted.width,
            wanted.channels
        );
        return Err(Error::format(path.display(), problem));
    }
    match wanted.kind {
        Kind::Codes { min: 0, .. } => codes(path, bytes.iter().map(|&v| v.into()), wanted),
        Kind::Codes { .. } => codes(path, bytes.iter().map(|&v| (v as i8).into()), wanted),
        Kind::Floats { mean, std } => {
            let words = bytes.as_chunks().0.iter();
            let floats = words.map(|&b| (f32::from_le_bytes(b) - mean) / std);
            Ok(Values::Floats(floats.collect()))
        }
    }
}

impl Samples {
    /// As the model takes them. Samples of fewer levels than the model's codes are spread over all codes, rounded to
    /// nearest; samples of more levels are taken as they stand if the codes reach them.
    fn values(self, path: &Path, wanted: &Wanted) -> Result<Values> {
        let from = u32::from(self.max);
        match wanted.kind {
            Kind::Codes { min, max } if min < 0 => {
                let problem = format!(
                    "a picture, whose samples are never below 0; expected codes of {min} to {max} in a .npy or raw \
                     file, as the model takes"
                );
                Err(Error::format(path.display(), problem))
            }
            Kind::Codes { max, .. } if self.max < max => {
                let spread = |v: &mut u8| {
                    *v = ((2 * u32::from(*v) * u32::from(max) + from) / (2 * from)) as u8;
                };
                let mut values = self.values;
                values.iter_mut().for_each(spread);
                Ok(Values::Codes(values))
            }
            Kind::Codes { .. } => codes(path, self.values.into_iter().map(i64::from), wanted),
            Kind::Floats { mean, std } => {
                let scale = f32::from(self.max);
                let values = self.values.iter();
                let floats = values.map(|&v| (f32::from(v) / scale - mean) / std);
                Ok(Values::Floats(floats.collect()))
            }
        }
    }
}

/// These codes, if all are of those that the model takes.
fn codes(path: &Path, values: impl Iterator<Item = i64>, wanted: &Wanted) -> Result<Values> {
    let Kind::Codes { min, max } = wanted.kind else {
        unreachable!("the model takes codes");
    };
    let byte = |(i, value): (usize, i64)| {
        if (i64::from(min)..=i64::from(max)).contains(&value) {
            return Ok(value as u8);
        }
        let problem = format!(
            "the value {value} at {i}; expected codes of {min} to {max}, as the model takes"
        );
        Err(Error::format(path.display(), problem))
    };
    let bytes: Result<Vec<u8>> = values.enumerate().map(byte).collect();
    bytes.map(Values::Codes)
}

#[cfg(test)]
mod tests;
