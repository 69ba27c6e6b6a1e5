//! Documents that name files and tests: this file owns the rule that what they name exists.
//!
//! A path is one in a link, or one in backticks that starts in one of our rooms. Other projects' paths start elsewhere. Tests
//! are named in backticks in the last column of a table, where its heading is "proven by".

use super::Problem;

const ROOMS: [&str; 12] = [
    "engine",
    "protocols",
    "services",
    "tools",
    "tests",
    "benches",
    "docs",
    "fuzz",
    "examples",
    ".ci",
    ".cargo",
    ".config",
];

/// Paths with another ending in a room's name belong to another project (liburing has examples, too).
const ENDINGS: [&str; 7] = ["rs", "md", "toml", "txt", "sh", "py", "svg"];

/// `exists` is asked for paths from the root.
pub fn check(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        let missing = |name: &str| Problem::new(path, number, format!("{name} does not exist: correct the path"));
        for name in line.split('`').skip(1).step_by(2).filter_map(our_path) {
            if !exists(name) {
                problems.push(missing(name));
            }
        }
        for target in links(line).filter_map(local_target) {
            if !exists(&resolve(path, target)) {
                problems.push(missing(target));
            }
        }
    }
    problems
}

/// `is_test` is asked for the names of functions.
pub fn check_tests(path: &str, text: &str, is_test: &dyn Fn(&str) -> bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut proves = false;
    for (number, line) in (1..).zip(text.lines()) {
        let row = line.trim().strip_prefix('|').and_then(|row| row.strip_suffix('|'));
        let Some(last) = row.and_then(|row| row.rsplit('|').next()) else {
            proves = false;
            continue;
        };
        proves |= last.trim() == "proven by";
        for name in last.split('`').skip(1).step_by(2).filter(|name| proves && !is_test(name)) {
            problems.push(Problem::new(path, number, format!("no test {name}: correct the name")));
        }
    }
    problems
}

/// The path in a pair of backticks, without a line number, if it is one of ours.
fn our_path(text: &str) -> Option<&str> {
    let path = match text.rsplit_once(':') {
        Some((path, line)) if line.chars().all(|c| c.is_ascii_digit()) => path,
        _ => text,
    };
    let is_path = path.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
    let (room, rest) = path.split_once('/')?;
    let file = rest.rsplit('/').next()?;
    let is_our_kind = file.rsplit_once('.').is_none_or(|(_, ending)| ENDINGS.contains(&ending));
    (is_path && ROOMS.contains(&room) && is_our_kind).then_some(path)
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// The part of a link that names a file.
fn local_target(link: &str) -> Option<&str> {
    let target = link.split('#').next()?;
    let foreign = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
    (!foreign).then_some(target)
}

/// A link is relative to the document that holds it.
fn resolve(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => (),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str, expect: &[usize]) {
        let there = ["engine/src/a.rs", "docs/ring.md", "tests/sim", "README.md"];
        let problems = check("docs/a.md", text, &|path| there.contains(&path));
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), expect, "{text}");
    }

    #[test]
    fn backticks() {
        check_text("see `engine/src/a.rs`, `engine/src/a.rs:12` and `tests/sim`\n", &[]);
        check_text("fine\nsee `engine/src/b.rs`\n", &[2]);
        check_text("see `docs/gone`", &[1]);
        check_text("`examples/proxy.c`, `io/linux.zig`, `a/b.rs`, `engine/{a,b}`, `n/a`, `cargo xtask`", &[]);
        check_text("```\n`engine/src/b.rs`\n```\n", &[]);
    }

    #[test]
    fn links_are_relative() {
        check_text("[a](ring.md) [b](../README.md#top) [c](#here) [d](https://e.example/f) ![g](./ring.md)", &[]);
        check_text("[a](README.md)", &[1]);
    }

    #[test]
    fn a_table_of_proofs_names_tests() {
        let check_text = |text: &str, expect: &[usize]| {
            let problems = check_tests("docs/a.md", text, &|name| name == "it_holds");
            assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), expect, "{text}");
        };
        let head = "| promise | proven by |\n| --- | --- |\n";
        check_text(&format!("{head}| `a` | real: `it_holds` |\n"), &[]);
        check_text(&format!("{head}| a | `it_holds`, `it_held` |\n| b | `gone` |\n"), &[3, 4]);
        check_text(&format!("{head}\n| a | b |\n| c | `else` |\n"), &[]);
    }
}
