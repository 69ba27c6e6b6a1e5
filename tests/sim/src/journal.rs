//! A small write-ahead log behind connections, and the judge of what it promises: what was acknowledged is never lost,
//! each writer's lines keep their order, and no line is there twice.
//!
//! A line is `writer.number`. It is answered `ok writer.number` when it is durable and `no writer.number` when nobody
//! knows. Lines that come again, as they do after a crash, are answered and not written again.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use megamux_engine::{
    CloseReason, ConnId, ConnInfo, Cx, FileId, Handler, Input, Opening, RecvBuf, Scope, Service, ServiceCx,
    StorageError, StorageKey, Stored,
};

const OPEN: StorageKey = StorageKey(1);
const READ: StorageKey = StorageKey(2);
const CUT: StorageKey = StorageKey(3);
const RECOVERED: StorageKey = StorageKey(4);
const APPEND: StorageKey = StorageKey(5);
const SYNC: StorageKey = StorageKey(6);

/// The log's name in its directory.
pub const LOG: &str = "log";
/// A log is read in pieces of this size.
const PIECE: usize = 1000;
/// In front of each line: its length and a check of its bytes.
const HEAD: usize = 8;

/// What the latest journal found when it started; `None` until it has read everything.
#[derive(Debug, Clone, Default)]
pub struct Found(Arc<Mutex<Option<Vec<String>>>>);

impl Found {
    /// The lines, in the order of the log.
    pub fn lines(&self) -> Option<Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, lines: Option<Vec<String>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lines;
    }
}

/// The service.
#[derive(Debug)]
pub struct Journal {
    found: Found,
    state: State,
    durable: HashSet<String>,
    /// Lines, and who waits for them: those to be written next, and those being written.
    next: Vec<(ConnId, String)>,
    writing: Vec<(ConnId, String)>,
    /// The sync of the last batch has not completed.
    syncing: bool,
}

#[derive(Debug)]
enum State {
    /// It reads what was there.
    Reading {
        file: Option<FileId>,
        len: usize,
        bytes: Vec<u8>,
    },
    /// What was there is made durable before anybody is told of it: an earlier life may not have synced it.
    Trusting {
        file: FileId,
    },
    Ready {
        file: FileId,
    },
    /// Nothing is known any more of what is on the disk.
    Broken,
}

impl Journal {
    /// One that tells `found` what it found.
    pub fn new(found: &Found) -> Journal {
        found.set(None);
        let state = State::Reading { file: None, len: 0, bytes: Vec::new() };
        let found = found.clone();
        Journal { found, state, durable: HashSet::new(), next: Vec::new(), writing: Vec::new(), syncing: false }
    }

    /// Reads on, or, with all of it at hand, cuts off what was torn.
    fn read(&mut self, cx: &mut ServiceCx<'_, Self>) {
        let State::Reading { file: Some(file), len, bytes } = &self.state else { return };
        if bytes.len() < *len {
            return submitted(cx.storage().read(READ, *file, bytes.len() as u64, PIECE));
        }
        let (lines, whole) = parse(bytes);
        let file = *file;
        submitted(cx.storage().truncate(CUT, file, whole as u64));
        submitted(cx.storage().sync(RECOVERED, file));
        self.durable = lines.iter().cloned().collect();
        self.found.set(Some(lines));
        self.state = State::Trusting { file };
    }

    /// Writes what waits, as one batch with one sync.
    fn commit(&mut self, cx: &mut ServiceCx<'_, Self>) {
        let State::Ready { file } = self.state else { return };
        if self.next.is_empty() || self.syncing {
            return;
        }
        self.writing = std::mem::take(&mut self.next);
        let mut batch = Vec::new();
        let mut seen = HashSet::new();
        for (_, line) in &self.writing {
            if !self.durable.contains(line) && seen.insert(line) {
                batch.extend(record(line.as_bytes()));
            }
        }
        submitted(cx.storage().append(APPEND, file, batch));
        submitted(cx.storage().sync(SYNC, file));
        self.syncing = true;
    }

    fn answer(&mut self, cx: &mut ServiceCx<'_, Self>, word: &str) {
        for (conn, line) in std::mem::take(&mut self.writing) {
            cx.send(conn, format!("{word} {line}\n").into_bytes());
        }
    }

    fn fail(&mut self, cx: &mut ServiceCx<'_, Self>) {
        self.state = State::Broken;
        self.answer(cx, "no");
        self.writing = std::mem::take(&mut self.next);
        self.answer(cx, "no");
    }
}

/// Never more is in flight than a storage takes.
fn submitted(outcome: Result<(), megamux_engine::NotSubmitted>) {
    assert_eq!(outcome, Ok(()));
}

impl Service for Journal {
    type In = String;
    type Out = Vec<u8>;
    const SCOPE: Scope = Scope::Node;

    fn on_start(&mut self, cx: &mut ServiceCx<'_, Self>) {
        submitted(cx.storage().open(OPEN, LOG, Opening::OrCreate));
    }

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<String>) {
        let Input::Frame(line) = input else { return };
        match self.state {
            State::Broken => cx.send(conn, format!("no {line}\n").into_bytes()),
            _ if line == "panic" => panic!("the line that this service cannot bear"),
            _ => self.next.push((conn, line)),
        }
    }

    fn on_batch_end(&mut self, cx: &mut ServiceCx<'_, Self>) {
        self.commit(cx);
    }

    fn on_stored(&mut self, cx: &mut ServiceCx<'_, Self>, key: StorageKey, result: Result<Stored, StorageError>) {
        match (key, result, &mut self.state) {
            (OPEN, Ok(Stored::Opened { file: opened, len: whole }), State::Reading { file, len, .. }) => {
                (*file, *len) = (Some(opened), whole as usize);
                self.read(cx);
            }
            (READ, Ok(Stored::Read(piece)), State::Reading { bytes, .. }) => {
                bytes.extend_from_slice(&piece);
                self.read(cx);
            }
            (CUT, Ok(Stored::Truncated), _) => {}
            (RECOVERED, Ok(Stored::Synced), State::Trusting { file }) => self.state = State::Ready { file: *file },
            (APPEND, Ok(Stored::Appended { .. }), _) => {}
            // Nothing of the batch is in the file. The sync behind it means nothing to it.
            (APPEND, Err(_), State::Ready { .. }) => self.answer(cx, "no"),
            (SYNC, Ok(Stored::Synced), State::Ready { .. }) => {
                self.syncing = false;
                self.durable.extend(self.writing.iter().map(|(_, line)| line.clone()));
                self.answer(cx, "ok");
                self.commit(cx);
            }
            (_, Err(_), _) => self.fail(cx),
            _ => {}
        }
    }
}

fn record(line: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + line.len());
    record.extend((line.len() as u32).to_le_bytes());
    record.extend(check(line).to_le_bytes());
    record.extend(line);
    record
}

/// The whole records in front, and where they end.
fn parse(bytes: &[u8]) -> (Vec<String>, usize) {
    let mut lines = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEAD) {
        let word = |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        let (len, sum) = (word(0) as usize, word(4));
        let Some(line) = bytes.get(at + HEAD..at + HEAD + len) else { break };
        if len == 0 || check(line) != sum {
            break;
        }
        lines.push(String::from_utf8_lossy(line).into_owned());
        at += HEAD + len;
    }
    (lines, at)
}

/// FNV-1a: enough to know a torn line.
fn check(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Hands whole lines to its service, and sends what comes back.
#[derive(Debug)]
pub struct LinesTo<S>(PhantomData<fn() -> S>);

impl<S> Default for LinesTo<S> {
    fn default() -> Self {
        LinesTo(PhantomData)
    }
}

impl<S: Service<In = String, Out = Vec<u8>>> Handler for LinesTo<S> {
    type Service = S;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, S>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, S>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let Some(permit) = cx.try_reserve() else { break };
            permit.send(String::from_utf8_lossy(&data[..end]).into_owned());
            data.consume(end + 1);
        }
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, S>, (): &mut (), event: Vec<u8>) -> Result<(), CloseReason> {
        cx.send(&event);
        Ok(())
    }
}

/// What writers were told, over all lives of a journal.
#[derive(Debug, Default)]
pub struct Judge {
    acknowledged: HashSet<String>,
}

impl Judge {
    /// Takes note of what a writer received; a line cut short by a crash says nothing.
    pub fn hear(&mut self, received: &[u8]) {
        let text = String::from_utf8_lossy(received);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let acknowledged = whole.lines().filter_map(|line| line.strip_prefix("ok "));
        self.acknowledged.extend(acknowledged.map(str::to_owned));
    }

    /// At most `most` of the acknowledged lines that begin so.
    pub fn some_of(&self, beginning: &str, most: usize) -> Vec<String> {
        let mut lines: Vec<_> = self.acknowledged.iter().filter(|line| line.starts_with(beginning)).cloned().collect();
        lines.sort();
        lines.truncate(most);
        lines
    }

    /// How many lines were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// What a journal found must have all of it, once, in each writer's order.
    pub fn check(&self, found: &[String]) {
        let there: HashSet<&String> = found.iter().collect();
        assert_eq!(there.len(), found.len(), "a line is there twice: {found:?}");
        let mut lost: Vec<_> = self.acknowledged.iter().filter(|line| !there.contains(line)).collect();
        lost.sort();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let mut latest: HashMap<&str, u32> = HashMap::new();
        for line in found {
            let (writer, number) = line.split_once('.').expect("a line that a writer wrote");
            let number: u32 = number.parse().expect("a line that a writer wrote");
            let before = latest.insert(writer, number);
            assert!(before.is_none_or(|before| before < number), "{writer}'s lines are out of order: {found:?}");
        }
    }
}
