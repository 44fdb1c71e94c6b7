//! A device whose other end is your own code: a VPN, a tunnel, a fuzzer.
//!
//! Packets are finished: checksums complete, super-packets cut, each within the MTU; unless both sides want super-packets whole
//! ([`super_channel`]). They pass one at a time, as [`Bytes`], or in batches of [`Packet`]. Each direction holds at most 1024 packets and makes
//! its writer wait when it is full. Needs no executor and no privilege.

use super::pipe::{End, Nothing, Pipe, Refused};
use super::{
    Counters, Counts, Device, Notify, Readiness, Received, Receiver, Transmitter, complete, cut_front, is_super, must_cut, network_down,
};
use crate::proto::link::FRAME_LEN_MAX;
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
    make(link.with_segmentation(false).with_trusted_partial(false))
}

/// As [`channel_with`], for who wants fewer and longer packets: the stack hands over super-packets whole, and takes them.
///
/// A super-packet is longer than the MTU and says its [segment size](Packet::segment_size); whoever puts it on a wire cuts it, or has a TUN
/// with a virtio-net header do it. Its checksum is [partial](Checksum::Partial), and a partial one is believed of what you send. Single packets
/// are finished as ever. Use [`recv_batch`](ChannelPeer::recv_batch): [`recv`](ChannelPeer::recv) gives the bytes without the segment size.
///
/// # Example
/// Two stacks, joined by code of one's own:
/// ```
/// use std::{collections::VecDeque, io};
/// use synfin::{Stack, device::{ChannelPeer, super_channel}, proto::{Link, Medium}};
///
/// async fn forward(from: &ChannelPeer, to: &ChannelPeer) -> io::Result<()> {
///     let mut batch = Vec::new();
///     loop {
///         from.recv_batch(&mut batch, 64).await?;
///         let mut packets: VecDeque<_> = batch.drain(..).collect();
///         to.send_batch(&mut packets).await?;
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let link = Link::new(Medium::Ip, 1500);
/// let ((left, left_end), (right, right_end)) = (super_channel(link), super_channel(link));
/// let server = Stack::builder().device(left).address("10.9.0.1/24").start()?;
/// let client = Stack::builder().device(right).address("10.9.0.2/24").start()?;
/// let talk = async {
///     let listener = server.listen("10.9.0.1:80").await?;
///     let stream = client.connect("10.9.0.1:80").await?;
///     assert_eq!(listener.accept().await?.1, stream.local_addr()?);
///     io::Result::Ok(())
/// };
/// let wire = futures::future::join(forward(&left_end, &right_end), forward(&right_end, &left_end));
/// futures::executor::block_on(futures::future::select(std::pin::pin!(talk), std::pin::pin!(wire)));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn super_channel(link: Link) -> (Channel, ChannelPeer) {
    make(link.with_segmentation(true).with_trusted_partial(true))
}

fn make(link: Link) -> (Channel, ChannelPeer) {
    let (outgoing, incoming) = (Arc::new(Pipe::new(QUEUE_PACKETS_MAX)), Arc::new(Pipe::new(QUEUE_PACKETS_MAX)));
    let peer = ChannelPeer { from_stack: Arc::clone(&outgoing), to_stack: Arc::clone(&incoming), link };
    (Channel { outgoing: End::new(&outgoing), incoming: End::new(&incoming), link, counters: Arc::new(Counters::default()) }, peer)
}

/// A packet on a channel, and what is known of it. [`Bytes`] become one that is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The packet, or the Ethernet frame, by the link's medium.
    pub bytes: Bytes,
    /// What is known of its TCP checksum.
    pub checksum: Checksum,
    /// Payload bytes of each segment in a super-packet; zero for a single packet.
    pub segment_size: u16,
}

impl From<Bytes> for Packet {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, checksum: Checksum::Unknown, segment_size: 0 }
    }
}

/// The device's end of a channel.
#[derive(Debug)]
pub struct Channel {
    outgoing: End<Packet>,
    incoming: End<Packet>,
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
    from_stack: Arc<Pipe<Packet>>,
    to_stack: Arc<Pipe<Packet>>,
    link: Link,
}

impl ChannelPeer {
    /// Hands a packet to the stack.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when the queue is full, [`BrokenPipe`](io::ErrorKind::BrokenPipe) when the stack is gone,
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a packet beyond the MTU.
    pub fn try_send(&self, packet: Bytes) -> io::Result<()> {
        let packet = Packet::from(packet);
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
        self.from_stack.pop().map(|packet| packet.bytes).map_err(end_of_packets)
    }

    /// Hands packets to the stack, from the front of `packets`, as many as there is room for; says how many. Those behind stay.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), about the packet at the front, which stays there.
    pub fn try_send_batch(&self, packets: &mut VecDeque<Packet>) -> io::Result<usize> {
        let fitting = packets.iter().position(|packet| self.check_len(packet).is_err()).unwrap_or(packets.len());
        if fitting == 0 {
            return packets.front().map_or(Ok(0), |packet| self.check_len(packet).map(|()| 0));
        }
        let behind = packets.split_off(fitting);
        let answer = self.to_stack.push_many(packets);
        packets.extend(behind);
        answer.map_err(|refused| match refused {
            Refused::Closed(()) => io::ErrorKind::BrokenPipe.into(),
            Refused::Full(()) => io::ErrorKind::WouldBlock.into(),
        })
    }

    /// Hands all packets to the stack, waiting for room. Cancel safe: a cancelled call leaves in `packets` what it has not sent.
    ///
    /// # Errors
    /// As [`try_send_batch`](Self::try_send_batch), but for `WouldBlock`.
    pub async fn send_batch(&self, packets: &mut VecDeque<Packet>) -> io::Result<()> {
        poll_fn(|context| {
            while !packets.is_empty() {
                match self.try_send_batch(packets) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.to_stack.poll_room(context)),
                    Err(error) => return Poll::Ready(Err(error)),
                    Ok(_) => {}
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Takes up to `max` packets that the stack has sent, to the end of `packets`; says how many.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_batch(&self, packets: &mut Vec<Packet>, max: usize) -> io::Result<usize> {
        self.from_stack.pop_many(packets, max).map_err(end_of_packets)
    }

    /// Waits for packets that the stack sends, and takes up to `max` of them. Cancel safe: no packet is lost.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_batch(&self, packets: &mut Vec<Packet>, max: usize) -> io::Result<usize> {
        poll_fn(|context| self.from_stack.poll_pop_many(context, packets, max).map_err(end_of_packets)).await
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
        self.from_stack.poll_pop(context).map_ok(|packet| packet.bytes).map_err(end_of_packets)
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

    fn check_len(&self, packet: &Packet) -> io::Result<()> {
        let is_whole = packet.segment_size > 0 && self.link.segments_v4;
        let (len, len_max) = (packet.bytes.len(), if is_whole { FRAME_LEN_MAX } else { frame_len_max(&self.link) });
        if len <= len_max {
            return Ok(());
        }
        let text = format!("a packet of {len} bytes does not fit a link that takes {len_max}");
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
    incoming: End<Packet>,
    outgoing: Arc<Pipe<Packet>>,
    link: Link,
    counters: Arc<Counters>,
}

impl Receiver for ChannelReceiver {
    fn link(&mut self) -> (Link, u64) {
        let is_open = self.incoming.is_open();
        (if is_open { self.link } else { self.link.lost() }, u64::from(!is_open))
    }

    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        let Packet { bytes, checksum, segment_size } = self.incoming.pop().map_err(|nothing| match nothing {
            Nothing::Closed => network_down(),
            Nothing::Empty => io::ErrorKind::WouldBlock.into(),
        })?;
        buffer.extend_from_slice(&bytes);
        self.counters.on_received(bytes.len(), segment_size);
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
struct ChannelTransmitter {
    outgoing: End<Packet>,
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
            let was_super = is_super(frame);
            if frame.len() > if was_super { FRAME_LEN_MAX } else { frame_len_max(&self.link) } {
                self.counters.oversize.add(1);
                frames.pop_front();
                continue;
            }
            if !was_super {
                complete(frame);
            }
            let mut packet = Packet::from(Bytes::from(frame.to_vec()));
            if was_super {
                (packet.checksum, packet.segment_size) = (Checksum::Partial, frame.segment_size);
            }
            let len = packet.bytes.len();
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
    fn super_packet_passes_whole_each_way() {
        let (device, peer) = super_channel(Link::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1])), 1500));
        let counters = device.counters();
        let (mut receiver, mut transmitter) = Box::new(device).split();
        let frame = super_frame(1000, 2500);
        let whole = Packet { bytes: frame.to_vec().into(), checksum: Checksum::Partial, segment_size: 1000 };
        transmitter.transmit(&mut VecDeque::from([frame, super_frame(0, 10)])).expect("room");
        let mut batch = Vec::new();
        assert_eq!(peer.try_recv_batch(&mut batch, 10).expect("two packets"), 2);
        assert_eq!(batch[0], whole);
        assert_eq!((batch[1].checksum, batch[1].segment_size), (Checksum::Unknown, 0));
        verify(&batch[1].bytes);

        assert_eq!(peer.try_send_batch(&mut VecDeque::from(batch)).expect("room"), 2);
        let mut buffer = BytesMut::new();
        assert_eq!(receiver.receive(&mut buffer).expect("whole"), Received { checksum: Checksum::Partial, segment_size: 1000 });
        assert_eq!(buffer, whole.bytes);
        let counts = counters.snapshot();
        assert_eq!((counts.sent_super, counts.received_super, counts.cut), (1, 1, 0));
    }

    #[test]
    fn batch_stops_at_what_does_not_fit() {
        let (device, peer) = channel();
        let (mut receiver, _transmitter) = Box::new(device).split();
        let mut packets: VecDeque<Packet> = [20, 1501, 20].map(|len| packet(len).into()).into();
        assert_eq!(peer.try_send_batch(&mut packets).expect("the first fits"), 1);
        assert_eq!(peer.try_send_batch(&mut packets).expect_err("too long").kind(), io::ErrorKind::InvalidInput);
        packets.pop_front();
        assert_eq!((peer.try_send_batch(&mut packets).expect("it fits"), peer.try_send_batch(&mut packets).expect("nothing")), (1, 0));
        // Not on a channel of finished packets, whatever it says of itself.
        let super_packet = Packet { segment_size: 1000, ..packet(2000).into() };
        assert!(peer.try_send_batch(&mut VecDeque::from([super_packet])).is_err());

        let mut many: VecDeque<Packet> = (0..QUEUE_PACKETS_MAX).map(|_| packet(20).into()).collect();
        assert_eq!(peer.try_send_batch(&mut many).expect("room for some"), QUEUE_PACKETS_MAX - 2);
        let mut sending = tokio_test::task::spawn(peer.send_batch(&mut many));
        assert!(sending.poll().is_pending());
        let mut buffer = BytesMut::new();
        for _ in 0..QUEUE_PACKETS_MAX / 2 {
            receiver.receive(&mut buffer).expect("a packet");
        }
        assert!(sending.is_woken());
        assert!(matches!(sending.poll(), Poll::Ready(Ok(()))));
    }

    #[test]
    fn batch_wakes_its_reader() {
        let (device, peer) = channel();
        let (_receiver, mut transmitter) = Box::new(device).split();
        let mut packets = Vec::new();
        let mut receiving = tokio_test::task::spawn(peer.recv_batch(&mut packets, 2));
        assert!(receiving.poll().is_pending());
        let mut frames: VecDeque<_> = (0..3).map(|_| super_frame(0, 10)).collect();
        transmitter.transmit(&mut frames).expect("room");
        assert!(receiving.is_woken());
        assert!(matches!(receiving.poll(), Poll::Ready(Ok(2))));
        drop(receiving);
        drop(transmitter);
        assert_eq!(peer.try_recv_batch(&mut packets, 9).expect("the last"), 1);
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
