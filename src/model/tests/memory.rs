//! Memory, sharing and times of real models.

use super::*;

/// A chain of `count` convolutions of 64 channels over 8 x 8 pixels.
fn chain(count: usize) -> Model {
    let mut random = Random(3);
    let mut b = ModelBuilder::new(ValueType::image(8, 8, 3, 8).unwrap()).unwrap();
    let mut x = b.image();
    for i in 0..count {
        let k = if i == 0 { 27 } else { 576 };
        let values: Vec<i32> = (0..64 * k)
            .map(|_| 2 * random.below(2) as i32 - 1)
            .collect();
        let filters = PackedMatrix::pack(Encoding::Bipolar, 64, k, &values).unwrap();
        let scale = vec![1.0; 64];
        let finish = Finish::new(
            scale,
            vec![0.5; 64],
            ActivationFn::Identity,
            ResidualAt::Nowhere,
            OutputKind::Codes(ActQuantizer::Sign.into()),
        );
        let conv = Conv::new(filters, Window::new(3).padding(1), finish.unwrap());
        x = b.conv(x, conv).unwrap();
    }
    b.build(&[x]).unwrap()
}

#[test]
fn a_long_chain_needs_the_memory_of_two_values() {
    // 64 pixels of 64 bits.
    assert_eq!(chain(1).peak_bytes(1), 512);
    assert_eq!(chain(2).peak_bytes(1), 1024);
    assert_eq!(chain(30).peak_bytes(1), 1024);
    assert_eq!(chain(30).peak_bytes(100), 102_400);
    let (few, many) = (chain(3), chain(30));
    let bytes = |model: &Model| model.workspace(4, 1, Mode::Latency).unwrap().bytes();
    assert_eq!(bytes(&few), bytes(&many));
}

#[test]
fn what_is_planned_is_what_a_workspace_takes() {
    let model = chain(5);
    for mode in [Mode::Latency, Mode::Throughput] {
        for (images, threads) in [(1, 1), (7, 3), (0, 2)] {
            let planned = model.planned(images, threads, mode).unwrap();
            let pieces = if mode == Mode::Latency { 1 } else { threads };
            assert_eq!(planned.peak, model.peak_bytes(images) * pieces);
            let workspace = model.workspace(images, threads, mode).unwrap();
            assert_eq!(planned.workspace, workspace.bytes());
            // Lines of 64 bytes: one for each piece at most, and one to begin at.
            let most = planned.peak + planned.scratch + 64 * (pieces + 1);
            assert!((planned.peak + planned.scratch..=most).contains(&planned.workspace));
            assert!(planned.scratch > 0 && planned.weights == model.bytes().0);
        }
        assert!(model.planned(usize::MAX, 1, mode).is_err());
        assert!(model.planned(1 << 20, usize::MAX, mode).is_err());
    }
}

#[test]
fn a_flat_image_shares_the_memory_of_its_pixels() {
    let mut b = ModelBuilder::new(ValueType::floats(2, 2, 32)).unwrap();
    let x = b.image();
    let signs = b.quantize(x, ActQuantizer::Sign).unwrap();
    let flat = b.flatten(signs).unwrap();
    let again = b.flatten(x).unwrap();
    let model = b.build(&[flat, again]).unwrap();
    assert_eq!(model.peak_bytes(1), 64);
    let image: Vec<f32> = (0..128).map(|i| (i % 7) as f32 - 3.0).collect();
    let (mut codes, mut copy) = ([0; 4], vec![0.0; 128]);
    let outs = &mut [OutRows::Codes(&mut codes), OutRows::F32(&mut copy)];
    let mut ws = model.workspace(1, 1, Mode::Latency).unwrap();
    model.run_all(&image, outs, &mut ws, Par::Caller).unwrap();
    assert_eq!(copy, image);
    let bit = |i: usize| codes[i / 32] >> (i % 32) & 1 == 1;
    assert!((0..128).all(|i| bit(i) == (image[i] >= 0.0)));
}

#[test]
fn a_model_is_shared_and_a_profile_has_a_time_for_each_node() {
    fn shared<T: Send + Sync>(_: &T) {}
    let model = chain(4);
    shared(&model);
    let images = vec![77u8; 3 * 192];
    for mode in [Mode::Latency, Mode::Throughput] {
        let mut ws = model.workspace(3, 1, mode).unwrap();
        let times = model.profile(&images, &mut ws, Par::Caller, 5).unwrap();
        assert_eq!(times.len(), 5);
        assert!(times[0].is_zero());
        assert!(cfg!(miri) || times[1..].iter().all(|t| !t.is_zero()));
        let said = |images: &[u8], ws: &mut Workspace, runs| {
            let profile = model.profile(images, ws, Par::Caller, runs);
            profile.unwrap_err().to_string()
        };
        assert!(said(&images, &mut ws, 0).starts_with("runs is 0"));
        assert!(said(&[], &mut ws, 1).starts_with("images is 0"));
        let mut small = model.workspace(2, 1, mode).unwrap();
        assert!(said(&images, &mut small, 1).starts_with("images is 3; expected 1 to 2"));
    }
}
