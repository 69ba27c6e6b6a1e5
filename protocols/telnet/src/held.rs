//! Bytes that had to leave the input before what they are part of was complete.
//!
//! Owns the head of a line that has a command in its middle, and the parameters of a subnegotiation that came in parts.
//!
//! Invariant: one pointer while there is nothing to hold. The decoder checks the limits before it adds; what is here is at most
//! [`MAX_LINE`](crate::MAX_LINE) and [`MAX_SUBNEGOTIATION`](crate::MAX_SUBNEGOTIATION) bytes long.

use crate::codes::IAC;

#[derive(Debug, Default)]
pub(crate) struct Held(Option<Box<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    line: Vec<u8>,
    parameters: Vec<u8>,
}

impl Held {
    pub(crate) const NOTHING: Self = Self(None);

    pub(crate) fn line(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |parts| &parts.line)
    }

    pub(crate) fn add_to_line(&mut self, run: &[u8]) {
        if !run.is_empty() {
            self.0.get_or_insert_default().line.extend_from_slice(run);
        }
    }

    pub(crate) fn add_iacs_to_line(&mut self, count: usize) {
        let line = &mut self.0.get_or_insert_default().line;
        line.resize(line.len() + count, IAC);
    }

    pub(crate) fn clear_line(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.line.clear();
        }
    }

    /// Takes back the last character: continuation bytes of UTF-8 go up to the byte they continue.
    pub(crate) fn erase_character(&mut self) {
        if let Some(parts) = &mut self.0 {
            while parts.line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
        }
    }

    pub(crate) fn parameters(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |parts| &parts.parameters)
    }

    pub(crate) fn add_to_parameters(&mut self, run: &[u8]) {
        if !run.is_empty() {
            self.0.get_or_insert_default().parameters.extend_from_slice(run);
        }
    }

    /// The parameters, to be read while their owner changes; [`put_parameters`](Self::put_parameters) gives them back.
    pub(crate) fn take_parameters(&mut self) -> Vec<u8> {
        self.0.as_mut().map(|parts| std::mem::take(&mut parts.parameters)).unwrap_or_default()
    }

    pub(crate) fn put_parameters(&mut self, parameters: Vec<u8>) {
        if let Some(parts) = &mut self.0 {
            parts.parameters = parameters;
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |parts| size_of::<Parts>() + parts.line.capacity() + parts.parameters.capacity())
    }

    pub(crate) fn clear_parameters(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.parameters.clear();
        }
    }

    /// Gives the memory back if nothing in it is needed any more. Called between reads, so that a read full of held lines
    /// allocates once.
    pub(crate) fn release(&mut self) {
        if self.line().is_empty() && self.parameters().is_empty() {
            self.0 = None;
        }
    }
}
