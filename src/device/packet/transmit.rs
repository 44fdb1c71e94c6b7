//! The sending half of a packet socket: frames gathered from header and payload views, in batches, and an answer to every error.

use super::super::interface::Framing;
use super::super::sys::mmsg::{self, BATCH_MAX};
use super::super::{Transmitter, complete, cut_front, is_super, virtio};
use super::Shared;
use crate::proto::TxFrame;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;

/// The sending half of a packet socket.
#[derive(Debug)]
pub(super) struct PacketTransmitter {
    shared: Arc<Shared>,
    /// Super-packets in a row that found no buffer.
    refusals: u32,
}

impl PacketTransmitter {
    /// A transmitter.
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, refusals: 0 }
    }

    /// How many frames from the front can go in one call: up to one that must be cut first.
    fn batch_len(&self, frames: &VecDeque<TxFrame>) -> usize {
        let mut slices = 0;
        let fits = |frame: &&TxFrame| {
            slices += SLICES_BEFORE_VIEWS + frame.views().len();
            slices <= SLICES_MAX && !self.must_cut(frame)
        };
        frames.iter().take(BATCH_MAX).take_while(fits).count()
    }

    fn must_cut(&self, frame: &TxFrame) -> bool {
        is_super(frame) && !self.shared.takes_super()
    }

    /// Sends the first `len` frames; says how many left.
    fn send(&self, frames: &VecDeque<TxFrame>, len: usize) -> io::Result<usize> {
        let mut headers = [[0; virtio::HEADER_LEN]; BATCH_MAX];
        for (header, frame) in headers.iter_mut().zip(frames.iter().take(len)) {
            *header = virtio::encode(frame);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut ends = [0; BATCH_MAX + 1];
        let mut end = 0;
        let mut put = |bytes| {
            slices[end] = IoSlice::new(bytes);
            end += 1;
            end
        };
        for (index, (header, frame)) in headers.iter().zip(frames.iter().take(len)).enumerate() {
            if self.shared.interface.framing == Framing::Virtio {
                put(header);
            }
            ends[index + 1] = put(frame.header());
            for view in frame.views() {
                ends[index + 1] = put(view);
            }
        }
        mmsg::send(self.shared.socket.as_fd(), ends[..=len].windows(2).map(|range| &slices[range[0]..range[1]]))
    }

    fn on_sent(&mut self, frames: &mut VecDeque<TxFrame>, count: usize) {
        for frame in frames.drain(..count.min(frames.len())) {
            let was_super = is_super(&frame);
            self.shared.interface.counters.on_sent(frame.len(), was_super);
            if was_super {
                self.refusals = 0;
            }
        }
    }

    /// Acts on an error about the frame at the front; passes on what the runtime must act on.
    fn on_error(&mut self, frames: &mut VecDeque<TxFrame>, error: io::Error) -> io::Result<()> {
        if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM)) && frames.front().is_some_and(is_super) {
            self.on_refused();
        }
        self.shared.interface.on_error(frames, error)
    }

    /// Gives super-packets up where they never leave: some drivers answer "no buffer" to every one.
    fn on_refused(&mut self) {
        self.refusals += 1;
        if self.refusals >= REFUSALS_MAX {
            self.refusals = 0;
            self.shared.interface.counters.super_off.add(1);
            self.shared.give_super_up();
        }
    }
}

impl Transmitter for PacketTransmitter {
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()> {
        let mut has_retried = false;
        while let Some(front) = frames.front() {
            if self.must_cut(front) {
                self.shared.interface.counters.cut.add(1);
                cut_front(frames);
                continue;
            }
            let len = self.batch_len(frames);
            if self.shared.interface.framing == Framing::Plain {
                frames.iter_mut().take(len).for_each(complete);
            }
            match self.send(frames, len) {
                Ok(count) => self.on_sent(frames, count),
                // A link that fell and came back leaves an error that is told to whoever calls next.
                Err(error) if self.shared.interface.is_link_down(&error) && !has_retried && self.shared.is_up() => has_retried = true,
                Err(error) => self.on_error(frames, error)?,
            }
        }
        Ok(())
    }
}

/// The virtio header and the frame's own.
const SLICES_BEFORE_VIEWS: usize = 2;

/// Slices in one batch: a few frames of many views or many of few. At least one frame always fits.
const SLICES_MAX: usize = 96;
const _: () = assert!(SLICES_BEFORE_VIEWS + crate::proto::link::FRAME_VIEWS_MAX <= SLICES_MAX);

/// How many super-packets in a row may find no buffer before there are no more of them.
const REFUSALS_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::interface::Interface;
    use crate::device::tests::super_frame;
    use socket2::{Domain, Socket, Type};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn transmitter() -> PacketTransmitter {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).expect("a socket");
        let interface = Interface::new(Framing::Virtio, &[]);
        let shared = Shared { socket, index: 0, interface, takes_super: AtomicBool::new(true) };
        PacketTransmitter::new(Arc::new(shared))
    }

    #[test]
    fn super_packets_end_when_eight_in_a_row_find_no_buffer() {
        let mut transmitter = transmitter();
        let refuse = |transmitter: &mut PacketTransmitter, frame| {
            let no_buffer = io::Error::from_raw_os_error(libc::ENOBUFS);
            transmitter.on_error(&mut VecDeque::from([frame]), no_buffer).expect("a loss");
        };
        (0..7).for_each(|_| refuse(&mut transmitter, super_frame(1000, 3000)));
        transmitter.on_sent(&mut VecDeque::from([super_frame(1000, 3000)]), 1);
        (0..7).for_each(|_| refuse(&mut transmitter, super_frame(1000, 3000)));
        refuse(&mut transmitter, super_frame(0, 1000));
        assert!(transmitter.shared.takes_super());
        refuse(&mut transmitter, super_frame(1000, 3000));
        assert!(!transmitter.shared.takes_super() && transmitter.shared.interface.is_stale.load(Ordering::Relaxed));
        assert_eq!(transmitter.shared.interface.counters.snapshot().super_off, 1);
    }

    #[test]
    fn batch_ends_where_slices_do() {
        let transmitter = transmitter();
        let frames: VecDeque<_> = (0..40).map(|_| super_frame(0, 10)).collect();
        assert_eq!(transmitter.batch_len(&frames), BATCH_MAX);
        let mut frame = super_frame(0, 0);
        while frame.put_view(bytes::Bytes::from_static(b"x")).is_ok() {}
        let frames: VecDeque<_> = (0..40).map(|_| frame.clone()).collect();
        assert_eq!(transmitter.batch_len(&frames), SLICES_MAX / (SLICES_BEFORE_VIEWS + frame.views().len()));
    }
}
