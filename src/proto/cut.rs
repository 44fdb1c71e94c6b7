//! What a link without offloads needs: super-packets cut into segments, partial checksums completed.
//!
//! ```text
//!  | header, seq n, CWR PSH FIN |          payload, 2.5 x segment size           |
//!  | seq n,       CWR | ####### |  | seq n + 1s,      | ####### |  | seq n + 2s, PSH FIN | ### |
//! ```
//!
//! The segments are what the hardware would make of the frame: the same timestamps in all, CWR on the first only, PSH and FIN on the last
//! only (RFC 3168 §6.1.2, RFC 9293 §3.10.7.4), IPv4 identifications that count up, and a pseudo-header sum each. It knows headers, not
//! connections, and copies no payload.

use bytes::Bytes;

use super::link::TxFrame;
use super::wire::{Address, Flags, Sum, ip, ipv4, ipv6, tcp};

/// Cuts a frame into segments of its `segment_size`; a frame that is no super-packet comes out as it went in.
///
/// ```
/// use synfin::proto::{TxFrame, cut::cut};
///
/// let frame = TxFrame::new();
/// assert_eq!(cut(&frame).count(), 1);
/// ```
#[must_use]
pub fn cut(frame: &TxFrame) -> Segments<'_> {
    let plan = Layout::of(frame).filter(|_| frame.segment_size > 0 && frame.payload_len() > usize::from(frame.segment_size));
    Segments { frame, plan, index: 0, sent: 0, view: 0, view_offset: 0, finished: false }
}

/// Completes a partial checksum over the TCP header and the payload; a frame without one stays as it is. A super-packet is to be cut first.
pub fn complete(frame: &mut TxFrame) {
    let start = usize::from(std::mem::take(&mut frame.transport_offset));
    if start == 0 || frame.header().len() < start + tcp::HEADER_LEN {
        return;
    }
    let header = &frame.header()[start..];
    let checksum = Sum::of_pieces(std::iter::once(header).chain(frame.views().iter().map(|view| &view[..]))).complete();
    put(frame.header_mut(), start + tcp::CHECKSUM_OFFSET, checksum);
}

/// The segments of a frame, in order.
#[derive(Debug)]
pub struct Segments<'a> {
    frame: &'a TxFrame,
    /// `None` for a frame that is not to be cut.
    plan: Option<Layout>,
    /// Segments that are out.
    index: u16,
    /// Payload bytes that are out.
    sent: usize,
    /// The view that is next, and how much of it is out.
    view: usize,
    view_offset: usize,
    finished: bool,
}

impl Iterator for Segments<'_> {
    type Item = TxFrame;

    fn next(&mut self) -> Option<TxFrame> {
        if self.finished {
            return None;
        }
        let Some(plan) = self.plan else {
            self.finished = true;
            return Some(self.frame.clone());
        };
        let len = (self.frame.payload_len() - self.sent).min(usize::from(self.frame.segment_size));
        let mut segment = TxFrame::new();
        segment.network_offset = self.frame.network_offset;
        segment.transport_offset = self.frame.transport_offset;
        segment.put_header(self.frame.header());
        plan.rewrite(segment.header_mut(), self.index, self.sent, len);
        self.move_payload(&mut segment, len);
        self.finished = self.sent >= self.frame.payload_len();
        if self.index > 0 {
            clear_flags(segment.header_mut(), plan.transport, Flags::CWR);
        }
        if !self.finished {
            clear_flags(segment.header_mut(), plan.transport, Flags::PSH | Flags::FIN);
        }
        self.index = self.index.wrapping_add(1);
        Some(segment)
    }
}

impl Segments<'_> {
    /// Gives the segment views of the next `len` bytes of payload.
    fn move_payload(&mut self, segment: &mut TxFrame, mut len: usize) {
        while len > 0 {
            let Some(view) = self.frame.views().get(self.view) else { break };
            let take = len.min(view.len() - self.view_offset);
            if take > 0 {
                let piece: Bytes = view.slice(self.view_offset..self.view_offset + take);
                segment.put_view(piece).expect("a segment has no more views than the frame it is cut from");
            }
            self.sent += take;
            self.view_offset += take;
            len -= take;
            if self.view_offset == view.len() {
                self.view += 1;
                self.view_offset = 0;
            }
        }
    }
}

/// Where the headers of a TCP frame lie.
#[derive(Clone, Copy, Debug)]
struct Layout {
    network: usize,
    transport: usize,
    family: Family,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

impl Layout {
    /// `None` for a frame whose header is not that of a TCP segment over IP.
    fn of(frame: &TxFrame) -> Option<Self> {
        let header = frame.header();
        let (network, transport) = (usize::from(frame.network_offset), usize::from(frame.transport_offset));
        let (family, network_len) = match header.get(network)? >> 4 {
            4 => (Family::V4, ipv4::HEADER_LEN),
            6 => (Family::V6, ipv6::HEADER_LEN),
            _ => return None,
        };
        let fits = transport >= network + network_len && header.len() >= transport + tcp::HEADER_LEN;
        fits.then_some(Self { network, transport, family })
    }

    /// Makes the header of a frame that of its segment number `index`, which carries `len` bytes from `offset` on.
    fn rewrite(self, header: &mut [u8], index: u16, offset: usize, len: usize) {
        let Self { network, transport, family } = self;
        let tcp_len = header.len() - transport + len;
        match family {
            Family::V4 => {
                let total_len = wire_len(header.len() - network + len);
                let identification = u16::from_be_bytes([header[network + 4], header[network + 5]]).wrapping_add(index);
                put(header, network + 2, total_len);
                put(header, network + 4, identification.to_be_bytes());
                put(header, network + ipv4::CHECKSUM_OFFSET, [0, 0]);
                let checksum = Sum::of(&header[network..transport]).complete();
                put(header, network + ipv4::CHECKSUM_OFFSET, checksum);
            }
            Family::V6 => put(header, network + 4, wire_len(header.len() - network - ipv6::HEADER_LEN + len)),
        }
        let pseudo_header = self.pseudo_header(header, tcp_len);
        put(header, transport + tcp::CHECKSUM_OFFSET, pseudo_header.partial());
        let seq = &mut header[transport + 4..transport + 8];
        let number = u32::from_be_bytes([seq[0], seq[1], seq[2], seq[3]]).wrapping_add(saturated(offset));
        seq.copy_from_slice(&number.to_be_bytes());
    }

    fn pseudo_header(self, header: &[u8], tcp_len: usize) -> Sum {
        let host = |at: usize| match self.family {
            Family::V4 => header[self.network + 12 + 4 * at..].first_chunk::<4>().map(|octets| Address::new((*octets).into())),
            Family::V6 => header[self.network + 8 + 16 * at..].first_chunk::<16>().map(|octets| Address::new((*octets).into())),
        };
        let (source, destination) = (host(0).unwrap_or(Address::ANY), host(1).unwrap_or(Address::ANY));
        Sum::pseudo_header(source, destination, ip::protocol::TCP, saturated(tcp_len))
    }
}

fn clear_flags(header: &mut [u8], transport: usize, flags: Flags) {
    header[transport + 13] = Flags(header[transport + 13]).without(flags).0;
}

fn put(header: &mut [u8], at: usize, bytes: [u8; 2]) {
    header[at..at + 2].copy_from_slice(&bytes);
}

/// A length as IP writes it. A segment is shorter than its frame, and a frame that is longer than a link takes is nobody's packet.
fn wire_len(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// A length as a sequence number or a pseudo header counts it: a frame's payload is below 2^32 bytes.
fn saturated(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::{IpHeader, OptionLayout, Options, Segment, SeqNum, Timestamps};

    const ALL: Flags = Flags(Flags::CWR.0 | Flags::ECE.0 | Flags::PSH.0 | Flags::FIN.0 | Flags::ACK.0);

    fn frame(v4: bool, views: &[Vec<u8>], segment_size: u16) -> TxFrame {
        let payload_len: usize = views.iter().map(Vec::len).sum();
        let host = |text: &str| Address::new(text.parse().expect("a literal"));
        let (source, destination) = if v4 { (host("10.9.0.1"), host("10.9.0.2")) } else { (host("fd09::1"), host("fd09::2")) };
        let segment = Segment {
            source_port: 4000,
            destination_port: 80,
            seq: SeqNum(u32::MAX - 1000),
            flags: ALL,
            options: Options { timestamps: Some(Timestamps { value: 7, echo: 9 }), ..Options::default() },
            ..Segment::default()
        };
        let mut tcp_header = [0; tcp::HEADER_LEN_MAX];
        let tcp_len = segment.emit(OptionLayout::Linux, &mut tcp_header);
        let pseudo_header = Sum::pseudo_header(source, destination, 6, saturated(tcp_len + payload_len));
        put(&mut tcp_header, tcp::CHECKSUM_OFFSET, pseudo_header.partial());
        let header = IpHeader { source, destination, protocol: 6, hop_limit: 64, traffic_class: 0 };
        let mut ip_header = [0; ip::HEADER_LEN_MAX];
        let ip_len = header.emit(1, tcp_len + payload_len, &mut ip_header);
        let mut frame = TxFrame::new();
        frame.put_header(&[0xee; 14]);
        frame.network_offset = 14;
        frame.put_header(&ip_header[..ip_len]);
        frame.transport_offset = u8::try_from(14 + ip_len).expect("54");
        frame.put_header(&tcp_header[..tcp_len]);
        for view in views {
            frame.put_view(Bytes::copy_from_slice(view)).expect("at most 16");
        }
        frame.segment_size = segment_size;
        frame
    }

    /// The segment and payload of a finished frame, all checksums verified.
    fn parsed(frame: &TxFrame) -> (Segment, Vec<u8>) {
        let bytes = frame.to_vec();
        assert_eq!(bytes[..14], [0xee; 14]);
        let (header, payload) = IpHeader::parse(&bytes[14..]).expect("an IP packet");
        assert_eq!(payload.end, bytes.len() - 14, "the length counts every byte");
        let tcp_bytes = &bytes[14..][payload];
        let sum = Sum::pseudo_header(header.source, header.destination, 6, saturated(tcp_bytes.len())) + Sum::of(tcp_bytes);
        assert!(sum.is_intact(), "the TCP checksum is right");
        let (segment, header_len) = Segment::parse(tcp_bytes).expect("a TCP segment");
        (segment, tcp_bytes[header_len..].to_vec())
    }

    fn segments(frame: &TxFrame) -> Vec<(Segment, Vec<u8>)> {
        cut(frame)
            .map(|mut segment| {
                complete(&mut segment);
                parsed(&segment)
            })
            .collect()
    }

    #[test]
    fn flags_stand_where_they_belong() {
        let flags: Vec<Flags> = segments(&frame(true, &[vec![1; 250]], 100))
            .into_iter()
            .map(|(segment, _)| segment.flags.without(Flags::ACK | Flags::ECE))
            .collect();
        assert_eq!(flags, [Flags::CWR, Flags::NONE, Flags::PSH | Flags::FIN]);
        assert_eq!(segments(&frame(true, &[vec![1; 100]], 100))[0].0.flags, ALL);
    }

    #[test]
    fn identifications_count_up() {
        let identification = |segment: TxFrame| u16::from_be_bytes([segment.header()[18], segment.header()[19]]);
        let identifications: Vec<u16> = cut(&frame(true, &[vec![1; 250]], 100)).map(identification).collect();
        assert_eq!(identifications, [0, 1, 2]);
    }

    #[test]
    fn a_single_segment_is_left_alone() {
        for (len, segment_size) in [(100, 100), (100, 0), (0, 100)] {
            let frame = frame(false, &[vec![7; len]], segment_size);
            let same: Vec<Vec<u8>> = cut(&frame).map(|segment| segment.to_vec()).collect();
            assert_eq!(same, [frame.to_vec()]);
        }
    }

    #[test]
    fn completing_twice_changes_nothing() {
        let mut frame = frame(true, &[vec![1; 33]], 0);
        complete(&mut frame);
        let once = frame.to_vec();
        complete(&mut frame);
        assert_eq!(frame.to_vec(), once);
    }

    #[test]
    fn a_frame_without_tcp_is_left_alone() {
        let mut arp = TxFrame::new();
        arp.put_header(&[1; 42]);
        arp.put_view(Bytes::from_static(&[2; 60])).expect("the first");
        arp.segment_size = 10;
        for offset in [0, 30, 41, 255] {
            arp.transport_offset = offset;
            let mut out: Vec<TxFrame> = cut(&arp).collect();
            complete(&mut out[0]);
            assert_eq!((out.len(), out[0].to_vec()), (1, arp.to_vec()));
        }
    }

    proptest::proptest! {
        #[test]
        fn reassembly_inverts_cutting(v4: bool, views in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..3000), 1..16),
                                      segment_size in 1u16..1500) {
            let super_frame = frame(v4, &views, segment_size);
            let segments = segments(&super_frame);
            let mut whole = super_frame;
            complete(&mut whole);
            let (header, payload) = parsed(&whole);
            proptest::prop_assert_eq!(segments.len(), payload.len().div_ceil(usize::from(segment_size)).max(1));
            let mut joined = Vec::new();
            let mut flags = Flags::NONE;
            for (segment, bytes) in &segments {
                proptest::prop_assert_eq!(segment.seq, header.seq + saturated(joined.len()));
                proptest::prop_assert_eq!(segment.options, header.options);
                proptest::prop_assert!(bytes.len() <= usize::from(segment_size));
                joined.extend_from_slice(bytes);
                flags |= segment.flags;
            }
            proptest::prop_assert_eq!(flags, header.flags);
            proptest::prop_assert_eq!(joined, payload);
        }
    }
}
