//! Datagrams: each that arrives is answered to its sender, whole; what the network loses is lost.

use std::net::SocketAddr;

use megamux_engine::sim::Faults;
use megamux_engine::{CloseReason, ConnInfo, Cx, Datagram, EndpointCx, Handler, NO_SERVICE, NoService, RecvBuf};
use megamux_sim_tests::{SECOND, builder, config, for_seeds, simulate};

struct Answer;

impl Handler for Answer {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
        Err(CloseReason::Refused)
    }

    fn on_data(&mut self, _: &mut Cx<'_, NoService>, (): &mut (), _: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_datagram(&mut self, cx: &mut EndpointCx<'_, NoService>, from: SocketAddr, bytes: &[u8]) {
        cx.send_datagram(from, bytes);
    }
}

fn answered(seed: u64, faults: Faults) -> usize {
    let addr = SocketAddr::from(([10, 0, 0, 1], 53));
    let mut builder = builder(config(2));
    builder.datagram(Datagram::udp(addr.to_string()), &NO_SERVICE, |_| Answer).unwrap();
    let mut sim = simulate(seed, faults, builder);
    let clients: Vec<_> =
        (1..=4).map(|host| sim.datagram_socket(SocketAddr::from(([192, 0, 2, host], 5353)))).collect();
    for number in 0..10u8 {
        for (at, client) in clients.iter().enumerate() {
            sim.send_datagram(*client, addr, &[at as u8, number]);
        }
        sim.run_for(SECOND / 10);
    }
    sim.run_for(SECOND);
    let mut answers = 0;
    for (at, client) in clients.iter().enumerate() {
        let mut numbers: Vec<u8> = sim
            .datagrams(*client)
            .iter()
            .map(|(from, bytes)| {
                assert_eq!((*from, bytes.len(), bytes[0]), (addr, 2, at as u8));
                bytes[1]
            })
            .collect();
        answers += numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), sim.datagrams(*client).len(), "an answer came twice");
    }
    sim.finish(SECOND);
    answers
}

#[test]
fn every_datagram_that_arrives_is_answered_to_its_sender() {
    for_seeds(60, |seed| assert_eq!(answered(seed, Faults::gentle(seed)), 40));
}

#[test]
fn lost_datagrams_are_lost_and_no_more() {
    for_seeds(60, |seed| assert!(answered(seed, Faults::rough(seed)) <= 40));
}
