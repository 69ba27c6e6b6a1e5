//! The shape of a file: this file owns the rules about its first line and its white space.

use super::Problem;
use super::source::Source;

/// Every Rust file opens with `//!`.
pub fn header(source: &Source) -> Option<Problem> {
    let first = source.lines.first()?;
    let opens = first.code.is_empty() && first.comment.starts_with("//! ");
    (!opens).then(|| {
        let what = "open the file with `//!`: what it owns, the invariant it keeps, what it must not do";
        Problem::new(&source.path, 1, what)
    })
}

/// No tabs, nothing after the last word of a line, and one newline at the end.
pub fn whitespace(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        if line.contains('\t') {
            problems.push(Problem::new(path, number, "indent with spaces: there is a tab"));
        }
        if line.ends_with(char::is_whitespace) {
            problems.push(Problem::new(path, number, "remove the white space at the end of the line"));
        }
    }
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        problems.push(Problem::new(path, text.lines().count(), "end the file with exactly one newline"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_opens_with_its_purpose() {
        let check = |text: &str| header(&Source::parse("a.rs", text)).is_none();
        assert!(check("//! Owns a.\nfn a() {}\n"));
        assert!(!check("// Owns a.\n"));
        assert!(!check("use b;\n//! Owns a.\n"));
        assert!(!check(""));
    }

    #[test]
    fn white_space() {
        let check = |text: &str| whitespace("a.md", text).iter().map(|problem| problem.line).collect::<Vec<_>>();
        assert!(check("a\n\nb\n").is_empty());
        assert!(check("").is_empty());
        assert_eq!(check("a\tb\nc \n"), [1, 2]);
        assert_eq!(check("a\r\n"), [1]);
        assert_eq!(check("a\nb"), [2]);
        assert_eq!(check("a\n\n"), [2]);
    }
}
