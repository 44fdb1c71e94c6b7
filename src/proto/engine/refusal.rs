//! What a stranger hears who sends a packet of a protocol that nobody here speaks, as Linux says it (RFC 1122 §3.2.2.1, RFC 4443 §3.1 and §3.4).
//!
//! ```text
//!   UDP ──► port unreachable        no next header ──► silence
//!   else ─► protocol unreachable    IPv6: parameter problem, at the field that names the protocol
//! ```
//!
//! Limited per source: a limit for all would be a counter that strangers can read. A packet to a group of Ethernet stations, or whose own
//! checksum is wrong, has no answer. It must not know TCP.

use bytes::Bytes;

use super::Engine;
use super::icmp::{Ends, ip_frame};
use super::reply::Reply;
use crate::proto::link::{Checksum, MacAddress, Medium, TxFrame};
use crate::proto::wire::ip::protocol;
use crate::proto::wire::{IpHeader, Sum};

/// A packet for this host that is of no use to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused<'a> {
    pub(super) header: IpHeader,
    /// From the IP header on, without padding.
    pub(super) packet: &'a [u8],
    /// Where the payload begins in it.
    pub(super) payload: usize,
    pub(super) checksum: Checksum,
    /// The station that sent it to ours.
    pub(super) from: Option<MacAddress>,
}

impl Engine {
    /// Tells the sender, within the limit.
    pub(super) fn refuse_protocol(&mut self, refused: &Refused<'_>) {
        let ends = match self.link.map(|link| link.medium) {
            Some(Medium::Ethernet(source)) => match refused.from {
                Some(destination) => Some(Ends { source, destination }),
                None => return,
            },
            Some(Medium::Ip) => None,
            None => return,
        };
        let Some(frame) = refused.answer(ends, self.config.hop_limit) else { return };
        if self.replies.may_refuse(self.now, refused.header.source) {
            self.replies.push(Reply::Frame(Box::new(frame)), &mut self.stats);
        } else {
            self.stats.icmp_errors_suppressed += 1;
        }
    }
}

impl Refused<'_> {
    fn answer(&self, ends: Option<Ends>, hop_limit: u8) -> Option<TxFrame> {
        let is_v4 = self.header.source.is_v4();
        let mut message = if is_v4 { self.problem_v4() } else { self.problem_v6() }?;
        let (protocol, room) = if is_v4 { (protocol::ICMP, QUOTED_V4_MAX) } else { (protocol::ICMPV6, QUOTED_V6_MAX) };
        let quoted = &self.packet[..self.packet.len().min(room)];
        let header = IpHeader { protocol, ..self.header.answer(hop_limit) };
        let len = message.len() + quoted.len();
        let mut sum = Sum::of(&message) + Sum::of(quoted);
        if !is_v4 {
            sum = sum + Sum::pseudo_header(header.source, header.destination, protocol, u32::try_from(len).ok()?);
        }
        message[2..4].copy_from_slice(&sum.complete());
        let mut frame = ip_frame(&header, len, ends);
        frame.put_header(&message);
        frame.put_view(Bytes::copy_from_slice(quoted)).ok()?;
        Some(frame)
    }

    fn problem_v4(&self) -> Option<Message> {
        match self.header.protocol {
            UDP => self.is_datagram().then_some([3, 3, 0, 0, 0, 0, 0, 0]),
            _ => Some([3, 2, 0, 0, 0, 0, 0, 0]),
        }
    }

    fn problem_v6(&self) -> Option<Message> {
        match self.header.protocol {
            UDP => self.is_datagram().then_some([1, 4, 0, 0, 0, 0, 0, 0]),
            NO_NEXT_HEADER => None,
            _ => Some([4, 1, 0, 0, 0, 0, 0, u8::try_from(self.next_header_field()).ok()?]),
        }
    }

    /// Where the packet says which protocol its payload is of: in its header, or in the last extension header.
    fn next_header_field(&self) -> usize {
        let (mut field, mut next) = (6, 40);
        while next < self.payload {
            field = next;
            next += (self.packet.get(next + 1).map_or(usize::MAX / 16, |units| usize::from(*units)) + 1) * 8;
        }
        field
    }

    /// Whether a datagram is whole: what was damaged under way may be for another port or from another host (RFC 1122 §4.1.3.4).
    fn is_datagram(&self) -> bool {
        let text = &self.packet[self.payload..];
        let Some(len) = text.get(4..6).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))) else { return false };
        let Some(datagram) = text.get(..len).filter(|_| len >= UDP_HEADER_LEN) else { return false };
        let unchecked = datagram[6..8] == [0, 0] && self.header.source.is_v4();
        let length = u32::try_from(len).unwrap_or(u32::MAX);
        let sum = || Sum::pseudo_header(self.header.source, self.header.destination, UDP, length) + Sum::of(datagram);
        unchecked || self.checksum != Checksum::Unknown || sum().is_intact()
    }
}

/// The eight bytes before the quotation.
type Message = [u8; 8];

/// IANA's protocol numbers.
const UDP: u8 = 17;
const NO_NEXT_HEADER: u8 = 59;

/// Bytes.
const UDP_HEADER_LEN: usize = 8;

/// Bytes of the packet that an error quotes, so that it has 576 in all (RFC 1812 §4.3.2.3), or 1280 (RFC 4443 §2.4).
const QUOTED_V4_MAX: usize = 576 - 20 - 8;
const QUOTED_V6_MAX: usize = 1280 - 40 - 8;
