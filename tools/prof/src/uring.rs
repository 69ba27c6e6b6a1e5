//! `uring`: what the shards' rings do, from the server's own counters, and from the kernel's tracepoints where bpftrace may be used.
//!
//! Must not guess: a figure that the server does not have is a hyphen, not a zero.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::{Target, seconds};
use megamux_client::Client;

const SCRIPT: &str = include_str!("../uring.bt");
const TRACEPOINTS: [&str; 2] = ["/sys/kernel/tracing/events/io_uring", "/sys/kernel/debug/tracing/events/io_uring"];

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Go on until interrupted
    #[arg(short, long)]
    watch: bool,
    /// Print the bpftrace script that is run where bpftrace may be used, and leave
    #[arg(long)]
    script: bool,
}

pub fn run(options: &Options) -> Result<()> {
    if options.script {
        print!("{SCRIPT}");
        return Ok(());
    }
    let mut client = Client::connect(&options.target.source)?;
    let is_terminal = std::io::stdout().is_terminal();
    // https://no-color.org: any value that is not empty.
    let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut before = Figures::get(&mut client)?;
    match bpftrace() {
        Ok(()) if !options.watch => trace(options)?,
        Ok(()) => println!("the server's counters; without --watch, the kernel's tracepoints too"),
        Err(why) => println!("the server's counters; no tracepoints of the kernel: {why}"),
    }
    loop {
        thread::sleep(options.interval);
        let now = Figures::get(&mut client)?;
        let table = table(&before, &now, colours);
        if options.watch && is_terminal {
            print!("\x1b[H\x1b[J");
        }
        print!("{table}");
        std::io::stdout().flush()?;
        if !options.watch {
            return Ok(());
        }
        before = now;
    }
}

/// Whether the kernel's side can be looked at, or why not.
fn bpftrace() -> Result<(), &'static str> {
    match Command::new("bpftrace").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(_) => Err("bpftrace is not installed (it is in the package of this name)"),
        Ok(_) if !TRACEPOINTS.iter().any(|path| Path::new(path).is_dir()) => {
            Err("io_uring's tracepoints cannot be seen: that takes root, and tracefs mounted (/sys/kernel/tracing)")
        }
        Ok(_) => Ok(()),
    }
}

fn trace(options: &Options) -> Result<()> {
    let process = Process::find(&options.target)?;
    let whole = options.interval.as_secs().max(1);
    let mut command = Command::new("bpftrace");
    command.args(["-q", "-e", SCRIPT, &process.id.to_string(), &whole.to_string()]);
    let said = command.stdin(Stdio::null()).output().context("cannot start bpftrace")?;
    let (out, errors) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    match said.status.success() {
        true => println!("the kernel's tracepoints, {whole} s:\n{}\n", out.trim()),
        false => println!("the server's counters; no tracepoints of the kernel: {}", reason(&errors)),
    }
    Ok(())
}

/// What bpftrace says in the end: before that it complains about what it can do without.
fn reason(errors: &str) -> String {
    let last = errors.lines().rfind(|line| line.contains("ERROR") || line.contains("error")).unwrap_or(errors);
    format!("bpftrace says {:?}", last.trim().trim_start_matches("ERROR: "))
}

/// One look at the counters: by name, then by shard, summed over other labels.
struct Figures {
    taken: Instant,
    figures: BTreeMap<String, BTreeMap<u16, f64>>,
}

impl Figures {
    fn get(client: &mut Client) -> Result<Figures> {
        let figures = Figures::read(&client.get("/metrics")?);
        if !figures.figures.contains_key("megamux_enters_total") {
            bail!("these are not the figures of a megamux server");
        }
        Ok(figures)
    }

    /// Lines `name{shard="0",...} value`; others are passed over.
    fn read(text: &str) -> Figures {
        let mut figures: BTreeMap<String, BTreeMap<u16, f64>> = BTreeMap::new();
        let sample = |line: &str| {
            let (head, value) = line.rsplit_once(' ')?;
            let (name, labels) = head.split_once("{shard=\"")?;
            let (shard, _) = labels.split_once('"')?;
            Some((name.to_owned(), shard.parse::<u16>().ok()?, value.parse::<f64>().ok()?))
        };
        for (name, shard, value) in text.lines().filter_map(sample) {
            *figures.entry(name).or_default().entry(shard).or_default() += value;
        }
        Figures { taken: Instant::now(), figures }
    }

    fn of(&self, name: &str, shard: u16) -> Option<f64> {
        self.figures.get(name)?.get(&shard).copied()
    }
}

/// How a column's value comes about.
enum Value {
    /// Growth of a counter per second.
    Rate(&'static str),
    /// Growth of a counter.
    Growth(&'static str),
    /// Growth of one counter per growth of another.
    Ratio(&'static str, &'static str),
    /// As it is.
    Gauge(&'static str),
}

/// A column: its title, its value, and whether anything but zero wants attention.
struct Column(&'static str, Value, bool);

const COLUMNS: &[Column] = &[
    Column("enters/s", Value::Rate("megamux_enters_total"), false),
    Column("cqe/enter", Value::Ratio("megamux_completions_total", "megamux_enters_total"), false),
    Column("sqe/enter", Value::Ratio("megamux_submissions_total", "megamux_enters_total"), false),
    Column("sends/s", Value::Rate("megamux_sends_total"), false),
    Column("armed/s", Value::Rate("megamux_receives_armed_total"), false),
    Column("io-wq", Value::Gauge("megamux_kernel_workers"), true),
    Column("sq full", Value::Growth("megamux_submission_queue_full_total"), true),
    Column("cq overflow", Value::Growth("megamux_completion_overflows_total"), true),
    Column("ENOBUFS", Value::Growth("megamux_no_buffers_total"), true),
    Column("starved", Value::Gauge("megamux_starved_connections"), true),
    Column("buffers", Value::Gauge("megamux_buffers_free"), false),
    Column("sq", Value::Gauge("megamux_submission_entries"), false),
    Column("cq", Value::Gauge("megamux_completion_entries"), false),
];

impl Value {
    fn between(&self, before: &Figures, now: &Figures, shard: u16) -> Option<f64> {
        let grown = |name| Some((now.of(name, shard)? - before.of(name, shard).unwrap_or(0.0)).max(0.0));
        let seconds = now.taken.duration_since(before.taken).as_secs_f64();
        let value = match *self {
            Value::Rate(name) => grown(name)? / seconds,
            Value::Growth(name) => grown(name)?,
            Value::Ratio(of, to) => grown(of)? / grown(to)?,
            Value::Gauge(name) => now.of(name, shard)?,
        };
        value.is_finite().then_some(value)
    }
}

/// A line of titles and one per shard, columns apart by two spaces.
fn table(before: &Figures, now: &Figures, colours: bool) -> String {
    let shards: Vec<u16> =
        now.figures.get("megamux_enters_total").into_iter().flatten().map(|(shard, _)| *shard).collect();
    let mut out = String::from("shard");
    for Column(title, ..) in COLUMNS {
        let _ = write!(out, "  {title:>9}");
    }
    out.push('\n');
    for shard in shards {
        let _ = write!(out, "{shard:>5}");
        for Column(title, value, is_alarm) in COLUMNS {
            let value = value.between(before, now, shard);
            let cell = value.map_or("-".to_owned(), number);
            let cell = format!("{cell:>0$}", title.len().max(9));
            let is_alarming = colours && *is_alarm && value.is_some_and(|value| value > 0.0);
            let _ = match is_alarming {
                true => write!(out, "  \x1b[33m{cell}\x1b[0m"),
                false => write!(out, "  {cell}"),
            };
        }
        out.push('\n');
    }
    out
}

fn number(value: f64) -> String {
    match value {
        value if value == value.trunc() || value >= 1000.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(taken: Instant, enters: u32, completions: u32, workers: u32) -> Figures {
        let text = format!(
            "# TYPE megamux_enters counter\nmegamux_enters_total{{shard=\"0\"}} {enters}\n\
             megamux_completions_total{{shard=\"0\"}} {completions}\nmegamux_kernel_workers{{shard=\"0\"}} {workers}\n\
             megamux_uptime_seconds 3\n"
        );
        Figures { taken, ..Figures::read(&text) }
    }

    #[test]
    fn of_bpftraces_complaints_the_last_is_told() {
        let said = "ERROR: couldn't set RLIMIT_MEMLOCK\nERROR: Could not create map: Operation not permitted\n\n";
        assert_eq!(reason(said), "bpftrace says \"Could not create map: Operation not permitted\"");
        assert_eq!(reason("odd\n"), "bpftrace says \"odd\"");
    }

    #[test]
    fn rates_and_ratios_are_of_what_happened_in_between() {
        let start = Instant::now();
        let before = figures(start, 100, 1000, 0);
        let now = figures(start + Duration::from_secs(2), 300, 2500, 1);
        let rows = table(&before, &now, false);
        let cells: Vec<&str> = rows.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(&cells[..7], ["0", "100", "7.5", "-", "-", "-", "1"], "{rows}");
        let widths: Vec<_> = rows.lines().map(str::len).collect();
        assert_eq!(widths[0], widths[1], "{rows}");
        assert!(table(&before, &now, true).contains("\x1b[33m        1\x1b[0m"));
    }
}
