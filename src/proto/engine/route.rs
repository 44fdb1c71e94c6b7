//! Own addresses and the way to everybody else's: prefixes on the link, one gateway per family.
//!
//! This is all the routing a host with one link needs (RFC 1122 §3.3.1, RFC 4861 §5.2): a destination is this host, on the link, behind the
//! gateway, or out of reach. The source address follows from the way (RFC 6724 §5, rules 1, 2 and 8). It finds no Ethernet addresses.

use std::net::IpAddr;
use std::str::FromStr;

use crate::proto::wire::Address;
use crate::proto::wire::ip::{is_link_local, is_loopback, is_multicast, is_unicast_source};

/// How many addresses a host may have. Every packet is held against all of them.
pub(crate) const ADDRESSES_MAX: usize = 64;

/// An address of this host and the length of the prefix that it shares with its link: `10.9.0.2/24`.
///
/// ```
/// use synfin::proto::Cidr;
///
/// let cidr: Cidr = "10.9.0.2/24".parse()?;
/// assert!(cidr.contains("10.9.0.77".parse().unwrap()));
/// assert_eq!("10.9.0.2".parse::<Cidr>().unwrap_err().to_string(), "`10.9.0.2` lacks a prefix length, as in `10.9.0.2/24`");
/// # Ok::<(), synfin::proto::CidrError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    host: Address,
    /// Counted in the 128 bits of [`Address`]: at least 96 for IPv4.
    bits: u8,
}

/// Why something is no address with a prefix length that a host can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CidrError {
    /// The part before the slash is no IP address.
    #[error("`{0}` is no IPv4 or IPv6 address")]
    BadAddress(String),
    /// The part behind the slash is no number.
    #[error("`{0}` is no prefix length")]
    BadPrefix(String),
    /// There is no slash.
    #[error("`{0}` lacks a prefix length, as in `{0}/{example}`", example = example_prefix(.0))]
    NoPrefix(String),
    /// The address stands for a whole network, or for all hosts of it.
    #[error("{0} stands for a network or all its hosts, not for one host")]
    NotAHost(IpAddr),
    /// The prefix is longer than the address.
    #[error("a prefix length of {prefix} exceeds the {max} bits of {address}")]
    PrefixTooLong {
        /// The address.
        address: IpAddr,
        /// The prefix length that was given.
        prefix: u8,
        /// The longest there is.
        max: u8,
    },
}

impl Cidr {
    /// From an address and a prefix length in bits: at most 32, or 128 for IPv6.
    ///
    /// # Errors
    /// [`CidrError`] if the prefix is too long, or the address can't be a host's.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let host = Address::new(address);
        let max = if host.is_v4() { 32 } else { 128 };
        if prefix > max {
            return Err(CidrError::PrefixTooLong { address, prefix, max });
        }
        let cidr = Self { host, bits: 128 - max + prefix };
        if !is_unicast_source(host) || cidr.is_everybody(host) {
            return Err(CidrError::NotAHost(address));
        }
        Ok(cidr)
    }

    /// The address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.host.ip()
    }

    /// The prefix length in bits: at most 32 for IPv4, 128 for IPv6.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        if self.host.is_v4() { self.bits - 96 } else { self.bits }
    }

    /// True if `ip` shares the prefix.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.covers(Address::new(ip))
    }

    fn covers(&self, other: Address) -> bool {
        // The prefix of IPv6's `::/0` would cover IPv4 as well.
        self.host.is_v4() == other.is_v4() && (number(self.host) ^ number(other)) & self.mask() == 0
    }

    /// True for the addresses of the prefix that stand for all its hosts: IPv4's broadcast and network address, where there are more than two.
    fn is_everybody(&self, other: Address) -> bool {
        let rest = number(other) & !self.mask();
        self.host.is_v4() && self.bits < 127 && self.covers(other) && (rest == 0 || rest == !self.mask())
    }

    const fn mask(&self) -> u128 {
        match self.bits {
            0 => 0,
            bits => u128::MAX << (128 - bits as u32),
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let ip: IpAddr = address.parse().map_err(|_| CidrError::BadAddress(address.to_owned()))?;
        let prefix = prefix.ok_or_else(|| CidrError::NoPrefix(text.to_owned()))?;
        Self::new(ip, prefix.parse().map_err(|_| CidrError::BadPrefix(prefix.to_owned()))?)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.host, self.prefix())
    }
}

impl std::fmt::Debug for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextHop {
    /// To the gateway, whose address this is.
    Gateway(Address),
    /// It stays in this host: an own address, 127.0.0.0/8, `::1`, or the unspecified address, which means the same to `connect`.
    Loopback,
    /// To the destination itself, which is on the link.
    OnLink(Address),
    /// Nowhere: no prefix, no gateway, or no single host.
    Unreachable,
}

/// What became of an address that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Addition {
    /// It is new.
    New,
    /// It was there; its prefix length is the new one.
    Changed,
    /// There are [`ADDRESSES_MAX`] already.
    Full,
}

/// Addresses and gateways of this host.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    addresses: Vec<Cidr>,
    gateway_v4: Option<Address>,
    gateway_v6: Option<Address>,
}

impl Routes {
    pub(crate) fn add(&mut self, cidr: Cidr) -> Addition {
        if let Some(known) = self.addresses.iter_mut().find(|known| known.host == cidr.host) {
            *known = cidr;
            return Addition::Changed;
        }
        if self.addresses.len() == ADDRESSES_MAX {
            return Addition::Full;
        }
        self.addresses.push(cidr);
        Addition::New
    }

    pub(crate) fn remove(&mut self, address: Address) {
        self.addresses.retain(|cidr| cidr.host != address);
    }

    /// In the order in which they came.
    pub(crate) fn addresses(&self) -> &[Cidr] {
        &self.addresses
    }

    /// Replaces the gateway of the address's family. It is taken to be on the link, whatever the prefixes say.
    pub(crate) fn set_gateway(&mut self, gateway: Address) {
        *(if gateway.is_v4() { &mut self.gateway_v4 } else { &mut self.gateway_v6 }) = Some(gateway);
    }

    pub(crate) fn gateway(&self, to: Address) -> Option<Address> {
        if to.is_v4() { self.gateway_v4 } else { self.gateway_v6 }
    }

    /// True for this host's own addresses, the loopback's included.
    pub(crate) fn is_local(&self, address: Address) -> bool {
        self.is_own(address) || is_loopback(address)
    }

    /// True for the addresses that a packet from the link may be for: those that were [added](Self::add), but the loopback's never.
    pub(crate) fn is_own(&self, address: Address) -> bool {
        self.addresses.iter().any(|cidr| cidr.host == address) && !is_loopback(address)
    }

    /// True for addresses that stand for all hosts of the link: 255.255.255.255, and of each IPv4 prefix the first and the last.
    pub(crate) fn is_broadcast(&self, address: Address) -> bool {
        address.as_v4().is_some_and(|v4| v4.is_broadcast()) || self.addresses.iter().any(|cidr| cidr.is_everybody(address))
    }

    pub(crate) fn next_hop(&self, destination: Address) -> NextHop {
        if self.is_local(destination) || destination.is_unspecified() {
            return NextHop::Loopback;
        }
        if !is_unicast_source(destination) || is_multicast(destination) || self.is_broadcast(destination) {
            return NextHop::Unreachable;
        }
        if self.addresses.iter().any(|cidr| cidr.covers(destination)) {
            return NextHop::OnLink(destination);
        }
        match self.gateway(destination) {
            Some(gateway) if gateway == destination => NextHop::OnLink(destination),
            // A host without an address of the family could not be answered; link-local destinations are behind no router (RFC 4291 §2.5.6).
            Some(gateway) if !is_link_local(destination) && self.source_for(destination).is_some() => NextHop::Gateway(gateway),
            _ => NextHop::Unreachable,
        }
    }

    /// The address that a packet to `destination` comes from; `None` without one of its family.
    pub(crate) fn source_for(&self, destination: Address) -> Option<Address> {
        if destination.is_unspecified() || is_loopback(destination) {
            return Some(loopback(destination));
        }
        if self.is_own(destination) {
            return Some(destination);
        }
        // The way decides: the link's prefix, or the gateway's.
        let way = self.gateway(destination).filter(|_| !self.addresses.iter().any(|cidr| cidr.covers(destination))).unwrap_or(destination);
        let rank = |cidr: &Cidr| {
            let same_scope = is_link_local(cidr.host) == is_link_local(destination);
            let common_bits = (number(cidr.host) ^ number(destination)).leading_zeros();
            (same_scope, cidr.covers(way), common_bits)
        };
        let family = self.addresses.iter().filter(|cidr| cidr.host.is_v4() == destination.is_v4());
        // `rev`: of equals the first to be added wins, and `max_by_key` takes the last.
        family.rev().max_by_key(|cidr| rank(cidr)).map(|cidr| cidr.host)
    }
}

/// The loopback address of the family.
pub(crate) fn loopback(family_of: Address) -> Address {
    if family_of.is_v4() { Address::new([127, 0, 0, 1].into()) } else { Address::new(std::net::Ipv6Addr::LOCALHOST.into()) }
}

const fn number(address: Address) -> u128 {
    u128::from_be_bytes(address.octets())
}

const fn example_prefix(address: &str) -> &'static str {
    let mut at = 0;
    while at < address.len() {
        if address.as_bytes()[at] == b':' {
            return "64";
        }
        at += 1;
    }
    "24"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Address {
        Address::new(text.parse().expect("a literal"))
    }

    fn routes(cidrs: &[&str]) -> Routes {
        let mut routes = Routes::default();
        for cidr in cidrs {
            assert_eq!(routes.add(cidr.parse().expect("a literal")), Addition::New);
        }
        routes
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let error = |text: &str| text.parse::<Cidr>().expect_err("a mistake").to_string();
        assert_eq!(error("10.9.0.2"), "`10.9.0.2` lacks a prefix length, as in `10.9.0.2/24`");
        assert_eq!(error("fd09::2"), "`fd09::2` lacks a prefix length, as in `fd09::2/64`");
        assert_eq!(error("10.9.0/24"), "`10.9.0` is no IPv4 or IPv6 address");
        assert_eq!(error("10.9.0.2/x"), "`x` is no prefix length");
        assert_eq!(error("10.9.0.2/33"), "a prefix length of 33 exceeds the 32 bits of 10.9.0.2");
        assert_eq!(error("fd09::2/129"), "a prefix length of 129 exceeds the 128 bits of fd09::2");
        for text in ["10.9.0.0/24", "10.9.0.255/24", "224.0.0.1/4", "0.0.0.0/0", "ff02::1/64", "::/0", "255.255.255.255/32"] {
            assert!(error(text).contains("not for one host"), "{text}");
        }
    }

    #[test]
    fn a_point_to_point_prefix_has_no_broadcast() {
        for text in ["10.9.0.0/31", "10.9.0.1/31", "10.9.0.255/32", "fd09::/127", "fd09::/64"] {
            let cidr: Cidr = text.parse().expect(text);
            assert_eq!(cidr.to_string(), text);
            assert!(!routes(&[text]).is_broadcast(Address::new(cidr.address())));
        }
    }

    #[test]
    fn every_destination_has_a_way_or_none() {
        let mut routes = routes(&["10.9.0.2/24", "fd09::2/64", "fe80::2/64"]);
        assert_eq!(routes.next_hop(host("8.8.8.8")), NextHop::Unreachable);
        routes.set_gateway(host("10.9.0.1"));
        for own in ["10.9.0.2", "127.0.0.1", "127.1.2.3", "::1", "fd09::2", "0.0.0.0", "::"] {
            assert_eq!(routes.next_hop(host(own)), NextHop::Loopback, "{own}");
        }
        for neighbor in ["10.9.0.1", "10.9.0.254", "fd09::ffff", "fe80::1"] {
            assert_eq!(routes.next_hop(host(neighbor)), NextHop::OnLink(host(neighbor)), "{neighbor}");
        }
        for nowhere in
            ["10.9.0.255", "10.9.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "0.1.2.3", "ff02::1", "2001:db8::1", "169.254.1.1"]
        {
            assert_eq!(routes.next_hop(host(nowhere)), NextHop::Unreachable, "{nowhere}");
        }
        assert_eq!(routes.next_hop(host("10.9.1.1")), NextHop::Gateway(host("10.9.0.1")));
        routes.set_gateway(host("fe80::1"));
        assert_eq!(routes.next_hop(host("2001:db8::1")), NextHop::Gateway(host("fe80::1")));
        routes.remove(host("10.9.0.2"));
        assert_eq!(routes.next_hop(host("10.9.1.1")), NextHop::Unreachable, "no address of the family is left");
    }

    #[test]
    fn the_source_follows_the_way() {
        let mut routes = routes(&["fe80::2/64", "10.8.0.2/24", "10.9.0.2/24", "10.9.0.3/24", "fd09::2/64", "2001:db8::2/64"]);
        routes.set_gateway(host("10.9.0.1"));
        routes.set_gateway(host("fe80::1"));
        let source = |destination: &str| routes.source_for(host(destination));
        assert_eq!(source("10.9.0.77"), Some(host("10.9.0.2")));
        assert_eq!(source("10.8.0.77"), Some(host("10.8.0.2")));
        assert_eq!(source("8.8.8.8"), Some(host("10.9.0.2")));
        assert_eq!(source("10.8.0.2"), Some(host("10.8.0.2")));
        assert_eq!(source("127.0.0.9"), Some(host("127.0.0.1")));
        assert_eq!(source("0.0.0.0"), Some(host("127.0.0.1")));
        assert_eq!(source("::1"), Some(host("::1")));
        assert_eq!(source("fe80::9"), Some(host("fe80::2")));
        assert_eq!(source("2001:db8:1::1"), Some(host("2001:db8::2")));
        assert_eq!(source("fd09::9"), Some(host("fd09::2")));
        assert_eq!(Routes::default().source_for(host("8.8.8.8")), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut routes = Routes::default();
        let mut last = Addition::New;
        for host in 1..=u8::try_from(ADDRESSES_MAX + 1).expect("65") {
            last = routes.add(Cidr::new([10, 0, 0, host].into(), 24).expect("a host"));
        }
        assert_eq!((last, routes.addresses().len()), (Addition::Full, ADDRESSES_MAX));
        assert_eq!(routes.add("10.0.0.1/16".parse().expect("a literal")), Addition::Changed);
        assert_eq!(routes.addresses()[0].prefix(), 16);
    }

    #[test]
    fn the_longest_and_the_shortest_prefix() {
        let any: Cidr = "10.9.0.2/0".parse().expect("a literal");
        assert!(any.contains([1, 2, 3, 4].into()) && !any.contains("fd09::1".parse().expect("a literal")));
        let any: Cidr = "fd09::2/0".parse().expect("a literal");
        assert!(any.contains("2001::1".parse().expect("a literal")) && !any.contains([1, 2, 3, 4].into()));
        let one: Cidr = "fd09::2/128".parse().expect("a literal");
        assert!(one.contains(one.address()) && !one.contains("fd09::3".parse().expect("a literal")));
    }

    proptest::proptest! {
        #[test]
        fn parse_inverts_display(octets: [u8; 4], prefix in 0u8..=32) {
            if let Ok(cidr) = Cidr::new(octets.into(), prefix) {
                proptest::prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
                proptest::prop_assert_eq!((cidr.address(), cidr.prefix()), (octets.into(), prefix));
            }
        }

        #[test]
        fn a_local_destination_is_its_own_source(third: u8, fourth: u8) {
            let mut routes = routes(&["10.9.0.2/16", "10.8.0.2/30"]);
            routes.set_gateway(host("10.9.0.1"));
            let destination = Address::new([10, 9, third, fourth].into());
            match routes.next_hop(destination) {
                NextHop::OnLink(next) => proptest::prop_assert_eq!((next, routes.source_for(destination)), (destination, Some(host("10.9.0.2")))),
                NextHop::Loopback => proptest::prop_assert_eq!(routes.source_for(destination), Some(destination)),
                NextHop::Unreachable => proptest::prop_assert!(routes.is_broadcast(destination)),
                NextHop::Gateway(_) => proptest::prop_assert!(false, "on the link"),
            }
        }
    }
}
