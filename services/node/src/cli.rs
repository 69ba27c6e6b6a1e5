//! The command line: its words, their help, and the process around the server: log, last words, exit code.
//!
//! It owns what is global to a process, and is only for a process of its own. It must not know what a setting means: it
//! fills a `Layer` that lies over the configuration file's.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::banner;
use crate::config::{ConfigError, Driver, Layer, Listener, Pins, Place, Settings, Span};
use crate::serve;

const NOTES: &str = "\
ADDR is 127.0.0.1:7000, [::1]:7000, unix:/path or off; port 0 picks a free one. TIME is 500ms, 10s or 2m.

Exit codes:
  0  drained after SIGTERM or SIGINT
  1  could not start (port in use, too few descriptors, io_uring refused), or failed while running
  2  command line or configuration not understood
A second SIGTERM or SIGINT ends the process at once, by that signal.

Environment:
  MEGAMUX_LOG   what is logged to stderr, e.g. debug or megamux_engine=trace [default: info]
  MEGAMUX_CAPS  as --caps";

/// A socket multiplexer: one io_uring thread per core, protocol services behind it
#[derive(Debug, Parser)]
#[command(name = "megamux", version, long_version = banner::long_version(), after_help = NOTES)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen and serve until SIGTERM or SIGINT (the default)
    #[command(after_help = NOTES)]
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Serve {
    /// Read settings from this TOML file; the command line wins over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Shards, each with a thread and a ring of its own [default: one per physical core]
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// CPUs the shards run on in turn: a list such as 0-3,8, cores (one shard per physical core), or none [default: cores]
    #[arg(long, value_name = "LIST|none")]
    pin: Option<Pins>,
    /// What does the I/O: auto (the best that works here) or uring [default: auto]
    #[arg(long, value_name = "auto|uring")]
    driver: Option<Driver>,
    /// Kernel features to leave unused although they were found, e.g. -inc,-recv_budget
    #[arg(long, value_name = "MASK", env = "MEGAMUX_CAPS", hide_env = true, allow_hyphen_values = true)]
    caps: Option<String>,
    /// The operator's console, on loopback only unless --insecure [default: 127.0.0.1:2323]
    #[arg(long, value_name = "ADDR")]
    telnet: Option<Place>,
    /// /healthz and /metrics (OpenMetrics) [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<Place>,
    /// The echo service of RFC 862 [default: off]
    #[arg(long, value_name = "ADDR")]
    echo: Option<Place>,
    /// Listeners (telnet,http,echo, or none) whose connections begin with a PROXY header, version 1 or 2. Only trusted
    /// proxies may reach such a listener: they say who the peer is [default: none]
    #[arg(long, value_name = "LISTENERS")]
    proxy_protocol: Option<Listeners>,
    /// Let the telnet console listen beyond loopback, for whoever reaches it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    insecure: Option<bool>,
    /// How long connections may take to end after the first signal [default: 10s]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Span>,
    /// Where services keep their files; made if it is not there, locked while the server runs
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A list of listeners.
#[derive(Debug, Clone)]
struct Listeners(Vec<Listener>);

impl std::str::FromStr for Listeners {
    type Err = String;

    fn from_str(text: &str) -> Result<Listeners, String> {
        match text {
            "none" => Ok(Listeners(Vec::new())),
            _ => text.split(',').map(str::parse).collect::<Result<_, _>>().map(Listeners),
        }
    }
}

impl Serve {
    fn settings(mut self) -> Result<Settings, ConfigError> {
        let file = self.config.take().map(|path| Layer::read(&path)).transpose()?;
        Settings::new(self.into_layer().over(file.unwrap_or_default()))
    }

    fn into_layer(self) -> Layer {
        let Serve { config: _, shards, pin, driver, caps, drain_timeout, data_dir, .. } = self;
        let mut layer = Layer { shards, pin, driver, caps, drain_timeout, data_dir, ..Layer::default() };
        layer.telnet.listen = self.telnet;
        layer.telnet.insecure = self.insecure;
        layer.http.listen = self.http;
        layer.echo.listen = self.echo;
        if let Some(Listeners(proxied)) = self.proxy_protocol {
            layer.telnet.proxy_protocol = Some(proxied.contains(&Listener::Telnet));
            layer.http.proxy_protocol = Some(proxied.contains(&Listener::Http));
            layer.echo.proxy_protocol = Some(proxied.contains(&Listener::Echo));
        }
        layer
    }
}

/// The whole server: reads the process's arguments, serves, and says how it went.
pub fn main() -> ExitCode {
    let Cli { command, serve } = Cli::parse();
    let serve = match command {
        Some(Command::Serve(serve)) => serve,
        None => serve,
    };
    if let Err(error) = start_log() {
        return fail(&format_args!("MEGAMUX_LOG: {error}"), 2);
    }
    let settings = match serve.settings() {
        Ok(settings) => settings,
        Err(error) => return fail(&error, 2),
    };
    match serve::run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

/// One line, whatever the log is set to.
fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("megamux: {error}");
    ExitCode::from(code)
}

/// Events of this process go to stderr.
fn start_log() -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = std::env::var("MEGAMUX_LOG").unwrap_or_default();
    let filter = if filter.is_empty() { "info" } else { &filter };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse(filter)?)
        .with_ansi(banner::colours(std::io::stderr().is_terminal()))
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[track_caller]
    fn settings(line: &str) -> Result<Settings, String> {
        let line = std::iter::once("megamux").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        let serve = match cli.command {
            Some(Command::Serve(serve)) => serve,
            None => cli.serve,
        };
        serve.settings().map_err(|error| error.to_string())
    }

    #[test]
    fn the_words_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_what_is_meant_when_nothing_is_said() {
        let line = "--shards 3 --pin none --drain-timeout 1m";
        let plain = settings(line).unwrap();
        assert_eq!(plain.shards, 3);
        assert_eq!(plain, settings(&format!("serve {line}")).unwrap());
    }

    #[test]
    fn a_mask_may_begin_with_a_hyphen() {
        assert_eq!(settings("--caps -inc,-min_wait").unwrap().caps_mask, "-inc,-min_wait");
    }

    #[test]
    fn mistakes_are_named() {
        let check = |line, expect: &str| {
            let error = settings(line).unwrap_err();
            assert!(error.contains(expect), "{line}: {error}");
        };
        check("--http localhost:80", "names are not resolved");
        check("--echo 7", "or off");
        check("--pin 0-x", "\"0-x\" is no CPU");
        check("--driver epoll", "give auto or uring");
        check("--drain-timeout 10", "no span of time");
        check("--proxy-protocol smtp", "\"smtp\" is no listener");
        check("--config /nowhere/megamux.toml", "cannot read the configuration /nowhere/megamux.toml");
        check("sing", "unrecognized subcommand");
    }

    #[cfg(all(feature = "http", feature = "proxy"))]
    #[test]
    fn the_list_of_proxied_listeners_replaces_the_files() {
        let below: Layer = toml::from_str("[http]\nproxy_protocol = true").unwrap();
        let cli = Cli::try_parse_from(["megamux", "--proxy-protocol", "none"]).unwrap();
        let settings = Settings::new(cli.serve.into_layer().over(below)).unwrap();
        assert!(settings.listeners.iter().all(|on| !on.proxy_protocol));
    }
}
