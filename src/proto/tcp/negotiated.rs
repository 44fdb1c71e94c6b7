//! What the two SYNs of a connection agree on (RFC 9293 §3.7.1, RFC 7323 §2, RFC 2018 §2).

use super::config::Config;
use crate::proto::wire::options::WINDOW_SCALE_MAX;
use crate::proto::wire::{Options, Tuple};

/// What both SYNs agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// What the peer's MSS option said, or the default, clamped from below.
    pub(crate) mss: u16,
    /// Window scaling, if both asked for it.
    pub(crate) scales: Option<Scales>,
    pub(crate) sack: bool,
}

/// Shift counts of the window field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scales {
    /// Snd.Wind.Shift: of the windows that the peer announces.
    pub(crate) send: u8,
    /// Rcv.Wind.Shift: of the windows that we announce.
    pub(crate) receive: u8,
}

impl Negotiated {
    /// From the peer's SYN and our side's configuration.
    pub(crate) fn new(config: &Config, receive_buffer: u32, peer: &Options, tuple: &Tuple) -> Self {
        let default = if tuple.is_v4() { MSS_DEFAULT_V4 } else { MSS_DEFAULT_V6 };
        let scales = peer
            .window_scale
            .filter(|_| config.window_scaling)
            .map(|shift| Scales { send: shift.min(WINDOW_SCALE_MAX), receive: receive_scale(config, receive_buffer) });
        Self { mss: peer.mss.unwrap_or(default).max(config.mss_min), scales, sack: peer.sack_permitted && config.sack }
    }
}

/// The smallest shift with which a window field can announce the whole buffer.
pub(crate) fn receive_scale(config: &Config, receive_buffer: u32) -> u8 {
    let needed = (0..WINDOW_SCALE_MAX).find(|shift| u32::from(u16::MAX) << shift >= receive_buffer).unwrap_or(WINDOW_SCALE_MAX);
    config.window_scale.unwrap_or(needed).min(WINDOW_SCALE_MAX)
}

/// RFC 9293 MUST-15.
const MSS_DEFAULT_V4: u16 = 536;

/// RFC 9293 MUST-15.
const MSS_DEFAULT_V6: u16 = 1220;
