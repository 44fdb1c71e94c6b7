//! The receiving half of a raw IP device: segments first, then ICMP errors; and the facts about the link.
//!
//! The kernel hands over what it has merged, and what this host sent, with a partial checksum and nothing that says so. It is told by the
//! checksum field, which then holds the sum of the pseudo header (RFC 9293 §3.1).

use super::super::interface::Watch;
use super::super::sys::mmsg;
use super::super::{Counts, Notify, Readiness, Received, Receiver};
use super::Shared;
use crate::proto::wire::{Address, Sum};
use crate::proto::{Checksum, Link};
use bytes::BytesMut;
use socket2::Socket;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// The receiving half.
#[derive(Debug)]
pub(super) struct RawReceiver {
    shared: Arc<Shared>,
    watch: Watch,
}

impl RawReceiver {
    /// A receiver that begins with `link`.
    pub(super) fn new(shared: Arc<Shared>, link: Link) -> Self {
        Self { shared, watch: Watch::new(link) }
    }

    fn receive_from(&self, socket: &Socket, buffer: &mut BytesMut) -> io::Result<Received> {
        self.shared.interface.receive(buffer, |front, buffer| mmsg::receive(socket.as_fd(), front, buffer))
    }
}

impl Receiver for RawReceiver {
    fn link(&mut self) -> (Link, u64) {
        if self.watch.is_due(&self.shared.interface) {
            self.watch.update(self.shared.link(), || self.shared.settle());
        }
        self.watch.link()
    }

    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        let before = buffer.len();
        match self.receive_from(&self.shared.tcp, buffer) {
            Ok(received) => {
                let received = judge(&buffer[before..], self.watch.link().0.mtu).unwrap_or(received);
                self.shared.interface.counters.received_super.add(u64::from(received.segment_size != 0));
                Ok(received)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.receive_from(&self.shared.icmp, buffer),
            Err(error) => Err(error),
        }
    }

    fn readiness(&mut self, _notify: Notify) -> Readiness {
        Readiness::Descriptor(self.shared.tcp.as_raw_fd())
    }

    fn counts(&self) -> Counts {
        self.shared.interface.counters.snapshot()
    }
}

/// What a TCP packet with a partial checksum is; none for any other packet, which the engine judges.
fn judge(packet: &[u8], mtu: u16) -> Option<Received> {
    let header_len = usize::from(packet.first()? & 0x0f) * 4;
    let segment = packet.get(header_len..)?;
    let address = |at: usize| packet.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let [source, destination] =
        [address(SOURCE_OFFSET)?, address(DESTINATION_OFFSET)?].map(|octets| Address::new(Ipv4Addr::from(octets).into()));
    let sum = Sum::pseudo_header(source, destination, TCP, u32::try_from(segment.len()).ok()?);
    if segment.get(CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2)? != sum.partial() {
        return None;
    }
    let headers = u16::try_from(header_len + usize::from(segment[DATA_OFFSET] >> 4) * 4).ok()?;
    // The kernel does not say of which segments it has merged a packet: full ones, most likely.
    let segment_size = if packet.len() > usize::from(mtu) { mtu.saturating_sub(headers) } else { 0 };
    Some(Received { checksum: Checksum::Partial, segment_size })
}

/// Where the addresses stand in an IPv4 header (RFC 791 §3.1), in bytes.
const SOURCE_OFFSET: usize = 12;
const DESTINATION_OFFSET: usize = 16;

/// Where the header's length and the checksum stand in a TCP header (RFC 9293 §3.1), in bytes.
const DATA_OFFSET: usize = 12;
const CHECKSUM_OFFSET: usize = 16;

/// TCP's protocol number.
const TCP: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::complete;
    use crate::device::tests::super_frame;

    #[test]
    fn partial_checksum_is_told_from_a_full_one() {
        let mut frame = super_frame(0, 100);
        let partial = frame.to_vec().split_off(14);
        assert_eq!(judge(&partial, 1500), Some(Received { checksum: Checksum::Partial, segment_size: 0 }));
        assert_eq!(judge(&partial, 100), Some(Received { checksum: Checksum::Partial, segment_size: 60 }));
        complete(&mut frame);
        assert_eq!(judge(&frame.to_vec()[14..], 1500), None);
    }

    #[test]
    fn cut_off_packets_are_left_to_the_engine() {
        let whole = super_frame(0, 0).to_vec().split_off(14);
        for len in 0..whole.len() {
            assert_eq!(judge(&whole[..len], 1500), None, "{len} bytes");
        }
    }
}
