//! The keys and values: a service. It sees requests and gives replies; bytes and sockets are other people's business.
//!
//! Invariant: the entries never hold more than `most` bytes, whatever clients send.

use std::collections::HashMap;

use bytes::Bytes;
use megamux_engine::{ConnId, Frame, Input, Scope, Service, ServiceCx};

use crate::protocol::{Reply, Request};

/// What an entry costs besides its key and value: two `Bytes`, their allocations, a place in the table.
const ENTRY_BYTES: usize = 128;

/// Keys and values.
pub struct Store {
    entries: HashMap<Bytes, Bytes>,
    bytes: usize,
    most: usize,
}

impl Store {
    /// An empty store that will hold at most so many bytes.
    pub fn new(most: usize) -> Store {
        Store { entries: HashMap::new(), bytes: 0, most }
    }

    fn answer(&mut self, request: &Request<Frame>) -> Reply {
        match request {
            Request::Get { key } => match self.entries.get(&key[..]) {
                Some(value) => Reply::Value(value.clone()),
                None => Reply::Missing,
            },
            Request::Set { key, value } => self.set(key, value),
            Request::Del { key } => match self.entries.remove(&key[..]) {
                Some(value) => {
                    self.bytes -= cost(key, &value);
                    Reply::Ok
                }
                None => Reply::Missing,
            },
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Reply {
        let before = self.entries.get(key).map_or(0, |old| cost(key, old));
        let bytes = self.bytes - before + cost(key, value);
        if bytes > self.most {
            return Reply::Full;
        }
        self.bytes = bytes;
        // Copied: a frame that is kept keeps the whole receive buffer it lies in from receiving again.
        self.entries.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Reply::Ok
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

impl Service for Store {
    type In = Request<Frame>;
    type Out = Reply;
    const SCOPE: Scope = Scope::Node;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<Request<Frame>>) {
        // Nothing is kept per connection, so opens and closes are no news.
        if let Input::Frame(request) = input {
            let reply = self.answer(&request);
            cx.send(conn, reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &'static [u8], value: &'static [u8]) -> Request<Frame> {
        Request::Set { key: Frame::from(key), value: Frame::from(value) }
    }

    fn get(key: &'static [u8]) -> Request<Frame> {
        Request::Get { key: Frame::from(key) }
    }

    fn del(key: &'static [u8]) -> Request<Frame> {
        Request::Del { key: Frame::from(key) }
    }

    #[test]
    fn what_was_set_is_there_until_it_is_set_anew_or_deleted() {
        let mut store = Store::new(1 << 20);
        assert_eq!(store.answer(&get(b"a")), Reply::Missing);
        assert_eq!(store.answer(&set(b"a", b"one")), Reply::Ok);
        assert_eq!(store.answer(&get(b"a")), Reply::Value("one".into()));
        assert_eq!(store.answer(&set(b"a", b"two")), Reply::Ok);
        assert_eq!(store.answer(&get(b"a")), Reply::Value("two".into()));
        assert_eq!(store.answer(&del(b"a")), Reply::Ok);
        assert_eq!(store.answer(&del(b"a")), Reply::Missing);
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn a_full_store_keeps_what_it_has_and_has_room_again_after_a_delete() {
        let mut store = Store::new(2 * cost(b"a", b"1234"));
        assert_eq!(store.answer(&set(b"a", b"1234")), Reply::Ok);
        assert_eq!(store.answer(&set(b"b", b"1234")), Reply::Ok);
        assert_eq!(store.answer(&set(b"c", b"")), Reply::Full);
        assert_eq!(store.answer(&set(b"b", b"12345")), Reply::Full);
        assert_eq!(store.answer(&get(b"b")), Reply::Value("1234".into()));
        assert_eq!(store.answer(&set(b"b", b"4321")), Reply::Ok);
        assert_eq!(store.answer(&del(b"a")), Reply::Ok);
        assert_eq!(store.answer(&set(b"c", b"1234")), Reply::Ok);
    }
}
