//! `trace`: the shards' timeline over a span of time, fetched in increments while it happens.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::chrome::Writer;
use crate::progress::Progress;
use crate::ticks::Stretch;
use crate::{Target, interrupts, seconds};
use megamux_client::Client;

/// Between two rounds that brought little: a request is itself a tick of the shard that is asked.
const PAUSE: Duration = Duration::from_millis(5);
/// How often the rate is said.
const SAY: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// How long
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Where it goes; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "trace.json")]
    output: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    let mut client = Client::connect(&options.target.source)?;
    let mut progress = Progress::new();
    let is_stdout = options.output.as_os_str() == "-";
    let first = Stretch::get(&mut client, None, None)?;
    let out: Box<dyn Write> = match is_stdout {
        true => Box::new(std::io::stdout().lock()),
        false => {
            let file = File::create(&options.output);
            Box::new(file.with_context(|| format!("cannot write {}", options.output.display()))?)
        }
    };
    let mut writer = Writer::begin(BufWriter::new(out), first.process, first.shards)?;
    // Having been asked, each shard tells its phases apart from its next tick on.
    let mut next = Vec::new();
    for shard in 0..first.shards {
        next.push(Stretch::get(&mut client, Some(shard), None)?.next);
    }
    let interrupted = interrupts();
    let (began, mut said) = (Instant::now(), Instant::now());
    let (mut ticks, mut lost) = (0, vec![0; next.len()]);
    loop {
        let is_over = began.elapsed() >= options.seconds || interrupted.load(Relaxed);
        let mut is_behind = false;
        for shard in 0..first.shards {
            let place = usize::from(shard);
            let stretch = Stretch::get(&mut client, Some(shard), Some(next[place]))?;
            writer.add(&stretch)?;
            next[place] = stretch.next;
            ticks += stretch.ticks.len();
            lost[place] += stretch.lost;
            is_behind |= stretch.is_full();
        }
        if is_over {
            break;
        }
        if said.elapsed() >= SAY {
            said = Instant::now();
            progress.say(format_args!("{:.1} s: {ticks} ticks", began.elapsed().as_secs_f64()));
        }
        if !is_behind {
            thread::sleep(PAUSE);
        }
    }
    writer.finish()?;
    for (shard, lost) in lost.iter().enumerate().filter(|(_, lost)| **lost > 0) {
        progress.note(format_args!("shard {shard}: {lost} ticks were overwritten before they could be fetched"));
    }
    let (shards, span) = (next.len(), began.elapsed().as_secs_f64());
    let to = if is_stdout { "standard output".into() } else { options.output.display().to_string() };
    progress.note(format_args!("{ticks} ticks of {shards} shards in {span:.1} s: {to}, for https://ui.perfetto.dev"));
    Ok(())
}
