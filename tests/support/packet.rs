//! Segments as bare IP packets and back, with every checksum: what a peer of our own making puts on the wire and reads from it.

use std::net::SocketAddr;

use synfin::proto::wire::ip::{HEADER_LEN_MAX as IP_LEN_MAX, protocol};
use synfin::proto::wire::{Address, IpHeader, OptionLayout, Segment, Sum, tcp};

/// A segment from `source` to `destination`; the ports of `segment` are overwritten.
pub(crate) fn packet(source: SocketAddr, destination: SocketAddr, segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let segment = Segment { source_port: source.port(), destination_port: destination.port(), ..*segment };
    let mut header = [0; tcp::HEADER_LEN_MAX];
    let len = segment.emit(OptionLayout::Linux, &mut header);
    with_header(source, destination, &header[..len], payload)
}

/// A TCP header, whatever its bytes, with its checksum and an IP header.
pub(crate) fn with_header(source: SocketAddr, destination: SocketAddr, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut text = [header, payload].concat();
    let (from, to) = (Address::new(source.ip()), Address::new(destination.ip()));
    let length = u32::try_from(text.len()).expect("below 2^16");
    let sum = Sum::pseudo_header(from, to, protocol::TCP, length) + Sum::of(&text);
    if let Some(field) = text.get_mut(tcp::CHECKSUM_OFFSET..tcp::CHECKSUM_OFFSET + 2) {
        field.copy_from_slice(&sum.complete());
    }
    let ip = IpHeader { source: from, destination: to, protocol: protocol::TCP, hop_limit: 64, traffic_class: 0 };
    let mut out = [0; IP_LEN_MAX];
    let ip_len = ip.emit(0, text.len(), &mut out);
    [&out[..ip_len], &text].concat()
}

/// The segment in a packet of ours, and its payload.
///
/// # Panics
/// When the packet is malformed or a checksum is wrong: nothing like that may leave a host.
pub(crate) fn parse(packet: &[u8]) -> (IpHeader, Segment, Vec<u8>) {
    let (header, range) = IpHeader::parse(packet).expect("an IP packet");
    assert_eq!(range.end, packet.len(), "the IP header counts every byte");
    let text = &packet[range];
    let length = u32::try_from(text.len()).expect("below 2^16");
    let sum = Sum::pseudo_header(header.source, header.destination, protocol::TCP, length) + Sum::of(text);
    assert!(sum.is_intact(), "the TCP checksum is wrong");
    let (segment, header_len) = Segment::parse(text).expect("a TCP segment");
    assert!(!segment.options.malformed, "an option of ours is malformed");
    (header, segment, text[header_len..].to_vec())
}
