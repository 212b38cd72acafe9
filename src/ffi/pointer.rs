//! Pointers from C, checked as far as they can be: NULL, alignment, overflow, sizes of structs.
//!
//! What cannot be checked is the caller's promise at the head of the header: that the memory is there,
//! and that nobody else touches it in the wrong way during the call. It is the condition of every
//! unsafe function here. Memory that is to be written may be uninitialised; slices of it are slices of
//! plain integers or floats, and the operations write them without looking.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use super::status::{Answer, Failure};
use crate::error::Error;

/// Types that any bytes are a value of and that own nothing: elements of slices.
pub(super) trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for i32 {}
impl Plain for f32 {}
impl Plain for usize {}

/// A struct of the header that begins with `size_t struct_size` and may grow at its end.
///
/// # Safety
///
/// The type is `repr(C)`, has no padding, its first field is `struct_size: usize`, and any bytes are a
/// value of it.
pub(super) unsafe trait Growing: Copy {}

fn aligned<T>(name: &'static str, ptr: *const T) -> Answer<()> {
    if ptr.is_null() {
        return Err(Failure::null(name));
    }
    if !ptr.is_aligned() {
        let expected = format!("a multiple of {}", align_of::<T>());
        return Err(Error::argument(name, format_args!("at address {ptr:p}"), expected).into());
    }
    Ok(())
}

fn check<T>(name: &'static str, ptr: *const T, len: usize) -> Answer<()> {
    aligned(name, ptr)?;
    let bytes = len.checked_mul(size_of::<T>());
    let bytes = bytes.filter(|&b| b <= isize::MAX as usize);
    if bytes.and_then(|b| ptr.addr().checked_add(b)).is_none() {
        let value = format!("{len} elements long");
        return Err(Error::argument(name, value, "a size that fits in memory").into());
    }
    Ok(())
}

/// `len` elements to read.
///
/// # Safety
///
/// If `len` is not 0 and `ptr` not NULL, `len` elements are there that nobody writes during `'a`.
pub(super) unsafe fn slice<'a, T: Plain>(
    name: &'static str,
    ptr: *const T,
    len: usize,
) -> Answer<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check(name, ptr, len)?;
    // SAFETY: `check` saw that the pointer is not NULL, aligned, and that its bytes stay below
    // isize::MAX; the rest is this function's contract, and any bytes are a `Plain`.
    Ok(unsafe { std::slice::from_raw_parts(ptr, len) })
}

/// `len` elements to write.
///
/// # Safety
///
/// If `len` is not 0 and `ptr` not NULL, `len` elements are there that nobody else touches during `'a`.
pub(super) unsafe fn slice_mut<'a, T: Plain>(
    name: &'static str,
    ptr: *mut T,
    len: usize,
) -> Answer<&'a mut [T]> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(name, ptr, len)?;
    // SAFETY: as in `slice`, and by contract the access is exclusive.
    Ok(unsafe { std::slice::from_raw_parts_mut(ptr, len) })
}

/// The inside of a handle.
///
/// # Safety
///
/// `ptr` is NULL or a handle that this library made and that lives longer than `'a`.
pub(super) unsafe fn handle<'a, T>(name: &'static str, ptr: *const T) -> Answer<&'a T> {
    aligned(name, ptr)?;
    // SAFETY: the handle came out of a Box of this type and is alive by contract; handles are only ever
    // borrowed shared.
    Ok(unsafe { &*ptr })
}

/// A string that ends with a zero.
///
/// # Safety
///
/// `ptr` is NULL or such a string, and nobody writes it during `'a`.
pub(super) unsafe fn string<'a>(name: &'static str, ptr: *const c_char) -> Answer<&'a CStr> {
    if ptr.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: not NULL, and a string by contract.
    Ok(unsafe { CStr::from_ptr(ptr) })
}

/// Where one result goes, once there is one.
pub(super) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// # Safety
    ///
    /// `ptr` is NULL or has room for a `T` that nobody else touches while this lives.
    pub unsafe fn new(name: &'static str, ptr: *mut T) -> Answer<Self> {
        aligned(name, ptr)?;
        NonNull::new(ptr).map(Out).ok_or(Failure::null(name))
    }

    pub fn write(self, value: T) {
        // SAFETY: `new` saw that the pointer is not NULL and aligned; there is room by its contract.
        unsafe { self.0.write(value) }
    }
}

impl<T> Out<*mut T> {
    /// Gives out a handle that the caller has to free.
    pub fn give(self, value: T) {
        self.write(Box::into_raw(Box::new(value)));
    }
}

/// Copies `text` into `buf` as `snprintf` does, and its length into `length`.
///
/// # Safety
///
/// If `len` is not 0 and `buf` not NULL, `len` bytes are there that nobody else touches.
pub(super) unsafe fn copy_text(
    text: &[u8],
    buf: *mut c_char,
    len: usize,
    length: Out<usize>,
) -> Answer<()> {
    // SAFETY: the contract is this function's; a C char is a byte.
    let buf = unsafe { slice_mut("buf", buf.cast::<u8>(), len)? };
    if let Some(room) = buf.len().checked_sub(1) {
        let kept = text.len().min(room);
        buf[..kept].copy_from_slice(&text[..kept]);
        buf[kept] = 0;
    }
    length.write(text.len());
    Ok(())
}

fn check_size<T>(struct_size: usize) -> Answer<()> {
    // A page is more than any of these structs will ever take, and less than a length that is garbage.
    if (size_of::<T>()..=4096).contains(&struct_size) {
        return Ok(());
    }
    let expected = format!("sizeof of the struct, {} or more", size_of::<T>());
    Err(Error::argument("struct_size", struct_size, expected).into())
}

/// Reads a struct of options.
///
/// Errors if its `struct_size` is below that of the first version, or if the caller's header is newer
/// and asks for something that this version does not know.
///
/// # Safety
///
/// `ptr` is NULL or points to `struct_size` bytes that nobody writes.
pub(super) unsafe fn options<T: Growing>(name: &'static str, ptr: *const T) -> Answer<T> {
    aligned(name, ptr)?;
    // SAFETY: by contract there is at least the size itself, the first field of a `Growing`.
    let struct_size = unsafe { ptr.cast::<usize>().read() };
    check_size::<T>(struct_size)?;
    // SAFETY: by contract there are `struct_size` bytes, which are no fewer than a T.
    let all = unsafe { std::slice::from_raw_parts(ptr.cast::<u8>(), struct_size) };
    if all[size_of::<T>()..].iter().any(|&b| b != 0) {
        let value = format!("{struct_size} bytes long with something in the last of them");
        let expected = format!("zeros behind the {} that are known", size_of::<T>());
        return Err(Error::argument(name, value, expected).into());
    }
    // SAFETY: aligned, there, and any bytes are a value of a `Growing`.
    Ok(unsafe { ptr.read() })
}

/// Where a struct of results goes, once there is one; the caller has set its `struct_size`.
pub(super) struct OutStruct<T>(NonNull<T>);

impl<T: Growing> OutStruct<T> {
    /// # Safety
    ///
    /// `ptr` is NULL or points to as many bytes as its `struct_size` says, which nobody else touches.
    pub unsafe fn new(name: &'static str, ptr: *mut T) -> Answer<Self> {
        aligned(name, ptr)?;
        // SAFETY: by contract there is at least the size itself, the first field of a `Growing`.
        check_size::<T>(unsafe { ptr.cast::<usize>().read() })?;
        NonNull::new(ptr).map(OutStruct).ok_or(Failure::null(name))
    }

    /// Writes all fields but `struct_size`, which stays the caller's.
    pub fn write(self, value: T) {
        let size = self.0.cast::<usize>();
        // SAFETY: `new` saw that there are bytes for a whole T, aligned, the size first.
        unsafe {
            let struct_size = size.read();
            self.0.write(value);
            size.write(struct_size);
        }
    }
}

/// Fills a struct of options with `defaults`, for a caller whose header says that it is `struct_size`
/// bytes long: what this version does not know becomes zero.
///
/// # Safety
///
/// `ptr` is NULL or has room for `struct_size` bytes that nobody else touches.
pub(super) unsafe fn init<T: Growing>(
    name: &'static str,
    ptr: *mut T,
    struct_size: usize,
    defaults: T,
) -> Answer<()> {
    aligned(name, ptr)?;
    check_size::<T>(struct_size)?;
    // SAFETY: by contract and `check_size` there is room for a T and for `struct_size` bytes; the size
    // is the first field.
    unsafe {
        ptr.cast::<u8>().write_bytes(0, struct_size);
        ptr.write(defaults);
        ptr.cast::<usize>().write(struct_size);
    }
    Ok(())
}
