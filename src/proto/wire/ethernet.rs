//! The Ethernet II header (RFC 894, RFC 2464): who sent a frame, for whom, and what is inside.
//!
//! It owns the 14 bytes and nothing behind them. Tagged frames (IEEE 802.1Q) are refused by name: the link is to strip tags.

use etherparse::{EtherType as Number, Ethernet2HeaderSlice};

use crate::proto::link::MacAddress;

/// The length of the header in bytes.
pub const HEADER_LEN: usize = 14;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtherType {
    /// An ARP packet.
    Arp,
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet.
    Ipv6,
}

impl EtherType {
    const fn number(self) -> Number {
        match self {
            Self::Arp => Number::ARP,
            Self::Ipv4 => Number::IPV4,
            Self::Ipv6 => Number::IPV6,
        }
    }
}

/// The header as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's address.
    pub source: MacAddress,
    /// The receiver's address.
    pub destination: MacAddress,
    /// What follows the header.
    pub ethertype: EtherType,
}

/// Why bytes are no frame for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EthernetError {
    /// Fewer than 14 bytes.
    #[error("fewer than 14 bytes are no Ethernet header")]
    Truncated,
    /// A type other than ARP, IPv4 and IPv6, or a length (IEEE 802.3).
    #[error("the frame carries neither ARP nor IP")]
    UnknownType,
    /// A VLAN tag.
    #[error("the frame has a VLAN tag")]
    Vlan,
}

impl Header {
    /// Parses the header of a frame. What follows it begins at [`HEADER_LEN`].
    ///
    /// # Errors
    /// [`EthernetError`] names why the frame is none of ours.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, EthernetError> {
        let header = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| EthernetError::Truncated)?;
        let ethertype = match header.ether_type() {
            Number::IPV4 => EtherType::Ipv4,
            Number::IPV6 => EtherType::Ipv6,
            Number::ARP => EtherType::Arp,
            Number::VLAN_TAGGED_FRAME | Number::PROVIDER_BRIDGING | Number::VLAN_DOUBLE_TAGGED_FRAME => return Err(EthernetError::Vlan),
            _ => return Err(EthernetError::UnknownType),
        };
        Ok(Self { source: MacAddress(header.source()), destination: MacAddress(header.destination()), ethertype })
    }

    /// The header as it stands on the wire.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..6].copy_from_slice(&self.destination.0);
        out[6..12].copy_from_slice(&self.source.0);
        out[12..14].copy_from_slice(&self.ethertype.number().0.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_named() {
        let mut frame = Header { source: MacAddress([2; 6]), destination: MacAddress::BROADCAST, ethertype: EtherType::Arp }.emit();
        for tag in [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]] {
            frame[12..].copy_from_slice(&tag);
            assert_eq!(Header::parse(&frame), Err(EthernetError::Vlan));
        }
        frame[12..].copy_from_slice(&[0x05, 0xdc]);
        assert_eq!(Header::parse(&frame), Err(EthernetError::UnknownType));
        assert_eq!(Header::parse(&frame[..13]), Err(EthernetError::Truncated));
    }

    proptest::proptest! {
        #[test]
        fn parse_inverts_emit(source: [u8; 6], destination: [u8; 6], choice in 0usize..3) {
            let ethertype = [EtherType::Arp, EtherType::Ipv4, EtherType::Ipv6][choice];
            let header = Header { source: MacAddress(source), destination: MacAddress(destination), ethertype };
            proptest::prop_assert_eq!(Header::parse(&header.emit()), Ok(header));
        }

        #[test]
        fn accepted_bytes_come_back(frame in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            if let Ok(header) = Header::parse(&frame) {
                proptest::prop_assert_eq!(&header.emit()[..], &frame[..HEADER_LEN]);
            }
        }
    }
}
