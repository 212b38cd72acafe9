//! Files that are cut or changed: read or refused.

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
