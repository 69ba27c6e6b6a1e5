//! The command line: its words, their help, and the process around the server: last words, exit code.
//!
//! It owns what is global to a process, and is only for a process of its own. It must not know what a setting means: it
//! fills a layer that lies over the configuration file's.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::banner;
use crate::config::{
    self, CapsMask, DataDirChoice, Driver, Format, Layer, Listener, Origin, Pins, Place, Sources, Span, Value,
};
use crate::serve;

const NOTES: &str = "\
ADDR is 127.0.0.1:7000, [::1]:7000, unix:/path or off; port 0 picks a free one. TIME is 500ms, 10s or 2m.

Signals:
  SIGHUP           reads the settings again; listeners, log and drain change at once
  SIGTERM, SIGINT  drain; a second one ends the process at once, by that signal

Exit codes:
  0  drained after SIGTERM or SIGINT
  1  could not start (port in use, too few descriptors, the driver asked for refused), or failed while running
  2  command line or configuration not understood

Environment:
  MEGAMUX_LOG   what is logged to stderr, e.g. debug or megamux_engine=trace [default: info]
  MEGAMUX_CAPS  as --caps
  NO_COLOR      no colours, also on a terminal

Without a command it serves. Every option may also stand in the file: see `megamux config default`.";

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
    Serve(Box<Serve>),
    /// Look at settings without starting anything
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// Whose script
        shell: clap_complete::Shell,
    },
    /// Print the manual page, as roff
    Man,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Judge a file: every mistake with its line, exit code 2 if there is one
    Check {
        /// The file; without one, the environment alone is judged
        file: Option<PathBuf>,
    },
    /// Print every setting with its default, commented, as a file to begin with
    Default,
    /// Print every setting with its value and where that comes from: default, file and line, environment, flag
    Show(Box<Serve>),
}

#[derive(Debug, Args)]
struct Serve {
    /// Read settings from this TOML file; the command line wins over it
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    config: Option<PathBuf>,
    /// The operator's console, on loopback only unless --insecure [default: 127.0.0.1:2323]
    #[arg(long, value_name = "ADDR", help_heading = "Listeners")]
    telnet: Option<Place>,
    /// /healthz and /metrics (OpenMetrics) [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", help_heading = "Listeners")]
    http: Option<Place>,
    /// The echo service of RFC 862 [default: off]
    #[arg(long, value_name = "ADDR", help_heading = "Listeners")]
    echo: Option<Place>,
    /// Listeners (telnet,http,echo, or none) whose connections begin with a PROXY header, version 1 or 2. Only trusted
    /// proxies may reach such a listener: they say who the peer is [default: none]
    #[arg(long, value_name = "LISTENERS", help_heading = "Listeners")]
    proxy_protocol: Option<Listeners>,
    /// Let the telnet console listen beyond loopback, for whoever reaches it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(help_heading = "Listeners")]
    insecure: Option<bool>,
    /// Shards, each with a thread and a ring of its own [default: one per physical core]
    #[arg(long, value_name = "N", help_heading = "Shards and I/O")]
    shards: Option<usize>,
    /// CPUs the shards run on in turn: a list such as 0-3,8, cores (one shard per physical core), or none [default: cores]
    #[arg(long, value_name = "LIST|none", help_heading = "Shards and I/O")]
    pin: Option<Pins>,
    /// What does the I/O: auto (io_uring where it works, else epoll), uring or epoll [default: auto]
    #[arg(long, value_name = "auto|uring|epoll", help_heading = "Shards and I/O")]
    driver: Option<Driver>,
    /// Kernel features to leave unused although they were found, e.g. -inc,-recv_budget
    #[arg(long, value_name = "MASK", allow_hyphen_values = true, help_heading = "Shards and I/O")]
    caps: Option<CapsMask>,
    /// How log lines are written: for people, or one JSON object each [default: human]
    #[arg(long, value_name = "human|json", help_heading = "Log, files and end")]
    log_format: Option<Format>,
    /// Where services keep their files: a path, or none. Made if it is not there, locked while the server runs
    /// [default: $STATE_DIRECTORY, $XDG_STATE_HOME/megamux or ~/.local/state/megamux]
    #[arg(long, value_name = "DIR", help_heading = "Log, files and end")]
    data_dir: Option<DataDirChoice>,
    /// How long to serve on after the first signal while /healthz says 503 [default: 0s]
    #[arg(long, value_name = "TIME", help_heading = "Log, files and end")]
    drain_delay: Option<Span>,
    /// How long connections may take to end after that [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Log, files and end")]
    drain_timeout: Option<Span>,
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
    fn sources(self) -> Sources {
        let file = self.config.clone();
        Sources { file, flags: self.into_layer() }
    }

    fn into_layer(self) -> Layer {
        let mut layer = Layer::default();
        let mut set = |path: &str, flag, value: Option<Value>| {
            if let Some(value) = value {
                layer.set(path.to_owned(), value, Origin::Flag(flag));
            }
        };
        set("telnet.listen", "--telnet", self.telnet.map(Value::Place));
        set("http.listen", "--http", self.http.map(Value::Place));
        set("echo.listen", "--echo", self.echo.map(Value::Place));
        set("telnet.insecure", "--insecure", self.insecure.map(Value::Flag));
        set("shards", "--shards", self.shards.map(|shards| Value::Count(shards as u64)));
        set("pin", "--pin", self.pin.map(Value::Pins));
        set("driver", "--driver", self.driver.map(Value::Driver));
        set("caps", "--caps", self.caps.map(|CapsMask(mask)| Value::Text(mask)));
        set("log.format", "--log-format", self.log_format.map(Value::Format));
        set("data_dir", "--data-dir", self.data_dir.map(Value::DataDir));
        set("drain_delay", "--drain-delay", self.drain_delay.map(|span| Value::Span(Some(span.0))));
        set("drain_timeout", "--drain-timeout", self.drain_timeout.map(|span| Value::Span(Some(span.0))));
        if let Some(Listeners(proxied)) = self.proxy_protocol {
            for listener in Listener::ALL {
                let path = format!("{}.proxy_protocol", listener.name());
                set(&path, "--proxy-protocol", Some(Value::Flag(proxied.contains(&listener))));
            }
        }
        layer
    }
}

/// The whole server: reads the process's arguments, serves, and says how it went.
pub fn main() -> ExitCode {
    let Cli { command, serve } = Cli::parse();
    match command.unwrap_or(Command::Serve(Box::new(serve))) {
        Command::Serve(serve) => match serve::run(serve.sources()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, error.exit_code()),
        },
        Command::Config(ConfigCommand::Check { file }) => match config::check(file.as_deref()) {
            Ok(()) => say(format!("{}: no mistakes\n", file.unwrap_or_else(|| "settings".into()).display())),
            Err(error) => fail(&error, 2),
        },
        Command::Config(ConfigCommand::Default) => say(config::default_file()),
        Command::Config(ConfigCommand::Show(serve)) => match serve.sources().read() {
            Ok(settings) => say(settings.show()),
            Err(error) => fail(&error, 2),
        },
        Command::Completions { shell } => say(completions(shell)),
        Command::Man => say(manual()),
    }
}

/// Text on stdout; a reader that is gone has read enough.
fn say(text: impl AsRef<[u8]>) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_ref()).and_then(|()| stdout.flush());
    ExitCode::SUCCESS
}

/// Each mistake on a line of its own, whatever the log is set to.
fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    for line in error.to_string().lines() {
        eprintln!("megamux: {line}");
    }
    ExitCode::from(code)
}

fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "megamux", &mut script);
    script
}

fn manual() -> Vec<u8> {
    let mut page = Vec::new();
    // A vector takes every write.
    let _ = clap_mangen::Man::new(Cli::command()).render(&mut page);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[track_caller]
    fn settings(line: &str) -> Result<Settings, String> {
        let line = std::iter::once("megamux").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        let serve = match cli.command {
            Some(Command::Serve(serve)) => *serve,
            Some(other) => panic!("{other:?}"),
            None => cli.serve,
        };
        serve.sources().read().map_err(|error| error.to_string())
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
        check("--driver kqueue", "is no driver");
        check("--drain-timeout 10", "no span of time");
        check("--proxy-protocol smtp", "\"smtp\" is no listener");
        check("--config /nowhere/megamux.toml", "cannot read the configuration /nowhere/megamux.toml");
        check("sing", "unrecognized subcommand");
    }

    /// Every option that there is, of the server and of its commands.
    fn options() -> Vec<String> {
        let command = Cli::command();
        let own = command.get_arguments().filter_map(|arg| arg.get_long());
        own.map(|name| format!("--{name}")).collect()
    }

    #[test]
    fn completions_know_every_option() {
        use clap_complete::Shell;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = String::from_utf8(completions(shell)).unwrap();
            for option in options() {
                let name = option.trim_start_matches('-');
                assert!(script.contains(&option) || script.contains(&format!("-l {name}")), "{shell}: {option}");
            }
            for command in ["serve", "config", "check", "default", "show", "completions", "man"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }

    #[test]
    fn the_manual_has_every_option() {
        // In roff a hyphen is written with a backslash.
        let page = String::from_utf8(manual()).unwrap().replace("\\-", "-");
        for option in options() {
            assert!(page.contains(&option), "{option}");
        }
        for words in ["MEGAMUX_CAPS", "SIGHUP", "Exit codes"] {
            assert!(page.contains(words), "{words}");
        }
    }
}
