//! Neighbours that never answer, go away, move to another Ethernet address, or are somebody else (RFC 4861 §7, RFC 1122 §2.3.2.1).

use std::time::Duration;

use synfin::proto::stats::DropReason;
use synfin::proto::wire::arp::Operation;
use synfin::proto::wire::{Address, Sum};
use synfin::proto::{CloseReason, Config, ConnectedError, Instant, Link, MacAddress, RecvError, SocketId, State};

use crate::hub::{Hub, advertisement, arp, link, mac};

const SECOND: Duration = Duration::from_secs(1);

/// A gateway that answers for a host behind it, and a client; both ends of a connection through it.
struct Transfer {
    hub: Hub,
    server: SocketId,
    client: SocketId,
}

impl Transfer {
    fn open() -> Self {
        Self::between(["10.9.0.1/24 203.0.113.1/32", "10.9.0.2/24"], "10.9.0.1", "203.0.113.1:7")
    }

    fn open_v6() -> Self {
        Self::between(["fd09::1/64 2001:db8:1::1/128", "fd09::2/64"], "fd09::1", "[2001:db8:1::1]:7")
    }

    fn between(hosts: [&str; 2], gateway: &str, server: &str) -> Self {
        let mut hub = Hub::new(&Config::default(), &hosts);
        hub.hosts[1].set_gateway(gateway.parse().expect("a literal"));
        let listener = hub.hosts[0].listen(hub.now, server.parse().expect("a literal"), 1).expect("a free port");
        let client = hub.hosts[1].connect(hub.now, server.parse().expect("a literal"), None, None).expect("a port");
        hub.run(SECOND);
        let (server, _) = hub.hosts[0].accept(hub.now, listener).expect("connected");
        Self { hub, server, client }
    }

    /// Sends something and waits for it to arrive; answers how long that took.
    fn pass(&mut self) -> Duration {
        let start = self.hub.now;
        assert_eq!(self.hub.hosts[1].send(start, self.client, b"something"), Ok(9));
        let mut buffer = [0; 16];
        while self.hub.hosts[0].recv(self.hub.now, self.server, &mut buffer) != Ok(9) {
            assert!(self.hub.now - start < 60 * SECOND, "nothing arrives any more");
            self.hub.run(Duration::from_millis(10));
        }
        self.hub.run(SECOND);
        self.hub.now - start - SECOND
    }

    /// The gateway gets another Ethernet card. It says so where others share the link.
    fn move_gateway(&mut self, to: Link) {
        let now = self.hub.now;
        self.hub.hosts[0].set_link(now, Some(to));
    }
}

fn host(text: &str) -> Address {
    Address::new(text.parse().expect("a literal"))
}

/// How long it takes until `is_over`.
fn until(hub: &mut Hub, step: Duration, is_over: impl Fn(&mut Hub) -> bool) -> Duration {
    let start: Instant = hub.now;
    while !is_over(hub) {
        assert!(hub.now - start < 7200 * SECOND, "for ever");
        hub.run(step);
    }
    hub.now - start
}

/// R4861-2.
#[test]
fn an_open_to_a_host_that_never_answers_fails_after_three_questions() {
    for (own, peer) in [("10.9.0.2/24", "10.9.0.77"), ("fd09::2/64", "fd09::77"), ("fe80::2/64", "fe80::77")] {
        let mut hub = Hub::new(&Config::default(), &[own]);
        hub.run(5 * SECOND);
        hub.said(0);
        let remote = (peer.parse::<std::net::IpAddr>().expect("a literal"), 7).into();
        let id = hub.hosts[0].connect(hub.now, remote, None, None).expect("a port");
        let time = until(&mut hub, Duration::from_millis(1), |hub| hub.hosts[0].connected(id) != Err(ConnectedError::WouldBlock));
        assert_eq!(hub.hosts[0].connected(id), Err(ConnectedError::Closed(CloseReason::HostUnreachable)));
        assert_eq!(time, 3 * SECOND);
        let question = format!("ask {peer} from {} to all", own.split('/').next().expect("a part"));
        assert_eq!(hub.said(0).into_iter().map(|(_, what)| what).collect::<Vec<_>>(), [question.as_str(); 3]);
    }
}

#[test]
fn a_connection_to_a_host_that_went_away_ends_after_its_retries_as_unreachable() {
    // Nothing in flight when the peer goes, something later: either way it ends in the time of `tcp_retries2`.
    for silence in [Duration::ZERO, 300 * SECOND] {
        let Transfer { mut hub, client, .. } = Transfer::open();
        hub.unplugged.push(0);
        hub.run(silence);
        assert_eq!(hub.hosts[1].send(hub.now, client, b"lost"), Ok(4));
        let time = until(&mut hub, SECOND, |hub| hub.hosts[1].info(client).is_none_or(|info| info.state == State::Closed));
        let end = hub.hosts[1].recv(hub.now, client, &mut [0]);
        assert_eq!(end, Err(RecvError::Closed(CloseReason::HostUnreachable)), "{silence:?}");
        assert!((900 * SECOND..1100 * SECOND).contains(&time), "{time:?}");
        assert!(hub.hosts[1].stats().segments_unheard > 0);
    }
}

#[test]
fn a_connection_outlives_a_neighbour_that_comes_back() {
    let mut transfer = Transfer::open();
    transfer.hub.unplugged.push(0);
    let now = transfer.hub.now;
    assert_eq!(transfer.hub.hosts[1].send(now, transfer.client, b"late"), Ok(4));
    transfer.hub.run(60 * SECOND);
    transfer.hub.unplugged.clear();
    transfer.hub.run(130 * SECOND);
    let mut buffer = [0; 16];
    assert_eq!(transfer.hub.hosts[0].recv(transfer.hub.now, transfer.server, &mut buffer), Ok(4));
    assert!(transfer.pass() < SECOND);
}

#[test]
fn a_gateway_that_says_that_it_moved_is_followed() {
    let mut transfer = Transfer::open();
    assert!(transfer.pass() < SECOND);
    transfer.move_gateway(link(mac(0x50)));
    transfer.hub.run(SECOND);
    assert!(transfer.pass() < SECOND);
}

/// R4861-5.
#[test]
fn a_gateway_that_moved_in_silence_is_found() {
    let mut transfer = Transfer::open();
    assert!(transfer.pass() < SECOND);
    transfer.move_gateway(link(mac(0x50)).with_sharing(false));
    let time = transfer.pass();
    assert!(time < 10 * SECOND, "{time:?}");
    assert!(transfer.pass() < SECOND);
}

#[test]
fn a_flood_of_moves_is_refused_but_for_one_a_second() {
    let moved = |mac| arp(Operation::Reply, mac, [10, 9, 0, 1], [10, 9, 0, 2]);
    let moved_v6 = |mac| advertisement(mac, host("fd09::1"));
    for (mut transfer, claim) in [(Transfer::open(), &moved as &dyn Fn(MacAddress) -> Vec<u8>), (Transfer::open_v6(), &moved_v6)] {
        for round in 0..3000_usize {
            let [.., high, low] = round.to_be_bytes();
            transfer.hub.hear(1, &claim(MacAddress([2, 0, 0, 1, high, low])));
            transfer.hub.run(Duration::from_millis(1));
        }
        let refused = transfer.hub.hosts[1].neighbor_counters().changes_refused;
        assert!((2990..3000).contains(&refused), "{refused} of 3000 in 3 s");
        let time = transfer.pass();
        assert!(time < 10 * SECOND, "the gateway is found again after {time:?}");
    }
}

#[test]
fn a_link_local_gateway_carries_global_addresses() {
    let mut hub = Hub::new(&Config::default(), &["fe80::1/64 2001:db8:1::1/128", "fe80::2/64 2001:db8::2/64"]);
    hub.hosts[0].set_gateway("fe80::2".parse().expect("a literal"));
    hub.hosts[1].set_gateway("fe80::1".parse().expect("a literal"));
    hub.hosts[0].listen(hub.now, "[::]:7".parse().expect("a literal"), 1).expect("a free port");
    let id = hub.hosts[1].connect(hub.now, "[2001:db8:1::1]:7".parse().expect("a literal"), None, None).expect("a port");
    hub.run(SECOND);
    assert_eq!(hub.hosts[1].connected(id), Ok(()));
    assert_eq!(hub.hosts[1].local_addr(id).map(|local| local.ip()), "2001:db8::2".parse().ok());
    let asked: Vec<_> = hub.said(1).into_iter().filter(|(_, what)| what.starts_with("ask")).map(|(_, what)| what).collect();
    assert_eq!(asked, ["ask fe80::1 from fe80::2 to all"]);
}

/// R4861-3.
#[test]
fn strangers_enter_no_table() {
    let mut transfer = Transfer::open();
    let mut other = Transfer::open_v6();
    let before = [&transfer, &other].map(|transfer| transfer.hub.hosts[1].neighbor_counters().unsolicited);
    for last in 3..=254 {
        transfer.hub.hear(1, &arp(Operation::Reply, mac(0x60), [10, 9, 0, last], [10, 9, 0, 2]));
        transfer.hub.hear(1, &arp(Operation::Request, mac(0x60), [10, 9, 0, last], [10, 9, 0, last]));
    }
    for last in 1..=20_000 {
        other.hub.hear(1, &advertisement(mac(0x60), host(&format!("fd09::{last:x}:1"))));
    }
    for ((mut transfer, before), claims) in [transfer, other].into_iter().zip(before).zip([504, 20_000]) {
        let counters = *transfer.hub.hosts[1].neighbor_counters();
        assert_eq!((counters.unsolicited - before, counters.evictions), (claims, 0));
        assert!(transfer.pass() < SECOND);
    }
}

/// R8504-6: while segments are taken nobody is asked; after a silence, once and by unicast.
#[test]
fn progress_confirms_the_neighbor() {
    let mut transfer = Transfer::open();
    transfer.hub.said(1);
    (0..30).for_each(|_| {
        transfer.pass();
        transfer.hub.run(3 * SECOND);
    });
    let questions = |hub: &mut Hub| hub.said(1).into_iter().filter(|(_, what)| what.starts_with("ask")).map(|(_, what)| what).collect();
    let asked: Vec<String> = questions(&mut transfer.hub);
    assert!(asked.is_empty(), "{asked:?}");
    transfer.hub.run(60 * SECOND);
    transfer.pass();
    let asked: Vec<String> = questions(&mut transfer.hub);
    assert_eq!(asked, ["ask 10.9.0.1 from 10.9.0.2"]);
}

/// R4861-7.
#[test]
fn redirects_are_refused_and_counted() {
    let mut transfer = Transfer::open();
    let [from, to] = ["fe80::1", "ff02::1"].map(host);
    // RFC 4861 §4.5: another first hop for somebody.
    let mut message = [&[137, 0, 0, 0, 0, 0, 0, 0], &from.octets()[..], &from.octets()].concat();
    let sum = (Sum::pseudo_header(from, to, 58, 40) + Sum::of(&message)).complete();
    message[2..4].copy_from_slice(&sum);
    let six =
        [&[0x33, 0x33, 0, 0, 0, 1], &mac(0).0[..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, 58, 255], &from.octets(), &to.octets(), &message];
    transfer.hub.hear(1, &six.concat());
    // RFC 792: the same for IPv4, about a segment of ours.
    let mut message =
        [&[5, 1, 0, 0, 10, 9, 0, 99][..], &[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0], &[10, 9, 0, 2, 203, 0, 113, 1], &[0; 8]].concat();
    let sum = Sum::of(&message).complete();
    message[2..4].copy_from_slice(&sum);
    let length = u8::try_from(20 + message.len()).expect("short");
    let mut header = [&[0x45, 0, 0, length, 0, 0, 0, 0, 64, 1, 0, 0][..], &[10, 9, 0, 1], &[10, 9, 0, 2]].concat();
    let sum = Sum::of(&header).complete();
    header[10..12].copy_from_slice(&sum);
    transfer.hub.hear(1, &[&mac(1).0, &mac(0).0[..], &[8, 0], &header, &message].concat());
    let drops = transfer.hub.hosts[1].stats().drops;
    assert_eq!(drops.of(DropReason::BadIcmp), 2);
    assert!(transfer.pass() < SECOND, "the way is the same");
}
