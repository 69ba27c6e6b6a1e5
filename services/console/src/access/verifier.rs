//! The verifier: a service of its own that compares passwords with their hashes.
//!
//! Comparing takes tens of milliseconds by design. Done here it delays neither a shard nor another operator's session, only
//! other logins; its mailbox and the console's [`MAX_VERIFYING`] bound how many wait.
//!
//! Must not: know sessions, or say more than yes or no.

use argon2::password_hash::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use megamux_engine::{ConnId, Input, Scope, Service, ServiceCx, Subscribe};
use std::convert::Infallible;
use zeroize::Zeroizing;

use super::roster::Roster;

/// Passwords that may wait for their verification; the console refuses more.
pub const MAX_VERIFYING: usize = 8;

/// A password that was typed, on its way to be compared. Its text shows nowhere, and is wiped with the event.
pub(crate) struct Verify {
    pub(crate) session: ConnId,
    pub(crate) request: u32,
    pub(crate) user: String,
    pub(crate) password: Zeroizing<String>,
}

/// Whether it was the user's.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) session: ConnId,
    pub(crate) request: u32,
    pub(crate) right: bool,
}

/// Compares passwords, one at a time.
#[derive(Debug)]
pub(crate) struct Verifier {
    roster: Roster,
}

impl Verifier {
    pub(crate) fn new(roster: Roster) -> Verifier {
        Verifier { roster }
    }

    pub(crate) fn is_right(&self, user: &str, password: &str) -> bool {
        let access = self.roster.access();
        let Some((hash, own)) = access.hash(user) else {
            return false;
        };
        let Ok(hash) = PasswordHash::new(hash) else {
            return false;
        };
        // The hash's own parameters count, not the default ones.
        let same = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        same & own
    }
}

impl Service for Verifier {
    type In = Infallible;
    type Out = Infallible;
    const SCOPE: Scope = Scope::Node;

    fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, _: ConnId, _: Input<Infallible>) {}
}

impl Subscribe<Verify> for Verifier {
    fn on_published(&mut self, cx: &mut ServiceCx<'_, Self>, asked: &Verify) {
        let right = self.is_right(&asked.user, &asked.password);
        // A console whose mailbox is full has its own deadline.
        let _ = cx.publish(Verified { session: asked.session, request: asked.request, right });
    }
}

#[cfg(test)]
mod tests {
    use megamux_telnet::console::Role;

    use super::super::Access;
    use super::super::operators::Operators;
    use super::super::tests::RIGHT;
    use super::*;

    #[test]
    fn only_the_right_password_of_a_known_user_is_right() {
        let mut access = Access::open();
        access.add("ann", RIGHT, Role::Viewer).unwrap();
        let roster = Roster::new(Operators { access, ..Operators::default() });
        let verifier = Verifier::new(roster.clone());
        assert!(verifier.is_right("ann", "right"));
        assert!(!verifier.is_right("ann", "wrong"));
        assert!(!verifier.is_right("ann", ""));
        assert!(!verifier.is_right("bob", "right"), "an unknown user has nobody's password");
        roster.replace(Operators::default());
        assert!(!verifier.is_right("ann", "right"), "nobody is known any more");
    }
}
