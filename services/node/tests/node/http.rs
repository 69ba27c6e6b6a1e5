//! The HTTP endpoint: answers, connections, and whether the metrics are OpenMetrics.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};

use crate::server::Server;

const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];

struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

/// Reads one answer; one to HEAD has no body.
fn answer(stream: &mut impl BufRead, to_head: bool) -> Answer {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("cut off: {line:?}")).to_owned()
    };
    let status = line();
    let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap();
    let status = status.parse().unwrap();
    let mut headers = HashMap::new();
    loop {
        let line = line();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(headers.insert(name.to_owned(), value.to_owned()), None, "{name} twice");
    }
    let length = if to_head { 0 } else { headers["content-length"].parse().unwrap() };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Answer { status, headers, body: String::from_utf8(body).unwrap() }
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

fn get(server: &Server, path: &str) -> Answer {
    let mut stream = server.connect("http");
    stream.write_all(request("GET", path).as_bytes()).unwrap();
    answer(&mut BufReader::new(stream), false)
}

/// What comes for these bytes, and the end behind it.
#[track_caller]
fn check_refused(server: &Server, bytes: &[u8], status: u16) {
    let mut stream = server.connect("http");
    stream.write_all(bytes).unwrap();
    let mut stream = BufReader::new(stream);
    let refused = answer(&mut stream, false);
    assert_eq!(refused.status, status, "{}", refused.body);
    assert_eq!(refused.headers["connection"], "close");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn health_is_told() {
    let Some(server) = Server::start(&HTTP) else {
        return;
    };
    let health = get(&server, "/healthz?from=here");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    assert_eq!(health.headers["content-type"], "text/plain; charset=utf-8");
    assert!(health.headers["date"].ends_with(" GMT"));
    assert_eq!(get(&server, "/").status, 404);
}

#[test]
fn one_connection_serves_many_requests_in_order() {
    let Some(server) = Server::start(&HTTP) else {
        return;
    };
    let mut stream = server.connect("http");
    let requests = [
        ("HEAD", "/healthz", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/healthz", 405),
        ("HEAD", "/metrics", 200),
        ("GET", "/healthz", 200),
    ];
    let all: String = requests.iter().map(|(method, path, _)| request(method, path)).collect();
    stream.write_all(all.as_bytes()).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for (method, path, status) in requests {
        let answer = answer(&mut answers, method == "HEAD");
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.headers.get("allow").map(String::as_str), (status == 405).then_some("GET, HEAD"));
    }
    // A body that nobody wants is read away, and the next request is found behind it.
    stream.write_all(b"POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody").unwrap();
    assert_eq!(answer(&mut answers, false).status, 405);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(answer(&mut answers, false).headers["connection"], "close");
    assert_eq!(answers.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let Some(server) = Server::start(&HTTP) else {
        return;
    };
    let mut stream = server.connect("http");
    stream.set_nodelay(true).unwrap();
    for byte in request("GET", "/healthz").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(answer(&mut BufReader::new(stream), false).status, 200);
}

#[test]
fn what_is_no_request_is_answered_and_the_connection_ends() {
    let Some(server) = Server::start(&HTTP) else {
        return;
    };
    check_refused(&server, b"hello\r\n\r\n", 400);
    check_refused(&server, b"GET / HTTP/1.1\r\n\r\n", 400);
    check_refused(&server, b"GET / HTTP/3.0\r\nhost: a\r\n\r\n", 505);
    check_refused(&server, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 501);
    check_refused(&server, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 999999999\r\n\r\n", 413);
    check_refused(&server, &[b"GET / HTTP/1.1\r\nhost: a\r\nx: ", "y".repeat(9000).as_bytes()].concat(), 431);
    check_refused(&server, format!("GET /{}", "y".repeat(9000)).as_bytes(), 414);
}

#[test]
fn who_expects_to_continue_is_answered_once() {
    let Some(server) = Server::start(&HTTP) else {
        return;
    };
    let head = b"POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
    check_refused(&server, head, 405);
}

#[test]
fn a_peer_that_asks_much_and_reads_late_gets_everything() {
    const REQUESTS: usize = 1000;
    let Some(server) = Server::start(&HTTP) else {
        return;
    };
    let mut stream = server.connect("http");
    stream.write_all(request("GET", "/metrics").repeat(REQUESTS).as_bytes()).unwrap();
    let mut answers = BufReader::new(stream);
    for _ in 0..REQUESTS {
        assert!(answer(&mut answers, false).body.ends_with("# EOF\n"));
    }
}

#[test]
fn the_timeline_is_told_in_stretches() {
    let Some(server) = Server::start(&["--http", "127.0.0.1:0", "--shards", "2"]) else {
        return;
    };
    let word = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
        line.trim().parse().unwrap()
    };
    // What is to come: nothing yet, but where it will begin. The next request is itself a tick of the shard that is asked.
    let mut stream = server.connect("http");
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |path: &str| {
        stream.write_all(request("GET", path).as_bytes()).unwrap();
        answer(&mut answers, false)
    };
    let here = word(&ask("/trace").body, "answered_by ");
    let begin = ask(&format!("/trace?shard={here}"));
    let (head, none) = begin.body.split_once("\n\n").unwrap();
    assert_eq!((begin.status, none, word(head, "shards ")), (200, "", 2));
    let from = word(head, "next ");
    let then = ask(&format!("/trace?shard={here}&from={from}"));
    let (head, ticks) = then.body.split_once("\n\n").unwrap();
    let columns =
        "\ncolumns tick entered enter reap dispatch service resume flush enters submissions completions phases";
    assert!(head.ends_with(columns), "{head}");
    let ticks: Vec<Vec<u64>> =
        ticks.lines().map(|line| line.split(' ').map(|number| number.parse().unwrap()).collect()).collect();
    assert_eq!((ticks[0][0], ticks.len() as u64), (from, word(head, "next ") - from));
    assert!(ticks.iter().all(|tick| tick[2..8].is_sorted()), "{ticks:?}");
    assert!(ticks.windows(2).all(|two| two[0][1] + two[0][7] == two[1][1]), "{ticks:?}");
    for wrong in ["/trace?shard=2", "/trace?from=-1", "/trace?shard", "/trace?a=b"] {
        assert_eq!(ask(wrong).status, 400, "{wrong}");
    }
}

#[cfg(feature = "proxy")]
#[test]
fn it_can_stand_behind_a_proxy() {
    let Some(server) = Server::start(&["--http", "127.0.0.1:0", "--proxy-protocol", "http"]) else {
        return;
    };
    let mut stream = server.connect("http");
    stream.write_all(b"PROXY TCP6 2001:db8::1 2001:db8::2 1000 80\r\n").unwrap();
    stream.write_all(request("GET", "/healthz").as_bytes()).unwrap();
    stream.write_all(request("GET", "/trace").as_bytes()).unwrap();
    let mut answers = BufReader::new(stream);
    assert_eq!(answer(&mut answers, false).status, 200);
    assert_eq!(answer(&mut answers, false).status, 403, "for this machine alone");
}

#[test]
fn the_metrics_are_openmetrics() {
    let Some(server) = Server::start(&["--http", "127.0.0.1:0", "--shards", "2"]) else {
        return;
    };
    let before = Families::read(&get(&server, "/metrics"));
    let after = Families::read(&get(&server, "/metrics"));
    assert_eq!(before.kinds, after.kinds);
    assert_eq!(before.kinds["megamux_build"], "info");
    let accepts = |families: &Families| {
        let of = |shard| families.values[&format!("megamux_accepts_total{{shard=\"{shard}\"}}")];
        of(0) + of(1)
    };
    assert_eq!(accepts(&after), accepts(&before) + 1.0);
    for (name, value) in &before.values {
        let family = name.split(['{']).next().unwrap();
        let counts = ["_total", "_bucket", "_count", "_sum"].iter().any(|end| family.ends_with(end));
        assert!(!counts || after.values[name] >= *value, "{name} fell");
    }
}

/// An exposition, read line by line against the format's rules.
struct Families {
    kinds: HashMap<String, String>,
    values: HashMap<String, f64>,
}

impl Families {
    fn read(answer: &Answer) -> Families {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let text = answer.body.strip_suffix("# EOF\n").expect("EOF comes last");
        let mut families = Families { kinds: HashMap::new(), values: HashMap::new() };
        let mut family = String::new();
        let mut helped = HashSet::new();
        for line in text.lines() {
            match line.strip_prefix("# ").map(|line| line.splitn(3, ' ').collect::<Vec<_>>()).as_deref() {
                Some(["TYPE", name, kind]) => {
                    family = (*name).to_owned();
                    let before = families.kinds.insert(family.clone(), (*kind).to_owned());
                    assert_eq!(before, None, "{name} is interrupted");
                }
                Some(["UNIT", name, unit]) => {
                    assert_eq!(*name, family);
                    assert!(name.ends_with(&format!("_{unit}")), "{line}");
                }
                Some(["HELP", name, _]) => {
                    assert_eq!(*name, family);
                    assert!(helped.insert(family.clone()), "{line}");
                }
                Some(other) => panic!("{other:?}"),
                None => families.sample(&family, line),
            }
        }
        families.check_histograms(text);
        families
    }

    fn sample(&mut self, family: &str, line: &str) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        let suffixes: &[&str] = match self.kinds[family].as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            other => panic!("kind {other}"),
        };
        assert!(suffixes.iter().any(|suffix| bare == format!("{family}{suffix}")), "{line}");
        if let Some(labels) = name.strip_prefix(bare).filter(|labels| !labels.is_empty()) {
            let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}')).unwrap();
            for label in labels.split(',') {
                let (label, word) = label.split_once('=').unwrap();
                assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
                assert!(word.len() >= 2 && word.starts_with('"') && word.ends_with('"'), "{line}");
            }
        }
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(value >= 0.0, "{line}");
        assert_eq!(self.values.insert(name.to_owned(), value), None, "{name} twice");
    }

    /// Buckets rise, in their bounds and in their counts, and the last counts all.
    fn check_histograms(&self, text: &str) {
        let mut last = (f64::NEG_INFINITY, 0.0);
        for line in text.lines().filter(|line| line.contains("_bucket{")) {
            let (name, rest) = line.split_once("le=\"").unwrap();
            let (bound, count) = rest.split_once("\"} ").unwrap();
            let now: (f64, f64) = (bound.parse().unwrap(), count.parse().unwrap());
            assert!(now.0 > last.0 && now.1 >= last.1, "{line}");
            last = now;
            if bound == "+Inf" {
                let total = name.replace("_bucket", "_count").replace(',', "}");
                assert_eq!(self.values[&total], now.1, "{line}");
                last = (f64::NEG_INFINITY, 0.0);
            }
        }
    }
}

#[test]
fn health_says_when_the_server_is_on_its_way_out() {
    let Some(server) = Server::start(&["--http", "127.0.0.1:0", "--drain-delay", "5m"]) else {
        return;
    };
    assert_eq!(get(&server, "/healthz").status, 200);
    server.signal(rustix::process::Signal::TERM);
    server.wait_for("unhealthy, and draining after a delay");
    // New connections still come in, and are told to go elsewhere.
    let health = get(&server, "/healthz");
    assert_eq!((health.status, health.body.as_str()), (503, "draining\n"));
    assert_eq!(get(&server, "/metrics").status, 200);
}
