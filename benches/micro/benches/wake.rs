//! What it costs to wake a sleeping thread, and how long until it runs: futex, eventfd, MSG_RING.
//!
//! One target thread sleeps as it is told: parked, or in io_uring_enter on a DEFER_TASKRUN ring. The
//! waker waits until it sleeps, notes the time, wakes. The ways alternate round by
//! round, so that they meet the same machine; compare the rows of one run only. Waiting yields, so that
//! both may share a core.
//!
//! Run with `cargo bench -p megamux-micro --bench wake`.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, FromRawFd, RawFd},
    sync::{
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_utils::sync::{Parker, Unparker};
use io_uring::{IoUring, opcode, squeue, types};

const ROUNDS: usize = 3_000;
const WARM_UP: usize = 200;
/// From the target's announcement until it is surely asleep.
const FALL_ASLEEP: Duration = Duration::from_micros(30);
const WAKER_CORE: usize = 0;
const TARGET_CORE: usize = 1;

/// How a round wakes; the target reads its discriminant to know how to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    StdUnpark = 1,
    CrossbeamUnpark,
    EventFd,
    MsgRing,
    RegisteredMsgRing,
    /// No wake: the enter with one NOP that a message shares when the waker submits anyway.
    NopEnter,
}

const WAYS: [(Way, &str); 6] = [
    (Way::StdUnpark, "std unpark -> futex wait"),
    (Way::CrossbeamUnpark, "crossbeam unpark -> futex wait"),
    (Way::EventFd, "eventfd write -> ring read"),
    (Way::MsgRing, "MSG_RING, enter of its own"),
    (Way::RegisteredMsgRing, "MSG_RING by io_uring_register"),
    (Way::NopEnter, "(one NOP, enter of its own)"),
];

const GO_HOME: usize = 0;

/// What waker and target tell each other. Times are nanoseconds since `epoch`, never zero.
struct Shared {
    epoch: Instant,
    /// Round number times eight plus the way; [`GO_HOME`] ends the target.
    order: AtomicUsize,
    asleep: AtomicUsize,
    woken_at_ns: AtomicU64,
}

struct Ways {
    std: thread::Thread,
    crossbeam: Unparker,
    eventfd: File,
    target_ring: RawFd,
    own_ring: IoUring,
}

fn main() {
    run("target on another core", TARGET_CORE);
    // No interrupt to send: what is left is the way's own share of the waker's cost. The target runs when
    // the waker yields, so there is no latency to speak of.
    run("target on the waker's core", WAKER_CORE);
}

fn run(title: &str, target_core: usize) {
    println!("{title}: {ROUNDS} rounds each, alternating; ns");
    let shared = Shared {
        epoch: Instant::now() - Duration::from_secs(1),
        order: AtomicUsize::new(usize::MAX),
        asleep: AtomicUsize::new(0),
        woken_at_ns: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let eventfd = eventfd().expect("eventfd");
        let target = {
            let (shared, eventfd) = (&shared, eventfd.try_clone().expect("eventfd"));
            scope.spawn(move || {
                pin(target_core);
                sleep_as_told(shared, &eventfd, &tell);
            })
        };
        pin(WAKER_CORE);
        let (target_ring, crossbeam) = told.recv().expect("the target's ring");
        let ways = Ways {
            std: target.thread().clone(),
            crossbeam,
            eventfd,
            target_ring,
            own_ring: ring().expect("the waker's ring"),
        };
        measure(&shared, ways);
        shared.order.store(GO_HOME, Ordering::Release);
    });
}

fn measure(shared: &Shared, mut ways: Ways) {
    // Probed on the waker's own ring: a message to the target would end its first sleep early, and from
    // then on every sleep would end by the wake meant for the one before.
    let has_register = send_registered(ways.own_ring.as_raw_fd()).is_ok();
    let mut costs = [const { Vec::new() }; WAYS.len()];
    let mut awake = 0;
    let mut latencies = [const { Vec::new() }; WAYS.len()];
    for round in 0..WARM_UP + ROUNDS {
        for turn in 0..WAYS.len() {
            let which = (round + turn) % WAYS.len();
            let way = WAYS[which].0;
            if way == Way::RegisteredMsgRing && !has_register {
                continue;
            }
            let order = (round * WAYS.len() + turn + 1) * 8 + way as usize;
            let (cost_ns, latency_ns) = one_round(shared, &mut ways, way, order);
            // A target that was up before the wake was not woken by it.
            if round >= WARM_UP && latency_ns.is_none() {
                awake += 1;
            } else if round >= WARM_UP {
                costs[which].push(cost_ns);
                latencies[which].extend(latency_ns);
            }
        }
    }
    println!("{:<34}{:>9}{:>9}{:>9}{:>12}{:>9}{:>9}", "", "cost p10", "p50", "p90", "latency p10", "p50", "p90");
    for (which, (way, name)) in WAYS.iter().enumerate() {
        if costs[which].is_empty() {
            println!("{name:<34} not in this kernel");
            continue;
        }
        let [c10, c50, c90] = percentiles(&mut costs[which]);
        print!("{name:<34}{c10:>9}{c50:>9}{c90:>9}");
        if *way == Way::NopEnter {
            println!("{:>12}{:>9}{:>9}", "-", "-", "-");
        } else {
            let [l10, l50, l90] = percentiles(&mut latencies[which]);
            println!("{l10:>12}{l50:>9}{l90:>9}");
        }
    }
    println!("rounds left out because the target was up already: {awake}\n");
}

fn one_round(shared: &Shared, ways: &mut Ways, way: Way, order: usize) -> (u64, Option<u64>) {
    if way == Way::NopEnter {
        let began = now_ns(shared);
        submit(&mut ways.own_ring, &opcode::Nop::new().build());
        return (now_ns(shared) - began, Some(0));
    }
    shared.woken_at_ns.store(0, Ordering::Relaxed);
    shared.order.store(order, Ordering::Release);
    while shared.asleep.load(Ordering::Acquire) != order {
        thread::yield_now();
    }
    let announced = Instant::now();
    while announced.elapsed() < FALL_ASLEEP {
        thread::yield_now();
    }
    let began = now_ns(shared);
    match way {
        Way::StdUnpark => ways.std.unpark(),
        Way::CrossbeamUnpark => ways.crossbeam.unpark(),
        Way::EventFd => (&ways.eventfd).write_all(&1u64.to_ne_bytes()).expect("the counter has room"),
        Way::MsgRing => submit(&mut ways.own_ring, &message(ways.target_ring)),
        Way::RegisteredMsgRing => {
            send_registered(ways.target_ring).expect("worked at the start");
        }
        Way::NopEnter => unreachable!("answered above"),
    }
    let cost_ns = now_ns(shared) - began;
    loop {
        match shared.woken_at_ns.load(Ordering::Acquire) {
            0 => thread::yield_now(),
            woken => return (cost_ns, woken.checked_sub(began)),
        }
    }
}

/// Blocking, so that a ring's read of it waits.
fn eventfd() -> io::Result<File> {
    // SAFETY: makes a descriptor and touches no memory.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// The target: waits for an order, sleeps as it says, notes when it woke.
fn sleep_as_told(shared: &Shared, eventfd: &File, tell: &mpsc::Sender<(RawFd, Unparker)>) {
    let mut ring = ring().expect("the target's ring");
    let parker = Parker::new();
    tell.send((ring.as_raw_fd(), parker.unparker().clone())).expect("the waker waits");
    let mut last = usize::MAX;
    let mut count = [0u8; 8];
    loop {
        let order = shared.order.load(Ordering::Acquire);
        if order == GO_HOME {
            return;
        }
        if order == last {
            thread::yield_now();
            continue;
        }
        last = order;
        let sleeps_in_ring = order % 8 >= Way::EventFd as usize;
        if order % 8 == Way::EventFd as usize {
            let fd = types::Fd(eventfd.as_raw_fd());
            let read = opcode::Read::new(fd, count.as_mut_ptr(), count.len() as u32).build();
            // SAFETY: `count` and the eventfd outlive the read, because this thread waits for it below.
            unsafe { ring.submission().push(&read) }.expect("an empty queue");
        }
        shared.asleep.store(order, Ordering::Release);
        if sleeps_in_ring {
            ring.submit_and_wait(1).expect("waiting for the wake");
        } else if order % 8 == Way::StdUnpark as usize {
            thread::park();
        } else {
            parker.park();
        }
        let woken = now_ns(shared);
        drain(&mut ring);
        shared.woken_at_ns.store(woken, Ordering::Release);
    }
}

fn ring() -> io::Result<IoUring> {
    IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)
}

fn drain(ring: &mut IoUring) {
    ring.completion().for_each(drop);
}

fn submit(ring: &mut IoUring, entry: &squeue::Entry) {
    let entry = entry.clone().flags(squeue::Flags::SKIP_SUCCESS);
    // SAFETY: neither a NOP nor a message points at memory of ours.
    unsafe { ring.submission().push(&entry) }.expect("an empty queue");
    ring.submit().expect("one entry");
}

fn message(target: RawFd) -> squeue::Entry {
    opcode::MsgRingData::new(types::Fd(target), 0, 1, None).build()
}

/// IORING_REGISTER_SEND_MSG_RING (6.13): a message without a ring of one's own.
fn send_registered(target: RawFd) -> io::Result<()> {
    const IORING_REGISTER_SEND_MSG_RING: libc::c_uint = 31;
    let entry = message(target);
    // SAFETY: the kernel reads one submission entry, which `Entry` is laid out as, during the call.
    let sent =
        unsafe { libc::syscall(libc::SYS_io_uring_register, -1, IORING_REGISTER_SEND_MSG_RING, &raw const entry, 1) };
    match sent {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn now_ns(shared: &Shared) -> u64 {
    shared.epoch.elapsed().as_nanos() as u64
}

fn percentiles(samples: &mut [u64]) -> [u64; 3] {
    samples.sort_unstable();
    [10, 50, 90].map(|percent| samples[samples.len() * percent / 100])
}

fn pin(core: usize) {
    assert!(
        core_affinity::set_for_current(core_affinity::CoreId { id: core }),
        "cannot pin to core {core}: this bench wants two cores"
    );
}
