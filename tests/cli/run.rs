//! `qcore run` and `qcore profile` from outside: images in files, results in JSON and `.npy`, refusals with status 2.

use std::path::{Path, PathBuf};

use super::{ok, refused};
use qcore::bits::{Encoding, PackedMatrix};
use qcore::model::{Conv, Kind, Linear, Mode, Model, ModelBuilder, ValueType, Window};
use qcore::ops::{ActivationFn, Finish, OutputKind, Par, ResidualAt};
use qcore::quant::{ActQuantizer, Granularity, Scales};
use serde_json::Value;
use tempfile::TempDir;

/// Bits that look random.
fn weights(n: usize, k: usize) -> PackedMatrix {
    let bit = |i: usize| (i * i + i / 3) % 5 % 2;
    let values: Vec<i32> = (0..n * k).map(|i| 2 * bit(i) as i32 - 1).collect();
    PackedMatrix::pack(Encoding::Bipolar, n, k, &values).unwrap()
}

fn finish(n: usize, output: OutputKind) -> Finish {
    let scale = (0..n).map(|i| 0.01 + 0.001 * i as f32).collect();
    let bias = (0..n).map(|i| 0.5 - 0.1 * i as f32).collect();
    Finish::new(
        scale,
        bias,
        ActivationFn::Identity,
        ResidualAt::Nowhere,
        output,
    )
    .unwrap()
}

/// 4 x 5 pixels of 3 channels of 8 bits, a convolution, 7 classes.
fn model() -> Model {
    let mut b = ModelBuilder::new(ValueType::image(4, 5, 3, 8).unwrap()).unwrap();
    let signs = OutputKind::Codes(ActQuantizer::Sign.into());
    let window = Window::new(3).padding(1);
    let conv = Conv::new(weights(16, 27), window, finish(16, signs));
    let image = b.image();
    let x = b.named("stem").conv(image, conv).unwrap();
    let linear = Linear::new(weights(7, 320), finish(7, OutputKind::F32));
    let logits = b.named("classes").linear(x, linear).unwrap();
    b.build(&[logits]).unwrap()
}

/// 2 x 2 pixels of 1 channel of floats; the logits are sums of pixels with signs.
fn float_model() -> Model {
    let mut b = ModelBuilder::new(ValueType::floats(2, 2, 1)).unwrap();
    let values = [1, 1, 1, 1, -1, -1, 1, 1];
    let weights = PackedMatrix::pack(Encoding::Bipolar, 2, 4, &values).unwrap();
    let scales = Scales::new(Granularity::Tensor, vec![1.0f32]).unwrap();
    let logits = b.float_linear(b.image(), weights, scales, None).unwrap();
    b.build(&[logits]).unwrap()
}

/// A folder with files, and their paths as arguments.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn model(&self, name: &str, model: &Model) -> String {
        model.save(&self.path(name)).unwrap();
        self.text(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.text(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// The floats of a `.npy` of this shape.
fn npy(path: &Path, shape: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let len = 10 + usize::from(bytes[8]) + 256 * usize::from(bytes[9]);
    let head = String::from_utf8_lossy(&bytes[..len]).into_owned();
    assert!(head.contains(&format!("'shape': {shape}")), "{head}");
    assert!(head.contains("'<f4'"), "{head}");
    let words = bytes[len..].as_chunks().0.iter();
    words.map(|&b| f32::from_le_bytes(b)).collect()
}

/// The bytes of a `.npy` of this type and shape.
fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let len = (text.len() as u16).to_le_bytes();
    [&b"\x93NUMPY\x01\x00"[..], &len, text.as_bytes(), data].concat()
}

fn png(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(rgb).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn runs_pictures_and_arrays() {
    let files = Files::new();
    let model = model();
    let path = files.model("net.qcore", &model);
    let images: Vec<u8> = (0..3 * 60).map(|i| (i * 37 % 251) as u8).collect();
    let picture = files.write("a.png", png(5, 4, &images[..60]));
    let ppm = files.write("b.ppm", [&b"P6 5 4 255\n"[..], &images[60..120]].concat());
    let raw = files.write("c.raw", &images[120..]);
    let out = files.text("out.npy");
    let said = ok(&[
        "run",
        &path,
        &picture,
        &ppm,
        &raw,
        "--out",
        &out,
        "--top",
        "2",
        "--threads",
        "2",
    ]);

    let mut logits = vec![0.0; 21];
    let mut workspace = model.workspace(3, 1, Mode::Latency).unwrap();
    model
        .run(&images, &mut logits, &mut workspace, Par::Caller)
        .unwrap();
    assert_eq!(npy(&files.path("out.npy"), "(3,7,)"), logits);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for ((line, name), row) in lines
        .iter()
        .zip([&picture, &ppm, &raw])
        .zip(logits.chunks(7))
    {
        let mut order: Vec<usize> = (0..7).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let expected = format!(
            "{name}: {} ({:.4}), {} ({:.4})",
            order[0], row[order[0]], order[1], row[order[1]]
        );
        assert_eq!(*line, expected);
    }

    // Both pictures as one array: the same, under numbers.
    let array = array("|u1", "(2, 4, 5, 3)", &images[..120]);
    let array = files.write("both.npy", array);
    let said = ok(&["run", &path, &array, "--json", "--top", "7"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let results = said["images"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[1]["image"], format!("{array}[1]"));
    for (result, row) in results.iter().zip(logits.chunks(7)) {
        for entry in result["top"].as_array().unwrap() {
            let index = entry["index"].as_u64().unwrap() as usize;
            assert_eq!(entry["value"].as_f64().unwrap() as f32, row[index]);
        }
    }
}

#[test]
fn runs_floats_with_mean_and_deviation() {
    let files = Files::new();
    let path = files.model("net.qcore", &float_model());
    let picture = files.write("a.pgm", "P2 2 2 4 0 1 2 4");
    let out = files.text("out.npy");
    ok(&["run", &path, &picture, "--out", &out]);
    assert_eq!(npy(&files.path("out.npy"), "(1,2,)"), [1.75, 1.25]);
    ok(&[
        "run", &path, &picture, "--out", &out, "--mean", "0.25", "--std", "0.5",
    ]);
    assert_eq!(npy(&files.path("out.npy"), "(1,2,)"), [1.5, 2.5]);
    refused(&["run", &path, &picture, "--std", "0"], &["std", "above 0"]);
}

#[test]
fn runs_signed_codes() {
    let files = Files::new();
    let image = ValueType {
        kind: Kind::Bytes(Encoding::signed(4).unwrap()),
        ..ValueType::floats(1, 1, 40)
    };
    let mut b = ModelBuilder::new(image).unwrap();
    let linear = Linear::new(weights(7, 40), finish(7, OutputKind::F32));
    let logits = b.linear(b.image(), linear).unwrap();
    let model = b.build(&[logits]).unwrap();
    let path = files.model("net.qcore", &model);
    let images: Vec<u8> = (0..2 * 40)
        .map(|i| ((i * 7 % 16) as i8 - 8) as u8)
        .collect();
    let mut logits = vec![0.0; 2 * 7];
    let mut workspace = model.workspace(2, 1, Mode::Latency).unwrap();
    model
        .run(&images[..], &mut logits, &mut workspace, Par::Caller)
        .unwrap();
    let raw = files.write("a.raw", &images);
    let array = files.write("a.npy", array("|i1", "(2, 40)", &images));
    for input in [raw, array] {
        let out = files.text("out.npy");
        ok(&["run", &path, &input, "--out", &out]);
        assert_eq!(npy(&files.path("out.npy"), "(2,7,)"), logits);
    }
    let wrong = files.write("b.raw", [8; 40]);
    refused(
        &["run", &path, &wrong],
        &["b.raw", "the value 8 at 0", "-8 to 7"],
    );
}

#[test]
fn runs_what_the_corpus_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = Files::new();
    let mut signed = 0;
    for name in super::names(&folder) {
        let Some(name) = name.strip_suffix(".qcore") else {
            continue;
        };
        let model = folder.join(format!("{name}.qcore"));
        let input = Model::load(&model).unwrap().input().kind;
        // Those of 16-bit floats are no raw file, whose floats have 32.
        if matches!(input, Kind::F16 | Kind::Bf16) {
            continue;
        }
        let images = std::fs::read(folder.join(format!("{name}.images"))).unwrap();
        let images = files.write("images.raw", images);
        ok(&["run", model.to_str().unwrap(), &images]);
        signed += usize::from(matches!(input, Kind::Bytes(Encoding::Signed(_))));
    }
    assert!(signed > 0, "no model of signed images");
}

#[test]
fn refuses_what_does_not_fit() {
    let files = Files::new();
    let path = files.model("net.qcore", &model());
    let small = files.write("small.png", png(4, 4, &[0; 48]));
    let grey = files.write("grey.pgm", [&b"P5 5 4 255\n"[..], &[0; 20]].concat());
    let good = files.write("good.raw", [0; 60]);
    let out = files.text("out.npy");
    refused(
        &["run", &path, &good, &small, "--out", &out],
        &["small.png", "4 high, 4 wide", "4 high, 5 wide"],
    );
    refused(
        &["run", &path, &grey],
        &["grey.pgm", "1 channel;", "3 channels"],
    );
    refused(
        &["run", &path, &files.text("none.png")],
        &["cannot read", "none.png"],
    );
    refused(&["run", &path], &["INPUT"]);
    refused(&["run", &good, &good], &["good.raw"]);
    refused(
        &["run", &path, &good, "--output", "1"],
        &["output is 1", "below 1"],
    );
    refused(
        &["run", &path, &good, "--out", &files.text("no/out.npy")],
        &["cannot write", "out.npy:"],
    );
    refused(
        &["run", &path, &good, "--mean", "0.5"],
        &["mean is 0.5", "u8"],
    );
    refused(&["profile", &good], &["good.raw"]);
    refused(&["profile", &path, "--batch", "0"], &["batch"]);
    assert_eq!(
        files.names(),
        ["good.raw", "grey.pgm", "net.qcore", "small.png"]
    );
}

#[test]
fn profiles_node_by_node() {
    let files = Files::new();
    let path = files.model("net.qcore", &model());
    let said = ok(&[
        "profile",
        &path,
        "--threads",
        "1",
        "--batch",
        "2",
        "--runs",
        "2",
    ]);
    for word in [
        "stem",
        "classes",
        "conv",
        "linear",
        "16 x 3 x 3 x 3",
        "7 x 320",
    ] {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
    let said = ok(&["profile", &path, "--json", "--runs", "2"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let nodes = said["nodes"].as_array().unwrap();
    let macs: u64 = nodes.iter().map(|n| n["macs"].as_u64().unwrap()).sum();
    assert_eq!(macs, 20 * 16 * 27 + 7 * 320);
    assert!(nodes.iter().any(|n| n["seconds"].as_f64() > Some(0.0)));
    let files = Files::new();
    let path = files.model("net.qcore", &float_model());
    assert!(ok(&["profile", &path, "--runs", "1"]).contains("float_conv"));
}

#[test]
fn nodes_that_do_not_run_have_no_time_and_do_not_count() {
    let files = Files::new();
    let mut b = ModelBuilder::new(ValueType::image(4, 4, 3, 8).unwrap()).unwrap();
    let linear = || Linear::new(weights(1000, 48), finish(1000, OutputKind::F32));
    let image = b.image();
    b.named("unread").linear(image, linear()).unwrap();
    let logits = b.named("classes").linear(image, linear()).unwrap();
    let path = files.model("net.qcore", &b.build(&[logits]).unwrap());
    let said = ok(&["profile", &path, "--runs", "2"]);
    assert!(
        said.contains("in all ") && said.contains("an image, 48.0 k MACs,"),
        "{said}"
    );
    assert!(
        said.contains("48.0 k MACs more are of nodes that no output needs"),
        "{said}"
    );
    let line = said.lines().find(|line| line.contains("unread")).unwrap();
    assert!(!line.contains('%'), "{line}");
    let said = ok(&["profile", &path, "--runs", "2", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let (unread, classes) = (&said["nodes"][1], &said["nodes"][2]);
    assert!(unread["seconds"].is_null() && unread["bound_seconds"].is_null());
    assert_eq!(classes["seconds"], said["seconds_per_image"]);
}
