//! The runtime under an async service: which one works here, and how it ends.
//!
//! Invariant: a runtime is made and used on the service's thread alone. Ending never waits for what the
//! service began and nobody can cancel (a blocking call, a read that the kernel works on).

use std::future::Future;
use std::io;

use crate::engine::StartError;

use super::{AsyncRuntime, RuntimeKind};

/// What `tokio_uring::builder` asks the kernel for.
const TOKIO_URING_ENTRIES: u32 = 256;

pub(super) enum Runtime {
    TokioUring(tokio_uring::Runtime),
    Tokio(tokio::runtime::Runtime),
}

impl Runtime {
    /// Makes the runtime that was asked for, or the best that works here, and says which.
    pub(super) fn new(service: &str, choice: AsyncRuntime) -> Result<Runtime, StartError> {
        let runtime = choose(service, choice, tokio_uring)?;
        tracing::info!(service, runtime = %runtime.kind(), "an async service starts");
        Ok(runtime)
    }

    pub(super) fn kind(&self) -> RuntimeKind {
        match self {
            Runtime::TokioUring(_) => RuntimeKind::TokioUring,
            Runtime::Tokio(_) => RuntimeKind::Tokio,
        }
    }

    /// Runs `future` to its end.
    pub(super) fn run(self, future: impl Future<Output = ()>) {
        match self {
            Runtime::TokioUring(runtime) => {
                runtime.block_on(future);
                // tokio-uring 0.5 frees the buffers of abandoned operations before it cancels these, and the kernel may
                // be writing there. So the ring and what is in flight stay until the process ends.
                std::mem::forget(runtime);
            }
            Runtime::Tokio(runtime) => {
                runtime.block_on(future);
                runtime.shutdown_background();
            }
        }
    }
}

fn choose(
    service: &str,
    choice: AsyncRuntime,
    uring: impl FnOnce() -> io::Result<Runtime>,
) -> Result<Runtime, StartError> {
    let failed = |runtime, source| StartError::Runtime { service: service.to_owned(), runtime, source };
    match choice {
        AsyncRuntime::TokioUring => {
            return uring().map_err(|error| failed(RuntimeKind::TokioUring, error));
        }
        AsyncRuntime::Auto => match uring() {
            Ok(runtime) => return Ok(runtime),
            Err(error) => {
                tracing::warn!(service, %error, "tokio-uring is refused here: tokio instead");
            }
        },
        AsyncRuntime::Tokio => {}
    }
    tokio().map_err(|error| failed(RuntimeKind::Tokio, error))
}

fn tokio() -> io::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(Runtime::Tokio(runtime))
}

fn tokio_uring() -> io::Result<Runtime> {
    // Asked of the kernel first: where this fails, tokio-uring leaks the tokio runtime that it has begun with.
    io_uring::IoUring::new(TOKIO_URING_ENTRIES)?;
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())?;
    Ok(Runtime::TokioUring(runtime))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(choice: AsyncRuntime, uring: fn() -> io::Result<Runtime>, expect: Result<RuntimeKind, &str>) {
        let chosen = choose("files", choice, uring);
        let chosen = chosen.map(|runtime| runtime.kind());
        let expect = expect.map_err(str::to_owned);
        assert_eq!(chosen.map_err(|error| error.to_string()), expect, "{choice:?}");
    }

    #[test]
    fn where_tokio_uring_works_it_is_the_first_choice() {
        check(AsyncRuntime::Auto, tokio_uring, Ok(RuntimeKind::TokioUring));
        check(AsyncRuntime::TokioUring, tokio_uring, Ok(RuntimeKind::TokioUring));
        check(AsyncRuntime::Tokio, tokio_uring, Ok(RuntimeKind::Tokio));
    }

    #[test]
    fn where_it_is_refused_only_who_insists_fails() {
        // As a container's seccomp filter has it.
        let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
        check(AsyncRuntime::Auto, refused, Ok(RuntimeKind::Tokio));
        check(AsyncRuntime::Tokio, refused, Ok(RuntimeKind::Tokio));
        check(
            AsyncRuntime::TokioUring,
            refused,
            Err("no tokio-uring runtime for service files: Operation not permitted (os error 1)"),
        );
    }
}
