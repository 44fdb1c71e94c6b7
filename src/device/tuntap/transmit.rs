//! The sending half of a TUN or TAP interface: one write per frame, gathered from header and payload views, and an answer to every error.

use super::super::interface::Framing;
use super::super::{Transmitter, complete, cut_front, is_super, virtio};
use super::attach::Shared;
use crate::proto::TxFrame;
use crate::proto::link::FRAME_VIEWS_MAX;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;

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
        let front = match self.shared.interface.framing {
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
}

impl Transmitter for TunTransmitter {
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()> {
        while let Some(front) = frames.front_mut() {
            if self.shared.interface.framing == Framing::Plain {
                if is_super(front) {
                    self.shared.interface.counters.cut.add(1);
                    cut_front(frames);
                    continue;
                }
                complete(front);
            }
            match self.send(front) {
                Ok(_) => {
                    self.shared.interface.counters.on_sent(front.len(), is_super(front));
                    frames.pop_front();
                }
                Err(error) => self.shared.interface.on_error(frames, error)?,
            }
        }
        Ok(())
    }
}

/// The virtio header, the frame's own, and its views.
const SLICES_MAX: usize = 2 + FRAME_VIEWS_MAX;
