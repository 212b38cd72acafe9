//! Fences around the line GEMM, whose oracle here is the product of the bytes themselves.

use super::super::linegemm::{LineCodes, LineOut, LineTask};
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
        for levels in [1, 3] {
            let planes = if levels == 1 { 1 } else { 2 };
            let threshold = |level: usize, lane: usize| {
                let some = lane % pixels * lanes + lane % lanes;
                out[some].saturating_add(level as i32 - 1)
            };
            let thresholds: Vec<i32> = (0..levels * width)
                .map(|i| threshold(i / width, i % width))
                .collect();
            let thresholds = Fenced::new(&thresholds, side);
            let bytes = width.div_ceil(8);
            let mut codes = Fenced::new(&vec![0xA5u8; pixels * planes * bytes], side);
            let task = LineTask {
                out: LineOut::Codes(LineCodes {
                    at: codes.as_mut_ptr(),
                    plane: bytes,
                    pixel: planes * bytes,
                    levels,
                    thresholds: thresholds.as_ptr(),
                    level: width,
                }),
                ..task
            };
            // SAFETY: as above.
            unsafe { (kernel.run)(&task) };
            for (pixel, lane) in (0..pixels).flat_map(|p| (0..width).map(move |lane| (p, lane))) {
                let sum = if lane < lanes {
                    out[pixel * lanes + lane]
                } else {
                    0
                };
                let above = (0..levels).filter(|&level| sum > threshold(level, lane));
                let bit = |plane: usize| {
                    let byte = codes[(pixel * planes + plane) * bytes + lane / 8];
                    usize::from(byte >> (lane % 8) & 1)
                };
                let code = (0..planes).map(|plane| bit(plane) << plane).sum::<usize>();
                assert_eq!(
                    code,
                    above.count(),
                    "{} {levels} levels {we} x {e}",
                    kernels.isa
                );
            }
        }
        channel += width;
    }
}
