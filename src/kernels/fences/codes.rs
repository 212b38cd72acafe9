//! Fences around codes that a tile makes of its sums.

use super::super::tilecodes::TileCodes;
use super::{Fenced, Side};

/// Lets `run` make codes of 1 and 2 bits of `rows` sums of `lanes` channels, and holds them against `sum(row, lane)`.
/// Rows have thresholds of their own if there are `classes`.
pub(super) fn check_codes(
    name: &str,
    side: Side,
    [rows, lanes]: [usize; 2],
    classes: bool,
    sum: impl Fn(usize, usize) -> i32,
    run: impl Fn(TileCodes),
) {
    for levels in [1usize, 3] {
        let (planes, bytes) = (levels.div_ceil(2), lanes.div_ceil(8));
        let kinds = if classes { 2 } else { 1 };
        let class = |row: usize| row % kinds;
        // Near to a sum of some row, so that some are above it and some are not.
        let threshold = |class: usize, level: usize, lane: usize| {
            let some = sum((lane + class) % rows, lane);
            some.saturating_add(level as i32 - 1)
        };
        let all = (0..kinds * levels * lanes).map(|i| {
            let (class, level) = (i / lanes / levels, i / lanes % levels);
            threshold(class, level, i % lanes)
        });
        let thresholds = Fenced::new(&all.collect::<Vec<_>>(), side);
        let starts: Vec<u32> = (0..rows)
            .map(|row| (class(row) * levels * lanes) as u32)
            .collect();
        let starts = Fenced::new(&starts, side);
        let mut codes = Fenced::new(&vec![0xA5u8; rows * planes * bytes], side);
        run(TileCodes {
            at: codes.as_mut_ptr(),
            plane: bytes,
            row: planes * bytes,
            levels,
            thresholds: thresholds.as_ptr(),
            level: lanes,
            classes: match classes {
                true => starts.as_ptr(),
                false => std::ptr::null(),
            },
        });
        for (row, lane) in (0..rows).flat_map(|row| (0..lanes).map(move |lane| (row, lane))) {
            let passed = |&level: &usize| sum(row, lane) > threshold(class(row), level, lane);
            let expected = (0..levels).filter(passed).count();
            let bit = |plane: usize| {
                let byte = codes[(row * planes + plane) * bytes + lane / 8];
                usize::from(byte >> (lane % 8) & 1)
            };
            let code: usize = (0..planes).map(|plane| bit(plane) << plane).sum();
            assert_eq!(code, expected, "{name}, {levels} levels, {row} {lane}");
        }
    }
}
