//! Compressed streams: whole and cut in every way, begun where they must not be, corrupt, and bombs.

mod peer;

use flate2::{Compress, Compression, FlushCompress, Status};
use megamux_telnet::{
    INFLATE_GRANT, INFLATE_STEP, MAX_INFLATE_RATIO, MAX_LINE, RequestError, Side, Support, Telnet, TelnetError,
    TelnetEvent, TelnetOption, encode_text,
};
use peer::{Peer, Seeded, check_from};
use std::time::{Duration, Instant};

const BEGIN_2: &[u8] = b"\xff\xfa\x56\xff\xf0";
const BEGIN_3: &[u8] = b"\xff\xfa\x57\xff\xf0";

fn deflated(plain: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut deflate = Compress::new(Compression::default(), true);
    let mut out = Vec::with_capacity(plain.len() + 1024);
    let status = deflate.compress_vec(plain, &mut out, flush).unwrap();
    assert!(status == Status::StreamEnd || flush != FlushCompress::Finish);
    out
}

/// A server whose client may compress.
fn server() -> Peer {
    Peer::server(&[(Side::Local, TelnetOption::Compress3)])
}

/// A client whose server may compress.
fn client() -> Peer {
    Peer::client(&[(Side::Remote, TelnetOption::Compress2)])
}

#[test]
fn a_compressed_stream_says_what_the_plain_one_does() {
    let text = b"who\r\nab\xff\xf6cd\r\n\xff\xfd\x63half";
    let told = "line:before CompressionBegan line:who AreYouThere line:abcd";
    for flush in [FlushCompress::Sync, FlushCompress::Finish] {
        let stream = [b"before\n", BEGIN_3, &deflated(text, flush)].concat();
        match flush {
            FlushCompress::Finish => {
                let stream = [&stream[..], b" a line\r\nplain\r\n"].concat();
                let told = format!("{told} CompressionEnded line:half a line line:plain");
                check_from(server, &stream, &told, b"\xff\xfc\x63");
            }
            _ => check_from(server, &stream, told, b"\xff\xfc\x63"),
        }
    }
    let stream = [b"old\r", BEGIN_2, &deflated(b"\nnew\r\n", FlushCompress::Finish), b"plain"].concat();
    check_from(client, &stream, "text:old CompressionBegan Newline text:new Newline CompressionEnded text:plain", b"");
}

#[test]
fn it_may_begin_again_after_it_ended() {
    let once = [BEGIN_3, &deflated(b"a\n", FlushCompress::Finish)].concat();
    let told = "CompressionBegan line:a CompressionEnded CompressionBegan line:a CompressionEnded";
    check_from(server, &once.repeat(2), told, b"");
}

#[test]
fn a_command_may_begin_in_a_stream_and_end_behind_it() {
    let server = || Peer::server(&[(Side::Local, TelnetOption::Compress3), (Side::Local, TelnetOption::Gmcp)]);
    let message = b"a\xff\xfa\xc9Core.\xff\xffPing\xff\xf0b\n";
    for cut in 1..message.len() {
        let stream = [BEGIN_3, &deflated(&message[..cut], FlushCompress::Finish), &message[cut..]].concat();
        let mut whole = server();
        whole.feed(&stream);
        assert_eq!(
            whole.told().replace("CompressionEnded ", "").replace(" CompressionEnded", ""),
            "CompressionBegan gmcp:Core.\\xffPing: line:ab",
            "ended at {cut}"
        );
        let told = whole.told();
        check_from(server, &stream, &told, b"");
    }
}

#[test]
fn compression_that_was_not_agreed_to_closes() {
    check_from(|| Peer::new(Support::FULL_SERVER), &[b"a\n", BEGIN_3].concat(), "line:a UnagreedCompression", b"");
    check_from(server, BEGIN_2, "UnagreedCompression", b""); // servers begin this one
    check_from(client, BEGIN_3, "UnagreedCompression", b"");
    // Begun before the peer heard that it is to stop: that is no mistake.
    let stopping = || {
        server().saying(|telnet, out| {
            telnet.turn_off(Side::Local, TelnetOption::Compress3, out).unwrap();
        })
    };
    let stream = [BEGIN_3, &deflated(b"a\n", FlushCompress::Finish), b"\xff\xfe\x57b\n"].concat();
    check_from(stopping, &stream, "CompressionBegan line:a CompressionEnded off:Local:Compress3 line:b", b"");
}

#[test]
fn nested_compression_closes() {
    let inner = [b"a\n", BEGIN_3, b"x"].concat();
    let stream = [BEGIN_3, &deflated(&inner, FlushCompress::Sync)].concat();
    check_from(server, &stream, "CompressionBegan line:a NestedCompression", b"");
}

#[test]
fn a_corrupt_stream_closes() {
    check_from(server, &[BEGIN_3, b"not zlib's"].concat(), "CompressionBegan CorruptCompression", b"");
    let mut stream = deflated(b"a\n", FlushCompress::Finish);
    *stream.last_mut().unwrap() ^= 1; // the checksum
    check_from(server, &[BEGIN_3, &stream].concat(), "CompressionBegan line:a CorruptCompression", b"");
}

/// How much is told before damage is found may differ; that it is found, and what is told without, may not.
#[test]
fn damage_is_found_however_it_is_cut() {
    let text: Vec<u8> = (0..40).flat_map(|n| format!("line {n} of some text\r\n").into_bytes()).collect();
    let whole = [BEGIN_3, &deflated(&text, FlushCompress::Finish)].concat();
    for seed in 0..200 {
        let mut random = Seeded::new(seed);
        let mut stream = whole.clone();
        stream[BEGIN_3.len() + random.below(whole.len() - BEGIN_3.len())] ^= 1 << random.below(8);
        let run = |read_len: usize| {
            let mut peer = server();
            let lives = stream.chunks(read_len).all(|read| peer.feed(read));
            (lives, if lives { peer.told() } else { String::new() })
        };
        let expect = run(stream.len());
        for read_len in [1, 2, 7, 31] {
            assert_eq!(run(read_len), expect, "seed {seed}, reads of {read_len}");
        }
    }
}

#[test]
fn a_bomb_ends_in_bounded_memory_and_time() {
    // Deflated twice, as a peer that wants the most would: what comes out are requests, long lines, and empty ones.
    for plain in [&b"x"[..], b"\n", b"\xff\xf1", b"\xff\xfd\x63", b"\xff\xfa\x18\xff\xf0", b" "] {
        let bomb = deflated(&plain.repeat((4 << 20) / plain.len()), FlushCompress::Finish);
        let mut telnet = server().telnet;
        let mut out = Vec::new();
        let mut input = BEGIN_3;
        assert_eq!(telnet.next_event(&mut input, &mut out), Ok(Some(TelnetEvent::CompressionBegan)));
        let (mut wire, mut inflated, mut longest) = (&bomb[..], 0, Duration::ZERO);
        let error = loop {
            let (before, began) = (out.len(), Instant::now());
            let event = telnet.next_event(&mut wire, &mut out).map(|event| event.is_some());
            longest = longest.max(began.elapsed());
            assert!(out.len() - before <= INFLATE_STEP + MAX_LINE, "one call answers what one call inflates");
            inflated += out.len() - before;
            out.clear();
            match event {
                Ok(true) => {}
                Ok(false) => panic!("a bomb went through"),
                Err(error) => break error,
            }
            assert!(telnet.heap_bytes() < 256 * 1024, "{} bytes", telnet.heap_bytes());
        };
        assert_eq!(error, TelnetError::InflateBomb);
        let read = (bomb.len() - wire.len()) as u64;
        let bound = INFLATE_GRANT + MAX_INFLATE_RATIO * read + INFLATE_STEP as u64;
        assert!(inflated as u64 <= bound, "{inflated} bytes of answers to {read} received");
        assert!(longest < Duration::from_secs(1), "one call took {longest:?}");
        assert_eq!(telnet.next_event(&mut wire, &mut out).map(|_| ()), Err(error), "an error stays");
    }
}

#[test]
fn a_screen_of_spaces_is_no_bomb() {
    let screens = b" ".repeat(80).into_iter().chain(*b"\r\n").collect::<Vec<_>>().repeat(50 * 40);
    let mut peer = client();
    peer.feed(&[BEGIN_2, &deflated(&screens, FlushCompress::Finish)].concat());
    assert!(peer.told().ends_with("CompressionEnded"));
}

#[test]
fn one_call_inflates_one_step_at_most() {
    let bomb = deflated(&vec![b'x'; 8 * INFLATE_STEP], FlushCompress::Finish);
    let mut telnet = server().telnet;
    let mut out = Vec::new();
    telnet.next_event(&mut &BEGIN_3[..], &mut out).unwrap();
    let (mut wire, mut calls) = (&bomb[..], 0);
    while telnet.next_event(&mut wire, &mut out).unwrap().is_some() {
        calls += 1;
    }
    assert!(calls >= 8, "{calls} calls");
}

/// Sends what `say` makes of a server that compresses to a client, sealed once per call.
struct Pair {
    server: Telnet,
    client: Peer,
}

impl Pair {
    fn new() -> Self {
        Self { server: Peer::server(&[(Side::Local, TelnetOption::Compress2)]).telnet, client: client() }
    }

    fn send(&mut self, say: impl FnOnce(&mut Telnet, &mut Vec<u8>)) -> usize {
        let mut out = Vec::new();
        say(&mut self.server, &mut out);
        self.server.seal(&mut out);
        assert!(self.client.feed(&out));
        out.len()
    }
}

#[test]
fn what_is_sealed_is_read_at_once() {
    let mut pair = Pair::new();
    pair.send(|_, out| encode_text("plain ", out));
    pair.send(|server, out| {
        encode_text("before ", out);
        server.begin_compression(6, out).unwrap();
        assert_eq!(server.begin_compression(6, out), Err(RequestError::AlreadySo));
        encode_text("after\n", out);
    });
    assert_eq!(pair.client.told(), "text:plain before  CompressionBegan text:after Newline");
    pair.send(|_, out| encode_text("more", out));
    assert!(pair.client.told().ends_with("text:more"));
    assert_eq!(pair.send(|_, _| {}), 0, "nothing to send is nothing sent");
    let long = "0123456789 the same again and again\n".repeat(4_000);
    let sealed = pair.send(|_, out| encode_text(&long, out));
    assert!(sealed < long.len() / 20, "{sealed} of {}", long.len());
    pair.send(|server, out| {
        encode_text("last", out);
        server.end_compression();
    });
    assert!(!pair.server.is_compressing());
    assert_eq!(pair.server.heap_bytes(), 0, "an ended stream keeps nothing");
    pair.send(|_, out| encode_text("plain again", out));
    assert!(pair.client.told().ends_with("text:last CompressionEnded text:plain again"));
    pair.send(|server, out| {
        server.begin_compression(1, out).unwrap();
        encode_text("twice", out);
    });
    assert!(pair.client.told().ends_with("text:plain again CompressionBegan text:twice"));
}

#[test]
fn incompressible_output_arrives_whole() {
    let mut random = Seeded::new(7);
    let noise: Vec<u8> = (0..200_000).map(|_| 32 + random.below(95) as u8).collect();
    let mut pair = Pair::new();
    pair.send(|server, out| server.begin_compression(9, out).unwrap());
    pair.send(|_, out| out.extend_from_slice(&noise));
    assert!(pair.client.told().ends_with(&format!("text:{}", noise.escape_ascii())));
}

#[test]
fn turning_the_option_off_ends_the_stream() {
    let mut pair = Pair::new();
    pair.send(|server, out| server.begin_compression(6, out).unwrap());
    pair.send(|server, out| {
        encode_text("a", out);
        server.turn_off(Side::Local, TelnetOption::Compress2, out).unwrap();
    });
    pair.send(|_, out| encode_text("plain", out));
    let told = pair.client.told();
    assert_eq!(told, "CompressionBegan text:a off:Remote:Compress2 CompressionEnded text:plain");
}

#[test]
fn a_deflater_is_made_by_the_callers_leave_and_on_the_first_output() {
    let mut peer = Peer::new(Support::FULL_SERVER);
    peer.feed(b"\xff\xfd\x56\xff\xfd\x57");
    assert!(!peer.telnet.is_compressing());
    assert_eq!(peer.telnet.heap_bytes(), 0, "agreeing costs nothing");
    let mut out = Vec::new();
    peer.telnet.begin_compression(6, &mut out).unwrap();
    assert_eq!(out, BEGIN_2);
    peer.telnet.seal(&mut out);
    assert_eq!(out, BEGIN_2);
    assert!(peer.telnet.heap_bytes() < 1024, "nothing was said yet");

    let support =
        Support { local: Support::FULL_SERVER.local.without(TelnetOption::Compress3), ..Support::FULL_SERVER };
    let mut peer = Peer::new(support);
    peer.feed(b"\xff\xfd\x57");
    assert_eq!((peer.told().as_str(), &peer.answers[..]), ("", &b"\xff\xfc\x57"[..]), "over the cap it is refused");
}
