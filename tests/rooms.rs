//! The rooms of `src`, their order, and where `unsafe` may stand: read from the sources, not from memory.
//!
//! A room is a file or folder directly under `src`. It may name itself and rooms to its left in [`ROOMS`],
//! never one to its right. The checker reads tokens, so comments, strings and line breaks neither hide a
//! path nor make one. It follows `crate::room`, `crate::{a, b::c}`, names that `src/lib.rs` re-exports, and
//! `super` chains that leave a room; in the binary, `qcore::room`. Test code counts like any other.
//!
//! Not followed: what a macro of another crate makes.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The rooms from left to right.
const ROOMS: [&str; 13] = [
    "error", "shape", "bits", "quant", "isa", "kernels", "ops", "model", "nn", "train", "lab",
    "ffi", "bin",
];

/// Rooms and single files whose code may say `unsafe`.
const UNSAFE: [&str; 4] = ["isa", "kernels", "ffi", "src/nn/sgemm.rs"];

/// Pages of the documentation: they belong to no room, for they hold no code.
const PAGES: [&str; 1] = ["src/numerics.rs"];

/// A file must stay below this number of lines.
const LINES: usize = 500;

/// A file of `src`.
struct Source {
    /// Its path with forward slashes, `src/...`.
    path: String,
    text: String,
}

/// A word, number, `::` or single character of Rust, and the line that it stands in.
#[derive(Clone)]
struct Token {
    line: usize,
    text: String,
}

/// The tokens of `text` without comments, strings and characters.
fn tokens(text: &str) -> Vec<Token> {
    let c: Vec<char> = text.chars().collect();
    let at = |i: usize| c.get(i).copied().unwrap_or('\0');
    let word = |ch: char| ch == '_' || ch.is_alphanumeric();
    let (mut found, mut i, mut line) = (Vec::new(), 0, 1);
    while i < c.len() {
        let start = i;
        let mut token = None;
        if at(i) == '/' && at(i + 1) == '/' {
            while i < c.len() && at(i) != '\n' {
                i += 1;
            }
        } else if at(i) == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            while i < c.len() {
                let step = match (at(i), at(i + 1)) {
                    ('/', '*') => 1,
                    ('*', '/') => -1,
                    _ => 0,
                };
                depth += step;
                i += if step == 0 { 1 } else { 2 };
                if depth == 0 {
                    break;
                }
            }
        } else if at(i) == '"' {
            i = string_end(&c, i);
        } else if at(i) == '\'' {
            if at(i + 1) == '\\' {
                i += 3;
                while i < c.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            } else if at(i + 2) == '\'' {
                i += 3;
            } else {
                // A lifetime: its name is no path.
                i += 1;
                while word(at(i)) {
                    i += 1;
                }
            }
        } else if word(at(i)) {
            while word(at(i)) {
                i += 1;
            }
            let name: String = c[start..i].iter().collect();
            let hashes = (i..).take_while(|&j| at(j) == '#').count();
            if ["r", "br", "cr"].contains(&&name[..]) && at(i + hashes) == '"' {
                i += hashes + 1;
                while i < c.len() && !(at(i) == '"' && (1..=hashes).all(|h| at(i + h) == '#')) {
                    i += 1;
                }
                i += 1 + hashes;
            } else {
                token = Some(name);
            }
        } else if at(i) == ':' && at(i + 1) == ':' {
            i += 2;
            token = Some("::".to_string());
        } else {
            i += 1;
            if !at(start).is_whitespace() {
                token = Some(at(start).to_string());
            }
        }
        found.extend(token.map(|text| Token { line, text }));
        let end = i.min(c.len());
        line += c[start..end].iter().filter(|&&ch| ch == '\n').count();
    }
    found
}

/// Behind the string that opens at `i`.
fn string_end(c: &[char], mut i: usize) -> usize {
    i += 1;
    while i < c.len() && c[i] != '"' {
        i += if c[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The first names behind a `::` at `i`: one, or those of the top level of a group.
fn heads(t: &[Token], i: usize) -> Vec<&Token> {
    let Some(first) = t.get(i + 1) else {
        return Vec::new();
    };
    if first.text != "{" {
        return vec![first];
    }
    let (mut found, mut depth) = (Vec::new(), 0);
    for pair in t[i + 1..].windows(2) {
        match &pair[0].text[..] {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        let opens = pair[0].text == "{" || pair[0].text == ",";
        if depth == 1 && opens && pair[1].text != "}" {
            found.push(&pair[1]);
        }
    }
    found
}

/// Names that `src/lib.rs` re-exports, each with the room that it comes from.
fn reexports(lib: &str) -> HashMap<String, String> {
    let t = tokens(lib);
    let mut found = HashMap::new();
    for (i, _) in t.iter().enumerate().filter(|(_, t)| t.text == "use") {
        let path: Vec<&Token> = t[i + 1..].iter().take_while(|t| t.text != ";").collect();
        let mut words = path.iter().map(|t| &t.text[..]);
        let Some(room) = words.find(|w| !["crate", "self", "::"].contains(w)) else {
            continue;
        };
        // A leaf is a name with nothing behind it but the end of its place.
        for (at, leaf) in path.iter().enumerate() {
            if path
                .get(at + 1)
                .is_none_or(|next| [",", "}"].contains(&&next.text[..]))
            {
                found.insert(leaf.text.clone(), room.to_string());
            }
        }
    }
    found
}

/// The room of a path `src/room/...` or `src/room.rs`.
fn room(path: &str) -> Option<usize> {
    let inside = path.strip_prefix("src/")?;
    let name = match inside.split_once('/') {
        Some((folder, _)) => folder,
        None => inside.strip_suffix(".rs")?,
    };
    ROOMS.iter().position(|&room| room == name)
}

/// Every name that the code of a file takes from the root of the crate.
fn roots<'a>(path: &str, t: &'a [Token]) -> Vec<&'a Token> {
    let bin = path.starts_with("src/bin/");
    let inside: Vec<&str> = path.split('/').skip(1).collect();
    // How many `super` lead from the file to the root: 1 for `src/room.rs` and `src/room/mod.rs`.
    let depth = inside.len() - usize::from(inside.last() == Some(&"mod.rs"));
    let (mut found, mut braces, mut modules) = (Vec::new(), 0usize, Vec::new());
    let text = |i: usize| t.get(i).map_or("", |t| &t.text[..]);
    for i in 0..t.len() {
        match text(i) {
            "{" => {
                braces += 1;
                if i >= 2 && text(i - 2) == "mod" {
                    modules.push(braces);
                }
            }
            "}" => {
                if modules.last() == Some(&braces) {
                    modules.pop();
                }
                braces = braces.saturating_sub(1);
            }
            "crate" if !bin && text(i + 1) == "::" => found.extend(heads(t, i + 1)),
            "qcore" if bin && text(i + 1) == "::" => found.extend(heads(t, i + 1)),
            // The crate under another name would be a way around.
            "crate" if !bin && text(i + 1) == "as" => found.push(&t[i]),
            "super" if !bin && text(i + 1) == "::" && (i < 2 || text(i - 2) != "super") => {
                let chain = (0..).take_while(|n| text(i + 2 * n) == "super").count();
                if chain == depth + modules.len() {
                    found.extend(heads(t, i + 2 * chain - 1));
                }
            }
            _ => {}
        }
    }
    found
}

/// What is wrong with `sources`, one line for each finding, in the order of the sources.
fn problems(sources: &[Source]) -> Vec<String> {
    let lib = sources.iter().find(|s| s.path == "src/lib.rs");
    let reexports = reexports(lib.map_or("", |lib| &lib.text));
    let mut found = Vec::new();
    for Source { path, text } in sources {
        let t = tokens(text);
        let lines = text.lines().count();
        if lines >= LINES {
            found.push(format!(
                "{path}: {lines} lines; expected fewer than {LINES}"
            ));
        }
        if !text.starts_with("//!") {
            found.push(format!(
                "{path}:1: the first line does not say what the file is (//!)"
            ));
        }
        let here = room(path);
        if !UNSAFE.contains(&&path[..]) && !here.is_some_and(|r| UNSAFE.contains(&ROOMS[r])) {
            let said = t.iter().filter(|t| t.text == "unsafe");
            found.extend(said.map(|t| format!("{path}:{}: unsafe has no place here", t.line)));
        }
        if path == "src/lib.rs" {
            continue;
        }
        if PAGES.contains(&&path[..]) {
            let code = t.first();
            found.extend(code.map(|t| format!("{path}:{}: a page holds no code", t.line)));
            continue;
        }
        let Some(here) = here else {
            found.push(format!("{path}: belongs to no known room"));
            continue;
        };
        for name in roots(path, &t) {
            let target = reexports.get(&name.text).unwrap_or(&name.text);
            match ROOMS.iter().position(|room| room == target) {
                Some(there) if there <= here => {}
                Some(there) => found.push(format!(
                    "{path}:{}: {} must not import {}, which is to its right",
                    name.line, ROOMS[here], ROOMS[there]
                )),
                // What src/lib.rs makes itself is right of every room but the binary.
                None if path.starts_with("src/bin/") => {}
                None => found.push(format!(
                    "{path}:{}: {} must not import {target}, which is no room",
                    name.line, ROOMS[here]
                )),
            }
        }
    }
    found
}

/// Every `.rs` under `folder`, by path.
fn read(folder: &Path, sources: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("a folder of sources");
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let inside = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
            sources.push(Source {
                path: inside.to_str().unwrap().replace('\\', "/"),
                text: fs::read_to_string(&path).unwrap(),
            });
        }
    }
}

#[test]
fn arrows_point_left_and_unsafe_stays_in_its_rooms() {
    let mut sources = Vec::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut sources,
    );
    let arrows: usize = sources
        .iter()
        .map(|s| roots(&s.path, &tokens(&s.text)).len())
        .sum();
    assert!(
        sources.len() > 20 && arrows > 40,
        "only {} files and {arrows} paths were read",
        sources.len()
    );
    let found = problems(&sources);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The findings in one made-up file beside a `src/lib.rs` that re-exports two names.
fn judge(path: &str, text: &str) -> Vec<String> {
    let source = |path: &str, text: &str| Source {
        path: path.to_string(),
        text: format!("//! Made up.\n{text}"),
    };
    let lib = "pub mod bits;\npub use error::{Error, Result};\npub use train::Trainer;";
    problems(&[source("src/lib.rs", lib), source(path, text)])
}

#[test]
fn every_way_to_write_an_arrow_to_the_right_is_seen() {
    for (path, text, line, to) in [
        (
            "src/bits/a.rs",
            "use crate::kernels::Kernels;",
            2,
            "kernels",
        ),
        (
            "src/bits/a.rs",
            "fn f() -> crate::nn::Layer { build() }",
            2,
            "nn",
        ),
        (
            "src/bits/a.rs",
            "use crate::{\n    error::{Error, Result},\n    ops,\n};",
            4,
            "ops",
        ),
        (
            "src/bits/a.rs",
            "use\n    crate::\n    model\n    ::Net;",
            4,
            "model",
        ),
        ("src/bits/a.rs", "use crate::Trainer;", 2, "train"),
        ("src/bits/mod.rs", "use super::quant;", 2, "quant"),
        ("src/bits/a.rs", "use super::super::ffi::x;", 2, "ffi"),
        (
            "src/bits/a.rs",
            "#[cfg(test)]\nmod tests { use super::super::super::isa; }",
            3,
            "isa",
        ),
        ("src/error.rs", "use crate::shape::words;", 2, "shape"),
        ("src/ffi/a.rs", "use crate::bin;", 2, "bin"),
        (
            "src/isa/a.rs",
            "const Q: char = '\"'; const T: &str = r#\"\"\"#; use crate::ops;",
            2,
            "ops",
        ),
    ] {
        let from = ROOMS[room(path).unwrap()];
        let expected = format!("{path}:{line}: {from} must not import {to}, which is to its right");
        assert_eq!(judge(path, text), [expected], "{text}");
    }
}

#[test]
fn ways_around_are_closed() {
    for (text, name) in [
        ("use crate::*;", "*"),
        ("use crate::{self as all};", "self"),
        ("use crate as all;", "crate"),
        ("use crate::VERSION;", "VERSION"),
    ] {
        let expected = format!("src/nn/a.rs:2: nn must not import {name}, which is no room");
        assert_eq!(judge("src/nn/a.rs", text), [expected], "{text}");
    }
    let said = judge("src/misc/a.rs", "");
    assert_eq!(said, ["src/misc/a.rs: belongs to no known room"]);
    let said = judge("src/numerics.rs", "//! Words.\n\npub use crate::nn;");
    assert_eq!(said, ["src/numerics.rs:4: a page holds no code"]);
    let said = judge("src/util.rs", "");
    assert_eq!(said, ["src/util.rs: belongs to no known room"]);
}

#[test]
fn unsafe_long_and_nameless_files_are_seen() {
    let said = judge("src/ops/a.rs", "fn f() {\n    unsafe { g() }\n}");
    assert_eq!(said, ["src/ops/a.rs:3: unsafe has no place here"]);
    let said = judge("src/lib.rs", "unsafe fn f() {}");
    assert_eq!(said, ["src/lib.rs:2: unsafe has no place here"]);
    let said = judge("src/ops/a.rs", &"\n".repeat(499));
    assert_eq!(said, ["src/ops/a.rs: 500 lines; expected fewer than 500"]);
    let nameless = Source {
        path: "src/ops/a.rs".to_string(),
        text: "use std::fmt;\n".to_string(),
    };
    let expected = "src/ops/a.rs:1: the first line does not say what the file is (//!)";
    assert_eq!(problems(&[nameless]), [expected]);
}

#[test]
fn what_is_allowed_passes() {
    for (path, text) in [
        (
            "src/ops/a.rs",
            "use crate::{Error, Result, bits::{self, nn}, ops::Par};",
        ),
        ("src/ops/mod.rs", "use super::kernels::Kernels;"),
        ("src/ops/a.rs", "use super::train;"),
        ("src/ops/a.rs", "mod tests { use super::super::model; }"),
        (
            "src/ops/a.rs",
            "// use crate::nn; unsafe\n/* crate::nn /* unsafe */ crate::nn */",
        ),
        (
            "src/ops/a.rs",
            "const A: &str = \"crate::nn unsafe \\\" crate::nn\";",
        ),
        (
            "src/ops/a.rs",
            "const A: &[u8] = br##\"crate::nn \"# unsafe\"##;",
        ),
        (
            "src/ops/a.rs",
            "pub(crate) fn f<'a>(x: &'a str) -> char { '\\'' }",
        ),
        ("src/numerics.rs", "//! `crate::nn`"),
        ("src/kernels/a.rs", "unsafe fn f() {}"),
        ("src/nn/sgemm.rs", "unsafe fn f() {}"),
        (
            "src/bin/qcore/main.rs",
            "use qcore::{VERSION, train::Trainer};\nuse crate::args::Args;",
        ),
    ] {
        assert_eq!(judge(path, text), [""; 0], "{path} {text}");
    }
}
