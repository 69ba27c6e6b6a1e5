//! Sockets that a service manager passed: which listener each is.
//!
//! Invariant: a passed socket is a listener by its name, under the same rules as one that the settings name; one that
//! names nothing known is a mistake, never a guess.

use super::{ConfigError, Layer, Listener, ListenerSettings, Settings, View};
use crate::engine::net::Addr;

impl Settings {
    /// Takes a socket that was passed by this name in place of a listener's address; `telnet`, `http-public` and `echo.1`
    /// are of the protocol that they begin with. Returns what the listener is called.
    pub(crate) fn take_over(&mut self, name: &str, addr: Addr, taken: &[String]) -> Result<String, ConfigError> {
        let entry =
            self.layer.listeners().iter().find(
                |entry| matches!(entry.settings.get("name"), Some((super::Value::Text(known), _)) if known == name),
            );
        let protocol = name.split(['-', '.', '_']).next().unwrap_or_default();
        let listener = entry.map(|entry| entry.listener).or_else(|| protocol.parse().ok());
        let Some(listener) = listener else {
            let reason = format!(
                "a socket was passed by the name {name:?}, which is no listener: \
                 FileDescriptorName= must be telnet, http, echo, or a listener's name"
            );
            return Err(ConfigError::Rule { at: String::new(), reason });
        };
        let called = called(name, listener, taken);
        let settings = entry.map_or(&self.layer, |entry| &entry.settings);
        let settings =
            ListenerSettings::at(called.clone(), &view(settings, listener, entry.is_some()), &self.operators, addr)?;
        match self.listeners.iter_mut().find(|other| other.name == called) {
            Some(place) => *place = settings,
            None => self.listeners.push(settings),
        }
        Ok(called)
    }
}

fn view(layer: &Layer, listener: Listener, is_entry: bool) -> View<'_> {
    let prefix = if is_entry { String::new() } else { format!("{}.", listener.name()) };
    View { layer, prefix, of: Some(listener) }
}

/// All sockets of one unit have the same name: those behind the first get a number.
fn called(name: &str, listener: Listener, taken: &[String]) -> String {
    let name = if name.is_empty() { listener.name() } else { name };
    let is_free = |called: &String| !taken.contains(called);
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}
