//! SYN cookies: a handshake without a record, when there is no room for one (RFC 4987 §3.6 and appendix A).
//!
//! Our initial sequence number is the cookie: what the handshake needs to know, under a keyed hash, so that the third segment brings it back.
//! The layout is Linux's, with eight classes of MSS instead of four:
//!
//! ```text
//!   ISS = F(key 1, 4-tuple) + IRS + (period << 24) + ((F(key 2, 4-tuple, period) + MSS class) mod 2^24)
//!   TSval = our clock, some 64 ms back at most, with these in its low bits:  0 | SACK | window scale (4 bits, 15: none)
//! ```
//!
//! A period is 64 s, and a cookie lives in its own and in the next. Of 2^32 acknowledgment numbers, 2 periods times 8 classes are valid for a
//! 4-tuple: a guess is right once in 2^28, and is only looked at for two periods after a listener has sent a cookie. Without timestamps, window
//! scaling and SACK are lost, as in Linux. It must not know: sockets, buffers.

use super::Engine;
use super::arrival::Arrival;
use super::listener::{Completion, ListenerId};
use super::slot::Way;
use super::stats::DropReason;
use super::syn_cache::HalfOpen;
use crate::proto::Instant;
use crate::proto::link::Medium;
use crate::proto::random::{KeyedHash, Secrets};
use crate::proto::tcp::buffer::Payload;
use crate::proto::tcp::config::{Config, SynCookies};
use crate::proto::tcp::negotiated::{Negotiated, Scales, receive_scale};
use crate::proto::tcp::state::State;
use crate::proto::tcp::timestamps::Clock;
use crate::proto::wire::options::WINDOW_SCALE_MAX;
use crate::proto::wire::{Flags, SeqNum, Tuple};

/// The keys of all cookies of an engine.
#[derive(Clone, Debug)]
pub(super) struct Cookies {
    lasting: KeyedHash,
    periodic: KeyedHash,
}

impl Cookies {
    pub(super) fn new(secrets: &Secrets) -> Self {
        Self { lasting: secrets.keyed_hash("syn cookie"), periodic: secrets.keyed_hash("syn cookie of a period") }
    }

    /// The initial sequence number that stands for a handshake.
    #[must_use]
    fn issue(&self, now: Instant, tuple: &Tuple, irs: SeqNum, mss: u16) -> SeqNum {
        let class = MSS_CLASSES.iter().rposition(|least| *least <= mss).unwrap_or(0);
        let period = period(now);
        let low = low_half(self.periodic(tuple, period) + class as u64) & LOW_BITS;
        self.base(tuple, irs) + (low_half(period) << LOW_WIDTH) + low
    }

    /// The MSS that a cookie of this period or the last one stands for.
    #[must_use]
    fn check(&self, now: Instant, tuple: &Tuple, irs: SeqNum, iss: SeqNum) -> Option<u16> {
        let cookie = iss - self.base(tuple, irs);
        let current = period(now);
        let age = u64::from((low_half(current) << LOW_WIDTH).wrapping_sub(cookie & !LOW_BITS) >> LOW_WIDTH);
        let issued = current.checked_sub(age).filter(|_| age < PERIODS_VALID)?;
        let class = cookie.wrapping_sub(low_half(self.periodic(tuple, issued))) & LOW_BITS;
        MSS_CLASSES.get(class as usize).copied()
    }

    fn base(&self, tuple: &Tuple, irs: SeqNum) -> SeqNum {
        irs + low_half(self.lasting.hash(&[&tuple.to_bytes()]))
    }

    fn periodic(&self, tuple: &Tuple, period: u64) -> u64 {
        self.periodic.hash(&[&tuple.to_bytes(), &period.to_le_bytes()]) & u64::from(LOW_BITS)
    }
}

impl Engine {
    /// Whether a SYN is answered by a cookie: a full accept queue would only turn the third segment away, and an answer that needs a neighbour's
    /// address is no answer without state.
    pub(super) fn wants_cookie(&self, listener: ListenerId, arrival: &Arrival) -> bool {
        let Some(queue) = self.listeners.get(listener) else { return false };
        let wanted = match self.config.syn_cookies {
            SynCookies::Off => false,
            SynCookies::UnderPressure => queue.is_syn_queue_full() || self.syn_cache.is_full(),
            SynCookies::Always => true,
        };
        let direct = arrival.from.is_some()
            || self.link.is_some_and(|link| link.medium == Medium::Ip)
            || self.way_to(arrival.tuple.remote) == Way::Loopback;
        wanted && direct && !queue.is_full()
    }

    /// Answers a SYN once, and forgets it.
    pub(super) fn send_cookie(&mut self, listener: ListenerId, arrival: &Arrival) {
        let mut half_open = self.half_open(listener, arrival, None);
        if !half_open.timestamps {
            half_open.negotiated = Negotiated { scales: None, sack: false, ..half_open.negotiated };
        }
        let Negotiated { mss, scales, sack } = half_open.negotiated;
        half_open.iss = self.cookies.issue(self.now, &half_open.tuple, half_open.irs, mss);
        let offset = self.isn.timestamp_offset(&half_open.tuple);
        let carried = Carried { scale: scales.map(|scales| scales.send), sack };
        let clock = carried.stamp(Clock::value(0, self.now)).wrapping_add(offset);
        if let Some(queue) = self.listeners.get_mut(listener) {
            queue.on_cookie(self.now);
        }
        self.stats.syn_cookies_sent += 1;
        self.send_syn_ack_at(&half_open, clock, arrival.from);
    }

    /// An ACK for a listener. If it brings a cookie back, it is the third segment of a handshake; else it belongs to nobody.
    pub(super) fn receive_cookie(&mut self, listener: ListenerId, hash: u64, arrival: &Arrival, text: Payload<'_>) {
        match self.check_cookie(listener, arrival) {
            Some(half_open) => self.complete_cookie(&half_open, hash, arrival, text),
            None => self.receive_stray_ack(arrival),
        }
    }

    /// The handshake whose third segment this is, if a listener that sent cookies of late gets one back.
    pub(super) fn check_cookie(&mut self, listener: ListenerId, arrival: &Arrival) -> Option<HalfOpen> {
        let sent_at = self.listeners.get(listener).and_then(|queue| queue.cookie_sent_at());
        let recent = sent_at.is_some_and(|at| (self.now - at).as_secs() < PERIODS_VALID * PERIOD_SECONDS);
        if self.config.syn_cookies == SynCookies::Off || !recent || arrival.segment.flags.has(Flags::SYN) {
            return None;
        }
        let half_open = self.half_open_of_cookie(listener, arrival);
        match half_open {
            Some(_) => self.stats.syn_cookies_received += 1,
            None => self.stats.syn_cookies_failed += 1,
        }
        half_open
    }

    /// The third segment of a handshake that has no record, or whose record is that of a SYN sent again since.
    pub(super) fn complete_cookie(&mut self, half_open: &HalfOpen, hash: u64, arrival: &Arrival, text: Payload<'_>) {
        let Some(queue) = self.listeners.get_mut(half_open.listener) else { return };
        // Linux's `tcp_abort_on_overflow` does not concern cookies: the peer's next segment brings the cookie again.
        if queue.on_handshake_ack(crate::proto::BacklogPolicy::Ignore) != Completion::Establish {
            self.stats.listen_overflows += 1;
            return self.stats.drops.count(DropReason::AcceptQueueFull);
        }
        if self.sockets.len() >= self.config.connections_max {
            return self.stats.drops.count(DropReason::ConnectionsFull);
        }
        if let Some(key) = self.syn_cache.find(hash, &half_open.tuple) {
            self.forget_half_open(key);
        }
        self.trace_change(half_open.tuple, State::Listen, State::SynReceived);
        self.establish(half_open, hash, arrival, text);
    }

    /// The record that would have been, but for the time of the SYN.
    fn half_open_of_cookie(&self, listener: ListenerId, arrival: &Arrival) -> Option<HalfOpen> {
        let Arrival { tuple, segment, .. } = arrival;
        let (iss, irs) = (SeqNum(segment.ack.0.wrapping_sub(1)), SeqNum(segment.seq.0.wrapping_sub(1)));
        let mss = self.cookies.check(self.now, tuple, irs, iss)?.max(self.config.mss_min);
        let mut negotiated = Negotiated { mss, scales: None, sack: false };
        if let Some(timestamps) = segment.options.timestamps {
            let stamp = timestamps.echo.wrapping_sub(self.isn.timestamp_offset(tuple));
            let receive = receive_scale(&self.config, self.accepted_options(listener).receive_buffer);
            let carried = Carried::of_stamp(stamp).within(&self.config)?;
            negotiated.scales = carried.scale.map(|send| Scales { send, receive });
            negotiated.sack = carried.sack;
        }
        Some(HalfOpen {
            tuple: *tuple,
            iss,
            irs,
            ts_recent: segment.options.timestamps.map_or(0, |timestamps| timestamps.value),
            listener,
            created: None,
            negotiated,
            timestamps: segment.options.timestamps.is_some(),
            retransmits: 0,
        })
    }
}

/// What the low bits of a TSval carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Carried {
    scale: Option<u8>,
    sack: bool,
}

impl Carried {
    /// The latest value not after `clock` whose low bits say this.
    fn stamp(self, clock: u32) -> u32 {
        let bits = u32::from(self.scale.unwrap_or(NO_SCALE)) | if self.sack { SACK_BIT } else { 0 };
        let stamp = (clock & !STAMP_BITS) | bits;
        if stamp > clock { stamp.wrapping_sub(STAMP_BITS + 1) } else { stamp }
    }

    fn of_stamp(stamp: u32) -> Self {
        let scale = u8::try_from(stamp & u32::from(NO_SCALE)).ok().filter(|scale| *scale <= WINDOW_SCALE_MAX);
        Self { scale, sack: stamp & SACK_BIT != 0 }
    }

    /// `None` if it says what this configuration never says.
    fn within(self, config: &Config) -> Option<Self> {
        let possible = config.timestamps && (config.sack || !self.sack) && (config.window_scaling || self.scale.is_none());
        possible.then_some(self)
    }
}

fn period(now: Instant) -> u64 {
    now.as_millis() / (PERIOD_SECONDS * 1000)
}

const fn low_half(value: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "arithmetic modulo 2^32 is meant")]
    let low = value as u32;
    low
}

/// MSS by class, in bytes: what a peer said counts as the greatest that is no more. The least a host may announce, the defaults of RFC 9293
/// §3.7.1, tunnels, then Ethernet with IPv6 and IPv4, and jumbo frames.
const MSS_CLASSES: [u16; 8] = [48, 216, 536, 1220, 1360, 1440, 1460, 8940];

/// How long the second key lasts, in seconds: near Linux's 60.
const PERIOD_SECONDS: u64 = 64;

/// In how many periods a cookie is valid, its own included: Linux's `MAX_SYNCOOKIE_AGE`.
const PERIODS_VALID: u64 = 2;

/// How many bits of a cookie hold hash and class; those above hold the period.
const LOW_WIDTH: u32 = 24;
const LOW_BITS: u32 = (1 << LOW_WIDTH) - 1;

/// The bits of a TSval that carry options: Linux's `TSBITS`. The sixth would be ECN and is zero.
const STAMP_BITS: u32 = 0x3f;
const SACK_BIT: u32 = 0x10;

/// A window scale that cannot be: none was offered.
const NO_SCALE: u8 = 0xf;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::random::Generator;
    use crate::proto::wire::{Address, IpHeader, OptionLayout, Segment, ip, tcp};
    use crate::proto::{Checksum, Cidr, Frame, Link, Stats};

    fn cookies() -> Cookies {
        Cookies::new(&Secrets::new([1; 32]))
    }

    fn tuple(port: u16) -> Tuple {
        Tuple::new("10.0.0.1:80".parse().unwrap(), std::net::SocketAddr::new([10, 0, 0, 2].into(), port))
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn effort(quick: u32, full: u32) -> u32 {
        if std::env::var_os("SYNFIN_TEST").is_some_and(|value| value == "full") { full } else { quick }
    }

    #[test]
    fn a_cookie_brings_the_mss_back_never_a_greater_one() {
        let cookies = cookies();
        for (said, comes_back) in
            [(48, 48), (215, 48), (536, 536), (1219, 536), (1220, 1220), (1400, 1360), (1459, 1440), (1460, 1460), (u16::MAX, 8940)]
        {
            let irs = SeqNum(u32::MAX);
            let cookie = cookies.issue(at(1000), &tuple(1), irs, said);
            assert_eq!(cookies.check(at(1000), &tuple(1), irs, cookie), Some(comes_back), "{said}");
        }
    }

    /// R4987-2.
    #[test]
    fn a_cookie_is_of_one_tuple_one_sequence_number_and_one_secret() {
        let cookies = cookies();
        let cookie = cookies.issue(at(1000), &tuple(1), SeqNum(7), 1460);
        assert_eq!(cookies.check(at(1000), &tuple(1), SeqNum(7), cookie), Some(1460));
        assert_eq!(cookies.check(at(1000), &tuple(2), SeqNum(7), cookie), None);
        assert_eq!(cookies.check(at(1000), &tuple(1), SeqNum(7 + (1 << 12)), cookie), None);
        assert_eq!(Cookies::new(&Secrets::new([2; 32])).check(at(1000), &tuple(1), SeqNum(7), cookie), None);
    }

    /// R4987-2.
    #[test]
    fn a_cookie_lives_in_its_period_and_the_next() {
        let cookies = cookies();
        // 256 periods on, the period's eight bits are the same again; the hash is not.
        for (issued, valid, expired) in [(0, 127, 128), (63, 127, 128), (64, 191, 192), (64 * 300, 64 * 302 - 1, 64 * 302)] {
            let cookie = cookies.issue(at(issued), &tuple(1), SeqNum(7), 1460);
            assert_eq!(cookies.check(at(valid), &tuple(1), SeqNum(7), cookie), Some(1460), "{issued}");
            for late in [expired, issued + 64 * 256, issued + 64 * 257] {
                assert_eq!(cookies.check(at(late), &tuple(1), SeqNum(7), cookie), None, "{issued} {late}");
            }
            if issued >= 64 {
                assert_eq!(cookies.check(at(issued - 64), &tuple(1), SeqNum(7), cookie), None, "from the future: {issued}");
            }
        }
    }

    /// R4987-4. Of all 2^32 numbers 16 are valid; of those with the right upper bits for a period, 8 in 2^24.
    #[test]
    fn a_guess_is_right_once_in_two_to_the_28th() {
        let cookies = cookies();
        let base = cookies.issue(at(64 * 5), &tuple(1), SeqNum(7), 48);
        let valid = |iss: SeqNum| cookies.check(at(64 * 5), &tuple(1), SeqNum(7), iss).is_some();
        let around = (0..64).filter(|step: &u32| valid(SeqNum(base.0.wrapping_sub(16).wrapping_add(*step)))).count();
        assert_eq!(around, MSS_CLASSES.len());
        let mut chance: Generator = Secrets::new([9; 32]).generator("guesses");
        let guesses = effort(1 << 20, 1 << 24);
        let hits = (0..guesses).filter(|_| valid(SeqNum(low_half(chance.next_u64())))).count();
        assert!(hits <= 2, "{hits} of {guesses} guesses");
    }

    /// R4987-3.
    #[test]
    fn a_timestamp_carries_options_and_is_at_most_64_ms_old() {
        for scale in (0..=WINDOW_SCALE_MAX).map(Some).chain([None]) {
            for sack in [false, true] {
                for clock in [0, 1, 31, 32, 63, 64, 12_345, u32::MAX] {
                    let carried = Carried { scale, sack };
                    let stamp = carried.stamp(clock);
                    assert_eq!(Carried::of_stamp(stamp), carried);
                    assert!(clock.wrapping_sub(stamp) < 64, "{carried:?} {clock} {stamp}");
                }
            }
        }
    }

    #[test]
    fn options_that_are_off_are_not_taken_from_a_timestamp() {
        let off = Config { sack: false, window_scaling: false, ..Config::default() };
        for (scale, sack) in [(Some(7), false), (None, true)] {
            let carried = Carried { scale, sack };
            assert_eq!((carried.within(&Config::default()), carried.within(&off)), (Some(carried), None));
        }
        assert!(Carried { scale: None, sack: false }.within(&off).is_some());
    }

    /// An engine with one listener on port 80.
    fn engine(syn_cookies: SynCookies) -> Engine {
        let mut engine = Engine::new(Config { syn_cookies, half_open_capacity: 1, ..Config::default() }, [9; 32], at(1));
        engine.set_link(at(1), Some(Link::new(Medium::Ip, 1500)));
        engine.add_address(at(1), "10.0.0.1/24".parse::<Cidr>().unwrap());
        engine.listen(at(1), "0.0.0.0:80".parse().unwrap(), 64).unwrap();
        engine
    }

    /// A segment without a checksum from this port of a neighbour to port 80.
    fn packet(source_port: u16, flags: Flags) -> Vec<u8> {
        let segment = Segment { source_port, destination_port: 80, flags, window: 60_000, ..Segment::default() };
        let (mut text, mut header) = ([0; tcp::HEADER_LEN_MAX], [0; ip::HEADER_LEN_MAX]);
        let len = segment.emit(OptionLayout::Linux, &mut text);
        let [source, destination] = [2, 1].map(|host| Address::new([10, 0, 0, host].into()));
        let below = IpHeader { source, destination, protocol: ip::protocol::TCP, hop_limit: 64, traffic_class: 0 };
        let header_len = below.emit(0, len, &mut header);
        [&header[..header_len], &text[..len]].concat()
    }

    fn receive(engine: &mut Engine, now: Instant, bytes: &[u8]) {
        engine.receive(now, Frame { checksum: Checksum::Verified, ..Frame::borrowed(bytes) });
    }

    fn guesses() -> u32 {
        effort(1 << 18, 1 << 24)
    }

    /// Acknowledges random numbers from random ports, one every 5 µs.
    fn guess(engine: &mut Engine) -> Stats {
        let mut chance = Secrets::new([7; 32]).generator("forged acknowledgments");
        let mut bytes = packet(1, Flags::ACK);
        for sent in 0..guesses() {
            let (numbers, port) = (chance.next_u64(), low_half(chance.next_u64()).to_be_bytes());
            bytes[24..32].copy_from_slice(&numbers.to_be_bytes());
            bytes[20..22].copy_from_slice(&port[..2]);
            let now = at(1) + Duration::from_micros(5) * sent;
            receive(engine, now, &bytes);
            if sent % 64 == 63 {
                let _ = engine.transmit(now, &mut Vec::new());
            }
        }
        *engine.stats()
    }

    /// R4987-4. While no cookie is in circulation no acknowledgment is even compared.
    #[test]
    fn acknowledgments_without_a_cookie_open_nothing() {
        for syn_cookies in [SynCookies::Off, SynCookies::UnderPressure, SynCookies::Always] {
            let stats = guess(&mut engine(syn_cookies));
            assert_eq!((stats.passive_opens, stats.syn_cookies_received, stats.syn_cookies_failed), (0, 0, 0), "{syn_cookies:?}");
            assert_eq!(stats.drops.of(DropReason::NoSocket), u64::from(guesses()), "{syn_cookies:?}");
        }
    }

    /// R4987-4. With cookies in circulation a guess is right once in 2^28: 2^24 of them find one in one run of sixteen, three in one of 25,000.
    #[test]
    fn acknowledgments_at_random_open_nothing() {
        for syn_cookies in [SynCookies::UnderPressure, SynCookies::Always] {
            let mut engine = engine(syn_cookies);
            for port in [40_001, 40_002] {
                receive(&mut engine, at(1), &packet(port, Flags::SYN));
            }
            let stats = guess(&mut engine);
            let opened = stats.syn_cookies_received;
            assert!(stats.syn_cookies_sent > 0 && opened <= 2 && stats.passive_opens == opened, "{opened} opened, {syn_cookies:?}");
            assert!(stats.syn_cookies_failed + 1000 > u64::from(guesses()), "all but those of the record are compared, {syn_cookies:?}");
        }
    }
}
