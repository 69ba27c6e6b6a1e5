//! `watch`: a command that is repeated until a key is typed.
//!
//! Owns what one repetition has said so far. Invariant: it is bounded like any answer.

use std::time::Duration;

/// How often a command is repeated, unless told otherwise.
const DEFAULT_EVERY: Duration = Duration::from_secs(2);
/// The longest time between two repetitions, in seconds.
const MAX_SECONDS: u64 = 3600;

#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) every: Duration,
    pub(crate) line: String,
    /// What this repetition has said.
    pub(crate) said: String,
}

impl Watch {
    /// `[-n SECONDS] COMMAND`
    pub(crate) fn parse(arguments: &str) -> Result<Watch, String> {
        let usage = || format!("usage: watch [-n SECONDS] COMMAND, SECONDS from 1 to {MAX_SECONDS}\n");
        let (every, line) = match arguments.strip_prefix("-n") {
            Some(rest) if rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || c.is_ascii_digit()) => {
                let (number, line) = rest.trim_start().split_once(char::is_whitespace).ok_or_else(usage)?;
                let seconds = number.parse().ok().filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
                (Duration::from_secs(seconds.ok_or_else(usage)?), line.trim())
            }
            _ => (DEFAULT_EVERY, arguments),
        };
        if line.is_empty() {
            return Err(usage());
        }
        Ok(Watch { every, line: line.to_owned(), said: String::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_time_and_a_command() {
        let check = |arguments: &str, expect: Option<(u64, &str)>| {
            let watch = Watch::parse(arguments).ok();
            let found = watch.as_ref().map(|watch| (watch.every.as_secs(), &*watch.line));
            assert_eq!(found, expect, "{arguments:?}");
        };
        check("shards", Some((2, "shards")));
        check("-n 5 conns list --limit 3", Some((5, "conns list --limit 3")));
        check("-n5 shards", Some((5, "shards")));
        check("-name", Some((2, "-name")));
        for wrong in ["", "-n", "-n 5", "-n 0 shards", "-n 3601 shards", "-n x shards"] {
            check(wrong, None);
        }
    }
}
