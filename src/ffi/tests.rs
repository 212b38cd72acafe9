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

#[test]
fn a_workspace_in_use_is_refused() {
    use crate::bits::{Encoding, PackedMatrix};
    use crate::model::{Linear, Mode, ModelBuilder, ValueType};
    use crate::ops::{ActivationFn, Finish, OutputKind, ResidualAt};
    let weights = PackedMatrix::pack(Encoding::Bipolar, 1, 2, &[1, -1]).unwrap();
    let (function, residual) = (ActivationFn::Identity, ResidualAt::Nowhere);
    let finish = Finish::new(vec![1.0], vec![0.5], function, residual, OutputKind::F32);
    let mut builder = ModelBuilder::new(ValueType::image(1, 2, 1, 8).unwrap()).unwrap();
    let linear = Linear::new(weights, finish.unwrap());
    let logits = builder.linear(builder.image(), linear).unwrap();
    let model = builder.build(&[logits]).unwrap();
    let workspace = model.workspace(1, 1, Mode::Latency).unwrap();
    let model = qc_model(Handle::new(model));
    let workspace = qc_workspace {
        workspace: std::sync::Mutex::new(workspace),
    };
    let images = [7u8, 3];
    let mut logits = [0.0];
    let mut run = || {
        let ptr = std::ptr::from_ref(&workspace).cast_mut();
        // SAFETY: handles and arrays live in this test, with the lengths that are passed.
        let status = unsafe {
            let logits = logits.as_mut_ptr();
            qc_model_run(&model, images.as_ptr(), 2, logits, 1, ptr, std::ptr::null())
        };
        (status, logits[0])
    };
    let guard = workspace.workspace.lock().unwrap();
    assert_eq!(run(), (QC_ERROR_BUSY, 0.0));
    assert_eq!(
        last(),
        "workspace is in use by another call; each thread needs its own"
    );
    drop(guard);
    assert_eq!(run(), (QC_OK, 4.5));
    let broken = enter(|| {
        let _guard = workspace.workspace.lock().unwrap();
        panic!("in a run")
    });
    assert_eq!(broken, QC_ERROR_PANIC);
    assert_eq!(run(), (QC_ERROR_POISONED, 4.5));
}

#[cfg(feature = "train")]
#[test]
fn a_trainer_in_use_is_refused() {
    use crate::train::recipe::Recipe;
    use crate::train::run::Run;
    let text = "arch = \"4\"\nbatch = 2\nmax_shift = 0";
    let recipe = Recipe::from_toml("a test", text).unwrap();
    let trainer = qc_trainer::new(Run::new(recipe, [2, 1, 1], 2, 2).unwrap());
    let (images, labels) = ([7u8, 3, 0, 9], [0u8, 1]);
    let step = || {
        let ptr = std::ptr::from_ref(&trainer).cast_mut();
        let (loss, correct) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (images, labels) = (images.as_ptr(), labels.as_ptr());
        // SAFETY: the handle and the arrays live in this test, with the length that is passed.
        unsafe { qc_trainer_step(ptr, images, labels, 2, loss, correct, std::ptr::null()) }
    };
    let mut within = QC_OK;
    let status = enter(|| {
        trainer.with(|_| {
            within = step();
            Ok(())
        })
    });
    assert_eq!((status, within), (QC_OK, QC_ERROR_BUSY));
    let busy = "trainer is in use by another call; each thread needs its own";
    assert_eq!(last(), busy);
    assert_eq!(step(), QC_OK);
    let broken = enter(|| trainer.with(|_| panic!("in a step")));
    assert_eq!(broken, QC_ERROR_PANIC);
    assert_eq!(step(), QC_ERROR_POISONED);
}
