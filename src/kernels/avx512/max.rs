//! The greater of two codes whose planes lie side by side in a vector; needs no more than `avx512bw` has.
//!
//! A pixel of few channels is a few words, plane after plane, so a vector holds all planes of one or more pixels. The
//! highest plane in which two codes differ decides; that no higher one differs is known once the planes above have moved down
//! by W, 2 W and 4 W words, and the decision moves to all planes likewise.

use std::arch::x86_64::*;

/// The greater of codes in pixels of `pixel` words, into `into`; those of `from` lie `step` words apart.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Pixels {
    planes: usize,
    signed: bool,
    pixel: usize,
    step: usize,
}

impl Pixels {
    pub(in crate::kernels) fn new(planes: usize, signed: bool, pixel: usize, step: usize) -> Self {
        Pixels {
            planes,
            signed,
            pixel,
            step,
        }
    }

    /// Whether whole pixels fill a vector, and planes can move in halves.
    pub(in crate::kernels) fn serves(self) -> bool {
        self.planes.is_power_of_two() && matches!(self.pixel, 1 | 2 | 4 | 8 | 16)
    }
}

/// The numbers of the lanes.
const LANES: [i32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Lanes that move by a number of planes inside of each pixel.
struct Move {
    index: __m512i,
    /// Lanes whose word comes from the same pixel without going around.
    inside: __mmask16,
}

/// Panics unless `from` has all pixels of `into`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(in crate::kernels) fn run(task: Pixels, from: &[u32], into: &mut [u32]) {
    let Pixels {
        planes,
        signed,
        pixel,
        step,
    } = task;
    let together = 16 / pixel;
    // SAFETY: 16 words are read.
    let lanes = unsafe { _mm512_loadu_si512(LANES.as_ptr().cast()) };
    let all = |x: usize| _mm512_set1_epi32(x as i32);
    let within = _mm512_and_si512(lanes, all(pixel - 1));
    let by = |count: usize| {
        let at = _mm512_add_epi32(within, all(count * (pixel / planes)));
        let around = _mm512_and_si512(at, all(pixel - 1));
        Move {
            index: _mm512_or_si512(_mm512_sub_epi32(lanes, within), around),
            inside: _mm512_cmplt_epi32_mask(at, all(pixel)),
        }
    };
    let moves = [by(1), by(2), by(4)];
    let doublings = planes.ilog2() as usize;
    let sign = match signed {
        true => _mm512_cmpge_epi32_mask(within, all(pixel - pixel / planes)),
        false => 0,
    };
    let flip = _mm512_maskz_set1_epi32(sign, -1);
    // Every other pixel of two vectors, of which the second begins a pixel before the first ends.
    let other = _mm512_sub_epi32(_mm512_add_epi32(lanes, lanes), within);
    let later = _mm512_cmpge_epi32_mask(other, all(16));
    let other = _mm512_mask_add_epi32(other, later, other, all(pixel));
    let greater = |a: __m512i, b: __m512i| {
        let differ = _mm512_xor_si512(a, b);
        let mut above = match planes {
            1 => _mm512_setzero_si512(),
            _ => _mm512_maskz_permutexvar_epi32(moves[0].inside, moves[0].index, differ),
        };
        for m in &moves[..doublings] {
            let moved = _mm512_maskz_permutexvar_epi32(m.inside, m.index, above);
            above = _mm512_or_si512(above, moved);
        }
        // (a ^ flip) & differ & !above
        let decided = _mm512_andnot_si512(above, differ);
        let mut wins = _mm512_and_si512(_mm512_xor_si512(a, flip), decided);
        for m in &moves[..doublings] {
            wins = _mm512_or_si512(wins, _mm512_permutexvar_epi32(m.index, wins));
        }
        // b ^ (differ & wins)
        _mm512_ternarylogic_epi32::<0x6A>(differ, wins, b)
    };
    let mut at = 0;
    let mut vectors = into.chunks_exact_mut(16);
    for into in &mut vectors {
        let from = &from[at..][..(together - 1) * step + pixel];
        // SAFETY: only what slices hold is read and written.
        unsafe {
            let old = _mm512_loadu_si512(into.as_ptr().cast());
            let new = if step == pixel {
                _mm512_loadu_si512(from.as_ptr().cast())
            } else if step == 2 * pixel {
                // From 16 words up to the end of the last pixel.
                let last = from.len() - 16;
                let low = _mm512_loadu_si512(from.as_ptr().cast());
                let high = _mm512_loadu_si512(from[last..].as_ptr().cast());
                _mm512_permutex2var_epi32(low, other, high)
            } else {
                _mm512_loadu_si512(some(task, from, together).as_ptr().cast())
            };
            _mm512_storeu_si512(into.as_mut_ptr().cast(), greater(new, old));
        }
        at += together * step;
    }
    let into = vectors.into_remainder();
    if !into.is_empty() {
        let (there, count) = ((1u16 << into.len()) - 1, into.len() / pixel);
        let from = &from[at..][..(count - 1) * step + pixel];
        // SAFETY: as above.
        unsafe {
            let old = _mm512_maskz_loadu_epi32(there, into.as_ptr().cast());
            let new = _mm512_loadu_si512(some(task, from, count).as_ptr().cast());
            _mm512_mask_storeu_epi32(into.as_mut_ptr().cast(), there, greater(new, old));
        }
    }
}

/// `count` pixels of `from`, one behind the other.
fn some(task: Pixels, from: &[u32], count: usize) -> [u32; 16] {
    let mut words = [0; 16];
    for (i, words) in words.chunks_exact_mut(task.pixel).take(count).enumerate() {
        words.copy_from_slice(&from[i * task.step..][..task.pixel]);
    }
    words
}
