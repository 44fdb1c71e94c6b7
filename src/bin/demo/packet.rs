//! A frame as it went over the wire, decoded: a TCP segment with its addresses, or what else it was.

use std::net::SocketAddr;
use synfin::proto::Medium;
use synfin::proto::wire::arp::{self, Operation};
use synfin::proto::wire::ethernet::{self, EtherType};
use synfin::proto::wire::{IpHeader, Segment, ip};

/// The two ends of the wire, as they are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Left, Self::Right];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// A decoded frame.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// A TCP segment.
    Tcp(Tcp),
    /// Anything else, in words.
    Other(String),
}

/// A segment and who sent it to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) segment: Segment,
}

/// The addresses of the left and the right end of a conversation.
pub(crate) type Ends = (SocketAddr, SocketAddr);

impl Tcp {
    /// The ends, if the segment comes from `side`.
    pub(crate) const fn ends(&self, side: Side) -> Ends {
        match side {
            Side::Left => (self.source, self.destination),
            Side::Right => (self.destination, self.source),
        }
    }
}

impl Packet {
    /// The ends of the conversation that it belongs to, if it comes from `side`.
    pub(crate) const fn ends(&self, side: Side) -> Option<Ends> {
        match self {
            Self::Tcp(tcp) => Some(tcp.ends(side)),
            Self::Other(_) => None,
        }
    }

    pub(crate) fn decode(medium: Medium, frame: &[u8]) -> Self {
        match medium {
            Medium::Ip => Self::decode_ip(frame),
            Medium::Ethernet(_) => match ethernet::Header::parse(frame) {
                Ok(header) if header.ethertype == EtherType::Arp => Self::decode_arp(&frame[ethernet::HEADER_LEN..]),
                Ok(_) => Self::decode_ip(&frame[ethernet::HEADER_LEN..]),
                Err(error) => Self::Other(error.to_string()),
            },
        }
    }

    fn decode_arp(bytes: &[u8]) -> Self {
        Self::Other(match arp::Packet::parse(bytes) {
            Ok(packet) if packet.sender == packet.target => format!("ARP: {} is mine", packet.sender),
            Ok(packet) if packet.operation == Operation::Request => format!("ARP: who has {}?", packet.target),
            Ok(packet) => format!("ARP: {} is at {}", packet.sender, packet.sender_mac),
            Err(error) => error.to_string(),
        })
    }

    fn decode_ip(bytes: &[u8]) -> Self {
        let (header, payload) = match IpHeader::parse(bytes) {
            Ok(parsed) => parsed,
            Err(error) => return Self::Other(error.to_string()),
        };
        if header.protocol != ip::protocol::TCP {
            return Self::Other(format!("IP protocol {}", header.protocol));
        }
        match Segment::parse(&bytes[payload]) {
            Ok((segment, _)) => Self::Tcp(Tcp {
                source: SocketAddr::new(header.source.ip(), segment.source_port),
                destination: SocketAddr::new(header.destination.ip(), segment.destination_port),
                segment,
            }),
            Err(error) => Self::Other(error.to_string()),
        }
    }
}
