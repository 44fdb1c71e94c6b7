//! The TCP header (RFC 9293 §3.1) and its flags.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |          source port          |       destination port        |
//! +-------------------------------+-------------------------------+
//! |                        sequence number                        |
//! +---------------------------------------------------------------+
//! |                    acknowledgment number                      |
//! +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
//! | offset|  0    |C|E|U|A|P|R|S|F|            window             |
//! +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
//! |           checksum            |        urgent pointer         |
//! +-------------------------------+-------------------------------+
//! |                    options, padded to 4 bytes                 |
//! +---------------------------------------------------------------+
//! ```
//!
//! A [`Segment`] is the header as values. Its payload travels beside it, never inside: on the way in as part of the frame, on the way out as
//! views of the send buffer.

use super::options::{OPTIONS_LEN_MAX, OptionLayout, Options};
use super::seq::SeqNum;

/// The length of a header without options, in bytes.
pub const HEADER_LEN: usize = 20;

/// The length of the longest header, in bytes.
pub const HEADER_LEN_MAX: usize = HEADER_LEN + OPTIONS_LEN_MAX;

/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 16;

/// The eight flags.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Deliver what has come so far.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// True if every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if any flag of `other` is set.
    #[must_use]
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These flags without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// `SYN,ACK`, or `-` for none.
impl std::fmt::Display for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [(Flags, &str); 8] = [
            (Flags::SYN, "SYN"),
            (Flags::FIN, "FIN"),
            (Flags::RST, "RST"),
            (Flags::PSH, "PSH"),
            (Flags::URG, "URG"),
            (Flags::ECE, "ECE"),
            (Flags::CWR, "CWR"),
            (Flags::ACK, "ACK"),
        ];
        let mut separator = "";
        for (_, name) in NAMES.iter().filter(|(flag, _)| self.has(*flag)) {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        if separator.is_empty() { f.write_str("-") } else { Ok(()) }
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A TCP header as values, and the length of the payload beside it.
///
/// With a super-packet, one header stands for a run of segments of [`segment_size`](Self::segment_size) bytes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// SEG.SEQ.
    pub seq: SeqNum,
    /// SEG.ACK; meaningless without [`Flags::ACK`].
    pub ack: SeqNum,
    /// Control flags.
    pub flags: Flags,
    /// The window field as it stands on the wire, unscaled.
    pub window: u16,
    /// The urgent pointer; meaningless without [`Flags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// Payload bytes.
    pub payload_len: u32,
    /// Payload bytes in each segment of a super-packet but the last; zero for a single segment.
    pub segment_size: u16,
}

/// Why bytes are no TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The data offset is below 5 or points past the end.
    #[error("the data offset of the TCP header lies")]
    BadOffset,
    /// Fewer than 20 bytes.
    #[error("fewer than 20 bytes are no TCP header")]
    Truncated,
}

impl Segment {
    /// Parses the header of `bytes` (header and payload, exactly) and returns it with its length. The checksum is not looked at.
    ///
    /// # Errors
    /// [`HeaderError`] if the bytes cannot hold the header that they announce.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), HeaderError> {
        let (fixed, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(HeaderError::Truncated)?;
        let header_len = usize::from(fixed[12] >> 4) * 4;
        let options = bytes.get(HEADER_LEN..header_len).ok_or(HeaderError::BadOffset)?;
        let payload_len = u32::try_from(bytes.len() - header_len).map_err(|_| HeaderError::BadOffset)?;
        let half = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let segment = Self {
            source_port: half(0),
            destination_port: half(2),
            seq: SeqNum(word(4)),
            ack: SeqNum(word(8)),
            flags: Flags(fixed[13]),
            window: half(14),
            urgent: half(18),
            options: Options::parse(options),
            payload_len,
            segment_size: 0,
        };
        Ok((segment, header_len))
    }

    /// Writes the header with a checksum of zero and returns its length, a multiple of four between 20 and 60.
    pub fn emit(&self, layout: OptionLayout, out: &mut [u8; HEADER_LEN_MAX]) -> usize {
        let (fixed, options) = out.split_at_mut(HEADER_LEN);
        let options: &mut [u8; OPTIONS_LEN_MAX] = options.try_into().expect("60 - 20 = 40");
        let header_len = HEADER_LEN + self.options.emit(layout, options);
        fixed[0..2].copy_from_slice(&self.source_port.to_be_bytes());
        fixed[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        fixed[12] = u8::try_from(header_len / 4).expect("at most 15") << 4;
        fixed[13] = self.flags.0;
        fixed[14..16].copy_from_slice(&self.window.to_be_bytes());
        fixed[16..18].copy_from_slice(&[0, 0]);
        fixed[18..20].copy_from_slice(&self.urgent.to_be_bytes());
        header_len
    }

    /// SEG.LEN: payload bytes, and one each for SYN and FIN.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.payload_len + u32::from(self.flags.has(Flags::SYN)) + u32::from(self.flags.has(Flags::FIN))
    }

    /// True if SEG.LEN is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sequence number after the segment: SEG.SEQ + SEG.LEN.
    #[must_use]
    pub fn end(&self) -> SeqNum {
        self.seq + self.len()
    }

    /// How many segments travelled under this header.
    #[must_use]
    pub fn count(&self) -> u32 {
        if self.segment_size == 0 { 1 } else { self.payload_len.div_ceil(u32::from(self.segment_size)).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn parse_inverts_emit(ports in proptest::num::u32::ANY, seq in proptest::num::u32::ANY, ack in proptest::num::u32::ANY,
                              flags in proptest::num::u8::ANY, window in proptest::num::u16::ANY, urgent in proptest::num::u16::ANY) {
            let segment = Segment {
                source_port: (ports >> 16) as u16,
                destination_port: (ports & 0xffff) as u16,
                seq: SeqNum(seq),
                ack: SeqNum(ack),
                flags: Flags(flags),
                window,
                urgent,
                ..Segment::default()
            };
            let mut out = [0; HEADER_LEN_MAX];
            let len = segment.emit(OptionLayout::Linux, &mut out);
            proptest::prop_assert_eq!(Segment::parse(&out[..len]), Ok((segment, len)));
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            if let Ok((segment, len)) = Segment::parse(&bytes) {
                proptest::prop_assert!(len >= HEADER_LEN && len + segment.payload_len as usize == bytes.len());
            }
        }
    }
}
