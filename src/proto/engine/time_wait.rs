//! The TIME-WAIT table: what is left of connections that this side closed first, 64 bytes each.
//!
//! Its answers are RFC 9293 §3.10.7.4 for TIME-WAIT, RFC 1337 (a reset does not end the state, unless configured), and RFC 6191 (a SYN that is
//! provably new may open the tuple again). Where those leave room, it does what Linux does: a segment that asks nothing new is answered with
//! an ACK, at most one per interval unless it carries data or a FIN.
//!
//! ```text
//!   front = expires first                       back = newest
//!   [record][record][ dead ][record][record][record]
//!     id 17    18      19      20      21      22
//! ```
//!
//! The wait has one length, so that the order of arrival is the order of expiry. A restarted record is copied to the back; its old place is
//! dead until the front reaches it or the dead outnumber the living. It knows no addresses of its own and sends nothing.

use std::collections::VecDeque;
use std::time::Duration;

use super::demux::{Index, TupleHash};
use crate::proto::wire::{Flags, Segment, SeqNum, Tuple};
use crate::proto::{Config, Instant};

/// How far beyond the old connection a new one on the same tuple begins: more than the largest unscaled window, as in Linux.
const ISS_GAP: u32 = 65_537;

/// How old the last timestamp must be before an active open may take the tuple over: a tick of the slowest timestamp clock (RFC 7323 §5.4).
const TAKEOVER_AGE: Duration = Duration::from_secs(1);

/// Dead records beyond the number of the living that are suffered.
const DEAD_SLACK: usize = 64;

/// The unit of [`Record::acked_at`] in nanoseconds, as a power of two: 1.05 ms, which goes round in 52 days.
const STAMP_SHIFT: u32 = 20;

/// What a connection leaves behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remnant {
    /// The connection's name.
    pub(crate) tuple: Tuple,
    /// SND.NXT, our FIN included.
    pub(crate) snd_nxt: SeqNum,
    /// RCV.NXT, the peer's FIN included.
    pub(crate) rcv_nxt: SeqNum,
    /// TS.Recent, if the connection used timestamps.
    pub(crate) ts_recent: Option<u32>,
    /// The window as its last segment carried it, scaled down.
    pub(crate) window: u16,
}

/// What to do about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    /// Send an ACK.
    Acknowledge(Acknowledgment),
    /// A reset ended the wait: the record is gone.
    Gone,
    /// Nothing.
    Ignore(Ignored),
    /// A new SYN that may open the tuple again: let a listener have the segment and, if that takes it, [`reuse`](TimeWait::reuse) the record. When
    /// there is no listener, send the ACK.
    Reuse {
        /// The new connection's ISS must not be before it (RFC 9293 MAY-2).
        iss_min: SeqNum,
        /// The answer in case that nobody listens.
        otherwise: Acknowledgment,
    },
}

/// The fields of an ACK on behalf of a connection that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgment {
    /// SEG.SEQ.
    pub(crate) seq: SeqNum,
    /// SEG.ACK.
    pub(crate) ack: SeqNum,
    /// The window field.
    pub(crate) window: u16,
    /// TSecr, if the connection used timestamps.
    pub(crate) echo: Option<u32>,
}

/// Why a segment in TIME-WAIT has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// A bare ACK in order: the wait begins again.
    InOrder,
    /// An ACK was sent less than an interval ago.
    RateLimited,
    /// A reset (RFC 1337, RFC 5961 §3).
    Reset,
}

/// What an active open on a waiting tuple must respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    /// The new ISS must not be before it.
    pub(crate) iss_min: SeqNum,
    /// TS.Recent of the old connection, for PAWS.
    pub(crate) ts_recent: u32,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWaitCounters {
    /// Records that had to go early because the table was full.
    pub evicted: u64,
    /// Segments with an old timestamp.
    pub paws_rejected: u64,
    /// Tuples opened again before their time.
    pub reused: u64,
}

/// A record by its place in the queue since the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeWaitId(u32);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct TimeWait {
    records: VecDeque<Record>,
    /// The id of the front.
    base: u32,
    index: Index,
    hash: TupleHash,
    dead: usize,
    capacity: usize,
    duration: Duration,
    ack_interval: Duration,
    resets: Resets,
    counters: TimeWaitCounters,
}

/// Whether a reset ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resets {
    Obeyed,
    Ignored,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    expires: Instant,
    tuple: Tuple,
    snd_nxt: SeqNum,
    rcv_nxt: SeqNum,
    ts_recent: u32,
    /// When an ACK was last sent, as a [`stamp`]; zero for never.
    acked_at: u32,
    window: u16,
    has_timestamps: bool,
    is_live: bool,
}

const _: () = assert!(size_of::<Record>() <= 64);

impl TimeWait {
    /// An empty table.
    #[must_use]
    pub(crate) fn new(config: &Config, hash: TupleHash) -> Self {
        Self {
            records: VecDeque::new(),
            base: 0,
            index: Index::new(),
            hash,
            dead: 0,
            capacity: config.time_wait_capacity,
            duration: config.time_wait,
            ack_interval: config.challenge_ack_interval,
            resets: if config.ignore_reset_in_time_wait { Resets::Ignored } else { Resets::Obeyed },
            counters: TimeWaitCounters::default(),
        }
    }

    /// Records that wait.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.records.len() - self.dead
    }

    /// True without a record.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a wait, and answers whose wait ended for it: a full table forgets the one that would have ended first. The tuple must not be
    /// there already.
    pub(crate) fn add(&mut self, now: Instant, remnant: Remnant) -> Option<Tuple> {
        let Remnant { tuple, snd_nxt, rcv_nxt, ts_recent, window } = remnant;
        if self.capacity == 0 {
            self.counters.evicted += 1;
            return Some(tuple);
        }
        let mut evicted = None;
        if self.len() >= self.capacity {
            self.counters.evicted += 1;
            evicted = self.remove(TimeWaitId(self.base));
        }
        self.push(Record {
            expires: now + self.duration,
            tuple,
            snd_nxt,
            rcv_nxt,
            ts_recent: ts_recent.unwrap_or(0),
            acked_at: 0,
            window,
            has_timestamps: ts_recent.is_some(),
            is_live: true,
        });
        evicted
    }

    /// The record of a tuple, whose hash is given.
    #[must_use]
    pub(crate) fn find(&self, hash: u64, tuple: &Tuple) -> Option<TimeWaitId> {
        self.index.find(hash, |id| self.record(TimeWaitId(id)).is_some_and(|record| record.tuple == *tuple)).map(TimeWaitId)
    }

    /// A segment arrived for a waiting tuple. The id is no longer valid afterwards, except after [`Verdict::Reuse`].
    pub(crate) fn on_segment(&mut self, now: Instant, id: TimeWaitId, segment: &Segment) -> Verdict {
        let Some(record) = self.record(id).copied() else { return Verdict::Gone };
        let timestamp = segment.options.timestamps.map(|timestamps| timestamps.value);
        let seen = timestamp.filter(|_| record.has_timestamps).map(SeqNum);
        let is_old = seen.is_some_and(|seen| seen < SeqNum(record.ts_recent));
        let is_reset = segment.flags.has(Flags::RST);
        if !is_old && segment.seq == record.rcv_nxt && (is_reset || segment.is_empty()) {
            return self.on_in_order(now, id, segment, seen);
        }
        if is_reset {
            return Verdict::Ignore(Ignored::Reset);
        }
        let is_opening = segment.flags.has(Flags::SYN) && !segment.flags.has(Flags::ACK);
        let is_newer = match (record.has_timestamps, timestamp) {
            // RFC 6191 §2: timestamps where there were none can only be a new connection's.
            (false, Some(_)) => true,
            (true, Some(value)) => SeqNum(record.ts_recent) < SeqNum(value) || segment.seq > record.rcv_nxt,
            (_, None) => segment.seq > record.rcv_nxt,
        };
        if is_opening && !is_old && is_newer {
            return Verdict::Reuse { iss_min: record.snd_nxt + ISS_GAP, otherwise: record.acknowledgment() };
        }
        self.counters.paws_rejected += u64::from(is_old);
        let is_limited = (segment.is_empty() || segment.flags.has(Flags::SYN)) && self.is_limited(now, &record);
        let mut id = id;
        if is_old || segment.flags.has(Flags::ACK) {
            id = self.restart(now, id);
        }
        if is_limited {
            return Verdict::Ignore(Ignored::RateLimited);
        }
        if let Some(record) = self.record_mut(id) {
            record.acked_at = stamp(now);
        }
        Verdict::Acknowledge(record.acknowledgment())
    }

    /// Whether our own active open may take the tuple over: its timestamps, a second old at least, will prove segments of the old connection
    /// old. Afterwards the caller [`remove`](Self::remove)s the record.
    #[must_use]
    pub(crate) fn reusable_for_connect(&self, now: Instant, id: TimeWaitId) -> Option<Takeover> {
        let record = self.record(id).filter(|record| record.has_timestamps)?;
        // The last timestamp came when the wait began, or began again.
        let is_old_enough = now + self.duration >= record.expires + TAKEOVER_AGE;
        is_old_enough.then(|| Takeover { iss_min: record.snd_nxt + ISS_GAP, ts_recent: record.ts_recent })
    }

    /// Ends a wait early, for a new connection on the tuple.
    pub(crate) fn reuse(&mut self, id: TimeWaitId) {
        self.counters.reused += 1;
        self.remove(id);
    }

    /// Ends a wait early, and answers whose it was.
    pub(crate) fn remove(&mut self, id: TimeWaitId) -> Option<Tuple> {
        let tuple = self.bury(id)?;
        self.index.remove(self.hash.hash(&tuple), id.0);
        self.settle();
        if self.dead > self.len() + DEAD_SLACK {
            self.compact();
        }
        Some(tuple)
    }

    /// Ends one of the waits that are over, and answers whose it was.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Tuple> {
        if self.deadline()? > now {
            return None;
        }
        self.remove(TimeWaitId(self.base))
    }

    /// When the next wait is over.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.records.front().map(|record| record.expires)
    }

    /// The tuples that wait, and until when.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tuple, Instant)> {
        self.records.iter().filter(|record| record.is_live).map(|record| (record.tuple, record.expires))
    }

    /// Counters.
    #[must_use]
    pub(crate) const fn counters(&self) -> TimeWaitCounters {
        self.counters
    }

    /// A reset, or a segment without a byte of sequence space, exactly at RCV.NXT.
    fn on_in_order(&mut self, now: Instant, id: TimeWaitId, segment: &Segment, seen: Option<SeqNum>) -> Verdict {
        if segment.flags.has(Flags::RST) {
            return match self.resets {
                Resets::Ignored => Verdict::Ignore(Ignored::Reset),
                Resets::Obeyed => {
                    self.remove(id);
                    Verdict::Gone
                }
            };
        }
        let id = self.restart(now, id);
        if let (Some(record), Some(seen)) = (self.record_mut(id), seen) {
            record.ts_recent = seen.0;
        }
        Verdict::Ignore(Ignored::InOrder)
    }

    fn is_limited(&self, now: Instant, record: &Record) -> bool {
        let interval = u32::try_from(self.ack_interval.as_nanos() >> STAMP_SHIFT).unwrap_or(u32::MAX);
        record.acked_at != 0 && stamp(now).wrapping_sub(record.acked_at) < interval
    }

    /// Begins the wait again (RFC 9293 §3.10.7.4, the eighth step).
    fn restart(&mut self, now: Instant, id: TimeWaitId) -> TimeWaitId {
        let Some(mut record) = self.record(id).copied() else { return id };
        record.expires = now + self.duration;
        self.remove(id);
        self.push(record)
    }

    fn push(&mut self, record: Record) -> TimeWaitId {
        // The queue is far shorter than 2^32: an id is not used twice at a time.
        let id = self.base.wrapping_add(u32::try_from(self.records.len()).unwrap_or(u32::MAX));
        self.index.insert(self.hash.hash(&record.tuple), id);
        self.records.push_back(record);
        TimeWaitId(id)
    }

    /// Marks a record as dead; its tuple, if it lived.
    fn bury(&mut self, id: TimeWaitId) -> Option<Tuple> {
        let record = self.record_mut(id)?;
        record.is_live = false;
        let tuple = record.tuple;
        self.dead += 1;
        Some(tuple)
    }

    /// Restores what [`deadline`](Self::deadline) relies on: the front lives.
    fn settle(&mut self) {
        while self.records.front().is_some_and(|record| !record.is_live) {
            self.records.pop_front();
            self.base = self.base.wrapping_add(1);
            self.dead -= 1;
        }
        if self.records.capacity() > 1024 && self.records.len() < self.records.capacity() / 8 {
            self.records.shrink_to(self.records.len() * 2);
        }
    }

    fn compact(&mut self) {
        self.index.clear();
        self.records.retain(|record| record.is_live);
        self.dead = 0;
        for (record, place) in self.records.iter().zip(0..) {
            self.index.insert(self.hash.hash(&record.tuple), self.base.wrapping_add(place));
        }
    }

    fn place(&self, id: TimeWaitId) -> usize {
        id.0.wrapping_sub(self.base) as usize
    }

    fn record(&self, id: TimeWaitId) -> Option<&Record> {
        self.records.get(self.place(id)).filter(|record| record.is_live)
    }

    fn record_mut(&mut self, id: TimeWaitId) -> Option<&mut Record> {
        let place = self.place(id);
        self.records.get_mut(place).filter(|record| record.is_live)
    }
}

impl Record {
    fn acknowledgment(&self) -> Acknowledgment {
        let echo = self.has_timestamps.then_some(self.ts_recent);
        Acknowledgment { seq: self.snd_nxt, ack: self.rcv_nxt, window: self.window, echo }
    }
}

/// An instant in coarse units, never zero.
const fn stamp(now: Instant) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "stamps are compared modulo 2^32")]
    let stamp = (now.as_nanos() >> STAMP_SHIFT) as u32;
    if stamp == 0 { 1 } else { stamp }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::random::Secrets;
    use crate::proto::wire::Timestamps;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Instant = Instant::from_nanos(5_000_000_000);

    fn tuple(port: u16) -> Tuple {
        Tuple::new("10.0.0.1:80".parse().unwrap(), std::net::SocketAddr::new([10, 0, 0, 2].into(), port))
    }

    fn remnant(port: u16) -> Remnant {
        Remnant { tuple: tuple(port), snd_nxt: SeqNum(1000), rcv_nxt: SeqNum(2000), ts_recent: Some(50), window: 512 }
    }

    fn table(config: Config) -> TimeWait {
        TimeWait::new(&config, TupleHash::new(&Secrets::new([1; 32])))
    }

    fn find(table: &TimeWait, port: u16) -> Option<TimeWaitId> {
        table.find(table.hash.hash(&tuple(port)), &tuple(port))
    }

    fn expire(table: &mut TimeWait, now: Instant) -> usize {
        std::iter::from_fn(|| table.pop_due(now)).count()
    }

    fn segment(flags: Flags, seq: u32, timestamp: Option<u32>) -> Segment {
        let mut segment = Segment { flags, seq: SeqNum(seq), ..Segment::default() };
        segment.options.timestamps = timestamp.map(|value| Timestamps { value, echo: 0 });
        segment
    }

    /// The verdict of a fresh table with one remnant that has TS.Recent 50, SND.NXT 1000 and RCV.NXT 2000.
    fn verdict(ts_recent: Option<u32>, segment: &Segment) -> Verdict {
        let mut table = table(Config::default());
        table.add(NOW, Remnant { ts_recent, ..remnant(1) });
        let id = find(&table, 1).unwrap();
        table.on_segment(NOW, id, segment)
    }

    fn is_reuse(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Reuse { iss_min: SeqNum(66_537), .. })
    }

    const ACK: Verdict = Verdict::Acknowledge(Acknowledgment { seq: SeqNum(1000), ack: SeqNum(2000), window: 512, echo: Some(50) });

    #[test]
    fn a_retransmitted_fin_is_acknowledged_each_time_and_begins_the_wait_again() {
        let mut table = table(Config::default());
        table.add(NOW, remnant(1));
        table.add(NOW + SECOND, remnant(2));
        for seconds in [3, 3, 4] {
            let id = find(&table, 1).unwrap();
            assert_eq!(table.on_segment(NOW + seconds * SECOND, id, &segment(Flags::FIN | Flags::ACK, 1999, Some(50))), ACK);
        }
        assert_eq!(table.deadline(), Some(NOW + 61 * SECOND));
        assert_eq!((expire(&mut table, NOW + 61 * SECOND), table.deadline()), (1, Some(NOW + 64 * SECOND)));
        assert_eq!((find(&table, 2), expire(&mut table, NOW + 64 * SECOND), table.len(), table.dead), (None, 1, 0, 0));
    }

    #[test]
    fn a_reset_does_not_end_the_wait_unless_configured() {
        let reset = segment(Flags::RST, 2000, None);
        assert_eq!(verdict(Some(50), &reset), Verdict::Ignore(Ignored::Reset));
        let mut table = table(Config { ignore_reset_in_time_wait: false, ..Config::default() });
        table.add(NOW, remnant(1));
        let id = find(&table, 1).unwrap();
        assert_eq!(table.on_segment(NOW, id, &segment(Flags::RST, 2001, None)), Verdict::Ignore(Ignored::Reset));
        assert_eq!((table.on_segment(NOW, id, &reset), table.len()), (Verdict::Gone, 0));
    }

    /// R6191-1, R6191-2, R6191-3, R6191-4, R6191-5, R6191-6.
    #[test]
    fn a_syn_is_new_by_timestamp_or_sequence() {
        let syn = |seq, timestamp| segment(Flags::SYN, seq, timestamp);
        assert!(is_reuse(verdict(Some(50), &syn(7, Some(51)))), "R6191-1");
        assert!(is_reuse(verdict(Some(50), &syn(2001, Some(50)))), "R6191-2");
        assert!(is_reuse(verdict(Some(50), &syn(2001, None))), "R6191-3");
        assert!(is_reuse(verdict(None, &syn(7, Some(1)))), "R6191-4");
        assert!(is_reuse(verdict(None, &syn(2001, None))), "R6191-5");
        for old in
            [syn(7, Some(50)), syn(2000, Some(50)), syn(9999, Some(49)), syn(2000, None), segment(Flags::SYN | Flags::ACK, 9999, Some(51))]
        {
            assert_eq!(verdict(Some(50), &old), ACK, "R6191-6: {old:?}");
        }
    }

    #[test]
    fn acks_for_segments_without_payload_are_limited() {
        let mut table = table(Config::default());
        table.add(NOW, remnant(1));
        let stray = segment(Flags::ACK, 1, Some(50));
        let mut at = |millis| {
            let id = find(&table, 1).unwrap();
            table.on_segment(NOW + Duration::from_millis(millis), id, &stray)
        };
        assert_eq!([at(0), at(490), at(501)], [ACK, Verdict::Ignore(Ignored::RateLimited), ACK]);
    }

    #[test]
    fn a_bare_ack_in_order_has_no_answer_and_brings_its_timestamp() {
        let mut table = table(Config::default());
        table.add(NOW, remnant(1));
        let id = find(&table, 1).unwrap();
        assert_eq!(table.on_segment(NOW + SECOND, id, &segment(Flags::ACK, 2000, Some(60))), Verdict::Ignore(Ignored::InOrder));
        let id = find(&table, 1).unwrap();
        assert_eq!(table.reusable_for_connect(NOW + SECOND, id), None);
        assert_eq!(table.reusable_for_connect(NOW + 2 * SECOND, id), Some(Takeover { iss_min: SeqNum(66_537), ts_recent: 60 }));
        table.reuse(id);
        assert_eq!((table.is_empty(), table.counters().reused), (true, 1));
    }

    #[test]
    fn a_full_table_forgets_the_oldest() {
        let mut table = table(Config { time_wait_capacity: 3, ..Config::default() });
        let ended: Vec<_> = (1..=5).filter_map(|port| table.add(NOW + u32::from(port) * SECOND, remnant(port))).collect();
        let present: Vec<u16> = (1..=5).filter(|port| find(&table, *port).is_some()).collect();
        assert_eq!((present, table.counters().evicted), (vec![3, 4, 5], 2));
        assert_eq!(ended, [tuple(1), tuple(2)]);
    }

    proptest::proptest! {
        #[test]
        fn restarts_and_removals_keep_order_and_index(ops in proptest::collection::vec((1u16..40, 0u8..8), 1..1500)) {
            let mut table = table(Config { time_wait_capacity: 30, ..Config::default() });
            let mut now = NOW;
            for (port, op) in ops {
                match (find(&table, port), op) {
                    (None, 0..5) => _ = table.add(now, remnant(port)),
                    (Some(id), 0..6) => { let _ = table.on_segment(now, id, &segment(Flags::FIN | Flags::ACK, 1999, Some(50))); }
                    (Some(id), 6) => _ = table.remove(id),
                    _ => { now = now + Duration::from_secs(u64::from(port) / 8); expire(&mut table, now); }
                }
                let waits: Vec<_> = table.iter().collect();
                proptest::prop_assert!(waits.is_sorted_by_key(|(_, expires)| *expires));
                proptest::prop_assert_eq!(table.deadline(), waits.first().map(|(_, expires)| *expires));
                proptest::prop_assert!(table.index.len() == table.len() && table.len() == waits.len() && table.len() <= 30);
                proptest::prop_assert!(table.dead <= table.len() + DEAD_SLACK);
                proptest::prop_assert!(waits.iter().all(|(tuple, _)| find(&table, tuple.remote_port).is_some()));
            }
        }
    }
}
