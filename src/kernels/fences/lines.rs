//! Fences around the line GEMM, whose oracle here is the product of the bytes themselves.

use super::super::linegemm::{LineOut, LineTask};
use super::codes::check_codes;
use super::*;

#[test]
fn line_gemm_stays_inside() {
    let pairs = [
        ("bipolar", "u8"),
        ("s4", "s8"),
        ("s8", "bipolar"),
        ("s8", "u8"),
        ("u7", "s8"),
    ];
    each(|kernels, side| {
        for (we, e) in pairs.map(|(w, a)| (w.parse().unwrap(), a.parse().unwrap())) {
            let lanes = kernels.linegemm.lanes;
            for (lines, line) in [(1, 1), (2, 3), (3, 9), (2, 64), (1, 85 * 4), (1, 345)] {
                for o in [1, lanes - 1, lanes, 2 * lanes, 3 * lanes + 1, 4 * lanes] {
                    check(kernels, side, [we, e], [lines, line, 3, o, 3]);
                }
            }
            for pixels in 1..=20 {
                for o in [1, lanes + 1, 4 * lanes] {
                    check(kernels, side, [we, e], [pixels % 4 + 1, 9, 3, o, pixels]);
                }
            }
        }
    });
}

fn check(
    kernels: &Kernels,
    side: Side,
    [we, e]: [Encoding; 2],
    [lines, line, pitch, o, pixels]: [usize; 5],
) {
    let kernel = kernels.linegemm;
    let w = packed(we, o, lines * line);
    let laid = LineWeights::new(w.view(), lines, e, &kernel).unwrap();
    let [least, most] = [e.min(), e.max()].map(|integer| laid.line_bytes().of(integer));
    // Every other byte is the lowest or the highest: sums of 16 bits are at their worst.
    let length = line.next_multiple_of(4) + (pixels - 1) * pitch;
    let bytes: Vec<u8> = (0..lines * length)
        .map(|i| if i * i % 7 < 4 { most } else { least })
        .collect();
    let mut channel = 0;
    for (at, vectors) in laid.panels() {
        let width = vectors * kernel.lanes;
        let words = lines * line.div_ceil(4) * width;
        let weights = Fenced::new(&laid.words()[at..at + words], side);
        let start = Fenced::new(&laid.start()[channel..channel + width], side);
        let image = Fenced::new(&bytes, side);
        let lanes = width.min(o - channel);
        let mut out = Fenced::new(&vec![7i32; pixels * lanes], side);
        let task = LineTask {
            weights: weights.as_ptr(),
            start: start.as_ptr(),
            vectors,
            bits: laid.field_bits(),
            taps: image.as_ptr(),
            pitch,
            lines,
            line: length,
            words: line.div_ceil(4),
            pixels,
            out: LineOut::Sums {
                at: out.as_mut_ptr(),
                stride: lanes,
                lanes,
            },
        };
        // SAFETY: the lengths of a task, as `LineKernel::run` makes it.
        unsafe { (kernel.run)(&task) };
        for (pixel, lane) in [(0, 0), (pixels - 1, lanes - 1), (pixels / 2, lanes / 2)] {
            let filter = w
                .view()
                .slice_rows(channel + lane..channel + lane + 1)
                .unpack();
            let expected: i32 = filter
                .iter()
                .enumerate()
                .map(|(i, w)| {
                    let byte = bytes[i / line * length + pixel * pitch + i % line];
                    let integer = match kernel.signed {
                        true => i32::from(byte as i8),
                        false => i32::from(byte),
                    };
                    w * (integer - laid.line_bytes().above())
                })
                .sum();
            let name = format!("{} {side:?} {we} x {e} {lines} x {line} {o}", kernels.isa);
            assert_eq!(out[pixel * lanes + lane], expected, "{name}");
        }
        // Codes of all lanes, those behind `o` too: sums are what was just checked, or zero.
        let sum = |pixel: usize, lane: usize| match lane < lanes {
            true => out[pixel * lanes + lane],
            false => 0,
        };
        let name = format!("{} {we} x {e}", kernels.isa);
        check_codes(&name, side, [pixels, width], false, sum, |codes| {
            let task = LineTask {
                out: LineOut::Codes(codes),
                ..task
            };
            // SAFETY: as above.
            unsafe { (kernel.run)(&task) };
        });
        channel += width;
    }
}
