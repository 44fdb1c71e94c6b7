//! Frames leave: answers first, then one frame of each socket in turn until nobody has anything to say or the sink is full.
//!
//! A frame is built only when its next hop is known: a connection waits for its neighbour, and so does the reset of one.

use super::address::Standing;
use super::icmp::{Ends, solicitation_frame};
use super::loopback::Looped;
use super::neighbor::Resolution;
use super::reply::{self, Reply, SegmentReply};
use super::slot::{Slot, Way};
use super::{Engine, Transmit};
use crate::proto::Instant;
use crate::proto::link::{Medium, Sink, TxFrame};
use crate::proto::tcp::close::CloseReason;
use crate::proto::wire::ethernet::{self, EtherType};
use crate::proto::wire::ip::{self, protocol};
use crate::proto::wire::tcp::{CHECKSUM_OFFSET, HEADER_LEN_MAX};
use crate::proto::wire::{IpHeader, Segment, Sum, Tuple};
use std::time::Duration;

/// What stands below a segment.
#[derive(Clone, Copy, Debug)]
struct Below {
    hop_limit: u8,
    traffic_class: u8,
    hop: Hop,
}

/// Where the next hop is.
#[derive(Clone, Copy, Debug)]
enum Hop {
    /// In this host.
    Here,
    /// On a link without Ethernet addresses.
    Bare,
    /// On an Ethernet link.
    Ethernet(Ends),
}

/// Whether a socket can send now.
enum Access {
    Granted(Hop),
    /// It will be woken, or tries again by itself.
    Later,
    /// It never will.
    Lost(CloseReason),
    /// It may speak, and nobody hears it: its timers run, and end it with this reason if nothing changes.
    Unheard(CloseReason),
}

impl Engine {
    /// Moves what is to be sent into `sink`. A frame may be a super-packet if the link cuts them. Segments to this host itself are taken in at
    /// once, up to 64 per call.
    pub fn transmit(&mut self, now: Instant, sink: &mut impl Sink) -> Transmit {
        self.tick(now);
        let mut budget = LOOPED_PER_CALL;
        loop {
            if !self.loopback.is_empty() {
                if budget == 0 {
                    return Transmit::Full;
                }
                budget -= 1;
                self.receive_looped();
                continue;
            }
            self.solicit(sink);
            if !self.transmit_reply(sink) && !self.transmit_socket(sink) {
                self.solicit(sink);
                return if self.wants_transmit() { Transmit::Full } else { Transmit::Idle };
            }
        }
    }

    /// Sends the oldest answer; false if there is none, or no room for it.
    fn transmit_reply(&mut self, sink: &mut impl Sink) -> bool {
        let stays_here = match self.replies.front() {
            Some(Reply::Segment(reply)) => self.way_to(reply.tuple.remote) == Way::Loopback,
            Some(Reply::Frame(_)) => false,
            None => return false,
        };
        if !stays_here && !sink.has_room() {
            return false;
        }
        match self.replies.pop() {
            Some(Reply::Frame(frame)) => {
                self.emit(sink, *frame);
            }
            Some(Reply::Segment(reply)) => self.send_reply(sink, reply),
            None => {}
        }
        true
    }

    fn send_reply(&mut self, sink: &mut impl Sink, reply: SegmentReply) {
        let SegmentReply { tuple, segment, hop_limit, traffic_class, to } = reply;
        let hop = match (self.way_to(tuple.remote), to, self.link.map(|link| link.medium)) {
            (Way::Loopback, ..) => Hop::Here,
            _ if !self.is_assigned(tuple.local) => {
                self.stats.replies_dropped += 1;
                return;
            }
            (_, _, Some(Medium::Ip)) => Hop::Bare,
            (_, Some(destination), Some(Medium::Ethernet(source))) => Hop::Ethernet(Ends { source, destination }),
            (Way::Link(next), None, Some(Medium::Ethernet(source))) => match self.neighbors.resolve(self.now, next) {
                Resolution::Resolved(destination) => Hop::Ethernet(Ends { source, destination }),
                Resolution::Pending => {
                    self.neighbors.wait(next, reply::WAITER);
                    self.replies.wait(reply, &mut self.stats);
                    return;
                }
                Resolution::Busy | Resolution::Failed => {
                    self.stats.replies_dropped += 1;
                    return;
                }
            },
            (Way::Link(_) | Way::Nowhere, ..) => {
                self.stats.replies_dropped += 1;
                return;
            }
        };
        self.dispatch(sink, TxFrame::new(), (tuple, segment), Below { hop_limit, traffic_class, hop });
    }

    /// Sends one frame of the next socket that has one; false if none has, or there is no room.
    fn transmit_socket(&mut self, sink: &mut impl Sink) -> bool {
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { return false };
            let Some(entry) = self.sockets.get_mut(index as usize) else { continue };
            if entry.way != Way::Loopback && !sink.has_room() {
                self.ready.push_back(index);
                continue;
            }
            entry.ready = false;
            if self.transmit_from(index, sink) {
                self.schedule(index);
                return true;
            }
        }
        false
    }

    /// Sends one frame of the socket in slot `index`; false if it has nothing to say now.
    fn transmit_from(&mut self, index: u32, sink: &mut impl Sink) -> bool {
        let way = self.sockets[index as usize].way;
        let (hop, unheard) = match self.access(index, way) {
            Access::Granted(hop) => (hop, None),
            Access::Unheard(reason) => (Hop::Bare, Some(reason)),
            Access::Later => return false,
            Access::Lost(reason) => {
                self.count_end(reason);
                self.bury(index, reason);
                return false;
            }
        };
        self.refresh_path(index, way);
        let mut frame = TxFrame::new();
        let (sockets, mut cx) = self.split();
        let (segment, tuple, options, deadline) = match &mut sockets[index as usize].slot {
            Slot::Connection(connection) => {
                let segment = connection.output(&mut cx, &mut frame);
                (segment, *connection.tuple(), connection.options(), connection.deadline())
            }
            Slot::Opening(opening) => {
                let segment = opening.output(&cx);
                (segment, *opening.tuple(), opening.options(), opening.deadline())
            }
            Slot::Listener(_) | Slot::Remains(_) => return false,
        };
        let below = Below { hop_limit: options.hop_limit, traffic_class: options.traffic_class, hop };
        if let Some(deadline) = deadline {
            self.arm(index, deadline);
        }
        let Some(segment) = segment else { return false };
        if let Some(reason) = unheard {
            self.lose(index, &segment, reason);
            return true;
        }
        self.dispatch(sink, frame, (tuple, segment), below);
        true
    }

    /// Whether the socket's next hop is known.
    fn access(&mut self, index: u32, way: Way) -> Access {
        let opening = matches!(self.sockets[index as usize].slot, Slot::Opening(_));
        if way != Way::Loopback
            && self.own.restricts()
            && let Some(barred) = self.barred(index)
        {
            return barred;
        }
        let next = match way {
            Way::Loopback => return Access::Granted(Hop::Here),
            Way::Link(next) => next,
            Way::Nowhere if opening => return Access::Lost(CloseReason::NetworkUnreachable),
            Way::Nowhere => return Access::Later,
        };
        let source = match self.link.map(|link| link.medium) {
            Some(Medium::Ethernet(source)) => source,
            Some(Medium::Ip) => return Access::Granted(Hop::Bare),
            None => return Access::Later,
        };
        match self.neighbors.resolve(self.now, next) {
            Resolution::Resolved(destination) => Access::Granted(Hop::Ethernet(Ends { source, destination })),
            Resolution::Pending => {
                self.neighbors.wait(next, index);
                Access::Later
            }
            Resolution::Failed if opening => Access::Lost(CloseReason::HostUnreachable),
            Resolution::Failed => Access::Unheard(CloseReason::HostUnreachable),
            Resolution::Busy => {
                let at = self.now + NEIGHBOR_RETRY;
                self.sockets[index as usize].retry_at = Some(at);
                self.arm(index, at);
                Access::Later
            }
        }
    }

    /// A segment of a connection goes nowhere, as on a wire that is cut. If nothing else comes, the connection ends for this reason.
    fn lose(&mut self, index: u32, segment: &Segment, reason: CloseReason) {
        self.stats.segments_unheard += u64::from(segment.count());
        if let Slot::Connection(connection) = &mut self.sockets[index as usize].slot {
            // Refused for what bears no sequence number, and is not repeated.
            let _ = connection.on_soft_error(segment.seq, reason);
        }
    }

    /// Why a socket must not send from its address now, if so.
    fn barred(&self, index: u32) -> Option<Access> {
        let (local, opening) = match &self.sockets[index as usize].slot {
            Slot::Connection(connection) => (connection.tuple().local, false),
            Slot::Opening(opening) => (opening.tuple().local, true),
            Slot::Listener(_) | Slot::Remains(_) => return None,
        };
        match self.own.standing(local) {
            Standing::Assigned => None,
            Standing::Duplicate if opening => Some(Access::Lost(CloseReason::AddressInUse)),
            Standing::Duplicate => Some(Access::Unheard(CloseReason::AddressInUse)),
            Standing::Tentative => Some(Access::Later),
        }
    }

    /// Completes the headers below and in front of `segment` and hands the frame over.
    fn dispatch(&mut self, sink: &mut impl Sink, mut frame: TxFrame, (tuple, segment): (Tuple, Segment), below: Below) {
        self.stats.segments_out += u64::from(segment.count());
        self.stats.bytes_out += u64::from(segment.payload_len);
        self.stats.resets_out += u64::from(segment.flags.has(crate::proto::wire::Flags::RST));
        if matches!(below.hop, Hop::Here) {
            self.loopback.push_back(Looped { tuple: tuple.flipped(), segment, frame });
            return;
        }
        if segment.segment_size > 0 {
            self.stats.super_frames_out += 1;
        }
        self.put_headers(&mut frame, &tuple, &segment, below);
        self.emit(sink, frame);
    }

    fn emit(&mut self, sink: &mut impl Sink, frame: TxFrame) {
        self.stats.frames_out += 1;
        self.trace_departure(&frame);
        sink.push(frame);
    }

    /// What a looped segment would be on a link, for a record of it.
    pub(super) fn looped_packet(&self, looped: &Looped) -> TxFrame {
        let Looped { tuple, segment, frame } = looped;
        let below = Below { hop_limit: self.config.hop_limit, traffic_class: self.config.traffic_class, hop: Hop::Here };
        let mut frame = frame.clone();
        self.put_headers(&mut frame, &tuple.flipped(), segment, below);
        frame
    }

    fn put_headers(&self, frame: &mut TxFrame, tuple: &Tuple, segment: &Segment, below: Below) {
        if let Hop::Ethernet(Ends { source, destination }) = below.hop {
            let ethertype = if tuple.is_v4() { EtherType::Ipv4 } else { EtherType::Ipv6 };
            frame.put_header(&ethernet::Header { source, destination, ethertype }.emit());
            frame.network_offset = u8::try_from(ethernet::HEADER_LEN).expect("14");
        }
        let mut tcp = [0; HEADER_LEN_MAX];
        let tcp_len = segment.emit(self.config.option_layout, &mut tcp);
        let length = tcp_len + segment.payload_len as usize;
        let header = IpHeader {
            source: tuple.local,
            destination: tuple.remote,
            protocol: protocol::TCP,
            hop_limit: below.hop_limit,
            traffic_class: below.traffic_class,
        };
        let mut ip = [0; ip::HEADER_LEN_MAX];
        let ip_len = header.emit(self.flow_label(tuple), length, &mut ip);
        frame.put_header(&ip[..ip_len]);
        let sum = Sum::pseudo_header(tuple.local, tuple.remote, protocol::TCP, u32::try_from(length).expect("below 2^16"));
        tcp[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.partial());
        frame.transport_offset = frame.network_offset + u8::try_from(ip_len).expect("at most 40");
        frame.put_header(&tcp[..tcp_len]);
        frame.segment_size = segment.segment_size;
    }

    /// RFC 6437: the same for all packets of a flow, and not to be guessed. IPv4 has none.
    fn flow_label(&self, tuple: &Tuple) -> u32 {
        if tuple.is_v4() {
            return 0;
        }
        u32::try_from(self.flow_labels.hash(&[&tuple.to_bytes()]) & 0xf_ffff).expect("20 bits")
    }

    /// Sends the questions of the neighbour cache.
    fn solicit(&mut self, sink: &mut impl Sink) {
        while sink.has_room()
            && let Some(question) = self.neighbors.take_solicit()
        {
            let Some(Medium::Ethernet(own)) = self.link.map(|link| link.medium) else { continue };
            let Some(source) = self.asking_address(question.target) else { continue };
            self.emit(sink, solicitation_frame(own, source, question.target, question.unicast));
        }
    }
}

/// Segments to ourselves that one call takes in; more are left for the next.
const LOOPED_PER_CALL: u32 = 64;

/// How long a connection waits before it asks again for a neighbour that does not answer.
const NEIGHBOR_RETRY: Duration = Duration::from_secs(1);
