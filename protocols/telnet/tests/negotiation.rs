//! Options between two ends that keep the rules, and against one that does not.

mod peer;

use megamux_telnet::{OptionSet, RequestError, Side, Support, Telnet, TelnetOption};
use peer::{Peer, Seeded};
use std::collections::VecDeque;

const ALL: &[TelnetOption] = &TelnetOption::ALL;
const EVERYTHING: Support = Support { local: OptionSet::of(ALL), remote: OptionSet::of(ALL) };

/// Two ends joined by two queues of bytes.
struct Pair {
    ends: [Telnet; 2],
    towards: [VecDeque<u8>; 2],
    said: usize,
}

impl Pair {
    fn new(left: Support, right: Support) -> Self {
        Self { ends: [Telnet::new(left), Telnet::new(right)], towards: Default::default(), said: 0 }
    }

    fn request(&mut self, end: usize, side: Side, option: TelnetOption, on: bool) -> Result<(), RequestError> {
        let mut out = Vec::new();
        let asked = if on {
            self.ends[end].turn_on(side, option, &mut out)
        } else {
            self.ends[end].turn_off(side, option, &mut out)
        };
        self.said += out.len();
        self.towards[1 - end].extend(out);
        asked
    }

    /// Lets one byte arrive at `end`. Says whether there was one.
    fn deliver(&mut self, end: usize) -> bool {
        let Some(byte) = self.towards[end].pop_front() else {
            return false;
        };
        let (read, mut out) = ([byte], Vec::new());
        let mut input = &read[..];
        while self.ends[end].next_event(&mut input, &mut out).unwrap().is_some() {}
        assert!(input.is_empty());
        self.said += out.len();
        self.towards[1 - end].extend(out);
        true
    }

    fn settle(&mut self) {
        let mut steps = 0;
        while self.deliver(0) | self.deliver(1) {
            steps += 1;
            assert!(steps < 10_000, "the two ends keep each other talking");
        }
    }

    fn assert_agreed(&self) {
        for &option in ALL {
            let [left, right] = &self.ends;
            assert_eq!(left.is_on(Side::Local, option), right.is_on(Side::Remote, option), "{option:?}");
            assert_eq!(left.is_on(Side::Remote, option), right.is_on(Side::Local, option), "{option:?}");
        }
    }
}

#[test]
fn both_ends_asking_at_once_agree_and_fall_silent() {
    let mut pair = Pair::new(EVERYTHING, EVERYTHING);
    pair.request(0, Side::Local, TelnetOption::Echo, true).unwrap();
    pair.request(1, Side::Remote, TelnetOption::Echo, true).unwrap();
    pair.settle();
    pair.assert_agreed();
    assert!(pair.ends[0].is_on(Side::Local, TelnetOption::Echo));
    assert_eq!(pair.said, 6, "each said it once, and took the other's for the answer");
}

#[test]
fn a_refusal_is_obeyed() {
    let mut pair = Pair::new(EVERYTHING, Support::NONE);
    pair.request(0, Side::Remote, TelnetOption::WindowSize, true).unwrap();
    pair.settle();
    pair.assert_agreed();
    assert!(!pair.ends[0].is_on(Side::Remote, TelnetOption::WindowSize));
    assert_eq!(pair.said, 6);
}

#[test]
fn minds_changed_before_the_answer_are_queued() {
    let mut pair = Pair::new(EVERYTHING, EVERYTHING);
    let echo = |pair: &mut Pair, on| pair.request(0, Side::Local, TelnetOption::Echo, on);
    assert_eq!(echo(&mut pair, false), Err(RequestError::AlreadySo));
    assert_eq!(echo(&mut pair, true), Ok(()));
    assert_eq!(echo(&mut pair, true), Err(RequestError::AlreadyAsked));
    assert_eq!(echo(&mut pair, false), Ok(()));
    assert_eq!(echo(&mut pair, false), Err(RequestError::AlreadyAsked));
    assert_eq!(pair.said, 3, "the second request waits for the answer to the first");
    pair.settle();
    assert!(!pair.ends[0].is_on(Side::Local, TelnetOption::Echo));

    assert_eq!(echo(&mut pair, true), Ok(()));
    assert_eq!(echo(&mut pair, false), Ok(()));
    assert_eq!(echo(&mut pair, true), Ok(()));
    pair.settle();
    assert!(pair.ends[0].is_on(Side::Local, TelnetOption::Echo));
    assert_eq!(echo(&mut pair, true), Err(RequestError::AlreadySo));

    assert_eq!(echo(&mut pair, false), Ok(()));
    assert!(!pair.ends[0].is_on(Side::Local, TelnetOption::Echo), "off the moment we say so");
    assert_eq!(echo(&mut pair, true), Ok(()));
    assert_eq!(echo(&mut pair, true), Err(RequestError::AlreadyAsked));
    pair.settle();
    pair.assert_agreed();
    assert!(pair.ends[0].is_on(Side::Local, TelnetOption::Echo));
}

#[test]
fn any_requests_at_any_time_end_in_agreement() {
    for seed in 0..2_000 {
        let mut random = Seeded::new(seed);
        let supports = [EVERYTHING, Support::FULL_SERVER, Support::CLIENT, Support::SERVER, Support::NONE];
        let mut pair = Pair::new(supports[random.below(5)], supports[random.below(5)]);
        let mut requests = 0;
        for _ in 0..random.below(80) {
            if random.below(3) == 0 {
                let side = [Side::Local, Side::Remote][random.below(2)];
                // A few options, so that requests meet.
                let option = ALL[(seed as usize + random.below(3)) % ALL.len()];
                let asked = pair.request(random.below(2), side, option, random.below(2) == 0);
                requests += usize::from(asked.is_ok());
            } else {
                pair.deliver(random.below(2));
            }
        }
        pair.settle();
        pair.assert_agreed();
        assert!(pair.said <= requests * 6, "seed {seed}: {} bytes for {requests} requests", pair.said);
    }
}

#[test]
fn repeated_requests_get_one_answer_each_at_most() {
    let mut peer = Peer::new(Support::SERVER);
    peer.feed(&b"\xff\xfb\x1f".repeat(1_000));
    assert_eq!(peer.answers, b"\xff\xfd\x1f", "agreed once, then it already is so");

    let mut peer = Peer::new(Support::SERVER);
    peer.feed(&b"\xff\xfd\x63".repeat(1_000));
    assert_eq!(peer.answers, b"\xff\xfc\x63".repeat(1_000), "refused each time, and the feed checked the bound");

    let mut peer = Peer::new(Support::SERVER);
    peer.feed(&b"\xff\xfe\x63\xff\xfc\x63".repeat(1_000));
    assert_eq!(peer.answers, b"", "off already");

    let mut peer = Peer::new(Support::SERVER);
    peer.feed(&b"\xff\xfd\x01\xff\xfe\x01".repeat(1_000));
    assert_eq!(peer.answers, b"\xff\xfb\x01\xff\xfc\x01".repeat(1_000), "each is news");
}

#[test]
fn a_peer_that_starts_when_told_to_stop_gets_no_further_word() {
    let mut peer = Peer::new(Support::SERVER);
    peer.feed(b"\xff\xfb\x1f");
    peer.answers.clear();
    peer.telnet.turn_off(Side::Remote, TelnetOption::WindowSize, &mut peer.answers).unwrap();
    assert_eq!(peer.answers, b"\xff\xfe\x1f");
    peer.feed(b"\xff\xfb\x1f");
    assert_eq!(peer.answers, b"\xff\xfe\x1f");
    assert!(peer.told().ends_with("off:Remote:WindowSize"));

    peer.feed(b"\xff\xfb\x1f");
    peer.telnet.turn_off(Side::Remote, TelnetOption::WindowSize, &mut peer.answers).unwrap();
    peer.telnet.turn_on(Side::Remote, TelnetOption::WindowSize, &mut peer.answers).unwrap();
    let said = peer.answers.len();
    peer.feed(b"\xff\xfb\x1f");
    assert_eq!(peer.answers.len(), said);
    assert!(peer.telnet.is_on(Side::Remote, TelnetOption::WindowSize), "it is on, as was last wanted");
}
