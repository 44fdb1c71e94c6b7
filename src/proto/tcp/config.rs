//! Every knob of the engine, with its unit, default and source.
//!
//! [`Config::default`] is Linux's behaviour with the few stricter choices that `docs/compliance.md` lists; [`Config::rfc`] is the other preset.

use std::time::Duration;

use crate::proto::wire::OptionLayout;

/// Which congestion controller a connection starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CongestionControl {
    /// A fixed window of [`Config::send_buffer`]: for tests, never for a network.
    None,
    /// RFC 5681 with appropriate byte counting.
    #[default]
    Reno,
}

/// What a full accept queue does to the handshake's third segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BacklogPolicy {
    /// Linux's default: the ACK is ignored, the connection stays in SYN-RECEIVED and its SYN,ACK is sent again.
    #[default]
    Ignore,
    /// Linux's `tcp_abort_on_overflow`: a reset.
    Reset,
}

/// When a SYN is answered without keeping anything: by a cookie (RFC 4987 §3.6, Linux's `tcp_syncookies`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SynCookies {
    /// Never: a SYN without room for its record is dropped.
    Off,
    /// Linux's default: when the SYN cache, or the listener's share of it, is full.
    #[default]
    UnderPressure,
    /// Always: for tests. Round trips and, without timestamps, window scaling and SACK are lost.
    Always,
}

/// Keepalive: two people on a bad line who ask whether the other still hears them (RFC 9293 §3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes after which the connection is given up.
    pub count: u32,
}

impl Default for Keepalive {
    /// Two hours, 75 seconds, nine probes: Linux's `tcp_keepalive_*`.
    fn default() -> Self {
        Self { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), count: 9 }
    }
}

/// The knobs of an [`Engine`](crate::proto::Engine). Per-connection values are the defaults of new sockets.
///
/// | field | what | unit | default | source |
/// |---|---|---|---|---|
/// | `receive_buffer` | bytes that may wait to be read, holes and overhead charged; the window follows it | bytes | 2 MiB | the order of `tcp_rmem[2]` |
/// | `send_buffer` | bytes that may wait to be sent or acknowledged | bytes | 2 MiB | the order of `tcp_wmem[2]` |
/// | `window_scaling` | offer window scaling | - | on | RFC 7323 §2 |
/// | `window_scale` | the shift to offer | shift, at most 14 | the least for the buffer | RFC 7323 §2.3 |
/// | `mss` | the MSS to announce | bytes | from the MTU | RFC 9293 §3.7.1 |
/// | `mss_min` | what a smaller announcement of the peer counts as | bytes | 48 | `tcp_min_snd_mss` |
/// | `timestamps` | offer timestamps: PAWS, and round trips | - | on | RFC 7323 §3 |
/// | `sack` | offer SACK: holes are reported | - | on | RFC 2018 |
/// | `require_timestamps` | drop segments without agreed timestamps | - | off | RFC 7323 §3.2; off as in Linux |
/// | `option_layout` | order of the TCP options on the wire | - | Linux | - |
/// | `initial_window` | congestion window at the start | segments | 10 | RFC 6928 |
/// | `rto_initial` | first retransmission timeout | time | 1 s | RFC 6298 §2.1 |
/// | `rto_min` | least retransmission timeout | time | 200 ms | `TCP_RTO_MIN` |
/// | `rto_max` | greatest retransmission timeout | time | 120 s | `TCP_RTO_MAX` |
/// | `syn_retries` | SYNs sent again before an open fails | count | 6 | `tcp_syn_retries` |
/// | `syn_linear_timeouts` | timeouts of a SYN that do not double, besides those | count | 4 | `tcp_syn_linear_timeouts` |
/// | `syn_ack_retries` | SYN,ACKs sent again | count | 3 | stricter than `tcp_synack_retries`, 5 |
/// | `syn_ack_retries_under_pressure` | the same with the SYN cache half full | count | 1 | RFC 4987 §3.3 |
/// | `retries_r1` | retransmissions after which the route is doubted | count | 3 | `tcp_retries1` |
/// | `retries` | retransmissions, as time at doubled `rto_min`, until the end | count | 15 | `tcp_retries2` |
/// | `orphan_retries` | the same when nobody holds the socket | count | 8 | `tcp_orphan_retries` |
/// | `duplicate_ack_threshold` | duplicate ACKs that mean loss | count | 3 | RFC 5681 §3.2 |
/// | `fast_retransmit` | act on duplicate ACKs | - | on | RFC 5681 §3.2 |
/// | `limited_transmit` | new data for the first two duplicate ACKs | - | on | RFC 3042 |
/// | `slow_start_after_idle` | begin anew after an RTO of silence | - | on | RFC 5681 §4.1 |
/// | `congestion` | congestion controller | - | Reno | RFC 5681 |
/// | `delayed_ack` | longest delay of an ACK | time | 40 ms | `TCP_DELACK_MIN` |
/// | `quick_acks` | ACKs without delay at the start, and after disorder | count | 16 | `TCP_MAX_QUICKACKS` |
/// | `nagle` | hold a partial segment while one is in flight | - | on | RFC 9293 §3.7.4 |
/// | `cork` | hold every partial segment | - | off | `TCP_CORK` |
/// | `cork_timeout` | longest hold of a corked segment | time | 200 ms | `TCP_CORK` |
/// | `keepalive` | probe silent peers | idle, interval, count | off | RFC 9293 MUST-25 |
/// | `user_timeout` | longest wait for an acknowledgment | time | none | `TCP_USER_TIMEOUT` |
/// | `fin_wait_2` | wait for FIN when nobody holds the socket | time | 60 s | `tcp_fin_timeout` |
/// | `time_wait` | rest of a 4-tuple: 2 MSL | time | 60 s | `TCP_TIMEWAIT_LEN` |
/// | `time_wait_capacity` | 4-tuples that rest at once; the oldest goes first | count | 131,072 | `tcp_max_tw_buckets` |
/// | `ignore_reset_in_time_wait` | resets do not end the rest | - | on | RFC 1337 |
/// | `strict_reset` | only a reset at RCV.NXT ends a connection | - | on | RFC 5961 §3 |
/// | `strict_ack` | ACKs from before the window are challenged | - | on | RFC 5961 §5 |
/// | `challenge_ack_interval` | least time between challenge ACKs of a connection | time | 500 ms | `tcp_invalid_ratelimit` |
/// | `half_open_capacity` | half-open connections of all listeners | count | 2,048 | `tcp_max_syn_backlog` |
/// | `syn_cookies` | when SYNs are answered without keeping anything | - | under pressure | RFC 4987 §3.6, `tcp_syncookies` |
/// | `backlog_max` | cap of every listener's backlog | count | 4,096 | `somaxconn` |
/// | `backlog_policy` | what a full accept queue does | - | ignore | `tcp_abort_on_overflow` |
/// | `reassembly_ranges` | ranges out of order per connection | count | 128 | - |
/// | `connections_max` | sockets of the engine | count | 1,048,576 | - |
/// | `ephemeral_ports` | ports that are chosen for connections | ports | 32,768..=60,999 | `ip_local_port_range` |
/// | `hop_limit` | TTL or hop limit | hops | 64 | `ip_default_ttl` |
/// | `traffic_class` | DSCP in the upper six bits | octet | 0 | RFC 9293 MUST-48 |
/// | `neighbor_timeout` | time between questions about a neighbour | time | 1 s | `retrans_time_ms` |
/// | `neighbor_tries` | questions until a neighbour counts as gone | count | 3 | `mcast_solicit` |
/// | `address_probes` | questions whether another host has our address, before it is used on a link that others share | count | 2 | RFC 5227 `PROBE_NUM`, fewer; Linux: 0, IPv6 1 |
/// | `address_probe_interval` | time for an answer to each | time | 100 ms | RFC 5227 `PROBE_MIN`, shorter; Linux: IPv6 1 s |
/// | `icmp_per_second` | answers to pings | per second | 1,000 | `icmp_msgs_per_sec` |
/// | `resets_per_second` | resets to segments without a connection, for each of 1,024 buckets of sources | per second | 10,000 | - |
///
/// ```
/// use std::time::Duration;
/// use synfin::proto::{Config, Engine, Instant};
///
/// let mut config = Config::default();
/// config.nagle = false;
/// config.user_timeout = Some(Duration::from_secs(20));
/// let engine = Engine::new(config, [7; 32], Instant::from_nanos(1));
/// assert!(!engine.config().nagle);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table above describes every field once")]
pub struct Config {
    pub receive_buffer: u32,
    pub send_buffer: u32,
    pub window_scaling: bool,
    pub window_scale: Option<u8>,
    pub mss: Option<u16>,
    pub mss_min: u16,
    pub timestamps: bool,
    pub sack: bool,
    pub require_timestamps: bool,
    pub option_layout: OptionLayout,
    pub initial_window: u32,
    pub rto_initial: Duration,
    pub rto_min: Duration,
    pub rto_max: Duration,
    pub syn_retries: u32,
    pub syn_linear_timeouts: u32,
    pub syn_ack_retries: u32,
    pub syn_ack_retries_under_pressure: u32,
    pub retries_r1: u32,
    pub retries: u32,
    pub orphan_retries: u32,
    pub duplicate_ack_threshold: u32,
    pub fast_retransmit: bool,
    pub limited_transmit: bool,
    pub slow_start_after_idle: bool,
    pub congestion: CongestionControl,
    pub delayed_ack: Duration,
    pub quick_acks: u32,
    pub nagle: bool,
    pub cork: bool,
    pub cork_timeout: Duration,
    pub keepalive: Option<Keepalive>,
    pub user_timeout: Option<Duration>,
    pub fin_wait_2: Duration,
    pub time_wait: Duration,
    pub time_wait_capacity: usize,
    pub ignore_reset_in_time_wait: bool,
    pub strict_reset: bool,
    pub strict_ack: bool,
    pub challenge_ack_interval: Duration,
    pub half_open_capacity: usize,
    pub syn_cookies: SynCookies,
    pub backlog_max: u32,
    pub backlog_policy: BacklogPolicy,
    pub reassembly_ranges: usize,
    pub connections_max: usize,
    pub ephemeral_ports: std::ops::RangeInclusive<u16>,
    pub hop_limit: u8,
    pub traffic_class: u8,
    pub neighbor_timeout: Duration,
    pub neighbor_tries: u32,
    pub address_probes: u32,
    pub address_probe_interval: Duration,
    pub icmp_per_second: u32,
    pub resets_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_buffer: 2 << 20,
            send_buffer: 2 << 20,
            window_scaling: true,
            window_scale: None,
            mss: None,
            mss_min: 48,
            timestamps: true,
            sack: true,
            require_timestamps: false,
            option_layout: OptionLayout::Linux,
            initial_window: 10,
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
            syn_retries: 6,
            syn_linear_timeouts: 4,
            syn_ack_retries: 3,
            syn_ack_retries_under_pressure: 1,
            retries_r1: 3,
            retries: 15,
            orphan_retries: 8,
            duplicate_ack_threshold: 3,
            fast_retransmit: true,
            limited_transmit: true,
            slow_start_after_idle: true,
            congestion: CongestionControl::Reno,
            delayed_ack: Duration::from_millis(40),
            quick_acks: 16,
            nagle: true,
            cork: false,
            cork_timeout: Duration::from_millis(200),
            keepalive: None,
            user_timeout: None,
            fin_wait_2: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            time_wait_capacity: 131_072,
            ignore_reset_in_time_wait: true,
            strict_reset: true,
            strict_ack: true,
            challenge_ack_interval: Duration::from_millis(500),
            half_open_capacity: 2048,
            syn_cookies: SynCookies::UnderPressure,
            backlog_max: 4096,
            backlog_policy: BacklogPolicy::Ignore,
            reassembly_ranges: 128,
            connections_max: 1 << 20,
            ephemeral_ports: 32_768..=60_999,
            hop_limit: 64,
            traffic_class: 0,
            neighbor_timeout: Duration::from_secs(1),
            neighbor_tries: 3,
            address_probes: 2,
            address_probe_interval: Duration::from_millis(100),
            icmp_per_second: 1000,
            resets_per_second: 10_000,
        }
    }
}

impl Config {
    /// The letter of the RFCs where deployed practice differs: minimum RTO 1 s (RFC 6298 §2.4), 2·MSL of 4 minutes (RFC 9293 MUST-13), SYN
    /// retries of more than 3 minutes (MUST-23), segments without negotiated timestamps dropped (RFC 7323 §3.2), addresses probed for 3 s
    /// (RFC 5227 §1.1).
    #[must_use]
    pub fn rfc() -> Self {
        Self {
            rto_min: Duration::from_secs(1),
            rto_max: Duration::from_secs(60),
            time_wait: Duration::from_secs(240),
            syn_retries: 8,
            syn_linear_timeouts: 0,
            require_timestamps: true,
            address_probes: 3,
            address_probe_interval: Duration::from_secs(1),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_has_a_row_for_every_field() {
        let source = include_str!("config.rs").split("mod tests").next().expect("code before the tests");
        let rows = source.lines().filter_map(|line| line.strip_prefix("/// | `")?.split('`').next());
        let fields = source.split("pub struct Config {").nth(1).expect("the fields").lines().take_while(|line| *line != "}");
        let fields = fields.filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
        assert!(rows.eq(fields), "the table and the fields differ, or are in another order");
    }
}
