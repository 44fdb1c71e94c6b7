//! Fast retransmit and fast recovery (RFC 5681 §3.2, RFC 6582 §3.2), and what a time-out does to the records (RFC 6298 §5).
//!
//! With SACK the receiver tells where the first hole ends, so the whole hole is sent again at once; without it one segment at a time.

use super::{Fate, Recovery, Resent};
use crate::proto::wire::SeqNum;

/// Where loss recovery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is believed lost.
    Open,
    /// Fast recovery until the acknowledgment reaches `until`.
    Fast { until: SeqNum },
    /// After a time-out, until the acknowledgment reaches `until`.
    Timeout { until: SeqNum },
}

/// What a duplicate acknowledgment means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicate {
    /// One of the first: limited transmit may send one new segment for it (RFC 3042).
    Early,
    /// It begins fast retransmit.
    Threshold,
    /// Another one in fast recovery.
    Further,
    /// It says nothing new.
    Ignored,
}

/// What an acknowledgment of new data means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No recovery is under way.
    Normal,
    /// It leaves a hole in fast recovery.
    Partial,
    /// Fast recovery is over.
    Recovered,
    /// Slow start after a time-out goes on, or is over.
    AfterTimeout,
}

impl Recovery {
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Duplicate acknowledgments since the last new one.
    pub(crate) fn duplicates(&self) -> u32 {
        self.duplicates
    }

    /// A duplicate acknowledgment of `una` arrived; `hole_end` is where the lowest SACK block begins, or one MSS further without SACK.
    pub(crate) fn on_duplicate(&mut self, una: SeqNum, nxt: SeqNum, hole_end: SeqNum) -> Duplicate {
        self.duplicates = self.duplicates.saturating_add(1);
        match self.phase {
            Phase::Fast { .. } => Duplicate::Further,
            Phase::Timeout { .. } => Duplicate::Ignored,
            Phase::Open if self.duplicates < self.threshold => Duplicate::Early,
            // RFC 6582 §3.2 step 2: duplicates of what was sent before the last recovery begin no new one.
            Phase::Open if self.duplicates == self.threshold && self.recover < una => {
                self.recover = nxt;
                self.phase = Phase::Fast { until: nxt };
                self.mark_lost(hole_end, Resent::Spared);
                self.must_resend = true;
                Duplicate::Threshold
            }
            Phase::Open => Duplicate::Ignored,
        }
    }

    /// New data up to `una` was acknowledged; `hole_end` as above.
    pub(crate) fn on_progress(&mut self, una: SeqNum, hole_end: SeqNum) -> Progress {
        self.duplicates = 0;
        match self.phase {
            Phase::Open => {
                // Or half the sequence space later it would be taken for the future.
                if self.recover < una {
                    self.recover = una.back(1);
                }
                Progress::Normal
            }
            Phase::Fast { until } if una < until => {
                self.mark_lost(hole_end, Resent::Spared);
                self.must_resend = true;
                Progress::Partial
            }
            Phase::Fast { .. } => {
                self.phase = Phase::Open;
                Progress::Recovered
            }
            Phase::Timeout { until } => {
                if until <= una {
                    self.phase = Phase::Open;
                }
                Progress::AfterTimeout
            }
        }
    }

    /// The retransmission timer expired: everything in flight is taken for lost and is sent again from the front.
    pub(crate) fn on_timeout(&mut self, nxt: SeqNum) {
        self.mark_lost(nxt, Resent::Included);
        self.must_resend = true;
        self.phase = Phase::Timeout { until: nxt };
        self.recover = nxt;
        self.duplicates = 0;
    }

    /// Whatever was sent in more than `len` bytes at once did not pass: it is sent again. The duplicates that shorter segments behind it
    /// cause are expected and begin nothing, as after a time-out; a recovery under way goes on.
    pub(crate) fn on_too_big(&mut self, len: u32, nxt: SeqNum) {
        for record in self.records.iter_mut().filter(|record| record.fate != Fate::Lost && record.end - record.start > len) {
            record.fate = Fate::Lost;
            self.lost_bytes += record.end - record.start;
        }
        if self.lost_bytes == 0 {
            return;
        }
        self.must_resend = true;
        if !matches!(self.phase, Phase::Fast { .. }) {
            self.phase = Phase::Timeout { until: nxt };
            self.recover = nxt;
            self.duplicates = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::Instant;

    const AT: Instant = Instant::from_nanos(1_000);

    fn four_segments() -> Recovery {
        let mut recovery = Recovery::new(SeqNum(0), 3);
        for segment in 0..4 {
            let start = SeqNum(1 + segment * 100);
            recovery.on_sent(start, start + 100, AT + Duration::from_nanos(u64::from(segment)));
        }
        recovery
    }

    fn duplicate(recovery: &mut Recovery) -> Duplicate {
        recovery.on_duplicate(SeqNum(1), SeqNum(401), SeqNum(101))
    }

    #[test]
    fn the_third_duplicate_resends_the_hole() {
        let mut recovery = four_segments();
        assert_eq!(duplicate(&mut recovery), Duplicate::Early);
        assert_eq!(duplicate(&mut recovery), Duplicate::Early);
        assert_eq!(duplicate(&mut recovery), Duplicate::Threshold);
        assert_eq!(recovery.next_lost(), Some((SeqNum(1), SeqNum(101))));
        assert_eq!(duplicate(&mut recovery), Duplicate::Further);
    }

    #[test]
    fn a_partial_acknowledgment_marks_the_next_hole_and_a_full_one_ends_recovery() {
        let mut recovery = four_segments();
        (0..3).for_each(|_| assert_ne!(duplicate(&mut recovery), Duplicate::Ignored));
        recovery.on_resent(SeqNum(101), AT);
        recovery.on_acknowledged(SeqNum(201), AT);
        assert_eq!(recovery.on_progress(SeqNum(201), SeqNum(301)), Progress::Partial);
        assert_eq!(recovery.next_lost(), Some((SeqNum(201), SeqNum(301))));
        recovery.on_acknowledged(SeqNum(401), AT);
        assert_eq!(recovery.on_progress(SeqNum(401), SeqNum(501)), Progress::Recovered);
        assert_eq!(recovery.pipe(0), 0);
    }

    #[test]
    fn what_was_just_sent_again_is_not_sent_a_third_time() {
        let mut recovery = four_segments();
        (0..3).for_each(|_| assert_ne!(recovery.on_duplicate(SeqNum(1), SeqNum(401), SeqNum(301)), Duplicate::Ignored));
        recovery.on_resent(SeqNum(301), AT);
        recovery.on_resent(SeqNum(301), AT);
        recovery.on_resent(SeqNum(301), AT);
        recovery.on_acknowledged(SeqNum(101), AT);
        assert_eq!(recovery.on_progress(SeqNum(101), SeqNum(301)), Progress::Partial);
        assert_eq!(recovery.next_lost(), None, "the rest of the hole is on its way");
    }

    #[test]
    fn a_timeout_resends_everything_in_order() {
        let mut recovery = four_segments();
        recovery.on_timeout(SeqNum(401));
        assert_eq!(recovery.lost_bytes(), 400);
        let mut starts = Vec::new();
        while let Some((start, end)) = recovery.next_lost() {
            starts.push(start.0);
            recovery.on_resent(end, AT);
        }
        assert_eq!(starts, [1, 101, 201, 301]);
        assert_eq!(duplicate(&mut recovery), Duplicate::Ignored, "no fast retransmit of what the time-out resends");
    }

    /// R6582-1, R6582-2.
    #[test]
    fn duplicates_of_what_a_timeout_sent_again_begin_nothing() {
        let mut recovery = four_segments();
        recovery.on_timeout(SeqNum(401));
        recovery.on_acknowledged(SeqNum(401), AT);
        assert_eq!(recovery.on_progress(SeqNum(401), SeqNum(401)), Progress::AfterTimeout);
        let mut three_duplicates = |una: u32| {
            recovery.on_sent(SeqNum(una), SeqNum(una + 100), AT);
            let last = (0..3).map(|_| recovery.on_duplicate(SeqNum(una), SeqNum(una + 100), SeqNum(una + 100))).last();
            recovery.on_acknowledged(SeqNum(una + 100), AT);
            let _ = recovery.on_progress(SeqNum(una + 100), SeqNum(una + 100));
            last
        };
        assert_eq!(three_duplicates(401), Some(Duplicate::Ignored), "`recover` is not passed");
        assert_eq!(three_duplicates(501), Some(Duplicate::Threshold));
    }
}
