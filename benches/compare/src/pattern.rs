//! The bytes that are sent.
//!
//! Invariant: every connection's stream is its own walk through one pattern, so bytes lost, doubled, swapped or delivered
//! to a neighbour do not match. A run starts anywhere and never wraps.

use std::sync::LazyLock;

use crate::method::Random;

/// The longest run that can be asked for.
const RUN: usize = 256 << 10;

/// Prime, so no message size divides it.
const NOISE: usize = 65_521;

/// Bytes of a line, with its end, and lines before they repeat: prime too.
pub const LINE: usize = 64;
const LINES: usize = 1_021;

/// Neighbours start so many steps apart.
const APART: usize = 7_919;

/// Endless bytes.
pub struct Pattern {
    /// One period, and as much again as the longest run.
    bytes: Box<[u8]>,
    period: usize,
    /// Where streams may start: at its multiples.
    step: usize,
}

impl Pattern {
    /// Pseudo-random bytes.
    pub fn noise() -> &'static Pattern {
        static PATTERN: LazyLock<Pattern> = LazyLock::new(|| {
            let mut random = Random::new(1);
            Pattern::repeat((0..NOISE).map(|_| random.next() as u8).collect(), 1)
        });
        &PATTERN
    }

    /// Lines of text, each [`LINE`] bytes long with its CR LF.
    pub fn lines() -> &'static Pattern {
        static PATTERN: LazyLock<Pattern> = LazyLock::new(|| {
            let mut random = Random::new(1);
            let mut line = || {
                let mut line: Vec<u8> = (0..LINE - 2).map(|_| b' ' + random.below(95) as u8).collect();
                line.extend_from_slice(b"\r\n");
                line
            };
            Pattern::repeat((0..LINES).flat_map(|_| line()).collect(), LINE)
        });
        &PATTERN
    }

    fn repeat(period: Vec<u8>, step: usize) -> Self {
        let bytes = period.iter().copied().cycle().take(period.len() + RUN).collect();
        Self { bytes, period: period.len(), step }
    }

    /// `len` bytes from `position` on.
    pub fn run(&self, position: usize, len: usize) -> &[u8] {
        assert!(len <= RUN, "a run of {len} bytes is longer than the pattern");
        let start = position % self.period;
        &self.bytes[start..start + len]
    }

    /// Where connection `index` starts, so that neighbours differ.
    pub fn start(&self, index: usize) -> usize {
        index * APART * self.step % self.period
    }

    /// The position `len` bytes after `position`.
    pub fn after(&self, position: usize, len: usize) -> usize {
        (position + len) % self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_a_stream_starts() {
        let lines = Pattern::lines();
        for index in 0..2_000 {
            let line = lines.run(lines.start(index), LINE);
            assert!(line.ends_with(b"\r\n"));
            assert!(line[..LINE - 2].iter().all(|byte| (b' '..=b'~').contains(byte)), "{line:?}");
        }
    }

    #[test]
    fn a_walk_continues_where_it_stopped() {
        for pattern in [Pattern::noise(), Pattern::lines()] {
            let mut at = pattern.start(3);
            for len in [1, RUN, 64, 100, RUN - 1] {
                let both = pattern.run(at, len).to_vec();
                let middle = len / 2;
                assert_eq!(pattern.run(pattern.after(at, middle), len - middle), &both[middle..]);
                at = pattern.after(at, len);
            }
        }
    }

    #[test]
    fn neighbours_differ() {
        for pattern in [Pattern::noise(), Pattern::lines()] {
            let starts: std::collections::HashSet<_> = (0..500).map(|index| pattern.start(index)).collect();
            assert_eq!(starts.len(), 500);
        }
    }
}
