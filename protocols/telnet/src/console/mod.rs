//! The events between a console and the services whose commands it offers.
//!
//! ```text
//! service --RegisterCommand---> console     once, at start: "I answer `kick` in `conns`"
//! console --CommandEntered----> service     someone entered it
//! service --Reply-------------> console     any number of parts, the last one says so
//! console --CompletionWanted--> service     someone pressed the Tab key behind it, if the service wants to hear of that
//! service --CompletionOffered-> console     the words that may stand there
//! service --Notice------------> console     something happened that operators may want to see
//! ```
//!
//! Any service publishes what goes to the console, and takes from it what bears a directory and name of its own. It
//! names no console and knows no telnet: the same events serve a web page or a script.
//!
//! Invariant: a path and a name are plain words, whichever way they came to be (a decoded event is checked like a made one),
//! so that they can stand in a tree and on a terminal as they are. Arguments and replies are free text: whoever shows them
//! makes them safe.

mod command;
mod completion;
mod notice;
mod register;

pub use command::{CommandEntered, Reply, ReplyStatus};
pub use completion::{CompletionOffered, CompletionWanted};
pub use notice::Notice;
pub use register::{
    Completion, MAX_DIRECTORY, MAX_HELP, MAX_NAME, MAX_WORD, MAX_WORDS, RegisterCommand, RegisterError, Role,
    UnknownRole,
};

/// This crate's family of event ids.
const FAMILY: u16 = 0x0001;
