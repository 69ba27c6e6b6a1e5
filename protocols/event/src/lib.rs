//! What an event is: an id, a version, and bytes that are the same everywhere.
//!
//! Owns the [`Event`] trait, the way ids are given out, and the [`wire`] primitives its implementations are written with.
//! Within a process an event is moved as a value and none of this runs; the bytes exist for recordings and for the way
//! between processes and nodes.
//!
//! Invariant: for every event, `decode(encode(e)) == e`, and `decode` of any other bytes is an error, never a panic and
//! never an allocation larger than the bytes it was given.
//!
//! Must not: frame events for a transport, or know any particular event.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod wire;

use thiserror::Error;

/// Something that happened, told from one service or protocol to another.
///
/// ```
/// use megamux_event::{DecodeError, Event, event_id, wire::{self, Reader}};
///
/// #[derive(Debug, PartialEq)]
/// struct Tick { seconds: u64, source: String }
///
/// impl Event for Tick {
///     const ID: u32 = event_id(0x8000, 1);
///     const VERSION: u16 = 1;
///
///     fn encode(&self, out: &mut Vec<u8>) {
///         wire::put_u64(out, self.seconds);
///         wire::put_str(out, &self.source);
///     }
///
///     fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
///         let mut reader = Reader::new(bytes);
///         let tick = Tick { seconds: reader.u64()?, source: reader.str()?.to_owned() };
///         reader.finish()?;
///         Ok(tick)
///     }
/// }
///
/// let tick = Tick { seconds: 7, source: "clock".to_owned() };
/// let mut bytes = Vec::new();
/// tick.encode(&mut bytes);
/// assert_eq!(Tick::decode(&bytes), Ok(tick));
/// ```
pub trait Event: Sized + Send + 'static {
    /// Names this kind of event among all others, forever: see [`event_id`].
    const ID: u32;

    /// The layout [`encode`](Event::encode) writes. Raised whenever the layout changes; whoever carries the bytes carries
    /// `ID` and `VERSION` beside them and does not offer other versions to [`decode`](Event::decode).
    const VERSION: u16;

    /// Appends the event's bytes to `out`, nothing before them and nothing after.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads one event that fills `bytes` exactly.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// The id of event `number` of `family`: the family in the upper half, the number in the lower.
///
/// A family is one crate's events. Families below `0x8000` belong to this project, and each is taken here:
///
/// | family | crate |
/// | --- | --- |
/// | `0x0001` | `megamux-telnet` |
///
/// Families from `0x8000` up are for applications.
#[must_use]
pub const fn event_id(family: u16, number: u16) -> u32 {
    ((family as u32) << 16) | number as u32
}

/// Why bytes are not the event they were taken for. All of these blame the bytes, none the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// Every field was read and bytes are left over.
    #[error("{left} bytes are left after the last field")]
    Trailing {
        /// How many bytes are left.
        left: usize,
    },
    /// A text field is not UTF-8.
    #[error("a text field is not UTF-8")]
    NotUtf8,
    /// A field that chooses between variants holds a value no variant has.
    #[error("no variant has the tag {tag}")]
    UnknownTag {
        /// The value found.
        tag: u8,
    },
    /// The fields are well formed, but the event refuses their meaning.
    #[error("refused by the event: {reason}")]
    Refused {
        /// The rule that was broken.
        reason: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_different_families_never_meet() {
        assert_eq!(event_id(1, 2), 0x0001_0002);
        assert_ne!(event_id(0, u16::MAX), event_id(1, 0));
        assert_eq!(event_id(u16::MAX, u16::MAX), u32::MAX);
    }
}
