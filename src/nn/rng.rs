//! Random numbers that depend on where they are used, not on when: Philox4x32-10.
//!
//! A draw is a pure function of (seed, step, tensor, index). There is no state to advance, so any
//! thread may draw any number in any order, and a run can be resumed from its seed and step alone.
//!
//! ```text
//!   key      seed low, seed high
//!   counter  block low, block high | kind << 30, step, tensor      block < 2^62
//!   kind     0 bits and uniform    1 normal    2 below    3 shuffled
//! ```
//!
//! The kind keeps the draws of different methods apart: `normal(7)` and `uniform(7)` have no bits in
//! common. `bits` and `uniform` are two views of one draw.
//!
//! Every machine gets the same numbers. The integers are exact, and the normal distribution is computed
//! with +, -, *, / and sqrt in f64 only, which IEEE 754 rounds in one way. (A target whose f64
//! arithmetic is wider, as x87's, is the exception.) This is why there is no `f64::ln` or `cos` here:
//! those come from the platform and differ in the last place.
//!
//! Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

mod quantile;

use quantile::normal_quantile;

/// A generator for one tensor at one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rng {
    seed: u64,
    step: u32,
    tensor: u32,
}

/// Which method draws; two bits of the counter.
#[derive(Clone, Copy)]
enum Kind {
    Bits = 0,
    Normal = 1,
    Below = 2,
    Shuffle = 3,
}

impl Rng {
    /// The generator of `seed`, at step 0 and tensor 0.
    pub const fn new(seed: u64) -> Self {
        Rng {
            seed,
            step: 0,
            tensor: 0,
        }
    }

    /// The generator of the same seed at another step and tensor.
    pub const fn at(&self, step: u32, tensor: u32) -> Self {
        Rng {
            seed: self.seed,
            step,
            tensor,
        }
    }

    /// The seed.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The tensor.
    pub const fn tensor(&self) -> u32 {
        self.tensor
    }

    /// The step.
    pub const fn step(&self) -> u32 {
        self.step
    }

    /// 32 random bits.
    pub fn bits(&self, index: u64) -> u32 {
        self.bits4(index / 4)[(index % 4) as usize]
    }

    /// `bits` at 4 `block` .. 4 `block` + 3, for the price of one. `block` counts modulo 2^62.
    pub fn bits4(&self, block: u64) -> [u32; 4] {
        self.block(Kind::Bits, block)
    }

    /// A multiple of 2^-24 in [0, 1), all equally likely.
    pub fn uniform(&self, index: u64) -> f32 {
        (self.bits(index) >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Fills `out` with uniform numbers: element i is `uniform(4 block + i)`, for a fraction of the price.
    pub fn fill_uniform(&self, block: u64, out: &mut [f32]) {
        for (at, out) in (0..).zip(out.chunks_mut(4 * LANES)) {
            let draws = self.lanes(block.wrapping_add(at * LANES as u64));
            for (out, draws) in out.chunks_mut(4).zip(&draws) {
                for (out, bits) in out.iter_mut().zip(draws) {
                    *out = (bits >> 8) as f32 * (1.0 / (1 << 24) as f32);
                }
            }
        }
    }

    /// A draw from N(0, 1), between -8.21 and 8.21: the quantile of a 52-bit uniform.
    pub fn normal(&self, index: u64) -> f32 {
        self.normal2(index / 2)[(index % 2) as usize]
    }

    /// An integer in 0 .. `n`. No integer is favored by more than n / 2^64. `index` counts modulo 2^62.
    ///
    /// Panics if `n` is 0.
    pub fn below(&self, index: u64, n: u32) -> u32 {
        assert!(n > 0, "n is 0; expected at least 1");
        self.below_of(Kind::Below, index, n)
    }

    /// Fills `out` with draws from N(0, std^2): element i is `normal(i) * std`.
    pub fn fill_normal(&self, out: &mut [f32], std: f32) {
        for (block, pair) in (0..).zip(out.chunks_mut(2)) {
            for (value, z) in pair.iter_mut().zip(self.normal2(block)) {
                *value = z * std;
            }
        }
    }

    /// 0 .. `n` in random order (Fisher-Yates), every order equally likely.
    ///
    /// Panics if `n` exceeds 2^32 - 1.
    pub fn shuffled(&self, n: usize) -> Vec<u32> {
        let n = u32::try_from(n).unwrap_or_else(|_| panic!("n is {n}; expected below 2^32"));
        let mut order: Vec<u32> = (0..n).collect();
        for i in (1..n).rev() {
            let j = self.below_of(Kind::Shuffle, u64::from(i), i + 1);
            order.swap(i as usize, j as usize);
        }
        order
    }

    fn normal2(&self, block: u64) -> [f32; 2] {
        let [a, b, c, d] = self.block(Kind::Normal, block);
        [(a, b), (c, d)].map(|(low, high)| {
            // 52 bits and a half: exact in f64, symmetric about 1/2, never 0 or 1.
            let p = ((join(low, high) >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64);
            normal_quantile(p) as f32
        })
    }

    fn below_of(&self, kind: Kind, index: u64, n: u32) -> u32 {
        let [low, high, ..] = self.block(kind, index);
        ((u128::from(join(low, high)) * u128::from(n)) >> 64) as u32
    }

    fn block(&self, kind: Kind, block: u64) -> [u32; 4] {
        philox4x32(self.counter(kind, block), self.key())
    }

    fn counter(&self, kind: Kind, block: u64) -> [u32; 4] {
        let high = (block >> 32) as u32 & 0x3fff_ffff | (kind as u32) << 30;
        [block as u32, high, self.step, self.tensor]
    }

    fn key(&self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }

    /// `bits4` of `block` and of those behind it, word by word for all at once: such loops become vector code.
    fn lanes(&self, block: u64) -> [[u32; 4]; LANES] {
        // Words of 64 bits whose upper halves mean nothing: that is what vectors multiply.
        let mut counters = [[0u64; LANES]; 4];
        for lane in 0..LANES {
            let counter = self.counter(Kind::Bits, block.wrapping_add(lane as u64));
            for (words, word) in counters.iter_mut().zip(counter) {
                words[lane] = u64::from(word);
            }
        }
        let mut key = self.key();
        for _ in 0..ROUNDS {
            let [c0, c1, c2, c3] = &mut counters;
            for (((c0, c1), c2), c3) in c0.iter_mut().zip(c1).zip(c2).zip(c3) {
                let (p0, p1) = products(*c0, *c2);
                let (high0, high1) = (p1 >> 32, p0 >> 32);
                (*c0, *c2) = (
                    high0 ^ *c1 ^ u64::from(key[0]),
                    high1 ^ *c3 ^ u64::from(key[1]),
                );
                (*c1, *c3) = (p1, p0);
            }
            key = next_key(key);
        }
        std::array::from_fn(|lane| std::array::from_fn(|word| counters[word][lane] as u32))
    }
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Blocks that [`Rng::fill_uniform`] makes at a time.
const LANES: usize = 4;

/// Rounds of Philox.
const ROUNDS: usize = 10;

/// Philox4x32 with ten rounds.
fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        counter = round(counter, key);
        key = next_key(key);
    }
    counter
}

/// The products of a round, of the lower halves.
#[inline(always)]
fn products(c0: u64, c2: u64) -> (u64, u64) {
    const LOW: u64 = 0xffff_ffff;
    (0xD251_1F53 * (c0 & LOW), 0xCD9E_8D57 * (c2 & LOW))
}

fn round([c0, c1, c2, c3]: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (p0, p1) = products(c0.into(), c2.into());
    [
        (p1 >> 32) as u32 ^ c1 ^ key[0],
        p1 as u32,
        (p0 >> 32) as u32 ^ c3 ^ key[1],
        p0 as u32,
    ]
}

fn next_key([low, high]: [u32; 2]) -> [u32; 2] {
    [
        low.wrapping_add(0x9E37_79B9),
        high.wrapping_add(0xBB67_AE85),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_answers() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        for (counter, key, answer) in [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [!0; 4],
                [!0; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                pi,
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox4x32(counter, key), answer, "{counter:x?} {key:x?}");
        }
    }

    #[test]
    fn every_part_of_the_key_and_the_kind_of_draw_count() {
        let rng = Rng::new(7).at(3, 5);
        assert_eq!(rng, Rng::new(7).at(9, 9).at(3, 5));
        assert_eq!(rng.bits(6), rng.bits4(1)[2]);
        let mut first: Vec<[u32; 4]> = [
            Rng::new(7 | 1 << 32).at(3, 5),
            Rng::new(6).at(3, 5),
            rng.at(4, 5),
            rng.at(3, 6),
        ]
        .map(|other| other.bits4(0))
        .to_vec();
        first.extend([0, 1, 1 << 32].map(|block| rng.bits4(block)));
        first.extend([Kind::Normal, Kind::Below, Kind::Shuffle].map(|k| rng.block(k, 0)));
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 10);
    }

    #[test]
    fn normals_have_the_moments_and_tails_of_the_gaussian() {
        let mut z = vec![0.0; 200_001];
        Rng::new(1).at(0, 2).fill_normal(&mut z, 2.0);
        assert_eq!(z[200_000], Rng::new(1).at(0, 2).normal(200_000) * 2.0);
        let moment = |k: i32| -> f64 {
            z.iter().map(|&z| f64::from(z / 2.0).powi(k)).sum::<f64>() / z.len() as f64
        };
        // Each tolerance is about four standard errors.
        assert!(moment(1).abs() < 0.009, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.013, "{}", moment(2));
        assert!(moment(3).abs() < 0.035, "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.09, "{}", moment(4));
        let outside = z.iter().filter(|z| z.abs() > 6.0).count() as f64 / z.len() as f64;
        assert!((outside - 0.0027).abs() < 0.0005, "{outside}");
    }

    #[test]
    fn draws_are_the_same_everywhere() {
        let rng = Rng::new(0x0123_4567_89ab_cdef).at(3, 9);
        let mut normals = vec![0.0; 10_000];
        rng.fill_normal(&mut normals, 1.0);
        let uniforms = (0..10_000).map(|i| rng.uniform(i));
        let mut hash = crc32fast::Hasher::new();
        for x in normals.into_iter().chain(uniforms) {
            hash.update(&x.to_le_bytes());
        }
        for x in rng.shuffled(100) {
            hash.update(&x.to_le_bytes());
        }
        assert_eq!(hash.finalize(), 97_787_423);
    }

    #[test]
    fn many_uniforms_are_those_of_the_indices() {
        let rng = Rng::new(8).at(1, 2);
        for (block, len) in [(0, 0), (0, 1), (3, 77), (u64::from(u32::MAX) - 4, 96)] {
            let mut many = vec![2.0; len];
            rng.fill_uniform(block, &mut many);
            let one = |i: u64| rng.uniform(4 * block + i);
            assert!(many.iter().zip(0..).all(|(u, i)| *u == one(i)), "{block}");
        }
    }

    #[test]
    fn uniforms_fill_the_unit_interval_evenly() {
        let rng = Rng::new(3);
        let mut counts = [0i32; 16];
        for i in 0..160_000 {
            let u = rng.uniform(i);
            assert!((0.0..1.0).contains(&u));
            counts[(u * 16.0) as usize] += 1;
        }
        // Four standard deviations of a count are 388.
        assert!(
            counts.iter().all(|c| (c - 10_000).abs() < 400),
            "{counts:?}"
        );
    }

    #[test]
    fn below_is_even_and_stays_below() {
        let rng = Rng::new(4);
        let mut counts = [0i32; 7];
        for i in 0..70_000 {
            counts[rng.below(i, 7) as usize] += 1;
        }
        assert!(
            counts.iter().all(|c| (c - 10_000).abs() < 400),
            "{counts:?}"
        );
        assert!((0..100).all(|i| rng.below(i, 1) == 0));
        // With 32 bits and a modulus, the lower third would come twice as often as the rest.
        let n = 3 << 30;
        let low = (0..30_000).filter(|&i| rng.below(i, n) < 1 << 30).count();
        assert!((9_600..10_400).contains(&low), "{low}");
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_all_come() {
        let mut order = Rng::new(5).shuffled(1000);
        assert_ne!(order[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..1000));
        assert!(Rng::new(5).shuffled(0).is_empty());

        let mut counts = std::collections::BTreeMap::new();
        for step in 0..24_000 {
            let order = Rng::new(5).at(step, 0).shuffled(4);
            *counts.entry(order).or_insert(0i32) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(
            counts.values().all(|c| (c - 1000).abs() < 130),
            "{counts:?}"
        );
    }
}
