//! Where words and files go: a standard output that is closed or full, and outputs that are links, pipes or devices.

use std::io::PipeWriter;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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
    let out = dir.path().join("out");
    let mut commands = commands(&images);
    let experiments = ["reproduce", "closed-forms", "descent-lemma", "--quick"];
    commands.push([&experiments[..], &["--out", path(&out)]].concat());
    for args in commands {
        let output = to(full(), &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &said[..]),
            (Some(2), FULL),
            "{args:?}"
        );
    }
    // Files are written all the same: those of both experiments.
    assert_eq!(names(&out).len(), 4);
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

#[cfg(target_os = "linux")]
#[test]
fn an_array_goes_through_links_and_into_pipes_and_devices() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let (dir, images) = raw();
    let at = |name: &str| dir.path().join(name);
    let run = |out: &Path| to(Stdio::null(), &["run", MODEL, &images, "--out", path(out)]);
    let whole = |out: &Path| {
        let output = run(out);
        assert!(output.status.success(), "{output:?}");
    };
    whole(&at("plain.npy"));
    let plain = std::fs::read(at("plain.npy")).unwrap();

    symlink("target.npy", at("link.npy")).unwrap();
    // To a file that does not exist yet, then to one that does.
    for _ in 0..2 {
        whole(&at("link.npy"));
        assert!(at("link.npy").is_symlink());
        assert!(std::fs::read(at("target.npy")).unwrap() == plain);
    }

    let made = Command::new("mkfifo").arg(at("pipe.npy")).status();
    assert!(made.unwrap().success());
    std::thread::scope(|scope| {
        let read = scope.spawn(|| std::fs::read(at("pipe.npy")).unwrap());
        whole(&at("pipe.npy"));
        assert!(read.join().unwrap() == plain);
    });

    let output = run(Path::new("/dev/full"));
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "error: cannot write /dev/full: No space left on device (os error 28)\n";
    assert_eq!((output.status.code(), &said[..]), (Some(2), expected));
    let device = std::fs::symlink_metadata("/dev/full").unwrap().file_type();
    assert!(device.is_char_device());
    let output = to(
        Stdio::piped(),
        &["run", MODEL, &images, "--top", "0", "--out", "/dev/stdout"],
    );
    assert!(output.status.success() && output.stdout == plain);
    let left = [
        "images.raw",
        "link.npy",
        "pipe.npy",
        "plain.npy",
        "target.npy",
    ];
    assert_eq!(names(dir.path()), left);
}
