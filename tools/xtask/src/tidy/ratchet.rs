//! The size of files: this file owns the bound, and the list of those above it, which may only shrink.
//!
//! An entry carries the exact length of its file. A file that grew is split or cut; one that shrank lowers its entry, and so
//! can never grow back unseen.

use super::Problem;

pub const LIST: &str = "tools/xtask/ratchet.txt";

const MOST_LINES: usize = 800;

/// `sizes` are path and number of lines of every Rust file.
pub fn check(list: &str, sizes: &[(String, usize)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut listed = Vec::new();
    for (number, text) in (1..).zip(list.lines()) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match parse(text) {
            Some((path, lines)) => {
                listed.push(path);
                let size = sizes.iter().find(|(name, _)| name == path).map(|(_, size)| *size);
                problems.extend(check_entry(path, lines, size).map(|what| Problem::new(LIST, number, what)));
            }
            None => problems.push(Problem::new(LIST, number, "write `path lines reason`")),
        }
    }
    for (path, size) in sizes {
        if *size > MOST_LINES && !listed.contains(&path.as_str()) {
            problems.push(Problem::new(path, MOST_LINES, format!("{size} lines: split the file by what it owns")));
        }
    }
    problems
}

/// An entry without a reason is none.
fn parse(text: &str) -> Option<(&str, usize)> {
    let mut words = text.split_whitespace();
    let entry = (words.next()?, words.next()?.parse().ok()?);
    words.next().map(|_| entry)
}

fn check_entry(path: &str, lines: usize, size: Option<usize>) -> Option<String> {
    match size {
        None => Some(format!("remove the entry: there is no {path}")),
        Some(size) if size <= MOST_LINES => Some(format!("remove the entry: {path} has only {size} lines")),
        Some(size) if size < lines => Some(format!("lower the entry to {size}: {path} has shrunk")),
        Some(size) if size > lines => Some(format!("{path} has grown from {lines} to {size} lines: split it")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(list: &str, size: usize, expect: &[&str]) {
        let problems = check(list, &[("a.rs".into(), size)]);
        assert_eq!(problems.len(), expect.len(), "{problems:?}");
        for (problem, expect) in problems.iter().zip(expect) {
            assert!(problem.to_string().contains(expect), "{problem}");
        }
    }

    #[test]
    fn the_list_only_shrinks() {
        check_one("# comment\n", 800, &[]);
        check_one("", 801, &["a.rs:800: 801 lines"]);
        check_one("a.rs 900 a table of the standard\n", 900, &[]);
        check_one("a.rs 900 a table of the standard\n", 901, &["grown"]);
        check_one("a.rs 900 a table of the standard\n", 899, &["lower the entry to 899"]);
        check_one("a.rs 900 a table of the standard\n", 700, &["remove"]);
        check_one("b.rs 900 a table of the standard\n", 700, &["no b.rs"]);
        check_one("a.rs 900\n", 700, &["path lines reason"]);
    }
}
