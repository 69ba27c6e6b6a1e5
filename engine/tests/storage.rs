//! A service's files on a real engine: what was synced is there for the next engine, and a directory has one owner.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use megamux_engine::{
    Config, ConnId, Engine, FileId, Input, NotSubmitted, Opening, Placement, Scope, Service, ServiceCx, ShardId,
    StartError, StorageError, StorageKey, Stored,
};

const OPEN: StorageKey = StorageKey(1);
const READ: StorageKey = StorageKey(2);
const APPEND: StorageKey = StorageKey(3);
const SYNC: StorageKey = StorageKey(4);

/// Opens a file, says what it held, adds a line and says when that is durable. Adds one more when the engine drains.
struct Diary {
    file: Option<FileId>,
    says: mpsc::Sender<String>,
}

impl Service for Diary {
    type In = ();
    type Out = ();
    const SCOPE: Scope = Scope::Node;

    fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, _: ConnId, _: Input<()>) {}

    fn on_start(&mut self, cx: &mut ServiceCx<'_, Self>) {
        cx.storage().open(OPEN, "diary", Opening::OrCreate).unwrap();
    }

    fn on_stored(&mut self, cx: &mut ServiceCx<'_, Self>, key: StorageKey, result: Result<Stored, StorageError>) {
        match (key, result.unwrap()) {
            (OPEN, Stored::Opened { file, len }) => {
                self.file = Some(file);
                cx.storage().read(READ, file, 0, len as usize).unwrap();
                cx.storage().append(APPEND, file, "a day\n").unwrap();
                cx.storage().sync(SYNC, file).unwrap();
            }
            (READ, Stored::Read(bytes)) => self.says.send(String::from_utf8_lossy(&bytes).into()).unwrap(),
            (APPEND, Stored::Appended { .. }) => {}
            (SYNC, Stored::Synced) => self.says.send("durable".into()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn on_drain(&mut self, cx: &mut ServiceCx<'_, Self>) {
        if let Some(file) = self.file {
            cx.storage().append(APPEND, file, "the end\n").unwrap();
            cx.storage().sync(SYNC, file).unwrap();
        }
    }
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("megamux-diary-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn start(dir: &PathBuf, placement: Placement) -> Result<(Engine, mpsc::Receiver<String>), StartError> {
    let mut config = Config::default();
    config.shards = 2;
    config.connections_per_shard = 16;
    let mut builder = Engine::builder(config)?;
    let (says, heard) = mpsc::channel();
    let diary = builder.service("diary", placement, move || Diary { file: None, says: says.clone() })?;
    builder.storage(&diary, dir)?;
    Ok((builder.start()?, heard))
}

fn next(heard: &mpsc::Receiver<String>) -> String {
    heard.recv_timeout(Duration::from_secs(10)).expect("the service says something")
}

#[test]
fn what_was_synced_is_there_for_the_next_engine_and_a_drain_writes_to_its_end() {
    for placement in [Placement::Thread, Placement::Shard(ShardId(1))] {
        let dir = scratch(&format!("{placement:?}").replace(|c: char| !c.is_alphanumeric(), ""));
        let (engine, heard) = start(&dir, placement).unwrap();
        assert_eq!(next(&heard), "");
        assert_eq!(next(&heard), "durable");
        engine.drain(Duration::from_secs(5));
        engine.join().unwrap();
        assert_eq!(next(&heard), "durable", "the drain's own line was reported before the engine ended");
        let (engine, heard) = start(&dir, placement).unwrap();
        assert_eq!(next(&heard), "a day\nthe end\n");
        drop(engine);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_directory_has_one_engine() {
    let dir = scratch("one");
    let (engine, heard) = start(&dir, Placement::Thread).unwrap();
    assert_eq!(next(&heard), "");
    let second = start(&dir, Placement::Thread).map(|_| ()).unwrap_err();
    assert!(matches!(second, StartError::Storage { .. }), "{second}");
    drop(engine);
    drop(start(&dir, Placement::Thread).unwrap());
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Tells what a service without a directory is told.
struct Homeless(mpsc::Sender<NotSubmitted>);

impl Service for Homeless {
    type In = ();
    type Out = ();
    const SCOPE: Scope = Scope::Connection;

    fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, _: ConnId, _: Input<()>) {}

    fn on_start(&mut self, cx: &mut ServiceCx<'_, Self>) {
        self.0.send(cx.storage().list(OPEN).unwrap_err()).unwrap();
    }
}

#[test]
fn an_instance_per_shard_has_no_directory() {
    let mut config = Config::default();
    config.shards = 2;
    config.connections_per_shard = 16;
    let mut builder = Engine::builder(config).unwrap();
    let (tells, told) = mpsc::channel();
    let homeless = builder.service("homeless", Placement::PerShard, move || Homeless(tells.clone())).unwrap();
    assert!(matches!(builder.storage(&homeless, scratch("none")), Err(StartError::Service { .. })));
    let _engine = builder.start().unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(NotSubmitted::Absent));
}
