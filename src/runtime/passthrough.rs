//! Where packets go that are not for the stack: the program's own code, called with no lock of the engine's held.

use std::io;

use super::sync::Lock;
use crate::proto::Passed;

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
