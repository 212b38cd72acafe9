//! What no C program can bring about: panics; and tables that must agree.

use super::*;
use crate::isa::Isa;
use std::ffi::CStr;

fn last() -> String {
    // SAFETY: the text ends with a zero and lives as long as this thread.
    let text = unsafe { CStr::from_ptr(qc_last_error()) };
    text.to_str().unwrap().to_string()
}

#[test]
fn a_panic_becomes_a_status_and_poisons_its_handle() {
    let handle = Handle::new(7);
    assert_eq!(handle.with("it", |v| Ok(*v)).unwrap(), 7);
    let status = enter(|| handle.with("it", |_| panic!("by the test, {}", 1)));
    assert_eq!(status, QC_ERROR_PANIC);
    assert_eq!(last(), "a defect in qcore: by the test, 1");
    let status = enter(|| handle.with("it", |_| Ok(())));
    assert_eq!(status, QC_ERROR_POISONED);
    assert_eq!(last(), "it was left broken by an earlier panic; free it");
    // A panic outside of a handle poisons none.
    assert_eq!(enter(|| panic!("again")), QC_ERROR_PANIC);
}

#[test]
fn a_text_is_cut_between_characters_and_has_no_zero_inside() {
    remember("a\0b");
    assert_eq!(last(), "a?b");
    remember(&format!("x{}", "é".repeat(600)));
    assert_eq!(last(), format!("x{}", "é".repeat(511)));
}

#[test]
fn another_thread_has_its_own_text() {
    remember("mine");
    std::thread::spawn(|| assert_eq!(last(), ""))
        .join()
        .unwrap();
    assert_eq!(last(), "mine");
}

#[test]
fn tables_agree() {
    for isa in Isa::ALL {
        assert_eq!(isa::c_name(isa).to_str().unwrap(), isa.name());
    }
    for (i, row) in status::NAMES.iter().enumerate() {
        assert!(i == 0 || status::NAMES[i - 1].0 < row.0);
    }
    for b in 1..=8 {
        let (u, s) = (QC_U1 + b - 1, QC_S1 + b - 1);
        assert_eq!(pack::encoding("e", u).unwrap().to_string(), format!("u{b}"));
        assert_eq!(pack::encoding("e", s).unwrap().to_string(), format!("s{b}"));
    }
}
