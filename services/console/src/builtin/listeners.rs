//! `listeners`: where the engine listens, and whether it accepts there.

use megamux_engine::{EndpointKind, EndpointRow, EndpointState, Handle};

use crate::text::{self, Align, Table};

/// The table of listeners.
pub(crate) fn list(engine: &Handle) -> String {
    let columns = ["name", "address", "state"].map(|title| (title, Align::Left));
    let counts = ["connections", "accepted", "refused"].map(|title| (title, Align::Right));
    let mut table = Table::new(&[columns, counts].concat());
    for row in listening(engine) {
        table.row(vec![
            text::safe_word(&row.name, 32),
            address(&row),
            row.state.as_str().to_owned(),
            row.live.to_string(),
            row.accepted.to_string(),
            row.refused.to_string(),
        ]);
    }
    table.render()
}

/// The listeners' names.
pub(crate) fn names(engine: &Handle) -> Vec<String> {
    listening(engine).map(|row| row.name.to_string()).collect()
}

/// Stops accepting until resumed.
pub(crate) fn pause(engine: &Handle, name: &str) -> String {
    change(engine, "pause", name, |row| match engine.pause(row.id) {
        Ok(()) => "accepts nobody until it is resumed".to_owned(),
        Err(error) => format!("is not paused everywhere: {error}"),
    })
}

/// Accepts again.
pub(crate) fn resume(engine: &Handle, name: &str) -> String {
    change(engine, "resume", name, |row| match engine.resume(row.id) {
        Ok(()) => "accepts".to_owned(),
        Err(error) => format!("does not accept everywhere: {error}"),
    })
}

/// Stops accepting for good.
pub(crate) fn drain(engine: &Handle, name: &str) -> String {
    change(engine, "drain", name, |row| {
        engine.unlisten(row.id);
        format!("accepts nobody any more; its {} connections live on", row.live)
    })
}

fn change(engine: &Handle, verb: &str, name: &str, change: impl Fn(&EndpointRow) -> String) -> String {
    let named = |row: &EndpointRow| *row.name == *name || row.id.to_string() == name;
    let found: Vec<EndpointRow> = listening(engine).filter(named).collect();
    match &found[..] {
        [] => format!("usage: listeners {verb} NAME, as in listeners list\n"),
        rows => rows.iter().map(|row| format!("{} on {} {}\n", row.name, address(row), change(row))).collect(),
    }
}

fn listening(engine: &Handle) -> impl Iterator<Item = EndpointRow> {
    let listens = |row: &EndpointRow| row.kind == EndpointKind::Listener && row.state != EndpointState::Closed;
    engine.endpoints().into_iter().filter(listens)
}

fn address(row: &EndpointRow) -> String {
    row.addr.as_ref().map_or_else(|| "-".to_owned(), |addr| text::safe_word(&addr.to_string(), 80))
}
