//! The C program of the README, compiled and run as it stands there.

use std::process::Command;

use crate::toolchain::{Compiler, Language, Link, succeed};

#[test]
fn the_c_example_of_the_readme_prints_what_it_says() {
    let Some(compiler) = Compiler::find(Language::C99) else {
        return;
    };
    let readme = include_str!("../README.md");
    let (_, code) = readme
        .split_once("```c\n")
        .expect("a C example in the README");
    let (code, _) = code.split_once("```").expect("its end");
    let dir = tempfile::tempdir().unwrap();
    let [source, object, program] =
        ["example.c", "example.o", "example"].map(|f| dir.path().join(f));
    std::fs::write(&source, code).unwrap();
    compiler.object(&source, Language::C99, &object);
    for link in [Link::Shared, Link::Static] {
        compiler.link(&object, link, &program);
        let said = succeed(Command::new(&program).env_remove("LD_LIBRARY_PATH"));
        assert_eq!(String::from_utf8(said.stdout).unwrap(), "2 -0.5\n");
    }
}
