//! The IPv4 header (RFC 791, RFC 1122 §3.2, RFC 6864).
//!
//! Options are skipped, except that a source route drops the packet. Reassembly is off: a fragment is an error with a name. What goes out is
//! an atomic datagram: DF set, no options, identification zero.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use etherparse::Ipv4HeaderSlice;
use etherparse::err::ipv4::{HeaderError, HeaderSliceError};

use super::checksum::Sum;
use super::ip_header::{IpError, IpHeader};
use super::tuple::Address;

/// The length of a header without options, in bytes.
pub const HEADER_LEN: usize = 20;

/// Where the header checksum stands.
pub const CHECKSUM_OFFSET: usize = 10;

/// Parses a packet: its header, and where the payload lies without link padding.
///
/// # Errors
/// [`IpError`] names why the packet is dropped.
#[inline]
pub fn parse(packet: &[u8]) -> Result<(IpHeader, Range<usize>), IpError> {
    let header = Ipv4HeaderSlice::from_slice(packet).map_err(|error| match error {
        HeaderSliceError::Len(_) => IpError::Truncated,
        HeaderSliceError::Content(HeaderError::UnexpectedVersion { .. }) => IpError::BadVersion,
        HeaderSliceError::Content(HeaderError::HeaderLengthSmallerThanHeader { .. }) => IpError::BadHeaderLength,
    })?;
    let header_len = header.slice().len();
    let total_len = usize::from(header.total_len());
    if total_len < header_len || total_len > packet.len() {
        return Err(IpError::BadTotalLength);
    }
    let intact = match header.slice().as_chunks::<4>().0 {
        [a, b, c, d, e] => remainder([*a, *b, *c, *d, *e].map(u32::from_be_bytes)) == 0,
        _ => Sum::of(header.slice()).is_intact(),
    };
    if !intact {
        return Err(IpError::BadHeaderChecksum);
    }
    if header.is_fragmenting_payload() {
        return Err(IpError::Fragment);
    }
    if header_len > HEADER_LEN {
        check_options(header.options())?;
    }
    let header = IpHeader {
        source: address(header.source_addr()),
        destination: address(header.destination_addr()),
        protocol: header.protocol().0,
        hop_limit: header.ttl(),
        traffic_class: header.slice()[1],
    };
    Ok((header, header_len..total_len))
}

/// Writes the header of an atomic datagram with `payload_len` bytes behind it, checksum included, and returns its length.
///
/// # Panics
/// When header and payload exceed 65,535 bytes, or an address is IPv6: who builds packets keeps to both.
pub fn emit(header: &IpHeader, payload_len: usize, out: &mut [u8; HEADER_LEN]) -> usize {
    const DONT_FRAGMENT: u32 = 0x4000;
    let total_len = u16::try_from(HEADER_LEN + payload_len).expect("frames are at most 65,535 bytes");
    let source = header.source.as_v4().expect("an IPv4 packet has IPv4 addresses");
    let destination = header.destination.as_v4().expect("an IPv4 packet has IPv4 addresses");
    let mut words = [
        0x4500_0000 | (u32::from(header.traffic_class) << 16) | u32::from(total_len),
        DONT_FRAGMENT,
        (u32::from(header.hop_limit) << 24) | (u32::from(header.protocol) << 16),
        source.to_bits(),
        destination.to_bits(),
    ];
    words[2] |= (MODULUS - remainder(words)) % MODULUS;
    for (bytes, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_be_bytes();
    }
    HEADER_LEN
}

/// What one's complement sums of 16 bits are equal by.
const MODULUS: u32 = 0xffff;

/// The sum of a header without options: five words, where the general sum spends more on its set-up than on adding. A header is never all
/// zero, so that a remainder of zero means a sum of all ones: intact.
fn remainder(words: [u32; HEADER_LEN / 4]) -> u32 {
    let sum: u64 = words.into_iter().map(u64::from).sum();
    u32::try_from(sum % u64::from(MODULUS)).expect("a remainder modulo 65,535")
}

const fn address(ip: Ipv4Addr) -> Address {
    Address::new(IpAddr::V4(ip))
}

/// Walks the options for a source route and for lengths that lie (RFC 1122 §3.2.1.8).
fn check_options(mut options: &[u8]) -> Result<(), IpError> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            END => break,
            NO_OPERATION => options = rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(IpError::SourceRoute),
            _ => {
                let len = rest.first().copied().map_or(0, usize::from);
                options = options.get(len..).filter(|_| len >= 2).ok_or(IpError::BadHeaderLength)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: IpHeader = IpHeader {
        source: address(Ipv4Addr::new(10, 9, 0, 1)),
        destination: address(Ipv4Addr::new(10, 9, 0, 2)),
        protocol: 6,
        hop_limit: 64,
        traffic_class: 0,
    };

    fn packet(options: &[u8], payload_len: usize) -> Vec<u8> {
        let mut header = [0; HEADER_LEN];
        emit(&HEADER, options.len() + payload_len, &mut header);
        let mut packet = [&header[..], options].concat();
        packet[0] = 0x40 | u8::try_from(packet.len() / 4).expect("at most 15");
        packet.resize(HEADER_LEN + options.len() + payload_len, 0xaa);
        seal(packet, options.len())
    }

    fn seal(mut packet: Vec<u8>, options_len: usize) -> Vec<u8> {
        packet[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].fill(0);
        let checksum = Sum::of(&packet[..HEADER_LEN + options_len]).complete();
        packet[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&checksum);
        packet
    }

    fn planted(change: impl FnOnce(&mut Vec<u8>)) -> Result<(IpHeader, Range<usize>), IpError> {
        let mut packet = packet(&[], 40);
        change(&mut packet);
        parse(&seal(packet, 0))
    }

    /// RPMTU-1.
    #[test]
    fn every_packet_forbids_its_fragmentation() {
        let host = |last| address(Ipv4Addr::new(10, 9, 0, last));
        let header = IpHeader { source: host(1), destination: host(2), protocol: 6, hop_limit: 64, traffic_class: 0 };
        for payload_len in [0, 20, 1480, 65_515] {
            let mut out = [0; HEADER_LEN];
            emit(&header, payload_len, &mut out);
            assert_eq!(out[6..8], [0x40, 0], "DF, no offset, no more fragments");
        }
    }

    #[test]
    fn every_lie_has_a_name() {
        assert_eq!(planted(|_| ()), Ok((HEADER, 20..60)));
        assert_eq!(planted(|packet| packet[0] = 0x55), Err(IpError::BadVersion));
        assert_eq!(planted(|packet| packet[0] = 0x44), Err(IpError::BadHeaderLength));
        assert_eq!(planted(|packet| packet[0] = 0x4f), Err(IpError::BadHeaderChecksum));
        assert_eq!(planted(|packet| packet[3] = 61), Err(IpError::BadTotalLength));
        assert_eq!(planted(|packet| packet[3] = 19), Err(IpError::BadTotalLength));
        assert_eq!(planted(|packet| packet[6] = 0x20), Err(IpError::Fragment));
        assert_eq!(planted(|packet| packet[7] = 1), Err(IpError::Fragment));
        assert_eq!(parse(&packet(&[], 0)[..19]), Err(IpError::Truncated));
        let mut flipped = packet(&[], 8);
        flipped[8] ^= 1;
        assert_eq!(parse(&flipped), Err(IpError::BadHeaderChecksum));
    }

    /// MUST-50.
    #[test]
    fn options_are_skipped_but_a_source_route_is_not() {
        assert_eq!(parse(&packet(&[1, 1, 148, 4, 0, 0, 0, 0], 10)), Ok((HEADER, 28..38)));
        assert_eq!(parse(&packet(&[1, 131, 3, 4], 10)), Err(IpError::SourceRoute));
        assert_eq!(parse(&packet(&[137, 3, 4, 0], 10)), Err(IpError::SourceRoute));
        assert_eq!(parse(&packet(&[148, 1, 0, 0], 10)), Err(IpError::BadHeaderLength));
        assert_eq!(parse(&packet(&[1, 1, 1, 148], 10)), Err(IpError::BadHeaderLength));
        assert_eq!(parse(&packet(&[148, 9, 0, 0], 10)), Err(IpError::BadHeaderLength));
    }

    proptest::proptest! {
        #[test]
        fn the_short_sum_is_the_general_sum(source: u32, payload_len in 0usize..60_000) {
            let header = IpHeader { source: address(Ipv4Addr::from_bits(source)), ..HEADER };
            let mut out = [0; HEADER_LEN];
            emit(&header, payload_len, &mut out);
            let checksum = [out[CHECKSUM_OFFSET], out[CHECKSUM_OFFSET + 1]];
            out[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].fill(0);
            proptest::prop_assert_eq!(checksum, Sum::of(&out).complete());
        }

        #[test]
        fn parse_inverts_emit(source: u32, destination: u32, protocol: u8, hop_limit: u8, traffic_class: u8, payload_len in 0usize..1480, padding in 0usize..46) {
            let header = IpHeader {
                source: address(Ipv4Addr::from_bits(source)),
                destination: address(Ipv4Addr::from_bits(destination)),
                protocol,
                hop_limit,
                traffic_class,
            };
            let mut out = [0; HEADER_LEN];
            emit(&header, payload_len, &mut out);
            let mut packet = out.to_vec();
            packet.resize(HEADER_LEN + payload_len + padding, 0xee);
            proptest::prop_assert_eq!(parse(&packet), Ok((header, HEADER_LEN..HEADER_LEN + payload_len)));
        }

        #[test]
        fn any_options_parse_or_are_refused(words in 0usize..11, bytes: [u8; 40]) {
            let packet = packet(&bytes[..words.min(10) * 4], 20);
            if let Ok((_, payload)) = parse(&packet) {
                proptest::prop_assert_eq!(payload.len(), 20);
            }
        }
    }
}
