//! The SYN cache: handshakes that a peer began, at most 96 bytes each, and nothing else until they complete (RFC 4987 §3.4).
//!
//! A record has no socket, no buffer and no task. The number of records is bounded over all listeners, and by each listener's backlog. When a
//! SYN,ACK is due again, [`pop_due`](SynCache::pop_due) says so; whether it is sent or the handshake given up is the engine's decision.

use slab::Slab;

use super::demux::Index;
use super::listener::ListenerId;
use super::wheel::{Timer, Wheel};
use crate::proto::Instant;
use crate::proto::tcp::negotiated::Negotiated;
use crate::proto::wire::{SeqNum, Tuple};

/// A handshake in SYN-RECEIVED.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfOpen {
    /// The connection's name.
    pub(crate) tuple: Tuple,
    /// Our initial sequence number.
    pub(crate) iss: SeqNum,
    /// The peer's initial sequence number.
    pub(crate) irs: SeqNum,
    /// TS.Recent; meaningless without timestamps.
    pub(crate) ts_recent: u32,
    /// Whose handshake it is.
    pub(crate) listener: ListenerId,
    /// When the SYN came; a cookie does not say.
    pub(crate) created: Option<Instant>,
    /// What both SYNs agree on.
    pub(crate) negotiated: Negotiated,
    /// Whether timestamps are in use (RFC 7323 §3).
    pub(crate) timestamps: bool,
    /// How often the SYN,ACK has been sent again.
    pub(crate) retransmits: u8,
}

#[derive(Debug)]
struct Record {
    half_open: HalfOpen,
    retransmit_at: Instant,
    /// The low half of the hash: what the index keeps.
    hash: u32,
}

const _: () = assert!(size_of::<Record>() <= 96);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct SynCache {
    records: Slab<Record>,
    index: Index,
    wheel: Wheel,
    /// By key, the earliest entry in the wheel. It outlives its record and serves the next one of that key, so that a flood of short-lived
    /// handshakes does not fill the wheel.
    armed: Vec<Option<Instant>>,
    capacity: usize,
}

impl SynCache {
    /// Room for `capacity` handshakes.
    #[must_use]
    pub(crate) fn new(capacity: usize, now: Instant) -> Self {
        Self { records: Slab::new(), index: Index::new(), wheel: Wheel::new(now), armed: Vec::new(), capacity }
    }

    /// Handshakes under way.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// True without one.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// True when no more are taken.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.records.len() >= self.capacity
    }

    /// True from half of the capacity on: time to be less patient.
    #[must_use]
    pub(crate) fn is_under_pressure(&self) -> bool {
        self.records.len() >= self.capacity.div_ceil(2)
    }

    /// Adds a handshake, whose tuple has this hash and is not there yet; `None` when the cache is full.
    pub(crate) fn insert(&mut self, hash: u64, half_open: HalfOpen, retransmit_at: Instant) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let hash = low_half(hash);
        let record = Record { half_open, retransmit_at, hash };
        let key = u32::try_from(self.records.insert(record)).expect("the capacity is far below 2^32");
        self.index.insert(u64::from(hash), key);
        self.arm(key, retransmit_at);
        Some(key)
    }

    /// The handshake of a tuple, whose hash is given.
    #[must_use]
    pub(crate) fn find(&self, hash: u64, tuple: &Tuple) -> Option<u32> {
        self.index.find(u64::from(low_half(hash)), |key| self.get(key).is_some_and(|half_open| half_open.tuple == *tuple))
    }

    /// A handshake by key.
    #[must_use]
    pub(crate) fn get(&self, key: u32) -> Option<&HalfOpen> {
        self.records.get(key as usize).map(|record| &record.half_open)
    }

    /// A handshake by key.
    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut HalfOpen> {
        self.records.get_mut(key as usize).map(|record| &mut record.half_open)
    }

    /// When the SYN,ACK is due again.
    #[must_use]
    pub(crate) fn retransmit_at(&self, key: u32) -> Option<Instant> {
        self.records.get(key as usize).map(|record| record.retransmit_at)
    }

    /// Takes a handshake out: it completed, or ended.
    pub(crate) fn remove(&mut self, key: u32) -> Option<HalfOpen> {
        let record = self.records.try_remove(key as usize)?;
        self.index.remove(u64::from(record.hash), key);
        if self.records.is_empty() && self.records.capacity() > 64 {
            self.records = Slab::new();
        }
        Some(record.half_open)
    }

    /// Takes the handshakes of a listener out that is no more.
    pub(crate) fn remove_all_of(&mut self, listener: ListenerId) -> Vec<HalfOpen> {
        let keys: Vec<usize> =
            self.records.iter().filter(|(_, record)| record.half_open.listener == listener).map(|(key, _)| key).collect();
        keys.into_iter().filter_map(|key| self.remove(u32::try_from(key).ok()?)).collect()
    }

    /// A handshake whose SYN,ACK is due again. The caller sends it and [`reschedule`](Self::reschedule)s, or [`remove`](Self::remove)s it.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        while let Some(Timer { deadline, key, .. }) = self.wheel.pop_due(now) {
            let Some(armed) = self.armed.get_mut(key as usize).filter(|armed| **armed == Some(deadline)) else { continue };
            *armed = None;
            match self.retransmit_at(key) {
                Some(retransmit_at) if retransmit_at <= now => return Some(key),
                Some(retransmit_at) => self.arm(key, retransmit_at),
                None => {}
            }
        }
        None
    }

    /// Sets when a handshake that was popped is due next.
    pub(crate) fn reschedule(&mut self, key: u32, retransmit_at: Instant) {
        if let Some(record) = self.records.get_mut(key as usize) {
            record.retransmit_at = retransmit_at;
            self.arm(key, retransmit_at);
        }
    }

    /// Puts off when a handshake is due that was not popped: its SYN,ACK has just been sent for another reason.
    pub(crate) fn postpone(&mut self, key: u32, retransmit_at: Instant) {
        if let Some(record) = self.records.get_mut(key as usize) {
            record.retransmit_at = record.retransmit_at.max(retransmit_at);
        }
    }

    /// When [`pop_due`](Self::pop_due) is next useful: never late, early by what has been removed or put off.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// Sees to it that the wheel has an entry for `key` at `deadline` or before.
    fn arm(&mut self, key: u32, deadline: Instant) {
        let index = key as usize;
        if self.armed.len() <= index {
            self.armed.resize(index + 1, None);
        }
        if self.armed[index].is_none_or(|armed| armed > deadline) {
            self.armed[index] = Some(deadline);
            self.wheel.arm(Timer { deadline, key, generation: 0 });
        }
    }

    /// All, in an order that only depends on what happened.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &HalfOpen)> {
        self.records.iter().filter_map(|(key, record)| Some((u32::try_from(key).ok()?, &record.half_open)))
    }
}

const fn low_half(hash: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the index keeps no more of a hash")]
    let low = hash as u32;
    low
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::engine::demux::TupleHash;
    use crate::proto::engine::listener::Listeners;
    use crate::proto::random::Secrets;
    use crate::proto::wire::Address;

    fn hash() -> TupleHash {
        TupleHash::new(&Secrets::new([1; 32]))
    }

    fn half_open(port: u16, listener: ListenerId) -> HalfOpen {
        HalfOpen {
            tuple: Tuple::new("[fd00::1]:80".parse().unwrap(), std::net::SocketAddr::new([10, 0, 0, 2].into(), port)),
            iss: SeqNum(1),
            irs: SeqNum(2),
            ts_recent: 0,
            listener,
            created: Some(Instant::START),
            negotiated: Negotiated { mss: 1460, scales: None, sack: true },
            timestamps: true,
            retransmits: 0,
        }
    }

    fn insert(cache: &mut SynCache, half_open: HalfOpen, at: Instant) -> Option<u32> {
        cache.insert(hash().hash(&half_open.tuple), half_open, at)
    }

    #[test]
    fn it_is_found_due_and_gone() {
        let listener = Listeners::new(1, hash()).listen(Address::ANY, 80, 1).unwrap();
        let mut cache = SynCache::new(2, Instant::START);
        let at = |seconds| Instant::START + Duration::from_secs(seconds);
        let (one, two) = (half_open(1, listener), half_open(2, listener));
        let first = insert(&mut cache, one, at(1)).unwrap();
        let second = insert(&mut cache, two, at(2)).unwrap();
        assert!(cache.is_full() && insert(&mut cache, half_open(3, listener), at(1)).is_none());
        assert_eq!(cache.find(hash().hash(&two.tuple), &two.tuple), Some(second));
        assert_eq!((cache.deadline(), cache.pop_due(at(1)), cache.pop_due(at(1))), (Some(at(1)), Some(first), None));
        cache.reschedule(first, at(3));
        cache.postpone(second, at(4));
        assert_eq!((cache.pop_due(at(3)), cache.pop_due(at(3))), (Some(first), None));
        assert!(cache.remove(first).is_some() && cache.remove(first).is_none());
        assert_eq!(cache.find(hash().hash(&one.tuple), &one.tuple), None);
        assert_eq!((cache.pop_due(at(4)), cache.deadline()), (Some(second), None));
    }

    #[test]
    fn a_timer_of_an_earlier_record_fires_for_nobody() {
        let listener = Listeners::new(1, hash()).listen(Address::ANY, 80, 1).unwrap();
        let mut cache = SynCache::new(2, Instant::START);
        let at = |seconds| Instant::START + Duration::from_secs(seconds);
        let first = insert(&mut cache, half_open(1, listener), at(1)).unwrap();
        cache.remove(first);
        assert_eq!(insert(&mut cache, half_open(2, listener), at(5)), Some(first));
        assert_eq!((cache.pop_due(at(4)), cache.pop_due(at(5))), (None, Some(first)));
    }

    #[test]
    fn a_flood_of_short_lived_handshakes_does_not_fill_the_wheel() {
        let listener = Listeners::new(1, hash()).listen(Address::ANY, 80, 1).unwrap();
        let mut cache = SynCache::new(8, Instant::START);
        for nanos in 1..100_000 {
            let now = Instant::from_nanos(nanos);
            let key = insert(&mut cache, half_open(1, listener), now + Duration::from_secs(1)).unwrap();
            cache.remove(key);
        }
        assert_eq!((cache.wheel.len(), cache.len()), (1, 0));
    }

    #[test]
    fn a_closed_listener_takes_its_handshakes_along() {
        let mut listeners = Listeners::new(1, hash());
        let [one, two] = [80, 81].map(|port| listeners.listen(Address::ANY, port, 1).unwrap());
        let mut cache = SynCache::new(10, Instant::START);
        for port in 0..10 {
            insert(&mut cache, half_open(port, if port % 2 == 0 { one } else { two }), Instant::START);
        }
        assert!(cache.is_under_pressure());
        assert_eq!((cache.remove_all_of(one).len(), cache.len(), cache.iter().count()), (5, 5, 5));
    }
}
