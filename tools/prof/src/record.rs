//! `record`: samples of the server's threads as a flame graph.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::folded::Stacks;
use crate::process::{Process, Thread};
use crate::progress::Progress;
use crate::{Target, flame, interrupts, perf, seconds};

/// Above this share of samples without a name something is wrong with the binary.
const MOST_UNKNOWN: f64 = 0.5;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// How long; an interrupt ends it earlier, and what there is by then is drawn
    #[arg(short, long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Samples per second and thread; a prime number keeps out of step with timers
    #[arg(short, long, visible_short_alias = 'F', default_value_t = 199, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Only these shards, and not the other threads
    #[arg(long, value_name = "SHARD", value_delimiter = ',')]
    shard: Vec<u16>,
    /// Keep threads apart; otherwise what they have in common adds up
    #[arg(long)]
    by_thread: bool,
    /// Where the flame graph goes
    #[arg(short, long, value_name = "FILE", default_value = "flame.svg")]
    output: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    let event = perf::event()?;
    let process = Process::find(&options.target)?;
    let threads = choose(&process, &options.shard)?;
    let recording = perf::Recording::new()?;
    let mut progress = Progress::new();
    let whole = options.seconds.as_secs_f64();
    let ids: Vec<u32> = threads.iter().map(|thread| thread.id).collect();
    let (began, interrupted) = (Instant::now(), interrupts());
    perf::record(&process, &ids, (event, options.rate), options.seconds, &recording.0, &interrupted, |passed| {
        progress.say(format_args!(
            "sampling process {} by {event}: {:.1} of {whole} s",
            process.id,
            passed.as_secs_f64()
        ));
    })?;
    let whole = began.elapsed().as_secs_f64().min(whole);
    if !process.is_alive() {
        progress.note(format_args!("process {} has ended meanwhile: this is what it did until then", process.id));
    }
    progress.say(format_args!("reading the samples"));
    let stacks = Stacks::read(&perf::script(&recording.0)?, options.by_thread);
    let samples = stacks.total();
    if samples == 0 {
        bail!("no samples: these threads did not run; give them work, or look longer (--seconds)");
    }
    if stacks.unknown() > MOST_UNKNOWN {
        let unknown = 100.0 * stacks.unknown();
        progress.note(format_args!(
            "{unknown:.0}% of the samples have no name: the binary has no symbols (it was stripped), or it was replaced"
        ));
    }
    let title = format!("megamux, process {}: {samples} samples in {whole:.1} s by {event}", process.id);
    fs::write(&options.output, flame::svg(&stacks, &title))
        .with_context(|| format!("cannot write {}", options.output.display()))?;
    progress.note(format_args!("{samples} samples of {} threads by {event}: {}", ids.len(), options.output.display()));
    Ok(())
}

fn choose<'a>(process: &'a Process, shards: &[u16]) -> Result<Vec<&'a Thread>> {
    if shards.is_empty() {
        return Ok(process.threads.iter().collect());
    }
    let thread = |shard: &u16| process.shard(*shard).with_context(|| format!("the server has no shard {shard}"));
    shards.iter().map(thread).collect()
}
