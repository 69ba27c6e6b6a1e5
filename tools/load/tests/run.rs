//! The program against a real engine: every scenario, and targets that refuse, lie and die.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A service that says each line to everybody.
#[allow(dead_code, reason = "the example's own main")]
#[path = "../../../engine/examples/chat.rs"]
mod chat;

use megamux_engine::{CloseReason, Config, ConnInfo, Cx, Engine, Handler, Listen, NO_SERVICE, NoService, RecvBuf};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What the target does with what it gets.
#[derive(Clone, Copy)]
enum Target {
    Echo,
    /// Sends other bytes back.
    Liar,
    /// Answers each line by one.
    Lines,
    /// A console of a sort: greets, prompts, offers an option.
    Console,
}

impl Handler for Target {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, cx: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
        if let Target::Console = self {
            cx.send(b"hello\r\n\xff\xfb\x01> ");
        }
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        let lines = data.iter().filter(|byte| **byte == b'\n').count();
        match self {
            Target::Echo => {
                cx.send_frame(data.take_all());
                return Ok(());
            }
            Target::Liar => cx.send(&vec![7; data.len()]),
            Target::Lines => (0..lines).for_each(|_| cx.send(b"yes\n")),
            Target::Console => (0..lines).for_each(|_| cx.send(b"what?\r\n> ")),
        }
        let len = data.len();
        data.consume(len);
        Ok(())
    }
}

fn addr_of(engine: &Engine) -> String {
    engine.local_addrs()[0].1.to_string()
}

/// A chat on two shards.
fn chat() -> (Engine, String) {
    let engine = chat::start("127.0.0.1:0", 2).unwrap();
    let addr = addr_of(&engine);
    (engine, addr)
}

fn serve(target: Target) -> (Engine, String) {
    let mut config = Config::default();
    config.shards = 2;
    let mut builder = Engine::builder(config).unwrap();
    builder.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| target).unwrap();
    let engine = builder.start().unwrap();
    let addr = addr_of(&engine);
    (engine, addr)
}

fn load(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_megamux-load"));
    command.args(arguments.split_whitespace()).args(["--json", "-", "--quiet"]);
    command
}

fn spawn(arguments: &str) -> Child {
    load(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn outcome(output: &Output) -> (Option<i32>, Value) {
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

fn run(arguments: &str) -> (Option<i32>, Value) {
    outcome(&load(arguments).output().unwrap())
}

#[test]
fn every_scenario_is_done_as_asked() {
    let (_engine, addr) = serve(Target::Echo);
    for scenario in [
        "pingpong",
        "pingpong --rate 2000",
        "pipeline",
        "bulk",
        "bulk --size 262144 -c 4",
        "frames -c 50",
        "frames -c 50 --rate 2000 --size 200",
        "churn -c 8",
        "storm -c 300",
        "slow -c 100",
        "hold -c 200 --every 0.2 --ramp 5000",
    ] {
        let (code, report) = run(&format!("{scenario} -t 0.3 {addr}"));
        assert_eq!(code, Some(0), "{scenario}: {report:#}");
        assert_eq!(
            (report["lost"].as_u64(), report["incomplete"].is_null(), report["complete"].as_bool()),
            (Some(0), true, Some(true)),
            "{scenario}: {report:#}"
        );
        assert!(report["run"]["done"].as_u64() > Some(0), "{scenario}: {report:#}");
        assert!(report["latency_ns"]["p50"].as_u64() > Some(0), "{scenario}: {report:#}");
    }
}

#[test]
fn lines_and_consoles_are_spoken_to_in_their_way() {
    for (target, arguments) in
        [(Target::Lines, "pipeline --protocol lines"), (Target::Console, "pingpong --protocol telnet")]
    {
        let (_engine, addr) = serve(target);
        let (code, report) = run(&format!("{arguments} -c 20 -t 0.3 {addr}"));
        assert_eq!(code, Some(0), "{report:#}");
        assert!(report["run"]["done"].as_u64() > Some(20), "{report:#}");
    }
}

#[test]
fn a_line_said_to_all_is_timed_until_the_last_has_it() {
    for arguments in ["--shards 2", "--rate 50 --size 300"] {
        let (_engine, addr) = chat();
        let (code, report) = run(&format!("fanout -c 40 -t 0.5 {arguments} {addr}"));
        assert_eq!(code, Some(0), "{report:#}");
        let lines = report["run"]["done"].as_u64().unwrap();
        assert!(lines > 0 && report["run"]["deliveries"].as_u64() >= Some(40 * lines), "{report:#}");
        let (each, last) = (&report["latency_ns"], &report["last_delivery_ns"]);
        assert!(last["p95"].as_u64() > Some(0) && last["max"].as_u64() >= each["max"].as_u64(), "{report:#}");
    }
}

#[test]
fn other_lines_than_were_sent_are_noticed() {
    let (_engine, addr) = serve(Target::Lines);
    let (code, report) = run(&format!("frames -c 5 -t 5 {addr}"));
    assert_eq!((code, report["complete"].as_bool()), (Some(1), Some(false)), "{report:#}");
    assert!(report["errors"].to_string().contains("does not end with the line"), "{report:#}");
    // Nobody says it to the others.
    let (_engine, addr) = serve(Target::Echo);
    let (code, report) = run(&format!("fanout -c 5 -t 1.5 {addr}"));
    assert_eq!(
        (code, report["incomplete"].as_str()),
        (Some(1), Some("no line reached every connection")),
        "{report:#}"
    );
}

#[test]
fn a_target_that_dies_while_others_connect_is_given_up() {
    let (engine, addr) = serve(Target::Echo);
    let child = spawn(&format!("churn -c 8 -t 60 {addr}"));
    // What is exchanged before the generator has seen that all are open is not measured: some hundreds.
    while engine.stats().total().sends < 10_000 {
        std::thread::yield_now();
    }
    engine.handle().stop();
    engine.join().unwrap();
    let (code, report) = outcome(&child.wait_with_output().unwrap());
    assert_eq!((code, report["complete"].as_bool()), (Some(1), Some(false)), "{report:#}");
    assert!(report["run"]["done"].as_u64() > Some(0), "{report:#}");
}

#[test]
fn an_interrupt_leaves_partial_results() {
    // As from a terminal, and from `timeout`.
    for signal in [Signal::INT, Signal::TERM] {
        let (engine, addr) = serve(Target::Echo);
        let child = spawn(&format!("pingpong -c 8 -t 60 {addr}"));
        while engine.stats().total().sends < 500 {
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let (code, report) = outcome(&child.wait_with_output().unwrap());
        assert_eq!((code, report["incomplete"].as_str()), (Some(1), Some("interrupted")), "{report:#}");
        assert!(report["run"]["done"].as_u64() > Some(0), "{report:#}");
    }
}

#[test]
fn an_interrupted_ramp_ends_at_once_and_measures_nothing() {
    let (engine, addr) = serve(Target::Echo);
    let child = spawn(&format!("pingpong -c 15000 --ramp 300 -t 60 {addr}"));
    while engine.stats().total().accepts < 50 {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let interrupted = Instant::now();
    let (code, report) = outcome(&child.wait_with_output().unwrap());
    assert_eq!((code, report["incomplete"].as_str()), (Some(1), Some("interrupted")), "{report:#}");
    assert!(report["ramp"]["opened"].as_u64() >= Some(50) && report["run"]["seconds"] == 0.0, "{report:#}");
    // A dial that was under way is reset as the others are, and not waited for.
    assert!(interrupted.elapsed() < Duration::from_secs(5), "{:?}", interrupted.elapsed());
}

/// A target whose connections stay as they are, and end when it is dropped.
fn deaf() -> (std::thread::JoinHandle<Vec<TcpStream>>, TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let accepting = listener.try_clone().unwrap();
    (std::thread::spawn(move || accepting.incoming().take(4).map(Result::unwrap).collect()), listener, addr)
}

#[test]
fn a_target_that_dies_while_answers_are_owed_is_not_waited_for() {
    let (accepting, listener, addr) = deaf();
    let child = spawn(&format!("pingpong -c 4 --rate 100 -t 60 {addr}"));
    let mut accepted = accepting.join().unwrap();
    // Something is owed on the first.
    accepted[0].read_exact(&mut [0; 64]).unwrap();
    drop((listener, accepted));
    let died = Instant::now();
    let (code, report) = outcome(&child.wait_with_output().unwrap());
    let why = report["incomplete"].as_str();
    assert_eq!((code, why), (Some(1), Some("the target closed every connection")), "{report:#}");
    assert!(died.elapsed() < Duration::from_secs(5), "{:?}", died.elapsed());
}

#[test]
fn who_only_floods_does_not_hide_that_the_target_died() {
    let (accepting, listener, addr) = deaf();
    let child = spawn(&format!("slow -c 4 -t 60 {addr}"));
    let mut accepted = accepting.join().unwrap();
    for stream in &mut accepted {
        stream.read_exact(&mut [0; 64]).unwrap();
    }
    drop((listener, accepted));
    let (code, report) = outcome(&child.wait_with_output().unwrap());
    let why = report["incomplete"].as_str();
    assert_eq!((code, why), (Some(1), Some("the target closed every connection")), "{report:#}");
    assert!(report["run"]["seconds"].as_f64() < Some(60.0), "{report:#}");
}

#[test]
fn a_storm_whose_target_is_gone_is_over() {
    let (accepting, listener, addr) = deaf();
    let child = spawn(&format!("storm -c 4 {addr}"));
    let mut accepted = accepting.join().unwrap();
    drop(listener);
    // All are reset, and none comes back.
    accepted.iter_mut().for_each(|stream| drop(stream.read(&mut [0; 1])));
    let began = Instant::now();
    let (code, report) = outcome(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{report:#}");
    assert!(report["incomplete"].as_str().unwrap().contains("takes no connections any more"), "{report:#}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn results_that_nobody_takes_are_no_crash() {
    let (_engine, addr) = serve(Target::Echo);
    let run = |json: &[&str], out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_megamux-load"));
        command.args(["pingpong", &addr, "-c", "2", "-t", "0.1", "-q"]).args(json);
        command.stdout(out).stderr(Stdio::piped()).spawn().unwrap()
    };
    // As in `| head`, when it has left.
    let mut child = run(&[], Stdio::piped());
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true));
    // No room left on the disk.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = run(&[], full.into()).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("megamux-load: cannot write to standard output: No space left"), "{said}");
    let output = run(&["--json", "/dev/full"], Stdio::piped()).wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(shown.starts_with("pingpong on "), "the results are shown at least: {shown}");
}

#[test]
fn a_target_that_greets_nobody_any_more_is_said_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let closing = std::thread::spawn(move || listener.incoming().take(4).for_each(drop));
    let (code, report) = run(&format!("pingpong -p telnet -c 4 -t 1 {addr}"));
    closing.join().unwrap();
    assert_eq!(code, Some(1), "{report:#}");
    assert!(report["incomplete"].as_str().unwrap().contains("closed 4 connections before it greeted"), "{report:#}");
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is() {
    let check = |arguments: &str, words: &[&str]| {
        let output = load(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    check("juggle 127.0.0.1:1", &["possible values", "fanout"]);
    check(
        "hold 127.0.0.1:1 -c 10000000 --shards 1 --keep-free 100000",
        &["descriptors:", "memory:", "--shards says 1"],
    );
    check("pingpong 127.0.0.1:1 --pin 5000", &["CPU 5000"]);
    let output = Command::new(env!("CARGO_BIN_EXE_megamux-load"))
        .args(["pingpong", "127.0.0.1:1", "--json", "/nowhere/results.json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "the results could not be kept");
}

#[test]
fn a_target_that_refuses_or_lies_is_said_to() {
    let check = |arguments: &str, expect: &str, error: &str| {
        let (code, report) = run(arguments);
        assert_eq!(code, Some(1), "{report:#}");
        assert!(report["incomplete"].as_str().unwrap().contains(expect), "{report:#}");
        assert!(report["errors"].to_string().contains(error), "{report:#}");
    };
    check("pingpong 127.0.0.1:1", "takes no connections", "Connection refused");
    check("pingpong unix:/nowhere", "takes no connections", "No such file");
    let (_engine, addr) = serve(Target::Liar);
    check(&format!("pingpong -t 5 {addr}"), "no answer", "other bytes came back");
}

#[test]
fn a_target_that_dies_leaves_partial_results() {
    let (engine, addr) = serve(Target::Echo);
    let child = spawn(&format!("pingpong -t 60 {addr}"));
    // It dies when a few thousand answers have gone out.
    while engine.stats().total().sends < 5_000 {
        std::thread::yield_now();
    }
    engine.handle().stop();
    engine.join().unwrap();
    let (code, report) = outcome(&child.wait_with_output().unwrap());
    assert_eq!(
        (code, report["complete"].as_bool(), report["incomplete"].as_str()),
        (Some(1), Some(false), Some("the target closed every connection")),
        "{report:#}"
    );
    assert!(report["run"]["done"].as_u64() > Some(1_000) && report["lost"] == 500, "{report:#}");
    assert!(Duration::from_secs_f64(report["run"]["seconds"].as_f64().unwrap()) < Duration::from_secs(60));
}
