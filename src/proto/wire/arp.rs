//! Address resolution for IPv4 over Ethernet (RFC 826, RFC 5227): the packet, both ways.
//!
//! Only the one combination of hardware and protocol that this host speaks is a [`Packet`]. What an answer is worth is the neighbour
//! cache's business, not decided here.

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType};

use crate::proto::link::MacAddress;

/// The length of a packet in bytes.
pub const PACKET_LEN: usize = ArpEthIpv4Packet::LEN;

/// Question or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address? A probe if the sender has none yet (RFC 5227 §2.1.1), an announcement if it asks for its own.
    Request,
    /// The sender has it.
    Reply,
}

/// An ARP packet as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Question or answer.
    pub operation: Operation,
    /// The sender's Ethernet address, never a group's.
    pub sender_mac: MacAddress,
    /// The sender's IPv4 address.
    pub sender: Ipv4Addr,
    /// The target's Ethernet address; meaningless in a request.
    pub target_mac: MacAddress,
    /// The target's IPv4 address.
    pub target: Ipv4Addr,
}

/// Why bytes are no ARP packet for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArpError {
    /// The sender claims a group address (RFC 1812 §3.3.2).
    #[error("the sender's Ethernet address is a group's")]
    GroupSender,
    /// Not Ethernet, or not IPv4.
    #[error("not about Ethernet and IPv4")]
    OtherNetwork,
    /// Fewer bytes than the address lengths need.
    #[error("fewer bytes than an ARP packet has")]
    Truncated,
    /// Neither request nor reply.
    #[error("neither request nor reply")]
    UnknownOperation,
}

impl Packet {
    /// Parses what follows the Ethernet header; padding is ignored.
    ///
    /// # Errors
    /// [`ArpError`] names why the packet is of no use.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArpError> {
        let slice = ArpPacketSlice::from_slice(bytes).map_err(|_| ArpError::Truncated)?;
        let sizes = (slice.hw_addr_size(), slice.proto_addr_size());
        if slice.hw_addr_type() != ArpHardwareId::ETHERNET || slice.proto_addr_type() != EtherType::IPV4 || sizes != (6, 4) {
            return Err(ArpError::OtherNetwork);
        }
        let operation = match slice.operation() {
            ArpOperation::REQUEST => Operation::Request,
            ArpOperation::REPLY => Operation::Reply,
            _ => return Err(ArpError::UnknownOperation),
        };
        let packet = slice.to_packet().try_eth_ipv4().map_err(|_| ArpError::OtherNetwork)?;
        let sender_mac = MacAddress(packet.sender_mac);
        if sender_mac.is_multicast() {
            return Err(ArpError::GroupSender);
        }
        Ok(Self {
            operation,
            sender_mac,
            sender: packet.sender_ipv4_addr(),
            target_mac: MacAddress(packet.target_mac),
            target: packet.target_ipv4_addr(),
        })
    }

    /// The packet as it stands on the wire.
    #[must_use]
    pub fn emit(&self) -> [u8; PACKET_LEN] {
        let operation = match self.operation {
            Operation::Request => ArpOperation::REQUEST,
            Operation::Reply => ArpOperation::REPLY,
        };
        let packet = ArpEthIpv4Packet {
            operation,
            sender_mac: self.sender_mac.0,
            sender_ipv4: self.sender.octets(),
            target_mac: self.target_mac.0,
            target_ipv4: self.target.octets(),
        };
        packet.to_bytes()
    }

    /// The answer of the host that has the target address.
    #[must_use]
    pub const fn answer(&self, own: MacAddress) -> Self {
        Self { operation: Operation::Reply, sender_mac: own, sender: self.target, target_mac: self.sender_mac, target: self.sender }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Packet = Packet {
        operation: Operation::Request,
        sender_mac: MacAddress([2, 0, 0, 0, 0, 1]),
        sender: Ipv4Addr::new(10, 9, 0, 1),
        target_mac: MacAddress([0; 6]),
        target: Ipv4Addr::new(10, 9, 0, 2),
    };

    #[test]
    fn an_answer_goes_back_to_who_asked() {
        let own = MacAddress([2, 0, 0, 0, 0, 2]);
        let answer = REQUEST.answer(own);
        assert_eq!((answer.operation, answer.sender_mac, answer.sender), (Operation::Reply, own, REQUEST.target));
        assert_eq!((answer.target_mac, answer.target), (REQUEST.sender_mac, REQUEST.sender));
    }

    #[test]
    fn what_is_not_ours_is_named() {
        let planted = |at: usize, byte: u8| {
            let mut bytes = REQUEST.emit();
            bytes[at] = byte;
            Packet::parse(&bytes)
        };
        assert_eq!(planted(1, 6), Err(ArpError::OtherNetwork));
        assert_eq!(planted(2, 0x86), Err(ArpError::OtherNetwork));
        assert_eq!(planted(4, 5), Err(ArpError::OtherNetwork));
        assert_eq!(planted(5, 16), Err(ArpError::Truncated));
        assert_eq!(planted(7, 3), Err(ArpError::UnknownOperation));
        assert_eq!(planted(8, 3), Err(ArpError::GroupSender));
        assert_eq!(Packet::parse(&REQUEST.emit()[..27]), Err(ArpError::Truncated));
    }

    proptest::proptest! {
        #[test]
        fn parse_inverts_emit(mut sender_mac: [u8; 6], sender: [u8; 4], target_mac: [u8; 6], target: [u8; 4], reply: bool, padding in 0usize..30) {
            sender_mac[0] &= !1;
            let packet = Packet {
                operation: if reply { Operation::Reply } else { Operation::Request },
                sender_mac: MacAddress(sender_mac),
                sender: sender.into(),
                target_mac: MacAddress(target_mac),
                target: target.into(),
            };
            let mut bytes = packet.emit().to_vec();
            bytes.resize(PACKET_LEN + padding, 0xee);
            proptest::prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
        }

        #[test]
        fn any_bytes_parse_or_are_refused(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80), real: bool) {
            if real && bytes.len() >= 8 {
                bytes[..6].copy_from_slice(&REQUEST.emit()[..6]);
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                proptest::prop_assert_eq!(&packet.emit()[..], &bytes[..PACKET_LEN]);
            }
        }
    }
}
