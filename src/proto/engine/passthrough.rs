//! IP packets that are not for the engine, kept for whoever wants them: all but TCP for an address of ours, and the ICMP that serves it. Off
//! unless asked for; then they are handed on instead of dropped.
//!
//! And the way back: packets of somebody else's that leave by the engine's link, to the neighbour that its routes name.
//!
//! It must not know: who takes them, and what they mean.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Engine;
use super::neighbor::Resolution;
use super::reply::Reply;
use super::slot::Way;
use super::stats::DropReason;
use crate::proto::Instant;
use crate::proto::link::{Checksum, Frame, Medium, TxFrame};
use crate::proto::wire::ethernet::{self, EtherType};
use crate::proto::wire::ip::protocol;
use crate::proto::wire::{IpHeader, Sum};

/// An IP packet that was for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Passed {
    /// The packet, from its IP header on, without padding; a UDP or TCP checksum that its sender left to the link is completed. Nothing else of
    /// it has been verified.
    pub bytes: Bytes,
    /// For a super-packet of TCP, which stands for several and is longer than the MTU: payload bytes of each. Else zero.
    pub segment_size: u16,
}

/// Why [`send_packet`](Engine::send_packet) sent nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The neighbour does not answer.
    #[error("the host cannot be reached")]
    HostUnreachable,
    /// It is no whole IP packet, or a fragment.
    #[error("this is no whole IP packet")]
    Malformed,
    /// There is no link, or no route to a single host there.
    #[error("the network cannot be reached")]
    NetworkUnreachable,
    /// It is longer than the link's MTU.
    #[error("the packet is longer than the link's MTU")]
    TooLong,
    /// Too many answers wait to leave, or the neighbour has just been asked where it is.
    #[error("the packet cannot leave yet")]
    WouldBlock,
}

/// Packets that wait to be taken.
#[derive(Debug, Default)]
pub(super) struct Passthrough {
    queue: VecDeque<Passed>,
    bytes: usize,
}

impl Engine {
    /// From now on keeps what is not for this engine until it is [taken](Self::next_passed): packets of other protocols than TCP and ICMP, for
    /// other addresses, fragments, and ICMP messages that are neither echo requests, neighbour discovery nor about TCP.
    ///
    /// At most 256 packets and 2 MiB wait; what finds no room is dropped and counted as [`DropReason::PassthroughFull`].
    pub fn start_passthrough(&mut self) {
        self.passthrough.get_or_insert_default();
    }

    /// The oldest packet that waits.
    pub fn next_passed(&mut self) -> Option<Passed> {
        let Passthrough { queue, bytes } = self.passthrough.as_mut()?;
        let passed = queue.pop_front()?;
        *bytes -= passed.bytes.len();
        Some(passed)
    }

    /// True if packets wait to be taken.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.passthrough.as_ref().is_some_and(|waiting| !waiting.queue.is_empty())
    }

    /// Sends an IP packet that is not the engine's: an answer to one that was [passed on](Self::next_passed). It goes as it is, with its
    /// checksums complete, from whatever source; what follows it in `packet` does not.
    ///
    /// # Errors
    /// [`PacketError`]; nothing has been sent then.
    pub fn send_packet(&mut self, now: Instant, mut packet: Bytes) -> Result<(), PacketError> {
        self.tick(now);
        let (header, payload) = IpHeader::parse(&packet).map_err(|_| PacketError::Malformed)?;
        packet.truncate(payload.end);
        let link = self.link.filter(|link| !link.gone).ok_or(PacketError::NetworkUnreachable)?;
        if packet.len() > usize::from(link.mtu) {
            return Err(PacketError::TooLong);
        }
        let Way::Link(next) = self.way_to(header.destination) else { return Err(PacketError::NetworkUnreachable) };
        if self.replies.is_full() {
            return Err(PacketError::WouldBlock);
        }
        let mut frame = TxFrame::new();
        if let Medium::Ethernet(source) = link.medium {
            let destination = match self.neighbors.resolve(self.now, next) {
                Resolution::Resolved(destination) => destination,
                Resolution::Busy | Resolution::Pending => return Err(PacketError::WouldBlock),
                Resolution::Failed => return Err(PacketError::HostUnreachable),
            };
            let ethertype = if header.destination.is_v4() { EtherType::Ipv4 } else { EtherType::Ipv6 };
            frame.put_header(&ethernet::Header { source, destination, ethertype }.emit());
            frame.network_offset = u8::try_from(ethernet::HEADER_LEN).expect("14");
        }
        frame.put_header(&packet.split_to(packet.len().min(IPV6_HEADER_LEN)));
        frame.put_view(packet).map_err(|_| PacketError::Malformed)?;
        self.replies.push(Reply::Frame(Box::new(frame)), &mut self.stats);
        Ok(())
    }

    /// Keeps the packet at `offset` of a frame that is of no use here for `reason`, if anybody wants it; else that stays the reason.
    pub(super) fn pass_on(&mut self, frame: &Frame<'_>, offset: usize, reason: DropReason) -> Result<(), DropReason> {
        let Some(waiting) = &mut self.passthrough else { return Err(reason) };
        let (DropReason::BadIcmp | DropReason::Fragment | DropReason::NotForUs | DropReason::UnknownProtocol) = reason else {
            return Err(reason);
        };
        let packet = without_padding(&frame.bytes.as_slice()[offset..]);
        if waiting.queue.len() >= PACKETS_MAX || waiting.bytes + packet.len() > BYTES_MAX {
            return Err(DropReason::PassthroughFull);
        }
        let bytes = match frame.checksum {
            Checksum::Partial => completed(packet.to_vec()),
            Checksum::Unknown | Checksum::Verified => Bytes::copy_from_slice(packet),
        };
        waiting.bytes += bytes.len();
        waiting.queue.push_back(Passed { bytes, segment_size: frame.segment_size });
        self.stats.packets_passed += 1;
        Ok(())
    }
}

/// The packet as long as its header says: Ethernet pads short ones.
fn without_padding(packet: &[u8]) -> &[u8] {
    let word = |at: usize| packet.get(at..at + 2).map_or(usize::MAX, |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    let len = match packet.first().map(|byte| byte >> 4) {
        Some(6) => word(4).saturating_add(IPV6_HEADER_LEN),
        _ => word(2),
    };
    packet.get(..len).unwrap_or(packet)
}

/// The packet with the checksum that its sender has left to the link: so far its field holds the pseudo-header's sum.
fn completed(mut packet: Vec<u8>) -> Bytes {
    let field = IpHeader::parse(&packet).ok().and_then(|(header, payload)| match header.protocol {
        protocol::TCP => Some((payload, TCP_CHECKSUM_OFFSET)),
        UDP => Some((payload, UDP_CHECKSUM_OFFSET)),
        _ => None,
    });
    if let Some((payload, offset)) = field
        && payload.len() >= offset + 2
    {
        // RFC 768: a sum of zero is sent as all ones; in TCP both are equal.
        let sum = match Sum::of(&packet[payload.clone()]).complete() {
            [0, 0] => [0xff, 0xff],
            sum => sum,
        };
        packet[payload.start + offset..payload.start + offset + 2].copy_from_slice(&sum);
    }
    packet.into()
}

/// Packets that wait at most: a turn of the runtime takes in 128 frames before it hands them on.
const PACKETS_MAX: usize = 256;

/// And their bytes: two batches of super-packets.
const BYTES_MAX: usize = 2 << 20;

const IPV6_HEADER_LEN: usize = 40;
const UDP: u8 = 17;
const UDP_CHECKSUM_OFFSET: usize = 6;
const TCP_CHECKSUM_OFFSET: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Config, FrameBytes, Instant, Link, Medium};

    fn engine() -> Engine {
        let now = Instant::from_nanos(1);
        let mut engine = Engine::new(Config::default(), [7; 32], now);
        engine.set_link(now, Some(Link::new(Medium::Ip, 1500)));
        engine.add_address(now, "10.9.0.2/24".parse().expect("a network"));
        engine
    }

    /// An IPv4 packet from 10.9.0.1 with a UDP header and four bytes, six bytes of padding after it.
    fn packet(protocol: u8, to: u8, fragment: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 32, 0, 0, fragment, 0, 64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, to];
        let sum = Sum::of(&packet).complete();
        packet[10..12].copy_from_slice(&sum);
        packet.extend_from_slice(&[0, 53, 0, 99, 0, 12, 0, 0, b'd', b'a', b't', b'a']);
        packet.extend_from_slice(&[0; 6]);
        packet
    }

    fn receive(engine: &mut Engine, packet: &[u8]) {
        let frame = Frame { bytes: FrameBytes::Borrowed(packet), checksum: Checksum::Unknown, segment_size: 0 };
        engine.receive(Instant::from_nanos(1), frame);
    }

    #[test]
    fn what_is_not_for_us_waits_without_its_padding() {
        let mut engine = engine();
        receive(&mut engine, &packet(UDP, 2, 0));
        assert_eq!((engine.next_passed(), engine.stats().drops.of(DropReason::UnknownProtocol)), (None, 1), "nobody has asked");
        engine.start_passthrough();
        for packet in [packet(UDP, 2, 0), packet(protocol::TCP, 3, 0), packet(UDP, 2, 0x20), packet(132, 2, 0)] {
            receive(&mut engine, &packet);
            assert!(engine.has_passed());
            assert_eq!(engine.next_passed().expect("it waits").bytes, packet[..32]);
        }
        receive(&mut engine, &packet(protocol::TCP, 2, 0));
        assert_eq!((engine.next_passed(), engine.has_passed(), engine.stats().packets_passed), (None, false, 4));
    }

    #[test]
    fn answer_leaves_as_it_is() {
        let (mut engine, now) = (engine(), Instant::from_nanos(1));
        let mut to = |to: u8| engine.send_packet(now, packet(UDP, to, 0).into());
        assert_eq!([to(7), to(2), to(255)], [Ok(()), Err(PacketError::NetworkUnreachable), Err(PacketError::NetworkUnreachable)]);
        let mut sent = Vec::<TxFrame>::new();
        let _ = engine.transmit(now, &mut sent);
        assert_eq!(sent.iter().map(TxFrame::to_vec).collect::<Vec<_>>(), [&packet(UDP, 7, 0)[..32]]);

        let mut send = |packet: Vec<u8>| engine.send_packet(now, packet.into());
        assert_eq!([send(vec![0; 40]), send(vec![]), send(packet(UDP, 7, 0x20))], [Err(PacketError::Malformed); 3]);
        let answers: Vec<_> = (0..2000).map(|_| send(packet(UDP, 7, 0))).collect();
        assert!(answers.starts_with(&[Ok(()); 1024]) && answers.ends_with(&[Err(PacketError::WouldBlock); 976]));
        engine.set_link(now, Some(Link::new(Medium::Ip, 1500).lost()));
        assert_eq!(engine.send_packet(now, packet(UDP, 7, 0).into()), Err(PacketError::NetworkUnreachable));
        engine.set_link(now, Some(Link::new(Medium::Ip, 31)));
        assert_eq!(engine.send_packet(now, packet(UDP, 7, 0).into()), Err(PacketError::TooLong));
    }

    #[test]
    fn queue_has_an_end() {
        let mut engine = engine();
        engine.start_passthrough();
        (0..PACKETS_MAX + 3).for_each(|_| receive(&mut engine, &packet(UDP, 2, 0)));
        assert_eq!(engine.stats().drops.of(DropReason::PassthroughFull), 3);
        assert_eq!(std::iter::from_fn(|| engine.next_passed()).count(), PACKETS_MAX);
        receive(&mut engine, &packet(UDP, 2, 0));
        assert!(engine.has_passed());
    }
}
