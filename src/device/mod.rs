//! Where frames come from and where they go: the trait between the runtime and a wire, and the wires there are.
//!
//! | wire | what it is |
//! |---|---|
//! | [`PacketSocket`] | a Linux interface, through AF_PACKET |
//! | [`Tap`], [`Tun`] | an interface of the kernel's whose other side is this program |
//! | [`RawIp`] | the kernel's routing, through raw sockets on an address of its own |
//! | [`memory::pair`] | two ends in one process |
//! | [`channel()`] | packets to and from your own code: a VPN, a tunnel, a fuzzer |
//! | your own | anything that is [`Device`] |
//!
//! A device moves bytes. It owns descriptors, queues and what the link can do ([`Link`]); it knows nothing of connections, has no thread and
//! reads no packet further than it must to hand it on. At its edge it makes up for what the link lacks: it completes checksums and cuts
//! super-packets. The crate's only `unsafe` is in `device/sys`.
//!
//! ```text
//!   runtime ── VecDeque<TxFrame> ─► Transmitter::transmit ─► wire      locked separately, so that one thread
//!           ◄─ BytesMut + Received ─ Receiver::receive    ◄─ wire      sends while another receives
//!           ◄─ Readiness: a descriptor to poll, or Notify::wake
//! ```
//!
//! # Example
//!
//! One frame over a memory wire:
//!
//! ```
//! use std::collections::VecDeque;
//! use bytes::BytesMut;
//! use synfin::device::{Device, memory};
//! use synfin::proto::{TxFrame, link::RECEIVE_ROOM};
//!
//! let (left, right) = memory::pair();
//! let (_, mut transmitter) = Box::new(left).split();
//! let (mut receiver, _) = Box::new(right).split();
//!
//! let mut frame = TxFrame::new();
//! frame.put_header(b"\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5hello");
//! transmitter.transmit(&mut VecDeque::from([frame]))?;
//!
//! let mut buffer = BytesMut::with_capacity(RECEIVE_ROOM);
//! receiver.receive(&mut buffer)?;
//! assert_eq!(&buffer[14..], b"hello");
//! assert_eq!(receiver.counts().received_frames, 1);
//! # std::io::Result::Ok(())
//! ```

mod channel;
mod counters;
pub mod memory;
mod pipe;

#[cfg(target_os = "linux")]
pub mod host;
#[cfg(target_os = "linux")]
mod interface;
#[cfg(all(target_os = "linux", feature = "lab"))]
pub mod namespace;
#[cfg(target_os = "linux")]
mod packet;
#[cfg(target_os = "linux")]
mod raw_ip;
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the system calls that no safe wrapper offers; one operation to a block, each with its argument")]
mod sys;
#[cfg(target_os = "linux")]
mod tuntap;
#[cfg(target_os = "linux")]
mod virtio;

pub use channel::{Channel, ChannelPeer, Packet, channel, channel_with, super_channel};
pub use counters::{Counters, Counts};
pub use memory::Memory;
#[cfg(target_os = "linux")]
pub use packet::{Offloads, PacketSocket};
#[cfg(target_os = "linux")]
pub use raw_ip::RawIp;
#[cfg(target_os = "linux")]
pub use tuntap::{Tap, Tun};

use crate::proto::{Checksum, Link, TxFrame};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// A source and sink of frames.
///
/// The trait is open: a wire of your own is one `impl` each of [`Device`], [`Receiver`] and [`Transmitter`].
pub trait Device: Send + 'static {
    /// What the link is called, for people who read a capture of it. None, which is the default, for a link without a name.
    fn name(&self) -> Option<&str> {
        None
    }

    /// Splits into halves that are locked separately: one thread may receive while another transmits.
    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>);
}

/// The half of a device that hands over what arrives. It also knows the link.
pub trait Receiver: Send {
    /// Facts about the link, and a version that changes whenever they do.
    ///
    /// Called once per turn, so it must be cheap: a cached value, refreshed now and then. A link that comes back is noticed here and nowhere
    /// else, so while the link is down a caller with nothing to do still asks some ten times a second.
    fn link(&mut self) -> (Link, u64);

    /// Appends one frame to `buffer`, which has at least [`RECEIVE_ROOM`](crate::proto::link::RECEIVE_ROOM) bytes of spare capacity.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when no frame waits: the next one is announced as [`readiness`](Self::readiness) said.
    /// [`NetworkDown`](io::ErrorKind::NetworkDown) when the link is down, once per fall at least. Any other error is one lost frame, counted
    /// by the device; `buffer` is unchanged and the call may be repeated at once.
    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received>;

    /// How the runtime learns that frames wait, and that a full link has room again. Called once, before anything else.
    fn readiness(&mut self, notify: Notify) -> Readiness;

    /// What the device has counted so far.
    fn counts(&self) -> Counts {
        Counts::default()
    }
}

/// The half of a device that sends.
pub trait Transmitter: Send {
    /// Sends frames from the front of `frames`, removing each one that left or was lost, until it is empty.
    ///
    /// A TCP frame's checksum is partial and it may be a super-packet ([`TxFrame::segment_size`]); what [`Receiver::link`] says the link can't
    /// do, the device does here.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): the link is full; the frame that found it so stays at the front, and room is announced as
    /// [`Receiver::readiness`] said. [`NetworkDown`](io::ErrorKind::NetworkDown): the link is down and `frames` is empty, all of them lost.
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()>;
}

/// What is known of a frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// What is known about its TCP checksum.
    pub checksum: Checksum,
    /// Payload bytes of each segment in a super-packet; zero for a single segment.
    pub segment_size: u16,
}

/// How a device announces frames and room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Poll this descriptor, edge-triggered, for both directions. It stays open as long as the [`Receiver`] lives.
    Descriptor(RawFd),
    /// The device calls [`Notify::wake`] when a frame arrives at an empty queue or a full link has room.
    Notified,
}

/// Wakes the poller of the runtime that owns a device. Cheap to clone; callable from any thread, at any time, also in vain.
#[derive(Clone)]
pub struct Notify(Arc<dyn Fn() + Send + Sync>);

impl Notify {
    /// A handle that calls `wake`, which must not block and may be called from within [`Transmitter::transmit`].
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes the poller.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notify")
    }
}

/// The error of a link that is down.
fn network_down() -> io::Error {
    io::ErrorKind::NetworkDown.into()
}

/// True if `frame` has to be cut before it goes to a link that cuts only as `link` says.
fn must_cut(frame: &TxFrame, link: &Link) -> bool {
    let segments = match frame.header().get(usize::from(frame.network_offset)) {
        Some(byte) if byte >> 4 == 6 => link.segments_v6,
        Some(_) | None => link.segments_v4,
    };
    is_super(frame) && !segments
}

/// True for a frame that stands for more than one segment.
fn is_super(frame: &TxFrame) -> bool {
    frame.segment_size != 0 && frame.payload_len() > usize::from(frame.segment_size)
}

/// Replaces the frame at the front by the segments that it stands for.
fn cut_front(frames: &mut VecDeque<TxFrame>) {
    let Some(frame) = frames.pop_front() else { return };
    let behind = frames.len();
    frames.extend(crate::proto::cut::cut(&frame));
    // The pieces stand at the back, in order; turning the queue brings them to the front.
    frames.rotate_left(behind);
}

/// Completes the checksum of a TCP frame, once.
fn complete(frame: &mut TxFrame) {
    if frame.transport_offset != 0 {
        crate::proto::cut::complete(frame);
        frame.transport_offset = 0;
    }
}

#[cfg(test)]
mod tests {
    //! Frames for the tests of the devices.

    use super::*;
    use crate::proto::wire::{Address, Sum};
    use bytes::Bytes;
    use std::net::Ipv4Addr;

    /// A TCP frame over Ethernet and IPv4, 10.0.0.1 to 10.0.0.2, with a partial checksum and a pattern of `len` bytes as payload.
    pub(super) fn super_frame(segment_size: u16, len: usize) -> TxFrame {
        let mut header = vec![0; 54];
        header[12..14].copy_from_slice(&[8, 0]);
        header[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6]);
        header[16..18].copy_from_slice(&u16::try_from(40 + len).expect("a short frame").to_be_bytes());
        header[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = Sum::of(&header[14..34]).complete();
        header[24..26].copy_from_slice(&sum);
        header[46..48].copy_from_slice(&[0x50, 0x18]);
        let sum = pseudo_header(20 + len).partial();
        header[50..52].copy_from_slice(&sum);
        let mut frame = TxFrame::new();
        frame.put_header(&header);
        let pattern: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let (first, second) = pattern.split_at(len / 3);
        frame.put_view(Bytes::copy_from_slice(first)).expect("room");
        frame.put_view(Bytes::copy_from_slice(second)).expect("room");
        (frame.network_offset, frame.transport_offset, frame.segment_size) = (14, 34, segment_size);
        frame
    }

    /// Asserts that both checksums of a frame made by [`super_frame`] are complete and right.
    pub(super) fn verify(frame: &[u8]) {
        assert!(Sum::of(&frame[14..34]).is_intact(), "IPv4 header checksum");
        assert!((pseudo_header(frame.len() - 34) + Sum::of(&frame[34..])).is_intact(), "TCP checksum");
    }

    fn pseudo_header(len: usize) -> Sum {
        let address = |last| Address::new(Ipv4Addr::new(10, 0, 0, last).into());
        Sum::pseudo_header(address(1), address(2), 6, u32::try_from(len).expect("short"))
    }

    #[test]
    fn pieces_take_the_place_of_their_super_packet() {
        let mut frames = VecDeque::from([super_frame(10, 25), super_frame(0, 3)]);
        cut_front(&mut frames);
        let lengths: Vec<_> = frames.iter().map(TxFrame::payload_len).collect();
        assert_eq!(lengths, [10, 10, 5, 3]);
    }
}
