//! The server: settings become an engine with its listeners, which runs until a signal drains it.
//!
//! It owns the order of the start: what can be refused cheaply comes first, the ready line last, when everything is bound
//! and signals drain. It starts the log, installs handlers of signals and raises RLIMIT_NOFILE, so it is for a process of
//! its own.

use std::os::fd::OwnedFd;

use crate::banner::Banner;
use crate::config::{ConfigError, Settings, Sources};
use crate::data_dir::{self, DataDirError};
use crate::engine::net::{self, Addr};
use crate::engine::{Engine, EngineError, StartError};
use crate::health::Health;
use crate::limits::{self, TooFewDescriptors};
use crate::listeners::{Door, Protocols};
use crate::log::Log;
use crate::running::{Bound, Running};
use crate::{notify, signals};

/// Why the server did not start, or ended otherwise than by a drain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The settings cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The engine cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The limit is too low.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// What the service manager passed cannot be listened on.
    #[error("cannot use the socket that was passed as {name:?}: {source}")]
    Passed {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The process has a log already.
    #[error("cannot start the log: {0}")]
    Log(#[source] tracing_subscriber::util::TryInitError),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] std::io::Error),
    /// The engine failed while it ran.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl ServeError {
    /// 2 if the settings are to blame, 1 if the machine is.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::Config(_) => 2,
            ServeError::Start(StartError::Address(_) | StartError::Config(_) | StartError::Service { .. }) => 2,
            _ => 1,
        }
    }
}

/// Serves until a signal has drained the engine. SIGHUP has the sources read again.
///
/// # Errors
///
/// See [`ServeError`].
pub fn run(sources: Sources) -> Result<(), ServeError> {
    // Before anything opens a descriptor that could be taken for one that was passed.
    let passed = net::activated();
    let mut settings = sources.read()?;
    let log = Log::start(&settings).map_err(ServeError::Log)?;
    let passed = take_over(&mut settings, passed)?;
    let _data_dir = data_dir::open(&settings.data_dir)?;
    let descriptors = limits::raise();
    let config = settings.engine();
    let connections_per_shard = config.connections_per_shard;
    let mut builder = Engine::builder(config)?;
    let shards = builder.shards();
    descriptors.check(shards, settings.listeners.len())?;
    let health = Health::default();
    #[cfg(feature = "telnet")]
    let roster = megamux_console::Roster::new(settings.operators.clone());
    let protocols = Protocols::new(
        &mut builder,
        health.clone(),
        #[cfg(feature = "telnet")]
        megamux_console::Setup::new().roster(roster.clone()).log(log.ring()).log_level(log.level()),
    )?;
    let mut listeners = Vec::new();
    let mut sockets = passed;
    for on in &settings.listeners {
        let place = sockets.iter().position(|(name, _)| *name == on.name);
        let socket = place.map(|place| sockets.swap_remove(place).1);
        let was_passed = socket.is_some();
        let endpoint = protocols.listen(Door::Builder(&mut builder), on, socket)?;
        listeners.push(Bound { settings: on.clone(), endpoint, was_passed });
    }
    let engine = builder.start()?;
    let manager = notify::Manager::connect().map_err(ServeError::Signals)?;
    let running = Running {
        engine: engine.handle().clone(),
        protocols,
        started: settings.clone(),
        settings: settings.clone(),
        sources,
        log,
        #[cfg(feature = "telnet")]
        roster,
        health,
        manager: manager.clone(),
        listeners,
    };
    let status = running.status();
    let bound: Vec<(&str, _, Addr)> = running.bound();
    let banner = Banner {
        settings: &settings,
        shards,
        bound: &bound,
        caps: engine.driver(),
        descriptors,
        connections_per_shard,
    };
    let banner = banner.text();
    drop(bound);
    signals::watch(running).map_err(ServeError::Signals)?;
    notify::feed_watchdog(engine.handle().clone(), manager.clone()).map_err(ServeError::Signals)?;
    crate::banner::print(&banner);
    manager.ready(status);
    engine.join()?;
    tracing::info!("drained");
    Ok(())
}

/// Names the listeners of the sockets that were passed.
fn take_over(
    settings: &mut Settings,
    passed: std::io::Result<Vec<net::Activated>>,
) -> Result<Vec<(String, OwnedFd)>, ServeError> {
    let failed = |name: &str, source| ServeError::Passed { name: name.to_owned(), source };
    let mut names = Vec::new();
    let mut sockets = Vec::new();
    for net::Activated { name, fd } in passed.map_err(|source| failed("LISTEN_FDS", source))? {
        let addr = net::listening_addr(&fd).map_err(|source| failed(&name, source))?;
        let called = settings.take_over(&name, addr, &names)?;
        names.push(called.clone());
        sockets.push((called, fd));
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RingError;

    #[test]
    fn the_exit_code_says_who_is_to_blame() {
        let check = |error: ServeError, code| assert_eq!(error.exit_code(), code, "{error}");
        check(StartError::Config("caps".into()).into(), 2);
        check(StartError::Address("addr".into()).into(), 2);
        check(StartError::Driver(RingError::Refused).into(), 1);
        let addr = Addr::Tcp(([127, 0, 0, 1], 80).into());
        let source = std::io::ErrorKind::AddrInUse.into();
        check(StartError::Bind { addr, source }.into(), 1);
    }

    #[test]
    fn a_refused_ring_is_one_clear_line() {
        let error = ServeError::from(StartError::Driver(RingError::Refused)).to_string();
        assert!(!error.contains('\n') && error.contains("seccomp"), "{error}");
    }
}
