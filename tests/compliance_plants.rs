//! Planted deviations: for each row here the engine, or what it sends and receives, is made to break the requirement, and the transcript that
//! bears the row must notice.
//!
//! A knob turned the wrong way is planted in the configuration after the script's own; what no knob reaches is planted between the engine and
//! its peer, as an engine with that defect would look from outside.

use std::path::Path;

use synfin::proto::wire::Flags;

use conformance_runner::host::{Between, Packet};
use conformance_runner::knobs;
use conformance_runner::run::{run, run_between};
use conformance_runner::script::Script;

mod conformance_runner {
    //! The runner of `tests/conformance.rs`, without its mutations.
    pub(crate) mod call;
    pub(crate) mod fact;
    pub(crate) mod flow;
    pub(crate) mod host;
    pub(crate) mod icmp;
    pub(crate) mod knobs;
    pub(crate) mod macros;
    pub(crate) mod run;
    pub(crate) mod script;
    pub(crate) mod segment;
    pub(crate) mod world;
}

/// How an engine might deviate.
#[derive(Clone, Copy, Debug)]
enum Deviation {
    /// A knob, as scripts write it.
    Knob(&'static str),
    /// What it makes of a segment that it is sent.
    Receives(fn(Packet) -> Option<Packet>),
    /// What it sends instead.
    Sends(fn(Packet) -> Option<Packet>),
}

use Deviation::{Knob, Receives, Sends};

/// Row, transcript below `tests/conformance`, deviation.
const PLANTS: &[(&str, &str, Deviation)] = &[
    ("HW-1", "compliance/fin_wait_2_lasts", Knob("fin_wait_2=1s")),
    ("HW-6", "reassembly/bounded_ranges", Knob("reassembly_ranges=100")),
    ("MUST-13", "compliance/time_wait_lasts", Knob("time_wait=1s")),
    ("MUST-20", "rto/gives_up", Knob("retries=9")),
    ("MUST-22", "open/syn_retransmitted", Knob("syn_retries=1")),
    ("MUST-40", "delayed_ack/waits_forty_milliseconds", Knob("delayed_ack=600ms")),
    ("R1337-1", "time_wait/reset_is_ignored", Knob("ignore_reset_in_time_wait=off")),
    ("R4987-6", "listen/syn_ack_retransmitted", Knob("syn_ack_retries=9")),
    ("R5681-11", "fast_retransmit/limited_transmit", Knob("limited_transmit=off")),
    ("R5681-13", "fast_retransmit/third_duplicate", Knob("duplicate_ack_threshold=4")),
    ("R5681-18", "fast_retransmit/idle_restarts_slow_start", Knob("slow_start_after_idle=off")),
    ("R5961-3", "rfc5961/reset_in_the_window", Knob("strict_reset=off")),
    ("R5961-6", "rfc5961/ack_of_the_distant_past", Knob("strict_ack=off")),
    ("R5961-7", "rfc5961/challenges_are_limited", Knob("challenge_ack_interval=1us")),
    ("R6298-1", "open/syn_retransmitted", Knob("rto_initial=3s")),
    ("R6298-5", "rto/at_most_two_minutes", Knob("rto_max=300s")),
    ("R6928-1", "fast_retransmit/slow_start", Knob("initial_window=4")),
    ("R7323-11", "open/active", Knob("timestamps=off")),
    ("R7323-5", "window/scaled", Knob("window_scaling=off")),
    ("SHLD-7", "nagle/one_small_segment", Knob("nagle=off")),
    ("MUST-1", "compliance/window_is_unsigned", Receives(window_is_signed)),
    ("MUST-66", "window/closed_window_rules", Receives(resets_are_overlooked)),
    ("MUST-5", "compliance/any_layout_of_options_is_read", Receives(options_are_read_in_syns_only)),
    ("R9293-30", "close/peer_first", Receives(fin_is_overlooked)),
    ("MUST-61", "nagle/push_on_the_last", Sends(nothing_is_pushed)),
    ("MUST-65", "compliance/urgent_is_never_sent", Sends(mss_everywhere)),
    ("SHLD-13", "compliance/urgent_is_never_sent", Sends(everything_is_urgent)),
    ("R2018-6", "sack/blocks_newest_first", Sends(blocks_end_with_their_last_byte)),
    ("R7323-12", "compliance/timestamp_clock", Sends(timestamps_in_syns_only)),
    ("R7323-4", "open/active_with_all_options", Sends(window_of_the_syn_is_scaled)),
    ("R9293-2", "reset/to_nobody", Sends(resets_acknowledge_nothing)),
    ("R9293-16", "window/outside_is_answered", Sends(no_bare_acknowledgment)),
    ("R9293-31", "close/we_first", Sends(fin_takes_no_number)),
    ("SHLD-12", "keepalive/asks_and_gives_up", Sends(bare_segments_one_further)),
];

#[test]
fn a_planted_deviation_turns_its_transcript_red() {
    assert!(PLANTS.len() >= 20, "at least twenty");
    let unnoticed: Vec<String> = PLANTS.iter().filter_map(|(id, name, deviation)| unnoticed(id, name, *deviation)).collect();
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}

/// What is wrong with a plant, if it was not noticed, or not for its own sake.
fn unnoticed(id: &str, name: &str, deviation: Deviation) -> Option<String> {
    let script = read(name);
    if !script.proves.iter().any(|proven| proven == id) {
        return Some(format!("{id}: {name} does not claim to prove it"));
    }
    for family in script.families.clone() {
        if let Err(mismatch) = run(&script, family) {
            return Some(format!("{id}: {} is red without a deviation, {}:\n{}", mismatch.place, mismatch.message, mismatch.report));
        }
        let (planted, between) = plant(&script, deviation);
        if run_between(&planted, family, between).is_ok() {
            return Some(format!("{id}: {name} does not notice {deviation:?} ({family:?})"));
        }
    }
    None
}

fn read(name: &str) -> Script {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name).with_extension("script");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Script::parse(name, &text).unwrap_or_else(|error| panic!("{error}"))
}

/// The script against an engine that deviates. Macros are written out already, for an engine that does not.
fn plant(script: &Script, deviation: Deviation) -> (Script, Between) {
    let mut planted = script.clone();
    let mut between = Between::default();
    match deviation {
        Knob(knob) => knobs::set(&mut planted.config, knob).expect("a knob of the runner"),
        Receives(alter) => between.inbound = alter,
        Sends(alter) => between.outbound = alter,
    }
    (planted, between)
}

fn window_is_signed(mut packet: Packet) -> Option<Packet> {
    packet.header.window &= 0x7fff;
    Some(packet)
}

fn resets_are_overlooked(packet: Packet) -> Option<Packet> {
    (!packet.header.flags.has(Flags::RST)).then_some(packet)
}

fn options_are_read_in_syns_only(mut packet: Packet) -> Option<Packet> {
    if !packet.header.flags.has(Flags::SYN) {
        packet.header.options = Default::default();
        packet.raw_options = None;
    }
    Some(packet)
}

fn fin_is_overlooked(mut packet: Packet) -> Option<Packet> {
    packet.header.flags = packet.header.flags.without(Flags::FIN);
    Some(packet)
}

fn nothing_is_pushed(mut packet: Packet) -> Option<Packet> {
    packet.header.flags = packet.header.flags.without(Flags::PSH);
    Some(packet)
}

fn mss_everywhere(mut packet: Packet) -> Option<Packet> {
    packet.header.options.mss = Some(1460);
    Some(packet)
}

fn everything_is_urgent(mut packet: Packet) -> Option<Packet> {
    if packet.header.payload_len > 0 {
        packet.header.flags |= Flags::URG;
    }
    Some(packet)
}

fn blocks_end_with_their_last_byte(mut packet: Packet) -> Option<Packet> {
    let blocks = packet.header.options.sack;
    packet.header.options.sack = Default::default();
    for block in blocks.as_slice() {
        let mut block = *block;
        block.right = block.right.back(1);
        packet.header.options.sack.push(block);
    }
    Some(packet)
}

fn timestamps_in_syns_only(mut packet: Packet) -> Option<Packet> {
    if !packet.header.flags.has(Flags::SYN) {
        packet.header.options.timestamps = None;
    }
    Some(packet)
}

fn window_of_the_syn_is_scaled(mut packet: Packet) -> Option<Packet> {
    if let Some(shift) = packet.header.options.window_scale {
        packet.header.window >>= shift;
    }
    Some(packet)
}

fn resets_acknowledge_nothing(mut packet: Packet) -> Option<Packet> {
    if packet.header.flags.has(Flags::RST) {
        packet.header.flags = packet.header.flags.without(Flags::ACK);
    }
    Some(packet)
}

fn no_bare_acknowledgment(packet: Packet) -> Option<Packet> {
    let bare = packet.header.flags == Flags::ACK && packet.payload.is_empty();
    (!bare).then_some(packet)
}

fn fin_takes_no_number(mut packet: Packet) -> Option<Packet> {
    let bare = packet.header.flags == Flags::ACK && packet.payload.is_empty();
    if bare {
        packet.header.ack = packet.header.ack.back(1);
    }
    Some(packet)
}

fn bare_segments_one_further(mut packet: Packet) -> Option<Packet> {
    let bare = packet.header.flags == Flags::ACK && packet.payload.is_empty();
    if bare {
        packet.header.seq += 1;
    }
    Some(packet)
}
