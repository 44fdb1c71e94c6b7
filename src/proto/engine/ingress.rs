//! A frame arrives: the layers below TCP are taken off, and the segment goes to whom it is for. Nothing fails; whatever is of no use is
//! dropped and counted by its reason.

use bytes::Buf;

use super::Engine;
use super::arrival::Arrival;
use super::icmp::{Ends, arp_frame, echo_reply, neighbor_advertisement_frame};
use super::neighbor::Claim;
use super::passive::Reception;
use super::refusal::Refused;
use super::reply::{self, Reply, SegmentReply};
use super::slot::{Slot, Way, find_connection};
use super::stats::DropReason;
use super::time_wait::{Acknowledgment, TimeWaitId, Verdict};
use crate::proto::Instant;
use crate::proto::link::{Checksum, Frame, FrameBytes, MacAddress, Medium};
use crate::proto::tcp::buffer::Payload;
use crate::proto::tcp::close::CloseReason;
use crate::proto::tcp::config::Config;
use crate::proto::tcp::connection::Credit;
use crate::proto::tcp::handshake::Verdict as Opened;
use crate::proto::tcp::input::Disposition;
use crate::proto::tcp::reset;
use crate::proto::tcp::state::State;
use crate::proto::wire::arp;
use crate::proto::wire::ethernet::{self, EtherType};
use crate::proto::wire::icmp::{ErrorKind, ErrorReport, Message};
use crate::proto::wire::ip::{is_loopback, is_multicast, is_unicast_source, protocol};
use crate::proto::wire::ndp::solicited_node;
use crate::proto::wire::{Address, Flags, IpHeader, Options, Segment, Sum, Timestamps, Tuple};

/// Where the IP packet lies, and who sent the frame.
#[derive(Clone, Copy)]
struct Packet {
    offset: usize,
    from: Option<MacAddress>,
    /// Who sent the frame, to a group or to us.
    sender: Option<MacAddress>,
}

impl Engine {
    /// Takes a frame in: Ethernet or bare IP, by the link's medium. Without a link every frame is dropped.
    pub fn receive(&mut self, now: Instant, frame: Frame<'_>) {
        self.tick(now);
        self.stats.frames_in += 1;
        if frame.segment_size > 0 {
            self.stats.super_frames_in += 1;
        }
        let before = self.trace_arrival(&frame);
        if let Err(reason) = self.receive_frame(frame) {
            self.stats.drops.count(reason);
        }
        self.trace_end(before);
    }

    fn receive_frame(&mut self, frame: Frame<'_>) -> Result<(), DropReason> {
        match self.link.map(|link| link.medium) {
            Some(Medium::Ethernet(own)) => self.receive_ethernet(frame, own),
            Some(Medium::Ip) => self.receive_packet(frame, Packet { offset: 0, from: None, sender: None }),
            None => Err(DropReason::LinkDown),
        }
    }

    fn receive_ethernet(&mut self, frame: Frame<'_>, own: MacAddress) -> Result<(), DropReason> {
        let bytes = frame.bytes.as_slice();
        let header = ethernet::Header::parse(bytes)?;
        if header.source.is_multicast() {
            return Err(DropReason::GroupSource);
        }
        let for_us = header.destination == own;
        if !for_us && !header.destination.is_multicast() {
            return Err(DropReason::NotForUs);
        }
        match header.ethertype {
            EtherType::Arp => self.receive_arp(&bytes[ethernet::HEADER_LEN..], own),
            EtherType::Ipv4 | EtherType::Ipv6 => {
                let from = for_us.then_some(header.source);
                self.receive_packet(frame, Packet { offset: ethernet::HEADER_LEN, from, sender: Some(header.source) })
            }
        }
    }

    fn receive_arp(&mut self, bytes: &[u8], own: MacAddress) -> Result<(), DropReason> {
        let packet = arp::Packet::parse(bytes)?;
        let target_is_own = self.routes.is_own(Address::new(packet.target.into()));
        let sender = Address::new(packet.sender.into());
        if self.routes.is_own(sender) {
            self.on_address_claim(sender, packet.sender_mac);
            return Err(DropReason::OwnSource);
        }
        let target = Address::new(packet.target.into());
        if target_is_own && !self.is_assigned(target) {
            if sender.is_unspecified() {
                self.on_address_claim(target, packet.sender_mac);
            }
            return Err(DropReason::NotForUs);
        }
        let waiting = self.neighbors.on_claim(self.now, Claim::of_arp(&packet));
        self.wake_waiters(&waiting);
        if packet.operation == arp::Operation::Request && target_is_own {
            let frame = arp_frame(&packet.answer(own), packet.sender_mac);
            self.replies.push(Reply::Frame(Box::new(frame)), &mut self.stats);
        }
        Ok(())
    }

    fn receive_packet(&mut self, frame: Frame<'_>, packet: Packet) -> Result<(), DropReason> {
        let bytes = &frame.bytes.as_slice()[packet.offset..];
        let (header, payload) = match IpHeader::parse(bytes) {
            Ok(parsed) => parsed,
            Err(error) => return self.pass_on(&frame, packet.offset, error.into()),
        };
        if let Err(reason) = self.check_addresses(&header) {
            return self.pass_on(&frame, packet.offset, reason);
        }
        let range = packet.offset + payload.start..packet.offset + payload.end;
        match header.protocol {
            protocol::TCP => self.receive_tcp(frame, header, range, packet.from),
            protocol::ICMP | protocol::ICMPV6 => {
                let bytes = &frame.bytes.as_slice()[range];
                let taken = self.receive_icmp(&header, bytes, packet);
                taken.or_else(|reason| self.pass_on(&frame, packet.offset, reason))
            }
            _ => {
                let passed = self.pass_on(&frame, packet.offset, DropReason::UnknownProtocol);
                if passed.is_err() {
                    let packet_bytes = &frame.bytes.as_slice()[packet.offset..range.end];
                    let (payload, checksum) = (range.start - packet.offset, frame.checksum);
                    self.refuse_protocol(&Refused { header, packet: packet_bytes, payload, checksum, from: packet.from });
                }
                passed
            }
        }
    }

    /// RFC 1122 §3.2.1.3, RFC 9293 MUST-57 and MUST-63: from one host that is not this one, to this host.
    fn check_addresses(&self, header: &IpHeader) -> Result<(), DropReason> {
        let IpHeader { source, destination, .. } = *header;
        let group_of_ours = is_multicast(destination)
            && header.protocol == protocol::ICMPV6
            && (self.routes.addresses().iter().any(|own| solicited_node(own.address().into()) == destination)
                || destination == crate::proto::wire::ndp::all_nodes());
        let ours = self.routes.is_own(destination) && self.is_assigned(destination);
        if !ours && !group_of_ours {
            return Err(DropReason::NotForUs);
        }
        let probe = source == Address::ANY && header.protocol == protocol::ICMPV6;
        match self.martian(source, destination) {
            // Another host may speak from an address of ours about that very address: to be heard, and no further.
            Some(DropReason::OwnSource) if group_of_ours => Ok(()),
            Some(reason) if !probe => Err(reason),
            Some(_) | None => Ok(()),
        }
    }

    /// Why nobody on a wire can be `source`, if so.
    fn martian(&self, source: Address, destination: Address) -> Option<DropReason> {
        if is_loopback(source) {
            Some(DropReason::LoopbackSource)
        } else if is_multicast(source) || self.routes.is_broadcast(source) {
            Some(DropReason::GroupSource)
        } else if !is_unicast_source(source) {
            Some(DropReason::ReservedSource)
        } else if self.routes.is_own(source) {
            Some(if source == destination { DropReason::Land } else { DropReason::OwnSource })
        } else {
            None
        }
    }

    fn receive_tcp(
        &mut self,
        frame: Frame<'_>,
        header: IpHeader,
        range: std::ops::Range<usize>,
        from: Option<MacAddress>,
    ) -> Result<(), DropReason> {
        let bytes = &frame.bytes.as_slice()[range.clone()];
        self.check_checksum(&header, bytes, frame.checksum)?;
        let (mut segment, header_len) = Segment::parse(bytes)?;
        if u32::from(frame.segment_size) < segment.payload_len {
            segment.segment_size = frame.segment_size;
        }
        let tuple = Tuple {
            local: header.destination,
            remote: header.source,
            local_port: segment.destination_port,
            remote_port: segment.source_port,
        };
        let text_range = range.start + header_len..range.end;
        let arrival = Arrival { tuple, segment, from };
        match frame.bytes {
            FrameBytes::Borrowed(bytes) => self.receive_segment(arrival, Payload::Borrowed(&bytes[text_range])),
            FrameBytes::Owned(mut bytes) => {
                bytes.truncate(text_range.end);
                bytes.advance(text_range.start);
                self.receive_segment(arrival, Payload::Frame(bytes));
            }
        }
        Ok(())
    }

    fn check_checksum(&self, header: &IpHeader, bytes: &[u8], checksum: Checksum) -> Result<(), DropReason> {
        let trusted = match checksum {
            Checksum::Verified => true,
            Checksum::Partial => self.link.is_some_and(|link| link.trusts_partial),
            Checksum::Unknown => false,
        };
        if trusted {
            return Ok(());
        }
        let length = u32::try_from(bytes.len()).map_err(|_| DropReason::BadTcpChecksum)?;
        let sum = Sum::pseudo_header(header.source, header.destination, protocol::TCP, length) + Sum::of(bytes);
        if sum.is_intact() { Ok(()) } else { Err(DropReason::BadTcpChecksum) }
    }

    /// Takes a segment for one of our addresses: to its connection, to the SYN cache, to a listener, or to nobody.
    pub(super) fn receive_segment(&mut self, arrival: Arrival, text: Payload<'_>) {
        self.stats.segments_in += u64::from(arrival.segment.count());
        self.stats.bytes_in += u64::from(arrival.segment.payload_len);
        self.stats.resets_in += u64::from(arrival.segment.flags.has(Flags::RST));
        let hash = self.hash.hash(&arrival.tuple);
        if let Some(index) = self.find_connection(hash, &arrival.tuple) {
            self.deliver(index, &arrival, text);
        } else if let Some(id) = self.time_waits.find(hash, &arrival.tuple) {
            self.receive_in_time_wait(id, hash, &arrival);
        } else if self.syn_cache.find(hash, &arrival.tuple).is_some() {
            self.receive_half_open(hash, &arrival, text);
        } else if let Some(listener) = self.listeners.find(arrival.tuple.local, arrival.tuple.local_port) {
            self.receive_in_listen(listener, hash, &arrival, text);
        } else {
            self.stats.drops.count(DropReason::NoSocket);
            self.reset_stranger(&arrival);
        }
    }

    pub(super) fn find_connection(&self, hash: u64, tuple: &Tuple) -> Option<u32> {
        find_connection(&self.connections, &self.sockets, hash, tuple)
    }

    fn deliver(&mut self, index: u32, arrival: &Arrival, text: Payload<'_>) {
        let segment = &arrival.segment;
        let (sockets, mut cx) = self.split();
        let entry = &mut sockets[index as usize];
        let disposition = match &mut entry.slot {
            Slot::Connection(connection) => connection.input(&mut cx, segment, text),
            Slot::Opening(opening) => {
                let verdict = opening.input(&mut cx, segment, text);
                self.on_verdict(index, verdict, arrival);
                return;
            }
            Slot::Listener(_) | Slot::Remains(_) => return,
        };
        match disposition {
            Disposition::Accepted => self.confirm_neighbor(index),
            Disposition::Dropped(cause) => self.stats.drops.count(cause.into()),
            Disposition::Refused(cause) => {
                self.stats.drops.count(cause.into());
                self.reset(arrival);
            }
        }
        self.settle(index);
    }

    fn on_verdict(&mut self, index: u32, verdict: Opened, arrival: &Arrival) {
        match verdict {
            Opened::Dropped(cause) => self.stats.drops.count(cause.into()),
            Opened::Established(connection) => {
                self.sockets[index as usize].slot = Slot::Connection(connection);
            }
            Opened::Failed(reason) => {
                self.count_end(reason);
                self.bury(index, reason);
                return;
            }
            Opened::Reset => {
                self.stats.drops.count(DropReason::HandshakeAck);
                self.reset(arrival);
            }
            Opened::Wait => {}
        }
        self.settle(index);
    }

    /// The 4-tuple rests: only a retransmitted FIN, or a SYN for a new connection, gets an answer (RFC 9293 §3.10.7.4, RFC 6191, RFC 1337).
    fn receive_in_time_wait(&mut self, id: TimeWaitId, hash: u64, arrival: &Arrival) {
        match self.time_waits.on_segment(self.now, id, &arrival.segment) {
            Verdict::Acknowledge(acknowledgment) => self.acknowledge_in_time_wait(arrival, acknowledgment),
            Verdict::Gone => self.trace_change(arrival.tuple, State::TimeWait, State::Closed),
            Verdict::Ignore(_) => self.stats.drops.count(DropReason::TimeWait),
            Verdict::Reuse { iss_min, otherwise } => match self.listeners.find(arrival.tuple.local, arrival.tuple.local_port) {
                // Without room for it the wait goes on, and the SYN comes again.
                Some(listener) => {
                    if self.receive_syn(listener, hash, arrival, Some(iss_min)) == Reception::Answered {
                        self.time_waits.reuse(id);
                        self.trace_change(arrival.tuple, State::TimeWait, State::Closed);
                    }
                }
                None => self.acknowledge_in_time_wait(arrival, otherwise),
            },
        }
    }

    fn acknowledge_in_time_wait(&mut self, arrival: &Arrival, acknowledgment: Acknowledgment) {
        let Acknowledgment { seq, ack, window, echo } = acknowledgment;
        let timestamps = echo.map(|echo| Timestamps { value: self.clock_value(&arrival.tuple), echo });
        let segment = Segment {
            source_port: arrival.tuple.local_port,
            destination_port: arrival.tuple.remote_port,
            seq,
            ack,
            flags: Flags::ACK,
            window,
            options: Options { timestamps, ..Options::default() },
            ..Segment::default()
        };
        self.reply(arrival, segment);
    }

    /// The answer to a segment that belongs to nobody (RFC 9293 §3.10.7.1), within the limit.
    pub(super) fn reset_stranger(&mut self, arrival: &Arrival) {
        if arrival.segment.flags.has(Flags::RST) {
            return;
        }
        if self.replies.may_reset(self.now, arrival.tuple.remote) {
            self.reset(arrival);
        } else {
            self.stats.resets_suppressed += 1;
        }
    }

    pub(super) fn reset(&mut self, arrival: &Arrival) {
        if let Some(reset) = reset::reply_to(&arrival.segment) {
            self.reply(arrival, reset);
        }
    }

    /// Sends `segment` back to where `arrival` came from.
    pub(super) fn reply(&mut self, arrival: &Arrival, segment: Segment) {
        let Config { hop_limit, traffic_class, .. } = self.config;
        let reply = SegmentReply { tuple: arrival.tuple, segment, hop_limit, traffic_class, to: arrival.from };
        self.replies.push(Reply::Segment(reply), &mut self.stats);
    }

    fn receive_icmp(&mut self, header: &IpHeader, bytes: &[u8], Packet { from, sender, .. }: Packet) -> Result<(), DropReason> {
        match Message::parse(header, bytes)? {
            Message::EchoRequest(echo) => {
                if !self.replies.may_echo(self.now) {
                    return Err(DropReason::RateLimited);
                }
                let own = self.link.and_then(|link| match link.medium {
                    Medium::Ethernet(own) => Some(own),
                    Medium::Ip => None,
                });
                let ends = own.zip(from).map(|(source, destination)| Ends { source, destination });
                if ends.is_some() == own.is_some()
                    && let Some(frame) = echo_reply(header, &echo, ends, self.config.hop_limit)
                {
                    self.replies.push(Reply::Frame(Box::new(frame)), &mut self.stats);
                }
            }
            Message::Error(report) => self.receive_error(&report),
            Message::ListenerQuery(query) => self.on_listener_query(&query),
            Message::NeighborAdvertisement(advertisement) if self.routes.is_own(advertisement.target) => {
                if let Some(mac) = advertisement.target_mac.or(sender) {
                    self.on_address_claim(advertisement.target, mac);
                }
                return Err(DropReason::OwnSource);
            }
            Message::NeighborAdvertisement(advertisement) => {
                let waiting = self.neighbors.on_claim(self.now, Claim::of_advertisement(&advertisement));
                self.wake_waiters(&waiting);
            }
            Message::NeighborSolicitation(_) if self.routes.is_own(header.source) => {
                if let Some(mac) = sender {
                    self.on_address_claim(header.source, mac);
                }
                return Err(DropReason::OwnSource);
            }
            Message::NeighborSolicitation(question) => {
                let Some(Medium::Ethernet(own)) = self.link.map(|link| link.medium) else { return Err(DropReason::NotForUs) };
                if !self.routes.is_own(question.target) {
                    return Err(DropReason::NotForUs);
                }
                if !self.is_assigned(question.target) {
                    if let Some(mac) = sender.filter(|_| header.source.is_unspecified()) {
                        self.on_address_claim(question.target, mac);
                    }
                    return Err(DropReason::NotForUs);
                }
                let waiting = self.neighbors.on_claim(self.now, Claim::of_solicitation(header.source, &question));
                self.wake_waiters(&waiting);
                if let Some(asker) =
                    question.source_mac.or(from).or_else(|| header.source.is_unspecified().then_some(MacAddress::BROADCAST))
                {
                    let frame = neighbor_advertisement_frame(own, question.target, header.source, asker);
                    self.replies.push(Reply::Frame(Box::new(frame)), &mut self.stats);
                }
            }
            Message::Other => return Err(DropReason::BadIcmp),
        }
        Ok(())
    }

    /// What a router says counts only for a segment in flight; it ends a handshake and nothing else (RFC 5927 §4, §5.2).
    fn receive_error(&mut self, report: &ErrorReport) {
        let hash = self.hash.hash(&report.quoted);
        let found = self.find_connection(hash, &report.quoted);
        if let (Some(index), ErrorKind::PacketTooBig { mtu }) = (found, report.kind) {
            if self.receive_too_big(index, report, mtu) == Credit::Refused {
                self.stats.drops.count(DropReason::BadIcmp);
            }
            return;
        }
        let credit = match found.map(|index| (index, &mut self.sockets[index as usize].slot)) {
            Some((index, Slot::Opening(opening))) if opening.iss() == report.seq => {
                if let Some(reason) = reason_of(report.kind).filter(|_| report.kind != ErrorKind::TimeExceeded) {
                    self.count_end(reason);
                    self.bury(index, reason);
                }
                Credit::Given
            }
            Some((_, Slot::Connection(connection))) => match reason_of(report.kind) {
                Some(reason) => connection.on_soft_error(report.seq, reason),
                None => Credit::Refused,
            },
            _ => Credit::Refused,
        };
        if credit == Credit::Refused {
            self.stats.drops.count(DropReason::BadIcmp);
        }
    }

    fn wake_waiters(&mut self, waiting: &[u32]) {
        for index in waiting {
            if *index == reply::WAITER {
                self.replies.retry(&mut self.stats);
            } else {
                self.schedule(*index);
            }
        }
    }

    /// Segments that are taken show that the next hop works (RFC 4861 §7.3.1).
    fn confirm_neighbor(&mut self, index: u32) {
        if let Some(Way::Link(next)) = self.sockets.get(index as usize).map(|entry| entry.way) {
            self.neighbors.confirm(self.now, next);
        }
    }

    /// Retransmissions go unanswered: the neighbour is asked whether it is still there.
    pub(super) fn suspect(&mut self, index: u32) {
        if let Some(Way::Link(next)) = self.sockets.get(index as usize).map(|entry| entry.way) {
            self.neighbors.suspect(next);
        }
    }

    /// Runs the neighbour cache's timers.
    pub(super) fn advance_neighbors(&mut self) {
        self.neighbors.advance(self.now);
        while let Some(failure) = self.neighbors.take_failure() {
            self.wake_waiters(&failure.waiters);
        }
    }
}

/// What an error means for a connection, if anything.
const fn reason_of(kind: ErrorKind) -> Option<CloseReason> {
    match kind {
        ErrorKind::HostUnreachable | ErrorKind::TimeExceeded => Some(CloseReason::HostUnreachable),
        ErrorKind::NetworkUnreachable => Some(CloseReason::NetworkUnreachable),
        ErrorKind::PortUnreachable => Some(CloseReason::Refused),
        ErrorKind::Prohibited => Some(CloseReason::Prohibited),
        ErrorKind::ProtocolUnreachable => Some(CloseReason::ProtocolUnreachable),
        ErrorKind::PacketTooBig { .. } | ErrorKind::ParameterProblem => None,
    }
}
