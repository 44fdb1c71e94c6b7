//! What to send now: the first of these that has something to say.
//!
//! ```text
//!   probe? ─► something lost? ─► new data? ─► FIN? ─► bare acknowledgment?
//! ```
//!
//! The congestion window, the peer's window, Nagle's algorithm and silly-window avoidance (RFC 9293 §3.8.6.2.1) meet here and nowhere else.
//! A frame may be a super-packet; only its last segment may be partial.

use std::ops::ControlFlow;

use super::ack::Carrier;
use super::connection::{Connection, Holding, Probe};
use super::context::Context;
use super::send::Last;
use super::timers::TimerName;
use crate::proto::link::TxFrame;
use crate::proto::wire::{Flags, Options, SackBlocks, Segment, SeqNum};

/// A range of the send sequence space that goes into one frame.
#[derive(Clone, Copy, Debug)]
struct Range {
    seq: SeqNum,
    len: u32,
    fin: Fin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    Absent,
    Present,
}

impl Connection {
    /// Puts the payload of the next segment into `frame` and returns its header, or nothing if there is nothing to send. Ports, addresses and
    /// everything below are the caller's.
    pub(crate) fn output(&mut self, cx: &mut Context<'_>, frame: &mut TxFrame) -> Option<Segment> {
        if self.end().is_some() {
            return None;
        }
        let segment =
            self.probe(cx).or_else(|| self.retransmission(cx, frame)).or_else(|| self.new_data(cx, frame)).or_else(|| self.bare_ack(cx));
        if segment.is_none() {
            self.arm_persist(cx);
        }
        self.check_invariants();
        segment
    }

    /// The acknowledgment of their FIN when nothing else will be sent any more: the connection moves to TIME-WAIT.
    pub(crate) fn last_ack(&mut self, cx: &Context<'_>) -> Option<Segment> {
        self.ack.is_owed().then(|| self.header(cx, self.snd.nxt, Flags::ACK, Carrier::Bare))
    }

    fn probe(&mut self, cx: &Context<'_>) -> Option<Segment> {
        match self.probe_due? {
            Probe::Bare => {
                self.probe_due = None;
                Some(self.header(cx, self.snd.una.back(1), Flags::ACK, Carrier::Bare))
            }
            Probe::Partial => None,
        }
    }

    fn retransmission(&mut self, cx: &mut Context<'_>, frame: &mut TxFrame) -> Option<Segment> {
        let (start, end) = self.recovery.next_lost()?;
        let pipe = self.recovery.pipe(self.snd.flight());
        let allowed = self.congestion.window().saturating_sub(pipe);
        let mss = self.mss_with_options();
        if allowed < mss && !self.recovery.must_resend() {
            return None;
        }
        let data_end = end.min(self.snd.data_end());
        let limit = self.frame_len_max(mss).min((allowed / mss).max(1) * mss).min(self.retransmission_window(start, mss)?);
        let len = data_end.since(start).min(limit);
        let fin = if start + len == self.snd.data_end() && start + len < end { Fin::Present } else { Fin::Absent };
        let segment = self.segment(cx, frame, Range { seq: start, len, fin })?;
        self.recovery.on_resent(segment.end(), cx.now);
        self.counters.retransmits += u64::from(segment.count());
        cx.counters.retransmits += u64::from(segment.count());
        Some(segment)
    }

    /// How far a retransmission from `start` may go after the peer's window shrank (RFC 9293 SHLD-16). What stands first always goes, as the
    /// probe of a window that shrank to zero (MUST-35).
    fn retransmission_window(&self, start: SeqNum, mss: u32) -> Option<u32> {
        match (self.snd.una + self.snd.window()).since(start) {
            0 => (start == self.snd.una).then_some(mss),
            room => Some(room),
        }
    }

    fn new_data(&mut self, cx: &Context<'_>, frame: &mut TxFrame) -> Option<Segment> {
        let len = self.sendable(cx)?;
        let seq = self.snd.nxt;
        let fin_fits = len == self.snd.unsent() && len < self.snd.usable_window();
        let fin = if self.snd.fin_is_unsent() && fin_fits { Fin::Present } else { Fin::Absent };
        if len == 0 && fin == Fin::Absent {
            return None;
        }
        if self.snd.flight() == 0 && self.is_idle(cx) {
            self.congestion.on_idle();
        }
        let segment = self.segment(cx, frame, Range { seq, len, fin })?;
        let end = segment.end();
        let mss = self.mss_with_options();
        let last = if segment.payload_len % mss == 0 { Last::Full } else { Last::Partial };
        self.snd.on_sent(end, last);
        self.recovery.on_sent(seq, end, cx.now);
        self.probe_due = None;
        self.holding = Holding::ByRule;
        if !self.timers.is_set(TimerName::Retransmit) {
            self.restart_retransmission(cx.now);
        }
        Some(segment)
    }

    /// How many bytes of new data may go into the next frame; none if nothing may be sent, not even FIN.
    fn sendable(&self, cx: &Context<'_>) -> Option<u32> {
        let unsent = self.snd.unsent();
        let window = self.snd.usable_window();
        if unsent == 0 {
            return (self.snd.fin_is_unsent() && window > 0).then_some(0);
        }
        let mss = self.mss_with_options();
        let usable = unsent.min(window).min(self.congestion_room(cx)).min(self.frame_len_max(mss));
        let full = usable / mss * mss;
        if usable < unsent {
            // Cut by a window: only whole segments, unless nothing else will ever move it (RFC 9293 §3.8.6.2.1 (3)).
            let silly = full == 0 && !self.may_send_part_of_window(usable, window);
            return (!silly && usable > 0).then_some(if full == 0 { usable } else { full });
        }
        if usable > full && self.holds_partial() {
            return (full > 0).then_some(full);
        }
        Some(usable)
    }

    /// Bytes that the congestion window still allows, with one more segment for each of the first two duplicate ACKs (RFC 3042).
    fn congestion_room(&self, cx: &Context<'_>) -> u32 {
        let limited = if cx.config.limited_transmit && !self.is_recovering() { self.recovery.duplicates().min(2) } else { 0 };
        let window = self.congestion.window().saturating_add(limited * u32::from(self.segment_len_max()));
        window.saturating_sub(self.recovery.pipe(self.snd.flight()))
    }

    fn may_send_part_of_window(&self, usable: u32, window: u32) -> bool {
        let window_is_the_limit = usable == window;
        let half_of_largest = usable >= (self.snd.max_window() / 2).max(1);
        window_is_the_limit && self.snd.flight() == 0 && (half_of_largest || self.probe_due == Some(Probe::Partial))
    }

    /// Nagle's algorithm in Minshall's variant: one partial segment may be in flight (RFC 9293 §3.7.4). FIN pushes it out.
    fn holds_partial(&self) -> bool {
        if self.snd.fin_is_unsent() || self.holding == Holding::Released {
            return false;
        }
        self.options.cork || (!self.options.nodelay && self.snd.partial_in_flight())
    }

    fn bare_ack(&mut self, cx: &Context<'_>) -> Option<Segment> {
        self.ack.is_due().then(|| self.header(cx, self.snd.acceptable_seq(), Flags::ACK, Carrier::Bare))
    }

    /// Builds the segment for `range`; the payload may turn out shorter when the frame has no more room for views.
    fn segment(&mut self, cx: &Context<'_>, frame: &mut TxFrame, range: Range) -> Option<Segment> {
        let mss = self.mss_with_options();
        let taken = self.snd.views(range.seq, range.len, |view| match frame.put_view(view) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        if taken == 0 && range.len > 0 {
            return None;
        }
        let complete = taken == range.len;
        let mut flags = Flags::ACK;
        if range.seq + taken == self.snd.data_end() && taken > 0 {
            flags |= Flags::PSH;
        }
        if complete && range.fin == Fin::Present {
            flags |= Flags::FIN;
        }
        let mut segment = self.header(cx, range.seq, flags, Carrier::Data);
        segment.payload_len = taken;
        if taken > mss {
            segment.segment_size = u16::try_from(mss).expect("an MSS has 16 bits");
        }
        self.counters.segments_sent += u64::from(segment.count()) - 1;
        if taken > 0 || flags.has(Flags::FIN) {
            self.last_sent = cx.now;
        }
        Some(segment)
    }

    /// A header at `seq` with our acknowledgment and window: whatever is owed is paid with it.
    fn header(&mut self, cx: &Context<'_>, seq: SeqNum, flags: Flags, carrier: Carrier) -> Segment {
        let window = self.rcv.announce(self.options.receive_buffer, self.receive_step());
        self.last_ack_sent = self.rcv.nxt;
        self.ack.on_sent(cx.now, carrier);
        self.timers.clear(TimerName::DelayedAck);
        self.counters.segments_sent += 1;
        Segment {
            source_port: self.tuple.local_port,
            destination_port: self.tuple.remote_port,
            seq,
            ack: self.rcv.nxt,
            flags,
            window,
            options: Options { timestamps: self.clock.map(|clock| clock.option(cx.now)), sack: self.sack_blocks(), ..Options::default() },
            ..Segment::default()
        }
    }

    fn sack_blocks(&self) -> SackBlocks {
        if !self.negotiated.sack {
            return SackBlocks::default();
        }
        let mut blocks = self.rcv.sack_blocks();
        blocks.truncate(if self.clock.is_some() { 3 } else { 4 });
        blocks
    }

    /// Payload of a full-sized segment with the options that it carries now.
    fn mss_with_options(&self) -> u32 {
        let blocks = self.sack_blocks().as_slice().len();
        let sack = if blocks == 0 { 0 } else { 4 + 8 * u32::try_from(blocks).expect("at most four") };
        u32::from(self.segment_len_max()).saturating_sub(sack).max(1)
    }

    /// The most payload that one frame takes: a multiple of the MSS.
    fn frame_len_max(&self, mss: u32) -> u32 {
        let room = self.path.super_len.saturating_sub(OPTIONS_ROOM);
        (room / mss * mss).max(mss)
    }

    /// RFC 5681 §4.1: idle for longer than the RTO.
    fn is_idle(&self, cx: &Context<'_>) -> bool {
        cx.config.slow_start_after_idle && cx.now - self.last_sent > self.rtt.base_rto()
    }

    /// Data or FIN waits, nothing is in flight, and only the peer's window can help: ask for it in time (RFC 9293 §3.8.6.1).
    fn arm_persist(&mut self, cx: &Context<'_>) {
        let unsent = self.snd.unsent() > 0 || self.snd.fin_is_unsent();
        let waiting = unsent && self.snd.flight() == 0 && !self.holds_back_for_cork();
        if waiting && !self.timers.is_set(TimerName::Persist) {
            self.timers.set(TimerName::Persist, cx.now + self.rtt.rto());
        }
    }

    fn holds_back_for_cork(&self) -> bool {
        self.options.cork && self.holding == Holding::ByRule && self.snd.unsent() <= self.snd.usable_window()
    }
}

/// Room for TCP options in a super-packet's header, in bytes.
const OPTIONS_ROOM: u32 = 40;
