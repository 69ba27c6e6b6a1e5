//! Samples as counted stacks: from what `perf script` prints to lines of frames from the outermost in.

use std::collections::BTreeMap;

/// How often each stack was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stacks {
    counts: BTreeMap<Vec<String>, u64>,
}

/// What perf prints where it has no name.
const UNKNOWN: &str = "[unknown]";

impl Stacks {
    /// Reads samples: a line `name tid`, a line `address name` for each frame from the innermost out, an empty line.
    pub fn read(script: &str, by_thread: bool) -> Stacks {
        let mut stacks = Stacks::default();
        for sample in script.split("\n\n") {
            let mut lines =
                sample.lines().filter(|line| !line.starts_with('#')).skip_while(|line| line.trim().is_empty());
            let Some(head) = lines.next() else { continue };
            let mut stack: Vec<String> = lines.filter_map(frame).collect();
            if stack.is_empty() {
                continue;
            }
            if by_thread {
                stack.push(thread(head));
            }
            stack.reverse();
            stacks.add(stack, 1);
        }
        stacks
    }

    pub fn add(&mut self, stack: Vec<String>, count: u64) {
        *self.counts.entry(stack).or_default() += count;
    }

    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The share of samples whose innermost frame has no name.
    pub fn unknown(&self) -> f64 {
        let is_unknown = |stack: &&Vec<String>| stack.last().is_some_and(|frame| frame == UNKNOWN);
        let unknown: u64 = self.counts.iter().filter(|(stack, _)| is_unknown(stack)).map(|(_, count)| count).sum();
        unknown as f64 / self.total().max(1) as f64
    }

    /// In the order of frames, so that stacks with the same beginning stand together.
    pub fn iter(&self) -> impl Iterator<Item = (&[String], u64)> {
        self.counts.iter().map(|(stack, count)| (stack.as_slice(), *count))
    }
}

/// `name tid`; names have spaces.
fn thread(head: &str) -> String {
    let head = head.trim();
    head.rsplit_once(char::is_whitespace).map_or(head, |(name, _)| name.trim()).to_owned()
}

/// `address name`.
fn frame(line: &str) -> Option<String> {
    let (_, name) = line.trim().split_once(' ')?;
    Some(match name.trim() {
        "" | UNKNOWN => UNKNOWN.to_owned(),
        name => readable(name),
    })
}

/// Without the mangling perf may have left, and without the hash of Rust's older one.
fn readable(name: &str) -> String {
    let name = format!("{:#}", rustc_demangle::demangle(name));
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path.to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
# header
shard-0  811
\tffffffff9 tcp_sendmsg
\t    55d01 <a::B as c::D>::flush::h0123456789abcdef
\t    55d00 _ZN7megamux4tick17h0123456789abcdefE

shard-0  811
\tffffffff9 tcp_sendmsg
\t    55d01 <a::B as c::D>::flush::h0123456789abcdef
\t    55d00 _ZN7megamux4tick17h0123456789abcdefE

my thread  812
\t    7f001 [unknown]

shard-1  813

";

    #[test]
    fn samples_are_counted_by_stack() {
        let stacks = Stacks::read(SCRIPT, true);
        let folded: Vec<_> = stacks.iter().map(|(stack, count)| (stack.join(";"), count)).collect();
        let expect = [
            ("my thread;[unknown]".to_owned(), 1),
            ("shard-0;megamux::tick;<a::B as c::D>::flush;tcp_sendmsg".to_owned(), 2),
        ];
        assert_eq!(folded, expect);
        assert_eq!((stacks.total(), (stacks.unknown() * 3.0).round()), (3, 1.0));
        assert_eq!(Stacks::read(SCRIPT, false).iter().next().unwrap().0, ["[unknown]"]);
        assert_eq!(Stacks::read("", true).total(), 0);
    }
}
