//! IP in either family: one way in, one way out.
//!
//! The common form is [`IpHeader`]; the families differ in [`ipv4`] and [`ipv6`] and nowhere above them.

use std::ops::Range;

pub use super::ip_header::{IpError, IpHeader, is_link_local, is_loopback, is_multicast, is_unicast_source, protocol};
use super::{ipv4, ipv6};

/// The length of the longest header that is written, in bytes.
pub const HEADER_LEN_MAX: usize = ipv6::HEADER_LEN;

impl IpHeader {
    /// Parses a packet of either family: its header, and where the payload lies without link padding.
    ///
    /// # Errors
    /// [`IpError`] names why the packet is dropped.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<(Self, Range<usize>), IpError> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => ipv4::parse(packet),
            Some(6) => ipv6::parse(packet),
            Some(_) => Err(IpError::BadVersion),
            None => Err(IpError::Truncated),
        }
    }

    /// Writes the header of a packet with `payload_len` bytes behind it and returns its length: 20, or 40 for IPv6, where the lower 20 bits
    /// of `flow_label` count.
    ///
    /// # Panics
    /// When the packet exceeds 65,535 bytes or mixes the families: who builds packets keeps to both.
    pub fn emit(&self, flow_label: u32, payload_len: usize, out: &mut [u8; HEADER_LEN_MAX]) -> usize {
        if self.source.is_v4() {
            let out = out.first_chunk_mut().expect("20 bytes of 40");
            ipv4::emit(self, payload_len, out)
        } else {
            ipv6::emit(self, flow_label, payload_len, out)
        }
    }

    /// The header of an answer: addresses exchanged, with this protocol and hop limit.
    #[must_use]
    pub const fn answer(&self, hop_limit: u8) -> Self {
        Self { source: self.destination, destination: self.source, protocol: self.protocol, hop_limit, traffic_class: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::Address;

    #[test]
    fn either_family_comes_back() {
        for (source, destination, len) in [("10.9.0.1", "10.9.0.2", 20), ("fd09::1", "fd09::2", 40)] {
            let host = |text: &str| Address::new(text.parse().expect("a literal"));
            let header = IpHeader { source: host(source), destination: host(destination), protocol: 6, hop_limit: 64, traffic_class: 2 };
            let mut out = [0; HEADER_LEN_MAX];
            assert_eq!(header.emit(0xabcde, 0, &mut out), len);
            assert_eq!(IpHeader::parse(&out[..len]), Ok((header, len..len)));
        }
        assert_eq!(IpHeader::parse(&[]), Err(IpError::Truncated));
        assert_eq!(IpHeader::parse(&[0x50; 60]), Err(IpError::BadVersion));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(mut packet in proptest::collection::vec(proptest::num::u8::ANY, 0..120), version in 0u8..3) {
            if let Some(first) = packet.first_mut() {
                *first = [*first, 0x45, 0x60][usize::from(version)];
            }
            if let Ok((header, payload)) = IpHeader::parse(&packet) {
                proptest::prop_assert!(payload.start <= payload.end && payload.end <= packet.len());
                proptest::prop_assert_eq!(header.source.is_v4(), header.destination.is_v4());
            }
        }
    }
}
