//! `include/qcore.h`: made from `src/ffi`, checked in, compared here, and compiled alone, as is `include/qcore.hpp`.

use std::path::Path;
use std::sync::Once;

use crate::toolchain::{Compiler, Language};

/// The sources in the order of the header.
const SOURCES: [&str; 24] = [
    "status",
    "last_error",
    "isa",
    "pool",
    "pack",
    "quantize",
    "quantize_rows",
    "gemm_options",
    "gemm",
    "weight_only",
    "finish",
    "conv",
    "float_conv",
    "pooling",
    "pooling_kinds",
    "model",
    "model_builder",
    "model_nodes",
    "model_run",
    "steps",
    "steps_masks",
    "steps_rules",
    "trainer",
    "trainer_info",
];

/// The header that is checked in, or, with `QCORE_WRITE_HEADER`, the one that was just made anew.
pub fn checked_in() -> String {
    static WRITTEN: Once = Once::new();
    let path = root().join("include/qcore.h");
    WRITTEN.call_once(|| {
        if std::env::var_os("QCORE_WRITE_HEADER").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, generate()).unwrap();
        }
    });
    std::fs::read_to_string(path).unwrap_or_default()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The promises at the head of the header are the documentation of `src/ffi/mod.rs`, but its first line.
fn head() -> String {
    let text = std::fs::read_to_string(root().join("src/ffi/mod.rs")).unwrap();
    let mut head = String::from(
        "/*\n * qcore: low-bit neural networks on ordinary CPUs.\n *\n * Made by cbindgen from src/ffi. To make it anew:\n * QCORE_WRITE_HEADER=1 cargo test --test ffi header\n",
    );
    for line in text.lines().skip(1).map_while(|l| l.strip_prefix("//!")) {
        head.push_str(&format!(" *{line}\n"));
    }
    head + " */\n"
}

/// Macros that tell the version at compile time.
fn version_macros() -> String {
    let part = |name: &str, value: &str| format!("#define QCORE_VERSION_{name} {value}\n");
    [
        "\n/** The version of this header; `qc_version` tells that of the library. */\n"
            .to_string(),
        format!("#define QCORE_VERSION \"{}\"\n", env!("CARGO_PKG_VERSION")),
        part("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        part("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        part("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ]
    .concat()
}

fn generate() -> String {
    let config = root().join("ffi-tests/cbindgen.toml");
    let mut config = cbindgen::Config::from_file(config).expect("a cbindgen.toml in order");
    config.header = Some(head());
    config.after_includes = Some(version_macros());
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root().join(format!("src/ffi/{source}.rs")));
    }
    let mut text = Vec::new();
    let bindings = builder
        .generate()
        .expect("sources that cbindgen understands");
    bindings.write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn header_is_what_the_sources_say() {
    let (checked_in, made) = (checked_in(), generate());
    let differs = made
        .lines()
        .zip(checked_in.lines())
        .position(|(a, b)| a != b)
        .unwrap_or(made.lines().count().min(checked_in.lines().count()));
    assert!(
        made == checked_in,
        "include/qcore.h differs from src/ffi at line {}; to make it anew: \
         QCORE_WRITE_HEADER=1 cargo test --test ffi header",
        differs + 1
    );
}

#[test]
fn header_holds_every_function_and_file_of_the_sources() {
    let header = checked_in();
    for entry in std::fs::read_dir(root().join("src/ffi")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter(|l| l.contains("extern \"C\" fn qc_")) {
            let name = line.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            assert!(header.contains(&format!("{name}(")), "{name}");
        }
    }
}

/// Compiles a file that includes nothing but `header`, twice.
fn compiles_alone(header: &str, languages: &[Language]) {
    for &language in languages {
        let Some(compiler) = Compiler::find(language) else {
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let alone = dir.path().join(format!("alone.{}", language.extension()));
        std::fs::write(&alone, format!("#include \"{header}\"\n").repeat(2)).unwrap();
        compiler.object(&alone, language, &dir.path().join("alone.o"));
    }
}

#[test]
fn header_compiles_alone_in_every_language() {
    checked_in();
    compiles_alone("qcore.h", &Language::ALL);
}

#[test]
fn cpp_header_compiles_alone_from_17_on() {
    compiles_alone("qcore.hpp", &Language::ALL[4..]);
}
