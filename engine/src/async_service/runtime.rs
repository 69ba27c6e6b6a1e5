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
        let failed = |runtime, source| StartError::Runtime {
            service: service.to_owned(),
            runtime,
            source,
        };
        let runtime = match choice {
            AsyncRuntime::Tokio => tokio().map_err(|error| failed(RuntimeKind::Tokio, error))?,
            AsyncRuntime::TokioUring => {
                tokio_uring().map_err(|error| failed(RuntimeKind::TokioUring, error))?
            }
            AsyncRuntime::Auto => match tokio_uring() {
                Ok(runtime) => runtime,
                Err(error) => {
                    tracing::warn!(service, %error, "tokio-uring is refused here: tokio instead");
                    tokio().map_err(|error| failed(RuntimeKind::Tokio, error))?
                }
            },
        };
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

fn tokio() -> io::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
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
    use std::thread;

    use super::*;

    #[test]
    fn without_io_uring_the_choice_falls_on_tokio_or_fails() {
        // A filter is for the thread that installs it.
        let checked = thread::spawn(|| {
            refuse_io_uring();
            let chosen = Runtime::new("a", AsyncRuntime::Auto).map(|runtime| runtime.kind());
            let forced = Runtime::new("b", AsyncRuntime::TokioUring).map(|runtime| runtime.kind());
            (chosen.unwrap(), forced.unwrap_err().to_string())
        });
        let (chosen, forced) = checked.join().unwrap();
        assert_eq!(chosen, RuntimeKind::Tokio);
        assert_eq!(
            forced,
            "no tokio-uring runtime for service b: Operation not permitted (os error 1)"
        );
    }

    #[test]
    fn a_choice_is_what_one_gets() {
        let tokio = Runtime::new("a", AsyncRuntime::Tokio).unwrap();
        assert_eq!(tokio.kind(), RuntimeKind::Tokio);
        let uring = Runtime::new("a", AsyncRuntime::TokioUring).unwrap();
        assert_eq!(uring.kind(), RuntimeKind::TokioUring);
    }

    /// Has io_uring_setup fail with EPERM on this thread, as containers do it.
    fn refuse_io_uring() {
        let step = |code: u32, jf, k| libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf,
            k,
        };
        let number = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        let mut filter = [
            step(number, 0, 0),
            step(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                1,
                libc::SYS_io_uring_setup as u32,
            ),
            step(
                libc::BPF_RET | libc::BPF_K,
                0,
                libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            ),
            step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: the program and its filter live until the kernel has copied them.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let mode = libc::SECCOMP_MODE_FILTER;
            assert_eq!(
                libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program),
                0
            );
        }
    }
}
