//! C: runs of a packed net, and what its nodes are and take.

use std::ffi::{c_char, c_void};
use std::fmt::Write;
use std::time::Duration;

use half::slice::HalfBitsSliceExt;

use super::enter;
use super::model::{qc_model, qc_workspace};
use super::model_builder::qc_value_type;
use super::pointer::{Growing, Out, OutStruct, Plain, copy_text, handle, slice, slice_mut};
use super::pool::{par, qc_pool};
use super::status::Answer;
use crate::error::Error;
use crate::model::{Images, Kind, MAX_OUTPUTS, Model, NodeInfo, Report, ValueType};
use crate::ops::OutRows;

/// The output of `images`, `[M, H, W, C]` with a byte a code, into `logits`, `[M, outputs]`; of a model with one output, of
/// floats.
///
/// M follows from `n_bytes`, the length of `images`; `n_logits` is M x outputs. Nothing is allocated, but for the jobs of a
/// pool.
/// Errors if another call is using the workspace.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_run(
    model: *const qc_model,
    images: *const u8,
    n_bytes: usize,
    logits: *mut f32,
    n_logits: usize,
    workspace: *mut qc_workspace,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let model = handle("model", model)?;
        let images = Images::Bytes(slice("images", images, n_bytes)?);
        run(model, images, (logits, n_logits), workspace, pool)
    })
}

/// As `qc_model_run`, for images of floats.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_run_f32(
    model: *const qc_model,
    images: *const f32,
    n_floats: usize,
    logits: *mut f32,
    n_logits: usize,
    workspace: *mut qc_workspace,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let model = handle("model", model)?;
        let images = Images::Floats(slice("images", images, n_floats)?);
        run(model, images, (logits, n_logits), workspace, pool)
    })
}

/// # Safety
///
/// The caller's promises about the pointers and handles.
unsafe fn run(
    model: &qc_model,
    images: Images<'_>,
    (logits, n_logits): (*mut f32, usize),
    workspace: *mut qc_workspace,
    pool: *const qc_pool,
) -> Answer<()> {
    // SAFETY: the contract is this function's.
    let (logits, workspace, par) = unsafe {
        let logits = slice_mut("logits", logits, n_logits)?;
        let workspace = handle("workspace", workspace.cast_const())?;
        (logits, workspace, par(pool)?)
    };
    model.0.with("model", |model| {
        workspace.with(|workspace| Ok(model.run(images, logits, workspace, par)?))
    })
}

/// Where an output goes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_output {
    /// Elements of the output's kind, images x H x W x C; for packed codes the words of images x H x W rows of C columns.
    pub data: *mut c_void,
    /// Number of elements, or words, at `data`.
    pub len: usize,
}

// A raw pointer and an integer.
impl Plain for qc_output {}

/// All outputs of `images`, which are `len` bytes or floats of 32 or 16 bits, as the model takes. `outputs` are as many as
/// the model has.
///
/// Else as `qc_model_run`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_run_outputs(
    model: *const qc_model,
    images: *const c_void,
    len: usize,
    outputs: *const qc_output,
    n_outputs: usize,
    workspace: *mut qc_workspace,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let model = handle("model", model)?;
        let outputs = slice("outputs", outputs, n_outputs)?;
        let workspace = handle("workspace", workspace.cast_const())?;
        let par = par(pool)?;
        model.0.with("model", |model| {
            let images = self::images(model, images, len)?;
            let types = model.outputs();
            if outputs.len() != types.len() {
                let expected = format!("{}, the model's outputs", types.len());
                return Err(Error::argument("n_outputs", outputs.len(), expected).into());
            }
            let mut rows: [OutRows<'_>; MAX_OUTPUTS] = std::array::from_fn(|_| OutRows::empty());
            let rows = &mut rows[..types.len()];
            for ((rows, output), made) in rows.iter_mut().zip(outputs).zip(types) {
                *rows = self::rows(output, made)?;
            }
            workspace.with(|workspace| Ok(model.run_all(images, rows, workspace, par)?))
        })
    })
}

/// Images of the kind that a model takes.
///
/// # Safety
///
/// As for `slice`.
unsafe fn images<'a>(model: &Model, images: *const c_void, len: usize) -> Answer<Images<'a>> {
    // SAFETY: the contract is this function's.
    unsafe {
        Ok(match model.input().kind {
            Kind::F32 => Images::Floats(slice("images", images.cast(), len)?),
            Kind::F16 => {
                Images::F16(slice("images", images.cast::<u16>(), len)?.reinterpret_cast())
            }
            Kind::Bf16 => {
                Images::Bf16(slice("images", images.cast::<u16>(), len)?.reinterpret_cast())
            }
            _ => Images::Bytes(slice("images", images.cast(), len)?),
        })
    }
}

/// Where an output of this type goes.
///
/// # Safety
///
/// As for `slice_mut`, with elements of that type.
unsafe fn rows<'a>(output: &qc_output, made: &ValueType) -> Answer<OutRows<'a>> {
    let qc_output { data, len } = *output;
    // SAFETY: the contract is this function's.
    unsafe {
        let halves = || slice_mut("outputs", data.cast::<u16>(), len);
        Ok(match made.kind {
            Kind::Planes(_) => OutRows::Codes(slice_mut("outputs", data.cast(), len)?),
            Kind::Bytes(_) => OutRows::Bytes(slice_mut("outputs", data.cast(), len)?),
            Kind::F32 => OutRows::F32(slice_mut("outputs", data.cast(), len)?),
            Kind::I32 => OutRows::I32(slice_mut("outputs", data.cast(), len)?),
            Kind::F16 => OutRows::F16(halves()?.reinterpret_cast_mut()),
            Kind::Bf16 => OutRows::Bf16(halves()?.reinterpret_cast_mut()),
        })
    }
}

/// Seconds that each node takes, medians of `runs` runs over all `images`, which must fit in the workspace at a time.
///
/// `len` is that of `images`, bytes or floats as the model takes. `seconds` has `n_nodes` elements, as many as the model has
/// nodes. In throughput mode one thread runs, as each of them would.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_profile(
    model: *const qc_model,
    images: *const c_void,
    len: usize,
    runs: usize,
    seconds: *mut f32,
    n_nodes: usize,
    workspace: *mut qc_workspace,
    pool: *const qc_pool,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let model = handle("model", model)?;
        let seconds = slice_mut("seconds", seconds, n_nodes)?;
        let workspace = handle("workspace", workspace.cast_const())?;
        let par = par(pool)?;
        model.0.with("model", |model| {
            let images = self::images(model, images, len)?;
            check_nodes(model, seconds.len())?;
            let times = workspace.with(|w| Ok(model.profile(images, w, par, runs)?))?;
            for (to, time) in seconds.iter_mut().zip(times) {
                *to = time.as_secs_f32();
            }
            Ok(())
        })
    })
}

/// Seconds of each node for an image that no run on one thread of this core can beat by much, where `images` images go
/// through together: the longest of its multiply-accumulates by the instructions of its kernel on registers alone, of
/// reading its weights and what enters, and of writing what leaves, by rates that are measured in milliseconds. It is a
/// bound, not an estimate. 0 for nodes that do not run.
///
/// `seconds` has `n_nodes` elements, as many as the model has nodes. Errors if `images` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_predict(
    model: *const qc_model,
    images: usize,
    seconds: *mut f32,
    n_nodes: usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let model = handle("model", model)?;
        let seconds = slice_mut("seconds", seconds, n_nodes)?;
        model.0.with("model", |model| {
            check_nodes(model, seconds.len())?;
            for (to, time) in seconds.iter_mut().zip(model.predict(images)?) {
                *to = time.map_or(0.0, |time| time.as_secs_f32());
            }
            Ok(())
        })
    })
}

fn check_nodes(model: &Model, n_nodes: usize) -> Answer<()> {
    let nodes = model.describe().len();
    if n_nodes == nodes {
        return Ok(());
    }
    let expected = format!("{nodes}, the model's nodes");
    Err(Error::argument("n_nodes", n_nodes, expected).into())
}

/// What a node is. Set `struct_size` before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_node_info {
    /// `sizeof(qc_node_info)`.
    pub struct_size: usize,
    /// Bytes of packed weights, thresholds, scales and the like.
    pub packed_bytes: usize,
    /// Bytes that the same node takes in f32.
    pub float_bytes: usize,
    /// Multiply-accumulates for an image.
    pub macs: usize,
}

// SAFETY: repr(C), the size first, all fields as wide as it: no padding; integers.
unsafe impl Growing for qc_node_info {}
const _: () = assert!(size_of::<qc_node_info>() == size_of::<[usize; 4]>());

/// Node `index`, below `nodes` of `qc_model_info`; 0 is the images.
///
/// # Safety
///
/// The caller's promises about the handle.
unsafe fn node<R>(
    model: *const qc_model,
    index: usize,
    tell: impl FnOnce(&NodeInfo) -> R,
) -> Answer<R> {
    // SAFETY: the contract is this function's.
    let model = unsafe { handle("model", model)? };
    model.0.with("model", |model| {
        let nodes = model.describe();
        let node = nodes.get(index).ok_or_else(|| {
            let expected = format!("below {}, the model's nodes", nodes.len());
            Error::argument("index", index, expected)
        })?;
        Ok(tell(node))
    })
}

/// What node `index` is, below the model's `nodes`; 0 is the images. Set `info->struct_size` first; `value_type`, the type of
/// what it makes, with its own, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_node(
    model: *const qc_model,
    index: usize,
    info: *mut qc_node_info,
    value_type: *mut qc_value_type,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
        let (node, info, made) = unsafe {
            let info = OutStruct::new("info", info)?;
            let made = match value_type.is_null() {
                true => None,
                false => Some(OutStruct::new("value_type", value_type)?),
            };
            (node(model, index, NodeInfo::clone)?, info, made)
        };
        info.write(qc_node_info {
            struct_size: 0,
            packed_bytes: node.packed_bytes,
            float_bytes: node.float_bytes,
            macs: usize::try_from(node.macs).unwrap_or(usize::MAX),
        });
        if let Some(made) = made {
            made.write(qc_value_type::of(&node.made));
        }
        Ok(())
    })
}

/// Node `index` for people: operation, name, shape, encodings, what it makes, multiply-accumulates of an image, packed bytes,
/// kernel. As `snprintf` does.
///
/// `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
/// `*length` receives the length of the whole text without its zero: the text was cut if that is not
/// below `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_describe_node(
    model: *const qc_model,
    index: usize,
    buf: *mut c_char,
    len: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let length = Out::new("length", length)?;
        let text = node(model, index, NodeInfo::to_string)?;
        copy_text(text.as_bytes(), buf, len, length)
    })
}

/// All nodes, a line each, as `qc_model_describe_node` tells them, behind their numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_describe(
    model: *const qc_model,
    buf: *mut c_char,
    len: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let (model, length) = (handle("model", model)?, Out::new("length", length)?);
        let nodes = model.0.with("model", |model| Ok(model.describe()))?;
        let mut text = String::new();
        for (i, node) in nodes.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{i}: {node}");
        }
        copy_text(text.as_bytes(), buf, len, length)
    })
}

/// Where the time goes, for people: a line a node with the microseconds that were measured for an image, their share, those
/// that were predicted, and what `qc_model_describe_node` tells. As `snprintf` does.
///
/// `measured` is what `qc_model_profile` gave for `images` images, `predicted` what `qc_model_predict` gave, or NULL for none;
/// each has `n_nodes` elements. `buf`, `len` and `length` are as for `qc_model_describe_node`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_report(
    model: *const qc_model,
    measured: *const f32,
    predicted: *const f32,
    n_nodes: usize,
    images: usize,
    buf: *mut c_char,
    len: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
    enter(|| unsafe {
        let (model, length) = (handle("model", model)?, Out::new("length", length)?);
        let measured = slice("measured", measured, n_nodes)?;
        let predicted = match predicted.is_null() {
            true => None,
            false => Some(slice("predicted", predicted, n_nodes)?),
        };
        let text = model.0.with("model", |model| {
            check_nodes(model, n_nodes)?;
            let measured = times("measured", measured)?;
            let predicted = match predicted {
                None => vec![None; n_nodes],
                // A prediction of 0 says that there is none.
                Some(seconds) => times("predicted", seconds)?
                    .into_iter()
                    .map(|time| Some(time).filter(|time| !time.is_zero()))
                    .collect(),
            };
            let report = Report::new(model.describe(), &predicted, &measured, images)?;
            Ok(report.to_string())
        })?;
        copy_text(text.as_bytes(), buf, len, length)
    })
}

/// Seconds as times. Errors if one of them is none.
fn times(name: &'static str, seconds: &[f32]) -> Answer<Vec<Duration>> {
    let time = |&seconds: &f32| {
        Duration::try_from_secs_f32(seconds)
            .map_err(|_| Error::argument(name, seconds, "seconds, 0 or more").into())
    };
    seconds.iter().map(time).collect()
}
