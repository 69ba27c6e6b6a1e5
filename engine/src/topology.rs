//! Which CPUs there are, and on which of them the shards run.

use std::fs;

use crate::config::Pin;

/// How many shards a configuration of 0 means: one per physical core that this process may use.
pub(crate) fn default_shards() -> usize {
    physical_cores().len().max(1)
}

/// The CPU of each shard; `None` leaves it to the scheduler.
pub(crate) fn cpus(pin: &Pin, shards: usize) -> Vec<Option<usize>> {
    let cpus = match pin {
        Pin::Cores => physical_cores(),
        Pin::List(list) => list.clone(),
        Pin::None => Vec::new(),
    };
    let cpu = |shard: usize| cpus.get(shard % cpus.len().max(1)).copied();
    (0..shards).map(cpu).collect()
}

/// Pins the calling thread; `false` if the kernel refuses.
pub(crate) fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// The first CPU of each physical core that this process may run on, in order.
fn physical_cores() -> Vec<usize> {
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    let first_sibling = |&cpu: &usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = fs::read_to_string(path).unwrap_or_default();
        let first_allowed = parse_list(&siblings).into_iter().find(|cpu| allowed.contains(cpu));
        first_allowed.is_none_or(|first| first == cpu)
    };
    allowed.iter().copied().filter(first_sibling).collect()
}

/// A list as sysfs writes it: `0-3,8,10-11`.
fn parse_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_sysfs_writes_them() {
        assert_eq!(parse_list("0-2,8,10-11\n"), [0, 1, 2, 8, 10, 11]);
        assert_eq!(parse_list("\n"), []);
    }

    #[test]
    fn shards_go_around_the_given_cpus() {
        assert_eq!(cpus(&Pin::List(vec![3, 5]), 3), [Some(3), Some(5), Some(3)]);
        assert_eq!(cpus(&Pin::None, 2), [None, None]);
    }
}
