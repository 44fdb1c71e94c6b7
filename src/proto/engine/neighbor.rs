//! Who has which Ethernet address: the neighbour cache for ARP and NDP (RFC 826, RFC 4861 §7, RFC 6583).
//!
//! ```text
//!             resolve                 answer                  30 s            resolve
//!   (nothing) --------> Incomplete ------------> Reachable ----------> Stale ---------> Probing
//!                        |  3 questions, no answer   ^  answer, or progress of TCP  |     |
//!                        v                           +------------------------------+-----+
//!                      Failed (1 s)  <------------------------------------------------ 3 questions, no answer
//! ```
//!
//! A hostile link is assumed. Only an address that this host asked for enters the table, a known one changes at most once a second, and
//! unanswered questions may fill a quarter of it. Solicitations, failures and those who wait leave as values; frames are built elsewhere.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use crate::proto::link::MacAddress;
use crate::proto::random::TableHash;
use crate::proto::time::Instant;
use crate::proto::wire::{Address, arp, ndp};

/// How many neighbours are known at most: Linux's `gc_thresh3`.
pub(crate) const ENTRIES_MAX: usize = 1024;

/// How many of them may be questions without an answer, so that a scan of an empty prefix evicts nobody.
pub(crate) const INCOMPLETE_MAX: usize = ENTRIES_MAX / 4;

/// How many sockets may wait for one neighbour. One more is not woken by the answer, but by its own retransmission timer.
pub(crate) const WAITERS_MAX: usize = 1024;

/// How many questions, and how many failures, may lie about for want of somebody who takes them.
const OUTPUTS_MAX: usize = ENTRIES_MAX;

/// How long an answer counts: RFC 4861's `REACHABLE_TIME`.
const REACHABLE_TIME: Duration = Duration::from_secs(30);

/// How long an Ethernet address is protected from change: Linux's `locktime`.
const LOCK_TIME: Duration = Duration::from_secs(1);

/// How long a failure is remembered, unless the neighbour was known before.
const FAILED_TIME: Duration = Duration::from_secs(1);

/// How often a confirmation by TCP is written down: it would cost a store per ACK otherwise.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Resolution {
    /// Nothing, and the table is too full of questions to ask. Whoever asks is to try again by its own timer.
    Busy,
    /// It does not answer.
    Failed,
    /// It has been asked.
    Pending,
    /// Its Ethernet address.
    Resolved(MacAddress),
}

/// What somebody says about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The neighbour.
    pub(crate) address: Address,
    /// Its Ethernet address; an advertisement may leave it out.
    pub(crate) mac: Option<MacAddress>,
    /// It answers a question of ours.
    pub(crate) solicited: bool,
    /// It replaces another Ethernet address.
    pub(crate) overrides: bool,
}

/// A question to be sent: `unicast` to who had the address last, else to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Solicit {
    /// The address in question.
    pub(crate) target: Address,
    /// Whom to ask; `None` for all.
    pub(crate) unicast: Option<MacAddress>,
}

/// A neighbour that did not answer, and who waited for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The neighbour.
    pub(crate) address: Address,
    /// Those who [waited](Cache::wait).
    pub(crate) waiters: Vec<u32>,
}

/// What happened, and how often a bound bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Questions that left.
    pub solicitations: u64,
    /// Neighbours that did not answer.
    pub failures: u64,
    /// Claims about addresses that nobody asked for.
    pub unsolicited: u64,
    /// Changes of an Ethernet address that came within its lock time, or without the right to override.
    pub changes_refused: u64,
    /// Neighbours that were forgotten for others.
    pub evictions: u64,
    /// Questions that were not asked because 256 are unanswered.
    pub busy: u64,
    /// Waiters beyond 1,024.
    pub waiters_refused: u64,
    /// Questions and failures that nobody took in time.
    pub outputs_lost: u64,
}

/// The neighbours of one link.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: Slab<Entry>,
    index: HashTable<usize>,
    hash: TableHash,
    /// Time between two questions about one address.
    interval: Duration,
    /// Questions after which a neighbour counts as gone.
    tries: u32,
    incomplete: usize,
    /// Not later than the first question that is due.
    deadline: Option<Instant>,
    /// Never evicted: the gateways.
    pinned: [Option<Address>; 2],
    solicitations: VecDeque<Solicit>,
    failures: VecDeque<Failure>,
    counters: Counters,
}

#[derive(Debug)]
struct Entry {
    address: Address,
    state: State,
    /// When the Ethernet address was last changed.
    changed_at: Instant,
    /// When it was last asked for by this host.
    used_at: Instant,
    waiters: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Incomplete { asked: Asked },
    Reachable { mac: MacAddress, confirmed_at: Instant },
    Stale { mac: MacAddress },
    Probing { mac: MacAddress, asked: Asked },
    Failed { until: Instant },
}

/// Questions so far, and when the next one is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    times: u32,
    next_at: Instant,
}

impl State {
    const fn mac(self) -> Option<MacAddress> {
        match self {
            Self::Reachable { mac, .. } | Self::Stale { mac } | Self::Probing { mac, .. } => Some(mac),
            Self::Incomplete { .. } | Self::Failed { .. } => None,
        }
    }

    const fn asked(self) -> Option<Asked> {
        match self {
            Self::Incomplete { asked } | Self::Probing { asked, .. } => Some(asked),
            Self::Reachable { .. } | Self::Stale { .. } | Self::Failed { .. } => None,
        }
    }
}

impl Claim {
    /// What an ARP packet says about its sender. A reply is taken for an answer: whether it was asked for is known to the cache.
    pub(crate) const fn of_arp(packet: &arp::Packet) -> Self {
        let solicited = matches!(packet.operation, arp::Operation::Reply);
        Self { address: Address::new(std::net::IpAddr::V4(packet.sender)), mac: Some(packet.sender_mac), solicited, overrides: true }
    }

    /// What a neighbour advertisement says about its target.
    pub(crate) const fn of_advertisement(advertisement: &ndp::Advertisement) -> Self {
        let ndp::Advertisement { target, router: _, solicited, overrides, target_mac } = *advertisement;
        Self { address: target, mac: target_mac, solicited, overrides }
    }

    /// What a neighbour solicitation from `source` says about its sender.
    pub(crate) const fn of_solicitation(source: Address, solicitation: &ndp::Solicitation) -> Self {
        Self { address: source, mac: solicitation.source_mac, solicited: false, overrides: true }
    }
}

impl Cache {
    /// An empty cache that asks `tries` times, every `interval`.
    pub(crate) fn new(hash: TableHash, interval: Duration, tries: u32) -> Self {
        Self {
            entries: Slab::new(),
            index: HashTable::new(),
            hash,
            interval,
            tries,
            incomplete: 0,
            deadline: None,
            pinned: [None; 2],
            solicitations: VecDeque::new(),
            failures: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Where to send a packet for `address`. Asks if that is not known, and again if it has not been confirmed for a while.
    pub(crate) fn resolve(&mut self, now: Instant, address: Address) -> Resolution {
        let Some(key) = self.find(address) else { return self.ask_first(now, address) };
        let entry = &mut self.entries[key];
        entry.used_at = now;
        match entry.state {
            State::Reachable { mac, confirmed_at } if now - confirmed_at < REACHABLE_TIME => Resolution::Resolved(mac),
            State::Reachable { mac, .. } | State::Stale { mac } => {
                entry.state = State::Probing { mac, asked: Asked { times: 1, next_at: now + self.interval } };
                self.solicit(now + self.interval, Solicit { target: address, unicast: Some(mac) });
                Resolution::Resolved(mac)
            }
            State::Probing { mac, .. } => Resolution::Resolved(mac),
            State::Incomplete { .. } => Resolution::Pending,
            State::Failed { until } if now < until => Resolution::Failed,
            State::Failed { .. } => {
                self.remove(key);
                self.ask_first(now, address)
            }
        }
    }

    /// Notes that `waiter` wants to know when a pending `address` is resolved or fails.
    pub(crate) fn wait(&mut self, address: Address, waiter: u32) {
        let Some(entry) = self.find(address).and_then(|key| self.entries.get_mut(key)) else { return };
        if !matches!(entry.state, State::Incomplete { .. }) || entry.waiters.contains(&waiter) {
            return;
        }
        if entry.waiters.len() == WAITERS_MAX {
            self.counters.waiters_refused += 1;
        } else {
            entry.waiters.push(waiter);
        }
    }

    /// Takes what somebody says about a neighbour (RFC 4861 §7.2.5), and returns those who waited to hear it.
    pub(crate) fn on_claim(&mut self, now: Instant, claim: Claim) -> Vec<u32> {
        let Some(key) = self.find(claim.address) else {
            self.counters.unsolicited += 1;
            return Vec::new();
        };
        let entry = &mut self.entries[key];
        let fresh = |mac| if claim.solicited { State::Reachable { mac, confirmed_at: now } } else { State::Stale { mac } };
        match (entry.state, entry.state.mac(), claim.mac) {
            (State::Incomplete { .. }, _, Some(mac)) => {
                entry.state = fresh(mac);
                entry.changed_at = now;
                self.incomplete -= 1;
                return std::mem::take(&mut entry.waiters);
            }
            (State::Failed { .. }, _, Some(mac)) => {
                entry.state = fresh(mac);
                entry.changed_at = now;
            }
            // An advertisement may leave out what the question's Ethernet header said already.
            (_, Some(known), mac) if mac.is_none_or(|mac| mac == known) => {
                if claim.solicited {
                    entry.state = fresh(known);
                }
            }
            (_, Some(_), Some(mac)) if claim.overrides && now - entry.changed_at >= LOCK_TIME => {
                entry.state = fresh(mac);
                entry.changed_at = now;
            }
            (_, Some(_), _) => self.counters.changes_refused += 1,
            (_, None, _) => self.counters.unsolicited += 1,
        }
        Vec::new()
    }

    /// Notes that packets arrive: TCP's forward progress spares a question (RFC 4861 §7.3.1).
    pub(crate) fn confirm(&mut self, now: Instant, address: Address) {
        let Some(entry) = self.find(address).and_then(|key| self.entries.get_mut(key)) else { return };
        match entry.state {
            State::Reachable { confirmed_at, .. } if now - confirmed_at < CONFIRM_INTERVAL => (),
            State::Reachable { mac, .. } | State::Stale { mac } | State::Probing { mac, .. } => {
                entry.state = State::Reachable { mac, confirmed_at: now };
            }
            State::Incomplete { .. } | State::Failed { .. } => (),
        }
    }

    /// Notes that packets to `address` seem to get nowhere: it is asked with the next packet (RFC 9293 MUST-20).
    pub(crate) fn suspect(&mut self, address: Address) {
        let Some(entry) = self.find(address).and_then(|key| self.entries.get_mut(key)) else { return };
        if let State::Reachable { mac, .. } = entry.state {
            entry.state = State::Stale { mac };
        }
    }

    /// True if [`take_solicit`](Self::take_solicit) has a question to give.
    pub(crate) fn has_solicitations(&self) -> bool {
        !self.solicitations.is_empty()
    }

    /// Spares the gateway of one family from eviction.
    pub(crate) fn pin(&mut self, gateway: Address) {
        self.pinned[usize::from(gateway.is_v4())] = Some(gateway);
    }

    /// Forgets everything but the gateways' names: the link has changed. Those who wait find out by their own timers.
    pub(crate) fn clear(&mut self) {
        let Self { entries, index, incomplete, deadline, solicitations, failures, .. } = self;
        entries.clear();
        index.clear();
        *incomplete = 0;
        *deadline = None;
        solicitations.clear();
        failures.clear();
    }

    /// Asks what is due to be asked again, and gives up on who was asked often enough.
    pub(crate) fn advance(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.deadline = None;
        for (_, entry) in &mut self.entries {
            let Some(mut asked) = entry.state.asked() else { continue };
            if asked.next_at <= now {
                if asked.times >= self.tries {
                    self.incomplete -= usize::from(matches!(entry.state, State::Incomplete { .. }));
                    // Who was known may have another Ethernet address by now: the next packet asks all.
                    let pause = if entry.state.mac().is_some() { Duration::ZERO } else { FAILED_TIME };
                    entry.state = State::Failed { until: now + pause };
                    self.counters.failures += 1;
                    let failure = Failure { address: entry.address, waiters: std::mem::take(&mut entry.waiters) };
                    push_bounded(&mut self.failures, failure, &mut self.counters);
                    continue;
                }
                asked = Asked { times: asked.times + 1, next_at: now + self.interval };
                let unicast = entry.state.mac();
                entry.state = match entry.state {
                    State::Probing { mac, .. } => State::Probing { mac, asked },
                    _ => State::Incomplete { asked },
                };
                self.counters.solicitations += 1;
                push_bounded(&mut self.solicitations, Solicit { target: entry.address, unicast }, &mut self.counters);
            }
            self.deadline = Some(self.deadline.map_or(asked.next_at, |deadline| deadline.min(asked.next_at)));
        }
    }

    /// When [`advance`](Self::advance) is next useful.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The next question to be sent.
    pub(crate) fn take_solicit(&mut self) -> Option<Solicit> {
        self.solicitations.pop_front()
    }

    /// The next neighbour that did not answer.
    pub(crate) fn take_failure(&mut self) -> Option<Failure> {
        self.failures.pop_front()
    }

    pub(crate) const fn counters(&self) -> &Counters {
        &self.counters
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn find(&self, address: Address) -> Option<usize> {
        self.index.find(self.hash.hash_one(address), |key| self.entries[*key].address == address).copied()
    }

    /// Makes an entry for an address of which nothing is known.
    fn ask_first(&mut self, now: Instant, address: Address) -> Resolution {
        if self.incomplete == INCOMPLETE_MAX || !self.make_room() {
            self.counters.busy += 1;
            return Resolution::Busy;
        }
        let asked = Asked { times: 1, next_at: now + self.interval };
        let entry = Entry { address, state: State::Incomplete { asked }, changed_at: now, used_at: now, waiters: Vec::new() };
        let key = self.entries.insert(entry);
        let Self { entries, index, hash, .. } = self;
        index.insert_unique(hash.hash_one(address), key, |key| hash.hash_one(entries[*key].address));
        self.incomplete += 1;
        self.solicit(asked.next_at, Solicit { target: address, unicast: None });
        Resolution::Pending
    }

    fn solicit(&mut self, next_at: Instant, solicit: Solicit) {
        self.deadline = Some(self.deadline.map_or(next_at, |deadline| deadline.min(next_at)));
        self.counters.solicitations += 1;
        push_bounded(&mut self.solicitations, solicit, &mut self.counters);
    }

    /// If the table is full, evicts a failure, or else the entry that has been of no use for longest. Open questions and gateways stay.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < ENTRIES_MAX {
            return true;
        }
        let pinned = self.pinned;
        let may_go = |entry: &Entry| !matches!(entry.state, State::Incomplete { .. }) && !pinned.contains(&Some(entry.address));
        let worth = |entry: &Entry| (!matches!(entry.state, State::Failed { .. }), entry.used_at);
        let least = self.entries.iter().filter(|(_, entry)| may_go(entry)).min_by_key(|(_, entry)| worth(entry)).map(|(key, _)| key);
        least.is_some_and(|key| {
            self.remove(key);
            self.counters.evictions += 1;
            true
        })
    }

    /// Removes an entry that is no open question.
    fn remove(&mut self, key: usize) {
        let entry = self.entries.remove(key);
        if let Ok(found) = self.index.find_entry(self.hash.hash_one(entry.address), |other| *other == key) {
            found.remove();
        }
    }
}

fn push_bounded<T>(outputs: &mut VecDeque<T>, output: T, counters: &mut Counters) {
    if outputs.len() < OUTPUTS_MAX {
        outputs.push_back(output);
    } else {
        counters.outputs_lost += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::random::Secrets;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
    const SECOND: Duration = Duration::from_secs(1);

    fn cache() -> Cache {
        Cache::new(Secrets::new([7; 32]).table_hash("neighbors"), SECOND, 3)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(1_000_000_000) + Duration::from_millis(millis)
    }

    fn host(index: u16) -> Address {
        let [high, low] = index.to_be_bytes();
        Address::new([10, 9, high, low].into())
    }

    fn answer(address: Address, mac: MacAddress) -> Claim {
        Claim { address, mac: Some(mac), solicited: true, overrides: true }
    }

    fn news(address: Address, mac: MacAddress) -> Claim {
        Claim { solicited: false, ..answer(address, mac) }
    }

    /// A cache that knows host 1, since time zero.
    fn resolved() -> Cache {
        let mut cache = cache();
        assert_eq!(cache.resolve(at(0), host(1)), Resolution::Pending);
        assert_eq!(cache.take_solicit(), Some(Solicit { target: host(1), unicast: None }));
        assert_eq!(cache.on_claim(at(0), answer(host(1), MAC)), []);
        assert_eq!(cache.resolve(at(0), host(1)), Resolution::Resolved(MAC));
        cache
    }

    #[test]
    fn an_answer_wakes_who_waits() {
        let mut cache = cache();
        assert_eq!(cache.resolve(at(0), host(1)), Resolution::Pending);
        for waiter in [4, 5, 4] {
            cache.wait(host(1), waiter);
        }
        assert_eq!(cache.on_claim(at(5), answer(host(1), MAC)), [4, 5]);
        assert_eq!(cache.resolve(at(5), host(1)), Resolution::Resolved(MAC));
        assert_eq!(cache.on_claim(at(6), answer(host(1), MAC)), []);
    }

    #[test]
    fn silence_fails_after_three_questions() {
        let mut cache = cache();
        assert_eq!(cache.resolve(at(0), host(1)), Resolution::Pending);
        cache.wait(host(1), 4);
        let mut asked_at = vec![];
        for millis in (0..4000).step_by(100) {
            cache.advance(at(millis));
            assert!(cache.deadline().is_none_or(|deadline| deadline > at(millis)));
            while let Some(solicit) = cache.take_solicit() {
                assert_eq!(solicit, Solicit { target: host(1), unicast: None });
                asked_at.push(millis);
            }
            if millis < 3000 {
                assert_eq!((cache.resolve(at(millis), host(1)), cache.take_failure()), (Resolution::Pending, None));
            }
            if millis == 3000 {
                assert_eq!(cache.take_failure(), Some(Failure { address: host(1), waiters: vec![4] }));
                assert_eq!(cache.resolve(at(millis), host(1)), Resolution::Failed);
            }
        }
        assert_eq!((asked_at, cache.deadline()), (vec![0, 1000, 2000], None));
        assert_eq!(cache.resolve(at(3999), host(1)), Resolution::Failed);
        assert_eq!(cache.resolve(at(4000), host(1)), Resolution::Pending);
    }

    #[test]
    fn a_stale_neighbor_is_used_while_it_is_asked() {
        let mut cache = resolved();
        assert_eq!(cache.resolve(at(29_999), host(1)), Resolution::Resolved(MAC));
        assert_eq!(cache.take_solicit(), None);
        assert_eq!(cache.resolve(at(30_000), host(1)), Resolution::Resolved(MAC));
        assert_eq!(cache.take_solicit(), Some(Solicit { target: host(1), unicast: Some(MAC) }));
        assert_eq!(cache.resolve(at(30_001), host(1)), Resolution::Resolved(MAC));
        assert_eq!(cache.take_solicit(), None);
        let _ = cache.on_claim(at(30_002), answer(host(1), MAC));
        cache.advance(at(31_500));
        assert_eq!((cache.take_solicit(), cache.deadline()), (None, None));
        assert_eq!(cache.resolve(at(60_001), host(1)), Resolution::Resolved(MAC));
        assert_eq!(cache.take_solicit(), None);
    }

    #[test]
    fn a_neighbor_that_went_away_fails() {
        let mut cache = resolved();
        assert_eq!(cache.resolve(at(30_000), host(1)), Resolution::Resolved(MAC));
        for millis in [31_000, 32_000, 33_000] {
            cache.advance(at(millis));
        }
        assert_eq!(std::iter::from_fn(|| cache.take_solicit()).count(), 3);
        assert_eq!(cache.take_failure(), Some(Failure { address: host(1), waiters: vec![] }));
        assert_eq!(cache.resolve(at(33_000), host(1)), Resolution::Pending);
        assert_eq!(cache.take_solicit(), Some(Solicit { target: host(1), unicast: None }), "it may have moved");
    }

    #[test]
    fn progress_spares_the_question() {
        let mut cache = resolved();
        cache.confirm(at(20_000), host(1));
        assert_eq!(cache.resolve(at(49_999), host(1)), Resolution::Resolved(MAC));
        assert_eq!(cache.take_solicit(), None);
        cache.confirm(at(50_000), host(2));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn nobody_enters_unasked() {
        let mut cache = resolved();
        assert_eq!(cache.on_claim(at(1), answer(host(2), OTHER)), []);
        assert_eq!(cache.on_claim(at(1), news(host(3), OTHER)), []);
        assert_eq!((cache.len(), cache.counters().unsolicited), (1, 2));
    }

    #[test]
    fn a_change_waits_for_the_lock_time() {
        let mut cache = resolved();
        let _ = cache.on_claim(at(999), answer(host(1), OTHER));
        assert_eq!((cache.resolve(at(999), host(1)), cache.counters().changes_refused), (Resolution::Resolved(MAC), 1));
        let _ = cache.on_claim(at(1000), Claim { overrides: false, ..answer(host(1), OTHER) });
        assert_eq!((cache.resolve(at(1000), host(1)), cache.counters().changes_refused), (Resolution::Resolved(MAC), 2));
        // A gratuitous ARP moves an address to another machine, which is asked at once.
        let _ = cache.on_claim(at(1000), news(host(1), OTHER));
        assert_eq!(cache.resolve(at(1000), host(1)), Resolution::Resolved(OTHER));
        assert_eq!(cache.take_solicit(), Some(Solicit { target: host(1), unicast: Some(OTHER) }));
        let _ = cache.on_claim(at(1100), answer(host(1), MAC));
        assert_eq!(cache.resolve(at(1100), host(1)), Resolution::Resolved(OTHER));
    }

    #[test]
    fn an_advertisement_without_an_address_confirms_only_what_is_known() {
        let mut cache = resolved();
        let confirmation = Claim { mac: None, ..answer(host(1), MAC) };
        let _ = cache.on_claim(at(20_000), confirmation);
        assert_eq!(cache.resolve(at(49_999), host(1)), Resolution::Resolved(MAC));
        assert_eq!(cache.take_solicit(), None);
        assert_eq!(cache.resolve(at(0), host(2)), Resolution::Pending);
        let _ = cache.on_claim(at(1), Claim { address: host(2), ..confirmation });
        assert_eq!(cache.resolve(at(2), host(2)), Resolution::Pending);
    }

    #[test]
    fn questions_fill_a_quarter_of_the_table() {
        let mut cache = resolved();
        let outcomes: Vec<Resolution> = (2..1000).map(|index| cache.resolve(at(1), host(index))).collect();
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Resolution::Pending).count(), INCOMPLETE_MAX);
        assert_eq!(cache.counters().busy, 998 - INCOMPLETE_MAX as u64);
        assert_eq!((cache.len(), cache.resolve(at(1), host(1))), (INCOMPLETE_MAX + 1, Resolution::Resolved(MAC)));
    }

    #[test]
    fn a_full_table_forgets_the_least_used_but_no_gateway() {
        let mut cache = resolved();
        cache.pin(host(1));
        for index in 2..2000 {
            let now = at(u64::from(index));
            assert_eq!(cache.resolve(now, host(index)), Resolution::Pending);
            let _ = cache.on_claim(now, answer(host(index), OTHER));
        }
        assert_eq!((cache.len(), cache.counters().evictions), (ENTRIES_MAX, 1999 - ENTRIES_MAX as u64));
        assert_eq!(cache.resolve(at(2000), host(1)), Resolution::Resolved(MAC));
        assert_eq!(cache.resolve(at(2000), host(1999)), Resolution::Resolved(OTHER));
        assert_eq!(cache.resolve(at(2000), host(2)), Resolution::Pending);
    }

    #[test]
    fn a_scan_of_an_empty_prefix_evicts_nobody() {
        let mut cache = resolved();
        for index in 2..20_000 {
            let now = at(20 * u64::from(index));
            cache.advance(now);
            let _ = cache.resolve(now, host(index));
            while cache.take_solicit().is_some() || cache.take_failure().is_some() {}
        }
        assert!(cache.counters().evictions > 10_000);
        assert!(matches!(cache.find(host(1)).map(|key| cache.entries[key].state), Some(State::Reachable { mac: MAC, .. })));
    }

    #[test]
    fn outputs_that_nobody_takes_are_bounded() {
        let mut cache = cache();
        for index in 0..4000 {
            let _ = cache.resolve(at(100 * u64::from(index)), host(index));
            cache.advance(at(100 * u64::from(index)));
        }
        assert_eq!((cache.solicitations.len(), cache.failures.len()), (OUTPUTS_MAX, OUTPUTS_MAX));
        assert!(cache.counters().outputs_lost > 0);
    }

    #[test]
    fn waiters_are_bounded() {
        let mut cache = cache();
        assert_eq!(cache.resolve(at(0), host(1)), Resolution::Pending);
        for waiter in 0..=u32::try_from(WAITERS_MAX).expect("1024") {
            cache.wait(host(1), waiter);
        }
        assert_eq!(cache.counters().waiters_refused, 1);
        assert_eq!(cache.on_claim(at(0), answer(host(1), MAC)).len(), WAITERS_MAX);
    }

    proptest::proptest! {
        #[test]
        fn tables_agree_whatever_happens(steps in proptest::collection::vec((0u8..5, 0u16..600, 0u64..2000), 0..3000)) {
            let mut cache = cache();
            let mut now = at(0);
            let mut asked: Vec<(Address, Instant)> = vec![];
            for (action, index, millis) in steps {
                match action {
                    0 | 1 => drop(cache.resolve(now, host(index))),
                    2 => drop(cache.on_claim(now, answer(host(index), MacAddress([index.to_be_bytes()[1] & 0xfe; 6])))),
                    3 => cache.confirm(now, host(index)),
                    _ => {
                        now = now + Duration::from_millis(millis);
                        cache.advance(now);
                    }
                }
                while let Some(solicit) = cache.take_solicit() {
                    // At most one question per second to all about one address, whatever is resolved.
                    if solicit.unicast.is_none() {
                        let last = asked.iter().rposition(|(address, _)| *address == solicit.target).map(|at| asked.swap_remove(at).1);
                        proptest::prop_assert!(last.is_none_or(|last| now - last >= SECOND));
                        asked.push((solicit.target, now));
                    }
                }
                let incomplete = cache.entries.iter().filter(|(_, entry)| matches!(entry.state, State::Incomplete { .. })).count();
                proptest::prop_assert_eq!((cache.incomplete, cache.index.len()), (incomplete, cache.entries.len()));
                proptest::prop_assert!(incomplete <= INCOMPLETE_MAX && cache.entries.len() <= ENTRIES_MAX);
                let due = cache.entries.iter().filter_map(|(_, entry)| entry.state.asked()).map(|asked| asked.next_at).min();
                proptest::prop_assert!(due.is_none() || cache.deadline.is_some_and(|deadline| Some(deadline) <= due));
            }
        }
    }
}
