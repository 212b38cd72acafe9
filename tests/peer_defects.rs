//! Defects of other libraries for low-bit products, each as a test that qcore would fail if it had it.
//!
//! Through the public API alone, on every ISA of this machine. The first lines of a test say whose defect it is.

use std::thread;

use qcore::bits::{ByteRef, Encoding, PackedMatrix, PackedRef};
use qcore::isa::Isa;
use qcore::kernels::Kernels;
use qcore::ops::{Epilogue, Gemm, Par, Pool, Thresholds, quantize};
use qcore::quant::{ActQuantizer, QuantRelu, Rounding};

fn unsigned(bits: usize) -> Encoding {
    Encoding::unsigned(bits).unwrap()
}

fn signed(bits: usize) -> Encoding {
    Encoding::signed(bits).unwrap()
}

/// All elements `value`.
fn constant(e: Encoding, rows: usize, cols: usize, value: i32) -> PackedMatrix {
    PackedMatrix::pack(e, rows, cols, &vec![value; rows * cols]).unwrap()
}

/// Values that look random, each of the encoding.
fn random(e: Encoding, rows: usize, cols: usize, seed: u64) -> PackedMatrix {
    let values: Vec<i32> = (0..=255).filter_map(|code| e.decode(code)).collect();
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        values[(state >> 33) as usize % values.len()]
    };
    let values: Vec<i32> = (0..rows * cols).map(|_| next()).collect();
    PackedMatrix::pack(e, rows, cols, &values).unwrap()
}

fn naive(w: &PackedMatrix, a: &PackedMatrix) -> Vec<i32> {
    let (wv, av, k) = (w.unpack(), a.unpack(), w.cols());
    let dot = |m: usize, n: usize| (0..k).map(|c| wv[n * k + c] * av[m * k + c]).sum();
    (0..a.rows() * w.rows())
        .map(|i| dot(i / w.rows(), i % w.rows()))
        .collect()
}

/// A product on one thread; activations as planes, and as bytes where they have such a form. Both must agree.
fn product(isa: Isa, w: &PackedMatrix, a: &PackedMatrix) -> Vec<i32> {
    let gemm = Gemm::on(isa, w.view(), a.encoding(), Epilogue::None).unwrap();
    let mut out = vec![0x5a5a; a.rows() * w.rows()];
    let mut scratch = vec![-1; gemm.scratch_len(a.rows())];
    gemm.run_i32(a.view(), 0..a.rows(), &mut out, &mut scratch, Par::Caller)
        .unwrap();
    if a.encoding() != Encoding::Bipolar {
        let bytes: Vec<u8> = a.unpack().iter().map(|&v| v as u8).collect();
        let bytes = ByteRef::new(a.encoding(), a.rows(), a.cols(), &bytes).unwrap();
        let mut again = vec![0x5a5a; out.len()];
        let mut scratch = vec![-1; gemm.scratch_len_bytes(a.rows())];
        gemm.run_i32(bytes, 0..a.rows(), &mut again, &mut scratch, Par::Caller)
            .unwrap();
        assert_eq!(out, again, "{isa}: planes and bytes");
    }
    out
}

/// Constant operands, whose product is known: in one row and in many, in one channel, a panel and many.
fn assert_constant(
    we: Encoding,
    w: i32,
    ae: Encoding,
    a: i32,
    ks: impl IntoIterator<Item = usize>,
) {
    for k in ks {
        for (n, m) in [(1, 1), (32, 1), (70, 9), (260, 5)] {
            let (weights, activations) = (constant(we, n, k, w), constant(ae, m, k, a));
            for isa in Isa::available() {
                let got = product(isa, &weights, &activations);
                let want = w * a * k as i32;
                let wrong = got.iter().find(|&&sum| sum != want);
                assert_eq!(
                    wrong, None,
                    "{isa}: {we} {w} x {ae} {a}, {n}x{m}x{k}, not {want}"
                );
            }
        }
    }
}

#[test]
fn bitnet_mad_sums_of_pairs_wrap_in_sixteen_bits() {
    // BitNet's AVX2 dot product adds 32 x 4 pairs of up to 2 x 2 x 127 in 16 bits before it widens: all codes 2,
    // K = 4096, a = 127 gives -8,192 there instead of 1,040,384.
    let ks = [128, 4096, 8192 + 31];
    assert_constant(unsigned(2), 2, signed(8), 127, ks);
    assert_constant(unsigned(2), 3, signed(8), -128, ks);
    assert_constant(unsigned(2), 3, unsigned(8), 255, ks);
    for w in [-1, 1] {
        assert_constant(Encoding::Ternary, w, signed(8), -128, ks);
        assert_constant(Encoding::Ternary, w, signed(8), 127, ks);
        assert_constant(Encoding::Bipolar, w, unsigned(8), 255, ks);
    }
    assert_constant(signed(8), -128, signed(8), -128, ks);
    assert_constant(unsigned(8), 255, unsigned(8), 255, ks);
    // What was given there, so that nobody thinks the test too easy.
    let pairs = (0..128).fold(0i16, |sum, _| sum.wrapping_add(2 * 2 * 127));
    assert_ne!(i32::from(pairs), 128 * 2 * 2 * 127);
}

#[test]
fn bitnet_layout_of_packed_weights_depends_on_the_machine() {
    // BitNet writes blocks of 128 on x86 and of 64 on Arm into the same file format. Here words are defined bit
    // by bit: planes of a row one after the other, K along the bits, little end first, tail bits zero.
    let values: Vec<i32> = (0..2 * 37).map(|i| i * 5 % 4).collect();
    let packed = PackedMatrix::pack(unsigned(2), 2, 37, &values).unwrap();
    let mut words = vec![0u32; 2 * 2 * 2];
    for (i, v) in values.iter().enumerate() {
        let (row, col) = (i / 37, i % 37);
        for plane in 0..2 {
            words[(row * 2 + plane) * 2 + col / 32] |= (*v as u32 >> plane & 1) << (col % 32);
        }
    }
    assert_eq!(packed.view().words(), words);
    // And whoever packs from floats, on whatever ISA, writes the same words.
    let floats: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    let q = ActQuantizer::Relu(QuantRelu::new(2, 1.0, Rounding::Nearest).unwrap());
    for kernels in Kernels::available() {
        let mut out = PackedMatrix::zeros(unsigned(2), 2, 37).unwrap();
        quantize(kernels, &floats, q, &mut out, Par::Caller).unwrap();
        assert_eq!(out.view().words(), words, "{}", kernels.isa());
    }
}

/// K around every multiple of `step` up to `last`.
fn around(step: usize, last: usize) -> impl Iterator<Item = usize> {
    (step..=last).step_by(step).flat_map(|k| [k - 1, k, k + 1])
}

#[test]
fn gemmbitserial_byte_counters_wrap_for_want_of_a_flush() {
    // Its NEON kernel asks `(d & 7) == 7` of a d that steps by 2: counters of 8 bits are never flushed, and wrap
    // after 31 steps of 128 bits.
    let ks = || around(31 * 128, 31 * 128 * 3).chain(around(31 * 256, 31 * 512));
    assert_constant(unsigned(1), 1, unsigned(1), 1, ks());
    assert_constant(Encoding::Bipolar, 1, Encoding::Bipolar, -1, ks());
    assert_constant(
        unsigned(2),
        3,
        unsigned(2),
        3,
        [31 * 128 - 1, 31 * 128, 31 * 128 + 1, 20_000],
    );
}

#[test]
fn bolt_a_count_of_256_saturates_a_byte() {
    // "Assume 256 will not happen": 32 steps that count 8 bits each, all ones, are 256 and stand as 255.
    let ks = || {
        around(256, 2048)
            .chain(around(4096, 8192))
            .chain(around(512 * 32, 512 * 32))
    };
    assert_constant(Encoding::Bipolar, 1, Encoding::Bipolar, 1, ks());
    assert_constant(unsigned(1), 1, unsigned(1), 1, ks());
    assert_constant(Encoding::Ternary, 1, Encoding::Bipolar, 1, ks());
    assert_constant(Encoding::Bipolar, -1, unsigned(4), 15, around(256, 1024));
}

#[test]
fn blueoil_asks_for_a_multiple_of_32_and_few_taps() {
    // It asserts `kh * kw < 32` against overflow and takes input channels in multiples of 32 alone.
    let pairs = [
        (Encoding::Bipolar, Encoding::Bipolar),
        (Encoding::Bipolar, unsigned(2)),
        (Encoding::Ternary, signed(8)),
    ];
    for (we, ae) in pairs {
        for k in (1..=66).chain([33 * 3, 7 * 7 * 3, 49 * 129, 121 * 65]) {
            let (w, a) = (random(we, 35, k, k as u64), random(ae, 3, k, 5));
            let want = naive(&w, &a);
            for isa in Isa::available() {
                assert_eq!(product(isa, &w, &a), want, "{isa}: {we} x {ae}, K = {k}");
            }
        }
    }
}

#[test]
fn dabnn_one_static_buffer_for_all_callers() {
    // `static uint64_t packedA[128000]` serves every call: two threads spoil each other's, and 8 M bits are the
    // most that fits. Here plans are shared and scratch belongs to the caller.
    let e = unsigned(4);
    let (w, a) = (
        random(Encoding::Bipolar, 300, 700, 1),
        random(e, 40, 700, 2),
    );
    let want = naive(&w, &a);
    for isa in Isa::available() {
        let gemm = Gemm::on(isa, w.view(), e, Epilogue::None).unwrap();
        thread::scope(|scope| {
            for part in 0..4 {
                let (gemm, a, want) = (&gemm, &a, &want);
                scope.spawn(move || {
                    let rows = part * 10..part * 10 + 10;
                    let mut out = vec![0; 10 * 300];
                    let mut scratch = vec![0; gemm.scratch_len(10)];
                    for _ in 0..10 {
                        out.fill(7);
                        gemm.run_i32(a.view(), rows.clone(), &mut out, &mut scratch, Par::Caller)
                            .unwrap();
                        assert_eq!(out, want[rows.start * 300..rows.end * 300], "{isa}");
                    }
                });
            }
        });
    }
    // 128,000 words of 64 bits and more.
    let (rows, k) = (2100, 4096);
    let (w, a) = (
        random(Encoding::Bipolar, 1, k, 3),
        random(Encoding::Bipolar, rows, k, 4),
    );
    assert!(size_of_val(a.view().words()) > 128_000 * 8);
    assert_eq!(product(Isa::best(), &w, &a), naive(&w, &a));
}

#[test]
fn dabnn_two_packers_with_two_meanings_of_a_bit() {
    // Its SIMD packer takes the sign bit, so 1 is negative and so is -0.0; its scalar packer takes x > 0. Here
    // one rule holds in vectors and tails alike: x >= 0 is +1, and -0.0 too; NaN of either sign is -1.
    let odd = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MIN_POSITIVE / 4.0,
        -f32::MIN_POSITIVE / 4.0,
        f32::MAX,
        f32::MIN,
    ];
    for cols in [1, 31, 32, 33, 64, 257, 515] {
        let x: Vec<f32> = (0..3 * cols).map(|i| odd[i * 7 % odd.len()]).collect();
        let want: Vec<i32> = x.iter().map(|&x| if x >= 0.0 { 1 } else { -1 }).collect();
        for kernels in Kernels::available() {
            let mut out = PackedMatrix::zeros(Encoding::Bipolar, 3, cols).unwrap();
            quantize(kernels, &x, ActQuantizer::Sign, &mut out, Par::Caller).unwrap();
            assert_eq!(out.unpack(), want, "{}: {cols} columns", kernels.isa());
            assert_eq!(
                out,
                PackedMatrix::pack(Encoding::Bipolar, 3, cols, &want).unwrap()
            );
        }
    }
}

/// Copies of slices that end where the process may not read on, or begin where it may not read before.
#[cfg(target_os = "linux")]
mod fence {
    use std::{ptr, slice};

    /// A copy in pages of its own, which are never given back: the test process is short.
    pub fn fenced<T: Copy>(from: &[T], behind: bool) -> &'static mut [T] {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = size_of_val(from);
        let open = bytes.next_multiple_of(page).max(page);
        // SAFETY: a new mapping with a closed page at each end; the copy lies in the open pages between, flush
        // with their end or their start, aligned for T, as pages and the length are. Nobody else has it.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(
                ptr::null_mut(),
                open + 2 * page,
                libc::PROT_NONE,
                flags,
                -1,
                0,
            );
            assert_ne!(map, libc::MAP_FAILED);
            let first = map.cast::<u8>().add(page);
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(first.cast(), open, rights), 0);
            let at = first.add(if behind { open - bytes } else { 0 }).cast::<T>();
            ptr::copy_nonoverlapping(from.as_ptr(), at, from.len());
            slice::from_raw_parts_mut(at, from.len())
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn larq_and_xnnpack_read_beyond_the_operands() {
    // LCE wants 16 readable bytes behind its operands, XNNPACK up to XNN_EXTRA_BYTES. Here the next byte may be
    // one that ends the process, on either side of every buffer.
    use fence::fenced;
    let pairs = [
        (Encoding::Bipolar, Encoding::Bipolar),
        (Encoding::Ternary, Encoding::Bipolar),
        (Encoding::Bipolar, unsigned(4)),
        (Encoding::Ternary, signed(8)),
        (signed(8), signed(8)),
    ];
    for (we, ae) in pairs {
        for (n, m, k) in [
            (1, 1, 1),
            (3, 2, 33),
            (33, 7, 65),
            (257, 5, 515),
            (300, 1, 1030),
        ] {
            let (w, a) = (random(we, n, k, 8), random(ae, m, k, 9));
            let want = naive(&w, &a);
            let codes: Vec<u8> = a.unpack().iter().map(|&v| v as u8).collect();
            for (isa, behind) in Isa::available().flat_map(|isa| [(isa, false), (isa, true)]) {
                let words = fenced(w.view().words(), behind);
                let weights = PackedRef::new(we, n, k, words).unwrap();
                let gemm = Gemm::on(isa, weights, ae, Epilogue::None).unwrap();
                let words = fenced(a.view().words(), behind);
                let planes = PackedRef::new(ae, m, k, words).unwrap();
                let out = fenced(&vec![0; m * n], behind);
                let scratch = fenced(&vec![0; gemm.scratch_len(m)], behind);
                gemm.run_i32(planes, 0..m, out, scratch, Par::Caller)
                    .unwrap();
                assert_eq!(out, want, "{isa}: {we} x {ae}");
                if ae != Encoding::Bipolar {
                    let bytes = ByteRef::new(ae, m, k, fenced(&codes, behind)).unwrap();
                    let scratch = fenced(&vec![0; gemm.scratch_len_bytes(m)], behind);
                    out.fill(0);
                    gemm.run_i32(bytes, 0..m, out, scratch, Par::Caller)
                        .unwrap();
                    assert_eq!(out, want, "{isa}: {we} x {ae}, bytes");
                }
            }
        }
    }
    let floats: Vec<f32> = (0..5 * 67).map(|i| i as f32 - 100.0).collect();
    for (kernels, behind) in Kernels::available().flat_map(|k| [(k, false), (k, true)]) {
        let mut out = PackedMatrix::zeros(Encoding::Bipolar, 5, 67).unwrap();
        quantize(
            kernels,
            fenced(&floats, behind),
            ActQuantizer::Sign,
            &mut out,
            Par::Caller,
        )
        .unwrap();
    }
}

#[test]
fn larq_thresholds_by_another_formula_than_the_floats() {
    // LCE computes a threshold as floor((b / |g| + a) / 2) in floats, which need not be where the floats of the
    // layer change sign. Here the codes are those of the floats for every sum, slopes of either sign and none.
    let bound = 40_000;
    let scale = [0.1f32, -0.1, 1e-3, -7.7e-5, 0.3333333, 0.0, 1.0];
    let bias = [0.5f32, 0.3, -0.7, 1.0, -100.000_01, 0.25, -3.0];
    let relu =
        |bits, alpha| ActQuantizer::Relu(QuantRelu::new(bits, alpha, Rounding::Nearest).unwrap());
    let n = scale.len();
    for q in [ActQuantizer::Sign, relu(1, 0.3), relu(2, 0.1), relu(4, 0.7)] {
        let thresholds = Thresholds::derive(&q, &scale, &bias, bound).unwrap();
        let all: Vec<i32> = (-bound..=bound).collect();
        let sums: Vec<i32> = all.iter().flat_map(|&s| [s; 7]).collect();
        let want = sums.iter().enumerate().map(|(i, &sum)| {
            let code = q.code(sum as f32 * scale[i % n] + bias[i % n]);
            q.encoding().decode(code).unwrap()
        });
        let want: Vec<i32> = want.collect();
        for kernels in Kernels::available() {
            let mut out = PackedMatrix::zeros(q.encoding(), all.len(), n).unwrap();
            thresholds.run(kernels, &sums, &mut out).unwrap();
            assert!(out.unpack() == want, "{}: {q:?}", kernels.isa());
        }
    }
}

#[test]
fn tmac_results_depend_on_the_kernel_that_was_chosen() {
    // T-MAC rounds its tables to 8 bits, so whether tables are used shows in the result. Here the kernel is a
    // matter of speed: integers are exact, and floats are the same, whatever N and ISA choose.
    let k = 777;
    for bits in [2, 3, 4, 8] {
        let e = unsigned(bits);
        let (all, a) = (random(Encoding::Bipolar, 1100, k, 5), random(e, 6, k, 6));
        let want = naive(&all, &a);
        let mut ways = std::collections::BTreeSet::new();
        for n in [1, 40, 300, 1100] {
            let w = all.view().slice_rows(0..n);
            let epilogue = || Epilogue::ScaleBias {
                scale: (0..n).map(|i| 0.1 + i as f32 * 0.01).collect(),
                bias: (0..n).map(|i| 0.7 - i as f32 * 0.03).collect(),
            };
            for isa in Isa::available() {
                let gemm = Gemm::on(isa, w, e, epilogue()).unwrap();
                ways.insert(gemm.describe());
                let mut scratch = vec![0; gemm.scratch_len(6)];
                let (mut sums, mut floats) = (vec![0; 6 * n], vec![0.0; 6 * n]);
                gemm.run_i32(a.view(), 0..6, &mut sums, &mut scratch, Par::Caller)
                    .unwrap();
                gemm.run_f32(a.view(), 0..6, &mut floats, &mut scratch, Par::Caller)
                    .unwrap();
                for i in 0..6 * n {
                    let (row, lane) = (i / n, i % n);
                    let sum = want[row * 1100 + lane];
                    assert_eq!(sums[i], sum, "{isa}: u{bits}, N = {n}");
                    let scaled = sum as f32 * (0.1 + lane as f32 * 0.01);
                    assert_eq!(
                        floats[i],
                        scaled + (0.7 - lane as f32 * 0.03),
                        "{isa}: u{bits}, N = {n}"
                    );
                }
            }
        }
        // More than one kernel took part, or nothing was compared.
        assert!(ways.len() > 1, "{ways:?}");
    }
}

#[test]
fn bmxnet_puts_the_result_on_the_stack_and_nests_threads() {
    // BMXNet keeps M x N integers on the stack, and opens a parallel region inside a parallel region. Here a
    // thread with little stack multiplies much, and a product may start in the pool that it runs on.
    let e = unsigned(2);
    let (w, a) = (
        random(Encoding::Bipolar, 600, 300, 1),
        random(e, 700, 300, 2),
    );
    let want = naive(&w, &a);
    let run = |gemm: &Gemm, par: Par<'_>| {
        let mut out = vec![0; 700 * 600];
        let mut scratch = vec![0; gemm.scratch_len(700)];
        gemm.run_i32(a.view(), 0..700, &mut out, &mut scratch, par)
            .unwrap();
        out == want
    };
    let pool = Pool::new(2).unwrap();
    for isa in Isa::available() {
        let gemm = Gemm::on(isa, w.view(), e, Epilogue::None).unwrap();
        // The result takes 1.6 MiB.
        thread::scope(|scope| {
            let small = thread::Builder::new().stack_size(256 << 10);
            let (gemm, run) = (&gemm, &run);
            let handle = small
                .spawn_scoped(scope, move || run(gemm, Par::Caller))
                .unwrap();
            assert!(handle.join().unwrap(), "{isa}");
        });
        assert!(
            pool.install(|| run(&gemm, Par::Pool(&pool))),
            "{isa}: in its own pool"
        );
    }
}
