//! Addresses and the 4-tuple that names a connection, in one compact form for both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP address in 16 bytes: IPv6, or IPv4 as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address([u8; 16]);

impl Address {
    /// The IPv6 unspecified address, which as a listener's address stands for every address of both families.
    pub const ANY: Self = Self([0; 16]);
    /// The IPv4 unspecified address.
    pub const ANY_V4: Self = Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);

    /// From an address of either family. An IPv4-mapped IPv6 address is the IPv4 address that it maps.
    #[must_use]
    pub const fn new(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => Self(ip.octets()),
        }
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        self.0
    }

    /// The IPv4 address, if it is one.
    #[must_use]
    pub const fn as_v4(self) -> Option<Ipv4Addr> {
        Ipv6Addr::from_octets(self.0).to_ipv4_mapped()
    }

    /// True for IPv4.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.as_v4().is_some()
    }

    /// As the standard library's type; IPv4 comes out as IPv4.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        match self.as_v4() {
            Some(ip) => IpAddr::V4(ip),
            None => IpAddr::V6(Ipv6Addr::from_octets(self.0)),
        }
    }

    /// True for `0.0.0.0` and `::`.
    #[must_use]
    pub fn is_unspecified(self) -> bool {
        self == Self::ANY || self == Self::ANY_V4
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self::new(ip)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ip().fmt(f)
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ip().fmt(f)
    }
}

/// What names a connection: both addresses and both ports, seen from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Our address.
    pub local: Address,
    /// The peer's address.
    pub remote: Address,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

impl Tuple {
    /// From two socket addresses of one family.
    #[must_use]
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local: local.ip().into(), remote: remote.ip().into(), local_port: local.port(), remote_port: remote.port() }
    }

    /// Our address and port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.local.ip(), self.local_port)
    }

    /// The peer's address and port.
    #[must_use]
    pub const fn remote_addr(&self) -> SocketAddr {
        SocketAddr::new(self.remote.ip(), self.remote_port)
    }

    /// The same connection, seen from the other side.
    #[must_use]
    pub const fn flipped(&self) -> Self {
        Self { local: self.remote, remote: self.local, local_port: self.remote_port, remote_port: self.local_port }
    }

    /// True for IPv4.
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.remote.is_v4()
    }

    /// The 36 bytes that a hash of this tuple covers.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 36] {
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&self.local.octets());
        bytes[16..32].copy_from_slice(&self.remote.octets());
        bytes[32..34].copy_from_slice(&self.local_port.to_be_bytes());
        bytes[34..].copy_from_slice(&self.remote_port.to_be_bytes());
        bytes
    }
}
