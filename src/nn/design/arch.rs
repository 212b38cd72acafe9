//! Architectures as text: blocks with hyphens between.
//!
//! | block | means |
//! |---|---|
//! | `256` or `256fc` | linear layer of 256 outputs, normalisation, activation |
//! | `32c5` | convolution by 32 filters of 5 x 5, normalisation, activation |
//! | `32c3p1`, `s2`, `g4` behind | padding 1, stride 2, 4 groups |
//! | `mp2`, `ap2` | the greatest or the mean of windows of 2 x 2; `mp3s2` has a stride of its own |
//! | `res32`, `res32s2` | basic residual block of two 3 x 3 convolutions and a type-A shortcut, then the activation |
//! | `stem16c3p1`, `s2` behind | convolution and normalisation alone |
//! | `react32`, `react32s2` | activation, 3 x 3 convolution, normalisation, a type-A shortcut around them, then RPReLU; floats leave |
//! | `drop0.5` | dropout |
//! | `act` | an activation alone, which makes codes of floats |
//! | `rprelu` | RPReLU: a PReLU with learned shifts |
//!
//! The last linear layer, one output a class, is not written.
//!
//! | name | text | source |
//! |---|---|---|
//! | `tfc`, `sfc`, `lfc` | three linear layers of 64, 256, 1024 | the nets of the FINN papers |
//! | `lenet5` | `6c5p2-mp2-16c5-mp2-120-84` | the classical LeNet-5; the papers that use a "LeNet-5" give no widths |
//! | `lenet5-blaq` | `20c3-mp2-50c3-mp2-500` | arXiv 2401.16760, appendix |
//! | `mlp-2048` | `2048-2048-2048` | arXiv 1511.00363, 2401.16760 |
//! | `vgg-small`, `vgg-bc` | `128c3p1-128c3p1-mp2-256c3p1-256c3p1-mp2-512c3p1-512c3p1-mp2-1024-1024` | arXiv 1511.00363, 2401.16760 |
//! | `vgg11` | eight convolutions of 64 to 512 filters, five times halved | code of arXiv 1808.05240 |
//! | `vgg9` | seven convolutions of 64 to 256 filters, three times halved, 256 outputs | code of the authors of arXiv 1706.02379 |
//! | `svhnnet` | six convolutions of 64 to 256 filters, three times halved, twice 1024 outputs | arXiv 2401.16760, appendix |
//! | `resnet20`, `resnet56` | 16 filters, then three times three (or nine) residual blocks of 16, 32, 64 | code of arXiv 1808.05240 |
//! | `resnet20-packed` | the same, and an activation behind the last mean | |
//! | `resnet18` | eight residual blocks of 64 to 512 filters, for images of 224 x 224 | arXiv 1512.03385 |
//! | `reactnet20` | the convolutions of ResNet-20, each a block of ReActNet | after arXiv 2003.03488 |
//!
//! The mean of 8 x 8 codes at the end of `resnet20` has integers of its own up to 2 bits, and none of 8 bits with more:
//! then the last layer multiplies floats, and that of `resnet20-packed` codes. The
//! ReActNet of the paper widens by two convolutions side by side and means in the shortcut; here it is zeros and every
//! second pixel.
//!
//! In `resnet18` pooling has no padding, so that its windows end a pixel earlier (55 x 55, then 28 x 28 and on as in the
//! paper), and shortcuts that widen are of type A.
//!
//! In that code both activations of a residual block share one alpha, and the convolutions of VGG-11 have a bias; here
//! each activation has its own alpha, and no layer has a bias (normalisation follows).

use std::fmt;

use crate::error::{Error, Result};

/// Names of architectures, and what they stand for.
pub const NAMED: [(&str, &str); 16] = [
    ("tfc", "64-64-64"),
    ("sfc", "256-256-256"),
    ("lfc", "1024-1024-1024"),
    ("lenet5", "6c5p2-mp2-16c5-mp2-120-84"),
    ("lenet5-blaq", "20c3-mp2-50c3-mp2-500"),
    ("mlp-2048", "2048-2048-2048"),
    ("vgg-small", VGG_SMALL),
    ("vgg-bc", VGG_SMALL),
    (
        "vgg11",
        "64c3p1-mp2-128c3p1-mp2-256c3p1-256c3p1-mp2-512c3p1-512c3p1-mp2-512c3p1-512c3p1-mp2",
    ),
    (
        "vgg9",
        "64c3p1-64c3p1-mp2-128c3p1-128c3p1-mp2-256c3p1-256c3p1-256c3p1-mp2-256",
    ),
    (
        "svhnnet",
        "64c3p1-64c3p1-mp2-128c3p1-128c3p1-mp2-256c3p1-256c3p1-mp2-1024-1024",
    ),
    (
        "resnet20",
        "16c3p1-res16-res16-res16-res32s2-res32-res32-res64s2-res64-res64-ap8",
    ),
    (
        "resnet20-packed",
        "16c3p1-res16-res16-res16-res32s2-res32-res32-res64s2-res64-res64-ap8-act",
    ),
    (
        "resnet56",
        "16c3p1-res16-res16-res16-res16-res16-res16-res16-res16-res16-\
         res32s2-res32-res32-res32-res32-res32-res32-res32-res32-\
         res64s2-res64-res64-res64-res64-res64-res64-res64-res64-ap8",
    ),
    (
        "resnet18",
        "64c7p3s2-mp3s2-res64-res64-res128s2-res128-res256s2-res256-res512s2-res512-ap7",
    ),
    (
        "reactnet20",
        "stem16c3p1-react16-react16-react16-react16-react16-react16-react32s2-react32-react32-react32-react32-react32-\
         react64s2-react64-react64-react64-react64-react64-ap8-act",
    ),
];

/// The net of BinaryConnect for CIFAR-10, which has two names.
const VGG_SMALL: &str = "128c3p1-128c3p1-mp2-256c3p1-256c3p1-mp2-512c3p1-512c3p1-mp2-1024-1024";

/// The largest size that a block takes.
const LARGEST: usize = 1 << 20;

/// A block of an architecture.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Block {
    /// Linear layer of so many outputs, normalisation, activation.
    Linear(usize),
    /// Convolution, normalisation, activation.
    Conv {
        /// Filters.
        filters: usize,
        /// Rows and columns of a filter.
        kernel: usize,
        /// Input pixels from one output pixel to the next.
        stride: usize,
        /// Zeros around the image.
        padding: usize,
        /// Groups of channels.
        groups: usize,
    },
    /// The greatest of each window.
    MaxPool {
        /// Rows and columns of a window.
        window: usize,
        /// Pixels from one window to the next.
        stride: usize,
    },
    /// The mean of each window.
    AveragePool {
        /// Rows and columns of a window.
        window: usize,
        /// Pixels from one window to the next.
        stride: usize,
    },
    /// Two 3 x 3 convolutions with a shortcut around them, then the activation.
    Residual {
        /// Filters of each convolution.
        filters: usize,
        /// Stride of the first convolution and of the shortcut.
        stride: usize,
    },
    /// Dropout of a share of the values.
    Dropout(f32),
    /// An activation.
    Act,
    /// Convolution and normalisation, without an activation.
    Stem {
        /// Filters.
        filters: usize,
        /// Rows and columns of a filter.
        kernel: usize,
        /// Input pixels from one output pixel to the next.
        stride: usize,
        /// Zeros around the image.
        padding: usize,
    },
    /// Activation, 3 x 3 convolution and normalisation with a shortcut around them, then RPReLU.
    React {
        /// Filters.
        filters: usize,
        /// Stride of the convolution and of the shortcut.
        stride: usize,
    },
    /// RPReLU.
    RPRelu,
}

impl Block {
    /// Linear layers of these sizes.
    pub fn linear(sizes: &[usize]) -> Vec<Block> {
        sizes.iter().map(|n| Block::Linear(*n)).collect()
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = |f: &mut fmt::Formatter<'_>, name: &str, window: usize, stride: usize| {
            write!(f, "{name}{window}")?;
            if stride == window {
                return Ok(());
            }
            write!(f, "s{stride}")
        };
        match *self {
            Block::Linear(n) => write!(f, "{n}"),
            Block::Conv {
                filters,
                kernel,
                stride,
                padding,
                groups,
            } => {
                write!(f, "{filters}c{kernel}")?;
                for (letter, value, plain) in
                    [('p', padding, 0), ('s', stride, 1), ('g', groups, 1)]
                {
                    if value != plain {
                        write!(f, "{letter}{value}")?;
                    }
                }
                Ok(())
            }
            Block::MaxPool { window, stride } => pool(f, "mp", window, stride),
            Block::AveragePool { window, stride } => pool(f, "ap", window, stride),
            Block::Residual { filters, stride: 1 } => write!(f, "res{filters}"),
            Block::Residual { filters, stride } => write!(f, "res{filters}s{stride}"),
            Block::Dropout(p) => write!(f, "drop{p}"),
            Block::Act => f.write_str("act"),
            Block::Stem {
                filters,
                kernel,
                stride,
                padding,
            } => {
                let groups = 1;
                let conv = Block::Conv {
                    filters,
                    kernel,
                    stride,
                    padding,
                    groups,
                };
                write!(f, "stem{conv}")
            }
            Block::React { filters, stride: 1 } => write!(f, "react{filters}"),
            Block::React { filters, stride } => write!(f, "react{filters}s{stride}"),
            Block::RPRelu => f.write_str("rprelu"),
        }
    }
}

/// The blocks of `text`, a name of [`NAMED`] or blocks with hyphens between.
///
/// Errors, naming the block, if it is none, or a size is not 1 to 1048576.
pub fn parse(text: &str) -> Result<Vec<Block>> {
    let spelled = NAMED.iter().find(|(name, _)| *name == text);
    let blocks = spelled.map_or(text, |(_, spelled)| spelled).split('-');
    let blocks: Option<Vec<Block>> = blocks.map(parse_block).collect();
    blocks.ok_or_else(|| {
        let names = NAMED.iter().map(|(name, _)| *name);
        let known: Vec<&str> = names
            .chain(["blocks as in 32c5-mp2-64c5-mp2-512 (sizes 1 to 1048576)"])
            .collect();
        Error::unknown("arch", text, &known)
    })
}

fn parse_block(text: &str) -> Option<Block> {
    match text {
        "act" => return Some(Block::Act),
        "rprelu" => return Some(Block::RPRelu),
        _ => {}
    }
    if let Some(conv) = text.strip_prefix("stem") {
        return match parse_block(conv)? {
            Block::Conv {
                filters,
                kernel,
                stride,
                padding,
                groups: 1,
            } => Some(Block::Stem {
                filters,
                kernel,
                stride,
                padding,
            }),
            _ => None,
        };
    }
    if let Some(p) = text.strip_prefix("drop") {
        let p: f32 = p.parse().ok()?;
        return (0.0..1.0).contains(&p).then_some(Block::Dropout(p));
    }
    for (prefix, max) in [("mp", true), ("ap", false)] {
        if let Some(rest) = text.strip_prefix(prefix) {
            let (window, rest) = number(rest)?;
            let [_, stride, _] = options(rest, [None, Some(window), None])?;
            return Some(match max {
                true => Block::MaxPool { window, stride },
                false => Block::AveragePool { window, stride },
            });
        }
    }
    for (prefix, react) in [("react", true), ("res", false)] {
        if let Some(rest) = text.strip_prefix(prefix) {
            let (filters, rest) = number(rest)?;
            let [_, stride, _] = options(rest, [None, Some(1), None])?;
            return Some(match react {
                true => Block::React { filters, stride },
                false => Block::Residual { filters, stride },
            });
        }
    }
    let (n, rest) = number(text)?;
    match rest.strip_prefix('c') {
        None => ["", "fc"].contains(&rest).then_some(Block::Linear(n)),
        Some(rest) => {
            let (kernel, rest) = number(rest)?;
            let [padding, stride, groups] = options(rest, [Some(0), Some(1), Some(1)])?;
            Some(Block::Conv {
                filters: n,
                kernel,
                stride,
                padding,
                groups,
            })
        }
    }
}

/// A size at the start of `text`, and what follows it.
fn number(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    let n = digits.parse().ok().filter(|n| (1..=LARGEST).contains(n))?;
    Some((n, rest))
}

/// Padding, stride and groups from `text`, over the plain ones; `None` among those is an option that the block lacks.
fn options(mut text: &str, plain: [Option<usize>; 3]) -> Option<[usize; 3]> {
    let mut given = [None; 3];
    while let Some(letter) = text.chars().next() {
        let i = ['p', 's', 'g'].iter().position(|l| *l == letter)?;
        let (value, rest) = number(&text[1..])?;
        if given[i].replace(value).is_some() || plain[i].is_none() {
            return None;
        }
        text = rest;
    }
    Some(std::array::from_fn(|i| {
        given[i].or(plain[i]).unwrap_or_default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_and_every_block_writes_what_it_reads() {
        for (name, text) in NAMED {
            let blocks = parse(name).unwrap();
            assert_eq!(blocks, parse(text).unwrap());
            let words: Vec<String> = blocks.iter().map(Block::to_string).collect();
            assert_eq!(words.join("-"), text);
        }
        for text in ["stem8c5p2s3-react7-react8s2-rprelu-act", "stem3c1"] {
            let blocks = parse(text).unwrap();
            let words: Vec<String> = blocks.iter().map(Block::to_string).collect();
            assert_eq!(words.join("-"), text);
        }
        let text = "32c5p2s3g4-mp3s2-ap2-res7s2-drop0.25-10fc-act";
        let blocks = parse(text).unwrap();
        assert_eq!(
            blocks[0],
            Block::Conv {
                filters: 32,
                kernel: 5,
                stride: 3,
                padding: 2,
                groups: 4
            }
        );
        let (window, stride) = (3, 2);
        assert_eq!(blocks[1], Block::MaxPool { window, stride });
        let last = [Block::Dropout(0.25), Block::Linear(10), Block::Act];
        assert_eq!(blocks[4..], last);
        assert_eq!(parse("sfc").unwrap(), Block::linear(&[256; 3]));
        use crate::nn::net::{Design, Net};
        let net = Net::new(
            Design::new([224, 224, 3], parse("resnet18").unwrap(), 10, 4),
            1,
        )
        .unwrap();
        let shapes = net.layers().nodes().iter().map(|n| n.shape());
        let ends = [
            [112, 112, 64],
            [55, 55, 64],
            [28, 28, 128],
            [7, 7, 512],
            [1, 1, 512],
        ];
        let mut seen: Vec<[usize; 3]> = shapes.collect();
        seen.retain(|s| ends.contains(s));
        seen.dedup();
        assert_eq!(seen, ends);
    }

    #[test]
    fn what_is_no_architecture_is_refused_with_the_nearest_name() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        let bad = "|stem|stem9|stem4c3g2|stemact|react|react3p1|rprelu2|cnv|0|12-|-3|9999999|3c|3c0|c3|mp|mp2p1|res|res3g2|drop1|3c3p1p1|3c3x1";
        for bad in bad.split('|') {
            let said = said(bad);
            assert!(said.starts_with(&format!("arch is '{bad}'; expected tfc, sfc")));
        }
        assert!(said("resnet").ends_with("did you mean resnet20?"));
        assert!(said("lenet-5").ends_with("did you mean lenet5?"));
    }
}
