//! When to acknowledge: at once, later, or with the next data (RFC 9293 §3.8.6.3, RFC 5681 §4.2).
//!
//! A young or disturbed connection acknowledges at once (Linux's quick-ACK mode); an interactive one waits for the answer to ride on; bulk is
//! acknowledged every second full-sized segment. What to acknowledge, and the SACK blocks, come from the receiver.

use std::time::Duration;

use crate::proto::Instant;

/// What an arriving segment did, as far as acknowledging goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// New data in order: bytes, and the largest segment they came in.
    InOrder { bytes: u32, segment: u32 },
    /// Disorder, a duplicate, a filled hole, or FIN: the sender needs to know now.
    Urgent,
}

/// What is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    Delayed,
    Now,
}

/// The acknowledgment policy of one connection.
#[derive(Clone, Debug)]
pub(crate) struct AckPolicy {
    owed: Owed,
    /// Acknowledgments still to be sent at once.
    quick: u32,
    /// The application answers what it reads: an ACK can ride on the answer.
    interactive: bool,
    bytes: u32,
    /// Our estimate of the peer's full-sized segment.
    segment_max: u32,
    last_arrival: Option<Instant>,
    delay: Duration,
}

impl AckPolicy {
    pub(crate) fn new(quick: u32, delay: Duration, mss: u32) -> Self {
        Self { owed: Owed::Nothing, quick, interactive: false, bytes: 0, segment_max: SEGMENT_MIN.min(mss), last_arrival: None, delay }
    }

    /// Data or FIN arrived. Returns when a delayed acknowledgment becomes due, if one is owed now and was not before.
    pub(crate) fn on_arrival(&mut self, now: Instant, arrival: Arrival) -> Option<Instant> {
        self.last_arrival = Some(now);
        match arrival {
            Arrival::Urgent => self.owed = Owed::Now,
            Arrival::InOrder { bytes, segment } => {
                self.segment_max = self.segment_max.max(segment);
                self.bytes = self.bytes.saturating_add(bytes);
                if self.bytes > self.segment_max {
                    self.owed = Owed::Now;
                } else if self.quick > 0 && !self.interactive {
                    self.quick -= 1;
                    self.owed = Owed::Now;
                } else if self.owed == Owed::Nothing {
                    self.owed = Owed::Delayed;
                    return Some(now + self.delay);
                }
            }
        }
        None
    }

    /// An acknowledgment must go out now, whatever the policy: a challenge, a window update, quick-ACK by the user.
    pub(crate) fn require(&mut self) {
        self.owed = Owed::Now;
    }

    /// Disorder: the next acknowledgments go out at once, so that the sender's recovery is not slowed down.
    pub(crate) fn enter_quick_mode(&mut self, count: u32) {
        self.quick = self.quick.max(count);
        self.interactive = false;
    }

    /// The delay is over. An application that was expected to answer did not: it is no longer taken for interactive.
    pub(crate) fn on_delay_over(&mut self) {
        if self.owed == Owed::Delayed {
            self.owed = Owed::Now;
            self.interactive = false;
        }
    }

    /// A segment with our acknowledgment left; `with_data` tells whether it rode on data.
    pub(crate) fn on_sent(&mut self, now: Instant, carrier: Carrier) {
        if carrier == Carrier::Data && self.last_arrival.is_some_and(|at| now - at < self.delay) {
            self.interactive = true;
        }
        self.owed = Owed::Nothing;
        self.bytes = 0;
    }

    pub(crate) fn is_due(&self) -> bool {
        self.owed == Owed::Now
    }

    pub(crate) fn is_owed(&self) -> bool {
        self.owed != Owed::Nothing
    }
}

/// What an acknowledgment travelled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// A segment with data or FIN.
    Data,
    /// A bare acknowledgment.
    Bare,
}

/// The least that is taken for a full-sized segment, in bytes: RFC 9293's default MSS.
const SEGMENT_MIN: u32 = 536;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000);
    const DELAY: Duration = Duration::from_millis(40);

    fn policy(quick: u32) -> AckPolicy {
        AckPolicy::new(quick, DELAY, 1460)
    }

    #[test]
    fn every_second_full_segment_is_acknowledged() {
        let mut ack = policy(0);
        let full = Arrival::InOrder { bytes: 1448, segment: 1448 };
        assert_eq!(ack.on_arrival(START, full), Some(START + DELAY));
        assert!(!ack.is_due());
        ack.on_arrival(START, full);
        assert!(ack.is_due());
    }

    #[test]
    fn a_young_connection_acknowledges_at_once() {
        let mut ack = policy(1);
        let small = Arrival::InOrder { bytes: 1, segment: 1 };
        ack.on_arrival(START, small);
        assert!(ack.is_due());
        ack.on_sent(START, Carrier::Bare);
        ack.on_arrival(START, small);
        assert!(!ack.is_due() && ack.is_owed());
    }

    #[test]
    fn an_answer_makes_the_connection_interactive() {
        let mut ack = policy(16);
        ack.on_arrival(START, Arrival::InOrder { bytes: 1, segment: 1 });
        ack.on_sent(START, Carrier::Data);
        ack.on_arrival(START, Arrival::InOrder { bytes: 1, segment: 1 });
        assert!(!ack.is_due(), "the answer will carry it");
        ack.on_delay_over();
        assert!(ack.is_due(), "the answer did not come");
    }
}
