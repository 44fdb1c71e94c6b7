//! A segment arrives: RFC 9293 §3.10.7.4 as a list of small steps, with RFC 5961's and RFC 7323's checks in their places.
//!
//! ```text
//!   check_timestamps ─► check_sequence ─► check_reset ─► check_syn ─► check_ack ─► take_ack ─► urgent ─► accept_text ─► accept_fin
//! ```
//!
//! Every step either lets the segment pass or breaks with a [`Disposition`]. None of them sends: they leave word with the acknowledgment
//! policy and with recovery, and `output` speaks.

use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use super::ack::Arrival;
use super::buffer::Payload;
use super::close::CloseReason;
use super::congestion::{Acknowledged, Loss};
use super::connection::{Connection, Reader};
use super::context::{Context, Events};
use super::halves::Theirs;
use super::recovery::{Covered, Duplicate, Phase, Progress};
use super::state::State;
use super::timers::TimerName;
use crate::proto::Instant;
use crate::proto::wire::{Flags, Segment, SeqNum};

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Disposition {
    /// It was taken.
    Accepted,
    /// It was dropped, for a reason that is counted; an acknowledgment may be on its way.
    Dropped(Cause),
    /// It is answered with a reset, and the connection is over.
    Refused(Cause),
}

/// Why a segment was dropped by a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub(crate) enum Cause {
    /// No ACK flag (RFC 9293 §3.10.7.4).
    AckMissing,
    /// It acknowledges what was never sent.
    AckUnsent,
    /// It acknowledges too little to be of this age (RFC 5961 §5).
    AckTooOld,
    /// Data for a socket that nobody reads any more.
    NobodyReads,
    /// Entirely outside the receive window.
    OutOfWindow,
    /// Its timestamp is older than what has been seen (PAWS).
    Paws,
    /// A reset that is in the window but not at its edge (RFC 5961 §3).
    ResetInWindow,
    /// A reset outside the window.
    ResetOutOfWindow,
    /// A SYN in a synchronised state (RFC 5961 §4).
    SynInWindow,
    /// Timestamps were negotiated and are missing.
    TimestampMissing,
}

type Step = ControlFlow<Disposition>;

impl Connection {
    /// Takes a segment of this connection.
    pub(crate) fn input(&mut self, cx: &mut Context<'_>, segment: &Segment, text: Payload<'_>) -> Disposition {
        self.counters.segments_received += u64::from(segment.count());
        let outcome = self.check_and_take(cx, segment, text);
        self.check_invariants();
        match outcome {
            Continue(()) => Disposition::Accepted,
            Break(disposition) => disposition,
        }
    }

    /// What a handshake's last segment carries besides the acknowledgment.
    pub(crate) fn input_first(&mut self, cx: &mut Context<'_>, segment: &Segment, text: Payload<'_>) {
        self.take_urgent(segment);
        let outcome = self.accept_text(cx, segment, text);
        debug_assert!(outcome.is_continue(), "an application is there to read");
        self.accept_fin(cx, segment);
    }

    fn check_and_take(&mut self, cx: &mut Context<'_>, segment: &Segment, text: Payload<'_>) -> Step {
        self.check_timestamps(cx, segment)?;
        self.check_sequence(cx, segment)?;
        self.check_reset(cx, segment)?;
        self.check_syn(cx, segment)?;
        self.check_ack(cx, segment)?;
        self.take_ack(cx, segment);
        self.take_urgent(segment);
        self.accept_text(cx, segment, text)?;
        self.accept_fin(cx, segment);
        Continue(())
    }

    /// PAWS (RFC 7323 §5.3 R1), before the sequence check (R7323-23). Resets are exempt.
    fn check_timestamps(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Step {
        let Some(clock) = &self.clock else { return Continue(()) };
        if segment.flags.has(Flags::RST) {
            return Continue(());
        }
        match segment.options.timestamps {
            Some(timestamps) if clock.rejects(timestamps.value, cx.now) => {
                self.answer_unacceptable(cx, segment);
                Break(Disposition::Dropped(Cause::Paws))
            }
            Some(_) => Continue(()),
            None if cx.config.require_timestamps => Break(Disposition::Dropped(Cause::TimestampMissing)),
            None => Continue(()),
        }
    }

    /// First, check sequence number.
    fn check_sequence(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Step {
        if self.is_acceptable(segment) {
            if let Some(clock) = &mut self.clock
                && !segment.flags.has_any(Flags::RST)
            {
                clock.on_segment(segment, self.last_ack_sent, cx.now);
            }
            return Continue(());
        }
        if segment.flags.has(Flags::RST) {
            return Break(Disposition::Dropped(Cause::ResetOutOfWindow));
        }
        if segment.flags.has(Flags::SYN) {
            self.challenge(cx);
            return Break(Disposition::Dropped(Cause::SynInWindow));
        }
        self.answer_unacceptable(cx, segment);
        Break(Disposition::Dropped(Cause::OutOfWindow))
    }

    /// The table of RFC 9293 §3.4, table 6, with two allowances that Linux makes as well. A closed window still lets acknowledgments, resets
    /// and FIN at its edge pass (MUST-66); the text of such a segment is cut off later. And a segment without length, unless it is a reset, may stand
    /// at the right edge: that is where the acknowledgments of a peer stand that has filled the window, and two such peers would not hear each other.
    fn is_acceptable(&self, segment: &Segment) -> bool {
        let (nxt, window) = (self.rcv.nxt, self.rcv.window());
        if segment.seq == nxt {
            return true;
        }
        let in_window = |seq: SeqNum| nxt <= seq && seq - nxt < window;
        match segment.len() {
            0 => in_window(segment.seq) || (segment.seq == nxt + window && !segment.flags.has(Flags::RST)),
            len => in_window(segment.seq) || in_window(segment.seq + (len - 1)),
        }
    }

    /// Second, check the RST bit (RFC 5961 §3.2).
    fn check_reset(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Step {
        if !segment.flags.has(Flags::RST) {
            return Continue(());
        }
        if cx.config.strict_reset && segment.seq != self.rcv.nxt {
            self.challenge(cx);
            return Break(Disposition::Dropped(Cause::ResetInWindow));
        }
        let reason = match self.state() {
            State::TimeWait => CloseReason::Finished,
            State::CloseWait => CloseReason::ResetAfterFin,
            _ => CloseReason::Reset,
        };
        self.die(reason);
        Break(Disposition::Accepted)
    }

    /// Fourth, check the SYN bit (RFC 5961 §4.2): whatever its number, only a challenge answers it.
    fn check_syn(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Step {
        if !segment.flags.has(Flags::SYN) {
            return Continue(());
        }
        self.challenge(cx);
        Break(Disposition::Dropped(Cause::SynInWindow))
    }

    /// Fifth, check the ACK field (RFC 9293 §3.10.7.4, RFC 5961 §5.2).
    fn check_ack(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Step {
        if !segment.flags.has(Flags::ACK) {
            return Break(Disposition::Dropped(Cause::AckMissing));
        }
        if self.snd.nxt < segment.ack {
            self.challenge(cx);
            return Break(Disposition::Dropped(Cause::AckUnsent));
        }
        if cx.config.strict_ack && segment.ack < self.snd.una.back(self.oldest_credible_ack()) {
            self.challenge(cx);
            return Break(Disposition::Dropped(Cause::AckTooOld));
        }
        Continue(())
    }

    /// How far behind SND.UNA an acknowledgment may be: no further than the largest window (RFC 5961 §5.2), nor than what was ever acknowledged,
    /// SYN or FIN included. A young connection is the easiest to guess at; Linux bounds it so too.
    fn oldest_credible_ack(&self) -> u32 {
        let acknowledged = u32::try_from(self.counters.bytes_acknowledged + 1).unwrap_or(u32::MAX);
        self.snd.max_window().min(acknowledged)
    }

    fn take_ack(&mut self, cx: &mut Context<'_>, segment: &Segment) {
        self.last_received = cx.now;
        self.probes = 0;
        self.soft_error = None;
        let before = self.snd.una;
        let flight = self.snd.flight();
        let window_changed = self.snd.announced(segment) != self.snd.window();
        if before < segment.ack {
            self.take_new_ack(cx, segment, flight);
        } else if segment.ack == before && flight > 0 && self.is_duplicate(segment, window_changed) {
            self.take_duplicate_ack(cx, segment);
        }
        if before <= segment.ack && self.snd.on_window(segment) {
            self.on_window_changed();
        }
        self.signal_room();
    }

    /// RFC 5681 §2, with the exception that a window change beside new SACK information still is a duplicate (RFC 6675 §2).
    fn is_duplicate(&self, segment: &Segment, window_changed: bool) -> bool {
        let empty = segment.is_empty();
        let reports_more = segment.options.sack.as_slice().iter().any(|block| self.snd.una < block.left);
        empty && (!window_changed || (self.negotiated.sack && reports_more))
    }

    fn take_new_ack(&mut self, cx: &mut Context<'_>, segment: &Segment, flight: u32) {
        let in_flight = self.recovery.pipe(flight);
        let window_limited = in_flight.saturating_add(2 * u32::from(self.segment_len_max())) >= self.congestion.window();
        let acked = self.snd.on_ack(segment.ack, cx.pool);
        self.counters.bytes_acknowledged += u64::from(acked.bytes);
        self.retransmits = 0;
        self.unanswered_since = None;
        let covered = self.recovery.on_acknowledged(self.snd.una, cx.now);
        let sample = self.sample(cx.now, segment, covered);
        if let Some(sample) = sample {
            self.rtt.on_sample(sample);
            self.rtt.reset_back_off();
        }
        let event = Acknowledged { now: cx.now, bytes: acked.bytes, in_flight, rtt: sample, window_limited };
        match self.recovery.on_progress(self.snd.una, self.hole_end(segment)) {
            Progress::Normal | Progress::AfterTimeout => self.congestion.on_acknowledged(event),
            Progress::Partial => self.congestion.on_partial(acked.bytes),
            Progress::Recovered => self.congestion.on_recovered(self.recovery.pipe(self.snd.flight())),
        }
        self.restart_retransmission(cx.now);
        if acked.fin {
            self.halves.on_fin_acknowledged();
            self.on_half_changed(cx.now, cx.config);
        }
    }

    fn take_duplicate_ack(&mut self, cx: &mut Context<'_>, segment: &Segment) {
        if !cx.config.fast_retransmit {
            return;
        }
        let flight = self.recovery.pipe(self.snd.flight());
        match self.recovery.on_duplicate(self.snd.una, self.snd.nxt, self.hole_end(segment)) {
            Duplicate::Threshold => {
                cx.counters.fast_retransmits += 1;
                self.congestion.on_loss(Loss { now: cx.now, in_flight: flight });
            }
            Duplicate::Further => self.congestion.on_duplicate(u32::from(self.segment_len_max())),
            Duplicate::Early | Duplicate::Ignored => {}
        }
    }

    /// Where the first missing range ends: at the lowest SACK block, or after one segment.
    fn hole_end(&self, segment: &Segment) -> SeqNum {
        let one_segment = (self.snd.una + u32::from(self.segment_len_max())).min(self.snd.nxt);
        if !self.negotiated.sack {
            return one_segment;
        }
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        let blocks = segment.options.sack.as_slice().iter();
        let lowest = blocks.filter(|block| una < block.left && block.left < block.right && block.right <= nxt).map(|block| block.left);
        lowest.reduce(SeqNum::min).unwrap_or(one_segment)
    }

    /// Karn's rule first; an echoed timestamp where that gives nothing (RFC 7323 §4.1).
    fn sample(&self, now: Instant, segment: &Segment, covered: Covered) -> Option<Duration> {
        let echoed = || {
            let (clock, timestamps) = self.clock.as_ref().zip(segment.options.timestamps)?;
            clock.round_trip(timestamps.echo, now)
        };
        covered.rtt.or_else(echoed)
    }

    /// RFC 6298 §5.2, §5.3.
    pub(super) fn restart_retransmission(&mut self, now: Instant) {
        if self.snd.flight() == 0 {
            self.timers.clear(TimerName::Retransmit);
        } else {
            self.timers.set(TimerName::Retransmit, now + self.rtt.rto());
        }
    }

    fn on_window_changed(&mut self) {
        if self.snd.usable_window() > 0 && self.timers.is_set(TimerName::Persist) {
            self.timers.clear(TimerName::Persist);
            self.rtt.reset_back_off();
        }
    }

    /// Sixth, check the URG bit: the data stays in its place in the stream (RFC 6093), the application is told.
    fn take_urgent(&mut self, segment: &Segment) {
        if segment.flags.has(Flags::URG) && self.halves.theirs() == Theirs::Open && self.rcv.on_urgent(segment) {
            self.events |= Events::URGENT;
        }
    }

    /// Seventh, process the segment text.
    fn accept_text(&mut self, cx: &mut Context<'_>, segment: &Segment, text: Payload<'_>) -> Step {
        if text.is_empty() || self.halves.theirs() == Theirs::Finished {
            return Continue(());
        }
        if self.reader == Reader::Gone && self.rcv.nxt < segment.seq + segment.payload_len {
            self.die(CloseReason::Aborted);
            return Break(Disposition::Refused(Cause::NobodyReads));
        }
        let had_gaps = self.rcv.has_gaps();
        let seq = segment.seq + u32::from(segment.flags.has(Flags::SYN));
        let accepted = self.rcv.on_text(seq, text, self.options.receive_buffer, cx.pool);
        self.counters.bytes_received += u64::from(accepted.delivered);
        cx.counters.out_of_order += u64::from(accepted.disorder && accepted.delivered == 0);
        cx.counters.out_of_order_dropped += u64::from(accepted.refused);
        if accepted.delivered > 0 && self.reader == Reader::Present {
            self.events |= Events::READABLE;
        }
        if accepted.disorder || accepted.delivered == 0 || had_gaps {
            self.ack.enter_quick_mode(cx.config.quick_acks);
            self.ack.on_arrival(cx.now, Arrival::Urgent);
        } else {
            self.on_text_in_order(cx, segment, accepted.delivered);
        }
        Continue(())
    }

    fn on_text_in_order(&mut self, cx: &Context<'_>, segment: &Segment, bytes: u32) {
        let full = if segment.segment_size == 0 { segment.payload_len } else { u32::from(segment.segment_size) };
        let due = self.ack.on_arrival(cx.now, Arrival::InOrder { bytes, segment: full });
        if self.options.quickack {
            self.ack.require();
        } else if let Some(at) = due {
            self.timers.set(TimerName::DelayedAck, at);
        }
    }

    /// Eighth, check the FIN bit.
    fn accept_fin(&mut self, cx: &Context<'_>, segment: &Segment) {
        if segment.flags.has(Flags::FIN) && self.halves.theirs() == Theirs::Open {
            let at = segment.seq + u32::from(segment.flags.has(Flags::SYN)) + segment.payload_len;
            if self.rcv.nxt <= at && at - self.rcv.nxt <= self.rcv.window() {
                self.rcv.on_fin(at);
            }
        }
        if self.rcv.take_fin() {
            self.halves.on_fin_received();
            self.ack.on_arrival(cx.now, Arrival::Urgent);
            self.events |= Events::READABLE | Events::READ_CLOSED;
            self.on_half_changed(cx.now, cx.config);
        } else if segment.flags.has(Flags::FIN) {
            self.ack.require();
        }
    }

    /// A challenge acknowledgment (RFC 5961): at most one per interval and connection, so that two confused ends do not talk for ever and
    /// nobody can count another connection's (R5961-8).
    fn challenge(&mut self, cx: &mut Context<'_>) {
        let allowed = self.challenge.last_at.is_none_or(|at| cx.now - at >= cx.config.challenge_ack_interval);
        if allowed {
            self.challenge.last_at = Some(cx.now);
            self.challenge.data_answers = 0;
            cx.counters.challenge_acks += 1;
            self.ack.require();
        } else {
            cx.counters.challenge_acks_suppressed += 1;
        }
    }

    /// An acknowledgment for a segment outside the window. Retransmitted data deserves one each, within reason: the acknowledgment of its
    /// first transmission was probably lost.
    fn answer_unacceptable(&mut self, cx: &mut Context<'_>, segment: &Segment) {
        let occupies_space = segment.payload_len > 0 || segment.flags.has(Flags::FIN);
        if occupies_space && self.challenge.data_answers < DATA_ANSWERS_MAX {
            self.challenge.data_answers += 1;
            self.challenge.last_at.get_or_insert(cx.now);
            self.ack.require();
        } else {
            self.challenge(cx);
        }
    }

    /// In tests and debug builds, after every entry point.
    pub(super) fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            self.assert_invariants();
        }
    }

    pub(super) fn is_recovering(&self) -> bool {
        self.recovery.phase() != Phase::Open
    }
}

/// Acknowledgments that out-of-window data may draw per challenge interval, where Linux answers every segment.
const DATA_ANSWERS_MAX: u8 = 10;
