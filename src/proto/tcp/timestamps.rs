//! The timestamps option of one connection: our clock, their most recent value, PAWS (RFC 7323 §3–5).

use std::time::Duration;

use crate::proto::Instant;
use crate::proto::wire::{Segment, SeqNum, Timestamps};

/// The timestamps state of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Added to our millisecond clock, secret per 4-tuple (RFC 7323 §7).
    offset: u32,
    /// TS.Recent, and when it was taken.
    recent: u32,
    recent_at: Instant,
}

impl Clock {
    pub(crate) const fn new(offset: u32, recent: u32, now: Instant) -> Self {
        Self { offset, recent, recent_at: now }
    }

    /// TSval at `now`: one tick per millisecond (RFC 7323 §5.4).
    pub(crate) fn value(offset: u32, now: Instant) -> u32 {
        let millis = u32::try_from(now.as_millis() & u64::from(u32::MAX)).expect("masked to 32 bits");
        millis.wrapping_add(offset)
    }

    /// The option for the next segment.
    pub(crate) fn option(&self, now: Instant) -> Timestamps {
        Timestamps { value: Self::value(self.offset, now), echo: self.recent }
    }

    /// TS.Recent.
    pub(crate) const fn recent(&self) -> u32 {
        self.recent
    }

    /// True if PAWS rejects a segment with this TSval (RFC 7323 §5.3 R1); a TS.Recent of 24 days ago rejects nothing (§5.5).
    pub(crate) fn rejects(&self, value: u32, now: Instant) -> bool {
        SeqNum(value) < SeqNum(self.recent) && now - self.recent_at < RECENT_VALID
    }

    /// RFC 7323 §4.3 (2): takes the TSval of an acceptable segment that covers the last acknowledgment sent.
    pub(crate) fn on_segment(&mut self, segment: &Segment, last_ack_sent: SeqNum, now: Instant) {
        let Some(timestamps) = segment.options.timestamps else { return };
        let newer = SeqNum(self.recent) <= SeqNum(timestamps.value) || now - self.recent_at >= RECENT_VALID;
        if newer && segment.seq <= last_ack_sent {
            self.recent = timestamps.value;
            self.recent_at = now;
        }
    }

    /// The round-trip time that an echo measures, to the millisecond.
    pub(crate) fn round_trip(&self, echo: u32, now: Instant) -> Option<Duration> {
        let elapsed = SeqNum(Self::value(self.offset, now)).distance(SeqNum(echo));
        (echo != 0).then_some(elapsed).and_then(|millis| u64::try_from(millis).ok()).map(|millis| Duration::from_millis(millis.max(1)))
    }
}

/// How long TS.Recent stays comparable (RFC 7323 §5.5).
const RECENT_VALID: Duration = Duration::from_secs(24 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::Options;

    fn segment(seq: u32, value: u32) -> Segment {
        let options = Options { timestamps: Some(Timestamps { value, echo: 0 }), ..Options::default() };
        Segment { seq: SeqNum(seq), options, ..Segment::default() }
    }

    #[test]
    fn paws_rejects_the_past_also_across_the_wrap() {
        let now = Instant::START;
        let clock = Clock::new(0, 5, now);
        assert!(clock.rejects(4, now) && clock.rejects(u32::MAX, now));
        assert!(!clock.rejects(5, now) && !clock.rejects(6, now));
        assert!(!clock.rejects(4, now + RECENT_VALID));
    }

    #[test]
    fn only_segments_at_the_last_acknowledgment_update_ts_recent() {
        let now = Instant::START;
        let mut clock = Clock::new(0, 5, now);
        clock.on_segment(&segment(101, 9), SeqNum(100), now);
        assert_eq!(clock.recent(), 5);
        clock.on_segment(&segment(100, 9), SeqNum(100), now);
        assert_eq!(clock.recent(), 9);
    }

    #[test]
    fn an_echo_from_the_future_measures_nothing() {
        let now = Instant::from_nanos(5_000_000);
        let clock = Clock::new(10, 0, now);
        assert_eq!(clock.round_trip(12, now), Some(Duration::from_millis(3)));
        assert_eq!(clock.round_trip(99, now), None);
        assert_eq!(clock.round_trip(0, now), None);
    }
}
