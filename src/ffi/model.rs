//! C: packed nets, from a file or from memory, what they say of themselves, and the memory they run in.

use std::ffi::{CStr, OsStr, c_char};
use std::path::Path;
use std::sync::{Mutex, TryLockError};

use super::isa::c_name;
use super::model_builder::qc_value_type;
use super::pointer::{Growing, Out, OutStruct, handle, slice, slice_mut, string};
use super::status::{Answer, Failure};
use super::{Handle, enter, free};
use crate::error::Error;
use crate::model::{Kind, Mode, Model, Workspace};

/// Threads share the work on each image.
pub const QC_MODE_LATENCY: i32 = 0;
/// Each thread has images of its own.
pub const QC_MODE_THROUGHPUT: i32 = 1;

/// A packed net, ready to run. Immutable.
pub struct qc_model(pub(super) Handle<Model>);

/// The memory of one run at a time of one model.
pub struct qc_workspace {
    // Only ever tried, never waited for. The lock is poisoned by a panic, as every handle is.
    pub(super) workspace: Mutex<Workspace>,
}

/// What a model takes and gives. Set `struct_size` before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_model_info {
    /// `sizeof(qc_model_info)`.
    pub struct_size: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// Bits of a code of the image, 1 to 8; a code is a byte. 32 or 16 for images of floats.
    pub bits: usize,
    /// Elements of an image, height x width x channels.
    pub inputs: usize,
    /// Elements of the first output of an image: the logits, where there is no other.
    pub outputs: usize,
    /// Outputs that the model has.
    pub n_outputs: usize,
    /// Nodes, the images among them.
    pub nodes: usize,
    /// Bytes of all layers packed.
    pub packed_bytes: usize,
    /// Bytes that the same layers take in f32.
    pub float_bytes: usize,
    /// Name of the ISA it runs on; lives as long as the library.
    pub isa: *const c_char,
}

// SAFETY: repr(C), the size first, all fields as wide as it: no padding; integers and a raw pointer.
unsafe impl Growing for qc_model_info {}
const _: () = assert!(size_of::<qc_model_info>() == size_of::<[usize; 12]>());

/// Reads a model from a file, for the ISA that `QCORE_ISA` says, or else the best.
///
/// `path` is in the system's own encoding of file names. Free the model with `qc_model_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_load(path: *const c_char, model: *mut *mut qc_model) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let (path, out) = unsafe { (string("path", path)?, Out::new("model", model)?) };
        let model = Model::load(Path::new(&os_str(path)?))?;
        out.give(qc_model(Handle::new(model)));
        Ok(())
    })
}

#[cfg(unix)]
pub(super) fn os_str(path: &CStr) -> Answer<&OsStr> {
    use std::os::unix::ffi::OsStrExt;
    Ok(OsStr::from_bytes(path.to_bytes()))
}

#[cfg(not(unix))]
pub(super) fn os_str(path: &CStr) -> Answer<&OsStr> {
    let text = path.to_str();
    Ok(OsStr::new(text.map_err(|_| {
        Error::argument("path", path.to_string_lossy(), "UTF-8")
    })?))
}

/// Reads a model from the bytes of a file, else as `qc_model_load`. The bytes are not needed afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_load_memory(
    bytes: *const u8,
    len: usize,
    model: *mut *mut qc_model,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and lengths.
        let (bytes, out) = unsafe { (slice("bytes", bytes, len)?, Out::new("model", model)?) };
        let model = Model::from_bytes(bytes)?;
        out.give(qc_model(Handle::new(model)));
        Ok(())
    })
}

/// Writes the model into a file: beside it first, then under its name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_save(model: *const qc_model, path: *const c_char) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (model, path) = unsafe { (handle("model", model)?, string("path", path)?) };
        let path = Path::new(os_str(path)?);
        model.0.with("model", |model| Ok(model.save(path)?))
    })
}

/// The bytes of the model's file, which do not depend on the ISA.
///
/// `*length` receives their number. They are written if `len`, that of `bytes`, is not below it; with `len` 0 `bytes` may be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_to_bytes(
    model: *const qc_model,
    bytes: *mut u8,
    len: usize,
    length: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
        let (model, bytes, length) = unsafe {
            let model = handle("model", model)?;
            let bytes = slice_mut("bytes", bytes, len)?;
            (model, bytes, Out::new("length", length)?)
        };
        let made = model.0.with("model", |model| Ok(model.to_bytes()?))?;
        if let Some(room) = bytes.get_mut(..made.len()) {
            room.copy_from_slice(&made);
        }
        length.write(made.len());
        Ok(())
    })
}

/// What the model takes and gives. Set `info->struct_size` first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_get_info(
    model: *const qc_model,
    info: *mut qc_model_info,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (model, out) = unsafe { (handle("model", model)?, OutStruct::new("info", info)?) };
        out.write(model.0.with("model", |model| Ok(about(model)))?);
        Ok(())
    })
}

fn about(model: &Model) -> qc_model_info {
    let input = model.input();
    let bits = match input.kind {
        Kind::Bytes(encoding) => encoding.planes(),
        other => 8 * other.element_bytes(),
    };
    let (packed_bytes, float_bytes) = model.bytes();
    qc_model_info {
        struct_size: 0,
        height: input.height,
        width: input.width,
        channels: input.channels,
        bits,
        inputs: input.len(),
        outputs: model.outputs()[0].len(),
        n_outputs: model.outputs().len(),
        nodes: model.describe().len(),
        packed_bytes,
        float_bytes,
        isa: c_name(model.isa()).as_ptr(),
    }
}

/// The type of the images. Set `value_type->struct_size` first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_input_type(
    model: *const qc_model,
    value_type: *mut qc_value_type,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
        let (model, out) = unsafe {
            let model = handle("model", model)?;
            (model, OutStruct::new("value_type", value_type)?)
        };
        out.write(
            model
                .0
                .with("model", |model| Ok(qc_value_type::of(&model.input())))?,
        );
        Ok(())
    })
}

/// The type of output `index`, below `n_outputs`. Set `value_type->struct_size` first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_output_type(
    model: *const qc_model,
    index: usize,
    value_type: *mut qc_value_type,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
        let (model, out) = unsafe {
            let model = handle("model", model)?;
            (model, OutStruct::new("value_type", value_type)?)
        };
        out.write(model.0.with("model", |model| {
            let outputs = model.outputs();
            let output = outputs.get(index).ok_or_else(|| {
                let expected = format!("below {}, the model's outputs", outputs.len());
                Error::argument("index", index, expected)
            })?;
            Ok(qc_value_type::of(output))
        })?);
        Ok(())
    })
}

/// The memory that runs take, in bytes. Set `struct_size` before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_memory {
    /// `sizeof(qc_memory)`.
    pub struct_size: usize,
    /// Values at most at one time, of all threads' images; the images themselves are the caller's.
    pub peak_bytes: usize,
    /// Working space of the neediest node, on all threads.
    pub scratch_bytes: usize,
    /// Both, as `qc_workspace_new` takes them: the sizes are rounded up to cache lines.
    pub workspace_bytes: usize,
    /// Packed weights, thresholds, scales and the like.
    pub weight_bytes: usize,
}

// SAFETY: repr(C), the size first, all fields as wide as it: no padding; integers.
unsafe impl Growing for qc_memory {}
const _: () = assert!(size_of::<qc_memory>() == size_of::<[usize; 5]>());

/// What `qc_workspace_new` with these arguments takes, and the model's weights; nothing is allocated. Set
/// `memory->struct_size` first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_memory(
    model: *const qc_model,
    images: usize,
    threads: usize,
    mode: i32,
    memory: *mut qc_memory,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
        let (model, out) = unsafe { (handle("model", model)?, OutStruct::new("memory", memory)?) };
        let mode = self::mode(mode)?;
        let planned = model
            .0
            .with("model", |model| Ok(model.planned(images, threads, mode)?))?;
        out.write(qc_memory {
            struct_size: 0,
            peak_bytes: planned.peak,
            scratch_bytes: planned.scratch,
            workspace_bytes: planned.workspace,
            weight_bytes: planned.weights,
        });
        Ok(())
    })
}

fn mode(mode: i32) -> Answer<Mode> {
    match mode {
        QC_MODE_LATENCY => Ok(Mode::Latency),
        QC_MODE_THROUGHPUT => Ok(Mode::Throughput),
        other => {
            let expected = "QC_MODE_LATENCY or QC_MODE_THROUGHPUT";
            Err(Error::argument("mode", other, expected).into())
        }
    }
}

/// Memory for runs of `model` over up to `images` images at a time, more in turns, on up to `threads` threads (0: those of
/// a run without a pool, one), in a mode, `QC_MODE_LATENCY` or `QC_MODE_THROUGHPUT`.
///
/// One call at a time may use it. It does not need the model to live. Free it with `qc_workspace_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_workspace_new(
    model: *const qc_model,
    images: usize,
    threads: usize,
    mode: i32,
    workspace: *mut *mut qc_workspace,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (model, out) = unsafe { (handle("model", model)?, Out::new("workspace", workspace)?) };
        let mode = self::mode(mode)?;
        let workspace = model
            .0
            .with("model", |model| Ok(model.workspace(images, threads, mode)?))?;
        out.give(qc_workspace {
            workspace: Mutex::new(workspace),
        });
        Ok(())
    })
}

/// Bytes that a workspace takes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_workspace_bytes(
    workspace: *mut qc_workspace,
    bytes: *mut usize,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (workspace, out) = unsafe {
            let workspace = handle("workspace", workspace.cast_const())?;
            (workspace, Out::new("bytes", bytes)?)
        };
        out.write(workspace.with(|workspace| Ok(workspace.bytes()))?);
        Ok(())
    })
}

impl qc_workspace {
    /// Works on the workspace, unless another call does.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Workspace) -> Answer<R>) -> Answer<R> {
        let mut workspace = self.workspace.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Failure::busy("workspace"),
            TryLockError::Poisoned(_) => Failure::poisoned("workspace"),
        })?;
        work(&mut workspace)
    }
}

/// Ends a workspace; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_workspace_free(workspace: *mut qc_workspace) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(workspace) }
}

/// Ends a model; NULL does nothing. Workspaces are freed on their own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_free(model: *mut qc_model) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(model) }
}
