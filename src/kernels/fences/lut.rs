//! The table kernels, on tasks made by hand: what a plan would keep in one piece stands alone here.

use super::*;
use crate::kernels::lutgemm::QUAD;
use crate::kernels::luttask::{BuildTask, LutTask};

/// Small numbers that look random.
fn bytes(count: usize, below: usize) -> Vec<u8> {
    let mix = |i: usize| (i.wrapping_mul(0x9E37_79B9) >> 7) ^ i >> 3;
    (0..count).map(|i| (mix(i + 1) % below) as u8).collect()
}

#[test]
fn tables_and_their_products_stay_inside() {
    each(|kernels, side| {
        for kernel in kernels.lut_kernels() {
            shapes(kernel, side);
        }
    });
}

fn shapes(kernel: &LutKernel, side: Side) {
    let all = kernel.nr();
    let cases: &[_] = match kernel.entry {
        1 => &[(1, 1), (1, 3), (1, 15), (2, 3), (2, 15)],
        _ => &[(1, 31), (1, 255)],
    };
    for rows in [1, kernel.mr, kernel.mr + 1, 5] {
        for lanes in [
            1,
            kernel.lanes - 1,
            kernel.lanes,
            kernel.lanes + 1,
            all - 1,
            all,
        ] {
            for (groups, taps) in [(0, 1), (1, 1), (5, 1), (12, 1), (1, 3), (5, 3)] {
                for &(planes, codes) in cases {
                    check(kernel, side, [rows, lanes, groups, taps], planes, codes);
                }
            }
        }
    }
}

fn check(
    kernel: &LutKernel,
    side: Side,
    [rows, lanes, groups, taps]: [usize; 4],
    planes: usize,
    most: usize,
) {
    let (group, share, entry) = (kernel.group, kernel.share, kernel.entry);
    let vectors = lanes.div_ceil(kernel.lanes);
    let groups = groups.next_multiple_of(share);
    let quads = groups.div_ceil(QUAD);
    let stride = quads * QUAD * group;
    let table_stride = ((quads * QUAD) << group) * entry;
    // Every tap but the last row's last one is that of another row too.
    let pixels = rows + taps - 1;
    let at_tap: Vec<u32> = (0..taps as u32).rev().collect();
    let starts: Vec<u32> = (0..rows as u32).collect();
    let (starts, tap_pixels) = (Fenced::new(&starts, side), Fenced::new(&at_tap, side));
    // Two blocks of as many groups, which could be one plan's.
    let codes = [1, 2].map(|_| Fenced::new(&bytes(pixels * stride, most + 1), side));
    let step = vectors * kernel.lanes;
    let beside = 8 * entry / share;
    let indices = bytes(
        planes * taps * groups / share * step * entry,
        1 << (share * group).min(8),
    );
    let indices = Fenced::new(&indices, side);
    let start: Vec<i32> = (0..step as i32).map(|c| 7 * c - 100).collect();
    let start = Fenced::new(&start, side);
    let row_sums: Vec<i32> = (0..rows as i32).map(|r| 1000 * r).collect();
    let row_sums = Fenced::new(&row_sums, side);
    let scale = Fenced::new(&vec![1f32; step], side);
    let bias = Fenced::new(&vec![0f32; step], side);
    let expect = |row: usize, c: usize| {
        let (half, at) = (kernel.lanes / 2, c % kernel.lanes);
        let lane = c / kernel.lanes * kernel.lanes + 2 * (at % half) + at / half;
        let weight = |tap: usize, k: usize| {
            let (at, group) = (k / group, k / group % share * beside + k % group);
            let at = |plane| ((plane * taps + tap) * groups / share + at / share) * step + lane;
            let bit = |plane| indices[at(plane) * entry + group / 8] >> (group % 8) & 1;
            (0..planes).fold(0, |weight, plane| 2 * weight + i32::from(bit(plane)))
        };
        let code = |block: usize, tap: usize, k| {
            let pixel = row + at_tap[tap] as usize;
            i32::from(codes[block][pixel * stride + k])
        };
        let all = (0..taps).flat_map(|tap| (0..groups * group).map(move |k| (tap, k)));
        let sum: i32 = all
            .map(|(tap, k)| weight(tap, k) * (code(0, tap, k) + code(1, tap, k)))
            .sum();
        2 * sum + start[c] + row_sums[row]
    };
    for (narrow, float) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut out = Fenced::new(&vec![0i32; rows * lanes], side);
        let mut tables = Fenced::new(&vec![0u8; pixels * table_stride], side);
        for (block, codes) in codes.iter().enumerate() {
            let build = BuildTask {
                codes: codes.as_ptr(),
                stride,
                rows: pixels,
                base: 0,
                quads,
                tables: tables.as_mut_ptr(),
                table_stride,
            };
            let sink = match float {
                false => Sink::integers(out.as_mut_ptr(), lanes),
                true => Sink::floats(
                    out.as_mut_ptr().cast(),
                    lanes,
                    scale.as_ptr(),
                    bias.as_ptr(),
                ),
            };
            let run = LutTask {
                indices: indices.as_ptr(),
                planes,
                vectors,
                tables: tables.as_ptr(),
                table_stride,
                starts: match taps {
                    1 => std::ptr::null(),
                    _ => starts.as_ptr(),
                },
                tap_pixels: tap_pixels.as_ptr(),
                taps,
                groups,
                rows,
                flush: ((1 << (8 * entry)) - 1) / (group * most),
                first: block == 0,
                last: block == 1,
                narrow,
                shift: 1,
                start: start.as_ptr(),
                row_sums: row_sums.as_ptr(),
                lanes,
                sink,
            };
            // SAFETY: `each` gives kernels of this machine; every buffer has the size that the tasks state.
            unsafe {
                (kernel.build)(&build);
                (kernel.run)(&run);
            }
        }
        for row in 0..rows {
            for c in 0..lanes {
                let got = match float {
                    false => out[row * lanes + c],
                    true => f32::from_bits(out[row * lanes + c] as u32) as i32,
                };
                let name = kernel.name;
                assert_eq!(
                    got,
                    expect(row, c),
                    "{name} {rows}x{lanes} {groups} groups, row {row}, channel {c}"
                );
            }
        }
    }
}
