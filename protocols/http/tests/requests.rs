//! Requests, legal and not, by table; each one whole, cut at every byte, and at seeded random cuts.
//!
//! `check` asserts one outcome for all cuts, so every table below is a test of split invariance too.

use megamux_http::{DEFAULT_MAX_BODY_BYTES, Decoded, Decoder, HttpError, MAX_HEAD_BYTES, MAX_HEADERS, Status, Version};

/// What one connection gave: every request with its body, then an error or what was left undecided.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Exchange>,
    discarded: usize,
    end: Result<usize, HttpError>,
}

#[derive(Debug, PartialEq, Eq)]
struct Exchange {
    line: String,
    headers: Vec<(String, Vec<u8>)>,
    keep_alive: bool,
    body_bytes: usize,
    body: Vec<u8>,
}

/// Feeds `input` in pieces that end at `cuts` (ascending), keeping what is not consumed as the engine does.
fn feed(input: &[u8], cuts: &[usize]) -> Outcome {
    let mut decoder = Decoder::new();
    let mut outcome = Outcome { requests: Vec::new(), discarded: 0, end: Ok(0) };
    let mut at = 0;
    for &end in cuts.iter().chain([&input.len()]) {
        loop {
            match decoder.decode(&input[at..end]) {
                Ok(Decoded::NeedMore) => break,
                Ok(Decoded::Request { consumed, request }) => {
                    at += consumed;
                    outcome.requests.push(Exchange {
                        line: format!("{} {} {:?}", request.method, request.target, request.version),
                        headers: request.headers.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                        keep_alive: request.keep_alive,
                        body_bytes: request.body_bytes,
                        body: Vec::new(),
                    });
                }
                Ok(Decoded::Body { consumed, bytes, remaining }) => {
                    at += consumed;
                    let last = outcome.requests.last_mut().unwrap();
                    last.body.extend_from_slice(bytes);
                    assert_eq!(last.body.len() + remaining, last.body_bytes);
                }
                Ok(Decoded::Finished { consumed }) => {
                    at += consumed;
                    outcome.discarded += consumed;
                }
                Err(error) => {
                    assert_eq!(decoder.decode(b"GET / HTTP/1.0\r\n\r\n").unwrap_err(), error, "refused for good");
                    outcome.end = Err(error);
                    return outcome;
                }
            }
        }
    }
    outcome.end = Ok(input.len() - at);
    outcome
}

/// A small deterministic generator (xorshift64), enough to choose cuts.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// The outcome of `input`, the same for every cut.
#[track_caller]
fn outcome(input: &[u8]) -> Outcome {
    let whole = feed(input, &[]);
    let shown = input[..input.len().min(200)].escape_ascii();
    let every: Vec<usize> = (0..input.len()).collect();
    assert_eq!(feed(input, &every), whole, "byte by byte: {shown}");
    // Long inputs are cut at fewer places, to stay linear.
    for cut in (0..input.len()).step_by(1 + input.len() / 500) {
        assert_eq!(feed(input, &[cut]), whole, "cut at {cut}: {shown}");
    }
    let mut random = Seeded(0x9e37_79b9_7f4a_7c15);
    for round in 0..50 {
        let mut cuts: Vec<usize> = (0..5).map(|_| random.below(input.len() + 1)).collect();
        cuts.sort_unstable();
        assert_eq!(feed(input, &cuts), whole, "round {round}, cuts {cuts:?}: {shown}");
    }
    whole
}

#[track_caller]
fn refuses(input: &[u8], error: HttpError) {
    let outcome = outcome(input);
    assert_eq!(outcome.end, Err(error), "{}", input[..input.len().min(200)].escape_ascii());
    assert_eq!(outcome.requests, []);
}

/// The one request of `input`, with nothing left over.
#[track_caller]
fn accepts(input: &[u8]) -> Exchange {
    let mut outcome = outcome(input);
    assert_eq!(outcome.end, Ok(0), "{}", input.escape_ascii());
    assert_eq!(outcome.requests.len(), 1);
    outcome.requests.remove(0)
}

/// A request with these header lines behind Host.
fn with_headers(lines: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

#[test]
fn a_request_is_its_line_and_headers() {
    let request = accepts(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a:80\r\nX-Empty:\r\nx-obs:\t \xe9 b \t\r\n\r\n");
    assert_eq!(request.line, "GET /metrics?x=1 Http11");
    let expect: [(&str, &[u8]); 3] = [("Host", b"a:80"), ("X-Empty", b""), ("x-obs", b"\xe9 b")];
    assert_eq!(request.headers, expect.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(request.keep_alive);
    assert_eq!(request.body_bytes, 0);
}

#[test]
fn legal_lines_are_taken() {
    let table: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.0\r\n\r\n", "GET / Http10"),
        (b"\r\nGET / HTTP/1.0\r\n\r\n", "GET / Http10"),
        (b"PURGE / HTTP/1.1\r\nhost:\r\n\r\n", "PURGE / Http11"),
        (b"M-S.e_a~r!ch / HTTP/1.0\r\n\r\n", "M-S.e_a~r!ch / Http10"),
        (b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "OPTIONS * Http11"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a.example:443 Http11"),
        (b"GET http://a/b?c HTTP/1.1\r\nHost: z\r\n\r\n", "GET http://a/b?c Http11"),
    ];
    for (input, line) in table {
        assert_eq!(accepts(input).line, *line);
    }
}

#[test]
fn malformed_heads_are_named() {
    use HttpError::*;
    let table: &[(&[u8], HttpError)] = &[
        // Strangers, refused at their first bytes.
        (b"\x16\x03\x01\x02\x00", BadRequestLine),
        (b"\r\n\r\n", BadRequestLine),
        (b" GET / HTTP/1.1\r\n", BadRequestLine),
        (b"\nGET / HTTP/1.1\r\n", BadRequestLine),
        (b"PROXY\0", ControlByte),
        (b"\rGET", BareCr),
        // Line ends.
        (b"GET / HTTP/1.1\n", BareLf),
        (b"GET / HTTP/1.1\rHost", BareCr),
        (b"GET / HTTP/1.1\r\nHost: a\n", BareLf),
        (b"GET / HTTP/1.1\r\nHost: a\rb", BareCr),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\rb", BareCr),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", BareLf),
        (b"GET / HTTP/1.1\r\n Host: a\r\n", ObsFold),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n", ObsFold),
        (b"GET / HTTP/1.1\r\nHost: a\0", ControlByte),
        (b"GET / HTTP/1.1\r\nHost: a\x7f", ControlByte),
        // The request line.
        (b"GET\r\n\r\n", BadRequestLine),
        (b"GET /\r\n\r\n", BadRequestLine),
        (b"GET  / HTTP/1.1\r\n\r\n", BadRequestLine),
        (b"GET / HTTP/1.1 \r\n\r\n", BadRequestLine),
        (b"GET /\tHTTP/1.1\r\n\r\n", BadRequestLine),
        (b"GET / a HTTP/1.1\r\n\r\n", BadRequestLine),
        (b"G(T / HTTP/1.1\r\n\r\n", BadRequestLine),
        (b"GET / http/1.1\r\n\r\n", BadRequestLine),
        (b"GET / HTTP/1\r\n\r\n", BadRequestLine),
        (b"GET / HT\r\n\r\n", BadRequestLine),
        (b"GET / HTTP/11.1\r\n\r\n", BadRequestLine),
        (b"GET / HTTP/1.2\r\n\r\n", UnsupportedVersion),
        (b"\r\nGET / HTTP/0.9\r\n\r\n", UnsupportedVersion),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UnsupportedVersion),
        // Targets.
        (b"GET * HTTP/1.0\r\n\r\n", BadTarget),
        (b"GET path HTTP/1.0\r\n\r\n", BadTarget),
        (b"GET a:80 HTTP/1.0\r\n\r\n", BadTarget),
        (b"GET ftp://a/ HTTP/1.0\r\n\r\n", BadTarget),
        (b"GET http:///b HTTP/1.0\r\n\r\n", BadTarget),
        (b"GET /\xc3\xa9 HTTP/1.0\r\n\r\n", BadTarget),
        (b"CONNECT / HTTP/1.0\r\n\r\n", BadTarget),
        (b"CONNECT a HTTP/1.0\r\n\r\n", BadTarget),
        (b"CONNECT a: HTTP/1.0\r\n\r\n", BadTarget),
        (b"CONNECT :1 HTTP/1.0\r\n\r\n", BadTarget),
        // Headers.
        (b"GET / HTTP/1.0\r\nHost : a\r\n\r\n", BadHeaderName),
        (b"GET / HTTP/1.0\r\n: a\r\n\r\n", BadHeaderName),
        (b"GET / HTTP/1.0\r\nHost\r\n\r\n", BadHeaderName),
        (b"GET / HTTP/1.0\r\nH(st: a\r\n\r\n", BadHeaderName),
        (b"GET / HTTP/1.0\r\nH\xc3\xa9: a\r\n\r\n", BadHeaderName),
        (b"GET / HTTP/1.1\r\nAccept: a\r\n\r\n", MissingHost),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHOST: a\r\n\r\n", DuplicateHost),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", DuplicateHost),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BadHost),
        (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", BadHost),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BadHost),
    ];
    for (input, error) in table {
        refuses(input, *error);
    }
}

#[test]
fn doubtful_lengths_are_refused() {
    use HttpError::*;
    let table: &[(&str, HttpError)] = &[
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", ConflictingLength),
        ("transfer-encoding: chunked\r\ncontent-length: 3\r\n", ConflictingLength),
        ("Transfer-Encoding: gzip\r\nContent-Length: x\r\n", ConflictingLength),
        ("Transfer-Encoding: chunked\r\n", ChunkedUnsupported),
        ("Transfer-Encoding: gzip, Chunked\r\n", ChunkedUnsupported),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", ChunkedUnsupported),
        ("Transfer-Encoding: chunked, identity\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", BadTransferEncoding),
        ("Transfer-Encoding: xchunked\r\n", BadTransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", BadTransferEncoding),
        ("Transfer-Encoding:\r\n", BadTransferEncoding),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", DuplicateContentLength),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", DuplicateContentLength),
        ("Content-Length: 3, 3\r\n", BadContentLength),
        ("Content-Length: +3\r\n", BadContentLength),
        ("Content-Length: -3\r\n", BadContentLength),
        ("Content-Length: 0x3\r\n", BadContentLength),
        ("Content-Length: 3 3\r\n", BadContentLength),
        ("Content-Length: 3;\r\n", BadContentLength),
        ("Content-Length:\r\n", BadContentLength),
        ("Content-Length: 65537\r\n", BodyTooLarge),
        ("Content-Length: 18446744073709551617\r\n", BodyTooLarge),
        ("Content-Length: 99999999999999999999999999999999999999\r\n", BodyTooLarge),
    ];
    assert_eq!(DEFAULT_MAX_BODY_BYTES, 65_536);
    for (lines, error) in table {
        refuses(&with_headers(lines), *error);
    }
    refuses(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", BadTransferEncoding);
}

#[test]
fn bodies_are_passed_on_and_requests_follow_one_another() {
    let input = [
        with_headers("Content-Length: 5\r\n").as_slice(),
        b"hello",
        b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nPOST /3 HTTP/1.0\r\nConnection: Keep-Alive\r\ncontent-length: 0010\r\n\r\n0123456789",
        b"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
        b"GET /never HTTP/1.1\r\n\0",
    ]
    .concat();
    let outcome = outcome(&input);
    let seen: Vec<(&str, &[u8], bool)> =
        outcome.requests.iter().map(|r| (r.line.as_str(), r.body.as_slice(), r.keep_alive)).collect();
    let expect: [(&str, &[u8], bool); 4] = [
        ("POST / Http11", b"hello", true),
        ("GET /2 Http11", b"", true),
        ("POST /3 Http10", b"0123456789", true),
        ("GET /4 Http11", b"ok", false),
    ];
    assert_eq!(seen, expect);
    assert_eq!((outcome.discarded, outcome.end), (22, Ok(0)));
}

#[test]
fn a_request_cut_off_is_waited_for() {
    assert_eq!(outcome(b"GET / HTTP/1.1\r\nHost: a\r\n").end, Ok(25));
    let half = [with_headers("Content-Length: 5\r\n").as_slice(), b"hel"].concat();
    let outcome = outcome(&half);
    assert_eq!((outcome.end, outcome.requests[0].body.as_slice()), (Ok(0), b"hel".as_slice()));
}

#[test]
fn persistence_follows_version_and_connection() {
    let table = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, CLOSE\r\n", false),
        ("1.1", "Connection: upgrade\r\nConnection: ,close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, lines, keep_alive) in table {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(accepts(input.as_bytes()).keep_alive, keep_alive, "{version} {lines}");
    }
}

#[test]
fn a_head_is_bounded() {
    let head = |target: usize, value: usize| {
        format!("GET /{} HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "t".repeat(target), "v".repeat(value)).into_bytes()
    };
    let around = head(0, 0).len();
    accepts(&head(0, MAX_HEAD_BYTES - around));
    refuses(&head(0, MAX_HEAD_BYTES - around + 1), HttpError::HeadTooLarge);
    refuses(&head(0, 5 * MAX_HEAD_BYTES), HttpError::HeadTooLarge);
    accepts(&head(MAX_HEAD_BYTES - around, 0));
    refuses(&head(MAX_HEAD_BYTES, 0), HttpError::RequestLineTooLong);

    let many = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(count)).into_bytes();
    accepts(&many(MAX_HEADERS));
    refuses(&many(MAX_HEADERS + 1), HttpError::TooManyHeaders);
}

#[test]
fn the_body_limit_is_the_callers() {
    let mut decoder = Decoder::with_max_body_bytes(4);
    assert!(matches!(decoder.decode(&with_headers("Content-Length: 4\r\n")), Ok(Decoded::Request { .. })));
    let mut decoder = Decoder::with_max_body_bytes(4);
    assert_eq!(decoder.decode(&with_headers("Content-Length: 5\r\n")).unwrap_err(), HttpError::BodyTooLarge);
}

#[test]
fn every_refusal_has_its_status() {
    use HttpError::*;
    let table = [
        (RequestLineTooLong, Status::UriTooLong),
        (HeadTooLarge, Status::RequestHeaderFieldsTooLarge),
        (TooManyHeaders, Status::RequestHeaderFieldsTooLarge),
        (UnsupportedVersion, Status::HttpVersionNotSupported),
        (ChunkedUnsupported, Status::NotImplemented),
        (BodyTooLarge, Status::ContentTooLarge),
        (ConflictingLength, Status::BadRequest),
        (BareLf, Status::BadRequest),
    ];
    for (error, status) in table {
        assert_eq!(error.status(), status, "{error:?}");
    }
}

#[test]
fn targets_come_apart() {
    let table = [
        ("GET", "/", "/", None),
        ("GET", "/a/b?c=d?e", "/a/b", Some("c=d?e")),
        ("GET", "/a?u=http://x/y", "/a", Some("u=http://x/y")),
        ("GET", "/a://b", "/a://b", None),
        ("GET", "http://a", "/", None),
        ("GET", "http://a?b", "/", Some("b")),
        ("GET", "http://a:80/b/c?d", "/b/c", Some("d")),
        ("OPTIONS", "*", "*", None),
        ("CONNECT", "a:1", "", None),
    ];
    for (method, target, path, query) in table {
        let input = format!("{method} {target} HTTP/1.0\r\n\r\n");
        let mut decoder = Decoder::new();
        let Ok(Decoded::Request { request, .. }) = decoder.decode(input.as_bytes()) else {
            panic!("{input}");
        };
        assert_eq!((request.path(), request.query()), (path, query), "{input}");
    }
}

#[test]
fn a_websocket_upgrade_leaves_what_follows_alone() {
    let head = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let input = [head.as_slice(), b"\x81\x00"].concat();
    let mut decoder = Decoder::new();
    let Ok(Decoded::Request { consumed, request }) = decoder.decode(&input) else { panic!() };
    assert!(request.wants_upgrade("websocket") && !request.wants_upgrade("h2c"));
    assert_eq!(request.headers.first("sec-websocket-key"), Some(b"dGhlIHNhbXBsZSBub25jZQ==".as_slice()));
    assert_eq!(&input[consumed..], b"\x81\x00");

    let unlisted = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    let old = b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for input in [unlisted.as_slice(), old] {
        let mut decoder = Decoder::new();
        let Ok(Decoded::Request { request, .. }) = decoder.decode(input) else { panic!() };
        assert!(!request.wants_upgrade("websocket"));
    }
}

#[test]
fn continue_is_expected_only_where_it_helps() {
    let table = [
        ("1.1", "Content-Length: 1\r\nExpect: 100-Continue\r\n", true),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.0", "Content-Length: 1\r\nExpect: 100-continue\r\n", false),
        ("1.1", "Content-Length: 1\r\n", false),
    ];
    for (version, lines, expect) in table {
        let input = format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let mut decoder = Decoder::new();
        let Ok(Decoded::Request { request, .. }) = decoder.decode(input.as_bytes()) else {
            panic!("{input}");
        };
        assert_eq!(request.expects_continue, expect, "{input}");
    }
}

#[test]
fn idle_is_between_requests_only() {
    let mut decoder = Decoder::new();
    assert!(decoder.is_idle());
    let input = [with_headers("Content-Length: 2\r\n").as_slice(), b"ab"].concat();
    assert!(matches!(decoder.decode(&input[..1]), Ok(Decoded::NeedMore)));
    assert!(!decoder.is_idle());
    let Ok(Decoded::Request { consumed, request }) = decoder.decode(&input) else { panic!() };
    assert_eq!(request.version, Version::Http11);
    assert!(!decoder.is_idle());
    assert!(matches!(decoder.decode(&input[consumed..]), Ok(Decoded::Body { remaining: 0, .. })));
    assert!(decoder.is_idle());
}

#[test]
#[should_panic(expected = "bytes not consumed")]
fn losing_bytes_is_the_callers_error() {
    let mut decoder = Decoder::new();
    let _ = decoder.decode(b"GET /");
    let _ = decoder.decode(b"GE");
}
