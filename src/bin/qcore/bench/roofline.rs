//! The roofline of one core as an SVG: multiply-adds a byte against multiply-adds a cycle, under measured roofs.

use std::path::Path;

use plotters::prelude::*;
use qcore::isa::Isa;
use qcore::model::write_whole;
use qcore::{Error, Result};

use super::limits::Limits;
use super::report::{Product, Report};

/// The name, colour and points of a series.
type Group = (String, RGBColor, Vec<(f64, f64)>);

type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROOF: RGBColor = RGBColor(0x88, 0x88, 0x88);
const SLOPE: RGBColor = RGBColor(0xbb, 0xbb, 0xbb);
const F32: RGBColor = RGBColor(0x33, 0x33, 0x33);

/// The colour of an ISA's products.
fn colour(isa: Isa) -> RGBColor {
    match isa {
        Isa::Portable => RGBColor(0x8a, 0x6d, 0x3b),
        Isa::Neon => RGBColor(0x7a, 0x3f, 0x9d),
        Isa::NeonDot => RGBColor(0xb0, 0x5f, 0xb5),
        Isa::NeonI8mm => RGBColor(0xd1, 0x49, 0x8b),
        Isa::Avx2 => RGBColor(0x1f, 0x5f, 0xa8),
        Isa::Avx2Vnni => RGBColor(0x2a, 0x8c, 0x5a),
        Isa::Avx512Bw => RGBColor(0xb8, 0x92, 0x1f),
        Isa::Avx512 => RGBColor(0xc8, 0x4b, 0x16),
    }
}

/// Writes the roofline to `path`, whole or not at all. Products of several threads stay out: the roofs are of one.
pub fn write(path: &Path, report: &Report) -> Result<()> {
    let mut svg = String::new();
    let title = report.conditions.line();
    draw(&mut svg, &title, &report.limits, &report.products)
        .map_err(|e| Error::format("the roofline", e))?;
    write_whole(path, svg.as_bytes())
}

fn draw(svg: &mut String, title: &str, limits: &Limits, products: &[Product]) -> Drawn {
    let points: Vec<&Product> = products.iter().filter(|p| p.threads == 1).collect();
    let rates = points.iter().map(|p| p.rate);
    let roofs = limits.ports.iter().map(|p| p.rate);
    let highest = rates.clone().chain(roofs).fold(1.0, f64::max) * 2.0;
    let lowest = rates.fold(1.0, f64::min).max(1e-3) / 2.0;
    let intensities = || points.iter().map(|p| p.intensity);
    let left = intensities().fold(0.25, f64::min) / 2.0;
    let right = intensities().fold(1.0, f64::max) * 8.0;

    let root = SVGBackend::with_string(svg, (1000, 640)).into_drawing_area();
    root.fill(&WHITE)?;
    let area = root.titled(title, ("sans-serif", 14))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(56)
        .build_cartesian_2d((left..right).log_scale(), (lowest..highest).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("MAC per byte of weights, activations and sums, one thread")
        .y_desc("MAC per cycle")
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    for read in &limits.reads {
        // The line y = rate * x, cut to the frame.
        let from = left.max(lowest / read.rate);
        let to = right.min(highest / read.rate);
        if from < to {
            let line = [(from, from * read.rate), (to, to * read.rate)];
            chart.draw_series(LineSeries::new(line, SLOPE.stroke_width(1)))?;
            let text = format!("{} {:.0} B/cycle", read.level, read.rate);
            let at = (from * 1.05, (from * read.rate * 1.4).min(highest / 1.2));
            chart.draw_series([Text::new(text, at, ("sans-serif", 11))])?;
        }
    }
    let mut drawn: Vec<f64> = Vec::new();
    for port in &limits.ports {
        // Roofs that all but coincide, as those of two ISAs with the same instructions, are one.
        if drawn
            .iter()
            .any(|rate| (rate / port.rate - 1.0).abs() < 0.06)
        {
            continue;
        }
        drawn.push(port.rate);
        let line = [(left, port.rate), (right, port.rate)];
        chart.draw_series(LineSeries::new(line, ROOF.stroke_width(1)))?;
        let text = format!("{}: {} {:.0}", port.isa, port.instructions, port.rate);
        let at = (left * 30.0, port.rate * 1.09);
        chart.draw_series([Text::new(text, at, ("sans-serif", 9))])?;
    }
    let mut groups: Vec<Group> = Vec::new();
    for p in points {
        let (name, colour) = match &p.w[..] {
            "f32" => ("f32, the crate gemm".to_string(), F32),
            _ => (p.isa.to_string(), colour(p.isa)),
        };
        let point = (p.intensity, p.rate.max(lowest));
        match groups.iter_mut().find(|g| g.0 == name) {
            Some(group) => group.2.push(point),
            None => groups.push((name, colour, vec![point])),
        }
    }
    for (name, colour, points) in groups {
        let dots = points
            .into_iter()
            .map(|at| Circle::new(at, 4, colour.filled()));
        chart
            .draw_series(dots)?
            .label(name)
            .legend(move |(x, y)| Circle::new((x + 9, y), 4, colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(SLOPE)
        .draw()?;
    root.present()?;
    Ok(())
}
