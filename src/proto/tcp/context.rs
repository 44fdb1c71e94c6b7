//! What a connection borrows for the length of one call, what it knows of its path, and what it tells its owner.

use super::buffer::Pool;
use super::config::Config;
use super::counters::Counters;
use crate::proto::Instant;

/// Time, knobs and memory, lent by the engine.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) config: &'a Config,
    pub(crate) pool: &'a mut Pool,
    pub(crate) counters: &'a mut Counters,
}

/// What the path to the peer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The largest segment in bytes, TCP options and payload: MTU less IP header and 20.
    pub(crate) mss: u16,
    /// The longest payload and options of a super-packet in bytes; zero when the link cuts none.
    pub(crate) super_len: u32,
}

/// What has changed for the application: a set of edges, or of levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u8);

impl Events {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A read, or on a listener an accept, would not block.
    pub const READABLE: Self = Self(1);
    /// A write would not block.
    pub const WRITABLE: Self = Self(2);
    /// No more data will arrive.
    pub const READ_CLOSED: Self = Self(4);
    /// No more data can be written.
    pub const WRITE_CLOSED: Self = Self(8);
    /// The connection ended by anything but a close in good order.
    pub const ERROR: Self = Self(16);
    /// Urgent data was announced (RFC 9293 MUST-32).
    pub const URGENT: Self = Self(32);

    /// True if every event of `other` is in the set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if any event of `other` is in the set.
    #[must_use]
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True if the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These events without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl std::ops::BitOr for Events {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
