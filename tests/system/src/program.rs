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

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

use crate::wait::{wait_for_end, wait_until};
use crate::{DEADLINE, Deadline, skip};

/// Ctrl-].
const TELNET_ESCAPE: u8 = 0x1d;

/// What a program takes from its terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    Lines,
    Keys,
}

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
        Program::telnet_on(addr, "dumb", (0, 0))
    }

    /// The same on a terminal of this name, with so many columns and rows.
    pub fn telnet_on(addr: SocketAddr, terminal: &str, size: (u16, u16)) -> Option<Program> {
        let mut command = Command::new("telnet");
        command.arg(addr.ip().to_string()).arg(addr.port().to_string()).env("TERM", terminal);
        Program::on_terminal(command, size)
    }

    /// PuTTY's plink on pipes, with the protocol given as its option. `None` as above.
    pub fn plink(protocol: &str, addr: SocketAddr) -> Option<Program> {
        let mut command = Command::new("plink");
        command.args(["-batch", protocol, "-P", &addr.port().to_string()]);
        command.arg(addr.ip().to_string());
        Program::on_pipes(command)
    }

    /// The same on a terminal of so many columns and rows.
    pub fn plink_on(addr: SocketAddr, size: (u16, u16)) -> Option<Program> {
        let mut command = Command::new("plink");
        command.args(["-telnet", "-P", &addr.port().to_string()]).arg(addr.ip().to_string());
        Program::on_terminal(command, size)
    }

    fn on_pipes(mut command: Command) -> Option<Program> {
        let (output, writer) = std::io::pipe().expect("a pipe");
        let both = writer.try_clone().expect("a descriptor");
        command.stdin(Stdio::piped()).stdout(writer).stderr(both);
        let mut child = spawn(command)?;
        let input = OwnedFd::from(child.stdin.take().expect("piped"));
        Some(Program::new(child, File::from(input), output))
    }

    fn on_terminal(mut command: Command, size: (u16, u16)) -> Option<Program> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal of our own");
        unlockpt(&master).expect("a terminal of our own");
        let path = ptsname(&master, Vec::new()).expect("a terminal has a name");
        let path = path.to_str().expect("a plain name");
        let slave = OpenOptions::new().read(true).write(true).open(path);
        let slave = slave.expect("the terminal opens");
        let end = || slave.try_clone().expect("a descriptor");
        tcsetwinsize(&master, winsize(size)).expect("a terminal has a size");
        command.stdin(end()).stdout(end()).stderr(end());
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
        self.type_keys(&format!("{line}\n"));
    }

    /// Types keys, as a terminal sends them.
    #[track_caller]
    pub fn type_keys(&mut self, keys: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(keys.as_bytes()).expect("the program reads");
    }

    /// Waits until its terminal shows what is typed, or does not.
    #[track_caller]
    pub fn waits_until_typing_shows(&self, shows: bool) {
        let terminal = self.input.as_ref().expect("the input is open");
        let set = || tcgetattr(terminal).expect("a terminal has modes").local_modes.contains(LocalModes::ECHO);
        let asked = || {
            thread::yield_now();
            set() == shows
        };
        wait_until(&format!("typing shows: {shows}"), asked);
    }

    /// Waits until Debian's telnet is back at its connection and takes whole lines from its terminal, or single keys.
    ///
    /// It changes its terminal's modes in steps; what is typed meanwhile is taken by the modes that happen to be set.
    /// While it is at its connection, its escape key ends a line, which it does not at telnet's own prompt.
    #[track_caller]
    pub fn waits_until_telnet_takes(&mut self, what: Typed) {
        let lines = what == Typed::Lines;
        let terminal = self.input.as_ref().expect("the input is open");
        let taken = || {
            thread::yield_now();
            let modes = tcgetattr(terminal).expect("a terminal has modes");
            let connected = modes.special_codes[SpecialCodeIndex::VEOL] == TELNET_ESCAPE;
            modes.local_modes.contains(LocalModes::ICANON) == lines && (connected || !lines)
        };
        wait_until(&format!("telnet takes {what:?}"), taken);
    }

    /// Gives its terminal another size, and tells it as the kernel tells who has the terminal for its own.
    #[track_caller]
    pub fn resize(&self, size: (u16, u16)) {
        let terminal = self.input.as_ref().expect("the input is open");
        tcsetwinsize(terminal, winsize(size)).expect("a terminal has a size");
        kill_process(Pid::from_child(&self.child), Signal::WINCH).expect("the program lives");
    }

    /// Waits until the text shows; gives all that was shown up to it, since the text of the last call.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        self.expect_any(&[text]).1
    }

    /// The same for the first of several texts; says which.
    #[track_caller]
    pub fn expect_any<'t>(&mut self, texts: &[&'t str]) -> (&'t str, String) {
        let deadline = Deadline::after(DEADLINE);
        loop {
            let find = |text: &str| self.shown.windows(text.len()).position(|window| window == text.as_bytes());
            let found = texts.iter().filter_map(|&text| Some((find(text)?, text))).min();
            if let Some((at, text)) = found {
                let rest = self.shown.split_off(at + text.len());
                let before = std::mem::replace(&mut self.shown, rest);
                return (text, String::from_utf8_lossy(&before).into_owned());
            }
            let what = || format!("{texts:?} shows, behind {:?}", String::from_utf8_lossy(&self.shown));
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

fn winsize((columns, rows): (u16, u16)) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
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
