//! Listeners: which one a SYN is for, and whether it may come in.
//!
//! The most specific address wins: the exact one, then `0.0.0.0` for IPv4, then `::`, which stands for both families. Two listeners conflict
//! when some address would have no better claim for one than the other: equal addresses, or a wildcard beside what it covers, on one port.
//!
//! The queues are counted as Linux counts them: the accept queue is full when it holds *more* than the backlog, half-open connections when
//! they are as many as the backlog. Answers are facts ([`Admission`], [`Completion`]); who sends or drops is the engine. The half-open records
//! themselves are in [`syn_cache`](super::syn_cache).

use std::collections::VecDeque;

use slab::Slab;

use super::demux::{Index, TupleHash};
use crate::proto::wire::Address;
use crate::proto::{BacklogPolicy, Instant};

/// What names a listener for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerId {
    index: u32,
    generation: u32,
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Listener {
    local: Address,
    port: u16,
    backlog: u32,
    half_open: u32,
    /// Established, not yet accepted; the oldest in front. Holds what the engine calls them by.
    accept_queue: VecDeque<u32>,
    counters: ListenerCounters,
    /// When it last answered a SYN by a cookie.
    cookie_sent_at: Option<Instant>,
    /// The engine's number for the socket.
    socket: Option<u32>,
    generation: u32,
}

/// What one listener turned away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListenerCounters {
    /// SYNs and last ACKs of handshakes that found the accept queue full (`ListenOverflows`).
    pub(crate) overflows: u64,
    /// SYNs and last ACKs dropped for whatever reason (`ListenDrops`).
    pub(crate) drops: u64,
}

/// What becomes of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Admission {
    /// It opens a half-open connection.
    Admit,
    /// The accept queue is full: dropped.
    DropAcceptQueueFull,
    /// This listener has as many half-open connections as its backlog: dropped.
    DropSynQueueFull,
}

/// What becomes of the last ACK of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Completion {
    /// The connection goes to the accept queue.
    Establish,
    /// The accept queue is full: the ACK is as if it had never come, and the SYN,ACK will be sent again.
    Ignore,
    /// The accept queue is full, and the peer is told.
    Reset,
}

/// The address is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another listener has this port on an address that overlaps")]
pub(crate) struct Conflict;

impl Listener {
    /// The backlog, as clamped.
    #[must_use]
    pub(crate) const fn backlog(&self) -> u32 {
        self.backlog
    }

    /// Tells the listener its socket's number.
    pub(crate) const fn set_socket(&mut self, socket: u32) {
        self.socket = Some(socket);
    }

    /// Its socket's number, once told.
    pub(crate) const fn socket(&self) -> Option<u32> {
        self.socket
    }

    /// Connections that wait to be accepted.
    #[must_use]
    pub(crate) fn accept_queue_len(&self) -> usize {
        self.accept_queue.len()
    }

    /// What it turned away.
    #[must_use]
    #[cfg(test)]
    pub(crate) const fn counters(&self) -> ListenerCounters {
        self.counters
    }

    /// A SYN that matches no half-open connection arrived.
    pub(crate) fn on_syn(&mut self) -> Admission {
        let admission = if self.is_syn_queue_full() {
            Admission::DropSynQueueFull
        } else if self.is_full() {
            self.counters.overflows += 1;
            Admission::DropAcceptQueueFull
        } else {
            return Admission::Admit;
        };
        self.counters.drops += 1;
        admission
    }

    /// The last ACK of a handshake arrived.
    pub(crate) fn on_handshake_ack(&mut self, policy: BacklogPolicy) -> Completion {
        if !self.is_full() {
            return Completion::Establish;
        }
        self.counters.overflows += 1;
        self.counters.drops += 1;
        match policy {
            BacklogPolicy::Ignore => Completion::Ignore,
            BacklogPolicy::Reset => Completion::Reset,
        }
    }

    /// True from half of its backlog on, as in Linux: time to be less patient with those who do not answer.
    pub(crate) fn is_under_pressure(&self) -> bool {
        self.half_open.saturating_mul(2) > self.backlog.max(8)
    }

    /// True when it has as many half-open connections as its backlog. With a backlog of zero Linux lives on SYN cookies alone; here one
    /// half-open connection comes first.
    pub(crate) fn is_syn_queue_full(&self) -> bool {
        self.half_open >= self.backlog.max(1)
    }

    /// A SYN for this listener was answered by a cookie.
    pub(crate) const fn on_cookie(&mut self, now: Instant) {
        self.cookie_sent_at = Some(now);
    }

    /// When that was last so.
    pub(crate) const fn cookie_sent_at(&self) -> Option<Instant> {
        self.cookie_sent_at
    }

    /// A half-open connection of this listener came to be.
    pub(crate) const fn on_half_open(&mut self) {
        self.half_open += 1;
    }

    /// A half-open connection of this listener is no more, established or not.
    pub(crate) const fn on_half_open_gone(&mut self) {
        self.half_open = self.half_open.saturating_sub(1);
    }

    /// Queues an established connection. Ask [`on_handshake_ack`](Self::on_handshake_ack) first.
    pub(crate) fn push_accepted(&mut self, connection: u32) {
        self.accept_queue.push_back(connection);
    }

    /// Takes the connection that has waited longest.
    pub(crate) fn pop_accepted(&mut self) -> Option<u32> {
        let connection = self.accept_queue.pop_front();
        if self.accept_queue.is_empty() && self.accept_queue.capacity() > 64 {
            self.accept_queue = VecDeque::new();
        }
        connection
    }

    /// Takes a connection that died before it was accepted out of the queue; false if it is not there.
    #[cfg(test)]
    pub(crate) fn forget_accepted(&mut self, connection: u32) -> bool {
        let before = self.accept_queue.len();
        self.accept_queue.retain(|queued| *queued != connection);
        self.accept_queue.len() < before
    }

    /// True when the accept queue takes no more: Linux's comparison, by which a backlog of n queues n + 1.
    pub(crate) fn is_full(&self) -> bool {
        self.accept_queue.len() > self.backlog as usize
    }
}

/// All listeners.
#[derive(Debug)]
pub(crate) struct Listeners {
    listeners: Slab<Listener>,
    /// By address and port.
    by_address: Index,
    /// By port: the listeners on one port share a hash.
    by_port: Index,
    hash: TupleHash,
    backlog_max: u32,
    generation: u32,
}

impl Listeners {
    /// None yet; backlogs will be clamped to `backlog_max`.
    #[must_use]
    pub(crate) fn new(backlog_max: u32, hash: TupleHash) -> Self {
        Self { listeners: Slab::new(), by_address: Index::new(), by_port: Index::new(), hash, backlog_max, generation: 0 }
    }

    /// Adds a listener.
    ///
    /// # Errors
    /// [`Conflict`] if another listener overlaps.
    pub(crate) fn listen(&mut self, local: Address, port: u16, backlog: u32) -> Result<ListenerId, Conflict> {
        if self.has_conflict(local, port) {
            return Err(Conflict);
        }
        self.generation = self.generation.wrapping_add(1);
        let listener = Listener {
            local,
            port,
            backlog: backlog.min(self.backlog_max),
            half_open: 0,
            accept_queue: VecDeque::new(),
            counters: ListenerCounters::default(),
            cookie_sent_at: None,
            socket: None,
            generation: self.generation,
        };
        let index = u32::try_from(self.listeners.insert(listener)).expect("one listener per address and port, and few addresses");
        self.by_address.insert(self.address_hash(local, port), index);
        self.by_port.insert(self.port_hash(port), index);
        Ok(ListenerId { index, generation: self.generation })
    }

    /// Whether a listener at this address and port would overlap with another.
    #[must_use]
    pub(crate) fn has_conflict(&self, local: Address, port: u16) -> bool {
        let overlaps = |index: u32| {
            self.listeners
                .get(index as usize)
                .is_some_and(|other| other.port == port && (covers(other.local, local) || covers(local, other.local)))
        };
        self.by_port.find(self.port_hash(port), overlaps).is_some()
    }

    /// The listener for a segment to this address and port.
    #[must_use]
    pub(crate) fn find(&self, local: Address, port: u16) -> Option<ListenerId> {
        let v4_wildcard = local.is_v4().then_some(Address::ANY_V4);
        [Some(local), v4_wildcard, Some(Address::ANY)].into_iter().flatten().find_map(|address| {
            let is_it = |index: u32| self.listeners.get(index as usize).is_some_and(|other| other.port == port && other.local == address);
            let index = self.by_address.find(self.address_hash(address, port), is_it)?;
            let generation = self.listeners.get(index as usize)?.generation;
            Some(ListenerId { index, generation })
        })
    }

    /// A listener that still lives.
    #[must_use]
    pub(crate) fn get(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(id.index as usize).filter(|listener| listener.generation == id.generation)
    }

    /// A listener that still lives.
    pub(crate) fn get_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.listeners.get_mut(id.index as usize).filter(|listener| listener.generation == id.generation)
    }

    /// Takes a listener out; what is in its accept queue is the caller's to end.
    pub(crate) fn remove(&mut self, id: ListenerId) -> Option<Listener> {
        let Listener { local, port, .. } = *self.get(id)?;
        self.by_address.remove(self.address_hash(local, port), id.index);
        self.by_port.remove(self.port_hash(port), id.index);
        self.listeners.try_remove(id.index as usize)
    }

    /// How many.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.listeners.len()
    }

    fn address_hash(&self, local: Address, port: u16) -> u64 {
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&local.octets());
        bytes[16..].copy_from_slice(&port.to_be_bytes());
        self.hash.hash_bytes(&bytes)
    }

    fn port_hash(&self, port: u16) -> u64 {
        self.hash.hash_bytes(&port.to_be_bytes())
    }
}

/// Whether listening on `wide` would hear what comes to `narrow`.
fn covers(wide: Address, narrow: Address) -> bool {
    wide == narrow || wide == Address::ANY || (wide == Address::ANY_V4 && narrow.is_v4())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::random::Secrets;

    fn address(text: &str) -> Address {
        Address::new(text.parse().unwrap())
    }

    fn listeners() -> Listeners {
        Listeners::new(4096, TupleHash::new(&Secrets::new([1; 32])))
    }

    #[test]
    fn the_most_specific_listener_wins() {
        let mut all = listeners();
        let exact = all.listen(address("10.0.0.1"), 80, 1).unwrap();
        let loopback = all.listen(address("::1"), 80, 1).unwrap();
        let wide = all.listen(Address::ANY_V4, 81, 1).unwrap();
        let widest = all.listen(Address::ANY, 82, 1).unwrap();
        let cases = [
            ("10.0.0.1", 80, Some(exact)),
            ("10.0.0.2", 80, None),
            ("::1", 80, Some(loopback)),
            ("10.0.0.2", 81, Some(wide)),
            ("::1", 81, None),
            ("::1", 82, Some(widest)),
            ("10.0.0.1", 82, Some(widest)),
            ("10.0.0.1", 83, None),
        ];
        for (local, port, expected) in cases {
            assert_eq!(all.find(address(local), port), expected, "{local} {port}");
        }
        assert!(all.remove(exact).is_some() && all.get(exact).is_none() && all.remove(exact).is_none());
        assert_eq!((all.find(address("10.0.0.1"), 80), all.len()), (None, 3));
        let again = all.listen(address("10.0.0.1"), 80, 1).unwrap();
        assert!(again != exact && all.get(exact).is_none());
    }

    #[test]
    fn what_overlaps_conflicts() {
        let overlaps = |first: &str, second: &str| {
            let mut all = listeners();
            all.listen(address(first), 80, 1).unwrap();
            assert!(!all.has_conflict(address(second), 81));
            all.listen(address(second), 80, 1).is_err()
        };
        for (first, second, expected) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0", "10.0.0.1", true),
            ("0.0.0.0", "::1", false),
            ("::", "10.0.0.1", true),
            ("::", "0.0.0.0", true),
            ("::", "::1", true),
            ("::1", "10.0.0.1", false),
        ] {
            assert_eq!((overlaps(first, second), overlaps(second, first)), (expected, expected), "{first} {second}");
        }
    }

    #[test]
    fn the_queues_are_as_long_as_in_linux() {
        for backlog in [0_u32, 1, 5] {
            let mut all = listeners();
            let id = all.listen(Address::ANY, 80, backlog).unwrap();
            let listener = all.get_mut(id).unwrap();
            for connection in 0..=backlog {
                assert_eq!(
                    (listener.on_syn(), listener.on_handshake_ack(BacklogPolicy::Ignore)),
                    (Admission::Admit, Completion::Establish)
                );
                listener.push_accepted(connection);
            }
            assert_eq!(listener.on_syn(), Admission::DropAcceptQueueFull);
            assert_eq!(listener.on_handshake_ack(BacklogPolicy::Ignore), Completion::Ignore);
            assert_eq!(listener.on_handshake_ack(BacklogPolicy::Reset), Completion::Reset);
            assert_eq!(listener.counters(), ListenerCounters { overflows: 3, drops: 3 });
            assert!(listener.pop_accepted() == Some(0) && listener.on_syn() == Admission::Admit);
            (0..backlog.max(1)).for_each(|_| listener.on_half_open());
            assert_eq!(listener.on_syn(), Admission::DropSynQueueFull);
        }
    }

    #[test]
    fn a_backlog_is_clamped_and_the_dead_leave_the_queue() {
        let mut all = Listeners::new(2, TupleHash::new(&Secrets::new([1; 32])));
        let id = all.listen(Address::ANY, 80, 100).unwrap();
        let listener = all.get_mut(id).unwrap();
        assert_eq!(listener.backlog(), 2);
        (1..=3).for_each(|connection| listener.push_accepted(connection));
        assert!(listener.forget_accepted(2) && !listener.forget_accepted(2));
        assert_eq!((listener.pop_accepted(), listener.pop_accepted(), listener.pop_accepted()), (Some(1), Some(3), None));
    }
}
