//! OpenBLAS and oneDNN, looked for when the bench runs: nothing of them is needed to build it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr;

use libloading::Library;

use super::common::Shape;

/// The first of `names` that can be loaded.
fn load(names: &[&str]) -> Result<Library, String> {
    let mut problem = String::new();
    for name in names {
        // SAFETY: libraries of numerical routines, whose initializers do nothing but look at the processor.
        match unsafe { Library::new(*name) } {
            Ok(library) => return Ok(library),
            Err(e) => problem = e.to_string(),
        }
    }
    Err(problem)
}

/// A function of a library, which must have the type `T`.
///
/// # Safety
/// `T` is the type that the library's header declares, and the library outlives the result.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
    // SAFETY: the caller's promise.
    unsafe { library.get::<T>(name) }
        .map(|s| *s)
        .map_err(|e| e.to_string())
}

type Sgemm = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    f32,
    *const f32,
    c_int,
    *const f32,
    c_int,
    f32,
    *mut f32,
    c_int,
);

pub struct OpenBlas {
    sgemm: Sgemm,
    /// As it calls itself.
    pub version: String,
    _library: Library,
}

impl OpenBlas {
    pub fn load() -> Result<Self, String> {
        let library = load(&["libopenblas.so.0", "libopenblas.so"])?;
        // SAFETY: the declarations of cblas.h; the library is kept beside the function.
        unsafe {
            let threads: unsafe extern "C" fn(c_int) =
                symbol(&library, "openblas_set_num_threads")?;
            let config: unsafe extern "C" fn() -> *const c_char =
                symbol(&library, "openblas_get_config")?;
            let core: unsafe extern "C" fn() -> *const c_char =
                symbol(&library, "openblas_get_corename")?;
            threads(1);
            let text = |p: *const c_char| CStr::from_ptr(p).to_string_lossy().into_owned();
            let version = text(config())
                .split(' ')
                .take(2)
                .collect::<Vec<_>>()
                .join(" ");
            Ok(OpenBlas {
                sgemm: symbol(&library, "cblas_sgemm")?,
                version: format!("{version}, kernels {}", text(core())),
                _library: library,
            })
        }
    }

    /// `out` `[M, N]` = `a` `[M, K]` x `w` `[K, N]`.
    pub fn run(&self, shape: Shape, a: &[f32], w: &[f32], out: &mut [f32]) {
        let Shape { n, m, k } = shape;
        assert!(a.len() == m * k && w.len() == k * n && out.len() == m * n);
        let (rows, plain) = (101, 111);
        let (ni, mi, ki) = (n as c_int, m as c_int, k as c_int);
        // SAFETY: row-major matrices of the lengths that were checked, each with the stride of its rows.
        unsafe {
            let (a, w, out) = (a.as_ptr(), w.as_ptr(), out.as_mut_ptr());
            (self.sgemm)(
                rows, plain, plain, mi, ni, ki, 1.0, a, ki, w, ni, 0.0, out, ni,
            );
        }
    }
}

type Gemm = unsafe extern "C" fn(
    c_char,
    c_char,
    c_char,
    i64,
    i64,
    i64,
    f32,
    *const u8,
    i64,
    u8,
    *const i8,
    i64,
    i8,
    f32,
    *mut i32,
    i64,
    *const i32,
) -> c_int;

/// `dnnl_memory_desc_t` of oneDNN 2: 696 bytes, here with room to spare, never looked into.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct MemoryDesc([u8; 1024]);

/// `dnnl_matmul_desc_t` of oneDNN 2: 2,800 bytes, likewise.
#[repr(C, align(16))]
struct MatmulDesc([u8; 4096]);

#[repr(C)]
struct Argument {
    index: c_int,
    memory: *mut c_void,
}

type Pointer = *mut c_void;
type Dims = [i64; 12];

/// The functions of oneDNN 2 that a product with prepacked weights takes.
struct Primitives {
    describe: unsafe extern "C" fn(*mut MemoryDesc, c_int, *const i64, c_int, c_int) -> c_int,
    matmul: unsafe extern "C" fn(
        *mut MatmulDesc,
        *const MemoryDesc,
        *const MemoryDesc,
        *const MemoryDesc,
        *const MemoryDesc,
    ) -> c_int,
    choose:
        unsafe extern "C" fn(*mut Pointer, *const MatmulDesc, Pointer, Pointer, Pointer) -> c_int,
    reorder: unsafe extern "C" fn(
        *mut Pointer,
        *const MemoryDesc,
        Pointer,
        *const MemoryDesc,
        Pointer,
        Pointer,
    ) -> c_int,
    wanted: unsafe extern "C" fn(Pointer, c_int, c_int) -> *const MemoryDesc,
    query: unsafe extern "C" fn(Pointer, c_int, c_int, *mut c_void) -> c_int,
    size: unsafe extern "C" fn(*const MemoryDesc) -> usize,
    primitive: unsafe extern "C" fn(*mut Pointer, Pointer) -> c_int,
    memory: unsafe extern "C" fn(*mut Pointer, *const MemoryDesc, Pointer, *mut c_void) -> c_int,
    execute: unsafe extern "C" fn(Pointer, Pointer, c_int, *const Argument) -> c_int,
    wait: unsafe extern "C" fn(Pointer) -> c_int,
    engine: Pointer,
    stream: Pointer,
}

pub struct OneDnn {
    gemm: Gemm,
    primitives: Option<Primitives>,
    pub version: String,
}

/// `dnnl_cpu_isa_avx512_core_vnni`.
const VNNI: c_int = 0x67;

impl OneDnn {
    /// As it chooses for itself.
    pub fn load() -> Result<Self, String> {
        Self::of(load(&["libdnnl.so.2", "libdnnl.so.3", "libdnnl.so"])?)
    }

    /// A second instance that must do without AMX: a copy of the file, for a library is loaded once and takes its
    /// limit before its first use. To be called after [`OneDnn::load`].
    pub fn without_amx() -> Result<Self, String> {
        let maps = std::fs::read_to_string("/proc/self/maps").map_err(|e| e.to_string())?;
        let path = maps.lines().find_map(|line| {
            let path = line.split_whitespace().last()?;
            path.contains("libdnnl.so").then(|| PathBuf::from(path))
        });
        let path = path.ok_or("its file was not found")?;
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let copy = folder.path().join("libdnnl-copy.so");
        std::fs::copy(&path, &copy).map_err(|e| e.to_string())?;
        let library = load(&[copy.to_str().ok_or("a path that is no text")?])?;
        // SAFETY: the declaration of dnnl.h.
        let status = unsafe {
            let limit: unsafe extern "C" fn(c_int) -> c_int =
                symbol(&library, "dnnl_set_max_cpu_isa")?;
            limit(VNNI)
        };
        if status != 0 {
            return Err(format!("status {status} from dnnl_set_max_cpu_isa"));
        }
        Self::of(library)
    }

    fn of(library: Library) -> Result<Self, String> {
        // SAFETY: the declarations of dnnl.h; `dnnl_version` gives a struct that begins with three ints.
        unsafe {
            let version: unsafe extern "C" fn() -> *const [c_int; 3] =
                symbol(&library, "dnnl_version")?;
            let [major, minor, patch] = *version();
            let primitives = match major {
                2 => Some(Self::primitives(&library)?),
                _ => None,
            };
            let gemm = symbol(&library, "dnnl_gemm_u8s8s32")?;
            // Never unloaded: threads of OpenMP may stand in it.
            std::mem::forget(library);
            Ok(OneDnn {
                gemm,
                primitives,
                version: format!("{major}.{minor}.{patch}"),
            })
        }
    }

    /// # Safety
    /// The library is oneDNN 2.
    unsafe fn primitives(library: &Library) -> Result<Primitives, String> {
        // SAFETY: the declarations of dnnl.h of oneDNN 2; an engine of the processor and its stream, which live
        // as long as the process.
        unsafe {
            let engine_of: unsafe extern "C" fn(*mut Pointer, c_int, usize) -> c_int =
                symbol(library, "dnnl_engine_create")?;
            let stream_of: unsafe extern "C" fn(*mut Pointer, Pointer, u32) -> c_int =
                symbol(library, "dnnl_stream_create")?;
            let (mut engine, mut stream) = (ptr::null_mut(), ptr::null_mut());
            let statuses = [
                engine_of(&mut engine, 1, 0),
                stream_of(&mut stream, engine, 1),
            ];
            if statuses != [0, 0] {
                return Err(format!("status {statuses:?} for an engine and a stream"));
            }
            Ok(Primitives {
                describe: symbol(library, "dnnl_memory_desc_init_by_tag")?,
                matmul: symbol(library, "dnnl_matmul_desc_init")?,
                choose: symbol(library, "dnnl_primitive_desc_create")?,
                reorder: symbol(library, "dnnl_reorder_primitive_desc_create")?,
                wanted: symbol(library, "dnnl_primitive_desc_query_md")?,
                query: symbol(library, "dnnl_primitive_desc_query")?,
                size: symbol(library, "dnnl_memory_desc_get_size")?,
                primitive: symbol(library, "dnnl_primitive_create")?,
                memory: symbol(library, "dnnl_memory_create")?,
                execute: symbol(library, "dnnl_primitive_execute")?,
                wait: symbol(library, "dnnl_stream_wait")?,
                engine,
                stream,
            })
        }
    }

    /// `out` `[M, N]` = `a` `[M, K]` x `w` `[K, N]`, weights packed in each call.
    pub fn gemm(&self, shape: Shape, a: &[u8], w: &[i8], out: &mut [i32]) -> Result<(), String> {
        let Shape { n, m, k } = shape;
        assert!(a.len() == m * k && w.len() == k * n && out.len() == m * n);
        let [ni, mi, ki] = [n, m, k].map(|x| x as i64);
        let [no, fixed] = [b'N', b'F'].map(|c| c as c_char);
        // SAFETY: row-major matrices of the lengths that were checked, each with the stride of its rows.
        let status = unsafe {
            let (a, w, out) = (a.as_ptr(), w.as_ptr(), out.as_mut_ptr());
            (self.gemm)(
                no, no, fixed, mi, ni, ki, 1.0, a, ki, 0, w, ni, 0, 0.0, out, ni, &0,
            )
        };
        if status == 0 {
            Ok(())
        } else {
            Err(format!("status {status}"))
        }
    }

    /// The same with weights `[N, K]` reordered beforehand; errors where this oneDNN has no such product for us.
    pub fn matmul(&self, shape: Shape, a: &[u8], w: &[i8]) -> Result<Matmul<'_>, String> {
        let p = self
            .primitives
            .as_ref()
            .ok_or("declared here for oneDNN 2 alone")?;
        let Shape { n, m, k } = shape;
        assert!(a.len() == m * k && w.len() == k * n);
        let a = a.to_vec();
        let ok = |what: &str, status: c_int| match status {
            0 => Ok(()),
            _ => Err(format!("status {status} from {what}")),
        };
        let (s32, s8, u8s) = (4, 5, 6);
        let (any, rows, columns) = (1, 3, 22);
        // SAFETY: descriptors are larger than what the library writes; sources of reorder and product have
        // exactly the described sizes; those of the product belong to `Matmul`, beside its memory objects, and
        // their heap blocks do not move. Objects of the library are never given back.
        unsafe {
            let desc = |dims: [usize; 2], kind, tag| {
                let mut desc = MemoryDesc([0; 1024]);
                let mut all: Dims = [0; 12];
                all[..2].copy_from_slice(&dims.map(|d| d as i64));
                ok(
                    "memory_desc",
                    (p.describe)(&mut desc, 2, all.as_ptr(), kind, tag),
                )
                .map(|()| desc)
            };
            let source = desc([m, k], u8s, rows)?;
            let result = desc([m, n], s32, rows)?;
            let (plain, free) = (desc([k, n], s8, columns)?, desc([k, n], s8, any)?);
            let mut product = MatmulDesc([0; 4096]);
            ok(
                "matmul_desc",
                (p.matmul)(&mut product, &source, &free, ptr::null(), &result),
            )?;
            let (none, mut chosen) = (ptr::null_mut(), ptr::null_mut());
            ok(
                "primitive_desc",
                (p.choose)(&mut chosen, &product, none, p.engine, none),
            )?;
            let (weights_md, implementation) = (131, 8);
            let packed = (p.wanted)(chosen, weights_md, 0);
            let mut name: *const c_char = ptr::null();
            (p.query)(chosen, implementation, 0, (&raw mut name).cast());
            let name = match name.is_null() {
                true => String::new(),
                false => CStr::from_ptr(name).to_string_lossy().into_owned(),
            };
            let mut buffer = vec![0u64; (p.size)(packed).div_ceil(8)];
            let mut out = vec![0i32; m * n];
            let mut run = ptr::null_mut();
            ok("primitive", (p.primitive)(&mut run, chosen))?;
            let memory = |desc: *const MemoryDesc, at: *mut c_void| {
                let mut memory = ptr::null_mut();
                ok("memory", (p.memory)(&mut memory, desc, p.engine, at)).map(|()| memory)
            };
            let a_mem = memory(&source, a.as_ptr().cast_mut().cast())?;
            let w_mem = memory(&plain, w.as_ptr().cast_mut().cast())?;
            let packed_mem = memory(packed, buffer.as_mut_ptr().cast())?;
            let out_mem = memory(&result, out.as_mut_ptr().cast())?;
            let (mut order, mut reorder) = (ptr::null_mut(), ptr::null_mut());
            let status = (p.reorder)(&mut order, &plain, p.engine, packed, p.engine, none);
            ok("reorder", status)?;
            ok("reorder", (p.primitive)(&mut reorder, order))?;
            let argument = |index, memory| Argument { index, memory };
            let (from, to, weights) = (1, 17, 33);
            let arguments = [argument(from, w_mem), argument(to, packed_mem)];
            ok(
                "reorder",
                (p.execute)(reorder, p.stream, 2, arguments.as_ptr()),
            )?;
            ok("reorder", (p.wait)(p.stream))?;
            let arguments = [
                argument(from, a_mem),
                argument(weights, packed_mem),
                argument(to, out_mem),
            ];
            Ok(Matmul {
                primitives: p,
                run,
                arguments,
                name,
                packed: buffer,
                out,
                _activations: a,
            })
        }
    }
}

/// A product of oneDNN, prepacked.
pub struct Matmul<'a> {
    primitives: &'a Primitives,
    run: Pointer,
    arguments: [Argument; 3],
    /// Which kernel it chose.
    pub name: String,
    packed: Vec<u64>,
    out: Vec<i32>,
    _activations: Vec<u8>,
}

impl Matmul<'_> {
    pub fn run(&mut self) -> Result<(), String> {
        let p = self.primitives;
        // SAFETY: objects that `matmul` made, and buffers that are ours.
        let statuses = unsafe {
            [
                (p.execute)(self.run, p.stream, 3, self.arguments.as_ptr()),
                (p.wait)(p.stream),
            ]
        };
        if statuses == [0, 0] {
            Ok(())
        } else {
            Err(format!("status {statuses:?}"))
        }
    }

    pub fn out(&self) -> &[i32] {
        &self.out
    }

    pub fn weight_bytes(&self) -> usize {
        size_of_val(&self.packed[..])
    }
}
