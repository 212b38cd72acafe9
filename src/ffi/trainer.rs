//! C: a net in training: made by a recipe, moved step by step, measured, saved, resumed, frozen.

use std::ffi::c_char;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, TryLockError};

use super::model::{os_str, qc_model};
use super::pointer::{Growing, Out, OutStruct, handle, init, options, slice_mut, string};
use super::pool::{par, qc_pool};
use super::status::{Answer, Failure};
use super::trainer_batch::{ScoreOut, batch, pixels};
use super::{Handle, enter, free};
use crate::nn::net::Mode;
use crate::shape::{check_len, elements};
use crate::train::data::Images;
use crate::train::recipe::{Recipe, named};
use crate::train::run::{Run, Trained};

/// Phase: weights and activations are floats.
pub const QC_PHASE_FLOAT: i32 = 0;
/// Phase: weights and activations are what the recipe says.
pub const QC_PHASE_QUANTIZED: i32 = 1;

/// A net in training, by a recipe: a float phase, then a quantized phase that starts from its weights, each of epochs, each
/// of steps.
///
/// Images are bytes, NHWC; the caller has them and hands them in: a batch at a time to `qc_trainer_step`, with
/// `qc_trainer_end_epoch` behind the last batch of an epoch, or all of them to `qc_trainer_epoch`, which draws order,
/// shifts and mirrors as the recipe says and is what the tool `qcore train` does. One call at a time may use it.
///
/// On one machine the same calls give the same bits, for every number of threads and every ISA that `QCORE_ISA` may name.
/// Another machine may give others: products of floats (of gradients, of the float phase) are summed in the order that suits
/// its CPU, whatever `QCORE_ISA` says, and training goes on from there. Products of codes are the same everywhere.
pub struct qc_trainer {
    // Only ever tried, never waited for. The lock is poisoned by a panic, as every handle is.
    run: Mutex<Run>,
}

impl qc_trainer {
    pub(super) fn new(run: Run) -> Self {
        qc_trainer {
            run: Mutex::new(run),
        }
    }

    /// Works on the run, unless another call does.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Run) -> Answer<R>) -> Answer<R> {
        let mut run = self.run.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Failure::busy("trainer"),
            TryLockError::Poisoned(_) => Failure::poisoned("trainer"),
        })?;
        work(&mut run)
    }
}

/// What a run is for. Fill it with `qc_trainer_options_init` first; `images` has no default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_trainer_options {
    /// `sizeof(qc_trainer_options)`.
    pub struct_size: usize,
    /// Rows of an image. Default: 28.
    pub height: usize,
    /// Columns of an image. Default: 28.
    pub width: usize,
    /// Bytes of a pixel: 1 for gray, 3 for color. Default: 1.
    pub channels: usize,
    /// Classes, 1 to 256: a label is below. Default: 10.
    pub classes: usize,
    /// Training images in an epoch, no fewer than the recipe's batch: an epoch has images / batch steps. Default: 0.
    pub images: usize,
    /// Seed of weights, order, shifts and draws; 0 is the recipe's own. Default: 0.
    pub seed: u64,
}

// SAFETY: repr(C), the size first, an even number of fields as wide, then one of eight bytes: no padding; integers.
unsafe impl Growing for qc_trainer_options {}
const _: () = assert!(size_of::<qc_trainer_options>() == size_of::<[usize; 6]>() + 8);

/// Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_options_init(
    struct_size: usize,
    options: *mut qc_trainer_options,
) -> i32 {
    let defaults = qc_trainer_options {
        struct_size,
        height: 28,
        width: 28,
        channels: 1,
        classes: 10,
        images: 0,
        seed: 0,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("options", options, struct_size, defaults) })
}

/// A run at its start, for the ISA that `QCORE_ISA` says, or else the best.
///
/// `recipe` is the name of one that comes with the library (`qc_recipe_names`), or the path of a TOML file, which ends in
/// `.toml` or holds a slash; NULL is the recipe "default". `changes` is TOML text, such as "bits_a = 2\nepochs = 3", whose
/// fields take the place of the recipe's; NULL is none. Names that are none are told with the nearest known. Free the run
/// with `qc_trainer_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_new(
    recipe: *const c_char,
    changes: *const c_char,
    options: *const qc_trainer_options,
    trainer: *mut *mut qc_trainer,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (options, out) = unsafe {
            let options = self::options("options", options)?;
            (options, Out::new("trainer", trainer)?)
        };
        let text = |name, text: *const c_char| match text.is_null() {
            true => Ok(None),
            // SAFETY: as above.
            false => unsafe { string(name, text) }.map(|text| Some(text.to_string_lossy())),
        };
        let mut recipe = match text("recipe", recipe)? {
            None => Recipe::default(),
            Some(name) => named::load(&name)?,
        };
        if let Some(changes) = text("changes", changes)? {
            recipe = recipe.with_toml("changes", &changes)?;
        }
        if options.seed != 0 {
            recipe.seed = options.seed;
        }
        let input = [options.height, options.width, options.channels];
        let run = Run::new(recipe, input, options.classes, options.images)?;
        out.give(qc_trainer::new(run));
        Ok(())
    })
}

/// A run as a checkpoint holds it, of `qc_trainer_save` or of the tool; it goes on with the bits of one that never stopped.
///
/// `images` is the number of training images in an epoch, as the run had it; another is refused (checkpoints of
/// version 2 do not tell theirs). `path` is in the system's own encoding of file names. Free the run with `qc_trainer_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_resume(
    path: *const c_char,
    images: usize,
    trainer: *mut *mut qc_trainer,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let (path, out) = unsafe { (string("path", path)?, Out::new("trainer", trainer)?) };
        let run = Run::resume(Path::new(os_str(path)?), images)?;
        out.give(qc_trainer::new(run));
        Ok(())
    })
}

/// Writes a checkpoint: beside it first, then under its name. Errors if an epoch has begun and is not ended, and with
/// `QC_ERROR_DIVERGED` if a number that it would hold is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_save(trainer: *mut qc_trainer, path: *const c_char) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (trainer, path) = unsafe {
            let trainer = handle("trainer", trainer.cast_const())?;
            (trainer, string("path", path)?)
        };
        let path = Path::new(os_str(path)?);
        trainer.with(|run| Ok(run.save(path)?))
    })
}

/// A step on a batch of `count` images, `[count, height, width, channels]`, with a label each; 2 or more, usually as many as
/// the recipe's batch.
///
/// `*loss` receives the mean loss of the batch before the step, `*correct` how many were right; each may be NULL. Errors if a
/// label is not below the classes, the epoch has had its steps or the recipe its epochs; then nothing has changed. A loss
/// or gradient that is not finite is `QC_ERROR_DIVERGED`, with epoch, step and layer: no parameter has moved, but running
/// averages, and steps of activations that batches set, may be spoilt. A parameter or running average that comes out of the
/// step not finite is the same error. Go back to the last checkpoint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_step(
    trainer: *mut qc_trainer,
    images: *const u8,
    labels: *const u8,
    count: usize,
    loss: *mut f32,
    correct: *mut usize,
    pool: *const qc_pool,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (trainer, out, par) = unsafe {
            let trainer = handle("trainer", trainer.cast_const())?;
            (trainer, ScoreOut::new(loss, correct)?, par(pool)?)
        };
        trainer.with(|run| {
            // SAFETY: as above, with the lengths that the documentation gives.
            let (images, labels) = unsafe { batch(run, images, labels, count)? };
            let score = run.step(images, labels, par)?;
            out.write(&score);
            Ok(())
        })
    })
}

/// What an epoch did. Set `struct_size` before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_epoch_report {
    /// `sizeof(qc_epoch_report)`.
    pub struct_size: usize,
    /// The epoch, from 1, counted through both phases.
    pub epoch: usize,
    /// Epochs of both phases.
    pub epochs: usize,
    /// Steps that it had.
    pub steps: usize,
    /// `QC_PHASE_...`
    pub phase: i32,
    /// Learning rate of its first step.
    pub lr: f32,
    /// Mean loss over the batches, as they were met.
    pub loss: f32,
    /// Share of the images that were right, as they were met, 0 to 1.
    pub accuracy: f32,
    /// Share of the weights whose code changed, in the mean over the steps; 0 in the float phase.
    pub flip_ratio: f32,
    /// 1 if the recipe has more epochs, else 0.
    pub more: i32,
}

// SAFETY: repr(C), the size first, three fields as wide, then six of four bytes: no padding; integers and floats.
unsafe impl Growing for qc_epoch_report {}
const _: () = assert!(size_of::<qc_epoch_report>() == size_of::<[usize; 4]>() + 6 * 4);

pub(super) fn number_of(phase: Mode) -> i32 {
    match phase {
        Mode::Float => QC_PHASE_FLOAT,
        Mode::Quantized => QC_PHASE_QUANTIZED,
    }
}

impl qc_epoch_report {
    fn of(trained: &Trained, epochs: usize) -> Self {
        qc_epoch_report {
            struct_size: 0,
            epoch: trained.epoch,
            epochs,
            steps: trained.steps,
            phase: number_of(trained.phase),
            lr: trained.lr,
            loss: trained.loss,
            accuracy: trained.accuracy,
            flip_ratio: trained.flip_ratio as f32,
            more: i32::from(trained.epoch < epochs),
        }
    }
}

/// Where the report of an epoch goes, if it is asked for.
///
/// # Safety
///
/// `report` is NULL or as for `OutStruct::new`.
unsafe fn report_out(report: *mut qc_epoch_report) -> Answer<Option<OutStruct<qc_epoch_report>>> {
    match report.is_null() {
        true => Ok(None),
        // SAFETY: the contract is this function's.
        false => unsafe { OutStruct::new("report", report) }.map(Some),
    }
}

/// Ends an epoch: the next step is the first of another, with the rate and the phase that the recipe gives it. The epoch may
/// have had fewer steps than an epoch has, but one.
///
/// Set `report->struct_size` first; `report` may be NULL. After the last epoch of a recipe with `reestimate`,
/// `qc_trainer_reestimate` is due.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_end_epoch(
    trainer: *mut qc_trainer,
    report: *mut qc_epoch_report,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
        let (trainer, report) = unsafe {
            (
                handle("trainer", trainer.cast_const())?,
                report_out(report)?,
            )
        };
        trainer.with(|run| {
            let trained = run.end_epoch()?;
            if let Some(report) = report {
                report.write(qc_epoch_report::of(&trained, run.epochs()));
            }
            Ok(())
        })
    })
}

/// An epoch, whole, over `count` images, `[count, height, width, channels]`, with a label each: in the order that the recipe's
/// seed gives, with the recipe's shifts and mirrors, ended, and after the last epoch with its re-estimation. As the tool does.
///
/// `count` / batch is the steps of an epoch. The images are copied for the call. Set `report->struct_size` first; `report`
/// may be NULL. Errors as `qc_trainer_step`; an epoch that an error ends is not counted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_epoch(
    trainer: *mut qc_trainer,
    images: *const u8,
    labels: *const u8,
    count: usize,
    report: *mut qc_epoch_report,
    pool: *const qc_pool,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
        let (trainer, report, par) = unsafe {
            let trainer = handle("trainer", trainer.cast_const())?;
            (trainer, report_out(report)?, par(pool)?)
        };
        trainer.with(|run| {
            // SAFETY: as above, with the lengths that the documentation gives.
            let (images, labels) = unsafe { batch(run, images, labels, count)? };
            let design = run.net().design();
            let (pixels, labels) = (images.to_vec(), labels.to_vec());
            let images = Images::new(design.input, design.classes, pixels, labels)?;
            let trained = run.epoch(&images, par, &mut |_| ControlFlow::Continue(()))?;
            if let (Some(report), Some(trained)) = (report, trained) {
                report.write(qc_epoch_report::of(&trained, run.epochs()));
            }
            Ok(())
        })
    })
}

/// Estimates the running averages of the normalisations anew, from `count` images, `[count, height, width, channels]`, batch
/// after batch; what does not fill a batch is left out. Weights stay.
///
/// What `reestimate` of `qc_trainer_info` asks for after the last epoch; `qc_trainer_epoch` has done it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_reestimate(
    trainer: *mut qc_trainer,
    images: *const u8,
    count: usize,
    pool: *const qc_pool,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (trainer, par) = unsafe { (handle("trainer", trainer.cast_const())?, par(pool)?) };
        trainer.with(|run| {
            // SAFETY: as above, with the length that the documentation gives.
            let images = unsafe { pixels(run, images, count)? };
            Ok(run.reestimate(images, par)?)
        })
    })
}

/// What `count` images, `[count, height, width, channels]`, score against their labels, with running averages: quantized in
/// the quantized phase, on the kernels that the frozen model uses.
///
/// `*loss` receives the mean loss, `*correct` how many were right; each may be NULL. Nothing of the run changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_evaluate(
    trainer: *mut qc_trainer,
    images: *const u8,
    labels: *const u8,
    count: usize,
    loss: *mut f32,
    correct: *mut usize,
    pool: *const qc_pool,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (trainer, out, par) = unsafe {
            let trainer = handle("trainer", trainer.cast_const())?;
            (trainer, ScoreOut::new(loss, correct)?, par(pool)?)
        };
        trainer.with(|run| {
            // SAFETY: as above, with the lengths that the documentation gives.
            let (images, labels) = unsafe { batch(run, images, labels, count)? };
            let score = run.evaluate(images, labels, par)?;
            out.write(&score);
            Ok(())
        })
    })
}

/// The logits of `count` images, `[count, height, width, channels]`, as `qc_trainer_evaluate` has them; `n_logits` is count x
/// classes. Those of the frozen model are the same, bit for bit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_predict(
    trainer: *mut qc_trainer,
    images: *const u8,
    count: usize,
    logits: *mut f32,
    n_logits: usize,
    pool: *const qc_pool,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
        let (trainer, logits, par) = unsafe {
            let trainer = handle("trainer", trainer.cast_const())?;
            (trainer, slice_mut("logits", logits, n_logits)?, par(pool)?)
        };
        trainer.with(|run| {
            let needed = elements("logits", &[count, run.net().design().classes])?;
            check_len("n_logits", logits.len(), needed, "count x classes")?;
            // SAFETY: as above, with the length that the documentation gives.
            let images = unsafe { pixels(run, images, count)? };
            logits.copy_from_slice(&run.predict(images, par)?);
            Ok(())
        })
    })
}

/// The packed model of the net as it is now, to run or save; the trainer stays as it is. Free the model with `qc_model_free`.
///
/// Errors in the float phase, and unless the weights of all layers are codes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_freeze(
    trainer: *mut qc_trainer,
    model: *mut *mut qc_model,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (trainer, out) = unsafe {
            let trainer = handle("trainer", trainer.cast_const())?;
            (trainer, Out::new("model", model)?)
        };
        let model = trainer.with(|run| Ok(run.to_model()?))?;
        out.give(qc_model(Handle::new(model)));
        Ok(())
    })
}

/// Ends a run; NULL does nothing. What is not saved is lost; models that were frozen stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_free(trainer: *mut qc_trainer) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(trainer) }
}
