//! What this host says below TCP: pings answered, neighbours asked and told, all of it as finished frames (RFC 1122 §3.2.2.6, RFC 4861, RFC 5227).
//!
//! Pure decisions and bytes. Whether somebody may be answered is asked of the [`Limiter`]; where the frame goes is in it.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;

use crate::proto::link::{MacAddress, TxFrame};
use crate::proto::time::Instant;
use crate::proto::wire::ethernet::{self, EtherType};
use crate::proto::wire::icmp::{ECHO_HEADER_LEN, Echo};
use crate::proto::wire::ip::{self, is_multicast, is_unicast_source};
use crate::proto::wire::{Address, IpHeader, arp, mld, ndp};

/// Up to how many bytes the payload of a ping is copied behind the header; a longer one becomes a view.
const INLINE_PAYLOAD_MAX: usize = 64;

/// Between whom a frame travels on an Ethernet link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) source: MacAddress,
    pub(crate) destination: MacAddress,
}

/// Whether something limited may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Permit {
    Granted,
    Refused,
}

/// A token bucket: a rate per second, and bursts of a twentieth of it (Linux's `icmp_msgs_burst` of 50 at 1,000).
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Time that a token takes to grow back.
    cost: Duration,
    /// How far the bucket may be ahead: a full one.
    burst: Duration,
    /// When the bucket is full again.
    full_at: Instant,
    refused: u64,
}

impl Limiter {
    /// Zero per second refuses everything.
    pub(crate) fn new(per_second: u32) -> Self {
        let cost = Duration::from_secs(1).checked_div(per_second).unwrap_or(Duration::MAX);
        Self { cost, burst: cost.saturating_mul((per_second / 20).max(1)), full_at: Instant::START, refused: 0 }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Permit {
        let full_at = self.full_at.max(now) + self.cost;
        if self.cost == Duration::MAX || full_at - now > self.burst {
            self.refused += 1;
            return Permit::Refused;
        }
        self.full_at = full_at;
        Permit::Granted
    }

    /// How often it said no.
    #[cfg(test)]
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }
}

/// The answer to a ping that came in a packet with this header; `None` if it was sent to a group or by nobody in particular (RFC 1122
/// §3.2.2.6 allows silence). IPv4 broadcasts are the caller's knowledge.
pub(crate) fn echo_reply(request: &IpHeader, echo: &Echo<'_>, ends: Option<Ends>, hop_limit: u8) -> Option<TxFrame> {
    if is_multicast(request.destination) || !is_unicast_source(request.source) {
        return None;
    }
    let header = request.answer(hop_limit);
    let mut frame = ip_frame(&header, ECHO_HEADER_LEN + echo.payload.len(), ends);
    frame.put_header(&echo.reply_header(&header));
    if echo.payload.len() <= INLINE_PAYLOAD_MAX {
        frame.put_header(echo.payload);
    } else {
        frame.put_view(Bytes::copy_from_slice(echo.payload)).ok()?;
    }
    Some(frame)
}

/// An ARP packet to `destination`: [`MacAddress::BROADCAST`] for a question to all.
pub(crate) fn arp_frame(packet: &arp::Packet, destination: MacAddress) -> TxFrame {
    let mut frame = TxFrame::new();
    put_ethernet(&mut frame, Ends { source: packet.sender_mac, destination }, EtherType::Arp);
    frame.put_header(&packet.emit());
    frame
}

/// A question for `target`, to `unicast` or to all, as the host at `own` with the address `source` asks it: ARP or NDP by the target's family.
/// An unspecified source makes it a probe for a duplicate (RFC 5227 §2.1.1, RFC 4862 §5.4.2).
pub(crate) fn solicitation_frame(own: MacAddress, source: Address, target: Address, unicast: Option<MacAddress>) -> TxFrame {
    match target.as_v4() {
        Some(target) => {
            let sender = source.as_v4().unwrap_or(Ipv4Addr::UNSPECIFIED);
            let packet =
                arp::Packet { operation: arp::Operation::Request, sender_mac: own, sender, target_mac: MacAddress::default(), target };
            arp_frame(&packet, unicast.unwrap_or(MacAddress::BROADCAST))
        }
        None => neighbor_solicitation_frame(own, source, target, unicast),
    }
}

/// A neighbour solicitation for `target`, to `unicast` or to the group of its owner.
pub(crate) fn neighbor_solicitation_frame(own: MacAddress, source: Address, target: Address, unicast: Option<MacAddress>) -> TxFrame {
    let group = ndp::solicited_node(target);
    let destination = if unicast.is_some() { target } else { group };
    let ends = Ends { source: own, destination: unicast.unwrap_or_else(|| ndp::multicast_mac(group)) };
    // Without an address of its own a host tells its Ethernet address to nobody (RFC 4861 §4.3).
    let (source, source_mac) = if source.is_unspecified() { (Address::ANY, None) } else { (source, Some(own)) };
    let mut message = [0; ndp::MESSAGE_LEN_MAX];
    let len = ndp::Solicitation { target, source_mac }.emit(source, destination, &mut message);
    neighbor_frame(source, destination, ends, &message[..len])
}

/// The answer to a neighbour solicitation from `asker`, whose Ethernet address is `asker_mac`: `target` is at `own`. A probe for a duplicate,
/// which comes from the unspecified address, is answered to all nodes.
pub(crate) fn neighbor_advertisement_frame(own: MacAddress, target: Address, asker: Address, asker_mac: MacAddress) -> TxFrame {
    let probe = asker.is_unspecified();
    let (destination, mac) = if probe { (ndp::all_nodes(), ndp::multicast_mac(ndp::all_nodes())) } else { (asker, asker_mac) };
    let advertisement = ndp::Advertisement { target, router: false, solicited: !probe, overrides: true, target_mac: Some(own) };
    let mut message = [0; ndp::MESSAGE_LEN_MAX];
    let len = advertisement.emit(target, destination, &mut message);
    neighbor_frame(target, destination, Ends { source: own, destination: mac }, &message[..len])
}

/// A report of the groups that this host listens to.
pub(crate) fn report_frame(report: mld::Report, ends: Ends) -> TxFrame {
    let mut frame = ip_frame(&report.header, report.payload.len(), Some(ends));
    frame.put_view(report.payload.into()).expect("the first view of a frame");
    frame
}

fn neighbor_frame(source: Address, destination: Address, ends: Ends, message: &[u8]) -> TxFrame {
    let header = IpHeader { source, destination, protocol: ip::protocol::ICMPV6, hop_limit: ndp::HOP_LIMIT, traffic_class: 0 };
    let mut frame = ip_frame(&header, message.len(), Some(ends));
    frame.put_header(message);
    frame
}

/// A frame up to and including the IP header, with nothing to be completed.
pub(super) fn ip_frame(header: &IpHeader, payload_len: usize, ends: Option<Ends>) -> TxFrame {
    let mut frame = TxFrame::new();
    if let Some(ends) = ends {
        put_ethernet(&mut frame, ends, if header.source.is_v4() { EtherType::Ipv4 } else { EtherType::Ipv6 });
    }
    let mut out = [0; ip::HEADER_LEN_MAX];
    let len = header.emit(0, payload_len, &mut out);
    frame.put_header(&out[..len]);
    frame
}

fn put_ethernet(frame: &mut TxFrame, ends: Ends, ethertype: EtherType) {
    let Ends { source, destination } = ends;
    frame.put_header(&ethernet::Header { source, destination, ethertype }.emit());
    frame.network_offset = u8::try_from(ethernet::HEADER_LEN).expect("14");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::icmp::Message;

    const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const PEER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    fn host(text: &str) -> Address {
        Address::new(text.parse().expect("a literal"))
    }

    /// The Ethernet header, IP header and payload of a frame.
    fn opened(frame: &TxFrame) -> (ethernet::Header, IpHeader, Vec<u8>) {
        let bytes = frame.to_vec();
        let link = ethernet::Header::parse(&bytes).expect("an Ethernet frame");
        let packet = &bytes[ethernet::HEADER_LEN..];
        let (header, payload) = IpHeader::parse(packet).expect("an IP packet");
        assert_eq!((payload.end, frame.network_offset, frame.transport_offset), (packet.len(), 14, 0));
        (link, header, packet[payload].to_vec())
    }

    fn ping(source: &str, destination: &str, payload: &[u8]) -> Option<TxFrame> {
        let (source, destination) = (host(source), host(destination));
        let protocol = if source.is_v4() { ip::protocol::ICMP } else { ip::protocol::ICMPV6 };
        let request = IpHeader { source, destination, protocol, hop_limit: 9, traffic_class: 1 };
        let echo = Echo { identity: [1, 2, 3, 4], payload };
        echo_reply(&request, &echo, Some(Ends { source: OWN, destination: PEER }), 64)
    }

    #[test]
    fn pings_of_any_length_are_answered() {
        for (peer, own) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
            for len in [0, 1, 56, 64, 65, 1400] {
                let payload = vec![0xa5; len];
                let frame = ping(peer, own, &payload).expect("an answer");
                assert_eq!(frame.views().len(), usize::from(len > 64));
                let (link, header, message) = opened(&frame);
                assert_eq!((link.source, link.destination), (OWN, PEER));
                assert_eq!((header.source, header.destination, header.hop_limit), (host(own), host(peer), 64));
                assert_eq!((&message[4..8], &message[8..]), (&[1, 2, 3, 4][..], &payload[..]));
                assert_eq!(Message::parse(&header, &message), Ok(Message::Other), "the checksum is right");
            }
        }
    }

    #[test]
    fn nobody_in_particular_is_not_answered() {
        for (source, destination) in [("10.9.0.1", "224.0.0.1"), ("0.0.0.0", "10.9.0.2"), ("fd09::1", "ff02::1"), ("::", "fd09::2")] {
            assert!(ping(source, destination, b"x").is_none());
        }
    }

    #[test]
    fn a_question_for_ipv4_is_arp() {
        let bytes = solicitation_frame(OWN, host("10.9.0.2"), host("10.9.0.1"), None).to_vec();
        let link = ethernet::Header::parse(&bytes).expect("an Ethernet frame");
        assert_eq!((link.destination, link.ethertype), (MacAddress::BROADCAST, EtherType::Arp));
        let packet = arp::Packet::parse(&bytes[14..]).expect("an ARP packet");
        assert_eq!((packet.sender_mac, packet.sender, packet.target), (OWN, [10, 9, 0, 2].into(), [10, 9, 0, 1].into()));
        let bytes = solicitation_frame(OWN, host("10.9.0.2"), host("10.9.0.1"), Some(PEER)).to_vec();
        assert_eq!(ethernet::Header::parse(&bytes).map(|link| link.destination), Ok(PEER));
        let answer = arp_frame(&packet.answer(PEER), packet.sender_mac).to_vec();
        assert_eq!(ethernet::Header::parse(&answer).map(|link| (link.source, link.destination)), Ok((PEER, OWN)));
    }

    #[test]
    fn a_question_for_ipv6_is_answered() {
        let (asker, target) = (host("fd09::2"), host("fd09::1"));
        let (link, header, message) = opened(&solicitation_frame(OWN, asker, target, None));
        assert_eq!((link.destination, header.destination), (MacAddress([0x33, 0x33, 0xff, 0, 0, 1]), host("ff02::1:ff00:1")));
        let solicitation = ndp::Solicitation { target, source_mac: Some(OWN) };
        assert_eq!(Message::parse(&header, &message), Ok(Message::NeighborSolicitation(solicitation)));

        let (link, header, message) = opened(&neighbor_advertisement_frame(PEER, target, header.source, link.source));
        assert_eq!((link.destination, header.destination), (OWN, asker));
        let advertisement = ndp::Advertisement { target, router: false, solicited: true, overrides: true, target_mac: Some(PEER) };
        assert_eq!(Message::parse(&header, &message), Ok(Message::NeighborAdvertisement(advertisement)));
    }

    #[test]
    fn a_probe_for_a_duplicate_is_answered_to_all() {
        let (_, header, message) = opened(&solicitation_frame(OWN, Address::ANY, host("fd09::1"), None));
        let probe = ndp::Solicitation { target: host("fd09::1"), source_mac: None };
        assert_eq!(Message::parse(&header, &message), Ok(Message::NeighborSolicitation(probe)));
        let (link, header, message) = opened(&neighbor_advertisement_frame(PEER, host("fd09::1"), header.source, OWN));
        assert_eq!((link.destination, header.destination), (MacAddress([0x33, 0x33, 0, 0, 0, 1]), host("ff02::1")));
        assert!(matches!(Message::parse(&header, &message), Ok(Message::NeighborAdvertisement(answer)) if !answer.solicited));
    }

    #[test]
    fn the_rate_is_kept() {
        let mut limiter = Limiter::new(1000);
        let granted = |limiter: &mut Limiter, now| (0..100).filter(|_| limiter.take(now) == Permit::Granted).count();
        let start = Instant::from_nanos(5);
        assert_eq!(granted(&mut limiter, start), 50);
        assert_eq!(limiter.refused(), 50);
        assert_eq!(granted(&mut limiter, start + Duration::from_millis(10)), 10);
        assert_eq!(granted(&mut limiter, start + Duration::from_secs(9)), 50);
        let mut none = Limiter::new(0);
        assert_eq!(none.take(start), Permit::Refused);
        let mut one = Limiter::new(1);
        assert_eq!(granted(&mut one, start), 1);
        assert_eq!(granted(&mut one, start + Duration::from_millis(999)), 0);
        assert_eq!(granted(&mut one, start + Duration::from_secs(1)), 1);
    }
}
