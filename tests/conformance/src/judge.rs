//! Their end of a match: a Python program in `judges/`, and what it finds.
//!
//! A judge talks in lines: it may ask for something and waits for an answer, and its last line is its verdict, in JSON. What
//! `cargo xtask setup` installs for it lies under the build directory.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::Value;

use crate::{DEADLINE, skip};

/// What a judge found.
pub type Verdict = Value;

/// A judge at work.
#[derive(Debug)]
pub struct Judge {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Judge {
    /// Starts a program that needs what setup installs. `None` if that was not done: the test has been skipped.
    pub fn start(program: &str, arguments: &[&dyn ToString]) -> Option<Judge> {
        let python = installed();
        if !python.is_file() {
            skip("telnetlib3 is not installed");
            return None;
        }
        Judge::run(&python, program, arguments)
    }

    /// Starts a program that needs Python alone. `None` as above.
    pub fn plain(program: &str, arguments: &[&dyn ToString]) -> Option<Judge> {
        Judge::run("python3", program, arguments)
    }

    fn run(python: impl AsRef<OsStr>, program: &str, arguments: &[&dyn ToString]) -> Option<Judge> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges");
        let mut command = Command::new(python);
        // No bytecode beside the sources.
        command.arg("-B").arg(folder.join(program)).args(arguments.iter().map(|argument| argument.to_string()));
        let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                skip("python3 is not installed");
                return None;
            }
            Err(error) => panic!("{command:?}: {error}"),
        };
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test may have what it wanted.
                let _ = send.send(line);
            }
        });
        Some(Judge { child, input, lines })
    }

    /// The next line it says.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("the judge says something in time, and what went wrong on stderr")
    }

    /// Answers it.
    #[track_caller]
    pub fn answer(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the judge listens");
    }

    /// Its last line.
    #[track_caller]
    pub fn verdict(&mut self) -> Verdict {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("a verdict: {line}"))
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python that setup makes: TARGET/setup/python, where a test is in TARGET/PROFILE/deps.
fn installed() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(3).expect("cargo put it there");
    target.join("setup/python/bin/python")
}
