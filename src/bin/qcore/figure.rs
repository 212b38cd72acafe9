//! Figures of a common look: panels beside and below each other, each with a few series, as an SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use qcore::{Error, Result};

pub type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

pub const BLUE: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
pub const ORANGE: RGBColor = RGBColor(0xc8, 0x4b, 0x16);
pub const GREEN: RGBColor = RGBColor(0x2a, 0x8c, 0x5a);
pub const PURPLE: RGBColor = RGBColor(0x7a, 0x3f, 0x9d);
pub const GOLD: RGBColor = RGBColor(0xb8, 0x92, 0x1f);
pub const GREY: RGBColor = RGBColor(0x77, 0x77, 0x77);
pub const SHADE: RGBColor = RGBColor(0xee, 0xee, 0xee);

/// Colours for series that are equals.
pub const EQUALS: [RGBColor; 6] = [BLUE, ORANGE, GREEN, PURPLE, GOLD, GREY];

/// How points are drawn.
#[derive(Clone, Copy, PartialEq)]
pub enum Marks {
    Line,
    Dashed,
    Dots,
    /// Small dots, for very many.
    Specks,
    /// Bars from 0, so wide.
    Bars(f64),
}

pub struct Series {
    /// Empty: not in the legend.
    pub name: String,
    pub colour: RGBColor,
    pub marks: Marks,
    pub points: Vec<(f64, f64)>,
}

/// One pair of axes.
pub struct Panel {
    title: String,
    x: String,
    y: String,
    log: (bool, bool),
    range: Option<(f64, f64)>,
    band: Option<(f64, f64, String)>,
    words: Vec<(f64, f64, String)>,
    series: Vec<Series>,
}

impl Panel {
    pub fn new(title: &str, x: &str, y: &str) -> Self {
        Panel {
            title: title.to_string(),
            x: x.to_string(),
            y: y.to_string(),
            log: (false, false),
            range: None,
            band: None,
            words: Vec::new(),
            series: Vec::new(),
        }
    }

    pub fn log_x(mut self) -> Self {
        self.log.0 = true;
        self
    }

    pub fn log_y(mut self) -> Self {
        self.log.1 = true;
        self
    }

    /// The range of y instead of that of the points.
    pub fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }

    /// A shaded stretch of x with a word.
    pub fn band(mut self, from: f64, to: f64, word: &str) -> Self {
        self.band = Some((from, to, word.to_string()));
        self
    }

    /// Words that begin at points and run upwards, to name bars.
    pub fn words(mut self, words: Vec<(f64, f64, String)>) -> Self {
        self.words = words;
        self
    }

    pub fn with(
        mut self,
        name: &str,
        colour: RGBColor,
        marks: Marks,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        self.series.push(Series {
            name: name.to_string(),
            colour,
            marks,
            points: points.into_iter().collect(),
        });
        self
    }

    /// Where a point lies on the axes, if it can be shown.
    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let of = |v: f64, log: bool| if log { v.log10() } else { v };
        let at = (of(x, self.log.0), of(y, self.log.1));
        (at.0.is_finite() && at.1.is_finite()).then_some(at)
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
        let placed: Vec<Vec<(f64, f64)>> = self
            .series
            .iter()
            .map(|s| s.points.iter().filter_map(|p| self.place(*p)).collect())
            .collect();
        let bars = self
            .series
            .iter()
            .any(|s| matches!(s.marks, Marks::Bars(_)));
        let all = || placed.iter().flatten();
        let (left, right) = span(all().map(|p| p.0), if bars { 0.04 } else { 0.02 });
        let (mut low, mut high) = span(all().map(|p| p.1), 0.06);
        if bars && !self.log.1 {
            low = low.min(0.0);
        }
        if let Some(range) = self.range {
            let at = |v: f64| if self.log.1 { v.log10() } else { v };
            (low, high) = (at(range.0), at(range.1));
        }
        let area = self.head(area)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .margin_top(2)
            .x_label_area_size(36)
            .y_label_area_size(58)
            .build_cartesian_2d(left..right, low..high)?;
        if let Some((from, to, word)) = &self.band {
            let at = |v: f64| if self.log.0 { v.log10() } else { v };
            let (from, to) = (at(*from).max(left), at(*to).min(right));
            chart.draw_series([Rectangle::new([(from, low), (to, high)], SHADE.filled())])?;
            let place = (from + 0.01 * (right - left), low + 0.06 * (high - low));
            chart.draw_series([Text::new(word.clone(), place, ("sans-serif", 12))])?;
        }
        let (log_x, log_y) = self.log;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(&self.y)
            .x_label_formatter(&|v| label(*v, log_x))
            .y_label_formatter(&|v| label(*v, log_y))
            .x_labels(7)
            .y_labels(7)
            .light_line_style(WHITE.mix(0.0))
            .bold_line_style(SHADE)
            .draw()?;
        for (series, points) in self.series.iter().zip(&placed) {
            let colour = series.colour;
            let inside = points.iter().map(|p| (p.0, p.1.clamp(low, high)));
            let thin = colour.stroke_width(1);
            match series.marks {
                Marks::Line => {
                    chart.draw_series(LineSeries::new(inside, colour.stroke_width(2)))?;
                }
                Marks::Dashed => {
                    chart.draw_series(DashedLineSeries::new(inside, 5, 4, thin))?;
                }
                Marks::Dots => {
                    chart.draw_series(inside.map(|p| Circle::new(p, 3, colour.filled())))?;
                }
                Marks::Specks => {
                    chart.draw_series(inside.map(|p| Circle::new(p, 1, colour.filled())))?;
                }
                Marks::Bars(width) => {
                    chart.draw_series(inside.map(|(x, y)| {
                        let corners = [(x - width / 2.0, low.max(0.0)), (x + width / 2.0, y)];
                        Rectangle::new(corners, colour.mix(0.75).filled())
                    }))?;
                }
            }
        }
        let upwards = ("sans-serif", 12)
            .into_font()
            .transform(FontTransform::Rotate270);
        for (x, y, word) in &self.words {
            if let Some(at) = self.place((*x, *y)) {
                chart.draw_series([Text::new(word.clone(), at, upwards.clone())])?;
            }
        }
        Ok(())
    }

    /// Title and legend above the axes, where they hide nothing; what is left of the area.
    fn head<'a>(
        &self,
        area: &DrawingArea<SVGBackend<'a>, Shift>,
    ) -> Drawn<DrawingArea<SVGBackend<'a>, Shift>> {
        let named = || self.series.iter().filter(|s| !s.name.is_empty());
        let left = 68;
        let width = area.dim_in_pixel().0 as i32;
        let (mut x, mut rows) = (left, i32::from(named().count() > 0));
        let mut places = Vec::new();
        for series in named() {
            let need = 34 + 7 * series.name.chars().count() as i32;
            if x + need > width && x > left {
                (x, rows) = (left, rows + 1);
            }
            places.push((x, rows));
            x += need;
        }
        let (head, body) = area.split_vertically(26 + 16 * rows);
        head.draw(&Text::new(
            self.title.clone(),
            (left, 8),
            ("sans-serif", 15),
        ))?;
        for (series, (x, row)) in named().zip(places) {
            let y = 18 + 16 * row;
            let style = series.colour.stroke_width(3);
            head.draw(&PathElement::new([(x, y), (x + 18, y)], style))?;
            head.draw(&Text::new(
                series.name.clone(),
                (x + 23, y - 6),
                ("sans-serif", 12),
            ))?;
        }
        Ok(body)
    }
}

/// The range of values with a margin on both sides, never empty.
fn span(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for v in values {
        (low, high) = (low.min(v), high.max(v));
    }
    if low > high {
        return (0.0, 1.0);
    }
    let room = (high - low) * margin + 1e-9 + 1e-3 * (high - low).max(low.abs() * 1e-2);
    (low - room, high + room)
}

/// A number at an axis.
fn label(v: f64, log: bool) -> String {
    let v = if log { 10f64.powf(v) } else { v };
    let size = v.abs();
    if log && (1e-3..1e5).contains(&size) {
        // Two digits.
        let unit = 10f64.powf(size.log10().floor() - 1.0);
        return format!("{}", ((v / unit).round() * unit * 1e6).round() / 1e6);
    }
    if size != 0.0 && !(1e-3..1e5).contains(&size) && size > 1e-9 {
        return format!("{v:.0e}");
    }
    let text = format!("{v:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_string()
    } else {
        text.to_string()
    }
}

/// A title over panels in so many columns.
pub struct Figure {
    pub title: String,
    pub columns: usize,
    pub panels: Vec<Panel>,
}

impl Figure {
    /// The SVG.
    pub fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg)
            .map_err(|e| Error::format("the figure", e))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let columns = self.columns.max(1);
        let rows = self.panels.len().div_ceil(columns).max(1);
        let width = if columns == 1 { 640 } else { 460 };
        let size = (width * columns as u32 + 20, 350 * rows as u32 + 44);
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        // A letter is a little over half as wide as high.
        let fits = f64::from(size.0) / (0.56 * self.title.chars().count().max(1) as f64);
        let below = root.titled(&self.title, ("sans-serif", fits.min(19.0)))?;
        for (area, panel) in below.split_evenly((rows, columns)).iter().zip(&self.panels) {
            panel.draw(area)?;
        }
        root.present()?;
        Ok(())
    }
}
