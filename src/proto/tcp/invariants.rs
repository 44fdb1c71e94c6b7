//! What must be true of a connection between any two calls. Runs after every entry point in debug and test builds.

use super::connection::Connection;
use super::halves::Ours;
use super::timers::TimerName;

impl Connection {
    /// # Panics
    /// When a number is out of its place: a defect of this crate, never of a peer.
    pub(super) fn assert_invariants(&self) {
        let (snd, rcv) = (&self.snd, &self.rcv);
        assert!(snd.una <= snd.nxt, "snd.una {} is beyond snd.nxt {}", snd.una, snd.nxt);
        assert!(snd.nxt <= snd.data_end() + 1, "snd.nxt {} is beyond FIN at {}", snd.nxt, snd.data_end());
        assert!(rcv.window() <= 1 << 30, "the receive window is beyond the largest possible");
        assert_eq!(self.halves.ours() == Ours::Closing, snd.fin_is_queued(), "the half and FIN disagree");

        let mut expected = snd.una;
        let mut lost = 0;
        for record in self.recovery.records() {
            assert_eq!(record.start, expected, "records leave a gap in flight");
            assert!(record.start < record.end, "a record is empty");
            expected = record.end;
            if record.fate == super::recovery::Fate::Lost {
                lost += record.end - record.start;
            }
        }
        assert_eq!(expected, snd.nxt, "records end before snd.nxt");
        assert_eq!(lost, self.recovery.lost_bytes(), "lost bytes are miscounted");

        if self.end().is_none() && snd.flight() > 0 {
            let mut timers = self.timers.clone();
            assert!(timers.is_set(TimerName::Retransmit), "data is in flight and no retransmission timer runs");
        }
    }
}
