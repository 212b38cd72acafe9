//! Makes a corpus of files of this version, and with `QCORE_WRITE_CORPUS=1 cargo test --lib corpus`, once a release, writes
//! it where the tests of later versions read it.

use super::*;

/// What `run` gives for all images, all outputs one behind the other.
fn outputs(model: &Model, images: &Given, count: usize) -> Vec<u8> {
    let size = |made: &ValueType| made.kind.element_bytes() * made.stored_len() * count;
    let made = model.outputs().to_vec();
    let mut all: Vec<Vec<u32>> = made.iter().map(|m| vec![0; size(m).div_ceil(4)]).collect();
    let mut outs: Vec<OutRows<'_>> = all
        .iter_mut()
        .zip(&made)
        .map(|(words, made)| out_rows(made, count, words))
        .collect();
    let mut workspace = model.workspace(count, 1, Mode::Latency).unwrap();
    model
        .run_all(images.images(), &mut outs, &mut workspace, Par::Caller)
        .unwrap();
    let bytes = |(words, made): (&Vec<u32>, &ValueType)| {
        bytemuck::cast_slice::<u32, u8>(words)[..size(made)].to_vec()
    };
    all.iter().zip(&made).flat_map(bytes).collect()
}

#[test]
fn a_corpus_is_small_and_shows_what_there_is() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = match std::env::var_os("QCORE_WRITE_CORPUS") {
        Some(_) => std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"),
        None => temporary.path().to_path_buf(),
    };
    let (mut seen, mut files) = (std::collections::HashSet::new(), 0);
    for seed in 0..4000 {
        let mut random = Random(seed);
        let model = random_graph(&mut random);
        let bytes = model.to_bytes().unwrap();
        let kinds: Vec<String> = model
            .nodes
            .iter()
            .map(|node| format!("{} {}", node.op.name(), node.made.kind))
            .collect();
        let new = kinds.iter().filter(|kind| !seen.contains(*kind)).count();
        if bytes.len() > 8 << 10 || new < 4 || files == 12 {
            continue;
        }
        let (naive_images, images) = image_of(&model.input(), 3, &mut random);
        let expected: Vec<Vec<Naive>> =
            naive_images.iter().map(|x| naive::run(&model, x)).collect();
        check(
            &model,
            &images,
            &expected,
            3,
            Mode::Latency,
            Par::Caller,
            "corpus",
        );
        let out = outputs(&model, &images, 3);
        if out.len() > 8 << 10 {
            continue;
        }
        let write = |ending: &str, bytes: &[u8]| {
            std::fs::write(folder.join(format!("v2-{files:02}.{ending}")), bytes).unwrap();
        };
        write("qcore", &bytes);
        write("images", &images.to_bytes());
        write("expected", &out);
        seen.extend(kinds);
        files += 1;
    }
    assert!(files >= 6, "{files} files");
}
