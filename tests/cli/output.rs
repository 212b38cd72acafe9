//! Where words go: a standard output that is closed or full.

use std::io::PipeWriter;
use std::path::Path;
use std::process::{Output, Stdio};

use super::{idx_folder, names, path, small, tool};

/// A model of the corpus, and images that it takes.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/v1-u4.qcore");
const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/v1-u4.images");

/// A pipe that nobody reads.
fn closed() -> PipeWriter {
    let (_, writer) = std::io::pipe().unwrap();
    writer
}

/// The tool with this standard output.
fn to(out: impl Into<Stdio>, args: &[&str]) -> Output {
    let mut tool = tool();
    tool.args(args).stdout(out).output().expect("the tool runs")
}

/// Commands that say something and write no files.
fn commands(images: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["--help"],
        vec!["train", "--help"],
        vec!["--version"],
        vec!["info"],
        vec!["info", "--json"],
        vec!["train", "--list"],
        vec!["train", "--show", "lenet5-packed"],
        vec!["inspect", MODEL],
        vec!["run", MODEL, images],
        vec!["run", MODEL, images, "--json"],
        vec!["profile", MODEL, "--runs", "1"],
        vec!["profile", MODEL, "--runs", "1", "--json"],
        vec!["reproduce", "--list"],
    ]
}

/// A folder with the images as raw bytes.
fn raw() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images.raw");
    std::fs::copy(IMAGES, &images).unwrap();
    let images = path(&images).to_string();
    (dir, images)
}

#[test]
fn a_reader_that_has_gone_away_ends_no_command() {
    let (_dir, images) = raw();
    for args in commands(&images) {
        let output = to(closed(), &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn refusals_need_no_standard_error() {
    for args in [&["inspect", "nowhere"][..], &["fly"], &[]] {
        let mut tool = tool();
        let status = tool.args(args).stdout(closed()).stderr(closed()).status();
        assert_eq!(status.unwrap().code(), Some(2), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
const FULL: &str = "error: cannot write standard output: No space left on device (os error 28)\n";

#[cfg(target_os = "linux")]
fn full() -> std::fs::File {
    std::fs::File::create("/dev/full").unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_one_line_of_error() {
    let (dir, images) = raw();
    let page = dir.path().join("page.md");
    let mut commands = commands(&images);
    let bench = ["bench", "--quick", "--isa", "portable", "--shape", "3x1x40"];
    let rest = ["--threads", "1", "--markdown", path(&page)];
    commands.push([&bench[..], &rest].concat());
    for args in commands {
        let output = to(full(), &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &said[..]),
            (Some(2), FULL),
            "{args:?}"
        );
    }
    // Files are written all the same.
    assert_eq!(names(dir.path()), ["images.raw", "page.md"]);
}

#[test]
fn training_goes_on_when_nobody_listens() {
    let data = idx_folder();
    let train = |out: Stdio| {
        let folder = tempfile::tempdir().unwrap();
        let output = to(out, &small(data.path(), folder.path()));
        let said = String::from_utf8(output.stderr).unwrap();
        (folder, output.status.code(), said)
    };
    let (heard, status, said) = train(Stdio::piped());
    assert_eq!((status, &said[..]), (Some(0), ""));
    let (unheard, status, said) = train(closed().into());
    assert_eq!((status, &said[..]), (Some(0), ""));
    let mut folders = vec![unheard];
    #[cfg(target_os = "linux")]
    {
        let (unheard, status, said) = train(full().into());
        assert_eq!((status, &said[..]), (Some(2), FULL));
        folders.push(unheard);
    }
    for unheard in folders {
        assert_eq!(names(unheard.path()), names(heard.path()));
        for name in ["model.safetensors", "checkpoint.safetensors", "curves.svg"] {
            let bytes = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
            assert!(bytes(unheard.path()) == bytes(heard.path()), "{name}");
        }
    }
}
