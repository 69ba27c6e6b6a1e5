//! The primitives events are written with.
//!
//! Owns the one layout rule: integers are little-endian, a byte string is its length as a `u32` and then its bytes, text
//! is a byte string of UTF-8. No padding, no alignment, no self-description.
//!
//! Invariant: a [`Reader`] only ever moves forward inside the bytes it was given and borrows from them; a length that
//! reaches past the end is refused before anything is read or allocated.

use crate::DecodeError;

/// Appends one byte.
pub fn put_u8(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

/// Appends two bytes, the low one first.
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends four bytes, the low one first.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends eight bytes, the low one first.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends the length of `bytes` as a `u32`, then `bytes`.
///
/// # Panics
///
/// If `bytes` is 4 GiB long or longer: nobody makes such an event by accident of input, only by a mistake in a program.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("a field of an event is shorter than 4 GiB");
    put_u32(out, len);
    out.extend_from_slice(bytes);
}

/// Appends `text` as [`put_bytes`] does.
pub fn put_str(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Reads fields off the front of an event's bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads what [`put_u8`] wrote.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    /// Reads what [`put_u16`] wrote.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Reads what [`put_u32`] wrote.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads what [`put_u64`] wrote.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads what [`put_bytes`] wrote, as a range of the event's bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.u32()?).map_err(|_| DecodeError::Truncated)?;
        let (field, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(field)
    }

    /// Reads what [`put_str`] wrote, as a range of the event's bytes.
    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::NotUtf8)
    }

    /// Ends the event: every byte must have been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { left }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_little_endian_and_length_prefixed() {
        let mut out = Vec::new();
        put_u8(&mut out, 0x01);
        put_u16(&mut out, 0x0203);
        put_u32(&mut out, 0x0405_0607);
        put_u64(&mut out, 0x0809_0a0b_0c0d_0e0f);
        put_bytes(&mut out, &[0xff]);
        put_str(&mut out, "ü");
        let expect = b"\x01\x03\x02\x07\x06\x05\x04\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08\x01\0\0\0\xff\x02\0\0\0\xc3\xbc";
        assert_eq!(out, expect);

        let mut reader = Reader::new(&out);
        assert_eq!(reader.u8(), Ok(0x01));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u32(), Ok(0x0405_0607));
        assert_eq!(reader.u64(), Ok(0x0809_0a0b_0c0d_0e0f));
        assert_eq!(reader.bytes(), Ok(&[0xff][..]));
        assert_eq!(reader.str(), Ok("ü"));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn every_cut_is_truncated() {
        let mut out = Vec::new();
        put_u64(&mut out, 1);
        put_str(&mut out, "text");
        for cut in 0..out.len() {
            let mut reader = Reader::new(&out[..cut]);
            let read = reader.u64().and_then(|_| reader.str());
            assert_eq!(read, Err(DecodeError::Truncated), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        let mut reader = Reader::new(b"\xff\xff\xff\xffabc");
        assert_eq!(reader.bytes(), Err(DecodeError::Truncated));
    }

    #[test]
    fn text_must_be_utf8_and_nothing_may_follow() {
        assert_eq!(Reader::new(b"\x01\0\0\0\xff").str(), Err(DecodeError::NotUtf8));
        assert_eq!(Reader::new(b"ab").finish(), Err(DecodeError::Trailing { left: 2 }));
    }
}
