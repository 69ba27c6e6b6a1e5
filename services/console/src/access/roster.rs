//! The operators as they are now: a list that can be replaced while the console runs.
//!
//! Invariant: whoever looks sees one list or another, never part of both. The lock is held to copy two pointers.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use megamux_telnet::console::Role;

use super::Access;
use super::operators::Operators;

/// Who may use a console, and what for. A clone is the same list.
///
/// A console that asks who is there goes on asking whatever the list becomes, and one that was open stays open.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<RwLock<Now>>);

#[derive(Debug, Clone, Default)]
struct Now {
    access: Access,
    roles: Arc<BTreeMap<String, Role>>,
}

impl Roster {
    /// A list that says this.
    #[must_use]
    pub fn new(operators: Operators) -> Roster {
        let roster = Roster::default();
        roster.replace(operators);
        roster
    }

    /// Says something else from now on. Who is logged in is judged by it before the next command, and with the next lines of
    /// `events` and `log tail`: the role is the new one, and who is not in the list any more is sent away. Another password counts from the
    /// next login on.
    pub fn replace(&self, operators: Operators) {
        let Operators { access, roles } = operators;
        let now = Now { access, roles: Arc::new(by_words(roles)) };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(crate) fn access(&self) -> Access {
        self.0.read().unwrap_or_else(PoisonError::into_inner).access.clone()
    }

    /// Roles that stand in for the commands' own, by words with one space between them.
    pub(crate) fn roles(&self) -> Arc<BTreeMap<String, Role>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).roles)
    }
}

fn by_words(roles: BTreeMap<String, Role>) -> BTreeMap<String, Role> {
    roles.into_iter().map(|(path, role)| (crate::commands::words_of(&path), role)).collect()
}
