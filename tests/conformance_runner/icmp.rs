//! `< icmp …`: what a router says about a segment that the host sent.
//!
//! ```text
//!   icmp too-big 1000 seq 1     its next link carries 1000 bytes only; 0 from a router that is too old to tell
//!   icmp host-unreachable seq 0, net-unreachable, port-unreachable, time-exceeded
//! ```
//!
//! The quotation is of `len` bytes, 1500 unless told otherwise, between the usual ports.

use synfin::proto::wire::{Address, IpHeader, SeqNum, Sum, ip};

use super::host::Family;
use super::segment::number_of;
use super::world::{OUR_PORT, PEER_PORT};

/// A report in a script's words.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    kind: String,
    mtu: u16,
    /// Of the quoted segment, counted from our SYN.
    pub(crate) seq: i64,
    len: u16,
}

/// Reads the words behind `icmp`.
pub(crate) fn parse(words: &[&str]) -> Result<Report, String> {
    let (kind, mtu, mut rest) = match words {
        ["too-big", mtu, rest @ ..] => ("too-big", number_of(mtu)?, rest),
        [kind @ ("host-unreachable" | "net-unreachable" | "port-unreachable" | "time-exceeded"), rest @ ..] => (*kind, 0, rest),
        _ => return Err("`icmp` needs a kind that exists".to_owned()),
    };
    let mut report = Report { kind: kind.to_owned(), mtu, seq: 0, len: 1500 };
    while let [word, value, tail @ ..] = rest {
        match *word {
            "seq" => report.seq = number_of(value)?,
            "len" => report.len = number_of(value)?,
            _ => return Err(format!("`{word}` is no word of a report")),
        }
        rest = tail;
    }
    if rest.is_empty() { Ok(report) } else { Err(format!("`{}` needs a value", rest[0])) }
}

impl Report {
    /// The packet, which quotes a segment at `seq`.
    pub(crate) fn packet(&self, family: Family, seq: SeqNum) -> Vec<u8> {
        let v4 = family == Family::V4;
        let (host, peer) = (Address::new(family.host(0).ip()), Address::new(family.peer(0).ip()));
        let (kind, code) = match (self.kind.as_str(), v4) {
            ("too-big", true) => (3, 4),
            ("too-big", false) => (2, 0),
            ("host-unreachable", true) => (3, 1),
            ("host-unreachable", false) => (1, 3),
            ("net-unreachable", true) => (3, 0),
            ("net-unreachable", false) => (1, 0),
            ("port-unreachable", true) => (3, 3),
            ("port-unreachable", false) => (1, 4),
            (_, true) => (11, 0),
            (_, false) => (3, 0),
        };
        let mut message = vec![kind, code, 0, 0, 0, 0];
        message.extend(self.mtu.to_be_bytes());
        let quoted = IpHeader { source: host, destination: peer, protocol: ip::protocol::TCP, hop_limit: 1, traffic_class: 0 };
        let mut header = [0; ip::HEADER_LEN_MAX];
        let header_len = if v4 { 20 } else { 40 };
        quoted.emit(0, usize::from(self.len) - header_len, &mut header);
        message.extend(&header[..header_len]);
        message.extend(OUR_PORT.to_be_bytes());
        message.extend(PEER_PORT.to_be_bytes());
        message.extend(seq.0.to_be_bytes());
        let protocol = if v4 { ip::protocol::ICMP } else { ip::protocol::ICMPV6 };
        let mut sum = Sum::of(&message);
        if !v4 {
            sum = sum + Sum::pseudo_header(peer, host, protocol, u32::try_from(message.len()).expect("a small packet"));
        }
        message[2..4].copy_from_slice(&sum.complete());
        let below = IpHeader { source: peer, destination: host, protocol, hop_limit: 64, traffic_class: 0 };
        let len = below.emit(0, message.len(), &mut header);
        [&header[..len], &message].concat()
    }
}
