//! Pooling against its definition.

use proptest::prelude::*;

use super::*;
use crate::bits::PackedMatrix;
use crate::ops::dequantize;
use crate::ops::{Padding, Pool};
use crate::quant::{Linear, QuantRelu, Rounding};

fn encodings() -> Vec<Encoding> {
    let mut all = vec![Encoding::Bipolar];
    for bits in 1..=8 {
        all.push(Encoding::unsigned(bits).unwrap());
        all.push(Encoding::signed(bits).unwrap());
    }
    all
}

/// The integers of each window, by the definition.
fn windows(g: &Geometry, images: usize, input: &[i32]) -> Vec<Vec<i32>> {
    let (height, width) = g.output().unwrap();
    let mut all = Vec::new();
    for at in 0..images * height * width * g.channels {
        let (pixel, c) = (at / g.channels, at % g.channels);
        let (image, y, x) = (
            pixel / (height * width),
            pixel / width % height,
            pixel % width,
        );
        let mut window = Vec::new();
        for ky in 0..g.kernel[0] {
            for kx in 0..g.kernel[1] {
                let iy = (y * g.stride[0] + ky * g.dilation[0]).wrapping_sub(g.padding.top);
                let ix = (x * g.stride[1] + kx * g.dilation[1]).wrapping_sub(g.padding.left);
                if iy < g.height && ix < g.width {
                    let pixel = (image * g.height + iy) * g.width + ix;
                    window.push(input[pixel * g.channels + c]);
                }
            }
        }
        all.push(window);
    }
    all
}

fn geometry() -> impl Strategy<Value = Geometry> {
    let sizes = (3usize..9, 3usize..9, 1usize..140);
    let taps = ([1usize..4, 1usize..4], [1usize..4, 1usize..4]);
    (sizes, taps, [0usize..2, 0usize..2, 0usize..2, 0usize..2]).prop_map(
        |((h, w, c), (kernel, stride), [top, left, bottom, right])| {
            let mut g = Geometry::new(h, w, c, 1);
            (g.kernel, g.stride) = (kernel, stride);
            let [kh, kw] = kernel;
            g.padding = Padding {
                top: top.min(kh - 1),
                left: left.min(kw - 1),
                bottom: bottom.min(kh - 1),
                right: right.min(kw - 1),
            };
            g
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pooling_is_its_definition(g in geometry(), images in 1usize..4, seed in any::<u32>()) {
        let pool = Pool::new(2).unwrap();
        for encoding in encodings() {
            let apart = if encoding == Encoding::Bipolar { 2 } else { 1 };
            let levels = ((encoding.max() - encoding.min()) / apart + 1) as u32;
            let mut state = seed | 1;
            let values: Vec<i32> = (0..images * g.height * g.width * g.channels)
                .map(|_| {
                    state = state.wrapping_mul(747796405).wrapping_add(2891336453);
                    encoding.min() + apart * ((state >> 13) % levels) as i32
                })
                .collect();
            let rows = images * g.height * g.width;
            let input = PackedMatrix::pack(encoding, rows, g.channels, &values).unwrap();
            let windows = windows(&g, images, &values);
            let greatest: Vec<i32> = windows.iter().map(|w| *w.iter().max().unwrap()).collect();
            let scale = 0.37f32;
            let means: Vec<f32> = windows
                .iter()
                .map(|w| w.iter().sum::<i32>() as f32 * (scale / w.len() as f32))
                .collect();
            let relu = QuantRelu::new(3, 0.2, Rounding::Nearest).unwrap();
            let mut quantizers: Vec<Quantizer> = vec![relu.into()];
            let symmetric = |bits| Linear::symmetric(bits, 0.09).unwrap();
            quantizers.extend((2..=8).map(symmetric).map(Quantizer::from));
            let s4 = Encoding::signed(4).unwrap();
            quantizers.push(Linear::affine(s4, 0.2, -3).unwrap().into());
            let (max, mean) = (MaxPool::new(g, encoding).unwrap(), AveragePool::new(g, encoding).unwrap());
            let pixels = windows.len() / g.channels;
            for kernels in Kernels::available() {
                for par in [Par::Caller, Par::Pool(&pool)] {
                    let mut out = PackedMatrix::zeros(encoding, pixels, g.channels).unwrap();
                    max.run(kernels, input.view(), &mut out, par).unwrap();
                    prop_assert_eq!(out.unpack(), greatest.clone(), "{} {}", kernels.isa(), encoding);
                    let mut out = vec![0f32; means.len()];
                    mean.run_f32(kernels, input.view(), scale, &mut out, par).unwrap();
                    prop_assert_eq!(&out, &means, "{} {}", kernels.isa(), encoding);
                    for quantizer in &quantizers {
                        let e = quantizer.encoding();
                        let mut out = PackedMatrix::zeros(e, pixels, g.channels).unwrap();
                        mean.run_codes(kernels, input.view(), scale, quantizer, &mut out, par).unwrap();
                        let code = |&y: &f32| e.decode(quantizer.code(y)).unwrap();
                        let codes: Vec<i32> = means.iter().map(code).collect();
                        prop_assert_eq!(out.unpack(), codes, "{} {:?}", kernels.isa(), quantizer);
                    }
                    let mut floats = vec![0f32; values.len()];
                    dequantize(kernels, input.view(), scale, &mut floats, par).unwrap();
                    let expected: Vec<f32> = values.iter().map(|&v| v as f32 * scale).collect();
                    prop_assert_eq!(floats, expected);
                }
            }
        }
    }
}

#[test]
fn wide_images_go_in_chunks_and_a_global_mean_is_one_pixel() {
    let u4 = Encoding::unsigned(4).unwrap();
    let (channels, pixels) = (CHUNK + 45, 49);
    let values: Vec<i32> = (0..pixels * channels)
        .map(|i| (i * i / 3 % 16) as i32)
        .collect();
    let input = PackedMatrix::pack(u4, pixels, channels, &values).unwrap();
    let pool = AveragePool::global(7, 7, channels, u4).unwrap();
    assert_eq!(pool.output(), (1, 1));
    let mean = |c: usize| {
        let sum: i32 = (0..pixels).map(|p| values[p * channels + c]).sum();
        sum as f32 * (0.5 / 49.0)
    };
    let expected: Vec<f32> = (0..channels).map(mean).collect();
    for kernels in Kernels::available() {
        let mut out = vec![0.0; channels];
        pool.run_f32(kernels, input.view(), 0.5, &mut out, Par::Caller)
            .unwrap();
        assert_eq!(out, expected, "{}", kernels.isa());
        let mut floats = vec![0f32; values.len()];
        dequantize(kernels, input.view(), 2.0, &mut floats, Par::Caller).unwrap();
        assert!(
            floats
                .iter()
                .zip(&values)
                .all(|(f, v)| *f == 2.0 * *v as f32)
        );
    }
}

#[test]
fn windows_of_padding_alone_and_foreign_shapes_are_refused() {
    let u2 = Encoding::unsigned(2).unwrap();
    let mut g = Geometry::new(4, 4, 3, 2);
    g.padding = Padding::same(2);
    let said = MaxPool::new(g, u2).err().unwrap().to_string();
    assert!(said.starts_with("padding is Padding"), "{said}");
    g.padding = Padding::same(0);
    assert!(MaxPool::new(g, Encoding::Ternary).is_err());
    let pool = MaxPool::new(g, u2).unwrap();
    let kernels = Kernels::available().next().unwrap();
    let input = PackedMatrix::zeros(u2, 16, 3).unwrap();
    let mut out = PackedMatrix::zeros(u2, 8, 3).unwrap();
    let said = pool
        .run(kernels, input.view(), &mut out, Par::Caller)
        .unwrap_err();
    assert_eq!(said.to_string(), "out is u2 8 x 3; expected u2 9 x 3");
    let odd = PackedMatrix::zeros(u2, 15, 3).unwrap();
    assert!(
        pool.run(kernels, odd.view(), &mut out, Par::Caller)
            .is_err()
    );
}

#[test]
fn the_cost_of_vast_windows_is_no_panic() {
    let mut g = Geometry::new(1, 1, 1024, 1 << 20);
    g.padding = Padding::same((1 << 20) - 1);
    let pool = MaxPool::new(g, Encoding::Bipolar).unwrap();
    let kernels = Kernels::available().next().unwrap();
    let none = PackedMatrix::zeros(Encoding::Bipolar, 0, 1024).unwrap();
    let mut out = PackedMatrix::zeros(Encoding::Bipolar, 0, 1024).unwrap();
    pool.run(kernels, none.view(), &mut out, Par::Caller)
        .unwrap();
}
