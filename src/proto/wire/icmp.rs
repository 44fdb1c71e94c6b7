//! ICMP in both families (RFC 792, RFC 4443): echo, and the errors that tell a connection why nothing arrives.
//!
//! An error counts only if it quotes a TCP segment that this host could have sent; the quotation is returned as the connection's 4-tuple
//! and sequence number, so that the connection can check them against what is in flight (RFC 5927 §4.1). What an error does to a
//! connection is not decided here. Redirects, source quench (RFC 6633), timestamps and router discovery are [`Message::Other`].

use std::net::IpAddr;

use etherparse::{Icmpv4Slice, Icmpv6Slice, Ipv4HeaderSlice, Ipv6HeaderSlice, icmpv4, icmpv6};

use super::checksum::Sum;
use super::ip_header::{IpHeader, protocol};
use super::mld::{self, MldError, Query};
use super::ndp::{Advertisement, NdpError, Solicitation};
use super::seq::SeqNum;
use super::tuple::{Address, Tuple};

/// The length of the header of an echo message, in bytes.
pub const ECHO_HEADER_LEN: usize = 8;

/// What an IPv6 header does not count of its packet's length, in bytes (RFC 8200 §3).
const IPV6_HEADER_LEN: u16 = 40;

/// A message as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Somebody pings.
    EchoRequest(Echo<'a>),
    /// A segment did not arrive.
    Error(ErrorReport),
    /// A router asks who listens to which groups.
    ListenerQuery(Query),
    /// News of a neighbour.
    NeighborAdvertisement(Advertisement),
    /// A question for a neighbour.
    NeighborSolicitation(Solicitation),
    /// Nothing that this host acts on.
    Other,
}

/// A ping, to be answered with the same values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Identifier and sequence number, which mean something to the sender only.
    pub identity: [u8; 4],
    /// The payload.
    pub payload: &'a [u8],
}

/// Why a segment did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorReport {
    /// The reason.
    pub kind: ErrorKind,
    /// The connection that sent the segment, from this side.
    pub quoted: Tuple,
    /// The segment's sequence number.
    pub seq: SeqNum,
    /// The length of the quoted packet in bytes, as its IP header tells it.
    pub packet_len: u16,
}

/// The reasons, with what a connection in SYN-SENT makes of them on Linux. In synchronised states all of them are soft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The host is unreachable, unknown or off limits: `EHOSTUNREACH`. From IPv4 also an administrator's ban.
    HostUnreachable,
    /// The network is unreachable, unknown or off limits: `ENETUNREACH`.
    NetworkUnreachable,
    /// The packet is larger than a link on the way; that link's MTU in bytes, unless the router is too old to tell (RFC 1191 §4).
    PacketTooBig {
        /// The MTU of the next hop in bytes, at most 65,535.
        mtu: Option<u16>,
    },
    /// The header offended somebody: `EPROTO`.
    ParameterProblem,
    /// Nobody listens: `ECONNREFUSED`.
    PortUnreachable,
    /// IPv6 only: forbidden by an administrator or a policy: `EACCES`.
    Prohibited,
    /// The host does not speak TCP: `ENOPROTOOPT`.
    ProtocolUnreachable,
    /// The packet ran out of hops: `EHOSTUNREACH`.
    TimeExceeded,
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IcmpError {
    /// The checksum is wrong.
    #[error("the checksum is wrong")]
    BadChecksum,
    /// An error that quotes no TCP segment of the host which it was sent to.
    #[error("the quotation is none of a TCP segment of ours")]
    BadQuotation,
    /// A query for listeners breaks a rule.
    #[error("multicast listener discovery: {0}")]
    Listener(#[from] MldError),
    /// A message of neighbour discovery breaks a rule.
    #[error("neighbour discovery: {0}")]
    Neighbor(#[from] NdpError),
    /// Fewer than 8 bytes, or not the protocol of the packet's family.
    #[error("no ICMP message of this family")]
    Truncated,
}

impl<'a> Message<'a> {
    /// Parses the payload of a packet whose protocol is ICMP or ICMPv6. The checksum is verified.
    ///
    /// # Errors
    /// [`IcmpError`] names why the message is dropped.
    pub fn parse(header: &IpHeader, bytes: &'a [u8]) -> Result<Self, IcmpError> {
        match (header.protocol, header.source.is_v4()) {
            (protocol::ICMP, true) => Self::parse_v4(header, bytes),
            (protocol::ICMPV6, false) => Self::parse_v6(header, bytes),
            _ => Err(IcmpError::Truncated),
        }
    }

    fn parse_v4(header: &IpHeader, bytes: &'a [u8]) -> Result<Self, IcmpError> {
        use icmpv4::{CODE_DST_UNREACH_NEED_FRAG, TYPE_DEST_UNREACH, TYPE_ECHO_REQUEST, TYPE_PARAMETER_PROBLEM, TYPE_TIME_EXCEEDED};
        let message = Icmpv4Slice::from_slice(bytes).map_err(|_| IcmpError::Truncated)?;
        if !Sum::of(bytes).is_intact() {
            return Err(IcmpError::BadChecksum);
        }
        let word = message.bytes5to8();
        let kind = match (message.type_u8(), message.code_u8()) {
            (TYPE_ECHO_REQUEST, 0) => return Ok(Self::echo(word, bytes)),
            (TYPE_DEST_UNREACH, CODE_DST_UNREACH_NEED_FRAG) => {
                let mtu = u16::from_be_bytes([word[2], word[3]]);
                ErrorKind::PacketTooBig { mtu: (mtu > 0).then_some(mtu) }
            }
            (TYPE_DEST_UNREACH, code) => match unreachable_v4(code) {
                Some(kind) => kind,
                None => return Ok(Self::Other),
            },
            (TYPE_TIME_EXCEEDED, 0 | 1) => ErrorKind::TimeExceeded,
            (TYPE_PARAMETER_PROBLEM, _) => ErrorKind::ParameterProblem,
            _ => return Ok(Self::Other),
        };
        let quotation = quotation_v4(&bytes[ECHO_HEADER_LEN..]).ok_or(IcmpError::BadQuotation)?;
        report(header, kind, quotation)
    }

    fn parse_v6(header: &IpHeader, bytes: &'a [u8]) -> Result<Self, IcmpError> {
        use icmpv6::{
            TYPE_DST_UNREACH, TYPE_ECHO_REQUEST, TYPE_NEIGHBOR_ADVERTISEMENT, TYPE_NEIGHBOR_SOLICITATION, TYPE_PACKET_TOO_BIG,
            TYPE_PARAMETER_PROBLEM, TYPE_TIME_EXCEEDED,
        };
        let message = Icmpv6Slice::from_slice(bytes).map_err(|_| IcmpError::Truncated)?;
        let len = u32::try_from(bytes.len()).map_err(|_| IcmpError::Truncated)?;
        if !(Sum::pseudo_header(header.source, header.destination, protocol::ICMPV6, len) + Sum::of(bytes)).is_intact() {
            return Err(IcmpError::BadChecksum);
        }
        let word = message.bytes5to8();
        let kind = match (message.type_u8(), message.code_u8()) {
            (TYPE_ECHO_REQUEST, 0) => return Ok(Self::echo(word, bytes)),
            (mld::TYPE_QUERY, _) => return Ok(Self::ListenerQuery(Query::parse(header, bytes)?)),
            (TYPE_NEIGHBOR_SOLICITATION, _) => return Ok(Self::NeighborSolicitation(Solicitation::parse(header, bytes)?)),
            (TYPE_NEIGHBOR_ADVERTISEMENT, _) => return Ok(Self::NeighborAdvertisement(Advertisement::parse(header, bytes)?)),
            // RFC 4443 §3.2: the code of this one is ignored.
            (TYPE_PACKET_TOO_BIG, _) => ErrorKind::PacketTooBig { mtu: Some(u16::try_from(u32::from_be_bytes(word)).unwrap_or(u16::MAX)) },
            (TYPE_DST_UNREACH, code) => match unreachable_v6(code) {
                Some(kind) => kind,
                None => return Ok(Self::Other),
            },
            (TYPE_TIME_EXCEEDED, 0 | 1) => ErrorKind::TimeExceeded,
            (TYPE_PARAMETER_PROBLEM, _) => ErrorKind::ParameterProblem,
            _ => return Ok(Self::Other),
        };
        let quotation = quotation_v6(&bytes[ECHO_HEADER_LEN..]).ok_or(IcmpError::BadQuotation)?;
        report(header, kind, quotation)
    }

    fn echo(identity: [u8; 4], bytes: &'a [u8]) -> Self {
        Self::EchoRequest(Echo { identity, payload: &bytes[ECHO_HEADER_LEN..] })
    }
}

impl Echo<'_> {
    /// The header of the reply, checksum over the payload included, as `header` sends it.
    #[must_use]
    pub fn reply_header(&self, header: &IpHeader) -> [u8; ECHO_HEADER_LEN] {
        let (kind, pseudo_header) = if header.source.is_v4() {
            (icmpv4::TYPE_ECHO_REPLY, Sum::default())
        } else {
            let len = u32::try_from(ECHO_HEADER_LEN + self.payload.len()).unwrap_or(u32::MAX);
            (icmpv6::TYPE_ECHO_REPLY, Sum::pseudo_header(header.source, header.destination, protocol::ICMPV6, len))
        };
        let mut out = [kind, 0, 0, 0, 0, 0, 0, 0];
        out[4..].copy_from_slice(&self.identity);
        let checksum = (pseudo_header + Sum::of(&out) + Sum::of(self.payload)).complete();
        out[2..4].copy_from_slice(&checksum);
        out
    }
}

/// RFC 1122 §3.2.2.1; code 4 is not among them, code 5 (source route failed) cannot concern packets without one.
const fn unreachable_v4(code: u8) -> Option<ErrorKind> {
    use icmpv4::{
        CODE_DST_UNREACH_FILTER_PROHIB, CODE_DST_UNREACH_HOST, CODE_DST_UNREACH_HOST_PRECEDENCE_VIOLATION, CODE_DST_UNREACH_HOST_PROHIB,
        CODE_DST_UNREACH_HOST_UNKNOWN, CODE_DST_UNREACH_ISOLATED, CODE_DST_UNREACH_NET, CODE_DST_UNREACH_NET_PROHIB,
        CODE_DST_UNREACH_NET_UNKNOWN, CODE_DST_UNREACH_PORT, CODE_DST_UNREACH_PRECEDENCE_CUTOFF, CODE_DST_UNREACH_PROTOCOL,
        CODE_DST_UNREACH_TOS_HOST, CODE_DST_UNREACH_TOS_NET,
    };
    match code {
        CODE_DST_UNREACH_NET | CODE_DST_UNREACH_NET_UNKNOWN | CODE_DST_UNREACH_NET_PROHIB | CODE_DST_UNREACH_TOS_NET => {
            Some(ErrorKind::NetworkUnreachable)
        }
        CODE_DST_UNREACH_HOST
        | CODE_DST_UNREACH_HOST_UNKNOWN
        | CODE_DST_UNREACH_ISOLATED
        | CODE_DST_UNREACH_HOST_PROHIB
        | CODE_DST_UNREACH_TOS_HOST
        | CODE_DST_UNREACH_FILTER_PROHIB
        | CODE_DST_UNREACH_HOST_PRECEDENCE_VIOLATION
        | CODE_DST_UNREACH_PRECEDENCE_CUTOFF => Some(ErrorKind::HostUnreachable),
        CODE_DST_UNREACH_PROTOCOL => Some(ErrorKind::ProtocolUnreachable),
        CODE_DST_UNREACH_PORT => Some(ErrorKind::PortUnreachable),
        _ => None,
    }
}

/// RFC 4443 §3.1.
const fn unreachable_v6(code: u8) -> Option<ErrorKind> {
    use icmpv6::{
        CODE_DST_UNREACH_ADDR, CODE_DST_UNREACH_BEYOND_SCOPE, CODE_DST_UNREACH_NO_ROUTE, CODE_DST_UNREACH_PORT,
        CODE_DST_UNREACH_PROHIBITED, CODE_DST_UNREACH_REJECT_ROUTE_TO_DEST, CODE_DST_UNREACH_SOURCE_ADDRESS_FAILED_POLICY,
    };
    match code {
        CODE_DST_UNREACH_NO_ROUTE => Some(ErrorKind::NetworkUnreachable),
        CODE_DST_UNREACH_ADDR | CODE_DST_UNREACH_BEYOND_SCOPE => Some(ErrorKind::HostUnreachable),
        CODE_DST_UNREACH_PORT => Some(ErrorKind::PortUnreachable),
        CODE_DST_UNREACH_PROHIBITED | CODE_DST_UNREACH_SOURCE_ADDRESS_FAILED_POLICY | CODE_DST_UNREACH_REJECT_ROUTE_TO_DEST => {
            Some(ErrorKind::Prohibited)
        }
        _ => None,
    }
}

/// The connection, sequence number and length of a packet that is quoted.
type Quotation = (Tuple, SeqNum, u16);

fn report<'a>(header: &IpHeader, kind: ErrorKind, (quoted, seq, packet_len): Quotation) -> Result<Message<'a>, IcmpError> {
    if quoted.local != header.destination {
        return Err(IcmpError::BadQuotation);
    }
    Ok(Message::Error(ErrorReport { kind, quoted, seq, packet_len }))
}

/// What is told by a quoted IPv4 packet, which is cut after 8 bytes of TCP or later.
fn quotation_v4(quotation: &[u8]) -> Option<Quotation> {
    let header = Ipv4HeaderSlice::from_slice(quotation).ok()?;
    if header.protocol().0 != protocol::TCP || header.fragments_offset().value() != 0 {
        return None;
    }
    let source = Address::new(IpAddr::V4(header.source_addr()));
    let destination = Address::new(IpAddr::V4(header.destination_addr()));
    let (tuple, seq) = quoted_segment(source, destination, &quotation[header.slice().len()..])?;
    Some((tuple, seq, header.total_len()))
}

/// The same of a quoted IPv6 packet. This host sends no extension headers, so that a quotation with one is none of its packets.
fn quotation_v6(quotation: &[u8]) -> Option<Quotation> {
    let header = Ipv6HeaderSlice::from_slice(quotation).ok()?;
    let source = Address::new(IpAddr::V6(header.source_addr()));
    let destination = Address::new(IpAddr::V6(header.destination_addr()));
    if header.next_header().0 != protocol::TCP || source.is_v4() || destination.is_v4() {
        return None;
    }
    let (tuple, seq) = quoted_segment(source, destination, &quotation[header.slice().len()..])?;
    Some((tuple, seq, header.payload_length().saturating_add(IPV6_HEADER_LEN)))
}

fn quoted_segment(source: Address, destination: Address, segment: &[u8]) -> Option<(Tuple, SeqNum)> {
    let [s0, s1, d0, d1, seq @ ..] = *segment.first_chunk::<8>()?;
    let tuple =
        Tuple { local: source, remote: destination, local_port: u16::from_be_bytes([s0, s1]), remote_port: u16::from_be_bytes([d0, d1]) };
    Some((tuple, SeqNum(u32::from_be_bytes(seq))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Address {
        Address::new(text.parse().expect("a literal"))
    }

    fn header(v4: bool) -> IpHeader {
        let (source, destination, protocol) =
            if v4 { ("10.9.0.254", "10.9.0.2", protocol::ICMP) } else { ("fd09::fe", "fd09::2", protocol::ICMPV6) };
        IpHeader { source: host(source), destination: host(destination), protocol, hop_limit: 255, traffic_class: 0 }
    }

    /// Writes the checksum of a message to `header.destination`.
    fn sealed(header: &IpHeader, mut message: Vec<u8>) -> Vec<u8> {
        message[2..4].fill(0);
        let mut sum = Sum::of(&message);
        if !header.source.is_v4() {
            let len = u32::try_from(message.len()).expect("short");
            sum = sum + Sum::pseudo_header(header.source, header.destination, header.protocol, len);
        }
        message[2..4].copy_from_slice(&sum.complete());
        message
    }

    /// An error that quotes a segment from `source`, port 4000, to port 80 with sequence number 7.
    fn error(v4: bool, kind: u8, code: u8, source: &str) -> Vec<u8> {
        let header = header(v4);
        let quoted = IpHeader { source: host(source), destination: header.source, protocol: protocol::TCP, hop_limit: 1, traffic_class: 0 };
        let mut ip = [0; 40];
        let len = if v4 {
            crate::proto::wire::ipv4::emit(&quoted, 20, ip.first_chunk_mut().expect("20 of 40"))
        } else {
            crate::proto::wire::ipv6::emit(&quoted, 0, 20, &mut ip)
        };
        let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0];
        message.extend_from_slice(&ip[..len]);
        message.extend_from_slice(&[0x0f, 0xa0, 0, 80, 0, 0, 0, 7]);
        sealed(&header, message)
    }

    fn kind(v4: bool, kind: u8, code: u8) -> Option<ErrorKind> {
        let ours = if v4 { "10.9.0.2" } else { "fd09::2" };
        match Message::parse(&header(v4), &error(v4, kind, code, ours)) {
            Ok(Message::Error(report)) => {
                assert_eq!((report.quoted.local_addr().port(), report.quoted.remote_port, report.seq), (4000, 80, SeqNum(7)));
                assert_eq!((report.quoted.local, report.quoted.remote), (header(v4).destination, header(v4).source));
                Some(report.kind)
            }
            Ok(Message::Other) => None,
            outcome => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn errors_of_ipv4() {
        assert_eq!(kind(true, 3, 0), Some(ErrorKind::NetworkUnreachable));
        assert_eq!(kind(true, 3, 1), Some(ErrorKind::HostUnreachable));
        assert_eq!(kind(true, 3, 2), Some(ErrorKind::ProtocolUnreachable));
        assert_eq!(kind(true, 3, 3), Some(ErrorKind::PortUnreachable));
        assert_eq!(kind(true, 3, 4), Some(ErrorKind::PacketTooBig { mtu: Some(1280) }));
        assert_eq!(kind(true, 3, 9), Some(ErrorKind::NetworkUnreachable));
        assert_eq!(kind(true, 3, 13), Some(ErrorKind::HostUnreachable));
        assert_eq!(kind(true, 3, 5), None);
        assert_eq!(kind(true, 4, 0), None, "source quench");
        assert_eq!(kind(true, 5, 1), None, "redirect");
        assert_eq!(kind(true, 11, 0), Some(ErrorKind::TimeExceeded));
        assert_eq!(kind(true, 12, 0), Some(ErrorKind::ParameterProblem));
    }

    #[test]
    fn errors_of_ipv6() {
        assert_eq!(kind(false, 1, 0), Some(ErrorKind::NetworkUnreachable));
        assert_eq!(kind(false, 1, 1), Some(ErrorKind::Prohibited));
        assert_eq!(kind(false, 1, 3), Some(ErrorKind::HostUnreachable));
        assert_eq!(kind(false, 1, 4), Some(ErrorKind::PortUnreachable));
        assert_eq!(kind(false, 1, 6), Some(ErrorKind::Prohibited));
        assert_eq!(kind(false, 1, 7), None);
        assert_eq!(kind(false, 2, 0), Some(ErrorKind::PacketTooBig { mtu: Some(1280) }));
        assert_eq!(kind(false, 3, 0), Some(ErrorKind::TimeExceeded));
        assert_eq!(kind(false, 137, 0), None, "redirect");
    }

    #[test]
    fn a_foreign_quotation_is_refused() {
        assert_eq!(Message::parse(&header(true), &error(true, 3, 3, "10.9.0.3")), Err(IcmpError::BadQuotation));
        assert_eq!(Message::parse(&header(false), &error(false, 1, 4, "fd09::3")), Err(IcmpError::BadQuotation));
        let planted = |v4: bool, at: usize, byte: u8| {
            let mut message = error(v4, if v4 { 3 } else { 1 }, 3, if v4 { "10.9.0.2" } else { "fd09::2" });
            message[at] = byte;
            Message::parse(&header(v4), &sealed(&header(v4), message)).err()
        };
        assert_eq!(planted(true, 8 + 9, 17), Some(IcmpError::BadQuotation), "UDP");
        assert_eq!(planted(true, 8 + 7, 1), Some(IcmpError::BadQuotation), "not the first fragment");
        assert_eq!(planted(false, 8 + 6, 0), Some(IcmpError::BadQuotation), "an extension header");
    }

    #[test]
    fn a_short_quotation_is_refused() {
        let whole = error(true, 3, 3, "10.9.0.2");
        for len in 8..whole.len() {
            assert_eq!(Message::parse(&header(true), &sealed(&header(true), whole[..len].to_vec())), Err(IcmpError::BadQuotation));
        }
    }

    #[test]
    fn a_ping_is_answered_with_its_own_values() {
        for v4 in [true, false] {
            let header = header(v4);
            let request = sealed(&header, [&[if v4 { 8 } else { 128 }, 0, 0, 0, 1, 2, 3, 4], &b"payload"[..]].concat());
            let Ok(Message::EchoRequest(echo)) = Message::parse(&header, &request) else { panic!("no echo") };
            let reply = [&echo.reply_header(&header.answer(255))[..], echo.payload].concat();
            assert_eq!((reply[0], &reply[4..]), (if v4 { 0 } else { 129 }, &request[4..]));
            assert_eq!(Message::parse(&header.answer(255), &reply), Ok(Message::Other));
            let mut damaged = reply;
            damaged[9] ^= 1;
            assert_eq!(Message::parse(&header.answer(255), &damaged), Err(IcmpError::BadChecksum));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(mut message in proptest::collection::vec(proptest::num::u8::ANY, 8..140), kind in 0usize..8, v4: bool) {
            message[0] = [message[0], 1, 2, 3, 11, 128, 135, 136][kind];
            let header = header(v4);
            let message = sealed(&header, message);
            let outcome = Message::parse(&header, &message);
            proptest::prop_assert!(outcome != Err(IcmpError::BadChecksum) && outcome != Err(IcmpError::Truncated) || v4 && matches!(message[0], 13 | 14));
        }
    }
}
