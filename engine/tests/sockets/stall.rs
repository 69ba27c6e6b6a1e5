//! A service that stands still: its shards go on, whatever it holds of what they received.

use std::sync::{Arc, Mutex};

use megamux_engine::{
    CloseReason, ConnId, ConnInfo, Cx, Engine, Frame, Handler, Input, Listen, NO_SERVICE, Placement, RecvBuf, Scope,
    Service, ServiceCx,
};

use crate::harness::{Client, addr_of, config, drain, echo, eventually};

/// Sends lines back, as long as nobody holds its lock.
struct Answers(Arc<Mutex<()>>);

impl Service for Answers {
    type In = Frame;
    type Out = Frame;
    const SCOPE: Scope = Scope::Connection;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<Frame>) {
        if let Input::Frame(line) = input {
            drop(self.0.lock());
            cx.send(conn, line);
        }
    }
}

struct Lines;

impl Handler for Lines {
    type Service = Answers;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, Answers>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, Answers>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let Some(permit) = cx.try_reserve() else { break };
            permit.send(data.take(end + 1));
        }
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, Answers>, (): &mut (), line: Frame) -> Result<(), CloseReason> {
        cx.send_frame(line);
        Ok(())
    }
}

#[test]
fn a_service_that_stands_still_leaves_its_shard_buffers() {
    check_buffers_are_left("");
}

#[test]
fn also_where_each_receive_takes_a_buffer() {
    check_buffers_are_left("-inc");
}

#[track_caller]
fn check_buffers_are_left(mask: &str) {
    const BUFFER: usize = 4096;
    const LINES: usize = 64;
    let mut config = config(1);
    config.caps_mask = mask.into();
    (config.buffers, config.buffer_size) = (16, BUFFER as u32);
    let mut builder = Engine::builder(config).unwrap();
    let lock = Arc::new(Mutex::new(()));
    let service = builder.service("answers", Placement::Thread, {
        let lock = Arc::clone(&lock);
        move || Answers(Arc::clone(&lock))
    });
    let lines = builder.listen(Listen::tcp("127.0.0.1:0"), &service.unwrap(), |_| Lines).unwrap();
    let echoes = builder.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| echo()).unwrap();
    let engine = builder.start().unwrap();

    let held = lock.lock().unwrap();
    let mut other = Client::connect(addr_of(&engine, echoes));
    let mut clients: Vec<_> = (0..LINES).map(|_| Client::connect(addr_of(&engine, lines))).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(format!("line {number}\n"));
        // Each line is in another buffer than the one before, and no buffer comes back.
        let taken = number as u64 + 1;
        eventually("the line is taken", || engine.stats().total().frames_in == taken);
        let message = vec![number as u8; BUFFER];
        other.send(&message);
        assert_eq!(other.exactly(BUFFER), message);
    }
    drop(held);
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), format!("line {number}"));
    }
    drop((clients, other));
    eventually("every buffer is back", || engine.stats().total().held_frame_bytes == 0);
    drain(engine);
}
