//! Tables of 64 sums of 16 bits by vpermi2w, for activations of 5 to 8 bits and weights of one.
//!
//! | step | instructions | MAC | Zen 5: ports, bound |
//! |---|---|---|---|
//! | look-up | vpermi2w, vpaddw | 192 a pair | 2 vpermi2w a cycle: 384 |
//! | four tables | 6 vpermw, 4 vpaddw, then 3 vpermw and 2 vpaddw each | | 9 cycles |
//!
//! The scheme is that of `lutgemm`, but for three things. A block of K has no more groups than 16 bits can sum, so that
//! nothing is widened before its end. Its tables are 128 bytes for 6 activations: those of the rows of a tile stay in the
//! first-level cache while all panels go by. Two indices of 6 bits share 16, the first below; vpermi2w takes no
//! notice of the bits above.
//!
//! Tile 4 rows x 128 channels: 16 vectors of sums, 4 of indices and a table fill 22 registers.

use std::arch::x86_64::*;

use super::Zmm;
use crate::isa;
use crate::kernels::lanes::Lanes;
use crate::kernels::lutgemm::{self, QUAD};
use crate::kernels::luttask::{BuildTask, LutTask};
use crate::kernels::sink;
use crate::kernels::{LutKernel, Worth};

/// Activations of a table.
const GROUP: usize = 6;
/// Entries of a vector.
const LANES: usize = 32;
/// Bytes of a table.
const TABLE: usize = 2 << GROUP;
/// Indices in 16 bits.
const SHARE: usize = 2;

pub(super) const KERNEL: LutKernel = LutKernel {
    name: "vpermi2w",
    mr: 4,
    rows: 4,
    tile: |_| [4, 128],
    lanes: LANES,
    vectors: 8,
    group: GROUP,
    share: SHARE,
    entry: 2,
    // Zen 5, MAC a cycle, bytes : tables, medians of three: 119 : 142 for 512^3, 120 : 150 for 1024^3, 121 : 164 for
    // 4096 x 256 x 4096, 120 : 175 for 4096 x 4 x 4096. The inner loop alone does 300. Panels of 512 channels or blocks of 64
    // rows gain and lose as much. Intel's cores do vpermi2w in three steps.
    worth: Worth {
        once: || match isa::spare_pipes() {
            true => [512; 4],
            false => [usize::MAX; 4],
        },
        twice: [usize::MAX; 4],
    },
    few_rows: || [3; 4],
    // 3 x 3, Zen 5, bytes : tables: 58 : 103 for 128 channels at 28 x 28, 86 : 130 for 256 at 14 x 14.
    worth_of_taps: Worth {
        once: || match isa::spare_pipes() {
            true => [128; 4],
            false => [usize::MAX; 4],
        },
        twice: [usize::MAX; 4],
    },
    build,
    run,
};

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
)]
unsafe fn build(task: &BuildTask) {
    for row in 0..task.rows {
        for quad in 0..task.quads {
            // SAFETY: row < rows and quad < quads, so codes are read and tables written inside their rows.
            unsafe {
                let codes = task.codes.add(row * task.stride + quad * QUAD * GROUP);
                let at = row * task.table_stride + quad * QUAD * TABLE;
                four_tables(codes, task.base, task.tables.add(at));
            }
        }
    }
}

/// The tables of four groups from `codes`, each plus `base`, one behind the other at `tables`.
#[inline(always)]
unsafe fn four_tables(codes: *const u8, base: u8, tables: *mut u8) {
    // SAFETY: the caller carries the features, and vouches for 24 codes and for four tables.
    unsafe {
        let codes = _mm256_maskz_loadu_epi8((1 << (QUAD * GROUP)) - 1, codes.cast());
        let codes = _mm512_cvtepu8_epi16(_mm256_add_epi8(codes, _mm256_set1_epi8(base as i8)));
        for pair in 0..2 {
            // Entry 8 t + e: the sum of those of codes 3 t .. 3 t + 3, of these two groups, whose bit is set in e.
            let third = _mm512_add_epi16(
                _mm512_loadu_si512(THIRDS.as_ptr().cast()),
                _mm512_set1_epi16(12 * pair),
            );
            let one = _mm512_set1_epi16(1);
            let second = _mm512_add_epi16(third, one);
            let last = _mm512_add_epi16(second, one);
            let halves = _mm512_add_epi16(
                _mm512_add_epi16(
                    _mm512_maskz_permutexvar_epi16(0xAAAA_AAAA, third, codes),
                    _mm512_maskz_permutexvar_epi16(0xCCCC_CCCC, second, codes),
                ),
                _mm512_maskz_permutexvar_epi16(0xF0F0_F0F0, last, codes),
            );
            for group in 0..2 {
                // Entry e of a table: entry e % 8 of its lower half plus entry e / 8 of its upper half.
                let at = _mm512_set1_epi16(16 * group);
                let low = _mm512_loadu_si512(LOW.as_ptr().cast());
                let low = _mm512_permutexvar_epi16(_mm512_add_epi16(low, at), halves);
                for half in 0..2 {
                    let at = _mm512_set1_epi16(16 * group + 8 + 4 * half);
                    let high = _mm512_loadu_si512(HIGH.as_ptr().cast());
                    let high = _mm512_permutexvar_epi16(_mm512_add_epi16(high, at), halves);
                    let to = (2 * pair + group) as usize * TABLE + half as usize * TABLE / 2;
                    let sums = _mm512_add_epi16(low, high);
                    _mm512_storeu_si512(tables.add(to).cast(), sums);
                }
            }
        }
    }
}

/// 3 (i / 8): the first code of each sum of three.
static THIRDS: [u16; LANES] = entries(3, 0);
/// i % 8, and i / 8: where an entry finds its halves.
static LOW: [u16; LANES] = entries(0, 1);
static HIGH: [u16; LANES] = entries(1, 0);

/// `a (i / 8) + b (i % 8)`.
const fn entries(a: usize, b: usize) -> [u16; LANES] {
    let mut entries = [0; LANES];
    let mut i = 0;
    while i < LANES {
        entries[i] = (a * (i / 8) + b * (i % 8)) as u16;
        i += 1;
    }
    entries
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni,avx512vbmi"
)]
unsafe fn run(task: &LutTask) {
    debug_assert!(task.planes == 1 && task.taps * task.groups <= task.flush);
    let mut row = 0;
    // SAFETY: every tile starts at a row below `rows` and covers no row behind it.
    unsafe {
        while task.rows - row >= 4 {
            vectors::<4>(task, row);
            row += 4;
        }
        while row < task.rows {
            vectors::<1>(task, row);
            row += 1;
        }
    }
}

/// `MR` rows times all vectors of the panel.
#[inline(always)]
unsafe fn vectors<const MR: usize>(task: &LutTask, row: usize) {
    let mut vector = 0;
    // SAFETY: no more vectors are asked for than remain.
    unsafe {
        while task.vectors - vector >= 4 {
            tile::<MR, 4>(task, vector, row);
            vector += 4;
        }
        while vector < task.vectors {
            tile::<MR, 1>(task, vector, row);
            vector += 1;
        }
    }
}

#[inline(always)]
unsafe fn tile<const MR: usize, const NV: usize>(task: &LutTask, vector: usize, row: usize) {
    // SAFETY: the caller carries the features; rows row .. row + MR and vectors vector .. vector + NV exist, and groups
    // come in pairs, so indices are read inside the panel and tables inside their rows; `put` stays inside the sink.
    unsafe {
        sink::expect::<Zmm, MR, { 2 * 4 }>(&task.sink.beyond(vector * LANES), row);
        let rows = task.rows_at::<MR>(row);
        let mut sums = [[_mm512_setzero_si512(); NV]; MR];
        let mut indices = task.indices.add(64 * vector);
        let mut tap = 0;
        while tap < task.taps {
            let tables = task.tap_of(&rows, tap);
            let mut group = 0;
            while group < task.groups {
                pair(indices, &tables, group * TABLE, &mut sums);
                indices = indices.add(64 * task.vectors);
                group += SHARE;
            }
            tap += 1;
        }
        finish(task, vector, row, &sums);
    }
}

/// Adds to `sums` what `NV` vectors of indices find in the tables of two groups of `MR` rows, `at` bytes behind `rows`.
#[inline(always)]
unsafe fn pair<const MR: usize, const NV: usize>(
    indices: *const u8,
    rows: &[*const u8; MR],
    at: usize,
    sums: &mut [[__m512i; NV]; MR],
) {
    // SAFETY: the caller carries the features, and vouches for NV vectors of indices and for two tables in each of MR rows.
    unsafe {
        let mut index = [_mm512_setzero_si512(); NV];
        for (v, index) in index.iter_mut().enumerate() {
            *index = _mm512_loadu_si512(indices.add(64 * v).cast());
        }
        for group in 0..SHARE {
            if group > 0 {
                for index in &mut index {
                    *index = _mm512_srli_epi16::<8>(*index);
                }
            }
            for i in 0..MR {
                let table = rows[i].add(at + group * TABLE);
                let low = _mm512_loadu_si512(table.cast());
                let high = _mm512_loadu_si512(table.add(TABLE / 2).cast());
                for v in 0..NV {
                    let found = _mm512_permutex2var_epi16(low, index[v], high);
                    sums[i][v] = _mm512_add_epi16(sums[i][v], found);
                }
            }
        }
    }
}

/// Adds the sums of the blocks before, and leaves the new ones in the result or gives them to the sink.
#[inline(always)]
unsafe fn finish<const MR: usize, const NV: usize>(
    task: &LutTask,
    vector: usize,
    row: usize,
    sums: &[[__m512i; NV]; MR],
) {
    // SAFETY: rows row .. row + MR exist in `row_sums`, and vectors from `vector` on in the panel; nothing behind its lanes
    // is touched.
    unsafe {
        let lane = vector * LANES;
        let whole = task.lanes - lane >= NV * LANES;
        let sink = task.sink.beyond(lane);
        for (i, sums) in sums.iter().enumerate() {
            let row = row + i;
            let row_sum = match task.row_sums.is_null() {
                true => Zmm::zero(),
                false => Zmm::splat(*task.row_sums.add(row) as u32),
            };
            if !whole {
                for (v, sum) in sums.iter().enumerate() {
                    let (lane, sums) = (lane + v * LANES, apart(*sum));
                    if lane < task.lanes {
                        lutgemm::put::<_, false, 2>(task, row, lane, sums, !task.first, row_sum);
                    }
                }
                continue;
            }
            // Whole tiles by few decisions, for nearly all are.
            let kept = sink.kept(row, 0);
            let mut results = [[Zmm::zero(); 2]; NV];
            for (v, sum) in sums.iter().enumerate() {
                results[v] = apart(*sum);
            }
            if !task.first {
                for (v, result) in results.iter_mut().enumerate() {
                    let kept = kept.add(v * LANES);
                    result[0] = result[0].add(Zmm::load(kept));
                    result[1] = result[1].add(Zmm::load(kept.add(LANES / 2)));
                }
            }
            if !task.last {
                for (v, result) in results.iter().enumerate() {
                    let kept = kept.add(v * LANES);
                    result[0].store(kept, LANES / 2);
                    result[1].store(kept.add(LANES / 2), LANES / 2);
                }
                continue;
            }
            for (v, result) in results.iter_mut().enumerate() {
                let start = task.start.add(lane + v * LANES).cast::<u32>();
                let starts = [Zmm::load(start), Zmm::load(start.add(LANES / 2))];
                result[0] = result[0].shl(task.shift).add(starts[0].add(row_sum));
                result[1] = result[1].shl(task.shift).add(starts[1].add(row_sum));
            }
            sink.put_row(results.as_flattened(), row);
        }
    }
}

/// Even entries, which are the first half of the channels, and odd ones (see `lutweights`).
#[inline(always)]
unsafe fn apart(sums: __m512i) -> [Zmm; 2] {
    // SAFETY: values only; the features are the caller's.
    unsafe {
        [
            Zmm(_mm512_and_si512(sums, _mm512_set1_epi32(0xFFFF))),
            Zmm(_mm512_srli_epi32::<16>(sums)),
        ]
    }
}
