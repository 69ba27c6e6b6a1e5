//! Something that happened, for operators who watch.

use megamux_event::wire::{self, Reader};
use megamux_event::{DecodeError, Event, event_id};

use super::FAMILY;

/// A service tells that something happened. It is shown to who watches, and kept by nobody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    /// What it is about, as a word or a path: the name of the service, or a part of it.
    pub topic: String,
    /// What happened, in one line.
    pub text: String,
}

impl Event for Notice {
    const ID: u32 = event_id(FAMILY, 6);
    const VERSION: u16 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_str(out, &self.topic);
        wire::put_str(out, &self.text);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let notice = Self { topic: reader.str()?.to_owned(), text: reader.str()?.to_owned() };
        reader.finish()?;
        Ok(notice)
    }
}
