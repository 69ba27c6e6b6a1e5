//! The drawing of a run: memory over connections, and the distribution of latencies.
//!
//! Invariant: one `<svg>` element that stands alone. It holds numbers and words of this file only, so nothing is to be escaped.

use std::fmt::Write;

use serde_json::Value;

use super::{ENDS, Found, Sample};

/// A panel's place and size, in the drawing's units.
const LEFT: f64 = 70.0;
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 200.0;
const TOPS: [f64; 2] = [40.0, 310.0];

const STYLE: &str =
    "text{font:12px sans-serif;fill:#444}.t{font-weight:bold}line{stroke:#ddd}polyline{fill:none;stroke-width:2}";

type Figure = fn(&Sample) -> f64;

/// Draws it.
pub fn draw(found: &Found<'_>) -> String {
    let mut svg = format!(r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 560"><style>{STYLE}</style>"##);
    svg += r##"<rect width="800" height="560" fill="#fff"/>"##;
    memory(&mut svg, found);
    latencies(&mut svg, found.load);
    svg + "</svg>\n"
}

/// MiB over the thousands of connections open.
fn memory(svg: &mut String, found: &Found<'_>) {
    const MIB: f64 = (1 << 20) as f64;
    let figures: [(&str, &str, Figure); 3] = [
        ("kernel slab, both ends", "#c33", |sample| sample.slab),
        ("server", "#36c", |sample| sample.server),
        ("generator", "#999", |sample| sample.load),
    ];
    let Some(first) = found.samples.first() else { return };
    let above = |sample: &Sample, figure: Figure| ((figure(sample) - figure(first)) / MIB).max(0.0);
    let thousands = |sample: &Sample| sample.sockets / ENDS as f64 / 1000.0;
    let most = found.kept().map(thousands).fold(1e-9, f64::max);
    let highest =
        found.kept().flat_map(|sample| figures.map(|(.., figure)| above(sample, figure))).fold(1e-9, f64::max);
    frame(svg, 0, "memory, MiB, over thousands of connections", highest);
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        tick(svg, 0, share, &format!("{:.0}", most * share));
    }
    for (index, (name, colour, figure)) in figures.into_iter().enumerate() {
        let points = found.kept().map(|sample| (thousands(sample) / most, above(sample, figure) / highest));
        curve(svg, 0, colour, points);
        let y = TOPS[0] + 16.0 * (index + 1) as f64;
        let _ = write!(svg, r#"<text x="{}" y="{y}" style="fill:{colour}">{name}</text>"#, LEFT + 10.0);
    }
}

/// Milliseconds over the share of messages that took no longer, each nine as wide as the one before.
fn latencies(svg: &mut String, load: &Value) {
    const NINES: f64 = 5.0;
    let rows = load["latency_ns"]["distribution"].as_array().map(Vec::as_slice).unwrap_or_default();
    let points = rows.iter().filter_map(|row| Some((row[0].as_f64()?, row[1].as_f64()? / 1e6)));
    let highest = points.clone().map(|(_, millis)| millis).fold(1e-9, f64::max);
    frame(svg, 1, "latency from when a message was due, ms, over the share that took no longer", highest);
    let place = |share: f64| (-(1.0 - share).log10() / NINES).clamp(0.0, 1.0);
    for (share, name) in [(0.0, "0"), (0.5, "50%"), (0.9, "90%"), (0.99, "99%"), (0.999, "99.9%"), (0.9999, "99.99%")] {
        tick(svg, 1, place(share), name);
    }
    curve(svg, 1, "#36c", points.map(|(share, millis)| (place(share), millis / highest)));
}

fn frame(svg: &mut String, panel: usize, title: &str, highest: f64) {
    let top = TOPS[panel];
    let _ = write!(svg, r#"<text class="t" x="{LEFT}" y="{}">{title}</text>"#, top - 14.0);
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let y = top + HEIGHT * (1.0 - share);
        let figure = highest * share;
        let digits = if highest < 10.0 { 2 } else { 0 };
        let _ = write!(svg, r#"<line x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/>"#, LEFT + WIDTH);
        let _ =
            write!(svg, r#"<text x="{}" y="{:.1}" text-anchor="end">{figure:.digits$}</text>"#, LEFT - 8.0, y + 4.0);
    }
}

fn tick(svg: &mut String, panel: usize, share: f64, name: &str) {
    let (x, y) = (LEFT + WIDTH * share, TOPS[panel] + HEIGHT + 18.0);
    let _ = write!(svg, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{name}</text>"#);
}

fn curve(svg: &mut String, panel: usize, colour: &str, points: impl Iterator<Item = (f64, f64)>) {
    let points: String =
        points.map(|(x, y)| format!("{:.1},{:.1} ", LEFT + WIDTH * x, TOPS[panel] + HEIGHT * (1.0 - y))).collect();
    let _ = write!(svg, r#"<polyline style="stroke:{colour}" points="{}"/>"#, points.trim_end());
}
