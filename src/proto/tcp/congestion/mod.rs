//! How much may be in flight (RFC 5681): a trait for authors, an enum for callers.
//!
//! The enum keeps the common controllers off the heap and free of dynamic calls; only [`Congestion::Custom`] pays for them. A controller is
//! told bytes and times; it knows neither sequence numbers nor SACK.

mod reno;

pub use reno::Reno;

use std::time::Duration;

use super::config::{Config, CongestionControl};
use crate::proto::Instant;

/// New data was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// When.
    pub now: Instant,
    /// Bytes newly acknowledged.
    pub bytes: u32,
    /// Bytes in flight before.
    pub in_flight: u32,
    /// The round-trip time that this acknowledgment measured.
    pub rtt: Option<Duration>,
    /// True if the window was what held the sender back.
    pub window_limited: bool,
}

/// Loss was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When.
    pub now: Instant,
    /// Bytes in flight when it was detected.
    pub in_flight: u32,
}

/// A congestion controller. All windows are in bytes.
pub trait Controller: Send + std::fmt::Debug {
    /// Its name, as `ss -i` would print it.
    fn name(&self) -> &'static str;
    /// cwnd.
    fn window(&self) -> u32;
    /// ssthresh.
    fn threshold(&self) -> u32;
    /// New data was acknowledged outside of recovery.
    fn on_acknowledged(&mut self, event: Acknowledged);
    /// A duplicate acknowledgment in fast recovery: a segment of `bytes` has left the network.
    fn on_duplicate(&mut self, bytes: u32);
    /// Fast retransmit begins.
    fn on_loss(&mut self, event: Loss);
    /// A partial acknowledgment in fast recovery.
    fn on_partial(&mut self, bytes: u32);
    /// Fast recovery is over; `in_flight` bytes remain out.
    fn on_recovered(&mut self, in_flight: u32);
    /// The retransmission timer expired; `first` time for this data.
    fn on_timeout(&mut self, event: Loss, repeat: Repeat);
    /// The connection was idle for longer than the RTO.
    fn on_idle(&mut self);
    /// The effective MSS changed, in bytes.
    fn on_mss(&mut self, mss: u32);
}

/// Whether a time-out hit the same data as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It is the first for this data.
    First,
    /// The retransmission was lost too.
    Again,
}

/// The controllers that a connection can run.
#[derive(Debug)]
pub enum Congestion {
    /// A user's own.
    Custom(Box<dyn Controller>),
    /// A fixed window in bytes.
    Fixed(u32),
    /// RFC 5681.
    Reno(Reno),
}

macro_rules! dispatch {
    ($self:ident, $controller:ident => $call:expr, fixed $window:ident => $fixed:expr) => {
        match $self {
            Self::Custom($controller) => $call,
            Self::Fixed($window) => $fixed,
            Self::Reno($controller) => $call,
        }
    };
}

impl Congestion {
    pub(crate) fn new(config: &Config, mss: u32, segments: u32) -> Self {
        match config.congestion {
            CongestionControl::None => Self::Fixed(config.send_buffer),
            CongestionControl::Reno => Self::Reno(Reno::new(mss, segments)),
        }
    }

    pub(crate) fn window(&self) -> u32 {
        dispatch!(self, c => c.window(), fixed window => *window)
    }

    pub(crate) fn threshold(&self) -> u32 {
        dispatch!(self, c => c.threshold(), fixed _window => u32::MAX)
    }

    pub(crate) fn on_acknowledged(&mut self, event: Acknowledged) {
        dispatch!(self, c => c.on_acknowledged(event), fixed _window => ());
    }

    pub(crate) fn on_duplicate(&mut self, bytes: u32) {
        dispatch!(self, c => c.on_duplicate(bytes), fixed _window => ());
    }

    pub(crate) fn on_loss(&mut self, event: Loss) {
        dispatch!(self, c => c.on_loss(event), fixed _window => ());
    }

    pub(crate) fn on_partial(&mut self, bytes: u32) {
        dispatch!(self, c => c.on_partial(bytes), fixed _window => ());
    }

    pub(crate) fn on_recovered(&mut self, in_flight: u32) {
        dispatch!(self, c => c.on_recovered(in_flight), fixed _window => ());
    }

    pub(crate) fn on_timeout(&mut self, event: Loss, repeat: Repeat) {
        dispatch!(self, c => c.on_timeout(event, repeat), fixed _window => ());
    }

    pub(crate) fn on_idle(&mut self) {
        dispatch!(self, c => c.on_idle(), fixed _window => ());
    }

    pub(crate) fn on_mss(&mut self, mss: u32) {
        dispatch!(self, c => c.on_mss(mss), fixed _window => ());
    }
}
