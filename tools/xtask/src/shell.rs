//! Running other programs: this file owns how xtask finds, starts and listens to a child process.
//!
//! Every child starts in the repository's root, and a child that fails is an `Err` that names its command line. Nothing
//! here decides what to run.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// All of the workspace, with what no default build has and tests are to reach. Not all features: some are there to break things.
pub const WORKSPACE: [&str; 3] = ["--workspace", "--features", "megamux-engine/tokio-uring"];

/// The repository's root. Asked at run time first, so that a build directory shared by two checkouts does not confuse them.
pub fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).ancestors().nth(2).expect("xtask lives in tools/xtask").to_path_buf()
}

/// The cargo that runs this xtask, started in the root.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = program(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(args);
    command
}

pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    command
}

/// Runs to the end with our own output streams.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// What a child wrote on both streams, in order, and whether it succeeded.
pub struct Heard {
    pub text: String,
    pub success: bool,
}

/// Runs to the end, repeating each line on stdout as it comes and keeping it.
pub fn listen(command: Command) -> Result<Heard> {
    hear(command, |line| {
        // A closed stdout must not stop the run: the count and the exit status still matter.
        let _ = std::io::stdout().write_all(line);
    })
}

/// Runs to the end, showing the output only if it failed.
pub fn run_quietly(command: Command) -> Result<()> {
    let name = line(&command);
    let heard = hear(command, |_| ())?;
    if !heard.success {
        print!("{}", heard.text);
        bail!("`{name}` failed");
    }
    Ok(())
}

fn hear(mut command: Command, mut each: impl FnMut(&[u8])) -> Result<Heard> {
    let name = line(&command);
    let (reader, writer) = std::io::pipe()?;
    command.stdin(std::process::Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
    // The command holds our copies of the pipe's write end; without this the read below never ends.
    drop(command);

    let mut text = Vec::new();
    let mut reader = BufReader::new(reader);
    loop {
        let start = text.len();
        if reader.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        each(&text[start..]);
    }
    let success = child.wait()?.success();
    Ok(Heard { text: String::from_utf8_lossy(&text).into_owned(), success })
}

/// Whether a program is installed. Beside PATH it looks where Debian keeps what only root runs, and where cargo itself looks
/// for its subcommands.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .chain(cargo_home().map(|home| home.join("bin")))
        .any(|folder| folder.join(name).is_file())
}

fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")))
}

pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_keeps_both_streams_and_the_status() {
        let mut command = program("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let heard = hear(command, |_| ()).unwrap();
        assert!(heard.text.contains("out\n") && heard.text.contains("err\n"));
        assert!(!heard.success);
    }

    #[test]
    fn a_failure_names_the_command_line() {
        let error = run(program("false").arg("--now")).unwrap_err();
        assert!(error.to_string().contains("`false --now` failed"), "{error}");
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("tools/xtask/Cargo.toml").is_file());
    }
}
