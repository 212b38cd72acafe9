//! Bounds of the times of nodes.

use std::collections::HashSet;

use super::*;

/// On all ISAs, of all operations.
#[test]
fn every_node_that_takes_time_has_a_bound_and_no_other() {
    let mut seen = HashSet::new();
    // Few graphs flatten what has to be moved.
    for seed in 0..if cfg!(miri) { 1 } else { 100 } {
        let mut random = Random(3000 + seed);
        let made = random_graph(&mut random).to_bytes().unwrap();
        for isa in Isa::available() {
            let model = Model::from_bytes_on(isa, &made).unwrap();
            let (_, images) = image_of(&model.input(), 2, &mut random);
            let mut workspace = model.workspace(2, 1, Mode::Latency).unwrap();
            let measured = model
                .profile(images.images(), &mut workspace, Par::Caller, 1)
                .unwrap();
            let bounds = model.predict(2).unwrap();
            assert_eq!(bounds.len(), measured.len());
            for (i, (bound, measured)) in bounds.iter().zip(&measured).enumerate() {
                let what = &model.describe()[i];
                assert_eq!(bound.is_some(), !measured.is_zero(), "{isa}: {what}");
                assert!(bound.is_none_or(|b| !b.is_zero() && b.as_secs() == 0));
                seen.extend(bound.map(|_| what.op));
            }
        }
    }
    // But for the image, all there are.
    assert!(seen.len() == 12 || cfg!(miri), "{seen:?}");
}
