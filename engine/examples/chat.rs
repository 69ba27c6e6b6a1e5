//! Chat: rooms in a service on its own thread, connections on many shards. Try `nc`; `/join NAME` changes rooms.
//! `cargo run --release --example chat -- 127.0.0.1:7000 --shards 2`

use std::collections::{BTreeSet, HashMap};

use megamux_engine::{
    CloseReason, Config, ConnId, ConnInfo, Cx, Engine, Frame, Handler, Input, Listen, Placement, RecvBuf, Scope,
    Service, ServiceCx, StartError,
};

type Outcome = Result<(), CloseReason>;

struct Lines;

impl Handler for Lines {
    type Service = Rooms;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, Rooms>, _: &ConnInfo) -> Outcome {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, Rooms>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            // Without a permit the line stays unread, and comes again when the rooms have caught up.
            let Some(permit) = cx.try_reserve() else { break };
            permit.send(data.take(end + 1));
        }
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, Rooms>, (): &mut (), line: Frame) -> Outcome {
        cx.send_frame(line);
        Ok(())
    }
}

#[derive(Default)]
struct Rooms {
    room_of: HashMap<ConnId, Vec<u8>>,
    members: BTreeSet<(Vec<u8>, ConnId)>,
}

impl Service for Rooms {
    type In = Frame;
    type Out = Frame;
    const SCOPE: Scope = Scope::Node;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<Frame>) {
        let room = match &input {
            Input::Frame(line) => match line.strip_prefix(b"/join ") {
                Some(name) => name.trim_ascii(),
                None => return self.say(cx, conn, line),
            },
            _ => b"lobby",
        };
        if let Some(room) = self.room_of.remove(&conn) {
            self.members.remove(&(room, conn));
        }
        if !matches!(input, Input::Close(_)) {
            self.room_of.insert(conn, room.to_vec());
            self.members.insert((room.to_vec(), conn));
        }
    }
}

impl Rooms {
    fn say(&self, cx: &mut ServiceCx<'_, Self>, speaker: ConnId, line: &[u8]) {
        // Encoded once: the clones share its memory, whichever shards they go to.
        let said = Frame::from([format!("{speaker}: ").as_bytes(), line].concat());
        let in_room = |id| (self.room_of[&speaker].clone(), ConnId::from_bits(id));
        for (_, member) in self.members.range(in_room(0)..=in_room(u64::MAX)) {
            cx.send(*member, said.clone());
        }
    }
}

pub fn start(addr: &str, shards: usize) -> Result<Engine, StartError> {
    let mut config = Config::default();
    config.shards = shards;
    let mut builder = Engine::builder(config)?;
    let rooms = builder.service("rooms", Placement::Thread, Rooms::default)?;
    builder.listen(Listen::tcp(addr).max_frame(1024), &rooms, |_shard| Lines)?;
    builder.start()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let addr = args.get(1).map_or("127.0.0.1:7000", String::as_str);
    let shards = args.iter().skip_while(|arg| *arg != "--shards").nth(1);
    let engine = start(addr, shards.map_or(Ok(0), |count| count.parse())?)?;
    let (_, bound) = &engine.local_addrs()[0];
    println!("listening on {bound}");
    Ok(engine.join()?)
}
