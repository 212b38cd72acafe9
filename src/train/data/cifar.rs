//! The binary files of CIFAR-10.
//!
//! ```text
//!   a record   label, 1 byte; then 1024 bytes of red, 1024 of green, 1024 of blue, row by row of a 32 x 32 image
//! ```
//!
//! `data_batch_1.bin` to `data_batch_5.bin` are to train on, `test_batch.bin` is to measure with.

use std::path::Path;

use super::{Dataset, Images};
use crate::error::{Error, Result};

/// The first of the files.
pub(super) const FIRST: &str = "data_batch_1.bin";

/// Rows and columns, pixels and bytes of an image.
const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PIXELS;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Reads the six files of a folder. The data set is named after the folder.
///
/// Errors if a file is missing, is not a whole number of records, holds none, or has a label of 10 or more.
pub fn load_folder(dir: &Path) -> Result<Dataset> {
    let mut train = (Vec::new(), Vec::new());
    for i in 1..=5 {
        read(&dir.join(format!("data_batch_{i}.bin")), &mut train)?;
    }
    let mut test = (Vec::new(), Vec::new());
    read(&dir.join("test_batch.bin"), &mut test)?;
    let name = dir.file_name();
    let images = |(pixels, labels)| Images::new([SIDE, SIDE, 3], 10, pixels, labels);
    Ok(Dataset {
        name: name.map_or("cifar10".into(), |n| n.to_string_lossy().into_owned()),
        train: images(train)?,
        test: images(test)?,
    })
}

/// Puts the records of a file behind `into`: pixels as NHWC, and labels.
fn read(path: &Path, into: &mut (Vec<u8>, Vec<u8>)) -> Result<()> {
    let fail = |e| Error::io(path, "read", e);
    let len = std::fs::metadata(path).map_err(fail)?.len();
    if len == 0 || len % RECORD as u64 != 0 || len > MAX_BYTES {
        let problem =
            format!("is {len} bytes long; expected a multiple of {RECORD}, 1 to 2^30 bytes");
        return Err(Error::format(path.display(), problem));
    }
    let bytes = std::fs::read(path).map_err(fail)?;
    for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
        let (label, planes) = (record[0], &record[1..]);
        if label > 9 {
            let problem = format!("has the label {label} in record {i}; expected 0 to 9");
            return Err(Error::format(path.display(), problem));
        }
        into.1.push(label);
        for at in 0..PIXELS {
            into.0
                .extend((0..3).map(|channel| planes[channel * PIXELS + at]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_files_become_images_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, records: usize, label: u8| {
            let mut bytes = Vec::new();
            for r in 0..records {
                bytes.push(label);
                let planes = (0..3 * PIXELS).map(|i| (i / PIXELS * 50 + i % PIXELS % 7 + r) as u8);
                bytes.extend(planes);
            }
            std::fs::write(folder.path().join(name), bytes).unwrap();
        };
        let said = || load_folder(folder.path()).unwrap_err().to_string();
        for i in 1..=5 {
            assert!(said().contains(&format!("data_batch_{i}.bin")));
            write(&format!("data_batch_{i}.bin"), i, i as u8);
        }
        write("test_batch.bin", 2, 9);
        let data = super::super::load_folder(folder.path()).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (15, 2));
        assert_eq!(data.train.labels()[..4], [1, 2, 2, 3]);
        // Pixel 8 of the second image: 8 % 7 + r in each channel, 50 apart.
        assert_eq!(data.test.image(1)[24..27], [2, 52, 102]);
        write("test_batch.bin", 2, 10);
        assert!(said().contains("label 10 in record 0"));
        std::fs::write(folder.path().join("test_batch.bin"), [0; 3074]).unwrap();
        assert!(said().contains("is 3074 bytes long"));
    }
}
