//! Codes of 1 and 2 bits, made of the sums of a tile while these are in registers.
//!
//! Stored and read again, the sums of few columns take a third of the time. More levels are compared as fast from memory.

use super::lanes::Lanes;

/// Where the codes of a product go, of all lanes of its panels, and the thresholds that make them.
#[derive(Clone, Copy)]
pub(super) struct TileCodes {
    /// The byte of the first channels in the lowest plane of the first row; bytes from there to the next plane and to the
    /// next row.
    pub(super) at: *mut u8,
    pub(super) plane: usize,
    pub(super) row: usize,
    /// 1 or 3.
    pub(super) levels: usize,
    /// Thresholds of the first channels, and how many there are from one level to the next.
    pub(super) thresholds: *const i32,
    pub(super) level: usize,
    /// Thresholds from the first ones to those of each row; null if all rows have the same.
    pub(super) classes: *const u32,
}

impl TileCodes {
    /// The codes of what lies `lanes` channels on, whole bytes of them.
    #[inline(always)]
    pub(super) fn beyond(self, lanes: usize) -> Self {
        TileCodes {
            at: self.at.wrapping_add(lanes / 8),
            thresholds: self.thresholds.wrapping_add(lanes),
            ..self
        }
    }

    /// Writes how many thresholds each sum is above: `sum(i, v)` is vector v of row `row + i`.
    ///
    /// # Safety
    /// The caller is compiled with V's features. The rows from `row` on exist; each plane of them has the bytes of all
    /// lanes, and each level thresholds for these.
    #[inline(always)]
    pub(super) unsafe fn put<V: Lanes, const MR: usize, const NV: usize>(
        &self,
        row: usize,
        sum: impl Fn(usize, usize) -> V,
    ) {
        // SAFETY: passed on from the caller.
        unsafe {
            match self.levels {
                1 => self.put_levels::<V, MR, NV, 1>(row, sum),
                _ => self.put_levels::<V, MR, NV, 3>(row, sum),
            }
        }
    }

    #[inline(always)]
    unsafe fn put_levels<V: Lanes, const MR: usize, const NV: usize, const LEVELS: usize>(
        &self,
        row: usize,
        sum: impl Fn(usize, usize) -> V,
    ) {
        // Vectors whose bits fill a byte.
        let together = 8usize.div_ceil(V::LANES).min(NV);
        // SAFETY: as `put` demands.
        unsafe {
            for i in 0..MR {
                let class = match self.classes.is_null() {
                    true => 0,
                    false => *self.classes.add(row + i) as usize,
                };
                let thresholds = self.thresholds.add(class);
                let at = self.at.add((row + i) * self.row);
                for v in (0..NV).step_by(together) {
                    let lane = v * V::LANES;
                    let mut passed = [0; LEVELS];
                    for (level, passed) in passed.iter_mut().enumerate() {
                        let of_level = thresholds.add(level * self.level + lane);
                        for j in 0..together {
                            let threshold = V::load(of_level.add(j * V::LANES).cast());
                            *passed |= sum(i, v + j).above(threshold) << (j * V::LANES);
                        }
                    }
                    let at = at.add(lane / 8);
                    // Thresholds rise: who passes the third has passed the others.
                    put_bits::<V>(passed.iter().fold(0, |all, passed| all ^ passed), at);
                    if LEVELS == 3 {
                        put_bits::<V>(passed[1], at.add(self.plane));
                    }
                }
            }
        }
    }
}

/// Writes a bit for each lane, whole bytes of them.
#[inline(always)]
unsafe fn put_bits<V: Lanes>(bits: u32, at: *mut u8) {
    // SAFETY: the caller vouches for LANES / 8 bytes, at least one.
    unsafe {
        match V::LANES {
            16 => at.cast::<u16>().write_unaligned(bits as u16),
            _ => *at = bits as u8,
        }
    }
}

/// Rows of codes that a product makes of its sums, `[rows, planes, ceil(N / 32)]` words, as those of
/// [`Kernels::requantize`](super::Kernels::requantize).
pub(crate) struct CodeRows<'a> {
    pub(crate) words: &'a mut [u32],
    /// `[classes, levels, 32 ceil(N / 32)]`; those behind N are not passed by a sum of zero.
    pub(crate) thresholds: &'a [i32],
    /// Bits to turn, a word for 32 channels.
    pub(crate) flip: &'a [u32],
    /// 1 or 3.
    pub(crate) levels: usize,
}

impl<'a> CodeRows<'a> {
    /// Planes of codes that are made of sums with so many levels, where a kernel makes them.
    pub(crate) fn planes(levels: usize) -> Option<usize> {
        match levels {
            1 => Some(1),
            3 => Some(2),
            _ => None,
        }
    }

    /// Words of a row.
    pub(super) fn row(&self) -> usize {
        Self::planes(self.levels).expect("levels of a code") * self.flip.len()
    }

    /// The first `rows` rows, and what is left.
    pub(super) fn split_at(self, rows: usize) -> (Self, Self) {
        let row = self.row();
        let CodeRows {
            thresholds,
            flip,
            levels,
            ..
        } = self;
        let (first, rest) = self.words.split_at_mut(rows * row);
        let part = |words| CodeRows {
            words,
            thresholds,
            flip,
            levels,
        };
        (part(first), part(rest))
    }

    /// The rows in raw form for a product with `n` channels in panels of multiples of `lanes`, and their number;
    /// `classes` says for each row where its thresholds begin, and is empty if all have the first. Bytes behind the last
    /// panel are cleared. Panics on lengths that do not fit together.
    pub(super) fn raw(&mut self, n: usize, lanes: usize, classes: &[u32]) -> (usize, TileCodes) {
        let (plane, row) = (self.flip.len(), self.row());
        let class = self.levels * plane * 32;
        let rows = self.words.len() / row;
        assert_eq!(plane, n.div_ceil(32), "a word for 32 channels");
        assert_eq!(self.words.len(), rows * row, "whole rows");
        assert!(lanes.is_power_of_two() && lanes <= 32, "panels of bytes");
        assert!(self.thresholds.len() >= class, "a class of thresholds");
        if !classes.is_empty() {
            assert_eq!(classes.len(), rows, "a class for each row");
            let last = classes.iter().fold(0, |last, &class| last.max(class));
            assert!(last as usize <= self.thresholds.len() - class);
        }
        if !n.next_multiple_of(lanes).is_multiple_of(32) {
            self.words.fill(0);
        }
        let raw = TileCodes {
            at: self.words.as_mut_ptr().cast(),
            plane: 4 * plane,
            row: 4 * row,
            levels: self.levels,
            thresholds: self.thresholds.as_ptr(),
            level: 32 * plane,
            classes: match classes.is_empty() {
                true => std::ptr::null(),
                false => classes.as_ptr(),
            },
        };
        (rows, raw)
    }

    /// Turns the bits that are to be turned, once all are written.
    pub(super) fn turn(&mut self) {
        // A bit of a code is the sum modulo 2 of an odd number of levels, so it turns as they do.
        if self.flip.iter().any(|&bits| bits != 0) {
            for plane in self.words.chunks_exact_mut(self.flip.len()) {
                for (word, bits) in plane.iter_mut().zip(self.flip) {
                    *word ^= bits;
                }
            }
        }
    }
}
