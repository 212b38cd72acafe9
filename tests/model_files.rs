//! The corpus: files made by each released version, beside what they give. See `tests/corpus/README.md`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use half::slice::HalfBitsSliceExt;
use qcore::isa::Isa;
use qcore::model::{Images, Kind, Mode, Model, ValueType};
use qcore::ops::{OutRows, Par, Pool};

/// The files of the corpus that end with `.qcore`.
fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let all = std::fs::read_dir(folder).unwrap();
    let mut all: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "qcore"));
    all.sort();
    all
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|&word| f32::from_le_bytes(word)).collect()
}

/// Bytes of an output of one image.
fn size(made: &ValueType) -> usize {
    made.kind.element_bytes() * made.stored_len()
}

/// All outputs of `model`, one behind the other, as bytes.
fn run(model: &Model, images: &[u8], mode: Mode, par: Par<'_>) -> Vec<u8> {
    let input = model.input();
    let as_floats = floats(images);
    let count = images.len() / size(&input);
    let as_halves: Vec<u16> = images
        .as_chunks::<2>()
        .0
        .iter()
        .map(|&half| u16::from_le_bytes(half))
        .collect();
    let images = match input.kind {
        Kind::F32 => Images::Floats(&as_floats),
        Kind::F16 => Images::F16(as_halves.reinterpret_cast()),
        Kind::Bf16 => Images::Bf16(as_halves.reinterpret_cast()),
        _ => Images::Bytes(images),
    };
    let mut all: Vec<Vec<u32>> = model
        .outputs()
        .iter()
        .map(|made| vec![0; (count * size(made)).div_ceil(4)])
        .collect();
    let outs = all.iter_mut().zip(model.outputs());
    let mut outs: Vec<OutRows<'_>> = outs
        .map(|(words, made)| {
            let len = count * made.stored_len();
            let halves = |words| &mut bytemuck::cast_slice_mut::<u32, u16>(words)[..len];
            match made.kind {
                Kind::F32 => OutRows::F32(bytemuck::cast_slice_mut(words)),
                Kind::F16 => OutRows::F16(halves(words).reinterpret_cast_mut()),
                Kind::Bf16 => OutRows::Bf16(halves(words).reinterpret_cast_mut()),
                Kind::I32 => OutRows::I32(bytemuck::cast_slice_mut(words)),
                Kind::Planes(_) => OutRows::Codes(words),
                Kind::Bytes(_) => OutRows::Bytes(&mut bytemuck::cast_slice_mut(words)[..len]),
            }
        })
        .collect();
    let mut workspace = model.workspace(3, par.threads(), mode).unwrap();
    model
        .run_all(images, &mut outs, &mut workspace, par)
        .unwrap();
    let outs = all.iter().zip(model.outputs());
    outs.flat_map(|(words, made)| {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        bytes[..count * size(made)].to_vec()
    })
    .collect()
}

#[test]
fn every_file_gives_what_it_gave_when_it_was_made() {
    let all = corpus();
    let pool = Pool::new(2).unwrap();
    for version in ["v1-", "v2-"] {
        let of = |path: &&PathBuf| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(version)
        };
        assert!(all.iter().filter(of).count() >= 2, "files of {version}");
    }
    for path in &all {
        let read = |ending: &str| std::fs::read(path.with_extension(ending)).unwrap();
        let (bytes, images, expected) = (read("qcore"), read("images"), read("expected"));
        assert!(
            bytes.len() < 16 << 10,
            "{path:?} is too large to be kept for ever"
        );
        for isa in Isa::available() {
            let model = Model::from_bytes_on(isa, &bytes).unwrap();
            for mode in [Mode::Latency, Mode::Throughput] {
                for par in [Par::Caller, Par::Pool(&pool)] {
                    let got = run(&model, &images, mode, par);
                    assert!(got == expected, "{path:?} on {isa}, {mode:?}");
                }
            }
            // Written anew, it is of the newest version and gives the same.
            let again = Model::from_bytes_on(isa, &model.to_bytes().unwrap()).unwrap();
            assert!(run(&again, &images, Mode::Latency, Par::Caller) == expected);
        }
    }
}

/// Whether there is a Python with what the script needs.
fn has_python() -> bool {
    let mut python = Command::new("python3");
    let said = python
        .args(["-c", "import numpy, safetensors.numpy"])
        .output();
    said.is_ok_and(|o| o.status.success())
}

/// The page on the format is enough: a program that knows nothing else writes a model, and computes what we compute.
#[test]
fn a_file_that_python_wrote_gives_what_python_computes() {
    if !has_python() {
        let why = "skipped: no python3 with numpy and safetensors (a_file_that_python_wrote)";
        let _ = writeln!(std::io::stderr(), "{why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-tests/model_file.py");
    let done = Command::new("python3")
        .arg("-B")
        .arg(script)
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let read = |ending: &str| std::fs::read(dir.path().join("net").with_extension(ending)).unwrap();
    let (images, expected) = (read("images"), read("expected"));
    for isa in Isa::available() {
        let model = Model::from_bytes_on(isa, &read("qcore")).unwrap();
        let got = run(&model, &images, Mode::Latency, Par::Caller);
        assert_eq!(floats(&got), floats(&expected), "{isa}");
    }
    // What we write, it reads: the script's reader checks the checksum and runs it.
    let ours = Model::from_bytes(&read("qcore")).unwrap();
    ours.save(&dir.path().join("net.qcore")).unwrap();
    let reader = "import sys; sys.path.insert(0, sys.argv[1]); import model_file, numpy as np; \
                  d, t = model_file.read(sys.argv[2] + '/net.qcore'); \
                  x = np.fromfile(sys.argv[2] + '/net.images', np.uint8).reshape(-1, 8, 6, 3).astype(np.int64); \
                  y = np.array([model_file.run(d, t, i)[0] for i in x], '<f4'); \
                  assert y.tobytes() == open(sys.argv[2] + '/net.expected', 'rb').read()";
    let mut python = Command::new("python3");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-tests");
    let done = python
        .args(["-B", "-c", reader])
        .arg(folder)
        .arg(dir.path())
        .output();
    let done = done.unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}
