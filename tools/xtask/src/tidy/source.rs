//! Rust text, split into code and comments: this file owns the small lexer that lets a rule look at one and not the other.
//!
//! Contents of strings and characters are blanked, so that a rule's own words in a string never break the rule. It is no
//! parser: it knows comments, literals and lines, and never fails on a file that compiles.

pub struct Source {
    pub path: String,
    pub lines: Vec<Line>,
}

#[derive(Default, Debug)]
pub struct Line {
    /// Without comments, and with literals emptied.
    pub code: String,
    /// The text of comments that lie on this line, with their slashes.
    pub comment: String,
    /// Whether the line belongs to an item under `#[cfg(test)]`.
    pub in_test: bool,
}

impl Source {
    pub fn parse(path: &str, text: &str) -> Self {
        let mut lexer = Lexer { chars: text.chars().collect(), at: 0, lines: vec![Line::default()] };
        lexer.run();
        let mut lines = lexer.lines;
        mark_tests(&mut lines);
        Self { path: path.into(), lines }
    }

    /// Names of the functions it defines.
    pub fn functions(&self) -> impl Iterator<Item = String> {
        let name_of = |line: &Line| {
            let name = &line.code[find_word(&line.code, "fn")? + 2..];
            let name = name.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
            Some(name.to_owned())
        };
        self.lines.iter().filter_map(name_of)
    }

    /// The lines with their numbers, which start at one.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Whether `word` stands in `text` by itself, and where.
pub fn find_word(text: &str, word: &str) -> Option<usize> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .find(|&at| !text[..at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word))
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    lines: Vec<Line>,
}

impl Lexer {
    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            match c {
                '/' if self.peek(1) == Some('/') => self.line_comment(),
                '/' if self.peek(1) == Some('*') => self.block_comment(),
                '"' => self.string(),
                'r' if self.raw_hashes().is_some() => self.raw_string(),
                '\'' => self.quote(),
                _ => self.code(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn line(&mut self) -> &mut Line {
        self.lines.last_mut().expect("there is always a line")
    }

    /// Takes a character that is no code: a new line is a new line anywhere.
    fn skip(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.lines.push(Line::default());
        }
        Some(c)
    }

    fn code(&mut self) {
        if let Some(c) = self.skip()
            && c != '\n'
        {
            self.line().code.push(c);
        }
    }

    fn comment(&mut self) {
        if let Some(c) = self.skip()
            && c != '\n'
        {
            self.line().comment.push(c);
        }
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.comment();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (Some(_), _) => {
                    self.comment();
                    continue;
                }
                (None, _) => return,
            }
            self.comment();
            self.comment();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.code();
        while let Some(c) = self.peek(0) {
            if c == '"' {
                return self.code();
            }
            if c == '\\' {
                self.skip();
            }
            self.skip();
        }
    }

    /// The number of hashes if a raw string starts here: `r"`, `r#"`, also after b or c.
    fn raw_hashes(&self) -> Option<usize> {
        let part_of_word = |back: usize| {
            self.at.checked_sub(back).is_some_and(|at| self.chars[at].is_alphanumeric() || self.chars[at] == '_')
        };
        let prefixed = self.at > 0 && matches!(self.chars[self.at - 1], 'b' | 'c') && !part_of_word(2);
        if part_of_word(1) && !prefixed {
            return None;
        }
        let hashes = (1..).take_while(|&ahead| self.peek(ahead) == Some('#')).count();
        (self.peek(1 + hashes) == Some('"')).then_some(hashes)
    }

    fn raw_string(&mut self) {
        let hashes = self.raw_hashes().unwrap_or(0);
        for _ in 0..hashes + 2 {
            self.code();
        }
        while let Some(c) = self.peek(0) {
            let ends = c == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'));
            if ends {
                for _ in 0..=hashes {
                    self.code();
                }
                return;
            }
            self.skip();
        }
    }

    /// A character, or the start of a lifetime.
    fn quote(&mut self) {
        let escaped = self.peek(1) == Some('\\');
        let is_character = escaped || self.peek(2) == Some('\'');
        self.code();
        if !is_character {
            return;
        }
        if escaped {
            self.skip();
        }
        self.skip();
        while self.peek(0).is_some_and(|c| c != '\'') {
            self.skip();
        }
        self.code();
    }
}

/// From each `#[cfg(test)]` to the end of the item it stands on: a `;`, or the brace that closes the first one.
fn mark_tests(lines: &mut [Line]) {
    let mut index = 0;
    while index < lines.len() {
        let code = &lines[index].code;
        let Some(start) = code.find("#[cfg(test)]").or_else(|| code.find("#[cfg(all(test")) else {
            index += 1;
            continue;
        };
        let mut depth = 0_usize;
        let mut from = code[start..].find(']').map_or(0, |end| start + end + 1);
        'item: while index < lines.len() {
            lines[index].in_test = true;
            for c in lines[index].code[from..].chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth <= 1 => break 'item,
                    '}' => depth -= 1,
                    ';' if depth == 0 => break 'item,
                    _ => (),
                }
            }
            from = 0;
            index += 1;
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str, comment: &str) {
        let source = Source::parse("a.rs", text);
        let join = |part: fn(&Line) -> &str| source.lines.iter().map(part).collect::<Vec<_>>().join("\n");
        assert_eq!(join(|line| &line.code), code, "code of {text:?}");
        assert_eq!(join(|line| &line.comment), comment, "comments of {text:?}");
    }

    #[test]
    fn functions_are_found_by_name() {
        let source = Source::parse("a.rs", "fn a() {}\n  pub fn b_c<T>() // fn d\nlet f = \"fn e\";\ntype G = fn(u8);");
        let names: Vec<_> = source.functions().filter(|name| !name.is_empty()).collect();
        assert_eq!(names, ["a", "b_c"]);
    }

    #[test]
    fn comments_are_apart() {
        check("a // b\nc", "a \nc", "// b\n");
        check("a /* b /* c */ d\n e */ f", "a \n f", "/* b /* c */ d\n e */");
        check("a / b", "a / b", "");
    }

    #[test]
    fn literals_are_emptied() {
        check(r#"f("// no \" {", b"x")"#, r#"f("", b"")"#, "");
        check("f(r#\"a \" // \"#, br\"\\\") // y", "f(r#\"\"#, br\"\") ", "// y");
        check("f('\"', '\\'', b'\\u{7}', '{')", "f('', '', b'', '')", "");
        check("fn a<'a>(r#type: &'a str) {} // x", "fn a<'a>(r#type: &'a str) {} ", "// x");
        check("\"a\nb\" c", "\"\n\" c", "\n");
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(find_word("forbid(unsafe_code) unsafe {", "unsafe"), Some(20));
        assert_eq!(find_word("unsafe_code", "unsafe"), None);
    }

    #[test]
    fn test_items_are_marked_to_their_end() {
        let marked = |text: &str| {
            let source = Source::parse("a.rs", text);
            source.numbered().filter(|(_, line)| line.in_test).map(|(number, _)| number).collect::<Vec<_>>()
        };
        assert_eq!(marked("a\n#[cfg(test)]\nmod tests {\n  fn a() { '}' }\n}\nb"), [2, 3, 4, 5]);
        assert_eq!(marked("#[cfg(test)]\nmod tests;\nfn b() {}"), [1, 2]);
    }
}
