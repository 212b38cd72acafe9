//! The built-in data set: digits as if written by hand, drawn from a seed.
//!
//! It needs no file and no network, so that examples, tests and a first run have something to learn.
//! It is no measure of anything: numbers for comparison come from MNIST and its like.
//!
//! Each image is one of a few skeletons of its digit whose knots are moved at random, then scaled,
//! sheared, turned and shifted as a whole, drawn with a pen of random width, and given specks and pixel
//! noise. Every machine and number of threads gives the same bytes: the random numbers are those of
//! [`Rng`], and the drawing is +, -, *, / and sqrt alone. A rotation, which asks for sine and cosine,
//! is therefore drawn as t = tan(angle / 2), by the identity
//!
//! ```text
//!   cos = (1 - t^2) / (1 + t^2)     sin = 2 t / (1 + t^2)
//! ```

mod pen;

use super::{Dataset, Images};
use crate::error::{Error, Result};
use crate::nn::rng::Rng;
use crate::ops::{Par, Pool};
use crate::shape::elements;
use pen::{Knot, Picture, SIDE};

/// The skeletons of each digit, as [`pen::parse`] reads them: hundredths of the box of the digit.
const SKELETONS: [&[&str]; 10] = [
    &[
        "62,8 38,6 20,30 18,62 34,92 60,94 80,68 80,34 62,8 46,6",
        "54,4 34,24 30,56 40,92 58,94 70,64 68,26 50,4",
        "36,14 20,40 22,74 46,95 72,82 82,48 70,16 46,6 34,16 44,26",
    ],
    &[
        "52,4 50,50 48,96",
        "28,26 54,4! 52,50 50,96",
        "30,24 52,4! 51,94 | 26,95 76,94",
    ],
    &[
        "22,26 36,6 62,6 76,24 66,50 40,76 20,94! 50,92 82,92",
        "22,24 42,5 68,12 72,36 52,64 30,88 20,90 20,76 36,74 58,90 84,90",
        "24,20 50,6 74,20 68,44 22,92! 80,92",
    ],
    &[
        "24,14 48,4 72,16 66,38 42,48! 70,56 78,78 54,96 22,88",
        "24,8 74,8! 44,42! 72,54 78,76 54,96 22,86",
        "26,12 54,4 70,20 60,42 44,46 66,52 76,72 60,94 24,90",
    ],
    &[
        "30,8 22,56! 82,54 | 66,10 62,96",
        "64,96 64,4! 18,64! 84,62",
        "26,6 20,44 36,58 66,50! | 72,6 66,50 62,96",
    ],
    &[
        "32,8 28,44! 56,38 78,58 70,88 44,96 20,86 | 32,8 76,6",
        "76,6 34,8! 28,42! 58,38 78,62 64,92 22,90",
    ],
    &[
        "68,6 40,24 24,58 34,90 60,94 74,74 62,54 38,58 26,74",
        "52,4 32,40 26,74 44,96 68,86 70,62 48,54 28,70",
    ],
    &[
        "20,10 78,8! 58,44 42,96",
        "20,10 78,8! 44,96 | 34,52 74,50",
        "22,24 22,8! 80,10! 56,50 48,96",
    ],
    &[
        "74,16 50,4 28,18 38,40 64,56 76,78 52,96 26,80 34,58 64,38 74,16",
        "50,4 30,16 34,38 50,46 68,36 68,14 50,4 | 50,46 26,62 28,88 50,96 74,86 74,60 50,46",
    ],
    &[
        "74,20 52,4 28,20 32,44 56,48 74,22! 70,60 64,96",
        "76,22 54,4 28,16 28,42 52,50 74,26! 76,64 62,92 30,92",
        "70,10 44,6 26,28 40,48 66,40 72,10! 66,96",
    ],
];

/// The side of the box of a digit, in pixels.
const BOX: f32 = 19.0;
/// How far a knot moves along each axis, in hundredths of the box.
const JITTER: f32 = 5.5;
/// How far a digit moves along each axis, in pixels.
const SHIFT: f32 = 2.5;
/// tan(angle / 2) of the largest rotation, 18 degrees.
const TURN: f32 = 0.1584;
/// Columns that the top of a digit moves for each row.
const SHEAR: f32 = 0.28;
/// Scale of each axis.
const SCALE: [f32; 2] = [0.72, 1.15];
/// Width of the pen, in pixels.
const WIDTH: [f32; 2] = [1.0, 3.3];
/// Gray level of the ink.
const LEVEL: [f32; 2] = [130.0, 255.0];
/// Standard deviation of the pixel noise, in gray levels.
const NOISE: [f32; 2] = [5.0, 28.0];

/// Instructions that a digit takes, about.
const COST: usize = 1 << 15;

/// The most images in a half.
const MAX_IMAGES: usize = 10_000_000;

/// Images from which on [`digits`] starts threads.
const MANY: usize = 1000;

/// A half of the digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// To train on.
    Train,
    /// To measure with.
    Test,
}

/// Draws `train` and `test` images of 28 x 28 x 1, white (up to 255) on black (0), of 10 classes.
///
/// In each half the numbers of images of two classes differ by one at most, and their order is random.
/// The two halves are drawn from separate streams of `seed`: the training half from tensors 0 (images)
/// and 1 (order) of a generator, the test half from its tensors 2 and 3. The test half is thus the same
/// for every `train`, and the training half for every `test`. Many are drawn on all processors.
///
/// Errors unless `train` and `test` are 1 to 10,000,000.
pub fn digits(seed: u64, train: usize, test: usize) -> Result<Dataset> {
    for (name, n) in [("train", train), ("test", test)] {
        check_count(name, n)?;
    }
    let pool = match train + test < MANY {
        true => None,
        false => Some(Pool::new(0)?),
    };
    let par = pool.as_ref().map_or(Par::Caller, Par::Pool);
    Ok(Dataset {
        name: "digits".into(),
        train: digits_half(seed, Half::Train, train, par)?,
        test: digits_half(seed, Half::Test, test, par)?,
    })
}

/// `count` images of a half of [`digits`].
///
/// Errors unless `count` is 1 to 10,000,000.
pub fn digits_half(seed: u64, half: Half, count: usize, par: Par<'_>) -> Result<Images> {
    check_count("count", count)?;
    // Someone who gives the same seed to the weights shall not have them drawn from the same numbers.
    let rng = Rng::new(seed ^ u64::from_le_bytes(*b"qdigits0"));
    let skeletons = SKELETONS.map(|variants| variants.iter().map(|v| pen::parse(v)).collect());
    let tensor = match half {
        Half::Train => 0,
        Half::Test => 2,
    };
    draw_half(rng, tensor, count, &skeletons, par)
}

fn check_count(name: &'static str, count: usize) -> Result<()> {
    if (1..=MAX_IMAGES).contains(&count) {
        return Ok(());
    }
    let expected = format_args!("1 to {MAX_IMAGES}");
    Err(Error::argument(name, count, expected))
}

/// Strokes of the variants of a digit.
type Variants = Vec<Vec<Vec<Knot>>>;

fn draw_half(
    rng: Rng,
    tensor: u32,
    n: usize,
    skeletons: &[Variants; 10],
    par: Par<'_>,
) -> Result<Images> {
    let len = elements("images", &[n, SIDE, SIDE])?;
    let order = rng.at(0, tensor + 1).shuffled(n);
    let labels: Vec<u8> = order.iter().map(|i| (i % 10) as u8).collect();
    let mut pixels = vec![0; len];
    par.rows(&mut pixels, SIDE * SIDE, COST, &|i, image| {
        let variants = &skeletons[usize::from(labels[i])];
        draw(variants, rng.at(i as u32, tensor), image);
    });
    Images::new([SIDE, SIDE, 1], 10, pixels, labels)
}

/// Draws one digit; `rng` is for this image alone.
fn draw(variants: &Variants, rng: Rng, image: &mut [u8]) {
    let mut draws = Draws { rng, next: 0 };
    let strokes = &variants[draws.below(variants.len() as u32) as usize];
    let place = draws.affine();
    let radius = 0.5 * draws.between(WIDTH);
    let level = draws.between(LEVEL);

    let mut picture = Picture::new();
    for stroke in strokes {
        let knots: Vec<Knot> = stroke
            .iter()
            .map(|knot| Knot {
                at: place(knot.at.map(|v| v + draws.between([-JITTER, JITTER]))),
                ..*knot
            })
            .collect();
        pen::bend(&knots, |a, b| picture.line(a, b, radius));
    }
    picture.ink(radius, level);

    // One image in three has one to three faint specks.
    let specks = if draws.below(3) == 0 {
        1 + draws.below(3)
    } else {
        0
    };
    for _ in 0..specks {
        let at = [(); 2].map(|()| draws.between([1.0, SIDE as f32 - 1.0]));
        let radius = draws.between([0.4, 1.3]);
        picture.line(at, at, radius);
        picture.ink(radius, draws.between([50.0, 140.0]));
    }

    // The sum of the four bytes of a word is near enough to a Gaussian; its standard deviation is
    // 2 sqrt((256^2 - 1) / 12) = 147.8.
    let noise = draws.between(NOISE) / 147.8;
    for (block, (to, ink)) in
        (NOISE_BLOCK..).zip(image.chunks_mut(4).zip(picture.pixels().chunks(4)))
    {
        for ((to, ink), word) in to.iter_mut().zip(ink).zip(rng.bits4(block)) {
            let sum: i32 = word.to_le_bytes().map(i32::from).iter().sum();
            // A cast from float clamps to 0 .. 255; the half rounds to the nearest.
            *to = (ink + noise * (sum - 510) as f32 + 0.5) as u8;
        }
    }
}

/// Where the bits of the noise begin, far behind those that [`Draws`] takes.
const NOISE_BLOCK: u64 = 1 << 32;

/// The draws of one image, one after another.
struct Draws {
    rng: Rng,
    next: u64,
}

impl Draws {
    /// A float in [low, high).
    fn between(&mut self, [low, high]: [f32; 2]) -> f32 {
        self.next += 1;
        low + (high - low) * self.rng.uniform(self.next)
    }

    fn below(&mut self, n: u32) -> u32 {
        self.next += 1;
        self.rng.below(self.next, n)
    }

    /// A random map from hundredths of the box to pixels: scale, shear, turn, shift.
    fn affine(&mut self) -> impl Fn(pen::Point) -> pen::Point + use<> {
        let scale = [(); 2].map(|()| self.between(SCALE) * (BOX / 100.0));
        let shear = self.between([-SHEAR, SHEAR]);
        let t = self.between([-TURN, TURN]);
        let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let middle = [(); 2].map(|()| 0.5 * SIDE as f32 + self.between([-SHIFT, SHIFT]));
        move |[x, y]| {
            let (x, y) = ((x - 50.0) * scale[0], (y - 50.0) * scale[1]);
            let x = x - shear * y;
            [middle[0] + cos * x - sin * y, middle[1] + sin * x + cos * y]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_the_same_everywhere() {
        let data = digits(1, 300, 100).unwrap();
        let crcs = [&data.train, &data.test].map(|half| {
            let mut hash = crc32fast::Hasher::new();
            hash.update(half.pixels());
            hash.update(half.labels());
            hash.finalize()
        });
        assert_eq!(crcs, [2_836_301_652, 332_336_466]);
    }

    #[test]
    fn threads_and_the_other_half_change_nothing() {
        let one = digits(5, 200, 50).unwrap();
        for threads in [1, 3] {
            let pool = Pool::new(threads).unwrap();
            let half = |half, count| digits_half(5, half, count, Par::Pool(&pool)).unwrap();
            assert_eq!(half(Half::Train, 200), one.train);
            assert_eq!(half(Half::Test, 50), one.test);
        }
        // On all processors.
        let many = digits(5, 2 * MANY, 50).unwrap().train;
        assert_eq!(
            many,
            digits_half(5, Half::Train, 2 * MANY, Par::Caller).unwrap()
        );
        assert_eq!(digits(5, 70, 50).unwrap().test, one.test);
        assert_eq!(digits(5, 200, 1).unwrap().train, one.train);
        assert_ne!(digits(6, 200, 50).unwrap().train, one.train);
        assert_ne!(one.train.pixels()[..50 * SIDE * SIDE], *one.test.pixels());
    }

    #[test]
    fn classes_are_balanced_and_out_of_order() {
        let data = digits(2, 1003, 10).unwrap();
        for (half, least) in [(&data.train, 100), (&data.test, 1)] {
            let mut counts = [0; 10];
            for &label in half.labels() {
                counts[usize::from(label)] += 1;
            }
            assert!(
                counts.iter().all(|c| (least..=least + 1).contains(c)),
                "{counts:?}"
            );
        }
        let labels = data.train.labels();
        let repeats = labels.windows(2).filter(|w| w[0] == w[1]).count();
        assert!((60..140).contains(&repeats), "{repeats}");
    }

    #[test]
    fn ink_stays_in_the_picture_and_noise_is_faint() {
        let data = digits(3, 1000, 1).unwrap();
        let (mut border, mut ink) = (0, 0);
        for image in data.train.pixels().chunks_exact(SIDE * SIDE) {
            for (i, _) in image.iter().enumerate().filter(|(_, p)| **p > 128) {
                let edge = [i / SIDE, i % SIDE].map(|v| v == 0 || v == SIDE - 1);
                border += usize::from(edge.contains(&true));
                ink += 1;
            }
        }
        // A digit covers about a tenth of the picture, and hardly ever its border.
        assert!((60..140).contains(&(ink / 1000)), "{ink}");
        assert!(border * 200 < ink, "{border} of {ink}");
        // The outermost row is paper: half of the noise is cut off at 0, the rest averages 7.
        let row: u32 = (0..1000)
            .map(|i| data.train.image(i)[0])
            .map(u32::from)
            .sum();
        assert!((5_000..9_000).contains(&row), "{row}");
    }

    #[test]
    fn there_is_something_to_learn_and_it_is_not_trivial() {
        let data = digits(4, 2000, 500).unwrap();
        let (train, test) = (&data.train, &data.test);
        let mut means = vec![[0f32; SIDE * SIDE]; 10];
        for (i, &label) in train.labels().iter().enumerate() {
            for (mean, &p) in means[usize::from(label)].iter_mut().zip(train.image(i)) {
                *mean += f32::from(p) / 200.0;
            }
        }
        let square = |mean: &[f32], image: &[u8]| -> f32 {
            let terms = mean
                .iter()
                .zip(image)
                .map(|(m, &p)| (m - f32::from(p)).powi(2));
            terms.sum()
        };
        let distance = |a: &[u8], b: &[u8]| -> i32 {
            let terms = a
                .iter()
                .zip(b)
                .map(|(&a, &b)| (i32::from(a) - i32::from(b)).pow(2));
            terms.sum()
        };
        let (mut by_mean, mut by_neighbor) = (0, 0);
        for (i, &label) in test.labels().iter().enumerate() {
            let image = test.image(i);
            let to = |c: &usize| square(&means[*c], image);
            let nearest = (0..10).min_by(|a, b| to(a).total_cmp(&to(b))).unwrap();
            by_mean += usize::from(nearest == usize::from(label));
            let to = |n: &usize| distance(train.image(*n), image);
            let nearest = (0..train.len()).min_by_key(to).unwrap();
            by_neighbor += usize::from(train.labels()[nearest] == label);
        }
        let [by_mean, by_neighbor] = [by_mean, by_neighbor].map(|n| n as f64 / 500.0);
        println!("right by nearest mean: {by_mean}, by nearest neighbor: {by_neighbor}");
        assert!((0.5..0.97).contains(&by_mean), "{by_mean}");
        assert!(by_neighbor > by_mean + 0.02, "{by_neighbor}, {by_mean}");
        assert!(by_neighbor < 0.995, "{by_neighbor}");
    }

    #[test]
    fn sizes_out_of_range_are_refused_by_name() {
        for (train, test, said) in [
            (0, 1, "train is 0; expected 1 to 10000000"),
            (1, 10_000_001, "test is 10000001; expected 1 to 10000000"),
        ] {
            assert_eq!(digits(0, train, test).unwrap_err().to_string(), said);
        }
    }
}
