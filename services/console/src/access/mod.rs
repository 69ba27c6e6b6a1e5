//! Who may use the console, and from where.
//!
//! Owns the users with their roles and hashed passwords, and the rule where a console may listen. Without a user the console
//! is open to whoever reaches it.
//!
//! Invariants: a password is only ever compared through its hash, by [`verifier`], on a thread of its own; an unknown name costs
//! the same as a wrong password; the cost of a hash is bounded when it is configured.

pub(crate) mod limiter;
pub(crate) mod operators;
pub(crate) mod roster;
pub(crate) mod verifier;

use std::collections::BTreeMap;
use std::sync::Arc;

use argon2::password_hash::PasswordHash;
use megamux_engine::net::Addr;
use megamux_telnet::console::Role;
use thiserror::Error;

/// The most users of a console.
pub const MAX_USERS: usize = 256;

/// The longest name of a user, in bytes.
pub const MAX_USER_NAME: usize = 32;

/// The most memory a password's verification may take, in KiB. The recommended hashes take a quarter of it or less.
const MAX_HASH_KIB: u32 = 256 * 1024;

/// The most passes over it.
const MAX_HASH_PASSES: u32 = 16;

/// The users of a console. Empty, it is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    users: Arc<BTreeMap<String, User>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    /// A PHC string.
    hash: String,
    role: Role,
}

/// Why a user cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A name is letters, digits, `-`, `_` and `.`, at most [`MAX_USER_NAME`] bytes.
    #[error("a user's name is letters, digits, '-', '_' and '.', at most {MAX_USER_NAME} bytes")]
    Name,
    /// The name is taken.
    #[error("there are two users {0}")]
    Twice(String),
    /// The password is no hash of the kind that is known here.
    #[error("the password of {0} is not a PHC string of argon2id, such as `argon2 SALT -id -e` prints")]
    Hash(String),
    /// Verifying the password would take too long, or too much memory.
    #[error("the password of {0} takes more than {MAX_HASH_KIB} KiB or {MAX_HASH_PASSES} passes to verify")]
    Costly(String),
    /// There are [`MAX_USERS`] already.
    #[error("there are more than {MAX_USERS} users")]
    TooMany,
}

impl Access {
    /// A console that is open.
    #[must_use]
    pub fn open() -> Access {
        Access::default()
    }

    /// Adds a user with a hashed password, as a PHC string of argon2id.
    ///
    /// # Errors
    ///
    /// See [`AccessError`].
    pub fn add(&mut self, name: &str, password: &str, role: Role) -> Result<(), AccessError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > MAX_USER_NAME || !name.bytes().all(plain) {
            return Err(AccessError::Name);
        }
        let hash = PasswordHash::new(password).map_err(|_| AccessError::Hash(name.to_owned()))?;
        let params = argon2::Params::try_from(&hash).map_err(|_| AccessError::Hash(name.to_owned()))?;
        if hash.algorithm != argon2::ARGON2ID_IDENT || hash.hash.is_none() || hash.salt.is_none() {
            return Err(AccessError::Hash(name.to_owned()));
        }
        if params.m_cost() > MAX_HASH_KIB || params.t_cost() > MAX_HASH_PASSES {
            return Err(AccessError::Costly(name.to_owned()));
        }
        let users = Arc::make_mut(&mut self.users);
        if users.len() >= MAX_USERS {
            return Err(AccessError::TooMany);
        }
        let user = User { hash: password.to_owned(), role };
        match users.insert(name.to_owned(), user) {
            Some(_) => Err(AccessError::Twice(name.to_owned())),
            None => Ok(()),
        }
    }

    /// Whether nobody has to say who they are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    /// How many users there are.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// The role of a user whose password was right.
    pub(crate) fn role(&self, name: &str) -> Option<Role> {
        self.users.get(name).map(|user| user.role)
    }

    /// The hash to compare a password with, and whether it is the user's own. For an unknown name it is somebody's: what
    /// comes of it does not count, but it takes as long.
    fn hash(&self, name: &str) -> Option<(&str, bool)> {
        match self.users.get(name) {
            Some(user) => Some((&user.hash, true)),
            None => self.users.values().next().map(|user| (&*user.hash, false)),
        }
    }
}

/// Why a console must not listen somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Exposed {
    /// It is open to whoever reaches it.
    #[error("no passwords are configured, so it gives an operator's power without asking who is there")]
    Open(Addr),
    /// Passwords would cross the network as they are typed.
    #[error("passwords would travel in the clear")]
    Credentials(Addr),
}

/// Whether a console with this access may listen on `addr`: beyond this machine only where `insecure` was said. A Unix
/// socket is guarded by its file's permissions.
///
/// # Errors
///
/// What would be exposed.
pub fn check_binding(addr: &Addr, access: &Access, insecure: bool) -> Result<(), Exposed> {
    let is_local = match addr {
        Addr::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
        _ => true,
    };
    match is_local || insecure {
        true => Ok(()),
        false if access.is_open() => Err(Exposed::Open(addr.clone())),
        false => Err(Exposed::Credentials(addr.clone())),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// "right", hashed as cheaply as argon2 allows.
    pub(crate) const RIGHT: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$P3OLBQw3O3GiY9hpX8wpK8qO6gQccIdDXnlkdzKceqU";

    #[test]
    fn users_are_judged_when_they_are_added() {
        let mut access = Access::open();
        assert!(access.is_open());
        let mut add = |name: &str, hash: &str| access.add(name, hash, Role::Viewer);
        assert_eq!(add("ann", RIGHT), Ok(()));
        assert_eq!(add("ann", RIGHT), Err(AccessError::Twice("ann".into())));
        for name in ["", "a b", "\x1b[2J", "ü", &"x".repeat(33)] {
            assert_eq!(add(name, RIGHT), Err(AccessError::Name), "{name:?}");
        }
        let bob = || "bob".to_owned();
        for hash in ["", "right", "$2b$12$abc", &RIGHT.replace("argon2id", "argon2i"), "$argon2id$v=19$m=8,t=1,p=1"] {
            assert_eq!(add("bob", hash), Err(AccessError::Hash(bob())), "{hash:?}");
        }
        assert_eq!(add("bob", &RIGHT.replace("m=8", "m=999999")), Err(AccessError::Costly(bob())));
        assert_eq!(add("bob", &RIGHT.replace("t=1", "t=99")), Err(AccessError::Costly(bob())));
        assert!(!access.is_open());
        assert_eq!((access.role("ann"), access.role("bob")), (Some(Role::Viewer), None));
    }

    #[test]
    fn a_console_stays_on_this_machine_unless_told() {
        let mut users = Access::open();
        users.add("ann", RIGHT, Role::Admin).unwrap();
        for addr in ["127.8.8.8:23", "[::1]:23", "[::ffff:127.0.0.1]:23", "unix:/run/console"] {
            let addr: Addr = addr.parse().unwrap();
            assert_eq!(check_binding(&addr, &Access::open(), false), Ok(()));
            assert_eq!(check_binding(&addr, &users, false), Ok(()));
        }
        for addr in ["0.0.0.0:23", "192.0.2.1:23", "[::]:23"] {
            let addr: Addr = addr.parse().unwrap();
            assert_eq!(check_binding(&addr, &Access::open(), false), Err(Exposed::Open(addr.clone())));
            assert_eq!(check_binding(&addr, &users, false), Err(Exposed::Credentials(addr.clone())));
            assert_eq!(check_binding(&addr, &users, true), Ok(()));
        }
    }
}
