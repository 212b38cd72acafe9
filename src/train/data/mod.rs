//! Labelled images: the two halves of a data set, and how a batch is copied out of them.
//!
//! Pixels are bytes, `[len, height, width, channels]` (NHWC). What they mean as floats is the
//! network's first layer's affair.

#[cfg(feature = "datasets")]
pub mod cifar;
mod digits;
#[cfg(feature = "datasets")]
pub mod idx;
pub mod whiten;

pub use digits::{Half, digits, digits_half};

/// Training images of [`built_in`].
const BUILT_IN_TRAIN: usize = 20_000;
/// Test images of [`built_in`].
const BUILT_IN_TEST: usize = 4_000;

use crate::error::{Error, Result};
use crate::nn::rng::Rng;
use crate::shape::{check_len, elements};

/// A data set: what to train on, and what to measure with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dataset {
    /// A name for logs.
    pub name: String,
    /// The images to train on.
    pub train: Images,
    /// The images that training does not see. Same shape and classes as `train`.
    pub test: Images,
}

/// Images of one shape, each with a label.
#[derive(Clone, PartialEq, Eq)]
pub struct Images {
    height: usize,
    width: usize,
    channels: usize,
    classes: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

/// The built-in digits in their usual size, 20,000 training and 4,000 test images: what the tool trains on
/// when it is given no folder. The same `seed` gives the same bytes on every machine.
pub fn built_in(seed: u64) -> Result<Dataset> {
    digits(seed, BUILT_IN_TRAIN, BUILT_IN_TEST)
}

/// Reads a data set from a folder: CIFAR-10's binary files if there is a `data_batch_1.bin` in it, else IDX files.
///
/// Errors as [`cifar::load_folder`] and [`idx::load_folder`] do.
#[cfg(feature = "datasets")]
pub fn load_folder(dir: &std::path::Path) -> Result<Dataset> {
    match dir.join(cifar::FIRST).is_file() {
        true => cifar::load_folder(dir),
        false => idx::load_folder(dir),
    }
}

impl Images {
    /// Takes `pixels`, `[labels.len(), height, width, channels]`, with `shape` the last three.
    ///
    /// Errors if a dimension of `shape` is 0, `classes` is not 1 to 256, the length of `pixels` does not
    /// fit, or a label is not below `classes`. There may be no images.
    pub fn new(
        shape: [usize; 3],
        classes: usize,
        pixels: Vec<u8>,
        labels: Vec<u8>,
    ) -> Result<Self> {
        let [height, width, channels] = shape;
        if shape.contains(&0) {
            return Err(Error::argument(
                "shape",
                format_args!("{shape:?}"),
                "height, width and channels of at least 1",
            ));
        }
        if !(1..=256).contains(&classes) {
            return Err(Error::argument("classes", classes, "1 to 256"));
        }
        let len = elements("pixels", &[labels.len(), height, width, channels])?;
        let dims = "labels x height x width x channels";
        check_len("pixels", pixels.len(), len, dims)?;
        if let Some(i) = labels.iter().position(|&l| usize::from(l) >= classes) {
            return Err(Error::argument(
                "labels",
                format_args!("{} at [{i}]", labels[i]),
                format_args!("0 to {}", classes - 1),
            ));
        }
        Ok(Images {
            height,
            width,
            channels,
            classes,
            pixels,
            labels,
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// All pixels, `[len, height, width, channels]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Image `i`, `[height, width, channels]`. Panics unless `i` is below `len`, as slices do.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.input_len()..][..self.input_len()]
    }

    /// All labels, `[len]`, each below `classes`.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Rows of an image.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of an image.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of a pixel: 1 for gray, 3 for color.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Number of classes, 1 to 256.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Bytes of an image: height x width x channels.
    pub fn input_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Copies the images with the numbers in `order` to `out`, each shifted at random.
    ///
    /// The shift is an integer from -`max_shift` to `max_shift` pixels along each axis, all equally
    /// likely; what moves in is 0. With `max_shift` 0 it is a plain copy. The shift depends on `rng` and
    /// the image's number only, so batch size, order and threads do not change it; give every epoch
    /// another step of `rng`.
    ///
    /// Errors if `out` is not `order.len()` images long, a number in `order` is not below `len`, or
    /// `max_shift` is not below height and width. `out` is then as it was.
    pub fn augmented_into(
        &self,
        order: &[u32],
        rng: Rng,
        max_shift: usize,
        out: &mut [u8],
    ) -> Result<()> {
        let len = elements("out", &[order.len(), self.input_len()])?;
        check_len("out", out.len(), len, "order x height x width x channels")?;
        if let Some(i) = order.iter().position(|&n| n as usize >= self.len()) {
            return Err(Error::argument(
                "order",
                format_args!("{} at [{i}]", order[i]),
                format_args!("image numbers below {}", self.len()),
            ));
        }
        let side = self.height.min(self.width);
        let span = u32::try_from(2 * max_shift.min(side) + 1);
        let Some(span) = span.ok().filter(|_| max_shift < side) else {
            return Err(Error::argument(
                "max_shift",
                max_shift,
                format_args!("0 to {}, below height and width", side - 1),
            ));
        };
        for (&n, to) in order.iter().zip(out.chunks_exact_mut(self.input_len())) {
            let from = self.image(n as usize);
            if max_shift == 0 {
                to.copy_from_slice(from);
                continue;
            }
            let draw =
                |axis| rng.below(2 * u64::from(n) + axis, span) as isize - max_shift as isize;
            self.shift(from, draw(0), draw(1), to);
        }
        Ok(())
    }

    /// Mirrors images of a batch left to right, by a coin each that depends on `rng` and the image's number only.
    ///
    /// `batch` holds the images with the numbers in `order`; what is left over is not touched.
    pub fn mirror(&self, order: &[u32], rng: Rng, batch: &mut [u8]) {
        let row = self.width * self.channels;
        for (&n, image) in order.iter().zip(batch.chunks_exact_mut(self.input_len())) {
            if rng.bits(u64::from(n)) >> 31 == 0 {
                continue;
            }
            for row in image.chunks_exact_mut(row) {
                for x in 0..self.width / 2 {
                    let (left, right) = row.split_at_mut((self.width - 1 - x) * self.channels);
                    let left = &mut left[x * self.channels..][..self.channels];
                    left.swap_with_slice(&mut right[..self.channels]);
                }
            }
        }
    }

    /// Copies an image `down` rows down and `right` columns right; both are smaller than the image.
    fn shift(&self, from: &[u8], down: isize, right: isize, to: &mut [u8]) {
        to.fill(0);
        let stride = self.width * self.channels;
        let (dy, dx) = (down.unsigned_abs(), right.unsigned_abs() * self.channels);
        let (from_y, to_y) = if down < 0 { (dy, 0) } else { (0, dy) };
        let (from_x, to_x) = if right < 0 { (dx, 0) } else { (0, dx) };
        for y in 0..self.height - dy {
            let source = &from[(from_y + y) * stride + from_x..][..stride - dx];
            to[(to_y + y) * stride + to_x..][..stride - dx].copy_from_slice(source);
        }
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The pixels of a failed assertion would fill the terminal.
        let (n, h, w, c) = (self.len(), self.height, self.width, self.channels);
        write!(f, "Images([{n}, {h}, {w}, {c}], {} classes)", self.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten images of 4 x 5 x 2 in which no two bytes of an image are equal and none is 0.
    fn ten() -> Images {
        let pixels = (0..10).flat_map(|n| (1..=40).map(move |p| 20 * n + p));
        Images::new([4, 5, 2], 10, pixels.collect(), (0..10).collect()).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let said = |shape, classes, pixels: usize, labels: &[u8]| {
            let images = Images::new(shape, classes, vec![0; pixels], labels.to_vec());
            images.unwrap_err().to_string()
        };
        assert_eq!(
            said([2, 2, 1], 3, 7, &[0, 1]),
            "pixels is 7 elements long; expected 8 (labels x height x width x channels)"
        );
        assert_eq!(
            said([2, 2, 1], 3, 16, &[0, 2, 3, 9]),
            "labels is 3 at [2]; expected 0 to 2"
        );
        assert!(said([2, 0, 1], 3, 0, &[0]).starts_with("shape is [2, 0, 1]; expected"));
        assert!(said([usize::MAX, 2, 1], 3, 0, &[0]).starts_with("pixels is [1, "));
        for classes in [0, 257] {
            let said = said([1, 1, 1], classes, 0, &[]);
            assert_eq!(said, format!("classes is {classes}; expected 1 to 256"));
        }
        assert!(
            Images::new([1, 1, 1], 256, vec![], vec![])
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn without_a_shift_a_batch_is_a_copy() {
        let images = ten();
        let mut out = vec![7; 3 * 40];
        let order = [9, 0, 9];
        images
            .augmented_into(&order, Rng::new(0), 0, &mut out)
            .unwrap();
        let expected = [images.image(9), images.image(0), images.image(9)].concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn shifted_images_move_as_a_whole_and_every_shift_comes() {
        let images = ten();
        let order: Vec<u32> = (0..10).collect();
        let mut out = vec![7; 10 * 40];
        let mut seen = std::collections::BTreeSet::new();
        let (mut alike, mut chained) = (0, 0);
        for epoch in 0..100 {
            let rng = Rng::new(1).at(epoch, 0);
            images.augmented_into(&order, rng, 2, &mut out).unwrap();
            let mut before = None;
            for (n, shifted) in out.chunks_exact(40).enumerate() {
                // Every shift leaves the middle in the picture; its first byte tells the shift.
                let shift = (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (dy, dx)));
                let matches = shift.filter(|&(dy, dx)| {
                    (0..40).all(|i: isize| {
                        let (y, x, c) = (i / 10 - dy, i / 2 % 5 - dx, i % 2);
                        let inside = (0..4).contains(&y) && (0..5).contains(&x);
                        let at = (y * 10 + x * 2 + c) as usize;
                        shifted[i as usize] == if inside { images.image(n)[at] } else { 0 }
                    })
                });
                let matches: Vec<_> = matches.collect();
                assert_eq!(matches.len(), 1, "{n} {shifted:?}");
                seen.insert(matches[0]);
                let (dy, dx) = matches[0];
                alike += usize::from(before == Some((dy, dx)));
                chained += usize::from(before.is_some_and(|(_, dx)| dx == dy));
                before = Some((dy, dx));
            }
        }
        assert_eq!(seen.len(), 25);
        // Of 900 pairs of neighbors, 36 move alike and 180 share a draw if all draws are independent.
        assert!((12..70).contains(&alike), "{alike}");
        assert!((130..240).contains(&chained), "{chained}");
    }

    #[test]
    fn a_shift_depends_on_the_image_and_not_on_the_batch() {
        let images = ten();
        let rng = Rng::new(2).at(1, 1);
        let mut all = vec![0; 10 * 40];
        let order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7];
        images.augmented_into(&order, rng, 3, &mut all).unwrap();
        let mut one = vec![0; 40];
        for (n, expected) in order.iter().zip(all.chunks_exact(40)) {
            images.augmented_into(&[*n], rng, 3, &mut one).unwrap();
            assert_eq!(one, expected);
        }
    }

    #[test]
    fn mirrored_images_are_mirrored_as_a_whole() {
        let images = ten();
        let order: Vec<u32> = (0..10).collect();
        let rng = Rng::new(6).at(2, 0);
        let mut out = images.pixels().to_vec();
        images.mirror(&order, rng, &mut out);
        let mut mirrored = 0;
        for (n, out) in out.chunks_exact(40).enumerate() {
            let from = images.image(n);
            let turned = (0..40).all(|i| out[i] == from[i / 10 * 10 + (4 - i / 2 % 5) * 2 + i % 2]);
            assert!(turned || out == from);
            mirrored += usize::from(turned);
        }
        assert!((1..10).contains(&mirrored), "{mirrored}");
        let mut one = images.image(3).to_vec();
        images.mirror(&[3], rng, &mut one);
        assert_eq!(one, out[120..160]);
    }

    #[test]
    fn a_batch_that_cannot_be_is_refused_and_nothing_written() {
        let images = ten();
        let mut out = vec![7; 80];
        let mut said = |order: &[u32], max_shift| {
            let result = images.augmented_into(order, Rng::new(0), max_shift, &mut out);
            result.unwrap_err().to_string()
        };
        assert!(said(&[1], 0).starts_with("out is 80 elements long; expected 40 ("));
        assert_eq!(
            said(&[1, 10], 0),
            "order is 10 at [1]; expected image numbers below 10"
        );
        for max_shift in [4, usize::MAX] {
            assert_eq!(
                said(&[1, 2], max_shift),
                format!("max_shift is {max_shift}; expected 0 to 3, below height and width")
            );
        }
        assert_eq!(out, [7; 80]);
    }
}
