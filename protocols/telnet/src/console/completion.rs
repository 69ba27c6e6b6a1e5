//! How an argument may go on: the question to the service whose command it is, and the answer.

use megamux_event::wire::{self, Reader};
use megamux_event::{DecodeError, Event, event_id};

use super::register::{is_completing, put_words, read_words};
use super::{FAMILY, MAX_WORDS};

/// Someone asks how the arguments of a registered command may go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CompletionWanted {
    /// The console session it is asked in.
    pub session: u64,
    /// Tells this question from others of the session.
    pub request: u32,
    /// The directory the command was registered in.
    pub directory: String,
    /// The name it was registered with.
    pub name: String,
    /// What stands between the command and the word that is completed.
    pub before: String,
    /// The beginning of the word; it may be empty.
    pub word: String,
}

impl CompletionWanted {
    /// The answer: those of `words` that can be completed to, at most [`MAX_WORDS`] of them.
    #[must_use]
    pub fn offer<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> CompletionOffered {
        let words = words.into_iter().map(Into::into);
        let fitting = words.filter(|word: &String| is_completing(word) && word.starts_with(&self.word));
        CompletionOffered { session: self.session, request: self.request, words: fitting.take(MAX_WORDS).collect() }
    }
}

impl Event for CompletionWanted {
    const ID: u32 = event_id(FAMILY, 4);
    const VERSION: u16 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_u64(out, self.session);
        wire::put_u32(out, self.request);
        for text in [&self.directory, &self.name, &self.before, &self.word] {
            wire::put_str(out, text);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let wanted = Self {
            session: reader.u64()?,
            request: reader.u32()?,
            directory: reader.str()?.to_owned(),
            name: reader.str()?.to_owned(),
            before: reader.str()?.to_owned(),
            word: reader.str()?.to_owned(),
        };
        reader.finish()?;
        Ok(wanted)
    }
}

/// The words that may stand where [`CompletionWanted`] asked. Made by [`CompletionWanted::offer`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CompletionOffered {
    session: u64,
    request: u32,
    words: Vec<String>,
}

impl CompletionOffered {
    /// The session of the question.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Its request.
    #[must_use]
    pub fn request(&self) -> u32 {
        self.request
    }

    /// The words, without white space or control characters.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

impl Event for CompletionOffered {
    const ID: u32 = event_id(FAMILY, 5);
    const VERSION: u16 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_u64(out, self.session);
        wire::put_u32(out, self.request);
        put_words(out, &self.words);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let offered = Self { session: reader.u64()?, request: reader.u32()?, words: read_words(&mut reader)? };
        reader.finish()?;
        Ok(offered)
    }
}
