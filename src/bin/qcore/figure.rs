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
    legend: SeriesLabelPosition,
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
            legend: SeriesLabelPosition::UpperRight,
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

    pub fn legend(mut self, legend: SeriesLabelPosition) -> Self {
        self.legend = legend;
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
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 15))
            .margin(10)
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
        let mut named = false;
        for (series, points) in self.series.iter().zip(&placed) {
            let colour = series.colour;
            let inside = points.iter().map(|p| (p.0, p.1.clamp(low, high)));
            let style = colour.stroke_width(2);
            let drawn = match series.marks {
                Marks::Line => chart.draw_series(LineSeries::new(inside, style))?,
                Marks::Dashed => chart.draw_series(DashedLineSeries::new(
                    inside,
                    5,
                    4,
                    colour.stroke_width(1),
                ))?,
                Marks::Dots => {
                    chart.draw_series(inside.map(|p| Circle::new(p, 3, colour.filled())))?
                }
                Marks::Specks => {
                    chart.draw_series(inside.map(|p| Circle::new(p, 1, colour.filled())))?
                }
                Marks::Bars(width) => chart.draw_series(inside.map(|(x, y)| {
                    let corners = [(x - width / 2.0, low.max(0.0)), (x + width / 2.0, y)];
                    Rectangle::new(corners, colour.mix(0.75).filled())
                }))?,
            };
            if !series.name.is_empty() {
                named = true;
                drawn
                    .label(&series.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
            }
        }
        if named {
            chart
                .configure_series_labels()
                .position(self.legend.clone())
                .label_font(("sans-serif", 12))
                .background_style(WHITE.mix(0.8))
                .border_style(SHADE)
                .draw()?;
        }
        Ok(())
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
        let size = (460 * columns as u32 + 20, 330 * rows as u32 + 40);
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let below = root.titled(&self.title, ("sans-serif", 19))?;
        for (area, panel) in below.split_evenly((rows, columns)).iter().zip(&self.panels) {
            panel.draw(area)?;
        }
        root.present()?;
        Ok(())
    }
}
