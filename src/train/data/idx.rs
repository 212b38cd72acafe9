//! IDX files, the format of MNIST, plain or gzipped.
//!
//! ```text
//!   0  0  type  n     type 8 is u8, the one that images and labels have; n dimensions
//!   n sizes           4 bytes each, most significant first
//!   the elements      the last dimension runs fastest
//! ```
//!
//! Images have three dimensions, or four: `[count, height, width, channels]`. So SVHN is read after these lines of Python:
//!
//! ```python
//! import numpy, scipy.io
//! for half, name in ("train", "train"), ("test", "t10k"):
//!     mat = scipy.io.loadmat(half + "_32x32.mat")
//!     images, labels = mat["X"].transpose(3, 0, 1, 2), mat["y"].ravel() % 10
//!     for what, array in ("images-idx4", images), ("labels-idx1", labels):
//!         sizes = numpy.array(array.shape, ">u4").tobytes()
//!         with open(f"{name}-{what}-ubyte", "wb") as out:
//!             out.write(bytes([0, 0, 8, array.ndim]) + sizes + array.astype("u1").tobytes())
//! ```
//!
//! Whether a file is gzipped is told from its first bytes, not from its name. A header is not believed:
//! memory grows with the data that comes, and never beyond the size that the header declares.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{Dataset, Images};
use crate::error::{Error, Result};

/// The largest file of elements that is read, in bytes.
const MAX_BYTES: u64 = 2 << 30;

/// Reads a data set from a folder with the four files of MNIST.
///
/// They are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
/// `t10k-labels-idx1-ubyte`, each with or without `.gz` (without is preferred); a dot in place of the
/// hyphen before `idx` is taken too, and `idx4` for images with channels. The data set is named after the folder, and has as many classes as
/// the largest label of both halves plus one.
///
/// Errors if a file is missing, unreadable or malformed, if images and labels differ in number, if
/// there are no images, or if the two halves differ in image size.
pub fn load_folder(dir: &Path) -> Result<Dataset> {
    let (train_shape, train_pixels, train_labels) = load_half(dir, "train")?;
    let (test_shape, test_pixels, test_labels) = load_half(dir, "t10k")?;
    if train_shape != test_shape {
        let size = |shape: [usize; 3]| match shape {
            [height, width, 1] => format!("{height} x {width}"),
            [height, width, channels] => format!("{height} x {width} x {channels}"),
        };
        return Err(Error::format(
            dir.display(),
            format_args!(
                "the test images are {}; expected {} as in the training images",
                size(test_shape),
                size(train_shape)
            ),
        ));
    }
    let largest = train_labels.iter().chain(&test_labels).max();
    let classes = largest.map_or(1, |&label| usize::from(label) + 1);
    let name = dir
        .file_name()
        .map_or("idx".into(), |n| n.to_string_lossy());
    Ok(Dataset {
        name: name.into_owned(),
        train: Images::new(train_shape, classes, train_pixels, train_labels)?,
        test: Images::new(test_shape, classes, test_pixels, test_labels)?,
    })
}

/// Reads an IDX file of gray images: `[count, height, width]`, none of them 0, and that many pixels.
///
/// Errors if the file cannot be read, or is not one intact IDX file of u8 with three dimensions.
pub fn read_images(path: &Path) -> Result<([usize; 3], Vec<u8>)> {
    some(path, read(path)?)
}

/// Reads an IDX file of images with channels: `[count, height, width, channels]`, as [`read_images`].
pub fn read_images_with_channels(path: &Path) -> Result<([usize; 4], Vec<u8>)> {
    some(path, read(path)?)
}

/// Images of which there are some.
fn some<const N: usize>(
    path: &Path,
    (dims, pixels): ([usize; N], Vec<u8>),
) -> Result<([usize; N], Vec<u8>)> {
    if dims.contains(&0) {
        let problem = format!("has dimensions {dims:?}; expected at least one pixel");
        return Err(Error::format(path.display(), problem));
    }
    Ok((dims, pixels))
}

/// Reads an IDX file of labels. There may be none.
///
/// Errors if the file cannot be read, or is not one intact IDX file of u8 with one dimension.
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    read::<1>(path).map(|(_, labels)| labels)
}

/// The image shape [height, width, channels], the pixels and the labels of the half called `half`.
fn load_half(dir: &Path, half: &str) -> Result<([usize; 3], Vec<u8>, Vec<u8>)> {
    let kinds = ["idx3-ubyte", "idx4-ubyte"];
    let (images_path, kind) = find(dir, &format!("{half}-images"), &kinds)?;
    let (labels_path, _) = find(dir, &format!("{half}-labels"), &["idx1-ubyte"])?;
    let (count, shape, pixels) = match kind {
        0 => {
            let ([count, height, width], pixels) = read_images(&images_path)?;
            (count, [height, width, 1], pixels)
        }
        _ => {
            let ([count, shape @ ..], pixels) = read_images_with_channels(&images_path)?;
            (count, shape, pixels)
        }
    };
    let labels = read_labels(&labels_path)?;
    if labels.len() != count {
        return Err(Error::format(
            labels_path.display(),
            format_args!(
                "holds {} labels; expected {count}, one for each image of {}",
                labels.len(),
                images_path.display()
            ),
        ));
    }
    Ok((shape, pixels, labels))
}

/// The first spelling of a file's name that is a file, and which of `kinds` it is.
fn find(dir: &Path, stem: &str, kinds: &[&str]) -> Result<(PathBuf, usize)> {
    let ends = [["-", ""], ["-", ".gz"], [".", ""], [".", ".gz"]];
    let names = |kind: &str| ends.map(|[dot, gz]| format!("{stem}{dot}{kind}{gz}"));
    let names: Vec<String> = kinds.iter().flat_map(|kind| names(kind)).collect();
    for (i, name) in names.iter().enumerate() {
        let path = dir.join(name);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => return Ok((path, i / ends.len())),
            // Some tools unpack an archive into a folder of the file's own name.
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(path, "read", e)),
        }
    }
    let tried = format!("none of {} is there", names.join(", "));
    let source = io::Error::new(ErrorKind::NotFound, tried);
    Err(Error::io(dir, "read", source))
}

/// The dimensions and elements of a file of u8 with N dimensions.
fn read<const N: usize>(path: &Path) -> Result<([usize; N], Vec<u8>)> {
    let io = |e| Error::io(path, "read", e);
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let gzipped = file.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
    if gzipped {
        parse(path, MultiGzDecoder::new(file))
    } else {
        parse(path, file)
    }
}

fn parse<const N: usize>(path: &Path, mut from: impl Read) -> Result<([usize; N], Vec<u8>)> {
    let wrong = |problem: String| Error::format(path.display(), problem);

    let magic = read_word(path, &mut from)?;
    let [0, 0, element, dimensions] = magic else {
        let problem =
            format!("begins with the bytes {magic:02x?}; expected 00 00 08 {N:02x} (IDX)");
        return Err(wrong(problem));
    };
    if element != 8 {
        let problem = format!("has elements of type 0x{element:02x}; expected 0x08, u8");
        return Err(wrong(problem));
    }
    if usize::from(dimensions) != N {
        return Err(wrong(format!("has {dimensions} dimensions; expected {N}")));
    }
    let mut dims = [0u32; N];
    for dim in &mut dims {
        *dim = u32::from_be_bytes(read_word(path, &mut from)?);
    }
    let product = dims.iter().try_fold(1u64, |p, &d| p.checked_mul(d.into()));
    let Some(declared) = product.filter(|&p| p <= MAX_BYTES) else {
        let problem = format!("declares dimensions {dims:?}; expected {MAX_BYTES} bytes at most");
        return Err(wrong(problem));
    };

    let mut data = Vec::new();
    // One byte more than declared tells trailing bytes from the end, and reaching the end of a gzip
    // stream checks its checksum.
    let end = from.take(declared + 1).read_to_end(&mut data);
    end.map_err(|e| read_error(path, e))?;
    let got = data.len() as u64;
    if got < declared {
        let problem = format!("is truncated: {got} elements; expected {declared} ({dims:?})");
        return Err(wrong(problem));
    }
    if got > declared {
        let problem = format!("has bytes behind the {declared} elements ({dims:?})");
        return Err(wrong(problem));
    }
    Ok((dims.map(|d| d as usize), data))
}

fn read_word(path: &Path, from: &mut impl Read) -> Result<[u8; 4]> {
    let mut word = [0; 4];
    from.read_exact(&mut word)
        .map_err(|e| read_error(path, e))?;
    Ok(word)
}

/// Tells a damaged file from a failing disk.
fn read_error(path: &Path, e: io::Error) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => Error::format(path.display(), "is truncated"),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            Error::format(path.display(), format_args!("is a damaged gzip file: {e}"))
        }
        _ => Error::io(path, "read", e),
    }
}

#[cfg(test)]
mod tests;
