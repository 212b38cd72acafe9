//! The machine's C and C++ compilers, the libraries of this very build, and running what comes out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

/// A standard that the header or a program is compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    C99,
    C11,
    C17,
    Cpp11,
    Cpp17,
    Cpp20,
    Cpp23,
}

impl Language {
    pub const ALL: [Language; 7] = [
        Language::C99,
        Language::C11,
        Language::C17,
        Language::Cpp11,
        Language::Cpp17,
        Language::Cpp20,
        Language::Cpp23,
    ];

    fn is_cpp(self) -> bool {
        matches!(
            self,
            Language::Cpp11 | Language::Cpp17 | Language::Cpp20 | Language::Cpp23
        )
    }

    pub fn extension(self) -> &'static str {
        if self.is_cpp() { "cpp" } else { "c" }
    }

    fn flag(self) -> &'static str {
        match self {
            Language::C99 => "-std=c99",
            Language::C11 => "-std=c11",
            Language::C17 => "-std=c17",
            Language::Cpp11 => "-std=c++11",
            Language::Cpp17 => "-std=c++17",
            Language::Cpp20 => "-std=c++20",
            // The name that compilers had for it before it was done.
            Language::Cpp23 => "-std=c++2b",
        }
    }
}

/// How a program gets the library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    Shared,
    Static,
    /// Not at all: the program loads it by itself.
    Not,
}

/// What a program that is linked with libqcore.a needs besides, on Linux with glibc.
const NATIVE: [&str; 7] = [
    "-lgcc_s",
    "-lutil",
    "-lrt",
    "-lpthread",
    "-lm",
    "-ldl",
    "-lc",
];

/// Says which test was skipped and why, past the capture of the test runner.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "skipped: {why} ({test})");
}

/// Whether `tool` can be run.
pub fn has(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

/// A C or C++ compiler.
pub struct Compiler {
    command: Vec<String>,
}

impl Compiler {
    /// The compiler for `language`: `CC` or `CXX`, else `cc` or `c++`. If there is none, that is said.
    pub fn find(language: Language) -> Option<Compiler> {
        let (variable, usual, what) = if language.is_cpp() {
            ("CXX", "c++", "no C++ compiler")
        } else {
            ("CC", "cc", "no C compiler")
        };
        let command = std::env::var(variable).unwrap_or_default();
        let command = if command.trim().is_empty() {
            usual
        } else {
            &command
        };
        let command: Vec<String> = command.split_whitespace().map(String::from).collect();
        if has(&command[0]) {
            return Some(Compiler { command });
        }
        let on_ci = std::env::var("CI").is_ok_and(|v| v == "true");
        assert!(!on_ci, "{what}, and without one nothing here is tested");
        skip(what);
        None
    }

    fn start(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }

    /// Compiles one source, without a warning.
    pub fn object(&self, source: &Path, language: Language, object: &Path) {
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
        let mut command = self.start();
        command.args([
            language.flag(),
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            "-O1",
            "-g",
        ]);
        command
            .arg("-I")
            .arg(include)
            .arg("-c")
            .arg(source)
            .arg("-o")
            .arg(object);
        succeed(&mut command);
    }

    /// Links one object with the library.
    pub fn link(&self, object: &Path, link: Link, program: &Path) {
        let mut command = self.start();
        command.arg(object).arg("-o").arg(program).arg("-pthread");
        match link {
            Link::Shared => {
                let library = library("libqcore.so");
                let folder = library.parent().unwrap();
                command.arg(format!("-Wl,-rpath,{}", folder.display()));
                command.arg(&library).arg("-lm");
            }
            Link::Static => {
                command.arg(library("libqcore.a")).args(NATIVE);
            }
            Link::Not => {
                command.arg("-ldl");
            }
        }
        succeed(&mut command);
    }
}

/// Runs a command that has to succeed; what it says is shown if it does not.
pub fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A library of this very build.
///
/// With the crate types rlib, cdylib and staticlib, one call of rustc leaves `libqcore.rlib`,
/// `libqcore.so` and `libqcore.a`, all three without a hash in their names, in the folder `deps` where
/// this test lies too. (Only `cargo build` links them into the folder above, so those may be old.)
pub fn library(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.with_file_name(name);
    let written = modified(&path);
    // Whatever made the rlib that this test is linked with made the library too, unless it stayed behind
    // from another call; a source that is younger than it shows that.
    let sources = std::fs::read_to_string(test.with_file_name("qcore.d")).unwrap();
    let rule = sources
        .lines()
        .find(|l| {
            l.split(':')
                .next()
                .is_some_and(|target| target.ends_with(name))
        })
        .unwrap_or_else(|| panic!("qcore.d has no rule for {name}:\n{sources}"));
    let sources = rule.split_once(": ").unwrap().1;
    for source in sources.split_whitespace().map(|s| root().join(s)) {
        assert!(
            modified(&source) <= written,
            "{} is younger than {}",
            source.display(),
            path.display()
        );
    }
    path
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn modified(path: &Path) -> SystemTime {
    let data = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    data.modified().unwrap()
}

#[test]
fn native_libraries_are_those_that_rustc_names() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.rs");
    std::fs::write(&empty, "").unwrap();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_string());
    if !has(&rustc) {
        return skip("no rustc");
    }
    let mut rustc = Command::new(rustc);
    rustc.args(["--crate-type=staticlib", "--print=native-static-libs"]);
    rustc.arg("--out-dir").arg(dir.path()).arg(&empty);
    let said = String::from_utf8(succeed(&mut rustc).stderr).unwrap();
    assert!(said.contains(&NATIVE.join(" ")), "{said}");
}
