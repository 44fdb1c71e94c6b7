//! IPv4 seen through an IPv6 socket: what listens on `[::]`, or connects to `::ffff:a.b.c.d`, shows IPv4 addresses in that form
//! (RFC 4291 §2.5.5.2), as Linux does.

use std::net::{IpAddr, SocketAddr};

/// How a socket shows its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// As they are on the wire.
    AsIs,
    /// As IPv6, mapped if need be.
    V6,
}

impl Family {
    /// That of a socket to which the application has given this address.
    pub(super) const fn of(address: SocketAddr) -> Self {
        if address.is_ipv6() { Self::V6 } else { Self::AsIs }
    }

    /// The address as the application shall see it.
    pub(super) const fn show(self, address: SocketAddr) -> SocketAddr {
        match (self, address.ip()) {
            (Self::V6, IpAddr::V4(ip)) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), address.port()),
            _ => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_mapped_for_ipv6_sockets_only() {
        let address: SocketAddr = "10.0.0.1:80".parse().expect("an address");
        assert_eq!(Family::of("[::]:80".parse().expect("an address")).show(address).to_string(), "[::ffff:10.0.0.1]:80");
        assert_eq!(Family::of(address).show(address), address);
    }
}
