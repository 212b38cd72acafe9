//! Work along a row, element by element: what turns sums into floats, codes into floats, and codes into the
//! greater codes.
//!
//! Plain loops over slices, which each ISA compiles with its own features: the compiler finds the vectors, and
//! the results are those of the plain loops, because no loop sums across elements and no product is contracted
//! with a sum.

#[cfg(target_arch = "x86_64")]
use super::avx512::max::{self, Pixels};
use super::depthwise::{self, DepthwiseTask};

/// What becomes of a float after scale and bias, element by element; slices are as long as the row.
#[derive(Clone, Copy)]
pub(crate) enum Function<'a> {
    /// Nothing.
    None,
    /// y if y > 0, else 0.
    Relu,
    /// y if y >= 0, else slope y.
    PRelu(&'a [f32]),
    /// prelu(y - before) + after.
    RPRelu {
        before: &'a [f32],
        slope: &'a [f32],
        after: &'a [f32],
    },
    /// y, but at least `low` and at most `high`.
    Clamp { low: f32, high: f32 },
}

/// What a kernel does along a row. All slices of one task are equally long unless it says otherwise.
pub(crate) enum RowTask<'a> {
    /// Each sum of any number of rows becomes the bits of a float: scale and bias, then `residual` if it comes `first`,
    /// then the function, then `residual` if it comes last. A row is as long as `scale`; `residual` is as long as
    /// `sums`. `floats`: the sums are the bits of floats already.
    Finish {
        sums: &'a mut [i32],
        floats: bool,
        scale: &'a [f32],
        bias: &'a [f32],
        residual: Option<&'a [f32]>,
        first: bool,
        function: Function<'a>,
    },
    /// The floats `scale * integer` of codes that are bytes; the integer of a byte, signed or not, is
    /// `apart * byte + low`.
    Values {
        codes: &'a [u8],
        signed: bool,
        apart: i32,
        low: i32,
        scale: f32,
        out: &'a mut [f32],
    },
    /// Adds bytes, signed or not, to sums.
    Accumulate {
        codes: &'a [u8],
        signed: bool,
        sums: &'a mut [i32],
    },
    /// The greater of two codes, into `into`, of pixels that are `pixel` words long: planes of equal length. Those of `from` lie
    /// `step` words apart. `signed`: the last plane is that of the sign.
    Max {
        planes: usize,
        signed: bool,
        pixel: usize,
        step: usize,
        from: &'a [u32],
        into: &'a mut [u32],
    },
    /// The greater of two floats, into `into`; a NaN is less than every float. Pixels as in `Max`.
    MaxFloats {
        pixel: usize,
        step: usize,
        from: &'a [f32],
        into: &'a mut [f32],
    },
    /// The greater of two bytes, signed or not, into `into`. Pixels as in `Max`.
    MaxBytes {
        signed: bool,
        pixel: usize,
        step: usize,
        from: &'a [u8],
        into: &'a mut [u8],
    },
    /// Adds floats to floats.
    AddFloats {
        from: &'a [f32],
        into: &'a mut [f32],
    },
    /// Adds the products of a depthwise convolution to sums.
    Depthwise {
        task: DepthwiseTask<'a>,
        sums: &'a mut [i32],
    },
}

impl Function<'_> {
    /// The function of element `i`.
    #[inline(always)]
    pub(crate) fn of(&self, y: f32, i: usize) -> f32 {
        match self {
            Function::None => y,
            Function::Relu => relu(y),
            Function::PRelu(slope) => prelu(y, slope[i]),
            Function::RPRelu {
                before,
                slope,
                after,
            } => prelu(y - before[i], slope[i]) + after[i],
            Function::Clamp { low, high } => clamp(y, *low, *high),
        }
    }
}

impl<'a> Function<'a> {
    /// The function of the elements `some` alone.
    pub(crate) fn slice(self, some: std::ops::Range<usize>) -> Function<'a> {
        match self {
            Function::PRelu(slope) => Function::PRelu(&slope[some]),
            Function::RPRelu {
                before,
                slope,
                after,
            } => Function::RPRelu {
                before: &before[some.clone()],
                slope: &slope[some.clone()],
                after: &after[some],
            },
            whole => whole,
        }
    }
}

#[inline(always)]
fn relu(y: f32) -> f32 {
    if y > 0.0 { y } else { 0.0 }
}

#[inline(always)]
fn prelu(y: f32, slope: f32) -> f32 {
    if y >= 0.0 { y } else { slope * y }
}

#[inline(always)]
fn clamp(y: f32, low: f32, high: f32) -> f32 {
    let y = if y > low { y } else { low };
    if y < high { y } else { high }
}

/// Runs `task`, compiled with the features of whoever calls it. Panics on lengths that differ.
#[inline(always)]
fn run(task: RowTask<'_>) {
    match task {
        RowTask::Finish {
            sums,
            floats,
            scale,
            bias,
            residual,
            first,
            function,
        } => {
            let line = (scale, bias, residual, first, function);
            if floats {
                rows(sums, |bits| f32::from_bits(bits as u32), line);
            } else {
                rows(sums, |sum| sum as f32, line);
            }
        }
        RowTask::Depthwise { task, sums } => depthwise::run(&task, sums),
        RowTask::Values {
            codes,
            signed,
            apart,
            low,
            scale,
            out,
        } => {
            assert_eq!(codes.len(), out.len());
            let value = |integer: i32| (integer * apart + low) as f32 * scale;
            if signed {
                for (out, &code) in out.iter_mut().zip(codes) {
                    *out = value(i32::from(code as i8));
                }
            } else {
                for (out, &code) in out.iter_mut().zip(codes) {
                    *out = value(i32::from(code));
                }
            }
        }
        RowTask::Accumulate {
            codes,
            signed,
            sums,
        } => {
            assert_eq!(codes.len(), sums.len());
            if signed {
                for (sum, &code) in sums.iter_mut().zip(codes) {
                    *sum = sum.wrapping_add(i32::from(code as i8));
                }
            } else {
                for (sum, &code) in sums.iter_mut().zip(codes) {
                    *sum = sum.wrapping_add(i32::from(code));
                }
            }
        }
        RowTask::MaxFloats {
            pixel,
            step,
            from,
            into,
        } => pixels(pixel, step, from, into, |from, into| {
            for (into, &from) in into.iter_mut().zip(from) {
                let old = *into;
                *into = if from > old || old.is_nan() {
                    from
                } else {
                    old
                };
            }
        }),
        RowTask::MaxBytes {
            signed: true,
            pixel,
            step,
            from,
            into,
        } => pixels(pixel, step, from, into, |from, into| {
            for (into, &from) in into.iter_mut().zip(from) {
                *into = (*into as i8).max(from as i8) as u8;
            }
        }),
        RowTask::MaxBytes {
            signed: false,
            pixel,
            step,
            from,
            into,
        } => pixels(pixel, step, from, into, |from, into| {
            for (into, &from) in into.iter_mut().zip(from) {
                *into = (*into).max(from);
            }
        }),
        RowTask::AddFloats { from, into } => {
            assert_eq!(from.len(), into.len());
            for (into, &from) in into.iter_mut().zip(from) {
                *into += from;
            }
        }
        RowTask::Max {
            planes,
            signed,
            pixel,
            step,
            from,
            into,
        } => {
            // Complementing the plane of the sign makes the order of signed codes that of unsigned ones.
            let flip = if signed { !0 } else { 0 };
            match planes {
                1 => pixels(pixel, step, from, into, |a, b| max::<1>(a, b, flip)),
                2 => pixels(pixel, step, from, into, |a, b| max::<2>(a, b, flip)),
                3 => pixels(pixel, step, from, into, |a, b| max::<3>(a, b, flip)),
                4 => pixels(pixel, step, from, into, |a, b| max::<4>(a, b, flip)),
                5 => pixels(pixel, step, from, into, |a, b| max::<5>(a, b, flip)),
                6 => pixels(pixel, step, from, into, |a, b| max::<6>(a, b, flip)),
                7 => pixels(pixel, step, from, into, |a, b| max::<7>(a, b, flip)),
                _ => pixels(pixel, step, from, into, |a, b| max::<8>(a, b, flip)),
            }
        }
    }
}

/// Calls `max` for each pixel of `into` and the one of `from` that is `step` elements behind the last.
#[inline(always)]
fn pixels<T>(pixel: usize, step: usize, from: &[T], into: &mut [T], max: impl Fn(&[T], &mut [T])) {
    for (i, into) in into.chunks_exact_mut(pixel).enumerate() {
        max(&from[i * step..][..pixel], into);
    }
}

/// Scale, bias, residual and whether it comes first, function.
type Line<'a> = (&'a [f32], &'a [f32], Option<&'a [f32]>, bool, Function<'a>);

/// Finishes rows of sums or bits, of which `value` makes floats.
#[inline(always)]
fn rows(
    sums: &mut [i32],
    value: impl Fn(i32) -> f32 + Copy,
    (scale, bias, residual, first, function): Line<'_>,
) {
    let (none, n) = (|_: usize, y: f32| y, scale.len());
    let Some(residual) = residual else {
        for sums in sums.chunks_exact_mut(n) {
            with_function(sums, value, [scale, bias], none, none, function);
        }
        return;
    };
    assert_eq!(residual.len(), sums.len());
    for (sums, r) in sums.chunks_exact_mut(n).zip(residual.chunks_exact(n)) {
        let add = |i: usize, y: f32| y + r[i];
        if first {
            with_function(sums, value, [scale, bias], add, none, function);
        } else {
            with_function(sums, value, [scale, bias], none, add, function);
        }
    }
}

#[inline(always)]
fn with_function(
    sums: &mut [i32],
    value: impl Fn(i32) -> f32 + Copy,
    line: [&[f32]; 2],
    before: impl Fn(usize, f32) -> f32,
    after: impl Fn(usize, f32) -> f32,
    function: Function<'_>,
) {
    let n = sums.len();
    match function {
        Function::None => finish(sums, value, line, |i, y| after(i, before(i, y))),
        Function::Relu => finish(sums, value, line, |i, y| after(i, relu(before(i, y)))),
        Function::PRelu(slope) => {
            let slope = &slope[..n];
            finish(sums, value, line, |i, y| {
                after(i, prelu(before(i, y), slope[i]))
            });
        }
        Function::RPRelu {
            before: shift,
            slope,
            after: back,
        } => {
            let (shift, slope, back) = (&shift[..n], &slope[..n], &back[..n]);
            finish(sums, value, line, |i, y| {
                after(i, prelu(before(i, y) - shift[i], slope[i]) + back[i])
            });
        }
        Function::Clamp { low, high } => finish(sums, value, line, |i, y| {
            after(i, clamp(before(i, y), low, high))
        }),
    }
}

#[inline(always)]
fn finish(
    sums: &mut [i32],
    value: impl Fn(i32) -> f32,
    [scale, bias]: [&[f32]; 2],
    then: impl Fn(usize, f32) -> f32,
) {
    let n = sums.len();
    let (scale, bias) = (&scale[..n], &bias[..n]);
    for i in 0..n {
        let y = then(i, value(sums[i]) * scale[i] + bias[i]);
        sums[i] = y.to_bits() as i32;
    }
}

/// Decides from the most significant plane down, 64 codes at a time.
#[inline(always)]
fn max<const P: usize>(from: &[u32], into: &mut [u32], flip: u32) {
    let words = into.len() / P;
    assert!(from.len() == into.len() && into.len() == words * P);
    let pairs = words / 2;
    for w in 0..pairs {
        let at = |p: usize| p * words + 2 * w;
        let pair = |x: &[u32], p: usize| u64::from(x[at(p)]) | u64::from(x[at(p) + 1]) << 32;
        let (from, old) = (
            std::array::from_fn(|p| pair(from, p)),
            std::array::from_fn(|p| pair(into, p)),
        );
        let flip = u64::from(flip) | u64::from(flip) << 32;
        for (p, greatest) in greater::<P>(from, old, flip).into_iter().enumerate() {
            into[at(p)] = greatest as u32;
            into[at(p) + 1] = (greatest >> 32) as u32;
        }
    }
    if words % 2 == 1 {
        let at = |p: usize| p * words + words - 1;
        let (from, old) = (
            std::array::from_fn(|p| from[at(p)].into()),
            std::array::from_fn(|p| into[at(p)].into()),
        );
        for (p, greatest) in greater::<P>(from, old, flip.into()).into_iter().enumerate() {
            into[at(p)] = greatest as u32;
        }
    }
}

/// The greater of codes in planes; `flip` complements the last plane while they are compared.
#[inline(always)]
fn greater<const P: usize>(a: [u64; P], b: [u64; P], flip: u64) -> [u64; P] {
    let (mut greater, mut equal) = (0u64, !0u64);
    for p in (0..P).rev() {
        let flip = if p == P - 1 { flip } else { 0 };
        let (a, b) = (a[p] ^ flip, b[p] ^ flip);
        greater |= equal & a & !b;
        equal &= !(a ^ b);
    }
    std::array::from_fn(|p| b[p] & !greater | a[p] & greater)
}

/// Compiled for any CPU.
///
/// # Safety
/// None: unsafe only to be of one type with those below.
pub(super) unsafe fn portable(task: RowTask<'_>) {
    run(task);
}

/// Compiled for the features of the ISA.
///
/// # Safety
/// They are there, here and below.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,popcnt")]
pub(super) unsafe fn avx2(task: RowTask<'_>) {
    run(task);
}

/// As `avx2`; for both ISAs of 512 bits.
///
/// # Safety
/// As `avx2`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn avx512(task: RowTask<'_>) {
    match task {
        RowTask::Max {
            planes,
            signed,
            pixel,
            step,
            from,
            into,
        } if Pixels::new(planes, signed, pixel, step).serves() => {
            max::run(Pixels::new(planes, signed, pixel, step), from, into);
        }
        task => run(task),
    }
}

/// As `avx2`.
///
/// # Safety
/// As `avx2`.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
pub(super) unsafe fn neon(task: RowTask<'_>) {
    run(task);
}
