//! The curves of a training run as an SVG: loss above, accuracy below, the float phase shaded.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use qcore::model::write_whole;
use qcore::{Error, Result};

use crate::figure::{BLUE as TRAIN, Drawn, ORANGE as TEST, SHADE};

/// An epoch, as the curves show it.
pub struct Point {
    /// Whether weights and activations were quantized.
    pub quantized: bool,
    pub loss: f64,
    /// Per cent.
    pub train_accuracy: f64,
    /// Per cent.
    pub test_accuracy: f64,
}

/// Writes the curves to `path`, whole or not at all.
pub fn write(path: &Path, title: &str, points: &[Point]) -> Result<()> {
    let mut svg = String::new();
    draw(&mut svg, title, points).map_err(|e| Error::format("the curves", e))?;
    write_whole(path, svg.as_bytes())
}

fn draw(svg: &mut String, title: &str, points: &[Point]) -> Drawn {
    let root = SVGBackend::with_string(svg, (800, 640)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root
        .titled(title, ("sans-serif", 20))?
        .split_vertically(300);
    let losses = [("training", TRAIN, points.iter().map(|p| p.loss).collect())];
    panel(&above, "loss", points, &losses)?;
    let accuracies = [
        (
            "training",
            TRAIN,
            points.iter().map(|p| p.train_accuracy).collect(),
        ),
        (
            "test",
            TEST,
            points.iter().map(|p| p.test_accuracy).collect(),
        ),
    ];
    panel(&below, "accuracy, %", points, &accuracies)?;
    root.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    label: &str,
    points: &[Point],
    curves: &[(&str, RGBColor, Vec<f64>)],
) -> Drawn {
    let values = || {
        curves
            .iter()
            .flat_map(|c| &c.2)
            .copied()
            .filter(|v| v.is_finite())
    };
    // The first epochs of a phase would squeeze the rest into a line: leave out the lowest tenth of
    // accuracies and the highest tenth of losses from the range, though not from the curve.
    let mut sorted: Vec<f64> = values().collect();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| {
        sorted
            .get(((sorted.len().max(1) - 1) as f64 * part) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    let (low, high) = match label {
        "loss" => (0.0, at(0.95) * 1.15 + 1e-6),
        _ => (at(0.05) - 0.5, (at(1.0) + 0.3).min(100.5)),
    };
    let last = points.len().max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(56)
        .build_cartesian_2d(0.5..last + 0.5, low..high.max(low + 1e-3))?;
    let float = points.iter().take_while(|p| !p.quantized).count();
    if float > 0 {
        let corners = [(0.5, low), (float as f64 + 0.5, high)];
        chart.draw_series([Rectangle::new(corners, SHADE.filled())])?;
        let text = Text::new(
            "float",
            (0.5 + last * 0.01, low + (high - low) * 0.08),
            ("sans-serif", 13),
        );
        chart.draw_series([text])?;
    }
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc(label)
        .x_labels(points.len().clamp(2, 12))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    for (name, colour, values) in curves {
        let line = values
            .iter()
            .enumerate()
            .map(|(i, &v)| (i as f64 + 1.0, v.clamp(low, high)));
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(line, style))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    if curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(SHADE)
            .draw()?;
    }
    Ok(())
}
