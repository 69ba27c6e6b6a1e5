//! Finds where a head ends, looking at every byte once however the head is cut.
//!
//! Also refuses, at the first such byte, what may stand nowhere in a head: this way a stranger (a TLS hello, say) is
//! turned away at once, and whatever passes has one meaning of "line". Must not look beyond [`MAX_HEAD_BYTES`].

use crate::{HttpError, MAX_HEAD_BYTES};

/// The way through one head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    /// Bytes already looked at; all of them passed.
    scanned: usize,
    /// Where the header lines begin, once the request line is past.
    fields_at: usize,
    at: At,
}

/// A whole head: `input[..head_bytes]`, its header lines (the empty one included) from `fields_at`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadEnd {
    pub(crate) head_bytes: usize,
    pub(crate) fields_at: usize,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The first of all.
    Start,
    /// The LF of an empty line in front of the request line.
    BlankLf,
    /// The first of the request line, an empty line having passed.
    RequestStart,
    RequestLine,
    RequestLf,
    /// The first of a header line, or of the empty line that ends the head.
    FieldStart,
    FieldLine,
    FieldLf,
    /// The last LF.
    EndLf,
    End,
}

impl Scan {
    pub(crate) const fn new() -> Self {
        Self { scanned: 0, fields_at: 0, at: At::Start }
    }

    /// Whether nothing of the head has come.
    pub(crate) fn is_fresh(&self) -> bool {
        self.scanned == 0
    }

    /// Goes on behind the bytes already scanned; `None` while the head is not whole.
    pub(crate) fn advance(&mut self, input: &[u8]) -> Result<Option<HeadEnd>, HttpError> {
        assert!(input.len() >= self.scanned, "decode must be called with the bytes not consumed and more");
        let window = &input[..input.len().min(MAX_HEAD_BYTES)];
        while let Some(&byte) = window.get(self.scanned) {
            let next = self.at.step(byte)?;
            self.scanned += 1;
            if self.at == At::RequestLf {
                self.fields_at = self.scanned;
            }
            self.at = next;
            if next == At::End {
                return Ok(Some(HeadEnd { head_bytes: self.scanned, fields_at: self.fields_at }));
            }
        }
        match self.at {
            _ if self.scanned < MAX_HEAD_BYTES => Ok(None),
            At::Start | At::BlankLf | At::RequestStart | At::RequestLine | At::RequestLf => {
                Err(HttpError::RequestLineTooLong)
            }
            At::FieldStart | At::FieldLine | At::FieldLf | At::EndLf | At::End => Err(HttpError::HeadTooLarge),
        }
    }
}

impl At {
    fn step(self, byte: u8) -> Result<At, HttpError> {
        match (self, byte) {
            // RFC 9112 section 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
            (At::Start, b'\r') => Ok(At::BlankLf),
            (At::BlankLf, b'\n') => Ok(At::RequestStart),
            // RFC 9112 section 3: a request begins with its method, a token.
            (At::Start | At::RequestStart, _) if is_token_byte(byte) => Ok(At::RequestLine),
            (At::Start | At::RequestStart, _) => Err(HttpError::BadRequestLine),

            (At::RequestLine, b'\r') => Ok(At::RequestLf),
            (At::RequestLf, b'\n') => Ok(At::FieldStart),

            (At::FieldStart, b'\r') => Ok(At::EndLf),
            // RFC 9112 section 5.2: obs-fold is rejected with 400; section 2.2 has the same for the first line.
            (At::FieldStart, b' ' | b'\t') => Err(HttpError::ObsFold),
            (At::FieldLine, b'\r') => Ok(At::FieldLf),
            (At::FieldLf, b'\n') => Ok(At::FieldStart),
            (At::EndLf, b'\n') => Ok(At::End),

            // RFC 9112 section 2.2: a bare CR must not be taken for a line end.
            (At::BlankLf | At::RequestLf | At::FieldLf | At::EndLf, _) => Err(HttpError::BareCr),
            // RFC 9112 section 2.2 lets a server take a bare LF for a line end. Servers differ, so this one does not.
            (_, b'\n') => Err(HttpError::BareLf),
            // RFC 9110 section 5.5: CTLs are invalid in a value; nor are they in a request line or a name.
            (_, 0..=8 | 11..=31 | 127) => Err(HttpError::ControlByte),

            (At::RequestLine, _) => Ok(At::RequestLine),
            (At::FieldStart | At::FieldLine, _) => Ok(At::FieldLine),
            (At::End, _) => Ok(At::End),
        }
    }
}

/// RFC 9110 section 5.6.2, tchar.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
