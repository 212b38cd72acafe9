//! The command-line tool from outside: a whole small run, and every refusal with status 2 and nothing left
//! behind.
#![cfg(feature = "cli")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use qcore::train::data::{Images, digits};
use tempfile::TempDir;

#[path = "cli/output.rs"]
mod output;
#[path = "cli/reproduce.rs"]
mod reproduce;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/train.rs"]
mod train;

/// The tool, through cargo's runner where the tests were built for another machine.
fn tool() -> Command {
    let binary = env!("CARGO_BIN_EXE_qcore");
    let arch = std::env::consts::ARCH.to_uppercase();
    match std::env::var_os(format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER")) {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(binary);
            command
        }
        None => Command::new(binary),
    }
}

fn qcore(args: &[&str]) -> Output {
    tool().args(args).output().expect("the tool runs")
}

fn ok(args: &[&str]) -> String {
    let output = qcore(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The ISAs that a run of the tool takes: the one that `QCORE_ISA` forces, or all.
fn isas() -> Vec<qcore::isa::Isa> {
    match std::env::var_os(qcore::isa::OVERRIDE) {
        Some(_) => vec![qcore::isa::Isa::chosen().unwrap()],
        None => qcore::isa::Isa::available().collect(),
    }
}

/// Runs and must fail with status 2, saying each of `words`.
fn refused(args: &[&str], words: &[&str]) {
    let output = qcore(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?}: '{word}' is not in: {said}");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A folder of IDX files: 600 training and 100 test digits.
fn idx_folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = digits(3, 600, 100).unwrap();
    for (name, half) in [("train", &data.train), ("t10k", &data.test)] {
        write_idx(dir.path(), name, half);
    }
    dir
}

fn write_idx(dir: &Path, name: &str, half: &Images) {
    let header = |kind: u8, dims: &[usize]| -> Vec<u8> {
        let sizes = dims.iter().flat_map(|&d| (d as u32).to_be_bytes());
        [0, 0, 8, kind].into_iter().chain(sizes).collect()
    };
    let images = [header(3, &[half.len(), 28, 28]), half.pixels().to_vec()].concat();
    std::fs::write(dir.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
    let labels = [header(1, &[half.len()]), half.labels().to_vec()].concat();
    std::fs::write(dir.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A small run: its options, and where it writes to.
fn small<'a>(data: &'a Path, out: &'a Path) -> Vec<&'a str> {
    let mut args = vec![
        "train",
        "--data",
        path(data),
        "--out",
        path(out),
        "--arch",
        "32-32",
    ];
    args.extend(["--float-epochs", "2", "--epochs", "3", "--batch", "50"]);
    args
}

#[test]
fn train_eval_and_inspect() {
    let (data, out) = (idx_folder(), tempfile::tempdir().unwrap());
    let said = ok(&small(data.path(), out.path()));
    for word in [
        "float net:",
        "quantized net:",
        "bit for bit",
        "packed size:",
        "times smaller",
    ] {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
    let files = [
        "checkpoint.safetensors",
        "curves.svg",
        "log.jsonl",
        "model.safetensors",
    ];
    assert_eq!(names(out.path()), files);

    let log = std::fs::read_to_string(out.path().join("log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        lines.len(),
        1 + 5 + 1,
        "the recipe, five epochs, the result"
    );
    assert_eq!(lines[0]["recipe"]["arch"], "32-32");
    assert_eq!(
        (&lines[2]["phase"], &lines[3]["phase"]),
        (&"float".into(), &"quantized".into())
    );
    let accuracy = lines[6]["test_accuracy"].as_f64().unwrap();
    let svg = std::fs::read_to_string(out.path().join("curves.svg")).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("accuracy")
    );

    // The packed model alone gives the same accuracy, on every ISA.
    let model = out.path().join("model.safetensors");
    for isa in qcore::isa::Isa::available() {
        let mut command = tool();
        let eval = ["eval", path(&model), "--data", path(data.path()), "--json"];
        let output = command
            .args(eval)
            .env("QCORE_ISA", isa.name())
            .output()
            .unwrap();
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["isa"], isa.name());
        assert!((result["accuracy"].as_f64().unwrap() - 100.0 * accuracy).abs() < 1e-9);
    }
    let said = ok(&["inspect", path(&model)]);
    for word in [
        "32 x 784",
        "bipolar x u8",
        "10 x 32",
        "u4",
        "f32",
        "times smaller",
    ] {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }

    // The same seed gives the same model whatever the threads; a run resumed after its end adds nothing.
    let again = tempfile::tempdir().unwrap();
    let mut args = small(data.path(), again.path());
    args.extend(["--threads", "1"]);
    ok(&args);
    let bytes = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert!(
        bytes(out.path()) == bytes(again.path()),
        "two runs of one seed differ"
    );
    let checkpoint = out.path().join("checkpoint.safetensors");
    let resumed = tempfile::tempdir().unwrap();
    let (d, o) = (path(data.path()), path(resumed.path()));
    ok(&[
        "train",
        "--data",
        d,
        "--out",
        o,
        "--resume",
        path(&checkpoint),
    ]);
    assert!(bytes(out.path()) == bytes(resumed.path()));
}

#[test]
fn info_tells_the_isas() {
    let said = ok(&["info"]);
    assert!(
        said.contains("portable") && said.contains(env!("CARGO_PKG_VERSION")),
        "{said}"
    );
    let info: serde_json::Value = serde_json::from_str(&ok(&["info", "--json"])).unwrap();
    let isas = info["isas"].as_array().unwrap();
    assert_eq!(isas.len(), qcore::isa::Isa::ALL.len());
    assert_eq!(isas.iter().filter(|i| i["chosen"] == true).count(), 1);
    let output = tool()
        .arg("info")
        .env("QCORE_ISA", "sse9")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("the ISA 'sse9'") && said.contains("available: portable"),
        "{said}"
    );
}

#[test]
fn options_that_cannot_be_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("never");
    let cases: &[(&[&str], &[&str])] = &[
        (&["--frobnicate"], &["--frobnicate"]),
        (&["--bits-w", "9"], &["bits_w is 9", "1 to 8, or 32"]),
        (&["--recipe", "lenet5-bgcd"], &["did you mean lenet5-bcgd?"]),
        (&["--recipe", "nowhere.toml"], &["cannot read nowhere.toml"]),
        (
            &["--weights", "ternary-tnw"],
            &["did you mean ternary-twn?"],
        ),
        (&["--bits-a", "9"], &["bits_a is 9", "1 to 8"]),
        (&["--bits-a", "many"], &["many", "--bits-a"]),
        (&["--rule", "adam"], &["adam", "bcgd, binary-connect"]),
        (
            &["--rule", "forward-backtrak"],
            &["did you mean forward-backtrack?"],
        ),
        (&["--rule", "forward-backtrack:a=1.5"], &["a is 1.5"]),
        (&["--rule", "bcgd:a=0.5"], &["a", "rho"]),
        (
            &["--coarse-alpha", "alpha-four"],
            &["alpha-four", "alpha-three or alpha-ae"],
        ),
        (
            &["--bits-a", "32", "--coarse-alpha", "alpha-ae"],
            &["coarse_alpha is alpha-ae", "not used with bits_a = 32"],
        ),
        (
            &["--rule", "binary-connect", "--rho", "0.1"],
            &["--rho is 0.1"],
        ),
        (&["--rho", "2"], &["rho is 2"]),
        (&["--rho", "nan"], &["rho is NaN"]),
        (&["--lr", "nan"], &["lr is NaN"]),
        (&["--arch", "resnet"], &["arch is 'resnet'", "sfc"]),
        (&["--batch", "1"], &["batch is 1"]),
        (&["--activation", "sign", "--bits-a", "4"], &["bits_a is 4"]),
        (
            &["--bits-a", "32", "--coarse-x", "relu"],
            &["coarse_x is relu", "not used with bits_a = 32"],
        ),
        (
            &[
                "--activation",
                "sign",
                "--bits-a",
                "1",
                "--coarse-x",
                "relu",
            ],
            &["coarse_x is relu", "hard-tanh, piecewise-poly or identity"],
        ),
        (
            &["--bits-w", "4", "--weights", "binary-mean"],
            &["bits_w is 4", "1, the bits of weights = binary-mean"],
        ),
        (&["--gamma", "0.5"], &["--milestones"]),
        (&["--threads", "100000"], &["threads is 100000"]),
    ];
    for (options, words) in cases {
        let mut args = vec!["train", "--out", path(&target)];
        args.extend(*options);
        refused(&args, words);
        assert!(!target.exists(), "{options:?} left something behind");
    }
    refused(&["fly"], &["fly"]);
}

#[test]
fn data_that_is_not_there_or_not_whole_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("never");
    let train = |data: &Path, words: &[&str]| {
        refused(
            &["train", "--data", path(data), "--out", path(&target)],
            words,
        );
        assert!(!target.exists(), "something was left behind");
    };
    train(&out.path().join("nowhere"), &["nowhere"]);
    let data = idx_folder();
    let images: PathBuf = data.path().join("train-images-idx3-ubyte");
    let whole = std::fs::read(&images).unwrap();
    std::fs::write(&images, &whole[..whole.len() - 1]).unwrap();
    train(data.path(), &["train-images-idx3-ubyte"]);
    std::fs::write(&images, b"not IDX at all").unwrap();
    train(data.path(), &["train-images-idx3-ubyte"]);
}

#[test]
fn files_that_are_no_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.safetensors");
    std::fs::write(&file, b"GIF89a and some more bytes of it").unwrap();
    for command in ["eval", "inspect"] {
        refused(
            &[command, path(&file)],
            &["m.safetensors", "not a whole safetensors file"],
        );
        refused(
            &[command, path(&dir.path().join("gone"))],
            &["cannot read", "gone"],
        );
    }
    let data = idx_folder();
    let resume = [
        "train",
        "--data",
        path(data.path()),
        "--out",
        path(dir.path()),
        "--resume",
        path(&file),
    ];
    refused(&resume, &["m.safetensors", "not a whole safetensors file"]);
    assert_eq!(names(dir.path()), ["m.safetensors"]);
}

#[test]
fn an_output_that_cannot_be_written_ends_the_run_before_it_begins() {
    let (data, dir) = (idx_folder(), tempfile::tempdir().unwrap());
    let file = dir.path().join("a-file");
    std::fs::write(&file, b"in the way").unwrap();
    let out = file.join("out");
    refused(
        &["train", "--data", path(data.path()), "--out", path(&out)],
        &["cannot create", "a-file"],
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"in the way");
    assert_eq!(names(dir.path()), ["a-file"]);
}

/// The fields that every object of `bench --json` has.
const BENCH_FIELDS: [&str; 14] = [
    "op",
    "w",
    "a",
    "isa",
    "n",
    "m",
    "k",
    "threads",
    "kernel",
    "mac_per_cycle",
    "bound",
    "percent",
    "gmac_per_s",
    "ratio_to_f32",
];

#[test]
fn bench_measures_every_isa_and_writes_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let (page, svg) = (dir.path().join("page.md"), dir.path().join("roof.svg"));
    let said = ok(&[
        "bench",
        "--quick",
        "--json",
        "--markdown",
        path(&page),
        "--svg",
        path(&svg),
    ]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
    for row in &rows {
        for field in BENCH_FIELDS {
            assert!(row.get(field).is_some(), "no {field} in {row}");
        }
        if row["op"] != "quantize" {
            assert!(row["mac_per_cycle"].as_f64().unwrap() > 0.0, "{row}");
            assert!(row["ratio_to_f32"].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    let has = |fields: &[(&str, &str)]| {
        let fits = |row: &serde_json::Value| fields.iter().all(|(f, v)| row[f] == *v);
        assert!(rows.iter().any(fits), "no row with {fields:?}");
    };
    has(&[("op", "gemm"), ("w", "f32"), ("a", "f32")]);
    for isa in isas() {
        has(&[("op", "gemm"), ("isa", isa.name()), ("a", "u4")]);
        has(&[("op", "gemv"), ("isa", isa.name()), ("w", "ternary")]);
        has(&[("op", "quantize"), ("isa", isa.name()), ("a", "bipolar")]);
    }
    assert_eq!(names(dir.path()), ["page.md", "roof.svg"]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains(env!("CARGO_PKG_VERSION")) && page.contains("| GMAC/s |"),
        "{page}"
    );
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("MAC per cycle"));
}

#[test]
fn bench_measures_what_it_is_asked_for() {
    let narrow = ["bench", "--quick", "--json", "--isa", "portable"];
    let which = ["--pair", "s2:u3", "--shape", "33x1x40", "--threads", "1"];
    let said = ok(&[&narrow[..], &which].concat());
    let rows: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
    let products: Vec<_> = rows.iter().filter(|r| r["op"] == "gemv").collect();
    assert_eq!(products.len(), 2, "f32 and the pair");
    let row = products[1];
    assert_eq!((&row["w"], &row["a"]), (&"s2".into(), &"u3".into()));
    assert_eq!((&row["n"], &row["k"]), (&33.into(), &40.into()));
    assert!(row["bound"].is_null(), "plain Rust has no bound: {row}");
    assert!(
        rows.iter()
            .all(|r| r["isa"] == "portable" || r["w"] == "f32")
    );
}

#[test]
fn bench_refuses_what_cannot_be_measured() {
    let absent = qcore::isa::Isa::ALL
        .into_iter()
        .find(|isa| !isa.is_available());
    let absent = absent.expect("no machine is both x86 and Arm").name();
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere").join("page.md");
    let cases: &[(&[&str], &[&str])] = &[
        (&["--shape", "0x1"], &["0x1", "NxMxK"]),
        (&["--shape", "0x1x1"], &["0x1x1", "1 or more"]),
        (&["--shape", "1x2x3x4"], &["1x2x3x4"]),
        (&["--shape", "ax1x1"], &["ax1x1"]),
        (&["--shape=-1x1x1"], &["-1x1x1"]),
        (&["--shape", "99999999x1x99999999"], &["2^28"]),
        (&["--shape", "99999999999999999999x1x1"], &["NxMxK"]),
        (&["--pair", "bipolar"], &["bipolar", "WEIGHTS:ACTIVATIONS"]),
        (&["--pair", "bipolar:u9"], &["u9", "u1..u8"]),
        (&["--pair", "fp4:u4"], &["fp4"]),
        (&["--pair", "bipolar:ternary"], &["activation is ternary"]),
        (&["--isa", "sse9"], &["the ISA 'sse9'", "portable"]),
        (&["--isa", absent], &[absent, "cannot be used here"]),
        (&["--threads", "0"], &["threads is 0"]),
        (&["--threads", "2000"], &["threads is 2000"]),
        (&["--threads", "two"], &["two"]),
        (
            &["--markdown", path(&nowhere)],
            &["cannot write", "nowhere"],
        ),
    ];
    for (options, words) in cases {
        let mut args = vec!["bench", "--quick"];
        args.extend(*options);
        refused(&args, words);
    }
    assert_eq!(names(dir.path()), [""; 0]);
}
