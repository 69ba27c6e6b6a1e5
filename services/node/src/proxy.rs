//! The PROXY protocol in front of a listener: the engine's filter around the decoder of `megamux-proxy`.
//!
//! It owns nothing but where one connection's header stands. The engine bounds its time by the listener's
//! `handshake_timeout`; the decoder bounds its bytes. Invariant: the handler never sees a connection whose header was not
//! whole and exact, and behind the header bytes pass untouched.
//! It decides no trust: whoever puts it in front of a listener says that only trusted proxies reach that listener.

use std::net::SocketAddr;
use std::time::Duration;

use megamux_proxy::{Decoder, Header, Status};

use crate::engine::{CloseReason, Filter, FilterStatus, Listen, Time};

/// How long a header may take. The specification asks for 3 s at least, to cover a retransmission (section 2).
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the header that a connection begins with.
#[derive(Debug, Default)]
pub struct ProxyFilter {
    decoder: Decoder,
    header: Option<Header>,
}

/// Has a listener's connections begin with a PROXY header.
pub fn behind_proxy(listen: Listen) -> Listen {
    listen.handshake_timeout(HEADER_TIMEOUT).filter(|| Box::new(ProxyFilter::default()))
}

impl Filter for ProxyFilter {
    fn receive(&mut self, _: Time, wire: &[u8], _: &mut Vec<u8>, _: &mut Vec<u8>) -> Result<usize, CloseReason> {
        match self.decoder.decode(wire) {
            Ok(Status::NeedMore) => Ok(0),
            Ok(Status::Done { consumed, header }) => {
                self.header = Some(header);
                Ok(consumed)
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was refused");
                Err(CloseReason::FilterError)
            }
        }
    }

    fn status(&self) -> FilterStatus {
        match self.header {
            None => FilterStatus::Opening,
            Some(_) => FilterStatus::Transparent,
        }
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.header.as_ref().and_then(Header::source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n";

    fn receive(filter: &mut ProxyFilter, wire: &[u8]) -> Result<usize, CloseReason> {
        let (mut plain, mut reply) = (Vec::new(), Vec::new());
        let taken = filter.receive(Time::ZERO, wire, &mut plain, &mut reply);
        assert!(plain.is_empty() && reply.is_empty());
        taken
    }

    #[test]
    fn a_whole_header_is_taken_and_what_follows_is_left() {
        let mut filter = ProxyFilter::default();
        let wire = [WIRE, b"hello"].concat();
        assert_eq!(receive(&mut filter, &wire), Ok(WIRE.len()));
        assert_eq!(filter.status(), FilterStatus::Transparent);
        assert_eq!(filter.peer(), Some("192.0.2.1:1000".parse().unwrap()));
    }

    #[test]
    fn an_incomplete_header_leaves_the_connection_opening() {
        let mut filter = ProxyFilter::default();
        for len in 0..WIRE.len() {
            assert_eq!(receive(&mut filter, &WIRE[..len]), Ok(0));
            assert_eq!((filter.status(), filter.peer()), (FilterStatus::Opening, None));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let refused = receive(&mut ProxyFilter::default(), b"GET / HTTP/1.1\r\n");
        assert_eq!(refused, Err(CloseReason::FilterError));
    }
}
