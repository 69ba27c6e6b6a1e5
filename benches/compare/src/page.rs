//! A report as one page of HTML.
//!
//! Invariant: the page stands alone: style and plots are in it, it runs no script and loads nothing. It draws the findings
//! that the text draws.

use std::fmt::Write;

use crate::findings::{Figures, Findings, Line};
use crate::memory::{self, Footprint};
use crate::method::Estimate;
use crate::plot::{self, escape};
use crate::report::{IdleReport, Machine, Report};
use crate::tails::{Measure, PointFindings, TailLine, Tails};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e6e6e6); --faint: light-dark(#d5d9de, #444a52);
  --floor: light-dark(#aab2bb, #68717b); --peer: light-dark(#7fa6d6, #4f7cb3); --ours: light-dark(#d9622b, #e8793f);
  --external: light-dark(#9a7fd1, #8468bd); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2.5rem 0 0; font-size: 1.15rem; } p { margin: .3rem 0; } .failed { color: #c02b2b; font-weight: 600; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .8rem .15rem 0; text-align: right; } th:first-child, td:first-child { text-align: left; }
th { border-bottom: 1px solid var(--faint); font-weight: 600; }
svg { width: 100%; margin: .8rem 0; font: 12px system-ui, sans-serif; fill: var(--ink); }
.label { text-anchor: end; } .tick { text-anchor: middle; } .label, .figure { dominant-baseline: central; }
.floor { fill: var(--floor); } .peer { fill: var(--peer); } .ours { fill: var(--ours); } .external { fill: var(--external); }
.band { fill: var(--faint); opacity: .6; } .one, .interval { stroke: var(--ink); fill: none; } .one { stroke-dasharray: 3; }
.grid { stroke: var(--faint); } .curve { fill: none; stroke-width: 2; } .dot { stroke: none; }
.c0 { stroke: #8a939c; } .c1 { stroke: #b9c0c7; } .c2 { stroke: #d9622b; } .c3 { stroke: #4f7cb3; } .c4 { stroke: #8468bd; }
.c5 { stroke: #3d9a6b; } .dot.c0 { fill: #8a939c; } .dot.c1 { fill: #b9c0c7; } .dot.c2 { fill: #d9622b; }
.dot.c3 { fill: #4f7cb3; } .dot.c4 { fill: #8468bd; } .dot.c5 { fill: #3d9a6b; }
";

pub fn draw(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<title>Servers side by side</title>\n\
         <style>{STYLE}</style>\n<h1>Servers side by side</h1>\n"
    );
    let failures: Vec<String> = report.failures().map(|(scenario, name)| format!("{name} in {scenario}")).collect();
    if !failures.is_empty() {
        let _ = writeln!(page, "<p class=\"failed\">Incomplete: {} failed.</p>", escape(&failures.join(", ")));
    }
    if report.quick {
        page += "<p>A quick run: a look, not a result.</p>\n";
    }
    machine(&mut page, &report.machine);
    for table in &report.tables {
        section(&mut page, &Findings::of(table, report.seed));
    }
    if let Some(report) = &report.idle {
        idle(&mut page, report);
    }
    for each in &report.tails {
        tails(&mut page, each, report.seed);
    }
    page + "</html>\n"
}

fn machine(page: &mut String, machine: &Machine) {
    let Machine { kernel, cpu, cpus, memory_mib, load_average, open_files, server_cpu, load_cpu } = machine;
    let facts = [
        ("kernel", format!("Linux {kernel}")),
        ("processors", format!("{cpus} x {cpu}")),
        ("memory", format!("{memory_mib} MiB")),
        ("open files", open_files.to_string()),
        ("load average at the start", format!("{load_average:.2}")),
        ("placement", format!("servers on core {server_cpu}, load generator on core {load_cpu}")),
    ];
    *page += "<table>\n";
    for (name, value) in facts {
        let _ = writeln!(page, "<tr><td>{name}</td><td>{}</td></tr>", escape(&value));
    }
    *page += "</table>\n";
}

fn section(page: &mut String, findings: &Findings<'_>) {
    let unit = findings.table.scenario.unit();
    let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>", findings.title(), findings.subtitle());
    *page += &plot::ratios(findings);
    let measured: Vec<_> = findings.lines.iter().filter_map(|line| Some((line.row, line.latency.as_ref()?))).collect();
    if !measured.is_empty() {
        *page += "<p>From a message's send to its last delivery:</p>";
        *page += &plot::latencies(&measured);
    }
    let _ = write!(
        page,
        "\n<table>\n<tr><th>server<th>kind<th>ns/{unit}<th>ratio<th>95% interval<th>verdict<th>{unit}/s<th>MB/cpu-s\
         <th>busy<th>load busy</tr>\n"
    );
    for line in &findings.lines {
        row(page, line);
    }
    *page += "</table>\n";
    for text in findings.bar_lines() {
        let _ = writeln!(page, "<p>{}</p>", escape(&text));
    }
    for text in findings.remarks() {
        let _ = writeln!(page, "<p class=\"failed\">{}</p>", escape(&text));
    }
}

fn row(page: &mut String, line: &Line<'_>) {
    let (name, kind, verdict) = (escape(&line.row.name), line.row.kind.name(), line.verdict.name());
    let Some(Figures { ns, ratio, units_per_s, mb_per_cpu_s, server_busy, load_busy }) = &line.figures else {
        let _ = writeln!(page, "<tr><td>{name}<td>{kind}<td><td><td><td class=\"failed\">{verdict}</tr>");
        return;
    };
    let _ = writeln!(
        page,
        "<tr><td>{name}<td>{kind}<td>{ns:.0}<td>{:.3}<td>{:.3} to {:.3}<td>{verdict}<td>{units_per_s:.0}\
         <td>{mb_per_cpu_s:.0}<td>{:.0}%<td>{:.0}%</tr>",
        ratio.median,
        ratio.low,
        ratio.high,
        server_busy * 100.0,
        load_busy * 100.0
    );
}

fn idle(page: &mut String, report: &IdleReport) {
    let [low, high] = report.counts;
    let transport = report.transport.name();
    let _ = writeln!(page, "<h2>idle over {transport}</h2>\n<p>Bytes per connection, slope from {low} to {high}</p>");
    *page += &plot::footprints(&report.footprints);
    *page += "\n<table>\n<tr><th>server<th>kind<th>kernel<th>rss<th>pss</tr>\n";
    for Footprint { name, kind, kernel, rss, pss, .. } in &report.footprints {
        let (name, kind) = (escape(name), kind.name());
        let _ = writeln!(page, "<tr><td>{name}<td>{kind}<td>{kernel:.0}<td>{rss:.0}<td>{pss:.0}</tr>");
    }
    *page += "</table>\n";
    for bar in memory::bars(&report.footprints) {
        let _ = writeln!(page, "<p>{}</p>", escape(&bar.to_string()));
    }
    for (name, failure) in &report.failures {
        let _ = writeln!(page, "<p class=\"failed\">{} failed: {}</p>", escape(name), escape(&failure.to_string()));
    }
}

fn tails(page: &mut String, tails: &Tails, seed: u64) {
    for findings in tails.findings(seed) {
        point(page, &findings);
    }
    if let Some(text) = tails.ceilings() {
        let _ = writeln!(page, "<p>{}</p>", escape(&text));
    }
}

fn point(page: &mut String, findings: &PointFindings<'_>) {
    let (title, subtitle) = (escape(&findings.title()), escape(&findings.subtitle()));
    let _ = writeln!(page, "<h2>{title}</h2>\n<p>{subtitle}</p>");
    let measure = Measure::of(findings.tails.scenario).name();
    *page += &plot::tail_ratios(findings, measure);
    *page += "<p>Of all slices together, the share that took no longer:</p>";
    *page += &plot::quantiles(findings);
    *page += "\n<table>\n<tr><th>server<th>kind<th>msg/s<th>p50 ms<th>p99 ms<th>p99.9 ms<th>max ms<th>left out<th>calm ms<th>ratio\
              <th>95% interval<th>verdict<th>cpu us<th>ratio<th>95% interval<th>core us<th>ratio<th>95% interval<th>busy<th>late ms<th>retries<th>dropped</tr>\n";
    for line in &findings.lines {
        tail(page, line);
    }
    *page += "</table>\n";
    for text in findings.remarks() {
        let class = if text.starts_with("bar") { "bar" } else { "failed" };
        let _ = writeln!(page, "<p class=\"{class}\">{}</p>", escape(&text));
    }
}

fn tail(page: &mut String, line: &TailLine<'_>) {
    let (name, kind, verdict) = (escape(&line.row.name), line.row.kind.name(), line.verdict.tail_name());
    let Some(figures) = &line.figures else {
        let _ =
            writeln!(page, "<tr><td>{name}<td>{kind}<td><td><td><td><td><td><td><td class=\"failed\">{verdict}</tr>");
        return;
    };
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| figures.quantile_ms(share));
    let cells = |value: Option<(f64, Estimate)>, digits| match value {
        Some((value, Estimate { median, low, high })) => {
            format!("<td>{value:.digits$}<td>{median:.3}<td>{low:.3} to {high:.3}")
        }
        None => "<td><td><td>".to_owned(),
    };
    let cpu = cells(Some((figures.cpu_us, figures.cpu_ratio)), 2);
    let (measured, core) = (cells(figures.measured, 3), cells(figures.core, 2));
    let _ = writeln!(
        page,
        "<tr><td>{name}<td>{kind}<td>{:.0}<td>{p50:.3}<td>{p99:.3}<td>{p999:.3}<td>{max:.3}<td>{}{measured}\
         <td>{verdict}{cpu}{core}<td>{:.0}%<td>{:.3}<td>{}<td>{}</tr>",
        figures.per_second,
        figures.left_out,
        figures.server_busy * 100.0,
        figures.late_p99_ms,
        figures.retries,
        figures.dropped,
    );
}
