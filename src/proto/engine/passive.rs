//! A peer opens a connection: SYN, SYN,ACK, ACK, without a socket, a buffer or a task until the third (RFC 9293 §3.10.7.2, RFC 4987).
//!
//! ```text
//!   SYN ──► admitted? ──► record in the SYN cache ──► SYN,ACK ──► ACK ──► room in the accept queue? ──► connection, listener readable
//!             └─ no: dropped, or a cookie                   └─ nobody answers: sent again, then forgotten
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::arrival::Arrival;
use super::listener::{Admission, Completion, Listener, ListenerId};
use super::reply::{Reply, SegmentReply};
use super::slot::{Owner, Slot};
use super::stats::DropReason;
use super::syn_cache::HalfOpen;
use crate::proto::Instant;
use crate::proto::link::MacAddress;
use crate::proto::tcp::buffer::Payload;
use crate::proto::tcp::connection::{Connection, Established};
use crate::proto::tcp::context::Events;
use crate::proto::tcp::handshake::{syn_options, syn_window};
use crate::proto::tcp::input::Disposition;
use crate::proto::tcp::negotiated::Negotiated;
use crate::proto::tcp::socket::SocketOptions;
use crate::proto::tcp::state::State;
use crate::proto::tcp::timestamps::Clock;
use crate::proto::wire::{Flags, Options, Segment, SeqNum, Timestamps, Tuple};

impl Engine {
    /// RFC 9293 §3.10.7.2: RST, then ACK, then SYN.
    pub(super) fn receive_in_listen(&mut self, listener: ListenerId, hash: u64, arrival: &Arrival, text: Payload<'_>) {
        let flags = arrival.segment.flags;
        if flags.has(Flags::RST) {
            self.stats.drops.count(DropReason::Reset);
        } else if flags.has(Flags::ACK | Flags::SYN) {
            self.receive_stray_ack(arrival);
        } else if flags.has(Flags::ACK) {
            self.receive_cookie(listener, hash, arrival, text);
        } else if flags.has(Flags::SYN | Flags::FIN) || !flags.has(Flags::SYN) {
            self.stats.drops.count(DropReason::IllegalFlags);
        } else {
            let _: Reception = self.receive_syn(listener, hash, arrival, None);
        }
    }

    /// An acknowledgment that belongs to no handshake.
    pub(super) fn receive_stray_ack(&mut self, arrival: &Arrival) {
        self.stats.drops.count(DropReason::NoSocket);
        self.reset_stranger(arrival);
    }

    /// A SYN for a listener. `iss_min` is where the last connection on the 4-tuple left off.
    pub(super) fn receive_syn(&mut self, listener: ListenerId, hash: u64, arrival: &Arrival, iss_min: Option<SeqNum>) -> Reception {
        self.stats.syns_in += 1;
        // A cookie is no number that could stay ahead of the last connection's: without timestamps, by which the peer knows old segments
        // (RFC 7323 §5), a 4-tuple that rests waits for a record.
        let any_number = iss_min.is_none() || (self.config.timestamps && arrival.segment.options.timestamps.is_some());
        if any_number && self.wants_cookie(listener, arrival) {
            self.send_cookie(listener, arrival);
            return Reception::Answered;
        }
        let Some(queue) = self.listeners.get_mut(listener) else { return Reception::Dropped };
        let dropped = match queue.on_syn() {
            Admission::Admit if self.syn_cache.is_full() => Some(DropReason::SynCacheFull),
            Admission::Admit => None,
            Admission::DropAcceptQueueFull => Some(DropReason::AcceptQueueFull),
            Admission::DropSynQueueFull => Some(DropReason::SynQueueFull),
        };
        if let Some(reason) = dropped {
            self.stats.listen_drops += 1;
            self.stats.drops.count(reason);
            return Reception::Dropped;
        }
        let half_open = self.half_open(listener, arrival, iss_min);
        let retransmit_at = self.now + self.config.rto_initial;
        if self.syn_cache.insert(hash, half_open, retransmit_at).is_some() {
            if let Some(queue) = self.listeners.get_mut(listener) {
                queue.on_half_open();
            }
            self.trace_change(half_open.tuple, State::Listen, State::SynReceived);
            self.send_syn_ack(&half_open, arrival.from);
        }
        Reception::Answered
    }

    pub(super) fn half_open(&self, listener: ListenerId, arrival: &Arrival, iss_min: Option<SeqNum>) -> HalfOpen {
        let Arrival { tuple, segment, .. } = arrival;
        let iss = self.isn.at(self.now, tuple);
        let timestamps = segment.options.timestamps.filter(|_| self.config.timestamps);
        HalfOpen {
            tuple: *tuple,
            iss: iss_min.map_or(iss, |least| iss.max(least)),
            irs: segment.seq,
            ts_recent: timestamps.map_or(0, |timestamps| timestamps.value),
            listener,
            created: Some(self.now),
            negotiated: Negotiated::new(&self.config, self.accepted_options(listener).receive_buffer, &segment.options, tuple),
            timestamps: timestamps.is_some(),
            retransmits: 0,
        }
    }

    /// The options that a connection begins with which this listener accepts.
    pub(super) fn accepted_options(&self, listener: ListenerId) -> Arc<SocketOptions> {
        let set = self.listeners.get(listener).and_then(|listener| listener.socket()).and_then(|index| {
            match &self.sockets.get(index as usize)?.slot {
                Slot::Listener(socket) => socket.options.as_ref(),
                _ => None,
            }
        });
        Arc::clone(set.unwrap_or(&self.defaults))
    }

    fn send_syn_ack(&mut self, half_open: &HalfOpen, to: Option<MacAddress>) {
        self.send_syn_ack_at(half_open, self.clock_value(&half_open.tuple), to);
    }

    /// Sends a SYN,ACK with this TSval.
    pub(super) fn send_syn_ack_at(&mut self, half_open: &HalfOpen, clock: u32, to: Option<MacAddress>) {
        let options = self.accepted_options(half_open.listener);
        let clock = Timestamps { value: clock, echo: half_open.ts_recent };
        let offered = Options {
            window_scale: half_open.negotiated.scales.map(|scales| scales.send),
            sack_permitted: half_open.negotiated.sack,
            timestamps: half_open.timestamps.then_some(clock),
            ..Options::default()
        };
        let way = self.way_to(half_open.tuple.remote);
        let path = self.path_to(half_open.tuple.remote, way);
        let segment = Segment {
            source_port: half_open.tuple.local_port,
            destination_port: half_open.tuple.remote_port,
            seq: half_open.iss,
            ack: half_open.irs + 1,
            flags: Flags::SYN | Flags::ACK,
            window: syn_window(options.receive_buffer),
            options: syn_options(&self.config, options.receive_buffer, path, clock, Some(&offered)),
            ..Segment::default()
        };
        self.reply_half_open(half_open, segment, to, &options);
    }

    fn reply_half_open(&mut self, half_open: &HalfOpen, segment: Segment, to: Option<MacAddress>, options: &SocketOptions) {
        let SocketOptions { hop_limit, traffic_class, .. } = *options;
        let reply = SegmentReply { tuple: half_open.tuple, segment, hop_limit, traffic_class, to };
        self.replies.push(Reply::Segment(reply), &mut self.stats);
    }

    pub(super) fn clock_value(&self, tuple: &Tuple) -> u32 {
        Clock::value(self.isn.timestamp_offset(tuple), self.now)
    }

    /// A segment for a half-open connection: SYN-RECEIVED after a passive open (RFC 9293 §3.10.7.4; Linux's `tcp_check_req`).
    pub(super) fn receive_half_open(&mut self, hash: u64, arrival: &Arrival, text: Payload<'_>) {
        let Some(key) = self.syn_cache.find(hash, &arrival.tuple) else { return };
        let Some(half_open) = self.syn_cache.get(key).copied() else { return };
        let segment = &arrival.segment;
        let flags = segment.flags;
        let old_timestamp = half_open.timestamps
            && segment.options.timestamps.is_some_and(|timestamps| SeqNum(timestamps.value) < SeqNum(half_open.ts_recent));
        if flags.has(Flags::SYN) && !flags.has_any(Flags::RST | Flags::ACK) && segment.seq == half_open.irs && !old_timestamp {
            // The peer asks again: our answer was lost, or is slow.
            self.stats.syn_ack_retransmits += 1;
            self.syn_cache.postpone(key, self.now + backed_off(self.config.rto_initial, half_open.retransmits));
            self.send_syn_ack(&half_open, arrival.from);
        } else if flags.has(Flags::RST) {
            if segment.seq == half_open.irs + 1 {
                self.forget_half_open(key);
                self.trace_change(half_open.tuple, State::SynReceived, State::Listen);
                self.stats.failed_opens += 1;
            } else {
                self.stats.drops.count(DropReason::Reset);
                if in_first_window(&half_open, segment) {
                    // RFC 5961 §3.2: the peer, if it was the peer, answers the challenge with the exact number.
                    self.acknowledge_half_open(&half_open, arrival);
                }
            }
        } else if flags.has(Flags::ACK) && segment.ack != half_open.iss + 1 {
            // Linux's order: an earlier SYN may have been answered by a cookie, whose acknowledgment was slow.
            if let Some(earlier) = self.check_cookie(half_open.listener, arrival) {
                return self.complete_cookie(&earlier, hash, arrival, text);
            }
            self.stats.drops.count(DropReason::HandshakeAck);
            self.reset_stranger(arrival);
        } else if old_timestamp || !in_first_window(&half_open, segment) || flags.has(Flags::SYN) {
            self.stats.drops.count(if old_timestamp { DropReason::Paws } else { DropReason::OutsideWindow });
            self.acknowledge_half_open(&half_open, arrival);
        } else if flags.has(Flags::ACK) {
            self.complete(key, hash, arrival, text);
        } else {
            self.stats.drops.count(DropReason::NoAck);
        }
    }

    /// A bare acknowledgment for something unacceptable.
    fn acknowledge_half_open(&mut self, half_open: &HalfOpen, arrival: &Arrival) {
        let clock = Timestamps { value: self.clock_value(&half_open.tuple), echo: half_open.ts_recent };
        let options = self.accepted_options(half_open.listener);
        let scale = half_open.negotiated.scales.map_or(0, |scales| scales.receive);
        let segment = Segment {
            source_port: half_open.tuple.local_port,
            destination_port: half_open.tuple.remote_port,
            seq: half_open.iss + 1,
            ack: half_open.irs + 1,
            flags: Flags::ACK,
            window: syn_window(options.receive_buffer) >> scale,
            options: Options { timestamps: half_open.timestamps.then_some(clock), ..Options::default() },
            ..Segment::default()
        };
        self.reply_half_open(half_open, segment, arrival.from, &options);
    }

    /// The third segment of the handshake.
    fn complete(&mut self, key: u32, hash: u64, arrival: &Arrival, text: Payload<'_>) {
        let Some(half_open) = self.syn_cache.get(key).copied() else { return };
        let full = self.sockets.len() >= self.config.connections_max;
        let Some(queue) = self.listeners.get_mut(half_open.listener) else { return };
        match queue.on_handshake_ack(self.config.backlog_policy) {
            Completion::Establish if !full => {}
            Completion::Establish => return self.stats.drops.count(DropReason::ConnectionsFull),
            Completion::Ignore => {
                self.stats.listen_overflows += 1;
                return self.stats.drops.count(DropReason::AcceptQueueFull);
            }
            Completion::Reset => {
                self.stats.listen_overflows += 1;
                self.forget_half_open(key);
                self.trace_change(half_open.tuple, State::SynReceived, State::Listen);
                return self.reset(arrival);
            }
        }
        self.forget_half_open(key);
        self.establish(&half_open, hash, arrival, text);
    }

    /// Makes the connection that a third segment completes, and queues it: there is room.
    pub(super) fn establish(&mut self, half_open: &HalfOpen, hash: u64, arrival: &Arrival, text: Payload<'_>) {
        let Some(listener) = self.listeners.get(half_open.listener).and_then(Listener::socket) else { return };
        let connection = self.established(half_open, &arrival.segment);
        let way = self.way_to(half_open.tuple.remote);
        let id = self.insert(Owner::Queue(listener), way, Slot::Connection(Box::new(connection)));
        self.sockets[id.index as usize].traced = State::SynReceived;
        self.connections.insert(hash, id.index);
        if let Some(queue) = self.listeners.get_mut(half_open.listener) {
            queue.push_accepted(id.index);
        }
        self.stats.passive_opens += 1;
        self.signal(listener, Events::READABLE);
        let (sockets, mut cx) = self.split();
        if let Slot::Connection(connection) = &mut sockets[id.index as usize].slot
            && let Disposition::Dropped(cause) = connection.input(&mut cx, &arrival.segment, text)
        {
            self.stats.drops.count(cause.into());
        }
        self.settle(id.index);
    }

    fn established(&self, half_open: &HalfOpen, segment: &Segment) -> Connection {
        let options = self.accepted_options(half_open.listener);
        let way = self.way_to(half_open.tuple.remote);
        let scale = half_open.negotiated.scales.map_or(0, |scales| scales.send);
        let clock = Clock::new(self.isn.timestamp_offset(&half_open.tuple), half_open.ts_recent, half_open.created.unwrap_or(self.now));
        let established = Established {
            tuple: half_open.tuple,
            iss: half_open.iss,
            irs: half_open.irs,
            negotiated: half_open.negotiated,
            path: self.path_to(half_open.tuple.remote, way),
            window: u32::from(segment.window) << scale,
            announced: u32::from(syn_window(options.receive_buffer)),
            clock: half_open.timestamps.then_some(clock),
            rtt: half_open.created.filter(|_| half_open.retransmits == 0).map(|created| self.now - created),
            retransmits: u32::from(half_open.retransmits),
            options,
        };
        Connection::new(established, segment, &self.config, self.now)
    }

    /// Takes a record out of the cache, for whatever reason.
    pub(super) fn forget_half_open(&mut self, key: u32) {
        if let Some(half_open) = self.syn_cache.remove(key)
            && let Some(queue) = self.listeners.get_mut(half_open.listener)
        {
            queue.on_half_open_gone();
        }
    }

    /// SYN,ACKs that nobody answered are sent again, fewer of them under pressure, and then forgotten.
    pub(super) fn advance_half_open(&mut self) {
        while let Some(key) = self.syn_cache.pop_due(self.now) {
            let Some(half_open) = self.syn_cache.get(key).copied() else { continue };
            let crowded = self.listeners.get(half_open.listener).is_some_and(Listener::is_under_pressure);
            let pressure = crowded || self.syn_cache.is_under_pressure();
            let retries = if pressure { self.config.syn_ack_retries_under_pressure } else { self.config.syn_ack_retries };
            let Some(half_open) = self.syn_cache.get_mut(key) else { continue };
            if u32::from(half_open.retransmits) >= retries {
                let tuple = half_open.tuple;
                self.stats.half_open_timeouts += 1;
                self.forget_half_open(key);
                self.trace_change(tuple, State::SynReceived, State::Listen);
                continue;
            }
            half_open.retransmits += 1;
            let half_open = *half_open;
            self.syn_cache.reschedule(key, self.now + backed_off(self.config.rto_initial, half_open.retransmits));
            self.stats.syn_ack_retransmits += 1;
            self.send_syn_ack(&half_open, None);
        }
    }

    /// When a half-open connection's SYN,ACK is due again, for a snapshot.
    pub(super) fn half_open_due(&self, key: u32) -> Option<Duration> {
        self.syn_cache.retransmit_at(key).map(|at: Instant| at - self.now)
    }
}

/// What became of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Reception {
    /// It has a record, or a cookie.
    Answered,
    /// There was no room for it.
    Dropped,
}

/// The window that our SYN,ACK announced.
fn in_first_window(half_open: &HalfOpen, segment: &Segment) -> bool {
    let nxt = half_open.irs + 1;
    segment.seq == nxt || (nxt < segment.seq && segment.seq - nxt < u32::from(u16::MAX))
}

fn backed_off(initial: Duration, retransmits: u8) -> Duration {
    initial.saturating_mul(1 << retransmits.min(20))
}
