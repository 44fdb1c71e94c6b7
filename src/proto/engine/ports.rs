//! Ephemeral ports by double hash (RFC 6056 §3.3.4, algorithm 4).
//!
//! The first keyed hash of the destination says where in the range to begin, the second which of many counters to add: connections to one
//! destination go through the ports one after the other, as late as possible coming back to one that was used before; whoever watches one
//! destination learns nothing about the ports used towards another. Whether a port is free is the caller's knowledge.

use std::ops::RangeInclusive;

use crate::proto::random::{KeyedHash, Secrets};
use crate::proto::wire::Address;

/// Counters. Destinations that share one can watch each other's progress; with few of them a host could be recognised by its collisions.
const COUNTERS: usize = 4096;

/// The choice of ports.
#[derive(Debug)]
pub(crate) struct Ports {
    first: u16,
    count: u32,
    offset: KeyedHash,
    counter: KeyedHash,
    counters: Box<[u16]>,
}

/// Whom a port is wanted for. A listener without a port of its own has no remote side: both unspecified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    /// Our address.
    pub(crate) local: Address,
    /// The peer's address.
    pub(crate) remote: Address,
    /// The peer's port.
    pub(crate) remote_port: u16,
}

impl Ports {
    /// Ports of `range`; counters begin at random.
    #[must_use]
    pub(crate) fn new(range: &RangeInclusive<u16>, secrets: &Secrets) -> Self {
        let mut generator = secrets.generator("port counters");
        let counters = (0..COUNTERS / 4).flat_map(|_| {
            let [a, b, c, d, e, f, g, h] = generator.next_u64().to_le_bytes();
            [[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes)
        });
        Self {
            first: *range.start(),
            count: (u32::from(*range.end()) + 1).saturating_sub(u32::from(*range.start())),
            offset: secrets.keyed_hash("port offset"),
            counter: secrets.keyed_hash("port counter"),
            counters: counters.collect(),
        }
    }

    /// The next port towards `destination` for which `is_free` holds; `None` when none of the range does, each
    /// having been asked for once.
    pub(crate) fn next(&mut self, destination: &Destination, mut is_free: impl FnMut(u16) -> bool) -> Option<u16> {
        let Destination { local, remote, remote_port } = destination;
        let (local, remote, remote_port) = (local.octets(), remote.octets(), remote_port.to_be_bytes());
        let parts: [&[u8]; 3] = [&local, &remote, &remote_port];
        let index = usize::try_from(self.counter.hash(&parts) % COUNTERS as u64).expect("below 4096");
        let counter = &mut self.counters[index];
        let offset = self.offset.hash(&parts) >> 1;
        let start = offset + u64::from(*counter);
        for tries in 0..u64::from(self.count) {
            *counter = counter.wrapping_add(1);
            let step = (start + tries) % u64::from(self.count);
            let port = u16::try_from(u64::from(self.first) + step).expect("within a range of ports");
            if is_free(port) {
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(number: u32) -> Destination {
        let remote = Address::new(std::net::Ipv4Addr::from(number).into());
        Destination { local: Address::new([10, 0, 0, 1].into()), remote, remote_port: 80 }
    }

    fn ports(range: RangeInclusive<u16>) -> Ports {
        Ports::new(&range, &Secrets::new([3; 32]))
    }

    #[test]
    fn one_destination_sees_every_port_once_before_one_comes_again() {
        let mut ports = ports(40_000..=40_099);
        let seen: std::collections::BTreeSet<u16> = (0..100).filter_map(|_| ports.next(&destination(1), |_| true)).collect();
        assert_eq!((seen.len(), seen.first(), seen.last()), (100, Some(&40_000), Some(&40_099)));
    }

    /// R6056-4.
    #[test]
    fn the_last_free_port_is_found_and_none_is_an_answer() {
        let mut ports = ports(32_768..=60_999);
        for number in 0..20 {
            assert_eq!(ports.next(&destination(number), |port| port == 50_000), Some(50_000));
        }
        assert_eq!(ports.next(&destination(1), |_| false), None);
        let mut empty = Ports::new(&RangeInclusive::new(2, 1), &Secrets::new([3; 32]));
        assert_eq!(empty.next(&destination(1), |_| true), None);
    }

    #[test]
    fn the_whole_range_of_ports_is_a_range() {
        let mut ports = ports(0..=u16::MAX);
        assert_eq!(ports.next(&destination(1), |port| port == u16::MAX), Some(u16::MAX));
    }

    /// R6056-2. Chi-square over 64 bins of the first port towards 6,400 destinations: 63 degrees of freedom, above 103.4 with probability 0.001.
    #[test]
    fn first_ports_are_spread_evenly() {
        let mut ports = ports(32_768..=32_768 + 64 * 440 - 1);
        let mut bins = [0_i64; 64];
        for number in 0..6400 {
            let port = ports.next(&destination(number), |_| true).expect("all are free");
            bins[usize::from(port - 32_768) / 440] += 1;
        }
        let chi_square: i64 = bins.iter().map(|count| (count - 100) * (count - 100)).sum::<i64>() / 100;
        assert!(chi_square < 104, "{chi_square}");
    }
}
