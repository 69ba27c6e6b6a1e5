//! A session as its terminal sees it: line editing, history, completion, paging.
//!
//! ```text
//! bytes --Keys--> keys --Line--> text --Row--> bytes that bring the screen up to date
//!                   |
//!                   +--Enter, Tab, ^C, ^D--> ConsoleIn         ConsoleOut --Pager--> screen, then the prompt
//! ```
//!
//! Sans-IO: typed bytes and the console's events in, bytes for the terminal and events for the console out. What an idle
//! session keeps here is [`Front`], two words; the rest is behind its pointer and goes when it is not needed any more.
//!
//! Invariants: one line is with the console at a time, and what is typed meanwhile waits, at most [`MAX_AHEAD`] bytes of it,
//! so that it is shown behind the prompt it belongs to; an interrupt overtakes it.
//!
//! Must not: interpret a line, or show a password.

pub(crate) mod history;
pub(crate) mod keys;
mod line;
mod list;
mod pager;
mod row;
#[cfg(test)]
mod screen;
pub(crate) mod terminal;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use megamux_telnet::encode_text;

use crate::event::{Completions, ConsoleIn, ConsoleOut, Prompt};
use crate::text;
use history::History;
use keys::{Key, Keys};
use line::{Edit, Line};
use pager::Pager;
use row::Row;
use terminal::Terminal;

/// The most bytes typed ahead of a prompt; more stay in the connection. A terminal driver keeps as many.
pub const MAX_AHEAD: usize = 4 * 1024;

const BEL: u8 = 7;
const INTERRUPT: u8 = 3;

/// What is kept for each connection.
#[derive(Debug, Default)]
pub(crate) struct Front {
    used: Option<Box<Used>>,
    pub(crate) terminal: Terminal,
    stage: Stage,
}

/// What the keys are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// The console has a line, or says the first word: keys wait.
    #[default]
    Waiting,
    /// A line is typed.
    Prompt,
    /// A page is shown, and more of the answer waits.
    More,
    /// Something is shown until a key is typed.
    Live,
}

/// What exists only while it is used.
#[derive(Debug)]
struct Used {
    prompt: Prompt,
    /// Typed and not looked at yet.
    ahead: VecDeque<u8>,
    keys: Keys,
    line: Line,
    row: Row,
    history: Option<Box<History>>,
    pager: Option<Pager>,
    /// What follows the last page.
    after: Option<Prompt>,
    /// The operator has seen enough of the answer that comes.
    enough: bool,
    interrupted: bool,
    /// The key whose bytes are coming has done its work.
    swallow: bool,
    /// No more keys will come: the session ends when those that came are done.
    ended: bool,
}

impl Front {
    /// Takes bytes typed in character mode.
    pub(crate) fn typed(&mut self, bytes: &[u8]) {
        let stage = self.stage;
        let used = self.used();
        let fresh = match bytes.iter().rposition(|&byte| byte == INTERRUPT) {
            Some(at) if stage == Stage::Waiting => {
                used.interrupt();
                &bytes[at + 1..]
            }
            _ => bytes,
        };
        used.ahead.extend(fresh);
    }

    /// How many more bytes may be typed ahead.
    pub(crate) fn room(&self) -> usize {
        self.used.as_ref().map_or(MAX_AHEAD, |used| MAX_AHEAD.saturating_sub(used.ahead.len()))
    }

    /// Telnet's own interrupt (RFC 854), whatever was typed before it.
    pub(crate) fn interrupt(&mut self) {
        match self.stage {
            Stage::Waiting => self.used().interrupt(),
            _ => self.typed(&[INTERRUPT]),
        }
    }

    /// Does what the typed keys ask for, up to one that the console has to hear of.
    pub(crate) fn step(&mut self, out: &mut Vec<u8>) -> Option<ConsoleIn> {
        let event = self.next(out);
        self.release();
        event
    }

    /// Something the console says, in character mode.
    pub(crate) fn show(&mut self, event: ConsoleOut, out: &mut Vec<u8>) {
        let terminal = self.terminal;
        match event {
            ConsoleOut::Text(text) => self.text(&text, out),
            ConsoleOut::History => {
                let lines = self.history();
                self.text(&lines, out);
            }
            ConsoleOut::Live(text) => {
                self.stage = Stage::Live;
                terminal.write(&text, out);
            }
            ConsoleOut::Screen(text) => {
                self.stage = Stage::Live;
                list::screen(&text, terminal, out);
            }
            ConsoleOut::Answered { text, prompt } => {
                self.text(&text, out);
                match self.used.as_mut().filter(|used| used.is_held()) {
                    Some(used) => used.after = Some(prompt),
                    None => self.ask(prompt, out),
                }
            }
            ConsoleOut::Prompt(prompt) => self.ask(prompt, out),
            ConsoleOut::Completions(completions) => self.complete(&completions, out),
        }
        self.release();
    }

    /// The same in line mode: the terminal edits and scrolls by itself.
    pub(crate) fn print(&mut self, event: ConsoleOut, out: &mut Vec<u8>) {
        match event {
            ConsoleOut::Text(text) | ConsoleOut::Live(text) | ConsoleOut::Screen(text) => {
                self.terminal.write(&text, out)
            }
            ConsoleOut::History => {
                let lines = self.history();
                self.terminal.write(&lines, out);
            }
            ConsoleOut::Answered { text, prompt } => {
                self.terminal.write(&text, out);
                self.ask(prompt, out);
            }
            ConsoleOut::Prompt(prompt) => self.ask(prompt, out),
            ConsoleOut::Completions(_) => self.stage = Stage::Prompt,
        }
        self.release();
    }

    /// A line was entered in line mode.
    pub(crate) fn entered(&mut self, line: &str) {
        if self.stage == Stage::Prompt {
            self.remember(line);
        }
    }

    /// The terminal edits by itself from here on: it gets all that waits, and begins a line of its own.
    pub(crate) fn leave_character_mode(&mut self, out: &mut Vec<u8>) {
        let terminal = self.terminal;
        let Some(used) = &mut self.used else {
            return;
        };
        used.ahead.clear();
        used.keys = Keys::default();
        used.line = Line::default();
        used.row.clear();
        if let Some(mut pager) = used.pager.take() {
            pager.rest(terminal, out);
        }
        if let Some(prompt) = used.after.take() {
            self.ask(prompt, out);
        }
        self.release();
    }

    /// The peer sends no more: nobody is there to turn pages.
    pub(crate) fn no_more_keys(&mut self, out: &mut Vec<u8>) {
        let terminal = self.terminal;
        self.terminal.rows = 0;
        let more = self.stage == Stage::More;
        let used = self.used();
        used.ended = true;
        if let Some(mut pager) = used.pager.take()
            && more
        {
            list::erase_back(pager::MORE.len(), terminal, out);
            pager.rest(terminal, out);
            let after = used.after.take();
            self.stage = Stage::Waiting;
            if let Some(prompt) = after {
                self.ask(prompt, out);
            }
        }
    }

    /// Visible evidence that we are here (RFC 854), and then what was there before.
    pub(crate) fn say_yes(&mut self, character_mode: bool, out: &mut Vec<u8>) {
        encode_text("\n[yes]\n", out);
        if character_mode && self.stage == Stage::Prompt {
            let prompt = self.prompt();
            encode_text(prompt.text(), out);
            if let Some(used) = &mut self.used {
                used.row.clear();
                used.render(self.terminal, out);
            }
        }
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Option<ConsoleIn> {
        let used = self.used.as_mut()?;
        if std::mem::take(&mut used.interrupted) {
            return Some(ConsoleIn::Interrupt);
        }
        loop {
            match self.stage {
                Stage::Waiting => return None,
                Stage::Live => {
                    let used = self.used.as_mut()?;
                    if used.ahead.is_empty() && !used.ended {
                        return None;
                    }
                    while used.key().is_some() {}
                    // The rest of an arrow's sequence is the same key.
                    used.swallow = !used.keys.is_between();
                    self.stage = Stage::Waiting;
                    return Some(ConsoleIn::Interrupt);
                }
                Stage::More => {
                    let key = self.used.as_mut()?.key()?;
                    if let Some(event) = self.page(key, out) {
                        return Some(event);
                    }
                }
                Stage::Prompt => return self.edit(out),
            }
        }
    }

    /// A key below a page.
    fn page(&mut self, key: Key, out: &mut Vec<u8>) -> Option<ConsoleIn> {
        let terminal = self.terminal;
        let used = self.used.as_mut()?;
        let pager = used.pager.as_mut()?;
        let rows = match key {
            Key::Char(' ' | 'f') => terminal.page().unwrap_or(usize::MAX),
            Key::Enter | Key::Down | Key::Char('j') => 1,
            Key::Char('q' | 'Q') | Key::Interrupt => {
                list::erase_back(pager::MORE.len(), terminal, out);
                used.pager = None;
                let Some(prompt) = used.after.take() else {
                    used.enough = true;
                    self.stage = Stage::Waiting;
                    return Some(ConsoleIn::Interrupt);
                };
                self.ask(prompt, out);
                return None;
            }
            _ => {
                out.push(BEL);
                return None;
            }
        };
        list::erase_back(pager::MORE.len(), terminal, out);
        pager.more(rows, terminal, out);
        if !pager.is_held() {
            match used.after.take() {
                Some(prompt) => self.ask(prompt, out),
                None => self.stage = Stage::Waiting,
            }
        }
        None
    }

    fn edit(&mut self, out: &mut Vec<u8>) -> Option<ConsoleIn> {
        let terminal = self.terminal;
        let used = self.used.as_mut()?;
        while let Some(key) = used.key() {
            if let Some(event) = used.edit(key, terminal, out) {
                self.stage = Stage::Waiting;
                return Some(event);
            }
        }
        used.render(terminal, out);
        if std::mem::take(&mut used.ended) {
            self.stage = Stage::Waiting;
            return Some(ConsoleIn::End);
        }
        None
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        let terminal = self.terminal;
        if self.used.as_ref().is_some_and(|used| used.enough) {
            return;
        }
        let Some(page) = terminal.page() else {
            return terminal.write(text, out);
        };
        if text.is_empty() || !matches!(self.stage, Stage::Waiting | Stage::More) {
            return terminal.write(text, out);
        }
        let held = self.stage == Stage::More;
        let pager = self.used().pager.get_or_insert_with(|| Pager::new(page));
        if held {
            // Its last row asks for more already.
            pager.keep(text);
        } else {
            pager.push(text, terminal, out);
        }
        if pager.is_held() {
            self.stage = Stage::More;
        }
    }

    /// Shows a prompt, with what has been typed for it.
    fn ask(&mut self, prompt: Prompt, out: &mut Vec<u8>) {
        encode_text(prompt.text(), out);
        self.stage = if prompt == Prompt::Nothing { Stage::Waiting } else { Stage::Prompt };
        if prompt != self.prompt() {
            self.used().prompt = prompt;
        }
        if let Some(used) = &mut self.used {
            used.pager = None;
            used.enough = false;
            used.row.clear();
        }
    }

    fn complete(&mut self, completions: &Completions, out: &mut Vec<u8>) {
        let terminal = self.terminal;
        self.stage = Stage::Prompt;
        let used = self.used();
        let typed = used.line.at().saturating_sub(completions.from);
        let common = list::common(&completions.words);
        match completions.words.len() {
            0 => out.push(BEL),
            more if more > 1 && common.len() <= typed => {
                list::words(completions, terminal, out);
                encode_text(used.prompt.text(), out);
                used.row.clear();
            }
            _ => {
                let ambiguous = completions.words.len() > 1;
                if used.line.complete(completions.from, common) == Edit::Refused || ambiguous {
                    out.push(BEL);
                }
            }
        }
        used.render(terminal, out);
    }

    fn history(&self) -> String {
        let history = self.used.as_ref().and_then(|used| used.history.as_ref());
        let lines = history.into_iter().flat_map(|history| history.lines()).enumerate();
        lines.map(|(index, line)| format!("{:>4}  {}\n", index + 1, text::safe_word(line, usize::MAX))).collect()
    }

    fn prompt(&self) -> Prompt {
        self.used.as_ref().map_or_else(|| Prompt::Command(String::new()), |used| used.prompt.clone())
    }

    /// Whether something is asked for, and whether that is a password.
    pub(crate) fn asks(&self) -> bool {
        self.stage == Stage::Prompt
    }

    pub(crate) fn asks_for_password(&self) -> bool {
        self.asks() && self.used.as_ref().is_some_and(|used| used.prompt == Prompt::Password)
    }

    fn remember(&mut self, line: &str) {
        if matches!(self.prompt(), Prompt::Command(_)) && !line.trim().is_empty() {
            self.used().history.get_or_insert_default().add(line);
        }
    }

    fn used(&mut self) -> &mut Used {
        self.used.get_or_insert_with(|| Box::new(Used::new()))
    }

    /// Gives back what is not needed any more.
    fn release(&mut self) {
        if let Some(used) = &mut self.used {
            if used.ahead.is_empty() {
                used.ahead = VecDeque::new();
            }
            if used.is_nothing() && self.stage != Stage::More {
                self.used = None;
            }
        }
    }
}

impl Used {
    fn new() -> Used {
        Used {
            prompt: Prompt::Command(String::new()),
            ahead: VecDeque::new(),
            keys: Keys::default(),
            line: Line::default(),
            row: Row::default(),
            history: None,
            pager: None,
            after: None,
            enough: false,
            interrupted: false,
            swallow: false,
            ended: false,
        }
    }

    /// Whether it is as if it had never been made.
    fn is_nothing(&self) -> bool {
        let nothing_typed = self.ahead.is_empty() && self.keys.is_between() && self.line.is_blank();
        let nothing_shown = self.pager.is_none() && self.after.is_none() && !self.enough && self.row.is_clear();
        let nothing_known = self.history.is_none() && matches!(&self.prompt, Prompt::Command(path) if path.is_empty());
        nothing_typed && nothing_shown && nothing_known && !self.interrupted && !self.ended
    }

    fn is_held(&self) -> bool {
        self.pager.as_ref().is_some_and(Pager::is_held)
    }

    fn interrupt(&mut self) {
        self.ahead.clear();
        self.keys = Keys::default();
        self.interrupted = true;
    }

    /// The next key, of those typed.
    fn key(&mut self) -> Option<Key> {
        while let Some(byte) = self.ahead.pop_front() {
            if let Some(key) = self.keys.take(byte)
                && !std::mem::take(&mut self.swallow)
            {
                return Some(key);
            }
        }
        None
    }

    /// A key at a prompt; an event, if the console has to hear of it.
    fn edit(&mut self, key: Key, terminal: Terminal, out: &mut Vec<u8>) -> Option<ConsoleIn> {
        let at_command = matches!(self.prompt, Prompt::Command(_));
        match key {
            Key::Enter => return Some(self.enter(terminal, out)),
            Key::Interrupt => {
                self.end_row("^C\n", terminal, out);
                self.line.take();
                if !at_command {
                    return Some(ConsoleIn::Interrupt);
                }
                encode_text(self.prompt.text(), out);
            }
            Key::DeleteOrEnd if self.line.is_empty() => {
                self.end_row("\n", terminal, out);
                return Some(ConsoleIn::End);
            }
            Key::Tab if at_command => {
                self.render(terminal, out);
                return Some(ConsoleIn::Complete(self.line.text()[..self.line.at()].to_owned()));
            }
            Key::Up | Key::Down | Key::Oldest | Key::Newest if at_command => self.look_back(key, out),
            Key::ClearScreen if terminal.moves() => {
                out.extend_from_slice(b"\x1b[H\x1b[2J");
                encode_text(self.prompt.text(), out);
                self.row.clear();
            }
            key => {
                if self.line.key(key) == Edit::Refused {
                    out.push(BEL);
                }
            }
        }
        None
    }

    fn enter(&mut self, terminal: Terminal, out: &mut Vec<u8>) -> ConsoleIn {
        self.end_row("\n", terminal, out);
        let overlong = self.line.is_overlong();
        let line = self.line.take();
        if overlong {
            return ConsoleIn::LineTooLong;
        }
        if matches!(self.prompt, Prompt::Command(_)) && !line.trim().is_empty() {
            self.history.get_or_insert_default().add(&line);
        }
        ConsoleIn::Line(line)
    }

    fn look_back(&mut self, key: Key, out: &mut Vec<u8>) {
        let typed = self.line.text();
        let found = self.history.as_mut().and_then(|history| match key {
            Key::Up => history.older(typed),
            Key::Down => history.newer(typed),
            Key::Oldest => history.oldest(typed),
            _ => history.newest(typed),
        });
        match found {
            Some(line) => self.line.replace(line),
            None => out.push(BEL),
        }
    }

    /// Shows the line as it is now.
    fn render(&mut self, terminal: Terminal, out: &mut Vec<u8>) {
        if self.prompt != Prompt::Password {
            let prompt = text::columns(&self.prompt.text());
            self.row.show(self.line.text(), self.line.at(), prompt, terminal, out);
        }
    }

    /// Shows the whole line, and what ends it.
    fn end_row(&mut self, end: &str, terminal: Terminal, out: &mut Vec<u8>) {
        self.line.key(Key::End);
        self.render(terminal, out);
        encode_text(end, out);
        self.row.clear();
    }
}
