//! How much one request may be. Nothing a peer sends is held or read beyond these.

/// The longest head in bytes: request line, headers, and both line ends at its end. 8 KiB is what nginx and Apache
/// take; cookies and tokens of a browser's WebSocket upgrade fit.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The most header lines in a head. Browsers send about 20; httparse's table of this many is 2 KiB of stack.
pub const MAX_HEADERS: usize = 64;

/// The longest body in bytes a decoder takes unless told otherwise. Bodies are passed on in the pieces they come in, so
/// this bounds what a service must be ready to collect, not what is held here.
pub const DEFAULT_MAX_BODY_BYTES: usize = 64 * 1024;

// The shortest header line is "a:" and its line end; a full table of them fits a head, so both limits can be met.
const _: () = assert!(MAX_HEADERS * 4 < MAX_HEAD_BYTES);
