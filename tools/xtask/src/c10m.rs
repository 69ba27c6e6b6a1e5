//! `cargo xtask bench c10m`: how many connections this machine holds, and what each costs.
//!
//! ```text
//! megamux serve  <--- N connections --->  megamux-load hold      both on this machine
//!      ^                                        |
//!      '---- sampled twice a second here -------'    sockets, kernel slab, resident memory: cost by slope
//! ```
//!
//! The generator watches memory: it refuses what cannot fit, says after a tenth of the ramp what the rest will take, and stops while
//! as much is free as it was told to keep.
//!
//! Invariants: what is started is ended, and what is set in /proc/sys is set back, also when the run fails; connections end in steps, and
//! the server lives until its own are gone. Cost per connection is the slope of a least-squares line over the ramp, never one
//! reading, and what is held in the end is counted from that line's beginning; both ends of a loopback connection are on this machine
//! and wait in the same way, so that kernel memory is halved between them.

mod plot;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;
use signal_hook::consts::SIGINT;

use crate::metadata;
use crate::shell::{self, cargo};

/// Descriptors of a shard that are not connections: listeners, and room for churn.
const SPARE: u64 = 400;
/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(500);
/// When no more connections go for so long, none will.
const STUCK: Duration = Duration::from_secs(10);
/// A line through fewer samples of the ramp says nothing: it takes some seconds to open that many.
const FEWEST: usize = 5;
/// Samples kept in the results.
const KEPT: usize = 300;
/// Two ends each.
const ENDS: u64 = 2;
/// What the records hold.
const GOAL: f64 = 10e6;

/// Hold very many connections, 1% of them active, each saying something once a minute
#[derive(Args)]
pub struct Options {
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    connections: u64,
    /// What the server speaks to them
    #[arg(long, value_enum, default_value = "echo")]
    protocol: Protocol,
    /// Seconds to hold them
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    duration: u64,
    /// Open at most so many per second
    #[arg(long, value_name = "N")]
    ramp: Option<u32>,
    /// Memory in GiB that stays free; the ramp stops before it is touched
    #[arg(long, value_name = "GIB", default_value_t = 3.0)]
    keep_free: f64,
    /// Keep the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw memory over connections, and the latencies, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Echo,
    Telnet,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Echo => "echo",
            Protocol::Telnet => "telnet",
        }
    }
}

/// What memory was at one moment.
#[derive(Clone, Copy, Default)]
struct Sample {
    /// TCP sockets in use.
    sockets: f64,
    /// Bytes of kernel slab, and of the server's and the generator's own memory.
    slab: f64,
    server: f64,
    load: f64,
    /// Bytes of this machine that are neither free nor page cache.
    used: f64,
}

pub fn run(options: &Options) -> Result<()> {
    options.json.iter().chain(&options.svg).try_for_each(|path| writable(path))?;
    shell::run(&mut cargo(&["build", "--quiet", "--release", "-p", "megamux", "-p", "megamux-load"]))?;
    let binaries = metadata::target_directory()?.join("release");
    let directory = binaries.join("c10m");
    fs::create_dir_all(&directory)?;
    // An interrupt from the terminal is the generator's to act on: it ends with what it has, and all is set back here.
    signal_hook::flag::register(SIGINT, Arc::default())?;
    let _files = Raised::to("/proc/sys/fs/file-max", ENDS * options.connections + 100_000)?;
    let server = Server::start(&binaries, &directory, options)?;
    let report = directory.join("load.json");
    // An old report is no report of this run.
    let _ = fs::remove_file(&report);
    let before = sockets().unwrap_or(0.0);
    let mut load = Command::new(binaries.join("megamux-load"));
    load.args(["hold", &server.addr, "--protocol", options.protocol.name()]);
    load.args(["--connections", &options.connections.to_string(), "--duration", &options.duration.to_string()]);
    load.args(["--keep-free", &options.keep_free.to_string()]);
    if let Some(ramp) = options.ramp {
        load.args(["--ramp", &ramp.to_string()]);
    }
    load.arg("--json").arg(&report).stdout(Stdio::null());
    let mut load = Process(load.spawn().context("cannot start megamux-load")?);
    let over = AtomicBool::new(false);
    let (server_id, load_id) = (server.process.0.id(), load.0.id());
    let (samples, status) = thread::scope(|scope| {
        let sampler = scope.spawn(|| sample_until(&over, server_id, load_id));
        let status = load.0.wait();
        over.store(true, Ordering::Relaxed);
        (sampler.join().unwrap_or_default(), status)
    });
    if status?.code() == Some(2) {
        bail!("this machine cannot hold that many, see above");
    }
    let text = fs::read_to_string(&report).context("megamux-load left no results")?;
    let load: Value = serde_json::from_str(&text)?;
    wait_for_closes(before);
    // Others on this machine have sockets, too.
    let samples: Vec<_> = samples.iter().map(|sample| Sample { sockets: sample.sockets - before, ..*sample }).collect();
    let found = Found::new(options, &samples, &load);
    found.print();
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&found.json(shards(options)?))?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.svg {
        fs::write(path, plot::draw(&found)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match found.incomplete {
        Some(why) => bail!("incomplete: {why}"),
        None => Ok(()),
    }
}

/// Minutes later it would be too late to hear of it.
fn writable(path: &Path) -> Result<()> {
    let file = fs::File::options().append(true).create(true).open(path);
    file.map(drop).with_context(|| format!("cannot write {}", path.display()))
}

/// A child that does not outlive this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    process: Process,
    addr: String,
}

impl Server {
    /// Starts it, and waits until it is ready.
    fn start(binaries: &Path, directory: &Path, options: &Options) -> Result<Server> {
        let config = directory.join("megamux.toml");
        fs::write(&config, "[telnet]\nmax_connections = 0\n")?;
        let name = options.protocol.name();
        let other = if options.protocol == Protocol::Echo { "telnet" } else { "echo" };
        let mut command = Command::new(binaries.join("megamux"));
        command.arg("serve").arg("--config").arg(&config).args(["--shards", &shards(options)?.to_string()]);
        command.args(["--pin", "none", "--http", "off", "--data-dir", "none"]);
        command.args([&format!("--{name}"), "127.0.0.1:0", &format!("--{other}"), "off"]);
        // Out of the terminal's reach: it has to outlive its connections.
        command.process_group(0);
        let mut process = Process(command.stdout(Stdio::piped()).spawn().context("cannot start megamux")?);
        let banner = BufReader::new(process.0.stdout.take().context("no banner")?);
        let mut addr = None;
        for line in banner.lines() {
            let line = line?;
            addr = addr.or_else(|| listening(&line, name));
            if line.contains("ready") {
                break;
            }
        }
        let addr = addr.with_context(|| format!("the server names no {name} address"))?;
        Ok(Server { process, addr })
    }
}

/// The address in a banner's line about a listener.
fn listening(line: &str, name: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| *word != name);
    words.next()?;
    words.find(|word| word.starts_with("127.0.0.1:")).map(|word| word.trim_end_matches(',').to_owned())
}

fn shards(options: &Options) -> Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit on open files")?;
    let soft = line.split_whitespace().nth(3).and_then(|word| word.parse::<u64>().ok()).unwrap_or(1 << 20);
    let each = soft.min(1 << 20).saturating_sub(SPARE).max(1);
    // The kernel spreads connections by a hash: some shards get a little more than their share.
    Ok((options.connections + options.connections / 50).div_ceil(each))
}

/// A setting of the kernel, raised while this lives.
struct Raised {
    path: &'static str,
    before: Option<String>,
}

impl Raised {
    fn to(path: &'static str, wanted: u64) -> Result<Raised> {
        let before = fs::read_to_string(path)?.trim().to_owned();
        if before.parse::<u64>().is_ok_and(|now| now >= wanted) {
            return Ok(Raised { path, before: None });
        }
        fs::write(path, wanted.to_string()).with_context(|| format!("{path} is {before}, and {wanted} are needed"))?;
        eprintln!("{path} raised from {before} to {wanted} for this run");
        Ok(Raised { path, before: Some(before) })
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = fs::write(self.path, before);
        }
    }
}

/// Waits until no more connections than before are left, or no more of them go: a server that is killed with a million open
/// sends a million segments at once.
fn wait_for_closes(before: f64) {
    let (mut last, mut last_change) = (f64::MAX, Instant::now());
    while let Some(now) = sockets().filter(|now| *now > before + SPARE as f64) {
        if now < last {
            (last, last_change) = (now, Instant::now());
        }
        if last_change.elapsed() > STUCK {
            return;
        }
        thread::sleep(SAMPLE);
    }
}

/// TCP sockets in use.
fn sockets() -> Option<f64> {
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("TCP: inuse "))?.split_whitespace().next()?.parse().ok()
}

fn sample_until(over: &AtomicBool, server: u32, load: u32) -> Vec<Sample> {
    let mut samples = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let next = Instant::now() + SAMPLE;
        samples.extend(sample(server, load));
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    samples
}

fn sample(server: u32, load: u32) -> Option<Sample> {
    let kib = |path: &str, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
    };
    let own = |id: u32| kib(&format!("/proc/{id}/status"), "RssAnon:");
    let memory = |name| kib("/proc/meminfo", name);
    let cache = memory("Active(file):")? + memory("Inactive(file):")?;
    let used = memory("MemTotal:")? - memory("MemFree:")? - cache;
    Some(Sample { sockets: sockets()?, slab: memory("Slab:")?, server: own(server)?, load: own(load)?, used })
}

/// Bytes per connection.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Of the kernel's slab, for one end.
    kernel: f64,
    server: f64,
    load: f64,
    /// Of all this machine's memory: both ends, and whatever else it did meanwhile.
    machine: f64,
}

impl Cost {
    /// Of a figure's bytes per socket, of which a connection has two here.
    fn of(per_socket: impl Fn(fn(&Sample) -> f64) -> f64) -> Cost {
        Cost {
            kernel: per_socket(|sample| sample.slab),
            server: ENDS as f64 * per_socket(|sample| sample.server),
            load: ENDS as f64 * per_socket(|sample| sample.load),
            machine: ENDS as f64 * per_socket(|sample| sample.used),
        }
    }

    fn json(self) -> Value {
        serde_json::json!({
            "kernel_bytes_per_end": self.kernel, "server_bytes": self.server, "generator_bytes": self.load,
            "machine_bytes": self.machine,
        })
    }
}

/// The whole result.
struct Found<'a> {
    options: &'a Options,
    load: &'a Value,
    samples: &'a [Sample],
    ramp: Cost,
    held: Cost,
    /// There are enough samples for the costs to mean anything.
    is_costed: bool,
    incomplete: Option<String>,
}

impl<'a> Found<'a> {
    fn new(options: &'a Options, samples: &'a [Sample], load: &'a Value) -> Found<'a> {
        let most = samples.iter().map(|sample| sample.sockets).fold(0.0, f64::max);
        // Without their end.
        let samples =
            &samples[..samples.iter().rposition(|sample| sample.sockets >= 0.995 * most).map_or(0, |at| at + 1)];
        let open = |share: f64| samples.iter().position(|sample| sample.sockets >= share * most).unwrap_or(0);
        // Without the first tenth, in which pools and tables are made.
        let ramp = &samples[open(0.1)..(open(0.995) + 1).min(samples.len())];
        // The second half of the time they were held.
        let held: Vec<&Sample> = samples.iter().filter(|sample| sample.sockets >= 0.995 * most).collect();
        let held = &held[held.len() / 2..];
        let line =
            |figure: fn(&Sample) -> f64| Line::through(ramp.iter().map(|sample| (sample.sockets, figure(sample))));
        let in_the_end = |figure: fn(&Sample) -> f64| {
            let mean = held.iter().map(|sample| figure(sample)).sum::<f64>() / held.len().max(1) as f64;
            (mean - line(figure).at_zero) / most.max(1.0)
        };
        let incomplete = load["incomplete"].as_str().map(str::to_owned);
        let is_costed = ramp.len() >= FEWEST;
        let (ramp, held) = (Cost::of(|figure| line(figure).slope), Cost::of(in_the_end));
        Found { options, load, samples, ramp, held, is_costed, incomplete }
    }

    /// Bytes that the goal would take of the server's machine.
    fn extrapolated(&self) -> f64 {
        GOAL * (self.held.kernel + self.held.server)
    }

    fn json(&self, shards: u64) -> Value {
        let rows = self.kept().map(|sample| {
            serde_json::json!({
                "connections": sample.sockets / ENDS as f64, "slab": sample.slab, "server": sample.server,
                "generator": sample.load, "used": sample.used,
            })
        });
        serde_json::json!({
            "protocol": self.options.protocol.name(), "load": self.load, "server_shards": shards,
            "ramp": self.ramp.json(), "held": self.held.json(), "bytes_for_10_million": self.extrapolated(),
            "samples": rows.collect::<Vec<_>>(),
        })
    }

    /// Samples over the whole run, few enough to be drawn.
    fn kept(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().step_by(self.samples.len().div_ceil(KEPT).max(1))
    }

    fn print(&self) {
        let load = self.load;
        let number = |path: &str| load.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        let millis = |path: &str| number(path) / 1e6;
        println!(
            "{} connections on {} in {:.1} s ({:.0}/s), {:.0} held in the end, {:.0} lost",
            number("/ramp/opened"),
            self.options.protocol.name(),
            number("/ramp/seconds"),
            number("/ramp/opened") / number("/ramp/seconds").max(0.001),
            number("/run/open_in_the_end"),
            number("/lost"),
        );
        println!(
            "{:.0} messages in {:.0} s ({:.0}/s); from when due: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
            number("/run/done"),
            number("/run/seconds"),
            number("/run/done_per_second"),
            millis("/latency_ns/p50"),
            millis("/latency_ns/p99"),
            millis("/latency_ns/p999"),
            millis("/latency_ns/max"),
        );
        if !self.is_costed {
            println!("the ramp was too short to tell what a connection costs: open more, or limit it (--ramp)");
            return;
        }
        for (when, cost) in [("by slope over the ramp", self.ramp), ("held in the end", self.held)] {
            println!(
                "per connection, {when}: kernel {:.0} B an end, server {:.0} B (generator {:.0} B; all this machine used {:.0} B)",
                cost.kernel, cost.server, cost.load, cost.machine
            );
        }
        println!(
            "10,000,000 would take the server's machine 10^7 x ({:.0} kernel + {:.0} server) B = {:.1} GiB",
            self.held.kernel,
            self.held.server,
            self.extrapolated() / f64::from(1 << 30)
        );
    }
}

/// The line with the least squared distance to some points.
struct Line {
    slope: f64,
    at_zero: f64,
}

impl Line {
    fn through(points: impl Iterator<Item = (f64, f64)> + Clone) -> Line {
        let count = points.clone().count().max(1) as f64;
        let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let (mut over, mut under) = (0.0, 0.0);
        for point in points {
            over += (point.0 - x) * (point.1 - y);
            under += (point.0 - x) * (point.0 - x);
        }
        let slope = if under > 0.0 { over / under } else { 0.0 };
        Line { slope, at_zero: y - slope * x }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_its_points() {
        let line = Line::through([(1.0, 8.0), (2.0, 11.0), (3.0, 14.0)].into_iter());
        assert_eq!((line.slope, line.at_zero), (3.0, 5.0));
        assert_eq!(Line::through([(1.0, 1.0)].into_iter()).slope, 0.0);
    }

    /// A ramp of two sockets a sample at 10 B each, held with 2 B more.
    #[test]
    fn cost_is_the_ramps_slope_and_what_is_held_from_its_beginning() {
        let sample = |sockets: f64, more: f64| {
            let bytes = 1000.0 + sockets * (10.0 + more);
            Sample { sockets, slab: bytes, server: bytes, load: bytes, used: bytes }
        };
        let ramp = (0..=100).map(|step| sample(f64::from(step) * 2.0, 0.0));
        let samples: Vec<_> = ramp.chain((0..100).map(|_| sample(200.0, 2.0))).collect();
        let options = Options {
            connections: 100,
            protocol: Protocol::Echo,
            duration: 1,
            ramp: None,
            keep_free: 3.0,
            json: None,
            svg: None,
        };
        let load = serde_json::json!({ "latency_ns": { "distribution": [[0.0, 1000], [0.5, 2000], [0.99, 90000]] } });
        let found = Found::new(&options, &samples, &load);
        assert!((found.ramp.kernel - 10.0).abs() < 1e-6 && (found.ramp.server - 20.0).abs() < 1e-6);
        assert!((found.held.kernel - 12.0).abs() < 1e-6 && (found.held.server - 24.0).abs() < 1e-6);
        assert!(found.is_costed && !Found::new(&options, &samples[98..], &load).is_costed);
        assert_eq!(found.json(1)["samples"].as_array().unwrap().len(), 201);
        let svg = plot::draw(&found);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.matches("<polyline").count() == 4, "{svg}");
    }

    #[test]
    fn a_place_for_results_is_tried_before_there_are_any() {
        let path = std::env::temp_dir().join(format!("xtask-c10m-{}", std::process::id()));
        writable(&path).unwrap();
        fs::remove_file(path).unwrap();
        assert!(
            writable(Path::new("/nowhere/results.json")).unwrap_err().to_string().contains("/nowhere/results.json")
        );
    }

    #[test]
    fn the_banner_names_the_address() {
        assert_eq!(listening("  echo     127.0.0.1:4711", "echo").as_deref(), Some("127.0.0.1:4711"));
        assert_eq!(listening("  telnet   127.0.0.1:4711", "echo"), None);
    }
}
