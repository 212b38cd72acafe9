//! Concatenation, flattening and up-sampling against their definitions.

use super::*;
use crate::bits::{ByteRef, Encoding, PackedMatrix};
use crate::ops::Pool;

/// Codes that look random.
fn codes(encoding: Encoding, rows: usize, cols: usize, seed: usize) -> PackedMatrix {
    let all: Vec<i32> = (encoding.min()..=encoding.max())
        .filter(|&v| encoding.encode(v).is_some())
        .collect();
    let at = |i: usize| (i + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let values: Vec<i32> = (0..rows * cols).map(|i| all[at(i) % all.len()]).collect();
    PackedMatrix::pack(encoding, rows, cols, &values).unwrap()
}

#[test]
fn channels_lie_side_by_side_at_any_bit() {
    let pool = Pool::new(3).unwrap();
    let parts = [
        [32, 64, 32],
        [1, 31, 33],
        [70, 5, 90],
        [31, 2, 31],
        [3, 4, 5],
    ];
    for e in ["bipolar", "ternary", "u3", "s2"] {
        let e: Encoding = e.parse().unwrap();
        for channels in parts {
            for par in [Par::Caller, Par::Pool(&pool)] {
                let (rows, all) = (13, channels.iter().sum());
                let parts: Vec<PackedMatrix> =
                    channels.iter().map(|&c| codes(e, rows, c, c)).collect();
                let len = rows * e.planes() * words(all);
                let (mut out, mut first) = (vec![!0; len], 0);
                for part in &parts {
                    let rows = OutRows::Codes(&mut out);
                    concat_part(part.view(), part.cols(), first, all, rows, par).unwrap();
                    first += part.cols();
                }
                let out = PackedMatrix::from_words(e, rows, all, out).unwrap();
                let integers: Vec<Vec<i32>> = parts.iter().map(PackedMatrix::unpack).collect();
                let expected: Vec<i32> = (0..rows)
                    .flat_map(|r| {
                        let some = integers.iter().zip(channels);
                        some.flat_map(move |(v, c)| v[r * c..(r + 1) * c].to_vec())
                    })
                    .collect();
                assert_eq!(out.unpack(), expected, "{e} {channels:?}");
            }
        }
    }
}

#[test]
fn floats_and_bytes_lie_side_by_side() {
    let (a, b) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0]);
    let mut out = [0.0; 6];
    for (part, c, first) in [(&a[..], 2, 0), (&b[..], 1, 2)] {
        concat_part(part, c, first, 3, OutRows::F32(&mut out), Par::Caller).unwrap();
    }
    assert_eq!(out, [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
    let bytes = [250, 251];
    let part = ByteRef::new("s8".parse().unwrap(), 2, 1, &bytes).unwrap();
    let mut out = [1; 4];
    concat_part(part, 1, 1, 2, OutRows::Bytes(&mut out), Par::Caller).unwrap();
    assert_eq!(out, [1, 250, 1, 251]);
}

#[test]
fn planes_of_pixels_become_planes_of_images() {
    let pool = Pool::new(2).unwrap();
    for e in ["bipolar", "ternary", "u4", "s3"] {
        let e: Encoding = e.parse().unwrap();
        for (pixels, c) in [(1, 40), (4, 32), (9, 7), (6, 65), (49, 31)] {
            let x = codes(e, 3 * pixels, c, 9);
            for par in [Par::Caller, Par::Pool(&pool)] {
                let mut out = codes(e, 3, pixels * c, 1);
                flatten(x.view(), pixels, &mut out, par).unwrap();
                assert_eq!(out.unpack(), x.unpack(), "{e} {pixels} x {c}");
                assert!(PackedRef::new(e, 3, pixels * c, out.words()).is_ok());
            }
        }
    }
}

#[test]
fn pixels_are_repeated_along_both_axes() {
    let pool = Pool::new(2).unwrap();
    for factors in [[1, 1], [2, 3], [3, 1]] {
        let (images, h, w, unit) = (2, 3, 4, 5);
        let x: Vec<usize> = (0..images * h * w * unit).collect();
        let [fy, fx] = factors;
        let expected: Vec<usize> = (0..x.len() * fy * fx)
            .map(|i| {
                let (pixel, e) = (i / unit, i % unit);
                let (line, column) = (pixel / (w * fx), pixel % (w * fx));
                (line / fy * w + column / fx) * unit + e
            })
            .collect();
        for par in [Par::Caller, Par::Pool(&pool)] {
            let mut out = vec![0; expected.len()];
            up_sample(&x, (h, w), unit, factors, &mut out, par).unwrap();
            assert_eq!(out, expected, "{factors:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (e, here) = (Encoding::Bipolar, Par::Caller);
    let x = codes(e, 4, 5, 1);
    let said = |c: usize, first: usize, channels: usize, out: OutRows<'_>| {
        let done = concat_part(x.view(), c, first, channels, out, here);
        done.unwrap_err().to_string()
    };
    assert!(said(0, 0, 5, OutRows::Codes(&mut [0; 4])).starts_with("channels is 0 and 0 more"));
    assert!(said(5, 1, 5, OutRows::Codes(&mut [0; 4])).starts_with("channels is 1 and 5 more"));
    assert!(said(5, usize::MAX, 5, OutRows::Codes(&mut [0; 4])).starts_with("channels is"));
    assert!(said(4, 0, 5, OutRows::Codes(&mut [0; 4])).starts_with("channels of the part is 5"));
    assert!(said(5, 0, 5, OutRows::Codes(&mut [0; 3])).starts_with("out is 3 elements long"));
    assert!(said(5, 0, 1, OutRows::Bytes(&mut [0; 4])).starts_with("channels is 0 and 5 more"));
    assert!(said(5, 0, 5, OutRows::F32(&mut [0.0; 4])).starts_with("out is f32"));
    let mut out = PackedMatrix::zeros(e, 2, 10).unwrap();
    let said = |pixels, out: &mut PackedMatrix| {
        let done = flatten(x.view(), pixels, out, here);
        done.unwrap_err().to_string()
    };
    assert!(said(3, &mut out).starts_with("rows of x is 4; expected a multiple of 3"));
    assert!(said(0, &mut out).starts_with("rows of x is 4"));
    assert!(said(4, &mut out).starts_with("out is bipolar 2 x 10"));
    let mut out = [0; 8];
    let mut said = |x: &[i32], size, factors| {
        let done = up_sample(x, size, 2, factors, &mut out, here);
        done.unwrap_err().to_string()
    };
    assert!(said(&[0; 4], (1, 2), [0, 2]).starts_with("x is 4 elements long, [0, 2] times"));
    assert!(said(&[0; 3], (1, 1), [1, 2]).starts_with("x is 3 elements long"));
    assert!(said(&[0; 4], (1, 2), [1, 3]).starts_with("out is 8 elements long; expected 12"));
    assert!(said(&[0; 4], (0, 2), [1, 1]).starts_with("x is 4 elements long"));
}
