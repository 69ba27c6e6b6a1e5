//! Files by line: `GET name` is answered with `OK length` and the file. The service is a future and awaits the disk.
//! `cargo run --release --features tokio-uring --example files -- 127.0.0.1:7001 --runtime auto`, in the directory to serve.

use std::{fs::File, io, io::Read};

use megamux_engine::{
    Async, AsyncCx, AsyncInput, AsyncRuntime, AsyncService, CloseReason, Config, ConnInfo, Cx, Engine, Frame, Handler,
    Input, Listen, RecvBuf, RuntimeKind,
};

/// No more of a file than this is served.
const MOST: usize = 64 * 1024;

type Outcome = Result<(), CloseReason>;
type LineCx<'a> = Cx<'a, Async<Files>>;

struct Lines;

impl Handler for Lines {
    type Service = Async<Files>;
    type Conn = ();

    fn on_open(&mut self, _: &mut LineCx<'_>, _: &ConnInfo) -> Outcome {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut LineCx<'_>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            // Without a permit the line stays unread, and comes again when the service has caught up.
            let Some(permit) = cx.try_reserve() else { break };
            permit.send(data.take(end + 1));
        }
        Ok(())
    }

    fn on_event(&mut self, cx: &mut LineCx<'_>, (): &mut (), answer: Frame) -> Outcome {
        cx.send_frame(answer);
        Ok(())
    }
}

struct Files;

impl AsyncService for Files {
    type In = Frame;
    type Out = Frame;

    async fn run(self, cx: AsyncCx<Self>) {
        // One file after the other. Who wants several at a time spawns tasks, and bounds how many.
        while let AsyncInput::Conn(conn, input) = cx.recv().await {
            let Input::Frame(line) = input else { continue };
            let answer = match get(&line, cx.runtime()).await {
                Ok(bytes) => [format!("OK {}\n", bytes.len()).as_bytes(), &bytes].concat(),
                Err(error) => format!("ERR {}\n", error.kind()).into_bytes(),
            };
            cx.send(conn, Frame::from(answer));
        }
    }
}

async fn get(line: &[u8], runtime: RuntimeKind) -> io::Result<Vec<u8>> {
    let name = name(line).ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let mut bytes = Vec::with_capacity(MOST);
    if runtime == RuntimeKind::Tokio {
        let read = move || {
            let file = File::open(name)?;
            file.take(MOST as u64).read_to_end(&mut bytes).map(|_| bytes)
        };
        return tokio::task::spawn_blocking(read).await?;
    }
    let file = tokio_uring::fs::File::open(name).await?;
    let (read, bytes) = file.read_at(bytes, 0).await;
    file.close().await?;
    read.map(|_| bytes)
}

/// The name asked for, if it is one that cannot lead out of the directory.
fn name(line: &[u8]) -> Option<&str> {
    let name = str::from_utf8(line.strip_prefix(b"GET ")?).ok()?.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)).then_some(name)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let addr = args.get(1).map_or("127.0.0.1:7001", String::as_str);
    let runtime = args.iter().skip_while(|arg| *arg != "--runtime").nth(1);
    let runtime = match runtime.map_or("auto", String::as_str) {
        "auto" => AsyncRuntime::Auto,
        "tokio" => AsyncRuntime::Tokio,
        "tokio-uring" => AsyncRuntime::TokioUring,
        other => return Err(format!("--runtime {other}: auto, tokio or tokio-uring").into()),
    };
    let mut builder = Engine::builder(Config::default())?;
    let files = builder.async_service("files", runtime, || Files)?;
    builder.listen(Listen::tcp(addr).max_frame(1024), &files, |_shard| Lines)?;
    let engine = builder.start()?;
    println!("listening on {:?}", engine.local_addrs());
    Ok(engine.join()?)
}
