//! Several lines at once: the ways to get a connection into a state.
//!
//! ```text
//!   open [rtt=10ms] [win=65535] [mss=1460] [wscale=7] [sackok] [ts] [backlog=8]     the peer connects, we accept
//!   connect …                                                                       we connect, the peer accepts
//!   close-wait, last-ack, fin-wait-1, fin-wait-2, closing, time-wait …              open, and on from there without data
//! ```
//!
//! After `open` and `connect` both sides' next number is 1. The peer's timestamps begin at 100 and advance by a tick per millisecond.

use std::time::Duration;

use synfin::proto::Config;

use super::knobs::{duration, duration_text};
use super::segment::number_of;

/// What the peer's SYN offers, and how far away it is.
#[derive(Debug)]
struct Peer {
    rtt: Duration,
    window: u32,
    mss: u16,
    window_scale: Option<u8>,
    sack: Offer,
    timestamps: Offer,
    backlog: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Made,
    Absent,
}

/// The lines that a macro stands for.
pub(crate) fn expand(name: &str, arguments: &[&str], config: &Config) -> Result<Vec<String>, String> {
    let peer = Peer::parse(arguments)?;
    let tail: &[&str] = match name {
        "connect" => return Ok(peer.connect(config)),
        "open" => &[],
        "close-wait" => &["< fin 1 ack 1", "> ack 2", "= state CLOSE-WAIT"],
        "last-ack" => &["< fin 1 ack 1", "> ack 2", "! shutdown", "> fin 1 ack 2", "= state LAST-ACK"],
        "fin-wait-1" => &["! shutdown", "> fin 1 ack 1", "= state FIN-WAIT-1"],
        "fin-wait-2" => &["! shutdown", "> fin 1 ack 1", "< ack 2", "= state FIN-WAIT-2"],
        "closing" => &["! shutdown", "> fin 1 ack 1", "< fin 1 ack 1", "> ack 2", "= state CLOSING"],
        "time-wait" => &["! shutdown", "> fin 1 ack 1", "< ack 2", "< fin 1 ack 2", "> ack 2", "= state TIME-WAIT"],
        _ => return Err(format!("`{name}` is no macro")),
    };
    if !tail.is_empty() && peer.timestamps == Offer::Made {
        return Err("with timestamps, only `open` and `connect` are macros".to_owned());
    }
    let mut lines = peer.open(config);
    lines.extend(tail.iter().map(|line| format!("+0 {line}")));
    Ok(lines)
}

impl Peer {
    fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut peer = Self {
            rtt: Duration::from_millis(10),
            window: 65_535,
            mss: 1460,
            window_scale: None,
            sack: Offer::Absent,
            timestamps: Offer::Absent,
            backlog: 8,
        };
        for argument in arguments {
            match argument.split_once('=').unwrap_or((argument, "")) {
                ("rtt", time) => peer.rtt = duration(time)?,
                ("win", window) => peer.window = number_of(window)?,
                ("mss", mss) => peer.mss = number_of(mss)?,
                ("wscale", shift) => peer.window_scale = Some(number_of(shift)?),
                ("sackok", "") => peer.sack = Offer::Made,
                ("ts", "") => peer.timestamps = Offer::Made,
                ("backlog", backlog) => peer.backlog = number_of(backlog)?,
                _ => return Err(format!("`{argument}` is no argument of a macro")),
            }
        }
        Ok(peer)
    }

    fn open(&self, config: &Config) -> Vec<String> {
        let rtt = duration_text(self.rtt);
        vec![
            format!("+0 ! listen backlog={}", self.backlog),
            format!("+0 < syn 0 win {}{}", self.window.min(65_535), self.options("100:0")),
            format!("+0 > syn 0 ack 1 win {}{}", config.receive_buffer.min(65_535), self.answer(config)),
            format!("+{rtt} < ack 1 win {}{}", self.scaled_window(), self.stamp(100, 1)),
            "+0 ! accept".to_owned(),
        ]
    }

    fn connect(&self, config: &Config) -> Vec<String> {
        let rtt = duration_text(self.rtt);
        let ours = our_options(config, config.sack, "ts 1:0", Some(our_scale(config)));
        let after =
            if self.window_scale.is_some() { config.receive_buffer >> our_scale(config) } else { config.receive_buffer.min(65_535) };
        vec![
            "+0 ! connect".to_owned(),
            format!("+0 > syn 0 win {}{ours}", config.receive_buffer.min(65_535)),
            format!("+{rtt} < syn 0 ack 1 win {}{}", self.window.min(65_535), self.options("100:1")),
            format!("+0 > ack 1 win {after}{}", self.stamp_of_ours(100)),
            "+0 = state ESTABLISHED".to_owned(),
        ]
    }

    /// The options of the peer's SYN.
    fn options(&self, timestamps: &str) -> String {
        let mut text = format!(" mss {}", self.mss);
        if self.sack == Offer::Made {
            text.push_str(" sackok");
        }
        if self.timestamps == Offer::Made {
            text.push_str(&format!(" ts {timestamps}"));
        }
        if let Some(shift) = self.window_scale {
            text.push_str(&format!(" wscale {shift}"));
        }
        text
    }

    /// The options of our SYN,ACK.
    fn answer(&self, config: &Config) -> String {
        let stamp = if self.timestamps == Offer::Made { "ts 1:100" } else { "" };
        our_options(config, self.sack == Offer::Made && config.sack, stamp, self.window_scale.map(|_| our_scale(config)))
    }

    fn scaled_window(&self) -> u32 {
        (self.window >> self.window_scale.unwrap_or(0).min(14)).min(65_535)
    }

    /// The peer's timestamp after one round trip.
    fn stamp(&self, start: u128, echo: u128) -> String {
        if self.timestamps == Offer::Made { format!(" ts {}:{echo}", start + self.rtt.as_millis()) } else { String::new() }
    }

    /// Ours after one round trip.
    fn stamp_of_ours(&self, echo: u128) -> String {
        if self.timestamps == Offer::Made { format!(" ts {}:{echo}", 1 + self.rtt.as_millis()) } else { String::new() }
    }
}

fn our_options(config: &Config, sack: bool, stamp: &str, scale: Option<u8>) -> String {
    let mut text = format!(" mss {}", config.mss.unwrap_or(1460));
    if sack {
        text.push_str(" sackok");
    }
    if config.timestamps && !stamp.is_empty() {
        text.push_str(&format!(" {stamp}"));
    }
    if let Some(scale) = scale.filter(|_| config.window_scaling) {
        text.push_str(&format!(" wscale {scale}"));
    }
    text
}

/// The smallest shift with which the window field announces the whole buffer (RFC 7323 §2.3).
fn our_scale(config: &Config) -> u8 {
    config.window_scale.unwrap_or_else(|| (0..14).find(|shift| 65_535 << shift >= config.receive_buffer).unwrap_or(14))
}
