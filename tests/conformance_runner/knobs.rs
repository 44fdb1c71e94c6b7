//! `config name=value …`: the engine's knobs by their names, and durations as scripts write them.

use std::time::Duration;

use synfin::proto::{BacklogPolicy, Config, CongestionControl, Keepalive, SynCookies};

use super::segment::number_of;

/// Turns one knob.
pub(crate) fn set(config: &mut Config, knob: &str) -> Result<(), String> {
    let (name, value) = knob.split_once('=').ok_or_else(|| format!("`{knob}` is not of the form name=value"))?;
    if let Some(field) = switch(config, name) {
        *field = on(value)?;
    } else if let Some(field) = time(config, name) {
        *field = duration(value)?;
    } else if let Some(field) = count(config, name) {
        *field = number_of(value)?;
    } else {
        set_other(config, name, value)?;
    }
    Ok(())
}

fn switch<'a>(config: &'a mut Config, name: &str) -> Option<&'a mut bool> {
    Some(match name {
        "window_scaling" => &mut config.window_scaling,
        "timestamps" => &mut config.timestamps,
        "sack" => &mut config.sack,
        "require_timestamps" => &mut config.require_timestamps,
        "fast_retransmit" => &mut config.fast_retransmit,
        "limited_transmit" => &mut config.limited_transmit,
        "slow_start_after_idle" => &mut config.slow_start_after_idle,
        "nagle" => &mut config.nagle,
        "cork" => &mut config.cork,
        "ignore_reset_in_time_wait" => &mut config.ignore_reset_in_time_wait,
        "strict_reset" => &mut config.strict_reset,
        "strict_ack" => &mut config.strict_ack,
        _ => return None,
    })
}

fn time<'a>(config: &'a mut Config, name: &str) -> Option<&'a mut Duration> {
    Some(match name {
        "rto_initial" => &mut config.rto_initial,
        "rto_min" => &mut config.rto_min,
        "rto_max" => &mut config.rto_max,
        "delayed_ack" => &mut config.delayed_ack,
        "cork_timeout" => &mut config.cork_timeout,
        "fin_wait_2" => &mut config.fin_wait_2,
        "time_wait" => &mut config.time_wait,
        "challenge_ack_interval" => &mut config.challenge_ack_interval,
        _ => return None,
    })
}

fn count<'a>(config: &'a mut Config, name: &str) -> Option<&'a mut u32> {
    Some(match name {
        "receive_buffer" => &mut config.receive_buffer,
        "send_buffer" => &mut config.send_buffer,
        "initial_window" => &mut config.initial_window,
        "syn_retries" => &mut config.syn_retries,
        "syn_linear_timeouts" => &mut config.syn_linear_timeouts,
        "syn_ack_retries" => &mut config.syn_ack_retries,
        "retries" => &mut config.retries,
        "orphan_retries" => &mut config.orphan_retries,
        "duplicate_ack_threshold" => &mut config.duplicate_ack_threshold,
        "quick_acks" => &mut config.quick_acks,
        "resets_per_second" => &mut config.resets_per_second,
        _ => return None,
    })
}

fn set_other(config: &mut Config, name: &str, value: &str) -> Result<(), String> {
    match (name, value) {
        ("mss", _) => config.mss = Some(number_of(value)?),
        ("mss_min", _) => config.mss_min = number_of(value)?,
        ("window_scale", _) => config.window_scale = Some(number_of(value)?),
        ("reassembly_ranges", _) => config.reassembly_ranges = number_of(value)?,
        ("half_open_capacity", _) => config.half_open_capacity = number_of(value)?,
        ("user_timeout", _) => config.user_timeout = Some(duration(value)?),
        ("keepalive", _) => config.keepalive = Some(keepalive(value)?),
        ("backlog_policy", "reset") => config.backlog_policy = BacklogPolicy::Reset,
        ("syn_cookies", "off") => config.syn_cookies = SynCookies::Off,
        ("syn_cookies", "under-pressure") => config.syn_cookies = SynCookies::UnderPressure,
        ("syn_cookies", "always") => config.syn_cookies = SynCookies::Always,
        ("congestion", "none") => config.congestion = CongestionControl::None,
        ("congestion", "reno") => config.congestion = CongestionControl::Reno,
        ("preset", "rfc") => *config = Config::rfc(),
        _ => return Err(format!("`{name}={value}` is no knob")),
    }
    Ok(())
}

/// `on` or `off`.
pub(crate) fn on(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{value}` is neither on nor off")),
    }
}

/// `idle,interval,count`: `10s,1s,3`.
pub(crate) fn keepalive(value: &str) -> Result<Keepalive, String> {
    let [idle, interval, count] = value.split(',').collect::<Vec<_>>()[..] else {
        return Err(format!("`{value}` is not of the form 10s,1s,3"));
    };
    Ok(Keepalive { idle: duration(idle)?, interval: duration(interval)?, count: number_of(count)? })
}

/// `0`, `5us`, `40ms`, `1s`, `1.5s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "" if digits == "0" => 1,
        _ => return Err(format!("`{text}` is no time")),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let mut nanos = number_of::<u64>(whole)? * unit;
    let mut place = unit;
    for digit in part.chars() {
        place /= 10;
        nanos += place * u64::from(digit.to_digit(10).ok_or_else(|| format!("`{text}` is no time"))?);
    }
    Ok(Duration::from_nanos(nanos))
}

/// The shortest exact way to write a duration.
pub(crate) fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0".to_owned(),
        _ if nanos.is_multiple_of(1_000_000_000) => format!("{}s", nanos / 1_000_000_000),
        _ if nanos.is_multiple_of(1_000_000) => format!("{}ms", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!("{}us", nanos / 1_000),
        _ => format!("{nanos}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, nanos) in [("0", 0), ("5us", 5_000), ("1.5s", 1_500_000_000), ("924.6s", 924_600_000_000)] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)));
        }
        assert!(duration("5").is_err() && duration("xs").is_err());
        assert_eq!(duration_text(Duration::from_micros(1_500)), "1500us");
    }

    #[test]
    fn an_unknown_knob_is_an_error() {
        assert!(set(&mut Config::default(), "colour=red").is_err());
        let mut config = Config::default();
        set(&mut config, "rto_min=1s").unwrap();
        assert_eq!(config.rto_min, Duration::from_secs(1));
    }
}
