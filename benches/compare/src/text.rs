//! A report as tables of text.
//!
//! Invariant: draws findings, and works nothing out that the page would not say too.

use std::io::{self, Write};

use crate::findings::{Figures, Findings, Latency, Line};
use crate::memory::Footprint;
use crate::report::{IdleReport, Report, Table};

pub fn draw(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", report.machine)?;
    for table in &report.tables {
        draw_table(table, report.seed, out)?;
    }
    report.idle.as_ref().map_or(Ok(()), |idle| draw_idle(idle, out))
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
    for (name, failure) in &idle.failures {
        writeln!(out, "  {name} failed: {failure}")?;
    }
    Ok(())
}
