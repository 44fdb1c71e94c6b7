//! Frames between the engine and the device: a bounded queue, filled under the shard's lock, emptied outside of it.
//!
//! The order on the wire is the order in which frames entered here, whichever thread brought them or takes them out.

use std::collections::VecDeque;

use crate::proto::{Sink, TxFrame};

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Egress {
    frames: VecDeque<TxFrame>,
    bytes: usize,
}

impl Egress {
    /// True if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Moves all frames into the empty queue `batch`, whose capacity comes back in exchange.
    pub(crate) fn take(&mut self, batch: &mut VecDeque<TxFrame>) {
        debug_assert!(batch.is_empty(), "frames that did not leave stay in front");
        std::mem::swap(&mut self.frames, batch);
        self.bytes = 0;
    }
}

impl Sink for Egress {
    fn has_room(&self) -> bool {
        self.frames.len() < FRAMES_MAX && self.bytes < BYTES_MAX
    }

    fn push(&mut self, frame: TxFrame) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }
}

/// Frames that may wait: sixteen batches of a device.
const FRAMES_MAX: usize = 256;

/// Bytes after which no further frame is taken: sixteen super-packets.
const BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize) -> TxFrame {
        let mut frame = TxFrame::new();
        frame.put_header(&[0; 14]);
        frame.put_view(vec![0; payload].into()).expect("room for a view");
        frame
    }

    #[test]
    fn it_is_bounded_in_frames_and_in_bytes() {
        let mut egress = Egress::default();
        while egress.has_room() {
            egress.push(frame(1));
        }
        let mut batch = VecDeque::new();
        egress.take(&mut batch);
        assert_eq!(batch.len(), FRAMES_MAX);
        assert!(egress.has_room() && egress.is_empty());
        while egress.has_room() {
            egress.push(frame(65_000));
        }
        assert_eq!(egress.frames.len(), BYTES_MAX.div_ceil(65_014));
    }
}
