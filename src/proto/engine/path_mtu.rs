//! How long packets to a destination may be: what routers on the way said, for as long as it is believed (RFC 1191, RFC 8201).
//!
//! A report counts only if it quotes what is in flight on a connection of ours, and lowers what was believed before (RFC 5927 §4.1, §7.1).
//! The connection that it quotes sends anew at once; the others to that destination find the new value with their next segment. What a
//! router said is forgotten after ten minutes, so that a path that became wider is found again. It must not know what a connection does with
//! a smaller segment.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use super::Engine;
use super::slot::{Slot, Way};
use crate::proto::Instant;
use crate::proto::random::TableHash;
use crate::proto::tcp::connection::Credit;
use crate::proto::wire::Address;
use crate::proto::wire::icmp::ErrorReport;

/// The destinations to which packets must be shorter than the link's MTU.
#[derive(Debug)]
pub(super) struct PathMtus {
    known: HashMap<Address, Known, TableHash>,
    /// The same destinations, the one that was told of longest ago in front.
    order: VecDeque<Address>,
}

/// What a router said.
#[derive(Clone, Copy, Debug)]
struct Known {
    mtu: u16,
    until: Instant,
}

/// Whether another destination had to go for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Eviction {
    None,
    Oldest,
}

impl PathMtus {
    pub(super) fn new(hash: TableHash) -> Self {
        Self { known: HashMap::with_hasher(hash), order: VecDeque::new() }
    }

    /// The MTU of the path to `destination` in bytes, if a router told of one that is less than its link's.
    pub(super) fn of(&self, now: Instant, destination: Address) -> Option<u16> {
        // Most hosts never hear of one: no hash for them.
        if self.known.is_empty() {
            return None;
        }
        self.known.get(&destination).filter(|known| now < known.until).map(|known| known.mtu)
    }

    /// From now on and for ten minutes, packets to `destination` have at most `mtu` bytes.
    fn set(&mut self, now: Instant, destination: Address, mtu: u16) -> Eviction {
        if self.known.insert(destination, Known { mtu, until: now + EXPIRY }).is_some() {
            self.order.retain(|other| *other != destination);
        }
        self.order.push_back(destination);
        if self.order.len() <= DESTINATIONS_MAX {
            return Eviction::None;
        }
        let Some(oldest) = self.order.pop_front() else { return Eviction::None };
        let alive = self.known.remove(&oldest).is_some_and(|known| now < known.until);
        if alive { Eviction::Oldest } else { Eviction::None }
    }
}

impl Engine {
    /// A router says that a segment of the socket in slot `index` is longer than its next link carries.
    pub(super) fn receive_too_big(&mut self, index: u32, report: &ErrorReport, mtu: Option<u16>) -> Credit {
        let entry = &self.sockets[index as usize];
        let (remote, way) = (report.quoted.remote, entry.way);
        let in_flight = match &entry.slot {
            Slot::Connection(connection) => connection.is_in_flight(report.seq),
            Slot::Opening(opening) => opening.iss() == report.seq,
            Slot::Listener(_) | Slot::Remains(_) => false,
        };
        let told = mtu.unwrap_or_else(|| plateau_below(report.packet_len));
        let Some(mtu) = acceptable(told, remote).filter(|mtu| in_flight && self.is_lower(*mtu, remote, way)) else {
            return Credit::Refused;
        };
        self.stats.path_mtu_updates += 1;
        self.stats.path_mtu_evictions += u64::from(self.path_mtus.set(self.now, remote, mtu) == Eviction::Oldest);
        let path = self.path_to(remote, way);
        match &mut self.sockets[index as usize].slot {
            Slot::Connection(connection) => connection.on_too_big(self.now, path),
            Slot::Opening(opening) => opening.set_path(path),
            Slot::Listener(_) | Slot::Remains(_) => {}
        }
        self.settle(index);
        Credit::Given
    }

    /// Before the socket in slot `index` sends: what is known of its path now, be it less or, after ten minutes, more.
    pub(super) fn refresh_path(&mut self, index: u32, way: Way) {
        if self.path_mtus.known.is_empty() {
            return;
        }
        let remote = match &self.sockets[index as usize].slot {
            Slot::Connection(connection) => connection.tuple().remote,
            Slot::Opening(opening) => opening.tuple().remote,
            Slot::Listener(_) | Slot::Remains(_) => return,
        };
        let path = self.path_to(remote, way);
        match &mut self.sockets[index as usize].slot {
            Slot::Connection(connection) => connection.set_path(path),
            Slot::Opening(opening) => opening.set_path(path),
            Slot::Listener(_) | Slot::Remains(_) => {}
        }
    }

    /// True if packets to `remote` are longer than that now (RFC 8201 §4: a report never raises).
    fn is_lower(&self, mtu: u16, remote: Address, way: Way) -> bool {
        let Some(link) = self.link.filter(|_| matches!(way, Way::Link(_))) else { return false };
        mtu < self.path_mtus.of(self.now, remote).map_or(link.mtu, |known| known.min(link.mtu))
    }
}

/// What is made of an MTU that was told: IPv6 has a least one, and what is below it a lie; for IPv4 there is the least that we go down to.
fn acceptable(told: u16, remote: Address) -> Option<u16> {
    if remote.is_v4() { Some(told.max(IPV4_MIN)) } else { (told >= IPV6_MIN).then_some(told) }
}

/// What a router that does not tell its MTU probably has, when a packet of `len` bytes was too long for it.
fn plateau_below(len: u16) -> u16 {
    PLATEAUS.into_iter().find(|plateau| *plateau < len).unwrap_or(IPV4_MIN)
}

/// For how many destinations a path MTU is kept: as many as neighbours. Each takes about 64 bytes.
const DESTINATIONS_MAX: usize = 1_024;

/// For how long a router is believed: RFC 1191 §6.3 and RFC 8201 §5.3 name ten minutes; Linux's `net.ipv4.route.mtu_expires`.
const EXPIRY: Duration = Duration::from_secs(600);

/// The least path MTU of IPv4 in bytes: Linux's `net.ipv4.route.min_pmtu`. Whoever forges reports cannot make segments tiny.
const IPV4_MIN: u16 = 552;

/// The least MTU of any IPv6 link in bytes (RFC 8200 §5); a report of less is discarded (RFC 8201 §4).
const IPV6_MIN: u16 = 1_280;

/// MTUs of common links in bytes (RFC 1191 §7.1), down to where [`IPV4_MIN`] takes over.
const PLATEAUS: [u16; 8] = [65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::random::Secrets;

    const NOW: Instant = Instant::from_nanos(1_000);

    fn host(number: u32) -> Address {
        Address::new(std::net::Ipv4Addr::from_bits(number).into())
    }

    fn empty() -> PathMtus {
        PathMtus::new(Secrets::new([7; 32]).table_hash("path MTUs"))
    }

    #[test]
    fn it_is_forgotten_after_ten_minutes() {
        let mut mtus = empty();
        assert_eq!(mtus.set(NOW, host(1), 1_400), Eviction::None);
        assert_eq!(mtus.of(NOW + (EXPIRY - Duration::from_nanos(1)), host(1)), Some(1_400));
        assert_eq!((mtus.of(NOW + EXPIRY, host(1)), mtus.of(NOW, host(2))), (None, None));
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes() {
        let mut mtus = empty();
        let evictions = (0..=1_024).filter(|number| mtus.set(NOW, host(*number), 1_400) == Eviction::Oldest).count();
        assert_eq!((evictions, mtus.known.len(), mtus.order.len()), (1, DESTINATIONS_MAX, DESTINATIONS_MAX));
        assert_eq!((mtus.of(NOW, host(0)), mtus.of(NOW, host(1))), (None, Some(1_400)));
        assert_eq!(mtus.set(NOW, host(1), 1_300), Eviction::None, "a value that is known is replaced");
        assert_eq!(mtus.set(NOW, host(5_000), 1_400), Eviction::Oldest);
        assert_eq!((mtus.of(NOW, host(1)), mtus.of(NOW, host(2))), (Some(1_300), None));
        assert_eq!(mtus.set(NOW + EXPIRY, host(5_001), 1_400), Eviction::None, "the oldest had lapsed");
    }

    #[test]
    fn floors_and_plateaus() {
        let (v4, v6) = (host(1), Address::new("fd09::1".parse().expect("a literal")));
        assert_eq!((acceptable(68, v4), acceptable(552, v4), acceptable(1_400, v4)), (Some(552), Some(552), Some(1_400)));
        assert_eq!((acceptable(1_279, v6), acceptable(1_280, v6)), (None, Some(1_280)));
        assert_eq!([65_535, 9_000, 1_500, 1_492, 1_006, 0].map(plateau_below), [32_000, 8_166, 1_492, 1_006, 552, 552]);
    }
}
