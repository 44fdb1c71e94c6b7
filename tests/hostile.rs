//! A peer that means harm: floods, lies about lengths, overlaps, storms. What must hold is stated per attack: bounded memory, bounded answers,
//! the first bytes win, every frame is counted.

#[path = "support/effort.rs"]
mod effort;
#[path = "support/packet.rs"]
mod packet;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/rng.rs"]
mod rng;
#[path = "support/seeds.rs"]
mod seeds;

use std::time::Duration;

use synfin::proto::wire::{Flags, Options, SackBlock, Segment, SeqNum, Timestamps};
use synfin::proto::{Checksum, Config, DropReason, SocketId, State, SynCookies};

use crate::effort::count;
use crate::peer::{Connection, HOST, PEER, Peer};
use crate::rng::Rng;
use crate::seeds::seeds;

/// What a modern SYN offers.
fn modern() -> Options {
    Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 999, echo: 0 }),
        ..Options::default()
    }
}

fn established(config: &Config) -> (Peer, Connection, SocketId) {
    let mut peer = Peer::new(config);
    let connection = peer.open(40_000, SeqNum(u32::MAX - 5000), modern());
    let socket = connection.socket.expect("accepted");
    (peer, connection, socket)
}

/// Data at `offset` from where the peer stands.
fn data_at(connection: &Connection, offset: u32) -> Segment {
    Segment { seq: connection.nxt + offset, ..connection.segment(Flags::ACK) }
}

fn memory(peer: &Peer, socket: SocketId) -> usize {
    peer.engine.info(socket).expect("it lives").memory
}

/// Reads everything that can be read.
fn read_all(peer: &mut Peer, socket: SocketId) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = peer.engine.recv(peer.now, socket, &mut buffer) {
        stream.extend_from_slice(&buffer[..read]);
    }
    stream
}

fn with_cookies(syn_cookies: SynCookies, half_open_capacity: usize) -> Peer {
    let mut config = Config::default();
    config.syn_cookies = syn_cookies;
    config.half_open_capacity = half_open_capacity;
    Peer::new(&config)
}

fn rows(peer: &Peer, state: State) -> usize {
    peer.engine.netstat(peer.now).iter().filter(|row| row.state == state).count()
}

#[test]
fn one_byte_islands_cost_no_more_than_the_buffer() {
    let patterns: [fn(u32) -> u32; 4] =
        [|at| 1 + 2 * at, |at| 60_001 - 2 * at, |at| 1 + (at * 7919) % 60_000, |at| 1 + 2 * (at % 300) + at / 300];
    for (pattern, buffer) in patterns.into_iter().flat_map(|pattern| [8192, 65_536, 2 << 20].map(|buffer| (pattern, buffer))) {
        let mut config = Config::default();
        config.receive_buffer = buffer;
        let (mut peer, connection, socket) = established(&config);
        let mut most = 0;
        for at in 0..30_000 {
            peer.say(&connection, data_at(&connection, pattern(at)), b"x");
            most = most.max(memory(&peer, socket));
        }
        assert!(most <= buffer as usize + 4096, "{most} bytes kept with a buffer of {buffer}");
        let mut stream = Vec::new();
        for _ in 0..200 {
            let at = peer.engine.info(socket).expect("it lives").rcv_nxt - connection.nxt;
            peer.say(&connection, data_at(&connection, at), &[b'x'; 1000]);
            stream.extend(read_all(&mut peer, socket));
        }
        assert!(stream.len() >= 62_000 && stream.iter().all(|byte| *byte == b'x'), "{} bytes after the holes were filled", stream.len());
    }
}

#[test]
fn of_overlapping_bytes_the_first_win() {
    for seed in seeds(200, 5000) {
        let mut rng = Rng::new(seed);
        let mut config = Config::default();
        config.reassembly_ranges = usize::try_from(rng.pick(&[128, 128, 3])).expect("small");
        let bounded = config.reassembly_ranges < 128;
        let (mut peer, connection, socket) = established(&config);
        let mut model: Vec<Option<u8>> = vec![None; 4000];
        for value in 0..60u8 {
            let (start, len) = (rng.below(3800), rng.between(1, 200));
            let held_before = peer.engine.info(socket).expect("it lives");
            let start = usize::try_from(start).expect("small");
            let len = usize::try_from(len).expect("small");
            peer.say(&connection, data_at(&connection, u32::try_from(start).expect("small")), &vec![value; len]);
            let held = peer.engine.info(socket).expect("it lives");
            // A range too many is refused: the model can't tell which of its bytes are there.
            if bounded && held.out_of_order + held.receive_queue == held_before.out_of_order + held_before.receive_queue {
                continue;
            }
            model[start..start + len].iter_mut().for_each(|byte| *byte = byte.or(Some(value)));
        }
        peer.say(&connection, data_at(&connection, 0), &vec![255; 1400]);
        peer.say(&connection, data_at(&connection, 1400), &vec![255; 1400]);
        peer.say(&connection, data_at(&connection, 2800), &vec![255; 1200]);
        let stream = read_all(&mut peer, socket);
        assert_eq!(stream.len(), 4000, "seed {seed}");
        if !bounded {
            let expected: Vec<u8> = model.iter().map(|byte| byte.unwrap_or(255)).collect();
            assert_eq!(stream, expected, "seed {seed}");
        }
    }
}

#[test]
fn urgent_pointers_never_move_a_byte() {
    for urgent in [0, 1, 4, 5, 6, 65_535] {
        let (mut peer, mut connection, socket) = established(&Config::default());
        let segment = Segment { urgent, flags: Flags::ACK | Flags::URG, ..connection.segment(Flags::ACK) };
        peer.say(&connection, segment, b"hello");
        connection.nxt += 5;
        peer.say(&connection, connection.segment(Flags::ACK), b" world");
        assert_eq!(read_all(&mut peer, socket), b"hello world");
    }
}

#[test]
fn two_confused_ends_do_not_talk_for_ever() {
    let (mut peer, connection, _) = established(&Config::default());
    let mut answers = 0;
    for _ in 0..5000 {
        let lost = Segment { seq: connection.nxt.back(1_000_000), ..connection.segment(Flags::ACK) };
        answers += peer.say(&connection, lost, &[]).len();
        answers += peer.pass(Duration::from_millis(1)).len();
    }
    assert!((1..=2 + 2 * 5).contains(&answers), "{answers} answers in five seconds");
    assert_eq!(peer.engine.stats().drops.of(DropReason::OutsideWindow), 5000);
}

#[test]
fn data_outside_the_window_draws_few_answers() {
    let (mut peer, connection, _) = established(&Config::default());
    let mut answers = 0;
    for _ in 0..300 {
        answers += peer.say(&connection, Segment { seq: connection.nxt.back(100_000), ..connection.segment(Flags::ACK) }, b"old").len();
    }
    assert!((1..=11).contains(&answers), "{answers} answers to 300 segments");
}

#[test]
fn guessed_resets_and_syns_draw_few_challenges_and_end_nothing() {
    for flags in [Flags::RST, Flags::SYN, Flags::RST | Flags::ACK, Flags::SYN | Flags::ACK] {
        let (mut peer, connection, socket) = established(&Config::default());
        let other = peer.open(40_001, SeqNum(1), modern());
        let mut answers = 0;
        for guess in 1..2000 {
            answers += peer.say(&connection, Segment { seq: connection.nxt + guess, ..connection.segment(flags) }, &[]).len();
        }
        assert!((1..=2).contains(&answers), "{answers} answers to {flags}");
        assert_eq!(peer.engine.state(socket), Some(State::Established));
        // The limit is each connection's own (R5961-8): another one's answer tells nobody anything.
        let answer = peer.say(&other, Segment { seq: other.nxt + 5, ..other.segment(flags) }, &[]);
        assert_eq!(answer.len(), 1, "{flags} on another connection");
    }
}

/// What one attacker hears of resets tells nothing of what others are told (RFC 5961 §7's lesson, CVE-2016-5696).
#[test]
fn resets_to_one_stranger_are_not_those_of_another() {
    let mut config = Config::default();
    config.resets_per_second = 100;
    let mut peer = Peer::new(&config);
    let mut resets = |source: &str, segments: usize| {
        let stray = Segment { ack: SeqNum(1), flags: Flags::ACK, ..Segment::default() };
        let [source, closed] = [source, "10.0.0.1:9"].map(|text| text.parse().expect("a literal"));
        (0..segments).map(|_| peer.inject(&packet::packet(source, closed, &stray, &[]), Checksum::Unknown).len()).sum::<usize>()
    };
    assert_eq!(resets("10.0.0.2:40000", 300), 5, "a twentieth of a second's worth at once");
    assert_eq!(resets("10.0.0.3:40000", 300), 5, "as if nobody else had asked");
    assert_eq!(resets("10.0.0.2:40001", 300), 0, "another port is no other source");
    assert_eq!(peer.engine.stats().resets_suppressed, 890);
}

#[test]
fn acknowledgments_of_the_unsent_change_nothing() {
    let (mut peer, connection, socket) = established(&Config::default());
    peer.engine.send(peer.now, socket, &[7; 50_000]).expect("a test sets this up");
    let sent = peer.hear().len();
    let before = peer.engine.info(socket).expect("it lives");
    for ahead in [60_000, 1 << 20, 1 << 30, (1 << 31) - 1] {
        let segment = connection.segment(Flags::ACK);
        peer.say(&connection, Segment { ack: segment.ack + ahead, ..segment }, &[]);
    }
    let after = peer.engine.info(socket).expect("it lives");
    assert!(sent > 0 && (before.snd_una, before.cwnd) == (after.snd_una, after.cwnd), "{before:?} became {after:?}");
}

#[test]
fn lying_blocks_never_stop_the_stream() {
    for seed in seeds(300, 5000) {
        let mut rng = Rng::new(seed);
        let (mut peer, mut connection, socket) = established(&Config::default());
        let stream: Vec<u8> = (0..30_000u32).map(|at| (at % 251) as u8).collect();
        peer.engine.send(peer.now, socket, &stream).expect("a test sets this up");
        let mut heard = vec![None; stream.len()];
        let start = connection.expected;
        let mut said = peer.hear();
        for round in 0..400 {
            for (segment, text) in said.drain(..) {
                let at = (segment.seq - start) as usize;
                // The receiver really loses some, at first.
                if round < 100 && rng.chance(300) {
                    continue;
                }
                heard.iter_mut().skip(at).zip(&text).for_each(|(slot, byte)| *slot = Some(*byte));
            }
            let whole = heard.iter().take_while(|byte| byte.is_some()).count();
            connection.expected = start + u32::try_from(whole).expect("small");
            let mut ack = connection.segment(Flags::ACK);
            for _ in 0..rng.below(4) {
                let left = connection.expected + u32::try_from(rng.below(40_000)).expect("small");
                ack.options.sack.push(SackBlock { left, right: left + u32::try_from(rng.below(5000)).expect("small") });
            }
            ack.options.sack.truncate(if round < 100 { 3 } else { 0 });
            said = peer.say(&connection, ack, &[]);
            said.extend(peer.pass(Duration::from_millis(rng.below(if round < 100 { 50 } else { 3000 }))));
            if whole == stream.len() {
                break;
            }
        }
        let received: Vec<u8> = heard.into_iter().map_while(|byte| byte).collect();
        assert!(received == stream, "seed {seed}: {} of {} bytes arrived", received.len(), stream.len());
    }
}

#[test]
fn the_smallest_segment_size_is_ours_to_set() {
    for mss in [0, 1, 20, 47, 48, 536, 65_535] {
        let mut peer = Peer::new(&Config::default());
        let connection = peer.open(40_000, SeqNum(5), Options { mss: Some(mss), ..modern() });
        let socket = connection.socket.expect("accepted");
        peer.engine.send(peer.now, socket, &[1; 20_000]).expect("a test sets this up");
        let said = peer.hear();
        assert!(said.len() >= 10, "{} segments", said.len());
        for (segment, text) in &said[..9] {
            assert!((36..=1448).contains(&text.len()), "MSS {mss}: {} bytes in {segment:?}", text.len());
        }
    }
}

#[test]
fn a_syn_is_answered_four_times_at_most() {
    let mut peer = Peer::new(&Config::default());
    peer.half_open(40_000, SeqNum(1), modern());
    let more = peer.pass(Duration::from_secs(600));
    assert!(more.len() <= 3, "{} more SYN,ACKs", more.len());
    assert!(more.iter().all(|(said, text)| said.flags == Flags::SYN | Flags::ACK && text.is_empty()));
    assert!(peer.engine.netstat(peer.now).iter().all(|row| row.state == State::Listen), "the half-open connection is forgotten");
}

/// R4987-1.
#[test]
fn a_newcomer_is_served_while_forged_syns_fill_the_cache() {
    let mut peer = with_cookies(SynCookies::UnderPressure, 8);
    for port in 1..1000 {
        peer.half_open(port, SeqNum(u32::from(port)), modern());
    }
    let connection = peer.open(40_000, SeqNum(5), modern());
    let info = peer.engine.info(connection.socket.expect("accepted")).expect("it lives");
    assert_eq!((info.send_scale, info.sack, info.timestamps, info.peer_mss), (Some(7), true, true, 1460));
    let stats = peer.engine.stats();
    assert_eq!((stats.syn_cookies_sent, stats.syn_cookies_received, stats.syn_cookies_failed), (999 - 8 + 1, 1, 0));
    assert_eq!(rows(&peer, State::SynReceived), 8);
}

/// R4987-1. The peer's SYN is answered by a cookie, comes again when there is room for a record, and only then is the cookie's acknowledgment here.
#[test]
fn a_slow_acknowledgment_of_a_cookie_counts_although_a_record_came_since() {
    let mut peer = with_cookies(SynCookies::UnderPressure, 1);
    let other = peer.half_open(1000, SeqNum(77), modern());
    let cookie = peer.half_open(40_000, SeqNum(5), modern());
    peer.say(&other, other.segment(Flags::RST), &[]);
    peer.now = peer.now + Duration::from_secs(1);
    let record = peer.half_open(40_000, SeqNum(5), modern());
    assert!(cookie.expected != record.expected && rows(&peer, State::SynReceived) == 1, "a record with a number of its own");
    assert_eq!(peer.say(&cookie, Segment { ack: cookie.expected + 9, ..cookie.segment(Flags::ACK) }, &[]).len(), 1, "a reset");
    assert_eq!(peer.say(&cookie, cookie.segment(Flags::SYN | Flags::ACK), &[]).len(), 1, "a reset");
    assert_eq!((rows(&peer, State::Established), peer.engine.stats().drops.of(DropReason::HandshakeAck)), (0, 2));
    let said = peer.say(&cookie, cookie.segment(Flags::ACK), b"hello");
    assert!(said.iter().all(|(said, _)| !said.flags.has(Flags::RST)), "{said:?}");
    let (socket, _) = peer.engine.accept(peer.now, peer.listener).expect("established");
    let mut bytes = [0; 16];
    assert_eq!(peer.engine.recv(peer.now, socket, &mut bytes), Ok(5));
    assert_eq!((rows(&peer, State::SynReceived), peer.engine.stats().syn_cookies_received), (0, 1));
    let later = peer.pass(Duration::from_secs(600));
    assert!(later.iter().all(|(said, _)| !said.flags.has(Flags::SYN)), "the record is gone: {later:?}");
}

#[test]
fn a_reset_of_a_half_open_connection_is_counted_once() {
    let mut peer = Peer::new(&Config::default());
    let connection = peer.half_open(40_000, SeqNum(1), modern());
    peer.say(&connection, connection.segment(Flags::RST), &[]);
    assert_eq!((peer.engine.stats().resets_in, peer.engine.stats().failed_opens), (1, 1));
}

#[test]
fn every_single_bit_that_is_flipped_is_noticed() {
    let mut peer = Peer::new(&Config::default());
    let connection = peer.open(40_000, SeqNum(1), modern());
    let frames = [
        packet::packet(
            PEER.parse().expect("a test sets this up"),
            HOST.parse().expect("a test sets this up"),
            &connection.segment(Flags::ACK),
            b"hello",
        ),
        packet::packet(
            PEER.parse().expect("a test sets this up"),
            HOST.parse().expect("a test sets this up"),
            &Segment { options: modern(), ..connection.segment(Flags::SYN) },
            &[],
        ),
    ];
    for frame in frames {
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let before = peer.engine.stats().drops.total();
            let said = peer.inject(&flipped, Checksum::Unknown);
            assert_eq!((said.len(), peer.engine.stats().drops.total()), (0, before + 1), "bit {bit}");
        }
    }
    assert_eq!(peer.engine.info(connection.socket.expect("accepted")).expect("it lives").receive_queue, 0);
}

#[test]
fn padding_and_cut_off_frames_never_reach_the_stream() {
    let (mut peer, mut connection, socket) = established(&Config::default());
    for padding in 0..47 {
        let mut frame = packet::packet(connection.peer, connection.host, &connection.segment(Flags::ACK), b"ab");
        for len in 0..frame.len() {
            peer.inject(&frame[..len], Checksum::Verified);
        }
        frame.extend(vec![b'!'; padding]);
        peer.inject(&frame, Checksum::Unknown);
        connection.nxt += 2;
    }
    assert_eq!(read_all(&mut peer, socket), b"ab".repeat(47));
}

#[test]
fn every_option_prefix_is_parsed_to_its_end() {
    let step = usize::try_from(count(37, 1)).expect("small");
    for prefix in (0..=u16::MAX).step_by(step) {
        for len in 0..=40 {
            let mut bytes = [1; 40];
            bytes[..2].copy_from_slice(&prefix.to_be_bytes());
            let options = Options::parse(&bytes[..len]);
            assert!(options.sack.as_slice().len() <= 4);
            let [kind, length] = prefix.to_be_bytes();
            let too_long = kind > 1 && len > 0 && (len == 1 || length < 2 || usize::from(length) > len);
            assert!(!too_long || options.malformed, "kind {kind} of length {length} in {len} bytes");
        }
    }
}

#[test]
fn extension_headers_and_fragments_are_dropped_by_name() {
    let mut peer = Peer::new(&Config::default());
    let chain = |kinds: &[u8]| {
        let mut body = Vec::new();
        for (_, next) in kinds.iter().zip(kinds.iter().skip(1).chain(&[6])) {
            body.extend([*next, 0, 1, 4, 0, 0, 0, 0]);
        }
        let syn = packet::packet(
            "[fd00::2]:40000".parse().expect("a test sets this up"),
            "[fd00::1]:7".parse().expect("a test sets this up"),
            &Segment { flags: Flags::SYN, ..Segment::default() },
            &[],
        );
        let (header, text) = syn.split_at(40);
        let mut frame = [header, &body, text].concat();
        let len = u16::try_from(frame.len() - 40).expect("small");
        frame[4..6].copy_from_slice(&len.to_be_bytes());
        frame[6] = kinds.first().copied().unwrap_or(6);
        frame
    };
    assert_eq!(peer.inject(&chain(&[]), Checksum::Verified).len(), 1, "without a chain a SYN is answered");
    for kinds in [&[43][..], &[44], &[0, 44], &[60; 9], &[0; 20], &[43, 60]] {
        let before = peer.engine.stats().drops.total();
        assert_eq!(peer.inject(&chain(kinds), Checksum::Verified).len(), 0, "{kinds:?}");
        assert_eq!(peer.engine.stats().drops.total(), before + 1, "{kinds:?}");
    }
}

#[test]
fn no_combination_of_flags_outside_the_window_moves_any_state() {
    let states = [
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
        State::SynReceived,
    ];
    for (state, flags) in states.into_iter().flat_map(|state| (0..=255).map(move |flags| (state, Flags(flags)))) {
        let mut peer = Peer::new(&Config::default());
        let connection = peer.in_state(state, 40_000, SeqNum(u32::MAX - 2), modern());
        let states = |peer: &Peer| peer.engine.netstat(peer.now).iter().map(|row| row.state).collect::<Vec<_>>();
        let before = states(&peer);
        assert!(before.contains(&state), "{state:?} is not among {before:?}");
        let stray = Segment { seq: connection.nxt.back(1 << 30), ack: connection.expected + (1 << 30), ..connection.segment(flags) };
        let said = peer.say(&connection, stray, b"x");
        assert_eq!(states(&peer), before, "{flags} in {state:?}");
        let reset = said.iter().any(|(said, _)| said.flags.has(Flags::RST));
        assert!(said.len() <= 1 && (!reset || state == State::SynReceived), "{flags} in {state:?} drew {said:?}");
    }
}
