//! A wire inside the process: two ends, each a [`Device`].
//!
//! Each direction holds at most [`QUEUE_FRAMES_MAX`] frames; a full one refuses, so the wire itself loses nothing (loss is the business of
//! the simulator). Payload stays shared with the sender until the receiver copies it out, once. Dropping an end takes the link down for good.

use super::pipe::{End, Nothing, Pipe, Refused};
use super::{
    Counters, Counts, Device, Notify, Readiness, Received, Receiver, Transmitter, complete, cut_front, is_super, must_cut, network_down,
};
use crate::proto::link::FRAME_LEN_MAX;
use crate::proto::{Checksum, Link, MacAddress, Medium, TxFrame};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// How many frames each direction holds.
pub const QUEUE_FRAMES_MAX: usize = 1024;

/// Two ends of an Ethernet link that takes super-packets and trusts partial checksums, with an MTU of 1500 bytes.
#[must_use]
pub fn pair() -> (Memory, Memory) {
    let link =
        |last| Link::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, last])), 1500).with_segmentation(true).with_trusted_partial(true);
    pair_with(link(1), link(2))
}

/// Two ends of a link of which the first end sees the facts `left`, the second `right`.
///
/// An end cuts what its own link doesn't, and completes the checksums that the other end wouldn't believe.
#[must_use]
pub fn pair_with(left: Link, right: Link) -> (Memory, Memory) {
    let (there, back) = (Arc::new(Pipe::new(QUEUE_FRAMES_MAX)), Arc::new(Pipe::new(QUEUE_FRAMES_MAX)));
    let end = |outgoing: &Arc<_>, incoming: &Arc<_>, link, peer: Link| Memory {
        outgoing: End::new(outgoing),
        incoming: End::new(incoming),
        link,
        peer_trusts_partial: peer.trusts_partial,
        counters: Arc::new(Counters::default()),
    };
    (end(&there, &back, left, right), end(&back, &there, right, left))
}

/// One end of a wire inside the process.
///
/// # Example
/// ```
/// use synfin::device::memory;
/// use synfin::proto::{Link, Medium};
///
/// // Bare IP packets, no offload: what a simple TUN device is.
/// let (ours, theirs) = memory::pair_with(Link::new(Medium::Ip, 1400), Link::new(Medium::Ip, 1400));
/// # drop((ours, theirs));
/// ```
#[derive(Debug)]
pub struct Memory {
    outgoing: End<Parcel>,
    incoming: End<Parcel>,
    link: Link,
    peer_trusts_partial: bool,
    counters: Arc<Counters>,
}

impl Memory {
    /// The live counters, which outlive the device.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Device for Memory {
    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        let Self { outgoing, incoming, link, peer_trusts_partial, counters } = *self;
        let sender = outgoing.pipe();
        let receiver = MemoryReceiver { incoming, outgoing: sender, link, counters: Arc::clone(&counters) };
        (Box::new(receiver), Box::new(MemoryTransmitter { outgoing, link, peer_trusts_partial, counters }))
    }
}

/// A frame on its way.
#[derive(Debug)]
struct Parcel {
    frame: TxFrame,
    checksum: Checksum,
}

#[derive(Debug)]
struct MemoryReceiver {
    incoming: End<Parcel>,
    outgoing: Arc<Pipe<Parcel>>,
    link: Link,
    counters: Arc<Counters>,
}

impl Receiver for MemoryReceiver {
    fn link(&mut self) -> (Link, u64) {
        let is_open = self.incoming.is_open();
        (if is_open { self.link } else { self.link.lost() }, u64::from(!is_open))
    }

    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        let Parcel { frame, checksum } = self.incoming.pop().map_err(|nothing| match nothing {
            Nothing::Closed => network_down(),
            Nothing::Empty => io::ErrorKind::WouldBlock.into(),
        })?;
        buffer.extend_from_slice(frame.header());
        frame.views().iter().for_each(|view| buffer.extend_from_slice(view));
        let segment_size = if is_super(&frame) { frame.segment_size } else { 0 };
        self.counters.on_received(frame.len(), segment_size);
        Ok(Received { checksum, segment_size })
    }

    fn readiness(&mut self, notify: Notify) -> Readiness {
        self.incoming.tell_reader(notify.clone());
        self.outgoing.tell_writer(notify);
        Readiness::Notified
    }

    fn counts(&self) -> Counts {
        self.counters.snapshot()
    }
}

#[derive(Debug)]
struct MemoryTransmitter {
    outgoing: End<Parcel>,
    link: Link,
    peer_trusts_partial: bool,
    counters: Arc<Counters>,
}

impl MemoryTransmitter {
    fn is_oversize(&self, frame: &TxFrame) -> bool {
        let longest = usize::from(self.link.mtu) + usize::from(frame.network_offset);
        if is_super(frame) { frame.len() > FRAME_LEN_MAX } else { frame.len() > longest }
    }
}

impl Transmitter for MemoryTransmitter {
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()> {
        while let Some(frame) = frames.front() {
            if must_cut(frame, &self.link) {
                self.counters.cut.add(1);
                cut_front(frames);
                continue;
            }
            if self.is_oversize(frame) {
                self.counters.oversize.add(1);
                frames.pop_front();
                continue;
            }
            let Some(mut frame) = frames.pop_front() else { break };
            if !self.peer_trusts_partial {
                complete(&mut frame);
            }
            let checksum = if frame.transport_offset == 0 { Checksum::Unknown } else { Checksum::Partial };
            let (len, was_super) = (frame.len(), is_super(&frame));
            match self.outgoing.push(Parcel { frame, checksum }) {
                Ok(()) => self.counters.on_sent(len, was_super),
                Err(Refused::Full(Parcel { frame, .. })) => {
                    self.counters.link_full.add(1);
                    frames.push_front(frame);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(Refused::Closed(_)) => {
                    self.counters.link_down.add(1 + frames.len() as u64);
                    frames.clear();
                    return Err(network_down());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::{super_frame, verify};
    use crate::proto::link::RECEIVE_ROOM;
    use std::sync::atomic::{AtomicUsize, Ordering};

    type Halves = (Box<dyn Receiver>, Box<dyn Transmitter>);

    fn open((left, right): (Memory, Memory)) -> (Halves, Halves) {
        (Box::new(left).split(), Box::new(right).split())
    }

    fn receive(receiver: &mut dyn Receiver) -> io::Result<(BytesMut, Received)> {
        let mut buffer = BytesMut::with_capacity(RECEIVE_ROOM);
        receiver.receive(&mut buffer).map(|received| (buffer, received))
    }

    #[test]
    fn super_packet_travels_whole() {
        let ((_left, mut transmitter), (mut receiver, _right)) = open(pair());
        let frame = super_frame(1000, 4500);
        transmitter.transmit(&mut VecDeque::from([frame.clone()])).expect("room");
        let (bytes, received) = receive(receiver.as_mut()).expect("a frame");
        assert_eq!(&bytes[..], frame.to_vec());
        assert_eq!(received, Received { checksum: Checksum::Partial, segment_size: 1000 });
        assert_eq!(receive(receiver.as_mut()).expect_err("empty").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn plain_link_gets_complete_segments() {
        let link = Link::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1])), 1500);
        let ((sender, mut transmitter), (mut receiver, _right)) = open(pair_with(link, link));
        transmitter.transmit(&mut VecDeque::from([super_frame(1000, 4500), super_frame(0, 7)])).expect("room");
        let mut lengths = Vec::new();
        while let Ok((bytes, received)) = receive(receiver.as_mut()) {
            assert_eq!(received, Received { checksum: Checksum::Unknown, segment_size: 0 });
            verify(&bytes);
            lengths.push(bytes.len() - 54);
        }
        assert_eq!(lengths, [1000, 1000, 1000, 1000, 500, 7]);
        assert_eq!(sender.counts().cut, 1);
    }

    #[test]
    fn full_link_keeps_the_frame_and_announces_room() {
        let ((mut left, mut transmitter), (mut receiver, _right)) = open(pair());
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        left.readiness(Notify::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let mut frames: VecDeque<_> = (0..QUEUE_FRAMES_MAX + 3).map(|_| super_frame(0, 1)).collect();
        assert_eq!(transmitter.transmit(&mut frames).expect_err("full").kind(), io::ErrorKind::WouldBlock);
        assert_eq!(frames.len(), 3);
        assert_eq!(left.counts().link_full, 1);
        (0..QUEUE_FRAMES_MAX / 2).for_each(|_| drop(receive(receiver.as_mut()).expect("a frame")));
        assert_eq!(told.load(Ordering::Relaxed), 1);
        transmitter.transmit(&mut frames).expect("room again");
    }

    #[test]
    fn frame_beyond_the_mtu_is_dropped_and_counted() {
        let ((left, mut transmitter), (mut receiver, _right)) = open(pair());
        transmitter.transmit(&mut VecDeque::from([super_frame(0, 1461), super_frame(0, 1460)])).expect("room");
        assert_eq!(receive(receiver.as_mut()).expect("the second").0.len(), 1514);
        assert_eq!(left.counts().oversize, 1);
    }

    #[test]
    fn dropped_end_takes_the_link_down() {
        let ((mut receiver, mut transmitter), right) = open(pair());
        let (_, before) = receiver.link();
        drop(right);
        let (link, after) = receiver.link();
        assert!(!link.up && after != before);
        let mut frames = VecDeque::from([super_frame(0, 1)]);
        assert_eq!(transmitter.transmit(&mut frames).expect_err("down").kind(), io::ErrorKind::NetworkDown);
        assert!(frames.is_empty());
        assert_eq!(receive(receiver.as_mut()).expect_err("down").kind(), io::ErrorKind::NetworkDown);
        assert_eq!(receiver.counts().link_down, 1);
    }
}
