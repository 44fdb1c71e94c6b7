//! A device whose other end is your own code: a VPN, a tunnel, a fuzzer.
//!
//! Packets are [`Bytes`], finished: checksums complete, super-packets cut, each within the MTU. Each direction holds at most
//! 1024 packets and makes its writer wait when it is full. Needs no executor and no privilege.

use super::pipe::{End, Nothing, Pipe, Refused};
use super::{
    Counters, Counts, Device, Notify, Readiness, Received, Receiver, Transmitter, complete, cut_front, is_super, must_cut, network_down,
};
use crate::proto::{Checksum, Link, Medium, TxFrame};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread::Thread;

/// How many packets each direction holds.
const QUEUE_PACKETS_MAX: usize = 1024;

/// A device for bare IP packets with an MTU of 1500 bytes, and your end of it.
///
/// # Example
/// ```
/// use synfin::device::{Device, channel};
///
/// let (device, tunnel) = channel();
/// let (mut receiver, _transmitter) = Box::new(device).split();
/// tunnel.try_send(bytes::Bytes::from_static(b"an IP packet from the tunnel"))?;
///
/// let mut buffer = bytes::BytesMut::new();
/// receiver.receive(&mut buffer)?;
/// assert_eq!(&buffer[..], b"an IP packet from the tunnel");
/// # std::io::Result::Ok(())
/// ```
#[must_use]
pub fn channel() -> (Channel, ChannelPeer) {
    channel_with(Link::new(Medium::Ip, 1500))
}

/// A device with the medium and MTU of `link`, and your end of it. What `link` says of offloads is ignored: packets are finished.
#[must_use]
pub fn channel_with(link: Link) -> (Channel, ChannelPeer) {
    let link = link.with_segmentation(false).with_trusted_partial(false);
    let (outgoing, incoming) = (Arc::new(Pipe::new(QUEUE_PACKETS_MAX)), Arc::new(Pipe::new(QUEUE_PACKETS_MAX)));
    let peer = ChannelPeer { from_stack: Arc::clone(&outgoing), to_stack: Arc::clone(&incoming), frame_len_max: frame_len_max(&link) };
    (Channel { outgoing: End::new(&outgoing), incoming: End::new(&incoming), link, counters: Arc::new(Counters::default()) }, peer)
}

/// The device's end of a channel.
#[derive(Debug)]
pub struct Channel {
    outgoing: End<Bytes>,
    incoming: End<Bytes>,
    link: Link,
    counters: Arc<Counters>,
}

impl Channel {
    /// The live counters, which outlive the device.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

/// Your end of a channel.
///
/// Every method takes `&self`, so that one task can send while another receives (behind an [`Arc`]). In each direction one task waits at a
/// time: the last to wait is the one woken. Dropping this end takes the link down for good:
/// every connection over it ends with [`NetworkDown`](io::ErrorKind::NetworkDown).
#[derive(Debug)]
pub struct ChannelPeer {
    from_stack: Arc<Pipe<Bytes>>,
    to_stack: Arc<Pipe<Bytes>>,
    frame_len_max: usize,
}

impl ChannelPeer {
    /// Hands a packet to the stack.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when the queue is full, [`BrokenPipe`](io::ErrorKind::BrokenPipe) when the stack is gone,
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a packet beyond the MTU.
    pub fn try_send(&self, packet: Bytes) -> io::Result<()> {
        self.check_len(&packet)?;
        self.to_stack.push(packet).map_err(|refused| match refused {
            Refused::Closed(_) => io::ErrorKind::BrokenPipe.into(),
            Refused::Full(_) => io::ErrorKind::WouldBlock.into(),
        })
    }

    /// Hands a packet to the stack, waiting for room. Cancel safe: a cancelled call has sent nothing.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), but for `WouldBlock`.
    pub async fn send(&self, packet: Bytes) -> io::Result<()> {
        poll_fn(|context| self.poll_send(context, &packet)).await
    }

    /// Hands a packet to the stack, blocking the thread until there is room.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn blocking_send(&self, packet: &Bytes) -> io::Result<()> {
        block_on(|context| self.poll_send(context, packet))
    }

    /// Takes a packet that the stack has sent.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is none; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when there will be none:
    /// the stack is gone.
    pub fn try_recv(&self) -> io::Result<Bytes> {
        self.from_stack.pop().map_err(end_of_packets)
    }

    /// Waits for a packet that the stack sends. Cancel safe: no packet is lost.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when the stack is gone.
    pub async fn recv(&self) -> io::Result<Bytes> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Polls for a packet that the stack sends.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, context: &Context<'_>) -> Poll<io::Result<Bytes>> {
        self.from_stack.poll_pop(context).map_err(end_of_packets)
    }

    /// Blocks the thread until the stack sends a packet.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn blocking_recv(&self) -> io::Result<Bytes> {
        block_on(|context| self.poll_recv(context))
    }

    fn poll_send(&self, context: &Context<'_>, packet: &Bytes) -> Poll<io::Result<()>> {
        loop {
            match self.try_send(packet.clone()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.to_stack.poll_room(context)),
                answer => return Poll::Ready(answer),
            }
        }
    }

    fn check_len(&self, packet: &Bytes) -> io::Result<()> {
        if packet.len() <= self.frame_len_max {
            return Ok(());
        }
        let text = format!("a packet of {} bytes does not fit a link that takes {}", packet.len(), self.frame_len_max);
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

impl Drop for ChannelPeer {
    fn drop(&mut self) {
        self.from_stack.close();
        self.to_stack.close();
    }
}

impl Device for Channel {
    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        let Self { outgoing, incoming, link, counters } = *self;
        let sender = outgoing.pipe();
        let receiver = ChannelReceiver { incoming, outgoing: sender, link, counters: Arc::clone(&counters) };
        (Box::new(receiver), Box::new(ChannelTransmitter { outgoing, link, counters }))
    }
}

#[derive(Debug)]
struct ChannelReceiver {
    incoming: End<Bytes>,
    outgoing: Arc<Pipe<Bytes>>,
    link: Link,
    counters: Arc<Counters>,
}

impl Receiver for ChannelReceiver {
    fn link(&mut self) -> (Link, u64) {
        let is_open = self.incoming.is_open();
        (if is_open { self.link } else { self.link.lost() }, u64::from(!is_open))
    }

    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        let packet = self.incoming.pop().map_err(|nothing| match nothing {
            Nothing::Closed => network_down(),
            Nothing::Empty => io::ErrorKind::WouldBlock.into(),
        })?;
        buffer.extend_from_slice(&packet);
        self.counters.on_received(packet.len(), 0);
        Ok(Received { checksum: Checksum::Unknown, segment_size: 0 })
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
struct ChannelTransmitter {
    outgoing: End<Bytes>,
    link: Link,
    counters: Arc<Counters>,
}

impl Transmitter for ChannelTransmitter {
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()> {
        while let Some(frame) = frames.front_mut() {
            if must_cut(frame, &self.link) {
                self.counters.cut.add(1);
                cut_front(frames);
                continue;
            }
            if frame.len() > frame_len_max(&self.link) {
                self.counters.oversize.add(1);
                frames.pop_front();
                continue;
            }
            complete(frame);
            let (packet, was_super) = (Bytes::from(frame.to_vec()), is_super(frame));
            let len = packet.len();
            match self.outgoing.push(packet) {
                Ok(()) => self.counters.on_sent(len, was_super),
                Err(Refused::Full(_)) => {
                    self.counters.link_full.add(1);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(Refused::Closed(_)) => {
                    self.counters.link_down.add(frames.len() as u64);
                    frames.clear();
                    return Err(network_down());
                }
            }
            frames.pop_front();
        }
        Ok(())
    }
}

/// The longest frame of a link that cuts nothing, in bytes.
fn frame_len_max(link: &Link) -> usize {
    let header_len = match link.medium {
        Medium::Ethernet(_) => ETHERNET_HEADER_LEN,
        Medium::Ip => 0,
    };
    header_len + usize::from(link.mtu)
}

fn end_of_packets(nothing: Nothing) -> io::Error {
    match nothing {
        Nothing::Closed => io::ErrorKind::UnexpectedEof.into(),
        Nothing::Empty => io::ErrorKind::WouldBlock.into(),
    }
}

/// Polls on the calling thread, parking it in between.
fn block_on<T>(mut poll: impl FnMut(&Context<'_>) -> Poll<T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match poll(&Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Destination, source and type.
const ETHERNET_HEADER_LEN: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::{super_frame, verify};
    use crate::proto::MacAddress;

    fn packet(len: usize) -> Bytes {
        Bytes::from(vec![0x45; len])
    }

    #[test]
    fn super_packet_leaves_as_finished_segments() {
        let (device, peer) = channel_with(Link::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1])), 1500).with_segmentation(true));
        let (_receiver, mut transmitter) = Box::new(device).split();
        transmitter.transmit(&mut VecDeque::from([super_frame(1000, 2500)])).expect("room");
        for len in [1000, 1000, 500] {
            let packet = peer.try_recv().expect("a segment");
            assert_eq!(packet.len(), 54 + len);
            verify(&packet);
        }
        assert_eq!(peer.try_recv().expect_err("empty").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn full_queue_makes_the_sender_wait() {
        let (device, peer) = channel();
        let (mut receiver, _transmitter) = Box::new(device).split();
        (0..QUEUE_PACKETS_MAX).for_each(|_| peer.try_send(packet(20)).expect("room"));
        assert_eq!(peer.try_send(packet(20)).expect_err("full").kind(), io::ErrorKind::WouldBlock);
        let mut sending = tokio_test::task::spawn(peer.send(packet(21)));
        assert!(sending.poll().is_pending());
        let mut buffer = BytesMut::new();
        for _ in 0..QUEUE_PACKETS_MAX / 2 {
            receiver.receive(&mut buffer).expect("a packet");
        }
        assert!(sending.is_woken());
        assert!(matches!(sending.poll(), Poll::Ready(Ok(()))));
    }

    #[test]
    fn blocking_ends_meet_across_threads() {
        let (device, peer) = channel_with(Link::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1])), 1500));
        let (_receiver, mut transmitter) = Box::new(device).split();
        let reader = std::thread::spawn(move || (0..3000).map(|_| peer.blocking_recv().expect("a packet").len()).sum::<usize>());
        let mut frames: VecDeque<_> = (0..3000).map(|_| super_frame(0, 10)).collect();
        while transmitter.transmit(&mut frames).is_err() {
            std::thread::yield_now();
        }
        assert_eq!(reader.join().expect("no panic"), 3000 * 64);
    }

    #[test]
    fn packet_beyond_the_mtu_is_refused() {
        let (_device, peer) = channel();
        assert_eq!(peer.try_send(packet(1501)).expect_err("too long").kind(), io::ErrorKind::InvalidInput);
        peer.try_send(packet(1500)).expect("it fits");
    }

    #[test]
    fn either_end_sees_the_other_go() {
        let (device, peer) = channel();
        drop(device);
        assert_eq!(peer.try_recv().expect_err("gone").kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(peer.try_send(packet(20)).expect_err("gone").kind(), io::ErrorKind::BrokenPipe);

        let (device, peer) = channel();
        let (mut receiver, _transmitter) = Box::new(device).split();
        drop(peer);
        assert!(!receiver.link().0.up);
        assert_eq!(receiver.receive(&mut BytesMut::new()).expect_err("gone").kind(), io::ErrorKind::NetworkDown);
    }
}
