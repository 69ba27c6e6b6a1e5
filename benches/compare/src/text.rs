//! A report as tables of text.
//!
//! Invariant: draws findings, and works nothing out that the page would not say too.

use std::io::{self, Write};

use crate::findings::{Figures, Findings, Latency, Line};
use crate::memory::{self, Footprint};
use crate::method::Estimate;
use crate::report::{IdleReport, Report, Table};
use crate::tails::{PointFindings, TailLine, Tails};

pub fn draw(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", report.machine)?;
    for table in &report.tables {
        draw_table(table, report.seed, out)?;
    }
    report.idle.as_ref().map_or(Ok(()), |idle| draw_idle(idle, out))?;
    report.tails.iter().try_for_each(|tails| draw_tails(tails, report.seed, out))
}

pub fn draw_table(table: &Table, seed: u64, out: &mut dyn Write) -> io::Result<()> {
    let findings = Findings::of(table, seed);
    let unit = table.scenario.unit();
    writeln!(out)?;
    writeln!(out, "{}", findings.title())?;
    writeln!(out, "  {}", findings.subtitle())?;
    writeln!(
        out,
        "  {:<16} {:<8} {:>9} {:>7} {:>16}  {:<12} {:>10} {:>8} {:>6} {:>10}",
        "server",
        "kind",
        format!("ns/{unit}"),
        "ratio",
        "95% interval",
        "verdict",
        format!("{unit}/s"),
        "MB/cpu-s",
        "busy",
        "load busy"
    )?;
    for line in &findings.lines {
        draw_line(line, out)?;
    }
    draw_latencies(&findings.lines, out)?;
    for line in findings.bar_lines().chain(findings.remarks()) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn draw_line(line: &Line<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (name, kind, verdict) = (&line.row.name, line.row.kind.name(), line.verdict.name());
    let Some(Figures { ns, ratio, units_per_s, mb_per_cpu_s, server_busy, load_busy }) = &line.figures else {
        return writeln!(out, "  {name:<16} {kind:<8} {:>9} {:>7} {:>16}  {verdict}", "-", "-", "-");
    };
    writeln!(
        out,
        "  {name:<16} {kind:<8} {ns:>9.0} {:>7.3} {:>16}  {verdict:<12} {units_per_s:>10.0} {mb_per_cpu_s:>8.0} \
         {:>5.0}% {:>9.0}%",
        ratio.median,
        format!("[{:.3}, {:.3}]", ratio.low, ratio.high),
        server_busy * 100.0,
        load_busy * 100.0,
    )
}

/// From a message's send to its last delivery.
fn draw_latencies(lines: &[Line<'_>], out: &mut dyn Write) -> io::Result<()> {
    let measured = lines.iter().filter_map(|line| Some((&line.row.name, line.latency.as_ref()?)));
    for (index, (name, latency)) in measured.enumerate() {
        if index == 0 {
            writeln!(out, "  {:<25} {:>9} {:>9} {:>9} {:>9}", "ms to the last delivery", "p50", "p95", "p99", "max")?;
        }
        let [p50, p95, p99, max] = [0.5, 0.95, 0.99, 1.0].map(|share| Latency::quantile(latency, share));
        writeln!(out, "  {name:<25} {p50:>9.2} {p95:>9.2} {p99:>9.2} {max:>9.2}")?;
    }
    Ok(())
}

pub fn draw_tails(tails: &Tails, seed: u64, out: &mut dyn Write) -> io::Result<()> {
    tails.findings(seed).try_for_each(|findings| draw_point(&findings, out))?;
    tails.ceilings().map_or(Ok(()), |line| writeln!(out, "  {line}"))
}

fn draw_point(findings: &PointFindings<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    writeln!(out, "{}", findings.title())?;
    writeln!(out, "  {}", findings.subtitle())?;
    writeln!(
        out,
        "  {:<16} {:<8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>4} {:>22}  {:<12} {:>8} {:>22} {:>8} {:>22} {:>5} {:>9}",
        "server",
        "kind",
        "msg/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "calm ms",
        "out",
        "ratio",
        "verdict",
        "cpu us",
        "cpu ratio",
        "core us",
        "core ratio",
        "busy",
        "late ms"
    )?;
    findings.lines.iter().try_for_each(|line| draw_tail(line, out))?;
    findings.remarks().iter().try_for_each(|line| writeln!(out, "  {line}"))
}

fn draw_tail(line: &TailLine<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (name, kind, verdict) = (&line.row.name, line.row.kind.name(), line.verdict.tail_name());
    let Some(figures) = &line.figures else {
        return writeln!(out, "  {name:<16} {kind:<8} {verdict}");
    };
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| figures.quantile_ms(share));
    let paired = |ratio: Estimate| format!("{:.3} [{:.3}, {:.3}]", ratio.median, ratio.low, ratio.high);
    let both = |value: Option<(f64, Estimate)>, digits| match value {
        Some((value, ratio)) => (format!("{value:.digits$}"), paired(ratio)),
        None => ("-".into(), "-".into()),
    };
    let ((calm, ratio), (core_us, core_ratio)) = (both(figures.measured, 3), both(figures.core, 2));
    write!(
        out,
        "  {name:<16} {kind:<8} {:>8.0} {p50:>9.3} {p99:>9.3} {p999:>9.3} {max:>9.3} {calm:>9} {:>4} {ratio:>22}  {verdict:<12} \
         {:>8.2} {:>22} {core_us:>8} {core_ratio:>22} {:>4.0}% {:>9.3}",
        figures.per_second,
        figures.left_out,
        figures.cpu_us,
        paired(figures.cpu_ratio),
        figures.server_busy * 100.0,
        figures.late_p99_ms,
    )?;
    match (figures.retries, figures.dropped) {
        (0, 0) => writeln!(out),
        (retries, dropped) => writeln!(out, "  {retries} retries, {dropped} dropped by full backlogs"),
    }
}

pub fn draw_idle(idle: &IdleReport, out: &mut dyn Write) -> io::Result<()> {
    let [low, high] = idle.counts;
    writeln!(out)?;
    writeln!(out, "idle over {}: bytes per connection, slope from {low} to {high}", idle.transport.name())?;
    writeln!(out, "  {:<16} {:<8} {:>8} {:>8} {:>8} {:>8}", "server", "kind", "kernel", "rss", "pss", "sum")?;
    for Footprint { name, kind, kernel, rss, pss, .. } in &idle.footprints {
        let sum = kernel + rss;
        let kind = kind.name();
        writeln!(out, "  {name:<16} {kind:<8} {kernel:>8.0} {rss:>8.0} {pss:>8.0} {sum:>8.0}")?;
    }
    for bar in memory::bars(&idle.footprints) {
        writeln!(out, "  {bar}")?;
    }
    for (name, failure) in &idle.failures {
        writeln!(out, "  {name} failed: {failure}")?;
    }
    Ok(())
}
