//! PNG: grey, RGB, either with alpha, and palettes; 1 to 8 bits a sample.

use std::io::Cursor;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};
use qcore::{Error, Result};

use super::{Samples, Wanted};

/// The first bytes of every PNG.
pub const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The samples of a picture of the wanted size. A palette becomes RGB, with its transparency RGBA.
pub fn read(path: &Path, bytes: &[u8], wanted: &Wanted) -> Result<Samples> {
    let bad = |e: DecodingError| Error::format(path.display(), problem(&e));
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(bad)?;
    let info = reader.info();
    let (height, width, depth) = (info.height, info.width, info.bit_depth);
    // What stands in the file; a palette's indices have a depth that is not that of its colours.
    let grey = info.color_type == ColorType::Grayscale;
    let (color, out_depth) = reader.output_color_type();
    if depth == BitDepth::Sixteen || out_depth != BitDepth::Eight {
        let problem = "16 bits a sample; expected at most 8";
        return Err(Error::format(path.display(), problem));
    }
    wanted.check(path, height as usize, width as usize, color.samples())?;
    // The size is the model's: what is allocated is what was asked for.
    let mut values = vec![0; wanted.len()];
    if reader.output_buffer_size() != Some(values.len()) {
        return Err(Error::format(path.display(), "rows of another length"));
    }
    reader.next_frame(&mut values).map_err(bad)?;
    // Expanded samples of few bits are multiples of 255 / max.
    let max = match (grey, depth) {
        (true, BitDepth::One) => 1,
        (true, BitDepth::Two) => 3,
        (true, BitDepth::Four) => 15,
        _ => 255,
    };
    values.iter_mut().for_each(|v| *v /= 255 / max);
    Ok(Samples { values, max })
}

/// What is wrong with a PNG, in words: those of the decoder have the debug form of its types in them.
fn problem(error: &DecodingError) -> String {
    let said = error.to_string();
    let said = match error {
        DecodingError::IoError(_) => "it ends before its image does".to_string(),
        DecodingError::Format(_) if said.starts_with("CRC error") => match chunk(&said) {
            Some((_, name, _)) => {
                format!("the bytes of its {name} chunk do not match their checksum")
            }
            None => "bytes in it do not match their checksum".to_string(),
        },
        DecodingError::Format(_) if said.starts_with("Corrupt deflate") => {
            "its compressed data cannot be unpacked".to_string()
        }
        DecodingError::Format(_) => match chunk(&said) {
            Some((before, name, behind)) => format!("{before}{name}{behind}"),
            None => said,
        },
        _ => return format!("a PNG that cannot be decoded: {said}"),
    };
    format!("a damaged PNG: {}", said.trim_end_matches('.'))
}

/// The name of the chunk in the decoder's words, and what stands before and behind its debug form.
fn chunk(said: &str) -> Option<(&str, &str, &str)> {
    let (before, form) = said.split_once("ChunkType { type: ")?;
    let (name, rest) = form.split_once(", ")?;
    let (_, behind) = rest.split_once(" }")?;
    Some((before, name, behind))
}
