//! The sending half of a raw IP device: one call per packet, with a header of our own (`IP_HDRINCL`), to where its header says.

use super::super::{Transmitter, complete, cut_front, is_super};
use super::Shared;
use crate::proto::TxFrame;
use crate::proto::link::FRAME_VIEWS_MAX;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// The sending half.
#[derive(Debug)]
pub(super) struct RawTransmitter {
    shared: Arc<Shared>,
}

impl RawTransmitter {
    /// A transmitter.
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn send(&self, frame: &TxFrame) -> io::Result<usize> {
        let destination = destination(frame.header()).ok_or(io::ErrorKind::InvalidInput)?;
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let pieces = [frame.header()].into_iter().chain(frame.views().iter().map(|view| &view[..]));
        let mut len = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            len += 1;
        }
        self.shared.tcp.send_to_vectored(&slices[..len], &SocketAddrV4::new(destination, 0).into())
    }
}

impl Transmitter for RawTransmitter {
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()> {
        while let Some(front) = frames.front_mut() {
            if is_super(front) {
                self.shared.interface.counters.cut.add(1);
                cut_front(frames);
                continue;
            }
            complete(front);
            match self.send(front) {
                Ok(_) => {
                    self.shared.interface.counters.on_sent(front.len(), false);
                    frames.pop_front();
                }
                Err(error) => self.shared.interface.on_error(frames, error)?,
            }
        }
        Ok(())
    }
}

/// Where an IPv4 packet goes; none for any other packet.
fn destination(header: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = header.get(DESTINATION_OFFSET..DESTINATION_OFFSET + 4)?.try_into().ok()?;
    (header[0] >> 4 == 4).then(|| octets.into())
}

/// Where the destination stands in an IPv4 header (RFC 791 §3.1), in bytes.
const DESTINATION_OFFSET: usize = 16;

/// The frame's header and its views.
const SLICES_MAX: usize = 1 + FRAME_VIEWS_MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::super_frame;

    #[test]
    fn destination_is_the_headers() {
        let mut packet = super_frame(0, 0).to_vec().split_off(14);
        assert_eq!(destination(&packet), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(destination(&packet[..19]), None);
        packet[0] = 0x65;
        assert_eq!(destination(&packet), None);
    }
}
