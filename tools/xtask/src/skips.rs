//! Skipped tests: this file owns the file in which every test process says that it skipped, and why.
//!
//! The convention is in CONTRIBUTING.md: a test that lacks a program or kernel feature appends one line to the file named
//! by `MEGAMUX_SKIP_FILE` and returns. With `MEGAMUX_REQUIRE_ALL=1` it panics instead, and xtask's own skips fail the run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub const FILE_VARIABLE: &str = "MEGAMUX_SKIP_FILE";
pub const REQUIRE_VARIABLE: &str = "MEGAMUX_REQUIRE_ALL";

/// Whether a skip is a failure in this run.
pub fn all_required() -> bool {
    std::env::var(REQUIRE_VARIABLE).is_ok_and(|value| value == "1")
}

pub struct SkipFile {
    path: PathBuf,
}

impl SkipFile {
    /// Starts an empty file, so that an earlier run's skips are not this one's.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("skips.txt");
        std::fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One line per skipped test, in the order they ended.
    pub fn read(&self) -> Result<Vec<String>> {
        let text = std::fs::read(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(lines(&String::from_utf8_lossy(&text)))
    }
}

/// A test that says the same twice skipped once.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !lines.iter().any(|seen| seen == line) {
            lines.push(line.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_counts_once() {
        assert_eq!(lines("a: no telnet\n\nb: no plink\na: no telnet\n"), ["a: no telnet", "b: no plink"]);
    }
}
