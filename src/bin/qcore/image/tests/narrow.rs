//! Signed codes, and floats of 16 bits.

use super::*;

#[test]
fn signed_codes_in_raw_files_and_arrays() {
    let w = signed(1, 2, 1, -4, 3);
    let two = Values::Codes(vec![0xfc, 3]);
    assert_eq!(parsed("a.raw", &[0xfc, 3], w).unwrap(), two);
    refused(
        "a.raw",
        &[0, 0xfb],
        w,
        &["the value -5 at 1", "codes of -4 to 3"],
    );
    refused("a.raw", &[4, 0], w, &["the value 4 at 0"]);
    let wide: Vec<u8> = [-4i32, 3].iter().flat_map(|v| v.to_le_bytes()).collect();
    let wider: Vec<u8> = [-4i64, 3].iter().flat_map(|v| v.to_le_bytes()).collect();
    for (descr, data) in [("|i1", &[0xfc, 3][..]), ("<i4", &wide), ("<i8", &wider)] {
        let file = npy_of(descr, "False", "(1, 2, 1)", data, 1);
        assert_eq!(parsed("a", &file, w).unwrap(), two, "{descr}");
    }
    let file = npy_of("|u1", "False", "(1, 2, 1)", &[0xfc, 3], 1);
    refused("a", &file, w, &["the value 252 at 0", "-4 to 3"]);
    // All eight bits.
    let all: Vec<u8> = (0..=255).collect();
    let w = signed(16, 16, 1, -128, 127);
    let same = Values::Codes(all.clone());
    assert_eq!(parsed("a.bin", &all, w).unwrap(), same);
    let file = npy_of("|i1", "False", "(16, 16)", &all, 1);
    assert_eq!(parsed("a", &file, w).unwrap(), same);
    refused(
        "a",
        &file,
        wanted(16, 16, 1, 255),
        &["the value -128 at 128"],
    );
    let low = npy_of("|i1", "False", "(1, 2)", &[1, 2], 1);
    assert_eq!(
        parsed("a", &low, wanted(1, 2, 1, 3)).unwrap(),
        Values::Codes(vec![1, 2])
    );
    // What grey stands for which code would be a guess.
    refused(
        "a.pgm",
        b"P2 2 1 1 0 1",
        signed(1, 2, 1, -4, 3),
        &["never below 0", "-4 to 3 in a .npy or raw"],
    );
}

#[test]
fn halves_and_signed_bytes_become_floats() {
    let w = floats(1, 1, 2);
    let halves: Vec<u8> = [f16::from_f32(0.5), f16::from_f32(-1.0)]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let file = npy_of("<f2", "False", "(2,)", &halves, 1);
    assert_eq!(
        parsed("a", &file, w).unwrap(),
        Values::Floats(vec![0.0, -6.0])
    );
    refused("a", &file, wanted(1, 1, 2, 255), &["floats", "i1"]);
    let file = npy_of("<f2", "False", "(2,)", &halves[1..], 1);
    refused("a", &file, w, &["3 bytes of data"]);
    let file = npy_of("|i1", "False", "(2,)", &[0xff, 1], 1);
    assert_eq!(
        parsed("a", &file, w).unwrap(),
        Values::Floats(vec![-6.0, 2.0])
    );
}
