//! The sending half of a TUN or TAP interface: one write per frame, gathered from header and payload views, and an answer to every error.

use super::super::{Transmitter, complete, cut_front, is_super, network_down, virtio};
use super::attach::{Framing, Shared, is_link_down};
use crate::proto::TxFrame;
use crate::proto::link::FRAME_VIEWS_MAX;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The sending half.
#[derive(Debug)]
pub(super) struct TunTransmitter {
    shared: Arc<Shared>,
}

impl TunTransmitter {
    /// A transmitter.
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn send(&self, frame: &TxFrame) -> io::Result<usize> {
        let header = virtio::encode(frame);
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let front = match self.shared.framing {
            Framing::Virtio => &header[..],
            Framing::Plain => &[],
        };
        let pieces = [front, frame.header()].into_iter().chain(frame.views().iter().map(|view| &view[..]));
        let mut len = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            len += 1;
        }
        (&self.shared.tun).write_vectored(&slices[..len])
    }

    /// Acts on an error about the frame at the front; passes on what the runtime must act on.
    fn on_error(&self, frames: &mut VecDeque<TxFrame>, error: io::Error) -> io::Result<()> {
        let counters = &self.shared.counters;
        match error.raw_os_error() {
            Some(libc::EINTR) => return Ok(()),
            Some(libc::EAGAIN) => {
                counters.link_full.add(1);
                return Err(error);
            }
            Some(libc::ENOBUFS | libc::ENOMEM) => counters.no_buffer.add(1),
            Some(libc::EMSGSIZE) => counters.oversize.add(1),
            _ if is_link_down(&error) => {
                counters.link_down.add(frames.len() as u64);
                frames.clear();
                self.shared.is_stale.store(true, Ordering::Relaxed);
                return Err(network_down());
            }
            _ => counters.refused.add(1),
        }
        frames.pop_front();
        Ok(())
    }
}

impl Transmitter for TunTransmitter {
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()> {
        while let Some(front) = frames.front_mut() {
            if self.shared.framing == Framing::Plain {
                if is_super(front) {
                    self.shared.counters.cut.add(1);
                    cut_front(frames);
                    continue;
                }
                complete(front);
            }
            match self.send(front) {
                Ok(_) => {
                    self.shared.counters.on_sent(front.len(), is_super(front));
                    frames.pop_front();
                }
                Err(error) => self.on_error(frames, error)?,
            }
        }
        Ok(())
    }
}

/// The virtio header, the frame's own, and its views.
const SLICES_MAX: usize = 2 + FRAME_VIEWS_MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Counts;
    use crate::device::tests::super_frame;

    /// What is left of two frames, what was counted, and what the runtime is told after `errno`.
    fn after(errno: i32) -> (usize, Counts, Option<io::ErrorKind>) {
        let transmitter = TunTransmitter::new(Arc::new(Shared::detached()));
        let mut frames = VecDeque::from([super_frame(0, 1), super_frame(0, 2)]);
        let answer = transmitter.on_error(&mut frames, io::Error::from_raw_os_error(errno));
        (frames.len(), transmitter.shared.counters.snapshot(), answer.err().map(|error| error.kind()))
    }

    #[test]
    fn each_error_has_its_answer() {
        let none = Counts::default();
        assert_eq!(after(libc::EAGAIN), (2, Counts { link_full: 1, ..none }, Some(io::ErrorKind::WouldBlock)));
        assert_eq!(after(libc::EINTR), (2, none, None));
        assert_eq!(after(libc::ENOBUFS), (1, Counts { no_buffer: 1, ..none }, None));
        assert_eq!(after(libc::EMSGSIZE), (1, Counts { oversize: 1, ..none }, None));
        assert_eq!(after(libc::EINVAL), (1, Counts { refused: 1, ..none }, None));
        for errno in [libc::EIO, libc::ENETDOWN, libc::EBADFD, libc::ENODEV] {
            assert_eq!(after(errno), (0, Counts { link_down: 2, ..none }, Some(io::ErrorKind::NetworkDown)));
        }
    }
}
