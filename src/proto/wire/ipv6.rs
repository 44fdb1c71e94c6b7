//! The IPv6 header and the way through its extension headers to the payload (RFC 8200 §3–4, RFC 5095, RFC 6437, RFC 6946).
//!
//! Extension headers are walked, bounded in number and bytes, and forgotten. A packet whose headers this host must not ignore is dropped
//! with a name; the parameter-problem message that RFC 8200 §4.2 allows is not sent, for it answers a forger as well as a peer.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use etherparse::err::ipv6::HeaderSliceError;
use etherparse::{Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, ip_number};

use super::ip_header::{IpError, IpHeader, protocol};
use super::tuple::Address;

/// The length of the fixed header in bytes.
pub const HEADER_LEN: usize = 40;

/// How many extension headers a packet may have: more than any honest sender uses (RFC 8504 §5.3 allows a host to say).
pub const EXTENSIONS_MAX: usize = 8;

/// How many bytes of extension headers a packet may have, for the same reason.
pub const EXTENSIONS_LEN_MAX: usize = 512;

const HOP_BY_HOP: u8 = ip_number::IPV6_HEADER_HOP_BY_HOP.0;
const ROUTING: u8 = ip_number::IPV6_ROUTE_HEADER.0;
const FRAGMENT: u8 = ip_number::IPV6_FRAGMENTATION_HEADER.0;
const DESTINATION_OPTIONS: u8 = ip_number::IPV6_DESTINATION_OPTIONS.0;

/// Parses a packet: its header, and where the payload lies without link padding.
///
/// # Errors
/// [`IpError`] names why the packet is dropped.
#[inline]
pub fn parse(packet: &[u8]) -> Result<(IpHeader, Range<usize>), IpError> {
    let header = Ipv6HeaderSlice::from_slice(packet).map_err(|error| match error {
        HeaderSliceError::Len(_) => IpError::Truncated,
        HeaderSliceError::Content(_) => IpError::BadVersion,
    })?;
    let end = HEADER_LEN + usize::from(header.payload_length());
    if end > packet.len() {
        return Err(IpError::BadTotalLength);
    }
    let mut next = header.next_header().0;
    let mut start = HEADER_LEN;
    // TCP and ICMP first: anything else may be an extension header.
    if !matches!(next, protocol::TCP | protocol::ICMPV6) {
        if next == HOP_BY_HOP && end == HEADER_LEN {
            return Err(IpError::Jumbo);
        }
        (next, start) = skip_extensions(&packet[..end], next)?;
    }
    let header = IpHeader {
        source: address(header.source_addr())?,
        destination: address(header.destination_addr())?,
        protocol: next,
        hop_limit: header.hop_limit(),
        traffic_class: header.traffic_class(),
    };
    Ok((header, start..end))
}

/// Writes the header of a packet with `payload_len` bytes behind it and returns its length. Of `flow_label` the lower 20 bits count
/// (RFC 6437: the same for every packet of a flow, not to be guessed).
///
/// # Panics
/// When the payload exceeds 65,535 bytes: who builds packets keeps to that.
pub fn emit(header: &IpHeader, flow_label: u32, payload_len: usize, out: &mut [u8; HEADER_LEN]) -> usize {
    let payload_len = u16::try_from(payload_len).expect("frames are at most 65,535 bytes");
    let first_word = (6 << 28) | (u32::from(header.traffic_class) << 20) | (flow_label & 0x000f_ffff);
    out[0..4].copy_from_slice(&first_word.to_be_bytes());
    out[4..6].copy_from_slice(&payload_len.to_be_bytes());
    out[6] = header.protocol;
    out[7] = header.hop_limit;
    out[8..24].copy_from_slice(&header.source.octets());
    out[24..40].copy_from_slice(&header.destination.octets());
    HEADER_LEN
}

const fn address(ip: Ipv6Addr) -> Result<Address, IpError> {
    match ip.to_ipv4_mapped() {
        Some(_) => Err(IpError::MappedAddress),
        None => Ok(Address::new(IpAddr::V6(ip))),
    }
}

/// The protocol behind the extension headers of `packet`, the first of which is a `next`, and where it begins.
#[cold]
fn skip_extensions(packet: &[u8], mut next: u8) -> Result<(u8, usize), IpError> {
    let mut at = HEADER_LEN;
    for index in 0..=EXTENSIONS_MAX {
        let rest = &packet[at..];
        let (following, len) = match next {
            HOP_BY_HOP if index > 0 => return Err(IpError::ExtensionChain),
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => {
                let extension = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| IpError::BadTotalLength)?;
                if next == ROUTING {
                    check_routing(extension.payload())?
                } else {
                    check_options(extension.payload())?
                }
                (extension.next_header().0, extension.slice().len())
            }
            FRAGMENT => {
                let extension = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| IpError::BadTotalLength)?;
                if extension.is_fragmenting_payload() {
                    return Err(IpError::Fragment);
                }
                (extension.next_header().0, extension.slice().len())
            }
            _ => return Ok((next, at)),
        };
        (next, at) = (following, at + len);
        if at > HEADER_LEN + EXTENSIONS_LEN_MAX {
            return Err(IpError::ExtensionChain);
        }
    }
    Err(IpError::ExtensionChain)
}

/// A routing header of any type is ignored at its last hop and only there (RFC 8200 §4.4).
fn check_routing(payload: &[u8]) -> Result<(), IpError> {
    match payload {
        [_, 0, ..] => Ok(()),
        _ => Err(IpError::SourceRoute),
    }
}

/// Walks options: an unknown one is ignored if its two highest bits are zero, else it drops the packet (RFC 8200 §4.2).
fn check_options(mut options: &[u8]) -> Result<(), IpError> {
    const PAD_1: u8 = 0;
    const JUMBO: u8 = 0xc2;
    while let Some((&kind, rest)) = options.split_first() {
        if kind == PAD_1 {
            options = rest;
            continue;
        }
        let len = rest.first().copied().map(usize::from).ok_or(IpError::BadTotalLength)?;
        options = rest.get(1 + len..).ok_or(IpError::BadTotalLength)?;
        match kind {
            JUMBO => return Err(IpError::Jumbo),
            _ if kind & 0xc0 != 0 => return Err(IpError::UnknownOption),
            _ => (),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(protocol: u8) -> IpHeader {
        let host = |text: &str| Address::new(text.parse().expect("a literal"));
        IpHeader { source: host("fd09::1"), destination: host("fd09::2"), protocol, hop_limit: 64, traffic_class: 0 }
    }

    /// A packet with these extension headers, the first named by `next`, and `payload_len` bytes.
    fn packet(next: u8, extensions: &[u8], payload_len: usize) -> Vec<u8> {
        let mut out = [0; HEADER_LEN];
        emit(&header(next), 0, extensions.len() + payload_len, &mut out);
        let mut packet = [&out[..], extensions].concat();
        packet.resize(packet.len() + payload_len, 0xaa);
        packet
    }

    /// R8504-4.
    #[test]
    fn extension_headers_are_skipped() {
        let chain = [
            [DESTINATION_OPTIONS, 0, 5, 2, 0, 0, 1, 0],
            [ROUTING, 0, 0x1e, 2, 0, 0, 1, 0],
            [FRAGMENT, 0, 0, 0, 0, 0, 0, 0],
            [protocol::TCP, 0, 0, 0, 1, 2, 3, 4],
        ];
        assert_eq!(parse(&packet(HOP_BY_HOP, chain.as_flattened(), 20)), Ok((header(protocol::TCP), 72..92)));
        assert_eq!(parse(&packet(59, &[], 5)), Ok((header(59), 40..45)));
    }

    /// R8504-4.
    #[test]
    fn every_lie_about_extensions_has_a_name() {
        let outcome = |next: u8, extensions: &[u8]| parse(&packet(next, extensions, 20)).map(|(_, payload)| payload.len());
        assert_eq!(outcome(ROUTING, &[6, 0, 0, 1, 0, 0, 0, 0]), Err(IpError::SourceRoute));
        assert_eq!(outcome(FRAGMENT, &[6, 0, 0, 1, 0, 0, 0, 0]), Err(IpError::Fragment));
        assert_eq!(outcome(FRAGMENT, &[6, 0, 0, 8, 0, 0, 0, 0]), Err(IpError::Fragment));
        assert_eq!(outcome(DESTINATION_OPTIONS, &[6, 0, 0x9e, 4, 0, 0, 0, 0]), Err(IpError::UnknownOption));
        assert_eq!(outcome(DESTINATION_OPTIONS, &[6, 0, 1, 9, 0, 0, 0, 0]), Err(IpError::BadTotalLength));
        assert_eq!(outcome(DESTINATION_OPTIONS, &[HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]), Err(IpError::ExtensionChain));
        assert_eq!(outcome(HOP_BY_HOP, &[6, 0, 0xc2, 4, 0, 1, 0, 0]), Err(IpError::Jumbo));
        assert_eq!(outcome(DESTINATION_OPTIONS, &[6, 200, 1, 4, 0, 0, 0, 0]), Err(IpError::BadTotalLength));
        assert_eq!(parse(&packet(HOP_BY_HOP, &[], 0)), Err(IpError::Jumbo));
        assert_eq!(parse(&packet(6, &[], 20)[..59]), Err(IpError::BadTotalLength));
        assert_eq!(parse(&packet(6, &[], 20)[..39]), Err(IpError::Truncated));
    }

    #[test]
    fn a_chain_is_bounded() {
        let link = [DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
        let last = [protocol::TCP, 0, 1, 4, 0, 0, 0, 0];
        let chain = |len: usize| [link.repeat(len - 1), last.to_vec()].concat();
        assert_eq!(parse(&packet(DESTINATION_OPTIONS, &chain(EXTENSIONS_MAX), 4)), Ok((header(protocol::TCP), 104..108)));
        assert_eq!(parse(&packet(DESTINATION_OPTIONS, &chain(EXTENSIONS_MAX + 1), 4)), Err(IpError::ExtensionChain));
        let mut long = vec![0; EXTENSIONS_LEN_MAX + 8];
        long[0] = protocol::TCP;
        long[1] = 64;
        assert_eq!(parse(&packet(DESTINATION_OPTIONS, &long, 4)), Err(IpError::ExtensionChain));
    }

    #[test]
    fn a_mapped_address_is_refused() {
        let mut packet = packet(6, &[], 20);
        packet[8..24].copy_from_slice(&Address::new(IpAddr::from([10, 0, 0, 1])).octets());
        assert_eq!(parse(&packet), Err(IpError::MappedAddress));
    }

    proptest::proptest! {
        #[test]
        fn parse_inverts_emit(mut source: [u8; 16], mut destination: [u8; 16], hop_limit: u8, traffic_class: u8, flow_label: u32, payload_len in 0usize..1440) {
            source[0] |= 1;
            destination[0] |= 1;
            let host = |octets: [u8; 16]| Address::new(IpAddr::from(octets));
            let header = IpHeader { source: host(source), destination: host(destination), protocol: 6, hop_limit, traffic_class };
            let mut out = [0; HEADER_LEN];
            emit(&header, flow_label, payload_len, &mut out);
            let mut packet = out.to_vec();
            packet.resize(HEADER_LEN + payload_len + 6, 0xee);
            proptest::prop_assert_eq!(parse(&packet), Ok((header, HEADER_LEN..HEADER_LEN + payload_len)));
        }

        #[test]
        fn any_chain_parses_or_is_refused(first in 0usize..4, extensions in proptest::collection::vec(0u8..64, 0..700)) {
            let first = [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS][first];
            let packet = packet(first, &extensions, 20);
            if let Ok((_, payload)) = parse(&packet) {
                proptest::prop_assert!(payload.start <= payload.end && payload.end == packet.len());
                proptest::prop_assert!(payload.start <= HEADER_LEN + EXTENSIONS_LEN_MAX);
            }
        }
    }
}
