//! Where `unsafe` may stand: this file owns the list of rooms and the rule that each use names its invariant.
//!
//! clippy checks that a block has a SAFETY comment where clippy runs; this also covers packages outside the workspace and
//! `unsafe impl`, and it is the only check of the rooms.

use super::Problem;
use super::source::{Source, find_word};

/// The engine's modules that may be unsafe, as a folder or as a file.
const MODULES: [&str; 4] = ["engine/src/ring", "engine/src/buffer", "engine/src/handoff", "engine/src/net"];

/// Rooms that are no part of what is shipped.
const ROOMS: [&str; 4] = ["tools/", "benches/", "tests/", "fuzz/"];

pub fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, line) in source.numbered() {
        let Some(at) = find_word(&line.code, "unsafe") else {
            continue;
        };
        if !is_allowed(&source.path) {
            let what = format!("move this `unsafe` behind a safe interface in {} (see Walls)", MODULES.join(", "));
            problems.push(Problem::new(&source.path, number, what));
        }
        if needs_comment(source, number, at) && !has_comment(source, number) {
            let what = "say `// SAFETY:` above: which invariant holds, and who upholds it";
            problems.push(Problem::new(&source.path, number, what));
        }
    }
    problems
}

/// Whether the roots of this package must carry `#![forbid(unsafe_code)]`.
pub fn must_forbid(folder: &str) -> bool {
    folder.starts_with("protocols/") || folder.starts_with("services/")
}

pub fn check_root(source: &Source) -> Option<Problem> {
    let forbids = source.lines.iter().any(|line| line.code.trim() == "#![forbid(unsafe_code)]");
    (!forbids).then(|| Problem::new(&source.path, 1, "add `#![forbid(unsafe_code)]` below the header"))
}

fn is_allowed(path: &str) -> bool {
    let in_module = |module: &str| path.strip_prefix(module).is_some_and(|rest| rest.starts_with('/') || rest == ".rs");
    ROOMS.iter().any(|room| path.starts_with(room))
        || MODULES.iter().any(|module| in_module(module))
        // Integration tests and benches of a package are programs of their own.
        || path.split('/').rev().skip(1).any(|folder| folder == "tests" || folder == "benches")
}

/// A block or an impl promises something; an `unsafe fn` asks, and its docs say what.
fn needs_comment(source: &Source, number: usize, at: usize) -> bool {
    let after = source.lines[number - 1].code[at + "unsafe".len()..].trim_start();
    let after = match source.lines.get(number) {
        Some(next) if after.is_empty() => next.code.trim_start(),
        _ => after,
    };
    after.starts_with('{') || after.starts_with("impl")
}

/// On the line itself, or going up to the end of the statement before.
fn has_comment(source: &Source, number: usize) -> bool {
    if source.lines[number - 1].comment.contains("SAFETY:") {
        return true;
    }
    for line in source.lines[..number - 1].iter().rev() {
        if line.comment.contains("SAFETY:") {
            return true;
        }
        let code = line.code.trim();
        // `let a = A {` is still the statement that the block is part of.
        let opens = code.ends_with('{') && !code.contains(" = ");
        let blank = code.is_empty() && line.comment.is_empty();
        let ends = blank || opens || code.ends_with([';', '}']);
        if ends || find_word(code, "unsafe").is_some() {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_at(path: &str, text: &str, expect: &[usize]) {
        let lines: Vec<usize> = check(&Source::parse(path, text)).iter().map(|problem| problem.line).collect();
        assert_eq!(lines, expect, "{path}: {text}");
    }

    const FINE: &str = "// SAFETY: we own it.\nunsafe { f() };\n";

    #[test]
    fn only_some_rooms_may() {
        for path in ["engine/src/net.rs", "engine/src/ring/setup.rs", "tools/xtask/src/a.rs", "engine/tests/a.rs"] {
            check_at(path, FINE, &[]);
        }
        for path in
            ["engine/src/shard.rs", "engine/src/network.rs", "protocols/http/src/lib.rs", "examples/kv/src/main.rs"]
        {
            check_at(path, FINE, &[2]);
        }
    }

    #[test]
    fn words_that_are_not_code_do_not_count() {
        check_at("engine/src/shard.rs", "// unsafe { }\nlet a = \"unsafe {\";\n#![forbid(unsafe_code)]\n", &[]);
    }

    #[test]
    fn a_block_says_why() {
        let path = "engine/src/ring.rs";
        check_at(path, "// SAFETY: x\nlet a =\n    unsafe { f() };\n", &[]);
        check_at(path, "// SAFETY: x\n#[cold]\nunsafe impl Send for A {}\n", &[]);
        check_at(path, "let a = unsafe { f() }; // SAFETY: x\n", &[]);
        check_at(path, "// SAFETY: x\nlet a = A {\n    b: unsafe { f() },\n};\n", &[]);
        check_at(path, "// SAFETY: x\nfn a() {\n    unsafe { f() }\n}\n", &[3]);
        check_at(path, "/// # Safety\n/// Mind.\npub unsafe fn f();\n", &[]);
        check_at(path, "unsafe impl Send for A {}\n", &[1]);
        check_at(path, "// SAFETY: x\nlet a = unsafe { f() };\nlet b = unsafe { f() };\n", &[3]);
        check_at(path, "// SAFETY: x\n\nlet a = unsafe\n{ f() };\n", &[3]);
    }

    #[test]
    fn roots_forbid() {
        assert!(must_forbid("protocols/http") && must_forbid("services/node") && !must_forbid("engine"));
        assert!(check_root(&Source::parse("a.rs", "//! A.\n#![forbid(unsafe_code)]\n")).is_none());
        assert!(check_root(&Source::parse("a.rs", "//! A.\n// #![forbid(unsafe_code)]\n")).is_some());
    }
}
