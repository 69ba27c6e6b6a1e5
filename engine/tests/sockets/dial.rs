//! Connecting out: every dial ends in one event, with its tag.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use megamux_engine::net::Addr;
use megamux_engine::{
    CloseReason, ConnId, ConnInfo, Cx, Dialer, EndpointCx, EndpointId, Engine, Handler, Input, NO_SERVICE, NoService,
    Origin, Placement, RecvBuf, Scope, Service, ServiceCx,
};

use crate::harness::{Client, builder, config, drain, eventually, next, open_connections};

#[derive(Debug)]
enum Dialled {
    Open(ConnInfo),
    Failed(u64, Addr, io::Error),
}

/// Echoes, and tells how its dials went.
struct Caller(Sender<Dialled>);

impl Handler for Caller {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, info: &ConnInfo) -> Result<(), CloseReason> {
        self.0.send(Dialled::Open(*info)).map_err(|_| CloseReason::Refused)
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        cx.send_frame(data.take_all());
        Ok(())
    }

    fn on_connect_failed(&mut self, _: &mut EndpointCx<'_, NoService>, tag: u64, to: &Addr, error: io::Error) {
        let _ = self.0.send(Dialled::Failed(tag, to.clone(), error));
    }
}

fn caller(mut builder: megamux_engine::Builder) -> (Engine, EndpointId, Receiver<Dialled>) {
    let (dialled, dials) = mpsc::channel();
    let endpoint = builder.dialer(Dialer::new(), &NO_SERVICE, move |_| Caller(dialled.clone()));
    (builder.start().unwrap(), endpoint, dials)
}

#[test]
fn a_dialled_connection_opens_with_its_tag_and_works() {
    let (engine, endpoint, dials) = caller(builder(2));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    for tag in 0..4 {
        engine.handle().dial(endpoint, Addr::Tcp(to), tag).unwrap();
        let mut served = Client::over(listener.accept().unwrap().0);
        match next(&dials) {
            Dialled::Open(info) => {
                assert_eq!((info.origin, info.peer), (Origin::Dialed(tag), Some(to)))
            }
            other => panic!("{other:?}"),
        }
        served.send("hello\n");
        assert_eq!(served.line(), "hello");
    }
    drain(engine);
}

#[test]
fn a_dial_that_fails_is_an_event_with_the_kernels_error() {
    let (engine, endpoint, dials) = caller(builder(1));
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = Addr::Unix("/nonexistent/megamux.sock".into());
    let cases = [(Addr::Tcp(unused), ErrorKind::ConnectionRefused), (nowhere, ErrorKind::NotFound)];
    for (tag, (to, kind)) in (0..).zip(cases) {
        engine.handle().dial(endpoint, to.clone(), tag).unwrap();
        match next(&dials) {
            Dialled::Failed(failed, at, error) => {
                assert_eq!((failed, at, error.kind()), (tag, to, kind))
            }
            other => panic!("{other:?}"),
        }
    }
    let total = engine.stats().total();
    assert_eq!((total.dials_started, total.dials_failed), (2, 2));
    eventually("nothing is left of them", || open_connections(engine.handle()) == 0);
    drain(engine);
}

#[test]
fn dials_to_one_address_are_not_held_to_the_cap_per_source() {
    let mut config = config(1);
    config.max_per_source = 1;
    let (engine, endpoint, dials) = caller(Engine::builder(config).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for tag in 0..3 {
        let to = Addr::Tcp(listener.local_addr().unwrap());
        engine.handle().dial(endpoint, to, tag).unwrap();
        assert!(matches!(next(&dials), Dialled::Open(_)), "the cap is on who connects to us");
    }
    drain(engine);
}

/// Closes what it dialled when told to, so that its service hears more than it can take; counts how dials went.
struct Hasty(Arc<Dials>);

#[derive(Default)]
struct Dials {
    opened: AtomicU64,
    failed: AtomicU64,
}

/// Takes nothing while it is held.
struct Held(Receiver<()>);

impl Service for Held {
    type In = ();
    type Out = ();
    const SCOPE: Scope = Scope::Connection;

    fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, _: ConnId, _: Input<()>) {
        let _ = self.0.recv();
    }
}

impl Handler for Hasty {
    type Service = Held;
    type Conn = ();

    fn on_open(&mut self, cx: &mut Cx<'_, Held>, _: &ConnInfo) -> Result<(), CloseReason> {
        self.0.opened.fetch_add(1, Relaxed);
        cx.close(CloseReason::Stopped);
        Ok(())
    }

    fn on_data(&mut self, _: &mut Cx<'_, Held>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        data.take_all();
        Ok(())
    }

    fn on_connect_failed(&mut self, _: &mut EndpointCx<'_, Held>, _: u64, _: &Addr, error: io::Error) {
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
        self.0.failed.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_dial_that_its_service_is_too_far_behind_for_fails() {
    let mut builder = builder(1);
    let dials = Arc::new(Dials::default());
    let (release, held) = mpsc::channel();
    let held = Mutex::new(Some(held));
    let make = move || Held(held.lock().unwrap().take().expect("made once"));
    let service = builder.service("held", Placement::Thread, make).unwrap();
    let counts = Arc::clone(&dials);
    let endpoint = builder.dialer(Dialer::new(), &service, move |_| Hasty(Arc::clone(&counts)));
    let engine = builder.start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let ended = || dials.opened.load(Relaxed) + dials.failed.load(Relaxed);
    let mut tag = 0;
    while dials.failed.load(Relaxed) < 10 {
        engine.handle().dial(endpoint, Addr::Tcp(to), tag).unwrap();
        drop(listener.accept().unwrap());
        tag += 1;
        eventually("the dial opens or fails", || ended() == tag);
    }
    drop(release);
    drain(engine);
}
