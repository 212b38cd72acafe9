//! The sums of a block of output pixels: find or gather their taps, multiply by any method, put the border right.

use std::ops::Range;

use super::BLOCK_ROWS;
use super::bitlines::{BitLines, Taps};
use super::border::Border;
use super::depthwise::Depthwise;
use super::geometry::Axis;
use super::lines::Lines;
use super::parts::{Parts, Route};
use super::tablelines::TableLines;
use crate::bits::{Encoding, PackedRef};
use crate::error::Result;
use crate::kernels::bounds::Sequence;
use crate::kernels::{CodeRows, Kernels, LineRows, MatMut};
use crate::ops::Finish;
use crate::ops::gemm::Activations;
use crate::ops::gemm::method::{Integers, Method};
use crate::ops::par::Par;
use crate::shape::{WORD_BITS, words};

/// One indirection table and the weights of its taps.
pub(super) struct Product {
    pub(super) rows: Axis,
    pub(super) cols: Axis,
    pub(super) activation: Encoding,
    pub(super) channels: usize,
    o: usize,
    /// Taps x C / groups, rounded up to what bytes are multiplied in where rows are gathered and zeros behind K change
    /// nothing.
    pub(super) k: usize,
    how: How,
    border: Option<Border>,
    /// Whether the product makes codes itself.
    codes: bool,
    /// Their thresholds, `[classes, levels, 32 ceil(O / 32)]`, if there is a border.
    thresholds: Vec<i32>,
}

/// Thresholds of all classes, at most: few megabytes.
const CLASSES: usize = 1 << 20;

enum How {
    /// Each pixel is a row as it is.
    Direct(Method),
    /// Taps in lines of bytes.
    Lines(Lines),
    /// Taps in lines of tables.
    Tables(TableLines),
    /// A method for each group, of rows that are gathered unless their taps are found in lines.
    Rows(Vec<Method>, Option<BitLines>),
    /// Each channel by itself.
    Depthwise(Depthwise),
}

impl Product {
    /// The product of the taps that `rows` and `cols` name.
    pub(super) fn new(parts: &Parts<'_>, rows: Axis, cols: Axis) -> Result<Self> {
        let (kernels, activation, groups) = (parts.kernels, parts.activation, parts.groups);
        let (o, encoding) = (parts.filters.rows(), parts.filters.encoding());
        let per_group = parts.channels / groups;
        let taps = rows.taps.len() * cols.taps.len();
        let all = parts.select(&rows, &cols);
        let identity = groups == 1 && rows.is_identity() && cols.is_identity();
        // Gathered rows of bytes are whole words, so that nobody has to pad them once more. Bits behind K are zero, and
        // zero is the integer 0 except for bipolar activations, which are never bytes here. Pixels that are rows as they
        // are have any K: planes go to products of bits untouched, and are unpacked into rows of the right length for all
        // others; bytes are made planes, or padded by the method itself, which copies them once, as gathering would.
        let k = match activation {
            Encoding::Bipolar => taps * per_group,
            _ if identity => per_group,
            _ => (taps * per_group).next_multiple_of(4),
        };
        let channels = o / groups;
        let way = Method::choose(kernels, channels, encoding, activation);
        let route = match parts.route {
            Some(route) => route,
            None if !identity && Lines::is_worth(parts, &cols, way) => Route::Lines,
            None => Route::Rows(way),
        };
        let lines = route == Route::Lines && Lines::serves(parts, &rows, &cols);
        let tables = TableLines::kernel(parts, &rows, &cols);
        let how = if per_group == 1 && o == groups && groups > 1 && parts.route.is_none() {
            let mut depthwise = Depthwise::new(all.view(), activation);
            parts.subtract_zero(all.view(), depthwise.start_mut());
            How::Depthwise(depthwise)
        } else if let Some(kernel) = tables {
            How::Tables(TableLines::new(kernel, parts, all.view(), &rows, &cols)?)
        } else if lines {
            How::Lines(Lines::new(parts, all.view(), &rows, &cols)?)
        } else {
            let filters = PackedRef::packed_here(encoding, o, k, all.words());
            let method = |group: usize| -> Result<Method> {
                let some = group * channels..(group + 1) * channels;
                let way = match route {
                    Route::Rows(way) => way,
                    Route::Lines => way,
                };
                let mut method =
                    Method::new(way, kernels, filters.slice_rows(some.clone()), activation)?;
                // Of the filters without the columns that fill up.
                let filters = all.view().slice_rows(some);
                method.start_with(|starts| parts.subtract_zero(filters, starts));
                Ok(method)
            };
            if identity {
                How::Direct(method(0)?)
            } else {
                let methods: Vec<Method> = (0..groups).map(method).collect::<Result<_>>()?;
                let lines = BitLines::new(&methods, activation, parts.channels, &rows, &cols);
                How::Rows(methods, lines)
            }
        };
        // The pad of lines is a byte among others.
        let border = match how {
            How::Lines(_) => None,
            _ => Border::new(parts, all.view(), &rows, &cols)?,
        };
        Ok(Product {
            rows,
            cols,
            activation,
            channels: parts.channels,
            o,
            k,
            how,
            border,
            codes: false,
            thresholds: Vec::new(),
        })
    }

    /// Output pixels of an image.
    pub(super) fn pixels(&self) -> usize {
        self.rows.count() * self.cols.count()
    }

    /// Rows and columns of the output.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.rows.count(), self.cols.count())
    }

    /// Words of a gathered row, in the larger of its two forms.
    fn row_words(&self) -> usize {
        (self.activation.planes() * words(self.k)).max(self.k.div_ceil(4))
    }

    /// Words that an output pixel of a block takes: those of its taps, and of its sums if they are not made into codes at once.
    pub(super) fn pixel_words(&self) -> usize {
        let taps = match &self.how {
            How::Rows(_, Some(lines)) => lines.len(self.axes(), BLOCK_ROWS).div_ceil(BLOCK_ROWS),
            _ => self.row_words(),
        };
        taps + if self.codes { 0 } else { self.o }
    }

    /// Elements of scratch for a block of `rows` output pixels, beside that of their sums.
    pub(super) fn scratch(&self, rows: usize) -> usize {
        let most = |m: &Method| m.scratch_of_planes(rows).max(m.scratch_of_bytes(rows));
        match &self.how {
            How::Direct(method) => most(method),
            How::Rows(methods, lines) => {
                let gathered = methods.iter().map(most).max().unwrap_or(0)
                    + rows * self.row_words()
                    + self.unpacked_bytes(rows).div_ceil(4);
                let lines = lines.as_ref().map_or(0, |l| l.scratch(self.axes(), rows));
                // Beside the classes of codes.
                rows + gathered.max(lines)
            }
            How::Lines(lines) => lines.scratch(&self.cols, rows),
            How::Tables(tables) => tables.scratch(self.axes(), rows),
            How::Depthwise(_) => self.depthwise_bytes().div_ceil(4),
        }
    }

    /// Output pixels of a block if the product has a wish, and what smaller blocks are to be multiples of.
    pub(super) fn block(&self, kernels: &Kernels) -> (Option<usize>, usize) {
        let lines = match &self.how {
            How::Lines(lines) if self.codes => lines.block_of_codes(&self.cols),
            How::Lines(lines) => lines.block(kernels, &self.cols),
            How::Tables(tables) => return (Some(tables.block(&self.cols)), tables.tile()),
            _ => return (None, kernels.mr()),
        };
        (Some(lines), lines.min(self.cols.count()))
    }

    /// Lets the product make the codes of `finish` itself, without sums in between, where it can.
    pub(super) fn make_codes(&mut self, finish: &Finish) {
        let Some(thresholds) = finish.thresholds() else {
            return;
        };
        let classes = self.rows.classes.len() * self.cols.classes.len();
        let fits = classes.saturating_mul(thresholds.padded().len()) <= CLASSES;
        let can = match &self.how {
            How::Lines(_) => true,
            How::Direct(method) => method.makes_codes(),
            How::Rows(methods, _) => match &methods[..] {
                [method] => method.makes_codes() && fits && self.k > 0,
                _ => false,
            },
            How::Tables(_) | How::Depthwise(_) => false,
        };
        self.codes = can && CodeRows::planes(thresholds.encoding().levels()).is_some();
        if let (true, Some(border)) = (self.codes, &self.border) {
            let padded = self.o.next_multiple_of(WORD_BITS);
            self.thresholds = border.thresholds(thresholds.padded(), padded);
        }
    }

    /// Whether [`Product::run_codes`] is there, for work on the threads of `par`: those share the channels of sums alone.
    pub(super) fn makes_codes(&self, par: Par<'_>) -> bool {
        self.codes && (par.threads() == 1 || !self.needs_sums())
    }

    /// Whether sums may be asked for where codes are wanted.
    pub(super) fn needs_sums(&self) -> bool {
        !(self.codes && matches!(self.how, How::Lines(_)))
    }

    /// The codes of output pixels `block` into `out`, of a product that [`Product::makes_codes`].
    pub(super) fn run_codes(
        &self,
        kernels: &Kernels,
        input: Activations<'_>,
        block: Range<usize>,
        out: CodeRows<'_>,
        scratch: &mut [i32],
    ) {
        match &self.how {
            How::Lines(lines) => {
                lines.run(
                    kernels,
                    self.axes(),
                    input,
                    block,
                    LineRows::Codes(out),
                    scratch,
                );
            }
            How::Direct(method) => {
                let rows = method.bit_rows(input.slice_rows(block), scratch);
                method.run_codes(rows, self.o, &[], out);
            }
            How::Rows(methods, lines) => {
                let (classes, scratch) = scratch.split_at_mut(block.len());
                let classes: &mut [u32] = bytemuck::cast_slice_mut(classes);
                let (classes, out) = match self.border {
                    None => (&[][..], out),
                    Some(_) => {
                        let (axes, len) = (self.axes(), out.thresholds.len());
                        Border::classes(axes[0], axes[1], block.clone(), len, classes);
                        let thresholds = &self.thresholds;
                        (&*classes, CodeRows { thresholds, ..out })
                    }
                };
                match self.taps(lines, input, &block, scratch) {
                    Ok(taps) => methods[0].run_codes(taps.group(0), self.o, classes, out),
                    Err(scratch) => {
                        let len = block.len() * self.row_words();
                        let (gathered, scratch) = scratch.split_at_mut(len);
                        let rows = self.gather(input, 0..self.channels, block, gathered);
                        let rows = methods[0].bit_rows(rows, scratch);
                        methods[0].run_codes(rows, self.o, classes, out);
                    }
                }
            }
            How::Tables(_) | How::Depthwise(_) => unreachable!("a product that makes codes"),
        }
    }

    /// Bytes of the input lines that depthwise taps of a line of output read.
    fn depthwise_bytes(&self) -> usize {
        self.rows.taps.len() * self.cols.input * self.channels
    }

    /// The sums of output pixels `block`, numbered across the images of `input`, into `out` `[rows, O]`; threads
    /// share the channels.
    pub(super) fn run(
        &self,
        kernels: &Kernels,
        input: Activations<'_>,
        block: Range<usize>,
        out: &mut [i32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) {
        match &self.how {
            How::Direct(method) => {
                let rows = input.slice_rows(block.clone());
                method.run(rows, self.all(out), scratch, par, &Integers);
            }
            How::Lines(lines) => {
                let out = LineRows::Sums(out);
                lines.run(kernels, self.axes(), input, block.clone(), out, scratch);
            }
            How::Tables(tables) => {
                let out = self.all(out);
                tables.run(self.axes(), input, block.clone(), out, scratch, par);
            }
            // A phase without taps.
            How::Rows(..) if self.k == 0 => out.fill(0),
            How::Rows(methods, lines) => {
                let channels = self.o / methods.len();
                let per_group = self.channels / methods.len();
                let mut taps = self.taps(lines, input, &block, scratch);
                for (group, method) in methods.iter().enumerate() {
                    let (_, right) = self.all(out).split_cols(group * channels);
                    let (out, _) = right.split_cols(channels);
                    match &mut taps {
                        Ok(taps) => {
                            method.run_bits(taps.group(group), out, par, &Integers);
                        }
                        Err(scratch) => {
                            let len = block.len() * self.row_words();
                            let (gathered, scratch) = scratch.split_at_mut(len);
                            let from = group * per_group..(group + 1) * per_group;
                            let (unpacked, scratch) = self.split_unpacked(scratch, block.len());
                            let rows = match input {
                                Activations::Planes(planes) if !unpacked.is_empty() => {
                                    self.unpack(kernels, planes, block.clone(), unpacked, gathered)
                                }
                                _ => self.gather(input, from, block.clone(), gathered),
                            };
                            method.run(rows, out, scratch, par, &Integers);
                        }
                    }
                }
            }
            How::Depthwise(depthwise) => {
                let bytes = &mut bytemuck::cast_slice_mut(scratch)[..self.depthwise_bytes()];
                depthwise.run(kernels, self.axes(), input, block.clone(), out, bytes);
            }
        }
        if let Some(border) = &self.border {
            border.run(&self.rows, &self.cols, block, out);
        }
    }

    /// Whether the rows of the only group are to be bytes.
    pub(super) fn takes_bytes(&self) -> bool {
        matches!(&self.how, How::Rows(methods, None) if methods.len() == 1 && methods[0].is_bytes())
    }

    fn axes(&self) -> [&Axis; 2] {
        [&self.rows, &self.cols]
    }

    /// The taps of output pixels `block` in lines, or `scratch` back where rows are gathered.
    fn taps<'a>(
        &'a self,
        lines: &'a Option<BitLines>,
        input: Activations<'_>,
        block: &Range<usize>,
        scratch: &'a mut [i32],
    ) -> std::result::Result<Taps<'a>, &'a mut [i32]> {
        match (lines, input) {
            (Some(lines), Activations::Planes(planes)) => {
                Ok(lines.rows(self.axes(), planes, block.clone(), scratch))
            }
            _ => Err(scratch),
        }
    }

    fn all<'a>(&self, out: &'a mut [i32]) -> MatMut<'a, i32> {
        let rows = out.len() / self.o;
        MatMut::new("sums", out, rows, self.o).expect("a block is cut to whole rows")
    }

    /// Bytes of the weights as laid out.
    pub(super) fn bytes(&self) -> usize {
        match &self.how {
            How::Direct(method) => method.bytes(),
            How::Rows(methods, _) => methods.iter().map(Method::bytes).sum(),
            How::Lines(lines) => lines.weight_bytes(),
            How::Tables(tables) => tables.weight_bytes(),
            How::Depthwise(depthwise) => depthwise.bytes(),
        }
    }

    /// What the inner loop does and how often, for so many images; none without groups.
    pub(super) fn sequence(&self, images: usize) -> Option<(Sequence, usize)> {
        let rows = self.pixels().saturating_mul(images);
        match &self.how {
            How::Direct(method) => Some(method.sequence(rows)),
            How::Rows(methods, _) => methods.first().map(|m| m.sequence(rows)),
            How::Lines(lines) => Some((lines.sequence(), 1)),
            How::Tables(tables) => Some(tables.sequence()),
            How::Depthwise(_) => Some((Sequence::Lanes, 1)),
        }
    }

    /// About how many vector instructions the sums of an image take.
    pub(super) fn cost(&self) -> u64 {
        let macs = [self.pixels(), self.o, self.k];
        let macs = macs
            .iter()
            .fold(1u64, |all, &n| all.saturating_mul(n as u64));
        let of_method = |method: &Method| {
            let of = match (method.is_bits(), method.is_bytes()) {
                (true, _) => 256,
                (_, true) => 64,
                _ => 128,
            };
            (of, method.sequence(usize::MAX).1)
        };
        // Multiply-adds of an instruction, and how often it walks along K.
        let (of, passes) = match &self.how {
            How::Rows(methods, _) if methods.is_empty() => return 0,
            How::Direct(method) => of_method(method),
            How::Rows(methods, _) => of_method(&methods[0]),
            How::Tables(tables) => (128, tables.sequence().1),
            How::Lines(_) | How::Depthwise(_) => (64, 1),
        };
        macs.saturating_mul(passes as u64) / of
    }

    /// What runs, for people.
    pub(super) fn describe(&self, kernels: &Kernels) -> String {
        match &self.how {
            How::Direct(method) => format!("{}, pixels as rows", method.describe()),
            How::Rows(methods, lines) => {
                let rows = match lines {
                    Some(_) => "taps in lines of bits",
                    None => "gathered rows",
                };
                format!("{}, {rows}", methods[0].describe())
            }
            How::Lines(lines) => lines.describe(kernels),
            How::Tables(tables) => tables.describe(),
            How::Depthwise(_) => format!("{}: depthwise, channels in lanes", kernels.isa()),
        }
    }
}
