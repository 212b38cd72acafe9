//! Scales of quantized weights: what turns sums of codes into sums of real numbers.

use half::{bf16, f16};

use super::Float;
use crate::error::{Error, Result};
use crate::shape::{WORD_BITS, check_len, elements};

/// How many weights share a scale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Granularity {
    /// All of them: one scale.
    Tensor,
    /// Those of an output channel: N scales.
    Channel,
    /// So many neighbours along K of an output channel: `[N, ceil(K / group)]` scales, row-major. A multiple of
    /// 32 from 32 to 256; the last group of a channel may be shorter.
    Group(usize),
}

impl Granularity {
    /// Errors if a group is not a multiple of 32 from 32 to 256.
    pub fn check(self) -> Result<()> {
        match self {
            Granularity::Group(group)
                if !group.is_multiple_of(WORD_BITS) || !(32..=256).contains(&group) =>
            {
                let expected = "a multiple of 32 from 32 to 256";
                Err(Error::argument("group", group, expected))
            }
            _ => Ok(()),
        }
    }
}

/// Scales as they are kept.
#[derive(Clone, PartialEq, Debug)]
pub enum ScaleValues {
    /// 32 bits each.
    F32(Vec<f32>),
    /// 16 bits each: 5 of exponent, 10 of fraction.
    F16(Vec<f16>),
    /// 16 bits each: 8 of exponent, 7 of fraction.
    Bf16(Vec<bf16>),
}

/// Scales of weights `[N, K]`, kept in the type that they came in. A weight is its code's integer times its scale.
#[derive(Clone, PartialEq, Debug)]
pub struct Scales {
    granularity: Granularity,
    values: ScaleValues,
}

impl Scales {
    /// Scales of f32, [`half::f16`] or [`half::bf16`].
    ///
    /// Errors if a group is not a multiple of 32 from 32 to 256. Whether there are as many values as weights
    /// ask for is seen where they meet: [`Scales::check`].
    pub fn new<F: Float>(granularity: Granularity, values: Vec<F>) -> Result<Self> {
        granularity.check()?;
        let values = F::scale_values(values);
        Ok(Scales {
            granularity,
            values,
        })
    }

    /// Errors unless there is a scale for all weights `[n, k]`.
    pub fn check(&self, n: usize, k: usize) -> Result<()> {
        let (expected, dims) = match self.granularity {
            Granularity::Tensor => (1, "one for the tensor"),
            Granularity::Channel => (n, "N"),
            Granularity::Group(_) => {
                let all = elements("scales", &[n, self.groups(k)])?;
                (all, "N x ceil(K / group)")
            }
        };
        check_len("scales", self.len(), expected, dims)
    }

    /// How many weights share a scale.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The values, in the order of [`Granularity`].
    pub fn values(&self) -> &ScaleValues {
        &self.values
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match &self.values {
            ScaleValues::F32(v) => v.len(),
            ScaleValues::F16(v) => v.len(),
            ScaleValues::Bf16(v) => v.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Groups of a channel of `k` weights: 1 unless scales are per group.
    pub fn groups(&self, k: usize) -> usize {
        match self.granularity {
            Granularity::Group(group) => k.div_ceil(group),
            _ => 1,
        }
    }

    /// The scale of group `group` of channel `channel`, of weights with `k` columns. Panics outside of them.
    pub fn get(&self, channel: usize, group: usize, k: usize) -> f32 {
        let index = match self.granularity {
            Granularity::Tensor => 0,
            Granularity::Channel => channel,
            Granularity::Group(_) => channel * self.groups(k) + group,
        };
        match &self.values {
            ScaleValues::F32(v) => v[index],
            ScaleValues::F16(v) => v[index].to_f32(),
            ScaleValues::Bf16(v) => v[index].to_f32(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_whole_words_and_of_use() {
        for good in [32, 64, 96, 128, 256] {
            assert!(Scales::new(Granularity::Group(good), vec![1f32]).is_ok());
        }
        for bad in [0, 1, 16, 33, 100, 288, usize::MAX] {
            let said = Scales::new(Granularity::Group(bad), vec![1f32]).unwrap_err();
            let expected = format!("group is {bad}; expected a multiple of 32 from 32 to 256");
            assert_eq!(said.to_string(), expected);
        }
    }

    #[test]
    fn every_granularity_finds_its_value_and_checks_its_length() {
        let values: Vec<f16> = (0..6).map(|i| f16::from_f32(i as f32 / 4.0)).collect();
        let scales = Scales::new(Granularity::Group(32), values.clone()).unwrap();
        assert!(scales.check(2, 65).is_ok());
        assert_eq!(scales.get(1, 2, 65), 1.25);
        let said = scales.check(2, 64).unwrap_err().to_string();
        assert!(
            said.starts_with("scales is 6 elements long; expected 4"),
            "{said}"
        );
        assert!(scales.check(usize::MAX, 65).is_err());

        let channel = Scales::new(Granularity::Channel, values).unwrap();
        assert!(channel.check(6, 1).is_ok() && channel.check(5, 1).is_err());
        assert_eq!(channel.get(5, 0, 1), 1.25);
        let tensor = Scales::new(Granularity::Tensor, vec![bf16::from_f32(0.5)]).unwrap();
        assert!(tensor.check(6, 1).is_ok());
        assert_eq!(tensor.get(5, 0, 1), 0.5);
    }
}
