//! What IPv4 and IPv6 have in common: the header's values as the layers above see them, and why a packet is dropped.
//!
//! The bytes of either family are the business of [`ipv4`](super::ipv4) and [`ipv6`](super::ipv6); [`ip`](super::ip) chooses between them.

use super::tuple::Address;

/// The values of an IP header that the layers above use. Both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// The protocol of the payload, behind any extension headers: [`protocol`].
    pub protocol: u8,
    /// Hops that are left: IPv4's time to live.
    pub hop_limit: u8,
    /// Differentiated services and ECN: IPv4's type of service (RFC 2474, RFC 3168).
    pub traffic_class: u8,
}

/// Protocol numbers.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpError {
    /// The header checksum of IPv4 is wrong.
    #[error("the header checksum is wrong")]
    BadHeaderChecksum,
    /// The header length of IPv4 is below 20, or an option runs past its end.
    #[error("the header length lies")]
    BadHeaderLength,
    /// The packet's length is shorter than its header or longer than what came.
    #[error("the packet length lies")]
    BadTotalLength,
    /// Neither 4 nor 6.
    #[error("the IP version is neither 4 nor 6")]
    BadVersion,
    /// More than 8 IPv6 extension headers, more than 512 bytes of them, or one in the wrong place.
    #[error("the chain of extension headers is too long or out of order")]
    ExtensionChain,
    /// A piece of a packet: reassembly is off.
    #[error("a fragment")]
    Fragment,
    /// An IPv6 jumbogram (RFC 2675).
    #[error("a jumbogram")]
    Jumbo,
    /// An IPv4 address in IPv6 clothes (`::ffff:a.b.c.d`) on the wire, where it could pass for a packet of the other family.
    #[error("an IPv4-mapped address on the wire")]
    MappedAddress,
    /// A source route that has hops left (RFC 5095, RFC 7126 §4.3).
    #[error("a source route")]
    SourceRoute,
    /// Fewer bytes than the header has.
    #[error("fewer bytes than the header has")]
    Truncated,
    /// An IPv6 option which this host does not know and which asks to be dropped then (RFC 8200 §4.2).
    #[error("an unknown option that forbids being ignored")]
    UnknownOption,
}

/// True if a packet may come from `address`: it names one host. IPv4's loopback passes; whether it may come from a wire is the caller's knowledge.
#[must_use]
pub fn is_unicast_source(address: Address) -> bool {
    match address.as_v4() {
        // 0/8 is "this network" (RFC 1122 §3.2.1.3), 224/4 multicast, 240/4 reserved and broadcast.
        Some(v4) => !matches!(v4.octets()[0], 0 | 224..),
        None => address != Address::ANY && !is_multicast(address),
    }
}

/// True for group addresses: 224.0.0.0/4 and ff00::/8.
#[must_use]
pub fn is_multicast(address: Address) -> bool {
    match address.as_v4() {
        Some(v4) => v4.is_multicast(),
        None => address.octets()[0] == 0xff,
    }
}

/// True for 127.0.0.0/8 and ::1, which never leave a host.
#[must_use]
pub fn is_loopback(address: Address) -> bool {
    address.ip().is_loopback()
}

/// True for 169.254.0.0/16 and fe80::/10, which no router forwards.
#[must_use]
pub fn is_link_local(address: Address) -> bool {
    match address.as_v4() {
        Some(v4) => v4.is_link_local(),
        None => matches!(address.octets(), [0xfe, second, ..] if second & 0xc0 == 0x80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::new(text.parse().expect("a literal"))
    }

    #[test]
    fn martians_are_no_sources() {
        for text in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "ff02::1", "ff0e::1234"] {
            assert!(!is_unicast_source(address(text)), "{text}");
        }
        for text in ["1.0.0.0", "10.0.0.1", "127.0.0.1", "223.255.255.255", "::1", "fe80::1", "2001:db8::1"] {
            assert!(is_unicast_source(address(text)), "{text}");
        }
    }

    #[test]
    fn scopes() {
        assert!(is_loopback(address("127.9.9.9")) && is_loopback(address("::1")) && !is_loopback(address("128.0.0.1")));
        assert!(is_link_local(address("169.254.0.1")) && is_link_local(address("febf::1")));
        assert!(!is_link_local(address("169.253.0.1")) && !is_link_local(address("fec0::1")));
    }
}
