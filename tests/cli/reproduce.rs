//! `qcore reproduce`: every experiment passes in its quick form, leaves its files, and does not depend on threads.

use std::path::Path;

use super::{names, ok, path, refused};

#[test]
fn every_experiment_passes_and_writes_a_table_and_a_figure_each() {
    let list = ok(&["reproduce", "--list"]);
    let known: Vec<&str> = list.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(known.len(), 12, "{list}");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("made").join("here");
    let said = ok(&["reproduce", "all", "--quick", "--out", path(&out)]);
    assert!(
        !said.contains("FAIL") && said.contains("all passed"),
        "{said}"
    );
    for name in &known {
        let begin = said.find(&format!("{name} (")).expect("its heading");
        assert!(
            said[begin..]
                .lines()
                .nth(1)
                .unwrap()
                .starts_with("  pass  expected ")
        );
        let csv = std::fs::read_to_string(out.join(format!("{name}.csv"))).unwrap();
        let cells = |line: &str| line.split(',').count();
        let heading = csv.lines().next().unwrap();
        assert!(csv.lines().count() > 4, "{name}: {csv}");
        assert!(csv.lines().all(|l| cells(l) == cells(heading)), "{name}");
        let svg = std::fs::read_to_string(out.join(format!("{name}.svg"))).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
            "{name}"
        );
        assert!(svg.contains("<text") && !svg.contains("NaN"), "{name}");
    }
    let mut files: Vec<String> = known.iter().map(|n| format!("{n}.csv")).collect();
    files.extend(known.iter().map(|n| format!("{n}.svg")));
    files.sort();
    assert_eq!(names(&out), files, "nothing temporary stays");

    // The threads do not matter.
    let again = dir.path().join("again");
    let some = [
        "reproduce",
        "closed-forms",
        "stochastic-rounding",
        "--quick",
    ];
    ok(&[&some[..], &["--threads", "3", "--out", path(&again)]].concat());
    for name in ["closed-forms.csv", "stochastic-rounding.csv"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(read(&out) == read(&again), "{name} differs");
    }
}

#[test]
fn what_is_no_experiment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("never");
    let run = |name| {
        refused(
            &["reproduce", name, "--out", path(&out)],
            &[name, "closed-forms"],
        )
    };
    run("everything");
    refused(
        &["reproduce", "zig-zag", "--out", path(&out)],
        &["'zig-zag'", "did you mean zigzag?"],
    );
    refused(&["reproduce"], &["NAME"]);
    assert!(!out.exists(), "something was left behind");
}
