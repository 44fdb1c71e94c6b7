//! The handshake: what the two SYNs agree on, and our own active open through SYN-SENT and SYN-RECEIVED (RFC 9293 §3.5, §3.10.7.3).
//!
//! ```text
//!   active open ─► SYN-SENT ── SYN,ACK ─────────────────► ESTABLISHED
//!                     └────── SYN (both open at once) ─► SYN-RECEIVED ── ACK ─► ESTABLISHED
//! ```
//!
//! A passive open in SYN-RECEIVED is no value of this module but a record in the SYN cache: it has no buffers and no socket.

use std::sync::Arc;
use std::time::Duration;

use super::buffer::Payload;
use super::close::CloseReason;
use super::config::Config;
use super::connection::{Connection, Established};
use super::context::{Context, Path};
use super::input::Cause;
use super::negotiated::{Negotiated, receive_scale};
use super::reset;
use super::socket::SocketOptions;
use super::state::State;
use super::timestamps::Clock;
use crate::proto::Instant;
use crate::proto::wire::{Flags, Options, Segment, SeqNum, Timestamps, Tuple};

/// The options of our SYN; with `peer`, of the SYN,ACK that answers that SYN: nothing is offered that it did not offer.
pub(crate) fn syn_options(config: &Config, receive_buffer: u32, path: Path, clock: Timestamps, peer: Option<&Options>) -> Options {
    let offered = |by_peer: fn(&Options) -> bool| peer.is_none_or(by_peer);
    Options {
        mss: Some(config.mss.map_or(path.mss, |mss| mss.min(path.mss))),
        window_scale: (config.window_scaling && offered(|peer| peer.window_scale.is_some())).then(|| receive_scale(config, receive_buffer)),
        sack_permitted: config.sack && offered(|peer| peer.sack_permitted),
        timestamps: (config.timestamps && offered(|peer| peer.timestamps.is_some())).then_some(clock),
        ..Options::default()
    }
}

/// The window field of a SYN: never scaled (RFC 7323 §2.2).
pub(crate) fn syn_window(receive_buffer: u32) -> u16 {
    u16::try_from(receive_buffer).unwrap_or(u16::MAX)
}

/// An active open on its way.
#[derive(Debug)]
pub(crate) struct Opening {
    tuple: Tuple,
    iss: SeqNum,
    options: Arc<SocketOptions>,
    path: Path,
    timestamp_offset: u32,
    phase: Phase,
    due: bool,
    retransmits: u32,
    started_at: Instant,
    deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    SynSent,
    SynReceived { irs: SeqNum, window: u16, peer: Options },
}

/// What a segment did to an opening.
#[derive(Debug)]
#[must_use]
pub(crate) enum Verdict {
    /// It was dropped and changes nothing.
    Dropped(Cause),
    /// The handshake is complete; the segment has been taken whole.
    Established(Box<Connection>),
    /// It is over.
    Failed(CloseReason),
    /// It is answered with a reset, and changes nothing.
    Reset,
    /// The handshake goes on: ask for output.
    Wait,
}

/// Everything that an active open begins with.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) tuple: Tuple,
    pub(crate) iss: SeqNum,
    pub(crate) timestamp_offset: u32,
    pub(crate) options: Arc<SocketOptions>,
    pub(crate) path: Path,
}

impl Opening {
    pub(crate) fn new(open: Open, now: Instant) -> Self {
        let Open { tuple, iss, timestamp_offset, options, path } = open;
        Self {
            tuple,
            iss,
            options,
            path,
            timestamp_offset,
            phase: Phase::SynSent,
            due: true,
            retransmits: 0,
            started_at: now,
            deadline: None,
        }
    }

    pub(crate) fn tuple(&self) -> &Tuple {
        &self.tuple
    }

    pub(crate) fn options(&self) -> &Arc<SocketOptions> {
        &self.options
    }

    pub(crate) fn options_mut(&mut self) -> &mut SocketOptions {
        Arc::make_mut(&mut self.options)
    }

    pub(crate) const fn state(&self) -> State {
        match self.phase {
            Phase::SynSent => State::SynSent,
            Phase::SynReceived { .. } => State::SynReceived,
        }
    }

    pub(crate) const fn iss(&self) -> SeqNum {
        self.iss
    }

    pub(crate) const fn irs(&self) -> Option<SeqNum> {
        match self.phase {
            Phase::SynSent => None,
            Phase::SynReceived { irs, .. } => Some(irs),
        }
    }

    pub(crate) const fn retransmits(&self) -> u32 {
        self.retransmits
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn set_path(&mut self, path: Path) {
        self.path = path;
    }

    /// Takes a segment of this connection.
    pub(crate) fn input(&mut self, cx: &mut Context<'_>, segment: &Segment, text: Payload<'_>) -> Verdict {
        match self.phase {
            Phase::SynSent => self.input_syn_sent(cx, segment, text),
            Phase::SynReceived { irs, window, peer } => self.input_syn_received(cx, segment, text, (irs, window, peer)),
        }
    }

    /// RFC 9293 §3.10.7.3; resets by RFC 5961 §3.2.
    fn input_syn_sent(&mut self, cx: &mut Context<'_>, segment: &Segment, text: Payload<'_>) -> Verdict {
        let flags = segment.flags;
        let acceptable = segment.ack == self.iss + 1;
        if flags.has(Flags::ACK) && !acceptable {
            self.hasten(cx.now, flags);
            return Verdict::Reset;
        }
        if flags.has(Flags::RST) {
            return if flags.has(Flags::ACK) { Verdict::Failed(CloseReason::Refused) } else { Verdict::Dropped(Cause::ResetOutOfWindow) };
        }
        if !flags.has(Flags::SYN) {
            return Verdict::Dropped(Cause::AckMissing);
        }
        if flags.has(Flags::ACK) {
            let mut connection = self.establish(cx, segment, segment.seq, &segment.options);
            connection.input_first(cx, segment, text);
            connection.acknowledge();
            return Verdict::Established(connection);
        }
        self.phase = Phase::SynReceived { irs: segment.seq, window: segment.window, peer: segment.options };
        self.due = true;
        Verdict::Wait
    }

    /// The peer still has an older connection on these ports, which the reset ends: the SYN need not wait a second to come again. Once, as
    /// Linux does.
    fn hasten(&mut self, now: Instant, flags: Flags) {
        if self.retransmits == 0 && !flags.has(Flags::RST) {
            self.deadline = self.deadline.map(|at| at.min(now + AFTER_RESET));
        }
    }

    /// RFC 9293 §3.10.7.4 for SYN-RECEIVED after an active open.
    fn input_syn_received(&mut self, cx: &mut Context<'_>, segment: &Segment, text: Payload<'_>, syn: (SeqNum, u16, Options)) -> Verdict {
        let (irs, _, peer) = syn;
        let flags = segment.flags;
        let nxt = irs + 1;
        let window = u32::from(syn_window(self.options.receive_buffer)).max(1);
        let in_window = nxt <= segment.seq && segment.seq - nxt < window;
        if flags.has(Flags::RST) {
            if segment.seq == nxt {
                return Verdict::Failed(CloseReason::Refused);
            }
            // Repeating our SYN,ACK is the challenge (RFC 5961 §3.2).
            self.due |= in_window;
            return Verdict::Dropped(if in_window { Cause::ResetInWindow } else { Cause::ResetOutOfWindow });
        }
        let crossed = flags.has(Flags::SYN | Flags::ACK) && segment.seq == irs;
        if flags.has(Flags::SYN) && !crossed {
            self.due = true;
            return Verdict::Wait;
        }
        if !flags.has(Flags::ACK) {
            return Verdict::Dropped(Cause::AckMissing);
        }
        if !crossed && !in_window {
            self.due = true;
            return Verdict::Dropped(Cause::OutOfWindow);
        }
        if segment.ack != self.iss + 1 {
            return Verdict::Reset;
        }
        if crossed {
            let mut connection = self.establish(cx, segment, irs, &peer);
            connection.acknowledge();
            return Verdict::Established(connection);
        }
        let mut connection = self.establish(cx, segment, irs, &peer);
        // Whatever the segment carries besides the acknowledgment is judged as in ESTABLISHED.
        let _ = connection.input(cx, segment, text);
        Verdict::Established(connection)
    }

    fn establish(&self, cx: &Context<'_>, segment: &Segment, irs: SeqNum, peer: &Options) -> Box<Connection> {
        let negotiated = Negotiated::new(cx.config, self.options.receive_buffer, peer, &self.tuple);
        let clock = peer.timestamps.filter(|_| cx.config.timestamps).map(|theirs| Clock::new(self.timestamp_offset, theirs.value, cx.now));
        let scale = if segment.flags.has(Flags::SYN) { 0 } else { negotiated.scales.map_or(0, |scales| scales.send) };
        let established = Established {
            tuple: self.tuple,
            iss: self.iss,
            irs,
            negotiated,
            options: Arc::clone(&self.options),
            path: self.path,
            window: u32::from(segment.window) << scale,
            announced: u32::from(syn_window(self.options.receive_buffer)),
            clock,
            rtt: (self.retransmits == 0).then(|| cx.now - self.started_at),
            retransmits: self.retransmits,
        };
        Box::new(Connection::new(established, segment, cx.config, cx.now))
    }

    /// The SYN, or in SYN-RECEIVED the SYN,ACK, if one is due.
    pub(crate) fn output(&mut self, cx: &Context<'_>) -> Option<Segment> {
        if !std::mem::take(&mut self.due) {
            return None;
        }
        if self.deadline.is_none() {
            self.deadline = Some(self.next_deadline(cx.now, cx.config));
        }
        let mut clock = Timestamps { value: Clock::value(self.timestamp_offset, cx.now), echo: 0 };
        let mut segment = Segment {
            source_port: self.tuple.local_port,
            destination_port: self.tuple.remote_port,
            seq: self.iss,
            flags: Flags::SYN,
            window: syn_window(self.options.receive_buffer),
            ..Segment::default()
        };
        let receive_buffer = self.options.receive_buffer;
        match &self.phase {
            Phase::SynSent => segment.options = syn_options(cx.config, receive_buffer, self.path, clock, None),
            Phase::SynReceived { irs, peer, .. } => {
                clock.echo = peer.timestamps.map_or(0, |theirs| theirs.value);
                segment.flags |= Flags::ACK;
                segment.ack = *irs + 1;
                segment.options = syn_options(cx.config, receive_buffer, self.path, clock, Some(peer));
            }
        }
        Some(segment)
    }

    /// The retransmission timer: sends again, or gives up with a reason.
    pub(crate) fn on_time(&mut self, now: Instant, config: &Config) -> Option<CloseReason> {
        if self.deadline.is_none_or(|at| now < at) {
            return None;
        }
        if self.options.user_timeout.is_some_and(|limit| now - self.started_at >= limit) {
            return Some(CloseReason::UserTimeout);
        }
        if self.retransmits >= config.syn_retries + config.syn_linear_timeouts {
            return Some(CloseReason::RetransmissionTimeout);
        }
        self.retransmits += 1;
        self.due = true;
        self.deadline = Some(self.next_deadline(now, config));
        None
    }

    /// The reset of an opening that is given up: in SYN-SENT there is nobody to tell (RFC 9293 §3.10.5).
    pub(crate) fn abort(&self) -> Option<Segment> {
        let irs = self.irs()?;
        let reset = reset::active(self.iss + 1, irs + 1, None, self.started_at);
        Some(Segment { source_port: self.tuple.local_port, destination_port: self.tuple.remote_port, ..reset })
    }

    /// The next time-out, but no later than the user timeout's end.
    fn next_deadline(&self, now: Instant, config: &Config) -> Instant {
        let at = now + self.timeout(config);
        self.options.user_timeout.map_or(at, |limit| at.min(self.started_at + limit))
    }

    /// The first time-outs stay as they are, then each doubles: Linux's `tcp_syn_linear_timeouts`.
    fn timeout(&self, config: &Config) -> Duration {
        let doublings = self.retransmits.saturating_sub(config.syn_linear_timeouts).min(20);
        config.rto_initial.saturating_mul(1 << doublings).min(config.rto_max)
    }
}

/// How long after a reset the SYN comes again: time for the reset to be taken in. Linux's `TCP_TIMEOUT_MIN` is two ticks of its clock.
const AFTER_RESET: Duration = Duration::from_millis(2);
