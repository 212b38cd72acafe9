//! Makes a corpus of files of this version, and with `QCORE_WRITE_CORPUS=1 cargo test --lib a_corpus`, once a release, writes
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

/// Where files are written: among those that are kept, if that is asked for.
fn folder(temporary: &tempfile::TempDir) -> std::path::PathBuf {
    match std::env::var_os("QCORE_WRITE_CORPUS") {
        Some(_) => std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"),
        None => temporary.path().to_path_buf(),
    }
}

/// Planes of signed codes by each node that makes planes of floats or sums, and by nodes that read them.
/// `QCORE_WRITE_CORPUS=1 cargo test --lib signed_planes` writes it.
#[test]
fn signed_planes_leave_every_node_that_makes_planes() {
    let mut random = Random(77);
    let symmetric = |bits, scale| Quantizer::from(LinearQuantizer::symmetric(bits, scale).unwrap());
    let s3 = Encoding::signed(3).unwrap();
    let affine = Quantizer::from(LinearQuantizer::affine(s3, 0.3, 1).unwrap());
    let finish = |n: usize, size: f32, at, quantizer: Quantizer, random: &mut Random| {
        let mut noise = |size: f32| -> Vec<f32> {
            let at = |_| (random.below(2001) as f32 - 1000.0) / 1000.0 / size;
            (0..n).map(at).collect()
        };
        let (scale, bias) = (noise(size), noise(1.0));
        let slope = noise(1.0);
        let function = ActivationFn::PRelu { slope };
        Finish::new(scale, bias, function, at, OutputKind::Codes(quantizer)).unwrap()
    };
    let weights = |n: usize, k: usize, random: &mut Random| {
        let values: Vec<i32> = (0..n * k).map(|_| random.below(3) as i32 - 1).collect();
        PackedMatrix::pack(Encoding::Ternary, n, k, &values).unwrap()
    };
    let (none, before) = (ResidualAt::Nowhere, ResidualAt::BeforeFunction);
    let mut b = ModelBuilder::new(ValueType::image(6, 5, 3, 4).unwrap()).unwrap();
    let f = finish(40, 40.0, none, symmetric(2, 0.4), &mut random);
    let conv = Conv::new(weights(40, 27, &mut random), Window::new(3).padding(1), f);
    let image = b.image();
    let x = b.conv(image, conv).unwrap();
    let f = finish(40, 10.0, before, symmetric(5, 0.05), &mut random);
    let conv = Conv::new(weights(40, 40, &mut random), Window::new(1), f);
    let mut conv = conv.residual(Scaled {
        value: x,
        scale: 0.4,
    });
    conv.zero_point = 1;
    let x = b.conv(x, conv).unwrap();
    let f = finish(40, 15.0, none, affine, &mut random);
    let x = b.apply(x, f).unwrap();
    let pooled = b.average_pool(x, Window::new(2), 0.3, Some(symmetric(8, 0.01)));
    let pooled = pooled.unwrap();
    let mean = b
        .global_average_pool(pooled, 0.01, Some(symmetric(4, 0.02)))
        .unwrap();
    let f = finish(33, 30.0, none, symmetric(7, 0.01), &mut random);
    let linear = Linear::new(weights(33, 40, &mut random), f);
    let last = b.linear(mean, linear).unwrap();
    let model = b.build(&[x, pooled, mean, last]).unwrap();
    for made in model.outputs() {
        assert!(matches!(made.kind, Kind::Planes(Encoding::Signed(_))));
    }
    let bytes = model.to_bytes().unwrap();
    assert!(bytes.len() < 16 << 10);
    let (naive_images, images) = image_of(&model.input(), 3, &mut random);
    let expected: Vec<Vec<Naive>> = naive_images.iter().map(|x| naive::run(&model, x)).collect();
    let read = Model::from_bytes(&bytes).unwrap();
    for model in [&model, &read] {
        let (mode, par) = (Mode::Latency, Par::Caller);
        check(model, &images, &expected, 3, mode, par, "signed planes");
    }
    let temporary = tempfile::tempdir().unwrap();
    let write = |ending: &str, bytes: &[u8]| {
        let name = format!("v2-signed-planes.{ending}");
        std::fs::write(folder(&temporary).join(name), bytes).unwrap();
    };
    write("qcore", &bytes);
    write("images", &images.to_bytes());
    write("expected", &outputs(&model, &images, 3));
}

#[test]
fn a_corpus_is_small_and_shows_what_there_is() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = folder(&temporary);
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
