//! `stalls`: ticks that take too long, each with the stack of its shard while it takes so long.
//!
//! Each shard is asked for its own timeline over a connection that it serves itself, again and again. A shard that does not answer within
//! the threshold is in a long tick (or in a crowd of ticks): its thread's stack is taken then. The answer, when it comes, tells
//! which tick it was, how long it took, and in which phase. So the stalled shard is never asked for anything it cannot give, and
//! a server with one shard is watched as well as one with many.

use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::Process;
use crate::progress::Progress;
use crate::stack::{Stack, Symbols};
use crate::ticks::{Stretch, Tick, TraceError};
use crate::{Target, seconds};
use megamux_client::{Client, ClientError};

/// Connections that are tried for each shard until one is served by it.
const ATTEMPTS: usize = 32;
/// The longest a stall is waited for before the shard is given up.
const LONGEST: Duration = Duration::from_secs(600);
/// A threshold below this would be crossed by the watching itself.
const SHORTEST: Duration = Duration::from_millis(1);

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// What is too long, in milliseconds
    #[arg(short, long, value_name = "MS", default_value = "100", value_parser = millis)]
    threshold: Duration,
    /// How long to watch; until interrupted, if not said
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Leave after so many stalls
    #[arg(short = 'n', long, value_name = "STALLS")]
    count: Option<usize>,
}

/// What a shard's watcher saw.
enum Seen {
    /// It does not answer.
    Stalled { shard: u16, thread: u32, after: Duration },
    /// It answers again.
    Over { shard: u16, after: Duration, longest: Option<Tick> },
    /// A tick was too long, and over before it was noticed.
    Missed { shard: u16, tick: Tick },
    /// It cannot be watched any more.
    Lost { shard: u16, error: TraceError },
}

pub fn run(options: &Options) -> Result<()> {
    let process = Process::find(&options.target)?;
    // Before the first stall: it takes a while.
    let symbols = Symbols::of(process.id)?;
    let (watchers, unwatched) = watchers(options, &process)?;
    let mut progress = Progress::new();
    for shard in unwatched {
        progress.note(format_args!("no connection came to shard {shard}: it is not watched"));
    }
    let (count, until) = (watchers.len(), options.seconds.map(|span| Instant::now() + span));
    let (send, seen) = mpsc::channel();
    for watcher in watchers {
        let send = send.clone();
        thread::spawn(move || watcher.watch(&send));
    }
    drop(send);
    let threshold = options.threshold;
    eprintln!("watching {count} shards of process {} for ticks beyond {threshold:?}", process.id);
    let mut stalls = 0;
    let wanted = options.count.unwrap_or(usize::MAX);
    let mut lost = None;
    while stalls < wanted {
        let left = until.map_or(LONGEST, |until| until.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            break;
        }
        match seen.recv_timeout(left) {
            Ok(Seen::Lost { shard, error }) => {
                progress.note(format_args!("shard {shard} is not watched any more: {error}"));
                lost = Some(error);
            }
            Ok(seen) => stalls += usize::from(tell(&seen, &symbols)),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    match (stalls, lost) {
        (0, Some(error)) => Err(error).context("nothing is left to watch"),
        (0, None) => {
            println!("no tick took longer than {threshold:?}");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Prints it, and says whether a stall is complete with it.
fn tell(seen: &Seen, symbols: &Symbols) -> bool {
    match seen {
        Seen::Stalled { shard, thread, after } => {
            let stack = symbols.stack(*thread);
            println!("shard {shard} is stalled: no answer for {}", span(*after));
            match stack {
                Ok(stack) => print!("{}", text(&stack)),
                Err(error) => println!("  no stack: {error:#}"),
            }
            false
        }
        Seen::Over { shard, after, longest } => {
            match longest {
                Some(tick) => println!("shard {shard} answers again after {}: {}\n", span(*after), told(tick)),
                None => println!("shard {shard} answers again after {}\n", span(*after)),
            }
            true
        }
        Seen::Missed { shard, tick } => {
            println!("shard {shard} was stalled, and went on before it was noticed: {}\n", told(tick));
            true
        }
        Seen::Lost { .. } => false,
    }
}

fn told(tick: &Tick) -> String {
    let (phase, longest) = tick.longest_phase();
    let (work, longest) = (Duration::from_nanos(tick.work()), Duration::from_nanos(longest));
    format!("tick {} took {}, of that {phase} {}", tick.number, span(work), span(longest))
}

fn span(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}

/// A line per frame, from the innermost out.
fn text(stack: &Stack) -> String {
    let mut out = match &stack.waits_in {
        Some(function) => format!("  it waits in the kernel: {function}\n"),
        None => "  it runs\n".to_owned(),
    };
    for (number, frame) in stack.frames.iter().enumerate() {
        let place = frame.place.as_ref().map_or(String::new(), |place| format!("  at {place}"));
        out += &format!("  {number:>3} {}{place}\n", frame.function);
    }
    out
}

/// Watches one shard.
struct Watcher {
    shard: u16,
    thread: u32,
    /// The next tick to hear of.
    next: u64,
    client: Client,
    threshold: Duration,
}

/// A watcher for each shard that a connection of ours came to, and the other shards.
fn watchers(options: &Options, process: &Process) -> Result<(Vec<Watcher>, Vec<u16>)> {
    let mut watchers: Vec<Watcher> = Vec::new();
    let (mut shards, mut attempts) = (1, 0);
    while watchers.len() < usize::from(shards) && attempts < ATTEMPTS * usize::from(shards) {
        attempts += 1;
        let mut client = Client::connect(&options.target.source)?;
        let stretch = Stretch::get(&mut client, None, None)?;
        shards = stretch.shards;
        let shard = stretch.answered_by;
        let thread = process.shard(shard).with_context(|| format!("process {} has no shard {shard}", process.id))?;
        if watchers.iter().all(|watcher| watcher.shard != shard) {
            let (thread, threshold) = (thread.id, options.threshold);
            watchers.push(Watcher { shard, thread, next: stretch.next, client, threshold });
        }
    }
    let unwatched = (0..shards).filter(|shard| watchers.iter().all(|watcher| watcher.shard != *shard)).collect();
    Ok((watchers, unwatched))
}

impl Watcher {
    fn watch(mut self, send: &Sender<Seen>) {
        let shard = self.shard;
        // The receiver is gone when enough was seen.
        if let Err(error) = self.look(send) {
            let _ = send.send(Seen::Lost { shard, error });
        }
    }

    fn look(&mut self, send: &Sender<Seen>) -> Result<(), TraceError> {
        // Every stall longer than the threshold and this is caught while it lasts.
        let pause = (self.threshold / 4).max(SHORTEST);
        let shard = self.shard;
        loop {
            self.client.ask(&Stretch::path(Some(shard), Some(self.next)))?;
            let asked = Instant::now();
            let answer = self.client.answer(self.threshold)?;
            let was_stalled = answer.is_none();
            let text = match answer {
                Some(text) => text,
                None => {
                    if send.send(Seen::Stalled { shard, thread: self.thread, after: asked.elapsed() }).is_err() {
                        return Ok(());
                    }
                    let late = self.client.answer(LONGEST)?;
                    late.ok_or_else(|| ClientError::Silent { at: self.client.at().clone(), within: LONGEST })?
                }
            };
            let after = asked.elapsed();
            let mut stretch = Stretch::read(&text)?;
            self.next = stretch.next;
            if was_stalled {
                // The request may have been answered by the long tick itself, which is on record only when it has ended.
                let then = Stretch::get(&mut self.client, Some(shard), Some(self.next))?;
                self.next = then.next;
                stretch.ticks.extend(then.ticks);
            }
            let longest = stretch.ticks.iter().copied().max_by_key(Tick::work);
            let too_long = longest.filter(|tick| Duration::from_nanos(tick.work()) > self.threshold);
            let seen = match (was_stalled, too_long) {
                (true, _) => Some(Seen::Over { shard, after, longest }),
                (false, Some(tick)) => Some(Seen::Missed { shard, tick }),
                (false, None) => None,
            };
            if let Some(seen) = seen
                && send.send(seen).is_err()
            {
                return Ok(());
            }
            if !stretch.is_full() {
                thread::sleep(pause);
            }
        }
    }
}

fn millis(text: &str) -> Result<Duration, String> {
    let millis: f64 = text.parse().map_err(|_| "a number of milliseconds, such as 50")?;
    match Duration::try_from_secs_f64(millis / 1e3) {
        Ok(span) if span >= SHORTEST && span <= LONGEST => Ok(span),
        _ => Err("from 1 to 600000 milliseconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Frame;

    #[test]
    fn stacks_read_from_the_innermost_out() {
        let frame =
            |function: &str, place: Option<&str>| Frame { function: function.into(), place: place.map(Into::into) };
        let frames = vec![frame("futex_wait", None), frame("app::on_data", Some("src/app.rs:7"))];
        let text = text(&Stack { waits_in: Some("futex_do_wait".into()), frames });
        let expect = "  it waits in the kernel: futex_do_wait\n    0 futex_wait\n    1 app::on_data  at src/app.rs:7\n";
        assert_eq!(text, expect);
    }

    #[test]
    fn thresholds_are_milliseconds() {
        assert_eq!(millis("50"), Ok(Duration::from_millis(50)));
        assert!(millis("0").is_err() && millis("1s").is_err());
    }
}
