//! What a service manager is told: ready, reloading, stopping, and that the shards still turn.
//!
//! It owns the words of sd_notify(3). Without a manager (no `NOTIFY_SOCKET`) every call is nothing. Invariant: a watchdog
//! that was asked for is fed only while every shard ticks, so that a shard that hangs has the server restarted.

use std::io;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::engine::Handle;

/// A shard looks around at least once in a second, whatever it waits for; it may be late by as much again.
const LONGEST_TICK: Duration = Duration::from_secs(2);

/// Messages that wait for a manager that does not read; what comes on top is dropped.
const WAITING: usize = 64;

/// The way to the manager. A manager that does not read holds up nobody: a thread of its own waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Manager(SyncSender<Word>);

#[derive(Debug)]
enum Word {
    Ready(String),
    Reloading,
    Stopping(String),
    Fed,
}

impl Manager {
    pub(crate) fn connect() -> io::Result<Manager> {
        let (sender, words) = mpsc::sync_channel(WAITING);
        let speak = move || words.into_iter().for_each(|word: Word| word.tell());
        thread::Builder::new().name("notify".into()).spawn(speak)?;
        Ok(Manager(sender))
    }

    /// The server serves. `status` is one line for people.
    pub(crate) fn ready(&self, status: String) {
        self.say(Word::Ready(status));
    }

    /// The settings are being read again; [`Manager::ready`] ends it.
    pub(crate) fn reloading(&self) {
        self.say(Word::Reloading);
    }

    /// The server is on its way out.
    pub(crate) fn stopping(&self, status: String) {
        self.say(Word::Stopping(status));
    }

    fn say(&self, word: Word) {
        let _ = self.0.try_send(word);
    }
}

impl Word {
    fn tell(self) {
        match self {
            Word::Ready(status) => tell(&[NotifyState::Ready, NotifyState::Status(&status)]),
            Word::Stopping(status) => tell(&[NotifyState::Stopping, NotifyState::Status(&status)]),
            Word::Fed => tell(&[NotifyState::Watchdog]),
            Word::Reloading => match NotifyState::monotonic_usec_now() {
                Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("reading its settings again")]),
                Err(error) => tracing::warn!(%error, "no monotonic clock: the service manager hears of no reload"),
            },
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager does not listen");
    }
}

/// Starts to feed the watchdog, if there is one.
pub(crate) fn feed_watchdog(engine: Handle, manager: Manager) -> io::Result<()> {
    let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero()) else {
        return Ok(());
    };
    let feed = move || {
        let mut seen = Ticks::of(&engine);
        loop {
            // sd_watchdog_enabled(3): every half of the time.
            thread::sleep(patience / 2);
            match seen.look(&engine) {
                None => manager.say(Word::Fed),
                Some(shard) => tracing::error!(shard, "the shard stands still: the watchdog is not fed"),
            }
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(feed).map(drop)
}

/// How often each shard had ticked, and when that was seen to change.
struct Ticks(Vec<(u64, Instant)>);

impl Ticks {
    fn of(engine: &Handle) -> Ticks {
        let now = Instant::now();
        Ticks(engine.stats().shards.iter().map(|shard| (shard.ticks.count(), now)).collect())
    }

    /// A shard that stands still.
    fn look(&mut self, engine: &Handle) -> Option<usize> {
        let now = Instant::now();
        let mut still = None;
        for (shard, (seen, stats)) in self.0.iter_mut().zip(&engine.stats().shards).enumerate() {
            if stats.ticks.count() != seen.0 {
                *seen = (stats.ticks.count(), now);
            } else if now.duration_since(seen.1) > LONGEST_TICK {
                still = Some(shard);
            }
        }
        still
    }
}
