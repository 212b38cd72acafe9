//! The C programs of the README, compiled and run as they stand there.

use std::process::Command;

use crate::toolchain::{Compiler, Language, Link, succeed};

/// What the program of the README behind `heading` prints, linked in both ways; nothing without a compiler.
fn prints(heading: &str) -> Vec<String> {
    let Some(compiler) = Compiler::find(Language::C99) else {
        return Vec::new();
    };
    let readme = include_str!("../README.md");
    let (_, section) = readme
        .split_once(&format!("\n{heading}\n"))
        .expect("the heading");
    let (_, code) = section.split_once("```c\n").expect("a C example");
    let (code, _) = code.split_once("```").expect("its end");
    let dir = tempfile::tempdir().unwrap();
    let [source, object, program] =
        ["example.c", "example.o", "example"].map(|f| dir.path().join(f));
    std::fs::write(&source, code).unwrap();
    compiler.object(&source, Language::C99, &object);
    let said = [Link::Shared, Link::Static].map(|link| {
        compiler.link(&object, link, &program);
        let said = succeed(Command::new(&program).env_remove("LD_LIBRARY_PATH"));
        String::from_utf8(said.stdout).unwrap()
    });
    said.to_vec()
}

#[test]
fn the_c_example_of_the_readme_prints_what_it_says() {
    for said in prints("## In C") {
        assert_eq!(said, "2 -0.5\n");
    }
}

#[test]
fn the_training_example_of_the_readme_learns() {
    for said in prints("## Training from C") {
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("epoch 1: loss "), "{said}");
        let right = lines[6].strip_suffix(" of 500 right").unwrap();
        // A guess gets 50.
        assert!(right.parse::<usize>().unwrap() > 350, "{said}");
    }
}
