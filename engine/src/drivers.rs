//! Which driver does the I/O: as asked for, or the best that works here.
//!
//! io_uring is probed by doing, once per engine; then every shard makes its ring, and only when all have one does any of
//! them begin. Where io_uring is refused at either step, and nobody insists on it, all shards run on epoll. Invariant: the shards of
//! an engine have the same driver, because they pass connections to each other.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Instant;

use crate::config::{Config, DriverChoice};
use crate::driver::Caps;
use crate::engine::StartError;
use crate::epoll::{self, EpollConfig, EpollDriver, Inboxes};
use crate::id::ShardId;
use crate::limits;
use crate::ring::{Mask, MaskError, RingError, Rings, UringConfig, UringDriver, probe};

/// What the drivers of one engine are made with.
pub(crate) struct Drivers {
    choice: DriverChoice,
    mask: Mask,
    slots: u32,
    buffers: u16,
    started: Instant,
    rings: Arc<Rings>,
    inboxes: Arc<Inboxes>,
}

/// Which driver it is, and what it can do.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    Uring(Caps),
    Epoll(Caps),
}

/// A shard's driver.
pub(crate) enum Made {
    Uring(Box<UringDriver>),
    Epoll(Box<EpollDriver>),
}

impl Plan {
    pub(crate) fn caps(&self) -> &Caps {
        match self {
            Plan::Uring(caps) | Plan::Epoll(caps) => caps,
        }
    }
}

impl Drivers {
    pub(crate) fn new(config: &Config, shards: usize, started: Instant) -> Result<Drivers, StartError> {
        let mask = config.caps_mask.parse().map_err(|error: MaskError| StartError::Config(error.to_string()))?;
        Ok(Drivers {
            choice: config.driver,
            mask,
            slots: config.connections_per_shard,
            buffers: config.buffers,
            started,
            rings: Arc::new(Rings::new(shards)),
            inboxes: Arc::new(Inboxes::new(shards)),
        })
    }

    /// Finds out what works here.
    pub(crate) fn plan(&self) -> Result<Plan, StartError> {
        if self.choice == DriverChoice::Epoll {
            return Ok(Plan::Epoll(epoll::caps(&self.mask, None)));
        }
        let mask = self.mask.clone();
        // On a thread of its own: what a ring leaves behind when it goes would interrupt the caller's next system call.
        let probed = thread::Builder::new().name("probe".into()).spawn(move || probe(&mask));
        let probed = probed.map_err(StartError::Thread)?.join();
        match probed.map_err(|_| StartError::Config("the probe of io_uring panicked".into()))? {
            Ok(caps) => Ok(Plan::Uring(caps)),
            Err(refused) => self.without_rings(refused),
        }
    }

    /// Decides when every shard has tried to make its driver.
    pub(crate) fn settle(
        &self,
        plan: Plan,
        mut tries: impl Iterator<Item = Result<(), RingError>>,
    ) -> Result<Plan, StartError> {
        // All of them: a shard is about to drop its ring, or to run on it.
        match tries.by_ref().fold(Ok(()), Result::and) {
            Ok(()) => Ok(plan),
            Err(refused) => self.without_rings(refused),
        }
    }

    fn without_rings(&self, refused: RingError) -> Result<Plan, StartError> {
        match self.choice {
            DriverChoice::Auto => Ok(Plan::Epoll(epoll::caps(&self.mask, Some(refused.to_string())))),
            _ => Err(refused.into()),
        }
    }

    fn ring(&self, shard: ShardId, caps: &Caps) -> Result<UringDriver, RingError> {
        UringDriver::new(&UringConfig {
            sq: limits::SUBMISSIONS,
            cq: limits::COMPLETIONS,
            slots: self.slots,
            buffers: self.buffers,
            caps: caps.clone(),
            started: self.started,
            shard,
            rings: Arc::clone(&self.rings),
        })
    }

    fn epoll(&self, shard: ShardId, caps: &Caps) -> Result<EpollDriver, StartError> {
        let (caps, inboxes) = (caps.clone(), Arc::clone(&self.inboxes));
        let config = EpollConfig { slots: self.slots, caps, started: self.started, shard, inboxes };
        EpollDriver::new(&config).map_err(StartError::Epoll)
    }
}

/// One shard's part in finding the driver of all.
pub(crate) struct Trial {
    pub(crate) drivers: Arc<Drivers>,
    pub(crate) plan: Plan,
    /// Where it says whether it has a ring, if it needs one.
    pub(crate) tried: Sender<Result<(), RingError>>,
    /// What came of it.
    pub(crate) judged: Receiver<Plan>,
}

impl Trial {
    /// Makes the driver on the shard's own thread; `None` if the engine does not start.
    pub(crate) fn driver(self, shard: ShardId) -> Option<Result<Made, StartError>> {
        let Trial { drivers, plan, tried, judged } = self;
        let ring = match &plan {
            Plan::Uring(caps) => Some(drivers.ring(shard, caps)),
            Plan::Epoll(_) => None,
        };
        let (ring, said) = match ring.transpose() {
            Ok(ring) => (ring, Ok(())),
            Err(refused) => (None, Err(refused)),
        };
        let _ = tried.send(said);
        drop(tried);
        match (judged.recv().ok()?, ring) {
            (Plan::Uring(_), Some(ring)) => Some(Ok(Made::Uring(Box::new(ring)))),
            (Plan::Uring(_), None) => None,
            (Plan::Epoll(caps), ring) => {
                drop(ring);
                Some(drivers.epoll(shard, &caps).map(|driver| Made::Epoll(Box::new(driver))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drivers(choice: DriverChoice) -> Drivers {
        let config = Config { driver: choice, ..Config::default() };
        Drivers::new(&config, 2, Instant::now()).unwrap()
    }

    #[test]
    fn a_ring_that_one_shard_cannot_make_sends_all_to_epoll_unless_rings_were_asked_for() {
        let uring = || Plan::Uring(epoll::caps(&Mask::default(), None));
        let tries = || [Ok(()), Err(RingError::LockedMemory { sq: 32, cq: 64 })].into_iter();
        match drivers(DriverChoice::Auto).settle(uring(), tries()) {
            Ok(Plan::Epoll(caps)) => assert!(caps.refused.unwrap().contains("RLIMIT_MEMLOCK")),
            other => panic!("{other:?}"),
        }
        assert!(matches!(drivers(DriverChoice::Uring).settle(uring(), tries()), Err(StartError::Driver(_))));
        assert!(matches!(
            drivers(DriverChoice::Auto).settle(uring(), [Ok(()), Ok(())].into_iter()),
            Ok(Plan::Uring(_))
        ));
    }

    #[test]
    fn epoll_as_asked_for_was_not_refused_anything() {
        match drivers(DriverChoice::Epoll).plan() {
            Ok(Plan::Epoll(caps)) => assert_eq!((caps.driver, caps.refused), ("epoll", None)),
            other => panic!("{other:?}"),
        }
    }
}
