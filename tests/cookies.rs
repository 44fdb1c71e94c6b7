//! SYN cookies from outside: newcomers are served when there is no room for a record (RFC 4987 §3.6), and acknowledgments that answer no SYN
//! open nothing, however many there are.

#[path = "support/effort.rs"]
mod effort;
#[path = "support/packet.rs"]
mod packet;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/rng.rs"]
mod rng;

use std::time::Duration;

use synfin::proto::wire::{Flags, Options, Segment, SeqNum, Timestamps};
use synfin::proto::{Checksum, Config, DropReason, Frame, State, Stats, SynCookies};

use crate::effort::count;
use crate::peer::{HOST, PEER, Peer};
use crate::rng::Rng;

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

fn with_cookies(syn_cookies: SynCookies, half_open_capacity: usize) -> Peer {
    let mut config = Config::default();
    config.syn_cookies = syn_cookies;
    config.half_open_capacity = half_open_capacity;
    Peer::new(&config)
}

fn rows(peer: &Peer, state: State) -> usize {
    peer.engine.netstat(peer.now).iter().filter(|row| row.state == state).count()
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

/// The peer's SYN is answered by a cookie, comes again when there is room for a record, and only then is the cookie's acknowledgment here.
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

/// R4987-4. Nobody ever asked for a connection: no acknowledgment is even compared.
#[test]
fn acknowledgments_without_a_cookie_open_nothing() {
    for syn_cookies in [SynCookies::Off, SynCookies::UnderPressure, SynCookies::Always] {
        let mut peer = with_cookies(syn_cookies, 1);
        let stats = guess(&mut peer);
        assert_eq!((stats.passive_opens, stats.syn_cookies_received, stats.syn_cookies_failed), (0, 0, 0), "{syn_cookies:?}");
        assert_eq!(stats.drops.of(DropReason::NoSocket), guesses(), "{syn_cookies:?}");
    }
}

/// R4987-4. With cookies in circulation, a guess is right once in 2^28.
#[test]
fn acknowledgments_at_random_open_nothing() {
    for syn_cookies in [SynCookies::UnderPressure, SynCookies::Always] {
        let mut peer = with_cookies(syn_cookies, 1);
        for port in [40_001, 40_002] {
            peer.half_open(port, SeqNum(1), modern());
        }
        let stats = guess(&mut peer);
        let opened = stats.syn_cookies_received;
        // One in sixteen runs of 2^24 would have one; three would be one run in 25,000.
        assert!(opened <= 2 && stats.passive_opens == opened, "{opened} opened, {syn_cookies:?}");
        assert_eq!(stats.syn_cookies_failed + opened, guesses(), "every one was compared, {syn_cookies:?}");
    }
}

fn guesses() -> u64 {
    count(1 << 18, 1 << 24)
}

/// Sends acknowledgments with random numbers from random ports, one every 5 µs, and returns the counters.
fn guess(peer: &mut Peer) -> Stats {
    let mut rng = Rng::new(7);
    let [source, destination] = [PEER, HOST].map(|text| text.parse().expect("a literal"));
    let ack = Segment { flags: Flags::ACK, window: 60_000, ..Segment::default() };
    let mut frame = packet::packet(source, destination, &ack, &[]);
    for sent in 0..guesses() {
        let [numbers, port] = [rng.next_u64(), rng.between(1, 40_000)];
        frame[NUMBERS].copy_from_slice(&numbers.to_be_bytes());
        frame[SOURCE_PORT].copy_from_slice(&u16::try_from(port).expect("a port").to_be_bytes());
        peer.engine.receive(peer.now, Frame { checksum: Checksum::Verified, ..Frame::borrowed(&frame) });
        peer.now = peer.now + Duration::from_micros(5);
        if sent % 64 == 63 {
            peer.hear();
        }
    }
    *peer.engine.stats()
}

/// Where an IPv4 packet without options has the TCP source port, and the sequence and acknowledgment numbers.
const SOURCE_PORT: std::ops::Range<usize> = 20..22;
const NUMBERS: std::ops::Range<usize> = 24..32;
