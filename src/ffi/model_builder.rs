//! C: a model that is being built, and the types of its values.

use std::ffi::c_char;
use std::sync::{Mutex, TryLockError};

use super::model::qc_model;
use super::pack::{QC_BIPOLAR, QC_S1, QC_TERNARY, QC_U1, QC_U8, encoding};
use super::pointer::{Growing, Out, OutStruct, handle, init, options, slice, string};
use super::status::{Answer, Failure};
use super::{Handle, enter, free};
use crate::bits::Encoding;
use crate::error::Error;
use crate::model::{Kind, MAX_OUTPUTS, ModelBuilder, Value, ValueType};

/// Kind: packed codes, `uint32_t` words, a row of the packed form a pixel.
pub const QC_KIND_PLANES: i32 = 0;
/// Kind: codes a byte each, `uint8_t`; signed ones in two's complement of eight bits.
pub const QC_KIND_BYTES: i32 = 1;
/// Kind: `float`.
pub const QC_KIND_F32: i32 = 2;
/// Kind: the sums of a layer, `int32_t`, which no node reads.
pub const QC_KIND_I32: i32 = 3;
/// Kind: floats of 16 bits in IEEE 754's binary16, `uint16_t`.
pub const QC_KIND_F16: i32 = 4;
/// Kind: the upper halves of floats, `uint16_t`.
pub const QC_KIND_BF16: i32 = 5;

/// The type of a value of a model: images, NHWC, as many as a run has. Fill it with `qc_value_type_init` first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_value_type {
    /// `sizeof(qc_value_type)`.
    pub struct_size: usize,
    /// Rows of an image, H. Default: 1.
    pub height: usize,
    /// Columns of an image, W. Default: 1.
    pub width: usize,
    /// Channels of a pixel, C. Default: 1.
    pub channels: usize,
    /// `QC_KIND_...`. Default: `QC_KIND_BYTES`.
    pub kind: i32,
    /// Encoding of codes; 0 for the other kinds. Default: `QC_U8`.
    pub encoding: i32,
}

// SAFETY: repr(C), the size first, three fields as wide, then two of four bytes: no padding; integers.
unsafe impl Growing for qc_value_type {}
const _: () = assert!(size_of::<qc_value_type>() == size_of::<[usize; 4]>() + 2 * 4);

impl qc_value_type {
    pub(super) fn of(made: &ValueType) -> Self {
        let (kind, encoding) = match made.kind {
            Kind::Planes(e) => (QC_KIND_PLANES, number(e)),
            Kind::Bytes(e) => (QC_KIND_BYTES, number(e)),
            Kind::F32 => (QC_KIND_F32, 0),
            Kind::I32 => (QC_KIND_I32, 0),
            Kind::F16 => (QC_KIND_F16, 0),
            Kind::Bf16 => (QC_KIND_BF16, 0),
        };
        qc_value_type {
            struct_size: 0,
            height: made.height,
            width: made.width,
            channels: made.channels,
            kind,
            encoding,
        }
    }

    fn value_type(&self) -> Answer<ValueType> {
        let codes = || encoding("encoding", self.encoding);
        let kind = match self.kind {
            QC_KIND_PLANES => Kind::Planes(codes()?),
            QC_KIND_BYTES => Kind::Bytes(codes()?),
            QC_KIND_F32 => Kind::F32,
            QC_KIND_I32 => Kind::I32,
            QC_KIND_F16 => Kind::F16,
            QC_KIND_BF16 => Kind::Bf16,
            other => {
                let expected = "QC_KIND_PLANES .. QC_KIND_BF16";
                return Err(Error::argument("kind", other, expected).into());
            }
        };
        Ok(ValueType {
            height: self.height,
            width: self.width,
            channels: self.channels,
            kind,
        })
    }
}

/// The number of an encoding in C.
fn number(encoding: Encoding) -> i32 {
    let bits = encoding.planes() as i32;
    match encoding {
        Encoding::Bipolar => QC_BIPOLAR,
        Encoding::Ternary => QC_TERNARY,
        Encoding::Unsigned(_) => QC_U1 + bits - 1,
        Encoding::Signed(_) => QC_S1 + bits - 1,
    }
}

/// Fills `*value_type` with the defaults. `struct_size` is `sizeof *value_type`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_value_type_init(
    struct_size: usize,
    value_type: *mut qc_value_type,
) -> i32 {
    let defaults = qc_value_type {
        struct_size,
        height: 1,
        width: 1,
        channels: 1,
        kind: QC_KIND_BYTES,
        encoding: QC_U8,
    };
    // SAFETY: the caller promises what the head of the header says about pointers and structs.
    enter(|| unsafe { init("value_type", value_type, struct_size, defaults) })
}

/// A model that is being built: a graph of nodes without cycles, from the images to the outputs.
///
/// Each `qc_model_builder_...` that makes a node checks everything about it, copies what it is given, and numbers the value
/// that the node makes, for later nodes to read: 0 is the images, and each node has the next number. An error names the
/// node and the argument, and leaves the builder as it was. One call at a time may use it.
pub struct qc_model_builder {
    // Only ever tried, never waited for. The lock is poisoned by a panic, as every handle is. None once it is built.
    builder: Mutex<Option<ModelBuilder>>,
}

impl qc_model_builder {
    /// Works on what is inside, whether it is built already or not.
    fn with_inside<R>(
        &self,
        work: impl FnOnce(&mut Option<ModelBuilder>) -> Answer<R>,
    ) -> Answer<R> {
        let mut inside = self.builder.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Failure::busy("builder"),
            TryLockError::Poisoned(_) => Failure::poisoned("builder"),
        })?;
        work(&mut inside)
    }

    /// Works on a builder that is not built yet.
    fn with<R>(&self, work: impl FnOnce(&mut ModelBuilder) -> Answer<R>) -> Answer<R> {
        self.with_inside(|inside| match inside {
            Some(builder) => work(builder),
            None => Err(used_up()),
        })
    }
}

fn used_up() -> Failure {
    let expected = "one that qc_model_builder_build has not used up";
    Error::argument("builder", "built already", expected).into()
}

/// The value of number `index`; `name` is the argument's.
pub(super) fn value(builder: &ModelBuilder, name: &'static str, index: usize) -> Answer<Value> {
    let value = builder.value(index);
    value.map_err(|e| Failure::named(name, e))
}

/// Adds a node and writes the number of its value.
///
/// # Safety
///
/// The caller's promises about the handle and the pointer.
pub(super) unsafe fn add(
    builder: *mut qc_model_builder,
    made: *mut usize,
    node: impl FnOnce(&mut ModelBuilder) -> Answer<Value>,
) -> Answer<()> {
    // SAFETY: the contract is this function's.
    let (builder, out) = unsafe {
        let builder = handle("builder", builder.cast_const())?;
        (builder, Out::new("value", made)?)
    };
    out.write(builder.with(node)?.index());
    Ok(())
}

/// A model that takes images of the type `image`: bytes, or floats of 32 or 16 bits. `isa` is the name of the ISA to run
/// on, or NULL for what `QCORE_ISA` says, or else the best. Free the builder with `qc_model_builder_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_new(
    image: *const qc_value_type,
    isa: *const c_char,
    builder: *mut *mut qc_model_builder,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers and structs.
        let (image, isa, out) = unsafe {
            let image = options("image", image)?.value_type()?;
            let isa = super::gemm_options::isa(isa)?;
            (image, isa, Out::new("builder", builder)?)
        };
        let builder = ModelBuilder::on(isa, image)?;
        out.give(qc_model_builder {
            builder: Mutex::new(Some(builder)),
        });
        Ok(())
    })
}

/// The type of a value. Set `value_type->struct_size` first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_type_of(
    builder: *mut qc_model_builder,
    value: usize,
    value_type: *mut qc_value_type,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and structs.
        let (builder, out) = unsafe {
            let builder = handle("builder", builder.cast_const())?;
            (builder, OutStruct::new("value_type", value_type)?)
        };
        let made = builder.with(|b| Ok(b.type_of(self::value(b, "value", value)?)?))?;
        out.write(qc_value_type::of(&made));
        Ok(())
    })
}

/// Gives the next node a name, UTF-8, for people: errors and descriptions show it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_name(
    builder: *mut qc_model_builder,
    name: *const c_char,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (builder, name) = unsafe {
            let builder = handle("builder", builder.cast_const())?;
            (builder, string("name", name)?)
        };
        let Ok(text) = name.to_str() else {
            return Err(Error::argument("name", name.to_string_lossy(), "UTF-8").into());
        };
        builder.with(|b| {
            b.named(text);
            Ok(())
        })
    })
}

/// The model with these outputs, 1 to 8 values, in this order. Free it with `qc_model_free`.
///
/// The builder is used up, unless an argument is refused; it is to be freed all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_build(
    builder: *mut qc_model_builder,
    outputs: *const usize,
    n_outputs: usize,
    model: *mut *mut qc_model,
) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles, pointers and lengths.
        let (builder, outputs, out) = unsafe {
            let builder = handle("builder", builder.cast_const())?;
            let outputs = slice("outputs", outputs, n_outputs)?;
            (builder, outputs, Out::new("model", model)?)
        };
        let model = builder.with_inside(|inside| {
            let kept = inside.as_ref().ok_or_else(used_up)?;
            let outputs = outputs.iter().map(|&index| value(kept, "outputs", index));
            let outputs = outputs.collect::<Answer<Vec<Value>>>()?;
            // What `build` would refuse, so that the builder is not used up.
            if !(1..=MAX_OUTPUTS).contains(&n_outputs) {
                let expected = format!("1 to {MAX_OUTPUTS}");
                return Err(Error::argument("n_outputs", n_outputs, expected).into());
            }
            let builder = inside.take().ok_or_else(used_up)?;
            Ok(builder.build(&outputs)?)
        })?;
        out.give(qc_model(Handle::new(model)));
        Ok(())
    })
}

/// Ends a builder; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_builder_free(builder: *mut qc_model_builder) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(builder) }
}
