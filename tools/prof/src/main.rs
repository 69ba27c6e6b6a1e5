//! `megamux-prof`: where a running server spends its time.
//!
//! ```text
//! record   perf samples                 -> flame graph (perf, folded, flame)
//! trace    /trace, the shards' timeline -> Chrome trace JSON (ticks, chrome)
//! uring    /metrics, or bpftrace        -> a table of what the rings do
//! stalls   /trace, asked again and again-> the stack of a shard that does not answer (stack)
//! ```
//!
//! Owns the command line and the exit code. The server is found by its HTTP listener (`client`), which also says which
//! process it is (`process`). Nothing here changes what the server does; what a look costs it is in docs/profiling.md.

mod chrome;
mod flame;
mod folded;
mod perf;
mod process;
mod progress;
mod record;
mod stack;
mod stalls;
mod ticks;
mod trace;
mod uring;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use megamux_client::Source;
use signal_hook::consts::{SIGINT, SIGTERM};

const NOTES: &str = "\
ADDR is where the server's HTTP listener is: 127.0.0.1:8080, [::1]:8080 or unix:/path.

Exit codes:
  0  done
  1  the server could not be read or profiled
  2  command line not understood";

/// Profiles a running megamux server
#[derive(Debug, Parser)]
#[command(name = "megamux-prof", version, after_help = NOTES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print a completion script for a shell, and leave
    #[arg(long, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sample the server's threads with perf, and draw a flame graph
    Record(record::Options),
    /// Write the shards' timeline as a Chrome trace, for ui.perfetto.dev
    Trace(trace::Options),
    /// Show what the shards' rings do
    Uring(uring::Options),
    /// Wait for ticks that take too long, and show the stack of the shard
    Stalls(stalls::Options),
}

/// Which server.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Where the server's HTTP listener is
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub source: Source,
    /// The server's process, where it does not see its own number as we do (containers)
    #[arg(short, long)]
    pub pid: Option<u32>,
}

fn main() -> ExitCode {
    // Whoever reads us may leave, as `head` does: that ends us, and is no failure.
    // SAFETY: no other thread runs yet, and the default action is no function of ours. Sockets never raise it (MSG_NOSIGNAL).
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let cli = Cli::parse();
    if let Some(shell) = cli.completions {
        clap_complete::generate(shell, &mut Cli::command(), "megamux-prof", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    let outcome = match &cli.command {
        Some(Command::Record(options)) => record::run(options),
        Some(Command::Trace(options)) => trace::run(options),
        Some(Command::Uring(options)) => uring::run(options),
        Some(Command::Stalls(options)) => stalls::run(options),
        // Clap has shown the help.
        None => Ok(()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("megamux-prof: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Set by an interrupt, for what is then to be finished with what there is. A second one ends the process.
pub fn interrupts() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Without them an interrupt ends the process at once, as it does anyway.
        let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag));
        let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
    }
    flag
}

/// A number of seconds on the command line.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, such as 0.5")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(span) if (0.01..=3600.0).contains(&span.as_secs_f64()) => Ok(span),
        _ => Err("from 0.01 to 3600 seconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        assert!(seconds("0.5").is_ok() && seconds("0").is_err() && seconds("1h").is_err());
    }
}
