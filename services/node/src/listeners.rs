//! Listeners: settings become endpoints, in an engine that is being put together or one that runs.
//!
//! It owns what each protocol needs of its listener and its handler. It must not decide which listeners there are.

use std::os::fd::OwnedFd;

#[cfg(any(feature = "telnet", feature = "http", feature = "echo"))]
use crate::config::Listener;
use crate::config::ListenerSettings;
use crate::engine::{Builder, EndpointId, Handle, Handler, Listen, ServiceRef, ShardId, StartError};
use crate::health::Health;

/// Where a listener is added.
pub(crate) enum Door<'a> {
    Builder(&'a mut Builder),
    Engine(&'a Handle),
}

impl Door<'_> {
    #[cfg_attr(not(any(feature = "telnet", feature = "http", feature = "echo")), allow(dead_code))]
    fn listen<H: Handler>(
        &mut self,
        listen: Listen,
        service: &ServiceRef<H::Service>,
        factory: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<EndpointId, StartError> {
        match self {
            Door::Builder(builder) => builder.listen(listen, service, factory),
            Door::Engine(engine) => engine.listen(listen, service, factory),
        }
    }
}

/// What the protocols' handlers share.
#[derive(Clone)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "the others ask for neither"))]
pub(crate) struct Protocols {
    #[cfg(feature = "telnet")]
    console: ServiceRef<megamux_console::Console>,
    health: Health,
    shards: usize,
}

impl Protocols {
    /// Registers the services behind them.
    pub(crate) fn new(
        builder: &mut Builder,
        health: Health,
        #[cfg(feature = "telnet")] console: megamux_console::Setup,
    ) -> Result<Protocols, StartError> {
        Ok(Protocols {
            #[cfg(feature = "telnet")]
            console: console.register(builder, crate::engine::Placement::Thread)?,
            health,
            shards: builder.shards(),
        })
    }

    /// Adds a listener; on a socket that listens already, if there is one.
    #[allow(unused_variables, unused_mut, unreachable_patterns, reason = "depends on what is built")]
    pub(crate) fn listen(
        &self,
        mut door: Door<'_>,
        on: &ListenerSettings,
        socket: Option<OwnedFd>,
    ) -> Result<EndpointId, StartError> {
        let bind = |source| StartError::Bind { addr: on.addr.clone(), source };
        let listen = match socket {
            Some(socket) => Listen::inherited(socket).map_err(bind)?,
            None => Listen::addr(on.addr.clone()),
        };
        match on.listener {
            #[cfg(feature = "telnet")]
            Listener::Telnet => {
                let front = |_| megamux_console::TelnetHandler::new();
                door.listen(behind(on, on.apply(listen)), &self.console, front)
            }
            #[cfg(feature = "http")]
            Listener::Http => {
                let health = self.health.clone();
                let clock = std::time::SystemTime::now;
                let handler = move |_| crate::http::HttpHandler::new(clock).with_health(health.clone());
                let listen = on.apply(crate::http::limited(listen, self.shards));
                door.listen(behind(on, listen), &crate::engine::NO_SERVICE, handler)
            }
            #[cfg(feature = "echo")]
            Listener::Echo => {
                door.listen(behind(on, on.apply(listen)), &crate::engine::NO_SERVICE, |_| crate::echo::Echo)
            }
            // Settings name no such listener.
            missing => Err(StartError::Config(format!("this build has no {}", missing.name()))),
        }
    }
}

/// Puts the PROXY header in front, if it is asked for; its time is the listener's own.
#[allow(unused_variables, dead_code, reason = "depends on what is built")]
fn behind(on: &ListenerSettings, listen: Listen) -> Listen {
    #[cfg(feature = "proxy")]
    if on.proxy_protocol {
        return crate::proxy::behind_proxy(listen).handshake_timeout(on.handshake_timeout);
    }
    listen
}
