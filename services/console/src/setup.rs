//! How a console is made: who may use it, what they may do, and what it knows of the process around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use megamux_engine::{Builder, EndpointId, Listen, Placement, ServiceRef, StartError};
use megamux_telnet::console::{CompletionOffered, Notice, RegisterCommand, Reply, Role};

use crate::access::Access;
use crate::access::operators::Operators;
use crate::access::roster::Roster;
use crate::access::verifier::{Verified, Verifier, Verify};
use crate::commands::Commands;
use crate::console::{Console, Parts};
use crate::event::{ConnFound, ConnRows};
use crate::handler::TelnetHandler;
use crate::log::{LogLevel, LogRing};

/// A console to be registered.
///
/// ```no_run
/// use megamux_console::{Access, LogRing, Role, Setup};
/// use megamux_engine::{Config, Engine, Listen, Placement};
///
/// let mut access = Access::open();
/// access.add("ann", "$argon2id$v=19$m=19456,t=2,p=1$...", Role::Admin)?;
/// let mut builder = Engine::builder(Config::default())?;
/// let listen = Listen::tcp("127.0.0.1:7023").max_connections(16);
/// Setup::new().access(access).log(LogRing::new()).install(&mut builder, listen, Placement::Thread)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Setup {
    operators: Operators,
    roster: Option<Roster>,
    log: Option<LogRing>,
    level: Option<Arc<dyn LogLevel>>,
}

impl Setup {
    /// A console that is open and knows nothing of the process.
    #[must_use]
    pub fn new() -> Setup {
        Setup::default()
    }

    /// With these users.
    #[must_use]
    pub fn access(self, access: Access) -> Setup {
        let Operators { roles, .. } = self.operators;
        Setup { operators: Operators { access, roles }, ..self }
    }

    /// With roles for commands that stand in for the commands' own. A path is a command's or a directory's
    /// (`conns/kick`, `listeners`); the longest that fits counts.
    #[must_use]
    pub fn roles(self, roles: BTreeMap<String, Role>) -> Setup {
        let Operators { access, .. } = self.operators;
        Setup { operators: Operators { access, roles }, ..self }
    }

    /// With what the operators' file says of both.
    #[must_use]
    pub fn operators(self, operators: Operators) -> Setup {
        Setup { operators, ..self }
    }

    /// With a list of operators that may change while the console runs, in place of users and roles that are given here.
    #[must_use]
    pub fn roster(self, roster: Roster) -> Setup {
        Setup { roster: Some(roster), ..self }
    }

    /// With the process's log to show.
    #[must_use]
    pub fn log(self, ring: LogRing) -> Setup {
        Setup { log: Some(ring), ..self }
    }

    /// With the level of the process's log to change.
    #[must_use]
    pub fn log_level(self, level: impl LogLevel + 'static) -> Setup {
        Setup { level: Some(Arc::new(level)), ..self }
    }

    /// Registers the console and a telnet listener for it.
    ///
    /// # Errors
    ///
    /// As [`Builder::service`] and [`Builder::listen`].
    pub fn install(
        self,
        builder: &mut Builder,
        listen: Listen,
        placement: Placement,
    ) -> Result<EndpointId, StartError> {
        let console = self.register(builder, placement)?;
        builder.listen(listen, &console, |_shard| TelnetHandler::new())
    }

    /// Registers the console alone, subscribed to all it needs; for fronts of one's own and for several listeners. Where
    /// there are users, a thread that compares their passwords comes with it.
    ///
    /// # Errors
    ///
    /// As [`Builder::service`].
    pub fn register(self, builder: &mut Builder, placement: Placement) -> Result<ServiceRef<Console>, StartError> {
        let roster = self.roster.clone().unwrap_or_else(|| Roster::new(self.operators.clone()));
        if !roster.access().is_open() {
            let roster = roster.clone();
            let verifier =
                builder.service("console-login", Placement::Thread, move || Verifier::new(roster.clone()))?;
            builder.subscribe::<Verify, _>(&verifier);
        }
        self.roster(roster).register_without_verifier(builder, placement)
    }

    pub(crate) fn register_without_verifier(
        self,
        builder: &mut Builder,
        placement: Placement,
    ) -> Result<ServiceRef<Console>, StartError> {
        // One table for all incarnations: other services register once, and a console made anew must not forget them.
        let roster = self.roster.unwrap_or_else(|| Roster::new(self.operators));
        let asks = !roster.access().is_open();
        let commands = Commands::with_roster(roster.clone());
        let parts = Parts { commands, asks, roster, log: self.log, level: self.level };
        let console = builder.service("console", placement, move || Console::new(parts.clone()))?;
        builder.subscribe::<RegisterCommand, _>(&console);
        builder.subscribe::<Reply, _>(&console);
        builder.subscribe::<CompletionOffered, _>(&console);
        builder.subscribe::<Notice, _>(&console);
        builder.subscribe::<ConnRows, _>(&console);
        builder.subscribe::<ConnFound, _>(&console);
        builder.subscribe::<Verified, _>(&console);
        Ok(console)
    }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("operators", &self.operators)
            .field("roster", &self.roster)
            .finish_non_exhaustive()
    }
}
