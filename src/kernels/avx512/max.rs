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
    let (plane, together) = (pixel / planes, 16 / pixel);
    let by = |count: usize| {
        let (mut index, mut inside) = ([0i32; 16], 0);
        for (lane, index) in index.iter_mut().enumerate() {
            let at = lane % pixel + count * plane;
            *index = (lane - lane % pixel + at % pixel) as i32;
            inside |= u16::from(at < pixel) << lane;
        }
        // SAFETY: 16 words are read.
        let index = unsafe { _mm512_loadu_si512(index.as_ptr().cast()) };
        Move { index, inside }
    };
    let moves = [by(1), by(2), by(4)];
    let doublings = planes.ilog2() as usize;
    let mut sign = 0u16;
    for lane in 0..16 {
        sign |= u16::from(signed && lane % pixel >= pixel - plane) << lane;
    }
    let flip = _mm512_maskz_set1_epi32(sign, -1);
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
    for into in into.chunks_mut(16) {
        let (there, count) = ((u32::MAX >> (32 - into.len())) as u16, into.len() / pixel);
        // SAFETY: only what slices hold is read and written.
        unsafe {
            let old = _mm512_maskz_loadu_epi32(there, into.as_ptr().cast());
            let new = if step == pixel {
                let from = &from[at..][..into.len()];
                _mm512_maskz_loadu_epi32(there, from.as_ptr().cast())
            } else if pixel == 8 && count == 2 {
                let (low, high) = (&from[at..][..8], &from[at + step..][..8]);
                let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.as_ptr().cast()));
                _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.as_ptr().cast()))
            } else {
                let mut words = [0u32; 16];
                for (i, words) in words.chunks_exact_mut(pixel).take(count).enumerate() {
                    words.copy_from_slice(&from[at + i * step..][..pixel]);
                }
                _mm512_loadu_si512(words.as_ptr().cast())
            };
            _mm512_mask_storeu_epi32(into.as_mut_ptr().cast(), there, greater(new, old));
        }
        at += together * step;
    }
}
