//! IDX files, whole and broken in every way that a file can be.

use super::*;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
    bytes.extend(data);
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with three training images of 2 x 2 and one test image.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (1..=12).collect();
    put(&dir, "train-images-idx3-ubyte", &idx(&[3, 2, 2], &pixels));
    put(
        &dir,
        "train-labels.idx1-ubyte.gz",
        &gz(&idx(&[3], &[0, 2, 1])),
    );
    put(
        &dir,
        "t10k-images-idx3-ubyte.gz",
        &gz(&idx(&[1, 2, 2], &[9; 4])),
    );
    put(&dir, "t10k-labels.idx1-ubyte", &idx(&[1], &[4]));
    dir
}

fn put(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) {
    fs::write(dir.path().join(name), bytes).unwrap();
}

#[test]
fn a_folder_is_read_in_every_spelling() {
    let dir = folder();
    let data = load_folder(dir.path()).unwrap();
    assert_eq!(data.train.pixels(), (1..=12).collect::<Vec<u8>>());
    assert_eq!(data.train.labels(), [0, 2, 1]);
    assert_eq!(data.test.image(0), [9; 4]);
    let (h, w, c) = (data.test.height(), data.test.width(), data.test.channels());
    assert_eq!((h, w, c), (2, 2, 1));
    assert_eq!((data.train.classes(), data.test.classes()), (5, 5));
    assert_eq!(dir.path().file_name().unwrap().to_str(), Some(&*data.name));

    put(&dir, "train-images-idx3-ubyte.gz", b"not looked at");
    put(&dir, "t10k-labels.idx1-ubyte", &idx(&[1], &[255]));
    assert_eq!(load_folder(dir.path()).unwrap().train.classes(), 256);
}

#[test]
fn images_may_have_channels() {
    let dir = folder();
    for half in ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"] {
        fs::remove_file(dir.path().join(half)).unwrap();
    }
    let pixels: Vec<u8> = (0..36).collect();
    put(
        &dir,
        "train-images-idx4-ubyte",
        &idx(&[3, 2, 2, 3], &pixels),
    );
    put(
        &dir,
        "t10k-images.idx4-ubyte.gz",
        &gz(&idx(&[1, 2, 2, 3], &[7; 12])),
    );
    let data = load_folder(dir.path()).unwrap();
    let train = &data.train;
    assert_eq!([train.height(), train.width(), train.channels()], [2, 2, 3]);
    assert_eq!(train.image(1), (12..24).collect::<Vec<u8>>());
    assert_eq!(data.test.image(0), [7; 12]);
    put(
        &dir,
        "t10k-images.idx4-ubyte.gz",
        &gz(&idx(&[1, 2, 2, 1], &[7; 4])),
    );
    let said = load_folder(dir.path()).unwrap_err().to_string();
    assert!(
        said.contains("the test images are 2 x 2; expected 2 x 2 x 3"),
        "{said}"
    );
    put(&dir, "t10k-images.idx4-ubyte.gz", &idx(&[1, 2, 2], &[7; 4]));
    let said = load_folder(dir.path()).unwrap_err().to_string();
    assert!(said.contains("has 3 dimensions; expected 4"), "{said}");
}

#[test]
fn halves_that_do_not_fit_are_refused() {
    let said = |name: &str, bytes: &[u8]| {
        let dir = folder();
        put(&dir, name, bytes);
        load_folder(dir.path()).unwrap_err().to_string()
    };
    let two = said("t10k-labels.idx1-ubyte", &idx(&[2], &[0, 1]));
    assert!(
        two.contains("t10k-labels.idx1-ubyte: holds 2 labels; expected 1, one"),
        "{two}"
    );
    let none = said("train-images-idx3-ubyte", &idx(&[0, 2, 2], &[]));
    assert!(
        none.contains("has dimensions [0, 2, 2]; expected at least"),
        "{none}"
    );
    let size = said("t10k-images-idx3-ubyte", &idx(&[1, 1, 2], &[0; 2]));
    assert!(
        size.contains("the test images are 1 x 2; expected 2 x 2"),
        "{size}"
    );
}

#[test]
fn a_missing_file_is_told_with_the_names_that_were_tried() {
    let dir = folder();
    fs::remove_file(dir.path().join("train-labels.idx1-ubyte.gz")).unwrap();
    // A folder of the right name is no file.
    fs::create_dir(dir.path().join("train-labels-idx1-ubyte")).unwrap();
    let error = load_folder(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Io { doing: "read", .. }));
    let said = error.to_string();
    assert!(
        said.contains(
            "none of train-labels-idx1-ubyte, train-labels-idx1-ubyte.gz, \
             train-labels.idx1-ubyte, train-labels.idx1-ubyte.gz is there"
        ),
        "{said}"
    );
    let nowhere = read_labels(&dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(nowhere, Error::Io { .. }), "{nowhere}");
}

#[test]
fn every_malformation_is_told_plain_and_gzipped() {
    let dir = tempfile::tempdir().unwrap();
    let whole = idx(&[2, 2, 2], &[1; 8]);
    let with = |i: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[i] = byte;
        bytes
    };
    for (bytes, problem) in [
        (vec![], "is truncated"),
        (whole[..3].to_vec(), "is truncated"),
        (whole[..15].to_vec(), "is truncated"),
        (whole[..16].to_vec(), "is truncated: 0 elements; expected 8"),
        (whole[..23].to_vec(), "is truncated: 7 elements; expected 8"),
        (
            [&whole[..], &[0]].concat(),
            "has bytes behind the 8 elements",
        ),
        (
            with(0, 0x50),
            "begins with the bytes [50, 00, 08, 03]; expected 00 00 08 03",
        ),
        (with(2, 0x0d), "has elements of type 0x0d; expected 0x08"),
        (with(3, 1), "has 1 dimensions; expected 3"),
        (
            idx(&[!0, !0, !0], &[]),
            "declares dimensions [4294967295, 4294967295, ",
        ),
        (
            idx(&[1 << 20, 1 << 11, 2], &[]),
            "expected 2147483648 bytes at most",
        ),
        // The most that is believed; what comes decides how much memory it takes.
        (
            idx(&[1 << 20, 1 << 11, 1], &[5]),
            "is truncated: 1 elements",
        ),
    ] {
        for bytes in [gz(&bytes), bytes] {
            put(&dir, "images", &bytes);
            let error = read_images(&dir.path().join("images")).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "{error}");
            assert!(
                error.to_string().contains(problem),
                "{error}, not {problem}"
            );
        }
    }
}

#[test]
fn damage_to_the_gzip_stream_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let whole = gz(&idx(
        &[500],
        &(0..250).cycle().take(500).collect::<Vec<u8>>(),
    ));
    let said = |bytes: &[u8]| {
        put(&dir, "labels", bytes);
        read_labels(&dir.path().join("labels")).map_err(|e| e.to_string())
    };
    assert_eq!(said(&whole).unwrap().len(), 500);
    for len in 2..whole.len() {
        let said = said(&whole[..len]).unwrap_err();
        assert!(
            said.ends_with("is truncated"),
            "{len} of {}: {said}",
            whole.len()
        );
    }
    let mut flipped = whole.clone();
    let checksum = flipped.len() - 8;
    flipped[checksum] ^= 1;
    let mut trailing = whole.clone();
    trailing.extend(b"the rest of another file");
    for bytes in [flipped, trailing] {
        let said = said(&bytes).unwrap_err();
        assert!(said.contains("is a damaged gzip file: "), "{said}");
    }
}

#[test]
fn a_bomb_is_not_unpacked() {
    // 64 MiB of zeros in 64 KiB, behind a header that declares ten labels.
    let dir = tempfile::tempdir().unwrap();
    let bomb = gz(&idx(&[10], &vec![0; 64 << 20]));
    assert!(bomb.len() < 1 << 20);
    put(&dir, "bomb", &bomb);
    let said = read_labels(&dir.path().join("bomb")).unwrap_err();
    assert!(
        said.to_string()
            .contains("has bytes behind the 10 elements")
    );
    let (mut taken, header) = (0usize, idx(&[10], &[]));
    let endless = io::Cursor::new(header).chain(io::repeat(0));
    let counted = Counted(endless, &mut taken);
    assert!(parse::<1>(Path::new("endless"), counted).is_err());
    assert_eq!(taken, 8 + 11);
}

/// Counts the bytes that are read through it.
struct Counted<'a, R>(R, &'a mut usize);

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        *self.1 += n;
        Ok(n)
    }
}

#[test]
fn mnist_is_mnist() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/mnist");
    let dir = std::env::var_os("QCORE_MNIST").map_or(beside, PathBuf::from);
    if !dir.exists() {
        println!(
            "skipped: no MNIST in {}; QCORE_MNIST names its folder",
            dir.display()
        );
        return;
    }
    let data = load_folder(&dir).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (60_000, 10_000));
    assert_eq!((data.train.height(), data.train.width()), (28, 28));
    assert_eq!((data.train.channels(), data.train.classes()), (1, 10));
    assert_eq!(data.train.labels()[..5], [5, 0, 4, 1, 9]);
    assert_eq!(data.test.labels()[..5], [7, 2, 1, 0, 4]);
    let ink: u64 = data.train.pixels().iter().map(|&p| u64::from(p)).sum();
    let mean = ink as f64 / data.train.pixels().len() as f64 / 255.0;
    assert!((mean - 0.1307).abs() < 1e-4, "{mean}");
}
