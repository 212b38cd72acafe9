//! Files that are cut or changed: read or refused, in words.

use super::*;

/// Cut at every byte and changed at every byte, a file is read or refused.
#[test]
fn damaged_files_are_no_panic() {
    let rgb: Vec<u8> = (0..27).collect();
    let whole = [
        png_of(3, 3, ::png::ColorType::Rgb, ::png::BitDepth::Eight, &rgb),
        png_of(
            9,
            3,
            ::png::ColorType::Grayscale,
            ::png::BitDepth::One,
            &[1; 6],
        ),
        [&b"P6 3 3 255\n"[..], &rgb].concat(),
        b"P2 3 1 9 1 2 3".to_vec(),
        npy_of("|u1", "False", "(1, 3, 3, 3)", &rgb, 1),
        npy_of("<f4", "False", "(1, 3, 3, 3)", &[0; 108], 2),
        npy_of("<f2", "False", "(3, 3, 3)", &[0; 54], 1),
    ];
    let wanted = [
        wanted(3, 3, 3, 255),
        wanted(1, 3, 1, 255),
        signed(3, 3, 3, -8, 7),
        floats(3, 3, 3),
    ];
    for whole in whole {
        for w in &wanted {
            for i in 0..whole.len() {
                let _ = parse(Path::new("a"), &whole[..i], w);
                for byte in [0, 1, b'0', b'9', b'\'', b'(', 0x7f, 0x80, 0xff] {
                    let mut changed = whole.clone();
                    changed[i] = byte;
                    let _ = parse(Path::new("a.raw"), &changed, w);
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_with_a_png_is_said_in_words() {
    let w = wanted(3, 3, 3, 255);
    let rgb: Vec<u8> = (0..27).collect();
    let whole = png_of(3, 3, ::png::ColorType::Rgb, ::png::BitDepth::Eight, &rgb);
    let at = |name: &[u8]| whole.windows(4).position(|four| four == name).unwrap();
    let mut flipped = whole.clone();
    // The last byte of the checksum behind IDAT.
    flipped[at(b"IEND") - 5] ^= 1;
    refused(
        "a.png",
        &flipped,
        w,
        &["a damaged PNG: the bytes of its IDAT chunk do not match their checksum"],
    );
    refused(
        "a.png",
        &whole[..at(b"IDAT") + 5],
        w,
        &["a damaged PNG: it ends before its image does"],
    );
    for i in 8..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[i] ^= 1 << bit;
            if let Err(error) = parsed("a.png", &flipped, w) {
                let said = error.to_string();
                assert!(!said.contains("ChunkType"), "byte {i}, bit {bit}: {said}");
            }
        }
    }
}
