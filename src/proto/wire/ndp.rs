//! Neighbour discovery for IPv6 (RFC 4861 §4.3, §4.4, §7.1): solicitations and advertisements, both ways.
//!
//! A message that is parsed here has passed the validity rules of RFC 4861 §7.1, the hop limit of 255 first: no router has touched it.
//! What an advertisement is worth is the neighbour cache's business. Router discovery and redirects are not spoken.

use etherparse::icmpv6::{
    NdpOptionSlice, NdpOptionsIterator, NeighborAdvertisementHeader, TYPE_NEIGHBOR_ADVERTISEMENT, TYPE_NEIGHBOR_SOLICITATION,
};

use super::checksum::Sum;
use super::ip_header::{IpHeader, is_multicast, protocol};
use super::tuple::Address;
use crate::proto::link::MacAddress;

/// The length of a message with its one option, in bytes.
pub const MESSAGE_LEN_MAX: usize = BODY_LEN + OPTION_LEN;

/// The hop limit of every message of neighbour discovery.
pub const HOP_LIMIT: u8 = 255;

/// A question: who has `target`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The address in question.
    pub target: Address,
    /// The Ethernet address of who asks; `None` while it has no address of its own.
    pub source_mac: Option<MacAddress>,
}

/// An answer, or news: `target` is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address.
    pub target: Address,
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It replaces what was known before.
    pub overrides: bool,
    /// The Ethernet address of the target.
    pub target_mac: Option<MacAddress>,
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NdpError {
    /// A code other than zero.
    #[error("the code is not zero")]
    BadCode,
    /// It came through a router.
    #[error("the hop limit is not 255")]
    BadHopLimit,
    /// An option of length zero, or one that runs past the end.
    #[error("an option's length lies")]
    BadOption,
    /// It asks about, or speaks for, a group or an IPv4 address.
    #[error("the target is not one IPv6 host")]
    BadTarget,
    /// A sender without an address asks somebody in particular, tells its Ethernet address, or answers all and one at once.
    #[error("addresses, flags and options contradict each other")]
    Contradiction,
    /// A group address where one Ethernet address belongs.
    #[error("the Ethernet address is a group's")]
    GroupSender,
    /// Fewer than 24 bytes.
    #[error("fewer than 24 bytes")]
    Truncated,
}

impl Solicitation {
    /// Parses a whole ICMPv6 message of type 135, of which the checksum has been verified.
    ///
    /// # Errors
    /// [`NdpError`] names the rule that it breaks.
    pub fn parse(header: &IpHeader, message: &[u8]) -> Result<Self, NdpError> {
        let body = Body::parse(header, message)?;
        let source_mac = body.link_address(LinkOption::Source)?;
        let from_nowhere = header.source.is_unspecified();
        if from_nowhere && (source_mac.is_some() || !is_solicited_node(header.destination)) {
            return Err(NdpError::Contradiction);
        }
        Ok(Self { target: body.target, source_mac })
    }

    /// Writes the message, checksum included, as `source` sends it to `destination`, and returns its length.
    pub fn emit(&self, source: Address, destination: Address, out: &mut [u8; MESSAGE_LEN_MAX]) -> usize {
        let option = self.source_mac.map(|mac| (LinkOption::Source, mac));
        write(TYPE_NEIGHBOR_SOLICITATION, [0; 4], self.target, option, out);
        seal(source, destination, option, out)
    }
}

impl Advertisement {
    /// Parses a whole ICMPv6 message of type 136, of which the checksum has been verified.
    ///
    /// # Errors
    /// [`NdpError`] names the rule that it breaks.
    pub fn parse(header: &IpHeader, message: &[u8]) -> Result<Self, NdpError> {
        let body = Body::parse(header, message)?;
        let flags = NeighborAdvertisementHeader::from_bytes(body.flags);
        if flags.solicited && is_multicast(header.destination) {
            return Err(NdpError::Contradiction);
        }
        Ok(Self {
            target: body.target,
            router: flags.router,
            solicited: flags.solicited,
            overrides: flags.r#override,
            target_mac: body.link_address(LinkOption::Target)?,
        })
    }

    /// Writes the message, checksum included, as `source` sends it to `destination`, and returns its length.
    pub fn emit(&self, source: Address, destination: Address, out: &mut [u8; MESSAGE_LEN_MAX]) -> usize {
        let flags = NeighborAdvertisementHeader { router: self.router, solicited: self.solicited, r#override: self.overrides };
        let option = self.target_mac.map(|mac| (LinkOption::Target, mac));
        write(TYPE_NEIGHBOR_ADVERTISEMENT, flags.to_bytes(), self.target, option, out);
        seal(source, destination, option, out)
    }
}

/// The group that the owner of `address` listens to (RFC 4291 §2.7.1): ff02::1:ff00:0/104 and the address's last three bytes.
#[must_use]
pub fn solicited_node(address: Address) -> Address {
    let mut octets = SOLICITED_NODE;
    octets[13..].copy_from_slice(&address.octets()[13..]);
    Address::new(octets.into())
}

/// The Ethernet address of an IPv6 group (RFC 2464 §7).
#[must_use]
pub const fn multicast_mac(group: Address) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}

/// ff02::1, all nodes on the link.
#[must_use]
pub fn all_nodes() -> Address {
    Address::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].into())
}

/// Type, code, checksum, flags and target.
const BODY_LEN: usize = 24;

/// An Ethernet address as an option.
const OPTION_LEN: usize = 8;

const SOLICITED_NODE: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];

fn is_solicited_node(address: Address) -> bool {
    address.octets()[..13] == SOLICITED_NODE[..13]
}

/// Which side's Ethernet address an option tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkOption {
    Source = 1,
    Target = 2,
}

/// What both messages have in common.
struct Body<'a> {
    flags: [u8; 4],
    target: Address,
    options: &'a [u8],
}

impl<'a> Body<'a> {
    fn parse(header: &IpHeader, message: &'a [u8]) -> Result<Self, NdpError> {
        let (fixed, options) = message.split_first_chunk::<BODY_LEN>().ok_or(NdpError::Truncated)?;
        let [_, code, _, _, f0, f1, f2, f3, target @ ..] = *fixed;
        let target = Address::new(target.into());
        if header.hop_limit != HOP_LIMIT {
            return Err(NdpError::BadHopLimit);
        }
        if code != 0 {
            return Err(NdpError::BadCode);
        }
        if is_multicast(target) || target.is_unspecified() || target.is_v4() {
            return Err(NdpError::BadTarget);
        }
        Ok(Self { flags: [f0, f1, f2, f3], target, options })
    }

    /// The Ethernet address of one side. Every option is looked at, for one that lies spoils the message.
    fn link_address(&self, wanted: LinkOption) -> Result<Option<MacAddress>, NdpError> {
        let mut found = None;
        for option in NdpOptionsIterator::from_slice(self.options) {
            let bytes = match (option.map_err(|_| NdpError::BadOption)?, wanted) {
                (NdpOptionSlice::SourceLinkLayerAddress(option), LinkOption::Source) => option.as_bytes(),
                (NdpOptionSlice::TargetLinkLayerAddress(option), LinkOption::Target) => option.as_bytes(),
                _ => continue,
            };
            let mac = *bytes[2..].first_chunk().ok_or(NdpError::BadOption)?;
            found = Some(MacAddress(mac));
        }
        match found {
            Some(mac) if mac.is_multicast() => Err(NdpError::GroupSender),
            found => Ok(found),
        }
    }
}

fn write(kind: u8, flags: [u8; 4], target: Address, option: Option<(LinkOption, MacAddress)>, out: &mut [u8; MESSAGE_LEN_MAX]) {
    *out = [0; MESSAGE_LEN_MAX];
    out[0] = kind;
    out[4..8].copy_from_slice(&flags);
    out[8..24].copy_from_slice(&target.octets());
    if let Some((side, mac)) = option {
        out[24] = side as u8;
        out[25] = 1;
        out[26..32].copy_from_slice(&mac.0);
    }
}

/// Writes the checksum and returns the message's length.
fn seal(source: Address, destination: Address, option: Option<(LinkOption, MacAddress)>, out: &mut [u8; MESSAGE_LEN_MAX]) -> usize {
    let (len, wire_len) = if option.is_some() { (MESSAGE_LEN_MAX, 32) } else { (BODY_LEN, 24) };
    let sum = Sum::pseudo_header(source, destination, protocol::ICMPV6, wire_len) + Sum::of(&out[..len]);
    out[2..4].copy_from_slice(&sum.complete());
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    fn host(text: &str) -> Address {
        Address::new(text.parse().expect("a literal"))
    }

    fn header(source: &str, destination: Address) -> IpHeader {
        IpHeader { source: host(source), destination, protocol: protocol::ICMPV6, hop_limit: HOP_LIMIT, traffic_class: 0 }
    }

    fn solicitation(change: impl FnOnce(&mut IpHeader, &mut Vec<u8>)) -> Result<Solicitation, NdpError> {
        let target = host("fd09::2");
        let mut header = header("fd09::1", solicited_node(target));
        let mut out = [0; MESSAGE_LEN_MAX];
        let len = Solicitation { target, source_mac: Some(MAC) }.emit(header.source, header.destination, &mut out);
        let mut message = out[..len].to_vec();
        change(&mut header, &mut message);
        Solicitation::parse(&header, &message)
    }

    #[test]
    fn groups() {
        assert_eq!(solicited_node(host("fd09::12:3456")), host("ff02::1:ff12:3456"));
        assert_eq!(multicast_mac(host("ff02::1:ff12:3456")), MacAddress([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
        assert_eq!(all_nodes(), host("ff02::1"));
    }

    /// R4861-1.
    #[test]
    fn a_broken_solicitation_is_named() {
        assert_eq!(solicitation(|_, _| ()), Ok(Solicitation { target: host("fd09::2"), source_mac: Some(MAC) }));
        assert_eq!(solicitation(|header, _| header.hop_limit = 254), Err(NdpError::BadHopLimit));
        assert_eq!(solicitation(|_, message| message[1] = 1), Err(NdpError::BadCode));
        assert_eq!(solicitation(|_, message| message[8] = 0xff), Err(NdpError::BadTarget));
        assert_eq!(solicitation(|_, message| message[25] = 0), Err(NdpError::BadOption));
        assert_eq!(solicitation(|_, message| message[25] = 2), Err(NdpError::BadOption));
        assert_eq!(solicitation(|_, message| message[26] = 0x33), Err(NdpError::GroupSender));
        assert_eq!(solicitation(|_, message| message.truncate(23)), Err(NdpError::Truncated));
        assert_eq!(solicitation(|header, _| header.source = Address::ANY), Err(NdpError::Contradiction));
        // Duplicate address detection: from nowhere, without an option, to the group.
        let probe = |header: &mut IpHeader, message: &mut Vec<u8>| {
            header.source = Address::ANY;
            message.truncate(24);
        };
        assert_eq!(solicitation(probe), Ok(Solicitation { target: host("fd09::2"), source_mac: None }));
    }

    #[test]
    fn an_answer_to_all_is_no_answer_to_one() {
        let header = header("fd09::2", all_nodes());
        let advertisement =
            Advertisement { target: host("fd09::2"), router: false, solicited: true, overrides: true, target_mac: Some(MAC) };
        let mut out = [0; MESSAGE_LEN_MAX];
        let len = advertisement.emit(header.source, header.destination, &mut out);
        assert_eq!(Advertisement::parse(&header, &out[..len]), Err(NdpError::Contradiction));
    }

    proptest::proptest! {
        #[test]
        fn parse_inverts_emit(mut target: [u8; 16], mut mac: [u8; 6], flags: [bool; 3], with_mac: bool) {
            target[0] = 0x20;
            mac[0] &= !1;
            let header = header("fd09::2", host("fd09::1"));
            let target = Address::new(target.into());
            let mac = with_mac.then_some(MacAddress(mac));
            let mut out = [0; MESSAGE_LEN_MAX];

            let advertisement = Advertisement { target, router: flags[0], solicited: flags[1], overrides: flags[2], target_mac: mac };
            let len = advertisement.emit(header.source, header.destination, &mut out);
            proptest::prop_assert_eq!(Advertisement::parse(&header, &out[..len]), Ok(advertisement));
            let wire_len = u32::try_from(len).expect("at most 32");
            let sum = Sum::pseudo_header(header.source, header.destination, protocol::ICMPV6, wire_len) + Sum::of(&out[..len]);
            proptest::prop_assert!(sum.is_intact());

            let solicitation = Solicitation { target, source_mac: mac };
            let len = solicitation.emit(header.source, header.destination, &mut out);
            proptest::prop_assert_eq!(Solicitation::parse(&header, &out[..len]), Ok(solicitation));
        }

        #[test]
        fn any_bytes_parse_or_are_refused(message in proptest::collection::vec(0u8..4, 0..90)) {
            let header = header("fd09::2", host("fd09::1"));
            // Totality is the property: both must return.
            let outcomes = (Solicitation::parse(&header, &message).is_ok(), Advertisement::parse(&header, &message).is_ok());
            proptest::prop_assert!(message.len() >= BODY_LEN || outcomes == (false, false));
        }
    }
}
