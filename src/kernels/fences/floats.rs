//! The kernels of float activations between fences.

use super::*;
use crate::kernels::floatgemm::{FloatTask, PAIR};
use crate::kernels::floatsources::Decoding;
use crate::kernels::floatsums::Tables;
use crate::quant::{Granularity, Scales};

#[test]
fn float_gemm_stays_inside() {
    let encodings = ["bipolar", "u1", "ternary", "s4", "u8", "s8"];
    each(|kernels, side| {
        let kernel = kernels.float_kernel();
        let nr = kernel.nr();
        for name in encodings {
            let e: Encoding = name.parse().unwrap();
            for k in [1, 3, 4, 31, 33, 65] {
                for rows in [1, 2, 3, 5, 8] {
                    for lanes in [1, kernel.lanes - 1, kernel.lanes + 1, nr - 1, nr] {
                        match e.planes() <= kernel.looked[0] {
                            true => check_look_up(kernels, side, e, [rows, lanes, k]),
                            false => check_direct(kernels, side, e, [rows, lanes, k]),
                        }
                    }
                }
                if e.planes() <= kernel.looked[1] {
                    continue;
                }
                for rows in 1..=kernel.mr + 1 {
                    for lanes in [1, kernel.lanes, kernel.lanes + 1, kernel.pair()] {
                        check_tiles(kernels, side, e, [rows, lanes, k]);
                    }
                }
            }
        }
    });
}

fn floats(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i * 37 % 101) as f32 / 16.0 - 3.0)
        .collect()
}

/// Weights of one panel with scales of 1, and without a bias; sums of small multiples of 1/16 are exact.
fn laid(kernels: &Kernels, e: Encoding, lanes: usize, k: usize) -> (PackedMatrix, FloatWeights) {
    let weights = packed(e, lanes, k);
    let scales = Scales::new(Granularity::Tensor, vec![1f32]).unwrap();
    let laid = FloatWeights::new(weights.view(), &scales, None, kernels.float_kernel()).unwrap();
    (weights, laid)
}

fn task<'a>(
    laid: &'a FloatWeights,
    [rows, lanes, columns]: [usize; 3],
    [scales, bias]: [&[f32]; 2],
    out: &mut [f32],
) -> FloatTask<'a> {
    FloatTask {
        plain: ptr::null(),
        words: ptr::null(),
        bits: laid.bits(),
        signed: laid.signed(),
        decode: laid.decode(),
        activations: ptr::null(),
        stride: 0,
        rows,
        columns,
        group: usize::MAX / 2,
        grouped: false,
        scales: scales.as_ptr(),
        scale_step: laid.nr(),
        bias: bias.as_ptr(),
        first: true,
        last: true,
        lanes,
        out: out.as_mut_ptr(),
        out_stride: lanes,
    }
}

/// Every element of the result.
fn check(what: &str, w: &PackedMatrix, a: &[f32], stride: usize, out: &[f32]) {
    let (lanes, k, w) = (w.rows(), w.cols(), w.unpack());
    for (at, &got) in out.iter().enumerate() {
        let (row, lane) = (at / lanes, at % lanes);
        let pairs = w[lane * k..][..k].iter().zip(&a[row * stride..][..k]);
        let expected: f32 = pairs.map(|(&w, &a)| w as f32 * a).sum();
        assert_eq!(got, expected, "{what} [{row}, {lane}]");
    }
}

fn check_direct(kernels: &Kernels, side: Side, e: Encoding, [rows, lanes, k]: [usize; 3]) {
    let kernel = kernels.float_kernel();
    let (w, laid) = laid(kernels, e, lanes, k);
    let columns = k.next_multiple_of(32 / laid.bits());
    let len = columns / (32 / laid.bits()) * laid.nr();
    let words = Fenced::new(&laid.words(0, 0)[..len], side);
    let mut a = floats(rows * columns);
    for row in a.chunks_exact_mut(columns) {
        row[k..].fill(0.0);
    }
    let a = Fenced::new(&a, side);
    let scales = Fenced::new(&laid.scales(0, 0)[..laid.nr()], side);
    let bias = Fenced::new(laid.bias(), side);
    let mut out = Fenced::new(&vec![f32::NAN; rows * lanes], side);
    let mut task = task(&laid, [rows, lanes, columns], [&scales, &bias], &mut out);
    (task.words, task.activations, task.stride) = (words.as_ptr(), a.as_ptr(), columns);
    // SAFETY: the lengths of a task, as `FloatKernel::direct` makes it.
    unsafe { (kernel.direct)(&task) }
    let what = format!("{} {side:?} {e} direct {rows}x{lanes} k={k}", kernels.isa);
    check(&what, &w, &a, columns, &out);
}

fn check_look_up(kernels: &Kernels, side: Side, e: Encoding, [rows, lanes, k]: [usize; 3]) {
    let kernel = kernels.float_kernel();
    let (w, laid) = laid(kernels, e, lanes, k);
    let there = k.next_multiple_of(32);
    let mut a = floats(rows * there);
    for row in a.chunks_exact_mut(there) {
        row[k..].fill(0.0);
    }
    let len = kernel.tables_len(&laid, there);
    let mut tables = Fenced::new(&vec![f32::NAN; rows * len], side);
    for (a, tables) in a.chunks_exact(there).zip(tables.chunks_exact_mut(len)) {
        let a = Fenced::new(a, side);
        let mut table = Fenced::new(tables, side);
        let task = Tables {
            activations: a.as_ptr(),
            columns: there,
            bits: laid.bits(),
            decode: laid.decode(),
            out: table.as_mut_ptr(),
        };
        // SAFETY: the lengths of a task, as `FloatKernel::tables` makes it.
        unsafe { (kernel.tables)(&task) }
        tables.copy_from_slice(&table);
    }
    let columns = k.next_multiple_of(32 / laid.bits());
    let len_words = columns / (32 / laid.bits()) * laid.nr();
    // A word more than weights.
    let words = Fenced::new(&laid.words(0, 0)[..len_words + 1], side);
    let scales = Fenced::new(&laid.scales(0, 0)[..laid.nr()], side);
    let bias = Fenced::new(laid.bias(), side);
    let mut out = Fenced::new(&vec![f32::NAN; rows * lanes], side);
    let mut task = task(&laid, [rows, lanes, columns], [&scales, &bias], &mut out);
    (task.words, task.activations, task.stride) = (words.as_ptr(), tables.as_ptr(), len);
    // SAFETY: the lengths of a task, as `FloatKernel::look_up` makes it.
    unsafe { (kernel.look_up)(&task) }
    let what = format!("{} {side:?} {e} look-ups {rows}x{lanes} k={k}", kernels.isa);
    check(&what, &w, &a, there, &out);
}

fn check_tiles(kernels: &Kernels, side: Side, e: Encoding, [rows, lanes, k]: [usize; 3]) {
    let kernel = kernels.float_kernel();
    let (w, laid) = laid(kernels, e, lanes, k);
    let pair = kernel.pair();
    let word = 32 / laid.bits();
    let columns = k.next_multiple_of(word);
    // The last word of the first pair of vectors ends here.
    let len = (columns / word - 1) * laid.nr() + pair;
    let words = Fenced::new(&laid.words(0, 0)[..len], side);
    let mut plain = Fenced::new(&vec![f32::NAN; columns * pair], side);
    let decoding = Decoding {
        words: words.as_ptr(),
        bits: laid.bits(),
        signed: laid.signed(),
        decode: laid.decode(),
        columns,
        out: plain.as_mut_ptr(),
    };
    // SAFETY: the lengths of a task, as `FloatKernel::decode` makes it.
    unsafe { (kernel.decode)(&decoding) }
    // Weights of two bits are read in pairs.
    let unit = if laid.bits() == 2 { 2 } else { 1 };
    let there = k.next_multiple_of(unit);
    let plain = Fenced::new(&plain[..there * PAIR * kernel.lanes], side);
    let mut a = floats((rows - 1) * STRIDE + there);
    for row in a.chunks_mut(STRIDE).filter(|_| there > k) {
        row[k] = 0.0;
    }
    let a = Fenced::new(&a, side);
    let scales = Fenced::new(&laid.scales(0, 0)[..pair], side);
    let bias = Fenced::new(&laid.bias()[..pair], side);
    // Once whole, and once in two blocks, of which the second takes up what the first has left.
    for at in [there, there / 2 / unit * unit] {
        let mut out = Fenced::new(&vec![f32::NAN; rows * lanes], side);
        let mut task = task(&laid, [rows, lanes, at], [&scales, &bias], &mut out);
        (task.plain, task.activations, task.stride) = (plain.as_ptr(), a.as_ptr(), STRIDE);
        task.last = at == there;
        // SAFETY: the lengths of a task, as `FloatKernel::tiles` makes it.
        unsafe { (kernel.tiles)(&task) }
        if at < there {
            (task.first, task.last, task.columns) = (false, true, there - at);
            task.plain = plain[at * pair..].as_ptr();
            task.activations = a[at..].as_ptr();
            // SAFETY: as above.
            unsafe { (kernel.tiles)(&task) }
        }
        let what = format!("{} {side:?} {e} tiles {rows}x{lanes} k={k}", kernels.isa);
        check(&what, &w, &a, STRIDE, &out);
    }
}
