//! Fan-out across shards, with the example an embedder learns from.

use crate::harness::{Client, addr, drain};

#[path = "../../examples/chat.rs"]
#[allow(dead_code)]
mod example;

/// Members of one room: each knows that it is in, and has read what was said so far.
fn members(addr: std::net::SocketAddr, count: usize) -> Vec<Client> {
    let mut members: Vec<Client> = (0..count).map(|_| Client::connect(addr)).collect();
    for (at, member) in members.iter_mut().enumerate() {
        member.send(format!("in {at}\n"));
        while !member.line().ends_with(&format!("in {at}")) {}
    }
    let last = format!("in {}", count - 1);
    for member in &mut members[..count - 1] {
        while !member.line().ends_with(&last) {}
    }
    members
}

#[test]
fn every_member_receives_every_line_in_one_order() {
    const MEMBERS: usize = 8;
    const LINES: usize = 250;
    let engine = example::start("127.0.0.1:0", 2).unwrap();
    let members = members(addr(&engine), MEMBERS);
    let heard: Vec<Vec<String>> = std::thread::scope(|scope| {
        let talk = |(at, mut member): (usize, Client)| {
            scope.spawn(move || {
                for number in 0..LINES {
                    member.send(format!("{at} {number}\n"));
                }
                (0..MEMBERS * LINES).map(|_| member.line()).collect()
            })
        };
        let talks: Vec<_> = members.into_iter().enumerate().map(talk).collect();
        talks.into_iter().map(|talk| talk.join().unwrap()).collect()
    });
    for lines in &heard {
        assert_eq!(lines, &heard[0], "all members hear the same");
    }
    for speaker in 0..MEMBERS {
        let of_speaker = |line: &&str| line.starts_with(&format!("{speaker} "));
        let said = heard[0].iter().filter_map(|line| line.split_once(": ").map(|(_, said)| said));
        let expect = (0..LINES).map(|number| format!("{speaker} {number}"));
        assert!(said.filter(of_speaker).eq(expect), "{speaker}'s lines are in order");
    }
    drain(engine);
}

#[test]
fn rooms_do_not_hear_each_other() {
    let engine = example::start("127.0.0.1:0", 2).unwrap();
    let mut members = members(addr(&engine), 3);
    members[0].send("/join den\nanybody?\n");
    assert!(members[0].line().ends_with(": anybody?"));
    members[1].send("/join den\nhere\n");
    assert!(members[0].line().ends_with(": here"));
    assert!(members[1].line().ends_with(": here"));
    members[2].send("alone\n");
    assert!(members[2].line().ends_with(": alone"));
    drain(engine);
}
