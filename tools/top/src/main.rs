//! `megamux-top`: what a running server does, shard by shard, read from its `/metrics`.
//!
//! Owns the command line and the loop: fetch, compare with the fetch before, show. Reading disturbs no shard: the figures are
//! cells that anyone may read, and one scrape is one request to the server's HTTP listener.
//! Must not know what a shard is made of: all it has are the documented metric names.

mod metrics;
mod plain;
mod screen;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use megamux_client::{Client, Source};
use metrics::Snapshot;
use screen::{Key, Screen};
use view::View;

const NOTES: &str = "\
ADDR is where the server's HTTP listener is: 127.0.0.1:8080, [::1]:8080 or unix:/path.

Keys: q or Ctrl-C leaves, p or space pauses, + and - change the interval.

Exit codes:
  0  done
  1  the server could not be read
  2  command line not understood";

/// The shortest interval: a scrape costs the server a request.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

/// A live view of a running megamux server, shard by shard
#[derive(Debug, Parser)]
#[command(name = "megamux-top", version, after_help = NOTES)]
struct Cli {
    /// Where the server's HTTP listener is
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:8080")]
    source: Source,
    /// Seconds between looks
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Look twice, print what happened in between, and leave
    #[arg(short = '1', long)]
    once: bool,
    /// Print a completion script for a shell, and leave
    #[arg(long, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,
}

fn main() -> ExitCode {
    // Whoever reads us may leave, as `head` does: that ends us, and is no failure.
    // SAFETY: no other thread runs yet, and the default action is no function of ours. Sockets never raise it (MSG_NOSIGNAL).
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let cli = Cli::parse();
    if let Some(shell) = cli.completions {
        clap_complete::generate(shell, &mut Cli::command(), "megamux-top", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    let outcome = if cli.once { once(&cli) } else { live(&cli) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("megamux-top: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn once(cli: &Cli) -> anyhow::Result<()> {
    let before = look(&cli.source)?;
    thread::sleep(cli.interval);
    let view = View::between(&before, &look(&cli.source)?);
    print!("{}", plain::text(&view));
    Ok(())
}

/// Until told to leave. A server that cannot be read is shown as such: it may come back.
fn live(cli: &Cli) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() {
        bail!("standard output is no terminal: --once prints what there is and leaves");
    }
    // The first look decides whether there is anything to show at all.
    let mut before = look(&cli.source)?;
    let mut screen = Screen::open().context("cannot take the terminal over; --once does not need to")?;
    let (mut interval, mut paused) = (cli.interval.min(LONGEST), false);
    let mut view = View::between(&before, &before);
    let mut trouble = None;
    let mut next = Instant::now() + interval;
    loop {
        screen.draw(&screen::State {
            view: &view,
            source: &cli.source,
            interval,
            paused,
            trouble: trouble.as_deref(),
        })?;
        let wait = if paused { LONGEST } else { next.saturating_duration_since(Instant::now()) };
        match screen.key(wait)? {
            Some(Key::Leave) => return Ok(()),
            Some(Key::Pause) => paused = !paused,
            Some(Key::Faster) => interval = (interval / 2).max(SHORTEST),
            Some(Key::Slower) => interval = (interval * 2).min(LONGEST),
            None => {}
        }
        if paused || Instant::now() < next {
            continue;
        }
        next = Instant::now() + interval;
        match look(&cli.source) {
            Ok(now) => {
                view = View::between(&before, &now);
                (before, trouble) = (now, None);
            }
            Err(error) => trouble = Some(error.to_string()),
        }
    }
}

fn look(source: &Source) -> anyhow::Result<Snapshot> {
    let text = Client::connect(source)?.get("/metrics")?;
    Snapshot::read(&text, Instant::now()).context("these are not the figures of a megamux server")
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, such as 0.5")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if (SHORTEST..=LONGEST).contains(&interval) => Ok(interval),
        _ => Err("from 0.1 to 60 seconds".into()),
    }
}
