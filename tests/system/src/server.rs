//! The server's process: this file owns its start, its ready line, its end, and what it says on stderr.
//!
//! Invariant: a [`Server`] that is dropped leaves no process behind, and one that ended by itself fails the test that
//! did not ask for it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::wait::wait_for_end;
use crate::{Caps, DEADLINE, Deadline, Metrics, Usage, binary, skip};

const READY: &str = "megamux is ready";
/// Every optional capability.
const MASK: &str =
    "-inc,-recv_budget,-min_wait,-registered_ring,-peer_cmd,-accept_dontwait,-msg_ring,-pass,-restrictions";

/// How to start a server. Its ports are free ones unless an argument says otherwise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Another binary than the released one.
    program: Option<PathBuf>,
    arguments: Vec<String>,
    descriptors: Option<u32>,
    /// A program with its first arguments that becomes the server.
    launcher: Vec<String>,
}

impl Options {
    /// One shard that echoes and tells its metrics.
    pub fn new(caps: Caps) -> Options {
        let options = Options { program: None, arguments: Vec::new(), descriptors: None, launcher: Vec::new() };
        let options = options
            .set("telnet", "off")
            .set("http", "127.0.0.1:0")
            .set("echo", "127.0.0.1:0")
            .set("shards", 1)
            .set("data-dir", "none");
        match caps {
            Caps::All => options,
            Caps::Required => options.set("caps", MASK),
            Caps::Epoll => options.set("driver", "epoll"),
        }
    }

    /// Sets an option of the command line, in place of what it was.
    pub fn set(mut self, option: &str, value: impl ToString) -> Options {
        let option = format!("--{option}=");
        self.arguments.retain(|argument| !argument.starts_with(&option));
        self.arguments.push(option + &value.to_string());
        self
    }

    /// The binary that is tested.
    pub fn binary() -> &'static Path {
        binary::path()
    }

    /// Has another program start it, which becomes the server: its process is the server's.
    pub fn launched_by(mut self, launcher: &[&str]) -> Options {
        self.launcher = launcher.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Another program that takes the options, and says what it listens on, as the released binary does.
    pub fn program(mut self, path: impl AsRef<Path>) -> Options {
        self.program = Some(binary::of_tests(path.as_ref()));
        self
    }

    /// Bounds the descriptors it may have.
    pub fn descriptors(mut self, limit: u32) -> Options {
        self.descriptors = Some(limit);
        self
    }

    /// Starts it and waits until it is ready. `None` where there is no io_uring: the test has been skipped.
    ///
    /// # Panics
    ///
    /// When it does not start for another reason.
    #[track_caller]
    pub fn start(&self) -> Option<Server> {
        let mut child = self.spawn();
        let lines = lines(child.stdout.take().expect("piped"));
        let mut stderr = child.stderr.take().expect("piped");
        let said = thread::spawn(move || {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            said
        });
        let mut server = Server { child, banner: HashMap::new(), said: Some(said), options: self.clone() };
        if server.read_banner(&lines) {
            return Some(server);
        }
        let said = server.end();
        assert!(said.contains("io_uring"), "the server does not start: {said}");
        skip(said.trim());
        None
    }

    /// Starts one that ends by itself; how it ended, and what it said on stderr.
    #[track_caller]
    pub fn run(&self) -> (ExitStatus, String) {
        let mut child = self.spawn();
        let Some(status) = wait_for_end(&mut child, DEADLINE) else {
            child.kill().expect("it is a child");
            panic!("it does not end by itself");
        };
        let mut said = String::new();
        let mut stderr = child.stderr.take().expect("piped");
        stderr.read_to_string(&mut said).expect("it says text");
        (status, said)
    }

    fn spawn(&self) -> Child {
        self.command()
            .args(&self.arguments)
            .env_remove("MEGAMUX_CAPS")
            .env_remove("MEGAMUX_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server's binary runs")
    }

    fn command(&self) -> Command {
        let binary = self.program.as_deref().unwrap_or_else(|| binary::path());
        if let Some((program, first)) = self.launcher.split_first() {
            let mut command = Command::new(program);
            command.args(first).arg(binary);
            return command;
        }
        let Some(limit) = self.descriptors else {
            return Command::new(binary);
        };
        // The shell becomes the server: it is the same process.
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &limit.to_string()]);
        shell.arg(binary);
        shell
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// What it said at its start, by the first word of each line: of listeners, where they listen.
    banner: HashMap<String, String>,
    said: Option<JoinHandle<String>>,
    options: Options,
}

impl Server {
    /// Where a listener listens.
    #[track_caller]
    pub fn addr(&self, listener: &str) -> SocketAddr {
        let word = self.word(listener);
        word.parse().unwrap_or_else(|_| panic!("{listener} listens on {word:?}"))
    }

    /// What the server says of a listener's address.
    #[track_caller]
    pub fn word(&self, listener: &str) -> &str {
        self.said_of(listener).split(' ').next().unwrap_or_default()
    }

    /// What the server said at its start behind this word.
    #[track_caller]
    pub fn said_of(&self, label: &str) -> &str {
        self.banner.get(label).unwrap_or_else(|| panic!("no {label} among {:?}", self.banner))
    }

    /// Where it echoes.
    pub fn echo(&self) -> SocketAddr {
        self.addr("echo")
    }

    /// A connection to its metrics.
    pub fn metrics(&self) -> Metrics {
        Metrics::of(self.addr("http"))
    }

    /// What it takes of the machine.
    pub fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    /// Options for a server that takes its place, on the same ports.
    pub fn successor(&self) -> Options {
        let listeners = ["echo", "http"];
        let same = |options: Options, name| options.set(name, self.addr(name));
        listeners.into_iter().fold(self.options.clone(), same)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server lives");
    }

    /// Changes how many descriptors it may have while it runs; what it has stays. Gives back what the limit was.
    pub fn limit_descriptors(&self, limit: u64) -> u64 {
        let new = Rlimit { current: Some(limit), maximum: getrlimit(Resource::Nofile).maximum };
        let old = prlimit(Some(self.pid()), Resource::Nofile, new).expect("a process of ours");
        old.current.unwrap_or(u64::MAX)
    }

    /// Waits for its end; `None` if it lives on.
    pub fn wait(&mut self, most: Duration) -> Option<ExitStatus> {
        wait_for_end(&mut self.child, most)
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_none()
    }

    /// Ends it at once, as the kernel would when memory is out.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks that a server that went through a scenario is as good as new: alive, nothing panicked, and, once everybody has
    /// left, nothing held.
    #[track_caller]
    pub fn is_well(&mut self) {
        let mut metrics = self.metrics();
        let deadline = Deadline::after(DEADLINE);
        loop {
            assert!(self.is_alive(), "the server ended by itself");
            let figures = metrics.figures();
            assert_eq!(figures.sum("megamux_panics_total", ""), 0);
            assert_eq!(figures.sum("megamux_service_panics_total", ""), 0);
            let held = [
                ("megamux_send_queue_bytes", 0),
                ("megamux_remainder_bytes", 0),
                ("megamux_held_frame_bytes", 0),
                ("megamux_arrivals_waiting", 0),
                ("megamux_starved_connections", 0),
                ("megamux_handoff_occupancy", 0),
                ("megamux_lifecycle_waiting", 0),
                // The one that asks.
                ("megamux_connections", 1),
            ];
            let wrong: Vec<_> = held
                .iter()
                .map(|&(name, due)| (name, due, figures.sum(name, "")))
                .filter(|(_, due, is)| is != due)
                .collect();
            if wrong.is_empty() {
                return;
            }
            deadline.left(&format!("(name, due, is) {wrong:?}"));
        }
    }

    /// Reads up to the ready line; `false` if stdout ends before.
    fn read_banner(&mut self, lines: &Receiver<String>) -> bool {
        let deadline = Deadline::after(DEADLINE);
        loop {
            match lines.recv_timeout(deadline.left("the server is ready")) {
                Ok(line) if line == READY => return true,
                Ok(line) => {
                    if let Some((label, rest)) = line.trim().split_once(char::is_whitespace) {
                        self.banner.insert(label.to_owned(), rest.trim().to_owned());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Ends it and says what it wrote to stderr.
    fn end(&mut self) -> String {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.said.take().and_then(|said| said.join().ok()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let said = self.end();
        if thread::panicking() && !said.is_empty() {
            eprintln!("the server said:\n{said}");
        }
    }
}

/// The lines of a stream, as they come.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Nobody reads behind the ready line; the pipe is emptied all the same.
            let _ = send.send(line);
        }
    });
    receive
}
