//! The running server: what a reload changes in it, and how its end begins.
//!
//! It owns the listeners by their names. Invariant: a reload that cannot be carried out in full changes nothing, as far as
//! that can be known beforehand: settings are read and judged, and listeners on new addresses bound, before anything that
//! is there goes. Connections outlive their listener.

use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Listener, ListenerSettings, Settings, Sources};
use crate::engine::net::Addr;
use crate::engine::{EndpointId, Handle, StartError};
use crate::health::Health;
use crate::listeners::{Door, Protocols};
use crate::log::Log;
use crate::notify::Manager;

/// How long a listener that takes its own address over waits until the shards have let go of it.
const RELEASE: Duration = Duration::from_secs(2);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// A listener that is on.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) settings: ListenerSettings,
    pub(crate) endpoint: EndpointId,
    /// Its socket is a service manager's: it stays as it is.
    pub(crate) was_passed: bool,
}

/// What can change while it runs.
pub(crate) struct Running {
    pub(crate) engine: Handle,
    pub(crate) protocols: Protocols,
    /// What it was started with.
    pub(crate) started: Settings,
    /// What holds now.
    pub(crate) settings: Settings,
    pub(crate) sources: Sources,
    pub(crate) log: Log,
    #[cfg(feature = "telnet")]
    pub(crate) roster: megamux_console::Roster,
    pub(crate) health: Health,
    pub(crate) manager: Manager,
    pub(crate) listeners: Vec<Bound>,
}

impl Running {
    /// The listeners with their addresses as bound.
    pub(crate) fn bound(&self) -> Vec<(&str, Listener, Addr)> {
        let addrs = self.engine.local_addrs();
        let addr = |id| addrs.iter().find(|(endpoint, _)| *endpoint == id).map(|(_, addr)| addr.clone());
        let named = |on: &'_ Bound| Some((on.settings.listener, addr(on.endpoint)?));
        self.listeners
            .iter()
            .filter_map(|on| named(on).map(|(listener, addr)| (on.settings.name.as_str(), listener, addr)))
            .collect()
    }

    /// One line for people: who listens where.
    pub(crate) fn status(&self) -> String {
        let on: Vec<_> = self.bound().iter().map(|(name, _, addr)| format!("{name} on {addr}")).collect();
        if on.is_empty() { "serving, no listeners".to_owned() } else { format!("serving: {}", on.join(", ")) }
    }

    /// Reads the settings again and carries out what differs.
    pub(crate) fn reload(&mut self) {
        self.manager.reloading();
        match self.try_reload() {
            Ok(()) => self.manager.ready(self.status()),
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::error!("reload refused, nothing changed: {line}");
                }
                self.manager.ready(format!("{}; the last reload was refused, see the log", self.status()));
            }
        }
    }

    fn try_reload(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let newer = self.sources.read()?;
        let (going, coming) = self.differences(&newer);
        let is_going = |addr: &Addr| going.iter().any(|on| on.settings.addr == *addr);
        let (later, now): (Vec<_>, Vec<_>) = coming.into_iter().partition(|on| is_going(&on.addr));
        let mut opened = Vec::new();
        for on in now {
            match self.open(&on, Duration::ZERO) {
                Ok(bound) => opened.push(bound),
                Err(error) => {
                    opened.iter().for_each(|on: &Bound| self.engine.unlisten(on.endpoint));
                    return Err(error.into());
                }
            }
        }
        for on in &going {
            self.engine.unlisten(on.endpoint);
            tracing::info!("reload: {} no longer listens on {}", on.settings.name, on.settings.addr);
        }
        for on in later {
            match self.open(&on, RELEASE) {
                Ok(bound) => opened.push(bound),
                // The old one is gone: this is what could not be known beforehand.
                Err(error) => tracing::error!("reload: {} is off: {error}", on.name),
            }
        }
        for on in &opened {
            tracing::info!("reload: {} listens on {}", on.settings.name, on.settings.addr);
        }
        self.listeners.retain(|on| !going.iter().any(|gone| gone.endpoint == on.endpoint));
        self.listeners.extend(opened);
        self.log.change(&self.settings, &newer);
        #[cfg(feature = "telnet")]
        self.change_operators(&newer);
        for key in self.settings.changes(&newer, true) {
            tracing::info!(key, "reload: changed");
        }
        for key in self.started.changes(&newer, false) {
            tracing::warn!(key, "reload: this cannot change without a restart");
        }
        self.settings = newer;
        tracing::info!("reloaded");
        Ok(())
    }

    /// Who may use the console. Whether anybody has to say who they are was decided at the start.
    #[cfg(feature = "telnet")]
    fn change_operators(&self, newer: &Settings) {
        let is_open = |settings: &Settings| settings.operators.access.is_open();
        if is_open(&self.started) != is_open(newer) {
            let what = if is_open(newer) { "goes on asking who is there" } else { "stays open" };
            tracing::warn!(
                "reload: the console {what} until a restart: console.operators went from none to a file, or back"
            );
        } else if self.settings.operators != newer.operators {
            self.roster.replace(newer.operators.clone());
            tracing::info!(users = newer.operators.access.users(), "reload: who may use the console has changed");
        }
    }

    /// Listeners that end, and settings of those that begin. One that differs in anything is both.
    fn differences(&self, newer: &Settings) -> (Vec<Bound>, Vec<ListenerSettings>) {
        let passed = |name: &str| self.listeners.iter().any(|on| on.was_passed && on.settings.name == name);
        let stays = |on: &Bound| on.was_passed || newer.listeners.contains(&on.settings);
        let going = self.listeners.iter().filter(|on| !stays(on)).cloned().collect();
        let is_on = |new: &ListenerSettings| self.listeners.iter().any(|on| on.settings == *new);
        let coming = newer.listeners.iter().filter(|new| !passed(&new.name) && !is_on(new)).cloned().collect();
        (going, coming)
    }

    fn open(&self, on: &ListenerSettings, patience: Duration) -> Result<Bound, StartError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.protocols.listen(Door::Engine(&self.engine), on, None) {
                Ok(endpoint) => return Ok(Bound { settings: on.clone(), endpoint, was_passed: false }),
                Err(StartError::Bind { source, .. })
                    if source.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline =>
                {
                    thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins the end: unhealthy at once, then, after the delay, a drain.
    pub(crate) fn drain(&self, signal: &str) {
        let Settings { drain_delay, drain_timeout, .. } = self.settings;
        self.health.drain();
        self.manager.stopping(format!("draining, for at most {:?}", drain_delay + drain_timeout));
        let engine = self.engine.clone();
        if !drain_delay.is_zero() {
            tracing::info!(
                ?drain_delay,
                ?drain_timeout,
                "{signal}: unhealthy, and draining after a delay; a second signal ends it at once"
            );
            let wait = move || {
                thread::sleep(drain_delay);
                engine.drain(drain_timeout);
            };
            if thread::Builder::new().name("drain".into()).spawn(wait).is_ok() {
                return;
            }
            return self.engine.drain(drain_timeout);
        }
        tracing::info!(?drain_timeout, "{signal}: draining; a second signal ends it at once");
        engine.drain(drain_timeout);
    }
}
