//! What libqcore.so lets others see.

use std::collections::BTreeSet;
use std::process::Command;

use crate::header;
use crate::toolchain::{has, library, skip, succeed};

#[test]
fn symbols_are_the_functions_of_the_header() {
    if !has("nm") {
        return skip("no nm");
    }
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only"])
        .arg(library("libqcore.so"));
    let listed = String::from_utf8(succeed(&mut nm).stdout).unwrap();
    let exported: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    let header = header::checked_in();
    let code = header.lines().filter(|l| !l.starts_with([' ', '/', '#']));
    let declared: BTreeSet<&str> = code
        .filter_map(|line| line.split_once('(')?.0.split([' ', '*']).next_back())
        .collect();
    assert!(declared.len() > 20, "{declared:?}");
    assert!(
        declared.iter().all(|name| name.starts_with("qc_")),
        "{declared:?}"
    );
    assert_eq!(exported, declared);
}
