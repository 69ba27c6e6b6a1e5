//! Why a connection ended: one exact reason each, the same word in logs, metrics and handlers.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a connection ended. Every connection has exactly one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            /// All reasons, in the order of [`CloseReason::index`].
            pub const ALL: &'static [CloseReason] = &[$(CloseReason::$name,)*];

            /// The word used in metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(CloseReason::$name => $word,)* }
            }
        }
    };
}

reasons! {
    /// The peer closed its side and everything owed to it was sent.
    PeerClosed = "peer_closed",
    /// The peer reset the connection, or the network did.
    PeerReset = "peer_reset",
    /// The handler or its service asked for it.
    Requested = "requested",
    /// The connection went on with another handler.
    Upgraded = "upgraded",
    /// An operator asked for it.
    Kicked = "kicked",
    /// Nothing was received for longer than the endpoint's idle timeout.
    IdleTimeout = "idle_timeout",
    /// The connection did not finish its opening (filter, first frame) in time.
    HandshakeTimeout = "handshake_timeout",
    /// A request that had begun was not complete in time.
    RequestTimeout = "request_timeout",
    /// Bytes were queued and the peer took none of them for too long.
    WriteStall = "write_stall",
    /// The send queue passed its hard cap: the peer reads slower than it asks.
    SlowConsumer = "slow_consumer",
    /// The shard's or the process's budget was spent and this connection held the most of it.
    BudgetVictim = "budget_victim",
    /// A frame (or what was left unread of one) passed the endpoint's bound.
    FrameTooLarge = "frame_too_large",
    /// The peer broke the protocol.
    ProtocolError = "protocol_error",
    /// A filter in front of the handler refused the connection.
    FilterError = "filter_error",
    /// The handler refused the connection in `on_open`.
    Refused = "refused",
    /// The handler panicked on this connection.
    HandlerPanic = "handler_panic",
    /// The service behind the connection panicked and was restarted.
    ServicePanic = "service_panic",
    /// The engine drained and everything owed was sent.
    Drained = "drained",
    /// The engine stopped, or a drain's deadline passed, before everything owed was sent.
    Stopped = "stopped",
    /// The operating system reported an error that is none of the above.
    Os = "os_error",
}

impl CloseReason {
    /// The reason's place in [`CloseReason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether what is still queued is sent before the connection closes.
    pub(crate) const fn flushes(self) -> bool {
        matches!(
            self,
            CloseReason::PeerClosed
                | CloseReason::Requested
                | CloseReason::Drained
                | CloseReason::ProtocolError
                | CloseReason::FrameTooLarge
                | CloseReason::IdleTimeout
                | CloseReason::RequestTimeout
                | CloseReason::FilterError
                | CloseReason::Refused
                | CloseReason::Kicked
        )
    }
}

impl CloseReason {
    /// Whether the peer may still be sending: its bytes are read away, so that they draw no RST that
    /// would destroy the last of ours.
    pub(crate) const fn lingers(self) -> bool {
        matches!(
            self,
            CloseReason::ProtocolError
                | CloseReason::FrameTooLarge
                | CloseReason::FilterError
                | CloseReason::Requested
                | CloseReason::RequestTimeout
        )
    }

    /// Whether what is unsent is worth nothing any more: RST instead of FIN.
    pub(crate) const fn resets(self) -> bool {
        matches!(
            self,
            CloseReason::SlowConsumer | CloseReason::BudgetVictim | CloseReason::WriteStall | CloseReason::Stopped
        )
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_the_place_in_the_list() {
        for (place, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
        }
    }
}
