//! What a service says of a command that it offers: where it is, what it does, who may enter it, how it is completed.

use megamux_event::wire::{self, Reader};
use megamux_event::{DecodeError, Event, event_id};
use thiserror::Error;

use super::FAMILY;

/// The most bytes of a directory's path.
pub const MAX_DIRECTORY: usize = 128;
/// The most bytes of a command's name.
pub const MAX_NAME: usize = 32;
/// The most bytes of a command's help.
pub const MAX_HELP: usize = 1024;
/// The most words that complete a command, static or in one answer.
pub const MAX_WORDS: usize = 128;
/// The most bytes of one of them.
pub const MAX_WORD: usize = 128;

/// A service offers a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegisterCommand {
    directory: String,
    name: String,
    help: String,
    role: Role,
    completion: Completion,
}

/// Who may enter a command, each with all that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Role {
    /// Looks, and changes nothing.
    Viewer = 0,
    /// Runs what is there: closes connections, pauses listeners.
    #[default]
    Operator = 1,
    /// May do everything.
    Admin = 2,
}

/// How the arguments of a command may be completed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Completion {
    /// Not at all.
    #[default]
    Nothing,
    /// By these words, in any place.
    Words(Vec<String>),
    /// By what the service answers to [`CompletionWanted`](super::CompletionWanted).
    Asked,
}

/// Why a command cannot be offered as described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A directory is words joined by `/`, or empty for the root, and at most [`MAX_DIRECTORY`] bytes.
    #[error("a directory is words joined by '/', at most {MAX_DIRECTORY} bytes")]
    Directory,
    /// A name is one word and at most [`MAX_NAME`] bytes. A word is ASCII letters, digits, `-` and `_`; in a name that is a
    /// pattern, one `*` stands for any number of them.
    #[error("a name is letters, digits, '-' and '_', and at most one '*', at most {MAX_NAME} bytes")]
    Name,
    /// A help text has no control characters but line feeds, and at most [`MAX_HELP`] bytes.
    #[error("a help text has no control characters, at most {MAX_HELP} bytes")]
    Help,
    /// Words for completion have no white space or control characters, at most [`MAX_WORD`] bytes each, and there are at
    /// most [`MAX_WORDS`] of them.
    #[error("words for completion have no white space, at most {MAX_WORD} bytes, and are at most {MAX_WORDS}")]
    Words,
}

impl RegisterCommand {
    /// Offers command `name` to operators in `directory` (`""`, `"conns"`, `"rooms/admin"`); the first line of `help` is its summary.
    pub fn new(
        directory: impl Into<String>,
        name: impl Into<String>,
        help: impl Into<String>,
    ) -> Result<Self, RegisterError> {
        let (directory, name, help) = (directory.into(), name.into(), help.into());
        let is_path = directory.is_empty() || directory.split('/').all(is_word);
        if !is_path || directory.len() > MAX_DIRECTORY {
            return Err(RegisterError::Directory);
        }
        if !is_name(&name) || name.len() > MAX_NAME {
            return Err(RegisterError::Name);
        }
        if help.chars().any(|c| c.is_control() && c != '\n') || help.len() > MAX_HELP {
            return Err(RegisterError::Help);
        }
        Ok(Self { directory, name, help, role: Role::default(), completion: Completion::default() })
    }

    /// The same command for those of `role` and above.
    #[must_use]
    pub fn for_role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// The same command, with words that complete its arguments.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Words`].
    pub fn completed_by<W: Into<String>>(self, words: impl IntoIterator<Item = W>) -> Result<Self, RegisterError> {
        let words: Vec<String> = words.into_iter().map(Into::into).take(MAX_WORDS + 1).collect();
        if words.len() > MAX_WORDS || !words.iter().all(|word| is_completing(word)) {
            return Err(RegisterError::Words);
        }
        Ok(Self { completion: Completion::Words(words), ..self })
    }

    /// The same command, whose service is asked how its arguments go on.
    #[must_use]
    pub fn completed_when_asked(self) -> Self {
        Self { completion: Completion::Asked, ..self }
    }

    /// The path of the directory the command is in, empty for the root.
    #[must_use]
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The command's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who may enter it.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// How its arguments are completed.
    #[must_use]
    pub fn completion(&self) -> &Completion {
        &self.completion
    }

    /// What the command does, for people.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }
}

/// Whether a word may stand at the end of a line that is completed.
pub(super) fn is_completing(word: &str) -> bool {
    !word.is_empty() && word.len() <= MAX_WORD && !word.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn is_name(text: &str) -> bool {
    match text.split_once('*') {
        Some((before, after)) => (before.is_empty() || is_word(before)) && (after.is_empty() || is_word(after)),
        None => is_word(text),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Role {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let roles = [Role::Viewer, Role::Operator, Role::Admin];
        roles.into_iter().find(|role| role.name() == text).ok_or(UnknownRole)
    }
}

/// A word that names no [`Role`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a role is viewer, operator or admin")]
pub struct UnknownRole;

impl Event for RegisterCommand {
    const ID: u32 = event_id(FAMILY, 1);
    const VERSION: u16 = 2;

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_str(out, &self.directory);
        wire::put_str(out, &self.name);
        wire::put_str(out, &self.help);
        wire::put_u8(out, self.role as u8);
        match &self.completion {
            Completion::Nothing => wire::put_u8(out, 0),
            Completion::Words(words) => {
                wire::put_u8(out, 1);
                put_words(out, words);
            }
            Completion::Asked => wire::put_u8(out, 2),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (directory, name, help) = (reader.str()?, reader.str()?, reader.str()?);
        let role = match reader.u8()? {
            0 => Role::Viewer,
            1 => Role::Operator,
            2 => Role::Admin,
            tag => return Err(DecodeError::UnknownTag { tag }),
        };
        let completion = match reader.u8()? {
            0 => Completion::Nothing,
            1 => Completion::Words(read_words(&mut reader)?),
            2 => Completion::Asked,
            tag => return Err(DecodeError::UnknownTag { tag }),
        };
        reader.finish()?;
        let made = Self::new(directory, name, help).map_err(|error| DecodeError::Refused {
            reason: match error {
                RegisterError::Directory => "not a directory's path",
                RegisterError::Name => "not a command's name",
                RegisterError::Help => "not a help text",
                RegisterError::Words => "not words for completion",
            },
        })?;
        Ok(Self { role, completion, ..made })
    }
}

pub(super) fn put_words(out: &mut Vec<u8>, words: &[String]) {
    // No more than MAX_WORDS, wherever words are made.
    wire::put_u16(out, words.len() as u16);
    for word in words {
        wire::put_str(out, word);
    }
}

pub(super) fn read_words(reader: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let count = usize::from(reader.u16()?);
    if count > MAX_WORDS {
        return Err(DecodeError::Refused { reason: "too many words" });
    }
    let mut words = Vec::new();
    for _ in 0..count {
        let word = reader.str()?;
        if !is_completing(word) {
            return Err(DecodeError::Refused { reason: "not words for completion" });
        }
        words.push(word.to_owned());
    }
    Ok(words)
}
