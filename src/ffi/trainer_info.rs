//! C: what a net in training says of itself, the recipes that come with the library, and the built-in digits.

use std::ffi::c_char;

use super::enter;
use super::isa::c_name;
use super::pointer::{Growing, Out, OutStruct, copy_text, handle, slice_mut, string};
use super::pool::{par, qc_pool};
use super::trainer::{number_of, qc_trainer};
use crate::error::Error;
use crate::nn::net::Parameter;
use crate::shape::elements;
use crate::train::data::{Half, digits_half};
use crate::train::recipe::named;
use crate::train::run::Run;

/// Half of the digits: those to train on.
pub const QC_DIGITS_TRAIN: i32 = 0;
/// Half of the digits: those to measure with, which share no draw with the others.
pub const QC_DIGITS_TEST: i32 = 1;

/// What a run is and how far it has come. Set `struct_size` before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_trainer_info {
    /// `sizeof(qc_trainer_info)`.
    pub struct_size: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Bytes of a pixel.
    pub channels: usize,
    /// Classes, the logits of an image.
    pub classes: usize,
    /// Images in a batch, as the recipe has it.
    pub batch: usize,
    /// Steps in an epoch.
    pub steps: usize,
    /// Steps that the epoch that runs has had; 0 between two epochs.
    pub step: usize,
    /// Epochs that are done, of both phases.
    pub epoch: usize,
    /// Epochs of the float phase.
    pub float_epochs: usize,
    /// Epochs of both phases.
    pub epochs: usize,
    /// Batches that the recipe re-estimates running averages over after the last epoch; 0 is none.
    pub reestimate: usize,
    /// Weights, of all layers.
    pub weights: usize,
    /// Numbers that the optimiser moves in this phase: weights, scales and shifts of normalisations, learned steps.
    pub parameters: usize,
    /// Tensors, the lines of `qc_trainer_describe` but the first.
    pub tensors: usize,
    /// Name of the ISA it runs on; lives as long as the library.
    pub isa: *const c_char,
    /// `QC_PHASE_...`, of the net as it is now.
    pub phase: i32,
    /// 1 if the net can be frozen now, else 0.
    pub packed: i32,
    /// The seed.
    pub seed: u64,
}

// SAFETY: repr(C), the size first, an even number of fields as wide, then two of four bytes and one of eight: no padding;
// integers and a raw pointer.
unsafe impl Growing for qc_trainer_info {}
const _: () = assert!(size_of::<qc_trainer_info>() == size_of::<[usize; 16]>() + 16);

/// What the run is and how far it has come. Set `info->struct_size` first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_get_info(
    trainer: *mut qc_trainer,
    info: *mut qc_trainer_info,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
        let (trainer, out) = unsafe {
            let trainer = handle("trainer", trainer.cast_const())?;
            (trainer, OutStruct::new("info", info)?)
        };
        out.write(trainer.with(|run| Ok(about(run)))?);
        Ok(())
    })
}

fn about(run: &mut Run) -> qc_trainer_info {
    let net = run.net_mut();
    let tensors = net.state().len();
    let len = |mut parameter: Parameter<'_>| parameter.value().len();
    let parameters = net.parameters().into_iter().map(len).sum::<usize>()
        + net.steps().into_iter().map(len).sum::<usize>();
    let net = run.net();
    let (design, recipe) = (net.design(), run.recipe());
    let [height, width, channels] = design.input;
    qc_trainer_info {
        struct_size: 0,
        height,
        width,
        channels,
        classes: design.classes,
        batch: recipe.batch,
        steps: run.steps(),
        step: run.steps_so_far(),
        epoch: run.done(),
        float_epochs: recipe.float_epochs,
        epochs: run.epochs(),
        reestimate: recipe.reestimate,
        weights: net.weights().iter().map(|w| w.latent.len()).sum(),
        parameters,
        tensors,
        isa: c_name(net.isa()).as_ptr(),
        phase: number_of(net.mode()),
        packed: i32::from(net.is_packed()),
        seed: recipe.seed,
    }
}

/// The run for people: a line of the net, then one of each of its tensors, name and number of elements. As `snprintf` does.
///
/// `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
/// `*length` receives the length of the whole text without its zero: the text was cut if that is not
/// below `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_describe(
    trainer: *mut qc_trainer,
    buf: *mut c_char,
    len: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let trainer = handle("trainer", trainer.cast_const())?;
        let length = Out::new("length", length)?;
        let text = trainer.with(|run| Ok(text_of(run)))?;
        copy_text(text.as_bytes(), buf, len, length)
    })
}

fn text_of(run: &mut Run) -> String {
    let (design, recipe) = (run.net().design(), run.recipe());
    let [height, width, channels] = design.input;
    let head = format!(
        "{}: images of {height} x {width} x {channels} in {} classes, {}-bit weights, {}-bit activations, epoch {} of {}\n",
        recipe.arch,
        design.classes,
        recipe.bits_w,
        recipe.bits_a,
        run.done(),
        run.epochs()
    );
    let tensors = run.net_mut().state();
    let lines = tensors
        .iter()
        .map(|(name, values)| format!("{name} {}\n", values.len()));
    head + &lines.collect::<String>()
}

/// A tensor of the net by its name, such as "layers.0.latent", the name that it has in a checkpoint and in
/// `qc_trainer_describe`: latent weights, normalisations, steps of activations.
///
/// `*length` receives the number of its elements. They are written if `len`, that of `values`, is not below it; with `len` 0
/// `values` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_trainer_tensor(
    trainer: *mut qc_trainer,
    name: *const c_char,
    values: *mut f32,
    len: usize,
    length: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
        let (trainer, name, values, length) = unsafe {
            let trainer = handle("trainer", trainer.cast_const())?;
            let name = string("name", name)?.to_string_lossy();
            let values = slice_mut("values", values, len)?;
            (trainer, name, values, Out::new("length", length)?)
        };
        trainer.with(|run| {
            let tensors = run.net_mut().state();
            let Some((_, tensor)) = tensors.iter().find(|(n, _)| *n == name) else {
                let names: Vec<&str> = tensors.iter().map(|(n, _)| &n[..]).collect();
                return Err(Error::unknown("name", &name, &names).into());
            };
            if let Some(room) = values.get_mut(..tensor.len()) {
                room.copy_from_slice(tensor);
            }
            length.write(tensor.len());
            Ok(())
        })
    })
}

/// The names of the recipes that come with the library, a line each, with what it is for behind a tab. As `snprintf` does,
/// see `qc_trainer_describe`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_recipe_names(buf: *mut c_char, len: usize, length: *mut usize) -> i32 {
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe {
        let length = Out::new("length", length)?;
        let lines = named::NAMED
            .iter()
            .map(|n| format!("{}\t{}\n", n.name, n.about()));
        copy_text(lines.collect::<String>().as_bytes(), buf, len, length)
    })
}

/// The TOML text of the recipe of that name, to copy and edit. As `snprintf` does, see `qc_trainer_describe`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_recipe_text(
    name: *const c_char,
    buf: *mut c_char,
    len: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe {
        let (name, length) = (string("name", name)?, Out::new("length", length)?);
        let text = named::find(&name.to_string_lossy())?.text;
        copy_text(text.as_bytes(), buf, len, length)
    })
}

/// The built-in data set: `count` digits as if written by hand, drawn from `seed`: `images` `[count, 28, 28, 1]`, white on black,
/// and `labels`, 0 to 9, of each as many, or one more. No measure of anything, but something to learn without a file.
///
/// `half` is `QC_DIGITS_TRAIN` or `QC_DIGITS_TEST`. The tool trains on 20000 and measures with 4000 of its recipe's seed.
/// `count` is 1 to 10000000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_digits(
    seed: u64,
    half: i32,
    count: usize,
    images: *mut u8,
    labels: *mut u8,
    pool: *const qc_pool,
) -> i32 {
    enter(|| {
        let len = elements("count", &[count, 28, 28])?;
        // SAFETY: the caller promises what the head of the header says about handles and pointers, with these lengths.
        let (images, labels, par) = unsafe {
            let images = slice_mut("images", images, len)?;
            (images, slice_mut("labels", labels, count)?, par(pool)?)
        };
        let half = match half {
            QC_DIGITS_TRAIN => Half::Train,
            QC_DIGITS_TEST => Half::Test,
            other => {
                let expected = "QC_DIGITS_TRAIN or QC_DIGITS_TEST";
                return Err(Error::argument("half", other, expected).into());
            }
        };
        let drawn = digits_half(seed, half, count, par)?;
        images.copy_from_slice(drawn.pixels());
        labels.copy_from_slice(drawn.labels());
        Ok(())
    })
}
