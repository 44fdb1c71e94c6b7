//! Multicast listener discovery for IPv6 (RFC 3810, RFC 2710): queries in, reports out, so that switches which watch them let the groups of
//! neighbour discovery through.
//!
//! A report is a whole packet: the router alert before it belongs to the protocol (RFC 3810 §5). When to report is decided elsewhere.

use std::time::Duration;

use super::checksum::Sum;
use super::ip_header::{IpHeader, is_link_local, protocol};
use super::tuple::Address;

/// The type of a query.
pub(super) const TYPE_QUERY: u8 = 130;

/// How many groups one [report](Report) tells: it fits the least MTU of IPv6.
pub const RECORDS_MAX: usize = 32;

/// Whose packets a querier understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 2710: one group in each report.
    One,
    /// RFC 3810.
    Two,
}

/// A router asks who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// To one group; `None` for all.
    pub group: Option<Address>,
    /// The answer is to come at some random time before this.
    pub max_response: Duration,
    /// What it understands.
    pub version: Version,
}

/// What a record of a report says (RFC 3810 §5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// To whatever anybody sends there, as before: `MODE_IS_EXCLUDE`.
    Still = 2,
    /// To whatever anybody sends there, from now on: `CHANGE_TO_EXCLUDE_MODE`.
    Now = 4,
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MldError {
    /// Its source is no router on the link, or its hop limit is not 1.
    #[error("it comes from beyond the link")]
    NotFromTheLink,
    /// No length that a query can have, or a group that is none.
    #[error("malformed")]
    Malformed,
}

impl Query {
    /// Parses a whole ICMPv6 message of type 130, of which the checksum has been verified.
    ///
    /// # Errors
    /// [`MldError`] names the rule that it breaks (RFC 3810 §6.2, §8.1).
    pub fn parse(header: &IpHeader, message: &[u8]) -> Result<Self, MldError> {
        if header.hop_limit != HOP_LIMIT || !is_link_local(header.source) {
            return Err(MldError::NotFromTheLink);
        }
        let version = match message.len() {
            24 => Version::One,
            28.. => Version::Two,
            _ => return Err(MldError::Malformed),
        };
        let (fixed, _) = message.split_first_chunk::<24>().ok_or(MldError::Malformed)?;
        let [_, _, _, _, high, low, _, _, group @ ..] = *fixed;
        let group = Address::new(group.into());
        if !group.is_unspecified() && group.octets()[0] != 0xff {
            return Err(MldError::Malformed);
        }
        let code = u16::from_be_bytes([high, low]);
        let millis = match version {
            Version::Two if code >= 0x8000 => u64::from(code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
            Version::One | Version::Two => u64::from(code),
        };
        Ok(Self { group: Some(group).filter(|group| !group.is_unspecified()), max_response: Duration::from_millis(millis), version })
    }
}

/// A report as a packet: what stands before and in it, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The IP header; its payload is [`payload`](Self::payload).
    pub header: IpHeader,
    /// The router alert (RFC 2711) and the message, checksum included.
    pub payload: Vec<u8>,
}

impl Report {
    /// Tells routers of version two about at most [`RECORDS_MAX`] groups; more are left out.
    #[must_use]
    pub fn of_groups(source: Address, groups: &[Address], listening: Listening) -> Self {
        let groups = &groups[..groups.len().min(RECORDS_MAX)];
        let count = u16::try_from(groups.len()).expect("at most 32").to_be_bytes();
        let mut message = vec![TYPE_REPORT_V2, 0, 0, 0, 0, 0, count[0], count[1]];
        for group in groups {
            message.extend([listening as u8, 0, 0, 0]);
            message.extend(group.octets());
        }
        Self::new(source, Address::new(ALL_ROUTERS.into()), message)
    }

    /// Tells routers of version one, and other listeners, about one group.
    #[must_use]
    pub fn of_group(source: Address, group: Address) -> Self {
        let mut message = vec![TYPE_REPORT_V1, 0, 0, 0, 0, 0, 0, 0];
        message.extend(group.octets());
        Self::new(source, group, message)
    }

    fn new(source: Address, destination: Address, mut message: Vec<u8>) -> Self {
        let len = u32::try_from(message.len()).expect("at most 648");
        let sum = Sum::pseudo_header(source, destination, protocol::ICMPV6, len) + Sum::of(&message);
        message[2..4].copy_from_slice(&sum.complete());
        let header = IpHeader { source, destination, protocol: HOP_BY_HOP, hop_limit: HOP_LIMIT, traffic_class: 0 };
        Self { header, payload: [&ROUTER_ALERT[..], &message].concat() }
    }
}

/// The hop limit of every message (RFC 3810 §5).
const HOP_LIMIT: u8 = 1;

/// The header for options that routers look at (RFC 8200 §4.3).
const HOP_BY_HOP: u8 = 0;

/// ICMPv6 follows; eight bytes; router alert with value 0, multicast listener discovery (RFC 2711 §2.1); two bytes of padding.
const ROUTER_ALERT: [u8; 8] = [protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];

const TYPE_REPORT_V1: u8 = 131;
const TYPE_REPORT_V2: u8 = 143;

/// ff02::16, the routers that speak version two (RFC 3810 §5.2.14).
const ALL_ROUTERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16];

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Address {
        Address::new(text.parse().expect("a literal"))
    }

    fn query(code: u16, group: &str, len: usize) -> Result<Query, MldError> {
        let mut message = vec![0; len.max(24)];
        message[4..6].copy_from_slice(&code.to_be_bytes());
        message[8..24].copy_from_slice(&host(group).octets());
        message.truncate(len);
        let header =
            IpHeader { source: host("fe80::1"), destination: host("ff02::1"), protocol: 58, hop_limit: HOP_LIMIT, traffic_class: 0 };
        Query::parse(&header, &message)
    }

    #[test]
    fn queries_of_both_versions() {
        let general = |version, millis| Ok(Query { group: None, max_response: Duration::from_millis(millis), version });
        assert_eq!(query(10_000, "::", 24), general(Version::One, 10_000));
        assert_eq!(query(10_000, "::", 28), general(Version::Two, 10_000));
        assert_eq!(query(0x8000, "::", 28), general(Version::Two, 32_768));
        assert_eq!(query(0xffff, "::", 28), general(Version::Two, 0x1fff << 10));
        assert_eq!(query(0xffff, "::", 24), general(Version::One, 0xffff));
        assert_eq!(query(0, "ff02::1:ff00:2", 44).map(|query| query.group), Ok(Some(host("ff02::1:ff00:2"))));
        for (len, group) in [(0, "::"), (23, "::"), (25, "::"), (27, "::"), (28, "fd09::1")] {
            assert_eq!(query(0, group, len), Err(MldError::Malformed), "{len} {group}");
        }
    }

    #[test]
    fn a_query_from_beyond_the_link_is_refused() {
        for (source, hop_limit) in [("fe80::1", 2), ("fd09::1", 1), ("::", 1)] {
            let header = IpHeader { source: host(source), destination: host("ff02::1"), protocol: 58, hop_limit, traffic_class: 0 };
            assert_eq!(Query::parse(&header, &[0; 28]), Err(MldError::NotFromTheLink));
        }
    }

    /// R3810-1.
    #[test]
    fn reports_carry_a_router_alert_and_a_right_checksum() {
        let groups: Vec<Address> = (0..40).map(|last| host(&format!("ff02::1:ff00:{last:x}"))).collect();
        let reports = [Report::of_groups(host("fe80::2"), &groups, Listening::Now), Report::of_group(Address::ANY, host("ff02::1:ff00:2"))];
        for (report, len) in reports.iter().zip([8 + 20 * RECORDS_MAX, 24]) {
            let (alert, message) = report.payload.split_at(8);
            assert_eq!((alert, message.len(), report.header.hop_limit), (&[58, 0, 5, 2, 0, 0, 1, 0][..], len, 1));
            let len = u32::try_from(len).expect("short");
            let sum = Sum::pseudo_header(report.header.source, report.header.destination, 58, len) + Sum::of(message);
            assert!(sum.is_intact());
        }
        assert_eq!(reports[0].payload[8 + 7], 32);
        assert_eq!((reports[0].header.destination, reports[1].header.destination), (host("ff02::16"), host("ff02::1:ff00:2")));
    }
}
