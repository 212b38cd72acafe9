//! PGM and PPM: P2 and P3 in digits, P5 and P6 in bytes, of at most 255 levels above zero.

use std::path::Path;

use qcore::{Error, Result};

use super::{Samples, Wanted};

/// Whether a file begins as a PGM or PPM does.
pub fn is(bytes: &[u8]) -> bool {
    let magic =
        bytes.first() == Some(&b'P') && matches!(bytes.get(1), Some(b'2' | b'3' | b'5' | b'6'));
    magic
        && bytes
            .get(2)
            .is_some_and(|&b| b.is_ascii_whitespace() || b == b'#')
}

/// The samples of a picture of the wanted size.
pub fn read(path: &Path, bytes: &[u8], wanted: &Wanted) -> Result<Samples> {
    let bad = |problem: String| Error::format(path.display(), problem);
    let mut text = Text { bytes, at: 2 };
    let (in_digits, channels) = match bytes[1] {
        b'2' => (true, 1),
        b'3' => (true, 3),
        b'5' => (false, 1),
        _ => (false, 3),
    };
    let width = text.number().map_err(bad)?;
    let height = text.number().map_err(bad)?;
    let max = text.number().map_err(bad)?;
    wanted.check(path, height, width, channels)?;
    let Some(max) = u8::try_from(max).ok().filter(|&max| max > 0) else {
        return Err(bad(format!("a largest sample of {max}; expected 1 to 255")));
    };
    let len = wanted.len();
    let values = match in_digits {
        true => {
            // Each sample takes two bytes at least, so a short file allocates little.
            let mut values = Vec::with_capacity(len.min(bytes.len()));
            for _ in 0..len {
                let value = text.number().map_err(bad)?;
                // What does not fit a byte is above `max` too.
                values.push(u8::try_from(value).map_err(|_| bad(above(value, max)))?);
            }
            values
        }
        false => {
            // One blank stands before the samples, whatever they begin with.
            let samples = bytes.get(text.at + 1..).unwrap_or_default();
            if samples.len() < len {
                return Err(bad(format!("{} samples; expected {len}", samples.len())));
            }
            if samples.len() > len {
                let problem = format!(
                    "{} bytes behind its {len} samples; expected one picture",
                    samples.len() - len
                );
                return Err(bad(problem));
            }
            samples.to_vec()
        }
    };
    match values.iter().find(|&&v| v > max) {
        Some(&value) => Err(bad(above(value.into(), max))),
        None => Ok(Samples { values, max }),
    }
}

fn above(value: usize, max: u8) -> String {
    format!("a sample of {value}; expected at most {max}, as its head says")
}

/// Numbers in digits with blanks and comments between them.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Text<'_> {
    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn number(&mut self) -> std::result::Result<usize, String> {
        while let Some(byte) = self.byte() {
            match byte {
                b'#' => {
                    while self.byte().is_some_and(|b| b != b'\n' && b != b'\r') {
                        self.at += 1;
                    }
                }
                b if b.is_ascii_whitespace() => self.at += 1,
                _ => break,
            }
        }
        let start = self.at;
        let mut value = 0usize;
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            let next = value.checked_mul(10);
            let next = next.and_then(|v| v.checked_add(usize::from(digit - b'0')));
            value = next.ok_or("a number beyond all sizes")?;
            self.at += 1;
        }
        let behind = self
            .byte()
            .is_none_or(|b| b.is_ascii_whitespace() || b == b'#');
        match self.at > start && behind {
            true => Ok(value),
            false => Err(format!("no number at byte {start}")),
        }
    }
}
