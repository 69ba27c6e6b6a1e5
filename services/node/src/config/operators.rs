//! Who may use the console, and so where it may listen.
//!
//! It owns reading the operators' file. The rule where a console may listen is the console's own. In a build without a console
//! there is nobody to know and nothing to guard.

#[cfg(feature = "telnet")]
pub(crate) use megamux_console::Operators;

#[cfg(feature = "telnet")]
use super::at;
use super::{ConfigError, Origin, View};
use crate::engine::net::Addr;

/// Nobody.
#[cfg(not(feature = "telnet"))]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Operators;

/// What the operators' file says; nobody is named without one.
#[cfg(feature = "telnet")]
pub(super) fn read(path: &str, origin: &Origin) -> Result<Operators, ConfigError> {
    if path.is_empty() {
        return Ok(Operators::default());
    }
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Rule {
        at: at(origin),
        reason: format!("console.operators: cannot read {path}: {error}"),
    })?;
    Operators::parse(&text).map_err(|wrong| ConfigError::Rule {
        at: format!("{path}:{}: ", wrong.line),
        reason: wrong.mistake.to_string(),
    })
}

#[cfg(not(feature = "telnet"))]
pub(super) fn read(_: &str, _: &Origin) -> Result<Operators, ConfigError> {
    Ok(Operators)
}

/// Whether the console may listen there.
#[cfg(feature = "telnet")]
pub(super) fn check_binding(addr: &Addr, operators: &Operators, view: &View<'_>) -> Result<(), ConfigError> {
    megamux_console::check_binding(addr, &operators.access, view.flag("insecure")).map_err(|exposed| {
        let (at, addr, why) = (at(&view.origin("listen")), addr.clone(), exposed.to_string());
        ConfigError::InsecureTelnet { at, addr, why }
    })
}

#[cfg(not(feature = "telnet"))]
pub(super) fn check_binding(_: &Addr, _: &Operators, _: &View<'_>) -> Result<(), ConfigError> {
    Ok(())
}
