//! Compressed streams (MCCP versions 2 and 3): zlib, from a subnegotiation on until the stream says it ends.
//!
//! Owns the two states, which are large and exist only while compression runs: some 50 KiB to inflate, some 300 KiB to
//! deflate.
//!
//! Invariants, against a peer that sends bombs:
//!
//! - one [`Inflow::fill`] inflates at most [`INFLATE_STEP`] bytes, and what was inflated and is not decoded yet is at most that
//!   and one line;
//! - what was inflated over a connection is at most [`MAX_INFLATE_RATIO`] times what was received, and [`INFLATE_GRANT`], so
//!   the time a peer takes is proportional to the bytes it sends.
//!
//! Must not: decide who may compress. A deflater exists after [`Telnet::begin_compression`](crate::Telnet::begin_compression)
//! only, an inflater after the option was agreed to.

use crate::decode::{MAX_LINE, TelnetError};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The most bytes that one call inflates. Eight times the window of a screen full of text.
pub const INFLATE_STEP: usize = 8 * 1024;

/// How many times longer a stream may become. Text of games and terminals stays below 20 over a megabyte; zlib's limit
/// is 1,032.
pub const MAX_INFLATE_RATIO: u64 = 100;

/// What may be inflated before the ratio counts, in bytes: a screen of spaces is no attack.
pub const INFLATE_GRANT: u64 = 256 * 1024;

/// How long the unused end of a buffer must be for deflating to go on.
const DEFLATE_STEP: usize = 512;

/// The peer's compressed stream.
pub(crate) struct Inflow {
    inflate: Decompress,
    /// Inflated bytes; the first `at` of them are decoded.
    pub(crate) plain: Vec<u8>,
    pub(crate) at: usize,
    /// The decoder waits for more than is in `plain`.
    pub(crate) starved: bool,
    /// The last fill had room for more than came.
    drained: bool,
    ended: bool,
    failed: Option<TelnetError>,
}

impl std::fmt::Debug for Inflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflow").field("plain", &self.plain.len()).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Inflow {
    pub(crate) fn new() -> Self {
        Self {
            inflate: Decompress::new(true),
            plain: Vec::new(),
            at: 0,
            starved: true,
            drained: true,
            ended: false,
            failed: None,
        }
    }

    /// The stream said it ends, and everything of it is in `plain`.
    pub(crate) const fn ended(&self) -> bool {
        self.ended
    }

    /// Whether another fill would bring something, given that so much input is left.
    pub(crate) const fn has_more(&self, input_len: usize) -> bool {
        self.ended || self.failed.is_some() || !self.drained || input_len > 0
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // A window of 32 KiB and the tables: 43,296 bytes by an allocator that counts.
        self.plain.capacity() + 43 * 1024
    }

    /// Inflates one step behind what is not decoded yet, and moves `wire` past what it took.
    pub(crate) fn fill(&mut self, wire: &mut &[u8]) -> Result<(), TelnetError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.plain.drain(..self.at);
        self.at = 0;
        if self.ended || (wire.is_empty() && self.drained) {
            return Ok(());
        }
        let kept = self.plain.len();
        debug_assert!(kept <= MAX_LINE);
        self.plain.resize(kept + INFLATE_STEP, 0);
        let (read_before, made_before) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(wire, &mut self.plain[kept..], FlushDecompress::None);
        let read = self.inflate.total_in() - read_before;
        let made = self.inflate.total_out() - made_before;
        // Both are lengths within the slices just given.
        *wire = &wire[read as usize..];
        self.plain.truncate(kept + made as usize);
        self.drained = (made as usize) < INFLATE_STEP;
        let is_stuck = read + made == 0 && !wire.is_empty();
        match status {
            Ok(Status::StreamEnd) => self.ended = true,
            // What was made in front of the damage is told first. How much that is depends on how the stream was cut.
            Err(_) => self.failed = Some(TelnetError::CorruptCompression),
            Ok(_) if is_stuck => self.failed = Some(TelnetError::CorruptCompression),
            Ok(_) => {}
        }
        if self.inflate.total_out() > INFLATE_GRANT + MAX_INFLATE_RATIO * self.inflate.total_in() {
            self.failed = Some(TelnetError::InflateBomb);
            return Err(TelnetError::InflateBomb);
        }
        Ok(())
    }
}

/// Our compressed stream.
pub(crate) struct Outflow {
    /// Made on the first byte.
    deflate: Option<Compress>,
    level: u32,
    /// How much of the output at hand stands in front of the stream.
    plain_len: usize,
    pub(crate) ending: bool,
}

impl std::fmt::Debug for Outflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outflow").field("made", &self.deflate.is_some()).finish_non_exhaustive()
    }
}

impl Outflow {
    /// Compresses what is appended behind the first `plain_len` bytes of the output at hand. `level` is zlib's, 1 to 9.
    pub(crate) fn new(level: u32, plain_len: usize) -> Self {
        Self { deflate: None, level: level.clamp(1, 9), plain_len, ending: false }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // Dictionary, hash chains and code buffer: 319,326 bytes by an allocator that counts.
        self.deflate.as_ref().map_or(0, |_| 312 * 1024)
    }

    /// Compresses the output at hand in place, so that the peer can read all of it.
    pub(crate) fn seal(&mut self, out: &mut Vec<u8>) {
        let plain_len = std::mem::take(&mut self.plain_len).min(out.len());
        if plain_len == out.len() && !self.ending {
            return;
        }
        let deflate = self.deflate.get_or_insert_with(|| Compress::new(Compression::new(self.level), true));
        let flush = if self.ending { FlushCompress::Finish } else { FlushCompress::Sync };
        let plain = out.split_off(plain_len);
        let mut rest = &plain[..];
        loop {
            out.reserve(rest.len() / 2 + DEFLATE_STEP);
            let (before, out_len) = (deflate.total_in(), out.len());
            // Into memory, the deflater has no error but "no room", and there is room.
            let status = deflate.compress_vec(rest, out, flush);
            // The length of a part of `rest`.
            rest = &rest[(deflate.total_in() - before) as usize..];
            let is_done = match status {
                Ok(Status::Ok) if self.ending => false,
                // A flush is whole when there was room for more of it.
                Ok(Status::Ok) => rest.is_empty() && out.len() < out.capacity(),
                Ok(Status::StreamEnd) => true,
                Ok(Status::BufError) | Err(_) => out.len() == out_len,
            };
            if is_done {
                return;
            }
        }
    }
}
