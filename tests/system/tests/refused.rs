//! A host that refuses io_uring, as containers do: the server falls back to epoll, says why, and serves.
//!
//! The filter is put on a thread of the test, and the server it starts inherits it.

use std::collections::BTreeMap;
use std::io::Read;
use std::thread;

use megamux_system_tests::{Caps, Options, connect, echo};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter};

/// `io_uring_setup`, `io_uring_enter`, `io_uring_register`: the same numbers on every architecture.
const IO_URING: [i64; 3] = [425, 426, 427];
/// What Docker's default profile answers.
const EPERM: u32 = 1;
/// What a kernel without it answers.
const ENOSYS: u32 = 38;

/// Runs something where io_uring answers with this error.
fn refusing<R: Send>(errno: u32, run: impl FnOnce() -> R + Send) -> R {
    let arch = std::env::consts::ARCH.try_into().expect("an architecture with filters");
    let rules = IO_URING.map(|call| (call, Vec::new())).into_iter().collect::<BTreeMap<_, _>>();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch);
    let program = filter.and_then(TryInto::try_into).expect("a filter of three rules");
    thread::scope(|scope| {
        let filtered = scope.spawn(|| {
            let program: seccompiler::BpfProgram = program;
            apply_filter(&program).expect("a thread may bind itself");
            run()
        });
        filtered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[track_caller]
fn check(errno: u32, why: &str) {
    let start = || Options::new(Caps::All).set("telnet", "127.0.0.1:0").set("shards", 2).start();
    let mut server = refusing(errno, start).expect("it needs no io_uring");
    assert_eq!(server.said_of("driver"), format!("epoll, {why}"));
    for _ in 0..20 {
        echo(&mut connect(server.echo()), b"all the same").expect("an echo");
    }
    let mut greeting = [0; 1];
    connect(server.addr("telnet")).read_exact(&mut greeting).expect("a greeting");
    assert!(server.metrics().sum_of("megamux_accepts_total", "") > 20);
    server.is_well();
}

#[test]
fn a_container_is_served_by_epoll_and_told_why() {
    check(EPERM, "io_uring_setup is refused (EPERM), most likely by a seccomp profile");
}

#[test]
fn a_kernel_without_io_uring_is_served_by_epoll_and_told_why() {
    check(ENOSYS, "there is no io_uring here (ENOSYS)");
}

#[test]
fn who_insists_on_io_uring_is_told_that_there_is_none() {
    let (status, said) = refusing(EPERM, || Options::new(Caps::All).set("driver", "uring").run());
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("io_uring does not work here: io_uring_setup is refused (EPERM)"), "{said}");
}
