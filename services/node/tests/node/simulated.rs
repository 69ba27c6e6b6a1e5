//! What takes long: the HTTP endpoint's and the PROXY header's deadlines, in the simulator's virtual time.

use std::time::{Duration, SystemTime};

use megamux::engine::sim::{Faults, PeerId, Script, Sim};
use megamux::http::{HttpHandler, IDLE_TIMEOUT, REQUEST_TIMEOUT, limited};
use megamux::{CloseReason, Config, Engine, Listen, NO_SERVICE, Time};

const ADDR: &str = "10.0.0.1:80";
const SECOND: Duration = Duration::from_secs(1);
const REQUEST: &str = "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
const HEALTHY: &str = "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                       content-type: text/plain; charset=utf-8\r\ncontent-length: 3\r\n\r\nok\n";

/// An engine with the endpoint alone, and one peer.
fn world(seed: u64, script: Script) -> (Sim, PeerId) {
    let mut config = Config::default();
    (config.shards, config.buffers, config.buffer_size) = (1, 8, 4096);
    config.connections_per_shard = 16;
    let mut builder = Engine::builder(config).unwrap();
    let listen = limited(Listen::tcp(ADDR), 1);
    let handler = |_| HttpHandler::new(|| SystemTime::UNIX_EPOCH);
    builder.listen(listen, &NO_SERVICE, handler).unwrap();
    let mut sim = Sim::new(seed, Faults::gentle(seed), builder).unwrap();
    let peer = sim.connect(ADDR, script);
    (sim, peer)
}

fn elapsed(sim: &Sim) -> Duration {
    sim.now().since(Time::ZERO)
}

fn closes(sim: &Sim, why: CloseReason) -> u64 {
    sim.stats().total().closes.of(why)
}

#[test]
fn answers_come_in_order_whatever_the_network_does() {
    for seed in 0..40 {
        let script = Script::new().send(REQUEST.repeat(20)).finish().await_end();
        let (mut sim, _) = world(seed, script.expect(HEALTHY.repeat(20)));
        sim.quiesce(120 * SECOND);
        sim.finish(SECOND);
    }
}

#[test]
fn a_request_that_never_ends_is_answered_408() {
    let trickle = "GET /healthz".bytes().fold(Script::new(), |script, byte| script.send([byte]).wait(2 * SECOND));
    for script in [Script::new().send("GET /hea"), trickle] {
        for seed in 0..10 {
            let (mut sim, peer) = world(seed, script.clone().await_end());
            assert!(sim.run_until(|sim| closes(sim, CloseReason::ProtocolError) == 1, 60 * SECOND));
            let took = elapsed(&sim);
            assert!((REQUEST_TIMEOUT..REQUEST_TIMEOUT + 2 * SECOND).contains(&took), "{took:?}");
            assert!(sim.run_until(Sim::peers_over, 60 * SECOND));
            let answer = String::from_utf8(sim.received(peer)).unwrap();
            assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
            sim.finish(SECOND);
        }
    }
}

#[test]
fn a_quiet_connection_lives_between_requests_until_it_was_quiet_for_too_long() {
    for seed in 0..10 {
        let pause = REQUEST_TIMEOUT + 5 * SECOND;
        let (front, back) = REQUEST.split_at(5);
        let script = Script::new().send(front).wait(SECOND).send(back).wait(pause).send(REQUEST).await_end();
        let (mut sim, _) = world(seed, script.expect(HEALTHY.repeat(2)));
        assert!(sim.run_until(Sim::peers_over, 120 * SECOND));
        assert!(elapsed(&sim) >= pause + IDLE_TIMEOUT, "{:?}", elapsed(&sim));
        assert_eq!(closes(&sim, CloseReason::IdleTimeout), 1);
        sim.finish(SECOND);
    }
}

#[cfg(feature = "proxy")]
mod behind_proxy {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use megamux::proxy::{HEADER_TIMEOUT, behind_proxy};
    use megamux::{ConnInfo, Cx, Handler, NoService, RecvBuf};

    use super::*;

    /// Notes who connected.
    struct Guests(Arc<Mutex<Vec<Option<SocketAddr>>>>);

    impl Handler for Guests {
        type Service = NoService;
        type Conn = ();

        fn on_open(&mut self, _: &mut Cx<'_, NoService>, info: &ConnInfo) -> Result<(), CloseReason> {
            self.0.lock().unwrap().push(info.peer);
            Ok(())
        }

        fn on_data(
            &mut self,
            cx: &mut Cx<'_, NoService>,
            _: &mut (),
            data: &mut RecvBuf<'_>,
        ) -> Result<(), CloseReason> {
            cx.send_frame(data.take_all());
            Ok(())
        }
    }

    fn guests(seed: u64, script: Script) -> (Sim, Arc<Mutex<Vec<Option<SocketAddr>>>>) {
        let mut config = Config::default();
        (config.shards, config.buffers, config.buffer_size) = (1, 8, 4096);
        config.connections_per_shard = 16;
        let mut builder = Engine::builder(config).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let guests = Arc::clone(&seen);
        let listen = behind_proxy(Listen::tcp(ADDR));
        builder.listen(listen, &NO_SERVICE, move |_| Guests(Arc::clone(&guests))).unwrap();
        let mut sim = Sim::new(seed, Faults::gentle(seed), builder).unwrap();
        sim.connect(ADDR, script);
        (sim, seen)
    }

    #[test]
    fn the_handler_sees_the_clients_address() {
        for seed in 0..20 {
            let header = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n";
            let script = Script::new().send(header).send("hello").finish().await_end().expect("hello");
            let (mut sim, seen) = guests(seed, script);
            sim.quiesce(60 * SECOND);
            assert_eq!(*seen.lock().unwrap(), [Some("192.0.2.1:1000".parse().unwrap())]);
            sim.finish(SECOND);
        }
    }

    #[test]
    fn a_header_that_never_ends_keeps_the_connection_from_its_handler() {
        for seed in 0..20 {
            let script = Script::new().send("PROXY TCP4 192.0.2.1").await_end().expect("");
            let (mut sim, seen) = guests(seed, script);
            sim.quiesce(60 * SECOND);
            assert!(elapsed(&sim) >= HEADER_TIMEOUT);
            assert_eq!(closes(&sim, CloseReason::HandshakeTimeout), 1);
            assert!(seen.lock().unwrap().is_empty());
            sim.finish(SECOND);
        }
    }
}
