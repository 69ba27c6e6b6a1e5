//! The server: settings become an engine with its listeners, which runs until a signal drains it.
//!
//! It owns the order of the start: what can be refused cheaply comes first, the ready line last, when everything is bound
//! and signals drain. It installs handlers of SIGTERM and SIGINT and raises RLIMIT_NOFILE, so it is for a process of its own.

use crate::banner::Banner;
use crate::config::{Listener, ListenerSettings, Settings};
use crate::data_dir::{DataDir, DataDirError};
use crate::engine::net::Addr;
use crate::engine::{Builder, Config, EndpointId, Engine, EngineError, Listen, StartError};
use crate::limits::{self, TooFewDescriptors};
use crate::signals;

/// Connections of the console: people, not peers. It bounds what their sessions hold.
#[cfg(feature = "telnet")]
const MAX_OPERATORS: u32 = 64;

/// Why the server did not start, or ended otherwise than by a drain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The engine cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The limit is too low.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
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
            ServeError::Start(StartError::Address(_) | StartError::Config(_) | StartError::Service { .. }) => 2,
            _ => 1,
        }
    }
}

/// Serves until a signal has drained the engine.
///
/// # Errors
///
/// See [`ServeError`].
pub fn run(settings: &Settings) -> Result<(), ServeError> {
    let _data_dir = settings.data_dir.as_deref().map(DataDir::open).transpose()?;
    let descriptors = limits::raise();
    let config = config(settings);
    let connections_per_shard = config.connections_per_shard;
    let mut builder = Engine::builder(config)?;
    let shards = builder.shards();
    descriptors.check(shards, settings.listeners.len())?;
    let mut endpoints = Vec::new();
    for on in &settings.listeners {
        endpoints.push((on.listener, add(&mut builder, on)?));
    }
    let engine = builder.start()?;
    signals::watch(engine.handle().clone(), settings.drain_timeout).map_err(ServeError::Signals)?;
    Banner {
        settings,
        shards,
        bound: &bound(&engine, &endpoints),
        caps: engine.driver(),
        descriptors,
        connections_per_shard,
    }
    .print();
    engine.join()?;
    tracing::info!("drained");
    Ok(())
}

fn config(settings: &Settings) -> Config {
    let mut config = Config::default();
    config.shards = settings.shards;
    config.pin = settings.pin.clone();
    config.driver = settings.driver;
    config.caps_mask = settings.caps_mask.clone();
    config
}

/// Adds a listener.
#[allow(unused_variables, unreachable_patterns, reason = "depends on what is built")]
fn add(builder: &mut Builder, on: &ListenerSettings) -> Result<EndpointId, StartError> {
    let listen = Listen::addr(on.addr.clone());
    #[cfg(feature = "proxy")]
    let listen = if on.proxy_protocol { crate::proxy::behind_proxy(listen) } else { listen };
    match on.listener {
        #[cfg(feature = "telnet")]
        Listener::Telnet => {
            use crate::engine::Placement;
            megamux_console::install(builder, listen.max_connections(MAX_OPERATORS), Placement::Thread)
        }
        #[cfg(feature = "http")]
        Listener::Http => {
            let listen = crate::http::limited(listen, builder.shards());
            let handler = |_| crate::http::HttpHandler::new(std::time::SystemTime::now);
            builder.listen(listen, &crate::engine::NO_SERVICE, handler)
        }
        #[cfg(feature = "echo")]
        Listener::Echo => builder.listen(listen, &crate::engine::NO_SERVICE, |_| crate::echo::Echo),
        // Settings name no such listener.
        missing => Err(StartError::Config(format!("this build has no {}", missing.name()))),
    }
}

/// The addresses of the listeners, as bound.
fn bound(engine: &Engine, endpoints: &[(Listener, EndpointId)]) -> Vec<(Listener, Addr)> {
    let addrs = engine.local_addrs();
    let addr = |id| addrs.iter().find(|(endpoint, _)| *endpoint == id).map(|(_, addr)| addr.clone());
    endpoints.iter().filter_map(|&(listener, id)| Some((listener, addr(id)?))).collect()
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
