//! `cargo xtask setup`: it owns the list of what the suites need beyond Rust and a C linker, and installs it.
//!
//! It may be run again at any time: what is there is left alone, and then it takes no time. Only root can install Debian
//! packages; others are told which. No other verb installs anything.

use anyhow::{Context, Result};

use crate::metadata;
use crate::shell::{self, cargo, has_program, program};

/// A program the suites use, and the Debian package that has it.
struct Need {
    program: &'static str,
    package: &'static str,
}

const NEEDS: &[Need] = &[
    // Outside judges of the telnet service.
    Need { program: "telnet", package: "inetutils-telnet" },
    Need { program: "plink", package: "putty-tools" },
    // Namespaces and their faults.
    Need { program: "ip", package: "iproute2" },
    Need { program: "nft", package: "nftables" },
    // Instruction counts.
    Need { program: "valgrind", package: "valgrind" },
    // libFuzzer is C++.
    Need { program: "c++", package: "g++" },
];

const CARGO_TOOLS: &[&str] = &["cargo-nextest", "cargo-fuzz"];

pub fn run() -> Result<()> {
    let missing = missing_packages(has_program);
    if missing.is_empty() {
        println!("setup: every Debian package is there");
    } else if !is_root()? || !has_program("apt-get") {
        println!("setup: not root on Debian; tests will skip what needs: {}", missing.join(" "));
        println!("setup: to have them, run as root: apt-get install {}", missing.join(" "));
    } else {
        install_packages(&missing)?;
    }
    for tool in CARGO_TOOLS {
        if has_program(tool) {
            println!("setup: {tool} is there");
        } else {
            install_tool(tool)?;
        }
    }
    Ok(())
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
    fn root_is_the_effective_user() {
        assert_eq!(effective_uid("Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t1\n"), Some("0"));
        assert_eq!(effective_uid("Name:\tx\n"), None);
    }
}
