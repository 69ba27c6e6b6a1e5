//! Two engines in one process share nothing.

use megamux_engine::{Engine, Listen, NO_SERVICE};

use crate::harness::{Client, addr, builder, drain, echo};

fn echoing() -> Engine {
    let mut builder = builder(2);
    builder.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| echo()).unwrap();
    builder.start().unwrap()
}

#[test]
fn one_engine_ends_and_the_other_goes_on() {
    let (one, other) = (echoing(), echoing());
    assert_ne!(addr(&one), addr(&other));
    let mut clients = [Client::connect(addr(&one)), Client::connect(addr(&other))];
    for client in &mut clients {
        client.send("hello\n");
        assert_eq!(client.line(), "hello");
    }
    assert_eq!((one.stats().total().accepts, other.stats().total().accepts), (1, 1));
    // Dropping an engine stops it.
    drop(one);
    clients[0].expect_end();
    clients[1].send("still there?\n");
    assert_eq!(clients[1].line(), "still there?");
    drain(other);
}
