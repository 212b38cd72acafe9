//! NumPy's `.npy`, versions 1 to 3: integers of 8, 32 and 64 bits, floats of 16, 32 and 64, of little end, in C order.

use std::path::Path;

use half::f16;
use qcore::model::write_whole;
use qcore::{Error, Result};

use super::{Kind, Values, Wanted, codes};

/// The first bytes of every `.npy`.
pub const SIGNATURE: &[u8] = b"\x93NUMPY";

/// The images of an array `[H, W, C]` or `[N, H, W, C]`; a C of 1, and an H and W of 1, may be left out.
pub fn read(path: &Path, bytes: &[u8], wanted: &Wanted) -> Result<Values> {
    let bad = |problem: String| Error::format(path.display(), problem);
    let (head, data) = split(bytes).ok_or_else(|| bad("not a whole .npy head".to_string()))?;
    let head = Head::parse(head).map_err(bad)?;
    let size = match head.descr.as_str() {
        "|u1" | "<u1" | "|i1" | "<i1" => 1,
        "<f2" => 2,
        "<i4" | "<f4" => 4,
        "<i8" | "<f8" => 8,
        other => {
            let problem =
                format!("elements of type '{other}'; expected u1, i1, <i4, <i8, <f2, <f4 or <f8");
            return Err(bad(problem));
        }
    };
    if head.fortran_order {
        return Err(bad(
            "an array in Fortran's order; expected C order".to_string()
        ));
    }
    let elements = head.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if elements.and_then(|n| n.checked_mul(size)) != Some(data.len()) {
        let problem = format!(
            "{} bytes of data for the shape {:?} of {size} bytes each",
            data.len(),
            head.shape
        );
        return Err(bad(problem));
    }
    if !fits(&head.shape, wanted) {
        let [h, w, c] = [wanted.height, wanted.width, wanted.channels];
        let problem = format!(
            "an array {:?}; expected [{h}, {w}, {c}] or [images, {h}, {w}, {c}], as the model takes",
            head.shape
        );
        return Err(bad(problem));
    }
    if data.is_empty() {
        return Err(bad("no images; expected one or more".to_string()));
    }
    let bytes = || data.iter().copied();
    let short = || data.as_chunks().0.iter().copied();
    let words = || data.as_chunks().0.iter().copied();
    let long = || data.as_chunks().0.iter().copied();
    match wanted.kind {
        Kind::Codes { .. } => match head.descr.as_str() {
            "<f2" | "<f4" | "<f8" => {
                let problem = "floats; expected codes in u1, i1, <i4 or <i8, as the model takes";
                Err(bad(problem.to_string()))
            }
            "<i4" => {
                let values = words().map(i32::from_le_bytes);
                codes(path, values.map(i64::from), wanted)
            }
            "<i8" => codes(path, long().map(i64::from_le_bytes), wanted),
            "|i1" | "<i1" => codes(path, bytes().map(|v| (v as i8).into()), wanted),
            _ => codes(path, bytes().map(i64::from), wanted),
        },
        Kind::Floats { mean, std } => {
            let floats: Vec<f32> = match head.descr.as_str() {
                "<f2" => short().map(|w| f16::from_le_bytes(w).to_f32()).collect(),
                "<f4" => words().map(f32::from_le_bytes).collect(),
                "<f8" => long().map(|w| f64::from_le_bytes(w) as f32).collect(),
                "<i4" => words().map(|w| i32::from_le_bytes(w) as f32).collect(),
                "<i8" => long().map(|w| i64::from_le_bytes(w) as f32).collect(),
                "|i1" | "<i1" => bytes().map(|v| f32::from(v as i8)).collect(),
                _ => bytes().map(f32::from).collect(),
            };
            Ok(Values::Floats(
                floats.iter().map(|v| (v - mean) / std).collect(),
            ))
        }
    }
}

/// Whether an array of this shape is an image or several.
fn fits(shape: &[usize], wanted: &Wanted) -> bool {
    let full = [wanted.height, wanted.width, wanted.channels];
    let is = |image: &[usize]| {
        shape == image || (shape.len() == image.len() + 1 && shape[1..] == *image)
    };
    is(&full) || (full[2] == 1 && is(&full[..2])) || (full[..2] == [1, 1] && is(&full[2..]))
}

/// The head's text and the data.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(SIGNATURE)?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    let (len, rest) = match version {
        [1, 0] => {
            let (len, rest) = rest.split_first_chunk()?;
            (u16::from_le_bytes(*len).into(), rest)
        }
        [2 | 3, 0] => {
            let (len, rest) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
        _ => return None,
    };
    let (head, data) = rest.split_at_checked(len)?;
    Some((std::str::from_utf8(head).ok()?, data))
}

/// What the head says: a Python dictionary of three keys.
#[derive(Default, PartialEq, Debug)]
struct Head {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Head {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let unlike = || format!("a head that is not NumPy's: {}", text.trim());
        let mut rest = text.trim().strip_prefix('{').ok_or_else(unlike)?;
        let (mut descr, mut order, mut shape) = (None, None, None);
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if rest == "}" {
                break;
            }
            let (key, behind) = quoted(rest).ok_or_else(unlike)?;
            let behind = behind
                .trim_start()
                .strip_prefix(':')
                .ok_or_else(unlike)?
                .trim_start();
            match key {
                "descr" => {
                    let (value, behind) = quoted(behind).ok_or_else(unlike)?;
                    descr = Some(value.to_string());
                    rest = behind;
                }
                "fortran_order" => {
                    (order, rest) =
                        match (behind.strip_prefix("True"), behind.strip_prefix("False")) {
                            (Some(behind), _) => (Some(true), behind),
                            (_, Some(behind)) => (Some(false), behind),
                            _ => return Err(unlike()),
                        };
                }
                "shape" => {
                    let behind = behind.strip_prefix('(').ok_or_else(unlike)?;
                    let (sizes, behind) = behind.split_once(')').ok_or_else(unlike)?;
                    let sizes = sizes.split(',').map(str::trim).filter(|s| !s.is_empty());
                    let sizes: Option<Vec<usize>> = sizes.map(|s| s.parse().ok()).collect();
                    shape = Some(sizes.ok_or_else(unlike)?);
                    rest = behind;
                }
                _ => return Err(unlike()),
            }
        }
        match (descr, order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Head {
                descr,
                fortran_order,
                shape,
            }),
            _ => Err(unlike()),
        }
    }
}

/// A Python string at the beginning, and what stands behind it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    text[1..].split_once(quote)
}

/// Writes an f32 array of this shape, whole or not at all.
pub fn write(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    let mut bytes = head(shape);
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    write_whole(path, &bytes)
}

/// Signature, version 1 and head of an f32 array: a multiple of 64 bytes, as NumPy wants it.
pub fn head(shape: &[usize]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|d| format!("{d},")).collect();
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes}), }}");
    let len = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text += &" ".repeat(len - 1 - text.len());
    text.push('\n');
    let mut head = [SIGNATURE, &[1, 0], &(len as u16).to_le_bytes()].concat();
    head.extend(text.as_bytes());
    head
}
