//! The stages of a run: this file owns how a stage is announced, timed and judged, and the table at the end.
//!
//! A failed stage never hides a later one: every stage that can still say something runs, and the run fails at the end.
//! Colours are for terminals only.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How a stage ended when it did not fail.
pub enum Done {
    Passed,
    /// There was nothing to do (no fuzz target exists yet). Not a skip: the machine lacks nothing.
    Nothing(String),
    /// The machine lacks something. A failure when everything is required.
    Skipped(String),
}

enum Verdict {
    Passed,
    Nothing(String),
    Skipped(String),
    Failed,
}

struct Stage {
    name: String,
    verdict: Verdict,
    took: Duration,
}

pub struct Report {
    stages: Vec<Stage>,
    paint: Paint,
}

impl Report {
    pub fn new() -> Self {
        Self { stages: Vec::new(), paint: Paint::for_stdout() }
    }

    /// Runs one stage and says whether it did not fail.
    pub fn stage(&mut self, name: &str, work: impl FnOnce() -> Result<Done>) -> bool {
        println!("{}", self.paint.bold(&format!("==> {name}")));
        let start = Instant::now();
        let verdict = match work() {
            Ok(Done::Passed) => Verdict::Passed,
            Ok(Done::Nothing(why)) => Verdict::Nothing(why),
            Ok(Done::Skipped(why)) => {
                eprintln!("SKIP: {name}: {why}");
                Verdict::Skipped(why)
            }
            Err(error) => {
                println!("{}", self.paint.red(&format!("{name}: {error:#}")));
                Verdict::Failed
            }
        };
        let passed = !matches!(verdict, Verdict::Failed);
        self.stages.push(Stage { name: name.into(), verdict, took: start.elapsed() });
        passed
    }

    /// The skips of xtask's own, as `stage: reason`.
    pub fn skips(&self) -> Vec<String> {
        let skip = |stage: &Stage| match &stage.verdict {
            Verdict::Skipped(why) => Some(format!("{}: {why}", stage.name)),
            _ => None,
        };
        self.stages.iter().filter_map(skip).collect()
    }

    /// Prints the time of each stage.
    pub fn print(&self) {
        let width = self.stages.iter().map(|stage| stage.name.len()).max().unwrap_or(0);
        println!();
        for Stage { name, verdict, took } in &self.stages {
            let verdict = match verdict {
                Verdict::Passed => self.paint.green("ok"),
                Verdict::Nothing(why) => format!("nothing to do: {why}"),
                Verdict::Skipped(why) => self.paint.yellow(&format!("SKIPPED: {why}")),
                Verdict::Failed => self.paint.red("FAILED"),
            };
            println!("{name:width$}  {:>7.2} s  {verdict}", took.as_secs_f64());
        }
    }

    /// An error that names the failed stages, if there are any.
    pub fn verdict(&self) -> Result<()> {
        let failed: Vec<&str> = self
            .stages
            .iter()
            .filter(|stage| matches!(stage.verdict, Verdict::Failed))
            .map(|stage| stage.name.as_str())
            .collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

/// Colours, or the plain text where nobody sees them.
struct Paint {
    enabled: bool,
}

impl Paint {
    fn for_stdout() -> Self {
        Self { enabled: colours() }
    }

    fn code(&self, code: u8, text: &str) -> String {
        if self.enabled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.code(1, text)
    }

    fn red(&self, text: &str) -> String {
        self.code(31, text)
    }

    fn green(&self, text: &str) -> String {
        self.code(32, text)
    }

    fn yellow(&self, text: &str) -> String {
        self.code(33, text)
    }
}

/// Whether to colour: only on a terminal, and never against the NO_COLOR convention.
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_stage_is_named_and_does_not_hide_the_next() {
        let mut report = Report { stages: Vec::new(), paint: Paint { enabled: false } };
        assert!(!report.stage("docs", || bail!("a broken link")));
        assert!(report.stage("fuzz", || Ok(Done::Skipped("no cargo-fuzz".into()))));
        assert!(report.stage("loom", || Ok(Done::Nothing("no models".into()))));
        assert!(report.stage("tests", || Ok(Done::Passed)));
        assert_eq!(report.skips(), ["fuzz: no cargo-fuzz"]);
        assert_eq!(report.verdict().unwrap_err().to_string(), "failed: docs");
    }

    #[test]
    fn plain_text_has_no_escapes() {
        assert_eq!(Paint { enabled: false }.red("no"), "no");
        assert_eq!(Paint { enabled: true }.red("no"), "\x1b[31mno\x1b[0m");
    }
}
