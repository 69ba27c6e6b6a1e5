//! Other people's programs as clients: this file owns their process, on pipes or on a terminal, and what they show.
//!
//! Invariant: a program that is dropped is ended.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::wait::wait_for_end;
use crate::{DEADLINE, Deadline, skip};

/// A program that a person would sit in front of.
#[derive(Debug)]
pub struct Program {
    child: Child,
    input: Option<File>,
    output: Receiver<Vec<u8>>,
    /// Shown and not asked for yet.
    shown: Vec<u8>,
}

impl Program {
    /// Debian's telnet on a terminal of its own. `None` if it is not installed: the test has been skipped.
    pub fn telnet(addr: SocketAddr) -> Option<Program> {
        let mut command = Command::new("telnet");
        command.arg(addr.ip().to_string()).arg(addr.port().to_string());
        Program::on_terminal(command)
    }

    /// PuTTY's plink on pipes, with the protocol given as its option. `None` as above.
    pub fn plink(protocol: &str, addr: SocketAddr) -> Option<Program> {
        let mut command = Command::new("plink");
        command.args(["-batch", protocol, "-P", &addr.port().to_string()]);
        command.arg(addr.ip().to_string());
        Program::on_pipes(command)
    }

    fn on_pipes(mut command: Command) -> Option<Program> {
        let (output, writer) = std::io::pipe().expect("a pipe");
        let both = writer.try_clone().expect("a descriptor");
        command.stdin(Stdio::piped()).stdout(writer).stderr(both);
        let mut child = spawn(command)?;
        let input = OwnedFd::from(child.stdin.take().expect("piped"));
        Some(Program::new(child, File::from(input), output))
    }

    fn on_terminal(mut command: Command) -> Option<Program> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal of our own");
        unlockpt(&master).expect("a terminal of our own");
        let path = ptsname(&master, Vec::new()).expect("a terminal has a name");
        let path = path.to_str().expect("a plain name");
        let slave = OpenOptions::new().read(true).write(true).open(path);
        let slave = slave.expect("the terminal opens");
        let end = || slave.try_clone().expect("a descriptor");
        command.env("TERM", "dumb").stdin(end()).stdout(end()).stderr(end());
        let child = spawn(command)?;
        let master = File::from(master);
        let output = master.try_clone().expect("a descriptor");
        Some(Program::new(child, master, output))
    }

    fn new(child: Child, input: File, output: impl Read + Send + 'static) -> Program {
        Program { child, input: Some(input), output: chunks(output), shown: Vec::new() }
    }

    /// Types a line.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input is open");
        writeln!(input, "{line}").expect("the program reads");
    }

    /// Waits until the text shows; gives all that was shown up to it, since the text of the last call.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Deadline::after(DEADLINE);
        loop {
            let found = self.shown.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let rest = self.shown.split_off(at + text.len());
                let before = std::mem::replace(&mut self.shown, rest);
                return String::from_utf8_lossy(&before).into_owned();
            }
            let what = || format!("{text:?} shows, behind {:?}", String::from_utf8_lossy(&self.shown));
            match self.output.recv_timeout(deadline.left(&what())) {
                Ok(chunk) => self.shown.extend(chunk),
                Err(_) => panic!("the program ends, or it is not in time: {}", what()),
            }
        }
    }

    /// Waits until the program has ended by itself. Its input ends too: a raw connection is over when both sides are.
    #[track_caller]
    pub fn ends(&mut self) {
        self.input = None;
        let ended = wait_for_end(&mut self.child, DEADLINE);
        let ended = ended.unwrap_or_else(|| panic!("the program does not end: {self:?}"));
        assert!(ended.code().is_some(), "{ended}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(mut command: Command) -> Option<Child> {
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let program = command.get_program().to_string_lossy();
            skip(&format!("{program} is not installed"));
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// The bytes of a stream, as they come. A terminal ends with an error (EIO) when its last program does.
fn chunks(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(bytes @ 1..) = stream.read(&mut chunk) {
            let _ = send.send(chunk[..bytes].to_vec());
        }
    });
    receive
}
