//! Shapes of a convolution, and the indirection table: which input row or column a tap reads.
//!
//! The table is separable: a tap (ky, kx) of output pixel (oy, ox) reads a row that only oy and ky decide and a
//! column that only ox and kx decide. Along one axis the input positions of the taps rise by a fixed step, so
//! those inside of the input are a range of taps: two numbers for each output coordinate are the whole table.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::shape::elements;

/// No size along an axis may exceed this.
const LIMIT: usize = 1 << 20;

/// Rows and columns around the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all sides.
    pub const fn same(around: usize) -> Self {
        Padding {
            top: around,
            left: around,
            bottom: around,
            right: around,
        }
    }
}

/// What stands outside of the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pad {
    /// The integer 0, exactly, also around bipolar activations, which have no code for it.
    #[default]
    Zero,
    /// +1; for bipolar activations only.
    PlusOne,
    /// -1; for bipolar activations only.
    MinusOne,
}

/// The shape of a convolution. Pairs are (vertical, horizontal).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Rows of the input image.
    pub height: usize,
    /// Columns of the input image.
    pub width: usize,
    /// Channels of the input image, C.
    pub channels: usize,
    /// Rows and columns of a filter, KH and KW.
    pub kernel: [usize; 2],
    /// Input pixels from one output pixel to the next.
    pub stride: [usize; 2],
    /// Input pixels from one tap to the next.
    pub dilation: [usize; 2],
    /// Rows and columns around the image.
    pub padding: Padding,
    /// Groups of channels; output channels of a group see the input channels of that group alone.
    pub groups: usize,
}

impl Geometry {
    /// A `kernel` x `kernel` convolution of stride 1 without padding, dilation or groups.
    pub const fn new(height: usize, width: usize, channels: usize, kernel: usize) -> Self {
        Geometry {
            height,
            width,
            channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            dilation: [1; 2],
            padding: Padding::same(0),
            groups: 1,
        }
    }

    /// Rows and columns of the output, (OH, OW): (H + top + bottom - dilation (KH - 1) - 1) / stride + 1, rounded
    /// down.
    ///
    /// Errors if a size is zero, any number is above 2^20, the groups do not divide the channels, or the filter
    /// is larger than the padded image.
    pub fn output(&self) -> Result<(usize, usize)> {
        self.check()?;
        let [before, after] = self.pads();
        let axis = |axis: usize| {
            let padded = self.size(axis) + before[axis] + after[axis];
            let extent = self.extent(axis);
            if extent > padded {
                let value = format!("{extent} pixels long with its dilation");
                let expected = format!("at most {padded}, the padded image");
                return Err(Error::argument("kernel", value, expected));
            }
            Ok((padded - extent) / self.stride[axis] + 1)
        };
        let (height, width) = (axis(0)?, axis(1)?);
        elements("output", &[height, width])?;
        Ok((height, width))
    }

    /// Rows and columns of the output of the transposed convolution: (H - 1) stride - top - bottom +
    /// dilation (KH - 1) + 1 + `extra`.
    ///
    /// Errors as [`Geometry::output`], if `extra` is not below stride or dilation, or if nothing is left of the
    /// output.
    pub fn transposed_output(&self, extra: [usize; 2]) -> Result<(usize, usize)> {
        self.check()?;
        let [before, after] = self.pads();
        let axis = |axis: usize| {
            if extra[axis] >= self.stride[axis].max(self.dilation[axis]) {
                let expected = "below stride or dilation";
                return Err(Error::argument("output padding", extra[axis], expected));
            }
            let whole = (self.size(axis) - 1)
                .saturating_mul(self.stride[axis])
                .saturating_add(self.extent(axis))
                .saturating_add(extra[axis]);
            let padding = before[axis] + after[axis];
            match whole.checked_sub(padding) {
                None | Some(0) => {
                    let expected = format!("below {whole}, the output without padding");
                    Err(Error::argument("padding", padding, expected))
                }
                Some(size) if size > LIMIT * 4 => Err(Error::argument(
                    "output",
                    size,
                    "at most 2^22 rows and columns",
                )),
                Some(size) => Ok(size),
            }
        };
        let (height, width) = (axis(0)?, axis(1)?);
        elements("output", &[height, width])?;
        Ok((height, width))
    }

    fn check(&self) -> Result<()> {
        let Padding {
            top,
            left,
            bottom,
            right,
        } = self.padding;
        let [[kh, kw], [sy, sx], [dy, dx]] = [self.kernel, self.stride, self.dilation];
        let positive = [
            ("height", self.height),
            ("width", self.width),
            ("channels", self.channels),
            ("kernel", kh),
            ("kernel", kw),
            ("stride", sy),
            ("stride", sx),
            ("dilation", dy),
            ("dilation", dx),
            ("groups", self.groups),
        ];
        let any = [top, left, bottom, right].map(|p| ("padding", p));
        if let Some((name, _)) = positive.iter().find(|(_, v)| *v == 0) {
            return Err(Error::argument(name, 0, "1 or more"));
        }
        let all = positive.into_iter().chain(any);
        if let Some((name, v)) = all.into_iter().find(|(_, v)| *v > LIMIT) {
            return Err(Error::argument(name, v, "at most 2^20"));
        }
        if !self.channels.is_multiple_of(self.groups) {
            let expected = format!("a divisor of the {} channels", self.channels);
            return Err(Error::argument("groups", self.groups, expected));
        }
        // Where addresses have 32 bits, sizes below the limit may be too much together.
        elements("image", &[self.height, self.width, self.channels])?;
        elements("kernel", &[kh, kw])?;
        Ok(())
    }

    /// Input pixels, H x W.
    pub(crate) fn pixels(&self) -> usize {
        self.height * self.width
    }

    fn size(&self, axis: usize) -> usize {
        [self.height, self.width][axis]
    }

    fn pads(&self) -> [[usize; 2]; 2] {
        let p = self.padding;
        [[p.top, p.left], [p.bottom, p.right]]
    }

    /// Pixels that a filter spans.
    fn extent(&self, axis: usize) -> usize {
        let steps = self.dilation[axis].saturating_mul(self.kernel[axis] - 1);
        steps.saturating_add(1)
    }

    /// The indirection table of a convolution with `count` outputs along `axis`.
    pub(in crate::ops) fn axis(&self, axis: usize, count: usize) -> Axis {
        let taps = (0..self.kernel[axis]).collect();
        let first = -(self.pads()[0][axis] as isize);
        Axis::new(
            self.size(axis),
            count,
            self.stride[axis],
            first,
            self.dilation[axis],
            taps,
        )
    }

    /// The table of phase `phase` of the transposed convolution with `size` outputs along `axis`: of outputs
    /// phase, phase + stride, and so on.
    ///
    /// Output y takes tap k of input i where y = i stride + k dilation - padding. In a phase the same taps serve all outputs,
    /// and each next output takes the next input.
    pub(super) fn transposed_axis(&self, axis: usize, phase: usize, size: usize) -> Axis {
        let (stride, dilation) = (self.stride[axis], self.dilation[axis]);
        let from = (phase + self.pads()[0][axis]) as isize;
        let input = |tap: usize| from - (tap * dilation) as isize;
        let mut taps: Vec<usize> = (0..self.kernel[axis]).collect();
        taps.retain(|&tap| input(tap) % stride as isize == 0);
        // The last tap reads the first input.
        taps.reverse();
        let at = |tap: usize| input(tap) / stride as isize;
        let first = taps.first().map_or(0, |&tap| at(tap));
        let step = taps.get(1).map_or(1, |&tap| (at(tap) - first) as usize);
        let count = size.saturating_sub(phase).div_ceil(stride);
        Axis::new(self.size(axis), count, 1, first, step, taps)
    }
}

/// The indirection table of one axis: tap t of output j reads input j step + first + t tap_step.
#[derive(Debug)]
pub(in crate::ops) struct Axis {
    /// Inputs.
    pub(super) input: usize,
    /// Inputs from one output to the next.
    pub(in crate::ops) step: usize,
    first: isize,
    /// Inputs from one tap to the next.
    pub(super) tap_step: usize,
    /// The taps of the filter, in the order of the inputs that they read.
    pub(super) taps: Vec<usize>,
    /// The taps inside of the input, and the border class of each output: equal ranges, equal class.
    outputs: Vec<(Range<u32>, u32)>,
    /// The ranges of the classes.
    pub(super) classes: Vec<Range<u32>>,
    /// Outputs all of whose taps are inside.
    pub(super) whole: Range<usize>,
}

impl Axis {
    fn new(
        input: usize,
        count: usize,
        step: usize,
        first: isize,
        tap_step: usize,
        taps: Vec<usize>,
    ) -> Self {
        let mut axis = Axis {
            input,
            step,
            first,
            tap_step,
            taps,
            outputs: Vec::with_capacity(count),
            classes: Vec::new(),
            whole: 0..0,
        };
        for j in 0..count {
            let at = first + (j * step) as isize;
            // Taps that read below `limit`.
            let below = |limit: isize| {
                let taps = (limit - at).max(0) as usize;
                taps.div_ceil(tap_step).min(axis.taps.len())
            };
            let inside = below(0) as u32..below(input as isize) as u32;
            let inside = if inside.is_empty() { 0..0 } else { inside };
            if inside.len() == axis.taps.len() {
                axis.whole.start = if axis.whole.is_empty() {
                    j
                } else {
                    axis.whole.start
                };
                axis.whole.end = j + 1;
            }
            // Both ends move one way only, so outputs of a class are neighbours.
            if axis.classes.last() != Some(&inside) {
                axis.classes.push(inside.clone());
            }
            axis.outputs.push((inside, axis.classes.len() as u32 - 1));
        }
        axis
    }

    /// Outputs.
    pub(in crate::ops) fn count(&self) -> usize {
        self.outputs.len()
    }

    /// The taps of output `j` that are inside of the input.
    pub(in crate::ops) fn inside(&self, j: usize) -> Range<usize> {
        let inside = &self.outputs[j].0;
        inside.start as usize..inside.end as usize
    }

    /// The outputs of whose taps `tap` is inside of the input; each output has one inside.
    pub(in crate::ops) fn reach(&self, tap: usize) -> Range<usize> {
        // As `j` grows, both ends of its taps inside move down.
        let before = |(inside, _): &(Range<u32>, u32)| inside.start as usize > tap;
        let within = |(inside, _): &(Range<u32>, u32)| tap < inside.end as usize;
        let start = self.outputs.partition_point(before);
        start..self.outputs.partition_point(within).max(start)
    }

    /// The border class of output `j`.
    pub(super) fn class(&self, j: usize) -> usize {
        self.outputs[j].1 as usize
    }

    /// The input of the first tap of output `j`, or where it would be outside.
    pub(super) fn from(&self, j: usize) -> isize {
        self.first + (j * self.step) as isize
    }

    /// The input of tap `tap` of output `j`, which is inside.
    pub(in crate::ops) fn at(&self, j: usize, tap: usize) -> usize {
        (self.first + (j * self.step + tap * self.tap_step) as isize) as usize
    }

    /// Whether each output has one tap, which reads the input of the same number.
    pub(super) fn is_identity(&self) -> bool {
        let straight = self.taps.len() == 1 && self.step == 1 && self.first == 0;
        straight && self.count() == self.input
    }
}
