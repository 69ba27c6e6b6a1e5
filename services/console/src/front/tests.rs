//! The front as a whole: keys in, and what the screen shows.

use super::screen::Screen;
use super::terminal::Ability;
use super::*;

/// A front with a terminal before it. The test plays the console.
struct Desk {
    front: Front,
    screen: Screen,
    told: Vec<ConsoleIn>,
}

impl Desk {
    fn new(columns: u16, rows: u16, ability: Ability) -> Desk {
        let front = Front { terminal: Terminal { columns, rows, ability }, ..Front::default() };
        let mut desk = Desk { front, screen: Screen::new(usize::from(columns), usize::from(rows)), told: Vec::new() };
        desk.says(ConsoleOut::Prompt(Prompt::Command(String::new())));
        desk
    }

    fn step(&mut self, mut out: Vec<u8>) {
        while let Some(event) = self.front.step(&mut out) {
            self.told.push(event);
        }
        self.screen.feed(&out);
    }

    /// Typed, and given to the front a byte at a time.
    fn types(&mut self, bytes: impl AsRef<[u8]>) -> &mut Desk {
        for &byte in bytes.as_ref() {
            self.front.typed(&[byte]);
            self.step(Vec::new());
        }
        self
    }

    fn says(&mut self, event: ConsoleOut) -> &mut Desk {
        let mut out = Vec::new();
        self.front.show(event, &mut out);
        self.step(out);
        self
    }

    fn answers(&mut self, text: &str) -> &mut Desk {
        self.says(ConsoleOut::Answered { text: text.to_owned(), prompt: Prompt::Command(String::new()) })
    }

    fn offers(&mut self, from: usize, words: &[&str]) -> &mut Desk {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        self.says(ConsoleOut::Completions(Completions { from, words, cut: false }))
    }

    fn told(&mut self) -> Vec<ConsoleIn> {
        std::mem::take(&mut self.told)
    }

    #[track_caller]
    fn shows(&mut self, lines: &[&str]) -> &mut Desk {
        assert_eq!(self.screen.lines(), lines);
        self
    }

    #[track_caller]
    fn cursor(&mut self, row: &str) -> &mut Desk {
        assert_eq!(self.screen.row_with_cursor(), row);
        self
    }
}

fn line(text: &str) -> ConsoleIn {
    ConsoleIn::Line(text.to_owned())
}

/// The same on a terminal that can do nothing, and on one that moves its cursor.
fn on_both(act: impl Fn(Desk)) {
    for ability in [Ability::Plain, Ability::Moves] {
        act(Desk::new(40, 10, ability));
    }
}

#[test]
fn a_line_is_edited_and_entered() {
    on_both(|mut desk| {
        desk.types("shrds\x1b[D\x1b[D\x1b[Da").cursor("megamux> sha|rds");
        desk.types("\x05\x17conns list\x01x\x04\x08").cursor("megamux> |onns list");
        desk.types("c\x05 \r").shows(&["megamux> conns list"]);
        assert_eq!(desk.told(), [line("conns list ")]);
        desk.answers("none\n").shows(&["megamux> conns list", "none", "megamux>"]).cursor("megamux> |");
    });
}

#[test]
fn what_is_typed_ahead_is_shown_behind_its_prompt() {
    on_both(|mut desk| {
        desk.types("one\rtwo\rthr");
        assert_eq!(desk.told(), [line("one")]);
        desk.shows(&["megamux> one"]);
        desk.answers("1\n").shows(&["megamux> one", "1", "megamux> two"]);
        assert_eq!(desk.told(), [line("two")]);
        desk.answers("2\n").cursor("megamux> thr|");
        assert_eq!(desk.told(), []);
    });
}

#[test]
fn an_interrupt_overtakes_what_was_typed() {
    on_both(|mut desk| {
        desk.types("slow\rmore\x03x");
        assert_eq!(desk.told(), [line("slow"), ConsoleIn::Interrupt]);
        desk.answers("\ninterrupted\n").cursor("megamux> x|");
        // At the prompt it is the front's own affair.
        desk.types("\x03").shows(&["megamux> slow", "", "interrupted", "megamux> x^C", "megamux>"]);
        assert_eq!(desk.told(), []);
    });
}

#[test]
fn history_comes_back_with_the_arrows() {
    on_both(|mut desk| {
        for entered in ["one", "two"] {
            desk.types(entered).types("\r").answers("");
        }
        desk.types("dra\x1b[A").cursor("megamux> two|");
        desk.types("\x1b[A\x1b[A").cursor("megamux> one|");
        assert_eq!(desk.screen.bells, 1);
        desk.types("\x1b[B\x1b[B").cursor("megamux> dra|");
        desk.types("\x15history\r").says(ConsoleOut::History).answers("");
        assert!(desk.screen.lines().contains(&"   2  two".to_owned()), "{:?}", desk.screen.lines());
    });
}

#[test]
fn a_word_is_completed_or_its_ways_are_listed() {
    on_both(|mut desk| {
        desk.types("con\t");
        assert_eq!(desk.told(), [ConsoleIn::Complete("con".to_owned())]);
        desk.types("l").offers(0, &["conns/"]).cursor("megamux> conns/l|");
        desk.types("\x15listeners \t").offers(10, &["pause ", "drain ", "resume "]);
        desk.shows(&["megamux> listeners", "pause   drain   resume", "megamux> listeners"]);
        desk.cursor("megamux> listeners |");
        desk.types("re\t").offers(10, &["resume ", "resumes "]).cursor("megamux> listeners resume|");
        desk.types("x\t").offers(10, &[]).cursor("megamux> listeners resumex|");
        assert_eq!(desk.screen.bells, 2);
    });
}

#[test]
fn a_word_in_the_middle_is_completed() {
    on_both(|mut desk| {
        desk.types("con list\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\t");
        assert_eq!(desk.told(), [ConsoleIn::Complete("con".to_owned())]);
        desk.offers(0, &["conns/"]).cursor("megamux> conns/| list");
    });
}

#[test]
fn long_answers_come_in_pages() {
    let text: String = (1..=20).map(|number| format!("{number}\n")).collect();
    for ability in [Ability::Plain, Ability::Moves] {
        let mut desk = Desk::new(40, 6, ability);
        desk.types("list\r").answers(&text).cursor("--more--|");
        desk.types("x").cursor("--more--|");
        desk.types(" ").shows(&["6", "7", "8", "9", "10", "--more--"]);
        desk.types("\r").shows(&["7", "8", "9", "10", "11", "--more--"]);
        desk.types("  ").shows(&["16", "17", "18", "19", "20", "megamux>"]);
        assert_eq!(desk.told(), [line("list")]);
        // q ends it, and the rest is not shown.
        desk.types("list\r").answers(&text).types("qsh").cursor("megamux> sh|");
        assert_eq!(desk.told(), [line("list")]);
    }
}

#[test]
fn quitting_an_answer_that_still_comes_interrupts_it() {
    let mut desk = Desk::new(40, 4, Ability::Plain);
    desk.types("slow\r").says(ConsoleOut::Text("1\n2\n3\n4\n5\n".to_owned())).types("q");
    assert_eq!(desk.told(), [line("slow"), ConsoleIn::Interrupt]);
    desk.says(ConsoleOut::Text("6\n".to_owned())).answers("\ninterrupted\n");
    desk.shows(&["1", "2", "3", "megamux>"]);
}

#[test]
fn a_password_is_not_shown_and_not_remembered() {
    on_both(|mut desk| {
        desk.says(ConsoleOut::Prompt(Prompt::User)).types("ann\r");
        desk.says(ConsoleOut::Answered { text: String::new(), prompt: Prompt::Password });
        desk.types("secrt\x08et\t\x1b[A\r");
        assert_eq!(desk.told(), [line("ann"), line("secret")]);
        desk.answers("welcome\n").types("\x1b[A").cursor("megamux> |");
        assert!(!desk.screen.lines().concat().contains("sec"), "{:?}", desk.screen.lines());
        assert!(desk.screen.lines().contains(&"password:".to_owned()));
    });
}

#[test]
fn what_goes_on_is_shown_until_a_key_is_typed() {
    let mut desk = Desk::new(40, 6, Ability::Moves);
    desk.types("watch x\r").told();
    let tall: String = (1..=20).map(|number| format!("{number} {}\n", "wide".repeat(20))).collect();
    desk.says(ConsoleOut::Screen(tall));
    assert_eq!(desk.screen.lines().len(), 5);
    assert!(desk.screen.lines()[4].starts_with("5 wide") && desk.screen.lines()[4].len() == 39);
    desk.says(ConsoleOut::Screen("a\nb\n".to_owned())).shows(&["a", "b"]);
    desk.types("\x1b[A");
    assert_eq!(desk.told()[0], ConsoleIn::Interrupt);
    desk.answers("").cursor("megamux> |");

    let mut desk = Desk::new(40, 6, Ability::Plain);
    desk.types("watch x\r");
    desk.says(ConsoleOut::Screen("a\n".to_owned())).says(ConsoleOut::Screen("b\n".to_owned()));
    desk.says(ConsoleOut::Live("c\n".to_owned())).shows(&["megamux> watch x", "a", "b", "c"]);
}

#[test]
fn a_line_longer_than_any_is_refused_when_it_is_entered() {
    let mut desk = Desk::new(40, 10, Ability::Plain);
    for _ in 0..50 {
        desk.front.typed(&[b'x'; 100]);
        desk.step(Vec::new());
    }
    assert!(desk.screen.bells > 0);
    desk.types("\r");
    assert_eq!(desk.told(), [ConsoleIn::LineTooLong]);
    desk.answers("line too long\n").types("help\r");
    assert_eq!(desk.told(), [line("help")], "the session lives on");
}

#[test]
fn the_end_comes_behind_everything_typed() {
    on_both(|mut desk| {
        desk.types("\x04");
        assert_eq!(desk.told(), [ConsoleIn::End]);
    });
    let mut desk = Desk::new(40, 4, Ability::Plain);
    desk.types("one\rtwo\r");
    desk.front.no_more_keys(&mut Vec::new());
    desk.answers("1\n2\n3\n4\n5\n6\n");
    assert_eq!(desk.told(), [line("one"), line("two")]);
    desk.answers("");
    assert_eq!(desk.told(), [ConsoleIn::End]);
}

#[test]
fn an_idle_front_is_two_words_and_has_nothing() {
    assert!(size_of::<Front>() <= 16, "{} bytes", size_of::<Front>());
    let mut desk = Desk::new(40, 10, Ability::Moves);
    assert!(desk.front.used.is_none());
    desk.types("abc");
    assert!(desk.front.used.is_some());
    desk.types("\x08\x08\x08");
    assert!(desk.front.used.is_none(), "nothing is typed any more");
    desk.types("\r").answers("");
    assert!(desk.front.used.is_none(), "a blank line is not remembered");
    desk.types("x\r").answers("");
    assert!(desk.front.used.as_ref().is_some_and(|used| used.history.is_some()));
}

#[test]
fn typing_ahead_is_bounded() {
    let mut desk = Desk::new(40, 10, Ability::Plain);
    desk.types("slow\r");
    assert_eq!(desk.front.room(), MAX_AHEAD);
    desk.front.typed(&vec![b'x'; MAX_AHEAD]);
    assert_eq!(desk.front.room(), 0);
    desk.answers("");
    assert_eq!(desk.front.room(), MAX_AHEAD);
}

#[test]
fn the_screen_is_the_same_however_the_keys_arrive() {
    let keys = "cönns lst\x1b[D\x1b[Di\x05 東京\x1b[1;5D\x0b\x1b[A\x1b[B\x14x\x02\x02\x0c";
    let whole = |chunk: usize| {
        let mut desk = Desk::new(40, 10, Ability::Moves);
        for piece in keys.as_bytes().chunks(chunk) {
            desk.front.typed(piece);
            desk.step(Vec::new());
        }
        (desk.screen.lines(), desk.screen.row_with_cursor())
    };
    let expect = whole(keys.len());
    for chunk in 1..keys.len() {
        assert_eq!(whole(chunk), expect, "{chunk} bytes at a time");
    }
}
