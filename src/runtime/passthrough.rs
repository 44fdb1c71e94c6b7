//! Where packets go that are not for the stack: the program's own code, called with no lock of the engine's held; and how its answers leave.

use std::io;

use bytes::Bytes;

use super::Stack;
use super::sync::Lock;
use crate::proto::{PacketError, Passed};

impl Stack {
    /// Sends an IP packet of the program's own over the stack's link, such as the answer to one that the sink of a
    /// [`passthrough`](super::Builder::passthrough) got: to the neighbour or gateway that the stack's routes name, as it is, from whatever
    /// source. Checksums must be complete. Never blocks.
    ///
    /// # Errors
    /// `InvalidInput` for what is no whole IP packet, or is a fragment; `EMSGSIZE` beyond the link's MTU; `NetworkUnreachable` without a route
    /// to a single host on the link; `HostUnreachable` if the neighbour does not answer; `WouldBlock` while 1,024 answers wait to leave, or
    /// when the neighbour has just been asked for its Ethernet address: the same call succeeds a moment later.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (device, wire) = synfin::device::channel();
    /// let stack = synfin::Stack::builder().device(device).address("10.9.0.2/24").start()?;
    /// let mut datagram = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0x66, 0xb9, 10, 9, 0, 2, 10, 9, 0, 1];
    /// datagram.extend_from_slice(&[0, 53, 0x9c, 0x40, 0, 12, 0, 0]);
    /// datagram.extend_from_slice(b"10.0");
    /// stack.send_packet(datagram.clone().into())?;
    /// assert_eq!(wire.blocking_recv()?, datagram);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_packet(&self, packet: Bytes) -> io::Result<()> {
        self.shard().call(|core, now| core.engine.send_packet(now, packet))?.map_err(|error| match error {
            PacketError::HostUnreachable => io::ErrorKind::HostUnreachable.into(),
            PacketError::Malformed => io::Error::new(io::ErrorKind::InvalidInput, error),
            PacketError::NetworkUnreachable => io::ErrorKind::NetworkUnreachable.into(),
            PacketError::TooLong => io::Error::from_raw_os_error(libc::EMSGSIZE),
            PacketError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        })
    }
}

/// The program's code.
type Take = dyn FnMut(Passed) -> io::Result<()> + Send;

/// Takes packets; called by one thread at a time.
pub(crate) struct PacketSink(Lock<Box<Take>>);

impl PacketSink {
    /// Hands packets to `take`.
    pub(crate) fn new(take: impl FnMut(Passed) -> io::Result<()> + Send + 'static) -> Self {
        Self(Lock::new(Box::new(take)))
    }

    /// Hands one packet over; false if it was refused. After a panic in the program's code everything is.
    pub(crate) fn take(&self, packet: Passed) -> bool {
        self.0.lock().is_ok_and(|mut take| take(packet).is_ok())
    }
}

impl std::fmt::Debug for PacketSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PacketSink")
    }
}
