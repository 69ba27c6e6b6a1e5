//! The operators' file: who may log in, and which commands are for whom.
//!
//! ```text
//! # a comment
//! user ann admin $argon2id$v=19$m=19456,t=2,p=1$...
//! command conns/kick admin
//! ```
//!
//! It is a file of its own because it is nobody else's to read. Must not: open it.

use std::collections::BTreeMap;

use megamux_telnet::console::Role;
use thiserror::Error;

use super::{Access, AccessError};

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operators {
    /// The users.
    pub access: Access,
    /// Roles that stand in for the commands' own, by path.
    pub roles: BTreeMap<String, Role>,
}

/// What is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {mistake}")]
pub struct OperatorsError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub mistake: OperatorsMistake,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OperatorsMistake {
    /// It is neither of the two kinds of lines.
    #[error("give `user NAME ROLE HASH` or `command PATH ROLE`")]
    Form,
    /// The role is none.
    #[error("a role is viewer, operator or admin")]
    Role,
    /// The file ends without a user: the console would be open to whoever reaches it.
    #[error("no user is named here: nobody could log in")]
    NoUser,
    /// The user cannot be.
    #[error(transparent)]
    User(#[from] AccessError),
}

impl Operators {
    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// The first line that is wrong. A hash is never part of what is said about it.
    pub fn parse(text: &str) -> Result<Operators, OperatorsError> {
        let mut operators = Operators::default();
        for (index, line) in text.lines().enumerate() {
            operators.line(line).map_err(|mistake| OperatorsError { line: index + 1, mistake })?;
        }
        if operators.access.is_open() {
            return Err(OperatorsError { line: text.lines().count().max(1), mistake: OperatorsMistake::NoUser });
        }
        Ok(operators)
    }

    fn line(&mut self, line: &str) -> Result<(), OperatorsMistake> {
        let role = |word: &str| word.parse().map_err(|_| OperatorsMistake::Role);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["user", name, as_role, hash] => self.access.add(name, hash, role(as_role)?)?,
            ["command", path, for_role] => {
                self.roles.insert(path.to_owned(), role(for_role)?);
            }
            _ => return Err(OperatorsMistake::Form),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::RIGHT;
    use super::*;

    #[test]
    fn a_file_names_users_and_roles() {
        let text = format!("# who\n\nuser ann admin {RIGHT}\n  user  vic\tviewer {RIGHT}\ncommand /conns admin\n");
        let operators = Operators::parse(&text).unwrap();
        assert_eq!(operators.access.role("ann"), Some(Role::Admin));
        assert_eq!(operators.access.role("vic"), Some(Role::Viewer));
        assert_eq!(operators.roles.get("/conns"), Some(&Role::Admin));
        for (nobody, line) in [("", 1), ("# all left\ncommand conns admin\n", 2)] {
            let error = OperatorsError { line, mistake: OperatorsMistake::NoUser };
            assert_eq!(Operators::parse(nobody), Err(error));
        }
    }

    #[test]
    fn mistakes_are_told_with_their_line_and_without_the_hash() {
        let check = |line: &str, expect: &str| {
            let error = Operators::parse(&format!("#\n{line}")).unwrap_err().to_string();
            assert!(error.starts_with("line 2: ") && error.contains(expect), "{line}: {error}");
            assert!(!error.contains("secret"), "{error}");
        };
        check("ann", "give `user NAME ROLE HASH`");
        check("user ann admin", "give `user NAME ROLE HASH`");
        check("user ann root secret", "a role is");
        check("user ann admin secret", "not a PHC string");
        check("command conns", "give `user");
    }
}
