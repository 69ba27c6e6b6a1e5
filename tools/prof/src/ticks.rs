//! `/trace` as numbers: a stretch of one shard's timeline.
//!
//! Invariant: a text that is not exactly what this version knows is refused, never half understood.

use megamux_client::{Client, ClientError};

/// The phases of a tick, in order.
pub const PHASES: [&str; 6] = ["enter", "reap", "dispatch", "service", "resume", "flush"];
const COLUMNS: &str = "tick entered enter reap dispatch service resume flush enters submissions completions phases";
/// As many ticks as one answer has at most: then there are more.
const MOST: usize = 1024;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stretch {
    pub process: u32,
    pub shards: u16,
    pub answered_by: u16,
    pub shard: u16,
    pub next: u64,
    pub lost: u64,
    pub ticks: Vec<Tick>,
}

/// Times are nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tick {
    pub number: u64,
    /// On the engine's clock.
    pub entered: u64,
    /// When each phase ended, after `entered`.
    pub ends: [u64; PHASES.len()],
    pub enters: u64,
    pub submissions: u64,
    pub completions: u64,
    pub has_phases: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the server's /trace is of another version than this program: {0}")]
    Foreign(&'static str),
}

impl Tick {
    /// How long it worked, its wait in the kernel aside.
    pub fn work(&self) -> u64 {
        self.ends[PHASES.len() - 1] - self.ends[0]
    }

    /// The phase that took longest, its wait aside, and how long.
    pub fn longest_phase(&self) -> (&'static str, u64) {
        if !self.has_phases {
            return ("work", self.work());
        }
        let span = |phase: usize| (PHASES[phase], self.ends[phase] - self.ends[phase - 1]);
        (1..PHASES.len()).map(span).max_by_key(|(_, span)| *span).unwrap_or_default()
    }
}

impl Stretch {
    /// Asks for ticks of a shard (of the one that answers) from a number on (those to come: none yet, but where they begin).
    pub fn get(client: &mut Client, shard: Option<u16>, from: Option<u64>) -> Result<Stretch, TraceError> {
        Stretch::read(&client.get(&Stretch::path(shard, from))?)
    }

    pub fn path(shard: Option<u16>, from: Option<u64>) -> String {
        let shard = shard.map(|shard| format!("shard={shard}"));
        let from = from.map(|from| format!("from={from}"));
        let query: Vec<String> = shard.into_iter().chain(from).collect();
        format!("/trace?{}", query.join("&"))
    }

    pub fn read(text: &str) -> Result<Stretch, TraceError> {
        let (head, lines) = text.split_once("\n\n").ok_or(TraceError::Foreign("no head"))?;
        let word = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.ok_or(TraceError::Foreign("a word is missing"))
        };
        let number = |name: &str| -> Result<u64, TraceError> {
            word(name)?.parse().map_err(|_| TraceError::Foreign("a word is no number"))
        };
        if word("columns")? != COLUMNS {
            return Err(TraceError::Foreign("other columns"));
        }
        let ticks = lines.lines().map(|line| Tick::read(line).ok_or(TraceError::Foreign("a line is no tick")));
        Ok(Stretch {
            process: number("process")? as u32,
            shards: number("shards")? as u16,
            answered_by: number("answered_by")? as u16,
            shard: number("shard")? as u16,
            next: number("next")?,
            lost: number("lost")?,
            ticks: ticks.collect::<Result<_, _>>()?,
        })
    }

    /// Whether there was more to tell.
    pub fn is_full(&self) -> bool {
        self.ticks.len() + self.lost as usize >= MOST
    }
}

impl Tick {
    fn read(line: &str) -> Option<Tick> {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let tick = Tick {
            number: next()?,
            entered: next()?,
            ends: [next()?, next()?, next()?, next()?, next()?, next()?],
            enters: next()?,
            submissions: next()?,
            completions: next()?,
            has_phases: next()? != 0,
        };
        (numbers.next().is_none() && tick.ends.is_sorted()).then_some(tick)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const TEXT: &str = "\
process 77
shards 2
answered_by 1
shard 0
now 99000
next 12
lost 3
columns tick entered enter reap dispatch service resume flush enters submissions completions phases

10 5000 100 150 400 500 510 900 1 3 4 1
11 5900 2000 2000 2000 2000 2000 2500 2 0 0 0
";

    #[test]
    fn a_stretch_is_read_whole() {
        let stretch = Stretch::read(TEXT).unwrap();
        assert_eq!((stretch.process, stretch.shards, stretch.answered_by, stretch.shard), (77, 2, 1, 0));
        assert_eq!((stretch.next, stretch.lost, stretch.ticks.len()), (12, 3, 2));
        let [first, second] = [stretch.ticks[0], stretch.ticks[1]];
        assert_eq!((first.number, first.completions, first.work()), (10, 4, 800));
        assert_eq!((first.longest_phase(), second.longest_phase()), (("flush", 390), ("work", 500)));
        assert!(!stretch.is_full());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for wrong in [
            TEXT.replace("lost", "gone"),
            TEXT.replace(" phases\n", " phases more\n"),
            TEXT.replace("150 400", "400 150"),
            TEXT.replace("11 5900", "x 5900"),
            TEXT.replace("3 4 1\n", "3 4 1 1\n"),
            String::new(),
        ] {
            assert!(matches!(Stretch::read(&wrong), Err(TraceError::Foreign(_))), "{wrong}");
        }
    }
}
