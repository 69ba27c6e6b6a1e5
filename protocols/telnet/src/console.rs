//! The events between a console and the services whose commands it offers.
//!
//! ```text
//! service --RegisterCommand--> console     once, at start: "I answer `kick` in `conns`"
//! console --CommandEntered---> service     someone entered it
//! service --Reply------------> console     any number of parts, the last one says so
//! ```
//!
//! Any service publishes the first and the last, and takes from the middle one those whose directory and name are its own. It
//! names no console and knows no telnet: the same events serve a web page or a script.
//!
//! Invariant: a path and a name are plain words, whichever way they came to be (a decoded event is checked like a made one),
//! so that they can stand in a tree and on a terminal as they are. Arguments and replies are free text: whoever shows them
//! makes them safe.

use megamux_event::wire::{self, Reader};
use megamux_event::{DecodeError, Event, event_id};
use thiserror::Error;

/// The most bytes of a directory's path.
pub const MAX_DIRECTORY: usize = 128;
/// The most bytes of a command's name.
pub const MAX_NAME: usize = 32;
/// The most bytes of a command's help.
pub const MAX_HELP: usize = 1024;

/// This crate's family of event ids.
const FAMILY: u16 = 0x0001;

/// A service offers a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegisterCommand {
    directory: String,
    name: String,
    help: String,
}

/// Why a command cannot be offered as described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A directory is words joined by `/`, or empty for the root, and at most [`MAX_DIRECTORY`] bytes.
    #[error("a directory is words joined by '/', at most {MAX_DIRECTORY} bytes")]
    Directory,
    /// A name is one word and at most [`MAX_NAME`] bytes. A word is ASCII letters, digits, `-` and `_`.
    #[error("a name is letters, digits, '-' and '_', at most {MAX_NAME} bytes")]
    Name,
    /// A help text has no control characters but line feeds, and at most [`MAX_HELP`] bytes.
    #[error("a help text has no control characters, at most {MAX_HELP} bytes")]
    Help,
}

impl RegisterCommand {
    /// Offers command `name` in `directory` (`""`, `"conns"`, `"rooms/admin"`); the first line of `help` is its summary.
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
        if !is_word(&name) || name.len() > MAX_NAME {
            return Err(RegisterError::Name);
        }
        if help.chars().any(|c| c.is_control() && c != '\n') || help.len() > MAX_HELP {
            return Err(RegisterError::Help);
        }
        Ok(Self { directory, name, help })
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

    /// What the command does, for people.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Event for RegisterCommand {
    const ID: u32 = event_id(FAMILY, 1);
    const VERSION: u16 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_str(out, &self.directory);
        wire::put_str(out, &self.name);
        wire::put_str(out, &self.help);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (directory, name, help) = (reader.str()?, reader.str()?, reader.str()?);
        reader.finish()?;
        Self::new(directory, name, help).map_err(|error| DecodeError::Refused {
            reason: match error {
                RegisterError::Directory => "not a directory's path",
                RegisterError::Name => "not a command's name",
                RegisterError::Help => "not a help text",
            },
        })
    }
}

/// Someone entered a registered command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommandEntered {
    /// The console session it was entered in.
    pub session: u64,
    /// Counts the commands of the session, so that a late reply cannot pass for one to a later command.
    pub request: u32,
    /// The directory the command was registered in.
    pub directory: String,
    /// The name it was registered with.
    pub name: String,
    /// The rest of the line, without white space at its ends.
    pub arguments: String,
}

impl CommandEntered {
    /// The arguments, taken apart at white space.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.arguments.split_whitespace()
    }

    /// Whether this is the command that `registered` offers.
    #[must_use]
    pub fn is(&self, registered: &RegisterCommand) -> bool {
        self.name == registered.name && self.directory == registered.directory
    }

    /// Part of the answer to this command.
    #[must_use]
    pub fn reply(&self, text: impl Into<String>, status: ReplyStatus) -> Reply {
        Reply { session: self.session, request: self.request, text: text.into(), status }
    }
}

impl Event for CommandEntered {
    const ID: u32 = event_id(FAMILY, 2);
    const VERSION: u16 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_u64(out, self.session);
        wire::put_u32(out, self.request);
        wire::put_str(out, &self.directory);
        wire::put_str(out, &self.name);
        wire::put_str(out, &self.arguments);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let entered = Self {
            session: reader.u64()?,
            request: reader.u32()?,
            directory: reader.str()?.to_owned(),
            name: reader.str()?.to_owned(),
            arguments: reader.str()?.to_owned(),
        };
        reader.finish()?;
        Ok(entered)
    }
}

/// A service answers a command, in one part or in many.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reply {
    /// The session of the [`CommandEntered`] this answers.
    pub session: u64,
    /// Its request.
    pub request: u32,
    /// Text to show as it is, lines ended by line feeds.
    pub text: String,
    /// Whether more parts follow, and how it went.
    pub status: ReplyStatus,
}

/// How far a command is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReplyStatus {
    /// More parts follow.
    More = 0,
    /// The last part: the command was done.
    Done = 1,
    /// The last part: the command was not done, and the text says why.
    Failed = 2,
}

impl Event for Reply {
    const ID: u32 = event_id(FAMILY, 3);
    const VERSION: u16 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_u64(out, self.session);
        wire::put_u32(out, self.request);
        wire::put_u8(out, self.status as u8);
        wire::put_str(out, &self.text);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (session, request) = (reader.u64()?, reader.u32()?);
        let status = match reader.u8()? {
            0 => ReplyStatus::More,
            1 => ReplyStatus::Done,
            2 => ReplyStatus::Failed,
            tag => return Err(DecodeError::UnknownTag { tag }),
        };
        let text = reader.str()?.to_owned();
        reader.finish()?;
        Ok(Self { session, request, text, status })
    }
}
