//! What the test runners counted: this file owns reading the closing lines of cargo-nextest and of `cargo test`.
//!
//! A count is read or it is absent; it is never guessed, so a runner that changes its closing line fails the run instead
//! of reporting a number nobody counted.

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    /// Tests the runner knew and did not run.
    pub skipped: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Moves tests that said they skipped, and so ended well for the runner, from passed to skipped.
    pub fn with_skips(self, skips: u64) -> Counts {
        Counts { passed: self.passed.saturating_sub(skips), skipped: self.skipped + skips, ..self }
    }
}

/// nextest: `Summary [   0.04s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 2 skipped`.
pub fn nextest(output: &str) -> Option<Counts> {
    let plain = without_escapes(output);
    let line = plain.lines().rev().find(|line| line.trim_start().starts_with("Summary ["))?;
    let (_, counts) = line.split_once(" run: ")?;
    let mut sum = Counts::default();
    for (number, what) in numbers(counts) {
        match what {
            "passed" => sum.passed += number,
            "skipped" => sum.skipped += number,
            // failed, timed out, exec failed
            _ => sum.failed += number,
        }
    }
    Some(sum)
}

/// `cargo test`, one line a binary: `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`.
pub fn cargo_test(output: &str) -> Option<Counts> {
    let plain = without_escapes(output);
    let mut sum = None;
    for line in plain.lines() {
        // Not at the start of the line: a test that prints without a newline shares it.
        let Some((_, result)) = line.split_once("test result: ") else {
            continue;
        };
        let Some((_, counts)) = result.split_once(". ") else {
            continue;
        };
        let sum: &mut Counts = sum.get_or_insert_default();
        for (number, what) in numbers(counts) {
            match what {
                "passed" => sum.passed += number,
                "failed" => sum.failed += number,
                "ignored" => sum.skipped += number,
                _ => (),
            }
        }
    }
    sum
}

/// `3 passed (1 slow), 1 timed out` gives (3, "passed"), (1, "timed out").
fn numbers(counts: &str) -> impl Iterator<Item = (u64, &str)> {
    counts.split([',', ';']).filter_map(|part| {
        let (number, what) = part.trim().split_once(' ')?;
        // A remark such as `(1 slow, 1 flaky)` is about the tests already counted; its second half ends in `)`.
        let what = what.split(" (").next()?.trim();
        (!what.ends_with(')')).then_some(())?;
        Some((number.parse().ok()?, what))
    })
}

fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            // A colour: ESC [ digits m.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Option<Counts> {
        Some(Counts { passed, failed, skipped })
    }

    #[test]
    fn nextest_summaries() {
        let check = |line: &str, expect| assert_eq!(nextest(line), expect, "{line}");
        check("     Summary [   0.005s] 3 tests run: 3 passed, 0 skipped\n", counts(3, 0, 0));
        check("Summary [1s] 1 test run: 1 passed, 2 skipped\nerror: later words", counts(1, 0, 2));
        check("Summary [1s] 5/9 tests run: 2 passed, 1 failed, 1 timed out, 1 exec failed, 4 skipped", counts(2, 3, 4));
        check("Summary [1s] 5 tests run: 5 passed (1 slow, 1 flaky), 0 skipped", counts(5, 0, 0));
        check(
            "\x1b[32;1m     Summary\x1b[0m [ 1s] \x1b[1m3\x1b[0m tests run: \x1b[1m3\x1b[0m passed, 0 skipped",
            counts(3, 0, 0),
        );
        check("error: could not compile", None);
    }

    #[test]
    fn cargo_test_results_are_summed() {
        let line = |p, f, i| {
            format!(
                "test result: ok. {p} passed; {f} failed; {i} ignored; 0 measured; 7 filtered out; finished in 0.00s\n"
            )
        };
        assert_eq!(cargo_test(&(line(3, 0, 1) + "noise\n" + &line(2, 1, 0))), counts(5, 1, 1));
        assert_eq!(cargo_test("error: could not compile"), None);
    }

    #[test]
    fn a_test_that_skipped_itself_did_not_pass() {
        let sum = Counts { passed: 5, failed: 1, skipped: 1 };
        assert_eq!(sum.with_skips(2), Counts { passed: 3, failed: 1, skipped: 3 });
    }
}
