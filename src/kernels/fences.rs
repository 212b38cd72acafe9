//! Every kernel of every ISA with each input and output flush against a page that may not be touched, behind
//! it and before it: one byte read or written too far ends the process.
//!
//! Lengths are those at which a tail begins or ends. Results must equal those of the portable kernels, so what
//! ran is also right.

use std::ops::{Deref, DerefMut};
use std::ptr;

use super::bitgemm::Task;
use super::bytegemm::ByteTask;
use super::groupgemm::GroupTask;
use super::sink::Sink;
use super::tilecodes::TileCodes;
use super::*;
use crate::bits::PackedMatrix;
use crate::quant::{ActQuantizer, Granularity, Linear, QuantRelu, Quantizer, Rounding, Scales};
use codes::check_codes;

mod codes;
mod floats;
mod lines;
mod lut;
mod rows;

/// On which side of the data the closed page lies.
#[derive(Clone, Copy, Debug)]
enum Side {
    Before,
    Behind,
}

const SIDES: [Side; 2] = [Side::Before, Side::Behind];

/// A copy of a slice, flush against a page that may not be touched.
struct Fenced<T> {
    map: *mut libc::c_void,
    map_len: usize,
    data: *mut T,
    len: usize,
}

impl<T: Copy> Fenced<T> {
    fn new(from: &[T], side: Side) -> Self {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = size_of_val(from);
        let open = bytes.next_multiple_of(page);
        let map_len = open + 2 * page;
        // SAFETY: a new mapping; its first and last page stay closed, and what lies between is opened. `data`
        // keeps T's alignment: a page is a multiple of it, and so is a slice's length in bytes.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(ptr::null_mut(), map_len, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            let first = map.cast::<u8>().add(page);
            if open > 0 {
                let rights = libc::PROT_READ | libc::PROT_WRITE;
                assert_eq!(libc::mprotect(first.cast(), open, rights), 0);
            }
            let data = match side {
                Side::Before => first,
                Side::Behind => first.add(open - bytes),
            };
            let data = data.cast::<T>();
            ptr::copy_nonoverlapping(from.as_ptr(), data, from.len());
            Fenced {
                map,
                map_len,
                data,
                len: from.len(),
            }
        }
    }
}

impl<T> Deref for Fenced<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `new` has written `len` elements there, and they live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl<T> DerefMut for Fenced<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

impl<T> Drop for Fenced<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, whole.
        unsafe { libc::munmap(self.map, self.map_len) };
    }
}

/// Runs `check` on every ISA that is here, with fences on each side.
fn each(check: impl Fn(&Kernels, Side)) {
    for kernels in Kernels::available() {
        for side in SIDES {
            check(kernels, side);
        }
    }
}

fn portable() -> &'static Kernels {
    Kernels::of(Isa::Portable).expect("it runs everywhere")
}

/// Integers of an encoding, without a pattern that a lane could hide in.
fn values(e: Encoding, count: usize) -> Vec<i32> {
    let all: Vec<i32> = (0..=255).filter_map(|c| e.decode(c)).collect();
    (0..count).map(|i| all[i * i % 251 % all.len()]).collect()
}

fn packed(e: Encoding, rows: usize, cols: usize) -> PackedMatrix {
    PackedMatrix::pack(e, rows, cols, &values(e, rows * cols)).unwrap()
}

/// The product in i32, element by element.
fn product(w: &PackedMatrix, a: &PackedMatrix, row: usize, channel: usize) -> i32 {
    let k = w.cols();
    let (w, a) = (w.unpack(), a.unpack());
    let (w, a) = (&w[channel * k..][..k], &a[row * k..][..k]);
    w.iter().zip(a).map(|(w, a)| w * a).sum()
}

/// Each side of a word, and of the flush of byte counters.
const COLUMNS: [usize; 11] = [1, 31, 32, 33, 64, 65, 127, 129, 991, 993, 1025];

/// A fence that does not stop a child is none.
#[test]
fn one_byte_too_far_is_death() {
    for (side, at) in [(Side::Behind, 5isize), (Side::Before, -1)] {
        let fenced = Fenced::new(&[1u8; 5], side);
        // SAFETY: the child does nothing but restore a signal, read and leave; the read is of an address that
        // is mapped without rights, which is what is tested.
        let status = unsafe {
            let child = libc::fork();
            assert!(child >= 0);
            if child == 0 {
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                ptr::read_volatile(fenced.data.wrapping_offset(at));
                libc::_exit(0);
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            status
        };
        assert!(libc::WIFSIGNALED(status), "{side:?}: {status}");
        assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
    }
}

#[test]
fn bit_gemm_stays_inside() {
    let u2 = Encoding::unsigned(2).unwrap();
    each(|kernels, side| {
        let (mr, nr) = (kernels.mr, kernels.nr);
        for (we, e) in [
            (Encoding::Bipolar, Encoding::Bipolar),
            (Encoding::Ternary, Encoding::Bipolar),
            (Encoding::Bipolar, u2),
        ] {
            for k in COLUMNS {
                let (w, a) = (packed(we, nr, k), packed(e, mr + 1, k));
                let laid = BitWeights::new(w.view(), e, nr).unwrap();
                for (rows, lanes) in [(1, nr), (mr, nr - 1), (mr + 1, 1), (mr - 1, nr / 2 + 1)] {
                    check_bits(kernels, side, &laid, [&w, &a], [rows, lanes]);
                }
            }
            let (w, a) = (packed(we, nr, 70), packed(e, mr + 1, 70));
            let laid = BitWeights::new(w.view(), e, nr).unwrap();
            for rows in 1..=mr + 1 {
                for lanes in 1..=nr {
                    check_bits(kernels, side, &laid, [&w, &a], [rows, lanes]);
                }
            }
        }
    });
}

fn check_bits(
    kernels: &Kernels,
    side: Side,
    laid: &BitWeights,
    [w, a]: [&PackedMatrix; 2],
    [rows, lanes]: [usize; 2],
) {
    let algebra = &laid.algebra;
    let view = a.view().slice_rows(0..rows);
    let weights = Fenced::new(laid.panels.panels(0..1), side);
    let activations = Fenced::new(view.words(), side);
    let start = Fenced::new(&algebra.start[..kernels.nr], side);
    let ones = Fenced::new(&vec![1f32; kernels.nr], side);
    let zeros = Fenced::new(&vec![0f32; kernels.nr], side);
    let mut out = Fenced::new(&vec![0i32; rows * lanes], side);
    let mut floats = Fenced::new(&vec![0f32; rows * lanes], side);
    // The same rows, back to back and word by word through the tables.
    let k_words = words(view.cols());
    let starts: Vec<u32> = (0..rows)
        .map(|row| (row * view.row_words()) as u32)
        .collect();
    let columns: Vec<u32> = (0..k_words as u32).collect();
    let (starts, columns) = (Fenced::new(&starts, side), Fenced::new(&columns, side));
    let packed = PackedRef::packed_here(a.encoding(), rows, view.cols(), &activations);
    let found = BitRows::indirect(a.encoding(), &activations, &starts, k_words, &columns);
    let run_of = |activations: BitRows<'_>, sink: Sink, codes: Option<TileCodes>| {
        let task = Task {
            strip: Strip {
                weights: weights.as_ptr(),
                panel_words: weights.len(),
                start: start.as_ptr(),
                lanes,
                sink,
            },
            activations,
            words: k_words,
            columns: columns.as_ptr(),
            combine: algebra.combine,
            passes: &algebra.passes,
            falling: &algebra.falling,
            codes,
        };
        // SAFETY: the lengths of a task, as `Kernels::bitgemm` and `Kernels::bit_codes` make it.
        unsafe { (kernels.bitgemm)(&task) }
    };
    let run = |sink: Sink, codes: Option<TileCodes>| run_of(packed.into(), sink, codes);
    run_of(found, Sink::integers(out.as_mut_ptr(), lanes), None);
    let through_tables = out.to_vec();
    run(Sink::integers(out.as_mut_ptr(), lanes), None);
    assert_eq!(through_tables, *out, "{}: tables of rows", kernels.isa);
    let (ones, zeros) = (ones.as_ptr(), zeros.as_ptr());
    run(Sink::floats(floats.as_mut_ptr(), lanes, ones, zeros), None);
    if kernels.makes_codes() && lanes == kernels.nr {
        let name = format!("{} {side:?} k={}", kernels.isa, w.cols());
        let sum = |row: usize, lane: usize| out[row * lanes + lane];
        for classes in [false, true] {
            check_codes(&name, side, [rows, lanes], classes, sum, |codes| {
                run(Sink::integers(ptr::null_mut(), 0), Some(codes));
            });
        }
    }
    let corners = [(0, 0), (rows - 1, lanes - 1)];
    for (row, lane) in corners {
        let expected = product(w, a, row, lane);
        let at = row * lanes + lane;
        let name = format!("{} {side:?} {rows}x{lanes} k={}", kernels.isa, w.cols());
        assert_eq!((out[at], floats[at]), (expected, expected as f32), "{name}");
    }
}

#[test]
fn byte_gemm_stays_inside() {
    let weights = [
        Encoding::Bipolar,
        Encoding::signed(4).unwrap(),
        Encoding::signed(8).unwrap(),
    ];
    each(|kernels, side| {
        let Some(kernel) = kernels.bytegemm else {
            return;
        };
        let nr = kernel.lanes * kernel.vectors;
        for e in [Encoding::unsigned(8).unwrap(), Encoding::signed(8).unwrap()] {
            for we in weights {
                for k in [1, 3, 4, 5, 8, 67, 69, 340, 345] {
                    for (rows, lanes) in [(1, nr), (kernel.mr, nr - 1), (kernel.mr + 1, 1)] {
                        check_bytes(kernels, side, [we, e], [rows, lanes, k]);
                    }
                }
                // So many that fields are made bytes first.
                for (lanes, k) in [(nr, 67), (nr - 1, 1037), (1, 2061)] {
                    check_bytes(kernels, side, [we, e], [97, lanes, k]);
                }
                for rows in 1..=kernel.mr + 1 {
                    for lanes in (1..=nr).step_by(3) {
                        check_bytes(kernels, side, [we, e], [rows, lanes, 9]);
                    }
                }
            }
        }
    });
}

fn check_bytes(
    kernels: &Kernels,
    side: Side,
    [we, e]: [Encoding; 2],
    [rows, lanes, k]: [usize; 3],
) {
    let kernel = kernels.bytegemm.expect("a row with bytes");
    let (signed, nr) = (e.min() < 0, kernel.lanes * kernel.vectors);
    let (w, a) = (packed(we, lanes, k), packed(e, rows, k));
    let laid = ByteWeights::new(w.view(), signed, &kernel).unwrap();
    let stride = laid.row_bytes();
    let mut bytes = vec![0; rows * stride];
    portable().unpack(a.view(), stride, &mut bytes);
    let mut sums = vec![0; if laid.base() == 0 { 0 } else { rows }];
    if laid.base() != 0 {
        portable().byte_sums(&bytes, stride, signed, laid.base(), &mut sums);
    }
    let weights = Fenced::new(laid.panels(0..1), side);
    let bytes = Fenced::new(&bytes, side);
    let start = Fenced::new(&laid.start[..nr], side);
    let sums = Fenced::new(&sums, side);
    let mut out = Fenced::new(&vec![0i32; rows * lanes], side);
    let task = ByteTask {
        strip: Strip {
            weights: weights.as_ptr(),
            panel_words: weights.len(),
            start: start.as_ptr(),
            lanes,
            sink: Sink::integers(out.as_mut_ptr(), lanes),
        },
        bits: laid.bits,
        activations: bytes.as_ptr(),
        stride,
        words: stride / 4,
        rows,
        signed,
        row_sums: match sums.is_empty() {
            true => ptr::null(),
            false => sums.as_ptr(),
        },
    };
    // SAFETY: the lengths of a task, as `ByteKernel::run` makes it.
    unsafe { (kernel.run)(&task) }
    for (row, lane) in [(0, 0), (rows - 1, lanes - 1)] {
        let expected = product(&w, &a, row, lane);
        let name = format!("{} {side:?} {we} x {e} {rows}x{lanes} k={k}", kernels.isa);
        assert_eq!(out[row * lanes + lane], expected, "{name}");
    }
}

#[test]
fn group_gemm_stays_inside() {
    let s4 = Encoding::signed(4).unwrap();
    each(|kernels, side| {
        let kernel = kernels.groupgemm;
        let nr = kernel.lanes * kernel.vectors;
        for e in [Encoding::unsigned(8).unwrap(), Encoding::signed(8).unwrap()] {
            for we in [Encoding::Bipolar, s4, Encoding::signed(8).unwrap()] {
                for k in [1, 31, 32, 33, 67, 101] {
                    for (rows, lanes) in [(1, nr), (kernel.mr, nr - 1), (kernel.mr + 1, 1)] {
                        check_groups(kernels, side, [we, e], [rows, lanes, k]);
                    }
                }
            }
        }
    });
}

fn check_groups(
    kernels: &Kernels,
    side: Side,
    [we, e]: [Encoding; 2],
    [rows, lanes, k]: [usize; 3],
) {
    let (kernel, group) = (kernels.groupgemm, 32);
    let (signed, nr, groups) = (e.min() < 0, kernel.lanes * kernel.vectors, k.div_ceil(32));
    let (w, a) = (packed(we, lanes, k), packed(e, rows, k));
    let scales = vec![1f32; lanes * groups];
    let scales = Scales::new(Granularity::Group(group), scales).unwrap();
    let laid = GroupWeights::new(w.view(), &scales, signed, &kernel).unwrap();
    let stride = laid.row_bytes();
    let mut bytes = vec![0; rows * stride];
    portable().unpack(a.view(), stride, &mut bytes);
    let mut sums = Vec::new();
    for row in bytes.chunks(stride) {
        for group in row.chunks(group) {
            let mut sum = [0];
            portable().byte_sums(group, group.len(), signed, laid.base(), &mut sum);
            sums.extend(sum);
        }
    }
    let (scales, weight_sums) = laid.panel_groups(0);
    let weights = Fenced::new(laid.bytes.panels(0..1), side);
    let bytes = Fenced::new(&bytes, side);
    let (scales, weight_sums) = (Fenced::new(scales, side), Fenced::new(weight_sums, side));
    let (sums, zero_points) = (Fenced::new(&sums, side), Fenced::new(&vec![3; rows], side));
    let row_scale = Fenced::new(&vec![2f32; rows], side);
    let bias = Fenced::new(&vec![5f32; nr], side);
    let mut out = Fenced::new(&vec![0f32; rows * lanes], side);
    let task = GroupTask {
        weights: weights.as_ptr(),
        bits: laid.bytes.field_bits(),
        activations: bytes.as_ptr(),
        stride,
        words: stride / 4,
        rows,
        signed,
        group: group / 4,
        groups,
        scales: scales.as_ptr(),
        weight_sums: weight_sums.as_ptr(),
        zero_points: zero_points.as_ptr(),
        zero_step: 1,
        row_sums: sums.as_ptr(),
        row_scale: row_scale.as_ptr(),
        bias: bias.as_ptr(),
        lanes,
        out: out.as_mut_ptr(),
        out_stride: lanes,
    };
    // SAFETY: the lengths of a task, as `GroupKernel::run` makes it.
    unsafe { (kernel.run)(&task) }
    for (row, lane) in [(0, 0), (rows - 1, lanes - 1)] {
        let weights: i32 = w.unpack()[lane * k..][..k].iter().sum();
        let sum = product(&w, &a, row, lane) - 3 * weights;
        let name = format!("{} {side:?} {we} x {e} {rows}x{lanes} k={k}", kernels.isa);
        assert_eq!(out[row * lanes + lane], (2 * sum + 5) as f32, "{name}");
    }
}
