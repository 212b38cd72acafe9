//! The programs, a test each: compiled, linked with the shared and with the static library, run.

use std::path::{Path, PathBuf};
use std::process::Command;

use half::bf16;
use qcore::isa::{Isa, OVERRIDE};
use qcore::model::{Mode, Model};
use qcore::nn::freeze;
use qcore::ops::{OutRows, Par, Pool};
use qcore::train::data::digits;
use qcore::train::recipe::Recipe;
use qcore::train::rule::Rule;
use qcore::train::trainer::Trainer;
use tempfile::TempDir;

use crate::models::{small_model, trained_model};
use crate::residual_net;
use crate::toolchain::{Compiler, Language, Link, has, library, skip, succeed};

/// A program in a folder of its own, linked in several ways.
struct Built {
    dir: TempDir,
    programs: Vec<PathBuf>,
}

/// Compiles a source for each language and links each object as told. None if there is no compiler.
fn build(source: &str, ways: &[(Language, Link)]) -> Option<Built> {
    let compiler = Compiler::find(ways[0].0)?;
    let dir = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("ffi-tests")
        .join(source);
    let programs = ways.iter().map(|&(language, link)| {
        let program = dir.path().join(format!("{language:?}-{link:?}"));
        let object = program.with_extension("o");
        compiler.object(&source, language, &object);
        compiler.link(&object, link, &program);
        program
    });
    let programs = programs.collect();
    Some(Built { dir, programs })
}

/// In C, both standards and both libraries at once.
const C: [(Language, Link); 2] = [(Language::C99, Link::Shared), (Language::C11, Link::Static)];

impl Built {
    /// Writes a model and its images beside the programs; the arguments that programs take for them.
    fn files(&self, (model, images): (Model, Vec<u8>)) -> [PathBuf; 2] {
        let paths = ["net.qcore", "images"].map(|name| self.dir.path().join(name));
        model.save(&paths[0]).unwrap();
        std::fs::write(&paths[1], images).unwrap();
        paths
    }
}

/// The command for a program: nothing of cargo's leads it to another library.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("LD_LIBRARY_PATH").env_remove(OVERRIDE);
    command
}

fn output(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

/// Runs a program that takes no arguments and prints the ISAs that it went through.
fn runs_on_every_isa(name: &str) {
    let Some(built) = build(&format!("{name}.c"), &C) else {
        return;
    };
    let isas: Vec<&str> = Isa::available().map(Isa::name).collect();
    for program in &built.programs {
        let said = output(&mut command(program));
        assert_eq!(said, format!("{name}: {}\n", isas.join(" ")));
    }
}

#[test]
fn gemm_c() {
    runs_on_every_isa("gemm");
}

#[test]
fn weight_only_c() {
    runs_on_every_isa("weight_only");
}

#[test]
fn float_conv_c() {
    let Some(built) = build("float_conv.c", &C) else {
        return;
    };
    let isas: Vec<&str> = Isa::available().map(Isa::name).collect();
    for program in &built.programs {
        let said = output(&mut command(program));
        assert_eq!(said, format!("float_conv: {}\n", isas.join(" ")));
    }
}

#[test]
fn conv_c() {
    runs_on_every_isa("conv");
}

#[test]
fn pooling_c() {
    runs_on_every_isa("pooling");
}

#[test]
fn nodes_c() {
    runs_on_every_isa("nodes");
}

#[test]
fn layers_c() {
    runs_on_every_isa("layers");
}

#[test]
fn steps_c() {
    let Some(built) = build("steps.c", &C) else {
        return;
    };
    for program in &built.programs {
        assert_eq!(output(&mut command(program)), "steps: all as worked out\n");
    }
}

#[test]
fn train_c() {
    let Some(built) = build("train.c", &C) else {
        return;
    };
    // The recipe of the program, on the same digits.
    let data = digits(5, 2000, 500).unwrap();
    let recipe = Recipe {
        arch: "64-32".to_string(),
        bits_a: 2,
        float_epochs: 2,
        epochs: 4,
        batch: 50,
        rule: Rule::BinaryConnect,
        seed: 5,
        ..Recipe::default()
    };
    let mut trainer = Trainer::new(recipe, &data).unwrap();
    let last = trainer.run(Par::Caller, &mut ()).unwrap().unwrap();
    let right = format!("train: {:.3} by epochs, ", last.test_accuracy);
    for (program, threads) in built.programs.iter().zip(["0", "2"]) {
        let said = output(command(program).arg(built.dir.path()).arg(threads));
        assert!(said.starts_with(&right), "{said}, here {right}");
        let [checkpoint, model] =
            ["whole", "model"].map(|name| built.dir.path().join(format!("{name}.safetensors")));
        let bytes = std::fs::read(&checkpoint).unwrap();
        assert!(bytes == trainer.to_bytes().unwrap(), "another checkpoint");
        let resumed = Trainer::resume(&checkpoint, &data).unwrap();
        assert_eq!(resumed.done(), 6);
        let frozen = freeze(resumed.net()).unwrap().to_bytes().unwrap();
        assert!(std::fs::read(&model).unwrap() == frozen, "another model");
    }
}

#[test]
fn errors_c() {
    let Some(built) = build("errors.c", &C) else {
        return;
    };
    for program in &built.programs {
        let said = output(&mut command(program));
        assert_eq!(said, "errors: all refused by name\n");
    }
}

#[test]
fn model_errors_c() {
    let Some(built) = build("model_errors.c", &C) else {
        return;
    };
    let files = built.files(small_model());
    for program in &built.programs {
        let said = output(command(program).args(&files));
        assert_eq!(said, "model_errors: all refused by name\n");
        // An ISA out of the environment that is not here is refused when it is asked for.
        let mut forced = command(program);
        let refused = forced.args(&files).env(OVERRIDE, "sse9").output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && said.contains("the ISA 'sse9'"),
            "{said}"
        );
    }
}

#[test]
fn model_c() {
    let Some(built) = build("model.c", &C) else {
        return;
    };
    let (model, images) = trained_model();
    let outputs = model.outputs()[0].len();
    let bytes = model.to_bytes().unwrap();
    let files = built.files((model, images.clone()));
    for isa in Isa::available() {
        let model = Model::from_bytes_on(isa, &bytes).unwrap();
        let count = images.len() / model.input().len();
        let mut expected = vec![0.0; count * outputs];
        let mut workspace = model.workspace(7, 2, Mode::Latency).unwrap();
        let pool = Pool::new(2).unwrap();
        model
            .run(&images, &mut expected, &mut workspace, Par::Pool(&pool))
            .unwrap();
        for program in &built.programs {
            for threads in ["0", "3"] {
                let mut command = command(program);
                let said = output(command.args(&files).arg(threads).env(OVERRIDE, isa.name()));
                assert!(said.starts_with(&format!("{isa} ")), "{said}");
                assert!(said.contains(&format!("{} nodes", model.describe().len())));
                let lines: Vec<&str> = said.lines().collect();
                let lines = &lines[lines.len() - count..];
                for (line, expected) in lines.iter().zip(expected.chunks(outputs)) {
                    check_image(line, expected);
                }
            }
        }
    }
}

/// The bits of the numbers of a line that `printf(" %a", ...)` wrote.
fn line_bits(line: &str) -> Vec<u32> {
    let numbers = line.split_whitespace().map(hex_float);
    numbers.map(f32::to_bits).collect()
}

#[test]
fn residual_net_c() {
    let Some(built) = build("residual_net.c", &C) else {
        return;
    };
    let images = residual_net::images(7);
    let [saved, path] = ["saved", "images"].map(|name| built.dir.path().join(name));
    std::fs::write(&path, &images).unwrap();
    for isa in Isa::available() {
        let model = residual_net::residual_net(isa, true);
        let [logits, stream] = model.outputs() else {
            panic!("two outputs");
        };
        let (logits, stream) = (logits.len(), stream.len());
        let mut expected = (vec![0.0; 7 * logits], vec![bf16::ZERO; 7 * stream]);
        let mut workspace = model.workspace(2, 1, Mode::Latency).unwrap();
        let mut outs = [
            OutRows::F32(&mut expected.0),
            OutRows::Bf16(&mut expected.1),
        ];
        model
            .run_all(&images, &mut outs, &mut workspace, Par::Caller)
            .unwrap();
        let classes: Vec<f32> = expected.0.clone();
        assert!(
            classes
                .chunks(logits)
                .skip(1)
                .all(|row| row != &classes[..logits])
        );
        for program in &built.programs {
            for threads in ["0", "2"] {
                let mut command = command(program);
                command
                    .arg(&path)
                    .arg(threads)
                    .arg(&saved)
                    .env(OVERRIDE, isa.name());
                let said = output(&mut command);
                let mut lines = said.lines();
                assert!(
                    lines.next().unwrap().starts_with(&format!("{isa} ")),
                    "{said}"
                );
                assert_eq!(lines.clone().count(), 7);
                let rows = expected.0.chunks(logits).zip(expected.1.chunks(stream));
                for (line, (logits, stream)) in lines.zip(rows) {
                    let stream = stream.iter().map(|x| x.to_f32());
                    let expected = logits.iter().copied().chain(stream);
                    let expected: Vec<u32> = expected.map(|x| x.to_bits()).collect();
                    assert_eq!(line_bits(line), expected, "{isa}, {threads} threads");
                }
                let one = residual_net::residual_net(isa, false);
                assert_eq!(std::fs::read(&saved).unwrap(), one.to_bytes().unwrap());
            }
        }
    }
}

#[test]
fn model_file_cpp() {
    let ways = [
        (Language::Cpp17, Link::Shared),
        (Language::Cpp20, Link::Static),
    ];
    let Some(built) = build("model_file.cpp", &ways) else {
        return;
    };
    let images = residual_net::images(7);
    for isa in Isa::available() {
        let model = residual_net::residual_net(isa, false);
        let outputs = model.outputs()[0].len();
        let mut expected = vec![0.0; 7 * outputs];
        let mut workspace = model.workspace(7, 1, Mode::Throughput).unwrap();
        model
            .run(&images, &mut expected, &mut workspace, Par::Caller)
            .unwrap();
        let files = built.files((model, images.clone()));
        for program in &built.programs {
            let mut command = command(program);
            let said = output(command.args(&files).arg("3").env(OVERRIDE, isa.name()));
            let lines: Vec<&str> = said.lines().filter(|l| l.contains("0x")).collect();
            assert_eq!(lines.len(), 7, "{said}");
            for (line, expected) in lines.iter().zip(expected.chunks(outputs)) {
                let expected: Vec<u32> = expected.iter().map(|x| x.to_bits()).collect();
                assert_eq!(line_bits(line), expected, "{isa}");
            }
        }
    }
}

/// Compares `class: logit logit ...` with the logits that Rust gave, bit for bit.
fn check_image(line: &str, expected: &[f32]) {
    let (class, logits) = line.split_once(": ").unwrap();
    let logits: Vec<u32> = logits.split(' ').map(|t| hex_float(t).to_bits()).collect();
    let bits: Vec<u32> = expected.iter().map(|x| x.to_bits()).collect();
    assert_eq!(logits, bits, "{line}");
    let first_best = (0..expected.len())
        .reduce(|best, j| {
            if expected[j] > expected[best] {
                j
            } else {
                best
            }
        })
        .unwrap();
    assert_eq!(class.parse(), Ok(first_best), "{line}");
}

/// The number that `printf("%a")` wrote: a sign, 0x, hexadecimal digits with a point, p, an exponent.
fn hex_float(text: &str) -> f32 {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (digits, exponent) = digits.strip_prefix("0x").unwrap().split_once('p').unwrap();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mantissa = u64::from_str_radix(&format!("{whole}{fraction}"), 16).unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    let value = mantissa as f64 * 2f64.powi(exponent - 4 * fraction.len() as i32);
    (if negative { -value } else { value }) as f32
}

#[test]
fn hex_floats_read_back() {
    let pairs = [
        ("0x1.8p+1", 3.0),
        ("-0x1p-2", -0.25),
        ("0x0p+0", 0.0),
        ("0x1.fffffep+127", f32::MAX),
    ];
    for (text, value) in pairs {
        assert_eq!(hex_float(text).to_bits(), f32::to_bits(value));
    }
    assert_eq!(hex_float("-0x0p+0").to_bits(), (-0.0f32).to_bits());
}

#[test]
fn threads_c() {
    let Some(built) = build("threads.c", &C) else {
        return;
    };
    let files = built.files(trained_model());
    for program in &built.programs {
        let said = output(command(program).args(&files));
        assert!(said.starts_with("threads: 8"), "{said}");
        // How often two met depends on the machine; `--nocapture` shows it.
        print!("{said}");
    }
}

#[test]
fn fork_c() {
    let Some(built) = build("fork.c", &C) else {
        return;
    };
    for program in &built.programs {
        assert_eq!(output(&mut command(program)), "fork: the child is done\n");
    }
}

#[test]
fn raii_cpp() {
    let ways = [
        (Language::Cpp17, Link::Shared),
        (Language::Cpp17, Link::Static),
    ];
    let Some(built) = build("raii.cpp", &ways) else {
        return;
    };
    for program in &built.programs {
        let said = output(&mut command(program));
        assert!(
            said.starts_with("raii: QC_ERROR_ARGUMENT: weight_words is 2; expected 4"),
            "{said}"
        );
    }
}

#[test]
fn train_cpp() {
    let ways = [
        (Language::Cpp17, Link::Shared),
        (Language::Cpp20, Link::Static),
    ];
    let Some(built) = build("train.cpp", &ways) else {
        return;
    };
    for program in &built.programs {
        let said = output(command(program).arg(built.dir.path().join("checkpoint")));
        assert!(said.starts_with("train: QC_ERROR_ARGUMENT: "), "{said}");
        assert!(said.ends_with("did you mean lenet5-bcgd?\n"), "{said}");
    }
}

#[test]
fn unload_c() {
    let Some(built) = build("unload.c", &[(Language::C11, Link::Not)]) else {
        return;
    };
    let said = output(command(&built.programs[0]).arg(library("libqcore.so")));
    assert_eq!(said, "unload: still mapped\n");
}

/// Runs under valgrind, which knows no AVX-512: errors and memory that is lost for certain are failures.
fn valgrind(program: &Path) -> Command {
    let mut valgrind = command(Path::new("valgrind"));
    valgrind.args(["--quiet", "--error-exitcode=1", "--leak-check=full"]);
    valgrind
        .arg("--errors-for-leak-kinds=definite")
        .arg(concat!(
            "--suppressions=",
            env!("CARGO_MANIFEST_DIR"),
            "/ffi-tests/valgrind.supp"
        ))
        .arg(program);
    valgrind
}

#[test]
fn gemm_c_in_valgrind() {
    if !has("valgrind") {
        return skip("no valgrind");
    }
    if let Some(built) = build("gemm.c", &C[..1]) {
        output(valgrind(&built.programs[0]).arg("quick"));
    }
}

#[test]
fn steps_c_in_valgrind() {
    if !has("valgrind") {
        return skip("no valgrind");
    }
    if let Some(built) = build("steps.c", &C[..1]) {
        output(&mut valgrind(&built.programs[0]));
    }
}

#[test]
fn train_c_in_valgrind() {
    if !has("valgrind") {
        return skip("no valgrind");
    }
    if let Some(built) = build("train.c", &C[..1]) {
        let mut valgrind = valgrind(&built.programs[0]);
        output(valgrind.arg(built.dir.path()).args(["0", "quick"]));
    }
}

#[test]
fn model_c_in_valgrind() {
    if !has("valgrind") {
        return skip("no valgrind");
    }
    if let Some(built) = build("model.c", &C[..1]) {
        let files = built.files(small_model());
        output(valgrind(&built.programs[0]).args(files).arg("2"));
    }
}
