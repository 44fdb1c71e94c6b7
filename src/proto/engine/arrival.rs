//! A segment on its way from the link to whom it is for. Knows nothing of either.

use crate::proto::link::MacAddress;
use crate::proto::wire::{Segment, Tuple};

/// A segment and where it came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Seen from this side.
    pub(super) tuple: Tuple,
    pub(super) segment: Segment,
    /// The Ethernet address of the sender, or of its router.
    pub(super) from: Option<MacAddress>,
}
