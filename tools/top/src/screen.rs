//! The terminal: drawing the view, reading keys, and leaving everything as it was.
//!
//! Invariant: however the program ends, the terminal is given back: `ratatui::init` sees to a panic, a thread of its own to signals.

use std::io;
use std::thread;
use std::time::Duration;

use megamux_client::Source;
use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row as TableRow, Table};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::plain::uptime;
use crate::view::{COLUMNS, Column, Row, View};

/// What a key press asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Leave,
    Pause,
    Faster,
    Slower,
}

/// All that is drawn.
pub struct State<'a> {
    pub view: &'a View,
    pub source: &'a Source,
    pub interval: Duration,
    pub paused: bool,
    /// Why there is nothing newer.
    pub trouble: Option<&'a str>,
}

/// The terminal while it is ours.
pub struct Screen {
    terminal: DefaultTerminal,
    colours: bool,
}

impl Screen {
    /// Takes the terminal over.
    pub fn open() -> io::Result<Screen> {
        // https://no-color.org: any value that is not empty.
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        give_back_on_signals()?;
        Ok(Screen { terminal: ratatui::try_init()?, colours })
    }

    pub fn draw(&mut self, state: &State<'_>) -> io::Result<()> {
        let colours = self.colours;
        self.terminal.draw(|frame| draw(frame, state, colours)).map(drop)
    }

    /// The next key that means something, within `wait`.
    pub fn key(&mut self, wait: Duration) -> io::Result<Option<Key>> {
        if !event::poll(wait)? {
            return Ok(None);
        }
        let Event::Key(key) = event::read()? else { return Ok(None) };
        if key.kind == KeyEventKind::Release {
            return Ok(None);
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        Ok(match key.code {
            KeyCode::Char('c') if control => Some(Key::Leave),
            KeyCode::Char('q') | KeyCode::Esc => Some(Key::Leave),
            KeyCode::Char('p' | ' ') => Some(Key::Pause),
            KeyCode::Char('+') => Some(Key::Faster),
            KeyCode::Char('-') => Some(Key::Slower),
            _ => None,
        })
    }
}

/// Interrupts from the keyboard are keys here; these come from elsewhere.
fn give_back_on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            ratatui::restore();
            // Ends as if it had not been caught, so that whoever waits for us sees what it was.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
    Ok(())
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn draw(frame: &mut Frame<'_>, state: &State<'_>, colours: bool) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(heading(state, colours), head);
    let shown = fitting(&state.view.rows, body.width);
    let cell = |row: &Row, column: &Column| {
        let style = if (column.alarm)(row) { alarm(colours) } else { Style::new() };
        Line::from(Span::styled((column.cell)(row), style)).right_aligned()
    };
    let rows = state.view.rows.iter().map(|row| {
        let style = if row.name == "all" { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        TableRow::new(shown.iter().map(|(column, _)| cell(row, column))).style(style)
    });
    let titles = TableRow::new(shown.iter().map(|(column, _)| Line::from(column.title).right_aligned()));
    let widths = shown.iter().map(|(_, width)| Constraint::Length(*width));
    let table = Table::new(rows, widths)
        .header(titles.style(Style::new().add_modifier(Modifier::REVERSED)))
        .column_spacing(SPACING);
    frame.render_widget(table, body);
    frame.render_widget(Line::from("q leave   p pause   + - interval"), foot);
}

const SPACING: u16 = 2;

/// The columns that fit, from the left, with their widths.
fn fitting(rows: &[Row], most: u16) -> Vec<(&'static Column, u16)> {
    let mut used = 0;
    let width = |column: &Column| {
        let cells = rows.iter().map(|row| (column.cell)(row).len()).max().unwrap_or(0);
        // No cell is anywhere near that long.
        cells.max(column.title.len()) as u16
    };
    let with_width = COLUMNS.iter().map(|column| (column, width(column)));
    with_width
        .take_while(|(_, width)| {
            used += width + if used > 0 { SPACING } else { 0 };
            used <= most
        })
        .collect()
}

fn heading(state: &State<'_>, colours: bool) -> Paragraph<'static> {
    let State { view, source, interval, paused, trouble } = state;
    let (version, up) = (&view.version, uptime(view.uptime.as_secs()));
    let pace = if *paused { "paused".into() } else { format!("every {}s", interval.as_secs_f64()) };
    let first = Line::from(format!("megamux {version} at {source}, up {up}, {pace}"));
    let second = trouble.map_or(Line::default(), |trouble| Line::styled(trouble.to_owned(), alarm(colours)));
    Paragraph::new(vec![first, second])
}

fn alarm(colours: bool) -> Style {
    let style = Style::new().add_modifier(Modifier::BOLD);
    if colours { style.fg(Color::Red) } else { style }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn shown(width: u16, trouble: Option<&str>) -> (String, Terminal<TestBackend>) {
        let rows = vec![
            Row { name: "0".into(), connections: 41.0, ..Row::default() },
            Row { name: "1".into(), connections: 1.0, starved: 3.0, ..Row::default() },
        ];
        let view = View { version: "0.1.0".into(), uptime: Duration::from_secs(7), rows };
        let source = Source::Unix("/run/m".into());
        let mut terminal = Terminal::new(TestBackend::new(width, 8)).unwrap();
        let state = State { view: &view, source: &source, interval: Duration::from_secs(1), paused: false, trouble };
        terminal.draw(|frame| draw(frame, &state, true)).unwrap();
        (terminal.backend().to_string(), terminal)
    }

    #[test]
    fn a_wide_terminal_shows_every_column_and_alarms_stand_out() {
        let (text, terminal) = shown(200, None);
        for column in COLUMNS {
            assert!(text.contains(column.title), "{} is not in\n{text}", column.title);
        }
        let red = terminal.backend().buffer().content().iter().filter(|cell| cell.fg == Color::Red).count();
        assert_eq!(red, 1, "one digit of starved connections");
    }

    #[test]
    fn a_narrow_terminal_shows_whole_columns_from_the_left() {
        let (text, _) = shown(24, None);
        assert!(text.contains("parked") && !text.contains("armed"), "{text}");
        shown(1, None);
    }

    #[test]
    fn trouble_is_shown_above_what_is_known() {
        let (text, _) = shown(100, Some("cannot connect"));
        assert!(text.contains("cannot connect") && text.contains("41"), "{text}");
    }
}
