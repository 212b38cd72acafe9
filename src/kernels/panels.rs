//! Weights laid out for a micro-kernel: lanes are output channels.
//!
//! ```text
//!   panel n / NR:   words[plane][k / 32][lane n % NR]        NR lanes of 32 bits, K along the bits
//! ```
//!
//! One vector load fetches the same 32 columns of several output channels, one broadcast fetches those
//! columns of an activation row, and every lane counts for itself: no sum across lanes, the result
//! sits in the lane where the epilogue wants it, and K is padded to 32 only. The lanes behind N in the
//! last panel are zero.

use std::ops::Range;

use super::sink::Sink;
use crate::bits::PackedRef;
use crate::error::Result;
use crate::shape::{elements, words};

/// A cache line, so that panels are aligned for every vector width.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Words in whole cache lines.
#[derive(Clone)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    /// `words` words or a few more, all zero.
    pub(super) fn new(words: usize) -> Self {
        Lines(vec![Line([0; 16]); words.div_ceil(16)])
    }

    pub(super) fn words(&self) -> &[u32] {
        // SAFETY: a Line is 16 u32 without padding (repr(C), align 64 = its size), so the lines are
        // 16 * len consecutive, initialised u32.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }

    pub(super) fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as in `words`, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 16) }
    }

    pub(super) fn bytes(&self) -> usize {
        std::mem::size_of_val(&self.0[..])
    }
}

/// Panels of some kernel, back to back, and what goes with their channels.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    /// Panels, `panel_words` apart.
    pub(crate) weights: *const u32,
    pub(crate) panel_words: usize,
    /// What each lane starts from, `NR` numbers for each panel.
    pub(crate) start: *const i32,
    /// Output channels, at least 1: NR for each panel but the last, which may have fewer.
    pub(crate) lanes: usize,
    pub(crate) sink: Sink,
}

impl Strip {
    /// The first panel, of up to `nr` channels, and those behind it.
    #[inline(always)]
    pub(super) fn first(self, nr: usize) -> (Self, Option<Self>) {
        let first = Strip {
            lanes: self.lanes.min(nr),
            ..self
        };
        if self.lanes <= nr {
            return (first, None);
        }
        let rest = Strip {
            weights: self.weights.wrapping_add(self.panel_words),
            start: self.start.wrapping_add(nr),
            lanes: self.lanes - nr,
            sink: self.sink.beyond(nr),
            ..self
        };
        (first, Some(rest))
    }
}

/// Packed weights `[N, K]` of one encoding in panels of `nr` output channels.
#[derive(Clone)]
pub(crate) struct Panels {
    lines: Lines,
    nr: usize,
    panel_words: usize,
    n: usize,
}

impl Panels {
    /// Lays out `weights` in panels of `nr` lanes, a multiple of 4.
    pub(crate) fn new(weights: PackedRef<'_>, nr: usize) -> Result<Self> {
        let (n, planes, w) = (
            weights.rows(),
            weights.encoding().planes(),
            words(weights.cols()),
        );
        let panel_words = elements("weights", &[planes, w, nr])?;
        let total = elements("weights", &[n.div_ceil(nr), panel_words])?;
        let mut panels = Panels {
            lines: Lines::new(total),
            nr,
            panel_words,
            n,
        };
        let (to, from) = (panels.lines.words_mut(), weights.words());
        for (row, from) in from.chunks_exact((planes * w).max(1)).enumerate() {
            let base = (row / nr) * panel_words + row % nr;
            for (i, &word) in from.iter().enumerate() {
                to[base + i * nr] = word;
            }
        }
        Ok(panels)
    }

    /// Number of panels, N / NR rounded up.
    pub(crate) fn len(&self) -> usize {
        self.n.div_ceil(self.nr)
    }

    /// The words of some panels, each `[plane, W, NR]`, back to back.
    pub(crate) fn panels(&self, which: Range<usize>) -> &[u32] {
        &self.lines.words()[which.start * self.panel_words..which.end * self.panel_words]
    }

    /// Words in a panel.
    pub(crate) fn panel_words(&self) -> usize {
        self.panel_words
    }

    /// Bytes that the panels take.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::{Encoding, PackedMatrix};

    #[test]
    fn every_word_is_in_its_lane_and_the_rest_is_zero() {
        let e = Encoding::Ternary;
        let (n, k, nr) = (21, 70, 16);
        let values: Vec<i32> = (0..n * k).map(|i| (i * i + i / 7) as i32 % 3 - 1).collect();
        let packed = PackedMatrix::pack(e, n, k, &values).unwrap();
        let panels = Panels::new(packed.view(), nr).unwrap();
        assert_eq!(panels.len(), 2);
        for p in 0..panels.len() {
            let panel = panels.panels(p..p + 1);
            assert_eq!(panel.as_ptr() as usize % 64, 0);
            for (i, &word) in panel.iter().enumerate() {
                let (step, row) = (i / nr, p * nr + i % nr);
                let expected = if row < n {
                    packed.words()[row * 6 + step]
                } else {
                    0
                };
                assert_eq!(word, expected, "panel {p} word {i}");
            }
        }
        let empty = |n, k| Panels::new(PackedMatrix::zeros(e, n, k).unwrap().view(), 16).unwrap();
        assert_eq!(empty(0, 9).len(), 0);
        assert!(empty(9, 0).panels(0..1).is_empty());
    }
}
