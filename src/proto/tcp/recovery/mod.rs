//! What was sent, what of it is lost, and what to send again: one record per frame sent (RFC 6298, RFC 5681 §3.2, RFC 6582).
//!
//! ```text
//!   snd.una                                    snd.nxt
//!   | record | record (lost) | record | record |
//!            ^ sent again first
//! ```
//!
//! A frame may be a super-packet, so a record may be split by an acknowledgment or by marking its first part lost. Answers are facts; cwnd is
//! congestion's business. It owns no data: sequence ranges only.

mod newreno;

use std::collections::VecDeque;
use std::time::Duration;

pub(crate) use newreno::{Duplicate, Phase, Progress};

use crate::proto::Instant;
use crate::proto::wire::SeqNum;

/// One frame that was sent and is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) start: SeqNum,
    pub(crate) end: SeqNum,
    pub(crate) sent_at: Instant,
    pub(crate) fate: Fate,
}

/// What is believed of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Sent once, in flight.
    Flying,
    /// To be sent again.
    Lost,
    /// Sent again, in flight.
    Resent,
}

/// What marking as lost does to what was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resent {
    Included,
    Spared,
}

/// Everything in flight.
#[derive(Debug)]
pub(crate) struct Recovery {
    records: VecDeque<Record>,
    lost_bytes: u32,
    phase: Phase,
    duplicates: u32,
    threshold: u32,
    /// A loss was just found: its first segment is sent again whatever the congestion window says.
    must_resend: bool,
    /// RFC 6582: fast retransmit only when the acknowledgment passes this.
    recover: SeqNum,
}

/// What an acknowledgment did to the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    /// A round-trip time by Karn's rule: the newest acknowledged record was sent only once.
    pub(crate) rtt: Option<Duration>,
    /// True if something that was sent again was acknowledged.
    pub(crate) resent: bool,
}

impl Recovery {
    pub(crate) fn new(iss: SeqNum, threshold: u32) -> Self {
        Self { records: VecDeque::new(), lost_bytes: 0, phase: Phase::Open, duplicates: 0, threshold, must_resend: false, recover: iss }
    }

    /// A frame left that was not sent before.
    pub(crate) fn on_sent(&mut self, start: SeqNum, end: SeqNum, now: Instant) {
        let many = self.records.len() >= RECORDS_KEPT;
        if let Some(last) = self.records.back_mut().filter(|_| many) {
            // One record must not stand for less than a small segment, whatever the application's writes are.
            if last.fate == Fate::Flying && end - last.start <= RECORD_BYTES_MIN {
                last.end = end;
                return;
            }
        }
        self.records.push_back(Record { start, end, sent_at: now, fate: Fate::Flying });
    }

    /// The first range to be sent again.
    pub(crate) fn next_lost(&self) -> Option<(SeqNum, SeqNum)> {
        if self.lost_bytes == 0 {
            return None;
        }
        self.records.iter().find(|record| record.fate == Fate::Lost).map(|record| (record.start, record.end))
    }

    /// True if the first lost segment goes out without asking the congestion window.
    pub(crate) fn must_resend(&self) -> bool {
        self.must_resend
    }

    /// The first `bytes` of the range that [`next_lost`](Self::next_lost) told were sent again.
    pub(crate) fn on_resent(&mut self, end: SeqNum, now: Instant) {
        self.must_resend = false;
        let Some(index) = self.records.iter().position(|record| record.fate == Fate::Lost) else { return };
        self.split(index, end);
        let record = &mut self.records[index];
        record.fate = Fate::Resent;
        record.sent_at = now;
        self.lost_bytes = self.lost_bytes.saturating_sub(record.end - record.start);
    }

    /// Everything below `una` is acknowledged.
    pub(crate) fn on_acknowledged(&mut self, una: SeqNum, now: Instant) -> Covered {
        let mut covered = Covered::default();
        while let Some(record) = self.records.front_mut() {
            if una <= record.start {
                break;
            }
            let end = record.end.min(una);
            match record.fate {
                Fate::Flying => covered.rtt = Some(now - record.sent_at),
                Fate::Lost => {
                    self.lost_bytes = self.lost_bytes.saturating_sub(end - record.start);
                    covered.resent = true;
                }
                Fate::Resent => covered.resent = true,
            }
            if end < record.end {
                record.start = end;
                break;
            }
            self.records.pop_front();
        }
        if covered.resent {
            covered.rtt = None;
        }
        covered
    }

    /// True if nothing is in flight and more room for records is kept than an idle connection may.
    pub(crate) fn has_spare_room(&self) -> bool {
        self.records.is_empty() && self.records.capacity() > 0
    }

    /// Gives that room back.
    pub(crate) fn shrink(&mut self) {
        if self.records.is_empty() {
            self.records = VecDeque::new();
        }
    }

    /// Bytes believed to be in the network, of `flight` that are unacknowledged.
    pub(crate) fn pipe(&self, flight: u32) -> u32 {
        flight.saturating_sub(self.lost_bytes)
    }

    /// When the oldest record was last sent.
    pub(crate) fn oldest_sent_at(&self) -> Option<Instant> {
        self.records.front().map(|record| record.sent_at)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    pub(crate) const fn lost_bytes(&self) -> u32 {
        self.lost_bytes
    }

    /// Marks what is in flight up to `end` as lost. What was sent again and is on its way is spared, unless a time-out says otherwise.
    fn mark_lost(&mut self, end: SeqNum, resent: Resent) {
        let mut index = 0;
        while let Some(record) = self.records.get(index).copied() {
            if end <= record.start {
                break;
            }
            let spared = record.fate == Fate::Resent && resent == Resent::Spared;
            if record.fate != Fate::Lost && !spared {
                self.split(index, end);
                let record = &mut self.records[index];
                record.fate = Fate::Lost;
                self.lost_bytes += record.end - record.start;
            }
            index += 1;
        }
    }

    /// Cuts the record at `index` so that it ends at `end`, if it reaches beyond.
    fn split(&mut self, index: usize, end: SeqNum) {
        let Some(record) = self.records.get_mut(index) else { return };
        if record.start < end && end < record.end {
            let rest = Record { start: end, ..*record };
            record.end = end;
            self.records.insert(index + 1, rest);
        }
    }
}

/// Records that are kept without being merged.
const RECORDS_KEPT: usize = 16;

/// The least that a record stands for once there are many, in bytes: the bound on records per byte in flight.
const RECORD_BYTES_MIN: u32 = 216;

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Instant = Instant::from_nanos(1_000);

    fn three_frames(base: u32) -> Recovery {
        let mut recovery = Recovery::new(SeqNum(base), 3);
        for frame in 0..3 {
            let start = SeqNum(base) + 1 + frame * 100;
            recovery.on_sent(start, start + 100, AT + Duration::from_nanos(u64::from(frame)));
        }
        recovery
    }

    #[test]
    fn an_acknowledgment_splits_a_record_and_samples_the_newest() {
        for base in [0, u32::MAX - 150] {
            let mut recovery = three_frames(base);
            let covered = recovery.on_acknowledged(SeqNum(base) + 151, AT + Duration::from_nanos(50));
            assert_eq!(covered, Covered { rtt: Some(Duration::from_nanos(49)), resent: false });
            assert_eq!(recovery.records().next().map(|record| record.start), Some(SeqNum(base) + 151));
        }
    }

    #[test]
    fn karn_takes_no_sample_from_what_was_sent_again() {
        let mut recovery = three_frames(0);
        recovery.mark_lost(SeqNum(51), Resent::Spared);
        assert_eq!(recovery.next_lost(), Some((SeqNum(1), SeqNum(51))));
        assert_eq!(recovery.pipe(300), 250);
        recovery.on_resent(SeqNum(51), AT);
        assert_eq!((recovery.next_lost(), recovery.pipe(300)), (None, 300));
        assert_eq!(recovery.on_acknowledged(SeqNum(101), AT), Covered { rtt: None, resent: true });
    }

    #[test]
    fn tiny_writes_share_records() {
        let mut recovery = Recovery::new(SeqNum(0), 3);
        for byte in 0..10_000u32 {
            recovery.on_sent(SeqNum(byte), SeqNum(byte + 1), AT);
        }
        assert!(recovery.len() <= RECORDS_KEPT + 10_000 / 216 + 1, "{}", recovery.len());
    }
}
