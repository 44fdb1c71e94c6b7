//! `cargo demo` held to what it promises: every arrow against the frames that went over the wire, decoded by another hand; every flag against
//! what it is to show.

use etherparse::{SlicedPacket, TransportSlice};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use synfin::device::namespace;

/// A decoded frame of the dump.
#[derive(Debug)]
struct Wired {
    nanos: u64,
    sender: String,
    is_lost: bool,
    source: SocketAddr,
    destination: SocketAddr,
    flags: String,
    seq: u32,
    ack: Option<u32>,
    len: usize,
}

/// An arrow of the ladder.
#[derive(Debug, PartialEq, Eq)]
struct Drawn {
    millis: String,
    sender: &'static str,
    is_lost: bool,
    flags: String,
    seq: u32,
    ack: Option<u32>,
    len: usize,
}

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_demo")).args(arguments).stdin(Stdio::null()).output().expect("the demo can be started")
}

/// Runs the demo on the in-memory wire and returns what it printed.
#[track_caller]
fn shown(arguments: &[&str]) -> String {
    let output = demo(&[arguments, &["--memory-only"]].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    for line in text.lines() {
        assert!(line.chars().count() <= 110, "too wide: {line}");
    }
    text
}

/// Asserts that lines with these fragments come in this order.
#[track_caller]
fn assert_in_order(text: &str, fragments: &[&str]) {
    let mut rest = text;
    for fragment in fragments {
        let Some(at) = rest.find(fragment) else { panic!("{fragment:?} is missing, or too early, in:\n{text}") };
        rest = &rest[at + fragment.len()..];
    }
}

/// The frames of a dump, by number, as etherparse sees them.
fn wired(dump: &str) -> BTreeMap<u64, Wired> {
    dump.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [number, nanos, sender, fate, hex] = fields[..] else { panic!("five fields: {line}") };
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect();
            (number.parse().expect("a number"), wired_frame(nanos, sender, fate, &bytes))
        })
        .collect()
}

fn wired_frame(nanos: &str, sender: &str, fate: &str, bytes: &[u8]) -> Wired {
    let packet = SlicedPacket::from_ip(bytes).expect("an IP packet");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { panic!("the demo speaks IPv4") };
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("the demo speaks TCP") };
    let header = ip.header();
    assert_eq!(tcp.calc_checksum_ipv4(header.source_addr().octets(), header.destination_addr().octets()), Ok(tcp.checksum()));
    let flags = [(tcp.syn(), "SYN"), (tcp.fin(), "FIN"), (tcp.rst(), "RST"), (tcp.psh(), "PSH"), (tcp.ack(), "ACK")];
    Wired {
        nanos: nanos.parse().expect("nanoseconds"),
        sender: sender.to_owned(),
        is_lost: fate == "lost",
        source: SocketAddr::new(IpAddr::V4(header.source_addr()), tcp.source_port()),
        destination: SocketAddr::new(IpAddr::V4(header.destination_addr()), tcp.destination_port()),
        flags: flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect::<Vec<_>>().join(","),
        seq: tcp.sequence_number(),
        ack: tcp.ack().then(|| tcp.acknowledgment_number()),
        len: tcp.payload().len(),
    }
}

/// The arrows of a ladder, by number. An arrival that is drawn apart repeats nothing but its number and is none.
fn drawn(text: &str) -> BTreeMap<u64, Drawn> {
    let mut arrows = BTreeMap::new();
    for line in text.lines() {
        let Some((left, wire)) = line.split_once('|').and_then(|(left, rest)| Some((left, rest.split_once('|')?.0))) else { continue };
        let Some((number, words)) = wire.split_once('#').and_then(|(_, rest)| rest.split_once(' ')) else { continue };
        let Some((flags, words)) = words.split_once(' ').filter(|(_, words)| words.contains("seq=")) else { continue };
        let field = |name: &str| words.split([' ', '~']).find_map(|word| word.strip_prefix(name)?.parse::<u32>().ok());
        let arrow = Drawn {
            millis: left.split_whitespace().next().expect("a time").to_owned(),
            sender: if wire.starts_with("- ") { "left" } else { "right" },
            is_lost: wire.contains("--x") || wire.contains("x--"),
            flags: flags.to_owned(),
            seq: field("seq=").expect("a sequence number"),
            ack: field("ack="),
            len: field("len=").map_or(0, |len| len as usize),
        };
        assert!(arrows.insert(number.parse().expect("a number"), arrow).is_none(), "#{number} is drawn twice");
    }
    arrows
}

/// The arrivals that are drawn apart: number, sender, milliseconds.
fn arrivals(text: &str) -> Vec<(u64, &'static str, f64)> {
    let parse = |line: &str| {
        let (left, wire) = line.split_once('|').and_then(|(left, rest)| Some((left, rest.split_once('|')?.0)))?;
        let (sender, number) = match wire.trim().strip_prefix("~ #").and_then(|rest| rest.strip_suffix(" -->")) {
            Some(number) => ("left", number),
            None => ("right", wire.trim().strip_prefix("<-- #")?.strip_suffix(" ~")?),
        };
        Some((number.parse().ok()?, sender, left.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(parse).collect()
}

/// Every arrow says what its frame said, with numbers counted from the SYNs of its conversation; every frame is drawn unless the ladder says
/// how many it leaves out.
#[track_caller]
fn assert_true(arguments: &[&str], seed: u64) {
    let dump = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("demo-{}-{seed}.dump", arguments.join("")));
    let (seed, path) = (seed.to_string(), dump.to_str().expect("a path of this crate"));
    let text = shown(&[arguments, &["--seed", &seed, "--dump", path]].concat());
    let (frames, arrows) = (wired(&std::fs::read_to_string(&dump).expect("the dump")), drawn(&text));
    assert!(!frames.is_empty());
    let mut first = BTreeMap::new();
    for (number, frame) in &frames {
        if frame.flags.contains("SYN") {
            // The latest: a listener that has forgotten a handshake begins the next one with another number.
            first.insert((frame.source, frame.destination), frame.seq);
        }
        let Some(arrow) = arrows.get(number) else { continue };
        let isn = |ends| first.get(&ends).copied().expect("a conversation begins with a SYN");
        let expected = Drawn {
            // Tenths as long as there is room for them.
            millis: match frame.nanos / 1_000_000 {
                millis @ ..100_000 => format!("{millis}.{}", frame.nanos / 100_000 % 10),
                millis => millis.to_string(),
            },
            // Half-arrows and whole ones are drawn when the frame departs.
            sender: if frame.sender == "left" { "left" } else { "right" },
            is_lost: frame.is_lost,
            flags: frame.flags.clone(),
            seq: frame.seq.wrapping_sub(isn((frame.source, frame.destination))),
            ack: frame.ack.map(|ack| ack.wrapping_sub(isn((frame.destination, frame.source)))),
            len: frame.len,
        };
        assert_eq!(*arrow, expected, "#{number} under seed {seed}:\n{text}");
    }
    for (number, sender, millis) in arrivals(&text) {
        let frame = &frames[&number];
        assert!(frame.sender == sender && !frame.is_lost, "#{number} cannot arrive there, under seed {seed}:\n{text}");
        assert!(millis > frame.nanos as f64 / 1e6, "#{number} arrives before it departs, under seed {seed}:\n{text}");
    }
    let left_out: usize = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("... not drawn: "))
        .flat_map(|list| list.split(", "))
        .map(|entry| entry.split(' ').next().and_then(|count| count.parse::<usize>().ok()).expect("a count"))
        .sum();
    assert_eq!(arrows.len() + left_out, frames.len(), "seed {seed}: frames are missing in\n{text}");
}

/// A seed that nobody chose; failures print it.
fn fresh_seed() -> u64 {
    std::env::var("SYNFIN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| getrandom::u64().expect("chance"))
}

#[test]
fn every_arrow_is_a_frame_that_went_over_the_wire() {
    let scenarios: [&[&str]; 11] = [
        &[],
        &["--half-close"],
        &["--three-segment-close"],
        &["--simultaneous-close"],
        &["--simultaneous-open"],
        &["--syn-flood"],
        &["--bad-line"],
        &["--zero-window"],
        &["--loss", "20"],
        &["--reorder"],
        &["--loss", "15", "--reorder"],
    ];
    for arguments in scenarios {
        assert_true(arguments, fresh_seed());
    }
}

/// One frame in ten is lost: under no seed is that enough to end a connection.
#[test]
fn a_bad_wire_is_survived_under_any_seed() {
    for _ in 0..20 {
        let seed = fresh_seed();
        let text = shown(&["--loss", "10", "--reorder", "--seed", &seed.to_string()]);
        assert!(text.contains("8688 bytes: every byte, in order"), "seed {seed}:\n{text}");
    }
}

/// A wire on which connections fail is shown as that, without a failure of the demo.
#[test]
fn the_worst_wire_is_drawn_truthfully_under_any_seed() {
    for arguments in [&["--loss", "50"][..], &["--loss", "50", "--half-close"], &["--loss", "50", "--reorder", "--three-segment-close"]] {
        (0..5).for_each(|_| assert_true(arguments, fresh_seed()));
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for arguments in [&["--seed", "3"][..], &["--seed", "4", "--loss", "20", "--reorder"], &["--syn-flood", "--seed", "5"]] {
        assert_eq!(shown(arguments), shown(arguments));
    }
    assert_ne!(shown(&[]), shown(&[]), "without a seed the numbers are unpredictable");
}

/// What the tour looks like. Where it changes on purpose:
/// `cargo demo --memory-only --seed 1 > tests/snapshots/demo-tour.txt`
#[test]
fn the_tour_is_the_one_that_was_looked_at() {
    let snapshot = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/demo-tour.txt")).expect("the snapshot");
    let text = shown(&["--seed", "1"]);
    assert!(text == snapshot, "the tour has changed; if it is meant to, write the snapshot anew\n{text}");
}

#[test]
fn the_tour_goes_from_syn_to_fin() {
    let expected = [
        "SYN-SENT",
        " SYN seq=0 ",
        "SYN-RECEIVED",
        "SYN,ACK seq=0 ack=1",
        "ESTABLISHED",
        "len=13",
        "FIN-WAIT-1",
        "CLOSE-WAIT",
        "FIN-WAIT-2",
        "len=19",
        "FIN_WAIT2",
        "CLOSE_WAIT",
        "TIME-WAIT",
        "FIN,ACK",
        "LAST-ACK",
        "CLOSED",
        "TIME_WAIT",
        "a minute later",
    ];
    assert_in_order(&shown(&[]), &expected);
}

#[test]
fn every_scenario_shows_what_it_promises() {
    assert_in_order(&shown(&["--half-close"]), &["FIN-WAIT-2", "len=300", "len=300", "len=300", "CLOSE_WAIT", "TIME-WAIT"]);
    assert_in_order(&shown(&["--simultaneous-close"]), &["FIN-WAIT-1", "FIN-WAIT-1", "CLOSING", "CLOSING", "TIME-WAIT", "TIME-WAIT"]);
    assert_in_order(&shown(&["--simultaneous-open"]), &["SYN-SENT", "SYN-SENT", "SYN-RECEIVED", "SYN-RECEIVED", "ESTABLISHED"]);
    assert_in_order(&shown(&["--zero-window"]), &["win=0", "window probe", "still no room", "window update", "B has read 6000 bytes"]);
    let expected =
        ["keepalive probe", "I am here", "keepalive probe", "--x", "KeepaliveTimeout", "retransmission of #", "--x", "UserTimeout"];
    assert_in_order(&shown(&["--bad-line"]), &expected);

    let flood = shown(&["--syn-flood"]);
    assert_in_order(&flood, &["netstat -nap | grep SYN_RECV", "SYN_RECV", "(8 rows)", "dropped 32", "newcomer is connected", "LISTEN"]);

    let closing = shown(&["--three-segment-close"]);
    let fins = drawn(&closing).into_values().skip_while(|arrow| !arrow.flags.contains("FIN"));
    assert_eq!(fins.map(|arrow| arrow.flags).collect::<Vec<_>>(), ["FIN,ACK", "FIN,ACK", "ACK"]);

    let reordered = (0..20).map(|seed| shown(&["--reorder", "--seed", &seed.to_string()]));
    assert!(reordered.into_iter().any(|text| text.contains("duplicate ACK 1, SACK")), "nothing was overtaken under 20 seeds");
    let lossy = (0..20).map(|seed| shown(&["--loss", "20", "--seed", &seed.to_string()]));
    assert!(lossy.into_iter().any(|text| text.contains("--x") && text.contains("retransmission of #")), "nothing was lost under 20 seeds");
}

#[test]
fn each_step_has_a_reason_and_an_end_of_input_is_no_trap() {
    let text = shown(&["--step", "--three-segment-close"]);
    assert!(text.contains("why: a connection begins") && text.contains("[Enter]"), "{text}");
}

#[test]
fn help_names_every_flag() {
    for flag in ["--help", "-h"] {
        let output = demo(&[flag]);
        assert!(output.status.success() && output.stderr.is_empty());
        let text = String::from_utf8(output.stdout).expect("text");
        for flag in FLAGS {
            assert!(text.contains(flag), "{flag} is missing in\n{text}");
        }
    }
}

#[test]
fn wrong_flags_are_named_with_the_valid_ones() {
    let cases: [(&[&str], &str); 9] = [
        (&["--lose"], "--lose"),
        (&["-x"], "-x"),
        (&["faster"], "faster"),
        (&["--loss"], "--loss"),
        (&["--loss", "51"], "51"),
        (&["--loss=lots"], "lots"),
        (&["--seed", "-1"], "--seed"),
        (&["--step=5"], "--step"),
        (&["--kernel-only", "--syn-flood"], "--kernel-only"),
    ];
    for (arguments, named) in cases {
        let output = demo(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(named) && FLAGS.iter().all(|flag| text.contains(flag)), "{arguments:?}: {text}");
    }
}

#[test]
fn the_kernel_is_the_peer_in_a_namespace_or_the_way_there_is_named() {
    let output = demo(&["--kernel-only"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    if text.contains("  why:  ") {
        assert_in_order(&text, &["needs a network namespace", "why:", "run:", "cargo demo --kernel-only"]);
        assert!(std::env::var_os(namespace::REQUIRED).is_none(), "{text}");
        eprintln!("test the_kernel_is_the_peer_in_a_namespace_or_the_way_there_is_named ... ignored: {text}");
        return;
    }
    let expected = [
        "ARP: who has 10.9.0.1?",
        "SYN seq=0",
        "SYN,ACK seq=0 ack=1",
        "ESTABLISHED",
        "len=12",
        "FIN-WAIT-1",
        "CLOSE-WAIT",
        "len=19",
        "FIN_WAIT2",
        "CLOSE-WAIT",
        "TIME-WAIT",
        "TIME_WAIT",
        "The other way round",
        "SYN-SENT",
        "LAST-ACK",
        "LISTEN",
        "TIME-WAIT",
    ];
    assert_in_order(&text, &expected);
    assert!(!text.contains("RST"), "{text}");
    assert!(drawn(&text).len() >= 18, "{text}");
}

/// Every flag.
const FLAGS: &[&str] = &[
    "--step",
    "--loss P",
    "--reorder",
    "--half-close",
    "--three-segment-close",
    "--simultaneous-close",
    "--simultaneous-open",
    "--syn-flood",
    "--bad-line",
    "--zero-window",
    "--seed N",
    "--dump FILE",
    "--memory-only",
    "--kernel-only",
    "--help",
];
