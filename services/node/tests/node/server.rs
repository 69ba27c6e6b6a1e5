//! One running server, started and ended by its test.
//!
//! It owns the process and the lines it says. Invariant: the process is gone when this is, and nothing here waits longer
//! than [`PATIENCE`].

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use megamux_skip_tests::skip;
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take; a slow machine under load needs some.
pub const PATIENCE: Duration = Duration::from_secs(20);

const LISTENERS: [&str; 3] = ["telnet", "http", "echo"];

/// A server that has said it is ready.
pub struct Server {
    process: Process,
    /// What it said at start, up to and with the ready line.
    pub banner: Vec<String>,
}

impl Server {
    /// Starts one with these arguments; listeners they do not name are off. `None` if there is no io_uring here.
    pub fn start(args: &[&str]) -> Option<Server> {
        Server::from(Process::spawn(&with_others_off(args)))
    }

    /// Starts one with these arguments alone.
    pub fn start_as_is(args: &[&str]) -> Option<Server> {
        Server::from(Process::spawn(&owned(args)))
    }

    /// Starts one by way of a shell, whose words come first; `$0` is the binary.
    pub fn start_in_shell(script: &str) -> Option<Server> {
        Server::from(Process::shell(script))
    }

    /// Starts one as a command has it; its arguments are the caller's.
    pub fn start_command(command: &mut Command) -> Option<Server> {
        Server::from(Process::from(command))
    }

    fn from(process: Process) -> Option<Server> {
        let mut banner = Vec::new();
        while banner.last().is_none_or(|line| line != "megamux is ready") {
            match process.stdout.recv_timeout(PATIENCE) {
                Ok(line) => banner.push(line),
                Err(_) => {
                    let (status, said) = process.end();
                    if said.contains("io_uring does not work here") {
                        skip(&said);
                        return None;
                    }
                    panic!("not ready: {status}, {banner:?}, {said}");
                }
            }
        }
        Some(Server { process, banner })
    }

    /// What the banner says behind a word at the start of a line.
    pub fn said(&self, word: &str) -> &str {
        let found = self.banner.iter().find_map(|line| line.trim_start().strip_prefix(word));
        found.unwrap_or_else(|| panic!("no {word} in {:?}", self.banner)).trim()
    }

    /// Where a listener is bound.
    pub fn addr(&self, listener: &str) -> SocketAddr {
        let said = self.said(listener);
        said.split(' ').next().unwrap_or_default().parse().unwrap_or_else(|_| panic!("{said}"))
    }

    /// A connection to a listener, whose reads and writes have a deadline.
    pub fn connect(&self, listener: &str) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.addr(listener), PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.child), signal).unwrap();
    }

    /// Waits for a line on stderr that contains `text`.
    pub fn wait_for(&self, text: &str) {
        self.lines_up_to(text);
    }

    /// The lines on stderr up to one that contains `text`, with it.
    #[track_caller]
    pub fn lines_up_to(&self, text: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.process.stderr.recv_timeout(left);
            lines.push(line.unwrap_or_else(|_| panic!("never said {text:?}, but {lines:#?}")));
            if lines.last().is_some_and(|line| line.contains(text)) {
                return lines;
            }
        }
    }

    /// Waits until nobody listens on an address any more: shards let go of it one by one.
    pub fn await_refusal(&self, addr: &str) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(addr).is_ok() {
            assert!(Instant::now() < deadline, "somebody still listens on {addr}");
            thread::yield_now();
        }
    }

    /// Waits for its end.
    pub fn end(self) -> (ExitStatus, String) {
        self.process.end()
    }
}

/// The binary, with a clean environment.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_megamux"));
    clean(&mut command);
    command
}

fn clean(command: &mut Command) {
    command.stdin(Stdio::null());
    for variable in ["MEGAMUX_LOG", "MEGAMUX_CAPS", "STATE_DIRECTORY", "XDG_STATE_HOME", "HOME", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
}

/// Runs the binary with these arguments, which end it; listeners they do not name are off.
pub fn run(args: &[&str]) -> (ExitStatus, String) {
    Process::spawn(&with_others_off(args)).end()
}

/// Runs what a command has, which ends.
pub fn run_command(command: &mut Command) -> (ExitStatus, String) {
    Process::from(command).end()
}

/// The same by way of a shell.
pub fn run_in_shell(script: &str) -> (ExitStatus, String) {
    Process::shell(script).end()
}

/// A process and the lines it says, which threads read.
struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Process {
    fn spawn(args: &[String]) -> Process {
        Process::from(command().args(args))
    }

    fn shell(script: &str) -> Process {
        let mut shell = Command::new("sh");
        clean(&mut shell);
        Process::from(shell.args(["-c", script, env!("CARGO_BIN_EXE_megamux")]))
    }

    fn from(command: &mut Command) -> Process {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Process { child, stdout, stderr }
    }

    fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            match self.stderr.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => said.push(line),
                // Both pipes close when the process ends, and not before.
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("did not end: {said:?}"),
            }
        }
        (self.child.wait().unwrap(), said.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

fn with_others_off(args: &[&str]) -> Vec<String> {
    let mut all = owned(args);
    for listener in LISTENERS {
        let option = format!("--{listener}");
        if !all.contains(&option) {
            all.extend([option, "off".to_owned()]);
        }
    }
    if !all.iter().any(|arg| arg == "--data-dir") {
        all.extend(["--data-dir".to_owned(), "none".to_owned()]);
    }
    all
}

/// An address of this machine where nobody listens.
pub fn free_addr() -> String {
    // The kernel does not give the same port to two in a row.
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().to_string()
}

/// A path that no other test uses.
pub fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("megamux-node-{}-{name}", std::process::id()))
}
