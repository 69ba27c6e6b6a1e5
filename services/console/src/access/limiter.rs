//! How often passwords may be tried: by each source, and by all together.
//!
//! Invariant: at most [`MAX_SOURCES`] sources are remembered; forgetting one gives back no more than its own tries.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use megamux_engine::Time;

/// The most sources that are remembered. One that is not remembered has all its tries.
pub const MAX_SOURCES: usize = 1024;

/// Tries that a source has at first, and how long until it has another.
const SOURCE: Rate = Rate { most: 6, each: Duration::from_secs(10) };

/// The same for all sources together: more than people need, and less than would keep the verifier busy.
const ALL: Rate = Rate { most: 30, each: Duration::from_millis(500) };

#[derive(Debug, Clone, Copy)]
struct Rate {
    most: u32,
    each: Duration,
}

/// A bucket that fills with time: it is known by when it will be full.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Time,
}

#[derive(Debug, Default)]
pub(crate) struct Limiter {
    all: Option<Bucket>,
    sources: HashMap<Option<IpAddr>, Bucket>,
}

impl Limiter {
    /// Takes one try of a source, or says when to come again.
    pub(crate) fn take(&mut self, now: Time, source: Option<IpAddr>) -> Result<(), Duration> {
        let source = source.map(network);
        let mine = *self.sources.get(&source).unwrap_or(&Bucket { full_at: now });
        let all = self.all.unwrap_or(Bucket { full_at: now });
        let (mine, all) = (mine.take(now, SOURCE)?, all.take(now, ALL)?);
        self.all = Some(all);
        self.make_room(now, source);
        self.sources.insert(source, mine);
        Ok(())
    }

    /// Gives a try back: it was right.
    pub(crate) fn give_back(&mut self, source: Option<IpAddr>) {
        self.sources.remove(&source.map(network));
    }

    fn make_room(&mut self, now: Time, source: Option<IpAddr>) {
        if self.sources.len() < MAX_SOURCES || self.sources.contains_key(&source) {
            return;
        }
        self.sources.retain(|_, bucket| bucket.full_at > now);
        if self.sources.len() < MAX_SOURCES {
            return;
        }
        // The one that has tried least has the least to gain from being forgotten.
        let least = self.sources.iter().min_by_key(|(_, bucket)| bucket.full_at).map(|(source, _)| *source);
        least.map(|least| self.sources.remove(&least));
    }
}

impl Bucket {
    fn take(self, now: Time, rate: Rate) -> Result<Bucket, Duration> {
        let full_at = self.full_at.max(now) + rate.each;
        let missing = full_at.since(now);
        match missing.checked_sub(rate.each * rate.most) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(Bucket { full_at }),
        }
    }
}

/// What one customer of a provider has: an IPv4 address, or an IPv6 network of 64 bits.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(addr) => {
            let [a, b, c, d, ..] = addr.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn source(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_source_has_a_few_tries_and_then_one_in_a_while() {
        let mut limiter = Limiter::default();
        for _ in 0..6 {
            assert_eq!(limiter.take(at(0), source("192.0.2.1")), Ok(()));
        }
        assert_eq!(limiter.take(at(0), source("192.0.2.1")), Err(Duration::from_secs(10)));
        assert_eq!(limiter.take(at(4), source("::ffff:192.0.2.1")), Err(Duration::from_secs(6)));
        assert_eq!(limiter.take(at(4), source("192.0.2.2")), Ok(()), "another source");
        assert_eq!(limiter.take(at(10), source("192.0.2.1")), Ok(()));
        assert!(limiter.take(at(10), source("192.0.2.1")).is_err());
        limiter.give_back(source("192.0.2.1"));
        assert_eq!(limiter.take(at(10), source("192.0.2.1")), Ok(()));
    }

    #[test]
    fn one_network_is_one_source_and_all_have_a_limit() {
        let mut limiter = Limiter::default();
        for host in 0..6 {
            assert_eq!(limiter.take(at(0), source(&format!("2001:db8::{host}"))), Ok(()));
        }
        assert!(limiter.take(at(0), source("2001:db8::ffff:1")).is_err());
        let tries = (0..100).filter(|net| limiter.take(at(0), source(&format!("10.0.0.{net}"))).is_ok());
        assert_eq!(tries.count(), 24);
        assert_eq!(limiter.take(at(1), None), Ok(()), "a Unix socket's peer");
    }

    #[test]
    fn sources_are_bounded() {
        let mut limiter = Limiter::default();
        for number in 0..3 * MAX_SOURCES as u32 {
            let source = IpAddr::from(number.to_be_bytes());
            limiter.take(at(u64::from(number)), Some(source)).unwrap();
            assert!(limiter.sources.len() <= MAX_SOURCES);
        }
    }
}
