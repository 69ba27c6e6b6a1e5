//! The plots of a report, as SVG.
//!
//! Invariant: each is one `<svg>` element that refers to nothing outside itself; colours are classes of the page's style.
//! Names are escaped here: they come from the command line.

use std::fmt::Write;

use crate::findings::{Findings, Latency};
use crate::memory::Footprint;
use crate::method::Estimate;
use crate::report::{Kind, Row};
use crate::tails::PointFindings;

/// All sizes are in the units of the drawing, which the page scales to its width.
const WIDTH: f64 = 760.0;
const LABELS: f64 = 130.0;
/// Room for a figure at the end of the longest bar.
const FIGURES: f64 = 120.0;
const LINE: f64 = 26.0;
const BAR: f64 = 16.0;
const CURVES: f64 = 260.0;

/// One bar per row, from 0 to its ratio, with its interval; behind them what the table does not resolve.
pub fn ratios(findings: &Findings<'_>) -> String {
    let figures = findings.lines.iter().filter_map(|line| Some((line.row, line.figures.as_ref()?)));
    let bars = figures.map(|(row, figures)| Bar {
        name: &row.name,
        kind: row.kind,
        ratio: figures.ratio,
        figure: format!("{:.3}, {:.0} ns", figures.ratio.median, figures.ns),
    });
    let title = "CPU time per unit, ratio to the first row, with 95% intervals";
    ratio_bars(title, &bars.collect::<Vec<_>>(), findings.resolution)
}

/// The same for what tails are compared by.
pub fn tail_ratios(findings: &PointFindings<'_>, measure: &str) -> String {
    let measured = findings.lines.iter().filter_map(|line| Some((line.row, line.figures.as_ref()?.measured?)));
    let bars = measured.map(|(row, (ms, ratio))| Bar {
        name: &row.name,
        kind: row.kind,
        ratio,
        figure: format!("{:.3}, {ms:.2} ms", ratio.median),
    });
    let title = format!("{measure}, ratio to the first row, with 95% intervals");
    ratio_bars(&title, &bars.collect::<Vec<_>>(), findings.resolution)
}

struct Bar<'a> {
    name: &'a str,
    kind: Kind,
    ratio: Estimate,
    /// At the end.
    figure: String,
}

fn ratio_bars(title: &str, bars: &[Bar<'_>], resolution: Option<f64>) -> String {
    let longest = bars.iter().map(|bar| bar.ratio.high).fold(1.0, f64::max);
    let x = |ratio: f64| LABELS + ratio / longest * (WIDTH - LABELS - FIGURES);
    let height = LINE * bars.len() as f64;
    let mut svg = open(height, title);
    if let Some(smallest) = resolution {
        let (left, right) = (x((1.0 - smallest).max(0.0)), x((1.0 + smallest).min(longest)));
        let _ =
            write!(svg, r#"<rect class="band" x="{left:.1}" y="0" width="{:.1}" height="{height}"/>"#, right - left);
    }
    let _ = write!(svg, r#"<line class="one" x1="{0:.1}" x2="{0:.1}" y1="0" y2="{height}"/>"#, x(1.0));
    for (index, Bar { name, kind, ratio, figure: text }) in bars.iter().enumerate() {
        let middle = LINE * (index as f64 + 0.5);
        label(&mut svg, name, middle);
        bar(&mut svg, class(*kind), LABELS, x(ratio.median), middle);
        let (low, high) = (x(ratio.low), x(ratio.high));
        let _ = write!(
            svg,
            r#"<path class="interval" d="M{low:.1} {middle}H{high:.1}M{low:.1} {0}v8M{high:.1} {0}v8"/>"#,
            middle - 4.0
        );
        figure(&mut svg, high + 8.0, middle, text);
    }
    svg + "</svg>"
}

/// Latency over the share of messages that took no longer: both axes logarithmic, so that every nine has as much room.
pub fn quantiles(findings: &PointFindings<'_>) -> String {
    const STEPS: usize = 160;
    /// 1 - 10^-4: beyond, a slice holds too few.
    const NINES: f64 = 4.0;
    const BELOW: f64 = 30.0;
    let measured: Vec<_> = findings.lines.iter().filter_map(|line| Some((line.row, line.figures.as_ref()?))).collect();
    let share = |nines: f64| 1.0 - 10_f64.powf(-nines);
    let ends = measured.iter().flat_map(|(_, figures)| [0.0, share(NINES)].map(|share| figures.quantile_ms(share)));
    let (least, most) = ends.fold((f64::MAX, 1e-3), |(least, most), ms| (ms.max(1e-3).min(least), ms.max(most)));
    let (least, most) = (least.min(most).log10().floor(), most.log10().ceil());
    let decades = (most - least).max(1.0);
    let x = |nines: f64| LABELS + nines / NINES * (WIDTH - LABELS - FIGURES);
    let y = |ms: f64| 10.0 + (most - ms.max(1e-3).log10()) / decades * (CURVES - 10.0 - BELOW);
    let mut svg = open(CURVES, "Latency, from when a message was due, by the share that took no longer");
    for decade in 0..=decades as i32 {
        let ms = 10_f64.powf(least + f64::from(decade));
        let (right, at) = (WIDTH - FIGURES, y(ms));
        let _ = write!(svg, r#"<line class="grid" x1="{LABELS}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/>"#);
        label(&mut svg, &format!("{ms} ms"), at);
    }
    for (nines, text) in [(0.0, "0"), (1.0, "90%"), (2.0, "99%"), (3.0, "99.9%"), (4.0, "99.99%")] {
        let _ = write!(svg, r#"<text class="tick" x="{:.1}" y="{}">{text}</text>"#, x(nines), CURVES - 8.0);
    }
    for (index, (row, figures)) in measured.iter().enumerate() {
        let points: String = (0..=STEPS)
            .map(|step| step as f64 / STEPS as f64 * NINES)
            .map(|nines| format!("{:.1},{:.1} ", x(nines), y(figures.quantile_ms(share(nines)))))
            .collect();
        legend(&mut svg, index, &row.name, &points);
    }
    svg + "</svg>"
}

/// A curve, and its name beside the plot.
fn legend(svg: &mut String, index: usize, name: &str, points: &str) {
    let (colour, at) = (index % 6, 20.0 + 20.0 * index as f64);
    let _ = write!(svg, r#"<polyline class="curve c{colour}" points="{points}"/>"#);
    let _ = write!(svg, r#"<circle class="dot c{colour}" cx="{:.1}" cy="{at}" r="5"/>"#, WIDTH - FIGURES + 14.0);
    figure(svg, WIDTH - FIGURES + 24.0, at, name);
}

/// The share of messages whose last delivery took no longer, one curve per row.
pub fn latencies(measured: &[(&Row, &Latency)]) -> String {
    const SHARES: usize = 200;
    const BELOW: f64 = 30.0;
    let last = measured.iter().map(|(_, latency)| latency.quantile(0.999)).fold(f64::MIN_POSITIVE, f64::max);
    let x = |ms: f64| LABELS + (ms / last).min(1.0) * (WIDTH - LABELS - FIGURES);
    let y = |share: f64| 10.0 + (1.0 - share) * (CURVES - 10.0 - BELOW);
    let mut svg = open(CURVES, "Distribution of the time from a message's send to its last delivery");
    for share in [0.0, 0.5, 0.95, 1.0] {
        let (right, at) = (WIDTH - FIGURES, y(share));
        let _ = write!(svg, r#"<line class="grid" x1="{LABELS}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/>"#);
        label(&mut svg, &format!("{:.0}%", share * 100.0), at);
    }
    for quarter in 0..=4 {
        let ms = last * f64::from(quarter) / 4.0;
        let _ = write!(svg, r#"<text class="tick" x="{:.1}" y="{}">{ms:.1} ms</text>"#, x(ms), CURVES - 8.0);
    }
    for (index, (row, latency)) in measured.iter().enumerate() {
        let points: String = (0..=SHARES)
            .map(|step| step as f64 / SHARES as f64)
            .map(|share| format!("{:.1},{:.1} ", x(latency.quantile(share)), y(share)))
            .collect();
        legend(&mut svg, index, &row.name, &points);
    }
    svg + "</svg>"
}

/// Kernel and user bytes per idle connection, one behind the other.
pub fn footprints(footprints: &[Footprint]) -> String {
    let sum = |footprint: &Footprint| footprint.kernel.max(0.0) + footprint.rss.max(0.0);
    let most = footprints.iter().map(sum).fold(1.0, f64::max);
    let x = |bytes: f64| LABELS + bytes.max(0.0) / most * (WIDTH - LABELS - FIGURES);
    let mut svg = open(LINE * footprints.len() as f64, "Bytes per idle connection: kernel, then the process's own");
    for (index, footprint) in footprints.iter().enumerate() {
        let middle = LINE * (index as f64 + 0.5);
        let (kernel, end) = (x(footprint.kernel), x(sum(footprint)));
        label(&mut svg, &footprint.name, middle);
        bar(&mut svg, "floor", LABELS, kernel, middle);
        bar(&mut svg, class(footprint.kind).replace("floor", "external").as_str(), kernel, end, middle);
        figure(&mut svg, end + 8.0, middle, &format!("{:.0} + {:.0} B", footprint.kernel, footprint.rss));
    }
    svg + "</svg>"
}

/// For text between tags and in attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn open(height: f64, title: &str) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{title}</title>"#)
}

fn label(svg: &mut String, text: &str, middle: f64) {
    let _ = write!(svg, r#"<text class="label" x="{}" y="{middle:.1}">{}</text>"#, LABELS - 8.0, escape(text));
}

fn figure(svg: &mut String, x: f64, middle: f64, text: &str) {
    let _ = write!(svg, r#"<text class="figure" x="{x:.1}" y="{middle:.1}">{}</text>"#, escape(text));
}

fn bar(svg: &mut String, class: &str, from: f64, to: f64, middle: f64) {
    let (y, width) = (middle - BAR / 2.0, to - from);
    let _ = write!(svg, r#"<rect class="{class}" x="{from:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}"/>"#);
}

fn class(kind: Kind) -> &'static str {
    kind.name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_drawing() {
        assert_eq!(escape(r#"<a href="x">&"#), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
