//! Every reader on good files, on files of another size, and on damaged ones.

use std::path::Path;

use super::*;

mod damage;
mod narrow;

fn wanted(height: usize, width: usize, channels: usize, max: u8) -> Wanted {
    Wanted {
        height,
        width,
        channels,
        kind: Kind::Codes { min: 0, max },
    }
}

fn signed(height: usize, width: usize, channels: usize, min: i8, max: u8) -> Wanted {
    let kind = Kind::Codes { min, max };
    Wanted {
        kind,
        ..wanted(height, width, channels, 0)
    }
}

fn floats(height: usize, width: usize, channels: usize) -> Wanted {
    let kind = Kind::Floats {
        mean: 0.5,
        std: 0.25,
    };
    Wanted {
        kind,
        ..wanted(height, width, channels, 0)
    }
}

fn parsed(name: &str, bytes: &[u8], wanted: Wanted) -> Result<Values> {
    parse(Path::new(name), bytes, &wanted)
}

/// Refused with all of these words, the file's name among them.
fn refused(name: &str, bytes: &[u8], wanted: Wanted, words: &[&str]) {
    let said = parsed(name, bytes, wanted).unwrap_err().to_string();
    for word in words.iter().chain(&[name]) {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

fn png_of(
    width: u32,
    height: u32,
    color: ::png::ColorType,
    depth: ::png::BitDepth,
    data: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == ::png::ColorType::Indexed {
        encoder.set_palette(vec![1, 2, 3, 200, 100, 50]);
    }
    encoder
        .write_header()
        .unwrap()
        .write_image_data(data)
        .unwrap();
    bytes
}

fn npy_of(descr: &str, order: &str, shape: &str, data: &[u8], version: u8) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = [npy::SIGNATURE, &[version, 0]].concat();
    match version {
        1 => bytes.extend((text.len() as u16).to_le_bytes()),
        _ => bytes.extend((text.len() as u32).to_le_bytes()),
    }
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn png_of_every_kind() {
    use ::png::{BitDepth, ColorType};
    let rgb: Vec<u8> = (0..18).map(|i| i * 14).collect();
    let file = png_of(3, 2, ColorType::Rgb, BitDepth::Eight, &rgb);
    assert_eq!(
        parsed("a", &file, wanted(2, 3, 3, 255)).unwrap(),
        Values::Codes(rgb.clone())
    );
    let as_floats: Vec<f32> = rgb
        .iter()
        .map(|&v| (f32::from(v) / 255.0 - 0.5) / 0.25)
        .collect();
    assert_eq!(
        parsed("a", &file, floats(2, 3, 3)).unwrap(),
        Values::Floats(as_floats)
    );
    refused(
        "a.png",
        &file,
        wanted(3, 2, 3, 255),
        &["2 high, 3 wide", "expected 3 high, 2 wide"],
    );
    refused(
        "a.png",
        &file,
        wanted(2, 3, 1, 255),
        &["3 channels", "1 channel,"],
    );
    refused(
        "a.png",
        &file,
        wanted(2, 3, 3, 15),
        &["the value 28 at 2", "0 to 15"],
    );

    let file = png_of(
        2,
        1,
        ColorType::GrayscaleAlpha,
        BitDepth::Eight,
        &[7, 8, 9, 10],
    );
    assert_eq!(
        parsed("a", &file, wanted(1, 2, 2, 255)).unwrap(),
        Values::Codes(vec![7, 8, 9, 10])
    );
    // Nibbles 3, 15, 0: the codes of a 4-bit model, spread for one of 8 bits.
    let file = png_of(3, 1, ColorType::Grayscale, BitDepth::Four, &[0x3f, 0]);
    assert_eq!(
        parsed("a", &file, wanted(1, 3, 1, 15)).unwrap(),
        Values::Codes(vec![3, 15, 0])
    );
    assert_eq!(
        parsed("a", &file, wanted(1, 3, 1, 255)).unwrap(),
        Values::Codes(vec![51, 255, 0])
    );
    refused(
        "a",
        &file,
        wanted(1, 3, 3, 255),
        &["1 channel;", "3 channels"],
    );
    // A palette's colours keep their 8 bits, however few its indices have.
    let file = png_of(2, 1, ColorType::Indexed, BitDepth::One, &[0x40]);
    let colours = Values::Codes(vec![1, 2, 3, 200, 100, 50]);
    assert_eq!(parsed("a", &file, wanted(1, 2, 3, 255)).unwrap(), colours);
    let file = png_of(1, 1, ColorType::Grayscale, BitDepth::Sixteen, &[1, 2]);
    refused("a", &file, wanted(1, 1, 1, 255), &["16 bits"]);
}

#[test]
fn pnm_in_digits_and_bytes() {
    let six = Values::Codes(vec![0, 1, 2, 3, 4, 5]);
    for file in [
        &b"P2 # grey\n3 2 #wide, high\n255\n0 1 2\n3 4 5\n"[..],
        b"P5 3\t2\n255\n\x00\x01\x02\x03\x04\x05",
        b"P5\n#\n3 2 255 \x00\x01\x02\x03\x04\x05",
    ] {
        assert_eq!(parsed("a", file, wanted(2, 3, 1, 255)).unwrap(), six);
    }
    for file in [
        &b"P3 1 2 255 0 1 2 3 4 5"[..],
        b"P6 1 2 255\n\x00\x01\x02\x03\x04\x05",
    ] {
        assert_eq!(parsed("a", file, wanted(2, 1, 3, 255)).unwrap(), six);
    }
    // Samples that begin as blanks and numbers do.
    assert_eq!(
        parsed("a", b"P5 2 1 255\n 7", wanted(1, 2, 1, 255)).unwrap(),
        Values::Codes(vec![b' ', b'7'])
    );
    // Three levels above zero spread over fifteen; 7 levels over 3 do not, but small samples may stand.
    assert_eq!(
        parsed("a", b"P2 2 1 3 1 2", wanted(1, 2, 1, 15)).unwrap(),
        Values::Codes(vec![5, 10])
    );
    assert_eq!(
        parsed("a", b"P2 2 1 100 50 99", wanted(1, 2, 1, 255)).unwrap(),
        Values::Codes(vec![128, 252])
    );
    assert_eq!(
        parsed("a", b"P2 2 1 7 3 2", wanted(1, 2, 1, 3)).unwrap(),
        Values::Codes(vec![3, 2])
    );
    let w = wanted(1, 2, 1, 255);
    refused("a", b"P2 2 1 7 8 2", w, &["a sample of 8", "at most 7"]);
    refused("a", b"P2 2 1 255 1 256", w, &["a sample of 256"]);
    refused("a", b"P2 2 1 255 1 2x", w, &["no number at byte 13"]);
    refused("a", b"P2 2 1 255 1", w, &["no number at byte 12"]);
    refused("a", b"P2 1 2 255 1 2", w, &["2 high, 1 wide"]);
    refused("a", b"P5 2 1 255\n\x01", w, &["1 samples; expected 2"]);
    refused("a", b"P5 2 1 255\n\x01\x02\x03", w, &["1 bytes behind"]);
    refused(
        "a",
        b"P5 2 1 65535\n\x01\x02\x03\x04",
        w,
        &["65535", "1 to 255"],
    );
    refused("a", b"P5 2 1 0\n\x00\x00", w, &["1 to 255"]);
    refused(
        "a",
        b"P5 99999999999999999999 1 255\n",
        w,
        &["beyond all sizes"],
    );
    refused(
        "a",
        b"P5 4000000000 4000000000 255\n",
        w,
        &["4000000000 high"],
    );
}

#[test]
fn npy_of_every_kind() {
    let six = [0, 1, 2, 3, 4, 5];
    let w = wanted(1, 2, 3, 255);
    for (shape, images) in [("(1, 2, 3)", 1), ("(2, 1, 2, 3)", 2)] {
        for version in [1, 2, 3] {
            let data = &[six, six].concat()[..6 * images];
            let file = npy_of("|u1", "False", shape, data, version);
            let values = parsed("a", &file, w).unwrap();
            assert_eq!(values.count(&w), images);
            assert_eq!(values, Values::Codes(data.to_vec()));
        }
    }
    let words: Vec<u8> = six
        .iter()
        .flat_map(|&v| i32::from(v).to_le_bytes())
        .collect();
    let file = npy_of("<i4", "False", "(1, 2, 3)", &words, 1);
    assert_eq!(parsed("a", &file, w).unwrap(), Values::Codes(six.to_vec()));
    assert_eq!(
        parsed("a", &file, floats(1, 2, 3)).unwrap(),
        Values::Floats(vec![-2., 2., 6., 10., 14., 18.])
    );
    let minus = npy_of("<i4", "False", "(1, 1, 1)", &(-1i32).to_le_bytes(), 1);
    refused(
        "a",
        &minus,
        wanted(1, 1, 1, 255),
        &["the value -1 at 0", "0 to 255"],
    );
    let long: Vec<u8> = six
        .iter()
        .flat_map(|&v| i64::from(v).to_le_bytes())
        .collect();
    let file = npy_of("<i8", "False", "(1, 2, 3)", &long, 1);
    assert_eq!(parsed("a", &file, w).unwrap(), Values::Codes(six.to_vec()));
    assert_eq!(
        parsed("a", &file, floats(1, 2, 3)).unwrap(),
        Values::Floats(vec![-2., 2., 6., 10., 14., 18.])
    );
    let most = npy_of("<i8", "False", "(1, 1, 1)", &i64::MAX.to_le_bytes(), 1);
    refused(
        "a",
        &most,
        wanted(1, 1, 1, 255),
        &["the value 9223372036854775807"],
    );
    let double: Vec<u8> = [0.5f64, 1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let file = npy_of("<f8", "False", "(2,)", &double, 1);
    assert_eq!(
        parsed("a", &file, floats(1, 1, 2)).unwrap(),
        Values::Floats(vec![0.0, 2.0])
    );
    refused("a", &file, wanted(1, 1, 2, 255), &["floats", "u1"]);
    let none = npy_of("|u1", "False", "(0, 1, 2, 3)", &[], 1);
    refused("a", &none, w, &["no images"]);
    let numbers: Vec<u8> = [0.5f32, 1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let file = npy_of("<f4", "False", "(2,)", &numbers, 1);
    assert_eq!(
        parsed("a", &file, floats(1, 1, 2)).unwrap(),
        Values::Floats(vec![0.0, 2.0])
    );
    let two = npy_of("<f4", "False", "(2, 1)", &numbers, 1);
    let pixel = floats(1, 1, 1);
    assert_eq!(parsed("a", &two, pixel).unwrap().count(&pixel), 2);
    refused("a", &file, wanted(1, 1, 2, 255), &["floats", "u1"]);
    let grey = npy_of("|u1", "False", "(2, 3)", &six, 1);
    assert_eq!(
        parsed("a", &grey, wanted(2, 3, 1, 255)).unwrap(),
        Values::Codes(six.to_vec())
    );
    refused(
        "a",
        &grey,
        wanted(2, 3, 3, 255),
        &["[2, 3]", "[2, 3, 3] or [images, 2, 3, 3]"],
    );
    refused(
        "a",
        &npy_of("|u1", "True", "(1, 2, 3)", &six, 1),
        w,
        &["Fortran"],
    );
    refused(
        "a",
        &npy_of(">f4", "False", "(1, 2, 3)", &six, 1),
        w,
        &["'>f4'"],
    );
    refused(
        "a",
        &npy_of("|u1", "False", "(1, 2, 3)", &six[1..], 1),
        w,
        &["5 bytes of data"],
    );
    let huge = npy_of("|u1", "False", "(4294967296, 4294967296, 3)", &six, 1);
    refused("a", &huge, w, &["6 bytes of data"]);
    refused(
        "a",
        &npy_of("|u1", "False", "(1, x)", &six, 1),
        w,
        &["not NumPy's"],
    );
    refused(
        "a",
        &npy_of("|u1", "False", "(1, 2, 3)", &six, 4),
        w,
        &["not a whole .npy"],
    );
}

#[test]
fn raw_bytes_by_name() {
    let w = wanted(1, 2, 1, 9);
    assert_eq!(parsed("a.RAW", &[1, 2, 3, 9], w).unwrap().count(&w), 2);
    refused("a.raw", &[1, 2, 3], w, &["3 bytes", "multiple of 2"]);
    refused("a.bin", &[], w, &["0 bytes"]);
    refused("a.bin", &[1, 10], w, &["the value 10 at 1", "0 to 9"]);
    refused("a.txt", &[1, 2], w, &["neither PNG"]);
    let floats = floats(1, 1, 1);
    let two = 0.75f32.to_le_bytes();
    assert_eq!(
        parsed("a.bin", &two, floats).unwrap(),
        Values::Floats(vec![1.0])
    );
}

#[test]
fn files_follow_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("a.pgm"), "P2 1 1 255 7").unwrap();
    std::fs::write(path("b.raw"), [8, 9]).unwrap();
    let w = wanted(1, 1, 1, 255);
    let mut all = read(&path("a.pgm"), &w).unwrap();
    all.append(read(&path("b.raw"), &w).unwrap());
    assert_eq!(all, Values::Codes(vec![7, 8, 9]));
    let said = read(&path("none"), &w).unwrap_err().to_string();
    assert!(
        said.contains("cannot read") && said.contains("none"),
        "{said}"
    );
}

#[test]
fn written_arrays_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npy");
    for shape in [&[2, 3][..], &[6], &[1, 2, 3, 1]] {
        npy::write(&path, shape, &[0.5, 1.0, -2.0, 3.0, 4.0, 0.25]).unwrap();
        assert!(npy::head(shape).len().is_multiple_of(64));
        let mut w = floats(1, 1, 6);
        w.kind = Kind::Floats {
            mean: 0.0,
            std: 1.0,
        };
        (w.height, w.width, w.channels) = match shape {
            [_, c] => (1, 1, *c),
            [c] => (1, 1, *c),
            _ => (2, 3, 1),
        };
        let back = read(&path, &w).unwrap();
        assert_eq!(back, Values::Floats(vec![0.5, 1.0, -2.0, 3.0, 4.0, 0.25]));
    }
    // Nothing else is left there, and nothing at all by what fails.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(npy::write(&dir.path().join("no/a.npy"), &[1], &[1.0]).is_err());
    assert!(npy::write(dir.path(), &[1], &[1.0]).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
