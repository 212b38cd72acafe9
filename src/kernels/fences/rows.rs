//! Rows of floats, of sums and of codes between pages that may not be touched.

use super::*;

#[test]
fn quantize_and_pack_stay_inside() {
    let relu = |bits| QuantRelu::new(bits, 0.5, Rounding::Ceil).unwrap();
    let quantizers: [Quantizer; 7] = [
        ActQuantizer::Sign.into(),
        relu(1).into(),
        relu(2).into(),
        relu(4).into(),
        relu(8).into(),
        Linear::symmetric(8, 0.02).unwrap().into(),
        Linear::symmetric(4, 0.5).unwrap().into(),
    ];
    each(|kernels, side| {
        for k in (0..=130).chain([255, 256, 257, 511, 513, 600]) {
            let floats: Vec<f32> = (0..k).map(|i| (i * 37 % 101) as f32 / 9.0 - 3.0).collect();
            let codes: Vec<u8> = (0..k).map(|i| (i * 89 % 256) as u8).collect();
            let (floats, codes) = (Fenced::new(&floats, side), Fenced::new(&codes, side));
            for quantizer in &quantizers {
                let planes = quantizer.encoding().planes();
                let steps = Steps::new(quantizer);
                let mut expected = vec![0; planes * words(k)];
                let mut out = Fenced::new(&expected, side);
                portable().quantize(&floats, &steps, planes, &mut expected);
                kernels.quantize(&floats, &steps, planes, &mut out);
                assert_eq!(*out, *expected, "{} {side:?} k={k}", kernels.isa);
                assert_eq!(kernels.range(&floats), portable().range(&floats));
                if quantizer.encoding() != Encoding::Bipolar {
                    let mut expected = vec![0; k];
                    let mut out = Fenced::new(&expected, side);
                    portable().quantize_bytes(&floats, &steps, &mut expected);
                    kernels.quantize_bytes(&floats, &steps, &mut out);
                    assert_eq!(*out, *expected, "{} {side:?} k={k}", kernels.isa);
                    if let Quantizer::Linear(_) = quantizer {
                        out.fill(0);
                        let range =
                            kernels.quantize_bytes_and_range(&floats, &steps, &mut out, &floats);
                        assert_eq!(range, portable().range(&floats));
                        assert_eq!(*out, *expected, "{} {side:?} k={k}", kernels.isa);
                    }
                }
                portable().pack(&codes, planes, &mut expected);
                kernels.pack(&codes, planes, &mut out);
                assert_eq!(*out, *expected, "{} {side:?} k={k}", kernels.isa);
            }
        }
    });
}

#[test]
fn requantize_stays_inside() {
    each(|kernels, side| {
        for n in 0..=97 {
            for planes in [1, 3] {
                let (levels, padded) = ((1 << planes) - 1, words(n) * 32);
                let number = |i: usize| (i * 7919 % 601) as i32 - 300;
                let sums: Vec<i32> = (0..2 * n).map(number).collect();
                let thresholds: Vec<i32> = (0..levels * padded).map(|i| number(i + 5)).collect();
                let flip = vec![0x9249_2492; words(n)];
                let (sums, flip) = (Fenced::new(&sums, side), Fenced::new(&flip, side));
                let thresholds = Fenced::new(&thresholds, side);
                let mut expected = vec![0; 2 * planes * words(n)];
                let mut out = Fenced::new(&expected, side);
                portable().requantize(&sums, n, &thresholds, &flip, planes, &mut expected);
                kernels.requantize(&sums, n, &thresholds, &flip, planes, &mut out);
                assert_eq!(*out, *expected, "{} {side:?} n={n}", kernels.isa);
            }
        }
    });
}

#[test]
fn sums_and_unpack_stay_inside() {
    each(|kernels, side| {
        for e in [Encoding::Ternary, Encoding::signed(5).unwrap()] {
            for k in (1..=70).chain(COLUMNS) {
                let (rows, stride) = (3, k.next_multiple_of(4));
                let a = packed(e, rows, k);
                let planes = Fenced::new(a.words(), side);
                let mut sums = Fenced::new(&[0; 3], side);
                let mut expected = [0; 3];
                portable().row_sums(a.view(), &mut expected);
                // SAFETY: `available` has checked the features; slices carry their lengths.
                unsafe { (kernels.row_sums)(&planes, e, &mut sums) };
                assert_eq!(*sums, expected, "{} {side:?} k={k}", kernels.isa);

                let mut bytes = vec![0; rows * stride];
                portable().unpack(a.view(), stride, &mut bytes);
                let row_words = a.view().row_words();
                let mut out = Fenced::new(&vec![0u8; rows * stride], side);
                // SAFETY: as above.
                unsafe { (kernels.unpack)(&planes, row_words, e, stride, &mut out) };
                assert_eq!(*out, *bytes, "{} {side:?} k={k}", kernels.isa);
                for row in 0..rows {
                    let expected = &bytes[row * stride..][..stride];
                    let planes = Fenced::new(&a.words()[row * row_words..][..row_words], side);
                    let mut out = Fenced::new(&vec![0u8; stride], side);
                    // SAFETY: as above.
                    unsafe { (kernels.unpack)(&planes, row_words, e, stride, &mut out) };
                    assert_eq!(*out, *expected, "{} {side:?} k={k}", kernels.isa);
                }

                let bytes = Fenced::new(&bytes, side);
                portable().byte_sums(&bytes, stride, true, -7, &mut expected);
                kernels.byte_sums(&bytes, stride, true, -7, &mut sums);
                assert_eq!(*sums, expected, "{} {side:?} k={k}", kernels.isa);
            }
        }
    });
}
