//! Our own addresses on a link that other hosts share: is one taken already, tell that it is here now, and what if somebody takes it
//! (RFC 4862 §5.4, RFC 5227 §2).
//!
//! ```text
//!   link up ──► Probing ── probes unanswered ──► Announcing ── said twice ──► Settled
//!                  │                                 └── somebody claims it: counted, answered once in 10 s ──┘
//!                  └── somebody has it ──► Duplicate, until the link comes up again
//! ```
//!
//! Nothing is sent from an address, and nothing taken in for it, before its probes went unanswered. It builds no frames and knows no routes.

use std::net::IpAddr;
use std::time::Duration;

use super::route::Cidr;
use crate::proto::Instant;
use crate::proto::link::MacAddress;
use crate::proto::wire::Address;

/// An address that another host on the link uses as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another host, with the Ethernet address {mac}, uses {address} already: give this stack a free address of the same network, or have \
     that host give it up: sudo ip address del {address} dev INTERFACE"
)]
#[non_exhaustive]
pub struct AddressConflict {
    /// The address.
    pub address: IpAddr,
    /// The other host's Ethernet address.
    pub mac: MacAddress,
}

/// How far [duplicate-address detection](super::Engine::detection) has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Detection {
    /// The addresses may be used, or at least one of them.
    Done,
    /// Nobody has answered yet.
    UnderWay,
    /// Other hosts have them all; this is the first.
    Failed(AddressConflict),
}

/// What may be done from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Standing {
    /// Everything.
    Assigned,
    /// Nothing yet.
    Tentative,
    /// Nothing: another host has it.
    Duplicate,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A question whether somebody has the address.
    Probe(Address),
    /// Nobody has: it is to be used, and announced.
    Assign(Address),
    /// It is to be announced once more.
    Announce(Address),
}

/// What follows from another host's claim to one of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Claimed {
    /// Nothing: it is not used.
    Ignored,
    /// It is theirs.
    Lost,
    /// It stays ours.
    Kept,
    /// It stays ours, and the link is to be told so.
    Defended,
}

/// The addresses of one host.
#[derive(Debug)]
pub(super) struct Addresses {
    entries: Vec<Entry>,
    probes: u32,
    interval: Duration,
    deadline: Option<Instant>,
    /// True while an address is tentative or a duplicate: spares everybody else a look at them.
    restricts: bool,
    news: Option<AddressConflict>,
}

#[derive(Debug)]
struct Entry {
    cidr: Cidr,
    state: State,
    defended_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Settled,
    Probing { times: u32, next_at: Instant },
    Announcing { times: u32, next_at: Instant },
    Duplicate(MacAddress),
}

impl Addresses {
    /// None yet. Each will be asked for `probes` times, and is ours when it is quiet for `interval` after the last.
    pub(super) const fn new(probes: u32, interval: Duration) -> Self {
        Self { entries: Vec::new(), probes, interval, deadline: None, restricts: false, news: None }
    }

    /// Adds an address, or changes its prefix length.
    pub(super) fn add(&mut self, cidr: Cidr) {
        match self.entries.iter_mut().find(|entry| entry.cidr.address() == cidr.address()) {
            Some(entry) => entry.cidr = cidr,
            None => self.entries.push(Entry { cidr, state: State::Settled, defended_at: None }),
        }
    }

    /// Forgets an address.
    pub(super) fn remove(&mut self, address: Address) {
        self.entries.retain(|entry| entry.cidr.address() != address.ip());
        self.review();
    }

    /// Begins the detection of one address.
    pub(super) fn probe(&mut self, now: Instant, address: Address) {
        for entry in self.entries.iter_mut().filter(|entry| entry.cidr.address() == address.ip()) {
            entry.state = State::Probing { times: 0, next_at: now };
        }
        self.review();
    }

    /// Begins the detection of all addresses, those that were lost included, which are returned.
    pub(super) fn probe_all(&mut self, now: Instant) -> Vec<Cidr> {
        let lost = self.entries.iter().filter(|entry| matches!(entry.state, State::Duplicate(_))).map(|entry| entry.cidr).collect();
        for entry in &mut self.entries {
            entry.state = State::Probing { times: 0, next_at: now };
        }
        self.review();
        lost
    }

    /// When [`take_due`](Self::take_due) has something next.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What is to be done now, one thing at a time.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return None;
        }
        let Self { probes, interval, .. } = *self;
        let entry = self.entries.iter_mut().find(|entry| entry.next_at().is_some_and(|at| at <= now))?;
        let address = Address::new(entry.cidr.address());
        let (state, due) = match entry.state {
            State::Probing { times, .. } if times < probes => {
                (State::Probing { times: times + 1, next_at: now + interval }, Due::Probe(address))
            }
            State::Probing { .. } => (State::Announcing { times: 1, next_at: now + ANNOUNCE_INTERVAL }, Due::Assign(address)),
            State::Announcing { times, .. } if times + 1 < ANNOUNCEMENTS => {
                (State::Announcing { times: times + 1, next_at: now + ANNOUNCE_INTERVAL }, Due::Announce(address))
            }
            State::Announcing { .. } | State::Settled | State::Duplicate(_) => (State::Settled, Due::Announce(address)),
        };
        entry.state = state;
        self.review();
        Some(due)
    }

    /// Another host says that it has, or wants, `address`.
    pub(super) fn on_claim(&mut self, now: Instant, address: Address, mac: MacAddress) -> Claimed {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.cidr.address() == address.ip()) else { return Claimed::Ignored };
        let claimed = match entry.state {
            State::Duplicate(_) => return Claimed::Ignored,
            State::Probing { .. } => {
                entry.state = State::Duplicate(mac);
                Claimed::Lost
            }
            State::Settled | State::Announcing { .. } if entry.defended_at.is_some_and(|at| now - at < DEFEND_INTERVAL) => Claimed::Kept,
            State::Settled | State::Announcing { .. } => {
                entry.defended_at = Some(now);
                Claimed::Defended
            }
        };
        if claimed != Claimed::Kept {
            self.news = Some(AddressConflict { address: address.ip(), mac });
        }
        self.review();
        claimed
    }

    /// The last conflict that its owner has not been told of.
    pub(super) const fn take_news(&mut self) -> Option<AddressConflict> {
        self.news.take()
    }

    /// True if an address is not assigned.
    pub(super) const fn restricts(&self) -> bool {
        self.restricts
    }

    /// What may be done from `address`. One that was never added, such as the loopback's, is assigned.
    pub(super) fn standing(&self, address: Address) -> Standing {
        let state = self.entries.iter().find(|entry| self.restricts && entry.cidr.address() == address.ip()).map(|entry| entry.state);
        match state {
            Some(State::Probing { .. }) => Standing::Tentative,
            Some(State::Duplicate(_)) => Standing::Duplicate,
            Some(State::Settled | State::Announcing { .. }) | None => Standing::Assigned,
        }
    }

    /// How far it has come with the addresses that `local` stands for.
    pub(super) fn detection(&self, local: IpAddr) -> Detection {
        let is_meant = |entry: &&Entry| match local {
            IpAddr::V4(local) if local.is_unspecified() => entry.cidr.address().is_ipv4(),
            IpAddr::V6(local) if local.is_unspecified() => true,
            local => entry.cidr.address() == local,
        };
        let meant = || self.entries.iter().filter(is_meant);
        if meant().any(|entry| matches!(entry.state, State::Probing { .. })) {
            return Detection::UnderWay;
        }
        let lost = |entry: &Entry| entry.conflict();
        match meant().map(lost).collect::<Option<Vec<_>>>().as_deref() {
            Some([first, ..]) => Detection::Failed(*first),
            Some([]) | None => Detection::Done,
        }
    }

    /// The first address that another host has.
    pub(super) fn duplicate(&self) -> Option<AddressConflict> {
        self.entries.iter().find_map(Entry::conflict)
    }

    fn review(&mut self) {
        self.deadline = self.entries.iter().filter_map(Entry::next_at).min();
        self.restricts = self.entries.iter().any(|entry| matches!(entry.state, State::Probing { .. } | State::Duplicate(_)));
    }
}

impl Entry {
    const fn next_at(&self) -> Option<Instant> {
        match self.state {
            State::Probing { next_at, .. } | State::Announcing { next_at, .. } => Some(next_at),
            State::Settled | State::Duplicate(_) => None,
        }
    }

    const fn conflict(&self) -> Option<AddressConflict> {
        match self.state {
            State::Duplicate(mac) => Some(AddressConflict { address: self.cidr.address(), mac }),
            State::Settled | State::Probing { .. } | State::Announcing { .. } => None,
        }
    }
}

/// How often an address is announced: RFC 5227's `ANNOUNCE_NUM`, at most RFC 4861's `MAX_NEIGHBOR_ADVERTISEMENT`.
const ANNOUNCEMENTS: u32 = 2;

/// Time between announcements: RFC 5227's `ANNOUNCE_INTERVAL`, at least RFC 4861's `RetransTimer`.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// Least time between two answers to claims: RFC 5227's `DEFEND_INTERVAL`.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(1_000_000_000) + Duration::from_millis(millis)
    }

    fn host(text: &str) -> Address {
        Address::new(text.parse().expect("a literal"))
    }

    fn addresses(cidrs: &[&str]) -> Addresses {
        let mut addresses = Addresses::new(2, Duration::from_millis(100));
        cidrs.iter().for_each(|cidr| addresses.add(cidr.parse().expect("a literal")));
        addresses
    }

    /// What is due until the end, with the milliseconds at which it is.
    fn run(addresses: &mut Addresses) -> Vec<(u64, Due)> {
        let mut seen = vec![];
        while let Some(deadline) = addresses.deadline() {
            while let Some(due) = addresses.take_due(deadline) {
                seen.push(((deadline - at(0)).as_millis().try_into().expect("seconds"), due));
            }
        }
        seen
    }

    #[test]
    fn silence_assigns_and_announces_twice() {
        let mut addresses = addresses(&["10.9.0.2/24"]);
        assert_eq!((addresses.deadline(), addresses.detection([0; 4].into())), (None, Detection::Done));
        assert_eq!(addresses.probe_all(at(0)), []);
        assert_eq!(addresses.standing(host("10.9.0.2")), Standing::Tentative);
        assert_eq!((addresses.standing(host("127.0.0.1")), addresses.detection([0; 4].into())), (Standing::Assigned, Detection::UnderWay));
        let own = host("10.9.0.2");
        let expected = [(0, Due::Probe(own)), (100, Due::Probe(own)), (200, Due::Assign(own)), (2200, Due::Announce(own))];
        assert_eq!(run(&mut addresses), expected);
        assert!(!addresses.restricts() && addresses.detection(own.ip()) == Detection::Done);
    }

    #[test]
    fn without_probes_it_is_assigned_at_once() {
        let mut addresses = Addresses::new(0, Duration::from_millis(100));
        addresses.add("10.9.0.2/24".parse().expect("a literal"));
        assert_eq!(addresses.probe_all(at(0)), []);
        assert_eq!(addresses.take_due(at(0)), Some(Due::Assign(host("10.9.0.2"))));
        assert!(!addresses.restricts());
    }

    #[test]
    fn a_claim_while_it_is_probed_loses_it_until_the_link_comes_up_again() {
        let mut addresses = addresses(&["10.9.0.2/24", "fd09::2/64"]);
        assert_eq!(addresses.probe_all(at(0)), []);
        assert_eq!(addresses.on_claim(at(1), host("10.9.0.2"), MAC), Claimed::Lost);
        assert_eq!(addresses.on_claim(at(2), host("10.9.0.2"), MAC), Claimed::Ignored);
        let conflict = AddressConflict { address: [10, 9, 0, 2].into(), mac: MAC };
        assert_eq!((addresses.take_news(), addresses.take_news()), (Some(conflict), None));
        assert!(run(&mut addresses).iter().all(|(_, due)| !matches!(due, Due::Assign(address) if address.is_v4())));
        assert_eq!((addresses.standing(host("10.9.0.2")), addresses.standing(host("fd09::2"))), (Standing::Duplicate, Standing::Assigned));
        assert_eq!((addresses.detection([0; 4].into()), addresses.duplicate()), (Detection::Failed(conflict), Some(conflict)));
        assert_eq!(addresses.detection([0; 16].into()), Detection::Done, "one is left");
        assert_eq!(addresses.probe_all(at(5000)), ["10.9.0.2/24".parse().expect("a literal")]);
        assert_eq!(addresses.standing(host("10.9.0.2")), Standing::Tentative);
    }

    #[test]
    fn an_assigned_address_is_defended_once_in_ten_seconds() {
        let mut addresses = addresses(&["10.9.0.2/24"]);
        let claims: Vec<_> = [0, 1, 9_999, 10_000, 10_001].map(|millis| addresses.on_claim(at(millis), host("10.9.0.2"), MAC)).into();
        assert_eq!(claims, [Claimed::Defended, Claimed::Kept, Claimed::Kept, Claimed::Defended, Claimed::Kept]);
        assert_eq!(addresses.on_claim(at(0), host("10.9.0.3"), MAC), Claimed::Ignored);
        addresses.remove(host("10.9.0.2"));
        assert_eq!(addresses.on_claim(at(30_000), host("10.9.0.2"), MAC), Claimed::Ignored);
    }
}
