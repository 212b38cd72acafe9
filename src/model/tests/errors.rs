//! What is refused, by the names of node and argument.

use super::*;

fn floats(n: usize, at: ResidualAt, output: OutputKind) -> Finish {
    Finish::new(
        vec![1.0; n],
        vec![0.0; n],
        ActivationFn::Identity,
        at,
        output,
    )
    .unwrap()
}

fn plain(n: usize) -> Finish {
    floats(n, ResidualAt::Nowhere, OutputKind::F32)
}

fn filters(n: usize, k: usize) -> PackedMatrix {
    PackedMatrix::zeros(Encoding::Bipolar, n, k).unwrap()
}

fn builder() -> (ModelBuilder, Value) {
    let b = ModelBuilder::new(ValueType::image(6, 5, 3, 4).unwrap()).unwrap();
    let x = b.image();
    (b, x)
}

fn said<T>(result: crate::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn an_error_names_the_node_and_its_argument_and_leaves_the_builder() {
    let (mut b, x) = builder();
    let window = Window::new(3).padding(1);
    let wide = Conv::new(filters(8, 26), window, plain(8));
    let refused = said(b.named("stem").conv(x, wide));
    assert_eq!(
        refused,
        "columns of the filters is 26 in node 1, conv stem; expected 27 (KH x KW x C / groups)"
    );
    // The name was that of the node that there is not.
    let large = Conv::new(filters(8, 363), Window::new(11), plain(8));
    assert!(
        said(b.conv(x, large))
            .starts_with("kernel is 11 pixels long with its dilation in node 1, conv;")
    );
    let y = b
        .named("stem")
        .conv(x, Conv::new(filters(8, 27), window, plain(8)))
        .unwrap();
    assert_eq!(b.type_of(y).unwrap(), ValueType::floats(6, 5, 8));

    assert_eq!(
        said(b.conv(y, Conv::new(filters(8, 72), window, plain(8)))),
        "x is 6 x 5 x 8 f32 in node 2, conv; expected codes that are not ternary"
    );
    assert_eq!(
        said(b.linear(x, Linear::new(filters(2, 89), plain(2)))),
        "K is 89 in node 2, linear; expected 90, the elements of the image that enters"
    );
    assert!(said(b.apply(y, plain(7))).starts_with("channels of the finish is 7 in node 2, apply"));
    assert!(said(b.apply(y, Finish::integers(8))).starts_with("finish is of integers"));
    assert!(said(b.quantize(x, ActQuantizer::Sign)).contains("expected f32"));
    assert!(said(b.quantize_bytes(y, ActQuantizer::Sign)).starts_with("quantizer is the sign"));
    assert!(said(b.dequantize(y, 1.0)).contains("in node 2, dequantize"));
    assert!(said(b.dequantize(x, f32::NAN)).starts_with("scale is NaN in node 2, dequantize"));
    assert!(said(b.max_pool(x, Window::new(7))).contains("in node 2, max_pool"));
    assert!(
        said(b.average_pool(x, Window::new(2), f32::INFINITY, None)).starts_with("scale is inf")
    );
    assert!(said(b.max_pool(x, Window::new(1).padding(1))).starts_with("padding is"));
    assert!(said(b.concat(&[])).starts_with("values is none in node 2, concat"));
    assert!(said(b.concat(&[x, y])).starts_with("values is 6 x 5 x 8 f32 in node 2, concat"));
    assert!(said(b.up_sample(x, [0, 1])).starts_with("factors is 0 in node 2, up_sample"));
    assert!(said(b.up_sample(x, [1, 1025])).starts_with("factors is 1025"));
    assert!(
        said(b.flatten(Value(9))).starts_with("value is 9 in node 2, flatten; expected below 2")
    );
    assert!(said(b.value(2)).starts_with("value is 2"));
    assert_eq!(b.nodes.len(), 2);
    assert_eq!(b.value(1).unwrap(), y);
}

#[test]
fn a_name_of_control_characters_is_shown_without_them() {
    let (mut b, x) = builder();
    let name = "a\n\u{1b}[2J\u{e9}";
    let refused = said(b.named(name).quantize(x, ActQuantizer::Sign));
    assert!(
        refused.contains("in node 1, quantize a\\n\\u{1b}[2J\u{e9};"),
        "{refused}"
    );
    b.named(name).flatten(x).unwrap();
    let model = b.build(&[x]).unwrap();
    assert_eq!(model.describe()[1].name, "a\\n\\u{1b}[2J\u{e9}");
    let again = Model::from_bytes(&model.to_bytes().unwrap()).unwrap();
    assert_eq!(again.nodes[1].name, name);
}

#[test]
fn residuals_are_those_that_the_finish_adds() {
    let (mut b, x) = builder();
    let window = Window::new(3).padding(1);
    let (adds, not) = (
        floats(3, ResidualAt::BeforeFunction, OutputKind::F32),
        plain(3),
    );
    let conv = |finish: &Finish| Conv::new(filters(3, 27), window, finish.clone());
    assert_eq!(
        said(b.conv(x, conv(&adds))),
        "residual is none in node 1, conv; expected one for this finish"
    );
    assert_eq!(
        said(b.conv(x, conv(&not).residual(x))),
        "residual is given in node 1, conv; expected none for this finish"
    );
    let small = Conv {
        window: Window::new(3),
        ..conv(&adds).residual(x)
    };
    assert_eq!(
        said(b.conv(x, small)),
        "residual is 6 x 5 x 3 u4 bytes in node 1, conv; expected 4 x 3 x 3 of floats or of codes that are not ternary"
    );
    let value = Scaled {
        value: x,
        scale: f32::NAN,
    };
    assert!(said(b.conv(x, conv(&adds).residual(value))).starts_with("scale is NaN"));
    let y = b.conv(x, conv(&adds).residual(x)).unwrap();
    let half = Scaled {
        value: y,
        scale: 0.5,
    };
    assert!(said(b.add(y, half, adds.clone())).starts_with("scale is 0.5 in node 2, add"));
    assert!(said(b.add(y, x, not)).starts_with("residual is given"));
    assert!(b.add(y, x, adds).is_ok());
}

#[test]
fn halves_are_refused_where_f32_or_codes_alone_will_do() {
    let (mut b, x) = builder();
    let half = |n: usize| floats(n, ResidualAt::Nowhere, OutputKind::F16);
    let y = b
        .conv(
            x,
            Conv::new(filters(3, 27), Window::new(3).padding(1), half(3)),
        )
        .unwrap();
    assert_eq!(b.type_of(y).unwrap().to_string(), "6 x 5 x 3 f16");
    let scales = || Scales::new(Granularity::Tensor, vec![1.0]).unwrap();
    assert_eq!(
        said(b.float_linear(x, filters(2, 90), scales(), None)),
        "x is 6 x 5 x 3 u4 bytes in node 2, float_conv; expected f32, f16 or bf16"
    );
    assert!(b.float_linear(y, filters(2, 90), scales(), None).is_ok());
    assert!(said(b.dequantize(y, 1.0)).contains("expected codes"));
    let bf16s = b
        .apply(x, floats(3, ResidualAt::Nowhere, OutputKind::Bf16))
        .unwrap();
    assert!(said(b.concat(&[y, bf16s])).starts_with("values is 6 x 5 x 3 bf16"));
    let wide = b.apply(y, plain(3)).unwrap();
    assert!(b.float_linear(wide, filters(2, 90), scales(), None).is_ok());
    let model = b.build(&[y, bf16s]).unwrap();
    let mut ws = model.workspace(1, 1, Mode::Latency).unwrap();
    let (mut half, mut other) = (vec![f16::ZERO; 90], vec![0f32; 90]);
    let outs = &mut [OutRows::F16(&mut half), OutRows::F32(&mut other)];
    let refused = said(model.run_all(&[0u8; 90][..], outs, &mut ws, Par::Caller));
    assert_eq!(
        refused,
        "out is f32; expected for bf16, what the model gives"
    );
    let mut b = ModelBuilder::new(ValueType {
        kind: Kind::F16,
        ..ValueType::floats(1, 1, 2)
    })
    .unwrap();
    let signs = b.quantize(Value(0), ActQuantizer::Sign).unwrap();
    let model = b.build(&[signs]).unwrap();
    let mut ws = model.workspace(1, 1, Mode::Latency).unwrap();
    let outs = &mut [OutRows::Codes(&mut [0])];
    let refused = said(model.run_all(&[0f32; 2][..], outs, &mut ws, Par::Caller));
    assert_eq!(refused, "images is f32; expected f16");
}

#[test]
fn sums_are_for_the_outside() {
    let (mut b, x) = builder();
    let sums = b
        .linear(x, Linear::new(filters(4, 90), Finish::integers(4)))
        .unwrap();
    let all = [
        b.apply(sums, plain(4)),
        b.flatten(sums),
        b.concat(&[sums]),
        b.up_sample(sums, [1, 2]),
        b.max_pool(sums, Window::new(1)),
        b.dequantize(sums, 1.0),
    ];
    for refused in all {
        assert!(said(refused).starts_with("x is 1 x 1 x 4 i32"));
    }
    let model = b.build(&[sums]).unwrap();
    let mut workspace = model.workspace(1, 1, Mode::Latency).unwrap();
    let images = vec![1u8; 90];
    let mut out = [0; 4];
    let outs = &mut [OutRows::I32(&mut out)];
    model
        .run_all(&images, outs, &mut workspace, Par::Caller)
        .unwrap();
    assert_eq!(out, [-90; 4]);
}

#[test]
fn images_inputs_and_outputs_that_do_not_fit_are_refused() {
    let planes = ValueType {
        kind: Kind::Planes(Encoding::Bipolar),
        ..ValueType::floats(1, 1, 1)
    };
    assert!(said(ModelBuilder::new(planes)).starts_with("image is 1 x 1 x 1 bipolar"));
    assert!(said(ModelBuilder::new(ValueType::floats(1, 0, 1))).starts_with("width is 0"));
    assert!(ValueType::image(1, 1, 1, 9).is_err());
    let ternary = ValueType {
        kind: Kind::Bytes(Encoding::Ternary),
        ..planes
    };
    assert!(ModelBuilder::new(ternary).is_err());
    let (b, x) = builder();
    assert!(said(b.build(&[])).starts_with("outputs is 0"));
    let (b, _) = builder();
    assert!(said(b.build(&[x; 9])).starts_with("outputs is 9"));
    let (b, _) = builder();
    assert!(said(b.build(&[Value(5)])).starts_with("value is 5"));

    let (mut b, x) = builder();
    let y = b.linear(x, Linear::new(filters(2, 90), plain(2))).unwrap();
    let model = b.build(&[y, x]).unwrap();
    assert!(said(model.workspace(usize::MAX, 1, Mode::Latency)).starts_with("images is"));
    assert!(said(model.workspace(1 << 20, usize::MAX, Mode::Throughput)).starts_with("images is"));
    let mut ws = model.workspace(2, 1, Mode::Latency).unwrap();
    let (images, floats) = (vec![15u8; 270], vec![0f32; 270]);
    let (mut logits, mut copy) = (vec![7.0; 6], vec![7; 270]);
    let mut run = |images: Images<'_>, logits: &mut [f32], ws: &mut Workspace, par: Par<'_>| {
        let outs = &mut [OutRows::F32(logits), OutRows::Bytes(&mut copy)];
        model
            .run_all(images, outs, ws, par)
            .map_err(|e| e.to_string())
    };
    let here = Par::Caller;
    let refused = run((&floats).into(), &mut logits, &mut ws, here).unwrap_err();
    assert_eq!(refused, "images is f32; expected u4 bytes");
    let refused = run(images[1..].into(), &mut logits, &mut ws, here).unwrap_err();
    assert_eq!(
        refused,
        "images is 269 bytes long; expected a multiple of 90 (H x W x C)"
    );
    let refused = run((&images).into(), &mut logits[1..], &mut ws, here).unwrap_err();
    assert!(refused.starts_with("out is 5 elements long; expected 6"));
    let mut bad = images.clone();
    bad[200] = 16;
    let refused = run((&bad).into(), &mut logits, &mut ws, here).unwrap_err();
    assert_eq!(refused, "images is 16 at 200; expected codes of at most 15");
    let pool = Pool::new(2).unwrap();
    let refused = run((&images).into(), &mut logits, &mut ws, Par::Pool(&pool)).unwrap_err();
    assert_eq!(
        refused,
        "workspace is for 1 threads; expected one for 2, as the pool has"
    );
    let mut none = model.workspace(0, 1, Mode::Latency).unwrap();
    let refused = run((&images).into(), &mut logits, &mut none, here).unwrap_err();
    assert!(refused.starts_with("workspace is for no images"));
    assert_eq!(logits, [7.0; 6]);
    run((&images).into(), &mut logits, &mut ws, here).unwrap();
    assert_eq!(logits, [-1350.0; 6]);
    assert_eq!(copy, images);

    let refused = model.run(&images, &mut logits, &mut ws, here);
    assert!(said(refused).starts_with("outputs is 2; expected 1"));
    let outs = &mut [OutRows::F32(&mut logits)];
    assert!(said(model.run_all(&images, outs, &mut ws, here)).starts_with("outs is 1; expected 2"));
    let mut sums = vec![0; 6];
    let outs = &mut [OutRows::I32(&mut sums), OutRows::Bytes(&mut copy)];
    let refused = said(model.run_all(&images, outs, &mut ws, here));
    assert_eq!(
        refused,
        "out is i32; expected for f32, what the model gives"
    );
    // No image at all is fine, also for no images.
    let outs = &mut [OutRows::F32(&mut []), OutRows::Bytes(&mut [])];
    model.run_all(&[0u8; 0][..], outs, &mut none, here).unwrap();
    // Another model's workspace does if it is large enough.
    let (mut b, x) = builder();
    let pooled = b.up_sample(x, [90, 90]).unwrap();
    let needy = b.build(&[pooled]).unwrap();
    let mut out = vec![0; 90 * 8100];
    let outs = &mut [OutRows::Bytes(&mut out)];
    let refused = said(needy.run_all(&images[..90], outs, &mut ws, here));
    assert!(refused.starts_with("workspace is of another model"));
    // Also one for more images than this model could ever take, for its own needs no memory.
    let copy = ModelBuilder::new(ValueType::image(6, 5, 3, 4).unwrap()).unwrap();
    let image = copy.image();
    let copy = copy.build(&[image]).unwrap();
    let mut ws = copy.workspace(usize::MAX, 1, Mode::Latency).unwrap();
    let refused = said(needy.run_all(&images[..90], outs, &mut ws, here));
    assert!(refused.starts_with("workspace is of another model"));
    let vast = ValueType::floats(usize::MAX, 2, 3);
    assert_eq!((vast.len(), vast.is_empty()), (usize::MAX, false));
}

#[test]
fn nan_and_infinity_in_float_images_follow_the_quantizers() {
    let mut b = ModelBuilder::new(ValueType::floats(1, 1, 5)).unwrap();
    let x = b.image();
    let signs = b.quantize(x, ActQuantizer::Sign).unwrap();
    let relu = QuantRelu::new(2, 1.0, Rounding::Ceil).unwrap();
    let levels = b.quantize(x, relu).unwrap();
    let back = b.dequantize(levels, 1.0).unwrap();
    let most = b.concat(&[x, x]).unwrap();
    let most = b.up_sample(most, [1, 2]).unwrap();
    let most = b
        .max_pool(
            most,
            Window {
                kernel: [1, 2],
                ..Window::new(1)
            },
        )
        .unwrap();
    let model = b.build(&[signs, back, most]).unwrap();
    let image = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1.5];
    for isa in Isa::available() {
        let model = Model::from_bytes_on(isa, &model.to_bytes().unwrap()).unwrap();
        let (mut signs, mut back, mut most) = ([9], [9.0; 5], [9.0; 10]);
        let mut ws = model.workspace(1, 1, Mode::Latency).unwrap();
        let outs = &mut [
            OutRows::Codes(&mut signs),
            OutRows::F32(&mut back),
            OutRows::F32(&mut most),
        ];
        model
            .run_all(&image[..], outs, &mut ws, Par::Caller)
            .unwrap();
        assert_eq!(signs, [0b11010]);
        assert_eq!(back, [0.0, 3.0, 0.0, 0.0, 2.0]);
        assert!(most[0].is_nan() && most[1] == f32::INFINITY && most[9] == 1.5);
    }
}

#[test]
fn more_work_than_there_are_numbers_for_is_told_as_the_most() {
    let side = 1 << 19;
    let mut b = ModelBuilder::new(ValueType::image(side, side, 1, 1).unwrap()).unwrap();
    let conv = Conv::new(
        filters(1 << 20, 81),
        Window::new(9),
        Finish::integers(1 << 20),
    );
    let x = b.conv(Value(0), conv).unwrap();
    let model = b.build(&[x]).unwrap();
    assert_eq!(model.describe()[1].macs, u64::MAX);
    assert!(said(model.workspace(1 << 20, 1, Mode::Latency)).starts_with("images is"));
}
