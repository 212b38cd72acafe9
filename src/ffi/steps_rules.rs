//! C: how weights move: blending, base steps, rounding, loss-aware steps, flips, freezing.

use std::sync::{Mutex, TryLockError};

use super::pointer::{Growing, Out, handle, init, options, slice, slice_mut};
use super::quantize::QC_NEAREST;
use super::status::{Answer, Failure};
use super::steps::flag;
use super::{enter, free};
use crate::error::Error;
use crate::nn::rng::Rng;
use crate::train::sgd::Sgd;
use crate::train::step::{self, Adam, Bop, Freezer, GridRounding, Moments};

/// Rounding, of `qc_round` alone: to one of the two multiples beside, by a draw, so that the mean is the value.
pub const QC_STOCHASTIC: i32 = 3;

/// Draws latent weights to their projection: w_f <- (1 - rho) w_f + rho w; `n` elements each, rho 0 to 1. Any step comes
/// after it. rho = 1 is projected descent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_blend(latent: *mut f32, w: *const f32, n: usize, rho: f32) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (latent, w) = unsafe { (slice_mut("latent", latent, n)?, slice("w", w, n)?) };
        Ok(step::blend(latent, w, rho)?)
    })
}

/// SGD: velocity <- momentum velocity + (gradient + weight_decay value), value <- value - lr velocity; `n` elements
/// each. `velocity` begins with zeros.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_sgd_step(
    value: *mut f32,
    gradient: *const f32,
    velocity: *mut f32,
    n: usize,
    lr: f32,
    momentum: f32,
    weight_decay: f32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (value, gradient, velocity) = unsafe {
            let value = slice_mut("value", value, n)?;
            (
                value,
                slice("gradient", gradient, n)?,
                slice_mut("velocity", velocity, n)?,
            )
        };
        for (name, number) in [
            ("lr", lr),
            ("momentum", momentum),
            ("weight_decay", weight_decay),
        ] {
            if !(number >= 0.0 && number.is_finite()) {
                return Err(Error::argument(name, number, "a number of 0 or more").into());
            }
        }
        let sgd = Sgd {
            lr,
            momentum,
            weight_decay,
        };
        Ok(sgd.step(value, gradient, velocity)?)
    })
}

/// The numbers of Adam. Fill it with `qc_adam_init` first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_adam {
    /// `sizeof(qc_adam)`.
    pub struct_size: usize,
    /// Learning rate, above 0. Default: 0.001.
    pub lr: f32,
    /// Decay of the first moment, 0 to below 1; 0 for the printed form of the loss-aware rules. Default: 0.9.
    pub beta1: f32,
    /// Decay of the second moment, 0 to below 1. Default: 0.999.
    pub beta2: f32,
    /// Above 0. Default: 1e-8.
    pub eps: f32,
    /// Added to the gradient times the value, 0 or more. Default: 0.
    pub weight_decay: f32,
    /// Zero.
    pub reserved: i32,
}

// SAFETY: repr(C), the size first, then six fields of four bytes: no padding; integers and floats.
unsafe impl Growing for qc_adam {}
const _: () = assert!(size_of::<qc_adam>() == size_of::<usize>() + 6 * 4);

impl qc_adam {
    fn read(&self) -> Answer<Adam> {
        if self.reserved != 0 {
            return Err(Error::argument("reserved", self.reserved, "0").into());
        }
        let adam = Adam {
            lr: self.lr,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
        };
        adam.check()?;
        Ok(adam)
    }
}

/// Fills `*adam` with the defaults. `struct_size` is `sizeof *adam`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_adam_init(struct_size: usize, adam: *mut qc_adam) -> i32 {
    let Adam {
        lr,
        beta1,
        beta2,
        eps,
        weight_decay,
    } = Adam::default();
    let defaults = qc_adam {
        struct_size,
        lr,
        beta1,
        beta2,
        eps,
        weight_decay,
        reserved: 0,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("adam", adam, struct_size, defaults) })
}

/// Counts a step in `*steps` and moves the moments `m` and `v` by the gradient at `value`; `n` elements each. All three
/// begin with zeros.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_adam_observe(
    adam: *const qc_adam,
    value: *const f32,
    gradient: *const f32,
    m: *mut f32,
    v: *mut f32,
    n: usize,
    steps: *mut u64,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers, lengths and structs.
        let (adam, value, gradient) = unsafe {
            (
                options("adam", adam)?,
                slice("value", value, n)?,
                slice("gradient", gradient, n)?,
            )
        };
        // SAFETY: as above.
        let moments = unsafe { moments(m, v, n, steps)? };
        Ok(adam.read()?.observe_moments(value, gradient, moments)?)
    })
}

/// A whole step of Adam: `qc_adam_observe`, then value <- value - m^ / D with D as `qc_adam_metric` says; m^ is
/// m / (1 - beta1^steps).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_adam_step(
    adam: *const qc_adam,
    value: *mut f32,
    gradient: *const f32,
    m: *mut f32,
    v: *mut f32,
    n: usize,
    steps: *mut u64,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers, lengths and structs.
        let (adam, value, gradient) = unsafe {
            let value = slice_mut("value", value, n)?;
            (
                options("adam", adam)?,
                value,
                slice("gradient", gradient, n)?,
            )
        };
        // SAFETY: as above.
        let moments = unsafe { moments(m, v, n, steps)? };
        Ok(adam.read()?.step_moments(value, gradient, moments)?)
    })
}

/// What Adam keeps of `n` parameters.
///
/// # Safety
///
/// As for `slice_mut`.
unsafe fn moments<'a>(m: *mut f32, v: *mut f32, n: usize, steps: *mut u64) -> Answer<Moments<'a>> {
    // SAFETY: the contract is this function's.
    unsafe {
        Ok(Moments {
            m: slice_mut("m", m, n)?,
            v: slice_mut("v", v, n)?,
            steps: &mut slice_mut("steps", steps, 1)?[0],
        })
    }
}

/// The metric of the loss-aware rules, D = (eps + sqrt(v / (1 - beta2^steps))) / lr; `n` elements each, steps 1 or more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_adam_metric(
    adam: *const qc_adam,
    v: *const f32,
    n: usize,
    steps: u64,
    metric: *mut f32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers, lengths and structs.
        let (adam, v, metric) = unsafe {
            (
                options("adam", adam)?,
                slice("v", v, n)?,
                slice_mut("metric", metric, n)?,
            )
        };
        Ok(adam.read()?.metric_of(v, steps, metric)?)
    })
}

/// A step in the metric, w_f <- w_f - g / D; `n` elements each. With `qc_project_weights` in D: LAB, LAT and LAQ.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_metric_step(
    latent: *mut f32,
    g: *const f32,
    metric: *const f32,
    n: usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (latent, g, metric) = unsafe {
            let latent = slice_mut("latent", latent, n)?;
            (latent, slice("g", g, n)?, slice("metric", metric, n)?)
        };
        Ok(step::metric_step(latent, g, metric)?)
    })
}

/// first <- a first + (1 - a) second, `n` elements each, a 0 to 1: what one-step forward and backtrack does with its two
/// gradients and with its two metrics.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_combine(first: *mut f32, second: *const f32, n: usize, a: f32) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (first, second) =
            unsafe { (slice_mut("first", first, n)?, slice("second", second, n)?) };
        Ok(step::combine(first, second, a)?)
    })
}

/// Rounds `w`, `n` elements, to multiples of `delta` above 0, in place: `QC_NEAREST`, ties away from 0, or `QC_STOCHASTIC` with
/// the draws that `seed`, `step` and `tensor` name. NaN becomes 0. Behind a step it is the rule R or SR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_round(
    w: *mut f32,
    n: usize,
    delta: f32,
    rounding: i32,
    seed: u64,
    step: u32,
    tensor: u32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let w = unsafe { slice_mut("w", w, n)? };
        let rounding = match rounding {
            QC_NEAREST => GridRounding::Deterministic,
            QC_STOCHASTIC => GridRounding::Stochastic(Rng::new(seed).at(step, tensor)),
            other => {
                let expected = "QC_NEAREST or QC_STOCHASTIC";
                return Err(Error::argument("rounding", other, expected).into());
            }
        };
        Ok(step::round(w, delta, rounding)?)
    })
}

/// Clips `latent`, `n` elements, to [-bound, bound], bound above 0; NaN stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_clip(latent: *mut f32, n: usize, bound: f32) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let latent = unsafe { slice_mut("latent", latent, n)? };
        Ok(step::clip(latent, bound)?)
    })
}

/// Bop: mean <- (1 - gamma) mean + gamma gradient; a weight flips where |mean| > tau and mean has its sign. `n` elements
/// each, gamma above 0 and at most 1, tau 0 or more; `*flips` is how many flipped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_bop_step(
    w: *mut f32,
    gradient: *const f32,
    mean: *mut f32,
    n: usize,
    gamma: f32,
    tau: f32,
    flips: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (w, gradient, mean, out) = unsafe {
            let (w, gradient) = (slice_mut("w", w, n)?, slice("gradient", gradient, n)?);
            (
                w,
                gradient,
                slice_mut("mean", mean, n)?,
                Out::new("flips", flips)?,
            )
        };
        out.write(Bop { gamma, tau }.step(w, gradient, mean)?);
        Ok(())
    })
}

/// Adds the gradient of dampening to `d`: 2 lambda (w_f - w) where low <= w_f <= high; `n` elements each, lambda 0 or more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_dampen(
    latent: *const f32,
    w: *const f32,
    n: usize,
    low: f32,
    high: f32,
    lambda: f32,
    d: *mut f32,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (latent, w, d) = unsafe {
            (
                slice("latent", latent, n)?,
                slice("w", w, n)?,
                slice_mut("d", d, n)?,
            )
        };
        Ok(step::dampen(latent, w, (low, high), lambda, d)?)
    })
}

/// Counts how often each weight oscillates, and freezes those that do too often.
pub struct qc_freezer(Mutex<Freezer>);

/// A freezer of `n` weights. `momentum`, above 0 and at most 1, is that of the frequency and of the mean of the codes (0.01 in
/// the paper); `has_zero` is 0 for binary weights, which have no code 0, else 1. Free it with `qc_freezer_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_freezer_new(
    n: usize,
    momentum: f32,
    has_zero: i32,
    freezer: *mut *mut qc_freezer,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let out = unsafe { Out::new("freezer", freezer)? };
        // The memory of a weight is below 32 bytes.
        crate::shape::elements("n", &[n, 8])?;
        let made = Freezer::new(n, momentum, flag("has_zero", has_zero)?)?;
        out.give(qc_freezer(Mutex::new(made)));
        Ok(())
    })
}

/// Ends a freezer; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_freezer_free(freezer: *mut qc_freezer) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(freezer) }
}

/// Sees the codes after a step: a weight oscillates when its code changes in the direction opposite to its last change.
/// What does so with a frequency above `threshold` is frozen at the nearest code to the mean of its codes; the latent weights of all
/// that is frozen become `scale` times that code. `n` is that of the freezer; `*frozen` is how many are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_freezer_step(
    freezer: *mut qc_freezer,
    codes: *const i32,
    latent: *mut f32,
    n: usize,
    scale: f32,
    threshold: f32,
    frozen: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
        let (freezer, codes, latent, out) = unsafe {
            let freezer = handle("freezer", freezer.cast_const())?;
            let (codes, latent) = (slice("codes", codes, n)?, slice_mut("latent", latent, n)?);
            (freezer, codes, latent, Out::new("frozen", frozen)?)
        };
        let mut freezer = freezer.0.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Failure::busy("freezer"),
            TryLockError::Poisoned(_) => Failure::poisoned("freezer"),
        })?;
        out.write(freezer.step(codes, scale, threshold, latent)?);
        Ok(())
    })
}
