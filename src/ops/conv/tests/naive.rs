//! What convolutions mean, tap by tap.

use super::*;

/// The meaning: images `x` `[N, H, W, C]` by filters `w` `[O, KH, KW, C / groups]`, tap by tap.
pub(super) fn naive(g: &Geometry, pad: Pad, x: &[i32], w: &[i32], o: usize) -> Vec<i64> {
    naive_affine(g, [0, 1, -1][pad as usize], x, w, o)
}

/// The same, with a pad of `outside`.
pub(super) fn naive_affine(g: &Geometry, outside: i64, x: &[i32], w: &[i32], o: usize) -> Vec<i64> {
    let (oh, ow) = g.output().unwrap();
    let (c, [kh, kw]) = (g.channels / g.groups, g.kernel);
    let mut out = Vec::new();
    for image in x.chunks_exact(g.height * g.width * g.channels) {
        for (y, x, n) in boxed([oh, ow, o]) {
            let mut sum = 0;
            for (ky, kx, k) in boxed([kh, kw, c]) {
                let iy = (y * g.stride[0] + ky * g.dilation[0]).wrapping_sub(g.padding.top);
                let ix = (x * g.stride[1] + kx * g.dilation[1]).wrapping_sub(g.padding.left);
                let channel = n / (o / g.groups) * c + k;
                let a = match iy < g.height && ix < g.width {
                    true => i64::from(image[(iy * g.width + ix) * g.channels + channel]),
                    false => outside,
                };
                sum += a * i64::from(w[((n * kh + ky) * kw + kx) * c + k]);
            }
            out.push(sum);
        }
    }
    out
}

/// The meaning of a transposed convolution: what each input adds to the outputs.
pub(super) fn naive_transposed(
    g: &Geometry,
    extra: [usize; 2],
    x: &[i32],
    w: &[i32],
    o: usize,
) -> Vec<i64> {
    let (oh, ow) = g.transposed_output(extra).unwrap();
    let (c, [kh, kw]) = (g.channels / g.groups, g.kernel);
    let images = x.chunks_exact(g.height * g.width * g.channels);
    let mut out = vec![0; images.len() * oh * ow * o];
    for (image, out) in images.zip(out.chunks_exact_mut(oh * ow * o)) {
        for (iy, ix, n) in boxed([g.height, g.width, o]) {
            for (ky, kx, k) in boxed([kh, kw, c]) {
                let y = (iy * g.stride[0] + ky * g.dilation[0]).wrapping_sub(g.padding.top);
                let x = (ix * g.stride[1] + kx * g.dilation[1]).wrapping_sub(g.padding.left);
                let channel = n / (o / g.groups) * c + k;
                if y < oh && x < ow {
                    let a = image[(iy * g.width + ix) * g.channels + channel];
                    let w = w[((n * kh + ky) * kw + kx) * c + k];
                    out[(y * ow + x) * o + n] += i64::from(a) * i64::from(w);
                }
            }
        }
    }
    out
}

fn boxed([a, b, c]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

/// What the codes of `x` stand for.
pub(super) fn meant(x: &PackedMatrix, zero_point: i32) -> Vec<i32> {
    x.unpack().iter().map(|v| v - zero_point).collect()
}
