//! Socket options: what an application may set on one connection. New sockets begin with the engine's configuration.

use std::time::Duration;

use super::config::{Config, Keepalive};

/// The options of one socket.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Send small segments at once: Nagle's algorithm off.
    pub nodelay: bool,
    /// Hold back partial segments, for 200 ms at most.
    pub cork: bool,
    /// Acknowledge at once.
    pub quickack: bool,
    /// A drop of the stream sends RST and discards what is queued.
    pub zero_linger: bool,
    /// Keepalive probes are sent.
    pub keepalive: bool,
    /// When keepalive probes are sent.
    pub keepalive_times: Keepalive,
    /// How long data may stay unacknowledged.
    pub user_timeout: Option<Duration>,
    /// TTL or hop limit of sent packets.
    pub hop_limit: u8,
    /// DSCP of sent packets, in the upper six bits; the two ECN bits are masked.
    pub traffic_class: u8,
    /// Send buffer in bytes.
    pub send_buffer: u32,
    /// Receive buffer in bytes.
    pub receive_buffer: u32,
}

impl SocketOptions {
    /// What a new socket begins with.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            nodelay: !config.nagle,
            cork: config.cork,
            quickack: false,
            zero_linger: false,
            keepalive: config.keepalive.is_some(),
            keepalive_times: config.keepalive.unwrap_or_default(),
            user_timeout: config.user_timeout,
            hop_limit: config.hop_limit,
            traffic_class: config.traffic_class & !3,
            send_buffer: config.send_buffer,
            receive_buffer: config.receive_buffer,
        }
    }

    /// Changes one option.
    pub fn set(&mut self, option: SocketOption) {
        match option {
            SocketOption::Cork(on) => self.cork = on,
            SocketOption::HopLimit(hops) => self.hop_limit = hops,
            SocketOption::Keepalive(on) => self.keepalive = on,
            SocketOption::KeepaliveTimes(times) => self.keepalive_times = times,
            SocketOption::Nodelay(on) => self.nodelay = on,
            SocketOption::Quickack(on) => self.quickack = on,
            SocketOption::ReceiveBuffer(bytes) => self.receive_buffer = bytes.clamp(BUFFER_MIN, BUFFER_MAX),
            SocketOption::SendBuffer(bytes) => self.send_buffer = bytes.clamp(BUFFER_MIN, BUFFER_MAX),
            SocketOption::TrafficClass(class) => self.traffic_class = class & !3,
            SocketOption::UserTimeout(timeout) => self.user_timeout = timeout,
            SocketOption::ZeroLinger(on) => self.zero_linger = on,
        }
    }
}

/// One option and its new value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SocketOption {
    /// [`SocketOptions::cork`]
    Cork(bool),
    /// [`SocketOptions::hop_limit`]
    HopLimit(u8),
    /// [`SocketOptions::keepalive`]
    Keepalive(bool),
    /// [`SocketOptions::keepalive_times`]
    KeepaliveTimes(Keepalive),
    /// [`SocketOptions::nodelay`]
    Nodelay(bool),
    /// [`SocketOptions::quickack`]
    Quickack(bool),
    /// [`SocketOptions::receive_buffer`], clamped to 1 B..=1 GiB
    ReceiveBuffer(u32),
    /// [`SocketOptions::send_buffer`], clamped to 1 B..=1 GiB
    SendBuffer(u32),
    /// [`SocketOptions::traffic_class`]
    TrafficClass(u8),
    /// [`SocketOptions::user_timeout`]
    UserTimeout(Option<Duration>),
    /// [`SocketOptions::zero_linger`]
    ZeroLinger(bool),
}

/// The smallest buffer, in bytes: enough to make progress.
const BUFFER_MIN: u32 = 1;

/// The largest buffer, in bytes: the largest window that RFC 7323 §2.3 can announce.
const BUFFER_MAX: u32 = 1 << 30;
