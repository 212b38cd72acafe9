//! C: packed nets, from a file or from memory, and the memory they run in.

use std::ffi::{CStr, OsStr, c_char};
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, TryLockError};

use super::isa::c_name;
use super::pointer::{Growing, Out, OutStruct, copy_text, handle, slice, slice_mut, string};
use super::pool::{par, qc_pool};
use super::status::{Answer, Failure};
use super::{Handle, enter, free};
use crate::model::{Kind, Mode, Model, Workspace};

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
    /// Bits of a code of the image, 1 to 8, a code is a byte; 32 for floats.
    pub bits: usize,
    /// Logits of an image: elements of the first output.
    pub outputs: usize,
    /// Nodes, the image aside.
    pub layers: usize,
    /// Bytes of all nodes packed.
    pub packed_bytes: usize,
    /// Bytes that the same nodes take in f32.
    pub float_bytes: usize,
    /// Name of the ISA it runs on; lives as long as the library.
    pub isa: *const c_char,
}

// SAFETY: repr(C), the size first, all fields as wide as it: no padding; integers and a raw pointer.
unsafe impl Growing for qc_model_info {}
const _: () = assert!(size_of::<qc_model_info>() == size_of::<[usize; 10]>());

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
fn os_str(path: &CStr) -> Answer<&OsStr> {
    use std::os::unix::ffi::OsStrExt;
    Ok(OsStr::from_bytes(path.to_bytes()))
}

#[cfg(not(unix))]
fn os_str(path: &CStr) -> Answer<&OsStr> {
    use crate::error::Error;
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
        _ => 32,
    };
    let (packed_bytes, float_bytes) = model.bytes();
    qc_model_info {
        struct_size: 0,
        height: input.height,
        width: input.width,
        channels: input.channels,
        bits,
        outputs: model.outputs()[0].len(),
        layers: model.describe().len() - 1,
        packed_bytes,
        float_bytes,
        isa: c_name(model.isa()).as_ptr(),
    }
}

/// The nodes, for people, a line each. As `snprintf` does.
///
/// `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
/// `*length` receives the length of the whole text without its zero: the text was cut if that is not
/// below `len`.
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
        let text = model.0.with("model", |model| Ok(nodes_text(model)))?;
        copy_text(text.as_bytes(), buf, len, length)
    })
}

fn nodes_text(model: &Model) -> String {
    let mut text = String::new();
    for (i, node) in model.describe().iter().enumerate() {
        let (op, shape, bits, leaves) = (node.op, &node.shape, &node.bits, &node.leaves);
        // Writing to a String cannot fail.
        let _ = write!(text, "{i}: {op} {shape}, {bits} -> {leaves}");
        let _ = match node.kernel.as_str() {
            "" => writeln!(text),
            kernel => writeln!(text, ", {kernel}"),
        };
    }
    text
}

/// Memory for runs of `model` over up to `images` images at a time on up to `threads` threads (0 is 1), which work together on
/// each image; more images go through in turns.
///
/// One call at a time may use it. It does not need the model to live. Free it with `qc_workspace_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_workspace_new(
    model: *const qc_model,
    images: usize,
    threads: usize,
    workspace: *mut *mut qc_workspace,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (model, out) = unsafe { (handle("model", model)?, Out::new("workspace", workspace)?) };
        let workspace = model.0.with("model", |model| {
            let made = model.workspace(images, threads, Mode::Latency);
            made.map_err(|e| Failure::named("images", e))
        })?;
        out.give(qc_workspace {
            workspace: Mutex::new(workspace),
        });
        Ok(())
    })
}

/// Ends a workspace; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_workspace_free(workspace: *mut qc_workspace) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(workspace) }
}

/// Logits of `images`, `[M, H, W, C]` with a byte a code, into `logits`, `[M, outputs]`.
///
/// M follows from `n_bytes`, the length of `images`; `n_logits` is M x outputs. Nothing is allocated.
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
        let images = slice("images", images, n_bytes)?;
        let logits = slice_mut("logits", logits, n_logits)?;
        let workspace = handle("workspace", workspace.cast_const())?;
        let par = par(pool)?;
        model.0.with("model", |model| {
            let mut workspace = workspace.workspace.try_lock().map_err(|e| match e {
                TryLockError::WouldBlock => Failure::busy("workspace"),
                TryLockError::Poisoned(_) => Failure::poisoned("workspace"),
            })?;
            Ok(model.run(images, logits, &mut workspace, par)?)
        })
    })
}

/// Ends a model; NULL does nothing. Workspaces are freed on their own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_free(model: *mut qc_model) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(model) }
}
