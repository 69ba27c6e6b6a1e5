//! A command on its way to the service that registered it, and its answer on the way back.

use megamux_event::wire::{self, Reader};
use megamux_event::{DecodeError, Event, event_id};

use super::{FAMILY, RegisterCommand};

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
    /// The rest of the line, without white space at its ends. For a name that is a pattern, the word that matched it comes
    /// first.
    pub arguments: String,
    /// Who entered it; empty where nobody has to say who they are.
    pub user: String,
}

impl CommandEntered {
    /// The arguments, taken apart at white space.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.arguments.split_whitespace()
    }

    /// Whether this is the command that `registered` offers.
    #[must_use]
    pub fn is(&self, registered: &RegisterCommand) -> bool {
        self.name == registered.name() && self.directory == registered.directory()
    }

    /// Part of the answer to this command.
    #[must_use]
    pub fn reply(&self, text: impl Into<String>, status: ReplyStatus) -> Reply {
        Reply { session: self.session, request: self.request, text: text.into(), status }
    }
}

impl Event for CommandEntered {
    const ID: u32 = event_id(FAMILY, 2);
    const VERSION: u16 = 2;

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_u64(out, self.session);
        wire::put_u32(out, self.request);
        wire::put_str(out, &self.directory);
        wire::put_str(out, &self.name);
        wire::put_str(out, &self.arguments);
        wire::put_str(out, &self.user);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let entered = Self {
            session: reader.u64()?,
            request: reader.u32()?,
            directory: reader.str()?.to_owned(),
            name: reader.str()?.to_owned(),
            arguments: reader.str()?.to_owned(),
            user: reader.str()?.to_owned(),
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
