//! Leftovers of work in progress: this file owns the words that may not stay, in code, in comments and in tests.

use super::Problem;
use super::source::{Line, Source, find_word};

/// In code, with what to do instead.
const IN_CODE: [(&str, &str); 4] = [
    ("todo!", "write it, or leave the feature out"),
    ("unimplemented!", "write it, or return an error"),
    ("dbg!", "remove it, or make it a tracing event"),
    ("#[ignore", "make the test pass, or let it say SKIP (see CONTRIBUTING.md)"),
];

const IN_COMMENTS: [&str; 3] = ["TODO", "FIXME", "XXX"];

pub fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, line) in source.numbered() {
        let mut problem = |what: String| problems.push(Problem::new(&source.path, number, what));
        for (word, instead) in IN_CODE {
            if contains(&line.code, word) {
                problem(format!("`{word}` is left over: {instead}"));
            }
        }
        for word in IN_COMMENTS {
            if find_word(&line.comment, word).is_some() {
                problem(format!("{word} is left over: do it, or say what is so and why"));
            }
        }
        if sleeps(line) && (line.in_test || is_test(&source.path)) {
            problem("a test never sleeps: wait for the event, with a deadline".into());
        }
    }
    problems
}

/// A macro's name starts a word; `my_todo!` is somebody else.
fn contains(code: &str, word: &str) -> bool {
    match word.strip_suffix('!') {
        Some(name) => find_word(code, name).is_some_and(|at| code[at + name.len()..].starts_with('!')),
        None => code.contains(word),
    }
}

fn sleeps(line: &Line) -> bool {
    line.code.contains("thread::sleep") || line.code.contains("time::sleep")
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_at(path: &str, text: &str, expect: &[usize]) {
        let lines: Vec<usize> = check(&Source::parse(path, text)).iter().map(|problem| problem.line).collect();
        assert_eq!(lines, expect, "{path}: {text}");
    }

    #[test]
    fn words_of_unfinished_work() {
        check_at("a.rs", "todo!()\ndbg!(a);\n#[ignore = \"\"]\nunimplemented!()\n", &[1, 2, 3, 4]);
        check_at("a.rs", "// FIXME: a\n/// TODO\n/* XXX */\n", &[1, 2, 3]);
        check_at("a.rs", "my_todo!();\n\"dbg!\"\n// a todo list, XXXXXX\nlet todo = !a;\n", &[]);
    }

    #[test]
    fn tests_do_not_sleep() {
        let sleep = "std::thread::sleep(PAUSE);\n";
        check_at("engine/src/a.rs", sleep, &[]);
        check_at("tests/system/src/lib.rs", sleep, &[1]);
        check_at("engine/tests/a.rs", sleep, &[1]);
        check_at("engine/src/shard/tests.rs", sleep, &[1]);
        check_at("engine/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{sleep}}}\n{sleep}"), &[3]);
    }
}
