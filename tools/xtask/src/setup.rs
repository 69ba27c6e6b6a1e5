//! `cargo xtask setup`: it owns the list of what the suites need beyond Rust and a C linker, and installs it.
//!
//! It may be run again at any time: what is there is left alone, and then it takes no time. Only root can install Debian
//! packages; others are told which. It also mounts the kernel's tracepoints, where nobody has. No other verb installs anything.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata;
use crate::shell::{self, cargo, has_program, program};

/// A program the suites use, and the Debian package that has it.
struct Need {
    program: &'static str,
    package: &'static str,
}

const NEEDS: &[Need] = &[
    // The server as nobody, with little locked memory.
    Need { program: "setpriv", package: "util-linux" },
    Need { program: "prlimit", package: "util-linux" },
    // Outside judges of the telnet service.
    Need { program: "telnet", package: "inetutils-telnet" },
    Need { program: "plink", package: "putty-tools" },
    // Namespaces and their faults.
    Need { program: "ip", package: "iproute2" },
    Need { program: "nft", package: "nftables" },
    // Samples of a running server.
    Need { program: "perf", package: "linux-perf" },
    // The kernel's side of a running server's rings.
    Need { program: "bpftrace", package: "bpftrace" },
    // Instruction counts.
    Need { program: "valgrind", package: "valgrind" },
    // libFuzzer is C++.
    Need { program: "c++", package: "g++" },
    // Judges in Python, and a place of their own for what they need of its packages.
    Need { program: PYTHON, package: "python3-venv" },
];

const PYTHON: &str = "python3";

const TRACEFS: &str = "/sys/kernel/tracing";

/// What the judges need, with versions.
const REQUIREMENTS: &str = "tests/conformance/judges/requirements.txt";

const CARGO_TOOLS: &[&str] = &["cargo-nextest", "cargo-fuzz"];

pub fn run() -> Result<()> {
    let missing = missing_packages(|name| if name == PYTHON { has_venv() } else { has_program(name) });
    if missing.is_empty() {
        println!("setup: every Debian package is there");
    } else if !is_root()? || !has_program("apt-get") {
        println!("setup: not root on Debian; tests will skip what needs: {}", missing.join(" "));
        println!("setup: to have them, run as root: apt-get install {}", missing.join(" "));
    } else {
        install_packages(&missing)?;
    }
    mount_tracefs()?;
    for tool in CARGO_TOOLS {
        if has_program(tool) {
            println!("setup: {tool} is there");
        } else {
            install_tool(tool)?;
        }
    }
    if has_venv() {
        install_judges()?;
    } else {
        println!("setup: no Python with venv; tests will skip what needs it");
    }
    Ok(())
}

/// Debian has Python without it.
fn has_venv() -> bool {
    has_program(PYTHON) && succeeds(program(PYTHON).args(["-c", "import ensurepip, venv"]))
}

fn missing_packages(has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    NEEDS.iter().filter(|need| !has(need.program)).map(|need| need.package).collect()
}

fn install_packages(packages: &[&str]) -> Result<()> {
    println!("setup: installing {}", packages.join(" "));
    let apt = |args: &[&str]| {
        let mut command = program("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        shell::run(&mut command)
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-qq", "--yes", "--no-install-recommends"], packages].concat())
}

fn install_tool(tool: &str) -> Result<()> {
    println!("setup: installing {tool}");
    // Kept in the build directory, so that a broken download or a second machine image need not start from nothing.
    let folder = metadata::target_directory()?.join("setup");
    shell::run(cargo(&["install", "--locked", "--quiet", tool]).arg("--target-dir").arg(folder))
}

/// A Python of the build directory, where `tests/conformance` looks for it, with the packages of the judges.
fn install_judges() -> Result<()> {
    let folder = metadata::target_directory()?.join("setup/python");
    let python = folder.join("bin/python");
    let python = python.to_str().context("the build directory has a plain name")?;
    // Half an installation has no pip yet.
    if !succeeds(program(python).args(["-m", "pip", "--version"])) {
        shell::run(program(PYTHON).args(["-m", "venv", "--clear"]).arg(&folder))?;
    }
    if is_installed(python)? {
        println!("setup: what judges in Python need is there");
        return Ok(());
    }
    println!("setup: installing {REQUIREMENTS}");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS];
    shell::run(program(python).args(install))
}

/// Asked without the network.
fn is_installed(python: &str) -> Result<bool> {
    let output = program(python).args(["-m", "pip", "freeze", "--disable-pip-version-check"]).output()?;
    if !output.status.success() {
        bail!("pip does not say what is installed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let wanted = std::fs::read_to_string(shell::root().join(REQUIREMENTS))?;
    Ok(is_among(&wanted, &String::from_utf8_lossy(&output.stdout)))
}

fn is_among(wanted: &str, installed: &str) -> bool {
    wanted.lines().all(|line| installed.lines().any(|known| known == line))
}

/// bpftrace needs the kernel's tracepoints to be seen, and not every machine mounts them when it starts.
fn mount_tracefs() -> Result<()> {
    if Path::new(TRACEFS).join("events").exists() {
        println!("setup: {TRACEFS} is mounted");
    } else if is_root()? && succeeds(program("mount").args(["-t", "tracefs", "tracefs", TRACEFS])) {
        println!("setup: mounted {TRACEFS}");
    } else {
        println!("setup: {TRACEFS} cannot be mounted, which takes root; tests will skip what needs it");
    }
    Ok(())
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn is_root() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    Ok(effective_uid(&status) == Some("0"))
}

/// `Uid: real effective saved filesystem`, proc_pid_status(5).
fn effective_uid(status: &str) -> Option<&str> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert!(missing_packages(|_| true).is_empty());
        assert_eq!(missing_packages(|program| program != "plink"), ["putty-tools"]);
    }

    #[test]
    fn packages_are_there_in_the_version_wanted() {
        assert!(is_among("a==1\nb==2\n", "b==2\nc==3\na==1\n"));
        assert!(!is_among("a==1\n", "a==2\n"));
    }

    #[test]
    fn root_is_the_effective_user() {
        assert_eq!(effective_uid("Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t1\n"), Some("0"));
        assert_eq!(effective_uid("Name:\tx\n"), None);
    }
}
