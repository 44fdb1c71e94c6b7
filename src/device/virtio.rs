//! The virtio-net header (virtio 1.2 §5.1.6) that stands before each frame on packet sockets and TAP devices: which checksum is missing, and
//! how a super-packet is to be cut. Ten bytes in the byte order of the machine.
//!
//! ```text
//!   0       1          2         4          6            8             10
//!   | flags | gso_type | hdr_len | gso_size | csum_start | csum_offset | frame …
//! ```

use super::{Received, is_super};
use crate::proto::{Checksum, TxFrame};

/// The length of the header in bytes.
pub(super) const HEADER_LEN: usize = 10;

/// The header for a frame that is sent.
pub(super) fn encode(frame: &TxFrame) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    if frame.transport_offset == 0 {
        return bytes;
    }
    bytes[0] = NEEDS_CHECKSUM;
    let mut put = |at: usize, value: u16| bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    put(6, u16::from(frame.transport_offset));
    put(8, TCP_CHECKSUM_OFFSET);
    if is_super(frame) {
        // Without its length the kernel would keep the whole frame in one piece of memory.
        put(2, u16::try_from(frame.header().len()).unwrap_or(0));
        put(4, frame.segment_size);
        bytes[1] = segmentation(frame);
    }
    bytes
}

/// What the header of a received frame says.
pub(super) fn decode(header: [u8; HEADER_LEN]) -> Received {
    let [flags, kind, _, _, size_low, size_high, ..] = header;
    let checksum = match flags {
        flags if flags & NEEDS_CHECKSUM != 0 => Checksum::Partial,
        flags if flags & DATA_VALID != 0 => Checksum::Verified,
        _ => Checksum::Unknown,
    };
    let segment_size = match kind & !HAS_CWR {
        TCP_V4 | TCP_V6 => u16::from_ne_bytes([size_low, size_high]),
        _ => 0,
    };
    Received { checksum, segment_size }
}

/// How a super-packet is to be cut: by its IP version, and with CWR on the first segment only if it is set (RFC 3168 §6.1.2).
fn segmentation(frame: &TxFrame) -> u8 {
    let byte = |at: usize| frame.header().get(at).copied().unwrap_or(0);
    let kind = if byte(usize::from(frame.network_offset)) >> 4 == 6 { TCP_V6 } else { TCP_V4 };
    let has_cwr = byte(usize::from(frame.transport_offset) + TCP_FLAGS_OFFSET) & TCP_CWR != 0;
    kind | if has_cwr { HAS_CWR } else { 0 }
}

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const HAS_CWR: u8 = 0x80;
const TCP_CHECKSUM_OFFSET: u16 = 16;
const TCP_FLAGS_OFFSET: usize = 13;
const TCP_CWR: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::super_frame;

    fn fields(bytes: [u8; HEADER_LEN]) -> (u8, u8, [u16; 4]) {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        (bytes[0], bytes[1], [word(2), word(4), word(6), word(8)])
    }

    #[test]
    fn super_packet_is_described_in_full() {
        assert_eq!(fields(encode(&super_frame(1448, 14_480))), (1, 1, [54, 1448, 34, 16]));
        let mut frame = super_frame(1448, 14_480);
        frame.header_mut()[47] |= 0x80;
        assert_eq!(encode(&frame)[1], 0x81);
        frame.header_mut()[14] = 0x60;
        assert_eq!(encode(&frame)[1], 0x84);
    }

    #[test]
    fn segment_lacks_only_its_checksum() {
        assert_eq!(fields(encode(&super_frame(1448, 1448))), (1, 0, [0, 0, 34, 16]));
    }

    #[test]
    fn other_packets_lack_nothing() {
        let mut frame = super_frame(0, 20);
        frame.transport_offset = 0;
        assert_eq!(encode(&frame), [0; HEADER_LEN]);
    }

    #[test]
    fn flags_say_what_is_known() {
        let received = |flags, kind| decode([flags, kind, 66, 0, 200, 5, 34, 0, 16, 0]);
        let size = u16::from_ne_bytes([200, 5]);
        assert_eq!(received(1, 1), Received { checksum: Checksum::Partial, segment_size: size });
        assert_eq!(received(2, 0x84), Received { checksum: Checksum::Verified, segment_size: size });
        assert_eq!(received(0, 3), Received { checksum: Checksum::Unknown, segment_size: 0 });
    }
}
