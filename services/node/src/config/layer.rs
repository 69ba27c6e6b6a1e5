//! Layers: what one source of settings says, and one lying over another.
//!
//! It owns where each value came from. Invariant: of two sources the one that lies over wins, setting by setting; the
//! entries of `[[listen]]` come from the file alone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::Listener;
use super::value::Value;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// The name of the variable.
    Environment(&'static str),
    /// The option with its hyphens.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// What one source says, or several that lie over each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    values: BTreeMap<String, (Value, Origin)>,
    listeners: Vec<Entry>,
}

/// A `[[listen]]` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) listener: Listener,
    pub(crate) settings: Layer,
    pub(crate) origin: Origin,
}

impl Layer {
    pub(crate) fn set(&mut self, path: String, value: Value, origin: Origin) {
        self.values.insert(path, (value, origin));
    }

    pub(crate) fn add_listener(&mut self, listener: Listener, settings: Layer, origin: Origin) {
        self.listeners.push(Entry { listener, settings, origin });
    }

    pub(crate) fn get(&self, path: &str) -> Option<&(Value, Origin)> {
        self.values.get(path)
    }

    /// The entries of `[[listen]]`, in their order.
    pub(crate) fn listeners(&self) -> &[Entry] {
        &self.listeners
    }

    /// What this says, and what `below` says of the rest.
    pub(crate) fn over(mut self, below: Layer) -> Layer {
        for (path, said) in below.values {
            self.values.entry(path).or_insert(said);
        }
        self.listeners.extend(below.listeners);
        self
    }
}
