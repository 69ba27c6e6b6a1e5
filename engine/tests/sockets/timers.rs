//! A connection's timers: set, moved, taken back, bounded.

use std::sync::mpsc;
use std::time::Duration;

use megamux_engine::{Listen, NO_SERVICE, TimerKey};

use crate::harness::{Client, On, addr, builder, drain, next, script};

const MS: Duration = Duration::from_millis(1);

#[test]
fn timers_fire_once_in_order_of_their_latest_deadlines_unless_taken_back() {
    let (fired, fires) = mpsc::channel();
    let mut builder = builder(1);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| {
            let fired = fired.clone();
            script(move |cx, on| {
                match on {
                    On::Open(_) => {
                        cx.set_timer(TimerKey(1), 10 * MS);
                        cx.set_timer(TimerKey(2), 20 * MS);
                        cx.set_timer(TimerKey(3), 30 * MS);
                        cx.set_timer(TimerKey(4), 40 * MS);
                        cx.set_timer(TimerKey(1), 35 * MS);
                        assert!(cx.cancel_timer(TimerKey(2)));
                        assert!(!cx.cancel_timer(TimerKey(2)), "it is set no more");
                        assert!(!cx.cancel_timer(TimerKey(5)), "it never was");
                    }
                    On::Timer(key) => fired.send(key).unwrap(),
                    on => return on.echo(cx),
                }
                Ok(())
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let _client = Client::connect(addr(&engine));
    let order: Vec<_> = (0..3).map(|_| next(&fires)).collect();
    assert_eq!(order, [TimerKey(3), TimerKey(1), TimerKey(4)]);
    drain(engine);
    assert_eq!(fires.try_iter().count(), 0, "nothing fired twice, or after it was taken back");
}

#[test]
fn a_timer_does_not_outlive_its_connection_and_there_are_sixteen() {
    let (told, tells) = mpsc::channel();
    let mut builder = builder(1);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| {
            let told = told.clone();
            script(move |cx, on| {
                match on {
                    On::Open(_) => {
                        let set = (0..20).filter(|key| cx.set_timer(TimerKey(*key), 50 * MS)).count();
                        told.send(set).unwrap();
                    }
                    On::Timer(_) => told.send(usize::MAX).unwrap(),
                    on => return on.echo(cx),
                }
                Ok(())
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    drop(Client::connect(addr(&engine)));
    assert_eq!(next(&tells), 16);
    // The second connection's timers fire, sixteen of them; the first's would have fired before.
    let client = Client::connect(addr(&engine));
    assert_eq!(next(&tells), 16);
    for _ in 0..16 {
        assert_eq!(next(&tells), usize::MAX);
    }
    drop(client);
    drain(engine);
    assert_eq!(tells.try_iter().count(), 0);
}
