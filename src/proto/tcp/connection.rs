//! One connection whose handshake is complete: the composition of sender, receiver, acknowledgment policy, recovery, congestion control, round
//! trip estimator and timers. The parts answer facts; only the connection acts on them.
//!
//! ```text
//!    segments in ─► input ─► Sender, Receiver, AckPolicy, Recovery, Congestion, Estimator
//!    time in ─────► timeout ─► Timers
//!    write, read, shutdown ─► here
//!    segments out ◄─ output, asked by the engine until it has nothing more to say
//! ```
//!
//! It must not know: other connections, frames, neighbours, wakers.

use std::sync::Arc;
use std::time::Duration;

use super::ack::AckPolicy;
use super::buffer::{Pool, Queue};
use super::close::{CloseReason, RecvError, SendError};
use super::config::Config;
use super::congestion::Congestion;
use super::context::{Context, Events, Path};
use super::halves::{Ending, Halves, Ours, Theirs};
use super::negotiated::Negotiated;
use super::receive::Receiver;
use super::recovery::Recovery;
use super::reset;
use super::rtt::{Bounds, Estimator};
use super::send::Sender;
use super::socket::{SocketOption, SocketOptions};
use super::state::State;
use super::timers::{TimerName, Timers};
use super::timestamps::Clock;
use crate::proto::Instant;
use crate::proto::wire::{Segment, SeqNum, Tuple};

/// A connection in a synchronised state (RFC 9293 §3.3.2), from ESTABLISHED to the last acknowledgment.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) tuple: Tuple,
    pub(super) negotiated: Negotiated,
    pub(super) path: Path,
    /// Shared with every socket on which nothing was set.
    pub(super) options: Arc<SocketOptions>,
    pub(super) halves: Halves,
    pub(super) snd: Sender,
    pub(super) rcv: Receiver,
    pub(super) ack: AckPolicy,
    pub(super) recovery: Recovery,
    pub(super) congestion: Congestion,
    pub(super) rtt: Estimator,
    pub(super) timers: Timers,
    pub(super) clock: Option<Clock>,
    pub(super) last_ack_sent: SeqNum,
    pub(super) last_received: Instant,
    pub(super) last_sent: Instant,
    /// Consecutive retransmission time-outs, and when the data of the first one was sent.
    pub(super) retransmits: u32,
    pub(super) unanswered_since: Option<Instant>,
    /// Unanswered keepalive or window probes.
    pub(super) probes: u32,
    pub(super) probe_due: Option<Probe>,
    pub(super) challenge: Challenge,
    pub(super) holding: Holding,
    pub(super) reader: Reader,
    pub(super) error: Option<CloseReason>,
    /// What a router said since the peer was last heard: the reason if the connection times out (RFC 5461 §4, Linux's `sk_err_soft`).
    pub(super) soft_error: Option<CloseReason>,
    pub(super) events: Events,
    pub(super) write_blocked: bool,
    pub(super) counters: Counters,
}

/// A segment that is sent to hear an answer, not for what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// `<SEQ=SND.UNA-1>` without data: keepalive, or a closed window.
    Bare,
    /// What a small window leaves room for.
    Partial,
}

/// How many challenge acknowledgments may still be sent (RFC 5961 §7), per connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) last_at: Option<Instant>,
    pub(super) data_answers: u8,
}

/// Whether a partial segment is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// By the rules.
    ByRule,
    /// It has waited long enough.
    Released,
}

/// Who reads what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// The application.
    Present,
    /// The application closed its reading side, but still holds the socket.
    ShutDown,
    /// Nobody: the socket was closed and lives on only to deliver what was written.
    Gone,
}

/// What a connection has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) retransmits: u64,
    pub(super) bytes_acknowledged: u64,
    pub(super) bytes_received: u64,
    pub(super) segments_sent: u64,
    pub(super) segments_received: u64,
}

/// What a finished handshake hands over.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) tuple: Tuple,
    pub(crate) iss: SeqNum,
    pub(crate) irs: SeqNum,
    pub(crate) negotiated: Negotiated,
    pub(crate) options: Arc<SocketOptions>,
    pub(crate) path: Path,
    /// The window of the peer's last segment, in bytes.
    pub(crate) window: u32,
    /// The window that our SYN announced, in bytes.
    pub(crate) announced: u32,
    pub(crate) clock: Option<Clock>,
    pub(crate) rtt: Option<Duration>,
    pub(crate) retransmits: u32,
}

/// How a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum End {
    /// It died of this.
    Dead(CloseReason),
    /// Both sides closed.
    Finished(Ending),
}

impl Connection {
    pub(crate) fn new(established: Established, segment: &Segment, config: &Config, now: Instant) -> Self {
        let Established { tuple, iss, irs, negotiated, options, path, window, announced, clock, rtt: sample, retransmits } = established;
        let send_scale = negotiated.scales.map_or(0, |scales| scales.send);
        let receive_scale = negotiated.scales.map_or(0, |scales| scales.receive);
        let mut rtt = Estimator::new(Bounds { initial: config.rto_initial, min: config.rto_min, max: config.rto_max });
        match sample {
            Some(sample) => rtt.on_sample(sample),
            None if retransmits > 0 => rtt.on_handshake_timeout(),
            None => {}
        }
        let mut connection = Self {
            snd: Sender::new(iss, send_scale, window, segment),
            rcv: Receiver::new(irs, receive_scale, announced, config.reassembly_ranges),
            ack: AckPolicy::new(config.quick_acks, config.delayed_ack, u32::from(path.mss)),
            recovery: Recovery::new(iss, config.duplicate_ack_threshold),
            congestion: Congestion::Fixed(0),
            rtt,
            timers: Timers::default(),
            clock,
            last_ack_sent: irs + 1,
            last_received: now,
            last_sent: now,
            retransmits: 0,
            unanswered_since: None,
            probes: 0,
            probe_due: None,
            challenge: Challenge::default(),
            holding: Holding::ByRule,
            reader: Reader::Present,
            error: None,
            soft_error: None,
            events: Events::WRITABLE,
            write_blocked: false,
            counters: Counters::default(),
            halves: Halves::open(),
            tuple,
            negotiated,
            path,
            options,
        };
        // RFC 6928 §2: a handshake that lost more than one SYN begins with one segment.
        let segments = if retransmits > 1 { 1 } else { config.initial_window };
        connection.congestion = Congestion::new(config, u32::from(connection.segment_len_max()), segments);
        connection.arm_keepalive();
        connection
    }

    pub(crate) fn tuple(&self) -> &Tuple {
        &self.tuple
    }

    pub(crate) fn state(&self) -> State {
        self.halves.state()
    }

    pub(crate) fn options(&self) -> &Arc<SocketOptions> {
        &self.options
    }

    /// How it is over, if it is.
    pub(crate) fn end(&self) -> Option<End> {
        match self.error {
            Some(reason) => Some(End::Dead(reason)),
            None => self.halves.ending().map(End::Finished),
        }
    }

    /// The earliest time at which [`on_time`](Self::on_time) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.next().map(|(_, at)| at)
    }

    /// Takes the edges since the last call.
    pub(crate) fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    /// What is ready now.
    pub(crate) fn levels(&self) -> Events {
        let mut levels = Events::NONE;
        if self.rcv.readable() > 0 {
            levels |= Events::READABLE;
        }
        if self.halves.theirs() == Theirs::Finished || self.reader != Reader::Present {
            levels |= Events::READABLE | Events::READ_CLOSED;
        }
        if self.halves.ours() != Ours::Open {
            levels |= Events::WRITABLE | Events::WRITE_CLOSED;
        } else if self.has_room() {
            levels |= Events::WRITABLE;
        }
        levels
    }

    /// Writes as much of `data` as the send buffer takes.
    pub(crate) fn send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Result<usize, SendError> {
        if self.halves.ours() != Ours::Open {
            return Err(SendError::BrokenPipe);
        }
        if data.is_empty() {
            return Ok(0);
        }
        let written = self.snd.write(data, self.options.send_buffer, cx.pool);
        if written < data.len() {
            self.write_blocked = true;
        }
        if written == 0 {
            return Err(SendError::WouldBlock);
        }
        if self.options.cork && !self.timers.is_set(TimerName::Cork) {
            self.holding = Holding::ByRule;
            self.timers.set(TimerName::Cork, cx.now + cx.config.cork_timeout);
        }
        Ok(written)
    }

    /// Reads what is there.
    pub(crate) fn recv(&mut self, buffer: &mut [u8], pool: &mut Pool) -> Result<usize, RecvError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.rcv.read(buffer, pool) {
            0 if self.at_end_of_stream() => Ok(0),
            0 => Err(RecvError::WouldBlock),
            read => {
                if self.rcv.window_update_is_due(self.options.receive_buffer, self.receive_step()) {
                    self.ack.require();
                }
                Ok(read)
            }
        }
    }

    /// Looks at what is there.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        match self.rcv.peek(buffer) {
            0 if buffer.is_empty() || self.at_end_of_stream() => Ok(0),
            0 => Err(RecvError::WouldBlock),
            peeked => Ok(peeked),
        }
    }

    /// Closes our half: FIN follows what was written (RFC 9293 §3.10.4).
    pub(crate) fn shutdown(&mut self) {
        self.halves.on_shutdown();
        self.snd.queue_fin();
        self.events |= Events::WRITABLE | Events::WRITE_CLOSED;
    }

    /// The application will not read any more.
    pub(crate) fn shutdown_read(&mut self) {
        if self.reader == Reader::Present {
            self.reader = Reader::ShutDown;
        }
        self.events |= Events::READABLE | Events::READ_CLOSED;
    }

    /// The handle was dropped: what was written is still delivered, unless unread data or a zero linger ask for a reset (RFC 9293 SHLD-3).
    pub(crate) fn release(&mut self, now: Instant, config: &Config) -> Release {
        self.reader = Reader::Gone;
        if self.options.zero_linger || self.rcv.readable() > 0 {
            return Release::Reset;
        }
        self.shutdown();
        self.on_half_changed(now, config);
        Release::Linger
    }

    /// The reset that ends the connection from our side, if one is due: not where the peer has nothing left to lose (RFC 9293 §3.10.5).
    pub(crate) fn abort(&mut self, now: Instant, reason: CloseReason, pool: &mut Pool) -> Option<Segment> {
        let state = self.state();
        self.snd.clear(pool);
        self.die(reason);
        let quiet = matches!(state, State::Closing | State::LastAck | State::TimeWait | State::Closed);
        (!quiet).then(|| self.reset_segment(now))
    }

    /// `<SEQ=SND.NXT><ACK=RCV.NXT><CTL=RST,ACK>`
    pub(super) fn reset_segment(&self, now: Instant) -> Segment {
        let reset = reset::active(self.snd.nxt, self.rcv.nxt, self.clock.as_ref(), now);
        Segment { source_port: self.tuple.local_port, destination_port: self.tuple.remote_port, ..reset }
    }

    pub(crate) fn set_option(&mut self, option: SocketOption) {
        Arc::make_mut(&mut self.options).set(option);
        match option {
            SocketOption::Keepalive(_) | SocketOption::KeepaliveTimes(_) => self.arm_keepalive(),
            SocketOption::Cork(false) => self.timers.clear(TimerName::Cork),
            SocketOption::Quickack(true) if self.ack.is_owed() => self.ack.require(),
            _ => {}
        }
    }

    /// The path changed: segments are cut anew from here on.
    pub(crate) fn set_path(&mut self, path: Path) {
        if self.path != path {
            self.path = path;
            self.congestion.on_mss(u32::from(self.segment_len_max()));
        }
    }

    /// What a resting 4-tuple must remember: SND.NXT, RCV.NXT, TS.Recent and the window field.
    pub(crate) fn rest(&self) -> Rest {
        let window = u16::try_from(self.rcv.window() >> self.rcv.scale()).unwrap_or(u16::MAX);
        Rest { snd_nxt: self.snd.nxt, rcv_nxt: self.rcv.nxt, ts_recent: self.clock.map(|clock| clock.recent()), window }
    }

    /// True if the last write did not fit.
    pub(crate) fn is_write_blocked(&self) -> bool {
        self.write_blocked
    }

    /// Gives all memory back before the connection is dropped.
    pub(crate) fn give_back(&mut self, pool: &mut Pool) {
        self.snd.clear(pool);
        self.rcv.clear(pool);
    }

    /// An acknowledgment goes out with the next output.
    pub(crate) fn acknowledge(&mut self) {
        self.ack.require();
    }

    /// A router reports that the segment at `seq` did not arrive. It counts only if that is in flight, and ends nothing (RFC 5927 §4.1, §5.2).
    pub(crate) fn on_soft_error(&mut self, seq: SeqNum, reason: CloseReason) -> Credit {
        if !self.is_in_flight(seq) {
            return Credit::Refused;
        }
        self.soft_error = Some(reason);
        Credit::Given
    }

    /// True if a segment that begins at `seq` is unacknowledged.
    pub(crate) fn is_in_flight(&self, seq: SeqNum) -> bool {
        // Not by two comparisons: half of the number space away from an empty flight both would hold.
        seq - self.snd.una < self.snd.nxt - self.snd.una
    }

    /// The path carries less than was sent: what is too long for it goes again in smaller segments. That is no sign of congestion, so the
    /// window stays (RFC 1191 §6.4, RFC 8201 §5.4).
    pub(crate) fn on_too_big(&mut self, now: Instant, path: Path) {
        self.set_path(path);
        self.recovery.on_too_big(u32::from(self.segment_len_max()), self.snd.nxt);
        self.restart_retransmission(now);
    }

    /// Replaces the congestion controller.
    pub(crate) fn set_congestion(&mut self, congestion: Congestion) {
        self.congestion = congestion;
    }

    /// What is left for the application when the protocol side is over.
    pub(crate) fn take_receive_queue(&mut self) -> Queue {
        self.rcv.take_queue()
    }

    /// Payload bytes of a full-sized segment: the smaller of what the peer and the path take, less our options (RFC 6691).
    pub(super) fn segment_len_max(&self) -> u16 {
        let timestamps = if self.clock.is_some() { TIMESTAMPS_LEN } else { 0 };
        self.negotiated.mss.min(self.path.mss).saturating_sub(timestamps).max(1)
    }

    /// The application learns of the end, and nothing is sent any more.
    pub(super) fn die(&mut self, reason: CloseReason) {
        self.error.get_or_insert(reason);
        self.events |= Events::READABLE | Events::WRITABLE | Events::READ_CLOSED | Events::WRITE_CLOSED;
        if reason != CloseReason::Finished {
            self.events |= Events::ERROR;
        }
    }

    /// A half ended: FIN-WAIT-2 without a reader does not wait for ever.
    pub(super) fn on_half_changed(&mut self, now: Instant, config: &Config) {
        if self.state() == State::FinWait2 && self.reader == Reader::Gone {
            self.timers.set(TimerName::FinWait2, now + config.fin_wait_2);
        }
    }

    /// A write that found no room is told when a third of the buffer is free.
    pub(super) fn signal_room(&mut self) {
        if self.write_blocked && self.has_room() {
            self.write_blocked = false;
            self.events |= Events::WRITABLE;
        }
    }

    pub(super) fn arm_keepalive(&mut self) {
        if self.options.keepalive {
            self.timers.set(TimerName::Keepalive, self.last_received + self.options.keepalive_times.idle);
        } else {
            self.timers.clear(TimerName::Keepalive);
        }
    }

    /// The largest step that the announced window waits for.
    pub(super) fn receive_step(&self) -> u32 {
        u32::from(self.path.mss)
    }

    fn at_end_of_stream(&self) -> bool {
        self.rcv.is_finished() || self.reader != Reader::Present
    }

    fn has_room(&self) -> bool {
        let capacity = self.options.send_buffer;
        self.snd.room(capacity) >= (capacity as usize / 3).max(1)
    }
}

/// What is left to know of a connection in TIME-WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) snd_nxt: SeqNum,
    pub(crate) rcv_nxt: SeqNum,
    pub(crate) ts_recent: Option<u32>,
    pub(crate) window: u16,
}

/// Whether a router's report is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Credit {
    /// It quotes what is in flight.
    Given,
    /// Anybody could have sent it.
    Refused,
}

/// What dropping the handle asks of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Release {
    /// The connection closes in the background.
    Linger,
    /// It is to be aborted.
    Reset,
}

/// NOP, NOP and the timestamps option, in bytes (RFC 7323 appendix A).
pub(super) const TIMESTAMPS_LEN: u16 = 12;
